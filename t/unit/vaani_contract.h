
/*
 * The documented events, written down a second time from the documentation,
 * not from the table of the core: what bodies may hold and what a call
 * becomes by them.
 */


#ifndef _VAANI_CONTRACT_H_INCLUDED_
#define _VAANI_CONTRACT_H_INCLUDED_


#include <string.h>

#include "vaani_event.h"
#include "vaani_reference.h"


#define VAANI_CONTRACT_FIELDS  5


typedef enum {
    VAANI_CONTRACT_STRING = 0,
    VAANI_CONTRACT_STATUS,          /* a string, and which one is fixed */
    VAANI_CONTRACT_OBJECT,
    VAANI_CONTRACT_SECONDS,
    VAANI_CONTRACT_MILLISECONDS
} vaani_contract_kind_e;


typedef struct {
    const char              *name;
    vaani_contract_kind_e    kind;
    unsigned                 required;
    const char              *hash_field;    /* NULL: not kept under a name */
} vaani_contract_field_t;


typedef struct {
    const char              *name;
    const char              *status;
    const char              *outcome;
    const char              *transfer;
    unsigned                 outbound;
    unsigned                 postprocessed;
    unsigned                 place;         /* in the course of a call */

    vaani_contract_field_t   fields[VAANI_CONTRACT_FIELDS + 1];

    const char              *example;       /* the vendor's */
} vaani_contract_event_t;


static const vaani_contract_event_t  vaani_contract[] = {

    { "call_started", "started", "", "", 0, 0, 1,
      { { "status", VAANI_CONTRACT_STRING, 0, NULL },
        { "phone_number", VAANI_CONTRACT_STRING, 0, "phone_number" } },
      "{\n"
      "\"event\": \"call_started\",\n"
      "\"room_name\": \"room_123abc\",\n"
      "\"status\": \"dialing\",\n"
      "\"phone_number\": \"+1234567890\"\n"
      "}" },

    { "call_ringing", "ringing", "", "", 1, 0, 2,
      { { "status", VAANI_CONTRACT_STATUS, 0, NULL } },
      "{\n"
      "\"event\": \"call_ringing\",\n"
      "\"room_name\": \"room_123abc\",\n"
      "\"status\": \"ringing\"\n"
      "}" },

    { "user_picked_up_at", "active", "", "", 0, 0, 3,
      { { "status", VAANI_CONTRACT_STATUS, 0, NULL } },
      "{\n"
      "\"event\": \"user_picked_up_at\",\n"
      "\"room_name\": \"room_123abc\",\n"
      "\"status\": \"active\"\n"
      "}" },

    { "call_rejected", "rejected", "rejected", "", 1, 0, 5,
      { { "status", VAANI_CONTRACT_STATUS, 0, NULL } },
      "{\n"
      "\"event\": \"call_rejected\",\n"
      "\"room_name\": \"room_123abc\",\n"
      "\"status\": \"rejected\"\n"
      "}" },

    { "call_no_answer", "no_answer", "no_answer", "", 1, 0, 5,
      { { "status", VAANI_CONTRACT_STATUS, 0, NULL } },
      "{\n"
      "\"event\": \"call_no_answer\",\n"
      "\"room_name\": \"room_123abc\",\n"
      "\"status\": \"no_answer\"\n"
      "}" },

    { "call_failed", "failed", "failed", "", 1, 0, 5,
      { { "status", VAANI_CONTRACT_STATUS, 0, NULL },
        { "error", VAANI_CONTRACT_STRING, 0, "error" } },
      "{\n"
      "\"event\": \"call_failed\",\n"
      "\"room_name\": \"room_123abc\",\n"
      "\"status\": \"failed\",\n"
      "\"error\": \"SIP_404_NOT_FOUND\"\n"
      "}" },

    { "human_transfer_initiated", "active", "", "initiated", 0, 0, 4,
      { { "transfer_type", VAANI_CONTRACT_STRING, 1, "transfer_type" },
        { "phone_number", VAANI_CONTRACT_STRING, 1, "transfer_phone_number" }
      },
      "{\n"
      "\"event\": \"human_transfer_initiated\",\n"
      "\"room_name\": \"room_123abc\",\n"
      "\"transfer_type\": \"warm\",\n"
      "\"phone_number\": \"+919876543210\"\n"
      "}" },

    { "human_transfer_successful", "active", "", "successful", 0, 0, 4,
      { { "transfer_type", VAANI_CONTRACT_STRING, 1, "transfer_type" },
        { "phone_number", VAANI_CONTRACT_STRING, 1, "transfer_phone_number" },
        { "agent_identity", VAANI_CONTRACT_STRING, 0,
          "transfer_agent_identity" } },
      "{\n"
      "\"event\": \"human_transfer_successful\",\n"
      "\"room_name\": \"room_123abc\",\n"
      "\"transfer_type\": \"warm\",\n"
      "\"phone_number\": \"+919876543210\",\n"
      "\"agent_identity\": \"human_agent_1712485300\"\n"
      "}" },

    { "human_transfer_failed", "active", "", "failed", 0, 0, 4,
      { { "transfer_type", VAANI_CONTRACT_STRING, 1, "transfer_type" },
        { "phone_number", VAANI_CONTRACT_STRING, 1, "transfer_phone_number" },
        { "reason", VAANI_CONTRACT_STRING, 0, "transfer_reason" },
        { "sip_status", VAANI_CONTRACT_STRING, 0, "transfer_sip_status" } },
      "{\n"
      "\"event\": \"human_transfer_failed\",\n"
      "\"room_name\": \"room_123abc\",\n"
      "\"transfer_type\": \"warm\",\n"
      "\"phone_number\": \"+919876543210\",\n"
      "\"reason\": \"busy\",\n"
      "\"sip_status\": \"busy\"\n"
      "}" },

    { "call_ended", "ended", "completed", "", 0, 0, 6,
      { { "call_duration", VAANI_CONTRACT_SECONDS, 1, NULL },
        { "end_reason", VAANI_CONTRACT_STRING, 0, "end_reason" } },
      "{\n"
      "\"event\": \"call_ended\",\n"
      "\"room_name\": \"room_123abc\",\n"
      "\"call_duration\": 42.5,\n"
      "\"end_reason\": \"AGENT_REQUESTED_DISCONNECT\"\n"
      "}" },

    { "call_postprocessing", "ended", "completed", "", 0, 1, 7,
      { { "call_duration", VAANI_CONTRACT_MILLISECONDS, 1, NULL },
        { "transcript", VAANI_CONTRACT_STRING, 0, "transcript" },
        { "summary", VAANI_CONTRACT_STRING, 0, "summary" },
        { "recording_url", VAANI_CONTRACT_STRING, 0, "recording_url" },
        { "entities", VAANI_CONTRACT_OBJECT, 0, "entities" } },
      "{\n"
      "\"event\": \"call_postprocessing\",\n"
      "\"room_name\": \"room_123abc\",\n"
      "\"call_duration\": 42500,\n"
      "\"transcript\": \"User: Hello. Agent: Hi, how can I help you? ...\",\n"
      "\"summary\": \"Customer called to inquire about service availability "
      "in Mumbai.\",\n"
      "\"entities\": {\n"
      "\"location\": \"Mumbai\",\n"
      "\"intent\": \"service_inquiry\"\n"
      "},\n"
      "\"recording_url\": "
      "\"https://storage.vaani.ai/recordings/call_123.mp3\"\n"
      "}" }
};


