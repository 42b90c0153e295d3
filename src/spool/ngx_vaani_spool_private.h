
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

/* how long the replay rests after an error of the disk, ms */

#define NGX_VAANI_SPOOL_REST        1000

/*
 * How long the replay rests after a round, through all that waits, in which
 * nothing could be delivered while others may be: at first, and at most, ms.
 */

#define NGX_VAANI_SPOOL_MIN_PAUSE   1000
#define NGX_VAANI_SPOOL_MAX_PAUSE   30000


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
 * What a server holds of a kept segment, as the worker that leads knows it.
 */

typedef struct ngx_vaani_spool_held_s  ngx_vaani_spool_held_t;

struct ngx_vaani_spool_held_s {
    ngx_vaani_spool_held_t     *next;       /* of the segment, by number */
    ngx_uint_t                  server;
    off_t                       known;      /* the highest mark that was seen */
    ngx_msec_t                  healed;     /* when it began to be, */
    ngx_uint_t                  heals;      /* so often */
    ngx_msec_t                  rested;     /* it isn't tried since then, */
    ngx_msec_t                  rest;       /* for so long */
    ngx_vaani_spool_mark_t      mark;
    unsigned                    read:1;     /* the mark, as it stands now */
    unsigned                    unknown:1;  /* it can't be read, this time */
    unsigned                    lost:1;     /* it was higher, */
    unsigned                    told:1;     /* and that was said */
    unsigned                    claiming:1; /* the mark, and */
    unsigned                    setting:1;
    unsigned                    moved:1;    /* until it's claimed: the scope
                                               was another one in between */
};


/*
 * A kept segment.
 */

typedef struct {
    ngx_atomic_uint_t           number;
    u_char                      id[NGX_VAANI_SPOOL_ID_LEN];
    off_t                       size;       /* as long as that if closed */
    int64_t                     begun;      /* ms of boottime, may be below 0 */
    u_char                     *slots;      /* of its records, a bit each; NULL:
                                               there is one server */
    ngx_uint_t                  owned;      /* for these owners of slots, */
    ngx_vaani_spool_held_t     *helds;      /* the servers that own some */
    unsigned                    closed:1;
    unsigned                    dated:1;    /* begun is exact, else as late as
                                               the last record */
    unsigned                    orphan:1;   /* a slot of it has no owner */
} ngx_vaani_spool_segment_t;


/*
 * A server, as the worker that leads saw it last.
 */

typedef struct {
    ngx_uint_t                  life;       /* of its first connection */
    u_char                      scope[NGX_VAANI_SPOOL_SCOPE_LEN];
    unsigned                    scoped:1;   /* it's known */
    unsigned                    up:1;       /* it's alive */
    unsigned                    begun:1;    /* marks are read in that life, */
    unsigned                    moved:1;    /* but not yet for that scope */
} ngx_vaani_spool_server_t;


/* of an operator, see ngx_vaani_spool_erased() */

typedef struct {
    uint64_t                    erased_at;  /* Unix time, ms */
    uint32_t                    crc;        /* of the name */
    size_t                      len;
    size_t                      offset;     /* of the name in data */
} ngx_vaani_spool_tombstone_t;


typedef struct {
    ngx_vaani_spool_t          *spool;

    /* of the marks that are read, claimed and set for helds */
    void                      (*mark_handler)(ngx_vaani_spool_mark_t *mark,
                                              ngx_int_t rc);

    /* a mark was claimed with ngx_vaani_spool_loss_claim(), or not */
    void                      (*claimed)(void *data, ngx_int_t rc);
    void                       *data;       /* its */

    ngx_vaani_spool_segment_t  *segments;   /* in their order */
    ngx_uint_t                  nsegments;
    ngx_atomic_uint_t           closed;     /* when that was looked at */

    ngx_vaani_spool_server_t   *servers;
    ngx_uint_t                  nservers;
    uint16_t                   *owners;     /* by slot, if they're several; */
    ngx_uint_t                  owned;      /* above 0, raised if they change */
    u_char                     *needed;     /* by server, for a moment */

    ngx_msec_t                  checked;    /* when all marks were, the last */
    ngx_atomic_uint_t           suspicion;  /* at that time */
    ngx_uint_t                  nbusy;      /* marks under way */

    /* of the loss that is being healed */

    ngx_uint_t                  nlooked;
    ngx_uint_t                  nbrought;
    ngx_uint_t                  healing;
    ngx_uint_t                  told;
    ngx_uint_t                  beyond;     /* the oldest one has no mark */

    u_char                     *erased;     /* a file of tombstones */
    size_t                      nerased;
    time_t                      erased_mtime;
    ngx_vaani_spool_tombstone_t *tombstones;
    ngx_uint_t                  ntombstones;
} ngx_vaani_spool_window_t;


