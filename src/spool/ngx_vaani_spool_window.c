
#include "ngx_vaani_spool_private.h"


/*
 * Kept segments reach back for a time, the window.  The worker that leads reads
 * the marks of those that are closed: what a mark doesn't cover the receiver
 * doesn't have, or nobody knows.  Nothing else is remembered anywhere: after a
 * kill at any moment the next leader finds the same.
 */


/* how many marks are read at the same time */

#define NGX_VAANI_SPOOL_MARKS       256

/* and how many in a second at most, while nothing is suspected */

#define NGX_VAANI_SPOOL_MARK_RATE   100

/*
 * How often a segment is delivered again whose mark is missing, ms: if marks
 * are evicted, what is delivered again must not evict more of them.
 */

#define NGX_VAANI_SPOOL_HEAL_EVERY  60000

/* after so long, nobody is making a segment any more, s */

#define NGX_VAANI_SPOOL_NEW         600


static ngx_int_t ngx_vaani_spool_window_names(
    ngx_vaani_spool_window_t *window, ngx_vaani_spool_segment_t **segments,
    ngx_uint_t *nsegments);
static int ngx_vaani_spool_compare_segments(const void *one,
    const void *two);
static void ngx_vaani_spool_window_look(ngx_vaani_spool_window_t *window,
    ngx_vaani_spool_segment_t *segment);
static void ngx_vaani_spool_window_age(ngx_vaani_spool_segment_t *segment,
    int fd, struct stat *st);
static int64_t ngx_vaani_spool_begun(time_t mtime);
static ngx_uint_t ngx_vaani_spool_window_expired(
    ngx_vaani_spool_window_t *window, ngx_vaani_spool_segment_t *segment);
static void ngx_vaani_spool_window_begin(ngx_vaani_spool_window_t *window,
    ngx_uint_t life);
static void ngx_vaani_spool_window_mark_handler(ngx_vaani_spool_mark_t *mark,
    ngx_int_t rc);
static void ngx_vaani_spool_window_judge(ngx_vaani_spool_window_t *window);
static ngx_uint_t ngx_vaani_spool_window_due(
    ngx_vaani_spool_segment_t *segment);
static void ngx_vaani_spool_window_over(ngx_vaani_spool_window_t *window);


void
ngx_vaani_spool_window_reset(ngx_vaani_spool_window_t *window)
{
    ngx_uint_t  n;

    window->life = 0;

    for (n = 0; n < window->nsegments; n++) {
        window->segments[n].read = 0;
    }
}


void
ngx_vaani_spool_window_free(ngx_vaani_spool_window_t *window)
{
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
            o++;
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
            ngx_vaani_spool_kept_name(name, dir, segment->number,
                                      segment->mark.id);

            if (unlink((char *) name) == 0) {
                shared->trimmed = 1;
                continue;
            }
        }

        bytes += segment->size;
        since = since ? ngx_min(since, segment->begun) : segment->begun;
        segments[kept++] = *segment;
    }

    free(window->segments);

    window->segments = segments;
    window->nsegments = kept;

    shared->kept_bytes = bytes;
    shared->kept_since = (kept == 0) ? 0 : ngx_max(since / 1000, 1);

    return ngx_vaani_spool_read_erased(window);
}


/*
 * The kept segments that there are, with nothing known of them.
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

            /* it's there for a moment only, unless a worker was killed then */

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
        p->known = NGX_VAANI_SPOOL_NO_MARK;

        ngx_vaani_spool_mark_init(&p->mark, id,
                                  ngx_vaani_spool_window_mark_handler, window);
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

    return ngx_memcmp(a->mark.id, b->mark.id, NGX_VAANI_SPOOL_ID_LEN);
}


/*
 * Looks whether a segment is closed, and since when it is there.
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
                              segment->number, segment->mark.id);

    fd = open((char *) name, O_RDONLY|O_NONBLOCK|O_NOFOLLOW|O_CLOEXEC);

    if (fd == -1) {
        return;
    }

    /* it doesn't grow after that */

    closed = ngx_vaani_spool_is_closed(fd);

    if (fstat(fd, &st) == 0) {
        segment->size = st.st_size;
        segment->closed = closed;

        ngx_vaani_spool_window_age(segment, fd, &st);
    }

    (void) close(fd);
}


/*
 * A segment that was begun since the host was started knows its age, whatever
 * the clock was set to; else it's as old as its file is.
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
 * A time of the clock as one of ngx_vaani_spool_boottime(); below 0 if it was
 * before the boot.
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
 * What a loss is being healed from stays until that is done.  Without "retain",
 * nothing stays that the receiver has.
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

    whole = spool->unmarked
            || (segment->read && segment->mark.stands >= segment->size);

    if (retain == 0) {
        return whole;
    }

    age = (int64_t) ngx_vaani_spool_boottime() - segment->begun;

    /* it was written to for an eighth of that at most */

    if (segment->dated) {
        age -= retain / 8;
    }

    return age > ((segment->read && !whole) ? 2 * retain : retain);
}


