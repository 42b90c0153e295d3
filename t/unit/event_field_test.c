
/*
 * Fields are read from "data" and from the event itself.  In lenient mode,
 * values of another type are converted or left out, and noted.
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


#define POST  "{\"event\":\"call_postprocessing\",\"room_name\":\"r\","


static void check_value(const char *raw, const char *field,
    const char *value, vaani_note_e note);
static const char *deliveries(size_t n);


/* no note at all */

#define NOTHING  ((vaani_note_e) -1)


/*
 * A field of call_postprocessing in lenient mode; value is NULL if the field
 * is left out.
 */

static void
check_value(const char *raw, const char *field, const char *value,
    vaani_note_e note)
{
    char                text[512];
    parsed_t            p;
    unsigned            nested, strict;
    const vaani_str_t  *str;

    for (nested = 0; nested < 2; nested++) {
        sprintf(text, nested ? POST "\"data\":{\"%s\":%s}}"
                             : POST "\"%s\":%s}", field, raw);

        for (strict = 0; strict < 2; strict++) {
            parse_text(&p, text, strict);

            if (strict && note != NOTHING) {
                check_refused(&p, field, nested, MISTYPED);
                parsed_free(&p);
                continue;
            }

            check_valid(&p);

            str = value_of(&p.event, field);

            vaani_test_that((str->data != NULL) == (value != NULL)
                            && (value == NULL
                                || vaani_contract_str_is(str, value)),
                            "%s: %s", text, vaani_test_show_str(str));

            vaani_test_that(p.event.nnotes == (note != NOTHING),
                            "%s: %zu notes", text, p.event.nnotes);

            if (note != NOTHING) {
                vaani_test_that(p.event.notes[0].kind == note
                                && p.event.notes[0].nested == nested
                                && vaani_contract_str_is(
                                       &p.event.notes[0].name, field),
                                "%s: note %d", text, p.event.notes[0].kind);
            }

            parsed_free(&p);
        }

        check_text(text);
    }
}


static void
test_conversions(void **state)
{
    (void) state;

    /* texts */

    check_value("\"s\"", "summary", "s", NOTHING);
    check_value("\"\"", "summary", "", NOTHING);
    check_value("null", "summary", NULL, NOTHING);
    check_value("486", "summary", "486", VAANI_NOTE_CONVERTED);
    check_value("-1.50E+3", "summary", "-1.50E+3", VAANI_NOTE_CONVERTED);
    check_value("true", "summary", NULL, VAANI_NOTE_IGNORED);
    check_value("[\"s\"]", "summary", NULL, VAANI_NOTE_IGNORED);
    check_value("{}", "summary", NULL, VAANI_NOTE_IGNORED);
    check_value("\"a\\ud83d\"", "summary", "a\xef\xbf\xbd", NOTHING);

    /* only a transcript can be an array of turns */

    check_value("[\"a\",{\"role\":\"u\",\"text\":\"b\"}]", "transcript",
                "a\nU: b", VAANI_NOTE_CONVERTED);
    check_value("\"a\\nb\"", "transcript", "a\nb", NOTHING);
    check_value("5", "transcript", "5", VAANI_NOTE_CONVERTED);
    check_value("[]", "transcript", NULL, VAANI_NOTE_IGNORED);
    check_value("[5]", "transcript", NULL, VAANI_NOTE_IGNORED);
    check_value("{\"text\":\"t\"}", "transcript", NULL, VAANI_NOTE_IGNORED);

    /* objects */

    check_value("{ \"a\":1}", "entities", "{ \"a\":1}", NOTHING);
    check_value("{}", "dispositions", "{}", NOTHING);
    check_value("[]", "entities", NULL, VAANI_NOTE_CONVERTED);
    check_value("[ \t]", "entities", NULL, VAANI_NOTE_CONVERTED);
    check_value("\"\"", "dispositions", NULL, VAANI_NOTE_CONVERTED);
    check_value("null", "entities", NULL, NOTHING);
    check_value("[{}]", "entities", NULL, VAANI_NOTE_IGNORED);
    check_value("\"{}\"", "entities", NULL, VAANI_NOTE_IGNORED);
    check_value("0", "entities", NULL, VAANI_NOTE_IGNORED);
    check_value("false", "entities", NULL, VAANI_NOTE_IGNORED);

    /* times */

    check_value("\"2026-10-09T07:31:17.602249+00:00\"", "picked_up_at",
                "1791531077602", NOTHING);
    check_value("\"2026-10-09T07:31:17\\u005a\"", "call_dialing_at",
                "1791531077000", NOTHING);
    check_value("\"1970-01-01T00:00:00Z\"", "call_ended_at", "0", NOTHING);
    check_value("\"\"", "call_started_at", NULL, VAANI_NOTE_IGNORED);
    check_value("\"soon\"", "call_ringing_at", NULL, VAANI_NOTE_IGNORED);
    check_value("1791531077", "call_ringing_at", NULL, VAANI_NOTE_IGNORED);
}


