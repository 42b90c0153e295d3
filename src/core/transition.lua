-- Applies one delivery of an event to a call and publishes the transition.
-- Runs in Redis, atomically.
--
-- The state of a call depends on its deliveries and the times of their
-- receipt, not on the order of their arrival here.  A field holds the value
-- with the latest receipt; if two were received at the same time, the greater
-- digest wins.  Transfers follow from the list of their events in the order of
-- receipt.
--
-- KEYS[1]  the hash of the call, whose name ends with the name of the room;
-- for
--          an event of no call a key that is read, but not written
-- KEYS[2]  the stream, if there is one then, for an event of the table and
-- with an index, two sorted sets of rooms: the calls without an outcome, and
-- all calls
--
-- ARGV, written by vaani_transition.c, is as short as possible, because each
-- argument and each number costs Redis more than most of the steps below:
--
--   digits, head and tail (members of the message, each with its comma),
--   payload, with a stream its maxlen (0: any);
--
--   for an event of the table: the status, if it is none of the ladder; the
--   delivery id; the duration (ms; if its unit is open, its readings as
--   milliseconds and as seconds), the span of the sender's times (ms), the
--   phone number and the end reason, each if the digits say that there is one;
--   pairs of fields and values;
--
--   for all events the channels; after an empty argument the sharded channels
--   (SPUBLISH).
--
-- The digits are characters, '0' and the 63 after it: position, rank of the
-- status, rank of the outcome (0: none), the first letter of the transfer
-- event's kind (0: not a transfer), whether there is an id, the kind of the
-- duration (0: none, 1: call_ended's, 2: call_postprocessing's, 3: its unit is
-- open), whether there is a span, the number of pairs, whether the event was
-- received before the sender began to count (2 is added with an index), the
-- length of the name of the room in bytes (two digits), the direction and its
-- source, the source of the phone number, the source of the end reason
-- (vaani_source_e), whether the status is none of the ladder, the lengths of
-- the time of receipt and of the event's name.
--
-- The digits are followed by the period of the expiry (3 bytes), the code of
-- the event (1), the digest of the body (8; blanks if there is none), the time
-- since when the sender counts (13, Unix time, ms), the time of receipt (Unix
-- time, ms), the name of the event, and the time after which the hash expires
-- (ms, 0: never).  A single '0' stands for an event that the table does not
-- know.
--
-- A script is not rolled back.  Therefore every check that can refuse the
-- event comes before the first write, or is a write that Redis refuses
-- together with the first one (OOM, READONLY).
--
-- Returns 0 for a duplicate; -1 for an unknown event; otherwise the call's new
-- seq and, for transition counters, the ranks of the previous and the new
-- status in one number: seq * 256 + previous * 16 + new. previous is 0 for a
-- new call, and 15 if the previous event came before the sender began to
-- count.  Both are 15 if this event came before that and has been in a spool
-- since.  Returns {that, error} if a publication was refused.

local key, stream = KEYS[1], KEYS[2]
local argv, call, byte, sub = ARGV, redis.call, string.byte, string.sub

local digits = argv[1]
local position, new_rank, new_outcome_rank, transfer, has_id, timed, has_span,
    npairs, uncounted, high, low, direction, direction_source, number_source,
    reason_source, has_status, received_len, event_len, period_1, period_2,
    period_3, code, last_1, last_2, last_3, last_4 = byte(digits, 1, 26)
local room, active, calls, received_at

local ZERO, BLANK = 48, 32

if uncounted and uncounted > 49 then
    uncounted = uncounted - 2
    room = sub(key, -((high - ZERO) * 64 + low - ZERO))
    active, calls = KEYS[3], KEYS[4]

    if not calls then
        stream, active, calls = nil, KEYS[2], KEYS[3]
    end
end

-- Compares two times as text, because converting them to numbers takes longer.

local function before(one, other)
    return #one < #other or #one == #other and one < other
end

