
#include "vaani_pace.h"


int
vaani_pace(vaani_pace_t *pace, uint64_t now, uint64_t period,
    uint64_t *skipped)
{
    /* a wrapped 32-bit counter is a large difference as well */

    if (pace->any && now - pace->logged < period) {
        pace->skipped++;
        return 0;
    }

    *skipped = pace->skipped;

    pace->any = 1;
    pace->logged = now;
    pace->skipped = 0;

    return 1;
}
