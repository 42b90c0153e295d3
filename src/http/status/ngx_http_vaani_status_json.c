
#include "ngx_http_vaani_status.h"


static void ngx_http_vaani_json_deliveries(ngx_http_vaani_output_t *out,
    ngx_http_vaani_slot_t *sum);
static void ngx_http_vaani_json_results(ngx_http_vaani_output_t *out,
    ngx_atomic_t *results);
static void ngx_http_vaani_json_transitions(ngx_http_vaani_output_t *out,
    ngx_http_vaani_slot_t *sum);
static void ngx_http_vaani_json_redis(ngx_http_vaani_output_t *out,
    ngx_vaani_redis_t *redis);
static void ngx_http_vaani_json_nodes(ngx_http_vaani_output_t *out,
    ngx_vaani_redis_t *redis);
static void ngx_http_vaani_json_round_trip(ngx_http_vaani_output_t *out,
    ngx_vaani_redis_stats_t *sum, ngx_uint_t total);
static void ngx_http_vaani_json_quantile(ngx_http_vaani_output_t *out,
    ngx_vaani_redis_stats_t *sum, ngx_uint_t total, ngx_uint_t percent);
static void ngx_http_vaani_json_worker(ngx_http_vaani_output_t *out,
    ngx_vaani_redis_stats_t *stats, ngx_uint_t worker);
static void ngx_http_vaani_json_spool(ngx_http_vaani_output_t *out,
    ngx_vaani_spool_t *spool);
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
    char                   *comma;
    ngx_uint_t              n;
    ngx_vaani_redis_t     **redis;
    ngx_vaani_spool_t     **spool;
    ngx_http_vaani_slot_t  *sum;

    sum = &snapshot->sum;

    ngx_http_vaani_print(out,
                  "{\"version\":\"" NGX_HTTP_VAANI_VERSION "\","
                  "\"nginx\":\"" NGINX_VERSION "\","
                  "\"time\":%uL,\"since\":%uL,\"bytes\":%uA,\"in_flight\":%uA",
                  snapshot->time,
                  snapshot->vmcf->stats ? snapshot->vmcf->stats->since
                                        : snapshot->time,
                  sum->bytes, sum->in_flight);

    ngx_http_vaani_json_deliveries(out, sum);
    ngx_http_vaani_json_transitions(out, sum);

    ngx_http_vaani_print(out, ",\"redis\":[");

    redis = snapshot->vmcf->redis.elts;

    for (n = 0; n < snapshot->vmcf->redis.nelts; n++) {
        ngx_http_vaani_print(out, "%s", n ? "," : "");
        ngx_http_vaani_json_redis(out, redis[n]);
    }

    ngx_http_vaani_print(out, "],\"spools\":[");

    spool = snapshot->vmcf->spools.elts;
    comma = "";

    for (n = 0; n < snapshot->vmcf->spools.nelts; n++) {

        if (spool[n]->data) {
            ngx_http_vaani_print(out, "%s", comma);
            ngx_http_vaani_json_spool(out, spool[n]);
            comma = ",";
        }
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

    ngx_http_vaani_print(out, "]}\n");
}


