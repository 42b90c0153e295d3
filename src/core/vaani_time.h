
/*
 * Times and durations, as senders write them.
 */


#ifndef _VAANI_TIME_H_INCLUDED_
#define _VAANI_TIME_H_INCLUDED_


#include "vaani_core.h"


/*
 * Reads a time of RFC 3339, section 5.6, from 1970 to 9999; one without an
 * offset is UTC, as Python's isoformat() writes it.  Of the fraction of a
 * second, milliseconds are kept.
 *
 * Returns VAANI_OK, with Unix time in *ms; VAANI_ERROR.
 */
int vaani_time_parse(const vaani_str_t *text, uint64_t *ms);


/*
 * What an event says of the duration of its call.
 */

typedef enum {
    VAANI_DURATION_NONE = 0,
    VAANI_DURATION_ENDED,               /* call_ended's */
    VAANI_DURATION_KNOWN,               /* call_postprocessing's */
    VAANI_DURATION_OPEN                 /* the same, in a unit that only the
                                           one of call_ended may tell */
} vaani_duration_e;


typedef struct {
    vaani_duration_e     kind;
    uint64_t             ms;            /* OPEN: if its unit is milliseconds */
    uint64_t             if_seconds;    /* OPEN: if its unit is seconds, ms */
    uint64_t             span;          /* of the sender's times, ms, 0: it's
                                           unknown */
} vaani_duration_t;


/*
 * Settles the unit of call_postprocessing's duration as far as duration->span
 * tells: a reading longer than the span plus 10% and 5 s is out; if both
 * remain, the one stands that is nearer to the span, as a ratio; in a tie it
 * is milliseconds, unless that is below 1000.  duration->ms and ->if_seconds
 * are the two readings.  The kind becomes KNOWN, OPEN (there is no span), or
 * NONE (both are out).
 */
void vaani_duration_settle(vaani_duration_t *duration);


#endif /* _VAANI_TIME_H_INCLUDED_ */
