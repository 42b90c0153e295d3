
#include "ngx_http_vaani.h"


static ngx_int_t ngx_http_vaani_variable_str(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_vaani_variable_core_str(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_vaani_variable_result(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_vaani_variable_redis_time(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_vaani_set_variable(ngx_http_variable_value_t *v,
    const u_char *data, size_t len);


static ngx_http_variable_t  ngx_http_vaani_variables[] = {

    { ngx_string("vaani_event"), NULL, ngx_http_vaani_variable_core_str,
      offsetof(ngx_http_vaani_ctx_t, event)
      + offsetof(vaani_event_t, name),
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("vaani_room"), NULL, ngx_http_vaani_variable_core_str,
      offsetof(ngx_http_vaani_ctx_t, event)
      + offsetof(vaani_event_t, room),
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("vaani_result"), NULL, ngx_http_vaani_variable_result,
      0, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("vaani_reason"), NULL, ngx_http_vaani_variable_str,
      offsetof(ngx_http_vaani_ctx_t, reason),
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("vaani_redis_time"), NULL,
      ngx_http_vaani_variable_redis_time,
      0, NGX_HTTP_VAR_NOCACHEABLE, 0 },

      ngx_http_null_variable
};


static ngx_str_t  ngx_http_vaani_results[] = {
    ngx_null_string,
    ngx_string("ok"),
    ngx_string("duplicate"),
    ngx_string("rejected"),
    ngx_string("unavailable")
};


ngx_int_t
ngx_http_vaani_add_variables(ngx_conf_t *cf)
{
    ngx_http_variable_t  *var, *v;

    for (v = ngx_http_vaani_variables; v->name.len; v++) {
        var = ngx_http_add_variable(cf, &v->name, v->flags);

        if (var == NULL) {
            return NGX_ERROR;
        }

        var->get_handler = v->get_handler;
        var->data = v->data;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_vaani_variable_str(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_str_t             *str;
    ngx_http_vaani_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_vaani_module);

    if (ctx == NULL) {
        v->not_found = 1;
        return NGX_OK;
    }

    str = (ngx_str_t *) ((u_char *) ctx + data);

    return ngx_http_vaani_set_variable(v, str->data, str->len);
}


static ngx_int_t
ngx_http_vaani_variable_core_str(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    vaani_str_t           *str;
    ngx_http_vaani_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_vaani_module);

    if (ctx == NULL) {
        v->not_found = 1;
        return NGX_OK;
    }

    str = (vaani_str_t *) ((u_char *) ctx + data);

    return ngx_http_vaani_set_variable(v, str->data, str->len);
}


static ngx_int_t
ngx_http_vaani_variable_result(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_str_t             *result;
    ngx_http_vaani_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_vaani_module);

    if (ctx == NULL) {
        v->not_found = 1;
        return NGX_OK;
    }

    result = &ngx_http_vaani_results[ctx->result];

    return ngx_http_vaani_set_variable(v, result->data, result->len);
}


/*
 * Seconds with three digits, as $upstream_response_time.
 */

static ngx_int_t
ngx_http_vaani_variable_redis_time(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    u_char                *p;
    ngx_msec_t             ms;
    ngx_http_vaani_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_vaani_module);

    if (ctx == NULL || !ctx->redis_asked) {
        v->not_found = 1;
        return NGX_OK;
    }

    p = ngx_pnalloc(r->pool, NGX_TIME_T_LEN + 4);

    if (p == NULL) {
        return NGX_ERROR;
    }

    ms = ctx->redis_answered ? ctx->redis_time
                             : ngx_current_msec - ctx->redis_start;

    return ngx_http_vaani_set_variable(v, p,
                  ngx_sprintf(p, "%T.%03M", (time_t) ms / 1000, ms % 1000) - p);
}


static ngx_int_t
ngx_http_vaani_set_variable(ngx_http_variable_value_t *v, const u_char *data,
    size_t len)
{
    if (len == 0) {
        v->not_found = 1;
        return NGX_OK;
    }

    v->data = (u_char *) data;
    v->len = len;
    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = 0;

    return NGX_OK;
}
