
#include "ngx_vaani_spool_window.h"


/*
 * Detects data loss in the receiver: the leader reads the marks of the closed
 * kept segments, and decides which of these to deliver again.  The state is
 * only in memory: after a kill at any moment the next leader reads the marks
 * again.
 */


/* how many marks are read at the same time */

#define NGX_VAANI_SPOOL_MARKS       256

/* and the maximum per second while no loss is suspected */

#define NGX_VAANI_SPOOL_MARK_RATE   100


static void ngx_vaani_spool_loss_begin(ngx_vaani_spool_window_t *window,
    ngx_uint_t nup);
static void ngx_vaani_spool_loss_begin_server(ngx_vaani_spool_window_t *window,
    ngx_uint_t n);
static ngx_int_t ngx_vaani_spool_loss_read(ngx_vaani_spool_window_t *window,
    ngx_vaani_spool_held_t *held);
static ngx_uint_t ngx_vaani_spool_loss_to_read(
    ngx_vaani_spool_window_t *window, ngx_vaani_spool_segment_t *segment,
    ngx_vaani_spool_held_t *held);
static void ngx_vaani_spool_loss_mark_handler(ngx_vaani_spool_mark_t *mark,
    ngx_int_t rc);
static void ngx_vaani_spool_loss_found(ngx_vaani_spool_window_t *window);
static ngx_uint_t ngx_vaani_spool_loss_due(ngx_vaani_spool_window_t *window,
    ngx_vaani_spool_segment_t *segment, ngx_vaani_spool_held_t *held);
static ngx_uint_t ngx_vaani_spool_loss_oldest(ngx_vaani_spool_window_t *window,
    ngx_uint_t n, ngx_vaani_spool_held_t *held);
static void ngx_vaani_spool_loss_restored(ngx_vaani_spool_window_t *window);


void
ngx_vaani_spool_loss_init(ngx_vaani_spool_window_t *window,
    void (*claimed)(void *data, ngx_int_t rc), void *data)
{
    window->mark_handler = ngx_vaani_spool_loss_mark_handler;
    window->claimed = claimed;
    window->data = data;
}


ngx_uint_t
ngx_vaani_spool_loss_check(ngx_vaani_spool_window_t *window)
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
            (void) ngx_vaani_spool_update_helds(window, &window->segments[n]);
        }
    }

    ngx_vaani_spool_loss_begin(window, nup);

    /*
     * counts as one in progress until all are sent: answers may be immediate
     */

    window->nbusy++;

    for (n = 0; n < window->nsegments; n++) {
        segment = &window->segments[n];

        for (held = segment->helds; held; held = held->next) {

            if (!ngx_vaani_spool_loss_to_read(window, segment, held)) {
                continue;
            }

            if (window->nbusy > NGX_VAANI_SPOOL_MARKS
                || ngx_vaani_spool_loss_read(window, held) != NGX_OK)
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
 * All marks are read periodically and when a loss is suspected; those of a
 * server when its identity has changed.
 */

static void
ngx_vaani_spool_loss_begin(ngx_vaani_spool_window_t *window, ngx_uint_t nup)
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

        /*
         * slots may be migrated one by one: all of them are checked together
         */

        if (server->moved
            && spool->receiver->settled(spool->data)
               < NGX_VAANI_SPOOL_SETTLED)
        {
            nup--;
            continue;
        }

        if (all || !server->begun) {
            ngx_vaani_spool_loss_begin_server(window, n);
            nbegun++;
        }
    }

    if (nup && nbegun == nup) {
        window->suspicion = shared->suspicion;
        window->checked = ngx_current_msec;
    }
}


