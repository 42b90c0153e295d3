
/*
 * bench_null: reads the body and answers what an event is answered, 200 and
 * {"status":"ok"}, with the same headers.  What nginx needs for that is what an
 * endpoint can't be faster than.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>


static char *ngx_http_bench_null(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static ngx_int_t ngx_http_bench_null_handler(ngx_http_request_t *r);
static void ngx_http_bench_null_body_handler(ngx_http_request_t *r);


static ngx_command_t  ngx_http_bench_null_commands[] = {

    { ngx_string("bench_null"),
      NGX_HTTP_LOC_CONF|NGX_CONF_NOARGS,
      ngx_http_bench_null,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

      ngx_null_command
};


static ngx_http_module_t  ngx_http_bench_null_module_ctx = {
    NULL,                                  /* preconfiguration */
    NULL,                                  /* postconfiguration */

    NULL,                                  /* create main configuration */
    NULL,                                  /* init main configuration */

    NULL,                                  /* create server configuration */
    NULL,                                  /* merge server configuration */

    NULL,                                  /* create location configuration */
    NULL                                   /* merge location configuration */
};


ngx_module_t  ngx_http_bench_null_module = {
    NGX_MODULE_V1,
    &ngx_http_bench_null_module_ctx,       /* module context */
    ngx_http_bench_null_commands,          /* module directives */
    NGX_HTTP_MODULE,                       /* module type */
    NULL,                                  /* init master */
    NULL,                                  /* init module */
    NULL,                                  /* init process */
    NULL,                                  /* init thread */
    NULL,                                  /* exit thread */
    NULL,                                  /* exit process */
    NULL,                                  /* exit master */
    NGX_MODULE_V1_PADDING
};


static ngx_str_t  ngx_http_bench_null_type = ngx_string("application/json");
static ngx_str_t  ngx_http_bench_null_body = ngx_string("{\"status\":\"ok\"}");


static char *
ngx_http_bench_null(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);
    clcf->handler = ngx_http_bench_null_handler;

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_http_bench_null_handler(ngx_http_request_t *r)
{
    ngx_int_t  rc;

    /* as the endpoint does */
    r->request_body_in_single_buf = 1;

    rc = ngx_http_read_client_request_body(r, ngx_http_bench_null_body_handler);

    return (rc >= NGX_HTTP_SPECIAL_RESPONSE) ? rc : NGX_DONE;
}


static void
ngx_http_bench_null_body_handler(ngx_http_request_t *r)
{
    ngx_int_t     rc;
    ngx_buf_t    *b;
    ngx_chain_t   out;

    r->headers_out.status = NGX_HTTP_OK;
    r->headers_out.content_length_n = ngx_http_bench_null_body.len;
    r->headers_out.content_type = ngx_http_bench_null_type;
    r->headers_out.content_type_len = ngx_http_bench_null_type.len;

    rc = ngx_http_send_header(r);

    if (rc != NGX_OK || r->header_only) {
        ngx_http_finalize_request(r, rc);
        return;
    }

    b = ngx_calloc_buf(r->pool);

    if (b == NULL) {
        ngx_http_finalize_request(r, NGX_ERROR);
        return;
    }

    b->pos = ngx_http_bench_null_body.data;
    b->last = b->pos + ngx_http_bench_null_body.len;
    b->memory = 1;
    b->last_buf = 1;
    b->last_in_chain = 1;

    out.buf = b;
    out.next = NULL;

    ngx_http_finalize_request(r, ngx_http_output_filter(r, &out));
}
