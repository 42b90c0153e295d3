
#include "ngx_vaani_spool_window.h"

#include <sys/file.h>


/*
 * Kept segments cover a period of time, the window.  Finds the segments, and
 * whether they are closed, and their age.
 */


/* after so long, the process that was creating a segment has failed, s */

#define NGX_VAANI_SPOOL_NEW         600


static ngx_int_t ngx_vaani_spool_window_names(ngx_vaani_spool_window_t *window,
    ngx_vaani_spool_segment_t **segments, ngx_uint_t *nsegments);
static int ngx_vaani_spool_compare_segments(const void *one, const void *two);
static void ngx_vaani_spool_window_look(ngx_vaani_spool_window_t *window,
    ngx_vaani_spool_segment_t *segment);
static ngx_int_t ngx_vaani_spool_window_slots(ngx_vaani_spool_window_t *window,
    ngx_vaani_spool_segment_t *segment, int fd);
static void ngx_vaani_spool_window_age(ngx_vaani_spool_segment_t *segment,
    int fd, struct stat *st);
static int64_t ngx_vaani_spool_begun(time_t mtime);
static ngx_uint_t ngx_vaani_spool_window_expired(
    ngx_vaani_spool_window_t *window, ngx_vaani_spool_segment_t *segment);


void
ngx_vaani_spool_window_reset(ngx_vaani_spool_window_t *window)
{
    ngx_uint_t               n;
    ngx_vaani_spool_held_t  *held;

    for (n = 0; n < window->spool->max_servers; n++) {
        window->servers[n].begun = 0;
        window->servers[n].life = 0;
    }

    for (n = 0; n < window->nsegments; n++) {
        for (held = window->segments[n].helds; held; held = held->next) {
            held->read = 0;
        }
    }
}


void
ngx_vaani_spool_window_free(ngx_vaani_spool_window_t *window)
{
    ngx_uint_t  n;

    for (n = 0; n < window->nsegments; n++) {
        ngx_vaani_spool_free_segment(&window->segments[n]);
    }

    free(window->segments);
    free(window->erased);
    free(window->tombstones);
}


