
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "vaani_json.h"


#if (defined __BYTE_ORDER__ && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__)
#define VAANI_LITTLE_ENDIAN    1
#endif

#define VAANI_JSON_ONES        0x0101010101010101ULL
#define VAANI_JSON_HIGHS       0x8080808080808080ULL


typedef struct {
    const u_char        *start;
    const u_char        *end;
    const u_char        *pos;

    vaani_json_t        *json;
    vaani_json_error_t  *error;

    /* a bit a level: set for an object, clear for an array */
    uint64_t             stack[VAANI_JSON_MAX_DEPTH / 64];
    unsigned             depth;
} vaani_json_scanner_t;


static int vaani_json_value(vaani_json_scanner_t *s);
static int vaani_json_push(vaani_json_scanner_t *s, unsigned object);
static unsigned vaani_json_in_object(vaani_json_scanner_t *s);
static void vaani_json_space(vaani_json_scanner_t *s);
static int vaani_json_key(vaani_json_scanner_t *s);
static int vaani_json_literal(vaani_json_scanner_t *s, const char *literal,
    size_t len);
static int vaani_json_number(vaani_json_scanner_t *s);
static int vaani_json_digits(vaani_json_scanner_t *s);
static int vaani_json_quoted(vaani_json_scanner_t *s, size_t *decoded);
static int vaani_json_escaped(vaani_json_scanner_t *s, size_t *decoded);
static int vaani_json_hex4(vaani_json_scanner_t *s, unsigned *code);
static const u_char *vaani_json_plain(const u_char *p, const u_char *end);
static vaani_json_member_t *vaani_json_add(vaani_json_t *json);
static int vaani_json_decode(vaani_alloc_t *alloc, const vaani_str_t *raw,
    size_t decoded, vaani_str_t *value);
static int vaani_json_unique(vaani_json_scanner_t *s);
static int vaani_json_cmp_members(const void *one, const void *two);
static int vaani_json_fail(vaani_json_scanner_t *s, const u_char *where,
    const char *message);


int
vaani_json_scan(vaani_json_t *json, const u_char *text, size_t len,
    vaani_alloc_t *alloc, vaani_json_error_t *error)
{
    int                   rc;
    vaani_json_scanner_t  s;

    json->alloc = alloc;
    json->type = VAANI_JSON_NULL;
    json->members = json->prealloc;
    json->nmembers = 0;
    json->nalloc = VAANI_JSON_NPREALLOC;

    s.start = text;
    s.pos = text;
    s.json = json;
    s.error = error;
    s.depth = 0;

    if (len == 0) {
        return vaani_json_fail(&s, text, "unexpected end of data");
    }

    s.end = text + len;

    rc = vaani_json_value(&s);

    if (rc != VAANI_OK) {
        return rc;
    }

    vaani_json_space(&s);

    if (s.pos != s.end) {
        return vaani_json_fail(&s, s.pos, "unexpected data after the value");
    }

    return vaani_json_unique(&s);
}


/*
 * One value and all that it contains.  There is no recursion: the nesting is
 * a stack of bits, so that no input can exhaust the worker's stack.
 */

