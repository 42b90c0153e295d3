
/*
 * From an event and a delivery to the arguments of the script.
 */

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "vaani_test.h"
#include "vaani_transition.h"


static vaani_str_t  test_channels[] = {
    vaani_string("vaani:events"), vaani_string("vaani:room:r")
};

static const vaani_delivery_t  test_sample = {
    vaani_string("vaani:call:r"), vaani_string("stream"), 1000,
    test_channels, 2, 604800000, 1790000000123ULL,
    vaani_string("digest"), vaani_string("id"), vaani_string("nonce"), 0,
    1600000000000ULL, vaani_string("payload")
};


static void check_all_args(const char *body, const vaani_delivery_t *delivery,
    const char **expected, size_t nexpected);
static int test_args(const char *body, const vaani_delivery_t *delivery,
    vaani_test_arena_t *arena, vaani_str_t **args, size_t *nargs);
static void test_known(void **state);
static void test_digits(void **state);
static void test_unknown(void **state);
static void test_no_stream(void **state);
static void test_replayed(void **state);
static void test_largest(void **state);
static void test_no_memory(void **state);


#define check_args(body, delivery, expected)                                  \
    check_all_args(body, delivery, expected, vaani_test_nelems(expected))


static void
check_all_args(const char *body, const vaani_delivery_t *delivery,
    const char **expected, size_t nexpected)
{
    size_t              n, nargs;
    vaani_str_t        *args, want;
    vaani_test_arena_t  arena;

    vaani_test_arena_init(&arena);

    assert_int_equal(test_args(body, delivery, &arena, &args, &nargs),
                     VAANI_OK);

    for (n = 0; n < nargs && n < nexpected; n++) {
        want.data = (u_char *) expected[n];
        want.len = strlen(expected[n]);

        vaani_test_that(vaani_str_eq(&args[n], &want),
                        "argument %zu: %s instead of %s", n,
                        vaani_test_show_str(&args[n]), expected[n]);
    }

    assert_int_equal(nargs, nexpected);

    vaani_test_arena_free(&arena);
}


static int
test_args(const char *body, const vaani_delivery_t *delivery,
    vaani_test_arena_t *arena, vaani_str_t **args, size_t *nargs)
{
    static vaani_event_t  event;
    vaani_event_error_t   error;

    assert_int_equal(vaani_event_parse(&event, (u_char *) body, strlen(body),
                                       1, &arena->alloc, &error),
                     VAANI_OK);

    arena->nallocs = 0;

    return vaani_transition_args(&event, delivery, &arena->alloc, args, nargs);
}


/*
 * What comes before the scalars of an event is the same for all of them.
 */

static void
test_known(void **state)
{
    static const char  *ended[] = {
        "2", "vaani:call:r", "stream",
        "6810111001", "call_ended", "1790000000123", "604800000",
        "\"event\":\"call_ended\",\"room_name\":\"\\u0072\",",
        "\"received_at\":1790000000123,\"key\":\"vaani:call:r\",\"payload\":",
        "payload", "1000",
        "ended", "1600000000000", "digest", "id", "completed", "1500",
        "end_reason", "hangup", "vaani:events", "vaani:room:r"
    };

    static const char  *ringing[] = {
        "2", "vaani:call:r", "stream",
        "2300101001", "call_ringing", "1790000000123", "604800000",
        "\"event\":\"call_ringing\",\"room_name\":\"r\",",
        "\"received_at\":1790000000123,\"key\":\"vaani:call:r\",\"payload\":",
        "payload", "1000",
        "ringing", "1600000000000", "digest", "id",
        "direction", "outbound", "vaani:events", "vaani:room:r"
    };

    (void) state;

    check_args("{\"event\":\"call_ended\",\"room_name\":\"\\u0072\","
               "\"call_duration\":1.5,\"end_reason\":\"hangup\"}",
               &test_sample, ended);

    check_args("{\"event\":\"call_ringing\",\"room_name\":\"r\"}",
               &test_sample, ringing);
}


