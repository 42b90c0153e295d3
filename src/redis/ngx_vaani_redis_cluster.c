
#include "ngx_vaani_redis_cluster.h"


/*
 * A Redis Cluster: the node that owns the slot of a key serves it, see
 * https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/
 *
 * Commands go where the table says.  One that is redirected goes on by itself,
 * whatever became of those before and behind it; one that nobody takes now is
 * parked, and given to whoever owns its slot a moment later.
 */


/* how often a command is redirected or parked */

#define NGX_VAANI_REDIS_MAX_HOPS        8

/* when parked commands are tried again, ms */

#define NGX_VAANI_REDIS_PARKED          50

/* how often one waits for a cluster that is down, and */

#define NGX_VAANI_REDIS_DOWN_HOPS       3

/* when it's tried again to wait for a cluster that is down, ms */

#define NGX_VAANI_REDIS_DOWN_AGAIN      2000

/* how often it's said that there are too many masters, ms */

#define NGX_VAANI_REDIS_CROWDED_EVERY   60000

/* how long a node is kept that isn't in the table, but was redirected to, ms */

#define NGX_VAANI_REDIS_GUEST           10000

/* and how many of them */

#define NGX_VAANI_REDIS_MAX_GUESTS      16


static ngx_int_t ngx_vaani_redis_cluster_init(ngx_vaani_redis_t *redis,
    ngx_cycle_t *cycle);
static void ngx_vaani_redis_cluster_exit(ngx_vaani_redis_t *redis);
static ngx_int_t ngx_vaani_redis_cluster_greet(ngx_vaani_redis_conn_t *conn);
static ngx_int_t ngx_vaani_redis_cluster_check_id(ngx_vaani_redis_conn_t *conn,
    redisReply *reply);
static ngx_int_t ngx_vaani_redis_cluster_check_nodes(
    ngx_vaani_redis_conn_t *conn, redisReply *reply);
static ngx_int_t ngx_vaani_redis_cluster_refused(ngx_vaani_redis_conn_t *conn,
    ngx_vaani_redis_cmd_t *cmd, ngx_vaani_redis_action_e action,
    redisReply *reply);
static ngx_int_t ngx_vaani_redis_cluster_redirect(ngx_vaani_redis_conn_t *conn,
    ngx_vaani_redis_cmd_t *cmd, redisReply *reply);
static void ngx_vaani_redis_cluster_resolve_again(
    ngx_vaani_redis_conn_t *conn);
static ngx_vaani_redis_node_t *ngx_vaani_redis_cluster_guest(
    ngx_vaani_redis_cluster_t *cluster, const char *host, in_port_t port);
static void ngx_vaani_redis_cluster_lost(ngx_vaani_redis_conn_t *conn);
static void ngx_vaani_redis_cluster_show(ngx_vaani_redis_t *redis,
    ngx_vaani_redis_table_t *table);
static ngx_uint_t ngx_vaani_redis_cluster_is_down(
    ngx_vaani_redis_cluster_t *cluster);
static void ngx_vaani_redis_cluster_park_again(
    ngx_vaani_redis_cluster_t *cluster, ngx_vaani_redis_cmd_t *cmd);
static void ngx_vaani_redis_cluster_handler(ngx_event_t *ev);
static void ngx_vaani_redis_cluster_unpark(ngx_vaani_redis_cluster_t *cluster,
    ngx_vaani_redis_cmd_t *cmd, ngx_queue_t *ended);
static void ngx_vaani_redis_cluster_end(ngx_queue_t *queue,
    ngx_vaani_redis_status_e status);
static void ngx_vaani_redis_cluster_free_idle(
    ngx_vaani_redis_cluster_t *cluster);


ngx_vaani_redis_actions_t  ngx_vaani_redis_cluster_actions = {
    ngx_vaani_redis_cluster_init,
    ngx_vaani_redis_cluster_exit,
    NULL,
    ngx_vaani_redis_cluster_greet,
    ngx_vaani_redis_cluster_refused,
    NULL,
    ngx_vaani_redis_cluster_lost,
    NULL,
    ngx_vaani_redis_cluster_show
};


