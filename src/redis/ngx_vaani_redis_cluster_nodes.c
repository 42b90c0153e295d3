
/*
 * The nodes of a cluster to which a worker is connected: the masters of the
 * table, guests to which a command was redirected, and nodes to be removed.
 */


#include "ngx_vaani_redis_cluster.h"


/* the period of the line about too many masters, ms */

#define NGX_VAANI_REDIS_CROWDED_EVERY   60000

/* how long a guest is kept after a redirect to it, ms */

#define NGX_VAANI_REDIS_GUEST           10000

/* the maximum number of guests */

#define NGX_VAANI_REDIS_MAX_GUESTS      16


ngx_vaani_redis_node_t *
ngx_vaani_redis_cluster_add(ngx_vaani_redis_cluster_t *cluster,
    const char *host, in_port_t port)
{
    uint64_t                 skipped;
    ngx_uint_t               n;
    ngx_vaani_redis_t       *redis;
    ngx_vaani_redis_node_t  *node;

    redis = cluster->redis;

    for (n = 0; n < redis->nnodes && redis->nodes[n]; n++) { /* void */ }

    if (n == NGX_VAANI_REDIS_MAX_SERVERS) {

        if (vaani_pace(&cluster->crowded, ngx_current_msec,
                       NGX_VAANI_REDIS_CROWDED_EVERY, &skipped))
        {
            ngx_log_error(NGX_LOG_ERR, cluster->log, 0,
                          "vaani: the cluster has more than %d masters; events "
                          "for the slots of %s:%d are not applied",
                          NGX_VAANI_REDIS_MAX_SERVERS, host, (int) port);
        }

        return NULL;
    }

    node = ngx_vaani_redis_create_node(redis, n, cluster->log);

    if (node == NULL) {
        return NULL;
    }

    if (ngx_vaani_redis_place(node, host, port) != NGX_OK) {
        ngx_vaani_redis_free_node(node);
        return NULL;
    }

    redis->nodes[n] = node;
    redis->nnodes = ngx_max(redis->nnodes, n + 1);

    ngx_vaani_redis_stats_connections(redis, redis->nconnections);
    ngx_vaani_redis_show(redis);

    for (n = 0; n < redis->nconnections; n++) {
        ngx_vaani_redis_connect(&node->conns[n]);
    }

    return node;
}


/*
 * Returns the node at an address.  If it is not in the table, connects to it:
 * it may be about to get its first slots.
 */

ngx_vaani_redis_node_t *
ngx_vaani_redis_cluster_guest(ngx_vaani_redis_cluster_t *cluster,
    const char *host, in_port_t port)
{
    ngx_uint_t               n, nguests;
    ngx_vaani_redis_t       *redis;
    ngx_vaani_redis_node_t  *node;

    redis = cluster->redis;
    nguests = 0;

    for (n = 0; n < redis->nnodes; n++) {
        node = redis->nodes[n];

        if (node == NULL || node->leaving) {
            continue;
        }

        if (ngx_vaani_redis_is_at(node, host, port)) {
            return node;
        }

        nguests += !node->listed;
    }

    if (nguests >= NGX_VAANI_REDIS_MAX_GUESTS) {
        return NULL;
    }

    node = ngx_vaani_redis_cluster_add(cluster, host, port);

    if (node) {
        node->used = ngx_current_msec;
    }

    return node;
}


void
ngx_vaani_redis_cluster_check_guests(ngx_vaani_redis_cluster_t *cluster)
{
    ngx_uint_t               n;
    ngx_vaani_redis_t       *redis;
    ngx_vaani_redis_node_t  *node;

    redis = cluster->redis;

    for (n = 0; n < redis->nnodes; n++) {
        node = redis->nodes[n];

        if (node == NULL || node->listed || node->leaving) {
            continue;
        }

        if (node->used
            && ngx_current_msec - node->used < NGX_VAANI_REDIS_GUEST)
        {
            continue;
        }

        ngx_vaani_redis_cluster_leave(cluster, node);
    }
}


/*
 * The waiting commands of the node are sent to other nodes; those in progress
 * may finish.
 */

void
ngx_vaani_redis_cluster_leave(ngx_vaani_redis_cluster_t *cluster,
    ngx_vaani_redis_node_t *node)
{
    ngx_uint_t               n;
    ngx_vaani_redis_conn_t  *conn;

    node->leaving = 1;
    cluster->nleaving++;

    for (n = 0; n < cluster->redis->nconnections; n++) {
        conn = &node->conns[n];

        if (conn->state != NGX_VAANI_REDIS_READY) {
            ngx_vaani_redis_shut(conn);
            ngx_vaani_redis_cluster_park_waiting(conn);

            /*
             * the node that was last asked for the table may know less than
             * others
             */

            cluster->rotate = 1;
            cluster->again |= cluster->asking;
        }
    }

    ngx_vaani_redis_cluster_wake(cluster, NGX_VAANI_REDIS_PARKED);
}


/*
 * Never within a callback of a connection.
 */

void
ngx_vaani_redis_cluster_free_idle(ngx_vaani_redis_cluster_t *cluster)
{
    ngx_uint_t               n, i, ncommands;
    ngx_vaani_redis_t       *redis;
    ngx_vaani_redis_node_t  *node;

    if (cluster->nleaving == 0) {
        return;
    }

    redis = cluster->redis;

    for (n = 0; n < redis->nnodes; n++) {
        node = redis->nodes[n];

        if (node == NULL || !node->leaving) {
            continue;
        }

        ncommands = 0;

        for (i = 0; i < redis->nconnections; i++) {
            ncommands += node->conns[i].ncommands;
        }

        if (ncommands) {
            continue;
        }

        redis->nodes[n] = NULL;
        cluster->nleaving--;

        ngx_vaani_redis_free_node(node);

        ngx_vaani_redis_stats_connections(redis,
                                          -(ngx_int_t) redis->nconnections);
        ngx_vaani_redis_show(redis);
    }
}
