
/*
 * The words of $vaani_reason.
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "vaani_reason.h"
#include "vaani_test.h"


static void
test_words(void **state)
{
    size_t              n, i;
    const vaani_str_t  *word;

    (void) state;

    for (n = 1; n < VAANI_NREASONS; n++) {
        word = vaani_reason_word(n);

        assert_true(word->len > 0);
        assert_int_equal(word->data[word->len], '\0');
        assert_int_equal(strspn((const char *) word->data,
                                "abcdefghijklmnopqrstuvwxyz_"),
                         word->len);

        for (i = 1; i < n; i++) {
            assert_false(vaani_str_eq(word, vaani_reason_word(i)));
        }
    }

    /* the first and the last one: none was left out */

    assert_string_equal(vaani_reason_word(VAANI_REASON_METHOD)->data,
                        "method");
    assert_string_equal(vaani_reason_word(VAANI_REASON_SPOOL_FAILED)->data,
                        "spool_failed");
}


static void
test_none(void **state)
{
    (void) state;

    assert_int_equal(vaani_reason_word(VAANI_REASON_NONE)->len, 0);
    assert_int_equal(vaani_reason_word(VAANI_NREASONS)->len, 0);
    assert_int_equal(vaani_reason_word(255)->len, 0);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_none)
    };

    return cmocka_run_group_tests_name("reason", tests, NULL, NULL);
}