static ngx_int_t
ngx_vaani_redis_cluster_init(ngx_vaani_redis_t *redis, ngx_cycle_t *cycle)
{
    ngx_vaani_redis_cluster_t  *cluster;

    cluster = ngx_pcalloc(cycle->pool, sizeof(ngx_vaani_redis_cluster_t));

    if (cluster == NULL) {
        return NGX_ERROR;
    }

    cluster->redis = redis;
    cluster->log = cycle->log;

    ngx_memset(cluster->owners, 0xff, sizeof(cluster->owners));

    ngx_queue_init(&cluster->parked);

    cluster->timer.handler = ngx_vaani_redis_cluster_handler;
    cluster->timer.data = cluster;
    cluster->timer.log = cycle->log;
    cluster->timer.cancelable = 1;

    redis->state = cluster;

    ngx_vaani_redis_cluster_table_init(cluster);

    return NGX_OK;
}


static void
ngx_vaani_redis_cluster_exit(ngx_vaani_redis_t *redis)
{
    ngx_queue_t                *q;
    ngx_vaani_redis_cluster_t  *cluster;

    cluster = redis->state;

    ngx_vaani_redis_cluster_table_exit(cluster);

    if (cluster->timer.timer_set) {
        ngx_del_timer(&cluster->timer);
    }

    while (!ngx_queue_empty(&cluster->parked)) {
        q = ngx_queue_head(&cluster->parked);
        ngx_queue_remove(q);

        ngx_vaani_redis_free_command(ngx_queue_data(q, ngx_vaani_redis_cmd_t,
                                                    queue));
    }
}


void
ngx_vaani_redis_cluster_health(ngx_vaani_redis_cluster_t *cluster,
    ngx_vaani_redis_health_t *health)
{
    if (!cluster->known) {

        /* commands wait for the first table, unless it can't be had */

        health->takes = (cluster->nrounds == 0);
        return;
    }

    health->slots = VAANI_SLOTS - cluster->nowned;

    /* all of its nodes refuse all keys then */

    if (cluster->down) {
        health->takes = 0;
    }
}


/*
 * Masters without a connection, the other ones, then guests, and replicas that
 * the table has.
 */

static void
ngx_vaani_redis_cluster_show(ngx_vaani_redis_t *redis,
    ngx_vaani_redis_table_t *table)
{
    u_char                      url[NGX_VAANI_REDIS_NAME_LEN];
    unsigned                    m;
    ngx_str_t                   name;
    ngx_uint_t                  n, up;
    vaani_topology_node_t      *replica;
    ngx_vaani_redis_node_t     *node;
    ngx_vaani_redis_cluster_t  *cluster;

    cluster = redis->state;

    for (up = 0; up < 2; up++) {
        for (n = 0; n < redis->nnodes; n++) {
            node = redis->nodes[n];

            if (node && node->listed
                && (ngx_vaani_redis_nready(node) != 0) == up)
            {
                ngx_vaani_redis_show_node(redis, table, &node->url.name,
                                          NGX_VAANI_REDIS_SHOWN_MASTER, node);
            }
        }
    }

    for (n = 0; n < redis->nnodes; n++) {
        node = redis->nodes[n];

        if (node && !node->listed && !node->leaving) {
            ngx_vaani_redis_show_node(redis, table, &node->url.name,
                                      NGX_VAANI_REDIS_SHOWN_UNKNOWN, node);
        }
    }

    for (m = 0; m < cluster->table.nnodes; m++) {
        replica = &cluster->table.nodes[m];

        if (replica->master) {
            continue;
        }

        name.data = url;
        name.len = ngx_vaani_redis_print_place(url, redis->url.tls,
                                               replica->host, replica->port)
                   - url;

        ngx_vaani_redis_show_node(redis, table, &name,
                                  NGX_VAANI_REDIS_SHOWN_REPLICA, NULL);
    }
}


