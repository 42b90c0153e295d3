
/*
 * The directive "vaani_spool", and one ngx_vaani_spool_t for all locations with
 * the same directory.
 */


#include "../ngx_http_vaani.h"


#define NGX_HTTP_VAANI_SPOOL_MAX        (1024 * 1024 * 1024)  /* bytes */
#define NGX_HTTP_VAANI_MIN_RETAIN       1000    /* ms */


static ngx_int_t ngx_http_vaani_normalize(ngx_conf_t *cf, ngx_str_t *path);
static char *ngx_http_vaani_spool_parameter(ngx_conf_t *cf,
    ngx_vaani_spool_t *spool, ngx_str_t *value);
static ngx_int_t ngx_http_vaani_parse_max(ngx_str_t *text, size_t *size);
static ngx_vaani_spool_t *ngx_http_vaani_add_spool(ngx_conf_t *cf,
    ngx_vaani_spool_t *spool);


char *
ngx_http_vaani_spool_directive(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_vaani_loc_conf_t *vlcf = conf;

    char               *rv;
    ngx_str_t          *value;
    ngx_uint_t          n;
    ngx_vaani_spool_t  *spool;

    if (vlcf->spool != NGX_CONF_UNSET_PTR) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (ngx_strcmp(value[1].data, "off") == 0) {
        vlcf->spool = NULL;
        return ngx_http_vaani_check_off(cf);
    }

    if (value[1].len == 0 || ngx_http_script_variables_count(&value[1])) {
        return "must be a directory without variables";
    }

    spool = ngx_pcalloc(cf->pool, sizeof(ngx_vaani_spool_t));

    if (spool == NULL) {
        return NGX_CONF_ERROR;
    }

    spool->path = ngx_pcalloc(cf->pool, sizeof(ngx_path_t));

    if (spool->path == NULL) {
        return NGX_CONF_ERROR;
    }

    spool->max = NGX_HTTP_VAANI_SPOOL_MAX;
    spool->sync = NGX_VAANI_SPOOL_BATCH;

    spool->path->name = value[1];

    if (ngx_conf_full_name(cf->cycle, &spool->path->name, 0) != NGX_OK
        || ngx_http_vaani_normalize(cf, &spool->path->name) != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    for (n = 2; n < cf->args->nelts; n++) {
        rv = ngx_http_vaani_spool_parameter(cf, spool, &value[n]);

        if (rv != NGX_CONF_OK) {
            return rv;
        }
    }

    if (ngx_http_vaani_check_repeated(cf, 2) != NGX_CONF_OK) {
        return NGX_CONF_ERROR;
    }

    vlcf->spool = ngx_http_vaani_add_spool(cf, spool);

    return vlcf->spool ? NGX_CONF_OK : NGX_CONF_ERROR;
}


/*
 * Normalizes a path: removes repeated slashes and "." components.
 */

static ngx_int_t
ngx_http_vaani_normalize(ngx_conf_t *cf, ngx_str_t *path)
{
    u_char  *p, *src, *last;

    p = ngx_pnalloc(cf->pool, path->len + 1);

    if (p == NULL) {
        return NGX_ERROR;
    }

    src = path->data;
    last = src + path->len;
    path->data = p;

    while (src < last) {

        if (src[0] == '/'
            && (src + 1 == last || src[1] == '/'
                || (src[1] == '.' && (src + 2 == last || src[2] == '/'))))
        {
            src += (src + 1 < last && src[1] == '.') ? 2 : 1;
            continue;
        }

        *p++ = *src++;
    }

    if (p == path->data) {
        *p++ = '/';
    }

    *p = '\0';
    path->len = p - path->data;

    return NGX_OK;
}


static char *
ngx_http_vaani_spool_parameter(ngx_conf_t *cf, ngx_vaani_spool_t *spool,
    ngx_str_t *value)
{
    ngx_int_t  retain;
    ngx_str_t  text;

    if (ngx_http_vaani_parameter(value, "max=", &text)) {

        if (ngx_http_vaani_parse_max(&text, &spool->max) == NGX_OK) {
            return NGX_CONF_OK;
        }

    } else if (ngx_strcmp(value->data, "retain=off") == 0) {
        spool->retain = 0;
        return NGX_CONF_OK;

    } else if (ngx_http_vaani_parameter(value, "retain=", &text)) {
        retain = ngx_parse_time(&text, 0);

        if (retain != NGX_ERROR && retain >= NGX_HTTP_VAANI_MIN_RETAIN) {
            spool->retain = retain;
            return NGX_CONF_OK;
        }

    } else if (ngx_http_vaani_parameter(value, "refused=", &text)) {
        spool->refused_set = 1;

        if (ngx_strcmp(text.data, "off") == 0) {
            spool->refused = 0;
            return NGX_CONF_OK;
        }

        if (ngx_http_vaani_parse_max(&text, &spool->refused) == NGX_OK) {
            return NGX_CONF_OK;
        }

    } else if (ngx_strcmp(value->data, "sync=batch") == 0) {
        spool->sync = NGX_VAANI_SPOOL_BATCH;
        return NGX_CONF_OK;

    } else if (ngx_strcmp(value->data, "sync=always") == 0) {
        spool->sync = NGX_VAANI_SPOOL_ALWAYS;
        return NGX_CONF_OK;

    } else if (ngx_strcmp(value->data, "sync=off") == 0) {
        spool->sync = NGX_VAANI_SPOOL_OFF;
        return NGX_CONF_OK;
    }

    return ngx_http_vaani_invalid_parameter(cf, value);
}


/*
 * A size of 0, which means unlimited elsewhere in nginx, is an error.
 */

static ngx_int_t
ngx_http_vaani_parse_max(ngx_str_t *text, size_t *size)
{
    off_t  max;

    max = ngx_parse_offset(text);

    if (max <= 0 || (uint64_t) max > NGX_MAX_SIZE_T_VALUE) {
        return NGX_ERROR;
    }

    *size = max;

    return NGX_OK;
}


/*
 * Locations with the same directory share a spool, however the path is
 * written.
 */

static ngx_vaani_spool_t *
ngx_http_vaani_add_spool(ngx_conf_t *cf, ngx_vaani_spool_t *spool)
{
    ngx_uint_t                    n;
    struct stat                   st;
    ngx_vaani_spool_t           **known, **slot;
    ngx_http_vaani_main_conf_t   *vmcf;

    vmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_vaani_module);

    known = vmcf->spools.elts;

    if (stat((char *) spool->path->name.data, &st) == 0) {
        spool->dev = st.st_dev;
        spool->ino = st.st_ino;
    }

    for (n = 0; n < vmcf->spools.nelts; n++) {

        if (!ngx_http_vaani_same(&known[n]->path->name, &spool->path->name)
            && (spool->ino == 0 || known[n]->ino != spool->ino
                || known[n]->dev != spool->dev))
        {
            continue;
        }

        if (known[n]->max != spool->max
            || known[n]->sync != spool->sync
            || known[n]->retain != spool->retain
            || known[n]->refused_set != spool->refused_set
            || (spool->refused_set && known[n]->refused != spool->refused))
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "\"vaani_spool\" \"%V\" has different "
                               "parameters elsewhere", &spool->path->name);
            return NULL;
        }

        return known[n];
    }

    spool->path->conf_file = cf->conf_file->file.name.data;
    spool->path->line = cf->conf_file->line;

    spool->all = &vmcf->spools;

    if (ngx_vaani_spool_init(cf, spool) != NGX_OK) {
        return NULL;
    }

    slot = ngx_array_push(&vmcf->spools);

    if (slot == NULL) {
        return NULL;
    }

    *slot = spool;

    return spool;
}
