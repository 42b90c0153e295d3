
/*
 * The name of a call is found in each of its places, and with it the call's
 * direction.
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "vaani_event_check.h"


#define PLACES  4


static size_t put_places(char *dst, const char *event, const char **values);
static void check_direction(const char *room, const char *members,
    const char *event, vaani_direction_e direction, vaani_source_e source);


/*
 * Makes a body with these values, JSON, at room_name, data.room_name, call_id
 * and data.call_id; NULL: absent.
 */

static size_t
put_places(char *dst, const char *event, const char **values)
{
    char  *p;

    p = dst + sprintf(dst, "{\"event\":\"%s\"", event);

    if (values[0]) {
        p += sprintf(p, ",\"room_name\":%s", values[0]);
    }

    if (values[2]) {
        p += sprintf(p, ",\"call_id\":%s", values[2]);
    }

    p += sprintf(p, ",\"data\":{\"a\":1");

    if (values[3]) {
        p += sprintf(p, ",\"call_id\":%s", values[3]);
    }

    if (values[1]) {
        p += sprintf(p, ",\"room_name\":%s", values[1]);
    }

    return p + sprintf(p, "}}") - dst;
}


/*
 * Every combination of names in the four places: good ones, bad ones, none.
 */

static void
test_places(void **state)
{
    char                text[512];
    size_t              n, k, rest;
    const char         *values[PLACES];
    static const char  *names[] = {
        NULL, "null", "\"\"", "\"a\"", "\"\\u0061\"", "\"b\"", "7", "[]",
        "\"\\n\"", "\"\\ud800\""
    };
    static const char  *events[] = { "call_ringing", "a_new_one" };

    (void) state;

    for (n = 0; n < 10 * 10 * 10 * 10; n++) {
        rest = n;

        for (k = 0; k < PLACES; k++) {
            values[k] = names[rest % 10];
            rest /= 10;
        }

        for (k = 0; k < vaani_test_nelems(events); k++) {
            check_verdict(text, put_places(text, events[k], values));
        }
    }
}


/*
 * Which one counts, in plain cases.
 */

static void
test_first_one(void **state)
{
    size_t    n;
    parsed_t  p;

    static const struct {
        const char  *text;
        const char  *room;          /* NULL: refused */
        size_t       nnotes;
    } rows[] = {
        { "{\"event\":\"call_ringing\",\"room_name\":\"1\",\"call_id\":\"1\"}",
          "1", 0 },
        { "{\"event\":\"call_ringing\",\"call_id\":\"1\"}", "1", 0 },
        { "{\"event\":\"call_ringing\",\"data\":{\"call_id\":\"1\"}}", "1",
          0 },
        { "{\"event\":\"call_ringing\",\"data\":{\"room_name\":\"1\"},"
          "\"call_id\":\"2\"}", "1", 1 },
        { "{\"event\":\"call_ringing\",\"call_id\":\"3\","
          "\"data\":{\"call_id\":\"2\",\"room_name\":\"\"},\"room_name\":null}",
          "3", 1 },
        { "{\"event\":\"call_ringing\",\"room_name\":\"1\",\"call_id\":\"2\","
          "\"data\":{\"room_name\":\"3\",\"call_id\":\"4\"}}", "1", 3 },
        { "{\"event\":\"call_ringing\",\"room_name\":\"1\","
          "\"call_id\":\"\\u0031\"}", "1", 0 },
        { "{\"event\":\"call_ringing\",\"data\":[{\"call_id\":\"1\"}]}", NULL,
          0 },
        { "{\"event\":\"call_ringing\",\"call\":{\"call_id\":\"1\"}}", NULL,
          0 }
    };

    (void) state;

    for (n = 0; n < vaani_test_nelems(rows); n++) {
        parse_text(&p, rows[n].text, 1);

        if (rows[n].room == NULL) {
            check_invalid(&p, "room_name", MISSING);
            parsed_free(&p);
            continue;
        }

        check_valid(&p);

        vaani_test_that(vaani_contract_str_is(&p.event.room, rows[n].room)
                        && p.event.nnotes == rows[n].nnotes,
                        "%s: %s, %zu notes", rows[n].text,
                        vaani_test_show_str(&p.event.room), p.event.nnotes);

        /* names only, no values */

        while (rows[n].nnotes && p.event.nnotes--) {
            vaani_test_that(p.event.notes[p.event.nnotes].kind
                            == VAANI_NOTE_CALL
                            && p.event.notes[p.event.nnotes].name.len >= 7,
                            "%s: a note", rows[n].text);
        }

        parsed_free(&p);
    }
}


