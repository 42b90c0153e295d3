
#include "vaani_event_reader.h"


/*
 * Nearly all events match the table.  Therefore the notes are allocated with
 * the first note only.
 */

int
vaani_event_note(vaani_event_reader_t *r, vaani_note_e kind,
    const vaani_str_t *name, unsigned nested)
{
    vaani_note_t   *note;
    vaani_event_t  *event;

    event = r->event;

    if (event->nnotes == VAANI_EVENT_MAX_NOTES) {
        return VAANI_OK;
    }

    if (event->notes == NULL) {
        event->notes = r->alloc->alloc(r->alloc->ctx, VAANI_EVENT_MAX_NOTES
                                                      * sizeof(vaani_note_t));

        if (event->notes == NULL) {
            return VAANI_NOMEM;
        }
    }

    note = &event->notes[event->nnotes++];

    note->kind = kind;
    note->name = *name;
    note->nested = nested;

    return VAANI_OK;
}


int
vaani_event_malformed(vaani_event_error_t *error,
    const vaani_json_error_t *malformed, size_t len)
{
    error->kind = VAANI_EVENT_MALFORMED;
    error->reason = (len == 0) ? VAANI_REASON_EMPTY_BODY
                               : VAANI_REASON_INVALID_JSON;
    error->message = (len == 0) ? "the body is empty" : malformed->message;
    error->offset = malformed->offset;
    error->field.data = NULL;
    error->field.len = 0;
    error->nested = 0;

    return VAANI_ERROR;
}


int
vaani_event_invalid(vaani_event_error_t *error, const vaani_str_t *field,
    vaani_reason_e reason, const char *message)
{
    error->kind = VAANI_EVENT_INVALID;
    error->reason = reason;
    error->message = message;
    error->offset = 0;
    error->field = *field;
    error->nested = 0;

    return VAANI_ERROR;
}
