
#include "ngx_vaani_spool_private.h"

#include <sys/file.h>


/* how long the replay rests after an error of the disk, ms */

#define NGX_VAANI_SPOOL_REST        1000

/*
 * Every so many intervals the directory is looked at in any case: the workers
 * of an older binary, say, share it but not the memory that tells of appends.
 */

#define NGX_VAANI_SPOOL_LOOK        2

/* how old the tombstones may be while a segment is delivered, ms */

#define NGX_VAANI_SPOOL_RENEW       2000

/*
 * How long the replay rests after a round, through all that waits, in which
 * nothing could be delivered while others may be: at first, and at most, ms.
 */

#define NGX_VAANI_SPOOL_MIN_PAUSE   1000
#define NGX_VAANI_SPOOL_MAX_PAUSE   30000

/* how long the shortest round trip is one, us */

#define NGX_VAANI_SPOOL_FLOOR       10000000

/* a round trip may be longer by that, us: a turn of an event loop */

#define NGX_VAANI_SPOOL_SLACK       1000


static void ngx_vaani_spool_timer_handler(ngx_event_t *ev);
static void ngx_vaani_spool_renew_thread(void *data);
static void ngx_vaani_spool_renew_done(void *data);
static ngx_msec_t ngx_vaani_spool_interval(ngx_vaani_spool_replay_t *replay);
static void ngx_vaani_spool_look(ngx_vaani_spool_replay_t *replay);
static ngx_uint_t ngx_vaani_spool_pausing(ngx_vaani_spool_replay_t *replay);
static void ngx_vaani_spool_seal_done(void *data);
static void ngx_vaani_spool_claim_first(ngx_vaani_spool_replay_t *replay);
static void ngx_vaani_spool_replay_mark_handler(ngx_vaani_spool_mark_t *mark,
    ngx_int_t rc);
static void ngx_vaani_spool_claimed(void *data, ngx_int_t rc);
static void ngx_vaani_spool_drained(ngx_vaani_spool_replay_t *replay);
static void ngx_vaani_spool_deliver(ngx_vaani_spool_replay_t *replay);
static ngx_vaani_spool_slot_t *ngx_vaani_spool_again(
    ngx_vaani_spool_replay_t *replay);
static ngx_int_t ngx_vaani_spool_next(ngx_vaani_spool_replay_t *replay);
static ngx_uint_t ngx_vaani_spool_is_its(ngx_vaani_spool_replay_t *replay,
    u_char *record, size_t len);
static void ngx_vaani_spool_start(ngx_vaani_spool_slot_t *slot);
static void ngx_vaani_spool_end(ngx_vaani_spool_slot_t *slot, ngx_int_t rc,
    ngx_str_t *reason);
static void ngx_vaani_spool_pace(ngx_vaani_spool_replay_t *replay,
    ngx_vaani_spool_slot_t *slot);
static void ngx_vaani_spool_age(ngx_vaani_spool_replay_t *replay);
static void ngx_vaani_spool_rest(ngx_vaani_spool_replay_t *replay);
static void ngx_vaani_spool_free_slots(ngx_vaani_spool_replay_t *replay);
static void ngx_vaani_spool_finish_done(void *data);
static ngx_uint_t ngx_vaani_spool_same_life(ngx_vaani_spool_replay_t *replay);
static ngx_uint_t ngx_vaani_spool_lane(ngx_vaani_spool_replay_t *replay);
static void ngx_vaani_spool_abandon(ngx_vaani_spool_replay_t *replay);
static void ngx_vaani_spool_heal_done(ngx_vaani_spool_replay_t *replay);
static void ngx_vaani_spool_leave_done(void *data);