static void
ngx_vaani_spool_loss_begin_server(ngx_vaani_spool_window_t *window,
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

            /* a void mark does not prove a loss */

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
ngx_vaani_spool_loss_read(ngx_vaani_spool_window_t *window,
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
 * Whether the mark still has to be read, and can be.
 */

static ngx_uint_t
ngx_vaani_spool_loss_to_read(ngx_vaani_spool_window_t *window,
    ngx_vaani_spool_segment_t *segment, ngx_vaani_spool_held_t *held)
{
    return segment->closed && !held->read && !held->unknown
           && window->servers[held->server].up
           && !window->servers[held->server].moved;
}


static void
ngx_vaani_spool_loss_mark_handler(ngx_vaani_spool_mark_t *mark,
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

    /* if the value is unknown, or differs from the known one, read it again */

    if (held->claiming) {
        held->claiming = 0;
        held->read = (rc == NGX_OK);

        if (rc == NGX_OK) {
            held->moved = 0;

            /*
             * A segment that never had a mark cannot have lost it, unless the
             * mark was void: it may be void again.
             */

            if (held->known != NGX_VAANI_SPOOL_NO_MARK || mark->scoped) {
                held->healed = ngx_current_msec;
                held->heals++;
            }
        }

        window->claimed(window->data, rc);
        return;
    }

    if (held->setting) {
        held->setting = 0;
        held->read = (rc == NGX_OK);

    } else {
        held->read = (rc == NGX_OK || rc == NGX_BUSY);

        /* no marks wait for one whose value is not a mark, for example */

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
        ngx_vaani_spool_loss_found(window);
    }
}


/*
 * Logs that the receiver has lost data, once per loss.
 */

static void
ngx_vaani_spool_loss_found(ngx_vaani_spool_window_t *window)
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

            /* the other marks still have to be read */

            if (ngx_vaani_spool_loss_to_read(window, segment, held)) {
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

    /* other workers check the marks of theirs */

    window->suspicion = ngx_atomic_fetch_add(&shared->suspicion, 1) + 1;

    ngx_log_error(NGX_LOG_WARN, window->spool->log, 0,
                  "vaani: Redis has lost events; they are applied again from "
                  "the spool \"%V\"",
                  &window->spool->path->name);
}


ngx_vaani_spool_segment_t *
ngx_vaani_spool_loss_next(ngx_vaani_spool_window_t *window,
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
                || !ngx_vaani_spool_loss_due(window, segment, held))
            {
                continue;
            }

            window->healing = 1;

            if (ngx_vaani_spool_loss_oldest(window, n, held)) {
                window->beyond = 1;
            }

            *next = held;

            return segment;
        }
    }

    ngx_vaani_spool_loss_restored(window);

    return NULL;
}


static ngx_uint_t
ngx_vaani_spool_loss_due(ngx_vaani_spool_window_t *window,
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

    /* for example, records in slots that the server has just got */

    if (ngx_vaani_spool_several(spool)
        && spool->receiver->settled(spool->data) < NGX_VAANI_SPOOL_SETTLED)
    {
        return 0;
    }

    return held->heals == 0
           || ngx_current_msec - held->healed >= NGX_VAANI_SPOOL_HEAL_EVERY;
}


/*
 * Whether a server has nothing of the oldest segment that concerns it.  Then
 * it may also have lost older records.  A void mark counts as something.
 */

static ngx_uint_t
ngx_vaani_spool_loss_oldest(ngx_vaani_spool_window_t *window, ngx_uint_t n,
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
ngx_vaani_spool_loss_has_work(ngx_vaani_spool_window_t *window)
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
            if (ngx_vaani_spool_loss_due(window, &window->segments[n],
                                           held))
            {
                return 1;
            }
        }
    }

    return 0;
}


static void
ngx_vaani_spool_loss_restored(ngx_vaani_spool_window_t *window)
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
            if (ngx_vaani_spool_loss_to_read(window, segment, held)) {
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

    /* records deleted before that may be lost as well */

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
ngx_vaani_spool_loss_claim(ngx_vaani_spool_window_t *window,
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
ngx_vaani_spool_loss_healed(ngx_vaani_spool_window_t *window,
    ngx_vaani_spool_held_t *held, off_t size)
{
    held->read = 0;

    if (ngx_vaani_spool_set_mark(window->spool, &held->mark, size) == NGX_OK) {
        held->setting = 1;
        window->nbusy++;
    }
}


void
ngx_vaani_spool_loss_add(ngx_vaani_spool_window_t *window,
    ngx_atomic_uint_t number, ngx_vaani_spool_mark_t *mark, off_t size,
    time_t mtime, ngx_uint_t whole)
{
    ngx_vaani_spool_segment_t  *segment;

    segment = ngx_vaani_spool_window_add(window, number, mark->id, size,
                                         mtime);

    /* without memory, it is found in the directory */

    if (segment == NULL
        || ngx_vaani_spool_update_helds(window, segment) != NGX_OK)
    {
        return;
    }

    segment->helds->mark = *mark;
    segment->helds->mark.handler = ngx_vaani_spool_loss_mark_handler;
    segment->helds->mark.data = window;

    if (whole) {
        ngx_vaani_spool_loss_healed(window, segment->helds, size);
    }
}
