
#include "ngx_vaani_spool_private.h"

#include <sys/file.h>


/* how long the replay rests after an error of the disk, ms */

#define NGX_VAANI_SPOOL_REST        1000

/*
 * Every so many intervals the directory is looked at in any case: the workers
 * of an older binary, say, share it but not the memory that tells of appends.
 */

#define NGX_VAANI_SPOOL_LOOK        5


static void ngx_vaani_spool_timer_handler(ngx_event_t *ev);
static void ngx_vaani_spool_look(ngx_vaani_spool_replay_t *replay);
static void ngx_vaani_spool_seal_done(void *data);
static void ngx_vaani_spool_drained(ngx_vaani_spool_replay_t *replay);
static void ngx_vaani_spool_deliver(ngx_vaani_spool_replay_t *replay);
static ngx_int_t ngx_vaani_spool_next(ngx_vaani_spool_replay_t *replay);
static void ngx_vaani_spool_start(ngx_vaani_spool_slot_t *slot);
static void ngx_vaani_spool_end(ngx_vaani_spool_slot_t *slot, ngx_int_t rc,
    ngx_str_t *reason);
static u_char *ngx_vaani_spool_keep(ngx_vaani_spool_replay_t *replay,
    u_char **kept, size_t *nkept, size_t len);
static ngx_int_t ngx_vaani_spool_bury(ngx_vaani_spool_replay_t *replay,
    ngx_vaani_spool_slot_t *slot, ngx_str_t *reason);
static void ngx_vaani_spool_finish_done(void *data);
static void ngx_vaani_spool_leave_done(void *data);


ngx_int_t
ngx_vaani_spool_replay_init(ngx_vaani_spool_t *spool, ngx_cycle_t *cycle)
{
    ngx_uint_t                 n;
    ngx_vaani_spool_replay_t  *replay;

    replay = ngx_pcalloc(cycle->pool, sizeof(ngx_vaani_spool_replay_t));

    if (replay == NULL) {
        return NGX_ERROR;
    }

    replay->spool = spool;
    replay->lock = -1;
    replay->fd = -1;

    for (n = 0; n < NGX_VAANI_SPOOL_WINDOW; n++) {
        replay->slots[n].replay = replay;
    }

    ngx_vaani_spool_task_init(&replay->seal, ngx_vaani_spool_seal_thread,
                              ngx_vaani_spool_seal_done, replay, cycle->log);

    ngx_vaani_spool_task_init(&replay->finish, ngx_vaani_spool_finish_thread,
                              ngx_vaani_spool_finish_done, replay, cycle->log);

    ngx_vaani_spool_task_init(&replay->leave, ngx_vaani_spool_leave_thread,
                              ngx_vaani_spool_leave_done, replay, cycle->log);

    replay->timer.handler = ngx_vaani_spool_timer_handler;
    replay->timer.data = replay;
    replay->timer.log = cycle->log;
    replay->timer.cancelable = 1;

    spool->replayer = replay;

    ngx_add_timer(&replay->timer, NGX_VAANI_SPOOL_INTERVAL);

    return NGX_OK;
}


static void
ngx_vaani_spool_timer_handler(ngx_event_t *ev)
{
    ngx_vaani_spool_replay_t  *replay;

    replay = ev->data;

    ngx_add_timer(ev, NGX_VAANI_SPOOL_INTERVAL);

    if (replay->seal.busy || replay->finish.busy || replay->leave.busy) {
        return;
    }

    if (ngx_exiting || ngx_quit || ngx_terminate) {

        /* the next one to lead must not have to wait for this process */

        if (replay->leads && replay->nused == replay->nagain) {
            ngx_vaani_spool_task_post(replay->spool, &replay->leave);
        }

        return;
    }

    if (replay->fd != -1) {
        ngx_vaani_spool_deliver(replay);
        return;
    }

    ngx_vaani_spool_look(replay);
}


/*
 * Lets a thread look for a segment, or whether there is a leader.
 */

