'use strict';

/*
 * What the endpoints of Node.js and Bun have in common: reading a delivery, and
 * the arguments of the module's own script.  Reads the table of events of
 * ../events.json.
 *
 * What is left out is in docs/performance.md, "How it is measured".
 */

const { randomUUID } = require('node:crypto');
const fs = require('node:fs');

const { BENCH_TABLE, BENCH_SCRIPT } = process.env;

const TTL = 7 * 24 * 3600 * 1000;
const PERIOD = TTL / 100;
const EXPIRY = String(TTL + PERIOD);
const BODY_DIGEST = 8;
const BASE64URL = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
const MAX_NAME = 256;
const SPAN_SLACK = 5000;
const SHORTEST_CALL = 1000;

const table = JSON.parse(fs.readFileSync(BENCH_TABLE, 'utf8'));
const events = new Map(Object.entries(table.events));
const rankOf = (names) => new Map(names.map((name, n) => [name, n + 1]));
const statusRank = rankOf(table.statuses);
const outcomeRank = rankOf(table.outcomes);

const DURATION = { NONE: 0, ENDED: 1, KNOWN: 2, OPEN: 3 };
const SOURCE = { NONE: 0, EMPTY: 1, POSTPROCESSING: 2, CALL: 3 };
const DIRECTION_SOURCE = { NONE: 0, EVENT: 1, CALL_TYPE: 2, ROOM: 3 };
const DIRECTION = { UNKNOWN: 0, INBOUND: 1, OUTBOUND: 2, WEB: 3 };
const PREFIXES = [['inbound-', 1], ['outbound-', 2], ['webrtc-', 3]];
const CALL_TYPES = [['inbound', 1], ['outbound', 2], ['web', 3]];

const TITLES = {
  400: 'Bad Request',
  405: 'Method Not Allowed',
  413: 'Payload Too Large',
  415: 'Unsupported Media Type',
  422: 'Unprocessable Content',
  503: 'Service Unavailable',
};

const JSON_TYPE = /^(?:application\/(?:[^/]+\+)?json|text\/json)$/;
const CHARSET = /^\s*charset="?([^"\s]*)/;
const CHARSETS = new Set(['utf-8', 'utf8', 'us-ascii', 'ascii']);
const CODINGS = new Set(['', 'identity', 'none', 'utf-8']);
// eslint-disable-next-line no-control-regex
const UNUSABLE = /[\u0000-\u001f\u007f-\u009f\ud800-\udfff]/u;
const LONE_SURROGATE = /[\ud800-\udfff]/u;
const JSON_NUMBER = /^[ \t\r\n]*-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?[ \t\r\n]*$/;
const TIME = /^\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d+)?([Zz]|[+-]\d\d:\d\d)?$/;

const since = Date.now();
const sinceText = String(since).padStart(13, '0');

class Problem extends Error {
  constructor(status, detail, field) {
    super(detail);
    Object.assign(this, { status, field });
  }

  body() {
    return JSON.stringify({
      type: 'about:blank',
      title: TITLES[this.status],
      status: this.status,
      detail: this.message,
      field: this.field && `/${this.field}`,
    });
  }

  headers() {
    return {
      'Content-Type': 'application/problem+json',
      ...this.status === 405 && { Allow: 'POST' },
      ...this.status === 503 && { 'Retry-After': '1' },
    };
  }
}

function isJson(header) {
  const [type, ...parameters] = header.toLowerCase().split(';');

  if (!JSON_TYPE.test(type.trim())) return false;

  return parameters.every((parameter) => {
    const [, charset] = CHARSET.exec(parameter) ?? [];
    return charset === undefined || CHARSETS.has(charset);
  });
}

// The headers as they are, null or undefined if there is none.
function checkHeaders(method, type, encoding) {
  if (method !== 'POST') throw new Problem(405, 'the method must be POST');

  if ((type && type !== 'application/json' && !isJson(type))
      || (encoding && !CODINGS.has(encoding.toLowerCase()))) {
    throw new Problem(415, 'the media type must be application/json');
  }
}

