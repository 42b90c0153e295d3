
/*
 * Sends each event to Redis, to the spool, or, if refused, to the directory
 * for refused events.
 */


#include "ngx_http_vaani.h"


static void ngx_http_vaani_send_item(ngx_http_request_t *r,
    ngx_http_vaani_item_t *item);
static void ngx_http_vaani_keep_item(ngx_http_request_t *r,
    ngx_http_vaani_item_t *item);
static void ngx_http_vaani_redis_handler(void *data,
    ngx_vaani_redis_status_e status, redisReply *reply, ngx_uint_t lane);
static ngx_uint_t ngx_http_vaani_is_being_kept(ngx_http_request_t *r,
    ngx_http_vaani_item_t *item);
static void ngx_http_vaani_kept_handler(void *data);
static ngx_uint_t ngx_http_vaani_taken(ngx_http_request_t *r,
    ngx_http_vaani_item_t *item, redisReply *reply);
static void ngx_http_vaani_not_taken(ngx_http_request_t *r,
    ngx_http_vaani_item_t *item, ngx_vaani_redis_status_e status);
static void ngx_http_vaani_spool_item(ngx_http_request_t *r,
    ngx_http_vaani_item_t *item);
static void ngx_http_vaani_spool_handler(void *data, ngx_int_t rc);
static void ngx_http_vaani_refusal_handler(void *data, ngx_int_t rc);
static void ngx_http_vaani_done(ngx_http_vaani_ctx_t *ctx);


/* why Redis did not take an event, by ngx_vaani_redis_status_e */

static vaani_reason_e  ngx_http_vaani_redis_reasons[] = {
    VAANI_REASON_NONE,
    VAANI_REASON_REDIS_DOWN,
    VAANI_REASON_REDIS_TIMEOUT,
    VAANI_REASON_REDIS_QUEUE_FULL,
    VAANI_REASON_REDIS_UNAVAILABLE,
    VAANI_REASON_REDIS_DEFERRED,
    VAANI_REASON_REDIS_DEFERRED,
    VAANI_REASON_REDIS_REFUSED,
    VAANI_REASON_NO_MEMORY
};


ngx_int_t
ngx_http_vaani_send_events(ngx_http_request_t *r, ngx_http_vaani_ctx_t *ctx)
{
    ngx_uint_t              n;
    ngx_http_vaani_item_t  *item;

    /* an operation that ends immediately must not end the delivery */

    ctx->nwaiting = 1;

    for (n = 0; n < ctx->nitems; n++) {
        item = &ctx->items[n];
        ctx->current = item;

        if (item->result == NGX_HTTP_VAANI_REJECTED) {
            ngx_http_vaani_log_rejected(r, item);
            ngx_http_vaani_keep_item(r, item);
            continue;
        }

        if (ngx_http_vaani_prepare(r, item) != NGX_OK) {
            item->result = NGX_HTTP_VAANI_UNAVAILABLE;
            item->reason = VAANI_REASON_NO_MEMORY;
            continue;
        }

        ngx_http_vaani_send_item(r, item);
    }

    if (--ctx->nwaiting) {
        return NGX_DONE;
    }

    return ngx_http_vaani_answer(r, ctx);
}


static void
ngx_http_vaani_send_item(ngx_http_request_t *r, ngx_http_vaani_item_t *item)
{
    ngx_str_t                   key;
    ngx_http_vaani_ctx_t       *ctx;
    ngx_vaani_redis_status_e    status;
    ngx_http_vaani_loc_conf_t  *vlcf;

    ctx = item->ctx;

    vlcf = ngx_http_get_module_loc_conf(r, ngx_http_vaani_module);

    /*
     * Events of the call that still wait in the spool do not matter: the
     * result does not depend on the order in which events are applied.
     */

    if (!ctx->redis_asked) {
        ctx->redis_asked = 1;
        ctx->redis_start = ngx_current_msec;
    }

    key.data = (u_char *) item->delivery.key.data;
    key.len = item->delivery.key.len;

    item->cmd = ngx_http_vaani_eval(vlcf->redis,
                                    ngx_vaani_redis_lane(vlcf->redis, &key),
                                    &item->event, &item->delivery, r->pool,
                                    ngx_http_vaani_redis_handler, item,
                                    &status);

    if (status == NGX_VAANI_REDIS_DONE) {
        ctx->nwaiting++;
        return;
    }

    ngx_http_vaani_not_taken(r, item, status);
}


