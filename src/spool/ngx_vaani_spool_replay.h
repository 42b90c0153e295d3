
/*
 * Private to src/spool: the segment that the leader delivers.
 */


#ifndef _NGX_VAANI_SPOOL_REPLAY_H_INCLUDED_
#define _NGX_VAANI_SPOOL_REPLAY_H_INCLUDED_


#include "ngx_vaani_spool_window.h"


/* the pause of the replay after a disk error, ms */

#define NGX_VAANI_SPOOL_REST        1000

/*
 * The pause of the replay after a round through all waiting records, in which
 * nothing could be delivered while others may be: initially, and at most, ms.
 */

#define NGX_VAANI_SPOOL_MIN_PAUSE   1000
#define NGX_VAANI_SPOOL_MAX_PAUSE   30000


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
    unsigned                    again:1;    /* it must be delivered again */
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

    ngx_vaani_spool_segment_t  *healing;    /* it is a kept one, else NULL, */
    ngx_vaani_spool_held_t     *held;       /* and for this server */
    ngx_uint_t                  life;       /* in which that began */
    ngx_uint_t                  elsewhere;  /* not all was answered over it, or
                                               the server has another scope */
    ngx_uint_t                  abandoned;  /* the server accepts nothing */
    u_char                     *down;       /* slots whose servers are down, one
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
    ngx_atomic_uint_t           aside;      /* one that is not read, 0: none */
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

    u_char                     *dead;       /* refused for good */
    size_t                      ndead;
    u_char                     *late;       /* to be retried later */
    size_t                      nlate;
    ngx_uint_t                  nrecords;   /* in that */
    ngx_uint_t                  nended;     /* records of the segment */
    ngx_uint_t                  nburied;    /* dead letters of it */
    ngx_atomic_uint_t           late_since; /* the oldest of it, Unix time, s */
    ngx_atomic_uint_t           late_segment;   /* the segment they are in */
    u_char                     *bad;        /* bytes that are no record */
    size_t                      nbad;
    size_t                      bad_offset;

    ngx_uint_t                  nreplayed;  /* since the spool was empty */
    ngx_atomic_uint_t           round;      /* the segment with the first record
                                               that was written again; it ends
                                               the round; 0: none was */
    ngx_uint_t                  ndone;      /* of this round, for good */
    ngx_msec_t                  pause;      /* after a round without any */
    ngx_msec_t                  paused;     /* since then */
    ngx_atomic_uint_t           written;    /* counter when that began */
    ngx_uint_t                  nintervals; /* until the directory is seen */
    ngx_msec_t                  renewed;    /* the tombstones were read, */
    ngx_err_t                   unread;     /* or not: why */
    ngx_uint_t                  resting;    /* waiting records are not tried
                                               now */
    time_t                      measured;   /* by a thread, s */

    /* no bit fields, because the thread writes to some of them */

    ngx_uint_t                  leads;      /* the lock is ours */
    ngx_uint_t                  kept;       /* a part of it is in a file */
    ngx_uint_t                  whole;      /* all of it, because the disk is
                                               full */
    ngx_uint_t                  renamed;    /* it is a kept segment now */
    ngx_uint_t                  emptied;    /* it has holes, to free space */
    ngx_err_t                   moved;      /* to the end of the spool: why */
    ngx_uint_t                  have_next;
    ngx_uint_t                  busy;       /* in the loop that delivers */
};


/*
 * ngx_vaani_spool_pick.c: skips segments for servers that are down
 */

/* finds the servers that are down, before a thread looks for a segment */
void ngx_vaani_spool_find_down_slots(ngx_vaani_spool_replay_t *replay);

/*
 * Finds the first waiting segment that can be delivered, at least in part; 0
 * if there is none. replay->skipped counts those before it.  In a thread;
 * returns NGX_OK or NGX_ERROR, with errno set.
 */
ngx_int_t ngx_vaani_spool_pick(ngx_vaani_spool_replay_t *replay,
    ngx_str_t *dir, ngx_atomic_uint_t *number);

void ngx_vaani_spool_free_peeks(ngx_vaani_spool_replay_t *replay);


/*
 * ngx_vaani_spool_aside.c: records that the receiver does not accept
 */

/*
 * One of several servers accepts nothing: the others do not wait.  Returns
 * NGX_OK, NGX_ERROR (no memory), or NGX_BUSY: deliver the record again.
 */
ngx_int_t ngx_vaani_spool_busy(ngx_vaani_spool_replay_t *replay,
    ngx_vaani_spool_slot_t *slot);

/*
 * Keeps a record for later.  Returns NGX_OK; NGX_DECLINED if it was tried for
 * long enough while others were delivered; NGX_ERROR (no memory).
 */
ngx_int_t ngx_vaani_spool_defer(ngx_vaani_spool_replay_t *replay,
    ngx_vaani_spool_slot_t *slot, ngx_str_t *reason);

/* room for len more bytes in the records to be put aside, or NULL */
u_char *ngx_vaani_spool_reserve_aside(ngx_vaani_spool_replay_t *replay,
    u_char **kept, size_t *nkept, size_t len);

/* makes it a dead letter. Returns NGX_OK or NGX_ERROR (no memory). */
ngx_int_t ngx_vaani_spool_dead_letter(ngx_vaani_spool_replay_t *replay,
    ngx_vaani_spool_slot_t *slot, ngx_str_t *reason);

/* skips a record that was accepted before. Returns NGX_OK. */
ngx_int_t ngx_vaani_spool_skip(ngx_vaani_spool_replay_t *replay,
    ngx_str_t *reason);


/*
 * ngx_vaani_spool_segment.c: takes and leaves the segment, in threads
 */

ngx_err_t ngx_vaani_spool_seal_thread(void *data);

/* closes the segment and frees the records to be put aside */
void ngx_vaani_spool_close(ngx_vaani_spool_replay_t *replay);

/*
 * leaves the segment, drops its lock and the lead, and frees the records to be
 * put aside
 */
ngx_err_t ngx_vaani_spool_leave_thread(void *data);


/*
 * ngx_vaani_spool_deliver.c: its records
 */

/*
 * delivers as many as possible; after the last one, posts the finishing task
 */
void ngx_vaani_spool_deliver(ngx_vaani_spool_replay_t *replay);

void ngx_vaani_spool_free_slots(ngx_vaani_spool_replay_t *replay);

/* the connection for a segment: the first one to its server */
ngx_uint_t ngx_vaani_spool_lane(ngx_vaani_spool_replay_t *replay);


/*
 * ngx_vaani_spool_finish.c: finishes the segment
 */

ngx_err_t ngx_vaani_spool_finish_thread(void *data);

/*
 * Ends the thread's work: counts and logs it.  Returns NGX_OK, or NGX_ERROR if
 * it must be repeated, for which the timer is set.
 */
ngx_int_t ngx_vaani_spool_finished(ngx_vaani_spool_replay_t *replay);


#endif /* _NGX_VAANI_SPOOL_REPLAY_H_INCLUDED_ */
