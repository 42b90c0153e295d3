
#include "ngx_vaani_redis_conn.h"

#include <ngx_sha1.h>


static void ngx_vaani_redis_cleanup(void *data);


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

    redis->conns = ngx_palloc(cycle->pool, redis->nconnections
                                           * sizeof(ngx_vaani_redis_conn_t));

    if (redis->conns == NULL) {
        return NGX_ERROR;
    }

    /* without a master, a worker outlives its configuration */

    cln->handler = ngx_vaani_redis_cleanup;
    cln->data = redis;

    ngx_vaani_redis_stats_init(redis);

    for (n = 0; n < redis->nconnections; n++) {
        ngx_vaani_redis_conn_init(&redis->conns[n], redis, n, cycle->log);
        ngx_vaani_redis_connect(&redis->conns[n]);
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

    if (redis->conns == NULL) {
        return;
    }

    for (n = 0; n < redis->nconnections; n++) {
        ngx_vaani_redis_conn_exit(&redis->conns[n]);
    }

    redis->conns = NULL;

    /* nginx unloads the module, and the only pointers to them, at its exit */

    ngx_vaani_redis_free_blocks();
}


ngx_vaani_redis_cmd_t *
ngx_vaani_redis_eval(ngx_vaani_redis_t *redis, ngx_uint_t lane,
    ngx_str_t *args, ngx_uint_t nargs, ngx_vaani_redis_handler_pt handler,
    void *data, ngx_vaani_redis_status_e *status)
{
    ngx_str_t                evalsha[2];
    ngx_vaani_redis_cmd_t   *cmd;
    ngx_vaani_redis_conn_t  *conn;

    if (redis->conns == NULL
        && ngx_vaani_redis_init_worker(redis, (ngx_cycle_t *) ngx_cycle)
           != NGX_OK)
    {
        *status = NGX_VAANI_REDIS_FAILED;
        return NULL;
    }

    conn = &redis->conns[lane];

    ngx_str_set(&evalsha[0], "EVALSHA");
    evalsha[1].data = redis->script_sha1;
    evalsha[1].len = sizeof(redis->script_sha1);

    cmd = ngx_vaani_redis_command(evalsha, 2, args, nargs, &conn->log);

    if (cmd == NULL) {
        *status = NGX_VAANI_REDIS_FAILED;
        return NULL;
    }

    cmd->handler = handler;
    cmd->data = data;

    *status = ngx_vaani_redis_send(conn, cmd);

    if (*status != NGX_VAANI_REDIS_DONE) {
        ngx_vaani_redis_free_command(cmd);
        return NULL;
    }

    return cmd;
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

    conn = &redis->conns[lane];

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
ngx_vaani_redis_detach(ngx_vaani_redis_cmd_t *cmd)
{
    cmd->handler = NULL;
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

    if (redis->conns == NULL) {
        return 0;
    }

    conn = &redis->conns[ngx_vaani_redis_lane(redis, key)];

    if (!conn->reconnect.timer_set) {
        return 0;
    }

    left = conn->reconnect.timer.key - ngx_current_msec;

    return ngx_max(left, 0);
}


ngx_uint_t
ngx_vaani_redis_up(ngx_vaani_redis_t *redis)
{
    ngx_uint_t  n;

    /* without a master, after a reload: the next event connects */

    if (redis->conns == NULL) {
        return 1;
    }

    /* a key has one connection: all of them are needed */

    for (n = 0; n < redis->nconnections; n++) {
        if (!ngx_vaani_redis_conn_up(&redis->conns[n])) {
            return 0;
        }
    }

    return 1;
}


ngx_uint_t
ngx_vaani_redis_lane(ngx_vaani_redis_t *redis, ngx_str_t *key)
{
    if (redis->nconnections <= 1) {
        return 0;
    }

    return ngx_crc32_short(key->data, key->len) % redis->nconnections;
}


ngx_uint_t
ngx_vaani_redis_life(ngx_vaani_redis_t *redis, ngx_uint_t lane)
{
    ngx_vaani_redis_conn_t  *conn;

    if (redis->conns == NULL) {
        return 0;
    }

    conn = &redis->conns[lane];

    if (conn->state != NGX_VAANI_REDIS_READY
        || !ngx_vaani_redis_conn_up(conn))
    {
        return 0;
    }

    return conn->ncloses + conn->nloads + 1;
}


ngx_uint_t
ngx_vaani_redis_nservers(ngx_vaani_redis_t *redis)
{
    return 1;
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
    return 0;
}


const u_char *
ngx_vaani_redis_scope(ngx_vaani_redis_t *redis, ngx_uint_t server)
{
    return NULL;
}


size_t
ngx_vaani_redis_tag(ngx_vaani_redis_t *redis, ngx_uint_t server, u_char *dst)
{
    return 0;
}


ngx_msec_t
ngx_vaani_redis_settled(ngx_vaani_redis_t *redis)
{
    return NGX_MAX_INT32_VALUE;
}
