--
-- The webhook endpoint as OpenResty would have it: cjson, lua-resty-redis with
-- kept connections, and the module's own script.  Reads the table of events of
-- ../events.json.
--
-- What is left out is in docs/performance.md, "How it is measured".
--

local base64 = require "ngx.base64"
local cjson = require "cjson.safe"
local redis = require "nginx.redis"

local floor, format, min = math.floor, string.format, math.min
local encode, base64url = cjson.encode, base64.encode_base64url
local find, lower, sub = string.find, string.lower, string.sub
local null = cjson.null

local TTL = 7 * 24 * 3600 * 1000
local PERIOD = TTL / 100
local EXPIRY = format("%.0f", TTL + PERIOD)
local BODY_DIGEST = 8
local BASE64URL =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
local MAX_INT = 9007199254740991
local MAX_NAME = 256
local DIGEST_BYTES = 16
local SPAN_SLACK, SHORTEST_CALL = 5000, 1000
local POOL, IDLE = 1024, 60000

-- durations, sources of numbers and reasons, directions and their sources, as
-- the script has them

local ENDED, KNOWN, OPEN = 1, 2, 3
local EMPTY, POSTPROCESSING, CALL = 1, 2, 3
local INBOUND, OUTBOUND, WEB = 1, 2, 3
local BY_EVENT, BY_CALL_TYPE, BY_ROOM = 1, 2, 3

local PREFIXES = { "inbound-", "outbound-", "webrtc-" }
local CALL_TYPES = { "inbound", "outbound", "web" }

local CHARSETS = {
    ["utf-8"] = true, utf8 = true, ["us-ascii"] = true, ascii = true
}
local CODINGS = {
    [""] = true, identity = true, none = true, ["utf-8"] = true
}

cjson.decode_max_depth(512)
cjson.decode_invalid_numbers(false)

local _M = {}

local settings, events, script, sha, since, random
local status_rank, outcome_rank = {}, {}


local function slurp(path)
    local file = assert(io.open(path, "rb"))
    local text = file:read("*a")

    file:close()

    return text
end


function _M.init(conf)
    settings = conf
    script = slurp(conf.script)

    local rows = assert(cjson.decode(slurp(conf.table)))

    events = rows.events

    for rank, name in ipairs(rows.statuses) do
        status_rank[name] = rank
    end

    for rank, name in ipairs(rows.outcomes) do
        outcome_rank[name] = rank
    end

    since = format("%013.0f", ngx.now() * 1000)
end


-- stdio reads many ids at a time

function _M.init_worker()
    random = assert(io.open("/dev/urandom", "rb"))
end


local titles = {
    [400] = "Bad Request", [405] = "Method Not Allowed",
    [415] = "Unsupported Media Type", [422] = "Unprocessable Content",
    [503] = "Service Unavailable"
}


local function answer(status, content_type, text)
    ngx.status = status
    ngx.header.content_type = content_type
    ngx.header.content_length = #text
    ngx.print(text)
end


local function problem(status, detail, field)
    answer(status, "application/problem+json", encode({
        type = "about:blank", title = titles[status], status = status,
        detail = detail, field = field and "/" .. field
    }))
end


local function is_json(header)
    local essence, parameters = string.match(lower(header),
                                             "^([^%s;]+)%s*(.*)$")

    if essence ~= "application/json" and essence ~= "text/json"
       and not (essence and find(essence, "^application/[^/]+%+json$"))
    then
        return false
    end

    local charset = string.match(parameters, 'charset="?([^"%s;]+)')

    return not charset or CHARSETS[charset]
end


local function is_object(value)
    return type(value) == "table" and value[1] == nil
end


local function text_of(value)
    if type(value) == "string" then
        return value
    end

    return type(value) == "number" and encode(value) or nil
end


local function number_of(value)
    if type(value) == "string" then
        value = cjson.decode(value)
    end

    if type(value) ~= "number" or value < 0 or value == math.huge then
        return nil
    end

    return value
end


local function integer(number)
    return min(floor(number + 0.5), MAX_INT)
end


-- RFC 3339, Unix time in ms; the days are those of the civil calendar.

local function time_of(text)
    local year, month, day, hour, minute, second, rest = string.match(text,
        "^(%d%d%d%d)-(%d%d)-(%d%d)[Tt ](%d%d):(%d%d):(%d%d)(.*)$")

    if not year then
        return nil
    end

    local fraction, zone = string.match(rest, "^%.(%d+)(.*)$")
    local offset = 0

    zone = zone or rest

    if zone ~= "" and zone ~= "Z" and zone ~= "z" then
        local sign, hours, minutes = string.match(zone,
                                                  "^([+-])(%d%d):(%d%d)$")
        if not sign then
            return nil
        end

        offset = (hours * 60 + minutes) * (sign == "-" and -60 or 60)
    end

    if tonumber(month) < 3 then
        year, month = year - 1, month + 12
    end

    local days = 365 * year + floor(year / 4) - floor(year / 100)
                 + floor(year / 400) + floor((153 * month - 457) / 5)
                 + day - 719469

    local seconds = ((days * 24 + hour) * 60 + minute) * 60 + second - offset

    return seconds * 1000 + tonumber(sub((fraction or "") .. "000", 1, 3))
