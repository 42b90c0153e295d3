
/*
 * The directive "vaani_health": whether nginx accepts events now.
 */


#include "ngx_http_vaani_output.h"


char *
ngx_http_vaani_health(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    return ngx_http_vaani_set_handler(cf, conf, ngx_http_vaani_health_handler);
}


/*
 * Whether an event would be answered 200 now, as far as this worker knows.  The
 * answer has the numbers of a cluster if a master is down.
 */

ngx_int_t
ngx_http_vaani_health_handler(ngx_http_request_t *r)
{
    char                       *word;
    ngx_int_t                   rc;
    ngx_uint_t                  status;
    ngx_http_vaani_output_t     out;
    ngx_vaani_redis_health_t    health;
    ngx_http_vaani_loc_conf_t  *vlcf;

    static ngx_str_t            type = ngx_string("application/json");

    rc = ngx_http_vaani_begin(r, &out);

    if (rc != NGX_DECLINED) {
        return rc;
    }

    vlcf = ngx_http_get_module_loc_conf(r, ngx_http_vaani_module);

    ngx_vaani_redis_get_health(vlcf->redis, &health);

    status = NGX_HTTP_OK;

    if (health.takes && !health.down && !health.slots) {
        word = "ok";

    } else if (vlcf->spool && ngx_vaani_spool_takes(vlcf->spool)) {
        word = "queueing";

    } else if (health.takes) {

        /* another nginx would fail as well, and most events are accepted */

        word = "degraded";

    } else {
        word = "unavailable";
        status = NGX_HTTP_SERVICE_UNAVAILABLE;
    }

    ngx_http_vaani_print(&out, "{\"status\":\"%s\"", word);

    if (health.cluster && (health.down || health.slots || !health.takes)) {
        ngx_http_vaani_print(&out, ",\"servers\":%ui,\"down\":%ui",
                             health.servers, health.down);

        if (health.slots) {
            ngx_http_vaani_print(&out, ",\"slots_without_owner\":%ui",
                                 health.slots);
        }
    }

    ngx_http_vaani_print(&out, "}");

    return ngx_http_vaani_send_output(r, &out, status, &type);
}
