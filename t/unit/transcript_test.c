
/*
 * Transcripts that come as an array of turns become lines of text.
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "vaani_contract.h"
#include "vaani_test.h"
#include "vaani_transcript.h"


typedef struct {
    const char          *turns;
    const char          *text;      /* NULL: none */
} transcript_t;


static void check_turns(const char *turns, size_t len, const char *text);


static const transcript_t  transcripts[] = {

    /* the names of the parts, and their order of precedence */

    { "[{\"role\":\"agent\",\"content\":\"Hello\",\"time\":\"10:00:01\"},"
      "{\"speaker\":\"user\",\"text\":\"Hi.\",\"timestamp\":\"10:00:05\"}]",
      "[10:00:01] AGENT: Hello\n[10:00:05] USER: Hi." },
    { "[{\"message\":\"m\"}]", "m" },
    { "[{\"message\":\"m\",\"content\":\"c\",\"text\":\"t\"}]", "t" },
    { "[{\"message\":\"m\",\"content\":\"c\"}]", "c" },
    { "[{\"speaker\":\"s\",\"role\":\"r\",\"text\":\"t\"}]", "R: t" },
    { "[{\"timestamp\":\"2\",\"time\":\"1\",\"text\":\"t\"}]", "[1] t" },

    /* one that is empty or of another type counts as absent */

    { "[{\"text\":\"\",\"content\":\"c\"}]", "c" },
    { "[{\"text\":null,\"content\":\"c\"}]", "c" },
    { "[{\"text\":[],\"content\":{},\"message\":\"m\"}]", "m" },
    { "[{\"role\":null,\"speaker\":\"s\",\"text\":\"t\"}]", "S: t" },
    { "[{\"role\":true,\"time\":{},\"text\":\"t\"}]", "t" },
    { "[{\"role\":\"\",\"time\":\"\",\"text\":\"t\"}]", "t" },

    /* numbers as they are written */

    { "[{\"role\":1,\"text\":2.50,\"time\":1e3}]", "[1e3] 1: 2.50" },

    /* turns that are strings */

    { "[\"a\",\"b\"]", "a\nb" },
    { "[\"\",\"b\"]", "b" },

    /* turns without a text */

    { "[]", NULL },
    { "[ \n ]", NULL },
    { "[{}]", NULL },
    { "[{\"role\":\"agent\",\"time\":\"1\"}]", NULL },
    { "[\"\"]", NULL },
    { "[1,null,true,[\"a\"],[{\"text\":\"t\"}]]", NULL },
    { "[{\"Text\":\"t\"}]", NULL },
    { "[{\"role\":\"a\"},{\"text\":\"t\"},{\"role\":\"b\"}]", "t" },

    /* line breaks become spaces */

    { "[{\"role\":\"a\\nb\",\"text\":\"c\\r\\nd\\n\",\"time\":\"\\n1\"}]",
      "[ 1] A B: c  d " },
    { "[\"a\\nb\",\"c\\\\nd\"]", "a b\nc\\nd" },

    /* the role is in capitals (ASCII letters only) */

    { "[{\"role\":\"Agent 2\",\"text\":\"aB\"}]", "AGENT 2: aB" },
    { "[{\"role\":\"\xc3\xa9t\xc3\xa9\",\"text\":\"t\"}]",
      "\xc3\xa9T\xc3\xa9: t" },

    /* escapes, and half a pair of surrogates */

    { "[{\"\\u0072ole\":\"\\u0061\",\"te\\u0078t\":\"\\ud83d\\ude00\"}]",
      "A: \xf0\x9f\x98\x80" },
    { "[\"thank you \\ud83d\"]", "thank you \xef\xbf\xbd" },

    /* a key twice: the last one counts */

    { "[{\"text\":\"a\",\"text\":\"b\"}]", "b" },
    { "[{\"text\":\"a\",\"text\":null,\"message\":\"m\"}]", "m" },

    /* members inside "data" do not count */

    { "[{\"data\":{\"text\":\"t\"}}]", NULL },

    { " [ { \"text\" : \"t\" } , \"u\" ]", "t\nu" }
};