-- Transfers.  Their events are kept in the order of receipt.  The state is
-- computed from them in one pass:
--
--   pending      attempts that were initiated and not resolved, the latest last
--   early        number of outcomes that came before their initiation
--   s, f         the latest outcome of either kind, its fields
--   count        of each kind, 'i', 's' and 'f'
--   total        of all of them
--   kind, body   of the previous event
--
-- An event is { received_at, kind, body, fields, id }, with the digest of its
-- body.  Without an id, equal neighbouring events are one delivery.

local add_transfer

if transfer and transfer ~= ZERO then
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


    -- Until 0.6 the hash had no list, only the state computed from it.

    local function old_transfers(known)
        local was = call('HMGET', key, 'transfers_initiated',
                         'transfers_successful', 'transfers_failed',
                         '_body:transfer')
        local count = { i = tonumber(was[1] or 0), s = tonumber(was[2] or 0),
                        f = tonumber(was[3] or 0) }

        return { pending = known.pending or {}, early = known.early or {},
                 s = known.successful, f = known.failed, count = count,
                 total = count.i + count.s + count.f,
                 old = was[4] or nil }
    end


    -- Within the same millisecond an attempt comes before its outcome.

    local function rank(entry)
        return (entry[2] == 'i' and '0' or '1') .. entry[3] .. entry[2]
    end


    -- Adds the delivered event.  Returns: repeated, if the same delivery is
    -- already in the list; split, the number of transitions minus one; the
    -- list to be kept, if it changed; the fields and values for the hash.

    function add_transfer(body, id, arg)
        local text = call('HMGET', key, '_transfers')[1]
        local known = text and cjson.decode(text) or {}
        local list, base = known.list or {}, known.base
        local total = known.total
        local fields = {}

        if not known.list then
            base = old_transfers(known)
            total = base.total
        end

        -- Before 1.0 digests were longer.

        for _, entry in ipairs(list) do
            entry[3] = sub(entry[3], 1, 8)
        end

        base.body = base.body and sub(base.body, 1, 8)
        base.old = base.old and sub(base.old, 1, 8)

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

        -- 0.6 left only the latest digest to compare with.

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
                    'transfers_successful', count.s,
                    'transfers_failed', count.f,
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
end


local arg = stream and 6 or 5
local fields, n, removed, expire, message, result
local seq_text, state, status, last_event, updated_at, at_field, at
local has_outcome, gives_outcome


if position == ZERO then
    local known = call('HMGET', key, 'seq', 'status')

    -- Changes nothing, but a replica refuses it.  A publication on a replica
    -- does not reach the subscribers.

    call('HDEL', key, '_')

    message = '{' .. argv[2] .. (known[1] and '"seq":' .. known[1] .. ',' or '')
        .. '"known":false,'
        .. (known[2] and '"status":' .. cjson.encode(known[2]) .. ',' or '')
        .. argv[3] .. argv[4] .. '}'
    result = -1

