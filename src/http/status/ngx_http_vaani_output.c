
/*
 * An answer to a GET: a body that grows while it is printed.
 */


#include "ngx_http_vaani_output.h"


#define NGX_HTTP_VAANI_OUTPUT_BUFFER  8192

/* what one call of ngx_http_vaani_print() may write, bytes */

#define NGX_HTTP_VAANI_PRINT_MAX      1024


static void ngx_http_vaani_add_buf(ngx_http_vaani_output_t *out,
    ngx_buf_t *b);


ngx_int_t
ngx_http_vaani_begin(ngx_http_request_t *r, ngx_http_vaani_output_t *out)
{
    ngx_int_t            rc;
    ngx_str_t            no_store;

    static ngx_keyval_t  allow = {
        ngx_string("Allow"), ngx_string("GET, HEAD")
    };

    rc = ngx_http_discard_request_body(r);

    if (rc != NGX_OK) {
        return rc;
    }

    if (!(r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD))) {
        return ngx_http_vaani_refuse(r, NGX_HTTP_NOT_ALLOWED, &allow,
                                     "the method must be GET or HEAD", NULL);
    }

    ngx_str_set(&no_store, "no-store");

    if (ngx_http_vaani_add_header(r, "Cache-Control", &no_store) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_memzero(out, sizeof(ngx_http_vaani_output_t));

    out->pool = r->pool;
    out->last = &out->body;

    return NGX_DECLINED;
}


void
ngx_http_vaani_print(ngx_http_vaani_output_t *out, const char *fmt, ...)
{
    va_list  args;

    if (out->buf == NULL
        || out->buf->end - out->buf->last < NGX_HTTP_VAANI_PRINT_MAX)
    {
        ngx_http_vaani_add_buf(out,
              ngx_create_temp_buf(out->pool, NGX_HTTP_VAANI_OUTPUT_BUFFER));
    }

    if (out->failed) {
        return;
    }

    va_start(args, fmt);

    out->buf->last = ngx_vslprintf(out->buf->last,
                                   out->buf->last + NGX_HTTP_VAANI_PRINT_MAX,
                                   fmt, args);
    va_end(args);
}


void
ngx_http_vaani_print_escaped(ngx_http_vaani_output_t *out,
    const ngx_str_t *str)
{
    size_t  n;
    u_char  ch;

    for (n = 0; n < str->len; n++) {
        ch = str->data[n];

        if (ch == '"' || ch == '\\') {
            ngx_http_vaani_print(out, "\\%c", ch);

        } else {
            ngx_http_vaani_print(out, "%c",
                                 (ch >= 0x20 && ch < 0x7f) ? ch : '?');
        }
    }
}


void
ngx_http_vaani_print_static(ngx_http_vaani_output_t *out,
    const ngx_str_t *text)
{
    ngx_buf_t  *b;

    b = ngx_calloc_buf(out->pool);

    if (b) {
        b->pos = text->data;
        b->last = text->data + text->len;
        b->end = b->last;
        b->memory = 1;
    }

    ngx_http_vaani_add_buf(out, b);
}


/*
 * Appends a buffer, NULL if there was no memory for it.
 */

static void
ngx_http_vaani_add_buf(ngx_http_vaani_output_t *out, ngx_buf_t *b)
{
    ngx_chain_t  *cl;

    cl = ngx_alloc_chain_link(out->pool);

    if (b == NULL || cl == NULL) {
        out->failed = 1;
        return;
    }

    if (out->buf) {
        out->size += out->buf->last - out->buf->pos;
    }

    cl->buf = b;
    cl->next = NULL;

    *out->last = cl;
    out->last = &cl->next;
    out->buf = b;
}


ngx_int_t
ngx_http_vaani_send_output(ngx_http_request_t *r,
    ngx_http_vaani_output_t *out, ngx_uint_t status, ngx_str_t *type)
{
    ngx_int_t  rc;

    if (out->failed) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    out->buf->last_buf = (r == r->main) ? 1 : 0;
    out->buf->last_in_chain = 1;

    r->headers_out.status = status;
    r->headers_out.content_length_n = out->size
                                      + (out->buf->last - out->buf->pos);

    ngx_http_vaani_set_type(r, type);

    rc = ngx_http_send_header(r);

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        return rc;
    }

    return ngx_http_output_filter(r, out->body);
}
