
/*
 * Servers, a worker's connections to each, and the forms, which find the
 * server of a key: private to src/redis.
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
    ngx_vaani_redis_url_t       url;            /* its address */
    ngx_vaani_redis_conn_t     *conns;          /* redis->nconnections */

    /* url refers to these if the URL is not of the configuration */

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
    ngx_msec_t                  used;           /* time of the last redirect to
                                                   it */
    unsigned                    identified:1;   /* id is known */
    unsigned                    listed:1;       /* in the table; or found */
    unsigned                    was_listed:1;   /* in the previous one */
    unsigned                    leaving:1;      /* to be closed when idle */
    unsigned                    replaced:1;     /* another one took over */

    /* with a list or Sentinels */

    unsigned                    wrong:1;        /* it is not the master */
    unsigned                    hinted:1;       /* it recently named the
                                                   master */
};


/*
 * Functions that depend on the form, see ngx_vaani_redis_form_e; each may be
 * NULL.
 */

struct ngx_vaani_redis_actions_s {

    /* called when a worker starts; returns NGX_OK or NGX_ERROR */
    ngx_int_t                 (*init)(ngx_vaani_redis_t *redis,
                                      ngx_cycle_t *cycle);
    void                      (*exit)(ngx_vaani_redis_t *redis);

    /*
     * Finds the address for a connection, and calls ngx_vaani_redis_resolve()
     * or ngx_vaani_redis_fail(), immediately or later.  NULL: use the url of
     * its node.
     */
    void                      (*locate)(ngx_vaani_redis_conn_t *conn);

    /* adds commands to the set-up.  Returns NGX_OK or NGX_ERROR (no memory) */
    ngx_int_t                 (*greet)(ngx_vaani_redis_conn_t *conn);

    /*
     * A command got an error reply.  Returns NGX_OK if the function has taken
     * the command, or NGX_DECLINED.
     */
    ngx_int_t                 (*refused)(ngx_vaani_redis_conn_t *conn,
                                         ngx_vaani_redis_cmd_t *cmd,
                                         ngx_vaani_redis_action_e action,
                                         redisReply *reply);

    /* a connection became ready */
    void                      (*ready)(ngx_vaani_redis_conn_t *conn);

    /*
     * A connection was closed because it broke, was too slow, or could not be
     * made.  Its commands are in conn->waiting; the function may take them.
     */
    void                      (*lost)(ngx_vaani_redis_conn_t *conn);

    /* a server that is not the master names this one as the master */
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
 * ngx_vaani_redis_show.c: the table of servers, see ngx_vaani_redis_table_t
 */

void ngx_vaani_redis_show_init(ngx_vaani_redis_t *redis, ngx_log_t *log);
void ngx_vaani_redis_show_exit(ngx_vaani_redis_t *redis);

/* marks a change; the table is written at the end of this iteration */
void ngx_vaani_redis_show(ngx_vaani_redis_t *redis);

/*
 * Shows one server; node: NULL if there are no connections to it.  A name that
 * was shown before keeps its role.
 */
void ngx_vaani_redis_show_node(ngx_vaani_redis_t *redis,
    ngx_vaani_redis_table_t *table, ngx_str_t *name, ngx_uint_t role,
    ngx_vaani_redis_node_t *node);

/* how many of its connections are ready */
ngx_uint_t ngx_vaani_redis_nready(ngx_vaani_redis_node_t *node);


/*
 * ngx_vaani_redis_node.c
 */

/* NULL if no node has this number */
ngx_vaani_redis_conn_t *ngx_vaani_redis_conn(ngx_vaani_redis_t *redis,
    ngx_uint_t lane);

/*
 * Creates a node, whose connections are not opened yet, with malloc(). Returns
 * NULL if there is no memory.
 */
ngx_vaani_redis_node_t *ngx_vaani_redis_create_node(ngx_vaani_redis_t *redis,
    ngx_uint_t number, ngx_log_t *log);
void ngx_vaani_redis_free_node(ngx_vaani_redis_node_t *node);

/*
 * Sets the address of a node: a name or an address, as text, without brackets.
 * Returns NGX_OK, or NGX_ERROR if the text is too long.
 */
ngx_int_t ngx_vaani_redis_place(ngx_vaani_redis_node_t *node,
    const char *host, in_port_t port);
ngx_uint_t ngx_vaani_redis_is_at(ngx_vaani_redis_node_t *node,
    const char *host, in_port_t port);

/*
 * Writes the URL of an address, at most NGX_VAANI_REDIS_NAME_LEN bytes.
 * Returns its end.
 */
u_char *ngx_vaani_redis_print_place(u_char *dst, ngx_uint_t tls,
    const char *host, in_port_t port);


/*
 * ngx_vaani_redis_watch.c: a connection for questions about servers
 *
 * Its owner opens it to one address after the other and is told the result.
 * It does not reconnect by itself.
 */

/*
 * kinds of failures with a log line of their own, and the period of each, ms
 */

#define NGX_VAANI_REDIS_NEWS            4
#define NGX_VAANI_REDIS_NEWS_EVERY      10000

struct ngx_vaani_redis_watch_s {
    ngx_vaani_redis_node_t      node;
    ngx_vaani_redis_conn_t      conn;
    void                       *data;
    ngx_uint_t                  informed;       /* the role was requested by
                                                   INFO */