end


local function usable(room)
    return room and #room > 0 and #room <= MAX_NAME
           and not find(room, "[%z\1-\31\127]")
           and not find(room, "\194[\128-\159]")
end


local function read_room(body, data)
    local room = text_of(body.room_name)

    if usable(room) then
        return room
    end

    room = data and text_of(data.room_name)

    if usable(room) then
        return room
    end

    room = text_of(body.call_id)

    if usable(room) then
        return room
    end

    room = data and text_of(data.call_id)

    return usable(room) and room or nil
end


local function source_of(row, text)
    if text == "" then
        return EMPTY
    end

    return row.postprocessed and POSTPROCESSING or CALL
end


-- The unit of call_postprocessing's duration, as far as the span tells.

local function settle(event)
    local ms, if_seconds, span = event.ms, event.if_seconds, event.span

    if not span then
        return
    end

    local limit = span + floor(span / 10) + SPAN_SLACK

    event.timed = KNOWN

    if ms > limit and if_seconds > limit then
        event.timed = 0

    elseif ms > limit then
        event.ms = if_seconds

    elseif if_seconds <= limit then
        local nearer = span * span - ms * if_seconds

        if nearer > 0 or nearer == 0 and ms < SHORTEST_CALL then
            event.ms = if_seconds
        end
    end
end


local function add_pair(event, field, value)
    local n = event.npairs
    local pairs = event.pairs

    pairs[2 * n + 1], pairs[2 * n + 2] = field, value
    event.npairs = n + 1
end


-- A field of another type is converted where that is plain, else left out.

local function read_field(event, field, value)
    local kind = field.type

    if kind == "object" then
        if is_object(value) then
            add_pair(event, field.field, encode(value))
        end

        return
    end

    if kind == "seconds" or kind == "duration" then
        local number = number_of(value)

        if number then
            event.if_seconds = integer(number * 1000)

            if kind == "seconds" then
                event.ms, event.timed = event.if_seconds, ENDED
            else
                event.ms, event.timed = integer(number), OPEN
            end
        end

        return
    end

    local text = text_of(value)

    if not text then
        return
    end

    if kind == "status" then
        if text ~= "" then
            event.status = text
        end

        if text == "dialing" and event.direction_source < BY_EVENT then
            event.direction, event.direction_source = OUTBOUND, BY_EVENT
        end

    elseif kind == "time" then
        local time = time_of(text)

        if time and time >= 0 then
            event[field.name] = time
            add_pair(event, field.field, format("%.0f", time))
        end

    elseif kind == "number" then
        event.number = text
        event.number_source = source_of(event.row, text)

    elseif kind == "reason" then
        event.reason = text
        event.reason_source = source_of(event.row, text)

    elseif kind == "from" then
        event.from = text

    elseif kind == "call_type" then
        text = lower(text)

        for direction, word in ipairs(CALL_TYPES) do
            if event.direction_source < BY_CALL_TYPE
               and find(text, word, 1, true)
            then
                event.direction = direction
                event.direction_source = BY_CALL_TYPE
            end
        end

    else
        add_pair(event, field.field, text)
    end
end


local function read_fields(event, body, data)
    local row = event.row

    for _, field in ipairs(row.fields) do
        local value = data and data[field.name]

        if value == nil or value == null then
            value = body[field.name]
        end

        if value ~= nil and value ~= null then
            read_field(event, field, value)
        end
    end

    if not row.postprocessed then
        return
    end

    add_pair(event, "postprocessed", "1")

    if event.from and event.from ~= ""
       and event.number_source < POSTPROCESSING
       and (event.direction == INBOUND or event.direction == WEB)
    then
        event.number, event.number_source = event.from, POSTPROCESSING
    end

    local begin, ended = event.picked_up_at or event.call_started_at,
                         event.call_ended_at

    if begin and ended and ended > begin then
        event.span = ended - begin
    end

    if event.timed == OPEN then
        settle(event)
    end
end


-- Returns the event; or nil, the status, and what is wrong with which field.

