
#include "ngx_vaani_redis_conn.h"


#define NGX_VAANI_REDIS_BUFFER_SIZE     16384

/* how long nothing may come before a probe is sent, and between probes, s */

#define NGX_VAANI_REDIS_KEEPALIVE       10

/* probes without an answer before the connection is given up */

#define NGX_VAANI_REDIS_PROBES          3


static void ngx_vaani_redis_read_handler(ngx_event_t *rev);
static void ngx_vaani_redis_leave(ngx_vaani_redis_conn_t *conn);
static void ngx_vaani_redis_write_handler(ngx_event_t *wev);
static void ngx_vaani_redis_connect_failed(ngx_vaani_redis_conn_t *conn,
    ngx_err_t err);
static void ngx_vaani_redis_test_connect(ngx_vaani_redis_conn_t *conn);
static void ngx_vaani_redis_connected(ngx_vaani_redis_conn_t *conn);
static ngx_int_t ngx_vaani_redis_keepalive(ngx_vaani_redis_conn_t *conn);
static void ngx_vaani_redis_flush_handler(ngx_event_t *ev);
static ngx_int_t ngx_vaani_redis_handle_write(ngx_vaani_redis_conn_t *conn);
static void ngx_vaani_redis_again(ngx_vaani_redis_conn_t *conn);
static void ngx_vaani_redis_strike(ngx_vaani_redis_conn_t *conn,
    ngx_queue_t *refused);
static void ngx_vaani_redis_rest(ngx_vaani_redis_conn_t *conn, ngx_err_t err,
    char *what);
static void ngx_vaani_redis_close(ngx_vaani_redis_conn_t *conn);
static void ngx_vaani_redis_deadline_handler(ngx_event_t *ev);
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

    /* what goes wrong is logged here: once, and with what it means */

    if (!(log->log_level & NGX_LOG_DEBUG_ALL)) {
        conn->peer_log.log_level = NGX_LOG_EMERG;
    }

    ngx_queue_init(&conn->waiting);
    ngx_queue_init(&conn->inflight);
    ngx_queue_init(&conn->lapsed);

    conn->last_out = &conn->out;

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
     * Only commands hold up a worker that exits, and their deadline is what
     * does it: nginx waits for timers, not for requests.
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

    /* those who name the places may disagree, and none of these be any good */

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

    /* an address, and a session of TLS, of where it was */

    conn->addr.sockaddr = NULL;
    conn->tries = 0;
    conn->nrefused = 0;

#if (NGX_SSL)
    ngx_vaani_redis_ssl_forget(conn);
#endif

    ngx_vaani_redis_finish_all(conn, &conn->lapsed, NGX_VAANI_REDIS_DOWN);
}


void
ngx_vaani_redis_connect_addr(ngx_vaani_redis_conn_t *conn)
{
    ngx_int_t               rc;
    ngx_connection_t       *c;
    ngx_peer_connection_t  *peer;

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
        ngx_vaani_redis_fail(conn, 0, "no memory for a connection");
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

#if (NGX_SSL)
        if (n == NGX_ERROR && c->ssl) {
            ngx_vaani_redis_ssl_lost(conn, ngx_socket_errno,
                                     "closed the connection");
            return;
        }
#endif

        if (n == NGX_ERROR || n == 0) {
            ngx_vaani_redis_lost(conn, n ? ngx_socket_errno : 0,
                                 "closed the connection");
            return;
        }

        if (redisReaderFeed(conn->reader, buffer, n) != REDIS_OK) {
            ngx_vaani_redis_lost(conn, 0, "sent more than there is memory for");
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
        ngx_vaani_redis_lost(conn, 0, "can't be waited for");
    }
}


/*
 * All replies are there of a connection that is of no use.
 */

