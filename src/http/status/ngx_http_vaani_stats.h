
/*
 * What operators see: counters in shared memory, over all workers and kept
 * over reloads.  Each worker has a slot of its own, so that no two of them
 * write to the same line of the cache; a reader adds them up.
 */


#ifndef _NGX_HTTP_VAANI_STATS_H_INCLUDED_
#define _NGX_HTTP_VAANI_STATS_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "../../core/vaani_reason.h"
#include "../../core/vaani_transition.h"
#include "../../redis/ngx_vaani_redis.h"


/* workers beyond these share the slots: a power of two */

#define NGX_HTTP_VAANI_SLOTS            64

/* the latest deliveries that a slot remembers: a power of two */

#define NGX_HTTP_VAANI_RECENT           64

/* rows of events after those that are no row */

#define NGX_HTTP_VAANI_EVENT_UNKNOWN    0
#define NGX_HTTP_VAANI_EVENT_NONE       1   /* there was no valid event */
#define NGX_HTTP_VAANI_EVENT_FIRST      2

#define NGX_HTTP_VAANI_EVENTS                                                 \
    (NGX_HTTP_VAANI_EVENT_FIRST + VAANI_EVENT_MAX_ROWS)

/* ranks of statuses: VAANI_TRANSITION_UNCOUNTED is the last one */

#define NGX_HTTP_VAANI_RANKS            16

/*
 * Names that are new in the deliveries.  Anybody who may send events can make
 * up names of events and members: those leave room for each other, and for what
 * was converted or left out, which is the table's.
 */

#define NGX_HTTP_VAANI_DRIFT_EVENTS     16
#define NGX_HTTP_VAANI_DRIFT_MEMBERS    32
#define NGX_HTTP_VAANI_DRIFT_FIELDS     16

#define NGX_HTTP_VAANI_DRIFT                                                  \
    (NGX_HTTP_VAANI_DRIFT_EVENTS + NGX_HTTP_VAANI_DRIFT_MEMBERS               \
     + NGX_HTTP_VAANI_DRIFT_FIELDS)

#define NGX_HTTP_VAANI_DRIFT_LEN        64  /* of a name, bytes */

/* to be raised when the meaning of something in the shared memory changes */

#define NGX_HTTP_VAANI_STATS_VERSION    4


/*
 * How a request ended, $vaani_result.
 */

typedef enum {
    NGX_HTTP_VAANI_PENDING = 0,
    NGX_HTTP_VAANI_OK,
    NGX_HTTP_VAANI_DUPLICATE,
    NGX_HTTP_VAANI_QUEUED,
    NGX_HTTP_VAANI_REJECTED,
    NGX_HTTP_VAANI_UNAUTHORIZED,
    NGX_HTTP_VAANI_UNAVAILABLE,
    NGX_HTTP_VAANI_RESULTS              /* their number */
} ngx_http_vaani_result_e;


/*
 * A delivery that has ended, without anything personal.
 */

typedef struct {
    uint64_t                    time;       /* Unix time, ms; 0: none */
    uint32_t                    call;       /* a digest of 24 bits */
    u_char                      event;
    u_char                      result;
    u_char                      reason;     /* vaani_reason_e */
    u_char                      from;       /* ranks, 0: none */
    u_char                      to;
} ngx_http_vaani_recent_t;


typedef struct {
    ngx_atomic_t                deliveries[NGX_HTTP_VAANI_EVENTS]
                                          [NGX_HTTP_VAANI_RESULTS];
    ngx_atomic_t                reasons[VAANI_NREASONS];
    ngx_atomic_t                transitions[NGX_HTTP_VAANI_RANKS]
                                           [NGX_HTTP_VAANI_RANKS];
    ngx_atomic_t                bytes;      /* of bodies */

    ngx_atomic_t                pid;        /* of the latest process in it */
    ngx_atomic_t                in_flight;

    ngx_atomic_t                nrecent;
    ngx_http_vaani_recent_t     recent[NGX_HTTP_VAANI_RECENT];
} ngx_http_vaani_slot_t;


