
/*
 * Times are read as in RFC 3339, and the unit of a duration is found by the
 * contract's rule.
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "vaani_contract.h"
#include "vaani_test.h"
#include "vaani_time.h"


static void check_time(const char *text, size_t len);
static void check_settled(uint64_t ms, uint64_t if_seconds, uint64_t span);
static uint64_t draw(uint64_t *seed);


static void
check_time(const char *text, size_t len)
{
    int                 rc, good;
    uint64_t            ms, expected;
    vaani_str_t         str;
    vaani_test_arena_t  arena;

    vaani_test_arena_init(&arena);

    str.data = vaani_test_text(&arena, text, len);
    str.len = len;

    rc = vaani_time_parse(&str, &ms);
    good = vaani_contract_time(&str, &expected);

    vaani_test_that(rc == (good ? VAANI_OK : VAANI_ERROR), "%s: rc %d",
                    vaani_test_show(text, len), rc);

    vaani_test_that(!good || ms == expected, "%s: %llu",
                    vaani_test_show(text, len), (unsigned long long) ms);

    vaani_test_arena_free(&arena);
}


static void
test_times(void **state)
{
    size_t       n;
    uint64_t     ms;
    vaani_str_t  str;

    static const struct {
        const char  *text;
        uint64_t     ms;
    } rows[] = {
        { "1970-01-01T00:00:00Z", 0 },
        { "1970-01-01T00:00:00.001Z", 1 },
        { "1970-01-02T00:00:00Z", 86400000 },
        { "2026-07-24T13:34:22.278854+00:00", 1784900062278ULL },
        { "2026-10-09T07:31:17.602249+00:00", 1791531077602ULL },
        { "2026-10-09T07:31:17.602249", 1791531077602ULL },
        { "2026-10-09T00:11:18Z", 1791504678000ULL },
        { "2026-10-09t00:11:18z", 1791504678000ULL },
        { "2026-10-09 00:11:18", 1791504678000ULL },
        { "2026-10-09T05:41:18+05:30", 1791504678000ULL },
        { "2026-10-08T16:11:18-08:00", 1791504678000ULL },
        { "2026-10-09T00:11:18-00:00", 1791504678000ULL },
        { "2026-10-09T00:11:18.9999999999999999999999Z", 1791504678999ULL },
        { "2026-10-09T00:11:18.1Z", 1791504678100ULL },
        { "2026-10-09T00:11:18.01Z", 1791504678010ULL },
        { "2000-02-29T12:00:00Z", 951825600000ULL },
        { "2016-12-31T23:59:60Z", 1483228800000ULL },
        { "1970-01-01T23:59:00+23:59", 0 },
        { "1970-01-01T00:00:00-23:59", 86340000 },
        { "9999-12-31T23:59:59.999Z", 253402300799999ULL },
        { "9999-12-31T23:59:59-23:59", 253402387139000ULL }
    };

    (void) state;

    for (n = 0; n < vaani_test_nelems(rows); n++) {
        str = vaani_contract_str(rows[n].text);

        vaani_test_that(vaani_time_parse(&str, &ms) == VAANI_OK
                        && ms == rows[n].ms,
                        "%s: %llu", rows[n].text, (unsigned long long) ms);

        check_time(rows[n].text, str.len);
    }
}


static void
test_no_times(void **state)
{
    size_t              n;
    uint64_t            ms;
    vaani_str_t         str;
    static const char  *texts[] = {
        "", " ", "now", "1791504678", "2026", "2026-10-09", "20261009T001118Z",
        "2026-10-09T00:11", "2026-10-09T00:11Z", "2026-10-09T00Z",
        "2026-10-09T00:11:18.Z", "2026-10-09T00:11:18.",
        "2026-10-09T00:11:18,5Z", "2026-10-09T00:11:18 Z",
        " 2026-10-09T00:11:18Z", "2026-10-09T00:11:18Z ",
        "2026-10-09T00:11:18ZZ", "2026-10-09T00:11:18UTC",
        "2026-10-09T00:11:18+5:30", "2026-10-09T00:11:18+0530",
        "2026-10-09T00:11:18+05", "2026-10-09T00:11:18+05:3",
        "2026-10-09T00:11:18+05:30Z", "2026-10-09T00:11:18+24:00",
        "2026-10-09T00:11:18+00:60", "2026-10-09T00:11:18*05:30",
        "2026-10-09X00:11:18Z", "2026/10/09T00:11:18Z",
        "2026-1-09T00:11:18Z", "2026-10-9T00:11:18Z", "2026-10-09T0:11:18Z",
        "+2026-10-09T00:11:18Z", "12026-10-09T00:11:18Z",
        "-026-10-09T00:11:18Z", "2026-00-09T00:11:18Z",
        "2026-13-09T00:11:18Z", "2026-10-00T00:11:18Z",
        "2026-10-32T00:11:18Z", "2026-09-31T00:11:18Z",
        "2026-02-29T00:11:18Z", "2100-02-29T00:11:18Z",
        "2026-10-09T24:00:00Z", "2026-10-09T00:60:00Z",
        "2026-10-09T00:00:61Z", "1969-12-31T23:59:59Z",
        "1970-01-01T00:00:00+00:01", "0000-01-01T00:00:00Z",
        "\xd9\xa2\xd9\xa0\xd9\xa2\xd9\xa6-10-09T00:11:18Z"
    };

    (void) state;

    for (n = 0; n < vaani_test_nelems(texts); n++) {
        str = vaani_contract_str(texts[n]);

        vaani_test_that(vaani_time_parse(&str, &ms) == VAANI_ERROR, "%s",
                        texts[n]);

        check_time(texts[n], str.len);
    }

    str = vaani_contract_str("2026-10-09T00:11:18Z");

    /* U+0000 is not one of the allowed characters */

    check_time("2026-10-09\0" "00:11:18Z", 20);
    check_time("2026-10-09T00:11:18\0", 20);
    check_time("2026-10-09T00:11:18.5\0", 22);
}


