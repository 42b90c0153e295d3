// Follows the calls that nginx publishes in Redis, and keeps their state.
//
//     npm ci
//     node subscriber.js
//
// REDIS_URL is the Redis, redis://127.0.0.1:6379 by default; LOOK is the time
// between two checks of the connection and the calls, 30 s. In your own program:
// const { Calls } = require('./subscriber.js').

'use strict';

const { EventEmitter } = require('node:events');
const Redis = require('ioredis');

const CHANNEL = 'vaani:events';
const CALL = 'vaani:call:';       // and the room: the hash of a call
const ACTIVE = 'vaani:active';    // rooms of the active calls, and of all: "vaani_index on;"
const ALL = 'vaani:calls';
const PAGE = 500;                 // rooms at once
const LOOK = 30_000;    // ms between two checks of the connection and the calls
const RETRY = 1000;     // ms until the next attempt to connect
const FINISHED = ['rejected', 'no_answer', 'failed', 'ended'];

// The interesting fields of a call that is over. The hash has one form. The payload
// of a message has the form in which Vaani sent it, or is null with "vaani_payload".
const DETAILS = ['room_name', 'direction', 'outcome', 'call_duration_ms', 'dispositions', 'transcript'];

const OPTIONS = {
  // While Redis is unreachable, wait for it without a limit.
  maxRetriesPerRequest: null,
  retryStrategy: () => RETRY,

  // A connection can be dead without being closed: a command's answer is late.
  socketTimeout: 10_000,

  // INFO and CLIENT, which a subscriber's user need not be allowed.
  enableReadyCheck: false,
  disableClientInfo: true,
};

// A Redis that has just started loads its data: connect and ask again.
const reconnectOnError = (error) => (error.message.startsWith('LOADING') ? 2 : false);

// The rooms of a sorted set, oldest first, a page at a time. Each page begins with the
// score of the last room, and not at its rank: calls that end meanwhile change the ranks.
async function* pages(redis, index) {
  for (let from = '-inf', ties = 0; ;) {
    const reply = await redis.zrange(index, from, '+inf', 'BYSCORE', 'LIMIT', 0, PAGE + ties, 'WITHSCORES');
    const scores = reply.filter((_, i) => i % 2);

    yield reply.filter((_, i) => i % 2 === 0);
    if (scores.length < PAGE + ties) return;

    from = scores.at(-1);
    ties = scores.filter((score) => score === from).length;
  }
}

// The active calls, by the keys of their hashes. Emits
//
//     'call', key, { room_name, status, seq }, why    for each change,
//     'over', key, { room_name, direction, outcome,   when its transcript was there
//                    call_duration_ms, dispositions,
//                    transcript }
//     'gone', key                                     when a hash has expired,
//     'unindexed', why                                once, if there is no index,
//     'following', 'error'                            of the connection.
class Calls extends EventEmitter {
  constructor(url = 'redis://127.0.0.1:6379', { look = LOOK } = {}) {
    super();
    this.calls = new Map();
    this.last = Promise.resolve();
    this.looking = false;
    this.willReadAll = false;
    this.indexed = null;    // not known yet

    // A subscribed connection does nothing else, so there are two.
    this.redis = new Redis(url, { ...OPTIONS, reconnectOnError });
    this.subscriber = new Redis(url, { ...OPTIONS, autoResubscribe: false });

    for (const connection of [this.redis, this.subscriber]) {
      connection.on('error', (error) => this.emit('error', error));
    }
    this.subscriber.on('ready', () => this.follow());
    this.subscriber.on('message', (channel, text) => this.queue(() => this.take(JSON.parse(text))));
    setInterval(() => this.look(), look);
  }

  // Checks that the connection is alive and that the known calls are still right. One
  // check at a time, and only on a ready connection: the client queues commands until
  // it is ready, and would send all of them then.
  async look() {
    if (this.looking || this.subscriber.status !== 'ready') return;

    this.looking = true;
    try {
      await this.subscriber.ping();
      this.readAll();
    } catch {
      // the connection has ended; 'error' and follow() report it
    } finally {
      this.looking = false;
    }
  }

  // With each new connection. Messages arrive from its answer on; earlier ones are in
  // the hashes.
  async follow() {
    try {
      await this.subscriber.subscribe(CHANNEL);
      this.emit('following');
      this.readAll();
    } catch (error) {
      this.emit('error', error);

      // Refused, as by an ACL or while Redis loads: try again with a new connection,
      // which may also have other rights. One that is lost is replaced anyway.
      if (this.subscriber.status === 'ready') this.subscriber.disconnect(true);
    }
  }

