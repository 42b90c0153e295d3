
/*
 * Private to src/spool: the kept segments, and the servers that must have
 * their records.
 */


#ifndef _NGX_VAANI_SPOOL_WINDOW_H_INCLUDED_
#define _NGX_VAANI_SPOOL_WINDOW_H_INCLUDED_


#include "ngx_vaani_spool_private.h"


/*
 * A server's part of a kept segment, as the leader knows it.
 */

typedef struct ngx_vaani_spool_held_s  ngx_vaani_spool_held_t;

struct ngx_vaani_spool_held_s {
    ngx_vaani_spool_held_t     *next;       /* of the segment, by number */
    ngx_uint_t                  server;
    off_t                       known;      /* the highest mark that was seen */
    ngx_msec_t                  healed;     /* when redelivery began, */
    ngx_uint_t                  heals;      /* and how often */
    ngx_msec_t                  rested;     /* it is not tried since then, */
    ngx_msec_t                  rest;       /* for so long */
    ngx_vaani_spool_mark_t      mark;
    unsigned                    read:1;     /* the current value of the mark */
    unsigned                    unknown:1;  /* it cannot be read, this time */
    unsigned                    lost:1;     /* it was higher, */
    unsigned                    told:1;     /* and that was said */
    unsigned                    claiming:1; /* the mark, and */
    unsigned                    setting:1;
    unsigned                    moved:1;    /* until it is claimed: the scope
                                               was another one meanwhile */
};


/*
 * A kept segment.
 */

typedef struct {
    ngx_atomic_uint_t           number;
    u_char                      id[NGX_VAANI_SPOOL_ID_LEN];
    off_t                       size;       /* final if it is closed */
    int64_t                     begun;      /* ms of boottime, may be below 0 */
    u_char                     *slots;      /* of its records, one bit each;
                                               NULL: there is one server */
    ngx_uint_t                  owned;      /* for these owners of slots, */
    ngx_vaani_spool_held_t     *helds;      /* the servers that own some */
    unsigned                    closed:1;
    unsigned                    dated:1;    /* begun is exact, otherwise that
                                               of the last record */
    unsigned                    orphan:1;   /* a slot of it has no owner */
} ngx_vaani_spool_segment_t;


/*
 * A server, as the leader saw it last.
 */

typedef struct {
    ngx_uint_t                  life;       /* of its first connection */
    u_char                      scope[NGX_VAANI_SPOOL_SCOPE_LEN];
    unsigned                    scoped:1;   /* it is known */
    unsigned                    up:1;       /* it is alive */
    unsigned                    begun:1;    /* marks are read in that life, */
    unsigned                    moved:1;    /* but not yet for that scope */
} ngx_vaani_spool_server_t;


/* A tombstone of an operator, see ngx_vaani_spool_erased(). */

typedef struct {
    uint64_t                    erased_at;  /* Unix time, ms */
    uint32_t                    crc;        /* of the name */
    size_t                      len;
    size_t                      offset;     /* of the name in data */
} ngx_vaani_spool_tombstone_t;


