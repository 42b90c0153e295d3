
/*
 * A Redis client made of nginx's I/O and hiredis's protocol.
 *
 * An ngx_vaani_redis_t is a Redis to talk to, made while nginx reads its
 * configuration; each worker then has its own connections to it.  Nothing
 * here knows what the commands mean: a script comes with the configuration
 * and is loaded on every connection, and commands call that script.
 *
 * Commands are sent in the order they were given, all that gathered in one
 * turn of the event loop with one write.  A command whose connection broke is
 * sent again on the next one, so the script must be idempotent.
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

/* bounds of what may wait on one connection */

#define NGX_VAANI_REDIS_MAX_COMMANDS    16384
#define NGX_VAANI_REDIS_MAX_BYTES       (64 * 1024 * 1024)

/* the longest reply taken; those of scripts are a few bytes */

#define NGX_VAANI_REDIS_MAX_REPLY       (1024 * 1024)

/*
 * and the most elements of all arrays in it: ROLE names each replica of a
 * master by an array of 3
 */

#define NGX_VAANI_REDIS_MAX_ELEMENTS    4096

/* how often a command may end its connection, or find no script */

#define NGX_VAANI_REDIS_MAX_STRIKES     3

/* time before a reconnect, ms: doubled from failure to failure */

#define NGX_VAANI_REDIS_MIN_BACKOFF     50
#define NGX_VAANI_REDIS_MAX_BACKOFF     1000

/* the longest one while a master is sought, ms */

#define NGX_VAANI_REDIS_SEEK_BACKOFF    250


typedef struct ngx_vaani_redis_node_s  ngx_vaani_redis_node_t;
typedef struct ngx_vaani_redis_actions_s  ngx_vaani_redis_actions_t;
typedef struct ngx_vaani_redis_conn_s  ngx_vaani_redis_conn_t;
typedef struct ngx_vaani_redis_cmd_s   ngx_vaani_redis_cmd_t;


/*
 * How a command ended.
 */

typedef enum {
    NGX_VAANI_REDIS_DONE = 0,       /* there is a reply, and no error */
    NGX_VAANI_REDIS_DOWN,           /* no connection */
    NGX_VAANI_REDIS_TIMEOUT,        /* no reply in time */
    NGX_VAANI_REDIS_FULL,           /* too much waits already */
    NGX_VAANI_REDIS_UNAVAILABLE,    /* Redis takes nothing now */
    NGX_VAANI_REDIS_DEFERRED,       /* Redis doesn't take this one now */
    NGX_VAANI_REDIS_UNKNOWN,        /* the same, for a reason unknown here */
    NGX_VAANI_REDIS_REFUSED,        /* Redis will never take it */
    NGX_VAANI_REDIS_FAILED          /* out of memory here */
} ngx_vaani_redis_status_e;


/*
 * Called once for a command.  reply is that of Redis if
 * status is NGX_VAANI_REDIS_DONE; the error of Redis if it is about this
 * command (DEFERRED, UNKNOWN, REFUSED), or NULL if Redis closed the connection
 * each time; else NULL.  It is freed after the call.  lane is the connection
 * that the reply came over, see ngx_vaani_redis_lane().
 */

typedef void (*ngx_vaani_redis_handler_pt)(void *data,
    ngx_vaani_redis_status_e status, redisReply *reply, ngx_uint_t lane);


/*
 * Who serves a key: the only server; that of a list which is the master; the
 * master that Sentinels name; or the node of a cluster that owns its slot.
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
    ngx_str_t                   server;     /* name or address, as written */
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
 * A setting, and where it was made; value.data is NULL if it wasn't.
 */

typedef struct {
    ngx_str_t                   value;
    ngx_str_t                   file;
    ngx_uint_t                  line;
} ngx_vaani_redis_setting_t;


/*
 * The TLS of a Redis.  The files are full names; certificate and key may be
 * anything that ngx_ssl_certificate() takes.
 */