#define VAANI_CONTRACT_EVENTS  vaani_test_nelems(vaani_contract)


static inline int
vaani_contract_str_is(const vaani_str_t *str, const char *text)
{
    vaani_str_t  other;

    other.data = (const u_char *) text;
    other.len = strlen(text);

    return vaani_str_eq(str, &other);
}


static inline const vaani_contract_event_t *
vaani_contract_find(const vaani_str_t *name)
{
    size_t  n;

    for (n = 0; n < VAANI_CONTRACT_EVENTS; n++) {
        if (vaani_contract_str_is(name, vaani_contract[n].name)) {
            return &vaani_contract[n];
        }
    }

    return NULL;
}


/*
 * Whether valid UTF-8 has a character of Unicode's category Cc.
 */

static inline int
vaani_contract_has_control(const vaani_str_t *str)
{
    uint32_t       cp;
    vaani_ref_t    r;
    const u_char  *p;

    r.end = str->data + str->len;

    for (p = str->data; p < r.end; /* void */ ) {
        p = vaani_ref_char(&r, p, &cp);

        if (p == NULL || cp < 0x20 || (cp >= 0x7f && cp < 0xa0)) {
            return 1;
        }
    }

    return 0;
}


static inline int
vaani_contract_field_ok(const vaani_contract_event_t *event,
    const vaani_contract_field_t *field, const vaani_ref_member_t *m)
{
    uint64_t  ms;

    switch (field->kind) {

    case VAANI_CONTRACT_STATUS:
        return m->type == VAANI_JSON_STRING
               && vaani_contract_str_is(&m->string, event->status);

    case VAANI_CONTRACT_OBJECT:
        return m->type == VAANI_JSON_OBJECT;

    case VAANI_CONTRACT_SECONDS:
    case VAANI_CONTRACT_MILLISECONDS:
        return m->type == VAANI_JSON_NUMBER
               && vaani_ref_integer(&m->raw, 0, &ms) == NULL;

    default:
        return m->type == VAANI_JSON_STRING;
    }
}


/*
 * The verdict on a text that is JSON: NULL if it's an event, else the name of
 * the field to complain of, "" for the whole.
 */

