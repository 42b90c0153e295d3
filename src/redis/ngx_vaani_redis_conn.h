
/*
 * One connection to one Redis: private to src/redis.
 */


#ifndef _NGX_VAANI_REDIS_CONN_H_INCLUDED_
#define _NGX_VAANI_REDIS_CONN_H_INCLUDED_


#include "ngx_vaani_redis.h"
#include "../core/vaani_pace.h"


typedef enum {
    NGX_VAANI_REDIS_CLOSED = 0,     /* waits for the reconnect timer */
    NGX_VAANI_REDIS_RESOLVING,
    NGX_VAANI_REDIS_CONNECTING,
    NGX_VAANI_REDIS_HANDSHAKING,    /* TLS */
    NGX_VAANI_REDIS_SETTING_UP,     /* AUTH, SELECT, SCRIPT LOAD */
    NGX_VAANI_REDIS_READY
} ngx_vaani_redis_state_e;


/* a text about TLS with the words of OpenSSL in it, bytes */

#define NGX_VAANI_REDIS_MAX_WHAT        512


/*
 * A command owns its bytes, in the same allocation, until its reply is there
 * or it is given up: they may have to be sent once more.
 */

struct ngx_vaani_redis_cmd_s {
    ngx_queue_t                 queue;

    ngx_vaani_redis_handler_pt  handler;        /* NULL: detached */
    void                       *data;

    ngx_msec_t                  deadline;       /* of ngx_current_msec */
    uint64_t                    sent;           /* of ngx_vaani_redis_now() */
    ngx_uint_t                  strikes;
    unsigned                    setup:1;        /* one of the connection's */
    unsigned                    block:1;        /* of the usual size */
    unsigned                    once:1;         /* not in another life */

    ngx_chain_t                 out;
    ngx_buf_t                   buf;
};


/*
 * What an error reply asks for.
 */

typedef enum {
    NGX_VAANI_REDIS_RELOAD = 0,     /* load the script, send again */
    NGX_VAANI_REDIS_RECONNECT,      /* unavailable, another server may do */
    NGX_VAANI_REDIS_WAIT,           /* unavailable for now */
    NGX_VAANI_REDIS_DEFER,          /* not this command, or not this key, for
                                       now: others may pass */
    NGX_VAANI_REDIS_GIVE_UP         /* it will never be taken */
} ngx_vaani_redis_action_e;


typedef struct {
    ngx_str_t                   code;
    ngx_vaani_redis_action_e    action;
    char                       *advice;     /* NULL: the code isn't known */
} ngx_vaani_redis_error_t;


struct ngx_vaani_redis_conn_s {
    ngx_vaani_redis_t          *redis;
    ngx_uint_t                  lane;
    ngx_vaani_redis_state_e     state;
    ngx_log_t                   log;
    ngx_log_t                   peer_log;       /* of nginx's own I/O */

    ngx_peer_connection_t       peer;
    ngx_resolver_ctx_t         *resolving;
    ngx_addr_t                  addr;           /* to connect to */
    ngx_sockaddr_t              resolved;
    u_char                      resolved_name[NGX_SOCKADDR_STRLEN];
    ngx_uint_t                  tries;          /* choose among addresses */
    ngx_uint_t                  naddrs;
    ngx_uint_t                  nrefused;       /* of them, one after another */

    redisReader                *reader;
    size_t                      nread;          /* of an unfinished reply */

    ngx_queue_t                 waiting;        /* until READY */
    ngx_queue_t                 inflight;       /* in the order of replies */
    ngx_queue_t                 lapsed;         /* sent once, without reply */
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
    ngx_uint_t                  ncloses;        /* tells it from the next one */
    ngx_uint_t                  nloads;         /* the data may be others' */
    ngx_msec_t                  backoff;
    ngx_msec_t                  ready_since;

    uint32_t                    failure;        /* logged last, its digest */

    /* the error reply that was logged last, see ngx_vaani_redis_complain() */
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
    unsigned                    refusing:1;     /* it connects, not more */
    unsigned                    proved:1;       /* it answered a command */
    unsigned                    loading:1;      /* a SCRIPT LOAD is sent */
    unsigned                    condemned:1;    /* to be closed when idle */
    unsigned                    exiting:1;      /* closed for good */
};


