
/*
 * What the files of src/http and the module's front door share.
 */


#ifndef _NGX_HTTP_VAANI_H_INCLUDED_
#define _NGX_HTTP_VAANI_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "../core/vaani_body.h"
#include "../core/vaani_transition.h"
#include "../core/vaani_record.h"
#include "../core/vaani_slot.h"
#include "../core/vaani_signature.h"
#include "../core/vaani_pace.h"
#include "../redis/ngx_vaani_redis.h"
#include "../spool/ngx_vaani_spool.h"
#include "status/ngx_http_vaani_stats.h"


/* what signatures are checked, and digests made with */

#if (NGX_SSL && OPENSSL_VERSION_NUMBER >= 0x10100000L)

#include <openssl/hmac.h>

#define NGX_HTTP_VAANI_HMAC             1

#endif


#define NGX_HTTP_VAANI_VERSION          "0.6.0"


/* RFC 9110, section 15.5.21: nginx has no name for it */

#define NGX_HTTP_VAANI_UNPROCESSABLE_CONTENT  422


#define NGX_HTTP_VAANI_STRICT           0
#define NGX_HTTP_VAANI_LENIENT          1

/* CAs between the one that is trusted and the certificate of Redis */

#define NGX_HTTP_VAANI_REDIS_SSL_DEPTH  3

/* how often a line that events could repeat is logged, ms */

#define NGX_HTTP_VAANI_COMPLAIN_EVERY   10000

#define NGX_HTTP_VAANI_ACCEPT           0
#define NGX_HTTP_VAANI_REJECT           1


#define NGX_HTTP_VAANI_UNSET_TTL        ((uint64_t) -1)


typedef struct {
    ngx_array_t                 redis;      /* of ngx_vaani_redis_t * */
    ngx_array_t                 sentinels;  /* of ngx_http_vaani_sentinel_t * */
    ngx_array_t                 spools;     /* of ngx_vaani_spool_t * */
    ngx_array_t                 protected;  /* locations with directives of
                                               authentication, of
                                               ngx_http_vaani_loc_conf_t * */
    ngx_array_t                 warned;     /* of ngx_http_vaani_place_t */
    ngx_uint_t                  no_spool;   /* 1: an endpoint that authenticates
                                               has none */
    ngx_http_vaani_stats_t     *stats;      /* shared; NULL: no endpoints */
    size_t                      stats_size;
} ngx_http_vaani_main_conf_t;


/*
 * A way to send a signature: in which headers, and how it is written.  Names
 * are in lower case; an empty one means that nothing of the kind is signed.
 */

typedef struct {
    ngx_str_t                   signature;
    ngx_str_t                   id;
    ngx_str_t                   timestamp;  /* unless format has it */
    vaani_signature_format_t    format;
} ngx_http_vaani_scheme_t;


/* of keys and channels, without "vaani_prefix" */

#define NGX_HTTP_VAANI_PREFIX           "vaani"


/* where a directive was set; line 0: nowhere */

typedef struct {
    char                       *directive;
    u_char                     *file;
    ngx_uint_t                  line;
} ngx_http_vaani_place_t;


/*
 * Where Redis is, as "vaani_redis" says.
 */

typedef struct {
    ngx_vaani_redis_form_e      form;
    ngx_vaani_redis_url_t      *urls;
    ngx_uint_t                  nurls;
    ngx_str_t                   sentinel;   /* the master's name, or empty */
    ngx_http_vaani_place_t      place;      /* line 0: the default */
} ngx_http_vaani_servers_t;


/*
 * The credentials of Sentinels, which have users of their own.
 */

typedef struct {
    ngx_str_t                   user;       /* or empty */
    ngx_str_t                   password;
    ngx_http_vaani_place_t      place;
    unsigned                    seen:1;     /* an endpoint has it */
    unsigned                    used:1;     /* and its Sentinels get it */
} ngx_http_vaani_sentinel_t;


/*
 * Signatures that a location asks for, and what they are checked with: a copy
 * of a row of the table in auth/ngx_http_vaani_signers.c.  The first scheme
 * whose header with the signature was sent decides alone.
 */

#define NGX_HTTP_VAANI_SCHEMES          2

typedef struct {
    ngx_http_vaani_scheme_t     schemes[NGX_HTTP_VAANI_SCHEMES];
    ngx_uint_t                  nschemes;
    ngx_array_t                 keys;       /* of HMAC_CTX * */
    ngx_http_vaani_place_t      place;
} ngx_http_vaani_signer_t;


