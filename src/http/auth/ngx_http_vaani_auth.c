
/*
 * Whether a request is authorized: its token, its signature.
 */


#include "../ngx_http_vaani.h"


#define NGX_HTTP_VAANI_SHA256_LEN  32


static ngx_int_t ngx_http_vaani_auth_token(ngx_http_request_t *r,
    ngx_http_vaani_ctx_t *ctx);

#if (NGX_HTTP_VAANI_HMAC)

static void ngx_http_vaani_auth_signature(ngx_http_request_t *r,
    ngx_http_vaani_ctx_t *ctx, ngx_http_vaani_signer_t *signer,
    ngx_uint_t whole);
static ngx_http_vaani_scheme_t *ngx_http_vaani_choose_scheme(
    ngx_http_request_t *r, ngx_http_vaani_signer_t *signer);
static ngx_uint_t ngx_http_vaani_signed_header(ngx_http_request_t *r,
    ngx_str_t *name, vaani_str_t *value);
static ngx_uint_t ngx_http_vaani_is_name(ngx_table_elt_t *h, ngx_str_t *name);
static ngx_uint_t ngx_http_vaani_find_mac(ngx_http_vaani_signer_t *signer,
    vaani_signature_format_t *format, vaani_str_t *header, vaani_str_t *parts,
    ngx_uint_t nparts);
static ngx_uint_t ngx_http_vaani_mac(HMAC_CTX *key, vaani_str_t *parts,
    ngx_uint_t nparts, vaani_signature_encoding_e encoding, u_char *dst,
    vaani_str_t *mac);
static void ngx_http_vaani_check_time(ngx_http_request_t *r,
    ngx_http_vaani_ctx_t *ctx, vaani_str_t *timestamp);

#endif

static void ngx_http_vaani_not_authorized(ngx_http_vaani_ctx_t *ctx,
    vaani_reason_e reason);


