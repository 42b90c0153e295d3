
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "vaani_spool.h"


/*
 * Rewrites a file that is not read to apply events, and that nothing deletes
 * in time: dead letters, refused deliveries, records put aside.  The new file,
 * without the erased records, takes the name of the old one.
 *
 * A writer of such a file holds its exclusive lock meanwhile and, under the
 * lock, has checked that the file still has its name.  Therefore:
 *
 * - bytes below the size that was seen under the lock do not change: they are
 *   copied and synced without the lock, for which nginx does not wait long;
 * - the rest is copied under the lock.  No writer appends to a file without a
 * name:
 *   later records go to the new one;
 * - the new file is locked as well until its name is on disk: no record can be
 *   written to it that a crash could leave without a name.
 *
 * Until the rename the old file is unchanged.  An interrupted run leaves only
 * a copy, which the next run deletes.
 */

#define VAANI_SPOOL_COPY       ".erasing"

/* the maximum copied under the lock, unless so many passes were made */

#define VAANI_SPOOL_TAIL       65536
#define VAANI_SPOOL_PASSES     10

/* how often the work restarts because the file was replaced meanwhile */

#define VAANI_SPOOL_AGAIN      10


typedef struct {
    unsigned long          nletters;
    unsigned long          nrefusals;
    unsigned long          naside;
    unsigned long          nunread;         /* stay */
    unsigned long          nnamed;          /* of them, name the room */
    unsigned long          ndamaged;
    unsigned long          ndropped;        /* unreadable, erased */
} vaani_spool_found_t;


typedef struct {
    vaani_spool_t         *spool;
    const char            *path;
    const char            *name;            /* without its directory */
    char                   copy[VAANI_SPOOL_PATH_LEN];
    int                    dir;
    int                    out;             /* -1: nothing is erased yet */
    off_t                  end;             /* of what was written there */
    off_t                  from;            /* what is to be copied next */
    unsigned               locked;
    struct stat            st;
    vaani_spool_reader_t   reader;
    vaani_spool_found_t    found;
} vaani_spool_rewrite_t;


static int vaani_spool_rewrite_file(vaani_spool_rewrite_t *rewrite);
static int vaani_spool_source(vaani_spool_rewrite_t *rewrite);
static int vaani_spool_pass(vaani_spool_rewrite_t *rewrite);
static int vaani_spool_take(vaani_spool_rewrite_t *rewrite,
    vaani_journal_record_t *record);
static int vaani_spool_damage(vaani_spool_rewrite_t *rewrite,
    const vaani_journal_record_t *record);
static int vaani_spool_leave_out(vaani_spool_rewrite_t *rewrite,
    const vaani_journal_record_t *record);
static int vaani_spool_create(vaani_spool_rewrite_t *rewrite);
static int vaani_spool_copy(vaani_spool_rewrite_t *rewrite, off_t to);
static int vaani_spool_grow(vaani_spool_rewrite_t *rewrite, unsigned passes);
static int vaani_spool_replace(vaani_spool_rewrite_t *rewrite);


void
vaani_spool_rewrite(vaani_spool_t *spool, const char *path)
{
    int                     n, rc, err;
    size_t                  len;
    char                    dir[VAANI_SPOOL_PATH_LEN];
    const char             *slash;
    vaani_spool_rewrite_t   rewrite;

    slash = strrchr(path, '/');
    len = slash ? (size_t) (slash - path) : 0;

    if (slash == NULL || strlen(slash + 1) + sizeof(VAANI_SPOOL_COPY)
                         > VAANI_SPOOL_PATH_LEN)
    {
        vaani_spool_complain(spool, path, "the path is too long");
        return;
    }

    memcpy(dir, path, len);
    dir[len] = '\0';

    memset(&rewrite, 0, sizeof(vaani_spool_rewrite_t));

    rewrite.spool = spool;
    rewrite.path = path;
    rewrite.name = slash + 1;

    len = strlen(rewrite.name);
    memcpy(rewrite.copy, rewrite.name, len);
    memcpy(rewrite.copy + len, VAANI_SPOOL_COPY, sizeof(VAANI_SPOOL_COPY));

    rewrite.dir = open(dir, O_RDONLY|O_DIRECTORY|O_CLOEXEC);

    if (rewrite.dir == -1) {
        vaani_spool_complain(spool, dir, strerror(errno));
        return;
    }

    n = 0;

    do {
        memset(&rewrite.found, 0, sizeof(vaani_spool_found_t));
        rc = vaani_spool_rewrite_file(&rewrite);
    } while (rc == VAANI_SPOOL_GROWN && n++ < VAANI_SPOOL_AGAIN);

    err = errno;

    (void) close(rewrite.dir);

    if (rc != 0) {
        vaani_spool_complain(spool, path,
                             rc == VAANI_SPOOL_ERROR
                             ? strerror(err)
                             : "another process is using it; nothing was "
                               "erased in it, try again");
        return;
    }

    spool->nletters += rewrite.found.nletters;
    spool->nrefusals += rewrite.found.nrefusals;
    spool->naside += rewrite.found.naside;
    spool->nunread += rewrite.found.nunread;
    spool->nnamed += rewrite.found.nnamed;
    spool->ndamaged += rewrite.found.ndamaged;
    spool->ndropped += rewrite.found.ndropped;
}


