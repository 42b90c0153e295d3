
/*
 * The body of a webhook: one event, or an envelope with several.
 */


#ifndef _VAANI_BODY_H_INCLUDED_
#define _VAANI_BODY_H_INCLUDED_


#include "vaani_event.h"
#include "vaani_repair.h"


/* the maximum number of events in one body */

#define VAANI_BODY_MAX_EVENTS  100


typedef struct {
    vaani_alloc_t             *alloc;
    vaani_event_options_t      options;

    vaani_str_t                received;    /* as received */
    vaani_str_t                text;        /* the same, or repaired */
    vaani_str_t                line;        /* the same, without line breaks
                                               between its tokens */
    unsigned                   several:1;   /* it has "events" */
    unsigned                   ended:1;     /* all events were read */

    vaani_json_t               json;        /* of the body, then of each of its
                                               events */
    vaani_json_member_t        name;        /* of the envelope, if it is one */
    vaani_json_array_t         events;
    vaani_repair_t             repair;      /* where the event begins */
} vaani_body_t;


/*
 * One event of a body.
 */

typedef struct {
    vaani_str_t                received;    /* its bytes as received */
    vaani_str_t                payload;     /* the part that is published */
} vaani_part_t;


/*
 * Scans a body and looks for its events. body->several says whether it is an
 * envelope.  An envelope with more than VAANI_BODY_MAX_EVENTS events is
 * refused.  A body that is not JSON is repaired and scanned again, unless
 * strict is set.  After the call, body->options.known may be set: see
 * vaani_event_options_t.
 *
 * received must outlive *body, and *body must not be moved.  Memory is
 * allocated from alloc.
 *
 * Returns VAANI_OK; VAANI_ERROR with *error filled (offsets count in the
 * received bytes); VAANI_NOMEM.
 */
int vaani_body_read(vaani_body_t *body, const vaani_str_t *received,
    unsigned strict, vaani_alloc_t *alloc, vaani_event_error_t *error);

/*
 * Reads the next event of a body for which vaani_body_read() returned
 * VAANI_OK.  The event points into the body and into memory of alloc, and
 * outlives *body.
 *
 * Returns VAANI_OK; VAANI_ERROR if the event must be refused, with *error and
 * *part filled; VAANI_DONE after the last event; VAANI_NOMEM.
 */
int vaani_body_next(vaani_body_t *body, vaani_event_t *event,
    vaani_part_t *part, vaani_event_error_t *error);


#endif /* _VAANI_BODY_H_INCLUDED_ */
