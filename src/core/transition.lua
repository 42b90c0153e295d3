--
-- One delivery of an event to a call: the state transition, its publication,
-- and the answer whether it was one.  Runs in Redis, atomically.
--
-- KEYS[1]  the hash of the call
-- KEYS[2]  the stream, if there is one
--
-- ARGV, as vaani_transition.c writes it:
--
--   event, received_at (Unix time, ms), ttl (ms, 0: never),
--   head and tail (members of the message, each with its comma), payload,
--   maxlen (of the stream, 0: any), the number of channels, the channels;
--
--   and for an event of the table:
--
--   room_name, position, status, rank of the status, outcome, rank of the
--   outcome, duration (ms, '': none), transfer ('': none), digest of the body,
--   delivery id ('': none), nonce ('' if there is an id), since when the sender
--   counts (Unix time, ms);
--   then pairs of fields and values.
--
-- Whatever can be refused comes before the first write, or is a write that
-- Redis refuses together with it (OOM, READONLY): a script isn't rolled back.
--
-- Returns 0 for a duplicate; -1 for an unknown event; else the call's new seq,
-- and for those who count the ranks of the previous and the new status, in one
-- number: seq * 256 + previous * 16 + new.  previous is 0 for a new call, and 15
-- if the previous event came before the sender began to count.  Both are 15 if
-- this event came before that, and was in a spool since.  Returns
-- {that, error} if a publication was refused.
--

local key, stream = KEYS[1], KEYS[2]
local event, received_at, ttl = ARGV[1], ARGV[2], ARGV[3]
local head, tail, payload = ARGV[4], ARGV[5], ARGV[6]
local maxlen = ARGV[7]
local last_channel = 8 + ARGV[8]


local function append(message)
    if not stream then
        return
    end

    if maxlen == '0' then
        redis.call('XADD', stream, '*', 'message', message)
    else
        redis.call('XADD', stream, 'MAXLEN', maxlen, '*', 'message', message)
    end
end


-- A channel that is refused doesn't undo what is done, and keeps no other one
-- from its message.

local function publish(message, result)
    local refused

    for i = 9, last_channel do
        local reply = redis.pcall('PUBLISH', ARGV[i], message)

        if type(reply) == 'table' then
            refused = reply.err
        end
    end

    return refused and { result, refused } or result
end


local arg = last_channel

if not ARGV[arg + 1] then
    local call = redis.call('HMGET', key, 'seq', 'status')

    local message = '{' .. (call[1] and '"seq":' .. call[1] .. ',' or '')
        .. head .. '"known":false,'
        .. (call[2] and '"status":' .. cjson.encode(call[2]) .. ',' or '')
        .. tail .. payload .. '}'

    append(message)

    return publish(message, -1)
end


local room_name, position = ARGV[arg + 1], tonumber(ARGV[arg + 2])
local new_status, new_rank = ARGV[arg + 3], tonumber(ARGV[arg + 4])
local new_outcome, new_outcome_rank = ARGV[arg + 5], tonumber(ARGV[arg + 6])
local duration, transfer = ARGV[arg + 7], ARGV[arg + 8]
local digest, id, nonce = ARGV[arg + 9], ARGV[arg + 10], ARGV[arg + 11]
local since = tonumber(ARGV[arg + 12])
local first_pair = arg + 13


-- Without an id, an equal body is the same delivery.  An equal transfer body
-- may be a new attempt, so for those only the latest transfer event counts,
-- whichever it was.  The nonce is of the command: it tells one that is sent
-- again because its reply was lost, even if others came between.

local at_field = 'at:' .. event
local id_field = '_id:' .. id
local digest_field = transfer == '' and '_body:' .. event or '_body:transfer'

local call = redis.call('HMGET', key, 'seq', 'status', '_state', 'created_at',
                        'updated_at', at_field, id_field, digest_field,
                        '_recent')
local recent = call[9] or ''

if id ~= '' then
    if call[7] then
        return 0
    end
elseif call[8] == digest or string.find(recent, nonce, 1, true) then
    return 0
end

local seq = (call[1] or 0) + 1
local previous = call[2]
local status = previous

-- _state: the rank of the status, the highest position of an event so far,
-- the rank of the outcome, the position of the event that gave the duration.

local rank, reached, outcome_rank, timed = 0, 0, 0, 0

if call[3] then
    rank, reached, outcome_rank, timed =
        string.match(call[3], '^(%d+) (%d+) (%d+) (%d+)$')
    rank, reached = tonumber(rank), tonumber(reached)
    outcome_rank, timed = tonumber(outcome_rank), tonumber(timed)
end

local late = position < reached

