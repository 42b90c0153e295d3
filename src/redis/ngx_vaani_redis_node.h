
/*
 * Servers, a worker's connections to each, and who finds out which server
 * serves what: private to src/redis.
 */


#ifndef _NGX_VAANI_REDIS_NODE_H_INCLUDED_
#define _NGX_VAANI_REDIS_NODE_H_INCLUDED_


#include "ngx_vaani_redis_conn.h"
#include "../core/vaani_slot.h"


/*
 * A server, and a worker's connections to it.
 */

#define NGX_VAANI_REDIS_HOST_LEN    256
#define NGX_VAANI_REDIS_NAME_LEN    (NGX_VAANI_REDIS_HOST_LEN                 \
                                     + sizeof("rediss://[]:65535"))

struct ngx_vaani_redis_node_s {
    ngx_vaani_redis_t          *redis;
    ngx_uint_t                  number;
    ngx_vaani_redis_url_t       url;            /* where it is */
    ngx_vaani_redis_conn_t     *conns;          /* redis->nconnections */

    /* url refers to these if the place isn't of the configuration */

    u_char                      host[NGX_VAANI_REDIS_HOST_LEN];
    u_char                      name[NGX_VAANI_REDIS_NAME_LEN];
    ngx_addr_t                  addr;
    ngx_sockaddr_t              sockaddr;
    u_char                      addr_name[NGX_SOCKADDR_STRLEN];

    /* in a cluster */

    u_char                      id[40];         /* hexadecimal */
    u_char                      scope[NGX_VAANI_REDIS_SCOPE_LEN];
    uint64_t                    epoch;          /* its configuration's */
    ngx_uint_t                  nslots;
    u_char                      tag[VAANI_SLOT_TAG_LEN];
    size_t                      tag_len;
    ngx_msec_t                  used;           /* when it was redirected to */
    unsigned                    identified:1;   /* id is known */
    unsigned                    listed:1;       /* in the table; or found */
    unsigned                    was_listed:1;   /* in the one before */
    unsigned                    leaving:1;      /* to be closed when idle */
    unsigned                    replaced:1;     /* another one took over */

    /* with a list or Sentinels */

    unsigned                    wrong:1;        /* it isn't the master */
    unsigned                    hinted:1;       /* it said lately who is */
};


/*
 * What depends on the form, see ngx_vaani_redis_form_e; each may be NULL.
 */

struct ngx_vaani_redis_actions_s {

    /* in a worker that begins; returns NGX_OK or NGX_ERROR */
    ngx_int_t                 (*init)(ngx_vaani_redis_t *redis,
                                      ngx_cycle_t *cycle);
    void                      (*exit)(ngx_vaani_redis_t *redis);

    /*
     * Finds out where a connection is to go, and calls, at once or later,
     * ngx_vaani_redis_resolve() or ngx_vaani_redis_fail().  NULL: to the url
     * of its node.
     */
    void                      (*locate)(ngx_vaani_redis_conn_t *conn);

    /* adds commands to the set-up.  Returns NGX_OK or NGX_ERROR (no memory) */
    ngx_int_t                 (*greet)(ngx_vaani_redis_conn_t *conn);

    /*
     * A command was answered with an error.  Returns NGX_OK if it has taken the
     * command, or NGX_DECLINED.
     */
    ngx_int_t                 (*refused)(ngx_vaani_redis_conn_t *conn,
                                         ngx_vaani_redis_cmd_t *cmd,
                                         ngx_vaani_redis_action_e action,
                                         redisReply *reply);

    /* a connection got ready */
    void                      (*ready)(ngx_vaani_redis_conn_t *conn);

    /*
     * A connection is closed that broke, was too slow, or could not be made;
     * its commands are in conn->waiting.  It may take them.
     */
    void                      (*lost)(ngx_vaani_redis_conn_t *conn);

    /* a server that isn't the master says that this one is */
    void                      (*hint)(ngx_vaani_redis_t *redis,
                                      const char *host, in_port_t port);

    /*
     * Shows servers, see ngx_vaani_redis_show_node(), the most important ones
     * first.  NULL: the only node.
     */
    void                      (*show)(ngx_vaani_redis_t *redis,
                                      ngx_vaani_redis_table_t *table);
};


/*
 * ngx_vaani_redis_show.c: what is shown of servers, see ngx_vaani_redis_table_t
 */

void ngx_vaani_redis_show_init(ngx_vaani_redis_t *redis, ngx_log_t *log);
void ngx_vaani_redis_show_exit(ngx_vaani_redis_t *redis);

/* something has changed, and is written when this turn is over */
void ngx_vaani_redis_show(ngx_vaani_redis_t *redis);

/*
 * Shows one; node: if there are connections to it, or NULL.  A name that was
 * shown before keeps its role.
 */
void ngx_vaani_redis_show_node(ngx_vaani_redis_t *redis,
    ngx_vaani_redis_table_t *table, ngx_str_t *name, ngx_uint_t role,
    ngx_vaani_redis_node_t *node);

/* how many of its connections are ready */
ngx_uint_t ngx_vaani_redis_nready(ngx_vaani_redis_node_t *node);


/*
 * ngx_vaani_redis_node.c
 */

/* NULL if there is none of this number */
ngx_vaani_redis_conn_t *ngx_vaani_redis_conn(ngx_vaani_redis_t *redis,
    ngx_uint_t lane);

