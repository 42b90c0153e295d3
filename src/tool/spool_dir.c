
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include <sys/file.h>

#include "vaani_spool.h"


int
vaani_spool_join(vaani_spool_t *spool, char *path, const char *dir,
    const char *name)
{
    if ((size_t) snprintf(path, VAANI_SPOOL_PATH_LEN, "%s/%s", dir, name)
        >= VAANI_SPOOL_PATH_LEN)
    {
        vaani_spool_complain(spool, dir, "the path is too long");
        return -1;
    }

    return 0;
}


/*
 * Writes the directory of a file to dir, of VAANI_SPOOL_PATH_LEN bytes.
 */

int
vaani_spool_parent(const char *path, char *dir)
{
    size_t       len;
    const char  *slash;

    slash = strrchr(path, '/');

    if (slash == NULL) {
        memcpy(dir, ".", 2);
        return 0;
    }

    len = slash - path + 1;

    if (len >= VAANI_SPOOL_PATH_LEN) {
        errno = ENAMETOOLONG;
        return -1;
    }

    memcpy(dir, path, len);
    dir[len] = '\0';

    return 0;
}


/*
 * nginx does not take this lock.  On file systems without locks of
 * directories, such as NFS, no other tool may run at the same time.
 */

int
vaani_spool_lock_dir(const char *path, int operation)
{
    int  fd, err;

    fd = open(path, O_RDONLY|O_DIRECTORY|O_CLOEXEC);

    if (fd == -1) {
        return -1;
    }

    if (flock(fd, operation|LOCK_NB) == 0 || errno != EWOULDBLOCK) {
        return fd;
    }

    (void) fflush(stdout);
    fprintf(stderr, "vaani-spool: %s: waiting for another vaani-spool\n",
            path);

    while (flock(fd, operation) == -1) {

        if (errno != EINTR) {
            err = errno;
            (void) close(fd);
            errno = err;

            return -1;
        }
    }

    return fd;
}


int
vaani_spool_sync_dir(const char *dir)
{
    int  fd, rc, err;

    fd = open(dir, O_RDONLY|O_DIRECTORY|O_CLOEXEC);

    if (fd == -1) {
        return -1;
    }

    rc = fsync(fd);
    err = errno;

    (void) close(fd);

    errno = err;

    return rc;
}
