
#include "ngx_http_vaani_status.h"
#include "ngx_http_vaani_page.h"


#define NGX_HTTP_VAANI_PAGE_BUFFER  8192

/* media types to choose from */

#define NGX_HTTP_VAANI_OFFERS       4


typedef enum {
    NGX_HTTP_VAANI_JSON = 0,
    NGX_HTTP_VAANI_METRICS,
    NGX_HTTP_VAANI_HTML,
    NGX_HTTP_VAANI_NO_FORMAT
} ngx_http_vaani_format_e;


/*
 * A media type that can be had, and what the header Accept says of it.
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
static ngx_int_t ngx_http_vaani_send_html(ngx_http_request_t *r);
static ngx_int_t ngx_http_vaani_send_page(ngx_http_request_t *r,
    ngx_http_vaani_page_t *page, ngx_str_t *type);
static void ngx_http_vaani_snapshot(ngx_http_vaani_snapshot_t *snapshot);
static void ngx_http_vaani_add_drift(ngx_http_vaani_snapshot_t *snapshot,
    ngx_http_vaani_drift_t *drift);
static void ngx_http_vaani_add(void *sum, void *slot, size_t size);
static void ngx_http_vaani_add_recent(ngx_http_vaani_snapshot_t *snapshot,
    ngx_http_vaani_recent_t *recent);
static void ngx_http_vaani_add_node(ngx_http_vaani_nodes_t *sum,
    ngx_vaani_redis_shown_t *node);
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
    ngx_str_t                   no_store, accept;
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
        return ngx_http_vaani_refuse(r, NGX_HTTP_BAD_REQUEST, NULL,
                                     "the format must be json, prometheus or "
                                     "html", NULL);
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
 * Browsers ask for text/html, Prometheus for openmetrics-text and text/plain,
 * most libraries for JSON and then for anything.  The type of the highest
 * quality wins, of several the one that is named, then the one named first.
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
 * The parameter "q" of a media range, in thousandths; 1000 without one, 0 for
 * what is no number.
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

    for (n = 0; n < NGX_HTTP_VAANI_DRIFT; n++) {
        ngx_http_vaani_add_drift(snapshot, &stats->drift[n]);
    }

    snapshot->drift_other = stats->drift_other;
}


/*
 * The latest ones come first.
 */

static void
ngx_http_vaani_add_drift(ngx_http_vaani_snapshot_t *snapshot,
    ngx_http_vaani_drift_t *drift)
{
    ngx_uint_t  n;

    if (!drift->ready) {
        return;
    }

    ngx_memory_barrier();

    for (n = snapshot->ndrift++;
         n > 0 && snapshot->drift[n - 1]->first < drift->first;
         n--)
    {
        snapshot->drift[n] = snapshot->drift[n - 1];
    }

    snapshot->drift[n] = drift;
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


void
ngx_http_vaani_sum_nodes(ngx_vaani_redis_t *redis,
    ngx_http_vaani_nodes_t *sum)
{
    ngx_uint_t               n, i;
    ngx_vaani_redis_table_t  table;

    sum->nmasters = 0;
    sum->ndown = 0;
    sum->nnodes = 0;

    for (n = 0; n < redis->nstats; n++) {

        if (!ngx_vaani_redis_shown(redis, n, &table)) {
            continue;
        }

        sum->nmasters = ngx_max(sum->nmasters, table.nmasters);
        sum->ndown = ngx_max(sum->ndown, table.ndown);

        for (i = 0; i < table.nnodes; i++) {
            ngx_http_vaani_add_node(sum, &table.nodes[i]);
        }
    }
}


static void
ngx_http_vaani_add_node(ngx_http_vaani_nodes_t *sum,
    ngx_vaani_redis_shown_t *node)
{
    ngx_uint_t                n;
    ngx_vaani_redis_shown_t  *known;

    if (node->role >= NGX_VAANI_REDIS_SHOWN_ROLES) {
        return;
    }

    for (n = 0; n < sum->nnodes; n++) {
        known = &sum->nodes[n];

        if (known->role == node->role
            && ngx_strcmp(known->name, node->name) == 0)
        {
            known->slots = ngx_max(known->slots, node->slots);
            known->connections += node->connections;
            known->ready += node->ready;
            return;
        }
    }

    if (n < NGX_HTTP_VAANI_SHOW_NODES) {
        sum->nodes[n] = *node;
        sum->nnodes++;
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
