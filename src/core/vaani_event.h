
/*
 * The events of a call, as the vendor documents its webhooks.  One table lists
 * the events, the fields of their bodies, and their effect on a call.  To add
 * an event, add a row there.
 */


#ifndef _VAANI_EVENT_H_INCLUDED_
#define _VAANI_EVENT_H_INCLUDED_


#include "vaani_json.h"
#include "vaani_reason.h"
#include "vaani_time.h"


#define VAANI_NAME_MAX_LEN     256      /* of an event, bytes */
#define VAANI_ROOM_MAX_LEN     256      /* bytes */

#define VAANI_EVENT_MAX_FIELDS 15

/* limits of the arrays of counters; ranks start at 1 */

#define VAANI_EVENT_MAX_ROWS   14
#define VAANI_STATUS_MAX_RANK  14

/*
 * The maximum number of notes about an event that differs from the table.  It
 * has room for all the fields of a row and the names of the call, which come
 * before unknown members.
 */

#define VAANI_EVENT_MAX_NOTES  20


typedef enum {
    VAANI_FIELD_STRING = 0,
    VAANI_FIELD_TRANSCRIPT,         /* a string, or an array of turns */
    VAANI_FIELD_OBJECT,             /* kept as JSON text */
    VAANI_FIELD_STATUS,             /* a string, the new status of the call */
    VAANI_FIELD_CONST_STATUS,       /* a string, the status of the row */
    VAANI_FIELD_SECONDS,            /* a number >= 0, kept as integer ms */
    VAANI_FIELD_DURATION,           /* a number >= 0 in an unknown unit */
    VAANI_FIELD_TIME,               /* RFC 3339, kept as Unix time in ms */
    VAANI_FIELD_NUMBER,             /* the phone number of the call */
    VAANI_FIELD_FROM,               /* the caller's, if the other party
                                       called */
    VAANI_FIELD_REASON,             /* why the call ended */
    VAANI_FIELD_CALL_TYPE           /* a string that tells the direction */
} vaani_field_type_e;


typedef struct {
    vaani_str_t                name;        /* in the body */
    vaani_str_t                hash_field;  /* in the hash of the call, if the
                                               field alone decides it */
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
 * The source of a value that several events have.  The script keeps the value
 * of the highest source.
 */

typedef enum {
    VAANI_SOURCE_NONE = 0,

    /* phone numbers and reasons */
    VAANI_SOURCE_EMPTY = 1,
    VAANI_SOURCE_POSTPROCESSING = 2,
    VAANI_SOURCE_CALL = 3,          /* call_started, call_ended */

    /* directions */
    VAANI_SOURCE_EVENT = 1,         /* the event exists for outbound calls
                                       only */
    VAANI_SOURCE_CALL_TYPE = 2,
    VAANI_SOURCE_ROOM = 3           /* the name of the room */
} vaani_source_e;


/*
 * The position of an event among the others of a call.  An event is late if
 * one of a higher position came before it.
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
    vaani_str_t                status;      /* the status that the event sets */
    vaani_str_t                outcome;
    vaani_str_t                transfer;    /* its kind of transfer event */
    unsigned                   outbound;    /* outbound calls only */
    unsigned                   postprocessed;
    vaani_field_t              fields[VAANI_EVENT_MAX_FIELDS];
} vaani_event_type_t;


/*
 * Differences between an event and the table: names only, no values.
 */

typedef enum {
    VAANI_NOTE_NEW = 0,             /* a member that the table does not have */
    VAANI_NOTE_CONVERTED,           /* a field of another type */
    VAANI_NOTE_IGNORED,             /* an invalid value that was left out */
    VAANI_NOTE_CALL                 /* a call other than the one that counts */
} vaani_note_e;


typedef struct {
    vaani_note_e               kind;
    unsigned                   nested;      /* the member is in "data" */
    vaani_str_t                name;        /* of the member, decoded */
} vaani_note_t;


/*
 * A validated event.  The strings are slices of the body or memory of the
 * allocator.  Absent fields have data == NULL.
 */

typedef struct {
    const vaani_event_type_t  *type;        /* NULL: not in the table */

    vaani_str_t                name;        /* decoded, and as in the body */
    vaani_str_t                name_json;
    vaani_str_t                room;        /* the call: its name */
    vaani_str_t                room_json;

    vaani_str_t                status;      /* set if it is of a higher rank */
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
    unsigned                   repaired:1;  /* the body was repaired */

    /* the values of type->fields that go to the hash unchanged */
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
    const char                *message;     /* static, for humans */
    size_t                     offset;      /* of VAANI_EVENT_MALFORMED */
    vaani_str_t                field;       /* of VAANI_EVENT_INVALID, static;
                                               empty: the whole event */
    unsigned                   nested;      /* the field is in "data" */
} vaani_event_error_t;


/*
 * Options for reading an event.
 */

typedef struct {
    unsigned                   strict;      /* as the table says; otherwise
                                               values are converted if
                                               possible */
    unsigned                   test;        /* the event is from the test
                                               button */
    unsigned                   known;       /* unknown events are refused,
                                               except test events */
    const vaani_json_member_t *name;        /* of the envelope: the name for
                                               events without one; or NULL */
    unsigned                   repaired;    /* its body was */
} vaani_event_options_t;


/*
 * The member that may contain the other members of an event.  The scan for
 * vaani_event_read() lists its members too.
 */
extern const vaani_str_t  vaani_event_data;

/*
 * Reads an event that was scanned with its members and those of its "data"
 * listed.  For strict, the scan must have checked that keys are unique.
 *
 * The event points into the scanned text and into memory of alloc.  On
 * VAANI_ERROR *event may be filled in part: name and room have data == NULL
 * until they are validated.  Messages never quote the body.
 *
 * Returns VAANI_OK, also for an event that is not in the table unless
 * options->known is set; VAANI_ERROR with *error filled; VAANI_NOMEM.
 */
int vaani_event_read(vaani_event_t *event, vaani_json_t *json,
    const vaani_event_options_t *options, vaani_alloc_t *alloc,
    vaani_event_error_t *error);

/*
 * Scans the payload of a delivery and reads it as one event, even if it looks
 * like an envelope. name is that of its envelope, JSON, or empty; repaired
 * says whether the delivery's body was repaired.  Returns as
 * vaani_event_read().
 */
int vaani_event_parse(vaani_event_t *event, const vaani_str_t *text,
    const vaani_str_t *name, unsigned strict, unsigned repaired,
    vaani_alloc_t *alloc, vaani_event_error_t *error);

/*
 * Fills *error for text that is not JSON, or JSON that is not an event, and
 * returns VAANI_ERROR.
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
 * Returns row n, for loops over all rows: NULL when n is past the last one.
 */
const vaani_event_type_t *vaani_event_row(size_t n);

/*
 * The rank of a status or an outcome.  The hash keeps the higher one, so that
 * the order of arrival does not matter.  0 for the empty string; a status that
 * the table does not know has the rank of "started".
 */
unsigned vaani_status_rank(const vaani_str_t *status);
unsigned vaani_outcome_rank(const vaani_str_t *outcome);

/*
 * The status of a rank, from 1. Returns NULL if the rank has none.
 */
const vaani_str_t *vaani_status_name(unsigned rank);

/*
 * The number of a row, as in vaani_event_row().
 */
size_t vaani_event_number(const vaani_event_type_t *type);


#endif /* _VAANI_EVENT_H_INCLUDED_ */
