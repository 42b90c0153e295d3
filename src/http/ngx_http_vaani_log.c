
/*
 * nginx ends a line of the error log with the request line, and the secret of
 * a webhook is in its URL. nginx logs that line by a function pointer of the
 * request, which is replaced here.
 */


#include "ngx_http_vaani.h"


/*
 * The buffer that a log handler gets and passes to the next one.  In Angie the
 * handler writes a property of the log instead.
 */

#if (NGX_VAANI_LOG_PROPERTIES)

typedef ngx_log_ext_handler_pt  ngx_http_vaani_log_pt;

#define NGX_HTTP_VAANI_LOG_PARAMS                                             \
    ngx_log_t *log, u_char *buf, u_char *last, void *data
#define NGX_HTTP_VAANI_LOG_ARGS     log, buf, last, data
#define NGX_HTTP_VAANI_LOG_REQUEST  (((ngx_http_log_ctx_t *) data)->request)

#else

typedef ngx_http_log_handler_pt  ngx_http_vaani_log_pt;

#define NGX_HTTP_VAANI_LOG_PARAMS                                             \
    ngx_http_request_t *request, ngx_http_request_t *sr, u_char *buf,         \
    size_t len
#define NGX_HTTP_VAANI_LOG_ARGS     request, sr, buf, len
#define NGX_HTTP_VAANI_LOG_REQUEST  request

#endif


