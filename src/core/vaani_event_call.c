
#include <string.h>

#include "vaani_event_reader.h"
#include "vaani_utf8.h"


/* a member that may name the call */

typedef struct {
    vaani_str_t                key;
    unsigned                   nested;      /* it is in "data" */
} vaani_call_place_t;


/* the error, if no usable name is found */

typedef struct {
    const vaani_call_place_t  *empty;       /* the first empty string */
    unsigned                   failed;      /* the reader's error says why the
                                               first other value is invalid */
} vaani_call_search_t;


static int vaani_event_place(vaani_event_reader_t *r,
    const vaani_call_place_t *place, vaani_call_search_t *search);
static int vaani_event_nameless(vaani_event_reader_t *r,
    const vaani_call_search_t *search);
static int vaani_event_room(vaani_event_reader_t *r,
    const vaani_json_member_t *member, const vaani_str_t *key,
    vaani_str_t *room, vaani_str_t *json, vaani_event_error_t *error);
static unsigned vaani_event_has_replaced(const vaani_str_t *raw);
static void vaani_event_direct(vaani_event_t *event);
static unsigned vaani_event_begins(const vaani_str_t *str,
    const vaani_str_t *word);


/* the first one counts */

static const vaani_call_place_t  vaani_call_places[] = {
    { vaani_string("room_name"), 0 },
    { vaani_string("room_name"), 1 },
    { vaani_string("call_id"), 0 },
    { vaani_string("call_id"), 1 }
};

#define VAANI_CALL_PLACES                                                     \
    (sizeof(vaani_call_places) / sizeof(vaani_call_place_t))


/* by vaani_direction_e */

static const vaani_str_t  vaani_room_prefixes[] = {
    { 0, NULL }, vaani_string("inbound-"), vaani_string("outbound-"),
    vaani_string("webrtc-")
};


int
vaani_event_call(vaani_event_reader_t *r)
{
    int                  rc;
    size_t               n;
    vaani_call_search_t  search;

    memset(&search, 0, sizeof(vaani_call_search_t));

    for (n = 0; n < VAANI_CALL_PLACES; n++) {
        rc = vaani_event_place(r, &vaani_call_places[n], &search);

        if (rc == VAANI_NOMEM) {
            return rc;
        }

        if (rc == VAANI_DONE) {
            break;
        }
    }

    if (r->event->room.data) {
        vaani_event_direct(r->event);
        return VAANI_OK;
    }

    return vaani_event_nameless(r, &search);
}


/*
 * The first usable name counts.  Other names are noted as drift.  Returns
 * VAANI_OK; VAANI_DONE if the places after this one do not count; VAANI_NOMEM.
 */

static int
vaani_event_place(vaani_event_reader_t *r, const vaani_call_place_t *place,
    vaani_call_search_t *search)
{
    int                    rc;
    vaani_str_t            room, json;
    vaani_event_t         *event;
    vaani_event_error_t    error;
    vaani_json_member_t   *member;
    vaani_json_members_t  *list;

    event = r->event;
    list = place->nested ? &r->json->inner : &r->json->top;

    member = list->nmembers ? vaani_json_find(list, &place->key) : NULL;

    if (member == NULL || member->type == VAANI_JSON_NULL) {
        return VAANI_OK;
    }

    member->read = 1;

    if (member->type == VAANI_JSON_STRING && member->decoded == 0) {

        if (search->empty == NULL) {
            search->empty = place;
        }

        return VAANI_OK;
    }

    /* the same bytes in both places are one name */

    if (event->room.data && vaani_str_eq(&member->raw, &event->room_json)) {
        return VAANI_OK;
    }

    room.len = 0;
    room.data = NULL;
    json = room;

    rc = vaani_event_room(r, member, &place->key, &room, &json, &error);

    if (rc == VAANI_NOMEM) {
        return rc;
    }

    if (rc == VAANI_ERROR) {

        if (!search->failed) {
            search->failed = 1;
            *r->error = error;
            r->error->nested = place->nested;
        }

        rc = vaani_event_note(r, VAANI_NOTE_IGNORED, &place->key,
                              place->nested);

        return (rc == VAANI_OK && r->options->strict
                && event->room.data == NULL) ? VAANI_DONE : rc;
    }

    if (rc == VAANI_CONVERTED
        && vaani_event_note(r, VAANI_NOTE_CONVERTED, &place->key,
                            place->nested)
           != VAANI_OK)
    {
        return VAANI_NOMEM;
    }

    if (event->room.data == NULL) {
        event->room = room;
        event->room_json = json;
        return VAANI_OK;
    }

    return vaani_str_eq(&room, &event->room)
           ? VAANI_OK
           : vaani_event_note(r, VAANI_NOTE_CALL, &place->key, place->nested);
}


