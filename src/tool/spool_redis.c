
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>

#include "vaani_spool.h"


#define VAANI_SPOOL_TIMEOUT    5        /* of Redis, s */

/* events that are sent before the first answer is read, and their bytes */

#define VAANI_SPOOL_DEPTH      128
#define VAANI_SPOOL_MAX_OUT    (1024 * 1024)

/* SHA-1 of the script, hex */

#define VAANI_SPOOL_SHA_LEN    40


/* an event that was sent, or is about to be */

typedef struct {
    const char           *path;
    size_t                offset;       /* of the record */
    size_t                start;        /* of the command in redis->out */
    size_t                len;
} vaani_spool_sent_t;


struct vaani_spool_redis_s {
    vaani_spool_url_t     url;
    vaani_spool_conn_t    conn;
    redisReader          *reader;

    char                  sha[VAANI_SPOOL_SHA_LEN + 1];

    u_char               *out;
    size_t                len;
    size_t                size;
    vaani_spool_sent_t    sent[VAANI_SPOOL_DEPTH];
    size_t                nsent;
};


static int vaani_spool_login(vaani_spool_redis_t *redis,
    const vaani_spool_options_t *options);
static int vaani_spool_auth(vaani_spool_redis_t *redis,
    const vaani_spool_options_t *options, const char *password);
static int vaani_spool_demand(vaani_spool_redis_t *redis, int argc,
    const char **argv, const char *why);
static int vaani_spool_load(vaani_spool_redis_t *redis);
static redisReply *vaani_spool_command(vaani_spool_redis_t *redis, int argc,
    const char **argv, const size_t *lens);
static redisReply *vaani_spool_reply(vaani_spool_redis_t *redis);
static int vaani_spool_queue(vaani_spool_redis_t *redis, const char *command,
    size_t len);
static void vaani_spool_judge(vaani_spool_t *spool,
    const vaani_spool_sent_t *sent, const redisReply *reply);
static void vaani_spool_again(vaani_spool_t *spool);
static void vaani_spool_lost(vaani_spool_t *spool, size_t n);


vaani_spool_redis_t *
vaani_spool_connect(const char *url, const vaani_spool_options_t *options)
{
    const char           *why;
    vaani_spool_redis_t  *redis;

    redis = calloc(1, sizeof(vaani_spool_redis_t));

    if (redis == NULL) {
        fputs("vaani-spool: out of memory\n", stderr);
        return NULL;
    }

    redis->conn.fd = -1;

    if (vaani_spool_redis_url(&redis->url, url) != 0) {
        goto failed;
    }

    redis->reader = redisReaderCreate();

    if (redis->reader == NULL) {
        fputs("vaani-spool: out of memory\n", stderr);
        goto failed;
    }

    redis->conn.fd = vaani_spool_dial(redis->url.host,
                                      redis->url.port[0] ? redis->url.port
                                                         : NULL,
                                      VAANI_SPOOL_TIMEOUT, &why);

    if (redis->conn.fd == -1) {
        fprintf(stderr, "vaani-spool: cannot connect to Redis: %s\n", why);
        goto failed;
    }

    if (redis->url.tls
        && vaani_spool_start_tls(&redis->conn, redis->url.host,
                                 options->cacert)
           != 0)
    {
        fprintf(stderr, "vaani-spool: cannot connect to Redis: %s\n",
                redis->conn.why);
        goto failed;
    }

    if (vaani_spool_login(redis, options) != 0
        || vaani_spool_load(redis) != 0)
    {
        goto failed;
    }

    return redis;

failed:

    vaani_spool_disconnect(redis);

    return NULL;
}


void
vaani_spool_disconnect(vaani_spool_redis_t *redis)
{
    if (redis->reader) {
        redisReaderFree(redis->reader);
    }

    vaani_spool_hang_up(&redis->conn);

    free(redis->out);
    free(redis);
}


static int
vaani_spool_login(vaani_spool_redis_t *redis,
    const vaani_spool_options_t *options)
{
    int          rc;
    char         line[VAANI_SPOOL_PASSWORD_LEN];
    const char  *select[2];

    if (options->password_file == NULL) {
        rc = vaani_spool_auth(redis, options, getenv("VAANI_REDIS_PASSWORD"));

    } else if (vaani_spool_first_line(options->password_file, line,
                                      sizeof(line))
               == 0)
    {
        rc = vaani_spool_auth(redis, options, line);

        OPENSSL_cleanse(line, sizeof(line));

    } else {
        rc = -1;
    }

    if (rc != 0 || redis->url.db[0] == '\0') {
        return rc;
    }

    select[0] = "SELECT";
    select[1] = redis->url.db;

    return vaani_spool_demand(redis, 2, select, NULL);
}