static void
ngx_vaani_spool_look(ngx_vaani_spool_replay_t *replay)
{
    ngx_vaani_spool_shared_t  *shared;

    if (replay->leads) {
        shared = ngx_vaani_spool_shared(replay->spool);

        if (shared->appended <= shared->done && replay->nintervals) {
            replay->nintervals--;
            return;
        }

        replay->nintervals = NGX_VAANI_SPOOL_LOOK;
    }

    ngx_vaani_spool_task_post(replay->spool, &replay->seal);
}


static void
ngx_vaani_spool_seal_done(void *data)
{
    ngx_vaani_spool_replay_t *replay = data;

    if (replay->seal.failed) {
        replay->err = EAGAIN;
        replay->aside = 0;
    }

    if (replay->aside) {
        ngx_log_error(NGX_LOG_CRIT, replay->spool->log, replay->err,
                      "vaani: segment %uA of the spool \"%V\" can't be read, "
                      "it was renamed to \".log.bad\"",
                      replay->aside, &replay->spool->path->name);
        return;
    }

    if (replay->err) {
        ngx_log_error(NGX_LOG_CRIT, replay->spool->log, replay->err,
                      "vaani: the spool \"%V\" can't be read, its events wait",
                      &replay->spool->path->name);

        ngx_add_timer(&replay->timer, NGX_VAANI_SPOOL_REST);
        return;
    }

    if (replay->segment == 0) {

        if (replay->none_below) {
            ngx_vaani_spool_drained(replay);
        }

        return;
    }

    ngx_memzero(&replay->reader, sizeof(vaani_journal_reader_t));

    replay->reader.data = replay->data;
    replay->reader.len = replay->size;
    replay->have_next = 0;

    ngx_vaani_spool_deliver(replay);
}


static void
ngx_vaani_spool_drained(ngx_vaani_spool_replay_t *replay)
{
    ngx_vaani_spool_shared_t  *shared;

    shared = ngx_vaani_spool_shared(replay->spool);

    /* nothing was found: what isn't there any more is done with */

    ngx_vaani_spool_raise(&shared->done, replay->none_below - 1);

    /* it goes wrong when a process ends at a bad moment, and here it's known */

    shared->bytes = 0;
    shared->finished = shared->written;
    shared->oldest = 0;

    replay->none_below = 0;

    if (replay->nreplayed) {
        ngx_log_error(NGX_LOG_NOTICE, replay->spool->log, 0,
                      "vaani: the spool \"%V\" is empty again, this worker "
                      "has delivered %ui events from it",
                      &replay->spool->path->name, replay->nreplayed);

        replay->nreplayed = 0;
    }
}


/*
 * Fills the window.  Records of the same order are never under way together,
 * so that they stay in order whatever becomes of them.
 */

static void
ngx_vaani_spool_deliver(ngx_vaani_spool_replay_t *replay)
{
    ngx_uint_t               n;
    ngx_vaani_spool_slot_t  *slot, *idle;

    if (replay->busy) {
        return;
    }

    replay->busy = 1;

    for (n = 0; n < NGX_VAANI_SPOOL_WINDOW; n++) {
        slot = &replay->slots[n];

        if (slot->used && slot->again) {
            slot->again = 0;
            replay->nagain--;
            ngx_vaani_spool_start(slot);
        }
    }

    while (replay->nagain == 0
           && replay->nused < NGX_VAANI_SPOOL_WINDOW
           && !(ngx_exiting || ngx_quit || ngx_terminate)
           && ngx_vaani_spool_next(replay) == NGX_OK)
    {
        idle = NULL;

        for (n = 0; n < NGX_VAANI_SPOOL_WINDOW; n++) {
            slot = &replay->slots[n];

            if (!slot->used) {
                idle = slot;

            } else if (slot->order == replay->next.order) {
                goto wait;
            }
        }

        idle->used = 1;
        idle->record = (u_char *) replay->next.content;
        idle->len = replay->next.len;
        idle->order = replay->next.order;

        replay->nused++;
        replay->have_next = 0;

        ngx_vaani_spool_start(idle);
    }

wait:

    replay->busy = 0;

    if (replay->nused == 0 && !replay->have_next
        && replay->reader.pos == replay->reader.len
        && !replay->finish.busy)
    {
        ngx_vaani_spool_task_post(replay->spool, &replay->finish);
    }
}


