
/*
 * Explains failures of TLS, and what to do about them.
 */


#include "ngx_vaani_redis_conn.h"


#if (NGX_SSL)

/* RFC 8446; some libraries do not define it */

#define NGX_VAANI_REDIS_CERTIFICATE_REQUIRED  116


typedef struct {
    long                        code;
    char                       *what;
} ngx_vaani_redis_ssl_text_t;


static void ngx_vaani_redis_ssl_info(const ngx_ssl_conn_t *ssl_conn, int where,
    int ret);
static char *ngx_vaani_redis_ssl_alert(ngx_vaani_redis_conn_t *conn);
static char *ngx_vaani_redis_ssl_what(ngx_vaani_redis_conn_t *conn,
    const ngx_vaani_redis_ssl_text_t *texts, long code, const char *reason);


/* the last entry of each table is the default */

static const ngx_vaani_redis_ssl_text_t  ngx_vaani_redis_ssl_certificates[] = {

    { X509_V_ERR_HOSTNAME_MISMATCH,
      "has a certificate for another name, see \"vaani_redis_ssl_name\"" },

    { X509_V_ERR_IP_ADDRESS_MISMATCH,
      "has a certificate without its address, see \"vaani_redis_ssl_name\"" },

    { X509_V_ERR_CERT_HAS_EXPIRED,
      "has an expired certificate, renew it" },

    { X509_V_ERR_CERT_NOT_YET_VALID,
      "has a certificate that is not valid yet, check the clocks" },

    { X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT,
      "has a certificate from an untrusted CA, see "
      "\"vaani_redis_ssl_trusted_certificate\"" },

    { X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY,
      "has a certificate from an untrusted CA, see "
      "\"vaani_redis_ssl_trusted_certificate\"" },

    { X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE,
      "has a certificate from an untrusted CA, see "
      "\"vaani_redis_ssl_trusted_certificate\"" },

    { X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT,
      "has a certificate from an untrusted CA, see "
      "\"vaani_redis_ssl_trusted_certificate\"" },

    { X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN,
      "has a certificate from an untrusted CA, see "
      "\"vaani_redis_ssl_trusted_certificate\"" },

    { X509_V_ERR_CERT_CHAIN_TOO_LONG,
      "has a certificate chain that is too long, see "
      "\"vaani_redis_ssl_verify_depth\"" },

    { X509_V_ERR_CERT_REVOKED,
      "has a revoked certificate, replace it" },

    { X509_V_ERR_UNABLE_TO_GET_CRL,
      "has a certificate from a CA without a revocation list, see "
      "\"vaani_redis_ssl_crl\"" },

    { X509_V_ERR_CRL_HAS_EXPIRED,
      "cannot be verified because a revocation list has expired, see "
      "\"vaani_redis_ssl_crl\"" },

    { 0, "has a certificate that cannot be verified" }
};


static const ngx_vaani_redis_ssl_text_t  ngx_vaani_redis_ssl_alerts[] = {

    { SSL_AD_HANDSHAKE_FAILURE,
      "rejected the TLS handshake, check \"vaani_redis_ssl_certificate\" and "
      "the ciphers" },

    { SSL_AD_INSUFFICIENT_SECURITY,
      "rejected the TLS handshake, check \"vaani_redis_ssl_certificate\" and "
      "the ciphers" },

    { SSL_AD_PROTOCOL_VERSION,
      "supports no TLS version of \"vaani_redis_ssl_protocols\"" },

    { NGX_VAANI_REDIS_CERTIFICATE_REQUIRED,
      "requires a client certificate, see \"vaani_redis_ssl_certificate\"" },

    { SSL_AD_BAD_CERTIFICATE,
      "rejected the client certificate, see \"vaani_redis_ssl_certificate\"" },

    { SSL_AD_UNSUPPORTED_CERTIFICATE,
      "rejected the client certificate, see \"vaani_redis_ssl_certificate\"" },

    { SSL_AD_CERTIFICATE_REVOKED,
      "rejected the client certificate, see \"vaani_redis_ssl_certificate\"" },

    { SSL_AD_CERTIFICATE_EXPIRED,
      "rejected the client certificate, see \"vaani_redis_ssl_certificate\"" },

    { SSL_AD_CERTIFICATE_UNKNOWN,
      "rejected the client certificate, see \"vaani_redis_ssl_certificate\"" },

    { SSL_AD_UNKNOWN_CA,
      "rejected the client certificate, see \"vaani_redis_ssl_certificate\"" },

    { SSL_AD_ACCESS_DENIED,
      "rejected the client certificate, see \"vaani_redis_ssl_certificate\"" },

    { SSL_AD_UNRECOGNIZED_NAME,
      "does not recognize the server name, see \"vaani_redis_ssl_name\"" },

    { 0, "rejected the TLS connection" }
};


