// Shows what server.js sends. All that comes from calls is set as textContent:
// a room may be named "<script>".

'use strict';

const SHOWN = 100;    // calls going on; a page with thousands of them helps nobody

const calls = new Map();
let ahead = 0;        // ms by which the clock of the server is ahead of ours
let connected = null; // whether the server is connected to Redis; null if it has gone
let waiting = false; // a show() is on its way

const $ = (selector, from = document) => from.querySelector(selector);

// ---- what comes ------------------------------------------------------------

const source = new EventSource('events');

function on(name, take) {
  source.addEventListener(name, (event) => {
    const { now, data } = JSON.parse(event.data);
    ahead = now - Date.now();
    take(data);
    draw();
  });
}

on('all', (all) => {
  calls.clear();
  for (const call of all.calls) calls.set(call.key, call);
  connected = all.connected;
});

on('call', (call) => {
  calls.delete(call.key);
  calls.set(call.key, call);
});

on('gone', (key) => calls.delete(key));
on('connected', (now) => { connected = now; });

// The browser connects again by itself.
source.onerror = () => { connected = null; draw(); };

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
    $('.number', item).textContent = call.number ?? '';
    $('.room', item).textContent = call.room;
    $('.duration', item).textContent = duration(call);
    $('.transfer', item).textContent = [transfer(call), call.error].filter(Boolean).join('; ');
    return item;
  }));
}

const words = (name) => name.replaceAll('_', ' ');

// How long people have talked: so far, or as Vaani says in the end.
function duration(call) {
  const ms = call.ended ? call.duration : call.picked_up && Date.now() + ahead - call.picked_up;
  if (!ms) return '';

  const seconds = Math.max(0, Math.round(ms / 1000));
  const two = (n) => String(n).padStart(2, '0');
  const [h, m, s] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  return h ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
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
