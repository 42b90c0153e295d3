
/*
 * Private to src/spool: definitions for all of its parts.
 */


#ifndef _NGX_VAANI_SPOOL_PRIVATE_H_INCLUDED_
#define _NGX_VAANI_SPOOL_PRIVATE_H_INCLUDED_


#include "ngx_vaani_spool_file.h"
#include "vaani_journal.h"


/* the maximum number of reasons with limits of their own, and their lengths */

#define NGX_VAANI_SPOOL_REASONS     64
#define NGX_VAANI_SPOOL_REASON_LEN  48


/*
 * The bytes kept for one reason in the minute that began at start.
 */

typedef struct {
    ngx_msec_t                  start;
    size_t                      bytes;
    size_t                      len;
    u_char                      reason[NGX_VAANI_SPOOL_REASON_LEN];
    unsigned                    used:1;
} ngx_vaani_spool_share_t;


/*
 * Shared by all workers, and kept over reloads.  Segments are numbered, and
 * compared by their numbers.
 */

typedef struct {
    ngx_atomic_t                current;    /* segment to append to */
    ngx_atomic_t                floor;      /* last one of an earlier life */
    ngx_atomic_t                appended;   /* last one with a record */
    ngx_atomic_t                done;       /* last one that was replayed */
    ngx_atomic_t                bytes;      /* in all of them */

    /* counters for operators, see ngx_vaani_spool_status_t */
    ngx_atomic_t                written;
    ngx_atomic_t                deferred;   /* written again, for later */
    ngx_atomic_t                finished;   /* of those that were written, in
                                               deleted segments */
    ngx_atomic_t                partial;    /* the same, in the segment that is
                                               being replayed */
    ngx_atomic_t                replayed;
    ngx_atomic_t                buried;
    ngx_atomic_t                refused;
    ngx_atomic_t                oldest;
    ngx_atomic_t                kept_bytes; /* in kept segments */
    ngx_atomic_t                kept_since; /* start of the oldest of them, s of
                                               ngx_vaani_spool_boottime(); 0:
                                               none */
    ngx_atomic_t                kept;
    ngx_atomic_t                not_kept;
    ngx_atomic_t                forgotten;
    ngx_atomic_t                beyond;
    ngx_atomic_t                looked_at;
    ngx_atomic_t                brought_back;
    ngx_atomic_t                trimmed;    /* some were deleted */
    ngx_atomic_t                closed;     /* the number of closed kept
                                               segments */
    ngx_atomic_t                suspicion;  /* incremented if a mark differs
                                               from the expected value */
    ngx_atomic_t                refused_kept;
    ngx_atomic_t                refused_dropped;
    ngx_atomic_t                dead_letters_bytes;
    ngx_atomic_t                bad_bytes;
    ngx_atomic_t                refused_bytes;

    /*
     * refused deliveries: the last number of a segment, and the shares, which
     * are under the lock of the zone
     */
    ngx_atomic_t                refused_last;
    ngx_vaani_spool_share_t     shares[NGX_VAANI_SPOOL_REASONS];

    ngx_atomic_t                succeeded;  /* last delivery, Unix time, s */
    ngx_atomic_t                unbroken;   /* since then there always was a
                                               waiting one, 0: unknown */

    /*
     * records written again: when the oldest of them began to wait, Unix time,
     * s, 0: none; and the last segment with some of them
     */
    ngx_atomic_t                late_since;
    ngx_atomic_t                late_segment;
} ngx_vaani_spool_shared_t;


#define ngx_vaani_spool_shared(spool)                                         \
    ((ngx_vaani_spool_shared_t *) (spool)->shm_zone->data)


/* the period of a log line that events could repeat, ms */

#define NGX_VAANI_SPOOL_COMPLAIN_EVERY  10000

/* the pause after a failure of the spool, ms */

#define NGX_VAANI_SPOOL_TRY_AGAIN   10000

/* after so long without a delivery, the receiver is assumed to be down, s */

