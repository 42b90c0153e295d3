
/*
 * The configuration, and the functions of src/http/conf.  Included by
 * ../ngx_http_vaani.h.
 */


#ifndef _NGX_HTTP_VAANI_CONF_H_INCLUDED_
#define _NGX_HTTP_VAANI_CONF_H_INCLUDED_


#define NGX_HTTP_VAANI_STRICT           0
#define NGX_HTTP_VAANI_LENIENT          1

/* intermediate CAs between the trusted one and the certificate of Redis */

#define NGX_HTTP_VAANI_REDIS_SSL_DEPTH  3

/* the period of a log line that events could repeat, ms */

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
    ngx_uint_t                  no_spool;   /* 1: an endpoint with
                                               authentication has none */
    ngx_http_vaani_stats_t     *stats;      /* shared; NULL: no endpoints */
    size_t                      stats_size;
    ngx_http_vaani_history_t   *history;    /* the same */
    size_t                      history_offset; /* from stats */
} ngx_http_vaani_main_conf_t;


/*
 * The headers that carry a signature, and its format.  Names are in lower
 * case; an empty name means that this part is not signed.
 */

typedef struct {
    ngx_str_t                   signature;
    ngx_str_t                   id;
    ngx_str_t                   timestamp;  /* unless format has it */
    vaani_signature_format_t    format;
} ngx_http_vaani_scheme_t;


/* of keys and channels, if "vaani_prefix" is not set */

#define NGX_HTTP_VAANI_PREFIX           "vaani"


/* the position of a directive in the configuration; line 0: unset */

typedef struct {
    char                       *directive;
    u_char                     *file;
    ngx_uint_t                  line;
} ngx_http_vaani_place_t;


/*
 * The Redis servers of "vaani_redis".
 */

typedef struct {
    ngx_vaani_redis_form_e      form;
    ngx_vaani_redis_url_t      *urls;
    ngx_uint_t                  nurls;
    ngx_str_t                   sentinel;   /* the master's name, or empty */
    ngx_http_vaani_place_t      place;      /* line 0: the default */
} ngx_http_vaani_servers_t;


/*
 * The credentials for Sentinels, whose users are separate from those of Redis.
 */

typedef struct {
    ngx_str_t                   user;       /* or empty */
    ngx_str_t                   password;
    ngx_http_vaani_place_t      place;
    unsigned                    seen:1;     /* an endpoint has it */
    unsigned                    used:1;     /* and its Sentinels get it */
} ngx_http_vaani_sentinel_t;


/*
 * The signature schemes that a location accepts, and their keys: a copy of a
 * row of the table in auth/ngx_http_vaani_signers.c. The first scheme whose
 * signature header was sent is the only one that counts.
 */

#define NGX_HTTP_VAANI_SCHEMES          2

typedef struct {
    ngx_http_vaani_scheme_t     schemes[NGX_HTTP_VAANI_SCHEMES];
    ngx_uint_t                  nschemes;
    ngx_array_t                 keys;       /* of HMAC_CTX * */
    ngx_http_vaani_place_t      place;
} ngx_http_vaani_signer_t;


/*
 * When a request is authorized.  A token can be checked before the body is
 * read.  If a signature is required as well, both are checked with the body,
 * so that a sender with one of the two does not learn that it is correct.
 */

typedef enum {
    NGX_HTTP_VAANI_AUTH_OFF = 0,
    NGX_HTTP_VAANI_AUTH_HEADERS,
    NGX_HTTP_VAANI_AUTH_BODY
} ngx_http_vaani_auth_e;


