
/*
 * Counters in shared memory, for all workers, which survive reloads.  Each
 * worker has its own slot, so that no two workers write to the same cache
 * line; a reader adds them up.
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

/* numbers of events: two special ones, then the rows of the table */

#define NGX_HTTP_VAANI_EVENT_UNKNOWN    0
#define NGX_HTTP_VAANI_EVENT_NONE       1   /* there was no valid event */
#define NGX_HTTP_VAANI_EVENT_FIRST      2

#define NGX_HTTP_VAANI_EVENTS                                                 \
    (NGX_HTTP_VAANI_EVENT_FIRST + VAANI_EVENT_MAX_ROWS)

/* ranks of statuses: VAANI_TRANSITION_UNCOUNTED is the last one */

#define NGX_HTTP_VAANI_RANKS            16

/*
 * New names in the deliveries.  An authorized sender can invent any number of
 * names of events and members.  Each kind therefore has its own limit, so that
 * converted and ignored members of the table are still shown.
 */

#define NGX_HTTP_VAANI_DRIFT_EVENTS     16
#define NGX_HTTP_VAANI_DRIFT_MEMBERS    32
#define NGX_HTTP_VAANI_DRIFT_FIELDS     16

#define NGX_HTTP_VAANI_DRIFT                                                  \
    (NGX_HTTP_VAANI_DRIFT_EVENTS + NGX_HTTP_VAANI_DRIFT_MEMBERS               \
     + NGX_HTTP_VAANI_DRIFT_FIELDS)

#define NGX_HTTP_VAANI_DRIFT_LEN        64  /* of a name, bytes */

/* raise it if the meaning of the shared memory changes */

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
 * A new name in the deliveries; never a value.
 */

typedef struct {
    u_char                      kind;       /* ngx_http_vaani_drift_e */
    u_char                      event;      /* as it is counted */
    u_char                      len;
    u_char                      name[NGX_HTTP_VAANI_DRIFT_LEN];
} ngx_http_vaani_news_t;


/*
 * How often, and when.  No lock is needed: the worker that sets "hash" owns the
 * entry, each worker that finds it without a name writes the same name, and an
 * entry is never freed.
 */

typedef struct {
    ngx_atomic_t                hash;       /* 0: free */
    ngx_atomic_t                ready;      /* the name is complete */
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
    ngx_atomic_t                drift_other;    /* beyond the limit */

    /* followed by the slots of each Redis, their tables, and the history */

    ngx_vaani_redis_stats_t     redis[1];
} ngx_http_vaani_stats_t;


typedef struct ngx_http_vaani_history_s  ngx_http_vaani_history_t;


/*
 * The kinds of news about a name: those of vaani_note_e, and a new event.
 */

typedef enum {
    NGX_HTTP_VAANI_DRIFT_MEMBER = VAANI_NOTE_NEW,
    NGX_HTTP_VAANI_DRIFT_CONVERTED = VAANI_NOTE_CONVERTED,
    NGX_HTTP_VAANI_DRIFT_IGNORED = VAANI_NOTE_IGNORED,
    NGX_HTTP_VAANI_DRIFT_CALL = VAANI_NOTE_CALL,
    NGX_HTTP_VAANI_DRIFT_EVENT
} ngx_http_vaani_drift_e;


/*
 * Adds the shared memory and the log handler, after the configuration has been
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
 * Unix time in ms since which transitions are counted; 0: they are not.
 */
uint64_t ngx_http_vaani_counted_since(void);

void ngx_http_vaani_count_transition(vaani_transition_t *transition);

/*
 * One more, or one less, delivery waits for Redis or the spool.
 */
void ngx_http_vaani_count_in_flight(ngx_int_t n);


/* ngx_http_vaani_drift.c: new names in the sender's deliveries */

/*
 * Counts the differences between an event and the table, and logs those that
 * were never seen before.
 */
void ngx_http_vaani_drift(const vaani_event_t *event, ngx_log_t *log);

/*
 * The word for the kind of news about a name, by ngx_http_vaani_drift_e.
 */
const char *ngx_http_vaani_drift_word(ngx_uint_t kind);


#endif /* _NGX_HTTP_VAANI_STATS_H_INCLUDED_ */
