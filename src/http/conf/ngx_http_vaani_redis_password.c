
/*
 * The passwords for Redis and for its Sentinels, whose users are separate.
 */


#include "../ngx_http_vaani.h"


static char *ngx_http_vaani_read_password(ngx_conf_t *cf, ngx_str_t *name,
    ngx_str_t *password);
static ngx_int_t ngx_http_vaani_add_password(ngx_conf_t *cf,
    ngx_array_t *secrets, ngx_str_t *secret);


char *
ngx_http_vaani_redis_password_file(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    ngx_http_vaani_loc_conf_t *vlcf = conf;

    ngx_str_t  *value;

    if (vlcf->redis_password.data) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (ngx_strcmp(value[1].data, "off") == 0) {
        ngx_str_set(&vlcf->redis_password, "");
        return NGX_CONF_OK;
    }

    return ngx_http_vaani_read_password(cf, &value[1], &vlcf->redis_password);
}


char *
ngx_http_vaani_redis_sentinel_password_file(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    ngx_http_vaani_loc_conf_t *vlcf = conf;

    ngx_str_t                   *value;
    ngx_http_vaani_sentinel_t   *sentinel, **slot;
    ngx_http_vaani_main_conf_t  *vmcf;

    if (vlcf->sentinel != NGX_CONF_UNSET_PTR) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (ngx_strcmp(value[1].data, "off") == 0) {
        vlcf->sentinel = NULL;
        return ngx_http_vaani_check_off(cf);
    }

    sentinel = ngx_pcalloc(cf->pool, sizeof(ngx_http_vaani_sentinel_t));

    if (sentinel == NULL) {
        return NGX_CONF_ERROR;
    }

    vlcf->sentinel = sentinel;

    ngx_http_vaani_set_place(cf, cmd, &sentinel->place);

    vmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_vaani_module);

    slot = ngx_array_push(&vmcf->sentinels);

    if (slot == NULL) {
        return NGX_CONF_ERROR;
    }

    *slot = sentinel;

    if (cf->args->nelts > 2
        && (!ngx_http_vaani_parameter(&value[2], "user=", &sentinel->user)
            || sentinel->user.len == 0))
    {
        return ngx_http_vaani_invalid_parameter(cf, &value[2]);
    }

    return ngx_http_vaani_read_password(cf, &value[1], &sentinel->password);
}


/*
 * The password is the first line of its file.
 */

static char *
ngx_http_vaani_read_password(ngx_conf_t *cf, ngx_str_t *name,
    ngx_str_t *password)
{
    ngx_array_t  passwords;

    if (ngx_array_init(&passwords, cf->temp_pool, 1, sizeof(ngx_str_t))
        != NGX_OK
        || ngx_http_vaani_read_secrets(cf, name, &passwords,
                                       ngx_http_vaani_add_password)
           != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    *password = *(ngx_str_t *) passwords.elts;

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_http_vaani_add_password(ngx_conf_t *cf, ngx_array_t *secrets,
    ngx_str_t *secret)
{
    ngx_str_t  *password;

    password = ngx_array_push(secrets);

    if (password == NULL) {
        return NGX_ERROR;
    }

    password->len = secret->len;
    password->data = ngx_pstrdup(cf->pool, secret);

    if (password->data == NULL) {
        return NGX_ERROR;
    }

    return ngx_http_vaani_wipe_later(cf->pool, password->data, password->len);
}


void
ngx_http_vaani_check_sentinels(ngx_conf_t *cf,
    ngx_http_vaani_main_conf_t *vmcf)
{
    ngx_uint_t                   n;
    ngx_http_vaani_sentinel_t  **sentinel;

    sentinel = vmcf->sentinels.elts;

    for (n = 0; n < vmcf->sentinels.nelts; n++) {

        if (sentinel[n]->seen && !sentinel[n]->used) {
            ngx_log_error(NGX_LOG_WARN, cf->log, 0,
                          "\"vaani_redis_sentinel_password_file\" has no "
                          "effect, no endpoint here has a \"vaani_redis\" "
                          "with \"sentinel=\" in %s:%ui",
                          sentinel[n]->place.file, sentinel[n]->place.line);
        }
    }
}
