
/*
 * Composes the arguments of transition.lua from a validated event.
 */


#ifndef _VAANI_TRANSITION_H_INCLUDED_
#define _VAANI_TRANSITION_H_INCLUDED_


#include "vaani_event.h"


/*
 * The properties of a delivery in addition to its event: its destination and
 * the values that distinguish it from other deliveries.
 */

typedef struct {
    vaani_str_t          key;           /* of the call's hash: ends with the
                                           name of the room; without a call, any
                                           key of the same slot */
    vaani_str_t          stream;        /* key of the stream, empty: none */
    uint64_t             maxlen;        /* of the stream, 0: any */
    unsigned             index;         /* 1: keep sorted sets of rooms, whose
                                           keys begin like that of the call,
                                           "<prefix>:call:<room>" */
    vaani_str_t         *channels;      /* none is empty */
    size_t               nchannels;
    size_t               nsharded;      /* of them, the last ones: SPUBLISH */

    uint64_t             ttl;           /* ms, 0: never expires */
    uint64_t             received_at;   /* Unix time, ms */
    uint64_t             applied_at;    /* when it is sent, Unix time, ms */

    vaani_str_t          digest;        /* of the body, printable */
    vaani_str_t          id;            /* of the delivery, printable, empty:
                                           none */
    vaani_str_t          message;       /* the "id" of its messages, as the
                                           content of a JSON string */
    vaani_str_t          name;          /* of the event, JSON, if only the
                                           envelope has it; else empty */
    unsigned             repaired;      /* the body was */
    unsigned             replayed;      /* it was in the spool */
    uint64_t             since;         /* transitions are counted, Unix time,
                                           ms */

    vaani_str_t          payload;       /* the event, on one line */
    unsigned             omit_payload;  /* messages have its size instead,
                                           unless the event is unknown */
} vaani_delivery_t;


/* the script's source, generated from transition.lua by the build */

extern const vaani_str_t  vaani_transition_script;


/*
 * The result of the script.
 */

typedef enum {
    VAANI_TRANSITION_APPLIED = 0,
    VAANI_TRANSITION_DUPLICATE,
    VAANI_TRANSITION_UNKNOWN            /* the event is unknown: published
                                           only */
} vaani_transition_e;


/* instead of a rank: the status of a call from before the counting began */

#define VAANI_TRANSITION_UNCOUNTED    15


typedef struct {
    vaani_transition_e   result;
    uint64_t             seq;
    unsigned             from;          /* ranks of statuses, 0: a new call */
    unsigned             to;
} vaani_transition_t;


/*
 * Writes the arguments after the script's digest in an EVALSHA: the number of
 * keys, the keys and ARGV.  *args is memory of alloc and points into the event
 * and the delivery, which both must outlive it; *nargs is their number.
 *
 * Returns VAANI_OK or VAANI_NOMEM.
 */
int vaani_transition_args(const vaani_event_t *event,
    const vaani_delivery_t *delivery, vaani_alloc_t *alloc, vaani_str_t **args,
    size_t *nargs);

/*
 * Reads the number that the script returned.  Returns VAANI_OK, or VAANI_ERROR
 * if the script cannot return this number.
 */
int vaani_transition_read(int64_t reply, vaani_transition_t *transition);


#endif /* _VAANI_TRANSITION_H_INCLUDED_ */
