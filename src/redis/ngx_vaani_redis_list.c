
/*
 * Finds the master among a list of servers.  Each worker asks all of them for
 * their roles before it connects to the master, and periodically.
 */


#include "ngx_vaani_redis_node.h"
#include "vaani_master.h"


/* the period of asking, ms */

#define NGX_VAANI_REDIS_POLL_EVERY      10000

/* how long to wait for a server that is listed before a master, ms */

#define NGX_VAANI_REDIS_GRACE           200


/* the period of the line about a server that does not report its role, ms */

#define NGX_VAANI_REDIS_REFUSED_EVERY   60000


typedef enum {
    NGX_VAANI_REDIS_ROLE_UNKNOWN = 0,
    NGX_VAANI_REDIS_ROLE_ASKED,
    NGX_VAANI_REDIS_ROLE_MASTER,
    NGX_VAANI_REDIS_ROLE_REPLICA,
    NGX_VAANI_REDIS_ROLE_NONE           /* there was no answer */
} ngx_vaani_redis_role_e;


typedef struct ngx_vaani_redis_list_s  ngx_vaani_redis_list_t;


typedef struct {
    ngx_vaani_redis_watch_t     watch;
    ngx_vaani_redis_list_t     *list;
    ngx_vaani_redis_role_e      role;
    ngx_uint_t                  shown;          /* the latest answer */
    vaani_pace_t                refused;
} ngx_vaani_redis_member_t;


struct ngx_vaani_redis_list_s {
    ngx_vaani_redis_t          *redis;
    ngx_vaani_redis_member_t   *members;        /* redis->nurls */
    ngx_uint_t                  current;        /* NOBODY: none was found */
    ngx_event_t                 timer;
    ngx_event_t                 grace;
    ngx_uint_t                  graced;         /* the round has ended */
    ngx_uint_t                  rivals;         /* that was logged */
};


static ngx_int_t ngx_vaani_redis_list_init(ngx_vaani_redis_t *redis,
    ngx_cycle_t *cycle);
static void ngx_vaani_redis_list_exit(ngx_vaani_redis_t *redis);
static void ngx_vaani_redis_list_locate(ngx_vaani_redis_conn_t *conn);
static void ngx_vaani_redis_list_poll(ngx_vaani_redis_list_t *list);
static void ngx_vaani_redis_list_lost(ngx_vaani_redis_watch_t *watch);
static void ngx_vaani_redis_list_role(ngx_vaani_redis_watch_t *watch,
    redisReply *reply);
static void ngx_vaani_redis_list_decide(ngx_vaani_redis_list_t *list);
static ngx_uint_t ngx_vaani_redis_list_stays(ngx_vaani_redis_list_t *list);
static ngx_uint_t ngx_vaani_redis_list_choose(ngx_vaani_redis_list_t *list,
    ngx_uint_t *pending);
static void ngx_vaani_redis_list_rivals(ngx_vaani_redis_list_t *list);
static void ngx_vaani_redis_list_show(ngx_vaani_redis_t *redis,
    ngx_vaani_redis_table_t *table);
static void ngx_vaani_redis_list_timer(ngx_event_t *ev);
static void ngx_vaani_redis_list_grace(ngx_event_t *ev);


ngx_vaani_redis_actions_t  ngx_vaani_redis_list_actions = {
    ngx_vaani_redis_list_init,
    ngx_vaani_redis_list_exit,
    ngx_vaani_redis_list_locate,
    ngx_vaani_redis_greet_master,
    ngx_vaani_redis_refused_by_replica,
    NULL,
    NULL,
    NULL,
    ngx_vaani_redis_list_show
};


static ngx_int_t
ngx_vaani_redis_list_init(ngx_vaani_redis_t *redis, ngx_cycle_t *cycle)
{
    ngx_uint_t                 n;
    ngx_vaani_redis_list_t    *list;
    ngx_vaani_redis_member_t  *member;

    list = ngx_pcalloc(cycle->pool, sizeof(ngx_vaani_redis_list_t));

    if (list == NULL) {
        return NGX_ERROR;
    }

    list->members = ngx_pcalloc(cycle->pool,
                                redis->nurls
                                * sizeof(ngx_vaani_redis_member_t));

    if (list->members == NULL) {
        return NGX_ERROR;
    }

    list->redis = redis;
    list->current = NGX_VAANI_REDIS_NOBODY;

    for (n = 0; n < redis->nurls; n++) {
        member = &list->members[n];

        member->list = list;

        ngx_vaani_redis_watch_init(&member->watch, redis, cycle->log);

        member->watch.data = member;
        member->watch.ready = ngx_vaani_redis_ask_role;
        member->watch.lost = ngx_vaani_redis_list_lost;
        member->watch.role = ngx_vaani_redis_list_role;
    }

    list->timer.handler = ngx_vaani_redis_list_timer;
    list->timer.data = list;
    list->timer.log = cycle->log;
    list->timer.cancelable = 1;

    list->grace.handler = ngx_vaani_redis_list_grace;
    list->grace.data = list;
    list->grace.log = cycle->log;
    list->grace.cancelable = 1;

    redis->state = list;

    return NGX_OK;
}


