
#include <string.h>

#include "vaani_json.h"
#include "vaani_utf8.h"


int
vaani_json_integer(const vaani_str_t *number, int shift, uint64_t *value,
    const char **message)
{
    int            negative, frac, zero;
    int64_t        exponent, e, esign, digits;
    uint64_t       mantissa;
    const u_char  *p, *end;

    p = number->data;
    end = p + number->len;

    negative = (*p == '-');

    if (negative) {
        p++;
    }

    /*
     * The value is mantissa * 10^exponent.  18 significant digits are kept:
     * what follows them is less than can matter below VAANI_JSON_MAX_INT.
     */

    mantissa = 0;
    digits = 0;
    exponent = 0;
    frac = 0;
    zero = 1;

    for ( /* void */ ; p < end && *p != 'e' && *p != 'E'; p++) {

        if (*p == '.') {
            frac = 1;
            continue;
        }

        if (*p != '0') {
            zero = 0;
        }

        if (digits < 18) {
            mantissa = mantissa * 10 + (*p - '0');
            digits += !zero;
            exponent -= frac;

        } else {
            exponent += !frac;
        }
    }

    if (p < end) {
        p++;
        esign = (*p == '-') ? -1 : 1;

        if (*p == '-' || *p == '+') {
            p++;
        }

        /* any exponent near 2^30 outweighs all the digits of a body */

        for (e = 0; p < end; p++) {
            if (e < ((int64_t) 1 << 30)) {
                e = e * 10 + (*p - '0');
            }
        }

        exponent += esign * e;
    }

    if (zero) {
        *value = 0;
        return VAANI_OK;
    }

    if (negative) {
        *message = "must not be negative";
        return VAANI_ERROR;
    }

    if (digits + exponent >= 310) {
        *message = "must be finite";
        return VAANI_ERROR;
    }

    exponent += shift;

    while (exponent > 0 && mantissa <= VAANI_JSON_MAX_INT) {
        mantissa *= 10;
        exponent--;
    }

    while (exponent < -1 && mantissa > 0) {
        mantissa /= 10;
        exponent++;
    }

    if (exponent < 0) {
        mantissa = (mantissa + 5) / 10;
    }

    *value = (mantissa < VAANI_JSON_MAX_INT) ? mantissa : VAANI_JSON_MAX_INT;

    return VAANI_OK;
}


u_char *
vaani_write_uint(u_char *dst, uint64_t value)
{
    u_char             *p, buf[2 * VAANI_UINT64_LEN];
    const char         *two;
    static const char   digits[] =
        "00010203040506070809101112131415161718192021222324"
        "25262728293031323334353637383940414243444546474849"
        "50515253545556575859606162636465666768697071727374"
        "75767778798081828384858687888990919293949596979899";

    p = buf + VAANI_UINT64_LEN;

    memset(p, 0, VAANI_UINT64_LEN);

    /* two digits a division */

    while (value > 9) {
        two = &digits[value % 100 * 2];
        value /= 100;

        *--p = two[1];
        *--p = two[0];
    }

    if (value || p == buf + VAANI_UINT64_LEN) {
        *--p = (u_char) (value + '0');
    }

    /* of a constant length, so without a call; what follows does not count */

    memcpy(dst, p, VAANI_UINT64_LEN);

    return dst + (buf + VAANI_UINT64_LEN - p);
}


size_t
vaani_json_escaped_len(const vaani_str_t *src)
{
    /* a byte becomes six at the most: \u001f, or \ufffd in three */

    return src->len * 6;
}


u_char *
vaani_json_escape(u_char *dst, const vaani_str_t *src)
{
    size_t               n;
    const u_char        *p, *end, *plain, *del;
    static const u_char  hex[] = "0123456789abcdef";

    if (src->len == 0) {

        /* what isn't there has no address to go on from */

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

        /* most are plain from here to the end */

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