/*
 * Returns 0; VAANI_SPOOL_GROWN if another file has the name now;
 * VAANI_SPOOL_BUSY; VAANI_SPOOL_ERROR with errno set.
 */

static int
vaani_spool_rewrite_file(vaani_spool_rewrite_t *rewrite)
{
    int       rc, err;
    unsigned  n;

    rc = vaani_spool_source(rewrite);

    if (rc != 0) {
        return (rc == VAANI_SPOOL_ERROR && errno == ENOENT) ? 0 : rc;
    }

    n = 0;
    rc = vaani_spool_grow(rewrite, 0);

    while (rc == VAANI_SPOOL_GROWN) {
        rc = vaani_spool_pass(rewrite);

        if (rc != 0) {
            break;
        }

        if (rewrite->locked) {
            rc = VAANI_SPOOL_SETTLED;
            break;
        }

        /* sync most of the data before the lock is taken */

        if (rewrite->out != -1
            && (vaani_spool_copy(rewrite, rewrite->reader.pos) != 0
                || fsync(rewrite->out) == -1))
        {
            rc = VAANI_SPOOL_ERROR;
            break;
        }

        rc = vaani_spool_grow(rewrite, ++n);
    }

    if (rc == VAANI_SPOOL_SETTLED && rewrite->out != -1) {
        rc = vaani_spool_replace(rewrite);
    }

    err = errno;

    if (rewrite->out != -1) {

        if (rc != 0) {
            (void) unlinkat(rewrite->dir, rewrite->copy, 0);
        }

        (void) close(rewrite->out);
    }

    vaani_spool_close(&rewrite->reader);

    errno = err;

    return rc;
}


/*
 * The file must be replaceable: root must not follow a name that another user
 * has created, nor replace only one of several names of a file.
 */

static int
vaani_spool_source(vaani_spool_rewrite_t *rewrite)
{
    int                    fd, err;
    vaani_spool_reader_t  *reader;

    reader = &rewrite->reader;

    memset(reader, 0, sizeof(vaani_spool_reader_t));

    rewrite->out = -1;
    rewrite->end = 0;
    rewrite->from = 0;
    rewrite->locked = 0;

    fd = openat(rewrite->dir, rewrite->name,
                O_RDWR|O_NOFOLLOW|O_NONBLOCK|O_CLOEXEC);

    if (fd == -1) {
        return VAANI_SPOOL_ERROR;
    }

    if (fstat(fd, &rewrite->st) == -1) {
        err = errno;
        (void) close(fd);
        errno = err;

        return VAANI_SPOOL_ERROR;
    }

    if (!S_ISREG(rewrite->st.st_mode) || rewrite->st.st_nlink > 1) {
        (void) close(fd);
        errno = EINVAL;

        return VAANI_SPOOL_ERROR;
    }

    reader->fd = fd;

    return 0;
}


/*
 * Reads up to the known size.  Returns 0 or VAANI_SPOOL_ERROR.
 */

static int
vaani_spool_pass(vaani_spool_rewrite_t *rewrite)
{
    int                     rc;
    vaani_journal_record_t  record;

    for ( ;; ) {

        switch (vaani_spool_next(&rewrite->reader, &record)) {

        case VAANI_JOURNAL_RECORD:
            rc = vaani_spool_take(rewrite, &record);
            vaani_spool_free(rewrite->spool);
            break;

        case VAANI_JOURNAL_BAD:
            rc = vaani_spool_damage(rewrite, &record);
            break;

        case VAANI_JOURNAL_END:
            return 0;

        default:
            rc = -1;
        }

        if (rc != 0) {
            return VAANI_SPOOL_ERROR;
        }
    }
}


