
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/stat.h>

#include "vaani_spool.h"


#define VAANI_SPOOL_PATH_LEN   4096


static void vaani_spool_dir(vaani_spool_t *spool, const char *dir);
static void vaani_spool_refused_dir(vaani_spool_t *spool, const char *dir);
static int vaani_spool_is_ours(const struct dirent *entry);
static void vaani_spool_file(vaani_spool_t *spool, const char *path);
static void vaani_spool_records(vaani_spool_t *spool, const char *path,
    vaani_spool_reader_t *reader);
static int vaani_spool_grown(vaani_spool_t *spool, const char *path,
    vaani_spool_reader_t *reader);
static void vaani_spool_bad(vaani_spool_t *spool, const char *path,
    const vaani_journal_record_t *record);
static void vaani_spool_record(vaani_spool_t *spool, const char *path,
    vaani_spool_reader_t *reader, vaani_journal_record_t *record);
static void vaani_spool_refusal(vaani_spool_t *spool, const char *path,
    vaani_spool_reader_t *reader, const vaani_journal_record_t *record,
    uint64_t received_at, const vaani_str_t *reason);
static void vaani_spool_post_refusal(vaani_spool_t *spool, const char *path,
    vaani_spool_reader_t *reader, const vaani_journal_record_t *record);
static void vaani_spool_drop(vaani_spool_t *spool, const char *path,
    vaani_spool_reader_t *reader);
static void vaani_spool_sync_parent(const char *path);
static void vaani_spool_complain(vaani_spool_t *spool, const char *path,
    const char *why);


void
vaani_spool_path(vaani_spool_t *spool, const char *path)
{
    struct stat  st;

    if (stat(path, &st) == -1) {
        vaani_spool_complain(spool, path, strerror(errno));
        return;
    }

    if (!S_ISDIR(st.st_mode)) {
        vaani_spool_file(spool, path);
        return;
    }

    /* in a spool, only those in "refused" are to be posted, if it has one */

    if (spool->mode != VAANI_SPOOL_POST) {
        vaani_spool_dir(spool, path);
    }

    if (spool->mode != VAANI_SPOOL_RESEND) {
        vaani_spool_refused_dir(spool, path);
    }
}


static void
vaani_spool_refused_dir(vaani_spool_t *spool, const char *dir)
{
    char         path[VAANI_SPOOL_PATH_LEN];
    struct stat  st;

    if ((size_t) snprintf(path, sizeof(path), "%s/refused", dir)
        >= sizeof(path))
    {
        vaani_spool_complain(spool, dir, "the path is too long");
        return;
    }

    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
        vaani_spool_dir(spool, path);

    } else if (spool->mode == VAANI_SPOOL_POST) {
        vaani_spool_dir(spool, dir);
    }
}


static void
vaani_spool_dir(vaani_spool_t *spool, const char *dir)
{
    int              i, n;
    char             path[VAANI_SPOOL_PATH_LEN];
    struct dirent  **entries;

    /* sorted by name, so the oldest segment comes first */

    n = scandir(dir, &entries, vaani_spool_is_ours, alphasort);

    if (n == -1) {
        vaani_spool_complain(spool, dir, strerror(errno));
        return;
    }

    for (i = 0; i < n; i++) {

        if ((size_t) snprintf(path, sizeof(path), "%s/%s", dir,
                              entries[i]->d_name)
            < sizeof(path))
        {
            vaani_spool_file(spool, path);

        } else {
            vaani_spool_complain(spool, dir, "the path is too long");
        }

        free(entries[i]);
    }

    free(entries);
}


static int
vaani_spool_is_ours(const struct dirent *entry)
{
    size_t  len;

    len = strlen(entry->d_name);

    return strcmp(entry->d_name, "dead-letters") == 0
           || (len > 4 && strcmp(entry->d_name + len - 4, ".log") == 0);
}