static void
ngx_http_vaani_json_deliveries(ngx_http_vaani_output_t *out,
    ngx_http_vaani_slot_t *sum)
{
    char               *comma;
    ngx_uint_t          n, i;
    const vaani_str_t  *name;

    ngx_http_vaani_print(out, ",\"deliveries\":[");

    /* the rows of the table, then what is none of them */

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
    ngx_vaani_redis_t *redis)
{
    char                     *comma;
    ngx_uint_t                n, replies;
    const ngx_str_t          *name;
    ngx_vaani_redis_stats_t   sum;

    ngx_http_vaani_sum_redis(redis, &sum);

    replies = 0;

    for (n = 0; n <= NGX_VAANI_REDIS_BOUNDS; n++) {
        replies += sum.round_trips[n];
    }

    ngx_http_vaani_print(out, "{\"server\":\"");
    ngx_http_vaani_print_escaped(out, &redis->label);
    ngx_http_vaani_print(out, "\",\"form\":\"%V\",\"replies\":%ui,"
                         "\"connects\":%uA,\"disconnects\":%uA,"
                         "\"redirects\":%uA,\"table_refreshes\":%uA,"
                         "\"failovers\":%uA,\"errors\":{",
                         ngx_vaani_redis_form_name(redis), replies,
                         sum.connects, sum.disconnects, sum.redirects,
                         sum.refreshes, sum.failovers);

    comma = "";

    for (n = 0; (name = ngx_vaani_redis_error_name(n)) != NULL; n++) {

        if (sum.errors[n]) {
            ngx_http_vaani_print(out, "%s\"%V\":%uA", comma, name,
                                 sum.errors[n]);
            comma = ",";
        }
    }

    ngx_http_vaani_print(out, "},");
    ngx_http_vaani_json_nodes(out, redis);
    ngx_http_vaani_print(out, ",\"round_trip\":");
    ngx_http_vaani_json_round_trip(out, &sum, replies);
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
    ngx_vaani_redis_t *redis)
{
    ngx_str_t                 name;
    ngx_uint_t                n;
    ngx_http_vaani_nodes_t    nodes;
    ngx_vaani_redis_shown_t  *node;

    ngx_http_vaani_sum_nodes(redis, &nodes);

    ngx_http_vaani_print(out, "\"masters\":%ui,\"masters_down\":%ui,"
                         "\"nodes\":[", nodes.nmasters, nodes.ndown);

    for (n = 0; n < nodes.nnodes; n++) {
        node = &nodes.nodes[n];

        name.data = node->name;
        name.len = ngx_strlen(node->name);

        ngx_http_vaani_print(out, "%s{\"node\":\"", n ? "," : "");
        ngx_http_vaani_print_escaped(out, &name);
        ngx_http_vaani_print(out, "\",\"role\":\"%V\",\"slots\":%uA,"
                             "\"connections\":%uA,\"ready\":%uA}",
                             ngx_vaani_redis_role_name(node->role),
                             node->slots, node->connections, node->ready);
    }

    ngx_http_vaani_print(out, "]");
}


static void
ngx_http_vaani_json_round_trip(ngx_http_vaani_output_t *out,
    ngx_vaani_redis_stats_t *sum, ngx_uint_t total)
{
    ngx_uint_t  n;

    ngx_http_vaani_print(out, "{\"bounds\":[");

    for (n = 0; n < NGX_VAANI_REDIS_BOUNDS; n++) {
        ngx_http_vaani_print(out, "%s%ui", n ? "," : "",
                             ngx_vaani_redis_bounds[n]);
    }

    ngx_http_vaani_print(out, "],\"counts\":[");

    for (n = 0; n <= NGX_VAANI_REDIS_BOUNDS; n++) {
        ngx_http_vaani_print(out, "%s%uA", n ? "," : "", sum->round_trips[n]);
    }

    ngx_http_vaani_print(out, "],\"sum\":%uA", sum->round_trip_sum);

    ngx_http_vaani_json_quantile(out, sum, total, 50);
    ngx_http_vaani_json_quantile(out, sum, total, 90);
    ngx_http_vaani_json_quantile(out, sum, total, 99);

    ngx_http_vaani_print(out, "}");
}


/*
 * Interpolated within its bucket, as Prometheus' histogram_quantile() does.
 */

