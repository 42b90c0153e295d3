"""Forwards each message of a Redis Stream to an HTTP endpoint, at least once.

    ENDPOINT=https://crm.example.com/calls SECRET_FILE=onward.secret python3 onward.py [NAME]

The messages are POSTed unchanged, signed as in Standard Webhooks, and retried until
the endpoint answers 2xx. Several instances with different names share the work;
NAME is the host name by default. SIGTERM and Ctrl-C end it after the open requests.

    ENDPOINT     the URL, https:// or http://
    SECRET_FILE  the secret, whsec_…; with several lines, each request has one
                 signature per line. Lines that begin with # are comments
    REDIS_URL    the Redis, redis://127.0.0.1:6379 by default
    STREAM       the stream, vaani:stream
    GROUP        its consumer group, onward
    PARALLEL     requests at the same time, 8
    TIMEOUT      seconds for a request, 15
    TRIES        tries before a message is moved to the stream "STREAM:dead", 100
    LONGEST      the longest time between two tries of a message, seconds, 900
    HOLD         seconds for which a message that fails delays the later ones of
                 its call, 300
    CLAIM        seconds after which other instances take over the messages of a
                 dead instance, 60

nginx fills the stream: "vaani_stream vaani:stream maxlen=100000;". Needs
redis-py 4.3 or newer: "python3-redis" of Debian, or "pip install redis".
onward.js is the same in JavaScript.
"""

import base64
import binascii
import bisect
import email.utils
import hashlib
import heapq
import hmac
import http.client
import itertools
import json
import math
import os
import random
import re
import select
import signal
import socket
import ssl
import sys
import threading
import time
from urllib.parse import urlsplit

import redis

MANY = 10_000         # messages held at most: failing ones, and those delayed by them
DEAD_MANY = 10_000    # dead letters kept, approximately
ANSWER = 65_536       # bytes of an answer that are read
PAGE = 16             # messages that are read at once
FIRST = 1             # seconds until the second try; twice as long for each one after it
RETRY = 1, 30         # seconds until the next attempt to reach Redis: the first, the longest


def say(*words):
    print(*words, file=sys.stderr, flush=True)


def fail(*words):
    say("onward:", *words)
    sys.exit(2)


def number(name, default):
    text = os.environ.get(name, default)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < 1e9:
        fail(f"{name} must be a number greater than 0")
    return value


def endpoint():
    """Never print the path: it may contain a token."""
    try:
        url = urlsplit(os.environ.get("ENDPOINT", ""))
        port = url.port
    except ValueError:
        fail("ENDPOINT is no URL")
    if url.scheme not in ("http", "https") or not url.hostname:
        fail("ENDPOINT must be a URL that begins with https:// or http://")
    if url.username is not None or url.fragment:
        fail("ENDPOINT must have no user and no fragment; the signature shows who sends")
    target = (url.path or "/") + (f"?{url.query}" if url.query else "")
    if not re.fullmatch(r"[!-~]+", target + url.netloc):
        fail("ENDPOINT must be ASCII without blanks; encode other characters")
    return url.scheme, url.hostname, port or (443 if url.scheme == "https" else 80), target


def secrets():
    path = os.environ.get("SECRET_FILE")
    if not path:
        fail("SECRET_FILE must name a file with the secret, whsec_…")
    try:
        with open(path, encoding="utf-8-sig") as file:
            lines = [line.strip() for line in file]
    except (OSError, UnicodeDecodeError) as error:
        fail(f"SECRET_FILE cannot be read: {getattr(error, 'strerror', None) or 'it is not UTF-8'}")

    keys = []
    for n, line in enumerate(lines, 1):
        if not line or line.startswith("#"):
            continue
        try:
            if not line.startswith("whsec_"):
                raise ValueError
            text = line[6:]
            keys.append(base64.b64decode(text + "=" * (-len(text) % 4), validate=True))
        except (ValueError, binascii.Error):
            fail(f"SECRET_FILE, line {n}: expected whsec_ and base64")
        if len(keys[-1]) < 16:
            fail(f"SECRET_FILE, line {n}: the secret must have 16 bytes or more")
    if not keys:
        fail("SECRET_FILE has no secret")
    return keys


STREAM = os.environ.get("STREAM", "vaani:stream")
DEAD = f"{STREAM}:dead"
GROUP = os.environ.get("GROUP", "onward")
NAME = sys.argv[1] if len(sys.argv) > 1 else socket.gethostname()
URL = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379")
PARALLEL, TRIES = int(math.ceil(number("PARALLEL", 8))), number("TRIES", 100)
TIMEOUT, LONGEST, HOLD, CLAIM = (number(*pair) for pair in (
    ("TIMEOUT", 15), ("LONGEST", 900), ("HOLD", 300), ("CLAIM", 60)))
