
#include "ngx_http_vaani.h"


static ngx_int_t ngx_http_vaani_key(ngx_http_request_t *r,
    ngx_http_vaani_ctx_t *ctx, ngx_str_t *prefix);
static ngx_int_t ngx_http_vaani_channels(ngx_http_request_t *r,
    ngx_http_vaani_ctx_t *ctx, ngx_str_t *prefix);
static ngx_int_t ngx_http_vaani_value(ngx_http_request_t *r,
    ngx_http_complex_value_t *cv, vaani_str_t *value);
static void ngx_http_vaani_identify(ngx_http_vaani_ctx_t *ctx);
static void ngx_http_vaani_nonce(u_char *dst);


static ngx_str_t  ngx_http_vaani_default_prefix = ngx_string("vaani");


ngx_int_t
ngx_http_vaani_prepare(ngx_http_request_t *r, ngx_http_vaani_ctx_t *ctx)
{
    ngx_str_t                   prefix;
    vaani_delivery_t           *delivery;
    ngx_http_vaani_loc_conf_t  *vlcf;

    vlcf = ngx_http_get_module_loc_conf(r, ngx_http_vaani_module);

    delivery = &ctx->delivery;

    prefix = ngx_http_vaani_default_prefix;

    if (vlcf->prefix
        && ngx_http_complex_value(r, vlcf->prefix, &prefix) != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (ngx_http_vaani_key(r, ctx, &prefix) != NGX_OK
        || ngx_http_vaani_channels(r, ctx, &prefix) != NGX_OK
        || ngx_http_vaani_value(r, vlcf->stream, &delivery->stream) != NGX_OK)
    {
        return NGX_ERROR;
    }

    delivery->maxlen = vlcf->stream_maxlen;
    delivery->ttl = vlcf->ttl;
    delivery->received_at = ngx_http_vaani_now();
    delivery->payload.data = ctx->body.data;
    delivery->payload.len = ctx->body.len;
    delivery->since = ngx_http_vaani_counted_since();

    ngx_http_vaani_identify(ctx);

    return NGX_OK;
}


ngx_vaani_redis_cmd_t *
ngx_http_vaani_eval(ngx_vaani_redis_t *redis, const vaani_event_t *event,
    const vaani_delivery_t *delivery, ngx_pool_t *pool,
    ngx_vaani_redis_handler_pt handler, void *data,
    ngx_vaani_redis_status_e *status)
{
    size_t          n, nargs;
    ngx_str_t       key, *argv;
    vaani_str_t    *args;
    vaani_alloc_t   alloc;

    *status = NGX_VAANI_REDIS_FAILED;

    alloc.alloc = ngx_http_vaani_palloc;
    alloc.ctx = pool;

    if (vaani_transition_args(event, delivery, &alloc, &args, &nargs)
        != VAANI_OK)
    {
        return NULL;
    }

    argv = ngx_palloc(pool, nargs * sizeof(ngx_str_t));

    if (argv == NULL) {
        return NULL;
    }

    for (n = 0; n < nargs; n++) {
        argv[n].len = args[n].len;
        argv[n].data = (u_char *) args[n].data;
    }

    key.len = delivery->key.len;
    key.data = (u_char *) delivery->key.data;

    return ngx_vaani_redis_eval(redis, &key, argv, nargs, handler, data,
                                status);
}


static ngx_int_t
ngx_http_vaani_key(ngx_http_request_t *r, ngx_http_vaani_ctx_t *ctx,
    ngx_str_t *prefix)
{
    u_char       *p;
    vaani_str_t  *room, *key;

    room = &ctx->event.room;
    key = &ctx->delivery.key;

    key->len = prefix->len + sizeof(":call:") - 1 + room->len;

    p = ngx_pnalloc(r->pool, key->len);

    if (p == NULL) {
        return NGX_ERROR;
    }

    key->data = p;

    p = ngx_cpymem(p, prefix->data, prefix->len);
    p = ngx_cpymem(p, ":call:", sizeof(":call:") - 1);
    ngx_memcpy(p, room->data, room->len);

    return NGX_OK;
}


static ngx_int_t
ngx_http_vaani_channels(ngx_http_request_t *r, ngx_http_vaani_ctx_t *ctx,
    ngx_str_t *prefix)
{
    u_char                     *p;
    ngx_uint_t                  n;
    vaani_str_t                *room, *channel;
    vaani_delivery_t           *delivery;
    ngx_http_complex_value_t   *cv;
    ngx_http_vaani_loc_conf_t  *vlcf;

    vlcf = ngx_http_get_module_loc_conf(r, ngx_http_vaani_module);

    delivery = &ctx->delivery;

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
ngx_http_vaani_identify(ngx_http_vaani_ctx_t *ctx)
{
    vaani_delivery_t  *delivery;

    if (ctx->event.type == NULL) {
        return;
    }

    delivery = &ctx->delivery;

    ngx_http_vaani_digest(ctx->digest, ctx->body.data, ctx->body.len);

    delivery->digest.data = ctx->digest;
    delivery->digest.len = NGX_HTTP_VAANI_DIGEST_LEN;

    if (ctx->id.len) {
        ngx_http_vaani_digest(ctx->id_digest, ctx->id.data, ctx->id.len);

        delivery->id.data = ctx->id_digest;
        delivery->id.len = NGX_HTTP_VAANI_DIGEST_LEN;

    } else {
        ngx_http_vaani_nonce(ctx->nonce);

        delivery->nonce.data = ctx->nonce;
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
    ngx_str_t        src, encoded;
    ngx_uint_t       n;

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


ngx_int_t
ngx_http_vaani_read_reply(redisReply *reply, ngx_log_t *log,
    vaani_transition_t *transition, ngx_uint_t *published)
{
    *published = 1;

    if (reply->type == REDIS_REPLY_ARRAY
        && reply->elements == 2
        && reply->element[0]->type == REDIS_REPLY_INTEGER)
    {
        /* the call has the event, but its subscribers don't */

        ngx_log_error(NGX_LOG_ERR, log, 0,
                      "vaani: Redis refused to publish an event, does the "
                      "user's ACL allow the channels?");

        *published = 0;

        reply = reply->element[0];
    }

    if (reply->type != REDIS_REPLY_INTEGER
        || vaani_transition_read(reply->integer, transition) != VAANI_OK)
    {
        ngx_log_error(NGX_LOG_ERR, log, 0,
                      "vaani: Redis returned something else than the script "
                      "does");

        return NGX_ERROR;
    }

    ngx_http_vaani_count_transition(transition);

    return NGX_OK;
}


uint64_t
ngx_http_vaani_now(void)
{
    ngx_time_t  *tp;

    tp = ngx_timeofday();

    return (uint64_t) tp->sec * 1000 + tp->msec;
}


void *
ngx_http_vaani_palloc(void *pool, size_t size)
{
    return ngx_palloc(pool, size);
}
