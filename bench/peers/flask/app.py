"""The webhook endpoint as a program of Flask, as Vaani's documentation has it,
with redis-py and the module's own script.  Reads the table of events of
../events.json.

What is left out is in docs/performance.md, "How it is measured".
"""

import base64
import hashlib
import json
import math
import os
import re
import string
import time
import uuid
from datetime import datetime, timedelta, timezone

import redis
from flask import Flask, Response, request

TTL = 7 * 24 * 3600 * 1000
PERIOD = TTL // 100
BODY_DIGEST = 8
MAX_INT = 2**53 - 1
MAX_NAME = 256
DIGEST_BYTES = 16
SPAN_SLACK = 5000
SHORTEST_CALL = 1000
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
MILLISECOND = timedelta(milliseconds=1)
BASE64URL = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"

# Durations, sources of numbers and reasons, directions and their sources, as the
# script has them.
ENDED, KNOWN, OPEN = 1, 2, 3
EMPTY, POSTPROCESSING, CALL = 1, 2, 3
INBOUND, OUTBOUND, WEB = 1, 2, 3
BY_EVENT, BY_CALL_TYPE, BY_ROOM = 1, 2, 3

PREFIXES = {"inbound-": INBOUND, "outbound-": OUTBOUND, "webrtc-": WEB}
CALL_TYPES = {"inbound": INBOUND, "outbound": OUTBOUND, "web": WEB}

TITLES = {
    400: "Bad Request",
    405: "Method Not Allowed",
    415: "Unsupported Media Type",
    422: "Unprocessable Content",
    503: "Service Unavailable",
}
UNUSABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
LONE_SURROGATE = re.compile("[\ud800-\udfff]")
JSON_TYPE = re.compile(r"(?:application/(?:[^/]+\+)?|text/)json")
CHARSETS = {"utf-8", "utf8", "us-ascii", "ascii"}
CODINGS = {"", "identity", "none", "utf-8"}

with open(os.environ["BENCH_TABLE"], encoding="utf-8") as file:
    TABLE = json.load(file)

EVENTS = TABLE["events"]
STATUS_RANK = {name: rank for rank, name in enumerate(TABLE["statuses"], 1)}
OUTCOME_RANK = {name: rank for rank, name in enumerate(TABLE["outcomes"], 1)}

app = Flask(__name__)
app.config["MAX_CONTENT_LENGTH"] = 8 * 1024 * 1024

client = redis.Redis(unix_socket_path=os.environ["BENCH_REDIS"])

with open(os.environ["BENCH_SCRIPT"], encoding="utf-8") as file:
    transition = client.register_script(file.read())

since = int(time.time() * 1000)


class Problem(Exception):
    def __init__(self, status, detail, field=None):
        super().__init__(detail)
        self.status = status
        self.field = field


class Event:
    def __init__(self, name, room, row):
        self.name, self.room, self.row = name, room, row
        self.status = row and row["status"]
        self.pairs = []
        self.times = {}
        self.direction = self.direction_source = 0
        self.timed = self.ms = self.if_seconds = self.span = 0
        self.number = self.reason = self.sender = ""
        self.number_source = self.reason_source = 0


def no_constant(name):
    raise ValueError(name)


decoder = json.JSONDecoder(parse_constant=no_constant)


def quoted(text):
    return json.dumps(text, ensure_ascii=False)


def text_of(value):
    if isinstance(value, str):
        return value
    if type(value) in (int, float):
        return json.dumps(value)
    return None


def number_of(value):
    if isinstance(value, str):
        try:
            value = decoder.decode(value)
        except ValueError:
            return None
    if type(value) not in (int, float) or not 0 <= value < math.inf:
        return None
    return value


def integer(number):
    return min(math.floor(number + 0.5), MAX_INT)


def time_of(text):
    try:
        sent = datetime.fromisoformat(text)
    except ValueError:
        return None
    if sent.tzinfo is None:
        sent = sent.replace(tzinfo=timezone.utc)
    return (sent - EPOCH) // MILLISECOND


