
#include "ngx_vaani_spool_writer.h"


/*
 * Calls the waiters of a batch when it is written, and logs records that are
 * not kept.
 */


/* larger buffers are freed after the write, bytes */

#define NGX_VAANI_SPOOL_BUFFER      (1024 * 1024)


static ngx_uint_t ngx_vaani_spool_end_late_waits(ngx_queue_t *waiters);


/*
 * The receiver has the records.  Therefore the sender does not wait without
 * limit for the disk.
 */

void
ngx_vaani_spool_late_handler(ngx_event_t *ev)
{
    ngx_uint_t                 n;
    ngx_queue_t               *first;
    ngx_vaani_spool_waiter_t  *waiter;
    ngx_vaani_spool_writer_t  *writer;

    writer = ev->data;

    n = ngx_vaani_spool_end_late_waits(&writer->writing->waiters)
        + ngx_vaani_spool_end_late_waits(&writer->gathering->waiters);

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
 * Ends waits that have timed out.  Returns their number.
 */

static ngx_uint_t
ngx_vaani_spool_end_late_waits(ngx_queue_t *waiters)
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
 * Empties a batch that was written, or will not be.
 */

void
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


/*
 * It may still be written, but after the answer was sent.
 */

void
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
