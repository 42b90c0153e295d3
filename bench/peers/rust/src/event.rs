//! Reading a delivery, and the arguments of the module's own script.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};
use sha1::{Digest, Sha1};

use crate::redis::Command;

const TTL: u64 = 7 * 24 * 3600 * 1000;
const PERIOD: u64 = TTL / 100;
const BODY_DIGEST: usize = 8;
const BASE64URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const MAX_INT: u64 = (1 << 53) - 1;
const MAX_NAME: usize = 256;
const DIGEST_BYTES: usize = 16;
const SPAN_SLACK: u64 = 5000;
const SHORTEST_CALL: u64 = 1000;

/// Durations, sources of numbers and reasons, directions and their sources, as the
/// script has them.
const ENDED: u8 = 1;
const KNOWN: u8 = 2;
const OPEN: u8 = 3;
const EMPTY: u8 = 1;
const POSTPROCESSING: u8 = 2;
const CALL: u8 = 3;
const INBOUND: u8 = 1;
const OUTBOUND: u8 = 2;
const WEB: u8 = 3;
const BY_EVENT: u8 = 1;
const BY_CALL_TYPE: u8 = 2;
const BY_ROOM: u8 = 3;

const PREFIXES: [(&str, u8); 3] = [("inbound-", INBOUND), ("outbound-", OUTBOUND), ("webrtc-", WEB)];
const CALL_TYPES: [(&str, u8); 3] = [("inbound", INBOUND), ("outbound", OUTBOUND), ("web", WEB)];

type Object = Map<String, Value>;

pub struct Problem {
    pub status: u16,
    pub detail: &'static str,
    pub field: Option<&'static str>,
}

impl Problem {
    pub fn new(status: u16, detail: &'static str) -> Problem {
        Problem { status, detail, field: None }
    }

    fn of_field(field: &'static str, detail: &'static str) -> Problem {
        Problem { status: 422, detail, field: Some(field) }
    }
}

enum Kind {
    Text,
    Object,
    Status,
    Seconds,
    Duration,
    Time,
    Number,
    From,
    Reason,
    CallType,
}

struct Field {
    name: String,
    hash_field: String,
    kind: Kind,
}

struct Row {
    code: u8,
    position: u8,
    status: String,
    outcome: Option<String>,
    transfer: Option<String>,
    outbound: bool,
    postprocessed: bool,
    fields: Vec<Field>,
}

/// The table of events of ../events.json.
pub struct Table {
    rows: HashMap<String, Row>,
    statuses: Vec<String>,
    outcomes: Vec<String>,
    since: u64,
}

pub struct Event<'a> {
    name: &'a str,
    room: Option<Cow<'a, str>>,
    row: Option<&'a Row>,
    status: Cow<'a, str>,
    pairs: Vec<(&'a str, Cow<'a, str>)>,
    times: Vec<(&'a str, u64)>,
    direction: u8,
    direction_source: u8,
    timed: u8,
    ms: u64,
    if_seconds: u64,
    span: u64,
    number: Cow<'a, str>,
    number_source: u8,
    reason: Cow<'a, str>,
    reason_source: u8,
    from: Cow<'a, str>,
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

impl Table {
    pub fn read(path: &str) -> Table {
        let table: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();

        let strings = |value: &Value| -> Vec<String> {
            value.as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_string()).collect()
        };

        Table {
            rows: table["events"].as_object().unwrap().iter()
                .map(|(name, row)| (name.clone(), Row::read(row)))
                .collect(),
            statuses: strings(&table["statuses"]),
            outcomes: strings(&table["outcomes"]),
            since: now(),
        }
    }
}

impl Row {
    fn read(row: &Value) -> Row {
        let string = |value: &Value| value.as_str().map(str::to_string);

        Row {
            code: row["code"].as_str().unwrap().as_bytes()[0],
            position: row["position"].as_u64().unwrap() as u8,
            status: string(&row["status"]).unwrap(),
            outcome: string(&row["outcome"]),
            transfer: string(&row["transfer"]),
            outbound: row["outbound"] == true,
            postprocessed: row["postprocessed"] == true,
            fields: row["fields"].as_array().unwrap().iter()
                .map(|field| Field {
                    name: string(&field["name"]).unwrap(),
                    hash_field: string(&field["field"]).unwrap_or_default(),
                    kind: Kind::read(field["type"].as_str().unwrap()),
                })
                .collect(),
        }
    }
}

