
/*
 * Responses: 200 answers, and problem documents for all others (RFC 9457).
 */


#include "ngx_http_vaani.h"


static ngx_int_t ngx_http_vaani_send(ngx_http_request_t *r,
    ngx_uint_t status, ngx_str_t *type, ngx_str_t *body);
static ngx_str_t *ngx_http_vaani_title(ngx_uint_t status);


static ngx_str_t  ngx_http_vaani_json_type = ngx_string("application/json");
static ngx_str_t  ngx_http_vaani_problem_type =
    ngx_string("application/problem+json");


/* the names of RFC 9110, section 15 */

static struct {
    ngx_uint_t  status;
    ngx_str_t   title;
} ngx_http_vaani_titles[] = {
    { NGX_HTTP_BAD_REQUEST, ngx_string("Bad Request") },
    { NGX_HTTP_UNAUTHORIZED, ngx_string("Unauthorized") },
    { NGX_HTTP_NOT_ALLOWED, ngx_string("Method Not Allowed") },
    { NGX_HTTP_UNSUPPORTED_MEDIA_TYPE, ngx_string("Unsupported Media Type") },
    { NGX_HTTP_VAANI_UNPROCESSABLE_CONTENT,
      ngx_string("Unprocessable Content") },
    { NGX_HTTP_SERVICE_UNAVAILABLE, ngx_string("Service Unavailable") },
    { 0, ngx_string("Internal Server Error") }
};


ngx_int_t
ngx_http_vaani_send_status(ngx_http_request_t *r, ngx_uint_t status,
    ngx_str_t *body)
{
    return ngx_http_vaani_send(r, status, &ngx_http_vaani_json_type, body);
}


ngx_int_t
ngx_http_vaani_refuse(ngx_http_request_t *r, ngx_uint_t status,
    ngx_keyval_t *header, char *detail, ngx_str_t *field)
{
    u_char     *p;
    ngx_int_t   rc;
    ngx_str_t   body, *title;

    rc = ngx_http_vaani_discard_body(r);

    if (rc != NGX_OK) {
        return rc;
    }

    if (header
        && ngx_http_vaani_add_header(r, (char *) header->key.data,
                                     &header->value)
           != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    title = ngx_http_vaani_title(status);

    body.len = sizeof("{\"type\":\"about:blank\",\"title\":\"\","
                      "\"status\":,\"detail\":\"\",\"field\":\"\"}\n") - 1
               + title->len + NGX_INT_T_LEN + (detail ? ngx_strlen(detail) : 0)
               + (field ? field->len : 0);

    body.data = ngx_pnalloc(r->pool, body.len);

    if (body.data == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    p = ngx_sprintf(body.data,
                    "{\"type\":\"about:blank\",\"title\":\"%V\","
                    "\"status\":%ui",
                    title, status);

    if (detail) {
        p = ngx_sprintf(p, ",\"detail\":\"%s\"", detail);
    }

    if (field) {
        p = ngx_sprintf(p, ",\"field\":\"%V\"", field);
    }

    *p++ = '}';
    *p++ = '\n';

    body.len = p - body.data;

    return ngx_http_vaani_send(r, status, &ngx_http_vaani_problem_type, &body);
}


static ngx_int_t
ngx_http_vaani_send(ngx_http_request_t *r, ngx_uint_t status, ngx_str_t *type,
    ngx_str_t *body)
{
    ngx_int_t     rc;
    ngx_buf_t    *b;
    ngx_chain_t   out;

    r->headers_out.status = status;
    r->headers_out.content_length_n = body->len;
    r->headers_out.content_type = *type;
    r->headers_out.content_type_len = type->len;
    r->headers_out.content_type_lowcase = NULL;

    if (status == NGX_HTTP_VAANI_UNPROCESSABLE_CONTENT) {

        /* nginx has no text for it */

        ngx_str_set(&r->headers_out.status_line, "422 Unprocessable Content");
    }

    rc = ngx_http_send_header(r);

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        return rc;
    }

    b = ngx_calloc_buf(r->pool);

    if (b == NULL) {
        return NGX_ERROR;
    }

    b->pos = body->data;
    b->last = body->data + body->len;
    b->memory = 1;
    b->last_buf = (r == r->main) ? 1 : 0;
    b->last_in_chain = 1;

    out.buf = b;
    out.next = NULL;

    return ngx_http_output_filter(r, &out);
}


/*
 * The length excludes the parameters: gzip and others compare the type by this
 * length, and add "charset" only if there are no parameters.
 */

void
ngx_http_vaani_set_type(ngx_http_request_t *r, ngx_str_t *type)
{
    u_char  *p;

    p = ngx_strlchr(type->data, type->data + type->len, ';');

    r->headers_out.content_type = *type;
    r->headers_out.content_type_len = p ? (size_t) (p - type->data) : type->len;
    r->headers_out.content_type_lowcase = NULL;
}


static ngx_str_t *
ngx_http_vaani_title(ngx_uint_t status)
{
    ngx_uint_t  n;

    for (n = 0; ngx_http_vaani_titles[n].status; n++) {
        if (ngx_http_vaani_titles[n].status == status) {
            break;
        }
    }

    return &ngx_http_vaani_titles[n].title;
}


ngx_int_t
ngx_http_vaani_add_header(ngx_http_request_t *r, char *name, ngx_str_t *value)
{
    ngx_table_elt_t  *h;

    h = ngx_list_push(&r->headers_out.headers);

    if (h == NULL) {
        return NGX_ERROR;
    }

    h->hash = 1;
    h->key.len = ngx_strlen(name);
    h->key.data = (u_char *) name;
    h->value = *value;

#if (nginx_version >= 1023000)
    h->next = NULL;
#endif

    return NGX_OK;
}
