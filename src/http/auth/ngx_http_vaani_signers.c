
/*
 * The directives "vaani_secret" and "vaani_signature": the signature schemes.
 */


#include "../ngx_http_vaani.h"


#if (NGX_HTTP_VAANI_HMAC)

/*
 * A signature scheme, and the handler of a parameter of its directive: an
 * option, a secret, or a file of secrets.
 */

typedef struct {
    ngx_http_vaani_scheme_t     schemes[NGX_HTTP_VAANI_SCHEMES];
    ngx_uint_t                  nschemes;
    char                     *(*parameter)(ngx_conf_t *cf,
                                           ngx_http_vaani_signer_t *signer,
                                           ngx_str_t *value);
} ngx_http_vaani_known_signer_t;


static char *ngx_http_vaani_read_signer(ngx_conf_t *cf,
    ngx_http_vaani_known_signer_t *known, ngx_http_vaani_signer_t *signer,
    ngx_uint_t first);
static ngx_http_vaani_signer_t *ngx_http_vaani_create_signer(ngx_conf_t *cf,
    ngx_command_t *cmd, ngx_http_vaani_known_signer_t *known);
static ngx_uint_t ngx_http_vaani_is_header_name(ngx_str_t *name);
static char *ngx_http_vaani_webhook_parameter(ngx_conf_t *cf,
    ngx_http_vaani_signer_t *signer, ngx_str_t *value);
static char *ngx_http_vaani_own_parameter(ngx_conf_t *cf,
    ngx_http_vaani_signer_t *signer, ngx_str_t *value);
static char *ngx_http_vaani_header_parameter(ngx_conf_t *cf,
    ngx_http_vaani_signer_t *signer, ngx_str_t *value);
static char *ngx_http_vaani_signature_timestamp(ngx_conf_t *cf,
    ngx_http_vaani_scheme_t *scheme, u_char *first, u_char *last);
static ngx_uint_t ngx_http_vaani_is_element(u_char *first, u_char *last);
static char *ngx_http_vaani_signature_secret(ngx_conf_t *cf,
    ngx_http_vaani_signer_t *signer, ngx_str_t *value);


#define NGX_HTTP_VAANI_WEBHOOKS         0
#define NGX_HTTP_VAANI_OWN              1
#define NGX_HTTP_VAANI_HEADER           2


static ngx_http_vaani_known_signer_t  ngx_http_vaani_signers[] = {

    /* https://www.standardwebhooks.com, and the header names of Svix */

    { { { ngx_string("webhook-signature"),
          ngx_string("webhook-id"),
          ngx_string("webhook-timestamp"),
          { vaani_string("v1,"), { 0, NULL }, ' ', VAANI_SIGNATURE_BASE64,
            0, 0 } },

        { ngx_string("svix-signature"),
          ngx_string("svix-id"),
          ngx_string("svix-timestamp"),
          { vaani_string("v1,"), { 0, NULL }, ' ', VAANI_SIGNATURE_BASE64,
            0, 0 } } },
      2,
      ngx_http_vaani_webhook_parameter },

    /* Vaani's campaigns, and its dashboard */

    { { { ngx_string("x-vaani-signature"),
          ngx_null_string,
          ngx_string("x-vaani-timestamp"),
          { vaani_string("sha256="), { 0, NULL }, ',', VAANI_SIGNATURE_HEX,
            1, 1 } },

        { ngx_string("x-webhook-signature"),
          ngx_null_string,
          ngx_null_string,
          { vaani_string("sha256="), { 0, NULL }, ',', VAANI_SIGNATURE_HEX,
            1, 1 } } },
      2,
      ngx_http_vaani_own_parameter },

    /* any other sender: the configuration names the header */

    { { { ngx_null_string,
          ngx_null_string,
          ngx_null_string,
          { { 0, NULL }, { 0, NULL }, ',', VAANI_SIGNATURE_HEX, 1, 0 } } },
      1,
      ngx_http_vaani_header_parameter }
};


static vaani_str_t  ngx_http_vaani_v1 = vaani_string("v1=");


char *
ngx_http_vaani_secret(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_vaani_loc_conf_t *vlcf = conf;

    char                           *rv;
    ngx_str_t                      *value;
    ngx_http_vaani_known_signer_t  *known;

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

    known = &ngx_http_vaani_signers[NGX_HTTP_VAANI_WEBHOOKS];

    if (vlcf->secret == NGX_CONF_UNSET_PTR) {
        vlcf->secret = ngx_http_vaani_create_signer(cf, cmd, known);

        if (vlcf->secret == NULL) {
            return NGX_CONF_ERROR;
        }
    }

    rv = ngx_http_vaani_read_signer(cf, known, vlcf->secret, 1);

    return (rv == NGX_CONF_OK) ? ngx_http_vaani_protect(cf, cmd, vlcf) : rv;
}


