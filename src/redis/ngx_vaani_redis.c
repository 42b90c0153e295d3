
/*
 * The interface of the Redis client: starts and stops a worker's clients,
 * finds the connection of a key, and calls scripts.
 */


#include "ngx_vaani_redis_cluster.h"

#include <ngx_sha1.h>


static void ngx_vaani_redis_cleanup(void *data);
static ngx_vaani_redis_status_e ngx_vaani_redis_send_to_owner(
    ngx_vaani_redis_t *redis, ngx_uint_t lane, ngx_str_t *key,
    ngx_vaani_redis_cmd_t *cmd);


/* by ngx_vaani_redis_form_e; a single server needs none */

static ngx_vaani_redis_actions_t  *ngx_vaani_redis_actions[] = {
    NULL,
    &ngx_vaani_redis_list_actions,
    &ngx_vaani_redis_sentinel_actions,
    &ngx_vaani_redis_cluster_actions
};


void
ngx_vaani_redis_set_script(ngx_vaani_redis_t *redis, ngx_str_t *script)
{
    u_char      digest[20];
    ngx_sha1_t  sha1;

    ngx_sha1_init(&sha1);
    ngx_sha1_update(&sha1, script->data, script->len);
    ngx_sha1_final(digest, &sha1);

    ngx_hex_dump(redis->script_sha1, digest, sizeof(digest));

    redis->script = *script;
}


ngx_int_t
ngx_vaani_redis_init_worker(ngx_vaani_redis_t *redis, ngx_cycle_t *cycle)
{
    ngx_uint_t           n;
    ngx_pool_cleanup_t  *cln;

    cln = ngx_pool_cleanup_add(cycle->pool, 0);

    if (cln == NULL) {
        return NGX_ERROR;
    }

    redis->nnodes = 0;
    redis->nodes = ngx_pcalloc(cycle->pool,
                               ngx_vaani_redis_max_servers(redis)
                               * sizeof(ngx_vaani_redis_node_t *));

    if (redis->nodes == NULL) {
        return NGX_ERROR;
    }

    /* without a master process, a worker outlives its configuration */

    cln->handler = ngx_vaani_redis_cleanup;
    cln->data = redis;

    ngx_vaani_redis_stats_init(redis);
    ngx_vaani_redis_show_init(redis, cycle->log);

    redis->actions = ngx_vaani_redis_actions[redis->form];

    if (redis->form != NGX_VAANI_REDIS_CLUSTER) {
        redis->nodes[0] = ngx_vaani_redis_create_node(redis, 0, cycle->log);

        if (redis->nodes[0] == NULL) {
            redis->nodes = NULL;
            return NGX_ERROR;
        }

        redis->nnodes = 1;

        /* its address is not known yet */

        if (redis->actions) {
            redis->nodes[0]->url.name = redis->label;
        }

        ngx_vaani_redis_stats_connections(redis, redis->nconnections);
        ngx_vaani_redis_show(redis);
    }

    if (redis->actions && redis->actions->init(redis, cycle) != NGX_OK) {
        return NGX_ERROR;
    }

    if (redis->form != NGX_VAANI_REDIS_CLUSTER) {
        for (n = 0; n < redis->nconnections; n++) {
            ngx_vaani_redis_connect(&redis->nodes[0]->conns[n]);
        }
    }

    return NGX_OK;
}


static void
ngx_vaani_redis_cleanup(void *data)
{
    ngx_vaani_redis_exit_worker(data);
}


void
ngx_vaani_redis_exit_worker(ngx_vaani_redis_t *redis)
{
    ngx_uint_t  n;

    if (redis->nodes == NULL) {
        ngx_vaani_redis_show_exit(redis);
        return;
    }

    if (redis->actions && redis->state) {
        redis->actions->exit(redis);
    }

    for (n = 0; n < redis->nnodes; n++) {
        if (redis->nodes[n]) {
            ngx_vaani_redis_free_node(redis->nodes[n]);
        }
    }

    ngx_vaani_redis_show_exit(redis);

    redis->nodes = NULL;
    redis->nnodes = 0;
    redis->state = NULL;

    /* the module is unloaded only at exit, so the pointers to it stay valid */

    ngx_vaani_redis_free_blocks();
}


