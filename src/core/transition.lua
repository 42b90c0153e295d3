--
-- One delivery of an event to a call: the state transition, its publication,
-- and the answer whether it was one.  Runs in Redis, atomically.
--
-- KEYS[1]  the hash of the call; its name ends with that of the room
-- KEYS[2]  the stream, if there is one
--
-- ARGV, as vaani_transition.c writes it, is as short as it can be, since each
-- argument and each number costs Redis more than most of what is done below:
--
--   digits, event, received_at (Unix time, ms), ttl (ms, 0: never),
--   head and tail (members of the message, each with its comma), payload,
--   with a stream its maxlen (0: any);
--
--   for an event of the table: status, since when the sender counts (Unix
--   time, ms), digest of the body, and the delivery id or a nonce;
--   the outcome and the duration (ms), if the digits say that there is one;
--   pairs of fields and values;
--
--   and for all events the channels.
--
-- The digits are characters, '0' and the 63 after it: position, rank of the
-- status, rank of the outcome (0: none), the first letter of what is said of a
-- transfer (0: nothing), whether there are an id and a duration, the number of
-- pairs, whether the event was received before the sender began to count, and
-- the length of the name of the room in bytes, two digits.  '0' alone stands
-- for an event that the table doesn't know.
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
local argv, call, byte = ARGV, redis.call, string.byte

local digits, event, received_at, ttl, head, tail, payload = unpack(argv, 1, 7)
local position, new_rank, new_outcome_rank, transfer, has_id, has_duration,
    npairs, uncounted = byte(digits, 1, 8)

local ZERO = 48

-- Of two times, as text: to make numbers of them would take longer.

local function before(one, other)
    return #one < #other or #one == #other and one < other
end

local arg = stream and 9 or 8
local set, removed, message, result


if position == ZERO then
    local known = call('HMGET', key, 'seq', 'status')

    message = '{' .. (known[1] and '"seq":' .. known[1] .. ',' or '')
        .. head .. '"known":false,'
        .. (known[2] and '"status":' .. cjson.encode(known[2]) .. ',' or '')
        .. tail .. payload .. '}'
    result = -1

