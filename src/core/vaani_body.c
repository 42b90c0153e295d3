
#include <string.h>

#include "vaani_body.h"


static int vaani_body_scan(vaani_body_t *body, vaani_event_error_t *error);
static int vaani_body_line(vaani_body_t *body);
static unsigned vaani_body_events(vaani_json_t *json, vaani_str_t *raw);
static int vaani_body_count(vaani_body_t *body, const vaani_str_t *events,
    vaani_event_error_t *error);
static int vaani_body_event(vaani_body_t *body, vaani_event_t *event,
    vaani_event_error_t *error);
static void vaani_body_part(vaani_body_t *body, const vaani_str_t *raw,
    vaani_part_t *part);


static const vaani_str_t  vaani_body_name = vaani_string("event");
static const vaani_str_t  vaani_body_envelope = vaani_string("events");
static const vaani_str_t  vaani_body_test = vaani_string("webhook_test");


int
vaani_body_read(vaani_body_t *body, const vaani_str_t *received,
    unsigned strict, vaani_alloc_t *alloc, vaani_event_error_t *error)
{
    int                         rc;
    vaani_str_t                 name, events;
    const vaani_json_member_t  *member;

    body->alloc = alloc;
    body->received = *received;
    body->several = 0;
    body->ended = 0;

    memset(&body->options, 0, sizeof(vaani_event_options_t));

    body->options.strict = strict;

    rc = vaani_body_scan(body, error);

    if (rc == VAANI_OK) {
        rc = vaani_body_line(body);
    }

    if (rc != VAANI_OK || body->json.value.type != VAANI_JSON_OBJECT) {
        return rc;
    }

    /* the event of the dashboard's test button: its events are samples */

    member = vaani_json_find(&body->json.top, &vaani_body_name);

    if (member && member->type == VAANI_JSON_STRING
        && member->decoded == vaani_body_test.len)
    {
        rc = vaani_json_string(member, alloc, &name);

        if (rc != VAANI_OK) {
            return rc;
        }

        body->options.test = vaani_str_eq(&name, &vaani_body_test);
    }

    if (body->options.test || !vaani_body_events(&body->json, &events)) {
        return VAANI_OK;
    }

    body->several = 1;

    if (member) {
        body->name = *member;
        body->options.name = &body->name;
    }

    return vaani_body_count(body, &events, error);
}


/*
 * Returns as vaani_body_read().
 */

static int
vaani_body_scan(vaani_body_t *body, vaani_event_error_t *error)
{
    int                   rc;
    vaani_json_error_t    malformed;
    vaani_json_options_t  options;

    options.inner = &vaani_event_data;
    options.unique = body->options.strict;

    body->text = body->received;

    rc = vaani_json_scan(&body->json, body->text.data, body->text.len,
                         &options, body->alloc, &malformed);

    if (rc != VAANI_ERROR) {
        return rc;
    }

    if (!body->options.strict) {
        rc = vaani_repair(&body->received, body->alloc, &body->text);

        if (rc == VAANI_NOMEM) {
            return rc;
        }

        if (rc == VAANI_OK) {
            rc = vaani_json_scan(&body->json, body->text.data, body->text.len,
                                 &options, body->alloc, &malformed);

            if (rc != VAANI_ERROR) {
                vaani_repair_begin(&body->repair, &body->received);
                body->options.repaired = 1;
                return rc;
            }

            vaani_repair_begin(&body->repair, &body->received);
            malformed.offset = vaani_repair_seek(&body->repair,
                                                 malformed.offset);
        }
    }

    return vaani_event_malformed(error, &malformed, body->received.len);
}


/*
 * Replaces line breaks between tokens with spaces, because a message is one
 * line.  Strings have no raw line breaks.  Returns VAANI_OK or VAANI_NOMEM.
 */

static int
vaani_body_line(vaani_body_t *body)
{
    size_t   n;
    u_char  *p;

    body->line = body->text;

    if (!body->json.broken) {
        return VAANI_OK;
    }

    p = body->alloc->alloc(body->alloc->ctx, body->text.len);

    if (p == NULL) {
        return VAANI_NOMEM;
    }

    for (n = 0; n < body->text.len; n++) {
        p[n] = (body->text.data[n] == '\n' || body->text.data[n] == '\r')
               ? ' ' : body->text.data[n];
    }

    body->line.data = p;

    return VAANI_OK;
}


/*
 * Whether an event contains events.  Everything except a non-empty array
 * counts as absent.
 */