impl Kind {
    fn read(name: &str) -> Kind {
        match name {
            "text" => Kind::Text,
            "object" => Kind::Object,
            "status" => Kind::Status,
            "seconds" => Kind::Seconds,
            "duration" => Kind::Duration,
            "time" => Kind::Time,
            "number" => Kind::Number,
            "from" => Kind::From,
            "reason" => Kind::Reason,
            "call_type" => Kind::CallType,
            _ => panic!("events.json: unknown type {name}"),
        }
    }
}

fn text_of(value: &Value) -> Option<Cow<str>> {
    match value {
        Value::String(text) => Some(Cow::Borrowed(text)),
        Value::Number(number) => Some(Cow::Owned(number.to_string())),
        _ => None,
    }
}

fn number_of(value: &Value) -> Option<f64> {
    let number = match value {
        Value::String(text) => serde_json::from_str(text).ok()?,
        Value::Number(number) => number.as_f64()?,
        _ => return None,
    };

    (number >= 0.0 && number.is_finite()).then(|| number)
}

fn integer(number: f64) -> u64 {
    ((number + 0.5).floor() as u64).min(MAX_INT)
}

/// RFC 3339, Unix time in ms; without an offset it is UTC.
fn time_of(text: &str) -> Option<u64> {
    let digits = |from: usize, len: usize| -> Option<i64> {
        let part = text.get(from..from + len)?;
        part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().unwrap())
    };
    let bytes = text.as_bytes();

    if bytes.len() < 19 || bytes[4] != b'-' || bytes[7] != b'-' || !matches!(bytes[10], b'T' | b't' | b' ')
        || bytes[13] != b':' || bytes[16] != b':'
    {
        return None;
    }

    let (mut year, mut month, day) = (digits(0, 4)?, digits(5, 2)?, digits(8, 2)?);
    let (hour, minute, second) = (digits(11, 2)?, digits(14, 2)?, digits(17, 2)?);
    let mut rest = 19;
    let mut ms = 0;

    if bytes.get(rest) == Some(&b'.') {
        let mut weight = 100;
        rest += 1;

        while let Some(byte) = bytes.get(rest).filter(|byte| byte.is_ascii_digit()) {
            ms += weight * i64::from(byte - b'0');
            weight /= 10;
            rest += 1;
        }
    }

    let offset = match bytes.get(rest) {
        None => 0,
        Some(b'Z' | b'z') if bytes.len() == rest + 1 => 0,
        Some(sign @ (b'+' | b'-')) if bytes.len() == rest + 6 && bytes[rest + 3] == b':' => {
            let minutes = digits(rest + 1, 2)? * 60 + digits(rest + 4, 2)?;
            if *sign == b'-' { -minutes } else { minutes }
        }
        _ => return None,
    };

    // the days of the civil calendar, of years that begin with March

    if month < 3 {
        year -= 1;
        month += 12;
    }

    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month - 457) / 5 + day - 719_469;
    let minutes = (days * 24 + hour) * 60 + minute - offset;

    u64::try_from((minutes * 60 + second) * 1000 + ms).ok()
}

fn read_room<'a>(body: &'a Object, data: Option<&'a Object>) -> Option<Cow<'a, str>> {
    for name in ["room_name", "call_id"] {
        for object in [Some(body), data].into_iter().flatten() {
            match object.get(name).and_then(text_of) {
                Some(room) if (1..=MAX_NAME).contains(&room.len()) && !room.chars().any(char::is_control) => {
                    return Some(room);
                }
                _ => {}
            }
        }
    }

    None
}

impl<'a> Event<'a> {
    pub fn read(table: &'a Table, body: &'a Value) -> Result<Event<'a>, Problem> {
        let body = body.as_object().ok_or_else(|| Problem::of_field("", "the body must be a JSON object"))?;

        let name = body.get("event").and_then(Value::as_str).filter(|name| name.len() <= MAX_NAME)
            .ok_or_else(|| Problem::of_field("event", "event must be a string"))?;

        let data = body.get("data").and_then(Value::as_object);
        let row = table.rows.get(name);

        let mut event = Event {
            name,
            room: read_room(body, data),
            row,
            status: "".into(),
            pairs: Vec::new(),
            times: Vec::new(),
            direction: 0,
            direction_source: 0,
            timed: 0,
            ms: 0,
            if_seconds: 0,
            span: 0,
            number: "".into(),
            number_source: 0,
            reason: "".into(),
            reason_source: 0,
            from: "".into(),
        };

