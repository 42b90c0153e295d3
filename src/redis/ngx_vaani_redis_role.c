
/*
 * A node that must be the master among several servers; other servers name it.
 */


#include "ngx_vaani_redis_node.h"
#include "vaani_master.h"


static void ngx_vaani_redis_role_answer(void *data,
    ngx_vaani_redis_status_e status, redisReply *reply, ngx_uint_t lane);
static ngx_int_t ngx_vaani_redis_check_role(ngx_vaani_redis_conn_t *conn,
    redisReply *reply);
static ngx_int_t ngx_vaani_redis_judge_role(ngx_vaani_redis_conn_t *conn,
    redisReply *reply);


/* the ACL may refuse one of the two questions */

static ngx_str_t  ngx_vaani_redis_role_args[] = {
    ngx_string("ROLE")
};


static ngx_str_t  ngx_vaani_redis_info_args[] = {
    ngx_string("INFO"),
    ngx_string("replication")
};


void
ngx_vaani_redis_ask_role(ngx_vaani_redis_watch_t *watch)
{
    watch->informed = 0;

    if (ngx_vaani_redis_watch_ask(watch, ngx_vaani_redis_role_args, 1,
                                  ngx_vaani_redis_role_answer)
        != NGX_OK)
    {
        ngx_vaani_redis_fail(&watch->conn, 0, "cannot be used (no memory for "
                                              "a command)");
    }
}


static void
ngx_vaani_redis_role_answer(void *data, ngx_vaani_redis_status_e status,
    redisReply *reply, ngx_uint_t lane)
{
    ngx_vaani_redis_watch_t *watch = data;

    /* otherwise the connection is lost; watch->lost() follows */

    if (status != NGX_VAANI_REDIS_DONE) {
        return;
    }

    if (reply->type != REDIS_REPLY_ERROR || watch->informed) {
        watch->role(watch, reply);
        return;
    }

    watch->informed = 1;

    if (ngx_vaani_redis_watch_ask(watch, ngx_vaani_redis_info_args, 2,
                                  ngx_vaani_redis_role_answer)
        != NGX_OK)
    {
        ngx_vaani_redis_fail(&watch->conn, 0, "cannot be used (no memory for "
                                              "a command)");
    }
}


ngx_int_t
ngx_vaani_redis_greet_master(ngx_vaani_redis_conn_t *conn)
{
    return ngx_vaani_redis_add_setup(conn, ngx_vaani_redis_role_args, 1,
                                     ngx_vaani_redis_check_role);
}


static ngx_int_t
ngx_vaani_redis_check_role(ngx_vaani_redis_conn_t *conn, redisReply *reply)
{
    if (reply->type != REDIS_REPLY_ERROR) {
        return ngx_vaani_redis_judge_role(conn, reply);
    }

    return ngx_vaani_redis_add_setup(conn, ngx_vaani_redis_info_args, 2,
                                     ngx_vaani_redis_judge_role)
           == NGX_OK ? NGX_OK : NGX_DECLINED;
}


static ngx_int_t
ngx_vaani_redis_judge_role(ngx_vaani_redis_conn_t *conn, redisReply *reply)
{
    vaani_role_t  role;

    if (reply->type == REDIS_REPLY_ERROR) {
        return NGX_DECLINED;
    }

    if (vaani_role_read(reply, &role) != VAANI_OK) {
        ngx_memzero(&role, sizeof(vaani_role_t));
        role.kind = VAANI_ROLE_SENTINEL;
    }

    if (role.kind == VAANI_ROLE_MASTER) {
        conn->node->wrong = 0;
        conn->node->hinted = 0;
        return NGX_OK;
    }

    if (role.kind == VAANI_ROLE_REPLICA
        && conn->redis->actions->hint
        && !conn->node->hinted)
    {
        /*
         * every second time, because the named master may be wrong or not
         * ready
         */

        conn->node->hinted = 1;

        ngx_vaani_redis_shut(conn);
        conn->state = NGX_VAANI_REDIS_LOCATING;

        conn->redis->actions->hint(conn->redis, role.host, role.port);

        return NGX_DONE;
    }

    conn->node->wrong = 1;
    conn->node->hinted = 0;

    ngx_vaani_redis_fail(conn, 0, "is not a master");

    return NGX_DONE;
}


/*
 * A demoted master: commands that it refuses wait for the new one.
 */

ngx_int_t
ngx_vaani_redis_refused_by_replica(ngx_vaani_redis_conn_t *conn,
    ngx_vaani_redis_cmd_t *cmd, ngx_vaani_redis_action_e action,
    redisReply *reply)
{
    if (action != NGX_VAANI_REDIS_RECONNECT
        || ngx_strncmp(reply->str, "NOAUTH", sizeof("NOAUTH") - 1) == 0
        || ngx_strncmp(reply->str, "WRONGPASS", sizeof("WRONGPASS") - 1) == 0
        || ++cmd->strikes >= NGX_VAANI_REDIS_MAX_STRIKES)
    {
        return NGX_DECLINED;
    }

    conn->condemned = 1;
    conn->demoted = 1;

    ngx_queue_insert_tail(&conn->waiting, &cmd->queue);

    return NGX_OK;
}


void
ngx_vaani_redis_found_master(ngx_vaani_redis_t *redis,
    ngx_vaani_redis_url_t *url, const char *host, in_port_t port)
{
    u_char                   was[sizeof(((ngx_vaani_redis_node_t *) 0)->name)];
    size_t                   len;
    ngx_uint_t               n, same, moved, level;
    ngx_vaani_redis_node_t  *node;
    ngx_vaani_redis_conn_t  *conn;

    node = redis->nodes[0];

    same = url ? (node->url.name.len == url->name.len
                  && ngx_memcmp(node->url.name.data, url->name.data,
                                url->name.len)
                     == 0)
               : ngx_vaani_redis_is_at(node, host, port);

    if (!same || !node->listed) {
        len = ngx_min(node->url.name.len, sizeof(was));
        ngx_memcpy(was, node->url.name.data, len);

        if (url) {
            node->url = *url;

        } else if (ngx_vaani_redis_place(node, host, port) != NGX_OK) {
            return;
        }

        /* not logged if no connection to the previous one existed */

        moved = 1;

        for (n = 0; n < redis->nconnections; n++) {
            moved &= node->conns[n].moved;
        }

        level = moved ? NGX_LOG_INFO : NGX_LOG_NOTICE;

        if (node->listed) {
            ngx_log_error(level, &node->conns[0].log, 0,
                          "vaani: %V is now the master, previously %*s",
                          &node->url.name, len, was);

            if (!moved) {
                ngx_vaani_redis_count(redis, failovers);
            }
        }

        node->listed = 1;
        same = 0;

        ngx_vaani_redis_show(redis);
    }

    for (n = 0; n < redis->nconnections; n++) {
        conn = &node->conns[n];

        if (!same) {
            ngx_vaani_redis_move(conn);

        } else if (conn->state == NGX_VAANI_REDIS_LOCATING
                   && !conn->reconnect.timer_set)
        {
            ngx_vaani_redis_resolve(conn);
        }
    }
}


void
ngx_vaani_redis_no_master(ngx_vaani_redis_t *redis, char *why)
{
    ngx_uint_t               n;
    ngx_vaani_redis_conn_t  *conn;

    for (n = 0; n < redis->nconnections; n++) {
        conn = &redis->nodes[0]->conns[n];

        if (conn->state == NGX_VAANI_REDIS_LOCATING) {
            ngx_vaani_redis_fail(conn, 0, why);
        }
    }
}
