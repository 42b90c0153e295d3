
/*
 * What is mended in a body that is not JSON only because of its sender's
 * serializer: byte order marks at the begin are dropped, bytes that are not
 * UTF-8 become U+FFFD, one for each maximal part of a sequence (Unicode 15,
 * section 3.9), and NaN, Infinity and -Infinity become null.  Whether the
 * result is JSON is for another scan to say.
 */


#ifndef _VAANI_REPAIR_H_INCLUDED_
#define _VAANI_REPAIR_H_INCLUDED_


#include "vaani_json.h"


/*
 * Repairs src.  *dst becomes memory of alloc, or stays src if there is nothing
 * to repair; it is at most three times as long.
 *
 * Returns VAANI_OK; VAANI_DONE if nothing was to be repaired; VAANI_NOMEM.
 */
int vaani_repair(const vaani_str_t *src, vaani_alloc_t *alloc,
    vaani_str_t *dst);

/*
 * Goes through a text and its repaired form side by side.
 */

typedef struct {
    vaani_str_t          src;
    size_t               pos;           /* in src */
    size_t               len;           /* in the repaired form */
    size_t               nrepairs;      /* before that */
    unsigned             quoted;        /* inside of a string */
} vaani_repair_t;


/*
 * Begins at the begin of src, which must outlive *repair.
 */
void vaani_repair_begin(vaani_repair_t *repair, const vaani_str_t *src);

/*
 * Goes on to an offset of the repaired form, not before the one that was
 * reached; a repair is passed as a whole.  Returns the offset in src, in bytes.
 */
size_t vaani_repair_seek(vaani_repair_t *repair, size_t offset);


#endif /* _VAANI_REPAIR_H_INCLUDED_ */
