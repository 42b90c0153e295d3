
/*
 * The commands of a connection: limits, order of sending, and end.
 */


#include "ngx_vaani_redis_conn.h"


static ngx_int_t ngx_vaani_redis_add_asking(ngx_vaani_redis_conn_t *conn);
static ngx_int_t ngx_vaani_redis_asked(ngx_vaani_redis_conn_t *conn,
    redisReply *reply);


ngx_vaani_redis_status_e
ngx_vaani_redis_send(ngx_vaani_redis_conn_t *conn, ngx_vaani_redis_cmd_t *cmd)
{
    if (!ngx_vaani_redis_conn_up(conn)) {
        return NGX_VAANI_REDIS_DOWN;
    }

    if (!ngx_vaani_redis_has_room(conn, cmd)) {
        return NGX_VAANI_REDIS_FULL;
    }

    cmd->deadline = ngx_current_msec + conn->redis->timeout;

    ngx_vaani_redis_add_command(conn, cmd);

    return NGX_VAANI_REDIS_DONE;
}


ngx_uint_t
ngx_vaani_redis_conn_up(ngx_vaani_redis_conn_t *conn)
{
    return conn->state != NGX_VAANI_REDIS_CLOSED
           && !conn->down && !conn->exiting
           && (!conn->condemned || conn->demoted);
}


ngx_uint_t
ngx_vaani_redis_has_room(ngx_vaani_redis_conn_t *conn,
    ngx_vaani_redis_cmd_t *cmd)
{
    size_t  size;

    size = cmd->buf.end - cmd->buf.start;

    return conn->ncommands < NGX_VAANI_REDIS_MAX_COMMANDS
           && (conn->ncommands == 0
               || conn->nbytes + size <= NGX_VAANI_REDIS_MAX_BYTES);
}


void
ngx_vaani_redis_add_command(ngx_vaani_redis_conn_t *conn,
    ngx_vaani_redis_cmd_t *cmd)
{
    size_t          size;
    ngx_msec_int_t  left;

    size = cmd->buf.end - cmd->buf.start;

    conn->ncommands++;
    conn->nbytes += size;

    ngx_vaani_redis_stats_commands(conn, 1, size);

    /*
     * One timer for all commands: it is not moved for each command, but checks
     * all deadlines when it fires.
     */

    if (!conn->deadline.timer_set
        || (ngx_msec_int_t) (conn->deadline.timer.key - cmd->deadline) > 0)
    {
        /* a redirected command has less time left */

        left = cmd->deadline - ngx_current_msec;

        ngx_add_timer(&conn->deadline, (ngx_msec_t) ngx_max(left, 1));
    }

    if (conn->watch == NULL) {
        conn->deadline.cancelable = 0;
    }

    if (conn->state == NGX_VAANI_REDIS_READY && !conn->demoted) {
        ngx_vaani_redis_queue(conn, cmd);

    } else {
        ngx_queue_insert_tail(&conn->waiting, &cmd->queue);
    }
}


void
ngx_vaani_redis_remove_command(ngx_vaani_redis_conn_t *conn,
    ngx_vaani_redis_cmd_t *cmd)
{
    conn->ncommands--;
    conn->nbytes -= cmd->buf.end - cmd->buf.start;

    ngx_vaani_redis_stats_commands(conn, -1, cmd->buf.start - cmd->buf.end);

    if (conn->ncommands == 0) {
        conn->deadline.cancelable = 1;
    }
}


/*
 * The write is posted, so that it includes all commands of this iteration of
 * the event loop.
 */

void
ngx_vaani_redis_queue(ngx_vaani_redis_conn_t *conn, ngx_vaani_redis_cmd_t *cmd)
{
    cmd->buf.pos = cmd->buf.start;
    cmd->out.next = NULL;

    /*
     * ASKING holds for the next command only; without it that command is
     * redirected
     */

    if (cmd->asking && ngx_vaani_redis_add_asking(conn) != NGX_OK) {
        cmd->asking = 0;
    }

    *conn->last_out = &cmd->out;
    conn->last_out = &cmd->out.next;

    ngx_queue_insert_tail(&conn->inflight, &cmd->queue);

    /* one reading of the clock per write */

    if (!conn->flush.posted) {
        conn->sent = ngx_vaani_redis_now();
    }

    cmd->sent = conn->sent;

    ngx_post_event(&conn->flush, &ngx_posted_events);
}


ngx_int_t
ngx_vaani_redis_add_setup(ngx_vaani_redis_conn_t *conn, ngx_str_t *args,
    ngx_uint_t nargs,
    ngx_int_t (*check)(ngx_vaani_redis_conn_t *conn, redisReply *reply))
{
    ngx_vaani_redis_cmd_t  *cmd;

    cmd = ngx_vaani_redis_command(args, nargs, NULL, 0, &conn->log);

    if (cmd == NULL) {
        return NGX_ERROR;
    }

    cmd->setup = 1;
    cmd->check = check;
    cmd->deadline = ngx_current_msec + conn->redis->connect_timeout;

    conn->nsetup++;

    ngx_vaani_redis_queue(conn, cmd);

    return NGX_OK;
}


static ngx_int_t
ngx_vaani_redis_add_asking(ngx_vaani_redis_conn_t *conn)
{
    ngx_str_t  asking;

    ngx_str_set(&asking, "ASKING");

    return ngx_vaani_redis_add_setup(conn, &asking, 1, ngx_vaani_redis_asked);
}


static ngx_int_t
ngx_vaani_redis_asked(ngx_vaani_redis_conn_t *conn, redisReply *reply)
{
    return NGX_OK;
}


void
ngx_vaani_redis_finish(ngx_vaani_redis_conn_t *conn,
    ngx_vaani_redis_cmd_t *cmd, ngx_vaani_redis_status_e status,
    redisReply *reply)
{
    ngx_vaani_redis_remove_command(conn, cmd);
    ngx_vaani_redis_end(cmd, status, reply, conn->lane);
}


void
ngx_vaani_redis_finish_all(ngx_vaani_redis_conn_t *conn, ngx_queue_t *queue,
    ngx_vaani_redis_status_e status)
{
    ngx_queue_t            *q;
    ngx_vaani_redis_cmd_t  *cmd;

    while (!ngx_queue_empty(queue)) {
        q = ngx_queue_head(queue);
        cmd = ngx_queue_data(q, ngx_vaani_redis_cmd_t, queue);

        ngx_queue_remove(q);
        ngx_vaani_redis_finish(conn, cmd, status, NULL);
    }
}
