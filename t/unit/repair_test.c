
/*
 * Bodies are repaired only as the contract says, and positions in the repaired
 * text are mapped to the received one.
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "vaani_reference.h"
#include "vaani_repair.h"
#include "vaani_test.h"


#define BOM   "\xef\xbb\xbf"
#define FFFD  "\xef\xbf\xbd"


typedef struct {
    vaani_str_t          src;
    vaani_str_t          dst;
} repair_t;


static void check_repair(const vaani_str_t *src, const vaani_str_t *dst);
static void check_places(const vaani_str_t *src, const vaani_str_t *dst);
static void check_reference(const u_char *data, size_t len);
static size_t reference(const vaani_str_t *src, u_char *dst);
static size_t maximal_part(const u_char *p, const u_char *end);
static int begins_a_character(const u_char *p, size_t len);


/* what is repaired: dst differs from src */

static const repair_t  repaired[] = {

    /* byte order marks */

    { vaani_string(BOM "{}"), vaani_string("{}") },
    { vaani_string(BOM), vaani_string("") },
    { vaani_string(BOM BOM "{}"), vaani_string("{}") },
    { vaani_string(BOM "{\"a\":\"" BOM "\"}"),
      vaani_string("{\"a\":\"" BOM "\"}") },
    { vaani_string(BOM "\xff"), vaani_string(FFFD) },

    /* Unicode, section 3.9, its tables 3-8 to 3-11 */

    { vaani_string("\"\xc0\xaf\xe0\x80\xbf\xf0\x81\x82\x41\""),
      vaani_string("\"" FFFD FFFD FFFD FFFD FFFD FFFD FFFD FFFD "A\"") },
    { vaani_string("\"\xed\xa0\x80\xed\xbf\xbf\xed\xaf\x41\""),
      vaani_string("\"" FFFD FFFD FFFD FFFD FFFD FFFD FFFD FFFD "A\"") },
    { vaani_string("\"\xf4\x91\x92\x93\xff\x41\x80\xbf\x42\""),
      vaani_string("\"" FFFD FFFD FFFD FFFD FFFD "A" FFFD FFFD "B\"") },
    { vaani_string("\"\xe1\x80\xe2\xf0\x91\x92\xf1\xbf\x41\""),
      vaani_string("\"" FFFD FFFD FFFD FFFD "A\"") },

    { vaani_string("\"\xff\""), vaani_string("\"" FFFD "\"") },
    { vaani_string("\"Caf\xe9\""), vaani_string("\"Caf" FFFD "\"") },
    { vaani_string("\"\xe2\x82\""), vaani_string("\"" FFFD "\"") },
    { vaani_string("\"\xf0\x9f\x98\""), vaani_string("\"" FFFD "\"") },
    { vaani_string("\"\xf0\x9f"), vaani_string("\"" FFFD) },
    { vaani_string("\xf0"), vaani_string(FFFD) },
    { vaani_string("\"\\\xff\""), vaani_string("\"\\" FFFD "\"") },
    { vaani_string("\"\\\\\xff\\\"\xff\""),
      vaani_string("\"\\\\" FFFD "\\\"" FFFD "\"") },

    /* words that are not numbers */

    { vaani_string("NaN"), vaani_string("null") },
    { vaani_string("Infinity"), vaani_string("null") },
    { vaani_string("-Infinity"), vaani_string("null") },
    { vaani_string("{\"a\":NaN}"), vaani_string("{\"a\":null}") },
    { vaani_string("[NaN,Infinity,-Infinity]"),
      vaani_string("[null,null,null]") },
    { vaani_string("{\"NaN\":NaN,\"a\\\"NaN\":[ NaN ]}"),
      vaani_string("{\"NaN\":null,\"a\\\"NaN\":[ null ]}") },
    { vaani_string("{\"\\\\\":NaN}"), vaani_string("{\"\\\\\":null}") },
    { vaani_string("{\"\\\\\\\"NaN\":NaN}"),
      vaani_string("{\"\\\\\\\"NaN\":null}") },

    /* repairs that do not make JSON of it */

    { vaani_string("-NaN"), vaani_string("-null") },
    { vaani_string("NaNs"), vaani_string("nulls") },
    { vaani_string("+Infinity"), vaani_string("+null") },
    { vaani_string("--Infinity"), vaani_string("-null") },

    { vaani_string(BOM "{\"a\":\"\xff\",\"b\":-Infinity}"),
      vaani_string("{\"a\":\"" FFFD "\",\"b\":null}") }
};