/*
 * The name of a key or a channel, or its prefix.
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
    ngx_http_vaani_place_t      webhook;    /* of "vaani_webhook"; an "if" in
                                               the location inherits it */

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
    size_t                      payload_max;        /* bytes: messages leave out
                                                       a longer one */
    ngx_uint_t                  partitions;         /* 0: none */
    uint64_t                    ttl;        /* ms; 0: never */

    ngx_http_complex_value_t   *delivery_id;        /* NULL: "webhook-id" */

    ngx_vaani_spool_t          *spool;              /* NULL: none */

    ngx_uint_t                  validation;
    ngx_uint_t                  unknown_event;

    ngx_http_vaani_auth_e       auth;
    ngx_http_complex_value_t   *token;      /* NULL: no token is required */
    ngx_array_t                *tokens;     /* of vaani_token_t * */
    ngx_flag_t                  token_in_uri;
    ngx_http_vaani_signer_t    *secret;     /* of Standard Webhooks, or NULL */
    ngx_http_vaani_signer_t    *signature;  /* of another scheme, or NULL */
    time_t                      timestamp_tolerance;
    ngx_http_vaani_place_t      auth_place; /* of the first of these here */
    unsigned                    endpoint:1; /* it or a location inside */
};


/* whether a location is an endpoint; known as soon as it is merged */

#define ngx_http_vaani_is_webhook(conf)     ((conf)->webhook.line != 0)


/*
 * conf/ngx_http_vaani_merge.c: creates and merges the configuration
 */

void *ngx_http_vaani_create_main_conf(ngx_conf_t *cf);
void *ngx_http_vaani_create_loc_conf(ngx_conf_t *cf);
char *ngx_http_vaani_merge_loc_conf(ngx_conf_t *cf, void *parent, void *child);


/* conf/ngx_http_vaani_parameters.c: functions for all directives */

/* sets *place to the directive that is being read; no string is copied */
void ngx_http_vaani_set_place(ngx_conf_t *cf, ngx_command_t *cmd,
    ngx_http_vaani_place_t *place);

/*
 * Sets the handler of the location, which can have only one.  Returns the same
 * as a directive handler.
 */
char *ngx_http_vaani_set_handler(ngx_conf_t *cf,
    ngx_http_vaani_loc_conf_t *vlcf, ngx_http_handler_pt handler);

/* compiles a value with variables.  Returns NGX_OK or NGX_ERROR. */
ngx_int_t ngx_http_vaani_compile(ngx_conf_t *cf, ngx_str_t *value,
    ngx_http_complex_value_t *cv);

/*
 * Whether a parameter has the form "name=text". name includes the "="; *text
 * is set to the rest of the parameter, which is not copied.
 */
ngx_uint_t ngx_http_vaani_parameter(ngx_str_t *value, char *name,
    ngx_str_t *text);

/* Logs that a parameter is invalid, and returns NGX_CONF_ERROR. */
char *ngx_http_vaani_invalid_parameter(ngx_conf_t *cf, ngx_str_t *value);

/*
 * Refuses parameters after "off" as the first one.  Returns the same as a
 * directive handler.
 */
char *ngx_http_vaani_check_off(ngx_conf_t *cf);

/*
 * Refuses a parameter "name=value" that is given twice, counted from the first
 * one, because one of the values would be ignored.  "secret=" and "file=" can
 * be repeated.  Returns the same as a directive handler.
 */
char *ngx_http_vaani_check_repeated(ngx_conf_t *cf, ngx_uint_t first);

/* adds a phase handler. Returns NGX_OK or NGX_ERROR. */
ngx_int_t ngx_http_vaani_add_phase(ngx_conf_t *cf, ngx_http_phases phase,
    ngx_http_handler_pt handler);

/* whether two strings are equal */
ngx_uint_t ngx_http_vaani_same(ngx_str_t *one, ngx_str_t *two);


/* conf/ngx_http_vaani_secrets.c: secrets in the configuration */

/*
 * Adds a copy of a secret, or the key made from it, to the array.  Returns
 * NGX_OK, or NGX_ERROR after logging the reason.
 */
typedef ngx_int_t (*ngx_http_vaani_secret_pt)(ngx_conf_t *cf,
    ngx_array_t *secrets, ngx_str_t *secret);