static inline const char *
vaani_contract_verdict(const vaani_ref_t *r, int strict)
{
    const vaani_ref_member_t      *m;
    const vaani_contract_event_t  *event;
    const vaani_contract_field_t  *field;

    if (r->type != VAANI_JSON_OBJECT) {
        return "";
    }

    m = vaani_ref_find(r, "event");

    if (m == NULL || m->type != VAANI_JSON_STRING) {
        return "event";
    }

    event = vaani_contract_find(&m->string);

    m = vaani_ref_find(r, "room_name");

    if (m == NULL || m->type != VAANI_JSON_STRING
        || m->string.len < 1 || m->string.len > 256
        || vaani_contract_has_control(&m->string))
    {
        return "room_name";
    }

    if (event == NULL || !strict) {
        return NULL;
    }

    for (field = event->fields; field->name; field++) {
        m = vaani_ref_find(r, field->name);

        if (m == NULL || m->type == VAANI_JSON_NULL) {

            if (field->required) {
                return field->name;
            }

            continue;
        }

        if (!vaani_contract_field_ok(event, field, m)) {
            return field->name;
        }
    }

    return NULL;
}


/*
 * What a field of a valid event must have become.  Returns NULL, or what is
 * different.
 */

static inline const char *
vaani_contract_field_differs(const vaani_contract_event_t *expected,
    const vaani_contract_field_t *field, const vaani_event_t *event,
    const vaani_ref_member_t *m)
{
    int                       shift;
    size_t                    n;
    uint64_t                  ms;
    const vaani_str_t        *value;
    static const vaani_str_t  absent;

    n = field - expected->fields;

    /* in lenient mode what is of a wrong type counts as absent */

    if (m && (m->type == VAANI_JSON_NULL
              || !vaani_contract_field_ok(expected, field, m)))
    {
        m = NULL;
    }

    value = &absent;

    switch (field->kind) {

    case VAANI_CONTRACT_SECONDS:
    case VAANI_CONTRACT_MILLISECONDS:
        shift = (field->kind == VAANI_CONTRACT_SECONDS) ? 3 : 0;
        ms = 0;

        if (m) {
            (void) vaani_ref_integer(&m->raw, shift, &ms);
        }

        if (event->has_duration != (m != NULL) || event->duration != ms) {
            return "the duration";
        }

        break;

    case VAANI_CONTRACT_OBJECT:
        value = m ? &m->raw : &absent;
        break;

    default:
        value = (m && field->hash_field) ? &m->string : &absent;
        break;
    }

    if (event->values[n].data == NULL) {
        return (value == &absent && event->values[n].len == 0) ? NULL
                                                               : field->name;
    }

    if (value == &absent || !vaani_str_eq(&event->values[n], value)) {
        return field->name;
    }

    return NULL;
}


/*
 * What a text that is an event must have become.  Returns NULL, or what is
 * different.
 */

static inline const char *
vaani_contract_differs(const vaani_event_t *event, const vaani_ref_t *r)
{
    const char                    *differs;
    vaani_str_t                    status;
    const vaani_ref_member_t      *m;
    const vaani_contract_event_t  *expected;
    const vaani_contract_field_t  *field;

    m = vaani_ref_find(r, "room_name");

    if (!vaani_str_eq(&event->room, &m->string)
        || event->room_json.data != m->raw.data
        || event->room_json.len != m->raw.len)
    {
        return "the room";
    }

    m = vaani_ref_find(r, "event");

    if (!vaani_str_eq(&event->name, &m->string)
        || event->name_json.data != m->raw.data
        || event->name_json.len != m->raw.len)
    {
        return "the name";
    }

    expected = vaani_contract_find(&m->string);

    if (expected == NULL) {
        return (event->type || event->status.len || event->outbound
                || event->has_duration || event->values[0].data)
               ? "an unknown event" : NULL;
    }

    if (event->type == NULL
        || !vaani_contract_str_is(&event->type->name, expected->name))
    {
        return "the type";
    }

    for (field = expected->fields; field->name; field++) {
        m = vaani_ref_find(r, field->name);

        differs = vaani_contract_field_differs(expected, field, event, m);

        if (differs) {
            return differs;
        }
    }

    /* only call_started may say itself what it makes of the call */

    status.data = (u_char *) expected->status;
    status.len = strlen(expected->status);

    m = vaani_ref_find(r, "status");

    if (strcmp(expected->name, "call_started") == 0 && m && m->string.len) {
        status = m->string;
    }

    if (!vaani_str_eq(&event->status, &status)) {
        return "the status";
    }

    if (event->outbound != (expected->outbound
                            || vaani_contract_str_is(&status, "dialing")))
    {
        return "outbound";
    }

    return NULL;
}


#endif /* _VAANI_CONTRACT_H_INCLUDED_ */
