
/*
 * The table of a cluster: which node owns which slot.  It is fetched by
 * CLUSTER SLOTS, which all versions have: when a worker starts, when a reply
 * or a lost connection shows that it may be out of date, and periodically.
 *
 * The nodes of the latest table are asked one after the other, then the
 * servers of the configuration, whose names are resolved again.
 */


#include "ngx_vaani_redis_cluster.h"


/* the period of fetching, ms */

#define NGX_VAANI_REDIS_TABLE_EVERY     10000

/* the maximum delay between fetches on demand, ms */

#define NGX_VAANI_REDIS_TABLE_PAUSE     500

/* the period of the line that gives the reason for a missing table, ms */

#define NGX_VAANI_REDIS_TABLE_COMPLAIN  10000


static void ngx_vaani_redis_table_handler(ngx_event_t *ev);
static void ngx_vaani_redis_table_next(ngx_vaani_redis_cluster_t *cluster);
static void ngx_vaani_redis_table_ask(ngx_vaani_redis_cluster_t *cluster);
static void ngx_vaani_redis_table_over(ngx_vaani_redis_cluster_t *cluster,
    ngx_uint_t changed);
static void ngx_vaani_redis_table_ready(ngx_vaani_redis_watch_t *watch);
static void ngx_vaani_redis_table_lost(ngx_vaani_redis_watch_t *watch);
static void ngx_vaani_redis_table_info(void *data,
    ngx_vaani_redis_status_e status, redisReply *reply, ngx_uint_t lane);
static void ngx_vaani_redis_table_slots(void *data,
    ngx_vaani_redis_status_e status, redisReply *reply, ngx_uint_t lane);
static void ngx_vaani_redis_table_nodes(void *data,
    ngx_vaani_redis_status_e status, redisReply *reply, ngx_uint_t lane);
static const char *ngx_vaani_redis_table_doubt(
    ngx_vaani_redis_cluster_t *cluster, vaani_topology_t *table);
static ngx_uint_t ngx_vaani_redis_table_is_foreign(
    ngx_vaani_redis_cluster_t *cluster, vaani_topology_t *table);


void
ngx_vaani_redis_cluster_table_init(ngx_vaani_redis_cluster_t *cluster)
{
    ngx_vaani_redis_watch_init(&cluster->watch, cluster->redis, cluster->log);

    cluster->watch.data = cluster;
    cluster->watch.ready = ngx_vaani_redis_table_ready;
    cluster->watch.lost = ngx_vaani_redis_table_lost;

    cluster->refresh.handler = ngx_vaani_redis_table_handler;
    cluster->refresh.data = cluster;
    cluster->refresh.log = cluster->log;
    cluster->refresh.cancelable = 1;

    cluster->asking = 1;

    ngx_vaani_redis_table_next(cluster);
}


void
ngx_vaani_redis_cluster_table_exit(ngx_vaani_redis_cluster_t *cluster)
{
    ngx_vaani_redis_conn_exit(&cluster->watch.conn);

    if (cluster->refresh.timer_set) {
        ngx_del_timer(&cluster->refresh);
    }

    vaani_topology_free(&cluster->table);
}


void
ngx_vaani_redis_cluster_refresh(ngx_vaani_redis_cluster_t *cluster,
    ngx_uint_t trouble)
{
    ngx_msec_int_t  left;

    if (trouble) {
        cluster->rotate = 1;
    }

    if (cluster->asking) {

        /*
         * the table may have been composed before the reason for the request
         */

        cluster->again = 1;
        return;
    }

    left = cluster->done + cluster->backoff - ngx_current_msec;
    left = ngx_max(left, 1);

    if (cluster->refresh.timer_set
        && (ngx_msec_int_t) (cluster->refresh.timer.key - ngx_current_msec)
           <= left)
    {
        return;
    }

    ngx_add_timer(&cluster->refresh, (ngx_msec_t) left);
}


static void
ngx_vaani_redis_table_handler(ngx_event_t *ev)
{
    ngx_vaani_redis_cluster_t *cluster = ev->data;

    cluster->asking = 1;
    cluster->again = 0;
    cluster->ntried = 0;
    cluster->last_resort = 0;

    if (cluster->watch.conn.state == NGX_VAANI_REDIS_READY
        && !cluster->rotate)
    {
        ngx_vaani_redis_table_ask(cluster);
        return;
    }

    cluster->rotate = 0;

    ngx_vaani_redis_table_next(cluster);
}


/*
 * Asks the next source.
 */

