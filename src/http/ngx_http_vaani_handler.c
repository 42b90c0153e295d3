
#include "ngx_http_vaani.h"


static void ngx_http_vaani_body_handler(ngx_http_request_t *r);
static ngx_int_t ngx_http_vaani_process(ngx_http_request_t *r,
    ngx_http_vaani_ctx_t *ctx);
static ngx_int_t ngx_http_vaani_validate(ngx_http_request_t *r,
    ngx_http_vaani_ctx_t *ctx);
static ngx_int_t ngx_http_vaani_reject_event(ngx_http_request_t *r,
    ngx_http_vaani_ctx_t *ctx, vaani_event_error_t *error);
static void ngx_http_vaani_redis_handler(void *data,
    ngx_vaani_redis_status_e status, redisReply *reply);
static ngx_http_request_t *ngx_http_vaani_resume(ngx_http_vaani_ctx_t *ctx);
static void ngx_http_vaani_finish(ngx_http_request_t *r, ngx_int_t rc);
static ngx_int_t ngx_http_vaani_answer(ngx_http_request_t *r,
    ngx_http_vaani_ctx_t *ctx, redisReply *reply);
static ngx_int_t ngx_http_vaani_not_taken(ngx_http_request_t *r,
    ngx_http_vaani_ctx_t *ctx, ngx_vaani_redis_status_e status);
static ngx_int_t ngx_http_vaani_spool(ngx_http_request_t *r,
    ngx_http_vaani_ctx_t *ctx);
static void ngx_http_vaani_spool_handler(void *data, ngx_int_t rc);
static ngx_int_t ngx_http_vaani_unavailable(ngx_http_request_t *r,
    ngx_http_vaani_ctx_t *ctx, ngx_uint_t after);
static ngx_int_t ngx_http_vaani_reject(ngx_http_request_t *r,
    ngx_http_vaani_ctx_t *ctx, ngx_uint_t status, char *detail);
static void ngx_http_vaani_cleanup(void *data);


static ngx_str_t  ngx_http_vaani_ok = ngx_string("{\"status\":\"ok\"}");
static ngx_str_t  ngx_http_vaani_duplicate =
    ngx_string("{\"status\":\"duplicate\"}");
static ngx_str_t  ngx_http_vaani_queued =
    ngx_string("{\"status\":\"queued\"}");


/* $vaani_reason of what Redis didn't take, by ngx_vaani_redis_status_e */

static ngx_str_t  ngx_http_vaani_redis_reasons[] = {
    ngx_null_string,
    ngx_string("redis_down"),
    ngx_string("redis_timeout"),
    ngx_string("redis_queue_full"),
    ngx_string("redis_unavailable"),
    ngx_string("redis_refused"),
    ngx_string("no_memory")
};