/*
 * Each day of all years, and invalid days of each month.
 */

static void
test_days(void **state)
{
    int     year, month, day;
    char    text[64];
    size_t  len;

    (void) state;

    for (year = 1969; year <= 9999; year += (year > 2110) ? 97 : 1) {
        for (month = 0; month <= 13; month++) {
            for (day = 0; day <= 32; day++) {
                len = sprintf(text, "%04d-%02d-%02dT01:02:03Z", year, month,
                              day);
                check_time(text, len);
            }
        }
    }
}


/*
 * Each hour, minute and second, in the time and in the offset.
 */

static void
test_clock(void **state)
{
    int     n, k;
    char    text[64];
    size_t  len;

    (void) state;

    for (n = 0; n < 100; n++) {
        len = sprintf(text, "2024-02-29T%02d:59:60", n);
        check_time(text, len);

        len = sprintf(text, "2024-12-31T23:%02d:00Z", n);
        check_time(text, len);

        len = sprintf(text, "1972-06-30T23:59:%02dZ", n);
        check_time(text, len);

        for (k = 0; k < 100; k += 7) {
            len = sprintf(text, "2024-03-01T00:00:00.%02d+%02d:%02d", k, n,
                          k);
            check_time(text, len);

            len = sprintf(text, "2024-12-31T23:59:59.%02d%03d-%02d:%02d", k, k,
                          n, k);
            check_time(text, len);

            len = sprintf(text, "1970-01-01T%02d:%02d:00+%02d:%02d", n % 24,
                          k % 60, (n + 1) % 24, k % 60);
            check_time(text, len);
        }
    }
}


/*
 * Cut anywhere, and with each byte replaced by any other.
 */

static void
test_bytes(void **state)
{
    char                text[64];
    size_t              n, i, len;
    unsigned            c;
    static const char  *samples[] = {
        "2026-10-09T07:31:17.602249+05:30", "2026-10-09T07:31:17Z",
        "2026-10-09 07:31:17.5"
    };

    (void) state;

    for (n = 0; n < vaani_test_nelems(samples); n++) {
        len = strlen(samples[n]);
        memcpy(text, samples[n], len + 1);

        for (i = 0; i < len; i++) {
            check_time(text, i);

            for (c = 0; c < 256; c++) {
                text[i] = c;
                check_time(text, len);
            }

            text[i] = samples[n][i];
        }
    }
}


static void
check_settled(uint64_t ms, uint64_t if_seconds, uint64_t span)
{
    vaani_duration_t  duration, expected;

    memset(&duration, 0, sizeof(vaani_duration_t));

    duration.kind = VAANI_DURATION_OPEN;
    duration.ms = ms;
    duration.if_seconds = if_seconds;
    duration.span = span;

    expected = duration;

    vaani_duration_settle(&duration);
    vaani_contract_settle(&expected);

    vaani_test_that(duration.kind == expected.kind
                    && (duration.kind == VAANI_DURATION_NONE
                        || duration.ms == expected.ms)
                    && duration.if_seconds == if_seconds
                    && duration.span == span,
                    "%llu or %llu of %llu: kind %d, %llu, not %llu",
                    (unsigned long long) ms, (unsigned long long) if_seconds,
                    (unsigned long long) span, duration.kind,
                    (unsigned long long) duration.ms,
                    (unsigned long long) expected.ms);
}


