
/*
 * Bodies of one event are validated and read as the contract says, in strict
 * and in lenient mode.
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


typedef struct {
    vaani_json_type_e      type;
    const char            *raw;
} typed_t;


static void check_room(const char *raw, size_t len, unsigned valid);
static void check_status(const vaani_contract_event_t *expected,
    const char *raw, unsigned valid);
static void check_started(const char *raw, const char *status,
    vaani_direction_e direction);
static void check_duration(const char *raw, uint64_t seconds, uint64_t ms,
    const char *message, unsigned text);
static vaani_json_type_e right_type(const vaani_contract_field_t *field);


/* a value of each type */

static const typed_t  typed[] = {
    { VAANI_JSON_NULL, "null" },
    { VAANI_JSON_BOOLEAN, "true" },
    { VAANI_JSON_NUMBER, MARK_NUMBER },
    { VAANI_JSON_STRING, "\"" MARK "\"" },
    { VAANI_JSON_ARRAY, "[\"" MARK "\",1]" },
    { VAANI_JSON_OBJECT, "{\"" MARK "\":" MARK_NUMBER "}" }
};


/*
 * The vendor's own bodies.
 */

static void
test_examples(void **state)
{
    size_t                         n, k, i;
    parsed_t                       p;
    unsigned                       strict;
    const vaani_contract_event_t  *expected;

    static const char  *values[VAANI_CONTRACT_EVENTS][2 * 5 + 1] = {
        { NULL },
        { NULL },
        { NULL },
        { NULL },
        { NULL },
        { "error", "SIP_404_NOT_FOUND" },
        { "transfer_type", "warm", "phone_number", "+919876543210" },
        { "transfer_type", "warm", "phone_number", "+919876543210",
          "agent_identity", "human_agent_1712485300" },
        { "transfer_type", "warm", "phone_number", "+919876543210",
          "reason", "busy", "sip_status", "busy" },
        { NULL },
        { "transcript", "User: Hello. Agent: Hi, how can I help you? ...",
          "summary", "Customer called to inquire about service availability "
                     "in Mumbai.",
          "recording_url",
          "https://storage.vaani.ai/recordings/call_123.mp3",
          "entities", "{\n\"location\": \"Mumbai\",\n"
                      "\"intent\": \"service_inquiry\"\n}" }
    };

    (void) state;

    for (n = 0; n < VAANI_CONTRACT_EVENTS; n++) {
        expected = &vaani_contract[n];

        for (strict = 0; strict < 2; strict++) {
            parse_text(&p, expected->example, strict);
            check_valid(&p);

            vaani_test_that(p.event.type == vaani_event_find(&p.event.name),
                            "%s: type", expected->name);

            vaani_test_that(vaani_contract_str_is(&p.event.name,
                                                  expected->name),
                            "%s: %s", expected->name,
                            vaani_test_show_str(&p.event.name));

            vaani_test_that(vaani_contract_str_is(&p.event.room,
                                                  "room_123abc"),
                            "%s: %s", expected->name,
                            vaani_test_show_str(&p.event.room));

            assert_int_equal(p.event.name_json.len, strlen(expected->name) + 2);
            assert_ptr_equal(p.event.name_json.data + 1, p.event.name.data);
            assert_int_equal(p.event.room_json.len, sizeof("room_123abc") + 1);
            assert_ptr_equal(p.event.room_json.data + 1, p.event.room.data);

            /* the first one dials, which gives the direction */

            vaani_test_that(vaani_contract_str_is(&p.event.status, (n == 0)
                                                  ? "dialing"
                                                  : expected->status),
                            "%s: %s", expected->name,
                            vaani_test_show_str(&p.event.status));

            assert_int_equal(p.event.direction,
                             expected->outbound || n == 0
                             ? VAANI_DIRECTION_OUTBOUND
                             : VAANI_DIRECTION_UNKNOWN);

            assert_int_equal(p.event.duration.kind,
                             strcmp(expected->name, "call_ended") == 0
                             ? VAANI_DURATION_ENDED
                             : expected->postprocessed
                             ? VAANI_DURATION_OPEN : VAANI_DURATION_NONE);

            assert_int_equal(p.event.duration.ms,
                             p.event.duration.kind ? 42500 : 0);

            assert_int_equal(p.event.number_source,
                             n == 0 ? VAANI_SOURCE_CALL : VAANI_SOURCE_NONE);
            assert_true(vaani_contract_str_is(&p.event.number,
                                              n == 0 ? "+1234567890" : ""));

            assert_int_equal(p.event.reason_source,
                             p.event.duration.kind == VAANI_DURATION_ENDED
                             ? VAANI_SOURCE_CALL : VAANI_SOURCE_NONE);
            assert_true(vaani_contract_str_is(
                            &p.event.reason, p.event.reason_source
                            ? "AGENT_REQUESTED_DISCONNECT" : ""));

            assert_int_equal(p.event.nnotes, 0);
            assert_int_equal(p.event.inherited | p.event.test
                             | p.event.repaired, 0);

            for (i = 0, k = 0; k < VAANI_EVENT_MAX_FIELDS; k++) {
                i += (p.event.values[k].data != NULL);
            }

            for (k = 0; values[n][k]; k += 2) {
                vaani_test_that(value_of(&p.event, values[n][k])
                                && vaani_contract_str_is(
                                       value_of(&p.event, values[n][k]),
                                       values[n][k + 1]),
                                "%s: %s", expected->name, values[n][k]);
            }

            vaani_test_that(i == k / 2, "%s: %zu values", expected->name, i);

            /* nothing in them has to be copied */

            assert_int_equal(p.arena.nallocs, 0);

            parsed_free(&p);
        }

        check_verdict(expected->example, strlen(expected->example));
    }
}


static vaani_json_type_e
right_type(const vaani_contract_field_t *field)
{
    switch (field->kind) {

    case VAANI_CONTRACT_OBJECT:
        return VAANI_JSON_OBJECT;

    case VAANI_CONTRACT_SECONDS:
    case VAANI_CONTRACT_DURATION:
        return VAANI_JSON_NUMBER;

    default:
        return VAANI_JSON_STRING;
    }
}


/*
 * Each field of each event with a value of each type, and without one, while
 * all the others are valid.
 */

