
/*
 * The numbers as JSON.
 */


#include "ngx_http_vaani_status.h"


static void ngx_http_vaani_json_numbers(ngx_http_vaani_output_t *out,
    ngx_http_vaani_where_e where, void *base);
static void ngx_http_vaani_json_deliveries(ngx_http_vaani_output_t *out,
    ngx_http_vaani_slot_t *sum);
static void ngx_http_vaani_json_results(ngx_http_vaani_output_t *out,
    ngx_atomic_t *results);
static void ngx_http_vaani_json_transitions(ngx_http_vaani_output_t *out,
    ngx_http_vaani_slot_t *sum);
static void ngx_http_vaani_json_redis(ngx_http_vaani_output_t *out,
    ngx_http_vaani_snapshot_t *snapshot, ngx_uint_t i);
static void ngx_http_vaani_json_nodes(ngx_http_vaani_output_t *out,
    ngx_http_vaani_nodes_t *nodes);
static void ngx_http_vaani_json_worker(ngx_http_vaani_output_t *out,
    ngx_vaani_redis_stats_t *stats, ngx_uint_t worker);
static void ngx_http_vaani_json_spool(ngx_http_vaani_output_t *out,
    ngx_http_vaani_spool_sum_t *sum);
static void ngx_http_vaani_json_drift(ngx_http_vaani_output_t *out,
    ngx_http_vaani_drift_t *drift);
static void ngx_http_vaani_json_recent(ngx_http_vaani_output_t *out,
    ngx_http_vaani_recent_t *recent);
static void ngx_http_vaani_json_rank(ngx_http_vaani_output_t *out, char *name,
    ngx_uint_t rank);


void
ngx_http_vaani_print_json(ngx_http_vaani_output_t *out,
    ngx_http_vaani_snapshot_t *snapshot)
{
    ngx_uint_t              n;
    ngx_http_vaani_slot_t  *sum;

    sum = &snapshot->sum;

    ngx_http_vaani_print(out, "{\"version\":\"" NGX_HTTP_VAANI_VERSION "\","
                         "\"nginx\":\"" NGINX_VERSION "\","
                         "\"time\":%uL,\"since\":%uL",
                         snapshot->time, snapshot->since);

    ngx_http_vaani_json_numbers(out, NGX_HTTP_VAANI_AT_SUM, sum);
    ngx_http_vaani_json_deliveries(out, sum);
    ngx_http_vaani_json_transitions(out, sum);

    ngx_http_vaani_print(out, ",\"redis\":[");

    for (n = 0; n < snapshot->nredis; n++) {
        ngx_http_vaani_print(out, "%s", n ? "," : "");
        ngx_http_vaani_json_redis(out, snapshot, n);
    }

    ngx_http_vaani_print(out, "],\"spools\":[");

    for (n = 0; n < snapshot->nspools; n++) {
        ngx_http_vaani_print(out, "%s", n ? "," : "");
        ngx_http_vaani_json_spool(out, &snapshot->spools[n]);
    }

    ngx_http_vaani_print(out, "],\"drift\":[");

    for (n = 0; n < snapshot->ndrift; n++) {
        ngx_http_vaani_print(out, "%s", n ? "," : "");
        ngx_http_vaani_json_drift(out, snapshot->drift[n]);
    }

    ngx_http_vaani_print(out, "],\"drift_other\":%uA,\"recent\":[",
                         snapshot->drift_other);

    for (n = 0; n < snapshot->nrecent; n++) {
        ngx_http_vaani_print(out, "%s", n ? "," : "");
        ngx_http_vaani_json_recent(out, &snapshot->recent[n]);
    }

    ngx_http_vaani_print(out, "]");
    ngx_http_vaani_json_history(out, snapshot);
    ngx_http_vaani_print(out, "}\n");
}


/*
 * The numbers in base, each after a comma.
 */

