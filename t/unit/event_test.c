
/*
 * Tests of the events: of each row of their table and of the validation.
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
#include "vaani_reference.h"
#include "vaani_test.h"


/* the words for logs that errors come with */

#define EMPTY          "empty_body"
#define MALFORMED      "invalid_json"
#define NOT_OBJECT     "not_an_object"
#define MISSING        "missing_field"
#define MISTYPED       "mistyped_field"
#define ROOM           "invalid_room_name"
#define CONTRADICTORY  "contradictory_status"

/* the bodies' values have this in them, and errors must not have it */

#define MARK           "Q7mark"
#define MARK_NUMBER    "271828182"


typedef struct {
    size_t                 len;
    char                   data[16384];
} body_t;


typedef struct {
    int                    rc;
    vaani_event_t          event;
    vaani_event_error_t    error;
    vaani_test_arena_t     arena;
    const u_char          *text;
    size_t                 len;
} parsed_t;


typedef struct {
    vaani_json_type_e      type;
    const char            *raw;
} typed_t;


static void body_start(body_t *body, const char *event);
static void body_member(body_t *body, const char *name, const char *raw);
static void body_field(body_t *body, const vaani_contract_event_t *expected,
    const vaani_contract_field_t *field);
static void body_end(body_t *body);
static void parse(parsed_t *p, const void *data, size_t len, unsigned strict);
static void parse_text(parsed_t *p, const char *text, unsigned strict);
static void parse_body(parsed_t *p, const body_t *body, unsigned strict);
static void parsed_free(parsed_t *p);
static void check_valid(parsed_t *p);
static void check_invalid(parsed_t *p, const char *field, const char *reason);
static void check_quiet(parsed_t *p);
static void check_verdict(const void *data, size_t len);
static void check_room(const char *raw, size_t len, unsigned valid);
static void check_status(const vaani_contract_event_t *expected,
    const char *raw, unsigned valid);
static void check_started(const char *raw, const char *status,
    unsigned outbound);
static void check_duration(const char *raw, uint64_t seconds, uint64_t ms,
    const char *message);
static vaani_json_type_e right_type(const vaani_contract_field_t *field);
static const vaani_str_t *value_of(const vaani_event_t *event,
    const char *name);


/* a value of each type */

static const typed_t  typed[] = {
    { VAANI_JSON_NULL, "null" },
    { VAANI_JSON_BOOLEAN, "true" },
    { VAANI_JSON_NUMBER, MARK_NUMBER },
    { VAANI_JSON_STRING, "\"" MARK "\"" },
    { VAANI_JSON_ARRAY, "[\"" MARK "\",1]" },
    { VAANI_JSON_OBJECT, "{\"" MARK "\":" MARK_NUMBER "}" }
};


static void
body_start(body_t *body, const char *event)
{
    body->len = 0;

    body_member(body, "room_name", "\"" MARK "-room\"");

    body->len += sprintf(body->data + body->len, ",\"event\":\"%s\"", event);
}


static void
body_member(body_t *body, const char *name, const char *raw)
{
    assert_true(body->len + strlen(name) + strlen(raw) + 8
                < sizeof(body->data));

    body->len += sprintf(body->data + body->len, "%c\"%s\":%s",
                         body->len ? ',' : '{', name, raw);
}


/*
 * A field as the contract wants it.
 */

static void
body_field(body_t *body, const vaani_contract_event_t *expected,
    const vaani_contract_field_t *field)
{
    char  status[32];

    switch (field->kind) {

    case VAANI_CONTRACT_STATUS:
        sprintf(status, "\"%s\"", expected->status);
        body_member(body, field->name, status);
        break;

    case VAANI_CONTRACT_OBJECT:
        body_member(body, field->name, "{}");
        break;

    case VAANI_CONTRACT_SECONDS:
    case VAANI_CONTRACT_MILLISECONDS:
        body_member(body, field->name, "12");
        break;

    default:
        body_member(body, field->name, "\"\"");
        break;
    }
}


static void
body_end(body_t *body)
{
    body->data[body->len++] = '}';
    body->data[body->len] = '\0';
}