/*
 * What the digits say: an event that came before its sender counted, from one
 * without ids, of a room with the longest name.
 */

static void
test_digits(void **state)
{
    char                body[512];
    size_t              nargs;
    vaani_str_t        *args;
    vaani_delivery_t    delivery;
    vaani_test_arena_t  arena;

    (void) state;

    delivery = test_sample;

    delivery.id.len = 0;
    delivery.since = delivery.received_at + 1;

    snprintf(body, sizeof(body),
             "{\"event\":\"human_transfer_failed\",\"room_name\":\"%0256d\","
             "\"transfer_type\":\"t\",\"phone_number\":\"n\","
             "\"reason\":\"r\"}", 0);

    vaani_test_arena_init(&arena);

    assert_int_equal(test_args(body, &delivery, &arena, &args, &nargs),
                     VAANI_OK);

    assert_int_equal(args[3].len, 10);
    assert_memory_equal(args[3].data, "440f003140", 10);

    assert_int_equal(args[14].len, 5);
    assert_memory_equal(args[14].data, "nonce", 5);

    vaani_test_arena_free(&arena);
}


/*
 * The script is told no more of an event that it can't apply.
 */

static void
test_unknown(void **state)
{
    static const char  *unknown[] = {
        "2", "vaani:call:r", "stream", "0", "x", "1790000000123", "604800000",
        "\"event\":\"x\",\"room_name\":\"r\",",
        "\"received_at\":1790000000123,\"key\":\"vaani:call:r\",\"payload\":",
        "payload", "1000", "vaani:events", "vaani:room:r"
    };

    (void) state;

    check_args("{\"event\":\"x\",\"room_name\":\"r\"}", &test_sample, unknown);
}


static void
test_no_stream(void **state)
{
    vaani_delivery_t  delivery;

    static const char  *unknown[] = {
        "1", "vaani:call:r", "0", "x", "0", "0",
        "\"event\":\"x\",\"room_name\":\"r\",",
        "\"received_at\":0,\"key\":\"vaani:call:r\",\"payload\":",
        "payload"
    };

    (void) state;

    delivery = test_sample;

    delivery.stream.len = 0;
    delivery.nchannels = 0;
    delivery.received_at = 0;
    delivery.ttl = 0;
    delivery.maxlen = 0;

    check_args("{\"event\":\"x\",\"room_name\":\"r\"}", &delivery, unknown);
}


static void
test_replayed(void **state)
{
    vaani_delivery_t  delivery;

    static const char  *unknown[] = {
        "1", "a\"b", "0", "x", "0", "604800000",
        "\"event\":\"x\",\"room_name\":\"r\",",
        "\"received_at\":0,\"key\":\"a\\\"b\",\"replayed\":true,\"payload\":",
        "payload"
    };

    (void) state;

    delivery = test_sample;

    delivery.key.data = (u_char *) "a\"b";
    delivery.key.len = 3;
    delivery.stream.len = 0;
    delivery.nchannels = 0;
    delivery.received_at = 0;
    delivery.replayed = 1;

    check_args("{\"event\":\"x\",\"room_name\":\"r\"}", &delivery, unknown);
}


/*
 * All that can be there is there, and as long as it can be: the sanitizers see
 * whether there is room for it.
 */

