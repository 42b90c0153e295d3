
/*
 * The events of a call, as the vendor documents its webhooks:
 * ONE table says which there are, what their bodies hold, and what they do to
 * a call.  A new event is a new row there.
 */


#ifndef _VAANI_EVENT_H_INCLUDED_
#define _VAANI_EVENT_H_INCLUDED_


#include "vaani_json.h"
#include "vaani_reason.h"
#include "vaani_time.h"


#define VAANI_NAME_MAX_LEN     256      /* of an event, bytes */
#define VAANI_ROOM_MAX_LEN     256      /* bytes */

#define VAANI_EVENT_MAX_FIELDS 15

/* where they are counted, there is room for so many rows, and ranks from 1 */

#define VAANI_EVENT_MAX_ROWS   14
#define VAANI_STATUS_MAX_RANK  14

/*
 * What is noted of one event that differs from the table: all the fields of a
 * row and the names of the call can, and come before what is new.
 */

#define VAANI_EVENT_MAX_NOTES  20


typedef enum {
    VAANI_FIELD_STRING = 0,
    VAANI_FIELD_TRANSCRIPT,         /* a string, or an array of turns */
    VAANI_FIELD_OBJECT,             /* kept as JSON text */
    VAANI_FIELD_STATUS,             /* a string, the new status of the call */
    VAANI_FIELD_CONST_STATUS,       /* a string, the status of the row */
    VAANI_FIELD_SECONDS,            /* a number >= 0, kept as integer ms */
    VAANI_FIELD_DURATION,           /* a number >= 0, in a unit to find out */
    VAANI_FIELD_TIME,               /* RFC 3339, kept as Unix time in ms */
    VAANI_FIELD_NUMBER,             /* the phone number of the call */
    VAANI_FIELD_FROM,               /* the caller's, where a caller called */
    VAANI_FIELD_REASON,             /* why the call ended */
    VAANI_FIELD_CALL_TYPE           /* a string that tells the direction */
} vaani_field_type_e;


typedef struct {
    vaani_str_t                name;        /* in the body */
    vaani_str_t                hash_field;  /* in the hash of the call, if
                                               the field alone decides it */
    vaani_field_type_e         type;
    unsigned                   required;
} vaani_field_t;


typedef enum {
    VAANI_DIRECTION_UNKNOWN = 0,
    VAANI_DIRECTION_INBOUND,
    VAANI_DIRECTION_OUTBOUND,
    VAANI_DIRECTION_WEB
} vaani_direction_e;


/*
 * Where a value comes from that several events have: the script keeps that of
 * the highest source.
 */

typedef enum {
    VAANI_SOURCE_NONE = 0,

    /* phone numbers and reasons */
    VAANI_SOURCE_EMPTY = 1,
    VAANI_SOURCE_POSTPROCESSING = 2,
    VAANI_SOURCE_CALL = 3,          /* call_started, call_ended */

    /* directions */
    VAANI_SOURCE_EVENT = 1,         /* an event that only outbound calls have */
    VAANI_SOURCE_CALL_TYPE = 2,
    VAANI_SOURCE_ROOM = 3           /* the name of the room */
} vaani_source_e;


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
    u_char                     code;        /* of its bodies in the hash of a
                                               call: never changes */
    vaani_position_e           position;
    vaani_str_t                status;      /* that the event brings */
    vaani_str_t                outcome;
    vaani_str_t                transfer;    /* what it says of a transfer */
    unsigned                   outbound;    /* only outbound calls have it */
    unsigned                   postprocessed;
    vaani_field_t              fields[VAANI_EVENT_MAX_FIELDS];
} vaani_event_type_t;


/*
 * What of an event isn't as the table says: names only, no values.
 */

typedef enum {
    VAANI_NOTE_NEW = 0,             /* a member that the table doesn't have */
    VAANI_NOTE_CONVERTED,           /* a field of another type */
    VAANI_NOTE_IGNORED,             /* one that was left out */
    VAANI_NOTE_CALL                 /* another call than the one that counts */
} vaani_note_e;


