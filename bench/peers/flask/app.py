"""The webhook endpoint as a program of Flask, as Vaani's documentation has it,
with redis-py and the module's own script.  Reads the table of events of
../events.json.

json takes a key that occurs twice; looking for that is left out.
"""

import base64
import hashlib
import itertools
import json
import math
import os
import random
import re
import time

import redis
from flask import Flask, Response, request

TTL = 7 * 24 * 3600 * 1000
MAX_INT = 2**53 - 1
TITLES = {
    400: "Bad Request",
    405: "Method Not Allowed",
    415: "Unsupported Media Type",
    422: "Unprocessable Content",
    503: "Service Unavailable",
}
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
JSON_TYPE = re.compile(r"application/(?:[^/]+\+)?json")

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
count = itertools.count(random.randrange(2**40))


class Problem(Exception):
    def __init__(self, status, detail, field=None):
        super().__init__(detail)
        self.status = status
        self.field = field


def no_constant(name):
    raise ValueError(name)


decoder = json.JSONDecoder(parse_constant=no_constant)


def digest(data):
    return base64url(hashlib.sha1(data).digest()[:16])


def nonce():
    return base64url(next(count).to_bytes(6, "little"))


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def digits(*numbers):
    return "".join(chr(48 + number) for number in numbers)


def milliseconds(value, factor):
    if type(value) not in (int, float) or not 0 <= value < math.inf:
        return None
    return min(math.floor(value * factor + 0.5), MAX_INT)


def read_fields(row, body):
    """What goes to the hash, and the status and the duration of the event."""
    pairs = []
    status = row["status"]
    outbound = row.get("outbound", False)
    duration = None

    for field in row["fields"]:
        name, kind = field["name"], field["type"]
        value = body.get(name)
        wrong = Problem(422, f"{name} is wrong", name)

        if value is None:
            if field.get("required"):
                raise wrong

        elif kind in ("seconds", "milliseconds"):
            duration = milliseconds(value, 1000 if kind == "seconds" else 1)
            if duration is None:
                raise wrong

        elif kind == "object":
            if not isinstance(value, dict):
                raise wrong
            pairs += field["field"], json.dumps(
                value, ensure_ascii=False, separators=(",", ":")
            )

        elif not isinstance(value, str):
            raise wrong

        elif kind == "const_status":
            if value != row["status"]:
                raise wrong

        elif kind == "status":
            if value:
                status = value
                outbound = outbound or value == "dialing"

        else:
            pairs += field["field"], value

    if outbound:
        pairs += "direction", "outbound"
    if row.get("postprocessed"):
        pairs += "postprocessed", 1

    return pairs, status, duration


def check_headers():
    if request.headers.get("Content-Type") is not None and (
        not JSON_TYPE.fullmatch(request.mimetype)
        or request.mimetype_params.get("charset", "utf-8").lower() != "utf-8"
    ):
        raise Problem(415, "the media type must be application/json")

    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Problem(415, "the body must not have a content coding")


def transition_args(data):
    try:
        text = data.decode("utf-8")
        body = decoder.decode(text)
    except (ValueError, RecursionError):
        raise Problem(400, "the body must be JSON") from None

    if not isinstance(body, dict):
        raise Problem(422, "the body must be a JSON object", "")

    event, room = body.get("event"), body.get("room_name")

    if not isinstance(event, str):
        raise Problem(422, "event must be a string", "event")

    if (
        not isinstance(room, str)
        or not 1 <= len(room.encode("utf-8", "surrogatepass")) <= 256
        or CONTROL.search(room)
    ):
        raise Problem(422, "room_name is wrong", "room_name")

    key = f"vaani:call:{room}"
    received_at = int(time.time() * 1000)
    quoted = json.dumps(room, ensure_ascii=False)

    args = [
        "0",
        event,
        received_at,
        TTL,
        f'"event":{json.dumps(event, ensure_ascii=False)},"room_name":{quoted},',
        f'"received_at":{received_at},'
        f'"key":{json.dumps(key, ensure_ascii=False)},"payload":',
        data,
    ]

    row = EVENTS.get(event)

    if row:
        pairs, status, duration = read_fields(row, body)
        delivery = request.headers.get("Webhook-Id")
        outcome = row.get("outcome")

        args[0] = (
            digits(row["position"], STATUS_RANK.get(status, 1))
            + digits(OUTCOME_RANK.get(outcome, 0))
            + row.get("transfer", "0")[0]
            + digits(delivery is not None, duration is not None)
            + digits(len(pairs) // 2, received_at < since)
            + digits(*divmod(len(room.encode()), 64))
        )
        args += (
            status,
            since,
            digest(data),
            digest(delivery.encode()) if delivery else nonce(),
        )

        if outcome:
            args.append(outcome)
        if duration is not None:
            args.append(duration)

        args += pairs

    args += "vaani:events", f"vaani:room:{room}"

    return [key], args


@app.route("/vaani/webhook", methods=["POST"])
def handle_webhook():
    check_headers()
    keys, args = transition_args(request.get_data())

    try:
        reply = transition(keys=keys, args=args)
    except redis.RedisError as error:
        app.logger.error("Redis: %s", error)
        raise Problem(503, "the event could not be stored") from None

    return Response(
        '{"status":"duplicate"}' if reply == 0 else '{"status":"ok"}',
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
