
/*
 * The configuration of a location: defaults, inheritance, and the checks after
 * the merge.
 */


#include "../ngx_http_vaani.h"


/* bytes of refused deliveries that are kept if senders are authenticated */

#define NGX_HTTP_VAANI_REFUSED_MAX      (16 * 1024 * 1024)


static void ngx_http_vaani_merge_values(ngx_http_vaani_loc_conf_t *conf,
    ngx_http_vaani_loc_conf_t *prev);
static void ngx_http_vaani_merge_handler(ngx_conf_t *cf,
    ngx_http_vaani_loc_conf_t *conf, ngx_http_vaani_loc_conf_t *prev);
static void ngx_http_vaani_keep_refused(ngx_conf_t *cf,
    ngx_http_vaani_loc_conf_t *conf);
static char *ngx_http_vaani_set_receiver(ngx_conf_t *cf,
    ngx_http_vaani_loc_conf_t *conf);


void *
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


void *
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


char *
ngx_http_vaani_merge_loc_conf(ngx_conf_t *cf, void *parent, void *child)
{
    ngx_http_vaani_loc_conf_t *prev = parent;
    ngx_http_vaani_loc_conf_t *conf = child;

    ngx_uint_t  webhook;

    ngx_http_vaani_merge_values(conf, prev);
    ngx_http_vaani_merge_handler(cf, conf, prev);

    if (ngx_http_vaani_merge_auth(cf, conf, prev) != NGX_CONF_OK
        || ngx_http_vaani_check_body_size(cf, conf) != NGX_CONF_OK)
    {
        return NGX_CONF_ERROR;
    }

    webhook = ngx_http_vaani_is_webhook(conf);

    if (!webhook && conf->handler != ngx_http_vaani_health_handler) {
        return NGX_CONF_OK;
    }

    if (ngx_http_vaani_merge_redis(cf, conf) != NGX_CONF_OK) {
        return NGX_CONF_ERROR;
    }

    if (webhook) {

        if (ngx_http_vaani_mask_early(cf) != NGX_OK
            || ngx_http_vaani_check_names(cf, conf) != NGX_CONF_OK)
        {
            return NGX_CONF_ERROR;
        }

        if (conf->auth) {
            ngx_http_vaani_keep_refused(cf, conf);
        }

        if (conf->spool) {
            conf->redis->queued = 1;

        } else {
            conf->redis->refused = 1;
        }
    }

    return conf->spool ? ngx_http_vaani_set_receiver(cf, conf) : NGX_CONF_OK;
}


static void
ngx_http_vaani_merge_values(ngx_http_vaani_loc_conf_t *conf,
    ngx_http_vaani_loc_conf_t *prev)
{
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
}


/*
 * "if" and "limit_except" inside a location are parts of it.
 */

static void
ngx_http_vaani_merge_handler(ngx_conf_t *cf, ngx_http_vaani_loc_conf_t *conf,
    ngx_http_vaani_loc_conf_t *prev)
{
    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    if (clcf->noname && conf->handler == NULL) {
        conf->handler = prev->handler;
        conf->webhook = prev->webhook;
    }

    if (clcf->lmt_excpt && clcf->handler == NULL && conf->handler) {
        clcf->handler = conf->handler;
    }
}


/*
 * Unless configured otherwise, refused deliveries are kept if the sender is
 * authenticated.
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


/*
 * The Redis of a location receives the records of its spool.
 */

static char *
ngx_http_vaani_set_receiver(ngx_conf_t *cf, ngx_http_vaani_loc_conf_t *conf)
{
    /* a record does not name the Redis that it is for */

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
