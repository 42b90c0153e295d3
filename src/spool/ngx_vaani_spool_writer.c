
#include "ngx_vaani_spool_writer.h"


/*
 * What the receiver has answered is kept by the worker that got the answer: one
 * segment for each connection and each life of it, with a mark in the receiver
 * that says how much of the segment is executed there.
 */


/* a buffer that is larger is freed when it was written, bytes */

#define NGX_VAANI_SPOOL_BUFFER      (1024 * 1024)


static ngx_vaani_spool_writer_t *ngx_vaani_spool_writer(
    ngx_vaani_spool_t *spool, ngx_uint_t connection);
static void ngx_vaani_spool_writer_init(ngx_vaani_spool_writer_t *writer,
    ngx_vaani_spool_t *spool, ngx_uint_t connection, ngx_log_t *log);
static ngx_int_t ngx_vaani_spool_reserve(ngx_vaani_spool_writer_t *writer,
    size_t len);
static void ngx_vaani_spool_flush_handler(ngx_event_t *ev);
static void ngx_vaani_spool_write_batch(ngx_vaani_spool_writer_t *writer);
static void ngx_vaani_spool_batch_thread(void *data);
static ngx_int_t ngx_vaani_spool_write_some(ngx_vaani_spool_writer_t *writer);
static void ngx_vaani_spool_batch_done(void *data);
static void ngx_vaani_spool_batch_end(ngx_vaani_spool_batch_t *batch);
static void ngx_vaani_spool_not_waited(ngx_vaani_spool_writer_t *writer,
    ngx_uint_t n);
static void ngx_vaani_spool_late_handler(ngx_event_t *ev);
static ngx_uint_t ngx_vaani_spool_release(ngx_queue_t *waiters);
static void ngx_vaani_spool_write_rest(ngx_vaani_spool_writer_t *writer);


ngx_int_t
ngx_vaani_spool_writers_init(ngx_vaani_spool_t *spool, ngx_cycle_t *cycle)
{
    spool->writers = NULL;

    if (spool->retain == 0) {
        return NGX_OK;
    }

    spool->pool = cycle->pool;
    spool->nwriters = spool->max_servers * spool->nconnections;

    spool->writers = ngx_pcalloc(cycle->pool,
                                 spool->nwriters
                                 * sizeof(ngx_vaani_spool_writer_t *));

    return spool->writers ? NGX_OK : NGX_ERROR;
}


/*
 * That of a connection, made when it's needed, or NULL.
 */

static ngx_vaani_spool_writer_t *
ngx_vaani_spool_writer(ngx_vaani_spool_t *spool, ngx_uint_t connection)
{
    ngx_vaani_spool_writer_t  *writer;

    if (spool->writers == NULL || connection >= spool->nwriters) {
        return NULL;
    }

    writer = spool->writers[connection];

    if (writer) {
        return writer;
    }

    /* threads may still be at it when the worker ends: it's never freed */

    writer = ngx_pcalloc(spool->pool, sizeof(ngx_vaani_spool_writer_t));

    if (writer == NULL) {
        return NULL;
    }

    ngx_vaani_spool_writer_init(writer, spool, connection, spool->log);

    spool->writers[connection] = writer;

    return writer;
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

    writer = ngx_vaani_spool_writer(spool, connection);

    if (writer == NULL) {
        return NULL;
    }

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

    writer = spool->writers[connection];
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

    if (writer->next == NULL
        || !ngx_vaani_spool_is_alive(writer, &writer->next->mark, life))
    {
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


ngx_uint_t
ngx_vaani_spool_is_alive(ngx_vaani_spool_writer_t *writer,
    ngx_vaani_spool_mark_t *mark, ngx_uint_t life)
{
    return mark->life == life
           && ngx_vaani_spool_same_scope(writer->spool, mark);
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

    if (!ngx_vaani_spool_make_room_for(spool, batch->len)) {
        writer->full = 1;
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


void
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

    for (n = 0; n < spool->nwriters; n++) {
        writer = spool->writers[n];

        if (writer == NULL) {
            continue;
        }

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
