
/*
 * The events of a call, as the vendor documents its webhooks:
 * ONE table says which there are, what their bodies hold, and what they do to
 * a call.  A new event is a new row there.
 */


#ifndef _VAANI_EVENT_H_INCLUDED_
#define _VAANI_EVENT_H_INCLUDED_


#include "vaani_json.h"


#define VAANI_ROOM_MAX_LEN     256      /* bytes */

#define VAANI_EVENT_MAX_FIELDS 5

/* where they are counted, there is room for so many rows, and ranks from 1 */

#define VAANI_EVENT_MAX_ROWS   14
#define VAANI_STATUS_MAX_RANK  14


typedef enum {
    VAANI_FIELD_STRING = 0,
    VAANI_FIELD_OBJECT,             /* kept as JSON text */
    VAANI_FIELD_STATUS,             /* a string, the new status of the call */
    VAANI_FIELD_CONST_STATUS,       /* a string, the status of the row */
    VAANI_FIELD_SECONDS,            /* a number >= 0, kept as integer ms */
    VAANI_FIELD_MILLISECONDS
} vaani_field_type_e;


typedef struct {
    vaani_str_t                name;        /* in the body */
    vaani_str_t                hash_field;  /* in the hash of the call */
    vaani_field_type_e         type;
    unsigned                   required;
} vaani_field_t;


/*
 * Where an event stands among the others of a call.  An event is late if one
 * of a higher position came before it.
 */

typedef enum {
    VAANI_POSITION_STARTED = 1,
    VAANI_POSITION_RINGING,
    VAANI_POSITION_ANSWERED,
    VAANI_POSITION_TRANSFER,
    VAANI_POSITION_UNSUCCESSFUL,
    VAANI_POSITION_ENDED,
    VAANI_POSITION_POSTPROCESSED
} vaani_position_e;


typedef struct {
    vaani_str_t                name;
    vaani_position_e           position;
    vaani_str_t                status;      /* that the event brings */
    vaani_str_t                outcome;
    vaani_str_t                transfer;    /* what it says of a transfer */
    unsigned                   outbound;    /* only outbound calls have it */
    unsigned                   postprocessed;
    vaani_field_t              fields[VAANI_EVENT_MAX_FIELDS];
} vaani_event_type_t;


/*
 * A validated event.  The strings are slices of the body or memory of the
 * allocator; those of absent fields have data == NULL.
 */

typedef struct {
    const vaani_event_type_t  *type;        /* NULL: the table has no such */

    vaani_str_t                name;        /* decoded, and as in the body */
    vaani_str_t                name_json;
    vaani_str_t                room;
    vaani_str_t                room_json;

    vaani_str_t                status;      /* to be set, if it's a climb */
    unsigned                   outbound;
    unsigned                   has_duration;
    uint64_t                   duration;    /* ms */

    /* the values of type->fields, in their order */
    vaani_str_t                values[VAANI_EVENT_MAX_FIELDS];
} vaani_event_t;


typedef enum {
    VAANI_EVENT_MALFORMED = 0,              /* not JSON */
    VAANI_EVENT_INVALID                     /* JSON, but not an event */
} vaani_event_error_e;


typedef struct {
    vaani_event_error_e        kind;
    const char                *reason;      /* static: one word for logs */
    const char                *message;     /* static: for people */
    size_t                     offset;      /* of VAANI_EVENT_MALFORMED */
    vaani_str_t                field;       /* of VAANI_EVENT_INVALID, static;
                                               empty: the whole body */
} vaani_event_error_t;


/*
 * Parses and validates the body of a webhook.  With strict set, the fields of
 * the table's events are checked; else only event and room_name are, and a
 * field of a wrong type counts as absent.
 *
 * The event points into text and into memory of alloc.  *event may be filled
 * in part on VAANI_ERROR: name and room have data == NULL until they are known
 * to be good.  Messages never quote the body.
 *
 * Returns VAANI_OK, also for an event that the table doesn't know;
 * VAANI_ERROR with *error filled; VAANI_NOMEM.
 */
int vaani_event_parse(vaani_event_t *event, const u_char *text, size_t len,
    unsigned strict, vaani_alloc_t *alloc, vaani_event_error_t *error);

/*
 * Finds the row of an event.  Returns NULL if there is none.
 */
const vaani_event_type_t *vaani_event_find(const vaani_str_t *name);

/*
 * The rows one after the other, to count over them: NULL when n is past the
 * last one.
 */
const vaani_event_type_t *vaani_event_row(size_t n);

/*
 * How high a status or an outcome stands: the hash keeps the higher one, so
 * that the order of arrival doesn't matter.  0 for the empty string; what the
 * table doesn't know stands as low as "started".
 */
unsigned vaani_status_rank(const vaani_str_t *status);
unsigned vaani_outcome_rank(const vaani_str_t *outcome);

/*
 * The status of a rank, from 1.  Returns NULL if there is none of that rank.
 */
const vaani_str_t *vaani_status_name(unsigned rank);

/*
 * The number of a row, that vaani_event_row() takes.
 */
size_t vaani_event_number(const vaani_event_type_t *type);


#endif /* _VAANI_EVENT_H_INCLUDED_ */
