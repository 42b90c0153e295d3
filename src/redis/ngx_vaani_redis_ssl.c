
#include "ngx_vaani_redis_conn.h"


#if (NGX_SSL)

#define NGX_VAANI_REDIS_SSL_POOL        256

/* RFC 6066, bytes */

#define NGX_VAANI_REDIS_MAX_SERVER_NAME 255

/* RFC 8446; not all libraries name it */

#define NGX_VAANI_REDIS_CERTIFICATE_REQUIRED  116


typedef struct {
    long                        code;
    char                       *what;
} ngx_vaani_redis_ssl_text_t;


static ngx_int_t ngx_vaani_redis_ssl_configure(ngx_conf_t *cf,
    ngx_vaani_redis_ssl_t *ssl, ngx_log_t *log);
static ngx_int_t ngx_vaani_redis_ssl_identity(ngx_conf_t *cf,
    ngx_vaani_redis_ssl_t *ssl, ngx_log_t *log);
static ngx_int_t ngx_vaani_redis_ssl_trust(ngx_conf_t *cf,
    ngx_vaani_redis_ssl_t *ssl, ngx_log_t *log);
static ngx_int_t ngx_vaani_redis_ssl_name(ngx_conf_t *cf,
    ngx_vaani_redis_ssl_t *ssl, ngx_log_t *log);
static u_char *ngx_vaani_redis_ssl_place(ngx_log_t *log, u_char *buf,
    size_t len);
static ngx_uint_t ngx_vaani_redis_ssl_equal(ngx_vaani_redis_setting_t *one,
    ngx_vaani_redis_setting_t *two);
static ngx_int_t ngx_vaani_redis_ssl_expect(ngx_vaani_redis_conn_t *conn,
    SSL *connection);
static void ngx_vaani_redis_ssl_info(const ngx_ssl_conn_t *ssl_conn, int where,
    int ret);
static void ngx_vaani_redis_ssl_handshaked(ngx_connection_t *c);
static void ngx_vaani_redis_ssl_save_session(ngx_connection_t *c);
static void ngx_vaani_redis_ssl_fail(ngx_vaani_redis_conn_t *conn);
static char *ngx_vaani_redis_ssl_what(ngx_vaani_redis_conn_t *conn,
    const ngx_vaani_redis_ssl_text_t *texts, long code, const char *reason);


/*
 * What a failure means, and what can be done.  The last of each table is for
 * all others.
 */

static const ngx_vaani_redis_ssl_text_t  ngx_vaani_redis_ssl_certificates[] = {

    { X509_V_ERR_HOSTNAME_MISMATCH,
      "has a certificate for another name, see \"vaani_redis_ssl_name\"" },

    { X509_V_ERR_IP_ADDRESS_MISMATCH,
      "has a certificate that doesn't name its address, "
      "see \"vaani_redis_ssl_name\"" },

    { X509_V_ERR_CERT_HAS_EXPIRED,
      "has a certificate that has expired, renew it" },

    { X509_V_ERR_CERT_NOT_YET_VALID,
      "has a certificate that isn't valid yet, look at the clocks" },

    { X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT,
      "has a certificate of a CA that isn't trusted, "
      "see \"vaani_redis_ssl_trusted_certificate\"" },

    { X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY,
      "has a certificate of a CA that isn't trusted, "
      "see \"vaani_redis_ssl_trusted_certificate\"" },

    { X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE,
      "has a certificate of a CA that isn't trusted, "
      "see \"vaani_redis_ssl_trusted_certificate\"" },

    { X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT,
      "has a certificate of a CA that isn't trusted, "
      "see \"vaani_redis_ssl_trusted_certificate\"" },

    { X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN,
      "has a certificate of a CA that isn't trusted, "
      "see \"vaani_redis_ssl_trusted_certificate\"" },

    { X509_V_ERR_CERT_CHAIN_TOO_LONG,
      "has too many CAs above its certificate, "
      "see \"vaani_redis_ssl_verify_depth\"" },

    { X509_V_ERR_CERT_REVOKED,
      "has a certificate that was revoked, renew it" },

    { X509_V_ERR_UNABLE_TO_GET_CRL,
      "has a certificate of a CA without a list of revoked ones, "
      "see \"vaani_redis_ssl_crl\"" },

    { X509_V_ERR_CRL_HAS_EXPIRED,
      "can't be verified, since the list of revoked certificates has expired, "
      "see \"vaani_redis_ssl_crl\"" },

    { 0, "has a certificate that can't be verified" }
};


