
/*
 * A journal on disk: records that cannot be delivered now and, for some time,
 * records that were delivered, because the receiver may lose its data.
 *
 * Waiting records: the workers append to one segment file after the other.
 * One worker, the leader, holds the lock of the directory.  It seals the
 * oldest segment, passes its records to a callback in order, and deletes or
 * keeps the segment when all of them are finished.
 *
 * Kept records: each worker writes a segment of its own per connection to the
 * receiver and life of that connection.  The receiver stores a mark for each
 * such segment, which says how much of it was executed there.  A receiver that
 * loses records also loses the mark.  The leader delivers records that are not
 * covered by a mark again.
 *
 * The receiver may be several servers, each of which owns some of the slots of
 * records.  Then a segment has a mark in each server that owns slots of it.  A
 * mark has a scope, which identifies the server and the slots that it applies
 * to.
 *
 * The kernel drops all locks of a process that ends, so that another worker
 * continues.  The spool does not know the meaning of the records.
 */


#ifndef _NGX_VAANI_SPOOL_H_INCLUDED_
#define _NGX_VAANI_SPOOL_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include <ngx_thread_pool.h>

#include "../core/vaani_pace.h"


/* when a segment has so many bytes, the next one begins */

#define NGX_VAANI_SPOOL_SEGMENT     (4 * 1024 * 1024)

/* the maximum that waits to be written, per worker */

#define NGX_VAANI_SPOOL_MAX_BYTES   (64 * 1024 * 1024)

/*
 * Records given to the callback at the same time.  The number is adjusted to
 * keep the round trip below twice the shortest one, between these limits.
 */

#define NGX_VAANI_SPOOL_WINDOW      16
#define NGX_VAANI_SPOOL_MAX_WINDOW  512

/*
 * the share of the receiver's queue, so that live records do not wait for them
 */

#define NGX_VAANI_SPOOL_KEPT_WINDOW 32

/* how long a record that fails for an unknown reason is retried, s */

#define NGX_VAANI_SPOOL_PATIENCE    600

/* the period of looking for work, if there is some, and if not, ms */

#define NGX_VAANI_SPOOL_INTERVAL    100
#define NGX_VAANI_SPOOL_IDLE        3000

/* how long an answer waits for the disk if the receiver has the record, ms */

#define NGX_VAANI_SPOOL_LATE        100

/* the random part of a kept segment's name, hexadecimal */

#define NGX_VAANI_SPOOL_ID_LEN      32

/* slots of records, if the receiver is several servers */

#define NGX_VAANI_SPOOL_SLOTS       16384

/* no server, and the connection of the server that owns a record */

#define NGX_VAANI_SPOOL_NOBODY      ((ngx_uint_t) -1)
#define NGX_VAANI_SPOOL_OWN_LANE    ((ngx_uint_t) -1)


typedef struct ngx_vaani_spool_s         ngx_vaani_spool_t;
typedef struct ngx_vaani_spool_entry_s   ngx_vaani_spool_entry_t;
typedef struct ngx_vaani_spool_replay_s  ngx_vaani_spool_replay_t;
typedef struct ngx_vaani_spool_refused_s  ngx_vaani_spool_refused_t;
typedef struct ngx_vaani_spool_refusal_s  ngx_vaani_spool_refusal_t;
typedef struct ngx_vaani_spool_writer_s  ngx_vaani_spool_writer_t;
typedef struct ngx_vaani_spool_mark_s    ngx_vaani_spool_mark_t;


typedef enum {
    NGX_VAANI_SPOOL_BATCH = 0,      /* one sync for all gathered records */
    NGX_VAANI_SPOOL_ALWAYS,         /* one for each record */
    NGX_VAANI_SPOOL_OFF             /* when the kernel decides */
} ngx_vaani_spool_sync_e;


/*
 * Called once for an appended record, unless it was detached. rc is NGX_OK if
 * the record is safe as "sync" requires, or NGX_ERROR.
 */

typedef void (*ngx_vaani_spool_append_pt)(void *data, ngx_int_t rc);


/*
 * The receiver of the records; data is that of the spool.  Connections of a
 * worker have numbers, "lanes": server * nconnections + index.
 */

