// Forwards each message of a Redis Stream to an HTTP endpoint, at least once.
//
//     npm ci --prefix ../subscribers/node
//     ENDPOINT=https://crm.example.com/calls SECRET_FILE=onward.secret node onward.js [NAME]
//
// The messages are POSTed unchanged, signed as in Standard Webhooks, and retried until
// the endpoint answers 2xx. Several instances with different names share the work; NAME
// is the host name by default. SIGTERM and Ctrl-C end it after the open requests.
//
//     ENDPOINT     the URL, https:// or http://
//     SECRET_FILE  the secret, whsec_…; with several lines, each request has one
//                  signature per line. Lines that begin with # are comments
//     REDIS_URL    the Redis, redis://127.0.0.1:6379 by default
//     STREAM       the stream, vaani:stream
//     GROUP        its consumer group, onward
//     PARALLEL     requests at the same time, 8
//     TIMEOUT      seconds for a request, 15
//     TRIES        tries before a message is moved to the stream "STREAM:dead", 100
//     LONGEST      the longest time between two tries of a message, seconds, 900
//     HOLD         seconds for which a message that fails delays the later ones of
//                  its call, 300
//     CLAIM        seconds after which other instances take over the messages of a
//                  dead instance, 60
//
// nginx fills the stream: "vaani_stream vaani:stream maxlen=100000;". onward.py is the
// same in Python.

'use strict';

const crypto = require('node:crypto');
const fs = require('node:fs');
const http = require('node:http');
const https = require('node:https');
const { createRequire } = require('node:module');
const os = require('node:os');
const { setTimeout: sleep } = require('node:timers/promises');

// The subscribers have it installed.
const Redis = createRequire(require.resolve('../subscribers/node'))('ioredis');

const MANY = 10_000;         // messages held at most: failing ones, and those delayed by them
const DEAD_MANY = 10_000;    // dead letters kept, approximately
const ANSWER = 65_536;       // bytes of an answer that are read
const PAGE = 16;             // messages that are read at once
const FIRST = 1;             // seconds until the second try; twice as long for each one after it
const RETRY = [1, 30];       // seconds until the next attempt to reach Redis: the first, the longest

const say = (...words) => console.error(...words);

function fail(text) {
  say('onward:', text);
  process.exit(2);
}

function number(name, byDefault) {
  const text = process.env[name] ?? String(byDefault);
  const value = text.trim() === '' ? NaN : Number(text);
  if (!(value > 0 && value < 1e9)) fail(`${name} must be a number greater than 0`);
  return value;
}

function urlOf(name, text, protocols) {
  let url = null;
  try { url = new URL(text); } catch { /* it is none */ }
  if (!protocols.includes(url?.protocol)) fail(`${name} must be a URL that begins with ${protocols.join('// or ')}//`);
  return url;
}

// Never print the path: it may contain a token.
function endpoint() {
  const url = urlOf('ENDPOINT', process.env.ENDPOINT, ['https:', 'http:']);
  if (url.username || url.password || url.hash) {
    fail('ENDPOINT must have no user and no fragment; the signature shows who sends');
  }
  return url;
}

function secrets() {
  const path = process.env.SECRET_FILE;
  if (!path) fail('SECRET_FILE must name a file with the secret, whsec_…');

  let text;
  try { text = fs.readFileSync(path, 'utf8'); } catch (error) { fail(`SECRET_FILE cannot be read: ${error.code}`); }

  const keys = [];
  text.replace(/^\ufeff/, '').split('\n').forEach((line, i) => {
    line = line.trim();
    if (!line || line.startsWith('#')) return;
    if (!/^whsec_[A-Za-z0-9+/]+={0,2}$/.test(line) || line.slice(6).replace(/=/g, '').length % 4 === 1) fail(`SECRET_FILE, line ${i + 1}: expected whsec_ and base64`);

    const key = Buffer.from(line.slice(6), 'base64');
    if (key.length < 16) fail(`SECRET_FILE, line ${i + 1}: the secret must have 16 bytes or more`);
    keys.push(key);
  });
  if (!keys.length) fail('SECRET_FILE has no secret');
  return keys;
}

