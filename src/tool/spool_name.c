
#include <dirent.h>
#include <string.h>

#include "vaani_spool.h"


/* digits of a segment's number */

#define VAANI_SPOOL_DIGITS     20


static int vaani_spool_ends(const char *name, const char *end);


const char *
vaani_spool_name(const char *path)
{
    const char  *slash;

    slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}


/*
 * A file that was renamed by hand or by nginx, for example to ".kept.bad",
 * keeps its kind.
 */

vaani_spool_kind_e
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


int
vaani_spool_is_ours(const struct dirent *entry)
{
    return strcmp(entry->d_name, "dead-letters") == 0
           || strcmp(entry->d_name, VAANI_SPOOL_ERASED) == 0
           || vaani_spool_ends(entry->d_name, ".log")
           || vaani_spool_ends(entry->d_name, ".kept");
}


/*
 * Files that are never deleted automatically, or late; also dead letters that
 * were moved away to be resent, as the documentation describes.
 */

int
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
