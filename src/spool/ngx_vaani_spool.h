
/*
 * A durable queue on disk for what can't be delivered now.
 *
 * The workers append to one segment file after the other.  One worker at a
 * time, the one that holds the lock of the directory, seals the oldest segment,
 * gives its records to a callback in their order, and deletes the segment when
 * all of them are done.  All locks are dropped by the kernel with the process
 * that holds them, so whatever ends, another worker goes on.
 *
 * Nothing here knows what the records mean.
 */


#ifndef _NGX_VAANI_SPOOL_H_INCLUDED_
#define _NGX_VAANI_SPOOL_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include <ngx_thread_pool.h>

#include "../core/vaani_pace.h"


/* a segment that has so many bytes is followed by another one */

#define NGX_VAANI_SPOOL_SEGMENT     (4 * 1024 * 1024)

/* what may wait to be written, in a worker */

#define NGX_VAANI_SPOOL_MAX_BYTES   (64 * 1024 * 1024)

/*
 * Records given to the callback at the same time: as many as keep the round
 * trip below twice the shortest one, between these.
 */

#define NGX_VAANI_SPOOL_WINDOW      16
#define NGX_VAANI_SPOOL_MAX_WINDOW  512

/* how long a record is tried that fails for an unknown reason, s */

#define NGX_VAANI_SPOOL_PATIENCE    600

/* how often a worker looks for work, ms */

#define NGX_VAANI_SPOOL_INTERVAL    100


typedef struct ngx_vaani_spool_s         ngx_vaani_spool_t;
typedef struct ngx_vaani_spool_entry_s   ngx_vaani_spool_entry_t;
typedef struct ngx_vaani_spool_replay_s  ngx_vaani_spool_replay_t;
typedef struct ngx_vaani_spool_refused_s  ngx_vaani_spool_refused_t;
typedef struct ngx_vaani_spool_refusal_s  ngx_vaani_spool_refusal_t;


typedef enum {
    NGX_VAANI_SPOOL_BATCH = 0,      /* one sync for all that gathered */
    NGX_VAANI_SPOOL_ALWAYS,         /* one for each record */
    NGX_VAANI_SPOOL_OFF             /* whenever the kernel likes to */
} ngx_vaani_spool_sync_e;


/*
 * Called once for an appended record, unless it was detached: rc is NGX_OK if
 * the record is safe, as far as "sync" asks for that, or NGX_ERROR.
 */

typedef void (*ngx_vaani_spool_append_pt)(void *data, ngx_int_t rc);


/*
 * Delivers a record.  Returns NGX_AGAIN if ngx_vaani_spool_replayed() will be
 * called for *slot, else what that would be called with.
 */

typedef ngx_int_t (*ngx_vaani_spool_replay_pt)(void *data, void *slot,
    u_char *record, size_t len, ngx_str_t *reason);


struct ngx_vaani_spool_s {
    ngx_path_t                 *path;
    ngx_array_t                *all;            /* of ngx_vaani_spool_t *: those
                                                   of the configuration */
    ngx_cycle_t                *cycle;
    dev_t                       dev;            /* of the directory, */
    ino_t                       ino;            /* 0: not known */
    size_t                      max;            /* bytes on disk */
    ngx_vaani_spool_sync_e      sync;
    size_t                      refused;        /* bytes of those kept; 0: none
                                                   are */
    unsigned                    refused_set:1;  /* not by default */
    unsigned                    authenticated:1;    /* some that use it are */

    ngx_shm_zone_t             *shm_zone;
#if (NGX_THREADS)
    ngx_thread_pool_t          *thread_pool;
#endif

    ngx_vaani_spool_replay_pt   replay;
    void                       *data;

    /* of this worker */

    ngx_log_t                  *log;
    ngx_queue_t                 entries;        /* to be written */
    size_t                      nbytes;         /* of them */
    void                       *append;
    ngx_vaani_spool_replay_t   *replayer;
    ngx_vaani_spool_refused_t  *keeper;

    vaani_pace_t                complained;
    ngx_msec_t                  failed;         /* when it did, if refusing */
    ngx_atomic_uint_t           full;           /* bytes on disk when it was
                                                   full, else 0 */
    unsigned                    refusing:1;     /* it was full or failed */
};


/*
 * What operators want to know, over all workers.  The numbers count since nginx
 * was started, not since a reload.
 */

