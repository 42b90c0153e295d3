/*
 * The promise of "retain": an event that was answered "ok" or "queued" is in
 * Redis in the end, whatever Redis has lost meanwhile.
 *
 * Two workers with a connection each, one of them the leader, a directory, and
 * two servers: either a master and a replica that lags, which take each other's
 * place, or one server and a snapshot, an older state of it.  t/model/retain.t
 * explores all interleavings within bounds, and repeats it without each rule of
 * the design: then an event must be lost.
 *
 * A set of events is a mask.  A worker has one event in hand, so the records of
 * a segment are in the order of their numbers, and the mask of its first n
 * records is a position in it.  In the segment of the events that wait, the
 * order of the records does not matter: no mark is set before it is sealed.
 */


#ifndef EVENTS
#define EVENTS    2             /* that senders send, at most 3 */
#endif

#ifndef SEGMENTS
#define SEGMENTS  3             /* kept segments, each a life of a connection */
#endif

#ifndef FAULTS
#define FAULTS    1             /* of the servers */
#endif

#ifndef BREAKS
#define BREAKS    0             /* connections that break by themselves */
#endif

#ifndef KILLS
#define KILLS     1             /* of a worker, or of all of nginx */
#endif

/*
 * Faults:  PROMOTE  the replica becomes the master, also while the old one goes
 *                   on, and back, with what it has or had
 *          WIPE     FLUSHALL
 *          RESTART  empty, or from the snapshot
 *          RESTORE  to the snapshot, and the connections stay open
 *          LATE     a mark of a worker that was killed is executed later
 *          CLONE    a copy of the directory has an nginx of its own
 *
 * More:    ROTATE   a life of a connection has several segments
 *          STEPS    the leader also sets marks on the way
 *          PLAIN    events that waited are delivered without a mark
 */


/*
 * FINE: all steps are separate.  Without it, some are one step: the answer, the
 * record and the answer to the sender; a mark, its execution and its reply; to
 * look at a mark and to claim it.
 */

#if defined FINE || defined LATE || defined RESEND_MARK
#define ASKED
#endif


#define NONE  0

/* segments: one for the events that wait is behind the others */

#define WAITING  SEGMENTS
#define ALL      (SEGMENTS + 1)

mtype:waiting = { open, sealed, kept };

/* what an event of a worker and the command with its mark are at */

mtype:event = { idle, ready, applied, answered, recorded };
mtype:mark = { quiet, asked, set };

/* what a leader does with a segment */

mtype:heal = { rest, found, claimed, plain };

/*
 * A mark is missing, or it is a position and the tag of who has set it.  Tags
 * are random; here the smallest number that nobody knows of is as good.
 */

#define MISSING            0
#define MARK(events, tag)  (128 | ((tag) << 3) | (events))
#define POSITION(mark)     ((mark) & 7)
#define TAG(mark)          (((mark) >> 3) & 15)

#ifdef ONE_MARK
#define KEY(segment)       0
#else
#define KEY(segment)       (segment)
#endif

#ifdef NO_CAS
#define STANDS(server, segment, expected)  true
#else
#define STANDS(server, segment, expected)                                     \
    (state[server].mark[KEY(segment)] == (expected))
#endif


typedef state_t {
    byte  events;
    byte  mark[ALL];
};

typedef worker_t {
    byte         server;        /* that it is connected to, from 1, or NONE */

    byte         segment;       /* that it writes, from 1, or NONE */
    byte         own;           /* its mark, as it was written last */

    mtype:event  is;
    byte         event;
    byte         to;            /* the segment that its record goes to */

    mtype:mark   mark;
    byte         marked;        /* the segment */
    byte         expected;
    byte         value;

    bit          resend;
    bit          warned;        /* an error, and yet the segment goes on */
};

typedef leader_t {
    byte        server;         /* that it has begun with */
    mtype:heal  does;
    byte        segment;
    byte        mark;           /* that was read, or set */
    byte        done;           /* applied over this life, or covered */
    byte        seen;
};


