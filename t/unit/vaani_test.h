
/*
 * What the unit tests and the fuzz targets share: memory that is counted and
 * can run out, texts without a byte to spare at their ends, and text made
 * readable for the messages of failed tests.
 *
 * Include cmocka's headers before this one for vaani_test_that().
 */


#ifndef _VAANI_TEST_H_INCLUDED_
#define _VAANI_TEST_H_INCLUDED_


#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vaani_json.h"


#define vaani_test_nelems(array)  (sizeof(array) / sizeof((array)[0]))

/* fails the test with a message that says which row of a table it was */

#define vaani_test_that(condition, ...)                                       \
    do {                                                                      \
        if (!(condition)) {                                                   \
            print_error("failed: %s\n", #condition);                          \
            fail_msg(__VA_ARGS__);                                            \
        }                                                                     \
    } while (0)


typedef struct vaani_test_block_s  vaani_test_block_t;

struct vaani_test_block_s {
    vaani_test_block_t  *next;
    void                *data;
};


/*
 * Every allocation is a block of malloc(), exactly as long as was asked for,
 * so that the sanitizers and valgrind see each byte beyond it.
 */

typedef struct {
    vaani_alloc_t        alloc;     /* what the core is given */
    vaani_test_block_t  *blocks;

    size_t               nallocs;   /* how many were asked for */
    size_t               fail_at;   /* the first one that fails; 0: none */
    unsigned             fail_once; /* only that one, not all after it too */
} vaani_test_arena_t;


static inline void
vaani_test_oom(void)
{
    fprintf(stderr, "the test itself is out of memory\n");
    abort();
}


static inline void *
vaani_test_malloc(size_t size)
{
    void  *p;

    p = malloc(size ? size : 1);

    if (p == NULL) {
        vaani_test_oom();
    }

    return p;
}


/*
 * Whether the allocation that is being asked for shall fail.
 */

static inline unsigned
vaani_test_fails(vaani_test_arena_t *arena)
{
    arena->nallocs++;

    if (arena->fail_at == 0) {
        return 0;
    }

    return arena->fail_once ? (arena->nallocs == arena->fail_at)
                            : (arena->nallocs >= arena->fail_at);
}


static inline void *
vaani_test_own(vaani_test_arena_t *arena, void *data)
{
    vaani_test_block_t  *block;

    block = vaani_test_malloc(sizeof(vaani_test_block_t));

    block->data = data;
    block->next = arena->blocks;
    arena->blocks = block;

    return data;
}


static inline void *
vaani_test_alloc(void *ctx, size_t size)
{
    vaani_test_arena_t  *arena = ctx;

    if (vaani_test_fails(arena)) {
        return NULL;
    }

    return vaani_test_own(arena, vaani_test_malloc(size));
}


static inline void
vaani_test_arena_init(vaani_test_arena_t *arena)
{
    memset(arena, 0, sizeof(vaani_test_arena_t));

    arena->alloc.alloc = vaani_test_alloc;
    arena->alloc.ctx = arena;
}


static inline void
vaani_test_arena_free(vaani_test_arena_t *arena)
{
    vaani_test_block_t  *block, *next;

    for (block = arena->blocks; block; block = next) {
        next = block->next;
        free(block->data);
        free(block);
    }

    vaani_test_arena_init(arena);
}


/*
 * A copy of a text with nothing after its last byte, not even a terminator.
 * It is not counted among the allocations.
 */

static inline const u_char *
vaani_test_text(vaani_test_arena_t *arena, const void *data, size_t len)
{
    u_char               *p;
    static const u_char   nothing[] = { 0 };

    /* malloc() may give the empty text a byte: that must not be read either */

    if (len == 0) {
        return nothing + 1;
    }

    p = vaani_test_own(arena, vaani_test_malloc(len));
    memcpy(p, data, len);

    return p;
}


/*
 * A text for people: bytes that do not print are escaped, long texts are cut.
 * There are two buffers, so that one message can show two texts.
 */

static inline const char *
vaani_test_show(const void *data, size_t len)
{
    char           *p, *last;
    size_t          n;
    const u_char   *text = data;
    static char     buf[2][320];
    static size_t   turn;

    p = buf[turn ^= 1];
    last = p + sizeof(buf[0]) - 16;

    for (n = 0; n < len; n++) {

        if (p > last) {
            memcpy(p, "...", sizeof("..."));
            return buf[turn];
        }

        if (text[n] >= 0x20 && text[n] < 0x7f) {
            *p++ = text[n];

        } else {
            p += sprintf(p, "<%02x>", text[n]);
        }
    }

    *p = '\0';

    return buf[turn];
}


static inline const char *
vaani_test_show_str(const vaani_str_t *str)
{
    return vaani_test_show(str->data, str->len);
}


#endif /* _VAANI_TEST_H_INCLUDED_ */
