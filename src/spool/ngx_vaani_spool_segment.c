
#include "ngx_vaani_spool_private.h"

#include <sys/file.h>
#include <sys/mman.h>


/* how often what is kept for an operator is counted, s */

#define NGX_VAANI_SPOOL_MEASURE     5


static ngx_int_t ngx_vaani_spool_lock(ngx_vaani_spool_replay_t *replay,
    ngx_str_t *dir);
static ngx_int_t ngx_vaani_spool_read(ngx_vaani_spool_replay_t *replay,
    size_t size);
static void ngx_vaani_spool_put_aside(ngx_vaani_spool_replay_t *replay,
    u_char *name, ngx_atomic_uint_t number);
static void ngx_vaani_spool_open_kept(ngx_vaani_spool_replay_t *replay,
    ngx_str_t *dir);
static ngx_int_t ngx_vaani_spool_give_up(ngx_vaani_spool_replay_t *replay,
    u_char *name, ngx_str_t *dir);
static ngx_int_t ngx_vaani_spool_keep_aside(ngx_vaani_spool_replay_t *replay,
    ngx_str_t *dir);
static ngx_int_t ngx_vaani_spool_append_late(ngx_vaani_spool_replay_t *replay,
    ngx_str_t *dir);
static ngx_int_t ngx_vaani_spool_make_room(int fd, size_t len);
static ngx_int_t ngx_vaani_spool_empty(ngx_vaani_spool_replay_t *replay,
    u_char *name);


/*
 * Takes the oldest segment, if this worker leads: from then on nobody appends
 * to it.
 */

void
ngx_vaani_spool_seal_thread(void *data)
{
    ngx_vaani_spool_replay_t *replay = data;

    ngx_str_t                 *dir;
    struct stat                st;
    ngx_atomic_uint_t          current, lowest;
    ngx_vaani_spool_shared_t  *shared;
    u_char                     name[NGX_VAANI_SPOOL_NAME_LEN];

    dir = &replay->spool->path->name;
    shared = ngx_vaani_spool_shared(replay->spool);

    replay->err = 0;
    replay->segment = 0;
    replay->none_below = 0;
    replay->skipped = 0;
    replay->aside = 0;

    if (!replay->leads) {

        if (ngx_vaani_spool_lock(replay, dir) != NGX_OK) {
            return;
        }

        ngx_vaani_spool_window_reset(&replay->window);
    }

    if (replay->healing) {
        ngx_vaani_spool_open_kept(replay, dir);
        return;
    }

    if (ngx_vaani_spool_window_list(&replay->window) != NGX_OK) {
        replay->err = errno;
        return;
    }

    if (replay->resting) {
        return;
    }

    if (time(NULL) < replay->measured
        || time(NULL) - replay->measured >= NGX_VAANI_SPOOL_MEASURE)
    {
        replay->measured = time(NULL);
        ngx_vaani_spool_measure(replay->spool);
    }

    current = shared->current;

    if (ngx_vaani_spool_pick(replay, dir, &lowest) != NGX_OK) {
        replay->err = errno;
        return;
    }

    if (lowest == 0) {
        replay->none_below = replay->skipped ? 0 : current;
        return;
    }

    if (lowest >= current) {
        (void) ngx_atomic_cmp_set(&shared->current, current, lowest + 1);
    }

    ngx_vaani_spool_segment_name(name, dir, lowest);

    /* if it's none of ours, it may be anything */

    replay->fd = open((char *) name,
                      O_RDONLY|O_NONBLOCK|O_NOFOLLOW|O_CLOEXEC);

    if (replay->fd == -1) {
        replay->err = errno;
        ngx_vaani_spool_put_aside(replay, name, lowest);
        return;
    }

    if (flock(replay->fd, LOCK_EX|LOCK_NB) == -1) {

        /* an append is under way */

        if (errno != EWOULDBLOCK) {
            replay->err = errno;
        }

        goto failed;
    }

    if (fstat(replay->fd, &st) == -1) {
        replay->err = errno;
        goto failed;
    }

    if (!S_ISREG(st.st_mode)) {
        replay->err = EINVAL;
        ngx_vaani_spool_put_aside(replay, name, lowest);
        goto failed;
    }

    if (ngx_vaani_spool_read(replay, st.st_size) != NGX_OK) {
        replay->err = errno;
        ngx_vaani_spool_put_aside(replay, name, lowest);
        goto failed;
    }

    replay->segment = lowest;
    replay->mtime = st.st_mtime;

    return;

failed:

    ngx_vaani_spool_close(replay);
}