typedef struct ngx_vaani_spool_peek_s  ngx_vaani_spool_peek_t;


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
    ngx_vaani_spool_window_t    window;

    int                         lock;       /* of the directory; -1: another
                                               worker leads */
    ngx_event_t                 timer;
    ngx_vaani_spool_task_t      seal;
    ngx_vaani_spool_task_t      renew;      /* the tombstones */
    ngx_vaani_spool_task_t      finish;
    ngx_vaani_spool_task_t      leave;

    /* the segment that is being replayed, -1: none */

    ngx_vaani_spool_segment_t  *healing;    /* it's a kept one, else NULL, */
    ngx_vaani_spool_held_t     *held;       /* and for this server */
    ngx_uint_t                  life;       /* in which that began */
    ngx_uint_t                  elsewhere;  /* not all was answered over it, or
                                               the server has another scope */
    ngx_uint_t                  abandoned;  /* the server takes nothing */
    u_char                     *down;       /* slots whose servers are down, a
                                               bit each */
    ngx_uint_t                  some_down;  /* there are such, and others */
    ngx_uint_t                  skipped;    /* segments that have only these */
    ngx_vaani_spool_peek_t     *peeks;      /* what is known of segments */
    ngx_vaani_spool_mark_t      mark;       /* if it will be kept */
    ngx_uint_t                  claiming;   /* the mark of the segment, first */
    ngx_uint_t                  claimed;    /* it was, in that life */
    int                         fd;
    ngx_atomic_uint_t           segment;
    ngx_atomic_uint_t           none_below; /* no segment was found, 0: one */
    ngx_atomic_uint_t           aside;      /* one that isn't read, 0: none */
    u_char                     *data;
    size_t                      size;
    time_t                      mtime;

    vaani_journal_reader_t      reader;
    vaani_journal_record_t      next;       /* read, but not delivered */
    ngx_vaani_spool_slot_t      slots[NGX_VAANI_SPOOL_MAX_WINDOW];
    ngx_vaani_spool_slot_t     *idle;
    ngx_uint_t                  nused;
    ngx_uint_t                  nagain;

    ngx_uint_t                  limit;      /* of slots to be used */
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
    ngx_msec_t                  renewed;    /* the tombstones were read, */
    ngx_err_t                   unread;     /* or not: why */
    ngx_uint_t                  resting;    /* what waits isn't tried now */
    time_t                      measured;   /* by a thread, s */

    /* no bit fields: the thread writes to some of them */

    ngx_uint_t                  leads;      /* the lock is ours */
    ngx_uint_t                  kept;       /* something of it is in a file */
    ngx_uint_t                  whole;      /* all of it, for want of room */
    ngx_uint_t                  renamed;    /* it's a kept segment now */
    ngx_uint_t                  emptied;    /* it has holes, for want of room */
    ngx_err_t                   moved;      /* the same, to the end: why */
    ngx_uint_t                  have_next;
    ngx_uint_t                  busy;       /* in the loop that delivers */
};


/*
 * ngx_vaani_spool_pick.c: what waits for servers that are down is left alone
 */

/* looks which servers are down, before a thread looks for a segment */
void ngx_vaani_spool_look_who_is_down(ngx_vaani_spool_replay_t *replay);

/*
 * The first segment that waits and can be delivered, in part at least; 0 if
 * there is none.  replay->skipped counts those before it.  In a thread; returns
 * NGX_OK or NGX_ERROR, with errno set.
 */
