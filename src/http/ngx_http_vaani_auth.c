
#include "ngx_http_vaani.h"


#define NGX_HTTP_VAANI_SHA256_LEN  32


static ngx_int_t ngx_http_vaani_auth_token(ngx_http_request_t *r,
    ngx_http_vaani_ctx_t *ctx);

#if (NGX_HTTP_VAANI_HMAC)

static void ngx_http_vaani_auth_webhook(ngx_http_request_t *r,
    ngx_http_vaani_ctx_t *ctx);
static void ngx_http_vaani_auth_signature(ngx_http_request_t *r,
    ngx_http_vaani_ctx_t *ctx);
static void ngx_http_vaani_verify(ngx_http_vaani_ctx_t *ctx,
    ngx_http_vaani_signature_t *sig, vaani_str_t *id, vaani_str_t *timestamp);
static ngx_uint_t ngx_http_vaani_mac(HMAC_CTX *key, vaani_str_t *parts,
    ngx_uint_t nparts, ngx_uint_t hex, u_char *dst, vaani_str_t *mac);
static void ngx_http_vaani_check_time(ngx_http_request_t *r,
    ngx_http_vaani_ctx_t *ctx, vaani_str_t *timestamp);

#endif

static void ngx_http_vaani_not_authorized(ngx_http_vaani_ctx_t *ctx,
    char *reason);


ngx_int_t
ngx_http_vaani_authorize(ngx_http_request_t *r, ngx_http_vaani_ctx_t *ctx)
{
    ngx_http_vaani_loc_conf_t  *vlcf;

    vlcf = ngx_http_get_module_loc_conf(r, ngx_http_vaani_module);

    if (vlcf->token && ngx_http_vaani_auth_token(r, ctx) != NGX_OK) {
        return NGX_ERROR;
    }

#if (NGX_HTTP_VAANI_HMAC)

    if (vlcf->secret) {
        ngx_http_vaani_auth_webhook(r, ctx);
    }

    if (vlcf->signature) {
        ngx_http_vaani_auth_signature(r, ctx);
    }

#endif

    return (ctx->result == NGX_HTTP_VAANI_UNAUTHORIZED) ? NGX_DECLINED : NGX_OK;
}


static ngx_int_t
ngx_http_vaani_auth_token(ngx_http_request_t *r, ngx_http_vaani_ctx_t *ctx)
{
    ngx_str_t                   value;
    ngx_uint_t                  n, found;
    vaani_str_t                 str;
    vaani_token_t             **token;
    ngx_http_vaani_loc_conf_t  *vlcf;

    vlcf = ngx_http_get_module_loc_conf(r, ngx_http_vaani_module);

    if (ngx_http_complex_value(r, vlcf->token, &value) != NGX_OK) {
        return NGX_ERROR;
    }

    str.data = value.data;
    str.len = value.len;

    found = 0;
    token = vlcf->tokens->elts;

    /* all of them: which one it was, or nearly was, doesn't show */

    for (n = 0; n < vlcf->tokens->nelts; n++) {
        found |= vaani_token_equal(token[n], &str);
    }

    if (!found) {
        ngx_http_vaani_not_authorized(ctx, value.len ? "wrong_token"
                                                     : "missing_token");
    }

    return NGX_OK;
}


#if (NGX_HTTP_VAANI_HMAC)

/*
 * Standard Webhooks, https://www.standardwebhooks.com: what is signed is
 * "<id>.<timestamp>.<body>".
 */

static void
ngx_http_vaani_auth_webhook(ngx_http_request_t *r, ngx_http_vaani_ctx_t *ctx)
{
    vaani_str_t                 id, timestamp;
    ngx_http_vaani_loc_conf_t  *vlcf;

    vlcf = ngx_http_get_module_loc_conf(r, ngx_http_vaani_module);

    id.data = ctx->id.data;
    id.len = ctx->id.len;

    timestamp.data = ctx->timestamp.data;
    timestamp.len = ctx->timestamp.len;

    if (id.len == 0 || timestamp.len == 0) {
        ngx_http_vaani_not_authorized(ctx, "missing_signature");
    }

    ngx_http_vaani_verify(ctx, vlcf->secret, &id, &timestamp);
    ngx_http_vaani_check_time(r, ctx, &timestamp);
}


static void
ngx_http_vaani_auth_signature(ngx_http_request_t *r, ngx_http_vaani_ctx_t *ctx)
{
    vaani_str_t                  header, timestamp;
    ngx_http_vaani_loc_conf_t   *vlcf;
    ngx_http_vaani_signature_t  *sig;

    vlcf = ngx_http_get_module_loc_conf(r, ngx_http_vaani_module);

    sig = vlcf->signature;

    if (sig->format.timestamp.len == 0) {
        ngx_http_vaani_verify(ctx, sig, NULL, NULL);
        return;
    }

    header.data = ctx->signatures[sig->index].data;
    header.len = ctx->signatures[sig->index].len;

    ngx_str_null(&timestamp);

    if (vaani_signature_timestamp(&sig->format, &header, &timestamp)
        != VAANI_OK
        && header.len)
    {
        ngx_http_vaani_not_authorized(ctx, "malformed_signature");
    }

    ngx_http_vaani_verify(ctx, sig, NULL, &timestamp);
    ngx_http_vaani_check_time(r, ctx, &timestamp);
}


