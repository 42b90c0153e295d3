
/*
 * The script's arguments contain everything about an event and its delivery,
 * in the order documented at the top of transition.lua; and its reply is read.
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
    .key = vaani_string("vaani:call:r"),
    .stream = vaani_string("stream"),
    .maxlen = 1000,
    .channels = test_channels,
    .nchannels = 2,
    .ttl = 604800000,
    .received_at = 1790000000123ULL,
    .applied_at = 1790000000123ULL,
    .digest = vaani_string("0123digest"),
    .id = vaani_string("id"),
    .message = vaani_string("message"),
    .since = 1600000000000ULL,
    .payload = vaani_string("payload")
};


static void check_all_args(const char *body, const vaani_delivery_t *delivery,
    const char **expected, size_t nexpected);
static int test_args(const char *body, const vaani_delivery_t *delivery,
    vaani_test_arena_t *arena, vaani_str_t **args, size_t *nargs);
static void test_known(void **state);
static void test_postprocessing(void **state);
static void test_digits(void **state);
static void test_status(void **state);
static void test_codes(void **state);
static void test_ladders(void **state);
static void test_period(void **state);
static void test_unknown(void **state);
static void test_no_room(void **state);
static void test_number_for_room(void **state);
static void test_no_stream(void **state);
static void test_sharded(void **state);
static void test_replayed(void **state);
static void test_omitted(void **state);
static void test_index(void **state);
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
    vaani_str_t               text;
    vaani_event_error_t       error;
    static vaani_event_t      event;
    static const vaani_str_t  none;

    text.data = (const u_char *) body;
    text.len = strlen(body);

    assert_int_equal(vaani_event_parse(&event, &text, &none, 0, 0,
                                       &arena->alloc, &error),
                     VAANI_OK);

    arena->nallocs = 0;

    return vaani_transition_args(&event, delivery, &arena->alloc, args, nargs);
}


/*
 * The part before the scalars of an event is the same for all of them.
 */

#define HEAD(event, room)                                                     \
    "\"id\":\"message\",\"event\":\"" event "\",\"room_name\":\"" room "\","
#define DIGITS(digits, has_status, len, code, event)                          \
    digits has_status "=" len "IQd" code "0123dige" "1600000000000"           \
    "1790000000123" event "610848000"
#define TAIL                                                                  \
    "\"received_at\":1790000000123,\"key\":\"vaani:call:r\",\"payload\":"


static void
test_known(void **state)
{
    static const char  *ended[] = {
        "2", "vaani:call:r", "stream",
        DIGITS("681011000010003", "0", ":", ")", "call_ended"),
        HEAD("call_ended", "\\u0072"), TAIL, "payload", "1000",
        "id", "1500",
        "hangup", "vaani:events", "vaani:room:r"
    };

    static const char  *ringing[] = {
        "2", "vaani:call:r", "stream",
        DIGITS("230010000012100", "0", "<", "#", "call_ringing"),
        HEAD("call_ringing", "r"), TAIL, "payload", "1000",
        "id",
        "vaani:events", "vaani:room:r"
    };

    static const char  *started[] = {
        "2", "vaani:call:r", "stream",
        DIGITS("1200100000:1330", "0", "<", "!", "call_started"),
        HEAD("call_started", "inbound-11"), TAIL, "payload", "1000",
        "id", "+1",
        "vaani:events", "vaani:room:r"
    };

    static const char  *failed[] = {
        "2", "vaani:call:r", "stream",
        DIGITS("552010010012100", "0", ";", "(", "call_failed"),
        HEAD("call_failed", "r"), TAIL, "payload", "1000",
        "id",
        "error", "e", "vaani:events", "vaani:room:r"
    };

    (void) state;

    check_args("{\"event\":\"call_ended\",\"room_name\":\"\\u0072\","
               "\"call_duration\":1.5,\"end_reason\":\"hangup\"}",
               &test_sample, ended);

    check_args("{\"event\":\"call_ringing\",\"room_name\":\"r\"}",
               &test_sample, ringing);

    check_args("{\"event\":\"call_started\",\"room_name\":\"inbound-11\","
               "\"status\":\"dialing\",\"phone_number\":\"+1\"}",
               &test_sample, started);

    check_args("{\"event\":\"call_failed\",\"room_name\":\"r\","
               "\"error\":\"e\"}",
               &test_sample, failed);
}