ngx_int_t
ngx_http_vaani_authorize(ngx_http_request_t *r, ngx_http_vaani_ctx_t *ctx,
    ngx_uint_t whole)
{
    ngx_http_vaani_loc_conf_t  *vlcf;

    vlcf = ngx_http_get_module_loc_conf(r, ngx_http_vaani_module);

    if (vlcf->token && ngx_http_vaani_auth_token(r, ctx) != NGX_OK) {
        return NGX_ERROR;
    }

#if (NGX_HTTP_VAANI_HMAC)

    if (vlcf->secret) {
        ngx_http_vaani_auth_signature(r, ctx, vlcf->secret, whole);
    }

    if (vlcf->signature) {
        ngx_http_vaani_auth_signature(r, ctx, vlcf->signature, whole);
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

    /*
     * compares with all tokens, so that the time does not reveal which one
     * matched
     */

    for (n = 0; n < vlcf->tokens->nelts; n++) {
        found |= vaani_token_equal(token[n], &str);
    }

    if (!found) {
        ngx_http_vaani_not_authorized(ctx, value.len
                                           ? VAANI_REASON_WRONG_TOKEN
                                           : VAANI_REASON_MISSING_TOKEN);
    }

    return NGX_OK;
}


#if (NGX_HTTP_VAANI_HMAC)

/*
 * The signed text is "<id>.<timestamp>.<body>", without the parts that the
 * scheme does not have.  The MACs are computed even if the request is already
 * known to be refused, so that the time does not reveal the reason.
 */

static void
ngx_http_vaani_auth_signature(ngx_http_request_t *r, ngx_http_vaani_ctx_t *ctx,
    ngx_http_vaani_signer_t *signer, ngx_uint_t whole)
{
    ngx_uint_t                found, missing, malformed, timed, nparts;
    vaani_str_t               header, id, timestamp, parts[5];
    ngx_http_vaani_scheme_t  *scheme;

    static vaani_str_t        dot = vaani_string(".");

    scheme = ngx_http_vaani_choose_scheme(r, signer);

    /* with two headers it is unknown which one was signed */

    malformed = ngx_http_vaani_signed_header(r, &scheme->signature, &header)
                > 1;
    missing = (header.len == 0);
    nparts = 0;

    timestamp.len = 0;
    timestamp.data = NULL;
    timed = 1;

    if (scheme->id.len) {
        malformed |= ngx_http_vaani_signed_header(r, &scheme->id, &id) > 1;
        missing |= (id.len == 0);

        parts[nparts++] = id;
        parts[nparts++] = dot;

        ctx->webhook_id.data = (u_char *) id.data;
        ctx->webhook_id.len = id.len;

        /*
         * An unsigned id would allow a replay of the delivery with another id.
         */

        ctx->id = ctx->webhook_id;
    }

    if (scheme->timestamp.len) {
        malformed |= ngx_http_vaani_signed_header(r, &scheme->timestamp,
                                                  &timestamp)
                     > 1;
        missing |= (timestamp.len == 0);

    } else if (scheme->format.timestamp.len) {
        malformed |= vaani_signature_timestamp(&scheme->format, &header,
                                               &timestamp)
                     != VAANI_OK;

    } else {
        timed = 0;
    }

    if (timed) {
        parts[nparts++] = timestamp;
        parts[nparts++] = dot;
    }

    parts[nparts].data = ctx->body.data;
    parts[nparts++].len = ctx->body.len;

    /* without the body, only the headers are checked */

    found = !whole
            || ngx_http_vaani_find_mac(signer, &scheme->format, &header, parts,
                                       nparts);

    if (missing) {
        ngx_http_vaani_not_authorized(ctx, VAANI_REASON_MISSING_SIGNATURE);

    } else if (malformed) {
        ngx_http_vaani_not_authorized(ctx, VAANI_REASON_MALFORMED_SIGNATURE);

    } else if (!found) {
        ngx_http_vaani_not_authorized(ctx, VAANI_REASON_WRONG_SIGNATURE);
    }

    if (timed) {
        ngx_http_vaani_check_time(r, ctx, &timestamp);
    }
}


/*
 * The first scheme whose signature was sent is the only one that counts.
 */

static ngx_http_vaani_scheme_t *
ngx_http_vaani_choose_scheme(ngx_http_request_t *r,
    ngx_http_vaani_signer_t *signer)
{
    ngx_uint_t   n;
    vaani_str_t  value;

    for (n = 0; n < signer->nschemes; n++) {

        if (ngx_http_vaani_signed_header(r, &signer->schemes[n].signature,
                                         &value))
        {
            return &signer->schemes[n];
        }
    }

    return signer->schemes;
}


/*
 * Returns the number of such headers; *value is that of the last one, or
 * empty.
 */

static ngx_uint_t
ngx_http_vaani_signed_header(ngx_http_request_t *r, ngx_str_t *name,
    vaani_str_t *value)
{
    ngx_uint_t        i, found;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    found = 0;

    value->data = NULL;
    value->len = 0;

    for (part = &r->headers_in.headers.part; part; part = part->next) {
        h = part->elts;

        for (i = 0; i < part->nelts; i++) {

            if (ngx_http_vaani_is_name(&h[i], name)) {
                value->data = h[i].value.data;
                value->len = h[i].value.len;
                found++;
            }
        }
    }

    return found;
}


/*
 * A "_" is that of "$http_name", where it also matches "-".
 */

static ngx_uint_t
ngx_http_vaani_is_name(ngx_table_elt_t *h, ngx_str_t *name)
{
    size_t  n;

    if (h->key.len != name->len) {
        return 0;
    }

    for (n = 0; n < name->len; n++) {

        if (h->lowcase_key[n] != name->data[n]
            && (name->data[n] != '_' || h->lowcase_key[n] != '-'))
        {
            return 0;
        }
    }

    return 1;
}


static ngx_uint_t
ngx_http_vaani_find_mac(ngx_http_vaani_signer_t *signer,
    vaani_signature_format_t *format, vaani_str_t *header, vaani_str_t *parts,
    ngx_uint_t nparts)
{
    HMAC_CTX     **key;
    ngx_uint_t     n, found;
    vaani_str_t    mac;
    u_char         encoded[2 * NGX_HTTP_VAANI_SHA256_LEN + 1];

    found = 0;
    key = signer->keys.elts;

    /* computes all MACs, so that the time does not reveal which one matched */

    for (n = 0; n < signer->keys.nelts; n++) {

        if (ngx_http_vaani_mac(key[n], parts, nparts, format->encoding,
                               encoded, &mac))
        {
            found |= vaani_signature_match(format, header, &mac);
        }
    }

    return found;
}


/*
 * Computes an HMAC-SHA256 (RFC 2104) with a context that already has its key,
 * and encodes it in dst.  Returns 0 if OpenSSL failed; dst then has no MAC.
 */

static ngx_uint_t
ngx_http_vaani_mac(HMAC_CTX *key, vaani_str_t *parts, ngx_uint_t nparts,
    vaani_signature_encoding_e encoding, u_char *dst, vaani_str_t *mac)
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

    if (encoding == VAANI_SIGNATURE_HEX) {
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
        ngx_http_vaani_not_authorized(ctx, VAANI_REASON_MALFORMED_SIGNATURE);
        return;
    }

    vlcf = ngx_http_get_module_loc_conf(r, ngx_http_vaani_module);

    off = ngx_time() - seconds;

    if (off > vlcf->timestamp_tolerance || off < -vlcf->timestamp_tolerance) {
        ngx_http_vaani_not_authorized(ctx, VAANI_REASON_STALE_TIMESTAMP);
    }
}

#endif


/*
 * The first reason found is the one that the operator has to know.
 */

static void
ngx_http_vaani_not_authorized(ngx_http_vaani_ctx_t *ctx,
    vaani_reason_e reason)
{
    if (ctx->result == NGX_HTTP_VAANI_UNAUTHORIZED) {
        return;
    }

    ctx->result = NGX_HTTP_VAANI_UNAUTHORIZED;
    ctx->reason = reason;
}


ngx_int_t
ngx_http_vaani_send_unauthorized(ngx_http_request_t *r,
    ngx_http_vaani_ctx_t *ctx)
{
    uint64_t             skipped;
    ngx_uint_t           level;

    static vaani_pace_t  pace;

    /* RFC 9110, section 15.5.2: a challenge is required */

    static ngx_keyval_t  challenge = {
        ngx_string("WWW-Authenticate"), ngx_string("Webhook")
    };

    /*
     * an error like "access forbidden", but limited in rate: guesses can be
     * many
     */

    level = vaani_pace(&pace, ngx_current_msec, 1000, &skipped)
            ? NGX_LOG_ERR : NGX_LOG_INFO;

    ngx_log_error(level, r->connection->log, 0, "vaani: unauthorized: %s",
                  vaani_reason_word(ctx->reason)->data);

    return ngx_http_vaani_refuse(r, NGX_HTTP_UNAUTHORIZED, &challenge, NULL,
                                 NULL);
}
