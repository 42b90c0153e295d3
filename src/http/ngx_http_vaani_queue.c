
/*
 * Converts a delivery to a record of the spool, and a record to a call of the
 * script.
 */


#include "ngx_http_vaani.h"


/*
 * A delivery whose request has ended: its record, ready for the spool.
 */

typedef struct {
    ngx_vaani_spool_t          *spool;
    size_t                      size;       /* of the record */
    u_char                     *record;     /* in the entry */
    ngx_vaani_spool_entry_t    *entry;
} ngx_http_vaani_orphan_t;


static ngx_vaani_spool_entry_t *ngx_http_vaani_entry(ngx_vaani_spool_t *spool,
    const vaani_delivery_t *delivery, u_char **record);
static ngx_http_vaani_orphan_t *ngx_http_vaani_orphan(
    ngx_vaani_spool_t *spool, ngx_http_vaani_item_t *item);
static void ngx_http_vaani_orphan_handler(void *data,
    ngx_vaani_redis_status_e status, redisReply *reply, ngx_uint_t lane);
static ngx_uint_t ngx_http_vaani_is_over(void *slot, ngx_uint_t kept,
    const vaani_event_t *event, const vaani_delivery_t *delivery);
static void ngx_http_vaani_replay_handler(void *data,
    ngx_vaani_redis_status_e status, redisReply *reply, ngx_uint_t lane);


static ngx_vaani_spool_entry_t *
ngx_http_vaani_entry(ngx_vaani_spool_t *spool,
    const vaani_delivery_t *delivery, u_char **record)
{
    ngx_vaani_spool_entry_t  *entry;

    entry = ngx_vaani_spool_alloc(spool, vaani_record_size(delivery), record);

    if (entry) {
        (void) vaani_record_write(*record, delivery);
    }

    return entry;
}


ngx_int_t
ngx_http_vaani_queue(ngx_vaani_spool_t *spool, ngx_http_vaani_item_t *item,
    ngx_vaani_spool_append_pt handler)
{
    u_char                   *record;
    ngx_vaani_spool_entry_t  *entry;

    entry = ngx_http_vaani_entry(spool, &item->delivery, &record);

    if (entry == NULL) {
        return NGX_ERROR;
    }

    item->entry = entry;

    ngx_vaani_spool_append(spool, entry, handler, item);

    return NGX_OK;
}


ngx_int_t
ngx_http_vaani_keep(ngx_vaani_spool_t *spool, ngx_http_vaani_item_t *item,
    void (*handler)(void *data))
{
    u_char  *record;

    record = ngx_vaani_spool_keep_alloc(spool, item->lane,
                                        vaani_record_size(&item->delivery));

    if (record == NULL) {
        return NGX_OK;
    }

    (void) vaani_record_write(record, &item->delivery);

    item->waiter.handler = handler;
    item->waiter.data = item;

    return ngx_vaani_spool_keep(spool, item->lane, &item->waiter);
}


void
ngx_http_vaani_outlive(ngx_vaani_spool_t *spool, ngx_http_vaani_item_t *item)
{
    ngx_http_vaani_orphan_t  *orphan;

    orphan = spool ? ngx_http_vaani_orphan(spool, item) : NULL;

    ngx_vaani_redis_redirect(item->cmd, ngx_http_vaani_orphan_handler, orphan);
}


static ngx_http_vaani_orphan_t *
ngx_http_vaani_orphan(ngx_vaani_spool_t *spool, ngx_http_vaani_item_t *item)
{
    ngx_http_vaani_orphan_t  *orphan;

    orphan = ngx_alloc(sizeof(ngx_http_vaani_orphan_t), spool->log);

    if (orphan == NULL) {
        return NULL;
    }

    orphan->spool = spool;
    orphan->size = vaani_record_size(&item->delivery);
    orphan->entry = ngx_http_vaani_entry(spool, &item->delivery,
                                         &orphan->record);

    if (orphan->entry == NULL) {
        ngx_free(orphan);
        return NULL;
    }

    return orphan;
}


static void
ngx_http_vaani_orphan_handler(void *data, ngx_vaani_redis_status_e status,
    redisReply *reply, ngx_uint_t lane)
{
    ngx_http_vaani_orphan_t  *orphan = data;

    u_char             *record;
    ngx_uint_t          published;
    vaani_transition_t  transition;

    if (status == NGX_VAANI_REDIS_DONE) {
        (void) ngx_http_vaani_read_reply(reply, ngx_cycle->log, &transition,
                                         &published);
    }

    if (orphan == NULL) {
        return;
    }

    if (status == NGX_VAANI_REDIS_DONE) {

        if (orphan->spool->retain) {
            record = ngx_vaani_spool_keep_alloc(orphan->spool, lane,
                                                orphan->size);

            if (record) {
                ngx_memcpy(record, orphan->record, orphan->size);
                (void) ngx_vaani_spool_keep(orphan->spool, lane, NULL);
            }
        }

        ngx_vaani_spool_free(orphan->entry);

    } else {
        ngx_vaani_spool_append(orphan->spool, orphan->entry, NULL, NULL);
    }

    ngx_free(orphan);
}


