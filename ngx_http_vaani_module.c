
/*
 * ngx_http_vaani_module: nginx as the webhook endpoint of Vaani calls.
 *
 * The front door: directives, configuration and the module's life cycle.  The
 * way of a request begins in src/http/ngx_http_vaani_handler.c.
 */


#include "src/http/ngx_http_vaani.h"

#define NGX_HTTP_VAANI_MAX_CONNECTIONS  64

/* bytes of refused deliveries that are kept where senders are authenticated */

#define NGX_HTTP_VAANI_REFUSED_MAX      (16 * 1024 * 1024)


static ngx_int_t ngx_http_vaani_preconfiguration(ngx_conf_t *cf);
static ngx_int_t ngx_http_vaani_postconfiguration(ngx_conf_t *cf);
static void *ngx_http_vaani_create_main_conf(ngx_conf_t *cf);
static void *ngx_http_vaani_create_loc_conf(ngx_conf_t *cf);
static char *ngx_http_vaani_merge_loc_conf(ngx_conf_t *cf, void *parent,
    void *child);
static void ngx_http_vaani_keep_refused(ngx_conf_t *cf,
    ngx_http_vaani_loc_conf_t *conf);
static char *ngx_http_vaani_check_timeout(ngx_conf_t *cf, void *post,
    void *data);
static char *ngx_http_vaani_check_tolerance(ngx_conf_t *cf, void *post,
    void *data);
static ngx_int_t ngx_http_vaani_init_module(ngx_cycle_t *cycle);
static void ngx_http_vaani_tell_not_kept(ngx_cycle_t *cycle);
static ngx_int_t ngx_http_vaani_init_process(ngx_cycle_t *cycle);
static void ngx_http_vaani_exit_process(ngx_cycle_t *cycle);


static ngx_conf_post_t  ngx_http_vaani_timeout_post = {
    ngx_http_vaani_check_timeout
};


static ngx_conf_post_t  ngx_http_vaani_tolerance_post = {
    ngx_http_vaani_check_tolerance
};


static ngx_conf_num_bounds_t  ngx_http_vaani_connections_bounds = {
    ngx_conf_check_num_bounds, 1, NGX_HTTP_VAANI_MAX_CONNECTIONS
};


static ngx_conf_num_bounds_t  ngx_http_vaani_partitions_bounds = {
    ngx_conf_check_num_bounds, 1, VAANI_SLOTS
};


static ngx_conf_enum_t  ngx_http_vaani_validations[] = {
    { ngx_string("strict"), NGX_HTTP_VAANI_STRICT },
    { ngx_string("lenient"), NGX_HTTP_VAANI_LENIENT },
    { ngx_null_string, 0 }
};


static ngx_conf_enum_t  ngx_http_vaani_unknown_events[] = {
    { ngx_string("accept"), NGX_HTTP_VAANI_ACCEPT },
    { ngx_string("reject"), NGX_HTTP_VAANI_REJECT },
    { ngx_null_string, 0 }
};


#if (NGX_SSL)

static ngx_conf_bitmask_t  ngx_http_vaani_redis_ssl_protocols[] = {
    { ngx_string("TLSv1"), NGX_SSL_TLSv1 },
    { ngx_string("TLSv1.1"), NGX_SSL_TLSv1_1 },
    { ngx_string("TLSv1.2"), NGX_SSL_TLSv1_2 },
    { ngx_string("TLSv1.3"), NGX_SSL_TLSv1_3 },
    { ngx_null_string, 0 }
};

#endif