ngx_uint_t
ngx_vaani_redis_cluster_server(ngx_vaani_redis_t *redis, ngx_uint_t slot)
{
    uint16_t                    owner;
    ngx_vaani_redis_cluster_t  *cluster;

    cluster = redis->state;

    owner = cluster->owners[slot];

    return (owner == NGX_VAANI_REDIS_NO_OWNER) ? NGX_VAANI_REDIS_NOBODY
                                               : owner;
}


/*
 * An address may belong to somebody else by now, even of another cluster: who
 * answers there is asked for its name.
 */

static ngx_int_t
ngx_vaani_redis_cluster_greet(ngx_vaani_redis_conn_t *conn)
{
    ngx_str_t  args[2];

    ngx_str_set(&args[0], "CLUSTER");
    ngx_str_set(&args[1], "MYID");

    return ngx_vaani_redis_add_setup(conn, args, 2,
                                     ngx_vaani_redis_cluster_check_id);
}


static ngx_int_t
ngx_vaani_redis_cluster_check_id(ngx_vaani_redis_conn_t *conn,
    redisReply *reply)
{
    ngx_str_t                args[2];
    ngx_vaani_redis_node_t  *node;

    node = conn->node;

    /* managed services may not have it */

    if (reply->type != REDIS_REPLY_STRING || reply->len != sizeof(node->id)) {
        return NGX_OK;
    }

    if (!node->identified) {
        ngx_memcpy(node->id, reply->str, sizeof(node->id));
        node->identified = 1;
        return NGX_OK;
    }

    if (ngx_memcmp(node->id, reply->str, sizeof(node->id)) == 0) {
        return NGX_OK;
    }

    /* a proxy has a name of its own, and knows those of its cluster */

    ngx_str_set(&args[0], "CLUSTER");
    ngx_str_set(&args[1], "NODES");

    return ngx_vaani_redis_add_setup(conn, args, 2,
                                     ngx_vaani_redis_cluster_check_nodes)
           == NGX_OK ? NGX_OK : NGX_DECLINED;
}


static ngx_int_t
ngx_vaani_redis_cluster_check_nodes(ngx_vaani_redis_conn_t *conn,
    redisReply *reply)
{
    u_char                  *p, *last;
    ngx_vaani_redis_node_t  *node;

    node = conn->node;

    if (reply->type == REDIS_REPLY_STRING) {
        last = (u_char *) reply->str + reply->len;

        for (p = (u_char *) reply->str;
             (size_t) (last - p) >= sizeof(node->id);
             p++)
        {
            if (ngx_memcmp(p, node->id, sizeof(node->id)) == 0) {
                return NGX_OK;
            }
        }
    }

    ngx_vaani_redis_fail(conn, 0, "belongs to another cluster");

    return NGX_DONE;
}


static ngx_int_t
ngx_vaani_redis_cluster_refused(ngx_vaani_redis_conn_t *conn,
    ngx_vaani_redis_cmd_t *cmd, ngx_vaani_redis_action_e action,
    redisReply *reply)
{
    ngx_vaani_redis_cluster_t  *cluster;

    cluster = conn->redis->state;

    switch (action) {

    case NGX_VAANI_REDIS_MOVED:
    case NGX_VAANI_REDIS_ASK:
        return ngx_vaani_redis_cluster_redirect(conn, cmd, reply);

    case NGX_VAANI_REDIS_TRY_AGAIN:
        break;

    case NGX_VAANI_REDIS_CLUSTER_DOWN:

        /* others may know of another owner */

        ngx_vaani_redis_cluster_refresh(cluster, 1);

        /* one of them waits for that, not each */

        if (ngx_vaani_redis_cluster_is_down(cluster)) {
            return NGX_DECLINED;
        }

        if (cmd->hops >= NGX_VAANI_REDIS_DOWN_HOPS) {
            cluster->waited = ngx_current_msec;
            return NGX_DECLINED;
        }

        break;

    case NGX_VAANI_REDIS_RECONNECT:
        ngx_vaani_redis_cluster_refresh(cluster, 1);
        break;

    case NGX_VAANI_REDIS_WAIT:
        ngx_vaani_redis_cluster_refresh(cluster, 1);

        /* fall through */

    default:
        return NGX_DECLINED;
    }

    if (action == NGX_VAANI_REDIS_RECONNECT
        || cmd->hops == NGX_VAANI_REDIS_MAX_HOPS)
    {
        return NGX_DECLINED;
    }

    ngx_vaani_redis_give_back(conn, cmd);
    ngx_vaani_redis_cluster_park_again(cluster, cmd);

    return NGX_OK;
}