static void
ngx_vaani_redis_leave(ngx_vaani_redis_conn_t *conn)
{
    ngx_uint_t  level;

    if (!conn->demoted) {
        ngx_vaani_redis_fail(conn, 0, "can't take events");
        return;
    }

    /* it says one thing and does another: that must not go on at full speed */

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
                  "vaani: %V is not the master any more; connecting again, "
                  "%ui events wait for it",
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
 * A name may have several addresses, as "localhost" has, and Redis listen on
 * one of them: the others are no reason to wait, and to refuse events.
 */

static void
ngx_vaani_redis_connect_failed(ngx_vaani_redis_conn_t *conn, ngx_err_t err)
{
    if (++conn->nrefused < conn->naddrs) {
        ngx_log_error(NGX_LOG_INFO, &conn->log, err,
                      "vaani: connect() to one of the addresses of %V failed, "
                      "trying the next one", &conn->node->url.name);

        ngx_vaani_redis_close(conn);
        ngx_vaani_redis_resolve(conn);
        return;
    }

    ngx_vaani_redis_fail(conn, err, "connect() failed");
}


static void
ngx_vaani_redis_connected(ngx_vaani_redis_conn_t *conn)
{
    if (ngx_tcp_nodelay(conn->peer.connection) != NGX_OK
        || ngx_vaani_redis_keepalive(conn) != NGX_OK)
    {
        ngx_vaani_redis_fail(conn, ngx_socket_errno, "setsockopt() failed");
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
 * A NAT or a firewall may drop a connection that nothing is sent on, without a
 * word: the next event would wait for its time-out.
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

    /* the same for what was sent and isn't acknowledged, ms */

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


void
ngx_vaani_redis_open(ngx_vaani_redis_conn_t *conn)
{
    ngx_connection_t  *c;

    c = conn->peer.connection;

    c->read->handler = ngx_vaani_redis_read_handler;
    c->write->handler = ngx_vaani_redis_write_handler;

    /* what came with the end of the handshake makes no event any more */

    if (c->read->ready) {
        ngx_post_event(c->read, &ngx_posted_events);
    }

    ngx_vaani_redis_set_up(conn);
}


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


static void
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


/*
 * A connection that was in use broke, and its commands wait for the next one.
 * That is tried at once if this one had been good for something, else it could
 * go on like this for ever.
 */

void
ngx_vaani_redis_lost(ngx_vaani_redis_conn_t *conn, ngx_err_t err, char *what)
{
    ngx_queue_t  refused;

    if (conn->state != NGX_VAANI_REDIS_READY) {
        ngx_vaani_redis_fail(conn, err, what);
        return;
    }

    ngx_queue_init(&refused);

    ngx_vaani_redis_stats_error(conn, NGX_VAANI_REDIS_LOST, err, what);

    ngx_vaani_redis_strike(conn, &refused);

    if (conn->proved
        || ngx_current_msec - conn->ready_since >= NGX_VAANI_REDIS_MAX_BACKOFF)
    {
        ngx_vaani_redis_close(conn);

        conn->backoff = 0;

        ngx_log_error(NGX_LOG_WARN, &conn->log, err,
                      "vaani: %V %s, connecting again, %ui events wait for it",
                      &conn->node->url.name, what, conn->ncommands);

        ngx_vaani_redis_again(conn);

    } else {
        ngx_vaani_redis_rest(conn, err, what);
    }

    ngx_vaani_redis_finish_all(conn, &refused, NGX_VAANI_REDIS_UNKNOWN);
    ngx_vaani_redis_finish_all(conn, &conn->lapsed, NGX_VAANI_REDIS_DOWN);
}


/*
 * Connects anew, or lets others see to it.
 */

static void
ngx_vaani_redis_again(ngx_vaani_redis_conn_t *conn)
{
    ngx_vaani_redis_actions_t  *actions;

    /* its owner goes on with another place, but is never called at once */

    if (conn->watch) {
        ngx_add_timer(&conn->reconnect, 1);
        return;
    }

    actions = conn->redis->actions;

    if (actions && actions->lost) {
        actions->lost(conn);
    }

    if (!conn->node->leaving) {
        ngx_vaani_redis_connect(conn);
    }
}


/*
 * The command that Redis was at when the connection broke may be why: one that
 * is too long for it, say.  It isn't sent for ever.
 */

static void
ngx_vaani_redis_strike(ngx_vaani_redis_conn_t *conn, ngx_queue_t *refused)
{
    ngx_queue_t            *q;
    ngx_vaani_redis_cmd_t  *cmd;

    if (ngx_queue_empty(&conn->inflight)) {
        return;
    }

    q = ngx_queue_head(&conn->inflight);
    cmd = ngx_queue_data(q, ngx_vaani_redis_cmd_t, queue);

    if (cmd->setup || cmd->buf.pos == cmd->buf.start) {
        return;
    }

    if (++cmd->strikes < NGX_VAANI_REDIS_MAX_STRIKES) {
        return;
    }

    /* it may still be in the chain of output, which ends with the connection */

    ngx_queue_remove(q);
    ngx_queue_insert_tail(refused, q);
}


void
ngx_vaani_redis_fail(ngx_vaani_redis_conn_t *conn, ngx_err_t err, char *what)
{
    ngx_queue_t  given_up;

    ngx_vaani_redis_stats_error(conn, conn->state == NGX_VAANI_REDIS_READY
                                      ? NGX_VAANI_REDIS_LOST
                                      : NGX_VAANI_REDIS_CONNECT,
                                err, what);

    ngx_vaani_redis_rest(conn, err, what);

    if (conn->watch == NULL && conn->redis->actions
        && conn->redis->actions->lost)
    {
        conn->redis->actions->lost(conn);
    }

    ngx_queue_init(&given_up);

    if (!ngx_queue_empty(&conn->waiting)) {
        ngx_queue_add(&given_up, &conn->waiting);
        ngx_queue_init(&conn->waiting);
    }

    ngx_vaani_redis_finish_all(conn, &given_up, NGX_VAANI_REDIS_DOWN);
    ngx_vaani_redis_finish_all(conn, &conn->lapsed, NGX_VAANI_REDIS_DOWN);
}


/*
 * Closes the connection, and refuses commands until another one is there.
 */

static void
ngx_vaani_redis_rest(ngx_vaani_redis_conn_t *conn, ngx_err_t err, char *what)
{
    uint32_t    failure;
    ngx_uint_t  level, ready, tls;
    ngx_msec_t  longest;

    ready = (conn->state == NGX_VAANI_REDIS_READY);
    tls = (conn->state == NGX_VAANI_REDIS_HANDSHAKING);

    ngx_vaani_redis_close(conn);

    /* one line for a reason: the next one may be what has to be seen to */

    failure = ngx_crc32_short((u_char *) what, ngx_strlen(what));

    level = (conn->down ? conn->failure == failure : conn->refusing)
            ? NGX_LOG_INFO : NGX_LOG_ERR;

    conn->failure = failure;

    if (conn->watch) {
        /* one of several may end; its certificate has to be seen to */

        level = !ngx_vaani_redis_watch_is_news(conn->watch, failure)
                ? NGX_LOG_INFO : tls ? NGX_LOG_ERR : NGX_LOG_WARN;

        ngx_log_error(level, &conn->log, err,
                      "vaani: %V %s; another server is asked for the master",
                      &conn->node->url.name, what);

        conn->down = 1;
        conn->nrefused = 0;

        ngx_add_timer(&conn->reconnect, 1);
        return;
    }

    ngx_log_error(level, &conn->log, err,
                  "vaani: %V %s, no event reaches it until it is back",
                  &conn->node->url.name, what);

    conn->down = 1;
    conn->nrefused = 0;

    if (conn->node->leaving) {
        return;
    }

    /* one that lasted is no reason to wait longer than after the first */

    if (ready
        && ngx_current_msec - conn->ready_since >= NGX_VAANI_REDIS_MAX_BACKOFF)
    {
        conn->backoff = 0;
    }

    /* another master may be there any moment */

    longest = (conn->redis->actions && conn->redis->actions->locate)
              ? NGX_VAANI_REDIS_SEEK_BACKOFF : NGX_VAANI_REDIS_MAX_BACKOFF;

    conn->backoff = conn->backoff ? ngx_min(conn->backoff * 2, longest)
                                  : NGX_VAANI_REDIS_MIN_BACKOFF;

    /* the workers must not all come back in the same moment */

    ngx_add_timer(&conn->reconnect,
                  conn->backoff / 2 + ngx_random() % (conn->backoff / 2 + 1));
}


/*
 * Closes the connection.  Its commands wait for the next one, in their order.
 */

static void
ngx_vaani_redis_close(ngx_vaani_redis_conn_t *conn)
{
    ngx_queue_t            *q;
    ngx_vaani_redis_cmd_t  *cmd;

    conn->ncloses++;

    if (conn->state == NGX_VAANI_REDIS_READY) {
        ngx_vaani_redis_stats_ready(conn, 0);
    }

    if (conn->resolving) {
        ngx_resolve_name_done(conn->resolving);
        conn->resolving = NULL;
    }

    if (conn->peer.connection) {
#if (NGX_SSL)
        if (conn->peer.connection->pool) {
            ngx_vaani_redis_ssl_close(conn);
        }
#endif
        ngx_close_connection(conn->peer.connection);
        conn->peer.connection = NULL;
    }

    if (conn->reader) {
        redisReaderFree(conn->reader);
        conn->reader = NULL;
    }

    if (conn->flush.posted) {
        ngx_delete_posted_event(&conn->flush);
    }

    if (conn->setup.timer_set) {
        ngx_del_timer(&conn->setup);
    }

    while (!ngx_queue_empty(&conn->inflight)) {
        q = ngx_queue_last(&conn->inflight);
        cmd = ngx_queue_data(q, ngx_vaani_redis_cmd_t, queue);

        ngx_queue_remove(q);

        if (cmd->setup) {
            ngx_vaani_redis_free_setup(cmd);

        } else if (cmd->once) {
            ngx_queue_insert_head(&conn->lapsed, q);

        } else {
            ngx_queue_insert_head(&conn->waiting, q);
        }
    }

    conn->out = NULL;
    conn->last_out = &conn->out;
    conn->state = NGX_VAANI_REDIS_CLOSED;
}


static void
ngx_vaani_redis_deadline_handler(ngx_event_t *ev)
{
    ngx_uint_t               i, hung, level;
    ngx_msec_t               left, next;
    ngx_queue_t              expired, *q, *following, *queues[2];
    ngx_vaani_redis_cmd_t   *cmd;
    ngx_vaani_redis_conn_t  *conn;

    conn = ev->data;

    queues[0] = &conn->inflight;
    queues[1] = &conn->waiting;

    ngx_queue_init(&expired);
    hung = 0;
    next = 0;

    for (i = 0; i < 2; i++) {
        for (q = ngx_queue_head(queues[i]);
             q != ngx_queue_sentinel(queues[i]);
             q = following)
        {
            following = ngx_queue_next(q);
            cmd = ngx_queue_data(q, ngx_vaani_redis_cmd_t, queue);

            left = cmd->deadline - ngx_current_msec;

            if ((ngx_msec_int_t) left > 0) {

                if (!cmd->setup && (next == 0 || left < next)) {
                    next = left;
                }

                continue;
            }

            if (cmd->setup) {
                continue;
            }

            if (i == 0) {
                hung = 1;
            }

            ngx_queue_remove(q);
            ngx_queue_insert_tail(&expired, q);
        }
    }

    if (hung) {

        /*
         * Replies come in order, so nothing more can be had of a connection
         * that owes one.  New events don't wait for the next connection.
         */

        ngx_vaani_redis_close(conn);

        ngx_vaani_redis_stats_error(conn, NGX_VAANI_REDIS_NO_REPLY, 0,
                                    "didn't reply in time");

        if (conn->watch) {
            level = ngx_vaani_redis_watch_is_news(conn->watch, 0)
                    ? NGX_LOG_WARN : NGX_LOG_INFO;

            ngx_log_error(level, &conn->log, 0,
                          "vaani: %V did not reply within %M ms; another "
                          "server is asked for the master",
                          &conn->node->url.name, conn->redis->timeout);

        } else {
            ngx_log_error(NGX_LOG_ERR, &conn->log, 0,
                          "vaani: %V didn't reply within %M ms, connecting "
                          "again, no event reaches it until it is back",
                          &conn->node->url.name, conn->redis->timeout);
        }

        conn->down = 1;

        ngx_vaani_redis_again(conn);
    }

    if (next && !conn->deadline.timer_set) {
        ngx_add_timer(&conn->deadline, next);
    }

    ngx_vaani_redis_finish_all(conn, &expired, NGX_VAANI_REDIS_TIMEOUT);
    ngx_vaani_redis_finish_all(conn, &conn->lapsed, NGX_VAANI_REDIS_DOWN);
}


static void
ngx_vaani_redis_setup_timeout(ngx_event_t *ev)
{
    ngx_vaani_redis_conn_t  *conn;

    conn = ev->data;

    if (conn->state == NGX_VAANI_REDIS_HANDSHAKING) {
        ngx_vaani_redis_fail(conn, NGX_ETIMEDOUT,
                             "didn't complete the TLS handshake in time, "
                             "does it take TLS on this port?");
        return;
    }

    ngx_vaani_redis_fail(conn, NGX_ETIMEDOUT, "could not be set up in time");
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