ngx_int_t
ngx_vaani_spool_replay_init(ngx_vaani_spool_t *spool, ngx_cycle_t *cycle)
{
    ngx_vaani_spool_replay_t  *replay;

    replay = ngx_pcalloc(cycle->pool, sizeof(ngx_vaani_spool_replay_t));

    if (replay == NULL) {
        return NGX_ERROR;
    }

    replay->spool = spool;
    replay->window.spool = spool;
    replay->lock = -1;
    replay->fd = -1;

    ngx_vaani_spool_loss_init(&replay->window, ngx_vaani_spool_claimed,
                              replay);

    if (ngx_vaani_spool_servers_init(&replay->window, cycle) != NGX_OK) {
        return NGX_ERROR;
    }

    if (ngx_vaani_spool_several(spool)) {
        replay->down = ngx_pcalloc(cycle->pool, NGX_VAANI_SPOOL_SLOTS / 8);

        if (replay->down == NULL) {
            return NGX_ERROR;
        }
    }

    ngx_vaani_spool_free_slots(replay);

    ngx_vaani_spool_task_init(&replay->seal, ngx_vaani_spool_seal_thread,
                              ngx_vaani_spool_seal_done, replay, cycle->log);

    ngx_vaani_spool_task_init(&replay->renew, ngx_vaani_spool_renew_thread,
                              ngx_vaani_spool_renew_done, replay, cycle->log);

    ngx_vaani_spool_task_init(&replay->finish, ngx_vaani_spool_finish_thread,
                              ngx_vaani_spool_finish_done, replay, cycle->log);

    ngx_vaani_spool_task_init(&replay->leave, ngx_vaani_spool_leave_thread,
                              ngx_vaani_spool_leave_done, replay, cycle->log);

    replay->timer.handler = ngx_vaani_spool_timer_handler;
    replay->timer.data = replay;
    replay->timer.log = cycle->log;
    replay->timer.cancelable = 1;

    spool->replayer = replay;
    spool->wake = &replay->timer;

    ngx_add_timer(&replay->timer, NGX_VAANI_SPOOL_INTERVAL);

    return NGX_OK;
}


static void
ngx_vaani_spool_timer_handler(ngx_event_t *ev)
{
    ngx_vaani_spool_replay_t  *replay;

    replay = ev->data;

    ngx_vaani_spool_try_marks(replay->spool);
    ngx_vaani_spool_writers_check(replay->spool);

    ngx_add_timer(ev, ngx_vaani_spool_interval(replay));

    if (replay->seal.busy || replay->renew.busy || replay->finish.busy
        || replay->leave.busy)
    {
        return;
    }

    if (ngx_exiting || ngx_quit || ngx_terminate) {

        /* the next one to lead must not have to wait for this process */

        if (replay->leads && replay->nused == replay->nagain) {
            ngx_vaani_spool_task_post(replay->spool, &replay->leave);
        }

        return;
    }

    if (replay->fd == -1) {
        ngx_vaani_spool_look(replay);
        return;
    }

    /* a segment may be open for as long as nobody takes its events */

    if (replay->unread
        || ngx_current_msec - replay->renewed >= NGX_VAANI_SPOOL_RENEW)
    {
        ngx_vaani_spool_task_post(replay->spool, &replay->renew);
        return;
    }

    ngx_vaani_spool_deliver(replay);
}


static void
ngx_vaani_spool_renew_thread(void *data)
{
    ngx_vaani_spool_replay_t *replay = data;

    replay->unread = (ngx_vaani_spool_read_erased(&replay->window) == NGX_OK)
                     ? 0 : errno;
}


static void
ngx_vaani_spool_renew_done(void *data)
{
    ngx_vaani_spool_replay_t *replay = data;

    if (replay->renew.failed) {
        replay->unread = EAGAIN;
    }

    if (replay->unread) {
        ngx_log_error(NGX_LOG_CRIT, replay->spool->log, replay->unread,
                      "vaani: the tombstones of the spool \"%V\" can't be "
                      "read, its events wait", &replay->spool->path->name);

        ngx_add_timer(&replay->timer, NGX_VAANI_SPOOL_REST);
        return;
    }

    replay->renewed = ngx_current_msec;

    if (replay->fd != -1) {
        ngx_vaani_spool_deliver(replay);
    }
}


/*
 * A worker of an nginx without traffic has nothing to wake up for.
 */

static ngx_msec_t
ngx_vaani_spool_interval(ngx_vaani_spool_replay_t *replay)
{
    ngx_vaani_spool_shared_t  *shared;

    shared = ngx_vaani_spool_shared(replay->spool);

    /* while a thread looks for segments, the list of them is its own */

    return (replay->fd != -1
            || replay->seal.busy
            || shared->appended > shared->done
            || (replay->leads
                && ngx_vaani_spool_loss_has_work(&replay->window)))
           ? NGX_VAANI_SPOOL_INTERVAL : NGX_VAANI_SPOOL_IDLE;
}