ngx_int_t ngx_vaani_spool_pick(ngx_vaani_spool_replay_t *replay,
    ngx_str_t *dir, ngx_atomic_uint_t *number);

void ngx_vaani_spool_free_peeks(ngx_vaani_spool_replay_t *replay);


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


/*
 * ngx_vaani_spool_erased.c: reads the tombstones, if there are new ones; in a
 * thread.  Errors are in errno.
 */
ngx_int_t ngx_vaani_spool_read_erased(ngx_vaani_spool_window_t *window);


/*
 * ngx_vaani_spool_servers.c: the servers of a receiver, and their slots
 */

/* how long owners of slots have to stay the same before much is done, ms */

#define NGX_VAANI_SPOOL_SETTLED     5000

/* no server, in window->owners */

#define NGX_VAANI_SPOOL_NO_OWNER    0xffff

ngx_int_t ngx_vaani_spool_servers_init(ngx_vaani_spool_window_t *window,
    ngx_cycle_t *cycle);

/* looks at the servers, and returns how many of them are alive */
ngx_uint_t ngx_vaani_spool_look_at_servers(ngx_vaani_spool_window_t *window);

/*
 * The slot of a record that was read, without what is before its content, or
 * NGX_ERROR.
 */
ngx_int_t ngx_vaani_spool_slot(ngx_vaani_spool_t *spool,
    const u_char *content, size_t len);

/*
 * Sets the bits of the slots of all records of a file, in a thread.  Returns
 * NGX_OK, or NGX_ERROR with errno set.
 */
ngx_int_t ngx_vaani_spool_read_slots(ngx_vaani_spool_t *spool, int fd,
    size_t size, u_char *slots);

/* whether the server of a connection still has the scope of a mark */
ngx_uint_t ngx_vaani_spool_same_scope(ngx_vaani_spool_t *spool,
    ngx_vaani_spool_mark_t *mark);

/*
 * Whether the server of a record, one of several, isn't there: to try it would
 * only take time.  Whether one of several servers is there.
 */
ngx_uint_t ngx_vaani_spool_is_down(ngx_vaani_spool_t *spool,
    const u_char *content, size_t len);
ngx_uint_t ngx_vaani_spool_is_up(ngx_vaani_spool_t *spool);

/* gives a mark the scope of its server.  Returns NGX_OK or NGX_ERROR. */
ngx_int_t ngx_vaani_spool_set_scope(ngx_vaani_spool_t *spool,
    ngx_vaani_spool_mark_t *mark);


/*
 * ngx_vaani_spool_held.c: what the servers are to hold of a kept segment
 */

/*
 * Makes the segment have what the servers are to hold that own some of it now,
 * while no marks are under way.  Returns NGX_OK or NGX_ERROR.
 */
ngx_int_t ngx_vaani_spool_concern(ngx_vaani_spool_window_t *window,
    ngx_vaani_spool_segment_t *segment);

/* whether all servers that own some of the segment have that */
ngx_uint_t ngx_vaani_spool_is_covered(ngx_vaani_spool_window_t *window,
    ngx_vaani_spool_segment_t *segment);

/* whether one of them may not have it */
ngx_uint_t ngx_vaani_spool_is_wanting(ngx_vaani_spool_window_t *window,
    ngx_vaani_spool_segment_t *segment);

/* frees what belongs to a segment */
void ngx_vaani_spool_forget(ngx_vaani_spool_segment_t *segment);


/*
 * ngx_vaani_spool_window.c: the kept segments that there are
 */

/* forgets what was known, when this worker begins to lead */
void ngx_vaani_spool_window_reset(ngx_vaani_spool_window_t *window);
void ngx_vaani_spool_window_free(ngx_vaani_spool_window_t *window);

/*
 * Looks for kept segments and tombstones, and deletes what is old enough; in a
 * thread, while no marks are under way.  Errors are in errno.
 */
ngx_int_t ngx_vaani_spool_window_list(ngx_vaani_spool_window_t *window);

/*
 * Adds a segment that is closed to the list, which may move.  Returns NULL if
 * there is no memory.
 */
