
#include <errno.h>
#include <string.h>
#include <unistd.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "vaani_spool.h"


static int vaani_spool_lock_parent(vaani_spool_t *spool, const char *path);
static int vaani_spool_begin(vaani_spool_t *spool, vaani_spool_reader_t *reader,
    const vaani_spool_file_t **file, vaani_spool_file_t *renamed, char *path);
static void vaani_spool_records(vaani_spool_t *spool, const char *path,
    vaani_spool_reader_t *reader);
static int vaani_spool_torn(vaani_spool_t *spool, const char *path,
    vaani_spool_reader_t *reader, const vaani_journal_record_t *record);
static int vaani_spool_grown(vaani_spool_t *spool, const char *path,
    vaani_spool_reader_t *reader);
static void vaani_spool_drop(vaani_spool_t *spool, const char *path,
    vaani_spool_reader_t *reader);


void
vaani_spool_file(vaani_spool_t *spool, const vaani_spool_file_t *file)
{
    int                   lock;
    char                  path[VAANI_SPOOL_PATH_LEN];
    vaani_spool_file_t    renamed;
    vaani_spool_reader_t  reader;

    if (file->kind == VAANI_SPOOL_ASIDE) {
        vaani_spool_rewrite(spool, file->path);
        return;
    }

    lock = -1;

    if (spool->mode == VAANI_SPOOL_POST) {

        /* marks in a file that was replaced are lost */

        lock = vaani_spool_lock_parent(spool, file->path);

        if (lock == -1) {
            return;
        }
    }

    if (vaani_spool_begin(spool, &reader, &file, &renamed, path) != 0) {
        goto unlock;
    }

    spool->kind = file->kind;

    if (spool->mode == VAANI_SPOOL_RESEND) {
        vaani_spool_load_tombstones(spool, file->path);
    }

    if (spool->broken) {
        /* void */

    } else if (spool->mode == VAANI_SPOOL_RESEND
               && file->kind == VAANI_SPOOL_WAITING
               && vaani_spool_settle(&reader, 0) == VAANI_SPOOL_BUSY)
    {
        /* nginx is sending these events itself */

        vaani_spool_complain(spool, file->path, "skipped, nginx is using it");

    } else {
        vaani_spool_records(spool, file->path, &reader);
    }

    if (spool->redis && !spool->broken) {
        vaani_spool_drain(spool);
    }

    vaani_spool_close(&reader);

unlock:

    if (lock != -1) {
        (void) close(lock);
    }
}


static int
vaani_spool_lock_parent(vaani_spool_t *spool, const char *path)
{
    int   fd;
    char  dir[VAANI_SPOOL_PATH_LEN];

    fd = (vaani_spool_parent(path, dir) == 0)
         ? vaani_spool_lock_dir(dir, LOCK_SH) : -1;

    if (fd == -1) {
        vaani_spool_complain(spool, path, strerror(errno));
    }

    return fd;
}


/*
 * A listed file may no longer exist: nginx has delivered its events, and then
 * deleted or renamed it.
 */

static int
vaani_spool_begin(vaani_spool_t *spool, vaani_spool_reader_t *reader,
    const vaani_spool_file_t **file, vaani_spool_file_t *renamed, char *path)
{
    int  writable;

    writable = (spool->mode == VAANI_SPOOL_POST);

    if (vaani_spool_open(reader, (*file)->path, writable) == 0) {
        return 0;
    }

    if (errno == ENOENT && vaani_spool_renamed(spool, *file, path) == 0
        && vaani_spool_open(reader, path, writable) == 0)
    {
        renamed->path = path;
        renamed->kind = VAANI_SPOOL_KEPT;
        renamed->found = 1;

        *file = renamed;

        return 0;
    }

    if (errno == ENOENT && (*file)->found) {

        if (spool->mode == VAANI_SPOOL_RESEND
            && (*file)->kind == VAANI_SPOOL_WAITING)
        {
            vaani_spool_complain(spool, (*file)->path, "deleted meanwhile: "
                                 "nginx has delivered it");
        }

        return -1;
    }

    vaani_spool_complain(spool, (*file)->path,
                         errno == EINVAL ? "not a file" : strerror(errno));

    return -1;
}


