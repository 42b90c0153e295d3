
/*
 * Shared by the load generators: the clock, templates of events, latencies.
 */


#ifndef _VAANI_BENCH_H_INCLUDED_
#define _VAANI_BENCH_H_INCLUDED_


#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>


/*
 * A template has the name of a room wherever one is to be: BENCH_ROOM, whose
 * digits become the number of the call.  No length changes by that, so HTTP
 * bodies and Redis commands are made once and never again.
 */

#define BENCH_ROOM         "room_000000000000"
#define BENCH_DIGITS       12
#define BENCH_MAX_ROOMS    32


typedef struct {
    char      *data;
    size_t     len;
    size_t     digits[BENCH_MAX_ROOMS];     /* offsets */
    size_t     ndigits;
} bench_template_t;


typedef struct {
    uint32_t  *ns100;                       /* in 100 ns: up to 429 s */
    size_t     n;
    size_t     nalloc;
} bench_latencies_t;


/* All of them exit with a message if they can't. */

void bench_die(const char *what) __attribute__((noreturn));
void *bench_alloc(size_t size);
void bench_read_template(bench_template_t *t, const char *path);
void bench_find_rooms(bench_template_t *t);
void bench_number(char *digits, uint64_t number);

uint64_t bench_now(void);                   /* monotonic, ns */

void bench_latency(bench_latencies_t *l, uint64_t ns);

/*
 * One line for the driver: what was done, and for how long.
 */
void bench_report(bench_latencies_t *l, uint64_t errors, uint64_t ns);


#endif /* _VAANI_BENCH_H_INCLUDED_ */
