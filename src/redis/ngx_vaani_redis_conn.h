
/*
 * A connection and its commands: private to src/redis.
 */


#ifndef _NGX_VAANI_REDIS_CONN_H_INCLUDED_
#define _NGX_VAANI_REDIS_CONN_H_INCLUDED_


#include "ngx_vaani_redis.h"
#include "../core/vaani_pace.h"


typedef struct ngx_vaani_redis_watch_s  ngx_vaani_redis_watch_t;


typedef enum {
    NGX_VAANI_REDIS_CLOSED = 0,     /* waits for the reconnect timer */
    NGX_VAANI_REDIS_LOCATING,       /* asks for the master, or is about to */
    NGX_VAANI_REDIS_RESOLVING,
    NGX_VAANI_REDIS_CONNECTING,
    NGX_VAANI_REDIS_HANDSHAKING,    /* TLS */
    NGX_VAANI_REDIS_SETTING_UP,     /* AUTH, SELECT, SCRIPT LOAD */
    NGX_VAANI_REDIS_READY
} ngx_vaani_redis_state_e;


/* limits of a watch: elements of all arrays in a reply, and bytes */

#define NGX_VAANI_REDIS_MAX_TABLE       (512 * 1024)
#define NGX_VAANI_REDIS_MAX_TABLE_SIZE  (8 * 1024 * 1024)


/* maximum length of a text about TLS with OpenSSL's reason, bytes */

#define NGX_VAANI_REDIS_MAX_WHAT        512


/*
 * A command owns its bytes, in the same allocation, until its reply arrives or
 * it is given up, because they may have to be sent again.
 */

struct ngx_vaani_redis_cmd_s {
    ngx_queue_t                 queue;

    ngx_vaani_redis_handler_pt  handler;        /* NULL: the result is
                                                   ignored */
    void                       *data;

    ngx_msec_t                  deadline;       /* of ngx_current_msec */
    uint64_t                    sent;           /* of ngx_vaani_redis_now() */
    ngx_uint_t                  strikes;

    /* in a cluster: */

    unsigned                    slot:14;        /* of its key */
    unsigned                    connection:8;   /* index within its server */
    unsigned                    hops:4;         /* redirects and parkings */

    unsigned                    setup:1;        /* internal to the connection */
    unsigned                    block:1;        /* of the usual size */
    unsigned                    once:1;         /* only in this life */
    unsigned                    asking:1;       /* preceded by ASKING */

    /*
     * For a command of the set-up: checks the reply.  Returns NGX_OK;
     * NGX_DECLINED, which ends the set-up if the reply is an error; or
     * NGX_DONE if the connection was closed.  NULL: NGX_DECLINED.
     */
    ngx_int_t                 (*check)(ngx_vaani_redis_conn_t *conn,
                                       redisReply *reply);

    ngx_chain_t                 out;
    ngx_buf_t                   buf;
};


/*
 * The reaction to an error reply.
 */

typedef enum {
    NGX_VAANI_REDIS_RELOAD = 0,     /* load the script, send again */
    NGX_VAANI_REDIS_RECONNECT,      /* unavailable; another server may work */
    NGX_VAANI_REDIS_WAIT,           /* unavailable for now */
    NGX_VAANI_REDIS_DEFER,          /* this command or key is refused for now;
                                       others may pass */
    NGX_VAANI_REDIS_MOVED,          /* the same; another server has the key */
    NGX_VAANI_REDIS_ASK,            /* it has it for this command */
    NGX_VAANI_REDIS_TRY_AGAIN,      /* the slot is being migrated */
    NGX_VAANI_REDIS_CLUSTER_DOWN,   /* or has no owner */
    NGX_VAANI_REDIS_GIVE_UP         /* it will never be accepted */
} ngx_vaani_redis_action_e;


typedef struct {
    ngx_str_t                   code;
    ngx_vaani_redis_action_e    action;
    char                       *advice;     /* NULL: the code is not known */
} ngx_vaani_redis_error_t;