/*
 * ngx_vaani_redis_error.c
 *
 * Classifies the text of an error reply.  Never returns NULL.
 */
const ngx_vaani_redis_error_t *ngx_vaani_redis_error(u_char *text, size_t len);

/*
 * The number of a class, from 0; NGX_VAANI_REDIS_OTHER if the text isn't
 * known.  And the code of a number, NULL from there on.
 */
ngx_uint_t ngx_vaani_redis_error_number(const ngx_vaani_redis_error_t *error);
const ngx_str_t *ngx_vaani_redis_error_code(ngx_uint_t n);


/*
 * ngx_vaani_redis_stats.c: what is counted, see ngx_vaani_redis_stats_t
 */

/* kinds of errors behind the classes */

#define NGX_VAANI_REDIS_OTHER           19
#define NGX_VAANI_REDIS_CONNECT         (NGX_VAANI_REDIS_OTHER + 1)
#define NGX_VAANI_REDIS_LOST            (NGX_VAANI_REDIS_OTHER + 2)
#define NGX_VAANI_REDIS_NO_REPLY        (NGX_VAANI_REDIS_OTHER + 3)

/* in a worker that begins */
void ngx_vaani_redis_stats_init(ngx_vaani_redis_t *redis);

/* the connection got ready, or isn't any more */
void ngx_vaani_redis_stats_ready(ngx_vaani_redis_conn_t *conn,
    ngx_uint_t ready);

/* so many commands and bytes more, or less, wait or are under way */
void ngx_vaani_redis_stats_commands(ngx_vaani_redis_conn_t *conn, ngx_int_t n,
    ngx_int_t bytes);

/* a command was replied to, after so many us */
void ngx_vaani_redis_stats_round_trip(ngx_vaani_redis_conn_t *conn,
    uint64_t us);

/* an error of kind n; text is static, and err an errno or 0 */
void ngx_vaani_redis_stats_error(ngx_vaani_redis_conn_t *conn, ngx_uint_t n,
    ngx_err_t err, const char *text);

/* a clock that isn't set, us */
uint64_t ngx_vaani_redis_now(void);


/*
 * ngx_vaani_redis_command.c
 *
 * Makes a command of the protocol (RESP2) of two lists of arguments, either
 * of which may be empty; they are copied.  Returns NULL if there is no memory.
 * The command is freed with ngx_vaani_redis_free_command().
 */
ngx_vaani_redis_cmd_t *ngx_vaani_redis_command(const ngx_str_t *first,
    ngx_uint_t nfirst, const ngx_str_t *rest, ngx_uint_t nrest,
    ngx_log_t *log);

void ngx_vaani_redis_free_command(ngx_vaani_redis_cmd_t *cmd);

/* frees the memory that is kept for later commands */
void ngx_vaani_redis_free_blocks(void);


/*
 * ngx_vaani_redis_conn.c: the life of the connection, and its writes
 */

void ngx_vaani_redis_conn_init(ngx_vaani_redis_conn_t *conn,
    ngx_vaani_redis_t *redis, ngx_uint_t lane, ngx_log_t *log);

/* connects to conn->addr */
void ngx_vaani_redis_connect_addr(ngx_vaani_redis_conn_t *conn);

/* Redis itself can be talked to: takes over the events, begins the set-up */
void ngx_vaani_redis_open(ngx_vaani_redis_conn_t *conn);

/*
 * Gives a command to the connection, which owns it from then on.  Returns
 * NGX_VAANI_REDIS_DONE; any other status leaves the command to the caller.
 */
ngx_vaani_redis_status_e ngx_vaani_redis_send(ngx_vaani_redis_conn_t *conn,
    ngx_vaani_redis_cmd_t *cmd);

/* whether commands are taken */
ngx_uint_t ngx_vaani_redis_conn_up(ngx_vaani_redis_conn_t *conn);