static const ngx_vaani_redis_ssl_text_t  ngx_vaani_redis_ssl_reasons[] = {

    { SSL_R_WRONG_VERSION_NUMBER,
      "does not speak TLS, check that the port uses TLS" },

    { SSL_R_PACKET_LENGTH_TOO_LONG,
      "does not speak TLS, check that the port uses TLS" },

    { SSL_R_HTTP_REQUEST,
      "does not speak TLS, check that the port uses TLS" },

    { SSL_R_UNSUPPORTED_PROTOCOL,
      "supports no TLS version of \"vaani_redis_ssl_protocols\"" },

    { SSL_R_NO_PROTOCOLS_AVAILABLE,
      "supports no TLS version of \"vaani_redis_ssl_protocols\"" },

    { 0, "failed the TLS handshake" }
};


void
ngx_vaani_redis_ssl_note_errors(ngx_vaani_redis_conn_t *conn)
{
    conn->ssl_error = 0;
    conn->ssl_errno = 0;
    conn->alert = 0;

    SSL_set_info_callback(conn->peer.connection->ssl->connection,
                          ngx_vaani_redis_ssl_info);
}


/*
 * nginx logs OpenSSL's errors and clears them before it reports a failure.
 * Alerts are available only here.
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


char *
ngx_vaani_redis_ssl_refused(ngx_vaani_redis_conn_t *conn, ngx_err_t *err)
{
    long         rc;
    const char  *reason;

    *err = 0;

    rc = SSL_get_verify_result(conn->peer.connection->ssl->connection);

    if (conn->redis->ssl.verify && rc != X509_V_OK) {
        return ngx_vaani_redis_ssl_what(conn, ngx_vaani_redis_ssl_certificates,
                                        rc, X509_verify_cert_error_string(rc));
    }

    if (conn->alert) {
        return ngx_vaani_redis_ssl_alert(conn);
    }

    if (conn->ssl_error == 0) {
        *err = (conn->ssl_errno == NGX_EAGAIN) ? 0 : conn->ssl_errno;

        return "closed the connection during the TLS handshake, "
               "check that the port uses TLS";
    }

    reason = ERR_reason_error_string(conn->ssl_error);

    return ngx_vaani_redis_ssl_what(conn, ngx_vaani_redis_ssl_reasons,
                                    ERR_GET_REASON(conn->ssl_error),
                                    reason ? reason : "unknown");
}


char *
ngx_vaani_redis_ssl_broken(ngx_vaani_redis_conn_t *conn, ngx_err_t *err,
    char *what)
{
    u_char             buf[256];
    ngx_connection_t  *c;

    if (conn->state == NGX_VAANI_REDIS_SETTING_UP && conn->alert == 0) {

        /* a write may fail first; the alert can then still be read */

        c = conn->peer.connection;

        (void) c->recv(c, buf, sizeof(buf));
    }

    if (conn->alert) {
        *err = 0;
        return ngx_vaani_redis_ssl_alert(conn);
    }

    return *err ? what : "sent data that is not TLS";
}


static char *
ngx_vaani_redis_ssl_alert(ngx_vaani_redis_conn_t *conn)
{
    u_char  reason[sizeof("alert ") + NGX_INT_T_LEN];

    ngx_sprintf(reason, "alert %ui%Z", conn->alert);

    return ngx_vaani_redis_ssl_what(conn, ngx_vaani_redis_ssl_alerts,
                                    conn->alert, (char *) reason);
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

#endif