typedef struct {
    ngx_flag_t                  verify;
    ngx_uint_t                  verify_depth;       /* CAs in between */
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


/* upper bounds of round trips that are counted, see ngx_vaani_redis_bounds */

#define NGX_VAANI_REDIS_BOUNDS          16

/* kinds of errors that are counted, and room for the latest one's text */

#define NGX_VAANI_REDIS_ERRORS          24
#define NGX_VAANI_REDIS_ERROR_LEN       128


/*
 * What is counted, in shared memory: of one worker.
 */

typedef struct {
    ngx_atomic_t                connects;
    ngx_atomic_t                disconnects;
    ngx_atomic_t                redirects;          /* of a cluster */
    ngx_atomic_t                refreshes;          /* of its table */
    ngx_atomic_t                failovers;          /* another master */
    ngx_atomic_t                errors[NGX_VAANI_REDIS_ERRORS];

    ngx_atomic_t                round_trips[NGX_VAANI_REDIS_BOUNDS + 1];
    ngx_atomic_t                round_trip_sum;     /* us */

    ngx_atomic_t                pid;                /* of the latest process */
    ngx_atomic_t                commands;           /* waiting or under way */
    ngx_atomic_t                bytes;              /* of these */

    /* of that process alone */

    ngx_atomic_t                connections;
    ngx_atomic_t                ready;              /* of them */
    time_t                      ready_time;         /* "ready" is as it is */

    time_t                      error_time;         /* 0: there was none */
    u_char                      error[NGX_VAANI_REDIS_ERROR_LEN];
} ngx_vaani_redis_stats_t;


/*
 * The servers that one worker knows, in shared memory.  Of more than there is
 * room for, those that are down come first, then other masters.
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
    ngx_atomic_t                version;            /* odd: it's written */
    ngx_atomic_t                pid;                /* by this process */
    ngx_atomic_t                nmasters;           /* also those not shown */
    ngx_atomic_t                ndown;              /* without connection */
    ngx_atomic_t                nnodes;
    ngx_vaani_redis_shown_t     nodes[NGX_VAANI_REDIS_SHOWN];
} ngx_vaani_redis_table_t;


typedef struct {
    ngx_vaani_redis_form_e      form;

    /*
     * The URLs as configured, and the first of them.  They agree in "tls",
     * user, password and database, which are those of all data servers, too.
     */

    ngx_vaani_redis_url_t       url;
    ngx_vaani_redis_url_t      *urls;
    ngx_uint_t                  nurls;

    ngx_str_t                   sentinel;           /* name of the master */
    ngx_str_t                   sentinel_user;      /* of Sentinels; may be */
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

    ngx_str_t                   label;              /* that no other one has */
    ngx_vaani_redis_stats_t    *stats;              /* of all workers */
    ngx_uint_t                  nstats;             /* 0: nothing is counted */
    u_char                     *tables;             /* of all workers, too */

    /* of this worker */

    ngx_vaani_redis_node_t    **nodes;              /* by number */
    ngx_uint_t                  nnodes;             /* none is as high */
    ngx_vaani_redis_actions_t  *actions;            /* of the form, or NULL */
    void                       *state;              /* of these */
    ngx_event_t                 show;               /* posted */
} ngx_vaani_redis_t;


/*
 * ngx_vaani_redis_url.c
 *
 * Parses "redis://[user[:password]@]host[:port][/db]", the same with
 * "rediss://", "valkey://" or "valkeys://", or "unix:/path[?db=N][&user=NAME]"
 * into *url; user and password may be percent-encoded (RFC 3986), and are wiped
 * from *value.  A name is left in url->host, without addresses.
 * Memory is of pool.  Returns NGX_CONF_OK or a static text saying what is
 * wrong, which never quotes the URL.
 */
char *ngx_vaani_redis_parse_url(ngx_pool_t *pool, ngx_str_t *value,
    in_port_t default_port, ngx_vaani_redis_url_t *url);

/*
 * Looks up url->host, blocking as nginx does for its configuration, unless
 * that was an address or a path.  Returns as above.
 */
char *ngx_vaani_redis_lookup_url(ngx_pool_t *pool, ngx_vaani_redis_url_t *url);


/*
 * ngx_vaani_redis_resolve.c
 *
 * Whether a resolver has name servers of the configuration: where that has no
 * "resolver", nginx makes one without any, Angie one of resolv.conf.
 */
ngx_uint_t ngx_vaani_redis_has_servers(ngx_resolver_t *resolver);


