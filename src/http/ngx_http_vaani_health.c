
#include "ngx_http_vaani.h"


char *
ngx_http_vaani_health(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    return ngx_http_vaani_set_handler(cf, conf, ngx_http_vaani_health_handler);
}


/*
 * Whether an event would be answered 200 now, as far as this worker knows.
 */

ngx_int_t
ngx_http_vaani_health_handler(ngx_http_request_t *r)
{
    ngx_int_t                   rc;
    ngx_str_t                   no_store;
    ngx_uint_t                  up, down;
    ngx_http_vaani_loc_conf_t  *vlcf;

    static ngx_str_t  ok = ngx_string("{\"status\":\"ok\"}");
    static ngx_str_t  queueing = ngx_string("{\"status\":\"queueing\"}");
    static ngx_str_t  degraded = ngx_string("{\"status\":\"degraded\"}");
    static ngx_str_t  unavailable =
                               ngx_string("{\"status\":\"unavailable\"}");

    rc = ngx_http_vaani_get_only(r);

    if (rc != NGX_DECLINED) {
        return rc;
    }

    ngx_str_set(&no_store, "no-store");

    if (ngx_http_vaani_add_header(r, "Cache-Control", &no_store) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    vlcf = ngx_http_get_module_loc_conf(r, ngx_http_vaani_module);

    up = ngx_vaani_redis_up(vlcf->redis, &down);

    if (up && !down) {
        return ngx_http_vaani_send_status(r, NGX_HTTP_OK, &ok);
    }

    if (vlcf->spool && ngx_vaani_spool_takes(vlcf->spool)) {
        return ngx_http_vaani_send_status(r, NGX_HTTP_OK, &queueing);
    }

    /* another nginx could not do more, and most events are taken */

    if (up) {
        return ngx_http_vaani_send_status(r, NGX_HTTP_OK, &degraded);
    }

    return ngx_http_vaani_send_status(r, NGX_HTTP_SERVICE_UNAVAILABLE,
                                      &unavailable);
}


ngx_int_t
ngx_http_vaani_get_only(ngx_http_request_t *r)
{
    ngx_int_t  rc;
    ngx_str_t  allow, detail;

    rc = ngx_http_discard_request_body(r);

    if (rc != NGX_OK) {
        return rc;
    }

    if (r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD)) {
        return NGX_DECLINED;
    }

    ngx_str_set(&allow, "GET, HEAD");
    ngx_str_set(&detail, "the method must be GET or HEAD");

    if (ngx_http_vaani_add_header(r, "Allow", &allow) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_vaani_send_problem(r, NGX_HTTP_NOT_ALLOWED, &detail, NULL);
}
