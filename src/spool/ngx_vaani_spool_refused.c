
#include "ngx_vaani_spool_refused.h"


/*
 * Refused deliveries: selects those to be kept, and calls their handlers.
 */


/* the period, ms, in which one reason may use its share of the limit */

#define NGX_VAANI_REFUSED_SHARE     10
#define NGX_VAANI_REFUSED_WINDOW    60000

/* the period of the line about deliveries that are not kept, ms */

#define NGX_VAANI_REFUSED_COMPLAIN  60000


struct ngx_vaani_spool_refused_s {
    ngx_vaani_spool_t          *spool;
    ngx_vaani_spool_task_t      task;

    ngx_queue_t                 waiting;
    ngx_queue_t                 batch;      /* the thread's data */
    size_t                      nbytes;     /* of both */
    size_t                      nbatch;

    /* of what is logged */

    vaani_pace_t                failed;
    vaani_pace_t                too_many;
    vaani_pace_t                too_large;
};


static ngx_uint_t ngx_vaani_spool_refused_admit(ngx_vaani_spool_t *spool,
    ngx_str_t *reason, size_t len);
static void ngx_vaani_spool_refused_complain(ngx_vaani_spool_t *spool,
    vaani_pace_t *pace, ngx_uint_t level, ngx_err_t err, char *why,
    ngx_str_t *reason);
static void ngx_vaani_spool_refused_next(ngx_vaani_spool_refused_t *refused);
static ngx_err_t ngx_vaani_spool_refused_thread(void *data);
static void ngx_vaani_spool_refused_done(void *data);


ngx_int_t
ngx_vaani_spool_refused_init(ngx_vaani_spool_t *spool, ngx_cycle_t *cycle)
{
    ngx_vaani_spool_refused_t  *refused;

    refused = ngx_pcalloc(cycle->pool, sizeof(ngx_vaani_spool_refused_t));

    if (refused == NULL) {
        return NGX_ERROR;
    }

    refused->spool = spool;
    spool->keeper = refused;

    ngx_queue_init(&refused->waiting);
    ngx_queue_init(&refused->batch);

    ngx_vaani_spool_task_init(&refused->task, ngx_vaani_spool_refused_thread,
                              ngx_vaani_spool_refused_done, refused,
                              cycle->log);

    return NGX_OK;
}


ngx_vaani_spool_refusal_t *
ngx_vaani_spool_refused_add(ngx_vaani_spool_t *spool, ngx_str_t *reason,
    ngx_str_t *body, uint64_t received_at, ngx_vaani_spool_append_pt handler,
    void *data)
{
    size_t                      len, head;
    u_char                     *p;
    ngx_vaani_spool_shared_t   *shared;
    ngx_vaani_spool_refused_t  *refused;
    ngx_vaani_spool_refusal_t  *refusal;

    shared = ngx_vaani_spool_shared(spool);
    refused = spool->keeper;

    head = vaani_journal_refusal_head(NULL, received_at, reason->data,
                                      reason->len);
    len = VAANI_JOURNAL_HEADER + head + body->len;

    if (len > spool->refused || len > NGX_MAX_INT32_VALUE) {
        ngx_vaani_spool_refused_complain(spool, &refused->too_large,
                                         NGX_LOG_WARN, 0,
                                         "is larger than \"refused\"", reason);
        goto dropped;
    }

    if (refused->nbytes
        && refused->nbytes + len > NGX_VAANI_SPOOL_MAX_BYTES)
    {
        ngx_vaani_spool_refused_complain(spool, &refused->failed, NGX_LOG_CRIT,
                                         0, "cannot be written because the "
                                         "disk is too slow", reason);
        goto dropped;
    }

    if (!ngx_vaani_spool_refused_admit(spool, reason, len)) {
        ngx_vaani_spool_refused_complain(spool, &refused->too_many,
                                         NGX_LOG_WARN, 0, "is one of too many "
                                         "in a minute", reason);
        goto dropped;
    }

    refusal = ngx_alloc(sizeof(ngx_vaani_spool_refusal_t) + len, spool->log);

    if (refusal == NULL) {
        goto dropped;
    }

    refusal->handler = handler;
    refusal->data = data;
    refusal->segment = 0;
    refusal->rc = NGX_ERROR;
    refusal->len = len;

    p = ngx_vaani_spool_refusal_data(refusal) + VAANI_JOURNAL_HEADER;

    p += vaani_journal_refusal_head(p, received_at, reason->data, reason->len);

    /* an empty body has no address, which memcpy() does not accept */

    if (body->len) {
        ngx_memcpy(p, body->data, body->len);
    }

    vaani_journal_seal(ngx_vaani_spool_refusal_data(refusal),
                       head + body->len);

    ngx_queue_insert_tail(&refused->waiting, &refusal->queue);
    refused->nbytes += len;

    ngx_vaani_spool_refused_next(refused);

    return refusal;

dropped:

    (void) ngx_atomic_fetch_add(&shared->refused_dropped, 1);

    return NULL;
}