static void
ngx_http_vaani_json_quantile(ngx_http_vaani_output_t *out,
    ngx_vaani_redis_stats_t *sum, ngx_uint_t total, ngx_uint_t percent)
{
    double      rank, low, high;
    ngx_uint_t  n;

    if (total == 0) {
        ngx_http_vaani_print(out, ",\"p%ui\":null", percent);
        return;
    }

    rank = (double) total * percent / 100;

    for (n = 0; n < NGX_VAANI_REDIS_BOUNDS; n++) {

        if (rank <= sum->round_trips[n]) {
            break;
        }

        rank -= sum->round_trips[n];
    }

    if (n == NGX_VAANI_REDIS_BOUNDS) {
        high = ngx_vaani_redis_bounds[n - 1];

    } else {
        low = n ? ngx_vaani_redis_bounds[n - 1] : 0;
        high = low + (ngx_vaani_redis_bounds[n] - low) * rank
                     / (sum->round_trips[n] ? sum->round_trips[n] : 1);
    }

    ngx_http_vaani_print(out, ",\"p%ui\":%ui", percent, (ngx_uint_t) high);
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

    ngx_http_vaani_print(out, "{\"worker\":%ui,\"pid\":%uA,"
                         "\"connections\":%uA,\"ready\":%uA,\"since\":%T000,"
                         "\"commands\":%uA,\"bytes\":%uA,", worker, copy.pid,
                         copy.connections, copy.ready, copy.ready_time,
                         copy.commands, copy.bytes);

    if (copy.error_time == 0) {
        ngx_http_vaani_print(out, "\"error\":null,\"error_at\":null}");
        return;
    }

    error.data = copy.error;
    error.len = ngx_strlen(copy.error);

    ngx_http_vaani_print(out, "\"error\":\"");
    ngx_http_vaani_print_escaped(out, &error);
    ngx_http_vaani_print(out, "\",\"error_at\":%T000}", copy.error_time);
}


static void
ngx_http_vaani_json_spool(ngx_http_vaani_output_t *out,
    ngx_vaani_spool_t *spool)
{
    ngx_vaani_spool_status_t  status;

    ngx_vaani_spool_get_status(spool, &status);

    ngx_http_vaani_print(out, "{\"path\":\"");
    ngx_http_vaani_print_escaped(out, &spool->path->name);
    ngx_http_vaani_print(out, "\",\"records\":%uA,\"bytes\":%uA,\"max\":%uz,",
                         status.records, status.bytes, spool->max);

    if (status.oldest) {
        ngx_http_vaani_print(out, "\"oldest\":%T000,", status.oldest);

    } else {
        ngx_http_vaani_print(out, "\"oldest\":null,");
    }

    ngx_http_vaani_print(out, "\"appended\":%uA,\"replayed\":%uA,"
                         "\"dead_letters\":%uA,\"refused\":%uA,"
                         "\"dead_letters_bytes\":%uA,\"bad_bytes\":%uA,"
                         "\"refused_bytes\":%uA,\"refusals_kept\":%uA,"
                         "\"refusals_dropped\":%uA",
                         status.appended, status.replayed, status.buried,
                         status.refused, status.dead_letters_bytes,
                         status.bad_bytes, status.refused_bytes,
                         status.refused_kept, status.refused_dropped);

    ngx_http_vaani_print(out, ",\"retain\":%M,\"kept_bytes\":%uA,"
                         "\"kept_seconds\":%uA,\"kept\":%uA,"
                         "\"not_kept\":%uA,\"losses\":%uA,"
                         "\"losses_beyond\":%uA,\"looked_at\":%uA,"
                         "\"brought_back\":%uA}",
                         spool->retain / 1000, status.kept_bytes,
                         status.kept_age, status.kept, status.not_kept,
                         status.forgotten, status.beyond, status.looked_at,
                         status.brought_back);
}


/*
 * Names are printable, without quotes.
 */

static void
ngx_http_vaani_json_drift(ngx_http_vaani_output_t *out,
    ngx_http_vaani_drift_t *drift)
{
    const vaani_str_t  *event;

    event = ngx_http_vaani_event_name(drift->event);

    ngx_http_vaani_print(out, "{\"event\":\"%*s\",\"kind\":\"%s\","
                         "\"name\":\"%*s\",\"count\":%uA,"
                         "\"first\":%uA000,\"last\":%uA000}",
                         event->len, event->data,
                         ngx_http_vaani_drift_word(drift->kind),
                         (size_t) drift->len, drift->name, drift->count,
                         drift->first, drift->last);
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
