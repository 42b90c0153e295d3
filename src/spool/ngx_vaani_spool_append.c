
#include "ngx_vaani_spool_private.h"


struct ngx_vaani_spool_entry_s {
    ngx_queue_t                 queue;
    ngx_vaani_spool_append_pt   handler;    /* NULL: detached, or none */
    void                       *data;
    ngx_int_t                   rc;
    ngx_atomic_uint_t           segment;    /* that it was written to */
    size_t                      len;        /* of the record with its header */
};


typedef struct {
    ngx_vaani_spool_t          *spool;
    ngx_vaani_spool_task_t      task;

    ngx_queue_t                 batch;      /* the thread's data */
    size_t                      nbytes;
} ngx_vaani_spool_append_t;


#define ngx_vaani_spool_entry_data(entry)  ((u_char *) ((entry) + 1))


static void ngx_vaani_spool_append_next(ngx_vaani_spool_append_t *append);
static ngx_err_t ngx_vaani_spool_append_thread(void *data);
static ngx_err_t ngx_vaani_spool_append_some(ngx_vaani_spool_append_t *append,
    ngx_queue_t *first, ngx_queue_t *last);
static ngx_err_t ngx_vaani_spool_append_sync(ngx_vaani_spool_append_t *append,
    int fd, ngx_queue_t **synced, ngx_queue_t *last);
static void ngx_vaani_spool_append_done(void *data);
static void ngx_vaani_spool_refuse(ngx_vaani_spool_t *spool, ngx_err_t err,
    char *why);


ngx_int_t
ngx_vaani_spool_append_init(ngx_vaani_spool_t *spool, ngx_cycle_t *cycle)
{
    ngx_vaani_spool_append_t  *append;

    append = ngx_pcalloc(cycle->pool, sizeof(ngx_vaani_spool_append_t));

    if (append == NULL) {
        return NGX_ERROR;
    }

    append->spool = spool;
    spool->append = append;
    spool->nbytes = 0;

    ngx_queue_init(&spool->entries);
    ngx_queue_init(&append->batch);

    ngx_vaani_spool_task_init(&append->task, ngx_vaani_spool_append_thread,
                              ngx_vaani_spool_append_done, append, cycle->log);

    return NGX_OK;
}


ngx_vaani_spool_entry_t *
ngx_vaani_spool_append_alloc(ngx_vaani_spool_t *spool, size_t size,
    u_char **record)
{
    size_t                      len;
    ngx_vaani_spool_entry_t    *entry;
    ngx_vaani_spool_shared_t   *shared;
    ngx_vaani_spool_append_t   *append;

    shared = ngx_vaani_spool_shared(spool);
    append = spool->append;

    len = VAANI_JOURNAL_HEADER + size;

    if (size > NGX_MAX_INT32_VALUE
        || shared->bytes + spool->nbytes + append->nbytes + len > spool->max)
    {
        ngx_vaani_spool_refuse(spool, 0, "is full, raise its \"max\"");
        spool->full = shared->bytes;
        (void) ngx_atomic_fetch_add(&shared->refused, 1);
        return NULL;
    }

    if (spool->nbytes && spool->nbytes + len > NGX_VAANI_SPOOL_MAX_BYTES) {
        ngx_vaani_spool_refuse(spool, 0, "is too slow");
        (void) ngx_atomic_fetch_add(&shared->refused, 1);
        return NULL;
    }

    entry = ngx_alloc(sizeof(ngx_vaani_spool_entry_t) + len, spool->log);

    if (entry == NULL) {
        return NULL;
    }

    entry->len = len;

    *record = ngx_vaani_spool_entry_data(entry) + VAANI_JOURNAL_HEADER;

    return entry;
}


void
ngx_vaani_spool_append(ngx_vaani_spool_t *spool,
    ngx_vaani_spool_entry_t *entry, ngx_vaani_spool_append_pt handler,
    void *data)
{
    entry->handler = handler;
    entry->data = data;
    entry->rc = NGX_ERROR;
    entry->segment = 0;

    vaani_journal_seal(ngx_vaani_spool_entry_data(entry),
                       entry->len - VAANI_JOURNAL_HEADER);

    ngx_queue_insert_tail(&spool->entries, &entry->queue);
    spool->nbytes += entry->len;

    ngx_vaani_spool_append_next(spool->append);
}