/*
 * The position of a refused name.
 */

static void
test_refused(void **state)
{
    size_t    n;
    parsed_t  p;
    unsigned  strict;

    static const struct {
        const char  *members;
        const char  *field;
        unsigned     nested;
        const char  *reason;
    } rows[] = {
        { "\"call_id\":\"\"", "call_id", 0, ROOM },
        { "\"data\":{\"call_id\":\"\"}", "call_id", 1, ROOM },
        { "\"data\":{\"room_name\":\"\",\"call_id\":\"\"}", "room_name", 1,
          ROOM },
        { "\"data\":{\"call_id\":[]},\"room_name\":\"\"", "call_id", 1,
          MISTYPED },
        { "\"data\":{\"room_name\":\"\\u0007\"}", "room_name", 1, ROOM },
        { "\"call_id\":true", "call_id", 0, MISTYPED },
        { "\"data\":{}", "room_name", 0, MISSING },
        { "\"data\":{\"call_id\":null}", "room_name", 0, MISSING }
    };

    char  text[256];

    (void) state;

    for (n = 0; n < vaani_test_nelems(rows); n++) {
        sprintf(text, "{\"event\":\"call_ringing\",%s}", rows[n].members);

        for (strict = 0; strict < 2; strict++) {
            parse_text(&p, text, strict);
            check_refused(&p, rows[n].field, rows[n].nested, rows[n].reason);
            assert_null(p.event.room.data);
            parsed_free(&p);
        }

        check_text(text);
    }
}


/*
 * A number is a name exactly as it is written, with the usual maximum length.
 */

static void
test_numbers(void **state)
{
    char      text[512];
    size_t    len;
    parsed_t  p;

    (void) state;

    parse_text(&p, "{\"event\":\"call_ringing\",\"room_name\":-1.50e3}", 0);
    check_valid(&p);
    assert_true(vaani_contract_str_is(&p.event.room, "-1.50e3"));
    assert_true(vaani_contract_str_is(&p.event.room_json, "\"-1.50e3\""));
    assert_int_equal(p.event.nnotes, 1);
    assert_int_equal(p.event.notes[0].kind, VAANI_NOTE_CONVERTED);
    parsed_free(&p);

    parse_text(&p, "{\"event\":\"call_ringing\",\"room_name\":1}", 1);
    check_invalid(&p, "room_name", MISTYPED);
    parsed_free(&p);

    for (len = 255; len <= 258; len++) {
        sprintf(text, "{\"event\":\"call_ringing\",\"call_id\":1.%0*d}",
                (int) len - 2, 0);

        parse_text(&p, text, 0);

        if (len <= 256) {
            check_valid(&p);
            assert_int_equal(p.event.room.len, len);

        } else {
            check_invalid(&p, "call_id", MISTYPED);
        }

        parsed_free(&p);
        check_text(text);
    }
}


static void
check_direction(const char *room, const char *members, const char *event,
    vaani_direction_e direction, vaani_source_e source)
{
    char      text[512];
    parsed_t  p;

    sprintf(text, "{\"event\":\"%s\",\"room_name\":\"%s\",%s}", event, room,
            members);

    parse_text(&p, text, 0);
    check_valid(&p);

    vaani_test_that(p.event.direction == direction
                    && p.event.direction_source == source,
                    "%s: direction %d, source %d", text, p.event.direction,
                    p.event.direction_source);

    parsed_free(&p);

    check_text(text);
}


