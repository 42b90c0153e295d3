
#include <stdio.h>
#include <string.h>

#include "vaani_spool.h"


static int vaani_spool_option(vaani_spool_options_t *options,
    const char *name, const char ***value, vaani_spool_mode_e *mode);
static int vaani_spool_check(const vaani_spool_options_t *options, int argc,
    char **argv, unsigned events, unsigned refusals);


int
vaani_spool_options(vaani_spool_options_t *options, int argc, char **argv,
    int *i)
{
    unsigned              events, refusals;
    const char          **value;
    vaani_spool_mode_e    mode;

    memset(options, 0, sizeof(vaani_spool_options_t));

    options->format = "vaani";

    events = 0;
    refusals = 0;

    while (*i < argc && argv[*i][0] == '-') {

        if (vaani_spool_option(options, argv[*i], &value, &mode) != 0) {
            (void) vaani_spool_misuse("unknown option", argv[*i]);
            return -1;
        }

        events |= (mode == VAANI_SPOOL_RESEND);
        refusals |= (mode == VAANI_SPOOL_POST);

        (*i)++;

        if (value == NULL) {
            continue;
        }

        if (*i == argc) {
            (void) vaani_spool_misuse("no value after", argv[*i - 1]);
            return -1;
        }

        *value = argv[(*i)++];
    }

    return vaani_spool_check(options, argc - *i, argv + *i, events, refusals);
}


/*
 * Whether the options go together and enough arguments follow.
 */

static int
vaani_spool_check(const vaani_spool_options_t *options, int argc, char **argv,
    unsigned events, unsigned refusals)
{
    int          i;
    const char  *what, *arg;

    what = NULL;
    arg = NULL;

    for (i = 0; i < argc && what == NULL; i++) {
        if (strncmp(argv[i], "--", 2) == 0) {
            what = "options must precede the other arguments:";
            arg = argv[i];
        }
    }

    if (what) {
        /* void */

    } else if (options->to == NULL && refusals) {
        what = "--secret-file, --format and --header-file require";
        arg = "--to";

    } else if (options->to == NULL && argc < 2) {
        what = "resend expects";
        arg = "REDIS PATH...";

    } else if (options->to && events) {
        what = "--user, --password-file, --cacert and --progress cannot be "
               "combined with";
        arg = "--to";

    } else if (options->to && argc < 1) {
        what = "resend expects";
        arg = "--to URL PATH...";

    } else if (strcmp(options->format, "vaani") != 0
               && strcmp(options->format, "standard") != 0)
    {
        what = "--format must be \"vaani\" or \"standard\", not";
        arg = options->format;
    }

    if (what == NULL) {
        return 0;
    }

    (void) vaani_spool_misuse(what, arg);

    return -1;
}


int
vaani_spool_misuse(const char *what, const char *arg)
{
    /* a secret may follow the name of an option */

    fprintf(stderr, "vaani-spool: %s \"%.*s%s\"; see \"vaani-spool --help\"\n",
            what, (int) strcspn(arg, "="), arg, strchr(arg, '=') ? "=..." : "");

    return 2;
}


static int
vaani_spool_option(vaani_spool_options_t *options, const char *name,
    const char ***value, vaani_spool_mode_e *mode)
{
    *mode = VAANI_SPOOL_RESEND;
    *value = NULL;

    if (strcmp(name, "--progress") == 0) {
        options->progress = 1;
        return 0;
    }

    if (strcmp(name, "--cacert") == 0) {
        *value = &options->cacert;
        return 0;
    }

    if (strcmp(name, "--user") == 0) {
        *value = &options->user;
        return 0;
    }

    if (strcmp(name, "--password-file") == 0) {
        *value = &options->password_file;
        return 0;
    }

    *mode = VAANI_SPOOL_POST;

    if (strcmp(name, "--to") == 0) {
        *value = &options->to;
        return 0;
    }

    if (strcmp(name, "--secret-file") == 0) {
        *value = &options->secret_file;
        return 0;
    }

    if (strcmp(name, "--format") == 0) {
        *value = &options->format;
        return 0;
    }

    if (strcmp(name, "--header-file") == 0) {
        *value = &options->header_file;
        return 0;
    }

    return -1;
}


unsigned
vaani_spool_unreadable(int argc, char **argv, int *i)
{
    if (*i < argc && strcmp(argv[*i], "--unreadable") == 0) {
        (*i)++;
        return 1;
    }

    return 0;
}
