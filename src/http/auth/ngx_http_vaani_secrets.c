
#include "../ngx_http_vaani.h"


#define NGX_HTTP_VAANI_MAX_FILE         4096


static char *ngx_http_vaani_read_password(ngx_conf_t *cf, ngx_str_t *name,
    ngx_str_t *password);
static ngx_int_t ngx_http_vaani_read_secrets(ngx_conf_t *cf, ngx_str_t *name,
    ngx_array_t *secrets, ngx_http_vaani_secret_pt handler);
static ngx_int_t ngx_http_vaani_read_secret_line(ngx_conf_t *cf,
    ngx_str_t *name, ngx_uint_t line, ngx_str_t *secret);
static void ngx_http_vaani_trim(ngx_str_t *text);
static ngx_int_t ngx_http_vaani_read_secret_file(ngx_conf_t *cf,
    ngx_str_t *name, u_char *buf, size_t *size);
static ngx_int_t ngx_http_vaani_add_password(ngx_conf_t *cf,
    ngx_array_t *secrets, ngx_str_t *secret);
static void ngx_http_vaani_wipe(void *data);


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

        if (cf->args->nelts > 2) {
            return "takes no parameters after \"off\"";
        }

        vlcf->sentinel = NULL;

        return NGX_CONF_OK;
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

    if (cf->args->nelts > 2) {

        if (ngx_strncmp(value[2].data, "user=", 5) != 0 || value[2].len == 5) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid parameter \"%V\"", &value[2]);
            return NGX_CONF_ERROR;
        }

        sentinel->user.data = value[2].data + 5;
        sentinel->user.len = value[2].len - 5;
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


char *
ngx_http_vaani_take_secrets(ngx_conf_t *cf, ngx_str_t *value,
    ngx_array_t *secrets, ngx_http_vaani_secret_pt handler)
{
    ngx_int_t  rc;
    ngx_str_t  name;

    if (ngx_strncmp(value->data, "file=", 5) == 0) {
        name.data = value->data + 5;
        name.len = value->len - 5;

        rc = ngx_http_vaani_read_secrets(cf, &name, secrets, handler);

        return rc == NGX_OK ? NGX_CONF_OK : NGX_CONF_ERROR;
    }

    if (value->len == 0) {
        return "has an empty secret";
    }

    rc = handler(cf, secrets, value);

    ngx_explicit_memzero(value->data, value->len);

    return rc == NGX_OK ? NGX_CONF_OK : NGX_CONF_ERROR;
}


static ngx_int_t
ngx_http_vaani_read_secrets(ngx_conf_t *cf, ngx_str_t *name,
    ngx_array_t *secrets, ngx_http_vaani_secret_pt handler)
{
    size_t      size;
    u_char     *p, *last, *end;
    ngx_int_t   rc;
    ngx_str_t   secret;
    ngx_uint_t  line, found;
    u_char      buf[NGX_HTTP_VAANI_MAX_FILE];

    if (ngx_conf_full_name(cf->cycle, name, 1) != NGX_OK
        || ngx_http_vaani_read_secret_file(cf, name, buf, &size) != NGX_OK)
    {
        ngx_explicit_memzero(buf, sizeof(buf));
        return NGX_ERROR;
    }

    rc = NGX_OK;
    found = 0;
    line = 0;
    last = buf + size;

    for (p = buf; rc == NGX_OK && p < last; p = end + 1) {

        end = ngx_strlchr(p, last, LF);

        if (end == NULL) {
            end = last;
        }

        secret.data = p;
        secret.len = end - p;

        rc = ngx_http_vaani_read_secret_line(cf, name, ++line, &secret);

        if (rc != NGX_OK || secret.len == 0) {
            continue;
        }

        found = 1;
        rc = handler(cf, secrets, &secret);

        if (rc != NGX_OK) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid secret on line %ui of \"%V\"", line,
                               name);
        }
    }

    ngx_explicit_memzero(buf, sizeof(buf));

    if (rc == NGX_OK && !found) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "\"%V\" holds no secret",
                           name);
        return NGX_ERROR;
    }

    return rc;
}


/*
 * Secrets are pasted: blanks around them and byte order marks are dropped, and
 * quotes, which could be part of a secret, are refused.  *secret is empty if
 * there is none on the line.
 */