typedef struct {

    /*
     * Delivers a record over a connection. kept: it was delivered before.
     * Returns NGX_AGAIN if ngx_vaani_spool_replayed() will be called for
     * *slot, otherwise the value for that call.
     */
    ngx_int_t                 (*replay)(void *data, void *slot,
                                        ngx_uint_t lane, ngx_uint_t kept,
                                        u_char *record, size_t len,
                                        ngx_str_t *reason);

    /*
     * The life of a connection: a number that is never used again in this
     * worker, 0 if there is no connection.  All records answered in one life
     * were executed by one receiver, in order.
     */
    ngx_uint_t                (*life)(void *data, ngx_uint_t connection);

    /*
     * Reads the mark of mark->id; or sets it to mark->wanted for ttl ms, if
     * its current value is mark->value, in mark->life of mark->connection.
     * Returns NGX_OK if ngx_vaani_spool_marked() will be called, or NGX_ERROR.
     */
    ngx_int_t                 (*read_mark)(void *data,
                                           ngx_vaani_spool_mark_t *mark);
    ngx_int_t                 (*set_mark)(void *data,
                                          ngx_vaani_spool_mark_t *mark,
                                          ngx_msec_t ttl);

    /* random bytes. Returns NGX_OK or NGX_ERROR, which was logged. */
    ngx_int_t                 (*random_bytes)(u_char *dst, size_t len,
                                              ngx_log_t *log);

    /* the numbers of all servers are lower now */
    ngx_uint_t                (*nservers)(void *data);

    /*
     * The functions below are called only if max_servers is above 1.
     *
     * Returns the server that owns a slot, or NGX_VAANI_SPOOL_NOBODY.
     */
    ngx_uint_t                (*server)(void *data, ngx_uint_t slot);

    /*
     * The identity of the server and the slots that it owns:
     * NGX_VAANI_SPOOL_SCOPE_LEN bytes, or NULL if unknown.  It does not return
     * to an earlier value if the server loses a slot and gets it back.
     */
    const u_char             *(*scope)(void *data, ngx_uint_t server);

    /* time since the last change of a slot's owner, ms */
    ngx_msec_t                (*settled)(void *data);

    /*
     * The slot of a record; NGX_ERROR if it has none: such a record is never
     * delivered again.  Runs in threads.
     */
    ngx_int_t                 (*slot)(const u_char *record, size_t len);
} ngx_vaani_spool_receiver_t;


/*
 * The receiver's mark of a segment: the number of bytes that were executed
 * there, and who set it.  There is no mark if the receiver knows nothing of
 * the segment.  One of several servers holds it for the records in its own
 * slots.  The scope identifies the server and these slots; for another scope
 * the mark is void.
 */

#define NGX_VAANI_SPOOL_TAG_LEN     16
#define NGX_VAANI_SPOOL_SCOPE_LEN   16
#define NGX_VAANI_SPOOL_PLAIN_LEN   (NGX_OFF_T_LEN + 1                        \
                                     + NGX_VAANI_SPOOL_TAG_LEN)
#define NGX_VAANI_SPOOL_MARK_LEN    (NGX_VAANI_SPOOL_PLAIN_LEN + 1            \
                                     + NGX_VAANI_SPOOL_SCOPE_LEN)

#define NGX_VAANI_SPOOL_NO_MARK     -1

struct ngx_vaani_spool_mark_s {
    u_char                      id[NGX_VAANI_SPOOL_ID_LEN];
    u_char                      tag[NGX_VAANI_SPOOL_TAG_LEN];
    u_char                      scope[NGX_VAANI_SPOOL_SCOPE_LEN];
    ngx_uint_t                  connection;
    ngx_uint_t                  life;

    size_t                      len;        /* of the current value, if */
    u_char                      value[NGX_VAANI_SPOOL_MARK_LEN];    /* known */
    off_t                       stands;     /* its number, if it has this
                                               scope */
    size_t                      wanted_len;
    u_char                      wanted[NGX_VAANI_SPOOL_MARK_LEN];

    /*
     * NGX_OK: the wanted value is set, or it was the known one; NGX_BUSY: the
     * value is another one, which is known now; NGX_AGAIN: the value is
     * unknown; NGX_DECLINED: marks are not allowed.
     */
    void                      (*handler)(ngx_vaani_spool_mark_t *mark,
                                         ngx_int_t rc);
    void                       *data;
    unsigned                    busy:1;     /* the handler will be called */
    unsigned                    scoped:1;
};


/*
 * Waits until a kept record is written; memory of the caller.
 */

typedef struct {
    ngx_queue_t                 queue;
    ngx_msec_t                  since;
    void                      (*handler)(void *data);
    void                       *data;
} ngx_vaani_spool_waiter_t;