static void
test_settled(void **state)
{
    size_t            n;
    vaani_duration_t  duration;

    static const struct {
        uint64_t           ms;
        uint64_t           if_seconds;
        uint64_t           span;
        vaani_duration_e   kind;
        uint64_t           settled;
    } rows[] = {

        /* values of real senders: 107.42 for 1 min 48 s, 41000 for 41 s */

        { 107, 107420, 108517, VAANI_DURATION_KNOWN, 107420 },
        { 41000, 41000000, 41200, VAANI_DURATION_KNOWN, 41000 },
        { 64, 63500, 63400, VAANI_DURATION_KNOWN, 63500 },

        /* no span */

        { 41000, 41000000, 0, VAANI_DURATION_OPEN, 41000 },

        /* 10% and 5 s more than the span, and a millisecond more */

        { 16, 16000, 10000, VAANI_DURATION_KNOWN, 16000 },
        { 16, 16001, 10000, VAANI_DURATION_KNOWN, 16 },
        { 16001, 16001000, 10000, VAANI_DURATION_NONE, 0 },
        { 16000, 16000000, 10000, VAANI_DURATION_KNOWN, 16000 },
        { 5009, 5009000, 9, VAANI_DURATION_KNOWN, 5009 },
        { 5, 5000, 1, VAANI_DURATION_KNOWN, 5 },
        { 5010, 5010000, 9, VAANI_DURATION_NONE, 0 },

        /* both are possible: the span is the geometric mean at the limit */

        { 100, 10000, 1000, VAANI_DURATION_KNOWN, 100 },
        { 100, 10000, 5000, VAANI_DURATION_KNOWN, 10000 },
        { 100, 9900, 4500, VAANI_DURATION_KNOWN, 9900 },

        /* a tie: milliseconds, but below 1000 they are seconds */

        { 999, 3996, 1998, VAANI_DURATION_KNOWN, 3996 },
        { 1000, 4000, 2000, VAANI_DURATION_KNOWN, 1000 },

        /* swapped readings, of which the first one is rejected */

        { 50000, 10, 1000, VAANI_DURATION_KNOWN, 10 },

        /* nothing at all */

        { 0, 0, 1000, VAANI_DURATION_KNOWN, 0 },
        { 0, 400, 1000, VAANI_DURATION_KNOWN, 400 }
    };

    (void) state;

    for (n = 0; n < vaani_test_nelems(rows); n++) {
        memset(&duration, 0, sizeof(vaani_duration_t));

        duration.kind = VAANI_DURATION_OPEN;
        duration.ms = rows[n].ms;
        duration.if_seconds = rows[n].if_seconds;
        duration.span = rows[n].span;

        vaani_duration_settle(&duration);

        vaani_test_that(duration.kind == rows[n].kind
                        && (duration.kind == VAANI_DURATION_NONE
                            || duration.ms == rows[n].settled),
                        "row %zu: kind %d, %llu", n, duration.kind,
                        (unsigned long long) duration.ms);

        check_settled(rows[n].ms, rows[n].if_seconds, rows[n].span);
    }
}


/*
 * Readings and spans of all sizes, including those at the limits of each rule.
 */

static void
test_settled_generated(void **state)
{
    int       near;
    size_t    n;
    uint64_t  seed, ms, span;

    (void) state;

    seed = 20261009;

    for (n = 0; n < 300000; n++) {
        ms = draw(&seed) % ((uint64_t) 1 << (1 + draw(&seed) % 40));
        span = draw(&seed) % ((uint64_t) 1 << (1 + draw(&seed) % 47));

        check_settled(ms, ms * 1000, span);
        check_settled(ms, ms * 1000 + draw(&seed) % 500, span);
        check_settled(VAANI_JSON_MAX_INT, VAANI_JSON_MAX_INT, span);
        check_settled(ms, VAANI_JSON_MAX_INT, span);

        /* the span at which a reading is rejected */

        ms %= (uint64_t) 1 << 30;

        for (near = -2; near <= 2; near++) {
            if (ms > 6000) {
                check_settled(ms, ms * 1000, (ms - 5000) * 10 / 11 + near);
                check_settled(ms / 1000, ms, (ms - 5000) * 10 / 11 + near);
            }

            /* and the one at which both are equally near */

            check_settled(ms, ms * 4, ms * 2 + 2 + near);
            check_settled(ms, ms * 1024, ms * 32 + 2 + near);
        }
    }
}


static uint64_t
draw(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;

    return *seed;
}


int
main(void)
{
    const struct CMUnitTest  times[] = {
        cmocka_unit_test(test_times),
        cmocka_unit_test(test_no_times),
        cmocka_unit_test(test_days),
        cmocka_unit_test(test_clock),
        cmocka_unit_test(test_bytes)
    };

    const struct CMUnitTest  durations[] = {
        cmocka_unit_test(test_settled),
        cmocka_unit_test(test_settled_generated)
    };

    int  failed;

    failed = cmocka_run_group_tests_name("times", times, NULL, NULL);
    failed += cmocka_run_group_tests_name("durations", durations, NULL, NULL);

    return failed != 0;
}