/*
 * Lets a thread look for a segment, or whether there is a leader.
 */

static void
ngx_vaani_spool_look(ngx_vaani_spool_replay_t *replay)
{
    u_char                     id[NGX_VAANI_SPOOL_ID_LEN];
    ngx_uint_t                 waiting;
    ngx_vaani_spool_shared_t  *shared;

    shared = ngx_vaani_spool_shared(replay->spool);

    replay->healing = NULL;
    replay->resting = 0;

    if (replay->window.nbusy) {
        return;
    }

    if (!replay->leads) {

        if (shared->appended <= shared->done && replay->nintervals) {
            replay->nintervals--;
            return;
        }

    } else {

        /* while marks are read, the list of segments stays as it is */

        if (ngx_vaani_spool_loss_check(&replay->window)) {
            return;
        }

        replay->resting = ngx_vaani_spool_pausing(replay);
        waiting = (!replay->resting && shared->appended > shared->done);

        if (!waiting) {
            replay->healing = ngx_vaani_spool_loss_next(&replay->window,
                                                          &replay->held);
        }

        if (!waiting && replay->healing == NULL
            && shared->closed == replay->window.closed
            && replay->nintervals)
        {
            replay->nintervals--;
            return;
        }
    }

    replay->nintervals = NGX_VAANI_SPOOL_LOOK;
    replay->life = replay->spool->receiver->life(replay->spool->data,
                                             ngx_vaani_spool_lane(replay));

    if (replay->spool->retain) {

        /* what waits is kept afterwards */

        if (ngx_vaani_spool_new_id(replay->spool, id, NGX_VAANI_SPOOL_ID_LEN)
            != NGX_OK)
        {
            return;
        }

        ngx_vaani_spool_mark_init(&replay->mark, id,
                                  ngx_vaani_spool_replay_mark_handler, replay);
    }

    ngx_vaani_spool_look_who_is_down(replay);

    ngx_vaani_spool_task_post(replay->spool, &replay->seal);
}


/*
 * Whether what waits isn't tried now.  What is new isn't tried alone: not for
 * each one at once.
 */

static ngx_uint_t
ngx_vaani_spool_pausing(ngx_vaani_spool_replay_t *replay)
{
    ngx_msec_t                 pause;
    ngx_vaani_spool_shared_t  *shared;

    if (replay->pause == 0) {
        return 0;
    }

    shared = ngx_vaani_spool_shared(replay->spool);

    pause = (shared->written == replay->written) ? replay->pause
                                                 : NGX_VAANI_SPOOL_MIN_PAUSE;

    return ngx_current_msec - replay->paused < pause;
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
                      "it was renamed to \".bad\"",
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

    if (replay->segment == 0 && replay->healing == NULL) {

        if (replay->none_below) {
            ngx_vaani_spool_drained(replay);
        }

        /* all that waits is for servers that are down */

        if (replay->skipped) {
            replay->pause = NGX_VAANI_SPOOL_MIN_PAUSE;
            replay->paused = ngx_current_msec;
        }

        return;
    }

    /* the thread has read them */

    replay->renewed = ngx_current_msec;
    replay->unread = 0;

    ngx_memzero(&replay->reader, sizeof(vaani_journal_reader_t));

    replay->reader.data = replay->data;
    replay->reader.len = replay->size;
    replay->have_next = 0;
    replay->nrecords = 0;
    replay->late_since = 0;
    replay->nended = 0;
    replay->nburied = 0;
    replay->elsewhere = 0;
    replay->abandoned = 0;

    if (!replay->healing) {

        /* another worker may have left it when it was delivered in part */

        ngx_vaani_spool_shared(replay->spool)->partial = 0;
    }

    ngx_vaani_spool_claim_first(replay);
}


/*
 * A mark is claimed before what it will speak for is delivered, see
 * ngx_vaani_spool_mark.c.  What waits goes on without.
 */

