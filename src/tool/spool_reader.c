
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "vaani_spool.h"


/* how long a reader waits for a lock: 2 s */

#define VAANI_SPOOL_LOOKS      100


static int vaani_spool_check(vaani_spool_reader_t *reader, off_t at,
    vaani_journal_record_t *record);
static off_t vaani_spool_find(vaani_spool_reader_t *reader, off_t from,
    vaani_journal_record_t *record);
static int vaani_spool_crc(vaani_spool_reader_t *reader, off_t at, size_t len,
    uint32_t *crc);


int
vaani_spool_open(vaani_spool_reader_t *reader, const char *path, int writable)
{
    int          err;
    struct stat  st;

    memset(reader, 0, sizeof(vaani_spool_reader_t));

    /* opening a FIFO must not wait for a writer */

    reader->fd = open(path, (writable ? O_RDWR : O_RDONLY)
                            |O_NONBLOCK|O_CLOEXEC);

    if (reader->fd == -1) {
        return -1;
    }

    if (fstat(reader->fd, &st) == -1) {
        err = errno;
        (void) close(reader->fd);
        errno = err;

        return -1;
    }

    if (!S_ISREG(st.st_mode)) {
        (void) close(reader->fd);
        errno = EINVAL;

        return -1;
    }

    reader->size = st.st_size;

    return 0;
}


void
vaani_spool_close(vaani_spool_reader_t *reader)
{
    free(reader->data);

    /* drops the lock */

    (void) close(reader->fd);
}


int
vaani_spool_next(vaani_spool_reader_t *reader, vaani_journal_record_t *record)
{
    int    rc;
    off_t  start, end;

    free(reader->data);
    reader->data = NULL;

    if (reader->pos >= reader->size) {
        return VAANI_JOURNAL_END;
    }

    start = reader->pos;

    rc = vaani_spool_check(reader, start, record);

    if (rc == VAANI_JOURNAL_RECORD) {
        reader->pos += record->size;
    }

    if (rc != VAANI_JOURNAL_BAD) {
        return rc;
    }

    end = vaani_spool_find(reader, start + 1, record);

    if (end == -1) {
        return VAANI_SPOOL_ERROR;
    }

    /* the next call reads the rest */

    free(reader->data);
    reader->data = NULL;

    record->offset = start;
    record->size = end - start;
    record->content = NULL;
    record->len = 0;

    reader->pos = end;

    return VAANI_JOURNAL_BAD;
}


/*
 * The offset of the next record, or the end; -1 on a read error.
 */

static off_t
vaani_spool_find(vaani_spool_reader_t *reader, off_t from,
    vaani_journal_record_t *record)
{
    int      rc;
    size_t   n;
    u_char  *p, *last, chunk[VAANI_SPOOL_CHUNK];


    while (from < reader->size) {
        n = (reader->size - from < VAANI_SPOOL_CHUNK)
            ? (size_t) (reader->size - from) : VAANI_SPOOL_CHUNK;

        if (vaani_spool_read(reader->fd, chunk, n, from) != 0) {
            return -1;
        }

        last = chunk + n;

        for (p = chunk; p < last; p++) {
            p = memchr(p, 0xff, last - p);

            if (p == NULL) {
                break;
            }

            rc = vaani_spool_check(reader, from + (p - chunk), record);

            if (rc == VAANI_SPOOL_ERROR) {
                return -1;
            }

            if (rc == VAANI_JOURNAL_RECORD) {
                return from + (p - chunk);
            }
        }

        from += n;
    }

    return reader->size;
}


/*
 * Whether a record begins there; if so, it is read.
 */

