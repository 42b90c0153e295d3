
#include "ngx_http_vaani.h"


static uint64_t ngx_http_vaani_received_at(ngx_http_vaani_item_t *item);
static ngx_int_t ngx_http_vaani_key(ngx_http_request_t *r,
    ngx_http_vaani_item_t *item, ngx_str_t *prefix);
static ngx_int_t ngx_http_vaani_spread(ngx_http_request_t *r,
    vaani_delivery_t *delivery);
static ngx_int_t ngx_http_vaani_channels(ngx_http_request_t *r,
    ngx_http_vaani_item_t *item, ngx_str_t *prefix);
static ngx_int_t ngx_http_vaani_add_channels(ngx_http_request_t *r,
    vaani_delivery_t *delivery, ngx_array_t *channels, ngx_uint_t sharded);
static ngx_int_t ngx_http_vaani_value(ngx_http_request_t *r,
    ngx_http_vaani_name_t *name, vaani_str_t *value);
static ngx_int_t ngx_http_vaani_identify(ngx_http_request_t *r,
    ngx_http_vaani_item_t *item);
static ngx_int_t ngx_http_vaani_message(ngx_http_request_t *r,
    ngx_http_vaani_item_t *item);
static ngx_int_t ngx_http_vaani_indexed(ngx_http_vaani_item_t *item,
    ngx_str_t *id, vaani_str_t *indexed);
static ngx_int_t ngx_http_vaani_escape(ngx_pool_t *pool, ngx_str_t *str,
    ngx_str_t *escaped);
static u_char *ngx_http_vaani_hex(u_char *dst, uint64_t digits);
static void *ngx_http_vaani_scratch_alloc(void *ctx, size_t size);


/*
 * Memory for what is needed until a command is made of it: on the stack, which
 * is in the cache, as far as it goes.
 */

#define NGX_HTTP_VAANI_SCRATCH          2048

typedef struct {
    ngx_pool_t                 *pool;       /* for what is larger */
    size_t                      used;
    u_char                      bytes[NGX_HTTP_VAANI_SCRATCH];
} ngx_http_vaani_scratch_t;


