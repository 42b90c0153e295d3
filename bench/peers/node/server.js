'use strict';

/*
 * The webhook endpoint as a program of Node.js: http, ioredis with automatic
 * pipelining, and the module's own script.
 */

const crypto = require('node:crypto');
const http = require('node:http');
const Redis = require('ioredis');

const {
  Problem, answerOf, checkHeaders, readEvent, script, transitionArgs,
} = require('../js/event.js');

const { BENCH_PORT, BENCH_REDIS } = process.env;

const MAX_BODY = 8 * 1024 * 1024;
const DIGEST_BYTES = 16;

const redis = new Redis({ path: BENCH_REDIS, enableAutoPipelining: true });
let sha;

function digest(data) {
  return crypto.createHash('sha1').update(data).digest()
    .toString('base64url', 0, DIGEST_BYTES);
}

async function evaluate(args) {
  try {
    return await redis.evalsha(sha, 1, args);
  } catch (error) {
    if (error.message?.startsWith('NOSCRIPT')) {
      sha = await redis.script('LOAD', script);
      return redis.evalsha(sha, 1, args);
    }
    throw error;
  }
}

async function deliver(request, bytes) {
  const text = bytes.toString('utf8');
  const event = readEvent(text);
  const args = transitionArgs(event, text, bytes, request.headers['webhook-id'], digest);

  try {
    return answerOf(await evaluate(args));
  } catch (error) {
    console.error(error);
    throw new Problem(503, 'the event could not be stored');
  }
}

function answer(response, status, headers, text) {
  response.writeHead(status, { ...headers, 'Content-Length': Buffer.byteLength(text) });
  response.end(text);
}

function answerProblem(response, problem) {
  answer(response, problem.status, problem.headers(), problem.body());
}

const server = http.createServer((request, response) => {
  const { method, headers } = request;

  try {
    checkHeaders(method, headers['content-type'], headers['content-encoding']);

    if (Number(headers['content-length']) > MAX_BODY) {
      throw new Problem(413, 'the body is too large');
    }
  } catch (problem) {
    request.resume();
    answerProblem(response, problem);
    return;
  }

  const chunks = [];

  request.on('data', (chunk) => chunks.push(chunk));
  request.on('end', () => {
    deliver(request, chunks.length === 1 ? chunks[0] : Buffer.concat(chunks))
      .then((text) => answer(response, 200, { 'Content-Type': 'application/json' }, text))
      .catch((problem) => answerProblem(response, problem));
  });
});

server.keepAliveTimeout = 600_000;

redis.script('LOAD', script).then((loaded) => {
  sha = loaded;
  server.listen(Number(BENCH_PORT), '127.0.0.1');
});