struct ngx_vaani_spool_s {
    ngx_path_t                 *path;
    ngx_array_t                *all;            /* of ngx_vaani_spool_t *: those
                                                   of the configuration */
    ngx_cycle_t                *cycle;
    dev_t                       dev;            /* of the directory, */
    ino_t                       ino;            /* 0: not known */
    size_t                      max;            /* bytes on disk */
    ngx_vaani_spool_sync_e      sync;
    ngx_msec_t                  retain;         /* 0: delivered records are not
                                                   kept */
    size_t                      refused;        /* bytes of refused deliveries;
                                                   0: they are not kept */
    unsigned                    refused_set:1;  /* the default is not used */
    unsigned                    authenticated:1;    /* a location that uses it
                                                       is */

    ngx_shm_zone_t             *shm_zone;
#if (NGX_THREADS)
    ngx_thread_pool_t          *thread_pool;
#endif

    ngx_vaani_spool_receiver_t *receiver;
    void                       *data;
    ngx_uint_t                  nconnections;   /* to a server, a worker */
    ngx_uint_t                  max_servers;    /* the numbers of all servers
                                                   are lower */

    /* of this worker */

    ngx_log_t                  *log;
    ngx_queue_t                 entries;        /* to be written */
    size_t                      nbytes;         /* of them */
    void                       *append;
    ngx_vaani_spool_replay_t   *replayer;
    ngx_event_t                *wake;           /* its timer; NULL: none yet */
    ngx_vaani_spool_refused_t  *keeper;
    ngx_vaani_spool_writer_t  **writers;        /* by lane, with "retain", */
    ngx_uint_t                  nwriters;       /* NULL: not needed yet */
    ngx_pool_t                 *pool;           /* for them */
    ngx_atomic_uint_t           suspicion;      /* known to them */

    ngx_msec_t                  unmarked_since;
    vaani_pace_t                unmarked_told;

    vaani_pace_t                complained;
    ngx_msec_t                  failed;         /* when it began to refuse, if
                                                   it does */
    ngx_atomic_uint_t           full;           /* bytes on disk when it was
                                                   full, otherwise 0 */
    unsigned                    refusing:1;     /* it was full or failed */
    unsigned                    unmarked:1;     /* marks are not allowed */
};


/*
 * Status for operators, over all workers.  Counters start when nginx starts,
 * not at a reload.
 */

typedef struct {
    ngx_atomic_uint_t           records;    /* waiting ones, but not those of an
                                               earlier life */
    ngx_atomic_uint_t           bytes;      /* on disk, all of them */
    ngx_atomic_uint_t           max;        /* of that */
    time_t                      oldest;     /* approximate arrival time of the
                                               oldest waiting one, s; 0: none */
    ngx_atomic_uint_t           age;        /* of it, s */

    ngx_atomic_uint_t           appended;
    ngx_atomic_uint_t           replayed;
    ngx_atomic_uint_t           buried;     /* dead letters */
    ngx_atomic_uint_t           refused;    /* full, or failed */

    /* records that the receiver has, kept for some time */

    ngx_atomic_uint_t           kept_bytes;
    ngx_atomic_uint_t           kept_age;   /* the time that they cover, s */
    ngx_atomic_uint_t           kept;       /* records, since the start */
    ngx_atomic_uint_t           not_kept;   /* not written to disk */
    ngx_atomic_uint_t           forgotten;  /* losses of data by the receiver */
    ngx_atomic_uint_t           beyond;     /* the same, of more than is kept */
    ngx_atomic_uint_t           looked_at;  /* records delivered again, */
    ngx_atomic_uint_t           brought_back;   /* which it did not have */

    /* deliveries that were refused with 400 or 422 */

    ngx_atomic_uint_t           refused_kept;
    ngx_atomic_uint_t           refused_dropped;    /* that could not be kept */

    /* files for an operator, as last counted */

    ngx_atomic_uint_t           dead_letters_bytes;
    ngx_atomic_uint_t           bad_bytes;
    ngx_atomic_uint_t           refused_bytes;
} ngx_vaani_spool_status_t;


/*
 * Sets up the spool of a configuration: directory, shared memory, thread pool.
 * spool->all is set.  Returns NGX_OK or NGX_ERROR.
 */
ngx_int_t ngx_vaani_spool_init(ngx_conf_t *cf, ngx_vaani_spool_t *spool);

/*
 * Start and stop a worker's part.  After the exit, the callbacks of waiting
 * records are not called any more.
 */
ngx_int_t ngx_vaani_spool_init_worker(ngx_vaani_spool_t *spool,
    ngx_cycle_t *cycle);
void ngx_vaani_spool_exit_worker(ngx_vaani_spool_t *spool);

