
/*
 * A second JSON parser, as close to RFC 8259 as possible, to check the scanner
 * against: recursive descent over the grammar, one code point at a time,
 * numbers by a table, integers by long division of a decimal string.  It may
 * be slow and recursive, and shares no line with the code that it checks.
 *
 * The offset of an error is that of the first byte that no JSON text could
 * have at its place, or the end of data if the text could continue.
 * Characters and escapes count as one and are bad from their first byte on,
 * except for an expected hexadecimal digit.  A lone surrogate is legal, and is
 * U+FFFD.
 */


#ifndef _VAANI_REFERENCE_H_INCLUDED_
#define _VAANI_REFERENCE_H_INCLUDED_


#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "vaani_json.h"
#include "vaani_test.h"


#define VAANI_REF_MAX_DEPTH    512
#define VAANI_REF_MAX_MEMBERS  4096


typedef struct {
    vaani_str_t          key;       /* decoded */
    size_t               offset;    /* of the key's opening quote */
    vaani_str_t          raw;       /* the value's text */
    vaani_json_type_e    type;
    vaani_str_t          string;    /* decoded, if it is a string */
    unsigned             lone;      /* and whether a surrogate is alone in it */
} vaani_ref_member_t;


typedef struct {
    vaani_ref_member_t  *members;
    size_t               nmembers;
} vaani_ref_list_t;


typedef struct {
    const u_char        *text;
    const u_char        *end;
    const u_char        *bad;       /* NULL unless something is bad */

    vaani_ref_member_t   value;     /* the whole, without a key */
    vaani_ref_list_t     top;       /* of the top-level object */
    vaani_ref_list_t     inner;     /* of the object called that inside it */

    const char          *inner_key;
    unsigned             at_inner;
    unsigned             lone;      /* in the latest string */

    u_char              *decoded;   /* all the decoded strings */
    u_char              *last;
} vaani_ref_t;


static inline const u_char *vaani_ref_value(vaani_ref_t *r, const u_char *p,
    unsigned depth, vaani_ref_member_t *m);


static inline const u_char *
vaani_ref_bad(vaani_ref_t *r, const u_char *p)
{
    r->bad = p;
    return NULL;
}


/*
 * The byte at p, or -1 at the end.
 */

static inline int
vaani_ref_at(vaani_ref_t *r, const u_char *p)
{
    return (p < r->end) ? *p : -1;
}


static inline const u_char *
vaani_ref_space(vaani_ref_t *r, const u_char *p)
{
    while (p < r->end && memchr(" \t\r\n", *p, 4)) {
        p++;
    }

    return p;
}


static inline void
vaani_ref_put(vaani_ref_t *r, uint32_t cp)
{
    if (cp < 0x80) {
        *r->last++ = cp;
        return;
    }

    if (cp < 0x800) {
        *r->last++ = 0xc0 + cp / 64;

    } else {

        if (cp < 0x10000) {
            *r->last++ = 0xe0 + cp / 4096;

        } else {
            *r->last++ = 0xf0 + cp / 262144;
            *r->last++ = 0x80 + cp / 4096 % 64;
        }

        *r->last++ = 0x80 + cp / 64 % 64;
    }

    *r->last++ = 0x80 + cp % 64;
}


/*
 * A character as RFC 3629 describes it: the leading byte's number of bytes
 * must follow, and the code point must need that many bytes, be no surrogate
 * and not be over U+10FFFF.
 */

static inline const u_char *
vaani_ref_char(vaani_ref_t *r, const u_char *p, uint32_t *cp)
{
    int                    n, i;
    static const uint32_t  least[] = { 0, 0x80, 0x800, 0x10000 };

    for (n = 0; n < 8 && (*p & (0x80 >> n)); n++) { /* void */ }

    if (n == 0) {
        *cp = *p;
        return p + 1;
    }

    if (n == 1 || n > 4) {
        return vaani_ref_bad(r, p);
    }

    *cp = *p & (0x7f >> n);

    for (i = 1; i < n; i++) {
        if (vaani_ref_at(r, p + i) / 64 != 2) {
            return vaani_ref_bad(r, p);
        }

        *cp = *cp * 64 + p[i] % 64;
    }

    if (*cp < least[n - 1] || *cp / 0x800 == 0x1b || *cp > 0x10ffff) {
        return vaani_ref_bad(r, p);
    }

    return p + n;
}