const { STREAM = 'vaani:stream', GROUP = 'onward', REDIS_URL = 'redis://127.0.0.1:6379' } = process.env;
const DEAD = `${STREAM}:dead`;
const NAME = process.argv[2] ?? os.hostname();
const PARALLEL = Math.ceil(number('PARALLEL', 8));
const TRIES = number('TRIES', 100);
const [TIMEOUT, LONGEST, HOLD, CLAIM] = [['TIMEOUT', 15], ['LONGEST', 900], ['HOLD', 300], ['CLAIM', 60]]
  .map(([name, value]) => number(name, value));
const ENDPOINT = endpoint();
const SECRETS = secrets();
urlOf('REDIS_URL', REDIS_URL, ['redis:', 'rediss:']);

const now = () => performance.now() / 1000;
const between = (from, to) => from + Math.random() * (to - from);

let stopped = false;

// ---- messages --------------------------------------------------------------

// A message of the stream: being sent, waiting, or delayed by an earlier one of its
// call. Only the next one to send has its text in memory.
function newEntry(id, text, tries) {
  return { id, order: id.split('-').map(Number), tries, text, at: 0, failing: null, ...identify(id, text) };
}

// The call of a message, and its id, which is the same in each delivery, also to the
// endpoint. Messages without a call have no order.
function identify(id, text) {
  let message;
  try { message = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(text)); } catch { /* none of nginx's */ }
  if (typeof message !== 'object' || message === null || Array.isArray(message)) return { call: id, name: null };

  let name = typeof message.id === 'string' && message.id ? message.id : id;
  if (!/^[!-~]{1,200}$/.test(name)) {    // as a header it must be plain
    name = `sha256-${crypto.createHash('sha256').update(name).digest('hex')}`;
  }
  return { call: typeof message.key === 'string' ? message.key : id, name };
}

const textOf = (fields) => {
  const at = fields.findIndex((field, i) => i % 2 === 0 && String(field) === 'message');
  return at < 0 ? Buffer.alloc(0) : fields[at + 1];
};

// Chooses the next message to send: those of a call one after another, calls in
// parallel. A message that has failed for HOLD seconds delays no other one.
class Schedule {
  constructor(work) {
    this.work = work;
    this.entries = new Map();    // by id
    this.calls = new Map();      // of each call, in the order of the stream
    this.busy = new Set();       // calls with a message being sent
    this.ready = new Set();      // calls of which one may be sent
    this.timers = new Map();     // of the other ones
    this.inFlight = new Set();
    this.changed = () => {};
  }

  nextOf(call) {
    let found = null;
    let held = 0;
    for (const entry of this.calls.get(call)) {
      const at = Math.max(entry.at, held);
      if (found === null || at < found.at) found = { at, entry };
      held = Math.max(held, entry.failing === null ? Infinity : entry.failing + HOLD);
      if (held >= found.at) break;
    }
    return found;
  }

  plan(call) {
    clearTimeout(this.timers.get(call));
    this.timers.delete(call);
    this.ready.delete(call);

    if (this.calls.has(call) && !this.busy.has(call)) {
      const left = this.nextOf(call).at - now();
      if (left <= 0) this.ready.add(call);
      else this.timers.set(call, setTimeout(() => this.plan(call), Math.min(1000 * left + 1, 2 ** 31 - 1)));
    }
    this.send();
  }

  send() {
    for (const call of this.ready) {
      if (stopped || this.busy.size >= PARALLEL) break;
      this.ready.delete(call);
      this.busy.add(call);
      const sent = this.work(this.nextOf(call).entry).finally(() => this.inFlight.delete(sent));
      this.inFlight.add(sent);
    }
    this.changed();
  }

  add(entry) {
    if (this.entries.has(entry.id)) return;

    const call = this.calls.get(entry.call) ?? [];
    if (call.length) entry.text = null;
    const before = (a, b) => a.order[0] - b.order[0] || a.order[1] - b.order[1];
    let at = call.length;
    while (at > 0 && before(entry, call[at - 1]) < 0) at--;
    call.splice(at, 0, entry);
    this.calls.set(entry.call, call);
    this.entries.set(entry.id, entry);
    this.plan(entry.call);
  }

  again(entry, seconds, failed = true) {
    entry.text = null;
    entry.at = now() + seconds;
    if (failed) entry.failing ??= now();
    this.busy.delete(entry.call);
    this.plan(entry.call);
  }

  done(entry) {
    this.busy.delete(entry.call);
    this.remove(entry);
  }