static void
test_fields(void **state)
{
    body_t                         body;
    size_t                         n, k, i, t;
    parsed_t                       p;
    const char                    *reason;
    const vaani_contract_event_t  *expected;
    const vaani_contract_field_t  *field;

    (void) state;

    for (n = 0; n < VAANI_CONTRACT_EVENTS; n++) {
        expected = &vaani_contract[n];

        for (k = 0; expected->fields[k].name; k++) {
            field = &expected->fields[k];

            /* one more than there are types: absent */

            for (t = 0; t <= vaani_test_nelems(typed); t++) {
                body_start(&body, expected->name);

                for (i = 0; expected->fields[i].name; i++) {

                    if (i != k) {
                        body_field(&body, expected, &expected->fields[i]);

                    } else if (t < vaani_test_nelems(typed)) {
                        body_member(&body, field->name, typed[t].raw);
                    }
                }

                body_end(&body);

                if (t == vaani_test_nelems(typed)
                    || typed[t].type == VAANI_JSON_NULL)
                {
                    reason = field->required ? MISSING : NULL;

                } else if (typed[t].type != right_type(field)) {
                    reason = MISTYPED;

                } else if (field->kind == VAANI_CONTRACT_STATUS) {
                    reason = CONTRADICTORY;

                } else if (field->kind == VAANI_CONTRACT_TIME) {
                    reason = MISTYPED;

                } else {
                    reason = NULL;
                }

                parse_body(&p, &body, 1);

                if (reason) {
                    check_invalid(&p, field->name, reason);

                } else {
                    check_valid(&p);
                }

                parsed_free(&p);

                /* the contract decides the result */

                parse_body(&p, &body, 0);
                check_valid(&p);
                parsed_free(&p);

                check_verdict(body.data, body.len);
            }
        }
    }
}


/*
 * Only event and room_name: enough in lenient mode.
 */

static void
test_fields_none(void **state)
{
    body_t                         body;
    size_t                         n, k;
    parsed_t                       p;
    const vaani_contract_event_t  *expected;

    (void) state;

    for (n = 0; n < VAANI_CONTRACT_EVENTS; n++) {
        expected = &vaani_contract[n];

        body_start(&body, expected->name);
        body_end(&body);

        parse_body(&p, &body, 1);

        if (expected->fields[0].required) {
            check_invalid(&p, expected->fields[0].name, MISSING);

        } else {
            check_valid(&p);
        }

        parsed_free(&p);

        parse_body(&p, &body, 0);
        check_valid(&p);

        for (k = 0; k < VAANI_EVENT_MAX_FIELDS; k++) {
            assert_null(p.event.values[k].data);
        }

        assert_int_equal(p.event.duration.kind, VAANI_DURATION_NONE);

        vaani_test_that(vaani_contract_str_is(&p.event.status,
                                              expected->status),
                        "%s: %s", expected->name,
                        vaani_test_show_str(&p.event.status));

        parsed_free(&p);

        check_verdict(body.data, body.len);
    }
}


/*
 * All fields invalid at once: lenient mode still accepts the event.
 */

static void
test_fields_all_wrong(void **state)
{
    body_t                         body;
    size_t                         n, k, t;
    parsed_t                       p;
    const vaani_contract_event_t  *expected;

    (void) state;

    for (n = 0; n < VAANI_CONTRACT_EVENTS; n++) {
        expected = &vaani_contract[n];

        for (t = 0; t < vaani_test_nelems(typed); t++) {
            body_start(&body, expected->name);

            for (k = 0; expected->fields[k].name; k++) {

                if (typed[t].type == right_type(&expected->fields[k])) {
                    body_member(&body, expected->fields[k].name, "false");

                } else {
                    body_member(&body, expected->fields[k].name, typed[t].raw);
                }
            }

            body_end(&body);

            parse_body(&p, &body, 0);
            check_valid(&p);

            /* these cannot be converted: all are left out, and noted */

            if (typed[t].type == VAANI_JSON_BOOLEAN) {
                assert_int_equal(p.event.nnotes, k);

                for (k = 0; k < VAANI_EVENT_MAX_FIELDS; k++) {
                    assert_null(p.event.values[k].data);
                }

                assert_int_equal(p.event.duration.kind, VAANI_DURATION_NONE);
                assert_null(p.event.number.data);
                assert_null(p.event.reason.data);
            }

            parsed_free(&p);

            /* in strict mode the first one is named */

            parse_body(&p, &body, 1);

            if (typed[t].type != VAANI_JSON_NULL) {
                check_invalid(&p, expected->fields[0].name, MISTYPED);

            } else if (expected->fields[0].required) {
                check_invalid(&p, expected->fields[0].name, MISSING);
            }

            parsed_free(&p);

            check_verdict(body.data, body.len);
        }
    }
}


/*
 * The order and spelling of the members do not matter, nor do unknown members,
 * even with the name of another event's field.
 */

static void
test_fields_extra(void **state)
{
    body_t                         body;
    size_t                         n, m, k, i;
    parsed_t                       p;
    const char                    *name;
    const vaani_contract_event_t  *expected;
    const vaani_contract_field_t  *field;
    static const char             *others[] = {
        "status", "phone_number", "error", "transfer_type", "agent_identity",
        "reason", "sip_status", "call_duration", "end_reason", "transcript",
        "summary", "recording_url", "entities", "dispositions", "from",
        "call_type", "picked_up_at", "timestamp", "Status", "call_Duration",
        "created_at", "seq", "room", "", "_", "Event", "event ", "room_name ",
        "Room_Name", "events", "eventt", "roo", "\xc3\xa9", "event\\u0000"
    };

    (void) state;

    for (n = 0; n < VAANI_CONTRACT_EVENTS; n++) {
        expected = &vaani_contract[n];

        for (m = 0; m < vaani_test_nelems(typed); m++) {
            body.len = 0;

            for (i = 0; i < vaani_test_nelems(others); i++) {
                name = others[i];

                for (field = expected->fields; field->name; field++) {
                    if (strcmp(field->name, name) == 0) {
                        break;
                    }
                }

                if (field->name == NULL) {
                    body_member(&body, name, typed[m].raw);
                }
            }

            for (k = VAANI_CONTRACT_FIELDS; k-- > 0; /* void */ ) {
                if (expected->fields[k].name) {
                    body_field(&body, expected, &expected->fields[k]);
                }
            }

            body_member(&body, "r\\u006fom_name", "\"room\"");
            body.len += sprintf(body.data + body.len,
                                " , \"\\u0065vent\"\t:\n\"%s\" ",
                                expected->name);
            body_end(&body);

            parse_body(&p, &body, 1);
            check_valid(&p);
            assert_non_null(p.event.type);
            parsed_free(&p);

            check_verdict(body.data, body.len);
        }
    }
}


/*
 * A status that is not the event's own, down to the last byte.
 */

