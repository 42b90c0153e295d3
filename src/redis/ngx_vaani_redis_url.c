
/*
 * Parses the URL of a Redis.
 */


#include "ngx_vaani_redis.h"


typedef struct {
    char                       *name;
    ngx_uint_t                  tls;
} ngx_vaani_redis_scheme_t;


static char *ngx_vaani_redis_parse_tcp(ngx_pool_t *pool, ngx_str_t *rest,
    char *scheme, ngx_vaani_redis_url_t *url);
static char *ngx_vaani_redis_parse_userinfo(ngx_pool_t *pool, u_char *first,
    u_char *last, ngx_vaani_redis_url_t *url);
static char *ngx_vaani_redis_parse_unix(ngx_pool_t *pool, ngx_str_t *value,
    ngx_vaani_redis_url_t *url);
static char *ngx_vaani_redis_parse_args(ngx_pool_t *pool, u_char *p,
    u_char *last, ngx_vaani_redis_url_t *url);
static char *ngx_vaani_redis_parse_db(u_char *first, u_char *last,
    ngx_vaani_redis_url_t *url);
static ngx_int_t ngx_vaani_redis_unescape(ngx_pool_t *pool, u_char *first,
    u_char *last, ngx_str_t *value);
static ngx_int_t ngx_vaani_redis_name(ngx_pool_t *pool,
    ngx_vaani_redis_url_t *url, char *scheme, ngx_str_t *place);


/* "valkey" is another name for the same protocol */

static ngx_vaani_redis_scheme_t  ngx_vaani_redis_schemes[] = {
    { "redis://", 0 },
    { "rediss://", 1 },
    { "valkey://", 0 },
    { "valkeys://", 1 }
};


char *
ngx_vaani_redis_parse_url(ngx_pool_t *pool, ngx_str_t *value,
    in_port_t default_port, ngx_vaani_redis_url_t *url)
{
    size_t                     len;
    ngx_str_t                  rest;
    ngx_uint_t                 n;
    ngx_vaani_redis_scheme_t  *scheme;

    ngx_memzero(url, sizeof(ngx_vaani_redis_url_t));

    if (ngx_strncasecmp(value->data, (u_char *) "unix:", 5) == 0) {
        return ngx_vaani_redis_parse_unix(pool, value, url);
    }

    for (n = 0; n < 4; n++) {
        scheme = &ngx_vaani_redis_schemes[n];
        len = ngx_strlen(scheme->name);

        if (ngx_strncasecmp(value->data, (u_char *) scheme->name, len) != 0) {
            continue;
        }

#if !(NGX_SSL)
        if (scheme->tls) {
            return "\"rediss://\" and \"valkeys://\" need an nginx built with "
                   "SSL";
        }
#endif

        rest.data = value->data + len;
        rest.len = value->len - len;

        url->tls = scheme->tls;
        url->port = default_port;

        return ngx_vaani_redis_parse_tcp(pool, &rest, scheme->name, url);
    }

    return "the URL must begin with \"redis://\", \"rediss://\", "
           "\"valkey://\", \"valkeys://\" or \"unix:\"";
}


static char *
ngx_vaani_redis_parse_tcp(ngx_pool_t *pool, ngx_str_t *rest, char *scheme,
    ngx_vaani_redis_url_t *url)
{
    char       *err;
    u_char     *p, *last, *at, *slash;
    ngx_str_t   place;
    ngx_url_t   u;

    last = rest->data + rest->len;
    p = rest->data;

    if (ngx_strlchr(p, last, '?') || ngx_strlchr(p, last, '#')) {
        return "the URL must not have a query";
    }

    slash = ngx_strlchr(p, last, '/');

    if (slash == NULL) {
        slash = last;

    } else if (slash + 1 < last) {
        err = ngx_vaani_redis_parse_db(slash + 1, last, url);

        if (err != NGX_CONF_OK) {
            return err;
        }
    }

    at = ngx_strlchr(p, slash, '@');

    if (at) {
        err = ngx_vaani_redis_parse_userinfo(pool, p, at, url);

        if (err != NGX_CONF_OK) {
            return err;
        }

        p = at + 1;

        if (ngx_strlchr(p, slash, '@')) {
            return "the URL has two \"@\", write \"%40\" in a password";
        }
    }

    place.data = p;
    place.len = slash - p;

    if (place.len == 0) {
        return "the URL has no host";
    }

    ngx_memzero(&u, sizeof(ngx_url_t));

    u.url = place;
    u.default_port = url->port;
    u.no_resolve = 1;

    if (ngx_parse_url(pool, &u) != NGX_OK) {
        return u.err ? u.err : "the URL has an invalid host";
    }

    url->port = u.port;
    url->addrs = u.addrs;
    url->naddrs = u.naddrs;

    if (u.naddrs == 0) {
        url->host = u.host;
    }

    /*
     * in some versions of nginx u.host of an IPv6 address includes the
     * brackets
     */

    url->server = u.host;

    if (*p == '[') {
        url->server.data = p + 1;
        url->server.len = ngx_strlchr(p, slash, ']') - (p + 1);
    }

    if (ngx_vaani_redis_name(pool, url, scheme, &place) != NGX_OK) {
        return "no memory";
    }

    return NGX_CONF_OK;
}


