// A page with the live calls and the latest ones that ended.
//
//     npm ci --prefix ../subscribers/node
//     node server.js
//
// REDIS_URL is the Redis, redis://127.0.0.1:6379 by default; HOST and PORT are
// where the server listens, 127.0.0.1 and 8090. The page shows phone numbers to
// everybody who can reach it: put an nginx with a password in front, see README.md.

'use strict';

const { readFileSync } = require('node:fs');
const http = require('node:http');
const path = require('node:path');
const { Calls, FINISHED, withoutIndex } = require('../subscribers/node');

const { HOST = '127.0.0.1', PORT = 8090, REDIS_URL } = process.env;
const ENDED = 100;              // calls that ended, at most
const LATEST = 200;             // calls of the index that are read to find them
const MAX_PAGES = 200;          // open at the same time
const MAX_BEHIND = 1 << 20;     // unread bytes at which a page is disconnected
const BEAT = 15_000;            // ms; lets both sides notice a dead connection, see board.js

// Members of a call in the page, and the fields of the hash that they come from.
const FIELDS = {
  room: 'room_name', status: 'status', outcome: 'outcome', number: 'phone_number', error: 'error',
  direction: 'direction', dispositions: 'dispositions',
  created: 'created_at', picked_up: 'at:user_picked_up_at', updated: 'updated_at', duration: 'call_duration_ms',
  talk_began: 'picked_up_at', talk_ended: 'call_ended_at',
  transfer: 'transfer_status', transfer_number: 'transfer_phone_number', transfer_reason: 'transfer_reason',
  initiated: 'transfers_initiated', successful: 'transfers_successful', failed: 'transfers_failed',
};

// ---- the calls, by the keys of their hashes --------------------------------

const board = new Map();
let connected = false;

const calls = new Calls(REDIS_URL);

// The hash has more than the message, and is at least as new.
async function show(key, { ended = false } = {}) {
  try {
    const values = await calls.redis.hmget(key, Object.values(FIELDS));
    if (values[0] === null) return remove(key);

    const call = { key };
    Object.keys(FIELDS).forEach((name, i) => { if (values[i] !== null) call[name] = values[i]; });
    call.ended = FINISHED.includes(call.status);
    if (ended && !call.ended) return;

    board.delete(key);    // the call that changed last is the last one of the map
    board.set(key, call);
    send('call', call);

    const over = [...board.values()].filter((other) => other.ended);
    over.slice(0, -ENDED).forEach((other) => remove(other.key));
  } catch (error) {
    console.error('Redis:', error.message);
  }
}

// The index also has the calls that ended while the server did not run.
async function showLatest() {
  try {
    const rooms = await calls.redis.zrange('vaani:calls', 0, LATEST - 1, 'REV');
    await Promise.all(rooms.reverse().map((room) => show(`vaani:call:${room}`, { ended: true })));
  } catch (error) {
    if (error.name !== 'ReplyError') console.error('Redis:', error.message);    // else 'unindexed' is emitted
  }
}

calls.on('call', (key) => show(key));
calls.on('gone', remove);
calls.on('unindexed', withoutIndex);

calls.on('following', () => {
  console.log('following vaani:events');
  send('connected', connected = true);
  showLatest();
});

calls.on('error', (error) => console.error('Redis:', error.message));
calls.subscriber.on('close', () => send('connected', connected = false));

function remove(key) {
  if (board.delete(key)) send('gone', key);
}

// ---- the pages -------------------------------------------------------------

const pages = new Set();

// A server-sent event. JSON.stringify() writes no line breaks.
function line(name, data) {
  return `event: ${name}\ndata: ${JSON.stringify({ now: Date.now(), data })}\n\n`;
}

function send(name, data) {
  const text = line(name, data);
  for (const page of pages) {
    if (page.writableLength > MAX_BEHIND) page.destroy();    // it connects again
    else page.write(text);
  }
}

setInterval(() => send('beat', null), BEAT);

const FILES = { '/': ['board.html', 'text/html'], '/board.css': ['board.css', 'text/css'], '/board.js': ['board.js', 'text/javascript'] };

for (const file of Object.values(FILES)) file.push(readFileSync(path.join(__dirname, file[0])));

const HEADERS = {
  'Content-Security-Policy': "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    + "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  'X-Content-Type-Options': 'nosniff',
  'Referrer-Policy': 'no-referrer',
  'Cache-Control': 'no-store',
};

function answer(response, status, type, body) {
  response.writeHead(status, { ...HEADERS, 'Content-Type': `${type}; charset=utf-8`, 'Content-Length': body.length });
  response.end(body);
}

const server = http.createServer((request, response) => {
  const [where] = request.url.split('?');

  if (request.method !== 'GET') return answer(response, 405, 'text/plain', 'only GET is allowed\n');
  if (FILES[where]) return answer(response, 200, FILES[where][1], FILES[where][2]);
  if (where !== '/events') return answer(response, 404, 'text/plain', 'not found\n');
  if (pages.size >= MAX_PAGES) return answer(response, 503, 'text/plain', 'too many pages\n');

  // nginx would keep events in its buffer until it is full.
  response.writeHead(200, { ...HEADERS, 'Content-Type': 'text/event-stream', 'X-Accel-Buffering': 'no' });
  response.write(`retry: 2000\n${line('all', { connected, calls: [...board.values()] })}`);
  pages.add(response);
  response.on('close', () => pages.delete(response));
});

server.listen(PORT, HOST, () => console.log(`http://${HOST}:${server.address().port}/`));
