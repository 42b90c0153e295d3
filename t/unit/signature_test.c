
/*
 * Tokens, headers with signatures, and timestamps.
 */

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "vaani_test.h"
#include "vaani_signature.h"


#define TEST_HEX                                                              \
    "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"

#define TEST_HEX_UPPER                                                        \
    "757107EA0EB2509FC211221CCE984B8A37570B6D7586C22C46F4379C8B043E17"

#define TEST_BASE64URL  "g0hM9SsE-OTPJTGt_tmIKtSyZlE3uFJELVlNIOLJ1OE"

#define TEST_BASE64  "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


static vaani_signature_format_t  test_webhook = {
    vaani_string("v1,"), { 0, NULL }, ' ', VAANI_SIGNATURE_BASE64, 0, 0
};

static vaani_signature_format_t  test_hex = {
    { 0, NULL }, { 0, NULL }, ',', VAANI_SIGNATURE_HEX, 0, 0
};

static vaani_signature_format_t  test_github = {
    vaani_string("sha256="), { 0, NULL }, ',', VAANI_SIGNATURE_HEX, 0, 0
};

static vaani_signature_format_t  test_timed = {
    vaani_string("v1="), vaani_string("t="), ',', VAANI_SIGNATURE_HEX, 0, 0
};

static vaani_signature_format_t  test_own = {
    vaani_string("sha256="), { 0, NULL }, ',', VAANI_SIGNATURE_HEX, 1, 1
};

static vaani_signature_format_t  test_bare = {
    vaani_string("Sig:"), { 0, NULL }, ',', VAANI_SIGNATURE_BASE64_ANY, 1, 0
};

/* one that is a prefix of the expected signature */

static vaani_signature_format_t  test_begins = {
    vaani_string("g0"), { 0, NULL }, ',', VAANI_SIGNATURE_BASE64_ANY, 1, 0
};

static vaani_signature_format_t  test_any = {
    { 0, NULL }, { 0, NULL }, ',', VAANI_SIGNATURE_BASE64_ANY, 1, 0
};


static void test_str(vaani_test_arena_t *arena, vaani_str_t *str,
    const char *text, size_t len);
static void test_token(vaani_token_t *token, const char *text, size_t len);
static unsigned test_matches(const vaani_signature_format_t *format,
    const char *header, const char *expected);
static void test_token_equal(void **state);
static void test_token_bits(void **state);
static void test_token_lengths(void **state);
static void test_match(void **state);
static void test_match_bits(void **state);
static void test_match_where(void **state);
static void test_hex_case(void **state);
static void test_timestamp(void **state);
static void test_timestamp_parse(void **state);


static void
test_str(vaani_test_arena_t *arena, vaani_str_t *str, const char *text,
    size_t len)
{
    str->data = vaani_test_text(arena, text, len);
    str->len = len;
}


static void
test_token(vaani_token_t *token, const char *text, size_t len)
{
    memset(token, 0, sizeof(vaani_token_t));
    memcpy(token->data, text, len);

    token->len = len;
}


static unsigned
test_matches(const vaani_signature_format_t *format, const char *header,
    const char *expected)
{
    unsigned            rc;
    vaani_str_t         header_str, expected_str;
    vaani_test_arena_t  arena;

    vaani_test_arena_init(&arena);

    test_str(&arena, &header_str, header, strlen(header));
    test_str(&arena, &expected_str, expected, strlen(expected));

    rc = vaani_signature_match(format, &header_str, &expected_str);

    vaani_test_arena_free(&arena);

    return rc;
}


static void
test_token_equal(void **state)
{
    size_t              n;
    vaani_str_t         value;
    vaani_token_t       token;
    vaani_test_arena_t  arena;

    static const struct {
        const char     *token;
        const char     *value;
        unsigned        equal;
    } tests[] = {
        { "secret", "secret", 1 },
        { "s", "s", 1 },
        { "secret", "", 0 },
        { "secret", "secre", 0 },
        { "secret", "ecret", 0 },
        { "secret", "secrets", 0 },
        { "secret", "secretsecret", 0 },
        { "secret", "SECRET", 0 },
        { "secret", "secret ", 0 },
        { "secret", " secret", 0 },
        { "secret", "terces", 0 },
    };

    (void) state;

    vaani_test_arena_init(&arena);

    for (n = 0; n < vaani_test_nelems(tests); n++) {
        test_token(&token, tests[n].token, strlen(tests[n].token));
        test_str(&arena, &value, tests[n].value, strlen(tests[n].value));

        vaani_test_that(vaani_token_equal(&token, &value) == tests[n].equal,
                        "\"%s\" and \"%s\"", tests[n].token, tests[n].value);
    }

    vaani_test_arena_free(&arena);
}


