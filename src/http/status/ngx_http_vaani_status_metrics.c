
#include "ngx_http_vaani_status.h"


static void ngx_http_vaani_metric(ngx_http_vaani_output_t *out, char *name,
    char *type, char *help);
static void ngx_http_vaani_metric_number(ngx_http_vaani_output_t *out,
    char *name, char *type, char *help, ngx_atomic_uint_t value);
static void ngx_http_vaani_metric_deliveries(ngx_http_vaani_output_t *out,
    ngx_http_vaani_slot_t *sum);
static void ngx_http_vaani_metric_calls(ngx_http_vaani_output_t *out,
    ngx_http_vaani_slot_t *sum);
static void ngx_http_vaani_metric_workers(ngx_http_vaani_output_t *out,
    ngx_http_vaani_main_conf_t *vmcf, char *name, char *help, size_t offset);
static void ngx_http_vaani_metric_servers(ngx_http_vaani_output_t *out,
    ngx_http_vaani_main_conf_t *vmcf, char *name, char *type, char *help,
    size_t offset);
static void ngx_http_vaani_metric_masters(ngx_http_vaani_output_t *out,
    ngx_http_vaani_main_conf_t *vmcf);
static void ngx_http_vaani_metric_nodes(ngx_http_vaani_output_t *out,
    ngx_http_vaani_main_conf_t *vmcf, char *name, char *help, size_t offset);
static void ngx_http_vaani_metric_errors(ngx_http_vaani_output_t *out,
    ngx_http_vaani_main_conf_t *vmcf);
static void ngx_http_vaani_metric_round_trips(ngx_http_vaani_output_t *out,
    ngx_http_vaani_main_conf_t *vmcf);
static void ngx_http_vaani_metric_spools(ngx_http_vaani_output_t *out,
    ngx_http_vaani_main_conf_t *vmcf, char *name, char *type, char *help,
    size_t offset);
static void ngx_http_vaani_metric_drift(ngx_http_vaani_output_t *out,
    ngx_http_vaani_snapshot_t *snapshot);
static void ngx_http_vaani_metric_label(ngx_http_vaani_output_t *out,
    char *name, char *label, ngx_str_t *value);


