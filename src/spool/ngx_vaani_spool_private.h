
/*
 * Private to src/spool: what all of its parts need.
 */


#ifndef _NGX_VAANI_SPOOL_PRIVATE_H_INCLUDED_
#define _NGX_VAANI_SPOOL_PRIVATE_H_INCLUDED_


#include "ngx_vaani_spool_file.h"
#include "vaani_journal.h"


/* reasons of refused deliveries that are told apart, and their lengths */

#define NGX_VAANI_SPOOL_REASONS     64
#define NGX_VAANI_SPOOL_REASON_LEN  48


/*
 * How much was kept for one reason in the minute that began at start.
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

    /* counted for operators, see ngx_vaani_spool_status_t */
    ngx_atomic_t                written;
    ngx_atomic_t                deferred;   /* written again, for later */
    ngx_atomic_t                finished;   /* of those that were written, in
                                               segments that are gone */
    ngx_atomic_t                partial;    /* the same, in that which is
                                               being replayed */
    ngx_atomic_t                replayed;
    ngx_atomic_t                buried;
    ngx_atomic_t                refused;
    ngx_atomic_t                oldest;
    ngx_atomic_t                kept_bytes; /* in kept segments */
    ngx_atomic_t                kept_since; /* the oldest of them was begun, s
                                               of ngx_vaani_spool_boottime();
                                               0: there is none */
    ngx_atomic_t                kept;
    ngx_atomic_t                not_kept;
    ngx_atomic_t                forgotten;
    ngx_atomic_t                beyond;
    ngx_atomic_t                looked_at;
    ngx_atomic_t                brought_back;
    ngx_atomic_t                trimmed;    /* some were deleted */
    ngx_atomic_t                closed;     /* so many kept segments were */
    ngx_atomic_t                suspicion;  /* raised when a mark isn't what it
                                               should be */
    ngx_atomic_t                refused_kept;
    ngx_atomic_t                refused_dropped;
    ngx_atomic_t                dead_letters_bytes;
    ngx_atomic_t                bad_bytes;
    ngx_atomic_t                refused_bytes;

    /* refused deliveries: the last number of a segment, and the shares, which
       are under the lock of the zone */
    ngx_atomic_t                refused_last;
    ngx_vaani_spool_share_t     shares[NGX_VAANI_SPOOL_REASONS];

    ngx_atomic_t                succeeded;  /* last delivery, Unix time, s */
    ngx_atomic_t                unbroken;   /* since when there was always
                                               one, 0: no gap is known */

    /* what is written again: since when the oldest of it waits, Unix time, s,
       0: there is none; and the last segment with some of it */
    ngx_atomic_t                late_since;
    ngx_atomic_t                late_segment;
} ngx_vaani_spool_shared_t;


#define ngx_vaani_spool_shared(spool)                                         \
    ((ngx_vaani_spool_shared_t *) (spool)->shm_zone->data)


/* how often a line that events could repeat is logged, ms */

#define NGX_VAANI_SPOOL_COMPLAIN_EVERY  10000

/* how long a spool that failed isn't worth another try, ms */

#define NGX_VAANI_SPOOL_TRY_AGAIN   10000

/* after so long without a delivery, the receiver isn't held to be well, s */

#define NGX_VAANI_SPOOL_GAP         60


/*
 * ngx_vaani_spool_shared.c: counters
 */

/* raises an atomic to a value, if it is lower */
void ngx_vaani_spool_raise(ngx_atomic_t *atomic, ngx_atomic_uint_t value);

/* takes a value off an atomic, as far as 0 */
void ngx_vaani_spool_lower(ngx_atomic_t *atomic, ngx_atomic_uint_t value);

/* there is something to do, perhaps for this worker */
void ngx_vaani_spool_wake(ngx_vaani_spool_t *spool);


/*
 * ngx_vaani_spool_dir.c: makes the directory if it's missing, and checks that
 * the workers can use it and that it's none of another spool.  Returns NGX_OK,
 * or NGX_ERROR if that was logged.
 */

ngx_int_t ngx_vaani_spool_prepare_dir(ngx_vaani_spool_t *spool,
    ngx_log_t *log);


/*
 * ngx_vaani_spool_clock.c
 */

/*
 * A time of the clock, s, as one of a clock that nobody sets; above 0.  What
 * is "oldest" came at such a time, or there is none if it is 0.
 */
ngx_atomic_uint_t ngx_vaani_spool_since(time_t time);

/* VAANI_JOURNAL_BOOT_ID bytes that say which boot of the host it is */
u_char *ngx_vaani_spool_boot_id(void);

/* the time since that, ms, whatever the clock is set to */
uint64_t ngx_vaani_spool_boottime(void);

