
/*
 * The life of a connection: the steps until it is set up, and reading.
 */


#include "ngx_vaani_redis_node.h"


#define NGX_VAANI_REDIS_BUFFER_SIZE     16384

/* the idle time before the first keepalive probe, and between probes, s */

#define NGX_VAANI_REDIS_KEEPALIVE       10

/* unanswered probes before the connection is closed */

#define NGX_VAANI_REDIS_PROBES          3


static void ngx_vaani_redis_connect_addr(ngx_vaani_redis_conn_t *conn,
    ngx_err_t err, char *what);
static void ngx_vaani_redis_read_handler(ngx_event_t *rev);
static void ngx_vaani_redis_leave(ngx_vaani_redis_conn_t *conn);
static void ngx_vaani_redis_write_handler(ngx_event_t *wev);
static void ngx_vaani_redis_connect_failed(ngx_vaani_redis_conn_t *conn,
    ngx_err_t err);
static void ngx_vaani_redis_test_connect(ngx_vaani_redis_conn_t *conn);
static void ngx_vaani_redis_connected(ngx_vaani_redis_conn_t *conn);
static ngx_int_t ngx_vaani_redis_keepalive(ngx_vaani_redis_conn_t *conn);
#if (NGX_SSL)
static void ngx_vaani_redis_handshaked(ngx_vaani_redis_conn_t *conn,
    ngx_err_t err, char *what);
#endif
static void ngx_vaani_redis_setup_timeout(ngx_event_t *ev);
static void ngx_vaani_redis_reconnect_handler(ngx_event_t *ev);


void
ngx_vaani_redis_conn_init(ngx_vaani_redis_conn_t *conn,
    ngx_vaani_redis_node_t *node, ngx_uint_t lane, ngx_log_t *log)
{
    ngx_memzero(conn, sizeof(ngx_vaani_redis_conn_t));

    conn->redis = node->redis;
    conn->node = node;
    conn->lane = lane;
    conn->log = *log;
    conn->peer_log = *log;

    /* errors are logged here: once, and with their consequence */

    if (!(log->log_level & NGX_LOG_DEBUG_ALL)) {
        conn->peer_log.log_level = NGX_LOG_EMERG;
    }

    ngx_queue_init(&conn->waiting);
    ngx_queue_init(&conn->inflight);
    ngx_queue_init(&conn->lapsed);

    conn->last_out = &conn->out;

    conn->resolve_handler = ngx_vaani_redis_connect_addr;
#if (NGX_SSL)
    conn->handshake_handler = ngx_vaani_redis_handshaked;
#endif

    conn->flush.handler = ngx_vaani_redis_flush_handler;
    conn->flush.data = conn;
    conn->flush.log = &conn->log;

    conn->deadline.handler = ngx_vaani_redis_deadline_handler;
    conn->deadline.data = conn;
    conn->deadline.log = &conn->log;

    conn->setup.handler = ngx_vaani_redis_setup_timeout;
    conn->setup.data = conn;
    conn->setup.log = &conn->log;

    conn->reconnect.handler = ngx_vaani_redis_reconnect_handler;
    conn->reconnect.data = conn;
    conn->reconnect.log = &conn->log;

    /*
     * Only commands delay the exit of a worker, through their deadline: nginx
     * waits for timers, not for requests.
     */

    conn->deadline.cancelable = 1;
    conn->setup.cancelable = 1;
    conn->reconnect.cancelable = 1;
}


void
ngx_vaani_redis_connect(ngx_vaani_redis_conn_t *conn)
{
    ngx_vaani_redis_actions_t  *actions;

    if (conn->reconnect.timer_set) {
        ngx_del_timer(&conn->reconnect);
    }

    actions = conn->redis->actions;

    if (conn->watch == NULL && actions && actions->locate) {
        conn->state = NGX_VAANI_REDIS_LOCATING;
        actions->locate(conn);
        return;
    }

    ngx_vaani_redis_resolve(conn);
}


void
ngx_vaani_redis_move(ngx_vaani_redis_conn_t *conn)
{
    ngx_vaani_redis_shut(conn);

    /* the sources may disagree, and none of their addresses may work */

    if (!conn->moved) {
        conn->moved = 1;
        conn->backoff = 0;
        conn->down = 0;
    }

    ngx_vaani_redis_resolve(conn);
}