static inline const u_char *
vaani_ref_hex4(vaani_ref_t *r, const u_char *p, uint32_t *cp)
{
    int                n;
    const char        *digit;
    static const char  digits[] = "00112233445566778899aAbBcCdDeEfF";

    *cp = 0;

    for (n = 0; n < 4; n++, p++) {

        if (p == r->end) {
            return vaani_ref_bad(r, p);
        }

        digit = memchr(digits, *p, 32);

        if (digit == NULL) {
            return vaani_ref_bad(r, p);
        }

        *cp = *cp * 16 + (digit - digits) / 2;
    }

    return p;
}


static inline const u_char *
vaani_ref_escape(vaani_ref_t *r, const u_char *p, uint32_t *cp)
{
    uint32_t           low;
    const char        *name;
    const u_char      *start, *pair;
    static const char  names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";

    start = p++;

    if (p == r->end) {
        return vaani_ref_bad(r, p);
    }

    name = memchr(names, *p, 8);

    if (name) {
        *cp = values[name - names];
        return p + 1;
    }

    if (*p != 'u') {
        return vaani_ref_bad(r, start);
    }

    p = vaani_ref_hex4(r, p + 1, cp);

    if (p == NULL || *cp / 0x800 != 0x1b) {
        return p;
    }

    if (*cp / 0x400 == 0x36
        && vaani_ref_at(r, p) == '\\' && vaani_ref_at(r, p + 1) == 'u')
    {
        pair = vaani_ref_hex4(r, p + 2, &low);

        if (pair == NULL) {
            return NULL;
        }

        if (low / 0x400 == 0x37) {
            *cp = 0x10000 + *cp % 0x400 * 0x400 + low % 0x400;
            return pair;
        }
    }

    r->lone = 1;
    *cp = 0xfffd;

    return p;
}


static inline const u_char *
vaani_ref_string(vaani_ref_t *r, const u_char *p, vaani_str_t *string)
{
    uint32_t  cp;

    string->data = r->last;
    r->lone = 0;

    for (p++; vaani_ref_at(r, p) != '"'; vaani_ref_put(r, cp)) {

        if (p == r->end || *p < 0x20) {
            return vaani_ref_bad(r, p);
        }

        p = (*p == '\\') ? vaani_ref_escape(r, p, &cp)
                         : vaani_ref_char(r, p, &cp);
        if (p == NULL) {
            return NULL;
        }
    }

    string->len = r->last - string->data;

    return p + 1;
}


/*
 * The grammar of numbers: a row a state, what to do at '-', '0', '1' to '9',
 * '.', 'e', '+' and all else: go to a state, '!' end here, or '?' complain.
 */

static inline const u_char *
vaani_ref_number(vaani_ref_t *r, const u_char *p)
{
    int                c, class;
    char               state;
    const char        *row;
    static const char  table[] =
        "S" "MZI????"       /* start */
        "M" "?ZI????"       /* minus */
        "Z" "!??PE!!"       /* zero */
        "I" "!IIPE!!"       /* integer */
        "P" "?FF????"       /* point */
        "F" "!FF!E!!"       /* fraction */
        "E" "XDD??X?"       /* e */
        "X" "?DD????"       /* sign of the exponent */
        "D" "!DD!!!!";      /* digits of the exponent */

    for (state = 'S'; /* void */ ; p++) {
        c = vaani_ref_at(r, p);

        class = (c == '-') ? 0 : (c == '0') ? 1 : (c >= '1' && c <= '9') ? 2
                : (c == '.') ? 3 : (c == 'e' || c == 'E') ? 4
                : (c == '+') ? 5 : 6;

        for (row = table; *row != state; row += 1 + 7) {
            /* void */
        }

        state = row[1 + class];

        if (state == '!') {
            return p;
        }

        if (state == '?') {
            return vaani_ref_bad(r, p);
        }
    }
}


static inline const u_char *
vaani_ref_literal(vaani_ref_t *r, const u_char *p, const char *literal)
{
    for ( /* void */ ; *literal; literal++, p++) {
        if (vaani_ref_at(r, p) != *literal) {
            return vaani_ref_bad(r, p);
        }
    }

    return p;
}


static inline const u_char *
vaani_ref_array(vaani_ref_t *r, const u_char *p, unsigned depth)
{
    vaani_ref_member_t  m;

    p = vaani_ref_space(r, p + 1);

    if (vaani_ref_at(r, p) == ']') {
        return p + 1;
    }

    for ( ;; ) {
        p = vaani_ref_value(r, p, depth, &m);

        if (p == NULL) {
            return NULL;
        }

        p = vaani_ref_space(r, p);

        switch (vaani_ref_at(r, p)) {
        case ',':
            p = vaani_ref_space(r, p + 1);
            break;
        case ']':
            return p + 1;
        default:
            return vaani_ref_bad(r, p);
        }
    }
}