void
ngx_http_vaani_print_metrics(ngx_http_vaani_output_t *out,
    ngx_http_vaani_snapshot_t *snapshot)
{
    uint64_t                     since;
    ngx_http_vaani_slot_t       *sum;
    ngx_http_vaani_main_conf_t  *vmcf;

    sum = &snapshot->sum;
    vmcf = snapshot->vmcf;

    since = vmcf->stats ? vmcf->stats->since : snapshot->time;

    ngx_http_vaani_metric(out, "info", "gauge", "Versions, as labels.");
    ngx_http_vaani_print(out, "vaani_info{version=\"" NGX_HTTP_VAANI_VERSION
                         "\",nginx=\"" NGINX_VERSION "\"} 1\n");

    ngx_http_vaani_metric(out, "start_time_seconds", "gauge",
                          "When the counters began, Unix time.");
    ngx_http_vaani_print(out, "vaani_start_time_seconds %uL.%03uL\n",
                         since / 1000, since % 1000);

    ngx_http_vaani_metric_deliveries(out, sum);

    ngx_http_vaani_metric_number(out, "received_bytes_total", "counter",
                                 "Bodies received, in bytes.", sum->bytes);
    ngx_http_vaani_metric_number(out, "in_flight", "gauge",
                                 "Deliveries that wait for Redis or the spool.",
                                 sum->in_flight);

    ngx_http_vaani_metric_calls(out, sum);

    ngx_http_vaani_metric_workers(out, vmcf, "redis_connections",
                        "Connections to Redis that a worker has or wants.",
                        offsetof(ngx_vaani_redis_stats_t, connections));
    ngx_http_vaani_metric_workers(out, vmcf, "redis_connections_ready",
                        "Those of them that take events.",
                        offsetof(ngx_vaani_redis_stats_t, ready));

    ngx_http_vaani_metric_servers(out, vmcf, "redis_commands", "gauge",
                        "Commands that wait or are under way.",
                        offsetof(ngx_vaani_redis_stats_t, commands));
    ngx_http_vaani_metric_servers(out, vmcf, "redis_waiting_bytes", "gauge",
                        "Their size.",
                        offsetof(ngx_vaani_redis_stats_t, bytes));
    ngx_http_vaani_metric_servers(out, vmcf, "redis_connects_total", "counter",
                        "Connections that got ready.",
                        offsetof(ngx_vaani_redis_stats_t, connects));
    ngx_http_vaani_metric_servers(out, vmcf, "redis_disconnects_total",
                        "counter", "Ready connections that ended.",
                        offsetof(ngx_vaani_redis_stats_t, disconnects));
    ngx_http_vaani_metric_servers(out, vmcf, "redis_redirects_total",
                        "counter", "Commands that a node of a cluster sent to "
                        "another one.",
                        offsetof(ngx_vaani_redis_stats_t, redirects));
    ngx_http_vaani_metric_servers(out, vmcf, "redis_table_refreshes_total",
                        "counter", "Times that a worker asked a cluster who "
                        "owns which slot.",
                        offsetof(ngx_vaani_redis_stats_t, refreshes));
    ngx_http_vaani_metric_servers(out, vmcf, "redis_failovers_total",
                        "counter", "Changes of a master that a worker "
                        "followed.",
                        offsetof(ngx_vaani_redis_stats_t, failovers));

    ngx_http_vaani_metric_masters(out, vmcf);
    ngx_http_vaani_metric_nodes(out, vmcf, "redis_node_connections",
                        "Connections to a server that workers have or want.",
                        offsetof(ngx_vaani_redis_shown_t, connections));
    ngx_http_vaani_metric_nodes(out, vmcf, "redis_node_ready",
                        "Those of them that take events.",
                        offsetof(ngx_vaani_redis_shown_t, ready));
    ngx_http_vaani_metric_nodes(out, vmcf, "redis_node_slots",
                        "Slots of a cluster that a server owns.",
                        offsetof(ngx_vaani_redis_shown_t, slots));

    ngx_http_vaani_metric_errors(out, vmcf);
    ngx_http_vaani_metric_round_trips(out, vmcf);

    ngx_http_vaani_metric_spools(out, vmcf, "spool_records", "gauge",
                        "Events that wait on disk, without those of an earlier "
                        "nginx.", offsetof(ngx_vaani_spool_status_t, records));
    ngx_http_vaani_metric_spools(out, vmcf, "spool_bytes", "gauge",
                        "Size of the segments on disk.",
                        offsetof(ngx_vaani_spool_status_t, bytes));
    ngx_http_vaani_metric_spools(out, vmcf, "spool_max_bytes", "gauge",
                        "The limit of that.",
                        offsetof(ngx_vaani_spool_status_t, max));
    ngx_http_vaani_metric_spools(out, vmcf, "spool_oldest_age_seconds",
                        "gauge", "How long the oldest event waits, about.",
                        offsetof(ngx_vaani_spool_status_t, age));
    ngx_http_vaani_metric_spools(out, vmcf, "spool_appended_total", "counter",
                        "Events written to disk.",
                        offsetof(ngx_vaani_spool_status_t, appended));
    ngx_http_vaani_metric_spools(out, vmcf, "spool_replayed_total", "counter",
                        "Events delivered from disk to Redis.",
                        offsetof(ngx_vaani_spool_status_t, replayed));
    ngx_http_vaani_metric_spools(out, vmcf, "spool_dead_letters_total",
                        "counter", "Events that Redis refuses for good.",
                        offsetof(ngx_vaani_spool_status_t, buried));
    ngx_http_vaani_metric_spools(out, vmcf, "spool_refused_total", "counter",
                        "Events that were not written, since the spool was "
                        "full or failed.",
                        offsetof(ngx_vaani_spool_status_t, refused));
    ngx_http_vaani_metric_spools(out, vmcf, "spool_kept_bytes", "gauge",
                        "Size of what is kept of events that Redis has.",
                        offsetof(ngx_vaani_spool_status_t, kept_bytes));
    ngx_http_vaani_metric_spools(out, vmcf, "spool_kept_seconds", "gauge",
                        "How far back that reaches.",
                        offsetof(ngx_vaani_spool_status_t, kept_age));
    ngx_http_vaani_metric_spools(out, vmcf, "spool_kept_total", "counter",
                        "Events that Redis took and that were kept.",
                        offsetof(ngx_vaani_spool_status_t, kept));
    ngx_http_vaani_metric_spools(out, vmcf, "spool_not_kept_total", "counter",
                        "Events that Redis took and the disk did not, or not "
                        "in time.",
                        offsetof(ngx_vaani_spool_status_t, not_kept));
    ngx_http_vaani_metric_spools(out, vmcf, "spool_losses_total", "counter",
                        "How often Redis has lost what it had answered.",
                        offsetof(ngx_vaani_spool_status_t, forgotten));
    ngx_http_vaani_metric_spools(out, vmcf, "spool_losses_beyond_total",
                        "counter", "How often it has lost more than is kept.",
                        offsetof(ngx_vaani_spool_status_t, beyond));
    ngx_http_vaani_metric_spools(out, vmcf, "spool_looked_at_total",
                        "counter", "Kept events that were applied again.",
                        offsetof(ngx_vaani_spool_status_t, looked_at));
    ngx_http_vaani_metric_spools(out, vmcf, "spool_brought_back_total",
                        "counter", "Those of them that Redis had lost.",
                        offsetof(ngx_vaani_spool_status_t, brought_back));
    ngx_http_vaani_metric_spools(out, vmcf, "spool_dead_letters_bytes",
                        "gauge", "Size of the dead letters that are kept.",
                        offsetof(ngx_vaani_spool_status_t, dead_letters_bytes));
    ngx_http_vaani_metric_spools(out, vmcf, "spool_bad_bytes", "gauge",
                        "Size of the damaged records that are kept.",
                        offsetof(ngx_vaani_spool_status_t, bad_bytes));
    ngx_http_vaani_metric_spools(out, vmcf, "spool_refused_bytes", "gauge",
                        "Size of the refused deliveries that are kept.",
                        offsetof(ngx_vaani_spool_status_t, refused_bytes));
    ngx_http_vaani_metric_spools(out, vmcf, "spool_refusals_kept_total",
                        "counter", "Refused deliveries that were kept.",
                        offsetof(ngx_vaani_spool_status_t, refused_kept));
    ngx_http_vaani_metric_spools(out, vmcf, "spool_refusals_dropped_total",
                        "counter", "Refused deliveries that were not kept, or "
                        "made room for others.",
                        offsetof(ngx_vaani_spool_status_t, refused_dropped));

    ngx_http_vaani_metric_drift(out, snapshot);
}