local counted = rank
local replayed = tonumber(received_at) < since

if replayed or call[5] and tonumber(call[5]) < since then
    counted = 15
end

local set = { 'seq', seq, 'last_event', event, digest_field, digest }
local n = 6

local function put(field, value)
    set[n + 1], set[n + 2] = field, value
    n = n + 2
end

if seq == 1 then
    put('room_name', room_name)
end

if new_rank >= rank then
    rank, status = new_rank, new_status

    if status ~= previous then
        put('status', status)
    end
end

if new_outcome_rank > outcome_rank then
    outcome_rank = new_outcome_rank
    put('outcome', new_outcome)
end

if duration ~= '' and position >= timed then
    timed = position
    put('call_duration_ms', duration)
end

if position > reached then
    reached = position
end

put('_state', string.format('%d %d %d %d', rank, reached, outcome_rank, timed))

if id ~= '' then
    put(id_field, seq)
else
    -- the latest 128 of 9 bytes each
    put('_recent', string.sub(recent .. nonce .. ' ', -1152))
end

-- Spooled events come with the time of their receipt, so the earlier and the
-- later time is looked for, not the time of the earlier and the later arrival.

local time = tonumber(received_at)

if not call[4] or time < tonumber(call[4]) then
    put('created_at', received_at)
end

if not call[5] or time > tonumber(call[5]) then
    put('updated_at', received_at)
end

if not call[6] or time < tonumber(call[6]) then
    put(at_field, received_at)
end


local removed

if transfer == '' then

    for i = first_pair, #ARGV, 2 do
        put(ARGV[i], ARGV[i + 1])
    end

else
    -- What is known of the attempts:
    --   pending      initiated and not resolved, the latest one last
    --   early        outcomes that came before their initiation, by number
    --   successful   the latest outcome of either kind
    --   failed

    local LIMIT = 32

    local counts = redis.call('HMGET', key, 'transfers_initiated',
                              'transfers_successful', 'transfers_failed',
                              '_transfers')
    local count = {
        initiated = tonumber(counts[1] or 0),
        successful = tonumber(counts[2] or 0),
        failed = tonumber(counts[3] or 0)
    }
    local known = counts[4] and cjson.decode(counts[4])
                  or { pending = {}, early = {} }
    local pending = known.pending

    local attempt = {}

    for i = first_pair, #ARGV, 2 do
        attempt[ARGV[i]] = ARGV[i + 1]
    end

    local number = attempt.transfer_phone_number or ''
    local match

    if transfer == 'initiated' then

        for i = #known.early, 1, -1 do
            if known.early[i] == number then
                match = i
                break
            end
        end

        if match then
            table.remove(known.early, match)
            late = true
        else
            table.insert(pending, attempt)
        end

    else
        for i = #pending, 1, -1 do
            if (pending[i].transfer_phone_number or '') == number then
                match = i
                break
            end
        end

        if match then
            table.remove(pending, match)
        else
            table.insert(known.early, number)
        end

        known[transfer] = attempt
    end

    if #pending > LIMIT then
        table.remove(pending, 1)
    end

    if #known.early > LIMIT then
        table.remove(known.early, 1)
    end

    count[transfer] = count[transfer] + 1

    local shown = known.failed
    local transfer_status = 'failed'

    if count.initiated > count.successful + count.failed then
        shown, transfer_status = pending[#pending], 'initiated'
    elseif count.successful > 0 then
        shown, transfer_status = known.successful, 'successful'
    end

    put('transfer_status', transfer_status)
    put('transfers_initiated', count.initiated)
    put('transfers_successful', count.successful)
    put('transfers_failed', count.failed)
    put('_transfers', cjson.encode(known))

    removed = {}

    for _, field in ipairs({ 'transfer_type', 'transfer_phone_number',
                             'transfer_agent_identity', 'transfer_reason',
                             'transfer_sip_status' })
    do
        if shown and shown[field] then
            put(field, shown[field])
        else
            table.insert(removed, field)
        end
    end
end


local message = '{"seq":' .. seq .. ',' .. head
    .. '"status":' .. cjson.encode(status) .. ','
    .. (previous and '"previous_status":' .. cjson.encode(previous) .. ','
        or '')
    .. (late and '"late":true,' or '"late":false,')
    .. tail .. payload .. '}'

append(message)

redis.call('HSET', key, unpack(set))

if removed and #removed > 0 then
    redis.call('HDEL', key, unpack(removed))
end

if ttl == '0' then
    redis.call('PERSIST', key)
else
    redis.call('PEXPIRE', key, ttl)
end

return publish(message, seq * 256 + counted * 16 + (replayed and 15 or rank))
