
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "vaani_spool.h"


static void vaani_spool_add_dir(vaani_spool_t *spool, const char *dir,
    unsigned refused);
static void vaani_spool_add_refused(vaani_spool_t *spool, const char *dir);
static void vaani_spool_add_file(vaani_spool_t *spool, const char *path,
    off_t size, unsigned found, vaani_spool_kind_e kind);


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

    /* in a spool that has "refused", only files in there are posted */

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


/*
 * found in a directory, and may have been deleted before its turn
 */

static void
vaani_spool_add_file(vaani_spool_t *spool, const char *path, off_t size,
    unsigned found, vaani_spool_kind_e kind)
{
    size_t                 n;
    vaani_spool_file_t    *files, *file;

    /* the tombstones matter only when events are sent */

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
            vaani_spool_complain(spool, path, "out of memory");
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
        vaani_spool_complain(spool, path, "out of memory");
        return;
    }

    spool->nfiles++;
    spool->total += size;
}


void
vaani_spool_run(vaani_spool_t *spool)
{
    size_t  n;

    vaani_spool_progress(spool, 0);

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
