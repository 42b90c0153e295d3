"""Processes the messages of a Redis Stream, and misses none.

    python3 consumer.py [NAME]

Several consumers with different names share the work; NAME is the host name by
default. A consumer that is started again with the same name continues with its
unfinished messages; it also takes over abandoned messages of others.
SIGTERM and Ctrl-C end it after the current message.

    REDIS_URL   the Redis, redis://127.0.0.1:6379 by default
    DATABASE    the file that records the work, calls.sqlite3
    CLAIM       seconds after which the work of another consumer counts as
                abandoned, and failed work is retried, 60
    FORGET      seconds after which the name of another consumer that has
                nothing pending is removed from the group, 3600

nginx fills the stream: "vaani_stream vaani:stream maxlen=100000;". Needs
redis-py 4.3 or newer: "python3-redis" of Debian, or "pip install redis".
"""

import json
import os
import signal
import socket
import sqlite3
import sys
import time

import redis

STREAM = "vaani:stream"
GROUP = "crm"
NAME = sys.argv[1] if len(sys.argv) > 1 else socket.gethostname()
URL = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379")
DATABASE = os.environ.get("DATABASE", "calls.sqlite3")
CLAIM = float(os.environ.get("CLAIM", 60))
FORGET = float(os.environ.get("FORGET", 3600))

TRIES = 5      # after that a message is set aside
RETRY = 1      # seconds until the next attempt to reach Redis or the database

# Fields of the hash of a call. They do not depend on the form of the event: the
# payload may have them in "data", as null, or not at all, and with "vaani_payload"
# the message may have no payload.
FIELDS = ("room_name", "direction", "status", "outcome", "phone_number",
          "call_duration_ms", "call_started_at", "picked_up_at", "call_ended_at",
          "recording_url", "summary", "dispositions", "updated_at", "transcript")

# Removes consumers that have nothing pending. One step, since the messages that
# a consumer takes between a look at it and its removal would be lost.
REMOVE = """
local removed = {}
for _, reply in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
    local consumer = {}
    for i = 1, #reply, 2 do
        consumer[reply[i]] = reply[i + 1]
    end
    local chosen = consumer.name == ARGV[2]
    if ARGV[3] ~= '' then
        chosen = not chosen and consumer.idle >= tonumber(ARGV[3])
    end
    if chosen and consumer.pending == 0 then
        redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], consumer.name)
        table.insert(removed, consumer.name)
    end
end
return removed
"""


class Database:
    """The file that records the work. Any failure here may raise an exception: the
    message is retried, see is_away()."""

    SCHEMA = ""
    DEAD_LETTERS = """
        CREATE TABLE IF NOT EXISTS dead_letters (
            id TEXT PRIMARY KEY, message TEXT, tries INTEGER, error TEXT
        );
    """

    def __init__(self, path):
        self.path = path
        self.db = None

    def open(self):
        if self.db is None:
            self.db = sqlite3.connect(self.path, timeout=2, isolation_level=None)
            self.upgrade()
            self.db.executescript(self.SCHEMA + self.DEAD_LETTERS)
        return self.db

    def upgrade(self):
        pass

    def close(self):
        if self.db is not None:
            self.db.close()
            self.db = None

    def put_aside(self, id, text, tries, error):
        self.open().execute(
            "INSERT INTO dead_letters VALUES (?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
            (id, text, tries, error),
        )


