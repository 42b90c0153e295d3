
/*
 * The rate of a log line.
 */

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "vaani_pace.h"


#define TEST_PERIOD  10000


static void test_first(void **state);
static void test_period(void **state);
static void test_back(void **state);
static void test_reset(void **state);


static void
test_first(void **state)
{
    uint64_t      skipped;
    vaani_pace_t  pace;

    (void) state;

    memset(&pace, 0, sizeof(vaani_pace_t));
    skipped = 7;

    /* also right after the start of the clock */

    assert_int_equal(vaani_pace(&pace, 0, TEST_PERIOD, &skipped), 1);
    assert_int_equal(skipped, 0);
    assert_int_equal(vaani_pace(&pace, 0, TEST_PERIOD, &skipped), 0);
}


static void
test_period(void **state)
{
    uint64_t      skipped;
    unsigned      n;
    vaani_pace_t  pace;

    (void) state;

    memset(&pace, 0, sizeof(vaani_pace_t));

    assert_int_equal(vaani_pace(&pace, 5, TEST_PERIOD, &skipped), 1);

    for (n = 0; n < 1000; n++) {
        assert_int_equal(vaani_pace(&pace, 5 + n, TEST_PERIOD, &skipped), 0);
    }

    /* suppressed lines do not delay the next line */

    assert_int_equal(vaani_pace(&pace, 4 + TEST_PERIOD, TEST_PERIOD, &skipped),
                     0);
    assert_int_equal(vaani_pace(&pace, 5 + TEST_PERIOD, TEST_PERIOD, &skipped),
                     1);
    assert_int_equal(skipped, 1001);

    assert_int_equal(vaani_pace(&pace, 5 + 2 * TEST_PERIOD, TEST_PERIOD,
                                &skipped),
                     1);
    assert_int_equal(skipped, 0);
}


static void
test_back(void **state)
{
    uint64_t      skipped;
    vaani_pace_t  pace;

    (void) state;

    memset(&pace, 0, sizeof(vaani_pace_t));

    /* 32 bits of ms have wrapped: the line is not suppressed for 49 days */

    assert_int_equal(vaani_pace(&pace, UINT32_MAX, TEST_PERIOD, &skipped), 1);
    assert_int_equal(vaani_pace(&pace, 3, TEST_PERIOD, &skipped), 1);
    assert_int_equal(vaani_pace(&pace, 4, TEST_PERIOD, &skipped), 0);
}


static void
test_reset(void **state)
{
    uint64_t      skipped;
    vaani_pace_t  pace;

    (void) state;

    memset(&pace, 0, sizeof(vaani_pace_t));

    assert_int_equal(vaani_pace(&pace, 1, TEST_PERIOD, &skipped), 1);
    assert_int_equal(vaani_pace(&pace, 2, TEST_PERIOD, &skipped), 0);

    memset(&pace, 0, sizeof(vaani_pace_t));

    assert_int_equal(vaani_pace(&pace, 3, TEST_PERIOD, &skipped), 1);
    assert_int_equal(skipped, 0);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_first),
        cmocka_unit_test(test_period),
        cmocka_unit_test(test_back),
        cmocka_unit_test(test_reset),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