static void
test_largest(void **state)
{
    size_t              nargs;
    vaani_str_t        *args;
    vaani_delivery_t    delivery;
    vaani_test_arena_t  arena;

    (void) state;

    delivery = test_sample;

    delivery.key.data = (u_char *) "\001\002\003\037\177";
    delivery.key.len = 5;
    delivery.received_at = UINT64_MAX;
    delivery.ttl = UINT64_MAX;
    delivery.maxlen = UINT64_MAX;
    delivery.since = UINT64_MAX;
    delivery.replayed = 1;

    vaani_test_arena_init(&arena);

    assert_int_equal(test_args("{\"event\":\"call_postprocessing\","
                               "\"room_name\":\"r\",\"call_duration\":1e300,"
                               "\"transcript\":\"t\",\"summary\":\"s\","
                               "\"recording_url\":\"u\",\"entities\":{}}",
                               &delivery, &arena, &args, &nargs),
                     VAANI_OK);

    assert_int_equal(nargs, 3 + 8 + 6 + 4 * 2 + 2 + 2);
    assert_memory_equal(args[nargs - 4].data, "postprocessed", 13);
    assert_memory_equal(args[5].data, "18446744073709551615", args[5].len);
    assert_int_equal(args[5].len, 20);

    vaani_test_arena_free(&arena);
}


static void
test_no_memory(void **state)
{
    size_t              nargs;
    vaani_str_t        *args;
    vaani_test_arena_t  arena;

    (void) state;

    vaani_test_arena_init(&arena);

    /* the event itself needs no memory */

    arena.fail_at = 1;

    assert_int_equal(test_args("{\"event\":\"x\",\"room_name\":\"r\"}",
                               &test_sample, &arena, &args, &nargs),
                     VAANI_NOMEM);

    vaani_test_arena_free(&arena);
}


/*
 * What the script returns: everything that it can, and what it can't.
 */

static void
test_read(void **state)
{
    int64_t             reply;
    unsigned            from, to;
    uint64_t            n;
    vaani_transition_t  transition;

    static const uint64_t  seqs[] = { 1, 2, 255, 4294967296, 1ULL << 44 };

    (void) state;

    assert_int_equal(vaani_transition_read(0, &transition), VAANI_OK);
    assert_int_equal(transition.result, VAANI_TRANSITION_DUPLICATE);
    assert_int_equal(transition.from + transition.to, 0);

    assert_int_equal(vaani_transition_read(-1, &transition), VAANI_OK);
    assert_int_equal(transition.result, VAANI_TRANSITION_UNKNOWN);

    assert_int_equal(vaani_transition_read(-2, &transition), VAANI_ERROR);
    assert_int_equal(vaani_transition_read(INT64_MIN, &transition),
                     VAANI_ERROR);

    for (n = 0; n < vaani_test_nelems(seqs); n++) {
        for (from = 0; from < 16; from++) {
            for (to = 0; to < 16; to++) {
                reply = seqs[n] * 256 + from * 16 + to;

                if (to < 1 || (to > 8 && to != 15)
                    || (from > 8 && from != 15))
                {
                    assert_int_equal(vaani_transition_read(reply, &transition),
                                     VAANI_ERROR);
                    continue;
                }

                assert_int_equal(vaani_transition_read(reply, &transition),
                                 VAANI_OK);
                assert_int_equal(transition.result, VAANI_TRANSITION_APPLIED);
                assert_int_equal(transition.seq, seqs[n]);
                assert_int_equal(transition.from, from);
                assert_int_equal(transition.to, to);
            }
        }
    }

    /* a seq of 0 */

    assert_int_equal(vaani_transition_read(0x11, &transition), VAANI_ERROR);
}


static void
test_status_names(void **state)
{
    unsigned  rank;

    (void) state;

    assert_null(vaani_status_name(0));
    assert_null(vaani_status_name(9));
    assert_null(vaani_status_name(15));

    for (rank = 1; rank <= 8; rank++) {
        assert_int_equal(vaani_status_rank(vaani_status_name(rank)), rank);
    }

    for (rank = 0; vaani_event_row(rank); rank++) {
        assert_int_equal(vaani_event_number(vaani_event_row(rank)), rank);
    }
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_known),
        cmocka_unit_test(test_digits),
        cmocka_unit_test(test_unknown),
        cmocka_unit_test(test_no_stream),
        cmocka_unit_test(test_replayed),
        cmocka_unit_test(test_largest),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_read),
        cmocka_unit_test(test_status_names),
    };

    return cmocka_run_group_tests_name("transition", tests, NULL, NULL);
}