/* the servers */

state_t  state[2];
bit      accepts[2];
byte     master = 0;
bit      copied;                /* to the other one, since the last fault */

/* the directory: it outlives everything */

byte           records[ALL];
mtype:waiting  waiting = open;

/* what senders were answered */

byte  acknowledged;

worker_t  worker[2];
byte      leads;                /* a worker, from 1, or NONE */
leader_t  leader[2];            /* the second one: of a clone */

/* a compare-and-set that is under way on a connection that has ended */

bit   late;
byte  late_server, late_segment, late_expected, late_value;

byte  arrived, segments, tags;
byte  faults = FAULTS, breaks = BREAKS, kills = KILLS;

/* the copy of a directory, and to which server its nginx is connected */

bit   cloned;
byte  copy[ALL];
byte  clone_server;

hidden byte  n, tag, first, m;


#define OTHER(server)    (1 - (server))
#define CONNECTED(w)     (worker[w].server != NONE)
#define SERVER(w)        (worker[w].server - 1)
#define WRITES(w)        (worker[w].segment != NONE)
#define CURRENT(w)       (worker[w].segment - 1)

/* a segment is closed if its lock can be had */

#define LOCKED_BY(w, s)                                                       \
    ((worker[w].segment == (s) + 1)                                           \
     || (worker[w].is == answered && worker[w].to == (s) + 1))
#define CLOSED(s)        (!LOCKED_BY(0, s) && !LOCKED_BY(1, s))

#define LOWEST(mask)     ((mask) & (~(mask) + 1) & 7)

/* the files of this leader, and its connection */

#define FILE(l, s)       (l == 0 -> records[s] : copy[s])
#define LEADING(l)       (l == 0 -> leads != NONE && CONNECTED(leads - 1)     \
                                 : cloned && clone_server != NONE)
#define ITS_SERVER(l)    ((l == 0 -> worker[(leads == 2)].server              \
                                  : clone_server) - 1)


/* the script recognises what it has */

#ifdef NOT_RECOGNISED
#define RECOGNISED(at, which)  assert(!(state[at].events & (which)))
#else
#define RECOGNISED(at, which)  skip
#endif

#define APPLY(at, which)                                                      \
    RECOGNISED(at, which);                                                    \
    state[at].events = state[at].events | (which)


/* ---- what ends ----------------------------------------------------------- */

inline leader_rests(l) {
    leader[l].does = rest;
    leader[l].segment = 0;
    leader[l].mark = 0;
    leader[l].done = 0;
    leader[l].server = 0
}


inline mark_is_set(w) {
    if
    :: worker[w].resend
    :: else ->
        worker[w].segment = worker[w].marked + 1;
        worker[w].own = worker[w].value
    fi;
    mark_rests(w)
}


/* it is executed, or refused */

inline execute_mark(w) {
    if
    :: !accepts[SERVER(w)] ->
#ifdef ERROR_KEEPS
        mark_rests(w);
        worker[w].warned = 1
#else
        end_life(w)
#endif
    :: accepts[SERVER(w)] &&
       STANDS(SERVER(w), worker[w].marked, worker[w].expected) ->
        state[SERVER(w)].mark[KEY(worker[w].marked)] = worker[w].value;
#ifdef FINE
        worker[w].mark = set
#else
        mark_is_set(w)
#endif
    :: else ->
        mark_rests(w);
        close_segment(w)
    fi
}


inline send_mark(w) {
#ifdef ASKED
    worker[w].mark = asked
#else
    execute_mark(w)
#endif
}


/* a claim, and its answer, are behind those of an event that was sent before */

#define IN_ORDER(w)                                                           \
    (worker[w].is != applied || worker[w].resend                              \
     || worker[w].marked == CURRENT(w))

#ifdef ASKED
#define MAY_CLAIM(w)     true
#else
#define MAY_CLAIM(w)     (worker[w].is != applied)
#endif


inline mark_rests(w) {
    worker[w].mark = quiet;
    worker[w].marked = 0;
    worker[w].expected = 0;
    worker[w].value = 0;
    worker[w].resend = 0
}