struct ngx_vaani_redis_conn_s {
    ngx_vaani_redis_t          *redis;
    ngx_vaani_redis_node_t     *node;
    ngx_vaani_redis_watch_t    *watch;          /* its server, or NULL */
    ngx_uint_t                  lane;
    ngx_vaani_redis_state_e     state;
    ngx_log_t                   log;
    ngx_log_t                   peer_log;       /* of nginx's own I/O */

    /*
     * Called when a step is finished.  The text "what" is the reason of a
     * failure, or NULL.  See ngx_vaani_redis_fail().
     */

    void                      (*resolve_handler)(ngx_vaani_redis_conn_t *conn,
                                                 ngx_err_t err, char *what);
#if (NGX_SSL)
    void                      (*handshake_handler)(
                                                 ngx_vaani_redis_conn_t *conn,
                                                 ngx_err_t err, char *what);
#endif

    ngx_peer_connection_t       peer;
    ngx_resolver_ctx_t         *resolving;
    ngx_addr_t                  addr;           /* to connect to */
    ngx_sockaddr_t              resolved;
    u_char                      resolved_name[NGX_SOCKADDR_STRLEN];
    ngx_uint_t                  tries;          /* alternate among addresses */
    ngx_uint_t                  naddrs;
    ngx_uint_t                  nrefused;       /* tried one after another */

    redisReader                *reader;
    size_t                      nread;          /* of an unfinished reply, */
    size_t                      nelements;

    ngx_queue_t                 waiting;        /* until READY */
    ngx_queue_t                 inflight;       /* in the order of replies */
    ngx_queue_t                 lapsed;         /* sent once; no reply yet */
    ngx_uint_t                  ncommands;      /* in both, without set-up */
    size_t                      nbytes;

    ngx_chain_t                *out;            /* of inflight, yet to send */
    ngx_chain_t               **last_out;

    ngx_event_t                 flush;          /* posted */
    uint64_t                    sent;           /* when it was posted */
    ngx_event_t                 deadline;       /* of the commands */
    ngx_event_t                 setup;          /* deadline until READY */
    ngx_event_t                 reconnect;

    ngx_uint_t                  nsetup;         /* replies still expected */
    ngx_uint_t                  ncloses;        /* identifies the connection */
    ngx_msec_t                  backoff;
    ngx_msec_t                  pause;          /* after it was demoted */
    ngx_msec_t                  ready_since;

    uint32_t                    failure;        /* logged last, its digest */

    /* the error reply that was logged last, see ngx_vaani_redis_log_error() */
    const ngx_vaani_redis_error_t  *error;
    vaani_pace_t                pace;

#if (NGX_SSL)
    ngx_ssl_session_t          *session;        /* to be resumed, or NULL */
    unsigned long               ssl_error;      /* of OpenSSL, 0: none */
    ngx_err_t                   ssl_errno;
    ngx_uint_t                  alert;          /* of Redis, 0: none */
    char                        what[NGX_VAANI_REDIS_MAX_WHAT];
#endif

    unsigned                    down:1;         /* the last attempt failed */
    unsigned                    unresolved:1;   /* the last look-up failed */
    unsigned                    refusing:1;     /* stop after connecting */
    unsigned                    proved:1;       /* it answered a command */
    unsigned                    loading:1;      /* a SCRIPT LOAD is sent */
    unsigned                    condemned:1;    /* to be closed when idle */
    unsigned                    demoted:1;      /* the same; its commands wait
                                                   for the next one */
    unsigned                    moved:1;        /* and not ready since then */
    unsigned                    exiting:1;      /* closed for good */

    ngx_uint_t                  life;           /* see ngx_vaani_redis_life() */
};


/*
 * Order of the files: a file calls only functions of files that come before
 * it.  It notifies a later file through a handler which that file has set.
 */