static inline const u_char *
vaani_ref_object(vaani_ref_t *r, const u_char *p, unsigned depth)
{
    vaani_ref_list_t   *list;
    vaani_ref_member_t  m;

    list = (depth == 1) ? &r->top
           : (depth == 2 && r->at_inner) ? &r->inner : NULL;

    p = vaani_ref_space(r, p + 1);

    if (vaani_ref_at(r, p) == '}') {
        return p + 1;
    }

    for ( ;; ) {

        if (vaani_ref_at(r, p) != '"') {
            return vaani_ref_bad(r, p);
        }

        m.offset = p - r->text;

        p = vaani_ref_string(r, p, &m.key);

        if (p == NULL) {
            return NULL;
        }

        if (list && list->nmembers == VAANI_REF_MAX_MEMBERS) {
            return vaani_ref_bad(r, r->text + m.offset);
        }

        /* of two such members, the last one is listed */

        if (depth == 1) {
            r->at_inner = r->inner_key
                          && m.key.len == strlen(r->inner_key)
                          && memcmp(m.key.data, r->inner_key, m.key.len) == 0;

            if (r->at_inner) {
                r->inner.nmembers = 0;
            }
        }

        p = vaani_ref_space(r, p);

        if (vaani_ref_at(r, p) != ':') {
            return vaani_ref_bad(r, p);
        }

        p = vaani_ref_space(r, p + 1);
        p = vaani_ref_value(r, p, depth, &m);

        if (p == NULL) {
            return NULL;
        }

        if (list) {
            list->members[list->nmembers++] = m;
        }

        p = vaani_ref_space(r, p);

        switch (vaani_ref_at(r, p)) {
        case ',':
            p = vaani_ref_space(r, p + 1);
            break;
        case '}':
            return p + 1;
        default:
            return vaani_ref_bad(r, p);
        }
    }
}


/*
 * A value: all of *m but its key.
 */

static inline const u_char *
vaani_ref_value(vaani_ref_t *r, const u_char *p, unsigned depth,
    vaani_ref_member_t *m)
{
    int            c;
    const u_char  *start;

    start = p;

    m->string.len = 0;
    m->string.data = NULL;
    m->lone = 0;

    c = vaani_ref_at(r, p);

    if ((c == '{' || c == '[') && depth == VAANI_REF_MAX_DEPTH) {
        return vaani_ref_bad(r, p);
    }

    switch (c) {

    case '{':
        m->type = VAANI_JSON_OBJECT;
        p = vaani_ref_object(r, p, depth + 1);
        break;

    case '[':
        m->type = VAANI_JSON_ARRAY;
        p = vaani_ref_array(r, p, depth + 1);
        break;

    case '"':
        m->type = VAANI_JSON_STRING;
        p = vaani_ref_string(r, p, &m->string);
        m->lone = r->lone;
        break;

    case 't':
        m->type = VAANI_JSON_BOOLEAN;
        p = vaani_ref_literal(r, p, "true");
        break;

    case 'f':
        m->type = VAANI_JSON_BOOLEAN;
        p = vaani_ref_literal(r, p, "false");
        break;

    case 'n':
        m->type = VAANI_JSON_NULL;
        p = vaani_ref_literal(r, p, "null");
        break;

    default:
        m->type = VAANI_JSON_NUMBER;
        p = vaani_ref_number(r, p);
        break;
    }

    m->raw.data = start;
    m->raw.len = p ? p - start : 0;

    return p;
}


/*
 * Where a key is in a list for the second time; NULL if there is none.
 */

static inline const u_char *
vaani_ref_twice(const vaani_ref_t *r, const vaani_ref_list_t *list)
{
    size_t  i, j;

    for (j = 1; j < list->nmembers; j++) {
        for (i = 0; i < j; i++) {
            if (vaani_str_eq(&list->members[i].key, &list->members[j].key)) {
                return r->text + list->members[j].offset;
            }
        }
    }

    return NULL;
}


/*
 * Reads a text, and lists the members of the object inside it that is called
 * inner, if that is not NULL; with unique, a key twice in a list is an error:
 * that of the top comes first.
 *
 * Returns 1 if it is to be accepted, 0 if r->bad is where it goes wrong.  What
 * r holds afterwards ends with vaani_ref_free().
 */