static ngx_command_t  ngx_http_vaani_commands[] = {

    { ngx_string("vaani_webhook"),
      NGX_HTTP_LOC_CONF|NGX_CONF_NOARGS,
      ngx_http_vaani_webhook,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("vaani_redis"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_1MORE,
      ngx_http_vaani_redis,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("vaani_redis_password_file"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_http_vaani_redis_password_file,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("vaani_redis_sentinel_password_file"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE12,
      ngx_http_vaani_redis_sentinel_password_file,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("vaani_redis_connect_timeout"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_msec_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_vaani_loc_conf_t, redis_connect_timeout),
      &ngx_http_vaani_timeout_post },

    { ngx_string("vaani_redis_timeout"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_msec_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_vaani_loc_conf_t, redis_timeout),
      &ngx_http_vaani_timeout_post },

    { ngx_string("vaani_redis_connections"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_num_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_vaani_loc_conf_t, redis_connections),
      &ngx_http_vaani_connections_bounds },

#if (NGX_SSL)

    { ngx_string("vaani_redis_ssl_verify"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_FLAG,
      ngx_conf_set_flag_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_vaani_loc_conf_t, redis_ssl.verify),
      NULL },

    { ngx_string("vaani_redis_ssl_verify_depth"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_num_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_vaani_loc_conf_t, redis_ssl.verify_depth),
      NULL },

    { ngx_string("vaani_redis_ssl_trusted_certificate"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_http_vaani_redis_ssl_file,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_vaani_loc_conf_t, redis_ssl.trusted),
      NULL },

    { ngx_string("vaani_redis_ssl_crl"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_http_vaani_redis_ssl_file,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_vaani_loc_conf_t, redis_ssl.crl),
      NULL },

    { ngx_string("vaani_redis_ssl_name"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_http_vaani_redis_ssl_setting,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_vaani_loc_conf_t, redis_ssl.name),
      NULL },

    { ngx_string("vaani_redis_ssl_protocols"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_1MORE,
      ngx_conf_set_bitmask_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_vaani_loc_conf_t, redis_ssl.protocols),
      &ngx_http_vaani_redis_ssl_protocols },

    { ngx_string("vaani_redis_ssl_ciphers"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_http_vaani_redis_ssl_setting,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_vaani_loc_conf_t, redis_ssl.ciphers),
      NULL },

    { ngx_string("vaani_redis_ssl_certificate"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_http_vaani_redis_ssl_file,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_vaani_loc_conf_t, redis_ssl.certificate),
      NULL },

    { ngx_string("vaani_redis_ssl_certificate_key"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_http_vaani_redis_ssl_file,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_vaani_loc_conf_t, redis_ssl.key),
      NULL },

    { ngx_string("vaani_redis_ssl_password_file"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_http_vaani_redis_ssl_password_file,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("vaani_redis_ssl_session_reuse"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_FLAG,
      ngx_conf_set_flag_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_vaani_loc_conf_t, redis_ssl.session_reuse),
      NULL },

#endif

    { ngx_string("vaani_prefix"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_http_vaani_prefix,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("vaani_partitions"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_num_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_vaani_loc_conf_t, partitions),
      &ngx_http_vaani_partitions_bounds },

    { ngx_string("vaani_channel"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE12,
      ngx_http_vaani_channel,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("vaani_delivery_id"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_http_set_complex_value_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_vaani_loc_conf_t, delivery_id),
      NULL },

    { ngx_string("vaani_stream"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE12,
      ngx_http_vaani_stream,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("vaani_index"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_FLAG,
      ngx_http_vaani_index,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_vaani_loc_conf_t, index),
      NULL },

    { ngx_string("vaani_payload"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_http_vaani_payload,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("vaani_ttl"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_http_vaani_ttl,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("vaani_spool"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1234
                        |NGX_CONF_TAKE5,
      ngx_http_vaani_spool_directive,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("vaani_validation"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_enum_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_vaani_loc_conf_t, validation),
      &ngx_http_vaani_validations },

    { ngx_string("vaani_unknown_event"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_enum_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_vaani_loc_conf_t, unknown_event),
      &ngx_http_vaani_unknown_events },

    { ngx_string("vaani_status"),
      NGX_HTTP_LOC_CONF|NGX_CONF_NOARGS,
      ngx_http_vaani_status,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("vaani_health"),
      NGX_HTTP_LOC_CONF|NGX_CONF_NOARGS,
      ngx_http_vaani_health,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("vaani_token"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_1MORE,
      ngx_http_vaani_token,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("vaani_secret"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_1MORE,
      ngx_http_vaani_secret,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("vaani_signature"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_1MORE,
      ngx_http_vaani_signature,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("vaani_timestamp_tolerance"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_sec_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_vaani_loc_conf_t, timestamp_tolerance),
      &ngx_http_vaani_tolerance_post },

      ngx_null_command
};


static ngx_http_module_t  ngx_http_vaani_module_ctx = {
    ngx_http_vaani_preconfiguration,       /* preconfiguration */
    ngx_http_vaani_postconfiguration,      /* postconfiguration */

    ngx_http_vaani_create_main_conf,       /* create main configuration */
    NULL,                                  /* init main configuration */

    NULL,                                  /* create server configuration */
    NULL,                                  /* merge server configuration */

    ngx_http_vaani_create_loc_conf,        /* create location configuration */
    ngx_http_vaani_merge_loc_conf          /* merge location configuration */
};


ngx_module_t  ngx_http_vaani_module = {
    NGX_MODULE_V1,
    &ngx_http_vaani_module_ctx,            /* module context */
    ngx_http_vaani_commands,               /* module directives */
    NGX_HTTP_MODULE,                       /* module type */
    NULL,                                  /* init master */
    ngx_http_vaani_init_module,            /* init module */
    ngx_http_vaani_init_process,           /* init process */
    NULL,                                  /* init thread */
    NULL,                                  /* exit thread */
    ngx_http_vaani_exit_process,           /* exit process */
    NULL,                                  /* exit master */
    NGX_MODULE_V1_PADDING
};


static ngx_int_t
ngx_http_vaani_preconfiguration(ngx_conf_t *cf)
{
    return ngx_http_vaani_add_variables(cf);
}


static ngx_int_t
ngx_http_vaani_postconfiguration(ngx_conf_t *cf)
{
    ngx_http_vaani_main_conf_t  *vmcf;

    if (ngx_http_vaani_check_auth(cf) != NGX_OK) {
        return NGX_ERROR;
    }

    vmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_vaani_module);

    ngx_http_vaani_check_sentinels(cf, vmcf);

    if (vmcf->redis.nelts && ngx_vaani_redis_check_hiredis(cf) != NGX_OK) {
        return NGX_ERROR;
    }

    if (ngx_http_vaani_init_log(cf) != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_http_vaani_init_stats(cf);
}


static void *
ngx_http_vaani_create_main_conf(ngx_conf_t *cf)
{
    ngx_http_vaani_main_conf_t  *vmcf;

    vmcf = ngx_pcalloc(cf->pool, sizeof(ngx_http_vaani_main_conf_t));

    if (vmcf == NULL) {
        return NULL;
    }

    if (ngx_array_init(&vmcf->redis, cf->pool, 1, sizeof(ngx_vaani_redis_t *))
        != NGX_OK
        || ngx_array_init(&vmcf->sentinels, cf->pool, 1,
                          sizeof(ngx_http_vaani_sentinel_t *))
           != NGX_OK
        || ngx_array_init(&vmcf->spools, cf->pool, 1,
                          sizeof(ngx_vaani_spool_t *))
           != NGX_OK
        || ngx_array_init(&vmcf->protected, cf->pool, 1,
                          sizeof(ngx_http_vaani_loc_conf_t *))
           != NGX_OK
        || ngx_array_init(&vmcf->warned, cf->pool, 1,
                          sizeof(ngx_http_vaani_place_t))
           != NGX_OK)
    {
        return NULL;
    }

    return vmcf;
}


static void *
ngx_http_vaani_create_loc_conf(ngx_conf_t *cf)
{
    ngx_http_vaani_loc_conf_t  *conf;

    conf = ngx_pcalloc(cf->pool, sizeof(ngx_http_vaani_loc_conf_t));

    if (conf == NULL) {
        return NULL;
    }

    /*
     * set by ngx_pcalloc():
     *
     *     conf->parent = NULL;
     *     conf->handler = NULL;
     *     conf->webhook = { NULL, NULL, 0 };
     *     conf->redis_password = { 0, NULL };
     *     conf->redis = NULL;
     *     conf->index_place = { NULL, NULL, 0 };
     *     conf->auth = NGX_HTTP_VAANI_AUTH_OFF;
     *     conf->tokens = NULL;
     *     conf->token_in_uri = 0;
     *     conf->auth_place = { NULL, NULL, 0 };
     *     conf->endpoint = 0;
     */

#if (NGX_SSL)
    ngx_http_vaani_redis_ssl_unset(&conf->redis_ssl);
#endif

    conf->servers = NGX_CONF_UNSET_PTR;
    conf->sentinel = NGX_CONF_UNSET_PTR;
    conf->redis_connect_timeout = NGX_CONF_UNSET_MSEC;
    conf->redis_timeout = NGX_CONF_UNSET_MSEC;
    conf->redis_connections = NGX_CONF_UNSET_UINT;

    conf->prefix = NGX_CONF_UNSET_PTR;
    conf->channels = NGX_CONF_UNSET_PTR;
    conf->stream = NGX_CONF_UNSET_PTR;
    conf->stream_maxlen = NGX_CONF_UNSET_UINT;
    conf->index = NGX_CONF_UNSET;
    conf->payload_max = NGX_CONF_UNSET_SIZE;
    conf->partitions = NGX_CONF_UNSET_UINT;
    conf->ttl = NGX_HTTP_VAANI_UNSET_TTL;
    conf->delivery_id = NGX_CONF_UNSET_PTR;
    conf->spool = NGX_CONF_UNSET_PTR;

    conf->validation = NGX_CONF_UNSET_UINT;
    conf->unknown_event = NGX_CONF_UNSET_UINT;

    conf->token = NGX_CONF_UNSET_PTR;
    conf->secret = NGX_CONF_UNSET_PTR;
    conf->signature = NGX_CONF_UNSET_PTR;
    conf->timestamp_tolerance = NGX_CONF_UNSET;

    return conf;
}


static char *
ngx_http_vaani_merge_loc_conf(ngx_conf_t *cf, void *parent, void *child)
{
    ngx_http_vaani_loc_conf_t *prev = parent;
    ngx_http_vaani_loc_conf_t *conf = child;

    ngx_http_core_loc_conf_t  *clcf;

    ngx_conf_merge_ptr_value(conf->servers, prev->servers, NULL);
    ngx_conf_merge_ptr_value(conf->sentinel, prev->sentinel, NULL);
    ngx_conf_merge_str_value(conf->redis_password, prev->redis_password, "");
    ngx_conf_merge_msec_value(conf->redis_connect_timeout,
                              prev->redis_connect_timeout, 1000);
    ngx_conf_merge_msec_value(conf->redis_timeout, prev->redis_timeout, 1000);
    ngx_conf_merge_uint_value(conf->redis_connections,
                              prev->redis_connections, 1);

#if (NGX_SSL)
    ngx_http_vaani_redis_ssl_merge(&conf->redis_ssl, &prev->redis_ssl);
#endif

    ngx_conf_merge_ptr_value(conf->prefix, prev->prefix, NULL);
    ngx_conf_merge_ptr_value(conf->channels, prev->channels, NULL);
    ngx_conf_merge_ptr_value(conf->stream, prev->stream, NULL);
    ngx_conf_merge_uint_value(conf->stream_maxlen, prev->stream_maxlen, 0);

    if (conf->index == NGX_CONF_UNSET) {
        conf->index_place = prev->index_place;
    }

    ngx_conf_merge_value(conf->index, prev->index, 0);
    ngx_conf_merge_size_value(conf->payload_max, prev->payload_max,
                              NGX_MAX_SIZE_T_VALUE);
    ngx_conf_merge_uint_value(conf->partitions, prev->partitions, 0);

    if (conf->ttl == NGX_HTTP_VAANI_UNSET_TTL) {
        conf->ttl = (prev->ttl == NGX_HTTP_VAANI_UNSET_TTL)
                    ? (uint64_t) 7 * 24 * 60 * 60 * 1000 : prev->ttl;
    }

    ngx_conf_merge_ptr_value(conf->delivery_id, prev->delivery_id, NULL);
    ngx_conf_merge_ptr_value(conf->spool, prev->spool, NULL);

    ngx_conf_merge_uint_value(conf->validation, prev->validation,
                              NGX_HTTP_VAANI_LENIENT);
    ngx_conf_merge_uint_value(conf->unknown_event, prev->unknown_event,
                              NGX_HTTP_VAANI_ACCEPT);

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    /* "if" and "limit_except" inside of a location belong to it */

    if (clcf->noname && conf->handler == NULL) {
        conf->handler = prev->handler;
        conf->webhook = prev->webhook;
    }

    if (clcf->lmt_excpt && clcf->handler == NULL && conf->handler) {
        clcf->handler = conf->handler;
    }

    if (ngx_http_vaani_merge_auth(cf, conf, prev) != NGX_CONF_OK
        || ngx_http_vaani_check_body_size(cf, conf) != NGX_CONF_OK)
    {
        return NGX_CONF_ERROR;
    }

    if (ngx_http_vaani_is_webhook(conf)
        && ngx_http_vaani_mask_early(cf) != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    if (!ngx_http_vaani_is_webhook(conf)
        && conf->handler != ngx_http_vaani_health_handler)
    {
        return NGX_CONF_OK;
    }

    if (ngx_http_vaani_merge_redis(cf, conf) != NGX_CONF_OK) {
        return NGX_CONF_ERROR;
    }

    if (ngx_http_vaani_is_webhook(conf)
        && ngx_http_vaani_check_names(cf, conf) != NGX_CONF_OK)
    {
        return NGX_CONF_ERROR;
    }

    if (ngx_http_vaani_is_webhook(conf) && conf->auth) {
        ngx_http_vaani_keep_refused(cf, conf);
    }

    if (conf->spool == NULL) {
        return NGX_CONF_OK;
    }

    /* records don't say which Redis they are for */

    if (conf->spool->data && conf->spool->data != conf->redis) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "\"vaani_spool\" \"%V\" is used with two Redis servers "
                      "or different settings for one in %s:%ui",
                      &conf->spool->path->name, conf->spool->path->conf_file,
                      conf->spool->path->line);
        return NGX_CONF_ERROR;
    }

    conf->spool->data = conf->redis;
    conf->spool->nconnections = conf->redis->nconnections;
    conf->spool->max_servers = ngx_vaani_redis_max_servers(conf->redis);
    conf->spool->receiver = &ngx_http_vaani_receiver;

    return NGX_CONF_OK;
}


/*
 * What an authenticated sender posts is kept if it's refused, unless that is
 * asked for otherwise.
 */

static void
ngx_http_vaani_keep_refused(ngx_conf_t *cf, ngx_http_vaani_loc_conf_t *conf)
{
    ngx_http_vaani_main_conf_t  *vmcf;

    if (conf->spool == NULL) {
        vmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_vaani_module);
        vmcf->no_spool = 1;
        return;
    }

    conf->spool->authenticated = 1;

    if (!conf->spool->refused_set) {
        conf->spool->refused = NGX_HTTP_VAANI_REFUSED_MAX;
    }
}


static char *
ngx_http_vaani_check_timeout(ngx_conf_t *cf, void *post, void *data)
{
    ngx_msec_t *timeout = data;

    return *timeout ? NGX_CONF_OK : "must not be 0";
}


static char *
ngx_http_vaani_check_tolerance(ngx_conf_t *cf, void *post, void *data)
{
    time_t *tolerance = data;

    return *tolerance ? NGX_CONF_OK : "must not be 0";
}


static ngx_int_t
ngx_http_vaani_init_module(ngx_cycle_t *cycle)
{
    if (!ngx_test_config) {
        ngx_log_error(NGX_LOG_NOTICE, cycle->log, 0,
                      "vaani: ngx_http_vaani_module/%s, hiredis %d.%d.%d",
                      NGX_HTTP_VAANI_VERSION, HIREDIS_MAJOR, HIREDIS_MINOR,
                      HIREDIS_PATCH);

        ngx_http_vaani_tell_not_kept(cycle);
    }

    return NGX_OK;
}


/*
 * Nobody sends a refused delivery again, so it is said once if they go lost.
 */

static void
ngx_http_vaani_tell_not_kept(ngx_cycle_t *cycle)
{
    ngx_uint_t                    n;
    ngx_vaani_spool_t           **spool;
    ngx_http_vaani_main_conf_t   *vmcf;

    vmcf = ngx_http_cycle_get_module_main_conf(cycle, ngx_http_vaani_module);

    if (vmcf == NULL) {
        return;
    }

    if (vmcf->no_spool) {
        ngx_log_error(NGX_LOG_NOTICE, cycle->log, 0,
                      "vaani: there are endpoints with authentication and "
                      "without \"vaani_spool\": deliveries that they refuse "
                      "aren't kept");
        return;
    }

    spool = vmcf->spools.elts;

    for (n = 0; n < vmcf->spools.nelts; n++) {

        if (spool[n]->authenticated && spool[n]->refused == 0) {
            ngx_log_error(NGX_LOG_NOTICE, cycle->log, 0,
                          "vaani: \"vaani_spool\" \"%V\" has \"refused=off\": "
                          "deliveries that are refused aren't kept",
                          &spool[n]->path->name);
            return;
        }
    }
}


static ngx_int_t
ngx_http_vaani_init_process(ngx_cycle_t *cycle)
{
    ngx_uint_t                    n;
    ngx_vaani_redis_t           **redis;
    ngx_vaani_spool_t           **spool;
    ngx_http_vaani_main_conf_t   *vmcf;

    /* the cache manager and loader take no requests */

    if (ngx_process == NGX_PROCESS_HELPER) {
        return NGX_OK;
    }

    vmcf = ngx_http_cycle_get_module_main_conf(cycle, ngx_http_vaani_module);

    if (vmcf == NULL) {
        return NGX_OK;
    }

    ngx_http_vaani_init_stats_worker(cycle);

    redis = vmcf->redis.elts;

    for (n = 0; n < vmcf->redis.nelts; n++) {
        if (ngx_vaani_redis_init_worker(redis[n], cycle) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    spool = vmcf->spools.elts;

    for (n = 0; n < vmcf->spools.nelts; n++) {
        if (spool[n]->data
            && ngx_vaani_spool_init_worker(spool[n], cycle) != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static void
ngx_http_vaani_exit_process(ngx_cycle_t *cycle)
{
    ngx_uint_t                    n;
    ngx_vaani_redis_t           **redis;
    ngx_vaani_spool_t           **spool;
    ngx_http_vaani_main_conf_t   *vmcf;

    vmcf = ngx_http_cycle_get_module_main_conf(cycle, ngx_http_vaani_module);

    if (vmcf == NULL) {
        return;
    }

    spool = vmcf->spools.elts;

    for (n = 0; n < vmcf->spools.nelts; n++) {
        ngx_vaani_spool_exit_worker(spool[n]);
    }

    redis = vmcf->redis.elts;

    for (n = 0; n < vmcf->redis.nelts; n++) {
        ngx_vaani_redis_exit_worker(redis[n]);
    }
}
