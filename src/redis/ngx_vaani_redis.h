
/*
 * A Redis client that consists of nginx's I/O and hiredis's protocol parser.
 *
 * An ngx_vaani_redis_t is one Redis, created while nginx reads its
 * configuration.  Each worker then has its own connections to it.  The client
 * does not know the commands: a script comes with the configuration and is
 * loaded on every connection, and commands call that script.
 *
 * Commands are sent in the order in which they were given.  All commands of
 * one iteration of the event loop are sent with one write.  If a connection
 * breaks, its commands are sent again on the next one, so the script must be
 * idempotent.
 */


#ifndef _NGX_VAANI_REDIS_H_INCLUDED_
#define _NGX_VAANI_REDIS_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include <ngx_event_connect.h>

#include <hiredis/hiredis.h>


#define NGX_VAANI_REDIS_PORT            6379
#define NGX_VAANI_REDIS_SENTINEL_PORT   26379

/* limits of the queue of one connection */

#define NGX_VAANI_REDIS_MAX_COMMANDS    16384
#define NGX_VAANI_REDIS_MAX_BYTES       (64 * 1024 * 1024)

/* the maximum size of a reply; those of scripts are a few bytes */

#define NGX_VAANI_REDIS_MAX_REPLY       (1024 * 1024)

/*
 * and the maximum number of elements of all arrays in it: ROLE lists each
 * replica of a master as an array of 3
 */

#define NGX_VAANI_REDIS_MAX_ELEMENTS    4096

/*
 * how often a command may be retried after a lost connection or a missing
 * script
 */

#define NGX_VAANI_REDIS_MAX_STRIKES     3

/* the delay before a reconnect, ms: doubled after each failure */

#define NGX_VAANI_REDIS_MIN_BACKOFF     50
#define NGX_VAANI_REDIS_MAX_BACKOFF     1000

/* the maximum delay during the search for a master, ms */

#define NGX_VAANI_REDIS_SEEK_BACKOFF    250


typedef struct ngx_vaani_redis_node_s  ngx_vaani_redis_node_t;
typedef struct ngx_vaani_redis_actions_s  ngx_vaani_redis_actions_t;
typedef struct ngx_vaani_redis_conn_s  ngx_vaani_redis_conn_t;
typedef struct ngx_vaani_redis_cmd_s   ngx_vaani_redis_cmd_t;


/*
 * The result of a command.
 */

typedef enum {
    NGX_VAANI_REDIS_DONE = 0,       /* a reply that is not an error */
    NGX_VAANI_REDIS_DOWN,           /* no connection */
    NGX_VAANI_REDIS_TIMEOUT,        /* no reply in time */
    NGX_VAANI_REDIS_FULL,           /* the queue is full */
    NGX_VAANI_REDIS_UNAVAILABLE,    /* Redis accepts no commands now */
    NGX_VAANI_REDIS_DEFERRED,       /* Redis does not accept this one now */
    NGX_VAANI_REDIS_UNKNOWN,        /* the same, with an unknown error */
    NGX_VAANI_REDIS_REFUSED,        /* Redis will never accept it */
    NGX_VAANI_REDIS_FAILED          /* no memory in the worker */
} ngx_vaani_redis_status_e;


/*
 * Called once per command. reply is Redis's reply if status is
 * NGX_VAANI_REDIS_DONE.  If Redis refused this command (DEFERRED, UNKNOWN,
 * REFUSED), reply is the error, or NULL if Redis closed the connection each
 * time.  Otherwise it is NULL.  It is freed after the call. lane is the
 * connection of the reply, see ngx_vaani_redis_lane().
 */

typedef void (*ngx_vaani_redis_handler_pt)(void *data,
    ngx_vaani_redis_status_e status, redisReply *reply, ngx_uint_t lane);


/*
 * Which server serves a key: the only one; the master among those of a list;
 * the master that Sentinels name; or the node of a cluster that owns the key's
 * slot.
 */

typedef enum {
    NGX_VAANI_REDIS_ONE = 0,
    NGX_VAANI_REDIS_LIST,
    NGX_VAANI_REDIS_SENTINEL,
    NGX_VAANI_REDIS_CLUSTER
} ngx_vaani_redis_form_e;


