
/*
 * What the files of src/http and the module's front door share.
 */


#ifndef _NGX_HTTP_VAANI_H_INCLUDED_
#define _NGX_HTTP_VAANI_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "../core/vaani_transition.h"
#include "../core/vaani_record.h"
#include "../core/vaani_signature.h"
#include "../redis/ngx_vaani_redis.h"
#include "../spool/ngx_vaani_spool.h"
#include "ngx_http_vaani_stats.h"


/* what signatures are checked, and digests made with */

#if (NGX_SSL && OPENSSL_VERSION_NUMBER >= 0x10100000L)

#include <openssl/hmac.h>

#define NGX_HTTP_VAANI_HMAC             1

#endif


#define NGX_HTTP_VAANI_VERSION          "0.6.0"


#define NGX_HTTP_VAANI_STRICT           0
#define NGX_HTTP_VAANI_LENIENT          1

/* CAs between the one that is trusted and the certificate of Redis */

#define NGX_HTTP_VAANI_REDIS_SSL_DEPTH  3

#define NGX_HTTP_VAANI_ACCEPT           0
#define NGX_HTTP_VAANI_REJECT           1


typedef struct {
    ngx_array_t                 redis;      /* of ngx_vaani_redis_t * */
    ngx_array_t                 spools;     /* of ngx_vaani_spool_t * */
    ngx_http_vaani_stats_t     *stats;      /* shared; NULL: no endpoints */
    size_t                      stats_size;
} ngx_http_vaani_main_conf_t;


/*
 * A header with signatures, and what they are checked with.
 */

typedef struct {
    ngx_str_t                   header;     /* in lower case */
    ngx_uint_t                  index;      /* in ctx->signatures */
    vaani_signature_format_t    format;
    ngx_array_t                 keys;       /* of HMAC_CTX * */
} ngx_http_vaani_signature_t;


#define NGX_HTTP_VAANI_WEBHOOK          0   /* webhook-signature */
#define NGX_HTTP_VAANI_OTHER            1   /* that of vaani_signature */


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


typedef struct {
    ngx_http_handler_pt         handler;    /* of the location: webhook, status,
                                               health, or NULL */

    ngx_vaani_redis_url_t      *redis_url;
    ngx_str_t                   redis_url_file;     /* where it was set */
    ngx_uint_t                  redis_url_line;
    ngx_str_t                   redis_password;
    ngx_msec_t                  redis_connect_timeout;
    ngx_msec_t                  redis_timeout;
    ngx_uint_t                  redis_connections;
#if (NGX_SSL)
    ngx_vaani_redis_ssl_t       redis_ssl;
#endif

    ngx_vaani_redis_t          *redis;              /* made of these */

    ngx_http_complex_value_t   *prefix;
    ngx_array_t                *channels;   /* of ngx_http_complex_value_t */
    ngx_http_complex_value_t   *stream;
    ngx_uint_t                  stream_maxlen;      /* 0: any */
    ngx_msec_t                  ttl;                /* 0: never */

    ngx_vaani_spool_t          *spool;              /* NULL: none */

    ngx_uint_t                  validation;
    ngx_uint_t                  unknown_event;

    ngx_http_vaani_auth_e       auth;
    ngx_http_complex_value_t   *token;      /* NULL: none is asked for */
    ngx_array_t                *tokens;     /* of vaani_token_t * */
    ngx_flag_t                  token_in_uri;
    ngx_http_vaani_signature_t *secret;     /* of Standard Webhooks, or NULL */
    ngx_http_vaani_signature_t *signature;  /* another, or NULL */
    time_t                      timestamp_tolerance;
} ngx_http_vaani_loc_conf_t;


/*
 * Digests are the first 128 bits of a SHA-1, in base64url: they tell bodies
 * and ids apart, they don't protect them.
 */

#define NGX_HTTP_VAANI_DIGEST_BYTES     16
#define NGX_HTTP_VAANI_DIGEST_LEN       22