void
ngx_vaani_spool_detach_refusal(ngx_vaani_spool_refusal_t *refusal)
{
    refusal->handler = NULL;
}


/*
 * One reason must not displace deliveries refused for others.  Therefore all
 * workers together keep a tenth of the limit per reason and minute, but at
 * least one delivery.
 */

static ngx_uint_t
ngx_vaani_spool_refused_admit(ngx_vaani_spool_t *spool, ngx_str_t *reason,
    size_t len)
{
    size_t                     rlen;
    ngx_uint_t                 n, admitted;
    ngx_slab_pool_t           *shpool;
    ngx_vaani_spool_share_t   *share;
    ngx_vaani_spool_shared_t  *shared;

    shared = ngx_vaani_spool_shared(spool);
    shpool = (ngx_slab_pool_t *) spool->shm_zone->shm.addr;

    rlen = ngx_min(reason->len, NGX_VAANI_SPOOL_REASON_LEN);

    ngx_shmtx_lock(&shpool->mutex);

    /*
     * the last one is shared by all reasons that come when the others are in
     * use
     */

    for (n = 0; n < NGX_VAANI_SPOOL_REASONS - 1; n++) {
        share = &shared->shares[n];

        if (!share->used
            || (share->len == rlen
                && ngx_memcmp(share->reason, reason->data, rlen) == 0))
        {
            break;
        }
    }

    share = &shared->shares[n];

    if (!share->used
        || ngx_current_msec - share->start >= NGX_VAANI_REFUSED_WINDOW)
    {
        share->used = 1;
        share->len = rlen;
        ngx_memcpy(share->reason, reason->data, rlen);

        share->start = ngx_current_msec;
        share->bytes = 0;
    }

    admitted = (share->bytes == 0
                || share->bytes + len
                   <= spool->refused / NGX_VAANI_REFUSED_SHARE);

    if (admitted) {
        share->bytes += len;
    }

    ngx_shmtx_unlock(&shpool->mutex);

    return admitted;
}


static void
ngx_vaani_spool_refused_complain(ngx_vaani_spool_t *spool, vaani_pace_t *pace,
    ngx_uint_t level, ngx_err_t err, char *why, ngx_str_t *reason)
{
    uint64_t  skipped;

    /* deliveries that are not kept are counted */

    if (!vaani_pace(pace, ngx_current_msec, NGX_VAANI_REFUSED_COMPLAIN,
                    &skipped))
    {
        return;
    }

    if (reason) {
        ngx_log_error(level, spool->log, err,
                      "vaani: a refused delivery (%V) %s; it is not kept in "
                      "\"%V/refused\"", reason, why, &spool->path->name);

    } else {
        ngx_log_error(level, spool->log, err,
                      "vaani: refused deliveries %s; they are not kept in "
                      "\"%V/refused\"", why, &spool->path->name);
    }
}


static void
ngx_vaani_spool_refused_next(ngx_vaani_spool_refused_t *refused)
{
    if (refused->task.busy || ngx_queue_empty(&refused->waiting)) {
        return;
    }

    ngx_queue_add(&refused->batch, &refused->waiting);
    ngx_queue_init(&refused->waiting);

    refused->nbatch = refused->nbytes;

    ngx_vaani_spool_task_post(refused->spool, &refused->task);
}


