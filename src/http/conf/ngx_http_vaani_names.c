
/*
 * The names of keys and channels: the directives, and checks of the values
 * that their variables can have.
 */


#include "../ngx_http_vaani.h"


static char *ngx_http_vaani_set_name(ngx_conf_t *cf, ngx_command_t *cmd,
    ngx_http_vaani_name_t *name);
static char *ngx_http_vaani_check_partition(ngx_conf_t *cf,
    ngx_http_vaani_loc_conf_t *conf, ngx_http_vaani_name_t *name);
static ngx_uint_t ngx_http_vaani_has_partition(ngx_str_t *text);
static ngx_uint_t ngx_http_vaani_is_word(u_char ch);
static char *ngx_http_vaani_check_slot(ngx_conf_t *cf,
    ngx_http_vaani_loc_conf_t *conf, ngx_http_vaani_name_t *name);
static char *ngx_http_vaani_check_index(ngx_conf_t *cf,
    ngx_http_vaani_loc_conf_t *conf);
static void ngx_http_vaani_hash_tag(ngx_http_vaani_name_t *name,
    ngx_str_t *tag);


char *
ngx_http_vaani_prefix(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_vaani_loc_conf_t *vlcf = conf;

    if (vlcf->prefix != NGX_CONF_UNSET_PTR) {
        return "is duplicate";
    }

    vlcf->prefix = ngx_palloc(cf->pool, sizeof(ngx_http_vaani_name_t));

    if (vlcf->prefix == NULL) {
        return NGX_CONF_ERROR;
    }

    return ngx_http_vaani_set_name(cf, cmd, vlcf->prefix);
}


char *
ngx_http_vaani_channel(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_vaani_loc_conf_t *vlcf = conf;

    ngx_str_t              *value;
    ngx_http_vaani_name_t  *channel;

    value = cf->args->elts;

    if (vlcf->channels == NGX_CONF_UNSET_PTR) {
        vlcf->channels = ngx_array_create(cf->pool, 2,
                                          sizeof(ngx_http_vaani_name_t));

        if (vlcf->channels == NULL) {
            return NGX_CONF_ERROR;
        }

    } else if (vlcf->channels->nelts == 0) {
        return "is set after \"vaani_channel off\"";
    }

    if (ngx_strcmp(value[1].data, "off") == 0) {

        if (vlcf->channels->nelts) {
            return "\"off\" is set after another channel";
        }

        return ngx_http_vaani_check_off(cf);
    }

    if (cf->args->nelts > 2 && ngx_strcmp(value[2].data, "sharded") != 0) {
        return ngx_http_vaani_invalid_parameter(cf, &value[2]);
    }

    channel = ngx_array_push(vlcf->channels);

    if (channel == NULL) {
        return NGX_CONF_ERROR;
    }

    channel->sharded = (cf->args->nelts > 2);

    return ngx_http_vaani_set_name(cf, cmd, channel);
}


char *
ngx_http_vaani_stream(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_vaani_loc_conf_t *vlcf = conf;

    ngx_int_t   maxlen;
    ngx_str_t  *value, text;

    if (vlcf->stream != NGX_CONF_UNSET_PTR) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (ngx_strcmp(value[1].data, "off") == 0) {
        vlcf->stream = NULL;
        return ngx_http_vaani_check_off(cf);
    }

    vlcf->stream = ngx_palloc(cf->pool, sizeof(ngx_http_vaani_name_t));

    if (vlcf->stream == NULL
        || ngx_http_vaani_set_name(cf, cmd, vlcf->stream) != NGX_CONF_OK)
    {
        return NGX_CONF_ERROR;
    }

    vlcf->stream_maxlen = 0;

    if (cf->args->nelts == 2) {
        return NGX_CONF_OK;
    }

    if (ngx_http_vaani_parameter(&value[2], "maxlen=", &text)) {
        maxlen = ngx_atoi(text.data, text.len);

        if (maxlen > 0) {
            vlcf->stream_maxlen = maxlen;
            return NGX_CONF_OK;
        }
    }

    return ngx_http_vaani_invalid_parameter(cf, &value[2]);
}