/*
 * Allocates room for a record of size bytes, which the caller writes to
 * *record.  Returns NULL if the spool is full or there is no memory; that was
 * logged.
 */
ngx_vaani_spool_entry_t *ngx_vaani_spool_alloc(ngx_vaani_spool_t *spool,
    size_t size, u_char **record);

/*
 * Appends the record in the entry; the spool then owns the entry. handler may
 * be NULL.
 */
void ngx_vaani_spool_append(ngx_vaani_spool_t *spool,
    ngx_vaani_spool_entry_t *entry, ngx_vaani_spool_append_pt handler,
    void *data);

/* frees an entry that was not appended */
void ngx_vaani_spool_free(ngx_vaani_spool_entry_t *entry);

/* detaches the handler of an entry, which is still written */
void ngx_vaani_spool_detach(ngx_vaani_spool_entry_t *entry);

/*
 * Keeps a refused delivery for an operator: a copy of body, with the reason
 * (one word) and the time of its receipt (Unix time, ms), in the directory
 * "refused" of the spool, within its limits. handler is called once with data,
 * after this function returns, unless the refusal was detached: with NGX_OK if
 * the delivery is safe as "sync" requires, or NGX_ERROR.
 *
 * Returns NULL if it is not kept: keeping is off, the limit for this reason is
 * reached, or there is no memory.
 */
ngx_vaani_spool_refusal_t *ngx_vaani_spool_keep_refused(
    ngx_vaani_spool_t *spool, ngx_str_t *reason, ngx_str_t *body,
    uint64_t received_at, ngx_vaani_spool_append_pt handler, void *data);

/* detaches the handler of a refusal, which is still written */
void ngx_vaani_spool_detach_refusal(ngx_vaani_spool_refusal_t *refusal);

/*
 * Keeps a record of size bytes that the receiver has answered over a
 * connection.  Returns where the caller must write it before
 * ngx_vaani_spool_keep(). Returns NULL if it cannot be kept, which was
 * counted.
 */
u_char *ngx_vaani_spool_keep_alloc(ngx_vaani_spool_t *spool,
    ngx_uint_t connection, size_t size);

/*
 * Completes that record.  Returns NGX_AGAIN if waiter->handler will be called
 * when the record is written, or when the wait times out; until then the
 * caller may remove waiter->queue.  Returns NGX_OK if there is nothing to wait
 * for; waiter may be NULL in that case.
 */
ngx_int_t ngx_vaani_spool_keep(ngx_vaani_spool_t *spool,
    ngx_uint_t connection, ngx_vaani_spool_waiter_t *waiter);

/*
 * Ends a receiver's read_mark or set_mark: with NGX_OK and the current value,
 * len 0 if there is none; NGX_AGAIN if it is unknown; NGX_DECLINED if marks
 * are not allowed.
 */
void ngx_vaani_spool_marked(ngx_vaani_spool_mark_t *mark, ngx_int_t rc,
    const u_char *value, size_t len);

/*
 * Whether an operator has erased events of this name that were received at
 * that time (Unix time, ms).  For the record of a slot that is about to be
 * delivered.
 */
ngx_uint_t ngx_vaani_spool_erased(void *slot, const void *name, size_t len,
    uint64_t received_at);

/*
 * Ends the delivery of a record. lane is the connection that answered; rc is
 * one of:
 *
 *   NGX_OK;
 *   NGX_DONE: the receiver already had it, or does not need it;
 *   NGX_BUSY: nothing can be delivered now; try again;
 *   NGX_ABORT: this record fails while others may succeed; try it again after
 *       them, and only for a limited time if *reason is set (unknown error);
 *   NGX_DECLINED: never deliverable, for *reason; put it aside.
 */
void ngx_vaani_spool_replayed(void *slot, ngx_int_t rc, ngx_str_t *reason,
    ngx_uint_t lane);

/*
 * Something was delivered, by whatever path: the receiver works.
 */
void ngx_vaani_spool_succeeded(ngx_vaani_spool_t *spool);

/*
 * Fills *status.
 */
void ngx_vaani_spool_get_status(ngx_vaani_spool_t *spool,
    ngx_vaani_spool_status_t *status);

/*
 * Whether a record would be accepted, as far as is known.  A failed disk can
 * only be checked by writing to it.  Therefore another attempt is allowed some
 * time after the failure.
 */
ngx_uint_t ngx_vaani_spool_takes(ngx_vaani_spool_t *spool);


#endif /* _NGX_VAANI_SPOOL_H_INCLUDED_ */
