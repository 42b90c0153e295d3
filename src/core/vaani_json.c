
#include <string.h>

#include "vaani_json.h"
#include "vaani_utf8.h"


/* most tokens have no space before them */

#define vaani_json_skip(s)                                                    \
    if (s->pos < s->end && *s->pos <= ' ') {                                  \
        vaani_json_space(s);                                                  \
    }

/*
 * For vaani_json_nested(): most values have no space around them, and most
 * strings there are short and plain.
 */

#define vaani_json_skip_space(s, p, end)                                      \
    if (p < end && *p <= ' ') {                                               \
        s->pos = p;                                                           \
        vaani_json_space(s);                                                  \
        p = s->pos;                                                           \
    }

#define vaani_json_skip_string(s, p, end)                                     \
    s->pos = p;                                                               \
                                                                              \
    for (p++; p < end && *p >= 0x20 && *p < 0x80 && *p != '"' && *p != '\\'   \
         && p - s->pos < VAANI_JSON_SHORT; p++)                               \
    { /* void */ }                                                            \
                                                                              \
    if (p < end && *p == '"') {                                               \
        p++;                                                                  \
                                                                              \
    } else {                                                                  \
        lone = 0;                                                             \
        rc = vaani_json_quoted(s, &decoded, &lone);                           \
                                                                              \
        if (rc != VAANI_OK) {                                                 \
            return rc;                                                        \
        }                                                                     \
                                                                              \
        p = s->pos;                                                           \
    }

/* a string that is looked at byte by byte, bytes */

#define VAANI_JSON_SHORT       16


typedef struct {
    const u_char        *start;
    const u_char        *end;
    const u_char        *pos;

    vaani_json_t        *json;
    vaani_alloc_t       *alloc;
    vaani_json_error_t  *error;

    const vaani_json_options_t  *options;

    /* where members are listed at the levels 1 and 2, NULL: nowhere */
    vaani_json_members_t        *lists[3];
    unsigned                     at_inner;

    /* a bit a level: set for an object, clear for an array */
    uint64_t             stack[VAANI_JSON_MAX_DEPTH / 64];
    unsigned             depth;
} vaani_json_scanner_t;


static void vaani_json_init(vaani_json_scanner_t *s, vaani_json_t *json,
    const vaani_json_options_t *options, vaani_alloc_t *alloc,
    vaani_json_error_t *error);
static int vaani_json_value(vaani_json_scanner_t *s);
static int vaani_json_nested(vaani_json_scanner_t *s);
static vaani_json_member_t *vaani_json_member(vaani_json_scanner_t *s);
static int vaani_json_push(vaani_json_scanner_t *s, unsigned object);
static unsigned vaani_json_in_object(vaani_json_scanner_t *s);
static void vaani_json_space(vaani_json_scanner_t *s);
static int vaani_json_key(vaani_json_scanner_t *s);
static int vaani_json_literal(vaani_json_scanner_t *s, const char *literal,
    size_t len);
static int vaani_json_number(vaani_json_scanner_t *s);
static int vaani_json_digits(vaani_json_scanner_t *s);
static int vaani_json_quoted(vaani_json_scanner_t *s, size_t *decoded,
    unsigned *lone);
static const u_char *vaani_json_escaped(vaani_json_scanner_t *s,
    const u_char *p, size_t *decoded, unsigned *lone);
static const u_char *vaani_json_hex4(vaani_json_scanner_t *s, const u_char *p,
    unsigned *code);
static int vaani_json_listed(vaani_json_scanner_t *s);
static int vaani_json_fail(vaani_json_scanner_t *s, const u_char *where,
    const char *message);


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

    rc = vaani_json_value(&s);

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

    rc = vaani_json_value(&s);

    if (rc == VAANI_NOMEM) {
        return rc;
    }

    if (rc == VAANI_OK) {
        rc = vaani_json_listed(&s);

    } else {

        /* there is an end, since the array has been scanned before */

        s.pos = raw->data;
        s.depth = 0;
        s.options = NULL;

        (void) vaani_json_value(&s);
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
    s->at_inner = 0;
}


