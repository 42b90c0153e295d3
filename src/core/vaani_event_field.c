
#include <string.h>

#include "vaani_event_reader.h"
#include "vaani_transcript.h"


static vaani_json_member_t *vaani_event_find_field(vaani_event_reader_t *r,
    const vaani_field_t *field, unsigned *nested);
static int vaani_event_field(vaani_event_reader_t *r, size_t n,
    const vaani_json_member_t *member);
static void vaani_event_status(vaani_event_t *event,
    const vaani_str_t *status);
static void vaani_event_call_type(vaani_event_t *event,
    const vaani_str_t *type);
static int vaani_event_duration(vaani_event_reader_t *r, size_t n,
    const vaani_json_member_t *member);
static int vaani_event_time(vaani_event_reader_t *r, size_t n,
    const vaani_str_t *value);
static int vaani_event_object(vaani_event_reader_t *r, size_t n,
    const vaani_json_member_t *member);
static unsigned vaani_event_is_empty(const vaani_json_member_t *member);
static int vaani_event_text(vaani_event_reader_t *r,
    const vaani_field_t *field, const vaani_json_member_t *member,
    vaani_str_t *value);
static vaani_source_e vaani_event_source(const vaani_event_t *event,
    const vaani_str_t *value);
static void vaani_event_finish(vaani_event_reader_t *r);
static uint64_t vaani_event_sent(vaani_event_reader_t *r,
    const vaani_str_t *name);
static unsigned vaani_event_contains(const vaani_str_t *str,
    const vaani_str_t *word);


static const vaani_str_t  vaani_dialing = vaani_string("dialing");

static const vaani_str_t  vaani_picked_up_at = vaani_string("picked_up_at");
static const vaani_str_t  vaani_started_at = vaani_string("call_started_at");
static const vaani_str_t  vaani_ended_at = vaani_string("call_ended_at");


/* by vaani_direction_e */

static const vaani_str_t  vaani_call_types[] = {
    { 0, NULL }, vaani_string("inbound"), vaani_string("outbound"),
    vaani_string("web")
};


int
vaani_event_fields(vaani_event_reader_t *r)
{
    int                   rc;
    size_t                n;
    unsigned              nested;
    const vaani_field_t  *field;
    vaani_json_member_t  *member;

    r->from.data = NULL;
    r->from.len = 0;

    for (n = 0; n < VAANI_EVENT_MAX_FIELDS; n++) {
        field = &r->event->type->fields[n];

        if (field->name.len == 0) {
            break;
        }

        r->times[n] = 0;

        member = vaani_event_find_field(r, field, &nested);

        if (member == NULL) {

            if (field->required && r->options->strict) {
                return vaani_event_invalid(r->error, &field->name,
                                           VAANI_REASON_MISSING_FIELD,
                                           "is required");
            }

            continue;
        }

        rc = vaani_event_field(r, n, member);

        if (rc == VAANI_NOMEM) {
            return rc;
        }

        if (rc == VAANI_ERROR && r->options->strict) {
            r->error->nested = nested;
            return rc;
        }

        if (rc != VAANI_OK
            && vaani_event_note(r, rc == VAANI_CONVERTED ? VAANI_NOTE_CONVERTED
                                                         : VAANI_NOTE_IGNORED,
                                &field->name, nested)
               != VAANI_OK)
        {
            return VAANI_NOMEM;
        }
    }

    vaani_event_finish(r);

    return VAANI_OK;
}


/*
 * A field is in "data", or otherwise next to it.
 */

static vaani_json_member_t *
vaani_event_find_field(vaani_event_reader_t *r, const vaani_field_t *field,
    unsigned *nested)
{
    vaani_json_member_t  *member, *top;

    top = vaani_json_find(&r->json->top, &field->name);

    if (top) {
        top->read = 1;
    }

    *nested = 1;

    /* most events have no "data" */

    member = r->json->inner.nmembers
             ? vaani_json_find(&r->json->inner, &field->name) : NULL;

    if (member) {
        member->read = 1;

        if (member->type != VAANI_JSON_NULL) {
            return member;
        }
    }

    *nested = 0;

    return (top && top->type != VAANI_JSON_NULL) ? top : NULL;
}


/*
 * Returns VAANI_OK; VAANI_CONVERTED; VAANI_ERROR, with r->error filled, if the
 * field must be left out or the event refused; VAANI_NOMEM.
 */

