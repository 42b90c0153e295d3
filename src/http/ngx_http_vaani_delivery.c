
#include "ngx_http_vaani.h"

#include <ngx_sha1.h>


/*
 * Digests are the first 128 bits of a SHA-1, in base64url: they tell bodies
 * and ids apart, they don't protect them.
 */

#define NGX_HTTP_VAANI_DIGEST_BYTES     16
#define NGX_HTTP_VAANI_DIGEST_LEN       22


static ngx_int_t ngx_http_vaani_key(ngx_http_request_t *r,
    ngx_http_vaani_ctx_t *ctx, ngx_str_t *prefix);
static ngx_int_t ngx_http_vaani_channels(ngx_http_request_t *r,
    ngx_http_vaani_ctx_t *ctx, ngx_str_t *prefix, vaani_delivery_t *delivery);
static ngx_int_t ngx_http_vaani_value(ngx_http_request_t *r,
    ngx_http_complex_value_t *cv, vaani_str_t *value);
static void ngx_http_vaani_identify(ngx_http_vaani_ctx_t *ctx,
    vaani_delivery_t *delivery, u_char *buf);
static void ngx_http_vaani_nonce(u_char *dst);
static void ngx_http_vaani_digest(u_char *dst, const void *data, size_t len);


static ngx_str_t  ngx_http_vaani_default_prefix = ngx_string("vaani");


ngx_vaani_redis_status_e
ngx_http_vaani_deliver(ngx_http_request_t *r, ngx_http_vaani_ctx_t *ctx,
    ngx_vaani_redis_handler_pt handler)
{
    size_t                      n, nargs;
    ngx_str_t                   prefix, *argv;
    ngx_time_t                 *tp;
    vaani_str_t                *args;
    vaani_delivery_t            delivery;
    ngx_vaani_redis_status_e    status;
    ngx_http_vaani_loc_conf_t  *vlcf;
    u_char                      digests[2 * NGX_HTTP_VAANI_DIGEST_LEN];

    vlcf = ngx_http_get_module_loc_conf(r, ngx_http_vaani_module);

    ngx_memzero(&delivery, sizeof(vaani_delivery_t));

    prefix = ngx_http_vaani_default_prefix;

    if (vlcf->prefix
        && ngx_http_complex_value(r, vlcf->prefix, &prefix) != NGX_OK)
    {
        return NGX_VAANI_REDIS_FAILED;
    }

    if (ngx_http_vaani_key(r, ctx, &prefix) != NGX_OK
        || ngx_http_vaani_channels(r, ctx, &prefix, &delivery) != NGX_OK
        || ngx_http_vaani_value(r, vlcf->stream, &delivery.stream) != NGX_OK)
    {
        return NGX_VAANI_REDIS_FAILED;
    }

    tp = ngx_timeofday();

    delivery.key.data = ctx->key.data;
    delivery.key.len = ctx->key.len;
    delivery.maxlen = vlcf->stream_maxlen;
    delivery.ttl = vlcf->ttl;
    delivery.received_at = (uint64_t) tp->sec * 1000 + tp->msec;
    delivery.payload.data = ctx->body.data;
    delivery.payload.len = ctx->body.len;

    ngx_http_vaani_identify(ctx, &delivery, digests);

    if (vaani_transition_args(&ctx->event, &delivery, &ctx->alloc, &args,
                              &nargs)
        != VAANI_OK)
    {
        return NGX_VAANI_REDIS_FAILED;
    }

    argv = ngx_palloc(r->pool, nargs * sizeof(ngx_str_t));

    if (argv == NULL) {
        return NGX_VAANI_REDIS_FAILED;
    }

    for (n = 0; n < nargs; n++) {
        argv[n].len = args[n].len;
        argv[n].data = (u_char *) args[n].data;
    }

    ctx->redis_asked = 1;
    ctx->redis_start = ngx_current_msec;

    ctx->cmd = ngx_vaani_redis_eval(vlcf->redis, &ctx->key, argv, nargs,
                                    handler, ctx, &status);

    return status;
}


static ngx_int_t
ngx_http_vaani_key(ngx_http_request_t *r, ngx_http_vaani_ctx_t *ctx,
    ngx_str_t *prefix)
{
    u_char       *p;
    vaani_str_t  *room;

    room = &ctx->event.room;

    ctx->key.len = prefix->len + sizeof(":call:") - 1 + room->len;

    p = ngx_pnalloc(r->pool, ctx->key.len);

    if (p == NULL) {
        return NGX_ERROR;
    }

    ctx->key.data = p;

    p = ngx_cpymem(p, prefix->data, prefix->len);
    p = ngx_cpymem(p, ":call:", sizeof(":call:") - 1);
    ngx_memcpy(p, room->data, room->len);

    return NGX_OK;
}