typedef struct {
    ngx_str_t                   name;       /* the URL without credentials */

    ngx_uint_t                  tls;        /* "rediss://", "valkeys://" */
    ngx_str_t                   server;     /* name or address, as configured */
    ngx_str_t                   host;       /* a name, to be resolved again */
    in_port_t                   port;
    ngx_addr_t                 *addrs;
    ngx_uint_t                  naddrs;

    ngx_str_t                   user;
    ngx_str_t                   password;
    ngx_uint_t                  db;
    ngx_uint_t                  db_set;     /* by the URL */
} ngx_vaani_redis_url_t;


#if (NGX_SSL)

/*
 * A setting and its place in the configuration; value.data is NULL if unset.
 */

typedef struct {
    ngx_str_t                   value;
    ngx_str_t                   file;
    ngx_uint_t                  line;
} ngx_vaani_redis_setting_t;


/*
 * The TLS settings of a Redis.  File names are absolute; certificate and key
 * have any form that ngx_ssl_certificate() accepts.
 */

typedef struct {
    ngx_flag_t                  verify;
    ngx_uint_t                  verify_depth;       /* the number of
                                                       intermediate CAs */
    ngx_uint_t                  protocols;          /* NGX_SSL_TLSv1_2 ... */
    ngx_flag_t                  session_reuse;

    ngx_vaani_redis_setting_t   ciphers;
    ngx_vaani_redis_setting_t   trusted;            /* "": the system's CAs */
    ngx_vaani_redis_setting_t   crl;
    ngx_vaani_redis_setting_t   name;               /* to verify, and SNI */
    ngx_vaani_redis_setting_t   certificate;
    ngx_vaani_redis_setting_t   key;
    ngx_array_t                *passwords;          /* of the key, or NULL */

    ngx_ssl_t                  *ssl;                /* made of these */
    u_char                     *server_name;        /* NULL: no SNI */
} ngx_vaani_redis_ssl_t;

#endif


/* upper bounds of the buckets of round trips, see ngx_vaani_redis_bounds */

#define NGX_VAANI_REDIS_BOUNDS          16

/* kinds of counted errors, and the size of the latest one's text */

#define NGX_VAANI_REDIS_ERRORS          24
#define NGX_VAANI_REDIS_ERROR_LEN       128


/*
 * Counters of one worker, in shared memory.
 */

typedef struct {
    ngx_atomic_t                connects;
    ngx_atomic_t                disconnects;
    ngx_atomic_t                redirects;          /* of a cluster */
    ngx_atomic_t                refreshes;          /* of its table */
    ngx_atomic_t                failovers;          /* changes of the master */
    ngx_atomic_t                errors[NGX_VAANI_REDIS_ERRORS];

    ngx_atomic_t                round_trips[NGX_VAANI_REDIS_BOUNDS + 1];
    ngx_atomic_t                round_trip_sum;     /* us */

    ngx_atomic_t                pid;                /* of the latest process */
    ngx_atomic_t                commands;           /* waiting or in progress */
    ngx_atomic_t                bytes;              /* of these */

    /* of that process only */

    ngx_atomic_t                connections;
    ngx_atomic_t                ready;              /* of them */
    time_t                      ready_time;         /* "ready" is as it is */

    time_t                      error_time;         /* 0: there was none */
    u_char                      error[NGX_VAANI_REDIS_ERROR_LEN];
} ngx_vaani_redis_stats_t;


/*
 * The servers known to one worker, in shared memory.  If there are too many,
 * unreachable ones come first, then other masters.
 */

#define NGX_VAANI_REDIS_SHOWN           32
#define NGX_VAANI_REDIS_SHOWN_LEN       128     /* of a name, with "\0" */


typedef enum {
    NGX_VAANI_REDIS_SHOWN_UNKNOWN = 0,
    NGX_VAANI_REDIS_SHOWN_MASTER,
    NGX_VAANI_REDIS_SHOWN_REPLICA,
    NGX_VAANI_REDIS_SHOWN_UNREACHABLE,
    NGX_VAANI_REDIS_SHOWN_ROLES         /* their number */
} ngx_vaani_redis_shown_e;


