
#include "ngx_http_vaani_status.h"
#include "ngx_http_vaani_page.h"


#define NGX_HTTP_VAANI_PAGE_BUFFER  8192


typedef enum {
    NGX_HTTP_VAANI_JSON = 0,
    NGX_HTTP_VAANI_METRICS,
    NGX_HTTP_VAANI_HTML,
    NGX_HTTP_VAANI_NO_FORMAT
} ngx_http_vaani_format_e;


static ngx_int_t ngx_http_vaani_status_handler(ngx_http_request_t *r);
static ngx_http_vaani_format_e ngx_http_vaani_format(ngx_http_request_t *r);
static ngx_uint_t ngx_http_vaani_accepts(ngx_str_t *accept, char *type);
static ngx_int_t ngx_http_vaani_send_html(ngx_http_request_t *r);
static ngx_int_t ngx_http_vaani_send_page(ngx_http_request_t *r,
    ngx_http_vaani_page_t *page, ngx_str_t *type);
static void ngx_http_vaani_snapshot(ngx_http_vaani_snapshot_t *snapshot);
static void ngx_http_vaani_add(void *sum, void *slot, size_t size);
static void ngx_http_vaani_add_recent(ngx_http_vaani_snapshot_t *snapshot,
    ngx_http_vaani_recent_t *recent);
static ngx_int_t ngx_http_vaani_grow(ngx_http_vaani_page_t *page);


static ngx_str_t  ngx_http_vaani_types[] = {
    ngx_string("application/json"),
    ngx_string("text/plain; version=0.0.4; charset=utf-8"),
    ngx_string("text/html; charset=utf-8")
};


char *
ngx_http_vaani_status(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    return ngx_http_vaani_set_handler(cf, conf, ngx_http_vaani_status_handler);
}


