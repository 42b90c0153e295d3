
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "vaani_json.h"


static int vaani_json_decode(const vaani_str_t *raw, size_t decoded,
    unsigned lone, vaani_alloc_t *alloc, vaani_str_t *value);
static void vaani_json_replace_lone(u_char *p, u_char *end);
static unsigned vaani_json_code(const u_char *p);
static int vaani_json_cmp_members(const void *one, const void *two);


int
vaani_json_add(vaani_json_members_t *list, const vaani_str_t *key,
    size_t decoded, unsigned lone, vaani_alloc_t *alloc,
    vaani_json_member_t **member)
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

    return vaani_json_decode(key, decoded, lone, alloc, &(*member)->key);
}


/*
 * The scan has checked the string and counted its decoded bytes, which is
 * what makes cJSON's result usable beyond a U+0000.
 */

static int
vaani_json_decode(const vaani_str_t *raw, size_t decoded, unsigned lone,
    vaani_alloc_t *alloc, vaani_str_t *value)
{
    cJSON        *string;
    u_char       *data;
    vaani_str_t   src;

    if (raw->len == decoded + 2) {
        value->data = raw->data + 1;
        value->len = decoded;
        return VAANI_OK;
    }

    src = *raw;

    if (lone) {

        /* cJSON takes none */

        data = alloc->alloc(alloc->ctx, raw->len);

        if (data == NULL) {
            return VAANI_NOMEM;
        }

        memcpy(data, raw->data, raw->len);
        vaani_json_replace_lone(data, data + raw->len);

        src.data = data;
    }

    data = alloc->alloc(alloc->ctx, decoded);

    if (data == NULL) {
        return VAANI_NOMEM;
    }

    string = cJSON_ParseWithLength((const char *) src.data, src.len);

    if (string == NULL) {
        return VAANI_NOMEM;
    }

    memcpy(data, string->valuestring, decoded);
    value->data = data;
    value->len = decoded;

    cJSON_Delete(string);

    return VAANI_OK;
}


/*
 * Makes U+FFFD of each surrogate that stands alone; the escape is as long.
 */

static void
vaani_json_replace_lone(u_char *p, u_char *end)
{
    unsigned  code;

    for (p = memchr(p, '\\', end - p); p; p = memchr(p, '\\', end - p)) {

        if (p[1] != 'u') {
            p += 2;
            continue;
        }

        code = vaani_json_code(p + 2);

        if (code >= 0xd800 && code <= 0xdfff) {

            if (code <= 0xdbff && p[6] == '\\' && p[7] == 'u'
                && (vaani_json_code(p + 8) & 0xfc00) == 0xdc00)
            {
                p += 12;
                continue;
            }

            memcpy(p + 2, "fffd", 4);
        }

        p += 6;
    }
}


/*
 * Four hexadecimal digits that the scan has checked.
 */

static unsigned
vaani_json_code(const u_char *p)
{
    unsigned  n, code;

    code = 0;

    for (n = 0; n < 4; n++) {
        code = code * 16
               + (p[n] <= '9' ? p[n] - '0' : (p[n] | 0x20) - 'a' + 10);
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
    return vaani_json_decode(&member->raw, member->decoded, member->lone,
                             alloc, value);
}