static void
check_turns(const char *turns, size_t len, const char *text)
{
    int                 rc;
    size_t              n, all;
    vaani_str_t         raw, lines, expected;
    vaani_test_arena_t  arena;

    while (*turns == ' ') {
        turns++;
        len--;
    }

    vaani_test_arena_init(&arena);

    raw.data = vaani_test_text(&arena, turns, len);
    raw.len = len;

    rc = vaani_transcript_text(&raw, &arena.alloc, &lines);

    vaani_test_that(rc == (text ? VAANI_OK : VAANI_DONE), "%s: rc %d", turns,
                    rc);

    if (text) {
        vaani_test_that(vaani_contract_str_is(&lines, text), "%s: %s", turns,
                        vaani_test_show_str(&lines));
    }

    /* the contract agrees */

    vaani_test_that(vaani_contract_transcript(&raw, &arena, &expected)
                    == (text != NULL)
                    && (text == NULL || vaani_str_eq(&lines, &expected)),
                    "%s: %s", turns, vaani_test_show_str(&expected));

    all = arena.nallocs;
    vaani_test_arena_free(&arena);

    /* memory that runs out at each of the allocations */

    for (n = 1; n <= all; n++) {
        raw.data = vaani_test_text(&arena, turns, len);
        arena.fail_at = n;
        arena.fail_once = n % 2;

        rc = vaani_transcript_text(&raw, &arena.alloc, &lines);

        vaani_test_that(rc == VAANI_NOMEM, "%s: allocation %zu of %zu: rc %d",
                        turns, n, all, rc);
        vaani_test_arena_free(&arena);
    }
}


static void
test_transcripts(void **state)
{
    size_t  n;

    (void) state;

    for (n = 0; n < vaani_test_nelems(transcripts); n++) {
        check_turns(transcripts[n].turns, strlen(transcripts[n].turns),
                    transcripts[n].text);
    }
}


/*
 * A turn with more members than are listed is left out, its neighbours are
 * not.
 */

static void
test_turn_too_large(void **state)
{
    char    *turns, *p;
    size_t   n;

    (void) state;

    turns = vaani_test_malloc(5000 * 16);

    p = turns + sprintf(turns, "[\"before\",{\"text\":\"large\"");

    for (n = 0; n < 4096; n++) {
        p += sprintf(p, ",\"k%zu\":0", n);
    }

    p += sprintf(p, "},{\"text\":\"after\"}]");

    check_turns(turns, p - turns, "before\nafter");

    free(turns);
}


/*
 * Many turns, each as long as possible relative to its JSON: the sanitizers
 * check that the buffer is large enough.
 */

static void
test_many_turns(void **state)
{
    char    *turns, *text, *p, *t;
    size_t   n;

    (void) state;

    turns = vaani_test_malloc((VAANI_TRANSCRIPT_MAX_TURNS + 1) * 64);
    text = vaani_test_malloc((VAANI_TRANSCRIPT_MAX_TURNS + 1) * 64);

    p = turns;
    t = text;

    for (n = 0; n < VAANI_TRANSCRIPT_MAX_TURNS; n++) {
        p += sprintf(p, "%c{\"role\":%zu,\"text\":%zu,\"time\":%zu}",
                     n ? ',' : '[', n, n, n);
        t += sprintf(t, "%s[%zu] %zu: %zu", n ? "\n" : "", n, n, n);
    }

    memcpy(p, "]", sizeof("]"));

    check_turns(turns, p + 1 - turns, text);

    /* one more */

    p += sprintf(p, ",\"x\"]");

    check_turns(turns, p - turns, NULL);

    free(turns);
    free(text);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_transcripts),
        cmocka_unit_test(test_turn_too_large),
        cmocka_unit_test(test_many_turns)
    };

    return cmocka_run_group_tests_name("transcript", tests, NULL, NULL);
}
