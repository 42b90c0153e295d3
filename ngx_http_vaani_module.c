
/*
 * ngx_http_vaani_module: nginx as the webhook endpoint of Vaani calls.
 *
 * This file has the table of directives and the module's life cycle.  The
 * configuration is merged in src/http/conf/ngx_http_vaani_merge.c; requests
 * are handled by src/http/ngx_http_vaani_handler.c.
 */


#include "src/http/ngx_http_vaani.h"

#define NGX_HTTP_VAANI_MAX_CONNECTIONS  64


static ngx_int_t ngx_http_vaani_preconfiguration(ngx_conf_t *cf);
static ngx_int_t ngx_http_vaani_postconfiguration(ngx_conf_t *cf);
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
 * Refused deliveries are never sent again.  Therefore one line warns if they
 * are lost.
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
                      "vaani: some endpoints have authentication and no "
                      "\"vaani_spool\"; deliveries that they refuse are not "
                      "kept");
        return;
    }

    spool = vmcf->spools.elts;

    for (n = 0; n < vmcf->spools.nelts; n++) {

        if (spool[n]->authenticated && spool[n]->refused == 0) {
            ngx_log_error(NGX_LOG_NOTICE, cycle->log, 0,
                          "vaani: \"vaani_spool\" \"%V\" has \"refused=off\"; "
                          "refused deliveries are not kept",
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

    /* the cache manager and loader handle no requests */

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
