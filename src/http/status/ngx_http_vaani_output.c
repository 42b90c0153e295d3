
#include "ngx_http_vaani_output.h"


/* room for what is printed, bytes */

#define NGX_HTTP_VAANI_PAGE_BUFFER  8192

/* what one call of ngx_http_vaani_print() may write, bytes */

#define NGX_HTTP_VAANI_PRINT_MAX    1024


static ngx_int_t ngx_http_vaani_grow(ngx_http_vaani_page_t *page);


ngx_int_t
ngx_http_vaani_get_only(ngx_http_request_t *r)
{
    ngx_int_t            rc;

    static ngx_keyval_t  allow = {
        ngx_string("Allow"), ngx_string("GET, HEAD")
    };

    rc = ngx_http_discard_request_body(r);

    if (rc != NGX_OK) {
        return rc;
    }

    if (r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD)) {
        return NGX_DECLINED;
    }

    return ngx_http_vaani_refuse(r, NGX_HTTP_NOT_ALLOWED, &allow,
                                 "the method must be GET or HEAD", NULL);
}


void
ngx_http_vaani_print(ngx_http_vaani_page_t *page, const char *fmt, ...)
{
    va_list  args;

    if ((page->buf == NULL
         || page->buf->end - page->buf->last < NGX_HTTP_VAANI_PRINT_MAX)
        && ngx_http_vaani_grow(page) != NGX_OK)
    {
        return;
    }

    va_start(args, fmt);

    page->buf->last = ngx_vslprintf(page->buf->last,
                                    page->buf->last + NGX_HTTP_VAANI_PRINT_MAX,
                                    fmt, args);
    va_end(args);
}


static ngx_int_t
ngx_http_vaani_grow(ngx_http_vaani_page_t *page)
{
    ngx_buf_t    *b;
    ngx_chain_t  *cl;

    b = ngx_create_temp_buf(page->pool, NGX_HTTP_VAANI_PAGE_BUFFER);
    cl = ngx_alloc_chain_link(page->pool);

    if (b == NULL || cl == NULL) {
        page->failed = 1;
        return NGX_ERROR;
    }

    if (page->buf) {
        page->size += page->buf->last - page->buf->pos;
    }

    cl->buf = b;
    cl->next = NULL;

    *page->last_out = cl;
    page->last_out = &cl->next;
    page->buf = b;

    return NGX_OK;
}


void
ngx_http_vaani_print_escaped(ngx_http_vaani_page_t *page, ngx_str_t *str)
{
    size_t  n;
    u_char  ch;

    for (n = 0; n < str->len; n++) {
        ch = str->data[n];

        if (ch == '"' || ch == '\\') {
            ngx_http_vaani_print(page, "\\%c", ch);

        } else {
            ngx_http_vaani_print(page, "%c",
                                 (ch >= 0x20 && ch < 0x7f) ? ch : '?');
        }
    }
}


ngx_int_t
ngx_http_vaani_send_page(ngx_http_request_t *r, ngx_http_vaani_page_t *page,
    ngx_str_t *type)
{
    ngx_int_t  rc;

    if (page->failed || page->buf == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    page->buf->last_buf = (r == r->main) ? 1 : 0;
    page->buf->last_in_chain = 1;

    r->headers_out.status = NGX_HTTP_OK;
    r->headers_out.content_length_n = page->size
                                      + (page->buf->last - page->buf->pos);

    ngx_http_vaani_set_type(r, type);

    rc = ngx_http_send_header(r);

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        return rc;
    }

    return ngx_http_output_filter(r, page->out);
}
