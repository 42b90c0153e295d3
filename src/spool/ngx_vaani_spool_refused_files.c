
#include "ngx_vaani_spool_refused.h"

#include <sys/file.h>


/*
 * The segments of refused deliveries, numbered like those of the spool.  A
 * thread locks a segment while it appends: a record that does not fit on the
 * disk is removed again.  A segment locked by another process is skipped.
 */


/* the size of a segment, as a share of the limit: deleted at once */

#define NGX_VAANI_REFUSED_SEGMENTS  16

/* the number of last segments that are tried before a new one is created */

#define NGX_VAANI_REFUSED_TRIED     8


static ngx_int_t ngx_vaani_spool_refused_room(
    ngx_vaani_spool_refused_files_t *files, size_t len);
static ngx_int_t ngx_vaani_spool_refused_open(
    ngx_vaani_spool_refused_files_t *files, size_t len);
static ngx_int_t ngx_vaani_spool_refused_take(
    ngx_vaani_spool_refused_files_t *files, ngx_atomic_uint_t number,
    size_t len, int flags);


ngx_int_t
ngx_vaani_spool_refused_write(ngx_vaani_spool_refused_files_t *files,
    ngx_vaani_spool_refusal_t *refusal)
{
    if (files->fd != -1
        && files->end + (off_t) refusal->len
           > (off_t) files->spool->refused / NGX_VAANI_REFUSED_SEGMENTS
        && ngx_vaani_spool_refused_close(files) != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (ngx_vaani_spool_refused_room(files, refusal->len) != NGX_OK) {
        return NGX_ERROR;
    }

    if (files->fd == -1
        && ngx_vaani_spool_refused_open(files, refusal->len) != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (ngx_vaani_spool_write_alone(files->fd,
                                    ngx_vaani_spool_refusal_data(refusal),
                                    refusal->len, files->end)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    files->end += refusal->len;
    files->size += refusal->len;

    refusal->segment = files->segment;

    return NGX_OK;
}


/*
 * Deletes the oldest ones until there is room for len more bytes.
 */

static ngx_int_t
ngx_vaani_spool_refused_room(ngx_vaani_spool_refused_files_t *files,
    size_t len)
{
    int                         fd;
    u_char                      name[NGX_VAANI_SPOOL_NAME_LEN];
    ngx_queue_t                *q;
    struct stat                 st;
    ngx_vaani_spool_refusal_t  *refusal;

    while (files->size + (off_t) len > (off_t) files->spool->refused
           && files->lowest)
    {
        if (files->fd != -1 && files->segment == files->lowest
            && ngx_vaani_spool_refused_close(files) != NGX_OK)
        {
            return NGX_ERROR;
        }

        ngx_vaani_spool_segment_name(name, &files->dir, files->lowest);

        fd = ngx_vaani_spool_open_locked(name, NGX_VAANI_SPOOL_TO_READ,
                                         LOCK_EX, &st);

        if (fd == -1 && errno == EWOULDBLOCK) {

            /*
             * Another process writes to it, which exceeds the limit only a
             * little; or deletes it, which frees the space.
             */

            return NGX_OK;
        }

        if (fd == -1 && errno != ENOENT) {
            return NGX_ERROR;
        }

        if (fd != -1) {

            if (unlink((char *) name) == -1 && errno != ENOENT) {
                ngx_vaani_spool_close_file(fd);
                return NGX_ERROR;
            }

            (void) close(fd);
        }

        /* deliveries of this batch that were in it are not kept */

        for (q = ngx_queue_head(files->batch);
             q != ngx_queue_sentinel(files->batch);
             q = ngx_queue_next(q))
        {
            refusal = ngx_queue_data(q, ngx_vaani_spool_refusal_t, queue);

            if (refusal->segment == files->lowest) {
                refusal->segment = 0;
                refusal->rc = NGX_ERROR;
            }
        }

        if (ngx_vaani_spool_list(&files->dir, 0, &files->lowest, NULL,
                                 &files->size)
            != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


/*
 * Opens a segment that has room, or a new one.
 */

static ngx_int_t
ngx_vaani_spool_refused_open(ngx_vaani_spool_refused_files_t *files,
    size_t len)
{
    ngx_int_t          rc;
    ngx_uint_t         n;
    ngx_atomic_uint_t  number;

    number = files->highest;

    for (n = 0; n < NGX_VAANI_REFUSED_TRIED && number > n; n++) {
        rc = ngx_vaani_spool_refused_take(files, number - n, len, 0);

        if (rc != NGX_BUSY) {
            return rc;
        }
    }

    /* the number of a deleted segment is not used again while nginx runs */

    for (n = 0; n < 100; n++) {
        number = ngx_atomic_fetch_add(
                     &ngx_vaani_spool_shared(files->spool)->refused_last, 1)
                 + 1;

        if (number <= files->highest) {
            ngx_vaani_spool_raise(
                &ngx_vaani_spool_shared(files->spool)->refused_last,
                files->highest);
            continue;
        }

        files->highest = number;

        rc = ngx_vaani_spool_refused_take(files, number, len,
                                          O_CREAT|O_EXCL);

        if (rc == NGX_OK) {
            return ngx_vaani_spool_sync_dir(files->dir.data);
        }

        if (rc != NGX_BUSY) {
            return rc;
        }
    }

    errno = EAGAIN;

    return NGX_ERROR;
}


/*
 * Returns NGX_BUSY if another process uses this segment.
 */

static ngx_int_t
ngx_vaani_spool_refused_take(ngx_vaani_spool_refused_files_t *files,
    ngx_atomic_uint_t number, size_t len, int flags)
{
    int          fd;
    u_char       name[NGX_VAANI_SPOOL_NAME_LEN];
    struct stat  st;

    ngx_vaani_spool_segment_name(name, &files->dir, number);

    fd = ngx_vaani_spool_open_locked(name,
                                     O_WRONLY|O_APPEND|O_NONBLOCK|O_NOFOLLOW
                                     |flags, LOCK_EX, &st);

    if (fd == -1) {

        switch (errno) {

        case EWOULDBLOCK:
            return NGX_BUSY;

        case ENOENT:
        case EEXIST:
        case ENXIO:
        case ELOOP:
        case EISDIR:
        case EACCES:

            /*
             * if the directory itself is the cause, no other segment can be
             * created
             */

            return (flags && errno != EEXIST) ? NGX_ERROR : NGX_BUSY;

        default:
            return NGX_ERROR;
        }
    }

    if (!S_ISREG(st.st_mode)
        || (st.st_size
            && st.st_size + (off_t) len
               > (off_t) files->spool->refused / NGX_VAANI_REFUSED_SEGMENTS))
    {
        (void) close(fd);
        return NGX_BUSY;
    }

    files->fd = fd;
    files->segment = number;
    files->end = st.st_size;

    if (files->lowest == 0 || number < files->lowest) {
        files->lowest = number;
    }

    return NGX_OK;
}


/*
 * Everything written to the segment is then safe, or counts as not kept.
 */

ngx_int_t
ngx_vaani_spool_refused_close(ngx_vaani_spool_refused_files_t *files)
{
    ngx_int_t                   rc;
    ngx_err_t                   err;
    ngx_queue_t                *q;
    ngx_vaani_spool_refusal_t  *refusal;

    if (files->fd == -1) {
        return NGX_OK;
    }

    rc = NGX_OK;
    err = 0;

    if (files->spool->sync != NGX_VAANI_SPOOL_OFF
        && fdatasync(files->fd) == -1)
    {
        err = errno;
        rc = NGX_ERROR;
    }

    for (q = ngx_queue_head(files->batch);
         q != ngx_queue_sentinel(files->batch);
         q = ngx_queue_next(q))
    {
        refusal = ngx_queue_data(q, ngx_vaani_spool_refusal_t, queue);

        if (refusal->segment == files->segment) {
            refusal->rc = rc;
        }
    }

    /* drops the lock */

    (void) close(files->fd);
    files->fd = -1;

    errno = err;

    return rc;
}