typedef struct {
    ngx_atomic_t                role;
    ngx_atomic_t                slots;              /* of a cluster */
    ngx_atomic_t                connections;
    ngx_atomic_t                ready;              /* of them */
    u_char                      name[NGX_VAANI_REDIS_SHOWN_LEN];
} ngx_vaani_redis_shown_t;


typedef struct {
    ngx_atomic_t                version;            /* odd: being written */
    ngx_atomic_t                pid;                /* by this process */
    ngx_atomic_t                nmasters;           /* also those not shown */
    ngx_atomic_t                ndown;              /* without connection */
    ngx_atomic_t                nnodes;
    ngx_vaani_redis_shown_t     nodes[NGX_VAANI_REDIS_SHOWN];
} ngx_vaani_redis_table_t;


typedef struct {
    ngx_vaani_redis_form_e      form;

    /*
     * The configured URLs, and the first of them.  TLS, user, password and
     * database are the same in all URLs, and are used for all data servers.
     */

    ngx_vaani_redis_url_t       url;
    ngx_vaani_redis_url_t      *urls;
    ngx_uint_t                  nurls;

    ngx_str_t                   sentinel;           /* name of the master */
    ngx_str_t                   sentinel_user;      /* of Sentinels; can be */
    ngx_str_t                   sentinel_password;  /* empty */

#if (NGX_SSL)
    ngx_vaani_redis_ssl_t       ssl;                /* if url.tls */
#endif

    ngx_msec_t                  connect_timeout;    /* until it is set up */
    ngx_msec_t                  timeout;            /* of a command */
    ngx_uint_t                  nconnections;       /* a worker */

    ngx_str_t                   script;
    u_char                      script_sha1[40];    /* hexadecimal */

    ngx_resolver_t             *resolver;           /* NULL: addrs are fixed */
    ngx_msec_t                  resolver_timeout;

    unsigned                    queued:1;           /* some endpoints have a */
    unsigned                    refused:1;          /* spool, some have none */

    ngx_str_t                   label;              /* unique */
    ngx_vaani_redis_stats_t    *stats;              /* of all workers */
    ngx_uint_t                  nstats;             /* 0: nothing is counted */
    u_char                     *tables;             /* of all workers, too */

    /* of this worker */

    ngx_vaani_redis_node_t    **nodes;              /* by number */
    ngx_uint_t                  nnodes;             /* all numbers are lower */
    ngx_vaani_redis_actions_t  *actions;            /* of the form, or NULL */
    void                       *state;              /* of these */
    ngx_event_t                 show;               /* posted */
} ngx_vaani_redis_t;


/*
 * ngx_vaani_redis_url.c
 *
 * Parses "redis://[user[:password]@]host[:port][/db]", the same with
 * "rediss://", "valkey://" or "valkeys://", or "unix:/path[?db=N][&user=NAME]"
 * into *url. user and password may be percent-encoded (RFC 3986), and are
 * wiped from *value.  A name is stored in url->host, without addresses.
 * Memory is allocated from pool.  Returns NGX_CONF_OK or a static text with
 * the error, which never quotes the URL.
 */
char *ngx_vaani_redis_parse_url(ngx_pool_t *pool, ngx_str_t *value,
    in_port_t default_port, ngx_vaani_redis_url_t *url);

/*
 * Resolves url->host, unless it is an address or a path; blocks, as nginx does
 * for its configuration.  Returns as above.
 */
char *ngx_vaani_redis_lookup_url(ngx_pool_t *pool, ngx_vaani_redis_url_t *url);


/*
 * ngx_vaani_redis_resolve.c
 *
 * Whether the configuration names the name servers of a resolver.  Without
 * "resolver", nginx creates one without name servers, and Angie one with those
 * of resolv.conf.
 */
ngx_uint_t ngx_vaani_redis_has_servers(ngx_resolver_t *resolver);


#if (NGX_SSL)

/*
 * ngx_vaani_redis_ssl.c
 */