static int
vaani_event_field(vaani_event_reader_t *r, size_t n,
    const vaani_json_member_t *member)
{
    int                   rc;
    vaani_str_t           value;
    vaani_event_t        *event;
    const vaani_field_t  *field;

    event = r->event;
    field = &event->type->fields[n];

    switch (field->type) {

    case VAANI_FIELD_SECONDS:
    case VAANI_FIELD_DURATION:
        return vaani_event_duration(r, n, member);

    case VAANI_FIELD_OBJECT:
        return vaani_event_object(r, n, member);

    default:
        break;
    }

    memset(&value, 0, sizeof(vaani_str_t));

    rc = vaani_event_text(r, field, member, &value);

    if (rc == VAANI_ERROR || rc == VAANI_NOMEM) {
        return rc;
    }

    switch (field->type) {

    case VAANI_FIELD_CONST_STATUS:

        if (!vaani_str_eq(&value, &event->type->status)) {
            return vaani_event_invalid(r->error, &field->name,
                                       VAANI_REASON_CONTRADICTORY_STATUS,
                                       "contradicts the event");
        }

        break;

    case VAANI_FIELD_STATUS:
        vaani_event_status(event, &value);
        break;

    case VAANI_FIELD_TIME:
        return vaani_event_time(r, n, &value);

    case VAANI_FIELD_NUMBER:
        event->number = value;
        event->number_source = vaani_event_source(event, &value);
        break;

    case VAANI_FIELD_REASON:
        event->reason = value;
        event->reason_source = vaani_event_source(event, &value);
        break;

    case VAANI_FIELD_FROM:
        r->from = value;
        break;

    case VAANI_FIELD_CALL_TYPE:
        vaani_event_call_type(event, &value);
        break;

    default:
        event->values[n] = value;
    }

    return rc;
}


static void
vaani_event_status(vaani_event_t *event, const vaani_str_t *status)
{
    if (status->len) {
        event->status = *status;
    }

    if (vaani_str_eq(status, &vaani_dialing)
        && event->direction_source < VAANI_SOURCE_EVENT)
    {
        event->direction = VAANI_DIRECTION_OUTBOUND;
        event->direction_source = VAANI_SOURCE_EVENT;
    }
}


static void
vaani_event_call_type(vaani_event_t *event, const vaani_str_t *type)
{
    vaani_direction_e  direction;

    if (event->direction_source >= VAANI_SOURCE_CALL_TYPE) {
        return;
    }

    for (direction = VAANI_DIRECTION_INBOUND;
         direction <= VAANI_DIRECTION_WEB;
         direction++)
    {
        if (vaani_event_contains(type, &vaani_call_types[direction])) {
            event->direction = direction;
            event->direction_source = VAANI_SOURCE_CALL_TYPE;
            return;
        }
    }
}


static int
vaani_event_duration(vaani_event_reader_t *r, size_t n,
    const vaani_json_member_t *member)
{
    int                         rc;
    const char                 *message;
    vaani_str_t                 text;
    vaani_json_t                json;
    vaani_duration_t           *duration;
    vaani_json_error_t          malformed;
    const vaani_field_t        *field;
    vaani_json_options_t        options;
    const vaani_json_member_t  *number;

    field = &r->event->type->fields[n];
    duration = &r->event->duration;
    number = member;

    if (member->type == VAANI_JSON_STRING && !r->options->strict) {

        if (vaani_json_string(member, r->alloc, &text) != VAANI_OK) {
            return VAANI_NOMEM;
        }

        options.inner = NULL;
        options.unique = 0;

        if (vaani_json_scan(&json, text.data, text.len, &options, r->alloc,
                            &malformed)
            == VAANI_OK)
        {
            number = &json.value;
        }
    }

    if (number->type != VAANI_JSON_NUMBER) {
        return vaani_event_invalid(r->error, &field->name,
                                   VAANI_REASON_MISTYPED_FIELD,
                                   "must be a number");
    }

    rc = vaani_json_integer(&number->raw, 3, &duration->if_seconds, &message);

    if (rc == VAANI_OK) {
        rc = vaani_json_integer(&number->raw, 0, &duration->ms, &message);
    }

    if (rc != VAANI_OK) {
        return vaani_event_invalid(r->error, &field->name,
                                   VAANI_REASON_MISTYPED_FIELD, message);
    }

    if (field->type == VAANI_FIELD_SECONDS) {
        duration->ms = duration->if_seconds;
        duration->kind = VAANI_DURATION_ENDED;

    } else {

        /* until the sender's times are known */

        duration->kind = VAANI_DURATION_OPEN;
    }

    return (number == member) ? VAANI_OK : VAANI_CONVERTED;
}


static int
vaani_event_time(vaani_event_reader_t *r, size_t n, const vaani_str_t *value)
{
    u_char               *p;
    const vaani_field_t  *field;

    field = &r->event->type->fields[n];

    if (vaani_time_parse(value, &r->times[n]) != VAANI_OK) {
        return vaani_event_invalid(r->error, &field->name,
                                   VAANI_REASON_MISTYPED_FIELD,
                                   "must be an RFC 3339 time");
    }

    p = r->alloc->alloc(r->alloc->ctx, VAANI_UINT64_LEN);

    if (p == NULL) {
        return VAANI_NOMEM;
    }

    r->event->values[n].data = p;
    r->event->values[n].len = vaani_write_uint(p, r->times[n]) - p;

    return VAANI_OK;
}