static void
ngx_vaani_redis_table_next(ngx_vaani_redis_cluster_t *cluster)
{
    ngx_uint_t                n, nnodes;
    ngx_vaani_redis_t        *redis;
    vaani_topology_node_t    *node;
    ngx_vaani_redis_watch_t  *watch;

    redis = cluster->redis;
    watch = &cluster->watch;
    nnodes = cluster->table.nnodes;

    ngx_vaani_redis_watch_close(watch);

    if (cluster->ntried == nnodes + redis->nurls) {

        if (!cluster->last_resort) {

            /* a node in doubt is better than none */

            cluster->last_resort = 1;
            cluster->ntried = 0;

        } else {
            cluster->nrounds++;
            ngx_vaani_redis_table_over(cluster, 0);
            return;
        }
    }

    n = cluster->ntried++;

    if (n < nnodes) {

        /* do not always start with the same one */

        cluster->candidate = (cluster->candidate + 1) % nnodes;
        node = &cluster->table.nodes[cluster->candidate];

        if (ngx_vaani_redis_place(&watch->node, node->host, node->port)
            == NGX_OK)
        {
            ngx_vaani_redis_watch_open(watch, &watch->node.url);
            return;
        }

        ngx_add_timer(&watch->conn.reconnect, 1);
        return;
    }

    ngx_vaani_redis_watch_open(watch, &redis->urls[n - nnodes]);
}


static void
ngx_vaani_redis_table_ask(ngx_vaani_redis_cluster_t *cluster)
{
    ngx_str_t  args[2];

    cluster->failing = 0;

    ngx_str_set(&args[0], "CLUSTER");
    ngx_str_set(&args[1], "INFO");

    if (ngx_vaani_redis_watch_ask(&cluster->watch, args, 2,
                                  ngx_vaani_redis_table_info)
        != NGX_OK)
    {
        goto failed;
    }

    ngx_str_set(&args[1], "SLOTS");

    if (ngx_vaani_redis_watch_ask(&cluster->watch, args, 2,
                                  ngx_vaani_redis_table_slots)
        != NGX_OK)
    {
        goto failed;
    }

    ngx_str_set(&args[1], "NODES");

    if (ngx_vaani_redis_watch_ask(&cluster->watch, args, 2,
                                  ngx_vaani_redis_table_nodes)
        != NGX_OK)
    {
        goto failed;
    }

    return;

failed:

    ngx_vaani_redis_fail(&cluster->watch.conn, 0, "cannot be used (no memory "
                                                  "for a command)");
}


/*
 * The table was fetched, or fetching it failed.
 */

static void
ngx_vaani_redis_table_over(ngx_vaani_redis_cluster_t *cluster,
    ngx_uint_t changed)
{
    cluster->asking = 0;
    cluster->done = ngx_current_msec;

    ngx_vaani_redis_count(cluster->redis, refreshes);

    /* slots may be in migration, or nodes disagree: redirects handle that */

    if (changed
        && ngx_current_msec - cluster->flipped >= NGX_VAANI_REDIS_TABLE_PAUSE)
    {
        cluster->backoff = 0;

    } else {
        cluster->backoff = cluster->backoff
                           ? ngx_min(cluster->backoff * 2,
                                     NGX_VAANI_REDIS_TABLE_PAUSE)
                           : NGX_VAANI_REDIS_MIN_BACKOFF;
    }

    if (changed) {
        cluster->flipped = ngx_current_msec;
    }

    ngx_vaani_redis_cluster_check_guests(cluster);

    /* without events, only a fetch shows that the cluster has recovered */

    ngx_add_timer(&cluster->refresh,
                  (cluster->down ? NGX_VAANI_REDIS_MAX_BACKOFF
                                 : NGX_VAANI_REDIS_TABLE_EVERY)
                  + ngx_random() % NGX_VAANI_REDIS_MAX_BACKOFF);

    if (cluster->again || cluster->nrounds) {
        ngx_vaani_redis_cluster_refresh(cluster, cluster->nrounds != 0);
    }

    /* commands parked until now */

    if (!ngx_queue_empty(&cluster->parked)) {
        ngx_vaani_redis_cluster_wake(cluster, 0);
    }
}


static void
ngx_vaani_redis_table_ready(ngx_vaani_redis_watch_t *watch)
{
    ngx_vaani_redis_table_ask(watch->data);
}


static void
ngx_vaani_redis_table_lost(ngx_vaani_redis_watch_t *watch)
{
    ngx_vaani_redis_cluster_t *cluster = watch->data;

    /* otherwise it is opened when needed */

    if (cluster->asking) {
        ngx_vaani_redis_table_next(cluster);
    }
}


/*
 * A node that reports the cluster as down may itself be cut off from the
 * others.
 */

