
/*
 * Shared by the files of src/http and ngx_http_vaani_module.c.
 */


#ifndef _NGX_HTTP_VAANI_H_INCLUDED_
#define _NGX_HTTP_VAANI_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "../core/vaani_body.h"
#include "../core/vaani_transition.h"
#include "../core/vaani_record.h"
#include "../core/vaani_slot.h"
#include "../core/vaani_signature.h"
#include "../core/vaani_pace.h"
#include "../redis/ngx_vaani_redis.h"
#include "../spool/ngx_vaani_spool.h"
#include "status/ngx_http_vaani_stats.h"


typedef struct ngx_http_vaani_ctx_s  ngx_http_vaani_ctx_t;


/* for checking signatures, and for digests */

#if (NGX_SSL && OPENSSL_VERSION_NUMBER >= 0x10100000L)

#include <openssl/hmac.h>

#define NGX_HTTP_VAANI_HMAC             1

#endif


/* RFC 9110, section 15.5.21: nginx has no constant for it */

#define NGX_HTTP_VAANI_UNPROCESSABLE_CONTENT  422


#include "conf/ngx_http_vaani_conf.h"


/*
 * Digests are the first 128 bits of a SHA-1, in base64url.  They distinguish
 * bodies and ids; they are not a protection.
 */

#define NGX_HTTP_VAANI_DIGEST_BYTES     16
#define NGX_HTTP_VAANI_DIGEST_LEN       22


/*
 * One event of a delivery.
 */

typedef struct {
    ngx_http_vaani_ctx_t       *ctx;
    ngx_uint_t                  lane;       /* the connection to Redis */
    ngx_vaani_redis_cmd_t      *cmd;        /* NULL: none is in progress */
    ngx_vaani_spool_entry_t    *entry;      /* NULL: none is being written */
    ngx_vaani_spool_refusal_t  *refusal;    /* NULL: none is being kept */
    ngx_vaani_spool_waiter_t    waiter;     /* while it is being kept */

    ngx_http_vaani_result_e     result;
    vaani_reason_e              reason;
    ngx_vaani_redis_status_e    redis_status;
    unsigned                    kept:1;     /* it was rejected and is kept */
    unsigned                    keeping:1;  /* Redis has it; the spool keeps
                                               it */

    vaani_transition_t          transition; /* the script's result */

    /* fields from here on are not initialized before the event is read */

    vaani_event_t               event;
    vaani_event_error_t         error;      /* if it was rejected */
    vaani_part_t                part;
    vaani_delivery_t            delivery;   /* if it was prepared */
    u_char                      digest[NGX_HTTP_VAANI_DIGEST_LEN];
    u_char                      id_digest[NGX_HTTP_VAANI_DIGEST_LEN];
} ngx_http_vaani_item_t;


struct ngx_http_vaani_ctx_s {
    ngx_http_request_t         *request;
    vaani_alloc_t               alloc;      /* of the request's pool */

    ngx_http_vaani_result_e     result;     /* the worst of its events */
    vaani_reason_e              reason;

    ngx_str_t                   id;         /* "webhook-id" */
    ngx_str_t                   webhook_id; /* the signed one: the header of
                                               vaani_secret */
    ngx_str_t                   body;

    ngx_http_vaani_item_t      *items;      /* NULL: the body is not read yet */
    ngx_uint_t                  nitems;
    ngx_uint_t                  nwaiting;   /* unfinished items; plus one while
                                               they are being sent */
    ngx_http_vaani_item_t      *current;    /* the one that variables show */

    uint64_t                    received_at;        /* Unix time, ms */
    ngx_str_t                   delivery_id;
    ngx_str_t                   message;    /* "id" of the message */

    ngx_msec_t                  redis_start;
    ngx_msec_t                  redis_time;         /* ms */
    unsigned                    several:1;  /* the body has "events" */
    unsigned                    redis_asked:1;
    unsigned                    redis_answered:1;
    unsigned                    in_flight:1;

    ngx_http_vaani_item_t       item;       /* for a body with one event */
};


extern ngx_module_t  ngx_http_vaani_module;


#include "auth/ngx_http_vaani_auth.h"


/* the time of this iteration of the event loop, Unix time in ms */

static ngx_inline uint64_t
ngx_http_vaani_now(void)
{
    ngx_time_t  *tp;

    tp = ngx_timeofday();

    return (uint64_t) tp->sec * 1000 + tp->msec;
}


/* the allocator of src/core for a pool, which is its ctx */

static ngx_inline void *
ngx_http_vaani_palloc(void *pool, size_t size)
{
    return ngx_palloc(pool, size);
}


/* ngx_http_vaani_handler.c: the content handler of a webhook location */

ngx_int_t ngx_http_vaani_handler(ngx_http_request_t *r);


/*
 * ngx_http_vaani_events.c: the events of a delivery
 */

