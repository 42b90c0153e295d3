
/*
 * The directive "vaani_token", and the common part of the three directives of
 * authentication: merging, and the check that they protect an endpoint.
 */


#include "../ngx_http_vaani.h"


static ngx_uint_t ngx_http_vaani_token_in_uri(ngx_str_t *value);

#if (NGX_HTTP_VAANI_HMAC)

static char *ngx_http_vaani_check_header(ngx_conf_t *cf,
    ngx_http_vaani_signer_t *signer);

#endif


char *
ngx_http_vaani_token(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_vaani_loc_conf_t *vlcf = conf;

    char        *rv;
    ngx_str_t   *value;
    ngx_uint_t   n;

    if (vlcf->token != NGX_CONF_UNSET_PTR) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (cf->args->nelts == 2) {

        if (ngx_strcmp(value[1].data, "off") != 0) {
            return "needs a value and a secret";
        }

        vlcf->token = NULL;

        return NGX_CONF_OK;
    }

    if (ngx_http_script_variables_count(&value[1]) == 0) {
        return "must have a variable in its first parameter";
    }

    vlcf->token = ngx_palloc(cf->pool, sizeof(ngx_http_complex_value_t));
    vlcf->tokens = ngx_array_create(cf->pool, cf->args->nelts - 2,
                                    sizeof(vaani_token_t *));

    if (vlcf->token == NULL || vlcf->tokens == NULL) {
        return NGX_CONF_ERROR;
    }

    vlcf->token_in_uri = ngx_http_vaani_token_in_uri(&value[1]);

    if (ngx_http_vaani_compile(cf, &value[1], vlcf->token) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    for (n = 2; n < cf->args->nelts; n++) {

        if (ngx_strcmp(value[n].data, "off") == 0) {
            return "has \"off\" among its secrets";
        }

        rv = ngx_http_vaani_take_secrets(cf, &value[n], vlcf->tokens,
                                         ngx_http_vaani_add_token);

        if (rv != NGX_CONF_OK) {
            return rv;
        }
    }

    return ngx_http_vaani_protect(cf, cmd, vlcf);
}


char *
ngx_http_vaani_protect(ngx_conf_t *cf, ngx_command_t *cmd,
    ngx_http_vaani_loc_conf_t *vlcf)
{
    ngx_http_vaani_loc_conf_t   **slot;
    ngx_http_vaani_main_conf_t   *vmcf;

    if (vlcf->auth_place.line || cf->cmd_type != NGX_HTTP_LOC_CONF) {
        return NGX_CONF_OK;
    }

    vmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_vaani_module);

    slot = ngx_array_push(&vmcf->protected);

    if (slot == NULL) {
        return NGX_CONF_ERROR;
    }

    *slot = vlcf;

    ngx_http_vaani_set_place(cf, cmd, &vlcf->auth_place);

    return NGX_CONF_OK;
}


/*
 * Arguments and headers are not part of the path, which logs contain.
 */

static ngx_uint_t
ngx_http_vaani_token_in_uri(ngx_str_t *value)
{
    u_char  *p, *last;

    last = value->data + value->len;

    for (p = value->data; p < last; p++) {

        if (*p != '$') {
            continue;
        }

        p++;

        if (p < last && *p == '{') {
            p++;
        }

        if (ngx_strncmp(p, "arg_", 4) != 0
            && ngx_strncmp(p, "http_", 5) != 0
            && ngx_strncmp(p, "cookie_", 7) != 0)
        {
            return 1;
        }
    }

    return 0;
}


#if (NGX_HTTP_VAANI_HMAC)

/*
 * By default nginx drops headers whose names have characters other than
 * letters, digits and "-".
 */

static char *
ngx_http_vaani_check_header(ngx_conf_t *cf, ngx_http_vaani_signer_t *signer)
{
    char                      *setting;
    u_char                     ch;
    size_t                     n;
    ngx_str_t                 *name;
    ngx_http_core_srv_conf_t  *cscf;

    cscf = ngx_http_conf_get_module_srv_conf(cf, ngx_http_core_module);

    if (!cscf->ignore_invalid_headers) {
        return NGX_CONF_OK;
    }

    name = &signer->schemes->signature;
    setting = NULL;

    for (n = 0; n < name->len; n++) {
        ch = name->data[n];

        if ((ch >= 'a' && ch <= 'z') || (ch >= '0' && ch <= '9') || ch == '-') {
            continue;
        }

        if (ch != '_') {
            setting = "ignore_invalid_headers off";
            break;
        }

        if (!cscf->underscores_in_headers) {
            setting = "underscores_in_headers on";
        }
    }

    if (setting == NULL) {
        return NGX_CONF_OK;
    }

    ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                  "\"vaani_signature\" names a header that nginx drops "
                  "without \"%s\" in %s:%ui", setting, signer->place.file,
                  signer->place.line);

    return NGX_CONF_ERROR;
}

#endif


char *
ngx_http_vaani_merge_auth(ngx_conf_t *cf, ngx_http_vaani_loc_conf_t *conf,
    ngx_http_vaani_loc_conf_t *prev)
{
    ngx_http_vaani_loc_conf_t  *place;

    if (conf->token == NGX_CONF_UNSET_PTR) {
        conf->tokens = prev->tokens;
        conf->token_in_uri = prev->token_in_uri;
    }

    ngx_conf_merge_ptr_value(conf->token, prev->token, NULL);
    ngx_conf_merge_ptr_value(conf->secret, prev->secret, NULL);
    ngx_conf_merge_ptr_value(conf->signature, prev->signature, NULL);
    ngx_conf_merge_sec_value(conf->timestamp_tolerance,
                             prev->timestamp_tolerance, 300);

    if (conf->secret || conf->signature) {
        conf->auth = NGX_HTTP_VAANI_AUTH_BODY;

    } else if (conf->token) {
        conf->auth = NGX_HTTP_VAANI_AUTH_HEADERS;
    }

    conf->parent = prev;

    if (!ngx_http_vaani_is_webhook(conf)) {
        return NGX_CONF_OK;
    }

    for (place = conf; place; place = place->parent) {
        place->endpoint = 1;
    }

#if (NGX_HTTP_VAANI_HMAC)

    if (conf->signature) {
        return ngx_http_vaani_check_header(cf, conf->signature);
    }

#endif

    return NGX_CONF_OK;
}


ngx_int_t
ngx_http_vaani_check_auth(ngx_conf_t *cf)
{
    ngx_uint_t                    n;
    ngx_http_vaani_place_t       *place;
    ngx_http_vaani_loc_conf_t   **conf;
    ngx_http_vaani_main_conf_t   *vmcf;

    vmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_vaani_module);

    conf = vmcf->protected.elts;

    for (n = 0; n < vmcf->protected.nelts; n++) {
        place = &conf[n]->auth_place;

        if (conf[n]->handler && !ngx_http_vaani_is_webhook(conf[n])) {
            ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                          "\"%s\" protects only \"vaani_webhook\", use "
                          "\"allow\" and \"deny\" in %s:%ui",
                          place->directive, place->file, place->line);
            return NGX_ERROR;
        }

        if (!conf[n]->endpoint) {
            ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                          "\"%s\" has no effect, neither this location nor a "
                          "nested one has \"vaani_webhook\" in %s:%ui",
                          place->directive, place->file, place->line);
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}
