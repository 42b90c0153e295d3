
/*
 * Shared by the tests of events: bodies composed by the contract, events read
 * from them, and checks.
 *
 * Include cmocka's headers before this one.
 */


#ifndef _VAANI_EVENT_CHECK_H_INCLUDED_
#define _VAANI_EVENT_CHECK_H_INCLUDED_


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
#define EVENT          "invalid_event"
#define ROOM           "invalid_room_name"
#define CONTRADICTORY  "contradictory_status"

/* part of all values of the bodies; must not occur in errors */

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


static inline void body_member(body_t *body, const char *name,
    const char *raw);


static inline void
body_start(body_t *body, const char *event)
{
    body->len = 0;

    body_member(body, "room_name", "\"" MARK "-room\"");

    body->len += sprintf(body->data + body->len, ",\"event\":\"%s\"", event);
}


static inline void
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

static inline void
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
    case VAANI_CONTRACT_DURATION:
        body_member(body, field->name, "12");
        break;

    case VAANI_CONTRACT_TIME:
        body_member(body, field->name, "\"2026-10-09T07:31:17Z\"");
        break;

    default:
        body_member(body, field->name, "\"\"");
        break;
    }
}


static inline void
body_end(body_t *body)
{
    body->data[body->len++] = '}';
    body->data[body->len] = '\0';
}


static inline void
parse(parsed_t *p, const void *data, size_t len, unsigned strict)
{
    vaani_str_t               text;
    static const vaani_str_t  none;

    vaani_test_arena_init(&p->arena);

    p->text = vaani_test_text(&p->arena, data, len);
    p->len = len;

    /* the previous content must not remain visible */

    memset(&p->event, 0xa5, sizeof(p->event));
    memset(&p->error, 0xa5, sizeof(p->error));

    text.data = p->text;
    text.len = len;

    p->rc = vaani_event_parse(&p->event, &text, &none, strict, 0,
                              &p->arena.alloc, &p->error);
}


static inline void
parse_text(parsed_t *p, const char *text, unsigned strict)
{
    parse(p, text, strlen(text), strict);
}


static inline void
parse_body(parsed_t *p, const body_t *body, unsigned strict)
{
    parse(p, body->data, body->len, strict);
}


static inline void
parsed_free(parsed_t *p)
{
    vaani_test_arena_free(&p->arena);
}


static inline void
check_valid(parsed_t *p)
{
    vaani_test_that(p->rc == VAANI_OK, "%s: rc %d, %s, /%s %s",
                    vaani_test_show(p->text, p->len), p->rc,
                    reason_of(&p->error), vaani_test_show_str(&p->error.field),
                    p->error.message);
}


/*
 * An error contains nothing of the body: neither a copy nor a slice of it.
 */

static inline void
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
                    && (field->len == 0
                        || field->data < p->text
                        || field->data >= p->text + p->len),
                    "%s: a slice of the body",
                    vaani_test_show(p->text, p->len));
}


static inline void
check_refused(parsed_t *p, const char *field, unsigned nested,
    const char *reason)
{
    vaani_test_that(p->rc == VAANI_ERROR, "%s: rc %d",
                    vaani_test_show(p->text, p->len), p->rc);

    vaani_test_that(p->error.kind == VAANI_EVENT_INVALID
                    && p->error.offset == 0
                    && strcmp(reason_of(&p->error), reason) == 0,
                    "%s: kind %d, %s, not %s",
                    vaani_test_show(p->text, p->len), p->error.kind,
                    reason_of(&p->error), reason);

    vaani_test_that(vaani_contract_str_is(&p->error.field, field)
                    && p->error.nested == nested,
                    "%s: field %s, not %s", vaani_test_show(p->text, p->len),
                    vaani_test_show_str(&p->error.field), field);

    check_quiet(p);
}


/*
 * The same of a field that is not in "data".
 */

static inline void
check_invalid(parsed_t *p, const char *field, const char *reason)
{
    check_refused(p, field, 0, reason);
}


/*
 * For every text, the parser and the contract must agree in both modes.
 */

static inline void
check_verdict(const void *data, size_t len)
{
    parsed_t             p;
    unsigned             strict;
    const char          *differs;
    vaani_ref_t          ref;
    vaani_contract_t     contract;
    vaani_test_arena_t   arena;

    for (strict = 0; strict < 2; strict++) {
        vaani_test_arena_init(&arena);

        parse(&p, data, len, strict);

        if (!vaani_ref_read(&ref, p.text, p.len, "data", strict)) {

            vaani_test_that(p.rc == VAANI_ERROR
                            && p.error.kind == VAANI_EVENT_MALFORMED
                            && p.text + p.error.offset == ref.bad
                            && p.error.field.len == 0,
                            "%s: rc %d", vaani_test_show(data, len), p.rc);
            check_quiet(&p);

        } else if (!vaani_contract_read(&contract, &ref, NULL, strict, &arena))
        {
            vaani_test_that(p.rc == VAANI_ERROR, "%s: rc %d, not %s of /%s",
                            vaani_test_show(data, len), p.rc,
                            contract.reason, contract.field);

            differs = vaani_contract_error_differs(&contract, &p.event,
                                                   &p.error);

            vaani_test_that(differs == NULL, "%s: %s: %s of /%s",
                            vaani_test_show(data, len), differs,
                            reason_of(&p.error),
                            vaani_test_show_str(&p.error.field));
            check_quiet(&p);

        } else {
            check_valid(&p);

            differs = vaani_contract_differs(&contract, &p.event);

            vaani_test_that(differs == NULL, "%s: %s differs (strict: %u)",
                            vaani_test_show(data, len), differs, strict);
        }

        vaani_ref_free(&ref);
        parsed_free(&p);
        vaani_test_arena_free(&arena);
    }
}


static inline void
check_text(const char *text)
{
    check_verdict(text, strlen(text));
}


static inline const vaani_str_t *
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


#endif /* _VAANI_EVENT_CHECK_H_INCLUDED_ */
