
/*
 * What the files of src/http and the module's front door share.
 */


#ifndef _NGX_HTTP_VAANI_H_INCLUDED_
#define _NGX_HTTP_VAANI_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "../core/vaani_transition.h"
#include "../redis/ngx_vaani_redis.h"


#define NGX_HTTP_VAANI_STRICT           0
#define NGX_HTTP_VAANI_LENIENT          1

#define NGX_HTTP_VAANI_ACCEPT           0
#define NGX_HTTP_VAANI_REJECT           1


typedef struct {
    ngx_array_t                 redis;      /* of ngx_vaani_redis_t * */
} ngx_http_vaani_main_conf_t;


typedef struct {
    ngx_flag_t                  webhook;

    ngx_vaani_redis_url_t      *redis_url;
    ngx_str_t                   redis_url_file;     /* where it was set */
    ngx_uint_t                  redis_url_line;
    ngx_str_t                   redis_password;
    ngx_msec_t                  redis_connect_timeout;
    ngx_msec_t                  redis_timeout;
    ngx_uint_t                  redis_connections;

    ngx_vaani_redis_t          *redis;              /* made of these */

    ngx_http_complex_value_t   *prefix;
    ngx_array_t                *channels;   /* of ngx_http_complex_value_t */
    ngx_http_complex_value_t   *stream;
    ngx_uint_t                  stream_maxlen;      /* 0: any */
    ngx_msec_t                  ttl;                /* 0: never */

    ngx_uint_t                  validation;
    ngx_uint_t                  unknown_event;
} ngx_http_vaani_loc_conf_t;


/*
 * How a request ended, $vaani_result.
 */

typedef enum {
    NGX_HTTP_VAANI_PENDING = 0,
    NGX_HTTP_VAANI_OK,
    NGX_HTTP_VAANI_DUPLICATE,
    NGX_HTTP_VAANI_REJECTED,
    NGX_HTTP_VAANI_UNAVAILABLE
} ngx_http_vaani_result_e;


typedef struct {
    ngx_http_request_t         *request;
    ngx_vaani_redis_cmd_t      *cmd;        /* NULL: none is under way */
    vaani_alloc_t               alloc;      /* of the request's pool */

    ngx_http_vaani_result_e     result;
    ngx_str_t                   reason;     /* one word, static */

    ngx_str_t                   id;         /* of the delivery, a header */
    ngx_str_t                   body;
    ngx_str_t                   key;        /* of the call's hash */
    vaani_event_t               event;

    ngx_msec_t                  redis_start;
    ngx_msec_t                  redis_time;         /* ms */
    unsigned                    redis_asked:1;
    unsigned                    redis_answered:1;
} ngx_http_vaani_ctx_t;


extern ngx_module_t  ngx_http_vaani_module;


/* ngx_http_vaani_handler.c: the content handler of a webhook location */

ngx_int_t ngx_http_vaani_handler(ngx_http_request_t *r);


/*
 * ngx_http_vaani_headers.c
 *
 * Checks the media type and the coding of the body, and finds the delivery
 * id.  Returns NGX_OK, or NGX_DECLINED with *reason and *detail set to static
 * texts.
 */

ngx_int_t ngx_http_vaani_read_headers(ngx_http_request_t *r,
    ngx_http_vaani_ctx_t *ctx, ngx_str_t *reason, char **detail);


/*
 * ngx_http_vaani_delivery.c
 *
 * Sends the event of ctx to Redis; ctx->key is set.  handler is called with
 * ctx when it is through, unless ctx->cmd was detached.  Returns
 * NGX_VAANI_REDIS_DONE, or why it could not be sent.
 */

ngx_vaani_redis_status_e ngx_http_vaani_deliver(ngx_http_request_t *r,
    ngx_http_vaani_ctx_t *ctx, ngx_vaani_redis_handler_pt handler);


/*
 * ngx_http_vaani_response.c
 *
 * Both send a whole response and return what ngx_http_finalize_request()
 * takes.
 */

ngx_int_t ngx_http_vaani_send_status(ngx_http_request_t *r,
    ngx_str_t *body);

/*
 * Sends "application/problem+json" (RFC 9457).  detail is plain ASCII without
 * quotes; field is a member of the body for a 422, else NULL.
 */
ngx_int_t ngx_http_vaani_send_problem(ngx_http_request_t *r,
    ngx_uint_t status, ngx_str_t *detail, ngx_str_t *field);

/*
 * Adds a header to the response.  Returns NGX_OK or NGX_ERROR.
 */
ngx_int_t ngx_http_vaani_add_header(ngx_http_request_t *r, char *name,
    ngx_str_t *value);


/* ngx_http_vaani_variables.c: $vaani_event and the others */

ngx_int_t ngx_http_vaani_add_variables(ngx_conf_t *cf);


#endif /* _NGX_HTTP_VAANI_H_INCLUDED_ */