static unsigned
vaani_body_events(vaani_json_t *json, vaani_str_t *raw)
{
    size_t                n;
    vaani_json_member_t  *member;

    member = vaani_json_find(&json->top, &vaani_body_envelope);

    if (member == NULL || member->type != VAANI_JSON_ARRAY) {
        return 0;
    }

    *raw = member->raw;

    for (n = 1; raw->data[n] <= ' '; n++) { /* void */ }

    if (raw->data[n] == ']') {
        member->read = 1;
        return 0;
    }

    return 1;
}


/*
 * Takes all of the events, or none if there are too many.  The scan counts
 * them before the first one is read.  Returns VAANI_OK or VAANI_ERROR.
 */

static int
vaani_body_count(vaani_body_t *body, const vaani_str_t *events,
    vaani_event_error_t *error)
{
    size_t              n;
    vaani_str_t         raw;
    vaani_json_error_t  malformed;

    vaani_json_array(&body->events, events);

    /* no list: neither an error nor an allocation is possible */

    for (n = 0; n <= VAANI_BODY_MAX_EVENTS; n++) {

        if (vaani_json_element(&body->events, &body->json, NULL, body->alloc,
                               &raw, &malformed)
            == VAANI_DONE)
        {
            vaani_json_array(&body->events, events);
            return VAANI_OK;
        }
    }

    return vaani_event_invalid(error, &vaani_body_envelope,
                               VAANI_REASON_TOO_MANY_EVENTS,
                               "must not have more than 100 elements");
}


int
vaani_body_next(vaani_body_t *body, vaani_event_t *event, vaani_part_t *part,
    vaani_event_error_t *error)
{
    int                   rc;
    vaani_str_t           raw, events;
    vaani_json_error_t    malformed;
    vaani_json_options_t  options;

    if (!body->several) {

        if (body->ended) {
            return VAANI_DONE;
        }

        body->ended = 1;

        part->received = body->received;
        part->payload = body->line;

        return vaani_body_event(body, event, error);
    }

    options.inner = &vaani_event_data;
    options.unique = body->options.strict;

    rc = vaani_json_element(&body->events, &body->json, &options, body->alloc,
                            &raw, &malformed);

    if (rc == VAANI_NOMEM || rc == VAANI_DONE) {
        return rc;
    }

    vaani_body_part(body, &raw, part);

    if (rc == VAANI_ERROR) {
        memset(event, 0, sizeof(vaani_event_t));

        malformed.offset += body->events.start - body->text.data;

        if (body->options.repaired) {
            malformed.offset = vaani_repair_seek(&body->repair,
                                                 malformed.offset);
        }

        return vaani_event_malformed(error, &malformed, raw.len);
    }

    if (vaani_body_events(&body->json, &events)) {
        memset(event, 0, sizeof(vaani_event_t));

        return vaani_event_invalid(error, &vaani_body_envelope,
                                   VAANI_REASON_NESTED_EVENTS,
                                   "must not be nested");
    }

    return vaani_body_event(body, event, error);
}


/*
 * Reads the event in body->json.  Objects go to the hash exactly as they stand
 * in the payload, so that a second read of the payload gives the same bytes.
 * Returns as vaani_event_read().
 */

static int
vaani_body_event(vaani_body_t *body, vaani_event_t *event,
    vaani_event_error_t *error)
{
    int           rc;
    size_t        n;
    vaani_str_t  *value;

    rc = vaani_event_read(event, &body->json, &body->options, body->alloc,
                          error);

    if (rc != VAANI_OK || event->type == NULL
        || body->line.data == body->text.data)
    {
        return rc;
    }

    for (n = 0; n < VAANI_EVENT_MAX_FIELDS; n++) {
        value = &event->values[n];

        if (value->data && event->type->fields[n].type == VAANI_FIELD_OBJECT) {
            value->data = body->line.data + (value->data - body->text.data);
        }
    }

    return VAANI_OK;
}


static void
vaani_body_part(vaani_body_t *body, const vaani_str_t *raw, vaani_part_t *part)
{
    size_t          begin;
    vaani_repair_t  end;

    begin = raw->data - body->text.data;

    part->payload.data = body->line.data + begin;
    part->payload.len = raw->len;

    if (!body->options.repaired) {
        part->received = *raw;
        return;
    }

    part->received.data = body->received.data
                          + vaani_repair_seek(&body->repair, begin);

    end = body->repair;

    part->received.len = vaani_repair_seek(&end, begin + raw->len)
                         - body->repair.pos;
}
