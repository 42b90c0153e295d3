
#include "ngx_vaani_spool_writer.h"


/*
 * Batches of records: records that arrive during a write form the next batch.
 */


static void ngx_vaani_spool_write_batch(ngx_vaani_spool_writer_t *writer);
static ngx_int_t ngx_vaani_spool_write_some(ngx_vaani_spool_writer_t *writer);


void
ngx_vaani_spool_flush_handler(ngx_event_t *ev)
{
    ngx_vaani_spool_write_batch(ev->data);
}


/*
 * Records that arrive during a write form the next batch.
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

    writer->full = 0;

    ngx_vaani_spool_task_post(writer->spool, &writer->append);
}


ngx_err_t
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
        return 0;
    }

    while (ngx_vaani_spool_write_some(writer) != NGX_OK) {

        /* the disk is full: delete older records */

        if (!ngx_vaani_spool_drop_if_full(spool)) {
            return errno;
        }
    }

    if (spool->sync == NGX_VAANI_SPOOL_ALWAYS && fdatasync(writer->fd) == -1) {
        return errno;
    }

    (void) ngx_atomic_fetch_add(&shared->kept_bytes, batch->len);
    (void) ngx_atomic_fetch_add(&shared->kept, batch->nrecords);

    return 0;
}


/*
 * Writes the batch; creates the segment first if there is none.  Returns
 * NGX_OK, or NGX_ERROR with errno set.
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
            return NGX_ERROR;
        }

        (void) ngx_atomic_fetch_add(&shared->kept_bytes, writer->size);

        if (spool->sync == NGX_VAANI_SPOOL_ALWAYS
            && ngx_vaani_spool_sync_dir(spool->path->name.data) != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    return ngx_vaani_spool_write_alone(writer->fd, batch->data, batch->len,
                                       writer->size);
}


void
ngx_vaani_spool_batch_done(void *data)
{
    ngx_vaani_spool_writer_t *writer = data;

    ngx_vaani_spool_batch_t  *batch;

    batch = writer->writing;

    if (writer->append.err || writer->full) {
        ngx_vaani_spool_not_kept(writer, batch->nrecords,
                                 writer->append.err,
                                 writer->full
                                 ? "full of waiting events, raise "
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

    /* the mark of a segment to which more was written is outdated */

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
