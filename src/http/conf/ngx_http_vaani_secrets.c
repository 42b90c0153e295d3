
/*
 * Secrets in the configuration: parameters, and files of secrets.
 */


#include "../ngx_http_vaani.h"


#define NGX_HTTP_VAANI_MAX_FILE         4096


static ngx_int_t ngx_http_vaani_read_secret_line(ngx_conf_t *cf,
    ngx_str_t *name, ngx_uint_t line, ngx_str_t *secret);
static void ngx_http_vaani_trim(ngx_str_t *text);
static ngx_int_t ngx_http_vaani_read_secret_file(ngx_conf_t *cf,
    ngx_str_t *name, u_char *buf, size_t *size);
static void ngx_http_vaani_wipe(void *data);


char *
ngx_http_vaani_take_secrets(ngx_conf_t *cf, ngx_str_t *value,
    ngx_array_t *secrets, ngx_http_vaani_secret_pt handler)
{
    ngx_int_t  rc;
    ngx_str_t  name;

    if (ngx_http_vaani_parameter(value, "file=", &name)) {
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


ngx_int_t
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
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "\"%V\" contains no secret",
                           name);
        return NGX_ERROR;
    }

    return rc;
}


/*
 * Secrets are often pasted.  Therefore blanks around them and byte order marks
 * are dropped, and quotes, which could be part of a secret, are refused.
 * *secret is empty if the line has none.
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

    /* a comment; the blank after an empty one has been dropped */

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
                           "\"%V\" is too long for a secret file", name);
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
