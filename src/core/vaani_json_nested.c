
#include "vaani_json_scanner.h"


/* shorter strings are checked byte by byte, bytes */

#define VAANI_JSON_SHORT       16


/* in ASCII a closing bracket is its opening one + 2 */

#define vaani_json_closing(bracket)   ((bracket) + 2)


/* most values have no space around them */

#define vaani_json_skip_space(s, p, end)                                      \
    if (p < end && *p <= ' ') {                                               \
        s->pos = p;                                                           \
        vaani_json_space(s);                                                  \
        p = s->pos;                                                           \
    }


/* one bit per level: set for an object, clear for an array */

typedef uint64_t  vaani_json_levels_t[VAANI_JSON_MAX_DEPTH / 64];


static inline const u_char *vaani_json_nested_key(vaani_json_scanner_t *s,
    const u_char *p, const u_char *end);
static inline const u_char *vaani_json_nested_string(vaani_json_scanner_t *s,
    const u_char *p, const u_char *end);
static inline void vaani_json_open(vaani_json_levels_t levels, unsigned depth,
    unsigned object);
static inline unsigned vaani_json_in_object(
    const vaani_json_levels_t levels, unsigned depth);


/*
 * A body may consist of millions of small values.  Therefore the loop does
 * little per value and keeps the position in a register.  There is no
 * recursion: the levels are bits, so that no input can exhaust the worker's
 * stack.
 */

int
vaani_json_nested(vaani_json_scanner_t *s)
{
    unsigned             depth, object;
    const u_char        *p, *end;
    vaani_json_type_e    type;
    vaani_json_levels_t  levels;

    depth = s->depth;
    p = s->pos;
    end = s->end;

open:

    if (depth == VAANI_JSON_MAX_DEPTH) {
        return vaani_json_fail(s, p, "nested too deeply");
    }

    object = (*p == '{');
    vaani_json_open(levels, depth++, object);
    p++;

    vaani_json_skip_space(s, p, end);

    if (p < end && *p == (object ? '}' : ']')) {
        goto close;
    }

value:

    if (object) {
        p = vaani_json_nested_key(s, p, end);

        if (p == NULL) {
            return VAANI_ERROR;
        }
    }

    vaani_json_skip_space(s, p, end);

    if (p == end) {
        goto ended;
    }

    switch (*p) {

    case '"':
        p = vaani_json_nested_string(s, p, end);

        if (p == NULL) {
            return VAANI_ERROR;
        }

        break;

    case '{':
    case '[':

        if (end - p > 1 && p[1] == vaani_json_closing(*p)
            && depth < VAANI_JSON_MAX_DEPTH)
        {
            p += 2;
            break;
        }

        goto open;

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

        if (vaani_json_scalar(s, &type) != VAANI_OK) {
            return VAANI_ERROR;
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
        goto value;
    }

    if (*p != (object ? '}' : ']')) {
        return vaani_json_fail(s, p, object
                                     ? "expected a comma or a closing brace"
                                     : "expected a comma or a closing "
                                       "bracket");
    }

close:

    p++;

    if (--depth > s->depth) {
        object = vaani_json_in_object(levels, depth);
        goto next;
    }

    s->pos = p;

    return VAANI_OK;

ended:

    return vaani_json_fail(s, p, "unexpected end of data");
}


/*
 * Returns the end of the key at p and of the colon after it, or NULL after an
 * error.
 */

static inline const u_char *
vaani_json_nested_key(vaani_json_scanner_t *s, const u_char *p,
    const u_char *end)
{
    vaani_json_skip_space(s, p, end);

    if (p == end) {
        goto ended;
    }

    if (*p != '"') {
        (void) vaani_json_fail(s, p, "expected a key in double quotes");
        return NULL;
    }

    p = vaani_json_nested_string(s, p, end);

    if (p == NULL) {
        return NULL;
    }

    vaani_json_skip_space(s, p, end);

    if (p == end) {
        goto ended;
    }

    if (*p != ':') {
        (void) vaani_json_fail(s, p, "expected a colon after the key");
        return NULL;
    }

    return p + 1;

ended:

    (void) vaani_json_fail(s, p, "unexpected end of data");

    return NULL;
}


/*
 * Returns the end of the string at p, or NULL after an error.  Optimized for
 * short strings without escapes, the usual case.
 */

static inline const u_char *
vaani_json_nested_string(vaani_json_scanner_t *s, const u_char *p,
    const u_char *end)
{
    size_t         decoded;
    unsigned       lone;
    const u_char  *start;

    start = p;

    for (p++; p < end && *p >= 0x20 && *p < 0x80 && *p != '"' && *p != '\\'
         && p - start < VAANI_JSON_SHORT; p++)
    { /* void */ }

    if (p < end && *p == '"') {
        return p + 1;
    }

    s->pos = start;

    return (vaani_json_quoted(s, &decoded, &lone) == VAANI_OK) ? s->pos : NULL;
}


static inline void
vaani_json_open(vaani_json_levels_t levels, unsigned depth, unsigned object)
{
    uint64_t  bit;

    bit = (uint64_t) 1 << (depth % 64);

    if (object) {
        levels[depth / 64] |= bit;

    } else {
        levels[depth / 64] &= ~bit;
    }
}


static inline unsigned
vaani_json_in_object(const vaani_json_levels_t levels, unsigned depth)
{
    depth--;

    return (levels[depth / 64] >> (depth % 64)) & 1;
}