static void
ngx_http_vaani_metric(ngx_http_vaani_output_t *out, char *name, char *type,
    char *help)
{
    ngx_http_vaani_print(out, "# HELP vaani_%s %s\n# TYPE vaani_%s %s\n",
                         name, help, name, type);
}


static void
ngx_http_vaani_metric_number(ngx_http_vaani_output_t *out, char *name,
    char *type, char *help, ngx_atomic_uint_t value)
{
    ngx_http_vaani_metric(out, name, type, help);
    ngx_http_vaani_print(out, "vaani_%s %uA\n", name, value);
}


static void
ngx_http_vaani_metric_deliveries(ngx_http_vaani_output_t *out,
    ngx_http_vaani_slot_t *sum)
{
    ngx_uint_t          event, result, n;
    const vaani_str_t  *name;

    ngx_http_vaani_metric(out, "deliveries_total", "counter",
                          "Deliveries by event and result.");

    for (event = 0; (name = ngx_http_vaani_event_name(event)) != NULL; event++)
    {
        for (result = 0; result < NGX_HTTP_VAANI_RESULTS; result++) {

            ngx_http_vaani_print(out, "vaani_deliveries_total{event=\"%*s\",",
                                 name->len, name->data);

            if (result == NGX_HTTP_VAANI_PENDING) {
                ngx_http_vaani_print(out, "result=\"none\"} %uA\n",
                                     sum->deliveries[event][result]);
                continue;
            }

            ngx_http_vaani_print(out, "result=\"%V\"} %uA\n",
                                 &ngx_http_vaani_results[result],
                                 sum->deliveries[event][result]);
        }
    }

    ngx_http_vaani_metric(out, "reasons_total", "counter",
                          "Deliveries by reason, if there was one.");

    for (n = 1; n < VAANI_NREASONS; n++) {
        ngx_http_vaani_print(out, "vaani_reasons_total{reason=\"%s\"} %uA\n",
                             vaani_reason_word(n)->data, sum->reasons[n]);
    }
}


