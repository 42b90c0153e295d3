
/*
 * Creates one ngx_vaani_redis_t for all locations with the same "vaani_redis"
 * and the same settings.
 */


#include "../ngx_http_vaani.h"


static ngx_vaani_redis_t *ngx_http_vaani_create_redis(ngx_conf_t *cf,
    ngx_http_vaani_loc_conf_t *conf);
static char *ngx_http_vaani_lookup_redis(ngx_conf_t *cf,
    ngx_vaani_redis_t *redis, ngx_http_vaani_servers_t *servers);
static char *ngx_http_vaani_label(ngx_conf_t *cf,
    ngx_http_vaani_main_conf_t *vmcf, ngx_vaani_redis_t *redis);
static u_char *ngx_http_vaani_print_label(u_char *p,
    ngx_vaani_redis_t *redis);
static ngx_uint_t ngx_http_vaani_is_label(ngx_http_vaani_main_conf_t *vmcf,
    ngx_str_t *label);
static ngx_vaani_redis_t *ngx_http_vaani_find_redis(
    ngx_http_vaani_main_conf_t *vmcf, ngx_vaani_redis_t *redis);
static ngx_uint_t ngx_http_vaani_same_servers(ngx_vaani_redis_t *one,
    ngx_vaani_redis_t *two);


/*
 * Locations with the same settings share their connections.
 */

char *
ngx_http_vaani_merge_redis(ngx_conf_t *cf, ngx_http_vaani_loc_conf_t *conf)
{
    ngx_str_t                    script;
    ngx_vaani_redis_t           *redis, *same, **slot;
    ngx_http_vaani_main_conf_t  *vmcf;

    if (conf->servers == NULL) {
        conf->servers = ngx_http_vaani_default_servers(cf);

        if (conf->servers == NULL) {
            return NGX_CONF_ERROR;
        }
    }

    redis = ngx_http_vaani_create_redis(cf, conf);

    if (redis == NULL) {
        return NGX_CONF_ERROR;
    }

    vmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_vaani_module);

    same = ngx_http_vaani_find_redis(vmcf, redis);

    if (same) {
        conf->redis = same;
        return NGX_CONF_OK;
    }

    if (ngx_http_vaani_lookup_redis(cf, redis, conf->servers)
        != NGX_CONF_OK)
    {
        return NGX_CONF_ERROR;
    }

#if (NGX_SSL)
    if (redis->url.tls
        && ngx_vaani_redis_ssl_create(cf, &redis->ssl) != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }
#endif

    script.data = (u_char *) vaani_transition_script.data;
    script.len = vaani_transition_script.len;

    ngx_vaani_redis_set_script(redis, &script);

    if (ngx_http_vaani_label(cf, vmcf, redis) != NGX_CONF_OK) {
        return NGX_CONF_ERROR;
    }

    slot = ngx_array_push(&vmcf->redis);

    if (slot == NULL) {
        return NGX_CONF_ERROR;
    }

    *slot = redis;
    conf->redis = redis;

    return NGX_CONF_OK;
}


/*
 * Returns NULL after logging the reason.
 */

static ngx_vaani_redis_t *
ngx_http_vaani_create_redis(ngx_conf_t *cf, ngx_http_vaani_loc_conf_t *conf)
{
    size_t                     size;
    ngx_uint_t                 n;
    ngx_vaani_redis_t         *redis;
    ngx_http_core_loc_conf_t  *clcf;
    ngx_http_vaani_servers_t  *servers;

    servers = conf->servers;

    redis = ngx_pcalloc(cf->pool, sizeof(ngx_vaani_redis_t));

    if (redis == NULL) {
        return NULL;
    }

    redis->form = servers->form;
    redis->sentinel = servers->sentinel;
    redis->nurls = servers->nurls;

    /* of another location, which may have another password file */

    size = servers->nurls * sizeof(ngx_vaani_redis_url_t);

    redis->urls = ngx_palloc(cf->pool, size);

    if (redis->urls == NULL) {
        return NULL;
    }

    ngx_memcpy(redis->urls, servers->urls, size);

    for (n = 0; n < redis->nurls; n++) {
        if (redis->urls[n].password.len == 0) {
            redis->urls[n].password = conf->redis_password;
        }
    }

    redis->url = redis->urls[0];

    if (redis->url.user.len && redis->url.password.len == 0) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "\"vaani_redis\" has a user but no password in %s:%ui",
                      servers->place.file, servers->place.line);
        return NULL;
    }

    if (conf->sentinel) {
        conf->sentinel->seen = 1;

        if (redis->form == NGX_VAANI_REDIS_SENTINEL) {
            redis->sentinel_user = conf->sentinel->user;
            redis->sentinel_password = conf->sentinel->password;
            conf->sentinel->used = 1;
        }
    }

    redis->connect_timeout = conf->redis_connect_timeout;
    redis->timeout = conf->redis_timeout;
    redis->nconnections = conf->redis_connections;

#if (NGX_SSL)
    if (redis->url.tls) {
        redis->ssl = conf->redis_ssl;

        /* each of several servers has a name of its own */

        if (redis->ssl.name.value.len == 0
            && redis->form == NGX_VAANI_REDIS_ONE)
        {
            redis->ssl.name.value = redis->url.server;
        }
    }
#endif

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    if (clcf->resolver && ngx_vaani_redis_has_servers(clcf->resolver)) {
        redis->resolver = clcf->resolver;
        redis->resolver_timeout = clcf->resolver_timeout;
    }

    return redis;
}