ngx_int_t
ngx_http_vaani_handler(ngx_http_request_t *r)
{
    char                       *detail;
    ngx_int_t                   rc;
    ngx_str_t                   post;
    ngx_http_cleanup_t         *cln;
    ngx_http_vaani_ctx_t       *ctx;
    ngx_http_vaani_loc_conf_t  *vlcf;

    ctx = ngx_pcalloc(r->pool, sizeof(ngx_http_vaani_ctx_t));

    if (ctx == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ctx->request = r;
    ctx->alloc.alloc = ngx_http_vaani_palloc;
    ctx->alloc.ctx = r->pool;

    ngx_http_set_ctx(r, ctx, ngx_http_vaani_module);

    if (r->method != NGX_HTTP_POST) {
        ngx_str_set(&post, "POST");
        ngx_str_set(&ctx->reason, "method");

        if (ngx_http_vaani_add_header(r, "Allow", &post) != NGX_OK) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        return ngx_http_vaani_reject(r, ctx, NGX_HTTP_NOT_ALLOWED,
                                     "the method must be POST");
    }

    vlcf = ngx_http_get_module_loc_conf(r, ngx_http_vaani_module);

    if (vlcf->auth == NGX_HTTP_VAANI_AUTH_HEADERS) {
        rc = ngx_http_vaani_authorize(r, ctx);

        if (rc == NGX_ERROR) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        if (rc == NGX_DECLINED) {
            rc = ngx_http_discard_request_body(r);

            return rc == NGX_OK ? ngx_http_vaani_send_unauthorized(r, ctx) : rc;
        }
    }

    if (ngx_http_vaani_read_headers(r, ctx, &ctx->reason, &detail) != NGX_OK) {
        return ngx_http_vaani_reject(r, ctx, NGX_HTTP_UNSUPPORTED_MEDIA_TYPE,
                                     detail);
    }

    cln = ngx_http_cleanup_add(r, 0);

    if (cln == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    cln->handler = ngx_http_vaani_cleanup;
    cln->data = ctx;

    r->request_body_in_single_buf = 1;

    rc = ngx_http_read_client_request_body(r, ngx_http_vaani_body_handler);

    if (rc >= NGX_HTTP_SPECIAL_RESPONSE) {
        return rc;
    }

    return NGX_DONE;
}


static void
ngx_http_vaani_body_handler(ngx_http_request_t *r)
{
    ngx_int_t              rc;
    ngx_http_vaani_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_vaani_module);

    rc = ngx_http_vaani_process(r, ctx);

    if (rc == NGX_DONE) {
        ctx->in_flight = 1;
        ngx_http_vaani_count_in_flight(1);
        return;
    }

    ngx_http_finalize_request(r, rc);
}


/*
 * Returns NGX_DONE if the event is on its way, else what the request is to be
 * finalized with.
 */

static ngx_int_t
ngx_http_vaani_process(ngx_http_request_t *r, ngx_http_vaani_ctx_t *ctx)
{
    ngx_int_t                   rc;
    ngx_vaani_redis_status_e    status;
    ngx_http_vaani_loc_conf_t  *vlcf;

    rc = ngx_http_vaani_get_body(r, &ctx->body);

    if (rc != NGX_OK) {
        return rc;
    }

    vlcf = ngx_http_get_module_loc_conf(r, ngx_http_vaani_module);

    if (vlcf->auth == NGX_HTTP_VAANI_AUTH_BODY) {
        rc = ngx_http_vaani_authorize(r, ctx);

        if (rc != NGX_OK) {
            return rc == NGX_DECLINED ? ngx_http_vaani_send_unauthorized(r, ctx)
                                      : NGX_HTTP_INTERNAL_SERVER_ERROR;
        }
    }

    rc = ngx_http_vaani_validate(r, ctx);

    if (rc != NGX_DECLINED) {
        return rc;
    }

    if (ngx_http_vaani_prepare(r, ctx) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    /* events of a call stay in order: those that wait go first */

    if (vlcf->spool
        && ngx_vaani_spool_behind(vlcf->spool,
                                  ngx_http_vaani_order(&ctx->delivery)))
    {
        ngx_str_set(&ctx->reason, "behind");
        return ngx_http_vaani_spool(r, ctx);
    }

    ctx->redis_asked = 1;
    ctx->redis_start = ngx_current_msec;

    ctx->cmd = ngx_http_vaani_eval(vlcf->redis, &ctx->event, &ctx->delivery,
                                   r->pool, ngx_http_vaani_redis_handler, ctx,
                                   &status);

    if (status != NGX_VAANI_REDIS_DONE) {
        return ngx_http_vaani_not_taken(r, ctx, status);
    }

    return NGX_DONE;
}


/*
 * Returns NGX_DECLINED if the event is to be delivered.
 */

static ngx_int_t
ngx_http_vaani_validate(ngx_http_request_t *r, ngx_http_vaani_ctx_t *ctx)
{
    int                         rc;
    vaani_event_error_t         error;
    ngx_http_vaani_loc_conf_t  *vlcf;
    static const vaani_str_t    event = vaani_string("event");

    vlcf = ngx_http_get_module_loc_conf(r, ngx_http_vaani_module);

    rc = vaani_event_parse(&ctx->event, ctx->body.data, ctx->body.len,
                           vlcf->validation == NGX_HTTP_VAANI_STRICT,
                           &ctx->alloc, &error);

    if (rc == VAANI_NOMEM) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (rc == VAANI_OK && ctx->event.type == NULL
        && vlcf->unknown_event == NGX_HTTP_VAANI_REJECT)
    {
        error.kind = VAANI_EVENT_INVALID;
        error.reason = "unknown_event";
        error.message = "is not one of the documented events";
        error.field = event;

        rc = VAANI_ERROR;
    }

    if (rc == VAANI_OK) {
        return NGX_DECLINED;
    }

    return ngx_http_vaani_reject_event(r, ctx, &error);
}


static ngx_int_t
ngx_http_vaani_reject_event(ngx_http_request_t *r, ngx_http_vaani_ctx_t *ctx,
    vaani_event_error_t *error)
{
    u_char     *p;
    ngx_str_t   detail, field;
    u_char      buf[256];

    ctx->result = NGX_HTTP_VAANI_REJECTED;
    ctx->reason.data = (u_char *) error->reason;
    ctx->reason.len = ngx_strlen(error->reason);

    field.data = (u_char *) error->field.data;
    field.len = error->field.len;

    detail.data = buf;

    if (error->kind == VAANI_EVENT_MALFORMED) {
        p = ngx_snprintf(buf, sizeof(buf), "%s", error->message);

        if (ctx->body.len) {
            p = ngx_slprintf(p, buf + sizeof(buf), " at byte %uz",
                             error->offset);
        }

        detail.len = p - buf;

        ngx_log_error(NGX_LOG_INFO, r->connection->log, 0,
                      "vaani: event rejected: %V", &detail);

        return ngx_http_vaani_send_problem(r, NGX_HTTP_BAD_REQUEST, &detail,
                                           NULL);
    }

    detail.len = ngx_snprintf(buf, sizeof(buf), "%V%s%s", &field,
                              field.len ? " " : "", error->message)
                 - buf;

    ngx_log_error(NGX_LOG_INFO, r->connection->log, 0,
                  "vaani: event rejected: %V", &detail);

    return ngx_http_vaani_send_problem(r, 422, &detail, &field);
}


static void
ngx_http_vaani_redis_handler(void *data, ngx_vaani_redis_status_e status,
    redisReply *reply)
{
    ngx_http_vaani_ctx_t *ctx = data;

    ngx_int_t            rc;
    ngx_http_request_t  *r;

    r = ngx_http_vaani_resume(ctx);

    ctx->cmd = NULL;
    ctx->redis_answered = 1;
    ctx->redis_time = ngx_current_msec - ctx->redis_start;

    if (status == NGX_VAANI_REDIS_DONE) {
        rc = ngx_http_vaani_answer(r, ctx, reply);

    } else {
        rc = ngx_http_vaani_not_taken(r, ctx, status);
    }

    ngx_http_vaani_finish(r, rc);
}


/*
 * Both go around what is done for a request in the event of another
 * connection.
 */

static ngx_http_request_t *
ngx_http_vaani_resume(ngx_http_vaani_ctx_t *ctx)
{
    ngx_http_request_t  *r;

    r = ctx->request;

    ngx_http_set_log_request(r->connection->log, r);

    return r;
}


static void
ngx_http_vaani_finish(ngx_http_request_t *r, ngx_int_t rc)
{
    ngx_connection_t  *c;

    c = r->connection;

    if (rc != NGX_DONE) {
        ngx_http_finalize_request(r, rc);
    }

    ngx_http_run_posted_requests(c);
}


static ngx_int_t
ngx_http_vaani_answer(ngx_http_request_t *r, ngx_http_vaani_ctx_t *ctx,
    redisReply *reply)
{
    ngx_uint_t  published;

    if (ngx_http_vaani_read_reply(reply, r->connection->log, &ctx->transition,
                                  &published)
        != NGX_OK)
    {
        return ngx_http_vaani_not_taken(r, ctx, NGX_VAANI_REDIS_REFUSED);
    }

    if (!published) {
        ngx_str_set(&ctx->reason, "not_published");
    }

    if (ctx->transition.result == VAANI_TRANSITION_DUPLICATE) {
        ctx->result = NGX_HTTP_VAANI_DUPLICATE;
        return ngx_http_vaani_send_status(r, NGX_HTTP_OK,
                                          &ngx_http_vaani_duplicate);
    }

    ctx->result = NGX_HTTP_VAANI_OK;

    return ngx_http_vaani_send_status(r, NGX_HTTP_OK, &ngx_http_vaani_ok);
}


/*
 * Redis didn't take the event: the spool does, if there is one.  Returns as
 * ngx_http_vaani_process().
 */

static ngx_int_t
ngx_http_vaani_not_taken(ngx_http_request_t *r, ngx_http_vaani_ctx_t *ctx,
    ngx_vaani_redis_status_e status)
{
    ngx_str_t                   key;
    ngx_uint_t                  after;
    ngx_http_vaani_loc_conf_t  *vlcf;

    vlcf = ngx_http_get_module_loc_conf(r, ngx_http_vaani_module);

    ctx->reason = ngx_http_vaani_redis_reasons[status];

    if (vlcf->spool) {
        return ngx_http_vaani_spool(r, ctx);
    }

    after = 1;

    if (status == NGX_VAANI_REDIS_DOWN) {
        key.len = ctx->delivery.key.len;
        key.data = (u_char *) ctx->delivery.key.data;

        after += ngx_vaani_redis_retry_after(vlcf->redis, &key) / 1000;
    }

    return ngx_http_vaani_unavailable(r, ctx, after);
}


static ngx_int_t
ngx_http_vaani_spool(ngx_http_request_t *r, ngx_http_vaani_ctx_t *ctx)
{
    ngx_http_vaani_loc_conf_t  *vlcf;

    vlcf = ngx_http_get_module_loc_conf(r, ngx_http_vaani_module);

    if (ngx_http_vaani_queue(vlcf->spool, ctx, ngx_http_vaani_spool_handler)
        != NGX_OK)
    {
        ngx_str_set(&ctx->reason, "spool_full");
        return ngx_http_vaani_unavailable(r, ctx, 1);
    }

    return NGX_DONE;
}


static void
ngx_http_vaani_spool_handler(void *data, ngx_int_t rc)
{
    ngx_http_vaani_ctx_t *ctx = data;

    ngx_http_request_t  *r;

    r = ngx_http_vaani_resume(ctx);

    ctx->entry = NULL;

    if (rc == NGX_OK) {
        ctx->result = NGX_HTTP_VAANI_QUEUED;
        rc = ngx_http_vaani_send_status(r, NGX_HTTP_OK, &ngx_http_vaani_queued);

    } else {
        ngx_str_set(&ctx->reason, "spool_failed");
        rc = ngx_http_vaani_unavailable(r, ctx, 1);
    }

    ngx_http_vaani_finish(r, rc);
}


/*
 * after: when it is worth to try again, s.
 */

static ngx_int_t
ngx_http_vaani_unavailable(ngx_http_request_t *r, ngx_http_vaani_ctx_t *ctx,
    ngx_uint_t after)
{
    u_char     *p;
    ngx_str_t   detail, seconds;

    ctx->result = NGX_HTTP_VAANI_UNAVAILABLE;

    p = ngx_pnalloc(r->pool, NGX_INT_T_LEN);

    if (p == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    seconds.data = p;
    seconds.len = ngx_sprintf(p, "%ui", after) - p;

    if (ngx_http_vaani_add_header(r, "Retry-After", &seconds) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_str_set(&detail, "the event could not be stored");

    return ngx_http_vaani_send_problem(r, NGX_HTTP_SERVICE_UNAVAILABLE,
                                       &detail, NULL);
}


/*
 * Answers before the body was read: what comes of it is thrown away, so that
 * the connection stays usable.
 */

static ngx_int_t
ngx_http_vaani_reject(ngx_http_request_t *r, ngx_http_vaani_ctx_t *ctx,
    ngx_uint_t status, char *detail)
{
    ngx_int_t  rc;
    ngx_str_t  str;

    rc = ngx_http_discard_request_body(r);

    if (rc != NGX_OK) {
        return rc;
    }

    ctx->result = NGX_HTTP_VAANI_REJECTED;

    str.data = (u_char *) detail;
    str.len = ngx_strlen(detail);

    return ngx_http_vaani_send_problem(r, status, &str, NULL);
}


/*
 * The client may leave, or its HTTP/2 connection break, while the event is
 * under way: that goes on without the request.
 */

static void
ngx_http_vaani_cleanup(void *data)
{
    ngx_http_vaani_ctx_t *ctx = data;

    ngx_http_vaani_loc_conf_t  *vlcf;

    if (ctx->in_flight) {
        ngx_http_vaani_count_in_flight(-1);
    }

    if (ctx->cmd) {
        vlcf = ngx_http_get_module_loc_conf(ctx->request,
                                            ngx_http_vaani_module);

        ngx_http_vaani_outlive(vlcf->spool, ctx);
        ctx->cmd = NULL;
    }

    if (ctx->entry) {
        ngx_vaani_spool_detach(ctx->entry);
        ctx->entry = NULL;
    }
}
