
#include "ngx_vaani_spool_private.h"

#include <sys/file.h>
#include <sys/syscall.h>


/* the maximum number of segments to try; more indicates an error */

#define NGX_VAANI_SPOOL_ATTEMPTS    100


/* how often an incomplete write is repeated */

#define NGX_VAANI_SPOOL_WRITES      10


/* the maximum number of files put aside from one segment */

#define NGX_VAANI_SPOOL_ASIDE       10000

/* how often, and how long apart, a lock is tried, us */

#define NGX_VAANI_SPOOL_LOCKS       50
#define NGX_VAANI_SPOOL_LOCK_WAIT   20000


static void ngx_vaani_spool_truncate(int fd, off_t end);


int
ngx_vaani_spool_open_locked(u_char *name, int flags, int lock, struct stat *st)
{
    int  fd;

    fd = open((char *) name, flags|O_CLOEXEC, 0600);

    if (fd != -1 && ngx_vaani_spool_lock_file(fd, name, lock, st) != NGX_OK) {
        ngx_vaani_spool_close_file(fd);
        return -1;
    }

    return fd;
}


ngx_int_t
ngx_vaani_spool_lock_file(int fd, u_char *name, int lock, struct stat *st)
{
    ngx_int_t  rc;

    if (flock(fd, lock|LOCK_NB) == -1) {
        return NGX_ERROR;
    }

    rc = ngx_vaani_spool_is_named(fd, name, st);

    if (rc == NGX_DECLINED) {

        /* a process that renamed the file had the lock then */

        errno = EWOULDBLOCK;
    }

    return (rc == NGX_OK) ? NGX_OK : NGX_ERROR;
}


ngx_int_t
ngx_vaani_spool_is_named(int fd, u_char *name, struct stat *st)
{
    struct stat  named;

    if (fstat(fd, st) == -1) {
        return NGX_ERROR;
    }

    if (stat((char *) name, &named) == -1) {
        return (errno == ENOENT) ? NGX_DECLINED : NGX_ERROR;
    }

    return (st->st_ino == named.st_ino && st->st_dev == named.st_dev)
           ? NGX_OK : NGX_DECLINED;
}


int
ngx_vaani_spool_open_to_read(u_char *name)
{
    return open((char *) name, NGX_VAANI_SPOOL_TO_READ|O_CLOEXEC);
}


ssize_t
ngx_vaani_spool_read_file(int fd, u_char *data, size_t size)
{
    size_t   done;
    ssize_t  n;

    for (done = 0; done < size; done += n) {
        n = pread(fd, data + done, size - done, done);

        if (n == 0) {
            break;
        }

        if (n == -1) {

            if (errno != EINTR) {
                return -1;
            }

            n = 0;
        }
    }

    return done;
}


void
ngx_vaani_spool_close_file(int fd)
{
    ngx_err_t  err;

    err = errno;
    (void) close(fd);
    errno = err;
}


int
ngx_vaani_spool_open_current(ngx_vaani_spool_t *spool,
    ngx_atomic_uint_t *number, ngx_uint_t full)
{
    int                        fd;
    u_char                     name[NGX_VAANI_SPOOL_NAME_LEN];
    ngx_str_t                 *dir;
    ngx_uint_t                 n;
    struct stat                st;
    ngx_atomic_t              *current;
    ngx_atomic_uint_t          segment;
    ngx_vaani_spool_shared_t  *shared;

    dir = &spool->path->name;
    shared = ngx_vaani_spool_shared(spool);
    current = &shared->current;

    for (n = 0; n < NGX_VAANI_SPOOL_ATTEMPTS; n++) {
        segment = *current;

        if (full && n == 0) {
            (void) ngx_atomic_cmp_set(current, segment, segment + 1);
            continue;
        }

        ngx_vaani_spool_segment_name(name, dir, segment);

        /* a process that replays a segment holds an exclusive lock on it */

        fd = ngx_vaani_spool_open_locked(name, O_WRONLY|O_CREAT|O_APPEND,
                                         LOCK_SH, &st);

        if (fd == -1 && errno != EWOULDBLOCK) {
            return -1;
        }

        /*
         * The segment may have been replayed and deleted during open(), which
         * has created it again: newer records in it would be overtaken.
         */

        if (fd != -1 && *current == segment
            && st.st_size < NGX_VAANI_SPOOL_SEGMENT)
        {
            if (st.st_size == 0
                && ngx_vaani_spool_sync_dir(dir->data) != NGX_OK)
            {
                ngx_vaani_spool_close_file(fd);
                return -1;
            }

            /* even if this process ends before it counts the record */

            ngx_vaani_spool_raise(&shared->appended, segment);

            *number = segment;

            return fd;
        }

        if (fd != -1) {
            (void) close(fd);
        }

        (void) ngx_atomic_cmp_set(current, segment, segment + 1);
    }

    errno = EAGAIN;

    return -1;
}


ngx_int_t
ngx_vaani_spool_sync_dir(u_char *dir)
{
    int  fd, rc;

    fd = open((char *) dir, O_RDONLY|O_DIRECTORY|O_CLOEXEC);

    if (fd == -1) {
        return NGX_ERROR;
    }

    rc = fsync(fd);

    ngx_vaani_spool_close_file(fd);

    return (rc == -1) ? NGX_ERROR : NGX_OK;
}


/*
 * An incomplete write is repeated, not continued: another process may have
 * appended in between.
 */

