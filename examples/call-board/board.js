// Shows what server.js sends. Values of calls are set as text only, because a room
// may be named "<script>".

'use strict';

const SHOWN = 100;    // live calls in the table; nobody reads thousands
const RETRY = 2000;   // ms until the page connects again
const DEAD = 40_000;  // ms without an event; the server sends one every 15 s
const PAUSE = 50;     // ms in which changes are collected

const calls = new Map();
let ahead = 0;        // ms by which the server's clock is ahead of the browser's
let connected;        // whether the server is connected to Redis; null: the server does not answer
let waiting = false;  // a show() is scheduled

const $ = (selector, from = document) => from.querySelector(selector);

// ---- events of the server ----------------------------------------------------

const take = {
  all(all) {
    calls.clear();
    for (const call of all.calls) calls.set(call.key, call);
    connected = all.connected;
  },

  call(call) {
    calls.delete(call.key);
    calls.set(call.key, call);
  },

  gone(key) { calls.delete(key); },
  connected(now) { connected = now; },
  beat() {},
};

let source;
let heard;            // time of the latest event

function connect() {
  source?.close();
  source = new EventSource('events');
  heard = Date.now();

  for (const name of Object.keys(take)) {
    source.addEventListener(name, (event) => {
      const { now, data } = JSON.parse(event.data);
      heard = Date.now();
      ahead = now - heard;
      take[name](data);
      draw();
    });
  }

  // The browser reconnects after a lost connection, but not after an answer other
  // than 200, such as the 502 of an nginx in front of the server.
  source.onerror = (event) => {
    connected = null;
    draw();
    if (event.target === source && source.readyState === EventSource.CLOSED) setTimeout(connect, RETRY);
  };
}

// The browser does not notice a connection that is dead but not closed.
setInterval(() => {
  if (source.readyState !== EventSource.OPEN || Date.now() - heard < DEAD) return;
  connected = null;
  draw();
  connect();
}, RETRY);

// ---- the filter ----------------------------------------------------------------

// The states to choose from, and the calls that each one has.
const STATES = {
  all: () => true,
  live: (call) => !call.ended,
  ended: (call) => call.ended,
  completed: (call) => kind(call) === 'completed',
  unsuccessful: (call) => ['missed', 'failed'].includes(kind(call)),
};

// The fields in which words are looked for.
const SEARCHED = ['room', 'number', 'direction', 'transfer', 'transfer_number', 'transfer_reason', 'error'];

const form = $('#filter');
let filter = { state: 'all', words: [] };

// The filter is in the address, so that it can be bookmarked: #state=live&find=mumbai
function readAddress() {
  const address = new URLSearchParams(location.hash.slice(1));
  const state = address.get('state');

  form.elements.state.value = Object.hasOwn(STATES, state) ? state : 'all';
  $('#words').value = address.get('find') ?? '';
  readForm();
}

function readForm() {
  filter = { state: form.elements.state.value, words: $('#words').value.toLowerCase().split(/\s+/).filter(Boolean) };
  show();
}

function changed() {
  readForm();

  const address = new URLSearchParams();
  if (filter.state !== 'all') address.set('state', filter.state);
  if (filter.words.length) address.set('find', $('#words').value.trim());
  history.replaceState(null, '', String(address) ? `#${address}` : location.pathname + location.search);
}

form.addEventListener('input', changed);
form.addEventListener('submit', (event) => event.preventDefault());
window.addEventListener('hashchange', readAddress);

