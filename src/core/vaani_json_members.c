
#include <stdlib.h>
#include <string.h>

#include "vaani_json.h"
#include "vaani_utf8.h"


static int vaani_json_decode(const vaani_str_t *raw, size_t decoded,
    vaani_alloc_t *alloc, vaani_str_t *value);

/* inlined, it would cost each string without escapes some registers */

static void vaani_json_unescape(u_char *dst, size_t len, const u_char *p)
    __attribute__((noinline));

static u_char *vaani_json_character(u_char *dst, const u_char **p);
static unsigned vaani_json_code(const u_char *p);
static int vaani_json_cmp_members(const void *one, const void *two);


int
vaani_json_add(vaani_json_members_t *list, const vaani_str_t *key,
    size_t decoded, vaani_alloc_t *alloc, vaani_json_member_t **member)
{
    size_t                size;
    vaani_json_member_t  *members;

    if (list->nmembers == list->nalloc) {

        if (list->nalloc == VAANI_JSON_MAX_MEMBERS) {
            return VAANI_ERROR;
        }

        size = list->nalloc * sizeof(vaani_json_member_t);

        members = alloc->alloc(alloc->ctx, 2 * size);

        if (members == NULL) {
            return VAANI_NOMEM;
        }

        memcpy(members, list->members, size);

        list->members = members;
        list->nalloc *= 2;
    }

    *member = &list->members[list->nmembers++];

    memset(*member, 0, sizeof(vaani_json_member_t));

    return vaani_json_decode(key, decoded, alloc, &(*member)->key);
}


static int
vaani_json_decode(const vaani_str_t *raw, size_t decoded, vaani_alloc_t *alloc,
    vaani_str_t *value)
{
    u_char  *data;

    value->len = decoded;

    if (raw->len == decoded + 2) {
        value->data = raw->data + 1;
        return VAANI_OK;
    }

    data = alloc->alloc(alloc->ctx, decoded);

    if (data == NULL) {
        return VAANI_NOMEM;
    }

    vaani_json_unescape(data, decoded, raw->data + 1);
    value->data = data;

    return VAANI_OK;
}


/*
 * The scan has checked the string and counted its decoded bytes: what is read
 * needs no check, and its end is where as many are written.
 */

static void
vaani_json_unescape(u_char *dst, size_t len, const u_char *p)
{
    size_t   n;
    u_char  *last;

    last = dst + len;

    for ( ;; ) {
        n = vaani_utf8_copy(dst, p, last - dst);
        dst += n;
        p += n;

        if (dst == last) {
            return;
        }

        /* one comes with others: some senders escape all but ASCII */

        do {
            dst = vaani_json_character(dst, &p);
        } while (*p == '\\');
    }
}


/*
 * Decodes the escape at *p, which becomes its end, and returns the end of what
 * was written.
 */

static u_char *
vaani_json_character(u_char *dst, const u_char **p)
{
    unsigned       code, low;
    const u_char  *src;

    src = *p;
    *p += 2;

    switch (src[1]) {

    case 'b':
        *dst++ = '\b';
        return dst;

    case 'f':
        *dst++ = '\f';
        return dst;

    case 'n':
        *dst++ = '\n';
        return dst;

    case 'r':
        *dst++ = '\r';
        return dst;

    case 't':
        *dst++ = '\t';
        return dst;

    case 'u':
        break;

    default:

        /* a quote, a backslash or a slash */

        *dst++ = src[1];
        return dst;
    }

    code = vaani_json_code(src + 2);
    *p += 4;

    if (code < 0x80) {
        *dst++ = (u_char) code;
        return dst;
    }

    if (code < 0x800) {
        *dst++ = (u_char) (0xc0 | code >> 6);
        *dst++ = (u_char) (0x80 | (code & 0x3f));
        return dst;
    }

    if (code >= 0xd800 && code <= 0xdfff) {
        low = (code <= 0xdbff && src[6] == '\\' && src[7] == 'u')
              ? vaani_json_code(src + 8) : 0;

        if (low >= 0xdc00 && low <= 0xdfff) {
            code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
            *p += 6;

            *dst++ = (u_char) (0xf0 | code >> 18);
            *dst++ = (u_char) (0x80 | (code >> 12 & 0x3f));
            *dst++ = (u_char) (0x80 | (code >> 6 & 0x3f));
            *dst++ = (u_char) (0x80 | (code & 0x3f));
            return dst;
        }

        /* it stands alone */

        code = 0xfffd;
    }

    *dst++ = (u_char) (0xe0 | code >> 12);
    *dst++ = (u_char) (0x80 | (code >> 6 & 0x3f));
    *dst++ = (u_char) (0x80 | (code & 0x3f));

    return dst;
}