        if let Some(row) = row {
            let room = event.room.as_ref()
                .ok_or_else(|| Problem::of_field("room_name", "room_name is required"))?;

            if let Some((_, direction)) = PREFIXES.iter().find(|(prefix, _)| room.starts_with(prefix)) {
                event.direction = *direction;
                event.direction_source = BY_ROOM;
            } else if row.outbound {
                event.direction = OUTBOUND;
                event.direction_source = BY_EVENT;
            }

            event.status = Cow::Borrowed(&row.status);
            event.read_fields(row, body, data);
        }

        Ok(event)
    }

    fn read_fields(&mut self, row: &'a Row, body: &'a Object, data: Option<&'a Object>) {
        for field in &row.fields {
            let value = data.and_then(|data| data.get(&field.name)).filter(|value| !value.is_null())
                .or_else(|| body.get(&field.name));

            if let Some(value) = value {
                self.read_field(row, field, value);
            }
        }

        if !row.postprocessed {
            return;
        }

        self.pairs.push(("postprocessed", "1".into()));

        if !self.from.is_empty() && self.number_source < POSTPROCESSING
            && matches!(self.direction, INBOUND | WEB)
        {
            self.number = std::mem::take(&mut self.from);
            self.number_source = POSTPROCESSING;
        }

        let sent = |name| self.times.iter().find(|time| time.0 == name).map(|time| time.1);
        let begin = sent("picked_up_at").or_else(|| sent("call_started_at"));

        if let (Some(begin), Some(ended)) = (begin, sent("call_ended_at")) {
            self.span = ended.saturating_sub(begin);
        }

        if self.timed == OPEN && self.span > 0 {
            self.settle();
        }
    }

    /// A field of another type is converted where that is plain, else left out.
    fn read_field(&mut self, row: &'a Row, field: &'a Field, value: &'a Value) {
        match field.kind {
            Kind::Object => {
                if value.is_object() {
                    self.pairs.push((&field.hash_field, value.to_string().into()));
                }
                return;
            }

            Kind::Seconds | Kind::Duration => {
                if let Some(number) = number_of(value) {
                    self.if_seconds = integer(number * 1000.0);
                    (self.ms, self.timed) = match field.kind {
                        Kind::Seconds => (self.if_seconds, ENDED),
                        _ => (integer(number), OPEN),
                    };
                }
                return;
            }

            _ => {}
        }

        let text = match text_of(value) {
            Some(text) => text,
            None => return,
        };

        let source = if text.is_empty() {
            EMPTY
        } else if row.postprocessed {
            POSTPROCESSING
        } else {
            CALL
        };

        match field.kind {
            Kind::Status => {
                if text == "dialing" && self.direction_source < BY_EVENT {
                    self.direction = OUTBOUND;
                    self.direction_source = BY_EVENT;
                }
                if !text.is_empty() {
                    self.status = text;
                }
            }

            Kind::Time => {
                if let Some(time) = time_of(&text) {
                    self.times.push((&field.name, time));
                    self.pairs.push((&field.hash_field, time.to_string().into()));
                }
            }

            Kind::Number => {
                self.number = text;
                self.number_source = source;
            }

            Kind::Reason => {
                self.reason = text;
                self.reason_source = source;
            }

            Kind::From => self.from = text,

            Kind::CallType => {
                let text = text.to_lowercase();
                let found = CALL_TYPES.iter().find(|(word, _)| text.contains(word));

                if let (Some((_, direction)), 0..=BY_EVENT) = (found, self.direction_source) {
                    self.direction = *direction;
                    self.direction_source = BY_CALL_TYPE;
                }
            }

            _ => self.pairs.push((&field.hash_field, text)),
        }
    }

    /// The unit of call_postprocessing's duration, as the span tells.
    fn settle(&mut self) {
        let limit = self.span + self.span / 10 + SPAN_SLACK;

        self.timed = KNOWN;

        if self.ms > limit && self.if_seconds > limit {
            self.timed = 0;
        } else if self.ms > limit {
            self.ms = self.if_seconds;
        } else if self.if_seconds <= limit {
            let span = u128::from(self.span).pow(2);
            let readings = u128::from(self.ms) * u128::from(self.if_seconds);

            if span > readings || span == readings && self.ms < SHORTEST_CALL {
                self.ms = self.if_seconds;
            }
        }
    }
}

fn add_quoted(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).unwrap();
}

fn digest(data: &[u8]) -> String {
    base64::encode_config(&Sha1::digest(data)[..DIGEST_BYTES], base64::URL_SAFE_NO_PAD)
}

fn rank(names: &[String], name: &str) -> u8 {
    names.iter().position(|other| other == name).map_or(0, |n| n as u8 + 1)
}