SCHEME, HOST, PORT, TARGET = endpoint()
SECRETS = secrets()


# ---- messages -----------------------------------------------------------------


class Entry:
    """A message of the stream: being sent, waiting, or delayed by an earlier one of
    its call. Only the next one to send has its text in memory."""

    def __init__(self, id, text, tries):
        self.id = id
        self.order = tuple(map(int, id.split(b"-")))
        self.tries = tries
        self.at = 0.0          # not to be sent before
        self.failing = None    # since when
        self.text = text
        self.call, self.name = identify(id, text)

    def __lt__(self, other):
        return self.order < other.order


def identify(id, text):
    """The call of a message, and its id, which is the same in each delivery, also to
    the endpoint. Messages without a call have no order."""
    try:
        message = json.loads(text.decode(), parse_int=float)    # of any length
        name = message.get("id")
    except (ValueError, AttributeError, RecursionError):
        return id, None    # not from nginx
    if not isinstance(name, str) or not name:
        name = id.decode()
    if not re.fullmatch(r"[!-~]{1,200}", name):    # as a header it must be plain
        plain = name.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()
        name = "sha256-" + hashlib.sha256(plain).hexdigest()
    key = message.get("key")
    return key if isinstance(key, str) else id, name


class Schedule:
    """Chooses the next message to send: those of a call one after another, calls in
    parallel. A message that has failed for HOLD seconds delays no other one."""

    def __init__(self):
        self.changed = threading.Condition()
        self.stopped = False
        self.entries = {}    # by id
        self.calls = {}      # of each call, in the order of the stream
        self.busy = set()    # calls with a message being sent
        self.due = {}        # when the next message of a call is sent
        self.heap = []
        self.count = itertools.count()

    def next_of(self, call):
        """(when, entry)"""
        found, held = None, 0.0
        for entry in self.calls[call]:
            at = max(entry.at, held)
            if found is None or at < found[0]:
                found = at, entry
            held = max(held, math.inf if entry.failing is None else entry.failing + HOLD)
            if held >= found[0]:
                break
        return found

    def plan(self, call):
        self.due.pop(call, None)
        if call in self.calls and call not in self.busy:
            self.due[call] = self.next_of(call)[0]
            heapq.heappush(self.heap, (self.due[call], next(self.count), call))
        self.changed.notify_all()

    def add(self, entry):
        with self.changed:
            if entry.id in self.entries:
                return
            call = self.calls.setdefault(entry.call, [])
            if call:
                entry.text = None
            self.entries[entry.id] = entry
            bisect.insort(call, entry)
            self.plan(entry.call)

    def take(self):
        """The next entry, once it is due; None after stop()."""
        with self.changed:
            while not self.stopped:
                while self.heap and self.due.get(self.heap[0][2]) != self.heap[0][0]:
                    heapq.heappop(self.heap)    # rescheduled since then
                left = self.heap[0][0] - time.monotonic() if self.heap else 1
                if left > 0:
                    self.changed.wait(min(left, 1))
                    continue
                call = heapq.heappop(self.heap)[2]
                entry = self.next_of(call)[1]
                del self.due[call]
                self.busy.add(call)
                return entry

    def again(self, entry, seconds, failed=True):
        with self.changed:
            now = time.monotonic()
            entry.text = None
            entry.at = now + seconds
            if failed and entry.failing is None:
                entry.failing = now
            self.busy.discard(entry.call)
            self.plan(entry.call)

    def done(self, entry):
        with self.changed:
            self.busy.discard(entry.call)
            self.remove(entry)

    def remove(self, entry):
        if self.entries.pop(entry.id, None) is None:
            return
        call = self.calls[entry.call]
        call.remove(entry)
        if not call:
            del self.calls[entry.call]
        self.plan(entry.call)

    def drop(self, ids):
        """Drops entries that are not being sent. Returns the ids of those it had."""
        with self.changed:
            dropped = [self.entries[id] for id in ids
                       if id in self.entries and self.entries[id].call not in self.busy]
            for entry in dropped:
                self.remove(entry)
            return [entry.id for entry in dropped]

    def known(self):
        with self.changed:
            return set(self.entries)

    def room(self):
        """The number of messages that may be read now. Those that wait for their next
        try, or for an earlier one of their call, do not count up to the limit MANY."""
        with self.changed:
            now = time.monotonic()
            ready = sum(at <= now for at in self.due.values())
            return min(PAGE, 2 * PARALLEL - len(self.busy) - ready, MANY - len(self.entries))