ngx_uint_t
ngx_vaani_spool_window_check(ngx_vaani_spool_window_t *window)
{
    ngx_msec_t                  every;
    ngx_uint_t                  n, life;
    ngx_vaani_spool_t          *spool;
    ngx_vaani_spool_shared_t   *shared;
    ngx_vaani_spool_segment_t  *segment;

    spool = window->spool;

    if (window->nbusy) {
        return 1;
    }

    if (spool->unmarked) {
        return 0;
    }

    life = spool->receiver->life(spool->data, 0);

    if (life == 0) {
        return 0;
    }

    shared = ngx_vaani_spool_shared(spool);

    every = ngx_max(NGX_VAANI_SPOOL_RECHECK,
                    window->nsegments * 1000 / NGX_VAANI_SPOOL_MARK_RATE);

    if (life != window->life
        || shared->suspicion != window->suspicion
        || ngx_current_msec - window->checked >= every)
    {
        ngx_vaani_spool_window_begin(window, life);
    }

    /* it counts as one until all are sent: the answers may come at once */

    window->nbusy++;

    for (n = 0; n < window->nsegments; n++) {
        segment = &window->segments[n];

        if (!segment->closed || segment->read || segment->unknown) {
            continue;
        }

        if (window->nbusy > NGX_VAANI_SPOOL_MARKS) {
            break;
        }

        segment->mark.connection = 0;
        segment->mark.life = life;

        if (ngx_vaani_spool_read_mark(spool, &segment->mark) != NGX_OK) {
            break;
        }

        window->nbusy++;
    }

    window->nbusy--;

    return window->nbusy != 0;
}


static void
ngx_vaani_spool_window_begin(ngx_vaani_spool_window_t *window,
    ngx_uint_t life)
{
    ngx_uint_t                 n;
    ngx_vaani_spool_shared_t  *shared;

    shared = ngx_vaani_spool_shared(window->spool);

    window->life = life;
    window->suspicion = shared->suspicion;
    window->checked = ngx_current_msec;

    for (n = 0; n < window->nsegments; n++) {
        window->segments[n].read = 0;
        window->segments[n].unknown = 0;
    }
}


static void
ngx_vaani_spool_window_mark_handler(ngx_vaani_spool_mark_t *mark,
    ngx_int_t rc)
{
    ngx_vaani_spool_window_t *window = mark->data;

    ngx_vaani_spool_segment_t  *segment;

    segment = (ngx_vaani_spool_segment_t *)
                  ((u_char *) mark
                   - offsetof(ngx_vaani_spool_segment_t, mark));

    window->nbusy--;

    if (rc == NGX_DECLINED) {
        ngx_vaani_spool_no_marks(window->spool);
    }

    /* if nobody knows what stands, or it isn't what it was, it's read again */

    if (segment->claiming) {
        segment->claiming = 0;
        segment->read = (rc == NGX_OK);

        /* one that never had a mark isn't missing it */

        if (rc == NGX_OK && segment->known != NGX_VAANI_SPOOL_NO_MARK) {
            segment->healed = ngx_current_msec;
            segment->heals++;
        }

        ngx_vaani_spool_claimed(window->spool, rc);
        return;
    }

    if (segment->setting) {
        segment->setting = 0;
        segment->read = (rc == NGX_OK);

    } else {
        segment->read = (rc == NGX_OK || rc == NGX_BUSY);

        /* nothing else waits for a mark that isn't one, say */

        segment->unknown = !segment->read;
    }

    if (segment->read) {
        segment->lost = (mark->stands < segment->known);
        segment->known = ngx_max(mark->stands, segment->known);
    }

    if (window->nbusy == 0) {
        ngx_vaani_spool_window_judge(window);
    }
}


/*
 * Says that the receiver has lost something, once for each time.
 */

static void
ngx_vaani_spool_window_judge(ngx_vaani_spool_window_t *window)
{
    ngx_uint_t                  n, lost;
    ngx_vaani_spool_shared_t   *shared;
    ngx_vaani_spool_segment_t  *segment;

    shared = ngx_vaani_spool_shared(window->spool);
    lost = 0;

    for (n = 0; n < window->nsegments; n++) {
        segment = &window->segments[n];

        /* the others of them are still to be read */

        if (segment->closed && !segment->read && !segment->unknown) {
            return;
        }

        lost += (segment->lost && !segment->told);
        segment->told = segment->lost;
    }

    if (lost == 0 || window->told) {
        return;
    }

    window->told = 1;
    window->healing = 1;

    (void) ngx_atomic_fetch_add(&shared->forgotten, 1);

    /* other workers look at the marks of theirs */

    window->suspicion = ngx_atomic_fetch_add(&shared->suspicion, 1) + 1;

    ngx_log_error(NGX_LOG_WARN, window->spool->log, 0,
                  "vaani: Redis has lost events; they are applied again from "
                  "the spool \"%V\"",
                  &window->spool->path->name);
}