local function read_event(text)

    -- the "u" has PCRE look whether all of it is UTF-8

    local valid = ngx.re.find(text, "^", "jou")
    local body = valid and cjson.decode(text)

    if body == nil or not valid then
        return nil, 400, "the body must be JSON"
    end

    if type(body) ~= "table" or not find(text, "^%s*{") then
        return nil, 422, "the body must be a JSON object", ""
    end

    local name = body.event

    if type(name) ~= "string" or #name > MAX_NAME then
        return nil, 422, "event must be a string", "event"
    end

    local data = is_object(body.data) and body.data or nil
    local room = read_room(body, data)
    local row = events[name]

    local event = {
        name = name, room = room, row = row, pairs = {}, npairs = 0,
        status = row and row.status, direction = 0, direction_source = 0,
        timed = 0, number_source = 0, reason_source = 0
    }

    if not row then
        return event
    end

    if not room then
        return nil, 422, "room_name is required", "room_name"
    end

    for direction, prefix in ipairs(PREFIXES) do
        if sub(room, 1, #prefix) == prefix then
            event.direction, event.direction_source = direction, BY_ROOM
        end
    end

    if row.outbound and event.direction_source == 0 then
        event.direction, event.direction_source = OUTBOUND, BY_EVENT
    end

    read_fields(event, body, data)

    return event
end


local function digest(text)
    return base64url(sub(ngx.sha1_bin(text), 1, DIGEST_BYTES))
end


local function on_one_line(text)
    if find(text, "\n", 1, true) or find(text, "\r", 1, true) then
        text = string.gsub(text, "[\r\n]", " ")
    end

    return text
end


-- What tells a period of the expiry from others that come soon before or after
-- it.

local function period_of(time)
    local period = floor(time / PERIOD)
    local text = ""

    for _ = 1, 3 do
        local digit = period % 64 + 1

        text = sub(BASE64URL, digit, digit) .. text
        period = floor(period / 64)
    end

    return text
end


-- KEYS and ARGV as the head of transition.lua has them.  id is the delivery's,
-- if it has one.

local function transition_args(event, text, id)
    local room, row, n = event.room, event.row, 7
    local key = "vaani:call:" .. (room or "")
    local received_at = format("%.0f", ngx.now() * 1000)

    local args = {
        "1", key, "0",
        '"id":' .. encode(id or base64url(random:read(16))) .. ',"event":'
            .. encode(event.name)
            .. (room and ',"room_name":' .. encode(room) or "") .. ",",
        '"received_at":' .. received_at
            .. (room and ',"key":' .. encode(key) or "") .. ',"payload":',
        on_one_line(text)
    }

    local function add(value)
        args[n] = value
        n = n + 1
    end

    if row then
        local function digit(number)
            return string.char(48 + number)
        end

        local rank = status_rank[event.status]

        args[3] = digit(row.position) .. digit(rank or 1)
            .. digit(outcome_rank[row.outcome or ""] or 0)
            .. sub(row.transfer or "0", 1, 1) .. digit(id and 1 or 0)
            .. digit(event.timed) .. digit(event.span and 1 or 0)
            .. digit(event.npairs) .. digit(received_at < since and 1 or 0)
            .. digit(floor(#room / 64)) .. digit(#room % 64)
            .. digit(event.direction) .. digit(event.direction_source)
            .. digit(event.number_source) .. digit(event.reason_source)
            .. digit(rank and 0 or 1) .. digit(#received_at)
            .. digit(#event.name) .. period_of(received_at) .. row.code
            .. sub(digest(text), 1, BODY_DIGEST) .. since .. received_at
            .. event.name .. EXPIRY

        if not rank then
            add(event.status)
        end

        if id then
            add(digest(id))
        end

        if event.timed ~= 0 then
            add(format("%.0f", event.ms))
        end

        if event.timed == OPEN then
            add(format("%.0f", event.if_seconds))
        end

        if event.span then
            add(format("%.0f", event.span))
        end

        if event.number_source ~= 0 then
            add(event.number)
        end

        if event.reason_source ~= 0 then
            add(event.reason)
        end

        for i = 1, 2 * event.npairs do
            add(event.pairs[i])
        end
    end

    add("vaani:events")

    if room then
        add("vaani:room:" .. room)
    end

    return args
end


local function eval(args)
    local client = redis:new()

    client:set_timeout(5000)

    local ok, err = client:connect(settings.redis)

    if not ok then
        return nil, err
    end

    local reply

    if sha then
        reply, err = client:evalsha(sha, unpack(args))
    end

    if not sha or (err and string.find(err, "^NOSCRIPT")) then
        sha, err = client:script("load", script)

        if not sha then
            return nil, err
        end

        reply, err = client:evalsha(sha, unpack(args))
    end

    if reply then
        client:set_keepalive(IDLE, POOL)
    else
        client:close()
    end

    return reply, err
end


function _M.handle()
    local headers = ngx.req.get_headers()

    if ngx.req.get_method() ~= "POST" then
        ngx.header.allow = "POST"
        return problem(405, "the method must be POST")
    end

    local content_type = headers["content-type"]
    local encoding = headers["content-encoding"]

    if (content_type and content_type ~= "" and not is_json(content_type))
       or (encoding and not CODINGS[lower(encoding)])
    then
        return problem(415, "the media type must be application/json")
    end

    ngx.req.read_body()

    local text = ngx.req.get_body_data()

    if not text then
        local path = ngx.req.get_body_file()

        text = path and slurp(path) or ""
    end

    local event, status, detail, field = read_event(text)

    if not event then
        return problem(status, detail, field)
    end

    local id = headers["webhook-id"]
    local reply, err = eval(transition_args(event, text, id ~= "" and id or nil))

    if type(reply) == "table" then
        reply = reply[1]
    end

    if not reply then
        ngx.log(ngx.ERR, "Redis: ", err)
        ngx.header.retry_after = 1
        return problem(503, "the event could not be stored")
    end

    answer(200, "application/json",
           reply == 0 and '{"status":"duplicate"}\n'
           or reply == -1 and '{"status":"ok","known":false}\n'
           or '{"status":"ok"}\n')
end


return _M
