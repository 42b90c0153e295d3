--
-- One delivery of an event to a call: the state transition, its publication,
-- and the answer whether it was one.  Runs in Redis, atomically.
--
-- What a call becomes depends on its deliveries and the times of their receipt,
-- not on the order in which they come here (but for transfers): a field has the
-- value with the latest receipt, of two at the same time that of the greater
-- digest.
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
--   time, ms), digest of the body, and for a transfer or with a delivery id
--   that id or a nonce;
--   the outcome, the duration (ms; if its unit is open, its readings as
--   milliseconds and as seconds), the span of the sender's times (ms), the
--   phone number and the end reason, if the digits say that there is one;
--   pairs of fields and values;
--
--   and for all events the channels.
--
-- The digits are characters, '0' and the 63 after it: position, rank of the
-- status, rank of the outcome (0: none), the first letter of what is said of a
-- transfer (0: nothing), whether there is an id, the kind of the duration (0:
-- none, 1: call_ended's, 2: call_postprocessing's, 3: its unit is open),
-- whether there is a span, the number of pairs, whether the event was received
-- before the sender began to count, the length of the name of the room in
-- bytes, two digits, the direction and its source, the source of the phone
-- number and that of the end reason (vaani_source_e).  '0' alone stands for an
-- event that the table doesn't know.
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
local argv, call, byte, sub = ARGV, redis.call, string.byte, string.sub

local digits, event, received_at, ttl, head, tail, payload = unpack(argv, 1, 7)
local position, new_rank, new_outcome_rank, transfer, has_id, timed, has_span,
    npairs, uncounted, high, low, direction, direction_source, number_source,
    reason_source = byte(digits, 1, 15)

local ZERO = 48

-- Of two times, as text: to make numbers of them would take longer.

local function before(one, other)
    return #one < #other or #one == #other and one < other
end

local arg = stream and 9 or 8
local set, removed, message, result


if position == ZERO then
    local known = call('HMGET', key, 'seq', 'status')

    -- changes nothing, but a replica refuses it: what is published there
    -- reaches nobody

    call('HDEL', key, '_')

    message = '{' .. head .. (known[1] and '"seq":' .. known[1] .. ',' or '')
        .. '"known":false,'
        .. (known[2] and '"status":' .. cjson.encode(known[2]) .. ',' or '')
        .. tail .. payload .. '}'
    result = -1