ngx_int_t
ngx_vaani_spool_window_list(ngx_vaani_spool_window_t *window)
{
    off_t                       bytes;
    int64_t                     since;
    u_char                      name[NGX_VAANI_SPOOL_NAME_LEN];
    ngx_str_t                  *dir;
    ngx_uint_t                  n, o, kept, nsegments;
    ngx_vaani_spool_shared_t   *shared;
    ngx_vaani_spool_segment_t  *segments, *segment;

    dir = &window->spool->path->name;
    shared = ngx_vaani_spool_shared(window->spool);

    window->closed = shared->closed;

    if (ngx_vaani_spool_window_names(window, &segments, &nsegments)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    /* both are in their order */

    o = 0;
    kept = 0;
    bytes = 0;
    since = 0;

    for (n = 0; n < nsegments; n++) {
        segment = &segments[n];

        while (o < window->nsegments
               && ngx_vaani_spool_compare_segments(&window->segments[o],
                                                   segment)
                  < 0)
        {
            ngx_vaani_spool_free_segment(&window->segments[o++]);
        }

        if (o < window->nsegments
            && ngx_vaani_spool_compare_segments(&window->segments[o], segment)
               == 0)
        {
            *segment = window->segments[o++];
        }

        if (!segment->closed) {
            ngx_vaani_spool_window_look(window, segment);
        }

        if (ngx_vaani_spool_window_expired(window, segment)) {
            ngx_vaani_spool_kept_name(name, dir, segment->number, segment->id);

            if (unlink((char *) name) == 0) {
                ngx_vaani_spool_free_segment(segment);
                shared->trimmed = 1;
                continue;
            }
        }

        bytes += segment->size;
        since = since ? ngx_min(since, segment->begun) : segment->begun;
        segments[kept++] = *segment;
    }

    while (o < window->nsegments) {
        ngx_vaani_spool_free_segment(&window->segments[o++]);
    }

    free(window->segments);

    window->segments = segments;
    window->nsegments = kept;

    shared->kept_bytes = bytes;
    shared->kept_since = (kept == 0) ? 0 : ngx_max(since / 1000, 1);

    return ngx_vaani_spool_read_erased(window);
}


/*
 * Lists the existing kept segments, without further details.
 */

static ngx_int_t
ngx_vaani_spool_window_names(ngx_vaani_spool_window_t *window,
    ngx_vaani_spool_segment_t **segments, ngx_uint_t *nsegments)
{
    DIR                        *d;
    u_char                      id[NGX_VAANI_SPOOL_ID_LEN];
    ngx_int_t                   rc;
    ngx_uint_t                  n, size;
    struct stat                 st;
    struct dirent              *de;
    ngx_atomic_uint_t           number;
    ngx_vaani_spool_segment_t  *list, *p;

    d = opendir((char *) window->spool->path->name.data);

    if (d == NULL) {
        return NGX_ERROR;
    }

    list = NULL;
    size = 0;
    n = 0;

    while ((de = readdir(d)) != NULL) {

        rc = ngx_vaani_spool_parse_kept(de->d_name, &number, id);

        if (rc == NGX_BUSY) {

            /* exists only for a moment, unless a worker was killed then */

            if (fstatat(dirfd(d), de->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0
                && time(NULL) - st.st_mtime > NGX_VAANI_SPOOL_NEW)
            {
                (void) unlinkat(dirfd(d), de->d_name, 0);
            }

            continue;
        }

        if (rc != NGX_OK) {
            continue;
        }

        if (n == size) {
            size = size ? 2 * size : 64;

            p = realloc(list, size * sizeof(ngx_vaani_spool_segment_t));

            if (p == NULL) {
                free(list);
                (void) closedir(d);
                errno = ENOMEM;
                return NGX_ERROR;
            }

            list = p;
        }

        p = &list[n++];

        ngx_memzero(p, sizeof(ngx_vaani_spool_segment_t));

        p->number = number;
        ngx_memcpy(p->id, id, NGX_VAANI_SPOOL_ID_LEN);
    }

    (void) closedir(d);

    if (n) {
        qsort(list, n, sizeof(ngx_vaani_spool_segment_t),
              ngx_vaani_spool_compare_segments);
    }

    *segments = list;
    *nsegments = n;

    return NGX_OK;
}


static int
ngx_vaani_spool_compare_segments(const void *one, const void *two)
{
    const ngx_vaani_spool_segment_t  *a = one;
    const ngx_vaani_spool_segment_t  *b = two;

    if (a->number != b->number) {
        return (a->number < b->number) ? -1 : 1;
    }

    return ngx_memcmp(a->id, b->id, NGX_VAANI_SPOOL_ID_LEN);
}


/*
 * Checks whether a segment is closed, and its age.
 */

static void
ngx_vaani_spool_window_look(ngx_vaani_spool_window_t *window,
    ngx_vaani_spool_segment_t *segment)
{
    int          fd;
    u_char       name[NGX_VAANI_SPOOL_NAME_LEN];
    ngx_uint_t   closed;
    struct stat  st;

    ngx_vaani_spool_kept_name(name, &window->spool->path->name,
                              segment->number, segment->id);

    fd = ngx_vaani_spool_open_to_read(name);

    if (fd == -1) {
        return;
    }

    /* it has no writer and does not grow any more */

    closed = (flock(fd, LOCK_EX|LOCK_NB) == 0);

    if (fstat(fd, &st) == 0) {
        segment->size = st.st_size;
        segment->closed = (closed
                           && ngx_vaani_spool_window_slots(window, segment, fd)
                              == NGX_OK);

        ngx_vaani_spool_window_age(segment, fd, &st);
    }

    (void) close(fd);
}


/*
 * Reads the slots of a segment, once.  Returns NGX_ERROR if it must be tried
 * again.
 */

static ngx_int_t
ngx_vaani_spool_window_slots(ngx_vaani_spool_window_t *window,
    ngx_vaani_spool_segment_t *segment, int fd)
{
    if (!ngx_vaani_spool_several(window->spool)) {
        return NGX_OK;
    }

    if (segment->slots == NULL) {
        segment->slots = malloc(NGX_VAANI_SPOOL_SLOTS / 8);

        if (segment->slots == NULL) {
            return NGX_ERROR;
        }
    }

    if (ngx_vaani_spool_read_slots(window->spool, fd, segment->size,
                                   segment->slots)
        == NGX_OK)
    {
        return NGX_OK;
    }

    if (errno == ENOMEM) {
        return NGX_ERROR;
    }

    /* the worker that delivers it gets the same error, and puts it aside */

    ngx_memset(segment->slots, 0xff, NGX_VAANI_SPOOL_SLOTS / 8);

    return NGX_OK;
}


/*
 * A segment that was started since the boot knows its age, independent of the
 * clock.  Otherwise its age is that of its file.
 */

static void
ngx_vaani_spool_window_age(ngx_vaani_spool_segment_t *segment, int fd,
    struct stat *st)
{
    ssize_t                  n;
    uint64_t                 begun;
    const u_char            *boot_id;
    vaani_journal_reader_t   reader;
    vaani_journal_record_t   record;
    u_char                   start[VAANI_JOURNAL_HEADER + VAANI_JOURNAL_START];

    segment->begun = ngx_vaani_spool_begun(st->st_mtime);

    n = pread(fd, start, sizeof(start), 0);

    if (n != (ssize_t) sizeof(start)) {
        return;
    }

    ngx_memzero(&reader, sizeof(vaani_journal_reader_t));

    reader.data = start;
    reader.len = sizeof(start);

    if (vaani_journal_next(&reader, &record) == VAANI_JOURNAL_RECORD
        && vaani_journal_is_start(&record, &boot_id, &begun)
        && ngx_memcmp(boot_id, ngx_vaani_spool_boot_id(),
                      VAANI_JOURNAL_BOOT_ID)
           == 0)
    {
        segment->begun = begun;
        segment->dated = 1;
    }
}


/*
 * Converts a time of the clock to one of ngx_vaani_spool_boottime(); below 0
 * if it was before the boot.
 */

static int64_t
ngx_vaani_spool_begun(time_t mtime)
{
    time_t  age;

    age = time(NULL) - mtime;

    return (int64_t) ngx_vaani_spool_boottime()
           - (int64_t) ngx_max(age, 0) * 1000;
}


/*
 * Segments needed to recover from a loss stay until that is finished.  Without
 * "retain", segments that the receiver has are deleted.
 */

static ngx_uint_t
ngx_vaani_spool_window_expired(ngx_vaani_spool_window_t *window,
    ngx_vaani_spool_segment_t *segment)
{
    int64_t             age, retain;
    ngx_uint_t          whole;
    ngx_vaani_spool_t  *spool;

    spool = window->spool;

    if (!segment->closed) {
        return 0;
    }

    retain = spool->retain;

    whole = spool->unmarked || ngx_vaani_spool_is_covered(window, segment);

    if (retain == 0) {
        return whole;
    }

    age = (int64_t) ngx_vaani_spool_boottime() - segment->begun;

    /* a segment was written to for at most an eighth of that time */

    if (segment->dated) {
        age -= retain / 8;
    }

    return age > ((!whole && ngx_vaani_spool_is_missing(window, segment))
                  ? 2 * retain : retain);
}


ngx_vaani_spool_segment_t *
ngx_vaani_spool_window_add(ngx_vaani_spool_window_t *window,
    ngx_atomic_uint_t number, u_char *id, off_t size, time_t mtime)
{
    ngx_uint_t                  n;
    ngx_vaani_spool_segment_t  *p;

    p = realloc(window->segments, (window->nsegments + 1)
                                  * sizeof(ngx_vaani_spool_segment_t));

    if (p == NULL) {
        return NULL;
    }

    window->segments = p;

    for (n = window->nsegments; n > 0 && p[n - 1].number > number; n--) {
        p[n] = p[n - 1];
    }

    p += n;
    window->nsegments++;

    ngx_memzero(p, sizeof(ngx_vaani_spool_segment_t));

    p->number = number;
    p->size = size;
    p->closed = 1;
    p->begun = ngx_vaani_spool_begun(mtime);

    ngx_memcpy(p->id, id, NGX_VAANI_SPOOL_ID_LEN);

    return p;
}