def read_room(body, data):
    for name in ("room_name", "call_id"):
        for place in (body, data):
            room = text_of(place.get(name))
            if room and not UNUSABLE.search(room) and len(room.encode()) <= MAX_NAME:
                return room
    return None


def source_of(row, text):
    if text == "":
        return EMPTY
    return POSTPROCESSING if row.get("postprocessed") else CALL


def settle(event):
    """The unit of call_postprocessing's duration, as far as the span tells."""
    ms, if_seconds, span = event.ms, event.if_seconds, event.span
    limit = span + span // 10 + SPAN_SLACK

    if not span:
        return

    event.timed = KNOWN

    if ms > limit and if_seconds > limit:
        event.timed = 0

    elif ms > limit:
        event.ms = if_seconds

    elif if_seconds <= limit:
        nearer = span * span - ms * if_seconds
        if nearer > 0 or nearer == 0 and ms < SHORTEST_CALL:
            event.ms = if_seconds


def read_field(event, field, value):
    """A field of another type is converted where that is plain, else left out."""
    name, kind = field["name"], field["type"]

    if kind == "object":
        if isinstance(value, dict):
            event.pairs += field["field"], json.dumps(
                value, ensure_ascii=False, separators=(",", ":")
            )
        return

    if kind in ("seconds", "duration"):
        number = number_of(value)
        if number is None:
            return
        event.if_seconds = integer(number * 1000)
        if kind == "seconds":
            event.ms, event.timed = event.if_seconds, ENDED
        else:
            event.ms, event.timed = integer(number), OPEN
        return

    text = text_of(value)

    if text is None:
        return

    if kind == "status":
        if text:
            event.status = text
        if text == "dialing" and event.direction_source < BY_EVENT:
            event.direction, event.direction_source = OUTBOUND, BY_EVENT

    elif kind == "time":
        sent = time_of(text)
        if sent is not None and sent >= 0:
            event.times[name] = sent
            event.pairs += field["field"], sent

    elif kind == "number":
        event.number, event.number_source = text, source_of(event.row, text)

    elif kind == "reason":
        event.reason, event.reason_source = text, source_of(event.row, text)

    elif kind == "from":
        event.sender = text

    elif kind == "call_type":
        text = text.lower()
        for word, direction in CALL_TYPES.items():
            if event.direction_source < BY_CALL_TYPE and word in text:
                event.direction, event.direction_source = direction, BY_CALL_TYPE

    else:
        event.pairs += field["field"], text


def read_fields(event, body, data):
    row = event.row

    for field in row["fields"]:
        value = data.get(field["name"])
        if value is None:
            value = body.get(field["name"])
        if value is not None:
            read_field(event, field, value)

    if not row.get("postprocessed"):
        return

    event.pairs += "postprocessed", 1

    if (
        event.sender
        and event.number_source < POSTPROCESSING
        and event.direction in (INBOUND, WEB)
    ):
        event.number, event.number_source = event.sender, POSTPROCESSING

    begin = event.times.get("picked_up_at") or event.times.get("call_started_at")
    ended = event.times.get("call_ended_at")

    if begin and ended and ended > begin:
        event.span = ended - begin
    if event.timed == OPEN:
        settle(event)


def read_event(data):
    try:
        body = decoder.decode(data.decode("utf-8"))
    except (ValueError, RecursionError):
        raise Problem(400, "the body must be JSON") from None

    if not isinstance(body, dict):
        raise Problem(422, "the body must be a JSON object", "")

    name = body.get("event")

    if (
        not isinstance(name, str)
        or LONE_SURROGATE.search(name)
        or len(name.encode()) > MAX_NAME
    ):
        raise Problem(422, "event must be a string", "event")

    inner = body.get("data")
    inner = inner if isinstance(inner, dict) else {}
    event = Event(name, read_room(body, inner), EVENTS.get(name))

    if event.row is None:
        return event

    if event.room is None:
        raise Problem(422, "room_name is required", "room_name")

    for prefix, direction in PREFIXES.items():
        if event.room.startswith(prefix):
            event.direction, event.direction_source = direction, BY_ROOM

    if event.row.get("outbound") and event.direction_source == 0:
        event.direction, event.direction_source = OUTBOUND, BY_EVENT

    read_fields(event, body, inner)

    return event