/*
 * Reads the events of ctx->body into ctx->items.  A rejected event has its
 * result set; if the whole body is rejected, it is the only item.  Returns
 * NGX_OK or NGX_ERROR (no memory).
 */
ngx_int_t ngx_http_vaani_read_events(ngx_http_request_t *r,
    ngx_http_vaani_ctx_t *ctx);

/*
 * Stores the bytes that are kept of a rejected event, in memory of the
 * request: a body that has the same meaning when it is posted again.  Returns
 * NGX_OK or NGX_ERROR (no memory).
 */
ngx_int_t ngx_http_vaani_refused_body(ngx_http_request_t *r,
    ngx_http_vaani_item_t *item, ngx_str_t *body);


/*
 * ngx_http_vaani_dispatch.c: sends each event to its destination
 */

/*
 * Sends the events to Redis, to the spool, or, if they were rejected, to the
 * directory for refused events.  Returns NGX_DONE if any of them is in
 * progress: ngx_http_vaani_answer() is then called later and the request is
 * finalized.  Otherwise returns the value for ngx_http_finalize_request().
 */
ngx_int_t ngx_http_vaani_send_events(ngx_http_request_t *r,
    ngx_http_vaani_ctx_t *ctx);

/*
 * Detaches the request, which is about to end: operations in progress continue
 * without it.
 */
void ngx_http_vaani_leave_events(ngx_http_vaani_ctx_t *ctx);


/*
 * ngx_http_vaani_answer.c
 */

/*
 * Sends the answer when all events are finished.  Returns the value for
 * ngx_http_finalize_request().
 */
ngx_int_t ngx_http_vaani_answer(ngx_http_request_t *r,
    ngx_http_vaani_ctx_t *ctx);

/*
 * Logs a rejected event: per reason one line per minute, with the number of
 * suppressed lines.
 */
void ngx_http_vaani_log_rejected(ngx_http_request_t *r,
    ngx_http_vaani_item_t *item);


/*
 * ngx_http_vaani_random.c
 *
 * Random bytes of the kernel, for values that must be unique between hosts and
 * restarts.  Returns NGX_OK or NGX_ERROR, which was logged.
 */

ngx_int_t ngx_http_vaani_random(u_char *dst, size_t len, ngx_log_t *log);


/*
 * ngx_http_vaani_headers.c
 *
 * Checks the media type and the content coding of the body, and finds the
 * delivery id.  Returns NULL; or the error, a static text, with ctx->result
 * and ctx->reason set.
 */

char *ngx_http_vaani_read_headers(ngx_http_request_t *r,
    ngx_http_vaani_ctx_t *ctx);

/*
 * The value of a request header, by its name in lower case; empty if it is
 * missing.
 */
void ngx_http_vaani_find_header(ngx_http_request_t *r, char *name,
    ngx_str_t *value);


/*
 * ngx_http_vaani_body.c
 */

/*
 * Whether another handler discarded the body, or the part read so far.
 */
ngx_uint_t ngx_http_vaani_body_is_gone(ngx_http_request_t *r);

/*
 * Stores the body in one piece, in memory of the request.  Returns NGX_OK;
 * NGX_DECLINED if another handler consumed it, in part or as a whole; or the
 * value for ngx_http_finalize_request().
 */
ngx_int_t ngx_http_vaani_get_body(ngx_http_request_t *r, ngx_str_t *body);

/*
 * Discards the body, for an answer that is sent first.  A client that waits
 * for "100 Continue" is not asked to send it.  Returns NGX_OK or the value for
 * ngx_http_finalize_request().
 */
ngx_int_t ngx_http_vaani_discard_body(ngx_http_request_t *r);

/*
 * Whether the client waits for "100 Continue", which nginx sends before it
 * reads the body.
 */
ngx_uint_t ngx_http_vaani_awaits_continue(ngx_http_request_t *r);


/*
 * ngx_http_vaani_delivery.c
 */

/*
 * Fills item->delivery from its event and the location.  Returns NGX_OK or
 * NGX_ERROR (no memory).
 */
ngx_int_t ngx_http_vaani_prepare(ngx_http_request_t *r,
    ngx_http_vaani_item_t *item);


/*
 * ngx_http_vaani_ids.c
 *
 * Sets in item->delivery the message id, and the values that identify the
 * delivery: equal bodies are the same delivery, unless they have different
 * ids.  Returns NGX_OK or NGX_ERROR (no memory, or no random bytes).
 */

ngx_int_t ngx_http_vaani_identify(ngx_http_request_t *r,
    ngx_http_vaani_item_t *item);


/*
 * ngx_http_vaani_script.c: calls of the script
 */

/*
 * Sends a delivery to Redis over a connection, see ngx_vaani_redis_lane().
 * memory is needed only until the function returns.  Returns the command, or
 * NULL with *status set, as ngx_vaani_redis_eval().
 */