static ngx_int_t
ngx_http_vaani_status_handler(ngx_http_request_t *r)
{
    ngx_int_t                   rc;
    ngx_str_t                   no_store, accept, detail;
    ngx_http_vaani_page_t       page;
    ngx_http_vaani_format_e     format;
    ngx_http_vaani_snapshot_t  *snapshot;

    rc = ngx_http_vaani_get_only(r);

    if (rc != NGX_DECLINED) {
        return rc;
    }

    ngx_str_set(&no_store, "no-store");
    ngx_str_set(&accept, "Accept");

    if (ngx_http_vaani_add_header(r, "Cache-Control", &no_store) != NGX_OK
        || ngx_http_vaani_add_header(r, "Vary", &accept) != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    format = ngx_http_vaani_format(r);

    if (format == NGX_HTTP_VAANI_NO_FORMAT) {
        ngx_str_set(&detail, "the format must be json, prometheus or html");
        return ngx_http_vaani_send_problem(r, NGX_HTTP_BAD_REQUEST, &detail,
                                           NULL);
    }

    if (format == NGX_HTTP_VAANI_HTML) {
        return ngx_http_vaani_send_html(r);
    }

    snapshot = ngx_pcalloc(r->pool, sizeof(ngx_http_vaani_snapshot_t));

    if (snapshot == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    snapshot->vmcf = ngx_http_get_module_main_conf(r, ngx_http_vaani_module);

    ngx_http_vaani_snapshot(snapshot);

    ngx_memzero(&page, sizeof(ngx_http_vaani_page_t));

    page.pool = r->pool;
    page.last_out = &page.out;

    if (format == NGX_HTTP_VAANI_METRICS) {
        ngx_http_vaani_print_metrics(&page, snapshot);

    } else {
        ngx_http_vaani_print_json(&page, snapshot);
    }

    return ngx_http_vaani_send_page(r, &page, &ngx_http_vaani_types[format]);
}


/*
 * Browsers ask for text/html, Prometheus for openmetrics-text and text/plain.
 */

static ngx_http_vaani_format_e
ngx_http_vaani_format(ngx_http_request_t *r)
{
    ngx_str_t  value;

    if (ngx_http_arg(r, (u_char *) "format", 6, &value) == NGX_OK) {

        if (value.len == 4 && ngx_strncmp(value.data, "json", 4) == 0) {
            return NGX_HTTP_VAANI_JSON;
        }

        if (value.len == 10 && ngx_strncmp(value.data, "prometheus", 10) == 0) {
            return NGX_HTTP_VAANI_METRICS;
        }

        if (value.len == 4 && ngx_strncmp(value.data, "html", 4) == 0) {
            return NGX_HTTP_VAANI_HTML;
        }

        return NGX_HTTP_VAANI_NO_FORMAT;
    }

    ngx_http_vaani_find_header(r, "accept", &value);

    if (ngx_http_vaani_accepts(&value, "text/html")) {
        return NGX_HTTP_VAANI_HTML;
    }

    if (ngx_http_vaani_accepts(&value, "openmetrics-text")
        || ngx_http_vaani_accepts(&value, "text/plain"))
    {
        return NGX_HTTP_VAANI_METRICS;
    }

    return NGX_HTTP_VAANI_JSON;
}


static ngx_uint_t
ngx_http_vaani_accepts(ngx_str_t *accept, char *type)
{
    size_t  len;

    len = ngx_strlen(type);

    return accept->len >= len
           && ngx_strlcasestrn(accept->data, accept->data + accept->len,
                               (u_char *) type, len - 1)
              != NULL;
}


static ngx_int_t
ngx_http_vaani_send_html(ngx_http_request_t *r)
{
    ngx_str_t              csp, nosniff;
    ngx_http_vaani_page_t  page;

    csp = ngx_http_vaani_page_csp;
    ngx_str_set(&nosniff, "nosniff");

    if (ngx_http_vaani_add_header(r, "Content-Security-Policy", &csp) != NGX_OK
        || ngx_http_vaani_add_header(r, "X-Content-Type-Options", &nosniff)
           != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_memzero(&page, sizeof(ngx_http_vaani_page_t));

    page.buf = ngx_calloc_buf(r->pool);
    page.out = ngx_alloc_chain_link(r->pool);

    if (page.buf == NULL || page.out == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    page.buf->pos = ngx_http_vaani_page.data;
    page.buf->last = page.buf->pos + ngx_http_vaani_page.len;
    page.buf->memory = 1;

    page.out->buf = page.buf;
    page.out->next = NULL;

    return ngx_http_vaani_send_page(r, &page,
                                    &ngx_http_vaani_types[NGX_HTTP_VAANI_HTML]);
}


static ngx_int_t
ngx_http_vaani_send_page(ngx_http_request_t *r, ngx_http_vaani_page_t *page,
    ngx_str_t *type)
{
    ngx_int_t  rc;

    if (page->failed || page->buf == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    page->buf->last_buf = (r == r->main) ? 1 : 0;
    page->buf->last_in_chain = 1;

    r->headers_out.status = NGX_HTTP_OK;
    r->headers_out.content_length_n = page->size
                                      + (page->buf->last - page->buf->pos);

    ngx_http_vaani_set_type(r, type);

    rc = ngx_http_send_header(r);

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        return rc;
    }

    return ngx_http_output_filter(r, page->out);
}


static void
ngx_http_vaani_snapshot(ngx_http_vaani_snapshot_t *snapshot)
{
    ngx_uint_t               n, i, last;
    ngx_http_vaani_slot_t   *slot;
    ngx_http_vaani_stats_t  *stats;

    snapshot->time = ngx_http_vaani_now();

    stats = snapshot->vmcf->stats;

    if (stats == NULL) {
        return;
    }

    for (n = 0; n < NGX_HTTP_VAANI_SLOTS; n++) {
        slot = &stats->slots[n];

        ngx_http_vaani_add(&snapshot->sum, slot,
                           offsetof(ngx_http_vaani_slot_t, pid));

        if (ngx_vaani_redis_alive(slot->pid)) {
            snapshot->sum.in_flight += slot->in_flight;
        }

        /* within a millisecond, the newest comes first as well */

        last = slot->nrecent;

        for (i = 1; i <= NGX_HTTP_VAANI_RECENT; i++) {
            ngx_http_vaani_add_recent(snapshot,
                      &slot->recent[(last - i) & (NGX_HTTP_VAANI_RECENT - 1)]);
        }
    }
}


/*
 * Adds the counters of a slot, which stand before what is of one process: size
 * bytes of them.
 */

static void
ngx_http_vaani_add(void *sum, void *slot, size_t size)
{
    ngx_uint_t     n;
    ngx_atomic_t  *from, *to;

    from = slot;
    to = sum;

    for (n = 0; n < size / sizeof(ngx_atomic_t); n++) {
        to[n] += from[n];
    }
}


static void
ngx_http_vaani_add_recent(ngx_http_vaani_snapshot_t *snapshot,
    ngx_http_vaani_recent_t *recent)
{
    ngx_uint_t               n;
    ngx_http_vaani_recent_t  copy;

    /* its worker may be writing it: what was read stays as it is */

    copy = *recent;

    if (copy.time == 0
        || ngx_http_vaani_event_name(copy.event) == NULL
        || copy.result >= NGX_HTTP_VAANI_RESULTS)
    {
        return;
    }

    if (snapshot->nrecent < NGX_HTTP_VAANI_SHOW_RECENT) {
        snapshot->nrecent++;

    } else if (snapshot->recent[NGX_HTTP_VAANI_SHOW_RECENT - 1].time
               >= copy.time)
    {
        return;
    }

    for (n = snapshot->nrecent - 1;
         n > 0 && snapshot->recent[n - 1].time < copy.time;
         n--)
    {
        snapshot->recent[n] = snapshot->recent[n - 1];
    }

    snapshot->recent[n] = copy;
}


void
ngx_http_vaani_sum_redis(ngx_vaani_redis_t *redis,
    ngx_vaani_redis_stats_t *sum)
{
    ngx_uint_t                n;
    ngx_vaani_redis_stats_t  *stats;

    ngx_memzero(sum, sizeof(ngx_vaani_redis_stats_t));

    for (n = 0; n < redis->nstats; n++) {
        stats = &redis->stats[n];

        ngx_http_vaani_add(sum, stats, offsetof(ngx_vaani_redis_stats_t, pid));

        if (ngx_vaani_redis_alive(stats->pid)) {
            sum->commands += stats->commands;
            sum->bytes += stats->bytes;
        }
    }
}


ngx_int_t
ngx_http_vaani_calls(ngx_http_vaani_slot_t *sum, ngx_uint_t rank)
{
    ngx_int_t   calls;
    ngx_uint_t  n;

    calls = 0;

    for (n = 0; n < NGX_HTTP_VAANI_RANKS; n++) {
        calls += sum->transitions[n][rank];
        calls -= sum->transitions[rank][n];
    }

    return calls;
}


const vaani_str_t *
ngx_http_vaani_event_name(ngx_uint_t event)
{
    const vaani_event_type_t  *type;

    static const vaani_str_t   none = vaani_string("none");
    static const vaani_str_t   unknown = vaani_string("unknown");

    if (event == NGX_HTTP_VAANI_EVENT_NONE) {
        return &none;
    }

    if (event == NGX_HTTP_VAANI_EVENT_UNKNOWN) {
        return &unknown;
    }

    type = vaani_event_row(event - NGX_HTTP_VAANI_EVENT_FIRST);

    return type ? &type->name : NULL;
}


const vaani_str_t *
ngx_http_vaani_rank_name(ngx_uint_t rank)
{
    static const vaani_str_t  none = vaani_string("none");
    static const vaani_str_t  unknown = vaani_string("unknown");

    if (rank == 0) {
        return &none;
    }

    return (rank == VAANI_TRANSITION_UNCOUNTED) ? &unknown
                                                : vaani_status_name(rank);
}


void
ngx_http_vaani_print(ngx_http_vaani_page_t *page, const char *fmt, ...)
{
    va_list  args;

    if ((page->buf == NULL
         || page->buf->end - page->buf->last < NGX_HTTP_VAANI_PRINT_MAX)
        && ngx_http_vaani_grow(page) != NGX_OK)
    {
        return;
    }

    va_start(args, fmt);

    page->buf->last = ngx_vslprintf(page->buf->last,
                                    page->buf->last + NGX_HTTP_VAANI_PRINT_MAX,
                                    fmt, args);
    va_end(args);
}


static ngx_int_t
ngx_http_vaani_grow(ngx_http_vaani_page_t *page)
{
    ngx_buf_t    *b;
    ngx_chain_t  *cl;

    b = ngx_create_temp_buf(page->pool, NGX_HTTP_VAANI_PAGE_BUFFER);
    cl = ngx_alloc_chain_link(page->pool);

    if (b == NULL || cl == NULL) {
        page->failed = 1;
        return NGX_ERROR;
    }

    if (page->buf) {
        page->size += page->buf->last - page->buf->pos;
    }

    cl->buf = b;
    cl->next = NULL;

    *page->last_out = cl;
    page->last_out = &cl->next;
    page->buf = b;

    return NGX_OK;
}


void
ngx_http_vaani_print_escaped(ngx_http_vaani_page_t *page, ngx_str_t *str)
{
    size_t  n;
    u_char  ch;

    for (n = 0; n < str->len; n++) {
        ch = str->data[n];

        if (ch == '"' || ch == '\\') {
            ngx_http_vaani_print(page, "\\%c", ch);

        } else {
            ngx_http_vaani_print(page, "%c",
                                 (ch >= 0x20 && ch < 0x7f) ? ch : '?');
        }
    }
}
