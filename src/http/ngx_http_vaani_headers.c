
#include "ngx_http_vaani.h"


static ngx_uint_t ngx_http_vaani_is_header(ngx_table_elt_t *h, u_char *name,
    size_t len);
static char *ngx_http_vaani_check_type(ngx_str_t *value);
static u_char *ngx_http_vaani_skip_token(u_char *p, u_char *last);
static u_char *ngx_http_vaani_skip_space(u_char *p, u_char *last);
static ngx_uint_t ngx_http_vaani_is(u_char *first, u_char *last, char *str);
static char *ngx_http_vaani_check_parameters(u_char *p, u_char *last);


#define ngx_http_vaani_header(h, name)                                        \
    ngx_http_vaani_is_header(h, (u_char *) name, sizeof(name) - 1)


ngx_int_t
ngx_http_vaani_read_headers(ngx_http_request_t *r, ngx_http_vaani_ctx_t *ctx,
    ngx_str_t *reason, char **detail)
{
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    part = &r->headers_in.headers.part;
    h = part->elts;

    for (i = 0; /* void */ ; i++) {

        if (i >= part->nelts) {

            if (part->next == NULL) {
                break;
            }

            part = part->next;
            h = part->elts;
            i = 0;
        }

        if (ngx_http_vaani_header(&h[i], "content-type")) {
            *detail = ngx_http_vaani_check_type(&h[i].value);

            if (*detail) {
                ngx_str_set(reason, "content_type");
                return NGX_DECLINED;
            }

        } else if (ngx_http_vaani_header(&h[i], "content-encoding")) {

            if (h[i].value.len
                && (h[i].value.len != 8
                    || ngx_strncasecmp(h[i].value.data,
                                       (u_char *) "identity", 8)
                       != 0))
            {
                ngx_str_set(reason, "content_encoding");
                *detail = "the body must not have a content coding";
                return NGX_DECLINED;
            }

        } else if (ngx_http_vaani_header(&h[i], "webhook-id")) {
            ctx->id = h[i].value;
        }
    }

    return NGX_OK;
}


void
ngx_http_vaani_find_header(ngx_http_request_t *r, char *name, ngx_str_t *value)
{
    size_t            len;
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    ngx_str_null(value);

    len = ngx_strlen(name);

    for (part = &r->headers_in.headers.part; part; part = part->next) {
        h = part->elts;

        for (i = 0; i < part->nelts; i++) {

            if (ngx_http_vaani_is_header(&h[i], (u_char *) name, len)) {
                *value = h[i].value;
                return;
            }
        }
    }
}


static ngx_uint_t
ngx_http_vaani_is_header(ngx_table_elt_t *h, u_char *name, size_t len)
{
    return h->key.len == len && ngx_strncmp(h->lowcase_key, name, len) == 0;
}


/*
 * media-type = type "/" subtype parameters (RFC 9110, section 8.3.1).  Returns
 * NULL or what is wrong.
 */

static char *
ngx_http_vaani_check_type(ngx_str_t *value)
{
    u_char  *type, *slash, *subtype, *p, *last;

    /* as nearly all senders have it */

    if (value->len == sizeof("application/json") - 1
        && ngx_memcmp(value->data, "application/json", value->len) == 0)
    {
        return NULL;
    }

    type = value->data;
    last = type + value->len;

    slash = ngx_http_vaani_skip_token(type, last);

    if (slash == last || *slash != '/') {
        return "the media type must be application/json";
    }

    subtype = slash + 1;
    p = ngx_http_vaani_skip_token(subtype, last);

    if (!ngx_http_vaani_is(type, slash, "application")
        || (!ngx_http_vaani_is(subtype, p, "json")
            && (p - subtype <= 5
                || !ngx_http_vaani_is(p - 5, p, "+json"))))
    {
        return "the media type must be application/json";
    }

    return ngx_http_vaani_check_parameters(p, last);
}


/*
 * parameters = *( OWS ";" OWS [ token "=" ( token / quoted-string ) ] ), RFC
 * 9110, section 5.6.6
 */

static char *
ngx_http_vaani_check_parameters(u_char *p, u_char *last)
{
    u_char  *name, *equals, *value, *end;

    for ( ;; ) {
        p = ngx_http_vaani_skip_space(p, last);

        if (p == last) {
            return NULL;
        }

        if (*p != ';') {
            return "the media type is malformed";
        }

        name = ngx_http_vaani_skip_space(p + 1, last);
        equals = ngx_http_vaani_skip_token(name, last);

        if (equals == name) {
            p = name;
            continue;
        }

        if (equals == last || *equals != '=') {
            return "the media type is malformed";
        }

        value = equals + 1;

        if (value < last && *value == '"') {
            value++;

            for (end = value; end < last && *end != '"'; end++) {
                if (*end == '\\' && end + 1 < last) {
                    end++;
                }
            }

            if (end == last) {
                return "the media type is malformed";
            }

            p = end + 1;

        } else {
            end = ngx_http_vaani_skip_token(value, last);
            p = end;
        }

        if (ngx_http_vaani_is(name, equals, "charset")
            && !ngx_http_vaani_is(value, end, "utf-8"))
        {
            return "the charset must be UTF-8";
        }
    }
}


static u_char *
ngx_http_vaani_skip_token(u_char *p, u_char *last)
{
    /* RFC 9110, section 5.6.2: what isn't a delimiter */

    while (p < last && *p > 0x20 && *p < 0x7f
           && ngx_strchr("\"(),/:;<=>?@[\\]{}", *p) == NULL)
    {
        p++;
    }

    return p;
}


static u_char *
ngx_http_vaani_skip_space(u_char *p, u_char *last)
{
    while (p < last && (*p == ' ' || *p == '\t')) {
        p++;
    }

    return p;
}


static ngx_uint_t
ngx_http_vaani_is(u_char *first, u_char *last, char *str)
{
    size_t  len;

    len = ngx_strlen(str);

    return (size_t) (last - first) == len
           && ngx_strncasecmp(first, (u_char *) str, len) == 0;
}