static void
test_contradictory_status(void **state)
{
    char                           raw[64];
    size_t                         n, i;
    const vaani_contract_event_t  *expected;

    static const struct {
        const char                *raw;
        const char                *value;
    } statuses[] = {
        { "\"\"", "" },
        { "\"started\"", "started" },
        { "\"dialing\"", "dialing" },
        { "\"ringing\"", "ringing" },
        { "\"active\"", "active" },
        { "\"rejected\"", "rejected" },
        { "\"no_answer\"", "no_answer" },
        { "\"failed\"", "failed" },
        { "\"ended\"", "ended" },
        { "\"completed\"", "completed" },
        { "\"" MARK "\"", MARK },
        { "\"\\u0072inging\"", "ringing" },
        { "\"\\u0061ctive\"", "active" },
        { "\"rejecte\\u0064\"", "rejected" },
        { "\"no\\u005Fanswer\"", "no_answer" },
        { "\"f\\u0061ile\\u0064\"", "failed" }
    };

    static const char             *spoilt[] = {
        "\"%s \"", "\" %s\"", "\"%s\\u0000\"", "\"%s\\n\"", "\"%ss\"",
        "\"\\u0000%s\"", "\"%.3s\"", "\"%.5s\\u0000\"", "\"-%s\""
    };

    (void) state;

    for (n = 0; n < VAANI_CONTRACT_EVENTS; n++) {
        expected = &vaani_contract[n];

        if (expected->fields[0].kind != VAANI_CONTRACT_STATUS) {
            continue;
        }

        for (i = 0; i < vaani_test_nelems(statuses); i++) {
            check_status(expected, statuses[i].raw,
                         strcmp(statuses[i].value, expected->status) == 0);
        }

        for (i = 0; i < vaani_test_nelems(spoilt); i++) {
            sprintf(raw, spoilt[i], expected->status);
            check_status(expected, raw, 0);
        }
    }
}


static void
check_status(const vaani_contract_event_t *expected, const char *raw,
    unsigned valid)
{
    body_t    body;
    parsed_t  p;

    body_start(&body, expected->name);
    body_member(&body, "status", raw);
    body_end(&body);

    parse_body(&p, &body, 1);

    if (valid) {
        check_valid(&p);

    } else {
        check_invalid(&p, "status", CONTRADICTORY);
    }

    parsed_free(&p);

    /* ignored in lenient mode: the event itself decides the status */

    parse_body(&p, &body, 0);
    check_valid(&p);

    vaani_test_that(vaani_contract_str_is(&p.event.status, expected->status),
                    "%s: %s", body.data,
                    vaani_test_show_str(&p.event.status));

    vaani_test_that(p.event.direction_source
                    == (expected->outbound ? VAANI_SOURCE_EVENT
                                           : VAANI_SOURCE_NONE),
                    "%s: direction %d", body.data, p.event.direction);

    parsed_free(&p);

    check_verdict(body.data, body.len);
}


static void
check_started(const char *raw, const char *status, vaani_direction_e direction)
{
    body_t    body;
    parsed_t  p;
    unsigned  strict;

    body_start(&body, "call_started");

    if (raw) {
        body_member(&body, "status", raw);
    }

    body_end(&body);

    for (strict = 0; strict < 2; strict++) {
        parse_body(&p, &body, strict);
        check_valid(&p);

        vaani_test_that(vaani_contract_str_is(&p.event.status, status),
                        "%s: %s", body.data,
                        vaani_test_show_str(&p.event.status));

        vaani_test_that(p.event.direction == direction, "%s: direction %d",
                        body.data, p.event.direction);

        parsed_free(&p);
    }

    check_verdict(body.data, body.len);
}


static void
test_started_status(void **state)
{
    parsed_t  p;

    (void) state;

    check_started(NULL, "started", VAANI_DIRECTION_UNKNOWN);
    check_started("null", "started", VAANI_DIRECTION_UNKNOWN);
    check_started("\"\"", "started", VAANI_DIRECTION_UNKNOWN);
    check_started("\"started\"", "started", VAANI_DIRECTION_UNKNOWN);
    check_started("\"dialing\"", "dialing", VAANI_DIRECTION_OUTBOUND);
    check_started("\"\\u0064ialin\\u0067\"", "dialing",
                  VAANI_DIRECTION_OUTBOUND);
    check_started("\"Dialing\"", "Dialing", VAANI_DIRECTION_UNKNOWN);
    check_started("\"dialing \"", "dialing ", VAANI_DIRECTION_UNKNOWN);
    check_started("\"dialin\"", "dialin", VAANI_DIRECTION_UNKNOWN);
    check_started("\"connected\"", "connected", VAANI_DIRECTION_UNKNOWN);
    check_started("\"ringing\"", "ringing", VAANI_DIRECTION_UNKNOWN);
    check_started("\"active\"", "active", VAANI_DIRECTION_UNKNOWN);
    check_started("\"\xe0\xa4\xb5\"", "\xe0\xa4\xb5", VAANI_DIRECTION_UNKNOWN);

    parse_text(&p, "{\"event\":\"call_started\",\"room_name\":\"r\","
                   "\"status\":\"dialing\\u0000\"}", 1);
    check_valid(&p);
    assert_int_equal(p.event.direction, VAANI_DIRECTION_UNKNOWN);
    assert_int_equal(p.event.status.len, 8);
    assert_memory_equal(p.event.status.data, "dialing\0", 8);
    parsed_free(&p);

    parse_text(&p, "{\"event\":\"call_started\",\"room_name\":\"r\","
                   "\"status\":[\"dialing\"]}", 0);
    check_valid(&p);
    assert_int_equal(p.event.direction, VAANI_DIRECTION_UNKNOWN);
    assert_true(vaani_contract_str_is(&p.event.status, "started"));
    parsed_free(&p);
}


static void
test_event_required(void **state)
{
    char      text[512];
    size_t    t, len;
    parsed_t  p;
    unsigned  strict;

    (void) state;

    for (strict = 0; strict < 2; strict++) {
        parse_text(&p, "{\"room_name\":\"" MARK "\"}", strict);
        check_invalid(&p, "event", MISSING);
        assert_int_equal(p.event.inherited, 1);
        parsed_free(&p);

        for (t = 0; t < vaani_test_nelems(typed); t++) {
            sprintf(text, "{\"event\": %s ,\"room_name\":\"" MARK "\"}",
                    typed[t].raw);
            parse_text(&p, text, strict);

            if (typed[t].type == VAANI_JSON_STRING) {
                check_valid(&p);

            } else {
                check_invalid(&p, "event", typed[t].type == VAANI_JSON_NULL
                                           ? MISSING : MISTYPED);
            }

            parsed_free(&p);
            check_text(text);
        }

        /* at most 256 bytes, and not half of a pair */

        for (len = 255; len <= 258; len++) {
            sprintf(text, "{\"event\":\"%0*d\",\"room_name\":\"r\"}", (int) len,
                    0);
            parse_text(&p, text, strict);

            if (len <= 256) {
                check_valid(&p);
                assert_int_equal(p.event.name.len, len);

            } else {
                check_invalid(&p, "event", EVENT);
                assert_null(p.event.name.data);
            }

            parsed_free(&p);
            check_text(text);
        }

        parse_text(&p, "{\"event\":\"call_ended\\ud83d\",\"room_name\":\"r\"}",
                   strict);
        check_invalid(&p, "event", EVENT);
        parsed_free(&p);
    }

    /* in "data" it does not count */

    check_text("{\"data\":{\"event\":\"call_ringing\",\"room_name\":\"r\"}}");
}


/*
 * An event without a name takes that of its envelope, which the spool keeps.
 */