static void
parse(parsed_t *p, const void *data, size_t len, unsigned strict)
{
    vaani_test_arena_init(&p->arena);

    p->text = vaani_test_text(&p->arena, data, len);
    p->len = len;

    /* whatever was there before must not shine through */

    memset(&p->event, 0xa5, sizeof(p->event));
    memset(&p->error, 0xa5, sizeof(p->error));

    p->rc = vaani_event_parse(&p->event, p->text, len, strict,
                              &p->arena.alloc, &p->error);
}


static void
parse_text(parsed_t *p, const char *text, unsigned strict)
{
    parse(p, text, strlen(text), strict);
}


static void
parse_body(parsed_t *p, const body_t *body, unsigned strict)
{
    parse(p, body->data, body->len, strict);
}


static void
parsed_free(parsed_t *p)
{
    vaani_test_arena_free(&p->arena);
}


static void
check_valid(parsed_t *p)
{
    vaani_test_that(p->rc == VAANI_OK, "%s: rc %d, %s, /%s %s",
                    vaani_test_show(p->text, p->len), p->rc,
                    p->error.reason, vaani_test_show_str(&p->error.field),
                    p->error.message);
}


static void
check_invalid(parsed_t *p, const char *field, const char *reason)
{
    vaani_test_that(p->rc == VAANI_ERROR, "%s: rc %d",
                    vaani_test_show(p->text, p->len), p->rc);

    vaani_test_that(p->error.kind == VAANI_EVENT_INVALID
                    && p->error.offset == 0
                    && strcmp(p->error.reason, reason) == 0,
                    "%s: kind %d, %s, not %s",
                    vaani_test_show(p->text, p->len), p->error.kind,
                    p->error.reason, reason);

    vaani_test_that(vaani_contract_str_is(&p->error.field, field),
                    "%s: field %s, not %s", vaani_test_show(p->text, p->len),
                    vaani_test_show_str(&p->error.field), field);

    check_quiet(p);
}


/*
 * An error has nothing of the body: neither a copy nor a slice of it.
 */

static void
check_quiet(parsed_t *p)
{
    const char          *from, *to;
    const vaani_str_t   *field;

    field = &p->error.field;

    vaani_test_that(p->error.message[0] != '\0'
                    && strstr(p->error.message, MARK) == NULL
                    && strstr(p->error.message, MARK_NUMBER) == NULL,
                    "%s: %s", vaani_test_show(p->text, p->len),
                    p->error.message);

    from = (const char *) p->text;
    to = from + p->len;

    vaani_test_that((p->error.message < from || p->error.message >= to)
                    && (p->error.reason < from || p->error.reason >= to)
                    && (field->len == 0
                        || field->data < p->text
                        || field->data >= p->text + p->len),
                    "%s: a slice of the body",
                    vaani_test_show(p->text, p->len));
}


/*
 * Whatever the text: the parser and the contract must agree in both modes.
 */

static void
check_verdict(const void *data, size_t len)
{
    parsed_t      p;
    unsigned      strict;
    const char   *verdict, *differs;
    vaani_ref_t   ref;

    for (strict = 0; strict < 2; strict++) {
        parse(&p, data, len, strict);

        if (!vaani_ref_read(&ref, p.text, p.len)) {

            vaani_test_that(p.rc == VAANI_ERROR
                            && p.error.kind == VAANI_EVENT_MALFORMED
                            && p.text + p.error.offset == ref.bad
                            && p.error.field.len == 0,
                            "%s: rc %d", vaani_test_show(data, len), p.rc);
            check_quiet(&p);

        } else {
            verdict = vaani_contract_verdict(&ref, strict);

            if (verdict) {
                vaani_test_that(p.rc == VAANI_ERROR
                                && p.error.kind == VAANI_EVENT_INVALID
                                && vaani_contract_str_is(&p.error.field,
                                                         verdict),
                                "%s: rc %d, not /%s",
                                vaani_test_show(data, len), p.rc, verdict);
                check_quiet(&p);

            } else {
                check_valid(&p);

                differs = vaani_contract_differs(&p.event, &ref);

                vaani_test_that(differs == NULL, "%s: %s",
                                vaani_test_show(data, len), differs);
            }
        }

        vaani_ref_free(&ref);
        parsed_free(&p);
    }
}


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
        VAANI_FIELD_STRING, VAANI_FIELD_CONST_STATUS, VAANI_FIELD_OBJECT,
        VAANI_FIELD_SECONDS, VAANI_FIELD_MILLISECONDS
    };

    (void) state;

    assert_int_equal(VAANI_CONTRACT_EVENTS, 11);

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

            vaani_test_that(f->type == types[field->kind]
                            || (f->type == VAANI_FIELD_STATUS && n == 0),
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
    size_t                     n, k;
    const vaani_event_type_t  *row;

    (void) state;

    for (n = 0; (row = vaani_event_row(n)) != NULL; n++) {

        vaani_test_that(vaani_contract_find(&row->name) != NULL,
                        "row %zu: %s isn't documented", n,
                        vaani_test_show_str(&row->name));

        vaani_test_that(vaani_event_find(&row->name) == row,
                        "row %zu: %s isn't found", n,
                        vaani_test_show_str(&row->name));

        /* what is kept in the hash must not overwrite one another */

        for (k = 1; k < VAANI_EVENT_MAX_FIELDS; k++) {
            vaani_test_that(row->fields[k].hash_field.len == 0
                            || !vaani_str_eq(&row->fields[k].hash_field,
                                             &row->fields[k - 1].hash_field),
                            "row %zu: twice", n);
        }
    }

    assert_int_equal(n, VAANI_CONTRACT_EVENTS);

    assert_null(vaani_event_row(n + 1));
    assert_null(vaani_event_row((size_t) -1));
}


