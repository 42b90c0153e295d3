
#include "ngx_vaani_spool_private.h"


/*
 * What the receiver has answered is kept by the worker that got the answer: one
 * segment for each connection and each life of it, with a mark in the receiver
 * that says how much of the segment is executed there.
 *
 * A mark is sent in the life in which the records were answered, and only if
 * what stands is what was set last.  So a receiver that has the mark has the
 * records, whatever it has lost and whoever it has become since.
 */


/* how often a mark is set while records come, ms */

#define NGX_VAANI_SPOOL_MARK_EVERY  100

/* what has waited for longer isn't marked any more, ms */

#define NGX_VAANI_SPOOL_MARK_LATE   1000

/* when the disk has to have what was written, ms */

#define NGX_VAANI_SPOOL_SYNC_EVERY  1000

/* closed segments that wait to be synced */

#define NGX_VAANI_SPOOL_STALE       16

/* a buffer that is larger is freed when it was written, bytes */

#define NGX_VAANI_SPOOL_BUFFER      (1024 * 1024)


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
    ngx_queue_t                 owned;      /* all marks that are in use */
    off_t                       asked;      /* the last mark that was sent */
    ngx_uint_t                  turn;       /* counts what comes */

    ngx_err_t                   err;        /* of the append */

    /* for the sync */

    int                         stale[NGX_VAANI_SPOOL_STALE];
    ngx_uint_t                  nstale;
    int                         syncing[NGX_VAANI_SPOOL_STALE + 1];
    ngx_uint_t                  nsyncing;   /* of them, that are closed, too */
    u_char                      name[NGX_VAANI_SPOOL_ID_LEN];
    ngx_atomic_uint_t           named;      /* both of the one that is open */
    ngx_uint_t                  gone;       /* it has another name, or none */
    ngx_err_t                   sync_err;

    vaani_pace_t                failed;     /* the lines that say so */
    vaani_pace_t                delayed;

    ngx_uint_t                  unsynced;   /* something was written since */
    ngx_uint_t                  full;       /* of what waits */
    ngx_uint_t                  slow;       /* nothing waits for the disk */
    ngx_uint_t                  suspect;    /* the mark isn't what it was */
};


static void ngx_vaani_spool_writer_init(ngx_vaani_spool_writer_t *writer,
    ngx_vaani_spool_t *spool, ngx_uint_t connection, ngx_log_t *log);
static ngx_int_t ngx_vaani_spool_reserve(ngx_vaani_spool_writer_t *writer,
    size_t len);
static void ngx_vaani_spool_flush_handler(ngx_event_t *ev);
static void ngx_vaani_spool_write_batch(ngx_vaani_spool_writer_t *writer);
static ngx_uint_t ngx_vaani_spool_may_mark(ngx_vaani_spool_own_mark_t *own,
    ngx_vaani_spool_batch_t *batch);
static ngx_uint_t ngx_vaani_spool_belongs(ngx_vaani_spool_writer_t *writer,
    ngx_vaani_spool_batch_t *batch);
static ngx_int_t ngx_vaani_spool_begin_segment(
    ngx_vaani_spool_writer_t *writer, ngx_vaani_spool_batch_t *batch);
static void ngx_vaani_spool_claim_next(ngx_vaani_spool_writer_t *writer);
static void ngx_vaani_spool_free_mark(ngx_vaani_spool_own_mark_t *own);
static void ngx_vaani_spool_batch_thread(void *data);
static ngx_int_t ngx_vaani_spool_write_some(
    ngx_vaani_spool_writer_t *writer);
static ngx_int_t ngx_vaani_spool_batch_room(
    ngx_vaani_spool_writer_t *writer);
static void ngx_vaani_spool_batch_done(void *data);
static void ngx_vaani_spool_batch_end(ngx_vaani_spool_batch_t *batch);
static void ngx_vaani_spool_not_kept(ngx_vaani_spool_writer_t *writer,
    ngx_uint_t n, ngx_err_t err, char *why);
static void ngx_vaani_spool_not_waited(ngx_vaani_spool_writer_t *writer,
    ngx_uint_t n);
static void ngx_vaani_spool_late_handler(ngx_event_t *ev);
static ngx_uint_t ngx_vaani_spool_release(ngx_queue_t *waiters);
static void ngx_vaani_spool_end_segment(ngx_vaani_spool_writer_t *writer);
static void ngx_vaani_spool_consider_end(ngx_vaani_spool_writer_t *writer);
static void ngx_vaani_spool_marks_handler(ngx_event_t *ev);
static ngx_uint_t ngx_vaani_spool_set_last(ngx_vaani_spool_own_mark_t *own);
static void ngx_vaani_spool_own_mark_handler(ngx_vaani_spool_mark_t *mark,
    ngx_int_t rc);