typedef struct {
    ngx_http_request_t         *request;
    ngx_vaani_redis_cmd_t      *cmd;        /* NULL: none is under way */
    vaani_alloc_t               alloc;      /* of the request's pool */

    ngx_http_vaani_result_e     result;
    ngx_str_t                   reason;     /* one word, static */

    ngx_str_t                   id;         /* of the delivery, a header */
    ngx_str_t                   timestamp;          /* webhook-timestamp */
    ngx_str_t                   signatures[2];      /* headers */
    ngx_str_t                   body;
    vaani_event_t               event;
    vaani_delivery_t            delivery;
    u_char                      digest[NGX_HTTP_VAANI_DIGEST_LEN];
    u_char                      id_digest[NGX_HTTP_VAANI_DIGEST_LEN];
    u_char                      nonce[VAANI_NONCE_LEN];

    ngx_vaani_spool_entry_t    *entry;      /* NULL: none is being written */

    vaani_transition_t          transition; /* what Redis made of it */

    ngx_msec_t                  redis_start;
    ngx_msec_t                  redis_time;         /* ms */
    unsigned                    redis_asked:1;
    unsigned                    redis_answered:1;
    unsigned                    in_flight:1;
    unsigned                    repeated:1; /* one of the signed headers */
} ngx_http_vaani_ctx_t;


extern ngx_module_t  ngx_http_vaani_module;


/* ngx_http_vaani_directives.c: what the slots of core can't set */

/*
 * Makes a handler that of the location, which can have one.  Returns as a
 * directive does.
 */
char *ngx_http_vaani_set_handler(ngx_conf_t *cf,
    ngx_http_vaani_loc_conf_t *vlcf, ngx_http_handler_pt handler);