/*
 * When a request is authorized: a token is enough to know before the body was
 * read, but not if there is a signature as well.  Who has one of the two must
 * not learn that it is right.
 */

typedef enum {
    NGX_HTTP_VAANI_AUTH_OFF = 0,
    NGX_HTTP_VAANI_AUTH_HEADERS,
    NGX_HTTP_VAANI_AUTH_BODY
} ngx_http_vaani_auth_e;


/*
 * The name of a key or a channel, or what it begins with.
 */

typedef struct {
    ngx_http_complex_value_t    value;
    ngx_http_vaani_place_t      place;
    ngx_uint_t                  sharded;    /* of a channel: SPUBLISH */
} ngx_http_vaani_name_t;


typedef struct ngx_http_vaani_loc_conf_s  ngx_http_vaani_loc_conf_t;

struct ngx_http_vaani_loc_conf_s {
    ngx_http_vaani_loc_conf_t  *parent;     /* NULL: it is that of http{} */

    ngx_http_handler_pt         handler;    /* of the location: webhook, status,
                                               health, or NULL */
    ngx_http_vaani_place_t      webhook;    /* of "vaani_webhook", which may
                                               be around an "if" */

    ngx_http_vaani_servers_t   *servers;
    ngx_str_t                   redis_password;
    ngx_http_vaani_sentinel_t  *sentinel;   /* NULL: Sentinels need none */
    ngx_msec_t                  redis_connect_timeout;
    ngx_msec_t                  redis_timeout;
    ngx_uint_t                  redis_connections;
#if (NGX_SSL)
    ngx_vaani_redis_ssl_t       redis_ssl;
#endif

    ngx_vaani_redis_t          *redis;              /* made of these */

    ngx_http_vaani_name_t      *prefix;     /* NULL: "vaani" */
    ngx_array_t                *channels;   /* of ngx_http_vaani_name_t; NULL:
                                               the two default ones */
    ngx_http_vaani_name_t      *stream;     /* NULL: none */
    ngx_uint_t                  stream_maxlen;      /* 0: any */
    ngx_flag_t                  index;      /* of calls, in sorted sets */
    ngx_http_vaani_place_t      index_place;
    size_t                      payload_max;        /* bytes: a longer one is
                                               left out of messages */
    ngx_uint_t                  partitions;         /* 0: none */
    uint64_t                    ttl;        /* ms; 0: never */

    ngx_http_complex_value_t   *delivery_id;        /* NULL: "webhook-id" */

    ngx_vaani_spool_t          *spool;              /* NULL: none */

    ngx_uint_t                  validation;
    ngx_uint_t                  unknown_event;

    ngx_http_vaani_auth_e       auth;
    ngx_http_complex_value_t   *token;      /* NULL: none is asked for */
    ngx_array_t                *tokens;     /* of vaani_token_t * */
    ngx_flag_t                  token_in_uri;
    ngx_http_vaani_signer_t    *secret;     /* of Standard Webhooks, or NULL */
    ngx_http_vaani_signer_t    *signature;  /* another, or NULL */
    time_t                      timestamp_tolerance;
    ngx_http_vaani_place_t      auth_place; /* of the first of these here */
    unsigned                    endpoint:1; /* or one inside */
};


/* whether a location is an endpoint; known as soon as it is merged */

#define ngx_http_vaani_is_webhook(conf)     ((conf)->webhook.line != 0)


/*
 * Digests are the first 128 bits of a SHA-1, in base64url: they tell bodies
 * and ids apart, they don't protect them.
 */

#define NGX_HTTP_VAANI_DIGEST_BYTES     16
#define NGX_HTTP_VAANI_DIGEST_LEN       22


typedef struct ngx_http_vaani_ctx_s  ngx_http_vaani_ctx_t;


/*
 * One event of a delivery.
 */

