
/*
 * What a worker keeps: private to the files of the writer.
 */


#ifndef _NGX_VAANI_SPOOL_WRITER_H_INCLUDED_
#define _NGX_VAANI_SPOOL_WRITER_H_INCLUDED_


#include "ngx_vaani_spool_private.h"


/* what has waited for longer isn't marked any more, ms */

#define NGX_VAANI_SPOOL_MARK_LATE   1000

/* how often a mark is set while records come, ms */

#define NGX_VAANI_SPOOL_MARK_EVERY  100

/* when the disk has to have what was written, ms */

#define NGX_VAANI_SPOOL_SYNC_EVERY  1000

/* closed segments that wait to be synced */

#define NGX_VAANI_SPOOL_STALE       16


/*
 * Records that are written with one write().
 */

typedef struct {
    u_char                     *data;
    size_t                      len;
    size_t                      size;
    ngx_uint_t                  nrecords;
    ngx_uint_t                  life;       /* that of the first one, */
    ngx_uint_t                  turn;       /* and when it came, */
    ngx_msec_t                  since;      /* by the clock */
    ngx_uint_t                  mixed;      /* that of others is later */
    ngx_queue_t                 waiters;    /* of ngx_vaani_spool_waiter_t */
} ngx_vaani_spool_batch_t;


/*
 * The mark of a segment: it's claimed before the segment begins, and outlives
 * its writer's interest in it.
 */

typedef struct {
    ngx_vaani_spool_mark_t      mark;
    ngx_queue_t                 queue;
    ngx_vaani_spool_writer_t   *writer;
    ngx_uint_t                  closed;     /* nothing is added any more */
    ngx_uint_t                  turn;       /* when it was claimed, 0: never */
    off_t                       last;       /* what it is to be at the end, */
    ngx_msec_t                  since;      /* of records that came then */
} ngx_vaani_spool_own_mark_t;


struct ngx_vaani_spool_writer_s {
    ngx_vaani_spool_t          *spool;
    ngx_uint_t                  connection;

    ngx_vaani_spool_batch_t     batches[2];
    ngx_vaani_spool_batch_t    *gathering;
    ngx_vaani_spool_batch_t    *writing;
    size_t                      reserved;   /* for a record */

    ngx_event_t                 flush;      /* posted */
    ngx_event_t                 late;       /* for waiters */
    ngx_event_t                 marks;
    ngx_event_t                 syncs;
    ngx_vaani_spool_task_t      append;
    ngx_vaani_spool_task_t      sync;

    /* the segment; fd -1: none is open */

    int                         fd;
    u_char                      id[NGX_VAANI_SPOOL_ID_LEN];
    ngx_atomic_uint_t           number;
    off_t                       size;       /* that is written */
    ngx_uint_t                  life;
    ngx_msec_t                  opened;
    ngx_msec_t                  since;      /* came the first record that no
                                               mark was sent for */
    ngx_vaani_spool_own_mark_t *mark;       /* NULL: it has none */

    ngx_vaani_spool_own_mark_t *next;       /* for the next segment */
    ngx_uint_t                  refused;    /* life in which a claim failed, */
    ngx_msec_t                  refused_at; /* and when */
    ngx_queue_t                 owned;      /* all marks that are in use */
    off_t                       asked;      /* the last mark that was sent */
    ngx_msec_t                  checked;    /* when it was known to stand */
    ngx_uint_t                  turn;       /* counts what comes */

    /* for the sync */

    int                         stale[NGX_VAANI_SPOOL_STALE];
    ngx_uint_t                  nstale;
    int                         syncing[NGX_VAANI_SPOOL_STALE + 1];
    ngx_uint_t                  nsyncing;   /* of them, that are closed, too */
    u_char                      name[NGX_VAANI_SPOOL_ID_LEN];
    ngx_atomic_uint_t           named;      /* both of the one that is open */
    ngx_uint_t                  gone;       /* it has another name, or none */

    vaani_pace_t                failed;     /* the lines that say so */
    vaani_pace_t                delayed;

    ngx_uint_t                  unsynced;   /* something was written since */
    ngx_uint_t                  full;       /* of what waits */
    ngx_uint_t                  slow;       /* nothing waits for the disk */
    ngx_uint_t                  suspect;    /* the mark isn't what it was */
};


/*
 * ngx_vaani_spool_writer_batch.c: batches of records
 */

/* writes what was gathered, unless a batch is being written */
void ngx_vaani_spool_flush_handler(ngx_event_t *ev);

ngx_err_t ngx_vaani_spool_batch_thread(void *data);
void ngx_vaani_spool_batch_done(void *data);


/*
 * ngx_vaani_spool_writer_wait.c: who waits for them
 */

/* empties a batch that was written, or won't be, and ends the wait for it */
void ngx_vaani_spool_batch_end(ngx_vaani_spool_batch_t *batch);

/* ends the wait of those that wait for too long */
void ngx_vaani_spool_late_handler(ngx_event_t *ev);

/* counts n records that nobody waits for, and says so from time to time */
void ngx_vaani_spool_not_waited(ngx_vaani_spool_writer_t *writer,
    ngx_uint_t n);

/*
 * Counts n records that aren't kept, and says why from time to time; err is an
 * errno or 0.
 */
void ngx_vaani_spool_not_kept(ngx_vaani_spool_writer_t *writer,
    ngx_uint_t n, ngx_err_t err, char *why);


/*
 * ngx_vaani_spool_writer_segment.c: the segment of a batch, and its mark
 */

/* whether the connection has that life, and its server the scope of the mark */
ngx_uint_t ngx_vaani_spool_is_alive(ngx_vaani_spool_writer_t *writer,
    ngx_vaani_spool_mark_t *mark, ngx_uint_t life);

/* whether a batch may be written to the segment that is open */
ngx_uint_t ngx_vaani_spool_belongs(ngx_vaani_spool_writer_t *writer,
    ngx_vaani_spool_batch_t *batch);

/*
 * Names the segment of a batch, and takes the mark that was claimed for it if
 * that may speak for the batch.  Returns NGX_OK or NGX_ERROR.
 */
ngx_int_t ngx_vaani_spool_begin_segment(ngx_vaani_spool_writer_t *writer,
    ngx_vaani_spool_batch_t *batch);

/* claims the mark of the next segment, so that it's there when it's needed */
void ngx_vaani_spool_claim_next(ngx_vaani_spool_writer_t *writer);

void ngx_vaani_spool_free_mark(ngx_vaani_spool_own_mark_t *own);

/* closes the segment: it's the leader's when it was synced */
void ngx_vaani_spool_end_segment(ngx_vaani_spool_writer_t *writer);

/* the same, if it's time to */
void ngx_vaani_spool_consider_end(ngx_vaani_spool_writer_t *writer);

void ngx_vaani_spool_marks_handler(ngx_event_t *ev);

/* the segments that ended and were synced are the leader's */
void ngx_vaani_spool_sync_done(void *data);


/*
 * ngx_vaani_spool_writer_sync.c
 */

void ngx_vaani_spool_syncs_handler(ngx_event_t *ev);

/* syncs what was written, and closes what ended, in a thread of its own */
void ngx_vaani_spool_sync_now(ngx_vaani_spool_writer_t *writer);

ngx_err_t ngx_vaani_spool_sync_thread(void *data);


#endif /* _NGX_VAANI_SPOOL_WRITER_H_INCLUDED_ */
