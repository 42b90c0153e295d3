
/*
 * The TLS of a connection: the handshake, the session, the end.
 */


#include "ngx_vaani_redis_node.h"


#if (NGX_SSL)

#define NGX_VAANI_REDIS_SSL_POOL        256


static ngx_int_t ngx_vaani_redis_ssl_expect(ngx_vaani_redis_conn_t *conn,
    SSL *connection);
static void ngx_vaani_redis_ssl_handshaked(ngx_connection_t *c);
static void ngx_vaani_redis_ssl_save_session(ngx_connection_t *c);


void
ngx_vaani_redis_ssl_handshake(ngx_vaani_redis_conn_t *conn)
{
    ngx_connection_t       *c;
    ngx_vaani_redis_ssl_t  *ssl;

    c = conn->peer.connection;
    ssl = &conn->redis->ssl;

    conn->state = NGX_VAANI_REDIS_HANDSHAKING;

    c->pool = ngx_create_pool(NGX_VAANI_REDIS_SSL_POOL, &conn->log);

    if (c->pool == NULL
        || ngx_ssl_create_connection(ssl->ssl, c,
                                     NGX_SSL_BUFFER|NGX_SSL_CLIENT)
           != NGX_OK)
    {
        goto failed;
    }

    if (ngx_vaani_redis_ssl_expect(conn, c->ssl->connection) != NGX_OK) {
        goto failed;
    }

    if (ssl->session_reuse) {

        if (ngx_ssl_set_session(c, conn->session) != NGX_OK) {
            goto failed;
        }

        c->ssl->save_session = ngx_vaani_redis_ssl_save_session;
    }

    ngx_vaani_redis_ssl_note_errors(conn);

    c->ssl->handler = ngx_vaani_redis_ssl_handshaked;

    if (ngx_ssl_handshake(c) != NGX_AGAIN) {
        ngx_vaani_redis_ssl_handshaked(c);
    }

    return;

failed:

    ERR_clear_error();

    ngx_vaani_redis_ssl_forget(conn);
    conn->handshake_handler(conn, 0, "cannot be used (no memory for a "
                                     "connection)");
}


/*
 * The name to verify: that of the configuration or, if there may be several
 * servers, that of each server.  Addresses are not sent (RFC 6066).
 */

static ngx_int_t
ngx_vaani_redis_ssl_expect(ngx_vaani_redis_conn_t *conn, SSL *connection)
{
    size_t                  len;
    u_char                 *name;
    ngx_int_t               rc;
    ngx_str_t              *server;
    ngx_vaani_redis_ssl_t  *ssl;
    u_char                  text[NGX_VAANI_REDIS_HOST_LEN];

    ssl = &conn->redis->ssl;
    name = ssl->server_name;

    if (ssl->name.value.len == 0) {
        server = &conn->node->url.server;
        len = server->len;

        if (len > 1 && server->data[len - 1] == '.') {
            len--;
        }

        if (len >= sizeof(text)) {
            return NGX_ERROR;
        }

        (void) ngx_cpystrn(text, server->data, len + 1);

        rc = ngx_vaani_redis_ssl_expect_name(SSL_get0_param(connection), text,
                                             len);
        if (rc == NGX_ERROR) {
            return NGX_ERROR;
        }

        if (rc == NGX_OK) {
            name = text;
        }
    }

    if (name
        && SSL_set_tlsext_host_name(connection, (char *) name) == 0)
    {
        return NGX_ERROR;
    }

    return NGX_OK;
}


static void
ngx_vaani_redis_ssl_handshaked(ngx_connection_t *c)
{
    X509                    *cert;
    char                    *what;
    ngx_err_t                err;
    ngx_vaani_redis_conn_t  *conn;

    conn = c->data;

    if (!c->ssl->handshaked) {

        /* the session may have caused the failure */

        ngx_vaani_redis_ssl_forget(conn);

        what = ngx_vaani_redis_ssl_refused(conn, &err);

        conn->handshake_handler(conn, err, what);
        return;
    }

    if (conn->redis->ssl.verify) {

        /* some ciphers have no certificate to verify */

        cert = SSL_get_peer_certificate(c->ssl->connection);

        if (cert == NULL) {
            ngx_vaani_redis_ssl_forget(conn);
            conn->handshake_handler(conn, 0, "sent no certificate");
            return;
        }

        X509_free(cert);
    }

    conn->handshake_handler(conn, 0, NULL);
}


/*
 * Since TLS 1.3, sessions arrive at any time after the handshake.
 */

static void
ngx_vaani_redis_ssl_save_session(ngx_connection_t *c)
{
    ngx_ssl_session_t       *session;
    ngx_vaani_redis_conn_t  *conn;

    conn = c->data;

    session = ngx_ssl_get_session(c);

    if (session) {
        ngx_vaani_redis_ssl_forget(conn);
        conn->session = session;
    }
}


void
ngx_vaani_redis_ssl_forget(ngx_vaani_redis_conn_t *conn)
{
    if (conn->session) {
        ngx_ssl_free_session(conn->session);
        conn->session = NULL;
    }
}


void
ngx_vaani_redis_ssl_close(ngx_vaani_redis_conn_t *conn)
{
    ngx_pool_t        *pool;
    ngx_connection_t  *c;

    c = conn->peer.connection;
    pool = c->pool;

    if (c->ssl) {
        c->ssl->no_wait_shutdown = 1;

        if (ngx_ssl_shutdown(c) == NGX_AGAIN) {

            /* close_notify cannot be written either */

            SSL_free(c->ssl->connection);
            c->ssl = NULL;
        }

        ERR_clear_error();
    }

    c->pool = NULL;
    ngx_destroy_pool(pool);
}

#endif
