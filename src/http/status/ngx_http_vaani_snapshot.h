
/*
 * What vaani_status shows: the numbers of all workers, added up.
 */


#ifndef _NGX_HTTP_VAANI_SNAPSHOT_H_INCLUDED_
#define _NGX_HTTP_VAANI_SNAPSHOT_H_INCLUDED_


#include "../ngx_http_vaani.h"


/* recent deliveries that are shown, of all slots */

#define NGX_HTTP_VAANI_SHOW_RECENT  NGX_HTTP_VAANI_RECENT


/*
 * The sums over all slots, and the latest deliveries, newest first.
 */

typedef struct {
    ngx_http_vaani_main_conf_t *vmcf;
    uint64_t                    time;       /* Unix time, ms */
    ngx_http_vaani_slot_t       sum;
    ngx_http_vaani_recent_t     recent[NGX_HTTP_VAANI_SHOW_RECENT];
    ngx_uint_t                  nrecent;

    /* what is new in the deliveries, the latest first */

    ngx_http_vaani_drift_t     *drift[NGX_HTTP_VAANI_DRIFT];
    ngx_uint_t                  ndrift;
    ngx_atomic_uint_t           drift_other;
} ngx_http_vaani_snapshot_t;


/*
 * The servers of a Redis, over all workers: each one with each role that a
 * worker knows it by, mostly one.
 */

#define NGX_HTTP_VAANI_SHOW_NODES   (2 * NGX_VAANI_REDIS_SHOWN)

typedef struct {
    ngx_uint_t                  nmasters;   /* of the worker with the most */
    ngx_uint_t                  ndown;
    ngx_uint_t                  nnodes;
    ngx_vaani_redis_shown_t     nodes[NGX_HTTP_VAANI_SHOW_NODES];
} ngx_http_vaani_nodes_t;


/*
 * Adds up what the workers counted, in memory of the pool.  Returns NULL if
 * there is none.
 */
ngx_http_vaani_snapshot_t *ngx_http_vaani_snapshot(ngx_pool_t *pool,
    ngx_http_vaani_main_conf_t *vmcf);

/*
 * The name of a rank of statuses, NULL if there is none.
 */
const vaani_str_t *ngx_http_vaani_rank_name(ngx_uint_t rank);

/*
 * Adds up what the slots of a Redis counted, and what is under way.
 */
void ngx_http_vaani_sum_redis(ngx_vaani_redis_t *redis,
    ngx_vaani_redis_stats_t *sum);

void ngx_http_vaani_sum_nodes(ngx_vaani_redis_t *redis,
    ngx_http_vaani_nodes_t *sum);

/*
 * How many calls are in a status now, of those that were counted.  Below 0 if
 * another nginx has seen them before.
 */
ngx_int_t ngx_http_vaani_calls(ngx_http_vaani_slot_t *sum, ngx_uint_t rank);


#endif /* _NGX_HTTP_VAANI_SNAPSHOT_H_INCLUDED_ */