/*
 * In "data" or in the event itself; null in one place counts as absent there.
 */

static void
test_places(void **state)
{
    size_t    n;
    parsed_t  p;

    static const struct {
        const char  *members;
        const char  *summary;       /* NULL: none */
    } rows[] = {
        { "\"summary\":\"a\"", "a" },
        { "\"data\":{\"summary\":\"a\"}", "a" },
        { "\"summary\":\"a\",\"data\":{\"summary\":\"b\"}", "b" },
        { "\"summary\":\"a\",\"data\":{\"summary\":null}", "a" },
        { "\"summary\":null,\"data\":{\"summary\":\"b\"}", "b" },
        { "\"summary\":null,\"data\":{\"summary\":null}", NULL },
        { "\"summary\":\"a\",\"data\":{\"summary\":\"\"}", "" },
        { "\"summary\":\"a\",\"data\":null", "a" },
        { "\"summary\":\"a\",\"data\":[{\"summary\":\"b\"}]", "a" },
        { "\"summary\":\"a\",\"data\":\"b\"", "a" },
        { "\"data\":{\"data\":{\"summary\":\"a\"}}", NULL },
        { "\"data\":{\"event\":\"x\",\"summary\":\"a\"}", "a" }
    };

    char  text[256];

    (void) state;

    for (n = 0; n < vaani_test_nelems(rows); n++) {
        sprintf(text, POST "%s}", rows[n].members);

        parse_text(&p, text, 1);
        check_valid(&p);

        vaani_test_that((value_of(&p.event, "summary")->data != NULL)
                        == (rows[n].summary != NULL)
                        && (rows[n].summary == NULL
                            || vaani_contract_str_is(
                                   value_of(&p.event, "summary"),
                                   rows[n].summary)),
                        "%s: %s", text,
                        vaani_test_show_str(value_of(&p.event, "summary")));

        parsed_free(&p);
        check_text(text);
    }

    /* a bad one in "data" is not replaced by the one in the event */

    sprintf(text, POST "\"summary\":\"a\",\"data\":{\"summary\":[]}}");

    parse_text(&p, text, 1);
    check_refused(&p, "summary", 1, MISTYPED);
    parsed_free(&p);

    check_text(text);

    /* the last one of a repeated key */

    check_text(POST "\"summary\":1,\"summary\":\"a\"}");
    check_text(POST "\"summary\":\"a\",\"summary\":null}");
    check_text(POST "\"data\":{\"summary\":\"a\",\"summary\":\"b\"}}");
    check_text(POST "\"data\":{\"summary\":\"a\"},\"data\":{}}");
}


/*
 * Phone numbers and reasons by source, and their ranks.
 */

