
/*
 * vaani-spool: lists the files of a spool, and sends their records without
 * nginx: events to Redis, refused deliveries to an endpoint.  Erases calls.
 */


#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vaani_spool.h"


static int vaani_spool_do(vaani_spool_t *spool, int argc, char **argv);
static int vaani_spool_usage(FILE *out);
static void vaani_spool_summary(const vaani_spool_t *spool);


int
main(int argc, char **argv)
{
    int            rc;
    vaani_spool_t  spool;

    memset(&spool, 0, sizeof(vaani_spool_t));

    /* a closed connection is an error of write(), not a fatal signal */

    (void) signal(SIGPIPE, SIG_IGN);

    spool.alloc.alloc = vaani_spool_alloc;
    spool.alloc.ctx = &spool;

    if (argc < 2) {
        return vaani_spool_usage(stderr);
    }

    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        return vaani_spool_usage(stdout);
    }

    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        printf("vaani-spool %s\n", vaani_spool_version);
        return (fflush(stdout) == 0) ? 0 : 1;
    }

    rc = vaani_spool_do(&spool, argc, argv);

    if (spool.redis) {
        vaani_spool_disconnect(spool.redis);
    }

    vaani_spool_free_tombstones(&spool);

    if (rc != 0) {
        return rc;
    }

    if (ferror(stdout) || fflush(stdout) != 0) {
        perror("vaani-spool: standard output");
        return 1;
    }

    return (spool.failed || spool.nbad || spool.nrefused
            || spool.nunpublished) ? 1 : 0;
}


/*
 * Returns 0, 1 if it could not begin, or 2 for wrong usage; the error was
 * printed.
 */

static int
vaani_spool_do(vaani_spool_t *spool, int argc, char **argv)
{
    int                     i;
    const char             *command;
    vaani_spool_options_t   options;

    command = argv[1];
    i = 2;

    if (strcmp(command, "list") == 0) {
        spool->mode = VAANI_SPOOL_LIST;

    } else if (strcmp(command, "verify") == 0) {
        spool->mode = VAANI_SPOOL_VERIFY;

    } else if (strcmp(command, "erase") == 0) {
        spool->mode = VAANI_SPOOL_ERASE;

        spool->unreadable = vaani_spool_unreadable(argc, argv, &i);

        if (argc - i != 2) {
            return vaani_spool_misuse("erase expects", "[--unreadable] DIR "
                                      "ROOM");
        }

        return vaani_spool_erase(spool, argv[i], argv[i + 1]) == 0 ? 0 : 1;

    } else if (strcmp(command, "resend") == 0) {

        if (vaani_spool_options(&options, argc, argv, &i) != 0) {
            return 2;
        }

        if (options.to) {
            spool->mode = VAANI_SPOOL_POST;

            if (vaani_spool_target(spool, &options) != 0) {
                return 1;
            }

        } else {
            spool->mode = VAANI_SPOOL_RESEND;
            spool->progress = options.progress ? 2 : isatty(STDERR_FILENO);
            spool->redis = vaani_spool_connect(argv[i++], &options);

            if (spool->redis == NULL) {
                return 1;
            }
        }

    } else {
        return vaani_spool_misuse("unknown command", command);
    }

    if (i == argc) {
        return vaani_spool_misuse("expected at least one PATH after", command);
    }

    for ( /* void */ ; i < argc; i++) {
        vaani_spool_add(spool, argv[i]);
    }

    vaani_spool_run(spool);
    vaani_spool_summary(spool);

    return 0;
}


static int
vaani_spool_usage(FILE *out)
{
    fputs(
"usage: vaani-spool list PATH...           list the events, without bodies\n"
"       vaani-spool verify PATH...         check the files\n"
"       vaani-spool resend [--user NAME] [--password-file FILE]\n"
"                   [--cacert FILE] [--progress] REDIS PATH...\n"
"                                          send events to Redis\n"
"       vaani-spool resend --to URL [--secret-file FILE] [--format FORMAT]\n"
"                   [--header-file FILE] PATH...\n"
"                                          post refused deliveries again\n"
"       vaani-spool erase [--unreadable] DIR ROOM\n"
"                                          do not apply further events of the\n"
"                                          call ROOM; erase its dead letters\n"
"                                          and refused deliveries\n"
"\n"
"PATH is a file of a spool (a segment or \"dead-letters\") or its directory.\n"
"Events in .log files wait for Redis. Events in .kept files were applied and\n"
"are kept in case Redis loses its data.\n"
"\n"
"REDIS is redis://HOST[:PORT][/DB], rediss://HOST[:PORT][/DB] for TLS, or\n"
"unix:/PATH[?db=N]; valkey:// and valkeys:// are the same as redis:// and\n"
"rediss://. User and password are --user and the first line of the password\n"
"file, or else VAANI_REDIS_USER and VAANI_REDIS_PASSWORD in the environment.\n"
"The certificate of Redis must be signed by a CA in the file of --cacert,\n"
"or else by one that the system trusts.\n"
"\n"
"Redis recognizes an event that it already has. Kept events whose time to\n"
"live has passed or whose kind is unknown, and erased events, are not sent.\n"
"The files are not changed; delete them when all events were sent. A waiting\n"
"segment that nginx is using is skipped. --progress prints a line per\n"
"second; this is the default on a terminal.\n"
"\n"
"URL is http://HOST[:PORT]/URI or http://unix:/PATH:/URI; https is not\n"
"supported. Deliveries are signed with the current time and the first\n"
"secret in FILE; FORMAT is \"vaani\" (the default) or \"standard\" (Standard\n"
"Webhooks). The lines of the header file are added to each delivery. A\n"
"delivery that is answered with a 2xx is marked as sent. A file is deleted\n"
"when all its deliveries were sent.\n"
"\n"
"The exit status is 1 if anything was damaged, refused, not published or\n"
"failed, and 2 if an argument is wrong.\n",
        out);

    return (out == stdout) ? 0 : 2;
}


static void
vaani_spool_summary(const vaani_spool_t *spool)
{
    if (spool->mode == VAANI_SPOOL_POST) {
        vaani_spool_count(spool->nrefusals, "refused delivery",
                          "refused deliveries");
        printf(": %lu sent, %lu refused again, ", spool->nsent,
               spool->nrefused);
        vaani_spool_count(spool->nbad, "damaged place", "damaged places");
        putchar('\n');
        return;
    }

    vaani_spool_count(spool->nrecords, "record", "records");

    if (spool->mode == VAANI_SPOOL_RESEND) {
        printf(": %lu sent, %lu of them duplicates, %lu refused",
               spool->nsent, spool->nduplicates, spool->nrefused);

        if (spool->nunpublished) {
            printf(", %lu not published", spool->nunpublished);
        }

        if (spool->nexpired) {
            printf(", %lu expired", spool->nexpired);
        }

        if (spool->nerased) {
            printf(", %lu erased", spool->nerased);
        }

        if (spool->nunknown) {
            printf(", %lu unknown and not published again", spool->nunknown);
        }

    } else {
        printf(": %lu waiting, %lu kept, ", spool->nwaiting, spool->nkept);
        vaani_spool_count(spool->nletters, "dead letter", "dead letters");
    }

    fputs(", ", stdout);
    vaani_spool_count(spool->nbad, "damaged place", "damaged places");

    if (spool->nrefusals) {
        fputs(", ", stdout);
        vaani_spool_count(spool->nrefusals, "refused delivery",
                          "refused deliveries");
    }

    if (spool->ntombstones) {
        fputs(", ", stdout);
        vaani_spool_count(spool->ntombstones, "tombstone", "tombstones");
    }

    putchar('\n');
}