static int
vaani_json_value(vaani_json_scanner_t *s)
{
    int                   rc;
    u_char                c;
    size_t                decoded;
    unsigned              object;
    const u_char         *start;
    vaani_json_type_e     type;
    vaani_json_member_t  *member;

value:

    vaani_json_space(s);

    if (s->pos == s->end) {
        return vaani_json_fail(s, s->pos, "unexpected end of data");
    }

    start = s->pos;
    decoded = 0;
    object = 0;

    switch (*s->pos) {

    case '{':
    case '[':
        object = (*s->pos == '{');
        type = object ? VAANI_JSON_OBJECT : VAANI_JSON_ARRAY;
        rc = vaani_json_push(s, object);
        break;

    case '"':
        type = VAANI_JSON_STRING;
        rc = vaani_json_quoted(s, &decoded);
        break;

    case 't':
        type = VAANI_JSON_BOOLEAN;
        rc = vaani_json_literal(s, "true", 4);
        break;

    case 'f':
        type = VAANI_JSON_BOOLEAN;
        rc = vaani_json_literal(s, "false", 5);
        break;

    case 'n':
        type = VAANI_JSON_NULL;
        rc = vaani_json_literal(s, "null", 4);
        break;

    default:
        type = VAANI_JSON_NUMBER;
        rc = vaani_json_number(s);
        break;
    }

    if (rc != VAANI_OK) {
        return rc;
    }

    if (type == VAANI_JSON_OBJECT || type == VAANI_JSON_ARRAY) {

        if (s->depth == 1) {
            s->json->type = type;

        } else if (s->depth == 2 && s->json->type == VAANI_JSON_OBJECT) {
            member = &s->json->members[s->json->nmembers - 1];
            member->raw.data = start;
            member->type = type;
        }

        vaani_json_space(s);

        if (s->pos == s->end) {
            return vaani_json_fail(s, s->pos, "unexpected end of data");
        }

        if (*s->pos == (object ? '}' : ']')) {
            goto close;
        }

        if (object) {
            goto key;
        }

        goto value;
    }

    if (s->depth == 0) {
        s->json->type = type;

    } else if (s->depth == 1 && s->json->type == VAANI_JSON_OBJECT) {
        member = &s->json->members[s->json->nmembers - 1];
        member->raw.data = start;
        member->raw.len = s->pos - start;
        member->type = type;
        member->decoded = decoded;
    }

    goto next;

key:

    rc = vaani_json_key(s);

    if (rc != VAANI_OK) {
        return rc;
    }

    goto value;

close:

    s->pos++;
    s->depth--;

    if (s->depth == 1 && s->json->type == VAANI_JSON_OBJECT) {
        member = &s->json->members[s->json->nmembers - 1];
        member->raw.len = s->pos - member->raw.data;
    }

next:

    if (s->depth == 0) {
        return VAANI_OK;
    }

    vaani_json_space(s);

    if (s->pos == s->end) {
        return vaani_json_fail(s, s->pos, "unexpected end of data");
    }

    c = *s->pos;
    object = vaani_json_in_object(s);

    if (c == (object ? '}' : ']')) {
        goto close;
    }

    if (c != ',') {
        return vaani_json_fail(s, s->pos,
                               object ? "expected a comma or a closing brace"
                                      : "expected a comma or a closing "
                                        "bracket");
    }

    s->pos++;

    if (object) {
        vaani_json_space(s);
        goto key;
    }

    goto value;
}


static int
vaani_json_push(vaani_json_scanner_t *s, unsigned object)
{
    uint64_t  bit;

    if (s->depth == VAANI_JSON_MAX_DEPTH) {
        return vaani_json_fail(s, s->pos, "nested too deeply");
    }

    /* the stack isn't cleared as a whole: most bodies are flat */

    if (s->depth % 64 == 0) {
        s->stack[s->depth / 64] = 0;
    }

    bit = (uint64_t) 1 << (s->depth % 64);

    if (object) {
        s->stack[s->depth / 64] |= bit;

    } else {
        s->stack[s->depth / 64] &= ~bit;
    }

    s->depth++;
    s->pos++;

    return VAANI_OK;
}


static unsigned
vaani_json_in_object(vaani_json_scanner_t *s)
{
    unsigned  level;

    level = s->depth - 1;

    return (s->stack[level / 64] >> (level % 64)) & 1;
}


static void
vaani_json_space(vaani_json_scanner_t *s)
{
    while (s->pos < s->end
           && (*s->pos == ' ' || *s->pos == '\n' || *s->pos == '\r'
               || *s->pos == '\t'))
    {
        s->pos++;
    }
}