static void
ngx_http_vaani_metric_calls(ngx_http_vaani_output_t *out,
    ngx_http_vaani_slot_t *sum)
{
    ngx_uint_t          from, to;
    const vaani_str_t  *one, *two;

    ngx_http_vaani_metric(out, "transitions_total", "counter",
                          "Events applied, by the status of the call before "
                          "and after.");

    for (from = 0; from < NGX_HTTP_VAANI_RANKS; from++) {
        for (to = 1; to < NGX_HTTP_VAANI_RANKS; to++) {

            one = ngx_http_vaani_rank_name(from);
            two = vaani_status_name(to);

            if (sum->transitions[from][to] && one && two) {
                ngx_http_vaani_print(out, "vaani_transitions_total{"
                                     "from=\"%*s\",to=\"%*s\"} %uA\n",
                                     one->len, one->data, two->len, two->data,
                                     sum->transitions[from][to]);
            }
        }
    }

    ngx_http_vaani_metric(out, "calls", "gauge",
                          "Calls by where they stand, of those that were "
                          "counted.");

    for (to = 1; (two = vaani_status_name(to)) != NULL; to++) {
        ngx_http_vaani_print(out, "vaani_calls{status=\"%*s\"} %i\n",
                             two->len, two->data,
                             ngx_http_vaani_calls(sum, to));
    }
}


/*
 * offset: of an ngx_atomic_t in ngx_vaani_redis_stats_t.
 */

static void
ngx_http_vaani_metric_workers(ngx_http_vaani_output_t *out,
    ngx_http_vaani_main_conf_t *vmcf, char *name, char *help, size_t offset)
{
    u_char              *stats;
    ngx_uint_t           n, worker;
    ngx_vaani_redis_t  **redis;

    ngx_http_vaani_metric(out, name, "gauge", help);

    redis = vmcf->redis.elts;

    for (n = 0; n < vmcf->redis.nelts; n++) {
        for (worker = 0; worker < redis[n]->nstats; worker++) {

            if (!ngx_vaani_redis_alive(redis[n]->stats[worker].pid)) {
                continue;
            }

            stats = (u_char *) &redis[n]->stats[worker];

            ngx_http_vaani_metric_label(out, name, "server",
                                        &redis[n]->label);
            ngx_http_vaani_print(out, ",worker=\"%ui\"} %uA\n", worker,
                                 *(ngx_atomic_t *) (stats + offset));
        }
    }
}


