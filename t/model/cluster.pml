/*
 * The promise of "retain" in a cluster: retain.pml has one server at a time, this
 * model has two, each with a replica that lags, and slots move between them.
 *
 * A server has an identity, slots and an epoch: a replica that takes over has
 * another identity, and a new owner of a slot has a higher epoch than
 * before.  That is the scope of a mark.  nginx knows the cluster as it was at
 * some time; a server redirects commands for slots of other servers.
 *
 * A set of events is a mask.  Event 0 and 2 are in slot y, event 1 is in slot x.
 * A mark is a key, too: in a slot of the server that it is about, with which it
 * moves.  This model does not repeat retain.pml: an event is applied, written and
 * answered in one step, and no process is killed.
 */


#ifndef EVENTS
#define EVENTS      2           /* at most 3 */
#endif

#ifndef SEGMENTS
#define SEGMENTS    2           /* kept ones; one for what waits comes first */
#endif

#ifndef MOVES
#define MOVES       1           /* of a slot */
#endif

#ifndef PROMOTIONS
#define PROMOTIONS  1           /* of a replica */
#endif


/* BOTH: the first server owns both slots at first */


#define NONE        0
#define WAITING     0
#define ALL         (SEGMENTS + 1)

#define X           2           /* events of slot x, and */
#define Y           5           /* of slot y */
#define IN(slots)   (((slots) & 1) * X | ((slots) >> 1) * Y)
#define SLOT(event) ((event) != X)


/*
 * A mark: 0 if there is none; events that it counts, slots, server, generation.
 * A generation stands for identity and epoch.
 */

#define MARK(events, scope)  (1024 | ((scope) << 3) | (events))
#define POSITION(mark)       ((mark) & 7)
#define SCOPE(mark)          (((mark) >> 3) & 127)

#ifdef NO_SCOPE
#define SCOPE_OF(s)          0
#else
#define SCOPE_OF(s)          ((seen_generation[s] << 3) | ((s) << 2) | SEEN(s))
#endif

/* a mark of a segment in a slot */

#define KEY(slot, segment)   ((slot) * ALL + (segment))


typedef state_t {
    byte   events;
    short  mark[2 * ALL];
};

typedef writer_t {
    byte   segment;             /* from 1, or NONE */
    short  own;                 /* its mark, as it was set last */
    byte   scope;               /* when that was claimed */
    byte   slot;                /* in which it is */
};


/* the cluster: servers, and what their replicas have */

state_t  server[2];
state_t  replica[2];
byte     owner[2];              /* of slot x and y */
byte     generation[2];
byte     life[2];               /* of the connection to it */

/* the same, as nginx knows it */

byte  seen_owner[2];
byte  seen_generation[2];

/* the directory, and what senders were answered */

byte  records[ALL];
byte  acknowledged;
bit   sealed;                   /* what waits is being delivered */

writer_t  writer[2];            /* by server */

/* the leader */

bit    heals;
byte   healed;                  /* the segment, */
byte   to;                      /* and the server */
byte   to_life;
byte   to_scope;
byte   to_slot;                 /* of the mark */
byte   to_slots;
short  claimed;
byte   done;
bit    elsewhere;

byte  arrived, segments = 1;
byte  moves = MOVES, promotions = PROMOTIONS;

hidden byte  n, s, e;


#define OTHER(at)        (1 - (at))

#define SLOTS(at)        ((owner[0] == (at)) | (owner[1] == (at)) << 1)
#define SEEN(at)         ((seen_owner[0] == (at)) | (seen_owner[1] == (at)) << 1)

/* the slot for the marks of a server, and whether it takes a command for that */

#define TAG(at)          (seen_owner[0] != (at))
#define TAKES(at, slot)  (owner[slot] == (at))

#define WRITES(at)       (writer[at].segment != NONE)
#define CURRENT(at)      (writer[at].segment - 1)
#define CLOSED(which)                                                         \
    (writer[0].segment != (which) + 1 && writer[1].segment != (which) + 1)

/* what the mark of a segment says to those who read it */

#define STANDS(at, segment)                                                   \
    server[at].mark[KEY(TAG(at), segment)]
#define VALID(at, segment)                                                    \
    (STANDS(at, segment) && SCOPE(STANDS(at, segment)) == SCOPE_OF(at))
#define COUNTED(at, segment)                                                  \
    (VALID(at, segment) * POSITION(STANDS(at, segment)))