ngx_vaani_spool_segment_t *
ngx_vaani_spool_window_next(ngx_vaani_spool_window_t *window)
{
    ngx_uint_t                  n;
    ngx_vaani_spool_t          *spool;
    ngx_vaani_spool_segment_t  *segment;

    spool = window->spool;

    if (window->life == 0
        || spool->receiver->life(spool->data, 0) != window->life)
    {
        return NULL;
    }

    for (n = 0; n < window->nsegments; n++) {
        segment = &window->segments[n];

        if (ngx_vaani_spool_window_due(segment)) {
            window->healing = 1;

            if (n == 0 && segment->mark.stands == NGX_VAANI_SPOOL_NO_MARK) {
                window->beyond = 1;
            }

            return segment;
        }
    }

    ngx_vaani_spool_window_over(window);

    return NULL;
}


static ngx_uint_t
ngx_vaani_spool_window_due(ngx_vaani_spool_segment_t *segment)
{
    if (!segment->closed || !segment->read
        || segment->mark.stands >= segment->size)
    {
        return 0;
    }

    return segment->mark.stands != NGX_VAANI_SPOOL_NO_MARK
           || segment->heals == 0
           || ngx_current_msec - segment->healed >= NGX_VAANI_SPOOL_HEAL_EVERY;
}


ngx_uint_t
ngx_vaani_spool_window_has_work(ngx_vaani_spool_window_t *window)
{
    ngx_uint_t                 n;
    ngx_vaani_spool_shared_t  *shared;

    shared = ngx_vaani_spool_shared(window->spool);

    if (window->spool->unmarked) {
        return 0;
    }

    if (window->nbusy || window->healing
        || shared->closed != window->closed
        || shared->suspicion != window->suspicion)
    {
        return 1;
    }

    for (n = 0; n < window->nsegments; n++) {
        if (ngx_vaani_spool_window_due(&window->segments[n])) {
            return 1;
        }
    }

    return 0;
}


static void
ngx_vaani_spool_window_over(ngx_vaani_spool_window_t *window)
{
    ngx_uint_t                  n;
    ngx_vaani_spool_shared_t   *shared;
    ngx_vaani_spool_segment_t  *segment;

    if (!window->healing) {
        return;
    }

    for (n = 0; n < window->nsegments; n++) {
        segment = &window->segments[n];

        if (segment->closed && !segment->read && !segment->unknown) {
            return;
        }
    }

    shared = ngx_vaani_spool_shared(window->spool);

    if (window->nbrought && !window->told) {
        (void) ngx_atomic_fetch_add(&shared->forgotten, 1);
    }

    if (window->nbrought || window->told) {
        ngx_log_error(NGX_LOG_WARN, window->spool->log, 0,
                      "vaani: %ui events that Redis had lost were applied "
                      "again from the spool \"%V\" (%ui checked)",
                      window->nbrought, &window->spool->path->name,
                      window->nlooked);
    }

    /* what was deleted before that may be lost as well */

    if (window->nbrought && window->beyond && shared->trimmed) {
        (void) ngx_atomic_fetch_add(&shared->beyond, 1);

        ngx_log_error(NGX_LOG_CRIT, window->spool->log, 0,
                      "vaani: Redis has lost more events than the spool "
                      "\"%V\" keeps; events received more than %uL s ago "
                      "are not restored",
                      &window->spool->path->name,
                      ngx_vaani_spool_boottime() / 1000 - shared->kept_since);
    }

    window->healing = 0;
    window->told = 0;
    window->beyond = 0;
    window->nbrought = 0;
    window->nlooked = 0;
}


ngx_int_t
ngx_vaani_spool_window_claim(ngx_vaani_spool_window_t *window,
    ngx_vaani_spool_segment_t *segment)
{
    if (ngx_vaani_spool_claim(window->spool, &segment->mark) != NGX_OK) {
        segment->read = 0;
        return NGX_ERROR;
    }

    segment->claiming = 1;
    window->nbusy++;

    return NGX_OK;
}


void
ngx_vaani_spool_window_healed(ngx_vaani_spool_window_t *window,
    ngx_vaani_spool_segment_t *segment)
{
    segment->read = 0;

    if (ngx_vaani_spool_set_mark(window->spool, &segment->mark, segment->size)
        == NGX_OK)
    {
        segment->setting = 1;
        window->nbusy++;
    }
}


void
ngx_vaani_spool_window_add(ngx_vaani_spool_window_t *window,
    ngx_atomic_uint_t number, ngx_vaani_spool_mark_t *mark, off_t size,
    time_t mtime, ngx_uint_t whole)
{
    ngx_uint_t                  n;
    ngx_vaani_spool_segment_t  *p;

    p = realloc(window->segments, (window->nsegments + 1)
                                  * sizeof(ngx_vaani_spool_segment_t));

    if (p == NULL) {

        /* it's found in the directory */

        return;
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
    p->known = NGX_VAANI_SPOOL_NO_MARK;

    p->mark = *mark;
    p->mark.handler = ngx_vaani_spool_window_mark_handler;
    p->mark.data = window;

    if (whole) {
        ngx_vaani_spool_window_healed(window, p);
    }
}
