
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
static ngx_int_t ngx_vaani_spool_window_slots(
    ngx_vaani_spool_window_t *window, ngx_vaani_spool_segment_t *segment,
    int fd);
static int64_t ngx_vaani_spool_begun(time_t mtime);
static ngx_uint_t ngx_vaani_spool_window_expired(
    ngx_vaani_spool_window_t *window, ngx_vaani_spool_segment_t *segment);
static void ngx_vaani_spool_window_begin(ngx_vaani_spool_window_t *window,
    ngx_uint_t nup);
static void ngx_vaani_spool_window_begin_server(
    ngx_vaani_spool_window_t *window, ngx_uint_t n);
static ngx_int_t ngx_vaani_spool_window_read(ngx_vaani_spool_window_t *window,
    ngx_vaani_spool_held_t *held);
static void ngx_vaani_spool_window_mark_handler(ngx_vaani_spool_mark_t *mark,
    ngx_int_t rc);
static void ngx_vaani_spool_window_judge(ngx_vaani_spool_window_t *window);
static ngx_uint_t ngx_vaani_spool_window_to_read(
    ngx_vaani_spool_window_t *window, ngx_vaani_spool_segment_t *segment,
    ngx_vaani_spool_held_t *held);
static ngx_uint_t ngx_vaani_spool_window_due(ngx_vaani_spool_window_t *window,
    ngx_vaani_spool_segment_t *segment, ngx_vaani_spool_held_t *held);
static ngx_uint_t ngx_vaani_spool_window_oldest(
    ngx_vaani_spool_window_t *window, ngx_uint_t n,
    ngx_vaani_spool_held_t *held);
static void ngx_vaani_spool_window_over(ngx_vaani_spool_window_t *window);


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
        ngx_vaani_spool_forget(&window->segments[n]);
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
            ngx_vaani_spool_forget(&window->segments[o++]);
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
                ngx_vaani_spool_forget(segment);
                shared->trimmed = 1;
                continue;
            }
        }

        bytes += segment->size;
        since = since ? ngx_min(since, segment->begun) : segment->begun;
        segments[kept++] = *segment;
    }

    while (o < window->nsegments) {
        ngx_vaani_spool_forget(&window->segments[o++]);
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
                              segment->number, segment->id);

    fd = open((char *) name, O_RDONLY|O_NONBLOCK|O_NOFOLLOW|O_CLOEXEC);

    if (fd == -1) {
        return;
    }

    /* it doesn't grow after that */

    closed = ngx_vaani_spool_is_closed(fd);

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
 * Looks which slots are in a segment, once.  Returns NGX_ERROR if that is to be
 * tried again.
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

    /* who is to deliver it finds the same, and puts it aside */

    ngx_memset(segment->slots, 0xff, NGX_VAANI_SPOOL_SLOTS / 8);

    return NGX_OK;
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

    whole = spool->unmarked || ngx_vaani_spool_is_covered(window, segment);

    if (retain == 0) {
        return whole;
    }

    age = (int64_t) ngx_vaani_spool_boottime() - segment->begun;

    /* it was written to for an eighth of that at most */

    if (segment->dated) {
        age -= retain / 8;
    }

    return age > ((!whole && ngx_vaani_spool_is_wanting(window, segment))
                  ? 2 * retain : retain);
}


ngx_uint_t
ngx_vaani_spool_window_check(ngx_vaani_spool_window_t *window)
{
    ngx_uint_t                  n, nup;
    ngx_vaani_spool_t          *spool;
    ngx_vaani_spool_held_t     *held;
    ngx_vaani_spool_segment_t  *segment;

    spool = window->spool;

    if (window->nbusy) {
        return 1;
    }

    nup = ngx_vaani_spool_look_at_servers(window);

    if (spool->unmarked || nup == 0) {
        return 0;
    }

    for (n = 0; n < window->nsegments; n++) {
        if (window->segments[n].closed) {
            (void) ngx_vaani_spool_concern(window, &window->segments[n]);
        }
    }

    ngx_vaani_spool_window_begin(window, nup);

    /* it counts as one until all are sent: the answers may come at once */

    window->nbusy++;

    for (n = 0; n < window->nsegments; n++) {
        segment = &window->segments[n];

        for (held = segment->helds; held; held = held->next) {

            if (!ngx_vaani_spool_window_to_read(window, segment, held)) {
                continue;
            }

            if (window->nbusy > NGX_VAANI_SPOOL_MARKS
                || ngx_vaani_spool_window_read(window, held) != NGX_OK)
            {
                goto done;
            }
        }
    }

done:

    window->nbusy--;

    return window->nbusy != 0;
}