#ifdef ONE_SERVER
#define CONCERNS(at, segment)  (!CONCERNED(OTHER(at), segment) || (at) == 0)
#else
#define CONCERNS(at, segment)  true
#endif
#define CONCERNED(at, segment)                                                \
    (SEEN(at) && (records[segment] & IN(SEEN(at))))

#define TO_HEAL(at, segment)                                                  \
    (CONCERNED(at, segment) && CONCERNS(at, segment)                          \
     && (records[segment] & IN(SEEN(at)) & ~COUNTED(at, segment)))

#define KNOWN                                                                 \
    (seen_owner[0] == owner[0] && seen_owner[1] == owner[1]                   \
     && seen_generation[0] == generation[0]                                   \
     && seen_generation[1] == generation[1])

#define THERE                                                                 \
    ((server[owner[0]].events & X) | (server[owner[1]].events & Y))

#define QUIET                                                                 \
    (KNOWN && !heals && !WRITES(0) && !WRITES(1) && NOTHING(0) && NOTHING(1)  \
     && NOTHING(2))
#define NOTHING(segment)                                                      \
    (segment >= ALL || (!TO_HEAL(0, segment) && !TO_HEAL(1, segment)))


inline copy(from, at) {
    at.events = from.events;

    for (n : 0 .. 2 * ALL - 1) {
        at.mark[n] = from.mark[n]
    }
    n = 0
}


inline close_segment(at) {
    writer[at].segment = NONE;
    writer[at].own = 0;
    writer[at].scope = 0;
    writer[at].slot = 0
}


inline leader_rests() {
    heals = 0;
    healed = 0;
    to = 0;
    to_life = 0;
    to_scope = 0;
    to_slot = 0;
    to_slots = 0;
    claimed = 0;
    done = 0;
    elsewhere = 0
}


/* ---- the cluster --------------------------------------------------------- */

inline promote(at) {
    promotions--;
    copy(replica[at], server[at]);
    server[at].events = server[at].events & IN(SLOTS(at));

    for (n : 0 .. 2 * ALL - 1) {
        if
        :: owner[n >= ALL] != at -> server[at].mark[n] = 0
        :: else
        fi
    }
    n = 0;

    generation[at]++;
    life[at]++;
    close_segment(at)
}


inline move(slot) {
    moves--;
    s = owner[slot];

    e = server[s].events & IN(1 << slot);
    server[1 - s].events = server[1 - s].events & ~IN(1 << slot) | e;
    server[s].events = server[s].events & ~e;

    for (n : slot * ALL .. slot * ALL + ALL - 1) {
        server[1 - s].mark[n] = server[s].mark[n];
        server[s].mark[n] = 0
    }
    n = 0;

    owner[slot] = 1 - s;
#ifndef NO_EPOCH
    generation[1 - s]++;
#endif
    s = 0;
    e = 0
}


/* ---- writers ------------------------------------------------------------- */

/* a segment begins: its mark is claimed */

#define BEGIN(at)                                                             \
    d_step { !WRITES(at) && segments < ALL && arrived < EVENTS && SEEN(at)    \
             && TAKES(at, TAG(at)) ->                                         \
        writer[at].scope = SCOPE_OF(at);                                      \
        writer[at].slot = TAG(at);                                            \
        writer[at].own = MARK(0, SCOPE_OF(at));                               \
        server[at].mark[KEY(TAG(at), segments)] = writer[at].own;             \
        segments++;                                                           \
        writer[at].segment = segments }

/* a mark: it counts what was answered by this server, in this life */

#define SET(at)                                                               \
    d_step { WRITES(at) && (records[CURRENT(at)] & ~POSITION(writer[at].own)) \
             ->                                                               \
        if                                                                    \
        :: TAKES(at, TAG(at)) && TAG(at) == writer[at].slot                   \
           && STANDS(at, CURRENT(at)) == writer[at].own ->                    \
            writer[at].own = MARK(records[CURRENT(at)],                       \
                                  WRITERS_SCOPE(at));                         \
            STANDS(at, CURRENT(at)) = writer[at].own                          \
        :: else -> close_segment(at)                                          \
        fi }

#ifdef SCOPE_AT_SET
#define WRITERS_SCOPE(at)   SCOPE_OF(at)
#define LEADERS_SCOPE       SCOPE_OF(to)
#else
#define WRITERS_SCOPE(at)   writer[at].scope
#define LEADERS_SCOPE       to_scope
#endif