static int
vaani_spool_check(vaani_spool_reader_t *reader, off_t at,
    vaani_journal_record_t *record)
{
    size_t    len;
    uint32_t  crc, expected;
    u_char    head[VAANI_JOURNAL_HEADER];

    if (reader->size - at < VAANI_JOURNAL_HEADER) {
        return VAANI_JOURNAL_BAD;
    }

    if (vaani_spool_read(reader->fd, head, VAANI_JOURNAL_HEADER, at) != 0) {
        return VAANI_SPOOL_ERROR;
    }

    if (memcmp(head, "\xffVJ", 3) != 0
        || (head[3] & ~VAANI_JOURNAL_SENT) != VAANI_JOURNAL_VERSION)
    {
        return VAANI_JOURNAL_BAD;
    }

    len = (uint32_t) head[4] << 24 | head[5] << 16 | head[6] << 8 | head[7];

    if ((off_t) len > reader->size - at - VAANI_JOURNAL_HEADER) {
        return VAANI_JOURNAL_BAD;
    }

    /* allocates no memory for an invalid length */

    crc = vaani_crc32c(0, head + 4, 8);

    if (vaani_spool_crc(reader, at + VAANI_JOURNAL_HEADER, len, &crc) != 0) {
        return VAANI_SPOOL_ERROR;
    }

    expected = (uint32_t) head[12] << 24 | head[13] << 16 | head[14] << 8
               | head[15];

    if (crc != expected) {
        return VAANI_JOURNAL_BAD;
    }

    free(reader->data);
    reader->data = malloc(len ? len : 1);

    if (reader->data == NULL
        || vaani_spool_read(reader->fd, reader->data, len,
                            at + VAANI_JOURNAL_HEADER)
           != 0)
    {
        return VAANI_SPOOL_ERROR;
    }

    reader->sent = (head[3] & VAANI_JOURNAL_SENT) ? 1 : 0;

    record->offset = at;
    record->size = VAANI_JOURNAL_HEADER + len;
    record->content = reader->data;
    record->len = len;

    return VAANI_JOURNAL_RECORD;
}


static int
vaani_spool_crc(vaani_spool_reader_t *reader, off_t at, size_t len,
    uint32_t *crc)
{
    size_t  n;
    u_char  chunk[VAANI_SPOOL_CHUNK];

    for ( /* void */ ; len; len -= n, at += n) {
        n = (len < VAANI_SPOOL_CHUNK) ? len : VAANI_SPOOL_CHUNK;

        if (vaani_spool_read(reader->fd, chunk, n, at) != 0) {
            return -1;
        }

        *crc = vaani_crc32c(*crc, chunk, n);
    }

    return 0;
}


int
vaani_spool_read(int fd, u_char *dst, size_t len, off_t at)
{
    ssize_t  n;

    while (len) {
        n = pread(fd, dst, len, at);

        if (n == -1 && errno == EINTR) {
            continue;
        }

        if (n == 0) {
            errno = EIO;
        }

        if (n <= 0) {
            return -1;
        }

        dst += n;
        at += n;
        len -= n;
    }

    return 0;
}


int
vaani_spool_settle(vaani_spool_reader_t *reader, int keep)
{
    int              n;
    struct stat      st;
    struct timespec  apart = { 0, VAANI_SPOOL_APART };

    for (n = 0; n < VAANI_SPOOL_LOOKS; n++) {

        if (flock(reader->fd, LOCK_EX|LOCK_NB) == -1) {
            (void) nanosleep(&apart, NULL);
            continue;
        }

        if (fstat(reader->fd, &st) == -1 || st.st_size <= reader->size) {

            if (!keep) {
                (void) flock(reader->fd, LOCK_UN);
            }

            return VAANI_SPOOL_SETTLED;
        }

        reader->size = st.st_size;

        (void) flock(reader->fd, LOCK_UN);

        return VAANI_SPOOL_GROWN;
    }

    return VAANI_SPOOL_BUSY;
}


int
vaani_spool_watch(vaani_spool_reader_t *reader)
{
    int              n, open;
    struct stat      st;
    struct timespec  apart = { 0, VAANI_SPOOL_APART };

    for (n = 0; n < VAANI_SPOOL_LOOKS; n++) {

        /* a shared lock, for several readers at a time */

        open = (flock(reader->fd, LOCK_SH|LOCK_NB) == -1);

        if (!open) {
            (void) flock(reader->fd, LOCK_UN);
        }

        if (fstat(reader->fd, &st) == 0 && st.st_size > reader->size) {
            reader->size = st.st_size;
            return VAANI_SPOOL_GROWN;
        }

        if (!open) {
            return VAANI_SPOOL_SETTLED;
        }

        (void) nanosleep(&apart, NULL);
    }

    return VAANI_SPOOL_BUSY;
}


int
vaani_spool_mark(vaani_spool_reader_t *reader, size_t offset)
{
    ssize_t       n;
    const u_char  mark = VAANI_JOURNAL_VERSION | VAANI_JOURNAL_SENT;

    do {
        n = pwrite(reader->fd, &mark, 1, offset + 3);
    } while (n == -1 && errno == EINTR);

    if (n != 1 || fdatasync(reader->fd) == -1) {
        return -1;
    }

    return 0;
}
