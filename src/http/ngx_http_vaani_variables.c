
/*
 * The variables: $vaani_event and the others.
 */


#include "ngx_http_vaani.h"


/* the period of the warning about variables that are read too early, ms */

#define NGX_HTTP_VAANI_EARLY_EVERY      60000


static ngx_int_t ngx_http_vaani_variable_event(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_vaani_variable_room(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_vaani_variable_partition(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_vaani_variable_ignored(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_vaani_variable_seq(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_vaani_variable_status(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_vaani_variable_reason(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_vaani_variable_result(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_vaani_variable_redis_time(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_http_vaani_item_t *ngx_http_vaani_current(ngx_http_request_t *r);
static void ngx_http_vaani_too_early(ngx_http_request_t *r);
static ngx_int_t ngx_http_vaani_set_variable(ngx_http_variable_value_t *v,
    const u_char *data, size_t len);


static ngx_http_variable_t  ngx_http_vaani_variables[] = {

    { ngx_string("vaani_event"), NULL, ngx_http_vaani_variable_event,
      0, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("vaani_room"), NULL, ngx_http_vaani_variable_room,
      0, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("vaani_partition"), NULL, ngx_http_vaani_variable_partition,
      0, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("vaani_ignored"), NULL, ngx_http_vaani_variable_ignored,
      0, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("vaani_seq"), NULL, ngx_http_vaani_variable_seq,
      0, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("vaani_status"), NULL, ngx_http_vaani_variable_status,
      0, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("vaani_previous_status"), NULL,
      ngx_http_vaani_variable_status,
      1, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("vaani_result"), NULL, ngx_http_vaani_variable_result,
      0, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("vaani_reason"), NULL, ngx_http_vaani_variable_reason,
      0, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("vaani_redis_time"), NULL,
      ngx_http_vaani_variable_redis_time,
      0, NGX_HTTP_VAR_NOCACHEABLE, 0 },

      ngx_http_null_variable
};


ngx_int_t
ngx_http_vaani_add_variables(ngx_conf_t *cf)
{
    ngx_http_variable_t  *var, *v;

    for (v = ngx_http_vaani_variables; v->name.len; v++) {
        var = ngx_http_add_variable(cf, &v->name, v->flags);

        if (var == NULL) {
            return NGX_ERROR;
        }

        var->get_handler = v->get_handler;
        var->data = v->data;
    }

    return NGX_OK;
}


/*
 * The name of an event can be any string, and a variable can be used in a
 * header.  Therefore control characters become question marks.
 */

static ngx_int_t
ngx_http_vaani_variable_event(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    u_char                 *p;
    size_t                  n;
    vaani_str_t            *name;
    ngx_http_vaani_item_t  *item;

    item = ngx_http_vaani_current(r);

    if (item == NULL) {
        v->not_found = 1;
        return NGX_OK;
    }

    name = &item->event.name;

    if (name->len == 0 || item->event.type) {
        return ngx_http_vaani_set_variable(v, name->data, name->len);
    }

    p = ngx_pnalloc(r->pool, name->len);

    if (p == NULL) {
        return NGX_ERROR;
    }

    for (n = 0; n < name->len; n++) {
        p[n] = (name->data[n] < 0x20 || name->data[n] == 0x7f)
               ? '?' : name->data[n];
    }

    return ngx_http_vaani_set_variable(v, p, name->len);
}


static ngx_int_t
ngx_http_vaani_variable_room(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_http_vaani_item_t  *item;

    item = ngx_http_vaani_current(r);

    if (item == NULL) {
        v->not_found = 1;
        return NGX_OK;
    }

    return ngx_http_vaani_set_variable(v, item->event.room.data,
                                       item->event.room.len);
}


/*
 * All events of a call are in one partition; events without a call are in the
 * first one.
 */

static ngx_int_t
ngx_http_vaani_variable_partition(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    u_char                     *p;
    ngx_uint_t                  partition;
    vaani_str_t                *room;
    ngx_http_vaani_item_t      *item;
    ngx_http_vaani_loc_conf_t  *vlcf;

    vlcf = ngx_http_get_module_loc_conf(r, ngx_http_vaani_module);

    item = vlcf->partitions ? ngx_http_vaani_current(r) : NULL;

    /* without a name it is unknown whether there is a call */

    if (item == NULL || item->event.name.len == 0) {
        v->not_found = 1;
        return NGX_OK;
    }

    p = ngx_pnalloc(r->pool, NGX_INT_T_LEN);

    if (p == NULL) {
        return NGX_ERROR;
    }

    room = &item->event.room;
    partition = vaani_crc16(room->data, room->len) % vlcf->partitions;

    return ngx_http_vaani_set_variable(v, p,
                                       ngx_sprintf(p, "%ui", partition) - p);
}


/*
 * The names of the fields that were converted or left out, separated by
 * commas.  They are names of the table, not of the sender.
 */

static ngx_int_t
ngx_http_vaani_variable_ignored(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    u_char                 *p;
    size_t                  len;
    ngx_str_t               names;
    ngx_uint_t              n;
    vaani_note_t           *notes;
    ngx_http_vaani_item_t  *item;

    item = ngx_http_vaani_current(r);

    if (item == NULL) {
        v->not_found = 1;
        return NGX_OK;
    }

    notes = item->event.notes;
    len = 0;

    for (n = 0; n < item->event.nnotes; n++) {
        len += notes[n].name.len + 1;
    }

    p = ngx_pnalloc(r->pool, len);

    if (p == NULL) {
        return NGX_ERROR;
    }

    names.data = p;

    for (n = 0; n < item->event.nnotes; n++) {

        if (notes[n].kind != VAANI_NOTE_CONVERTED
            && notes[n].kind != VAANI_NOTE_IGNORED)
        {
            continue;
        }

        if (p != names.data) {
            *p++ = ',';
        }

        p = ngx_cpymem(p, notes[n].name.data, notes[n].name.len);
    }

    names.len = p - names.data;

    return ngx_http_vaani_set_variable(v, names.data, names.len);
}


static ngx_int_t
ngx_http_vaani_variable_seq(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    u_char                 *p;
    ngx_http_vaani_item_t  *item;

    item = ngx_http_vaani_current(r);

    if (item == NULL || item->transition.seq == 0) {
        v->not_found = 1;
        return NGX_OK;
    }

    p = ngx_pnalloc(r->pool, NGX_INT64_LEN);

    if (p == NULL) {
        return NGX_ERROR;
    }

    return ngx_http_vaani_set_variable(v, p,
                               ngx_sprintf(p, "%uL", item->transition.seq) - p);
}


/*
 * The status of the call after the event, or, with data set, before it.
 */

static ngx_int_t
ngx_http_vaani_variable_status(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    const vaani_str_t      *status;
    ngx_http_vaani_item_t  *item;

    item = ngx_http_vaani_current(r);

    status = (item && item->transition.seq)
             ? vaani_status_name(data ? item->transition.from
                                      : item->transition.to)
             : NULL;

    if (status == NULL) {
        v->not_found = 1;
        return NGX_OK;
    }

    return ngx_http_vaani_set_variable(v, status->data, status->len);
}


static ngx_int_t
ngx_http_vaani_variable_reason(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    vaani_reason_e      reason;
    const vaani_str_t  *word;

    (void) ngx_http_vaani_outcome(r, &reason);

    word = vaani_reason_word(reason);

    return ngx_http_vaani_set_variable(v, word->data, word->len);
}


static ngx_int_t
ngx_http_vaani_variable_result(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_str_t       *result;
    vaani_reason_e   reason;

    result = &ngx_http_vaani_results[ngx_http_vaani_outcome(r, &reason)];

    return ngx_http_vaani_set_variable(v, result->data, result->len);
}


/*
 * Seconds with three decimals, like $upstream_response_time.
 */

static ngx_int_t
ngx_http_vaani_variable_redis_time(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    u_char                *p;
    ngx_msec_t             ms;
    ngx_http_vaani_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_vaani_module);

    if (ctx == NULL || !ctx->redis_asked) {
        v->not_found = 1;
        return NGX_OK;
    }

    p = ngx_pnalloc(r->pool, NGX_TIME_T_LEN + 4);

    if (p == NULL) {
        return NGX_ERROR;
    }

    ms = ctx->redis_answered ? ctx->redis_time
                             : ngx_current_msec - ctx->redis_start;

    return ngx_http_vaani_set_variable(v, p,
                  ngx_sprintf(p, "%T.%03M", (time_t) ms / 1000, ms % 1000) - p);
}


/*
 * The event that is being sent, and afterwards the last one; NULL if there is
 * none.
 */

static ngx_http_vaani_item_t *
ngx_http_vaani_current(ngx_http_request_t *r)
{
    ngx_http_vaani_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_vaani_module);

    if (ctx == NULL) {
        ngx_http_vaani_too_early(r);
        return NULL;
    }

    return ctx->current;
}


/*
 * Warns of a variable that is empty because it is read before the body: a
 * "map" would cache the empty value.  If the request ends before the endpoint
 * gets it and is then logged, a status is set.
 */

static void
ngx_http_vaani_too_early(ngx_http_request_t *r)
{
    uint64_t                    skipped;
    ngx_http_vaani_loc_conf_t  *vlcf;

    static vaani_pace_t         pace;

    vlcf = ngx_http_get_module_loc_conf(r, ngx_http_vaani_module);

    if (!ngx_http_vaani_is_webhook(vlcf)
        || r->headers_out.status || r->err_status)
    {
        return;
    }

    if (vaani_pace(&pace, ngx_current_msec, NGX_HTTP_VAANI_EARLY_EVERY,
                   &skipped))
    {
        ngx_log_error(NGX_LOG_WARN, r->connection->log, 0,
                      "vaani: an event variable was read before the request "
                      "body and is empty; a \"map\" caches that value unless "
                      "it is \"volatile\"; %uL similar lines skipped", skipped);
    }
}


static ngx_int_t
ngx_http_vaani_set_variable(ngx_http_variable_value_t *v, const u_char *data,
    size_t len)
{
    if (len == 0) {
        v->not_found = 1;
        return NGX_OK;
    }

    v->data = (u_char *) data;
    v->len = len;
    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = 0;

    return NGX_OK;
}
