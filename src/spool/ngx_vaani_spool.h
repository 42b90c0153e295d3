
/*
 * A journal on disk: of what can't be delivered now, and, for some time, of
 * what was, since the receiver may forget.
 *
 * What waits: the workers append to one segment file after the other.  One
 * worker at a time, the one that holds the lock of the directory, seals the
 * oldest segment, gives its records to a callback in their order, and deletes
 * or keeps the segment when all of them are done.
 *
 * What is kept: each worker has a segment of its own for what was answered on
 * a connection to the receiver, in one life of it.  The receiver holds a mark
 * of each such segment, which says how much of it was executed there.  Whoever
 * loses something loses the mark with it: what a mark doesn't cover is
 * delivered again, by the worker that leads.
 *
 * The receiver may be several servers, each of which owns some of the slots
 * that records are in.  Then a segment has a mark in each server that owns
 * something of it, and a mark has a scope, which says of what it speaks.
 *
 * All locks are dropped by the kernel with the process that holds them, so
 * whatever ends, another worker goes on.  Nothing here knows what the records
 * mean.
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

/* of those that the receiver may have: live ones must not wait for them */

#define NGX_VAANI_SPOOL_KEPT_WINDOW 32

/* how long a record is tried that fails for an unknown reason, s */

#define NGX_VAANI_SPOOL_PATIENCE    600

/* how often a worker looks for work, if there is some, and if not, ms */

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
 * Who gets the records: data is that of the spool.  Connections of a worker
 * have numbers, "lanes": server * nconnections + one of these.
 */

typedef struct {

    /*
     * Delivers a record over a connection.  kept: it was delivered before.
     * Returns NGX_AGAIN if ngx_vaani_spool_replayed() will be called for *slot,
     * else what that would be called with.
     */
    ngx_int_t                 (*replay)(void *data, void *slot,
                                        ngx_uint_t lane, ngx_uint_t kept,
                                        u_char *record, size_t len,
                                        ngx_str_t *reason);

    /*
     * The life of a connection: a number that is never used again in this
     * worker, 0 if there is none.  What was answered in one life was executed
     * by one receiver, in its order.
     */
    ngx_uint_t                (*life)(void *data, ngx_uint_t connection);

    /*
     * Reads the mark of mark->id, or sets it to mark->wanted for ttl ms, if
     * mark->value is what stands, in mark->life of mark->connection.  Returns
     * NGX_OK if ngx_vaani_spool_marked() will be called, or NGX_ERROR.
     */
    ngx_int_t                 (*read_mark)(void *data,
                                           ngx_vaani_spool_mark_t *mark);
    ngx_int_t                 (*set_mark)(void *data,
                                          ngx_vaani_spool_mark_t *mark,
                                          ngx_msec_t ttl);

    /* random bytes.  Returns NGX_OK or NGX_ERROR, which was logged. */
    ngx_int_t                 (*random_bytes)(u_char *dst, size_t len,
                                              ngx_log_t *log);

    /* no number of a server is as high as that now */
    ngx_uint_t                (*nservers)(void *data);

    /*
     * The functions below are called only if max_servers is above 1.
     *
     * The server that owns a slot, or NGX_VAANI_SPOOL_NOBODY.
     */
    ngx_uint_t                (*server)(void *data, ngx_uint_t slot);

    /*
     * Which server this is and which slots it owns: NGX_VAANI_SPOOL_SCOPE_LEN
     * bytes, or NULL if that isn't known.  It's never again what it was before
     * the server lost a slot and got it back.
     */
    const u_char             *(*scope)(void *data, ngx_uint_t server);

    /* since when no slot has changed its owner, ms */
    ngx_msec_t                (*settled)(void *data);

    /*
     * The slot of a record; NGX_ERROR if it has none, since it's never
     * delivered again.  Runs in threads.
     */
    ngx_int_t                 (*slot)(const u_char *record, size_t len);
} ngx_vaani_spool_receiver_t;


/*
 * What the receiver holds of a segment: how much of it was executed there, in
 * bytes, and who says so; nothing if it knows nothing of it.  One of several
 * servers holds it for the records in its own slots, and the scope says which
 * server it was and which slots these were: to another scope it says nothing.
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

    size_t                      len;        /* of what stands, as far as is */
    u_char                      value[NGX_VAANI_SPOOL_MARK_LEN];    /* known */
    off_t                       stands;     /* the number in it, if it's of
                                               this scope */
    size_t                      wanted_len;
    u_char                      wanted[NGX_VAANI_SPOOL_MARK_LEN];

    /*
     * NGX_OK: what was wanted stands, or what was known; NGX_BUSY: something
     * else does, and is known now; NGX_AGAIN: nobody knows; NGX_DECLINED: marks
     * aren't allowed.
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
    ngx_msec_t                  retain;         /* 0: nothing is kept that was
                                                   delivered */
    size_t                      refused;        /* bytes of those kept; 0: none
                                                   are */
    unsigned                    refused_set:1;  /* not by default */
    unsigned                    authenticated:1;    /* some that use it are */

    ngx_shm_zone_t             *shm_zone;
