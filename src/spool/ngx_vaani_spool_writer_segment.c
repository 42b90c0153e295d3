
#include "ngx_vaani_spool_window.h"
#include "ngx_vaani_spool_writer.h"


/*
 * The segments of a writer: one for each life of its connection, with a mark
 * in the receiver that says how much of it was executed there.  A mark is sent
 * in the life in which the records were answered, and only replaces the value
 * that was set last.  Therefore a receiver that has the mark has the records,
 * even if it lost data or was replaced meanwhile.
 *
 * A mark has the scope that its server had when it was claimed.  If the server
 * gains or loses slots, the mark is void for its readers, and a new segment
 * begins.
 */


static ngx_uint_t ngx_vaani_spool_may_mark(ngx_vaani_spool_own_mark_t *own,
    ngx_vaani_spool_batch_t *batch);
static ngx_uint_t ngx_vaani_spool_set_last(ngx_vaani_spool_own_mark_t *own);
static void ngx_vaani_spool_own_mark_handler(ngx_vaani_spool_mark_t *mark,
    ngx_int_t rc);
static void ngx_vaani_spool_claim_done(ngx_vaani_spool_own_mark_t *own,
    ngx_int_t rc);


/*
 * The mark of one life must not cover another one.  A segment without a mark
 * ends as soon as a mark is available.
 */

ngx_uint_t
ngx_vaani_spool_belongs(ngx_vaani_spool_writer_t *writer,
    ngx_vaani_spool_batch_t *batch)
{
    if (writer->mark) {
        return ngx_vaani_spool_is_alive(writer, &writer->mark->mark,
                                        batch->life);
    }

    return !ngx_vaani_spool_may_mark(writer->next, batch);
}


/*
 * Whether the claimed mark may cover a batch: all of it must have been
 * answered in the mark's life, and after the claim.
 */

static ngx_uint_t
ngx_vaani_spool_may_mark(ngx_vaani_spool_own_mark_t *own,
    ngx_vaani_spool_batch_t *batch)
{
    return own && own->turn && own->turn < batch->turn
           && ngx_vaani_spool_is_alive(own->writer, &own->mark, batch->life);
}


ngx_uint_t
ngx_vaani_spool_is_alive(ngx_vaani_spool_writer_t *writer,
    ngx_vaani_spool_mark_t *mark, ngx_uint_t life)
{
    return mark->life == life
           && ngx_vaani_spool_same_scope(writer->spool, mark);
}


ngx_int_t
ngx_vaani_spool_begin_segment(ngx_vaani_spool_writer_t *writer,
    ngx_vaani_spool_batch_t *batch)
{
    writer->opened = ngx_current_msec;
    writer->since = batch->since;
    writer->suspect = 0;
    writer->size = 0;
    writer->asked = 0;

    /*
     * the last segment could not be created: nothing covered by it was written
     */

    if (ngx_vaani_spool_may_mark(writer->mark, batch)) {
        return NGX_OK;
    }

    if (writer->mark) {
        ngx_vaani_spool_free_mark(writer->mark);
        writer->mark = NULL;
    }

    if (!ngx_vaani_spool_may_mark(writer->next, batch)) {
        writer->life = 0;

        return ngx_vaani_spool_new_id(writer->spool, writer->id,
                                      NGX_VAANI_SPOOL_ID_LEN);
    }

    writer->mark = writer->next;
    writer->next = NULL;

    writer->life = writer->mark->mark.life;
    ngx_memcpy(writer->id, writer->mark->mark.id, NGX_VAANI_SPOOL_ID_LEN);

    ngx_vaani_spool_claim_next(writer);

    return NGX_OK;
}


/*
 * Claims the mark of the next segment in advance.
 */

void
ngx_vaani_spool_claim_next(ngx_vaani_spool_writer_t *writer)
{
    u_char                       id[NGX_VAANI_SPOOL_ID_LEN];
    ngx_uint_t                   life;
    ngx_vaani_spool_t           *spool;
    ngx_vaani_spool_own_mark_t  *own;

    spool = writer->spool;

    if (writer->next) {

        /*
         * of an earlier life or scope; its end is marked if it is in progress
         */

        if (writer->next->mark.busy) {
            return;
        }

        ngx_vaani_spool_free_mark(writer->next);
        writer->next = NULL;
    }

    life = spool->receiver->life(spool->data, writer->connection);

    /* after any error, do not ask again with each batch */

    if (life == writer->refused
        && ngx_current_msec - writer->refused_at < NGX_VAANI_SPOOL_MARK_LATE)
    {
        return;
    }

    if (life == 0 || spool->unmarked
        || ngx_vaani_spool_new_id(spool, id, NGX_VAANI_SPOOL_ID_LEN) != NGX_OK)
    {
        return;
    }

    own = ngx_calloc(sizeof(ngx_vaani_spool_own_mark_t), spool->log);

    if (own == NULL) {
        return;
    }

    ngx_vaani_spool_mark_init(&own->mark, id,
                              ngx_vaani_spool_own_mark_handler, own);

    own->mark.connection = writer->connection;
    own->mark.life = life;
    own->writer = writer;

    ngx_queue_insert_tail(&writer->owned, &own->queue);

    if (ngx_vaani_spool_set_scope(spool, &own->mark) != NGX_OK
        || ngx_vaani_spool_claim(spool, &own->mark) != NGX_OK)
    {
        writer->refused = life;
        writer->refused_at = ngx_current_msec;

        ngx_vaani_spool_free_mark(own);
        return;
    }

    writer->next = own;
}