#define NGX_VAANI_SPOOL_GAP         60


/*
 * ngx_vaani_spool_shared.c: counters
 */

/* raises an atomic to a value, if it is lower */
void ngx_vaani_spool_raise(ngx_atomic_t *atomic, ngx_atomic_uint_t value);

/* subtracts a value from an atomic, down to 0 */
void ngx_vaani_spool_lower(ngx_atomic_t *atomic, ngx_atomic_uint_t value);

/* announces work, which this worker may have to do */
void ngx_vaani_spool_wake(ngx_vaani_spool_t *spool);


/*
 * ngx_vaani_spool_dir.c: creates the directory if it is missing, and checks
 * that the workers can use it and that no other spool does.  Returns NGX_OK,
 * or NGX_ERROR after logging the reason.
 */

ngx_int_t ngx_vaani_spool_prepare_dir(ngx_vaani_spool_t *spool,
    ngx_log_t *log);


/*
 * ngx_vaani_spool_clock.c
 */

/*
 * Converts a time of the clock, s, to one of a clock that cannot be set; above
 * 0. 0 in "oldest" means that there is none.
 */
ngx_atomic_uint_t ngx_vaani_spool_since(time_t time);

/* VAANI_JOURNAL_BOOT_ID bytes that identify the boot of the host */
u_char *ngx_vaani_spool_boot_id(void);

/* the time since the boot, ms, independent of the clock */
uint64_t ngx_vaani_spool_boottime(void);

/* for round trips, us */
uint64_t ngx_vaani_spool_now(void);


/*
 * Work for a thread. handler(data) runs there, and may use nothing of nginx
 * but atomics; it returns an errno, or 0. Afterwards done(data) runs in the
 * event loop, never before the post returns; "err" has the result.  A task is
 * always accepted: if the threads do not take it, "err" is EAGAIN, the handler
 * did not run, and "failed" is set.
 */

typedef struct {
    ngx_err_t                 (*handler)(void *data);
    void                      (*done)(void *data);
    void                       *data;
    ngx_err_t                   err;
    unsigned                    busy:1;
    unsigned                    failed:1;
#if (NGX_THREADS)
    ngx_thread_task_t           task;
#else
    ngx_event_t                 event;
#endif
    ngx_event_t                 guard;      /* delays the exit of a worker */
} ngx_vaani_spool_task_t;


void ngx_vaani_spool_task_init(ngx_vaani_spool_task_t *task,
    ngx_err_t (*handler)(void *data), void (*done)(void *data), void *data,
    ngx_log_t *log);
void ngx_vaani_spool_task_post(ngx_vaani_spool_t *spool,
    ngx_vaani_spool_task_t *task);
void ngx_vaani_spool_task_exit(ngx_vaani_spool_task_t *task);


/* whether the receiver may be more than one server */

#define ngx_vaani_spool_several(spool)  ((spool)->max_servers > 1)


/*
 * ngx_vaani_spool_kept.c: files of records that the receiver has answered
 */

/* the name of a kept segment, null-terminated */
void ngx_vaani_spool_kept_name(u_char *dst, ngx_str_t *dir,
    ngx_atomic_uint_t number, u_char *id);

/*
 * Parses such a name, without its directory.  Returns NGX_OK; NGX_BUSY if the
 * segment is still being created; NGX_DECLINED if it is another name.
 */
ngx_int_t ngx_vaani_spool_parse_kept(char *name, ngx_atomic_uint_t *number,
    u_char *id);

/*
 * Creates a kept segment and returns its descriptor, which has the lock; *size
 * is its initial size.  Returns -1 on failure.
 */
int ngx_vaani_spool_create_kept(ngx_str_t *dir, ngx_atomic_uint_t number,
    u_char *id, off_t *size);

/*
 * Frees space if errno says that the disk is full.  Returns 1 if another
 * attempt is useful; otherwise errno is unchanged.
 */