/* no new events are appended, only those answered before */

inline close_segment(w) {
    worker[w].segment = NONE;
    worker[w].own = 0;
    worker[w].warned = 0
}


/* what was sent is left behind */

#define LEAVE_LATE(at, which, from, to)                                       \
    late = 1;                                                                 \
    late_server = at;                                                         \
    late_segment = which;                                                     \
    late_expected = from;                                                     \
    late_value = to


inline no_late() {
    late = 0;
    late_server = 0;
    late_segment = 0;
    late_expected = 0;
    late_value = 0
}


/* the life of a connection ends */

inline end_life(w) {

    if
    :: worker[w].is == applied -> worker[w].is = ready
    :: else
    fi;

#ifdef RESEND_MARK
    if
    :: worker[w].mark == asked -> worker[w].resend = 1
    :: worker[w].mark != quiet && worker[w].mark != asked -> mark_rests(w)
    :: else
    fi;
#else
    mark_rests(w);
#endif

#ifndef NO_CLOSE
    close_segment(w);
#endif

#ifndef HEAL_MARK_ANY_LIFE
    if
    :: leads == w + 1 && leader[0].does != plain -> leader_rests(0)
    :: else
    fi;
#endif

    worker[w].server = NONE
}


inline die(w) {
    end_life(w);
    close_segment(w);
    mark_rests(w);

    worker[w].is = idle;
    worker[w].event = 0;
    worker[w].to = 0;

    if
    :: leads == w + 1 ->
        leader_rests(0);
        leader[0].seen = 0;
        leads = NONE;

        /* its next name is another one */

        if
        :: waiting == sealed ->
            state[0].mark[WAITING] = MISSING;
            state[1].mark[WAITING] = MISSING;

            if
            :: late && late_segment == WAITING -> no_late()
            :: else
            fi
        :: else
        fi
    :: else
    fi
}


inline copy_state(from, to) {
    state[to].events = state[from].events;

    for (n : 0 .. ALL - 1) {
        state[to].mark[n] = state[from].mark[n]
    }
    n = 0
}


inline forget(server) {
    state[server].events = 0;

    for (n : 0 .. ALL - 1) {
        state[server].mark[n] = MISSING
    }
    n = 0
}


/* the smallest tag that stands nowhere; a writer's is 1 */

#define USES(value, t)   ((value) != MISSING && TAG(value) == (t))
#define TAKEN(s, t)                                                           \
    (USES(state[0].mark[s], t) || USES(state[1].mark[s], t)                   \
     || (late && late_segment == (s)                                          \
         && (USES(late_expected, t) || USES(late_value, t)))                  \
     || (leader[0].segment == (s) && USES(leader[0].mark, t))                 \
     || (leader[1].segment == (s) && USES(leader[1].mark, t)))

inline new_tag() {
#ifdef NO_TAG
    tag = 0;
#else
    tag = 2;
    do
    :: TAKEN(m, tag) -> tag++
    :: else -> break
    od;
    assert(tag < 16)
#endif
}

#ifdef NO_TAG
#define FIRST_TAG  0
#else
#define FIRST_TAG  1
#endif


/* ---- a worker ------------------------------------------------------------ */

/*
 * It is assumed that within one life of a connection the server has one
 * history: it may forget all, or go back to where this writer's last mark was
 * another, but not to where that mark stood and what came behind it was
 * missing.  This worker has something behind its mark:
 */

#define LAST(w)                                                               \
    (worker[w].mark == set -> worker[w].value : worker[w].own)
#define BEHIND(w)                                                             \
    (WRITES(w)                                                                \
     && (worker[w].is == applied || worker[w].is == answered                  \
         || worker[w].is == recorded                                          \
         || (records[CURRENT(w)] & ~POSITION(LAST(w)))))
#define HEALS(l)                                                              \
    ((leader[l].does == claimed || leader[l].does == found)                   \
     && (leader[l].done & ~POSITION(leader[l].mark)))

