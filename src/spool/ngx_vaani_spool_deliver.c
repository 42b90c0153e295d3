
#include "ngx_vaani_spool_replay.h"


/*
 * Delivers the records of the current segment: passes them to the callback, as
 * many at a time as its round trips allow, until each of them is finished.
 */


/* how long the shortest round trip is valid, us */

#define NGX_VAANI_SPOOL_FLOOR       10000000

/* tolerance of a round trip, us: one iteration of an event loop */

#define NGX_VAANI_SPOOL_SLACK       1000


static ngx_vaani_spool_slot_t *ngx_vaani_spool_first_again(
    ngx_vaani_spool_replay_t *replay);
static ngx_int_t ngx_vaani_spool_next(ngx_vaani_spool_replay_t *replay);
static ngx_uint_t ngx_vaani_spool_is_for_server(
    ngx_vaani_spool_replay_t *replay, u_char *record, size_t len);
static void ngx_vaani_spool_start(ngx_vaani_spool_slot_t *slot);
static void ngx_vaani_spool_end(ngx_vaani_spool_slot_t *slot, ngx_int_t rc,
    ngx_str_t *reason);
static void ngx_vaani_spool_pace(ngx_vaani_spool_replay_t *replay,
    ngx_vaani_spool_slot_t *slot);
static void ngx_vaani_spool_abandon(ngx_vaani_spool_replay_t *replay);


/*
 * Fills the window.
 */

void
ngx_vaani_spool_deliver(ngx_vaani_spool_replay_t *replay)
{
    size_t                   len;
    u_char                  *record;
    uint64_t                 since;
    unsigned                 tries;
    ngx_vaani_spool_slot_t  *slot;

    if (replay->busy || replay->claiming || replay->renew.busy
        || replay->unread)
    {
        return;
    }

    if (replay->abandoned) {
        ngx_vaani_spool_abandon(replay);
        return;
    }

    replay->busy = 1;

    while (replay->nagain) {
        slot = ngx_vaani_spool_first_again(replay);

        slot->again = 0;
        replay->nagain--;
        ngx_vaani_spool_start(slot);

        if (slot->used && slot->again) {

            /* the receiver accepts nothing: the others need not be tried */

            break;
        }
    }

    while (replay->nagain == 0
           && replay->nused < replay->limit
           && !(ngx_exiting || ngx_quit || ngx_terminate)
           && ngx_vaani_spool_next(replay) == NGX_OK)
    {
        since = 0;
        tries = 0;

        (void) vaani_journal_deferred(&replay->next, &since, &tries);

        record = (u_char *) replay->next.content;
        len = replay->next.len;

        replay->have_next = 0;

        if (!ngx_vaani_spool_is_for_server(replay, record, len)) {
            continue;
        }

        slot = replay->idle;
        replay->idle = slot->next;

        slot->used = 1;
        slot->since = since;
        slot->tries = tries;
        slot->record = record;
        slot->len = len;

        replay->nused++;

        ngx_vaani_spool_start(slot);
    }

    replay->busy = 0;

    if (replay->nused == 0 && !replay->have_next
        && replay->reader.pos == replay->reader.len
        && !replay->finish.busy)
    {
        ngx_vaani_spool_task_post(replay->spool, &replay->finish);
    }
}


/*
 * Returns the first record of the segment that must be delivered again.  The
 * order does not affect the receiver's state, but its subscribers see it.
 */

static ngx_vaani_spool_slot_t *
ngx_vaani_spool_first_again(ngx_vaani_spool_replay_t *replay)
{
    ngx_uint_t               n;
    ngx_vaani_spool_slot_t  *slot, *first;

    first = NULL;

    for (n = 0; n < NGX_VAANI_SPOOL_MAX_WINDOW; n++) {
        slot = &replay->slots[n];

        if (slot->used && slot->again
            && (first == NULL || slot->record < first->record))
        {
            first = slot;
        }
    }

    return first;
}