static void
ngx_vaani_spool_claim_first(ngx_vaani_spool_replay_t *replay)
{
    replay->claimed = 0;

    if (replay->healing) {

        if (ngx_vaani_spool_loss_claim(&replay->window, replay->held)
            != NGX_OK)
        {
            ngx_vaani_spool_close(replay);
            replay->healing = NULL;
            return;
        }

        replay->claiming = 1;
        return;
    }

    /* what several servers took is looked at server by server later */

    if (replay->spool->retain && replay->life
        && !ngx_vaani_spool_several(replay->spool))
    {
        replay->mark.connection = 0;
        replay->mark.life = replay->life;

        if (ngx_vaani_spool_claim(replay->spool, &replay->mark) == NGX_OK) {
            replay->claiming = 1;
            replay->window.nbusy++;
            return;
        }
    }

    ngx_vaani_spool_deliver(replay);
}


static void
ngx_vaani_spool_replay_mark_handler(ngx_vaani_spool_mark_t *mark,
    ngx_int_t rc)
{
    ngx_vaani_spool_replay_t *replay = mark->data;

    replay->window.nbusy--;

    if (rc == NGX_DECLINED) {
        ngx_vaani_spool_no_marks(replay->spool);
    }

    ngx_vaani_spool_claimed(replay, rc);
}


/*
 * The mark of the segment that is to be delivered was claimed, or not.
 */