/* what a mark counts */

#ifdef MARK_BEFORE_ANSWER
#define COUNTED(w)       (records[CURRENT(w)]                                 \
                          | (worker[w].is == ready || worker[w].is == applied  \
                             || worker[w].is == answered                      \
                             -> worker[w].event : 0))
#elif defined ONE_MARK
#define COUNTED(w)       (records[0] | records[1] | records[2])
#else
#define COUNTED(w)       records[CURRENT(w)]
#endif

#ifdef ONE_MARK
#define OWN(w)           state[SERVER(w)].mark[0]
#else
#define OWN(w)           worker[w].own
#endif

#ifdef ANSWER_BEFORE_APPEND

inline append(w) {
    acknowledged = acknowledged | worker[w].event;
    worker[w].is = recorded
}

inline answer(w) {
    records[worker[w].to - 1] = records[worker[w].to - 1] | worker[w].event;
    worker[w].to = 0;
    worker[w].event = 0;
    worker[w].is = idle
}

#else

inline append(w) {
    records[worker[w].to - 1] = records[worker[w].to - 1] | worker[w].event;
    worker[w].to = 0;
    worker[w].is = recorded
}

inline answer(w) {
    acknowledged = acknowledged | worker[w].event;
    worker[w].event = 0;
    worker[w].is = idle
}

#endif


/*
 * Steps without an effect can be delayed, which saves states: a connection, a
 * lock, and faults of processes that hold nothing.
 */

#if SEGMENTS == 2
#define ANY_RECORDS      (records[0] | records[1] | records[2])
#elif SEGMENTS == 3
#define ANY_RECORDS      (records[0] | records[1] | records[2] | records[3])
#else
#define ANY_RECORDS                                                           \
    (records[0] | records[1] | records[2] | records[3] | records[4])
#endif

#define NEEDS(w)         (worker[w].is == ready || leads == (w) + 1)
#define BUSY(w)                                                               \
    (WRITES(w) || worker[w].mark != quiet || leads == (w) + 1)

/* one life has several segments, each is full or old after a while */

#ifdef ROTATE
#define MAY_BEGIN(w)     true
#else
#define MAY_BEGIN(w)     !WRITES(w)
#endif