/*
 * For every length: equal to itself, and different with one bit changed.
 */

static void
test_token_bits(void **state)
{
    size_t          n, len;
    u_char          data[VAANI_TOKEN_MAX_LEN];
    unsigned        bit;
    vaani_str_t     value;
    vaani_token_t   token;

    static const size_t  lens[] = { 1, 2, 63, 64, 511, VAANI_TOKEN_MAX_LEN };

    (void) state;

    for (len = 0; len < vaani_test_nelems(lens); len++) {

        memset(data, 0, sizeof(data));

        for (n = 0; n < lens[len]; n++) {
            data[n] = n * 7 + 1;
        }

        test_token(&token, (char *) data, lens[len]);

        value.data = data;
        value.len = lens[len];

        assert_int_equal(vaani_token_equal(&token, &value), 1);

        for (n = 0; n < lens[len]; n++) {
            for (bit = 0; bit < 8; bit++) {
                data[n] ^= 1 << bit;
                assert_int_equal(vaani_token_equal(&token, &value), 0);
                data[n] ^= 1 << bit;
            }
        }
    }
}


/*
 * Bytes beyond the token's length are zero, and a value may end with zeros, or
 * be longer than the array.
 */

static void
test_token_lengths(void **state)
{
    size_t              len;
    char                text[3 * VAANI_TOKEN_MAX_LEN];
    vaani_str_t         value;
    vaani_token_t       token;
    vaani_test_arena_t  arena;

    (void) state;

    vaani_test_arena_init(&arena);

    memset(text, 0, sizeof(text));
    memset(text, 'x', 20);

    test_token(&token, text, 20);

    for (len = 0; len <= sizeof(text); len++) {
        test_str(&arena, &value, text, len);

        vaani_test_that(vaani_token_equal(&token, &value) == (len == 20),
                        "%zu bytes", len);
    }

    memset(text, 'x', sizeof(text));

    test_token(&token, text, VAANI_TOKEN_MAX_LEN);

    for (len = VAANI_TOKEN_MAX_LEN - 1; len <= sizeof(text); len++) {
        test_str(&arena, &value, text, len);

        vaani_test_that(vaani_token_equal(&token, &value)
                        == (len == VAANI_TOKEN_MAX_LEN),
                        "%zu bytes", len);
    }

    vaani_test_arena_free(&arena);
}