static void
vaani_spool_records(vaani_spool_t *spool, const char *path,
    vaani_spool_reader_t *reader)
{
    unsigned long           nrefused, nbad;
    vaani_journal_record_t  record;

    nrefused = spool->nrefused;
    nbad = spool->nbad;

    while (!spool->broken) {
        switch (vaani_spool_next(reader, &record)) {

        case VAANI_JOURNAL_RECORD:
            vaani_spool_record(spool, path, reader, &record);
            vaani_spool_free(spool);
            vaani_spool_progress(spool, record.size);
            break;

        case VAANI_JOURNAL_BAD:

            /* bytes at the end may belong to a record that is being written */

            if (reader->pos == reader->size) {

                switch (vaani_spool_torn(spool, path, reader, &record)) {

                case VAANI_SPOOL_GROWN:
                    reader->pos = record.offset;
                    continue;

                case VAANI_SPOOL_BUSY:
                    return;
                }
            }

            vaani_spool_bad(spool, path, &record);
            vaani_spool_progress(spool, record.size);
            break;

        case VAANI_JOURNAL_END:

            if (spool->mode == VAANI_SPOOL_RESEND
                && spool->kind == VAANI_SPOOL_WAITING
                && vaani_spool_grown(spool, path, reader))
            {
                continue;
            }

            if (spool->mode == VAANI_SPOOL_POST
                && nrefused == spool->nrefused && nbad == spool->nbad)
            {
                vaani_spool_drop(spool, path, reader);
            }

            return;

        default:
            vaani_spool_complain(spool, path, strerror(errno));
            return;
        }
    }
}


/*
 * A kept segment is locked as long as it is open.  Its complete records can be
 * read at any time.
 */

static int
vaani_spool_torn(vaani_spool_t *spool, const char *path,
    vaani_spool_reader_t *reader, const vaani_journal_record_t *record)
{
    int  rc;

    rc = (spool->kind == VAANI_SPOOL_KEPT) ? vaani_spool_watch(reader)
                                           : vaani_spool_settle(reader, 0);

    if (rc != VAANI_SPOOL_BUSY) {
        return rc;
    }

    printf("%s:%zu: nginx is writing: %zu bytes of an incomplete record\n",
           path, record->offset, record->size);

    if (spool->mode == VAANI_SPOOL_POST
        || (spool->mode == VAANI_SPOOL_RESEND
            && spool->kind != VAANI_SPOOL_KEPT))
    {
        spool->failed = 1;
    }

    return rc;
}


/*
 * No process may append between the last check and success.
 */

static int
vaani_spool_grown(vaani_spool_t *spool, const char *path,
    vaani_spool_reader_t *reader)
{
    switch (vaani_spool_settle(reader, 0)) {

    case VAANI_SPOOL_GROWN:
        return 1;

    case VAANI_SPOOL_BUSY:
        vaani_spool_complain(spool, path, "skipped, nginx is using it");
        return 0;

    default:
        return 0;
    }
}


/*
 * Deletes a file whose records were all sent, unless nginx has appended to it.
 * nginx takes the lock before it appends, and checks that the file still
 * exists.
 */

static void
vaani_spool_drop(vaani_spool_t *spool, const char *path,
    vaani_spool_reader_t *reader)
{
    char         dir[VAANI_SPOOL_PATH_LEN];
    struct stat  st, named;

    if (vaani_spool_settle(reader, 1) != VAANI_SPOOL_SETTLED) {

        /* left for the next run */

        return;
    }

    if (fstat(reader->fd, &st) == -1
        || lstat(path, &named) == -1
        || st.st_ino != named.st_ino
        || st.st_dev != named.st_dev
        || st.st_size != reader->size)
    {
        return;
    }

    if (unlink(path) == -1) {
        vaani_spool_complain(spool, path, strerror(errno));
        return;
    }

    if (vaani_spool_parent(path, dir) == 0) {
        (void) vaani_spool_sync_dir(dir);
    }
}
