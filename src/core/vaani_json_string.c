
#include <string.h>

#include "vaani_json_scanner.h"
#include "vaani_utf8.h"


/* if inlined, it would take registers from strings without escapes */

static void vaani_json_unescape(u_char *dst, size_t len, const u_char *p)
    __attribute__((noinline));

static u_char *vaani_json_character(u_char *dst, const u_char **p);
static unsigned vaani_json_code(const u_char *p);


int
vaani_json_string(const vaani_json_member_t *member, vaani_alloc_t *alloc,
    vaani_str_t *value)
{
    return vaani_json_decode(&member->raw, member->decoded, alloc, value);
}


int
vaani_json_decode(const vaani_str_t *raw, size_t decoded, vaani_alloc_t *alloc,
    vaani_str_t *value)
{
    u_char  *data;

    value->len = decoded;

    if (raw->len == decoded + 2) {
        value->data = raw->data + 1;
        return VAANI_OK;
    }

    data = alloc->alloc(alloc->ctx, decoded);

    if (data == NULL) {
        return VAANI_NOMEM;
    }

    vaani_json_unescape(data, decoded, raw->data + 1);
    value->data = data;

    return VAANI_OK;
}


/*
 * The scan has checked the string and counted its decoded bytes.  Therefore
 * the escapes need no check, and the loop ends after that many bytes.
 */

static void
vaani_json_unescape(u_char *dst, size_t len, const u_char *p)
{
    size_t   n;
    u_char  *last;

    last = dst + len;

    for ( ;; ) {
        n = vaani_utf8_copy(dst, p, last - dst);
        dst += n;
        p += n;

        if (dst == last) {
            return;
        }

        /*
         * escapes come in groups: some senders escape all non-ASCII characters
         */

        do {
            dst = vaani_json_character(dst, &p);
        } while (*p == '\\');
    }
}


/*
 * Decodes the escape at *p, sets *p to its end, and returns the end of the
 * written bytes.
 */

static u_char *
vaani_json_character(u_char *dst, const u_char **p)
{
    unsigned       code, low;
    const u_char  *src;

    src = *p;
    *p += 2;

    switch (src[1]) {

    case 'b':
        *dst++ = '\b';
        return dst;

    case 'f':
        *dst++ = '\f';
        return dst;

    case 'n':
        *dst++ = '\n';
        return dst;

    case 'r':
        *dst++ = '\r';
        return dst;

    case 't':
        *dst++ = '\t';
        return dst;

    case 'u':
        break;

    default:

        /* a quote, a backslash or a slash */

        *dst++ = src[1];
        return dst;
    }

    code = vaani_json_code(src + 2);
    *p += 4;

    if (code < 0x80) {
        *dst++ = (u_char) code;
        return dst;
    }

    if (code < 0x800) {
        *dst++ = (u_char) (0xc0 | code >> 6);
        *dst++ = (u_char) (0x80 | (code & 0x3f));
        return dst;
    }

    if (code >= 0xd800 && code <= 0xdfff) {
        low = (code <= 0xdbff && src[6] == '\\' && src[7] == 'u')
              ? vaani_json_code(src + 8) : 0;

        if (low >= 0xdc00 && low <= 0xdfff) {
            code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
            *p += 6;

            *dst++ = (u_char) (0xf0 | code >> 18);
            *dst++ = (u_char) (0x80 | (code >> 12 & 0x3f));
            *dst++ = (u_char) (0x80 | (code >> 6 & 0x3f));
            *dst++ = (u_char) (0x80 | (code & 0x3f));
            return dst;
        }

        /* a lone surrogate */

        code = 0xfffd;
    }

    *dst++ = (u_char) (0xe0 | code >> 12);
    *dst++ = (u_char) (0x80 | (code >> 6 & 0x3f));
    *dst++ = (u_char) (0x80 | (code & 0x3f));

    return dst;
}


/*
 * Reads four hexadecimal digits that the scan has checked.  Letters of either
 * case end in the bits of 1 to 6, and have a bit that the digits do not have.
 */

static unsigned
vaani_json_code(const u_char *p)
{
    unsigned  n, code;

    code = 0;

    for (n = 0; n < 4; n++) {
        code = code * 16 + (p[n] & 0xf) + (p[n] >> 6) * 9;
    }

    return code;
}


size_t
vaani_json_escaped_len(const vaani_str_t *src)
{
    /* one byte becomes at most six: \u001f, or \ufffd for three bytes */

    return src->len * 6;
}


u_char *
vaani_json_escape(u_char *dst, const vaani_str_t *src)
{
    size_t               n;
    const u_char        *p, *end, *plain, *del;
    static const u_char  hex[] = "0123456789abcdef";

    if (src->len == 0) {

        /* an absent string may have data == NULL */

        return dst;
    }

    p = src->data;
    end = p + src->len;

    while (p < end) {

        if (*p >= 0x80) {
            n = vaani_utf8_len(p, end);

            if (n == 0) {
                memcpy(dst, "\xef\xbf\xbd", 3);
                dst += 3;
                p++;
                continue;
            }

            memcpy(dst, p, n);
            dst += n;
            p += n;
            continue;
        }

        if (*p == '"' || *p == '\\') {
            *dst++ = '\\';
            *dst++ = *p++;
            continue;
        }

        if (*p < 0x20 || *p == 0x7f) {
            memcpy(dst, "\\u00", 4);
            dst[4] = hex[*p >> 4];
            dst[5] = hex[*p & 0xf];
            dst += 6;
            p++;
            continue;
        }

        /* in most strings no later byte needs an escape */

        plain = vaani_json_plain(p, end);
        del = memchr(p, 0x7f, plain - p);

        if (del) {
            plain = del;
        }

        memcpy(dst, p, plain - p);
        dst += plain - p;
        p = plain;
    }

    return dst;
}
