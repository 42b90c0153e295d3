
/*
 * An answer for operators: to GET and HEAD alone, never cached, with a body
 * that grows while it is printed.
 */


#ifndef _NGX_HTTP_VAANI_OUTPUT_H_INCLUDED_
#define _NGX_HTTP_VAANI_OUTPUT_H_INCLUDED_


#include "../ngx_http_vaani.h"


/*
 * The body, in memory of the request.  If there is no more, what follows is
 * dropped, and "failed" is set.
 */

typedef struct {
    ngx_pool_t                 *pool;
    ngx_chain_t                *body;
    ngx_chain_t               **last;
    ngx_buf_t                  *buf;        /* the last one */
    off_t                       size;       /* of those before it */
    unsigned                    failed:1;
} ngx_http_vaani_output_t;


/*
 * Begins an answer: discards the body of the request, and initializes out.
 * Returns NGX_DECLINED if it is to be printed and sent; else the request has
 * been answered, and what it is to be finalized with.
 */
ngx_int_t ngx_http_vaani_begin(ngx_http_request_t *r,
    ngx_http_vaani_output_t *out);

/*
 * Appends to the body, as ngx_sprintf(): 1024 bytes at most.
 */
void ngx_http_vaani_print(ngx_http_vaani_output_t *out, const char *fmt, ...);

/*
 * Appends a string of any length for JSON and Prometheus: quotes and
 * backslashes escaped, and a question mark for what isn't printable ASCII.
 */
void ngx_http_vaani_print_escaped(ngx_http_vaani_output_t *out,
    const ngx_str_t *str);

/*
 * Appends text that lives as long as the module; it isn't copied.
 */
void ngx_http_vaani_print_static(ngx_http_vaani_output_t *out,
    const ngx_str_t *text);

/*
 * Sends what was printed, with this status and media type.  Returns what
 * ngx_http_finalize_request() takes.
 */
ngx_int_t ngx_http_vaani_send_output(ngx_http_request_t *r,
    ngx_http_vaani_output_t *out, ngx_uint_t status, ngx_str_t *type);


#endif /* _NGX_HTTP_VAANI_OUTPUT_H_INCLUDED_ */
