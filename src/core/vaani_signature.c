
#include <string.h>

#include "vaani_signature.h"


#define VAANI_TIMESTAMP_MAX_LEN  12


static unsigned vaani_signature_next(const vaani_str_t *header,
    u_char separator, size_t *pos, vaani_str_t *element);
static unsigned vaani_signature_skip(vaani_str_t *element,
    const vaani_str_t *prefix);
static unsigned vaani_signature_equal(const vaani_str_t *text,
    const vaani_str_t *expected, unsigned hex);


unsigned
vaani_token_equal(const vaani_token_t *token, const vaani_str_t *value)
{
    size_t           n;
    volatile u_char  diff;

    /*
     * The token is as long as its array, so there is no end of it to find out
     * about; volatile, or the loop may be left at the first difference.
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

        if (vaani_signature_skip(&element, &format->prefix)
            && element.len == expected->len)
        {
            found |= vaani_signature_equal(&element, expected, format->hex);
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

        if (vaani_signature_skip(&element, &format->timestamp)) {
            *timestamp = element;
            found++;
        }
    }

    return found == 1 ? VAANI_OK : VAANI_ERROR;
}


/*
 * Returns 0 if there are no more elements.
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
vaani_signature_skip(vaani_str_t *element, const vaani_str_t *prefix)
{
    if (element->len < prefix->len
        || (prefix->len
            && memcmp(element->data, prefix->data, prefix->len) != 0))
    {
        return 0;
    }

    element->data += prefix->len;
    element->len -= prefix->len;

    return 1;
}


static unsigned
vaani_signature_equal(const vaani_str_t *text, const vaani_str_t *expected,
    unsigned hex)
{
    u_char           ch;
    size_t           n;
    volatile u_char  diff;

    diff = 0;

    for (n = 0; n < text->len; n++) {
        ch = text->data[n];

        if (hex && ch >= 'A' && ch <= 'F') {
            ch |= 0x20;
        }

        diff |= ch ^ expected->data[n];
    }

    return diff == 0;
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

    *seconds = value;

    return VAANI_OK;
}
