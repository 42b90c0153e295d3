
/*
 * The answer for all events of a body; refusals and their log lines.
 */


#include "ngx_http_vaani.h"


/* the period of "warn" lines per reason of rejection in a worker, ms */

#define NGX_HTTP_VAANI_REJECTED_EVERY   60000

/* bytes of an event's description in the answer and the log, with a NUL */

#define NGX_HTTP_VAANI_DETAIL           256


static ngx_int_t ngx_http_vaani_answer_one(ngx_http_request_t *r,
    ngx_http_vaani_item_t *item);
static ngx_int_t ngx_http_vaani_answer_several(ngx_http_request_t *r,
    ngx_http_vaani_ctx_t *ctx);
static ngx_http_vaani_item_t *ngx_http_vaani_find_item(
    ngx_http_vaani_ctx_t *ctx, ngx_http_vaani_result_e result);
static ngx_int_t ngx_http_vaani_rejected(ngx_http_request_t *r,
    ngx_http_vaani_item_t *item);
static char *ngx_http_vaani_detail(ngx_http_vaani_item_t *item, u_char *buf);
static ngx_int_t ngx_http_vaani_field(ngx_http_request_t *r,
    ngx_http_vaani_item_t *item, ngx_str_t *field);
static ngx_int_t ngx_http_vaani_unavailable(ngx_http_request_t *r,
    ngx_http_vaani_item_t *item);


static ngx_str_t  ngx_http_vaani_ok = ngx_string("{\"status\":\"ok\"}\n");
static ngx_str_t  ngx_http_vaani_unknown =
    ngx_string("{\"status\":\"ok\",\"known\":false}\n");
static ngx_str_t  ngx_http_vaani_duplicate =
    ngx_string("{\"status\":\"duplicate\"}\n");
static ngx_str_t  ngx_http_vaani_queued =
    ngx_string("{\"status\":\"queued\"}\n");


ngx_int_t
ngx_http_vaani_answer(ngx_http_request_t *r, ngx_http_vaani_ctx_t *ctx)
{
    ngx_uint_t              n;
    ngx_http_vaani_item_t  *item;

    /* the results are ordered from good to bad */

    for (n = 0; n < ctx->nitems; n++) {
        item = &ctx->items[n];

        if (item->result > ctx->result) {
            ctx->result = item->result;
            ctx->reason = item->reason;

        } else if (ctx->reason == VAANI_REASON_NONE) {
            ctx->reason = item->reason;
        }
    }

    return ctx->several ? ngx_http_vaani_answer_several(r, ctx)
                        : ngx_http_vaani_answer_one(r, ctx->items);
}


static ngx_int_t
ngx_http_vaani_answer_one(ngx_http_request_t *r, ngx_http_vaani_item_t *item)
{
    switch (item->result) {

    case NGX_HTTP_VAANI_OK:
        return ngx_http_vaani_send_status(r, NGX_HTTP_OK,
                                          item->event.type
                                          ? &ngx_http_vaani_ok
                                          : &ngx_http_vaani_unknown);

    case NGX_HTTP_VAANI_DUPLICATE:
        return ngx_http_vaani_send_status(r, NGX_HTTP_OK,
                                          &ngx_http_vaani_duplicate);

    case NGX_HTTP_VAANI_QUEUED:
        return ngx_http_vaani_send_status(r, NGX_HTTP_OK,
                                          &ngx_http_vaani_queued);

    case NGX_HTTP_VAANI_REJECTED:
        return ngx_http_vaani_rejected(r, item);

    default:
        return ngx_http_vaani_unavailable(r, item);
    }
}


/*
 * One answer for all events.  If a sender is told to retry, it sends all of
 * them again; those that were applied are then duplicates.
 */