typedef struct {
    ngx_http_vaani_ctx_t       *ctx;
    ngx_uint_t                  lane;       /* the connection to Redis */
    ngx_vaani_redis_cmd_t      *cmd;        /* NULL: none is under way */
    ngx_vaani_spool_entry_t    *entry;      /* NULL: none is being written */
    ngx_vaani_spool_refusal_t  *refusal;    /* NULL: the same */
    ngx_vaani_spool_waiter_t    waiter;     /* if it is being kept */

    ngx_http_vaani_result_e     result;
    vaani_reason_e              reason;
    ngx_vaani_redis_status_e    redis_status;
    unsigned                    kept:1;     /* it was rejected and is kept */
    unsigned                    keeping:1;  /* it was taken and is being kept */

    vaani_transition_t          transition; /* what Redis made of it */

    /* from here on nothing is set before the event is read, not even to 0 */

    vaani_event_t               event;
    vaani_event_error_t         error;      /* if it was rejected */
    vaani_part_t                part;
    vaani_delivery_t            delivery;   /* if it was prepared */
    u_char                      digest[NGX_HTTP_VAANI_DIGEST_LEN];
    u_char                      id_digest[NGX_HTTP_VAANI_DIGEST_LEN];
} ngx_http_vaani_item_t;


struct ngx_http_vaani_ctx_s {
    ngx_http_request_t         *request;
    vaani_alloc_t               alloc;      /* of the request's pool */

    ngx_http_vaani_result_e     result;     /* the worst of its events */
    vaani_reason_e              reason;

    ngx_str_t                   id;         /* "webhook-id" */
    ngx_str_t                   webhook_id; /* the one that was signed: the
                                               header of vaani_secret */
    ngx_str_t                   body;

    ngx_http_vaani_item_t      *items;      /* NULL: the body is not read yet */
    ngx_uint_t                  nitems;
    ngx_uint_t                  nwaiting;   /* items that aren't done, and one
                                               while they are being sent */
    ngx_http_vaani_item_t      *current;    /* that variables are about */

    uint64_t                    received_at;        /* Unix time, ms */
    ngx_str_t                   delivery_id;
    ngx_str_t                   message;    /* "id" of the message */

    ngx_msec_t                  redis_start;
    ngx_msec_t                  redis_time;         /* ms */
    unsigned                    several:1;  /* the body has "events" */
    unsigned                    redis_asked:1;
    unsigned                    redis_answered:1;
    unsigned                    in_flight:1;

    ngx_http_vaani_item_t       item;       /* mostly the only one */
};


extern ngx_module_t  ngx_http_vaani_module;


/* the time of this turn of the event loop, Unix time in ms */

static ngx_inline uint64_t
ngx_http_vaani_now(void)
{
    ngx_time_t  *tp;

    tp = ngx_timeofday();

    return (uint64_t) tp->sec * 1000 + tp->msec;
}


/* the allocator of src/core for a pool, which is its ctx */

static ngx_inline void *
ngx_http_vaani_palloc(void *pool, size_t size)
{
    return ngx_palloc(pool, size);
}


/*
 * conf/ngx_http_vaani_merge.c: the configuration, as nginx asks a module for it
 */

void *ngx_http_vaani_create_main_conf(ngx_conf_t *cf);
void *ngx_http_vaani_create_loc_conf(ngx_conf_t *cf);
char *ngx_http_vaani_merge_loc_conf(ngx_conf_t *cf, void *parent, void *child);


/* conf/ngx_http_vaani_parameters.c: what directives have in common */

/* sets *place to the directive that is being read; nothing is copied */
void ngx_http_vaani_set_place(ngx_conf_t *cf, ngx_command_t *cmd,
    ngx_http_vaani_place_t *place);

/*
 * Makes a handler that of the location, which can have one.  Returns as a
 * directive does.
 */
char *ngx_http_vaani_set_handler(ngx_conf_t *cf,
    ngx_http_vaani_loc_conf_t *vlcf, ngx_http_handler_pt handler);

/* compiles a value with variables.  Returns NGX_OK or NGX_ERROR. */
ngx_int_t ngx_http_vaani_compile(ngx_conf_t *cf, ngx_str_t *value,
    ngx_http_complex_value_t *cv);

/*
 * Whether a parameter is "name=" and a text: name has the "=", and *text is set
 * to the rest of the parameter, which is not copied.
 */
ngx_uint_t ngx_http_vaani_parameter(ngx_str_t *value, char *name,
    ngx_str_t *text);

/* Logs that a parameter is invalid, and returns NGX_CONF_ERROR. */
char *ngx_http_vaani_invalid_parameter(ngx_conf_t *cf, ngx_str_t *value);

/*
 * Refuses what follows "off" as the first parameter.  Returns as a directive
 * does.
 */
char *ngx_http_vaani_check_off(ngx_conf_t *cf);