#if (NGX_SSL)

/*
 * ngx_vaani_redis_ssl.c
 */

/*
 * Makes ssl->ssl and ssl->server_name of the settings, for "rediss://".  The
 * context is freed with cf->pool.  Returns NGX_OK, or NGX_ERROR with what is
 * wrong logged to cf->log, with the place of the setting.
 */
ngx_int_t ngx_vaani_redis_ssl_create(ngx_conf_t *cf,
    ngx_vaani_redis_ssl_t *ssl);

/* whether all settings are equal: a connection of one does for the other */
ngx_uint_t ngx_vaani_redis_ssl_same(ngx_vaani_redis_ssl_t *one,
    ngx_vaani_redis_ssl_t *two);

#endif


/*
 * ngx_vaani_redis_reply.c
 */

/*
 * Another module may have a hiredis of its own that isn't this one's, see
 * "config".  Returns NGX_OK or NGX_ERROR, with the reason logged.
 */
ngx_int_t ngx_vaani_redis_check_hiredis(ngx_conf_t *cf);


/*
 * ngx_vaani_redis.c
 */

/*
 * Sets the script that the commands of this Redis call, which must live as
 * long as the configuration.
 */
void ngx_vaani_redis_set_script(ngx_vaani_redis_t *redis, ngx_str_t *script);

/*
 * Begins to connect, in a worker; memory is of cycle->pool.  Returns NGX_OK
 * or NGX_ERROR.
 */
ngx_int_t ngx_vaani_redis_init_worker(ngx_vaani_redis_t *redis,
    ngx_cycle_t *cycle);

/*
 * Closes the connections of a worker that exits.  Commands that still wait
 * are dropped without a call of their handlers.
 */
void ngx_vaani_redis_exit_worker(ngx_vaani_redis_t *redis);

/*
 * The number of the connection, of those of a worker, that the commands of a
 * key are sent over: server * redis->nconnections + one of these.  In a cluster
 * it's NGX_VAANI_REDIS_NOBODY while nobody serves the key, as far as is known;
 * ngx_vaani_redis_eval() takes that, too, and waits until somebody does.
 */
ngx_uint_t ngx_vaani_redis_lane(ngx_vaani_redis_t *redis, ngx_str_t *key);

/*
 * The life of that connection: a number that it has from when it's ready until
 * it breaks or the server loads other data, and then never again in this
 * worker; 0 if it isn't ready.  The commands of one life were executed by one
 * server, in its order.
 */
ngx_uint_t ngx_vaani_redis_life(ngx_vaani_redis_t *redis, ngx_uint_t lane);

/*
 * The servers of a worker have numbers from 0.  Unless it's a cluster, there is
 * only number 0: whichever server is the master.  In a cluster each master has
 * a number of its own; that of one that left may be given to another, whose
 * connections have other lives.
 */

#define NGX_VAANI_REDIS_NOBODY          ((ngx_uint_t) -1)
#define NGX_VAANI_REDIS_MAX_SERVERS     512
#define NGX_VAANI_REDIS_SCOPE_LEN       16

/* no number is as high as this, now or ever */
ngx_uint_t ngx_vaani_redis_nservers(ngx_vaani_redis_t *redis);
ngx_uint_t ngx_vaani_redis_max_servers(ngx_vaani_redis_t *redis);

/* who serves a slot now (0 unless it's a cluster), or NGX_VAANI_REDIS_NOBODY */
ngx_uint_t ngx_vaani_redis_server(ngx_vaani_redis_t *redis, ngx_uint_t slot);

/*
 * A digest of who a server of a cluster is, which slots it owns, and its epoch,
 * hexadecimal, NGX_VAANI_REDIS_SCOPE_LEN bytes; NULL unless it's a cluster and
 * the server is known.  It's another one if the server gains or loses slots, or
 * another one takes over from it; and not the same again if a slot comes back.
 */
const u_char *ngx_vaani_redis_scope(ngx_vaani_redis_t *redis,
    ngx_uint_t server);

/*
 * Writes a hash tag without its braces, VAANI_SLOT_TAG_LEN bytes at most, of a
 * slot that the server owns.  Returns its length, 0 unless it's a cluster.
 */