static ngx_int_t
ngx_http_vaani_read_secret_line(ngx_conf_t *cf, ngx_str_t *name,
    ngx_uint_t line, ngx_str_t *secret)
{
    ngx_http_vaani_trim(secret);

    if (ngx_strlchr(secret->data, secret->data + secret->len, '\0')) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" has a null byte on line %ui, save it as "
                           "UTF-8", name, line);
        return NGX_ERROR;
    }

    /* a comment; the blank of an empty one has been dropped */

    if (secret->len && secret->data[0] == '#'
        && (secret->len == 1 || secret->data[1] == ' '
            || secret->data[1] == '\t'))
    {
        secret->len = 0;
        return NGX_OK;
    }

    if (secret->len > 1
        && (secret->data[0] == '"' || secret->data[0] == '\'')
        && secret->data[secret->len - 1] == secret->data[0])
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" has quotes around the secret on line %ui, "
                           "remove them", name, line);
        return NGX_ERROR;
    }

    return NGX_OK;
}


static void
ngx_http_vaani_trim(ngx_str_t *text)
{
    u_char  *p, *last;

    p = text->data;
    last = p + text->len;

    for ( ;; ) {

        if (p < last && (*p == ' ' || *p == '\t' || *p == CR)) {
            p++;

        } else if (last - p >= 3 && ngx_memcmp(p, "\xef\xbb\xbf", 3) == 0) {
            p += 3;

        } else {
            break;
        }
    }

    for ( ;; ) {

        if (p < last
            && (last[-1] == ' ' || last[-1] == '\t' || last[-1] == CR))
        {
            last--;

        } else if (last - p >= 3
                   && ngx_memcmp(last - 3, "\xef\xbb\xbf", 3) == 0)
        {
            last -= 3;

        } else {
            break;
        }
    }

    text->data = p;
    text->len = last - p;
}


static ngx_int_t
ngx_http_vaani_read_secret_file(ngx_conf_t *cf, ngx_str_t *name, u_char *buf,
    size_t *size)
{
    ssize_t           n;
    ngx_int_t         rc;
    ngx_file_t        file;
    ngx_file_info_t   fi;

    ngx_memzero(&file, sizeof(ngx_file_t));

    file.name = *name;
    file.log = cf->log;
    file.fd = ngx_open_file(name->data, NGX_FILE_RDONLY, NGX_FILE_OPEN, 0);

    if (file.fd == NGX_INVALID_FILE) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno,
                           ngx_open_file_n " \"%V\" failed", name);
        return NGX_ERROR;
    }

    rc = NGX_ERROR;

    if (ngx_fd_info(file.fd, &fi) == NGX_FILE_ERROR) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno,
                           ngx_fd_info_n " \"%V\" failed", name);
        goto done;
    }

    if (ngx_file_access(&fi) & (S_IROTH|S_IWOTH)) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" must not be readable or writable by all, "
                           "use chmod o-rw", name);
        goto done;
    }

    n = ngx_read_file(&file, buf, NGX_HTTP_VAANI_MAX_FILE, 0);

    if (n == NGX_ERROR) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno,
                           ngx_read_file_n " \"%V\" failed", name);
        goto done;
    }

    if (n == NGX_HTTP_VAANI_MAX_FILE) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" is too long to be a file of secrets", name);
        goto done;
    }

    *size = n;

    rc = NGX_OK;

done:

    if (ngx_close_file(file.fd) == NGX_FILE_ERROR) {
        ngx_conf_log_error(NGX_LOG_ALERT, cf, ngx_errno,
                           ngx_close_file_n " \"%V\" failed", name);
    }

    return rc;
}


ngx_int_t
ngx_http_vaani_wipe_later(ngx_pool_t *pool, u_char *data, size_t len)
{
    ngx_str_t           *str;
    ngx_pool_cleanup_t  *cln;

    cln = ngx_pool_cleanup_add(pool, sizeof(ngx_str_t));

    if (cln == NULL) {
        return NGX_ERROR;
    }

    str = cln->data;

    str->data = data;
    str->len = len;

    cln->handler = ngx_http_vaani_wipe;

    return NGX_OK;
}


static void
ngx_http_vaani_wipe(void *data)
{
    ngx_str_t *str = data;

    ngx_explicit_memzero(str->data, str->len);
}
