
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "vaani_spool.h"


static int vaani_spool_lock_parent(vaani_spool_t *spool, const char *path);
static int vaani_spool_parent(const char *path, char *dir);
static int vaani_spool_begin(vaani_spool_t *spool, vaani_spool_reader_t *reader,
    const vaani_spool_file_t **file, vaani_spool_file_t *renamed, char *path);
static void vaani_spool_records(vaani_spool_t *spool, const char *path,
    vaani_spool_reader_t *reader);
static int vaani_spool_torn(vaani_spool_t *spool, const char *path,
    vaani_spool_reader_t *reader, const vaani_journal_record_t *record);
static int vaani_spool_grown(vaani_spool_t *spool, const char *path,
    vaani_spool_reader_t *reader);
static void vaani_spool_record(vaani_spool_t *spool, const char *path,
    vaani_spool_reader_t *reader, vaani_journal_record_t *record);
static int vaani_spool_special(vaani_spool_t *spool, const char *path,
    vaani_spool_reader_t *reader, vaani_journal_record_t *record);
static void vaani_spool_event(vaani_spool_t *spool, const char *path,
    const vaani_journal_record_t *record, const vaani_event_t *event,
    const vaani_delivery_t *delivery, unsigned letter);
static int vaani_spool_skipped(vaani_spool_t *spool,
    const vaani_event_t *event, const vaani_delivery_t *delivery,
    unsigned letter);
static void vaani_spool_refusal(vaani_spool_t *spool, const char *path,
    vaani_spool_reader_t *reader, const vaani_journal_record_t *record,
    uint64_t received_at, const vaani_str_t *reason);
static void vaani_spool_post_refusal(vaani_spool_t *spool, const char *path,
    vaani_spool_reader_t *reader, const vaani_journal_record_t *record);
static void vaani_spool_drop(vaani_spool_t *spool, const char *path,
    vaani_spool_reader_t *reader);
static void vaani_spool_sync_parent(const char *path);


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

        /* what is marked in a file that was replaced is lost */

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

        vaani_spool_complain(spool, file->path, "nginx is at work on it");

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
 * Writes the directory of a file to dir, of VAANI_SPOOL_PATH_LEN bytes.
 */

static int
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
 * A file of a directory may be gone: nginx has delivered its events, and then
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
            vaani_spool_complain(spool, (*file)->path, "gone meanwhile: "
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

            /* at the end it may be what is being written just now */

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
 * A kept segment is locked as long as it is open; its complete records can be
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

    printf("%s:%zu: nginx is at work on it: %zu bytes are no record yet\n",
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


void
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
    uint64_t             since;
    unsigned             tries, letter;
    vaani_str_t          reason;
    vaani_event_t        event;
    vaani_delivery_t     delivery;
    vaani_event_error_t  error;

    if (vaani_spool_special(spool, path, reader, record)) {
        return;
    }

    reason.data = NULL;
    reason.len = 0;

    letter = vaani_journal_dead_letter(record, &reason.data, &reason.len);

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

    delivery.applied_at = vaani_spool_now();

    if (spool->mode == VAANI_SPOOL_LIST) {
        vaani_spool_print(path, record, &delivery, &event, &reason, since,
                          tries, spool->kind == VAANI_SPOOL_KEPT);
    }

    vaani_spool_event(spool, path, record, &event, &delivery, letter);
}


/*
 * A record that is not of an event.  Returns 1 if it was one.
 */

static int
vaani_spool_special(vaani_spool_t *spool, const char *path,
    vaani_spool_reader_t *reader, vaani_journal_record_t *record)
{
    uint64_t       time;
    vaani_str_t    text;
    const u_char  *boot_id;

    if (vaani_journal_refusal(record, &time, &text.data, &text.len)) {
        vaani_spool_refusal(spool, path, reader, record, time, &text);
        return 1;
    }

    if (reader->sent) {
        vaani_spool_bad(spool, path, record);
        return 1;
    }

    if (spool->mode == VAANI_SPOOL_POST) {
        printf("%s:%zu: not a refused delivery, it is for \"resend REDIS\"\n",
               path, record->offset);
        spool->nrefused++;
        return 1;
    }

    if (vaani_journal_tombstone(record, &time)) {
        spool->ntombstones++;

        if (spool->mode == VAANI_SPOOL_LIST) {
            text.data = record->content;
            text.len = record->len;

            vaani_spool_print_tombstone(path, record, &text, time);
        }

        return 1;
    }

    if (record->offset == 0 && spool->kind == VAANI_SPOOL_KEPT
        && vaani_journal_is_start(record, &boot_id, &time))
    {
        return 1;
    }

    if (spool->kind == VAANI_SPOOL_TOMBSTONES) {
        vaani_spool_bad(spool, path, record);
        return 1;
    }

    return 0;
}


static void
vaani_spool_event(vaani_spool_t *spool, const char *path,
    const vaani_journal_record_t *record, const vaani_event_t *event,
    const vaani_delivery_t *delivery, unsigned letter)
{
    if (spool->mode == VAANI_SPOOL_ERASE) {

        if (!vaani_spool_is_room(spool, &event->room)) {
            return;
        }

        if (delivery->received_at >= spool->erased_at) {
            spool->nlater++;
            return;
        }
    }

    spool->nrecords++;

    if (letter && spool->mode != VAANI_SPOOL_ERASE) {
        spool->nletters++;

    } else if (spool->kind == VAANI_SPOOL_KEPT) {
        spool->nkept++;

    } else {
        spool->nwaiting++;
    }

    if (spool->mode == VAANI_SPOOL_RESEND
        && !vaani_spool_skipped(spool, event, delivery, letter))
    {
        vaani_spool_send(spool, path, record, event, delivery);
    }
}


/*
 * Events that wait were never applied, so they are sent whatever their age, as
 * nginx does it.
 */

static int
vaani_spool_skipped(vaani_spool_t *spool, const vaani_event_t *event,
    const vaani_delivery_t *delivery, unsigned letter)
{
    uint64_t  now;

    if (vaani_spool_is_erased(spool, &event->room, delivery->received_at)) {
        spool->nerased++;
        return 1;
    }

    if (letter || spool->kind != VAANI_SPOOL_KEPT) {
        return 0;
    }

    now = vaani_spool_now();

    if (delivery->ttl && now > delivery->received_at
        && now - delivery->received_at >= delivery->ttl)
    {
        spool->nexpired++;
        return 1;
    }

    if (event->type == NULL) {
        spool->nunknown++;
        return 1;
    }

    return 0;
}


int
vaani_spool_is_room(const vaani_spool_t *spool, const vaani_str_t *room)
{
    return room->len == spool->room.len
           && memcmp(room->data, spool->room.data, room->len) == 0;
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

    switch (spool->mode) {

    case VAANI_SPOOL_LIST:
        break;

    case VAANI_SPOOL_POST:
        spool->nrefusals++;
        vaani_spool_post_refusal(spool, path, reader, record);
        return;

    case VAANI_SPOOL_RESEND:
        spool->nrefusals++;
        printf("%s:%zu: a refused delivery, it is for \"resend --to\"\n", path,
               record->offset);
        spool->nrefused++;
        return;

    default:
        spool->nrefusals++;
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

    spool->nrefusals++;
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
    int   fd;
    char  dir[VAANI_SPOOL_PATH_LEN];

    if (vaani_spool_parent(path, dir) != 0) {
        return;
    }

    fd = open(dir, O_RDONLY|O_DIRECTORY|O_CLOEXEC);

    if (fd != -1) {
        (void) fsync(fd);
        (void) close(fd);
    }
}