def digest(data):
    data = hashlib.sha1(data).digest()[:DIGEST_BYTES]
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def digits(*numbers):
    return "".join(chr(48 + number) for number in numbers)


def period_of(received_at):
    """What tells a period of the expiry from others soon before or after it."""
    period = received_at // PERIOD
    return "".join(BASE64URL[period >> shift & 63] for shift in (12, 6, 0))


def transition_args(event, data, delivery):
    """KEYS and ARGV as the head of transition.lua has them."""
    name, room, row = event.name, event.room, event.row
    key = f"vaani:call:{room or ''}"
    received_at = int(time.time() * 1000)
    named = "" if room is None else f',"room_name":{quoted(room)}'
    keyed = "" if room is None else f',"key":{quoted(key)}'

    args = [
        "0",
        f'"id":{quoted(delivery or uuid.uuid4().hex)},"event":{quoted(name)}{named},',
        f'"received_at":{received_at}{keyed},"payload":',
        data.replace(b"\r", b" ").replace(b"\n", b" "),
    ]

    if row:
        rank = STATUS_RANK.get(event.status)

        args[0] = (
            digits(
                row["position"],
                rank or 1,
                OUTCOME_RANK.get(row.get("outcome"), 0),
            )
            + row.get("transfer", "0")[0]
            + digits(
                bool(delivery),
                event.timed,
                event.span > 0,
                len(event.pairs) // 2,
                received_at < since,
                *divmod(len(room.encode()), 64),
                event.direction,
                event.direction_source,
                event.number_source,
                event.reason_source,
                rank is None,
                len(str(received_at)),
                len(name),
            )
            + period_of(received_at)
            + row["code"]
            + digest(data)[:BODY_DIGEST].decode()
            + f"{since:013}{received_at}{name}{TTL + PERIOD}"
        )

        if rank is None:
            args.append(event.status)
        if delivery:
            args.append(digest(delivery.encode()))
        if event.timed:
            args.append(event.ms)
        if event.timed == OPEN:
            args.append(event.if_seconds)
        if event.span:
            args.append(event.span)
        if event.number_source:
            args.append(event.number)
        if event.reason_source:
            args.append(event.reason)

        args += event.pairs

    args.append("vaani:events")
    if room is not None:
        args.append(f"vaani:room:{room}")

    return [key], args


def check_headers():
    headers = request.headers

    if headers.get("Content-Type") and (
        not JSON_TYPE.fullmatch(request.mimetype)
        or request.mimetype_params.get("charset", "utf-8").lower() not in CHARSETS
    ):
        raise Problem(415, "the media type must be application/json")

    if headers.get("Content-Encoding", "").lower() not in CODINGS:
        raise Problem(415, "the body must not have a content coding")


@app.route("/vaani/webhook", methods=["POST"])
def handle_webhook():
    check_headers()
    data = request.get_data()
    event = read_event(data)
    keys, args = transition_args(event, data, request.headers.get("Webhook-Id"))

    try:
        reply = transition(keys=keys, args=args)
    except redis.RedisError as error:
        app.logger.error("Redis: %s", error)
        raise Problem(503, "the event could not be stored") from None

    if isinstance(reply, list):
        reply = reply[0]

    return Response(
        '{"status":"duplicate"}\n'
        if reply == 0
        else '{"status":"ok","known":false}\n'
        if reply == -1
        else '{"status":"ok"}\n',
        mimetype="application/json",
    )


@app.errorhandler(Problem)
def answer_problem(problem):
    document = {
        "type": "about:blank",
        "title": TITLES[problem.status],
        "status": problem.status,
        "detail": str(problem),
    }
    if problem.field is not None:
        document["field"] = f"/{problem.field}"

    headers = {"Retry-After": "1"} if problem.status == 503 else None

    return Response(
        json.dumps(document), problem.status, headers,
        mimetype="application/problem+json",
    )
