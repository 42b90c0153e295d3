// Follows the calls that nginx publishes in Redis, and keeps their state.
//
//     npm ci
//     node subscriber.js
//
// REDIS_URL says which Redis, redis://127.0.0.1:6379 if it is not set. In a
// program of your own: const { Calls } = require('./subscriber.js').

'use strict';

const { EventEmitter } = require('node:events');
const Redis = require('ioredis');

const CHANNEL = 'vaani:events';
const LOOK = 30_000;    // ms between two looks at the connection and the calls
const FINISHED = ['rejected', 'no_answer', 'failed', 'ended'];

const OPTIONS = {
  // While Redis is away, wait for it as long as it takes.
  maxRetriesPerRequest: null,
  retryStrategy: () => 1000,

  // A connection can be dead without being closed: a command's answer is late.
  socketTimeout: 10_000,

  // INFO and CLIENT, which a subscriber's user need not be allowed.
  enableReadyCheck: false,
  disableClientInfo: true,
};

// A Redis that has just started loads its data: connect and ask again.
const reconnectOnError = (error) => (error.message.startsWith('LOADING') ? 2 : false);

// The calls that are going on, by the keys of their hashes. Emits
//
//     'call', key, { room_name, status, seq }, why    for each change,
//     'gone', key                                     when a hash has expired,
//     'following', 'error'                            of the connection.
class Calls extends EventEmitter {
  constructor(url = 'redis://127.0.0.1:6379') {
    super();
    this.calls = new Map();
    this.last = Promise.resolve();

    // A subscribed connection does nothing else, so there are two.
    this.redis = new Redis(url, { ...OPTIONS, reconnectOnError });
    this.subscriber = new Redis(url, { ...OPTIONS, autoResubscribe: false });

    for (const connection of [this.redis, this.subscriber]) {
      connection.on('error', (error) => this.emit('error', error));
    }
    this.subscriber.on('ready', () => this.follow());
    this.subscriber.on('message', (channel, text) => this.queue(() => this.take(JSON.parse(text))));
    setInterval(() => this.subscriber.ping().then(() => this.readAll(), () => {}), LOOK);
  }

  // With each new connection. From its answer on messages come; what came before
  // is in the hashes.
  async follow() {
    try {
      await this.subscriber.subscribe(CHANNEL);
      this.emit('following');
      this.readAll();
    } catch (error) {
      this.emit('error', error);
    }
  }

  // One after the other: a message must not overtake the reading of a hash.
  queue(work) {
    this.last = this.last.then(work).catch((error) => this.emit('error', error));
  }

  // One message. The next one of a call has the next seq. With any other one
  // something was missed, or has been read already: the hash knows.
  async take({ key, room_name, status, seq = 0, event, known = true }) {
    // An event of a kind that the module does not know changes no call: it has
    // the seq of the one before, and none if there is no call.
    if (seq !== this.seq(key) + (known ? 1 : 0)) await this.read(key);
    else if (known) this.keep(key, { room_name, status, seq }, event, event === 'call_postprocessing');
  }

  // The state of a call as Redis has it, which is the sum of its events.
  async read(key) {
    const [room_name, status, seq, event, complete] =
      await this.redis.hmget(key, 'room_name', 'status', 'seq', 'last_event', 'postprocessed');

    if (seq !== null && Number(seq) !== this.seq(key)) {
      this.keep(key, { room_name, status, seq: Number(seq) }, `${event}, read again`, complete);
    } else if (seq === null || FINISHED.includes(status)) {    // expired, or nothing comes any more
      this.calls.delete(key);
      if (seq === null) this.emit('gone', key);
    }
  }

  // A missed last event of a call leaves no gap.
  readAll() { for (const key of this.calls.keys()) this.queue(() => this.read(key)); }

  seq(key) { return this.calls.get(key)?.seq ?? 0; }

  keep(key, call, why, complete) {
    this.calls.set(key, call);
    this.emit('call', key, call, why);
    if (complete) this.calls.delete(key);    // an event that comes even later is read from the hash
  }
}

module.exports = { Calls, FINISHED };

if (require.main === module) {
  const calls = new Calls(process.env.REDIS_URL);

  calls.on('following', () => console.log('following', CHANNEL));
  calls.on('error', (error) => console.error('Redis:', error.message));

  // Put your own work here.
  calls.on('call', (key, { room_name, status, seq }, why) => console.log(room_name, status, `seq ${seq}:`, why));
}
