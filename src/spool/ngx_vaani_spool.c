
#include "ngx_vaani_spool_private.h"


static ngx_int_t ngx_vaani_spool_init_zone(ngx_shm_zone_t *shm_zone,
    void *data);
static void ngx_vaani_spool_cleanup(void *data);
static ngx_int_t ngx_vaani_spool_start(ngx_vaani_spool_t *spool);


/* distinguishes its zones from those of other modules */

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

    /* the data of a zone is its memory; any spool may be the first one */

    spool->shm_zone->data = spool;

#if (NGX_THREADS)

    spool->thread_pool = ngx_thread_pool_add(cf, NULL);

    if (spool->thread_pool == NULL) {
        return NGX_ERROR;
    }

#else

    ngx_conf_log_error(NGX_LOG_WARN, cf, 0,
                       "nginx was built without threads; writes to the spool "
                       "\"%V\" block workers", &spool->path->name);

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
                      "vaani: cannot read and write the spool \"%V\"",
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

    /* nginx may just have created the directory */

    parent = spool->path->name;
    p = ngx_cpymem(name, parent.data, parent.len);

    while (p > name + 1 && p[-1] != '/') {
        p--;
    }

    *p = '\0';

    if (ngx_vaani_spool_sync_dir(name) != NGX_OK) {
        ngx_log_error(NGX_LOG_WARN, shm_zone->shm.log, ngx_errno,
                      "vaani: cannot sync the parent directory of the spool "
                      "\"%V\"", &spool->path->name);
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

    /* without a master process, a worker outlives its configuration */

    cln->handler = ngx_vaani_spool_cleanup;
    cln->data = spool;

    spool->log = cycle->log;

#ifdef SIGXFSZ

    /*
     * makes an exceeded file size limit an error of write(), not a fatal
     * signal
     */

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


ngx_vaani_spool_entry_t *
ngx_vaani_spool_alloc(ngx_vaani_spool_t *spool, size_t size, u_char **record)
{
    if (ngx_vaani_spool_start(spool) != NGX_OK) {
        return NULL;
    }

    return ngx_vaani_spool_append_alloc(spool, size, record);
}


ngx_vaani_spool_refusal_t *
ngx_vaani_spool_keep_refused(ngx_vaani_spool_t *spool, ngx_str_t *reason,
    ngx_str_t *body, uint64_t received_at, ngx_vaani_spool_append_pt handler,
    void *data)
{
    if (spool->refused == 0 || ngx_vaani_spool_start(spool) != NGX_OK) {
        return NULL;
    }

    return ngx_vaani_spool_refused_add(spool, reason, body, received_at,
                                       handler, data);
}


/*
 * Without a master process, a reload starts no worker.  The first record then
 * starts the spool.
 */

static ngx_int_t
ngx_vaani_spool_start(ngx_vaani_spool_t *spool)
{
    return spool->append ? NGX_OK
                         : ngx_vaani_spool_init_worker(spool,
                                                    (ngx_cycle_t *) ngx_cycle);
}
