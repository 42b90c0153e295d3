
#include "vaani_reason.h"


static const vaani_str_t  vaani_reasons[] = {
    vaani_string(""),
    vaani_string("method"),
    vaani_string("missing_token"),
    vaani_string("wrong_token"),
    vaani_string("missing_signature"),
    vaani_string("malformed_signature"),
    vaani_string("wrong_signature"),
    vaani_string("stale_timestamp"),
    vaani_string("content_type"),
    vaani_string("content_encoding"),
    vaani_string("empty_body"),
    vaani_string("invalid_json"),
    vaani_string("not_an_object"),
    vaani_string("missing_field"),
    vaani_string("mistyped_field"),
    vaani_string("invalid_room_name"),
    vaani_string("contradictory_status"),
    vaani_string("unknown_event"),
    vaani_string("invalid_event"),
    vaani_string("nested_events"),
    vaani_string("too_many_events"),
    vaani_string("body_consumed"),
    vaani_string("body_unreadable"),
    vaani_string("body_too_large"),
    vaani_string("not_published"),
    vaani_string("redis_down"),
    vaani_string("redis_timeout"),
    vaani_string("redis_queue_full"),
    vaani_string("redis_unavailable"),
    vaani_string("redis_deferred"),
    vaani_string("redis_refused"),
    vaani_string("no_memory"),
    vaani_string("spool_full"),
    vaani_string("spool_failed")
};


/* otherwise the build fails */

typedef char  vaani_check_reasons[
    sizeof(vaani_reasons) / sizeof(vaani_str_t) == VAANI_NREASONS ? 1 : -1];


const vaani_str_t *
vaani_reason_word(vaani_reason_e reason)
{
    return (reason < VAANI_NREASONS) ? &vaani_reasons[reason]
                                     : &vaani_reasons[VAANI_REASON_NONE];
}