/* for round trips, us */
uint64_t ngx_vaani_spool_now(void);


/*
 * Work for a thread: handler(data) runs there, with nothing of nginx's to
 * touch but atomics, and returns an errno, or 0; done(data) runs in the event
 * loop afterwards, never before the post returns, and finds that in "err".  A
 * task is always accepted: if the threads don't take it, "err" is EAGAIN, and
 * the handler didn't run, which "failed" says.
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
    ngx_event_t                 guard;      /* holds up a worker that exits */
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
 * ngx_vaani_spool_kept.c: files of what the receiver has answered
 */

/* the name of a kept segment, null-terminated */
void ngx_vaani_spool_kept_name(u_char *dst, ngx_str_t *dir,
    ngx_atomic_uint_t number, u_char *id);

/*
 * Takes such a name, without its directory, apart.  Returns NGX_OK; NGX_BUSY if
 * the segment is only being made; NGX_DECLINED if it's none.
 */
ngx_int_t ngx_vaani_spool_parse_kept(char *name, ngx_atomic_uint_t *number,
    u_char *id);

/*
 * Makes a kept segment, whose lock is that of the descriptor that is returned;
 * *size is what it begins with.  Returns -1 if that failed.
 */
int ngx_vaani_spool_create_kept(ngx_str_t *dir, ngx_atomic_uint_t number,
    u_char *id, off_t *size);

/*
 * The same, if errno says that the disk is full.  Returns 1 if it's worth
 * another try; else errno stays.
 */
ngx_uint_t ngx_vaani_spool_drop_if_full(ngx_vaani_spool_t *spool);

/* the same, until len bytes fit in.  Returns 1 if they do. */
ngx_uint_t ngx_vaani_spool_make_room_for(ngx_vaani_spool_t *spool, size_t len);


/*
 * ngx_vaani_spool_writer.c: what a worker keeps
 */

/* how often a mark that stands is looked at, ms */

#define NGX_VAANI_SPOOL_RECHECK     10000

/* what a mark lives for in the receiver besides "retain", ms: a week */

#define NGX_VAANI_SPOOL_MARK_TTL    (7 * 24 * 3600 * 1000)

ngx_int_t ngx_vaani_spool_writers_init(ngx_vaani_spool_t *spool,
    ngx_cycle_t *cycle);
void ngx_vaani_spool_writers_exit(ngx_vaani_spool_t *spool);

/* closes segments whose connections are gone, from time to time */
void ngx_vaani_spool_writers_check(ngx_vaani_spool_t *spool);


/*
 * ngx_vaani_spool_mark.c
 */

/* handler is called at the end of each of the functions below that succeed */
void ngx_vaani_spool_mark_init(ngx_vaani_spool_mark_t *mark, u_char *id,
    void (*handler)(ngx_vaani_spool_mark_t *mark, ngx_int_t rc), void *data);

/* makes the mark one's own; its number stays.  Returns NGX_OK or NGX_ERROR. */
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

/* says that the receiver doesn't allow marks; they aren't tried for a minute */
void ngx_vaani_spool_no_marks(ngx_vaani_spool_t *spool);
void ngx_vaani_spool_try_marks(ngx_vaani_spool_t *spool);


/*
 * The parts of a worker, as ngx_vaani_spool.c starts and ends them.  The first
 * ones return NGX_OK or NGX_ERROR.
 */

ngx_int_t ngx_vaani_spool_append_init(ngx_vaani_spool_t *spool,
    ngx_cycle_t *cycle);
void ngx_vaani_spool_append_exit(ngx_vaani_spool_t *spool);

/* what ngx_vaani_spool_alloc() is, in a worker that was started */
ngx_vaani_spool_entry_t *ngx_vaani_spool_append_alloc(
    ngx_vaani_spool_t *spool, size_t size, u_char **record);

ngx_int_t ngx_vaani_spool_refused_init(ngx_vaani_spool_t *spool,
    ngx_cycle_t *cycle);
void ngx_vaani_spool_refused_exit(ngx_vaani_spool_t *spool);

/* the same of ngx_vaani_spool_keep_refused(), if some are kept */
ngx_vaani_spool_refusal_t *ngx_vaani_spool_refused_add(
    ngx_vaani_spool_t *spool, ngx_str_t *reason, ngx_str_t *body,
    uint64_t received_at, ngx_vaani_spool_append_pt handler, void *data);

ngx_int_t ngx_vaani_spool_replay_init(ngx_vaani_spool_t *spool,
    ngx_cycle_t *cycle);
void ngx_vaani_spool_replay_exit(ngx_vaani_spool_t *spool);


#endif /* _NGX_VAANI_SPOOL_PRIVATE_H_INCLUDED_ */