static char *
ngx_vaani_redis_parse_userinfo(ngx_pool_t *pool, u_char *first, u_char *last,
    ngx_vaani_redis_url_t *url)
{
    u_char  *colon;

    colon = ngx_strlchr(first, last, ':');

    if (colon
        && ngx_vaani_redis_unescape(pool, colon + 1, last, &url->password)
           != NGX_OK)
    {
        return "the URL has an invalid password";
    }

    if (ngx_vaani_redis_unescape(pool, first, colon ? colon : last, &url->user)
        != NGX_OK)
    {
        return "the URL has an invalid user";
    }

    ngx_explicit_memzero(first, last - first);

    return NGX_CONF_OK;
}


static char *
ngx_vaani_redis_parse_unix(ngx_pool_t *pool, ngx_str_t *value,
    ngx_vaani_redis_url_t *url)
{
    char       *err;
    u_char     *query, *last;
    ngx_str_t   place;
    ngx_url_t   u;

    last = value->data + value->len;
    place = *value;

    query = ngx_strlchr(value->data, last, '?');

    if (query) {
        place.len = query - value->data;

        err = ngx_vaani_redis_parse_args(pool, query + 1, last, url);

        if (err != NGX_CONF_OK) {
            return err;
        }
    }

    ngx_memzero(&u, sizeof(ngx_url_t));

    u.url = place;

    if (ngx_parse_url(pool, &u) != NGX_OK) {
        return u.err ? u.err : "the URL has an invalid path";
    }

    url->addrs = u.addrs;
    url->naddrs = u.naddrs;

    if (ngx_vaani_redis_name(pool, url, "", &place) != NGX_OK) {
        return "no memory";
    }

    return NGX_CONF_OK;
}


static char *
ngx_vaani_redis_parse_args(ngx_pool_t *pool, u_char *p, u_char *last,
    ngx_vaani_redis_url_t *url)
{
    char        *err;
    u_char      *end;
    ngx_uint_t   db;

    db = 0;

    for ( /* void */ ; p < last; p = end + 1) {

        end = ngx_strlchr(p, last, '&');

        if (end == NULL) {
            end = last;
        }

        if (end - p > 3 && ngx_strncmp(p, "db=", 3) == 0) {

            if (db++) {
                return "the URL has \"db=\" twice";
            }

            err = ngx_vaani_redis_parse_db(p + 3, end, url);

            if (err != NGX_CONF_OK) {
                return err;
            }

            continue;
        }

        if (end - p > 5 && ngx_strncmp(p, "user=", 5) == 0) {

            if (url->user.data) {
                return "the URL has \"user=\" twice";
            }

            if (ngx_vaani_redis_unescape(pool, p + 5, end, &url->user)
                != NGX_OK)
            {
                return "the URL has an invalid user";
            }

            continue;
        }

        return "the URL accepts only \"db=\" and \"user=\" after the path";
    }

    return NGX_CONF_OK;
}


static char *
ngx_vaani_redis_parse_db(u_char *first, u_char *last,
    ngx_vaani_redis_url_t *url)
{
    ngx_int_t  db;

    db = ngx_atoi(first, last - first);

    if (db == NGX_ERROR || db > NGX_MAX_INT32_VALUE) {
        return "the URL has an invalid database number";
    }

    url->db = db;
    url->db_set = 1;

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_vaani_redis_unescape(ngx_pool_t *pool, u_char *first, u_char *last,
    ngx_str_t *value)
{
    u_char     *p;
    ngx_int_t   byte;

    value->data = ngx_pnalloc(pool, last - first + 1);

    if (value->data == NULL) {
        return NGX_ERROR;
    }

    for (p = value->data; first < last; first++) {

        if (*first != '%') {
            *p++ = *first;
            continue;
        }

        if (last - first < 3) {
            return NGX_ERROR;
        }

        byte = ngx_hextoi(first + 1, 2);

        if (byte == NGX_ERROR) {
            return NGX_ERROR;
        }

        *p++ = (u_char) byte;
        first += 2;
    }

    value->len = p - value->data;

    return NGX_OK;
}


/*
 * The name for logs, which must not contain the password.
 */

static ngx_int_t
ngx_vaani_redis_name(ngx_pool_t *pool, ngx_vaani_redis_url_t *url,
    char *scheme, ngx_str_t *place)
{
    url->name.len = ngx_strlen(scheme) + place->len;
    url->name.data = ngx_pnalloc(pool, url->name.len);

    if (url->name.data == NULL) {
        return NGX_ERROR;
    }

    ngx_sprintf(url->name.data, "%s%V", scheme, place);

    return NGX_OK;
}


char *
ngx_vaani_redis_lookup_url(ngx_pool_t *pool, ngx_vaani_redis_url_t *url)
{
    ngx_url_t  u;

    if (url->host.len == 0) {
        return NGX_CONF_OK;
    }

    ngx_memzero(&u, sizeof(ngx_url_t));

    u.host = url->host;
    u.port = url->port;

    if (ngx_inet_resolve_host(pool, &u) != NGX_OK) {
        return u.err ? u.err : "no memory";
    }

    url->addrs = u.addrs;
    url->naddrs = u.naddrs;

    return NGX_CONF_OK;
}