void
ngx_vaani_redis_shut(ngx_vaani_redis_conn_t *conn)
{
    ngx_vaani_redis_close(conn);

    if (conn->reconnect.timer_set) {
        ngx_del_timer(&conn->reconnect);
    }

    /* an address, and a TLS session, of the previous server */

    conn->addr.sockaddr = NULL;
    conn->tries = 0;
    conn->nrefused = 0;

#if (NGX_SSL)
    ngx_vaani_redis_ssl_forget(conn);
#endif

    ngx_vaani_redis_finish_all(conn, &conn->lapsed, NGX_VAANI_REDIS_DOWN);
}


static void
ngx_vaani_redis_connect_addr(ngx_vaani_redis_conn_t *conn, ngx_err_t err,
    char *what)
{
    ngx_int_t               rc;
    ngx_connection_t       *c;
    ngx_peer_connection_t  *peer;

    if (what) {
        ngx_vaani_redis_fail(conn, err, what);
        return;
    }

    conn->state = NGX_VAANI_REDIS_CONNECTING;
    conn->proved = 0;
    conn->condemned = 0;
    conn->loading = 0;
    conn->nread = 0;
    conn->nelements = 0;

    peer = &conn->peer;

    ngx_memzero(peer, sizeof(ngx_peer_connection_t));

    peer->sockaddr = conn->addr.sockaddr;
    peer->socklen = conn->addr.socklen;
    peer->name = &conn->addr.name;
    peer->get = ngx_event_get_peer;
    peer->log = &conn->peer_log;
    peer->log_error = NGX_ERROR_ERR;

    rc = ngx_event_connect_peer(peer);

    if (rc != NGX_OK && rc != NGX_AGAIN) {
        ngx_vaani_redis_connect_failed(conn, ngx_socket_errno);
        return;
    }

    c = peer->connection;

    c->data = conn;
    c->read->handler = ngx_vaani_redis_read_handler;
    c->write->handler = ngx_vaani_redis_write_handler;

    conn->reader = ngx_vaani_redis_create_reader(conn);

    if (conn->reader == NULL) {
        ngx_vaani_redis_fail(conn, 0, "cannot be used (no memory for a "
                                      "connection)");
        return;
    }

    ngx_add_timer(&conn->setup, conn->redis->connect_timeout);

    if (rc == NGX_OK) {
        ngx_vaani_redis_connected(conn);
    }
}


static void
ngx_vaani_redis_read_handler(ngx_event_t *rev)
{
    ssize_t                  n;
    ngx_connection_t        *c;
    ngx_vaani_redis_conn_t  *conn;
    static char              buffer[NGX_VAANI_REDIS_BUFFER_SIZE];

    c = rev->data;
    conn = c->data;

    if (conn->state == NGX_VAANI_REDIS_CONNECTING) {
        ngx_vaani_redis_test_connect(conn);
        return;
    }

    do {
        ngx_set_socket_errno(0);

        n = c->recv(c, (u_char *) buffer, sizeof(buffer));

        if (n == NGX_AGAIN) {
            break;
        }

        if (n == NGX_ERROR) {
            ngx_vaani_redis_broken(conn, ngx_socket_errno,
                                   "closed the connection");
            return;
        }

        if (n == 0) {
            ngx_vaani_redis_lost(conn, 0, "closed the connection");
            return;
        }

        if (redisReaderFeed(conn->reader, buffer, n) != REDIS_OK) {
            ngx_vaani_redis_lost(conn, 0, "sent a reply that does not fit in "
                                          "memory");
            return;
        }

        conn->nread += n;

        if (ngx_vaani_redis_read_replies(conn) != NGX_OK) {
            return;
        }

    } while (rev->ready);

    if (conn->condemned && ngx_queue_empty(&conn->inflight)) {
        ngx_vaani_redis_leave(conn);
        return;
    }

    if (ngx_handle_read_event(rev, 0) != NGX_OK) {
        ngx_vaani_redis_lost(conn, 0, "cannot be polled");
    }
}


/*
 * A connection that accepts no more commands, and has all replies.
 */