static ngx_err_t
ngx_vaani_spool_refused_thread(void *data)
{
    ngx_vaani_spool_refused_t *refused = data;

    u_char                            name[NGX_VAANI_SPOOL_NAME_LEN];
    ngx_err_t                         err;
    ngx_queue_t                      *q;
    ngx_vaani_spool_t                *spool;
    ngx_vaani_spool_shared_t         *shared;
    ngx_vaani_spool_refusal_t        *refusal;
    ngx_vaani_spool_refused_files_t   files;

    spool = refused->spool;
    shared = ngx_vaani_spool_shared(spool);

    files.spool = spool;
    files.batch = &refused->batch;
    files.fd = -1;

    ngx_vaani_spool_refused_dir(name, &spool->path->name, &files.dir);

    if (mkdir((char *) name, 0700) == 0) {

        if (ngx_vaani_spool_sync_dir(spool->path->name.data) != NGX_OK) {
            return errno;
        }

    } else if (errno != EEXIST) {
        return errno;
    }

    if (ngx_vaani_spool_list(&files.dir, 0, &files.lowest, &files.highest,
                             &files.size)
        != NGX_OK)
    {
        return errno;
    }

    err = 0;

    for (q = ngx_queue_head(&refused->batch);
         q != ngx_queue_sentinel(&refused->batch);
         q = ngx_queue_next(q))
    {
        refusal = ngx_queue_data(q, ngx_vaani_spool_refusal_t, queue);

        if (ngx_vaani_spool_refused_write(&files, refusal) != NGX_OK) {
            err = errno;
            break;
        }
    }

    if (ngx_vaani_spool_refused_close(&files) != NGX_OK) {
        err = errno;
    }

    shared->refused_bytes = files.size;

    return err;
}


static void
ngx_vaani_spool_refused_done(void *data)
{
    ngx_vaani_spool_refused_t *refused = data;

    void                       *handler_data;
    ngx_int_t                   rc;
    ngx_queue_t                *q, batch;
    ngx_vaani_spool_t          *spool;
    ngx_vaani_spool_shared_t   *shared;
    ngx_vaani_spool_append_pt   handler;
    ngx_vaani_spool_refusal_t  *refusal;

    spool = refused->spool;
    shared = ngx_vaani_spool_shared(spool);

    if (refused->task.err) {
        ngx_vaani_spool_refused_complain(spool, &refused->failed, NGX_LOG_CRIT,
                                         refused->task.err,
                                         "cannot be written", NULL);
    }

    ngx_queue_init(&batch);

    if (!ngx_queue_empty(&refused->batch)) {
        ngx_queue_add(&batch, &refused->batch);
        ngx_queue_init(&refused->batch);
    }

    refused->nbytes -= refused->nbatch;
    refused->nbatch = 0;

    ngx_vaani_spool_refused_next(refused);

    while (!ngx_queue_empty(&batch)) {
        q = ngx_queue_head(&batch);
        refusal = ngx_queue_data(q, ngx_vaani_spool_refusal_t, queue);

        ngx_queue_remove(q);

        rc = refusal->rc;
        handler = refusal->handler;
        handler_data = refusal->data;

        ngx_free(refusal);

        (void) ngx_atomic_fetch_add((rc == NGX_OK) ? &shared->refused_kept
                                                   : &shared->refused_dropped,
                                    1);

        if (handler) {
            handler(handler_data, rc);
        }
    }
}


void
ngx_vaani_spool_refused_exit(ngx_vaani_spool_t *spool)
{
    ngx_queue_t                *q;
    ngx_vaani_spool_refused_t  *refused;
    ngx_vaani_spool_refusal_t  *refusal;

    refused = spool->keeper;

    ngx_vaani_spool_task_exit(&refused->task);

    while (!ngx_queue_empty(&refused->waiting)) {
        q = ngx_queue_head(&refused->waiting);
        refusal = ngx_queue_data(q, ngx_vaani_spool_refusal_t, queue);

        ngx_queue_remove(q);
        ngx_free(refusal);
    }
}