/*
 * Creates ssl->ssl and ssl->server_name from the settings, for "rediss://".
 * The context is freed with cf->pool.  Returns NGX_OK, or NGX_ERROR after
 * logging the error to cf->log, with the place of the setting.
 */
ngx_int_t ngx_vaani_redis_ssl_create(ngx_conf_t *cf,
    ngx_vaani_redis_ssl_t *ssl);

/* whether all settings are equal, so that connections can be shared */
ngx_uint_t ngx_vaani_redis_ssl_same(ngx_vaani_redis_ssl_t *one,
    ngx_vaani_redis_ssl_t *two);

#endif


/*
 * ngx_vaani_redis_reply.c
 */

/*
 * Another module may bring a different hiredis, see "config".  Returns NGX_OK
 * or NGX_ERROR, with the reason logged.
 */
ngx_int_t ngx_vaani_redis_check_hiredis(ngx_conf_t *cf);


/*
 * ngx_vaani_redis.c
 */

/*
 * Sets the script that the commands of this Redis call.  It must live as long
 * as the configuration.
 */
void ngx_vaani_redis_set_script(ngx_vaani_redis_t *redis, ngx_str_t *script);

/*
 * Starts to connect, in a worker.  Memory is allocated from cycle->pool.
 * Returns NGX_OK or NGX_ERROR.
 */
ngx_int_t ngx_vaani_redis_init_worker(ngx_vaani_redis_t *redis,
    ngx_cycle_t *cycle);

/*
 * Closes the connections of a worker that exits.  Waiting commands are
 * dropped; their handlers are not called.
 */
void ngx_vaani_redis_exit_worker(ngx_vaani_redis_t *redis);

/*
 * Returns the number of the connection, within a worker, for the commands of a
 * key: server * redis->nconnections + index.  In a cluster it is
 * NGX_VAANI_REDIS_NOBODY while the slot has no known owner;
 * ngx_vaani_redis_eval() accepts that value and waits until the slot has one.
 */
ngx_uint_t ngx_vaani_redis_lane(ngx_vaani_redis_t *redis, ngx_str_t *key);

/*
 * The life of that connection: a number that is valid from the moment when the
 * connection is ready until it breaks or the server loads other data.  A
 * worker never uses a number again.  0 if the connection is not ready.  The
 * commands of one life were executed by one server, in order.
 */
ngx_uint_t ngx_vaani_redis_life(ngx_vaani_redis_t *redis, ngx_uint_t lane);

/*
 * The servers of a worker are numbered from 0. Without a cluster there is only
 * number 0, the current master.  In a cluster each master has a number.  The
 * number of a master that left may be reused; its connections then have other
 * lives.
 */

#define NGX_VAANI_REDIS_NOBODY          ((ngx_uint_t) -1)
#define NGX_VAANI_REDIS_MAX_SERVERS     512
#define NGX_VAANI_REDIS_SCOPE_LEN       16

/* all numbers of servers are lower, at any time */
ngx_uint_t ngx_vaani_redis_nservers(ngx_vaani_redis_t *redis);
ngx_uint_t ngx_vaani_redis_max_servers(ngx_vaani_redis_t *redis);

/* the owner of a slot (0 without a cluster), or NGX_VAANI_REDIS_NOBODY */
ngx_uint_t ngx_vaani_redis_server(ngx_vaani_redis_t *redis, ngx_uint_t slot);

/*
 * A digest of the identity of a server of a cluster, its slots, and its epoch:
 * hexadecimal, NGX_VAANI_REDIS_SCOPE_LEN bytes.  NULL without a cluster or if
 * the server is unknown.  It changes if the server gains or loses slots, or if
 * another one takes over, and does not return to an earlier value if a slot
 * comes back.
 */
const u_char *ngx_vaani_redis_scope(ngx_vaani_redis_t *redis,
    ngx_uint_t server);

/*
 * Writes a hash tag without its braces, at most VAANI_SLOT_TAG_LEN bytes, of a
 * slot that the server owns.  Returns its length, or 0 without a cluster.
 */
size_t ngx_vaani_redis_tag(ngx_vaani_redis_t *redis, ngx_uint_t server,
    u_char *dst);