/*
 * Makes a node, with connections that aren't opened yet; memory is of malloc().
 * Returns NULL if there is none.
 */
ngx_vaani_redis_node_t *ngx_vaani_redis_create_node(ngx_vaani_redis_t *redis,
    ngx_uint_t number, ngx_log_t *log);
void ngx_vaani_redis_free_node(ngx_vaani_redis_node_t *node);

/*
 * Sets where a node is: a name or an address, as text, without brackets.
 * Returns NGX_OK, or NGX_ERROR if the text is too long.
 */
ngx_int_t ngx_vaani_redis_place(ngx_vaani_redis_node_t *node,
    const char *host, in_port_t port);
ngx_uint_t ngx_vaani_redis_is_at(ngx_vaani_redis_node_t *node,
    const char *host, in_port_t port);

/*
 * Writes the URL of a place, NGX_VAANI_REDIS_NAME_LEN bytes at most.  Returns
 * its end.
 */
u_char *ngx_vaani_redis_print_place(u_char *dst, ngx_uint_t tls,
    const char *host, in_port_t port);


/*
 * ngx_vaani_redis_watch.c: a connection to ask who serves what
 *
 * It is opened to one place after the other by its owner, who is told how that
 * went, and isn't opened again by itself.
 */

/* kinds of failures that are told apart in the log, and how often each, ms */

#define NGX_VAANI_REDIS_NEWS            4
#define NGX_VAANI_REDIS_NEWS_EVERY      10000

struct ngx_vaani_redis_watch_s {
    ngx_vaani_redis_node_t      node;
    ngx_vaani_redis_conn_t      conn;
    void                       *data;
    ngx_uint_t                  informed;       /* the role was asked by INFO */

    /* what was logged lately, and whether that was the last thing */

    struct {
        uint32_t                failure;
        ngx_msec_t              time;           /* 0: never */
    }                           news[NGX_VAANI_REDIS_NEWS];
    ngx_uint_t                  told;

    /* whose credentials, may be empty */

    ngx_str_t                  *user;
    ngx_str_t                  *password;

    /* questions can be asked */
    void                      (*ready)(ngx_vaani_redis_watch_t *watch);

    /* it's closed, and what was asked isn't answered; never called by open() */
    void                      (*lost)(ngx_vaani_redis_watch_t *watch);

    /*
     * The answer to ngx_vaani_redis_ask_role(), see vaani_role_read(); it may
     * be an error.  The reply is freed after the call.
     */
    void                      (*role)(ngx_vaani_redis_watch_t *watch,
                                      redisReply *reply);

    /*
     * What was subscribed to; the reply is freed after the call.  NULL: nothing
     * was, and it's ignored.
     */
    void                      (*pushed)(ngx_vaani_redis_watch_t *watch,
                                        redisReply *reply);
};

void ngx_vaani_redis_watch_init(ngx_vaani_redis_watch_t *watch,
    ngx_vaani_redis_t *redis, ngx_log_t *log);

/* to a URL of the configuration, or to where a node is */
void ngx_vaani_redis_watch_open(ngx_vaani_redis_watch_t *watch,
    ngx_vaani_redis_url_t *url);
void ngx_vaani_redis_watch_close(ngx_vaani_redis_watch_t *watch);

/*
 * Asks something.  Returns NGX_OK; or NGX_ERROR, and the handler is never
 * called.
 */
ngx_int_t ngx_vaani_redis_watch_ask(ngx_vaani_redis_watch_t *watch,
    ngx_str_t *args, ngx_uint_t nargs, ngx_vaani_redis_handler_pt handler);


/*
 * The forms, a file each.
 */

extern ngx_vaani_redis_actions_t  ngx_vaani_redis_list_actions;
extern ngx_vaani_redis_actions_t  ngx_vaani_redis_sentinel_actions;
extern ngx_vaani_redis_actions_t  ngx_vaani_redis_cluster_actions;

/*
 * ngx_vaani_redis_role.c: what lists and Sentinels have in common, a node that
 * is to be a master
 */

/*
 * Asks for the role, or if the ACL doesn't allow that, for information, and
 * calls watch->role(); or watch->lost(), also if there is no memory.
 */
void ngx_vaani_redis_ask_role(ngx_vaani_redis_watch_t *watch);

/*
 * Actions of both forms: the role is asked in the set-up, and commands that a
 * demoted master refused wait for the one that took over.
 */
ngx_int_t ngx_vaani_redis_greet_master(ngx_vaani_redis_conn_t *conn);
ngx_int_t ngx_vaani_redis_refused_by_replica(ngx_vaani_redis_conn_t *conn,
    ngx_vaani_redis_cmd_t *cmd, ngx_vaani_redis_action_e action,
    redisReply *reply);

/*
 * The master is there now: the connections go there, those that wait for that
 * and those to another place.  url may be that of the configuration.
 */
void ngx_vaani_redis_found_master(ngx_vaani_redis_t *redis,
    ngx_vaani_redis_url_t *url, const char *host, in_port_t port);

/* nobody knows: the connections that wait for that fail */
void ngx_vaani_redis_no_master(ngx_vaani_redis_t *redis, char *why);


#endif /* _NGX_VAANI_REDIS_NODE_H_INCLUDED_ */