void
ngx_vaani_spool_free(ngx_vaani_spool_entry_t *entry)
{
    ngx_free(entry);
}


void
ngx_vaani_spool_detach(ngx_vaani_spool_entry_t *entry)
{
    entry->handler = NULL;
}


/*
 * Records that arrive during a write form the next batch, so that all of them
 * share one sync of a slow disk.
 */

static void
ngx_vaani_spool_append_next(ngx_vaani_spool_append_t *append)
{
    ngx_vaani_spool_t  *spool;

    spool = append->spool;

    if (append->task.busy || ngx_queue_empty(&spool->entries)) {
        return;
    }

    ngx_queue_add(&append->batch, &spool->entries);
    ngx_queue_init(&spool->entries);

    append->nbytes = spool->nbytes;
    spool->nbytes = 0;

    ngx_vaani_spool_task_post(spool, &append->task);
}


static ngx_err_t
ngx_vaani_spool_append_thread(void *data)
{
    ngx_vaani_spool_append_t  *append = data;

    ngx_err_t     err;
    ngx_queue_t  *q, *next;

    if (append->spool->sync != NGX_VAANI_SPOOL_ALWAYS) {
        return ngx_vaani_spool_append_some(append,
                                           ngx_queue_head(&append->batch),
                                           ngx_queue_sentinel(&append->batch));
    }

    err = 0;

    for (q = ngx_queue_head(&append->batch);
         q != ngx_queue_sentinel(&append->batch) && err == 0;
         q = next)
    {
        next = ngx_queue_next(q);
        err = ngx_vaani_spool_append_some(append, q, next);
    }

    return err;
}


/*
 * Writes the entries from first to before last, and makes them durable.
 * Workers append to the same file without a lock, which O_APPEND allows.  If a
 * write is incomplete, the partial record remains in the file, and readers
 * skip it.  Returns an errno, or 0.
 */

static ngx_err_t
ngx_vaani_spool_append_some(ngx_vaani_spool_append_t *append,
    ngx_queue_t *first, ngx_queue_t *last)
{
    int                        fd;
    ngx_err_t                  err, unsynced;
    ngx_uint_t                 moved;
    ngx_queue_t               *q, *synced;
    ngx_atomic_uint_t          segment;
    ngx_vaani_spool_entry_t   *entry;
    ngx_vaani_spool_shared_t  *shared;

    shared = ngx_vaani_spool_shared(append->spool);

    /* waiting records displace kept ones */

    (void) ngx_vaani_spool_make_room_for(append->spool, append->nbytes);

    do {
        fd = ngx_vaani_spool_open_current(append->spool, &segment, 0);
    } while (fd == -1 && ngx_vaani_spool_drop_if_full(append->spool));

    if (fd == -1) {
        return errno;
    }

    err = 0;
    moved = 0;
    synced = first;

    for (q = first; q != last; /* void */ ) {
        entry = ngx_queue_data(q, ngx_vaani_spool_entry_t, queue);

        if (ngx_vaani_spool_write(fd, ngx_vaani_spool_entry_data(entry),
                                  entry->len)
            == NGX_OK)
        {
            entry->segment = segment;
            (void) ngx_atomic_fetch_add(&shared->bytes, entry->len);
            (void) ngx_atomic_fetch_add(&shared->written, 1);
            q = ngx_queue_next(q);
            continue;
        }

        if (ngx_vaani_spool_drop_if_full(append->spool)) {
            continue;
        }

        err = errno;

        if (err != EFBIG || moved) {
            break;
        }

        /* this process may have a lower file size limit than others */

        moved = 1;

        err = ngx_vaani_spool_append_sync(append, fd, &synced, q);

        (void) close(fd);

        if (err) {
            return err;
        }

        fd = ngx_vaani_spool_open_current(append->spool, &segment, 1);

        if (fd == -1) {
            return errno;
        }
    }

    unsynced = ngx_vaani_spool_append_sync(append, fd, &synced, q);

    /* drops the lock */

    (void) close(fd);

    return unsynced ? unsynced : err;
}


