
#include "vaani_json_scanner.h"
#include "vaani_utf8.h"


static int vaani_json_literal(vaani_json_scanner_t *s, const char *literal,
    size_t len);
static int vaani_json_number(vaani_json_scanner_t *s);
static int vaani_json_digits(vaani_json_scanner_t *s);
static const u_char *vaani_json_escaped(vaani_json_scanner_t *s,
    const u_char *p, size_t *decoded, unsigned *lone);
static const u_char *vaani_json_hex4(vaani_json_scanner_t *s, const u_char *p,
    unsigned *code);


void
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


int
vaani_json_scalar(vaani_json_scanner_t *s, vaani_json_type_e *type)
{
    switch (*s->pos) {

    case 't':
        *type = VAANI_JSON_BOOLEAN;
        return vaani_json_literal(s, "true", 4);

    case 'f':
        *type = VAANI_JSON_BOOLEAN;
        return vaani_json_literal(s, "false", 5);

    case 'n':
        *type = VAANI_JSON_NULL;
        return vaani_json_literal(s, "null", 4);

    default:
        *type = VAANI_JSON_NUMBER;
        return vaani_json_number(s);
    }
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


int
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

            /*
             * escapes come in groups: some senders escape all non-ASCII
             * characters
             */

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
 * Returns the end of the escape at p, or NULL after an error.
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

        /* the next escape is checked in its own turn */
    }

    /* a lone surrogate, decoded as U+FFFD */

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


int
vaani_json_fail(vaani_json_scanner_t *s, const u_char *where,
    const char *message)
{
    s->error->message = message;
    s->error->offset = where - s->start;

    return VAANI_ERROR;
}
