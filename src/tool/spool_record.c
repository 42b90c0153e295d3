
#include <errno.h>
#include <string.h>

#include "vaani_spool.h"


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


void
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
        vaani_spool_complain(spool, path, "out of memory");
        return;
    }

    if (rc != VAANI_OK) {
        printf("%s:%zu: damaged: the record has another version or contains no "
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
 * Handles a record that is not of an event.  Returns 1 if it was one.
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
        printf("%s:%zu: skipped, not a refused delivery; use \"resend "
               "REDIS\"\n",
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
 * Waiting events were never applied.  Therefore they are sent whatever their
 * age, as nginx does.
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

    /* records sent before remain only because of others in the file */

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
        printf("%s:%zu: skipped, a refused delivery; use \"resend --to\"\n",
               path, record->offset);
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
        vaani_spool_complain(spool, path, "out of memory");
        return;
    }

    spool->nrefusals++;
    vaani_spool_print_refusal(path, record, &event, received_at, reason);
}


/*
 * The mark is set after the receiver's answer: an interruption in between
 * sends the record twice.
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
        fprintf(stderr, "vaani-spool: %s:%zu: sent, but cannot mark it: "
                "%s\n", path, record->offset, strerror(errno));
        spool->failed = 1;
        spool->nrefused++;
    }
}