typedef struct {
    ngx_atomic_uint_t           records;    /* that wait, but not those of an
                                               earlier life */
    ngx_atomic_uint_t           bytes;      /* on disk, all of them */
    ngx_atomic_uint_t           max;        /* of that */
    time_t                      oldest;     /* about when the oldest of them
                                               came, s; 0: there is none */
    ngx_atomic_uint_t           age;        /* of it, s */

    ngx_atomic_uint_t           appended;
    ngx_atomic_uint_t           replayed;
    ngx_atomic_uint_t           buried;     /* dead letters */
    ngx_atomic_uint_t           refused;    /* full, or failed */

    /* deliveries that were refused with 400 or 422 */

    ngx_atomic_uint_t           refused_kept;
    ngx_atomic_uint_t           refused_dropped;    /* to be kept, weren't */

    /* what lies there for an operator now, as far as is known */

    ngx_atomic_uint_t           dead_letters_bytes;
    ngx_atomic_uint_t           bad_bytes;
    ngx_atomic_uint_t           refused_bytes;
} ngx_vaani_spool_status_t;


/*
 * Sets up the spool of a configuration: its directory, its shared memory, its
 * thread pool.  spool->all is set.  Returns NGX_OK or NGX_ERROR.
 */
ngx_int_t ngx_vaani_spool_init(ngx_conf_t *cf, ngx_vaani_spool_t *spool);

/*
 * Starts and ends a worker's part.  The callbacks of records that wait aren't
 * called any more after the exit.
 */
ngx_int_t ngx_vaani_spool_init_worker(ngx_vaani_spool_t *spool,
    ngx_cycle_t *cycle);
void ngx_vaani_spool_exit_worker(ngx_vaani_spool_t *spool);

/*
 * Makes room for a record of size bytes: *record is where it is to be written.
 * Returns NULL if the spool is full or there is no memory; that was logged.
 */
ngx_vaani_spool_entry_t *ngx_vaani_spool_alloc(ngx_vaani_spool_t *spool,
    size_t size, u_char **record);

/*
 * Appends the record that was written to the entry; the spool owns it from
 * then on.  handler may be NULL.
 */
void ngx_vaani_spool_append(ngx_vaani_spool_t *spool,
    ngx_vaani_spool_entry_t *entry, ngx_vaani_spool_append_pt handler,
    void *data);

/* frees an entry that wasn't appended */
void ngx_vaani_spool_free(ngx_vaani_spool_entry_t *entry);

/* forgets the handler of an entry; the entry itself goes on */
void ngx_vaani_spool_detach(ngx_vaani_spool_entry_t *entry);

/*
 * Keeps what was refused, for an operator: a copy of body, with the reason (one
 * word) and the time of its receipt (Unix time, ms), in the directory "refused"
 * of the spool, within its bounds.  handler is called once with data, never
 * before this returns, unless the refusal was detached: with NGX_OK if it's
 * safe, as far as "sync" asks for that, or NGX_ERROR.
 *
 * Returns NULL if it isn't kept: none are, there were too many for this reason,
 * or there is no memory.
 */
ngx_vaani_spool_refusal_t *ngx_vaani_spool_keep_refused(
    ngx_vaani_spool_t *spool, ngx_str_t *reason, ngx_str_t *body,
    uint64_t received_at, ngx_vaani_spool_append_pt handler, void *data);

/* forgets the handler of a refusal; it is kept all the same */
void ngx_vaani_spool_detach_refusal(ngx_vaani_spool_refusal_t *refusal);

/*
 * Ends the delivery of a record.  rc is NGX_OK; NGX_BUSY if nothing can be
 * delivered now, to try again; NGX_ABORT if this record can't while others may,
 * to try again behind them, and not for ever if there is a *reason, which is
 * that it isn't known; NGX_DECLINED if it never can be, for *reason, and is to
 * be kept aside.
 */
void ngx_vaani_spool_replayed(void *slot, ngx_int_t rc, ngx_str_t *reason);

/*
 * Something was delivered, in whatever way: the receiver is well.
 */
void ngx_vaani_spool_succeeded(ngx_vaani_spool_t *spool);

/*
 * Fills *status.
 */
void ngx_vaani_spool_get_status(ngx_vaani_spool_t *spool,
    ngx_vaani_spool_status_t *status);

/*
 * Whether a record would be taken, as far as is known.  Whether a disk that
 * failed is well again shows when it is tried: some time after it failed, it is
 * worth a try.
 */
ngx_uint_t ngx_vaani_spool_takes(ngx_vaani_spool_t *spool);


#endif /* _NGX_VAANI_SPOOL_H_INCLUDED_ */