static ngx_int_t
ngx_vaani_spool_next(ngx_vaani_spool_replay_t *replay)
{
    size_t         len;
    u_char        *dst;
    const u_char  *reason;

    while (!replay->have_next) {

        switch (vaani_journal_next(&replay->reader, &replay->next)) {

        case VAANI_JOURNAL_RECORD:
            replay->have_next = 1;

            /* from a segment that was being made the place of dead letters */

            (void) vaani_journal_dead_letter(&replay->next, &reason, &len);
            break;

        case VAANI_JOURNAL_BAD:
            ngx_log_error(NGX_LOG_ERR, replay->spool->log, 0,
                          "vaani: segment %uA of the spool \"%V\" has %uz "
                          "bytes at offset %uz that are no event, they are "
                          "kept in a \".bad\" file",
                          replay->segment, &replay->spool->path->name,
                          replay->next.size, replay->next.offset);

            dst = ngx_vaani_spool_keep(replay, &replay->bad, &replay->nbad,
                                       replay->next.size);

            if (dst == NULL) {
                replay->reader.pos = replay->next.offset;
                return NGX_ERROR;
            }

            ngx_memcpy(dst, replay->next.content, replay->next.size);
            break;

        default:
            return NGX_DONE;
        }
    }

    return NGX_OK;
}


static void
ngx_vaani_spool_start(ngx_vaani_spool_slot_t *slot)
{
    ngx_int_t           rc;
    ngx_str_t           reason;
    ngx_vaani_spool_t  *spool;

    spool = slot->replay->spool;

    ngx_str_null(&reason);

    rc = spool->replay(spool->data, slot, slot->record, slot->len, &reason);

    if (rc != NGX_AGAIN) {
        ngx_vaani_spool_end(slot, rc, &reason);
    }
}


void
ngx_vaani_spool_replayed(void *data, ngx_int_t rc, ngx_str_t *reason)
{
    ngx_vaani_spool_slot_t *slot = data;

    ngx_vaani_spool_end(slot, rc, reason);

    if (rc != NGX_BUSY) {
        ngx_vaani_spool_deliver(slot->replay);
    }
}


static void
ngx_vaani_spool_end(ngx_vaani_spool_slot_t *slot, ngx_int_t rc,
    ngx_str_t *reason)
{
    ngx_atomic_t              *counter;
    ngx_vaani_spool_replay_t  *replay;
    ngx_vaani_spool_shared_t  *shared;

    replay = slot->replay;
    shared = ngx_vaani_spool_shared(replay->spool);

    counter = &shared->replayed;

    if (rc == NGX_DECLINED) {
        rc = ngx_vaani_spool_bury(replay, slot, reason);
        counter = &shared->buried;

    } else if (rc == NGX_OK) {
        replay->nreplayed++;
    }

    if (rc != NGX_OK) {
        slot->again = 1;
        replay->nagain++;
        return;
    }

    (void) ngx_atomic_fetch_add(counter, 1);

    if (replay->segment > shared->floor) {
        (void) ngx_atomic_fetch_add(&shared->finished, 1);
    }

    slot->used = 0;
    replay->nused--;
}


/*
 * Room for len more bytes in what is kept aside, or NULL.
 */

static u_char *
ngx_vaani_spool_keep(ngx_vaani_spool_replay_t *replay, u_char **kept,
    size_t *nkept, size_t len)
{
    u_char  *p;

    p = realloc(*kept, *nkept + len);

    if (p == NULL) {
        ngx_log_error(NGX_LOG_EMERG, replay->spool->log, ngx_errno,
                      "vaani: realloc(%uz) failed", *nkept + len);
        return NULL;
    }

    *kept = p;
    p += *nkept;
    *nkept += len;

    return p;
}


/*
 * Returns NGX_OK or NGX_ERROR (no memory).
 */