/*
 * The kinds of a duration, with and without the span, and the sources of
 * call_postprocessing's other values.
 */

static void
test_postprocessing(void **state)
{
    static const char  *open[] = {
        "2", "vaani:call:r", "stream",
        DIGITS("781013010010000", "0", "C", "*", "call_postprocessing"),
        HEAD("call_postprocessing", "r"), TAIL, "payload", "1000",
        "id", "42", "41500",
        "postprocessed", "1", "vaani:events", "vaani:room:r"
    };

    static const char  *known[] = {
        "2", "vaani:call:r", "stream",
        DIGITS("781012130013221", "0", "C", "*", "call_postprocessing"),
        HEAD("call_postprocessing", "r"), TAIL, "payload", "1000",
        "id", "41500",
        "42000", "web-user", "",
        "picked_up_at", "1791531077000", "call_ended_at", "1791531119000",
        "postprocessed", "1", "vaani:events", "vaani:room:r"
    };

    static const char  *span[] = {
        "2", "vaani:call:r", "stream",
        DIGITS("781010130010010", "0", "C", "*", "call_postprocessing"),
        HEAD("call_postprocessing", "r"), TAIL, "payload", "1000",
        "id", "42000", "",
        "picked_up_at", "1791531077000", "call_ended_at", "1791531119000",
        "postprocessed", "1", "vaani:events", "vaani:room:r"
    };

    (void) state;

    check_args("{\"event\":\"call_postprocessing\",\"room_name\":\"r\","
               "\"call_duration\":41.5}",
               &test_sample, open);

    check_args("{\"event\":\"call_postprocessing\",\"room_name\":\"r\","
               "\"from\":\"web-user\",\"data\":{\"call_duration\":41.5,"
               "\"picked_up_at\":\"2026-10-09T07:31:17Z\","
               "\"call_ended_at\":\"2026-10-09T07:31:59Z\","
               "\"call_type\":\"webrtc_call\",\"end_reason\":\"\"}}",
               &test_sample, known);

    check_args("{\"event\":\"call_postprocessing\",\"room_name\":\"r\","
               "\"phone_number\":\"\","
               "\"picked_up_at\":\"2026-10-09T07:31:17Z\","
               "\"call_ended_at\":\"2026-10-09T07:31:59Z\"}",
               &test_sample, span);
}


/*
 * The digits: an event that came before its sender counted, from a sender
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

    assert_memory_equal(args[3].data, "440f000314000000", 16);

    /* without an id the fields follow the common part */

    assert_int_equal(args[8].len, 13);
    assert_memory_equal(args[8].data, "transfer_type", 13);

    vaani_test_arena_free(&arena);

    /* an event that was unknown when it was spooled has no digest */

    delivery.digest.len = 0;

    vaani_test_arena_init(&arena);

    assert_int_equal(test_args(body, &delivery, &arena, &args, &nargs),
                     VAANI_OK);
    assert_memory_equal(args[3].data + 21, "+        1790", 13);

    vaani_test_arena_free(&arena);
}


/*
 * A status that is not in the ladder is an argument of its own.
 */