static void
ngx_http_vaani_json_numbers(ngx_http_vaani_output_t *out,
    ngx_http_vaani_where_e where, void *base)
{
    const ngx_http_vaani_number_t  *number;

    for (number = ngx_http_vaani_numbers; number->metric; number++) {

        if (number->where == where && number->member) {
            ngx_http_vaani_print(out, ",\"%s\":%uA", number->member,
                                 ngx_http_vaani_value(number, base));
        }
    }
}


static void
ngx_http_vaani_json_deliveries(ngx_http_vaani_output_t *out,
    ngx_http_vaani_slot_t *sum)
{
    char               *comma;
    ngx_uint_t          n, i;
    const vaani_str_t  *name;

    ngx_http_vaani_print(out, ",\"deliveries\":[");

    /* the rows of the table, then the special ones */

    for (i = 0; i < NGX_HTTP_VAANI_EVENTS; i++) {
        n = (NGX_HTTP_VAANI_EVENT_FIRST + i) % NGX_HTTP_VAANI_EVENTS;

        name = ngx_http_vaani_event_name(n);

        if (name) {
            ngx_http_vaani_print(out, "%s{\"event\":\"%*s\"", i ? "," : "",
                                 name->len, name->data);
            ngx_http_vaani_json_results(out, sum->deliveries[n]);
            ngx_http_vaani_print(out, "}");
        }
    }

    ngx_http_vaani_print(out, "],\"reasons\":{");

    comma = "";

    for (n = 1; n < VAANI_NREASONS; n++) {

        if (sum->reasons[n]) {
            ngx_http_vaani_print(out, "%s\"%s\":%uA", comma,
                                 vaani_reason_word(n)->data, sum->reasons[n]);
            comma = ",";
        }
    }

    ngx_http_vaani_print(out, "}");
}


static void
ngx_http_vaani_json_results(ngx_http_vaani_output_t *out, ngx_atomic_t *results)
{
    ngx_uint_t  n;

    for (n = 1; n < NGX_HTTP_VAANI_RESULTS; n++) {
        ngx_http_vaani_print(out, ",\"%V\":%uA", &ngx_http_vaani_results[n],
                             results[n]);
    }

    ngx_http_vaani_print(out, ",\"none\":%uA",
                         results[NGX_HTTP_VAANI_PENDING]);
}


static void
ngx_http_vaani_json_transitions(ngx_http_vaani_output_t *out,
    ngx_http_vaani_slot_t *sum)
{
    char               *comma;
    ngx_uint_t          from, to;
    const vaani_str_t  *one, *two;

    ngx_http_vaani_print(out, ",\"transitions\":[");

    comma = "";

    for (from = 0; from < NGX_HTTP_VAANI_RANKS; from++) {
        for (to = 0; to < NGX_HTTP_VAANI_RANKS; to++) {

            one = ngx_http_vaani_rank_name(from);
            two = ngx_http_vaani_rank_name(to);

            if (sum->transitions[from][to] && one && two) {
                ngx_http_vaani_print(out, "%s{\"from\":\"%*s\","
                                     "\"to\":\"%*s\",\"count\":%uA}", comma,
                                     one->len, one->data, two->len, two->data,
                                     sum->transitions[from][to]);
                comma = ",";
            }
        }
    }

    ngx_http_vaani_print(out, "],\"calls\":{");

    for (to = 1; (two = vaani_status_name(to)) != NULL; to++) {
        ngx_http_vaani_print(out, "%s\"%*s\":%i", to == 1 ? "" : ",",
                             two->len, two->data,
                             ngx_http_vaani_calls(sum, to));
    }

    ngx_http_vaani_print(out, "}");
}