/*
 * From time to time, and when something is suspected, all marks are read; those
 * of a server when it's another one.
 */

static void
ngx_vaani_spool_window_begin(ngx_vaani_spool_window_t *window, ngx_uint_t nup)
{
    ngx_msec_t                 every;
    ngx_uint_t                 n, all, nbegun;
    ngx_vaani_spool_t         *spool;
    ngx_vaani_spool_shared_t  *shared;
    ngx_vaani_spool_server_t  *server;

    spool = window->spool;
    shared = ngx_vaani_spool_shared(spool);

    every = ngx_max(NGX_VAANI_SPOOL_RECHECK,
                    window->nsegments * 1000 / NGX_VAANI_SPOOL_MARK_RATE);

    all = (shared->suspicion != window->suspicion
           || ngx_current_msec - window->checked >= every);

    nbegun = 0;

    for (n = 0; n < window->nservers; n++) {
        server = &window->servers[n];

        if (!server->up) {
            continue;
        }

        /* slots may be moved one by one: they all are looked at together */

        if (server->moved
            && spool->receiver->settled(spool->data)
               < NGX_VAANI_SPOOL_SETTLED)
        {
            nup--;
            continue;
        }

        if (all || !server->begun) {
            ngx_vaani_spool_window_begin_server(window, n);
            nbegun++;
        }
    }

    if (nup && nbegun == nup) {
        window->suspicion = shared->suspicion;
        window->checked = ngx_current_msec;
    }
}


static void
ngx_vaani_spool_window_begin_server(ngx_vaani_spool_window_t *window,
    ngx_uint_t n)
{
    ngx_uint_t                 i;
    ngx_vaani_spool_held_t    *held;
    ngx_vaani_spool_server_t  *server;

    server = &window->servers[n];

    for (i = 0; i < window->nsegments; i++) {

        for (held = window->segments[i].helds; held; held = held->next) {

            if (held->server != n) {
                continue;
            }

            held->read = 0;
            held->unknown = 0;

            /* that a mark is void is no proof of a loss */

            if (server->moved) {
                held->moved = 1;
                held->known = NGX_VAANI_SPOOL_NO_MARK;
                held->lost = 0;
                held->told = 0;
                held->rest = 0;
            }
        }
    }

    server->begun = 1;
    server->moved = 0;
}


static ngx_int_t
ngx_vaani_spool_window_read(ngx_vaani_spool_window_t *window,
    ngx_vaani_spool_held_t *held)
{
    ngx_vaani_spool_t         *spool;
    ngx_vaani_spool_server_t  *server;

    spool = window->spool;
    server = &window->servers[held->server];

    held->mark.connection = held->server * spool->nconnections;
    held->mark.life = server->life;
    held->mark.scoped = server->scoped;

    ngx_memcpy(held->mark.scope, server->scope, NGX_VAANI_SPOOL_SCOPE_LEN);

    if (ngx_vaani_spool_read_mark(spool, &held->mark) != NGX_OK) {
        return NGX_ERROR;
    }

    window->nbusy++;

    return NGX_OK;
}


/*
 * Whether the mark is still to be read, and can be.
 */

static ngx_uint_t
ngx_vaani_spool_window_to_read(ngx_vaani_spool_window_t *window,
    ngx_vaani_spool_segment_t *segment, ngx_vaani_spool_held_t *held)
{
    return segment->closed && !held->read && !held->unknown
           && window->servers[held->server].up
           && !window->servers[held->server].moved;
}