size_t ngx_vaani_redis_tag(ngx_vaani_redis_t *redis, ngx_uint_t server,
    u_char *dst);

/* since when no slot has changed its owner, ms; much unless it's a cluster */
ngx_msec_t ngx_vaani_redis_settled(ngx_vaani_redis_t *redis);

/*
 * Sends "EVALSHA <script> args..." over a connection, see
 * ngx_vaani_redis_lane().  The arguments are copied.
 *
 * Returns the command, for ngx_vaani_redis_redirect() until its handler is
 * called; or NULL with *status set, and the handler is never called.
 */
ngx_vaani_redis_cmd_t *ngx_vaani_redis_eval(ngx_vaani_redis_t *redis,
    ngx_uint_t lane, ngx_str_t *args, ngx_uint_t nargs,
    ngx_vaani_redis_handler_pt handler, void *data,
    ngx_vaani_redis_status_e *status);

/*
 * Sends any command in one life of a connection: it isn't sent again in
 * another one, but ends with NGX_VAANI_REDIS_DOWN.  An error of Redis is a
 * reply like others, and isn't logged.
 *
 * Returns NGX_OK; or NGX_ERROR if this life is over or nothing more is taken,
 * and the handler is never called.
 */
ngx_int_t ngx_vaani_redis_once(ngx_vaani_redis_t *redis, ngx_uint_t lane,
    ngx_uint_t life, ngx_str_t *args, ngx_uint_t nargs,
    ngx_vaani_redis_handler_pt handler, void *data);

/*
 * Gives a command another handler.
 */
void ngx_vaani_redis_redirect(ngx_vaani_redis_cmd_t *cmd,
    ngx_vaani_redis_handler_pt handler, void *data);

/*
 * The time in ms until the next attempt to connect for this key, 0 if it is
 * connected or connects now.
 */
ngx_msec_t ngx_vaani_redis_retry_after(ngx_vaani_redis_t *redis,
    ngx_str_t *key);

/*
 * Who would take commands of this worker.
 */

typedef struct {
    ngx_uint_t                  servers;    /* more than 1 in a cluster only */
    ngx_uint_t                  down;       /* of them */
    ngx_uint_t                  slots;      /* of a cluster, nobody's */
    unsigned                    cluster:1;
    unsigned                    takes:1;    /* some commands are taken */
} ngx_vaani_redis_health_t;

void ngx_vaani_redis_get_health(ngx_vaani_redis_t *redis,
    ngx_vaani_redis_health_t *health);


/*
 * ngx_vaani_redis_stats.c
 */

/* the bounds of round trips, us */
extern const ngx_uint_t  ngx_vaani_redis_bounds[NGX_VAANI_REDIS_BOUNDS];

/*
 * Whether a process is there: a worker that was killed leaves its numbers
 * behind, as do those that a reload has no successors for.
 */
ngx_uint_t ngx_vaani_redis_alive(ngx_atomic_uint_t pid);


/*
 * ngx_vaani_redis_error.c
 */

/* whether the ACL of the user refuses a command, in whatever words */
ngx_uint_t ngx_vaani_redis_is_refused_by_acl(redisReply *reply);

/*
 * The name of a kind of errors, from 0: the code of an error reply, "other",
 * "connect", "lost" or "timeout".  Returns NULL behind the last one.
 */
const ngx_str_t *ngx_vaani_redis_error_name(ngx_uint_t n);


/*
 * ngx_vaani_redis_show.c
 */

/* the bytes of redis->tables for each worker */
size_t ngx_vaani_redis_table_size(ngx_vaani_redis_t *redis);

/*
 * Copies what a worker wrote.  Returns 0 if there is nothing: no such process,
 * or it hasn't written yet.
 */
ngx_uint_t ngx_vaani_redis_shown(ngx_vaani_redis_t *redis, ngx_uint_t worker,
    ngx_vaani_redis_table_t *copy);

/* the words for a role, see ngx_vaani_redis_shown_e, and for the form */
ngx_str_t *ngx_vaani_redis_role_name(ngx_uint_t role);
ngx_str_t *ngx_vaani_redis_form_name(ngx_vaani_redis_t *redis);


#endif /* _NGX_VAANI_REDIS_H_INCLUDED_ */