/*
 * ngx_vaani_redis_stats.c: counters, see ngx_vaani_redis_stats_t
 */

/* kinds of errors after the codes of ngx_vaani_redis_error.c */

#define NGX_VAANI_REDIS_OTHER           19
#define NGX_VAANI_REDIS_CONNECT         (NGX_VAANI_REDIS_OTHER + 1)
#define NGX_VAANI_REDIS_LOST            (NGX_VAANI_REDIS_OTHER + 2)
#define NGX_VAANI_REDIS_NO_REPLY        (NGX_VAANI_REDIS_OTHER + 3)

/* at the start of a worker */
void ngx_vaani_redis_stats_init(ngx_vaani_redis_t *redis);

/* changes the number of connections to be made by n */
void ngx_vaani_redis_stats_connections(ngx_vaani_redis_t *redis, ngx_int_t n);

/* the connection became ready, or is no longer ready */
void ngx_vaani_redis_stats_ready(ngx_vaani_redis_conn_t *conn,
    ngx_uint_t ready);

/* changes the number of commands and bytes that wait or are in progress */
void ngx_vaani_redis_stats_commands(ngx_vaani_redis_conn_t *conn, ngx_int_t n,
    ngx_int_t bytes);

/* increments a counter, which is named by its member */
#define ngx_vaani_redis_count(redis, member)                                  \
    ngx_vaani_redis_stats_count(redis, offsetof(ngx_vaani_redis_stats_t,      \
                                                member))

void ngx_vaani_redis_stats_count(ngx_vaani_redis_t *redis, size_t counter);

/* a command was answered after so many us */
void ngx_vaani_redis_stats_round_trip(ngx_vaani_redis_conn_t *conn,
    uint64_t us);

/* counts an error of kind n; code and err may be empty, or NULL and 0 */
void ngx_vaani_redis_stats_error(ngx_vaani_redis_conn_t *conn, ngx_uint_t n,
    const ngx_str_t *code, ngx_err_t err, const char *text);

/* a monotonic clock, us */
uint64_t ngx_vaani_redis_now(void);


/*
 * ngx_vaani_redis_error.c
 *
 * Classifies the text of an error reply.  Never returns NULL.
 */
const ngx_vaani_redis_error_t *ngx_vaani_redis_error(u_char *text, size_t len);

/*
 * Counts an error reply and logs it.  A repeated error is logged once per
 * period.
 */
void ngx_vaani_redis_log_error(ngx_vaani_redis_conn_t *conn,
    const ngx_vaani_redis_error_t *error, redisReply *reply);


/*
 * ngx_vaani_redis_command.c
 *
 * Formats a command of the protocol (RESP2) from two lists of arguments, which
 * are copied; either list may be empty.  Returns NULL if there is no memory.
 * The command is freed with ngx_vaani_redis_free_command().
 */
ngx_vaani_redis_cmd_t *ngx_vaani_redis_command(const ngx_str_t *first,
    ngx_uint_t nfirst, const ngx_str_t *rest, ngx_uint_t nrest,
    ngx_log_t *log);

void ngx_vaani_redis_free_command(ngx_vaani_redis_cmd_t *cmd);

/*
 * Ends a command that belongs to no connection: frees it, and calls its
 * handler.
 */
void ngx_vaani_redis_end(ngx_vaani_redis_cmd_t *cmd,
    ngx_vaani_redis_status_e status, redisReply *reply, ngx_uint_t lane);

/* frees the cached memory of commands */
void ngx_vaani_redis_free_blocks(void);


/*
 * ngx_vaani_redis_queue.c: the commands of a connection
 */

/*
 * Adds a command to the connection, which then owns it.  Returns
 * NGX_VAANI_REDIS_DONE; with any other status the caller still owns the
 * command.
 */
ngx_vaani_redis_status_e ngx_vaani_redis_send(ngx_vaani_redis_conn_t *conn,
    ngx_vaani_redis_cmd_t *cmd);

