
/*
 * vaani-spool: looks into the files of a spool, and sends what is in them,
 * without nginx: events to Redis, refused deliveries to an endpoint.
 */


#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "vaani_spool.h"


static int vaani_spool_usage(FILE *out);
static void vaani_spool_summary(const vaani_spool_t *spool);


int
main(int argc, char **argv)
{
    int            i, rc;
    const char    *command;
    vaani_spool_t  spool;

    memset(&spool, 0, sizeof(vaani_spool_t));

    /* a peer that hangs up is an error of write() */

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

    } else if (strcmp(command, "resend") == 0 && argv[2][0] == '-') {
        spool.mode = VAANI_SPOOL_POST;

        rc = vaani_spool_target(&spool, argc, argv, &i);

        if (rc == 2) {
            return vaani_spool_usage(stderr);
        }

        if (rc != 0) {
            return rc;
        }

    } else if (strcmp(command, "resend") == 0) {
        spool.mode = VAANI_SPOOL_RESEND;

        if (argc == 3) {
            return vaani_spool_usage(stderr);
        }

        spool.redis = vaani_spool_connect(argv[i++]);

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
    }

    vaani_spool_summary(&spool);

    if (ferror(stdout) || fflush(stdout) != 0) {
        perror("vaani-spool: standard output");
        return 1;
    }

    return (spool.failed || spool.nbad || spool.nrefused
            || spool.nunpublished) ? 1 : 0;
}


static int
vaani_spool_usage(FILE *out)
{
    fputs(
"usage: vaani-spool list PATH...           show what is there, without bodies\n"
"       vaani-spool verify PATH...         check it\n"
"       vaani-spool resend REDIS PATH...   send events to Redis\n"
"       vaani-spool resend --to URL [--secret-file FILE] [--format FORMAT]\n"
"                   [--header-file FILE] PATH...\n"
"                                          post refused deliveries again\n"
"\n"
"PATH is a file of a spool (a segment or \"dead-letters\") or its directory.\n"
"REDIS is redis://HOST[:PORT][/DB] or unix:/PATH[?db=N]; the user and the\n"
"password are taken from the environment, VAANI_REDIS_USER and\n"
"VAANI_REDIS_PASSWORD.\n"
"\n"
"Sending an event twice does no harm: Redis knows what it has. These files\n"
"stay as they are; delete what was sent. A segment that nginx is at work on\n"
"is left alone.\n"
"\n"
"URL is http://HOST[:PORT]/URI or http://unix:/PATH:/URI; there is no https.\n"
"Deliveries are signed as of now with the first secret in FILE; FORMAT is\n"
"\"vaani\" (the default) or \"standard\" (Standard Webhooks). Lines of the\n"
"header file are sent with each. What gets a 2xx is marked as sent, and a\n"
"file goes when all of it was; the rest stays.\n"
"\n"
"The status is 1 if anything was damaged, refused, not published or failed.\n",
        out);

    return (out == stdout) ? 0 : 2;
}


static void
vaani_spool_summary(const vaani_spool_t *spool)
{
    if (spool->mode == VAANI_SPOOL_POST) {
        printf("%lu refused deliveries: %lu sent, %lu refused again, "
               "%lu damaged places\n", spool->nrefusals, spool->nsent,
               spool->nrefused, spool->nbad);
        return;
    }

    printf("%lu records", spool->nrecords);

    if (spool->mode == VAANI_SPOOL_RESEND) {
        printf(": %lu sent, %lu of them duplicates, %lu refused",
               spool->nsent, spool->nduplicates, spool->nrefused);

        if (spool->nunpublished) {
            printf(", %lu not published", spool->nunpublished);
        }
    }

    printf(", %lu damaged places", spool->nbad);

    if (spool->nrefusals) {
        printf(", %lu refused deliveries", spool->nrefusals);
    }

    putchar('\n');
}


void *
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


void
vaani_spool_free(vaani_spool_t *spool)
{
    vaani_spool_block_t  *block;

    while (spool->blocks) {
        block = spool->blocks;
        spool->blocks = block->next;
        free(block);
    }
}
