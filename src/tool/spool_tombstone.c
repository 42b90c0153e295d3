
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "vaani_spool.h"


static int vaani_spool_open_erased(const char *path, const struct stat *owner);
static int vaani_spool_append(int fd, const u_char *record, size_t size);
static int vaani_spool_read_tombstones(vaani_spool_t *spool,
    const char *path);
static int vaani_spool_keep_tombstone(vaani_spool_t *spool, const char *path,
    vaani_journal_record_t *record);
static int vaani_spool_compare(const void *one, const void *two);


/*
 * Appends the tombstone.  Its time is taken under the lock, so that tombstones
 * in the file are in order.
 */

int
vaani_spool_add_tombstone(vaani_spool_t *spool, const char *dir, size_t len)
{
    int          fd;
    char         path[VAANI_SPOOL_PATH_LEN];
    size_t       head, size;
    u_char       record[VAANI_JOURNAL_HEADER + VAANI_JOURNAL_TOMBSTONE
                        + VAANI_ROOM_MAX_LEN];
    struct stat  owner;

    memcpy(path, dir, len);
    memcpy(path + len, "/" VAANI_SPOOL_ERASED,
           sizeof("/" VAANI_SPOOL_ERASED));

    if (stat(dir, &owner) == -1) {
        vaani_spool_complain(spool, dir, strerror(errno));
        return -1;
    }

    fd = vaani_spool_open_erased(path, &owner);

    if (fd == -1) {
        vaani_spool_complain(spool, path,
                             errno == EWOULDBLOCK ? "timed out waiting "
                             "for the lock of another process"
                             : strerror(errno));
        return -1;
    }

    spool->erased_at = vaani_spool_now();

    head = vaani_journal_tombstone_head(record + VAANI_JOURNAL_HEADER,
                                        spool->erased_at);

    memcpy(record + VAANI_JOURNAL_HEADER + head, spool->room.data,
           spool->room.len);

    size = head + spool->room.len;

    vaani_journal_seal(record, size);

    if (vaani_spool_append(fd, record, VAANI_JOURNAL_HEADER + size) != 0
        || vaani_spool_sync_dir(dir) != 0)
    {
        vaani_spool_complain(spool, path, strerror(errno));
        (void) close(fd);
        return -1;
    }

    (void) close(fd);

    return 0;
}


/*
 * Opens and locks the file, whose owner is that of the directory.
 */

static int
vaani_spool_open_erased(const char *path, const struct stat *owner)
{
    int              fd, err, n;
    struct stat      st, named;
    struct timespec  apart = { 0, VAANI_SPOOL_APART };

    for (n = 0; n < VAANI_SPOOL_ATTEMPTS; n++) {

        fd = open(path, O_RDWR|O_CREAT|O_APPEND|O_NOFOLLOW|O_NONBLOCK
                        |O_CLOEXEC, 0600);

        if (fd == -1) {
            return -1;
        }

        if (fstat(fd, &st) == -1) {
            goto failed;
        }

        /* root must not change the owner of another user's file */

        if (!S_ISREG(st.st_mode) || st.st_nlink > 1) {
            errno = EINVAL;
            goto failed;
        }

        if (geteuid() == 0
            && (st.st_uid != owner->st_uid || st.st_gid != owner->st_gid)
            && fchown(fd, owner->st_uid, owner->st_gid) == -1)
        {
            goto failed;
        }

        if (flock(fd, LOCK_EX|LOCK_NB) == -1) {

            if (errno != EWOULDBLOCK && errno != EINTR) {
                goto failed;
            }

        } else if (stat(path, &named) == 0
                   && st.st_ino == named.st_ino
                   && st.st_dev == named.st_dev)
        {
            return fd;
        }

        /* locked, or replaced meanwhile */

        (void) close(fd);
        (void) nanosleep(&apart, NULL);
    }

    errno = EWOULDBLOCK;

    return -1;

failed:

    err = errno;
    (void) close(fd);
    errno = err;

    return -1;
}


/*
 * Writes the whole record, or nothing of it.
 */

static int
vaani_spool_append(int fd, const u_char *record, size_t size)
{
    int          err;
    ssize_t      n;
    struct stat  st;

    if (fstat(fd, &st) == -1) {
        return -1;
    }

    do {
        n = write(fd, record, size);
    } while (n == -1 && errno == EINTR);

    if (n == (ssize_t) size && fsync(fd) == 0) {
        return 0;
    }

    err = (n == -1 || n == (ssize_t) size) ? errno : ENOSPC;

    if (ftruncate(fd, st.st_size) == -1) {
        /* readers skip a partial record */
    }

    errno = err;

    return -1;
}


