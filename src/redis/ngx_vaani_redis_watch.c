
#include "ngx_vaani_redis_conn.h"


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


/*
 * It goes from place to place, each of which may fail in its own way, again and
 * again.
 */

ngx_uint_t
ngx_vaani_redis_watch_is_news(ngx_vaani_redis_watch_t *watch,
    uint32_t failure)
{
    ngx_uint_t  n, oldest;

    oldest = 0;

    for (n = 0; n < NGX_VAANI_REDIS_NEWS; n++) {

        if (watch->news[n].time && watch->news[n].failure == failure) {
            oldest = n;
            break;
        }

        if (watch->news[n].time == 0
            || (watch->news[oldest].time
                && (ngx_msec_int_t) (watch->news[n].time
                                     - watch->news[oldest].time) < 0))
        {
            oldest = n;
        }
    }

    if (n < NGX_VAANI_REDIS_NEWS
        && ngx_current_msec - watch->news[n].time < NGX_VAANI_REDIS_NEWS_EVERY)
    {
        return 0;
    }

    watch->news[oldest].failure = failure;
    watch->news[oldest].time = ngx_current_msec;
    watch->told = 1;

    return 1;
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

    ngx_vaani_redis_hand_over(conn, cmd);

    return NGX_OK;
}
