
#include "ngx_http_vaani.h"


/* what Redis takes as one argument by default, proto-max-bulk-len */

#define NGX_HTTP_VAANI_MAX_BODY         (512 * 1024 * 1024)


/*
 * Most bodies are in one buffer and are used where they are.
 */

ngx_int_t
ngx_http_vaani_get_body(ngx_http_request_t *r, ngx_str_t *body)
{
    off_t         size;
    u_char       *p;
    ssize_t       n;
    ngx_buf_t    *b;
    ngx_chain_t  *cl;

    ngx_str_null(body);

    if (r->reading_body || r->discard_body) {

        /*
         * another handler had it, without buffering, and left off; freenginx
         * discards the rest
         */

        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "vaani: the body was read only in part before an "
                      "internal redirect");

        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (r->request_body == NULL || r->request_body->bufs == NULL) {
        return NGX_OK;
    }

    cl = r->request_body->bufs;
    b = cl->buf;

    if (cl->next == NULL && !b->in_file) {
        body->data = b->pos;
        body->len = b->last - b->pos;

        return (body->len > NGX_HTTP_VAANI_MAX_BODY)
               ? NGX_HTTP_REQUEST_ENTITY_TOO_LARGE : NGX_OK;
    }

    size = 0;

    for ( /* void */ ; cl; cl = cl->next) {
        size += ngx_buf_size(cl->buf);
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
            /* the mark at the end of a chunked body */
            continue;
        }

        size = b->file_last - b->file_pos;

        n = ngx_read_file(b->file, p, size, b->file_pos);

        if (n != size) {
            ngx_log_error(NGX_LOG_CRIT, r->connection->log, 0,
                          "vaani: the temporary file of the body has %z bytes "
                          "instead of %O", n, size);

            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        p += n;
    }

    return NGX_OK;
}