proctype Worker(byte w) {

end:
    do

    /* an event arrives */

    :: d_step { worker[w].is == idle && arrived < EVENTS &&
                (arrived > 0 || w == 0) ->
        worker[w].is = ready;
        worker[w].event = 1 << arrived;
        arrived++ }

    /*
     * It is sent, and the server executes it or refuses it.  One that was sent
     * and not executed is as one that was not sent.
     */

    :: d_step { worker[w].is == ready && CONNECTED(w) && WRITES(w) ->
        if
        :: accepts[SERVER(w)] ->
            APPLY(SERVER(w), worker[w].event);
            worker[w].is = applied
        :: else ->
#ifdef ERROR_KEEPS
            worker[w].warned = 1
#else
            end_life(w)
#endif
        fi }

    /* the answer is read; a thread may write the record later */

    :: d_step { worker[w].is == applied ->
        if
        :: WRITES(w) ->
            worker[w].to = worker[w].segment;
#ifdef FINE
            worker[w].is = answered
#else
            append(w);
            answer(w)
#endif
        :: else ->
            worker[w].is = ready
        fi }

#ifdef FINE
    :: d_step { worker[w].is == answered ->
#ifdef APPEND_LATE
        if
        :: WRITES(w) -> worker[w].to = worker[w].segment
        :: else
        fi;
#endif
        append(w) }

    /* and then the sender has its answer */

    :: d_step { worker[w].is == recorded ->
        answer(w) }
#endif

    /* Redis does not take it: it waits, and "queued" is the answer */

    :: d_step { worker[w].is == ready && !CONNECTED(w) && waiting == open ->
        records[WAITING] = records[WAITING] | worker[w].event;
        acknowledged = acknowledged | worker[w].event;
        worker[w].event = 0;
        worker[w].is = idle }

    /* a connection, perhaps to one that was the master */

    :: d_step { !CONNECTED(w) && NEEDS(w) && accepts[0] ->
        worker[w].server = 1 }
    :: d_step { !CONNECTED(w) && NEEDS(w) && accepts[1] ->
        worker[w].server = 2 }

    /* that it is the wrong one is noticed */

    :: d_step { CONNECTED(w) && SERVER(w) != master -> end_life(w) }

    :: d_step { CONNECTED(w) && breaks > 0 && BUSY(w) ->
        breaks--;
        end_life(w) }

    /*
     * A segment begins: its mark is claimed.  It is the current one when the
     * answer to this is read, so it has nothing that was answered before.
     */

    :: d_step { CONNECTED(w) && segments < SEGMENTS &&
                worker[w].mark == quiet && worker[w].is != idle &&
                MAY_BEGIN(w) && MAY_CLAIM(w) ->
        worker[w].marked = segments;
        segments++;
#ifdef NO_CLAIM
        worker[w].value = MISSING;
        mark_is_set(w)
#else
        worker[w].expected = MISSING;
        worker[w].value = MARK(0, FIRST_TAG);
        send_mark(w)
#endif
        }

    /* a mark: it counts what was answered on this life */

    :: d_step { CONNECTED(w) && WRITES(w) && worker[w].mark == quiet &&
                (COUNTED(w) & ~POSITION(OWN(w))) ->
        worker[w].marked = CURRENT(w);
        worker[w].expected = OWN(w);
        worker[w].value = MARK(COUNTED(w), FIRST_TAG);
        send_mark(w) }

#ifdef ASKED
    :: d_step { worker[w].mark == asked && CONNECTED(w) && IN_ORDER(w) ->
        execute_mark(w) }
#endif

#ifdef FINE
    :: d_step { worker[w].mark == set && IN_ORDER(w) ->
        mark_is_set(w) }
#endif

#if !defined ONE_MARK && !defined NO_CAS
    /* looked at now and then while there is nothing to mark */

    :: d_step { CONNECTED(w) && WRITES(w) && worker[w].mark == quiet &&
                state[SERVER(w)].mark[CURRENT(w)] != worker[w].own ->
        close_segment(w) }
#endif

    :: d_step { leads == NONE && ANY_RECORDS -> leads = w + 1 }

    /* it is killed, and another one is started */

    :: d_step { kills > 0 && (BUSY(w) || worker[w].is != idle) ->
        kills--;
        die(w) }

    /* the same, and its mark is still under way */

#ifdef LATE
    :: d_step { kills > 0 && !late && CONNECTED(w) && worker[w].mark == asked ->
        kills--;
        LEAVE_LATE(SERVER(w), worker[w].marked, worker[w].expected,
                   worker[w].value);
        die(w) }

    :: d_step { breaks > 0 && !late && CONNECTED(w) &&
                worker[w].mark == asked ->
        breaks--;
        LEAVE_LATE(SERVER(w), worker[w].marked, worker[w].expected,
                   worker[w].value);
        end_life(w) }
#endif

    od
}


/* ---- the leader, and that of a clone ------------------------------------- */

#define TO_HEAL(l, s)                                                         \
    (FILE(l, s) & ~POSITION(state[ITS_SERVER(l)].mark[KEY(s)]))

#ifdef NO_RECHECK
#define SEEN(l, s)       (leader[l].seen & (1 << (s)))
#else
#define SEEN(l, s)       false
#endif

#ifdef MISSING_IS_DONE
#define TO_LOOK(l, s)    (state[ITS_SERVER(l)].mark[KEY(s)] != MISSING)
#else
#define TO_LOOK(l, s)    true
#endif

#ifdef PLAIN
#define MARKED           kept
#else
#define MARKED           sealed
#endif

/* the mark becomes its own */

