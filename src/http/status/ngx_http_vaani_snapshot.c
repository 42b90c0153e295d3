
/*
 * The sums over all workers, taken once for an answer.
 */


#include "ngx_http_vaani_snapshot.h"


static void ngx_http_vaani_add_stats(ngx_http_vaani_snapshot_t *snapshot,
    ngx_http_vaani_stats_t *stats);
static void ngx_http_vaani_add_drift(ngx_http_vaani_snapshot_t *snapshot,
    ngx_http_vaani_drift_t *drift);
static void ngx_http_vaani_add(void *sum, void *slot, size_t size);
static void ngx_http_vaani_add_recent(ngx_http_vaani_snapshot_t *snapshot,
    ngx_http_vaani_recent_t *recent);
static void ngx_http_vaani_add_redis(ngx_http_vaani_redis_sum_t *sum,
    ngx_vaani_redis_t *redis);
static void ngx_http_vaani_add_node(ngx_http_vaani_nodes_t *sum,
    ngx_vaani_redis_shown_t *node);


ngx_http_vaani_snapshot_t *
ngx_http_vaani_snapshot(ngx_pool_t *pool, ngx_http_vaani_main_conf_t *vmcf)
{
    ngx_uint_t                   n;
    ngx_vaani_redis_t          **redis;
    ngx_vaani_spool_t          **spool;
    ngx_http_vaani_snapshot_t   *snapshot;
    ngx_http_vaani_spool_sum_t  *sum;

    snapshot = ngx_pcalloc(pool, sizeof(ngx_http_vaani_snapshot_t));

    if (snapshot == NULL) {
        return NULL;
    }

    snapshot->redis = ngx_pcalloc(pool, vmcf->redis.nelts
                                        * sizeof(ngx_http_vaani_redis_sum_t));
    snapshot->spools = ngx_pcalloc(pool, vmcf->spools.nelts
                                         * sizeof(ngx_http_vaani_spool_sum_t));

    if (snapshot->redis == NULL || snapshot->spools == NULL) {
        return NULL;
    }

    snapshot->time = ngx_http_vaani_now();
    snapshot->since = snapshot->time;

    if (vmcf->stats) {
        ngx_http_vaani_add_stats(snapshot, vmcf->stats);
    }

    redis = vmcf->redis.elts;

    for (n = 0; n < vmcf->redis.nelts; n++) {
        ngx_http_vaani_add_redis(&snapshot->redis[n], redis[n]);
    }

    snapshot->nredis = n;

    spool = vmcf->spools.elts;

    for (n = 0; n < vmcf->spools.nelts; n++) {

        if (spool[n]->data) {
            sum = &snapshot->spools[snapshot->nspools++];

            sum->spool = spool[n];
            ngx_vaani_spool_get_status(spool[n], &sum->status);
        }
    }

    return snapshot;
}


static void
ngx_http_vaani_add_stats(ngx_http_vaani_snapshot_t *snapshot,
    ngx_http_vaani_stats_t *stats)
{
    ngx_uint_t              n, i, last;
    ngx_http_vaani_slot_t  *slot;

    snapshot->since = stats->since;

    for (n = 0; n < NGX_HTTP_VAANI_SLOTS; n++) {
        slot = &stats->slots[n];

        ngx_http_vaani_add(&snapshot->sum, slot,
                           offsetof(ngx_http_vaani_slot_t, pid));

        if (ngx_vaani_redis_alive(slot->pid)) {
            snapshot->sum.in_flight += slot->in_flight;
        }

        /* also within a millisecond, the newest is first */

        last = slot->nrecent;

        for (i = 1; i <= NGX_HTTP_VAANI_RECENT; i++) {
            ngx_http_vaani_add_recent(snapshot,
                      &slot->recent[(last - i) & (NGX_HTTP_VAANI_RECENT - 1)]);
        }
    }

    for (n = 0; n < NGX_HTTP_VAANI_DRIFT; n++) {
        ngx_http_vaani_add_drift(snapshot, &stats->drift[n]);
    }

    snapshot->drift_other = stats->drift_other;
}


/*
 * The latest ones are first.
 */

static void
ngx_http_vaani_add_drift(ngx_http_vaani_snapshot_t *snapshot,
    ngx_http_vaani_drift_t *drift)
{
    ngx_uint_t  n;

    if (!drift->ready) {
        return;
    }

    ngx_memory_barrier();

    for (n = snapshot->ndrift++;
         n > 0 && snapshot->drift[n - 1]->first < drift->first;
         n--)
    {
        snapshot->drift[n] = snapshot->drift[n - 1];
    }

    snapshot->drift[n] = drift;
}


