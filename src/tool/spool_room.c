
#include <string.h>

#include "vaani_spool.h"


static int vaani_spool_nameless(vaani_body_t *body, vaani_event_t *event);
static vaani_spool_verdict_e vaani_spool_verdict(const vaani_spool_t *spool,
    const vaani_str_t *room);


/*
 * An event that was accepted, in nginx's format.
 */

vaani_spool_verdict_e
vaani_spool_event_verdict(vaani_spool_t *spool, vaani_journal_record_t *record)
{
    int                   rc;
    unsigned              tries;
    uint64_t              since;
    vaani_event_t         event;
    vaani_delivery_t      delivery;
    vaani_event_error_t   error;

    memset(&event, 0, sizeof(vaani_event_t));

    (void) vaani_journal_deferred(record, &since, &tries);

    rc = vaani_record_read(&delivery, record->content, record->len,
                           &spool->alloc);

    if (rc == VAANI_OK) {
        rc = vaani_event_parse(&event, &delivery.payload, &delivery.name, 0,
                               delivery.repaired, &spool->alloc, &error);
    }

    return (rc == VAANI_NOMEM) ? VAANI_SPOOL_NO_MEMORY
                               : vaani_spool_verdict(spool, &event.room);
}


/*
 * A body with several calls belongs to each of them.
 */

vaani_spool_verdict_e
vaani_spool_delivery_verdict(vaani_spool_t *spool,
    const vaani_journal_record_t *record)
{
    int                     rc;
    vaani_str_t             received;
    vaani_body_t            body;
    vaani_part_t            part;
    vaani_event_t           event;
    vaani_event_error_t     error;
    vaani_spool_verdict_e   verdict, all;

    received.data = record->content;
    received.len = record->len;

    rc = vaani_body_read(&body, &received, 0, &spool->alloc, &error);

    if (rc != VAANI_OK) {
        return (rc == VAANI_NOMEM) ? VAANI_SPOOL_NO_MEMORY
                                   : VAANI_SPOOL_NO_ROOM;
    }

    all = VAANI_SPOOL_OTHER_ROOM;

    for ( ;; ) {
        memset(&event, 0, sizeof(vaani_event_t));

        rc = vaani_body_next(&body, &event, &part, &error);

        if (rc == VAANI_DONE) {
            return all;
        }

        if (rc == VAANI_NOMEM) {
            return VAANI_SPOOL_NO_MEMORY;
        }

        if (rc == VAANI_ERROR && error.kind == VAANI_EVENT_INVALID
            && vaani_spool_nameless(&body, &event) == VAANI_NOMEM)
        {
            return VAANI_SPOOL_NO_MEMORY;
        }

        verdict = vaani_spool_verdict(spool, &event.room);

        if (verdict == VAANI_SPOOL_THE_ROOM) {
            return verdict;
        }

        if (verdict == VAANI_SPOOL_NO_ROOM) {
            all = verdict;
        }
    }
}


/*
 * Reads the call of an event that was refused because of its own name.
 */

static int
vaani_spool_nameless(vaani_body_t *body, vaani_event_t *event)
{
    vaani_json_member_t    *member, name;
    vaani_event_error_t     error;
    vaani_event_options_t   options;

    static const vaani_str_t  own = vaani_string("event");
    static const vaani_str_t  several = vaani_string("events");
    static const vaani_str_t  any = vaani_string("\"-\"");

    /* an element with events of its own may belong to several calls */

    if (event->room.len || vaani_json_find(&body->json.top, &several)) {
        return VAANI_OK;
    }

    member = vaani_json_find(&body->json.top, &own);

    if (member) {
        member->type = VAANI_JSON_NULL;
    }

    memset(&name, 0, sizeof(vaani_json_member_t));

    name.type = VAANI_JSON_STRING;
    name.raw = any;
    name.decoded = 1;

    options = body->options;
    options.name = &name;
    options.test = 1;

    return vaani_event_read(event, &body->json, &options, body->alloc, &error);
}


static vaani_spool_verdict_e
vaani_spool_verdict(const vaani_spool_t *spool, const vaani_str_t *room)
{
    if (room->len == 0) {
        return VAANI_SPOOL_NO_ROOM;
    }

    return vaani_spool_is_room(spool, room) ? VAANI_SPOOL_THE_ROOM
                                            : VAANI_SPOOL_OTHER_ROOM;
}


/*
 * Whether the name is there as a JSON string, which may be truncated after the
 * name.
 */

int
vaani_spool_names(const vaani_spool_t *spool, const u_char *data, size_t len)
{
    size_t         n, size;
    u_char         name[2 * VAANI_ROOM_MAX_LEN + 1];
    const u_char  *p, *end;

    size = 0;
    name[size++] = '"';

    for (n = 0; n < spool->room.len; n++) {

        if (spool->room.data[n] == '"' || spool->room.data[n] == '\\') {
            name[size++] = '\\';
        }

        name[size++] = spool->room.data[n];
    }

    end = data + len;

    for (p = data; (size_t) (end - p) >= size; p++) {
        p = memchr(p, '"', end - p - size + 1);

        if (p == NULL) {
            break;
        }

        if (memcmp(p, name, size) == 0
            && (p + size == end || p[size] == '"'))
        {
            return 1;
        }
    }

    return 0;
}


int
vaani_spool_is_room(const vaani_spool_t *spool, const vaani_str_t *room)
{
    return room->len == spool->room.len
           && memcmp(room->data, spool->room.data, room->len) == 0;
}
