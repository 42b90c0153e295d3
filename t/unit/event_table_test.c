
/*
 * The table of the events has the content of the documentation, row by row,
 * and its ladders of statuses and outcomes are in order.
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
#include "vaani_event.h"
#include "vaani_test.h"


static void
test_rows(void **state)
{
    size_t                         n, k;
    vaani_str_t                    name;
    const vaani_field_t           *f;
    const vaani_event_type_t      *row;
    const vaani_contract_event_t  *expected;
    const vaani_contract_field_t  *field;
    static const vaani_field_type_e  types[] = {
        VAANI_FIELD_STRING, VAANI_FIELD_TRANSCRIPT, VAANI_FIELD_CONST_STATUS,
        VAANI_FIELD_STATUS, VAANI_FIELD_OBJECT, VAANI_FIELD_SECONDS,
        VAANI_FIELD_DURATION, VAANI_FIELD_TIME, VAANI_FIELD_NUMBER,
        VAANI_FIELD_FROM, VAANI_FIELD_REASON, VAANI_FIELD_CALL_TYPE
    };

    (void) state;

    for (n = 0; vaani_event_row(n) != NULL; n++) { /* void */ }

    assert_int_equal(VAANI_CONTRACT_EVENTS, n);
    assert_int_equal(VAANI_CONTRACT_FIELDS, VAANI_EVENT_MAX_FIELDS);

    for (n = 0; n < VAANI_CONTRACT_EVENTS; n++) {
        expected = &vaani_contract[n];

        name.data = (u_char *) expected->name;
        name.len = strlen(expected->name);

        row = vaani_event_find(&name);

        vaani_test_that(row != NULL, "%s", expected->name);

        vaani_test_that(vaani_str_eq(&row->name, &name), "%s: name %s",
                        expected->name, vaani_test_show_str(&row->name));

        vaani_test_that(vaani_contract_str_is(&row->status, expected->status),
                        "%s: status %s", expected->name,
                        vaani_test_show_str(&row->status));

        vaani_test_that(vaani_contract_str_is(&row->outcome,
                                              expected->outcome),
                        "%s: outcome %s", expected->name,
                        vaani_test_show_str(&row->outcome));

        vaani_test_that(vaani_contract_str_is(&row->transfer,
                                              expected->transfer),
                        "%s: transfer %s", expected->name,
                        vaani_test_show_str(&row->transfer));

        vaani_test_that(row->outbound == expected->outbound,
                        "%s: outbound %u", expected->name, row->outbound);

        vaani_test_that(row->postprocessed == expected->postprocessed,
                        "%s: postprocessed %u", expected->name,
                        row->postprocessed);

        for (k = 0; expected->fields[k].name; k++) {
            field = &expected->fields[k];
            f = &row->fields[k];

            vaani_test_that(vaani_contract_str_is(&f->name, field->name),
                            "%s: field %zu is %s, not %s", expected->name, k,
                            vaani_test_show_str(&f->name), field->name);

            vaani_test_that(vaani_contract_str_is(&f->hash_field,
                                                  field->hash_field
                                                  ? field->hash_field : ""),
                            "%s: %s is kept in %s", expected->name,
                            field->name, vaani_test_show_str(&f->hash_field));

            vaani_test_that(f->required == field->required,
                            "%s: %s: required %u", expected->name,
                            field->name, f->required);

            vaani_test_that(f->type == types[field->kind],
                            "%s: %s: type %d", expected->name, field->name,
                            f->type);
        }

        vaani_test_that(k == VAANI_EVENT_MAX_FIELDS
                        || row->fields[k].name.len == 0,
                        "%s: has %s too", expected->name,
                        vaani_test_show_str(&row->fields[k].name));
    }
}


