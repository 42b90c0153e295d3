
#include "../ngx_http_vaani.h"


/* bytes: what can be guessed is worth a warning */

#define NGX_HTTP_VAANI_SHORT_SECRET     16


static char *ngx_http_vaani_protect(ngx_conf_t *cf, ngx_command_t *cmd,
    ngx_http_vaani_loc_conf_t *vlcf);
static ngx_uint_t ngx_http_vaani_token_in_uri(ngx_str_t *value);
static ngx_int_t ngx_http_vaani_add_token(ngx_conf_t *cf,
    ngx_array_t *secrets, ngx_str_t *secret);
static void ngx_http_vaani_check_length(ngx_conf_t *cf, size_t len);

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
static char *ngx_http_vaani_check_header(ngx_conf_t *cf,
    ngx_http_vaani_signer_t *signer);
static ngx_uint_t ngx_http_vaani_is_webhook_secret(ngx_str_t *secret,
    ngx_str_t *encoded);
static ngx_int_t ngx_http_vaani_add_webhook_key(ngx_conf_t *cf,
    ngx_array_t *secrets, ngx_str_t *secret);
static ngx_int_t ngx_http_vaani_add_key(ngx_conf_t *cf, ngx_array_t *secrets,
    ngx_str_t *secret);
static void ngx_http_vaani_free_key(void *data);


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


/*
 * Notes where it was set.
 */

static char *
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
 * Arguments and headers aren't part of the path, which logs show.
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


/*
 * nginx drops headers with other names than letters, digits and "-", unless it
 * is told not to.
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


static ngx_int_t
ngx_http_vaani_add_webhook_key(ngx_conf_t *cf, ngx_array_t *secrets,
    ngx_str_t *secret)
{
    u_char     *last;
    ngx_int_t   rc;
    ngx_str_t   encoded, key;

    if (!ngx_http_vaani_is_webhook_secret(secret, &encoded)) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "a secret of Standard Webhooks must begin with "
                           "\"whsec_\" or \"v1,whsec_\", or be base64 of 16 "
                           "bytes or more");
        return NGX_ERROR;
    }

    key.data = ngx_pnalloc(cf->temp_pool,
                           ngx_base64_decoded_length(encoded.len));

    if (key.data == NULL) {
        return NGX_ERROR;
    }

    /* nginx decodes up to the first "=", be it the first byte or the middle */

    last = encoded.data + encoded.len;

    while (last > encoded.data && last[-1] == '=') {
        last--;
    }

    if (last == encoded.data
        || ngx_strlchr(encoded.data, last, '=') != NULL
        || ngx_decode_base64(&key, &encoded) != NGX_OK)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           encoded.len == secret->len
                           ? "a secret of Standard Webhooks must begin with "
                             "\"whsec_\" or \"v1,whsec_\", or be base64 of "
                             "16 bytes or more"
                           : "a secret of Standard Webhooks must be base64 "
                             "after \"whsec_\"");
        return NGX_ERROR;
    }

    rc = ngx_http_vaani_add_key(cf, secrets, &key);

    ngx_explicit_memzero(key.data, key.len);

    return rc;
}


/*
 * "whsec_", which some senders show "v1," before, and base64; or the latter
 * alone, which must look like a secret: "on" is base64, too.
 */

static ngx_uint_t
ngx_http_vaani_is_webhook_secret(ngx_str_t *secret, ngx_str_t *encoded)
{
    *encoded = *secret;

    if (secret->len > 9 && ngx_strncmp(secret->data, "v1,whsec_", 9) == 0) {
        encoded->data += 3;
        encoded->len -= 3;
    }

    if (encoded->len > 6 && ngx_strncmp(encoded->data, "whsec_", 6) == 0) {
        encoded->data += 6;
        encoded->len -= 6;

        return 1;
    }

    return secret->len >= ngx_base64_encoded_length(NGX_HTTP_VAANI_SHORT_SECRET)
                          - 2
           && ngx_strncasecmp(secret->data, (u_char *) "whsec", 5) != 0;
}


static ngx_int_t
ngx_http_vaani_add_key(ngx_conf_t *cf, ngx_array_t *secrets, ngx_str_t *secret)
{
    HMAC_CTX            **key;
    ngx_pool_cleanup_t   *cln;

    ngx_http_vaani_check_length(cf, secret->len);

    key = ngx_array_push(secrets);
    cln = ngx_pool_cleanup_add(cf->pool, 0);

    if (key == NULL || cln == NULL) {
        return NGX_ERROR;
    }

    *key = HMAC_CTX_new();

    if (*key == NULL) {
        return NGX_ERROR;
    }

    cln->handler = ngx_http_vaani_free_key;
    cln->data = *key;

    if (!HMAC_Init_ex(*key, secret->data, secret->len, EVP_sha256(), NULL)) {
        ngx_ssl_error(NGX_LOG_EMERG, cf->log, 0, "HMAC_Init_ex() failed");
        return NGX_ERROR;
    }

    return NGX_OK;
}


/*
 * OpenSSL wipes it.
 */

static void
ngx_http_vaani_free_key(void *data)
{
    HMAC_CTX_free(data);
}

#endif


#if !(NGX_HTTP_VAANI_HMAC)

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
                          "\"%s\" protects nothing but \"vaani_webhook\", use "
                          "\"allow\" and \"deny\" in %s:%ui",
                          place->directive, place->file, place->line);
            return NGX_ERROR;
        }

        if (!conf[n]->endpoint) {
            ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                          "\"%s\" protects nothing, neither this location nor "
                          "a nested one has \"vaani_webhook\" in %s:%ui",
                          place->directive, place->file, place->line);
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_vaani_add_token(ngx_conf_t *cf, ngx_array_t *secrets,
    ngx_str_t *secret)
{
    vaani_token_t  **token;

    if (secret->len > VAANI_TOKEN_MAX_LEN) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "a secret of \"vaani_token\" must not be longer "
                           "than %d bytes", VAANI_TOKEN_MAX_LEN);
        return NGX_ERROR;
    }

    ngx_http_vaani_check_length(cf, secret->len);

    token = ngx_array_push(secrets);

    if (token == NULL) {
        return NGX_ERROR;
    }

    *token = ngx_pcalloc(cf->pool, sizeof(vaani_token_t));

    if (*token == NULL) {
        return NGX_ERROR;
    }

    (*token)->len = secret->len;
    ngx_memcpy((*token)->data, secret->data, secret->len);

    return ngx_http_vaani_wipe_later(cf->pool, (u_char *) *token,
                                     sizeof(vaani_token_t));
}


static void
ngx_http_vaani_check_length(ngx_conf_t *cf, size_t len)
{
    if (len < NGX_HTTP_VAANI_SHORT_SECRET) {
        ngx_conf_log_error(NGX_LOG_WARN, cf, 0,
                           "a secret of %uz bytes may be guessed, make one "
                           "with \"openssl rand -hex 32\"", len);
    }
}
