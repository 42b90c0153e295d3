
/*
 * A connection for questions about servers.
 */


#include "ngx_vaani_redis_node.h"


void
ngx_vaani_redis_watch_init(ngx_vaani_redis_watch_t *watch,
    ngx_vaani_redis_t *redis, ngx_log_t *log)
{
    watch->node.redis = redis;
    watch->node.url = redis->url;
    watch->node.conns = &watch->conn;

    ngx_vaani_redis_conn_init(&watch->conn, &watch->node,
                              NGX_VAANI_REDIS_NOBODY, log);

    watch->conn.watch = watch;

    watch->user = &redis->url.user;
    watch->password = &redis->url.password;
}


void
ngx_vaani_redis_watch_open(ngx_vaani_redis_watch_t *watch,
    ngx_vaani_redis_url_t *url)
{
    ngx_vaani_redis_watch_close(watch);

    if (url != &watch->node.url) {
        watch->node.url = *url;
    }

    ngx_vaani_redis_connect(&watch->conn);
}


void
ngx_vaani_redis_watch_close(ngx_vaani_redis_watch_t *watch)
{
    ngx_vaani_redis_shut(&watch->conn);
}


ngx_int_t
ngx_vaani_redis_watch_ask(ngx_vaani_redis_watch_t *watch, ngx_str_t *args,
    ngx_uint_t nargs, ngx_vaani_redis_handler_pt handler)
{
    ngx_vaani_redis_cmd_t   *cmd;
    ngx_vaani_redis_conn_t  *conn;

    conn = &watch->conn;

    if (conn->state != NGX_VAANI_REDIS_READY) {
        return NGX_ERROR;
    }

    cmd = ngx_vaani_redis_command(args, nargs, NULL, 0, &conn->log);

    if (cmd == NULL) {
        return NGX_ERROR;
    }

    cmd->handler = handler;
    cmd->data = watch;
    cmd->once = 1;
    cmd->deadline = ngx_current_msec + conn->redis->timeout;

    ngx_vaani_redis_add_command(conn, cmd);

    return NGX_OK;
}
