
/*
 * Reads the events of a body; each becomes an item with its own result.
 */


#include "ngx_http_vaani.h"


static ngx_int_t ngx_http_vaani_add_item(ngx_http_vaani_ctx_t *ctx,
    ngx_uint_t n);
static void ngx_http_vaani_reject_item(ngx_http_vaani_item_t *item);


ngx_int_t
ngx_http_vaani_read_events(ngx_http_request_t *r, ngx_http_vaani_ctx_t *ctx)
{
    int                         rc;
    ngx_uint_t                  n;
    vaani_str_t                 received;
    vaani_body_t                body;
    vaani_event_error_t         error;
    ngx_http_vaani_item_t      *item;
    ngx_http_vaani_loc_conf_t  *vlcf;

    vlcf = ngx_http_get_module_loc_conf(r, ngx_http_vaani_module);

    ctx->received_at = ngx_http_vaani_now();

    ctx->items = &ctx->item;
    ctx->item.ctx = ctx;

    received.data = ctx->body.data;
    received.len = ctx->body.len;

    rc = vaani_body_read(&body, &received,
                         vlcf->validation == NGX_HTTP_VAANI_STRICT,
                         &ctx->alloc, &error);

    if (rc != VAANI_OK) {
        goto whole;
    }

    ctx->several = body.several;

    body.options.known = (vlcf->unknown_event == NGX_HTTP_VAANI_REJECT);

    for (n = 0; /* void */ ; n++) {

        if (ngx_http_vaani_add_item(ctx, n) != NGX_OK) {
            return NGX_ERROR;
        }

        item = &ctx->items[n];

        rc = vaani_body_next(&body, &item->event, &item->part, &item->error);

        if (rc == VAANI_NOMEM) {
            return NGX_ERROR;
        }

        if (rc == VAANI_DONE) {
            return NGX_OK;
        }

        ctx->nitems = n + 1;

        if (rc != VAANI_OK) {
            ngx_http_vaani_reject_item(item);
        }

        if (item->event.nnotes
            || (item->event.type == NULL && item->event.name.data))
        {
            ngx_http_vaani_drift(&item->event, r->connection->log);
        }

        if (!ctx->several) {
            return NGX_OK;
        }
    }

whole:

    if (rc == VAANI_NOMEM) {
        return NGX_ERROR;
    }

    /* no event of it is taken */

    ctx->items = &ctx->item;
    ctx->nitems = 1;
    ctx->several = 0;

    item = ctx->items;

    ngx_memzero(&item->event, sizeof(vaani_event_t));

    item->ctx = ctx;
    item->error = error;
    item->part.received = received;
    item->part.payload = received;

    ngx_http_vaani_reject_item(item);

    return NGX_OK;
}


/*
 * Returns room for item n. Items before it may be moved.
 */

static ngx_int_t
ngx_http_vaani_add_item(ngx_http_vaani_ctx_t *ctx, ngx_uint_t n)
{
    size_t                  size;
    ngx_http_vaani_item_t  *items;

    /* the first one is in the context; later the array doubles */

    if (n != 0 && (n & (n - 1)) == 0) {
        size = n * sizeof(ngx_http_vaani_item_t);

        items = ngx_palloc(ctx->request->pool, 2 * size);

        if (items == NULL) {
            return NGX_ERROR;
        }

        ngx_memcpy(items, ctx->items, size);
        ngx_memzero((u_char *) items + size, size);

        ctx->items = items;
    }

    ctx->items[n].ctx = ctx;

    return NGX_OK;
}


static void
ngx_http_vaani_reject_item(ngx_http_vaani_item_t *item)
{
    item->result = NGX_HTTP_VAANI_REJECTED;
    item->reason = item->error.reason;
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

    /* its name is in the envelope */

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
