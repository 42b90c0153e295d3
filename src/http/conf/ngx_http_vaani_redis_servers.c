
/*
 * The directive "vaani_redis": the servers and their form.
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

    /* the form comes first, because it decides the default port */

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
 * Reads "cluster" or "sentinel=", and leaves the URLs.
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

    if (!ngx_http_vaani_parameter(value, "sentinel=", &servers->sentinel)
        || servers->sentinel.len == 0)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"sentinel=\" in \"vaani_redis\" requires the "
                           "master name configured in the Sentinels");
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
        return "more than 32 URLs";
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
 * Checks that concern several URLs.  Error texts never quote a URL, because it
 * may contain a password.
 */

static char *
ngx_http_vaani_check_urls(ngx_http_vaani_servers_t *servers)
{
    char                   *err;
    ngx_uint_t              n, i;
    ngx_vaani_redis_url_t  *url;

    if (servers->nurls == 0) {
        return "no URL";
    }

    url = servers->urls;

    for (n = 0; n < servers->nurls; n++) {

        if (url[n].tls != url[0].tls) {
            return "some URLs use TLS, others do not";
        }

        if (url[n].server.len == 0
            && (servers->form == NGX_VAANI_REDIS_CLUSTER
                || servers->form == NGX_VAANI_REDIS_SENTINEL))
        {
            return "\"unix:\" cannot be a Sentinel or a cluster node";
        }

        for (i = 0; i < n; i++) {
            if (ngx_http_vaani_same_place(&url[n], &url[i])) {
                return "two URLs are of the same server";
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
    /* for "unix:", the name contains the path */

    if (one->server.len == 0 || two->server.len == 0) {
        return ngx_http_vaani_same(&one->name, &two->name);
    }

    return one->port == two->port
           && one->server.len == two->server.len
           && ngx_strncasecmp(one->server.data, two->server.data,
                              one->server.len) == 0;
}


/*
 * All servers take the same user and password, because any of them may become
 * the master.  One URL with the credentials is enough.
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
        return "a cluster has only database 0";
    }

    for (n = 0; n < servers->nurls; n++) {
        servers->urls[n].db = first->db;
    }

    return NGX_CONF_OK;
}


ngx_http_vaani_servers_t *
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