  // One after the other: a message must not overtake the reading of a hash.
  queue(work) {
    this.last = this.last.then(work).catch((error) => this.emit('error', error));
  }

  // One message. The next one of a call has the next seq. Any other seq means that a
  // message was missed, or was read already: read the hash.
  async take(message) {
    const { key, room_name, status, seq = 0, event, known = true } = message ?? {};

    // An event that the module does not know may belong to no call.
    if (typeof key !== 'string') return;

    // An event of a kind that the module does not know changes no call: it has
    // the seq of the one before, and none if there is no call.
    if (seq !== this.seq(key) + (known ? 1 : 0)) await this.read(key);
    else if (known) await this.keep(key, { room_name, status, seq }, event, event === 'call_postprocessing');

    if (known && this.indexed === null) await this.lookForIndex();
  }

  // The state of a call in Redis, which is the sum of its events.
  async read(key, { active = false } = {}) {
    const [room_name, status, seq, event, complete] =
      await this.redis.hmget(key, 'room_name', 'status', 'seq', 'last_event', 'postprocessed');

    if (active && FINISHED.includes(status)) return;    // it has ended since the index was read

    // After Redis has lost its latest data, a seq can come again with another event.
    if (seq !== null && (Number(seq) !== this.seq(key) || status !== this.calls.get(key)?.status)) {
      await this.keep(key, { room_name, status, seq: Number(seq) }, `${event}, read again`, complete);
    } else if (seq === null || FINISHED.includes(status)) {    // expired, or no more events
      this.calls.delete(key);
      if (seq === null) this.emit('gone', key);
    }
  }

  // A missed last event of a call leaves no gap. Calls that began before this program
  // did, or while it was not connected, are in the index. Requests before it begins
  // share one run.
  readAll() {
    if (this.willReadAll) return;
    this.willReadAll = true;

    const read = (keys, options) => Promise.all(keys.map(
      (key) => this.read(key, options).catch((error) => this.emit('error', error))));

    this.queue(async () => {
      this.willReadAll = false;
      await read([...this.calls.keys()]);
      try {
        for await (const rooms of pages(this.redis, ACTIVE)) {
          const keys = rooms.map((room) => CALL + room);
          await read(keys.filter((key) => !this.calls.has(key)), { active: true });
        }
      } catch (error) {
        this.refused(error);
      }
    });
  }

  // Once, after the first transition: if nginx keeps an index, it has entered the call
  // there before it published.
  async lookForIndex() {
    try {
      if ((await this.redis.zrange(ALL, 0, 0)).length) this.indexed = true;
      else this.unindexed(`${ALL} is empty`);
    } catch (error) {
      this.refused(error);
    }
  }

  refused(error) {
    if (error.name !== 'ReplyError') throw error;    // of the connection
    this.unindexed(error.message);
  }

  unindexed(why) {
    if (this.indexed !== false) this.emit('unindexed', why);
    this.indexed = false;
  }

  seq(key) { return this.calls.get(key)?.seq ?? 0; }

  async keep(key, call, why, complete) {
    this.calls.set(key, call);
    this.emit('call', key, call, why);
    if (!complete) return;

    this.calls.delete(key);    // an event that comes even later is read from the hash
    const values = await this.redis.hmget(key, DETAILS);
    this.emit('over', key, Object.fromEntries(DETAILS.map((name, i) => [name, values[i]])));
  }
}

const withoutIndex = (why) => console.error(
  `no index (${why}): calls appear with their next event until nginx has "vaani_index on;"`);

module.exports = { Calls, FINISHED, pages, withoutIndex };

if (require.main === module) {
  const { REDIS_URL, LOOK: seconds = LOOK / 1000 } = process.env;
  const calls = new Calls(REDIS_URL, { look: 1000 * seconds });

  calls.on('following', () => console.log('following', CHANNEL));
  calls.on('error', (error) => console.error('Redis:', error.message));
  calls.on('unindexed', withoutIndex);

  // Put your own work here and below.
  calls.on('call', (key, { room_name, status, seq }, why) => console.log(room_name, status, `seq ${seq}:`, why));

  calls.on('over', (key, { room_name, direction, outcome, call_duration_ms, dispositions, transcript }) => {
    const words = transcript && `a transcript of ${transcript.match(/\S+/g)?.length ?? 0} words`;
    const known = [direction, outcome, call_duration_ms && `${call_duration_ms} ms`, dispositions, words];
    console.log(room_name, 'is over:', known.filter(Boolean).join(', '));
  });
}
