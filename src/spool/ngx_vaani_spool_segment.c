
#include "ngx_vaani_spool_replay.h"

#include <sys/file.h>
#include <sys/mman.h>


/* the period of counting files kept for an operator, s */

#define NGX_VAANI_SPOOL_MEASURE     5


static ngx_err_t ngx_vaani_spool_take(ngx_vaani_spool_replay_t *replay,
    ngx_str_t *dir, ngx_atomic_uint_t number);
static ngx_err_t ngx_vaani_spool_open_kept(ngx_vaani_spool_replay_t *replay,
    ngx_str_t *dir);
static ngx_int_t ngx_vaani_spool_lock(ngx_vaani_spool_replay_t *replay,
    ngx_str_t *dir);
static ngx_err_t ngx_vaani_spool_put_aside(ngx_vaani_spool_replay_t *replay,
    u_char *name, ngx_atomic_uint_t number, ngx_err_t err);
static ngx_int_t ngx_vaani_spool_read(ngx_vaani_spool_replay_t *replay,
    size_t size);


/*
 * Takes the oldest segment, if this worker leads.  From then on no worker
 * appends to it.
 */

ngx_err_t
ngx_vaani_spool_seal_thread(void *data)
{
    ngx_vaani_spool_replay_t *replay = data;

    ngx_str_t                 *dir;
    ngx_atomic_uint_t          current, lowest;
    ngx_vaani_spool_shared_t  *shared;

    dir = &replay->spool->path->name;
    shared = ngx_vaani_spool_shared(replay->spool);

    replay->segment = 0;
    replay->none_below = 0;
    replay->skipped = 0;

    if (!replay->leads) {

        if (ngx_vaani_spool_lock(replay, dir) != NGX_OK) {
            return (errno == EWOULDBLOCK) ? 0 : errno;
        }

        ngx_vaani_spool_window_reset(&replay->window);
    }

    if (replay->healing) {
        return ngx_vaani_spool_open_kept(replay, dir);
    }

    if (ngx_vaani_spool_window_list(&replay->window) != NGX_OK) {
        return errno;
    }

    if (replay->resting) {
        return 0;
    }

    if (time(NULL) < replay->measured
        || time(NULL) - replay->measured >= NGX_VAANI_SPOOL_MEASURE)
    {
        replay->measured = time(NULL);
        ngx_vaani_spool_measure(replay->spool);
    }

    current = shared->current;

    if (ngx_vaani_spool_pick(replay, dir, &lowest) != NGX_OK) {
        return errno;
    }

    if (lowest == 0) {
        replay->none_below = replay->skipped ? 0 : current;
        return 0;
    }

    if (lowest >= current) {
        (void) ngx_atomic_cmp_set(&shared->current, current, lowest + 1);
    }

    return ngx_vaani_spool_take(replay, dir, lowest);
}


/*
 * Locks a waiting segment, and reads it.
 */

static ngx_err_t
ngx_vaani_spool_take(ngx_vaani_spool_replay_t *replay, ngx_str_t *dir,
    ngx_atomic_uint_t number)
{
    u_char       name[NGX_VAANI_SPOOL_NAME_LEN];
    ngx_err_t    err;
    struct stat  st;

    ngx_vaani_spool_segment_name(name, dir, number);

    replay->fd = ngx_vaani_spool_open_to_read(name);

    if (replay->fd == -1) {
        return ngx_vaani_spool_put_aside(replay, name, number, errno);
    }

    if (ngx_vaani_spool_lock_file(replay->fd, name, LOCK_EX, &st) != NGX_OK) {

        /*
         * an append may be in progress; without a lock, damage cannot be
         * decided
         */

        err = (errno == EWOULDBLOCK) ? 0 : errno;
        ngx_vaani_spool_close(replay);
        return err;
    }

    if (!S_ISREG(st.st_mode)) {
        err = ngx_vaani_spool_put_aside(replay, name, number, EINVAL);
        ngx_vaani_spool_close(replay);
        return err;
    }

    if (ngx_vaani_spool_read(replay, st.st_size) != NGX_OK) {
        err = ngx_vaani_spool_put_aside(replay, name, number, errno);
        ngx_vaani_spool_close(replay);
        return err;
    }

    replay->segment = number;
    replay->mtime = st.st_mtime;

    return 0;
}


/*
 * Takes a kept segment that the receiver does not have completely.
 */

