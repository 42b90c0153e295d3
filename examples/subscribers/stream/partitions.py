"""Processes the partitioned streams of a Redis Cluster, and misses no message.

    python3 partitions.py [NAME]

Several consumers with different names share the work; NAME is the host name by
default. If a consumer is killed or its work fails, it or another one takes over the
unfinished messages. SIGTERM and Ctrl-C end it after the messages that it has read.

    REDIS_URL   any node of the cluster, redis://127.0.0.1:6379 by default
    PARTITIONS  the number of "vaani_partitions", 256
    DATABASE    the file that records the work, partitions.sqlite3
    CLAIM       seconds after which unfinished work counts as abandoned, 60

nginx fills the streams:

    vaani_partitions 256;
    vaani_prefix     "vaani:{$vaani_partition}";
    vaani_stream     "vaani:{$vaani_partition}:stream" maxlen=100000;

Needs redis-py 4.3 or newer: "python3-redis" of Debian, or "pip install redis".
"""

import collections
import json
import logging
import os
import signal
import socket
import sqlite3
import sys
import time

import redis
from redis.cluster import RedisCluster
from redis.exceptions import RedisClusterException, RedisError, ResponseError

PARTITIONS = int(os.environ.get("PARTITIONS", 256))
STREAMS = [f"vaani:{{{n}}}:stream" for n in range(PARTITIONS)]
GROUP = "crm"
NAME = sys.argv[1] if len(sys.argv) > 1 else socket.gethostname()
URL = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379")
DATABASE = os.environ.get("DATABASE", "partitions.sqlite3")
CLAIM = float(os.environ.get("CLAIM", 60))

TRIES = 5      # after that a message is set aside
COUNT = 100    # messages of a stream at once
PAUSE = 0.2    # seconds until the next look if no stream had a message
RETRY = 1      # seconds until the next attempt to reach the cluster

SCHEMA = """
    CREATE TABLE IF NOT EXISTS transitions (
        id TEXT PRIMARY KEY, key TEXT, seq INTEGER, event TEXT, status TEXT
    );
    CREATE TABLE IF NOT EXISTS dead_letters (
        stream TEXT, id TEXT, message TEXT, PRIMARY KEY (stream, id)
    );
"""


def say(*words):
    print(*words, file=sys.stderr, flush=True)


class Work:
    """The work on the messages. Here, they are recorded.

    A message can come again: the consumer may die after the work and before
    Redis knows of it. The "id" of a message is the same whenever it comes.
    """

    def __init__(self, path):
        self.db = sqlite3.connect(path, timeout=10, isolation_level=None)
        self.db.executescript(SCHEMA)

    def do(self, message):
        """Raises an exception if it fails; the message is retried then."""
        self.db.execute(
            "INSERT INTO transitions VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (message["id"], message.get("key"), message.get("seq"), message["event"], message.get("status")),
        )

    def put_aside(self, stream, id, text):
        self.db.execute("INSERT INTO dead_letters VALUES (?, ?, ?) ON CONFLICT DO NOTHING", (stream, id, text))


