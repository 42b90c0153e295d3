
/*
 * The directives "vaani_secret" and "vaani_signature": who signs, and how.
 */


#include "../ngx_http_vaani.h"


#if (NGX_HTTP_VAANI_HMAC)

static ngx_http_vaani_signer_t *ngx_http_vaani_create_signer(ngx_conf_t *cf,
    ngx_command_t *cmd);
static char *ngx_http_vaani_own_parameter(ngx_conf_t *cf,
    ngx_http_vaani_signer_t *signer, ngx_str_t *value);
static ngx_uint_t ngx_http_vaani_is_header_name(ngx_str_t *name);
static ngx_http_vaani_scheme_t *ngx_http_vaani_create_scheme(ngx_conf_t *cf,
    ngx_str_t *header);
static char *ngx_http_vaani_signature_parameter(ngx_conf_t *cf,
    ngx_http_vaani_signer_t *signer, ngx_str_t *value);
static char *ngx_http_vaani_signature_timestamp(ngx_conf_t *cf,
    ngx_http_vaani_scheme_t *scheme, u_char *first, u_char *last);
static ngx_uint_t ngx_http_vaani_is_element(u_char *first, u_char *last);
static char *ngx_http_vaani_signature_secret(ngx_conf_t *cf,
    ngx_http_vaani_signer_t *signer, ngx_str_t *value);


/* https://www.standardwebhooks.com, and the names that Svix gives to them */

static ngx_http_vaani_scheme_t  ngx_http_vaani_webhook_schemes[] = {
    { ngx_string("webhook-signature"),
      ngx_string("webhook-id"),
      ngx_string("webhook-timestamp"),
      { vaani_string("v1,"), { 0, NULL }, ' ', VAANI_SIGNATURE_BASE64, 0, 0 }
    },

    { ngx_string("svix-signature"),
      ngx_string("svix-id"),
      ngx_string("svix-timestamp"),
      { vaani_string("v1,"), { 0, NULL }, ' ', VAANI_SIGNATURE_BASE64, 0, 0 }
    }
};


/* of campaigns, and of the dashboard */

static ngx_http_vaani_scheme_t  ngx_http_vaani_own_schemes[] = {
    { ngx_string("x-vaani-signature"),
      ngx_null_string,
      ngx_string("x-vaani-timestamp"),
      { vaani_string("sha256="), { 0, NULL }, ',', VAANI_SIGNATURE_HEX, 1, 1 }
    },

    { ngx_string("x-webhook-signature"),
      ngx_null_string,
      ngx_null_string,
      { vaani_string("sha256="), { 0, NULL }, ',', VAANI_SIGNATURE_HEX, 1, 1 }
    }
};


static vaani_str_t  ngx_http_vaani_v1 = vaani_string("v1=");

#else

static char *ngx_http_vaani_no_hmac(ngx_conf_t *cf);

#endif


char *
ngx_http_vaani_secret(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
#if (NGX_HTTP_VAANI_HMAC)
    ngx_http_vaani_loc_conf_t *vlcf = conf;

    char                     *rv;
    ngx_str_t                *value;
    ngx_uint_t                n;
    ngx_http_vaani_signer_t  *signer;

    value = cf->args->elts;

    if (cf->args->nelts == 2 && ngx_strcmp(value[1].data, "off") == 0) {

        if (vlcf->secret != NGX_CONF_UNSET_PTR) {
            return vlcf->secret ? "\"off\" is set after a secret"
                                : "is duplicate";
        }

        vlcf->secret = NULL;

        return NGX_CONF_OK;
    }

    if (vlcf->secret == NULL) {
        return "is set after \"vaani_secret off\"";
    }

    if (vlcf->secret == NGX_CONF_UNSET_PTR) {
        signer = ngx_http_vaani_create_signer(cf, cmd);

        if (signer == NULL) {
            return NGX_CONF_ERROR;
        }

        signer->schemes = ngx_http_vaani_webhook_schemes;
        signer->nschemes = 2;

        vlcf->secret = signer;
    }

    for (n = 1; n < cf->args->nelts; n++) {
        rv = ngx_http_vaani_take_secrets(cf, &value[n], &vlcf->secret->keys,
                                         ngx_http_vaani_add_webhook_key);

        if (rv != NGX_CONF_OK) {
            return rv;
        }
    }

    return ngx_http_vaani_protect(cf, cmd, vlcf);

#else
    return ngx_http_vaani_no_hmac(cf);
#endif
}