static void
test_inherited(void **state)
{
    int                  rc;
    size_t               n;
    vaani_str_t          text, name;
    vaani_event_t        event;
    vaani_test_arena_t   arena;
    vaani_event_error_t  error;

    static const struct {
        const char  *text;
        const char  *name;
        const char  *event;         /* NULL: refused */
        const char  *reason;
        unsigned     inherited;
    } rows[] = {
        { "{\"room_name\":\"r\"}", "\"call_ringing\"", "call_ringing", NULL,
          1 },
        { "{\"room_name\":\"r\",\"event\":null}", "\"call_\\u0072inging\"",
          "call_ringing", NULL, 1 },
        { "{\"room_name\":\"r\",\"event\":\"call_rejected\"}",
          "\"call_ringing\"", "call_rejected", NULL, 0 },
        { "{\"room_name\":\"r\",\"event\":1}", "\"call_ringing\"", NULL,
          MISTYPED, 0 },
        { "{\"room_name\":\"r\"}", "null", NULL, MISSING, 0 },
        { "{\"room_name\":\"r\"}", "1", NULL, MISTYPED, 0 },
        { "{\"room_name\":\"r\"}", "\"\\ud800\"", NULL, EVENT, 0 },
        { "{\"room_name\":\"r\"}", "", NULL, MISSING, 0 },
        { "{\"room_name\":\"r\"}", " ", NULL, MALFORMED, 0 },
        { "{\"room_name\":\"r\"}", "\"x", NULL, MALFORMED, 0 },
        { "[]", "\"call_ringing\"", NULL, NOT_OBJECT, 0 }
    };

    (void) state;

    for (n = 0; n < vaani_test_nelems(rows); n++) {
        vaani_test_arena_init(&arena);

        text = vaani_contract_str(rows[n].text);
        name = vaani_contract_str(rows[n].name);

        text.data = vaani_test_text(&arena, text.data, text.len);
        name.data = vaani_test_text(&arena, name.data, name.len);

        rc = vaani_event_parse(&event, &text, &name, 0, 0, &arena.alloc,
                               &error);

        if (rows[n].event == NULL) {
            vaani_test_that(rc == VAANI_ERROR
                            && strcmp(reason_of(&error), rows[n].reason) == 0,
                            "%s in %s: rc %d", rows[n].text, rows[n].name, rc);

        } else {
            vaani_test_that(rc == VAANI_OK
                            && vaani_contract_str_is(&event.name,
                                                     rows[n].event)
                            && event.inherited == rows[n].inherited,
                            "%s in %s: rc %d", rows[n].text, rows[n].name, rc);

            if (event.inherited) {
                assert_true(vaani_str_eq(&event.name_json, &name));
            }
        }

        vaani_test_arena_free(&arena);
    }

    /* memory runs out during the scan */

    text = vaani_contract_str("{}");
    name = vaani_contract_str("{\"\\n\":1}");

    arena.fail_at = 1;

    assert_int_equal(vaani_event_parse(&event, &text, &name, 0, 0,
                                       &arena.alloc, &error),
                     VAANI_NOMEM);
}


/*
 * Which of several errors is reported; and a part of the event is visible only
 * after its validation.
 */

static void
test_error_order(void **state)
{
    size_t    n;
    parsed_t  p;
    unsigned  strict;

    static const struct {
        const char  *text;
        const char  *field;         /* strict */
        const char  *reason;
        unsigned     lenient;       /* fails then too */
        unsigned     name;          /* is known at least */
        unsigned     room;
    } rows[] = {
        { "{}", "event", MISSING, 1, 0, 0 },
        { "{\"room_name\":1}", "event", MISSING, 1, 0, 0 },
        { "{\"event\":1,\"room_name\":2}", "event", MISTYPED, 1, 0, 0 },
        { "{\"room_name\":\"\",\"event\":[]}", "event", MISTYPED, 1, 0, 0 },
        { "{\"event\":\"call_ringing\",\"room_name\":[]}", "room_name",
          MISTYPED, 1, 1, 0 },
        { "{\"event\":\"" MARK "\",\"room_name\":[]}", "room_name", MISTYPED,
          0, 1, 0 },
        { "{\"event\":\"call_ended\"}", "room_name", MISSING, 1, 1, 0 },
        { "{\"event\":\"call_ended\",\"room_name\":\"\",\"call_duration\":-1}",
          "room_name", ROOM, 1, 1, 0 },
        { "{\"event\":\"call_ended\",\"room_name\":\"\\u0000\"}", "room_name",
          ROOM, 1, 1, 0 },
        { "{\"event\":\"call_ended\",\"room_name\":\"r\"}", "call_duration",
          MISSING, 0, 1, 1 },
        { "{\"end_reason\":1,\"event\":\"call_ended\",\"room_name\":\"r\"}",
          "call_duration", MISSING, 0, 1, 1 },
        { "{\"end_reason\":1,\"call_duration\":2,\"event\":\"call_ended\","
          "\"room_name\":\"r\"}", "end_reason", MISTYPED, 0, 1, 1 },
        { "{\"event\":\"human_transfer_failed\",\"room_name\":\"r\"}",
          "transfer_type", MISSING, 0, 1, 1 },
        { "{\"event\":\"human_transfer_failed\",\"room_name\":\"r\","
          "\"transfer_type\":\"warm\"}", "phone_number", MISSING, 0, 1, 1 },
        { "{\"event\":\"human_transfer_failed\",\"room_name\":\"r\","
          "\"transfer_type\":\"warm\",\"phone_number\":null}",
          "phone_number", MISSING, 0, 1, 1 },
        { "{\"event\":\"call_failed\",\"room_name\":\"r\",\"error\":404,"
          "\"status\":\"ended\"}", "status", CONTRADICTORY, 0, 1, 1 }
    };

    (void) state;

    for (n = 0; n < vaani_test_nelems(rows); n++) {
        for (strict = 0; strict < 2; strict++) {
            parse_text(&p, rows[n].text, strict);

            if (strict || rows[n].lenient) {
                check_invalid(&p, rows[n].field, rows[n].reason);

            } else {
                check_valid(&p);
            }

            vaani_test_that((p.event.name.data != NULL) == rows[n].name,
                            "%s: the name", rows[n].text);

            vaani_test_that((p.event.room.data != NULL) == rows[n].room,
                            "%s: the room", rows[n].text);

            parsed_free(&p);
        }

        check_verdict(rows[n].text, strlen(rows[n].text));
    }
}


/*
 * Messages for humans, after the name of the field.
 */

