
#include "ngx_vaani_spool_writer.h"


/*
 * A worker keeps the records that were answered to it: one segment for each
 * connection and each life of it.  A mark in the receiver says how much of the
 * segment was executed there.
 */


static ngx_vaani_spool_writer_t *ngx_vaani_spool_writer(
    ngx_vaani_spool_t *spool, ngx_uint_t connection);
static void ngx_vaani_spool_writer_init(ngx_vaani_spool_writer_t *writer,
    ngx_vaani_spool_t *spool, ngx_uint_t connection, ngx_log_t *log);
static ngx_int_t ngx_vaani_spool_reserve(ngx_vaani_spool_writer_t *writer,
    size_t len);
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
 * Returns the writer of a connection, which is created when needed, or NULL.
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

    /* threads may still use it when the worker ends: it is never freed */

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

    vaani_journal_seal(batch->data + batch->len, writer->reserved);

    batch->len += VAANI_JOURNAL_HEADER + writer->reserved;
    batch->nrecords++;

    if (writer->next == NULL
        || !ngx_vaani_spool_is_alive(writer, &writer->next->mark, life))
    {
        ngx_vaani_spool_claim_next(writer);
    }

    /* all records of this iteration of the event loop are written together */

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

    /*
     * it is not moved for each record, but checks all deadlines when it fires
     */

    if (!writer->late.timer_set) {
        ngx_add_timer(&writer->late, NGX_VAANI_SPOOL_LATE);
    }

    return NGX_AGAIN;
}


/*
 * Handles records without a waiter, in a worker that ends.
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

        /* no reply is expected any more */

        while (!ngx_queue_empty(&writer->owned)) {
            q = ngx_queue_head(&writer->owned);
            own = ngx_queue_data(q, ngx_vaani_spool_own_mark_t, queue);

            ngx_vaani_spool_free_mark(own);
        }

        ngx_vaani_spool_task_exit(&writer->append);
        ngx_vaani_spool_task_exit(&writer->sync);

        /*
         * without a master process, the process continues; a thread may use it
         */

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