/// KEYS, their number first, and ARGV as the head of transition.lua has them. id is
/// the delivery's, if it has one.
pub fn transition_args(command: &mut Command, table: &Table, event: &Event, body: &[u8], id: Option<&str>) {
    let room = event.room.as_deref();
    let key = format!("vaani:call:{}", room.unwrap_or_default());
    let received_at = now();

    command.arg("1");
    command.arg(&key);

    match event.row {
        Some(row) => command.arg(numbers(table, row, event, &digest(body), id.is_some(), received_at)),
        None => command.arg("0"),
    }

    command.arg(message_head(event, id));
    command.arg(message_tail(room.and(Some(&key)), received_at));
    command.arg(on_one_line(body));

    if event.row.is_some() {
        if rank(&table.statuses, &event.status) == 0 {
            command.arg(&*event.status);
        }
        if let Some(id) = id {
            command.arg(digest(id.as_bytes()));
        }
        if event.timed != 0 {
            command.number(event.ms);
        }
        if event.timed == OPEN {
            command.number(event.if_seconds);
        }
        if event.span != 0 {
            command.number(event.span);
        }
        if event.number_source != 0 {
            command.arg(&*event.number);
        }
        if event.reason_source != 0 {
            command.arg(&*event.reason);
        }

        for (field, value) in &event.pairs {
            command.arg(field);
            command.arg(&**value);
        }
    }

    command.arg("vaani:events");

    if let Some(room) = room {
        command.arg(format!("vaani:room:{room}"));
    }
}

fn message_head(event: &Event, id: Option<&str>) -> Vec<u8> {
    let mut head = Vec::with_capacity(256);

    head.extend_from_slice(b"\"id\":");

    match id {
        Some(id) => add_quoted(&mut head, id),
        None => write!(head, "\"{:032x}\"", rand::random::<u128>()).unwrap(),
    }

    head.extend_from_slice(b",\"event\":");
    add_quoted(&mut head, event.name);

    if let Some(room) = &event.room {
        head.extend_from_slice(b",\"room_name\":");
        add_quoted(&mut head, room);
    }

    head.push(b',');
    head
}

fn message_tail(key: Option<&String>, received_at: u64) -> Vec<u8> {
    let mut tail = Vec::with_capacity(256);

    write!(tail, "\"received_at\":{received_at},").unwrap();

    if let Some(key) = key {
        tail.extend_from_slice(b"\"key\":");
        add_quoted(&mut tail, key);
        tail.push(b',');
    }

    tail.extend_from_slice(b"\"payload\":");
    tail
}

fn numbers(
    table: &Table, row: &Row, event: &Event, digest: &str, has_id: bool, received_at: u64,
) -> Vec<u8> {
    let mut numbers = Vec::with_capacity(128);
    let mut buffer = itoa::Buffer::new();

    let room = event.room.as_ref().map_or(0, |room| room.len());
    let transfer = row.transfer.as_ref().map_or(0, |transfer| transfer.as_bytes()[0] - b'0');
    let status = rank(&table.statuses, &event.status);
    let received = buffer.format(received_at).as_bytes();
    let period = received_at / PERIOD;

    let digits = [
        row.position,
        status.max(1),
        row.outcome.as_ref().map_or(0, |outcome| rank(&table.outcomes, outcome)),
        transfer,
        has_id.into(),
        event.timed,
        (event.span > 0).into(),
        event.pairs.len() as u8,
        (received_at < table.since).into(),
        (room / 64) as u8,
        (room % 64) as u8,
        event.direction,
        event.direction_source,
        event.number_source,
        event.reason_source,
        (status == 0).into(),
        received.len() as u8,
        event.name.len() as u8,
    ];

    numbers.extend(digits.iter().map(|digit| b'0' + digit));
    numbers.extend([12, 6, 0].iter().map(|shift| BASE64URL[(period >> shift) as usize % 64]));
    numbers.push(row.code);
    numbers.extend_from_slice(&digest.as_bytes()[..BODY_DIGEST]);
    write!(numbers, "{:013}", table.since).unwrap();
    numbers.extend_from_slice(received);
    numbers.extend_from_slice(event.name.as_bytes());
    write!(numbers, "{}", TTL + PERIOD).unwrap();
    numbers
}

fn on_one_line(body: &[u8]) -> Cow<[u8]> {
    if memchr::memchr2(b'\r', b'\n', body).is_none() {
        return Cow::Borrowed(body);
    }

    body.iter().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { *byte }).collect()
}
