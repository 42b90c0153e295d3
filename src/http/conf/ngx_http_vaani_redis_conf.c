
/*
 * The directive "vaani_redis", and what becomes of it: one ngx_vaani_redis_t
 * for all locations with the same settings.
 */


#include "../ngx_http_vaani.h"


#define NGX_HTTP_VAANI_MAX_URLS         32


static ngx_int_t ngx_http_vaani_redis_form(ngx_conf_t *cf,
    ngx_http_vaani_servers_t *servers, ngx_str_t *value);
static ngx_uint_t ngx_http_vaani_is_form(ngx_str_t *value);
static char *ngx_http_vaani_add_url(ngx_conf_t *cf,
    ngx_http_vaani_servers_t *servers, ngx_str_t *value);
static char *ngx_http_vaani_check_urls(ngx_http_vaani_servers_t *servers);
static ngx_uint_t ngx_http_vaani_same_place(ngx_vaani_redis_url_t *one,
    ngx_vaani_redis_url_t *two);
static char *ngx_http_vaani_share_credentials(
    ngx_http_vaani_servers_t *servers);
static char *ngx_http_vaani_share_db(ngx_http_vaani_servers_t *servers);
static ngx_http_vaani_servers_t *ngx_http_vaani_default_servers(
    ngx_conf_t *cf);
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


static ngx_str_t  ngx_http_vaani_default_redis =
    ngx_string("redis://127.0.0.1:6379");


char *
ngx_http_vaani_redis(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_vaani_loc_conf_t *vlcf = conf;

    char                      *err;
    ngx_str_t                 *value;
    ngx_uint_t                 n;
    ngx_http_vaani_servers_t  *servers;

    if (vlcf->servers != NGX_CONF_UNSET_PTR) {
        return "is duplicate";
    }

    servers = ngx_pcalloc(cf->pool, sizeof(ngx_http_vaani_servers_t));

    if (servers == NULL) {
        return NGX_CONF_ERROR;
    }

    servers->urls = ngx_palloc(cf->pool, (cf->args->nelts - 1)
                                         * sizeof(ngx_vaani_redis_url_t));

    if (servers->urls == NULL) {
        return NGX_CONF_ERROR;
    }

    ngx_http_vaani_set_place(cf, cmd, &servers->place);

    value = cf->args->elts;

    /* the form first: it says which port a URL without one means */

    for (n = 1; n < cf->args->nelts; n++) {
        if (ngx_http_vaani_redis_form(cf, servers, &value[n]) != NGX_OK) {
            return NGX_CONF_ERROR;
        }
    }

    err = NGX_CONF_OK;

    for (n = 1; n < cf->args->nelts && err == NGX_CONF_OK; n++) {
        if (!ngx_http_vaani_is_form(&value[n])) {
            err = ngx_http_vaani_add_url(cf, servers, &value[n]);
        }
    }

    if (err == NGX_CONF_OK) {
        err = ngx_http_vaani_check_urls(servers);
    }

    if (err == NGX_CONF_ERROR) {
        return NGX_CONF_ERROR;
    }

    if (err != NGX_CONF_OK) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "%s in \"vaani_redis\"", err);
        return NGX_CONF_ERROR;
    }

    vlcf->servers = servers;

    return NGX_CONF_OK;
}


/*
 * Takes "cluster" or "sentinel=", and leaves URLs.
 */

static ngx_int_t
ngx_http_vaani_redis_form(ngx_conf_t *cf, ngx_http_vaani_servers_t *servers,
    ngx_str_t *value)
{
    if (!ngx_http_vaani_is_form(value)) {
        return NGX_OK;
    }

    if (servers->form != NGX_VAANI_REDIS_ONE) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"vaani_redis\" takes one of \"cluster\" and "
                           "\"sentinel=\", once");
        return NGX_ERROR;
    }

    if (value->data[0] == 'c') {
        servers->form = NGX_VAANI_REDIS_CLUSTER;
        return NGX_OK;
    }

    servers->form = NGX_VAANI_REDIS_SENTINEL;
    servers->sentinel.data = value->data + sizeof("sentinel=") - 1;
    servers->sentinel.len = value->len - (sizeof("sentinel=") - 1);

    if (servers->sentinel.len == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"sentinel=\" in \"vaani_redis\" needs the name of "
                           "the master, as the Sentinels call it");
        return NGX_ERROR;
    }

    return NGX_OK;
}


static ngx_uint_t
ngx_http_vaani_is_form(ngx_str_t *value)
{
    return ngx_strcmp(value->data, "cluster") == 0
           || ngx_strncmp(value->data, "sentinel=", 9) == 0;
}


