
/*
 * The content handler of an endpoint: method, authentication, headers, body,
 * and the end of the request.
 */


#include "ngx_http_vaani.h"


static void ngx_http_vaani_body_handler(ngx_http_request_t *r);
static ngx_int_t ngx_http_vaani_process(ngx_http_request_t *r,
    ngx_http_vaani_ctx_t *ctx);
static ngx_int_t ngx_http_vaani_gone(ngx_http_request_t *r,
    ngx_http_vaani_ctx_t *ctx);
static void ngx_http_vaani_cleanup(void *data);


static ngx_keyval_t  ngx_http_vaani_allow =
    { ngx_string("Allow"), ngx_string("POST") };


ngx_int_t
ngx_http_vaani_handler(ngx_http_request_t *r)
{
    char                       *detail;
    ngx_int_t                   rc;
    ngx_http_cleanup_t         *cln;
    ngx_http_vaani_ctx_t       *ctx;
    ngx_http_vaani_loc_conf_t  *vlcf;

    ctx = ngx_palloc(r->pool, sizeof(ngx_http_vaani_ctx_t));

    if (ctx == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    /*
     * most of the context is written later; zeroing all of it would cost time
     */

    ngx_memzero(ctx, offsetof(ngx_http_vaani_ctx_t, item)
                     + offsetof(ngx_http_vaani_item_t, event));

    ctx->request = r;
    ctx->alloc.alloc = ngx_http_vaani_palloc;
    ctx->alloc.ctx = r->pool;

    ngx_http_set_ctx(r, ctx, ngx_http_vaani_module);

    if (r->method != NGX_HTTP_POST) {
        ctx->result = NGX_HTTP_VAANI_REJECTED;
        ctx->reason = VAANI_REASON_METHOD;

        return ngx_http_vaani_refuse(r, NGX_HTTP_NOT_ALLOWED,
                                     &ngx_http_vaani_allow,
                                     "the method must be POST", NULL);
    }

    vlcf = ngx_http_get_module_loc_conf(r, ngx_http_vaani_module);

    if (vlcf->auth == NGX_HTTP_VAANI_AUTH_HEADERS
        || (vlcf->auth == NGX_HTTP_VAANI_AUTH_BODY
            && ngx_http_vaani_awaits_continue(r)))
    {
        /* refuse before "100 Continue" asks the client for the body */

        rc = ngx_http_vaani_authorize(r, ctx, 0);

        if (rc == NGX_ERROR) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        if (rc == NGX_DECLINED) {
            return ngx_http_vaani_send_unauthorized(r, ctx);
        }
    }

    detail = ngx_http_vaani_read_headers(r, ctx);

    if (detail) {
        return ngx_http_vaani_refuse(r, NGX_HTTP_UNSUPPORTED_MEDIA_TYPE, NULL,
                                     detail, NULL);
    }

    if (ngx_http_vaani_body_is_gone(r)) {
        return ngx_http_vaani_gone(r, ctx);
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
 * Returns NGX_DONE if an event is in progress, otherwise the value for
 * ngx_http_finalize_request().
 */

static ngx_int_t
ngx_http_vaani_process(ngx_http_request_t *r, ngx_http_vaani_ctx_t *ctx)
{
    ngx_int_t                   rc;
    ngx_http_vaani_loc_conf_t  *vlcf;

    rc = ngx_http_vaani_get_body(r, &ctx->body);

    if (rc == NGX_DECLINED) {
        return ngx_http_vaani_gone(r, ctx);
    }

    if (rc != NGX_OK) {
        return rc;
    }

    vlcf = ngx_http_get_module_loc_conf(r, ngx_http_vaani_module);

    if (vlcf->auth == NGX_HTTP_VAANI_AUTH_BODY) {
        rc = ngx_http_vaani_authorize(r, ctx, 1);

        if (rc != NGX_OK) {
            return rc == NGX_DECLINED ? ngx_http_vaani_send_unauthorized(r, ctx)
                                      : NGX_HTTP_INTERNAL_SERVER_ERROR;
        }
    }

    if (ngx_http_vaani_read_events(r, ctx) != NGX_OK) {

        /* no event is sent */

        ctx->nitems = 0;
        ctx->result = NGX_HTTP_VAANI_UNAVAILABLE;
        ctx->reason = VAANI_REASON_NO_MEMORY;

        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_vaani_send_events(r, ctx);
}


/*
 * The configuration is wrong, not the request: the sender may retry.
 */

static ngx_int_t
ngx_http_vaani_gone(ngx_http_request_t *r, ngx_http_vaani_ctx_t *ctx)
{
    uint64_t             skipped;

    static vaani_pace_t  pace;

    if (vaani_pace(&pace, ngx_current_msec, NGX_HTTP_VAANI_COMPLAIN_EVERY,
                   &skipped))
    {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "vaani: another handler read or discarded the request "
                      "body before an internal redirect; %uL similar lines "
                      "skipped", skipped);
    }

    ctx->result = NGX_HTTP_VAANI_UNAVAILABLE;
    ctx->reason = VAANI_REASON_BODY_CONSUMED;

    return NGX_HTTP_INTERNAL_SERVER_ERROR;
}


/*
 * The client may close the connection, or its HTTP/2 connection may break,
 * while events are in progress.  They continue without the request.
 */

static void
ngx_http_vaani_cleanup(void *data)
{
    ngx_http_vaani_ctx_t *ctx = data;

    if (ctx->in_flight) {
        ngx_http_vaani_count_in_flight(-1);
    }

    ngx_http_vaani_leave_events(ctx);
}
