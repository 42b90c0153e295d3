
#include <string.h>

#include "vaani_json_scanner.h"


static void vaani_json_init(vaani_json_scanner_t *s, vaani_json_t *json,
    const vaani_json_options_t *options, vaani_alloc_t *alloc,
    vaani_json_error_t *error);
static int vaani_json_text(vaani_json_scanner_t *s);
static int vaani_json_value(vaani_json_scanner_t *s,
    vaani_json_member_t *member, vaani_json_members_t *list);
static int vaani_json_object(vaani_json_scanner_t *s,
    vaani_json_members_t *list);
static int vaani_json_member(vaani_json_scanner_t *s,
    vaani_json_members_t *list);
static int vaani_json_key(vaani_json_scanner_t *s, vaani_json_members_t *list,
    vaani_json_member_t **member);
static int vaani_json_listed(vaani_json_scanner_t *s);


int
vaani_json_scan(vaani_json_t *json, const u_char *text, size_t len,
    const vaani_json_options_t *options, vaani_alloc_t *alloc,
    vaani_json_error_t *error)
{
    int                   rc;
    vaani_json_scanner_t  s;

    vaani_json_init(&s, json, options, alloc, error);

    s.start = text;
    s.pos = text;

    if (len == 0) {
        return vaani_json_fail(&s, text, "unexpected end of data");
    }

    s.end = text + len;

    rc = vaani_json_text(&s);

    if (rc != VAANI_OK) {
        return rc;
    }

    vaani_json_space(&s);

    if (s.pos != s.end) {
        return vaani_json_fail(&s, s.pos, "unexpected data after the value");
    }

    return vaani_json_listed(&s);
}


void
vaani_json_array(vaani_json_array_t *array, const vaani_str_t *raw)
{
    array->start = raw->data;
    array->pos = raw->data + 1;
    array->end = raw->data + raw->len;
}


int
vaani_json_element(vaani_json_array_t *array, vaani_json_t *json,
    const vaani_json_options_t *options, vaani_alloc_t *alloc,
    vaani_str_t *raw, vaani_json_error_t *error)
{
    int                   rc;
    vaani_json_scanner_t  s;

    vaani_json_init(&s, json, options, alloc, error);

    s.start = array->start;
    s.pos = array->pos;
    s.end = array->end;

    vaani_json_space(&s);

    if (*s.pos == ']') {
        return VAANI_DONE;
    }

    raw->data = s.pos;

    rc = vaani_json_text(&s);

    if (rc == VAANI_NOMEM) {
        return rc;
    }

    if (rc == VAANI_OK) {
        rc = vaani_json_listed(&s);

    } else {

        /*
         * a closing bracket exists, because the array has been scanned before
         */

        s.pos = raw->data;
        s.depth = 0;
        s.options = NULL;

        (void) vaani_json_text(&s);
    }

    raw->len = s.pos - raw->data;

    vaani_json_space(&s);

    if (*s.pos == ',') {
        s.pos++;
    }

    array->pos = s.pos;

    return rc;
}


static void
vaani_json_init(vaani_json_scanner_t *s, vaani_json_t *json,
    const vaani_json_options_t *options, vaani_alloc_t *alloc,
    vaani_json_error_t *error)
{
    memset(&json->value, 0, sizeof(vaani_json_member_t));

    json->broken = 0;

    json->top.members = json->top.prealloc;
    json->top.nmembers = 0;
    json->top.nalloc = VAANI_JSON_NPREALLOC;

    json->inner.members = json->inner.prealloc;
    json->inner.nmembers = 0;
    json->inner.nalloc = VAANI_JSON_NPREALLOC;

    s->json = json;
    s->alloc = alloc;
    s->error = error;
    s->options = options;
    s->depth = 0;
}


/*
 * Scans the value of the whole text, or of an element.
 */

static int
vaani_json_text(vaani_json_scanner_t *s)
{
    return vaani_json_value(s, &s->json->value,
                            s->options ? &s->json->top : NULL);
}


/*
 * Scans a value with everything in it.  If it is an object, its members are
 * listed in list, unless list is NULL.
 */