static ngx_int_t
ngx_http_vaani_answer_several(ngx_http_request_t *r, ngx_http_vaani_ctx_t *ctx)
{
    u_char                 *p;
    ngx_str_t               body, *status;
    ngx_uint_t              n, refused, kept;
    ngx_http_vaani_item_t  *item;

    item = ngx_http_vaani_find_item(ctx, NGX_HTTP_VAANI_UNAVAILABLE);

    if (item) {
        return ngx_http_vaani_unavailable(r, item);
    }

    refused = 0;
    kept = 0;

    for (n = 0; n < ctx->nitems; n++) {
        refused += (ctx->items[n].result == NGX_HTTP_VAANI_REJECTED);
        kept += ctx->items[n].kept;
    }

    if (refused == ctx->nitems || refused > kept) {
        item = ngx_http_vaani_find_item(ctx, NGX_HTTP_VAANI_REJECTED);

        return ngx_http_vaani_rejected(r, item);
    }

    /* the best of them */

    if (ngx_http_vaani_find_item(ctx, NGX_HTTP_VAANI_OK)) {
        status = &ngx_http_vaani_results[NGX_HTTP_VAANI_OK];

    } else if (ngx_http_vaani_find_item(ctx, NGX_HTTP_VAANI_QUEUED)) {
        status = &ngx_http_vaani_results[NGX_HTTP_VAANI_QUEUED];

    } else {
        status = &ngx_http_vaani_results[NGX_HTTP_VAANI_DUPLICATE];
    }

    body.len = sizeof("{\"status\":\"\",\"events\":,\"refused\":}\n") - 1
               + status->len + 2 * NGX_INT_T_LEN;

    body.data = ngx_pnalloc(r->pool, body.len);

    if (body.data == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    p = ngx_sprintf(body.data, "{\"status\":\"%V\",\"events\":%ui", status,
                    ctx->nitems);

    if (refused) {
        p = ngx_sprintf(p, ",\"refused\":%ui", refused);
    }

    *p++ = '}';
    *p++ = '\n';

    body.len = p - body.data;

    return ngx_http_vaani_send_status(r, NGX_HTTP_OK, &body);
}


static ngx_http_vaani_item_t *
ngx_http_vaani_find_item(ngx_http_vaani_ctx_t *ctx,
    ngx_http_vaani_result_e result)
{
    ngx_uint_t  n;

    for (n = 0; n < ctx->nitems; n++) {
        if (ctx->items[n].result == result) {
            return &ctx->items[n];
        }
    }

    return NULL;
}


static ngx_int_t
ngx_http_vaani_rejected(ngx_http_request_t *r, ngx_http_vaani_item_t *item)
{
    char       *detail;
    ngx_str_t   field;
    u_char      buf[NGX_HTTP_VAANI_DETAIL];

    detail = ngx_http_vaani_detail(item, buf);

    if (item->error.kind == VAANI_EVENT_MALFORMED) {
        return ngx_http_vaani_refuse(r, NGX_HTTP_BAD_REQUEST, NULL, detail,
                                     NULL);
    }

    if (ngx_http_vaani_field(r, item, &field) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_vaani_refuse(r, NGX_HTTP_VAANI_UNPROCESSABLE_CONTENT, NULL,
                                 detail, &field);
}


static char *
ngx_http_vaani_detail(ngx_http_vaani_item_t *item, u_char *buf)
{
    u_char               *p, *last;
    ngx_str_t             field;
    vaani_event_error_t  *error;

    error = &item->error;

    last = buf + (NGX_HTTP_VAANI_DETAIL - 1);

    if (error->kind == VAANI_EVENT_MALFORMED) {
        p = ngx_slprintf(buf, last, "%s", error->message);

        if (item->ctx->body.len) {
            p = ngx_slprintf(p, last, " at byte %uz", error->offset);
        }

    } else {
        field.data = (u_char *) error->field.data;
        field.len = error->field.len;

        p = ngx_slprintf(buf, last, "%V%s%s", &field, field.len ? " " : "",
                         error->message);
    }

    *p = '\0';

    return (char *) buf;
}


/*
 * A JSON Pointer (RFC 6901).  The pointer to the whole body is empty.
 */

static ngx_int_t
ngx_http_vaani_field(ngx_http_request_t *r, ngx_http_vaani_item_t *item,
    ngx_str_t *pointer)
{
    u_char                *p;
    ngx_str_t              field;
    ngx_http_vaani_ctx_t  *ctx;

    ctx = item->ctx;

    field.data = (u_char *) item->error.field.data;
    field.len = item->error.field.len;

    p = ngx_pnalloc(r->pool, sizeof("/events//data/") - 1 + NGX_INT_T_LEN
                             + field.len);

    if (p == NULL) {
        return NGX_ERROR;
    }

    pointer->data = p;

    if (ctx->several) {
        p = ngx_sprintf(p, "/events/%ui", (ngx_uint_t) (item - ctx->items));
    }

    if (field.len) {
        p = ngx_sprintf(p, "%s/%V", item->error.nested ? "/data" : "", &field);
    }

    pointer->len = p - pointer->data;

    return NGX_OK;
}


void
ngx_http_vaani_log_rejected(ngx_http_request_t *r, ngx_http_vaani_item_t *item)
{
    char                 *detail;
    uint64_t              skipped;
    ngx_uint_t            level;
    const u_char         *word;
    u_char                buf[NGX_HTTP_VAANI_DETAIL];

    static vaani_pace_t   paces[VAANI_NREASONS];

    skipped = 0;

    level = vaani_pace(&paces[item->reason], ngx_current_msec,
                       NGX_HTTP_VAANI_REJECTED_EVERY, &skipped)
            ? NGX_LOG_WARN : NGX_LOG_INFO;

    word = vaani_reason_word(item->reason)->data;

    detail = ngx_http_vaani_detail(item, buf);

    if (skipped) {
        ngx_log_error(level, r->connection->log, 0,
                      "vaani: event rejected (%s): %s; %uL more for this "
                      "reason since the previous line",
                      word, detail, skipped);

    } else {
        ngx_log_error(level, r->connection->log, 0,
                      "vaani: event rejected (%s): %s", word, detail);
    }
}


static ngx_int_t
ngx_http_vaani_unavailable(ngx_http_request_t *r, ngx_http_vaani_item_t *item)
{
    u_char                     *p;
    ngx_str_t                   key;
    ngx_uint_t                  after;
    ngx_keyval_t                header;
    ngx_http_vaani_loc_conf_t  *vlcf;

    vlcf = ngx_http_get_module_loc_conf(r, ngx_http_vaani_module);

    /* when the sender should retry, s */

    after = 1;

    if (vlcf->spool == NULL && item->redis_status == NGX_VAANI_REDIS_DOWN) {
        key.len = item->delivery.key.len;
        key.data = (u_char *) item->delivery.key.data;

        after += ngx_vaani_redis_retry_after(vlcf->redis, &key) / 1000;
    }

    p = ngx_pnalloc(r->pool, NGX_INT_T_LEN);

    if (p == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_str_set(&header.key, "Retry-After");

    header.value.data = p;
    header.value.len = ngx_sprintf(p, "%ui", after) - p;

    return ngx_http_vaani_refuse(r, NGX_HTTP_SERVICE_UNAVAILABLE, &header,
                                 "the event could not be stored", NULL);
}