static ngx_int_t
ngx_vaani_redis_cluster_redirect(ngx_vaani_redis_conn_t *conn,
    ngx_vaani_redis_cmd_t *cmd, redisReply *reply)
{
    const char                 *host;
    vaani_redirect_t            redirect;
    ngx_vaani_redis_node_t     *node;
    ngx_vaani_redis_conn_t     *target;
    ngx_vaani_redis_cluster_t  *cluster;

    cluster = conn->redis->state;

    if (vaani_redirect_read(reply->str, reply->len, &redirect) != VAANI_OK) {
        return NGX_DECLINED;
    }

    ngx_vaani_redis_stats_redirect(conn->redis);

    /* ASK says nothing of the slot's other keys */

    if (redirect.kind == VAANI_REDIRECT_MOVED) {
        ngx_vaani_redis_cluster_refresh(cluster, 0);
    }

    if (cmd->hops == NGX_VAANI_REDIS_MAX_HOPS) {
        return NGX_DECLINED;
    }

    ngx_vaani_redis_give_back(conn, cmd);

    node = NULL;

    if (!redirect.unknown) {
        host = redirect.host[0] ? redirect.host
                                : (char *) conn->node->host;

        node = ngx_vaani_redis_cluster_guest(cluster, host, redirect.port);
    }

    if (node && node == conn->node) {

        ngx_vaani_redis_cluster_resolve_again(conn);
        node = NULL;
    }

    target = node ? &node->conns[cmd->connection] : NULL;

    if (target == NULL || !ngx_vaani_redis_conn_up(target)
        || !ngx_vaani_redis_has_room(target, cmd))
    {
        ngx_vaani_redis_cluster_park_again(cluster, cmd);
        return NGX_OK;
    }

    cmd->hops++;
    cmd->asking = (redirect.kind == VAANI_REDIRECT_ASK);
    node->used = ngx_current_msec;

    ngx_vaani_redis_hand_over(target, cmd);

    return NGX_OK;
}


/*
 * A node sends on to its own name: that stands for another server by now.
 */

static void
ngx_vaani_redis_cluster_resolve_again(ngx_vaani_redis_conn_t *conn)
{
    ngx_uint_t               n;
    ngx_vaani_redis_conn_t  *other;

    for (n = 0; n < conn->redis->nconnections; n++) {
        other = &conn->node->conns[n];

        if (other == conn) {
            other->condemned = 1;
            other->demoted = 1;
            continue;
        }

        /* they were made for such a reason, as this one was */

        if (ngx_current_msec - conn->ready_since
            < NGX_VAANI_REDIS_MAX_BACKOFF)
        {
            continue;
        }

        if (ngx_queue_empty(&other->inflight)) {
            ngx_vaani_redis_move(other);

        } else {
            other->condemned = 1;
            other->demoted = 1;
        }
    }
}


/*
 * The node at a place; one that isn't in the table is connected to: it may be
 * about to get its first slots.
 */

static ngx_vaani_redis_node_t *
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
 * The commands of a connection that broke: somebody else may own their slots by
 * now.  Which one executed them is not known, but they may be sent again.
 */

