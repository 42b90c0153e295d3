// Follows the calls of a Redis Cluster by its sharded channels.
//
//     npm ci
//     node sharded.js
//
// REDIS_URL is any node of the cluster, redis://127.0.0.1:6379 by default; PARTITIONS
// is the number of "vaani_partitions", 256; LOOK is the time between two checks of the
// calls, 30 s. nginx publishes:
//
//     vaani_partitions 256;
//     vaani_prefix     "vaani:{$vaani_partition}";
//     vaani_channel    "vaani:{$vaani_partition}:events" sharded;
//     vaani_index      on;

'use strict';

const Redis = require('ioredis');
const { pages, withoutIndex } = require('./subscriber.js');

const PARTITIONS = Number(process.env.PARTITIONS ?? 256);
const LOOK = 1000 * Number(process.env.LOOK ?? 30);
const RETRY = 1000;     // ms until the next attempt to connect
const FINISHED = ['rejected', 'no_answer', 'failed', 'ended'];

const url = process.env.REDIS_URL ?? 'redis://127.0.0.1:6379';
const { username, password } = new URL(url);

// One connection to each node for the channels of its slots, another one for
// commands.
const cluster = new Redis.Cluster([url], {
  shardedSubscribers: true,
  slotsRefreshInterval: 2000,    // ms; the channels move with their slot
  clusterRetryStrategy: () => RETRY,
  redisOptions: {                // of all nodes
    username: decodeURIComponent(username),
    password: decodeURIComponent(password),
    disableClientInfo: true,
  },
});

const calls = new Map();         // the active ones, and the latest: key => { seq, over }
let last = Promise.resolve();
let indexed = null;              // whether there is an index; not known yet
let willReadAll = false;

// One after the other: a message must not overtake the reading of a hash.
function queue(work) {
  last = last.then(work).catch((error) => console.error('not understood:', error.message));
}

// Put your own work here.
function changed({ room_name, status, seq }, why) {
  console.log(room_name, status, `seq ${seq}:`, why);
}

function keep(key, call, why, over) {
  calls.set(key, { seq: call.seq, over });
  changed(call, why);
}

// The next message of a call has the next seq. One that was read already has nothing
// new. Any other seq means that a message was missed: read the hash.
async function take({ key, room_name, status, seq, event, known = true }) {
  if (!known || typeof key !== 'string') return;

  const known_seq = calls.get(key)?.seq ?? 0;

  if (seq === known_seq + 1) keep(key, { room_name, status, seq }, event, event === 'call_postprocessing');
  else if (seq > known_seq) await read(key);

  if (indexed === null) await lookForIndex(key);
}

// Once, after the first transition: if nginx keeps an index, it has entered the call
// there before it published.
async function lookForIndex(key) {
  const all = `${key.slice(0, key.indexOf(':call:'))}:calls`;
  await index(async () => {
    if ((await cluster.zrange(all, 0, 0)).length) indexed = true;
    else unindexed(`${all} is empty`);
  });
}

// Reports it if the ACL forbids the index.
async function index(work) {
  try {
    await work();
  } catch (error) {
    if (error.name !== 'ReplyError') throw error;    // of the connection
    unindexed(error.message);
  }
}

function unindexed(why) {
  if (indexed !== false) withoutIndex(why);
  indexed = false;
}

async function read(key, { active = false } = {}) {
  const [room_name, status, seq, event, over] =
    await cluster.hmget(key, 'room_name', 'status', 'seq', 'last_event', 'postprocessed');

  if (active && FINISHED.includes(status)) return;    // it has ended since the index was read

  if (seq !== null && Number(seq) !== calls.get(key)?.seq) {
    keep(key, { room_name, status, seq: Number(seq) }, `${event}, read again`, over);
  } else if (seq === null || FINISHED.includes(status)) {    // expired, or no more events
    calls.delete(key);
  }
}

// A missed last message leaves no gap. A call that is over is forgotten one check later,
// since messages may still arrive. Each partition has an index with the calls that began
// before this program did. Requests before it begins share one run.
function readAll() {
  if (willReadAll) return;
  willReadAll = true;
  queue(() => { willReadAll = false; });

  for (const [key, { over }] of calls) {
    if (over) calls.delete(key);
    else queue(() => read(key));
  }
  for (let partition = 0; partition < PARTITIONS; partition++) {
    queue(() => index(() => readActive(`vaani:{${partition}}`)));
  }
}

async function readActive(prefix) {
  for await (const rooms of pages(cluster, `${prefix}:active`)) {
    const keys = rooms.map((room) => `${prefix}:call:${room}`).filter((key) => !calls.has(key));
    for (const key of keys) await read(key, { active: true });
  }
}

async function follow() {
  for (let partition = 0; partition < PARTITIONS; partition++) {
    await cluster.ssubscribe(`vaani:{${partition}}:events`);
  }
  console.log('following', PARTITIONS, 'channels');
  readAll();
  setInterval(readAll, LOOK);
}

cluster.on('smessage', (channel, text) => queue(() => take(JSON.parse(text))));
cluster.on('subscribersReady', readAll);    // slots have moved, or a node is new
cluster.on('error', (error) => console.error('Redis:', error.message));
cluster.once('ready', () => follow().catch((error) => { console.error('Redis:', error.message); process.exit(1); }));
