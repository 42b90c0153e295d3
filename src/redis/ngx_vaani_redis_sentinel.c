
/*
 * The master that Redis Sentinels know under a name, see
 * https://redis.io/docs/latest/develop/reference/sentinel-clients/
 *
 * Each worker has a connection to one Sentinel.  It asks for the master before
 * each connection to the master, when the Sentinel announces a new master, and
 * periodically.  If the Sentinel is lost or does not know the master, the next
 * one is asked.
 *
 * Sentinels may disagree.  While the connections to a master work, they are
 * moved only to a server that itself confirms that it is the master.
 */


#include "ngx_vaani_redis_node.h"
#include "vaani_master.h"


/* the period of asking, ms */

#define NGX_VAANI_REDIS_ASK_EVERY       10000

/* the period of the line about a Sentinel that does not know the name, ms */

#define NGX_VAANI_REDIS_UNKNOWN_EVERY   60000


typedef struct {
    ngx_vaani_redis_watch_t     watch;
    ngx_vaani_redis_watch_t     probe;          /* for candidates for the
                                                   master */
    ngx_vaani_redis_t          *redis;
    ngx_uint_t                  current;        /* index of the URL */
    ngx_uint_t                  ntried;         /* failed ones */
    ngx_uint_t                  nold;           /* that named a lost one */
    ngx_event_t                 timer;
    ngx_msec_t                  backoff;
    vaani_pace_t                unknown;
    char                       *why;            /* the last one did not say */
    unsigned                    broken:1;       /* a connection to the master */
    unsigned                    asked:1;
    unsigned                    again:1;        /* when that is answered */
    unsigned                    subscribed:1;
} ngx_vaani_redis_sentinel_t;


static ngx_int_t ngx_vaani_redis_sentinel_init(ngx_vaani_redis_t *redis,
    ngx_cycle_t *cycle);
static void ngx_vaani_redis_sentinel_exit(ngx_vaani_redis_t *redis);
static void ngx_vaani_redis_sentinel_locate(ngx_vaani_redis_conn_t *conn);
static void ngx_vaani_redis_sentinel_good(ngx_vaani_redis_conn_t *conn);
static void ngx_vaani_redis_sentinel_bad(ngx_vaani_redis_conn_t *conn);
static void ngx_vaani_redis_sentinel_open(
    ngx_vaani_redis_sentinel_t *sentinel);
static void ngx_vaani_redis_sentinel_next(
    ngx_vaani_redis_sentinel_t *sentinel);
static void ngx_vaani_redis_sentinel_ask(ngx_vaani_redis_sentinel_t *sentinel);
static void ngx_vaani_redis_sentinel_ready(ngx_vaani_redis_watch_t *watch);
static void ngx_vaani_redis_sentinel_lost(ngx_vaani_redis_watch_t *watch);
static void ngx_vaani_redis_sentinel_pushed(ngx_vaani_redis_watch_t *watch,
    redisReply *reply);
static void ngx_vaani_redis_sentinel_answer(void *data,
    ngx_vaani_redis_status_e status, redisReply *reply, ngx_uint_t lane);
static ngx_uint_t ngx_vaani_redis_sentinel_stands(
    ngx_vaani_redis_sentinel_t *sentinel, const char *host, in_port_t port);
static void ngx_vaani_redis_sentinel_timer(ngx_event_t *ev);
static void ngx_vaani_redis_probe(ngx_vaani_redis_t *redis, const char *host,
    in_port_t port);
static void ngx_vaani_redis_probe_lost(ngx_vaani_redis_watch_t *watch);
static void ngx_vaani_redis_probe_role(ngx_vaani_redis_watch_t *watch,
    redisReply *reply);


ngx_vaani_redis_actions_t  ngx_vaani_redis_sentinel_actions = {
    ngx_vaani_redis_sentinel_init,
    ngx_vaani_redis_sentinel_exit,
    ngx_vaani_redis_sentinel_locate,
    ngx_vaani_redis_greet_master,
    ngx_vaani_redis_refused_by_replica,
    ngx_vaani_redis_sentinel_good,
    ngx_vaani_redis_sentinel_bad,
    ngx_vaani_redis_probe,
    NULL
};


static ngx_str_t  ngx_vaani_redis_switched = ngx_string("+switch-master");