# ---- the endpoint -------------------------------------------------------------


class Response(http.client.HTTPResponse):
    """An answer. http.client mistakes an interim one, such as 103, for the final one,
    and would then mistake the final one for the answer to the next request."""

    def _read_status(self):
        while True:
            version, status, reason = super()._read_status()
            if not 101 < status < 200:
                return version, status, reason
            http.client.parse_headers(self.fp)


class Poster:
    """A connection to the endpoint, which is kept for the next request."""

    context = ssl.create_default_context() if SCHEME == "https" else None

    def __init__(self):
        self.connection = None

    def post(self, name, text):
        """(status, Retry-After). Raises OSError or HTTPException. A redirection is
        an answer like any other."""
        if self.connection is not None and self.is_spoiled():
            self.close()
        reused = self.connection is not None
        deadline = time.monotonic() + TIMEOUT
        try:
            return self.exchange(name, text, deadline)
        except (http.client.RemoteDisconnected, ConnectionError, ssl.SSLError):
            if not reused or time.monotonic() >= deadline:
                raise
        # The endpoint closed the connection between two requests.
        return self.exchange(name, text, deadline)

    def exchange(self, name, text, deadline):
        cut = threading.Event()
        timer = None
        try:
            if self.connection is None:
                self.connect()
            # The timeout of a socket is for each read; an answer can come in many.
            timer = threading.Timer(max(0, deadline - time.monotonic()), self.cut, [self.connection.sock, cut])
            timer.start()
            self.connection.request("POST", TARGET, text, headers(name, text))
            response = self.connection.getresponse()
            status, after = response.status, response.getheader("Retry-After")
            try:
                response.read(ANSWER)
                keep = status >= 200 and response.isclosed() and not response.will_close and not cut.is_set()
            except (OSError, http.client.HTTPException):
                keep = False    # the status is known, and nothing else is needed
            if not keep:
                self.close()
            return status, after
        except (OSError, http.client.HTTPException) as error:
            self.close()
            if cut.is_set():
                raise TimeoutError from error
            raise
        except BaseException:
            self.close()
            raise
        finally:
            if timer is not None:
                timer.cancel()

    def connect(self):
        # Per address: if the first one is dead, there must be time for the next.
        wait = TIMEOUT / 3
        if SCHEME == "https":
            self.connection = http.client.HTTPSConnection(HOST, PORT, timeout=wait, context=self.context)
        else:
            self.connection = http.client.HTTPConnection(HOST, PORT, timeout=wait)
        self.connection.response_class = Response
        self.connection.connect()
        self.connection.sock.settimeout(TIMEOUT)
        self.connection.auto_open = 0

    def is_spoiled(self):
        """Between two requests, only the end of the connection is expected. Other bytes
        must not be mistaken for the answer to the next request."""
        poll = select.poll()
        poll.register(self.connection.sock, select.POLLIN)
        return bool(poll.poll(0)) or SCHEME == "https" and self.connection.sock.pending() > 0

    @staticmethod
    def cut(sock, cut):
        cut.set()
        try:
            socket.socket.shutdown(sock, socket.SHUT_RDWR)
        except OSError:
            pass    # it has ended

    def close(self):
        if self.connection is not None:
            self.connection.close()
            self.connection = None


def headers(name, text):
    """Of Standard Webhooks: the id is the same for each try, the time is not."""
    now = str(int(time.time()))
    signed = f"{name}.{now}.".encode() + text
    signatures = (base64.b64encode(hmac.digest(key, signed, "sha256")).decode() for key in SECRETS)
    return {
        "Content-Type": "application/json",
        "User-Agent": "vaani-onward",
        "webhook-id": name,
        "webhook-timestamp": now,
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }


def reason(error):
    """Without text that the peer may have sent."""
    if isinstance(error, TimeoutError):
        return "timed out"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate: {error.verify_message}"
    return getattr(error, "strerror", None) or type(error).__name__


def delay(tries, after):
    """Seconds until the next try; longer if the endpoint asks for it."""
    seconds = min(LONGEST, FIRST * 2 ** min(tries - 1, 30)) * random.uniform(0.75, 1.25)
    asked = 0.0
    if after is not None and re.fullmatch(r"[0-9]{1,9}", after):
        asked = float(after)
    elif after is not None:
        try:
            asked = email.utils.parsedate_to_datetime(after).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            pass
    return max(seconds, min(asked, LONGEST))


# ---- the stream ---------------------------------------------------------------