/*
 * Returns 0, or -1 with errno set.
 */

static int
vaani_spool_take(vaani_spool_rewrite_t *rewrite,
    vaani_journal_record_t *record)
{
    size_t                  len;
    uint64_t                time;
    const u_char           *text;
    vaani_spool_t          *spool;
    unsigned long          *counter;
    vaani_spool_found_t    *found;
    vaani_spool_verdict_e   verdict;

    spool = rewrite->spool;
    found = &rewrite->found;

    if (vaani_journal_is_start(record, &text, &time)) {
        return 0;
    }

    if (vaani_journal_refusal(record, &time, &text, &len)) {
        counter = &found->nrefusals;
        verdict = vaani_spool_delivery_verdict(spool, record);

    } else {
        counter = vaani_journal_dead_letter(record, &text, &len)
                  ? &found->nletters : &found->naside;
        verdict = vaani_spool_event_verdict(spool, record);
    }

    switch (verdict) {

    case VAANI_SPOOL_OTHER_ROOM:
        return 0;

    case VAANI_SPOOL_THE_ROOM:
        break;

    case VAANI_SPOOL_NO_ROOM:

        if (vaani_spool_names(spool, record->content, record->len)) {
            break;
        }

        if (!spool->unreadable) {
            found->nunread++;
            return 0;
        }

        counter = &found->ndropped;
        break;

    default:
        errno = ENOMEM;
        return -1;
    }

    (*counter)++;

    return vaani_spool_leave_out(rewrite, record);
}


/*
 * Damaged bytes may belong to several calls.  Therefore they are not erased
 * even if they contain the name.
 */

static int
vaani_spool_damage(vaani_spool_rewrite_t *rewrite,
    const vaani_journal_record_t *record)
{
    int      rc;
    u_char  *data;

    if (rewrite->spool->unreadable) {
        rewrite->found.ndropped++;
        return vaani_spool_leave_out(rewrite, record);
    }

    rewrite->found.ndamaged++;

    data = malloc(record->size);

    if (data == NULL) {
        return -1;
    }

    rc = vaani_spool_read(rewrite->reader.fd, data, record->size,
                          record->offset);

    if (rc == 0 && vaani_spool_names(rewrite->spool, data, record->size)) {
        rewrite->found.nnamed++;
    }

    free(data);

    return rc;
}


static int
vaani_spool_leave_out(vaani_spool_rewrite_t *rewrite,
    const vaani_journal_record_t *record)
{
    if (rewrite->out == -1 && vaani_spool_create(rewrite) != 0) {
        return -1;
    }

    if (vaani_spool_copy(rewrite, record->offset) != 0) {
        return -1;
    }

    rewrite->from = (off_t) (record->offset + record->size);

    return 0;
}


/*
 * Creates the new file, locked, with the owner of the old one.
 */

static int
vaani_spool_create(vaani_spool_rewrite_t *rewrite)
{
    int          fd;
    struct stat  st;

    /* of an interrupted run: no other run is active now */

    if (unlinkat(rewrite->dir, rewrite->copy, 0) == -1 && errno != ENOENT) {
        return -1;
    }

    fd = openat(rewrite->dir, rewrite->copy,
                O_WRONLY|O_CREAT|O_EXCL|O_NOFOLLOW|O_CLOEXEC, 0600);

    if (fd == -1) {
        return -1;
    }

    rewrite->out = fd;

    if (flock(fd, LOCK_EX|LOCK_NB) == -1 || fstat(fd, &st) == -1) {
        return -1;
    }

    if ((st.st_uid != rewrite->st.st_uid || st.st_gid != rewrite->st.st_gid)
        && fchown(fd, rewrite->st.st_uid, rewrite->st.st_gid) == -1)
    {
        return -1;
    }

    return fchmod(fd, rewrite->st.st_mode & 07777);
}


/*
 * Copies the bytes before that offset that were not copied yet.
 */

static int
vaani_spool_copy(vaani_spool_rewrite_t *rewrite, off_t to)
{
    size_t   len, done;
    ssize_t  n;
    u_char   chunk[VAANI_SPOOL_CHUNK];

    while (rewrite->from < to) {
        len = (to - rewrite->from < VAANI_SPOOL_CHUNK)
              ? (size_t) (to - rewrite->from) : VAANI_SPOOL_CHUNK;

        if (vaani_spool_read(rewrite->reader.fd, chunk, len, rewrite->from)
            != 0)
        {
            return -1;
        }

        for (done = 0; done < len; done += n) {
            n = write(rewrite->out, chunk + done, len - done);

            if (n == -1) {

                if (errno != EINTR) {
                    return -1;
                }

                n = 0;
            }
        }

        rewrite->from += len;
        rewrite->end += len;
    }

    return 0;
}


