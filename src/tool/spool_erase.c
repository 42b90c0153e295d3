
#include <errno.h>
#include <string.h>
#include <unistd.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "vaani_spool.h"
#include "vaani_utf8.h"


static int vaani_spool_lock_both(vaani_spool_t *spool, const char *dir,
    size_t len, int *fds);
static int vaani_spool_room(const char *room);
static void vaani_spool_account(const vaani_spool_t *spool, const char *dir);


int
vaani_spool_erase(vaani_spool_t *spool, const char *dir, const char *room)
{
    int          n, fds[2];
    char         path[VAANI_SPOOL_PATH_LEN];
    size_t       len;
    struct stat  st;

    if (vaani_spool_room(room) != 0) {
        return -1;
    }

    /* a slash at the end is not part of the name */

    for (len = strlen(dir); len > 1 && dir[len - 1] == '/'; len--) {
        /* void */
    }

    if (len + sizeof("/refused") > VAANI_SPOOL_PATH_LEN) {
        vaani_spool_complain(spool, dir, "the path is too long");
        return -1;
    }

    memcpy(path, dir, len);
    memcpy(path + len, "/lock", sizeof("/lock"));

    if (stat(path, &st) == -1) {
        vaani_spool_complain(spool, path, errno == ENOENT
                             ? "not found; is this the directory of a "
                               "spool?" : strerror(errno));
        return -1;
    }

    path[len] = '\0';

    spool->room.data = (const u_char *) room;
    spool->room.len = strlen(room);

    /* the tombstone comes first, so that no more events get into the files */

    if (vaani_spool_add_tombstone(spool, path, len) != 0) {
        return -1;
    }

    if (vaani_spool_lock_both(spool, path, len, fds) == 0) {
        vaani_spool_add(spool, path);
        vaani_spool_run(spool);
    }

    for (n = 0; n < 2; n++) {
        if (fds[n] != -1) {
            (void) close(fds[n]);
        }
    }

    vaani_spool_account(spool, path);

    return 0;
}


/*
 * No other tool changes files of the spool meanwhile.
 */

static int
vaani_spool_lock_both(vaani_spool_t *spool, const char *dir, size_t len,
    int *fds)
{
    int   n;
    char  path[VAANI_SPOOL_PATH_LEN];

    fds[0] = -1;
    fds[1] = -1;

    memcpy(path, dir, len + 1);

    for (n = 0; n < 2; n++) {
        fds[n] = vaani_spool_lock_dir(path, LOCK_EX);

        if (fds[n] == -1 && (n == 0 || errno != ENOENT)) {
            vaani_spool_complain(spool, path, strerror(errno));
            return -1;
        }

        vaani_spool_remove_copies(spool, path);

        memcpy(path + len, "/refused", sizeof("/refused"));
    }

    return 0;
}


/*
 * Converts a name to the form that nginx uses.
 */

static int
vaani_spool_room(const char *room)
{
    size_t         n;
    const u_char  *p, *end;

    p = (const u_char *) room;
    end = p + strlen(room);

    if (p == end || end - p > VAANI_ROOM_MAX_LEN) {
        fprintf(stderr, "vaani-spool: ROOM must have 1 to %d bytes\n",
                VAANI_ROOM_MAX_LEN);
        return -1;
    }

    for ( /* void */ ; p < end; p += n) {
        n = (*p < 0x80) ? 1 : vaani_utf8_len(p, end);

        if (n == 0) {
            fputs("vaani-spool: ROOM must be UTF-8\n", stderr);
            return -1;
        }
    }

    if (vaani_utf8_has_control((const u_char *) room, end)) {
        fputs("vaani-spool: ROOM must not have control characters\n", stderr);
        return -1;
    }

    return 0;
}


static void
vaani_spool_account(const vaani_spool_t *spool, const char *dir)
{
    vaani_spool_print_str(&spool->room);
    fputs(": events received before ", stdout);
    vaani_spool_print_time(spool->erased_at);
    printf(" are not applied again from %s\n", dir);

    fputs("erased: ", stdout);
    vaani_spool_count(spool->nletters, "dead letter", "dead letters");
    fputs(", ", stdout);
    vaani_spool_count(spool->nrefusals, "refused delivery",
                      "refused deliveries");

    if (spool->naside) {
        fputs(", ", stdout);
        vaani_spool_count(spool->naside, "record", "records");
        fputs(" in .bad files", stdout);
    }

    if (spool->ndropped) {
        fputs(", ", stdout);
        vaani_spool_count(spool->ndropped, "unreadable record or damaged place",
                          "unreadable records and damaged places");
    }

    printf("\nin segments until nginx deletes them: %lu waiting, %lu kept\n",
           spool->nwaiting, spool->nkept);

    if (spool->nlater) {
        vaani_spool_count(spool->nlater, "more record was",
                          "more records were");
        fputs(" received later and will be applied\n", stdout);
    }

    if (spool->nunread || spool->ndamaged) {
        fputs("not erased: ", stdout);
        vaani_spool_count(spool->nunread, "record without a readable call",
                          "records without a readable call");
        fputs(", ", stdout);
        vaani_spool_count(spool->ndamaged, "damaged place",
                          "damaged places");

        if (spool->nnamed) {
            printf(", %lu of them with the name of the room", spool->nnamed);
        }

        fputs(";\n  \"vaani-spool list\" shows them, \"erase --unreadable\" "
              "erases them, whichever call they belong to\n", stdout);
    }

    fputs("not reached: the hash of the call in Redis and its entries in "
          "indexes, messages in streams,\n"
          "  spools of other hosts, backups\n", stdout);
}