static void
ngx_vaani_redis_leave(ngx_vaani_redis_conn_t *conn)
{
    ngx_uint_t  level;

    if (!conn->demoted) {
        ngx_vaani_redis_fail(conn, 0, "cannot accept events");
        return;
    }

    /*
     * the server contradicts itself: retry with a delay, not in a tight loop
     */

    if (ngx_current_msec - conn->ready_since >= NGX_VAANI_REDIS_MAX_BACKOFF) {
        conn->pause = 0;

    } else {
        conn->pause = conn->pause ? ngx_min(conn->pause * 2,
                                            NGX_VAANI_REDIS_SEEK_BACKOFF)
                                  : NGX_VAANI_REDIS_MIN_BACKOFF;
    }

    level = (conn->pause > NGX_VAANI_REDIS_MIN_BACKOFF) ? NGX_LOG_INFO
                                                        : NGX_LOG_WARN;

    ngx_log_error(level, &conn->log, 0,
                  "vaani: %V is no longer the master; reconnecting, pending "
                  "events: %ui",
                  &conn->node->url.name, conn->ncommands);

    ngx_vaani_redis_close(conn);

    if (conn->pause) {
        conn->state = NGX_VAANI_REDIS_LOCATING;
        ngx_add_timer(&conn->reconnect, conn->pause);

    } else {
        ngx_vaani_redis_connect(conn);
    }

    ngx_vaani_redis_finish_all(conn, &conn->lapsed, NGX_VAANI_REDIS_DOWN);
}


static void
ngx_vaani_redis_write_handler(ngx_event_t *wev)
{
    ngx_connection_t        *c;
    ngx_vaani_redis_conn_t  *conn;

    c = wev->data;
    conn = c->data;

    if (conn->state == NGX_VAANI_REDIS_CONNECTING) {
        ngx_vaani_redis_test_connect(conn);
        return;
    }

    ngx_vaani_redis_flush(conn);
}


static void
ngx_vaani_redis_test_connect(ngx_vaani_redis_conn_t *conn)
{
    int        err;
    socklen_t  len;

    err = 0;
    len = sizeof(int);

    if (getsockopt(conn->peer.connection->fd, SOL_SOCKET, SO_ERROR,
                   (void *) &err, &len)
        == -1)
    {
        err = ngx_socket_errno;
    }

    if (err) {
        ngx_vaani_redis_connect_failed(conn, err);
        return;
    }

    ngx_vaani_redis_connected(conn);
}


/*
 * A name like "localhost" may have several addresses, and Redis may listen on
 * only one of them.  The next address is tried without a delay, so that no
 * event is refused.
 */

static void
ngx_vaani_redis_connect_failed(ngx_vaani_redis_conn_t *conn, ngx_err_t err)
{
    if (++conn->nrefused < conn->naddrs) {
        ngx_log_error(NGX_LOG_INFO, &conn->log, err,
                      "vaani: connect() to one of the addresses of %V failed; "
                      "trying the next address", &conn->node->url.name);

        ngx_vaani_redis_close(conn);
        ngx_vaani_redis_resolve(conn);
        return;
    }

    ngx_vaani_redis_fail(conn, err, "is unreachable");
}


static void
ngx_vaani_redis_connected(ngx_vaani_redis_conn_t *conn)
{
    if (ngx_tcp_nodelay(conn->peer.connection) != NGX_OK
        || ngx_vaani_redis_keepalive(conn) != NGX_OK)
    {
        ngx_vaani_redis_fail(conn, ngx_socket_errno, "cannot be used "
                                                     "(setsockopt() failed)");
        return;
    }

#if (NGX_SSL)
    if (conn->redis->url.tls) {
        ngx_vaani_redis_ssl_handshake(conn);
        return;
    }
#endif

    ngx_vaani_redis_set_up(conn);
}


/*
 * A NAT or a firewall may silently drop an idle connection.  Without keepalive
 * the next event would wait for its timeout.
 */