/*
 * The sender never repeats a rejected event.  Therefore it is kept where an
 * operator finds it.
 */

static void
ngx_http_vaani_keep_item(ngx_http_request_t *r, ngx_http_vaani_item_t *item)
{
    ngx_str_t                   body, reason;
    const vaani_str_t          *word;
    ngx_http_vaani_loc_conf_t  *vlcf;

    vlcf = ngx_http_get_module_loc_conf(r, ngx_http_vaani_module);

    /*
     * by default not for unauthenticated senders, who could displace the
     * others
     */

    if (vlcf->spool == NULL || (!vlcf->auth && !vlcf->spool->refused_set)) {
        return;
    }

    if (ngx_http_vaani_refused_body(r, item, &body) != NGX_OK) {
        return;
    }

    item->ctx->nwaiting++;

    word = vaani_reason_word(item->reason);

    reason.data = (u_char *) word->data;
    reason.len = word->len;

    item->refusal = ngx_vaani_spool_keep_refused(vlcf->spool, &reason,
                                                 &body, item->ctx->received_at,
                                                 ngx_http_vaani_refusal_handler,
                                                 item);

    if (item->refusal == NULL) {
        item->ctx->nwaiting--;
    }
}


static void
ngx_http_vaani_redis_handler(void *data, ngx_vaani_redis_status_e status,
    redisReply *reply, ngx_uint_t lane)
{
    ngx_http_vaani_item_t *item = data;

    ngx_http_request_t    *r;
    ngx_http_vaani_ctx_t  *ctx;

    ctx = item->ctx;
    r = ctx->request;

    ngx_http_set_log_request(r->connection->log, r);

    item->cmd = NULL;
    item->lane = lane;
    ctx->redis_answered = 1;
    ctx->redis_time = ngx_current_msec - ctx->redis_start;

    if (status != NGX_VAANI_REDIS_DONE
        || !ngx_http_vaani_taken(r, item, reply))
    {
        ngx_http_vaani_not_taken(r, item,
                                 status == NGX_VAANI_REDIS_DONE
                                 ? NGX_VAANI_REDIS_UNKNOWN : status);

    } else if (ngx_http_vaani_is_being_kept(r, item)) {
        return;
    }

    ngx_http_vaani_done(ctx);
}


/*
 * Redis may lose its latest writes.  Therefore the answer waits until the
 * spool has the event as well.
 */

static ngx_uint_t
ngx_http_vaani_is_being_kept(ngx_http_request_t *r,
    ngx_http_vaani_item_t *item)
{
    ngx_http_vaani_loc_conf_t  *vlcf;

    vlcf = ngx_http_get_module_loc_conf(r, ngx_http_vaani_module);

    if (vlcf->spool == NULL || vlcf->spool->retain == 0) {
        return 0;
    }

    item->keeping = (ngx_http_vaani_keep(vlcf->spool, item,
                                         ngx_http_vaani_kept_handler)
                     == NGX_AGAIN);

    return item->keeping;
}


static void
ngx_http_vaani_kept_handler(void *data)
{
    ngx_http_vaani_item_t *item = data;

    item->keeping = 0;

    ngx_http_vaani_done(item->ctx);
}


/*
 * Returns 0 if the script cannot have sent this reply.
 */

static ngx_uint_t
ngx_http_vaani_taken(ngx_http_request_t *r, ngx_http_vaani_item_t *item,
    redisReply *reply)
{
    ngx_uint_t                  published;
    ngx_http_vaani_loc_conf_t  *vlcf;

    if (ngx_http_vaani_read_reply(reply, r->connection->log, &item->transition,
                                  &published)
        != NGX_OK)
    {
        return 0;
    }

    if (!published) {
        item->reason = VAANI_REASON_NOT_PUBLISHED;
    }

    vlcf = ngx_http_get_module_loc_conf(r, ngx_http_vaani_module);

    if (vlcf->spool) {
        ngx_vaani_spool_succeeded(vlcf->spool);
    }

    item->result = (item->transition.result == VAANI_TRANSITION_DUPLICATE)
                   ? NGX_HTTP_VAANI_DUPLICATE : NGX_HTTP_VAANI_OK;

    return 1;
}