static ngx_int_t
ngx_vaani_redis_sentinel_init(ngx_vaani_redis_t *redis, ngx_cycle_t *cycle)
{
    ngx_vaani_redis_sentinel_t  *sentinel;

    sentinel = ngx_pcalloc(cycle->pool, sizeof(ngx_vaani_redis_sentinel_t));

    if (sentinel == NULL) {
        return NGX_ERROR;
    }

    sentinel->redis = redis;

    ngx_vaani_redis_watch_init(&sentinel->watch, redis, cycle->log);

    sentinel->watch.data = sentinel;
    sentinel->watch.user = &redis->sentinel_user;
    sentinel->watch.password = &redis->sentinel_password;
    sentinel->watch.ready = ngx_vaani_redis_sentinel_ready;
    sentinel->watch.lost = ngx_vaani_redis_sentinel_lost;
    sentinel->watch.pushed = ngx_vaani_redis_sentinel_pushed;

    ngx_vaani_redis_watch_init(&sentinel->probe, redis, cycle->log);

    sentinel->probe.data = sentinel;
    sentinel->probe.ready = ngx_vaani_redis_ask_role;
    sentinel->probe.lost = ngx_vaani_redis_probe_lost;
    sentinel->probe.role = ngx_vaani_redis_probe_role;

    sentinel->timer.handler = ngx_vaani_redis_sentinel_timer;
    sentinel->timer.data = sentinel;
    sentinel->timer.log = cycle->log;
    sentinel->timer.cancelable = 1;

    redis->state = sentinel;

    ngx_vaani_redis_sentinel_open(sentinel);

    return NGX_OK;
}


static void
ngx_vaani_redis_sentinel_exit(ngx_vaani_redis_t *redis)
{
    ngx_vaani_redis_sentinel_t *sentinel = redis->state;

    ngx_vaani_redis_conn_exit(&sentinel->watch.conn);
    ngx_vaani_redis_conn_exit(&sentinel->probe.conn);

    if (sentinel->timer.timer_set) {
        ngx_del_timer(&sentinel->timer);
    }
}


static void
ngx_vaani_redis_sentinel_locate(ngx_vaani_redis_conn_t *conn)
{
    ngx_vaani_redis_sentinel_t  *sentinel;

    sentinel = conn->redis->state;

    if (conn->node->wrong) {

        /*
         * it named a server that is not a master: another Sentinel may know
         * better
         */

        conn->node->wrong = 0;

        ngx_vaani_redis_watch_close(&sentinel->watch);
        ngx_vaani_redis_sentinel_next(sentinel);
        return;
    }

    switch (sentinel->watch.conn.state) {

    case NGX_VAANI_REDIS_READY:

        if (!sentinel->asked) {
            ngx_vaani_redis_sentinel_ask(sentinel);
        }

        break;

    case NGX_VAANI_REDIS_CLOSED:

        /* unless the next one is about to be asked */

        if (sentinel->timer.timer_set) {
            ngx_vaani_redis_sentinel_open(sentinel);
        }

        break;

    default:
        break;
    }
}


static void
ngx_vaani_redis_sentinel_good(ngx_vaani_redis_conn_t *conn)
{
    ngx_vaani_redis_sentinel_t  *sentinel;

    sentinel = conn->redis->state;

    sentinel->broken = 0;
    sentinel->nold = 0;
}


static void
ngx_vaani_redis_sentinel_bad(ngx_vaani_redis_conn_t *conn)
{
    ngx_vaani_redis_sentinel_t  *sentinel;

    sentinel = conn->redis->state;

    sentinel->broken = 1;
}


static void
ngx_vaani_redis_sentinel_open(ngx_vaani_redis_sentinel_t *sentinel)
{
    if (sentinel->timer.timer_set) {
        ngx_del_timer(&sentinel->timer);
    }

    sentinel->asked = 0;
    sentinel->again = 0;
    sentinel->subscribed = 0;
    sentinel->why = "has no known master (all Sentinels are unreachable)";

    ngx_vaani_redis_watch_open(&sentinel->watch,
                               &sentinel->redis->urls[sentinel->current]);
}


/*
 * Asks the next Sentinel; pauses after the last one.
 */

static void
ngx_vaani_redis_sentinel_next(ngx_vaani_redis_sentinel_t *sentinel)
{
    sentinel->current = (sentinel->current + 1) % sentinel->redis->nurls;

    if (++sentinel->ntried < sentinel->redis->nurls) {
        ngx_vaani_redis_sentinel_open(sentinel);
        return;
    }

    sentinel->ntried = 0;
    sentinel->asked = 0;

    sentinel->backoff = sentinel->backoff
                        ? ngx_min(sentinel->backoff * 2,
                                  NGX_VAANI_REDIS_MAX_BACKOFF)
                        : NGX_VAANI_REDIS_MIN_BACKOFF;

    ngx_add_timer(&sentinel->timer,
                  sentinel->backoff / 2
                  + ngx_random() % (sentinel->backoff / 2 + 1));

    ngx_vaani_redis_no_master(sentinel->redis, sentinel->why);
}


