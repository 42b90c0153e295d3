
/*
 * Private to src/spool.
 */


#ifndef _NGX_VAANI_SPOOL_PRIVATE_H_INCLUDED_
#define _NGX_VAANI_SPOOL_PRIVATE_H_INCLUDED_


#include "ngx_vaani_spool.h"
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


struct ngx_vaani_spool_entry_s {
    ngx_queue_t                 queue;
    ngx_vaani_spool_append_pt   handler;    /* NULL: detached, or none */
    void                       *data;
    ngx_int_t                   rc;
    ngx_atomic_uint_t           segment;    /* that it was written to */
    size_t                      len;        /* of the record with its header */
};


#define ngx_vaani_spool_shared(spool)                                         \
    ((ngx_vaani_spool_shared_t *) (spool)->shm_zone->data)

#define ngx_vaani_spool_entry_data(entry)  ((u_char *) ((entry) + 1))


/* how often a line that events could repeat is logged, ms */

#define NGX_VAANI_SPOOL_COMPLAIN_EVERY  10000

/* how long a spool that failed isn't worth another try, ms */

#define NGX_VAANI_SPOOL_TRY_AGAIN   10000

/* after so long without a delivery, the receiver isn't held to be well, s */

#define NGX_VAANI_SPOOL_GAP         60

/* what is older than the host's uptime is still above 0, s */

#define NGX_VAANI_SPOOL_EPOCH       0x40000000


/* raises an atomic to a value, if it is lower */

void ngx_vaani_spool_raise(ngx_atomic_t *atomic, ngx_atomic_uint_t value);


/*
 * ngx_vaani_spool_dir.c: makes the directory if it's missing, and checks that
 * the workers can use it and that it's none of another spool.  Returns NGX_OK,
 * or NGX_ERROR if that was logged.
 */

ngx_int_t ngx_vaani_spool_prepare_dir(ngx_vaani_spool_t *spool,
    ngx_log_t *log);


/*
 * A time of the clock, s, as one of a clock that nobody sets; above 0.  What
 * is "oldest" came at such a time, or there is none if it is 0.
 */

ngx_atomic_uint_t ngx_vaani_spool_since(time_t time);


/*
 * Work for a thread: handler(data) runs there, with nothing of nginx's to
 * touch but atomics; done(data) runs in the event loop afterwards, never before
 * the post returns.  A task is always accepted: if the threads don't take it,
 * done(data) finds "failed" set, and the handler didn't run.
 */

typedef struct {
    void                      (*handler)(void *data);
    void                      (*done)(void *data);
    void                       *data;
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
    void (*handler)(void *data), void (*done)(void *data), void *data,
    ngx_log_t *log);
void ngx_vaani_spool_task_post(ngx_vaani_spool_t *spool,
    ngx_vaani_spool_task_t *task);
void ngx_vaani_spool_task_exit(ngx_vaani_spool_task_t *task);


/*
 * A record that was given to the callback.
 */

typedef struct ngx_vaani_spool_slot_s  ngx_vaani_spool_slot_t;

struct ngx_vaani_spool_slot_s {
    ngx_vaani_spool_replay_t   *replay;
    ngx_vaani_spool_slot_t     *next;       /* idle one */
    u_char                     *record;
    size_t                      len;
    uint64_t                    since;      /* its first try, Unix time, s */
    unsigned                    tries;      /* before this one */
    uint64_t                    sent;       /* us */
    unsigned                    used:1;
    unsigned                    again:1;    /* it has to be delivered again */
};


struct ngx_vaani_spool_replay_s {
    ngx_vaani_spool_t          *spool;

    int                         lock;       /* of the directory, open for the
                                               life of the worker, or -1 */
    ngx_event_t                 timer;
    ngx_vaani_spool_task_t      seal;
    ngx_vaani_spool_task_t      finish;
    ngx_vaani_spool_task_t      leave;

    /* the segment that is being replayed, -1: none */

    int                         fd;
    ngx_atomic_uint_t           segment;
    ngx_atomic_uint_t           none_below; /* no segment was found, 0: one */
    ngx_atomic_uint_t           aside;      /* one that isn't read, 0: none */
    u_char                     *data;
    size_t                      size;
    time_t                      mtime;
    ngx_err_t                   err;

    vaani_journal_reader_t      reader;
    vaani_journal_record_t      next;       /* read, but not delivered */
    ngx_vaani_spool_slot_t      slots[NGX_VAANI_SPOOL_MAX_WINDOW];
    ngx_vaani_spool_slot_t     *idle;
    ngx_uint_t                  nused;
    ngx_uint_t                  nagain;

    ngx_uint_t                  window;     /* of slots to be used */
    uint64_t                    floor;      /* shortest round trip, us */
    uint64_t                    floor_time; /* us */
    uint64_t                    halved;     /* us */

    u_char                     *dead;       /* what was refused for good */
    size_t                      ndead;
    u_char                     *late;       /* what is to be tried later */
    size_t                      nlate;
    ngx_uint_t                  nrecords;   /* in that */
    ngx_uint_t                  nended;     /* records of the segment */
    ngx_uint_t                  nburied;    /* dead letters of it */
    ngx_atomic_uint_t           late_since; /* the oldest of it, Unix time, s */
    ngx_atomic_uint_t           late_segment;   /* that it was written to */
    u_char                     *bad;        /* what is no record */
    size_t                      nbad;
    size_t                      bad_offset;