/*
 * The order of a call's events, which says what is late.
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
        text[n] ^= 0x20;
        assert_null(vaani_event_find(&name));

        text[n] ^= 0x20;
        assert_non_null(vaani_event_find(&name));
    }
}


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
        { "phone_number", "+1234567890" },
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
        { "end_reason", "AGENT_REQUESTED_DISCONNECT" },
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

            /* the first one dials, hence its direction */

            vaani_test_that(vaani_contract_str_is(&p.event.status, (n == 0)
                                                  ? "dialing"
                                                  : expected->status),
                            "%s: %s", expected->name,
                            vaani_test_show_str(&p.event.status));

            assert_int_equal(p.event.outbound, expected->outbound || n == 0);

            assert_int_equal(p.event.has_duration,
                             strcmp(expected->name, "call_ended") == 0
                             || expected->postprocessed);

            assert_int_equal(p.event.duration,
                             p.event.has_duration ? 42500 : 0);

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


static const vaani_str_t *
value_of(const vaani_event_t *event, const char *name)
{
    size_t  n;

    for (n = 0; n < VAANI_EVENT_MAX_FIELDS; n++) {
        if (vaani_contract_str_is(&event->type->fields[n].name, name)) {
            return &event->values[n];
        }
    }

    return NULL;
}


static vaani_json_type_e
right_type(const vaani_contract_field_t *field)
{
    switch (field->kind) {

    case VAANI_CONTRACT_OBJECT:
        return VAANI_JSON_OBJECT;

    case VAANI_CONTRACT_SECONDS:
    case VAANI_CONTRACT_MILLISECONDS:
        return VAANI_JSON_NUMBER;

    default:
        return VAANI_JSON_STRING;
    }
}


/*
 * Each field of each event with a value of each type, and without one, while
 * all the others are as they should be.
 */

static void
test_fields(void **state)
{
    body_t                         body;
    size_t                         n, k, i, t;
    parsed_t                       p;
    unsigned                       strict;
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

                } else {
                    reason = NULL;
                }

                for (strict = 0; strict < 2; strict++) {
                    parse_body(&p, &body, strict);

                    if (reason && strict) {
                        check_invalid(&p, field->name, reason);
                        parsed_free(&p);
                        continue;
                    }

                    check_valid(&p);

                    vaani_test_that((value_of(&p.event, field->name)->data
                                     != NULL)
                                    == (t < vaani_test_nelems(typed)
                                        && typed[t].type == right_type(field)
                                        && field->hash_field != NULL),
                                    "%s", body.data);

                    if (right_type(field) == VAANI_JSON_NUMBER) {
                        vaani_test_that(p.event.has_duration
                                        == (t < vaani_test_nelems(typed)
                                            && typed[t].type
                                               == VAANI_JSON_NUMBER),
                                        "%s", body.data);
                    }

                    parsed_free(&p);
                }

                check_verdict(body.data, body.len);
            }
        }
    }
}


