'use strict';

/*
 * The webhook endpoint as a program of Node.js: http, ioredis with automatic
 * pipelining, and the module's own script.  Reads the table of events of
 * ../events.json.
 *
 * JSON.parse() takes a key that occurs twice; looking for that is left out.
 */

const { isUtf8 } = require('node:buffer');
const crypto = require('node:crypto');
const fs = require('node:fs');
const http = require('node:http');
const Redis = require('ioredis');

const { BENCH_TABLE, BENCH_PORT, BENCH_REDIS, BENCH_SCRIPT } = process.env;

const TTL = String(7 * 24 * 3600 * 1000);
const TITLES = {
  400: 'Bad Request',
  405: 'Method Not Allowed',
  413: 'Payload Too Large',
  415: 'Unsupported Media Type',
  422: 'Unprocessable Content',
  503: 'Service Unavailable',
};
const MAX_BODY = 8 * 1024 * 1024;

const table = JSON.parse(fs.readFileSync(BENCH_TABLE, 'utf8'));
const script = fs.readFileSync(BENCH_SCRIPT, 'utf8');
const events = new Map(Object.entries(table.events));
const rankOf = (names) => new Map(names.map((name, n) => [name, n + 1]));
const statusRank = rankOf(table.statuses);
const outcomeRank = rankOf(table.outcomes);

const since = Date.now();
const redis = new Redis({ path: BENCH_REDIS, enableAutoPipelining: true });
let sha;
let count = crypto.randomInt(2 ** 40);

class Problem extends Error {
  constructor(status, detail, field) {
    super(detail);
    Object.assign(this, { status, field });
  }
}

function isJson(header) {
  const [type, ...parameters] = header.toLowerCase().split(';');

  if (!/^application\/(?:[^/]+\+)?json$/.test(type.trim())) return false;

  return parameters.every((parameter) => {
    const [, charset] = /^\s*charset="?([^"\s]*)/.exec(parameter) ?? [];
    return charset === undefined || charset === 'utf-8';
  });
}

function digest(bytes) {
  return crypto.createHash('sha1').update(bytes).digest()
    .toString('base64url', 0, 16);
}

function nonce() {
  const bytes = Buffer.alloc(6);
  bytes.writeUIntLE(count++, 0, 6);
  return bytes.toString('base64url');
}

function digit(number) {
  return String.fromCharCode(48 + number);
}

function milliseconds(value, factor) {
  if (typeof value !== 'number' || !(value >= 0 && value < Infinity)) return null;
  return Math.min(Math.round(value * factor), Number.MAX_SAFE_INTEGER);
}

// What goes to the hash, and the status and the duration of the event.
function readFields(row, body) {
  const pairs = [];
  let { status, outbound } = row;
  let duration;

  for (const field of row.fields) {
    const value = body[field.name];
    const wrong = () => new Problem(422, `${field.name} is wrong`, field.name);

    if (value === undefined || value === null) {
      if (field.required) throw wrong();
      continue;
    }

    switch (field.type) {
      case 'seconds':
      case 'milliseconds':
        duration = milliseconds(value, field.type === 'seconds' ? 1000 : 1);
        if (duration === null) throw wrong();
        break;

      case 'object':
        if (typeof value !== 'object' || Array.isArray(value)) throw wrong();
        pairs.push(field.field, JSON.stringify(value));
        break;

      case 'const_status':
        if (value !== row.status) throw wrong();
        break;

      case 'status':
        if (typeof value !== 'string') throw wrong();
        if (value !== '') {
          status = value;
          outbound ||= value === 'dialing';
        }
        break;

      default:
        if (typeof value !== 'string') throw wrong();
        pairs.push(field.field, value);
    }
  }

  if (outbound) pairs.push('direction', 'outbound');
  if (row.postprocessed) pairs.push('postprocessed', '1');

  return { pairs, status, duration };
}