static void
ngx_http_vaani_metric_servers(ngx_http_vaani_output_t *out,
    ngx_http_vaani_main_conf_t *vmcf, char *name, char *type, char *help,
    size_t offset)
{
    ngx_uint_t                n;
    ngx_vaani_redis_t       **redis;
    ngx_vaani_redis_stats_t   sum;

    ngx_http_vaani_metric(out, name, type, help);

    redis = vmcf->redis.elts;

    for (n = 0; n < vmcf->redis.nelts; n++) {
        ngx_http_vaani_sum_redis(redis[n], &sum);

        ngx_http_vaani_metric_label(out, name, "server", &redis[n]->label);
        ngx_http_vaani_print(out, "} %uA\n",
                             *(ngx_atomic_t *) ((u_char *) &sum + offset));
    }
}


static void
ngx_http_vaani_metric_masters(ngx_http_vaani_output_t *out,
    ngx_http_vaani_main_conf_t *vmcf)
{
    ngx_uint_t               n, down;
    ngx_vaani_redis_t      **redis;
    ngx_http_vaani_nodes_t   nodes;

    static char  *names[] = { "redis_masters", "redis_masters_down" };

    redis = vmcf->redis.elts;

    for (down = 0; down < 2; down++) {
        ngx_http_vaani_metric(out, names[down], "gauge",
                              down ? "Those of them that a worker has no "
                                     "connection to."
                                   : "Masters that are known.");

        for (n = 0; n < vmcf->redis.nelts; n++) {
            ngx_http_vaani_sum_nodes(redis[n], &nodes);

            ngx_http_vaani_metric_label(out, names[down], "server",
                                        &redis[n]->label);
            ngx_http_vaani_print(out, "} %ui\n",
                                 down ? nodes.ndown : nodes.nmasters);
        }
    }
}


/*
 * offset: of an ngx_atomic_t in ngx_vaani_redis_shown_t.
 */

static void
ngx_http_vaani_metric_nodes(ngx_http_vaani_output_t *out,
    ngx_http_vaani_main_conf_t *vmcf, char *name, char *help, size_t offset)
{
    u_char                   *node;
    ngx_str_t                 label;
    ngx_uint_t                n, i;
    ngx_vaani_redis_t       **redis;
    ngx_http_vaani_nodes_t    nodes;

    ngx_http_vaani_metric(out, name, "gauge", help);

    redis = vmcf->redis.elts;

    for (n = 0; n < vmcf->redis.nelts; n++) {
        ngx_http_vaani_sum_nodes(redis[n], &nodes);

        for (i = 0; i < nodes.nnodes; i++) {
            label.data = nodes.nodes[i].name;
            label.len = ngx_strlen(nodes.nodes[i].name);

            ngx_http_vaani_metric_label(out, name, "server",
                                        &redis[n]->label);
            ngx_http_vaani_print(out, ",node=\"");
            ngx_http_vaani_print_escaped(out, &label);

            node = (u_char *) &nodes.nodes[i];

            ngx_http_vaani_print(out, "\",role=\"%V\"} %uA\n",
                            ngx_vaani_redis_role_name(nodes.nodes[i].role),
                            *(ngx_atomic_t *) (node + offset));
        }
    }
}


static void
ngx_http_vaani_metric_errors(ngx_http_vaani_output_t *out,
    ngx_http_vaani_main_conf_t *vmcf)
{
    ngx_uint_t                n, i;
    const ngx_str_t          *code;
    ngx_vaani_redis_t       **redis;
    ngx_vaani_redis_stats_t   sum;

    ngx_http_vaani_metric(out, "redis_errors_total", "counter",
                          "Error replies by code, and connections that went "
                          "wrong.");

    redis = vmcf->redis.elts;

    for (n = 0; n < vmcf->redis.nelts; n++) {
        ngx_http_vaani_sum_redis(redis[n], &sum);

        for (i = 0; (code = ngx_vaani_redis_error_name(i)) != NULL; i++) {
            ngx_http_vaani_metric_label(out, "redis_errors_total", "server",
                                        &redis[n]->label);
            ngx_http_vaani_print(out, ",code=\"%V\"} %uA\n", code,
                                 sum.errors[i]);
        }
    }
}


