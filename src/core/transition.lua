--
-- One delivery of an event to a call: the state transition, its publication,
-- and the answer whether it was one.  Runs in Redis, atomically.
--
-- What a call becomes depends on its deliveries and the times of their receipt,
-- not on the order in which they come here: a field has the value with the latest
-- receipt, of two at the same time that of the greater digest; transfers follow
-- from the list of their events in the order of receipt.
--
-- KEYS[1]  the hash of the call; its name ends with that of the room; for an
--          event of no call a name that is read, but not written
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
--   time, ms), digest of the body; the delivery id, the outcome, the duration (ms; if its unit is open, its readings as
--   milliseconds and as seconds), the span of the sender's times (ms), the
--   phone number and the end reason, if the digits say that there is one;
--   pairs of fields and values;
--
--   and for all events the channels; behind an empty argument those that are
--   sharded (SPUBLISH).
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

-- Transfers.  The events of them are kept in the order of their receipt; what
-- follows from them is found by going through them:
--
--   pending      attempts that were initiated and not resolved, the latest last
--   early        outcomes that came before their initiation, by number
--   s, f         the latest outcome of either kind, its fields
--   count        of each kind, 'i', 's' and 'f'
--   total        of all of them
--   kind, body   of the event before
--
-- An event is { received_at, kind, body, fields, id }, with the digest of its
-- body.  Equal ones that are neighbours are one delivery, if there is no id to
-- tell.

local OUTCOMES = 32
local TRANSFERS = 128

local function step(state, entry)
    local kind, body, attempt = entry[2], entry[3], entry[4]
    local number = attempt.transfer_phone_number or ''
    local pending, early = state.pending, state.early
    local match

    if not entry[5] and state.kind == kind and state.body == body then
        return
    end

    state.kind, state.body = kind, body
    state.total = state.total + 1
    state.count[kind] = state.count[kind] + 1
    state.early_one = nil

    if kind == 'i' then

        for i = #early, 1, -1 do
            if early[i] == number then
                match = i
                break
            end
        end

        if match then
            table.remove(early, match)
            state.early_one = true
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
            table.insert(early, number)
        end

        state[kind] = attempt
    end

    if #pending > OUTCOMES then
        table.remove(pending, 1)
    end

    if #early > OUTCOMES then
        table.remove(early, 1)
    end
end


-- Until 0.6 there was no list, but what followed from it.

local function old_transfers(known)
    local was = call('HMGET', key, 'transfers_initiated',
                     'transfers_successful', 'transfers_failed',
                     '_body:transfer')
    local count = { i = tonumber(was[1] or 0), s = tonumber(was[2] or 0),
                    f = tonumber(was[3] or 0) }

    return { pending = known.pending or {}, early = known.early or {},
             s = known.successful, f = known.failed, count = count,
             total = count.i + count.s + count.f, old = was[4] or nil }
end


-- Within a millisecond an attempt comes before its outcome.

local function rank(entry)
    return (entry[2] == 'i' and '0' or '1') .. entry[3] .. entry[2]
end


-- Adds the event that is being delivered.  Returns repeated, if it is the same
-- delivery as another one; split, by how many transitions more there are than
-- one; the list to be kept, if it changed; and what the hash is to have.

