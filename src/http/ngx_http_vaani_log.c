
/*
 * nginx ends a line of the error log with the request line, and the secret of
 * a webhook is in its URL.  What logs that line is a function of the request,
 * which is replaced here.
 */


#include "ngx_http_vaani.h"


static ngx_int_t ngx_http_vaani_post_read(ngx_http_request_t *r);
static ngx_int_t ngx_http_vaani_rewrite(ngx_http_request_t *r);
static ngx_http_log_handler_pt ngx_http_vaani_log_handler(
    ngx_http_request_t *r);
static u_char *ngx_http_vaani_log_located(ngx_http_request_t *r,
    ngx_http_request_t *sr, u_char *buf, size_t len);
static u_char *ngx_http_vaani_log_path(ngx_http_request_t *r,
    ngx_http_request_t *sr, u_char *buf, size_t len);
static u_char *ngx_http_vaani_log_method(ngx_http_request_t *r,
    ngx_http_request_t *sr, u_char *buf, size_t len);
static u_char *ngx_http_vaani_log_masked(ngx_http_request_t *r,
    ngx_http_request_t *sr, u_char *buf, size_t len, u_char *from);


/* that of nginx */

static ngx_http_log_handler_pt  ngx_http_vaani_next_log_handler;


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
 * A body that is too long is logged as soon as the location is known, before
 * any handler of it.
 */

static ngx_int_t
ngx_http_vaani_post_read(ngx_http_request_t *r)
{
    ngx_http_vaani_next_log_handler = r->log_handler;
    r->log_handler = ngx_http_vaani_log_located;

    return NGX_DECLINED;
}


/*
 * An error page may be of another location: from here on it stays as it is.
 */

static ngx_int_t
ngx_http_vaani_rewrite(ngx_http_request_t *r)
{
    if (r->log_handler == ngx_http_vaani_log_located) {
        r->log_handler = ngx_http_vaani_log_handler(r);
    }

    return NGX_DECLINED;
}


static ngx_http_log_handler_pt
ngx_http_vaani_log_handler(ngx_http_request_t *r)
{
    ngx_http_vaani_loc_conf_t  *vlcf;

    vlcf = ngx_http_get_module_loc_conf(r, ngx_http_vaani_module);

    if (vlcf->handler != ngx_http_vaani_handler) {
        return ngx_http_vaani_log_located;
    }

    /* a rewrite may have made arguments of the path */

    return (vlcf->token_in_uri || (vlcf->token && !r->valid_unparsed_uri))
           ? ngx_http_vaani_log_method : ngx_http_vaani_log_path;
}


static u_char *
ngx_http_vaani_log_located(ngx_http_request_t *r, ngx_http_request_t *sr,
    u_char *buf, size_t len)
{
    ngx_http_log_handler_pt  handler;

    handler = ngx_http_vaani_log_handler(r);

    if (handler == ngx_http_vaani_log_located) {
        return ngx_http_vaani_next_log_handler(r, sr, buf, len);
    }

    r->log_handler = handler;

    return handler(r, sr, buf, len);
}


static u_char *
ngx_http_vaani_log_path(ngx_http_request_t *r, ngx_http_request_t *sr,
    u_char *buf, size_t len)
{
    u_char  *args;

    args = ngx_strlchr(r->request_line.data,
                       r->request_line.data + r->request_line.len, '?');

    return ngx_http_vaani_log_masked(r, sr, buf, len, args);
}


static u_char *
ngx_http_vaani_log_method(ngx_http_request_t *r, ngx_http_request_t *sr,
    u_char *buf, size_t len)
{
    u_char  *target;

    target = ngx_strlchr(r->request_line.data,
                         r->request_line.data + r->request_line.len, ' ');

    return ngx_http_vaani_log_masked(r, sr, buf, len, target);
}


/*
 * Logs the request line without what is between "from" and the version.
 */

static u_char *
ngx_http_vaani_log_masked(ngx_http_request_t *r, ngx_http_request_t *sr,
    u_char *buf, size_t len, u_char *from)
{
    u_char     *p, *last, *version;
    ngx_str_t   line;
    u_char      masked[NGX_MAX_ERROR_STR];

    if (from == NULL) {
        return ngx_http_vaani_next_log_handler(r, sr, buf, len);
    }

    line = r->request_line;
    last = line.data + line.len;

    from++;

    for (version = last; version > from && version[-1] != ' '; version--) {
        /* void */
    }

    p = ngx_slprintf(masked, masked + sizeof(masked), "%*s***",
                     (size_t) (from - line.data), line.data);

    if (version > from) {
        p = ngx_slprintf(p, masked + sizeof(masked), " %*s",
                         (size_t) (last - version), version);
    }

    r->request_line.data = masked;
    r->request_line.len = p - masked;

    p = ngx_http_vaani_next_log_handler(r, sr, buf, len);

    r->request_line = line;

    return p;
}