static void ngx_vaani_spool_claim_done(ngx_vaani_spool_own_mark_t *own,
    ngx_int_t rc);
static void ngx_vaani_spool_syncs_handler(ngx_event_t *ev);
static void ngx_vaani_spool_sync_now(ngx_vaani_spool_writer_t *writer);
static void ngx_vaani_spool_sync_thread(void *data);
static ngx_uint_t ngx_vaani_spool_is_gone(ngx_vaani_spool_writer_t *writer,
    int fd);
static void ngx_vaani_spool_sync_done(void *data);
static void ngx_vaani_spool_write_rest(ngx_vaani_spool_writer_t *writer);


ngx_int_t
ngx_vaani_spool_writers_init(ngx_vaani_spool_t *spool, ngx_cycle_t *cycle)
{
    ngx_uint_t  n;

    spool->writers = NULL;

    if (spool->retain == 0) {
        return NGX_OK;
    }

    spool->writers = ngx_pcalloc(cycle->pool,
                                 spool->nconnections
                                 * sizeof(ngx_vaani_spool_writer_t));

    if (spool->writers == NULL) {
        return NGX_ERROR;
    }

    for (n = 0; n < spool->nconnections; n++) {
        ngx_vaani_spool_writer_init(&spool->writers[n], spool, n, cycle->log);
    }

    return NGX_OK;
}


static void
ngx_vaani_spool_writer_init(ngx_vaani_spool_writer_t *writer,
    ngx_vaani_spool_t *spool, ngx_uint_t connection, ngx_log_t *log)
{
    writer->spool = spool;
    writer->connection = connection;
    writer->fd = -1;

    writer->gathering = &writer->batches[0];
    writer->writing = &writer->batches[1];

    ngx_queue_init(&writer->batches[0].waiters);
    ngx_queue_init(&writer->batches[1].waiters);
    ngx_queue_init(&writer->owned);

    writer->flush.handler = ngx_vaani_spool_flush_handler;
    writer->flush.data = writer;
    writer->flush.log = log;

    writer->late.handler = ngx_vaani_spool_late_handler;
    writer->late.data = writer;
    writer->late.log = log;

    writer->marks.handler = ngx_vaani_spool_marks_handler;
    writer->marks.data = writer;
    writer->marks.log = log;
    writer->marks.cancelable = 1;

    writer->syncs.handler = ngx_vaani_spool_syncs_handler;
    writer->syncs.data = writer;
    writer->syncs.log = log;
    writer->syncs.cancelable = 1;

    ngx_vaani_spool_task_init(&writer->append, ngx_vaani_spool_batch_thread,
                              ngx_vaani_spool_batch_done, writer, log);

    ngx_vaani_spool_task_init(&writer->sync, ngx_vaani_spool_sync_thread,
                              ngx_vaani_spool_sync_done, writer, log);
}


u_char *
ngx_vaani_spool_keep_alloc(ngx_vaani_spool_t *spool, ngx_uint_t connection,
    size_t size)
{
    ngx_vaani_spool_batch_t   *batch;
    ngx_vaani_spool_writer_t  *writer;

    if (spool->writers == NULL) {
        return NULL;
    }

    writer = &spool->writers[connection];
    batch = writer->gathering;

    if (size > NGX_MAX_INT32_VALUE
        || (batch->len
            && batch->len + size > NGX_VAANI_SPOOL_MAX_BYTES))
    {
        ngx_vaani_spool_not_kept(writer, 1, 0, "the disk is too slow");
        return NULL;
    }

    if (ngx_vaani_spool_reserve(writer, VAANI_JOURNAL_HEADER + size)
        != NGX_OK)
    {
        ngx_vaani_spool_not_kept(writer, 1, 0, "no memory");
        return NULL;
    }

    writer->reserved = size;

    return batch->data + batch->len + VAANI_JOURNAL_HEADER;
}


static ngx_int_t
ngx_vaani_spool_reserve(ngx_vaani_spool_writer_t *writer, size_t len)
{
    size_t                    size;
    u_char                   *p;
    ngx_vaani_spool_batch_t  *batch;

    batch = writer->gathering;

    if (batch->len + len <= batch->size) {
        return NGX_OK;
    }

    size = ngx_max(2 * batch->size, ngx_pagesize);
    size = ngx_max(size, batch->len + len);

    p = realloc(batch->data, size);

    if (p == NULL) {
        return NGX_ERROR;
    }

    batch->data = p;
    batch->size = size;

    return NGX_OK;
}