    /* the last log line, and whether it was the last event */

    struct {
        uint32_t                failure;
        ngx_msec_t              time;           /* 0: never */
    }                           news[NGX_VAANI_REDIS_NEWS];
    ngx_uint_t                  told;

    /* its credentials, may be empty */

    ngx_str_t                  *user;
    ngx_str_t                  *password;

    /* questions can be sent */
    void                      (*ready)(ngx_vaani_redis_watch_t *watch);

    /*
     * it was closed, and questions remain unanswered; never called by open()
     */
    void                      (*lost)(ngx_vaani_redis_watch_t *watch);

    /*
     * The answer to ngx_vaani_redis_ask_role(), see vaani_role_read(); it may
     * be an error.  The reply is freed after the call.
     */
    void                      (*role)(ngx_vaani_redis_watch_t *watch,
                                      redisReply *reply);

    /*
     * A message of a subscription; the reply is freed after the call.  NULL:
     * there is no subscription, and messages are ignored.
     */
    void                      (*pushed)(ngx_vaani_redis_watch_t *watch,
                                        redisReply *reply);
};

void ngx_vaani_redis_watch_init(ngx_vaani_redis_watch_t *watch,
    ngx_vaani_redis_t *redis, ngx_log_t *log);

/* to a URL of the configuration, or to a node's address */
void ngx_vaani_redis_watch_open(ngx_vaani_redis_watch_t *watch,
    ngx_vaani_redis_url_t *url);
void ngx_vaani_redis_watch_close(ngx_vaani_redis_watch_t *watch);

/*
 * Sends a question.  Returns NGX_OK; or NGX_ERROR, and the handler is never
 * called.
 */
ngx_int_t ngx_vaani_redis_watch_ask(ngx_vaani_redis_watch_t *watch,
    ngx_str_t *args, ngx_uint_t nargs, ngx_vaani_redis_handler_pt handler);

/*
 * ngx_vaani_redis_lost.c
 *
 * Whether a failure was not logged recently; marks it as logged.  A watch
 * moves from address to address, and each may repeatedly fail for its own
 * reason.
 */
ngx_uint_t ngx_vaani_redis_is_news(ngx_vaani_redis_watch_t *watch,
    uint32_t failure);


/*
 * The forms, one file each.
 */

extern ngx_vaani_redis_actions_t  ngx_vaani_redis_list_actions;
extern ngx_vaani_redis_actions_t  ngx_vaani_redis_sentinel_actions;
extern ngx_vaani_redis_actions_t  ngx_vaani_redis_cluster_actions;

/*
 * ngx_vaani_redis_role.c: shared by lists and Sentinels: one node that must be
 * a master
 */

/*
 * Asks for the role or, if the ACL does not allow that, for INFO, and calls
 * watch->role(); or watch->lost(), also if there is no memory.
 */
void ngx_vaani_redis_ask_role(ngx_vaani_redis_watch_t *watch);

/*
 * Actions of both forms: the set-up asks for the role, and commands refused by
 * a demoted master wait for the new one.
 */
ngx_int_t ngx_vaani_redis_greet_master(ngx_vaani_redis_conn_t *conn);
ngx_int_t ngx_vaani_redis_refused_by_replica(ngx_vaani_redis_conn_t *conn,
    ngx_vaani_redis_cmd_t *cmd, ngx_vaani_redis_action_e action,
    redisReply *reply);

/*
 * Sets the address of the master.  Connections that wait for it, and those to
 * another address, connect there. url may be that of the configuration.
 */
void ngx_vaani_redis_found_master(ngx_vaani_redis_t *redis,
    ngx_vaani_redis_url_t *url, const char *host, in_port_t port);

/* the master is unknown: the connections that wait for it fail */
void ngx_vaani_redis_no_master(ngx_vaani_redis_t *redis, char *why);


#endif /* _NGX_VAANI_REDIS_NODE_H_INCLUDED_ */