static void
test_messages(void **state)
{
    size_t    n;
    parsed_t  p;

    static const struct {
        const char  *text;
        const char  *message;
    } rows[] = {
        { "", "the body is empty" },
        { "[]", "the body must be a JSON object" },
        { "{}", "is required" },
        { "{\"event\":1}", "must be a string" },
        { "{\"event\":\"call_ended\"}", "is required" },
        { "{\"event\":\"\\ud800\"}", "must not have a lone surrogate" },
        { "{\"event\":\"x\",\"room_name\":\"\\ud800\"}",
          "must not have a lone surrogate" },
        { "{\"event\":\"x\",\"room_name\":1}", "must be a string" },
        { "{\"event\":\"x\",\"room_name\":\"\"}", "must have 1 to 256 bytes" },
        { "{\"event\":\"x\",\"room_name\":\"\\n\"}",
          "must not contain control characters" },
        { "{\"event\":\"call_ended\",\"room_name\":\"r\"}", "is required" },
        { "{\"event\":\"call_ended\",\"room_name\":\"r\","
          "\"call_duration\":\"1\"}", "must be a number" },
        { "{\"event\":\"call_started\",\"room_name\":\"r\",\"status\":1}",
          "must be a string" },
        { "{\"event\":\"call_ringing\",\"room_name\":\"r\","
          "\"status\":\"active\"}", "contradicts the event" },
        { "{\"event\":\"call_postprocessing\",\"room_name\":\"r\","
          "\"call_duration\":1,\"entities\":[]}", "must be an object" },
        { "{\"event\":\"call_postprocessing\",\"room_name\":\"r\","
          "\"picked_up_at\":\"now\"}", "must be an RFC 3339 time" }
    };

    (void) state;

    for (n = 0; n < vaani_test_nelems(rows); n++) {
        parse_text(&p, rows[n].text, 1);

        vaani_test_that(p.rc == VAANI_ERROR
                        && strcmp(p.error.message, rows[n].message) == 0,
                        "%s: rc %d, %s", rows[n].text, p.rc,
                        p.error.message);

        parsed_free(&p);
    }
}


/*
 * raw: the content of a JSON string.
 */

static void
check_room(const char *raw, size_t len, unsigned valid)
{
    char               *text;
    size_t              n, k;
    parsed_t            p;
    unsigned            strict;
    static const char  *events[] = { "call_ringing", "a_new_one" };

    text = vaani_test_malloc(len + 100);

    for (k = 0; k < vaani_test_nelems(events); k++) {
        n = sprintf(text, "{\"event\":\"%s\",\"room_name\":\"", events[k]);
        memcpy(text + n, raw, len);
        memcpy(text + n + len, "\"}", 2);
        n += len + 2;

        for (strict = 0; strict < 2; strict++) {
            parse(&p, text, n, strict);

            if (valid) {
                check_valid(&p);

                vaani_test_that(p.event.room.len >= 1
                                && p.event.room.len <= VAANI_ROOM_MAX_LEN,
                                "%zu bytes", p.event.room.len);

                vaani_test_that(p.event.room_json.len == len + 2
                                && memcmp(p.event.room_json.data + 1, raw,
                                          len) == 0,
                                "%s", vaani_test_show_str(&p.event.room_json));

            } else {
                /* an unknown event needs none */

                if (k == 1 && !strict) {
                    check_valid(&p);

                } else {
                    check_invalid(&p, "room_name", ROOM);
                }

                assert_null(p.event.room.data);
                assert_null(p.event.room_json.data);
            }

            parsed_free(&p);
        }

        check_verdict(text, n);
    }

    free(text);
}


static void
test_room_lengths(void **state)
{
    char    text[8192];
    size_t  i, n, k, max;

    /* how a character is written, and how many bytes it has */

    static const struct {
        const char  *raw;
        size_t       bytes;
    } chars[] = {
        { "a", 1 }, { " ", 1 }, { "/", 1 }, { "\\/", 1 }, { "\\\"", 1 },
        { "\\\\", 1 }, { "\\u0041", 1 }, { "\xc3\xa9", 2 }, { "\\u00e9", 2 },
        { "\xc2\xa0", 2 }, { "\xe2\x82\xac", 3 }, { "\\u20AC", 3 },
        { "\xf0\x9d\x84\x9e", 4 }, { "\\uD834\\uDD1E", 4 }
    };

    (void) state;

    assert_int_equal(VAANI_ROOM_MAX_LEN, 256);

    check_room("", 0, 0);

    for (i = 0; i < vaani_test_nelems(chars); i++) {
        max = 256 / chars[i].bytes;

        for (n = 1; n <= max + 2; n += (n == 2) ? max - 4 : 1) {

            for (k = 0; k < n; k++) {
                memcpy(text + k * strlen(chars[i].raw), chars[i].raw,
                       strlen(chars[i].raw) + 1);
            }

            check_room(text, strlen(text), n <= max);

            /* padded with plain bytes to exactly 256, and to one more */

            if (n <= max) {
                k = strlen(text);
                memset(text + k, 'z', 256 - n * chars[i].bytes + 1);
                k += 256 - n * chars[i].bytes;

                check_room(text, k, 1);
                check_room(text, k + 1, 0);
            }
        }
    }

    memset(text, 'a', sizeof(text));
    check_room(text, sizeof(text), 0);
}


/*
 * Every control character of Unicode, in each way to write it, at the start,
 * in the middle and at the end; and its neighbours, which are accepted.
 */

static void
test_room_characters(void **state)
{
    char                text[64];
    size_t              len, place;
    unsigned            cp, valid;
    static const char  *before[] = { "", "room", "\\u00e9\xc3\xa9", "" };
    static const char  *after[] = { "", "name", "", "\xc3\xa9x" };

    (void) state;

    for (cp = 0; cp <= 0x250; cp++) {
        valid = !(cp < 0x20 || (cp >= 0x7f && cp <= 0x9f));

        for (place = 0; place < vaani_test_nelems(before); place++) {

            len = sprintf(text, "%s\\u%04x%s", before[place], cp,
                          after[place]);
            check_room(text, len, valid);

            if (cp < 0x20 || cp == '"' || cp == '\\') {
                continue;
            }

            if (cp < 0x80) {
                len = sprintf(text, "%s%c%s", before[place], cp,
                              after[place]);
            } else {
                len = sprintf(text, "%s%c%c%s", before[place], 0xc0 | cp >> 6,
                              0x80 | (cp & 0x3f), after[place]);
            }

            check_room(text, len, valid);
        }
    }

    /* other escapes of C0 */

    check_room("a\\b", 3, 0);
    check_room("a\\f", 3, 0);
    check_room("a\\n", 3, 0);
    check_room("a\\r", 3, 0);
    check_room("\\ta", 3, 0);

    /* half a pair of surrogates */

    check_room("\\ud83d", 6, 0);
    check_room("a\\ude00b", 8, 0);
    check_room("\\ud83d\\ude00", 12, 1);
    check_room("\\ufffd", 6, 1);

    /* bytes as in C1, but inside other characters */

    check_room("\xe0\xa0\x80", 3, 1);
    check_room("\xe2\x82\x82", 3, 1);
    check_room("\xf0\x90\x85\x9f", 4, 1);
    check_room("\xc3\x80\xc3\x9f", 4, 1);
    check_room("\xef\xbf\xbd", 3, 1);
    check_room("\xe2\x80\xa8", 3, 1);
}