inline claim(l) {
    if
    :: !accepts[ITS_SERVER(l)] ->
        leader_ends(l)
    :: accepts[ITS_SERVER(l)] &&
       STANDS(ITS_SERVER(l), leader[l].segment, leader[l].mark) ->
        m = leader[l].segment;
        new_tag();
        leader[l].mark = MARK(leader[l].done, tag);
        state[ITS_SERVER(l)].mark[KEY(leader[l].segment)] = leader[l].mark;
        leader[l].does = claimed
    :: else ->
        leader_rests(l)
    fi
}


inline look(l, s) {
    leader[l].segment = s;
    leader[l].mark = state[ITS_SERVER(l)].mark[KEY(s)];
    leader[l].done = POSITION(leader[l].mark);
#ifdef NO_CLAIM
    leader[l].does = claimed
#elif defined FINE
    leader[l].does = found
#else
    claim(l)
#endif
}

#define LOOK(s)                                                               \
    d_step { leader[l].does == rest && LEADING(l) && s < WAITING              \
             && (l == 1 || CLOSED(s)) && TO_HEAL(l, s) && !SEEN(l, s)         \
             && TO_LOOK(l, s) ->                                              \
        look(l, s) }

#ifdef NO_RECHECK
#define ONCE(s)                                                               \
    d_step { leader[l].does == rest && LEADING(l) && s < ALL                  \
             && CLOSED(s) && FILE(l, s) && !TO_HEAL(l, s) && !SEEN(l, s) ->   \
        leader[l].seen = leader[l].seen | (1 << (s)) }
#endif

/* the server of this leader refuses everything: its connection ends */

inline leader_ends(l) {
    if
    :: l == 0 -> m = leads - 1; end_life(m)
    :: else -> clone_server = NONE; leader_rests(1)
    fi
}


/* a mark on the way, too */

#ifdef STEPS
#define MAY_MARK(l)      true
#else
#define MAY_MARK(l)      !(FILE(l, leader[l].segment) & ~leader[l].done)
#endif

proctype Leader(byte l) {

end:
    do

    :: LOOK(0)
    :: LOOK(1)
    :: LOOK(2)
    :: LOOK(3)
    :: LOOK(4)

    /* with its name to be, or all records at any time and no mark */

    :: d_step { leader[l].does == rest && LEADING(l) && l == 0 &&
                (waiting == kept || waiting == MARKED) &&
                TO_HEAL(l, WAITING) && !SEEN(l, WAITING) &&
                (waiting == sealed || TO_LOOK(l, WAITING)) ->
        look(l, WAITING) }

#ifdef PLAIN
    :: d_step { leader[l].does == rest && LEADING(l) && l == 0 &&
                waiting == sealed ->
        leader[l].does = plain;
        leader[l].segment = WAITING }
#endif

#ifdef NO_RECHECK
    :: ONCE(0)
    :: ONCE(1)
    :: ONCE(2)
    :: ONCE(3)
#endif

    :: d_step { l == 0 && leads != NONE && waiting == open &&
                records[WAITING] ->
        waiting = sealed }

    :: d_step { l == 0 && leads != NONE && waiting == MARKED &&
                waiting == sealed && leader[l].does == rest && LEADING(l) &&
                !TO_HEAL(l, WAITING) ->
        waiting = kept }

#ifdef FINE
    :: d_step { leader[l].does == found && LEADING(l) ->
        claim(l) }
#endif

    /* what is behind it is applied again */

    :: d_step { (leader[l].does == claimed || leader[l].does == plain) &&
                LEADING(l) &&
                (FILE(l, leader[l].segment) & ~leader[l].done) ->
        if
        :: accepts[ITS_SERVER(l)] ->
            first = FILE(l, leader[l].segment) & ~leader[l].done;
            first = LOWEST(first);
            APPLY(ITS_SERVER(l), first);
            leader[l].done = leader[l].done | first
        :: else ->
            leader_ends(l)
        fi }

    :: d_step { leader[l].does == plain &&
                !(FILE(l, leader[l].segment) & ~leader[l].done) ->
        waiting = kept;
        leader_rests(l) }

    /* over the same life */

    :: d_step { leader[l].does == claimed && LEADING(l) &&
                (leader[l].done & ~POSITION(leader[l].mark)) && MAY_MARK(l) ->
        if
        :: !accepts[ITS_SERVER(l)] ->
            leader_ends(l)
        :: accepts[ITS_SERVER(l)] &&
           STANDS(ITS_SERVER(l), leader[l].segment, leader[l].mark) ->
            leader[l].mark = MARK(leader[l].done, TAG(leader[l].mark));
            state[ITS_SERVER(l)].mark[KEY(leader[l].segment)] = leader[l].mark;

            if
            :: !(FILE(l, leader[l].segment) & ~leader[l].done) ->
#ifdef NO_RECHECK
                leader[l].seen = leader[l].seen | (1 << leader[l].segment);
#endif
                leader_rests(l)
            :: else
            fi
        :: else ->
            leader_rests(l)
        fi }

    /* it is killed meanwhile, and its mark is still under way */

#ifdef LATE
    :: d_step { l == 0 && kills > 0 && !late && LEADING(l) &&
                leader[l].does == claimed &&
                (leader[l].done & ~POSITION(leader[l].mark)) ->
        kills--;
        LEAVE_LATE(ITS_SERVER(l), leader[l].segment, leader[l].mark,
                   MARK(leader[l].done, TAG(leader[l].mark)));
        m = leads - 1;
        die(m) }
#endif

    od
}


