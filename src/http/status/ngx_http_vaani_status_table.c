
/*
 * ONE table of the numbers: where each stands, and its names in both formats.
 */


#include "ngx_http_vaani_status.h"


#define ngx_http_vaani_in_slot(field)                                         \
    offsetof(ngx_http_vaani_slot_t, field)

#define ngx_http_vaani_in_redis(field)                                        \
    offsetof(ngx_vaani_redis_stats_t, field)

#define ngx_http_vaani_in_nodes(field)                                        \
    offsetof(ngx_http_vaani_nodes_t, field)

#define ngx_http_vaani_in_node(field)                                         \
    offsetof(ngx_vaani_redis_shown_t, field)

#define ngx_http_vaani_in_spool(field)                                        \
    offsetof(ngx_vaani_spool_status_t, field)


/*
 * In the order of Prometheus' format.  JSON has the same one within each place.
 */

const ngx_http_vaani_number_t  ngx_http_vaani_numbers[] = {

    { NGX_HTTP_VAANI_AT_INFO, 0,
      NULL, "info", "gauge",
      "Versions, as labels." },

    { NGX_HTTP_VAANI_AT_START, 0,
      NULL, "start_time_seconds", "gauge",
      "When the counters began, Unix time." },

    { NGX_HTTP_VAANI_AT_DELIVERIES, 0,
      NULL, "deliveries_total", "counter",
      "Deliveries by event and result." },

    { NGX_HTTP_VAANI_AT_REASONS, 0,
      NULL, "reasons_total", "counter",
      "Deliveries by reason, if there was one." },

    { NGX_HTTP_VAANI_AT_SUM, ngx_http_vaani_in_slot(bytes),
      "bytes", "received_bytes_total", "counter",
      "Bodies received, in bytes." },
    { NGX_HTTP_VAANI_AT_SUM, ngx_http_vaani_in_slot(in_flight),
      "in_flight", "in_flight", "gauge",
      "Deliveries that wait for Redis or the spool." },

    { NGX_HTTP_VAANI_AT_TRANSITIONS, 0,
      NULL, "transitions_total", "counter",
      "Events applied, by the status of the call before and after." },

    { NGX_HTTP_VAANI_AT_CALLS, 0,
      NULL, "calls", "gauge",
      "Calls by where they stand, of those that were counted." },

    { NGX_HTTP_VAANI_AT_WORKER, ngx_http_vaani_in_redis(connections),
      "connections", "redis_connections", "gauge",
      "Connections to Redis that a worker has or wants." },
    { NGX_HTTP_VAANI_AT_WORKER, ngx_http_vaani_in_redis(ready),
      "ready", "redis_connections_ready", "gauge",
      "Those of them that take events." },

    { NGX_HTTP_VAANI_AT_COMMANDS, ngx_http_vaani_in_redis(commands),
      "commands", "redis_commands", "gauge",
      "Commands that wait or are under way." },
    { NGX_HTTP_VAANI_AT_COMMANDS, ngx_http_vaani_in_redis(bytes),
      "bytes", "redis_waiting_bytes", "gauge",
      "Their size." },

    { NGX_HTTP_VAANI_AT_REDIS, ngx_http_vaani_in_redis(connects),
      "connects", "redis_connects_total", "counter",
      "Connections that got ready." },
    { NGX_HTTP_VAANI_AT_REDIS, ngx_http_vaani_in_redis(disconnects),
      "disconnects", "redis_disconnects_total", "counter",
      "Ready connections that ended." },
    { NGX_HTTP_VAANI_AT_REDIS, ngx_http_vaani_in_redis(redirects),
      "redirects", "redis_redirects_total", "counter",
      "Commands that a node of a cluster sent to another one." },
    { NGX_HTTP_VAANI_AT_REDIS, ngx_http_vaani_in_redis(refreshes),
      "table_refreshes", "redis_table_refreshes_total", "counter",
      "Times that a worker asked a cluster who owns which slot." },
    { NGX_HTTP_VAANI_AT_REDIS, ngx_http_vaani_in_redis(failovers),
      "failovers", "redis_failovers_total", "counter",
      "Changes of a master that a worker followed." },

    { NGX_HTTP_VAANI_AT_MASTERS, ngx_http_vaani_in_nodes(nmasters),
      "masters", "redis_masters", "gauge",
      "Masters that are known." },
    { NGX_HTTP_VAANI_AT_MASTERS, ngx_http_vaani_in_nodes(ndown),
      "masters_down", "redis_masters_down", "gauge",
      "Those of them that a worker has no connection to." },

    { NGX_HTTP_VAANI_AT_NODE, ngx_http_vaani_in_node(connections),
      "connections", "redis_node_connections", "gauge",
      "Connections to a server that workers have or want." },
    { NGX_HTTP_VAANI_AT_NODE, ngx_http_vaani_in_node(ready),
      "ready", "redis_node_ready", "gauge",
      "Those of them that take events." },
    { NGX_HTTP_VAANI_AT_NODE_SLOTS, ngx_http_vaani_in_node(slots),
      "slots", "redis_node_slots", "gauge",
      "Slots of a cluster that a server owns." },

    { NGX_HTTP_VAANI_AT_ERRORS, 0,
      NULL, "redis_errors_total", "counter",
      "Error replies by code, and connections that went wrong." },

    { NGX_HTTP_VAANI_AT_ROUND_TRIPS, 0,
      NULL, "redis_round_trip_seconds", "histogram",
      "From the write of a command to its reply." },

    { NGX_HTTP_VAANI_AT_SPOOL, ngx_http_vaani_in_spool(records),
      "records", "spool_records", "gauge",
      "Events that wait on disk, without those of an earlier nginx." },
    { NGX_HTTP_VAANI_AT_SPOOL, ngx_http_vaani_in_spool(bytes),
      "bytes", "spool_bytes", "gauge",
      "Size of the segments on disk." },
    { NGX_HTTP_VAANI_AT_SPOOL, ngx_http_vaani_in_spool(max),
      "max", "spool_max_bytes", "gauge",
      "The limit of that." },
    { NGX_HTTP_VAANI_AT_SPOOL, ngx_http_vaani_in_spool(age),
      NULL, "spool_oldest_age_seconds", "gauge",
      "How long the oldest event waits, about." },
    { NGX_HTTP_VAANI_AT_SPOOL_EVENTS, ngx_http_vaani_in_spool(appended),
      "appended", "spool_appended_total", "counter",
      "Events written to disk." },
    { NGX_HTTP_VAANI_AT_SPOOL_EVENTS, ngx_http_vaani_in_spool(replayed),
      "replayed", "spool_replayed_total", "counter",
      "Events delivered from disk to Redis." },
    { NGX_HTTP_VAANI_AT_SPOOL_EVENTS, ngx_http_vaani_in_spool(buried),
      "dead_letters", "spool_dead_letters_total", "counter",
      "Events that Redis refuses for good." },
    { NGX_HTTP_VAANI_AT_SPOOL_EVENTS, ngx_http_vaani_in_spool(refused),
      "refused", "spool_refused_total", "counter",
      "Events that were not written, since the spool was full or failed." },
    { NGX_HTTP_VAANI_AT_SPOOL_KEPT, ngx_http_vaani_in_spool(kept_bytes),
      "kept_bytes", "spool_kept_bytes", "gauge",
      "Size of what is kept of events that Redis has." },
    { NGX_HTTP_VAANI_AT_SPOOL_KEPT, ngx_http_vaani_in_spool(kept_age),
      "kept_seconds", "spool_kept_seconds", "gauge",
      "How far back that reaches." },
    { NGX_HTTP_VAANI_AT_SPOOL_KEPT, ngx_http_vaani_in_spool(kept),
      "kept", "spool_kept_total", "counter",
      "Events that Redis took and that were kept." },
    { NGX_HTTP_VAANI_AT_SPOOL_KEPT, ngx_http_vaani_in_spool(not_kept),
      "not_kept", "spool_not_kept_total", "counter",
      "Events that Redis took and the disk did not, or not in time." },
    { NGX_HTTP_VAANI_AT_SPOOL_KEPT, ngx_http_vaani_in_spool(forgotten),
      "losses", "spool_losses_total", "counter",
      "How often Redis has lost what it had answered." },
    { NGX_HTTP_VAANI_AT_SPOOL_KEPT, ngx_http_vaani_in_spool(beyond),
      "losses_beyond", "spool_losses_beyond_total", "counter",
      "How often it has lost more than is kept." },
    { NGX_HTTP_VAANI_AT_SPOOL_KEPT, ngx_http_vaani_in_spool(looked_at),
      "looked_at", "spool_looked_at_total", "counter",
      "Kept events that were applied again." },
    { NGX_HTTP_VAANI_AT_SPOOL_KEPT, ngx_http_vaani_in_spool(brought_back),
      "brought_back", "spool_brought_back_total", "counter",
      "Those of them that Redis had lost." },
    { NGX_HTTP_VAANI_AT_SPOOL_LEFT, ngx_http_vaani_in_spool(dead_letters_bytes),
      "dead_letters_bytes", "spool_dead_letters_bytes", "gauge",
      "Size of the dead letters that are kept." },
    { NGX_HTTP_VAANI_AT_SPOOL_LEFT, ngx_http_vaani_in_spool(bad_bytes),
      "bad_bytes", "spool_bad_bytes", "gauge",
      "Size of the damaged records that are kept." },
    { NGX_HTTP_VAANI_AT_SPOOL_LEFT, ngx_http_vaani_in_spool(refused_bytes),
      "refused_bytes", "spool_refused_bytes", "gauge",
      "Size of the refused deliveries that are kept." },
    { NGX_HTTP_VAANI_AT_SPOOL_LEFT, ngx_http_vaani_in_spool(refused_kept),
      "refusals_kept", "spool_refusals_kept_total", "counter",
      "Refused deliveries that were kept." },
    { NGX_HTTP_VAANI_AT_SPOOL_LEFT, ngx_http_vaani_in_spool(refused_dropped),
      "refusals_dropped", "spool_refusals_dropped_total", "counter",
      "Refused deliveries that were not kept, or made room for others." },

    { NGX_HTTP_VAANI_AT_DRIFT, 0,
      NULL, "drift_total", "counter",
      "What was new in the deliveries, by its name." },

    { NGX_HTTP_VAANI_AT_NOWHERE, 0, NULL, NULL, NULL, NULL }
};


ngx_atomic_uint_t
ngx_http_vaani_value(const ngx_http_vaani_number_t *number, const void *base)
{
    return *(const ngx_atomic_t *) ((const u_char *) base + number->offset);
}
