"""Follows the calls that nginx publishes in Redis, and keeps their state.

    python3 subscriber.py

REDIS_URL says which Redis, redis://127.0.0.1:6379 if it is not set. Needs
redis-py 4.2 or newer: "python3-redis" of Debian, or "pip install redis".
"""

import asyncio
import json
import os
import sys
from time import monotonic

import redis.asyncio as redis
from redis.exceptions import ConnectionError, RedisError

CHANNEL = "vaani:events"
LOOK = 30      # seconds between two looks at the connection and the calls
RETRY = 1      # seconds until the next attempt to connect
FINISHED = ("rejected", "no_answer", "failed", "ended")


class Calls:
    """The calls that are going on, by the keys of their hashes."""

    def __init__(self, client):
        self.client = client
        self.calls = {}

    def changed(self, call, why):
        """Put your own work here. It must not take long: Redis drops a
        subscriber that is too far behind."""
        print(call["room_name"], call["status"], f"seq {call['seq']}:", why, flush=True)

    def seq(self, key):
        return self.calls[key]["seq"] if key in self.calls else 0

    async def take(self, message):
        """One message. The next one of a call has the next seq. With any other
        one something was missed, or has been read already: the hash knows."""
        key, seq, event = message["key"], message.get("seq", 0), message["event"]

        # An event of a kind that the module does not know changes no call: it
        # has the seq of the one before, and none if there is no call.
        unknown = message.get("known") is False

        if seq != self.seq(key) + (0 if unknown else 1):
            await self.read(key)
        elif not unknown:
            call = {name: message[name] for name in ("room_name", "status", "seq")}
            self.keep(key, call, event, event == "call_postprocessing")

    async def read(self, key):
        """The state of a call as Redis has it, which is the sum of its events."""
        names = ("room_name", "status", "seq", "last_event", "postprocessed")
        room, status, seq, event, complete = await self.client.hmget(key, names)

        if seq is not None and int(seq) != self.seq(key):
            call = {"room_name": room, "status": status, "seq": int(seq)}
            self.keep(key, call, f"{event}, read again", complete)
        elif seq is None or status in FINISHED:    # expired, or nothing comes any more
            self.calls.pop(key, None)

    async def read_all(self):
        """A missed last event of a call leaves no gap."""
        for key in list(self.calls):
            await self.read(key)

    def keep(self, key, call, why, complete):
        self.calls[key] = call
        self.changed(call, why)
        if complete:    # an event that comes even later is read from the hash
            del self.calls[key]


async def follow(client, calls):
    async with client.pubsub() as pubsub:
        await pubsub.subscribe(CHANNEL)
        heard, look = True, monotonic() + LOOK

        while True:
            item = await pubsub.get_message(timeout=max(0, look - monotonic()))
            heard = heard or item is not None

            if item and item["type"] == "subscribe":
                # From now on messages come. What came before is in the hashes.
                print("following", CHANNEL, flush=True)
                await calls.read_all()
            elif item and item["type"] == "message":
                await calls.take(json.loads(item["data"]))

            if monotonic() >= look:
                if not heard:    # a connection can be dead without being closed
                    raise ConnectionError("no answer")
                await pubsub.ping()
                await calls.read_all()
                heard, look = False, monotonic() + LOOK


async def main():
    url = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379")
    client = redis.from_url(url, decode_responses=True, socket_timeout=10)
    calls = Calls(client)

    while True:
        try:
            await follow(client, calls)
        except (RedisError, OSError) as error:
            print(f"Redis: {error}", file=sys.stderr, flush=True)
            await asyncio.sleep(RETRY)


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except (KeyboardInterrupt, asyncio.CancelledError):
        pass
