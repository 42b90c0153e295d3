
#include <string.h>

#include "vaani_event_reader.h"


static int vaani_event_name(vaani_event_reader_t *r);
static int vaani_event_news(vaani_event_reader_t *r,
    vaani_json_members_t *list, unsigned nested);
static unsigned vaani_event_known(vaani_event_reader_t *r,
    const vaani_str_t *key);


#define vaani_none             { 0, NULL }


const vaani_str_t  vaani_event_data = vaani_string("data");

static const vaani_str_t  vaani_whole_body = vaani_none;
static const vaani_str_t  vaani_event_key = vaani_string("event");


/* members that any event may have; they are not reported as drift */

static const vaani_str_t  vaani_common_keys[] = {
    vaani_string("event"), vaani_string("room_name"), vaani_string("call_id"),
    vaani_string("timestamp"), vaani_none
};


int
vaani_event_parse(vaani_event_t *event, const vaani_str_t *text,
    const vaani_str_t *name, unsigned strict, unsigned repaired,
    vaani_alloc_t *alloc, vaani_event_error_t *error)
{
    int                    rc;
    vaani_json_t           json, outer;
    vaani_json_error_t     malformed;
    vaani_json_options_t   listed;
    vaani_event_options_t  options;

    memset(event, 0, sizeof(vaani_event_t));
    memset(&options, 0, sizeof(vaani_event_options_t));

    options.strict = strict;
    options.repaired = repaired;

    listed.inner = NULL;
    listed.unique = 0;

    if (name->len) {
        rc = vaani_json_scan(&outer, name->data, name->len, &listed, alloc,
                             &malformed);

        if (rc != VAANI_OK) {
            return (rc == VAANI_ERROR)
                   ? vaani_event_malformed(error, &malformed, name->len) : rc;
        }

        options.name = &outer.value;
    }

    listed.inner = &vaani_event_data;
    listed.unique = strict;

    rc = vaani_json_scan(&json, text->data, text->len, &listed, alloc,
                         &malformed);

    if (rc != VAANI_OK) {
        return (rc == VAANI_ERROR)
               ? vaani_event_malformed(error, &malformed, text->len) : rc;
    }

    return vaani_event_read(event, &json, &options, alloc, error);
}


int
vaani_event_read(vaani_event_t *event, vaani_json_t *json,
    const vaani_event_options_t *options, vaani_alloc_t *alloc,
    vaani_event_error_t *error)
{
    int                   rc;
    vaani_event_reader_t  r;

    memset(event, 0, sizeof(vaani_event_t));

    r.event = event;
    r.json = json;
    r.options = options;
    r.alloc = alloc;
    r.error = error;

    event->repaired = (options->repaired != 0);
    event->test = options->test;

    if (json->value.type != VAANI_JSON_OBJECT) {
        return vaani_event_invalid(error, &vaani_whole_body,
                                   VAANI_REASON_NOT_AN_OBJECT,
                                   "the body must be a JSON object");
    }

    rc = vaani_event_name(&r);

    if (rc != VAANI_OK) {
        return rc;
    }

    event->type = options->test ? NULL : vaani_event_find(&event->name);

    rc = vaani_event_call(&r);

    if (rc != VAANI_OK) {
        return rc;
    }

    if (event->type == NULL) {

        if (!options->known || options->test) {
            return VAANI_OK;
        }

        return vaani_event_invalid(error, &vaani_event_key,
                                   VAANI_REASON_UNKNOWN_EVENT,
                                   "is not one of the documented events");
    }

    event->status = event->type->status;

    rc = vaani_event_fields(&r);

    if (rc == VAANI_OK) {
        rc = vaani_event_news(&r, &json->top, 0);
    }

    if (rc == VAANI_OK) {
        rc = vaani_event_news(&r, &json->inner, 1);
    }

    return rc;
}


static int
vaani_event_name(vaani_event_reader_t *r)
{
    int                         rc;
    vaani_str_t                 name;
    vaani_json_member_t        *own;
    const vaani_json_member_t  *member;

    own = vaani_json_find(&r->json->top, &vaani_event_key);

    if (own) {
        own->read = 1;
    }

    member = own;

    if (member == NULL || member->type == VAANI_JSON_NULL) {
        member = r->options->name;
        r->event->inherited = 1;
    }

    if (member == NULL || member->type == VAANI_JSON_NULL) {
        return vaani_event_invalid(r->error, &vaani_event_key,
                                   VAANI_REASON_MISSING_FIELD, "is required");
    }

    if (member->type != VAANI_JSON_STRING) {
        return vaani_event_invalid(r->error, &vaani_event_key,
                                   VAANI_REASON_MISTYPED_FIELD,
                                   "must be a string");
    }

    if (member->decoded > VAANI_NAME_MAX_LEN) {
        return vaani_event_invalid(r->error, &vaani_event_key,
                                   VAANI_REASON_INVALID_EVENT,
                                   "must not have more than 256 bytes");
    }

    if (member->lone) {
        return vaani_event_invalid(r->error, &vaani_event_key,
                                   VAANI_REASON_INVALID_EVENT,
                                   "must not have a lone surrogate");
    }

    rc = vaani_json_string(member, r->alloc, &name);

    if (rc != VAANI_OK) {
        return rc;
    }

    r->event->name = name;
    r->event->name_json = member->raw;

    return VAANI_OK;
}


/*
 * Notes the members that the table does not have.  Returns VAANI_OK or
 * VAANI_NOMEM.
 */

static int
vaani_event_news(vaani_event_reader_t *r, vaani_json_members_t *list,
    unsigned nested)
{
    size_t                      n;
    const vaani_json_member_t  *member;

    for (n = 0; n < list->nmembers; n++) {
        member = &list->members[n];

        if (member->read || member->type == VAANI_JSON_NULL
            || vaani_event_known(r, &member->key))
        {
            continue;
        }

        if (!nested
            && member->type == VAANI_JSON_OBJECT
            && vaani_str_eq(&member->key, &vaani_event_data))
        {
            continue;
        }

        if (vaani_event_note(r, VAANI_NOTE_NEW, &member->key, nested)
            != VAANI_OK)
        {
            return VAANI_NOMEM;
        }
    }

    return VAANI_OK;
}


/*
 * Whether the table has a member.  A repeated member was read only once.
 */

static unsigned
vaani_event_known(vaani_event_reader_t *r, const vaani_str_t *key)
{
    size_t                n;
    const vaani_field_t  *fields;

    for (n = 0; vaani_common_keys[n].len; n++) {
        if (vaani_str_eq(key, &vaani_common_keys[n])) {
            return 1;
        }
    }

    fields = r->event->type->fields;

    for (n = 0; n < VAANI_EVENT_MAX_FIELDS && fields[n].name.len; n++) {
        if (vaani_str_eq(key, &fields[n].name)) {
            return 1;
        }
    }

    return 0;
}
