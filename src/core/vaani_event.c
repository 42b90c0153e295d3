
#include <string.h>

#include "vaani_event.h"


static int vaani_event_name(vaani_event_t *event, const vaani_json_t *json,
    vaani_event_error_t *error);
static int vaani_event_room(vaani_event_t *event, const vaani_json_t *json,
    vaani_event_error_t *error);
static int vaani_event_fields(vaani_event_t *event, const vaani_json_t *json,
    unsigned strict, vaani_event_error_t *error);
static int vaani_event_field(vaani_event_t *event, size_t n,
    const vaani_json_t *json, const vaani_json_member_t *member,
    vaani_event_error_t *error);
static unsigned vaani_event_has_control(const vaani_str_t *str);
static unsigned vaani_event_rank(const vaani_str_t *ladder,
    const vaani_str_t *str);
static int vaani_event_invalid(vaani_event_error_t *error,
    const vaani_str_t *field, const char *reason, const char *message);


#define vaani_none             { 0, NULL }
#define vaani_optional(name, field, type)                                     \
    { vaani_string(name), vaani_string(field), type, 0 }
#define vaani_required(name, field, type)                                     \
    { vaani_string(name), vaani_string(field), type, 1 }
#define vaani_const_status                                                    \
    { vaani_string("status"), vaani_none, VAANI_FIELD_CONST_STATUS, 0 }
#define vaani_last_field                                                      \
    { vaani_none, vaani_none, VAANI_FIELD_STRING, 0 }


static const vaani_event_type_t  vaani_events[] = {

    { vaani_string("call_started"), VAANI_POSITION_STARTED,
      vaani_string("started"), vaani_none, vaani_none, 0, 0,
      { { vaani_string("status"), vaani_none, VAANI_FIELD_STATUS, 0 },
        vaani_optional("phone_number", "phone_number", VAANI_FIELD_STRING),
        vaani_last_field } },

    { vaani_string("call_ringing"), VAANI_POSITION_RINGING,
      vaani_string("ringing"), vaani_none, vaani_none, 1, 0,
      { vaani_const_status,
        vaani_last_field } },

    { vaani_string("user_picked_up_at"), VAANI_POSITION_ANSWERED,
      vaani_string("active"), vaani_none, vaani_none, 0, 0,
      { vaani_const_status,
        vaani_last_field } },

    { vaani_string("call_rejected"), VAANI_POSITION_UNSUCCESSFUL,
      vaani_string("rejected"), vaani_string("rejected"), vaani_none, 1, 0,
      { vaani_const_status,
        vaani_last_field } },

    { vaani_string("call_no_answer"), VAANI_POSITION_UNSUCCESSFUL,
      vaani_string("no_answer"), vaani_string("no_answer"), vaani_none, 1, 0,
      { vaani_const_status,
        vaani_last_field } },

    { vaani_string("call_failed"), VAANI_POSITION_UNSUCCESSFUL,
      vaani_string("failed"), vaani_string("failed"), vaani_none, 1, 0,
      { vaani_const_status,
        vaani_optional("error", "error", VAANI_FIELD_STRING),
        vaani_last_field } },

    /* who is being transferred has been answered, hence "active" */

    { vaani_string("human_transfer_initiated"), VAANI_POSITION_TRANSFER,
      vaani_string("active"), vaani_none, vaani_string("initiated"), 0, 0,
      { vaani_required("transfer_type", "transfer_type", VAANI_FIELD_STRING),
        vaani_required("phone_number", "transfer_phone_number",
                       VAANI_FIELD_STRING),
        vaani_last_field } },

    { vaani_string("human_transfer_successful"), VAANI_POSITION_TRANSFER,
      vaani_string("active"), vaani_none, vaani_string("successful"), 0, 0,
      { vaani_required("transfer_type", "transfer_type", VAANI_FIELD_STRING),
        vaani_required("phone_number", "transfer_phone_number",
                       VAANI_FIELD_STRING),
        vaani_optional("agent_identity", "transfer_agent_identity",
                       VAANI_FIELD_STRING),
        vaani_last_field } },

    { vaani_string("human_transfer_failed"), VAANI_POSITION_TRANSFER,
      vaani_string("active"), vaani_none, vaani_string("failed"), 0, 0,
      { vaani_required("transfer_type", "transfer_type", VAANI_FIELD_STRING),
        vaani_required("phone_number", "transfer_phone_number",
                       VAANI_FIELD_STRING),
        vaani_optional("reason", "transfer_reason", VAANI_FIELD_STRING),
        vaani_optional("sip_status", "transfer_sip_status",
                       VAANI_FIELD_STRING),
        vaani_last_field } },

    { vaani_string("call_ended"), VAANI_POSITION_ENDED,
      vaani_string("ended"), vaani_string("completed"), vaani_none, 0, 0,
      { vaani_required("call_duration", "", VAANI_FIELD_SECONDS),
        vaani_optional("end_reason", "end_reason", VAANI_FIELD_STRING),
        vaani_last_field } },

    { vaani_string("call_postprocessing"), VAANI_POSITION_POSTPROCESSED,
      vaani_string("ended"), vaani_string("completed"), vaani_none, 0, 1,
      { vaani_required("call_duration", "", VAANI_FIELD_MILLISECONDS),
        vaani_optional("transcript", "transcript", VAANI_FIELD_STRING),
        vaani_optional("summary", "summary", VAANI_FIELD_STRING),
        vaani_optional("recording_url", "recording_url", VAANI_FIELD_STRING),
        vaani_optional("entities", "entities", VAANI_FIELD_OBJECT) } }
};