/* it ends, for whatever reason */

#define END(at)                                                               \
    d_step { WRITES(at) && (records[CURRENT(at)] || arrived == EVENTS         \
                            || writer[at].scope != SCOPE_OF(at)) ->           \
        close_segment(at) }


/* ---- the leader ---------------------------------------------------------- */

/* what is not counted in a server: the mark is claimed */

#define LOOK(at, which)                                                       \
    d_step { !heals && which < ALL && CLOSED(which) && TO_HEAL(at, which)     \
             && TAKES(at, TAG(at)) ->                                         \
        heals = 1;                                                            \
        healed = which;                                                       \
        to = at;                                                              \
        to_life = life[at];                                                   \
        to_scope = SCOPE_OF(at);                                              \
        to_slot = TAG(at);                                                    \
        to_slots = SEEN(at);                                                  \
        done = COUNTED(at, which);                                            \
        claimed = MARK(done, to_scope);                                       \
        STANDS(at, which) = claimed;                                          \
        sealed = (sealed || which == WAITING) }


init {
#ifndef BOTH
    owner[1] = 1;
    seen_owner[1] = 1;
#endif

end:
    do

    /* an event arrives: whoever owns its slot executes it */

    :: d_step { arrived < EVENTS && WRITES(owner[arrived != 1]) ->
        s = owner[arrived != 1];
        e = 1 << arrived;
        server[s].events = server[s].events | e;
        records[CURRENT(s)] = records[CURRENT(s)] | e;
        acknowledged = acknowledged | e;
        arrived++;
        s = 0;
        e = 0 }

    /* or it waits */

    :: d_step { arrived < EVENTS && !sealed ->
        records[WAITING] = records[WAITING] | (1 << arrived);
        acknowledged = acknowledged | (1 << arrived);
        arrived++ }

    :: BEGIN(0)
    :: BEGIN(1)
    :: SET(0)
    :: SET(1)
    :: END(0)
    :: END(1)

    :: LOOK(0, 0)
    :: LOOK(0, 1)
    :: LOOK(0, 2)
    :: LOOK(1, 0)
    :: LOOK(1, 1)
    :: LOOK(1, 2)

    /* what is in the slots of that server is applied again, by its owner */

    :: d_step { heals && (records[healed] & IN(to_slots) & ~done) ->
        e = records[healed] & IN(to_slots) & ~done;
        e = e & (~e + 1) & 7;
        s = owner[SLOT(e)];
        server[s].events = server[s].events | e;
        done = done | e;
        elsewhere = (elsewhere || s != to);
        s = 0;
        e = 0 }

    /* all of it in one life, by that server, and it is still what it was */

    :: d_step { heals && !(records[healed] & IN(to_slots) & ~done) ->
        if
        :: (!elsewhere && to_life == life[to] && SEEN(to)
#ifndef SCOPE_AT_SET
           && to_scope == SCOPE_OF(to)
#endif
           && TAKES(to, TAG(to)) && TAG(to) == to_slot
           && STANDS(to, healed) == claimed) ->
            STANDS(to, healed) = MARK(records[healed], LEADERS_SCOPE)
        :: else
        fi;
        leader_rests() }

    /* nginx learns what the cluster is by now */

    :: d_step { !KNOWN ->
        seen_owner[0] = owner[0];
        seen_owner[1] = owner[1];
        seen_generation[0] = generation[0];
        seen_generation[1] = generation[1] }

    /* a replica gets what its master has */

    :: d_step { promotions > 0 -> copy(server[0], replica[0]) }
    :: d_step { promotions > 0 -> copy(server[1], replica[1]) }

    /* it takes over, with what it has of the slots that are its own now */

    :: d_step { promotions > 0 && SLOTS(0) ->
        promote(0) }
    :: d_step { promotions > 0 && SLOTS(1) ->
        promote(1) }

    /* a slot moves, with all that is in it */

    :: d_step { moves > 0 ->
        move(0) }
    :: d_step { moves > 0 ->
        move(1) }

    :: QUIET ->
#ifdef REACHED
        assert(acknowledged != (1 << EVENTS) - 1 || moves || promotions)
#else
        assert(!(acknowledged & ~THERE))
#endif
    od
}
