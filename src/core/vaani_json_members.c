
#include <stdlib.h>
#include <string.h>

#include "vaani_json_scanner.h"


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


vaani_json_member_t *
vaani_json_find(vaani_json_members_t *list, const vaani_str_t *key)
{
    size_t                n;
    vaani_json_member_t  *member;

    for (n = list->nmembers; n > 0; n--) {
        member = &list->members[n - 1];

        /* most keys of the same length begin with another letter */

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


/*
 * A few members, the usual case, are compared pairwise; many are sorted first.
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