static void
test_directions(void **state)
{
    size_t  n, i, k, r;
    char    members[128];

    static const struct {
        const char         *room;
        vaani_direction_e   direction;
    } rooms[] = {
        { "inbound-1784899978-36cec598", VAANI_DIRECTION_INBOUND },
        { "outbound-1784899978-36cec598", VAANI_DIRECTION_OUTBOUND },
        { "webrtc-1791000000-abc", VAANI_DIRECTION_WEB },
        { "inbound-", VAANI_DIRECTION_INBOUND },
        { "inbound", VAANI_DIRECTION_UNKNOWN },
        { "Inbound-1", VAANI_DIRECTION_UNKNOWN },
        { " inbound-1", VAANI_DIRECTION_UNKNOWN },
        { "web-1", VAANI_DIRECTION_UNKNOWN },
        { "webrtc_1", VAANI_DIRECTION_UNKNOWN },
        { "room_123abc", VAANI_DIRECTION_UNKNOWN }
    };

    static const struct {
        const char         *raw;
        vaani_direction_e   direction;
    } types[] = {
        { "null", VAANI_DIRECTION_UNKNOWN },
        { "\"\"", VAANI_DIRECTION_UNKNOWN },
        { "\"webrtc_call\"", VAANI_DIRECTION_WEB },
        { "\"WebRTC\"", VAANI_DIRECTION_WEB },
        { "\"web\"", VAANI_DIRECTION_WEB },
        { "\"inbound_call\"", VAANI_DIRECTION_INBOUND },
        { "\"SIP-INBOUND\"", VAANI_DIRECTION_INBOUND },
        { "\"outbound\"", VAANI_DIRECTION_OUTBOUND },
        { "\"an out\\u0062ound one\"", VAANI_DIRECTION_OUTBOUND },
        { "\"out bound\"", VAANI_DIRECTION_UNKNOWN },
        { "\"inboun\"", VAANI_DIRECTION_UNKNOWN },
        { "\"we\\u0000b\"", VAANI_DIRECTION_UNKNOWN },
        { "5", VAANI_DIRECTION_UNKNOWN },
        { "[\"web\"]", VAANI_DIRECTION_UNKNOWN }
    };

    (void) state;

    for (n = 0; n < vaani_test_nelems(rooms); n++) {

        /* the name overrides everything else */

        k = rooms[n].direction;
        r = k ? VAANI_SOURCE_ROOM : VAANI_SOURCE_NONE;

        check_direction(rooms[n].room, "\"a\":1", "user_picked_up_at", k, r);
        check_direction(rooms[n].room, "\"a\":1", "a_new_one", k, r);

        check_direction(rooms[n].room, "\"a\":1", "call_ringing",
                        k ? k : VAANI_DIRECTION_OUTBOUND,
                        k ? r : VAANI_SOURCE_EVENT);

        check_direction(rooms[n].room, "\"status\":\"dialing\"",
                        "call_started", k ? k : VAANI_DIRECTION_OUTBOUND,
                        k ? r : VAANI_SOURCE_EVENT);

        check_direction(rooms[n].room, "\"status\":\"connected\"",
                        "call_started", k, r);

        for (i = 0; i < vaani_test_nelems(types); i++) {
            sprintf(members, "\"data\":{\"call_type\":%s}", types[i].raw);

            check_direction(rooms[n].room, members, "call_postprocessing",
                            k ? k : types[i].direction,
                            k ? r : types[i].direction
                            ? VAANI_SOURCE_CALL_TYPE : VAANI_SOURCE_NONE);

            /* other events have no such field */

            check_direction(rooms[n].room, members, "call_ended", k, r);
        }
    }
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_places),
        cmocka_unit_test(test_first_one),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_directions)
    };

    return cmocka_run_group_tests_name("event call", tests, NULL, NULL);
}
