
/*
 * vaani-spool: what its parts share.
 */


#ifndef _VAANI_SPOOL_H_INCLUDED_
#define _VAANI_SPOOL_H_INCLUDED_


#include <stdio.h>
#include <sys/types.h>

#include <hiredis/hiredis.h>

#include "../core/vaani_body.h"
#include "../core/vaani_record.h"
#include "../spool/vaani_journal.h"


typedef enum {
    VAANI_SPOOL_LIST = 0,
    VAANI_SPOOL_VERIFY,
    VAANI_SPOOL_RESEND,             /* events, to Redis */
    VAANI_SPOOL_POST                /* refused deliveries, to an endpoint */
} vaani_spool_mode_e;


/* freed after each record */

typedef struct vaani_spool_block_s  vaani_spool_block_t;

struct vaani_spool_block_s {
    vaani_spool_block_t  *next;
    size_t                size;
};


/*
 * A file that is read record by record: no more than one of them is in memory.
 */

typedef struct {
    int                   fd;
    off_t                 pos;
    off_t                 size;
    u_char               *data;         /* of the record, NULL: none */
    unsigned              sent;         /* the record was sent again */
} vaani_spool_reader_t;


/* besides those of the journal */

#define VAANI_SPOOL_ERROR      3


typedef struct vaani_spool_target_s  vaani_spool_target_t;


typedef struct {
    vaani_spool_mode_e     mode;
    redisContext          *redis;
    vaani_spool_target_t  *target;      /* of refused deliveries */

    vaani_spool_block_t   *blocks;
    vaani_alloc_t          alloc;

    unsigned long          nrecords;
    unsigned long          nrefusals;
    unsigned long          nbad;
    unsigned long          nsent;
    unsigned long          nduplicates;
    unsigned long          nunpublished;
    unsigned long          nrefused;
    int                    failed;
} vaani_spool_t;


/*
 * spool_file.c: files.  Errors were told, and spool->failed is set.
 */

void vaani_spool_path(vaani_spool_t *spool, const char *path);


/*
 * spool_reader.c
 */

/*
 * Begins to read a regular file.  Returns 0, or -1 with errno set.
 */
int vaani_spool_open(vaani_spool_reader_t *reader, const char *path,
    int writable);

void vaani_spool_close(vaani_spool_reader_t *reader);

/*
 * Gives the next record; its content is valid until the next call.  Returns as
 * vaani_journal_next(), or VAANI_SPOOL_ERROR with errno set.  Of bad bytes,
 * only record->offset and ->size are set.
 */
int vaani_spool_next(vaani_spool_reader_t *reader,
    vaani_journal_record_t *record);

#define VAANI_SPOOL_SETTLED    0        /* nobody writes, nothing was added */
#define VAANI_SPOOL_GROWN      1        /* there is more to be read */
#define VAANI_SPOOL_BUSY       2        /* nginx is at work on it */

/*
 * Looks at a moment when nobody writes to the file whether there is more of
 * it.  The lock that this takes is held for that moment only, unless keep is
 * set and the file has settled.
 */
int vaani_spool_settle(vaani_spool_reader_t *reader, int keep);

/*
 * Marks the record at that offset as one that was sent again: one byte, so that
 * a crash leaves it as it was or marked.  Returns 0, or -1 with errno set.
 */
int vaani_spool_mark(vaani_spool_reader_t *reader, size_t offset);


/*
 * spool_print.c
 */

/*
 * since (Unix time, s) and tries: of an event that could not be delivered while
 * others could; tries is 0 for others.
 */
void vaani_spool_print(const char *path, const vaani_journal_record_t *record,
    const vaani_delivery_t *delivery, const vaani_event_t *event,
    const vaani_str_t *reason, uint64_t since, unsigned tries);

/* event: what could be read of the body; its name and room may be NULL */
void vaani_spool_print_refusal(const char *path,
    const vaani_journal_record_t *record, const vaani_event_t *event,
    uint64_t received_at, const vaani_str_t *reason);


/*
 * spool_redis.c
 */

/* returns NULL if that failed, which was told */
redisContext *vaani_spool_connect(const char *url);

void vaani_spool_send(vaani_spool_t *spool, const char *path,
    const vaani_journal_record_t *record, const vaani_event_t *event,
    const vaani_delivery_t *delivery);


/*
 * spool_post.c: where refused deliveries are posted to
 */

/*
 * Takes the options of "resend --to" from argv[*i] on, and leaves *i at the
 * first path.  Returns 0, or the exit status: 1 if something can't be used,
 * which was told, 2 for a wrong use.
 */
int vaani_spool_target(vaani_spool_t *spool, int argc, char **argv, int *i);

/*
 * Posts a body as a delivery of now.  Returns the status of the answer, or -1
 * with *why set.
 */
int vaani_spool_post(vaani_spool_target_t *target, const u_char *body,
    size_t len, const char **why);


/* memory of spool->alloc */
void *vaani_spool_alloc(void *ctx, size_t size);
void vaani_spool_free(vaani_spool_t *spool);


#endif /* _VAANI_SPOOL_H_INCLUDED_ */
