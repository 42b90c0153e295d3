
#include <string.h>

#include "vaani_event.h"


static unsigned vaani_event_rank(const vaani_str_t *ladder,
    const vaani_str_t *str);


#define vaani_none             { 0, NULL }
#define vaani_special(name, type)                                             \
    { vaani_string(name), vaani_none, type, 0 }
#define vaani_time(name)                                                      \
    { vaani_string(name), vaani_string(name), VAANI_FIELD_TIME, 0 }
#define vaani_optional(name, field, type)                                     \
    { vaani_string(name), vaani_string(field), type, 0 }
#define vaani_required(name, field, type)                                     \
    { vaani_string(name), vaani_string(field), type, 1 }
#define vaani_const_status                                                    \
    { vaani_string("status"), vaani_none, VAANI_FIELD_CONST_STATUS, 0 }
#define vaani_last_field                                                      \
    { vaani_none, vaani_none, VAANI_FIELD_STRING, 0 }


static const vaani_event_type_t  vaani_events[] = {

    { vaani_string("call_started"), '!', VAANI_POSITION_STARTED,
      vaani_string("started"), vaani_none, vaani_none, 0, 0,
      { { vaani_string("status"), vaani_none, VAANI_FIELD_STATUS, 0 },
        vaani_special("phone_number", VAANI_FIELD_NUMBER),
        vaani_last_field } },

    { vaani_string("call_ringing"), '#', VAANI_POSITION_RINGING,
      vaani_string("ringing"), vaani_none, vaani_none, 1, 0,
      { vaani_const_status,
        vaani_last_field } },

    { vaani_string("user_picked_up_at"), '$', VAANI_POSITION_ANSWERED,
      vaani_string("active"), vaani_none, vaani_none, 0, 0,
      { vaani_const_status,
        vaani_last_field } },

    { vaani_string("call_rejected"), '%', VAANI_POSITION_UNSUCCESSFUL,
      vaani_string("rejected"), vaani_string("rejected"), vaani_none, 1, 0,
      { vaani_const_status,
        vaani_last_field } },

    { vaani_string("call_no_answer"), '&', VAANI_POSITION_UNSUCCESSFUL,
      vaani_string("no_answer"), vaani_string("no_answer"), vaani_none, 1, 0,
      { vaani_const_status,
        vaani_last_field } },

    { vaani_string("call_failed"), '(', VAANI_POSITION_UNSUCCESSFUL,
      vaani_string("failed"), vaani_string("failed"), vaani_none, 1, 0,
      { vaani_const_status,
        vaani_optional("error", "error", VAANI_FIELD_STRING),
        vaani_last_field } },

    /* a call is answered before a transfer: its status is "active" */

    { vaani_string("human_transfer_initiated"), '+', VAANI_POSITION_TRANSFER,
      vaani_string("active"), vaani_none, vaani_string("initiated"), 0, 0,
      { vaani_required("transfer_type", "transfer_type", VAANI_FIELD_STRING),
        vaani_required("phone_number", "transfer_phone_number",
                       VAANI_FIELD_STRING),
        vaani_last_field } },

    { vaani_string("human_transfer_successful"), '+', VAANI_POSITION_TRANSFER,
      vaani_string("active"), vaani_none, vaani_string("successful"), 0, 0,
      { vaani_required("transfer_type", "transfer_type", VAANI_FIELD_STRING),
        vaani_required("phone_number", "transfer_phone_number",
                       VAANI_FIELD_STRING),
        vaani_optional("agent_identity", "transfer_agent_identity",
                       VAANI_FIELD_STRING),
        vaani_last_field } },

    { vaani_string("human_transfer_failed"), '+', VAANI_POSITION_TRANSFER,
      vaani_string("active"), vaani_none, vaani_string("failed"), 0, 0,
      { vaani_required("transfer_type", "transfer_type", VAANI_FIELD_STRING),
        vaani_required("phone_number", "transfer_phone_number",
                       VAANI_FIELD_STRING),
        vaani_optional("reason", "transfer_reason", VAANI_FIELD_STRING),
        vaani_optional("sip_status", "transfer_sip_status",
                       VAANI_FIELD_STRING),
        vaani_last_field } },

    { vaani_string("call_ended"), ')', VAANI_POSITION_ENDED,
      vaani_string("ended"), vaani_string("completed"), vaani_none, 0, 0,
      { { vaani_string("call_duration"), vaani_none, VAANI_FIELD_SECONDS, 1 },
        vaani_special("end_reason", VAANI_FIELD_REASON),
        vaani_last_field } },

    { vaani_string("call_postprocessing"), '*', VAANI_POSITION_POSTPROCESSED,
      vaani_string("ended"), vaani_string("completed"), vaani_none, 0, 1,
      { vaani_special("call_duration", VAANI_FIELD_DURATION),
        vaani_optional("transcript", "transcript", VAANI_FIELD_TRANSCRIPT),
        vaani_optional("summary", "summary", VAANI_FIELD_STRING),
        vaani_optional("recording_url", "recording_url", VAANI_FIELD_STRING),
        vaani_optional("entities", "entities", VAANI_FIELD_OBJECT),
        vaani_optional("dispositions", "dispositions", VAANI_FIELD_OBJECT),
        vaani_special("end_reason", VAANI_FIELD_REASON),
        vaani_special("phone_number", VAANI_FIELD_NUMBER),
        vaani_special("from", VAANI_FIELD_FROM),
        vaani_special("call_type", VAANI_FIELD_CALL_TYPE),
        vaani_time("call_dialing_at"),
        vaani_time("call_ringing_at"),
        vaani_time("picked_up_at"),
        vaani_time("call_started_at"),
        vaani_time("call_ended_at") } }
};


#define VAANI_NEVENTS  (sizeof(vaani_events) / sizeof(vaani_events[0]))


/*
 * From low to high.  The order of the three unsuccessful outcomes only decides
 * which one wins if a call has two of them.
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


/* the build fails if the arrays of counters are too small */

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