char *ngx_http_vaani_webhook(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_vaani_redis(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_vaani_channel(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_vaani_stream(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_vaani_ttl(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_vaani_spool_directive(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

/* compiles a value with variables.  Returns NGX_OK or NGX_ERROR. */
ngx_int_t ngx_http_vaani_compile(ngx_conf_t *cf, ngx_str_t *value,
    ngx_http_complex_value_t *cv);

/* adds a handler of a phase.  Returns NGX_OK or NGX_ERROR. */
ngx_int_t ngx_http_vaani_add_phase(ngx_conf_t *cf, ngx_http_phases phase,
    ngx_http_handler_pt handler);

/* whether two strings are equal */
ngx_uint_t ngx_http_vaani_same(ngx_str_t *one, ngx_str_t *two);


/* ngx_http_vaani_auth_conf.c: the directives of authentication */

char *ngx_http_vaani_token(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_vaani_secret(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_vaani_signature(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);


/* ngx_http_vaani_secrets.c: secrets in the configuration */

char *ngx_http_vaani_redis_password_file(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

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

/* wipes memory when its pool is destroyed.  Returns NGX_OK or NGX_ERROR. */
ngx_int_t ngx_http_vaani_wipe_later(ngx_pool_t *pool, u_char *data,
    size_t len);


#if (NGX_SSL)

/* ngx_http_vaani_redis_ssl.c: the directives of "rediss://", and their merge */

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
 * ngx_http_vaani_headers.c
 *
 * Checks the media type and the coding of the body, and finds the delivery
 * id and the signatures.  Returns NGX_OK, or NGX_DECLINED with *reason and
 * *detail set to static
 * texts.
 */

ngx_int_t ngx_http_vaani_read_headers(ngx_http_request_t *r,
    ngx_http_vaani_ctx_t *ctx, ngx_str_t *reason, char **detail);

/*
 * The value of a header of the request, by its name in lower case; empty if
 * there is none.
 */
void ngx_http_vaani_find_header(ngx_http_request_t *r, char *name,
    ngx_str_t *value);


/*
 * ngx_http_vaani_auth.c
 */

/*
 * Checks what the location asks for: the token, and signatures of ctx->body.
 * Returns NGX_OK; NGX_DECLINED, with ctx->result and ctx->reason set; or
 * NGX_ERROR (no memory).  A refusal takes as long whatever it is for.
 */
ngx_int_t ngx_http_vaani_authorize(ngx_http_request_t *r,
    ngx_http_vaani_ctx_t *ctx);

/*
 * Sends the 401, always the same one.  Returns what
 * ngx_http_finalize_request() takes.
 */
ngx_int_t ngx_http_vaani_send_unauthorized(ngx_http_request_t *r,
    ngx_http_vaani_ctx_t *ctx);


/*
 * ngx_http_vaani_body.c
 *
 * Returns the body in one piece, in memory of the request.  Returns NGX_OK or
 * what the request is to be finalized with.
 */

ngx_int_t ngx_http_vaani_get_body(ngx_http_request_t *r, ngx_str_t *body);


/*
 * ngx_http_vaani_delivery.c
 */

/*
 * Fills ctx->delivery from the event and the location.  Returns NGX_OK or
 * NGX_ERROR (no memory).
 */
ngx_int_t ngx_http_vaani_prepare(ngx_http_request_t *r,
    ngx_http_vaani_ctx_t *ctx);

/*
 * Sends a delivery to Redis; memory is needed until it returns.  Returns the
 * command, or NULL with *status set, as ngx_vaani_redis_eval().
 */
ngx_vaani_redis_cmd_t *ngx_http_vaani_eval(ngx_vaani_redis_t *redis,
    const vaani_event_t *event, const vaani_delivery_t *delivery,
    ngx_pool_t *pool, ngx_vaani_redis_handler_pt handler, void *data,
    ngx_vaani_redis_status_e *status);

/*
 * Reads and counts what the script returned, and whether all channels took the
 * message.  Returns NGX_OK, or NGX_ERROR for a reply that isn't the script's;
 * what went wrong is logged.
 */
ngx_int_t ngx_http_vaani_read_reply(redisReply *reply, ngx_log_t *log,
    vaani_transition_t *transition, ngx_uint_t *published);

/* the time of this turn of the event loop, Unix time in ms */
uint64_t ngx_http_vaani_now(void);

/* the allocator of src/core for a pool, which is its ctx */
void *ngx_http_vaani_palloc(void *pool, size_t size);


/*
 * ngx_http_vaani_digest.c
 */

/* Writes NGX_HTTP_VAANI_DIGEST_LEN bytes to dst. */
void ngx_http_vaani_digest(u_char *dst, const void *data, size_t len);


/*
 * ngx_http_vaani_queue.c: deliveries that go to the spool, and come back
 */

/* the order of a delivery in the spool: that of its call */
uint32_t ngx_http_vaani_order(const vaani_delivery_t *delivery);

/*
 * Writes the delivery of ctx to the spool of the location; handler is called
 * with ctx, unless ctx->entry was detached.  Returns NGX_OK or NGX_ERROR.
 */
ngx_int_t ngx_http_vaani_queue(ngx_vaani_spool_t *spool,
    ngx_http_vaani_ctx_t *ctx, ngx_vaani_spool_append_pt handler);

/*
 * The request goes while its command is under way: if Redis doesn't take the
 * delivery, the spool does, if there is one.
 */
void ngx_http_vaani_outlive(ngx_vaani_spool_t *spool,
    ngx_http_vaani_ctx_t *ctx);

/* delivers a record of a spool, see ngx_vaani_spool_replay_pt */
ngx_int_t ngx_http_vaani_replay(void *data, void *slot, u_char *record,
    size_t len, ngx_str_t *reason);


/*
 * ngx_http_vaani_response.c
 *
 * Both send a whole response and return what ngx_http_finalize_request()
 * takes.
 */

ngx_int_t ngx_http_vaani_send_status(ngx_http_request_t *r,
    ngx_uint_t status, ngx_str_t *body);

/*
 * Sends "application/problem+json" (RFC 9457).  detail is plain ASCII without
 * quotes, or NULL; field is a member of the body for a 422, else NULL.
 */
ngx_int_t ngx_http_vaani_send_problem(ngx_http_request_t *r,
    ngx_uint_t status, ngx_str_t *detail, ngx_str_t *field);

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
 * ngx_http_vaani_status.c: what operators see
 */

char *ngx_http_vaani_status(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);


/*
 * ngx_http_vaani_health.c: an answer for load balancers
 */

char *ngx_http_vaani_health(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
ngx_int_t ngx_http_vaani_health_handler(ngx_http_request_t *r);

/*
 * Discards the body.  Returns NGX_DECLINED if the method is GET or HEAD, else
 * the request has been answered, and what it is to be finalized with.
 */
ngx_int_t ngx_http_vaani_get_only(ngx_http_request_t *r);


/* ngx_http_vaani_variables.c: $vaani_event and the others */

/* the words of $vaani_result, by ngx_http_vaani_result_e */

extern ngx_str_t  ngx_http_vaani_results[];

ngx_int_t ngx_http_vaani_add_variables(ngx_conf_t *cf);


#endif /* _NGX_HTTP_VAANI_H_INCLUDED_ */
