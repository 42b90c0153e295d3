
/*
 * Memory runs out at one of the allocations of an input: the result must then
 * be VAANI_NOMEM, without leaks.
 */


#ifndef _VAANI_FUZZ_MEMORY_H_INCLUDED_
#define _VAANI_FUZZ_MEMORY_H_INCLUDED_


#include "vaani_fuzz.h"
#include "vaani_test.h"


/*
 * An arena in which one of nallocs allocations fails, nallocs
 * not being 0.  The input says which, and whether those after it succeed.
 */

static inline void
vaani_fuzz_starve(vaani_test_arena_t *arena, const u_char *data, size_t size,
    size_t nallocs)
{
    vaani_test_arena_init(arena);

    arena->fail_at = 1 + size % nallocs;
    arena->fail_once = data[0] & 1;
}


/*
 * Checks the result when memory runs out, and frees the arena.
 */

static inline void
vaani_fuzz_starved(vaani_test_arena_t *arena, int rc)
{
    vaani_fuzz_check(rc == VAANI_NOMEM);

    vaani_test_arena_free(arena);
}


#endif /* _VAANI_FUZZ_MEMORY_H_INCLUDED_ */