static void
ngx_http_vaani_metric_round_trips(ngx_http_vaani_output_t *out,
    ngx_http_vaani_main_conf_t *vmcf)
{
    ngx_uint_t                n, i, bound;
    ngx_vaani_redis_t       **redis;
    ngx_atomic_uint_t         count;
    ngx_vaani_redis_stats_t   sum;

    ngx_http_vaani_metric(out, "redis_round_trip_seconds", "histogram",
                          "From the write of a command to its reply.");

    redis = vmcf->redis.elts;

    for (n = 0; n < vmcf->redis.nelts; n++) {
        ngx_http_vaani_sum_redis(redis[n], &sum);

        count = 0;

        for (i = 0; i <= NGX_VAANI_REDIS_BOUNDS; i++) {
            count += sum.round_trips[i];

            ngx_http_vaani_metric_label(out, "redis_round_trip_seconds_bucket",
                                        "server", &redis[n]->label);

            if (i == NGX_VAANI_REDIS_BOUNDS) {
                ngx_http_vaani_print(out, ",le=\"+Inf\"} %uA\n", count);
                break;
            }

            bound = ngx_vaani_redis_bounds[i];

            ngx_http_vaani_print(out, ",le=\"%ui.%06ui\"} %uA\n",
                                 bound / 1000000, bound % 1000000, count);
        }

        ngx_http_vaani_metric_label(out, "redis_round_trip_seconds_sum",
                                    "server", &redis[n]->label);
        ngx_http_vaani_print(out, "} %uA.%06uA\n",
                             sum.round_trip_sum / 1000000,
                             sum.round_trip_sum % 1000000);

        ngx_http_vaani_metric_label(out, "redis_round_trip_seconds_count",
                                    "server", &redis[n]->label);
        ngx_http_vaani_print(out, "} %uA\n", count);
    }
}


/*
 * offset: of an ngx_atomic_uint_t in ngx_vaani_spool_status_t.
 */

static void
ngx_http_vaani_metric_spools(ngx_http_vaani_output_t *out,
    ngx_http_vaani_main_conf_t *vmcf, char *name, char *type, char *help,
    size_t offset)
{
    ngx_uint_t                  n;
    ngx_vaani_spool_t         **spool;
    ngx_vaani_spool_status_t    status;

    ngx_http_vaani_metric(out, name, type, help);

    spool = vmcf->spools.elts;

    for (n = 0; n < vmcf->spools.nelts; n++) {

        if (spool[n]->data == NULL) {
            continue;
        }

        ngx_vaani_spool_get_status(spool[n], &status);

        ngx_http_vaani_metric_label(out, name, "path", &spool[n]->path->name);
        ngx_http_vaani_print(out, "} %uA\n",
                          *(ngx_atomic_uint_t *) ((u_char *) &status + offset));
    }
}


/*
 * A series for each name that is kept, and one for all others.
 */

static void
ngx_http_vaani_metric_drift(ngx_http_vaani_output_t *out,
    ngx_http_vaani_snapshot_t *snapshot)
{
    ngx_uint_t               n;
    const vaani_str_t       *event;
    ngx_http_vaani_drift_t  *drift;

    ngx_http_vaani_metric(out, "drift_total", "counter",
                          "What was new in the deliveries, by its name.");

    for (n = 0; n < snapshot->ndrift; n++) {
        drift = snapshot->drift[n];
        event = ngx_http_vaani_event_name(drift->event);

        ngx_http_vaani_print(out, "vaani_drift_total{event=\"%*s\","
                             "kind=\"%s\",name=\"%*s\"} %uA\n",
                             event->len, event->data,
                             ngx_http_vaani_drift_word(drift->kind),
                             (size_t) drift->len, drift->name, drift->count);
    }

    ngx_http_vaani_print(out, "vaani_drift_total{event=\"other\","
                         "kind=\"other\",name=\"other\"} %uA\n",
                         snapshot->drift_other);
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