static void
ngx_vaani_redis_table_info(void *data, ngx_vaani_redis_status_e status,
    redisReply *reply, ngx_uint_t lane)
{
    ngx_vaani_redis_watch_t *watch = data;

    u_char                     *text;
    ngx_vaani_redis_cluster_t  *cluster;

    cluster = watch->data;

    if (status != NGX_VAANI_REDIS_DONE || reply->type != REDIS_REPLY_STRING) {
        return;
    }

    text = (u_char *) reply->str;

    cluster->failing = (ngx_strnstr(text, "cluster_state:fail", reply->len)
                        != NULL);
}


static void
ngx_vaani_redis_table_slots(void *data, ngx_vaani_redis_status_e status,
    redisReply *reply, ngx_uint_t lane)
{
    ngx_vaani_redis_watch_t *watch = data;

    int                         rc;
    char                        host[NGX_VAANI_REDIS_HOST_LEN];
    uint64_t                    skipped;
    ngx_str_t                  *server;
    ngx_uint_t                  changed;
    const char                 *why;
    vaani_topology_t            table;
    ngx_vaani_redis_cluster_t  *cluster;

    cluster = watch->data;

    /* the connection is lost; watch->lost() follows */

    if (status != NGX_VAANI_REDIS_DONE || !cluster->asking) {
        return;
    }

    server = &watch->node.url.server;
    ngx_cpystrn((u_char *) host, server->data,
                ngx_min(server->len + 1, sizeof(host)));

    if (reply->type == REDIS_REPLY_ERROR) {
        rc = VAANI_ERROR;
        why = "error reply, check that it is a cluster node and that the ACL "
              "allows \"+cluster|slots\"";

    } else {
        rc = vaani_topology_read(&table, reply, host, &why);
    }

    if (rc == VAANI_OK) {
        why = ngx_vaani_redis_table_doubt(cluster, &table);

        if (why) {
            vaani_topology_free(&table);
        }
    }

    if (why) {
        if (vaani_pace(&cluster->complained, ngx_current_msec,
                       NGX_VAANI_REDIS_TABLE_COMPLAIN, &skipped))
        {
            ngx_log_error(NGX_LOG_WARN, cluster->log, 0,
                          "vaani: cannot use the cluster slots reported by %V "
                          "(%s); asking another node",
                          &watch->node.url.name, why);
        }

        ngx_vaani_redis_table_next(cluster);
        return;
    }

    changed = ngx_vaani_redis_cluster_apply(cluster, &table);

    vaani_topology_free(&cluster->table);

    cluster->table = table;
    cluster->known = 1;
    cluster->down = cluster->failing;
    cluster->nrounds = 0;

    ngx_vaani_redis_table_over(cluster, changed);
}


/*
 * If the ACL does not allow the question for epochs, they are not used.
 */

static void
ngx_vaani_redis_table_nodes(void *data, ngx_vaani_redis_status_e status,
    redisReply *reply, ngx_uint_t lane)
{
    ngx_vaani_redis_watch_t *watch = data;

    if (status == NGX_VAANI_REDIS_DONE && reply->type == REDIS_REPLY_STRING) {
        ngx_vaani_redis_cluster_epochs(watch->data, (u_char *) reply->str,
                                       reply->len);
    }
}


/*
 * Why a table should not be used if another one can be found.
 */

static const char *
ngx_vaani_redis_table_doubt(ngx_vaani_redis_cluster_t *cluster,
    vaani_topology_t *table)
{
    if (table->nnodes == 0) {
        return "it owns no slots and knows no owner";
    }

    /* one server of the configuration may belong to a new cluster */

    if (cluster->known
        && cluster->ntried <= cluster->table.nnodes
        && ngx_vaani_redis_table_is_foreign(cluster, table))
    {
        return "it belongs to another cluster";
    }

    if (cluster->failing && !cluster->last_resort) {
        return "it reports that the cluster is down";
    }

    return NULL;
}


static ngx_uint_t
ngx_vaani_redis_table_is_foreign(ngx_vaani_redis_cluster_t *cluster,
    vaani_topology_t *table)
{
    unsigned                n, m;
    vaani_topology_node_t  *one, *two;

    for (n = 0; n < table->nnodes; n++) {
        one = &table->nodes[n];

        for (m = 0; m < cluster->table.nnodes; m++) {
            two = &cluster->table.nodes[m];

            if (one->id[0] == '\0' || two->id[0] == '\0'
                || ngx_strcmp(one->id, two->id) == 0)
            {
                return 0;
            }
        }
    }

    return 1;
}