/*
 * Takes a kept segment that the receiver doesn't have all of.
 */

static void
ngx_vaani_spool_open_kept(ngx_vaani_spool_replay_t *replay, ngx_str_t *dir)
{
    u_char  name[NGX_VAANI_SPOOL_NAME_LEN];

    /* an operator need not wait until all is there again to erase a call */

    if (ngx_vaani_spool_read_erased(&replay->window) != NGX_OK) {
        replay->err = errno;
        replay->healing = NULL;
        return;
    }

    ngx_vaani_spool_kept_name(name, dir, replay->healing->number,
                              replay->healing->id);

    replay->fd = open((char *) name, O_RDONLY|O_NONBLOCK|O_NOFOLLOW|O_CLOEXEC);

    if (replay->fd != -1
        && ngx_vaani_spool_read(replay, replay->healing->size) == NGX_OK)
    {
        return;
    }

    replay->err = errno;

    ngx_vaani_spool_put_aside(replay, name, replay->healing->number);

    /*
     * It was deleted to make room, say: the list tells, and others are looked
     * at until then.
     */

    replay->held->read = 0;
    replay->healing->closed = 0;
    replay->healing = NULL;
    replay->nintervals = 0;

    if (replay->err == ENOENT) {
        replay->err = 0;
    }

    ngx_vaani_spool_close(replay);
}


/*
 * One worker leads; the others try to, so that one of them follows at once if
 * it ends in whatever way.
 */

static ngx_int_t
ngx_vaani_spool_lock(ngx_vaani_spool_replay_t *replay, ngx_str_t *dir)
{
    u_char       name[NGX_VAANI_SPOOL_NAME_LEN];
    struct stat  st, named;

    ngx_snprintf(name, NGX_VAANI_SPOOL_NAME_LEN, "%V/lock%Z", dir);

    if (replay->lock != -1
        && (fstat(replay->lock, &st) == -1
            || stat((char *) name, &named) == -1
            || st.st_ino != named.st_ino
            || st.st_dev != named.st_dev))
    {
        /* somebody has deleted it, and others have another one */

        (void) close(replay->lock);
        replay->lock = -1;
    }

    if (replay->lock == -1) {
        replay->lock = open((char *) name, O_RDWR|O_CREAT|O_CLOEXEC, 0600);

        if (replay->lock == -1) {
            replay->err = errno;
            return NGX_ERROR;
        }
    }

    if (flock(replay->lock, LOCK_EX|LOCK_NB) == -1) {

        if (errno != EWOULDBLOCK) {
            replay->err = errno;
        }

        return NGX_ERROR;
    }

    replay->leads = 1;

    return NGX_OK;
}