  remove(entry) {
    if (!this.entries.delete(entry.id)) return;
    const call = this.calls.get(entry.call).filter((other) => other !== entry);
    if (call.length) this.calls.set(entry.call, call);
    else this.calls.delete(entry.call);
    this.plan(entry.call);
  }

  // Drops entries that are not being sent. Returns the ids of those it had.
  drop(ids) {
    const dropped = ids.map((id) => this.entries.get(id)).filter((entry) => entry && !this.busy.has(entry.call));
    dropped.forEach((entry) => this.remove(entry));
    return dropped.map((entry) => entry.id);
  }

  // The number of messages that may be read now. Those that wait for their next try, or
  // for an earlier one of their call, do not count up to the limit MANY.
  room() {
    return Math.min(PAGE, 2 * PARALLEL - this.busy.size - this.ready.size, MANY - this.entries.size);
  }
}

// ---- the endpoint ----------------------------------------------------------

const client = ENDPOINT.protocol === 'https:' ? https : http;
const agent = new client.Agent({
  keepAlive: true,
  maxSockets: PARALLEL,

  // If the first address is dead, there must be time for the next. Node 18 tries only one.
  autoSelectFamily: true,
  autoSelectFamilyAttemptTimeout: Math.max(10, Math.ceil(1000 * TIMEOUT / 3)),
});

// { status, after }. A redirection is an answer like any other.
async function post(name, text) {
  const deadline = now() + TIMEOUT;
  for (;;) {
    try {
      return await exchange(name, text, deadline);
    } catch (error) {
      // The endpoint closed the connection between two requests.
      if (!error.reused || now() >= deadline) throw error;
    }
  }
}

function exchange(name, text, deadline) {
  return new Promise((resolve, reject) => {
    let answer = null;
    const request = client.request(ENDPOINT, { method: 'POST', agent, headers: headers(name, text), rejectUnauthorized: true });
    const late = new Error('timed out');
    const timer = setTimeout(() => request.destroy(late), Math.max(1, 1000 * (deadline - now())));
    const end = (error) => {
      clearTimeout(timer);
      if (answer) return resolve(answer);    // the status is known, and nothing else is needed
      error.reused = request.reusedSocket && error !== late;
      reject(error);
    };

    request.on('error', end);
    request.on('close', () => end(new Error('the connection was closed')));
    request.on('response', (response) => {
      let length = 0;
      answer = { status: response.statusCode, after: response.headers['retry-after'] };
      response.on('data', (part) => { if ((length += part.length) > ANSWER) request.destroy(); });
      response.on('error', end);
      response.on('close', end);
    });
    request.end(text);
  });
}

// Of Standard Webhooks: the id is the same for each try, the time is not.
function headers(name, text) {
  const time = Math.floor(Date.now() / 1000);
  const sign = (key) => crypto.createHmac('sha256', key).update(`${name}.${time}.`).update(text).digest('base64');
  return {
    'Content-Type': 'application/json',
    'Content-Length': text.length,
    'User-Agent': 'vaani-onward',
    'webhook-id': name,
    'webhook-timestamp': time,
    'webhook-signature': SECRETS.map((key) => `v1,${sign(key)}`).join(' '),
  };
}

// Without text that the peer may have sent.
const reason = (error) => error.code ?? (['timed out', 'the connection was closed'].includes(error.message) ? error.message : error.name);

// Seconds until the next try; longer if the endpoint asks for it.
function delay(tries, after) {
  const seconds = Math.min(LONGEST, FIRST * 2 ** Math.min(tries - 1, 30)) * between(0.75, 1.25);
  const asked = after === undefined ? 0
    : /^[0-9]{1,9}$/.test(after) ? Number(after)
    : (Date.parse(after) - Date.now()) / 1000 || 0;
  return Math.max(seconds, Math.min(asked, LONGEST));
}

// ---- the stream ------------------------------------------------------------

// At most one line per second: all messages fail while the endpoint is down.
let said = -Infinity;
let unsaid = 0;

function failed(line) {
  if (now() < said + 1) { unsaid++; return; }
  say(line + (unsaid ? ` (${unsaid} more failures before)` : ''));
  unsaid = 0;
  said = now();
}

