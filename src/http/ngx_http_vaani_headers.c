
/*
 * Checks the request headers Content-Type, Content-Encoding and Webhook-Id.
 */


#include "ngx_http_vaani.h"


static ngx_uint_t ngx_http_vaani_is_header(ngx_table_elt_t *h, u_char *name,
    size_t len);
static char *ngx_http_vaani_unsupported(ngx_http_vaani_ctx_t *ctx,
    vaani_reason_e reason, char *detail);
static char *ngx_http_vaani_check_type(ngx_str_t *value, ngx_uint_t lenient);
static u_char *ngx_http_vaani_skip_token(u_char *p, u_char *last);
static u_char *ngx_http_vaani_skip_space(u_char *p, u_char *last);
static ngx_uint_t ngx_http_vaani_is(u_char *first, u_char *last, char *str);
static ngx_uint_t ngx_http_vaani_is_one_of(u_char *first, u_char *last,
    char **strs);
static char *ngx_http_vaani_check_parameters(u_char *p, u_char *last,
    ngx_uint_t lenient);


/* values that senders use for a body without a content coding */

static char  *ngx_http_vaani_codings[] = {
    "", "identity", "none", "utf-8", NULL
};

static char  *ngx_http_vaani_charsets[] = {
    "utf-8", "utf8", "us-ascii", "ascii", NULL
};


#define ngx_http_vaani_header(h, name)                                        \
    ngx_http_vaani_is_header(h, (u_char *) name, sizeof(name) - 1)


char *
ngx_http_vaani_read_headers(ngx_http_request_t *r, ngx_http_vaani_ctx_t *ctx)
{
    char                       *detail;
    ngx_uint_t                  i, lenient;
    ngx_list_part_t            *part;
    ngx_table_elt_t            *h;
    ngx_http_vaani_loc_conf_t  *vlcf;

    vlcf = ngx_http_get_module_loc_conf(r, ngx_http_vaani_module);

    lenient = (vlcf->validation == NGX_HTTP_VAANI_LENIENT);

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

            /* an authenticated sender is not a page in a browser */

            if (lenient && vlcf->auth != NGX_HTTP_VAANI_AUTH_OFF) {
                continue;
            }

            detail = ngx_http_vaani_check_type(&h[i].value, lenient);

            if (detail) {
                return ngx_http_vaani_unsupported(ctx,
                                                  VAANI_REASON_CONTENT_TYPE,
                                                  detail);
            }

        } else if (ngx_http_vaani_header(&h[i], "content-encoding")) {

            if (!ngx_http_vaani_is_one_of(h[i].value.data,
                                          h[i].value.data + h[i].value.len,
                                          ngx_http_vaani_codings))
            {
                return ngx_http_vaani_unsupported(ctx,
                                     VAANI_REASON_CONTENT_ENCODING,
                                     "the body must not have a content coding");
            }

        } else if (ngx_http_vaani_header(&h[i], "webhook-id")) {
            ctx->id = h[i].value;
        }
    }

    return NULL;
}


static char *
ngx_http_vaani_unsupported(ngx_http_vaani_ctx_t *ctx, vaani_reason_e reason,
    char *detail)
{
    ctx->result = NGX_HTTP_VAANI_REJECTED;
    ctx->reason = reason;

    return detail;
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
 * NULL or the error.
 */

static char *
ngx_http_vaani_check_type(ngx_str_t *value, ngx_uint_t lenient)
{
    u_char  *type, *slash, *subtype, *p, *last;

    /* the form of nearly all senders */

    if (value->len == sizeof("application/json") - 1
        && ngx_memcmp(value->data, "application/json", value->len) == 0)
    {
        return NULL;
    }

    if (value->len == 0) {
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

    if ((!ngx_http_vaani_is(type, slash, "application")
         || (!ngx_http_vaani_is(subtype, p, "json")
             && (p - subtype <= 5
                 || !ngx_http_vaani_is(p - 5, p, "+json"))))
        && (!lenient
            || !ngx_http_vaani_is(type, slash, "text")
            || !ngx_http_vaani_is(subtype, p, "json")))
    {
        return "the media type must be application/json";
    }

    return ngx_http_vaani_check_parameters(p, last, lenient);
}


/*
 * parameters = *( OWS ";" OWS [ token "=" ( token / quoted-string ) ] ), RFC
 * 9110, section 5.6.6
 */

static char *
ngx_http_vaani_check_parameters(u_char *p, u_char *last, ngx_uint_t lenient)
{
    char    *malformed;
    u_char  *name, *equals, *value, *end;

    malformed = lenient ? NULL : "the media type is malformed";

    for ( ;; ) {
        p = ngx_http_vaani_skip_space(p, last);

        if (p == last) {
            return NULL;
        }

        if (*p != ';') {
            return malformed;
        }

        name = ngx_http_vaani_skip_space(p + 1, last);
        equals = ngx_http_vaani_skip_token(name, last);

        if (equals == name) {
            p = name;
            continue;
        }

        if (equals == last || *equals != '=') {
            return malformed;
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
                return malformed;
            }

            p = end + 1;

        } else {
            end = ngx_http_vaani_skip_token(value, last);
            p = end;
        }

        if (ngx_http_vaani_is(name, equals, "charset")
            && !ngx_http_vaani_is_one_of(value, end, ngx_http_vaani_charsets))
        {
            return "the charset must be UTF-8";
        }
    }
}


static u_char *
ngx_http_vaani_skip_token(u_char *p, u_char *last)
{
    /* RFC 9110, section 5.6.2: everything except delimiters */

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
ngx_http_vaani_is_one_of(u_char *first, u_char *last, char **strs)
{
    for ( /* void */ ; *strs; strs++) {
        if (ngx_http_vaani_is(first, last, *strs)) {
            return 1;
        }
    }

    return 0;
}


static ngx_uint_t
ngx_http_vaani_is(u_char *first, u_char *last, char *str)
{
    size_t  len;

    len = ngx_strlen(str);

    return (size_t) (last - first) == len
           && ngx_strncasecmp(first, (u_char *) str, len) == 0;
}