static void
test_sources(void **state)
{
    size_t    n;
    parsed_t  p;
    char      text[512];

    static const struct {
        const char      *members;
        const char      *number;
        vaani_source_e   number_source;
        const char      *reason;
        vaani_source_e   reason_source;
    } rows[] = {
        { "\"event\":\"call_started\",\"phone_number\":\"+1\"", "+1", 3, "",
          0 },
        { "\"event\":\"call_started\",\"phone_number\":\"\"", "", 1, "", 0 },
        { "\"event\":\"call_started\",\"phone_number\":911", "911", 3, "", 0 },
        { "\"event\":\"call_started\",\"end_reason\":\"x\"", "", 0, "", 0 },
        { "\"event\":\"call_ended\",\"end_reason\":\"x\"", "", 0, "x", 3 },
        { "\"event\":\"call_ended\",\"end_reason\":\"\"", "", 0, "", 1 },
        { "\"event\":\"call_ended\",\"phone_number\":\"+1\"", "", 0, "", 0 },
        { "\"event\":\"call_postprocessing\",\"end_reason\":\"x\","
          "\"phone_number\":\"+1\"", "+1", 2, "x", 2 },
        { "\"event\":\"call_postprocessing\",\"end_reason\":\"\","
          "\"phone_number\":\"\"", "", 1, "", 1 },
        { "\"event\":\"call_postprocessing\",\"end_reason\":[],"
          "\"phone_number\":{}", "", 0, "", 0 },

        /* the number of a transfer is another one */

        { "\"event\":\"human_transfer_initiated\",\"phone_number\":\"+1\"", "",
          0, "", 0 },

        /* the owner of the number in "from" depends on the direction */

        { "\"event\":\"call_postprocessing\",\"from\":\"+1\"", "", 0, "", 0 },
        { "\"event\":\"call_postprocessing\",\"from\":\"+1\","
          "\"call_type\":\"inbound\"", "+1", 2, "", 0 },
        { "\"event\":\"call_postprocessing\",\"from\":\"+1\","
          "\"call_type\":\"webrtc\"", "+1", 2, "", 0 },
        { "\"event\":\"call_postprocessing\",\"from\":\"+1\","
          "\"call_type\":\"outbound\"", "", 0, "", 0 },
        { "\"event\":\"call_postprocessing\",\"from\":\"+1\","
          "\"call_id\":\"inbound-1\"", "+1", 2, "", 0 },
        { "\"event\":\"call_postprocessing\",\"from\":\"+1\","
          "\"call_id\":\"webrtc-1\"", "+1", 2, "", 0 },
        { "\"event\":\"call_postprocessing\",\"from\":\"+1\","
          "\"call_id\":\"outbound-1\",\"call_type\":\"inbound\"", "", 0, "",
          0 },
        { "\"event\":\"call_postprocessing\",\"from\":\"+1\","
          "\"phone_number\":\"+2\",\"call_type\":\"inbound\"", "+2", 2, "",
          0 },
        { "\"event\":\"call_postprocessing\",\"from\":\"+1\","
          "\"phone_number\":\"\",\"call_type\":\"inbound\"", "+1", 2, "", 0 },
        { "\"event\":\"call_postprocessing\",\"from\":\"\","
          "\"phone_number\":\"\",\"call_type\":\"inbound\"", "", 1, "", 0 },
        { "\"event\":\"call_postprocessing\",\"from\":\"\","
          "\"call_type\":\"inbound\"", "", 0, "", 0 },
        { "\"event\":\"call_postprocessing\",\"from\":5,"
          "\"call_type\":\"inbound\"", "5", 2, "", 0 },
        { "\"event\":\"call_postprocessing\",\"from\":\"+1\","
          "\"data\":{\"call_type\":\"web\",\"from\":\"+3\"}", "+3", 2, "", 0 },
        { "\"event\":\"call_ended\",\"from\":\"+1\","
          "\"call_id\":\"inbound-1\"", "", 0, "", 0 }
    };

    (void) state;

    for (n = 0; n < vaani_test_nelems(rows); n++) {
        sprintf(text, "{%s%s}", rows[n].members,
                strstr(rows[n].members, "call_id")
                ? "" : ",\"room_name\":\"r\"");

        parse_text(&p, text, 0);
        check_valid(&p);

        vaani_test_that(vaani_contract_str_is(&p.event.number, rows[n].number)
                        && p.event.number_source == rows[n].number_source,
                        "%s: number %s, source %d", text,
                        vaani_test_show_str(&p.event.number),
                        p.event.number_source);

        vaani_test_that(vaani_contract_str_is(&p.event.reason, rows[n].reason)
                        && p.event.reason_source == rows[n].reason_source,
                        "%s: reason %s, source %d", text,
                        vaani_test_show_str(&p.event.reason),
                        p.event.reason_source);

        parsed_free(&p);
        check_text(text);
    }
}


