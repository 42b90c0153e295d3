
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench.h"


static int bench_compare(const void *one, const void *two);
static double bench_percentile(const bench_latencies_t *l, double part);


void
bench_die(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, errno ? strerror(errno) : "failed");
    exit(1);
}


void *
bench_alloc(size_t size)
{
    void  *p;

    p = calloc(1, size);

    if (p == NULL) {
        bench_die("calloc");
    }

    return p;
}


void
bench_read_template(bench_template_t *t, const char *path)
{
    FILE    *file;
    long     size;

    file = fopen(path, "rb");

    if (file == NULL) {
        bench_die(path);
    }

    if (fseek(file, 0, SEEK_END) != 0 || (size = ftell(file)) < 0) {
        bench_die(path);
    }

    rewind(file);

    t->len = size;
    t->data = bench_alloc(t->len + 1);

    if (fread(t->data, 1, t->len, file) != t->len) {
        bench_die(path);
    }

    fclose(file);

    bench_find_rooms(t);
}


void
bench_find_rooms(bench_template_t *t)
{
    char  *p, *end;

    p = t->data;
    end = p + t->len;
    t->ndigits = 0;

    for ( ;; ) {
        p = memmem(p, end - p, BENCH_ROOM, sizeof(BENCH_ROOM) - 1);

        if (p == NULL) {
            return;
        }

        p += sizeof(BENCH_ROOM) - 1;

        if (t->ndigits == BENCH_MAX_ROOMS) {
            errno = 0;
            bench_die("a template with too many rooms");
        }

        t->digits[t->ndigits++] = p - BENCH_DIGITS - t->data;
    }
}


void
bench_number(char *digits, uint64_t number)
{
    int  n;

    for (n = BENCH_DIGITS - 1; n >= 0; n--) {
        digits[n] = (char) ('0' + number % 10);
        number /= 10;
    }
}


uint64_t
bench_now(void)
{
    struct timespec  ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);

    return (uint64_t) ts.tv_sec * 1000000000 + ts.tv_nsec;
}


void
bench_latency(bench_latencies_t *l, uint64_t ns)
{
    if (l->n == l->nalloc) {
        l->nalloc = l->nalloc ? 2 * l->nalloc : 1024 * 1024;
        l->ns100 = realloc(l->ns100, l->nalloc * sizeof(uint32_t));

        if (l->ns100 == NULL) {
            bench_die("realloc");
        }
    }

    l->ns100[l->n++] = (uint32_t) (ns / 100);
}


void
bench_report(bench_latencies_t *l, uint64_t errors, uint64_t ns)
{
    qsort(l->ns100, l->n, sizeof(uint32_t), bench_compare);

    printf("RESULT events=%zu errors=%lu seconds=%.6f p50=%.1f p99=%.1f\n",
           l->n, (unsigned long) errors, ns / 1e9,
           bench_percentile(l, 0.50), bench_percentile(l, 0.99));
}


static int
bench_compare(const void *one, const void *two)
{
    const uint32_t  *a = one, *b = two;

    return (*a > *b) - (*a < *b);
}


/* in us */

static double
bench_percentile(const bench_latencies_t *l, double part)
{
    return l->n ? l->ns100[(size_t) ((l->n - 1) * part)] / 10.0 : 0;
}
