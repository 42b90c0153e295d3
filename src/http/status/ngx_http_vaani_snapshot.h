
/*
 * The numbers for vaani_status, added up over all workers.
 */


#ifndef _NGX_HTTP_VAANI_SNAPSHOT_H_INCLUDED_
#define _NGX_HTTP_VAANI_SNAPSHOT_H_INCLUDED_


#include "ngx_http_vaani_history.h"


/*
 * The servers of a Redis, over all workers: each one with each role that a
 * worker knows it by, mostly one.
 */

#define NGX_HTTP_VAANI_SHOW_NODES   (2 * NGX_VAANI_REDIS_SHOWN)

typedef struct {
    ngx_atomic_uint_t           nmasters;   /* of the worker with the most */
    ngx_atomic_uint_t           ndown;
    ngx_uint_t                  nnodes;
    ngx_vaani_redis_shown_t     nodes[NGX_HTTP_VAANI_SHOW_NODES];
} ngx_http_vaani_nodes_t;


typedef struct {
    ngx_vaani_redis_t          *redis;
    ngx_vaani_redis_stats_t     sum;        /* over all workers, without the
                                               members of one process */
    ngx_http_vaani_nodes_t      nodes;
} ngx_http_vaani_redis_sum_t;


typedef struct {
    ngx_vaani_spool_t          *spool;
    ngx_vaani_spool_status_t    status;
} ngx_http_vaani_spool_sum_t;


typedef struct {
    uint64_t                    time;       /* Unix time, ms */
    uint64_t                    since;      /* the same: the counters began */

    ngx_http_vaani_slot_t       sum;        /* over all slots */
    ngx_http_vaani_redis_sum_t *redis;
    ngx_uint_t                  nredis;
    ngx_http_vaani_spool_sum_t *spools;
    ngx_uint_t                  nspools;

    /* the latest deliveries of all slots, newest first */

    ngx_http_vaani_recent_t     recent[NGX_HTTP_VAANI_RECENT];
    ngx_uint_t                  nrecent;

    /* new names in the deliveries, the latest first */

    ngx_http_vaani_drift_t     *drift[NGX_HTTP_VAANI_DRIFT];
    ngx_uint_t                  ndrift;
    ngx_atomic_uint_t           drift_other;

    /* the counters at the end of each minute, oldest first: only for JSON */

    ngx_http_vaani_sample_t    *samples[NGX_HTTP_VAANI_HISTORY + 2];
    ngx_int_t                   nsamples;
} ngx_http_vaani_snapshot_t;


/*
 * Adds up the counters of the workers, in memory of the pool.  Returns NULL if
 * there is no memory.
 */
ngx_http_vaani_snapshot_t *ngx_http_vaani_snapshot(ngx_pool_t *pool,
    ngx_http_vaani_main_conf_t *vmcf);

/*
 * The name of a rank of statuses, NULL if there is none.
 */
const vaani_str_t *ngx_http_vaani_rank_name(ngx_uint_t rank);

/*
 * The number of counted calls that have this status now.  Below 0 if another
 * nginx counted that they entered it.
 */
ngx_int_t ngx_http_vaani_calls(ngx_http_vaani_slot_t *sum, ngx_uint_t rank);


#endif /* _NGX_HTTP_VAANI_SNAPSHOT_H_INCLUDED_ */