static void
test_match(void **state)
{
    size_t  n;

    static const struct {
        const vaani_signature_format_t  *format;
        const char                      *expected;
        const char                      *header;
        unsigned                         match;
    } tests[] = {
        { &test_webhook, TEST_BASE64, "v1," TEST_BASE64, 1 },
        { &test_webhook, TEST_BASE64, "v1,x v1," TEST_BASE64, 1 },
        { &test_webhook, TEST_BASE64, "v1," TEST_BASE64 " v1,x", 1 },
        { &test_webhook, TEST_BASE64, "v1a,x v2,y v1," TEST_BASE64, 1 },
        { &test_webhook, TEST_BASE64, "  v1," TEST_BASE64 "  ", 1 },
        { &test_webhook, TEST_BASE64, "\tv1," TEST_BASE64 "\t", 1 },
        { &test_webhook, TEST_BASE64, "", 0 },
        { &test_webhook, TEST_BASE64, " ", 0 },
        { &test_webhook, TEST_BASE64, "v1,", 0 },
        { &test_webhook, TEST_BASE64, "v1", 0 },
        { &test_webhook, TEST_BASE64, TEST_BASE64, 0 },
        { &test_webhook, TEST_BASE64, "v1a," TEST_BASE64, 0 },
        { &test_webhook, TEST_BASE64, "v2," TEST_BASE64, 0 },
        { &test_webhook, TEST_BASE64, "V1," TEST_BASE64, 0 },
        { &test_webhook, TEST_BASE64, "v1, " TEST_BASE64, 0 },
        { &test_webhook, TEST_BASE64, "v1=" TEST_BASE64, 0 },
        { &test_webhook, TEST_BASE64, "v1," TEST_BASE64 "=", 0 },
        { &test_webhook, TEST_BASE64, "v1,v1," TEST_BASE64, 0 },
        { &test_webhook, TEST_BASE64, "v1," TEST_BASE64 ",v1,x", 0 },

        { &test_hex, TEST_HEX, TEST_HEX, 1 },
        { &test_hex, TEST_HEX, "x, " TEST_HEX, 1 },
        { &test_hex, TEST_HEX, ",," TEST_HEX ",,", 1 },
        { &test_hex, TEST_HEX, "sha256=" TEST_HEX, 0 },
        { &test_hex, TEST_HEX, TEST_HEX " x", 0 },
        { &test_hex, TEST_HEX, TEST_HEX TEST_HEX, 0 },

        { &test_github, TEST_HEX, "sha256=" TEST_HEX, 1 },
        { &test_github, TEST_HEX, "sha1=x, sha256=" TEST_HEX, 1 },
        { &test_github, TEST_HEX, TEST_HEX, 0 },
        { &test_github, TEST_HEX, "sha256= " TEST_HEX, 0 },
        { &test_github, TEST_HEX, "sha256=sha256=" TEST_HEX, 0 },

        { &test_timed, TEST_HEX, "t=1,v1=" TEST_HEX, 1 },
        { &test_timed, TEST_HEX, "v1=" TEST_HEX ",t=1", 1 },
        { &test_timed, TEST_HEX, "t=1,v0=" TEST_HEX, 0 },
        { &test_timed, TEST_HEX, "t=1," TEST_HEX, 0 },

        /* with or without the prefix, in either case */

        { &test_own, TEST_HEX, TEST_HEX, 1 },
        { &test_own, TEST_HEX, TEST_HEX_UPPER, 1 },
        { &test_own, TEST_HEX, "sha256=" TEST_HEX, 1 },
        { &test_own, TEST_HEX, "SHA256=" TEST_HEX_UPPER, 1 },
        { &test_own, TEST_HEX, " \t Sha256=" TEST_HEX "\t ", 1 },
        { &test_own, TEST_HEX, "x, sha256=" TEST_HEX, 1 },
        { &test_own, TEST_HEX, "x, " TEST_HEX, 1 },
        { &test_own, TEST_HEX, "sha256=", 0 },
        { &test_own, TEST_HEX, "sha256", 0 },
        { &test_own, TEST_HEX, "sha256= " TEST_HEX, 0 },
        { &test_own, TEST_HEX, "sha256:" TEST_HEX, 0 },
        { &test_own, TEST_HEX, "sha512=" TEST_HEX, 0 },
        { &test_own, TEST_HEX, "sha256\x1d" TEST_HEX, 0 },
        { &test_own, TEST_HEX, "sha256=sha256=" TEST_HEX, 0 },
        { &test_own, TEST_HEX, TEST_HEX "sha256=", 0 },
        { &test_own, TEST_HEX, "", 0 },

        { &test_bare, TEST_BASE64, TEST_BASE64, 1 },
        { &test_bare, TEST_BASE64, "Sig:" TEST_BASE64, 1 },
        { &test_bare, TEST_BASE64, "sig:" TEST_BASE64, 0 },
        { &test_bare, TEST_BASE64, "Sig:" TEST_BASE64URL, 1 },
        { &test_bare, TEST_BASE64, "Sig:", 0 },

        { &test_begins, TEST_BASE64, TEST_BASE64, 1 },
        { &test_begins, TEST_BASE64, "g0" TEST_BASE64, 1 },
        { &test_begins, TEST_BASE64, "g0g0" TEST_BASE64, 0 },
        { &test_begins, TEST_BASE64, TEST_BASE64URL, 1 },

        /* base64 and base64url, with the padding or without it */

        { &test_any, TEST_BASE64, TEST_BASE64, 1 },
        { &test_any, TEST_BASE64, TEST_BASE64URL "=", 1 },
        { &test_any, TEST_BASE64, TEST_BASE64URL, 1 },
        { &test_any, TEST_BASE64,
          "g0hM9SsE-OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE", 1 },
        { &test_any, TEST_BASE64, TEST_BASE64URL "==", 0 },
        { &test_any, TEST_BASE64, TEST_BASE64URL "A", 0 },
        { &test_any, TEST_BASE64, "", 0 },
        { &test_any, "", "x", 0 },
        { &test_any, "====", "x", 0 },
        { &test_any, "a===", "a", 1 },
        { &test_any, "a===", "a=", 0 },
        { &test_any, "+", "-", 1 },
        { &test_any, "/", "_", 1 },
        { &test_any, "+", "_", 0 },
        { &test_any, "-", "+", 0 },
        { &test_webhook, "+/", "v1,-_", 0 },
    };

    (void) state;

    for (n = 0; n < vaani_test_nelems(tests); n++) {
        vaani_test_that(test_matches(tests[n].format, tests[n].header,
                                     tests[n].expected)
                        == tests[n].match,
                        "row %zu: \"%s\"", n, tests[n].header);
    }
}


