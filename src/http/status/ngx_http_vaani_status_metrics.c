
/*
 * The numbers for Prometheus.
 */


#include "ngx_http_vaani_status.h"


static void ngx_http_vaani_metric_samples(ngx_http_vaani_output_t *out,
    ngx_http_vaani_snapshot_t *snapshot,
    const ngx_http_vaani_number_t *number);
static void ngx_http_vaani_metric_deliveries(ngx_http_vaani_output_t *out,
    ngx_http_vaani_slot_t *sum, const ngx_http_vaani_number_t *number);
static void ngx_http_vaani_metric_reasons(ngx_http_vaani_output_t *out,
    ngx_http_vaani_slot_t *sum, const ngx_http_vaani_number_t *number);
static void ngx_http_vaani_metric_transitions(ngx_http_vaani_output_t *out,
    ngx_http_vaani_slot_t *sum, const ngx_http_vaani_number_t *number);
static void ngx_http_vaani_metric_calls(ngx_http_vaani_output_t *out,
    ngx_http_vaani_slot_t *sum, const ngx_http_vaani_number_t *number);
static void ngx_http_vaani_metric_redis(ngx_http_vaani_output_t *out,
    ngx_http_vaani_redis_sum_t *sum, const ngx_http_vaani_number_t *number);
static void ngx_http_vaani_metric_workers(ngx_http_vaani_output_t *out,
    ngx_vaani_redis_t *redis, const ngx_http_vaani_number_t *number);
static void ngx_http_vaani_metric_nodes(ngx_http_vaani_output_t *out,
    ngx_http_vaani_redis_sum_t *sum, const ngx_http_vaani_number_t *number);
static void ngx_http_vaani_metric_errors(ngx_http_vaani_output_t *out,
    ngx_http_vaani_redis_sum_t *sum, const ngx_http_vaani_number_t *number);
static void ngx_http_vaani_metric_round_trips(ngx_http_vaani_output_t *out,
    ngx_http_vaani_redis_sum_t *sum);
static void ngx_http_vaani_metric_drift(ngx_http_vaani_output_t *out,
    ngx_http_vaani_snapshot_t *snapshot, const ngx_http_vaani_number_t *number);
static void ngx_http_vaani_metric_label(ngx_http_vaani_output_t *out,
    char *name, char *label, ngx_str_t *value);


void
ngx_http_vaani_print_metrics(ngx_http_vaani_output_t *out,
    ngx_http_vaani_snapshot_t *snapshot)
{
    const ngx_http_vaani_number_t  *number;

    for (number = ngx_http_vaani_numbers; number->metric; number++) {
        ngx_http_vaani_print(out, "# HELP vaani_%s %s\n# TYPE vaani_%s %s\n",
                             number->metric, number->help,
                             number->metric, number->type);

        ngx_http_vaani_metric_samples(out, snapshot, number);
    }
}


static void
ngx_http_vaani_metric_samples(ngx_http_vaani_output_t *out,
    ngx_http_vaani_snapshot_t *snapshot,
    const ngx_http_vaani_number_t *number)
{
    ngx_uint_t                   n;
    ngx_http_vaani_spool_sum_t  *spool;

    switch (number->where) {

    case NGX_HTTP_VAANI_AT_INFO:
        ngx_http_vaani_print(out, "vaani_info{version=\""
                             NGX_HTTP_VAANI_VERSION "\",nginx=\""
                             NGINX_VERSION "\"} 1\n");
        break;

    case NGX_HTTP_VAANI_AT_START:
        ngx_http_vaani_print(out, "vaani_%s %uL.%03uL\n", number->metric,
                             snapshot->since / 1000, snapshot->since % 1000);
        break;

    case NGX_HTTP_VAANI_AT_SUM:
        ngx_http_vaani_print(out, "vaani_%s %uA\n", number->metric,
                             ngx_http_vaani_value(number, &snapshot->sum));
        break;

    case NGX_HTTP_VAANI_AT_DELIVERIES:
        ngx_http_vaani_metric_deliveries(out, &snapshot->sum, number);
        break;

    case NGX_HTTP_VAANI_AT_REASONS:
        ngx_http_vaani_metric_reasons(out, &snapshot->sum, number);
        break;

    case NGX_HTTP_VAANI_AT_TRANSITIONS:
        ngx_http_vaani_metric_transitions(out, &snapshot->sum, number);
        break;

    case NGX_HTTP_VAANI_AT_CALLS:
        ngx_http_vaani_metric_calls(out, &snapshot->sum, number);
        break;

    case NGX_HTTP_VAANI_AT_DRIFT:
        ngx_http_vaani_metric_drift(out, snapshot, number);
        break;

    case NGX_HTTP_VAANI_AT_SPOOL:
    case NGX_HTTP_VAANI_AT_SPOOL_EVENTS:
    case NGX_HTTP_VAANI_AT_SPOOL_KEPT:
    case NGX_HTTP_VAANI_AT_SPOOL_LEFT:

        for (n = 0; n < snapshot->nspools; n++) {
            spool = &snapshot->spools[n];

            ngx_http_vaani_metric_label(out, number->metric, "path",
                                        &spool->spool->path->name);
            ngx_http_vaani_print(out, "} %uA\n",
                                 ngx_http_vaani_value(number, &spool->status));
        }

        break;

    default:

        for (n = 0; n < snapshot->nredis; n++) {
            ngx_http_vaani_metric_redis(out, &snapshot->redis[n], number);
        }
    }
}