static ngx_err_t
ngx_vaani_spool_open_kept(ngx_vaani_spool_replay_t *replay, ngx_str_t *dir)
{
    u_char     name[NGX_VAANI_SPOOL_NAME_LEN];
    ngx_err_t  err;

    /* an operator can erase a call before everything is redelivered */

    if (ngx_vaani_spool_read_erased(&replay->window) != NGX_OK) {
        replay->healing = NULL;
        return errno;
    }

    ngx_vaani_spool_kept_name(name, dir, replay->healing->number,
                              replay->healing->id);

    replay->fd = ngx_vaani_spool_open_to_read(name);

    if (replay->fd != -1
        && ngx_vaani_spool_read(replay, replay->healing->size) == NGX_OK)
    {
        return 0;
    }

    err = ngx_vaani_spool_put_aside(replay, name, replay->healing->number,
                                    errno);

    /*
     * It may have been deleted to free space: the list will show that, and
     * other segments are tried until then.
     */

    replay->held->read = 0;
    replay->healing->closed = 0;
    replay->healing = NULL;
    replay->nintervals = 0;

    ngx_vaani_spool_close(replay);

    return (err == ENOENT) ? 0 : err;
}


/*
 * One worker leads.  The others keep trying to, so that one of them follows
 * immediately if the leader ends.
 */

static ngx_int_t
ngx_vaani_spool_lock(ngx_vaani_spool_replay_t *replay, ngx_str_t *dir)
{
    u_char       name[NGX_VAANI_SPOOL_NAME_LEN];
    struct stat  st;

    ngx_snprintf(name, NGX_VAANI_SPOOL_NAME_LEN, "%V/lock%Z", dir);

    replay->lock = ngx_vaani_spool_open_locked(name, O_RDWR|O_CREAT, LOCK_EX,
                                               &st);

    if (replay->lock == -1) {
        return NGX_ERROR;
    }

    replay->leads = 1;

    return NGX_OK;
}


ngx_err_t
ngx_vaani_spool_leave_thread(void *data)
{
    ngx_vaani_spool_replay_t *replay = data;

    ngx_vaani_spool_close(replay);

    if (replay->leads) {
        (void) close(replay->lock);
        replay->lock = -1;
        replay->leads = 0;
    }

    return 0;
}


void
ngx_vaani_spool_close(ngx_vaani_spool_replay_t *replay)
{
    if (replay->fd != -1) {
        (void) close(replay->fd);
        replay->fd = -1;
    }

    if (replay->data) {
        (void) munmap(replay->data, replay->size);
        replay->data = NULL;
    }

    free(replay->dead);
    free(replay->late);
    free(replay->bad);

    replay->dead = NULL;
    replay->late = NULL;
    replay->bad = NULL;
    replay->ndead = 0;
    replay->nlate = 0;
    replay->nbad = 0;
    replay->kept = 0;
}


/*
 * An unreadable segment must not stop those after it.  Returns err.
 */

static ngx_err_t
ngx_vaani_spool_put_aside(ngx_vaani_spool_replay_t *replay, u_char *name,
    ngx_atomic_uint_t number, ngx_err_t err)
{
    switch (err) {

    case EIO:
    case EACCES:
    case EPERM:
    case EINVAL:
    case ENXIO:
    case ELOOP:
        break;

    default:
        /* errors of the process, not of the file */
        return err;
    }

    if (ngx_vaani_spool_rename_bad(name) == NGX_OK
        && ngx_vaani_spool_sync_dir(replay->spool->path->name.data) == NGX_OK)
    {
        replay->aside = number;
        replay->measured = 0;
    }

    return err;
}


static ngx_int_t
ngx_vaani_spool_read(ngx_vaani_spool_replay_t *replay, size_t size)
{
    ssize_t  n;

    replay->size = size;

    if (size == 0) {
        return NGX_OK;
    }

    /*
     * Allocated by a mapping, so that the memory returns to the system.  The
     * file itself is not mapped, because another process could truncate it.
     */

    replay->data = mmap(NULL, size, PROT_READ|PROT_WRITE,
                        MAP_PRIVATE|MAP_ANON, -1, 0);

    if (replay->data == MAP_FAILED) {
        replay->data = NULL;
        return NGX_ERROR;
    }

    n = ngx_vaani_spool_read_file(replay->fd, replay->data, size);

    if (n >= 0 && (size_t) n < size) {
        errno = EIO;
        n = -1;
    }

    return (n == -1) ? NGX_ERROR : NGX_OK;
}
