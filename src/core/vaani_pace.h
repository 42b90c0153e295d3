
/*
 * Limits the rate of a log line that a busy endpoint could repeat per event.
 */


#ifndef _VAANI_PACE_H_INCLUDED_
#define _VAANI_PACE_H_INCLUDED_


#include <stdint.h>


/*
 * Zero it before its first use and to reset it.
 */

typedef struct {
    uint64_t     logged;    /* when a line was logged, ms */
    uint64_t     skipped;   /* lines suppressed since then */
    unsigned     any:1;     /* a line was logged */
} vaani_pace_t;


/*
 * Whether a line may be logged now: the first line may, then one line per
 * period, which is in ms. now is a monotonic time in ms, so that a clock that
 * is set back suppresses no line.
 *
 * Returns 1 with *skipped set to the number of lines suppressed since the last
 * one, or 0.
 */
int vaani_pace(vaani_pace_t *pace, uint64_t now, uint64_t period,
    uint64_t *skipped);


#endif /* _VAANI_PACE_H_INCLUDED_ */