/*
 * Adds the first size bytes of a slot: its counters, which are before the
 * members of a single process.
 */

static void
ngx_http_vaani_add(void *sum, void *slot, size_t size)
{
    ngx_uint_t     n;
    ngx_atomic_t  *from, *to;

    from = slot;
    to = sum;

    for (n = 0; n < size / sizeof(ngx_atomic_t); n++) {
        to[n] += from[n];
    }
}


static void
ngx_http_vaani_add_recent(ngx_http_vaani_snapshot_t *snapshot,
    ngx_http_vaani_recent_t *recent)
{
    ngx_uint_t               n;
    ngx_http_vaani_recent_t  copy;

    /* its worker may be writing it: use one copy throughout */

    copy = *recent;

    if (copy.time == 0
        || ngx_http_vaani_event_name(copy.event) == NULL
        || copy.result >= NGX_HTTP_VAANI_RESULTS)
    {
        return;
    }

    if (snapshot->nrecent < NGX_HTTP_VAANI_RECENT) {
        snapshot->nrecent++;

    } else if (snapshot->recent[NGX_HTTP_VAANI_RECENT - 1].time
               >= copy.time)
    {
        return;
    }

    for (n = snapshot->nrecent - 1;
         n > 0 && snapshot->recent[n - 1].time < copy.time;
         n--)
    {
        snapshot->recent[n] = snapshot->recent[n - 1];
    }

    snapshot->recent[n] = copy;
}


/*
 * Adds up the counters of all workers for a Redis, and their open commands.
 */

static void
ngx_http_vaani_add_redis(ngx_http_vaani_redis_sum_t *sum,
    ngx_vaani_redis_t *redis)
{
    ngx_uint_t                n, i;
    ngx_http_vaani_nodes_t   *nodes;
    ngx_vaani_redis_stats_t  *stats;
    ngx_vaani_redis_table_t   table;

    sum->redis = redis;
    nodes = &sum->nodes;

    for (n = 0; n < redis->nstats; n++) {
        stats = &redis->stats[n];

        ngx_http_vaani_add(&sum->sum, stats,
                           offsetof(ngx_vaani_redis_stats_t, pid));

        if (ngx_vaani_redis_alive(stats->pid)) {
            sum->sum.commands += stats->commands;
            sum->sum.bytes += stats->bytes;
        }

        if (!ngx_vaani_redis_shown(redis, n, &table)) {
            continue;
        }

        nodes->nmasters = ngx_max(nodes->nmasters, table.nmasters);
        nodes->ndown = ngx_max(nodes->ndown, table.ndown);

        for (i = 0; i < table.nnodes; i++) {
            ngx_http_vaani_add_node(nodes, &table.nodes[i]);
        }
    }
}


static void
ngx_http_vaani_add_node(ngx_http_vaani_nodes_t *sum,
    ngx_vaani_redis_shown_t *node)
{
    ngx_uint_t                n;
    ngx_vaani_redis_shown_t  *known;

    if (node->role >= NGX_VAANI_REDIS_SHOWN_ROLES) {
        return;
    }

    for (n = 0; n < sum->nnodes; n++) {
        known = &sum->nodes[n];

        if (known->role == node->role
            && ngx_strcmp(known->name, node->name) == 0)
        {
            known->slots = ngx_max(known->slots, node->slots);
            known->connections += node->connections;
            known->ready += node->ready;
            return;
        }
    }

    if (n < NGX_HTTP_VAANI_SHOW_NODES) {
        sum->nodes[n] = *node;
        sum->nnodes++;
    }
}


ngx_int_t
ngx_http_vaani_calls(ngx_http_vaani_slot_t *sum, ngx_uint_t rank)
{
    ngx_int_t   calls;
    ngx_uint_t  n;

    calls = 0;

    for (n = 0; n < NGX_HTTP_VAANI_RANKS; n++) {
        calls += sum->transitions[n][rank];
        calls -= sum->transitions[rank][n];
    }

    return calls;
}


const vaani_str_t *
ngx_http_vaani_rank_name(ngx_uint_t rank)
{
    static const vaani_str_t  none = vaani_string("none");
    static const vaani_str_t  unknown = vaani_string("unknown");

    if (rank == 0) {
        return &none;
    }

    return (rank == VAANI_TRANSITION_UNCOUNTED) ? &unknown
                                                : vaani_status_name(rank);
}