/*
 * Refuses a parameter "name=value" that is given twice, counted from the
 * first: one of the values would be ignored.  "secret=" and "file=" add up.
 * Returns as a directive does.
 */
char *ngx_http_vaani_check_repeated(ngx_conf_t *cf, ngx_uint_t first);

/* adds a handler of a phase.  Returns NGX_OK or NGX_ERROR. */
ngx_int_t ngx_http_vaani_add_phase(ngx_conf_t *cf, ngx_http_phases phase,
    ngx_http_handler_pt handler);

/* whether two strings are equal */
ngx_uint_t ngx_http_vaani_same(ngx_str_t *one, ngx_str_t *two);


/* conf/ngx_http_vaani_secrets.c: secrets in the configuration */

/*
 * Keeps a copy of a secret, or what is made of it, in the array.  Returns
 * NGX_OK, or NGX_ERROR when it has logged why.
 */
typedef ngx_int_t (*ngx_http_vaani_secret_pt)(ngx_conf_t *cf,
    ngx_array_t *secrets, ngx_str_t *secret);

/*
 * Gives a parameter to the handler: one secret, or after "file=" those of a
 * file, one a line.  The parameter and what was read are wiped.  Returns as a
 * directive does.
 */
char *ngx_http_vaani_take_secrets(ngx_conf_t *cf, ngx_str_t *value,
    ngx_array_t *secrets, ngx_http_vaani_secret_pt handler);

/*
 * Gives the secrets of a file to the handler, one a line.  A relative *name is
 * completed with the directory of the configuration.  What was read is wiped.
 * Returns NGX_OK, or NGX_ERROR when it has logged why, also if there is none.
 */
ngx_int_t ngx_http_vaani_read_secrets(ngx_conf_t *cf, ngx_str_t *name,
    ngx_array_t *secrets, ngx_http_vaani_secret_pt handler);

/* wipes memory when its pool is destroyed.  Returns NGX_OK or NGX_ERROR. */
ngx_int_t ngx_http_vaani_wipe_later(ngx_pool_t *pool, u_char *data,
    size_t len);


/* conf/ngx_http_vaani_directives.c: what the slots of core can't set */

