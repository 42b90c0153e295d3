
#include "ngx_http_vaani_output.h"


static ngx_int_t ngx_http_vaani_send_health(ngx_http_request_t *r,
    ngx_uint_t status, char *word, ngx_vaani_redis_health_t *health);


char *
ngx_http_vaani_health(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    return ngx_http_vaani_set_handler(cf, conf, ngx_http_vaani_health_handler);
}


/*
 * Whether an event would be answered 200 now, as far as this worker knows.
 */

ngx_int_t
ngx_http_vaani_health_handler(ngx_http_request_t *r)
{
    char                       *word;
    ngx_int_t                   rc;
    ngx_str_t                   no_store;
    ngx_uint_t                  status;
    ngx_vaani_redis_health_t    health;
    ngx_http_vaani_loc_conf_t  *vlcf;

    rc = ngx_http_vaani_get_only(r);

    if (rc != NGX_DECLINED) {
        return rc;
    }

    ngx_str_set(&no_store, "no-store");

    if (ngx_http_vaani_add_header(r, "Cache-Control", &no_store) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    vlcf = ngx_http_get_module_loc_conf(r, ngx_http_vaani_module);

    ngx_vaani_redis_get_health(vlcf->redis, &health);

    status = NGX_HTTP_OK;

    if (health.takes && !health.down && !health.slots) {
        word = "ok";

    } else if (vlcf->spool && ngx_vaani_spool_takes(vlcf->spool)) {
        word = "queueing";

    } else if (health.takes) {

        /* another nginx could not do more, and most events are taken */

        word = "degraded";

    } else {
        word = "unavailable";
        status = NGX_HTTP_SERVICE_UNAVAILABLE;
    }

    return ngx_http_vaani_send_health(r, status, word, &health);
}


/*
 * With the numbers of a cluster, if there is something wrong with it.
 */

static ngx_int_t
ngx_http_vaani_send_health(ngx_http_request_t *r, ngx_uint_t status,
    char *word, ngx_vaani_redis_health_t *health)
{
    u_char     *p, *last;
    ngx_str_t   body;

    body.len = sizeof("{\"status\":\"unavailable\",\"servers\":,\"down\":,"
                      "\"slots_without_owner\":}") - 1
               + 3 * NGX_INT_T_LEN;

    body.data = ngx_pnalloc(r->pool, body.len);

    if (body.data == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    last = body.data + body.len;

    p = ngx_slprintf(body.data, last, "{\"status\":\"%s\"", word);

    if (health->cluster
        && (health->down || health->slots || !health->takes))
    {
        p = ngx_slprintf(p, last, ",\"servers\":%ui,\"down\":%ui",
                         health->servers, health->down);

        if (health->slots) {
            p = ngx_slprintf(p, last, ",\"slots_without_owner\":%ui",
                             health->slots);
        }
    }

    p = ngx_slprintf(p, last, "}");

    body.len = p - body.data;

    return ngx_http_vaani_send_status(r, status, &body);
}