static const ngx_vaani_redis_ssl_text_t  ngx_vaani_redis_ssl_alerts[] = {

    { SSL_AD_HANDSHAKE_FAILURE,
      "refuses the TLS handshake, does it need a certificate, "
      "see \"vaani_redis_ssl_certificate\", or other ciphers?" },

    { SSL_AD_INSUFFICIENT_SECURITY,
      "refuses the TLS handshake, does it need a certificate, "
      "see \"vaani_redis_ssl_certificate\", or other ciphers?" },

    { SSL_AD_PROTOCOL_VERSION,
      "has no version of TLS in common with \"vaani_redis_ssl_protocols\"" },

    { NGX_VAANI_REDIS_CERTIFICATE_REQUIRED,
      "needs a certificate, see \"vaani_redis_ssl_certificate\"" },

    { SSL_AD_BAD_CERTIFICATE,
      "refuses the certificate, see \"vaani_redis_ssl_certificate\"" },

    { SSL_AD_UNSUPPORTED_CERTIFICATE,
      "refuses the certificate, see \"vaani_redis_ssl_certificate\"" },

    { SSL_AD_CERTIFICATE_REVOKED,
      "refuses the certificate, see \"vaani_redis_ssl_certificate\"" },

    { SSL_AD_CERTIFICATE_EXPIRED,
      "refuses the certificate, see \"vaani_redis_ssl_certificate\"" },

    { SSL_AD_CERTIFICATE_UNKNOWN,
      "refuses the certificate, see \"vaani_redis_ssl_certificate\"" },

    { SSL_AD_UNKNOWN_CA,
      "refuses the certificate, see \"vaani_redis_ssl_certificate\"" },

    { SSL_AD_ACCESS_DENIED,
      "refuses the certificate, see \"vaani_redis_ssl_certificate\"" },

    { SSL_AD_UNRECOGNIZED_NAME,
      "doesn't know the name, see \"vaani_redis_ssl_name\"" },

    { 0, "refuses the TLS connection" }
};


static const ngx_vaani_redis_ssl_text_t  ngx_vaani_redis_ssl_reasons[] = {

    { SSL_R_WRONG_VERSION_NUMBER,
      "doesn't speak TLS, is this the port for \"redis://\"?" },

    { SSL_R_PACKET_LENGTH_TOO_LONG,
      "doesn't speak TLS, is this the port for \"redis://\"?" },

    { SSL_R_HTTP_REQUEST,
      "doesn't speak TLS, is this the port for \"redis://\"?" },

    { SSL_R_UNSUPPORTED_PROTOCOL,
      "has no version of TLS in common with \"vaani_redis_ssl_protocols\"" },

    { SSL_R_NO_PROTOCOLS_AVAILABLE,
      "has no version of TLS in common with \"vaani_redis_ssl_protocols\"" },

    { 0, "could not be shaken hands with over TLS" }
};


ngx_int_t
ngx_vaani_redis_ssl_create(ngx_conf_t *cf, ngx_vaani_redis_ssl_t *ssl)
{
    ngx_log_t            log;
    ngx_int_t            rc;
    ngx_pool_cleanup_t  *cln;

    ssl->ssl = ngx_pcalloc(cf->pool, sizeof(ngx_ssl_t));

    if (ssl->ssl == NULL) {
        return NGX_ERROR;
    }

    cln = ngx_pool_cleanup_add(cf->pool, 0);

    if (cln == NULL) {
        return NGX_ERROR;
    }

    /* what nginx's functions complain of gets the place where it was set */

    log = *cf->log;
    log.handler = ngx_vaani_redis_ssl_place;
    log.data = NULL;

    ssl->ssl->log = &log;

    rc = ngx_ssl_create(ssl->ssl, ssl->protocols, NULL);

    if (ssl->ssl->ctx) {
        cln->handler = ngx_ssl_cleanup_ctx;
        cln->data = ssl->ssl;
    }

    if (rc == NGX_OK) {
        rc = ngx_vaani_redis_ssl_configure(cf, ssl, &log);
    }

    ssl->ssl->log = cf->log;

    return rc;
}