else
    local received_end = 43 + received_len - ZERO
    local event_end = received_end + event_len - ZERO
    local event = sub(digits, received_end + 1, event_end)
    local id, id_field, new_status, old, durations

    -- Searching the string takes less time than creating a table.

    local function status_of(rank)
        return rank == 49 and 'started' or rank == 50 and 'dialing'
               or rank == 51 and 'ringing' or rank == 52 and 'active'
               or rank == 53 and 'failed' or rank == 54 and 'no_answer'
               or rank == 55 and 'rejected' or 'ended'
    end

    received_at = sub(digits, 44, received_end)

    if has_status > ZERO then
        new_status = argv[arg]
        arg = arg + 1
    else
        new_status = status_of(new_rank)
    end

    if has_id > ZERO then
        id = argv[arg]
        id_field = '_id:' .. id
        arg = arg + 1
        old = call('HMGET', key, '_state', 'updated_at', id_field)

    elseif timed > ZERO then
        old = call('HMGET', key, '_state', 'updated_at', '_ms')
        durations = old[3] or ''

    else
        old = call('HMGET', key, '_state', 'updated_at')
    end

    -- _state, in one field, because each field costs memory and time:
    --
    --   1..6    the rank of the status, the highest position of an event so
    --           far, the rank of the outcome, the sources of the phone number,
    --           the end reason and the direction
    --   7       '~'; '^' if the status is none of the ladder
    --   8..11   seq, digits as above, the first one without a limit
    --   12..14  the period in which the expiry was last set
    --   15..18  of the digest of last_event
    --   19..    of each body of an event that is no transfer: the code of the
    --           event, and the digest; sorted by the code, the latest body
    --           first, at most 16 per code
    --
    -- With the five events of a call it has no more than 64 bytes.  Redis
    -- stores a hash with a longer value in another form that takes twice the
    -- memory.  Therefore durations have a field of their own, _ms.
    --
    -- The first four have the same place as in earlier versions.  During an
    -- upgrade such a version may apply an event and write back only these
    -- four.

    state, updated_at = old[1] or '', old[2]

    local rank, reached, outcome_rank, numbered, reasoned, directed, form,
        seq_1, seq_2, seq_3, seq_4, was_1, was_2, was_3 = byte(state, 1, 14)
    local was, previous, seq = form

    if form == 126 or form == 94 then
        seq = ((seq_1 * 64 + seq_2) * 64 + seq_3) * 64 + seq_4 - 48 * 266305
        previous = form == 126 and status_of(rank)
                   or call('HMGET', key, 'status')[1]

    elseif not rank then
        rank, reached, outcome_rank, numbered, reasoned, directed =
            ZERO, ZERO, ZERO, ZERO, ZERO, ZERO
        seq = 0

    else

        -- Before 1.0 the digests had fields of their own, _body:<event>, of 22
        -- bytes each.  Until 0.6 the fourth and last character was the
        -- position of the event that gave the duration.  Until 0.5.0 the
        -- values were numbers separated by blanks.

        local codes = {
            '!call_started', '#call_ringing', '$user_picked_up_at',
            '%call_rejected', '&call_no_answer', '(call_failed', ')call_ended',
            '*call_postprocessing'
        }
        local names = { 'phone_number', 'end_reason', 'direction',
                        'call_duration_ms', 'seq', 'status' }

        for i = 1, #codes do
            names[5 + 2 * i] = 'at:' .. sub(codes[i], 2)
            names[6 + 2 * i] = '_body:' .. sub(codes[i], 2)
        end

        local had, bodies = call('HMGET', key, unpack(names)), {}
        local last = '0000'

        durations = ''

        seq, previous = tonumber(had[5] or 0) or 0, had[6]

        if #state > 9 then
            rank, reached, outcome_rank, numbered, reasoned, directed =
                byte(state, 1, 6)
            last, durations = sub(state, 7, 10), sub(state, 11)

        else
            local given
            rank, reached, outcome_rank, given = byte(state, 1, 4)

            if reached == BLANK then
                rank, reached, outcome_rank, given =
                    string.match(state, '^(%d+) (%d+) (%d+) (%d+)$')
                rank, reached = rank + ZERO, reached + ZERO
                outcome_rank, given = outcome_rank + ZERO, given + ZERO
            end

            numbered = had[1] and (had[1] == '' and 49 or 51) or ZERO
            reasoned = had[2] and (had[2] == '' and 49 or 51) or ZERO
            directed = had[3] and 49 or ZERO

            if had[4] then
                durations = (given == 54 and '|' or '||') .. had[4]
            end
        end

        removed = {}

        for i = 1, #codes do
            local kind, body = sub(codes[i], 1, 1), had[6 + 2 * i]

            if body and body ~= '' then
                for at = 1, #body, 22 do
                    bodies[#bodies + 1] = kind .. sub(body, at, at + 7)
                end

                removed[#removed + 1] = names[6 + 2 * i]

            elseif had[5 + 2 * i] then
                bodies[#bodies + 1] = kind .. '        '
            end
        end

        form = previous == status_of(rank) and 126 or 94
        was_1 = nil
        state = '000000~0000   ' .. last .. table.concat(bodies)
    end

    -- A delivery without an id is recognized by its body: the hash keeps the
    -- latest 16 digests of each kind.  An equal transfer body may be a new
    -- attempt; the list of transfers decides that.

    local first, last = 19, 18    -- of the entries of this event
    local known_body, transfers, duplicate

    at_field = 'at:' .. event

    if transfer == ZERO then
        local other = byte(state, first)

        while other and other < code do
            first = first + 9
            other = byte(state, first)
        end

        last = first - 1

        while other == code do
            last = last + 9
            other = byte(state, last + 1)
        end

        if last > first then
            at = call('HMGET', key, at_field)[1]

            -- An event that was spooled while it was unknown has no digest.

            known_body = byte(digits, 23) ~= BLANK
                         and string.find(sub(state, first, last),
                                         sub(digits, 23, 30), 1, true)
        end

        duplicate = id_field and old[3] or not id_field and known_body

    else
        duplicate = id_field and old[3]

        if not duplicate then
            transfers = add_transfer(sub(digits, 23, 30), id, arg)
            duplicate = transfers.repeated
        end

        at = call('HMGET', key, at_field)[1]
    end

    if duplicate then

        -- As for an unknown event: a replica may lack its master's latest
        -- writes.

        call('HDEL', key, '_')

        -- An event that arrives again from a spool may have been received
        -- first.

        if transfers and transfers.list then
            call('HSET', key, '_transfers', transfers.list)
        end

        if at and before(received_at, at) then
            call('HSET', key, at_field, received_at)
        end

        if before(received_at, call('HMGET', key, 'created_at')[1] or '') then
            call('HSET', key, 'created_at', received_at)

            if room then
                call('ZADD', calls, updated_at, room)

                if outcome_rank == ZERO then
                    call('ZADD', active, received_at, room)
                end
            end
        end

        return 0
    end

    seq = seq + 1 + (transfers and transfers.split or 0)
    seq_4 = seq % 64

    if seq < 64 then
        seq_1, seq_2, seq_3 = 0, 0, 0

    else
        seq_3 = (seq - seq_4) / 64 % 64
        seq_2 = (seq - seq_4 - seq_3 * 64) / 4096 % 64
        seq_1 = (seq - seq_4 - seq_3 * 64 - seq_2 * 4096) / 262144
    end

    seq_text = seq < 10 and string.char(ZERO + seq)
               or string.format('%d', seq)

    local late = position < reached
    local counted = rank

    if uncounted > ZERO
       or updated_at and updated_at < sub(digits, 31, 43)
    then
        counted = ZERO + 15
    end

    -- Another body of this kind came before.  For each field the later value
    -- is found separately.

    local times, present, wins

    if at and transfer == ZERO then
        local digest = sub(digits, 23, 30)

        times = call('HMGET', key, '_times:' .. event)[1]
        times = times and cjson.decode(times)
                or { [''] = at .. ' ' .. sub(state, first + 1, first + 8) }

        wins = function (field, known)
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
    end

    -- The fields of each event are written without a table, because a table
    -- takes time.  Values that must stay are written again afterwards.

    fields, n = {}, 0
    status = previous or ''

    if new_rank >= rank and (not times or wins('status', new_rank == rank)) then
        rank, status = new_rank, new_status
        form = has_status > ZERO and 94 or 126
    end

    -- Spooled events have the time of their receipt.  Therefore the earlier
    -- and the later time are compared, not the times of the earlier and the
    -- later arrival.

    if not at or before(received_at, at) then
        at = received_at
    end

    if not updated_at then
        last_event, updated_at = event, received_at
        fields[1], fields[2] = 'created_at', received_at
        n = 2

    elseif before(updated_at, received_at) then
        last_event, updated_at = event, received_at

    else
        last_event = call('HMGET', key, 'last_event')[1] or event

        if updated_at == received_at
           and sub(state, 15, 18) .. last_event < sub(digits, 23, 26) .. event
        then
            last_event = event

        else
            last_1, last_2, last_3, last_4 = byte(state, 15, 18)

            if before(received_at, call('HMGET', key, 'created_at')[1] or '')
            then
                fields[1], fields[2] = 'created_at', received_at
                n = 2
            end
        end
    end

    if id_field then
        fields[n + 1], fields[n + 2] = id_field, seq_text
        n = n + 2
    end

    gives_outcome = new_outcome_rank > ZERO

    if new_outcome_rank > outcome_rank then
        local outcomes = { 'completed', 'failed', 'no_answer', 'rejected' }

        outcome_rank = new_outcome_rank
        fields[n + 1] = 'outcome'
        fields[n + 2] = outcomes[new_outcome_rank - ZERO]
        n = n + 2
    end

    has_outcome = outcome_rank > ZERO

    if position > reached then
        reached = position
    end

    -- Durations: call_postprocessing's takes precedence over call_ended's, and
    -- call_ended's over the span of the sender's times. _ms holds that of
    -- call_ended, the two readings of call_postprocessing's (the second one is
    -- empty if the unit is known), and the span, separated by bars.  Empty
    -- ones at the end are left out.

    if timed > ZERO or has_span > ZERO then
        local ended, ms, seconds, span =
            string.match(durations or call('HMGET', key, '_ms')[1] or '',
                         '^|(%d*)|?(%d*)|?(%d*)|?(%d*)$')

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
                if not times or wins('ended', ended ~= '') then
                    ended = one
                end
            elseif not times or wins('duration', ms ~= '') then
                ms, seconds = one, two
            end
        end

        if has_span > ZERO then
            if not times or wins('span', span ~= '') then
                span = argv[arg]
            end

            arg = arg + 1
        end

        local duration = ms

        if seconds ~= '' then

            -- The reading whose ratio to call_ended's is nearer to 1.
            -- Otherwise milliseconds, unless that is below 1000: no call with
            -- a transcript is that short.

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

        durations = string.match('|' .. ended .. '|' .. ms .. '|' .. seconds
                                 .. '|' .. span, '^(.-)|*$')

        fields[n + 1], fields[n + 2] = 'call_duration_ms', duration
        n = n + 2
    end

    if durations then
        fields[n + 1], fields[n + 2] = '_ms', durations
        n = n + 2
    end

    -- Values that several kinds of events have: the source of the higher rank
    -- wins.  Written out for each field, because a function would be created
    -- for each event.

    if number_source > ZERO then
        if number_source >= numbered
           and (not times or wins('phone_number', number_source == numbered))
        then
            numbered = number_source
            fields[n + 1], fields[n + 2] = 'phone_number', argv[arg]
            n = n + 2
        end

        arg = arg + 1
    end

    if reason_source > ZERO then
        if reason_source >= reasoned
           and (not times or wins('end_reason', reason_source == reasoned))
        then
            reasoned = reason_source
            fields[n + 1], fields[n + 2] = 'end_reason', argv[arg]
            n = n + 2
        end

        arg = arg + 1
    end

    if direction_source > directed
       or direction_source == 50 and directed == 50
    then
        if not times or wins('direction', direction_source == directed) then
            directed = direction_source
            fields[n + 1] = 'direction'
            fields[n + 2] = direction == 49 and 'inbound'
                         or direction == 50 and 'outbound' or 'web'
            n = n + 2
        end
    end

    local first_pair = arg
    local last_pair = arg + 2 * (npairs - ZERO) - 1
    arg = last_pair + 1

    local entry, others = '', sub(state, first)

    if not known_body and transfer == ZERO then
        entry = sub(digits, 22, 30)

        if last - first >= 16 * 9 - 1 then
            others = sub(state, first, last - 9) .. sub(state, last + 1)
        end
    end

    state = string.char(rank, reached, outcome_rank, numbered, reasoned,
                        directed, form, ZERO + seq_1, ZERO + seq_2, ZERO + seq_3,
                        ZERO + seq_4, period_1, period_2, period_3, last_1,
                        last_2, last_3, last_4)
            .. sub(state, 19, first - 1) .. entry .. others

    if seq == 1 then
        fields[n + 1] = 'room_name'
        fields[n + 2] = room
                        or sub(key, -((high - ZERO) * 64 + low - ZERO))
        n = n + 2
    end


    if transfer == ZERO then

        if times and npairs > ZERO then
            local names = {}

            for i = first_pair, last_pair, 2 do
                names[#names + 1] = argv[i]
            end

            present = call('HMGET', key, unpack(names))
        end

        for i = first_pair, last_pair, 2 do

            if not times
               or wins(argv[i], present[(i - first_pair) / 2 + 1])
            then
                fields[n + 1], fields[n + 2] = argv[i], argv[i + 1]
                n = n + 2
            end
        end

        if times then
            fields[n + 1] = '_times:' .. event
            fields[n + 2] = cjson.encode(times)
            n = n + 2
        end

    else
        late = late or transfers.late
        removed = removed or {}

        for _, field in ipairs(transfers.removed or {}) do
            removed[#removed + 1] = field
        end

        for i = 1, #transfers.set do
            fields[n + i] = transfers.set[i]
        end

        n = n + #transfers.set
    end


    -- A status of the ladder needs no escaping.

    local status_json = form == 126 and '"' .. status .. '"'
                        or cjson.encode(status)

    if previous then
        previous = previous == status and status_json
                   or was == 126 and '"' .. previous .. '"'
                   or cjson.encode(previous)
    end

    message = '{' .. argv[2] .. '"seq":' .. seq_text
        .. ',"status":' .. status_json
        .. (previous and ',"previous_status":' .. previous or '')
        .. (late and ',"late":true,' or ',"late":false,')
        .. argv[3] .. argv[4] .. '}'

    result = seq * 256 + (counted - ZERO) * 16
             + (uncounted > ZERO and 15 or rank - ZERO)

    -- The expiry is set once per period.  A period is a hundredth of the
    -- expiry time, and the expiry is longer by one period.  Therefore the hash
    -- expires neither too early nor more than one period late.

    expire = (period_1 ~= was_1 or period_2 ~= was_2 or period_3 ~= was_3)
             and sub(digits, event_end + 1)
end


-- The index comes first: if it is refused, nothing has been written yet.

if room and fields then

    -- Removes calls whose hashes have expired.  On average one call expires
    -- for each call that begins.  After a pause there are many; only some are
    -- removed each time, because Redis serves no other client meanwhile.

    if expire and expire ~= '0' then
        local old = call('ZRANGEBYSCORE', calls, '-inf',
                         string.format('%.0f', received_at - expire), 'LIMIT',
                         0, 100)

        if old[1] then
            call('ZREM', active, unpack(old))
            call('ZREM', calls, unpack(old))
        end
    end

    -- Also for a late event: a room in active but not in calls would never be
    -- removed.

    call('ZADD', calls, updated_at, room)

    -- A call is active from its first event to its outcome, in the order of
    -- arrival.  Each event with an outcome removes the call, because an
    -- earlier one may have come through an nginx that keeps no index.

    if not has_outcome then

        if fields[1] == 'created_at' then
            call('ZADD', active, received_at, room)
        end

    elseif gives_outcome then
        call('ZREM', active, room)
    end

    if expire == '0' then
        call('PERSIST', active)
        call('PERSIST', calls)

    elseif expire then
        call('PEXPIRE', active, expire)
        call('PEXPIRE', calls, expire)
    end
end


if stream then
    local maxlen = argv[5]

    if maxlen == '0' then
        call('XADD', stream, '*', 'message', message)
    else
        call('XADD', stream, 'MAXLEN', maxlen, '*', 'message', message)
    end
end

if fields then
    call('HSET', key, 'seq', seq_text, '_state', state, 'status', status,
         'last_event', last_event, 'updated_at', updated_at, at_field, at,
         unpack(fields, 1, n))

    if removed and #removed > 0 then
        call('HDEL', key, unpack(removed))
    end

    if expire then
        if expire == '0' then
            call('PERSIST', key)
        else
            call('PEXPIRE', key, expire)
        end
    end
end


-- A refused channel does not undo the writes, and the other channels still get
-- the message.

local publish, refused = 'PUBLISH'

for i = arg, #argv do
    local channel = argv[i]

    if channel == '' then
        publish = 'SPUBLISH'
    else
        local reply = redis.pcall(publish, channel, message)

        if reply ~= 0 and type(reply) == 'table' then
            refused = reply.err
        end
    end
end

return refused and { result, refused } or result