static int
vaani_spool_auth(vaani_spool_redis_t *redis,
    const vaani_spool_options_t *options, const char *password)
{
    int          argc;
    const char  *argv[3], *user;

    user = options->user ? options->user : getenv("VAANI_REDIS_USER");

    if (password == NULL || *password == '\0') {

        if (user == NULL || *user == '\0') {
            return 0;
        }

        fprintf(stderr, "vaani-spool: %s requires %s\n",
                options->user ? "--user" : "VAANI_REDIS_USER",
                options->user ? "--password-file or VAANI_REDIS_PASSWORD"
                              : "VAANI_REDIS_PASSWORD");
        return -1;
    }

    argc = 0;
    argv[argc++] = "AUTH";

    if (user && *user) {
        argv[argc++] = user;
    }

    argv[argc++] = password;

    return vaani_spool_demand(redis, argc, argv, "wrong user or password");
}


/*
 * A command that must succeed.  Returns 0, or -1 after printing the error:
 * why, or Redis's error if why is NULL.
 */

static int
vaani_spool_demand(vaani_spool_redis_t *redis, int argc, const char **argv,
    const char *why)
{
    int          rc;
    redisReply  *reply;

    reply = vaani_spool_command(redis, argc, argv, NULL);

    if (reply == NULL) {
        return -1;
    }

    rc = 0;

    if (reply->type == REDIS_REPLY_ERROR) {
        fprintf(stderr, "vaani-spool: Redis refused %s: %s\n", argv[0],
                why ? why : reply->str);
        rc = -1;
    }

    freeReplyObject(reply);

    return rc;
}


static int
vaani_spool_load(vaani_spool_redis_t *redis)
{
    int          rc;
    size_t       lens[3];
    const char  *argv[3];
    redisReply  *reply;

    argv[0] = "SCRIPT";
    lens[0] = 6;
    argv[1] = "LOAD";
    lens[1] = 4;
    argv[2] = (const char *) vaani_transition_script.data;
    lens[2] = vaani_transition_script.len;

    reply = vaani_spool_command(redis, 3, argv, lens);

    if (reply == NULL) {
        return -1;
    }

    rc = -1;

    if (reply->type == REDIS_REPLY_STRING
        && strlen(reply->str) == VAANI_SPOOL_SHA_LEN)
    {
        memcpy(redis->sha, reply->str, VAANI_SPOOL_SHA_LEN + 1);
        rc = 0;

    } else {
        fprintf(stderr, "vaani-spool: Redis refused SCRIPT LOAD: %s\n",
                reply->type == REDIS_REPLY_ERROR ? reply->str
                                                 : "an unexpected reply");
    }

    freeReplyObject(reply);

    return rc;
}


/*
 * Sends a command and reads its reply; no other one may be in progress.
 * Returns NULL if the connection failed, after printing the error.
 */

static redisReply *
vaani_spool_command(vaani_spool_redis_t *redis, int argc, const char **argv,
    const size_t *lens)
{
    int          rc;
    char        *command;
    long long    len;
    redisReply  *reply;

    len = redisFormatCommandArgv(&command, argc, argv, lens);

    if (len < 0) {
        fputs("vaani-spool: out of memory\n", stderr);
        return NULL;
    }

    rc = vaani_spool_write(&redis->conn, command, (size_t) len);

    /* the command may be AUTH */

    OPENSSL_cleanse(command, (size_t) len);
    redisFreeCommand(command);

    reply = (rc == 0) ? vaani_spool_reply(redis) : NULL;

    if (reply == NULL) {
        fprintf(stderr, "vaani-spool: lost the connection to Redis: %s\n",
                redis->conn.why);
    }

    return reply;
}


static redisReply *
vaani_spool_reply(vaani_spool_redis_t *redis)
{
    char      chunk[16384];
    void     *reply;
    ssize_t   n;

    for ( ;; ) {
        reply = NULL;

        if (redisReaderGetReply(redis->reader, &reply) != REDIS_OK) {
            redis->conn.why = redis->reader->errstr;
            return NULL;
        }

        if (reply) {
            return reply;
        }

        n = vaani_spool_receive(&redis->conn, chunk, sizeof(chunk));

        if (n == -1) {
            return NULL;
        }

        if (redisReaderFeed(redis->reader, chunk, n) != REDIS_OK) {
            redis->conn.why = redis->reader->errstr;
            return NULL;
        }
    }
}


