
/*
 * Names that are new in Vaani's deliveries, in the memory of the counters.
 */


#include "../ngx_http_vaani.h"


static void ngx_http_vaani_drift_note(const vaani_event_t *event,
    ngx_http_vaani_drift_e kind, unsigned nested, const vaani_str_t *name,
    ngx_log_t *log);
static void ngx_http_vaani_drift_name(ngx_http_vaani_news_t *news,
    unsigned nested, const vaani_str_t *name);
static ngx_http_vaani_drift_t *ngx_http_vaani_drift_entry(
    ngx_http_vaani_stats_t *stats, ngx_http_vaani_news_t *news,
    ngx_log_t *log);
static ngx_atomic_uint_t ngx_http_vaani_drift_hash(
    ngx_http_vaani_news_t *news, uint64_t seed);
static void ngx_http_vaani_drift_range(ngx_http_vaani_drift_e kind,
    ngx_uint_t *first, ngx_uint_t *last);
static void ngx_http_vaani_drift_log(ngx_http_vaani_news_t *news,
    ngx_log_t *log);


void
ngx_http_vaani_drift(const vaani_event_t *event, ngx_log_t *log)
{
    size_t               n;
    const vaani_note_t  *note;

    /* samples of the dashboard's test button are not counted */

    if (event->test) {
        return;
    }

    if (event->type == NULL && event->name.data) {
        ngx_http_vaani_drift_note(event, NGX_HTTP_VAANI_DRIFT_EVENT, 0,
                                  &event->name, log);
    }

    for (n = 0; n < event->nnotes; n++) {
        note = &event->notes[n];

        ngx_http_vaani_drift_note(event, (ngx_http_vaani_drift_e) note->kind,
                                  note->nested, &note->name, log);
    }
}


static void
ngx_http_vaani_drift_note(const vaani_event_t *event,
    ngx_http_vaani_drift_e kind, unsigned nested, const vaani_str_t *name,
    ngx_log_t *log)
{
    ngx_http_vaani_news_t    news;
    ngx_http_vaani_stats_t  *stats;
    ngx_http_vaani_drift_t  *entry;

    stats = ngx_http_vaani_stats();

    if (stats == NULL) {
        return;
    }

    ngx_memzero(&news, sizeof(ngx_http_vaani_news_t));

    news.kind = (u_char) kind;
    news.event = (u_char) ngx_http_vaani_event_number(event);

    ngx_http_vaani_drift_name(&news, nested, name);

    entry = ngx_http_vaani_drift_entry(stats, &news, log);

    if (entry == NULL) {

        if (ngx_atomic_fetch_add(&stats->drift_other, 1) == 0) {
            ngx_log_error(NGX_LOG_NOTICE, log, 0,
                          "vaani: new in Vaani's deliveries: too many names; "
                          "further ones are only counted");
        }

        return;
    }

    /* the worker that took the entry may have died before it wrote this */

    if (!entry->ready) {
        entry->news = news;

        (void) ngx_atomic_cmp_set(&entry->first, 0, ngx_time());

        ngx_memory_barrier();

        entry->ready = 1;
    }

    entry->last = ngx_time();

    (void) ngx_atomic_fetch_add(&entry->count, 1);
}


/*
 * Sets news->name: the name, cut if it is too long, with a question mark for
 * each character that would need escaping.
 */

static void
ngx_http_vaani_drift_name(ngx_http_vaani_news_t *news, unsigned nested,
    const vaani_str_t *name)
{
    size_t   n;
    u_char  *p, *last;

    p = news->name;
    last = p + NGX_HTTP_VAANI_DRIFT_LEN;

    if (nested) {
        p = ngx_cpymem(p, "data.", sizeof("data.") - 1);
    }

    for (n = 0; n < name->len && p < last; n++) {
        *p++ = ((name->data[n] >= '0' && name->data[n] <= '9')
                || (name->data[n] >= 'A' && name->data[n] <= 'Z')
                || (name->data[n] >= 'a' && name->data[n] <= 'z')
                || name->data[n] == '_'
                || name->data[n] == '.'
                || name->data[n] == '-')
               ? name->data[n] : '?';
    }

    news->len = (u_char) (p - news->name);
}


/*
 * Searches the entries of its kind for a name.  If it is new, this worker
 * claims the first free entry, unless another worker claims it at the same
 * time.  Returns NULL if no entry is free.
 */