function transitionArgs(request, bytes) {
  const text = bytes.toString('utf8');
  let body;

  try {
    if (!isUtf8(bytes)) throw new Error();
    body = JSON.parse(text);
  } catch {
    throw new Problem(400, 'the body must be JSON');
  }

  if (typeof body !== 'object' || body === null || Array.isArray(body)) {
    throw new Problem(422, 'the body must be a JSON object', '');
  }

  const { event, room_name: room } = body;

  if (typeof event !== 'string') {
    throw new Problem(422, 'event must be a string', 'event');
  }

  if (typeof room !== 'string' || room === '' || Buffer.byteLength(room) > 256
      // eslint-disable-next-line no-control-regex
      || /[\u0000-\u001f\u007f-\u009f]/.test(room)) {
    throw new Problem(422, 'room_name is wrong', 'room_name');
  }

  const key = `vaani:call:${room}`;
  const receivedAt = Date.now();

  const args = [
    '0', event, receivedAt, TTL,
    `"event":${JSON.stringify(event)},"room_name":${JSON.stringify(room)},`,
    `"received_at":${receivedAt},"key":${JSON.stringify(key)},"payload":`,
    text,
  ];

  const row = events.get(event);

  if (row) {
    const { pairs, status, duration } = readFields(row, body);
    const id = request.headers['webhook-id'];
    const { outcome } = row;
    const length = Buffer.byteLength(room);

    args[0] = [
      digit(row.position), digit(statusRank.get(status) ?? 1),
      digit(outcomeRank.get(outcome) ?? 0), row.transfer?.[0] ?? '0',
      digit(id ? 1 : 0), digit(duration === undefined ? 0 : 1),
      digit(pairs.length / 2), digit(receivedAt < since ? 1 : 0),
      digit(length >> 6), digit(length & 63),
    ].join('');

    args.push(status, since, digest(bytes), id ? digest(id) : nonce());

    if (outcome) args.push(outcome);
    if (duration !== undefined) args.push(duration);

    args.push(...pairs);
  }

  args.push('vaani:events', `vaani:room:${room}`);

  return [key, ...args];
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
  let reply;
  const args = transitionArgs(request, bytes);

  try {
    reply = await evaluate(args);
  } catch (error) {
    console.error(error);
    throw new Problem(503, 'the event could not be stored');
  }

  return reply === 0 ? '{"status":"duplicate"}' : '{"status":"ok"}';
}

function answer(response, status, type, text, headers) {
  response.writeHead(status, {
    'Content-Type': type,
    'Content-Length': Buffer.byteLength(text),
    ...headers,
  });
  response.end(text);
}

function answerProblem(response, problem) {
  const { status, message, field } = problem;

  answer(response, status, 'application/problem+json', JSON.stringify({
    type: 'about:blank',
    title: TITLES[status],
    status,
    detail: message,
    field: field && `/${field}`,
  }), status === 405 ? { Allow: 'POST' } : status === 503 ? { 'Retry-After': 1 } : {});
}

function checkHeaders({ method, headers }) {
  if (method !== 'POST') throw new Problem(405, 'the method must be POST');

  const type = headers['content-type'];
  const encoding = headers['content-encoding'];

  if ((type !== undefined && !isJson(type))
      || (encoding && encoding.toLowerCase() !== 'identity')) {
    throw new Problem(415, 'the media type must be application/json');
  }

  if (Number(headers['content-length']) > MAX_BODY) {
    throw new Problem(413, 'the body is too large');
  }
}

const server = http.createServer((request, response) => {
  try {
    checkHeaders(request);
  } catch (problem) {
    request.resume();
    answerProblem(response, problem);
    return;
  }

  const chunks = [];

  request.on('data', (chunk) => chunks.push(chunk));
  request.on('end', () => {
    deliver(request, chunks.length === 1 ? chunks[0] : Buffer.concat(chunks))
      .then((text) => answer(response, 200, 'application/json', text))
      .catch((problem) => answerProblem(response, problem));
  });
});

server.keepAliveTimeout = 600_000;

redis.script('LOAD', script).then((loaded) => {
  sha = loaded;
  server.listen(Number(BENCH_PORT), '127.0.0.1');
});