function isObject(value) {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function textOf(value) {
  if (typeof value === 'string') return value;
  return typeof value === 'number' ? String(value) : undefined;
}

function numberOf(value) {
  const number = typeof value === 'string' && JSON_NUMBER.test(value)
    ? Number(value) : value;

  return typeof number === 'number' && number >= 0 && number < Infinity
    ? number : undefined;
}

function integer(number) {
  return Math.min(Math.round(number), Number.MAX_SAFE_INTEGER);
}

function timeOf(text) {
  const [, offset] = TIME.exec(text) ?? [null, null];

  if (offset === null) return undefined;

  const ms = Date.parse(offset ? text : `${text}Z`);
  return ms >= 0 ? ms : undefined;
}

function readRoom(body, data) {
  for (const name of ['room_name', 'call_id']) {
    for (const object of [body, data]) {
      const room = textOf(object?.[name]);

      if (room && Buffer.byteLength(room) <= MAX_NAME && !UNUSABLE.test(room)) {
        return room;
      }
    }
  }

  return undefined;
}

function sourceOf(row, text) {
  if (text === '') return SOURCE.EMPTY;
  return row.postprocessed ? SOURCE.POSTPROCESSING : SOURCE.CALL;
}

// The unit of call_postprocessing's duration, as far as the span tells.
function settle(event) {
  const { ms, ifSeconds, span } = event;
  const limit = span + Math.floor(span / 10) + SPAN_SLACK;

  if (span === 0) return;

  event.timed = DURATION.KNOWN;

  if (ms > limit && ifSeconds > limit) {
    event.timed = DURATION.NONE;

  } else if (ms > limit) {
    event.ms = ifSeconds;

  } else if (ifSeconds <= limit) {
    const nearer = span * span - ms * ifSeconds;

    if (nearer > 0 || (nearer === 0 && ms < SHORTEST_CALL)) event.ms = ifSeconds;
  }
}

// A field of another type is converted where that is plain, else left out.
function readField(event, { name, field, type }, value) {
  const { row } = event;

  if (type === 'object') {
    if (isObject(value)) event.pairs.push(field, JSON.stringify(value));
    return;
  }

  if (type === 'seconds' || type === 'duration') {
    const number = numberOf(value);

    if (number === undefined) return;

    event.ifSeconds = integer(number * 1000);
    event.ms = type === 'seconds' ? event.ifSeconds : integer(number);
    event.timed = type === 'seconds' ? DURATION.ENDED : DURATION.OPEN;
    return;
  }

  const text = textOf(value);

  if (text === undefined) return;

  switch (type) {
    case 'status':
      if (text !== '') event.status = text;
      if (text === 'dialing' && event.directionSource < DIRECTION_SOURCE.EVENT) {
        event.direction = DIRECTION.OUTBOUND;
        event.directionSource = DIRECTION_SOURCE.EVENT;
      }
      break;

    case 'time': {
      const time = timeOf(text);

      if (time !== undefined) {
        event.times[name] = time;
        event.pairs.push(field, String(time));
      }
      break;
    }

    case 'number':
      event.number = text;
      event.numberSource = sourceOf(row, text);
      break;

    case 'reason':
      event.reason = text;
      event.reasonSource = sourceOf(row, text);
      break;

    case 'from':
      event.from = text;
      break;

    case 'call_type': {
      const lower = text.toLowerCase();
      const [, direction] = CALL_TYPES.find(([word]) => lower.includes(word)) ?? [];

      if (direction && event.directionSource < DIRECTION_SOURCE.CALL_TYPE) {
        event.direction = direction;
        event.directionSource = DIRECTION_SOURCE.CALL_TYPE;
      }
      break;
    }

    default:
      event.pairs.push(field, text);
  }
}

function readFields(event, body, data) {
  const { row } = event;

  for (const field of row.fields) {
    const value = data?.[field.name] ?? body[field.name];

    if (value !== undefined && value !== null) readField(event, field, value);
  }

  if (!row.postprocessed) return;

  event.pairs.push('postprocessed', '1');

  if (event.from && event.numberSource < SOURCE.POSTPROCESSING
      && (event.direction === DIRECTION.INBOUND || event.direction === DIRECTION.WEB)) {
    event.number = event.from;
    event.numberSource = SOURCE.POSTPROCESSING;
  }

  const { picked_up_at: pickedUp, call_started_at: started, call_ended_at: ended } = event.times;
  const begin = pickedUp || started;

  if (begin && ended > begin) event.span = ended - begin;
  if (event.timed === DURATION.OPEN) settle(event);
}

function readEvent(text) {
  let body;

  try {
    body = JSON.parse(text);
  } catch {
    throw new Problem(400, 'the body must be JSON');
  }

  if (!isObject(body)) throw new Problem(422, 'the body must be a JSON object', '');

  const name = body.event;

  if (typeof name !== 'string' || Buffer.byteLength(name) > MAX_NAME
      || LONE_SURROGATE.test(name)) {
    throw new Problem(422, 'event must be a string', 'event');
  }

  const data = isObject(body.data) ? body.data : undefined;
  const room = readRoom(body, data);
  const row = events.get(name);

  const event = {
    name, room, row, pairs: [], times: {}, status: row?.status,
    direction: 0, directionSource: 0, timed: 0, ms: 0, ifSeconds: 0, span: 0,
    number: '', numberSource: 0, reason: '', reasonSource: 0, from: '',
  };

  if (!row) return event;
  if (!room) throw new Problem(422, 'room_name is required', 'room_name');

  const [, prefix] = PREFIXES.find(([start]) => room.startsWith(start)) ?? [];

  if (prefix) {
    event.direction = prefix;
    event.directionSource = DIRECTION_SOURCE.ROOM;

  } else if (row.outbound) {
    event.direction = DIRECTION.OUTBOUND;
    event.directionSource = DIRECTION_SOURCE.EVENT;
  }

  readFields(event, body, data);

  return event;
}

function onOneLine(text) {
  return text.includes('\n') || text.includes('\r')
    ? text.replace(/[\r\n]/g, ' ') : text;
}

function digits(...numbers) {
  return String.fromCharCode(...numbers.map((number) => 48 + number));
}

// What tells a period of the expiry from others that come soon before or after it.
function periodOf(time) {
  const period = Math.floor(time / PERIOD);

  return BASE64URL[(period >> 12) & 63] + BASE64URL[(period >> 6) & 63]
    + BASE64URL[period & 63];
}

// KEYS and ARGV as the head of transition.lua has them.  id is the delivery's, if
// it has one; digest makes text of text or bytes.
function transitionArgs(event, text, bytes, id, digest) {
  const { name, room, row, pairs } = event;
  const key = `vaani:call:${room ?? ''}`;
  const receivedAt = Date.now();
  const named = room === undefined ? '' : `,"room_name":${JSON.stringify(room)}`;
  const keyed = room === undefined ? '' : `,"key":${JSON.stringify(key)}`;

  const args = [
    '0',
    `"id":${JSON.stringify(id || randomUUID())},"event":${JSON.stringify(name)}${named},`,
    `"received_at":${receivedAt}${keyed},"payload":`,
    onOneLine(text),
  ];

  if (row) {
    const length = Buffer.byteLength(room);

    const receivedText = String(receivedAt);
    const rank = statusRank.get(event.status);

    args[0] = digits(row.position, rank ?? 1, outcomeRank.get(row.outcome) ?? 0)
      + (row.transfer?.[0] ?? '0')
      + digits(id ? 1 : 0, event.timed, event.span ? 1 : 0, pairs.length / 2,
        receivedAt < since ? 1 : 0, length >> 6, length & 63, event.direction,
        event.directionSource, event.numberSource, event.reasonSource,
        rank ? 0 : 1, receivedText.length, name.length)
      + periodOf(receivedAt) + row.code + digest(bytes).slice(0, BODY_DIGEST)
      + sinceText + receivedText + name + EXPIRY;

    if (!rank) args.push(event.status);
    if (id) args.push(digest(id));
    if (event.timed) args.push(String(event.ms));
    if (event.timed === DURATION.OPEN) args.push(String(event.ifSeconds));
    if (event.span) args.push(String(event.span));
    if (event.numberSource) args.push(event.number);
    if (event.reasonSource) args.push(event.reason);

    args.push(...pairs);
  }

  args.push('vaani:events');
  if (room !== undefined) args.push(`vaani:room:${room}`);

  return [key, ...args];
}

// What is answered with 200.
function answerOf(reply) {
  const result = Array.isArray(reply) ? reply[0] : reply;

  if (result === 0) return '{"status":"duplicate"}\n';
  return result === -1 ? '{"status":"ok","known":false}\n' : '{"status":"ok"}\n';
}

module.exports = {
  Problem,
  answerOf,
  checkHeaders,
  readEvent,
  transitionArgs,
  script: fs.readFileSync(BENCH_SCRIPT, 'utf8'),
};