/* unchanged texts */

static const vaani_str_t  whole[] = {
    vaani_string(""),
    vaani_string("{}"),
    vaani_string("{\"a\":\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"}"),
    vaani_string("\"" BOM "\""),
    vaani_string("{}" BOM),
    vaani_string("\"NaN\""),
    vaani_string("{\"a\\\"b\":\"NaN Infinity -Infinity\"}"),
    vaani_string("\"\\\\\\\"NaN\""),
    vaani_string("\"\\uD800\""),
    vaani_string("nan"),
    vaani_string("Nan"),
    vaani_string("Na"),
    vaani_string("NA"),
    vaani_string("infinity"),
    vaani_string("Infinit"),
    vaani_string("-Infinit"),
    vaani_string("inf"),
    vaani_string("-"),
    vaani_string("{'a':None}"),
    vaani_string("{\"a\":1,}"),
    vaani_string("// comment\n{}"),
    vaani_string("\"\t\n\x01\""),
    vaani_string("\\"),
    vaani_string("\"\\")
};


static void
check_repair(const vaani_str_t *src, const vaani_str_t *dst)
{
    int                 rc;
    vaani_str_t         text, result, again;
    vaani_test_arena_t  arena;

    vaani_test_arena_init(&arena);

    text.data = vaani_test_text(&arena, src->data, src->len);
    text.len = src->len;

    rc = vaani_repair(&text, &arena.alloc, &result);

    if (dst == NULL) {
        vaani_test_that(rc == VAANI_DONE, "%s: rc %d",
                        vaani_test_show_str(src), rc);

        /* it is not even copied */

        assert_ptr_equal(result.data, text.data);
        assert_int_equal(result.len, text.len);
        assert_int_equal(arena.nallocs, 0);

    } else {
        vaani_test_that(rc == VAANI_OK, "%s: rc %d", vaani_test_show_str(src),
                        rc);

        vaani_test_that(vaani_str_eq(&result, dst), "%s: %s",
                        vaani_test_show_str(src),
                        vaani_test_show_str(&result));

        assert_int_equal(arena.nallocs, 1);

        /* a repaired text needs no repair */

        assert_int_equal(vaani_repair(&result, &arena.alloc, &again),
                         VAANI_DONE);

        check_places(&text, &result);

        arena.nallocs = 0;
        arena.fail_at = 1;

        assert_int_equal(vaani_repair(&text, &arena.alloc, &result),
                         VAANI_NOMEM);
    }

    vaani_test_arena_free(&arena);
}


/*
 * Each position of the repaired text maps to the same byte in the received
 * one, or to the end of the repair that contains it; also when it is reached
 * from another position.
 */

