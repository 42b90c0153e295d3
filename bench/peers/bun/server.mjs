/*
 * The webhook endpoint as a program of Bun: Bun.serve, Bun's own Redis client,
 * which pipelines (each command is a write, though), and the module's own script.
 */

import event from '../js/event.js';

const {
  Problem, answerOf, checkHeaders, readEvent, script, transitionArgs,
} = event;

const { BENCH_PORT, BENCH_REDIS } = process.env;

const MAX_BODY = 8 * 1024 * 1024;
const DIGEST_BYTES = 16;

const redis = new Bun.RedisClient(`redis+unix://${BENCH_REDIS}`);
let sha;

function digest(data) {
  return Bun.CryptoHasher.hash('sha1', data).toString('base64url', 0, DIGEST_BYTES);
}

async function load() {
  sha = await redis.send('SCRIPT', ['LOAD', script]);
}

async function evaluate(args) {
  try {
    return await redis.send('EVALSHA', [sha, '1', ...args]);
  } catch (error) {
    if (error.message?.startsWith('NOSCRIPT')) {
      await load();
      return redis.send('EVALSHA', [sha, '1', ...args]);
    }
    throw error;
  }
}

async function deliver(request) {
  const { headers } = request;

  checkHeaders(request.method, headers.get('content-type'), headers.get('content-encoding'));

  const text = await request.text();
  const args = transitionArgs(readEvent(text), text, text, headers.get('webhook-id'), digest);

  try {
    return answerOf(await evaluate(args));
  } catch (error) {
    console.error(error);
    throw new Problem(503, 'the event could not be stored');
  }
}

const JSON_ANSWER = { headers: { 'Content-Type': 'application/json' } };

async function handle(request) {
  try {
    return new Response(await deliver(request), JSON_ANSWER);
  } catch (problem) {
    return new Response(problem.body(), {
      status: problem.status, headers: problem.headers(),
    });
  }
}

await redis.connect();
await load();

Bun.serve({
  hostname: '127.0.0.1',
  port: Number(BENCH_PORT),
  idleTimeout: 255,
  maxRequestBodySize: MAX_BODY,
  routes: { '/vaani/webhook': handle },
  fetch: () => new Response('', { status: 404 }),
});
