
#include "ngx_vaani_spool_replay.h"


/*
 * Finishes a delivered segment: deletes or keeps it, after the records to be
 * kept aside are safe.
 */


static ngx_int_t ngx_vaani_spool_keep_waiting(
    ngx_vaani_spool_replay_t *replay);
static ngx_int_t ngx_vaani_spool_remove(ngx_vaani_spool_replay_t *replay);
static ngx_int_t ngx_vaani_spool_keep_or_delete(
    ngx_vaani_spool_replay_t *replay, u_char *name, ngx_str_t *dir);
static ngx_int_t ngx_vaani_spool_keep_aside(ngx_vaani_spool_replay_t *replay,
    ngx_str_t *dir);
static ngx_int_t ngx_vaani_spool_append_late(ngx_vaani_spool_replay_t *replay);
static ngx_int_t ngx_vaani_spool_make_room(int fd, size_t len);
static ngx_int_t ngx_vaani_spool_punch_holes(ngx_vaani_spool_replay_t *replay,
    u_char *name);
static void ngx_vaani_spool_update_oldest(ngx_vaani_spool_replay_t *replay);
static void ngx_vaani_spool_update_pause(ngx_vaani_spool_replay_t *replay);
static ngx_uint_t ngx_vaani_spool_same_life(ngx_vaani_spool_replay_t *replay);
static ngx_int_t ngx_vaani_spool_heal_done(ngx_vaani_spool_replay_t *replay);


ngx_err_t
ngx_vaani_spool_finish_thread(void *data)
{
    ngx_vaani_spool_replay_t *replay = data;

    replay->whole = 0;
    replay->renamed = 0;
    replay->emptied = 0;
    replay->moved = 0;

    if (replay->nlate && ngx_vaani_spool_append_late(replay) != NGX_OK) {

        if (replay->healing || ngx_vaani_spool_keep_waiting(replay) != NGX_OK) {
            return errno;
        }

    } else if (!replay->healing && ngx_vaani_spool_remove(replay) != NGX_OK) {
        return errno;
    }

    ngx_vaani_spool_close(replay);

    return 0;
}


/*
 * The records to be retried cannot be written (for example, the disk is full,
 * as errno says), and later segments must not wait.  The whole segment is
 * moved to the end of the spool.  Records of it that were delivered are
 * delivered again.
 */