static void
check_places(const vaani_str_t *src, const vaani_str_t *dst)
{
    size_t          n, k, pos, last, repairs;
    vaani_repair_t  one, other;

    last = 0;
    repairs = 0;

    for (n = 0; n <= dst->len; n++) {
        vaani_repair_begin(&one, src);
        pos = vaani_repair_seek(&one, n);

        vaani_test_that(pos >= last && pos <= src->len,
                        "%s: %zu is at %zu", vaani_test_show_str(src), n, pos);

        assert_true(one.nrepairs >= repairs);

        if (one.len == n && n < dst->len && one.nrepairs == repairs) {

            /* what begins there is not repaired, or the repair begins there */

            vaani_test_that(src->data[pos] == dst->data[n]
                            || src->data[pos] >= 0x80
                            || strchr("NI-", src->data[pos]),
                            "%s: %zu is at %zu", vaani_test_show_str(src), n,
                            pos);
        }

        for (k = 0; k <= n; k++) {
            vaani_repair_begin(&other, src);
            (void) vaani_repair_seek(&other, k);

            vaani_test_that(vaani_repair_seek(&other, n) == pos
                            && other.nrepairs == one.nrepairs,
                            "%s: %zu by %zu", vaani_test_show_str(src), n, k);
        }

        last = pos;
        repairs = one.nrepairs;
    }

    assert_int_equal(last, src->len);
}


/*
 * The repair and the reference must agree on everything.
 */

static void
check_reference(const u_char *data, size_t len)
{
    u_char       buf[64];
    vaani_str_t  src, dst;

    src.data = data;
    src.len = len;

    dst.data = buf;
    dst.len = reference(&src, buf);

    check_repair(&src, vaani_str_eq(&src, &dst) ? NULL : &dst);
}


/*
 * The same rules, in their simplest form.
 */

static size_t
reference(const vaani_str_t *src, u_char *dst)
{
    int            quoted;
    size_t         n;
    u_char        *last;
    uint32_t       cp;
    vaani_ref_t    ref;
    const u_char  *p, *end, *next;

    p = src->data;
    end = p + src->len;
    last = dst;
    quoted = 0;

    memset(&ref, 0, sizeof(vaani_ref_t));
    ref.end = end;

    while (end - p >= 3 && memcmp(p, BOM, 3) == 0) {
        p += 3;
    }

    while (p < end) {
        next = vaani_ref_char(&ref, p, &cp);

        if (next == NULL) {
            p += maximal_part(p, end);
            last = (u_char *) stpcpy((char *) last, FFFD);
            continue;
        }

        if (!quoted) {
            n = (end - p >= 3 && memcmp(p, "NaN", 3) == 0) ? 3
                : (end - p >= 8 && memcmp(p, "Infinity", 8) == 0) ? 8
                : (end - p >= 9 && memcmp(p, "-Infinity", 9) == 0) ? 9 : 0;

            if (n) {
                p += n;
                last = (u_char *) stpcpy((char *) last, "null");
                continue;
            }
        }

        if (*p == '"') {
            quoted = !quoted;
        }

        if (quoted && *p == '\\' && next < end && (*next == '"'
                                                   || *next == '\\'))
        {
            next++;
        }

        while (p < next) {
            *last++ = *p++;
        }
    }

    return last - dst;
}


/*
 * The maximum number of bytes that begin a character, or are one.
 */

static size_t
maximal_part(const u_char *p, const u_char *end)
{
    size_t  n;

    for (n = 3; n > 1; n--) {
        if ((size_t) (end - p) >= n && begins_a_character(p, n)) {
            return n;
        }
    }

    return 1;
}


/*
 * Whether there is a character that has these bytes and others after them:
 * its last byte or bytes are tried.
 */

static int
begins_a_character(const u_char *p, size_t len)
{
    u_char       text[5];
    size_t       n;
    uint32_t     cp;
    vaani_ref_t  ref;

    memset(&ref, 0, sizeof(vaani_ref_t));

    for (n = len + 1; n <= 4; n++) {
        memset(text, 0x80, sizeof(text));
        memcpy(text, p, len);
        ref.end = text + n;

        /* what follows two bytes or more may be any continuation */

        if (vaani_ref_char(&ref, text, &cp) == text + n) {
            return 1;
        }
    }

    return 0;
}


