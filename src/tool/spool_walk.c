
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <sys/stat.h>

#include "vaani_spool.h"


/* digits of a segment's number */

#define VAANI_SPOOL_DIGITS     20


static void vaani_spool_add_dir(vaani_spool_t *spool, const char *dir,
    unsigned refused);
static void vaani_spool_add_refused(vaani_spool_t *spool, const char *dir);
static int vaani_spool_is_ours(const struct dirent *entry);
static int vaani_spool_is_aside(const char *name, unsigned refused);
static int vaani_spool_ends(const char *name, const char *end);
static void vaani_spool_add_file(vaani_spool_t *spool, const char *path,
    off_t size, unsigned found, vaani_spool_kind_e kind);
static const char *vaani_spool_name(const char *path);
static vaani_spool_kind_e vaani_spool_kind(const char *name);
static double vaani_spool_seconds(void);


void
vaani_spool_add(vaani_spool_t *spool, const char *path)
{
    struct stat  st;

    if (stat(path, &st) == -1) {
        vaani_spool_complain(spool, path, strerror(errno));
        return;
    }

    if (!S_ISDIR(st.st_mode)) {
        vaani_spool_add_file(spool, path, st.st_size, 0,
                             vaani_spool_kind(vaani_spool_name(path)));
        return;
    }

    /* in a spool, only those in "refused" are to be posted, if it has one */

    if (spool->mode != VAANI_SPOOL_POST) {
        vaani_spool_add_dir(spool, path, 0);
    }

    if (spool->mode != VAANI_SPOOL_RESEND) {
        vaani_spool_add_refused(spool, path);
    }
}


static void
vaani_spool_add_refused(vaani_spool_t *spool, const char *dir)
{
    char         path[VAANI_SPOOL_PATH_LEN];
    struct stat  st;

    if (vaani_spool_join(spool, path, dir, "refused") != 0) {
        return;
    }

    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
        vaani_spool_add_dir(spool, path, 1);

    } else if (spool->mode == VAANI_SPOOL_POST) {
        vaani_spool_add_dir(spool, dir, 0);
    }
}


static void
vaani_spool_add_dir(vaani_spool_t *spool, const char *dir, unsigned refused)
{
    int                  i, n;
    char                 path[VAANI_SPOOL_PATH_LEN];
    const char          *name;
    struct stat          st;
    struct dirent      **entries;
    vaani_spool_kind_e   kind;

    /* sorted by name, so the oldest segment comes first, whatever its kind */

    n = scandir(dir, &entries, spool->mode == VAANI_SPOOL_ERASE
                               ? NULL : vaani_spool_is_ours, alphasort);

    if (n == -1) {
        vaani_spool_complain(spool, dir, strerror(errno));
        return;
    }

    for (i = 0; i < n; i++) {
        name = entries[i]->d_name;
        kind = vaani_spool_kind(name);

        if (spool->mode == VAANI_SPOOL_ERASE) {

            if (vaani_spool_is_aside(name, refused)) {
                kind = VAANI_SPOOL_ASIDE;

            } else if (!vaani_spool_is_ours(entries[i])) {
                free(entries[i]);
                continue;
            }
        }

        if (vaani_spool_join(spool, path, dir, name) == 0) {
            vaani_spool_add_file(spool, path,
                                 stat(path, &st) == 0 ? st.st_size : 0, 1,
                                 kind);
        }

        free(entries[i]);
    }

    free(entries);
}


static int
vaani_spool_is_ours(const struct dirent *entry)
{
    return strcmp(entry->d_name, "dead-letters") == 0
           || strcmp(entry->d_name, VAANI_SPOOL_ERASED) == 0
           || vaani_spool_ends(entry->d_name, ".log")
           || vaani_spool_ends(entry->d_name, ".kept");
}


/*
 * What stays until somebody deletes it, or for long; also dead letters that
 * were moved away to be sent, as the documentation has it.
 */

static int
vaani_spool_is_aside(const char *name, unsigned refused)
{
    return vaani_spool_ends(name, ".bad")
           || (refused && vaani_spool_ends(name, ".log"))
           || strcmp(name, "dead-letters") == 0
           || strncmp(name, "dead-letters.", 13) == 0;
}


static int
vaani_spool_ends(const char *name, const char *end)
{
    size_t  len, n;

    len = strlen(name);
    n = strlen(end);

    return len > n && strcmp(name + len - n, end) == 0;
}


int
vaani_spool_join(vaani_spool_t *spool, char *path, const char *dir,
    const char *name)
{
    if ((size_t) snprintf(path, VAANI_SPOOL_PATH_LEN, "%s/%s", dir, name)
        >= VAANI_SPOOL_PATH_LEN)
    {
        vaani_spool_complain(spool, dir, "the path is too long");
        return -1;
    }

    return 0;
}


/*
 * found: it was in a directory, and may be gone when it is its turn.
 */