static void
test_status(void **state)
{
    size_t               nargs;
    vaani_str_t          text, *args;
    vaani_event_t        event;
    vaani_test_arena_t   arena;
    vaani_event_error_t  error;

    static const vaani_str_t  none;

    (void) state;

    vaani_test_arena_init(&arena);

    assert_int_equal(test_args("{\"event\":\"call_started\","
                               "\"room_name\":\"r\",\"status\":\"on hold\"}",
                               &test_sample, &arena, &args, &nargs),
                     VAANI_OK);

    assert_memory_equal(args[3].data, "1100100000100001", 16);
    assert_int_equal(args[8].len, 7);
    assert_memory_equal(args[8].data, "on hold", 7);

    vaani_test_arena_free(&arena);

    /* nor an empty one, which no event can have */

    vaani_test_arena_init(&arena);

    text = (vaani_str_t) vaani_string("{\"event\":\"call_started\","
                                      "\"room_name\":\"r\"}");

    assert_int_equal(vaani_event_parse(&event, &text, &none, 0, 0,
                                       &arena.alloc, &error),
                     VAANI_OK);

    event.status.len = 0;

    assert_int_equal(vaani_transition_args(&event, &test_sample, &arena.alloc,
                                           &args, &nargs),
                     VAANI_OK);

    assert_memory_equal(args[3].data, "1000100000100001", 16);
    assert_int_equal(args[8].len, 0);

    vaani_test_arena_free(&arena);
}


/*
 * The code of an event cannot be part of a digest, is unique, and is the same
 * in every version.
 */

static void
test_codes(void **state)
{
    size_t                     n;
    const vaani_event_type_t  *type;

    static const char  codes[] = "!#$%&(+++)*";

    (void) state;

    for (n = 0; (type = vaani_event_row(n)) != NULL; n++) {
        assert_true(n < sizeof(codes) - 1);
        assert_int_equal(type->code, codes[n]);
        assert_int_equal(type->code == '+', type->transfer.len != 0);
    }

    assert_int_equal(n, sizeof(codes) - 1);
}


/*
 * The script has the names of the ladders, too.
 */

static void
test_ladders(void **state)
{
    char                name[64], *p;
    size_t              len;
    unsigned            rank;
    const vaani_str_t  *status;

    static char  script[65536];

    (void) state;

    assert_true(vaani_transition_script.len < sizeof(script));
    memcpy(script, vaani_transition_script.data, vaani_transition_script.len);

    for (rank = 1; (status = vaani_status_name(rank)) != NULL; rank++) {
        len = vaani_status_name(rank + 1)
              ? snprintf(name, sizeof(name), "rank == %u and '%.*s'",
                         '0' + rank, (int) status->len,
                         (const char *) status->data)
              : snprintf(name, sizeof(name), "or '%.*s'\nend",
                         (int) status->len, (const char *) status->data);

        assert_true(len < sizeof(name));
        vaani_test_that(strstr(script, name) != NULL, "no %s", name);
    }

    p = strstr(script, "local outcomes = {");
    assert_non_null(p);

    for (rank = 1; rank <= 4; rank++) {
        p = strchr(p, '\'') + 1;
        len = strcspn(p, "'");
        assert_int_equal(vaani_outcome_rank(&(vaani_str_t) { len,
                                            (const u_char *) p }), rank);
        p += len + 1;
    }
}


/*
 * The expiry has another period after each hundredth of it, and the script
 * adds that; without an expiry, there is one period.
 */