typedef struct {
    ngx_vaani_spool_t          *spool;

    /* for marks that are read, claimed and set for helds */
    void                      (*mark_handler)(ngx_vaani_spool_mark_t *mark,
                                              ngx_int_t rc);

    /* the claim of a mark by ngx_vaani_spool_loss_claim() has ended */
    void                      (*claimed)(void *data, ngx_int_t rc);
    void                       *data;       /* its */

    ngx_vaani_spool_segment_t  *segments;   /* in their order */
    ngx_uint_t                  nsegments;
    ngx_atomic_uint_t           closed;     /* counter at the last listing */

    ngx_vaani_spool_server_t   *servers;
    ngx_uint_t                  nservers;
    uint16_t                   *owners;     /* by slot, if there are several; */
    ngx_uint_t                  owned;      /* above 0, incremented on
                                               changes */
    u_char                     *needed;     /* by server, temporary */

    ngx_msec_t                  checked;    /* when all marks were last read */
    ngx_atomic_uint_t           suspicion;  /* at that time */
    ngx_uint_t                  nbusy;      /* marks in progress */

    /* of the loss in recovery */

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


/*
 * ngx_vaani_spool_erased.c: reads the tombstones, if there are new ones; in a
 * thread.  Errors are in errno.
 */
ngx_int_t ngx_vaani_spool_read_erased(ngx_vaani_spool_window_t *window);


/*
 * ngx_vaani_spool_servers.c: the servers of a receiver, and their slots
 */

/* how long owners of slots must be unchanged before a costly step, ms */

#define NGX_VAANI_SPOOL_SETTLED     5000

/* no server, in window->owners */

#define NGX_VAANI_SPOOL_NO_OWNER    0xffff

ngx_int_t ngx_vaani_spool_servers_init(ngx_vaani_spool_window_t *window,
    ngx_cycle_t *cycle);

/* updates the servers, and returns the number of live ones */
ngx_uint_t ngx_vaani_spool_look_at_servers(ngx_vaani_spool_window_t *window);

/*
 * The slot of a record that was read, without the header of its content, or
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
 * Whether the server of a record, one of several, is down: trying it would
 * only take time.  Whether one of several servers is up.
 */
ngx_uint_t ngx_vaani_spool_is_down(ngx_vaani_spool_t *spool,
    const u_char *content, size_t len);
ngx_uint_t ngx_vaani_spool_is_up(ngx_vaani_spool_t *spool);

/* gives a mark the scope of its server.  Returns NGX_OK or NGX_ERROR. */
ngx_int_t ngx_vaani_spool_set_scope(ngx_vaani_spool_t *spool,
    ngx_vaani_spool_mark_t *mark);


/*
 * ngx_vaani_spool_held.c: the servers' parts of a kept segment
 */

/*
 * Creates the parts of all servers that now own slots of the segment, while no
 * marks are in progress.  Returns NGX_OK or NGX_ERROR.
 */
ngx_int_t ngx_vaani_spool_update_helds(ngx_vaani_spool_window_t *window,
    ngx_vaani_spool_segment_t *segment);

/* whether all servers that own slots of the segment have their records */
ngx_uint_t ngx_vaani_spool_is_covered(ngx_vaani_spool_window_t *window,
    ngx_vaani_spool_segment_t *segment);

/* whether one of them may lack records */
ngx_uint_t ngx_vaani_spool_is_missing(ngx_vaani_spool_window_t *window,
    ngx_vaani_spool_segment_t *segment);

/* frees the memory of a segment */
void ngx_vaani_spool_free_segment(ngx_vaani_spool_segment_t *segment);


/*
 * ngx_vaani_spool_window.c: the list of kept segments
 */

/* forgets the list, when this worker becomes the leader */
void ngx_vaani_spool_window_reset(ngx_vaani_spool_window_t *window);
void ngx_vaani_spool_window_free(ngx_vaani_spool_window_t *window);

/*
 * Looks for kept segments and tombstones, and deletes those old enough; in a
 * thread, while no marks are in progress.  Errors are in errno.
 */
ngx_int_t ngx_vaani_spool_window_list(ngx_vaani_spool_window_t *window);

/*
 * Adds a closed segment to the list, which may be moved.  Returns NULL if
 * there is no memory.
 */
ngx_vaani_spool_segment_t *ngx_vaani_spool_window_add(
    ngx_vaani_spool_window_t *window, ngx_atomic_uint_t number, u_char *id,
    off_t size, time_t mtime);


/*
 * ngx_vaani_spool_loss.c: finds records that the receiver has lost
 */

/*
 * The period of redeliveries of a segment whose mark is missing, ms: if marks
 * are evicted, redelivered records must not evict more of them.
 */

#define NGX_VAANI_SPOOL_HEAL_EVERY  60000

/* claimed(data, rc) is called at the end of ngx_vaani_spool_loss_claim() */
void ngx_vaani_spool_loss_init(ngx_vaani_spool_window_t *window,
    void (*claimed)(void *data, ngx_int_t rc), void *data);

/*
 * Reads marks, if it is time to.  Returns 1 if the list must not be changed,
 * because some are in progress.
 */
ngx_uint_t ngx_vaani_spool_loss_check(ngx_vaani_spool_window_t *window);

/* the next part to deliver again, from its mark on; NULL: none */
ngx_vaani_spool_segment_t *ngx_vaani_spool_loss_next(
    ngx_vaani_spool_window_t *window, ngx_vaani_spool_held_t **held);

/* the same, without a log line */
ngx_uint_t ngx_vaani_spool_loss_has_work(ngx_vaani_spool_window_t *window);

/*
 * Claims the mark of a segment before it is delivered again.  Returns NGX_OK
 * if the handler will be called, or NGX_ERROR.
 */
ngx_int_t ngx_vaani_spool_loss_claim(ngx_vaani_spool_window_t *window,
    ngx_vaani_spool_held_t *held);

/* the whole segment was delivered in the mark's life: sets the claimed mark */
void ngx_vaani_spool_loss_healed(ngx_vaani_spool_window_t *window,
    ngx_vaani_spool_held_t *held, off_t size);

/*
 * A segment that was waiting is kept from now on. whole: all of it was
 * delivered in the life of its mark, after the claim.  The list may be moved.
 * For one server only: with several, the segment is found in the directory.
 */
void ngx_vaani_spool_loss_add(ngx_vaani_spool_window_t *window,
    ngx_atomic_uint_t number, ngx_vaani_spool_mark_t *mark, off_t size,
    time_t mtime, ngx_uint_t whole);


#endif /* _NGX_VAANI_SPOOL_WINDOW_H_INCLUDED_ */