static void
ngx_vaani_redis_cluster_lost(ngx_vaani_redis_conn_t *conn)
{
    ngx_queue_t                *q, *next;
    ngx_vaani_redis_cmd_t      *cmd;
    ngx_vaani_redis_cluster_t  *cluster;

    cluster = conn->redis->state;

    ngx_vaani_redis_cluster_refresh(cluster, 1);

    for (q = ngx_queue_head(&conn->waiting);
         q != ngx_queue_sentinel(&conn->waiting);
         q = next)
    {
        next = ngx_queue_next(q);
        cmd = ngx_queue_data(q, ngx_vaani_redis_cmd_t, queue);

        if (cmd->hops == NGX_VAANI_REDIS_MAX_HOPS) {
            continue;
        }

        ngx_queue_remove(q);

        ngx_vaani_redis_give_back(conn, cmd);
        ngx_vaani_redis_cluster_park_again(cluster, cmd);
    }
}


/*
 * Whether a command has waited in vain lately.
 */

static ngx_uint_t
ngx_vaani_redis_cluster_is_down(ngx_vaani_redis_cluster_t *cluster)
{
    return cluster->waited
           && ngx_current_msec - cluster->waited < NGX_VAANI_REDIS_DOWN_AGAIN;
}


static void
ngx_vaani_redis_cluster_park_again(ngx_vaani_redis_cluster_t *cluster,
    ngx_vaani_redis_cmd_t *cmd)
{
    cmd->hops++;
    cmd->asking = 0;

    ngx_vaani_redis_cluster_insert(cluster, cmd);
}


ngx_vaani_redis_status_e
ngx_vaani_redis_cluster_park(ngx_vaani_redis_t *redis,
    ngx_vaani_redis_cmd_t *cmd)
{
    size_t                      size;
    ngx_vaani_redis_cluster_t  *cluster;

    cluster = redis->state;

    size = cmd->buf.end - cmd->buf.start;

    if (cluster->nparked >= NGX_VAANI_REDIS_MAX_COMMANDS
        || cluster->nbytes + size > NGX_VAANI_REDIS_MAX_BYTES)
    {
        return NGX_VAANI_REDIS_FULL;
    }

    /* who has asked everybody in vain doesn't wait for more of that */

    if (cluster->nrounds) {
        return NGX_VAANI_REDIS_DOWN;
    }

    /* the table has no owner: one of them waits for another table, not each */

    if (cluster->known) {
        ngx_vaani_redis_cluster_refresh(cluster, 1);

        if (ngx_vaani_redis_cluster_is_down(cluster)) {
            return NGX_VAANI_REDIS_DOWN;
        }
    }

    cmd->deadline = ngx_current_msec + redis->timeout;

    ngx_vaani_redis_cluster_insert(cluster, cmd);

    return NGX_VAANI_REDIS_DONE;
}


void
ngx_vaani_redis_cluster_insert(ngx_vaani_redis_cluster_t *cluster,
    ngx_vaani_redis_cmd_t *cmd)
{
    ngx_queue_insert_tail(&cluster->parked, &cmd->queue);

    cluster->nparked++;
    cluster->nbytes += cmd->buf.end - cmd->buf.start;

    ngx_vaani_redis_cluster_wake(cluster, NGX_VAANI_REDIS_PARKED);

    /* they hold up a worker that exits, as those of a connection do */

    cluster->timer.cancelable = 0;
}


void
ngx_vaani_redis_cluster_wake(ngx_vaani_redis_cluster_t *cluster,
    ngx_msec_t after)
{
    if (after && cluster->timer.timer_set) {
        return;
    }

    ngx_add_timer(&cluster->timer, ngx_max(after, 1));
}


/*
 * Gives parked commands to those who own their slots now, and frees nodes that
 * have left.
 */