/*
 * What is new in the deliveries: a name, never a value.
 */

typedef struct {
    u_char                      kind;       /* ngx_http_vaani_drift_e */
    u_char                      event;      /* as it is counted */
    u_char                      len;
    u_char                      name[NGX_HTTP_VAANI_DRIFT_LEN];
} ngx_http_vaani_news_t;


/*
 * How often, and when.  No lock is needed: who
 * sets "hash" has the entry, whoever finds it without a name writes the very
 * same one, and an entry is never freed.
 */

typedef struct {
    ngx_atomic_t                hash;       /* 0: free */
    ngx_atomic_t                ready;      /* the name is there */
    ngx_atomic_t                count;
    ngx_atomic_t                first;      /* Unix time, s */
    ngx_atomic_t                last;
    ngx_http_vaani_news_t       news;
} ngx_http_vaani_drift_t;


typedef struct {
    uint64_t                    since;      /* Unix time, ms */
    uint64_t                    counted;    /* the same, or when a clock that
                                               was set back stood lowest */
    uint64_t                    seed;       /* of digests of calls, a secret */
    ngx_http_vaani_slot_t       slots[NGX_HTTP_VAANI_SLOTS];

    ngx_http_vaani_drift_t      drift[NGX_HTTP_VAANI_DRIFT];
    ngx_atomic_t                drift_other;    /* there was no room */

    /* followed by the slots of each Redis, their tables, and the history */

    ngx_vaani_redis_stats_t     redis[1];
} ngx_http_vaani_stats_t;


typedef struct ngx_http_vaani_history_s  ngx_http_vaani_history_t;


/*
 * What is new about a name, by vaani_note_e, and a name of an event.
 */

typedef enum {
    NGX_HTTP_VAANI_DRIFT_MEMBER = VAANI_NOTE_NEW,
    NGX_HTTP_VAANI_DRIFT_CONVERTED = VAANI_NOTE_CONVERTED,
    NGX_HTTP_VAANI_DRIFT_IGNORED = VAANI_NOTE_IGNORED,
    NGX_HTTP_VAANI_DRIFT_CALL = VAANI_NOTE_CALL,
    NGX_HTTP_VAANI_DRIFT_EVENT
} ngx_http_vaani_drift_e;


/*
 * Sets up the shared memory and what fills it, once the configuration has been
 * read and merged.  Returns NGX_OK or NGX_ERROR.
 */
ngx_int_t ngx_http_vaani_init_stats(ngx_conf_t *cf);

/*
 * Takes the slot of this worker.
 */
void ngx_http_vaani_init_stats_worker(ngx_cycle_t *cycle);

/*
 * The shared memory, or NULL if there are no endpoints.
 */
ngx_http_vaani_stats_t *ngx_http_vaani_stats(void);

/*
 * The number that an event is counted by, NGX_HTTP_VAANI_EVENT_UNKNOWN and
 * others, also if it was rejected.
 */
ngx_uint_t ngx_http_vaani_event_number(const vaani_event_t *event);

/*
 * The name of an event, by that number; NULL if there is none.
 */
const vaani_str_t *ngx_http_vaani_event_name(ngx_uint_t event);

/*
 * Since when transitions are counted, Unix time in ms; 0: they aren't.
 */
uint64_t ngx_http_vaani_counted_since(void);

void ngx_http_vaani_count_transition(vaani_transition_t *transition);

/*
 * One more, or one less, delivery waits for Redis or the spool.
 */
void ngx_http_vaani_count_in_flight(ngx_int_t n);


/* ngx_http_vaani_drift.c: what is new in the sender's deliveries */

/*
 * Counts what of an event isn't as its table says, and logs what was never
 * seen before.
 */
void ngx_http_vaani_drift(const vaani_event_t *event, ngx_log_t *log);

/*
 * The word for what is new about a name, by ngx_http_vaani_drift_e.
 */
const char *ngx_http_vaani_drift_word(ngx_uint_t kind);


#endif /* _NGX_HTTP_VAANI_STATS_H_INCLUDED_ */
