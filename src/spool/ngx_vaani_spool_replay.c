
#include "ngx_vaani_spool_replay.h"


/*
 * The directory is read at least every so many intervals: for example, the
 * workers of an older binary share it, but not the shared memory that counts
 * appends.
 */

#define NGX_VAANI_SPOOL_LOOK        2

/* maximum age of the known tombstones while a segment is delivered, ms */

#define NGX_VAANI_SPOOL_RENEW       2000


static void ngx_vaani_spool_timer_handler(ngx_event_t *ev);
static ngx_err_t ngx_vaani_spool_renew_thread(void *data);
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
static void ngx_vaani_spool_finish_done(void *data);
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

        /* the next leader must not have to wait for this process */

        if (replay->leads && replay->nused == replay->nagain) {
            ngx_vaani_spool_task_post(replay->spool, &replay->leave);
        }

        return;
    }

    if (replay->fd == -1) {
        ngx_vaani_spool_look(replay);
        return;
    }

    /* a segment may stay open for as long as the receiver accepts nothing */

    if (replay->unread
        || ngx_current_msec - replay->renewed >= NGX_VAANI_SPOOL_RENEW)
    {
        ngx_vaani_spool_task_post(replay->spool, &replay->renew);
        return;
    }

    ngx_vaani_spool_deliver(replay);
}


static ngx_err_t
ngx_vaani_spool_renew_thread(void *data)
{
    ngx_vaani_spool_replay_t *replay = data;

    return (ngx_vaani_spool_read_erased(&replay->window) == NGX_OK) ? 0
                                                                    : errno;
}


static void
ngx_vaani_spool_renew_done(void *data)
{
    ngx_vaani_spool_replay_t *replay = data;

    replay->unread = replay->renew.err;

    if (replay->unread) {
        ngx_log_error(NGX_LOG_CRIT, replay->spool->log, replay->unread,
                      "vaani: cannot read the tombstones of the spool \"%V\"; "
                      "its events wait, retrying", &replay->spool->path->name);

        ngx_add_timer(&replay->timer, NGX_VAANI_SPOOL_REST);
        return;
    }

    replay->renewed = ngx_current_msec;

    if (replay->fd != -1) {
        ngx_vaani_spool_deliver(replay);
    }
}


/*
 * Without traffic and work, a worker does not wake up.
 */

static ngx_msec_t
ngx_vaani_spool_interval(ngx_vaani_spool_replay_t *replay)
{
    ngx_vaani_spool_shared_t  *shared;

    shared = ngx_vaani_spool_shared(replay->spool);

    /* a thread that looks for segments owns their list */

    return (replay->fd != -1
            || replay->seal.busy
            || shared->appended > shared->done
            || (replay->leads
                && ngx_vaani_spool_loss_has_work(&replay->window)))
           ? NGX_VAANI_SPOOL_INTERVAL : NGX_VAANI_SPOOL_IDLE;
}


/*
 * Lets a thread look for a segment, or check whether there is a leader.
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

        /* while marks are read, the list of segments must not change */

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

        /* waiting records are kept after their delivery */

        if (ngx_vaani_spool_new_id(replay->spool, id, NGX_VAANI_SPOOL_ID_LEN)
            != NGX_OK)
        {
            return;
        }

        ngx_vaani_spool_mark_init(&replay->mark, id,
                                  ngx_vaani_spool_replay_mark_handler, replay);
    }

    ngx_vaani_spool_find_down_slots(replay);

    replay->aside = 0;

    ngx_vaani_spool_task_post(replay->spool, &replay->seal);
}


/*
 * Whether waiting records are not tried now.  A new record does not end the
 * pause, because each of them would.
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

    if (replay->aside) {
        ngx_log_error(NGX_LOG_CRIT, replay->spool->log, replay->seal.err,
                      "vaani: cannot read segment %uA of the spool \"%V\"; it "
                      "was renamed to \".bad\"",
                      replay->aside, &replay->spool->path->name);
        return;
    }

    if (replay->seal.err) {
        ngx_log_error(NGX_LOG_CRIT, replay->spool->log, replay->seal.err,
                      "vaani: cannot read the spool \"%V\"; its events wait, "
                      "retrying",
                      &replay->spool->path->name);

        ngx_add_timer(&replay->timer, NGX_VAANI_SPOOL_REST);
        return;
    }

    if (replay->segment == 0 && replay->healing == NULL) {

        if (replay->none_below) {
            ngx_vaani_spool_drained(replay);
        }

        /* all waiting records are for servers that are down */

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

        /* another worker may have left it partly delivered */

        ngx_vaani_spool_shared(replay->spool)->partial = 0;
    }

    ngx_vaani_spool_claim_first(replay);
}


/*
 * A mark is claimed before the records it will cover are delivered, see
 * ngx_vaani_spool_mark.c. Waiting records are delivered even without a mark.
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

    /* records taken by several servers are checked per server later */

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
 * The claim of the mark of the segment that will be delivered has ended.
 */

static void
ngx_vaani_spool_claimed(void *data, ngx_int_t rc)
{
    ngx_vaani_spool_replay_t *replay = data;

    /* the segment was left meanwhile, or is being left */

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

        /* live events take precedence: few are in progress at a time */

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

    /* no segment was found: the missing ones are finished */

    ngx_vaani_spool_raise(&shared->done, replay->none_below - 1);

    /*
     * the counter is wrong if a process ended at a bad moment; here it is
     * corrected
     */

    shared->bytes = 0;
    shared->finished = shared->written + shared->deferred;
    shared->partial = 0;
    shared->oldest = 0;
    shared->late_since = 0;

    replay->none_below = 0;

    if (replay->nreplayed) {
        ngx_log_error(NGX_LOG_NOTICE, replay->spool->log, 0,
                      "vaani: the spool \"%V\" is empty; events delivered by "
                      "this worker: %ui",
                      &replay->spool->path->name, replay->nreplayed);

        replay->nreplayed = 0;
    }
}


static void
ngx_vaani_spool_finish_done(void *data)
{
    ngx_vaani_spool_replay_t *replay = data;

    /* there may be another one */

    if (ngx_vaani_spool_finished(replay) == NGX_OK
        && !(ngx_exiting || ngx_quit || ngx_terminate))
    {
        ngx_vaani_spool_look(replay);
    }
}


/*
 * The segment was left partly delivered, and another worker is the leader.
 * Its delivered records are delivered again, and the script ignores them.
 */

static void
ngx_vaani_spool_leave_done(void *data)
{
    ngx_vaani_spool_replay_t *replay = data;

    if (replay->leave.err) {
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

    /* a thread may still use it; it then ends with the process */

    if (replay->seal.busy || replay->renew.busy || replay->finish.busy
        || replay->leave.busy)
    {
        ngx_vaani_spool_task_exit(&replay->seal);
        ngx_vaani_spool_task_exit(&replay->renew);
        ngx_vaani_spool_task_exit(&replay->finish);
        ngx_vaani_spool_task_exit(&replay->leave);
        return;
    }

    (void) ngx_vaani_spool_leave_thread(replay);
    ngx_vaani_spool_free_peeks(replay);
    ngx_vaani_spool_window_free(&replay->window);
}
