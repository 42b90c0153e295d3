
#include <string.h>

#include "vaani_endpoint.h"


int
vaani_text_word(const char **p, const char *last, vaani_str_t *word)
{
    const char  *space;

    if (*p == last) {
        return VAANI_ERROR;
    }

    space = memchr(*p, ' ', last - *p);

    word->data = (const u_char *) *p;
    word->len = (space ? space : last) - *p;

    *p = space ? space + 1 : last;

    /* the text must not end with a space */

    return (word->len == 0 || (space && *p == last)) ? VAANI_ERROR : VAANI_OK;
}


int
vaani_text_number(const void *text, size_t len, unsigned max, unsigned *value)
{
    size_t         n;
    const u_char  *p = text;

    if (len == 0 || len > 5 || (len > 1 && p[0] == '0')) {
        return VAANI_ERROR;
    }

    *value = 0;

    for (n = 0; n < len; n++) {

        if (p[n] < '0' || p[n] > '9') {
            return VAANI_ERROR;
        }

        *value = *value * 10 + (p[n] - '0');
    }

    return (*value <= max) ? VAANI_OK : VAANI_ERROR;
}


int
vaani_text_port(const void *text, size_t len, unsigned *port)
{
    if (vaani_text_number(text, len, VAANI_TOPOLOGY_MAX_PORT, port)
        != VAANI_OK)
    {
        return VAANI_ERROR;
    }

    return (*port > 0) ? VAANI_OK : VAANI_ERROR;
}


int
vaani_text_host(const void *text, size_t len, char *dst)
{
    const u_char  *p = text;

    if (len >= 2 && p[0] == '[' && p[len - 1] == ']') {
        p++;
        len -= 2;
    }

    if (len == 0) {
        return VAANI_ERROR;
    }

    return vaani_text_copy(p, len, dst, VAANI_TOPOLOGY_HOST_SIZE);
}


int
vaani_text_copy(const void *text, size_t len, char *dst, size_t size)
{
    size_t         n;
    const u_char  *p = text;

    if (len >= size) {
        return VAANI_ERROR;
    }

    for (n = 0; n < len; n++) {
        if (p[n] <= ' ' || p[n] >= 0x7f) {
            return VAANI_ERROR;
        }
    }

    memcpy(dst, text, len);
    dst[len] = '\0';

    return VAANI_OK;
}
