
/*
 * vaani-spool: looks into the files of a spool, and sends what is in them to
 * Redis, without nginx.
 */


#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <dirent.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/time.h>

#include <hiredis/hiredis.h>

#include "../core/vaani_record.h"
#include "../spool/vaani_journal.h"


#define VAANI_SPOOL_TIMEOUT    5        /* of Redis, s */


typedef enum {
    VAANI_SPOOL_LIST = 0,
    VAANI_SPOOL_VERIFY,
    VAANI_SPOOL_RESEND
} vaani_spool_mode_e;


/* freed after each record */

typedef struct vaani_spool_block_s  vaani_spool_block_t;

struct vaani_spool_block_s {
    vaani_spool_block_t  *next;
    size_t                size;
};


typedef struct {
    vaani_spool_mode_e    mode;
    redisContext         *redis;

    vaani_spool_block_t  *blocks;
    vaani_alloc_t         alloc;

    unsigned long         nrecords;
    unsigned long         nbad;
    unsigned long         nsent;
    unsigned long         nduplicates;
    unsigned long         nrefused;
    int                   failed;
} vaani_spool_t;


static int vaani_spool_usage(FILE *out);
static void vaani_spool_path(vaani_spool_t *spool, const char *path);
static void vaani_spool_dir(vaani_spool_t *spool, const char *dir);
static int vaani_spool_is_ours(const struct dirent *entry);
static void vaani_spool_file(vaani_spool_t *spool, const char *path);
static void vaani_spool_records(vaani_spool_t *spool, const char *path,
    const u_char *data, size_t len);
static void vaani_spool_record(vaani_spool_t *spool, const char *path,
    vaani_journal_record_t *record);
static void vaani_spool_print(const char *path,
    const vaani_journal_record_t *record, const vaani_delivery_t *delivery,
    const vaani_event_t *event, const vaani_str_t *reason);
static void vaani_spool_print_str(const vaani_str_t *str);
static void vaani_spool_send(vaani_spool_t *spool, const char *path,
    const vaani_journal_record_t *record, const vaani_event_t *event,
    const vaani_delivery_t *delivery);
static redisContext *vaani_spool_connect(const char *url);
static int vaani_spool_command(redisContext *redis, int argc,
    const char **argv);
static void *vaani_spool_alloc(void *ctx, size_t size);
static void vaani_spool_free(vaani_spool_t *spool);


int
main(int argc, char **argv)
{
    int            i;
    const char    *url, *command;
    vaani_spool_t  spool;

    memset(&spool, 0, sizeof(vaani_spool_t));

    /* a Redis that hangs up is an error of write() */

    (void) signal(SIGPIPE, SIG_IGN);

    spool.alloc.alloc = vaani_spool_alloc;
    spool.alloc.ctx = &spool;

    if (argc > 1 && (strcmp(argv[1], "--help") == 0
                     || strcmp(argv[1], "-h") == 0))
    {
        return vaani_spool_usage(stdout);
    }

    if (argc < 3) {
        return vaani_spool_usage(stderr);
    }

    command = argv[1];
    i = 2;

    if (strcmp(command, "list") == 0) {
        spool.mode = VAANI_SPOOL_LIST;

    } else if (strcmp(command, "verify") == 0) {
        spool.mode = VAANI_SPOOL_VERIFY;

    } else if (strcmp(command, "resend") == 0) {
        spool.mode = VAANI_SPOOL_RESEND;

        url = argv[i++];

        if (i == argc) {
            return vaani_spool_usage(stderr);
        }

        spool.redis = vaani_spool_connect(url);

        if (spool.redis == NULL) {
            return 1;
        }

    } else {
        return vaani_spool_usage(stderr);
    }

    for ( /* void */ ; i < argc; i++) {
        vaani_spool_path(&spool, argv[i]);
    }

    if (spool.redis) {
        redisFree(spool.redis);

        printf("%lu records: %lu sent, %lu of them duplicates, %lu refused, "
               "%lu damaged places\n", spool.nrecords, spool.nsent,
               spool.nduplicates, spool.nrefused, spool.nbad);

    } else {
        printf("%lu records, %lu damaged places\n", spool.nrecords,
               spool.nbad);
    }

    if (ferror(stdout) || fflush(stdout) != 0) {
        perror("vaani-spool: standard output");
        return 1;
    }

    return (spool.failed || spool.nbad || spool.nrefused) ? 1 : 0;
}


