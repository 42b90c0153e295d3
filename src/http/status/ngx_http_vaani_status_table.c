
/*
 * The only table of the numbers: the place of each, and its names in both
 * formats.
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
 * In the order of Prometheus' format; within each place, JSON has the same one.
 */

const ngx_http_vaani_number_t  ngx_http_vaani_numbers[] = {

    { NGX_HTTP_VAANI_AT_INFO, 0,
      NULL, "info", "gauge",
      "Versions of the module and of nginx, as labels." },

    { NGX_HTTP_VAANI_AT_START, 0,
      NULL, "start_time_seconds", "gauge",
      "Unix time since which the counters count." },

    { NGX_HTTP_VAANI_AT_DELIVERIES, 0,
      NULL, "deliveries_total", "counter",
      "Deliveries by event and result." },

    { NGX_HTTP_VAANI_AT_REASONS, 0,
      NULL, "reasons_total", "counter",
      "Deliveries that have a reason, by reason." },

    { NGX_HTTP_VAANI_AT_SUM, ngx_http_vaani_in_slot(bytes),
      "bytes", "received_bytes_total", "counter",
      "Size of the request bodies received, in bytes." },
    { NGX_HTTP_VAANI_AT_SUM, ngx_http_vaani_in_slot(in_flight),
      "in_flight", "in_flight", "gauge",
      "Deliveries that are waiting for Redis or the spool." },

    { NGX_HTTP_VAANI_AT_TRANSITIONS, 0,
      NULL, "transitions_total", "counter",
      "Events applied, by status of the call before and after." },

    { NGX_HTTP_VAANI_AT_CALLS, 0,
      NULL, "calls", "gauge",
      "Calls counted since the counters began, by current status." },

    { NGX_HTTP_VAANI_AT_WORKER, ngx_http_vaani_in_redis(connections),
      "connections", "redis_connections", "gauge",
      "Connections to Redis that a worker keeps, connected or not." },
    { NGX_HTTP_VAANI_AT_WORKER, ngx_http_vaani_in_redis(ready),
      "ready", "redis_connections_ready", "gauge",
      "Connections to Redis that are ready for events." },

    { NGX_HTTP_VAANI_AT_COMMANDS, ngx_http_vaani_in_redis(commands),
      "commands", "redis_commands", "gauge",
      "Commands that are queued or have no reply yet." },
    { NGX_HTTP_VAANI_AT_COMMANDS, ngx_http_vaani_in_redis(bytes),
      "bytes", "redis_waiting_bytes", "gauge",
      "Size of the commands that are queued or have no reply yet." },

    { NGX_HTTP_VAANI_AT_REDIS, ngx_http_vaani_in_redis(connects),
      "connects", "redis_connects_total", "counter",
      "Connections that became ready." },
    { NGX_HTTP_VAANI_AT_REDIS, ngx_http_vaani_in_redis(disconnects),
      "disconnects", "redis_disconnects_total", "counter",
      "Ready connections that ended." },
    { NGX_HTTP_VAANI_AT_REDIS, ngx_http_vaani_in_redis(redirects),
      "redirects", "redis_redirects_total", "counter",
      "Commands that a cluster node redirected to another node." },
    { NGX_HTTP_VAANI_AT_REDIS, ngx_http_vaani_in_redis(refreshes),
      "table_refreshes", "redis_table_refreshes_total", "counter",
      "Times that a worker asked a cluster for its slot table." },
    { NGX_HTTP_VAANI_AT_REDIS, ngx_http_vaani_in_redis(failovers),
      "failovers", "redis_failovers_total", "counter",
      "Changes of the master that a worker followed." },

    { NGX_HTTP_VAANI_AT_MASTERS, ngx_http_vaani_in_nodes(nmasters),
      "masters", "redis_masters", "gauge",
      "Known masters." },
    { NGX_HTTP_VAANI_AT_MASTERS, ngx_http_vaani_in_nodes(ndown),
      "masters_down", "redis_masters_down", "gauge",
      "Known masters that a worker has no connection to." },

    { NGX_HTTP_VAANI_AT_NODE, ngx_http_vaani_in_node(connections),
      "connections", "redis_node_connections", "gauge",
      "Connections to a server that workers keep, connected or not." },
    { NGX_HTTP_VAANI_AT_NODE, ngx_http_vaani_in_node(ready),
      "ready", "redis_node_ready", "gauge",
      "Connections to a server that are ready for events." },
    { NGX_HTTP_VAANI_AT_NODE_SLOTS, ngx_http_vaani_in_node(slots),
      "slots", "redis_node_slots", "gauge",
      "Cluster slots that a server owns." },

    { NGX_HTTP_VAANI_AT_ERRORS, 0,
      NULL, "redis_errors_total", "counter",
      "Error replies by code, failed and lost connections, timeouts." },

    { NGX_HTTP_VAANI_AT_ROUND_TRIPS, 0,
      NULL, "redis_round_trip_seconds", "histogram",
      "Time from the write of a command to its reply." },

    { NGX_HTTP_VAANI_AT_SPOOL, ngx_http_vaani_in_spool(records),
      "records", "spool_records", "gauge",
      "Events waiting on disk, without those of an earlier nginx." },
    { NGX_HTTP_VAANI_AT_SPOOL, ngx_http_vaani_in_spool(bytes),
      "bytes", "spool_bytes", "gauge",
      "Size of the segments with waiting events." },
    { NGX_HTTP_VAANI_AT_SPOOL, ngx_http_vaani_in_spool(max),
      "max", "spool_max_bytes", "gauge",
      "Size limit of the spool." },
    { NGX_HTTP_VAANI_AT_SPOOL, ngx_http_vaani_in_spool(age),
      NULL, "spool_oldest_age_seconds", "gauge",
      "Approximate time that the oldest event has waited." },
    { NGX_HTTP_VAANI_AT_SPOOL_EVENTS, ngx_http_vaani_in_spool(appended),
      "appended", "spool_appended_total", "counter",
      "Events written to disk." },
    { NGX_HTTP_VAANI_AT_SPOOL_EVENTS, ngx_http_vaani_in_spool(replayed),
      "replayed", "spool_replayed_total", "counter",
      "Events delivered from disk to Redis." },
    { NGX_HTTP_VAANI_AT_SPOOL_EVENTS, ngx_http_vaani_in_spool(buried),
      "dead_letters", "spool_dead_letters_total", "counter",
      "Events that Redis refused permanently." },
    { NGX_HTTP_VAANI_AT_SPOOL_EVENTS, ngx_http_vaani_in_spool(refused),
      "refused", "spool_refused_total", "counter",
      "Events not written because the spool was full or failed." },
    { NGX_HTTP_VAANI_AT_SPOOL_KEPT, ngx_http_vaani_in_spool(kept_bytes),
      "kept_bytes", "spool_kept_bytes", "gauge",
      "Size of the kept events, which Redis has answered." },
    { NGX_HTTP_VAANI_AT_SPOOL_KEPT, ngx_http_vaani_in_spool(kept_age),
      "kept_seconds", "spool_kept_seconds", "gauge",
      "Age of the oldest kept event." },
    { NGX_HTTP_VAANI_AT_SPOOL_KEPT, ngx_http_vaani_in_spool(kept),
      "kept", "spool_kept_total", "counter",
      "Events that Redis answered and the spool kept." },
    { NGX_HTTP_VAANI_AT_SPOOL_KEPT, ngx_http_vaani_in_spool(not_kept),
      "not_kept", "spool_not_kept_total", "counter",
      "Events that Redis answered and the spool did not keep in time." },
    { NGX_HTTP_VAANI_AT_SPOOL_KEPT, ngx_http_vaani_in_spool(forgotten),
      "losses", "spool_losses_total", "counter",
      "Times that Redis lost events that it had answered." },
    { NGX_HTTP_VAANI_AT_SPOOL_KEPT, ngx_http_vaani_in_spool(beyond),
      "losses_beyond", "spool_losses_beyond_total", "counter",
      "Times that Redis lost more events than the spool keeps." },
    { NGX_HTTP_VAANI_AT_SPOOL_KEPT, ngx_http_vaani_in_spool(looked_at),
      "looked_at", "spool_looked_at_total", "counter",
      "Kept events that were sent to Redis again." },
    { NGX_HTTP_VAANI_AT_SPOOL_KEPT, ngx_http_vaani_in_spool(brought_back),
      "brought_back", "spool_brought_back_total", "counter",
      "Kept events that Redis had lost and that were applied again." },
    { NGX_HTTP_VAANI_AT_SPOOL_LEFT, ngx_http_vaani_in_spool(dead_letters_bytes),
      "dead_letters_bytes", "spool_dead_letters_bytes", "gauge",
      "Size of the dead letters on disk." },
    { NGX_HTTP_VAANI_AT_SPOOL_LEFT, ngx_http_vaani_in_spool(bad_bytes),
      "bad_bytes", "spool_bad_bytes", "gauge",
      "Size of the damaged records on disk." },
    { NGX_HTTP_VAANI_AT_SPOOL_LEFT, ngx_http_vaani_in_spool(refused_bytes),
      "refused_bytes", "spool_refused_bytes", "gauge",
      "Size of the refused deliveries on disk." },
    { NGX_HTTP_VAANI_AT_SPOOL_LEFT, ngx_http_vaani_in_spool(refused_kept),
      "refusals_kept", "spool_refusals_kept_total", "counter",
      "Refused deliveries that were kept." },
    { NGX_HTTP_VAANI_AT_SPOOL_LEFT, ngx_http_vaani_in_spool(refused_dropped),
      "refusals_dropped", "spool_refusals_dropped_total", "counter",
      "Refused deliveries not kept, or deleted to keep newer ones." },

    { NGX_HTTP_VAANI_AT_DRIFT, 0,
      NULL, "drift_total", "counter",
      "Unknown names in the deliveries, by event, kind and name." },

    { NGX_HTTP_VAANI_AT_NOWHERE, 0, NULL, NULL, NULL, NULL }
};


ngx_atomic_uint_t
ngx_http_vaani_value(const ngx_http_vaani_number_t *number, const void *base)
{
    return *(const ngx_atomic_t *) ((const u_char *) base + number->offset);
}