ngx_vaani_spool_held_t *
ngx_vaani_spool_new_held(ngx_vaani_spool_window_t *window, u_char *id,
    ngx_uint_t server)
{
    ngx_vaani_spool_held_t  *held;

    held = malloc(sizeof(ngx_vaani_spool_held_t));

    if (held == NULL) {
        return NULL;
    }

    ngx_memzero(held, sizeof(ngx_vaani_spool_held_t));

    held->server = server;
    held->known = NGX_VAANI_SPOOL_NO_MARK;

    ngx_vaani_spool_mark_init(&held->mark, id,
                              ngx_vaani_spool_window_mark_handler, window);

    return held;
}


static void
ngx_vaani_spool_window_mark_handler(ngx_vaani_spool_mark_t *mark,
    ngx_int_t rc)
{
    ngx_vaani_spool_window_t *window = mark->data;

    ngx_vaani_spool_held_t  *held;

    held = (ngx_vaani_spool_held_t *)
               ((u_char *) mark - offsetof(ngx_vaani_spool_held_t, mark));

    window->nbusy--;

    if (rc == NGX_DECLINED) {
        ngx_vaani_spool_no_marks(window->spool);
    }

    /* if nobody knows what stands, or it isn't what it was, it's read again */

    if (held->claiming) {
        held->claiming = 0;
        held->read = (rc == NGX_OK);

        if (rc == NGX_OK) {
            held->moved = 0;

            /*
             * One that never had a mark isn't missing it, unless it was void,
             * which it may be soon again.
             */

            if (held->known != NGX_VAANI_SPOOL_NO_MARK || mark->scoped) {
                held->healed = ngx_current_msec;
                held->heals++;
            }
        }

        ngx_vaani_spool_claimed(window->spool, rc);
        return;
    }

    if (held->setting) {
        held->setting = 0;
        held->read = (rc == NGX_OK);

    } else {
        held->read = (rc == NGX_OK || rc == NGX_BUSY);

        /* nothing else waits for a mark that isn't one, say */

        held->unknown = !held->read;
    }

    if (held->read) {

        if (held->moved) {
            mark->stands = NGX_VAANI_SPOOL_NO_MARK;
        }

        held->lost = (mark->stands < held->known);
        held->known = ngx_max(mark->stands, held->known);
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
    ngx_vaani_spool_held_t     *held;
    ngx_vaani_spool_shared_t   *shared;
    ngx_vaani_spool_segment_t  *segment;

    shared = ngx_vaani_spool_shared(window->spool);
    lost = 0;

    for (n = 0; n < window->nsegments; n++) {
        segment = &window->segments[n];

        for (held = segment->helds; held; held = held->next) {

            /* the others of them are still to be read */

            if (ngx_vaani_spool_window_to_read(window, segment, held)) {
                return;
            }

            lost += (held->lost && !held->told);
            held->told = held->lost;
        }
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
ngx_vaani_spool_window_next(ngx_vaani_spool_window_t *window,
    ngx_vaani_spool_held_t **next)
{
    ngx_uint_t                  n, nalive;
    ngx_vaani_spool_t          *spool;
    ngx_vaani_spool_held_t     *held;
    ngx_vaani_spool_server_t   *server;
    ngx_vaani_spool_segment_t  *segment;

    spool = window->spool;
    nalive = 0;

    for (n = 0; n < window->nservers; n++) {
        server = &window->servers[n];

        server->up = (server->up && server->begun
                      && spool->receiver->life(spool->data,
                                               n * spool->nconnections)
                         == server->life);
        nalive += server->up;
    }

    if (nalive == 0) {
        return NULL;
    }

    for (n = 0; n < window->nsegments; n++) {
        segment = &window->segments[n];

        for (held = segment->helds; held; held = held->next) {

            if (!window->servers[held->server].up
                || !ngx_vaani_spool_window_due(window, segment, held))
            {
                continue;
            }

            window->healing = 1;

            if (ngx_vaani_spool_window_oldest(window, n, held)) {
                window->beyond = 1;
            }

            *next = held;

            return segment;
        }
    }

    ngx_vaani_spool_window_over(window);

    return NULL;
}


static ngx_uint_t
ngx_vaani_spool_window_due(ngx_vaani_spool_window_t *window,
    ngx_vaani_spool_segment_t *segment, ngx_vaani_spool_held_t *held)
{
    ngx_vaani_spool_t  *spool;

    if (!segment->closed || !held->read
        || window->servers[held->server].moved
        || held->mark.stands >= segment->size
        || (held->rest && ngx_current_msec - held->rested < held->rest))
    {
        return 0;
    }

    if (held->mark.stands != NGX_VAANI_SPOOL_NO_MARK) {
        return 1;
    }

    spool = window->spool;

    /* what a segment has in slots that its server has just got, say */

    if (ngx_vaani_spool_several(spool)
        && spool->receiver->settled(spool->data) < NGX_VAANI_SPOOL_SETTLED)
    {
        return 0;
    }

    return held->heals == 0
           || ngx_current_msec - held->healed >= NGX_VAANI_SPOOL_HEAL_EVERY;
}


/*
 * Whether a server has nothing of the oldest segment that concerns it: then it
 * may have lost what is older.  A void mark is something.
 */

static ngx_uint_t
ngx_vaani_spool_window_oldest(ngx_vaani_spool_window_t *window, ngx_uint_t n,
    ngx_vaani_spool_held_t *held)
{
    ngx_vaani_spool_held_t  *older;

    if (held->mark.stands != NGX_VAANI_SPOOL_NO_MARK
        || (held->mark.scoped && held->mark.len))
    {
        return 0;
    }

    while (n-- > 0) {
        for (older = window->segments[n].helds; older; older = older->next) {
            if (older->server == held->server) {
                return 0;
            }
        }
    }

    return 1;
}


ngx_uint_t
ngx_vaani_spool_window_has_work(ngx_vaani_spool_window_t *window)
{
    ngx_uint_t                 n;
    ngx_vaani_spool_held_t    *held;
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
        for (held = window->segments[n].helds; held; held = held->next) {
            if (ngx_vaani_spool_window_due(window, &window->segments[n],
                                           held))
            {
                return 1;
            }
        }
    }

    return 0;
}


static void
ngx_vaani_spool_window_over(ngx_vaani_spool_window_t *window)
{
    ngx_uint_t                  n;
    ngx_vaani_spool_held_t     *held;
    ngx_vaani_spool_shared_t   *shared;
    ngx_vaani_spool_segment_t  *segment;

    if (!window->healing) {
        return;
    }

    for (n = 0; n < window->nsegments; n++) {
        segment = &window->segments[n];

        for (held = segment->helds; held; held = held->next) {
            if (ngx_vaani_spool_window_to_read(window, segment, held)) {
                return;
            }
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
    ngx_vaani_spool_held_t *held)
{
    if (ngx_vaani_spool_claim(window->spool, &held->mark) != NGX_OK) {
        held->read = 0;
        return NGX_ERROR;
    }

    held->claiming = 1;
    window->nbusy++;

    return NGX_OK;
}


void
ngx_vaani_spool_window_healed(ngx_vaani_spool_window_t *window,
    ngx_vaani_spool_held_t *held, off_t size)
{
    held->read = 0;

    if (ngx_vaani_spool_set_mark(window->spool, &held->mark, size) == NGX_OK) {
        held->setting = 1;
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

    ngx_memcpy(p->id, mark->id, NGX_VAANI_SPOOL_ID_LEN);

    if (ngx_vaani_spool_concern(window, p) != NGX_OK) {
        return;
    }

    p->helds->mark = *mark;
    p->helds->mark.handler = ngx_vaani_spool_window_mark_handler;
    p->helds->mark.data = window;

    if (whole) {
        ngx_vaani_spool_window_healed(window, p->helds, size);
    }
}