/*
 * Base64 is case-sensitive, and every bit of it counts.
 */

static void
test_match_bits(void **state)
{
    size_t    n;
    char      header[] = "v1," TEST_BASE64;
    unsigned  bit;

    (void) state;

    for (n = 0; n < sizeof(header) - 1; n++) {
        for (bit = 0; bit < 8; bit++) {
            header[n] ^= 1 << bit;

            /* strlen() stops at no zero: none of the bytes is a power of 2 */

            vaani_test_that(!test_matches(&test_webhook, header, TEST_BASE64),
                            "bit %u of byte %zu", bit, n);

            header[n] ^= 1 << bit;
        }
    }
}


/*
 * The correct one is found anywhere among a hundred others.
 */

static void
test_match_where(void **state)
{
    char    header[100 * sizeof("v1," TEST_BASE64 " ")], *p;
    size_t  n, where;

    (void) state;

    for (where = 0; where <= 100; where++) {
        p = header;

        for (n = 0; n < 100; n++) {
            p += sprintf(p, "v1,%s ", n == where
                                      ? TEST_BASE64
                                      : "A0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNI"
                                        "OLJ1OE=");
        }

        vaani_test_that(test_matches(&test_webhook, header, TEST_BASE64)
                        == (where < 100),
                        "at %zu", where);
    }
}


/*
 * Of the 256 bytes only a digit, or a letter in either case, is it.
 */

static void
test_hex_case(void **state)
{
    size_t       n;
    u_char       header;
    unsigned     ch, want;
    vaani_str_t  str, expected;

    static const char  digits[] = "0123456789abcdef";

    (void) state;

    expected.len = 1;

    for (n = 0; n < 16; n++) {
        expected.data = (const u_char *) &digits[n];

        for (ch = 0; ch < 256; ch++) {
            header = (u_char) ch;
            str.data = &header;
            str.len = 1;

            want = (ch == (u_char) digits[n]
                    || (n > 9 && ch + 'a' - 'A' == (u_char) digits[n]));

            vaani_test_that(vaani_signature_match(&test_hex, &str, &expected)
                            == want,
                            "0x%02x for %c", ch, digits[n]);
        }
    }

    /* base64 of the same letters has a case */

    assert_int_equal(test_matches(&test_webhook, "v1,AbCd", "AbCd"), 1);
    assert_int_equal(test_matches(&test_webhook, "v1,abcd", "AbCd"), 0);
    assert_int_equal(test_matches(&test_webhook, "v1,ABCD", "abcd"), 0);
}


