
/*
 * Sets up a connection: AUTH, SELECT, SCRIPT LOAD.
 */


#include "ngx_vaani_redis_node.h"


static ngx_int_t ngx_vaani_redis_loaded(ngx_vaani_redis_conn_t *conn,
    redisReply *reply);
static void ngx_vaani_redis_ready(ngx_vaani_redis_conn_t *conn);


static ngx_uint_t  ngx_vaani_redis_lives;


void
ngx_vaani_redis_set_up(ngx_vaani_redis_conn_t *conn)
{
    ngx_str_t               auth[3], select[2], *arg, *user, *password;
    ngx_vaani_redis_url_t  *url;
    u_char                  db[NGX_INT_T_LEN];

    conn->state = NGX_VAANI_REDIS_SETTING_UP;
    conn->nsetup = 0;

    url = &conn->redis->url;

    user = conn->watch ? conn->watch->user : &url->user;
    password = conn->watch ? conn->watch->password : &url->password;

    if (password->len) {
        arg = auth;
        ngx_str_set(arg, "AUTH");
        arg++;

        if (user->len) {
            *arg++ = *user;
        }

        *arg++ = *password;

        if (ngx_vaani_redis_add_setup(conn, auth, arg - auth, NULL) != NGX_OK) {
            goto failed;
        }
    }

    if (conn->watch) {

        if (conn->nsetup == 0) {
            ngx_vaani_redis_ready(conn);
            return;
        }

        ngx_vaani_redis_flush(conn);
        return;
    }

    if (url->db) {
        ngx_str_set(&select[0], "SELECT");
        select[1].data = db;
        select[1].len = ngx_sprintf(db, "%ui", url->db) - db;

        if (ngx_vaani_redis_add_setup(conn, select, 2, NULL) != NGX_OK) {
            goto failed;
        }
    }

    if (conn->redis->actions && conn->redis->actions->greet
        && conn->redis->actions->greet(conn) != NGX_OK)
    {
        goto failed;
    }

    if (ngx_vaani_redis_load_script(conn) != NGX_OK) {
        goto failed;
    }

    ngx_vaani_redis_flush(conn);

    return;

failed:

    ngx_vaani_redis_fail(conn, 0, "cannot be used (no memory for a command)");
}


ngx_int_t
ngx_vaani_redis_load_script(ngx_vaani_redis_conn_t *conn)
{
    ngx_str_t  args[3];

    ngx_str_set(&args[0], "SCRIPT");
    ngx_str_set(&args[1], "LOAD");
    args[2] = conn->redis->script;

    if (ngx_vaani_redis_add_setup(conn, args, 3, ngx_vaani_redis_loaded)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    conn->loading = 1;

    return NGX_OK;
}


static ngx_int_t
ngx_vaani_redis_loaded(ngx_vaani_redis_conn_t *conn, redisReply *reply)
{
    conn->loading = 0;

    return NGX_DECLINED;
}


void
ngx_vaani_redis_setup_reply(ngx_vaani_redis_conn_t *conn,
    ngx_vaani_redis_cmd_t *cmd, redisReply *reply)
{
    ngx_int_t                       rc;
    const ngx_vaani_redis_error_t  *error;

    conn->nsetup--;

    rc = cmd->check ? cmd->check(conn, reply) : NGX_DECLINED;

    ngx_vaani_redis_free_command(cmd);

    if (rc == NGX_DONE) {
        return;
    }

    if (reply->type == REDIS_REPLY_ERROR && rc != NGX_OK) {
        error = ngx_vaani_redis_error((u_char *) reply->str, reply->len);

        /* in READY it was a SCRIPT LOAD: later commands report the error */

        if (conn->state != NGX_VAANI_REDIS_READY) {
            ngx_vaani_redis_log_error(conn, error, reply);
            ngx_vaani_redis_fail(conn, 0, "rejected the connection setup");
        }

        return;
    }

    if (conn->nsetup == 0 && conn->state == NGX_VAANI_REDIS_SETTING_UP) {
        ngx_vaani_redis_ready(conn);
    }
}


static void
ngx_vaani_redis_ready(ngx_vaani_redis_conn_t *conn)
{
    ngx_uint_t              level;
    ngx_queue_t            *q;
    ngx_vaani_redis_cmd_t  *cmd;

    /* a replica can be connected to as well */

    level = (conn->watch ? conn->watch->told
                         : (conn->down && !conn->refusing))
            ? NGX_LOG_NOTICE : NGX_LOG_INFO;

    ngx_log_error(level, &conn->log, 0, "vaani: connected to %V",
                  &conn->node->url.name);

    ngx_del_timer(&conn->setup);

    conn->state = NGX_VAANI_REDIS_READY;
    conn->down = 0;
    conn->demoted = 0;
    conn->moved = 0;
    conn->nrefused = 0;
    conn->life = ngx_vaani_redis_new_life();
    conn->ready_since = ngx_current_msec;

    ngx_vaani_redis_stats_ready(conn, 1);
    ngx_vaani_redis_show(conn->redis);

    while (!ngx_queue_empty(&conn->waiting)) {
        q = ngx_queue_head(&conn->waiting);
        cmd = ngx_queue_data(q, ngx_vaani_redis_cmd_t, queue);

        ngx_queue_remove(q);
        ngx_vaani_redis_queue(conn, cmd);
    }

    if (conn->watch) {
        conn->watch->told = 0;
        conn->watch->ready(conn->watch);

    } else if (conn->redis->actions && conn->redis->actions->ready) {
        conn->redis->actions->ready(conn);
    }
}


ngx_uint_t
ngx_vaani_redis_new_life(void)
{
    return ++ngx_vaani_redis_lives;
}