static void
test_rows_in_turn(void **state)
{
    size_t                     n, k, i;
    const vaani_event_type_t  *row;

    (void) state;

    for (n = 0; (row = vaani_event_row(n)) != NULL; n++) {

        vaani_test_that(vaani_contract_find(&row->name) != NULL,
                        "row %zu: %s isn't documented", n,
                        vaani_test_show_str(&row->name));

        vaani_test_that(vaani_event_find(&row->name) == row,
                        "row %zu: %s isn't found", n,
                        vaani_test_show_str(&row->name));

        /* fields in the hash must not overwrite each other */

        for (k = 1; k < VAANI_EVENT_MAX_FIELDS; k++) {
            for (i = 0; i < k; i++) {
                vaani_test_that(row->fields[k].hash_field.len == 0
                                || !vaani_str_eq(&row->fields[k].hash_field,
                                                 &row->fields[i].hash_field),
                                "row %zu: %s twice", n,
                                vaani_test_show_str(
                                    &row->fields[k].hash_field));
            }
        }

        assert_int_equal(vaani_event_number(row), n);
    }

    assert_int_equal(n, VAANI_CONTRACT_EVENTS);

    assert_null(vaani_event_row(n + 1));
    assert_null(vaani_event_row((size_t) -1));
}


/*
 * The order of a call's events, which decides what is late.
 */

static void
test_positions(void **state)
{
    size_t                         i, j;
    vaani_str_t                    name;
    const vaani_event_type_t      *one, *two;
    const vaani_contract_event_t  *a, *b;

    (void) state;

    for (i = 0; i < VAANI_CONTRACT_EVENTS; i++) {
        for (j = 0; j < VAANI_CONTRACT_EVENTS; j++) {
            a = &vaani_contract[i];
            b = &vaani_contract[j];

            name.data = (u_char *) a->name;
            name.len = strlen(a->name);
            one = vaani_event_find(&name);

            name.data = (u_char *) b->name;
            name.len = strlen(b->name);
            two = vaani_event_find(&name);

            vaani_test_that((a->place < b->place)
                            == (one->position < two->position),
                            "%s and %s", a->name, b->name);
        }
    }
}


static void
test_find_others(void **state)
{
    size_t                    n;
    char                      text[64];
    vaani_str_t               name;
    static const vaani_str_t  names[] = {
        { 0, NULL },
        vaani_string(""),
        vaani_string("call"),
        vaani_string("call_"),
        vaani_string("CALL_ENDED"),
        vaani_string("Call_started"),
        vaani_string("call-started"),
        vaani_string("call.started"),
        vaani_string("callstarted"),
        vaani_string("ended"),
        vaani_string("user_picked_up"),
        vaani_string("human_transfer"),
        vaani_string("\0call_ended"),
        vaani_string("call_ended\0"),
        vaani_string("call_ended\n"),
        vaani_string(" call_ended"),
        vaani_string("status"),
        vaani_string("*")
    };

    (void) state;

    for (n = 0; n < vaani_test_nelems(names); n++) {
        vaani_test_that(vaani_event_find(&names[n]) == NULL, "%s",
                        vaani_test_show_str(&names[n]));
    }

    /* a byte less, a byte more, another byte */

    for (n = 0; n < VAANI_CONTRACT_EVENTS; n++) {
        memcpy(text, vaani_contract[n].name,
               strlen(vaani_contract[n].name) + 1);
        name.data = (u_char *) text;
        name.len = strlen(text) - 1;
        assert_null(vaani_event_find(&name));

        name.len += 2;
        assert_null(vaani_event_find(&name));

        name.len -= 1;
        text[n % name.len] ^= 0x20;
        assert_null(vaani_event_find(&name));

        text[n % name.len] ^= 0x20;
        assert_non_null(vaani_event_find(&name));
    }
}


