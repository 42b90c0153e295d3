
/*
 * Combines an event with the settings of its location: key, channels and
 * stream.
 */


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


/*
 * The events of a body get consecutive milliseconds in their order; the last
 * event has the time of the body.  With equal times the digest would decide,
 * and the wrong transfer could fail.  No time is in the future.
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

    /* an event without a call has the empty name, which no call can have */

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

    /* without a room there is no address, which memcpy() does not accept */

    if (room->len) {
        ngx_memcpy(p, room->data, room->len);
    }

    return NGX_OK;
}


/*
 * In a cluster, all events without a call would have the same key and go to
 * one node.  The script does not write this key.  Therefore it gets the slot
 * of the first channel, unless other names require a slot.  The channel is
 * used as a hash tag, because as a key of its own it would need another
 * permission.
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

        /* sharded channels are the last ones */

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
 * Adds the channels of one kind, in the order of the configuration.
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

        /* a variable without a value: the channel does not get this event */

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
