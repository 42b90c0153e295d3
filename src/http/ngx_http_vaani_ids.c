
/*
 * Identifies deliveries: message ids, digests of bodies and of delivery ids.
 */


#include "ngx_http_vaani.h"

#if (NGX_HTTP_VAANI_HMAC)
#include <openssl/sha.h>
#else
#include <ngx_sha1.h>
#endif


/* length of a random id, hexadecimal */

#define NGX_HTTP_VAANI_RANDOM_LEN       32

#define NGX_HTTP_VAANI_SHA1_LEN         20


static ngx_int_t ngx_http_vaani_delivery_id(ngx_http_request_t *r,
    ngx_http_vaani_ctx_t *ctx);
static ngx_int_t ngx_http_vaani_random_id(ngx_http_request_t *r,
    ngx_str_t *id);
static ngx_int_t ngx_http_vaani_indexed(ngx_http_vaani_item_t *item,
    ngx_str_t *id, vaani_str_t *indexed);
static ngx_int_t ngx_http_vaani_escape(ngx_pool_t *pool, ngx_str_t *str,
    ngx_str_t *escaped);
static u_char *ngx_http_vaani_hex(u_char *dst, uint64_t digits);
static void ngx_http_vaani_digest(u_char *dst, const void *data, size_t len);
static void ngx_http_vaani_sha1(u_char *digest, const void *data, size_t len);


ngx_int_t
ngx_http_vaani_identify(ngx_http_request_t *r, ngx_http_vaani_item_t *item)
{
    vaani_str_t            id;
    vaani_delivery_t      *delivery;
    ngx_http_vaani_ctx_t  *ctx;

    ctx = item->ctx;
    delivery = &item->delivery;

    if (ctx->message.data == NULL
        && ngx_http_vaani_delivery_id(r, ctx) != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (ngx_http_vaani_indexed(item, &ctx->message, &delivery->message)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    ngx_http_vaani_digest(item->digest, item->part.received.data,
                          item->part.received.len);

    delivery->digest.data = item->digest;
    delivery->digest.len = NGX_HTTP_VAANI_DIGEST_LEN;

    if (ctx->delivery_id.len) {

        if (ngx_http_vaani_indexed(item, &ctx->delivery_id, &id) != NGX_OK) {
            return NGX_ERROR;
        }

        ngx_http_vaani_digest(item->id_digest, id.data, id.len);

        delivery->id.data = item->id_digest;
        delivery->id.len = NGX_HTTP_VAANI_DIGEST_LEN;
    }

    return NGX_OK;
}


/*
 * Sets the id of the delivery and of its messages: the same, or a random one.
 */

static ngx_int_t
ngx_http_vaani_delivery_id(ngx_http_request_t *r, ngx_http_vaani_ctx_t *ctx)
{
    ngx_http_vaani_loc_conf_t  *vlcf;

    vlcf = ngx_http_get_module_loc_conf(r, ngx_http_vaani_module);

    if (vlcf->delivery_id == NULL) {
        ctx->delivery_id = ctx->id;

    } else if (ngx_http_complex_value(r, vlcf->delivery_id, &ctx->delivery_id)
               != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ctx->delivery_id.len
           ? ngx_http_vaani_escape(r->pool, &ctx->delivery_id, &ctx->message)
           : ngx_http_vaani_random_id(r, &ctx->message);
}


static ngx_int_t
ngx_http_vaani_random_id(ngx_http_request_t *r, ngx_str_t *id)
{
    u_char      *p;
    uint64_t     random[NGX_HTTP_VAANI_RANDOM_LEN / 8];
    ngx_uint_t   n;

    if (ngx_http_vaani_random((u_char *) random, sizeof(random),
                              r->connection->log)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    p = ngx_pnalloc(r->pool, NGX_HTTP_VAANI_RANDOM_LEN);

    if (p == NULL) {
        return NGX_ERROR;
    }

    id->data = p;
    id->len = NGX_HTTP_VAANI_RANDOM_LEN;

    for (n = 0; n < NGX_HTTP_VAANI_RANDOM_LEN / 8; n++) {
        p = ngx_http_vaani_hex(p, random[n]);
    }

    return NGX_OK;
}


/*
 * The id of one of several events: includes its index.
 */

static ngx_int_t
ngx_http_vaani_indexed(ngx_http_vaani_item_t *item, ngx_str_t *id,
    vaani_str_t *indexed)
{
    u_char                *p;
    ngx_http_vaani_ctx_t  *ctx;

    ctx = item->ctx;

    indexed->data = id->data;
    indexed->len = id->len;

    if (!ctx->several) {
        return NGX_OK;
    }

    p = ngx_pnalloc(ctx->request->pool, id->len + 1 + NGX_INT_T_LEN);

    if (p == NULL) {
        return NGX_ERROR;
    }

    indexed->data = p;
    indexed->len = ngx_sprintf(p, "%V.%ui", id,
                               (ngx_uint_t) (item - ctx->items)) - p;

    return NGX_OK;
}


/*
 * Writes the content of a JSON string.  Most ids need no escaping.
 */

static ngx_int_t
ngx_http_vaani_escape(ngx_pool_t *pool, ngx_str_t *str, ngx_str_t *escaped)
{
    u_char       *p;
    vaani_str_t   src;

    src.data = str->data;
    src.len = str->len;

    p = ngx_pnalloc(pool, vaani_json_escaped_len(&src));

    if (p == NULL) {
        return NGX_ERROR;
    }

    escaped->data = p;
    escaped->len = vaani_json_escape(p, &src) - p;

    return NGX_OK;
}


/*
 * Writes eight hexadecimal digits, one from the lower half of each of eight
 * bytes.  All of them are converted at once, because every delivery needs it.
 */

static u_char *
ngx_http_vaani_hex(u_char *dst, uint64_t digits)
{
    uint64_t  letters;

    digits &= 0x0f0f0f0f0f0f0f0f;

    /* digits above 9: 1 each */

    letters = ((digits + 0x0606060606060606) >> 4) & 0x0101010101010101;

    digits += 0x3030303030303030 + letters * ('a' - '9' - 1);

    return ngx_cpymem(dst, &digits, sizeof(uint64_t));
}


/*
 * Writes NGX_HTTP_VAANI_DIGEST_LEN bytes to dst.
 */

static void
ngx_http_vaani_digest(u_char *dst, const void *data, size_t len)
{
    u_char     digest[NGX_HTTP_VAANI_SHA1_LEN];
    ngx_str_t  src, encoded;

    ngx_http_vaani_sha1(digest, data, len);

    src.data = digest;
    src.len = NGX_HTTP_VAANI_DIGEST_BYTES;
    encoded.data = dst;

    ngx_encode_base64url(&encoded, &src);
}


/*
 * OpenSSL uses the processor's SHA instructions, which matters for
 * transcripts.  EVP is not used: its setup takes longer than hashing a short
 * body.
 */

static void
ngx_http_vaani_sha1(u_char *digest, const void *data, size_t len)
{
#if (NGX_HTTP_VAANI_HMAC)

    SHA_CTX  sha1;

    SHA1_Init(&sha1);
    SHA1_Update(&sha1, data, len);
    SHA1_Final(digest, &sha1);

#else

    ngx_sha1_t  sha1;

    ngx_sha1_init(&sha1);
    ngx_sha1_update(&sha1, data, len);
    ngx_sha1_final(digest, &sha1);

#endif
}