/* queues a command for the next write, whatever the state */
void ngx_vaani_redis_queue(ngx_vaani_redis_conn_t *conn,
    ngx_vaani_redis_cmd_t *cmd);

/* writes what is queued; may end in ngx_vaani_redis_lost() */
void ngx_vaani_redis_flush(ngx_vaani_redis_conn_t *conn);

/*
 * The connection broke, or could not be made; it is closed.  what is a text for
 * the log, static or in conn, err the errno or 0.  After ngx_vaani_redis_lost()
 * a connection that had been good is tried again at once, and its commands wait
 * for that; after ngx_vaani_redis_fail() commands are refused until the next
 * attempt has succeeded.
 */
void ngx_vaani_redis_lost(ngx_vaani_redis_conn_t *conn, ngx_err_t err,
    char *what);
void ngx_vaani_redis_fail(ngx_vaani_redis_conn_t *conn, ngx_err_t err,
    char *what);

/* closes for good and drops what waits, without a call of handlers */
void ngx_vaani_redis_conn_exit(ngx_vaani_redis_conn_t *conn);


/*
 * ngx_vaani_redis_resolve.c
 *
 * Begins to connect; the connection then looks after itself.  Sets conn->addr,
 * at once or later, and then calls ngx_vaani_redis_connect_addr() or
 * ngx_vaani_redis_fail().
 */
void ngx_vaani_redis_connect(ngx_vaani_redis_conn_t *conn);


#if (NGX_SSL)

/*
 * ngx_vaani_redis_ssl.c: TLS
 */

/*
 * Begins the handshake of a connected socket.  At its end, at once or later,
 * it calls ngx_vaani_redis_open() or ngx_vaani_redis_fail().
 */
void ngx_vaani_redis_ssl_handshake(ngx_vaani_redis_conn_t *conn);

/*
 * ngx_vaani_redis_lost() after a read or a write that has failed, with the
 * alert that Redis has sent instead of what, if there is one: since TLS 1.3 it
 * refuses a certificate when the handshake is over.
 */
void ngx_vaani_redis_ssl_lost(ngx_vaani_redis_conn_t *conn, ngx_err_t err,
    char *what);

/* says goodbye without waiting for an answer, and frees all but the session */
void ngx_vaani_redis_ssl_close(ngx_vaani_redis_conn_t *conn);

/* the next handshake will be a full one */
void ngx_vaani_redis_ssl_forget(ngx_vaani_redis_conn_t *conn);

#endif


/*
 * ngx_vaani_redis_setup.c: from a connection to a READY one
 */

/* sends AUTH, SELECT and SCRIPT LOAD, as far as they are needed */
void ngx_vaani_redis_set_up(ngx_vaani_redis_conn_t *conn);

/* takes the reply to one of them */
void ngx_vaani_redis_setup_reply(ngx_vaani_redis_conn_t *conn,
    redisReply *reply);

/* frees one of them */
void ngx_vaani_redis_free_setup(ngx_vaani_redis_cmd_t *cmd);

/* sends SCRIPT LOAD once more.  Returns NGX_OK or NGX_ERROR (no memory) */
ngx_int_t ngx_vaani_redis_load_script(ngx_vaani_redis_conn_t *conn);


/*
 * ngx_vaani_redis_reply.c: what comes back
 */

/* a reader that bounds what it takes, or NULL (no memory) */
redisReader *ngx_vaani_redis_create_reader(void);

/*
 * Takes all whole replies from the reader.  Returns NGX_OK, or NGX_DONE if the
 * connection was closed on the way.
 */
ngx_int_t ngx_vaani_redis_read_replies(ngx_vaani_redis_conn_t *conn);

/* logs an error reply, one from time to time while the same one lasts */
void ngx_vaani_redis_complain(ngx_vaani_redis_conn_t *conn,
    const ngx_vaani_redis_error_t *error, redisReply *reply);

/* ends commands that are in no queue of the connection any more */
void ngx_vaani_redis_finish_all(ngx_vaani_redis_conn_t *conn,
    ngx_queue_t *queue, ngx_vaani_redis_status_e status);


#endif /* _NGX_VAANI_REDIS_CONN_H_INCLUDED_ */
