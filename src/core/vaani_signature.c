
#include "vaani_signature.h"


#define VAANI_TIMESTAMP_MAX_LEN  15

/* a larger Unix time (after the year 5138) is in milliseconds */

#define VAANI_TIMESTAMP_SECONDS  100000000000


static unsigned vaani_signature_next(const vaani_str_t *header,
    u_char separator, size_t *pos, vaani_str_t *element);
static unsigned vaani_signature_skip(vaani_str_t *element,
    const vaani_str_t *prefix, unsigned any_case);
static unsigned vaani_signature_equal(const vaani_str_t *text,
    const vaani_str_t *expected, vaani_signature_encoding_e encoding);
static u_char vaani_signature_fold(u_char ch,
    vaani_signature_encoding_e encoding);


unsigned
vaani_token_equal(const vaani_token_t *token, const vaani_str_t *value)
{
    size_t           n;
    volatile u_char  diff;

    /*
     * The loop always runs over the whole array, so that its time does not
     * reveal the token's length. volatile keeps the compiler from leaving the
     * loop at the first difference.
     */

    diff = 0;

    for (n = 0; n < value->len && n < VAANI_TOKEN_MAX_LEN; n++) {
        diff |= value->data[n] ^ token->data[n];
    }

    return (diff == 0) & (value->len == token->len);
}


unsigned
vaani_signature_match(const vaani_signature_format_t *format,
    const vaani_str_t *header, const vaani_str_t *expected)
{
    size_t       pos;
    unsigned     found;
    vaani_str_t  element;

    pos = 0;
    found = 0;

    while (vaani_signature_next(header, format->separator, &pos, &element)) {

        if (format->bare) {
            found |= vaani_signature_equal(&element, expected,
                                           format->encoding);
        }

        /* also without a prefix: a signature can begin like the prefix */

        if (vaani_signature_skip(&element, &format->prefix, format->any_case)) {
            found |= vaani_signature_equal(&element, expected,
                                           format->encoding);
        }
    }

    return found;
}


int
vaani_signature_timestamp(const vaani_signature_format_t *format,
    const vaani_str_t *header, vaani_str_t *timestamp)
{
    size_t       pos;
    unsigned     found;
    vaani_str_t  element;

    pos = 0;
    found = 0;

    while (vaani_signature_next(header, format->separator, &pos, &element)) {

        if (vaani_signature_skip(&element, &format->timestamp, 0)) {
            *timestamp = element;
            found++;
        }
    }

    return found == 1 ? VAANI_OK : VAANI_ERROR;
}


/*
 * Returns 0 after the last element.
 */

static unsigned
vaani_signature_next(const vaani_str_t *header, u_char separator, size_t *pos,
    vaani_str_t *element)
{
    const u_char  *p, *last, *end;

    if (*pos >= header->len) {
        return 0;
    }

    p = header->data + *pos;
    last = header->data + header->len;

    for (end = p; end < last && *end != separator; end++) { /* void */ }

    *pos = end + 1 - header->data;

    while (p < end && (*p == ' ' || *p == '\t')) {
        p++;
    }

    while (end > p && (end[-1] == ' ' || end[-1] == '\t')) {
        end--;
    }

    element->data = p;
    element->len = end - p;

    return 1;
}


static unsigned
vaani_signature_skip(vaani_str_t *element, const vaani_str_t *prefix,
    unsigned any_case)
{
    u_char  ch;
    size_t  n;

    if (element->len < prefix->len) {
        return 0;
    }

    for (n = 0; n < prefix->len; n++) {
        ch = element->data[n];

        if (any_case && ch >= 'A' && ch <= 'Z') {
            ch |= 0x20;
        }

        if (ch != prefix->data[n]) {
            return 0;
        }
    }

    element->data += prefix->len;
    element->len -= prefix->len;

    return 1;
}


static unsigned
vaani_signature_equal(const vaani_str_t *text, const vaani_str_t *expected,
    vaani_signature_encoding_e encoding)
{
    size_t           n, len;
    volatile u_char  diff;

    len = expected->len;

    if (encoding == VAANI_SIGNATURE_BASE64_ANY && text->len < len) {

        while (len && expected->data[len - 1] == '=') {
            len--;
        }
    }

    if (text->len != len) {
        return 0;
    }

    diff = 0;

    for (n = 0; n < len; n++) {
        diff |= vaani_signature_fold(text->data[n], encoding)
                ^ expected->data[n];
    }

    return diff == 0;
}


/*
 * Normalizes a character of a header to the form of the expected signature.
 * There is no branch, so that the number of instructions does not depend on
 * the text.
 */

static u_char
vaani_signature_fold(u_char ch, vaani_signature_encoding_e encoding)
{
    switch (encoding) {

    case VAANI_SIGNATURE_HEX:
        return ch | (0x20 & -(unsigned) ((u_char) (ch - 'A') < 6));

    case VAANI_SIGNATURE_BASE64_ANY:
        return ch ^ (('-' ^ '+') & -(unsigned) (ch == '-'))
                  ^ (('_' ^ '/') & -(unsigned) (ch == '_'));

    default: /* VAANI_SIGNATURE_BASE64 */
        return ch;
    }
}


int
vaani_timestamp_parse(const vaani_str_t *text, int64_t *seconds)
{
    size_t   n;
    int64_t  value;

    if (text->len == 0 || text->len > VAANI_TIMESTAMP_MAX_LEN) {
        return VAANI_ERROR;
    }

    value = 0;

    for (n = 0; n < text->len; n++) {

        if (text->data[n] < '0' || text->data[n] > '9') {
            return VAANI_ERROR;
        }

        value = value * 10 + (text->data[n] - '0');
    }

    *seconds = (value > VAANI_TIMESTAMP_SECONDS) ? value / 1000 : value;

    return VAANI_OK;
}
