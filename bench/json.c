
/*
 * How fast a body is validated: bytes a second for a call_postprocessing with
 * a transcript of a mebibyte, of several kinds of text; once only the scan, and
 * once with all that is made of an event, escapes decoded.  The words of a text
 * come in random order: a processor learns the branches of a short text that is
 * repeated, and no transcript repeats.  Single-threaded,
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
#define BENCH_WORDS     64


typedef struct {
    const char  *name;
    const char  *words;         /* each followed by a space */
} bench_text_t;


typedef int (*bench_pt)(const u_char *body, size_t len, vaani_alloc_t *alloc);


static size_t bench_make(u_char *body, const char *words);
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
      "Agent: Good morning, this is the clinic. How can I help you today? " },

    { "English, a line break each turn",
      "User: I would like to move my appointment to Thursday afternoon.\\n " },

    { "English, typographic quotes",
      "Agent: Good morning, this is the clinic. I’m here to help you, so what "
      "can we do for you today? User: I would like to move my appointment to "
      "Thursday, if that’s possible. " },

    { "Hindi (3 bytes a letter)",
      "एजेंट: नमस्ते, मैं आपकी क्या सहायता कर सकता हूँ? "
      "ग्राहक: मुझे समय बदलना है। " },

    { "Hindi, a line break each turn",
      "एजेंट: नमस्ते, मैं आपकी क्या सहायता कर सकता हूँ?\\n "
      "ग्राहक: मुझे समय बदलना है।\\n " },

    { "Hindi and English",
      "Agent: नमस्ते, Dr. Sharma की clinic में आपका स्वागत है। User: मेरा "
      "appointment 14:30 पर है, 12 तारीख, please reschedule कर दीजिए। " },

    { "German (2 bytes now and then)",
      "Agentin: Schönen guten Tag, möchten Sie den Termin für März ändern? " },

    { "English, with emoji (4 bytes)",
      "Agent: Great 😀 you are all set 👍 see you on Thursday 📅 at ten, bye "
      "👋🏽 " },

    { "Hindi, each letter escaped",
      "\\u0928\\u092e\\u0938\\u094d\\u0924\\u0947, "
      "\\u0906\\u092a\\u0915\\u0940 \\u0938\\u0939\\u093e\\u092f"
      "\\u0924\\u093e \\ud83d\\ude4f " },

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
        len = bench_make(bench_body, text->words);
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
bench_make(u_char *body, const char *words)
{
    size_t       n, len, nwords;
    uint32_t     seed;
    const char  *word[BENCH_WORDS + 1];

    n = sprintf((char *) body, "{\"event\":\"call_postprocessing\","
                "\"room_name\":\"room_1\",\"call_duration\":42000,"
                "\"transcript\":\"");

    word[0] = words;

    for (nwords = 1; *words; words++) {
        if (*words == ' ' && nwords < BENCH_WORDS) {
            word[nwords++] = words + 1;
        }
    }

    word[nwords] = words;

    seed = 1;

    do {
        seed = seed * 1664525 + 1013904223;
        len = (seed >> 16) % nwords;

        words = word[len];
        len = word[len + 1] - words;

        memcpy(body + n, words, len);
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
