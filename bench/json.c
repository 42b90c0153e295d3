
/*
 * How fast a body is validated: bytes a second for a call_postprocessing with
 * a transcript of a mebibyte, of several kinds of text; once only the scan, and
 * once with all that is made of an event, escapes decoded.  Single-threaded,
 * the best of several rounds: what else the machine does only slows it down.
 *
 *     json [rounds]
 */


#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "vaani_event.h"


#define BENCH_TEXT_LEN  (1024 * 1024)
#define BENCH_ROUNDS    200


typedef struct {
    const char  *name;
    const char  *text;          /* repeated until there is enough */
} bench_text_t;


typedef int (*bench_pt)(const u_char *body, size_t len, vaani_alloc_t *alloc);


static size_t bench_make(u_char *body, const char *text);
static double bench_seconds(bench_pt run, const u_char *body, size_t len,
    size_t rounds);
static int bench_scan(const u_char *body, size_t len, vaani_alloc_t *alloc);
static int bench_parse(const u_char *body, size_t len, vaani_alloc_t *alloc);
static double bench_now(void);
static void *bench_alloc(void *ctx, size_t size);


static u_char  bench_body[BENCH_TEXT_LEN + 1024];

/* an arena for what is decoded */

static u_char  bench_arena[2 * BENCH_TEXT_LEN];
static size_t  bench_used;


static const bench_text_t  bench_texts[] = {
    { "English, no escapes",
      "Agent: Good morning, this is the clinic. How can I help you today?  " },

    { "English, a line break each turn",
      "User: I would like to move my appointment to Thursday afternoon.\\n" },

    { "Hindi (3 bytes a letter)",
      "एजेंट: नमस्ते, मैं आपकी क्या सहायता कर सकता हूँ? "
      "ग्राहक: मुझे समय बदलना है। " },

    { "German (2 bytes now and then)",
      "Agentin: Schönen guten Tag, möchten Sie den Termin für März ändern?  " },

    { NULL, NULL }
};


int
main(int argc, char **argv)
{
    size_t               len, rounds;
    double               scan, parse;
    const bench_text_t  *text;

    rounds = (argc > 1) ? strtoul(argv[1], NULL, 10) : BENCH_ROUNDS;

    printf("%-34s %12s %12s\n", "GB/s", "scan", "event");

    for (text = bench_texts; text->name; text++) {
        len = bench_make(bench_body, text->text);
        scan = bench_seconds(bench_scan, bench_body, len, rounds);
        parse = bench_seconds(bench_parse, bench_body, len, rounds);

        if (scan < 0 || parse < 0) {
            fprintf(stderr, "%s: not valid\n", text->name);
            return 1;
        }

        printf("%-34s %12.2f %12.2f\n", text->name, len / scan / 1e9,
               len / parse / 1e9);
    }

    return 0;
}


static size_t
bench_make(u_char *body, const char *text)
{
    size_t  n, len;

    n = sprintf((char *) body, "{\"event\":\"call_postprocessing\","
                "\"room_name\":\"room_1\",\"call_duration\":42000,"
                "\"transcript\":\"");

    len = strlen(text);

    do {
        memcpy(body + n, text, len);
        n += len;
    } while (n < BENCH_TEXT_LEN);

    return n + sprintf((char *) body + n, "\"}");
}


/*
 * The seconds that one body takes, or -1 if it isn't valid.
 */

static double
bench_seconds(bench_pt run, const u_char *body, size_t len, size_t rounds)
{
    size_t         n;
    double         start, seconds, best;
    vaani_alloc_t  alloc;

    alloc.alloc = bench_alloc;
    alloc.ctx = NULL;
    best = -1;

    for (n = 0; n < rounds; n++) {
        bench_used = 0;
        start = bench_now();

        if (run(body, len, &alloc) != VAANI_OK) {
            return -1;
        }

        seconds = bench_now() - start;

        if (best < 0 || seconds < best) {
            best = seconds;
        }
    }

    return best;
}


static int
bench_scan(const u_char *body, size_t len, vaani_alloc_t *alloc)
{
    vaani_json_t                       json;
    vaani_json_error_t                 error;
    static const vaani_json_options_t  options = { &vaani_event_data, 0 };

    return vaani_json_scan(&json, body, len, &options, alloc, &error);
}


static int
bench_parse(const u_char *body, size_t len, vaani_alloc_t *alloc)
{
    vaani_str_t               text;
    vaani_event_t             event;
    vaani_event_error_t       error;
    static const vaani_str_t  none;

    text.data = body;
    text.len = len;

    return vaani_event_parse(&event, &text, &none, 0, 0, alloc, &error);
}


static double
bench_now(void)
{
    struct timespec  ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);

    return ts.tv_sec + ts.tv_nsec / 1e9;
}


static void *
bench_alloc(void *ctx, size_t size)
{
    void  *p;

    (void) ctx;

    size = (size + 15) & ~(size_t) 15;

    if (size > sizeof(bench_arena) - bench_used) {
        return NULL;
    }

    p = bench_arena + bench_used;
    bench_used += size;

    return p;
}