ngx_vaani_spool_segment_t *ngx_vaani_spool_window_add(
    ngx_vaani_spool_window_t *window, ngx_atomic_uint_t number, u_char *id,
    off_t size, time_t mtime);


/*
 * ngx_vaani_spool_loss.c: what of it the receiver doesn't have any more
 */

/*
 * How often a segment is delivered again whose mark is missing, ms: if marks
 * are evicted, what is delivered again must not evict more of them.
 */

#define NGX_VAANI_SPOOL_HEAL_EVERY  60000

/* claimed(data, rc) ends what ngx_vaani_spool_loss_claim() begins */
void ngx_vaani_spool_loss_init(ngx_vaani_spool_window_t *window,
    void (*claimed)(void *data, ngx_int_t rc), void *data);

/*
 * Reads marks, if it's time to.  Returns 1 if the list is not to be touched,
 * since some are under way.
 */
ngx_uint_t ngx_vaani_spool_loss_check(ngx_vaani_spool_window_t *window);

/* what is to be delivered again, from its mark on; NULL: nothing */
ngx_vaani_spool_segment_t *ngx_vaani_spool_loss_next(
    ngx_vaani_spool_window_t *window, ngx_vaani_spool_held_t **held);

/* the same, without a word about it */
ngx_uint_t ngx_vaani_spool_loss_has_work(ngx_vaani_spool_window_t *window);

/*
 * Claims the mark of a segment before it's delivered again.  Returns NGX_OK if
 * the handler of that will be called, or NGX_ERROR.
 */
ngx_int_t ngx_vaani_spool_loss_claim(ngx_vaani_spool_window_t *window,
    ngx_vaani_spool_held_t *held);

/* all of the segment was delivered in its life: sets its mark, claimed */
void ngx_vaani_spool_loss_healed(ngx_vaani_spool_window_t *window,
    ngx_vaani_spool_held_t *held, off_t size);

/*
 * A segment that had waited is kept from now on; whole: all of it was delivered
 * in the life of its mark, after that was claimed.  The list may move.  This is
 * for one server: what several are to hold is found in the directory.
 */
void ngx_vaani_spool_loss_add(ngx_vaani_spool_window_t *window,
    ngx_atomic_uint_t number, ngx_vaani_spool_mark_t *mark, off_t size,
    time_t mtime, ngx_uint_t whole);


/*
 * ngx_vaani_spool_aside.c: what the receiver doesn't take
 */

/*
 * One of several servers takes nothing: the others don't wait.  Returns NGX_OK,
 * NGX_ERROR (no memory), or NGX_BUSY: it's to be given again.
 */
ngx_int_t ngx_vaani_spool_busy(ngx_vaani_spool_replay_t *replay,
    ngx_vaani_spool_slot_t *slot);

/*
 * Keeps a record for later.  Returns NGX_OK; NGX_DECLINED if it was tried for
 * long enough while others were delivered; NGX_ERROR (no memory).
 */
ngx_int_t ngx_vaani_spool_defer(ngx_vaani_spool_replay_t *replay,
    ngx_vaani_spool_slot_t *slot, ngx_str_t *reason);

/* room for len more bytes in what is kept aside, or NULL */
u_char *ngx_vaani_spool_put_by(ngx_vaani_spool_replay_t *replay,
    u_char **kept, size_t *nkept, size_t len);

/* makes it a dead letter.  Returns NGX_OK or NGX_ERROR (no memory). */
ngx_int_t ngx_vaani_spool_bury(ngx_vaani_spool_replay_t *replay,
    ngx_vaani_spool_slot_t *slot, ngx_str_t *reason);

/* one that had been taken is left out.  Returns NGX_OK. */
ngx_int_t ngx_vaani_spool_leave_out(ngx_vaani_spool_replay_t *replay,
    ngx_str_t *reason);


/*
 * ngx_vaani_spool_segment.c: the segment that is replayed, as threads take it
 * and leave it
 */

ngx_err_t ngx_vaani_spool_seal_thread(void *data);

/* closes the segment and forgets what was kept of it */
void ngx_vaani_spool_close(ngx_vaani_spool_replay_t *replay);

