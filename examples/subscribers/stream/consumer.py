"""Works off the messages of a Redis Stream, and misses none.

    python3 consumer.py [NAME]

Several consumers of different names share the work; NAME is the name of the
host if it is not given. A consumer that is started again must have the name that
it had: it goes on with what it had not finished.

    REDIS_URL   which Redis, redis://127.0.0.1:6379 if it is not set
    DATABASE    the file that the work is recorded in, calls.sqlite3
    CLAIM       seconds after which the work of another consumer counts as
                abandoned, and failed work is tried again, 60

nginx fills the stream: "vaani_stream vaani:stream maxlen=100000;". Needs
redis-py 4.3 or newer: "python3-redis" of Debian, or "pip install redis".
"""

import json
import os
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

COUNT = 10     # messages that are taken at a time
TRIES = 5      # after that a message is put aside
RETRY = 1      # seconds until the next attempt to reach Redis


class Work:
    """What is done with the messages. Here, they are recorded in a database.

    A message can come again: the consumer may die after the work and before
    Redis knows of it. So the work and the note that it is done are one
    transaction. What cannot be undone, such as a mail, belongs behind it: read
    the table, send, mark the row.
    """

    def __init__(self, path):
        self.db = sqlite3.connect(path, timeout=30, isolation_level=None)
        self.db.executescript("""
            CREATE TABLE IF NOT EXISTS transitions (
                key TEXT, seq INTEGER, event TEXT, received_at INTEGER,
                room_name TEXT, status TEXT, payload TEXT,
                PRIMARY KEY (key, seq, event, received_at)
            );
            CREATE TABLE IF NOT EXISTS dead_letters (
                id TEXT PRIMARY KEY, message TEXT, tries INTEGER, error TEXT
            );
        """)

    def do(self, text):
        """Raises an exception if it fails; it is tried again then."""
        message = json.loads(text)

        # A transition is known by key and seq. The event and its time tell those
        # apart that have the same: of kinds that the module does not know, which
        # do not count, and of a call that Redis has lost, which begins at 1 again.
        self.db.execute(
            "INSERT INTO transitions VALUES (?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (key, seq, event, received_at) DO NOTHING",
            (message["key"], message.get("seq", 0), message["event"], message["received_at"],
             message["room_name"], message.get("status"), json.dumps(message["payload"])),
        )

    def put_aside(self, id, text, tries, error):
        self.db.execute(
            "INSERT INTO dead_letters VALUES (?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
            (id, text, tries, error),
        )


class Consumer:
    def __init__(self, client, work):
        self.client = client
        self.work = work

    def run(self):
        try:
            # From the beginning of the stream; "$" would leave out what is there.
            self.client.xgroup_create(STREAM, GROUP, "0", mkstream=True)
        except redis.ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):    # it is there
                raise

        # First what this consumer took before it ended.
        after = "0"
        while entries := self.read(after):
            self.take(entries)
            after = entries[-1][0]

        print("ready", flush=True)
        claim_at = 0.0

        while True:
            if time.monotonic() >= claim_at:
                self.claim()
                claim_at = time.monotonic() + CLAIM / 2

            # ">" are messages that no consumer has got yet.
            left = max(1, int(1000 * (claim_at - time.monotonic())))
            self.take(self.read(">", block=min(left, 5000)))

    def read(self, after, block=None):
        reply = self.client.xreadgroup(GROUP, NAME, {STREAM: after}, count=COUNT, block=block)
        return reply[0][1] if reply else []

    def claim(self):
        """Takes over what a consumer, this one included, has left undone."""
        cursor = "0-0"
        while True:
            cursor, entries, *gone = self.client.xautoclaim(
                STREAM, GROUP, NAME, int(CLAIM * 1000), start_id=cursor, count=COUNT)
            self.take(entries)
            for id in gone[0] if gone else ():    # since Redis 7, which has settled them
                self.lost(id)
            if cursor == "0-0":
                return

    def take(self, entries):
        for id, fields in entries:
            if id is None:    # Redis 6.2: gone, and found again when it is read as pending
                continue
            if not fields:
                self.lost(id)
            elif not self.attempt(id, fields.get("message", "")):
                continue    # it stays pending, and claim() finds it
            self.client.xack(STREAM, GROUP, id)

    def lost(self, id):
        """The stream is cut at maxlen: choose it for the longest time that no
        consumer runs."""
        print(id, "left the stream before it was done", file=sys.stderr, flush=True)

    def attempt(self, id, text):
        """True if the message is settled, one way or the other."""
        pending = self.client.xpending_range(STREAM, GROUP, id, id, 1)
        tries = pending[0]["times_delivered"] if pending else 1

        while True:
            try:
                if tries > TRIES:    # it had no chance to fail: it has killed us
                    self.work.put_aside(id, text, tries, "the consumer died of it")
                    return True
                self.work.do(text)
                return True
            except sqlite3.OperationalError as error:
                # The database is away or locked, which is not the message's fault.
                print(f"{DATABASE}: {error}", file=sys.stderr, flush=True)
                time.sleep(RETRY)
            except Exception as error:
                print(id, f"failed, try {tries} of {TRIES}: {error!r}", file=sys.stderr, flush=True)
                if tries < TRIES:
                    return False
                self.work.put_aside(id, text, tries, repr(error))
                return True


def main():
    # Longer than a read waits: an answer that is later than that never comes.
    client = redis.from_url(URL, decode_responses=True, socket_timeout=15)
    consumer = Consumer(client, Work(DATABASE))

    while True:
        try:
            consumer.run()
        except redis.RedisError as error:
            # Not only lost connections: after Redis was emptied, the group is gone.
            print(f"Redis: {error}", file=sys.stderr, flush=True)
            time.sleep(RETRY)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