/*
 * Adds a command, keeps its deadline, and does not check for room.  The second
 * function removes a command that is in no queue; the caller then owns it.
 */
void ngx_vaani_redis_add_command(ngx_vaani_redis_conn_t *conn,
    ngx_vaani_redis_cmd_t *cmd);
void ngx_vaani_redis_remove_command(ngx_vaani_redis_conn_t *conn,
    ngx_vaani_redis_cmd_t *cmd);

/* whether there is room for another command */
ngx_uint_t ngx_vaani_redis_has_room(ngx_vaani_redis_conn_t *conn,
    ngx_vaani_redis_cmd_t *cmd);

/* whether commands are accepted */
ngx_uint_t ngx_vaani_redis_conn_up(ngx_vaani_redis_conn_t *conn);

/* queues a command for the next write, in any state */
void ngx_vaani_redis_queue(ngx_vaani_redis_conn_t *conn,
    ngx_vaani_redis_cmd_t *cmd);

/*
 * Queues an internal command of the connection, which is never sent again, and
 * passes its reply to check, see ngx_vaani_redis_cmd_t.  Returns NGX_OK or
 * NGX_ERROR (no memory).
 */
ngx_int_t ngx_vaani_redis_add_setup(ngx_vaani_redis_conn_t *conn,
    ngx_str_t *args, ngx_uint_t nargs,
    ngx_int_t (*check)(ngx_vaani_redis_conn_t *conn, redisReply *reply));

/* ends a command, or the commands of a list, that are in no queue */
void ngx_vaani_redis_finish(ngx_vaani_redis_conn_t *conn,
    ngx_vaani_redis_cmd_t *cmd, ngx_vaani_redis_status_e status,
    redisReply *reply);
void ngx_vaani_redis_finish_all(ngx_vaani_redis_conn_t *conn,
    ngx_queue_t *queue, ngx_vaani_redis_status_e status);


/*
 * ngx_vaani_redis_resolve.c
 *
 * Sets conn->addr to an address of its node and calls conn->resolve_handler(),
 * immediately or later.
 */
void ngx_vaani_redis_resolve(ngx_vaani_redis_conn_t *conn);


#if (NGX_SSL)

/*
 * ngx_vaani_redis_ssl.c: the TLS settings
 *
 * Sets the name that the certificate must have: a host name or an address,
 * null-terminated.  Returns NGX_OK; NGX_DECLINED for an address, which must
 * not be sent (RFC 6066); or NGX_ERROR.
 */
ngx_int_t ngx_vaani_redis_ssl_expect_name(X509_VERIFY_PARAM *param,
    u_char *name, size_t len);


/*
 * ngx_vaani_redis_ssl_error.c: causes of TLS failures
 */

/* records errors and alerts of an OpenSSL connection, from its beginning */
void ngx_vaani_redis_ssl_note_errors(ngx_vaani_redis_conn_t *conn);

/*
 * The reasons why a handshake, a read or a write failed; for the latter, *err
 * and what come from the failed call.  They return a text for the log, static
 * or in conn, and set *err to the errno that belongs to it, or 0.
 */
char *ngx_vaani_redis_ssl_refused(ngx_vaani_redis_conn_t *conn,
    ngx_err_t *err);
char *ngx_vaani_redis_ssl_broken(ngx_vaani_redis_conn_t *conn, ngx_err_t *err,
    char *what);


/*
 * ngx_vaani_redis_ssl_handshake.c: the TLS of a connection
 */

/*
 * Starts the handshake of a connected socket and calls
 * conn->handshake_handler() at its end, immediately or later.
 */
void ngx_vaani_redis_ssl_handshake(ngx_vaani_redis_conn_t *conn);

/*
 * sends close_notify without waiting for an answer; frees all but the session
 */
void ngx_vaani_redis_ssl_close(ngx_vaani_redis_conn_t *conn);