static ngx_int_t
ngx_vaani_spool_bury(ngx_vaani_spool_replay_t *replay,
    ngx_vaani_spool_slot_t *slot, ngx_str_t *reason)
{
    u_char  *p, *dst, *space;
    size_t   len, rlen;

    rlen = ngx_min(reason->len, 255);
    len = 2 + rlen + slot->len;

    dst = ngx_vaani_spool_keep(replay, &replay->dead, &replay->ndead,
                               VAANI_JOURNAL_HEADER + len);

    if (dst == NULL) {
        return NGX_ERROR;
    }

    p = dst + VAANI_JOURNAL_HEADER;
    *p++ = 0;
    *p++ = (u_char) rlen;
    p = ngx_cpymem(p, reason->data, rlen);
    ngx_memcpy(p, slot->record, slot->len);

    vaani_journal_seal(dst, len, slot->order);

    /* the first word is a code, what follows might quote something */

    space = ngx_strlchr(reason->data, reason->data + rlen, ' ');

    ngx_log_error(NGX_LOG_ERR, replay->spool->log, 0,
                  "vaani: an event of the spool \"%V\" can't be delivered "
                  "(%*s), it is kept in \"dead-letters\"",
                  &replay->spool->path->name,
                  space ? (size_t) (space - reason->data) : rlen,
                  reason->data);

    return NGX_OK;
}


static void
ngx_vaani_spool_finish_done(void *data)
{
    ngx_vaani_spool_replay_t *replay = data;

    ngx_atomic_uint_t          bytes, less;
    ngx_vaani_spool_shared_t  *shared;

    shared = ngx_vaani_spool_shared(replay->spool);

    if (replay->finish.failed) {
        replay->err = EAGAIN;
    }

    if (replay->err) {
        ngx_log_error(NGX_LOG_CRIT, replay->spool->log, replay->err,
                      "vaani: segment %uA of the spool \"%V\" was delivered "
                      "but can't be deleted, trying again",
                      replay->segment, &replay->spool->path->name);

        ngx_add_timer(&replay->timer, NGX_VAANI_SPOOL_REST);
        return;
    }

    if (replay->whole) {
        ngx_log_error(NGX_LOG_CRIT, replay->spool->log, 0,
                      "vaani: there is no room for what is to be kept of "
                      "segment %uA of the spool \"%V\", all of it was renamed "
                      "to \".log.bad\"",
                      replay->segment, &replay->spool->path->name);
    }

    do {
        bytes = shared->bytes;
        less = ngx_min(bytes, replay->size);
    } while (!ngx_atomic_cmp_set(&shared->bytes, bytes, bytes - less));

    ngx_vaani_spool_raise(&shared->done, replay->segment);

    /* what is in the next one came later than all that was in this one */

    if (shared->appended > replay->segment) {
        shared->oldest = replay->mtime;
    }

    /* there may be another one */

    if (!(ngx_exiting || ngx_quit || ngx_terminate)) {
        ngx_vaani_spool_task_post(replay->spool, &replay->seal);
    }
}


/*
 * A segment was left, delivered in part, and the lead is another worker's.
 * What was delivered is delivered again, which the script knows how to ignore.
 */

static void
ngx_vaani_spool_leave_done(void *data)
{
    ngx_vaani_spool_replay_t *replay = data;

    ngx_uint_t  n;

    if (replay->leave.failed) {
        return;
    }

    for (n = 0; n < NGX_VAANI_SPOOL_WINDOW; n++) {
        replay->slots[n].used = 0;
        replay->slots[n].again = 0;
    }

    replay->nused = 0;
    replay->nagain = 0;
    replay->have_next = 0;
}


void
ngx_vaani_spool_replay_exit(ngx_vaani_spool_t *spool)
{
    ngx_vaani_spool_replay_t  *replay;

    replay = spool->replayer;

    if (replay->timer.timer_set) {
        ngx_del_timer(&replay->timer);
    }

    /* a thread may still be at it; then it ends with the process */

    if (replay->seal.busy || replay->finish.busy || replay->leave.busy) {
        ngx_vaani_spool_task_exit(&replay->seal);
        ngx_vaani_spool_task_exit(&replay->finish);
        ngx_vaani_spool_task_exit(&replay->leave);
        return;
    }

    ngx_vaani_spool_leave_thread(replay);

    if (replay->lock != -1) {
        (void) close(replay->lock);
        replay->lock = -1;
    }
}