/*
 * Redis did not take the event: the spool does, if there is one.
 */

static void
ngx_http_vaani_not_taken(ngx_http_request_t *r, ngx_http_vaani_item_t *item,
    ngx_vaani_redis_status_e status)
{
    ngx_http_vaani_loc_conf_t  *vlcf;

    vlcf = ngx_http_get_module_loc_conf(r, ngx_http_vaani_module);

    item->redis_status = status;
    item->reason = ngx_http_vaani_redis_reasons[status];

    if (vlcf->spool) {
        ngx_http_vaani_spool_item(r, item);
        return;
    }

    item->result = NGX_HTTP_VAANI_UNAVAILABLE;
}


static void
ngx_http_vaani_spool_item(ngx_http_request_t *r, ngx_http_vaani_item_t *item)
{
    ngx_http_vaani_loc_conf_t  *vlcf;

    vlcf = ngx_http_get_module_loc_conf(r, ngx_http_vaani_module);

    item->ctx->nwaiting++;

    if (ngx_http_vaani_queue(vlcf->spool, item, ngx_http_vaani_spool_handler)
        != NGX_OK)
    {
        item->ctx->nwaiting--;
        item->result = NGX_HTTP_VAANI_UNAVAILABLE;
        item->reason = VAANI_REASON_SPOOL_FULL;
    }
}


static void
ngx_http_vaani_spool_handler(void *data, ngx_int_t rc)
{
    ngx_http_vaani_item_t *item = data;

    item->entry = NULL;

    if (rc == NGX_OK) {
        item->result = NGX_HTTP_VAANI_QUEUED;

    } else {
        item->result = NGX_HTTP_VAANI_UNAVAILABLE;
        item->reason = VAANI_REASON_SPOOL_FAILED;
    }

    ngx_http_vaani_done(item->ctx);
}


static void
ngx_http_vaani_refusal_handler(void *data, ngx_int_t rc)
{
    ngx_http_vaani_item_t *item = data;

    item->refusal = NULL;
    item->kept = (rc == NGX_OK);

    ngx_http_vaani_done(item->ctx);
}


/*
 * Finishes one operation.  After the last one the request continues, in an
 * event of another connection.
 */

static void
ngx_http_vaani_done(ngx_http_vaani_ctx_t *ctx)
{
    ngx_int_t            rc;
    ngx_connection_t    *c;
    ngx_http_request_t  *r;

    if (--ctx->nwaiting) {
        return;
    }

    r = ctx->request;
    c = r->connection;

    ngx_http_set_log_request(c->log, r);

    rc = ngx_http_vaani_answer(r, ctx);

    ngx_http_finalize_request(r, rc);
    ngx_http_run_posted_requests(c);
}


void
ngx_http_vaani_leave_events(ngx_http_vaani_ctx_t *ctx)
{
    ngx_uint_t                  n;
    ngx_http_vaani_item_t      *item;
    ngx_http_vaani_loc_conf_t  *vlcf;

    for (n = 0; n < ctx->nitems; n++) {
        item = &ctx->items[n];

        if (item->cmd) {
            vlcf = ngx_http_get_module_loc_conf(ctx->request,
                                                ngx_http_vaani_module);

            ngx_http_vaani_outlive(vlcf->spool, item);
            item->cmd = NULL;
        }

        if (item->keeping) {
            ngx_queue_remove(&item->waiter.queue);
            item->keeping = 0;
        }

        if (item->entry) {
            ngx_vaani_spool_detach(item->entry);
            item->entry = NULL;
        }

        if (item->refusal) {
            ngx_vaani_spool_detach_refusal(item->refusal);
            item->refusal = NULL;
        }
    }
}