static void
ngx_vaani_redis_list_exit(ngx_vaani_redis_t *redis)
{
    ngx_vaani_redis_list_t *list = redis->state;

    ngx_uint_t  n;

    for (n = 0; n < redis->nurls; n++) {
        ngx_vaani_redis_conn_exit(&list->members[n].watch.conn);
    }

    if (list->timer.timer_set) {
        ngx_del_timer(&list->timer);
    }

    if (list->grace.timer_set) {
        ngx_del_timer(&list->grace);
    }
}


static void
ngx_vaani_redis_list_locate(ngx_vaani_redis_conn_t *conn)
{
    ngx_vaani_redis_list_t  *list;

    list = conn->redis->state;

    if (conn->node->wrong && list->current != NGX_VAANI_REDIS_NOBODY) {
        conn->node->wrong = 0;
        list->members[list->current].role = NGX_VAANI_REDIS_ROLE_UNKNOWN;
    }

    ngx_vaani_redis_list_poll(list);
}


/*
 * Asks all servers, except those that are being asked already.
 */

static void
ngx_vaani_redis_list_poll(ngx_vaani_redis_list_t *list)
{
    ngx_uint_t                 n;
    ngx_vaani_redis_member_t  *member;

    list->graced = 0;

    ngx_add_timer(&list->timer, NGX_VAANI_REDIS_POLL_EVERY
                                + ngx_random() % NGX_VAANI_REDIS_MAX_BACKOFF);

    for (n = 0; n < list->redis->nurls; n++) {
        member = &list->members[n];

        if (member->role == NGX_VAANI_REDIS_ROLE_ASKED) {
            continue;
        }

        member->role = NGX_VAANI_REDIS_ROLE_ASKED;

        ngx_vaani_redis_watch_open(&member->watch, &list->redis->urls[n]);
    }
}


static void
ngx_vaani_redis_list_lost(ngx_vaani_redis_watch_t *watch)
{
    ngx_vaani_redis_member_t *member = watch->data;

    ngx_vaani_redis_list_t  *list;

    list = member->list;

    member->role = NGX_VAANI_REDIS_ROLE_NONE;
    member->shown = NGX_VAANI_REDIS_SHOWN_UNREACHABLE;

    ngx_vaani_redis_show(list->redis);

    ngx_vaani_redis_list_decide(list);
}


static void
ngx_vaani_redis_list_role(ngx_vaani_redis_watch_t *watch, redisReply *reply)
{
    uint64_t                   skipped;
    vaani_role_t               role;
    ngx_vaani_redis_member_t  *member;

    member = watch->data;

    if (reply->type == REDIS_REPLY_ERROR
        && vaani_pace(&member->refused, ngx_current_msec,
                      NGX_VAANI_REDIS_REFUSED_EVERY, &skipped))
    {
        ngx_log_error(NGX_LOG_ERR, &watch->conn.log, 0,
                      "vaani: %V does not report its role; check that the ACL "
                      "allows \"+role\" or \"+info\"",
                      &watch->node.url.name);
    }

    if (vaani_role_read(reply, &role) != VAANI_OK) {
        member->role = NGX_VAANI_REDIS_ROLE_NONE;
        member->shown = NGX_VAANI_REDIS_SHOWN_UNKNOWN;

    } else if (role.kind == VAANI_ROLE_MASTER) {
        member->role = NGX_VAANI_REDIS_ROLE_MASTER;
        member->shown = NGX_VAANI_REDIS_SHOWN_MASTER;

    } else {
        member->role = NGX_VAANI_REDIS_ROLE_REPLICA;
        member->shown = (role.kind == VAANI_ROLE_REPLICA)
                        ? NGX_VAANI_REDIS_SHOWN_REPLICA
                        : NGX_VAANI_REDIS_SHOWN_UNKNOWN;
    }

    ngx_vaani_redis_show(member->list->redis);

    ngx_vaani_redis_watch_close(watch);

    ngx_vaani_redis_list_decide(member->list);
}