/* time since the last change of a slot's owner, ms; large without a cluster */
ngx_msec_t ngx_vaani_redis_settled(ngx_vaani_redis_t *redis);

/*
 * Sends "EVALSHA <script> args..." over a connection, see
 * ngx_vaani_redis_lane(). The arguments are copied.
 *
 * Returns the command, which ngx_vaani_redis_redirect() accepts until its
 * handler is called; or NULL with *status set, and the handler is never
 * called.
 */
ngx_vaani_redis_cmd_t *ngx_vaani_redis_eval(ngx_vaani_redis_t *redis,
    ngx_uint_t lane, ngx_str_t *args, ngx_uint_t nargs,
    ngx_vaani_redis_handler_pt handler, void *data,
    ngx_vaani_redis_status_e *status);

/*
 * Sends any command within one life of a connection.  It is not sent again in
 * another life, but ends with NGX_VAANI_REDIS_DOWN.  An error of Redis is a
 * normal reply and is not logged.
 *
 * Returns NGX_OK; or NGX_ERROR if this life has ended or the queue is full,
 * and the handler is never called.
 */
ngx_int_t ngx_vaani_redis_once(ngx_vaani_redis_t *redis, ngx_uint_t lane,
    ngx_uint_t life, ngx_str_t *args, ngx_uint_t nargs,
    ngx_vaani_redis_handler_pt handler, void *data);

/*
 * Replaces the handler of a command.
 */
void ngx_vaani_redis_redirect(ngx_vaani_redis_cmd_t *cmd,
    ngx_vaani_redis_handler_pt handler, void *data);

/*
 * The time in ms until the next attempt to connect for this key.  0 if it is
 * connected or connecting.
 */
ngx_msec_t ngx_vaani_redis_retry_after(ngx_vaani_redis_t *redis,
    ngx_str_t *key);

/*
 * Which servers accept commands of this worker.
 */

typedef struct {
    ngx_uint_t                  servers;    /* more than 1 in a cluster only */
    ngx_uint_t                  down;       /* of them */
    ngx_uint_t                  slots;      /* of a cluster, nobody's */
    unsigned                    cluster:1;
    unsigned                    takes:1;    /* some commands are accepted */
} ngx_vaani_redis_health_t;

void ngx_vaani_redis_get_health(ngx_vaani_redis_t *redis,
    ngx_vaani_redis_health_t *health);


/*
 * ngx_vaani_redis_stats.c
 */

/* the bounds of round trips, us */
extern const ngx_uint_t  ngx_vaani_redis_bounds[NGX_VAANI_REDIS_BOUNDS];

/*
 * Whether a process exists: counters remain after a worker was killed, and
 * after a reload with fewer workers.
 */
ngx_uint_t ngx_vaani_redis_alive(ngx_atomic_uint_t pid);


/*
 * ngx_vaani_redis_error.c
 */

/* whether the user's ACL refuses a command, in any wording */
ngx_uint_t ngx_vaani_redis_is_refused_by_acl(redisReply *reply);

/*
 * The name of a kind of errors, from 0: the code of an error reply, "other",
 * "connect", "lost" or "timeout".  Returns NULL after the last one.
 */
const ngx_str_t *ngx_vaani_redis_error_name(ngx_uint_t n);


/*
 * ngx_vaani_redis_show.c
 */

/* the size of redis->tables per worker, bytes */
size_t ngx_vaani_redis_table_size(ngx_vaani_redis_t *redis);

/*
 * Copies the table of a worker.  Returns 0 if there is none: the process does
 * not exist, or has not written it yet.
 */
ngx_uint_t ngx_vaani_redis_shown(ngx_vaani_redis_t *redis, ngx_uint_t worker,
    ngx_vaani_redis_table_t *copy);

/* the names of a role, see ngx_vaani_redis_shown_e, and of the form */
ngx_str_t *ngx_vaani_redis_role_name(ngx_uint_t role);
ngx_str_t *ngx_vaani_redis_form_name(ngx_vaani_redis_t *redis);


#endif /* _NGX_VAANI_REDIS_H_INCLUDED_ */