/* the next handshake will be a full one */
void ngx_vaani_redis_ssl_forget(ngx_vaani_redis_conn_t *conn);

#endif


/*
 * ngx_vaani_redis_lost.c: handles lost connections
 */

/*
 * Closes a connection that broke or could not be made.  The text "what" is for
 * the log, static or in conn; err is the errno or 0.  After
 * ngx_vaani_redis_lost() a connection that has worked is retried at once, and
 * its commands wait for the new one.  After ngx_vaani_redis_fail() commands
 * are refused until an attempt succeeds.
 */
void ngx_vaani_redis_lost(ngx_vaani_redis_conn_t *conn, ngx_err_t err,
    char *what);
void ngx_vaani_redis_fail(ngx_vaani_redis_conn_t *conn, ngx_err_t err,
    char *what);

/* ngx_vaani_redis_lost() after a failed read or write */
void ngx_vaani_redis_broken(ngx_vaani_redis_conn_t *conn, ngx_err_t err,
    char *what);

/*
 * Closes the connection.  Its commands wait for the next one, in their order.
 */
void ngx_vaani_redis_close(ngx_vaani_redis_conn_t *conn);

/* of conn->deadline: ends commands that have waited too long */
void ngx_vaani_redis_deadline_handler(ngx_event_t *ev);


/*
 * ngx_vaani_redis_write.c: one write per iteration of the event loop
 */

/* writes the queued commands; may end in ngx_vaani_redis_lost() */
void ngx_vaani_redis_flush(ngx_vaani_redis_conn_t *conn);

/* of conn->flush */
void ngx_vaani_redis_flush_handler(ngx_event_t *ev);


/*
 * ngx_vaani_redis_setup.c: from connected to READY
 */

/* sends AUTH, SELECT and SCRIPT LOAD, as far as they are needed */
void ngx_vaani_redis_set_up(ngx_vaani_redis_conn_t *conn);

/* takes the reply to one of them, and frees it */
void ngx_vaani_redis_setup_reply(ngx_vaani_redis_conn_t *conn,
    ngx_vaani_redis_cmd_t *cmd, redisReply *reply);

/* sends SCRIPT LOAD once more.  Returns NGX_OK or NGX_ERROR (no memory) */
ngx_int_t ngx_vaani_redis_load_script(ngx_vaani_redis_conn_t *conn);

/* a number for conn->life that no connection of this worker has had */
ngx_uint_t ngx_vaani_redis_new_life(void);


/*
 * ngx_vaani_redis_reply.c: reads replies
 */

/* a reader with limits, or NULL (no memory) */
redisReader *ngx_vaani_redis_create_reader(ngx_vaani_redis_conn_t *conn);

/*
 * Handles all complete replies in the reader.  Returns NGX_OK, or NGX_DONE if
 * the connection was closed meanwhile.
 */
ngx_int_t ngx_vaani_redis_read_replies(ngx_vaani_redis_conn_t *conn);


/*
 * ngx_vaani_redis_conn.c: the life of the connection
 */

void ngx_vaani_redis_conn_init(ngx_vaani_redis_conn_t *conn,
    ngx_vaani_redis_node_t *node, ngx_uint_t lane, ngx_log_t *log);

/* starts to connect; the connection then reconnects by itself */
void ngx_vaani_redis_connect(ngx_vaani_redis_conn_t *conn);

/* the same, after its node's address changed; its commands wait for that */
void ngx_vaani_redis_move(ngx_vaani_redis_conn_t *conn);

/*
 * Closes, and does not connect again.  Commands without a reply are in
 * conn->waiting then.
 */
void ngx_vaani_redis_shut(ngx_vaani_redis_conn_t *conn);

/* closes for good and drops waiting commands without calling their handlers */
void ngx_vaani_redis_conn_exit(ngx_vaani_redis_conn_t *conn);


#endif /* _NGX_VAANI_REDIS_CONN_H_INCLUDED_ */