void
vaani_spool_send(vaani_spool_t *spool, const char *path,
    const vaani_journal_record_t *record, const vaani_event_t *event,
    const vaani_delivery_t *delivery)
{
    int                   rc;
    char                 *command;
    size_t                n, nargs, *lens;
    long long             len;
    const char          **argv;
    vaani_str_t          *args;
    vaani_spool_sent_t   *sent;
    vaani_spool_redis_t  *redis;

    redis = spool->redis;

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

    argv[0] = "EVALSHA";
    lens[0] = 7;
    argv[1] = redis->sha;
    lens[1] = VAANI_SPOOL_SHA_LEN;

    for (n = 0; n < nargs; n++) {
        argv[n + 2] = (const char *) args[n].data;
        lens[n + 2] = args[n].len;
    }

    len = redisFormatCommandArgv(&command, (int) nargs + 2, argv, lens);

    if (len < 0) {
        goto nomem;
    }

    rc = vaani_spool_queue(redis, command, (size_t) len);

    redisFreeCommand(command);

    if (rc != 0) {
        goto nomem;
    }

    sent = &redis->sent[redis->nsent++];

    sent->path = path;
    sent->offset = record->offset;
    sent->start = redis->len - (size_t) len;
    sent->len = (size_t) len;

    if (redis->nsent == VAANI_SPOOL_DEPTH
        || redis->len >= VAANI_SPOOL_MAX_OUT)
    {
        vaani_spool_drain(spool);
    }

    return;

nomem:

    fprintf(stderr, "vaani-spool: %s:%zu: out of memory\n", path,
            record->offset);
    spool->failed = 1;
}


static int
vaani_spool_queue(vaani_spool_redis_t *redis, const char *command, size_t len)
{
    size_t   size;
    u_char  *out;

    if (len > redis->size - redis->len) {
        size = 2 * redis->size + len;
        out = realloc(redis->out, size);

        if (out == NULL) {
            return -1;
        }

        redis->out = out;
        redis->size = size;
    }

    memcpy(redis->out + redis->len, command, len);
    redis->len += len;

    return 0;
}


void
vaani_spool_drain(vaani_spool_t *spool)
{
    size_t                n, nagain;
    redisReply           *reply;
    vaani_spool_redis_t  *redis;

    redis = spool->redis;

    /* answers are so short that Redis never blocks on sending them */

    if (vaani_spool_write(&redis->conn, redis->out, redis->len) != 0) {
        vaani_spool_lost(spool, 0);
        return;
    }

    nagain = 0;

    for (n = 0; n < redis->nsent; n++) {
        reply = vaani_spool_reply(redis);

        if (reply == NULL) {
            vaani_spool_lost(spool, n);
            return;
        }

        if (reply->type == REDIS_REPLY_ERROR
            && strncmp(reply->str, "NOSCRIPT", 8) == 0)
        {
            redis->sent[nagain++] = redis->sent[n];

        } else {
            vaani_spool_judge(spool, &redis->sent[n], reply);
        }

        freeReplyObject(reply);
    }

    redis->nsent = nagain;

    if (nagain) {
        vaani_spool_again(spool);
    }

    redis->nsent = 0;
    redis->len = 0;
}


/*
 * Redis lost its scripts meanwhile: the events that it refused for that reason
 * are sent again.
 */

static void
vaani_spool_again(vaani_spool_t *spool)
{
    size_t                n;
    redisReply           *reply;
    vaani_spool_sent_t   *sent;
    vaani_spool_redis_t  *redis;

    redis = spool->redis;

    if (vaani_spool_load(redis) != 0) {
        spool->failed = 1;
        spool->broken = 1;
        return;
    }

    for (n = 0; n < redis->nsent; n++) {
        sent = &redis->sent[n];

        reply = (vaani_spool_write(&redis->conn, redis->out + sent->start,
                                   sent->len)
                 == 0)
                ? vaani_spool_reply(redis) : NULL;

        if (reply == NULL) {
            vaani_spool_lost(spool, n);
            return;
        }

        vaani_spool_judge(spool, sent, reply);

        freeReplyObject(reply);
    }
}


static void
vaani_spool_judge(vaani_spool_t *spool, const vaani_spool_sent_t *sent,
    const redisReply *reply)
{
    vaani_transition_t  transition;

    if (reply->type == REDIS_REPLY_ARRAY
        && reply->elements == 2
        && reply->element[1]->type == REDIS_REPLY_STRING)
    {
        printf("%s:%zu: applied, but not published: %s\n", sent->path,
               sent->offset, reply->element[1]->str);
        spool->nsent++;
        spool->nunpublished++;

    } else if (reply->type != REDIS_REPLY_INTEGER
               || vaani_transition_read(reply->integer, &transition)
                  != VAANI_OK)
    {
        printf("%s:%zu: refused: %s\n", sent->path, sent->offset,
               reply->type == REDIS_REPLY_ERROR ? reply->str
                                                : "an unexpected reply");
        spool->nrefused++;

    } else {
        spool->nsent++;

        if (transition.result == VAANI_TRANSITION_DUPLICATE) {
            spool->nduplicates++;
        }
    }
}


/*
 * The connection failed: it is unknown whether events from n on were applied.
 */

static void
vaani_spool_lost(vaani_spool_t *spool, size_t n)
{
    vaani_spool_redis_t  *redis;

    redis = spool->redis;

    (void) fflush(stdout);

    fprintf(stderr, "vaani-spool: %s:%zu: lost the connection to Redis (%s); "
            "this record and the following ones may be missing, run the "
            "command again\n",
            redis->sent[n].path, redis->sent[n].offset, redis->conn.why);

    spool->failed = 1;
    spool->broken = 1;

    redis->nsent = 0;
    redis->len = 0;
}