static void
test_status_ranks(void **state)
{
    size_t    n, k;

    /* equal ranks: neither of them is a climb */

    static const struct {
        vaani_str_t  status;
        unsigned     height;
    } rows[] = {
        { vaani_string("started"), 1 },
        { vaani_string("dialing"), 1 },
        { vaani_string("ringing"), 2 },
        { vaani_string("active"), 3 },
        { vaani_string("failed"), 4 },
        { vaani_string("no_answer"), 4 },
        { vaani_string("rejected"), 4 },
        { vaani_string("ended"), 5 }
    };

    static const vaani_str_t  others[] = {
        vaani_string("x"), vaani_string("queued"), vaani_string("Ended"),
        vaani_string("ended "), vaani_string("ende"), vaani_string("ended\0"),
        vaani_string("\0"), vaani_string("completed"), vaani_string("initiated")
    };

    static const vaani_str_t  empty = vaani_string(""), none = { 0, NULL };

    (void) state;

    assert_int_equal(vaani_status_rank(&none), 0);
    assert_int_equal(vaani_status_rank(&empty), 0);

    for (n = 0; n < vaani_test_nelems(rows); n++) {

        assert_true(vaani_status_rank(&rows[n].status) > 0);

        for (k = 0; k < vaani_test_nelems(rows); k++) {

            if (rows[k].height < rows[n].height) {
                vaani_test_that(vaani_status_rank(&rows[k].status)
                                < vaani_status_rank(&rows[n].status),
                                "%s and %s", rows[k].status.data,
                                rows[n].status.data);
            }

            /* no two are equal; otherwise the order of arrival would decide */

            vaani_test_that((vaani_status_rank(&rows[k].status)
                             == vaani_status_rank(&rows[n].status)) == (k == n),
                            "%s and %s", rows[k].status.data,
                            rows[n].status.data);
        }
    }

    /* rejected wins over no_answer, and that over failed */

    assert_true(vaani_status_rank(&rows[6].status)
                > vaani_status_rank(&rows[5].status));
    assert_true(vaani_status_rank(&rows[5].status)
                > vaani_status_rank(&rows[4].status));

    for (n = 0; n < vaani_test_nelems(others); n++) {
        vaani_test_that(vaani_status_rank(&others[n])
                        == vaani_status_rank(&rows[0].status),
                        "%s", vaani_test_show_str(&others[n]));
    }
}


static void
test_outcome_ranks(void **state)
{
    size_t                    n;
    static const vaani_str_t  ladder[] = {
        vaani_string(""), vaani_string("completed"), vaani_string("failed"),
        vaani_string("no_answer"), vaani_string("rejected")
    };

    (void) state;

    assert_int_equal(vaani_outcome_rank(&ladder[0]), 0);

    for (n = 1; n < vaani_test_nelems(ladder); n++) {
        vaani_test_that(vaani_outcome_rank(&ladder[n])
                        > vaani_outcome_rank(&ladder[n - 1]),
                        "%s", ladder[n].data);
    }
}


/*
 * The ranks of the events' statuses: in the course of a call the status never
 * falls.
 */

static void
test_ranks_of_events(void **state)
{
    size_t                     i, j;
    const vaani_event_type_t  *one, *two;

    (void) state;

    for (i = 0; (one = vaani_event_row(i)) != NULL; i++) {

        assert_true(vaani_status_rank(&one->status) > 0);
        assert_int_equal(vaani_outcome_rank(&one->outcome) > 0,
                         one->position >= VAANI_POSITION_UNSUCCESSFUL);

        for (j = 0; (two = vaani_event_row(j)) != NULL; j++) {
            vaani_test_that(one->position >= two->position
                            || vaani_status_rank(&one->status)
                               <= vaani_status_rank(&two->status),
                            "%s and %s", one->name.data, two->name.data);
        }
    }
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_rows_in_turn),
        cmocka_unit_test(test_positions),
        cmocka_unit_test(test_find_others),
        cmocka_unit_test(test_status_ranks),
        cmocka_unit_test(test_outcome_ranks),
        cmocka_unit_test(test_ranks_of_events)
    };

    return cmocka_run_group_tests_name("event table", tests, NULL, NULL);
}