#define VAANI_NEVENTS  (sizeof(vaani_events) / sizeof(vaani_events[0]))


/*
 * From low to high.  The order among the three unsuccessful ones only settles
 * which one wins when a call has two of them.
 */

static const vaani_str_t  vaani_statuses[] = {
    vaani_string("started"),
    vaani_string("dialing"),
    vaani_string("ringing"),
    vaani_string("active"),
    vaani_string("failed"),
    vaani_string("no_answer"),
    vaani_string("rejected"),
    vaani_string("ended"),
    vaani_none
};


#define VAANI_NSTATUSES                                                       \
    (sizeof(vaani_statuses) / sizeof(vaani_statuses[0]) - 1)


/* what counts them has room for so many: else this doesn't compile */

typedef char  vaani_event_check_rows[
    VAANI_NEVENTS <= VAANI_EVENT_MAX_ROWS ? 1 : -1];
typedef char  vaani_event_check_ranks[
    VAANI_NSTATUSES <= VAANI_STATUS_MAX_RANK ? 1 : -1];


static const vaani_str_t  vaani_outcomes[] = {
    vaani_string("completed"),
    vaani_string("failed"),
    vaani_string("no_answer"),
    vaani_string("rejected"),
    vaani_none
};


static const vaani_str_t  vaani_whole_body = vaani_none;
static const vaani_str_t  vaani_event_key = vaani_string("event");
static const vaani_str_t  vaani_room_key = vaani_string("room_name");
static const vaani_str_t  vaani_dialing = vaani_string("dialing");


