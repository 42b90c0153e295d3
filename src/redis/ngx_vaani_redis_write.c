
/*
 * Commands on their way to a connection: what it takes, and the one write that
 * a turn of the event loop makes.
 */


#include "ngx_vaani_redis_conn.h"


static ngx_int_t ngx_vaani_redis_handle_write(ngx_vaani_redis_conn_t *conn);


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

    ngx_vaani_redis_hand_over(conn, cmd);

    return NGX_VAANI_REDIS_DONE;
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
ngx_vaani_redis_hand_over(ngx_vaani_redis_conn_t *conn,
    ngx_vaani_redis_cmd_t *cmd)
{
    size_t          size;
    ngx_msec_int_t  left;

    size = cmd->buf.end - cmd->buf.start;

    conn->ncommands++;
    conn->nbytes += size;

    ngx_vaani_redis_stats_commands(conn, 1, size);

    /*
     * One timer for all: it isn't moved as commands come and go, but looks
     * for what is due when it fires.
     */

    if (!conn->deadline.timer_set
        || (ngx_msec_int_t) (conn->deadline.timer.key - cmd->deadline) > 0)
    {
        /* one that was redirected has less time left */

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
ngx_vaani_redis_give_back(ngx_vaani_redis_conn_t *conn,
    ngx_vaani_redis_cmd_t *cmd)
{
    conn->ncommands--;
    conn->nbytes -= cmd->buf.end - cmd->buf.start;

    ngx_vaani_redis_stats_commands(conn, -1, cmd->buf.start - cmd->buf.end);

    if (conn->ncommands == 0) {
        conn->deadline.cancelable = 1;
    }
}


ngx_uint_t
ngx_vaani_redis_conn_up(ngx_vaani_redis_conn_t *conn)
{
    return conn->state != NGX_VAANI_REDIS_CLOSED
           && !conn->down && !conn->exiting
           && (!conn->condemned || conn->demoted);
}


/*
 * The write is posted, so that it takes all that this turn of the event loop
 * brings.
 */

void
ngx_vaani_redis_queue(ngx_vaani_redis_conn_t *conn, ngx_vaani_redis_cmd_t *cmd)
{
    cmd->buf.pos = cmd->buf.start;
    cmd->out.next = NULL;

    /* it holds for the next command only, and without it, that is redirected */

    if (cmd->asking && ngx_vaani_redis_add_asking(conn) != NGX_OK) {
        cmd->asking = 0;
    }

    *conn->last_out = &cmd->out;
    conn->last_out = &cmd->out.next;

    ngx_queue_insert_tail(&conn->inflight, &cmd->queue);

    /* the clock is read once for a write */

    if (!conn->flush.posted) {
        conn->sent = ngx_vaani_redis_now();
    }

    cmd->sent = conn->sent;

    ngx_post_event(&conn->flush, &ngx_posted_events);
}


void
ngx_vaani_redis_flush_handler(ngx_event_t *ev)
{
    ngx_vaani_redis_flush(ev->data);
}


void
ngx_vaani_redis_flush(ngx_vaani_redis_conn_t *conn)
{
    ngx_chain_t       *out;
    ngx_connection_t  *c;

    c = conn->peer.connection;

#if (NGX_SSL)

    /* a read that has to write something of TLS first goes on first */

    if (c->ssl && c->ssl->saved_write_handler) {
        return;
    }

#endif

    /* the rest of a command may be in a record that couldn't be written */

    if (conn->out || c->buffered) {
        ngx_set_socket_errno(0);

        out = c->send_chain(c, conn->out, 0);

#if (NGX_SSL)
        if (out == NGX_CHAIN_ERROR && c->ssl) {
            ngx_vaani_redis_ssl_lost(conn, ngx_socket_errno,
                                     "can't be written to");
            return;
        }
#endif

        if (out == NGX_CHAIN_ERROR) {
            ngx_vaani_redis_lost(conn, ngx_socket_errno, "can't be written to");
            return;
        }

        conn->out = out;

        if (out == NULL) {
            conn->last_out = &conn->out;
        }
    }

    if (ngx_vaani_redis_handle_write(conn) != NGX_OK) {
        ngx_vaani_redis_lost(conn, 0, "can't be waited for");
    }
}


/*
 * Each time Redis reads from a unix socket, the kernel reports to epoll that
 * the socket is writable: nginx would wake up between a command and its reply,
 * and sleep again.  The socket is watched only while a write is incomplete.
 */

static ngx_int_t
ngx_vaani_redis_handle_write(ngx_vaani_redis_conn_t *conn)
{
    ngx_event_t  *wev;

    wev = conn->peer.connection->write;

    if (conn->addr.sockaddr->sa_family == AF_UNIX
        && (ngx_event_flags & NGX_USE_EPOLL_EVENT)
        && conn->out == NULL)
    {
        return wev->active ? ngx_del_event(wev, NGX_WRITE_EVENT,
                                           NGX_CLEAR_EVENT)
                           : NGX_OK;
    }

    return ngx_handle_write_event(wev, 0);
}