/*
 * The MACs are computed whatever is known to be wrong by now: the time must
 * not tell.
 */

static void
ngx_http_vaani_verify(ngx_http_vaani_ctx_t *ctx,
    ngx_http_vaani_signature_t *sig, vaani_str_t *id, vaani_str_t *timestamp)
{
    HMAC_CTX           **key;
    ngx_str_t           *value;
    ngx_uint_t           n, nparts, found;
    vaani_str_t          header, mac, parts[5];
    u_char               encoded[2 * NGX_HTTP_VAANI_SHA256_LEN + 1];

    static vaani_str_t   dot = vaani_string(".");

    nparts = 0;

    if (id) {
        parts[nparts++] = *id;
        parts[nparts++] = dot;
    }

    if (timestamp) {
        parts[nparts++] = *timestamp;
        parts[nparts++] = dot;
    }

    parts[nparts].data = ctx->body.data;
    parts[nparts++].len = ctx->body.len;

    value = &ctx->signatures[sig->index];

    header.data = value->data;
    header.len = value->len;

    found = 0;
    key = sig->keys.elts;

    for (n = 0; n < sig->keys.nelts; n++) {

        if (ngx_http_vaani_mac(key[n], parts, nparts, sig->format.hex, encoded,
                               &mac))
        {
            found |= vaani_signature_match(&sig->format, &header, &mac);
        }
    }

    if (header.len == 0) {
        ngx_http_vaani_not_authorized(ctx, "missing_signature");

    } else if (ctx->repeated) {

        /* which of two headers was signed can't be told */

        ngx_http_vaani_not_authorized(ctx, "malformed_signature");

    } else if (!found) {
        ngx_http_vaani_not_authorized(ctx, "wrong_signature");
    }
}


/*
 * HMAC-SHA256 (RFC 2104) with a context that has its key already, encoded in
 * dst.  Returns 0 if OpenSSL failed: there is no MAC then.
 */

static ngx_uint_t
ngx_http_vaani_mac(HMAC_CTX *key, vaani_str_t *parts, ngx_uint_t nparts,
    ngx_uint_t hex, u_char *dst, vaani_str_t *mac)
{
    HMAC_CTX      *hmac;
    ngx_uint_t     n, ok;
    unsigned int   len;
    u_char         digest[NGX_HTTP_VAANI_SHA256_LEN];

    hmac = HMAC_CTX_new();

    if (hmac == NULL) {
        return 0;
    }

    ok = HMAC_CTX_copy(hmac, key);

    for (n = 0; ok && n < nparts; n++) {
        ok = HMAC_Update(hmac, parts[n].data, parts[n].len);
    }

    len = sizeof(digest);

    ok = ok && HMAC_Final(hmac, digest, &len);

    HMAC_CTX_free(hmac);

    if (!ok) {
        return 0;
    }

    mac->data = dst;

    if (hex) {
        mac->len = ngx_hex_dump(dst, digest, sizeof(digest)) - dst;

    } else {
        mac->len = EVP_EncodeBlock(dst, digest, sizeof(digest));
    }

    return 1;
}


static void
ngx_http_vaani_check_time(ngx_http_request_t *r, ngx_http_vaani_ctx_t *ctx,
    vaani_str_t *timestamp)
{
    int64_t                     seconds, off;
    ngx_http_vaani_loc_conf_t  *vlcf;

    if (vaani_timestamp_parse(timestamp, &seconds) != VAANI_OK) {
        ngx_http_vaani_not_authorized(ctx, "malformed_signature");
        return;
    }

    vlcf = ngx_http_get_module_loc_conf(r, ngx_http_vaani_module);

    off = ngx_time() - seconds;

    if (off > vlcf->timestamp_tolerance || off < -vlcf->timestamp_tolerance) {
        ngx_http_vaani_not_authorized(ctx, "stale_timestamp");
    }
}

#endif


/*
 * What is found first is what the operator has to see to.
 */

static void
ngx_http_vaani_not_authorized(ngx_http_vaani_ctx_t *ctx, char *reason)
{
    if (ctx->result == NGX_HTTP_VAANI_UNAUTHORIZED) {
        return;
    }

    ctx->result = NGX_HTTP_VAANI_UNAUTHORIZED;
    ctx->reason.data = (u_char *) reason;
    ctx->reason.len = ngx_strlen(reason);
}


ngx_int_t
ngx_http_vaani_send_unauthorized(ngx_http_request_t *r,
    ngx_http_vaani_ctx_t *ctx)
{
    uint64_t             skipped;
    ngx_str_t            scheme;
    ngx_uint_t           level;

    static vaani_pace_t  pace;

    /* an error as an "access forbidden" is, but not one for every guess */

    level = vaani_pace(&pace, ngx_current_msec, 1000, &skipped)
            ? NGX_LOG_ERR : NGX_LOG_INFO;

    ngx_log_error(level, r->connection->log, 0, "vaani: unauthorized: %V",
                  &ctx->reason);

    /* RFC 9110, section 15.5.2: there must be a challenge */

    ngx_str_set(&scheme, "Webhook");

    if (ngx_http_vaani_add_header(r, "WWW-Authenticate", &scheme) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_vaani_send_problem(r, NGX_HTTP_UNAUTHORIZED, NULL, NULL);
}