class Work(Database):
    """The work on the messages. Here, they are recorded.

    A message can come again: the consumer may die after the work and before
    Redis knows of it. Therefore the work and the note that it is done are one
    transaction. What cannot be undone, such as a mail, belongs behind it: read
    the table, send, mark the row.
    """

    SCHEMA = """
        CREATE TABLE IF NOT EXISTS transitions (
            id TEXT PRIMARY KEY, key TEXT, seq INTEGER, event TEXT,
            received_at INTEGER, room_name TEXT, status TEXT, payload TEXT
        );
        CREATE TABLE IF NOT EXISTS calls (
            key TEXT PRIMARY KEY, room_name TEXT, direction TEXT, status TEXT,
            outcome TEXT, phone_number TEXT, call_duration_ms INTEGER,
            call_started_at INTEGER, picked_up_at INTEGER, call_ended_at INTEGER,
            recording_url TEXT, summary TEXT, dispositions TEXT, updated_at INTEGER,
            transcript TEXT
        );
    """

    def upgrade(self):
        # Earlier versions of this file had another key, which took different
        # messages for the same one.
        names = self.columns("transitions")
        if names and "id" not in names:
            self.db.execute("ALTER TABLE transitions RENAME TO transitions_without_id")

        # They had the transcript only in the payload of its transition.
        names = self.columns("calls")
        if names and "transcript" not in names:
            self.db.execute("ALTER TABLE calls ADD COLUMN transcript TEXT")

    def columns(self, table):
        return [row[1] for row in self.db.execute(f"PRAGMA table_info({table})")]

    def do(self, id, message, call):
        """Raises an exception if it fails; the message is retried then.

        "id" is the same whenever the message comes. "call" is the state of the
        call now, which may be newer than the message, or None: an event that is
        not known may belong to no call, and a hash expires.
        """
        db = self.open()
        db.execute("BEGIN IMMEDIATE")
        try:
            # The message of an unknown event may lack the others.
            db.execute(
                "INSERT INTO transitions VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
                (id, message.get("key"), message.get("seq"), message["event"], message["received_at"],
                 message.get("room_name"), message.get("status"), json.dumps(message.get("payload"))),
            )
            # Another consumer may have read a later state already.
            if call is not None:
                db.execute(
                    f"INSERT INTO calls VALUES (?{', ?' * len(FIELDS)}) ON CONFLICT (key) DO UPDATE SET"
                    f" {', '.join(f'{name} = excluded.{name}' for name in FIELDS)}"
                    " WHERE excluded.updated_at >= updated_at",
                    (message["key"], *(call[name] for name in FIELDS)),
                )
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise


def is_away(error):
    """True if the database cannot work at all, whatever the message is: it is
    locked, its disk is full, or its file is damaged."""
    return isinstance(error, sqlite3.Error) and not isinstance(
        error, (sqlite3.IntegrityError, sqlite3.DataError, sqlite3.InterfaceError, sqlite3.ProgrammingError))


def say(*words):
    print(*words, file=sys.stderr, flush=True)