ngx_int_t
ngx_http_vaani_prepare(ngx_http_request_t *r, ngx_http_vaani_item_t *item)
{
    ngx_str_t                   prefix;
    vaani_delivery_t           *delivery;
    ngx_http_vaani_loc_conf_t  *vlcf;

    vlcf = ngx_http_get_module_loc_conf(r, ngx_http_vaani_module);

    delivery = &item->delivery;

    ngx_memzero(delivery, sizeof(vaani_delivery_t));

    ngx_str_set(&prefix, NGX_HTTP_VAANI_PREFIX);

    if (vlcf->prefix
        && ngx_http_complex_value(r, &vlcf->prefix->value, &prefix) != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (ngx_http_vaani_key(r, item, &prefix) != NGX_OK
        || ngx_http_vaani_channels(r, item, &prefix) != NGX_OK
        || ngx_http_vaani_value(r, vlcf->stream, &delivery->stream)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (vlcf->redis->form == NGX_VAANI_REDIS_CLUSTER
        && item->event.room.len == 0
        && ngx_http_vaani_spread(r, delivery) != NGX_OK)
    {
        return NGX_ERROR;
    }

    delivery->maxlen = vlcf->stream_maxlen;
    delivery->index = vlcf->index;
    delivery->ttl = vlcf->ttl;
    delivery->received_at = ngx_http_vaani_received_at(item);
    delivery->applied_at = item->ctx->received_at;
    delivery->payload = item->part.payload;
    delivery->omit_payload = (delivery->payload.len > vlcf->payload_max);
    delivery->repaired = item->event.repaired;
    delivery->since = ngx_http_vaani_counted_since();

    if (item->event.inherited) {
        delivery->name = item->event.name_json;
    }

    return ngx_http_vaani_identify(r, item);
}


ngx_int_t
ngx_http_vaani_refused_body(ngx_http_request_t *r, ngx_http_vaani_item_t *item,
    ngx_str_t *body)
{
    u_char       *p;
    vaani_str_t  *name, *event;

    event = &item->part.received;
    name = &item->event.name_json;

    body->data = (u_char *) event->data;
    body->len = event->len;

    if (!item->event.inherited || name->len == 0) {
        return NGX_OK;
    }

    /* its name stands in the envelope */

    body->len = sizeof("{\"event\":,\"events\":[]}") - 1
                + name->len + event->len;

    p = ngx_pnalloc(r->pool, body->len);

    if (p == NULL) {
        return NGX_ERROR;
    }

    body->data = p;

    p = ngx_cpymem(p, "{\"event\":", sizeof("{\"event\":") - 1);
    p = ngx_cpymem(p, name->data, name->len);
    p = ngx_cpymem(p, ",\"events\":[", sizeof(",\"events\":[") - 1);
    p = ngx_cpymem(p, event->data, event->len);
    ngx_memcpy(p, "]}", 2);

    return NGX_OK;
}


ngx_vaani_redis_cmd_t *
ngx_http_vaani_eval(ngx_vaani_redis_t *redis, ngx_uint_t lane,
    const vaani_event_t *event, const vaani_delivery_t *delivery,
    ngx_pool_t *pool, ngx_vaani_redis_handler_pt handler, void *data,
    ngx_vaani_redis_status_e *status)
{
    size_t                     n, nargs;
    ngx_str_t                 *argv;
    vaani_str_t               *args;
    vaani_alloc_t              alloc;
    ngx_http_vaani_scratch_t   scratch;

    *status = NGX_VAANI_REDIS_FAILED;

    scratch.pool = pool;
    scratch.used = 0;

    alloc.alloc = ngx_http_vaani_scratch_alloc;
    alloc.ctx = &scratch;

    if (vaani_transition_args(event, delivery, &alloc, &args, &nargs)
        != VAANI_OK)
    {
        return NULL;
    }

    argv = ngx_http_vaani_scratch_alloc(&scratch, nargs * sizeof(ngx_str_t));

    if (argv == NULL) {
        return NULL;
    }

    for (n = 0; n < nargs; n++) {
        argv[n].len = args[n].len;
        argv[n].data = (u_char *) args[n].data;
    }

    return ngx_vaani_redis_eval(redis, lane, argv, nargs, handler, data,
                                status);
}


static void *
ngx_http_vaani_scratch_alloc(void *ctx, size_t size)
{
    ngx_http_vaani_scratch_t *scratch = ctx;

    u_char  *p, *end;

    p = ngx_align_ptr(scratch->bytes + scratch->used, NGX_ALIGNMENT);
    end = scratch->bytes + NGX_HTTP_VAANI_SCRATCH;

    if (p > end || size > (size_t) (end - p)) {
        return ngx_palloc(scratch->pool, size);
    }

    scratch->used = p + size - scratch->bytes;

    return p;
}


/*
 * Several events of a body have a millisecond each, in their order, the last
 * one that of the body: of equal times the digest would decide, so that another
 * transfer fails than did.  None is in the future.
 */

static uint64_t
ngx_http_vaani_received_at(ngx_http_vaani_item_t *item)
{
    ngx_uint_t             behind;
    ngx_http_vaani_ctx_t  *ctx;

    ctx = item->ctx;

    behind = ctx->nitems - 1 - (ngx_uint_t) (item - ctx->items);

    return ctx->received_at - behind;
}


static ngx_int_t
ngx_http_vaani_key(ngx_http_request_t *r, ngx_http_vaani_item_t *item,
    ngx_str_t *prefix)
{
    u_char       *p;
    vaani_str_t  *room, *key;

    /* where there is no call, that of none: no name is empty */

    room = &item->event.room;
    key = &item->delivery.key;

    key->len = prefix->len + sizeof(":call:") - 1 + room->len;

    p = ngx_pnalloc(r->pool, key->len);

    if (p == NULL) {
        return NGX_ERROR;
    }

    key->data = p;

    p = ngx_cpymem(p, prefix->data, prefix->len);
    p = ngx_cpymem(p, ":call:", sizeof(":call:") - 1);

    /* without a room there is no address, which memcpy() must not get */

    if (room->len) {
        ngx_memcpy(p, room->data, room->len);
    }

    return NGX_OK;
}


/*
 * In a cluster, events of no call would all have one key, and go to one node.
 * The script doesn't write it, so it gets the slot of the first channel, unless
 * other names have to be in its slot.  That channel is a hash tag: as a key of
 * its own it would need another permission.
 */

static ngx_int_t
ngx_http_vaani_spread(ngx_http_request_t *r, vaani_delivery_t *delivery)
{
    u_char       *p;
    vaani_str_t  *key, *channel;

    if (delivery->nchannels == 0 || delivery->nsharded
        || delivery->stream.len)
    {
        return NGX_OK;
    }

    key = &delivery->key;
    channel = &delivery->channels[0];

    p = ngx_pnalloc(r->pool, key->len + channel->len + 2);

    if (p == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(p, key->data, key->len);
    p[key->len] = '{';
    ngx_memcpy(p + key->len + 1, channel->data, channel->len);
    p[key->len + 1 + channel->len] = '}';

    key->data = p;
    key->len += channel->len + 2;

    return NGX_OK;
}


static ngx_int_t
ngx_http_vaani_channels(ngx_http_request_t *r, ngx_http_vaani_item_t *item,
    ngx_str_t *prefix)
{
    u_char                     *p;
    ngx_uint_t                  n;
    vaani_str_t                *room, *channel;
    vaani_delivery_t           *delivery;
    ngx_http_vaani_loc_conf_t  *vlcf;

    vlcf = ngx_http_get_module_loc_conf(r, ngx_http_vaani_module);

    delivery = &item->delivery;

    n = vlcf->channels ? vlcf->channels->nelts : 2;

    channel = ngx_palloc(r->pool, n * sizeof(vaani_str_t));

    if (channel == NULL) {
        return NGX_ERROR;
    }

    delivery->channels = channel;

    delivery->nchannels = 0;
    delivery->nsharded = 0;

    if (vlcf->channels) {

        /* sharded ones are the last */

        if (ngx_http_vaani_add_channels(r, delivery, vlcf->channels, 0)
            != NGX_OK)
        {
            return NGX_ERROR;
        }

        n = delivery->nchannels;

        if (ngx_http_vaani_add_channels(r, delivery, vlcf->channels, 1)
            != NGX_OK)
        {
            return NGX_ERROR;
        }

        delivery->nsharded = delivery->nchannels - n;

        return NGX_OK;
    }

    room = &item->event.room;

    p = ngx_pnalloc(r->pool, prefix->len + sizeof(":events") - 1
                             + prefix->len + sizeof(":room:") - 1 + room->len);

    if (p == NULL) {
        return NGX_ERROR;
    }

    channel[0].data = p;
    p = ngx_cpymem(p, prefix->data, prefix->len);
    p = ngx_cpymem(p, ":events", sizeof(":events") - 1);
    channel[0].len = p - channel[0].data;

    if (room->len == 0) {
        delivery->nchannels = 1;
        return NGX_OK;
    }

    channel[1].data = p;
    p = ngx_cpymem(p, prefix->data, prefix->len);
    p = ngx_cpymem(p, ":room:", sizeof(":room:") - 1);
    p = ngx_cpymem(p, room->data, room->len);
    channel[1].len = p - channel[1].data;

    delivery->nchannels = 2;

    return NGX_OK;
}


/*
 * Those of one kind, in the order of the configuration.
 */

static ngx_int_t
ngx_http_vaani_add_channels(ngx_http_request_t *r, vaani_delivery_t *delivery,
    ngx_array_t *channels, ngx_uint_t sharded)
{
    ngx_uint_t              n;
    vaani_str_t            *channel;
    ngx_http_vaani_name_t  *name;

    name = channels->elts;

    for (n = 0; n < channels->nelts; n++) {

        if (name[n].sharded != sharded) {
            continue;
        }

        channel = &delivery->channels[delivery->nchannels];

        if (ngx_http_vaani_value(r, &name[n], channel) != NGX_OK) {
            return NGX_ERROR;
        }

        /* a variable without a value: not for this event */

        if (channel->len) {
            delivery->nchannels++;
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_vaani_value(ngx_http_request_t *r, ngx_http_vaani_name_t *name,
    vaani_str_t *value)
{
    ngx_str_t  str;

    ngx_str_null(&str);

    if (name && ngx_http_complex_value(r, &name->value, &str) != NGX_OK) {
        return NGX_ERROR;
    }

    value->data = str.data;
    value->len = str.len;

    return NGX_OK;
}


/*
 * Equal bodies are the same delivery, unless there are ids to tell.
 */

static ngx_int_t
ngx_http_vaani_identify(ngx_http_request_t *r, ngx_http_vaani_item_t *item)
{
    vaani_str_t        id;
    vaani_delivery_t  *delivery;

    if (ngx_http_vaani_message(r, item) != NGX_OK) {
        return NGX_ERROR;
    }

    delivery = &item->delivery;

    ngx_http_vaani_digest(item->digest, item->part.received.data,
                          item->part.received.len);

    delivery->digest.data = item->digest;
    delivery->digest.len = NGX_HTTP_VAANI_DIGEST_LEN;

    if (item->ctx->delivery_id.len) {

        if (ngx_http_vaani_indexed(item, &item->ctx->delivery_id, &id)
            != NGX_OK)
        {
            return NGX_ERROR;
        }

        ngx_http_vaani_digest(item->id_digest, id.data, id.len);

        delivery->id.data = item->id_digest;
        delivery->id.len = NGX_HTTP_VAANI_DIGEST_LEN;
    }

    return NGX_OK;
}


/*
 * The id of the message: that of the delivery, or a random one; for one of
 * several events with its index.
 */

static ngx_int_t
ngx_http_vaani_message(ngx_http_request_t *r, ngx_http_vaani_item_t *item)
{
    u_char                     *p;
    uint64_t                    random[NGX_HTTP_VAANI_MESSAGE_LEN / 8];
    ngx_uint_t                  n;
    ngx_http_vaani_ctx_t       *ctx;
    ngx_http_vaani_loc_conf_t  *vlcf;

    ctx = item->ctx;

    if (ctx->message.data == NULL) {
        vlcf = ngx_http_get_module_loc_conf(r, ngx_http_vaani_module);

        if (vlcf->delivery_id == NULL) {
            ctx->delivery_id = ctx->id;

        } else if (ngx_http_complex_value(r, vlcf->delivery_id,
                                          &ctx->delivery_id)
                   != NGX_OK)
        {
            return NGX_ERROR;
        }

        if (ctx->delivery_id.len) {

            if (ngx_http_vaani_escape(r->pool, &ctx->delivery_id,
                                      &ctx->message)
                != NGX_OK)
            {
                return NGX_ERROR;
            }

        } else {

            if (ngx_http_vaani_random((u_char *) random, sizeof(random),
                                      r->connection->log)
                != NGX_OK)
            {
                return NGX_ERROR;
            }

            p = ngx_pnalloc(r->pool, NGX_HTTP_VAANI_MESSAGE_LEN);

            if (p == NULL) {
                return NGX_ERROR;
            }

            ctx->message.data = p;
            ctx->message.len = NGX_HTTP_VAANI_MESSAGE_LEN;

            for (n = 0; n < NGX_HTTP_VAANI_MESSAGE_LEN / 8; n++) {
                p = ngx_http_vaani_hex(p, random[n]);
            }
        }
    }

    return ngx_http_vaani_indexed(item, &ctx->message,
                                  &item->delivery.message);
}


/*
 * An id for one of several events: with its index.
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
 * The inside of a JSON string; most ids are that as they are.
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
 * Writes eight hexadecimal digits, of the lower half of each of eight bytes:
 * all of them at once, this is done for each delivery.
 */

static u_char *
ngx_http_vaani_hex(u_char *dst, uint64_t digits)
{
    uint64_t  letters;

    digits &= 0x0f0f0f0f0f0f0f0f;

    /* those above 9: 1 each */

    letters = ((digits + 0x0606060606060606) >> 4) & 0x0101010101010101;

    digits += 0x3030303030303030 + letters * ('a' - '9' - 1);

    return ngx_cpymem(dst, &digits, sizeof(uint64_t));
}


ngx_int_t
ngx_http_vaani_read_reply(redisReply *reply, ngx_log_t *log,
    vaani_transition_t *transition, ngx_uint_t *published)
{
    uint64_t             skipped;

    static vaani_pace_t  unpublished, strange;

    *published = 1;

    if (reply->type == REDIS_REPLY_ARRAY
        && reply->elements == 2
        && reply->element[0]->type == REDIS_REPLY_INTEGER)
    {
        /* the call has the event, but its subscribers don't */

        if (vaani_pace(&unpublished, ngx_current_msec,
                       NGX_HTTP_VAANI_COMPLAIN_EVERY, &skipped))
        {
            ngx_log_error(NGX_LOG_ERR, log, 0,
                          "vaani: Redis refused to publish an event (%uL more "
                          "since the last such line), does the user's ACL "
                          "allow the channels?", skipped);
        }

        *published = 0;

        reply = reply->element[0];
    }

    if (reply->type != REDIS_REPLY_INTEGER
        || vaani_transition_read(reply->integer, transition) != VAANI_OK)
    {
        if (vaani_pace(&strange, ngx_current_msec,
                       NGX_HTTP_VAANI_COMPLAIN_EVERY, &skipped))
        {
            ngx_log_error(NGX_LOG_ERR, log, 0,
                          "vaani: Redis returned something else than the "
                          "script does (%uL more since the last such line)",
                          skipped);
        }

        return NGX_ERROR;
    }

    ngx_http_vaani_count_transition(transition);

    return NGX_OK;
}
