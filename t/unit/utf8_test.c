
/*
 * The text of strings, many bytes at a time: compared with a reader that reads
 * one character at a time, by the definition of UTF-8.
 */

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "vaani_utf8.h"
#include "vaani_test.h"


/* several steps of 16 bytes, and a rest of each length */

#define TEST_LEN     72


static void test_bytes(void **state);
static void test_sequences(void **state);
static void test_code_points(void **state);
static void test_random(void **state);
static void test_lengths(void **state);
static void test_copy(void **state);
static void check(const u_char *text, size_t len);
static size_t expect(const u_char *text, size_t len);
static size_t character(const u_char *p, size_t len);
static size_t put(u_char *dst, unsigned cp);
static size_t fill(u_char *text, size_t at, unsigned kind);
static unsigned draw(uint64_t *seed, unsigned limit);


/* one of each length; texts of all of them */

static const char *const  fills[] = {
    "a", "\xc3\xa9", "\xe0\xa4\xa8", "\xf0\x9f\x98\x80",
    "x\xc3\xb6yz", "\xe0\xa4\xa8\xe0\xa4\xae ", "\xed\x9f\xbf\xef\xbf\xbf",
    "\xf4\x8f\xbf\xbf\xf0\x90\x80\x80", "\xe2\x82\xac\xc2\x80 \xf0\x9f\x91\x8d"
};


static const u_char  borders[] = {
    0x00, 0x1f, 0x20, 0x21, 0x22, 0x23, 0x5b, 0x5c, 0x5d, 0x7f, 0x80, 0x8f,
    0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc1, 0xc2, 0xdf, 0xe0, 0xe1, 0xec, 0xed,
    0xee, 0xef, 0xf0, 0xf1, 0xf3, 0xf4, 0xf5, 0xf8, 0xff
};


/*
 * Each byte at each position, instead of another and between two.
 */

static void
test_bytes(void **state)
{
    u_char    text[2 * TEST_LEN];
    size_t    len, n;
    unsigned  kind, byte;

    (void) state;

    for (kind = 0; kind < vaani_test_nelems(fills); kind++) {
        for (byte = 0; byte < 256; byte++) {
            for (n = 0; n < TEST_LEN; n += (byte % 7 == n % 7) ? 1 : 3) {
                len = fill(text, 0, kind);
                text[n] = (u_char) byte;
                check(text, len);

                len = fill(text, 0, kind);
                memmove(text + n + 1, text + n, len - n);
                text[n] = (u_char) byte;
                check(text, len + 1);
            }
        }
    }
}


/*
 * Byte sequences at the limits, in three and four bytes, at varying positions.
 */

static void
test_sequences(void **state)
{
    u_char    text[2 * TEST_LEN];
    size_t    i, j, k, m, n, len, size;
    unsigned  kind;

    (void) state;

    n = 0;

    for (i = 0; i < sizeof(borders); i++) {
        for (j = 0; j < sizeof(borders); j++) {
            for (k = 0; k < sizeof(borders); k++) {
                for (m = 0; m < sizeof(borders); m++) {

                    /* the fourth one decides where the first ones are four */

                    if (borders[i] < 0xf0 && m > 0) {
                        break;
                    }

                    n++;
                    kind = n % vaani_test_nelems(fills);

                    size = strlen(fills[kind]);

                    (void) fill(text, 0, kind);

                    len = n / 7 % (40 / size + 1) * size;

                    text[len] = borders[i];
                    text[len + 1] = borders[j];
                    text[len + 2] = borders[k];
                    text[len + 3] = borders[m];

                    check(text, fill(text, len + 3 + (borders[i] >= 0xf0),
                                     kind));

                    /* and the end of the text */

                    if (n % 5 == 0) {
                        check(text, len + 3);
                    }
                }
            }
        }
    }
}


/*
 * Each code point in each form that is too long, surrogates and code points
 * over U+10FFFF, at varying positions.
 */

static void
test_code_points(void **state)
{
    u_char    text[2 * TEST_LEN];
    size_t    n;
    unsigned  cp;

    (void) state;

    for (cp = 0; cp < 0x200000; cp += (cp < 0x11000) ? 1 : 83) {
        (void) fill(text, 0, 2);

        n = cp % 13 * 3;

        if (cp < 0x800) {
            text[n] = (u_char) (0xc0 | cp >> 6);
            text[n + 1] = (u_char) (0x80 | (cp & 0x3f));
            check(text, fill(text, n + 2, 2));
        }

        if (cp < 0x10000) {
            text[n] = (u_char) (0xe0 | cp >> 12);
            text[n + 1] = (u_char) (0x80 | (cp >> 6 & 0x3f));
            text[n + 2] = (u_char) (0x80 | (cp & 0x3f));
            check(text, fill(text, n + 3, 2));
        }

        text[n] = (u_char) (0xf0 | cp >> 18);
        text[n + 1] = (u_char) (0x80 | (cp >> 12 & 0x3f));
        text[n + 2] = (u_char) (0x80 | (cp >> 6 & 0x3f));
        text[n + 3] = (u_char) (0x80 | (cp & 0x3f));
        check(text, fill(text, n + 4, 2));
    }
}


/*
 * Random text, then with a few bytes changed, missing or moved.
 */

