
#include "ngx_vaani_spool_private.h"


/*
 * The counters in shared memory, the status for operators, and the check
 * whether a record would be accepted.
 */


void
ngx_vaani_spool_succeeded(ngx_vaani_spool_t *spool)
{
    ngx_vaani_spool_shared_t  *shared;

    shared = ngx_vaani_spool_shared(spool);

    /* avoids most writes: all workers share this cache line */

    if (shared->succeeded != (ngx_atomic_uint_t) ngx_time()) {

        if (shared->succeeded
            && (ngx_atomic_int_t) (ngx_time() - shared->succeeded)
               > NGX_VAANI_SPOOL_GAP)
        {
            shared->unbroken = ngx_time();
        }

        shared->succeeded = ngx_time();
    }
}


void
ngx_vaani_spool_get_status(ngx_vaani_spool_t *spool,
    ngx_vaani_spool_status_t *status)
{
    ngx_atomic_uint_t          finished, oldest, written;
    ngx_vaani_spool_shared_t  *shared;

    shared = ngx_vaani_spool_shared(spool);
    oldest = shared->oldest;

    status->appended = shared->written;

    finished = shared->finished + shared->partial;

    written = shared->written + shared->deferred;

    status->records = (written > finished) ? written - finished : 0;

    status->replayed = shared->replayed;
    status->buried = shared->buried;
    status->refused = shared->refused;
    status->kept_bytes = shared->kept_bytes;
    status->kept_age = shared->kept_since
                       ? ngx_vaani_spool_boottime() / 1000 - shared->kept_since
                       : 0;
    status->kept = shared->kept;
    status->not_kept = shared->not_kept;
    status->forgotten = shared->forgotten;
    status->beyond = shared->beyond;
    status->looked_at = shared->looked_at;
    status->brought_back = shared->brought_back;
    status->refused_kept = shared->refused_kept;
    status->refused_dropped = shared->refused_dropped;
    status->dead_letters_bytes = shared->dead_letters_bytes;
    status->bad_bytes = shared->bad_bytes;
    status->refused_bytes = shared->refused_bytes;
    status->bytes = shared->bytes;
    status->max = spool->max;
    status->age = oldest ? ngx_vaani_spool_since(ngx_time()) - oldest : 0;
    status->oldest = oldest ? ngx_time() - (time_t) status->age : 0;
}


ngx_uint_t
ngx_vaani_spool_takes(ngx_vaani_spool_t *spool)
{
    ngx_vaani_spool_shared_t  *shared;

    shared = ngx_vaani_spool_shared(spool);

    /* waiting records displace kept ones */

    if (shared->bytes >= spool->max) {
        return 0;
    }

    if (!spool->refusing) {
        return 1;
    }

    return spool->full ? shared->bytes < spool->full
                       : ngx_current_msec - spool->failed
                         >= NGX_VAANI_SPOOL_TRY_AGAIN;
}


void
ngx_vaani_spool_raise(ngx_atomic_t *atomic, ngx_atomic_uint_t value)
{
    ngx_atomic_uint_t  old;

    do {
        old = *atomic;

        if (old >= value) {
            return;
        }

    } while (!ngx_atomic_cmp_set(atomic, old, value));
}


void
ngx_vaani_spool_lower(ngx_atomic_t *atomic, ngx_atomic_uint_t value)
{
    ngx_atomic_uint_t  old;

    do {
        old = *atomic;
    } while (!ngx_atomic_cmp_set(atomic, old, old - ngx_min(old, value)));
}


void
ngx_vaani_spool_wake(ngx_vaani_spool_t *spool)
{
    if (spool->wake && spool->wake->timer_set) {
        ngx_add_timer(spool->wake, NGX_VAANI_SPOOL_INTERVAL);
    }
}