ngx_int_t
ngx_vaani_spool_write(int fd, u_char *data, size_t len)
{
    ssize_t     n;
    ngx_uint_t  i;

    for (i = 0; i < NGX_VAANI_SPOOL_WRITES; i++) {
        n = write(fd, data, len);

        if (n == (ssize_t) len) {
            return NGX_OK;
        }

        if (n == -1 && errno != EINTR) {
            return NGX_ERROR;
        }
    }

    errno = EIO;

    return NGX_ERROR;
}


ngx_int_t
ngx_vaani_spool_write_alone(int fd, u_char *data, size_t len, off_t end)
{
    size_t   done;
    ssize_t  n;

    for (done = 0; done < len; done += n) {
        n = write(fd, data + done, len - done);

        if (n == -1) {

            if (errno != EINTR) {
                ngx_vaani_spool_truncate(fd, end);
                return NGX_ERROR;
            }

            n = 0;
        }
    }

    return NGX_OK;
}


/*
 * Keeps errno, unless that fails as well.
 */

static void
ngx_vaani_spool_truncate(int fd, off_t end)
{
    ngx_err_t  err;

    err = errno;

    if (ftruncate(fd, end) == 0) {
        errno = err;
    }
}


ngx_int_t
ngx_vaani_spool_rename_bad(u_char *segment)
{
    u_char      to[NGX_VAANI_SPOOL_NAME_LEN];
    ngx_int_t   rc;
    ngx_uint_t  n;

    ngx_snprintf(to, NGX_VAANI_SPOOL_NAME_LEN, "%s.bad%Z", segment);

    for (n = 1; n <= NGX_VAANI_SPOOL_ASIDE; n++) {
        rc = ngx_vaani_spool_rename_new(segment, to);

        if (rc == NGX_OK || errno != EEXIST) {
            return rc;
        }

        ngx_snprintf(to, NGX_VAANI_SPOOL_NAME_LEN, "%s.%ui.bad%Z", segment, n);
    }

    return NGX_ERROR;
}


ngx_int_t
ngx_vaani_spool_rename_last(ngx_vaani_spool_t *spool, u_char *segment,
    ngx_atomic_uint_t *number)
{
    u_char                     to[NGX_VAANI_SPOOL_NAME_LEN];
    ngx_uint_t                 n;
    ngx_atomic_uint_t          last;
    ngx_vaani_spool_shared_t  *shared;

    shared = ngx_vaani_spool_shared(spool);

    for (n = 0; n < NGX_VAANI_SPOOL_ATTEMPTS; n++) {
        last = shared->current;

        /* no other process uses the number in between */

        if (last + 2 > NGX_VAANI_SPOOL_LAST
            || !ngx_atomic_cmp_set(&shared->current, last, last + 2))
        {
            continue;
        }

        ngx_vaani_spool_segment_name(to, &spool->path->name, last + 1);

        if (ngx_vaani_spool_rename_new(segment, to) == NGX_OK) {
            ngx_vaani_spool_raise(&shared->appended, last + 1);

            *number = last + 1;

            return NGX_OK;
        }

        if (errno != EEXIST) {
            return NGX_ERROR;
        }
    }

    errno = EAGAIN;

    return NGX_ERROR;
}


ngx_int_t
ngx_vaani_spool_rename_new(u_char *from, u_char *to)
{
    struct stat  st;

#if (NGX_LINUX && defined SYS_renameat2)

    /* RENAME_NOREPLACE, which older headers do not have */

    if (syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 1) == 0) {
        return NGX_OK;
    }

    if (errno != EINVAL && errno != ENOSYS) {
        return NGX_ERROR;
    }

#endif

    if (link((char *) from, (char *) to) == 0) {
        return (unlink((char *) from) == 0) ? NGX_OK : NGX_ERROR;
    }

    if (errno == EEXIST) {
        return NGX_ERROR;
    }

    /*
     * a directory, or a file system without links; no other process does this
     */

    if (lstat((char *) to, &st) == 0) {
        errno = EEXIST;
        return NGX_ERROR;
    }

    return (rename((char *) from, (char *) to) == 0) ? NGX_OK : NGX_ERROR;
}


/*
 * An operator may move the file away, resend its records and delete it.  Then
 * a new file is created.
 */

ngx_int_t
ngx_vaani_spool_append_file(u_char *name, u_char *data, size_t len)
{
    int          fd;
    off_t        end;
    ngx_int_t    rc;
    ngx_uint_t   n;
    struct stat  st;

    for (n = 1; /* void */ ; n++) {
        fd = ngx_vaani_spool_open_locked(name, O_WRONLY|O_CREAT|O_APPEND,
                                         LOCK_EX, &st);

        if (fd != -1) {
            break;
        }

        if (errno != EWOULDBLOCK || n == NGX_VAANI_SPOOL_LOCKS) {
            return NGX_ERROR;
        }

        (void) usleep(NGX_VAANI_SPOOL_LOCK_WAIT);
    }

    rc = NGX_ERROR;
    end = lseek(fd, 0, SEEK_END);

    if (end != -1) {
        rc = ngx_vaani_spool_write_alone(fd, data, len, end);
    }

    if (rc == NGX_OK && fdatasync(fd) == -1) {

        /* it is retried, or kept elsewhere */

        ngx_vaani_spool_truncate(fd, end);
        rc = NGX_ERROR;
    }

    ngx_vaani_spool_close_file(fd);

    return rc;
}