static ngx_http_vaani_drift_t *
ngx_http_vaani_drift_entry(ngx_http_vaani_stats_t *stats,
    ngx_http_vaani_news_t *news, ngx_log_t *log)
{
    ngx_uint_t               i, end;
    ngx_atomic_uint_t        hash, found;
    ngx_http_vaani_drift_t  *entry;

    hash = ngx_http_vaani_drift_hash(news, stats->seed);

    ngx_http_vaani_drift_range(news->kind, &i, &end);

    for ( /* void */ ; i < end; i++) {
        entry = &stats->drift[i];
        found = entry->hash;

        if (found == 0) {

            if (ngx_atomic_cmp_set(&entry->hash, 0, hash)) {
                ngx_http_vaani_drift_log(news, log);
                return entry;
            }

            found = entry->hash;
        }

        if (found != hash) {
            continue;
        }

        ngx_memory_barrier();

        if (!entry->ready
            || ngx_memcmp(&entry->news, news, sizeof(ngx_http_vaani_news_t))
               == 0)
        {
            return entry;
        }
    }

    return NULL;
}


/*
 * FNV-1a from a secret start, as the digests of calls; never 0.
 */

static ngx_atomic_uint_t
ngx_http_vaani_drift_hash(ngx_http_vaani_news_t *news, uint64_t seed)
{
    size_t    n;
    uint64_t  hash;

    hash = (seed ^ news->kind) * 0x100000001b3;
    hash = (hash ^ news->event) * 0x100000001b3;

    for (n = 0; n < news->len; n++) {
        hash = (hash ^ news->name[n]) * 0x100000001b3;
    }

    hash = (hash ^ hash >> 32) * 0x9e3779b97f4a7c15;

    return (ngx_atomic_uint_t) (hash >> 32 ^ hash) | 1;
}


static void
ngx_http_vaani_drift_range(ngx_http_vaani_drift_e kind, ngx_uint_t *first,
    ngx_uint_t *last)
{
    switch (kind) {

    case NGX_HTTP_VAANI_DRIFT_EVENT:
        *first = 0;
        *last = NGX_HTTP_VAANI_DRIFT_EVENTS;
        break;

    case NGX_HTTP_VAANI_DRIFT_MEMBER:
        *first = NGX_HTTP_VAANI_DRIFT_EVENTS;
        *last = *first + NGX_HTTP_VAANI_DRIFT_MEMBERS;
        break;

    default:
        *first = NGX_HTTP_VAANI_DRIFT_EVENTS + NGX_HTTP_VAANI_DRIFT_MEMBERS;
        *last = NGX_HTTP_VAANI_DRIFT;
    }
}


static void
ngx_http_vaani_drift_log(ngx_http_vaani_news_t *news, ngx_log_t *log)
{
    const vaani_str_t  *name;

    name = ngx_http_vaani_event_name(news->event);

    switch (news->kind) {

    case NGX_HTTP_VAANI_DRIFT_EVENT:
        ngx_log_error(NGX_LOG_NOTICE, log, 0,
                      "vaani: new in Vaani's deliveries: event \"%*s\"",
                      (size_t) news->len, news->name);
        break;

    case NGX_HTTP_VAANI_DRIFT_MEMBER:
        ngx_log_error(NGX_LOG_NOTICE, log, 0,
                      "vaani: new in Vaani's deliveries: member \"%*s\" of %*s",
                      (size_t) news->len, news->name, name->len, name->data);
        break;

    case NGX_HTTP_VAANI_DRIFT_CALL:
        ngx_log_error(NGX_LOG_NOTICE, log, 0,
                      "vaani: new in Vaani's deliveries: \"%*s\" of %*s names "
                      "a different call than the other fields",
                      (size_t) news->len, news->name, name->len, name->data);
        break;

    default:
        ngx_log_error(NGX_LOG_NOTICE, log, 0,
                      "vaani: new in Vaani's deliveries: \"%*s\" of %*s has "
                      "an undocumented type or value; it is %s",
                      (size_t) news->len, news->name, name->len, name->data,
                      news->kind == NGX_HTTP_VAANI_DRIFT_CONVERTED
                      ? "converted" : "left out");
    }
}


const char *
ngx_http_vaani_drift_word(ngx_uint_t kind)
{
    switch (kind) {

    case NGX_HTTP_VAANI_DRIFT_EVENT:
        return "event";

    case NGX_HTTP_VAANI_DRIFT_MEMBER:
        return "member";

    case NGX_HTTP_VAANI_DRIFT_CONVERTED:
        return "converted";

    case NGX_HTTP_VAANI_DRIFT_IGNORED:
        return "ignored";

    default:
        return "call";
    }
}
