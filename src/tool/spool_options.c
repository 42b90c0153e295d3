
#include <string.h>

#include "vaani_spool.h"


static int vaani_spool_option(vaani_spool_options_t *options,
    const char *name, const char ***value, vaani_spool_mode_e *mode);


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
            return -1;
        }

        events |= (mode == VAANI_SPOOL_RESEND);
        refusals |= (mode == VAANI_SPOOL_POST);

        (*i)++;

        if (value == NULL) {
            continue;
        }

        if (*i == argc) {
            return -1;
        }

        *value = argv[(*i)++];
    }

    if (options->to == NULL) {
        return (refusals || argc - *i < 2) ? -1 : 0;
    }

    if (strcmp(options->format, "vaani") != 0
        && strcmp(options->format, "standard") != 0)
    {
        return -1;
    }

    return (events || argc == *i) ? -1 : 0;
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
