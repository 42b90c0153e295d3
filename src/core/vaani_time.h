
/*
 * Times and durations, as senders write them.
 */


#ifndef _VAANI_TIME_H_INCLUDED_
#define _VAANI_TIME_H_INCLUDED_


#include "vaani_core.h"


/*
 * Reads a time of RFC 3339, section 5.6, from 1970 to 9999.  A time without an
 * offset is UTC: Python's isoformat() writes times so.  Fractions of a second
 * are truncated to milliseconds.
 *
 * Returns VAANI_OK, with Unix time in *ms; VAANI_ERROR.
 */
int vaani_time_parse(const vaani_str_t *text, uint64_t *ms);


/*
 * The duration of the call, as an event states it.
 */

typedef enum {
    VAANI_DURATION_NONE = 0,
    VAANI_DURATION_ENDED,               /* call_ended's */
    VAANI_DURATION_KNOWN,               /* call_postprocessing's */
    VAANI_DURATION_OPEN                 /* the same, in a unit that only the one
                                           of call_ended can decide */
} vaani_duration_e;


typedef struct {
    vaani_duration_e     kind;
    uint64_t             ms;            /* OPEN: if its unit is milliseconds */
    uint64_t             if_seconds;    /* OPEN: if its unit is seconds, ms */
    uint64_t             span;          /* of the sender's times, ms, 0:
                                           unknown */
} vaani_duration_t;


/*
 * Decides the unit of call_postprocessing's duration as far as duration->span
 * allows. duration->ms and ->if_seconds are the two readings.  A reading
 * longer than the span plus 10% and 5 s is rejected.  If both remain, the one
 * whose ratio to the span is nearer to 1 is used; in a tie the unit is
 * milliseconds, unless that is below 1000.  The kind becomes KNOWN, OPEN
 * (there is no span), or NONE (both readings are rejected).
 */
void vaani_duration_settle(vaani_duration_t *duration);


#endif /* _VAANI_TIME_H_INCLUDED_ */