class Consumer:
    """Takes one message at a time. Therefore the deliveries that Redis counts are
    the attempts at this message: one that kills the process is the only one whose
    count grows. What was delivered and not tried is set back, see count()."""

    def __init__(self, client, work):
        self.client = client
        self.work = work
        self.stopped = False
        self.may_remove = True

    def stop(self, signum, frame):
        self.stopped = True
        signal.signal(signum, signal.SIG_DFL)    # the next one ends it at once

    def run(self):
        """Returns after stop()."""
        try:
            # From the beginning of the stream; "$" would leave out what is there.
            self.client.xgroup_create(STREAM, GROUP, "0", mkstream=True)
        except redis.ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):    # it exists
                raise

        # Without this command tries cannot be counted. Fail here then, before a
        # message is read.
        self.count(b"0-0", 0)

        # First the messages that this consumer read before it ended.
        after = b"0"
        while not self.stopped and (entries := self.read(after)):
            self.take(*entries[0], again=True)
            after = entries[0][0]

        print("ready", flush=True)
        claim_at = 0.0

        while not self.stopped:
            if time.monotonic() >= claim_at:
                self.claim()
                self.remove(int(1000 * FORGET))
                claim_at = time.monotonic() + CLAIM / 2

            # ">": messages that no consumer has read yet. The wait is short, since
            # a signal does not end it.
            left = max(1, int(1000 * (claim_at - time.monotonic())))
            for entry in self.read(b">", block=min(left, 1000)):
                self.take(*entry)

        self.remove("")

    def read(self, after, block=None):
        reply = self.client.xreadgroup(GROUP, NAME, {STREAM: after}, count=1, block=block)
        return reply[0][1] if reply else []

    def claim(self):
        """Takes over unfinished messages of all consumers, including this one."""
        cursor = b"0-0"
        while not self.stopped:
            cursor, entries, *gone = self.client.xautoclaim(
                STREAM, GROUP, NAME, int(CLAIM * 1000), start_id=cursor, count=1)
            for id in gone[0] if gone else ():    # since Redis 7, which has settled them
                self.lost(id)
            for id, fields in entries:
                if id is not None:    # Redis 6.2: gone, and found again when it is read as pending
                    self.take(id, fields, again=True)
            if cursor == b"0-0":
                return

    def remove(self, idle):
        """Removes the names of others that were idle for so many ms, or that of
        this consumer ("") if it has nothing pending. Each host of a new name
        would leave one."""
        try:
            if self.may_remove:
                self.client.eval(REMOVE, 1, STREAM, GROUP, NAME, idle)
        except redis.ResponseError as error:
            say(f"names of consumers are not removed: {error}")
            self.may_remove = False

    def take(self, id, fields, again=False):
        deliveries = 1
        if again:
            pending = self.client.xpending_range(STREAM, GROUP, id, id, 1)
            if not pending:    # another consumer has settled it
                return
            deliveries = pending[0]["times_delivered"]

        if not fields:
            self.lost(id)
        elif not self.attempt(id, fields.get(b"message", b""), deliveries - 1):
            return    # it stays pending, and claim() finds it
        self.client.xack(STREAM, GROUP, id)

    def lost(self, id):
        """The stream is trimmed at maxlen: choose it for the longest time that no
        consumer runs."""
        say(id.decode(), "left the stream before it was done")

    def count(self, id, tries):
        """Sets the number of tries, which is the delivery count of Redis. This also
        tells other consumers that the message is in work."""
        self.client.xclaim(STREAM, GROUP, NAME, 0, [id], retrycount=tries, justid=True)

    def call(self, message):
        """The state of the message's call as the hash has it."""
        if not isinstance(message.get("key"), str):
            return None
        try:
            values = self.client.hmget(message["key"], FIELDS)
        except redis.ResponseError as error:
            if not str(error).startswith("WRONGTYPE"):
                raise
            return None
        if values[0] is None:
            return None
        return {name: value if value is None else value.decode(errors="replace")
                for name, value in zip(FIELDS, values)}

    def attempt(self, id, text, tries):
        """True if the message is settled, one way or the other. "tries" are those
        before this one."""
        name = id.decode()
        counted = True    # by Redis, when it delivered the message
        why = "the consumer died of it" if tries >= TRIES else None

        while True:
            try:
                if why is not None:
                    # Text that is not UTF-8 is kept as it is, as a blob.
                    self.work.put_aside(name, text_or_bytes(text), tries, why)
                    return True

                if not counted:
                    self.count(id, tries + 1)
                    counted = True

                message = json.loads(text.decode())
                if tries > 0:
                    self.count(id, tries)    # an error of Redis does not count as a try
                call = self.call(message)
                if tries > 0:
                    self.count(id, tries + 1)
                self.work.do(str(message.get("id") or name), message, call)
                return True

            except redis.ResponseError as error:
                # Redis refuses to read this hash: not a try of the message.
                say(name, f"waits: {error}")
                self.count(id, tries)
                return False
            except redis.RedisError:
                raise
            except Exception as error:
                if is_away(error):
                    say(f"{DATABASE}: {error}")
                    self.work.close()
                    self.count(id, tries)
                    counted = False
                    if self.stopped:
                        return False
                    time.sleep(RETRY)
                    continue

                if why is not None:
                    say(name, f"cannot be put aside: {type(error).__name__}: {error}")
                    return False

                # Not repr(error): some have bytes of the message in it.
                tries += 1
                self.count(id, tries)
                why = f"{type(error).__name__}: {error}"
                say(name, f"failed, try {tries} of {TRIES}: {why}")
                if tries < TRIES:
                    return False


def text_or_bytes(text):
    try:
        return text.decode()
    except UnicodeDecodeError:
        return text


def main():
    # Longer than a read waits: without a reply by then, the connection is dead.
    # Replies stay bytes: other writers of the stream may not write UTF-8.
    client = redis.from_url(URL, socket_timeout=15)
    consumer = Consumer(client, Work(DATABASE))

    for number in signal.SIGTERM, signal.SIGINT:
        signal.signal(number, consumer.stop)

    while not consumer.stopped:
        try:
            consumer.run()
        except redis.RedisError as error:
            # Not only lost connections: after Redis was emptied, the group is gone.
            say(f"Redis: {error}")
            time.sleep(RETRY)


if __name__ == "__main__":
    main()
