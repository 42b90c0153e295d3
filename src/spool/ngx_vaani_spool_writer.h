
/*
 * Keeps a worker's records: private to the files of the writer.
 */


#ifndef _NGX_VAANI_SPOOL_WRITER_H_INCLUDED_
#define _NGX_VAANI_SPOOL_WRITER_H_INCLUDED_


#include "ngx_vaani_spool_private.h"


/* marks are not set for records that have waited for longer, ms */

#define NGX_VAANI_SPOOL_MARK_LATE   1000

/* the period of setting a mark while records arrive, ms */

#define NGX_VAANI_SPOOL_MARK_EVERY  100

/* the period of syncs, ms */

#define NGX_VAANI_SPOOL_SYNC_EVERY  1000

/* the maximum number of closed segments that wait for a sync */

#define NGX_VAANI_SPOOL_STALE       16


/*
 * Records that are written with one write().
 */

typedef struct {
    u_char                     *data;
    size_t                      len;
    size_t                      size;
    ngx_uint_t                  nrecords;
    ngx_uint_t                  life;       /* life of the first one, */
    ngx_uint_t                  turn;       /* and its time of arrival, */
    ngx_msec_t                  since;      /* by the clock */
    ngx_uint_t                  mixed;      /* others have a later life */
    ngx_queue_t                 waiters;    /* of ngx_vaani_spool_waiter_t */
} ngx_vaani_spool_batch_t;


/*
 * The mark of a segment.  It is claimed before the segment begins, and may
 * exist longer than its writer needs it.
 */

typedef struct {
    ngx_vaani_spool_mark_t      mark;
    ngx_queue_t                 queue;
    ngx_vaani_spool_writer_t   *writer;
    ngx_uint_t                  closed;     /* nothing is added any more */
    ngx_uint_t                  turn;       /* when it was claimed, 0: never */
    off_t                       last;       /* its final number, */
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
    off_t                       size;       /* being written */
    ngx_uint_t                  life;
    ngx_msec_t                  opened;
    ngx_msec_t                  since;      /* arrival of the first record for
                                               which no mark was sent */
    ngx_vaani_spool_own_mark_t *mark;       /* NULL: it has none */

    ngx_vaani_spool_own_mark_t *next;       /* for the next segment */
    ngx_uint_t                  refused;    /* life in which a claim failed, */
    ngx_msec_t                  refused_at; /* and when */
    ngx_queue_t                 owned;      /* all marks that are in use */
    off_t                       asked;      /* the last mark that was sent */
    ngx_msec_t                  checked;    /* when it was last confirmed */
    ngx_uint_t                  turn;       /* counts records */

    /* for the sync */

    int                         stale[NGX_VAANI_SPOOL_STALE];
    ngx_uint_t                  nstale;
    int                         syncing[NGX_VAANI_SPOOL_STALE + 1];
    ngx_uint_t                  nsyncing;   /* of them, that are closed, too */
    u_char                      name[NGX_VAANI_SPOOL_ID_LEN];
    ngx_atomic_uint_t           named;      /* both of the one that is open */
    ngx_uint_t                  gone;       /* it was renamed or removed */

    vaani_pace_t                failed;     /* the lines that say so */
    vaani_pace_t                delayed;

    ngx_uint_t                  unsynced;   /* something was written since */
    ngx_uint_t                  full;       /* of waiting records */
    ngx_uint_t                  slow;       /* nothing waits for the disk */
    ngx_uint_t                  suspect;    /* the mark has another value */
};


/*
 * ngx_vaani_spool_writer_batch.c: batches of records
 */

/* writes the gathered records, unless a batch is being written */
void ngx_vaani_spool_flush_handler(ngx_event_t *ev);

ngx_err_t ngx_vaani_spool_batch_thread(void *data);
void ngx_vaani_spool_batch_done(void *data);


/*
 * ngx_vaani_spool_writer_wait.c: the waiters of records
 */

/* empties a batch that was written, or will not be, and calls its waiters */
void ngx_vaani_spool_batch_end(ngx_vaani_spool_batch_t *batch);

/* ends waits that have timed out */
void ngx_vaani_spool_late_handler(ngx_event_t *ev);

/* counts n records without a waiter; logs them once per period */
void ngx_vaani_spool_not_waited(ngx_vaani_spool_writer_t *writer,
    ngx_uint_t n);

/*
 * Counts n records that are not kept, and logs the reason once per period; err
 * is an errno or 0.
 */
void ngx_vaani_spool_not_kept(ngx_vaani_spool_writer_t *writer,
    ngx_uint_t n, ngx_err_t err, char *why);


/*
 * ngx_vaani_spool_writer_segment.c: the segment of a batch, and its mark
 */

/*
 * whether the connection has that life, and its server the scope of the mark
 */
ngx_uint_t ngx_vaani_spool_is_alive(ngx_vaani_spool_writer_t *writer,
    ngx_vaani_spool_mark_t *mark, ngx_uint_t life);

/* whether a batch may be written to the open segment */
ngx_uint_t ngx_vaani_spool_belongs(ngx_vaani_spool_writer_t *writer,
    ngx_vaani_spool_batch_t *batch);

/*
 * Names the segment of a batch, and takes the claimed mark if it may cover the
 * batch.  Returns NGX_OK or NGX_ERROR.
 */
ngx_int_t ngx_vaani_spool_begin_segment(ngx_vaani_spool_writer_t *writer,
    ngx_vaani_spool_batch_t *batch);

/* claims the mark of the next segment in advance */
void ngx_vaani_spool_claim_next(ngx_vaani_spool_writer_t *writer);

void ngx_vaani_spool_free_mark(ngx_vaani_spool_own_mark_t *own);

/* closes the segment, which is handed to the leader after its sync */
void ngx_vaani_spool_end_segment(ngx_vaani_spool_writer_t *writer);

/* the same, if it is time to */
void ngx_vaani_spool_consider_end(ngx_vaani_spool_writer_t *writer);

void ngx_vaani_spool_marks_handler(ngx_event_t *ev);

/* hands the closed and synced segments to the leader */
void ngx_vaani_spool_sync_done(void *data);


/*
 * ngx_vaani_spool_writer_sync.c
 */

void ngx_vaani_spool_syncs_handler(ngx_event_t *ev);

/* syncs written data, and closes ended segments, in a separate thread */
void ngx_vaani_spool_sync_now(ngx_vaani_spool_writer_t *writer);

ngx_err_t ngx_vaani_spool_sync_thread(void *data);


#endif /* _NGX_VAANI_SPOOL_WRITER_H_INCLUDED_ */