else
    local new_status, since, digest, id = unpack(argv, arg, arg + 3)
    local new_outcome

    arg = arg + 3

    if has_id > ZERO or transfer ~= ZERO then
        arg = arg + 1
    else
        id = nil
    end

    if new_outcome_rank > ZERO then
        new_outcome = argv[arg]
        arg = arg + 1
    end

    -- A delivery without an id is recognised by its body: the latest 16 of its
    -- kind are remembered, digests of 22 bytes each.  An equal transfer body
    -- may be a new attempt, so for those only the latest transfer event counts,
    -- whichever it was.  The nonce is of the command: it tells one that is sent
    -- again because its reply was lost, even if others came between.

    local at_field = 'at:' .. event
    local digest_field = transfer == ZERO and '_body:' .. event
                         or '_body:transfer'
    local mark = has_id > ZERO and '_id:' .. id or transfer ~= ZERO and '_recent'
    local old

    if mark then
        old = call('HMGET', key, 'seq', '_state', 'status', 'created_at',
                   'updated_at', at_field, digest_field, mark)
    else
        old = call('HMGET', key, 'seq', '_state', 'status', 'created_at',
                   'updated_at', at_field, digest_field)
    end

    local bodies, marked = old[7] or '', mark and old[8]

    -- what was spooled while its event was unknown has no digest

    local known_body = digest ~= '' and string.find(bodies, digest, 1, true)

    if has_id > ZERO then

        if marked then
            return 0
        end

    else
        if known_body then
            return 0
        end

        if mark then
            marked = marked or ''

            if id ~= '' and string.find(marked, id, 1, true) then
                return 0
            end

            -- the latest 128 of 9 bytes each
            marked = sub(marked .. id .. ' ', -1152)
        end
    end

    local seq = (old[1] or 0) + 1
    local seq_text = string.format('%d', seq)

    -- _state: the rank of the status, the highest position of an event so far,
    -- the rank of the outcome, the sources of the phone number, the end reason
    -- and the direction; four characters of the digest of last_event; and once
    -- there is a duration that of call_ended, the two readings of
    -- call_postprocessing's (the second one empty if the unit is known), and the
    -- span, each behind a bar.

    local rank, reached, outcome_rank, numbered, reasoned, directed =
        ZERO, ZERO, ZERO, ZERO, ZERO, ZERO
    local last, durations = '', ''

    if old[2] and #old[2] > 9 then
        rank, reached, outcome_rank, numbered, reasoned, directed =
            byte(old[2], 1, 6)
        last, durations = sub(old[2], 7, 10), sub(old[2], 11)

    elseif old[2] then

        -- until 0.6 the fourth and last one was the position of the event that
        -- gave the duration; until 0.5.0 they were numbers with blanks between
        -- them

        local given
        rank, reached, outcome_rank, given = byte(old[2], 1, 4)

        if reached == 32 then
            rank, reached, outcome_rank, given =
                string.match(old[2], '^(%d+) (%d+) (%d+) (%d+)$')
            rank, reached = rank + ZERO, reached + ZERO
            outcome_rank, given = outcome_rank + ZERO, given + ZERO
        end

        local was = call('HMGET', key, 'phone_number', 'end_reason',
                         'direction', 'call_duration_ms')

        numbered = was[1] and (was[1] == '' and 49 or 51) or ZERO
        reasoned = was[2] and (was[2] == '' and 49 or 51) or ZERO
        directed = was[3] and 49 or ZERO

        if was[4] then
            durations = given == 54 and '|' .. was[4] .. '|||'
                        or '||' .. was[4] .. '||'
        end
    end

    local late = position < reached
    local created_at, updated_at, at = old[4], old[5], old[6]
    local counted = rank

    if uncounted > ZERO or updated_at and before(updated_at, since) then
        counted = ZERO + 15
    end

    -- Of this kind another body came before: which of its values is the later
    -- one is looked for field by field.

    local times, present

    local function wins(field, known)
        if not times then
            return true
        end

        if known then
            local time, other = string.match(times[field] or times[''],
                                             '^(%d*) (.*)$')

            if before(received_at, time)
               or time == received_at and digest < other
            then
                return false
            end
        end

        times[field] = received_at .. ' ' .. digest

        return true
    end

    if at and transfer == ZERO then
        times = call('HMGET', key, '_times:' .. event)[1]
        times = times and cjson.decode(times)
                or { [''] = at .. ' ' .. sub(bodies, 1, 22) }
    end

    local previous = old[3]
    local previous_json = previous and cjson.encode(previous)
    local status, status_json = previous, previous_json or 'null'

    set = { 'seq', seq_text, '_state', '' }
    local n = 4

    if transfer ~= ZERO then
        set[5], set[6] = digest_field, digest
        n = 6
    elseif not known_body then
        set[5], set[6] = digest_field, sub(digest .. bodies, 1, 352)
        n = 6
    end

    if mark then
        set[n + 1], set[n + 2] = mark, has_id > ZERO and seq_text or marked
        n = n + 2
    end

    if new_rank >= rank and wins('status', new_rank == rank) then
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

    if position > reached then
        reached = position
    end

    -- Durations: call_postprocessing's stands before that of call_ended, that
    -- before the span of the sender's times.

    if timed > ZERO or has_span > ZERO then
        local ended, ms, seconds, span =
            string.match(durations, '^|(%d*)|(%d*)|(%d*)|(%d*)$')

        ended, ms, seconds, span = ended or '', ms or '', seconds or '',
                                   span or ''

        if timed > ZERO then
            local one, two = argv[arg], ''

            arg = arg + 1

            if timed == 51 then
                two = argv[arg]
                arg = arg + 1
            end

            if timed == 49 then
                if wins('ended', ended ~= '') then
                    ended = one
                end
            elseif wins('duration', ms ~= '') then
                ms, seconds = one, two
            end
        end

        if has_span > ZERO then
            if wins('span', span ~= '') then
                span = argv[arg]
            end

            arg = arg + 1
        end

        local duration = ms

        if seconds ~= '' then

            -- the reading that is nearer to call_ended's, as a ratio; else
            -- milliseconds, unless that is below 1000, which no call with a
            -- transcript is

            local reference, reading = tonumber(ended) or 0, tonumber(ms)
            local nearer = reference > 0
                           and reference * reference - reading * seconds or 0

            if nearer > 0 or nearer == 0 and reading < 1000 then
                duration = seconds
            end
        end

        if duration == '' then
            duration = ended ~= '' and ended or span
        end

        durations = '|' .. ended .. '|' .. ms .. '|' .. seconds .. '|' .. span
        set[n + 1], set[n + 2] = 'call_duration_ms', duration
        n = n + 2
    end

    -- What several kinds of events tell: the source that stands higher wins.

    if number_source > ZERO then
        if number_source >= numbered
           and wins('phone_number', number_source == numbered)
        then
            numbered = number_source
            set[n + 1], set[n + 2] = 'phone_number', argv[arg]
            n = n + 2
        end

        arg = arg + 1
    end

    if reason_source > ZERO then
        if reason_source >= reasoned
           and wins('end_reason', reason_source == reasoned)
        then
            reasoned = reason_source
            set[n + 1], set[n + 2] = 'end_reason', argv[arg]
            n = n + 2
        end

        arg = arg + 1
    end

    if direction_source > directed
       or direction_source == 50 and directed == 50
    then
        if wins('direction', direction_source == directed) then
            directed = direction_source
            set[n + 1] = 'direction'
            set[n + 2] = ({ 'inbound', 'outbound', 'web' })[direction - ZERO]
            n = n + 2
        end
    end

    local first_pair = arg
    local last_pair = arg + 2 * (npairs - ZERO) - 1
    arg = last_pair + 1

    -- Spooled events come with the time of their receipt, so the earlier and
    -- the later time is looked for, not the time of the earlier and the later
    -- arrival.

    local latest = not updated_at or before(updated_at, received_at)

    if latest then
        set[n + 1], set[n + 2] = 'updated_at', received_at
        n = n + 2

    elseif updated_at == received_at then
        latest = last .. (call('HMGET', key, 'last_event')[1] or '')
                 < sub(digest, 1, 4) .. event
    end

    if latest then
        last = sub(digest, 1, 4)
        set[n + 1], set[n + 2] = 'last_event', event
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

    set[4] = string.char(rank, reached, outcome_rank, numbered, reasoned,
                         directed)
             .. (#last == 4 and last or '0000') .. durations

    if seq == 1 then
        set[n + 1] = 'room_name'
        set[n + 2] = sub(key, -((high - ZERO) * 64 + low - ZERO))
        n = n + 2
    end


    if transfer == ZERO then

        if times and npairs > ZERO then
            local fields = {}

            for i = first_pair, last_pair, 2 do
                fields[#fields + 1] = argv[i]
            end

            present = call('HMGET', key, unpack(fields))
        end

        for i = first_pair, last_pair, 2 do

            if not times
               or wins(argv[i], present[(i - first_pair) / 2 + 1])
            then
                set[n + 1], set[n + 2] = argv[i], argv[i + 1]
                n = n + 2
            end
        end

        if times then
            set[n + 1], set[n + 2] = '_times:' .. event, cjson.encode(times)
            n = n + 2
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


    message = '{' .. head .. '"seq":' .. seq_text
        .. ',"status":' .. status_json
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