/*
 * The span of the sender's times, and the unit that follows from it.
 */

static void
test_spans(void **state)
{
    size_t    n;
    parsed_t  p;
    char      text[512];

    static const struct {
        const char         *members;
        uint64_t            span;
        vaani_duration_e    kind;
        uint64_t            ms;
    } rows[] = {
        { "\"picked_up_at\":\"2026-10-09T07:31:17Z\","
          "\"call_ended_at\":\"2026-10-09T07:31:59.5Z\"", 42500,
          VAANI_DURATION_NONE, 0 },
        { "\"call_started_at\":\"2026-10-09T07:31:17Z\","
          "\"call_ended_at\":\"2026-10-09T07:31:59Z\",\"call_duration\":41.5",
          42000, VAANI_DURATION_KNOWN, 41500 },
        { "\"call_started_at\":\"2026-10-09T07:30:17Z\","
          "\"picked_up_at\":\"2026-10-09T07:31:17Z\","
          "\"call_ended_at\":\"2026-10-09T07:31:59Z\",\"call_duration\":41500",
          42000, VAANI_DURATION_KNOWN, 41500 },
        { "\"picked_up_at\":\"2026-10-09T07:31:17Z\","
          "\"call_ended_at\":\"2026-10-09T07:31:59Z\",\"call_duration\":90000",
          42000, VAANI_DURATION_NONE, 0 },
        { "\"picked_up_at\":\"2026-10-09T07:31:17Z\","
          "\"call_ended_at\":\"2026-10-09T07:31:17Z\",\"call_duration\":5", 0,
          VAANI_DURATION_OPEN, 5 },
        { "\"picked_up_at\":\"2026-10-09T07:31:17Z\","
          "\"call_ended_at\":\"2026-10-09T07:31:16Z\",\"call_duration\":5", 0,
          VAANI_DURATION_OPEN, 5 },
        { "\"picked_up_at\":\"2026-10-09T07:31:17Z\",\"call_duration\":5", 0,
          VAANI_DURATION_OPEN, 5 },
        { "\"call_ended_at\":\"2026-10-09T07:31:17Z\",\"call_duration\":5", 0,
          VAANI_DURATION_OPEN, 5 },
        { "\"call_dialing_at\":\"2026-10-09T07:31:17Z\","
          "\"call_ended_at\":\"2026-10-09T07:31:59Z\",\"call_duration\":5", 0,
          VAANI_DURATION_OPEN, 5 },
        { "\"picked_up_at\":\"no\","
          "\"call_started_at\":\"2026-10-09T07:31:17Z\","
          "\"call_ended_at\":\"2026-10-09T07:31:59Z\",\"call_duration\":41",
          42000, VAANI_DURATION_KNOWN, 41000 },
        { "\"picked_up_at\":\"2026-10-09T09:31:17+02:00\",\"data\":{"
          "\"call_ended_at\":\"2026-10-09T07:31:59\",\"call_duration\":\"41\"}",
          42000, VAANI_DURATION_KNOWN, 41000 }
    };

    (void) state;

    for (n = 0; n < vaani_test_nelems(rows); n++) {
        sprintf(text, POST "%s}", rows[n].members);

        parse_text(&p, text, 0);
        check_valid(&p);

        vaani_test_that(p.event.duration.span == rows[n].span
                        && p.event.duration.kind == rows[n].kind
                        && (rows[n].kind == VAANI_DURATION_NONE
                            || p.event.duration.ms == rows[n].ms),
                        "%s: span %llu, kind %d, %llu", text,
                        (unsigned long long) p.event.duration.span,
                        p.event.duration.kind,
                        (unsigned long long) p.event.duration.ms);

        parsed_free(&p);
        check_text(text);
    }

    /* times in other events are ignored */

    sprintf(text, "{\"event\":\"call_ended\",\"room_name\":\"r\","
                  "\"call_duration\":5,"
                  "\"picked_up_at\":\"2026-10-09T07:31:17Z\","
                  "\"call_ended_at\":\"2026-10-09T07:31:59Z\"}");

    parse_text(&p, text, 1);
    check_valid(&p);
    assert_int_equal(p.event.duration.span, 0);
    assert_int_equal(p.event.duration.ms, 5000);
    parsed_free(&p);

    check_text(text);
}