/* ---- the servers, and what happens to them ------------------------------- */

#define DIFFERENT        (state[0].events != state[1].events                  \
                          || OTHER_MARKS)
#if SEGMENTS == 2
#define OTHER_MARKS      (DIFFERS(0) || DIFFERS(1) || DIFFERS(2))
#elif SEGMENTS == 3
#define OTHER_MARKS      (DIFFERS(0) || DIFFERS(1) || DIFFERS(2)              \
                          || DIFFERS(3))
#else
#define OTHER_MARKS      (DIFFERS(0) || DIFFERS(1) || DIFFERS(2)              \
                          || DIFFERS(3) || DIFFERS(4))
#endif
#define DIFFERS(s)       (state[0].mark[s] != state[1].mark[s])

/* a server that refused for a while has told everybody who is behind a mark */

#ifdef LIVE_ROLLBACK
#define TOLD(at)     true
#define OLDER(at)    true
#else
#define TOLD_BY(w, at)                                                    \
    (worker[w].server != (at) + 1 || !BEHIND(w) || worker[w].warned)
#define TOLD(at)                                                          \
    (TOLD_BY(0, at) && TOLD_BY(1, at)                                 \
     && !(HEALS(0) && LEADING(0) && ITS_SERVER(0) == (at))                \
     && !(HEALS(1) && LEADING(1) && ITS_SERVER(1) == (at)))
#define OLDER_FOR(w, at)                                                  \
    (worker[w].server != (at) + 1 || !BEHIND(w)                           \
     || state[OTHER(at)].mark[CURRENT(w)] != LAST(w))
#define OLDER_FOR_LEADER(l, at)                                           \
    (!HEALS(l) || !LEADING(l) || ITS_SERVER(l) != (at)                    \
     || state[OTHER(at)].mark[leader[l].segment] != leader[l].mark)
#define OLDER(at)                                                         \
    (OLDER_FOR(0, at) && OLDER_FOR(1, at)                             \
     && OLDER_FOR_LEADER(0, at) && OLDER_FOR_LEADER(1, at))
#endif

inline disconnect(at) {
    if
    :: worker[0].server == at + 1 -> end_life(0)
    :: else
    fi;
    if
    :: worker[1].server == at + 1 -> end_life(1)
    :: else
    fi;
    if
    :: clone_server == at + 1 ->
        clone_server = NONE;
        leader_rests(1)
    :: else
    fi;
    if
    :: late && late_server == at -> no_late()
    :: else
    fi
}


/* state that no process reads any more */

inline no_more_faults() {
    if
    :: faults == 0 && !accepts[OTHER(master)] -> forget(OTHER(master))
    :: else
    fi
}


