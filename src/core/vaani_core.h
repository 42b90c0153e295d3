
/*
 * Definitions for all files of the core: return codes, strings, the allocator.
 */


#ifndef _VAANI_CORE_H_INCLUDED_
#define _VAANI_CORE_H_INCLUDED_


#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/types.h>


#define VAANI_OK               0
#define VAANI_ERROR           -1    /* invalid input, see the error */
#define VAANI_NOMEM           -2    /* the allocator returned NULL */
#define VAANI_DONE            -3    /* no more elements */


typedef struct {
    size_t               len;
    const u_char        *data;      /* not null-terminated */
} vaani_str_t;


#define vaani_string(str)      { sizeof(str) - 1, (const u_char *) str }

#define vaani_str_eq(s1, s2)                                                  \
    ((s1)->len == (s2)->len                                                   \
     && ((s1)->len == 0 || memcmp((s1)->data, (s2)->data, (s1)->len) == 0))


/*
 * The allocator of the core: alloc(ctx, size) returns size bytes aligned for
 * any type, or NULL.  The core never frees memory.  The owner of the allocator
 * (an nginx pool, a test's arena) frees all of it at once, after the last use
 * of the results.
 */

typedef struct {
    void              *(*alloc)(void *ctx, size_t size);
    void                *ctx;
} vaani_alloc_t;


#endif /* _VAANI_CORE_H_INCLUDED_ */