void
vaani_spool_load_tombstones(vaani_spool_t *spool, const char *path)
{
    size_t       len;
    char         dir[VAANI_SPOOL_PATH_LEN];
    const char  *slash;

    slash = strrchr(path, '/');
    len = slash ? (size_t) (slash - path) : 0;

    if (len + sizeof("/" VAANI_SPOOL_ERASED) > sizeof(dir)) {
        vaani_spool_complain(spool, path, "the path is too long");
        spool->broken = 1;
        return;
    }

    memcpy(dir, path, len);

    if (slash) {
        dir[len++] = '/';
    }

    memcpy(dir + len, VAANI_SPOOL_ERASED, sizeof(VAANI_SPOOL_ERASED));

    if (spool->erased_path && strcmp(spool->erased_path, dir) == 0) {
        return;
    }

    vaani_spool_free_tombstones(spool);

    spool->erased_path = strdup(dir);

    if (spool->erased_path == NULL
        || vaani_spool_read_tombstones(spool, dir) != 0)
    {
        /* erased events must not be applied again */

        vaani_spool_complain(spool, dir, "cannot be read; nothing is sent");
        spool->broken = 1;
        return;
    }

    if (spool->ntombs) {
        qsort(spool->tombs, spool->ntombs, sizeof(vaani_spool_tombstone_t),
              vaani_spool_compare);
    }
}


static int
vaani_spool_read_tombstones(vaani_spool_t *spool, const char *path)
{
    int                     rc;
    vaani_spool_reader_t    reader;
    vaani_journal_record_t  record;

    if (vaani_spool_open(&reader, path, 0) != 0) {
        return (errno == ENOENT) ? 0 : -1;
    }

    do {
        rc = vaani_spool_next(&reader, &record);

        if (rc == VAANI_JOURNAL_BAD) {
            vaani_spool_bad(spool, path, &record);

        } else if (rc == VAANI_JOURNAL_RECORD
                   && vaani_spool_keep_tombstone(spool, path, &record) != 0)
        {
            rc = VAANI_SPOOL_ERROR;
        }

    } while (rc == VAANI_JOURNAL_RECORD || rc == VAANI_JOURNAL_BAD);

    vaani_spool_close(&reader);

    return (rc == VAANI_JOURNAL_END) ? 0 : -1;
}


static int
vaani_spool_keep_tombstone(vaani_spool_t *spool, const char *path,
    vaani_journal_record_t *record)
{
    size_t                    n;
    u_char                   *room;
    uint64_t                  erased_at;
    vaani_spool_tombstone_t  *tombs;

    if (!vaani_journal_tombstone(record, &erased_at)) {
        vaani_spool_bad(spool, path, record);
        return 0;
    }

    if (spool->ntombs == spool->ntombs_alloc) {
        n = spool->ntombs_alloc ? 2 * spool->ntombs_alloc : 64;
        tombs = realloc(spool->tombs, n * sizeof(vaani_spool_tombstone_t));

        if (tombs == NULL) {
            return -1;
        }

        spool->tombs = tombs;
        spool->ntombs_alloc = n;
    }

    room = malloc(record->len);

    if (room == NULL) {
        return -1;
    }

    memcpy(room, record->content, record->len);

    tombs = &spool->tombs[spool->ntombs++];

    tombs->room = room;
    tombs->len = record->len;
    tombs->erased_at = erased_at;

    return 0;
}


/*
 * Sorts by name; for the same name the latest comes first.
 */

static int
vaani_spool_compare(const void *one, const void *two)
{
    int                             rc;
    size_t                          len;
    const vaani_spool_tombstone_t  *a = one, *b = two;

    len = (a->len < b->len) ? a->len : b->len;
    rc = memcmp(a->room, b->room, len);

    if (rc) {
        return rc;
    }

    if (a->len != b->len) {
        return (a->len < b->len) ? -1 : 1;
    }

    return (a->erased_at > b->erased_at) ? -1 : (a->erased_at < b->erased_at);
}


int
vaani_spool_is_erased(const vaani_spool_t *spool, const vaani_str_t *room,
    uint64_t received_at)
{
    size_t                   low, high, middle;
    vaani_spool_tombstone_t  key;

    if (room->len == 0) {
        return 0;
    }

    /* the first one that is not before the latest possible one of this name */

    key.room = (u_char *) room->data;
    key.len = room->len;
    key.erased_at = UINT64_MAX;

    low = 0;
    high = spool->ntombs;

    while (low < high) {
        middle = low + (high - low) / 2;

        if (vaani_spool_compare(&spool->tombs[middle], &key) < 0) {
            low = middle + 1;

        } else {
            high = middle;
        }
    }

    return low < spool->ntombs
           && spool->tombs[low].len == room->len
           && memcmp(spool->tombs[low].room, room->data, room->len) == 0
           && received_at < spool->tombs[low].erased_at;
}


void
vaani_spool_free_tombstones(vaani_spool_t *spool)
{
    size_t  n;

    for (n = 0; n < spool->ntombs; n++) {
        free(spool->tombs[n].room);
    }

    free(spool->tombs);
    free(spool->erased_path);

    spool->tombs = NULL;
    spool->ntombs = 0;
    spool->ntombs_alloc = 0;
    spool->erased_path = NULL;
}


uint64_t
vaani_spool_now(void)
{
    struct timespec  ts;

    if (clock_gettime(CLOCK_REALTIME, &ts) == -1) {
        return 0;
    }

    return (uint64_t) ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}