static void
test_timestamp(void **state)
{
    int                 rc;
    size_t              n;
    vaani_str_t         header, timestamp;
    vaani_test_arena_t  arena;

    static const struct {
        const char     *header;
        const char     *timestamp;      /* NULL: none, or more than one */
    } tests[] = {
        { "t=1", "1" },
        { "t=1700000000,v1=x", "1700000000" },
        { "v1=x, t=1700000000", "1700000000" },
        { "v1=x,\tt=1700000000\t,", "1700000000" },
        { "t=", "" },
        { "t= 1", " 1" },
        { "t=1 2", "1 2" },
        { "t=t=1", "t=1" },
        { "tt=1,t=2", "2" },
        { "", NULL },
        { ",", NULL },
        { "t", NULL },
        { "T=1", NULL },
        { "v1=x", NULL },
        { "t =1", NULL },
        { "t=1,t=1", NULL },
        { "t=1,v1=x,t=", NULL },
        { "t=1,t=2,t=3", NULL },
    };

    (void) state;

    vaani_test_arena_init(&arena);

    for (n = 0; n < vaani_test_nelems(tests); n++) {
        test_str(&arena, &header, tests[n].header, strlen(tests[n].header));

        rc = vaani_signature_timestamp(&test_timed, &header, &timestamp);

        if (tests[n].timestamp == NULL) {
            vaani_test_that(rc == VAANI_ERROR, "\"%s\"", tests[n].header);
            continue;
        }

        vaani_test_that(rc == VAANI_OK, "\"%s\"", tests[n].header);
        vaani_test_that(timestamp.len == strlen(tests[n].timestamp)
                        && memcmp(timestamp.data, tests[n].timestamp,
                                  timestamp.len)
                           == 0,
                        "\"%s\": \"%s\"", tests[n].header,
                        vaani_test_show_str(&timestamp));
    }

    vaani_test_arena_free(&arena);
}


static void
test_timestamp_parse(void **state)
{
    int                 rc;
    size_t              n;
    int64_t             seconds;
    vaani_str_t         str;
    vaani_test_arena_t  arena;

    static const struct {
        const char     *text;
        int64_t         seconds;        /* -1: not a timestamp */
    } tests[] = {
        { "0", 0 },
        { "1", 1 },
        { "9", 9 },
        { "1614265330", 1614265330 },
        { "2147483648", 2147483648 },
        { "001614265330", 1614265330 },
        { "000000000000", 0 },
        { "100000000000", 100000000000 },

        /* milliseconds */

        { "100000000001", 100000000 },
        { "999999999999", 999999999 },
        { "1614265330999", 1614265330 },
        { "001614265330000", 1614265330 },
        { "999999999999999", 999999999999 },
        { "000000000000000", 0 },
        { "", -1 },
        { "0000000000000000", -1 },
        { "1614265330000000", -1 },
        { "18446744073709551617", -1 },
        { "-1", -1 },
        { "+1", -1 },
        { " 1", -1 },
        { "1 ", -1 },
        { "1.0", -1 },
        { "1e3", -1 },
        { "0x1", -1 },
        { "1:", -1 },
        { "1/", -1 },
        { "/", -1 },
        { ":", -1 },
        { "now", -1 },
        { "\xb2", -1 },
    };

    (void) state;

    vaani_test_arena_init(&arena);

    for (n = 0; n < vaani_test_nelems(tests); n++) {
        test_str(&arena, &str, tests[n].text, strlen(tests[n].text));

        seconds = -2;

        rc = vaani_timestamp_parse(&str, &seconds);

        if (tests[n].seconds == -1) {
            vaani_test_that(rc == VAANI_ERROR, "\"%s\"", tests[n].text);

        } else {
            vaani_test_that(rc == VAANI_OK && seconds == tests[n].seconds,
                            "\"%s\"", tests[n].text);
        }
    }

    /* a zero byte does not end it */

    test_str(&arena, &str, "1\0", 2);
    assert_int_equal(vaani_timestamp_parse(&str, &seconds), VAANI_ERROR);

    vaani_test_arena_free(&arena);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_token_equal),
        cmocka_unit_test(test_token_bits),
        cmocka_unit_test(test_token_lengths),
        cmocka_unit_test(test_match),
        cmocka_unit_test(test_match_bits),
        cmocka_unit_test(test_match_where),
        cmocka_unit_test(test_hex_case),
        cmocka_unit_test(test_timestamp),
        cmocka_unit_test(test_timestamp_parse),
    };

    return cmocka_run_group_tests_name("signature", tests, NULL, NULL);
}
