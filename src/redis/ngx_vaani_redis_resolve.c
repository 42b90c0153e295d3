
/*
 * The address of a server.
 */


#include "ngx_vaani_redis_node.h"


static ngx_msec_t ngx_vaani_redis_lookup_timeout(
    ngx_vaani_redis_conn_t *conn);
static void ngx_vaani_redis_resolved(ngx_resolver_ctx_t *ctx);
static void ngx_vaani_redis_unresolved(ngx_vaani_redis_conn_t *conn,
    char *what);
static ngx_resolver_addr_t *ngx_vaani_redis_next_addr(
    ngx_resolver_ctx_t *ctx, ngx_vaani_redis_conn_t *conn);
static ngx_int_t ngx_vaani_redis_cmp_addrs(ngx_resolver_addr_t *one,
    ngx_resolver_addr_t *two);
static ngx_int_t ngx_vaani_redis_use_fixed(ngx_vaani_redis_conn_t *conn);


ngx_uint_t
ngx_vaani_redis_has_servers(ngx_resolver_t *resolver)
{
#if (NGX_VAANI_RESOLVER_LIST)

    /*
     * Angie, whose resolver uses the name servers of resolv.conf by default.
     * It does not read /etc/hosts and would not find "localhost".  Therefore
     * such names are resolved as if there were no resolver.
     */

    return resolver->connections != NULL && resolver->resolv_conf.len == 0;

#else

    return resolver->connections.nelts != 0;

#endif
}


/*
 * A name is resolved again for every connection, so that a Redis that has
 * moved is found.  Several addresses are used in turn.
 */

void
ngx_vaani_redis_resolve(ngx_vaani_redis_conn_t *conn)
{
    ngx_vaani_redis_t      *redis;
    ngx_resolver_ctx_t     *ctx;
    ngx_vaani_redis_url_t  *url;

    redis = conn->redis;
    url = &conn->node->url;

    conn->state = NGX_VAANI_REDIS_RESOLVING;

    if (url->host.len == 0 || redis->resolver == NULL) {

        if (ngx_vaani_redis_use_fixed(conn) != NGX_OK) {
            conn->resolve_handler(conn, 0, "has a host name, which requires a "
                                           "\"resolver\"");
            return;
        }

        conn->resolve_handler(conn, 0, NULL);
        return;
    }

    if (conn->unresolved && conn->nrefused) {

        /* the next known address, without a query */

        ngx_vaani_redis_unresolved(conn, "could not be resolved");
        return;
    }

    ctx = ngx_resolve_start(redis->resolver, NULL);

    if (ctx == NULL) {
        ngx_vaani_redis_unresolved(conn, "cannot be resolved (no memory)");
        return;
    }

    ctx->name = url->host;
    ctx->handler = ngx_vaani_redis_resolved;
    ctx->data = conn;
    ctx->timeout = ngx_vaani_redis_lookup_timeout(conn);
    ctx->cancelable = 1;

    conn->resolving = ctx;

    if (ngx_resolve_name(ctx) != NGX_OK) {
        conn->resolving = NULL;
        ngx_vaani_redis_unresolved(conn, "could not be resolved");
    }
}


/*
 * A "resolver" whose name servers do not respond never answers, and the
 * default of "resolver_timeout" is 30s for each connection.  If there is a
 * fallback address, half of the connect timeout is reserved for connecting to
 * it, so that a waiting event still reaches Redis.  A later answer is not
 * lost: nginx's resolver caches it for the next connection.
 */

static ngx_msec_t
ngx_vaani_redis_lookup_timeout(ngx_vaani_redis_conn_t *conn)
{
    ngx_msec_t  limit, timeout;

    timeout = conn->redis->resolver_timeout;

    if (conn->addr.sockaddr == NULL && conn->node->url.naddrs == 0) {
        return timeout;
    }

    limit = ngx_max(conn->redis->connect_timeout / 2, 1);

    /* with "resolver_timeout 0" nginx never times out */

    return timeout ? ngx_min(timeout, limit) : limit;
}