/*
 * One value and all that it contains, down to where members are listed.  There
 * is no recursion: the nesting is a stack of bits, so that no input can exhaust
 * the worker's stack.
 */

static int
vaani_json_value(vaani_json_scanner_t *s)
{
    int                   rc;
    size_t                decoded;
    unsigned              lone;
    const u_char         *start;
    vaani_json_type_e     type;
    vaani_json_member_t  *member;

value:

    vaani_json_skip(s);

    if (s->pos == s->end) {
        return vaani_json_fail(s, s->pos, "unexpected end of data");
    }

    start = s->pos;
    decoded = 0;
    lone = 0;

    switch (*s->pos) {

    case '{':
        type = VAANI_JSON_OBJECT;

        /* never too deep: listed are only the first two levels */

        (void) vaani_json_push(s, 1);

        if (s->depth <= 2 && s->lists[s->depth]) {
            goto listed;
        }

        rc = vaani_json_nested(s);
        break;

    case '[':
        type = VAANI_JSON_ARRAY;

        (void) vaani_json_push(s, 0);

        rc = vaani_json_nested(s);
        break;

    case '"':
        type = VAANI_JSON_STRING;
        rc = vaani_json_quoted(s, &decoded, &lone);
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

    member = vaani_json_member(s);

    member->raw.data = start;
    member->raw.len = s->pos - start;
    member->type = type;
    member->decoded = decoded;
    member->lone = lone;

    goto next;

listed:

    /* the member of the level above, which becomes whole at its end */

    s->depth--;
    member = vaani_json_member(s);
    s->depth++;

    member->raw.data = start;
    member->type = type;

    vaani_json_skip(s);

    if (s->pos == s->end) {
        return vaani_json_fail(s, s->pos, "unexpected end of data");
    }

    if (*s->pos == '}') {
        goto close;
    }

key:

    rc = vaani_json_key(s);

    if (rc != VAANI_OK) {
        return rc;
    }

    goto value;

close:

    s->pos++;
    s->depth--;

    member = vaani_json_member(s);
    member->raw.len = s->pos - member->raw.data;

next:

    if (s->depth == 0) {
        return VAANI_OK;
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

    goto key;
}


/*
 * The rest of an array or object that nobody reads, behind its opening bracket.
 * A body may consist of millions of small values: what is done for one of them
 * is kept short, and the position in a register.
 */

static int
vaani_json_nested(vaani_json_scanner_t *s)
{
    int            rc;
    size_t         decoded;
    unsigned       level, object, lone;
    const u_char  *p, *end;

    level = s->depth;
    object = vaani_json_in_object(s);
    p = s->pos;
    end = s->end;

opened:

    vaani_json_skip_space(s, p, end);

    if (p == end) {
        goto ended;
    }

    if (*p == (object ? '}' : ']')) {
        goto close;
    }

    if (object) {
        goto key;
    }

value:

    vaani_json_skip_space(s, p, end);

    if (p == end) {
        goto ended;
    }

    switch (*p) {

    case '"':
        vaani_json_skip_string(s, p, end);
        break;

    case '{':
    case '[':

        /* in ASCII a closing bracket is two behind its opening one */

        if (end - p > 1 && p[1] == *p + 2
            && s->depth < VAANI_JSON_MAX_DEPTH)
        {
            p += 2;
            break;
        }

        s->pos = p;

        rc = vaani_json_push(s, *p == '{');

        if (rc != VAANI_OK) {
            return rc;
        }

        object = (*p == '{');
        p++;

        goto opened;

    case '0':
    case '1':
    case '2':
    case '3':
    case '4':
    case '5':
    case '6':
    case '7':
    case '8':
    case '9':

        if (end - p > 1 && (p[1] == ',' || p[1] == ']' || p[1] == '}')) {
            p++;
            break;
        }

        /* fall through */

    default:
        s->pos = p;

        switch (*p) {

        case 't':
            rc = vaani_json_literal(s, "true", 4);
            break;

        case 'f':
            rc = vaani_json_literal(s, "false", 5);
            break;

        case 'n':
            rc = vaani_json_literal(s, "null", 4);
            break;

        default:
            rc = vaani_json_number(s);
        }

        if (rc != VAANI_OK) {
            return rc;
        }

        p = s->pos;
    }

next:

    vaani_json_skip_space(s, p, end);

    if (p == end) {
        goto ended;
    }

    if (*p == ',') {
        p++;

        if (!object) {
            goto value;
        }

        goto key;
    }

    if (*p == (object ? '}' : ']')) {
        goto close;
    }

    return vaani_json_fail(s, p, object ? "expected a comma or a closing brace"
                                        : "expected a comma or a closing "
                                          "bracket");

key:

    vaani_json_skip_space(s, p, end);

    if (p == end) {
        goto ended;
    }

    if (*p != '"') {
        return vaani_json_fail(s, p, "expected a key in double quotes");
    }

    vaani_json_skip_string(s, p, end);
    vaani_json_skip_space(s, p, end);

    if (p == end) {
        goto ended;
    }

    if (*p != ':') {
        return vaani_json_fail(s, p, "expected a colon after the key");
    }

    p++;

    goto value;

close:

    p++;

    if (--s->depth >= level) {
        object = vaani_json_in_object(s);
        goto next;
    }

    s->pos = p;

    return VAANI_OK;

ended:

    return vaani_json_fail(s, p, "unexpected end of data");
}


/*
 * The member of a listed object that the value belongs to; the whole text is
 * one without a key.
 */

static vaani_json_member_t *
vaani_json_member(vaani_json_scanner_t *s)
{
    vaani_json_members_t  *list;

    if (s->depth == 0) {
        return &s->json->value;
    }

    list = s->lists[s->depth];

    return &list->members[list->nmembers - 1];
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

    if (s->depth <= 2) {
        s->lists[s->depth] = NULL;

        if (object && s->options) {

            if (s->depth == 1) {
                s->lists[1] = &s->json->top;

            } else if (s->at_inner) {
                s->lists[2] = &s->json->inner;
            }
        }
    }

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
    const u_char  *p;

    for (p = s->pos; p < s->end && *p <= ' '; p++) {

        if (*p == '\n' || *p == '\r') {
            s->json->broken = 1;

        } else if (*p != ' ' && *p != '\t') {
            break;
        }
    }

    s->pos = p;
}


static int
vaani_json_key(vaani_json_scanner_t *s)
{
    int                    rc;
    size_t                 decoded;
    unsigned               lone;
    vaani_str_t            raw;
    const u_char          *start;
    vaani_json_member_t   *member;
    vaani_json_members_t  *list;

    if (s->pos == s->end) {
        return vaani_json_fail(s, s->pos, "unexpected end of data");
    }

    if (*s->pos != '"') {
        return vaani_json_fail(s, s->pos, "expected a key in double quotes");
    }

    start = s->pos;

    lone = 0;

    rc = vaani_json_quoted(s, &decoded, &lone);

    if (rc != VAANI_OK) {
        return rc;
    }

    list = s->lists[s->depth];

    raw.data = start;
    raw.len = s->pos - start;

    rc = vaani_json_add(list, &raw, decoded, s->alloc, &member);

    if (rc == VAANI_ERROR) {
        return vaani_json_fail(s, start, "too many members in an object");
    }

    if (rc != VAANI_OK) {
        return rc;
    }

    member->offset = start - s->start;

    if (s->depth == 1) {
        s->at_inner = s->options->inner
                      && vaani_str_eq(&member->key, s->options->inner);

        if (s->at_inner) {

            /* if it is there twice, the last one counts */

            s->json->inner.nmembers = 0;
        }
    }

    vaani_json_skip(s);

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
 * length in bytes that it has without its escapes; *lone is set to 1 if a
 * surrogate stands alone in it.
 */

static int
vaani_json_quoted(vaani_json_scanner_t *s, size_t *decoded, unsigned *lone)
{
    size_t         n;
    const u_char  *p, *start;

    n = 0;
    p = s->pos + 1;

    for ( ;; ) {
        start = p;
        p = vaani_utf8_text(p, s->end);
        n += p - start;

        if (p == s->end) {
            return vaani_json_fail(s, p, "unexpected end of data");
        }

        if (*p == '"') {
            s->pos = p + 1;
            *decoded = n;
            return VAANI_OK;
        }

        if (*p == '\\') {

            /* one comes with others: some senders escape all but ASCII */

            do {
                p = vaani_json_escaped(s, p, &n, lone);

                if (p == NULL) {
                    return VAANI_ERROR;
                }
            } while (p < s->end && *p == '\\');

            continue;
        }

        if (*p < 0x20) {
            return vaani_json_fail(s, p, "a control character in a string "
                                         "must be escaped");
        }

        return vaani_json_fail(s, p, "invalid UTF-8");
    }
}


/*
 * The end of the escape that is at p, or NULL after an error.
 */

static const u_char *
vaani_json_escaped(vaani_json_scanner_t *s, const u_char *p, size_t *decoded,
    unsigned *lone)
{
    unsigned       code, low;
    const u_char  *next;

    if (s->end - p < 2) {
        (void) vaani_json_fail(s, s->end, "unexpected end of data");
        return NULL;
    }

    switch (p[1]) {

    case '"':
    case '\\':
    case '/':
    case 'b':
    case 'f':
    case 'n':
    case 'r':
    case 't':
        *decoded += 1;
        return p + 2;

    case 'u':
        p = vaani_json_hex4(s, p + 2, &code);
        break;

    default:
        (void) vaani_json_fail(s, p, "invalid escape");
        return NULL;
    }

    if (p == NULL) {
        return NULL;
    }

    if (code < 0xd800 || code > 0xdfff) {
        *decoded += (code < 0x80) ? 1 : (code < 0x800) ? 2 : 3;
        return p;
    }

    if (code <= 0xdbff && s->end - p >= 2 && p[0] == '\\' && p[1] == 'u') {
        next = vaani_json_hex4(s, p + 2, &low);

        if (next == NULL) {
            return NULL;
        }

        if (low >= 0xdc00 && low <= 0xdfff) {
            *decoded += 4;
            return next;
        }

        /* it is looked at for itself */
    }

    /* it stands alone, and is decoded as U+FFFD */

    *lone = 1;
    *decoded += 3;

    return p;
}


static const u_char *
vaani_json_hex4(vaani_json_scanner_t *s, const u_char *p, unsigned *code)
{
    unsigned              a, b, c, d;
    static const u_char   hex[256] = {
        ['0'] = 0x10, ['1'] = 0x11, ['2'] = 0x12, ['3'] = 0x13,
        ['4'] = 0x14, ['5'] = 0x15, ['6'] = 0x16, ['7'] = 0x17,
        ['8'] = 0x18, ['9'] = 0x19,
        ['a'] = 0x1a, ['b'] = 0x1b, ['c'] = 0x1c, ['d'] = 0x1d,
        ['e'] = 0x1e, ['f'] = 0x1f,
        ['A'] = 0x1a, ['B'] = 0x1b, ['C'] = 0x1c, ['D'] = 0x1d,
        ['E'] = 0x1e, ['F'] = 0x1f
    };

    if (s->end - p >= 4) {
        a = hex[p[0]];
        b = hex[p[1]];
        c = hex[p[2]];
        d = hex[p[3]];

        if (a & b & c & d & 0x10) {
            *code = (a & 0xf) << 12 | (b & 0xf) << 8 | (c & 0xf) << 4
                    | (d & 0xf);
            return p + 4;
        }
    }

    while (p < s->end && hex[*p]) {
        p++;
    }

    (void) vaani_json_fail(s, p, (p == s->end) ? "unexpected end of data"
                                               : "expected a hexadecimal "
                                                 "digit");

    return NULL;
}


/*
 * What can be said of the listed members at the end.
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


static int
vaani_json_fail(vaani_json_scanner_t *s, const u_char *where,
    const char *message)
{
    s->error->message = message;
    s->error->offset = where - s->start;

    return VAANI_ERROR;
}