static void
test_random(void **state)
{
    u_char    text[4 * TEST_LEN];
    size_t    n, len, limit;
    unsigned  changes, round;
    uint64_t  seed;

    (void) state;

    seed = 1;

    for (round = 0; round < 100000; round++) {
        limit = 1 + draw(&seed, 3 * TEST_LEN);

        for (len = 0; len < limit; /* void */) {
            static const unsigned  most[] = { 0x80, 0x80, 0x800, 0x10000,
                                              0x110000 };

            n = put(text + len, draw(&seed, most[draw(&seed, 5)]));

            /* not only characters that end the way */

            if (n > 1 || (text[len] >= 0x20 && text[len] != '"'
                          && text[len] != '\\'))
            {
                len += n;
            }
        }

        check(text, len);

        for (changes = draw(&seed, 3); changes > 0 && len > 0; changes--) {
            n = draw(&seed, len);

            if (draw(&seed, 2)) {
                text[n] = borders[draw(&seed, sizeof(borders))];

            } else {
                len--;
                memmove(text + n, text + n + 1, len - n);
            }
        }

        check(text, len);
    }
}


/*
 * Text of each length, to its end and to a byte that ends it, both before it
 * is read and where a character is cut off.
 */

static void
test_lengths(void **state)
{
    u_char    text[2 * TEST_LEN];
    size_t    n;
    unsigned  kind;

    (void) state;

    for (kind = 0; kind < vaani_test_nelems(fills); kind++) {
        (void) fill(text, 0, kind);

        for (n = 0; n <= TEST_LEN; n++) {
            check(text, n);

            text[n] = '"';
            check(text, n + 1);
            check(text, TEST_LEN + 1);

            (void) fill(text, 0, kind);
        }
    }
}


static void
test_copy(void **state)
{
    u_char  src[TEST_LEN], *exact, *dst;
    size_t  n, len, slash, copied;

    (void) state;

    for (len = 0; len < TEST_LEN; len++) {
        for (slash = 0; slash <= len; slash++) {

            for (n = 0; n < len; n++) {
                src[n] = (u_char) ('\\' + 1 + (n * 37 + len) % 255);
            }

            if (slash < len) {
                src[slash] = '\\';

                if (slash + 2 < len) {
                    src[slash + 2] = '\\';
                }
            }

            exact = vaani_test_malloc(len);
            dst = vaani_test_malloc(len);
            memcpy(exact, src, len);

            copied = vaani_utf8_copy(dst, exact, len);

            assert_int_equal(copied, slash);
            assert_memory_equal(dst, src, copied);

            free(exact);
            free(dst);
        }
    }
}


/*
 * The text fills its memory exactly: reads outside it are detected.
 */

static void
check(const u_char *text, size_t len)
{
    size_t         n;
    u_char        *exact;
    const u_char  *p;

    exact = vaani_test_malloc(len);
    memcpy(exact, text, len);

    p = vaani_utf8_text(exact, exact + len);
    n = expect(text, len);

    vaani_test_that(p == exact + n, "%s: stopped at %zd instead of %zu",
                    vaani_test_show(text, len), p - exact, n);

    for (n = 0; n < len && character(text + n, 1) == 1; n++) { /* void */ }

    p = vaani_json_plain(exact, exact + len);

    vaani_test_that(p == exact + n, "%s: plain to %zd instead of %zu",
                    vaani_test_show(text, len), p - exact, n);

    free(exact);
}


static size_t
expect(const u_char *text, size_t len)
{
    size_t  n, size;

    for (n = 0; n < len; n += size) {
        size = character(text + n, len - n);

        if (size == 0) {
            break;
        }
    }

    return n;
}


/*
 * The length of the character that is valid unescaped, or 0.
 */

static size_t
character(const u_char *p, size_t len)
{
    size_t    n, size;
    u_char    again[4];
    unsigned  cp;

    if (p[0] < 0x80) {
        return p[0] >= 0x20 && p[0] != '"' && p[0] != '\\';
    }

    size = (p[0] >= 0xf0) ? 4 : (p[0] >= 0xe0) ? 3 : 2;

    if (len < size) {
        return 0;
    }

    cp = p[0] & (0xff >> (size + 1));

    for (n = 1; n < size; n++) {

        if ((p[n] & 0xc0) != 0x80) {
            return 0;
        }

        cp = cp << 6 | (p[n] & 0x3f);
    }

    if (cp > 0x10ffff || (cp >= 0xd800 && cp <= 0xdfff)) {
        return 0;
    }

    /* only one form is valid for each */

    return (put(again, cp) == size && memcmp(again, p, size) == 0) ? size : 0;
}


static size_t
put(u_char *dst, unsigned cp)
{
    if (cp < 0x80) {
        dst[0] = (u_char) cp;
        return 1;
    }

    if (cp < 0x800) {
        dst[0] = (u_char) (0xc0 | cp >> 6);
        dst[1] = (u_char) (0x80 | (cp & 0x3f));
        return 2;
    }

    if (cp < 0x10000) {
        dst[0] = (u_char) (0xe0 | cp >> 12);
        dst[1] = (u_char) (0x80 | (cp >> 6 & 0x3f));
        dst[2] = (u_char) (0x80 | (cp & 0x3f));
        return 3;
    }

    dst[0] = (u_char) (0xf0 | cp >> 18);
    dst[1] = (u_char) (0x80 | (cp >> 12 & 0x3f));
    dst[2] = (u_char) (0x80 | (cp >> 6 & 0x3f));
    dst[3] = (u_char) (0x80 | (cp & 0x3f));

    return 4;
}


/*
 * Whole characters from a position on, until TEST_LEN or more is filled.
 */

static size_t
fill(u_char *text, size_t at, unsigned kind)
{
    size_t  size;

    size = strlen(fills[kind]);

    do {
        memcpy(text + at, fills[kind], size);
        at += size;
    } while (at < TEST_LEN);

    return at;
}


static unsigned
draw(uint64_t *seed, unsigned limit)
{
    *seed = *seed * 6364136223846793005ULL + 1442695040888963407ULL;

    return (unsigned) ((*seed >> 33) % limit);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_sequences),
        cmocka_unit_test(test_code_points),
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_copy),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
