// Shows what server.js sends. All that comes from calls is set as textContent:
// a room may be named "<script>".

'use strict';

const SHOWN = 100;    // calls going on; a page with thousands of them helps nobody
const RETRY = 2000;   // ms until the page asks again
const DEAD = 40_000;  // ms without a word of the server, which says one every 15 s

const calls = new Map();
let ahead = 0;        // ms by which the clock of the server is ahead of ours
let connected = null; // whether the server is connected to Redis; null if it has gone
let waiting = false; // a show() is on its way

const $ = (selector, from = document) => from.querySelector(selector);

// ---- what comes ------------------------------------------------------------

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
let heard;            // when the server said something

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

  // After a lost connection the browser connects again by itself. After an answer
  // other than 200, the 502 of an nginx before the server for example, it gives up.
  source.onerror = (event) => {
    connected = null;
    draw();
    if (event.target === source && source.readyState === EventSource.CLOSED) setTimeout(connect, RETRY);
  };
}

connect();

// Nor does it notice a connection that is dead without being closed.
setInterval(() => {
  if (source.readyState !== EventSource.OPEN || Date.now() - heard < DEAD) return;
  connected = null;
  draw();
  connect();
}, RETRY);

// ---- what is shown ---------------------------------------------------------

// Once for all that comes at the same time.
function draw() {
  if (!waiting) setTimeout(show);
  waiting = true;
}

function show() {
  waiting = false;

  const all = [...calls.values()].reverse();
  const goingOn = all.filter((call) => !call.ended);
  goingOn.sort((a, b) => b.created - a.created);

  fill($('#going-on'), goingOn.slice(0, SHOWN));
  fill($('#ended'), all.filter((call) => call.ended));

  $('#count').textContent = goingOn.length > SHOWN ? `${goingOn.length}, the latest ${SHOWN} are shown` : goingOn.length || '';
  $('#connection').textContent = connected ? 'Live'
    : connected === null ? 'The server of this page does not answer; what is shown is old'
    : 'Redis is away; what is shown is old';
  $('#connection').toggleAttribute('data-bad', !connected);
  document.title = goingOn.length ? `(${goingOn.length}) Calls` : 'Calls';
}

function fill(list, items) {
  list.replaceChildren(...items.map((call) => {
    const item = $('#call').content.cloneNode(true).firstElementChild;

    item.dataset.key = call.key;
    item.dataset.status = call.status;
    item.toggleAttribute('data-bad', call.ended && (call.outcome ?? 'completed') !== 'completed');
    $('.status', item).textContent = words(call.ended ? call.outcome ?? call.status : call.status);
    $('.direction', item).textContent = call.direction ?? '';
    $('.number', item).textContent = call.number ?? '';
    $('.room', item).textContent = call.room;
    $('.duration', item).textContent = duration(call);
    $('.transfer', item).textContent = [transfer(call), call.error, ...dispositions(call)].filter(Boolean).join('; ');
    return item;
  }));
}

const words = (name) => name.replaceAll('_', ' ');

// How long people have talked: so far, or as Vaani says in the end, be it by its
// own times only.
function duration(call) {
  const ms = !call.ended ? call.picked_up && Date.now() + ahead - call.picked_up
    : call.duration ?? (call.talk_began && call.talk_ended && call.talk_ended - call.talk_began);
  if (!ms) return '';

  const seconds = Math.max(0, Math.round(ms / 1000));
  const two = (n) => String(n).padStart(2, '0');
  const [h, m, s] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  return h ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}

// What the agent was told to find out: {"tag":"Name Collected"}.
function dispositions(call) {
  let found;
  try { found = JSON.parse(call.dispositions); } catch { return []; }    // there are none

  return found && typeof found === 'object' ? Object.values(found).filter((value) => typeof value === 'string') : [];
}

function transfer(call) {
  if (!call.transfer) return '';

  const state = { initiated: 'transfer to', successful: 'transferred to', failed: 'transfer failed to' };
  const counts = ['initiated', 'successful', 'failed'].map((name) => `${call[name] ?? 0} ${name}`);
  const reason = call.transfer === 'failed' && call.transfer_reason ? ` (${call.transfer_reason})` : '';
  const more = call.initiated > 1 ? `; ${counts.join(', ')}` : '';
  return `${state[call.transfer] ?? call.transfer} ${call.transfer_number ?? ''}${reason}${more}`;
}

// The clocks of those who talk.
setInterval(() => {
  for (const item of $('#going-on').children) {
    const call = calls.get(item.dataset.key);
    if (call) $('.duration', item).textContent = duration(call);
  }
}, 1000);