static void
ngx_http_vaani_metric_deliveries(ngx_http_vaani_output_t *out,
    ngx_http_vaani_slot_t *sum, const ngx_http_vaani_number_t *number)
{
    ngx_uint_t          event, result;
    const vaani_str_t  *name;

    static ngx_str_t    none = ngx_string("none");

    for (event = 0; (name = ngx_http_vaani_event_name(event)) != NULL; event++)
    {
        for (result = 0; result < NGX_HTTP_VAANI_RESULTS; result++) {
            ngx_http_vaani_print(out, "vaani_%s{event=\"%*s\",result=\"%V\"} "
                                 "%uA\n", number->metric, name->len, name->data,
                                 result ? &ngx_http_vaani_results[result]
                                        : &none,
                                 sum->deliveries[event][result]);
        }
    }
}


static void
ngx_http_vaani_metric_reasons(ngx_http_vaani_output_t *out,
    ngx_http_vaani_slot_t *sum, const ngx_http_vaani_number_t *number)
{
    ngx_uint_t  n;

    for (n = 1; n < VAANI_NREASONS; n++) {
        ngx_http_vaani_print(out, "vaani_%s{reason=\"%s\"} %uA\n",
                             number->metric, vaani_reason_word(n)->data,
                             sum->reasons[n]);
    }
}


static void
ngx_http_vaani_metric_transitions(ngx_http_vaani_output_t *out,
    ngx_http_vaani_slot_t *sum, const ngx_http_vaani_number_t *number)
{
    ngx_uint_t          from, to;
    const vaani_str_t  *one, *two;

    for (from = 0; from < NGX_HTTP_VAANI_RANKS; from++) {
        for (to = 1; to < NGX_HTTP_VAANI_RANKS; to++) {

            one = ngx_http_vaani_rank_name(from);
            two = vaani_status_name(to);

            if (sum->transitions[from][to] && one && two) {
                ngx_http_vaani_print(out, "vaani_%s{from=\"%*s\",to=\"%*s\"} "
                                     "%uA\n", number->metric, one->len,
                                     one->data, two->len, two->data,
                                     sum->transitions[from][to]);
            }
        }
    }
}


static void
ngx_http_vaani_metric_calls(ngx_http_vaani_output_t *out,
    ngx_http_vaani_slot_t *sum, const ngx_http_vaani_number_t *number)
{
    ngx_uint_t          rank;
    const vaani_str_t  *name;

    for (rank = 1; (name = vaani_status_name(rank)) != NULL; rank++) {
        ngx_http_vaani_print(out, "vaani_%s{status=\"%*s\"} %i\n",
                             number->metric, name->len, name->data,
                             ngx_http_vaani_calls(sum, rank));
    }
}


static void
ngx_http_vaani_metric_redis(ngx_http_vaani_output_t *out,
    ngx_http_vaani_redis_sum_t *sum, const ngx_http_vaani_number_t *number)
{
    void  *base;

    switch (number->where) {

    case NGX_HTTP_VAANI_AT_WORKER:
        ngx_http_vaani_metric_workers(out, sum->redis, number);
        return;

    case NGX_HTTP_VAANI_AT_NODE:
    case NGX_HTTP_VAANI_AT_NODE_SLOTS:
        ngx_http_vaani_metric_nodes(out, sum, number);
        return;

    case NGX_HTTP_VAANI_AT_ERRORS:
        ngx_http_vaani_metric_errors(out, sum, number);
        return;

    case NGX_HTTP_VAANI_AT_ROUND_TRIPS:
        ngx_http_vaani_metric_round_trips(out, sum);
        return;

    case NGX_HTTP_VAANI_AT_MASTERS:
        base = &sum->nodes;
        break;

    default:
        base = &sum->sum;
    }

    ngx_http_vaani_metric_label(out, number->metric, "server",
                                &sum->redis->label);
    ngx_http_vaani_print(out, "} %uA\n", ngx_http_vaani_value(number, base));
}