char *
ngx_http_vaani_signature(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_vaani_loc_conf_t *vlcf = conf;

    char                           *rv;
    ngx_str_t                      *value;
    ngx_http_vaani_signer_t        *signer;
    ngx_http_vaani_scheme_t        *scheme;
    ngx_http_vaani_known_signer_t  *known;

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

    known = (ngx_strcmp(value[1].data, "vaani") == 0)
            ? &ngx_http_vaani_signers[NGX_HTTP_VAANI_OWN]
            : &ngx_http_vaani_signers[NGX_HTTP_VAANI_HEADER];

    signer = ngx_http_vaani_create_signer(cf, cmd, known);

    if (signer == NULL) {
        return NGX_CONF_ERROR;
    }

    scheme = signer->schemes;

    if (scheme->signature.len == 0) {
        scheme->signature = value[1];
        ngx_strlow(scheme->signature.data, scheme->signature.data,
                   scheme->signature.len);
    }

    rv = ngx_http_vaani_read_signer(cf, known, signer, 2);

    if (rv != NGX_CONF_OK) {
        return rv;
    }

    if (ngx_http_vaani_check_repeated(cf, 2) != NGX_CONF_OK) {
        return NGX_CONF_ERROR;
    }

    if (signer->keys.nelts == 0) {
        return "needs \"secret=\" or \"file=\"";
    }

    if (scheme->format.timestamp.len && scheme->format.prefix.data == NULL) {
        scheme->format.prefix = ngx_http_vaani_v1;
    }

    vlcf->signature = signer;

    return ngx_http_vaani_protect(cf, cmd, vlcf);
}


/*
 * Reads the parameters of a directive, starting with the first.
 */

static char *
ngx_http_vaani_read_signer(ngx_conf_t *cf,
    ngx_http_vaani_known_signer_t *known, ngx_http_vaani_signer_t *signer,
    ngx_uint_t first)
{
    char        *rv;
    ngx_str_t   *value;
    ngx_uint_t   n;

    value = cf->args->elts;

    for (n = first; n < cf->args->nelts; n++) {
        rv = known->parameter(cf, signer, &value[n]);

        if (rv != NGX_CONF_OK) {
            return rv;
        }
    }

    return NGX_CONF_OK;
}


/*
 * The schemes are copied per location, because its parameters change them.
 */

static ngx_http_vaani_signer_t *
ngx_http_vaani_create_signer(ngx_conf_t *cf, ngx_command_t *cmd,
    ngx_http_vaani_known_signer_t *known)
{
    ngx_http_vaani_signer_t  *signer;

    signer = ngx_palloc(cf->pool, sizeof(ngx_http_vaani_signer_t));

    if (signer == NULL
        || ngx_array_init(&signer->keys, cf->pool, 2, sizeof(HMAC_CTX *))
           != NGX_OK)
    {
        return NULL;
    }

    ngx_memcpy(signer->schemes, known->schemes, sizeof(known->schemes));
    signer->nschemes = known->nschemes;

    ngx_http_vaani_set_place(cf, cmd, &signer->place);

    return signer;
}


/*
 * nginx rejects requests with other characters in a header name.
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


static char *
ngx_http_vaani_webhook_parameter(ngx_conf_t *cf,
    ngx_http_vaani_signer_t *signer, ngx_str_t *value)
{
    return ngx_http_vaani_take_secrets(cf, value, &signer->keys,
                                       ngx_http_vaani_add_webhook_key);
}


static char *
ngx_http_vaani_own_parameter(ngx_conf_t *cf, ngx_http_vaani_signer_t *signer,
    ngx_str_t *value)
{
    ngx_str_t  text;

    if (ngx_http_vaani_parameter(value, "timestamp=", &text)) {

        if (ngx_strcmp(text.data, "required") != 0) {
            return "takes only \"timestamp=required\" after \"vaani\"";
        }

        /* the first scheme that has it */

        signer->nschemes = 1;

        return NGX_CONF_OK;
    }

    if (ngx_http_vaani_parameter(value, "encoding=", &text)
        || ngx_http_vaani_parameter(value, "prefix=", &text))
    {
        return "takes no \"encoding=\" or \"prefix=\" after \"vaani\"";
    }

    return ngx_http_vaani_signature_secret(cf, signer, value);
}


static char *
ngx_http_vaani_header_parameter(ngx_conf_t *cf,
    ngx_http_vaani_signer_t *signer, ngx_str_t *value)
{
    ngx_str_t                  text;
    vaani_signature_format_t  *format;

    format = &signer->schemes->format;

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

    if (ngx_http_vaani_parameter(value, "prefix=", &text)) {

        if (!ngx_http_vaani_is_element(text.data, text.data + text.len)) {
            return "has a prefix with a comma or a leading blank";
        }

        format->prefix.data = text.data;
        format->prefix.len = text.len;

        return NGX_CONF_OK;
    }

    if (ngx_http_vaani_parameter(value, "timestamp=", &text) && text.len) {
        return ngx_http_vaani_signature_timestamp(cf, signer->schemes,
                                                  text.data,
                                                  text.data + text.len);
    }

    return ngx_http_vaani_signature_secret(cf, signer, value);
}


/*
 * "$http_name" names another header; a name alone is an element of the list.
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
 * Whether an element of a list, without leading blanks, can begin with it.
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
    ngx_str_t  text;

    /* "file=" is read by ngx_http_vaani_take_secrets() */

    if (ngx_http_vaani_parameter(value, "secret=", &text)) {
        *value = text;

    } else if (!ngx_http_vaani_parameter(value, "file=", &text)) {

        /* not shown, because it may be a secret */

        return "has an invalid parameter";
    }

    return ngx_http_vaani_take_secrets(cf, value, &signer->keys,
                                       ngx_http_vaani_add_key);
}


#else


char *
ngx_http_vaani_secret(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_str_t  *value;

    value = cf->args->elts;

    if (cf->args->nelts == 2 && ngx_strcmp(value[1].data, "off") == 0) {
        return NGX_CONF_OK;
    }

    return "requires an nginx with OpenSSL 1.1.0 or newer";
}


char *
ngx_http_vaani_signature(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    return ngx_http_vaani_secret(cf, cmd, conf);
}

#endif