else
    local new_status, since, digest, id = unpack(argv, arg, arg + 3)
    local new_outcome, duration

    arg = arg + 4

    if new_outcome_rank > ZERO then
        new_outcome = argv[arg]
        arg = arg + 1
    end

    if has_duration > ZERO then
        duration = argv[arg]
        arg = arg + 1
    end

    local first_pair = arg
    local last_pair = arg + 2 * (npairs - ZERO) - 1
    arg = last_pair + 1

    -- Without an id, an equal body is the same delivery.  An equal transfer
    -- body may be a new attempt, so for those only the latest transfer event
    -- counts, whichever it was.  The nonce is of the command: it tells one that
    -- is sent again because its reply was lost, even if others came between.

    local at_field = 'at:' .. event
    local digest_field = transfer == ZERO and '_body:' .. event
                         or '_body:transfer'
    local old, mark, marked

    if has_id > ZERO then
        mark = '_id:' .. id
        old = call('HMGET', key, 'seq', '_state', 'status', 'created_at',
                   'updated_at', at_field, mark)

        if old[7] then
            return 0
        end

    else
        mark = '_recent'
        old = call('HMGET', key, 'seq', '_state', 'status', 'created_at',
                   'updated_at', at_field, mark, digest_field)
        marked = old[7] or ''

        -- what was spooled while its event was unknown has neither

        if digest ~= '' and old[8] == digest
           or id ~= '' and string.find(marked, id, 1, true)
        then
            return 0
        end

        -- the latest 128 of 9 bytes each
        marked = string.sub(marked .. id .. ' ', -1152)
    end

    local seq = (old[1] or 0) + 1
    local seq_text = string.format('%d', seq)

    -- _state: the rank of the status, the highest position of an event so far,
    -- the rank of the outcome, the position of the event that gave the duration.

    local rank, reached, outcome_rank, timed = ZERO, ZERO, ZERO, ZERO

    if old[2] then
        rank, reached, outcome_rank, timed = byte(old[2], 1, 4)

        -- until 0.5.0 they were numbers with blanks between them

        if reached == 32 then
            rank, reached, outcome_rank, timed =
                string.match(old[2], '^(%d+) (%d+) (%d+) (%d+)$')
            rank, reached = rank + ZERO, reached + ZERO
            outcome_rank, timed = outcome_rank + ZERO, timed + ZERO
        end
    end

    local late = position < reached
    local created_at, updated_at, at = old[4], old[5], old[6]
    local counted = rank

    if uncounted > ZERO or updated_at and before(updated_at, since) then
        counted = ZERO + 15
    end

    local previous = old[3]
    local previous_json = previous and cjson.encode(previous)
    local status, status_json = previous, previous_json or 'null'

    set = { 'seq', seq_text, '_state', '', 'last_event', event,
            digest_field, digest, mark, marked or seq_text }
    local n = 10

    if new_rank >= rank then
        rank, status = new_rank, new_status

        if status ~= previous then
            status_json = cjson.encode(status)
            set[n + 1], set[n + 2] = 'status', status
            n = n + 2
        end
    end

    if new_outcome_rank > outcome_rank then
        outcome_rank = new_outcome_rank
        set[n + 1], set[n + 2] = 'outcome', new_outcome
        n = n + 2
    end

    if duration and position >= timed then
        timed = position
        set[n + 1], set[n + 2] = 'call_duration_ms', duration
        n = n + 2
    end

    if position > reached then
        reached = position
    end

    set[4] = string.char(rank, reached, outcome_rank, timed)

    -- Spooled events come with the time of their receipt, so the earlier and
    -- the later time is looked for, not the time of the earlier and the later
    -- arrival.

    if not updated_at or before(updated_at, received_at) then
        set[n + 1], set[n + 2] = 'updated_at', received_at
        n = n + 2
    end

    if not created_at or before(received_at, created_at) then
        set[n + 1], set[n + 2] = 'created_at', received_at
        n = n + 2
    end

    if not at or before(received_at, at) then
        set[n + 1], set[n + 2] = at_field, received_at
        n = n + 2
    end

    if seq == 1 then
        local high, low = byte(digits, 9, 10)
        set[n + 1] = 'room_name'
        set[n + 2] = string.sub(key, -((high - ZERO) * 64 + low - ZERO))
        n = n + 2
    end


    if transfer == ZERO then

        for i = first_pair, last_pair do
            n = n + 1
            set[n] = argv[i]
        end

    else
        -- What is known of the attempts:
        --   pending      initiated and not resolved, the latest one last
        --   early        outcomes that came before their initiation, by number
        --   successful   the latest outcome of either kind
        --   failed

        local LIMIT = 32

        local kind = transfer == byte('i') and 'initiated'
                     or transfer == byte('s') and 'successful' or 'failed'
        local counts = call('HMGET', key, 'transfers_initiated',
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

        for i = first_pair, last_pair, 2 do
            attempt[argv[i]] = argv[i + 1]
        end

        local number = attempt.transfer_phone_number or ''
        local match

        if kind == 'initiated' then

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

            known[kind] = attempt
        end

        if #pending > LIMIT then
            table.remove(pending, 1)
        end

        if #known.early > LIMIT then
            table.remove(known.early, 1)
        end

        count[kind] = count[kind] + 1

        local shown = known.failed
        local transfer_status = 'failed'

        if count.initiated > count.successful + count.failed then
            shown, transfer_status = pending[#pending], 'initiated'
        elseif count.successful > 0 then
            shown, transfer_status = known.successful, 'successful'
        end

        local state = {
            'transfer_status', transfer_status,
            'transfers_initiated', count.initiated,
            'transfers_successful', count.successful,
            'transfers_failed', count.failed,
            '_transfers', cjson.encode(known)
        }

        for i = 1, #state do
            set[n + i] = state[i]
        end

        n = n + #state
        removed = {}

        for _, field in ipairs({ 'transfer_type', 'transfer_phone_number',
                                 'transfer_agent_identity', 'transfer_reason',
                                 'transfer_sip_status' })
        do
            if shown and shown[field] then
                set[n + 1], set[n + 2] = field, shown[field]
                n = n + 2
            else
                table.insert(removed, field)
            end
        end
    end


    message = '{"seq":' .. seq_text .. ',' .. head
        .. '"status":' .. status_json
        .. (previous and ',"previous_status":' .. previous_json or '')
        .. (late and ',"late":true,' or ',"late":false,')
        .. tail .. payload .. '}'

    result = seq * 256 + (counted - ZERO) * 16
             + (uncounted > ZERO and 15 or rank - ZERO)
end


if stream then
    local maxlen = argv[8]

    if maxlen == '0' then
        call('XADD', stream, '*', 'message', message)
    else
        call('XADD', stream, 'MAXLEN', maxlen, '*', 'message', message)
    end
end

if set then
    call('HSET', key, unpack(set))

    if removed and #removed > 0 then
        call('HDEL', key, unpack(removed))
    end

    if ttl == '0' then
        call('PERSIST', key)
    else
        call('PEXPIRE', key, ttl)
    end
end


-- A channel that is refused doesn't undo what is done, and keeps no other one
-- from its message.

local refused

for i = arg, #argv do
    local reply = redis.pcall('PUBLISH', argv[i], message)

    if type(reply) == 'table' then
        refused = reply.err
    end
end

return refused and { result, refused } or result