static void
ngx_http_vaani_metric_workers(ngx_http_vaani_output_t *out,
    ngx_vaani_redis_t *redis, const ngx_http_vaani_number_t *number)
{
    ngx_uint_t  n;

    for (n = 0; n < redis->nstats; n++) {

        if (ngx_vaani_redis_alive(redis->stats[n].pid)) {
            ngx_http_vaani_metric_label(out, number->metric, "server",
                                        &redis->label);
            ngx_http_vaani_print(out, ",worker=\"%ui\"} %uA\n", n,
                               ngx_http_vaani_value(number, &redis->stats[n]));
        }
    }
}


static void
ngx_http_vaani_metric_nodes(ngx_http_vaani_output_t *out,
    ngx_http_vaani_redis_sum_t *sum, const ngx_http_vaani_number_t *number)
{
    ngx_str_t                 name;
    ngx_uint_t                n;
    ngx_vaani_redis_shown_t  *node;

    for (n = 0; n < sum->nodes.nnodes; n++) {
        node = &sum->nodes.nodes[n];

        name.data = node->name;
        name.len = ngx_strlen(node->name);

        ngx_http_vaani_metric_label(out, number->metric, "server",
                                    &sum->redis->label);
        ngx_http_vaani_print(out, ",node=\"");
        ngx_http_vaani_print_escaped(out, &name);
        ngx_http_vaani_print(out, "\",role=\"%V\"} %uA\n",
                             ngx_vaani_redis_role_name(node->role),
                             ngx_http_vaani_value(number, node));
    }
}


static void
ngx_http_vaani_metric_errors(ngx_http_vaani_output_t *out,
    ngx_http_vaani_redis_sum_t *sum, const ngx_http_vaani_number_t *number)
{
    ngx_uint_t        n;
    const ngx_str_t  *code;

    for (n = 0; (code = ngx_vaani_redis_error_name(n)) != NULL; n++) {
        ngx_http_vaani_metric_label(out, number->metric, "server",
                                    &sum->redis->label);
        ngx_http_vaani_print(out, ",code=\"%V\"} %uA\n", code,
                             sum->sum.errors[n]);
    }
}


static void
ngx_http_vaani_metric_round_trips(ngx_http_vaani_output_t *out,
    ngx_http_vaani_redis_sum_t *sum)
{
    ngx_uint_t         n, bound;
    ngx_atomic_uint_t  count;

    count = 0;

    for (n = 0; n <= NGX_VAANI_REDIS_BOUNDS; n++) {
        count += sum->sum.round_trips[n];

        ngx_http_vaani_metric_label(out, "redis_round_trip_seconds_bucket",
                                    "server", &sum->redis->label);

        if (n == NGX_VAANI_REDIS_BOUNDS) {
            ngx_http_vaani_print(out, ",le=\"+Inf\"} %uA\n", count);
            break;
        }

        bound = ngx_vaani_redis_bounds[n];

        ngx_http_vaani_print(out, ",le=\"%ui.%06ui\"} %uA\n",
                             bound / 1000000, bound % 1000000, count);
    }

    ngx_http_vaani_metric_label(out, "redis_round_trip_seconds_sum", "server",
                                &sum->redis->label);
    ngx_http_vaani_print(out, "} %uA.%06uA\n",
                         sum->sum.round_trip_sum / 1000000,
                         sum->sum.round_trip_sum % 1000000);

    ngx_http_vaani_metric_label(out, "redis_round_trip_seconds_count", "server",
                                &sum->redis->label);
    ngx_http_vaani_print(out, "} %uA\n", count);
}


/*
 * A series per stored name, and one for all others.
 */

static void
ngx_http_vaani_metric_drift(ngx_http_vaani_output_t *out,
    ngx_http_vaani_snapshot_t *snapshot, const ngx_http_vaani_number_t *number)
{
    ngx_uint_t               n;
    const vaani_str_t       *event;
    ngx_http_vaani_drift_t  *drift;

    for (n = 0; n < snapshot->ndrift; n++) {
        drift = snapshot->drift[n];
        event = ngx_http_vaani_event_name(drift->news.event);

        ngx_http_vaani_print(out, "vaani_%s{event=\"%*s\",kind=\"%s\","
                             "name=\"%*s\"} %uA\n",
                             number->metric, event->len, event->data,
                             ngx_http_vaani_drift_word(drift->news.kind),
                             (size_t) drift->news.len, drift->news.name,
                             drift->count);
    }

    ngx_http_vaani_print(out, "vaani_%s{event=\"other\",kind=\"other\","
                         "name=\"other\"} %uA\n",
                         number->metric, snapshot->drift_other);
}


/*
 * A name with its first label, left open for others.
 */

static void
ngx_http_vaani_metric_label(ngx_http_vaani_output_t *out, char *name,
    char *label, ngx_str_t *value)
{
    ngx_http_vaani_print(out, "vaani_%s{%s=\"", name, label);
    ngx_http_vaani_print_escaped(out, value);
    ngx_http_vaani_print(out, "\"");
}