static void
vaani_spool_add_file(vaani_spool_t *spool, const char *path, off_t size,
    unsigned found, vaani_spool_kind_e kind)
{
    size_t                 n;
    vaani_spool_file_t    *files, *file;

    /* what tombstones say is looked up where events are sent */

    if (found && kind == VAANI_SPOOL_TOMBSTONES
        && spool->mode != VAANI_SPOOL_LIST
        && spool->mode != VAANI_SPOOL_VERIFY)
    {
        return;
    }

    if (spool->nfiles == spool->nalloc) {
        n = spool->nalloc ? 2 * spool->nalloc : 64;
        files = realloc(spool->files, n * sizeof(vaani_spool_file_t));

        if (files == NULL) {
            vaani_spool_complain(spool, path, "no memory");
            return;
        }

        spool->files = files;
        spool->nalloc = n;
    }

    file = &spool->files[spool->nfiles];

    file->path = strdup(path);
    file->kind = kind;
    file->found = found;

    if (file->path == NULL) {
        vaani_spool_complain(spool, path, "no memory");
        return;
    }

    spool->nfiles++;
    spool->total += size;
}


static const char *
vaani_spool_name(const char *path)
{
    const char  *slash;

    slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}


/*
 * Of a file that was renamed by hand or by nginx, such as one that ends with
 * ".kept.bad", the kind stays.
 */

static vaani_spool_kind_e
vaani_spool_kind(const char *name)
{
    const char  *p;

    if (strcmp(name, VAANI_SPOOL_ERASED) == 0) {
        return VAANI_SPOOL_TOMBSTONES;
    }

    for (p = strstr(name, ".kept"); p; p = strstr(p + 1, ".kept")) {
        if (p[5] == '\0' || p[5] == '.') {
            return VAANI_SPOOL_KEPT;
        }
    }

    return VAANI_SPOOL_WAITING;
}


void
vaani_spool_run(vaani_spool_t *spool)
{
    size_t  n;

    spool->begun = vaani_spool_seconds();
    spool->told = spool->begun;

    for (n = 0; n < spool->nfiles && !spool->broken; n++) {
        vaani_spool_file(spool, &spool->files[n]);
    }

    if (spool->progress > 1) {
        spool->told = 0;
        vaani_spool_progress(spool, 0);
    }

    for (n = 0; n < spool->nfiles; n++) {
        free(spool->files[n].path);
    }

    free(spool->files);

    spool->files = NULL;
    spool->nfiles = 0;
    spool->nalloc = 0;
}


/*
 * Once all records of a waiting segment have been delivered, nginx deletes it
 * or renames it to one that is kept, under the same number.
 */

int
vaani_spool_renamed(vaani_spool_t *spool, const vaani_spool_file_t *file,
    char *path)
{
    int             rc;
    DIR            *dir;
    char            name[VAANI_SPOOL_PATH_LEN], *slash;
    struct dirent  *entry;

    if (!file->found || file->kind != VAANI_SPOOL_WAITING
        || strlen(file->path) >= VAANI_SPOOL_PATH_LEN)
    {
        return -1;
    }

    memcpy(name, file->path, strlen(file->path) + 1);
    slash = strrchr(name, '/');

    if (slash == NULL || strlen(slash + 1) != VAANI_SPOOL_DIGITS + 4) {
        return -1;
    }

    *slash = '\0';
    dir = opendir(name);

    if (dir == NULL) {
        return -1;
    }

    rc = -1;

    while (rc == -1 && (entry = readdir(dir)) != NULL) {

        if (strncmp(entry->d_name, slash + 1, VAANI_SPOOL_DIGITS) == 0
            && entry->d_name[VAANI_SPOOL_DIGITS] == '-'
            && vaani_spool_is_ours(entry))
        {
            rc = vaani_spool_join(spool, path, name, entry->d_name);
        }
    }

    (void) closedir(dir);

    return rc;
}


/*
 * A line about each second, for somebody who waits.
 */

void
vaani_spool_progress(vaani_spool_t *spool, size_t size)
{
    double  now, took;

    spool->done += size;

    if (!spool->progress) {
        return;
    }

    now = vaani_spool_seconds();

    if (now - spool->told < 1) {
        return;
    }

    took = now - spool->begun;

    (void) fflush(stdout);

    fprintf(stderr, "vaani-spool: %lld of %lld bytes, %lu events, "
            "%.0f events/s\n", (long long) spool->done,
            (long long) (spool->done > spool->total ? spool->done
                                                    : spool->total),
            spool->nrecords, took > 0 ? spool->nrecords / took : 0);

    spool->told = now;
}


static double
vaani_spool_seconds(void)
{
    struct timespec  ts;

    if (clock_gettime(CLOCK_MONOTONIC, &ts) == -1) {
        return 0;
    }

    return ts.tv_sec + ts.tv_nsec / 1e9;
}


void
vaani_spool_complain(vaani_spool_t *spool, const char *path, const char *why)
{
    (void) fflush(stdout);
    fprintf(stderr, "vaani-spool: %s: %s\n", path, why);

    spool->failed = 1;
}
