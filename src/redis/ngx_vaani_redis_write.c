
/*
 * Writes to a connection, once per iteration of the event loop.
 */


#include "ngx_vaani_redis_conn.h"


static ngx_int_t ngx_vaani_redis_handle_write(ngx_vaani_redis_conn_t *conn);


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

    /* a TLS read that has to write first takes precedence */

    if (c->ssl && c->ssl->saved_write_handler) {
        return;
    }

#endif

    /* a record that could not be written may contain the rest of a command */

    if (conn->out || c->buffered) {
        ngx_set_socket_errno(0);

        out = c->send_chain(c, conn->out, 0);

        if (out == NGX_CHAIN_ERROR) {
            ngx_vaani_redis_broken(conn, ngx_socket_errno,
                                   "cannot be written to");
            return;
        }

        conn->out = out;

        if (out == NULL) {
            conn->last_out = &conn->out;
        }
    }

    if (ngx_vaani_redis_handle_write(conn) != NGX_OK) {
        ngx_vaani_redis_lost(conn, 0, "cannot be polled");
    }
}


/*
 * Each time Redis reads from a unix socket, the kernel reports to epoll that
 * the socket is writable: nginx would wake up between a command and its reply
 * without need.  The socket is watched only while a write is incomplete.
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