static int
vaani_spool_usage(FILE *out)
{
    fputs(
"usage: vaani-spool list PATH...           show the records, without bodies\n"
"       vaani-spool verify PATH...         check them\n"
"       vaani-spool resend REDIS PATH...   send them to Redis\n"
"\n"
"PATH is a file of a spool (a segment or \"dead-letters\") or its directory.\n"
"REDIS is redis://HOST[:PORT][/DB] or unix:/PATH[?db=N]; the user and the\n"
"password are taken from the environment, VAANI_REDIS_USER and\n"
"VAANI_REDIS_PASSWORD.\n"
"\n"
"Sending a record twice does no harm: Redis knows what it has. The files stay\n"
"as they are; delete what was sent. A segment that nginx is at work on is\n"
"left alone.\n"
"\n"
"The status is 1 if anything was damaged, refused or failed.\n", out);

    return (out == stdout) ? 0 : 2;
}


static void
vaani_spool_path(vaani_spool_t *spool, const char *path)
{
    struct stat  st;

    if (stat(path, &st) == -1) {
        fprintf(stderr, "vaani-spool: %s: %s\n", path, strerror(errno));
        spool->failed = 1;
        return;
    }

    if (S_ISDIR(st.st_mode)) {
        vaani_spool_dir(spool, path);
        return;
    }

    vaani_spool_file(spool, path);
}


static void
vaani_spool_dir(vaani_spool_t *spool, const char *dir)
{
    int              i, n;
    char             path[4096];
    struct dirent  **entries;

    /* sorted by name, so the oldest segment comes first */

    n = scandir(dir, &entries, vaani_spool_is_ours, alphasort);

    if (n == -1) {
        fprintf(stderr, "vaani-spool: %s: %s\n", dir, strerror(errno));
        spool->failed = 1;
        return;
    }

    for (i = 0; i < n; i++) {

        if ((size_t) snprintf(path, sizeof(path), "%s/%s", dir,
                              entries[i]->d_name)
            < sizeof(path))
        {
            vaani_spool_file(spool, path);

        } else {
            fprintf(stderr, "vaani-spool: %s: the path is too long\n", dir);
            spool->failed = 1;
        }

        free(entries[i]);
    }

    free(entries);
}


static int
vaani_spool_is_ours(const struct dirent *entry)
{
    size_t  len;

    len = strlen(entry->d_name);

    return strcmp(entry->d_name, "dead-letters") == 0
           || (len > 4 && strcmp(entry->d_name + len - 4, ".log") == 0);
}


static void
vaani_spool_file(vaani_spool_t *spool, const char *path)
{
    int           fd;
    u_char       *data;
    size_t        len;
    ssize_t       n;
    struct stat   st;

    data = NULL;

    fd = open(path, O_RDONLY|O_CLOEXEC);

    if (fd == -1 || fstat(fd, &st) == -1) {
        goto failed;
    }

    /* dropped when the file is closed */

    if (spool->mode == VAANI_SPOOL_RESEND
        && flock(fd, LOCK_EX|LOCK_NB) == -1)
    {
        goto failed;
    }

    data = malloc(st.st_size ? st.st_size : 1);

    if (data == NULL) {
        goto failed;
    }

    for (len = 0; len < (size_t) st.st_size; len += n) {
        n = pread(fd, data + len, st.st_size - len, len);

        if (n == -1) {
            goto failed;
        }

        if (n == 0) {
            break;
        }
    }

    vaani_spool_records(spool, path, data, len);

    free(data);
    (void) close(fd);

    return;

failed:

    fprintf(stderr, "vaani-spool: %s: %s\n", path,
            errno == EWOULDBLOCK ? "nginx is at work on it" : strerror(errno));

    spool->failed = 1;

    free(data);

    if (fd != -1) {
        (void) close(fd);
    }
}


static void
vaani_spool_records(vaani_spool_t *spool, const char *path,
    const u_char *data, size_t len)
{
    vaani_journal_reader_t  reader;
    vaani_journal_record_t  record;

    reader.data = data;
    reader.len = len;
    reader.pos = 0;

    for ( ;; ) {
        switch (vaani_journal_next(&reader, &record)) {

        case VAANI_JOURNAL_RECORD:
            vaani_spool_record(spool, path, &record);
            vaani_spool_free(spool);
            break;

        case VAANI_JOURNAL_BAD:
            spool->nbad++;
            printf("%s:%zu: damaged: %zu bytes are no record\n", path,
                   record.offset, record.size);
            break;

        default:
            return;
        }
    }
}