static ngx_int_t
ngx_vaani_redis_keepalive(ngx_vaani_redis_conn_t *conn)
{
    int           value;
    ngx_socket_t  s;

    if (conn->addr.sockaddr->sa_family == AF_UNIX) {
        return NGX_OK;
    }

    s = conn->peer.connection->fd;
    value = 1;

    if (setsockopt(s, SOL_SOCKET, SO_KEEPALIVE, (const void *) &value,
                   sizeof(int))
        == -1)
    {
        return NGX_ERROR;
    }

#if (NGX_HAVE_KEEPALIVE_TUNABLE)

    value = NGX_VAANI_REDIS_KEEPALIVE;

    if (setsockopt(s, IPPROTO_TCP, TCP_KEEPIDLE, (const void *) &value,
                   sizeof(int))
        == -1
        || setsockopt(s, IPPROTO_TCP, TCP_KEEPINTVL, (const void *) &value,
                      sizeof(int))
           == -1)
    {
        return NGX_ERROR;
    }

    value = NGX_VAANI_REDIS_PROBES;

    if (setsockopt(s, IPPROTO_TCP, TCP_KEEPCNT, (const void *) &value,
                   sizeof(int))
        == -1)
    {
        return NGX_ERROR;
    }

#endif

#ifdef TCP_USER_TIMEOUT

    /* the same for sent data that is not acknowledged, ms */

    value = NGX_VAANI_REDIS_KEEPALIVE * NGX_VAANI_REDIS_PROBES * 1000;

    if (setsockopt(s, IPPROTO_TCP, TCP_USER_TIMEOUT, (const void *) &value,
                   sizeof(int))
        == -1)
    {
        return NGX_ERROR;
    }

#endif

    return NGX_OK;
}


#if (NGX_SSL)

static void
ngx_vaani_redis_handshaked(ngx_vaani_redis_conn_t *conn, ngx_err_t err,
    char *what)
{
    ngx_connection_t  *c;

    if (what) {
        ngx_vaani_redis_fail(conn, err, what);
        return;
    }

    c = conn->peer.connection;

    c->read->handler = ngx_vaani_redis_read_handler;
    c->write->handler = ngx_vaani_redis_write_handler;

    /*
     * data that arrived with the end of the handshake causes no further event
     */

    if (c->read->ready) {
        ngx_post_event(c->read, &ngx_posted_events);
    }

    ngx_vaani_redis_set_up(conn);
}

#endif


static void
ngx_vaani_redis_setup_timeout(ngx_event_t *ev)
{
    ngx_vaani_redis_conn_t  *conn;

    conn = ev->data;

    if (conn->state == NGX_VAANI_REDIS_HANDSHAKING) {
        ngx_vaani_redis_fail(conn, NGX_ETIMEDOUT,
                             "did not complete the TLS handshake in time, "
                             "check that the port uses TLS");
        return;
    }

    ngx_vaani_redis_fail(conn, NGX_ETIMEDOUT, "did not complete the "
                                              "connection setup in time");
}


static void
ngx_vaani_redis_reconnect_handler(ngx_event_t *ev)
{
    ngx_vaani_redis_conn_t  *conn;

    conn = ev->data;

    if (conn->watch) {
        conn->watch->lost(conn->watch);
        return;
    }

    ngx_vaani_redis_connect(conn);
}


void
ngx_vaani_redis_conn_exit(ngx_vaani_redis_conn_t *conn)
{
    ngx_queue_t            *q;
    ngx_vaani_redis_cmd_t  *cmd;

    conn->exiting = 1;

    ngx_vaani_redis_close(conn);

#if (NGX_SSL)
    ngx_vaani_redis_ssl_forget(conn);
#endif

    if (conn->reconnect.timer_set) {
        ngx_del_timer(&conn->reconnect);
    }

    if (conn->deadline.timer_set) {
        ngx_del_timer(&conn->deadline);
    }

    ngx_vaani_redis_stats_commands(conn, -(ngx_int_t) conn->ncommands,
                                   -(ngx_int_t) conn->nbytes);

    if (!ngx_queue_empty(&conn->lapsed)) {
        ngx_queue_add(&conn->waiting, &conn->lapsed);
        ngx_queue_init(&conn->lapsed);
    }

    while (!ngx_queue_empty(&conn->waiting)) {
        q = ngx_queue_head(&conn->waiting);
        cmd = ngx_queue_data(q, ngx_vaani_redis_cmd_t, queue);

        ngx_queue_remove(q);
        ngx_vaani_redis_free_command(cmd);
    }

    conn->ncommands = 0;
    conn->nbytes = 0;
}
