
/*
 * Private to src/spool: what is kept, and the servers that are to hold it.
 */


#ifndef _NGX_VAANI_SPOOL_WINDOW_H_INCLUDED_
#define _NGX_VAANI_SPOOL_WINDOW_H_INCLUDED_


#include "ngx_vaani_spool_private.h"


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
ngx_int_t ngx_vaani_spool_update_helds(ngx_vaani_spool_window_t *window,
    ngx_vaani_spool_segment_t *segment);

/* whether all servers that own some of the segment have that */
ngx_uint_t ngx_vaani_spool_is_covered(ngx_vaani_spool_window_t *window,
    ngx_vaani_spool_segment_t *segment);

/* whether one of them may not have it */
ngx_uint_t ngx_vaani_spool_is_missing(ngx_vaani_spool_window_t *window,
    ngx_vaani_spool_segment_t *segment);

/* frees what belongs to a segment */
void ngx_vaani_spool_free_segment(ngx_vaani_spool_segment_t *segment);


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


#endif /* _NGX_VAANI_SPOOL_WINDOW_H_INCLUDED_ */
