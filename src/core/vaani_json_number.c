
#include <string.h>

#include "vaani_json.h"


/* a number other than 0: mantissa * 10^exponent */

typedef struct {
    uint64_t       mantissa;
    int            ndigits;     /* of the mantissa */
    int64_t        exponent;
} vaani_json_decimal_t;


static const u_char *vaani_json_mantissa(vaani_json_decimal_t *decimal,
    const u_char *p, const u_char *end);
static int64_t vaani_json_exponent(const u_char *p, const u_char *end);


int
vaani_json_integer(const vaani_str_t *number, int shift, uint64_t *value,
    const char **message)
{
    int64_t                exponent;
    uint64_t               mantissa;
    unsigned               negative;
    const u_char          *p, *end;
    vaani_json_decimal_t   decimal;

    p = number->data;
    end = p + number->len;

    negative = (*p == '-');

    p = vaani_json_mantissa(&decimal, p + negative, end);

    if (decimal.ndigits == 0) {
        *value = 0;
        return VAANI_OK;
    }

    if (negative) {
        *message = "must not be negative";
        return VAANI_ERROR;
    }

    mantissa = decimal.mantissa;
    exponent = decimal.exponent;

    if (p < end) {
        exponent += vaani_json_exponent(p + 1, end);
    }

    if (decimal.ndigits + exponent >= 310) {
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


/*
 * Reads the part before the "e" and returns its end.  18 significant digits
 * are kept: further digits cannot change a result below VAANI_JSON_MAX_INT.
 */

static const u_char *
vaani_json_mantissa(vaani_json_decimal_t *decimal, const u_char *p,
    const u_char *end)
{
    unsigned  fraction;

    decimal->mantissa = 0;
    decimal->ndigits = 0;
    decimal->exponent = 0;

    fraction = 0;

    for ( /* void */ ; p < end && *p != 'e' && *p != 'E'; p++) {

        if (*p == '.') {
            fraction = 1;
            continue;
        }

        if (decimal->ndigits < 18) {
            decimal->mantissa = decimal->mantissa * 10 + (*p - '0');
            decimal->ndigits += (decimal->mantissa != 0);
            decimal->exponent -= fraction;

        } else {
            decimal->exponent += !fraction;
        }
    }

    return p;
}


/*
 * Reads the number after the "e".
 */

static int64_t
vaani_json_exponent(const u_char *p, const u_char *end)
{
    int64_t   exponent;
    unsigned  negative;

    negative = (*p == '-');

    if (*p == '-' || *p == '+') {
        p++;
    }

    /* an exponent near 2^30 outweighs all the digits of a body */

    for (exponent = 0; p < end; p++) {
        if (exponent < ((int64_t) 1 << 30)) {
            exponent = exponent * 10 + (*p - '0');
        }
    }

    return negative ? -exponent : exponent;
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

    /* two digits per division */

    while (value > 9) {
        two = &digits[value % 100 * 2];
        value /= 100;

        *--p = two[1];
        *--p = two[0];
    }

    if (value || p == buf + VAANI_UINT64_LEN) {
        *--p = (u_char) (value + '0');
    }

    /*
     * a constant length compiles to no call; the bytes after the digits are
     * ignored
     */

    memcpy(dst, p, VAANI_UINT64_LEN);

    return dst + (buf + VAANI_UINT64_LEN - p);
}
