
/*
 * Prepares secrets: tokens for comparison, and keys of HMACs.
 */


#include "../ngx_http_vaani.h"


/* bytes: a shorter secret can be guessed and causes a warning */

#define NGX_HTTP_VAANI_SHORT_SECRET     16


static void ngx_http_vaani_check_length(ngx_conf_t *cf, size_t len);

#if (NGX_HTTP_VAANI_HMAC)

static ngx_uint_t ngx_http_vaani_is_webhook_secret(ngx_str_t *secret,
    ngx_str_t *encoded);
static void ngx_http_vaani_free_key(void *data);

#endif


ngx_int_t
ngx_http_vaani_add_token(ngx_conf_t *cf, ngx_array_t *secrets,
    ngx_str_t *secret)
{
    vaani_token_t  **token;

    if (secret->len > VAANI_TOKEN_MAX_LEN) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "a secret of \"vaani_token\" must not be longer "
                           "than %d bytes", VAANI_TOKEN_MAX_LEN);
        return NGX_ERROR;
    }

    ngx_http_vaani_check_length(cf, secret->len);

    token = ngx_array_push(secrets);

    if (token == NULL) {
        return NGX_ERROR;
    }

    *token = ngx_pcalloc(cf->pool, sizeof(vaani_token_t));

    if (*token == NULL) {
        return NGX_ERROR;
    }

    (*token)->len = secret->len;
    ngx_memcpy((*token)->data, secret->data, secret->len);

    return ngx_http_vaani_wipe_later(cf->pool, (u_char *) *token,
                                     sizeof(vaani_token_t));
}


static void
ngx_http_vaani_check_length(ngx_conf_t *cf, size_t len)
{
    if (len < NGX_HTTP_VAANI_SHORT_SECRET) {
        ngx_conf_log_error(NGX_LOG_WARN, cf, 0,
                           "a secret of %uz bytes is too short, generate one "
                           "with \"openssl rand -hex 32\"", len);
    }
}


#if (NGX_HTTP_VAANI_HMAC)

ngx_int_t
ngx_http_vaani_add_webhook_key(ngx_conf_t *cf, ngx_array_t *secrets,
    ngx_str_t *secret)
{
    u_char     *last;
    ngx_int_t   rc;
    ngx_str_t   encoded, key;

    if (!ngx_http_vaani_is_webhook_secret(secret, &encoded)) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "a secret of Standard Webhooks must begin with "
                           "\"whsec_\" or \"v1,whsec_\", or be base64 of 16 "
                           "bytes or more");
        return NGX_ERROR;
    }

    key.data = ngx_pnalloc(cf->temp_pool,
                           ngx_base64_decoded_length(encoded.len));

    if (key.data == NULL) {
        return NGX_ERROR;
    }

    /* nginx decodes up to the first "=", even if it is not at the end */

    last = encoded.data + encoded.len;

    while (last > encoded.data && last[-1] == '=') {
        last--;
    }

    if (last == encoded.data
        || ngx_strlchr(encoded.data, last, '=') != NULL
        || ngx_decode_base64(&key, &encoded) != NGX_OK)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           encoded.len == secret->len
                           ? "a secret of Standard Webhooks must begin with "
                             "\"whsec_\" or \"v1,whsec_\", or be base64 of "
                             "16 bytes or more"
                           : "a secret of Standard Webhooks must be base64 "
                             "after \"whsec_\"");
        return NGX_ERROR;
    }

    rc = ngx_http_vaani_add_key(cf, secrets, &key);

    ngx_explicit_memzero(key.data, key.len);

    return rc;
}


/*
 * "whsec_" and base64; some senders show "v1," before it.  Without "whsec_",
 * the base64 must look like a secret, because "on" is valid base64 too.
 */

static ngx_uint_t
ngx_http_vaani_is_webhook_secret(ngx_str_t *secret, ngx_str_t *encoded)
{
    *encoded = *secret;

    if (secret->len > 9 && ngx_strncmp(secret->data, "v1,whsec_", 9) == 0) {
        encoded->data += 3;
        encoded->len -= 3;
    }

    if (encoded->len > 6 && ngx_strncmp(encoded->data, "whsec_", 6) == 0) {
        encoded->data += 6;
        encoded->len -= 6;

        return 1;
    }

    return secret->len >= ngx_base64_encoded_length(NGX_HTTP_VAANI_SHORT_SECRET)
                          - 2
           && ngx_strncasecmp(secret->data, (u_char *) "whsec", 5) != 0;
}


ngx_int_t
ngx_http_vaani_add_key(ngx_conf_t *cf, ngx_array_t *secrets, ngx_str_t *secret)
{
    HMAC_CTX            **key;
    ngx_pool_cleanup_t   *cln;

    ngx_http_vaani_check_length(cf, secret->len);

    key = ngx_array_push(secrets);
    cln = ngx_pool_cleanup_add(cf->pool, 0);

    if (key == NULL || cln == NULL) {
        return NGX_ERROR;
    }

    *key = HMAC_CTX_new();

    if (*key == NULL) {
        return NGX_ERROR;
    }

    cln->handler = ngx_http_vaani_free_key;
    cln->data = *key;

    if (!HMAC_Init_ex(*key, secret->data, secret->len, EVP_sha256(), NULL)) {
        ngx_ssl_error(NGX_LOG_EMERG, cf->log, 0, "HMAC_Init_ex() failed");
        return NGX_ERROR;
    }

    return NGX_OK;
}


/*
 * OpenSSL wipes the key.
 */

static void
ngx_http_vaani_free_key(void *data)
{
    HMAC_CTX_free(data);
}

#endif
