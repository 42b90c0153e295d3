
/*
 * An answer for operators: to GET and HEAD alone, and a body that grows while
 * it is printed.
 */


#ifndef _NGX_HTTP_VAANI_OUTPUT_H_INCLUDED_
#define _NGX_HTTP_VAANI_OUTPUT_H_INCLUDED_


#include "../ngx_http_vaani.h"


/*
 * A response that grows.  If there is no memory, what follows is dropped, and
 * "failed" is set.
 */

typedef struct {
    ngx_pool_t                 *pool;
    ngx_chain_t                *out;
    ngx_chain_t               **last_out;
    ngx_buf_t                  *buf;        /* the last one */
    off_t                       size;       /* of those before it */
    unsigned                    failed:1;
} ngx_http_vaani_page_t;


/*
 * Discards the body.  Returns NGX_DECLINED if the method is GET or HEAD, else
 * the request has been answered, and what it is to be finalized with.
 */
ngx_int_t ngx_http_vaani_get_only(ngx_http_request_t *r);

/*
 * Appends to the page, as ngx_sprintf().
 */
void ngx_http_vaani_print(ngx_http_vaani_page_t *page, const char *fmt, ...);

/*
 * Appends a string of any length for JSON and Prometheus: quotes and
 * backslashes escaped, and a question mark for what isn't printable ASCII.
 */
void ngx_http_vaani_print_escaped(ngx_http_vaani_page_t *page, ngx_str_t *str);

/*
 * Sends the page, of this media type.  Returns what
 * ngx_http_finalize_request() takes.
 */
ngx_int_t ngx_http_vaani_send_page(ngx_http_request_t *r,
    ngx_http_vaani_page_t *page, ngx_str_t *type);


#endif /* _NGX_HTTP_VAANI_OUTPUT_H_INCLUDED_ */
