
/*
 * The result of a request, including answers by nginx itself: the values of
 * $vaani_result.
 */


#include "ngx_http_vaani.h"


ngx_str_t  ngx_http_vaani_results[] = {
    ngx_null_string,
    ngx_string("ok"),
    ngx_string("duplicate"),
    ngx_string("queued"),
    ngx_string("rejected"),
    ngx_string("unauthorized"),
    ngx_string("unavailable")
};


ngx_http_vaani_result_e
ngx_http_vaani_outcome(ngx_http_request_t *r, vaani_reason_e *reason)
{
    ngx_uint_t                  status;
    ngx_http_vaani_ctx_t       *ctx;
    ngx_http_vaani_result_e     result;
    ngx_http_vaani_loc_conf_t  *vlcf;

    *reason = VAANI_REASON_NONE;

    result = NGX_HTTP_VAANI_PENDING;

    ctx = ngx_http_get_module_ctx(r, ngx_http_vaani_module);

    if (ctx) {
        *reason = ctx->reason;

        if (ctx->result != NGX_HTTP_VAANI_PENDING || ctx->items) {
            return ctx->result;
        }

    } else {
        vlcf = ngx_http_get_module_loc_conf(r, ngx_http_vaani_module);

        if (!ngx_http_vaani_is_webhook(vlcf)) {
            return result;
        }
    }

    /* nginx answered before the endpoint got the body */

    status = r->err_status ? r->err_status : r->headers_out.status;

    if (status == NGX_HTTP_REQUEST_ENTITY_TOO_LARGE) {
        *reason = VAANI_REASON_BODY_TOO_LARGE;
        return NGX_HTTP_VAANI_REJECTED;
    }

    if (ctx && status >= NGX_HTTP_BAD_REQUEST) {
        *reason = VAANI_REASON_BODY_UNREADABLE;

        result = (status < NGX_HTTP_INTERNAL_SERVER_ERROR)
                 ? NGX_HTTP_VAANI_REJECTED : NGX_HTTP_VAANI_UNAVAILABLE;
    }

    return result;
}