static void
test_unknown_events(void **state)
{
    char                text[512];
    size_t              n, k;
    parsed_t            p;
    unsigned            strict;

    static const struct {
        const char   *raw;
        vaani_str_t   name;
    } names[] = {
        { "\"\"", vaani_string("") },
        { "\"x\"", vaani_string("x") },
        { "\"call_paused\"", vaani_string("call_paused") },
        { "\"CALL_ENDED\"", vaani_string("CALL_ENDED") },
        { "\"call_ended \"", vaani_string("call_ended ") },
        { "\"call_ended\\u0000\"", vaani_string("call_ended\0") },
        { "\"\\u0000\"", vaani_string("\0") },
        { "\"\\n\\u001b\"", vaani_string("\n\x1b") },
        { "\"\xc3\xa9\\u00e9\"", vaani_string("\xc3\xa9\xc3\xa9") }
    };

    (void) state;

    for (n = 0; n < vaani_test_nelems(names); n++) {

        /* the fields of an unknown event are unknown */

        sprintf(text, "{\"status\":1,\"event\": %s ,\"phone_number\":[],"
                      "\"call_duration\":-1,\"transcript\":{},\"entities\":0,"
                      "\"room_name\":\"r\\u0031\"}", names[n].raw);

        for (strict = 0; strict < 2; strict++) {
            parse_text(&p, text, strict);
            check_valid(&p);

            assert_null(p.event.type);

            vaani_test_that(vaani_str_eq(&p.event.name, &names[n].name),
                            "%s: %s", text,
                            vaani_test_show_str(&p.event.name));

            vaani_test_that(vaani_contract_str_is(&p.event.name_json,
                                                  names[n].raw),
                            "%s: %s", text,
                            vaani_test_show_str(&p.event.name_json));

            assert_true(vaani_contract_str_is(&p.event.room, "r1"));
            assert_true(vaani_contract_str_is(&p.event.room_json,
                                              "\"r\\u0031\""));
            assert_int_equal(p.event.status.len, 0);
            assert_int_equal(p.event.direction, VAANI_DIRECTION_UNKNOWN);
            assert_int_equal(p.event.duration.kind, VAANI_DURATION_NONE);

            for (k = 0; k < VAANI_EVENT_MAX_FIELDS; k++) {
                assert_null(p.event.values[k].data);
            }

            assert_int_equal(p.event.nnotes, 0);

            parsed_free(&p);
        }

        check_verdict(text, strlen(text));
    }

    /* it does not need a call */

    for (strict = 0; strict < 2; strict++) {
        parse_text(&p, "{\"event\":\"x\",\"room_name\":null}", strict);
        check_valid(&p);
        assert_null(p.event.room.data);
        parsed_free(&p);
    }

    check_text("{\"event\":\"x\"}");
    check_text("{\"event\":\"x\",\"room_name\":\"\"}");
    check_text("{\"event\":\"x\",\"room_name\":[],\"call_id\":\"c\"}");
}


/*
 * Names are compared by their decoded value.
 */

static void
test_escaped_names(void **state)
{
    parsed_t    p;
    const char *text;

    (void) state;

    text = "{\"\\u0065vent\":\"\\u0063all\\u005fended\","
           "\"room\\u005Fname\":\"r\\/1\",\"call\\u005fduration\":1.5}";

    parse_text(&p, text, 1);
    check_valid(&p);
    assert_non_null(p.event.type);
    assert_true(vaani_contract_str_is(&p.event.name, "call_ended"));
    assert_true(vaani_contract_str_is(&p.event.name_json,
                                      "\"\\u0063all\\u005fended\""));
    assert_true(vaani_contract_str_is(&p.event.room, "r/1"));
    assert_true(vaani_contract_str_is(&p.event.room_json, "\"r\\/1\""));
    assert_int_equal(p.event.duration.ms, 1500);
    parsed_free(&p);

    check_verdict(text, strlen(text));

    /* repeated in any spelling */

    text = "{\"event\":\"call_ringing\",\"room_name\":\"r\","
           "\"\\u0065vent\":\"call_ended\"}";

    parse_text(&p, text, 1);
    assert_int_equal(p.rc, VAANI_ERROR);
    assert_int_equal(p.error.kind, VAANI_EVENT_MALFORMED);
    assert_int_equal(p.error.offset, 40);
    parsed_free(&p);

    /* lenient mode takes the last one */

    parse_text(&p, text, 0);
    check_valid(&p);
    assert_true(vaani_contract_str_is(&p.event.name, "call_ended"));
    parsed_free(&p);

    check_text(text);
}


static void
test_values(void **state)
{
    parsed_t            p;
    const char         *text;
    const vaani_str_t  *value;

    (void) state;

    text = "{\"event\":\"call_postprocessing\",\"room_name\":\"r\","
           "\"call_duration\":7,\"transcript\":\"a\\u0000b\\n\xc3\xa9\","
           "\"summary\":\"\",\"recording_url\":\"https:\\/\\/x\\/\","
           "\"entities\": { \"a\" : [ 1, null ], \"a\":\"\\u0000\" } }";

    parse_text(&p, text, 1);
    check_valid(&p);

    value = value_of(&p.event, "transcript");
    assert_int_equal(value->len, 6);
    assert_memory_equal(value->data, "a\0b\n\xc3\xa9", 6);

    /* empty is not absent */

    value = value_of(&p.event, "summary");
    assert_int_equal(value->len, 0);
    assert_non_null(value->data);

    value = value_of(&p.event, "recording_url");
    assert_true(vaani_contract_str_is(value, "https://x/"));

    /* JSON is copied unchanged, with spaces, escapes and duplicates */

    value = value_of(&p.event, "entities");
    assert_true(vaani_contract_str_is(value, "{ \"a\" : [ 1, null ], "
                                             "\"a\":\"\\u0000\" }"));
    assert_true(value->data > p.text && value->data < p.text + p.len);

    parsed_free(&p);

    check_verdict(text, strlen(text));
}


static void
test_not_an_object(void **state)
{
    size_t              n;
    parsed_t            p;
    unsigned            strict;
    static const char  *texts[] = {
        "null", "true", "false", "0", "-1.5e3", "\"\"", "\"" MARK "\"", "[]",
        " [\"" MARK "\"] ",
        "[{\"event\":\"call_ringing\",\"room_name\":\"" MARK "\"}]",
        "\"{\\\"event\\\":\\\"call_ringing\\\"}\""
    };

    (void) state;

    for (n = 0; n < vaani_test_nelems(texts); n++) {
        for (strict = 0; strict < 2; strict++) {
            parse_text(&p, texts[n], strict);
            check_invalid(&p, "", NOT_OBJECT);
            assert_null(p.event.name.data);
            assert_null(p.event.room.data);
            parsed_free(&p);
        }

        check_verdict(texts[n], strlen(texts[n]));
    }
}