static void
test_period(void **state)
{
    size_t               n, nargs;
    vaani_str_t         *args;
    vaani_delivery_t     delivery;
    vaani_test_arena_t   arena;

    static const struct {
        uint64_t         ttl;           /* ms */
        uint64_t         applied_at;
        const char      *period;
        const char      *expiry;        /* the digits end with it */
    } tests[] = {
        { 0, 1790000000123ULL, "...", "call_ringing0" },
        { 1, 64 * 64 * 64 - 1, "___", "call_ringing1" },
        { 1, 64 * 64 * 64, "AAA", "call_ringing1" },
        { 99, 63, "AA_", "call_ringing99" },
        { 100, 63, "AA_", "call_ringing101" },
        { 1000, 639, "AA_", "call_ringing1010" },
        { 1000, 640, "ABA", "call_ringing1010" },
        { 604800000, 1790000000123ULL, "IQd", "call_ringing610848000" },
        { UINT64_MAX, 1790000000123ULL, "AAA",
          "call_ringing18446744073709551615" }
    };

    (void) state;

    for (n = 0; n < vaani_test_nelems(tests); n++) {
        delivery = test_sample;
        delivery.ttl = tests[n].ttl;
        delivery.applied_at = tests[n].applied_at;

        vaani_test_arena_init(&arena);

        assert_int_equal(test_args("{\"event\":\"call_ringing\","
                                   "\"room_name\":\"r\"}",
                                   &delivery, &arena, &args, &nargs),
                         VAANI_OK);

        assert_memory_equal(args[3].data + 18, tests[n].period, 3);
        assert_int_equal(args[3].len, 56 + strlen(tests[n].expiry));
        assert_memory_equal(args[3].data + 56, tests[n].expiry,
                            strlen(tests[n].expiry));

        vaani_test_arena_free(&arena);
    }
}


/*
 * The script gets nothing else of an event that it cannot apply.
 */

static void
test_unknown(void **state)
{
    static const char  *unknown[] = {
        "2", "vaani:call:r", "stream", "0",
        HEAD("x", "r"), TAIL, "payload", "1000", "vaani:events", "vaani:room:r"
    };

    (void) state;

    check_args("{\"event\":\"x\",\"room_name\":\"r\"}", &test_sample, unknown);
}


/*
 * An event without a call has no room and no key in its message.
 */

static void
test_no_room(void **state)
{
    static const char  *unknown[] = {
        "2", "vaani:call:r", "stream", "0",
        "\"id\":\"message\",\"event\":\"x\",",
        "\"received_at\":1790000000123,\"payload\":", "payload", "1000",
        "vaani:events", "vaani:room:r"
    };

    (void) state;

    check_args("{\"event\":\"x\"}", &test_sample, unknown);
}


/*
 * A room that is a number in the body is a string in the message.
 */

static void
test_number_for_room(void **state)
{
    static const char  *unknown[] = {
        "2", "vaani:call:r", "stream", "0",
        HEAD("x", "12.50"), TAIL, "payload", "1000", "vaani:events",
        "vaani:room:r"
    };

    (void) state;

    check_args("{\"event\":\"x\",\"call_id\":12.50}", &test_sample, unknown);
}


