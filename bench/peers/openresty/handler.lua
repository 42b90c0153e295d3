--
-- The webhook endpoint as OpenResty would have it: cjson, lua-resty-redis with
-- kept connections, and the module's own script.  Reads the table of events of
-- ../events.json.
--
-- What the libraries don't offer is left out: cjson takes a key that occurs
-- twice, and tells an empty array from an empty object no more than Lua does.
--

local base64 = require "ngx.base64"
local cjson = require "cjson.safe"
local redis = require "nginx.redis"

local floor, format = math.floor, string.format
local encode, base64url = cjson.encode, base64.encode_base64url
local null = cjson.null

local TTL = tostring(7 * 24 * 3600 * 1000)
local MAX_INT = 9007199254740991
local POOL, IDLE = 1024, 60000

cjson.decode_max_depth(512)
cjson.decode_invalid_numbers(false)

local _M = {}

local settings, events, script, sha, since
local status_rank, outcome_rank = {}, {}
local count


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

    since = format("%.0f", ngx.now() * 1000)
end


function _M.init_worker()
    count = math.random(0, 2 ^ 40)
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
    local essence, parameters = string.match(string.lower(header),
                                             "^([^%s;]+)%s*(.*)$")

    if essence ~= "application/json"
       and not (essence and string.find(essence, "^application/[^/]+%+json$"))
    then
        return false
    end

    local charset = string.match(parameters, 'charset="?([^"%s;]+)')

    return not charset or charset == "utf-8"
end


local function milliseconds(value, factor)
    if type(value) ~= "number" or value < 0 or value == math.huge then
        return nil
    end

    return format("%.0f", math.min(floor(value * factor + 0.5), MAX_INT))
end


-- The members that the row of the event speaks of.  Returns what goes to the
-- hash, and the status, the duration and the direction; or nil and the field
-- that is wrong.

local function read_fields(row, body)
    local set, n = {}, 0
    local status, outbound, duration = row.status, row.outbound

    for _, field in ipairs(row.fields) do
        local kind, value = field.type, body[field.name]

        if value == nil or value == null then
            if field.required then
                return nil, field.name
            end

        elseif kind == "seconds" or kind == "milliseconds" then
            duration = milliseconds(value, kind == "seconds" and 1000 or 1)

            if not duration then
                return nil, field.name
            end

        elseif kind == "object" then
            if type(value) ~= "table" or value[1] ~= nil then
                return nil, field.name
            end

            set[n + 1], set[n + 2] = field.field, encode(value)
            n = n + 2

        elseif type(value) ~= "string" then
            return nil, field.name

        elseif kind == "const_status" then
            if value ~= row.status then
                return nil, field.name
            end

        elseif kind == "status" then
            if value ~= "" then
                status = value
                outbound = outbound or value == "dialing"
            end

        else
            set[n + 1], set[n + 2] = field.field, value
            n = n + 2
        end
    end

    if outbound then
        set[n + 1], set[n + 2] = "direction", "outbound"
        n = n + 2
    end

    if row.postprocessed then
        set[n + 1], set[n + 2] = "postprocessed", "1"
    end

    return set, status, duration
end


local function digest(text)
    return base64url(string.sub(ngx.sha1_bin(text), 1, 16))
end


local function nonce()
    count = count + 1

    local bytes, rest = {}, count

    for n = 1, 6 do
        bytes[n] = rest % 256
        rest = floor(rest / 256)
    end

    return base64url(string.char(unpack(bytes)))
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

    if (content_type and not is_json(content_type))
       or (encoding and string.lower(encoding) ~= "identity")
    then
        return problem(415, "the media type must be application/json")
    end

    ngx.req.read_body()

    local text = ngx.req.get_body_data()

    if not text then
        local path = ngx.req.get_body_file()

        text = path and slurp(path) or ""
    end

    -- the "u" has PCRE look whether all of it is UTF-8

    local valid = ngx.re.find(text, "^", "jou")
    local body = valid and cjson.decode(text)

    if not body then
        return problem(400, "the body must be JSON")
    end

    if type(body) ~= "table" or not string.find(text, "^%s*{") then
        return problem(422, "the body must be a JSON object", "")
    end

    local event, room = body.event, body.room_name

    if type(event) ~= "string" then
        return problem(422, "event must be a string", "event")
    end

    if type(room) ~= "string" or #room < 1 or #room > 256
       or string.find(room, "[%z\1-\31\127]")
       or string.find(room, "\194[\128-\159]")
    then
        return problem(422, "room_name is wrong", "room_name")
    end

    local key = "vaani:call:" .. room
    local received_at = format("%.0f", ngx.now() * 1000)

    local args = {
        "1", key, "0", event, received_at, TTL,
        '"event":' .. encode(event) .. ',"room_name":' .. encode(room) .. ",",
        '"received_at":' .. received_at .. ',"key":' .. encode(key)
            .. ',"payload":',
        text
    }
    local n = 9

    local row = events[event]

    if row then
        local set, status, duration = read_fields(row, body)

        if not set then
            return problem(422, status .. " is wrong", status)
        end

        local id = headers["webhook-id"]
        local outcome = row.outcome

        args[3] = string.char(
            48 + row.position, 48 + (status_rank[status] or 1),
            48 + (outcome_rank[outcome or ""] or 0),
            string.byte(row.transfer or "0"), id and 49 or 48,
            duration and 49 or 48, 48 + #set / 2,
            tonumber(received_at) < tonumber(since) and 49 or 48,
            48 + floor(#room / 64), 48 + #room % 64)

        args[10] = status
        args[11] = since
        args[12] = digest(text)
        args[13] = id and digest(id) or nonce()
        n = 13

        if outcome then
            n = n + 1
            args[n] = outcome
        end

        if duration then
            n = n + 1
            args[n] = duration
        end

        for i = 1, #set do
            args[n + i] = set[i]
        end

        n = n + #set
    end

    args[n + 1] = "vaani:events"
    args[n + 2] = "vaani:room:" .. room

    local reply, err = eval(args)

    if not reply then
        ngx.log(ngx.ERR, "Redis: ", err)
        ngx.header.retry_after = 1
        return problem(503, "the event could not be stored")
    end

    answer(200, "application/json",
           reply == 0 and '{"status":"duplicate"}' or '{"status":"ok"}')
end


return _M