const OPTIONS = {
  // Commands wait for Redis without a limit.
  maxRetriesPerRequest: null,
  retryStrategy: (times) => 1000 * Math.min(RETRY[1], RETRY[0] * 2 ** (times - 1)) * between(0.75, 1.25),

  // A connection can be dead without being closed: a command's answer is late.
  socketTimeout: 15_000,

  // A Redis that is loading its data, or is no longer the master: connect and ask again.
  // ioredis sends the command again and does not report the error.
  reconnectOnError: (error) => {
    if (!/^(?:LOADING|READONLY)/.test(error.message)) return false;
    failed(`Redis: ${error.message}`);
    return 2;
  },

  // INFO and CLIENT, which the user need not be allowed.
  enableReadyCheck: false,
  disableClientInfo: true,
};

// One connection waits for messages; the other one is for all other commands.
function connect() {
  return new Redis(REDIS_URL, OPTIONS).on('error', (error) => failed(`Redis: ${error.code ?? error.message}`));
}

const [reader, redis] = [connect(), connect()];
const run = (...command) => redis.callBuffer(...command);    // the body is not changed
const strings = (list) => (list ?? []).map(String);

const schedule = new Schedule(async (entry) => {
  try {
    await forward(entry);
  } catch (error) {
    failed(`${entry.id} waits: ${error.name === 'ReplyError' ? `Redis: ${error.message}` : reason(error)}`);
    schedule.again(entry, between(1, 5), false);
  }
});

// Returns when the program is stopped.
async function follow() {
  let ready = false;
  let pause = RETRY[0];
  while (!stopped) {
    try {
      await create();
      await look();    // first its unfinished messages
      let lookAt = now() + CLAIM / 3;
      if (!ready) console.log(`forwarding ${STREAM} to ${ENDPOINT.protocol}//${ENDPOINT.hostname}`);
      ready = true;
      pause = RETRY[0];

      while (!stopped) {
        if (now() >= lookAt) {
          await look();
          lookAt = now() + CLAIM / 3;
        }
        const room = schedule.room();
        if (room > 0) await read(room);
        else await Promise.race([sleep(200), new Promise((resolve) => { schedule.changed = resolve; })]);
      }
    } catch (error) {
      say(`Redis: ${error.message}`);
      if (error.message.startsWith('NOGROUP')) continue;    // Redis has lost it: create it again
      await sleep(1000 * pause * between(0.75, 1.25));
      pause = Math.min(2 * pause, RETRY[1]);
    }
  }
}

async function create() {
  try {
    // From the beginning of the stream; "$" would leave out what is there.
    await run('XGROUP', 'CREATE', STREAM, GROUP, '0', 'MKSTREAM');
  } catch (error) {
    if (!error.message.startsWith('BUSYGROUP')) throw error;    // it exists
  }
}

async function read(count) {
  const reply = await reader.callBuffer('XREADGROUP', 'GROUP', GROUP, NAME, 'COUNT', count, 'BLOCK', 500, 'STREAMS', STREAM, '>');
  for (const [id, fields] of reply?.[0][1] ?? []) schedule.add(newEntry(String(id), textOf(fields), 0));
}

// Takes over messages of dead instances, and its own pending messages that it does not
// know, since it was killed or a reply was lost. Renews its claim on the messages that it
// holds, so that other instances do not take them over.
async function look() {
  let cursor = '0-0';
  let room = MANY - schedule.entries.size;
  while (room > 0 && !stopped) {
    const [next, claimed, gone] =
      await run('XAUTOCLAIM', STREAM, GROUP, NAME, Math.floor(1000 * CLAIM), cursor, 'COUNT', 100, 'JUSTID');
    for (const id of strings(gone)) {    // since Redis 7, which has settled them
      schedule.drop([id]);
      lost(id);
    }
    room -= claimed.length;
    cursor = String(next);
    if (cursor === '0-0') break;
  }

  const mine = new Map();
  for (let start = '-'; ;) {
    const page = await run('XPENDING', STREAM, GROUP, start, '+', 1000, NAME);
    for (const [id, , , tries] of page) mine.set(String(id), Number(tries));
    if (page.length < 1000) break;
    start = `(${page.at(-1)[0]}`;
  }

  const known = new Set(schedule.entries.keys());
  schedule.drop([...known].filter((id) => !mine.has(id)));    // another instance has it
  for (const ids of pages([...mine.keys()].filter((id) => known.has(id)), 500)) {
    const kept = new Set(strings(await run('XCLAIM', STREAM, GROUP, NAME, 0, ...ids, 'JUSTID')));
    for (const id of schedule.drop(ids.filter((id) => !kept.has(id)))) {
      if (!(await run('XRANGE', STREAM, id, id)).length) lost(id);
    }
  }

  for (const ids of pages([...mine.keys()].filter((id) => !known.has(id)), PAGE)) {
    if (stopped || schedule.entries.size >= MANY) return;
    const replies = await Promise.all(ids.map((id) => run('XRANGE', STREAM, id, id)));
    for (const [i, id] of ids.entries()) {
      if (replies[i].length) {
        const entry = newEntry(id, textOf(replies[i][0][1]), mine.get(id));
        entry.text = null;    // it is read again, and claimed, when it is sent
        schedule.add(entry);
      } else {
        await run('XACK', STREAM, GROUP, id);
        lost(id);
      }
    }
  }
}