void
ngx_vaani_spool_free_mark(ngx_vaani_spool_own_mark_t *own)
{
    ngx_queue_remove(&own->queue);
    ngx_free(own);
}


/*
 * Closes the segment, which is handed to the leader after its sync.
 */

void
ngx_vaani_spool_end_segment(ngx_vaani_spool_writer_t *writer)
{
    ngx_vaani_spool_own_mark_t  *own;

    if (writer->fd == -1 || writer->append.busy
        || writer->nstale == NGX_VAANI_SPOOL_STALE)
    {
        return;
    }

    writer->stale[writer->nstale++] = writer->fd;
    writer->fd = -1;

    own = writer->mark;
    writer->mark = NULL;

    if (own) {
        own->closed = 1;
        own->last = writer->suspect ? NGX_VAANI_SPOOL_NO_MARK : writer->size;
        own->since = writer->since;

        /* covers the rest of it, so that nothing has to be delivered again */

        if (!own->mark.busy && !ngx_vaani_spool_set_last(own)) {
            ngx_vaani_spool_free_mark(own);
        }
    }

    /* the next mark, claimed before, must not cover earlier records either */

    if (writer->suspect && writer->next && writer->next->turn) {
        ngx_vaani_spool_free_mark(writer->next);
        writer->next = NULL;
    }

    ngx_vaani_spool_sync_now(writer);
}


void
ngx_vaani_spool_consider_end(ngx_vaani_spool_writer_t *writer)
{
    off_t               limit;
    ngx_vaani_spool_t  *spool;

    if (writer->fd == -1) {
        return;
    }

    spool = writer->spool;

    limit = ngx_min(NGX_VAANI_SPOOL_SEGMENT, (off_t) spool->max / 8);

    /* without a mark only the leader can notice that the segment is lost */

    if (writer->suspect || writer->append.err || writer->full
        || writer->size >= limit
        || (writer->mark == NULL && !spool->unmarked
            && ngx_current_msec - writer->opened >= NGX_VAANI_SPOOL_MARK_LATE)
        || (writer->mark == NULL && writer->next && writer->next->turn)
        || ngx_current_msec - writer->opened >= spool->retain / 8
        || (writer->mark
            && !ngx_vaani_spool_is_alive(writer, &writer->mark->mark,
                            spool->receiver->life(spool->data,
                                                  writer->connection))))
    {
        ngx_vaani_spool_end_segment(writer);
    }
}


void
ngx_vaani_spool_sync_done(void *data)
{
    ngx_vaani_spool_writer_t *writer = data;

    ngx_vaani_spool_shared_t  *shared;

    if (writer->sync.failed) {

        /* later */

        ngx_memcpy(writer->stale + writer->nstale, writer->syncing,
                   ngx_min(writer->nsyncing,
                           NGX_VAANI_SPOOL_STALE - writer->nstale)
                   * sizeof(int));

        writer->nstale = ngx_min(writer->nstale + writer->nsyncing,
                                 NGX_VAANI_SPOOL_STALE);
        writer->unsynced = 1;
    }

    if (writer->sync.err) {
        ngx_vaani_spool_not_kept(writer, 0, writer->sync.err,
                                 "sync failed");
    }

    if (writer->gone && writer->fd == writer->syncing[writer->nsyncing]) {
        ngx_log_error(NGX_LOG_CRIT, writer->spool->log, 0,
                      "vaani: a segment of the spool \"%V\" was removed or "
                      "renamed; further events are kept in a new segment",
                      &writer->spool->path->name);

        writer->suspect = 1;
        ngx_vaani_spool_consider_end(writer);
    }

    if (writer->sync.failed) {
        ngx_add_timer(&writer->syncs, NGX_VAANI_SPOOL_SYNC_EVERY);
        return;
    }

    if (writer->nsyncing) {
        shared = ngx_vaani_spool_shared(writer->spool);

        (void) ngx_atomic_fetch_add(&shared->closed, 1);
        ngx_vaani_spool_wake(writer->spool);
    }

    if (writer->nstale) {
        ngx_vaani_spool_sync_now(writer);

    } else if (writer->unsynced) {
        ngx_add_timer(&writer->syncs, NGX_VAANI_SPOOL_SYNC_EVERY);
    }
}


