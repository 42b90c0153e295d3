
/*
 * Calls the script for a delivery, and reads its reply.
 */


#include "ngx_http_vaani.h"


/*
 * Memory needed until a command is composed: on the stack, which is in the CPU
 * cache, as far as it is large enough.
 */

#define NGX_HTTP_VAANI_SCRATCH          2048

typedef struct {
    ngx_pool_t                 *pool;       /* for larger allocations */
    size_t                      used;
    u_char                      bytes[NGX_HTTP_VAANI_SCRATCH];
} ngx_http_vaani_scratch_t;


static void *ngx_http_vaani_scratch_alloc(void *ctx, size_t size);


ngx_vaani_redis_cmd_t *
ngx_http_vaani_eval(ngx_vaani_redis_t *redis, ngx_uint_t lane,
    const vaani_event_t *event, const vaani_delivery_t *delivery,
    ngx_pool_t *pool, ngx_vaani_redis_handler_pt handler, void *data,
    ngx_vaani_redis_status_e *status)
{
    size_t                     n, nargs;
    ngx_str_t                 *argv;
    vaani_str_t               *args;
    vaani_alloc_t              alloc;
    ngx_http_vaani_scratch_t   scratch;

    *status = NGX_VAANI_REDIS_FAILED;

    scratch.pool = pool;
    scratch.used = 0;

    alloc.alloc = ngx_http_vaani_scratch_alloc;
    alloc.ctx = &scratch;

    if (vaani_transition_args(event, delivery, &alloc, &args, &nargs)
        != VAANI_OK)
    {
        return NULL;
    }

    argv = ngx_http_vaani_scratch_alloc(&scratch, nargs * sizeof(ngx_str_t));

    if (argv == NULL) {
        return NULL;
    }

    for (n = 0; n < nargs; n++) {
        argv[n].len = args[n].len;
        argv[n].data = (u_char *) args[n].data;
    }

    return ngx_vaani_redis_eval(redis, lane, argv, nargs, handler, data,
                                status);
}


static void *
ngx_http_vaani_scratch_alloc(void *ctx, size_t size)
{
    ngx_http_vaani_scratch_t *scratch = ctx;

    u_char  *p, *end;

    p = ngx_align_ptr(scratch->bytes + scratch->used, NGX_ALIGNMENT);
    end = scratch->bytes + NGX_HTTP_VAANI_SCRATCH;

    if (p > end || size > (size_t) (end - p)) {
        return ngx_palloc(scratch->pool, size);
    }

    scratch->used = p + size - scratch->bytes;

    return p;
}


ngx_int_t
ngx_http_vaani_read_reply(redisReply *reply, ngx_log_t *log,
    vaani_transition_t *transition, ngx_uint_t *published)
{
    uint64_t             skipped;

    static vaani_pace_t  unpublished, strange;

    *published = 1;

    if (reply->type == REDIS_REPLY_ARRAY
        && reply->elements == 2
        && reply->element[0]->type == REDIS_REPLY_INTEGER)
    {
        /* the call has the event, but its subscribers do not */

        if (vaani_pace(&unpublished, ngx_current_msec,
                       NGX_HTTP_VAANI_COMPLAIN_EVERY, &skipped))
        {
            ngx_log_error(NGX_LOG_ERR, log, 0,
                          "vaani: Redis refused to publish an event; check "
                          "that the ACL allows the channels; %uL similar "
                          "lines skipped", skipped);
        }

        *published = 0;

        reply = reply->element[0];
    }

    if (reply->type != REDIS_REPLY_INTEGER
        || vaani_transition_read(reply->integer, transition) != VAANI_OK)
    {
        if (vaani_pace(&strange, ngx_current_msec,
                       NGX_HTTP_VAANI_COMPLAIN_EVERY, &skipped))
        {
            ngx_log_error(NGX_LOG_ERR, log, 0,
                          "vaani: Redis sent an unexpected reply to the "
                          "script; %uL similar lines skipped",
                          skipped);
        }

        return NGX_ERROR;
    }

    ngx_http_vaani_count_transition(transition);

    return NGX_OK;
}