/* leaves the segment, with its lock and what was kept of it, and the lead */
ngx_err_t ngx_vaani_spool_leave_thread(void *data);


/*
 * ngx_vaani_spool_deliver.c: its records
 */

/* delivers what can be; all of them done, the thread that finishes is posted */
void ngx_vaani_spool_deliver(ngx_vaani_spool_replay_t *replay);

void ngx_vaani_spool_free_slots(ngx_vaani_spool_replay_t *replay);

/* the connection that a segment is delivered over: the first to its server */
ngx_uint_t ngx_vaani_spool_lane(ngx_vaani_spool_replay_t *replay);


/*
 * ngx_vaani_spool_finish.c: what becomes of it
 */

ngx_err_t ngx_vaani_spool_finish_thread(void *data);

/*
 * Ends what the thread has done: counts and logs it.  Returns NGX_OK, or
 * NGX_ERROR if it's to be tried again, for which the timer is set.
 */
ngx_int_t ngx_vaani_spool_finished(ngx_vaani_spool_replay_t *replay);


/*
 * ngx_vaani_spool_names.c: names, and what a directory has of them
 */

#define NGX_VAANI_SPOOL_NAME_LEN    (NGX_MAX_PATH + 1)

/* a larger number is none of ours */

#define NGX_VAANI_SPOOL_LAST        ((ngx_atomic_uint_t) -1 / 2)

/* the digits of a number in a name, so many that names sort as it does */

#define NGX_VAANI_SPOOL_DIGITS      20

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
 * Looks for the segments of a directory: the lowest number above another one, 0
 * if there is none, the highest one that any name begins with, also of what was
 * put aside, and the sum of the segments' sizes.  highest and size may be NULL.
 * Returns NGX_OK or NGX_ERROR.
 */
ngx_int_t ngx_vaani_spool_list(ngx_str_t *dir, ngx_atomic_uint_t above,
    ngx_atomic_uint_t *lowest, ngx_atomic_uint_t *highest, off_t *size);

/* the number that a name begins with, 0 if it doesn't */
ngx_atomic_uint_t ngx_vaani_spool_number(char *name);


/*
 * ngx_vaani_spool_file.c: files, as threads use them.  Errors are in errno.
 */

/* flags for a file that may be anything, to read it */

#define NGX_VAANI_SPOOL_TO_READ     (O_RDONLY|O_NONBLOCK|O_NOFOLLOW)

int ngx_vaani_spool_open_to_read(u_char *name);

/*
 * Opens a file with a lock, LOCK_SH or LOCK_EX, and fills *st.  Doesn't wait:
 * returns -1 with errno EWOULDBLOCK if somebody else has the lock, or if the
 * name is another file's by now, or none's.  The lock is dropped with the
 * descriptor.
 */
int ngx_vaani_spool_open_locked(u_char *name, int flags, int lock,
    struct stat *st);

/*
 * Whether a name is that of an open file, which *st is filled for.  Returns
 * NGX_OK, NGX_DECLINED if it's that of another one or of none, or NGX_ERROR.
 */
ngx_int_t ngx_vaani_spool_is_named(int fd, u_char *name, struct stat *st);

/* reads size bytes, or fewer at the end of the file; their number, or -1 */
ssize_t ngx_vaani_spool_read_file(int fd, u_char *data, size_t size);

/* closes a file; errno stays */
void ngx_vaani_spool_close_file(int fd);

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

/* renames a file; nothing that is there is replaced */
ngx_int_t ngx_vaani_spool_rename_new(u_char *from, u_char *to);


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
 * Deletes the oldest kept segment that is closed.  Returns NGX_OK, NGX_DECLINED
 * if there is none, or NGX_ERROR.
 */
ngx_int_t ngx_vaani_spool_drop_oldest(ngx_vaani_spool_t *spool);

/*
 * The same, if errno says that the disk is full.  Returns 1 if it's worth
 * another try; else errno stays.
 */
ngx_uint_t ngx_vaani_spool_dropped(ngx_vaani_spool_t *spool);

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


#endif /* _NGX_VAANI_SPOOL_PRIVATE_H_INCLUDED_ */