static void
ngx_vaani_redis_resolved(ngx_resolver_ctx_t *ctx)
{
    ngx_resolver_addr_t     *addr;
    ngx_vaani_redis_conn_t  *conn;

    conn = ctx->data;
    conn->resolving = NULL;

    if (ctx->state || ctx->naddrs == 0) {
        ngx_resolve_name_done(ctx);
        ngx_vaani_redis_unresolved(conn, "could not be resolved");
        return;
    }

    conn->unresolved = 0;

    addr = ngx_vaani_redis_next_addr(ctx, conn);
    conn->naddrs = ctx->naddrs;

    ngx_memcpy(&conn->resolved, addr->sockaddr, addr->socklen);
    ngx_inet_set_port(&conn->resolved.sockaddr, conn->node->url.port);

    conn->addr.sockaddr = &conn->resolved.sockaddr;
    conn->addr.socklen = addr->socklen;
    conn->addr.name.data = conn->resolved_name;
    conn->addr.name.len = ngx_sock_ntop(&conn->resolved.sockaddr,
                                        addr->socklen, conn->resolved_name,
                                        NGX_SOCKADDR_STRLEN, 1);

    ngx_resolve_name_done(ctx);

    conn->resolve_handler(conn, 0, NULL);
}


/*
 * The name server may be unreachable while Redis is reachable.  Its latest
 * answer is newer than the addresses found at start.  Without an answer, the
 * addresses found at start are tried in turn: "localhost" may be ::1 first,
 * and Redis may not listen there.
 */

static void
ngx_vaani_redis_unresolved(ngx_vaani_redis_conn_t *conn, char *what)
{
    ngx_uint_t  again, level;

    again = conn->unresolved;
    conn->unresolved = 1;

    if (conn->addr.sockaddr == &conn->resolved.sockaddr) {
        conn->naddrs = 1;

    } else if (conn->addr.sockaddr == NULL || conn->down || conn->nrefused) {

        if (ngx_vaani_redis_use_fixed(conn) != NGX_OK) {
            conn->resolve_handler(conn, 0, what);
            return;
        }
    }

    /* a watch asks several servers in turn, and only some may have names */

    if (conn->watch) {
        again = !ngx_vaani_redis_is_news(conn->watch,
                                ngx_crc32_short(conn->node->url.name.data,
                                                conn->node->url.name.len));
    }

    level = again ? NGX_LOG_INFO : NGX_LOG_WARN;

    ngx_log_error(level, &conn->log, 0,
                  "vaani: cannot resolve the host name of %V; using its last "
                  "known address",
                  &conn->node->url.name);

    conn->resolve_handler(conn, 0, NULL);
}


/*
 * The address after the last one used.  The resolver changes the order each
 * time.  Therefore the next higher address is used, and after the highest the
 * lowest.
 */

static ngx_resolver_addr_t *
ngx_vaani_redis_next_addr(ngx_resolver_ctx_t *ctx,
    ngx_vaani_redis_conn_t *conn)
{
    ngx_uint_t            n;
    ngx_sockaddr_t        sockaddr;
    ngx_resolver_addr_t  *addr, *lowest, *next, last;

    sockaddr = conn->resolved;

    if (conn->addr.sockaddr == &conn->resolved.sockaddr) {
        ngx_inet_set_port(&sockaddr.sockaddr, 0);
    }

    last.sockaddr = &sockaddr.sockaddr;
    last.socklen = sizeof(ngx_sockaddr_t);

    next = NULL;
    lowest = ctx->addrs;

    for (n = 0; n < ctx->naddrs; n++) {
        addr = &ctx->addrs[n];

        if (ngx_vaani_redis_cmp_addrs(addr, lowest) < 0) {
            lowest = addr;
        }

        if (ngx_vaani_redis_cmp_addrs(addr, &last) > 0
            && (next == NULL || ngx_vaani_redis_cmp_addrs(addr, next) < 0))
        {
            next = addr;
        }
    }

    return next ? next : lowest;
}


static ngx_int_t
ngx_vaani_redis_cmp_addrs(ngx_resolver_addr_t *one, ngx_resolver_addr_t *two)
{
    return ngx_memcmp(one->sockaddr, two->sockaddr,
                      ngx_min(one->socklen, two->socklen));
}


static ngx_int_t
ngx_vaani_redis_use_fixed(ngx_vaani_redis_conn_t *conn)
{
    ngx_vaani_redis_url_t  *url;

    url = &conn->node->url;

    if (url->naddrs == 0) {
        return NGX_DECLINED;
    }

    conn->addr = url->addrs[conn->tries++ % url->naddrs];
    conn->naddrs = url->naddrs;

    return NGX_OK;
}