static ngx_int_t
ngx_http_vaani_channels(ngx_http_request_t *r, ngx_http_vaani_ctx_t *ctx,
    ngx_str_t *prefix, vaani_delivery_t *delivery)
{
    u_char                     *p;
    ngx_uint_t                  n;
    vaani_str_t                *room, *channel;
    ngx_http_complex_value_t   *cv;
    ngx_http_vaani_loc_conf_t  *vlcf;

    vlcf = ngx_http_get_module_loc_conf(r, ngx_http_vaani_module);

    n = vlcf->channels ? vlcf->channels->nelts : 2;

    channel = ngx_palloc(r->pool, n * sizeof(vaani_str_t));

    if (channel == NULL) {
        return NGX_ERROR;
    }

    delivery->channels = channel;

    if (vlcf->channels) {
        cv = vlcf->channels->elts;

        for (n = 0; n < vlcf->channels->nelts; n++) {

            if (ngx_http_vaani_value(r, &cv[n], channel) != NGX_OK) {
                return NGX_ERROR;
            }

            /* a variable without a value: not for this event */

            if (channel->len) {
                channel++;
            }
        }

        delivery->nchannels = channel - delivery->channels;

        return NGX_OK;
    }

    room = &ctx->event.room;

    p = ngx_pnalloc(r->pool, prefix->len + sizeof(":events") - 1
                             + prefix->len + sizeof(":room:") - 1 + room->len);

    if (p == NULL) {
        return NGX_ERROR;
    }

    channel[0].data = p;
    p = ngx_cpymem(p, prefix->data, prefix->len);
    p = ngx_cpymem(p, ":events", sizeof(":events") - 1);
    channel[0].len = p - channel[0].data;

    channel[1].data = p;
    p = ngx_cpymem(p, prefix->data, prefix->len);
    p = ngx_cpymem(p, ":room:", sizeof(":room:") - 1);
    p = ngx_cpymem(p, room->data, room->len);
    channel[1].len = p - channel[1].data;

    delivery->nchannels = 2;

    return NGX_OK;
}


static ngx_int_t
ngx_http_vaani_value(ngx_http_request_t *r, ngx_http_complex_value_t *cv,
    vaani_str_t *value)
{
    ngx_str_t  str;

    ngx_str_null(&str);

    if (cv && ngx_http_complex_value(r, cv, &str) != NGX_OK) {
        return NGX_ERROR;
    }

    value->data = str.data;
    value->len = str.len;

    return NGX_OK;
}


/*
 * Equal bodies are the same delivery, unless there are ids to tell.
 */

static void
ngx_http_vaani_identify(ngx_http_vaani_ctx_t *ctx, vaani_delivery_t *delivery,
    u_char *buf)
{
    if (ctx->event.type == NULL) {
        return;
    }

    ngx_http_vaani_digest(buf, ctx->body.data, ctx->body.len);

    delivery->digest.data = buf;
    delivery->digest.len = NGX_HTTP_VAANI_DIGEST_LEN;

    buf += NGX_HTTP_VAANI_DIGEST_LEN;

    if (ctx->id.len) {
        ngx_http_vaani_digest(buf, ctx->id.data, ctx->id.len);

        delivery->id.data = buf;
        delivery->id.len = NGX_HTTP_VAANI_DIGEST_LEN;

    } else {
        ngx_http_vaani_nonce(buf);

        delivery->nonce.data = buf;
        delivery->nonce.len = VAANI_NONCE_LEN;
    }
}


/*
 * 48 bits: a random number of the worker and a count.  It only has to differ
 * from those of other events of the same call.
 */

static void
ngx_http_vaani_nonce(u_char *dst)
{
    u_char           bytes[6];
    uint64_t         number;
    ngx_uint_t       n;
    ngx_str_t        src, encoded;

    static uint64_t  seed, count;

    if (count == 0) {
        seed = (uint64_t) ngx_random() << 24 ^ (uint64_t) ngx_random()
               ^ (uint64_t) ngx_pid << 32;
    }

    number = seed + count++;

    for (n = 0; n < sizeof(bytes); n++) {
        bytes[n] = (u_char) (number >> (8 * n));
    }

    src.data = bytes;
    src.len = sizeof(bytes);
    encoded.data = dst;

    ngx_encode_base64url(&encoded, &src);
}


static void
ngx_http_vaani_digest(u_char *dst, const void *data, size_t len)
{
    u_char      digest[20];
    ngx_str_t   src, encoded;
    ngx_sha1_t  sha1;

    ngx_sha1_init(&sha1);
    ngx_sha1_update(&sha1, data, len);
    ngx_sha1_final(digest, &sha1);

    src.data = digest;
    src.len = NGX_HTTP_VAANI_DIGEST_BYTES;
    encoded.data = dst;

    ngx_encode_base64url(&encoded, &src);
}