ngx_vaani_redis_cmd_t *
ngx_vaani_redis_eval(ngx_vaani_redis_t *redis, ngx_uint_t lane,
    ngx_str_t *args, ngx_uint_t nargs, ngx_vaani_redis_handler_pt handler,
    void *data, ngx_vaani_redis_status_e *status)
{
    ngx_str_t               evalsha[2];
    ngx_vaani_redis_cmd_t  *cmd;

    if (redis->nodes == NULL
        && ngx_vaani_redis_init_worker(redis, (ngx_cycle_t *) ngx_cycle)
           != NGX_OK)
    {
        *status = NGX_VAANI_REDIS_FAILED;
        return NULL;
    }

    ngx_str_set(&evalsha[0], "EVALSHA");
    evalsha[1].data = redis->script_sha1;
    evalsha[1].len = sizeof(redis->script_sha1);

    cmd = ngx_vaani_redis_command(evalsha, 2, args, nargs, ngx_cycle->log);

    if (cmd == NULL) {
        *status = NGX_VAANI_REDIS_FAILED;
        return NULL;
    }

    cmd->handler = handler;
    cmd->data = data;

    if (redis->form != NGX_VAANI_REDIS_CLUSTER) {
        *status = ngx_vaani_redis_send(&redis->nodes[0]->conns[lane], cmd);

    } else {
        *status = ngx_vaani_redis_send_to_owner(redis, lane, &args[1], cmd);
    }

    if (*status != NGX_VAANI_REDIS_DONE) {
        ngx_vaani_redis_free_command(cmd);
        return NULL;
    }

    return cmd;
}


/*
 * The first key of the script, after the number of keys, selects the
 * connection.
 */

static ngx_vaani_redis_status_e
ngx_vaani_redis_send_to_owner(ngx_vaani_redis_t *redis, ngx_uint_t lane,
    ngx_str_t *key, ngx_vaani_redis_cmd_t *cmd)
{
    ngx_vaani_redis_conn_t  *conn;

    cmd->slot = vaani_slot(key->data, key->len);

    if (lane == NGX_VAANI_REDIS_NOBODY) {
        return ngx_vaani_redis_cluster_wait(redis, cmd);
    }

    cmd->connection = lane % redis->nconnections;

    conn = ngx_vaani_redis_conn(redis, lane);

    return conn ? ngx_vaani_redis_send(conn, cmd) : NGX_VAANI_REDIS_DOWN;
}


ngx_int_t
ngx_vaani_redis_once(ngx_vaani_redis_t *redis, ngx_uint_t lane,
    ngx_uint_t life, ngx_str_t *args, ngx_uint_t nargs,
    ngx_vaani_redis_handler_pt handler, void *data)
{
    ngx_vaani_redis_cmd_t   *cmd;
    ngx_vaani_redis_conn_t  *conn;

    if (life == 0 || ngx_vaani_redis_life(redis, lane) != life) {
        return NGX_ERROR;
    }

    conn = ngx_vaani_redis_conn(redis, lane);

    cmd = ngx_vaani_redis_command(args, nargs, NULL, 0, &conn->log);

    if (cmd == NULL) {
        return NGX_ERROR;
    }

    cmd->handler = handler;
    cmd->data = data;
    cmd->once = 1;

    if (ngx_vaani_redis_send(conn, cmd) != NGX_VAANI_REDIS_DONE) {
        ngx_vaani_redis_free_command(cmd);
        return NGX_ERROR;
    }

    return NGX_OK;
}


void
ngx_vaani_redis_redirect(ngx_vaani_redis_cmd_t *cmd,
    ngx_vaani_redis_handler_pt handler, void *data)
{
    cmd->handler = handler;
    cmd->data = data;
}


ngx_msec_t
ngx_vaani_redis_retry_after(ngx_vaani_redis_t *redis, ngx_str_t *key)
{
    ngx_msec_int_t           left;
    ngx_vaani_redis_conn_t  *conn;

    if (redis->nodes == NULL) {
        return 0;
    }

    conn = ngx_vaani_redis_conn(redis, ngx_vaani_redis_lane(redis, key));

    if (conn == NULL || !conn->reconnect.timer_set) {
        return 0;
    }

    left = conn->reconnect.timer.key - ngx_current_msec;

    return ngx_max(left, 0);
}


