
/*
 * Functions for all directives: parameters, places in the configuration, and
 * additions to nginx's core.
 */


#include "../ngx_http_vaani.h"


void
ngx_http_vaani_set_place(ngx_conf_t *cf, ngx_command_t *cmd,
    ngx_http_vaani_place_t *place)
{
    place->directive = (char *) cmd->name.data;
    place->file = cf->conf_file->file.name.data;
    place->line = cf->conf_file->line;
}


char *
ngx_http_vaani_set_handler(ngx_conf_t *cf, ngx_http_vaani_loc_conf_t *vlcf,
    ngx_http_handler_pt handler)
{
    ngx_http_core_loc_conf_t  *clcf;

    if (vlcf->handler == handler) {
        return "is duplicate";
    }

    if (vlcf->handler) {
        return "is in a location with another handler of this module";
    }

    vlcf->handler = handler;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);
    clcf->handler = handler;

    return NGX_CONF_OK;
}


ngx_int_t
ngx_http_vaani_compile(ngx_conf_t *cf, ngx_str_t *value,
    ngx_http_complex_value_t *cv)
{
    ngx_http_compile_complex_value_t  ccv;

    ngx_memzero(&ccv, sizeof(ngx_http_compile_complex_value_t));

    ccv.cf = cf;
    ccv.value = value;
    ccv.complex_value = cv;

    return ngx_http_compile_complex_value(&ccv);
}


ngx_uint_t
ngx_http_vaani_parameter(ngx_str_t *value, char *name, ngx_str_t *text)
{
    size_t  len;

    len = ngx_strlen(name);

    if (ngx_strncmp(value->data, name, len) != 0) {
        return 0;
    }

    text->data = value->data + len;
    text->len = value->len - len;

    return 1;
}


char *
ngx_http_vaani_invalid_parameter(ngx_conf_t *cf, ngx_str_t *value)
{
    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid parameter \"%V\"", value);

    return NGX_CONF_ERROR;
}


char *
ngx_http_vaani_check_off(ngx_conf_t *cf)
{
    if (cf->args->nelts > 2) {
        return "takes no parameters after \"off\"";
    }

    return NGX_CONF_OK;
}


char *
ngx_http_vaani_check_repeated(ngx_conf_t *cf, ngx_uint_t first)
{
    u_char      *end;
    ngx_str_t   *value, name;
    ngx_uint_t   n, i;

    value = cf->args->elts;

    for (n = first; n < cf->args->nelts; n++) {
        end = ngx_strlchr(value[n].data, value[n].data + value[n].len, '=');

        if (end == NULL) {
            continue;
        }

        name.data = value[n].data;
        name.len = end + 1 - value[n].data;

        if (ngx_strncmp(name.data, "file=", name.len) == 0
            || ngx_strncmp(name.data, "secret=", name.len) == 0)
        {
            continue;
        }

        for (i = n + 1; i < cf->args->nelts; i++) {

            if (value[i].len >= name.len
                && ngx_strncmp(value[i].data, name.data, name.len) == 0)
            {
                ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                                   "duplicate parameter \"%V\"", &name);
                return NGX_CONF_ERROR;
            }
        }
    }

    return NGX_CONF_OK;
}


ngx_int_t
ngx_http_vaani_add_phase(ngx_conf_t *cf, ngx_http_phases phase,
    ngx_http_handler_pt handler)
{
    ngx_http_handler_pt        *h;
    ngx_http_core_main_conf_t  *cmcf;

    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);

    h = ngx_array_push(&cmcf->phases[phase].handlers);

    if (h == NULL) {
        return NGX_ERROR;
    }

    *h = handler;

    return NGX_OK;
}


ngx_uint_t
ngx_http_vaani_same(ngx_str_t *one, ngx_str_t *two)
{
    return one->len == two->len
           && (one->len == 0
               || ngx_memcmp(one->data, two->data, one->len) == 0);
}