/* in each state of each server, a mark counts nothing that is missing there */

#ifdef INVARIANT
#define COVERS(s)                                                             \
    (!(POSITION(state[0].mark[s]) & ~state[0].events)                         \
     && !(POSITION(state[1].mark[s]) & ~state[1].events))
#if SEGMENTS == 2
#define COVERED          (COVERS(0) && COVERS(1) && COVERS(2))
#else
#define COVERED          (COVERS(0) && COVERS(1) && COVERS(2) && COVERS(3))
#endif
#endif


init {
    d_step {
        accepts[0] = 1;
        worker[0].is = idle;
        worker[1].is = idle;
        worker[0].mark = quiet;
        worker[1].mark = quiet;
        leader[0].does = rest;
        leader[1].does = rest
    }

    atomic {
        run Worker(0);
        run Worker(1);
        run Leader(0);
#ifdef CLONE
        run Leader(1)
#endif
    }

    do

    /*
     * The replica catches up, or a snapshot is taken: any state may be an old
     * one.  Of what it had before a fault, only the last matters.
     */

    :: d_step { faults > 0 && !copied && !accepts[OTHER(master)] &&
                DIFFERENT ->
        copied = 1;
        copy_state(master, OTHER(master)) }

#ifdef PROMOTE
    /* the old master does not know yet */

    :: d_step { faults > 0 &&
                (accepts[OTHER(master)] || TOLD(OTHER(master))) ->
        faults--;
        copied = 0;
        master = OTHER(master);
        accepts[master] = 1 }

    :: d_step { accepts[OTHER(master)] ->
        accepts[OTHER(master)] = 0;
        copy_state(master, OTHER(master));
        no_more_faults();

        /* it is refused by then */

        if
        :: late && late_server == OTHER(master) -> no_late()
        :: else
        fi }
#endif

#ifdef WIPE
    :: d_step { faults > 0 && state[master].events ->
        faults--;
        forget(master);
        no_more_faults() }
#endif

#ifdef RESTART
    :: d_step { faults > 0 ->
        faults--;
        disconnect(master);
        forget(master);
        no_more_faults() }

    :: d_step { faults > 0 && !accepts[OTHER(master)] && DIFFERENT ->
        faults--;
        disconnect(master);
        copy_state(OTHER(master), master);
        copied = 0;
        no_more_faults() }
#endif

#ifdef RESTORE
    :: d_step { faults > 0 && !accepts[OTHER(master)] && DIFFERENT &&
                OLDER(master) ->
        faults--;
        copy_state(OTHER(master), master);
        copied = 0;
        no_more_faults() }
#endif

    :: d_step { kills > 0 && (BUSY(0) || worker[0].is != idle) &&
                (BUSY(1) || worker[1].is != idle) ->
        kills--;
        die(0);
        die(1) }

#ifdef LATE
    :: d_step { late ->
        if
        :: accepts[late_server] &&
           STANDS(late_server, late_segment, late_expected) ->
            state[late_server].mark[KEY(late_segment)] = late_value
        :: else
        fi;
        no_late() }
#endif

#ifdef CLONE
    /* a directory is copied, and another nginx is started with it */

    :: d_step { !cloned ->
        cloned = 1;
        for (n : 0 .. SEGMENTS - 1) {
            copy[n] = records[n]
        }
        n = 0 }

    :: d_step { cloned && clone_server == NONE && accepts[0] ->
        clone_server = 1 }
    :: d_step { cloned && clone_server == NONE && accepts[1] ->
        clone_server = 2 }
    :: d_step { clone_server != NONE && clone_server - 1 != master ->
        clone_server = NONE;
        leader_rests(1) }
#endif

#ifdef INVARIANT
    :: !COVERED -> assert(COVERED)
#endif

    /* nothing is left to be done */

    :: timeout ->
#ifdef REACHED
        assert(acknowledged != (1 << EVENTS) - 1);
#endif
        assert(!(acknowledged & ~state[master].events));
        break
    od
}