/*
 * Passes a parameter to the handler: one secret, or after "file=" the secrets
 * of a file, one per line.  The parameter and the bytes that were read are
 * wiped.  Returns the same as a directive handler.
 */
char *ngx_http_vaani_take_secrets(ngx_conf_t *cf, ngx_str_t *value,
    ngx_array_t *secrets, ngx_http_vaani_secret_pt handler);

/*
 * Passes the secrets of a file to the handler, one per line.  A relative *name
 * is completed with the directory of the configuration.  The bytes that were
 * read are wiped.  Returns NGX_OK, or NGX_ERROR after logging the reason; a
 * file without secrets is an error.
 */
ngx_int_t ngx_http_vaani_read_secrets(ngx_conf_t *cf, ngx_str_t *name,
    ngx_array_t *secrets, ngx_http_vaani_secret_pt handler);

/* wipes memory when its pool is destroyed. Returns NGX_OK or NGX_ERROR. */
ngx_int_t ngx_http_vaani_wipe_later(ngx_pool_t *pool, u_char *data,
    size_t len);


/* conf/ngx_http_vaani_directives.c: setters that nginx's core does not have */

char *ngx_http_vaani_webhook(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_vaani_payload(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_vaani_ttl(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);

/*
 * Warns of an endpoint with nginx's default of client_max_body_size, once per
 * place in the configuration.  Returns the same as a directive handler.
 */
char *ngx_http_vaani_check_body_size(ngx_conf_t *cf,
    ngx_http_vaani_loc_conf_t *conf);


/* conf/ngx_http_vaani_names.c: the names of keys and channels */

char *ngx_http_vaani_prefix(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_vaani_channel(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_vaani_index(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_vaani_stream(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);

/*
 * Refuses names that cannot work for an endpoint, after all other settings are
 * merged.  Returns the same as a directive handler.
 */
char *ngx_http_vaani_check_names(ngx_conf_t *cf,
    ngx_http_vaani_loc_conf_t *conf);


/* conf/ngx_http_vaani_spool_conf.c: "vaani_spool" */

char *ngx_http_vaani_spool_directive(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);


/* conf/ngx_http_vaani_redis_servers.c: "vaani_redis" */

char *ngx_http_vaani_redis(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);

/*
 * The default servers of a location without "vaani_redis": one on this host.
 * Returns NULL if there is no memory.
 */
ngx_http_vaani_servers_t *ngx_http_vaani_default_servers(ngx_conf_t *cf);


/* conf/ngx_http_vaani_redis_password.c: passwords of Redis and of Sentinels */

char *ngx_http_vaani_redis_password_file(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_vaani_redis_sentinel_password_file(ngx_conf_t *cf,
    ngx_command_t *cmd, void *conf);

/*
 * warns of credentials that no Sentinel gets, after all locations are merged
 */
void ngx_http_vaani_check_sentinels(ngx_conf_t *cf,
    ngx_http_vaani_main_conf_t *vmcf);


/* conf/ngx_http_vaani_redis_conf.c: one client for equal settings */

/*
 * Sets conf->redis, after all other settings are merged.  Returns the same as
 * a directive handler.
 */
char *ngx_http_vaani_merge_redis(ngx_conf_t *cf,
    ngx_http_vaani_loc_conf_t *conf);


#if (NGX_SSL)

/*
 * conf/ngx_http_vaani_redis_ssl.c: directives of "rediss://", and their merge
 */

char *ngx_http_vaani_redis_ssl_setting(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_vaani_redis_ssl_file(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_vaani_redis_ssl_password_file(ngx_conf_t *cf,
    ngx_command_t *cmd, void *conf);

/* sets the fields whose initial value is not 0 */
void ngx_http_vaani_redis_ssl_unset(ngx_vaani_redis_ssl_t *ssl);

void ngx_http_vaani_redis_ssl_merge(ngx_vaani_redis_ssl_t *conf,
    ngx_vaani_redis_ssl_t *prev);

#endif


#endif /* _NGX_HTTP_VAANI_CONF_H_INCLUDED_ */