static int
vaani_json_key(vaani_json_scanner_t *s)
{
    int                   rc;
    size_t                decoded;
    vaani_str_t           raw;
    const u_char         *start;
    vaani_json_member_t  *member;

    if (s->pos == s->end) {
        return vaani_json_fail(s, s->pos, "unexpected end of data");
    }

    if (*s->pos != '"') {
        return vaani_json_fail(s, s->pos, "expected a key in double quotes");
    }

    start = s->pos;

    rc = vaani_json_quoted(s, &decoded);

    if (rc != VAANI_OK) {
        return rc;
    }

    if (s->depth == 1) {
        member = vaani_json_add(s->json);

        if (member == NULL) {
            return VAANI_NOMEM;
        }

        raw.data = start;
        raw.len = s->pos - start;

        rc = vaani_json_decode(s->json->alloc, &raw, decoded, &member->key);

        if (rc != VAANI_OK) {
            return rc;
        }

        member->offset = start - s->start;
    }

    vaani_json_space(s);

    if (s->pos == s->end) {
        return vaani_json_fail(s, s->pos, "unexpected end of data");
    }

    if (*s->pos != ':') {
        return vaani_json_fail(s, s->pos, "expected a colon after the key");
    }

    s->pos++;

    return VAANI_OK;
}


static int
vaani_json_literal(vaani_json_scanner_t *s, const char *literal, size_t len)
{
    size_t  n;

    for (n = 0; n < len; n++) {

        if (s->pos == s->end) {
            return vaani_json_fail(s, s->pos, "unexpected end of data");
        }

        if (*s->pos != (u_char) literal[n]) {
            return vaani_json_fail(s, s->pos, "invalid literal");
        }

        s->pos++;
    }

    return VAANI_OK;
}


static int
vaani_json_number(vaani_json_scanner_t *s)
{
    if (*s->pos == '-') {
        s->pos++;

    } else if (*s->pos < '0' || *s->pos > '9') {
        return vaani_json_fail(s, s->pos, "expected a value");
    }

    if (s->pos < s->end && *s->pos == '0') {
        s->pos++;

        if (s->pos < s->end && *s->pos >= '0' && *s->pos <= '9') {
            return vaani_json_fail(s, s->pos,
                                   "a number must not have leading zeros");
        }

    } else if (vaani_json_digits(s) != VAANI_OK) {
        return VAANI_ERROR;
    }

    if (s->pos < s->end && *s->pos == '.') {
        s->pos++;

        if (vaani_json_digits(s) != VAANI_OK) {
            return VAANI_ERROR;
        }
    }

    if (s->pos < s->end && (*s->pos == 'e' || *s->pos == 'E')) {
        s->pos++;

        if (s->pos < s->end && (*s->pos == '+' || *s->pos == '-')) {
            s->pos++;
        }

        return vaani_json_digits(s);
    }

    return VAANI_OK;
}


static int
vaani_json_digits(vaani_json_scanner_t *s)
{
    const u_char  *start;

    start = s->pos;

    while (s->pos < s->end && *s->pos >= '0' && *s->pos <= '9') {
        s->pos++;
    }

    if (s->pos != start) {
        return VAANI_OK;
    }

    return vaani_json_fail(s, s->pos, s->pos == s->end
                                      ? "unexpected end of data"
                                      : "expected a digit");
}


/*
 * A string from its opening to its closing quote.  *decoded becomes the
 * length in bytes that it has without its escapes.
 */

static int
vaani_json_quoted(vaani_json_scanner_t *s, size_t *decoded)
{
    int            rc;
    size_t         n;
    const u_char  *start;

    *decoded = 0;
    s->pos++;

    for ( ;; ) {
        start = s->pos;
        s->pos = vaani_json_plain(start, s->end);
        *decoded += s->pos - start;

        if (s->pos == s->end) {
            return vaani_json_fail(s, s->pos, "unexpected end of data");
        }

        if (*s->pos == '"') {
            s->pos++;
            return VAANI_OK;
        }

        if (*s->pos == '\\') {
            rc = vaani_json_escaped(s, decoded);

            if (rc != VAANI_OK) {
                return rc;
            }

            continue;
        }

        if (*s->pos < 0x20) {
            return vaani_json_fail(s, s->pos,
                                   "a control character in a string "
                                   "must be escaped");
        }

        /* one comes with others: most scripts have no plain letters */

        do {
            n = vaani_utf8_len(s->pos, s->end);

            if (n == 0) {
                return vaani_json_fail(s, s->pos, "invalid UTF-8");
            }

            s->pos += n;
            *decoded += n;
        } while (s->pos < s->end && *s->pos >= 0x80);
    }
}


