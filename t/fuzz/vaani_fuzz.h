
/*
 * Shared by the fuzz targets.
 */


#ifndef _VAANI_FUZZ_H_INCLUDED_
#define _VAANI_FUZZ_H_INCLUDED_


#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>


/*
 * A fuzzer treats abort() as a crash and keeps the input. assert() cannot be
 * used, because NDEBUG removes it.
 */

#define vaani_fuzz_check(condition)                                           \
    do {                                                                      \
        if (!(condition)) {                                                   \
            fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__,        \
                    #condition);                                              \
            abort();                                                          \
        }                                                                     \
    } while (0)


/*
 * Whether str lies in text.
 */

#define vaani_fuzz_within(str, text, size)                                    \
    ((str)->data >= (text) && (str)->len <= (size)                            \
     && (size_t) ((str)->data - (text)) <= (size) - (str)->len)


/* longer texts make the reference's comparison of keys too slow */

#define VAANI_FUZZ_MAX_SIZE  65536


int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);


#endif /* _VAANI_FUZZ_H_INCLUDED_ */