void
ngx_vaani_spool_writers_check(ngx_vaani_spool_t *spool)
{
    ngx_uint_t                 n, suspect;
    ngx_vaani_spool_shared_t  *shared;
    ngx_vaani_spool_writer_t  *writer;

    if (spool->writers == NULL) {
        return;
    }

    shared = ngx_vaani_spool_shared(spool);

    suspect = (shared->suspicion != spool->suspicion);
    spool->suspicion = shared->suspicion;

    for (n = 0; n < spool->nwriters; n++) {
        writer = spool->writers[n];

        if (writer == NULL) {
            continue;
        }

        ngx_vaani_spool_consider_end(writer);

        /*
         * if records of others were lost, those of this segment may be lost as
         * well
         */

        if (writer->fd == -1 || writer->mark == NULL
            || writer->mark->mark.busy || writer->marks.timer_set)
        {
            continue;
        }

        if (suspect
            || ngx_current_msec - writer->checked >= NGX_VAANI_SPOOL_RECHECK)
        {
            ngx_vaani_spool_marks_handler(&writer->marks);
        }
    }
}


void
ngx_vaani_spool_marks_handler(ngx_event_t *ev)
{
    ngx_vaani_spool_t           *spool;
    ngx_vaani_spool_writer_t    *writer;
    ngx_vaani_spool_own_mark_t  *own;

    writer = ev->data;
    spool = writer->spool;

    ngx_vaani_spool_consider_end(writer);

    own = writer->mark;

    if (writer->fd == -1 || own == NULL || own->mark.busy || writer->suspect) {
        return;
    }

    if (writer->size <= own->mark.stands) {
        (void) ngx_vaani_spool_read_mark(spool, &own->mark);

    } else if (ngx_current_msec - writer->since > NGX_VAANI_SPOOL_MARK_LATE) {

        /*
         * This process was suspended, and the receiver may have been replaced
         * twice meanwhile.
         */

        writer->suspect = 1;
        ngx_vaani_spool_consider_end(writer);
        return;

    } else if (ngx_vaani_spool_set_mark(spool, &own->mark, writer->size)
               == NGX_OK)
    {
        writer->asked = writer->size;
    }

    if (!own->mark.busy) {
        ngx_add_timer(ev, NGX_VAANI_SPOOL_MARK_EVERY);
    }
}


/*
 * Sets the mark of a closed segment to its size.  Returns 1 if that is in
 * progress.
 */

static ngx_uint_t
ngx_vaani_spool_set_last(ngx_vaani_spool_own_mark_t *own)
{
    if (own->last <= own->mark.stands
        || ngx_current_msec - own->since > NGX_VAANI_SPOOL_MARK_LATE)
    {
        return 0;
    }

    return ngx_vaani_spool_set_mark(own->writer->spool, &own->mark, own->last)
           == NGX_OK;
}


static void
ngx_vaani_spool_own_mark_handler(ngx_vaani_spool_mark_t *mark, ngx_int_t rc)
{
    ngx_vaani_spool_own_mark_t *own = mark->data;

    ngx_vaani_spool_shared_t  *shared;
    ngx_vaani_spool_writer_t  *writer;

    writer = own->writer;

    if (rc == NGX_DECLINED) {
        ngx_vaani_spool_no_marks(writer->spool);
    }

    if (own->turn == 0) {
        ngx_vaani_spool_claim_done(own, rc);
        return;
    }

    /*
     * If the value is another one, the receiver has lost records that it had
     * answered: the leader delivers the segment again, from the mark on.
     */

    if (rc == NGX_BUSY) {
        shared = ngx_vaani_spool_shared(writer->spool);
        (void) ngx_atomic_fetch_add(&shared->suspicion, 1);
    }

    if (own->closed) {

        if (rc != NGX_OK || !ngx_vaani_spool_set_last(own)) {
            ngx_vaani_spool_free_mark(own);
        }

        if (rc == NGX_AGAIN) {
            writer->suspect = 1;
            ngx_vaani_spool_consider_end(writer);
        }

        return;
    }

    /* an error may mean that the receiver was replaced */

    if (rc != NGX_OK) {
        writer->suspect = 1;
        ngx_vaani_spool_consider_end(writer);
        return;
    }

    if (writer->size > mark->stands) {
        ngx_add_timer(&writer->marks, NGX_VAANI_SPOOL_MARK_EVERY);

    } else {
        writer->checked = ngx_current_msec;
    }
}


static void
ngx_vaani_spool_claim_done(ngx_vaani_spool_own_mark_t *own, ngx_int_t rc)
{
    ngx_vaani_spool_writer_t  *writer;

    writer = own->writer;

    if (rc == NGX_OK) {
        own->turn = ++writer->turn;
        ngx_vaani_spool_consider_end(writer);
        return;
    }

    writer->refused = own->mark.life;
    writer->refused_at = ngx_current_msec;

    writer->next = NULL;
    ngx_vaani_spool_free_mark(own);

    if (rc == NGX_AGAIN && writer->mark) {
        writer->suspect = 1;
        ngx_vaani_spool_consider_end(writer);
    }
}
