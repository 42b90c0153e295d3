
/*
 * Private to src/spool.
 */


#ifndef _NGX_VAANI_SPOOL_PRIVATE_H_INCLUDED_
#define _NGX_VAANI_SPOOL_PRIVATE_H_INCLUDED_


#include "ngx_vaani_spool.h"
#include "vaani_journal.h"


/* a power of two: orders share a slot, which at worst makes one wait */

#define NGX_VAANI_SPOOL_SLOTS       16384


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

    /* the last segment with a record of these orders */
    ngx_atomic_t                last[NGX_VAANI_SPOOL_SLOTS];
} ngx_vaani_spool_shared_t;


struct ngx_vaani_spool_entry_s {
    ngx_queue_t                 queue;
    ngx_vaani_spool_append_pt   handler;    /* NULL: detached, or none */
    void                       *data;
    uint32_t                    order;
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

/* what is older than the host's uptime is still above 0, s */

#define NGX_VAANI_SPOOL_EPOCH       0x40000000


/* raises an atomic to a value, if it is lower */

void ngx_vaani_spool_raise(ngx_atomic_t *atomic, ngx_atomic_uint_t value);


/*
 * A time of the clock, s, as one of a clock that nobody sets; above 0.  What
 * is "oldest" came at such a time, or there is none if it is 0.
 */

ngx_atomic_uint_t ngx_vaani_spool_since(time_t time);


/*
 * Work for a thread: handler(data) runs there, with nothing of nginx's to
 * touch but atomics; done(data) runs in the event loop afterwards.
 */

typedef struct {
    void                      (*handler)(void *data);
    void                      (*done)(void *data);
    void                       *data;
    unsigned                    busy:1;
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
ngx_int_t ngx_vaani_spool_task_post(ngx_vaani_spool_t *spool,
    ngx_vaani_spool_task_t *task);
void ngx_vaani_spool_task_exit(ngx_vaani_spool_task_t *task);


/*
 * A record that was given to the callback.
 */

typedef struct {
    ngx_vaani_spool_replay_t   *replay;
    u_char                     *record;
    size_t                      len;
    uint32_t                    order;
    unsigned                    used:1;
    unsigned                    again:1;    /* it has to be delivered again */
} ngx_vaani_spool_slot_t;


struct ngx_vaani_spool_replay_s {
    ngx_vaani_spool_t          *spool;

    int                         lock;       /* of the directory, -1: not ours */
    ngx_event_t                 timer;
    ngx_vaani_spool_task_t      seal;
    ngx_vaani_spool_task_t      finish;

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
    ngx_vaani_spool_slot_t      slots[NGX_VAANI_SPOOL_WINDOW];
    ngx_uint_t                  nused;
    ngx_uint_t                  nagain;

    u_char                     *dead;       /* what was refused for good */
    size_t                      ndead;
    u_char                     *bad;        /* what is no record */
    size_t                      nbad;
    size_t                      bad_offset;

    ngx_uint_t                  nreplayed;  /* since the spool was empty */
    ngx_uint_t                  nintervals; /* until the directory is seen */

    unsigned                    have_next:1;
    unsigned                    kept:1;     /* something of it is in a file */
    unsigned                    busy:1;     /* in the loop that delivers */
};


ngx_int_t ngx_vaani_spool_append_init(ngx_vaani_spool_t *spool,
    ngx_cycle_t *cycle);
void ngx_vaani_spool_append_exit(ngx_vaani_spool_t *spool);

ngx_int_t ngx_vaani_spool_replay_init(ngx_vaani_spool_t *spool,
    ngx_cycle_t *cycle);
void ngx_vaani_spool_replay_exit(ngx_vaani_spool_t *spool);


/*
 * ngx_vaani_spool_segment.c: what threads do for the replay, with its data
 */

void ngx_vaani_spool_seal_thread(void *data);
void ngx_vaani_spool_finish_thread(void *data);

/* leaves the segment, with its lock, and what was kept of it */
void ngx_vaani_spool_close(ngx_vaani_spool_replay_t *replay);


/*
 * ngx_vaani_spool_file.c: files, as threads use them.  Errors are in errno.
 */

#define NGX_VAANI_SPOOL_NAME_LEN    (NGX_MAX_PATH + 1)

/* the name of a segment, null-terminated */
void ngx_vaani_spool_segment_name(u_char *dst, ngx_str_t *dir,
    ngx_atomic_uint_t number);

/*
 * Looks for the segments of a directory: the lowest and the highest number, 0
 * if there is none, and the sum of their sizes.  Any of them may be NULL.
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

/* appends to a file, made if needed, and syncs it */
ngx_int_t ngx_vaani_spool_append_file(u_char *name, u_char *data, size_t len);


#endif /* _NGX_VAANI_SPOOL_PRIVATE_H_INCLUDED_ */