int
vaani_event_parse(vaani_event_t *event, const u_char *text, size_t len,
    unsigned strict, vaani_alloc_t *alloc, vaani_event_error_t *error)
{
    int                 rc;
    vaani_json_t        json;
    vaani_json_error_t  malformed;

    memset(event, 0, sizeof(vaani_event_t));

    rc = vaani_json_scan(&json, text, len, alloc, &malformed);

    if (rc == VAANI_ERROR) {
        error->kind = VAANI_EVENT_MALFORMED;
        error->reason = (len == 0) ? "empty_body" : "invalid_json";
        error->message = (len == 0) ? "the body is empty" : malformed.message;
        error->offset = malformed.offset;
        error->field = vaani_whole_body;
    }

    if (rc != VAANI_OK) {
        return rc;
    }

    if (json.type != VAANI_JSON_OBJECT) {
        return vaani_event_invalid(error, &vaani_whole_body, "not_an_object",
                                   "the body must be a JSON object");
    }

    rc = vaani_event_name(event, &json, error);

    if (rc != VAANI_OK) {
        return rc;
    }

    rc = vaani_event_room(event, &json, error);

    if (rc != VAANI_OK) {
        return rc;
    }

    event->type = vaani_event_find(&event->name);

    if (event->type == NULL) {
        return VAANI_OK;
    }

    event->status = event->type->status;
    event->outbound = event->type->outbound;

    return vaani_event_fields(event, &json, strict, error);
}


static int
vaani_event_name(vaani_event_t *event, const vaani_json_t *json,
    vaani_event_error_t *error)
{
    const vaani_json_member_t  *member;

    member = vaani_json_find(json, &vaani_event_key);

    if (member == NULL || member->type == VAANI_JSON_NULL) {
        return vaani_event_invalid(error, &vaani_event_key, "missing_field",
                                   "is required");
    }

    if (member->type != VAANI_JSON_STRING) {
        return vaani_event_invalid(error, &vaani_event_key, "mistyped_field",
                                   "must be a string");
    }

    event->name_json = member->raw;

    return vaani_json_string(json, member, &event->name);
}


static int
vaani_event_room(vaani_event_t *event, const vaani_json_t *json,
    vaani_event_error_t *error)
{
    int                         rc;
    vaani_str_t                 room;
    const vaani_json_member_t  *member;

    member = vaani_json_find(json, &vaani_room_key);

    if (member == NULL || member->type == VAANI_JSON_NULL) {
        return vaani_event_invalid(error, &vaani_room_key, "missing_field",
                                   "is required");
    }

    if (member->type != VAANI_JSON_STRING) {
        return vaani_event_invalid(error, &vaani_room_key, "mistyped_field",
                                   "must be a string");
    }

    if (member->decoded == 0 || member->decoded > VAANI_ROOM_MAX_LEN) {
        return vaani_event_invalid(error, &vaani_room_key, "invalid_room_name",
                                   "must have 1 to 256 bytes");
    }

    rc = vaani_json_string(json, member, &room);

    if (rc != VAANI_OK) {
        return rc;
    }

    if (vaani_event_has_control(&room)) {
        return vaani_event_invalid(error, &vaani_room_key, "invalid_room_name",
                                   "must not contain control characters");
    }

    event->room = room;
    event->room_json = member->raw;

    return VAANI_OK;
}


static int
vaani_event_fields(vaani_event_t *event, const vaani_json_t *json,
    unsigned strict, vaani_event_error_t *error)
{
    int                         rc;
    size_t                      n;
    const vaani_field_t        *field;
    const vaani_json_member_t  *member;

    for (n = 0; n < VAANI_EVENT_MAX_FIELDS; n++) {
        field = &event->type->fields[n];

        if (field->name.len == 0) {
            break;
        }

        member = vaani_json_find(json, &field->name);

        if (member == NULL || member->type == VAANI_JSON_NULL) {

            if (field->required && strict) {
                return vaani_event_invalid(error, &field->name,
                                           "missing_field", "is required");
            }

            continue;
        }

        rc = vaani_event_field(event, n, json, member, error);

        if (rc == VAANI_NOMEM || (rc == VAANI_ERROR && strict)) {
            return rc;
        }
    }

    return VAANI_OK;
}