ngx_int_t
ngx_vaani_spool_keep(ngx_vaani_spool_t *spool, ngx_uint_t connection,
    ngx_vaani_spool_waiter_t *waiter)
{
    ngx_uint_t                 life;
    ngx_vaani_spool_batch_t   *batch;
    ngx_vaani_spool_writer_t  *writer;

    writer = &spool->writers[connection];
    batch = writer->gathering;

    life = spool->receiver->life(spool->data, connection);

    if (batch->len == 0) {
        batch->life = life;
        batch->turn = ++writer->turn;
        batch->since = ngx_current_msec;
        batch->mixed = 0;

    } else if (life != batch->life) {
        batch->mixed = 1;
    }

    vaani_journal_seal(batch->data + batch->len, writer->reserved, 0);

    batch->len += VAANI_JOURNAL_HEADER + writer->reserved;
    batch->nrecords++;

    if (writer->next == NULL || writer->next->mark.life != life) {
        ngx_vaani_spool_claim_next(writer);
    }

    /* all that this turn of the event loop brings is written together */

    if (!writer->append.busy) {
        ngx_post_event(&writer->flush, &ngx_posted_events);
    }

    if (waiter == NULL) {
        return NGX_OK;
    }

    if (writer->slow) {
        ngx_vaani_spool_not_waited(writer, 1);
        return NGX_OK;
    }

    waiter->since = ngx_current_msec;
    ngx_queue_insert_tail(&batch->waiters, &waiter->queue);

    /* it isn't moved for each record, but looks for what is due */

    if (!writer->late.timer_set) {
        ngx_add_timer(&writer->late, NGX_VAANI_SPOOL_LATE);
    }

    return NGX_AGAIN;
}


static void
ngx_vaani_spool_flush_handler(ngx_event_t *ev)
{
    ngx_vaani_spool_write_batch(ev->data);
}


/*
 * What comes while a batch is written makes up the next one.
 */

static void
ngx_vaani_spool_write_batch(ngx_vaani_spool_writer_t *writer)
{
    ngx_vaani_spool_batch_t  *batch;

    batch = writer->gathering;

    if (writer->append.busy || batch->len == 0) {
        return;
    }

    if (writer->fd != -1 && !ngx_vaani_spool_belongs(writer, batch)) {
        ngx_vaani_spool_end_segment(writer);
    }

    if (writer->fd == -1
        && ngx_vaani_spool_begin_segment(writer, batch) != NGX_OK)
    {
        ngx_vaani_spool_not_kept(writer, batch->nrecords, 0,
                                 "no random numbers");
        ngx_vaani_spool_batch_end(batch);
        return;
    }

    writer->gathering = writer->writing;
    writer->writing = batch;

    writer->err = 0;
    writer->full = 0;

    ngx_vaani_spool_task_post(writer->spool, &writer->append);
}


/*
 * Whether the mark that was claimed may speak for a batch: all of it was
 * answered in its life, and after it was claimed.
 */

static ngx_uint_t
ngx_vaani_spool_may_mark(ngx_vaani_spool_own_mark_t *own,
    ngx_vaani_spool_batch_t *batch)
{
    return own && own->turn && own->turn < batch->turn
           && own->mark.life == batch->life;
}


/*
 * The mark of one life is not to say anything of another one; what has no mark
 * ends as soon as there is one.
 */

static ngx_uint_t
ngx_vaani_spool_belongs(ngx_vaani_spool_writer_t *writer,
    ngx_vaani_spool_batch_t *batch)
{
    if (writer->mark) {
        return batch->life == writer->life;
    }

    return !ngx_vaani_spool_may_mark(writer->next, batch);
}


static ngx_int_t
ngx_vaani_spool_begin_segment(ngx_vaani_spool_writer_t *writer,
    ngx_vaani_spool_batch_t *batch)
{
    writer->opened = ngx_current_msec;
    writer->since = batch->since;
    writer->suspect = 0;
    writer->size = 0;
    writer->asked = 0;

    /* the last one could not be made: nothing was written of which it speaks */

    if (ngx_vaani_spool_may_mark(writer->mark, batch)) {
        return NGX_OK;
    }

    if (writer->mark) {
        ngx_vaani_spool_free_mark(writer->mark);
        writer->mark = NULL;
    }

    if (!ngx_vaani_spool_may_mark(writer->next, batch)) {
        writer->life = 0;

        return ngx_vaani_spool_new_id(writer->spool, writer->id,
                                      NGX_VAANI_SPOOL_ID_LEN);
    }

    writer->mark = writer->next;
    writer->next = NULL;

    writer->life = writer->mark->mark.life;
    ngx_memcpy(writer->id, writer->mark->mark.id, NGX_VAANI_SPOOL_ID_LEN);

    ngx_vaani_spool_claim_next(writer);

    return NGX_OK;
}


/*
 * Claims the mark of the next segment, so that it's there when it's needed.
 */