char *
ngx_http_vaani_index(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_vaani_loc_conf_t *vlcf = conf;

    ngx_http_vaani_set_place(cf, cmd, &vlcf->index_place);

    return ngx_conf_set_flag_slot(cf, cmd, conf);
}


/*
 * Compiles the first parameter.
 */

static char *
ngx_http_vaani_set_name(ngx_conf_t *cf, ngx_command_t *cmd,
    ngx_http_vaani_name_t *name)
{
    ngx_str_t  *value;

    value = cf->args->elts;

    ngx_http_vaani_set_place(cf, cmd, &name->place);

    return ngx_http_vaani_compile(cf, &value[1], &name->value) == NGX_OK
           ? NGX_CONF_OK : NGX_CONF_ERROR;
}


char *
ngx_http_vaani_check_names(ngx_conf_t *cf, ngx_http_vaani_loc_conf_t *conf)
{
    ngx_uint_t              n, nchannels;
    ngx_http_vaani_name_t  *channel;

    if (ngx_http_vaani_check_partition(cf, conf, conf->prefix) != NGX_CONF_OK
        || ngx_http_vaani_check_partition(cf, conf, conf->stream)
           != NGX_CONF_OK
        || ngx_http_vaani_check_slot(cf, conf, conf->stream) != NGX_CONF_OK
        || ngx_http_vaani_check_index(cf, conf) != NGX_CONF_OK)
    {
        return NGX_CONF_ERROR;
    }

    channel = conf->channels ? conf->channels->elts : NULL;
    nchannels = conf->channels ? conf->channels->nelts : 0;

    for (n = 0; n < nchannels; n++) {

        if (ngx_http_vaani_check_partition(cf, conf, &channel[n])
            != NGX_CONF_OK)
        {
            return NGX_CONF_ERROR;
        }

        /*
         * other channels belong to no slot: all nodes of a cluster accept them
         */

        if (channel[n].sharded
            && ngx_http_vaani_check_slot(cf, conf, &channel[n])
               != NGX_CONF_OK)
        {
            return NGX_CONF_ERROR;
        }
    }

    return NGX_CONF_OK;
}


/*
 * Refuses a variable that would always be empty.  Variables of "map" and "set"
 * cannot be checked.
 */

static char *
ngx_http_vaani_check_partition(ngx_conf_t *cf, ngx_http_vaani_loc_conf_t *conf,
    ngx_http_vaani_name_t *name)
{
    if (conf->partitions || name == NULL
        || !ngx_http_vaani_has_partition(&name->value.value))
    {
        return NGX_CONF_OK;
    }

    ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                  "\"$vaani_partition\" in \"%s\" needs "
                  "\"vaani_partitions\" in %s:%ui",
                  name->place.directive, name->place.file, name->place.line);

    return NGX_CONF_ERROR;
}


static ngx_uint_t
ngx_http_vaani_has_partition(ngx_str_t *text)
{
    u_char  *p, *last;
    size_t   len;

    len = sizeof("vaani_partition") - 1;
    last = text->data + text->len;

    for (p = text->data; p < last; p++) {

        if (*p != '$') {
            continue;
        }

        if (p + 1 < last && p[1] == '{') {
            p++;
        }

        /* the names of variables are not case-sensitive */

        if ((size_t) (last - p) <= len
            || ngx_strncasecmp(p + 1, (u_char *) "vaani_partition", len) != 0)
        {
            continue;
        }

        if (p + 1 + len == last || !ngx_http_vaani_is_word(p[1 + len])) {
            return 1;
        }
    }

    return 0;
}


/* of the name of a variable */