local function add_transfer(body, id, arg)
    local text = call('HMGET', key, '_transfers')[1]
    local known = text and cjson.decode(text) or {}
    local list, base = known.list or {}, known.base
    local total = known.total
    local fields = {}

    if not known.list then
        base = old_transfers(known)
        total = base.total
    end

    for i = arg, arg + 2 * (npairs - ZERO) - 2, 2 do
        fields[argv[i]] = argv[i + 1]
    end

    local entry = { received_at, string.char(transfer), body, fields, id }
    local at = #list + 1

    while at > 1 do
        local other = list[at - 1]
        local time = other[1]

        if time == received_at and other[2] == entry[2] and other[3] == body
           and other[5] == id
        then
            return { repeated = true, split = 0 }
        end

        if before(time, received_at)
           or time == received_at and rank(other) < rank(entry)
        then
            break
        end

        at = at - 1
    end

    table.insert(list, at, entry)

    -- the digest of what came last is all that 0.6 left to compare with

    if base.old and at == 1 and not id and body == base.old then
        return { repeated = true, split = 0 }
    end

    while #list > TRANSFERS do
        step(base, table.remove(list, 1))
    end

    local state = cjson.decode(cjson.encode(base))
    local late = before(received_at, list[#list][1])

    for i = 1, #list do
        step(state, list[i])

        if list[i] == entry and state.early_one then
            late = true
        end
    end

    local kept = cjson.encode({ base = base, list = list,
                                total = state.total })

    if state.total == total then
        return { repeated = true, split = 0, list = kept }
    end

    local count = state.count
    local shown, status = state.f, 'failed'

    if count.i > count.s + count.f then
        shown, status = state.pending[#state.pending], 'initiated'
    elseif count.s > 0 then
        shown, status = state.s, 'successful'
    end

    local result = {
        split = state.total - total - 1, late = late, removed = {},
        set = { 'transfer_status', status, 'transfers_initiated', count.i,
                'transfers_successful', count.s, 'transfers_failed', count.f,
                '_transfers', kept }
    }

    for _, field in ipairs({ 'transfer_type', 'transfer_phone_number',
                             'transfer_agent_identity', 'transfer_reason',
                             'transfer_sip_status' })
    do
        if shown and shown[field] then
            table.insert(result.set, field)
            table.insert(result.set, shown[field])
        else
            table.insert(result.removed, field)
        end
    end

    return result
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

    arg = arg + (has_id > ZERO and 4 or 3)

    if new_outcome_rank > ZERO then
        new_outcome = argv[arg]
        arg = arg + 1
    end

    -- A delivery without an id is recognised by its body: the latest 16 of its
    -- kind are remembered, digests of 22 bytes each.  An equal transfer body
    -- may be a new attempt, which the list of transfers tells.

    local at_field, body_field = 'at:' .. event, '_body:' .. event
    local id_field = has_id > ZERO and '_id:' .. id
    local old

    if id_field then
        old = call('HMGET', key, 'seq', '_state', 'status', 'created_at',
                   'updated_at', at_field, body_field, id_field)
    else
        old = call('HMGET', key, 'seq', '_state', 'status', 'created_at',
                   'updated_at', at_field, body_field)
    end

    local bodies = old[7] or ''

    -- what was spooled while its event was unknown has no digest

    local known_body = digest ~= '' and string.find(bodies, digest, 1, true)

    local duplicate = id_field and old[8] or not id_field and known_body
    local transfers

    if transfer ~= ZERO and not duplicate then
        transfers = add_transfer(digest, id_field and id or nil, arg)
        duplicate = transfers.repeated
    end

    local created_at, updated_at, at = old[4], old[5], old[6]

    if duplicate then

        -- as for an unknown event: a replica may not know what its master has
        -- lost, or got, since

        call('HDEL', key, '_')

        -- what comes again from a spool may have been received first

        if transfers and transfers.list then
            call('HSET', key, '_transfers', transfers.list)
        end

        if at and before(received_at, at) then
            call('HSET', key, at_field, received_at)
        end

        if before(received_at, created_at) then
            call('HSET', key, 'created_at', received_at)
        end

        return 0
    end

    local seq = (old[1] or 0) + 1 + (transfers and transfers.split or 0)

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

    if not known_body and transfer == ZERO then
        set[5], set[6] = body_field, sub(digest .. bodies, 1, 352)
        n = 6
    end

    if id_field then
        set[n + 1], set[n + 2] = id_field, seq_text
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

    local function take(field, source, known)
        if source == ZERO then
            return known
        end

        if source >= known and wins(field, source == known) then
            known = source
            set[n + 1], set[n + 2] = field, argv[arg]
            n = n + 2
        end

        arg = arg + 1

        return known
    end

    numbered = take('phone_number', number_source, numbered)
    reasoned = take('end_reason', reason_source, reasoned)

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
        late = late or transfers.late
        removed = transfers.removed

        for i = 1, #transfers.set do
            set[n + i] = transfers.set[i]
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

local publish, refused = 'PUBLISH'

for i = arg, #argv do
    local channel = argv[i]

    if channel == '' then
        publish = 'SPUBLISH'
    else
        local reply = redis.pcall(publish, channel, message)

        if type(reply) == 'table' then
            refused = reply.err
        end
    end
end

return refused and { result, refused } or result