static void
vaani_spool_record(vaani_spool_t *spool, const char *path,
    vaani_journal_record_t *record)
{
    int                  rc;
    vaani_str_t          reason;
    vaani_event_t        event;
    vaani_delivery_t     delivery;
    vaani_event_error_t  error;

    reason.data = NULL;
    reason.len = 0;

    (void) vaani_journal_dead_letter(record, &reason.data, &reason.len);

    rc = vaani_record_read(&delivery, record->content, record->len,
                           &spool->alloc);

    if (rc == VAANI_OK) {
        rc = vaani_event_parse(&event, &delivery.payload,
                               &delivery.name, 0, delivery.repaired,
                               &spool->alloc, &error);
    }

    if (rc == VAANI_NOMEM) {
        fprintf(stderr, "vaani-spool: %s:%zu: no memory\n", path,
                record->offset);
        spool->failed = 1;
        return;
    }

    if (rc != VAANI_OK) {
        printf("%s:%zu: damaged: the record is of another version or holds no "
               "event\n", path, record->offset);
        spool->nbad++;
        return;
    }

    spool->nrecords++;

    if (spool->mode == VAANI_SPOOL_LIST) {
        vaani_spool_print(path, record, &delivery, &event, &reason);

    } else if (spool->mode == VAANI_SPOOL_RESEND) {
        vaani_spool_send(spool, path, record, &event, &delivery);
    }
}


static void
vaani_spool_print(const char *path, const vaani_journal_record_t *record,
    const vaani_delivery_t *delivery, const vaani_event_t *event,
    const vaani_str_t *reason)
{
    char       when[32];
    time_t     sec;
    struct tm  tm;

    sec = delivery->received_at / 1000;

    if (gmtime_r(&sec, &tm) == NULL
        || strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%S", &tm) == 0)
    {
        when[0] = '\0';
    }

    printf("%s:%zu: %s.%03uZ ", path, record->offset, when,
           (unsigned) (delivery->received_at % 1000));

    vaani_spool_print_str(&event->name);
    putchar(' ');
    vaani_spool_print_str(&delivery->key);
    printf(" %zu bytes", delivery->payload.len);

    if (reason->len) {
        fputs(", refused: ", stdout);
        vaani_spool_print_str(reason);
    }

    putchar('\n');
}


/*
 * Names come from outside and must not steer a terminal.
 */

static void
vaani_spool_print_str(const vaani_str_t *str)
{
    size_t  n;

    for (n = 0; n < str->len; n++) {

        /* a name can't break its line, nor look like the next column */

        if (str->data[n] <= 0x20 || str->data[n] >= 0x7f
            || str->data[n] == '\\')
        {
            printf("\\x%02x", str->data[n]);

        } else {
            putchar(str->data[n]);
        }
    }
}


static void
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


static redisContext *
vaani_spool_connect(const char *url)
{
    int             port;
    char           *db, *colon, *host, place[1024];
    const char     *argv[3], *user, *password;
    redisContext   *redis;
    struct timeval  timeout = { VAANI_SPOOL_TIMEOUT, 0 };

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

    user = getenv("VAANI_REDIS_USER");
    password = getenv("VAANI_REDIS_PASSWORD");

    if (password) {
        argv[0] = "AUTH";
        argv[1] = user ? user : password;
        argv[2] = password;

        if (vaani_spool_command(redis, user ? 3 : 2, argv) != 0) {
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


static void *
vaani_spool_alloc(void *ctx, size_t size)
{
    vaani_spool_t        *spool = ctx;
    vaani_spool_block_t  *block;

    block = malloc(sizeof(vaani_spool_block_t) + size);

    if (block == NULL) {
        return NULL;
    }

    block->next = spool->blocks;
    block->size = size;
    spool->blocks = block;

    return block + 1;
}


static void
vaani_spool_free(vaani_spool_t *spool)
{
    vaani_spool_block_t  *block;

    while (spool->blocks) {
        block = spool->blocks;
        spool->blocks = block->next;
        free(block);
    }
}