static void
test_repaired(void **state)
{
    size_t  n;

    (void) state;

    for (n = 0; n < vaani_test_nelems(repaired); n++) {
        check_repair(&repaired[n].src, &repaired[n].dst);
        check_reference(repaired[n].src.data, repaired[n].src.len);
    }
}


static void
test_whole(void **state)
{
    size_t  n;

    (void) state;

    for (n = 0; n < vaani_test_nelems(whole); n++) {
        check_repair(&whole[n], NULL);
        check_reference(whole[n].data, whole[n].len);
    }
}


/*
 * All sequences of bytes near the limits of UTF-8.
 */

static void
test_utf8(void **state)
{
    size_t               i, j, k, l;
    u_char               text[6];
    static const u_char  borders[] = {
        '"', 'a', 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc1, 0xc2,
        0xdf, 0xe0, 0xe1, 0xec, 0xed, 0xee, 0xef, 0xf0, 0xf1, 0xf3, 0xf4, 0xf5,
        0xf8, 0xff
    };

    (void) state;

    text[0] = '"';

    for (i = 0; i < sizeof(borders); i++) {
        for (j = 0; j < sizeof(borders); j++) {
            for (k = 0; k < sizeof(borders); k++) {
                text[1] = borders[i];
                text[2] = borders[j];
                text[3] = borders[k];

                check_reference(text + 1, 3);
                check_reference(text, 3);

                if (i < 9 || k > 9) {
                    continue;
                }

                for (l = 0; l < sizeof(borders); l += 2) {
                    text[4] = borders[l];
                    check_reference(text, 5);
                }
            }
        }
    }
}


/*
 * All sequences of parts that concern a repair.
 */

static void
test_parts(void **state)
{
    char                text[64];
    size_t              i, j, k, l;
    static const char  *parts[] = {
        "", "\"", "\\", "NaN", "-", "Infinity", BOM, "\xff", "N", "x"
    };

    (void) state;

    for (i = 0; i < vaani_test_nelems(parts); i++) {
        for (j = 0; j < vaani_test_nelems(parts); j++) {
            for (k = 0; k < vaani_test_nelems(parts); k++) {
                for (l = 0; l < vaani_test_nelems(parts); l++) {
                    sprintf(text, "%s%s%s%s", parts[i], parts[j], parts[k],
                            parts[l]);
                    check_reference((u_char *) text, strlen(text));
                }
            }
        }
    }
}


/*
 * Some positions, given explicitly.
 */

static void
test_places(void **state)
{
    vaani_repair_t            repair;
    static const vaani_str_t  src = vaani_string(
        BOM "{\"a\":NaN,\"\xe2\x82\":-Infinity}");

    (void) state;

    vaani_repair_begin(&repair, &src);

    /* the mark is skipped, and counted */

    assert_int_equal(vaani_repair_seek(&repair, 0), 3);
    assert_int_equal(repair.nrepairs, 1);

    assert_int_equal(vaani_repair_seek(&repair, 5), 8);
    assert_int_equal(repair.nrepairs, 1);
    assert_int_equal(src.data[8], 'N');

    /* inside null there is no position: it is passed as a whole */

    assert_int_equal(vaani_repair_seek(&repair, 6), 11);
    assert_int_equal(repair.nrepairs, 2);
    assert_int_equal(vaani_repair_seek(&repair, 9), 11);
    assert_int_equal(src.data[11], ',');

    assert_int_equal(vaani_repair_seek(&repair, 11), 13);
    assert_int_equal(vaani_repair_seek(&repair, 14), 15);
    assert_int_equal(repair.nrepairs, 3);

    assert_int_equal(vaani_repair_seek(&repair, 1000), src.len);
    assert_int_equal(repair.nrepairs, 4);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_repaired),
        cmocka_unit_test(test_whole),
        cmocka_unit_test(test_utf8),
        cmocka_unit_test(test_parts),
        cmocka_unit_test(test_places)
    };

    return cmocka_run_group_tests_name("repair", tests, NULL, NULL);
}
