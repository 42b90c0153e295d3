"""Follows the calls that nginx publishes in Redis, and keeps their state.

    python3 subscriber.py

REDIS_URL is the Redis, redis://127.0.0.1:6379 by default; LOOK is the time between
two checks of the connection and the calls, 30 s. Needs redis-py 4.2 or newer:
"python3-redis" of Debian, or "pip install redis".
"""

import asyncio
import json
import os
import sys
from time import monotonic

import redis.asyncio as redis
from redis.exceptions import ConnectionError, RedisError, ResponseError, TimeoutError

CHANNEL = "vaani:events"
CALL = "vaani:call:"        # and the room: the hash of a call
ACTIVE = "vaani:active"     # rooms of the active calls, and of all: "vaani_index on;"
ALL = "vaani:calls"
PAGE = 500                  # rooms at once
LOOK = float(os.environ.get("LOOK", 30))
RETRY = 1      # seconds until the next attempt to connect
FINISHED = ("rejected", "no_answer", "failed", "ended")

# The interesting fields of a call that is over. The hash has one form. The payload
# of a message has the form in which Vaani sent it, or is null with "vaani_payload".
DETAILS = ("room_name", "direction", "outcome", "call_duration_ms", "dispositions", "transcript")


class Calls:
    """The active calls, by the keys of their hashes."""

    def __init__(self, client):
        self.client = client
        self.calls = {}
        self.indexed = None    # not known yet

    def changed(self, call, why):
        """Put your own work here. It must not take long: Redis drops a
        subscriber that is too far behind."""
        print(call["room_name"], call["status"], f"seq {call['seq']}:", why, flush=True)

    def over(self, room, direction, outcome, ms, dispositions, transcript):
        """And here: the call is complete. A missing field is None."""
        words = transcript and f"a transcript of {len(transcript.split())} words"
        known = (direction, outcome, ms and f"{ms} ms", dispositions, words)
        print(room, "is over:", ", ".join(value for value in known if value), flush=True)

    def seq(self, key):
        return self.calls[key]["seq"] if key in self.calls else 0

    async def take(self, text):
        """One message. The next one of a call has the next seq. Any other seq
        means that a message was missed, or was read already: read the hash."""
        message = json.loads(text)
        key, seq, event = message.get("key"), message.get("seq", 0), message["event"]

        if key is None:    # an event that the module does not know may belong to no call
            return

        # An event of a kind that the module does not know changes no call: it
        # has the seq of the one before, and none if there is no call.
        unknown = message.get("known") is False

        if seq != self.seq(key) + (0 if unknown else 1):
            await self.read(key)
        elif not unknown:
            call = {name: message[name] for name in ("room_name", "status", "seq")}
            await self.keep(key, call, event, event == "call_postprocessing")

        if self.indexed is None and not unknown:
            await self.look_for_index()

    async def read(self, key, active=False):
        """The state of a call in Redis, which is the sum of its events."""
        names = ("room_name", "status", "seq", "last_event", "postprocessed")
        room, status, seq, event, complete = await self.client.hmget(key, names)

        if active and status in FINISHED:    # it has ended since the index was read
            return

        # After Redis has lost its latest data, a seq can come again with another event.
        if seq is not None and (int(seq) != self.seq(key) or status != self.calls[key]["status"]):
            call = {"room_name": room, "status": status, "seq": int(seq)}
            await self.keep(key, call, f"{event}, read again", complete)
        elif seq is None or status in FINISHED:    # expired, or no more events
            self.calls.pop(key, None)

    async def read_all(self):
        """A missed last event of a call leaves no gap. Calls that began before
        this program did, or while it was not connected, are in the index."""
        for key in list(self.calls):
            await attempt(self.read(key))
        try:
            async for room in rooms(self.client, ACTIVE):
                if CALL + room not in self.calls:
                    await attempt(self.read(CALL + room, active=True))
        except ResponseError as error:
            self.no_index(error)

    async def look_for_index(self):
        """Once, after the first transition: if nginx keeps an index, it has
        entered the call there before it published."""
        try:
            if await self.client.zrange(ALL, 0, 0):
                self.indexed = True
            else:
                self.no_index(f"{ALL} is empty")
        except ResponseError as error:
            self.no_index(error)

    def no_index(self, why):
        if self.indexed is not False:
            print(f'no index ({why}): calls appear with their next event until nginx has "vaani_index on;"',
                  file=sys.stderr, flush=True)
        self.indexed = False

    async def keep(self, key, call, why, complete):
        self.calls[key] = call
        self.changed(call, why)
        if complete:    # an event that comes even later is read from the hash
            del self.calls[key]
            self.over(*await self.client.hmget(key, DETAILS))


async def rooms(client, index):
    """The rooms of a sorted set, oldest first. Each page begins with the score of
    the last room, and not at its rank: calls that end meanwhile change the ranks."""
    start, ties = "-inf", 0
    while True:
        page = await client.zrange(index, start, "+inf", byscore=True, offset=0, num=PAGE + ties, withscores=True)
        for room, score in page:
            yield room
        if len(page) < PAGE + ties:
            return
        start = page[-1][1]
        ties = sum(score == start for room, score in page)


async def attempt(work):
    """A message that is not from nginx, or a key that is not a call, is reported,
    and the program continues. A lost connection ends it."""
    try:
        await work
    except (ConnectionError, TimeoutError, OSError):
        raise
    except Exception as error:
        # not repr(error): some have a part of the message in it
        print(f"{CHANNEL}: not understood: {type(error).__name__}: {error}", file=sys.stderr, flush=True)


async def follow(client, calls):
    async with client.pubsub() as pubsub:
        await pubsub.subscribe(CHANNEL)
        heard, look = True, monotonic() + LOOK

        while True:
            item = await pubsub.get_message(timeout=max(0, look - monotonic()))
            heard = heard or item is not None

            if item and item["type"] == "subscribe":
                # Messages arrive from now on. Earlier ones are in the hashes.
                print("following", CHANNEL, flush=True)
                await calls.read_all()
            elif item and item["type"] == "message":
                await attempt(calls.take(item["data"]))

            if monotonic() >= look:
                if not heard:    # a connection can be dead without being closed
                    raise ConnectionError("no answer")
                await pubsub.ping()
                await calls.read_all()
                heard, look = False, monotonic() + LOOK


async def main():
    url = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379")
    # Any user who may publish can send bytes that are not UTF-8.
    client = redis.from_url(url, decode_responses=True, encoding_errors="replace", socket_timeout=10)
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