ngx_int_t
ngx_http_vaani_replay(void *data, void *slot, ngx_uint_t lane,
    ngx_uint_t kept, u_char *record, size_t len, ngx_str_t *reason)
{
    ngx_vaani_redis_t *redis = data;

    ngx_int_t                  rc;
    ngx_str_t                  key;
    ngx_pool_t                *pool;
    vaani_event_t              event;
    vaani_alloc_t              alloc;
    vaani_delivery_t           delivery;
    vaani_event_error_t        error;
    ngx_vaani_redis_status_e   status;

    pool = ngx_create_pool(NGX_DEFAULT_POOL_SIZE, ngx_cycle->log);

    if (pool == NULL) {
        return NGX_BUSY;
    }

    alloc.alloc = ngx_http_vaani_palloc;
    alloc.ctx = pool;

    /* the body passed the location's validation when it was received */

    rc = vaani_record_read(&delivery, record, len, &alloc);

    if (rc == VAANI_OK) {
        rc = vaani_event_parse(&event, &delivery.payload, &delivery.name, 0,
                               delivery.repaired, &alloc, &error);
    }

    if (rc != VAANI_OK) {
        ngx_destroy_pool(pool);

        if (rc == VAANI_NOMEM) {
            return NGX_BUSY;
        }

        ngx_str_set(reason, "UNREADABLE by this version");

        return NGX_DECLINED;
    }

    if (ngx_http_vaani_is_over(slot, kept, &event, &delivery)) {
        ngx_destroy_pool(pool);
        return NGX_DONE;
    }

    delivery.since = ngx_http_vaani_counted_since();

    if (lane == NGX_VAANI_SPOOL_OWN_LANE) {
        key.data = (u_char *) delivery.key.data;
        key.len = delivery.key.len;

        lane = ngx_vaani_redis_lane(redis, &key);
    }

    delivery.applied_at = ngx_http_vaani_now();

    (void) ngx_http_vaani_eval(redis, lane, &event, &delivery, pool,
                               ngx_http_vaani_replay_handler, slot, &status);

    ngx_destroy_pool(pool);

    return (status == NGX_VAANI_REDIS_DONE) ? NGX_AGAIN : NGX_BUSY;
}


/*
 * Whether nothing has to be delivered: the call was erased.  For a record that
 * was delivered before (kept) also if the call has expired, or if the event is
 * unknown: Redis stores nothing of it that could be lost.
 */

static ngx_uint_t
ngx_http_vaani_is_over(void *slot, ngx_uint_t kept, const vaani_event_t *event,
    const vaani_delivery_t *delivery)
{
    if (kept) {

        if (event->type == NULL) {
            return 1;
        }

        if (delivery->ttl
            && delivery->received_at + delivery->ttl < ngx_http_vaani_now())
        {
            return 1;
        }
    }

    return ngx_vaani_spool_erased(slot, event->room.data, event->room.len,
                                  delivery->received_at);
}


static void
ngx_http_vaani_replay_handler(void *data, ngx_vaani_redis_status_e status,
    redisReply *reply, ngx_uint_t lane)
{
    ngx_int_t           rc;
    ngx_str_t           reason;
    ngx_uint_t          published;
    vaani_transition_t  transition;

    ngx_str_null(&reason);

    switch (status) {

    case NGX_VAANI_REDIS_DONE:
        rc = NGX_OK;

        if (ngx_http_vaani_read_reply(reply, ngx_cycle->log, &transition,
                                      &published)
            != NGX_OK)
        {
            rc = NGX_ABORT;
            ngx_str_set(&reason, "UNEXPECTED reply from Redis");

        } else if (transition.result == VAANI_TRANSITION_DUPLICATE) {
            rc = NGX_DONE;
        }

        break;

    case NGX_VAANI_REDIS_REFUSED:
        rc = NGX_DECLINED;
        reason.data = (u_char *) reply->str;
        reason.len = reply->len;
        break;

    case NGX_VAANI_REDIS_UNKNOWN:
        rc = NGX_ABORT;

        if (reply) {
            reason.data = (u_char *) reply->str;
            reason.len = reply->len;

        } else {
            ngx_str_set(&reason, "HANGUP each time it was sent");
        }

        break;

    case NGX_VAANI_REDIS_DEFERRED:
        rc = NGX_ABORT;
        break;

    default:
        rc = NGX_BUSY;
    }

    ngx_vaani_spool_replayed(data, rc, &reason, lane);
}