/*
 * No field but event and room_name: that is enough in lenient mode.
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

        assert_int_equal(p.event.has_duration, 0);

        vaani_test_that(vaani_contract_str_is(&p.event.status,
                                              expected->status),
                        "%s: %s", expected->name,
                        vaani_test_show_str(&p.event.status));

        parsed_free(&p);

        check_verdict(body.data, body.len);
    }
}


/*
 * All the fields wrong at once: in lenient mode that is all the same.
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

            for (k = 0; k < VAANI_EVENT_MAX_FIELDS; k++) {
                assert_null(p.event.values[k].data);
            }

            assert_int_equal(p.event.has_duration, 0);
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
 * The order of the members doesn't matter, nor how they are spelt, nor what
 * else there is, even if it has a field's name in another event.
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
        "summary", "recording_url", "entities", "Status", "call_Duration",
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
 * A status that isn't the event's own, down to the last byte.
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

    /* ignored in lenient mode: the event itself says what it does */

    parse_body(&p, &body, 0);
    check_valid(&p);

    vaani_test_that(vaani_contract_str_is(&p.event.status, expected->status),
                    "%s: %s", body.data,
                    vaani_test_show_str(&p.event.status));

    vaani_test_that(p.event.outbound == expected->outbound, "%s: outbound %u",
                    body.data, p.event.outbound);

    parsed_free(&p);

    check_verdict(body.data, body.len);
}


static void
check_started(const char *raw, const char *status, unsigned outbound)
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

        vaani_test_that(p.event.outbound == outbound, "%s: outbound %u",
                        body.data, p.event.outbound);

        parsed_free(&p);
    }

    check_verdict(body.data, body.len);
}


static void
test_started_status(void **state)
{
    parsed_t  p;

    (void) state;

    check_started(NULL, "started", 0);
    check_started("null", "started", 0);
    check_started("\"\"", "started", 0);
    check_started("\"started\"", "started", 0);
    check_started("\"dialing\"", "dialing", 1);
    check_started("\"\\u0064ialin\\u0067\"", "dialing", 1);
    check_started("\"Dialing\"", "Dialing", 0);
    check_started("\"dialing \"", "dialing ", 0);
    check_started("\"dialin\"", "dialin", 0);
    check_started("\"connected\"", "connected", 0);
    check_started("\"ringing\"", "ringing", 0);
    check_started("\"active\"", "active", 0);
    check_started("\"\xe0\xa4\xb5\"", "\xe0\xa4\xb5", 0);

    parse_text(&p, "{\"event\":\"call_started\",\"room_name\":\"r\","
                   "\"status\":\"dialing\\u0000\"}", 1);
    check_valid(&p);
    assert_int_equal(p.event.outbound, 0);
    assert_int_equal(p.event.status.len, 8);
    assert_memory_equal(p.event.status.data, "dialing\0", 8);
    parsed_free(&p);

    parse_text(&p, "{\"event\":\"call_started\",\"room_name\":\"r\","
                   "\"status\":[\"dialing\"]}", 0);
    check_valid(&p);
    assert_int_equal(p.event.outbound, 0);
    assert_true(vaani_contract_str_is(&p.event.status, "started"));
    parsed_free(&p);
}


static void
test_outbound(void **state)
{
    body_t    body;
    size_t    n, outbound;
    parsed_t  p;
    unsigned  strict;

    (void) state;

    for (strict = 0; strict < 2; strict++) {
        outbound = 0;

        for (n = 0; n < VAANI_CONTRACT_EVENTS; n++) {
            body_start(&body, vaani_contract[n].name);
            body_member(&body, "call_duration", "0");
            body_member(&body, "transfer_type", "\"\"");
            body_member(&body, "phone_number", "\"\"");
            body_end(&body);

            parse_body(&p, &body, strict);
            check_valid(&p);
            assert_int_equal(p.event.outbound, vaani_contract[n].outbound);
            outbound += p.event.outbound;
            parsed_free(&p);
        }

        /* ringing, rejected, no answer, failed */

        assert_int_equal(outbound, 4);
    }
}