char *
ngx_http_vaani_signature(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
#if (NGX_HTTP_VAANI_HMAC)
    ngx_http_vaani_loc_conf_t *vlcf = conf;

    char                     *rv;
    ngx_str_t                *value;
    ngx_uint_t                n, own;
    ngx_http_vaani_signer_t  *signer;

    if (vlcf->signature != NGX_CONF_UNSET_PTR) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (cf->args->nelts == 2 && ngx_strcmp(value[1].data, "off") == 0) {
        vlcf->signature = NULL;
        return NGX_CONF_OK;
    }

    if (value[1].len == 0
        || ngx_strlchr(value[1].data, value[1].data + value[1].len, '='))
    {
        return "needs the name of a header first, or \"vaani\"";
    }

    if (!ngx_http_vaani_is_header_name(&value[1])) {
        return "has an invalid header name";
    }

    signer = ngx_http_vaani_create_signer(cf, cmd);

    if (signer == NULL) {
        return NGX_CONF_ERROR;
    }

    own = (ngx_strcmp(value[1].data, "vaani") == 0);

    if (own) {
        signer->schemes = ngx_http_vaani_own_schemes;
        signer->nschemes = 2;

    } else {
        signer->schemes = ngx_http_vaani_create_scheme(cf, &value[1]);
        signer->nschemes = 1;

        if (signer->schemes == NULL) {
            return NGX_CONF_ERROR;
        }
    }

    for (n = 2; n < cf->args->nelts; n++) {
        rv = own ? ngx_http_vaani_own_parameter(cf, signer, &value[n])
                 : ngx_http_vaani_signature_parameter(cf, signer, &value[n]);

        if (rv != NGX_CONF_OK) {
            return rv;
        }
    }

    if (ngx_http_vaani_check_repeated(cf, 2) != NGX_CONF_OK) {
        return NGX_CONF_ERROR;
    }

    if (signer->keys.nelts == 0) {
        return "needs \"secret=\" or \"file=\"";
    }

    if (signer->schemes->format.timestamp.len
        && signer->schemes->format.prefix.data == NULL)
    {
        signer->schemes->format.prefix = ngx_http_vaani_v1;
    }

    vlcf->signature = signer;

    return ngx_http_vaani_protect(cf, cmd, vlcf);

#else
    return ngx_http_vaani_no_hmac(cf);
#endif
}


#if (NGX_HTTP_VAANI_HMAC)

static ngx_http_vaani_signer_t *
ngx_http_vaani_create_signer(ngx_conf_t *cf, ngx_command_t *cmd)
{
    ngx_http_vaani_signer_t  *signer;

    signer = ngx_pcalloc(cf->pool, sizeof(ngx_http_vaani_signer_t));

    if (signer == NULL
        || ngx_array_init(&signer->keys, cf->pool, 2, sizeof(HMAC_CTX *))
           != NGX_OK)
    {
        return NULL;
    }

    ngx_http_vaani_set_place(cf, cmd, &signer->place);

    return signer;
}


/*
 * Vaani's own: a parameter of "vaani_signature vaani".
 */

static char *
ngx_http_vaani_own_parameter(ngx_conf_t *cf, ngx_http_vaani_signer_t *signer,
    ngx_str_t *value)
{
    if (ngx_strcmp(value->data, "timestamp=required") == 0) {

        /* the one that has it is the first */

        signer->nschemes = 1;

        return NGX_CONF_OK;
    }

    if (ngx_strncmp(value->data, "timestamp=", 10) == 0) {
        return "takes only \"timestamp=required\" after \"vaani\"";
    }

    if (ngx_strncmp(value->data, "encoding=", 9) == 0
        || ngx_strncmp(value->data, "prefix=", 7) == 0)
    {
        return "takes no \"encoding=\" or \"prefix=\" after \"vaani\"";
    }

    return ngx_http_vaani_signature_secret(cf, signer, value);
}


/*
 * Others are a malformed request to nginx.
 */

static ngx_uint_t
ngx_http_vaani_is_header_name(ngx_str_t *name)
{
    u_char  *p;

    for (p = name->data; p < name->data + name->len; p++) {

        if (*p <= 0x20 || *p == 0x7f || *p == ':') {
            return 0;
        }
    }

    return 1;
}


static ngx_http_vaani_scheme_t *
ngx_http_vaani_create_scheme(ngx_conf_t *cf, ngx_str_t *header)
{
    ngx_http_vaani_scheme_t  *scheme;

    scheme = ngx_pcalloc(cf->pool, sizeof(ngx_http_vaani_scheme_t));

    if (scheme == NULL) {
        return NULL;
    }

    scheme->signature = *header;

    ngx_strlow(scheme->signature.data, scheme->signature.data,
               scheme->signature.len);

    scheme->format.separator = ',';
    scheme->format.encoding = VAANI_SIGNATURE_HEX;
    scheme->format.bare = 1;

    return scheme;
}