static void
test_malformed(void **state)
{
    size_t               n;
    parsed_t             p;
    unsigned             strict;
    vaani_json_t         json;
    vaani_json_error_t   error;

    static const struct {
        vaani_str_t   text;
        size_t        offset;
    } rows[] = {
        { vaani_string(""), 0 },
        { vaani_string(" "), 1 },
        { vaani_string("{"), 1 },
        { vaani_string("event=call_ended"), 0 },
        { vaani_string("\xef\xbb\xbf{\"event\":\"" MARK "\"}"), 0 },
        { vaani_string("{\"event\":\"" MARK "\n\"}"), 16 },
        { vaani_string("{\"event\":\"" MARK "\xff\"}"), 16 },
        { vaani_string("{\"event\":\"" MARK "\"} " MARK), 19 },
        { vaani_string("{\"event\":\"call_ringing\",\"room_name\":\"r\"}\0"),
          40 }
    };

    (void) state;

    for (n = 0; n < vaani_test_nelems(rows); n++) {
        for (strict = 0; strict < 2; strict++) {
            parse(&p, rows[n].text.data, rows[n].text.len, strict);

            vaani_test_that(p.rc == VAANI_ERROR
                            && p.error.kind == VAANI_EVENT_MALFORMED,
                            "%s: rc %d", vaani_test_show_str(&rows[n].text),
                            p.rc);

            vaani_test_that(p.error.offset == rows[n].offset, "%s: %zu",
                            vaani_test_show_str(&rows[n].text),
                            p.error.offset);

            assert_string_equal(reason_of(&p.error), n ? MALFORMED : EMPTY);
            assert_int_equal(p.error.field.len, 0);
            assert_null(p.event.name.data);
            assert_null(p.event.room.data);
            check_quiet(&p);

            /* the scanner's error is passed on */

            assert_int_equal(vaani_json_scan(&json, p.text, p.len, NULL,
                                             &p.arena.alloc, &error),
                             VAANI_ERROR);
            assert_int_equal(p.error.offset, error.offset);

            if (n) {
                assert_string_equal(p.error.message, error.message);
            }

            parsed_free(&p);
        }

        check_verdict(rows[n].text.data, rows[n].text.len);
    }
}


/*
 * One number as the duration of call_ended (seconds) and that of
 * call_postprocessing (milliseconds).
 */

static void
check_duration(const char *raw, uint64_t seconds, uint64_t ms,
    const char *message, unsigned text)
{
    body_t    body;
    parsed_t  p;
    unsigned  strict, post;

    for (post = 0; post < 2; post++) {
        body_start(&body, post ? "call_postprocessing" : "call_ended");
        body_member(&body, "call_duration", raw);
        body_end(&body);

        for (strict = 0; strict < 2; strict++) {
            parse_body(&p, &body, strict);

            if ((message || text) && strict) {
                check_invalid(&p, "call_duration", MISTYPED);

                vaani_test_that(strcmp(p.error.message,
                                       text ? "must be a number" : message)
                                == 0,
                                "%s: %s", raw, p.error.message);
                parsed_free(&p);
                continue;
            }

            check_valid(&p);

            vaani_test_that(p.event.duration.kind
                            == (message ? VAANI_DURATION_NONE
                                : post ? VAANI_DURATION_OPEN
                                       : VAANI_DURATION_ENDED),
                            "%s: kind %d", raw, p.event.duration.kind);

            if (message == NULL) {
                vaani_test_that(p.event.duration.ms == (post ? ms : seconds)
                                && p.event.duration.if_seconds == seconds,
                                "%s: %llu", raw,
                                (unsigned long long) p.event.duration.ms);
            }

            assert_int_equal(p.event.nnotes, message || text);
            assert_int_equal(p.event.duration.span, 0);

            parsed_free(&p);
        }

        check_verdict(body.data, body.len);
    }
}


static void
test_durations(void **state)
{
    char    quoted[128];
    size_t  n;

    static const struct {
        const char  *raw;
        uint64_t     seconds;       /* its value in ms if the unit is seconds */
        uint64_t     ms;
        const char  *message;
    } rows[] = {
        { "0", 0, 0, NULL },
        { "-0", 0, 0, NULL },
        { "-0.0", 0, 0, NULL },
        { "0e9", 0, 0, NULL },
        { "1", 1000, 1, NULL },
        { "42.5", 42500, 43, NULL },
        { "42500", 42500000, 42500, NULL },
        { "42500.4", 42500400, 42500, NULL },
        { "42500.5", 42500500, 42501, NULL },
        { "0.001", 1, 0, NULL },
        { "0.0005", 1, 0, NULL },
        { "0.00049999", 0, 0, NULL },
        { "0.0015", 2, 0, NULL },
        { "0.4", 400, 0, NULL },
        { "0.5", 500, 1, NULL },
        { "1.5", 1500, 2, NULL },
        { "2.5", 2500, 3, NULL },
        { "4.25e1", 42500, 43, NULL },
        { "4.25E+4", 42500000, 42500, NULL },
        { "425e-1", 42500, 43, NULL },
        { "1e-999999999", 0, 0, NULL },
        { "86399.999", 86399999, 86400, NULL },
        { "9007199254740.991", 9007199254740991, 9007199254741, NULL },
        { "9007199254740991", 9007199254740991, 9007199254740991, NULL },
        { "9007199254740993", 9007199254740991, 9007199254740991, NULL },
        { "1e308", 9007199254740991, 9007199254740991, NULL },
        { "0.1000000000000000055511151231257827021181583404541015625",
          100, 0, NULL },
        { "1e309", 0, 0, "must be finite" },
        { "1e999999999999", 0, 0, "must be finite" },
        { "-1", 0, 0, "must not be negative" },
        { "-0.0001", 0, 0, "must not be negative" },
        { "-1e-400", 0, 0, "must not be negative" },
        { "-1e400", 0, 0, "must not be negative" },
        { "true", 0, 0, "must be a number" },
        { "[42.5]", 0, 0, "must be a number" },
        { "{}", 0, 0, "must be a number" }
    };

    (void) state;

    for (n = 0; n < vaani_test_nelems(rows); n++) {
        check_duration(rows[n].raw, rows[n].seconds, rows[n].ms,
                       rows[n].message, 0);

        /* lenient mode also accepts it in quotes */

        if (rows[n].raw[0] != '[' && rows[n].raw[0] != '{') {
            sprintf(quoted, "\"%s\"", rows[n].raw);

            check_duration(quoted, rows[n].seconds, rows[n].ms,
                           rows[n].message, 1);
        }
    }

    check_duration("\" 42.5\\n\"", 42500, 43, NULL, 1);
    check_duration("\"\\u0034\"", 4000, 4, NULL, 1);
    check_duration("\"\"", 0, 0, "must be a number", 1);
    check_duration("\"42.5 s\"", 0, 0, "must be a number", 1);
    check_duration("\"0x10\"", 0, 0, "must be a number", 1);
    check_duration("\"+1\"", 0, 0, "must be a number", 1);
    check_duration("\"NaN\"", 0, 0, "must be a number", 1);
    check_duration("\"\\\"1\\\"\"", 0, 0, "must be a number", 1);
    check_duration("\"1\\u0000\"", 0, 0, "must be a number", 1);
}


