
/*
 * Handles a lost connection: its commands, the next attempt, and the log.
 */


#include "ngx_vaani_redis_node.h"


static void ngx_vaani_redis_reconnect(ngx_vaani_redis_conn_t *conn);
static void ngx_vaani_redis_strike(ngx_vaani_redis_conn_t *conn,
    ngx_queue_t *refused);
static char *ngx_vaani_redis_outage(ngx_vaani_redis_t *redis);
static void ngx_vaani_redis_back_off(ngx_vaani_redis_conn_t *conn,
    ngx_err_t err, char *what);
static ngx_uint_t ngx_vaani_redis_expire(ngx_queue_t *queue,
    ngx_queue_t *expired, ngx_msec_t *next);
static void ngx_vaani_redis_hung(ngx_vaani_redis_conn_t *conn);


/*
 * A connection that was in use broke, and its commands wait for the next one.
 * The next attempt is immediate only if this connection has executed a command
 * or lasted for some time.  Otherwise connecting and breaking could alternate
 * in a tight loop.
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

    ngx_vaani_redis_stats_error(conn, NGX_VAANI_REDIS_LOST, NULL, err, what);

    ngx_vaani_redis_strike(conn, &refused);

    if (conn->proved
        || ngx_current_msec - conn->ready_since >= NGX_VAANI_REDIS_MAX_BACKOFF)
    {
        ngx_vaani_redis_close(conn);

        conn->backoff = 0;

        ngx_log_error(NGX_LOG_WARN, &conn->log, err,
                      "vaani: %V %s; reconnecting, pending events: %ui",
                      &conn->node->url.name, what, conn->ncommands);

        ngx_vaani_redis_reconnect(conn);

    } else {
        ngx_vaani_redis_back_off(conn, err, what);
    }

    ngx_vaani_redis_finish_all(conn, &refused, NGX_VAANI_REDIS_UNKNOWN);
    ngx_vaani_redis_finish_all(conn, &conn->lapsed, NGX_VAANI_REDIS_DOWN);
}


/*
 * Since TLS 1.3, Redis refuses a certificate after the handshake: the alert
 * explains the failure better than the errno.
 */

void
ngx_vaani_redis_broken(ngx_vaani_redis_conn_t *conn, ngx_err_t err, char *what)
{
#if (NGX_SSL)
    if (conn->peer.connection->ssl) {

        if (conn->state != NGX_VAANI_REDIS_READY) {
            ngx_vaani_redis_ssl_forget(conn);
        }

        what = ngx_vaani_redis_ssl_broken(conn, &err, what);
    }
#endif

    ngx_vaani_redis_lost(conn, err, what);
}


/*
 * Connects again; before that, the form may take over the commands.
 */

static void
ngx_vaani_redis_reconnect(ngx_vaani_redis_conn_t *conn)
{
    ngx_vaani_redis_actions_t  *actions;

    /* its owner tries another address; it is never called at once */

    if (conn->watch) {
        ngx_add_timer(&conn->reconnect, 1);
        return;
    }

    actions = conn->redis->actions;

    if (actions && actions->lost) {
        actions->lost(conn);
    }

    if (!conn->node->leaving) {
        conn->reconnect.handler(&conn->reconnect);
    }
}


/*
 * The command that Redis was executing may be the cause, for example because
 * it is too long.  Therefore it is not retried without limit.
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

    /* it may still be in the output chain, which ends with the connection */

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
                                NULL, err, what);

    ngx_vaani_redis_back_off(conn, err, what);

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
 * The word of the log for new events while Redis cannot accept them.
 */

static char *
ngx_vaani_redis_outage(ngx_vaani_redis_t *redis)
{
    return !redis->queued ? "refused"
           : redis->refused ? "queued or refused" : "queued";
}


/*
 * Closes the connection, and refuses commands until the next one is ready.
 */

static void
ngx_vaani_redis_back_off(ngx_vaani_redis_conn_t *conn, ngx_err_t err,
    char *what)
{
    uint32_t    failure;
    ngx_uint_t  level, ready, tls;
    ngx_msec_t  longest;

    ready = (conn->state == NGX_VAANI_REDIS_READY);
    tls = (conn->state == NGX_VAANI_REDIS_HANDSHAKING);

    ngx_vaani_redis_close(conn);

    /* one line per reason, because another reason may be the important one */

    failure = ngx_crc32_short((u_char *) what, ngx_strlen(what));

    level = (conn->down ? conn->failure == failure : conn->refusing)
            ? NGX_LOG_INFO : NGX_LOG_ERR;

    conn->failure = failure;

    if (conn->watch) {
        /*
         * one of several may be unreachable; its certificate needs attention
         */

        level = !ngx_vaani_redis_is_news(conn->watch, failure)
                ? NGX_LOG_INFO : tls ? NGX_LOG_ERR : NGX_LOG_WARN;

        ngx_log_error(level, &conn->log, err,
                      "vaani: %V %s; asking another server for the master",
                      &conn->node->url.name, what);

        conn->down = 1;
        conn->nrefused = 0;

        ngx_add_timer(&conn->reconnect, 1);
        return;
    }

    ngx_log_error(level, &conn->log, err,
                  "vaani: %V %s; events are %s",
                  &conn->node->url.name, what,
                  ngx_vaani_redis_outage(conn->redis));

    conn->down = 1;
    conn->nrefused = 0;

    if (conn->node->leaving) {
        return;
    }

    /* a connection that has lasted resets the delay */

    if (ready
        && ngx_current_msec - conn->ready_since >= NGX_VAANI_REDIS_MAX_BACKOFF)
    {
        conn->backoff = 0;
    }

    /* a new master may appear at any moment */

    longest = (conn->redis->actions && conn->redis->actions->locate)
              ? NGX_VAANI_REDIS_SEEK_BACKOFF : NGX_VAANI_REDIS_MAX_BACKOFF;

    conn->backoff = conn->backoff ? ngx_min(conn->backoff * 2, longest)
                                  : NGX_VAANI_REDIS_MIN_BACKOFF;

    /* spread the reconnects of the workers */

    ngx_add_timer(&conn->reconnect,
                  conn->backoff / 2 + ngx_random() % (conn->backoff / 2 + 1));
}


