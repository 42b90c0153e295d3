
/*
 * A Redis Cluster: the node that owns the slot of a key serves it, see
 * https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/
 *
 * A command is sent to the owner of its slot in the table.  A redirect applies
 * to that command only, not to those before and after it.  If no node accepts
 * a command now, the command is parked and sent to the slot's owner later.
 */


#include "ngx_vaani_redis_cluster.h"


/* the retry delay while the cluster is down, ms */

#define NGX_VAANI_REDIS_DOWN_AGAIN      2000


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
static void ngx_vaani_redis_cluster_lost(ngx_vaani_redis_conn_t *conn);
static void ngx_vaani_redis_cluster_show(ngx_vaani_redis_t *redis,
    ngx_vaani_redis_table_t *table);
static ngx_uint_t ngx_vaani_redis_cluster_is_down(
    ngx_vaani_redis_cluster_t *cluster);
static void ngx_vaani_redis_cluster_handler(ngx_event_t *ev);


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

        /* commands wait for the first table, unless it cannot be fetched */

        health->takes = (cluster->nrounds == 0);
        return;
    }

    health->slots = VAANI_SLOTS - cluster->nowned;

    /* then all of its nodes refuse all keys */

    if (cluster->down) {
        health->takes = 0;
    }
}


/*
 * Order: masters without a connection, other masters, guests, and replicas in
 * the table.
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
 * The address may now belong to another server, even of another cluster.
 * Therefore the server at that address is asked for its id.
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

    /* managed services may refuse the command */

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

    /* a proxy has its own id, but knows the ids of its cluster */

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

        /* other nodes may know another owner */

        ngx_vaani_redis_cluster_refresh(cluster, 1);

        /* one command waits for that, not every command */

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

    ngx_vaani_redis_remove_command(conn, cmd);
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

    ngx_vaani_redis_count(conn->redis, redirects);

    /* ASK does not apply to the slot's other keys */

    if (redirect.kind == VAANI_REDIRECT_MOVED) {
        ngx_vaani_redis_cluster_refresh(cluster, 0);
    }

    if (cmd->hops == NGX_VAANI_REDIS_MAX_HOPS) {
        return NGX_DECLINED;
    }

    ngx_vaani_redis_remove_command(conn, cmd);

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

    ngx_vaani_redis_add_command(target, cmd);

    return NGX_OK;
}


/*
 * The node redirects to its own name, which therefore resolves to another
 * server now.
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

        /* connections were opened for the same reason before */

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
 * Parks the commands of a broken connection, because another node may own
 * their slots by now.  It is unknown which of them were executed, but all of
 * them may be sent again.
 */

static void
ngx_vaani_redis_cluster_lost(ngx_vaani_redis_conn_t *conn)
{
    ngx_vaani_redis_cluster_refresh(conn->redis->state, 1);

    ngx_vaani_redis_cluster_park_waiting(conn);
}


/*
 * Whether a command has recently waited without success.
 */

static ngx_uint_t
ngx_vaani_redis_cluster_is_down(ngx_vaani_redis_cluster_t *cluster)
{
    return cluster->waited
           && ngx_current_msec - cluster->waited < NGX_VAANI_REDIS_DOWN_AGAIN;
}


ngx_vaani_redis_status_e
ngx_vaani_redis_cluster_wait(ngx_vaani_redis_t *redis,
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

    /* all nodes were asked for the table, and none returned one */

    if (cluster->nrounds) {
        return NGX_VAANI_REDIS_DOWN;
    }

    /*
     * the table has no owner: one command waits for a new table, not every
     * command
     */

    if (cluster->known) {
        ngx_vaani_redis_cluster_refresh(cluster, 1);

        if (ngx_vaani_redis_cluster_is_down(cluster)) {
            return NGX_VAANI_REDIS_DOWN;
        }
    }

    cmd->deadline = ngx_current_msec + redis->timeout;

    ngx_vaani_redis_cluster_park(cluster, cmd);

    return NGX_VAANI_REDIS_DONE;
}


/*
 * Nodes are freed here, never within a callback of their connections.
 */

static void
ngx_vaani_redis_cluster_handler(ngx_event_t *ev)
{
    ngx_vaani_redis_cluster_t  *cluster;

    cluster = ev->data;

    ngx_vaani_redis_cluster_free_idle(cluster);
    ngx_vaani_redis_cluster_unpark(cluster);
}