#if (NGX_THREADS)
    ngx_thread_pool_t          *thread_pool;
#endif

    ngx_vaani_spool_receiver_t *receiver;
    void                       *data;
    ngx_uint_t                  nconnections;   /* to a server, a worker */
    ngx_uint_t                  max_servers;    /* no number of one is ever as
                                                   high */

    /* of this worker */

    ngx_log_t                  *log;
    ngx_queue_t                 entries;        /* to be written */
    size_t                      nbytes;         /* of them */
    void                       *append;
    ngx_vaani_spool_replay_t   *replayer;
    ngx_event_t                *wake;           /* its timer; NULL: none yet */
    ngx_vaani_spool_refused_t  *keeper;
    ngx_vaani_spool_writer_t  **writers;        /* by lane, if "retain", */
    ngx_uint_t                  nwriters;       /* NULL: was never needed */
    ngx_pool_t                 *pool;           /* for them */
    ngx_atomic_uint_t           suspicion;      /* that they know of */

    ngx_msec_t                  unmarked_since;
    vaani_pace_t                unmarked_told;

    vaani_pace_t                complained;
    ngx_msec_t                  failed;         /* when it did, if refusing */
    ngx_atomic_uint_t           full;           /* bytes on disk when it was
                                                   full, else 0 */
    unsigned                    refusing:1;     /* it was full or failed */
    unsigned                    unmarked:1;     /* marks aren't allowed */
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

    /* records that the receiver has, for some time */

    ngx_atomic_uint_t           kept_bytes;
    ngx_atomic_uint_t           kept_age;   /* how far back they reach, s */
    ngx_atomic_uint_t           kept;       /* records, since the start */
    ngx_atomic_uint_t           not_kept;   /* the disk didn't take them */
    ngx_atomic_uint_t           forgotten;  /* times that the receiver had */
    ngx_atomic_uint_t           beyond;     /* the same, more than is kept */
    ngx_atomic_uint_t           looked_at;  /* records delivered again, */
    ngx_atomic_uint_t           brought_back;   /* which it didn't have */

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
 * Keeps a record of size bytes that the receiver has answered over a
 * connection: returns where it is to be written, before ngx_vaani_spool_keep().
 * Returns NULL if it can't be kept, which was counted.
 */
u_char *ngx_vaani_spool_keep_alloc(ngx_vaani_spool_t *spool,
    ngx_uint_t connection, size_t size);

/*
 * Seals that record.  Returns NGX_AGAIN if waiter->handler will be called when
 * it's written, or doesn't get written in time; the caller may remove
 * waiter->queue before that.  Returns NGX_OK if nothing is to be waited for;
 * waiter may be NULL then.
 */
ngx_int_t ngx_vaani_spool_keep(ngx_vaani_spool_t *spool,
    ngx_uint_t connection, ngx_vaani_spool_waiter_t *waiter);

/*
 * Ends what a receiver's read_mark or set_mark began: with NGX_OK and what
 * stands, len 0 if nothing does; NGX_AGAIN if that isn't known; NGX_DECLINED if
 * marks aren't allowed.
 */
void ngx_vaani_spool_marked(ngx_vaani_spool_mark_t *mark, ngx_int_t rc,
    const u_char *value, size_t len);

/*
 * Whether an operator has erased what was received (Unix time, ms) of this
 * name: for the record of a slot that is to be delivered.
 */
ngx_uint_t ngx_vaani_spool_erased(void *slot, const void *name, size_t len,
    uint64_t received_at);

/*
 * Ends the delivery of a record.  rc is NGX_OK; NGX_DONE if the receiver had it
 * already or has no use for it; NGX_BUSY if nothing can be
 * delivered now, to try again; NGX_ABORT if this record can't while others may,
 * to try again behind them, and not for ever if there is a *reason, which is
 * that it isn't known; NGX_DECLINED if it never can be, for *reason, and is to
 * be kept aside.  lane is the connection that answered.
 */
void ngx_vaani_spool_replayed(void *slot, ngx_int_t rc, ngx_str_t *reason,
    ngx_uint_t lane);

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
