
/*
 * Repairs a body that is not JSON only because of its sender's serializer.
 * Byte order marks at the begin are dropped.  Bytes that are not UTF-8 become
 * U+FFFD, one for each maximal part of a sequence (Unicode 15, section 3.9).
 * NaN, Infinity and -Infinity become null.  The result is not checked: scan it
 * again.
 */


#ifndef _VAANI_REPAIR_H_INCLUDED_
#define _VAANI_REPAIR_H_INCLUDED_


#include "vaani_json.h"


/*
 * Repairs src.  *dst becomes memory of alloc, or src if nothing was repaired;
 * it is at most three times as long.
 *
 * Returns VAANI_OK; VAANI_DONE if nothing was repaired; VAANI_NOMEM.
 */
int vaani_repair(const vaani_str_t *src, vaani_alloc_t *alloc,
    vaani_str_t *dst);

/*
 * Maps positions of a repaired text to the original.
 */

typedef struct {
    vaani_str_t          src;
    size_t               pos;           /* in src */
    size_t               len;           /* in the repaired form */
    size_t               nrepairs;      /* before that */
    unsigned             quoted;        /* inside a string */
} vaani_repair_t;


/*
 * Starts at the begin of src, which must outlive *repair.
 */
void vaani_repair_begin(vaani_repair_t *repair, const vaani_str_t *src);

/*
 * Moves to an offset of the repaired text, which must not be before the
 * current one.  A replacement is passed as a whole.  Returns the offset in
 * src, in bytes.
 */
size_t vaani_repair_seek(vaani_repair_t *repair, size_t offset);


#endif /* _VAANI_REPAIR_H_INCLUDED_ */