/*
 * Members that are not in the table are noted by name, up to a limit.
 */

static void
test_notes(void **state)
{
    size_t    n, i;
    char      text[1024], *last;
    parsed_t  p;

    static const struct {
        const char   *members;
        const char   *name;         /* NULL: nothing is noted */
        unsigned      nested;
    } rows[] = {
        { "\"a\":1", "a", 0 },
        { "\"a\":null", NULL, 0 },
        { "\"\\u0061\":{}", "a", 0 },
        { "\"data\":{\"a\":1}", "a", 1 },
        { "\"data\":{\"a\":null}", NULL, 0 },
        { "\"data\":{}", NULL, 0 },
        { "\"data\":[]", "data", 0 },
        { "\"data\":{\"data\":{}}", "data", 1 },
        { "\"timestamp\":\"2026-10-09T00:11:18Z\"", NULL, 0 },
        { "\"call_id\":\"r\",\"data\":{\"event\":1,\"timestamp\":2}", NULL,
          0 },
        { "\"status\":\"ringing\",\"data\":{\"status\":\"ringing\"}", NULL,
          0 },
        { "\"phone_number\":\"+1\"", "phone_number", 0 },
        { "\"events\":{}", "events", 0 },
        { "\"\":0", "", 0 }
    };

    (void) state;

    for (n = 0; n < vaani_test_nelems(rows); n++) {
        sprintf(text, "{\"event\":\"call_ringing\",\"room_name\":\"r\",%s}",
                rows[n].members);

        parse_text(&p, text, 1);
        check_valid(&p);

        vaani_test_that(p.event.nnotes == (rows[n].name != NULL)
                        && (rows[n].name == NULL
                            || (p.event.notes[0].kind == VAANI_NOTE_NEW
                                && p.event.notes[0].nested == rows[n].nested
                                && vaani_contract_str_is(
                                       &p.event.notes[0].name,
                                       rows[n].name))),
                        "%s: %zu notes, /%s", text, p.event.nnotes,
                        vaani_test_show_str(&p.event.notes[0].name));

        parsed_free(&p);
        check_text(text);
    }

    /* the maximum number, and more */

    for (n = 19; n <= 22; n++) {
        last = text + sprintf(text, "{\"event\":\"call_ringing\","
                                    "\"room_name\":\"r\"");

        for (i = 0; i < n; i++) {
            last += sprintf(last, ",\"k%zu\":0", i);
        }

        sprintf(last, "}");

        parse_text(&p, text, 0);
        check_valid(&p);
        assert_int_equal(p.event.nnotes, n < 20 ? n : 20);
        parsed_free(&p);

        check_text(text);
    }
}