/*
 * Checks the size under the lock, and keeps the lock if the rest is short, or
 * at the last pass.  Returns VAANI_SPOOL_SETTLED if nothing remains to be
 * read; VAANI_SPOOL_GROWN if some bytes remain, under the lock or not;
 * VAANI_SPOOL_BUSY; VAANI_SPOOL_ERROR.
 */

static int
vaani_spool_grow(vaani_spool_rewrite_t *rewrite, unsigned passes)
{
    off_t             more;
    unsigned          n;
    struct stat       st;
    struct timespec   apart = { 0, VAANI_SPOOL_APART };

    for (n = 0; flock(rewrite->reader.fd, LOCK_EX|LOCK_NB) == -1; n++) {

        if (errno != EWOULDBLOCK && errno != EINTR) {
            return VAANI_SPOOL_ERROR;
        }

        if (n == VAANI_SPOOL_ATTEMPTS) {
            return VAANI_SPOOL_BUSY;
        }

        (void) nanosleep(&apart, NULL);
    }

    if (fstat(rewrite->reader.fd, &st) == -1) {
        return VAANI_SPOOL_ERROR;
    }

    more = st.st_size - rewrite->reader.size;

    if (more < 0) {

        /* another program than nginx has truncated it */

        errno = EIO;
        return VAANI_SPOOL_ERROR;
    }

    rewrite->reader.size = st.st_size;

    if (passes == 0
        || (passes < VAANI_SPOOL_PASSES
            && more > (rewrite->out == -1 ? 0 : VAANI_SPOOL_TAIL)))
    {
        (void) flock(rewrite->reader.fd, LOCK_UN);
        return VAANI_SPOOL_GROWN;
    }

    rewrite->locked = 1;

    return more ? VAANI_SPOOL_GROWN : VAANI_SPOOL_SETTLED;
}


/*
 * Both files are locked.  Returns as vaani_spool_rewrite_file().
 */

static int
vaani_spool_replace(vaani_spool_rewrite_t *rewrite)
{
    struct stat  named;

    if (fstatat(rewrite->dir, rewrite->name, &named, AT_SYMLINK_NOFOLLOW)
        == -1)
    {
        if (errno != ENOENT) {
            return VAANI_SPOOL_ERROR;
        }

        /* it was deleted or moved away */

        return VAANI_SPOOL_GROWN;
    }

    if (named.st_ino != rewrite->st.st_ino
        || named.st_dev != rewrite->st.st_dev)
    {
        return VAANI_SPOOL_GROWN;
    }

    if (vaani_spool_copy(rewrite, rewrite->reader.pos) != 0) {
        return VAANI_SPOOL_ERROR;
    }

    if (rewrite->end == 0) {

        /* all of it was erased */

        if (unlinkat(rewrite->dir, rewrite->name, 0) == -1
            || unlinkat(rewrite->dir, rewrite->copy, 0) == -1
            || fsync(rewrite->dir) == -1)
        {
            return VAANI_SPOOL_ERROR;
        }

        return 0;
    }

    if (fsync(rewrite->out) == -1
        || renameat(rewrite->dir, rewrite->copy, rewrite->dir, rewrite->name)
           == -1
        || fsync(rewrite->dir) == -1)
    {
        return VAANI_SPOOL_ERROR;
    }

    return 0;
}


/*
 * Deletes copies of an interrupted run.
 */

void
vaani_spool_remove_copies(vaani_spool_t *spool, const char *path)
{
    DIR            *dir;
    size_t          len;
    struct dirent  *entry;

    dir = opendir(path);

    if (dir == NULL) {

        if (errno != ENOENT) {
            vaani_spool_complain(spool, path, strerror(errno));
        }

        return;
    }

    while ((entry = readdir(dir)) != NULL) {
        len = strlen(entry->d_name);

        if (len > sizeof(VAANI_SPOOL_COPY) - 1
            && strcmp(entry->d_name + len - sizeof(VAANI_SPOOL_COPY) + 1,
                      VAANI_SPOOL_COPY)
               == 0
            && unlinkat(dirfd(dir), entry->d_name, 0) == -1)
        {
            vaani_spool_complain(spool, path, strerror(errno));
        }
    }

    (void) closedir(dir);
}