    ngx_uint_t                  nreplayed;  /* since the spool was empty */
    ngx_atomic_uint_t           round;      /* the segment with the first record
                                               that was written again, at which
                                               a round is over; 0: none was */
    ngx_uint_t                  ndone;      /* of this round, for good */
    ngx_msec_t                  pause;      /* after a round without any */
    ngx_msec_t                  paused;     /* since then */
    ngx_atomic_uint_t           written;    /* when that began */
    ngx_uint_t                  nintervals; /* until the directory is seen */
    time_t                      measured;   /* by a thread, s */

    /* no bit fields: the thread writes to some of them */

    ngx_uint_t                  leads;      /* the lock is ours */
    ngx_uint_t                  kept;       /* something of it is in a file */
    ngx_uint_t                  whole;      /* all of it, for want of room */
    ngx_err_t                   moved;      /* the same, to the end: why */
    ngx_uint_t                  have_next;
    ngx_uint_t                  busy;       /* in the loop that delivers */
};


ngx_int_t ngx_vaani_spool_append_init(ngx_vaani_spool_t *spool,
    ngx_cycle_t *cycle);
void ngx_vaani_spool_append_exit(ngx_vaani_spool_t *spool);

ngx_int_t ngx_vaani_spool_refused_init(ngx_vaani_spool_t *spool,
    ngx_cycle_t *cycle);
void ngx_vaani_spool_refused_exit(ngx_vaani_spool_t *spool);

ngx_int_t ngx_vaani_spool_replay_init(ngx_vaani_spool_t *spool,
    ngx_cycle_t *cycle);
void ngx_vaani_spool_replay_exit(ngx_vaani_spool_t *spool);


/*
 * ngx_vaani_spool_segment.c: what threads do for the replay, with its data
 */

void ngx_vaani_spool_seal_thread(void *data);
void ngx_vaani_spool_finish_thread(void *data);

/* leaves the segment, with its lock and what was kept of it, and the lead */
void ngx_vaani_spool_leave_thread(void *data);


/*
 * ngx_vaani_spool_file.c: files, as threads use them.  Errors are in errno.
 */

#define NGX_VAANI_SPOOL_NAME_LEN    (NGX_MAX_PATH + 1)

/* the name of a segment, null-terminated */
void ngx_vaani_spool_segment_name(u_char *dst, ngx_str_t *dir,
    ngx_atomic_uint_t number);

/*
 * The directory of refused deliveries of the spool in dir, null-terminated:
 * name is where it's written, *refused it as a string.
 */
void ngx_vaani_spool_refused_dir(u_char *name, ngx_str_t *dir,
    ngx_str_t *refused);

/*
 * Counts the bytes of what is kept for an operator in the spool.
 */
void ngx_vaani_spool_measure(ngx_vaani_spool_t *spool);

/*
 * Looks for the segments of a directory: the lowest number, 0 if there is
 * none, the highest one that any name begins with, also of what was put aside,
 * and the sum of the segments' sizes.  highest and size may be NULL.
 * Returns NGX_OK or NGX_ERROR.
 */
ngx_int_t ngx_vaani_spool_list(ngx_str_t *dir, ngx_atomic_uint_t *lowest,
    ngx_atomic_uint_t *highest, off_t *size);

/*
 * Opens the current segment to append to it, with a shared lock, and moves on
 * to the next one if this one is full or sealed.  full is 1 to move on in any
 * case.  Returns the descriptor and its number in *number, or -1.
 */
int ngx_vaani_spool_open_current(ngx_str_t *dir, ngx_atomic_t *current,
    ngx_atomic_uint_t *number, ngx_uint_t full);

/* syncs a directory: names in it are durable afterwards */
ngx_int_t ngx_vaani_spool_sync_dir(u_char *dir);

/* appends a record as a whole; returns NGX_OK or NGX_ERROR */
ngx_int_t ngx_vaani_spool_write(int fd, u_char *data, size_t len);

/*
 * The same for a file that nobody else appends to meanwhile, and that ends at
 * end: on NGX_ERROR nothing of the record stays.
 */
ngx_int_t ngx_vaani_spool_write_alone(int fd, u_char *data, size_t len,
    off_t end);

/*
 * Gives a segment another name, that of it with ".bad", or with a number before
 * that if there is such a file.  Returns NGX_OK or NGX_ERROR.
 */
ngx_int_t ngx_vaani_spool_put_away(u_char *segment);

/*
 * Gives a segment, whose lock is held, the number behind the current one, so
 * that it is the last one; *number is it.  Returns NGX_OK or NGX_ERROR.
 */
ngx_int_t ngx_vaani_spool_move_last(u_char *segment, ngx_str_t *dir,
    ngx_atomic_t *current, ngx_atomic_uint_t *number);

/*
 * Appends to a file, made if needed, and syncs it, all or nothing, while no
 * tool has it locked to look for the end of it.
 */
ngx_int_t ngx_vaani_spool_append_file(u_char *name, u_char *data, size_t len);


#endif /* _NGX_VAANI_SPOOL_PRIVATE_H_INCLUDED_ */