static inline int
vaani_ref_read(vaani_ref_t *r, const u_char *text, size_t len,
    const char *inner, unsigned unique)
{
    size_t         size;
    const u_char  *p;

    memset(r, 0, sizeof(vaani_ref_t));

    r->text = text;
    r->end = text + len;
    r->inner_key = inner;

    /* decoding never makes longer, and a member has five bytes: "":0, */

    size = (len / 5 + 1) * sizeof(vaani_ref_member_t);

    r->decoded = vaani_test_malloc(len);
    r->last = r->decoded;
    r->top.members = vaani_test_malloc(size);
    r->inner.members = vaani_test_malloc(size);

    p = vaani_ref_space(r, text);
    p = vaani_ref_value(r, p, 0, &r->value);

    if (p == NULL) {
        return 0;
    }

    p = vaani_ref_space(r, p);

    if (p != r->end) {
        r->bad = p;
        return 0;
    }

    if (unique) {
        p = vaani_ref_twice(r, &r->top);
        r->bad = p ? p : vaani_ref_twice(r, &r->inner);
    }

    return r->bad == NULL;
}


static inline void
vaani_ref_free(vaani_ref_t *r)
{
    free(r->decoded);
    free(r->top.members);
    free(r->inner.members);
}


/*
 * The last member of that name, NULL if there is none.
 */

static inline const vaani_ref_member_t *
vaani_ref_find(const vaani_ref_list_t *list, const char *key)
{
    size_t  n;

    for (n = list->nmembers; n > 0; n--) {
        if (list->members[n - 1].key.len == strlen(key)
            && memcmp(list->members[n - 1].key.data, key, strlen(key)) == 0)
        {
            return &list->members[n - 1];
        }
    }

    return NULL;
}


/*
 * A number's text times 10^shift as an integer: all of its digits without
 * leading zeros, the place where the point falls, and the digit after that
 * one to round by.
 *
 * Returns NULL with *value set, or which of the two complaints is due.
 */

#define VAANI_REF_NEGATIVE   "must not be negative"
#define VAANI_REF_INFINITE   "must be finite"

static inline const char *
vaani_ref_integer(const vaani_str_t *number, int shift, uint64_t *value)
{
    char    *digits, *e;
    long     ndigits, point, exponent, i;
    size_t   n;

    /* strtol() wants a terminator, and gives LONG_MAX for what is too long */

    digits = vaani_test_malloc(number->len + 1);
    memcpy(digits, number->data, number->len);
    digits[number->len] = '\0';

    e = strpbrk(digits, "eE");
    exponent = e ? strtol(e + 1, NULL, 10) : 0;

    if (exponent > 100000000) {
        exponent = 100000000;

    } else if (exponent < -100000000) {
        exponent = -100000000;
    }

    ndigits = 0;
    point = -1;

    for (n = 0; n < number->len && &digits[n] != e; n++) {

        if (digits[n] == '.') {
            point = ndigits;

            continue;
        }

        if (digits[n] != '-') {
            digits[ndigits++] = digits[n];
        }
    }

    point = (point == -1) ? ndigits : point;

    for (n = 0; (long) n < ndigits && digits[n] == '0'; n++) { /* void */ }

    ndigits -= n;
    point -= n;
    memmove(digits, digits + n, ndigits);

    *value = 0;

    if (ndigits == 0) {
        free(digits);
        return NULL;
    }

    if (number->data[0] == '-') {
        free(digits);
        return VAANI_REF_NEGATIVE;
    }

    if (point + exponent >= 310) {
        free(digits);
        return VAANI_REF_INFINITE;
    }

    point += exponent + shift;

    if (point > 16) {
        *value = VAANI_JSON_MAX_INT;
        free(digits);
        return NULL;
    }

    for (i = 0; i < point; i++) {
        *value = *value * 10 + (i < ndigits ? digits[i] - '0' : 0);
    }

    if (point >= 0 && point < ndigits && digits[point] >= '5') {
        *value += 1;
    }

    if (*value > VAANI_JSON_MAX_INT) {
        *value = VAANI_JSON_MAX_INT;
    }

    free(digits);

    return NULL;
}


/*
 * Whether cJSON decodes a string to the same value.  It takes no surrogate that
 * stands alone, and does not tell how long a value with U+0000 is.
 */

static inline unsigned
vaani_ref_cjson_same(const vaani_str_t *raw, const vaani_str_t *value)
{
    cJSON     *json;
    unsigned   same;

    json = cJSON_ParseWithLength((const char *) raw->data, raw->len);

    if (json == NULL) {
        return 0;
    }

    same = cJSON_IsString(json)
           && memcmp(json->valuestring, value->data, value->len) == 0
           && json->valuestring[value->len] == '\0';

    cJSON_Delete(json);

    return same;
}


#endif /* _VAANI_REFERENCE_H_INCLUDED_ */
