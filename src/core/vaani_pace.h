
/*
 * How often a line is logged that a busy endpoint could repeat for each event.
 */


#ifndef _VAANI_PACE_H_INCLUDED_
#define _VAANI_PACE_H_INCLUDED_


#include <stdint.h>


/*
 * Zeroed before its first use, and reset with zeroes.
 */

typedef struct {
    uint64_t     logged;    /* when a line was logged, ms */
    uint64_t     skipped;   /* how many were not, since then */
    unsigned     any:1;     /* one was */
} vaani_pace_t;


/*
 * Whether a line may be logged now: the first one is, then one in each period
 * of so many ms.  now is a monotonic time in ms, so that a clock that is set
 * back silences nothing.
 *
 * Returns 1 with *skipped set to the number of lines that were not logged since
 * the last one, or 0.
 */
int vaani_pace(vaani_pace_t *pace, uint64_t now, uint64_t period,
    uint64_t *skipped);


#endif /* _VAANI_PACE_H_INCLUDED_ */