static void
ngx_http_vaani_json_redis(ngx_http_vaani_output_t *out,
    ngx_http_vaani_snapshot_t *snapshot, ngx_uint_t i)
{
    char                        *comma;
    ngx_uint_t                   n, replies;
    const ngx_str_t             *name;
    ngx_vaani_redis_t           *redis;
    ngx_http_vaani_redis_sum_t  *sum;

    sum = &snapshot->redis[i];
    redis = sum->redis;

    replies = 0;

    for (n = 0; n <= NGX_VAANI_REDIS_BOUNDS; n++) {
        replies += sum->sum.round_trips[n];
    }

    ngx_http_vaani_print(out, "{\"server\":\"");
    ngx_http_vaani_print_escaped(out, &redis->label);
    ngx_http_vaani_print(out, "\",\"form\":\"%V\",\"replies\":%ui",
                         ngx_vaani_redis_form_name(redis), replies);

    ngx_http_vaani_json_numbers(out, NGX_HTTP_VAANI_AT_REDIS, &sum->sum);

    ngx_http_vaani_print(out, ",\"errors\":{");

    comma = "";

    for (n = 0; (name = ngx_vaani_redis_error_name(n)) != NULL; n++) {

        if (sum->sum.errors[n]) {
            ngx_http_vaani_print(out, "%s\"%V\":%uA", comma, name,
                                 sum->sum.errors[n]);
            comma = ",";
        }
    }

    ngx_http_vaani_print(out, "}");

    ngx_http_vaani_json_numbers(out, NGX_HTTP_VAANI_AT_MASTERS, &sum->nodes);
    ngx_http_vaani_json_nodes(out, &sum->nodes);
    ngx_http_vaani_json_round_trips(out, &sum->sum, replies);
    ngx_http_vaani_json_replies(out, snapshot, i);

    ngx_http_vaani_print(out, ",\"workers\":[");

    comma = "";

    for (n = 0; n < redis->nstats; n++) {

        if (ngx_vaani_redis_alive(redis->stats[n].pid)) {
            ngx_http_vaani_print(out, "%s", comma);
            ngx_http_vaani_json_worker(out, &redis->stats[n], n);
            comma = ",";
        }
    }

    ngx_http_vaani_print(out, "]}");
}


static void
ngx_http_vaani_json_nodes(ngx_http_vaani_output_t *out,
    ngx_http_vaani_nodes_t *nodes)
{
    ngx_str_t                 name;
    ngx_uint_t                n;
    ngx_vaani_redis_shown_t  *node;

    ngx_http_vaani_print(out, ",\"nodes\":[");

    for (n = 0; n < nodes->nnodes; n++) {
        node = &nodes->nodes[n];

        name.data = node->name;
        name.len = ngx_strlen(node->name);

        ngx_http_vaani_print(out, "%s{\"node\":\"", n ? "," : "");
        ngx_http_vaani_print_escaped(out, &name);
        ngx_http_vaani_print(out, "\",\"role\":\"%V\"",
                             ngx_vaani_redis_role_name(node->role));

        ngx_http_vaani_json_numbers(out, NGX_HTTP_VAANI_AT_NODE_SLOTS, node);
        ngx_http_vaani_json_numbers(out, NGX_HTTP_VAANI_AT_NODE, node);

        ngx_http_vaani_print(out, "}");
    }

    ngx_http_vaani_print(out, "]");
}


static void
ngx_http_vaani_json_worker(ngx_http_vaani_output_t *out,
    ngx_vaani_redis_stats_t *stats, ngx_uint_t worker)
{
    ngx_str_t                error;
    ngx_vaani_redis_stats_t  copy;

    /* its worker may be writing to it */

    copy = *stats;
    copy.error[NGX_VAANI_REDIS_ERROR_LEN - 1] = '\0';

    ngx_http_vaani_print(out, "{\"worker\":%ui,\"pid\":%uA", worker, copy.pid);

    ngx_http_vaani_json_numbers(out, NGX_HTTP_VAANI_AT_WORKER, &copy);

    ngx_http_vaani_print(out, ",\"since\":%T000", copy.ready_time);

    ngx_http_vaani_json_numbers(out, NGX_HTTP_VAANI_AT_COMMANDS, &copy);

    if (copy.error_time == 0) {
        ngx_http_vaani_print(out, ",\"error\":null,\"error_at\":null}");
        return;
    }

    error.data = copy.error;
    error.len = ngx_strlen(copy.error);

    ngx_http_vaani_print(out, ",\"error\":\"");
    ngx_http_vaani_print_escaped(out, &error);
    ngx_http_vaani_print(out, "\",\"error_at\":%T000}", copy.error_time);
}