static ngx_int_t ngx_http_vaani_post_read(ngx_http_request_t *r);
static ngx_int_t ngx_http_vaani_rewrite(ngx_http_request_t *r);
#if (NGX_VAANI_BODY_EARLY_READ)
static ngx_int_t ngx_http_vaani_before_body(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
#endif
static ngx_http_vaani_log_pt ngx_http_vaani_log_handler(
    ngx_http_request_t *r);
static u_char *ngx_http_vaani_log_located(NGX_HTTP_VAANI_LOG_PARAMS);
static u_char *ngx_http_vaani_log_path(NGX_HTTP_VAANI_LOG_PARAMS);
static u_char *ngx_http_vaani_log_method(NGX_HTTP_VAANI_LOG_PARAMS);
static u_char *ngx_http_vaani_log_masked(NGX_HTTP_VAANI_LOG_PARAMS,
    u_char *from);


/* nginx's handler */

static ngx_http_vaani_log_pt  ngx_http_vaani_next_log_handler;


#if (NGX_VAANI_BODY_EARLY_READ)

static ngx_str_t  ngx_http_vaani_before_body_name =
    ngx_string("$vaani_before_body");

#endif


ngx_int_t
ngx_http_vaani_init_log(ngx_conf_t *cf)
{
    ngx_http_vaani_main_conf_t  *vmcf;

    vmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_vaani_module);

    if (vmcf->redis.nelts == 0) {
        return NGX_OK;
    }

    if (ngx_http_vaani_add_phase(cf, NGX_HTTP_POST_READ_PHASE,
                                 ngx_http_vaani_post_read)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_http_vaani_add_phase(cf, NGX_HTTP_REWRITE_PHASE,
                                    ngx_http_vaani_rewrite);
}


/*
 * With "client_body_early_read", nginx reads the body before the first phase,
 * and can log errors there.  Only the conditions of that directive are
 * evaluated earlier.  Therefore a condition that is never true is put in front
 * of them.
 */

ngx_int_t
ngx_http_vaani_mask_early(ngx_conf_t *cf)
{
#if (NGX_VAANI_BODY_EARLY_READ)

    ngx_str_t                          name;
    ngx_uint_t                         n;
    ngx_array_t                       *conditions;
    ngx_http_variable_t               *var;
    ngx_http_complex_value_t          *cv, *old;
    ngx_http_core_srv_conf_t          *cscf;
    ngx_http_compile_complex_value_t   ccv;

    cscf = ngx_http_conf_get_module_srv_conf(cf, ngx_http_core_module);

    if (cscf->client_body_early_read == NULL
        || cscf->client_body_early_read->nelts == 0)
    {
        return NGX_OK;
    }

    old = cscf->client_body_early_read->elts;

    if (old[0].value.data == ngx_http_vaani_before_body_name.data) {
        return NGX_OK;
    }

    name = ngx_http_vaani_before_body_name;
    name.data++;
    name.len--;

    var = ngx_http_add_variable(cf, &name, NGX_HTTP_VAR_CHANGEABLE
                                           |NGX_HTTP_VAR_NOCACHEABLE);
    if (var == NULL) {
        return NGX_ERROR;
    }

    var->get_handler = ngx_http_vaani_before_body;

    /* the array may be shared with other servers */

    conditions = ngx_array_create(cf->pool,
                                  cscf->client_body_early_read->nelts + 1,
                                  sizeof(ngx_http_complex_value_t));
    if (conditions == NULL) {
        return NGX_ERROR;
    }

    cv = ngx_array_push_n(conditions, cscf->client_body_early_read->nelts + 1);
    if (cv == NULL) {
        return NGX_ERROR;
    }

    ngx_memzero(&ccv, sizeof(ngx_http_compile_complex_value_t));

    ccv.cf = cf;
    ccv.value = &ngx_http_vaani_before_body_name;
    ccv.complex_value = &cv[0];

    if (ngx_http_compile_complex_value(&ccv) != NGX_OK) {
        return NGX_ERROR;
    }

    for (n = 0; n < cscf->client_body_early_read->nelts; n++) {
        cv[n + 1] = old[n];
    }

    cscf->client_body_early_read = conditions;

#endif

    return NGX_OK;
}


#if (NGX_VAANI_BODY_EARLY_READ)

static ngx_int_t
ngx_http_vaani_before_body(ngx_http_request_t *r, ngx_http_variable_value_t *v,
    uintptr_t data)
{
    /* before the first phase only: a log format may contain the variable */

    if (r->phase_handler == 0 && r == r->main && !r->internal
        && r->log_handler != ngx_http_vaani_log_located
        && r->log_handler != ngx_http_vaani_log_method)
    {
        /* the location is unknown: its path may contain a token */

        ngx_http_vaani_next_log_handler = r->log_handler;
        r->log_handler = ngx_http_vaani_log_method;
    }

    v->not_found = 1;

    return NGX_OK;
}

#endif


/*
 * nginx logs a body that is too long as soon as the location is known, before
 * any handler of the location runs.
 */

static ngx_int_t
ngx_http_vaani_post_read(ngx_http_request_t *r)
{
#if (NGX_VAANI_BODY_EARLY_READ)

    if (r->log_handler == ngx_http_vaani_log_method) {
        r->log_handler = ngx_http_vaani_log_located;
        return NGX_DECLINED;
    }

#endif

    ngx_http_vaani_next_log_handler = r->log_handler;
    r->log_handler = ngx_http_vaani_log_located;

    return NGX_DECLINED;
}


/*
 * An error page may be in another location.  Therefore the handler does not
 * change after this phase.
 */

static ngx_int_t
ngx_http_vaani_rewrite(ngx_http_request_t *r)
{
    if (r->log_handler == ngx_http_vaani_log_located) {
        r->log_handler = ngx_http_vaani_log_handler(r);
    }

    return NGX_DECLINED;
}


static ngx_http_vaani_log_pt
ngx_http_vaani_log_handler(ngx_http_request_t *r)
{
    ngx_http_vaani_loc_conf_t  *vlcf;

    vlcf = ngx_http_get_module_loc_conf(r, ngx_http_vaani_module);

    if (!ngx_http_vaani_is_webhook(vlcf)) {
        return ngx_http_vaani_log_located;
    }

    /* a rewrite may have moved arguments into the path */

    return (vlcf->token_in_uri || (vlcf->token && !r->valid_unparsed_uri))
           ? ngx_http_vaani_log_method : ngx_http_vaani_log_path;
}


static u_char *
ngx_http_vaani_log_located(NGX_HTTP_VAANI_LOG_PARAMS)
{
    ngx_http_request_t     *r;
    ngx_http_vaani_log_pt   handler;

    r = NGX_HTTP_VAANI_LOG_REQUEST;
    handler = ngx_http_vaani_log_handler(r);

    if (handler == ngx_http_vaani_log_located) {
        return ngx_http_vaani_next_log_handler(NGX_HTTP_VAANI_LOG_ARGS);
    }

    r->log_handler = handler;

    return handler(NGX_HTTP_VAANI_LOG_ARGS);
}


static u_char *
ngx_http_vaani_log_path(NGX_HTTP_VAANI_LOG_PARAMS)
{
    u_char              *args;
    ngx_http_request_t  *r;

    r = NGX_HTTP_VAANI_LOG_REQUEST;

    args = ngx_strlchr(r->request_line.data,
                       r->request_line.data + r->request_line.len, '?');

    return ngx_http_vaani_log_masked(NGX_HTTP_VAANI_LOG_ARGS, args);
}


static u_char *
ngx_http_vaani_log_method(NGX_HTTP_VAANI_LOG_PARAMS)
{
    u_char              *target;
    ngx_http_request_t  *r;

    r = NGX_HTTP_VAANI_LOG_REQUEST;

    target = ngx_strlchr(r->request_line.data,
                         r->request_line.data + r->request_line.len, ' ');

    return ngx_http_vaani_log_masked(NGX_HTTP_VAANI_LOG_ARGS, target);
}


/*
 * Logs the request line without the part between "from" and the version.
 */

static u_char *
ngx_http_vaani_log_masked(NGX_HTTP_VAANI_LOG_PARAMS, u_char *from)
{
    u_char              *p, *end, *version;
    ngx_str_t            line;
    ngx_http_request_t  *r;
    u_char               masked[NGX_MAX_ERROR_STR];

    if (from == NULL) {
        return ngx_http_vaani_next_log_handler(NGX_HTTP_VAANI_LOG_ARGS);
    }

    r = NGX_HTTP_VAANI_LOG_REQUEST;

    line = r->request_line;
    end = line.data + line.len;

    from++;

    for (version = end; version > from && version[-1] != ' '; version--) {
        /* void */
    }

    p = ngx_slprintf(masked, masked + sizeof(masked), "%*s***",
                     (size_t) (from - line.data), line.data);

    if (version > from) {
        p = ngx_slprintf(p, masked + sizeof(masked), " %*s",
                         (size_t) (end - version), version);
    }

    r->request_line.data = masked;
    r->request_line.len = p - masked;

    p = ngx_http_vaani_next_log_handler(NGX_HTTP_VAANI_LOG_ARGS);

    r->request_line = line;

    return p;
}