// Each word must be there. Of a number the digits count: "202-555" finds +1202555….
function found(call) {
  if (!filter.words.length) return true;

  const text = [...SEARCHED.map((name) => call[name]), status(call), ...dispositions(call)].join('\n').toLowerCase();
  return filter.words.every((word) => text.includes(word)
    || (/^[+(]?\d[\d().-]*$/.test(word) && text.includes(word.replace(/\D/g, ''))));
}

// ---- the table -----------------------------------------------------------------

// Shows once what changes within a short time.
function draw() {
  if (!waiting) setTimeout(show, PAUSE);
  waiting = true;
}

function show() {
  waiting = false;

  const all = [...calls.values()].reverse();
  const live = all.filter((call) => !call.ended).sort((a, b) => (b.created ?? 0) - (a.created ?? 0));
  const shown = [...live, ...all.filter((call) => call.ended)].filter(found);

  for (const input of form.elements.state) {
    const count = shown.filter(STATES[input.value]).length;
    setText($('b', input.parentElement), connected === undefined ? '' : String(count));
  }

  const matching = shown.filter(STATES[filter.state]);
  const matchingLive = matching.filter((call) => !call.ended);
  const drawn = matchingLive.slice(0, SHOWN);
  fill($('#live'), drawn);
  fill($('#ended'), matching.filter((call) => call.ended));

  const isFiltered = filter.state !== 'all' || filter.words.length;
  setText($('#matches'), [
    isFiltered && calls.size ? `${matching.length} of ${plural(calls.size, 'call')}` : '',
    drawn.length < matchingLive.length ? `the latest ${SHOWN} of ${matchingLive.length} live calls are shown` : '',
  ].filter(Boolean).join('; '));
  setText($('#none'), matching.length ? '' : calls.size ? 'No call matches the filter.' : 'No calls yet.');

  setText($('#connection'), connected ? 'Connected'
    : connected === undefined ? 'Connecting …'
    : connected === null ? 'The server does not respond; the calls shown may be out of date'
    : 'Redis is unreachable; the calls shown may be out of date');
  $('#connection').toggleAttribute('data-live', Boolean(connected));
  $('#connection').toggleAttribute('data-bad', connected === null || connected === false);
  document.title = live.length ? `(${live.length}) Calls` : 'Calls';
}

// Rows stay the same elements, so that a selection of text survives.
function fill(body, items) {
  const keys = new Set(items.map((call) => call.key));
  for (const row of [...body.children]) if (!keys.has(row.dataset.key)) row.remove();

  const rows = new Map([...body.children].map((row) => [row.dataset.key, row]));
  let at = body.firstElementChild;
  for (const call of items) {
    let row = rows.get(call.key);
    if (!row) {
      row = $('#call').content.cloneNode(true).firstElementChild;
      row.dataset.key = call.key;
    }
    fillRow(row, call);
    if (row === at) at = at.nextElementSibling;
    else body.insertBefore(row, at);
  }
}

function fillRow(row, call) {
  row.dataset.kind = kind(call);
  setText($('.badge', row), status(call));
  setText($('.number', row), call.number ?? '');
  setText($('.direction', row), call.direction ?? '');
  setText($('.room', row), call.room);
  setText($('.transfer', row), transfer(call), 'Transfer');
  setText($('.result', row), [call.error, ...dispositions(call)].filter(Boolean).join('; '), 'Result');

  const created = new Date(Number(call.created));
  const isKnown = call.created && !Number.isNaN(created.getTime());
  $('.started', row).toggleAttribute('data-unknown', !isKnown);
  setText($('time', row), isKnown ? clock(created) : '');
  $('time', row).dateTime = isKnown ? created.toISOString() : '';
  fillTimes(row, call);
}

// What changes with the time alone.
function fillTimes(row, call) {
  setText($('.talked', row), talked(call), 'Talk time');
  setText($('small', row), $('time', row).dateTime && ago(call.created));
}

setInterval(() => {
  for (const row of document.querySelectorAll('tbody tr')) {
    const call = calls.get(row.dataset.key);
    if (call) fillTimes(row, call);
  }
}, 1000);

// A label is shown where the table has no columns.
function setText(element, text, label) {
  if (element.textContent !== text) element.textContent = text;
  if (label && text) element.dataset.label = label;
  else if (label) delete element.dataset.label;
}

// ---- what is said of a call ----------------------------------------------------

// The colour of a row.
function kind(call) {
  if (!call.ended) return call.status === 'active' ? 'active' : 'waiting';
  return { completed: 'completed', rejected: 'missed', no_answer: 'missed', failed: 'failed' }[call.outcome ?? call.status] ?? 'over';
}

function status(call) {
  return ((call.ended && call.outcome) || call.status || 'unknown').replaceAll('_', ' ');
}

const plural = (n, noun) => `${n} ${noun}${n === 1 ? '' : 's'}`;

// The time of day, with the date if it was not today.
function clock(time) {
  const ofDay = time.toLocaleTimeString('en-GB');
  const isToday = time.toDateString() === new Date(Date.now() + ahead).toDateString();
  return isToday ? ofDay : `${time.toLocaleDateString('en-GB', { day: 'numeric', month: 'short', year: 'numeric' })}, ${ofDay}`;
}

function ago(time) {
  const seconds = Math.floor((Date.now() + ahead - time) / 1000);

  if (seconds < 5) return 'now';
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ago`;
  return `${plural(Math.floor(seconds / 86_400), 'day')} ago`;
}

// How long people have talked: until now, or as Vaani reports it at the end, in
// its own times if there is no duration.
function talked(call) {
  const ms = !call.ended ? call.picked_up && Date.now() + ahead - call.picked_up
    : call.duration ?? (call.talk_began && call.talk_ended && call.talk_ended - call.talk_began);
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (!ms || !Number.isFinite(seconds)) return '';

  const two = (n) => String(n).padStart(2, '0');
  const [h, m, s] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  return h ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}

// What the agent was told to find out: {"tag":"Name Collected"}.
function dispositions(call) {
  let values;
  try { values = JSON.parse(call.dispositions); } catch { return []; }    // there are none

  return values && typeof values === 'object' ? Object.values(values).filter((value) => typeof value === 'string') : [];
}

function transfer(call) {
  if (!call.transfer) return '';

  const state = { initiated: 'started to', successful: 'successful to', failed: 'failed to' };
  const reason = call.transfer === 'failed' && call.transfer_reason ? ` (${call.transfer_reason})` : '';
  const counts = ['initiated', 'successful', 'failed'].map((name) => `${call[name] ?? 0} ${name}`);
  const more = call.initiated > 1 ? `; ${counts.join(', ')}` : '';
  return `${state[call.transfer] ?? call.transfer} ${call.transfer_number ?? ''}${reason}${more}`;
}

readAddress();
connect();