static void
ngx_vaani_spool_claimed(void *data, ngx_int_t rc)
{
    ngx_vaani_spool_replay_t *replay = data;

    /* it was left meanwhile, or is being left */

    if (!replay->claiming || replay->leave.busy) {
        return;
    }

    replay->claiming = 0;
    replay->claimed = (rc == NGX_OK);

    if (replay->healing) {

        if (!replay->claimed) {
            ngx_vaani_spool_close(replay);
            replay->healing = NULL;
            return;
        }

        /* a live event goes first: no more than a few are under way */

        replay->reader.pos = ngx_max(replay->held->mark.stands, 0);
        replay->limit = ngx_min(replay->limit, NGX_VAANI_SPOOL_WINDOW);
    }

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
    shared->finished = shared->written + shared->deferred;
    shared->partial = 0;
    shared->oldest = 0;
    shared->late_since = 0;

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
 * Fills the window.
 */

static void
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
        slot = ngx_vaani_spool_again(replay);

        slot->again = 0;
        replay->nagain--;
        ngx_vaani_spool_start(slot);

        if (slot->used && slot->again) {

            /* nothing is taken: the others need not be tried */

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

        if (!ngx_vaani_spool_is_its(replay, record, len)) {
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
 * The first record of the segment that has to be delivered again.  The order
 * doesn't matter to the receiver's state, but to those who watch it.
 */

static ngx_vaani_spool_slot_t *
ngx_vaani_spool_again(ngx_vaani_spool_replay_t *replay)
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

            /* from a segment that was being made the place of dead letters */

            (void) vaani_journal_dead_letter(&replay->next, &reason, &len);
            break;

        case VAANI_JOURNAL_BAD:
            ngx_log_error(NGX_LOG_ERR, replay->spool->log, 0,
                          "vaani: segment %uA of the spool \"%V\" has %uz "
                          "bytes at offset %uz that are no event, %s",
                          replay->healing ? replay->healing->number
                                          : replay->segment,
                          &replay->spool->path->name,
                          replay->next.size, replay->next.offset,
                          replay->healing ? "they are skipped"
                                          : "they are kept in a \".bad\" file");

            if (replay->healing) {
                break;
            }

            dst = ngx_vaani_spool_put_by(replay, &replay->bad, &replay->nbad,
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
 * Whether a record is for the server that the segment is delivered to again, if
 * it's one of several.  Who owned a slot when the scope was seen is asked: the
 * mark will have that scope.
 */

static ngx_uint_t
ngx_vaani_spool_is_its(ngx_vaani_spool_replay_t *replay, u_char *record,
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

        /* over one connection: the mark that follows speaks for all of them */

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
    ngx_uint_t                 had;
    ngx_vaani_spool_replay_t  *replay;
    ngx_vaani_spool_shared_t  *shared;

    replay = slot->replay;
    shared = ngx_vaani_spool_shared(replay->spool);

    had = (rc == NGX_DONE);

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

    } else if (rc == NGX_BUSY) {
        rc = ngx_vaani_spool_busy(replay, slot);
    }

    if (rc == NGX_DECLINED) {
        rc = replay->healing ? ngx_vaani_spool_leave_out(replay, reason)
                             : ngx_vaani_spool_bury(replay, slot, reason);
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

        if (replay->segment > shared->floor) {
            (void) ngx_atomic_fetch_add(&shared->partial, 1);
        }
    }

    slot->used = 0;
    slot->next = replay->idle;

    replay->idle = slot;
    replay->nused--;
}


/*
 * As many are under way as keep the round trip below twice the shortest one:
 * one more after each that does, half as many after one that doesn't.
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

    /* what was sent before the last time doesn't count */

    if (slot->sent > replay->halved) {
        replay->limit = ngx_max(replay->limit / 2, NGX_VAANI_SPOOL_WINDOW);
        replay->halved = now;
    }
}


/*
 * What is in the next segment came later than all that was in this one, but for
 * what was written again: how long that waits is known until all of it was
 * tried once more.
 */

static void
ngx_vaani_spool_age(ngx_vaani_spool_replay_t *replay)
{
    time_t                     oldest;
    ngx_vaani_spool_shared_t  *shared;

    shared = ngx_vaani_spool_shared(replay->spool);

    if (replay->segment >= shared->late_segment) {
        shared->late_since = 0;
    }

    if (replay->nrecords) {

        if (shared->late_since == 0 || replay->late_since < shared->late_since)
        {
            shared->late_since = replay->late_since;
        }

        shared->late_segment = replay->late_segment;
    }

    if (shared->appended <= replay->segment || replay->skipped) {
        return;
    }

    oldest = replay->mtime;

    if (shared->late_since) {
        oldest = ngx_min(oldest, (time_t) shared->late_since);
    }

    shared->oldest = ngx_vaani_spool_since(oldest);
}


/*
 * A round ends with the segment that has the first of what was written again in
 * it: all that waits was tried then.  If nothing of it could be delivered, each
 * record for a reason of its own, it isn't tried again at once.
 */

static void
ngx_vaani_spool_rest(ngx_vaani_spool_replay_t *replay)
{
    ngx_uint_t                 late, over;
    ngx_vaani_spool_shared_t  *shared;

    shared = ngx_vaani_spool_shared(replay->spool);

    late = (replay->nrecords != 0);
    over = (replay->round != 0 && replay->segment >= replay->round);

    if (over) {
        replay->round = 0;
    }

    if (late && replay->round == 0) {
        replay->round = replay->late_segment;
    }

    if (replay->round == 0 || (replay->ndone && !replay->moved)) {
        replay->pause = 0;

    } else if (late && (over || replay->moved)) {
        replay->pause = replay->pause
                        ? ngx_min(2 * replay->pause, NGX_VAANI_SPOOL_MAX_PAUSE)
                        : NGX_VAANI_SPOOL_MIN_PAUSE;
        replay->paused = ngx_current_msec;
        replay->written = shared->written;
    }

    if (over || replay->round == 0) {
        replay->ndone = 0;
    }
}


static void
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


static void
ngx_vaani_spool_finish_done(void *data)
{
    ngx_vaani_spool_replay_t *replay = data;

    ngx_vaani_spool_shared_t  *shared;

    shared = ngx_vaani_spool_shared(replay->spool);

    if (replay->finish.failed) {
        replay->err = EAGAIN;
    }

    if (replay->healing) {
        ngx_vaani_spool_heal_done(replay);
        return;
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

    /* what was skipped still waits */

    if (!replay->skipped) {
        ngx_vaani_spool_raise(&shared->done, replay->segment);
    }

    if (replay->moved) {
        ngx_log_error(NGX_LOG_CRIT, replay->spool->log, replay->moved,
                      "vaani: what waits in segment %uA of the spool \"%V\" "
                      "can't be written to its end, all of the segment was "
                      "moved there", replay->segment,
                      &replay->spool->path->name);

        /* its records weren't counted, and are from now on */

        if (replay->segment <= shared->floor) {
            (void) ngx_atomic_fetch_add(&shared->deferred, replay->nended);
        }

    } else {
        ngx_vaani_spool_lower(&shared->bytes, replay->size);

        /* until it was gone, another worker might have had to replay it */

        (void) ngx_atomic_fetch_add(&shared->finished, shared->partial);
        (void) ngx_atomic_fetch_add(&shared->buried, replay->nburied);

        if (replay->renamed) {
            (void) ngx_atomic_fetch_add(&shared->kept_bytes, replay->size);
        }

        if (replay->renamed && ngx_vaani_spool_several(replay->spool)) {
            (void) ngx_atomic_fetch_add(&shared->closed, 1);

        } else if (replay->renamed) {
            ngx_vaani_spool_loss_add(&replay->window, replay->segment,
                                       &replay->mark, replay->size,
                                       replay->mtime,
                                       ngx_vaani_spool_same_life(replay));
        }
    }

    shared->partial = 0;

    ngx_vaani_spool_age(replay);

    ngx_vaani_spool_rest(replay);

    /* there may be another one */

    if (!(ngx_exiting || ngx_quit || ngx_terminate)) {
        ngx_vaani_spool_look(replay);
    }
}


/*
 * Whether all of the segment was delivered after its mark was claimed, to one
 * receiver.
 */

static ngx_uint_t
ngx_vaani_spool_same_life(ngx_vaani_spool_replay_t *replay)
{
    ngx_vaani_spool_t  *spool;

    spool = replay->spool;

    if (!replay->claimed || replay->elsewhere) {
        return 0;
    }

    if (replay->healing
        && !ngx_vaani_spool_same_scope(spool, &replay->held->mark))
    {
        replay->elsewhere = 1;
        return 0;
    }

    return spool->receiver->life(spool->data, ngx_vaani_spool_lane(replay))
           == replay->life;
}


/*
 * The connection that a segment is delivered over: the first one to its server.
 */

static ngx_uint_t
ngx_vaani_spool_lane(ngx_vaani_spool_replay_t *replay)
{
    return replay->healing
           ? replay->held->server * replay->spool->nconnections : 0;
}


/*
 * One of several servers takes nothing any more: the others go on, and this one
 * is tried again later.
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


/*
 * What the receiver didn't have any more is delivered again.
 */

static void
ngx_vaani_spool_heal_done(ngx_vaani_spool_replay_t *replay)
{
    ngx_uint_t                  whole;
    ngx_vaani_spool_held_t     *held;
    ngx_vaani_spool_shared_t   *shared;
    ngx_vaani_spool_segment_t  *segment;

    segment = replay->healing;
    held = replay->held;

    if (replay->err) {
        ngx_log_error(NGX_LOG_CRIT, replay->spool->log, replay->err,
                      "vaani: cannot write waiting events of segment %uA to "
                      "the end of the spool \"%V\"; retrying",
                      segment->number, &replay->spool->path->name);

        /* what waits in others may make the room that is missing */

        shared = ngx_vaani_spool_shared(replay->spool);

        if (shared->appended > shared->done) {
            held->read = 0;
            replay->healing = NULL;
            ngx_vaani_spool_close(replay);
        }

        ngx_add_timer(&replay->timer, NGX_VAANI_SPOOL_REST);
        return;
    }

    whole = ngx_vaani_spool_same_life(replay);

    replay->healing = NULL;

    if (whole) {
        ngx_vaani_spool_loss_healed(&replay->window, held, segment->size);

    } else {

        /* it was delivered to whoever was there: the next one is asked */

        held->read = 0;
    }

    /* slots that move now move on for a while */

    held->rest = replay->elsewhere ? NGX_VAANI_SPOOL_HEAL_EVERY : 0;
    held->rested = ngx_current_msec;

    if (!(ngx_exiting || ngx_quit || ngx_terminate)) {
        ngx_vaani_spool_look(replay);
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

    if (replay->leave.failed) {
        return;
    }

    ngx_vaani_spool_free_slots(replay);

    replay->have_next = 0;
    replay->healing = NULL;
    replay->claiming = 0;
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

    if (replay->seal.busy || replay->renew.busy || replay->finish.busy
        || replay->leave.busy)
    {
        ngx_vaani_spool_task_exit(&replay->seal);
        ngx_vaani_spool_task_exit(&replay->renew);
        ngx_vaani_spool_task_exit(&replay->finish);
        ngx_vaani_spool_task_exit(&replay->leave);
        return;
    }

    ngx_vaani_spool_leave_thread(replay);
    ngx_vaani_spool_free_peeks(replay);
    ngx_vaani_spool_window_free(&replay->window);

    if (replay->lock != -1) {
        (void) close(replay->lock);
        replay->lock = -1;
    }
}