static ngx_uint_t
ngx_http_vaani_is_word(u_char ch)
{
    return (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z')
           || (ch >= '0' && ch <= '9') || ch == '_';
}


/*
 * The script of an event runs on one node of a cluster, with keys of one slot.
 * The values of variables are unknown here, but equal hash tags stay equal.
 */

static char *
ngx_http_vaani_check_slot(ngx_conf_t *cf, ngx_http_vaani_loc_conf_t *conf,
    ngx_http_vaani_name_t *name)
{
    ngx_str_t  prefix, tag;

    if (conf->redis->form != NGX_VAANI_REDIS_CLUSTER || name == NULL) {
        return NGX_CONF_OK;
    }

    ngx_http_vaani_hash_tag(conf->prefix, &prefix);
    ngx_http_vaani_hash_tag(name, &tag);

    if (tag.len && ngx_http_vaani_same(&tag, &prefix)) {
        return NGX_CONF_OK;
    }

    ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                  "\"%s\" must have the hash tag of \"vaani_prefix\" in a "
                  "cluster, set \"vaani_partitions 256\", \"vaani_prefix "
                  "vaani:{$vaani_partition}\" and the same braces here in "
                  "%s:%ui",
                  name->place.directive, name->place.file, name->place.line);

    return NGX_CONF_ERROR;
}


/*
 * The keys of the index begin like those of calls, and must differ from all
 * other keys.
 */

static char *
ngx_http_vaani_check_index(ngx_conf_t *cf, ngx_http_vaani_loc_conf_t *conf)
{
    ngx_str_t   tag, prefix, *stream;
    ngx_uint_t  n;

    static ngx_str_t  sets[] = {
        ngx_string(":active"),
        ngx_string(":calls")
    };

    if (!conf->index) {
        return NGX_CONF_OK;
    }

    ngx_http_vaani_hash_tag(conf->prefix, &tag);

    if (conf->redis->form == NGX_VAANI_REDIS_CLUSTER && tag.len == 0) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "\"%s\" needs a hash tag in \"vaani_prefix\" in a "
                      "cluster, set \"vaani_partitions 256\" and "
                      "\"vaani_prefix vaani:{$vaani_partition}\" in %s:%ui",
                      conf->index_place.directive, conf->index_place.file,
                      conf->index_place.line);

        return NGX_CONF_ERROR;
    }

    if (conf->stream == NULL) {
        return NGX_CONF_OK;
    }

    stream = &conf->stream->value.value;

    if (conf->prefix) {
        prefix = conf->prefix->value.value;

    } else {
        ngx_str_set(&prefix, NGX_HTTP_VAANI_PREFIX);
    }

    for (n = 0; n < sizeof(sets) / sizeof(ngx_str_t); n++) {

        if (stream->len == prefix.len + sets[n].len
            && ngx_strncmp(stream->data, prefix.data, prefix.len) == 0
            && ngx_strncmp(stream->data + prefix.len, sets[n].data,
                           sets[n].len)
               == 0)
        {
            ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                          "the key of \"%s\" is used by \"vaani_index\", "
                          "choose another key in %s:%ui",
                          conf->stream->place.directive,
                          conf->stream->place.file,
                          conf->stream->place.line);

            return NGX_CONF_ERROR;
        }
    }

    return NGX_CONF_OK;
}


/*
 * The text between the first "{" and the next "}", ignoring those of
 * "${name}"; empty if there is none.
 */

static void
ngx_http_vaani_hash_tag(ngx_http_vaani_name_t *name, ngx_str_t *tag)
{
    u_char      *p, *last;
    ngx_uint_t   variable;

    ngx_str_null(tag);

    if (name == NULL) {
        return;
    }

    p = name->value.value.data;
    last = p + name->value.value.len;
    variable = 0;

    for ( /* void */ ; p < last; p++) {

        if (variable) {
            variable = (*p != '}');

        } else if (*p == '$' && p + 1 < last && p[1] == '{') {
            variable = 1;

        } else if (*p == '{' && tag->data == NULL) {
            tag->data = p + 1;

        } else if (*p == '}' && tag->data) {
            tag->len = p - tag->data;
            return;
        }
    }
}
