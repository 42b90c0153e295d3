
/*
 * An answer for operators: only to GET and HEAD, never cached, with a body
 * that grows while it is printed.
 */


#ifndef _NGX_HTTP_VAANI_OUTPUT_H_INCLUDED_
#define _NGX_HTTP_VAANI_OUTPUT_H_INCLUDED_


#include "../ngx_http_vaani.h"


/*
 * The body, in memory of the request.  If memory runs out, the rest is
 * discarded, and "failed" is set.
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
 * Begins an answer: discards the request body, and initializes out.  Returns
 * NGX_DECLINED if the caller must print and send the answer.  Otherwise the
 * request has been answered; returns the code to finalize it with.
 */
ngx_int_t ngx_http_vaani_begin(ngx_http_request_t *r,
    ngx_http_vaani_output_t *out);

/*
 * Appends to the body, as ngx_sprintf(): 1024 bytes at most.
 */
void ngx_http_vaani_print(ngx_http_vaani_output_t *out, const char *fmt, ...);

/*
 * Appends a string of any length for JSON and Prometheus: quotes and
 * backslashes escaped, and a question mark for each byte that is not printable
 * ASCII.
 */
void ngx_http_vaani_print_escaped(ngx_http_vaani_output_t *out,
    const ngx_str_t *str);

/*
 * Appends text that lives as long as the module; it is not copied.
 */
void ngx_http_vaani_print_static(ngx_http_vaani_output_t *out,
    const ngx_str_t *text);

/*
 * Sends the printed body, with this status and media type.  Returns a code for
 * ngx_http_finalize_request().
 */
ngx_int_t ngx_http_vaani_send_output(ngx_http_request_t *r,
    ngx_http_vaani_output_t *out, ngx_uint_t status, ngx_str_t *type);


#endif /* _NGX_HTTP_VAANI_OUTPUT_H_INCLUDED_ */