static void
test_event_and_room_required(void **state)
{
    char                text[256];
    size_t              i, t;
    parsed_t            p;
    unsigned            strict;
    static const char  *names[][2] = {
        { "event", "\"room_name\":\"" MARK "\"" },
        { "room_name", "\"event\":\"call_ringing\"" },
        { "room_name", "\"event\":\"" MARK "\"" },
    };

    (void) state;

    for (strict = 0; strict < 2; strict++) {
        for (i = 0; i < vaani_test_nelems(names); i++) {

            sprintf(text, "{%s}", names[i][1]);
            parse_text(&p, text, strict);
            check_invalid(&p, names[i][0], MISSING);
            parsed_free(&p);
            check_verdict(text, strlen(text));

            for (t = 0; t < vaani_test_nelems(typed); t++) {
                sprintf(text, "{\"%s\": %s ,%s}", names[i][0], typed[t].raw,
                        names[i][1]);
                parse_text(&p, text, strict);

                if (typed[t].type == VAANI_JSON_STRING) {
                    check_valid(&p);

                } else if (typed[t].type == VAANI_JSON_NULL) {
                    check_invalid(&p, names[i][0], MISSING);

                } else {
                    check_invalid(&p, names[i][0], MISTYPED);
                }

                parsed_free(&p);
                check_verdict(text, strlen(text));
            }
        }
    }
}


/*
 * Which error is told when there are several, and that a part of the event
 * shows itself only when it is known to be good.
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
        { "{\"event\":\"\"}", "room_name", MISSING, 1, 1, 0 },
        { "{\"event\":\"" MARK "\",\"room_name\":[]}", "room_name", MISTYPED,
          1, 1, 0 },
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
 * What people are told, after the name of the field.
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
        { "{\"event\":\"x\"}", "is required" },
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
          "\"call_duration\":1,\"entities\":[]}", "must be an object" }
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
 * raw: the inside of a JSON string.
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
                check_invalid(&p, "room_name", ROOM);
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

            /* filled up with plain bytes to just 256, and by one more */

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
 * in the middle and at the end; and its neighbours, which are fine.
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

    /* bytes as in C1, but inside of other characters */

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

        /* nobody knows what its fields should be */

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
            assert_int_equal(p.event.outbound, 0);
            assert_int_equal(p.event.has_duration, 0);

            for (k = 0; k < VAANI_EVENT_MAX_FIELDS; k++) {
                assert_null(p.event.values[k].data);
            }

            parsed_free(&p);
        }

        check_verdict(text, strlen(text));
    }
}


/*
 * A name is what it means, not how it's spelt.
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
    assert_int_equal(p.event.duration, 1500);
    parsed_free(&p);

    check_verdict(text, strlen(text));

    /* twice is twice in any spelling */

    text = "{\"event\":\"call_ringing\",\"room_name\":\"r\","
           "\"\\u0065vent\":\"call_ended\"}";

    parse_text(&p, text, 0);
    assert_int_equal(p.rc, VAANI_ERROR);
    assert_int_equal(p.error.kind, VAANI_EVENT_MALFORMED);
    assert_int_equal(p.error.offset, 40);
    parsed_free(&p);
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

    /* empty isn't absent */

    value = value_of(&p.event, "summary");
    assert_int_equal(value->len, 0);
    assert_non_null(value->data);

    value = value_of(&p.event, "recording_url");
    assert_true(vaani_contract_str_is(value, "https://x/"));

    /* JSON stays as it is, space, escapes, duplicates and all */

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
        { vaani_string("{\"event\":\"a\",\"event\":\"b\"}"), 13 },
        { vaani_string("{\"event\":\"" MARK "\",\"" MARK "\":1,"
                       "\"" MARK "\":2}"), 29 },
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

            assert_string_equal(p.error.reason, n ? MALFORMED : EMPTY);
            assert_int_equal(p.error.field.len, 0);
            assert_null(p.event.name.data);
            assert_null(p.event.room.data);
            check_quiet(&p);

            /* what the scanner says is passed on */

            assert_int_equal(vaani_json_scan(&json, p.text, p.len,
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
    const char *message)
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

            if (message && strict) {
                check_invalid(&p, "call_duration", MISTYPED);

                vaani_test_that(strcmp(p.error.message, message) == 0,
                                "%s: %s", raw, p.error.message);
                parsed_free(&p);
                continue;
            }

            check_valid(&p);

            vaani_test_that(p.event.has_duration == (message == NULL)
                            && p.event.duration == (message ? 0 : post ? ms
                                                              : seconds),
                            "%s: %u, %llu", raw, p.event.has_duration,
                            (unsigned long long) p.event.duration);

            parsed_free(&p);
        }

        check_verdict(body.data, body.len);
    }
}