static void
ngx_vaani_spool_claim_next(ngx_vaani_spool_writer_t *writer)
{
    u_char                       id[NGX_VAANI_SPOOL_ID_LEN];
    ngx_uint_t                   life;
    ngx_vaani_spool_t           *spool;
    ngx_vaani_spool_own_mark_t  *own;

    spool = writer->spool;

    if (writer->next) {

        /* of a life that is over; it is told if it's under way */

        if (writer->next->mark.busy) {
            return;
        }

        ngx_vaani_spool_free_mark(writer->next);
        writer->next = NULL;
    }

    life = spool->receiver->life(spool->data, writer->connection);

    if (life == 0 || spool->unmarked
        || ngx_vaani_spool_new_id(spool, id, NGX_VAANI_SPOOL_ID_LEN) != NGX_OK)
    {
        return;
    }

    own = ngx_calloc(sizeof(ngx_vaani_spool_own_mark_t), spool->log);

    if (own == NULL) {
        return;
    }

    ngx_vaani_spool_mark_init(&own->mark, id,
                              ngx_vaani_spool_own_mark_handler, own);

    own->mark.connection = writer->connection;
    own->mark.life = life;
    own->writer = writer;

    ngx_queue_insert_tail(&writer->owned, &own->queue);

    if (ngx_vaani_spool_claim(spool, &own->mark) != NGX_OK) {
        ngx_vaani_spool_free_mark(own);
        return;
    }

    writer->next = own;
}


static void
ngx_vaani_spool_free_mark(ngx_vaani_spool_own_mark_t *own)
{
    ngx_queue_remove(&own->queue);
    ngx_free(own);
}


static void
ngx_vaani_spool_batch_thread(void *data)
{
    ngx_vaani_spool_writer_t *writer = data;

    ngx_vaani_spool_t         *spool;
    ngx_vaani_spool_batch_t   *batch;
    ngx_vaani_spool_shared_t  *shared;

    spool = writer->spool;
    batch = writer->writing;
    shared = ngx_vaani_spool_shared(spool);

    if (ngx_vaani_spool_batch_room(writer) != NGX_OK) {
        return;
    }

    while (ngx_vaani_spool_write_some(writer) != NGX_OK) {

        /* the disk is full, and what is older makes room */

        if (!ngx_vaani_spool_dropped(spool)) {
            return;
        }

        writer->err = 0;
    }

    if (spool->sync == NGX_VAANI_SPOOL_ALWAYS && fdatasync(writer->fd) == -1) {
        writer->err = errno;
        return;
    }

    (void) ngx_atomic_fetch_add(&shared->kept_bytes, batch->len);
    (void) ngx_atomic_fetch_add(&shared->kept, batch->nrecords);
}


/*
 * Writes the batch, and makes the segment before if there is none.
 */