static void
test_no_stream(void **state)
{
    vaani_delivery_t  delivery;

    static const char  *unknown[] = {
        "1", "vaani:call:r", "0",
        HEAD("x", "r"),
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


/*
 * The keys of the index begin like that of the call.  An event without a call
 * has none of them, nor has a key that does not end with the room's name.
 */

static void
test_index(void **state)
{
    vaani_delivery_t  delivery;

    static const char  *both[] = {
        "4", "vaani:call:r", "stream", "vaani:active", "vaani:calls",
        DIGITS("230010002012100", "0", "<", "#", "call_ringing"),
        HEAD("call_ringing", "r"), TAIL, "payload", "1000",
        "id",
        "vaani:events", "vaani:room:r"
    };

    static const char  *alone[] = {
        "3", "vaani:call:r", "vaani:active", "vaani:calls",
        DIGITS("230010002012100", "0", "<", "#", "call_ringing"),
        HEAD("call_ringing", "r"), TAIL, "payload",
        "id",
        "vaani:events", "vaani:room:r"
    };

    static const char  *early[] = {
        "3", "vaani:call:r", "vaani:active", "vaani:calls",
        "230010003012100" "0" "=" "<" "IQd" "#" "0123dige" "1790000000124"
        "1790000000123" "call_ringing" "610848000",
        HEAD("call_ringing", "r"), TAIL, "payload",
        "id",
        "vaani:events", "vaani:room:r"
    };

    static const char  *no_prefix[] = {
        "3", ":call:r", ":active", ":calls",
        DIGITS("230010002012100", "0", "<", "#", "call_ringing"),
        HEAD("call_ringing", "r"),
        "\"received_at\":1790000000123,\"key\":\":call:r\",\"payload\":",
        "payload",
        "id",
        "vaani:events", "vaani:room:r"
    };

    static const char  *short_key[] = {
        "1", "call:r",
        DIGITS("230010000012100", "0", "<", "#", "call_ringing"),
        HEAD("call_ringing", "r"),
        "\"received_at\":1790000000123,\"key\":\"call:r\",\"payload\":",
        "payload",
        "id",
        "vaani:events", "vaani:room:r"
    };

    static const char  *unknown[] = {
        "1", "vaani:call:r", "0",
        HEAD("x", "r"), TAIL, "payload",
        "vaani:events", "vaani:room:r"
    };

    static const char  ringing[] =
        "{\"event\":\"call_ringing\",\"room_name\":\"r\"}";

    (void) state;

    delivery = test_sample;

    delivery.index = 1;
    check_args(ringing, &delivery, both);

    delivery.stream.len = 0;
    check_args(ringing, &delivery, alone);
    check_args("{\"event\":\"x\",\"room_name\":\"r\"}", &delivery, unknown);

    delivery.since = delivery.received_at + 1;
    check_args(ringing, &delivery, early);

    delivery.since = test_sample.since;
    delivery.key.data = (const u_char *) ":call:r";
    delivery.key.len = 7;
    check_args(ringing, &delivery, no_prefix);

    delivery.key.data++;
    delivery.key.len--;
    check_args(ringing, &delivery, short_key);
}


/*
 * Sharded channels come last, after an argument that is not a channel.
 */

static void
test_sharded(void **state)
{
    vaani_delivery_t  delivery;

    static const char  *one[] = {
        "2", "vaani:call:r", "stream", "0",
        HEAD("x", "r"), TAIL, "payload", "1000", "vaani:events", "",
        "vaani:room:r"
    };

    static const char  *all[] = {
        "2", "vaani:call:r", "stream", "0",
        HEAD("x", "r"), TAIL, "payload", "1000", "", "vaani:events",
        "vaani:room:r"
    };

    (void) state;

    delivery = test_sample;

    delivery.nsharded = 1;
    check_args("{\"event\":\"x\",\"room_name\":\"r\"}", &delivery, one);

    delivery.nsharded = 2;
    check_args("{\"event\":\"x\",\"room_name\":\"r\"}", &delivery, all);
}


static void
test_replayed(void **state)
{
    vaani_delivery_t  delivery;

    static const char  *unknown[] = {
        "1", "a\"b", "0",
        "\"id\":\"m\\\"\\\\\",\"event\":\"x\",\"room_name\":\"r\",",
        ("\"received_at\":0,\"key\":\"a\\\"b\",\"replayed\":true,"
         "\"repaired\":true,\"payload\":"),
        "payload"
    };

    (void) state;

    delivery = test_sample;

    delivery.key.data = (u_char *) "a\"b";
    delivery.key.len = 3;
    delivery.stream.len = 0;
    delivery.nchannels = 0;
    delivery.message.data = (u_char *) "m\\\"\\\\";
    delivery.message.len = 5;
    delivery.received_at = 0;
    delivery.replayed = 1;
    delivery.repaired = 1;

    check_args("{\"event\":\"x\",\"room_name\":\"r\"}", &delivery, unknown);
}


/*
 * Instead of its payload, an event has its size; an unknown event has only the
 * payload.
 */

static void
test_omitted(void **state)
{
    vaani_delivery_t  delivery;

    static const char  *ringing[] = {
        "2", "vaani:call:r", "stream",
        DIGITS("230010000012100", "0", "<", "#", "call_ringing"),
        HEAD("call_ringing", "r"), TAIL, "null,\"payload_bytes\":7", "1000",
        "id", "vaani:events", "vaani:room:r"
    };

    static const char  *unknown[] = {
        "2", "vaani:call:r", "stream", "0",
        HEAD("x", "r"), TAIL, "payload", "1000", "vaani:events", "vaani:room:r"
    };

    (void) state;

    delivery = test_sample;
    delivery.omit_payload = 1;

    check_args("{\"event\":\"call_ringing\",\"room_name\":\"r\"}", &delivery,
               ringing);

    check_args("{\"event\":\"x\",\"room_name\":\"r\"}", &delivery, unknown);
}


/*
 * Everything present, and as long as possible: the sanitizers check that the
 * buffer is large enough.
 */

static void
test_largest(void **state)
{
    char                body[1024];
    size_t              nargs;
    unsigned            known;
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
    delivery.message = delivery.key;
    delivery.replayed = 1;
    delivery.repaired = 1;
    delivery.nsharded = 2;
    delivery.omit_payload = 1;
    delivery.payload.len = SIZE_MAX;

    for (known = 0; known < 2; known++) {
        vaani_test_arena_init(&arena);

        sprintf(body, "{\"event\":\"call_postprocessing\",\"room_name\":\"r\","
                      "\"call_duration\":1e300,\"transcript\":\"t\","
                      "\"summary\":\"s\",\"recording_url\":\"u\","
                      "\"entities\":{},\"dispositions\":{},"
                      "\"end_reason\":\"e\",\"phone_number\":\"n\","
                      "\"from\":\"f\",\"call_type\":\"web\","
                      "\"call_dialing_at\":\"9999-12-31T23:59:59Z\","
                      "\"call_ringing_at\":\"9999-12-31T23:59:59Z\","
                      "\"picked_up_at\":\"1970-01-01T00:00:00Z\","
                      "\"call_started_at\":\"1970-01-01T00:00:01Z\","
                      "\"call_ended_at\":\"%s\"}",
                known ? "9999-12-31T23:59:59-23:59" : "1970-01-01T00:00:01Z");

        assert_int_equal(test_args(body, &delivery, &arena, &args, &nargs),
                         VAANI_OK);

        /*
         * a span of 0 leaves the unit open, a short one would reject both
         * readings
         */

        assert_int_equal(args[3].data[5], known ? '0' : '3');
        assert_int_equal(args[3].data[6], known ? '1' : '0');

        assert_int_equal(nargs, 3 + 5 + 1 + (known ? 1 : 2) + 2 + 11 * 2 + 3);

        /* five values and five times; after them, the channels */

        assert_memory_equal(args[nargs - 5].data, "postprocessed", 13);
        assert_memory_equal(args[3].data + 43, "18446744073709551615", 20);
        assert_memory_equal(args[6].data, "null,\"payload_bytes\":",
                            sizeof("null,\"payload_bytes\":") - 1);

        vaani_test_arena_free(&arena);
    }
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
 * The script's results: all possible ones, and impossible ones.
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
        cmocka_unit_test(test_postprocessing),
        cmocka_unit_test(test_digits),
        cmocka_unit_test(test_status),
        cmocka_unit_test(test_codes),
        cmocka_unit_test(test_ladders),
        cmocka_unit_test(test_period),
        cmocka_unit_test(test_unknown),
        cmocka_unit_test(test_no_room),
        cmocka_unit_test(test_number_for_room),
        cmocka_unit_test(test_no_stream),
        cmocka_unit_test(test_index),
        cmocka_unit_test(test_sharded),
        cmocka_unit_test(test_replayed),
        cmocka_unit_test(test_omitted),
        cmocka_unit_test(test_largest),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_read),
        cmocka_unit_test(test_status_names),
    };

    return cmocka_run_group_tests_name("transition", tests, NULL, NULL);
}