ngx_uint_t
ngx_vaani_redis_is_news(ngx_vaani_redis_watch_t *watch, uint32_t failure)
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


void
ngx_vaani_redis_close(ngx_vaani_redis_conn_t *conn)
{
    ngx_queue_t            *q;
    ngx_vaani_redis_cmd_t  *cmd;

    conn->ncloses++;

    if (conn->state == NGX_VAANI_REDIS_READY) {
        ngx_vaani_redis_stats_ready(conn, 0);
        ngx_vaani_redis_show(conn->redis);
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
            ngx_vaani_redis_free_command(cmd);

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


void
ngx_vaani_redis_deadline_handler(ngx_event_t *ev)
{
    ngx_uint_t               hung;
    ngx_msec_t               next;
    ngx_queue_t              expired;
    ngx_vaani_redis_conn_t  *conn;

    conn = ev->data;

    ngx_queue_init(&expired);
    next = 0;

    hung = ngx_vaani_redis_expire(&conn->inflight, &expired, &next);
    (void) ngx_vaani_redis_expire(&conn->waiting, &expired, &next);

    if (hung) {
        ngx_vaani_redis_hung(conn);
    }

    if (next && !conn->deadline.timer_set) {
        ngx_add_timer(&conn->deadline, next);
    }

    ngx_vaani_redis_finish_all(conn, &expired, NGX_VAANI_REDIS_TIMEOUT);
    ngx_vaani_redis_finish_all(conn, &conn->lapsed, NGX_VAANI_REDIS_DOWN);
}


/*
 * Moves commands that have waited too long from a queue to *expired.  Returns
 * whether there were any.  Lowers *next to the shortest remaining time of the
 * others, ms; 0: none yet.
 */

static ngx_uint_t
ngx_vaani_redis_expire(ngx_queue_t *queue, ngx_queue_t *expired,
    ngx_msec_t *next)
{
    ngx_uint_t              any;
    ngx_msec_t              left;
    ngx_queue_t            *q, *following;
    ngx_vaani_redis_cmd_t  *cmd;

    any = 0;

    for (q = ngx_queue_head(queue);
         q != ngx_queue_sentinel(queue);
         q = following)
    {
        following = ngx_queue_next(q);
        cmd = ngx_queue_data(q, ngx_vaani_redis_cmd_t, queue);

        /* those of the set-up have the deadline of the connection */

        if (cmd->setup) {
            continue;
        }

        left = cmd->deadline - ngx_current_msec;

        if ((ngx_msec_int_t) left > 0) {
            *next = *next ? ngx_min(*next, left) : left;
            continue;
        }

        ngx_queue_remove(q);
        ngx_queue_insert_tail(expired, q);

        any = 1;
    }

    return any;
}


/*
 * Replies come in order, so a connection with an overdue reply is useless.
 * New events do not wait for the next connection.
 */

static void
ngx_vaani_redis_hung(ngx_vaani_redis_conn_t *conn)
{
    ngx_uint_t  level;

    ngx_vaani_redis_close(conn);

    ngx_vaani_redis_stats_error(conn, NGX_VAANI_REDIS_NO_REPLY, NULL, 0,
                                "did not reply in time");

    if (conn->watch) {
        level = ngx_vaani_redis_is_news(conn->watch, 0) ? NGX_LOG_WARN
                                                        : NGX_LOG_INFO;

        ngx_log_error(level, &conn->log, 0,
                      "vaani: %V did not reply within %M ms; asking another "
                      "server for the master",
                      &conn->node->url.name, conn->redis->timeout);

    } else {
        ngx_log_error(NGX_LOG_ERR, &conn->log, 0,
                      "vaani: %V did not reply within %M ms; reconnecting, "
                      "events are %s",
                      &conn->node->url.name, conn->redis->timeout,
                      ngx_vaani_redis_outage(conn->redis));
    }

    conn->down = 1;

    ngx_vaani_redis_reconnect(conn);
}