static int
vaani_event_field(vaani_event_t *event, size_t n, const vaani_json_t *json,
    const vaani_json_member_t *member, vaani_event_error_t *error)
{
    int                   rc;
    const char           *message;
    vaani_str_t           value;
    const vaani_field_t  *field;

    field = &event->type->fields[n];

    switch (field->type) {

    case VAANI_FIELD_SECONDS:
    case VAANI_FIELD_MILLISECONDS:

        if (member->type != VAANI_JSON_NUMBER) {
            return vaani_event_invalid(error, &field->name, "mistyped_field",
                                       "must be a number");
        }

        rc = vaani_json_integer(&member->raw,
                                field->type == VAANI_FIELD_SECONDS ? 3 : 0,
                                &event->duration, &message);

        if (rc != VAANI_OK) {
            return vaani_event_invalid(error, &field->name, "mistyped_field",
                                       message);
        }

        event->has_duration = 1;

        return VAANI_OK;

    case VAANI_FIELD_OBJECT:

        if (member->type != VAANI_JSON_OBJECT) {
            return vaani_event_invalid(error, &field->name, "mistyped_field",
                                       "must be an object");
        }

        event->values[n] = member->raw;

        return VAANI_OK;

    default:
        break;
    }

    if (member->type != VAANI_JSON_STRING) {
        return vaani_event_invalid(error, &field->name, "mistyped_field",
                                   "must be a string");
    }

    rc = vaani_json_string(json, member, &value);

    if (rc != VAANI_OK) {
        return rc;
    }

    switch (field->type) {

    case VAANI_FIELD_CONST_STATUS:

        if (!vaani_str_eq(&value, &event->type->status)) {
            return vaani_event_invalid(error, &field->name,
                                       "contradictory_status",
                                       "contradicts the event");
        }

        return VAANI_OK;

    case VAANI_FIELD_STATUS:

        if (value.len) {
            event->status = value;
            event->outbound |= vaani_str_eq(&value, &vaani_dialing);
        }

        return VAANI_OK;

    default:
        event->values[n] = value;
        return VAANI_OK;
    }
}


/*
 * The control characters of Unicode: C0, DEL and C1.
 */

static unsigned
vaani_event_has_control(const vaani_str_t *str)
{
    size_t         n;
    const u_char  *p;

    p = str->data;

    for (n = 0; n < str->len; n++) {

        if (p[n] < 0x20 || p[n] == 0x7f) {
            return 1;
        }

        if (p[n] == 0xc2 && p[n + 1] < 0xa0) {
            return 1;
        }
    }

    return 0;
}


const vaani_event_type_t *
vaani_event_find(const vaani_str_t *name)
{
    size_t  n;

    for (n = 0; n < VAANI_NEVENTS; n++) {
        if (vaani_str_eq(&vaani_events[n].name, name)) {
            return &vaani_events[n];
        }
    }

    return NULL;
}


const vaani_event_type_t *
vaani_event_row(size_t n)
{
    return (n < VAANI_NEVENTS) ? &vaani_events[n] : NULL;
}


size_t
vaani_event_number(const vaani_event_type_t *type)
{
    return type - vaani_events;
}


const vaani_str_t *
vaani_status_name(unsigned rank)
{
    if (rank == 0 || rank > VAANI_NSTATUSES) {
        return NULL;
    }

    return &vaani_statuses[rank - 1];
}


unsigned
vaani_status_rank(const vaani_str_t *status)
{
    return vaani_event_rank(vaani_statuses, status);
}


unsigned
vaani_outcome_rank(const vaani_str_t *outcome)
{
    return vaani_event_rank(vaani_outcomes, outcome);
}


static unsigned
vaani_event_rank(const vaani_str_t *ladder, const vaani_str_t *str)
{
    size_t  n;

    if (str->len == 0) {
        return 0;
    }

    for (n = 0; ladder[n].len; n++) {
        if (vaani_str_eq(&ladder[n], str)) {
            return n + 1;
        }
    }

    return 1;
}


static int
vaani_event_invalid(vaani_event_error_t *error, const vaani_str_t *field,
    const char *reason, const char *message)
{
    error->kind = VAANI_EVENT_INVALID;
    error->reason = reason;
    error->message = message;
    error->offset = 0;
    error->field = *field;

    return VAANI_ERROR;
}
