
/*
 * The last hour as JSON: how much each counter grew in each minute.
 */


#include "ngx_http_vaani_status.h"


static void ngx_http_vaani_json_minute(ngx_http_vaani_output_t *out,
    ngx_http_vaani_sample_t *before, ngx_http_vaani_sample_t *after);
static void ngx_http_vaani_json_growth(ngx_http_vaani_output_t *out,
    char **comma, size_t len, u_char *name, ngx_atomic_uint_t growth);


void
ngx_http_vaani_json_history(ngx_http_vaani_output_t *out,
    ngx_http_vaani_snapshot_t *snapshot)
{
    ngx_int_t  n;

    ngx_http_vaani_print(out, ",\"history\":[");

    for (n = 1; n < snapshot->nsamples; n++) {
        ngx_http_vaani_print(out, "%s", n == 1 ? "" : ",");
        ngx_http_vaani_json_minute(out, snapshot->samples[n - 1],
                                   snapshot->samples[n]);
    }

    ngx_http_vaani_print(out, "]");
}


static void
ngx_http_vaani_json_minute(ngx_http_vaani_output_t *out,
    ngx_http_vaani_sample_t *before, ngx_http_vaani_sample_t *after)
{
    char               *comma;
    ngx_str_t          *result;
    ngx_msec_t          ms;
    ngx_uint_t          n;
    const vaani_str_t  *name;

    static ngx_str_t    none = ngx_string("none");

    /*
     * this worker may have read the clock before the worker that took the
     * latest sample
     */

    ms = ngx_max((ngx_msec_int_t) (after->clock - before->clock), 0);

    ngx_http_vaani_print(out, "{\"time\":%uL,\"seconds\":%M.%03M,"
                         "\"results\":{",
                         after->time, ms / 1000, ms % 1000);

    comma = "";

    for (n = 0; n < NGX_HTTP_VAANI_RESULTS; n++) {
        result = (n == NGX_HTTP_VAANI_PENDING) ? &none
                                               : &ngx_http_vaani_results[n];

        ngx_http_vaani_json_growth(out, &comma, result->len, result->data,
                                   after->results[n] - before->results[n]);
    }

    ngx_http_vaani_print(out, "},\"events\":{");

    comma = "";

    for (n = 0; n < NGX_HTTP_VAANI_EVENTS; n++) {
        name = ngx_http_vaani_event_name(n);

        if (name) {
            ngx_http_vaani_json_growth(out, &comma, name->len,
                                       (u_char *) name->data,
                                       after->events[n] - before->events[n]);
        }
    }

    ngx_http_vaani_print(out, "},\"reasons\":{");

    comma = "";

    for (n = 1; n < VAANI_NREASONS; n++) {
        name = vaani_reason_word(n);

        ngx_http_vaani_json_growth(out, &comma, name->len,
                                   (u_char *) name->data,
                                   after->reasons[n] - before->reasons[n]);
    }

    ngx_http_vaani_print(out, "}}");
}


/*
 * Most counters do not grow in a minute; these are omitted.
 */

static void
ngx_http_vaani_json_growth(ngx_http_vaani_output_t *out, char **comma,
    size_t len, u_char *name, ngx_atomic_uint_t growth)
{
    if (growth) {
        ngx_http_vaani_print(out, "%s\"%*s\":%uA", *comma, len, name, growth);
        *comma = ",";
    }
}
