
#include "ngx_vaani_spool_writer.h"


static ngx_uint_t ngx_vaani_spool_is_gone(ngx_vaani_spool_writer_t *writer,
    int fd);


void
ngx_vaani_spool_syncs_handler(ngx_event_t *ev)
{
    ngx_vaani_spool_sync_now(ev->data);
}


/*
 * A sync must not delay appends: it has a thread of its own.
 */

void
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

    ngx_vaani_spool_task_post(writer->spool, &writer->sync);
}


ngx_err_t
ngx_vaani_spool_sync_thread(void *data)
{
    ngx_vaani_spool_writer_t *writer = data;

    int                 fd;
    ngx_err_t           err;
    ngx_uint_t          n;
    ngx_vaani_spool_t  *spool;

    spool = writer->spool;
    err = 0;

    if (spool->sync == NGX_VAANI_SPOOL_BATCH
        && ngx_vaani_spool_sync_dir(spool->path->name.data) != NGX_OK)
    {
        err = errno;
    }

    for (n = 0; n <= writer->nsyncing; n++) {
        fd = writer->syncing[n];

        if (fd == -1) {
            continue;
        }

        if (spool->sync == NGX_VAANI_SPOOL_BATCH && fdatasync(fd) == -1) {
            err = errno;
        }

        if (n < writer->nsyncing) {

            /* drops the lock: from now on it belongs to the leader */

            (void) close(fd);

        } else {
            writer->gone = ngx_vaani_spool_is_gone(writer, fd);
        }
    }

    return err;
}


/*
 * The segment may have been removed, or the directory replaced: then further
 * records would be written to a file that nothing reads.
 */

static ngx_uint_t
ngx_vaani_spool_is_gone(ngx_vaani_spool_writer_t *writer, int fd)
{
    u_char       name[NGX_VAANI_SPOOL_NAME_LEN];
    struct stat  st;

    ngx_vaani_spool_kept_name(name, &writer->spool->path->name, writer->named,
                              writer->name);

    return ngx_vaani_spool_is_named(fd, name, &st) == NGX_DECLINED;
}