class Consumer:
    def __init__(self, client, work):
        self.client = client
        self.work = work
        self.stopped = False
        self.moved = False    # a node has answered that it does not have a stream

    def stop(self, signum, frame):
        self.stopped = True
        signal.signal(signum, signal.SIG_DFL)    # the next one ends it at once

    def run(self):
        """Returns after stop()."""
        for stream in STREAMS:
            self.create(stream)

        print("ready", flush=True)
        claim_at = 0.0

        while not self.stopped:
            if time.monotonic() >= claim_at:
                self.claim()
                claim_at = time.monotonic() + CLAIM / 2

            if not self.take(self.read()):
                time.sleep(PAUSE)

    def create(self, stream):
        try:
            # From the beginning of the stream; "$" would leave out what is there.
            self.client.xgroup_create(stream, GROUP, "0", mkstream=True)
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):    # it exists
                raise

    def read(self):
        """{stream: entries}, of messages that no consumer has read yet."""
        replies = self.ask(lambda pipeline, stream: pipeline.xreadgroup(GROUP, NAME, {stream: ">"}, count=COUNT))
        return {stream: reply[0][1] for stream, reply in replies.items()}

    def ask(self, command):
        """{stream: reply} of a command for each stream. One command cannot be about
        several slots, and one that waits would hold up the others: each node gets
        those of its streams, all at once. Empty replies are left out."""
        nodes = collections.defaultdict(list)
        for stream in STREAMS:
            nodes[self.client.get_node_from_key(stream).name].append(stream)

        found = {}
        for name, streams in nodes.items():
            node = self.client.get_node(node_name=name)
            pipeline = self.client.get_redis_connection(node).pipeline(transaction=False)
            for stream in streams:
                command(pipeline, stream)

            for stream, reply in zip(streams, pipeline.execute(raise_on_error=False)):
                if isinstance(reply, Exception):
                    self.refused(stream, reply)
                elif reply:
                    found[stream] = reply

        if self.moved:
            self.moved = False
            self.client.nodes_manager.initialize()    # CLUSTER SLOTS
        return found

    def refused(self, stream, error):
        if isinstance(error, redis.exceptions.AskError):
            # MOVED, or ASK while the slot is moving: other streams continue.
            self.moved = True
        elif str(error).startswith("NOGROUP"):    # Redis has lost the stream
            self.create(stream)
        else:
            raise error

    def claim(self):
        """Takes over unfinished messages of all consumers, including this one. Redis
        counts the deliveries of a message, also of one that kills the process."""
        idle = int(1000 * CLAIM)
        pending = self.ask(lambda pipeline, stream: pipeline.xpending_range(stream, GROUP, "-", "+", COUNT, idle=idle))

        for stream, listed in pending.items():
            for entry in listed:
                if self.stopped:
                    return
                id, tries = entry["message_id"], entry["times_delivered"]
                entries = self.client.xclaim(stream, GROUP, NAME, idle, [id])
                if entries and tries >= TRIES:
                    self.work.put_aside(stream, id, json.dumps(entries[0][1]))
                    self.client.xack(stream, GROUP, id)
                    continue
                try:
                    self.take({stream: entries})
                except sqlite3.OperationalError:
                    self.client.xclaim(stream, GROUP, NAME, 0, [id], retrycount=tries)
                    raise

    def take(self, found):
        """The number of messages. Those that fail stay pending, and claim() finds
        them; later messages are not delayed."""
        for stream, entries in found.items():
            done = []
            for id, fields in entries:
                try:
                    if fields:    # else it left the stream, see "maxlen"
                        self.work.do(json.loads(fields["message"]))
                    done.append(id)
                except sqlite3.OperationalError:    # locked, full: not due to the message
                    raise
                except Exception as error:
                    say(stream, id, f"failed: {type(error).__name__}: {error}")
            if done:
                self.client.xack(stream, GROUP, *done)
        return sum(map(len, found.values()))


def main():
    logging.getLogger("redis").setLevel(logging.CRITICAL)    # it logs each redirection, with a traceback
    work = Work(DATABASE)
    consumer = None
    stopped = False

    while not stopped:
        try:
            # Replies that are not UTF-8 are not from nginx.
            client = RedisCluster.from_url(URL, decode_responses=True, encoding_errors="replace", socket_timeout=10)
            consumer = Consumer(client, work)
            for number in signal.SIGTERM, signal.SIGINT:
                signal.signal(number, consumer.stop)
            consumer.run()
            stopped = True
        except (RedisError, RedisClusterException, sqlite3.OperationalError) as error:
            # A lost connection, a failover: ask the cluster for its slots again.
            say(f"{type(error).__name__}: {error}")
            stopped = consumer is not None and consumer.stopped
            time.sleep(RETRY)


if __name__ == "__main__":
    main()