static void
ngx_vaani_redis_list_decide(ngx_vaani_redis_list_t *list)
{
    ngx_uint_t  chosen, pending;

    if (ngx_vaani_redis_list_stays(list)) {
        ngx_vaani_redis_list_rivals(list);
        return;
    }

    chosen = ngx_vaani_redis_list_choose(list, &pending);

    if (chosen == NGX_VAANI_REDIS_NOBODY) {

        if (!pending) {
            list->current = NGX_VAANI_REDIS_NOBODY;

            ngx_vaani_redis_no_master(list->redis,
                                      "has no master (no server of the list "
                                      "is a master)");
        }

        return;
    }

    /* a server that is listed before it may be a master, too */

    if (pending && !list->graced) {

        if (!list->grace.timer_set) {
            ngx_add_timer(&list->grace, NGX_VAANI_REDIS_GRACE);
        }

        return;
    }

    list->current = chosen;

    ngx_vaani_redis_found_master(list->redis, &list->redis->urls[chosen],
                                 NULL, 0);

    ngx_vaani_redis_list_rivals(list);
}


/*
 * Whether no other server has to be considered: the connections of a master
 * stay there, even if another server says that it is a master.
 */

static ngx_uint_t
ngx_vaani_redis_list_stays(ngx_vaani_redis_list_t *list)
{
    ngx_uint_t               n, ready;
    ngx_vaani_redis_node_t  *node;

    if (list->current == NGX_VAANI_REDIS_NOBODY) {
        return 0;
    }

    node = list->redis->nodes[0];
    ready = 1;

    for (n = 0; n < list->redis->nconnections; n++) {
        if (node->conns[n].state != NGX_VAANI_REDIS_READY) {
            ready = 0;
        }
    }

    switch (list->members[list->current].role) {

    case NGX_VAANI_REDIS_ROLE_MASTER:

        /* connections that wait for this connect */

        ngx_vaani_redis_found_master(list->redis,
                                     &list->redis->urls[list->current],
                                     NULL, 0);
        return 1;

    case NGX_VAANI_REDIS_ROLE_REPLICA:
        return 0;

    default:
        return ready;
    }
}


/*
 * Returns the first one that is a master.  *pending: a server before it may be
 * a master, too; or, if none is found, any server may be.
 */

static ngx_uint_t
ngx_vaani_redis_list_choose(ngx_vaani_redis_list_t *list, ngx_uint_t *pending)
{
    ngx_uint_t  n;

    *pending = 0;

    for (n = 0; n < list->redis->nurls; n++) {

        switch (list->members[n].role) {

        case NGX_VAANI_REDIS_ROLE_MASTER:
            return n;

        case NGX_VAANI_REDIS_ROLE_ASKED:
            *pending = 1;
            break;

        default:
            break;
        }
    }

    return NGX_VAANI_REDIS_NOBODY;
}


/*
 * Logs that there are several masters, once as long as that lasts.
 */

static void
ngx_vaani_redis_list_rivals(ngx_vaani_redis_list_t *list)
{
    ngx_uint_t  n, rivals;

    rivals = 0;

    for (n = 0; n < list->redis->nurls; n++) {

        if (list->members[n].role == NGX_VAANI_REDIS_ROLE_ASKED) {
            return;
        }

        if (n != list->current
            && list->members[n].role == NGX_VAANI_REDIS_ROLE_MASTER)
        {
            rivals++;

            if (!list->rivals) {
                ngx_log_error(NGX_LOG_CRIT, list->timer.log, 0,
                              "vaani: %V and %V are both masters; events are "
                              "sent to the former",
                              &list->redis->urls[list->current].name,
                              &list->redis->urls[n].name);
            }
        }
    }

    list->rivals = (rivals != 0);
}


/*
 * The connected server, and the others with the roles that they reported.
 */

static void
ngx_vaani_redis_list_show(ngx_vaani_redis_t *redis,
    ngx_vaani_redis_table_t *table)
{
    ngx_str_t               *name;
    ngx_uint_t               n, role, others;
    ngx_vaani_redis_list_t  *list;
    ngx_vaani_redis_node_t  *node, *there;

    list = redis->state;
    node = redis->nodes[0];

    for (others = 0; others < 2; others++) {
        for (n = 0; n < redis->nurls; n++) {
            name = &redis->urls[n].name;
            role = list->members[n].shown;
            there = NULL;

            if (node->listed && node->url.name.len == name->len
                && ngx_memcmp(node->url.name.data, name->data, name->len) == 0)
            {
                there = node;

                /*
                 * the server that accepts commands is one, even if it reports
                 * no role
                 */

                if (ngx_vaani_redis_nready(node)) {
                    role = NGX_VAANI_REDIS_SHOWN_MASTER;
                }
            }

            if ((there == NULL) == others) {
                ngx_vaani_redis_show_node(redis, table, name, role, there);
            }
        }
    }
}


static void
ngx_vaani_redis_list_timer(ngx_event_t *ev)
{
    ngx_vaani_redis_list_poll(ev->data);
}


static void
ngx_vaani_redis_list_grace(ngx_event_t *ev)
{
    ngx_vaani_redis_list_t *list = ev->data;

    list->graced = 1;

    ngx_vaani_redis_list_decide(list);
}