static void
vaani_spool_file(vaani_spool_t *spool, const char *path)
{
    vaani_spool_reader_t  reader;

    if (vaani_spool_open(&reader, path, spool->mode == VAANI_SPOOL_POST)
        != 0)
    {
        vaani_spool_complain(spool, path, errno == EINVAL ? "not a file"
                                                          : strerror(errno));
        return;
    }

    /* what is being replayed is sent anyway */

    if (spool->mode == VAANI_SPOOL_RESEND
        && vaani_spool_settle(&reader, 0) == VAANI_SPOOL_BUSY)
    {
        vaani_spool_complain(spool, path, "nginx is at work on it");

    } else {
        vaani_spool_records(spool, path, &reader);
    }

    vaani_spool_close(&reader);
}


static void
vaani_spool_records(vaani_spool_t *spool, const char *path,
    vaani_spool_reader_t *reader)
{
    unsigned long           nrefused, nbad;
    vaani_journal_record_t  record;

    nrefused = spool->nrefused;
    nbad = spool->nbad;

    for ( ;; ) {
        switch (vaani_spool_next(reader, &record)) {

        case VAANI_JOURNAL_RECORD:
            vaani_spool_record(spool, path, reader, &record);
            vaani_spool_free(spool);
            break;

        case VAANI_JOURNAL_BAD:

            /* at the end it may be what is being written just now */

            if (reader->pos == reader->size) {

                switch (vaani_spool_settle(reader, 0)) {

                case VAANI_SPOOL_GROWN:
                    reader->pos = record.offset;
                    continue;

                case VAANI_SPOOL_BUSY:
                    printf("%s:%zu: nginx is at work on it: %zu bytes are no "
                           "record yet\n", path, record.offset, record.size);

                    if (spool->mode == VAANI_SPOOL_RESEND
                        || spool->mode == VAANI_SPOOL_POST)
                    {
                        spool->failed = 1;
                    }

                    return;
                }
            }

            vaani_spool_bad(spool, path, &record);
            break;

        case VAANI_JOURNAL_END:

            if (spool->mode == VAANI_SPOOL_RESEND
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
 * Nobody must be able to append between the last look and success.
 */

static int
vaani_spool_grown(vaani_spool_t *spool, const char *path,
    vaani_spool_reader_t *reader)
{
    switch (vaani_spool_settle(reader, 0)) {

    case VAANI_SPOOL_GROWN:
        return 1;

    case VAANI_SPOOL_BUSY:
        vaani_spool_complain(spool, path, "nginx is at work on it");
        return 0;

    default:
        return 0;
    }
}


static void
vaani_spool_bad(vaani_spool_t *spool, const char *path,
    const vaani_journal_record_t *record)
{
    spool->nbad++;

    printf("%s:%zu: damaged: %zu bytes are no record\n", path, record->offset,
           record->size);
}


static void
vaani_spool_record(vaani_spool_t *spool, const char *path,
    vaani_spool_reader_t *reader, vaani_journal_record_t *record)
{
    int                  rc;
    uint64_t             received_at, since;
    unsigned             tries;
    vaani_str_t          reason;
    vaani_event_t        event;
    vaani_delivery_t     delivery;
    vaani_event_error_t  error;

    reason.data = NULL;
    reason.len = 0;

    if (vaani_journal_refusal(record, &received_at, &reason.data,
                              &reason.len))
    {
        vaani_spool_refusal(spool, path, reader, record, received_at, &reason);
        return;
    }

    if (reader->sent) {
        vaani_spool_bad(spool, path, record);
        return;
    }

    if (spool->mode == VAANI_SPOOL_POST) {
        printf("%s:%zu: not a refused delivery, it is for \"resend REDIS\"\n",
               path, record->offset);
        spool->nrefused++;
        return;
    }

    (void) vaani_journal_dead_letter(record, &reason.data, &reason.len);

    since = 0;
    tries = 0;

    (void) vaani_journal_deferred(record, &since, &tries);

    rc = vaani_record_read(&delivery, record->content, record->len,
                           &spool->alloc);

    if (rc == VAANI_OK) {
        rc = vaani_event_parse(&event, &delivery.payload, &delivery.name, 0,
                               delivery.repaired, &spool->alloc, &error);
    }

    if (rc == VAANI_NOMEM) {
        vaani_spool_complain(spool, path, "no memory");
        return;
    }

    if (rc != VAANI_OK) {
        printf("%s:%zu: damaged: the record is of another version or holds no "
               "event\n", path, record->offset);
        spool->nbad++;
        return;
    }

    spool->nrecords++;

    if (spool->mode == VAANI_SPOOL_LIST) {
        vaani_spool_print(path, record, &delivery, &event, &reason, since,
                          tries);

    } else if (spool->mode == VAANI_SPOOL_RESEND) {
        vaani_spool_send(spool, path, record, &event, &delivery);
    }
}


static void
vaani_spool_refusal(vaani_spool_t *spool, const char *path,
    vaani_spool_reader_t *reader, const vaani_journal_record_t *record,
    uint64_t received_at, const vaani_str_t *reason)
{
    int                  rc;
    vaani_str_t          received;
    vaani_part_t         part;
    vaani_body_t         body;
    vaani_event_t        event;
    vaani_event_error_t  error;

    /* what was sent again is only there because others in the file weren't */

    if (reader->sent) {
        return;
    }

    spool->nrefusals++;

    switch (spool->mode) {

    case VAANI_SPOOL_LIST:
        break;

    case VAANI_SPOOL_POST:
        vaani_spool_post_refusal(spool, path, reader, record);
        return;

    case VAANI_SPOOL_RESEND:
        printf("%s:%zu: a refused delivery, it is for \"resend --to\"\n", path,
               record->offset);
        spool->nrefused++;
        return;

    default:
        return;
    }

    /* as far as it can be read */

    memset(&event, 0, sizeof(vaani_event_t));

    received.data = record->content;
    received.len = record->len;

    rc = vaani_body_read(&body, &received, 0, &spool->alloc, &error);

    if (rc == VAANI_OK) {
        rc = vaani_body_next(&body, &event, &part, &error);
    }

    if (rc == VAANI_NOMEM) {
        vaani_spool_complain(spool, path, "no memory");
        return;
    }

    vaani_spool_print_refusal(path, record, &event, received_at, reason);
}


/*
 * It is marked after it was taken: if this ends in between, it is sent twice.
 */

static void
vaani_spool_post_refusal(vaani_spool_t *spool, const char *path,
    vaani_spool_reader_t *reader, const vaani_journal_record_t *record)
{
    int          status;
    const char  *why;

    status = vaani_spool_post(spool->target, record->content, record->len,
                              &why);

    if (status == -1) {
        fflush(stdout);
        fprintf(stderr, "vaani-spool: %s:%zu: %s\n", path, record->offset,
                why);
        spool->nrefused++;
        return;
    }

    if (status < 200 || status > 299) {
        printf("%s:%zu: answered %d\n", path, record->offset, status);
        spool->nrefused++;
        return;
    }

    spool->nsent++;

    if (vaani_spool_mark(reader, record->offset) != 0) {
        fprintf(stderr, "vaani-spool: %s:%zu: sent, but it can't be marked: "
                "%s\n", path, record->offset, strerror(errno));
        spool->failed = 1;
        spool->nrefused++;
    }
}


/*
 * All of a file was sent: it goes, unless nginx has appended to it.  nginx
 * takes the lock before it appends, and looks whether the file is still there.
 */

static void
vaani_spool_drop(vaani_spool_t *spool, const char *path,
    vaani_spool_reader_t *reader)
{
    struct stat  st, named;

    if (vaani_spool_settle(reader, 1) != VAANI_SPOOL_SETTLED) {

        /* the next time, then */

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

    vaani_spool_sync_parent(path);
}


static void
vaani_spool_sync_parent(const char *path)
{
    int          fd;
    char         dir[VAANI_SPOOL_PATH_LEN];
    const char  *slash;

    slash = strrchr(path, '/');

    if (slash == NULL) {
        fd = open(".", O_RDONLY|O_DIRECTORY|O_CLOEXEC);

    } else if ((size_t) (slash - path) < sizeof(dir) - 1) {
        memcpy(dir, path, slash - path + 1);
        dir[slash - path + 1] = '\0';
        fd = open(dir, O_RDONLY|O_DIRECTORY|O_CLOEXEC);

    } else {
        return;
    }

    if (fd != -1) {
        (void) fsync(fd);
        (void) close(fd);
    }
}


static void
vaani_spool_complain(vaani_spool_t *spool, const char *path, const char *why)
{
    fflush(stdout);
    fprintf(stderr, "vaani-spool: %s: %s\n", path, why);

    spool->failed = 1;
}