static ngx_int_t
ngx_vaani_spool_next(ngx_vaani_spool_replay_t *replay)
{
    size_t         len;
    u_char        *dst;
    uint64_t       begun;
    const u_char  *reason, *boot_id;

    while (!replay->have_next) {

        switch (vaani_journal_next(&replay->reader, &replay->next)) {

        case VAANI_JOURNAL_RECORD:

            if (vaani_journal_is_start(&replay->next, &boot_id, &begun)) {
                break;
            }

            replay->have_next = 1;

            /*
             * written while the segment was being turned into a file of
             * dead letters
             */

            (void) vaani_journal_dead_letter(&replay->next, &reason, &len);
            break;

        case VAANI_JOURNAL_BAD:
            ngx_log_error(NGX_LOG_ERR, replay->spool->log, 0,
                          "vaani: segment %uA of the spool \"%V\" has %uz "
                          "invalid bytes at offset %uz; %s",
                          replay->healing ? replay->healing->number
                                          : replay->segment,
                          &replay->spool->path->name,
                          replay->next.size, replay->next.offset,
                          replay->healing ? "they are skipped"
                                          : "they are kept in a \".bad\" file");

            if (replay->healing) {
                break;
            }

            dst = ngx_vaani_spool_reserve_aside(replay, &replay->bad,
                                                &replay->nbad,
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


/*
 * Whether a record belongs to the server for which the segment is delivered
 * again, if there are several.  The owner at the time of the scope counts,
 * because the mark will have that scope.
 */

static ngx_uint_t
ngx_vaani_spool_is_for_server(ngx_vaani_spool_replay_t *replay, u_char *record,
    size_t len)
{
    ngx_int_t  slot;

    if (replay->healing == NULL || !ngx_vaani_spool_several(replay->spool)) {
        return 1;
    }

    slot = ngx_vaani_spool_slot(replay->spool, record, len);

    return slot != NGX_ERROR
           && replay->window.owners[slot] == replay->held->server;
}


static void
ngx_vaani_spool_start(ngx_vaani_spool_slot_t *slot)
{
    ngx_int_t                  rc;
    ngx_str_t                  reason;
    ngx_vaani_spool_t         *spool;
    ngx_vaani_spool_replay_t  *replay;

    replay = slot->replay;
    spool = replay->spool;

    ngx_str_null(&reason);

    slot->sent = ngx_vaani_spool_now();

    if (replay->healing == NULL && ngx_vaani_spool_several(spool)) {
        rc = ngx_vaani_spool_is_down(spool, slot->record, slot->len)
             ? NGX_BUSY
             : spool->receiver->replay(spool->data, slot,
                                       NGX_VAANI_SPOOL_OWN_LANE, 0,
                                       slot->record, slot->len, &reason);

    } else {

        /* over one connection, because the mark applies to all of them */

        rc = spool->receiver->replay(spool->data, slot,
                                     ngx_vaani_spool_lane(replay),
                                     replay->healing != NULL,
                                     slot->record, slot->len, &reason);
    }

    if (rc != NGX_AGAIN) {
        ngx_vaani_spool_end(slot, rc, &reason);
    }
}


void
ngx_vaani_spool_replayed(void *data, ngx_int_t rc, ngx_str_t *reason,
    ngx_uint_t lane)
{
    ngx_vaani_spool_slot_t *slot = data;

    ngx_vaani_spool_replay_t  *replay;

    replay = slot->replay;

    if (replay->healing && rc != NGX_BUSY && rc != NGX_ABORT
        && (lane != ngx_vaani_spool_lane(replay)
            || !ngx_vaani_spool_same_scope(replay->spool,
                                           &replay->held->mark)))
    {
        replay->elsewhere = 1;
    }

    ngx_vaani_spool_end(slot, rc, reason);

    if (rc != NGX_BUSY || !slot->used) {
        ngx_vaani_spool_deliver(replay);
    }
}


static void
ngx_vaani_spool_end(ngx_vaani_spool_slot_t *slot, ngx_int_t rc,
    ngx_str_t *reason)
{
    ngx_uint_t                 had, late;
    ngx_vaani_spool_replay_t  *replay;
    ngx_vaani_spool_shared_t  *shared;

    replay = slot->replay;
    shared = ngx_vaani_spool_shared(replay->spool);

    had = (rc == NGX_DONE);
    late = 0;

    if (rc == NGX_OK || had) {
        ngx_vaani_spool_pace(replay, slot);
        ngx_vaani_spool_succeeded(replay->spool);

        if (replay->healing) {
            replay->window.nbrought += !had;
            (void) ngx_atomic_fetch_add(&shared->brought_back, !had);

        } else {
            replay->nreplayed++;
            replay->ndone++;
            (void) ngx_atomic_fetch_add(&shared->replayed, 1);
        }

        rc = NGX_OK;

    } else if (rc == NGX_ABORT) {
        rc = ngx_vaani_spool_defer(replay, slot, reason);
        late = (rc == NGX_OK);

    } else if (rc == NGX_BUSY) {
        rc = ngx_vaani_spool_busy(replay, slot);
        late = (rc == NGX_OK);
    }

    if (rc == NGX_DECLINED) {
        rc = replay->healing
             ? ngx_vaani_spool_skip(replay, reason)
             : ngx_vaani_spool_dead_letter(replay, slot, reason);
        replay->nburied += (rc == NGX_OK);
        replay->ndone += (rc == NGX_OK);
    }

    if (rc != NGX_OK) {
        slot->again = 1;
        replay->nagain++;
        return;
    }

    if (replay->healing) {
        replay->window.nlooked++;
        (void) ngx_atomic_fetch_add(&shared->looked_at, 1);

    } else {
        replay->nended++;

        /*
         * a deferred record still waits; it is counted when it is written
         * again
         */

        if (!late && replay->segment > shared->floor) {
            (void) ngx_atomic_fetch_add(&shared->partial, 1);
        }
    }

    slot->used = 0;
    slot->next = replay->idle;

    replay->idle = slot;
    replay->nused--;
}


/*
 * The window keeps the round trip below twice the shortest one: it grows by
 * one after each round trip that is, and is halved after one that is not.
 */

static void
ngx_vaani_spool_pace(ngx_vaani_spool_replay_t *replay,
    ngx_vaani_spool_slot_t *slot)
{
    uint64_t    now, took;
    ngx_uint_t  most;

    now = ngx_vaani_spool_now();
    took = now - slot->sent;

    if (replay->floor == 0 || took < replay->floor
        || now - replay->floor_time > NGX_VAANI_SPOOL_FLOOR)
    {
        replay->floor = took;
        replay->floor_time = now;
    }

    if (took <= 2 * replay->floor + NGX_VAANI_SPOOL_SLACK) {
        most = replay->healing ? NGX_VAANI_SPOOL_KEPT_WINDOW
                               : NGX_VAANI_SPOOL_MAX_WINDOW;
        replay->limit = ngx_min(replay->limit + 1, most);
        return;
    }

    /* records sent before the last halving do not count */

    if (slot->sent > replay->halved) {
        replay->limit = ngx_max(replay->limit / 2, NGX_VAANI_SPOOL_WINDOW);
        replay->halved = now;
    }
}


/*
 * One of several servers accepts nothing: the others continue, and this one is
 * tried again later.
 */

static void
ngx_vaani_spool_abandon(ngx_vaani_spool_replay_t *replay)
{
    ngx_vaani_spool_held_t  *held;

    if (replay->nused > replay->nagain || replay->finish.busy) {
        return;
    }

    held = replay->held;

    held->read = 0;
    held->rest = NGX_VAANI_SPOOL_REST;
    held->rested = ngx_current_msec;

    replay->abandoned = 0;
    replay->have_next = 0;
    replay->healing = NULL;

    ngx_vaani_spool_free_slots(replay);
    ngx_vaani_spool_close(replay);
}


void
ngx_vaani_spool_free_slots(ngx_vaani_spool_replay_t *replay)
{
    ngx_uint_t               n;
    ngx_vaani_spool_slot_t  *slot;

    replay->idle = NULL;

    for (n = 0; n < NGX_VAANI_SPOOL_MAX_WINDOW; n++) {
        slot = &replay->slots[n];

        slot->replay = replay;
        slot->used = 0;
        slot->again = 0;
        slot->next = replay->idle;

        replay->idle = slot;
    }

    replay->nused = 0;
    replay->nagain = 0;
    replay->limit = NGX_VAANI_SPOOL_WINDOW;
}


ngx_uint_t
ngx_vaani_spool_lane(ngx_vaani_spool_replay_t *replay)
{
    return replay->healing
           ? replay->held->server * replay->spool->nconnections : 0;
}
