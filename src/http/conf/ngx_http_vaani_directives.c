
/*
 * Directives for which nginx's core has no setter.
 */


#include "../ngx_http_vaani.h"


/* s: Redis refuses an expiry beyond the range of its clock */

#define NGX_HTTP_VAANI_MAX_TTL          NGX_MAX_INT32_VALUE

/* bytes: the default of client_max_body_size in nginx's core */

#define NGX_HTTP_VAANI_DEFAULT_BODY     (1024 * 1024)


char *
ngx_http_vaani_webhook(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_vaani_loc_conf_t *vlcf = conf;

    if (vlcf->webhook.line == 0) {
        ngx_http_vaani_set_place(cf, cmd, &vlcf->webhook);
    }

    return ngx_http_vaani_set_handler(cf, vlcf, ngx_http_vaani_handler);
}


char *
ngx_http_vaani_check_body_size(ngx_conf_t *cf, ngx_http_vaani_loc_conf_t *conf)
{
    ngx_uint_t                   n;
    ngx_http_vaani_place_t      *place;
    ngx_http_core_loc_conf_t    *clcf;
    ngx_http_vaani_main_conf_t  *vmcf;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    if (conf->webhook.line == 0
        || clcf->client_max_body_size != NGX_HTTP_VAANI_DEFAULT_BODY)
    {
        return NGX_CONF_OK;
    }

    vmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_vaani_module);

    /* one place can be in many servers through "include" */

    place = vmcf->warned.elts;

    for (n = 0; n < vmcf->warned.nelts; n++) {

        if (place[n].line == conf->webhook.line
            && ngx_strcmp(place[n].file, conf->webhook.file) == 0)
        {
            return NGX_CONF_OK;
        }
    }

    place = ngx_array_push(&vmcf->warned);

    if (place == NULL) {
        return NGX_CONF_ERROR;
    }

    *place = conf->webhook;

    ngx_log_error(NGX_LOG_WARN, cf->log, 0,
                  "\"client_max_body_size\" of this \"vaani_webhook\" is 1m, "
                  "the default; long transcripts are answered 413, set it to "
                  "8m or more in %s:%ui",
                  place->file, place->line);

    return NGX_CONF_OK;
}


char *
ngx_http_vaani_payload(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_vaani_loc_conf_t *vlcf = conf;

    ssize_t     max;
    ngx_str_t  *value, size;

    if (vlcf->payload_max != NGX_CONF_UNSET_SIZE) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (ngx_strcmp(value[1].data, "on") == 0) {
        vlcf->payload_max = NGX_MAX_SIZE_T_VALUE;
        return NGX_CONF_OK;
    }

    if (ngx_strcmp(value[1].data, "off") == 0) {
        vlcf->payload_max = 0;
        return NGX_CONF_OK;
    }

    if (ngx_http_vaani_parameter(&value[1], "max=", &size)) {
        max = ngx_parse_size(&size);

        /* elsewhere in nginx a size of 0 means unlimited */

        if (max > 0) {
            vlcf->payload_max = max;
            return NGX_CONF_OK;
        }
    }

    return ngx_http_vaani_invalid_parameter(cf, &value[1]);
}


char *
ngx_http_vaani_ttl(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_vaani_loc_conf_t *vlcf = conf;

    ngx_int_t   ttl;
    ngx_str_t  *value;

    if (vlcf->ttl != NGX_HTTP_VAANI_UNSET_TTL) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (ngx_strcmp(value[1].data, "off") == 0) {
        vlcf->ttl = 0;
        return NGX_CONF_OK;
    }

    /* months and years are parsed as seconds only, the other units as ms */

    ttl = ngx_parse_time(&value[1], 1);

    if (ttl > 0 && ttl <= NGX_HTTP_VAANI_MAX_TTL) {

        /* ngx_int_t may have 32 bits */

        vlcf->ttl = (uint64_t) ttl * 1000;
        return NGX_CONF_OK;
    }

    ttl = ngx_parse_time(&value[1], 0);

    if (ttl <= 0 || ttl / 1000 > NGX_HTTP_VAANI_MAX_TTL) {
        return "invalid value";
    }

    vlcf->ttl = ttl;

    return NGX_CONF_OK;
}
