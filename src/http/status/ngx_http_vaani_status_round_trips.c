
/*
 * The round trips to a Redis as JSON: all of them, and those of each minute.
 */


#include "ngx_http_vaani_status.h"


static void ngx_http_vaani_json_quantile(ngx_http_vaani_output_t *out,
    ngx_atomic_t *round_trips, ngx_uint_t total, ngx_uint_t percent);


void
ngx_http_vaani_json_round_trips(ngx_http_vaani_output_t *out,
    ngx_vaani_redis_stats_t *sum, ngx_uint_t total)
{
    ngx_uint_t  n;

    ngx_http_vaani_print(out, ",\"round_trip\":{\"bounds\":[");

    for (n = 0; n < NGX_VAANI_REDIS_BOUNDS; n++) {
        ngx_http_vaani_print(out, "%s%ui", n ? "," : "",
                             ngx_vaani_redis_bounds[n]);
    }

    ngx_http_vaani_print(out, "],\"counts\":[");

    for (n = 0; n <= NGX_VAANI_REDIS_BOUNDS; n++) {
        ngx_http_vaani_print(out, "%s%uA", n ? "," : "", sum->round_trips[n]);
    }

    ngx_http_vaani_print(out, "],\"sum\":%uA", sum->round_trip_sum);

    ngx_http_vaani_json_quantile(out, sum->round_trips, total, 50);
    ngx_http_vaani_json_quantile(out, sum->round_trips, total, 90);
    ngx_http_vaani_json_quantile(out, sum->round_trips, total, 99);

    ngx_http_vaani_print(out, "}");
}


/*
 * Interpolated within its bucket, as Prometheus' histogram_quantile() does.
 */

static void
ngx_http_vaani_json_quantile(ngx_http_vaani_output_t *out,
    ngx_atomic_t *round_trips, ngx_uint_t total, ngx_uint_t percent)
{
    double      rank, low, high;
    ngx_uint_t  n;

    if (total == 0) {
        ngx_http_vaani_print(out, ",\"p%ui\":null", percent);
        return;
    }

    rank = (double) total * percent / 100;

    for (n = 0; n < NGX_VAANI_REDIS_BOUNDS; n++) {

        if (rank <= round_trips[n]) {
            break;
        }

        rank -= round_trips[n];
    }

    if (n == NGX_VAANI_REDIS_BOUNDS) {
        high = ngx_vaani_redis_bounds[n - 1];

    } else {
        low = n ? ngx_vaani_redis_bounds[n - 1] : 0;
        high = low + (ngx_vaani_redis_bounds[n] - low) * rank
                     / (round_trips[n] ? round_trips[n] : 1);
    }

    ngx_http_vaani_print(out, ",\"p%ui\":%ui", percent, (ngx_uint_t) high);
}


void
ngx_http_vaani_json_replies(ngx_http_vaani_output_t *out,
    ngx_http_vaani_snapshot_t *snapshot, ngx_uint_t redis)
{
    char                     *comma;
    ngx_int_t                 n;
    ngx_uint_t                i, replies;
    ngx_atomic_t              growth[NGX_VAANI_REDIS_BOUNDS + 1];
    ngx_http_vaani_sample_t  *before, *after;

    ngx_http_vaani_print(out, ",\"history\":[");

    comma = "";

    for (n = 1; n < snapshot->nsamples; n++) {
        before = snapshot->samples[n - 1];
        after = snapshot->samples[n];

        replies = 0;

        for (i = 0; i <= NGX_VAANI_REDIS_BOUNDS; i++) {
            growth[i] = after->round_trips[redis][i]
                        - before->round_trips[redis][i];
            replies += growth[i];
        }

        if (replies == 0) {
            continue;
        }

        ngx_http_vaani_print(out, "%s{\"time\":%uL,\"replies\":%ui", comma,
                             after->time, replies);

        ngx_http_vaani_json_quantile(out, growth, replies, 50);
        ngx_http_vaani_json_quantile(out, growth, replies, 90);
        ngx_http_vaani_json_quantile(out, growth, replies, 99);

        ngx_http_vaani_print(out, "}");
        comma = ",";
    }

    ngx_http_vaani_print(out, "]");
}