void
ngx_vaani_spool_leave_thread(void *data)
{
    ngx_vaani_spool_replay_t *replay = data;

    ngx_vaani_spool_close(replay);

    if (replay->leads) {
        (void) flock(replay->lock, LOCK_UN);
        replay->leads = 0;
    }
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
 * A segment that can't be read must not stop those behind it.
 */

static void
ngx_vaani_spool_put_aside(ngx_vaani_spool_replay_t *replay, u_char *name,
    ngx_atomic_uint_t number)
{
    switch (replay->err) {

    case EIO:
    case EACCES:
    case EPERM:
    case EINVAL:
    case ENXIO:
    case ELOOP:
        break;

    default:
        /* a matter of the process, not of the file */
        return;
    }

    if (ngx_vaani_spool_put_away(name) == NGX_OK
        && ngx_vaani_spool_sync_dir(replay->spool->path->name.data) == NGX_OK)
    {
        replay->aside = number;
        replay->measured = 0;
    }
}


static ngx_int_t
ngx_vaani_spool_read(ngx_vaani_spool_replay_t *replay, size_t size)
{
    size_t   done;
    ssize_t  n;

    replay->size = size;

    if (size == 0) {
        return NGX_OK;
    }

    /*
     * A mapping, so that the memory goes back to the system; but not of the
     * file, which somebody could cut.
     */

    replay->data = mmap(NULL, size, PROT_READ|PROT_WRITE,
                        MAP_PRIVATE|MAP_ANON, -1, 0);

    if (replay->data == MAP_FAILED) {
        replay->data = NULL;
        return NGX_ERROR;
    }

    for (done = 0; done < size; done += n) {

        n = pread(replay->fd, replay->data + done, size - done, done);

        if (n <= 0) {

            if (n == -1 && errno == EINTR) {
                n = 0;
                continue;
            }

            if (n == 0) {
                errno = EIO;
            }

            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


/*
 * What is kept aside is safe before the segment goes.
 */

void
ngx_vaani_spool_finish_thread(void *data)
{
    ngx_vaani_spool_replay_t *replay = data;

    ngx_err_t                  err;
    ngx_int_t                  rc;
    ngx_str_t                 *dir;
    ngx_vaani_spool_shared_t  *shared;
    u_char                     name[NGX_VAANI_SPOOL_NAME_LEN];

    dir = &replay->spool->path->name;
    shared = ngx_vaani_spool_shared(replay->spool);

    replay->err = 0;
    replay->whole = 0;
    replay->renamed = 0;
    replay->emptied = 0;
    replay->moved = 0;

    if (replay->healing) {

        if (replay->nlate
            && ngx_vaani_spool_append_late(replay, dir) != NGX_OK)
        {
            goto failed;
        }

        ngx_vaani_spool_close(replay);

        return;
    }

    ngx_vaani_spool_segment_name(name, dir, replay->segment);

    if (replay->nlate && ngx_vaani_spool_append_late(replay, dir) != NGX_OK) {

        /*
         * There is no room, say, for what is to be tried later, and what comes
         * behind this segment must not wait for it: as it is, it becomes the
         * last one.  What was delivered is delivered again.
         */

        err = errno;

        if (ngx_vaani_spool_move_last(name, dir, &shared->current,
                                      &replay->late_segment)
            != NGX_OK)
        {
            goto failed;
        }

        ngx_vaani_spool_raise(&shared->appended, replay->late_segment);

        replay->moved = err;

        /* either name is good */

        (void) ngx_vaani_spool_sync_dir(dir->data);

        ngx_vaani_spool_close(replay);

        return;
    }

    do {
        rc = ngx_vaani_spool_keep_aside(replay, dir);
    } while (rc != NGX_OK && ngx_vaani_spool_dropped(replay->spool));

    if (rc != NGX_OK && errno == ENOSPC && replay->ndead == 0
        && ngx_vaani_spool_empty(replay, name) == NGX_OK)
    {
        replay->emptied = 1;
        rc = ngx_vaani_spool_keep_aside(replay, dir);
    }

    if (rc != NGX_OK) {

        if (errno != ENOSPC && errno != EDQUOT && errno != EFBIG) {
            goto failed;
        }

        /*
         * There is no room: all of the segment is kept, as it is, since it has
         * what would be kept.  The name takes no room, or little.
         */

        if (ngx_vaani_spool_put_away(name) != NGX_OK) {
            goto failed;
        }

        replay->whole = 1;
        replay->kept = 1;

    } else if (ngx_vaani_spool_give_up(replay, name, dir) != NGX_OK) {
        goto failed;
    }

    if (ngx_vaani_spool_sync_dir(dir->data) != NGX_OK) {
        goto failed;
    }

    /* after something was put aside it's counted at once */

    if (replay->kept) {
        replay->measured = 0;
    }

    ngx_vaani_spool_close(replay);

    return;

failed:

    replay->err = errno;
}


/*
 * Deletes a segment that was delivered, or keeps it.
 */

static ngx_int_t
ngx_vaani_spool_give_up(ngx_vaani_spool_replay_t *replay, u_char *name,
    ngx_str_t *dir)
{
    u_char  kept[NGX_VAANI_SPOOL_NAME_LEN];

    if (replay->spool->retain && replay->size && !replay->emptied) {
        ngx_vaani_spool_kept_name(kept, dir, replay->segment, replay->mark.id);

        if (ngx_vaani_spool_rename_new(name, kept) == NGX_OK) {
            replay->renamed = 1;
            return NGX_OK;
        }

        /* it's better lost than delivered for ever */
    }

    if (unlink((char *) name) == -1 && errno != ENOENT) {
        return NGX_ERROR;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_vaani_spool_keep_aside(ngx_vaani_spool_replay_t *replay, ngx_str_t *dir)
{
    u_char  name[NGX_VAANI_SPOOL_NAME_LEN];

    if (replay->nbad) {
        ngx_snprintf(name, NGX_VAANI_SPOOL_NAME_LEN, "%V/%020uA.bad%Z", dir,
                     replay->segment);

        if (ngx_vaani_spool_append_file(name, replay->bad, replay->nbad)
            != NGX_OK)
        {
            return NGX_ERROR;
        }

        replay->nbad = 0;
        replay->kept = 1;
    }

    if (replay->ndead) {
        ngx_snprintf(name, NGX_VAANI_SPOOL_NAME_LEN, "%V/dead-letters%Z", dir);

        if (ngx_vaani_spool_append_file(name, replay->dead, replay->ndead)
            != NGX_OK)
        {
            return NGX_ERROR;
        }

        replay->ndead = 0;
        replay->kept = 1;
    }

    return replay->kept ? ngx_vaani_spool_sync_dir(dir->data) : NGX_OK;
}


/*
 * What could not be delivered while others could goes to the end of the spool,
 * and is safe there before the segment goes.  If that is interrupted, it is
 * there twice, which the receiver knows how to ignore.  Room is made first
 * where the file system can, so that a full disk gets no part of it.
 */

static ngx_int_t
ngx_vaani_spool_append_late(ngx_vaani_spool_replay_t *replay, ngx_str_t *dir)
{
    int                        fd;
    ngx_err_t                  err;
    ngx_uint_t                 full;
    ngx_atomic_uint_t          segment;
    ngx_vaani_spool_shared_t  *shared;

    shared = ngx_vaani_spool_shared(replay->spool);

    for (full = 0; /* void */ ; /* void */ ) {

        fd = ngx_vaani_spool_open_current(dir, &shared->current, &segment,
                                          full);

        if (fd == -1) {
            return NGX_ERROR;
        }

        ngx_vaani_spool_raise(&shared->appended, segment);

        if (ngx_vaani_spool_make_room(fd, replay->nlate) == NGX_OK
            && ngx_vaani_spool_write(fd, replay->late, replay->nlate)
               == NGX_OK
            && fdatasync(fd) == 0)
        {
            break;
        }

        err = errno;
        (void) close(fd);
        errno = err;

        /* what waits goes before what is kept */

        if (ngx_vaani_spool_dropped(replay->spool)) {
            continue;
        }

        /* the process may not write larger files, but another one */

        if (err != EFBIG || full) {
            return NGX_ERROR;
        }

        full = 1;
    }

    (void) close(fd);

    (void) ngx_atomic_fetch_add(&shared->bytes, replay->nlate);
    (void) ngx_atomic_fetch_add(&shared->deferred, replay->nrecords);

    replay->late_segment = segment;
    replay->nlate = 0;

    return NGX_OK;
}


static ngx_int_t
ngx_vaani_spool_make_room(int fd, size_t len)
{
#ifdef FALLOC_FL_KEEP_SIZE

    struct stat  st;

    if (fstat(fd, &st) == -1) {
        return NGX_ERROR;
    }

    if (fallocate(fd, FALLOC_FL_KEEP_SIZE, st.st_size, len) == -1
        && (errno == ENOSPC || errno == EDQUOT || errno == EFBIG))
    {
        return NGX_ERROR;
    }

#endif

    return NGX_OK;
}


/*
 * Gives the room of what was delivered back, so that a full disk has some for
 * what is to be kept of the segment: else all of it would be kept, and the disk
 * stay full.  Returns NGX_OK, or NGX_ERROR with errno set to ENOSPC.
 */

static ngx_int_t
ngx_vaani_spool_empty(ngx_vaani_spool_replay_t *replay, u_char *name)
{
#ifdef FALLOC_FL_PUNCH_HOLE

    int                      fd, rc;
    size_t                   from;
    vaani_journal_reader_t   reader;
    vaani_journal_record_t   record;

    fd = open((char *) name, O_WRONLY|O_CLOEXEC);

    if (fd != -1) {
        ngx_memzero(&reader, sizeof(vaani_journal_reader_t));

        reader.data = replay->data;
        reader.len = replay->size;
        from = 0;

        do {
            rc = vaani_journal_next(&reader, &record);

            if (rc == VAANI_JOURNAL_RECORD) {
                continue;
            }

            if (rc == VAANI_JOURNAL_END) {
                record.offset = replay->size;
                record.size = 0;
            }

            /* all records since the last place that is none */

            if (record.offset > from) {
                (void) fallocate(fd, FALLOC_FL_PUNCH_HOLE|FALLOC_FL_KEEP_SIZE,
                                 from, record.offset - from);
            }

            from = record.offset + record.size;

        } while (rc != VAANI_JOURNAL_END);

        (void) close(fd);

        return NGX_OK;
    }

#endif

    errno = ENOSPC;

    return NGX_ERROR;
}