static ngx_int_t
ngx_vaani_redis_ssl_configure(ngx_conf_t *cf, ngx_vaani_redis_ssl_t *ssl,
    ngx_log_t *log)
{
    log->data = &ssl->ciphers;

    if (ngx_ssl_ciphers(cf, ssl->ssl, &ssl->ciphers.value, 0) != NGX_OK) {
        return NGX_ERROR;
    }

    if (ngx_vaani_redis_ssl_identity(cf, ssl, log) != NGX_OK) {
        return NGX_ERROR;
    }

    if (ssl->verify && ngx_vaani_redis_ssl_trust(cf, ssl, log) != NGX_OK) {
        return NGX_ERROR;
    }

    if (ngx_vaani_redis_ssl_name(cf, ssl, log) != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_ssl_client_session_cache(cf, ssl->ssl, ssl->session_reuse);
}


static ngx_int_t
ngx_vaani_redis_ssl_identity(ngx_conf_t *cf, ngx_vaani_redis_ssl_t *ssl,
    ngx_log_t *log)
{
    if (ssl->certificate.value.len == 0 && ssl->key.value.len == 0) {
        return NGX_OK;
    }

    if (ssl->key.value.len == 0) {
        log->data = &ssl->certificate;

        ngx_log_error(NGX_LOG_EMERG, log, 0,
                      "\"vaani_redis_ssl_certificate\" needs a "
                      "\"vaani_redis_ssl_certificate_key\"");
        return NGX_ERROR;
    }

    log->data = &ssl->key;

    if (ssl->certificate.value.len == 0) {
        ngx_log_error(NGX_LOG_EMERG, log, 0,
                      "\"vaani_redis_ssl_certificate_key\" needs a "
                      "\"vaani_redis_ssl_certificate\"");
        return NGX_ERROR;
    }

    log->data = &ssl->certificate;

    return ngx_ssl_certificate(cf, ssl->ssl, &ssl->certificate.value,
                               &ssl->key.value, ssl->passwords);
}


static ngx_int_t
ngx_vaani_redis_ssl_trust(ngx_conf_t *cf, ngx_vaani_redis_ssl_t *ssl,
    ngx_log_t *log)
{
    log->data = &ssl->trusted;

    if (ngx_ssl_trusted_certificate(cf, ssl->ssl, &ssl->trusted.value,
                                    ssl->verify_depth)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (ssl->trusted.value.len == 0) {

        if (SSL_CTX_set_default_verify_paths(ssl->ssl->ctx) == 0) {
            ngx_ssl_error(NGX_LOG_EMERG, log, 0,
                          "the CAs of the system can't be loaded");
            return NGX_ERROR;
        }

        /* a store that isn't there is no error */

        ERR_clear_error();
    }

    log->data = &ssl->crl;

    if (ngx_ssl_crl(cf, ssl->ssl, &ssl->crl.value) != NGX_OK) {
        return NGX_ERROR;
    }

    /*
     * nginx's callback lets every handshake pass, to look at the result when
     * it is over.  Without a callback OpenSSL refuses by itself: Redis is told
     * why, and no session of a connection that wasn't verified is ever kept.
     */

    SSL_CTX_set_verify(ssl->ssl->ctx, SSL_VERIFY_PEER, NULL);

    return NGX_OK;
}


/*
 * Names are compared by OpenSSL, which knows addresses, too;
 * ngx_ssl_check_host() doesn't.
 */

static ngx_int_t
ngx_vaani_redis_ssl_name(ngx_conf_t *cf, ngx_vaani_redis_ssl_t *ssl,
    ngx_log_t *log)
{
    u_char             *name;
    size_t              len;
    X509_VERIFY_PARAM  *param;

    log->data = &ssl->name;

    len = ssl->name.value.len;

    if (len == 0) {
        return NGX_OK;
    }

    /* the dot that makes a name absolute belongs to DNS only */

    if (len > 1 && ssl->name.value.data[len - 1] == '.') {
        len--;
    }

    if (len > NGX_VAANI_REDIS_MAX_SERVER_NAME) {
        ngx_log_error(NGX_LOG_EMERG, log, 0,
                      "\"vaani_redis_ssl_name\" is too long");
        return NGX_ERROR;
    }

    name = ngx_pnalloc(cf->pool, len + 1);

    if (name == NULL) {
        return NGX_ERROR;
    }

    (void) ngx_cpystrn(name, ssl->name.value.data, len + 1);

    param = SSL_CTX_get0_param(ssl->ssl->ctx);

    if (X509_VERIFY_PARAM_set1_ip_asc(param, (char *) name) == 1) {
        return NGX_OK;
    }

    ERR_clear_error();

    X509_VERIFY_PARAM_set_hostflags(param,
                                    X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);

    if (X509_VERIFY_PARAM_set1_host(param, (char *) name, len) == 0) {
        ngx_ssl_error(NGX_LOG_EMERG, log, 0,
                      "\"vaani_redis_ssl_name\" can't be used");
        return NGX_ERROR;
    }

    /* RFC 6066: literal addresses are not sent */

    ssl->server_name = name;

    return NGX_OK;
}


static u_char *
ngx_vaani_redis_ssl_place(ngx_log_t *log, u_char *buf, size_t len)
{
    ngx_vaani_redis_setting_t *setting = log->data;

    if (setting == NULL || setting->file.len == 0) {
        return buf;
    }

    return ngx_snprintf(buf, len, " in %V:%ui", &setting->file, setting->line);
}


ngx_uint_t
ngx_vaani_redis_ssl_same(ngx_vaani_redis_ssl_t *one,
    ngx_vaani_redis_ssl_t *two)
{
    return one->verify == two->verify
           && one->verify_depth == two->verify_depth
           && one->protocols == two->protocols
           && one->session_reuse == two->session_reuse
           && one->passwords == two->passwords
           && ngx_vaani_redis_ssl_equal(&one->ciphers, &two->ciphers)
           && ngx_vaani_redis_ssl_equal(&one->trusted, &two->trusted)
           && ngx_vaani_redis_ssl_equal(&one->crl, &two->crl)
           && ngx_vaani_redis_ssl_equal(&one->name, &two->name)
           && ngx_vaani_redis_ssl_equal(&one->certificate, &two->certificate)
           && ngx_vaani_redis_ssl_equal(&one->key, &two->key);
}


static ngx_uint_t
ngx_vaani_redis_ssl_equal(ngx_vaani_redis_setting_t *one,
    ngx_vaani_redis_setting_t *two)
{
    return one->value.len == two->value.len
           && (one->value.len == 0
               || ngx_memcmp(one->value.data, two->value.data, one->value.len)
                  == 0);
}


/*
 * The name to verify: that of the configuration, or where there may be several
 * servers, that of each.  Addresses aren't sent (RFC 6066).
 */

static ngx_int_t
ngx_vaani_redis_ssl_expect(ngx_vaani_redis_conn_t *conn, SSL *connection)
{
    u_char                 *name;
    size_t                  len;
    ngx_str_t              *server;
    X509_VERIFY_PARAM      *param;
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

        param = SSL_get0_param(connection);

        if (X509_VERIFY_PARAM_set1_ip_asc(param, (char *) text) != 1) {
            ERR_clear_error();

            X509_VERIFY_PARAM_set_hostflags(param,
                                         X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);

            if (X509_VERIFY_PARAM_set1_host(param, (char *) text, len) == 0) {
                return NGX_ERROR;
            }

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


void
ngx_vaani_redis_ssl_handshake(ngx_vaani_redis_conn_t *conn)
{
    ngx_connection_t       *c;
    ngx_vaani_redis_ssl_t  *ssl;

    c = conn->peer.connection;
    ssl = &conn->redis->ssl;

    conn->state = NGX_VAANI_REDIS_HANDSHAKING;
    conn->ssl_error = 0;
    conn->ssl_errno = 0;
    conn->alert = 0;

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

    SSL_set_info_callback(c->ssl->connection, ngx_vaani_redis_ssl_info);

    c->ssl->handler = ngx_vaani_redis_ssl_handshaked;

    if (ngx_ssl_handshake(c) != NGX_AGAIN) {
        ngx_vaani_redis_ssl_handshaked(c);
    }

    return;

failed:

    ERR_clear_error();

    ngx_vaani_redis_ssl_forget(conn);
    ngx_vaani_redis_fail(conn, 0, "no memory for a connection");
}


/*
 * nginx logs OpenSSL's errors, and they are gone by the time that it says
 * there was one.  Alerts are told nowhere else.
 */

static void
ngx_vaani_redis_ssl_info(const ngx_ssl_conn_t *ssl_conn, int where, int ret)
{
    ngx_connection_t         *c;
    ngx_vaani_redis_conn_t   *conn;
    void                    (*next)(const ngx_ssl_conn_t *, int, int);

    next = SSL_CTX_get_info_callback(SSL_get_SSL_CTX(ssl_conn));

    if (next) {
        next(ssl_conn, where, ret);
    }

    c = ngx_ssl_get_connection(ssl_conn);
    conn = c->data;

    if ((where & SSL_CB_READ_ALERT) == SSL_CB_READ_ALERT
        && (ret >> 8) == SSL3_AL_FATAL)
    {
        conn->alert = ret & 0xff;
    }

    if ((where & SSL_CB_EXIT) && ret <= 0) {
        conn->ssl_errno = ngx_socket_errno;
        conn->ssl_error = ERR_peek_error();
    }
}


static void
ngx_vaani_redis_ssl_handshaked(ngx_connection_t *c)
{
    X509                    *cert;
    ngx_vaani_redis_conn_t  *conn;

    conn = c->data;

    if (!c->ssl->handshaked) {
        ngx_vaani_redis_ssl_fail(conn);
        return;
    }

    if (conn->redis->ssl.verify) {

        /* some ciphers have nothing to verify */

        cert = SSL_get_peer_certificate(c->ssl->connection);

        if (cert == NULL) {
            ngx_vaani_redis_ssl_forget(conn);
            ngx_vaani_redis_fail(conn, 0, "has no certificate");
            return;
        }

        X509_free(cert);
    }

    ngx_vaani_redis_open(conn);
}


/*
 * Since TLS 1.3, sessions come at any time after the handshake.
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


static void
ngx_vaani_redis_ssl_fail(ngx_vaani_redis_conn_t *conn)
{
    long         rc;
    char        *what;
    ngx_err_t    err;
    const char  *reason;

    /* it might have been what is wrong */

    ngx_vaani_redis_ssl_forget(conn);

    rc = SSL_get_verify_result(conn->peer.connection->ssl->connection);

    if (conn->redis->ssl.verify && rc != X509_V_OK) {
        what = ngx_vaani_redis_ssl_what(conn, ngx_vaani_redis_ssl_certificates,
                                        rc, X509_verify_cert_error_string(rc));

        ngx_vaani_redis_fail(conn, 0, what);
        return;
    }

    if (conn->alert) {
        ngx_vaani_redis_ssl_lost(conn, 0, NULL);
        return;
    }

    if (conn->ssl_error == 0) {
        err = (conn->ssl_errno == NGX_EAGAIN) ? 0 : conn->ssl_errno;

        ngx_vaani_redis_fail(conn, err,
                             "closed the connection in the TLS handshake, "
                             "does it take TLS on this port?");
        return;
    }

    reason = ERR_reason_error_string(conn->ssl_error);

    what = ngx_vaani_redis_ssl_what(conn, ngx_vaani_redis_ssl_reasons,
                                    ERR_GET_REASON(conn->ssl_error),
                                    reason ? reason : "unknown");

    ngx_vaani_redis_fail(conn, 0, what);
}


void
ngx_vaani_redis_ssl_lost(ngx_vaani_redis_conn_t *conn, ngx_err_t err,
    char *what)
{
    u_char             buf[256], alert[sizeof("alert ") + NGX_INT_T_LEN];
    ngx_connection_t  *c;

    if (conn->state != NGX_VAANI_REDIS_READY) {
        ngx_vaani_redis_ssl_forget(conn);
    }

    if (conn->state == NGX_VAANI_REDIS_SETTING_UP && conn->alert == 0) {

        /* a write may find out first; the alert is there to be read then */

        c = conn->peer.connection;

        (void) c->recv(c, buf, sizeof(buf));
    }

    if (conn->alert) {
        ngx_sprintf(alert, "alert %ui%Z", conn->alert);

        what = ngx_vaani_redis_ssl_what(conn, ngx_vaani_redis_ssl_alerts,
                                        conn->alert, (char *) alert);

        ngx_vaani_redis_lost(conn, 0, what);
        return;
    }

    if (err == 0) {
        ngx_vaani_redis_lost(conn, 0, "sent what is no TLS");
        return;
    }

    ngx_vaani_redis_lost(conn, err, what);
}


static char *
ngx_vaani_redis_ssl_what(ngx_vaani_redis_conn_t *conn,
    const ngx_vaani_redis_ssl_text_t *texts, long code, const char *reason)
{
    u_char  *last;

    while (texts->code && texts->code != code) {
        texts++;
    }

    last = ngx_snprintf((u_char *) conn->what, NGX_VAANI_REDIS_MAX_WHAT - 1,
                        "%s (%s)", texts->what, reason);
    *last = '\0';

    return conn->what;
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

            /* not even the goodbye can be written */

            SSL_free(c->ssl->connection);
            c->ssl = NULL;
        }

        ERR_clear_error();
    }

    c->pool = NULL;
    ngx_destroy_pool(pool);
}

#endif