ngx_uint_t ngx_vaani_spool_drop_if_full(ngx_vaani_spool_t *spool);

/* frees space until len bytes fit. Returns 1 if they do. */
ngx_uint_t ngx_vaani_spool_make_room_for(ngx_vaani_spool_t *spool, size_t len);


/*
 * ngx_vaani_spool_writer.c: keeps the records of a worker
 */

/* the period of checks of an unchanged mark, ms */

#define NGX_VAANI_SPOOL_RECHECK     10000

/*
 * the lifetime of a mark in the receiver in addition to "retain", ms: a week
 */

#define NGX_VAANI_SPOOL_MARK_TTL    (7 * 24 * 3600 * 1000)

ngx_int_t ngx_vaani_spool_writers_init(ngx_vaani_spool_t *spool,
    ngx_cycle_t *cycle);
void ngx_vaani_spool_writers_exit(ngx_vaani_spool_t *spool);

/* closes segments whose connections are gone; called periodically */
void ngx_vaani_spool_writers_check(ngx_vaani_spool_t *spool);


/*
 * ngx_vaani_spool_mark.c
 */

/* handler is called at the end of each of the functions below that succeed */
void ngx_vaani_spool_mark_init(ngx_vaani_spool_mark_t *mark, u_char *id,
    void (*handler)(ngx_vaani_spool_mark_t *mark, ngx_int_t rc), void *data);

/* claims the mark; its number is unchanged. Returns NGX_OK or NGX_ERROR. */
ngx_int_t ngx_vaani_spool_claim(ngx_vaani_spool_t *spool,
    ngx_vaani_spool_mark_t *mark);

/* sets a mark that was claimed.  Returns NGX_OK or NGX_ERROR. */
ngx_int_t ngx_vaani_spool_set_mark(ngx_vaani_spool_t *spool,
    ngx_vaani_spool_mark_t *mark, off_t to);

ngx_int_t ngx_vaani_spool_read_mark(ngx_vaani_spool_t *spool,
    ngx_vaani_spool_mark_t *mark);

/* len random hexadecimal digits.  Returns NGX_OK or NGX_ERROR. */
ngx_int_t ngx_vaani_spool_new_id(ngx_vaani_spool_t *spool, u_char *id,
    size_t len);

/* records that the receiver does not allow marks; pauses them for a minute */
void ngx_vaani_spool_no_marks(ngx_vaani_spool_t *spool);
void ngx_vaani_spool_try_marks(ngx_vaani_spool_t *spool);


/*
 * The parts of a worker, which ngx_vaani_spool.c starts and stops.  The start
 * functions return NGX_OK or NGX_ERROR.
 */

ngx_int_t ngx_vaani_spool_append_init(ngx_vaani_spool_t *spool,
    ngx_cycle_t *cycle);
void ngx_vaani_spool_append_exit(ngx_vaani_spool_t *spool);

/* ngx_vaani_spool_alloc() in a worker that was started */
ngx_vaani_spool_entry_t *ngx_vaani_spool_append_alloc(
    ngx_vaani_spool_t *spool, size_t size, u_char **record);

ngx_int_t ngx_vaani_spool_refused_init(ngx_vaani_spool_t *spool,
    ngx_cycle_t *cycle);
void ngx_vaani_spool_refused_exit(ngx_vaani_spool_t *spool);

/* ngx_vaani_spool_keep_refused() if refused deliveries are kept */
ngx_vaani_spool_refusal_t *ngx_vaani_spool_refused_add(
    ngx_vaani_spool_t *spool, ngx_str_t *reason, ngx_str_t *body,
    uint64_t received_at, ngx_vaani_spool_append_pt handler, void *data);

ngx_int_t ngx_vaani_spool_replay_init(ngx_vaani_spool_t *spool,
    ngx_cycle_t *cycle);
void ngx_vaani_spool_replay_exit(ngx_vaani_spool_t *spool);


#endif /* _NGX_VAANI_SPOOL_PRIVATE_H_INCLUDED_ */