// The stream is trimmed at maxlen: choose it for the longest time that no instance runs.
function lost(id) {
  say(id, 'left the stream before it was forwarded');
}

async function forward(entry) {
  let text = entry.text;
  if (text === null) {
    // Redis counts the tries, so they survive this program.
    const claimed = await run('XCLAIM', STREAM, GROUP, NAME, 0, entry.id, 'RETRYCOUNT', entry.tries + 1, 'JUSTID');
    const found = await run('XRANGE', STREAM, entry.id, entry.id);
    if (!found.length) {
      await run('XACK', STREAM, GROUP, entry.id);
      lost(entry.id);
    }
    if (!found.length || !claimed.length) return schedule.done(entry);    // another instance has settled it
    text = textOf(found[0][1]);
  }
  entry.tries++;

  if (entry.name === null) return bury(entry, text, 'it is no message');

  let why;
  let after;
  try {
    const answer = await post(entry.name, text);
    if (answer.status >= 200 && answer.status < 300) {
      await untilDone('XACK', STREAM, GROUP, entry.id);
      return schedule.done(entry);
    }
    why = `answered ${answer.status}`;
    ({ after } = answer);
  } catch (error) {
    if (error.name === 'ReplyError') throw error;
    why = reason(error);
  }

  if (entry.tries >= TRIES) return bury(entry, text, why);
  const seconds = delay(entry.tries, after);
  schedule.again(entry, seconds);
  failed(`${entry.id} failed, try ${entry.tries}: ${why}; again in ${seconds.toFixed()} s`);
}

// Retries XACK: a message that the endpoint has accepted should not be sent again because
// Redis refused a command for a moment.
async function untilDone(...command) {
  const until = now() + CLAIM;
  for (;;) {
    try {
      return await run(...command);
    } catch (error) {
      if (now() > until || stopped || /^(?:NOPERM|WRONGTYPE)/.test(error.message)) throw error;
      failed(`Redis: ${error.message}`);
      await sleep(1000 * RETRY[0]);
    }
  }
}

// Moves it to the dead letters. In this order, and in no MULTI: that would acknowledge it
// also if XADD fails.
async function bury(entry, text, why) {
  try {
    await untilDone('XADD', DEAD, 'MAXLEN', '~', DEAD_MANY, '*',
      'message', text, 'id', entry.id, 'group', GROUP, 'tries', entry.tries, 'why', why);
  } catch (error) {
    say(entry.id, `cannot be moved to ${DEAD}: ${error.message}`);
    return schedule.again(entry, LONGEST);
  }
  await untilDone('XACK', STREAM, GROUP, entry.id);
  schedule.done(entry);
  say(entry.id, `was moved to ${DEAD} after ${entry.tries} tries: ${why}`);
}

function* pages(ids, size) {
  for (let n = 0; n < ids.length; n += size) yield ids.slice(n, n + size);
}

// ---- the program -----------------------------------------------------------

// Removes the name if nothing is pending; otherwise each new host would leave one. No
// other instance can give this one messages meanwhile.
async function leave() {
  try {
    if (!(await run('XPENDING', STREAM, GROUP, '-', '+', 1, NAME)).length) await run('XGROUP', 'DELCONSUMER', STREAM, GROUP, NAME);
  } catch { /* the name stays */ }
}

const following = follow();

async function stop() {
  stopped = true;
  await Promise.race([Promise.all(schedule.inFlight), sleep(1000 * (TIMEOUT + 5))]);
  await Promise.race([following.then(leave), sleep(5000)]);    // Redis may be unreachable
  process.exit(0);
}

// The second signal ends it at once.
for (const signal of ['SIGTERM', 'SIGINT']) process.once(signal, stop);