void
ngx_vaani_redis_get_health(ngx_vaani_redis_t *redis,
    ngx_vaani_redis_health_t *health)
{
    ngx_uint_t               n, i;
    ngx_vaani_redis_node_t  *node;

    ngx_memzero(health, sizeof(ngx_vaani_redis_health_t));

    health->cluster = (redis->form == NGX_VAANI_REDIS_CLUSTER);

    /* without a master process, after a reload: the next event connects */

    if (redis->nodes == NULL) {
        health->takes = 1;
        return;
    }

    for (n = 0; n < redis->nnodes; n++) {
        node = redis->nodes[n];

        if (node == NULL
            || (redis->form == NGX_VAANI_REDIS_CLUSTER && !node->listed))
        {
            continue;
        }

        health->servers++;

        /* a key uses one connection, so all of them are needed */

        for (i = 0; i < redis->nconnections; i++) {
            if (!ngx_vaani_redis_conn_up(&node->conns[i])) {
                health->down++;
                break;
            }
        }
    }

    health->takes = (health->down < health->servers);

    if (redis->form == NGX_VAANI_REDIS_CLUSTER && redis->state) {
        ngx_vaani_redis_cluster_health(redis->state, health);
    }
}


ngx_uint_t
ngx_vaani_redis_lane(ngx_vaani_redis_t *redis, ngx_str_t *key)
{
    ngx_uint_t  server, connection;

    server = 0;
    connection = 0;

    if (redis->nconnections > 1) {
        connection = ngx_crc32_short(key->data, key->len)
                     % redis->nconnections;
    }

    if (redis->form == NGX_VAANI_REDIS_CLUSTER) {
        server = ngx_vaani_redis_server(redis, vaani_slot(key->data,
                                                          key->len));

        if (server == NGX_VAANI_REDIS_NOBODY) {
            return server;
        }
    }

    return server * redis->nconnections + connection;
}


ngx_uint_t
ngx_vaani_redis_life(ngx_vaani_redis_t *redis, ngx_uint_t lane)
{
    ngx_vaani_redis_conn_t  *conn;

    if (redis->nodes == NULL) {
        return 0;
    }

    conn = ngx_vaani_redis_conn(redis, lane);

    if (conn == NULL
        || conn->state != NGX_VAANI_REDIS_READY
        || conn->condemned || conn->exiting)
    {
        return 0;
    }

    return conn->life;
}


ngx_uint_t
ngx_vaani_redis_nservers(ngx_vaani_redis_t *redis)
{
    return redis->nodes ? redis->nnodes : 0;
}


ngx_uint_t
ngx_vaani_redis_max_servers(ngx_vaani_redis_t *redis)
{
    return (redis->form == NGX_VAANI_REDIS_CLUSTER)
           ? NGX_VAANI_REDIS_MAX_SERVERS : 1;
}


ngx_uint_t
ngx_vaani_redis_server(ngx_vaani_redis_t *redis, ngx_uint_t slot)
{
    if (redis->form != NGX_VAANI_REDIS_CLUSTER) {
        return 0;
    }

    return redis->nodes ? ngx_vaani_redis_cluster_server(redis, slot)
                        : NGX_VAANI_REDIS_NOBODY;
}


const u_char *
ngx_vaani_redis_scope(ngx_vaani_redis_t *redis, ngx_uint_t server)
{
    ngx_vaani_redis_node_t  *node;

    if (redis->form != NGX_VAANI_REDIS_CLUSTER || server >= redis->nnodes) {
        return NULL;
    }

    node = redis->nodes[server];

    return (node && node->listed && node->identified) ? node->scope : NULL;
}


size_t
ngx_vaani_redis_tag(ngx_vaani_redis_t *redis, ngx_uint_t server, u_char *dst)
{
    ngx_vaani_redis_node_t  *node;

    if (redis->form != NGX_VAANI_REDIS_CLUSTER || server >= redis->nnodes) {
        return 0;
    }

    node = redis->nodes[server];

    if (node == NULL || !node->listed) {
        return 0;
    }

    ngx_memcpy(dst, node->tag, node->tag_len);

    return node->tag_len;
}


ngx_msec_t
ngx_vaani_redis_settled(ngx_vaani_redis_t *redis)
{
    ngx_vaani_redis_cluster_t  *cluster;

    if (redis->form != NGX_VAANI_REDIS_CLUSTER || redis->state == NULL) {
        return NGX_MAX_INT32_VALUE;
    }

    cluster = redis->state;

    return ngx_current_msec - cluster->changed;
}