static void
test_durations(void **state)
{
    size_t  n;

    static const struct {
        const char  *raw;
        uint64_t     seconds;       /* what it is in ms if it's seconds */
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
        { "\"42.5\"", 0, 0, "must be a number" },
        { "true", 0, 0, "must be a number" },
        { "[42.5]", 0, 0, "must be a number" },
        { "{}", 0, 0, "must be a number" }
    };

    (void) state;

    for (n = 0; n < vaani_test_nelems(rows); n++) {
        check_duration(rows[n].raw, rows[n].seconds, rows[n].ms,
                       rows[n].message);
    }
}


static void
test_status_ranks(void **state)
{
    size_t    n, k;

    /* equal numbers: whichever it is, neither is a climb for the contract */

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

            /* no two are the same, or the order of arrival would decide */

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
 * The ranks of what the events bring: following a call's course the status
 * never falls.
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


/*
 * Every prefix of the vendor's bodies is malformed, every one of their bytes
 * replaced by each of the 256 is judged as the contract would.
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

    static const vaani_str_t  bodies[] = {
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
                     "\"m\":0,\"n\":0,\"o\":0,\"p\":0,\"q\":0,\"r\":0}")
    };

    (void) state;

    vaani_test_arena_init(&arena);
    vaani_test_cjson_hook(&arena);

    for (i = 0; i < vaani_test_nelems(bodies); i++) {
        for (strict = 0; strict < 2; strict++) {

            rc = vaani_event_parse(&event, bodies[i].data, bodies[i].len,
                                   strict, &arena.alloc, &error);

            vaani_test_that(rc == VAANI_OK, "%s: rc %d", bodies[i].data, rc);

            all = arena.nallocs;
            vaani_test_arena_free(&arena);

            assert_true(all > 2);

            for (once = 0; once < 2; once++) {
                for (n = 1; n <= all; n++) {
                    arena.fail_at = n;
                    arena.fail_once = once;

                    rc = vaani_event_parse(&event, bodies[i].data,
                                           bodies[i].len, strict,
                                           &arena.alloc, &error);

                    vaani_test_that(rc == VAANI_NOMEM,
                                    "%s: allocation %zu of %zu: rc %d",
                                    bodies[i].data, n, all, rc);

                    vaani_test_that(vaani_test_cjson.nblocks == 0,
                                    "%s: allocation %zu of %zu: cJSON has "
                                    "%zu blocks", bodies[i].data, n, all,
                                    vaani_test_cjson.nblocks);

                    vaani_test_arena_free(&arena);
                }
            }
        }
    }

    cJSON_InitHooks(NULL);
}


int
main(void)
{
    int  failed;

    const struct CMUnitTest  table[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_rows_in_turn),
        cmocka_unit_test(test_positions),
        cmocka_unit_test(test_find_others),
        cmocka_unit_test(test_status_ranks),
        cmocka_unit_test(test_outcome_ranks),
        cmocka_unit_test(test_ranks_of_events)
    };

    const struct CMUnitTest  fields[] = {
        cmocka_unit_test(test_examples),
        cmocka_unit_test(test_fields),
        cmocka_unit_test(test_fields_none),
        cmocka_unit_test(test_fields_all_wrong),
        cmocka_unit_test(test_fields_extra),
        cmocka_unit_test(test_contradictory_status),
        cmocka_unit_test(test_started_status),
        cmocka_unit_test(test_outbound),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_durations)
    };

    const struct CMUnitTest  bodies[] = {
        cmocka_unit_test(test_event_and_room_required),
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

    failed = cmocka_run_group_tests(table, NULL, NULL);
    failed += cmocka_run_group_tests(fields, NULL, NULL);
    failed += cmocka_run_group_tests(bodies, NULL, NULL);

    return failed != 0;
}