ngx_vaani_redis_cmd_t *ngx_http_vaani_eval(ngx_vaani_redis_t *redis,
    ngx_uint_t lane, const vaani_event_t *event,
    const vaani_delivery_t *delivery, ngx_pool_t *pool,
    ngx_vaani_redis_handler_pt handler, void *data,
    ngx_vaani_redis_status_e *status);

/*
 * Reads and counts the script's result, and whether all channels accepted the
 * message.  Returns NGX_OK, or NGX_ERROR if the script cannot have sent this
 * reply.  Errors are logged.
 */
ngx_int_t ngx_http_vaani_read_reply(redisReply *reply, ngx_log_t *log,
    vaani_transition_t *transition, ngx_uint_t *published);


/*
 * ngx_http_vaani_queue.c: writes deliveries to the spool and replays them
 */

/*
 * Writes the delivery of item to the spool of the location; handler is called
 * with item, unless item->entry was detached.  Returns NGX_OK or NGX_ERROR.
 */
ngx_int_t ngx_http_vaani_queue(ngx_vaani_spool_t *spool,
    ngx_http_vaani_item_t *item, ngx_vaani_spool_append_pt handler);

/*
 * Called when the request ends before its command: if Redis does not take the
 * delivery, the spool does, if there is one.
 */
void ngx_http_vaani_outlive(ngx_vaani_spool_t *spool,
    ngx_http_vaani_item_t *item);

/*
 * Keeps the delivery of item, which Redis has applied, in the spool.  Returns
 * NGX_AGAIN if handler will be called with item, unless item->waiter.queue was
 * removed; NGX_OK if there is nothing to wait for.
 */
ngx_int_t ngx_http_vaani_keep(ngx_vaani_spool_t *spool,
    ngx_http_vaani_item_t *item, void (*handler)(void *data));

/* delivers a record of a spool, see ngx_vaani_spool_receiver_t */
ngx_int_t ngx_http_vaani_replay(void *data, void *slot, ngx_uint_t lane,
    ngx_uint_t kept, u_char *record, size_t len, ngx_str_t *reason);


/*
 * ngx_http_vaani_marks.c: Redis, as the receiver of a spool's records
 */

extern ngx_vaani_spool_receiver_t  ngx_http_vaani_receiver;


/*
 * ngx_http_vaani_response.c
 *
 * The first two send a whole response and return what
 * ngx_http_finalize_request() takes.
 */

ngx_int_t ngx_http_vaani_send_status(ngx_http_request_t *r,
    ngx_uint_t status, ngx_str_t *body);

/*
 * Refuses the request with "application/problem+json" (RFC 9457), and discards
 * its body unless it was read. header is an additional response header, or
 * NULL; detail is plain ASCII without quotes, or NULL; field is a JSON Pointer
 * (RFC 6901) for a 422, otherwise NULL.  The caller sets the values of
 * $vaani_result and $vaani_reason.
 */
ngx_int_t ngx_http_vaani_refuse(ngx_http_request_t *r, ngx_uint_t status,
    ngx_keyval_t *header, char *detail, ngx_str_t *field);

/*
 * Sets the media type of the response, with its parameters. type->data must
 * live as long as the request.
 */
void ngx_http_vaani_set_type(ngx_http_request_t *r, ngx_str_t *type);

/*
 * Adds a header to the response.  Returns NGX_OK or NGX_ERROR.
 */
ngx_int_t ngx_http_vaani_add_header(ngx_http_request_t *r, char *name,
    ngx_str_t *value);


/* ngx_http_vaani_outcome.c: the results of requests */

/* the words of $vaani_result, by ngx_http_vaani_result_e */

extern ngx_str_t  ngx_http_vaani_results[];

/*
 * The result of a request to a webhook location, finished or not, and its
 * reason in *reason.  Includes requests that nginx itself answered.
 */
ngx_http_vaani_result_e ngx_http_vaani_outcome(ngx_http_request_t *r,
    vaani_reason_e *reason);


/*
 * ngx_http_vaani_log.c
 *
 * Removes the secrets in URLs from the error log.  Returns NGX_OK or
 * NGX_ERROR.
 */

ngx_int_t ngx_http_vaani_init_log(ngx_conf_t *cf);

/*
 * The same for errors that nginx logs while it reads a body before it has
 * found the location.  Called when the location's configuration is merged.
 * Returns NGX_OK or NGX_ERROR.
 */
ngx_int_t ngx_http_vaani_mask_early(ngx_conf_t *cf);


/*
 * status/ngx_http_vaani_status.c: the status page and metrics
 */

char *ngx_http_vaani_status(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);


/*
 * status/ngx_http_vaani_health.c: the health check for load balancers
 */

char *ngx_http_vaani_health(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
ngx_int_t ngx_http_vaani_health_handler(ngx_http_request_t *r);


/* ngx_http_vaani_variables.c: $vaani_event and the others */

ngx_int_t ngx_http_vaani_add_variables(ngx_conf_t *cf);


#endif /* _NGX_HTTP_VAANI_H_INCLUDED_ */