/*
 * Bodies of real senders; each of them must be applied.
 */

static const char *
deliveries(size_t n)
{
    static const char  *texts[] = {
        "{\"event\":\"call_postprocessing\",\"call_id\":\"outbound-1\","
        "\"timestamp\":\"2026-07-24T13:34:22.278854+00:00\",\"data\":{"
        "\"room_name\":\"outbound-1\",\"call_id\":\"outbound-1\","
        "\"call_duration\":55150.02,\"end_reason\":\"Call ended\","
        "\"summary\":\"s\",\"entities\":{\"name\":\"Asha\"},"
        "\"dispositions\":{\"tag\":\"x\"},\"recording_url\":\"https://x/\","
        "\"transcript\":\"[13:33:14] AGENT: a\\n\\n[13:33:19] USER: b\"}}",

        "{\"event\":\"call_postprocessing\",\"call_id\":\"webrtc-1\","
        "\"from\":\"web-user\",\"data\":{\"call_id\":\"webrtc-1\","
        "\"call_type\":\"webrtc_call\",\"phone_number\":\"web-user\","
        "\"call_duration\":107.42,"
        "\"call_started_at\":\"2026-10-09T07:31:17.602249+00:00\","
        "\"picked_up_at\":\"2026-10-09T07:31:17.018012+00:00\","
        "\"call_ended_at\":\"2026-10-09T07:33:05.534752+00:00\","
        "\"summary\":null,\"entities\":null,\"dispositions\":null}}",

        "{\"event\":\"call_postprocessing\",\"room_name\":\"r\","
        "\"call_duration\":42500,\"transcript\":[{\"role\":\"agent\","
        "\"content\":\"a\",\"time\":\"10:00:01\"},{\"speaker\":\"user\","
        "\"text\":\"b\",\"timestamp\":\"10:00:05\"}],\"entities\":[]}",

        "{\"event\":\"call_ended\",\"room_name\":\"r\","
        "\"call_duration\":\"42.5\"}",

        "{\"event\":\"human_transfer_failed\",\"room_name\":\"r\","
        "\"transfer_type\":\"warm\",\"phone_number\":919876543210,"
        "\"reason\":\"busy\",\"sip_status\":486}",

        "{\"event\":\"human_transfer_initiated\",\"room_name\":\"r\"}"
    };

    return (n < vaani_test_nelems(texts)) ? texts[n] : NULL;
}


static void
test_deliveries(void **state)
{
    size_t    n;
    parsed_t  p;

    (void) state;

    for (n = 0; deliveries(n); n++) {
        parse_text(&p, deliveries(n), 0);
        check_valid(&p);
        assert_non_null(p.event.type);
        parsed_free(&p);

        check_text(deliveries(n));
    }

    parse_text(&p, deliveries(1), 1);
    check_valid(&p);
    assert_int_equal(p.event.duration.kind, VAANI_DURATION_KNOWN);
    assert_int_equal(p.event.duration.ms, 107420);
    assert_int_equal(p.event.duration.span, 108516);
    assert_int_equal(p.event.direction, VAANI_DIRECTION_WEB);
    assert_true(vaani_contract_str_is(&p.event.number, "web-user"));
    assert_int_equal(p.event.nnotes, 0);
    parsed_free(&p);

    parse_text(&p, deliveries(2), 0);
    assert_true(vaani_contract_str_is(value_of(&p.event, "transcript"),
                                      "[10:00:01] AGENT: a\n"
                                      "[10:00:05] USER: b"));
    parsed_free(&p);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_conversions),
        cmocka_unit_test(test_places),
        cmocka_unit_test(test_sources),
        cmocka_unit_test(test_spans),
        cmocka_unit_test(test_notes),
        cmocka_unit_test(test_deliveries)
    };

    return cmocka_run_group_tests_name("event fields", tests, NULL, NULL);
}
