
#include "ngx_vaani_spool_private.h"


static ngx_int_t ngx_vaani_spool_init_zone(ngx_shm_zone_t *shm_zone,
    void *data);
static void ngx_vaani_spool_cleanup(void *data);


/* tells its zones from those of others */

static ngx_uint_t  ngx_vaani_spool_tag;


ngx_int_t
ngx_vaani_spool_init(ngx_conf_t *cf, ngx_vaani_spool_t *spool)
{
    size_t      size;
    ngx_str_t   name;

    name.len = sizeof("vaani_spool:") - 1 + spool->path->name.len;
    name.data = ngx_pnalloc(cf->pool, name.len);

    if (name.data == NULL) {
        return NGX_ERROR;
    }

    ngx_sprintf(name.data, "vaani_spool:%V", &spool->path->name);

    spool->cycle = cf->cycle;

    size = ngx_align(sizeof(ngx_vaani_spool_shared_t), ngx_pagesize)
           + 8 * ngx_pagesize;

    spool->shm_zone = ngx_shared_memory_add(cf, &name, size,
                                            &ngx_vaani_spool_tag);

    if (spool->shm_zone == NULL) {
        return NGX_ERROR;
    }

    spool->shm_zone->init = ngx_vaani_spool_init_zone;

    /* the data of a zone is its memory; the first spool can be any of them */

    spool->shm_zone->data = spool;

#if (NGX_THREADS)

    spool->thread_pool = ngx_thread_pool_add(cf, NULL);

    if (spool->thread_pool == NULL) {
        return NGX_ERROR;
    }

#else

    ngx_conf_log_error(NGX_LOG_WARN, cf, 0,
                       "nginx was built without threads: the spool \"%V\" "
                       "blocks workers while it writes", &spool->path->name);

#endif

    return NGX_OK;
}


static ngx_int_t
ngx_vaani_spool_init_zone(ngx_shm_zone_t *shm_zone, void *data)
{
    off_t                      size;
    ngx_str_t                  parent;
    struct stat                st;
    ngx_slab_pool_t           *shpool;
    ngx_atomic_uint_t          lowest, highest;
    ngx_vaani_spool_t         *spool;
    ngx_vaani_spool_shared_t  *shared;
    u_char                     name[NGX_VAANI_SPOOL_NAME_LEN], *p;

    spool = shm_zone->data;
    shpool = (ngx_slab_pool_t *) shm_zone->shm.addr;

    if (ngx_vaani_spool_prepare_dir(spool, shm_zone->shm.log) != NGX_OK) {
        return NGX_ERROR;
    }

    if (data) {
        /* a reload */
        shm_zone->data = data;
        return NGX_OK;
    }

    if (shm_zone->shm.exists) {
        shm_zone->data = shpool->data;
        return NGX_OK;
    }

    shared = ngx_slab_calloc(shpool, sizeof(ngx_vaani_spool_shared_t));

    if (shared == NULL) {
        return NGX_ERROR;
    }

    shpool->data = shared;
    shm_zone->data = shared;

    if (ngx_vaani_spool_list(&spool->path->name, 0, &lowest, &highest, &size)
        != NGX_OK)
    {
        ngx_log_error(NGX_LOG_EMERG, shm_zone->shm.log, ngx_errno,
                      "vaani: the spool \"%V\" can't be read and written",
                      &spool->path->name);
        return NGX_ERROR;
    }

    shared->current = highest + 1;
    shared->floor = highest;
    shared->appended = highest;
    shared->done = lowest ? lowest - 1 : highest;
    shared->bytes = size;

    if (lowest) {
        ngx_vaani_spool_segment_name(name, &spool->path->name, lowest);

        shared->oldest = ngx_vaani_spool_since(stat((char *) name, &st) == 0
                                               ? st.st_mtime : ngx_time());
    }

    ngx_vaani_spool_measure(spool);

    /* nginx may just have made the directory */

    parent = spool->path->name;
    p = ngx_cpymem(name, parent.data, parent.len);

    while (p > name + 1 && p[-1] != '/') {
        p--;
    }

    *p = '\0';

    if (ngx_vaani_spool_sync_dir(name) != NGX_OK) {
        ngx_log_error(NGX_LOG_WARN, shm_zone->shm.log, ngx_errno,
                      "vaani: the directory of the spool \"%V\" can't be "
                      "synced", &spool->path->name);
    }

    return NGX_OK;
}


ngx_int_t
ngx_vaani_spool_init_worker(ngx_vaani_spool_t *spool, ngx_cycle_t *cycle)
{
    ngx_pool_cleanup_t  *cln;

    cln = ngx_pool_cleanup_add(cycle->pool, 0);

    if (cln == NULL) {
        return NGX_ERROR;
    }

    /* without a master, a worker outlives its configuration */

    cln->handler = ngx_vaani_spool_cleanup;
    cln->data = spool;

    spool->log = cycle->log;

#ifdef SIGXFSZ

    /* a limit of the size of files is an error of write(), not a death */

    (void) signal(SIGXFSZ, SIG_IGN);

#endif

    if (ngx_vaani_spool_append_init(spool, cycle) != NGX_OK
        || ngx_vaani_spool_writers_init(spool, cycle) != NGX_OK
        || ngx_vaani_spool_refused_init(spool, cycle) != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_vaani_spool_replay_init(spool, cycle);
}


static void
ngx_vaani_spool_cleanup(void *data)
{
    ngx_vaani_spool_exit_worker(data);
}


void
ngx_vaani_spool_exit_worker(ngx_vaani_spool_t *spool)
{
    if (spool->append == NULL) {
        return;
    }

    ngx_vaani_spool_append_exit(spool);
    ngx_vaani_spool_writers_exit(spool);
    ngx_vaani_spool_refused_exit(spool);
    ngx_vaani_spool_replay_exit(spool);

    spool->append = NULL;
}


void
ngx_vaani_spool_succeeded(ngx_vaani_spool_t *spool)
{
    ngx_vaani_spool_shared_t  *shared;

    shared = ngx_vaani_spool_shared(spool);

    /* most calls write nothing: the line of memory is one for all workers */

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

    /* what is kept makes room */

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


ngx_atomic_uint_t
ngx_vaani_spool_since(time_t time)
{
    time_t           age, now;
    struct timespec  ts;

    (void) clock_gettime(CLOCK_MONOTONIC, &ts);

    now = NGX_VAANI_SPOOL_EPOCH + ts.tv_sec;
    age = ngx_max(ngx_time() - time, 0);

    return (age < now) ? now - age : 1;
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
