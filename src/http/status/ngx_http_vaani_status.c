
/*
 * The directive "vaani_status": chooses the format of the numbers.
 */


#include "ngx_http_vaani_status.h"
#include "ngx_http_vaani_page.h"


/* media types to choose from */

#define NGX_HTTP_VAANI_OFFERS       4


typedef enum {
    NGX_HTTP_VAANI_JSON = 0,
    NGX_HTTP_VAANI_METRICS,
    NGX_HTTP_VAANI_HTML,
    NGX_HTTP_VAANI_NO_FORMAT
} ngx_http_vaani_format_e;


/*
 * An available media type, and its preference in the header Accept.
 */

typedef struct {
    ngx_str_t                   type;
    ngx_http_vaani_format_e     format;
    ngx_uint_t                  precision;  /* of what matched: 3 is the type,
                                               2 one of its kind, 1 any, 0
                                               nothing */
    ngx_uint_t                  quality;    /* 0 to 1000 */
    ngx_uint_t                  place;
} ngx_http_vaani_offer_t;


static ngx_int_t ngx_http_vaani_status_handler(ngx_http_request_t *r);
static ngx_http_vaani_format_e ngx_http_vaani_format(ngx_http_request_t *r);
static void ngx_http_vaani_accept(ngx_http_vaani_offer_t *offers,
    u_char *p, u_char *last, ngx_uint_t place);
static ngx_uint_t ngx_http_vaani_quality(u_char *p, u_char *last);
static ngx_int_t ngx_http_vaani_secure_html(ngx_http_request_t *r);


/* by ngx_http_vaani_format_e: the argument "format", and the media type */

static struct {
    ngx_str_t  name;
    ngx_str_t  type;
} ngx_http_vaani_formats[] = {
    { ngx_string("json"), ngx_string("application/json") },
    { ngx_string("prometheus"),
      ngx_string("text/plain; version=0.0.4; charset=utf-8") },
    { ngx_string("html"), ngx_string("text/html; charset=utf-8") }
};


char *
ngx_http_vaani_status(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    return ngx_http_vaani_set_handler(cf, conf, ngx_http_vaani_status_handler);
}


