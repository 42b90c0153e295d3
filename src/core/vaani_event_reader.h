
/*
 * Private to the files that read an event.
 */


#ifndef _VAANI_EVENT_READER_H_INCLUDED_
#define _VAANI_EVENT_READER_H_INCLUDED_


#include "vaani_event.h"


/*
 * a value of another type was converted; never returned to callers of the core
 */

#define VAANI_CONVERTED        1


/* one event during the read */

typedef struct {
    vaani_event_t                *event;
    vaani_json_t                 *json;
    const vaani_event_options_t  *options;
    vaani_alloc_t                *alloc;
    vaani_event_error_t          *error;

    vaani_str_t                   from;
    uint64_t                      times[VAANI_EVENT_MAX_FIELDS];
} vaani_event_reader_t;


/*
 * vaani_event_call.c: finds the name of the call, and its direction as far as
 * the name tells it.  The event's type is known.  Returns as
 * vaani_event_read().
 */
int vaani_event_call(vaani_event_reader_t *r);

/*
 * vaani_event_field.c: reads the fields of event->type.  Returns as
 * vaani_event_read().
 */
int vaani_event_fields(vaani_event_reader_t *r);

/*
 * vaani_event_note.c: notes a member that differs from the table, unless there
 * are too many notes.  Returns VAANI_OK or VAANI_NOMEM.
 */
int vaani_event_note(vaani_event_reader_t *r, vaani_note_e kind,
    const vaani_str_t *name, unsigned nested);


#endif /* _VAANI_EVENT_READER_H_INCLUDED_ */
