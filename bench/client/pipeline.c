
/*
 * The bare hiredis client: sends Redis what it is told to, so many events at a
 * time, and waits for their replies.
 *
 *     pipeline SOCKET DEPTH SECONDS TEMPLATE...
 *
 * A template has the commands of one event, as they go over the wire; the
 * templates are the events of one call, in turn.  A reply that is an error, or
 * the 0 of a duplicate, ends it.
 */


#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <hiredis/hiredis.h>

#include "bench.h"


static size_t pipeline_commands(const bench_template_t *t);
static void pipeline_append(redisContext *redis, bench_template_t *t,
    uint64_t call);
static void pipeline_reply(redisContext *redis, int is_script);


int
main(int argc, char **argv)
{
    int                 n, ntemplates;
    size_t              i, depth, commands, *count;
    uint64_t            sent, started, since, end;
    redisContext       *redis;
    bench_template_t   *templates;
    bench_latencies_t   latencies;

    if (argc < 5) {
        fprintf(stderr, "usage: pipeline SOCKET DEPTH SECONDS TEMPLATE...\n");
        return 2;
    }

    redis = redisConnectUnix(argv[1]);

    if (redis == NULL || redis->err) {
        bench_die(argv[1]);
    }

    depth = strtoul(argv[2], NULL, 10);
    ntemplates = argc - 4;
    templates = bench_alloc(ntemplates * sizeof(bench_template_t));
    count = bench_alloc(ntemplates * sizeof(size_t));

    for (n = 0; n < ntemplates; n++) {
        bench_read_template(&templates[n], argv[4 + n]);
        count[n] = pipeline_commands(&templates[n]);
    }

    memset(&latencies, 0, sizeof(bench_latencies_t));

    sent = 0;
    started = bench_now();
    end = started + (uint64_t) (strtod(argv[3], NULL) * 1e9);

    do {
        since = bench_now();

        for (i = 0; i < depth; i++) {
            pipeline_append(redis, &templates[(sent + i) % ntemplates],
                            (sent + i) / ntemplates);
        }

        for (i = 0; i < depth; i++) {
            commands = count[(sent + i) % ntemplates];

            for (n = 0; n < (int) commands; n++) {
                pipeline_reply(redis, commands == 1);
            }

            bench_latency(&latencies, bench_now() - since);
        }

        sent += depth;

    } while (bench_now() < end);

    bench_report(&latencies, 0, bench_now() - started);

    redisFree(redis);

    return 0;
}


static size_t
pipeline_commands(const bench_template_t *t)
{
    char    *p, *end;
    size_t   n, nargs, commands;

    p = t->data;
    end = p + t->len;

    /* "*2\r\n$3\r\nGET\r\n$1\r\na\r\n" */

    for (commands = 0; p < end && *p == '*'; commands++) {
        nargs = strtoul(p + 1, &p, 10);
        p += 2;

        for (n = 0; n < nargs; n++) {
            p += strtoul(p + 1, &p, 10) + 4;
        }
    }

    if (p != end || commands == 0) {
        fprintf(stderr, "a template is not a list of commands\n");
        exit(2);
    }

    return commands;
}


static void
pipeline_append(redisContext *redis, bench_template_t *t, uint64_t call)
{
    size_t  n;

    for (n = 0; n < t->ndigits; n++) {
        bench_number(t->data + t->digits[n], call);
    }

    if (redisAppendFormattedCommand(redis, t->data, t->len) != REDIS_OK) {
        bench_die("redisAppendFormattedCommand");
    }
}


static void
pipeline_reply(redisContext *redis, int is_script)
{
    void        *data;
    redisReply  *reply;

    if (redisGetReply(redis, &data) != REDIS_OK) {
        bench_die("redisGetReply");
    }

    reply = data;

    if (reply->type == REDIS_REPLY_ERROR
        || (is_script
            && (reply->type != REDIS_REPLY_INTEGER || reply->integer <= 0)))
    {
        fprintf(stderr, "Redis replied %lld %s\n", reply->integer,
                reply->str ? reply->str : "");
        exit(1);
    }

    freeReplyObject(reply);
}
