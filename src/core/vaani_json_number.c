
#include <string.h>

#include "vaani_json.h"


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