class Forwarder:
    def __init__(self):
        self.connect()
        self.schedule = Schedule()
        self.stopped_at = None
        self.said, self.unsaid = -math.inf, 0    # failures

    def connect(self):
        # Longer than a read waits. Replies stay bytes: the body is not changed.
        self.client = redis.from_url(URL, socket_timeout=15)

    def stop(self, signum, frame):
        self.stopped_at = time.monotonic()
        self.schedule.stopped = True
        signal.signal(signum, signal.SIG_DFL)    # the next one ends it at once

    @property
    def stopped(self):
        return self.stopped_at is not None

    def run(self):
        workers = [threading.Thread(target=self.work) for _ in range(PARALLEL)]
        for worker in workers:
            worker.start()
        try:
            self.follow()
        finally:
            self.schedule.stopped = True    # also after a fault of this program
            for worker in workers:
                worker.join()
        self.leave()

    def follow(self):
        """Returns after stop()."""
        ready, pause = False, RETRY[0]
        while not self.stopped:
            try:
                self.create()
                self.look()    # first its unfinished messages
                look_at = time.monotonic() + CLAIM / 3
                if not ready:
                    print(f"forwarding {STREAM} to {SCHEME}://{HOST}", flush=True)
                    ready = True
                pause = RETRY[0]

                while not self.stopped:
                    if time.monotonic() >= look_at:
                        self.look()
                        look_at = time.monotonic() + CLAIM / 3
                    room = self.schedule.room()
                    if room > 0:
                        self.read(room)
                    else:
                        with self.schedule.changed:
                            self.schedule.changed.wait(0.2)
            except redis.RedisError as error:
                say(f"Redis: {error}")
                self.connect()    # after a failover another server answers
                if not str(error).startswith("NOGROUP"):    # otherwise Redis has lost it: create it again
                    self.sleep(pause * random.uniform(0.75, 1.25))
                    pause = min(2 * pause, RETRY[1])

    def sleep(self, seconds):
        until = time.monotonic() + seconds
        while not self.stopped and time.monotonic() < until:
            time.sleep(0.1)

    def create(self):
        try:
            # From the beginning of the stream; "$" would leave out what is there.
            self.client.xgroup_create(STREAM, GROUP, "0", mkstream=True)
        except redis.ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):    # it exists
                raise

    def read(self, count):
        # The wait is short, since a signal does not end it.
        reply = self.client.xreadgroup(GROUP, NAME, {STREAM: ">"}, count=count, block=500)
        for id, fields in reply[0][1] if reply else ():
            self.schedule.add(Entry(id, fields.get(b"message", b""), 0))

    def look(self):
        """Takes over messages of dead instances, and its own pending messages that it
        does not know, since it was killed or a reply was lost. Renews its claim on the
        messages that it holds, so that other instances do not take them over."""
        cursor, room = b"0-0", MANY - len(self.schedule.known())
        while room > 0 and not self.stopped:
            cursor, claimed, *gone = self.client.xautoclaim(
                STREAM, GROUP, NAME, int(1000 * CLAIM), start_id=cursor, count=PAGE)
            for id in gone[0] if gone else ():    # since Redis 7, which has settled them
                self.schedule.drop([id])
                self.lost(id)
            room -= len(claimed)
            if cursor == b"0-0":
                break

        mine, start = {}, b"-"
        while True:
            page = self.client.xpending_range(STREAM, GROUP, start, "+", 1000, consumername=NAME)
            mine.update((row["message_id"], row["times_delivered"]) for row in page)
            if len(page) < 1000:
                break
            start = b"(" + page[-1]["message_id"]

        known = self.schedule.known()
        self.schedule.drop(known - mine.keys())    # another instance has it
        held = [id for id in mine if id in known]
        for ids in pages(held, 500):
            kept = self.client.xclaim(STREAM, GROUP, NAME, 0, ids, justid=True)
            for id in self.schedule.drop(set(ids) - set(kept)):
                if not self.client.xrange(STREAM, id, id):
                    self.lost(id)
        self.take_up([id for id in mine if id not in known], mine)

    def take_up(self, ids, tries):
        for page in pages(ids, PAGE):
            if self.stopped or len(self.schedule.known()) >= MANY:
                return
            with self.client.pipeline(transaction=False) as pipeline:
                for id in page:
                    pipeline.xrange(STREAM, id, id)
                replies = pipeline.execute()
            for id, reply in zip(page, replies):
                if reply:
                    entry = Entry(id, reply[0][1].get(b"message", b""), tries[id])
                    entry.text = None    # it is read again, and claimed, when it is sent
                    self.schedule.add(entry)
                else:
                    self.client.xack(STREAM, GROUP, id)
                    self.lost(id)

    def lost(self, id):
        """The stream is trimmed at maxlen: choose it for the longest time that no
        instance runs."""
        say(id.decode(), "left the stream before it was forwarded")

    def leave(self):
        """Removes the name if nothing is pending; otherwise each new host would leave
        one. No other instance can give this one messages meanwhile."""
        try:
            if not self.client.xpending_range(STREAM, GROUP, "-", "+", 1, consumername=NAME):
                self.client.xgroup_delconsumer(STREAM, GROUP, NAME)
        except redis.RedisError:
            pass

    # ---- by one of the threads --------------------------------------------------

    def work(self):
        poster = Poster()
        while (entry := self.schedule.take()) is not None:
            try:
                self.forward(entry, poster)
            except redis.RedisError as error:
                self.failed(f"{entry.id.decode()} waits: Redis: {error}")
                self.schedule.again(entry, RETRY[0] * random.uniform(1, 5), failed=False)
            except Exception as error:    # a fault of this program must not end a thread
                say(entry.id.decode(), f"waits: {type(error).__name__}")
                self.schedule.again(entry, LONGEST)
        poster.close()

    def forward(self, entry, poster):
        text = entry.text
        if text is None:
            # Redis counts the tries, so they survive this program.
            claimed = self.client.xclaim(STREAM, GROUP, NAME, 0, [entry.id], retrycount=entry.tries + 1, justid=True)
            found = self.client.xrange(STREAM, entry.id, entry.id)
            if not found:
                self.client.xack(STREAM, GROUP, entry.id)
                self.lost(entry.id)
            if not found or not claimed:    # another instance has settled it
                return self.schedule.done(entry)
            text = found[0][1].get(b"message", b"")
        entry.tries += 1

        if entry.name is None:
            return self.bury(entry, text, "it is no message")

        after = None
        try:
            status, after = poster.post(entry.name, text)
            if 200 <= status < 300:
                self.until_done(lambda: self.client.xack(STREAM, GROUP, entry.id))
                return self.schedule.done(entry)
            why = f"answered {status}"
        except (OSError, http.client.HTTPException) as error:
            why = reason(error)

        if entry.tries >= TRIES:
            return self.bury(entry, text, why)
        seconds = delay(entry.tries, after)
        self.schedule.again(entry, seconds)
        self.failed(f"{entry.id.decode()} failed, try {entry.tries}: {why}; again in {seconds:.0f} s")

    def until_done(self, work):
        """Retries XACK: a message that the endpoint has accepted should not be sent
        again because Redis was unreachable for a moment."""
        until = time.monotonic() + CLAIM
        while True:
            try:
                return work()
            except redis.RedisError as error:
                if time.monotonic() > min(until, (self.stopped_at or until) + 5) or is_refused(error):
                    raise
                self.failed(f"Redis: {error}")
                time.sleep(RETRY[0])

    def bury(self, entry, text, why):
        """Moves it to the dead letters. In this order, and in no MULTI: that would
        acknowledge it also if XADD fails."""
        fields = {"message": text, "id": entry.id, "group": GROUP, "tries": entry.tries, "why": why}
        try:
            self.until_done(lambda: self.client.xadd(DEAD, fields, maxlen=DEAD_MANY, approximate=True))
        except redis.RedisError as error:
            say(entry.id.decode(), f"cannot be moved to {DEAD}: {error}")
            return self.schedule.again(entry, LONGEST)
        self.until_done(lambda: self.client.xack(STREAM, GROUP, entry.id))
        self.schedule.done(entry)
        say(entry.id.decode(), f"was moved to {DEAD} after {entry.tries} tries: {why}")

    def failed(self, line):
        """At most one line per second: all messages fail while the endpoint is down."""
        if time.monotonic() < self.said + 1:
            self.unsaid += 1
            return
        more, self.unsaid, self.said = self.unsaid, 0, time.monotonic()
        say(line + (f" ({more} more failures before)" if more else ""))


def is_refused(error):
    """Whether the error is permanent, so that a retry would fail as well."""
    return isinstance(error, redis.exceptions.NoPermissionError) or str(error).startswith("WRONGTYPE")


def pages(ids, size):
    ids = list(ids)
    return (ids[n:n + size] for n in range(0, len(ids), size))


def main():
    try:
        forwarder = Forwarder()
        forwarder.client.connection_pool.make_connection()    # has the options that the URL may have
    except (ValueError, TypeError):
        fail("REDIS_URL must be a URL that begins with redis:// or rediss://, with options of redis-py only")
    for signum in signal.SIGTERM, signal.SIGINT:
        signal.signal(signum, forwarder.stop)
    forwarder.run()


if __name__ == "__main__":
    main()