static int
vaani_event_object(vaani_event_reader_t *r, size_t n,
    const vaani_json_member_t *member)
{
    const vaani_field_t  *field;

    field = &r->event->type->fields[n];

    if (member->type != VAANI_JSON_OBJECT) {

        /* some serializers write an absent value so */

        if (!r->options->strict && vaani_event_is_empty(member)) {
            return VAANI_CONVERTED;
        }

        return vaani_event_invalid(r->error, &field->name,
                                   VAANI_REASON_MISTYPED_FIELD,
                                   "must be an object");
    }

    r->event->values[n] = member->raw;

    return VAANI_OK;
}


/*
 * Whether a value is an empty array or an empty string.
 */

static unsigned
vaani_event_is_empty(const vaani_json_member_t *member)
{
    size_t  n;

    if (member->type == VAANI_JSON_ARRAY) {
        for (n = 1; member->raw.data[n] <= ' '; n++) { /* void */ }

        return member->raw.data[n] == ']';
    }

    return member->type == VAANI_JSON_STRING && member->decoded == 0;
}


/*
 * Returns as vaani_event_field().
 */

static int
vaani_event_text(vaani_event_reader_t *r, const vaani_field_t *field,
    const vaani_json_member_t *member, vaani_str_t *value)
{
    int  rc;

    if (member->type == VAANI_JSON_STRING) {
        return vaani_json_string(member, r->alloc, value);
    }

    if (member->type == VAANI_JSON_NUMBER && !r->options->strict) {
        *value = member->raw;
        return VAANI_CONVERTED;
    }

    if (member->type == VAANI_JSON_ARRAY && !r->options->strict
        && field->type == VAANI_FIELD_TRANSCRIPT)
    {
        rc = vaani_transcript_text(&member->raw, r->alloc, value);

        if (rc != VAANI_DONE) {
            return (rc == VAANI_OK) ? VAANI_CONVERTED : rc;
        }
    }

    return vaani_event_invalid(r->error, &field->name,
                               VAANI_REASON_MISTYPED_FIELD, "must be a string");
}


static vaani_source_e
vaani_event_source(const vaani_event_t *event, const vaani_str_t *value)
{
    if (value->len == 0) {
        return VAANI_SOURCE_EMPTY;
    }

    return event->type->postprocessed ? VAANI_SOURCE_POSTPROCESSING
                                      : VAANI_SOURCE_CALL;
}


/*
 * Decisions that need more than one field.
 */

static void
vaani_event_finish(vaani_event_reader_t *r)
{
    uint64_t        begin, end;
    vaani_event_t  *event;

    event = r->event;

    if (!event->type->postprocessed) {
        return;
    }

    /* the owner of the number in "from" depends on the direction */

    if (r->from.len && event->number_source < VAANI_SOURCE_POSTPROCESSING
        && (event->direction == VAANI_DIRECTION_INBOUND
            || event->direction == VAANI_DIRECTION_WEB))
    {
        event->number = r->from;
        event->number_source = VAANI_SOURCE_POSTPROCESSING;
    }

    begin = vaani_event_sent(r, &vaani_picked_up_at);

    if (begin == 0) {
        begin = vaani_event_sent(r, &vaani_started_at);
    }

    end = vaani_event_sent(r, &vaani_ended_at);

    if (begin && end > begin) {
        event->duration.span = end - begin;
    }

    if (event->duration.kind == VAANI_DURATION_OPEN) {
        vaani_duration_settle(&event->duration);
    }
}


/*
 * One of the sender's times, or 0.
 */

static uint64_t
vaani_event_sent(vaani_event_reader_t *r, const vaani_str_t *name)
{
    size_t                n;
    const vaani_field_t  *field;

    for (n = 0; n < VAANI_EVENT_MAX_FIELDS; n++) {
        field = &r->event->type->fields[n];

        if (vaani_str_eq(&field->name, name)) {
            return r->times[n];
        }
    }

    return 0;
}


/*
 * Whether a text contains a word, which is in lower case.  Ignores the case of
 * the text.
 */

static unsigned
vaani_event_contains(const vaani_str_t *str, const vaani_str_t *word)
{
    size_t  n, i;

    for (n = 0; n + word->len <= str->len; n++) {

        for (i = 0; i < word->len; i++) {
            if ((str->data[n + i] | 0x20) != word->data[i]) {
                break;
            }
        }

        if (i == word->len) {
            return 1;
        }
    }

    return 0;
}