static char *
ngx_http_vaani_signature_parameter(ngx_conf_t *cf,
    ngx_http_vaani_signer_t *signer, ngx_str_t *value)
{
    u_char                    *last;
    vaani_signature_format_t  *format;

    format = &signer->schemes->format;
    last = value->data + value->len;

    if (ngx_strcmp(value->data, "encoding=hex") == 0) {
        format->encoding = VAANI_SIGNATURE_HEX;
        return NGX_CONF_OK;
    }

    if (ngx_strcmp(value->data, "encoding=base64") == 0
        || ngx_strcmp(value->data, "encoding=base64url") == 0)
    {
        format->encoding = VAANI_SIGNATURE_BASE64_ANY;
        return NGX_CONF_OK;
    }

    if (ngx_strncmp(value->data, "prefix=", 7) == 0) {

        if (!ngx_http_vaani_is_element(value->data + 7, last)) {
            return "has a prefix with a comma or a leading blank";
        }

        format->prefix.data = value->data + 7;
        format->prefix.len = value->len - 7;

        return NGX_CONF_OK;
    }

    if (ngx_strncmp(value->data, "timestamp=", 10) == 0 && value->len > 10) {
        return ngx_http_vaani_signature_timestamp(cf, signer->schemes,
                                                  value->data + 10, last);
    }

    return ngx_http_vaani_signature_secret(cf, signer, value);
}


/*
 * "$http_name" is another header, a name is that of an element of the list.
 */

static char *
ngx_http_vaani_signature_timestamp(ngx_conf_t *cf,
    ngx_http_vaani_scheme_t *scheme, u_char *first, u_char *last)
{
    u_char  *p;

    if (last - first == 8 && ngx_strncmp(first, "required", 8) == 0) {
        return "takes \"timestamp=required\" only after \"vaani\"";
    }

    if (*first == '$') {
        first++;

        if (*first == '{' && last[-1] == '}') {
            first++;
            last--;
        }

        for (p = first; p < last; p++) {
            *p = ngx_tolower(*p);

            if ((*p < 'a' || *p > 'z') && (*p < '0' || *p > '9') && *p != '_') {
                break;
            }
        }

        if (p < last || last - first <= 5
            || ngx_strncmp(first, "http_", 5) != 0)
        {
            return "takes only \"$http_NAME\" as a variable in \"timestamp=\"";
        }

        scheme->timestamp.data = first + 5;
        scheme->timestamp.len = last - first - 5;

        return NGX_CONF_OK;
    }

    if (!ngx_http_vaani_is_element(first, last)) {
        return "has a timestamp name with a comma or a leading blank";
    }

    p = ngx_pnalloc(cf->pool, last - first + 1);

    if (p == NULL) {
        return NGX_CONF_ERROR;
    }

    scheme->format.timestamp.data = p;
    scheme->format.timestamp.len = last - first + 1;

    p = ngx_cpymem(p, first, last - first);
    *p = '=';

    return NGX_CONF_OK;
}


/*
 * Whether an element of a list, which has no blanks at its beginning, can begin
 * with it.
 */

static ngx_uint_t
ngx_http_vaani_is_element(u_char *first, u_char *last)
{
    u_char  *p;

    for (p = first; p < last; p++) {

        if (*p == ',') {
            return 0;
        }
    }

    return first == last || (*first != ' ' && *first != '\t');
}


static char *
ngx_http_vaani_signature_secret(ngx_conf_t *cf,
    ngx_http_vaani_signer_t *signer, ngx_str_t *value)
{
    if (ngx_strncmp(value->data, "secret=", 7) == 0) {
        value->data += 7;
        value->len -= 7;

    } else if (ngx_strncmp(value->data, "file=", 5) != 0) {

        /* it may be a secret: it isn't shown */

        return "has an invalid parameter";
    }

    return ngx_http_vaani_take_secrets(cf, value, &signer->keys,
                                       ngx_http_vaani_add_key);
}

#else


static char *
ngx_http_vaani_no_hmac(ngx_conf_t *cf)
{
    ngx_str_t  *value;

    value = cf->args->elts;

    if (cf->args->nelts == 2 && ngx_strcmp(value[1].data, "off") == 0) {
        return NGX_CONF_OK;
    }

    return "requires an nginx with OpenSSL 1.1.0 or newer";
}

#endif