typedef struct {
    vaani_note_e               kind;
    unsigned                   nested;      /* it is in "data" */
    vaani_str_t                name;        /* of the member, decoded */
} vaani_note_t;


/*
 * A validated event.  The strings are slices of the body or memory of the
 * allocator; those of absent fields have data == NULL.
 */

typedef struct {
    const vaani_event_type_t  *type;        /* NULL: the table has no such */

    vaani_str_t                name;        /* decoded, and as in the body */
    vaani_str_t                name_json;
    vaani_str_t                room;        /* the call: its name */
    vaani_str_t                room_json;

    vaani_str_t                status;      /* to be set, if it's a climb */
    vaani_duration_t           duration;
    vaani_str_t                number;      /* phone number, if there is a
                                               source */
    vaani_str_t                reason;      /* the same */
    vaani_direction_e          direction;

    vaani_source_e             number_source;
    vaani_source_e             reason_source;
    vaani_source_e             direction_source;

    unsigned                   inherited:1; /* the name is the envelope's */
    unsigned                   test:1;      /* the dashboard's test button */
    unsigned                   repaired:1;  /* the body was */

    /* the values of type->fields that go to the hash as they are */
    vaani_str_t                values[VAANI_EVENT_MAX_FIELDS];

    vaani_note_t              *notes;       /* NULL: none */
    size_t                     nnotes;
} vaani_event_t;


typedef enum {
    VAANI_EVENT_MALFORMED = 0,              /* not JSON */
    VAANI_EVENT_INVALID                     /* JSON, but not an event */
} vaani_event_error_e;


typedef struct {
    vaani_event_error_e        kind;
    vaani_reason_e             reason;
    const char                *message;     /* static: for people */
    size_t                     offset;      /* of VAANI_EVENT_MALFORMED */
    vaani_str_t                field;       /* of VAANI_EVENT_INVALID, static;
                                               empty: the whole event */
    unsigned                   nested;      /* the field is in "data" */
} vaani_event_error_t;


/*
 * How an event is to be read.
 */

typedef struct {
    unsigned                   strict;      /* the table as it stands, else
                                               what sense can be made of it */
    unsigned                   test;        /* it's one of the test button */
    unsigned                   known;       /* others are refused, but tests */
    const vaani_json_member_t *name;        /* of the envelope: what an event
                                               without a name has; or NULL */
    unsigned                   repaired;    /* its body was */
} vaani_event_options_t;


/*
 * The member that an event's other members may be in: what a scan for
 * vaani_event_read() lists.
 */
extern const vaani_str_t  vaani_event_data;

/*
 * Reads an event that was scanned, with its members and those of its "data"
 * listed: keys must be unique if it is to be strict.
 *
 * The event points into the scanned text and into memory of alloc.  *event may
 * be filled in part on VAANI_ERROR: name and room have data == NULL until they
 * are known to be good.  Messages never quote the body.
 *
 * Returns VAANI_OK, also for an event that the table doesn't know unless
 * options->known is set; VAANI_ERROR with *error filled; VAANI_NOMEM.
 */
int vaani_event_read(vaani_event_t *event, vaani_json_t *json,
    const vaani_event_options_t *options, vaani_alloc_t *alloc,
    vaani_event_error_t *error);

/*
 * Scans a text and reads it as one event, whatever else it may look like: what
 * was a delivery's payload.  name is that of its envelope, JSON, or empty;
 * repaired says that the delivery's body was.  Returns as vaani_event_read().
 */
int vaani_event_parse(vaani_event_t *event, const vaani_str_t *text,
    const vaani_str_t *name, unsigned strict, unsigned repaired,
    vaani_alloc_t *alloc, vaani_event_error_t *error);

/*
 * Fills *error for what isn't JSON, and for what isn't an event, and returns
 * VAANI_ERROR.
 */
int vaani_event_malformed(vaani_event_error_t *error,
    const vaani_json_error_t *malformed, size_t len);
int vaani_event_invalid(vaani_event_error_t *error, const vaani_str_t *field,
    vaani_reason_e reason, const char *message);

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