static int
vaani_json_escaped(vaani_json_scanner_t *s, size_t *decoded)
{
    unsigned       code, low;
    const u_char  *start;

    start = s->pos;
    s->pos++;

    if (s->pos == s->end) {
        return vaani_json_fail(s, s->pos, "unexpected end of data");
    }

    switch (*s->pos) {

    case '"':
    case '\\':
    case '/':
    case 'b':
    case 'f':
    case 'n':
    case 'r':
    case 't':
        s->pos++;
        *decoded += 1;
        return VAANI_OK;

    case 'u':
        s->pos++;
        break;

    default:
        return vaani_json_fail(s, start, "invalid escape");
    }

    if (vaani_json_hex4(s, &code) != VAANI_OK) {
        return VAANI_ERROR;
    }

    if (code < 0xd800 || code > 0xdfff) {
        *decoded += (code < 0x80) ? 1 : (code < 0x800) ? 2 : 3;
        return VAANI_OK;
    }

    if (code > 0xdbff
        || s->end - s->pos < 2 || s->pos[0] != '\\' || s->pos[1] != 'u')
    {
        return vaani_json_fail(s, start, "a surrogate stands alone");
    }

    s->pos += 2;

    if (vaani_json_hex4(s, &low) != VAANI_OK) {
        return VAANI_ERROR;
    }

    if (low < 0xdc00 || low > 0xdfff) {
        return vaani_json_fail(s, start, "a surrogate stands alone");
    }

    *decoded += 4;

    return VAANI_OK;
}


static int
vaani_json_hex4(vaani_json_scanner_t *s, unsigned *code)
{
    u_char    c;
    unsigned  n;

    *code = 0;

    for (n = 0; n < 4; n++) {

        if (s->pos == s->end) {
            return vaani_json_fail(s, s->pos, "unexpected end of data");
        }

        c = *s->pos | 0x20;

        if (*s->pos >= '0' && *s->pos <= '9') {
            *code = *code * 16 + (*s->pos - '0');

        } else if (c >= 'a' && c <= 'f') {
            *code = *code * 16 + (c - 'a' + 10);

        } else {
            return vaani_json_fail(s, s->pos, "expected a hexadecimal digit");
        }

        s->pos++;
    }

    return VAANI_OK;
}


/*
 * The length of the well-formed multibyte character (RFC 3629, section 4)
 * that p begins with, or 0.  What the second byte may be depends on the
 * first one: that excludes overlong forms, surrogates and all over U+10FFFF.
 */

size_t
vaani_utf8_len(const u_char *p, const u_char *end)
{
    size_t  n, i;
    u_char  low, high;

    low = 0x80;
    high = 0xbf;

    if (p[0] >= 0xc2 && p[0] <= 0xdf) {
        n = 2;

    } else if (p[0] >= 0xe0 && p[0] <= 0xef) {
        n = 3;

        if (p[0] == 0xe0) {
            low = 0xa0;

        } else if (p[0] == 0xed) {
            high = 0x9f;
        }

    } else if (p[0] >= 0xf0 && p[0] <= 0xf4) {
        n = 4;

        if (p[0] == 0xf0) {
            low = 0x90;

        } else if (p[0] == 0xf4) {
            high = 0x8f;
        }

    } else {
        return 0;
    }

    if ((size_t) (end - p) < n || p[1] < low || p[1] > high) {
        return 0;
    }

    for (i = 2; i < n; i++) {
        if (p[i] < 0x80 || p[i] > 0xbf) {
            return 0;
        }
    }

    return n;
}


/*
 * The first byte that isn't plain: a quote, a backslash, a control character
 * or a part of a multibyte character.  Transcripts are long, and nearly all
 * of their bytes are plain, hence eight at a time.
 */