static void
ngx_vaani_redis_sentinel_ask(ngx_vaani_redis_sentinel_t *sentinel)
{
    ngx_str_t  unsubscribe[2], ask[3], subscribe[2];

    ngx_str_set(&unsubscribe[0], "UNSUBSCRIBE");
    unsubscribe[1] = ngx_vaani_redis_switched;

    ngx_str_set(&ask[0], "SENTINEL");
    ngx_str_set(&ask[1], "GET-MASTER-ADDR-BY-NAME");
    ask[2] = sentinel->redis->sentinel;

    ngx_str_set(&subscribe[0], "SUBSCRIBE");
    subscribe[1] = ngx_vaani_redis_switched;

    /*
     * a subscribed client cannot send queries; sent together, no change is
     * missed
     */

    if ((sentinel->subscribed
         && ngx_vaani_redis_watch_ask(&sentinel->watch, unsubscribe, 2, NULL)
            != NGX_OK)
        || ngx_vaani_redis_watch_ask(&sentinel->watch, ask, 3,
                                     ngx_vaani_redis_sentinel_answer)
           != NGX_OK
        || ngx_vaani_redis_watch_ask(&sentinel->watch, subscribe, 2, NULL)
           != NGX_OK)
    {
        ngx_vaani_redis_fail(&sentinel->watch.conn, 0,
                             "cannot be used (no memory for a command)");
        return;
    }

    sentinel->asked = 1;
    sentinel->subscribed = 1;
}


static void
ngx_vaani_redis_sentinel_ready(ngx_vaani_redis_watch_t *watch)
{
    ngx_vaani_redis_sentinel_ask(watch->data);
}


static void
ngx_vaani_redis_sentinel_lost(ngx_vaani_redis_watch_t *watch)
{
    ngx_vaani_redis_sentinel_next(watch->data);
}


static void
ngx_vaani_redis_sentinel_answer(void *data, ngx_vaani_redis_status_e status,
    redisReply *reply, ngx_uint_t lane)
{
    ngx_vaani_redis_watch_t *watch = data;

    int                          rc;
    char                         host[NGX_VAANI_REDIS_HOST_LEN];
    unsigned                     port;
    uint64_t                     skipped;
    ngx_vaani_redis_sentinel_t  *sentinel;

    sentinel = watch->data;
    sentinel->asked = 0;

    if (status != NGX_VAANI_REDIS_DONE) {

        /* the connection is lost; watch->lost() follows */

        return;
    }

    rc = vaani_sentinel_read(reply, host, &port);

    if (rc != VAANI_OK) {
        sentinel->why = (rc == VAANI_DONE)
                        ? "has no known master (no Sentinel knows its name)"
                        : "has no known master (no Sentinel reports its "
                          "address)";

        if (vaani_pace(&sentinel->unknown, ngx_current_msec,
                       NGX_VAANI_REDIS_UNKNOWN_EVERY, &skipped))
        {
            ngx_log_error(NGX_LOG_ERR, &watch->conn.log, 0,
                          "vaani: the Sentinel %V does not know the master "
                          "\"%V\"; check \"sentinel=\" in \"vaani_redis\"",
                          &watch->node.url.name, &sentinel->redis->sentinel);
        }

        ngx_vaani_redis_watch_close(watch);
        ngx_vaani_redis_sentinel_next(sentinel);
        return;
    }

    sentinel->ntried = 0;
    sentinel->backoff = 0;

    /*
     * the Sentinel that leads a failover knows of it seconds before the others
     */

    if (sentinel->broken
        && ngx_vaani_redis_is_at(sentinel->redis->nodes[0], host, port)
        && ++sentinel->nold < sentinel->redis->nurls)
    {
        sentinel->current = (sentinel->current + 1) % sentinel->redis->nurls;
        ngx_vaani_redis_sentinel_open(sentinel);
        return;
    }

    sentinel->nold = 0;

    ngx_add_timer(&sentinel->timer,
                  NGX_VAANI_REDIS_ASK_EVERY
                  + ngx_random() % NGX_VAANI_REDIS_MAX_BACKOFF);

    if (sentinel->again) {
        sentinel->again = 0;
        ngx_vaani_redis_sentinel_ask(sentinel);
    }

    if (ngx_vaani_redis_sentinel_stands(sentinel, host, port)) {
        ngx_vaani_redis_probe(sentinel->redis, host, port);
        return;
    }

    ngx_vaani_redis_found_master(sentinel->redis, NULL, host, port);
}