static void
ngx_vaani_redis_cluster_handler(ngx_event_t *ev)
{
    ngx_uint_t                  server;
    ngx_queue_t                 parked, down, late, full, *q;
    ngx_vaani_redis_cmd_t      *cmd;
    ngx_vaani_redis_conn_t     *conn;
    ngx_vaani_redis_node_t     *node;
    ngx_vaani_redis_cluster_t  *cluster;

    cluster = ev->data;

    ngx_queue_init(&parked);
    ngx_queue_init(&down);
    ngx_queue_init(&late);
    ngx_queue_init(&full);

    if (!ngx_queue_empty(&cluster->parked)) {
        ngx_queue_add(&parked, &cluster->parked);
        ngx_queue_init(&cluster->parked);
    }

    while (!ngx_queue_empty(&parked)) {
        q = ngx_queue_head(&parked);
        cmd = ngx_queue_data(q, ngx_vaani_redis_cmd_t, queue);

        ngx_queue_remove(q);

        server = cluster->owners[cmd->slot];
        node = (server == NGX_VAANI_REDIS_NO_OWNER)
               ? NULL : cluster->redis->nodes[server];

        if ((ngx_msec_int_t) (cmd->deadline - ngx_current_msec) <= 0) {
            ngx_vaani_redis_cluster_unpark(cluster, cmd, &late);
            continue;
        }

        if (node == NULL || cluster->asking) {

            if (node == NULL && cluster->known && !cluster->asking
                && cmd->hops++ >= NGX_VAANI_REDIS_DOWN_HOPS)
            {
                cluster->waited = ngx_current_msec;

                ngx_vaani_redis_cluster_unpark(cluster, cmd, &down);
                continue;
            }

            if (cluster->nrounds && !cluster->asking) {
                ngx_vaani_redis_cluster_unpark(cluster, cmd, &down);
                continue;
            }

            ngx_queue_insert_tail(&cluster->parked, q);
            continue;
        }

        conn = &node->conns[cmd->connection];

        if (!ngx_vaani_redis_conn_up(conn)) {
            ngx_vaani_redis_cluster_unpark(cluster, cmd, &down);
            continue;
        }

        if (!ngx_vaani_redis_has_room(conn, cmd)) {
            ngx_vaani_redis_cluster_unpark(cluster, cmd, &full);
            continue;
        }

        ngx_vaani_redis_cluster_unpark(cluster, cmd, NULL);

        ngx_vaani_redis_hand_over(conn, cmd);
    }

    ngx_vaani_redis_cluster_free_idle(cluster);

    if (cluster->nparked || cluster->nleaving) {
        ngx_vaani_redis_cluster_wake(cluster, NGX_VAANI_REDIS_PARKED);
    }

    cluster->timer.cancelable = (cluster->nparked == 0);

    ngx_vaani_redis_cluster_end(&down, NGX_VAANI_REDIS_DOWN);
    ngx_vaani_redis_cluster_end(&late, NGX_VAANI_REDIS_TIMEOUT);
    ngx_vaani_redis_cluster_end(&full, NGX_VAANI_REDIS_FULL);
}


/*
 * Commands that were parked in vain: their handlers may do anything.
 */

static void
ngx_vaani_redis_cluster_end(ngx_queue_t *queue,
    ngx_vaani_redis_status_e status)
{
    ngx_queue_t  *q;

    while (!ngx_queue_empty(queue)) {
        q = ngx_queue_head(queue);
        ngx_queue_remove(q);

        ngx_vaani_redis_end(ngx_queue_data(q, ngx_vaani_redis_cmd_t, queue),
                            status, NULL, NGX_VAANI_REDIS_NOBODY);
    }
}


static void
ngx_vaani_redis_cluster_unpark(ngx_vaani_redis_cluster_t *cluster,
    ngx_vaani_redis_cmd_t *cmd, ngx_queue_t *ended)
{
    cluster->nparked--;
    cluster->nbytes -= cmd->buf.end - cmd->buf.start;

    if (ended) {
        ngx_queue_insert_tail(ended, &cmd->queue);
    }
}


/*
 * Never in the middle of what a connection does.
 */

static void
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
 * A node is of no use any more: what waits for it is given to others, what it
 * is at it may finish.
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
            ngx_vaani_redis_cluster_lost(conn);
        }
    }

    ngx_vaani_redis_cluster_wake(cluster, NGX_VAANI_REDIS_PARKED);
}