static const u_char *
vaani_json_plain(const u_char *p, const u_char *end)
{
    uint64_t  w, quote, slash, special;

    while (end - p >= 8) {
        memcpy(&w, p, 8);

        quote = w ^ (VAANI_JSON_ONES * '"');
        slash = w ^ (VAANI_JSON_ONES * '\\');

        /*
         * A borrow can mark a plain byte above a special one, but never
         * leaves a special byte unmarked.
         */

        special = (w | (w - VAANI_JSON_ONES * 0x20)
                   | (quote - VAANI_JSON_ONES)
                   | (slash - VAANI_JSON_ONES)) & VAANI_JSON_HIGHS;

        if (special) {
#if (VAANI_LITTLE_ENDIAN)
            /* above is behind: the first one is right */
            p += __builtin_ctzll(special) / 8;
#endif
            break;
        }

        p += 8;
    }

    while (p < end && *p >= 0x20 && *p < 0x80 && *p != '"' && *p != '\\') {
        p++;
    }

    return p;
}


static vaani_json_member_t *
vaani_json_add(vaani_json_t *json)
{
    size_t                size;
    vaani_json_member_t  *members;

    if (json->nmembers == json->nalloc) {
        size = json->nalloc * sizeof(vaani_json_member_t);

        members = json->alloc->alloc(json->alloc->ctx, 2 * size);

        if (members == NULL) {
            return NULL;
        }

        memcpy(members, json->members, size);

        json->members = members;
        json->nalloc *= 2;
    }

    memset(&json->members[json->nmembers], 0, sizeof(vaani_json_member_t));

    return &json->members[json->nmembers++];
}


/*
 * The scan has checked the string and counted its decoded bytes, which is
 * what makes cJSON's result usable beyond a U+0000.
 */

static int
vaani_json_decode(vaani_alloc_t *alloc, const vaani_str_t *raw, size_t decoded,
    vaani_str_t *value)
{
    cJSON   *string;
    u_char  *data;

    if (raw->len == decoded + 2) {
        value->data = raw->data + 1;
        value->len = decoded;
        return VAANI_OK;
    }

    data = alloc->alloc(alloc->ctx, decoded);

    if (data == NULL) {
        return VAANI_NOMEM;
    }

    string = cJSON_ParseWithLength((const char *) raw->data, raw->len);

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
 * A body can have as many keys as fit into client_max_body_size, so the many
 * are sorted; the usual few are compared as they stand.
 */

static int
vaani_json_unique(vaani_json_scanner_t *s)
{
    size_t                      i, j, n;
    const vaani_json_member_t  *member, **sorted, *again;

    n = s->json->nmembers;
    member = s->json->members;
    again = NULL;

    if (n <= VAANI_JSON_NPREALLOC) {

        for (i = 1; i < n; i++) {
            for (j = 0; j < i; j++) {
                if (vaani_str_eq(&member[i].key, &member[j].key)) {
                    again = &member[i];
                    goto failed;
                }
            }
        }

        return VAANI_OK;
    }

    sorted = s->json->alloc->alloc(s->json->alloc->ctx, n * sizeof(*sorted));

    if (sorted == NULL) {
        return VAANI_NOMEM;
    }

    for (i = 0; i < n; i++) {
        sorted[i] = &member[i];
    }

    qsort(sorted, n, sizeof(*sorted), vaani_json_cmp_members);

    for (i = 1; i < n; i++) {
        if (vaani_str_eq(&sorted[i]->key, &sorted[i - 1]->key)
            && (again == NULL || sorted[i]->offset < again->offset))
        {
            again = sorted[i];
        }
    }

    if (again == NULL) {
        return VAANI_OK;
    }

failed:

    return vaani_json_fail(s, s->start + again->offset, "duplicate key");
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


static int
vaani_json_fail(vaani_json_scanner_t *s, const u_char *where,
    const char *message)
{
    s->error->message = message;
    s->error->offset = where - s->start;

    return VAANI_ERROR;
}


const vaani_json_member_t *
vaani_json_find(const vaani_json_t *json, const vaani_str_t *key)
{
    size_t  n;

    for (n = 0; n < json->nmembers; n++) {
        if (vaani_str_eq(&json->members[n].key, key)) {
            return &json->members[n];
        }
    }

    return NULL;
}


int
vaani_json_string(const vaani_json_t *json, const vaani_json_member_t *member,
    vaani_str_t *value)
{
    return vaani_json_decode(json->alloc, &member->raw, member->decoded,
                             value);
}
