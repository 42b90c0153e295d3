
#include <stdio.h>
#include <time.h>

#include "vaani_spool.h"


/* of a time as text, with the null; an invalid one may have a long year */

#define VAANI_SPOOL_TIME_LEN   32


static void vaani_spool_print_place(const char *path,
    const vaani_journal_record_t *record, uint64_t received_at);
static void vaani_spool_time(char *when, uint64_t time);
static double vaani_spool_seconds(void);


void
vaani_spool_print(const char *path, const vaani_journal_record_t *record,
    const vaani_delivery_t *delivery, const vaani_event_t *event,
    const vaani_str_t *reason, uint64_t since, unsigned tries, unsigned kept)
{
    char  when[VAANI_SPOOL_TIME_LEN];

    vaani_spool_print_place(path, record, delivery->received_at);

    vaani_spool_print_str(&event->name);
    putchar(' ');
    vaani_spool_print_str(&delivery->key);
    printf(" %zu bytes", delivery->payload.len);

    if (reason->len) {
        fputs(", refused: ", stdout);
        vaani_spool_print_str(reason);
    }

    if (tries) {
        vaani_spool_time(when, since);
        printf(", tried %u times since %sZ", tries, when);
    }

    if (kept) {
        fputs(", kept", stdout);
    }

    putchar('\n');
}


void
vaani_spool_print_refusal(const char *path,
    const vaani_journal_record_t *record, const vaani_event_t *event,
    uint64_t received_at, const vaani_str_t *reason)
{
    static const vaani_str_t  none = vaani_string("-");

    vaani_spool_print_place(path, record, received_at);

    vaani_spool_print_str(event->name.len ? &event->name : &none);
    putchar(' ');
    vaani_spool_print_str(event->room.len ? &event->room : &none);
    printf(" %zu bytes, refused: ", record->len);
    vaani_spool_print_str(reason);
    putchar('\n');
}


void
vaani_spool_print_tombstone(const char *path,
    const vaani_journal_record_t *record, const vaani_str_t *room,
    uint64_t erased_at)
{
    vaani_spool_print_place(path, record, erased_at);

    fputs("erased ", stdout);
    vaani_spool_print_str(room);
    putchar('\n');
}


static void
vaani_spool_print_place(const char *path, const vaani_journal_record_t *record,
    uint64_t received_at)
{
    printf("%s:%zu: ", path, record->offset);
    vaani_spool_print_time(received_at);
    putchar(' ');
}


void
vaani_spool_print_time(uint64_t time)
{
    char  when[VAANI_SPOOL_TIME_LEN];

    vaani_spool_time(when, time / 1000);

    printf("%s.%03uZ", when, (unsigned) (time % 1000));
}


void
vaani_spool_count(unsigned long n, const char *one, const char *many)
{
    printf("%lu %s", n, n == 1 ? one : many);
}


/*
 * A Unix time, s; prints nothing for an invalid one.
 */

static void
vaani_spool_time(char *when, uint64_t time)
{
    time_t     sec;
    struct tm  tm;

    sec = time;

    if (gmtime_r(&sec, &tm) == NULL
        || strftime(when, VAANI_SPOOL_TIME_LEN, "%Y-%m-%dT%H:%M:%S", &tm)
           == 0)
    {
        when[0] = '\0';
    }
}


/*
 * Names come from outside and must not control a terminal.
 */

void
vaani_spool_print_str(const vaani_str_t *str)
{
    size_t  n;

    for (n = 0; n < str->len; n++) {

        /* a name must not break its line, nor look like the next column */

        if (str->data[n] <= 0x20 || str->data[n] >= 0x7f
            || str->data[n] == '\\')
        {
            printf("\\x%02x", str->data[n]);

        } else {
            putchar(str->data[n]);
        }
    }
}


void
vaani_spool_complain(vaani_spool_t *spool, const char *path, const char *why)
{
    (void) fflush(stdout);
    fprintf(stderr, "vaani-spool: %s: %s\n", path, why);

    spool->failed = 1;
}


void
vaani_spool_bad(vaani_spool_t *spool, const char *path,
    const vaani_journal_record_t *record)
{
    spool->nbad++;

    printf("%s:%zu: damaged: %zu bytes are not a record\n", path,
           record->offset, record->size);
}


/*
 * Prints a line about once per second, for a user who waits.
 */

void
vaani_spool_progress(vaani_spool_t *spool, size_t size)
{
    double  now, took;

    spool->done += size;

    if (!spool->progress) {
        return;
    }

    now = vaani_spool_seconds();

    if (spool->begun == 0) {
        spool->begun = now;
        spool->told = now;
    }

    if (now - spool->told < 1) {
        return;
    }

    took = now - spool->begun;

    (void) fflush(stdout);

    fprintf(stderr, "vaani-spool: %lld of %lld bytes, %lu events, "
            "%.0f events/s\n", (long long) spool->done,
            (long long) (spool->done > spool->total ? spool->done
                                                    : spool->total),
            spool->nrecords, took > 0 ? spool->nrecords / took : 0);

    spool->told = now;
}


static double
vaani_spool_seconds(void)
{
    struct timespec  ts;

    if (clock_gettime(CLOCK_MONOTONIC, &ts) == -1) {
        return 0;
    }

    return ts.tv_sec + ts.tv_nsec / 1e9;
}