/*
 * Names are resolved at start even with a resolver: these addresses are used
 * when its name servers fail.
 */

static char *
ngx_http_vaani_lookup_redis(ngx_conf_t *cf, ngx_vaani_redis_t *redis,
    ngx_http_vaani_servers_t *servers)
{
    char                   *err;
    ngx_uint_t              n;
    ngx_vaani_redis_url_t  *url;

    for (n = 0; n < servers->nurls; n++) {
        url = &servers->urls[n];

        /* locations with other settings resolve it only once */

        if (url->naddrs == 0) {
            err = ngx_vaani_redis_lookup_url(cf->pool, url);

            if (err != NGX_CONF_OK && redis->resolver) {
                ngx_log_error(NGX_LOG_WARN, cf->log, 0,
                              "%s in \"vaani_redis\" \"%V\", only "
                              "\"resolver\" can resolve it in %s:%ui", err,
                              &url->name, servers->place.file,
                              servers->place.line);

            } else if (err != NGX_CONF_OK) {
                ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                              "%s in \"vaani_redis\" \"%V\" in %s:%ui", err,
                              &url->name, servers->place.file,
                              servers->place.line);
                return NGX_CONF_ERROR;
            }
        }

        redis->urls[n].addrs = url->addrs;
        redis->urls[n].naddrs = url->naddrs;
    }

    redis->url.addrs = redis->urls[0].addrs;
    redis->url.naddrs = redis->urls[0].naddrs;

    return NGX_CONF_OK;
}


/*
 * Sets the label of the client in metrics: the name of the first server, the
 * database, the form, and a number if that is not unique.
 */

static char *
ngx_http_vaani_label(ngx_conf_t *cf, ngx_http_vaani_main_conf_t *vmcf,
    ngx_vaani_redis_t *redis)
{
    u_char      *p, *end;
    ngx_uint_t   n;

    p = ngx_pnalloc(cf->pool, redis->url.name.len + redis->sentinel.len
                              + sizeof("/ (sentinel )#") + 2 * NGX_INT_T_LEN);

    if (p == NULL) {
        return NGX_CONF_ERROR;
    }

    end = ngx_http_vaani_print_label(p, redis);

    redis->label.data = p;
    redis->label.len = end - p;

    for (n = 2; ngx_http_vaani_is_label(vmcf, &redis->label); n++) {
        redis->label.len = ngx_sprintf(end, "#%ui", n) - p;
    }

    return NGX_CONF_OK;
}


static u_char *
ngx_http_vaani_print_label(u_char *p, ngx_vaani_redis_t *redis)
{
    p = ngx_sprintf(p, "%V", &redis->url.name);

    if (redis->url.db) {
        p = ngx_sprintf(p, "/%ui", redis->url.db);
    }

    switch (redis->form) {

    case NGX_VAANI_REDIS_LIST:
        return ngx_sprintf(p, " (+%ui)", redis->nurls - 1);

    case NGX_VAANI_REDIS_SENTINEL:
        return ngx_sprintf(p, " (sentinel %V)", &redis->sentinel);

    case NGX_VAANI_REDIS_CLUSTER:
        return ngx_sprintf(p, " (cluster)");

    default: /* NGX_VAANI_REDIS_ONE */
        return p;
    }
}


static ngx_uint_t
ngx_http_vaani_is_label(ngx_http_vaani_main_conf_t *vmcf, ngx_str_t *label)
{
    ngx_uint_t           n;
    ngx_vaani_redis_t  **known;

    known = vmcf->redis.elts;

    for (n = 0; n < vmcf->redis.nelts; n++) {
        if (ngx_http_vaani_same(&known[n]->label, label)) {
            return 1;
        }
    }

    return 0;
}


static ngx_vaani_redis_t *
ngx_http_vaani_find_redis(ngx_http_vaani_main_conf_t *vmcf,
    ngx_vaani_redis_t *redis)
{
    ngx_uint_t           n;
    ngx_vaani_redis_t  **known;

    known = vmcf->redis.elts;

    for (n = 0; n < vmcf->redis.nelts; n++) {

        if (ngx_http_vaani_same_servers(known[n], redis)
#if (NGX_SSL)
            && ngx_vaani_redis_ssl_same(&known[n]->ssl, &redis->ssl)
#endif
            && known[n]->connect_timeout == redis->connect_timeout
            && known[n]->timeout == redis->timeout
            && known[n]->nconnections == redis->nconnections
            && known[n]->resolver == redis->resolver
            && known[n]->resolver_timeout == redis->resolver_timeout)
        {
            return known[n];
        }
    }

    return NULL;
}


/*
 * Whether both lists have the same servers in the same order.
 */

static ngx_uint_t
ngx_http_vaani_same_servers(ngx_vaani_redis_t *one, ngx_vaani_redis_t *two)
{
    ngx_uint_t  n;

    if (one->form != two->form
        || one->nurls != two->nurls
        || one->url.db != two->url.db
        || !ngx_http_vaani_same(&one->url.user, &two->url.user)
        || !ngx_http_vaani_same(&one->url.password, &two->url.password)
        || !ngx_http_vaani_same(&one->sentinel, &two->sentinel)
        || !ngx_http_vaani_same(&one->sentinel_user, &two->sentinel_user)
        || !ngx_http_vaani_same(&one->sentinel_password,
                                &two->sentinel_password))
    {
        return 0;
    }

    for (n = 0; n < one->nurls; n++) {
        if (!ngx_http_vaani_same(&one->urls[n].name, &two->urls[n].name)) {
            return 0;
        }
    }

    return 1;
}
