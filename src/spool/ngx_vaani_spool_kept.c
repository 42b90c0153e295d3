
#include "ngx_vaani_spool_private.h"

#include <sys/file.h>


/*
 * Files of records that the receiver has answered, for use in threads.  Each
 * has one writer, see ngx_vaani_spool_writer.c. Errors are in errno.
 */


#define NGX_VAANI_SPOOL_KEPT_SUFFIX  ".kept"

/* until its writer has locked it */

#define NGX_VAANI_SPOOL_NEW_SUFFIX  ".new"


static ngx_int_t ngx_vaani_spool_write_start(int fd, off_t *size);
static ngx_int_t ngx_vaani_spool_drop_oldest(ngx_vaani_spool_t *spool);


void
ngx_vaani_spool_kept_name(u_char *dst, ngx_str_t *dir,
    ngx_atomic_uint_t number, u_char *id)
{
    (void) ngx_snprintf(dst, NGX_VAANI_SPOOL_NAME_LEN, "%V/%020uA-%*s%s%Z",
                        dir, number, (size_t) NGX_VAANI_SPOOL_ID_LEN, id,
                        NGX_VAANI_SPOOL_KEPT_SUFFIX);
}


ngx_int_t
ngx_vaani_spool_parse_kept(char *name, ngx_atomic_uint_t *number, u_char *id)
{
    size_t       len;
    ngx_uint_t   n;
    const char  *rest;

    len = ngx_strlen(name);

    *number = ngx_vaani_spool_number(name);

    if (*number == 0
        || len < NGX_VAANI_SPOOL_DIGITS + 1 + NGX_VAANI_SPOOL_ID_LEN
        || name[NGX_VAANI_SPOOL_DIGITS] != '-')
    {
        return NGX_DECLINED;
    }

    for (n = 0; n < NGX_VAANI_SPOOL_ID_LEN; n++) {
        id[n] = name[NGX_VAANI_SPOOL_DIGITS + 1 + n];

        if ((id[n] < '0' || id[n] > '9') && (id[n] < 'a' || id[n] > 'f')) {
            return NGX_DECLINED;
        }
    }

    rest = name + NGX_VAANI_SPOOL_DIGITS + 1 + NGX_VAANI_SPOOL_ID_LEN;

    if (ngx_strcmp(rest, NGX_VAANI_SPOOL_KEPT_SUFFIX) == 0) {
        return NGX_OK;
    }

    if (ngx_strcmp(rest, NGX_VAANI_SPOOL_KEPT_SUFFIX
                         NGX_VAANI_SPOOL_NEW_SUFFIX)
        == 0)
    {
        return NGX_BUSY;
    }

    return NGX_DECLINED;
}


/*
 * The lock shows that the file has a writer.  It is taken before the file gets
 * the name by which others find it.
 */

int
ngx_vaani_spool_create_kept(ngx_str_t *dir, ngx_atomic_uint_t number,
    u_char *id, off_t *size)
{
    int          fd;
    u_char       name[NGX_VAANI_SPOOL_NAME_LEN], new[NGX_VAANI_SPOOL_NAME_LEN];
    ngx_err_t    err;
    struct stat  st;

    ngx_vaani_spool_kept_name(name, dir, number, id);

    (void) ngx_snprintf(new, NGX_VAANI_SPOOL_NAME_LEN, "%s%s%Z", name,
                        NGX_VAANI_SPOOL_NEW_SUFFIX);

    /* after a failed write was undone, the next one goes to its place */

    fd = ngx_vaani_spool_open_locked(new, O_WRONLY|O_CREAT|O_EXCL|O_APPEND,
                                     LOCK_EX, &st);

    if (fd == -1
        || ngx_vaani_spool_write_start(fd, size) != NGX_OK
        || ngx_vaani_spool_rename_new(new, name) != NGX_OK)
    {
        err = errno;

        /*
         * it may exist without a lock, and no other process creates that name
         */

        (void) unlink((char *) new);

        if (fd != -1) {
            (void) close(fd);
        }

        errno = err;

        return -1;
    }

    return fd;
}


/*
 * The age of a file must not depend on the clock.
 */

static ngx_int_t
ngx_vaani_spool_write_start(int fd, off_t *size)
{
    u_char  record[VAANI_JOURNAL_HEADER + VAANI_JOURNAL_START];

    *size = sizeof(record);

    vaani_journal_start(record + VAANI_JOURNAL_HEADER,
                        ngx_vaani_spool_boot_id(), ngx_vaani_spool_boottime());
    vaani_journal_seal(record, VAANI_JOURNAL_START);

    return ngx_vaani_spool_write_alone(fd, record, sizeof(record), 0);
}


/*
 * A process that finds the disk full frees space: it deletes the oldest closed
 * kept segment.  A segment that is being read stays readable.
 *
 * Returns NGX_OK, NGX_DECLINED if there is none, or NGX_ERROR.
 */

static ngx_int_t
ngx_vaani_spool_drop_oldest(ngx_vaani_spool_t *spool)
{
    int                        fd;
    DIR                       *d;
    u_char                     id[NGX_VAANI_SPOOL_ID_LEN];
    u_char                     oldest[NGX_VAANI_SPOOL_ID_LEN];
    u_char                     name[NGX_VAANI_SPOOL_NAME_LEN];
    struct stat                st;
    struct dirent             *de;
    ngx_atomic_uint_t          number, lowest, above;
    ngx_vaani_spool_shared_t  *shared;

    shared = ngx_vaani_spool_shared(spool);
    above = 0;

    for ( ;; ) {
        d = opendir((char *) spool->path->name.data);

        if (d == NULL) {
            return NGX_ERROR;
        }

        lowest = 0;

        while ((de = readdir(d)) != NULL) {

            if (ngx_vaani_spool_parse_kept(de->d_name, &number, id) == NGX_OK
                && number > above && (lowest == 0 || number < lowest))
            {
                lowest = number;
                ngx_memcpy(oldest, id, NGX_VAANI_SPOOL_ID_LEN);
            }
        }

        (void) closedir(d);

        if (lowest == 0) {
            return NGX_DECLINED;
        }

        ngx_vaani_spool_kept_name(name, &spool->path->name, lowest, oldest);

        fd = ngx_vaani_spool_open_locked(name, NGX_VAANI_SPOOL_TO_READ,
                                         LOCK_EX, &st);

        if (fd != -1) {
            (void) close(fd);
        }

        if (fd != -1 && unlink((char *) name) == 0) {
            ngx_vaani_spool_lower(&shared->kept_bytes, st.st_size);
            shared->trimmed = 1;
            return NGX_OK;
        }

        above = lowest;
    }
}


ngx_uint_t
ngx_vaani_spool_drop_if_full(ngx_vaani_spool_t *spool)
{
    ngx_err_t  err;

    err = errno;

    if ((err == ENOSPC || err == EDQUOT)
        && ngx_vaani_spool_drop_oldest(spool) == NGX_OK)
    {
        return 1;
    }

    errno = err;

    return 0;
}


ngx_uint_t
ngx_vaani_spool_make_room_for(ngx_vaani_spool_t *spool, size_t len)
{
    ngx_vaani_spool_shared_t  *shared;

    shared = ngx_vaani_spool_shared(spool);

    while (shared->bytes + shared->kept_bytes + len > spool->max) {

        if (shared->kept_bytes == 0
            || ngx_vaani_spool_drop_oldest(spool) != NGX_OK)
        {
            return 0;
        }
    }

    return 1;
}
