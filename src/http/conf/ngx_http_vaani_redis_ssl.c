
/*
 * The directives of TLS to Redis, and their merge.
 */


#include "../ngx_http_vaani.h"


#if (NGX_SSL)

static ngx_uint_t ngx_http_vaani_is_file(ngx_str_t *value);
static void ngx_http_vaani_merge_setting(ngx_vaani_redis_setting_t *conf,
    ngx_vaani_redis_setting_t *prev, char *value);


char *
ngx_http_vaani_redis_ssl_setting(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    char  *p = conf;

    ngx_str_t                  *value;
    ngx_vaani_redis_setting_t  *setting;

    setting = (ngx_vaani_redis_setting_t *) (p + cmd->offset);

    if (setting->value.data) {
        return "is duplicate";
    }

    value = cf->args->elts;

    setting->value = value[1];
    setting->file = cf->conf_file->file.name;
    setting->line = cf->conf_file->line;

    return NGX_CONF_OK;
}


char *
ngx_http_vaani_redis_ssl_file(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    char  *p = conf;

    char                       *rv;
    ngx_vaani_redis_setting_t  *setting;

    rv = ngx_http_vaani_redis_ssl_setting(cf, cmd, conf);

    if (rv != NGX_CONF_OK) {
        return rv;
    }

    setting = (ngx_vaani_redis_setting_t *) (p + cmd->offset);

    if (!ngx_http_vaani_is_file(&setting->value)) {
        return NGX_CONF_OK;
    }

    /* settings are compared by name, so a file must have only one name */

    if (ngx_conf_full_name(cf->cycle, &setting->value, 1) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


/*
 * ngx_ssl_certificate() handles the other forms.
 */

static ngx_uint_t
ngx_http_vaani_is_file(ngx_str_t *value)
{
    return value->len
           && ngx_strncmp(value->data, "data:", 5) != 0
           && ngx_strncmp(value->data, "engine:", 7) != 0
           && ngx_strncmp(value->data, "store:", 6) != 0;
}


char *
ngx_http_vaani_redis_ssl_password_file(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    ngx_http_vaani_loc_conf_t *vlcf = conf;

    ngx_str_t  *value;

    if (vlcf->redis_ssl.passwords != NGX_CONF_UNSET_PTR) {
        return "is duplicate";
    }

    value = cf->args->elts;

    vlcf->redis_ssl.passwords = ngx_ssl_read_password_file(cf, &value[1]);

    return vlcf->redis_ssl.passwords ? NGX_CONF_OK : NGX_CONF_ERROR;
}


void
ngx_http_vaani_redis_ssl_unset(ngx_vaani_redis_ssl_t *ssl)
{
    ssl->verify = NGX_CONF_UNSET;
    ssl->verify_depth = NGX_CONF_UNSET_UINT;
    ssl->session_reuse = NGX_CONF_UNSET;
    ssl->passwords = NGX_CONF_UNSET_PTR;
}


void
ngx_http_vaani_redis_ssl_merge(ngx_vaani_redis_ssl_t *conf,
    ngx_vaani_redis_ssl_t *prev)
{
    ngx_conf_merge_value(conf->verify, prev->verify, 1);
    ngx_conf_merge_uint_value(conf->verify_depth, prev->verify_depth,
                              NGX_HTTP_VAANI_REDIS_SSL_DEPTH);
    ngx_conf_merge_bitmask_value(conf->protocols, prev->protocols,
                                 (NGX_CONF_BITMASK_SET
                                  |NGX_SSL_TLSv1_2|NGX_SSL_TLSv1_3));
    ngx_conf_merge_value(conf->session_reuse, prev->session_reuse, 1);
    ngx_conf_merge_ptr_value(conf->passwords, prev->passwords, NULL);

    ngx_http_vaani_merge_setting(&conf->ciphers, &prev->ciphers, "DEFAULT");
    ngx_http_vaani_merge_setting(&conf->trusted, &prev->trusted, "");
    ngx_http_vaani_merge_setting(&conf->crl, &prev->crl, "");
    ngx_http_vaani_merge_setting(&conf->name, &prev->name, "");
    ngx_http_vaani_merge_setting(&conf->certificate, &prev->certificate, "");
    ngx_http_vaani_merge_setting(&conf->key, &prev->key, "");
}


static void
ngx_http_vaani_merge_setting(ngx_vaani_redis_setting_t *conf,
    ngx_vaani_redis_setting_t *prev, char *value)
{
    if (conf->value.data) {
        return;
    }

    *conf = *prev;

    if (conf->value.data == NULL) {
        conf->value.data = (u_char *) value;
        conf->value.len = ngx_strlen(value);
    }
}

#endif
