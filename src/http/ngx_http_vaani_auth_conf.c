
#include "ngx_http_vaani.h"


/* bytes: what can be guessed is worth a warning */

#define NGX_HTTP_VAANI_SHORT_SECRET     16


static ngx_uint_t ngx_http_vaani_token_in_uri(ngx_str_t *value);
static ngx_int_t ngx_http_vaani_add_token(ngx_conf_t *cf,
    ngx_array_t *secrets, ngx_str_t *secret);
static void ngx_http_vaani_check_length(ngx_conf_t *cf, size_t len);

#if (NGX_HTTP_VAANI_HMAC)

static ngx_http_vaani_signature_t *ngx_http_vaani_create_signature(
    ngx_conf_t *cf);
static char *ngx_http_vaani_signature_parameter(ngx_conf_t *cf,
    ngx_http_vaani_signature_t *sig, ngx_str_t *value);
static ngx_int_t ngx_http_vaani_add_webhook_key(ngx_conf_t *cf,
    ngx_array_t *secrets, ngx_str_t *secret);
static ngx_int_t ngx_http_vaani_add_key(ngx_conf_t *cf, ngx_array_t *secrets,
    ngx_str_t *secret);
static void ngx_http_vaani_free_key(void *data);


/* https://www.standardwebhooks.com */

static vaani_signature_format_t  ngx_http_vaani_webhook_format = {
    vaani_string("v1,"), { 0, NULL }, ' ', 0
};


static vaani_str_t  ngx_http_vaani_v1 = vaani_string("v1=");

#else

static char *ngx_http_vaani_no_hmac(ngx_conf_t *cf);

#endif