/*
 * Four hexadecimal digits that the scan has checked: the letters of either case
 * end in 1 to 6, and have a bit that the digits don't.
 */

static unsigned
vaani_json_code(const u_char *p)
{
    unsigned  n, code;

    code = 0;

    for (n = 0; n < 4; n++) {
        code = code * 16 + (p[n] & 0xf) + (p[n] >> 6) * 9;
    }

    return code;
}


/*
 * The usual few members are compared as they stand, many are sorted.
 */

int
vaani_json_unique(vaani_json_members_t *list, vaani_alloc_t *alloc,
    const vaani_json_member_t **again)
{
    size_t                      i, j, n;
    const vaani_json_member_t  *member, **sorted;

    n = list->nmembers;
    member = list->members;

    *again = NULL;

    if (n <= VAANI_JSON_NPREALLOC) {

        for (i = 1; i < n; i++) {
            for (j = 0; j < i; j++) {
                if (vaani_str_eq(&member[i].key, &member[j].key)) {
                    *again = &member[i];
                    return VAANI_OK;
                }
            }
        }

        return VAANI_OK;
    }

    sorted = alloc->alloc(alloc->ctx, n * sizeof(*sorted));

    if (sorted == NULL) {
        return VAANI_NOMEM;
    }

    for (i = 0; i < n; i++) {
        sorted[i] = &member[i];
    }

    qsort(sorted, n, sizeof(*sorted), vaani_json_cmp_members);

    for (i = 1; i < n; i++) {
        if (vaani_str_eq(&sorted[i]->key, &sorted[i - 1]->key)
            && (*again == NULL || sorted[i]->offset < (*again)->offset))
        {
            *again = sorted[i];
        }
    }

    return VAANI_OK;
}


static int
vaani_json_cmp_members(const void *one, const void *two)
{
    int                         rc;
    size_t                      len;
    const vaani_json_member_t  *first, *second;

    first = *(const vaani_json_member_t * const *) one;
    second = *(const vaani_json_member_t * const *) two;

    if (first->key.len != second->key.len) {
        return (first->key.len < second->key.len) ? -1 : 1;
    }

    len = first->key.len;
    rc = len ? memcmp(first->key.data, second->key.data, len) : 0;

    if (rc != 0) {
        return rc;
    }

    return (first->offset > second->offset) - (first->offset < second->offset);
}


vaani_json_member_t *
vaani_json_find(vaani_json_members_t *list, const vaani_str_t *key)
{
    size_t                n;
    vaani_json_member_t  *member;

    for (n = list->nmembers; n > 0; n--) {
        member = &list->members[n - 1];

        /* most of those that are as long begin with another letter */

        if (member->key.len == key->len
            && (key->len == 0
                || (member->key.data[0] == key->data[0]
                    && memcmp(member->key.data, key->data, key->len) == 0)))
        {
            return member;
        }
    }

    return NULL;
}


int
vaani_json_string(const vaani_json_member_t *member, vaani_alloc_t *alloc,
    vaani_str_t *value)
{
    return vaani_json_decode(&member->raw, member->decoded, alloc, value);
}