static ngx_int_t
ngx_http_vaani_status_handler(ngx_http_request_t *r)
{
    ngx_int_t                    rc;
    ngx_str_t                    accept;
    ngx_http_vaani_output_t      out;
    ngx_http_vaani_format_e      format;
    ngx_http_vaani_snapshot_t   *snapshot;
    ngx_http_vaani_main_conf_t  *vmcf;

    rc = ngx_http_vaani_begin(r, &out);

    if (rc != NGX_DECLINED) {
        return rc;
    }

    ngx_str_set(&accept, "Accept");

    if (ngx_http_vaani_add_header(r, "Vary", &accept) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    format = ngx_http_vaani_format(r);

    if (format == NGX_HTTP_VAANI_NO_FORMAT) {
        return ngx_http_vaani_refuse(r, NGX_HTTP_BAD_REQUEST, NULL,
                                     "the format must be json, prometheus or "
                                     "html", NULL);
    }

    if (format == NGX_HTTP_VAANI_HTML) {

        if (ngx_http_vaani_secure_html(r) != NGX_OK) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        ngx_http_vaani_print_static(&out, &ngx_http_vaani_page);

    } else {
        vmcf = ngx_http_get_module_main_conf(r, ngx_http_vaani_module);

        snapshot = ngx_http_vaani_snapshot(r->pool, vmcf);

        if (snapshot == NULL) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        if (format == NGX_HTTP_VAANI_METRICS) {
            ngx_http_vaani_print_metrics(&out, snapshot);

        } else {
            snapshot->nsamples = ngx_http_vaani_history(r->pool, vmcf,
                                                        snapshot->samples);

            if (snapshot->nsamples == NGX_ERROR) {
                return NGX_HTTP_INTERNAL_SERVER_ERROR;
            }

            ngx_http_vaani_print_json(&out, snapshot);
        }
    }

    return ngx_http_vaani_send_output(r, &out, NGX_HTTP_OK,
                                      &ngx_http_vaani_formats[format].type);
}


/*
 * Browsers ask for text/html, Prometheus for openmetrics-text and text/plain,
 * most libraries for JSON and then for anything.  The type of the highest
 * quality is chosen; of several, the most precise one, then the first one.
 */

static ngx_http_vaani_format_e
ngx_http_vaani_format(ngx_http_request_t *r)
{
    u_char                  *p, *last, *end;
    ngx_str_t                value;
    ngx_uint_t               n, place;
    ngx_http_vaani_offer_t  *offer, *best;

    ngx_http_vaani_offer_t  offers[NGX_HTTP_VAANI_OFFERS] = {
        { ngx_string("application/json"), NGX_HTTP_VAANI_JSON, 0, 0, 0 },
        { ngx_string("text/plain"), NGX_HTTP_VAANI_METRICS, 0, 0, 0 },
        { ngx_string("application/openmetrics-text"), NGX_HTTP_VAANI_METRICS,
          0, 0, 0 },
        { ngx_string("text/html"), NGX_HTTP_VAANI_HTML, 0, 0, 0 }
    };

    if (ngx_http_arg(r, (u_char *) "format", 6, &value) == NGX_OK) {

        for (n = 0; n < NGX_HTTP_VAANI_NO_FORMAT; n++) {
            if (ngx_http_vaani_same(&value, &ngx_http_vaani_formats[n].name)) {
                break;
            }
        }

        return n;
    }

    ngx_http_vaani_find_header(r, "accept", &value);

    last = value.data + value.len;
    place = 0;

    for (p = value.data; p < last; p = end + 1) {
        end = ngx_strlchr(p, last, ',');

        if (end == NULL) {
            end = last;
        }

        ngx_http_vaani_accept(offers, p, end, ++place);
    }

    best = &offers[0];

    for (n = 1; n < NGX_HTTP_VAANI_OFFERS; n++) {
        offer = &offers[n];

        if (offer->quality != best->quality) {

            if (offer->quality > best->quality) {
                best = offer;
            }

        } else if (offer->precision > best->precision
                   || (offer->precision == best->precision
                       && offer->place < best->place))
        {
            best = offer;
        }
    }

    return best->quality ? best->format : NGX_HTTP_VAANI_JSON;
}


/*
 * Notes one media range, from p to last, with the offers that it is the best
 * match for so far.
 */

static void
ngx_http_vaani_accept(ngx_http_vaani_offer_t *offers, u_char *p, u_char *last,
    ngx_uint_t place)
{
    u_char                  *end;
    size_t                   len, kind;
    ngx_uint_t               n, precision;
    ngx_http_vaani_offer_t  *offer;

    while (p < last && (*p == ' ' || *p == '\t')) {
        p++;
    }

    for (end = p; end < last && *end != ';' && *end != ' ' && *end != '\t';
         end++)
    {
        /* void */
    }

    len = end - p;

    for (n = 0; n < NGX_HTTP_VAANI_OFFERS; n++) {
        offer = &offers[n];

        kind = ngx_strlchr(offer->type.data, offer->type.data + offer->type.len,
                           '/')
               - offer->type.data + 1;

        if (len == offer->type.len
            && ngx_strncasecmp(p, offer->type.data, len) == 0)
        {
            precision = 3;

        } else if (len == kind + 1
                   && p[kind] == '*'
                   && ngx_strncasecmp(p, offer->type.data, kind) == 0)
        {
            precision = 2;

        } else if (len == 3 && ngx_strncmp(p, "*/*", 3) == 0) {
            precision = 1;

        } else {
            continue;
        }

        if (precision > offer->precision) {
            offer->precision = precision;
            offer->quality = ngx_http_vaani_quality(end, last);
            offer->place = place;
        }
    }
}


/*
 * The parameter "q" of a media range, in thousandths; 1000 without one, 0 if it
 * is not a number.
 */

static ngx_uint_t
ngx_http_vaani_quality(u_char *p, u_char *last)
{
    ngx_uint_t  quality, unit;

    for ( /* void */ ; p < last; p++) {

        if (*p != ';') {
            continue;
        }

        do {
            p++;
        } while (p < last && (*p == ' ' || *p == '\t'));

        if (last - p >= 2 && (*p == 'q' || *p == 'Q') && p[1] == '=') {
            p += 2;
            goto found;
        }

        p--;
    }

    return 1000;

found:

    if (p < last && *p == '1') {
        return 1000;
    }

    quality = 0;

    if (last - p > 2 && *p == '0' && p[1] == '.') {
        p += 2;

        for (unit = 100;
             unit && p < last && *p >= '0' && *p <= '9';
             unit /= 10)
        {
            quality += (*p++ - '0') * unit;
        }
    }

    return quality;
}


/*
 * The headers that keep a browser from running anything but the page.
 */

static ngx_int_t
ngx_http_vaani_secure_html(ngx_http_request_t *r)
{
    ngx_str_t  csp, nosniff;

    csp = ngx_http_vaani_page_csp;
    ngx_str_set(&nosniff, "nosniff");

    if (ngx_http_vaani_add_header(r, "Content-Security-Policy", &csp)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_http_vaani_add_header(r, "X-Content-Type-Options", &nosniff);
}