static void
ngx_http_vaani_json_spool(ngx_http_vaani_output_t *out,
    ngx_http_vaani_spool_sum_t *sum)
{
    ngx_vaani_spool_status_t  *status;

    status = &sum->status;

    ngx_http_vaani_print(out, "{\"path\":\"");
    ngx_http_vaani_print_escaped(out, &sum->spool->path->name);
    ngx_http_vaani_print(out, "\"");

    ngx_http_vaani_json_numbers(out, NGX_HTTP_VAANI_AT_SPOOL, status);

    if (status->oldest) {
        ngx_http_vaani_print(out, ",\"oldest\":%T000", status->oldest);

    } else {
        ngx_http_vaani_print(out, ",\"oldest\":null");
    }

    ngx_http_vaani_json_numbers(out, NGX_HTTP_VAANI_AT_SPOOL_EVENTS, status);
    ngx_http_vaani_json_numbers(out, NGX_HTTP_VAANI_AT_SPOOL_LEFT, status);

    ngx_http_vaani_print(out, ",\"retain\":%M", sum->spool->retain / 1000);

    ngx_http_vaani_json_numbers(out, NGX_HTTP_VAANI_AT_SPOOL_KEPT, status);

    ngx_http_vaani_print(out, "}");
}


/*
 * Names are printable, without quotes.
 */

static void
ngx_http_vaani_json_drift(ngx_http_vaani_output_t *out,
    ngx_http_vaani_drift_t *drift)
{
    const vaani_str_t  *event;

    event = ngx_http_vaani_event_name(drift->news.event);

    ngx_http_vaani_print(out, "{\"event\":\"%*s\",\"kind\":\"%s\","
                         "\"name\":\"%*s\",\"count\":%uA,"
                         "\"first\":%uA000,\"last\":%uA000}",
                         event->len, event->data,
                         ngx_http_vaani_drift_word(drift->news.kind),
                         (size_t) drift->news.len, drift->news.name,
                         drift->count, drift->first, drift->last);
}


static void
ngx_http_vaani_json_recent(ngx_http_vaani_output_t *out,
    ngx_http_vaani_recent_t *recent)
{
    const vaani_str_t  *event;

    static ngx_str_t    none = ngx_string("none");

    event = ngx_http_vaani_event_name(recent->event);

    ngx_http_vaani_print(out, "{\"time\":%uL,\"event\":\"%*s\",", recent->time,
                         event->len, event->data);

    ngx_http_vaani_json_rank(out, "from", recent->from);
    ngx_http_vaani_json_rank(out, "to", recent->to);

    ngx_http_vaani_print(out, "\"result\":\"%V\",\"reason\":\"%s\","
                         "\"call\":\"%06xD\"}",
                         recent->result
                         ? &ngx_http_vaani_results[recent->result] : &none,
                         vaani_reason_word(recent->reason)->data,
                         recent->call);
}


static void
ngx_http_vaani_json_rank(ngx_http_vaani_output_t *out, char *name,
    ngx_uint_t rank)
{
    const vaani_str_t  *status;

    status = rank ? ngx_http_vaani_rank_name(rank) : NULL;

    if (status) {
        ngx_http_vaani_print(out, "\"%s\":\"%*s\",", name, status->len,
                             status->data);

    } else {
        ngx_http_vaani_print(out, "\"%s\":null,", name);
    }
}