/*
 * Every prefix of the vendor's bodies is malformed.  Bodies with any byte
 * replaced by each of the 256 are judged as the contract judges them.
 */

static void
test_prefixes(void **state)
{
    size_t       i, n;
    parsed_t     p;
    const char  *text;

    (void) state;

    for (i = 0; i < VAANI_CONTRACT_EVENTS; i++) {
        text = vaani_contract[i].example;

        for (n = 0; n < strlen(text); n++) {
            parse(&p, text, n, 1);

            vaani_test_that(p.rc == VAANI_ERROR
                            && p.error.kind == VAANI_EVENT_MALFORMED
                            && p.error.offset == n,
                            "%s: rc %d", vaani_test_show(text, n), p.rc);

            parsed_free(&p);
        }
    }
}


static void
test_replaced_byte(void **state)
{
    char      text[1024];
    size_t    i, n;
    unsigned  c;

    (void) state;

    for (i = 0; i < VAANI_CONTRACT_EVENTS; i++) {
        memcpy(text, vaani_contract[i].example,
               strlen(vaani_contract[i].example) + 1);

        for (n = 0; text[n]; n++) {

            for (c = 0; c < 256; c++) {
                text[n] = c;
                check_verdict(text, strlen(vaani_contract[i].example));
            }

            text[n] = vaani_contract[i].example[n];
        }
    }
}


/*
 * Memory runs out at each of the allocations.
 */

static void
test_no_memory(void **state)
{
    int                  rc;
    size_t               i, n, all;
    unsigned             strict, once;
    vaani_event_t        event;
    vaani_test_arena_t   arena;
    vaani_event_error_t  error;

    static const vaani_str_t  name = vaani_string("\"call\\u005fended\"");

    static const vaani_str_t  bodies[] = {
        vaani_string("{\"call_id\":\"\\u0063\",\"data\":{\"call\\u005fid\":"
                     "\"\\u0063\",\"call_duration\":\"1\\u002e5\","
                     "\"end_reason\":\"\\ud800\"}}"),
        vaani_string("{\"event\":\"call_postprocessing\","
                     "\"data\":{\"call_id\":5,\"call_type\":\"\\u0077eb\","
                     "\"phone_number\":\"\",\"from\":\"\\u0031\","
                     "\"picked_up_at\":\"2026-10-09T07:31:17Z\","
                     "\"call_ended_at\":\"2026-10-09T07:31:18\\u005a\","
                     "\"call_duration\":\"1\\u002e5\","
                     "\"transcript\":[{\"role\":\"\\u0061\","
                     "\"text\":\"\\u0062\",\"time\":\"\\u0063\"},\"\\u0064\","
                     "{\"\\u0074ext\":1}]}}"),
        vaani_string("{\"\\u0065vent\":\"call\\u005fpostprocessing\","
                     "\"room_name\":\"r\\/\",\"call_duration\":1,"
                     "\"transcript\":\"\\n\",\"summary\":\"\\n\","
                     "\"recording_url\":\"\\/\",\"entities\":{\"\\n\":1}}"),
        vaani_string("{\"event\":\"call\\u005fringing\",\"room_name\":\"r\\/\","
                     "\"status\":\"ringin\\u0067\"}"),
        vaani_string("{\"event\":\"call_started\",\"room_name\":\"\\\"\","
                     "\"status\":\"dialin\\u0067\",\"phone_number\":\"\\/\"}"),
        vaani_string("{\"event\":\"\\u0000\",\"room_name\":\"\\\\\","
                     "\"a\":0,\"b\":0,\"c\":0,\"d\":0,\"e\":0,\"f\":0,"
                     "\"g\":0,\"h\":0,\"i\":0,\"j\":0,\"k\":0,\"l\":0,"
                     "\"m\":0,\"n\":0,\"o\":0,\"p\":0,\"q\":0,\"r\":0}"),

        /* the first note is of a member, of another call */

        vaani_string("{\"event\":\"call\\u005fringing\","
                     "\"room_name\":\"r\\/\",\"a\":0}"),
        vaani_string("{\"event\":\"call\\u005fringing\","
                     "\"room_name\":\"r\\/\",\"call_id\":\"s\"}")
    };

    (void) state;

    vaani_test_arena_init(&arena);

    for (i = 0; i < vaani_test_nelems(bodies); i++) {
        for (strict = 0; strict < 2; strict++) {

            /* strict mode refuses what lenient mode converts */

            if (strict && i < 2) {
                continue;
            }

            rc = vaani_event_parse(&event, &bodies[i], &name, strict, 0,
                                   &arena.alloc, &error);

            vaani_test_that(rc == VAANI_OK, "%s: rc %d", bodies[i].data, rc);

            all = arena.nallocs;
            vaani_test_arena_free(&arena);

            assert_true(all > 2);

            for (once = 0; once < 2; once++) {
                for (n = 1; n <= all; n++) {
                    arena.fail_at = n;
                    arena.fail_once = once;

                    rc = vaani_event_parse(&event, &bodies[i], &name, strict, 0,
                                           &arena.alloc, &error);

                    vaani_test_that(rc == VAANI_NOMEM,
                                    "%s: allocation %zu of %zu: rc %d",
                                    bodies[i].data, n, all, rc);

                    vaani_test_arena_free(&arena);
                }
            }
        }
    }
}


int
main(void)
{
    int  failed;

    const struct CMUnitTest  fields[] = {
        cmocka_unit_test(test_examples),
        cmocka_unit_test(test_fields),
        cmocka_unit_test(test_fields_none),
        cmocka_unit_test(test_fields_all_wrong),
        cmocka_unit_test(test_fields_extra),
        cmocka_unit_test(test_contradictory_status),
        cmocka_unit_test(test_started_status),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_durations)
    };

    const struct CMUnitTest  bodies[] = {
        cmocka_unit_test(test_event_required),
        cmocka_unit_test(test_inherited),
        cmocka_unit_test(test_error_order),
        cmocka_unit_test(test_messages),
        cmocka_unit_test(test_room_lengths),
        cmocka_unit_test(test_room_characters),
        cmocka_unit_test(test_unknown_events),
        cmocka_unit_test(test_escaped_names),
        cmocka_unit_test(test_not_an_object),
        cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_prefixes),
        cmocka_unit_test(test_replaced_byte),
        cmocka_unit_test(test_no_memory)
    };

    failed = cmocka_run_group_tests(fields, NULL, NULL);
    failed += cmocka_run_group_tests(bodies, NULL, NULL);

    return failed != 0;
}
