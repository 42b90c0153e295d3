
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#include "vaani_spool.h"


#define VAANI_SPOOL_TIMEOUT    5        /* of Redis, s */


static int vaani_spool_command(redisContext *redis, int argc,
    const char **argv);


redisContext *
vaani_spool_connect(const char *url)
{
    int             port;
    char           *db, *colon, *host, place[1024];
    const char     *argv[3], *user, *password;
    redisContext   *redis;
    struct timeval  timeout = { VAANI_SPOOL_TIMEOUT, 0 };

    user = getenv("VAANI_REDIS_USER");
    password = getenv("VAANI_REDIS_PASSWORD");

    if (user && *user && (password == NULL || *password == '\0')) {
        fputs("vaani-spool: VAANI_REDIS_USER is set, but not "
              "VAANI_REDIS_PASSWORD\n", stderr);
        return NULL;
    }

    if (strlen(url) >= sizeof(place)) {
        fputs("vaani-spool: the URL of Redis is too long\n", stderr);
        return NULL;
    }

    if (strncmp(url, "unix:", 5) == 0) {
        memcpy(place, url + 5, strlen(url + 5) + 1);

        db = strstr(place, "?db=");

        if (db) {
            *db = '\0';
            db += 4;
        }

        redis = redisConnectUnixWithTimeout(place, timeout);

    } else if (strncmp(url, "redis://", 8) == 0) {
        memcpy(place, url + 8, strlen(url + 8) + 1);

        db = strchr(place, '/');

        if (db) {
            *db++ = '\0';
        }

        port = 6379;
        colon = strrchr(place, ':');

        if (colon && strchr(colon, ']') == NULL) {
            *colon = '\0';
            port = atoi(colon + 1);
        }

        host = place;

        if (host[0] == '[' && host[strlen(host) - 1] == ']') {
            host[strlen(host) - 1] = '\0';
            host++;
        }

        redis = redisConnectWithTimeout(host, port, timeout);

    } else {
        fputs("vaani-spool: REDIS must begin with \"redis://\" or \"unix:\"\n",
              stderr);
        return NULL;
    }

    if (redis == NULL || redis->err) {
        fprintf(stderr, "vaani-spool: Redis: %s\n",
                redis ? redis->errstr : "no memory");
        goto failed;
    }

    (void) redisSetTimeout(redis, timeout);

    if (password && *password) {
        argv[0] = "AUTH";
        argv[1] = (user && *user) ? user : password;
        argv[2] = password;

        if (vaani_spool_command(redis, (user && *user) ? 3 : 2, argv) != 0) {
            goto failed;
        }
    }

    if (db && *db) {
        argv[0] = "SELECT";
        argv[1] = db;

        if (vaani_spool_command(redis, 2, argv) != 0) {
            goto failed;
        }
    }

    return redis;

failed:

    if (redis) {
        redisFree(redis);
    }

    return NULL;
}


static int
vaani_spool_command(redisContext *redis, int argc, const char **argv)
{
    int          rc;
    redisReply  *reply;

    reply = redisCommandArgv(redis, argc, argv, NULL);

    if (reply == NULL) {
        fprintf(stderr, "vaani-spool: Redis: %s\n", redis->errstr);
        return -1;
    }

    rc = 0;

    if (reply->type == REDIS_REPLY_ERROR) {
        fprintf(stderr, "vaani-spool: Redis refused %s: %s\n", argv[0],
                strcmp(argv[0], "AUTH") == 0 ? "wrong user or password"
                                             : reply->str);
        rc = -1;
    }

    freeReplyObject(reply);

    return rc;
}


void
vaani_spool_send(vaani_spool_t *spool, const char *path,
    const vaani_journal_record_t *record, const vaani_event_t *event,
    const vaani_delivery_t *delivery)
{
    size_t               n, nargs, *lens;
    const char         **argv;
    redisReply          *reply;
    vaani_str_t         *args;
    vaani_transition_t   transition;

    if (vaani_transition_args(event, delivery, &spool->alloc, &args, &nargs)
        != VAANI_OK)
    {
        goto nomem;
    }

    argv = vaani_spool_alloc(spool, (nargs + 2) * sizeof(char *));
    lens = vaani_spool_alloc(spool, (nargs + 2) * sizeof(size_t));

    if (argv == NULL || lens == NULL) {
        goto nomem;
    }

    argv[0] = "EVAL";
    lens[0] = 4;
    argv[1] = (const char *) vaani_transition_script.data;
    lens[1] = vaani_transition_script.len;

    for (n = 0; n < nargs; n++) {
        argv[n + 2] = (const char *) args[n].data;
        lens[n + 2] = args[n].len;
    }

    reply = redisCommandArgv(spool->redis, nargs + 2, argv, lens);

    if (reply == NULL) {
        fflush(stdout);
        fprintf(stderr, "vaani-spool: %s:%zu: Redis: %s\n", path,
                record->offset, spool->redis->errstr);
        exit(1);
    }

    if (reply->type == REDIS_REPLY_ARRAY
        && reply->elements == 2
        && reply->element[1]->type == REDIS_REPLY_STRING)
    {
        printf("%s:%zu: applied, but not published: %s\n", path,
               record->offset, reply->element[1]->str);
        spool->nsent++;
        spool->nunpublished++;

    } else if (reply->type != REDIS_REPLY_INTEGER
               || vaani_transition_read(reply->integer, &transition)
                  != VAANI_OK)
    {
        printf("%s:%zu: refused: %s\n", path, record->offset,
               reply->type == REDIS_REPLY_ERROR ? reply->str
                                                : "an unexpected reply");
        spool->nrefused++;

    } else {
        spool->nsent++;

        if (transition.result == VAANI_TRANSITION_DUPLICATE) {
            spool->nduplicates++;
        }
    }

    freeReplyObject(reply);

    return;

nomem:

    fprintf(stderr, "vaani-spool: %s:%zu: no memory\n", path, record->offset);
    spool->failed = 1;
}