/*
 * Handles an event without a usable name of its call.  Returns VAANI_OK, or
 * VAANI_ERROR with *r->error filled.
 */

static int
vaani_event_nameless(vaani_event_reader_t *r,
    const vaani_call_search_t *search)
{
    if (r->options->test) {
        return VAANI_OK;
    }

    /* an unknown event does not have to belong to a call */

    if (r->event->type == NULL
        && (!r->options->strict || (!search->failed && search->empty == NULL)))
    {
        return VAANI_OK;
    }

    if (search->failed) {
        return VAANI_ERROR;
    }

    if (search->empty) {
        (void) vaani_event_invalid(r->error, &search->empty->key,
                                   VAANI_REASON_INVALID_ROOM_NAME,
                                   "must have 1 to 256 bytes");

        r->error->nested = search->empty->nested;

        return VAANI_ERROR;
    }

    return vaani_event_invalid(r->error, &vaani_call_places[0].key,
                               VAANI_REASON_MISSING_FIELD, "is required");
}


/*
 * Returns VAANI_OK; VAANI_CONVERTED; VAANI_ERROR, with *error filled;
 * VAANI_NOMEM.
 */

static int
vaani_event_room(vaani_event_reader_t *r, const vaani_json_member_t *member,
    const vaani_str_t *key, vaani_str_t *room, vaani_str_t *json,
    vaani_event_error_t *error)
{
    int      rc;
    u_char  *p;

    if (member->type == VAANI_JSON_NUMBER && !r->options->strict
        && member->raw.len <= VAANI_ROOM_MAX_LEN)
    {
        p = r->alloc->alloc(r->alloc->ctx, member->raw.len + 2);

        if (p == NULL) {
            return VAANI_NOMEM;
        }

        json->data = p;
        json->len = member->raw.len + 2;

        *p++ = '"';
        memcpy(p, member->raw.data, member->raw.len);
        p[member->raw.len] = '"';

        room->data = p;
        room->len = member->raw.len;

        return VAANI_CONVERTED;
    }

    if (member->type != VAANI_JSON_STRING) {
        return vaani_event_invalid(error, key, VAANI_REASON_MISTYPED_FIELD,
                                   "must be a string");
    }

    /* the caller has checked that it is not empty */

    if (member->decoded > VAANI_ROOM_MAX_LEN) {
        return vaani_event_invalid(error, key, VAANI_REASON_INVALID_ROOM_NAME,
                                   "must have 1 to 256 bytes");
    }

    if (member->lone) {
        return vaani_event_invalid(error, key, VAANI_REASON_INVALID_ROOM_NAME,
                                   "must not have a lone surrogate");
    }

    if (r->options->repaired && vaani_event_has_replaced(&member->raw)) {
        return vaani_event_invalid(error, key, VAANI_REASON_INVALID_ROOM_NAME,
                                   "must be valid UTF-8");
    }

    rc = vaani_json_string(member, r->alloc, room);

    if (rc != VAANI_OK) {
        return rc;
    }

    if (vaani_utf8_has_control(room->data, room->data + room->len)) {
        return vaani_event_invalid(error, key, VAANI_REASON_INVALID_ROOM_NAME,
                                   "must not contain control characters");
    }

    *json = member->raw;

    return VAANI_OK;
}


/*
 * Whether a name has the replacement character of repairs.  The sender may
 * have sent that character itself, but a second read of the payload cannot
 * tell the difference, and the name must be the same then.
 */

static unsigned
vaani_event_has_replaced(const vaani_str_t *raw)
{
    size_t  n;

    for (n = 0; n + 3 <= raw->len; n++) {
        if (memcmp(raw->data + n, "\xef\xbf\xbd", 3) == 0) {
            return 1;
        }
    }

    return 0;
}


static void
vaani_event_direct(vaani_event_t *event)
{
    size_t  n;

    for (n = VAANI_DIRECTION_INBOUND; n <= VAANI_DIRECTION_WEB; n++) {

        if (vaani_event_begins(&event->room, &vaani_room_prefixes[n])) {
            event->direction = n;
            event->direction_source = VAANI_SOURCE_ROOM;
            return;
        }
    }

    if (event->type && event->type->outbound) {
        event->direction = VAANI_DIRECTION_OUTBOUND;
        event->direction_source = VAANI_SOURCE_EVENT;
    }
}


static unsigned
vaani_event_begins(const vaani_str_t *str, const vaani_str_t *word)
{
    return str->len >= word->len
           && memcmp(str->data, word->data, word->len) == 0;
}
