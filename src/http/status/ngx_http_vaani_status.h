
/*
 * Private to the files that answer "vaani_status".
 */


#ifndef _NGX_HTTP_VAANI_STATUS_H_INCLUDED_
#define _NGX_HTTP_VAANI_STATUS_H_INCLUDED_


#include "ngx_http_vaani_output.h"
#include "ngx_http_vaani_snapshot.h"


/*
 * The place of a number.  Both formats group the numbers by place.
 */

typedef enum {
    NGX_HTTP_VAANI_AT_NOWHERE = 0,      /* after the last one */

    NGX_HTTP_VAANI_AT_SUM,              /* ngx_http_vaani_slot_t */
    NGX_HTTP_VAANI_AT_WORKER,           /* ngx_vaani_redis_stats_t, of each
                                           worker */
    NGX_HTTP_VAANI_AT_COMMANDS,         /* the same; Prometheus gets the sum */
    NGX_HTTP_VAANI_AT_REDIS,            /* ngx_vaani_redis_stats_t, the sum */
    NGX_HTTP_VAANI_AT_MASTERS,          /* ngx_http_vaani_nodes_t */
    NGX_HTTP_VAANI_AT_NODE,             /* ngx_vaani_redis_shown_t */
    NGX_HTTP_VAANI_AT_NODE_SLOTS,
    NGX_HTTP_VAANI_AT_SPOOL,            /* ngx_vaani_spool_status_t */
    NGX_HTTP_VAANI_AT_SPOOL_EVENTS,
    NGX_HTTP_VAANI_AT_SPOOL_KEPT,
    NGX_HTTP_VAANI_AT_SPOOL_LEFT,

    /* several numbers, or none: each format has its own way to show them */

    NGX_HTTP_VAANI_AT_INFO,
    NGX_HTTP_VAANI_AT_START,
    NGX_HTTP_VAANI_AT_DELIVERIES,
    NGX_HTTP_VAANI_AT_REASONS,
    NGX_HTTP_VAANI_AT_TRANSITIONS,
    NGX_HTTP_VAANI_AT_CALLS,
    NGX_HTTP_VAANI_AT_ERRORS,
    NGX_HTTP_VAANI_AT_ROUND_TRIPS,
    NGX_HTTP_VAANI_AT_DRIFT
} ngx_http_vaani_where_e;


typedef struct {
    ngx_http_vaani_where_e      where;
    size_t                      offset;     /* of an ngx_atomic_uint_t in the
                                               structure of that place */
    char                       *member;     /* of JSON; NULL: none */
    char                       *metric;     /* of Prometheus, after "vaani_" */
    char                       *type;       /* for Prometheus, as help */
    char                       *help;
} ngx_http_vaani_number_t;


/* ngx_http_vaani_status_table.c */

/*
 * All numbers, for both formats; the last one has no metric.
 */
extern const ngx_http_vaani_number_t  ngx_http_vaani_numbers[];

/*
 * Reads a number from the structure of its place.
 */
ngx_atomic_uint_t ngx_http_vaani_value(const ngx_http_vaani_number_t *number,
    const void *base);


/* ngx_http_vaani_status_json.c */

void ngx_http_vaani_print_json(ngx_http_vaani_output_t *out,
    ngx_http_vaani_snapshot_t *snapshot);


/* ngx_http_vaani_status_history.c */

/*
 * A member "history": the counts of each minute.
 */
void ngx_http_vaani_json_history(ngx_http_vaani_output_t *out,
    ngx_http_vaani_snapshot_t *snapshot);


/* ngx_http_vaani_status_round_trips.c */

/*
 * A member "round_trip": the sums, of so many replies.
 */
void ngx_http_vaani_json_round_trips(ngx_http_vaani_output_t *out,
    ngx_vaani_redis_stats_t *sum, ngx_uint_t total);

/*
 * A member "history": the minutes with replies of the Redis with this index.
 */
void ngx_http_vaani_json_replies(ngx_http_vaani_output_t *out,
    ngx_http_vaani_snapshot_t *snapshot, ngx_uint_t redis);


/* ngx_http_vaani_status_metrics.c: https://prometheus.io/docs/instrumenting/
 * exposition_formats/#text-based-format */

void ngx_http_vaani_print_metrics(ngx_http_vaani_output_t *out,
    ngx_http_vaani_snapshot_t *snapshot);


#endif /* _NGX_HTTP_VAANI_STATUS_H_INCLUDED_ */