static int
vaani_json_value(vaani_json_scanner_t *s, vaani_json_member_t *member,
    vaani_json_members_t *list)
{
    int       rc;
    unsigned  lone;

    vaani_json_skip(s);

    if (s->pos == s->end) {
        return vaani_json_fail(s, s->pos, "unexpected end of data");
    }

    member->raw.data = s->pos;

    switch (*s->pos) {

    case '{':
        member->type = VAANI_JSON_OBJECT;
        rc = list ? vaani_json_object(s, list) : vaani_json_nested(s);
        break;

    case '[':
        member->type = VAANI_JSON_ARRAY;
        rc = vaani_json_nested(s);
        break;

    case '"':
        member->type = VAANI_JSON_STRING;
        lone = 0;
        rc = vaani_json_quoted(s, &member->decoded, &lone);
        member->lone = lone;
        break;

    default:
        rc = vaani_json_scalar(s, &member->type);
    }

    member->raw.len = s->pos - member->raw.data;

    return rc;
}


static int
vaani_json_object(vaani_json_scanner_t *s, vaani_json_members_t *list)
{
    int  rc;

    s->pos++;
    s->depth++;

    vaani_json_skip(s);

    if (s->pos < s->end && *s->pos == '}') {
        goto close;
    }

    for ( ;; ) {
        rc = vaani_json_member(s, list);

        if (rc != VAANI_OK) {
            return rc;
        }

        vaani_json_skip(s);

        if (s->pos == s->end) {
            return vaani_json_fail(s, s->pos, "unexpected end of data");
        }

        if (*s->pos == '}') {
            goto close;
        }

        if (*s->pos != ',') {
            return vaani_json_fail(s, s->pos,
                                   "expected a comma or a closing brace");
        }

        s->pos++;

        vaani_json_skip(s);
    }

close:

    s->pos++;
    s->depth--;

    return VAANI_OK;
}


/*
 * Scans a key and its value.  Only two levels are listed; therefore the
 * recursion of vaani_json_object() is not deep.
 */

static int
vaani_json_member(vaani_json_scanner_t *s, vaani_json_members_t *list)
{
    int                    rc;
    vaani_json_member_t   *member;
    vaani_json_members_t  *inner;

    rc = vaani_json_key(s, list, &member);

    if (rc != VAANI_OK) {
        return rc;
    }

    inner = NULL;

    if (list == &s->json->top
        && s->options->inner
        && vaani_str_eq(&member->key, s->options->inner))
    {
        inner = &s->json->inner;

        /* if the key is repeated, the last one counts */

        inner->nmembers = 0;
    }

    vaani_json_skip(s);

    if (s->pos == s->end) {
        return vaani_json_fail(s, s->pos, "unexpected end of data");
    }

    if (*s->pos != ':') {
        return vaani_json_fail(s, s->pos, "expected a colon after the key");
    }

    s->pos++;

    return vaani_json_value(s, member, inner);
}


static int
vaani_json_key(vaani_json_scanner_t *s, vaani_json_members_t *list,
    vaani_json_member_t **member)
{
    int          rc;
    size_t       decoded;
    unsigned     lone;
    vaani_str_t  raw;

    if (s->pos == s->end) {
        return vaani_json_fail(s, s->pos, "unexpected end of data");
    }

    if (*s->pos != '"') {
        return vaani_json_fail(s, s->pos, "expected a key in double quotes");
    }

    raw.data = s->pos;

    rc = vaani_json_quoted(s, &decoded, &lone);

    if (rc != VAANI_OK) {
        return rc;
    }

    raw.len = s->pos - raw.data;

    rc = vaani_json_add(list, &raw, decoded, s->alloc, member);

    if (rc == VAANI_ERROR) {
        return vaani_json_fail(s, raw.data, "too many members in an object");
    }

    if (rc == VAANI_OK) {
        (*member)->offset = raw.data - s->start;
    }

    return rc;
}


/*
 * Checks that are possible only at the end of the list.
 */

static int
vaani_json_listed(vaani_json_scanner_t *s)
{
    int                         rc;
    const vaani_json_member_t  *again, *inner;

    if (s->options == NULL || !s->options->unique) {
        return VAANI_OK;
    }

    rc = vaani_json_unique(&s->json->top, s->alloc, &again);

    if (rc == VAANI_OK && again == NULL) {
        rc = vaani_json_unique(&s->json->inner, s->alloc, &inner);
        again = inner;
    }

    if (rc != VAANI_OK || again == NULL) {
        return rc;
    }

    return vaani_json_fail(s, s->start + again->offset, "duplicate key");
}
