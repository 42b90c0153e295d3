
#include <string.h>

#include "vaani_repair.h"
#include "vaani_utf8.h"


/* a part of the text, and its replacement */

typedef struct {
    size_t               len;
    const char          *with;          /* NULL: unchanged */
} vaani_repair_part_t;


static void vaani_repair_walk(vaani_repair_t *repair, size_t limit,
    u_char *dst);
static void vaani_repair_part(const u_char *p, const u_char *end,
    unsigned quoted, vaani_repair_part_t *part);
static unsigned vaani_repair_is(const u_char *p, const u_char *end,
    const char *literal);
static size_t vaani_repair_bad(const u_char *p, const u_char *end);


int
vaani_repair(const vaani_str_t *src, vaani_alloc_t *alloc, vaani_str_t *dst)
{
    u_char          *data;
    vaani_repair_t   repair;

    *dst = *src;

    if (src->len == 0) {
        return VAANI_DONE;
    }

    vaani_repair_begin(&repair, src);
    vaani_repair_walk(&repair, (size_t) -1, NULL);

    if (repair.nrepairs == 0) {
        return VAANI_DONE;
    }

    /* one more byte, for a body that consists of a mark and becomes empty */

    data = alloc->alloc(alloc->ctx, repair.len + 1);

    if (data == NULL) {
        return VAANI_NOMEM;
    }

    dst->data = data;
    dst->len = repair.len;

    vaani_repair_begin(&repair, src);
    vaani_repair_walk(&repair, (size_t) -1, data);

    return VAANI_OK;
}


void
vaani_repair_begin(vaani_repair_t *repair, const vaani_str_t *src)
{
    memset(repair, 0, sizeof(vaani_repair_t));

    repair->src = *src;

    /* some libraries add a mark to a text that already has one */

    while (vaani_repair_is(src->data + repair->pos, src->data + src->len,
                           "\xef\xbb\xbf"))
    {
        repair->pos += 3;
        repair->nrepairs++;
    }
}


size_t
vaani_repair_seek(vaani_repair_t *repair, size_t offset)
{
    vaani_repair_walk(repair, offset, NULL);

    return repair->pos;
}


/*
 * Repairs until the result has limit bytes, and writes it to dst unless dst is
 * NULL.
 */

static void
vaani_repair_walk(vaani_repair_t *repair, size_t limit, u_char *dst)
{
    size_t                size;
    const u_char         *p, *start, *end;
    vaani_repair_part_t   part;

    start = repair->src.data;
    end = start + repair->src.len;
    p = start + repair->pos;

    while (p < end && repair->len < limit) {

        vaani_repair_part(p, end, repair->quoted, &part);

        if (part.with) {
            size = strlen(part.with);
            repair->nrepairs++;

        } else {
            size = part.len;
            repair->quoted ^= (*p == '"');
        }

        if (dst) {
            memcpy(dst + repair->len,
                   part.with ? (const u_char *) part.with : p, size);
        }

        repair->len += size;
        p += part.len;
    }

    repair->pos = p - start;
}


static void
vaani_repair_part(const u_char *p, const u_char *end, unsigned quoted,
    vaani_repair_part_t *part)
{
    part->with = NULL;
    part->len = 1;

    if (*p >= 0x80) {
        part->len = vaani_utf8_len(p, end);

        if (part->len == 0) {
            part->with = "\xef\xbf\xbd";
            part->len = vaani_repair_bad(p, end);
        }

        return;
    }

    if (quoted) {

        /* an escaped quote does not end a string */

        if (*p == '\\' && end - p > 1 && (p[1] == '"' || p[1] == '\\')) {
            part->len = 2;
        }

        return;
    }

    if (vaani_repair_is(p, end, "NaN")) {
        part->with = "null";
        part->len = 3;

    } else if (vaani_repair_is(p, end, "Infinity")) {
        part->with = "null";
        part->len = 8;

    } else if (vaani_repair_is(p, end, "-Infinity")) {
        part->with = "null";
        part->len = 9;
    }
}


static unsigned
vaani_repair_is(const u_char *p, const u_char *end, const char *literal)
{
    size_t  len;

    len = strlen(literal);

    return (size_t) (end - p) >= len && memcmp(p, literal, len) == 0;
}


/*
 * The length of the invalid bytes at p that form the begin of a character: the
 * first byte, and those that may follow it.
 */

static size_t
vaani_repair_bad(const u_char *p, const u_char *end)
{
    size_t  n, most;
    u_char  low, high;

    most = (p[0] >= 0xf0) ? 3 : 2;

    if (p[0] < 0xe0 || p[0] > 0xf4) {

        /*
         * two bytes that are invalid together: the second one may not follow
         */

        return 1;
    }

    low = (p[0] == 0xe0) ? 0xa0 : (p[0] == 0xf0) ? 0x90 : 0x80;
    high = (p[0] == 0xed) ? 0x9f : (p[0] == 0xf4) ? 0x8f : 0xbf;

    for (n = 1; n < most && p + n < end; n++) {

        if (p[n] < low || p[n] > high) {
            break;
        }

        low = 0x80;
        high = 0xbf;
    }

    return n;
}