/*
 * Whether the connections to another master exist, or are being made.
 */

static ngx_uint_t
ngx_vaani_redis_sentinel_stands(ngx_vaani_redis_sentinel_t *sentinel,
    const char *host, in_port_t port)
{
    ngx_uint_t               n;
    ngx_vaani_redis_node_t  *node;

    node = sentinel->redis->nodes[0];

    if (!node->listed || ngx_vaani_redis_is_at(node, host, port)) {
        return 0;
    }

    for (n = 0; n < sentinel->redis->nconnections; n++) {

        if (node->conns[n].state >= NGX_VAANI_REDIS_RESOLVING
            && !node->conns[n].condemned)
        {
            return 1;
        }
    }

    return 0;
}


static void
ngx_vaani_redis_sentinel_pushed(ngx_vaani_redis_watch_t *watch,
    redisReply *reply)
{
    redisReply                  *text;
    vaani_switch_t               moved;
    ngx_vaani_redis_sentinel_t  *sentinel;

    sentinel = watch->data;
    text = reply->element[2];

    if (text->type != REDIS_REPLY_STRING
        || vaani_switch_read(text->str, text->len, &moved) != VAANI_OK)
    {
        return;
    }

    /* Sentinels may monitor several masters */

    if (moved.name.len != sentinel->redis->sentinel.len
        || ngx_memcmp(moved.name.data, sentinel->redis->sentinel.data,
                      moved.name.len)
           != 0)
    {
        return;
    }

    /* the new master is asked for its role, whoever named it */

    if (sentinel->asked) {
        sentinel->again = 1;
        return;
    }

    ngx_vaani_redis_sentinel_ask(sentinel);
}


static void
ngx_vaani_redis_sentinel_timer(ngx_event_t *ev)
{
    ngx_vaani_redis_sentinel_t  *sentinel;

    sentinel = ev->data;

    if (sentinel->watch.conn.state == NGX_VAANI_REDIS_CLOSED) {
        ngx_vaani_redis_sentinel_open(sentinel);

    } else if (sentinel->watch.conn.state == NGX_VAANI_REDIS_READY
               && !sentinel->asked)
    {
        ngx_vaani_redis_sentinel_ask(sentinel);
    }
}


/*
 * Asks a candidate for the master for its role.  A replica knows a new master
 * before the Sentinels do, if a person or another program has appointed it.
 */

static void
ngx_vaani_redis_probe(ngx_vaani_redis_t *redis, const char *host,
    in_port_t port)
{
    ngx_vaani_redis_watch_t     *probe;
    ngx_vaani_redis_sentinel_t  *sentinel;

    sentinel = redis->state;
    probe = &sentinel->probe;

    if (probe->conn.state != NGX_VAANI_REDIS_CLOSED
        && ngx_vaani_redis_is_at(&probe->node, host, port))
    {
        return;
    }

    ngx_vaani_redis_watch_close(probe);

    if (ngx_vaani_redis_place(&probe->node, host, port) == NGX_OK) {
        ngx_vaani_redis_watch_open(probe, &probe->node.url);
    }
}


static void
ngx_vaani_redis_probe_lost(ngx_vaani_redis_watch_t *watch)
{
    ngx_vaani_redis_sentinel_t *sentinel = watch->data;

    /* connections that wait for the master ask again */

    ngx_vaani_redis_no_master(sentinel->redis, "is not a master");
}


static void
ngx_vaani_redis_probe_role(ngx_vaani_redis_watch_t *watch, redisReply *reply)
{
    in_port_t                    port;
    vaani_role_t                 role;
    u_char                       host[NGX_VAANI_REDIS_HOST_LEN];
    ngx_vaani_redis_sentinel_t  *sentinel;

    sentinel = watch->data;

    if (vaani_role_read(reply, &role) != VAANI_OK) {
        role.kind = VAANI_ROLE_REPLICA;
    }

    ngx_memcpy(host, watch->node.host, sizeof(host));
    port = watch->node.url.port;

    ngx_vaani_redis_watch_close(watch);

    if (role.kind == VAANI_ROLE_MASTER) {
        ngx_vaani_redis_found_master(sentinel->redis, NULL, (char *) host,
                                     port);
        return;
    }

    ngx_log_error(NGX_LOG_INFO, &watch->conn.log, 0,
                  "vaani: %V was reported as the master, but is not a master",
                  &watch->node.url.name);

    ngx_vaani_redis_no_master(sentinel->redis, "is not a master");
}