static char *
ngx_http_vaani_add_url(ngx_conf_t *cf, ngx_http_vaani_servers_t *servers,
    ngx_str_t *value)
{
    char                   *err;
    in_port_t               port;
    ngx_vaani_redis_url_t  *url;

    if (servers->nurls == NGX_HTTP_VAANI_MAX_URLS) {
        return "there are more than 32 URLs";
    }

    url = &servers->urls[servers->nurls];

    port = (servers->form == NGX_VAANI_REDIS_SENTINEL)
           ? NGX_VAANI_REDIS_SENTINEL_PORT : NGX_VAANI_REDIS_PORT;

    err = ngx_vaani_redis_parse_url(cf->pool, value, port, url);

    if (err != NGX_CONF_OK) {
        return err;
    }

    servers->nurls++;

    if (ngx_http_vaani_wipe_later(cf->pool, url->password.data,
                                  url->password.len)
        != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


/*
 * Whatever is said about several URLs at once.  Texts never quote one, it may
 * have a password.
 */

static char *
ngx_http_vaani_check_urls(ngx_http_vaani_servers_t *servers)
{
    char                   *err;
    ngx_uint_t              n, i;
    ngx_vaani_redis_url_t  *url;

    if (servers->nurls == 0) {
        return "there is no URL";
    }

    url = servers->urls;

    for (n = 0; n < servers->nurls; n++) {

        if (url[n].tls != url[0].tls) {
            return "some URLs are with TLS, others without";
        }

        if (url[n].server.len == 0
            && (servers->form == NGX_VAANI_REDIS_CLUSTER
                || servers->form == NGX_VAANI_REDIS_SENTINEL))
        {
            return "\"unix:\" names no Sentinel and no node of a cluster";
        }

        for (i = 0; i < n; i++) {
            if (ngx_http_vaani_same_place(&url[n], &url[i])) {
                return "two URLs name the same server";
            }
        }
    }

    if (servers->nurls > 1 && servers->form == NGX_VAANI_REDIS_ONE) {
        servers->form = NGX_VAANI_REDIS_LIST;
    }

    err = ngx_http_vaani_share_credentials(servers);

    return (err == NGX_CONF_OK) ? ngx_http_vaani_share_db(servers) : err;
}


static ngx_uint_t
ngx_http_vaani_same_place(ngx_vaani_redis_url_t *one,
    ngx_vaani_redis_url_t *two)
{
    /* of "unix:", the name has the path */

    if (one->server.len == 0 || two->server.len == 0) {
        return ngx_http_vaani_same(&one->name, &two->name);
    }

    return one->port == two->port
           && one->server.len == two->server.len
           && ngx_strncasecmp(one->server.data, two->server.data,
                              one->server.len) == 0;
}


/*
 * Any of the servers may become the one to talk to, so they all take the same
 * user and password; it's enough to write them once.
 */

static char *
ngx_http_vaani_share_credentials(ngx_http_vaani_servers_t *servers)
{
    ngx_uint_t              n;
    ngx_vaani_redis_url_t  *url, *first;

    first = NULL;

    for (n = 0; n < servers->nurls; n++) {
        url = &servers->urls[n];

        if (url->user.len == 0 && url->password.len == 0) {
            continue;
        }

        if (first == NULL) {
            first = url;
            continue;
        }

        if (!ngx_http_vaani_same(&url->user, &first->user)
            || !ngx_http_vaani_same(&url->password, &first->password))
        {
            return "the URLs have different users or passwords";
        }
    }

    for (n = 0; first && n < servers->nurls; n++) {
        servers->urls[n].user = first->user;
        servers->urls[n].password = first->password;
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_vaani_share_db(ngx_http_vaani_servers_t *servers)
{
    ngx_uint_t              n;
    ngx_vaani_redis_url_t  *url, *first;

    first = NULL;

    for (n = 0; n < servers->nurls; n++) {
        url = &servers->urls[n];

        if (!url->db_set) {
            continue;
        }

        if (first == NULL) {
            first = url;

        } else if (url->db != first->db) {
            return "the URLs have different databases";
        }
    }

    if (first == NULL) {
        return NGX_CONF_OK;
    }

    if (first->db && servers->form == NGX_VAANI_REDIS_CLUSTER) {
        return "a cluster has no database but 0";
    }

    for (n = 0; n < servers->nurls; n++) {
        servers->urls[n].db = first->db;
    }

    return NGX_CONF_OK;
}


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


static ngx_http_vaani_servers_t *
ngx_http_vaani_default_servers(ngx_conf_t *cf)
{
    ngx_http_vaani_servers_t  *servers;

    servers = ngx_pcalloc(cf->pool, sizeof(ngx_http_vaani_servers_t));

    if (servers == NULL) {
        return NULL;
    }

    servers->urls = ngx_palloc(cf->pool, sizeof(ngx_vaani_redis_url_t));

    if (servers->urls == NULL
        || ngx_http_vaani_add_url(cf, servers, &ngx_http_vaani_default_redis)
           != NGX_CONF_OK)
    {
        return NULL;
    }

    return servers;
}


/*
 * Returns NULL when it has logged why.
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

    /* of another location, they may have another password file */

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
 * Names are looked up now even if there is a resolver: these addresses are used
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

        /* locations with other settings ask once */

        if (url->naddrs == 0) {
            err = ngx_vaani_redis_lookup_url(cf->pool, url);

            if (err != NGX_CONF_OK && redis->resolver) {
                ngx_log_error(NGX_LOG_WARN, cf->log, 0,
                              "%s in \"vaani_redis\" \"%V\", only "
                              "\"resolver\" can find it in %s:%ui", err,
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
 * Numbers are told apart by the name of the first server, the database, what
 * else there is, and if that isn't enough by which of several with other
 * settings it is.
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
 * Whether they are the same ones, listed in the same order.
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


void
ngx_http_vaani_check_sentinels(ngx_conf_t *cf,
    ngx_http_vaani_main_conf_t *vmcf)
{
    ngx_uint_t                   n;
    ngx_http_vaani_sentinel_t  **sentinel;

    sentinel = vmcf->sentinels.elts;

    for (n = 0; n < vmcf->sentinels.nelts; n++) {

        if (sentinel[n]->seen && !sentinel[n]->used) {
            ngx_log_error(NGX_LOG_WARN, cf->log, 0,
                          "\"vaani_redis_sentinel_password_file\" has no "
                          "effect, no endpoint here has a \"vaani_redis\" "
                          "with \"sentinel=\" in %s:%ui",
                          sentinel[n]->place.file, sentinel[n]->place.line);
        }
    }
}