static ngx_int_t
ngx_vaani_spool_keep_waiting(ngx_vaani_spool_replay_t *replay)
{
    u_char      name[NGX_VAANI_SPOOL_NAME_LEN];
    ngx_err_t   err;
    ngx_str_t  *dir;

    err = errno;
    dir = &replay->spool->path->name;

    ngx_vaani_spool_segment_name(name, dir, replay->segment);

    if (ngx_vaani_spool_rename_last(replay->spool, name, &replay->late_segment)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    replay->moved = err;

    /* either name is good */

    (void) ngx_vaani_spool_sync_dir(dir->data);

    return NGX_OK;
}


/*
 * Removes the segment from the waiting ones, after the records to be kept
 * aside are safe.
 */

static ngx_int_t
ngx_vaani_spool_remove(ngx_vaani_spool_replay_t *replay)
{
    u_char      name[NGX_VAANI_SPOOL_NAME_LEN];
    ngx_int_t   rc;
    ngx_str_t  *dir;

    dir = &replay->spool->path->name;

    ngx_vaani_spool_segment_name(name, dir, replay->segment);

    do {
        rc = ngx_vaani_spool_keep_aside(replay, dir);
    } while (rc != NGX_OK && ngx_vaani_spool_drop_if_full(replay->spool));

    if (rc != NGX_OK && errno == ENOSPC && replay->ndead == 0
        && ngx_vaani_spool_punch_holes(replay, name) == NGX_OK)
    {
        replay->emptied = 1;
        rc = ngx_vaani_spool_keep_aside(replay, dir);
    }

    if (rc != NGX_OK) {

        if (errno != ENOSPC && errno != EDQUOT && errno != EFBIG) {
            return NGX_ERROR;
        }

        /*
         * The disk is full: the whole segment is kept, because it contains the
         * records to be kept aside.  Renaming takes little or no space.
         */

        if (ngx_vaani_spool_rename_bad(name) != NGX_OK) {
            return NGX_ERROR;
        }

        replay->whole = 1;
        replay->kept = 1;

    } else if (ngx_vaani_spool_keep_or_delete(replay, name, dir) != NGX_OK) {
        return NGX_ERROR;
    }

    if (ngx_vaani_spool_sync_dir(dir->data) != NGX_OK) {
        return NGX_ERROR;
    }

    /* after something was put aside, count it immediately */

    if (replay->kept) {
        replay->measured = 0;
    }

    return NGX_OK;
}


/*
 * Deletes a delivered segment, or keeps it.
 */

static ngx_int_t
ngx_vaani_spool_keep_or_delete(ngx_vaani_spool_replay_t *replay, u_char *name,
    ngx_str_t *dir)
{
    u_char  kept[NGX_VAANI_SPOOL_NAME_LEN];

    if (replay->spool->retain && replay->size && !replay->emptied) {
        ngx_vaani_spool_kept_name(kept, dir, replay->segment, replay->mark.id);

        if (ngx_vaani_spool_rename_new(name, kept) == NGX_OK) {
            replay->renamed = 1;
            return NGX_OK;
        }

        /* losing it is better than delivering it forever */
    }

    if (unlink((char *) name) == -1 && errno != ENOENT) {
        return NGX_ERROR;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_vaani_spool_keep_aside(ngx_vaani_spool_replay_t *replay, ngx_str_t *dir)
{
    u_char  name[NGX_VAANI_SPOOL_NAME_LEN];

    if (replay->nbad) {
        ngx_snprintf(name, NGX_VAANI_SPOOL_NAME_LEN, "%V/%020uA.bad%Z", dir,
                     replay->segment);

        if (ngx_vaani_spool_append_file(name, replay->bad, replay->nbad)
            != NGX_OK)
        {
            return NGX_ERROR;
        }

        replay->nbad = 0;
        replay->kept = 1;
    }

    if (replay->ndead) {
        ngx_snprintf(name, NGX_VAANI_SPOOL_NAME_LEN, "%V/dead-letters%Z", dir);

        if (ngx_vaani_spool_append_file(name, replay->dead, replay->ndead)
            != NGX_OK)
        {
            return NGX_ERROR;
        }

        replay->ndead = 0;
        replay->kept = 1;
    }

    return replay->kept ? ngx_vaani_spool_sync_dir(dir->data) : NGX_OK;
}


/*
 * Moves records that could not be delivered, while others could, to the end of
 * the spool.  They are safe there before the segment is deleted.  An
 * interruption leaves them twice, and the receiver ignores the second
 * delivery.  Where the file system supports it, space is allocated first, so
 * that a full disk gets no partial record.
 */

static ngx_int_t
ngx_vaani_spool_append_late(ngx_vaani_spool_replay_t *replay)
{
    int                        fd;
    ngx_uint_t                 full;
    ngx_atomic_uint_t          segment;
    ngx_vaani_spool_shared_t  *shared;

    shared = ngx_vaani_spool_shared(replay->spool);

    for (full = 0; /* void */ ; /* void */ ) {

        fd = ngx_vaani_spool_open_current(replay->spool, &segment, full);

        if (fd == -1) {
            return NGX_ERROR;
        }

        if (ngx_vaani_spool_make_room(fd, replay->nlate) == NGX_OK
            && ngx_vaani_spool_write(fd, replay->late, replay->nlate)
               == NGX_OK
            && fdatasync(fd) == 0)
        {
            break;
        }

        ngx_vaani_spool_close_file(fd);

        /* waiting records displace kept ones */

        if (ngx_vaani_spool_drop_if_full(replay->spool)) {
            continue;
        }

        /* this process may have a lower file size limit than others */

        if (errno != EFBIG || full) {
            return NGX_ERROR;
        }

        full = 1;
    }

    (void) close(fd);

    (void) ngx_atomic_fetch_add(&shared->bytes, replay->nlate);
    (void) ngx_atomic_fetch_add(&shared->deferred, replay->nrecords);

    if (!replay->healing && replay->segment > shared->floor) {
        (void) ngx_atomic_fetch_add(&shared->partial, replay->nrecords);
    }

    replay->late_segment = segment;
    replay->nlate = 0;

    return NGX_OK;
}


static ngx_int_t
ngx_vaani_spool_make_room(int fd, size_t len)
{
#ifdef FALLOC_FL_KEEP_SIZE

    struct stat  st;

    if (fstat(fd, &st) == -1) {
        return NGX_ERROR;
    }

    if (fallocate(fd, FALLOC_FL_KEEP_SIZE, st.st_size, len) == -1
        && (errno == ENOSPC || errno == EDQUOT || errno == EFBIG))
    {
        return NGX_ERROR;
    }

#endif

    return NGX_OK;
}


/*
 * Frees the space of delivered records, so that a full disk has space for
 * those to be kept aside.  Otherwise the whole segment would be kept, and the
 * disk would stay full.  Returns NGX_OK, or NGX_ERROR with errno set to
 * ENOSPC.
 */

static ngx_int_t
ngx_vaani_spool_punch_holes(ngx_vaani_spool_replay_t *replay, u_char *name)
{
#ifdef FALLOC_FL_PUNCH_HOLE

    int                      fd, rc;
    size_t                   from;
    vaani_journal_reader_t   reader;
    vaani_journal_record_t   record;

    fd = open((char *) name, O_WRONLY|O_CLOEXEC);

    if (fd != -1) {
        ngx_memzero(&reader, sizeof(vaani_journal_reader_t));

        reader.data = replay->data;
        reader.len = replay->size;
        from = 0;

        do {
            rc = vaani_journal_next(&reader, &record);

            if (rc == VAANI_JOURNAL_RECORD) {
                continue;
            }

            if (rc == VAANI_JOURNAL_END) {
                record.offset = replay->size;
                record.size = 0;
            }

            /* all records since the last invalid bytes */

            if (record.offset > from) {
                (void) fallocate(fd, FALLOC_FL_PUNCH_HOLE|FALLOC_FL_KEEP_SIZE,
                                 from, record.offset - from);
            }

            from = record.offset + record.size;

        } while (rc != VAANI_JOURNAL_END);

        (void) close(fd);

        return NGX_OK;
    }

#endif

    errno = ENOSPC;

    return NGX_ERROR;
}


ngx_int_t
ngx_vaani_spool_finished(ngx_vaani_spool_replay_t *replay)
{
    ngx_vaani_spool_shared_t  *shared;

    if (replay->healing) {
        return ngx_vaani_spool_heal_done(replay);
    }

    shared = ngx_vaani_spool_shared(replay->spool);

    if (replay->finish.err) {
        ngx_log_error(NGX_LOG_CRIT, replay->spool->log, replay->finish.err,
                      "vaani: cannot delete the delivered segment %uA of the "
                      "spool \"%V\"; retrying",
                      replay->segment, &replay->spool->path->name);

        ngx_add_timer(&replay->timer, NGX_VAANI_SPOOL_REST);
        return NGX_ERROR;
    }

    if (replay->whole) {
        ngx_log_error(NGX_LOG_CRIT, replay->spool->log, 0,
                      "vaani: no disk space for the dead letters and damaged "
                      "records of segment %uA of the spool \"%V\"; the whole "
                      "segment was renamed to \".log.bad\"",
                      replay->segment, &replay->spool->path->name);
    }

    /* skipped segments still wait */

    if (!replay->skipped) {
        ngx_vaani_spool_raise(&shared->done, replay->segment);
    }

    if (replay->moved) {
        ngx_log_error(NGX_LOG_CRIT, replay->spool->log, replay->moved,
                      "vaani: cannot write waiting events of segment %uA to "
                      "the end of the spool \"%V\"; the whole segment was "
                      "moved there", replay->segment,
                      &replay->spool->path->name);

        /* its records were not counted before */

        if (replay->segment <= shared->floor) {
            (void) ngx_atomic_fetch_add(&shared->deferred, replay->nended);
        }

    } else {
        ngx_vaani_spool_lower(&shared->bytes, replay->size);

        /* until it was deleted, another worker might have had to replay it */

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

    ngx_vaani_spool_update_oldest(replay);

    ngx_vaani_spool_update_pause(replay);

    return NGX_OK;
}


/*
 * All records in the next segment arrived later than those in this one, except
 * those written again.  The age of the latter is known after all of them were
 * retried once.
 */

static void
ngx_vaani_spool_update_oldest(ngx_vaani_spool_replay_t *replay)
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
 * A round ends with the segment that contains the first record written again:
 * all waiting records were tried then.  If none of them could be delivered,
 * each for a reason of its own, the next round is delayed.
 */

static void
ngx_vaani_spool_update_pause(ngx_vaani_spool_replay_t *replay)
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


/*
 * Whether the whole segment was delivered to one receiver, after its mark was
 * claimed.
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
 * Redelivers records that the receiver has lost.
 */

static ngx_int_t
ngx_vaani_spool_heal_done(ngx_vaani_spool_replay_t *replay)
{
    ngx_uint_t                  whole;
    ngx_vaani_spool_held_t     *held;
    ngx_vaani_spool_shared_t   *shared;
    ngx_vaani_spool_segment_t  *segment;

    segment = replay->healing;
    held = replay->held;

    if (replay->finish.err) {
        ngx_log_error(NGX_LOG_CRIT, replay->spool->log, replay->finish.err,
                      "vaani: cannot write waiting events of segment %uA to "
                      "the end of the spool \"%V\"; retrying",
                      segment->number, &replay->spool->path->name);

        /* records waiting in other segments may free the missing space */

        shared = ngx_vaani_spool_shared(replay->spool);

        if (shared->appended > shared->done) {
            held->read = 0;
            replay->healing = NULL;
            ngx_vaani_spool_close(replay);
        }

        ngx_add_timer(&replay->timer, NGX_VAANI_SPOOL_REST);
        return NGX_ERROR;
    }

    whole = ngx_vaani_spool_same_life(replay);

    replay->healing = NULL;

    if (whole) {
        ngx_vaani_spool_loss_healed(&replay->window, held, segment->size);

    } else {

        /*
         * it was delivered to the owner at that time: the next server is
         * checked
         */

        held->read = 0;
    }

    /* slots that are migrating keep moving for a while */

    held->rest = replay->elsewhere ? NGX_VAANI_SPOOL_HEAL_EVERY : 0;
    held->rested = ngx_current_msec;

    return NGX_OK;
}
