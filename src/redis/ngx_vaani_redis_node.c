
/*
 * A server: its address, and the connections to it.
 */


#include "ngx_vaani_redis_node.h"


static ngx_int_t ngx_vaani_redis_parse_addr(ngx_vaani_redis_node_t *node,
    in_port_t port);
static void ngx_vaani_redis_look_up(ngx_vaani_redis_node_t *node);


ngx_vaani_redis_conn_t *
ngx_vaani_redis_conn(ngx_vaani_redis_t *redis, ngx_uint_t lane)
{
    ngx_uint_t               number;
    ngx_vaani_redis_node_t  *node;

    if (redis->form != NGX_VAANI_REDIS_CLUSTER) {
        return &redis->nodes[0]->conns[lane];
    }

    if (lane == NGX_VAANI_REDIS_NOBODY) {
        return NULL;
    }

    number = lane / redis->nconnections;
    node = (number < redis->nnodes) ? redis->nodes[number] : NULL;

    return node ? &node->conns[lane % redis->nconnections] : NULL;
}


ngx_vaani_redis_node_t *
ngx_vaani_redis_create_node(ngx_vaani_redis_t *redis, ngx_uint_t number,
    ngx_log_t *log)
{
    ngx_uint_t               n;
    ngx_vaani_redis_node_t  *node;

    node = ngx_calloc(sizeof(ngx_vaani_redis_node_t), log);

    if (node == NULL) {
        return NULL;
    }

    node->conns = ngx_alloc(redis->nconnections
                            * sizeof(ngx_vaani_redis_conn_t), log);

    if (node->conns == NULL) {
        ngx_free(node);
        return NULL;
    }

    node->redis = redis;
    node->number = number;
    node->url = redis->url;

    for (n = 0; n < redis->nconnections; n++) {
        ngx_vaani_redis_conn_init(&node->conns[n], node,
                                  number * redis->nconnections + n, log);
    }

    return node;
}


void
ngx_vaani_redis_free_node(ngx_vaani_redis_node_t *node)
{
    ngx_uint_t  n;

    for (n = 0; n < node->redis->nconnections; n++) {
        ngx_vaani_redis_conn_exit(&node->conns[n]);
    }

    ngx_free(node->conns);
    ngx_free(node);
}


/*
 * The address may be a URL of the configuration: then the addresses found at
 * start are known, even if the name cannot be resolved now.
 */

ngx_int_t
ngx_vaani_redis_place(ngx_vaani_redis_node_t *node, const char *host,
    in_port_t port)
{
    u_char                 *p;
    size_t                  len;
    ngx_str_t               text;
    ngx_vaani_redis_url_t  *url;

    len = ngx_strlen(host);

    if (len == 0 || len >= NGX_VAANI_REDIS_HOST_LEN) {
        return NGX_ERROR;
    }

    url = &node->url;

    ngx_memcpy(node->host, host, len + 1);

    p = ngx_vaani_redis_print_place(node->name, url->tls, host, port);

    url->name.data = node->name;
    url->name.len = p - node->name;

    text.data = node->host;
    text.len = len;

    url->server = text;
    url->port = port;

    node->addr.sockaddr = &node->sockaddr.sockaddr;

    if (ngx_vaani_redis_parse_addr(node, port) != NGX_OK) {
        url->host = text;
        url->addrs = NULL;
        url->naddrs = 0;

        ngx_vaani_redis_look_up(node);

        return NGX_OK;
    }

    ngx_str_null(&url->host);

    node->addr.name.data = node->addr_name;
    node->addr.name.len = ngx_sock_ntop(&node->sockaddr.sockaddr,
                                        node->addr.socklen, node->addr_name,
                                        NGX_SOCKADDR_STRLEN, 1);

    url->addrs = &node->addr;
    url->naddrs = 1;

    return NGX_OK;
}


/*
 * Works without a pool, which ngx_parse_addr() needs.  Returns NGX_OK, or
 * NGX_DECLINED for a name.
 */

static ngx_int_t
ngx_vaani_redis_parse_addr(ngx_vaani_redis_node_t *node, in_port_t port)
{
    in_addr_t            addr;
    struct sockaddr_in  *sin;

    ngx_memzero(&node->sockaddr, sizeof(ngx_sockaddr_t));

    addr = ngx_inet_addr(node->url.server.data, node->url.server.len);

    if (addr != INADDR_NONE) {
        sin = &node->sockaddr.sockaddr_in;
        sin->sin_family = AF_INET;
        sin->sin_addr.s_addr = addr;
        sin->sin_port = htons(port);

        node->addr.socklen = sizeof(struct sockaddr_in);

        return NGX_OK;
    }

#if (NGX_HAVE_INET6)

    if (ngx_inet6_addr(node->url.server.data, node->url.server.len,
                       node->sockaddr.sockaddr_in6.sin6_addr.s6_addr)
        == NGX_OK)
    {
        node->sockaddr.sockaddr_in6.sin6_family = AF_INET6;
        node->sockaddr.sockaddr_in6.sin6_port = htons(port);

        node->addr.socklen = sizeof(struct sockaddr_in6);

        return NGX_OK;
    }

#endif

    return NGX_DECLINED;
}


/*
 * The addresses that the configuration has for a name, with any port.
 */

static void
ngx_vaani_redis_look_up(ngx_vaani_redis_node_t *node)
{
    ngx_uint_t              n;
    ngx_vaani_redis_t      *redis;
    ngx_vaani_redis_url_t  *url;

    redis = node->redis;

    for (n = 0; n < redis->nurls; n++) {
        url = &redis->urls[n];

        if (url->naddrs == 0
            || url->host.len != node->url.host.len
            || ngx_strncasecmp(url->host.data, node->url.host.data,
                               url->host.len)
               != 0)
        {
            continue;
        }

        ngx_memcpy(&node->sockaddr, url->addrs[0].sockaddr,
                   url->addrs[0].socklen);
        ngx_inet_set_port(&node->sockaddr.sockaddr, node->url.port);

        node->addr.socklen = url->addrs[0].socklen;
        node->addr.name.data = node->addr_name;
        node->addr.name.len = ngx_sock_ntop(&node->sockaddr.sockaddr,
                                            node->addr.socklen,
                                            node->addr_name,
                                            NGX_SOCKADDR_STRLEN, 1);

        node->url.addrs = &node->addr;
        node->url.naddrs = 1;

        return;
    }
}


ngx_uint_t
ngx_vaani_redis_is_at(ngx_vaani_redis_node_t *node, const char *host,
    in_port_t port)
{
    size_t  len;

    len = ngx_strlen(host);

    return node->url.port == port
           && node->url.server.len == len
           && ngx_strncasecmp(node->url.server.data, (u_char *) host, len) == 0;
}


u_char *
ngx_vaani_redis_print_place(u_char *dst, ngx_uint_t tls, const char *host,
    in_port_t port)
{
    ngx_uint_t  ipv6;

    ipv6 = (ngx_strchr(host, ':') != NULL);

    return ngx_sprintf(dst, "%s%s%s%s:%d", tls ? "rediss://" : "redis://",
                       ipv6 ? "[" : "", host, ipv6 ? "]" : "", (int) port);
}