static ngx_int_t
ngx_vaani_spool_write_some(ngx_vaani_spool_writer_t *writer)
{
    ngx_vaani_spool_t         *spool;
    ngx_vaani_spool_batch_t   *batch;
    ngx_vaani_spool_shared_t  *shared;

    spool = writer->spool;
    batch = writer->writing;
    shared = ngx_vaani_spool_shared(spool);

    if (writer->fd == -1) {
        writer->number = ngx_atomic_fetch_add(&shared->current, 1);

        writer->fd = ngx_vaani_spool_create_kept(&spool->path->name,
                                                 writer->number, writer->id,
                                                 &writer->size);

        if (writer->fd == -1) {
            writer->err = errno;
            return NGX_ERROR;
        }

        (void) ngx_atomic_fetch_add(&shared->kept_bytes, writer->size);

        if (spool->sync == NGX_VAANI_SPOOL_ALWAYS
            && ngx_vaani_spool_sync_dir(spool->path->name.data) != NGX_OK)
        {
            writer->err = errno;
            return NGX_ERROR;
        }
    }

    if (ngx_vaani_spool_write_alone(writer->fd, batch->data, batch->len,
                                    writer->size)
        != NGX_OK)
    {
        writer->err = errno;
        return NGX_ERROR;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_vaani_spool_batch_room(ngx_vaani_spool_writer_t *writer)
{
    if (ngx_vaani_spool_make_room_for(writer->spool, writer->writing->len)) {
        return NGX_OK;
    }

    writer->full = 1;

    return NGX_ERROR;
}


static void
ngx_vaani_spool_batch_done(void *data)
{
    ngx_vaani_spool_writer_t *writer = data;

    ngx_vaani_spool_batch_t  *batch;

    batch = writer->writing;

    if (writer->append.failed) {
        writer->err = EAGAIN;
    }

    if (writer->err || writer->full) {
        ngx_vaani_spool_not_kept(writer, batch->nrecords, writer->err,
                                 writer->full ? "full of waiting events, raise "
                                                "\"max\""
                                              : "write failed");
    } else {

        if (writer->size == writer->asked) {
            writer->since = batch->since;
        }

        writer->size += batch->len;
        writer->slow = 0;
        writer->unsynced = 1;
    }

    /* that of a segment of which more was written isn't set any more */

    if (batch->mixed) {
        writer->suspect = 1;
    }

    ngx_vaani_spool_batch_end(batch);

    ngx_vaani_spool_consider_end(writer);

    if (writer->fd != -1 && writer->mark && !writer->mark->mark.busy) {
        ngx_add_timer(&writer->marks, NGX_VAANI_SPOOL_MARK_EVERY);
    }

    if (writer->unsynced && !writer->syncs.timer_set) {
        ngx_add_timer(&writer->syncs, NGX_VAANI_SPOOL_SYNC_EVERY);
    }

    ngx_vaani_spool_write_batch(writer);
}


/*
 * Empties a batch that was written, or won't be.
 */

static void
ngx_vaani_spool_batch_end(ngx_vaani_spool_batch_t *batch)
{
    ngx_queue_t                waiters, *q;
    ngx_vaani_spool_waiter_t  *waiter;

    batch->len = 0;
    batch->nrecords = 0;

    if (batch->size > NGX_VAANI_SPOOL_BUFFER) {
        free(batch->data);
        batch->data = NULL;
        batch->size = 0;
    }

    ngx_queue_init(&waiters);

    if (!ngx_queue_empty(&batch->waiters)) {
        ngx_queue_add(&waiters, &batch->waiters);
        ngx_queue_init(&batch->waiters);
    }

    while (!ngx_queue_empty(&waiters)) {
        q = ngx_queue_head(&waiters);
        waiter = ngx_queue_data(q, ngx_vaani_spool_waiter_t, queue);

        ngx_queue_remove(q);
        waiter->handler(waiter->data);
    }
}


static void
ngx_vaani_spool_not_kept(ngx_vaani_spool_writer_t *writer, ngx_uint_t n,
    ngx_err_t err, char *why)
{
    uint64_t                   skipped;
    ngx_vaani_spool_shared_t  *shared;

    shared = ngx_vaani_spool_shared(writer->spool);

    (void) ngx_atomic_fetch_add(&shared->not_kept, n);

    if (vaani_pace(&writer->failed, ngx_current_msec,
                   NGX_VAANI_SPOOL_COMPLAIN_EVERY, &skipped))
    {
        ngx_log_error(NGX_LOG_CRIT, writer->spool->log, err,
                      "vaani: the spool \"%V\" does not keep events (%s); "
                      "Redis has them; %uL similar lines skipped",
                      &writer->spool->path->name, why, skipped);
    }
}


/*
 * It may still be written, but nobody knows when the answer goes out.
 */

static void
ngx_vaani_spool_not_waited(ngx_vaani_spool_writer_t *writer, ngx_uint_t n)
{
    uint64_t                   skipped;
    ngx_vaani_spool_shared_t  *shared;

    shared = ngx_vaani_spool_shared(writer->spool);

    (void) ngx_atomic_fetch_add(&shared->not_kept, n);

    if (vaani_pace(&writer->delayed, ngx_current_msec,
                   NGX_VAANI_SPOOL_COMPLAIN_EVERY, &skipped))
    {
        ngx_log_error(NGX_LOG_ERR, writer->spool->log, 0,
                      "vaani: the disk of the spool \"%V\" is too slow (more "
                      "than %d ms); events are answered before they are "
                      "written; %uL similar lines skipped",
                      &writer->spool->path->name, NGX_VAANI_SPOOL_LATE,
                      skipped);
    }
}


/*
 * The receiver has the records, and the sender doesn't wait for ever: the disk
 * may.
 */

static void
ngx_vaani_spool_late_handler(ngx_event_t *ev)
{
    ngx_uint_t                 n;
    ngx_queue_t               *first;
    ngx_vaani_spool_waiter_t  *waiter;
    ngx_vaani_spool_writer_t  *writer;

    writer = ev->data;

    n = ngx_vaani_spool_release(&writer->writing->waiters)
        + ngx_vaani_spool_release(&writer->gathering->waiters);

    if (n) {
        writer->slow = 1;
        ngx_vaani_spool_not_waited(writer, n);
    }

    first = !ngx_queue_empty(&writer->writing->waiters)
            ? ngx_queue_head(&writer->writing->waiters)
            : !ngx_queue_empty(&writer->gathering->waiters)
              ? ngx_queue_head(&writer->gathering->waiters) : NULL;

    if (first && !ev->timer_set) {
        waiter = ngx_queue_data(first, ngx_vaani_spool_waiter_t, queue);

        ngx_add_timer(ev, NGX_VAANI_SPOOL_LATE
                          - (ngx_current_msec - waiter->since));
    }
}


/*
 * Ends the wait of those that wait for too long.  Returns their number.
 */

static ngx_uint_t
ngx_vaani_spool_release(ngx_queue_t *waiters)
{
    ngx_uint_t                 n;
    ngx_queue_t               *q;
    ngx_vaani_spool_waiter_t  *waiter;

    for (n = 0; !ngx_queue_empty(waiters); n++) {
        q = ngx_queue_head(waiters);
        waiter = ngx_queue_data(q, ngx_vaani_spool_waiter_t, queue);

        if (ngx_current_msec - waiter->since < NGX_VAANI_SPOOL_LATE) {
            break;
        }

        ngx_queue_remove(q);
        waiter->handler(waiter->data);
    }

    return n;
}


/*
 * Closes the segment: it's the leader's when it was synced.
 */

static void
ngx_vaani_spool_end_segment(ngx_vaani_spool_writer_t *writer)
{
    ngx_vaani_spool_own_mark_t  *own;

    if (writer->fd == -1 || writer->append.busy
        || writer->nstale == NGX_VAANI_SPOOL_STALE)
    {
        return;
    }

    writer->stale[writer->nstale++] = writer->fd;
    writer->fd = -1;

    own = writer->mark;
    writer->mark = NULL;

    if (own) {
        own->closed = 1;
        own->last = writer->suspect ? NGX_VAANI_SPOOL_NO_MARK : writer->size;
        own->since = writer->since;

        /* the rest of it, so that nothing has to be delivered again */

        if (!own->mark.busy && !ngx_vaani_spool_set_last(own)) {
            ngx_vaani_spool_free_mark(own);
        }
    }

    /* nor may the next one, claimed before, speak for what came before that */

    if (writer->suspect && writer->next && writer->next->turn) {
        ngx_vaani_spool_free_mark(writer->next);
        writer->next = NULL;
    }

    ngx_vaani_spool_sync_now(writer);
}


static void
ngx_vaani_spool_consider_end(ngx_vaani_spool_writer_t *writer)
{
    off_t               limit;
    ngx_vaani_spool_t  *spool;

    if (writer->fd == -1) {
        return;
    }

    spool = writer->spool;

    limit = ngx_min(NGX_VAANI_SPOOL_SEGMENT, (off_t) spool->max / 8);

    /* without a mark nobody sees that it's lost, unless it is the leader's */

    if (writer->suspect || writer->err || writer->full
        || writer->size >= limit
        || (writer->mark == NULL && !spool->unmarked
            && ngx_current_msec - writer->opened >= NGX_VAANI_SPOOL_MARK_LATE)
        || (writer->mark == NULL && writer->next && writer->next->turn)
        || ngx_current_msec - writer->opened >= spool->retain / 8
        || (writer->mark
            && spool->receiver->life(spool->data, writer->connection)
               != writer->life))
    {
        ngx_vaani_spool_end_segment(writer);
    }
}


void
ngx_vaani_spool_writers_check(ngx_vaani_spool_t *spool)
{
    ngx_uint_t  n;

    if (spool->writers == NULL) {
        return;
    }

    for (n = 0; n < spool->nconnections; n++) {
        ngx_vaani_spool_consider_end(&spool->writers[n]);
    }
}


static void
ngx_vaani_spool_marks_handler(ngx_event_t *ev)
{
    ngx_vaani_spool_t           *spool;
    ngx_vaani_spool_writer_t    *writer;
    ngx_vaani_spool_own_mark_t  *own;

    writer = ev->data;
    spool = writer->spool;

    ngx_vaani_spool_consider_end(writer);

    own = writer->mark;

    if (writer->fd == -1 || own == NULL || own->mark.busy || writer->suspect) {
        return;
    }

    if (writer->size <= own->mark.stands) {
        (void) ngx_vaani_spool_read_mark(spool, &own->mark);

    } else if (ngx_current_msec - writer->since > NGX_VAANI_SPOOL_MARK_LATE) {

        /*
         * This process has slept, and the receiver may have been two others in
         * between.
         */

        writer->suspect = 1;
        ngx_vaani_spool_consider_end(writer);
        return;

    } else if (ngx_vaani_spool_set_mark(spool, &own->mark, writer->size)
               == NGX_OK)
    {
        writer->asked = writer->size;
    }

    if (!own->mark.busy) {
        ngx_add_timer(ev, NGX_VAANI_SPOOL_MARK_EVERY);
    }
}


/*
 * Sets the mark of a segment that is closed to all of it.  Returns 1 if that is
 * under way.
 */

static ngx_uint_t
ngx_vaani_spool_set_last(ngx_vaani_spool_own_mark_t *own)
{
    if (own->last <= own->mark.stands
        || ngx_current_msec - own->since > NGX_VAANI_SPOOL_MARK_LATE)
    {
        return 0;
    }

    return ngx_vaani_spool_set_mark(own->writer->spool, &own->mark, own->last)
           == NGX_OK;
}


static void
ngx_vaani_spool_own_mark_handler(ngx_vaani_spool_mark_t *mark, ngx_int_t rc)
{
    ngx_vaani_spool_own_mark_t *own = mark->data;

    ngx_vaani_spool_shared_t  *shared;
    ngx_vaani_spool_writer_t  *writer;

    writer = own->writer;

    if (rc == NGX_DECLINED) {
        ngx_vaani_spool_no_marks(writer->spool);
    }

    if (own->turn == 0) {
        ngx_vaani_spool_claim_done(own, rc);
        return;
    }

    /*
     * If something else stands, the receiver has lost what it had answered: the
     * leading worker delivers the segment again, from the mark on.
     */

    if (rc == NGX_BUSY) {
        shared = ngx_vaani_spool_shared(writer->spool);
        (void) ngx_atomic_fetch_add(&shared->suspicion, 1);
    }

    if (own->closed) {

        if (rc != NGX_OK || !ngx_vaani_spool_set_last(own)) {
            ngx_vaani_spool_free_mark(own);
        }

        if (rc == NGX_AGAIN) {
            writer->suspect = 1;
            ngx_vaani_spool_consider_end(writer);
        }

        return;
    }

    /* an error may mean that it's another receiver by now */

    if (rc != NGX_OK) {
        writer->suspect = 1;
        ngx_vaani_spool_consider_end(writer);
        return;
    }

    if (writer->size > mark->stands) {
        ngx_add_timer(&writer->marks, NGX_VAANI_SPOOL_MARK_EVERY);

    } else {
        ngx_add_timer(&writer->marks, NGX_VAANI_SPOOL_RECHECK);
    }
}


static void
ngx_vaani_spool_claim_done(ngx_vaani_spool_own_mark_t *own, ngx_int_t rc)
{
    ngx_vaani_spool_writer_t  *writer;

    writer = own->writer;

    if (rc == NGX_OK) {
        own->turn = ++writer->turn;
        ngx_vaani_spool_consider_end(writer);
        return;
    }

    writer->next = NULL;
    ngx_vaani_spool_free_mark(own);

    if (rc == NGX_AGAIN && writer->mark) {
        writer->suspect = 1;
        ngx_vaani_spool_consider_end(writer);
    }
}


static void
ngx_vaani_spool_syncs_handler(ngx_event_t *ev)
{
    ngx_vaani_spool_sync_now(ev->data);
}


/*
 * A sync must not hold up those that append: it has a thread of its own.
 */

static void
ngx_vaani_spool_sync_now(ngx_vaani_spool_writer_t *writer)
{
    if (writer->sync.busy) {
        return;
    }

    if (writer->syncs.timer_set) {
        ngx_del_timer(&writer->syncs);
    }

    ngx_memcpy(writer->syncing, writer->stale, writer->nstale * sizeof(int));

    writer->nsyncing = writer->nstale;
    writer->nstale = 0;

    writer->syncing[writer->nsyncing] = writer->fd;

    ngx_memcpy(writer->name, writer->id, NGX_VAANI_SPOOL_ID_LEN);
    writer->named = writer->number;
    writer->gone = 0;

    writer->unsynced = 0;
    writer->sync_err = 0;

    ngx_vaani_spool_task_post(writer->spool, &writer->sync);
}


static void
ngx_vaani_spool_sync_thread(void *data)
{
    ngx_vaani_spool_writer_t *writer = data;

    int                 fd;
    ngx_uint_t          n;
    ngx_vaani_spool_t  *spool;

    spool = writer->spool;

    if (spool->sync == NGX_VAANI_SPOOL_BATCH
        && ngx_vaani_spool_sync_dir(spool->path->name.data) != NGX_OK)
    {
        writer->sync_err = errno;
    }

    for (n = 0; n <= writer->nsyncing; n++) {
        fd = writer->syncing[n];

        if (fd == -1) {
            continue;
        }

        if (spool->sync == NGX_VAANI_SPOOL_BATCH && fdatasync(fd) == -1) {
            writer->sync_err = errno;
        }

        if (n < writer->nsyncing) {

            /* drops the lock: from now on it is the leader's */

            (void) close(fd);

        } else {
            writer->gone = ngx_vaani_spool_is_gone(writer, fd);
        }
    }
}


/*
 * Somebody may have removed the segment, or put another directory in its place:
 * nobody would find what is written to it.
 */

static ngx_uint_t
ngx_vaani_spool_is_gone(ngx_vaani_spool_writer_t *writer, int fd)
{
    u_char       name[NGX_VAANI_SPOOL_NAME_LEN];
    struct stat  st, named;

    ngx_vaani_spool_kept_name(name, &writer->spool->path->name, writer->named,
                              writer->name);

    if (fstat(fd, &st) == -1) {
        return 0;
    }

    if (stat((char *) name, &named) == -1) {
        return errno == ENOENT;
    }

    return st.st_ino != named.st_ino || st.st_dev != named.st_dev;
}


static void
ngx_vaani_spool_sync_done(void *data)
{
    ngx_vaani_spool_writer_t *writer = data;

    ngx_vaani_spool_shared_t  *shared;

    if (writer->sync.failed) {

        /* later */

        ngx_memcpy(writer->stale + writer->nstale, writer->syncing,
                   ngx_min(writer->nsyncing,
                           NGX_VAANI_SPOOL_STALE - writer->nstale)
                   * sizeof(int));

        writer->nstale = ngx_min(writer->nstale + writer->nsyncing,
                                 NGX_VAANI_SPOOL_STALE);
        writer->sync_err = EAGAIN;
        writer->unsynced = 1;
    }

    if (writer->sync_err) {
        ngx_vaani_spool_not_kept(writer, 0, writer->sync_err,
                                 "sync failed");
    }

    if (writer->gone && writer->fd == writer->syncing[writer->nsyncing]) {
        ngx_log_error(NGX_LOG_CRIT, writer->spool->log, 0,
                      "vaani: a segment of the spool \"%V\" was removed or "
                      "renamed; further events are kept in another one",
                      &writer->spool->path->name);

        writer->suspect = 1;
        ngx_vaani_spool_consider_end(writer);
    }

    if (writer->sync.failed) {
        ngx_add_timer(&writer->syncs, NGX_VAANI_SPOOL_SYNC_EVERY);
        return;
    }

    if (writer->nsyncing) {
        shared = ngx_vaani_spool_shared(writer->spool);

        (void) ngx_atomic_fetch_add(&shared->closed, 1);
        ngx_vaani_spool_wake(writer->spool);
    }

    if (writer->nstale) {
        ngx_vaani_spool_sync_now(writer);

    } else if (writer->unsynced) {
        ngx_add_timer(&writer->syncs, NGX_VAANI_SPOOL_SYNC_EVERY);
    }
}


/*
 * What nobody waited for any more, in a worker that ends.
 */

static void
ngx_vaani_spool_write_rest(ngx_vaani_spool_writer_t *writer)
{
    ngx_vaani_spool_batch_t  *batch;

    batch = writer->gathering;

    if (writer->fd != -1 && batch->len) {
        (void) ngx_vaani_spool_write_alone(writer->fd, batch->data, batch->len,
                                           writer->size);
    }
}


void
ngx_vaani_spool_writers_exit(ngx_vaani_spool_t *spool)
{
    ngx_uint_t                   n, i;
    ngx_queue_t                 *q;
    ngx_vaani_spool_writer_t    *writer;
    ngx_vaani_spool_own_mark_t  *own;

    if (spool->writers == NULL) {
        return;
    }

    for (n = 0; n < spool->nconnections; n++) {
        writer = &spool->writers[n];

        if (writer->flush.posted) {
            ngx_delete_posted_event(&writer->flush);
        }

        if (writer->late.timer_set) {
            ngx_del_timer(&writer->late);
        }

        if (writer->marks.timer_set) {
            ngx_del_timer(&writer->marks);
        }

        if (writer->syncs.timer_set) {
            ngx_del_timer(&writer->syncs);
        }

        /* no reply is waited for any more */

        while (!ngx_queue_empty(&writer->owned)) {
            q = ngx_queue_head(&writer->owned);
            own = ngx_queue_data(q, ngx_vaani_spool_own_mark_t, queue);

            ngx_vaani_spool_free_mark(own);
        }

        ngx_vaani_spool_task_exit(&writer->append);
        ngx_vaani_spool_task_exit(&writer->sync);

        /* without a master, the process goes on; a thread may be at it */

        if (writer->append.busy || writer->sync.busy) {
            continue;
        }

        ngx_vaani_spool_write_rest(writer);

        for (i = 0; i < writer->nstale; i++) {
            (void) close(writer->stale[i]);
        }

        if (writer->fd != -1) {
            (void) close(writer->fd);
        }

        free(writer->batches[0].data);
        free(writer->batches[1].data);
    }

    spool->writers = NULL;
}