char *ngx_http_vaani_webhook(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_vaani_payload(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_vaani_ttl(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);

/*
 * Warns of an endpoint with nginx's default of client_max_body_size, once for
 * each place in the configuration.  Returns as a directive does.
 */
char *ngx_http_vaani_check_body_size(ngx_conf_t *cf,
    ngx_http_vaani_loc_conf_t *conf);


/* conf/ngx_http_vaani_names.c: the names of keys and channels */

char *ngx_http_vaani_prefix(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_vaani_channel(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_vaani_index(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_vaani_stream(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);

/*
 * Refuses names of an endpoint that can't do what they are for, when all else
 * is merged.  Returns as a directive does.
 */
char *ngx_http_vaani_check_names(ngx_conf_t *cf,
    ngx_http_vaani_loc_conf_t *conf);


/* conf/ngx_http_vaani_spool_conf.c: "vaani_spool" */

char *ngx_http_vaani_spool_directive(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);


/* conf/ngx_http_vaani_redis_servers.c: "vaani_redis" */

char *ngx_http_vaani_redis(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);

/*
 * The servers of a location without "vaani_redis": one on this host.  Returns
 * NULL if there is no memory.
 */
ngx_http_vaani_servers_t *ngx_http_vaani_default_servers(ngx_conf_t *cf);


/* conf/ngx_http_vaani_redis_password.c: those of Redis and of Sentinels */

char *ngx_http_vaani_redis_password_file(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_vaani_redis_sentinel_password_file(ngx_conf_t *cf,
    ngx_command_t *cmd, void *conf);

/* warns of credentials that no Sentinel gets, when all locations are merged */
void ngx_http_vaani_check_sentinels(ngx_conf_t *cf,
    ngx_http_vaani_main_conf_t *vmcf);


/* conf/ngx_http_vaani_redis_conf.c: one client for equal settings */

/* Sets conf->redis, when all else is merged.  Returns as a directive does. */
char *ngx_http_vaani_merge_redis(ngx_conf_t *cf,
    ngx_http_vaani_loc_conf_t *conf);


/* auth/ngx_http_vaani_keys.c: what is made of secrets of authentication */

/*
 * Handlers of ngx_http_vaani_take_secrets(): each adds a vaani_token_t *, or an
 * HMAC_CTX * that has its key, and wipes it with the configuration.  A short
 * secret is warned of.
 */
ngx_int_t ngx_http_vaani_add_token(ngx_conf_t *cf, ngx_array_t *secrets,
    ngx_str_t *secret);
ngx_int_t ngx_http_vaani_add_key(ngx_conf_t *cf, ngx_array_t *secrets,
    ngx_str_t *secret);

/* The same for a secret of Standard Webhooks, which is base64. */
ngx_int_t ngx_http_vaani_add_webhook_key(ngx_conf_t *cf, ngx_array_t *secrets,
    ngx_str_t *secret);


/* auth/ngx_http_vaani_signers.c: who signs, and how */

char *ngx_http_vaani_secret(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_vaani_signature(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);


/* auth/ngx_http_vaani_auth_conf.c: the directives of authentication */

char *ngx_http_vaani_token(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);

/*
 * Notes where a directive of authentication is set, for
 * ngx_http_vaani_check_auth().  Returns as a directive does.
 */
char *ngx_http_vaani_protect(ngx_conf_t *cf, ngx_command_t *cmd,
    ngx_http_vaani_loc_conf_t *vlcf);

/* Merges them.  conf->handler must be known.  Returns as a directive does. */
char *ngx_http_vaani_merge_auth(ngx_conf_t *cf,
    ngx_http_vaani_loc_conf_t *conf, ngx_http_vaani_loc_conf_t *prev);

/*
 * Refuses directives that protect nothing, when all locations are merged.
 * Returns NGX_OK, or NGX_ERROR when it has logged why.
 */
ngx_int_t ngx_http_vaani_check_auth(ngx_conf_t *cf);


#if (NGX_SSL)

/* conf/ngx_http_vaani_redis_ssl.c: those of "rediss://", and their merge */

char *ngx_http_vaani_redis_ssl_setting(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_vaani_redis_ssl_file(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_vaani_redis_ssl_password_file(ngx_conf_t *cf,
    ngx_command_t *cmd, void *conf);

/* sets what ngx_pcalloc() doesn't */
void ngx_http_vaani_redis_ssl_unset(ngx_vaani_redis_ssl_t *ssl);

void ngx_http_vaani_redis_ssl_merge(ngx_vaani_redis_ssl_t *conf,
    ngx_vaani_redis_ssl_t *prev);

#endif


/* ngx_http_vaani_handler.c: the content handler of a webhook location */

ngx_int_t ngx_http_vaani_handler(ngx_http_request_t *r);


/*
 * ngx_http_vaani_events.c: the events of a delivery
 */

/*
 * Reads the events of ctx->body into ctx->items.  An event that is rejected has
 * its result set; if the body is rejected as a whole, it is the only item.
 * Returns NGX_OK or NGX_ERROR (no memory).
 */
ngx_int_t ngx_http_vaani_read_events(ngx_http_request_t *r,
    ngx_http_vaani_ctx_t *ctx);

/*
 * What is kept of a rejected event, in memory of the request: a body that means
 * the same when it is posted again.  Returns NGX_OK or NGX_ERROR (no memory).
 */
ngx_int_t ngx_http_vaani_refused_body(ngx_http_request_t *r,
    ngx_http_vaani_item_t *item, ngx_str_t *body);


/*
 * ngx_http_vaani_dispatch.c: each event's way
 */

/*
 * Sends the events on their way: to Redis, the spool, or where those are kept
 * that were rejected.  Returns NGX_DONE if any is under way, then
 * ngx_http_vaani_answer() is called later and the request is finalized; else
 * what it is to be finalized with.
 */
ngx_int_t ngx_http_vaani_send_events(ngx_http_request_t *r,
    ngx_http_vaani_ctx_t *ctx);

/*
 * The request goes: what is under way goes on without it.
 */
void ngx_http_vaani_leave_events(ngx_http_vaani_ctx_t *ctx);


/*
 * ngx_http_vaani_answer.c
 */

/*
 * Sends the answer when all events are done.  Returns what
 * ngx_http_finalize_request() takes.
 */
ngx_int_t ngx_http_vaani_answer(ngx_http_request_t *r,
    ngx_http_vaani_ctx_t *ctx);

/*
 * Logs that an event is rejected: the first one for a reason each minute, with
 * the number of those since.
 */
void ngx_http_vaani_log_rejected(ngx_http_request_t *r,
    ngx_http_vaani_item_t *item);


/*
 * ngx_http_vaani_random.c
 *
 * Random bytes of the kernel: what must be unique between hosts and restarts
 * is made of them.  Returns NGX_OK or NGX_ERROR, which was logged.
 */

ngx_int_t ngx_http_vaani_random(u_char *dst, size_t len, ngx_log_t *log);


/*
 * ngx_http_vaani_headers.c
 *
 * Checks the media type and the coding of the body, and finds the delivery
 * id.  Returns NULL; or what is wrong, a static text, with ctx->result and
 * ctx->reason set.
 */

char *ngx_http_vaani_read_headers(ngx_http_request_t *r,
    ngx_http_vaani_ctx_t *ctx);

/*
 * The value of a header of the request, by its name in lower case; empty if
 * there is none.
 */
void ngx_http_vaani_find_header(ngx_http_request_t *r, char *name,
    ngx_str_t *value);


/*
 * auth/ngx_http_vaani_auth.c
 */

/*
 * Checks what the location asks for: the token, and signatures of ctx->body if
 * the body is whole, that is, was read; else only the headers of signatures,
 * before that of the body.  Returns NGX_OK; NGX_DECLINED, with ctx->result and
 * ctx->reason set; or NGX_ERROR (no memory).  With the body, a refusal takes as
 * long whatever it is for.
 */
ngx_int_t ngx_http_vaani_authorize(ngx_http_request_t *r,
    ngx_http_vaani_ctx_t *ctx, ngx_uint_t whole);

/*
 * Logs why, and sends the 401, always the same one.  Returns what
 * ngx_http_finalize_request() takes.
 */
ngx_int_t ngx_http_vaani_send_unauthorized(ngx_http_request_t *r,
    ngx_http_vaani_ctx_t *ctx);


/*
 * ngx_http_vaani_body.c
 */

/*
 * Whether somebody else discarded the body, or what was read of it, before it
 * came here.
 */
ngx_uint_t ngx_http_vaani_body_is_gone(ngx_http_request_t *r);

/*
 * Returns the body in one piece, in memory of the request.  Returns NGX_OK;
 * NGX_DECLINED if somebody else consumed it, in part or as a whole; or what
 * the request is to be finalized with.
 */
ngx_int_t ngx_http_vaani_get_body(ngx_http_request_t *r, ngx_str_t *body);

/*
 * Discards the body, for an answer that comes first: a client that waits for
 * "100 Continue" isn't asked to send it.  Returns NGX_OK or what the request is
 * to be finalized with.
 */
ngx_int_t ngx_http_vaani_discard_body(ngx_http_request_t *r);

/*
 * Whether the client waits for "100 Continue", which nginx sends before it
 * reads the body.
 */
ngx_uint_t ngx_http_vaani_awaits_continue(ngx_http_request_t *r);


/*
 * ngx_http_vaani_delivery.c
 */

/*
 * Fills item->delivery from its event and the location.  Returns NGX_OK or
 * NGX_ERROR (no memory).
 */
ngx_int_t ngx_http_vaani_prepare(ngx_http_request_t *r,
    ngx_http_vaani_item_t *item);


/*
 * ngx_http_vaani_ids.c
 *
 * Sets in item->delivery the id of the message, and what tells the delivery
 * apart: equal bodies are the same one, unless there are ids to tell.  Returns
 * NGX_OK or NGX_ERROR (no memory, or no random bytes).
 */

ngx_int_t ngx_http_vaani_identify(ngx_http_request_t *r,
    ngx_http_vaani_item_t *item);


/*
 * ngx_http_vaani_script.c: the script, as commands call it
 */

/*
 * Sends a delivery to Redis over a connection, see ngx_vaani_redis_lane();
 * memory is needed until it returns.  Returns the command, or NULL with *status
 * set, as ngx_vaani_redis_eval().
 */
ngx_vaani_redis_cmd_t *ngx_http_vaani_eval(ngx_vaani_redis_t *redis,
    ngx_uint_t lane, const vaani_event_t *event,
    const vaani_delivery_t *delivery, ngx_pool_t *pool,
    ngx_vaani_redis_handler_pt handler, void *data,
    ngx_vaani_redis_status_e *status);

/*
 * Reads and counts what the script returned, and whether all channels took the
 * message.  Returns NGX_OK, or NGX_ERROR for a reply that isn't the script's;
 * what went wrong is logged.
 */
ngx_int_t ngx_http_vaani_read_reply(redisReply *reply, ngx_log_t *log,
    vaani_transition_t *transition, ngx_uint_t *published);


/*
 * ngx_http_vaani_queue.c: deliveries that go to the spool, and come back
 */

/*
 * Writes the delivery of item to the spool of the location; handler is called
 * with item, unless item->entry was detached.  Returns NGX_OK or NGX_ERROR.
 */
ngx_int_t ngx_http_vaani_queue(ngx_vaani_spool_t *spool,
    ngx_http_vaani_item_t *item, ngx_vaani_spool_append_pt handler);

/*
 * The request goes while its command is under way: if Redis doesn't take the
 * delivery, the spool does, if there is one.
 */
void ngx_http_vaani_outlive(ngx_vaani_spool_t *spool,
    ngx_http_vaani_item_t *item);

/*
 * Keeps the delivery of item, which Redis has answered.  Returns NGX_AGAIN if
 * handler will be called with item, unless item->waiter.queue was removed;
 * NGX_OK if nothing is to be waited for.
 */
ngx_int_t ngx_http_vaani_keep(ngx_vaani_spool_t *spool,
    ngx_http_vaani_item_t *item, void (*handler)(void *data));

/* delivers a record of a spool, see ngx_vaani_spool_receiver_t */
ngx_int_t ngx_http_vaani_replay(void *data, void *slot, ngx_uint_t lane,
    ngx_uint_t kept, u_char *record, size_t len, ngx_str_t *reason);


/*
 * ngx_http_vaani_marks.c: Redis, as the receiver of a spool's records
 */

extern ngx_vaani_spool_receiver_t  ngx_http_vaani_receiver;


/*
 * ngx_http_vaani_response.c
 *
 * The first two send a whole response and return what
 * ngx_http_finalize_request() takes.
 */

ngx_int_t ngx_http_vaani_send_status(ngx_http_request_t *r,
    ngx_uint_t status, ngx_str_t *body);

/*
 * Refuses the request with "application/problem+json" (RFC 9457), and discards
 * its body unless that was read.  header is one of the answer, or NULL; detail
 * is plain ASCII without quotes, or NULL; field is a JSON Pointer (RFC 6901)
 * for a 422, else NULL.  What $vaani_result and $vaani_reason say is set by the
 * caller.
 */
ngx_int_t ngx_http_vaani_refuse(ngx_http_request_t *r, ngx_uint_t status,
    ngx_keyval_t *header, char *detail, ngx_str_t *field);

/*
 * Sets the media type of the response, with its parameters; type->data must
 * live as long as the request.
 */
void ngx_http_vaani_set_type(ngx_http_request_t *r, ngx_str_t *type);

/*
 * Adds a header to the response.  Returns NGX_OK or NGX_ERROR.
 */
ngx_int_t ngx_http_vaani_add_header(ngx_http_request_t *r, char *name,
    ngx_str_t *value);


/* ngx_http_vaani_outcome.c: how requests end */

/* the words of $vaani_result, by ngx_http_vaani_result_e */

extern ngx_str_t  ngx_http_vaani_results[];

/*
 * How a request of a webhook location ended or will, also if nginx itself
 * answered it: its result, and in *reason its reason.
 */
ngx_http_vaani_result_e ngx_http_vaani_outcome(ngx_http_request_t *r,
    vaani_reason_e *reason);


/*
 * ngx_http_vaani_log.c
 *
 * Keeps the secrets in URLs out of the error log.  Returns NGX_OK or NGX_ERROR.
 */

ngx_int_t ngx_http_vaani_init_log(ngx_conf_t *cf);

/*
 * The same for errors of a body that the server of an endpoint reads before it
 * has found the location; called when the location's configuration is merged.
 * Returns NGX_OK or NGX_ERROR.
 */
ngx_int_t ngx_http_vaani_mask_early(ngx_conf_t *cf);


/*
 * status/ngx_http_vaani_status.c: what operators see
 */

char *ngx_http_vaani_status(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);


/*
 * status/ngx_http_vaani_health.c: an answer for load balancers
 */

char *ngx_http_vaani_health(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
ngx_int_t ngx_http_vaani_health_handler(ngx_http_request_t *r);


/* ngx_http_vaani_variables.c: $vaani_event and the others */

ngx_int_t ngx_http_vaani_add_variables(ngx_conf_t *cf);


#endif /* _NGX_HTTP_VAANI_H_INCLUDED_ */
