
/*
 * The TLS settings of a Redis: creates the context of its connections.
 */


#include "ngx_vaani_redis_conn.h"


#if (NGX_SSL)

/* RFC 6066, bytes */

#define NGX_VAANI_REDIS_MAX_SERVER_NAME 255


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

    /* errors that nginx's functions log get the place of the setting */

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
                          "cannot load the system CA certificates");
            return NGX_ERROR;
        }

        /* a missing store is not an error */

        ERR_clear_error();
    }

    log->data = &ssl->crl;

    if (ngx_ssl_crl(cf, ssl->ssl, &ssl->crl.value) != NGX_OK) {
        return NGX_ERROR;
    }

    /*
     * nginx's callback accepts every handshake; nginx checks the result
     * afterwards.  Without a callback OpenSSL itself refuses: Redis learns the
     * reason, and no session of an unverified connection is stored.
     */

    SSL_CTX_set_verify(ssl->ssl->ctx, SSL_VERIFY_PEER, NULL);

    return NGX_OK;
}


static ngx_int_t
ngx_vaani_redis_ssl_name(ngx_conf_t *cf, ngx_vaani_redis_ssl_t *ssl,
    ngx_log_t *log)
{
    size_t   len;
    u_char  *name;

    log->data = &ssl->name;

    len = ssl->name.value.len;

    if (len == 0) {
        return NGX_OK;
    }

    /* the dot of an absolute name belongs to DNS only */

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

    switch (ngx_vaani_redis_ssl_expect_name(SSL_CTX_get0_param(ssl->ssl->ctx),
                                            name, len))
    {

    case NGX_OK:
        ssl->server_name = name;
        return NGX_OK;

    case NGX_DECLINED:
        return NGX_OK;

    default:
        ngx_ssl_error(NGX_LOG_EMERG, log, 0,
                      "cannot use \"vaani_redis_ssl_name\"");
        return NGX_ERROR;
    }
}


/*
 * OpenSSL compares the name, because ngx_ssl_check_host() does not support
 * addresses.
 */

ngx_int_t
ngx_vaani_redis_ssl_expect_name(X509_VERIFY_PARAM *param, u_char *name,
    size_t len)
{
    if (X509_VERIFY_PARAM_set1_ip_asc(param, (char *) name) == 1) {
        return NGX_DECLINED;
    }

    ERR_clear_error();

    X509_VERIFY_PARAM_set_hostflags(param,
                                    X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);

    return X509_VERIFY_PARAM_set1_host(param, (char *) name, len) ? NGX_OK
                                                                  : NGX_ERROR;
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

#endif