/*
 * Makes the entries from *synced to before last durable.  Returns an errno, or
 * 0.
 */

static ngx_err_t
ngx_vaani_spool_append_sync(ngx_vaani_spool_append_t *append, int fd,
    ngx_queue_t **synced, ngx_queue_t *last)
{
    ngx_vaani_spool_entry_t  *entry;

    if (append->spool->sync != NGX_VAANI_SPOOL_OFF && fdatasync(fd) == -1) {
        return errno;
    }

    for ( /* void */ ; *synced != last; *synced = ngx_queue_next(*synced)) {
        entry = ngx_queue_data(*synced, ngx_vaani_spool_entry_t, queue);
        entry->rc = NGX_OK;
    }

    return 0;
}


static void
ngx_vaani_spool_append_done(void *data)
{
    ngx_vaani_spool_append_t  *append = data;

    ngx_int_t                  rc;
    ngx_queue_t               *q, batch;
    ngx_vaani_spool_t         *spool;
    ngx_vaani_spool_entry_t   *entry;
    ngx_vaani_spool_shared_t  *shared;
    void                      *handler_data;
    ngx_vaani_spool_append_pt  handler;

    spool = append->spool;
    shared = ngx_vaani_spool_shared(spool);

    if (append->task.err) {
        ngx_vaani_spool_refuse(spool, append->task.err, "cannot be written to");

    } else if (spool->refusing) {
        ngx_log_error(NGX_LOG_NOTICE, spool->log, 0,
                      "vaani: the spool \"%V\" recovered",
                      &spool->path->name);
        spool->refusing = 0;
        spool->full = 0;
        ngx_memzero(&spool->complained, sizeof(vaani_pace_t));
    }

    ngx_queue_init(&batch);

    if (!ngx_queue_empty(&append->batch)) {
        ngx_queue_add(&batch, &append->batch);
        ngx_queue_init(&append->batch);
    }

    append->nbytes = 0;

    ngx_vaani_spool_append_next(append);

    ngx_vaani_spool_wake(spool);

    while (!ngx_queue_empty(&batch)) {
        q = ngx_queue_head(&batch);
        entry = ngx_queue_data(q, ngx_vaani_spool_entry_t, queue);

        ngx_queue_remove(q);

        if (entry->segment) {
            (void) ngx_atomic_cmp_set(&shared->oldest, 0,
                                      ngx_vaani_spool_since(ngx_time()));
        }

        if (entry->rc != NGX_OK) {
            (void) ngx_atomic_fetch_add(&shared->refused, 1);
        }

        rc = entry->rc;
        handler = entry->handler;
        handler_data = entry->data;

        ngx_free(entry);

        if (handler) {
            handler(handler_data, rc);
        }
    }
}


static void
ngx_vaani_spool_refuse(ngx_vaani_spool_t *spool, ngx_err_t err, char *why)
{
    uint64_t  skipped;

    spool->refusing = 1;
    spool->failed = ngx_current_msec;
    spool->full = 0;

    if (!vaani_pace(&spool->complained, ngx_current_msec,
                    NGX_VAANI_SPOOL_COMPLAIN_EVERY, &skipped))
    {
        return;
    }

    ngx_log_error(NGX_LOG_CRIT, spool->log, err,
                  "vaani: the spool \"%V\" %s; events are refused while Redis "
                  "cannot accept them; %uL similar lines skipped",
                  &spool->path->name, why, skipped);
}


void
ngx_vaani_spool_append_exit(ngx_vaani_spool_t *spool)
{
    ngx_queue_t               *q;
    ngx_vaani_spool_entry_t   *entry;
    ngx_vaani_spool_append_t  *append;

    append = spool->append;

    ngx_vaani_spool_task_exit(&append->task);

    while (!ngx_queue_empty(&spool->entries)) {
        q = ngx_queue_head(&spool->entries);
        entry = ngx_queue_data(q, ngx_vaani_spool_entry_t, queue);

        ngx_queue_remove(q);
        ngx_free(entry);
    }
}
