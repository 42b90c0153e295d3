
/*
 * Reads the request body into one piece, or discards it.
 */


#include "ngx_http_vaani.h"


/* Redis's default limit of an argument, proto-max-bulk-len */

#define NGX_HTTP_VAANI_MAX_BODY         (512 * 1024 * 1024)


static off_t ngx_http_vaani_body_size(ngx_http_request_t *r);


ngx_uint_t
ngx_http_vaani_body_is_gone(ngx_http_request_t *r)
{
    ngx_table_elt_t  *length;

    if (r != r->main || r->request_body) {
        return 0;
    }

    if (r->discard_body) {
        return 1;
    }

    /*
     * If nginx discards a body that has arrived completely, only the request
     * headers still show that there was one.
     */

    if (r->headers_in.content_length_n != 0) {
        return 0;
    }

    length = r->headers_in.content_length;

    return r->headers_in.chunked
           || (length && ngx_atoof(length->value.data, length->value.len) > 0);
}


/*
 * The minimum size of the body, as far as nginx has counted it.  In HTTP/2 and
 * 3 a body without a length is counted separately. -1: a part of it is unread.
 */

static off_t
ngx_http_vaani_body_size(ngx_http_request_t *r)
{
    off_t                     size;
    ngx_http_request_body_t  *rb;

    rb = r->request_body;
    size = r->headers_in.content_length_n;

    if (r->reading_body || r->discard_body) {

        /*
         * another handler started to read it unbuffered and stopped; freenginx
         * discards the rest
         */

        return -1;
    }

    if (size <= 0 && !r->headers_in.chunked) {
        return 0;
    }

    if (rb == NULL || !rb->last_saved) {

        /* for example, if it exceeds the limit of another location */

        return -1;
    }

    return ngx_max(size, rb->received);
}


/*
 * Most bodies are in one buffer and are used without a copy.
 */

ngx_int_t
ngx_http_vaani_get_body(ngx_http_request_t *r, ngx_str_t *body)
{
    off_t         size, expected;
    u_char       *p;
    ssize_t       n;
    ngx_buf_t    *b;
    ngx_chain_t  *cl;

    ngx_str_null(body);

    expected = ngx_http_vaani_body_size(r);

    if (expected < 0) {
        return NGX_DECLINED;
    }

    if (r->request_body == NULL || r->request_body->bufs == NULL) {
        return (expected > 0) ? NGX_DECLINED : NGX_OK;
    }

    cl = r->request_body->bufs;
    b = cl->buf;

    if (cl->next == NULL && !b->in_file) {
        body->data = b->pos;
        body->len = b->last - b->pos;

        if ((off_t) body->len < expected) {
            return NGX_DECLINED;
        }

        return (body->len > NGX_HTTP_VAANI_MAX_BODY)
               ? NGX_HTTP_REQUEST_ENTITY_TOO_LARGE : NGX_OK;
    }

    size = 0;

    for ( /* void */ ; cl; cl = cl->next) {
        size += ngx_buf_size(cl->buf);
    }

    if (size < expected) {
        return NGX_DECLINED;
    }

    if (size > NGX_HTTP_VAANI_MAX_BODY) {
        return NGX_HTTP_REQUEST_ENTITY_TOO_LARGE;
    }

    p = ngx_pnalloc(r->pool, size);

    if (p == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    body->data = p;
    body->len = size;

    for (cl = r->request_body->bufs; cl; cl = cl->next) {
        b = cl->buf;

        if (ngx_buf_in_memory(b)) {
            p = ngx_cpymem(p, b->pos, b->last - b->pos);
            continue;
        }

        if (!b->in_file) {
            /* the end of a chunked body */
            continue;
        }

        size = b->file_last - b->file_pos;

        n = ngx_read_file(b->file, p, size, b->file_pos);

        if (n != size) {
            ngx_log_error(NGX_LOG_CRIT, r->connection->log, 0,
                          "vaani: the temporary file of the request body has "
                          "%z bytes, expected %O", n, size);

            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        p += n;
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_vaani_discard_body(ngx_http_request_t *r)
{
    if (ngx_http_vaani_awaits_continue(r)) {

        /*
         * It is unknown whether the client will send the body, so the
         * connection cannot be used for another request.
         */

        r->expect_tested = 1;
        r->keepalive = 0;
    }

    return ngx_http_discard_request_body(r);
}


ngx_uint_t
ngx_http_vaani_awaits_continue(ngx_http_request_t *r)
{
    ngx_str_t  *expect;

    /*
     * HTTP/1.0 has no "100 Continue", and nginx never sends it in HTTP/2 and 3
     */

    if (r != r->main
        || r->headers_in.expect == NULL
        || r->expect_tested
        || r->http_version != NGX_HTTP_VERSION_11)
    {
        return 0;
    }

    expect = &r->headers_in.expect->value;

    return expect->len == sizeof("100-continue") - 1
           && ngx_strncasecmp(expect->data, (u_char *) "100-continue",
                              sizeof("100-continue") - 1)
              == 0;
}