char *
ngx_http_vaani_token(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_vaani_loc_conf_t *vlcf = conf;

    char        *rv;
    ngx_str_t   *value;
    ngx_uint_t   n;

    if (vlcf->token != NGX_CONF_UNSET_PTR) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (cf->args->nelts == 2) {

        if (ngx_strcmp(value[1].data, "off") != 0) {
            return "needs a value and a secret";
        }

        vlcf->token = NULL;

        return NGX_CONF_OK;
    }

    if (ngx_http_script_variables_count(&value[1]) == 0) {
        return "must have a variable in its first parameter";
    }

    vlcf->token = ngx_palloc(cf->pool, sizeof(ngx_http_complex_value_t));
    vlcf->tokens = ngx_array_create(cf->pool, cf->args->nelts - 2,
                                    sizeof(vaani_token_t *));

    if (vlcf->token == NULL || vlcf->tokens == NULL) {
        return NGX_CONF_ERROR;
    }

    vlcf->token_in_uri = ngx_http_vaani_token_in_uri(&value[1]);

    if (ngx_http_vaani_compile(cf, &value[1], vlcf->token) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    for (n = 2; n < cf->args->nelts; n++) {

        if (ngx_strcmp(value[n].data, "off") == 0) {
            return "has \"off\" among its secrets";
        }

        rv = ngx_http_vaani_take_secrets(cf, &value[n], vlcf->tokens,
                                         ngx_http_vaani_add_token);

        if (rv != NGX_CONF_OK) {
            return rv;
        }
    }

    return NGX_CONF_OK;
}


/*
 * Arguments and headers aren't part of the path, which logs show.
 */

static ngx_uint_t
ngx_http_vaani_token_in_uri(ngx_str_t *value)
{
    u_char  *p, *last;

    last = value->data + value->len;

    for (p = value->data; p < last; p++) {

        if (*p != '$') {
            continue;
        }

        p++;

        if (p < last && *p == '{') {
            p++;
        }

        if (ngx_strncmp(p, "arg_", 4) != 0
            && ngx_strncmp(p, "http_", 5) != 0
            && ngx_strncmp(p, "cookie_", 7) != 0)
        {
            return 1;
        }
    }

    return 0;
}


char *
ngx_http_vaani_secret(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
#if (NGX_HTTP_VAANI_HMAC)
    ngx_http_vaani_loc_conf_t *vlcf = conf;

    char                        *rv;
    ngx_str_t                   *value;
    ngx_uint_t                   n;
    ngx_http_vaani_signature_t  *sig;

    value = cf->args->elts;

    if (cf->args->nelts == 2 && ngx_strcmp(value[1].data, "off") == 0) {

        if (vlcf->secret != NGX_CONF_UNSET_PTR) {
            return vlcf->secret ? "\"off\" is set after a secret"
                                : "is duplicate";
        }

        vlcf->secret = NULL;

        return NGX_CONF_OK;
    }

    if (vlcf->secret == NULL) {
        return "is set after \"vaani_secret off\"";
    }

    if (vlcf->secret == NGX_CONF_UNSET_PTR) {
        sig = ngx_http_vaani_create_signature(cf);

        if (sig == NULL) {
            return NGX_CONF_ERROR;
        }

        ngx_str_set(&sig->header, "webhook-signature");
        sig->index = NGX_HTTP_VAANI_WEBHOOK;
        sig->format = ngx_http_vaani_webhook_format;

        vlcf->secret = sig;
    }

    for (n = 1; n < cf->args->nelts; n++) {
        rv = ngx_http_vaani_take_secrets(cf, &value[n], &vlcf->secret->keys,
                                         ngx_http_vaani_add_webhook_key);

        if (rv != NGX_CONF_OK) {
            return rv;
        }
    }

    return NGX_CONF_OK;

#else
    return ngx_http_vaani_no_hmac(cf);
#endif
}


char *
ngx_http_vaani_signature(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
#if (NGX_HTTP_VAANI_HMAC)
    ngx_http_vaani_loc_conf_t *vlcf = conf;

    char                        *rv;
    ngx_str_t                   *value;
    ngx_uint_t                   n;
    ngx_http_vaani_signature_t  *sig;

    if (vlcf->signature != NGX_CONF_UNSET_PTR) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (cf->args->nelts == 2 && ngx_strcmp(value[1].data, "off") == 0) {
        vlcf->signature = NULL;
        return NGX_CONF_OK;
    }

    if (value[1].len == 0
        || ngx_strlchr(value[1].data, value[1].data + value[1].len, '='))
    {
        return "needs the name of a header first";
    }

    sig = ngx_http_vaani_create_signature(cf);

    if (sig == NULL) {
        return NGX_CONF_ERROR;
    }

    sig->header = value[1];
    sig->index = NGX_HTTP_VAANI_OTHER;
    sig->format.separator = ',';
    sig->format.hex = 1;

    ngx_strlow(sig->header.data, sig->header.data, sig->header.len);

    for (n = 2; n < cf->args->nelts; n++) {
        rv = ngx_http_vaani_signature_parameter(cf, sig, &value[n]);

        if (rv != NGX_CONF_OK) {
            return rv;
        }
    }

    if (sig->keys.nelts == 0) {
        return "needs \"secret=\" or \"file=\"";
    }

    if (sig->format.timestamp.len && sig->format.prefix.data == NULL) {
        sig->format.prefix = ngx_http_vaani_v1;
    }

    vlcf->signature = sig;

    return NGX_CONF_OK;

#else
    return ngx_http_vaani_no_hmac(cf);
#endif
}


#if (NGX_HTTP_VAANI_HMAC)

static ngx_http_vaani_signature_t *
ngx_http_vaani_create_signature(ngx_conf_t *cf)
{
    ngx_http_vaani_signature_t  *sig;

    sig = ngx_pcalloc(cf->pool, sizeof(ngx_http_vaani_signature_t));

    if (sig == NULL
        || ngx_array_init(&sig->keys, cf->pool, 2, sizeof(HMAC_CTX *))
           != NGX_OK)
    {
        return NULL;
    }

    return sig;
}


static char *
ngx_http_vaani_signature_parameter(ngx_conf_t *cf,
    ngx_http_vaani_signature_t *sig, ngx_str_t *value)
{
    u_char  *p;

    if (ngx_strcmp(value->data, "encoding=hex") == 0) {
        sig->format.hex = 1;
        return NGX_CONF_OK;
    }

    if (ngx_strcmp(value->data, "encoding=base64") == 0) {
        sig->format.hex = 0;
        return NGX_CONF_OK;
    }

    if (ngx_strncmp(value->data, "prefix=", 7) == 0) {
        sig->format.prefix.data = value->data + 7;
        sig->format.prefix.len = value->len - 7;
        return NGX_CONF_OK;
    }

    if (ngx_strncmp(value->data, "timestamp=", 10) == 0 && value->len > 10) {
        sig->format.timestamp.len = value->len - 10 + 1;

        p = ngx_pnalloc(cf->pool, sig->format.timestamp.len);

        if (p == NULL) {
            return NGX_CONF_ERROR;
        }

        sig->format.timestamp.data = p;

        p = ngx_cpymem(p, value->data + 10, value->len - 10);
        *p = '=';

        return NGX_CONF_OK;
    }

    if (ngx_strncmp(value->data, "secret=", 7) == 0) {
        value->data += 7;
        value->len -= 7;

    } else if (ngx_strncmp(value->data, "file=", 5) != 0) {

        /* it may be a secret: it isn't shown */

        return "has an invalid parameter";
    }

    return ngx_http_vaani_take_secrets(cf, value, &sig->keys,
                                       ngx_http_vaani_add_key);
}


/*
 * Base64 after "whsec_".
 */

static ngx_int_t
ngx_http_vaani_add_webhook_key(ngx_conf_t *cf, ngx_array_t *secrets,
    ngx_str_t *secret)
{
    u_char     *last;
    ngx_int_t   rc;
    ngx_str_t   encoded, key;

    if (secret->len <= 6 || ngx_strncmp(secret->data, "whsec_", 6) != 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "a secret of Standard Webhooks must begin with "
                           "\"whsec_\"");
        return NGX_ERROR;
    }

    encoded.data = secret->data + 6;
    encoded.len = secret->len - 6;

    key.data = ngx_pnalloc(cf->temp_pool,
                           ngx_base64_decoded_length(encoded.len));

    if (key.data == NULL) {
        return NGX_ERROR;
    }

    /* nginx decodes up to the first "=", be it the first byte or the middle */

    last = encoded.data + encoded.len;

    while (last > encoded.data && last[-1] == '=') {
        last--;
    }

    if (last == encoded.data
        || ngx_strlchr(encoded.data, last, '=') != NULL
        || ngx_decode_base64(&key, &encoded) != NGX_OK)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "a secret of Standard Webhooks must be base64 after "
                           "\"whsec_\"");
        return NGX_ERROR;
    }

    rc = ngx_http_vaani_add_key(cf, secrets, &key);

    ngx_explicit_memzero(key.data, key.len);

    return rc;
}


static ngx_int_t
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
 * OpenSSL wipes it.
 */

static void
ngx_http_vaani_free_key(void *data)
{
    HMAC_CTX_free(data);
}

#endif


#if !(NGX_HTTP_VAANI_HMAC)

static char *
ngx_http_vaani_no_hmac(ngx_conf_t *cf)
{
    ngx_str_t  *value;

    value = cf->args->elts;

    if (cf->args->nelts == 2 && ngx_strcmp(value[1].data, "off") == 0) {
        return NGX_CONF_OK;
    }

    return "requires an nginx with OpenSSL 1.1.0 or newer";
}

#endif


static ngx_int_t
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
                           "a secret of %uz bytes may be guessed, make one "
                           "with \"openssl rand -hex 32\"", len);
    }
}
