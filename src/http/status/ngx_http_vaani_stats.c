
/*
 * The counters in shared memory, and the handler that updates them when a
 * request ends.
 */


#include "ngx_http_vaani_history.h"


static ngx_int_t ngx_http_vaani_init_zone(ngx_shm_zone_t *shm_zone,
    void *data);
static uint32_t ngx_http_vaani_layout(ngx_http_vaani_main_conf_t *vmcf);
static void ngx_http_vaani_share(ngx_http_vaani_main_conf_t *vmcf,
    ngx_http_vaani_stats_t *stats);
static ngx_http_vaani_slot_t *ngx_http_vaani_slot(void);
static ngx_int_t ngx_http_vaani_count_handler(ngx_http_request_t *r);
static void ngx_http_vaani_count(ngx_http_vaani_slot_t *slot,
    ngx_http_vaani_item_t *item, ngx_http_vaani_result_e result,
    vaani_reason_e reason);
static void ngx_http_vaani_remember(ngx_http_vaani_slot_t *slot,
    ngx_http_vaani_item_t *item, ngx_uint_t event, vaani_reason_e reason);
static uint32_t ngx_http_vaani_call_digest(vaani_str_t *room);


ngx_int_t
ngx_http_vaani_init_stats(ngx_conf_t *cf)
{
    size_t                       size;
    ngx_str_t                    name;
    ngx_uint_t                   n;
    ngx_shm_zone_t              *shm_zone;
    ngx_vaani_redis_t          **redis;
    ngx_http_vaani_main_conf_t  *vmcf;

    vmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_vaani_module);

    if (vmcf->redis.nelts == 0) {
        return NGX_OK;
    }

    vmcf->stats_size = offsetof(ngx_http_vaani_stats_t, redis)
                       + vmcf->redis.nelts * NGX_HTTP_VAANI_SLOTS
                         * sizeof(ngx_vaani_redis_stats_t);

    redis = vmcf->redis.elts;

    for (n = 0; n < vmcf->redis.nelts; n++) {
        vmcf->stats_size += NGX_HTTP_VAANI_SLOTS
                            * ngx_vaani_redis_table_size(redis[n]);
    }

    vmcf->stats_size = ngx_align(vmcf->stats_size, sizeof(uint64_t));
    vmcf->history_offset = vmcf->stats_size;
    vmcf->stats_size += ngx_http_vaani_history_size(vmcf->redis.nelts);

    /* the slab pool needs some bytes per page */

    size = vmcf->stats_size + vmcf->stats_size / 64 + 8 * ngx_pagesize;

    /* another layout gets another zone, so old workers keep theirs */

    name.data = ngx_pnalloc(cf->pool, sizeof("vaani_status_00000000") - 1);

    if (name.data == NULL) {
        return NGX_ERROR;
    }

    name.len = ngx_sprintf(name.data, "vaani_status_%08xD",
                           ngx_http_vaani_layout(vmcf))
               - name.data;

    shm_zone = ngx_shared_memory_add(cf, &name, size, &ngx_http_vaani_module);

    if (shm_zone == NULL) {
        return NGX_ERROR;
    }

    shm_zone->init = ngx_http_vaani_init_zone;
    shm_zone->data = vmcf;

    return ngx_http_vaani_add_phase(cf, NGX_HTTP_LOG_PHASE,
                                    ngx_http_vaani_count_handler);
}


static ngx_int_t
ngx_http_vaani_init_zone(ngx_shm_zone_t *shm_zone, void *data)
{
    ngx_slab_pool_t             *shpool;
    ngx_http_vaani_stats_t      *stats;
    ngx_http_vaani_main_conf_t  *vmcf;

    vmcf = shm_zone->data;
    shpool = (ngx_slab_pool_t *) shm_zone->shm.addr;

    stats = shm_zone->shm.exists ? shpool->data : data;

    if (stats == NULL) {
        stats = ngx_slab_calloc(shpool, vmcf->stats_size);

        if (stats == NULL) {
            return NGX_ERROR;
        }

        stats->since = ngx_http_vaani_now();
        stats->counted = stats->since;

        if (ngx_http_vaani_random((u_char *) &stats->seed, sizeof(uint64_t),
                                  shm_zone->shm.log)
            != NGX_OK)
        {
            return NGX_ERROR;
        }

        shpool->data = stats;
    }

    ngx_http_vaani_share(vmcf, stats);

    if (vmcf->history->last == 0) {
        ngx_http_vaani_history_start(vmcf->history, vmcf->redis.nelts);
    }

    shm_zone->data = stats;

    return NGX_OK;
}


/*
 * A digest of the layout: the sizes of the structures, and the names of events,
 * reasons and Redis in their order.  Modules of different builds must not share
 * a zone.
 */

static uint32_t
ngx_http_vaani_layout(ngx_http_vaani_main_conf_t *vmcf)
{
    u_char                     *last;
    u_char                      shape[5 * (NGX_INT_T_LEN + 1)];
    uint32_t                    layout;
    ngx_uint_t                  n;
    ngx_vaani_redis_t         **redis;
    const vaani_str_t          *word;
    const vaani_event_type_t   *type;

    redis = vmcf->redis.elts;

    last = ngx_sprintf(shape, "%ui %uz %uz %uz %uz\n",
                       (ngx_uint_t) NGX_HTTP_VAANI_STATS_VERSION,
                       sizeof(ngx_http_vaani_stats_t),
                       sizeof(ngx_vaani_redis_stats_t),
                       sizeof(ngx_vaani_redis_table_t),
                       sizeof(ngx_http_vaani_sample_t));

    ngx_crc32_init(layout);

    ngx_crc32_update(&layout, shape, last - shape);

    for (n = 1; n < VAANI_NREASONS; n++) {
        word = vaani_reason_word(n);

        ngx_crc32_update(&layout, (u_char *) word->data, word->len);
        ngx_crc32_update(&layout, (u_char *) "\n", 1);
    }

    for (n = 0; (type = vaani_event_row(n)) != NULL; n++) {
        ngx_crc32_update(&layout, (u_char *) type->name.data, type->name.len);
        ngx_crc32_update(&layout, (u_char *) "\n", 1);
    }

    for (n = 0; n < vmcf->redis.nelts; n++) {
        ngx_crc32_update(&layout, redis[n]->label.data, redis[n]->label.len);

        last = ngx_sprintf(shape, " %uz\n",
                           ngx_vaani_redis_table_size(redis[n]));
        ngx_crc32_update(&layout, shape, last - shape);
    }

    ngx_crc32_final(layout);

    return layout;
}


static void
ngx_http_vaani_share(ngx_http_vaani_main_conf_t *vmcf,
    ngx_http_vaani_stats_t *stats)
{
    u_char              *tables;
    ngx_uint_t           n;
    ngx_vaani_redis_t  **redis;

    vmcf->stats = stats;
    vmcf->history = (ngx_http_vaani_history_t *)
                        ((u_char *) stats + vmcf->history_offset);

    redis = vmcf->redis.elts;

    tables = (u_char *) &stats->redis[vmcf->redis.nelts * NGX_HTTP_VAANI_SLOTS];

    for (n = 0; n < vmcf->redis.nelts; n++) {
        redis[n]->stats = &stats->redis[n * NGX_HTTP_VAANI_SLOTS];
        redis[n]->nstats = NGX_HTTP_VAANI_SLOTS;
        redis[n]->tables = tables;

        tables += NGX_HTTP_VAANI_SLOTS * ngx_vaani_redis_table_size(redis[n]);
    }
}


void
ngx_http_vaani_init_stats_worker(ngx_cycle_t *cycle)
{
    ngx_http_vaani_slot_t  *slot;

    slot = ngx_http_vaani_slot();

    if (slot == NULL) {
        return;
    }

    /* after a reload, the previous worker may still have some */

    if (!ngx_vaani_redis_alive(slot->pid)) {
        slot->in_flight = 0;
    }

    slot->pid = ngx_pid;

    ngx_http_vaani_history_init_worker(cycle);
}


ngx_http_vaani_stats_t *
ngx_http_vaani_stats(void)
{
    ngx_http_vaani_main_conf_t  *vmcf;

    vmcf = ngx_http_cycle_get_module_main_conf(ngx_cycle,
                                               ngx_http_vaani_module);

    return vmcf ? vmcf->stats : NULL;
}


/*
 * The slot of this worker, or NULL as above.
 */

static ngx_http_vaani_slot_t *
ngx_http_vaani_slot(void)
{
    ngx_http_vaani_stats_t  *stats;

    stats = ngx_http_vaani_stats();

    return stats ? &stats->slots[ngx_worker & (NGX_HTTP_VAANI_SLOTS - 1)]
                 : NULL;
}


uint64_t
ngx_http_vaani_counted_since(void)
{
    uint64_t                 now;
    ngx_http_vaani_stats_t  *stats;

    stats = ngx_http_vaani_stats();

    if (stats == NULL) {
        return 0;
    }

    /* otherwise nothing would be counted after a clock is set back */

    now = ngx_http_vaani_now();

    if (now < stats->counted) {
        stats->counted = now;
    }

    return stats->counted;
}


void
ngx_http_vaani_count_transition(vaani_transition_t *transition)
{
    ngx_http_vaani_slot_t  *slot;

    slot = ngx_http_vaani_slot();

    if (slot && transition->result == VAANI_TRANSITION_APPLIED
        && transition->to != VAANI_TRANSITION_UNCOUNTED)
    {
        (void) ngx_atomic_fetch_add(
                   &slot->transitions[transition->from][transition->to], 1);
    }
}


void
ngx_http_vaani_count_in_flight(ngx_int_t n)
{
    ngx_http_vaani_slot_t  *slot;

    slot = ngx_http_vaani_slot();

    if (slot) {
        (void) ngx_atomic_fetch_add(&slot->in_flight, n);
    }
}


/*
 * Runs when a request has ended in any way.
 */

static ngx_int_t
ngx_http_vaani_count_handler(ngx_http_request_t *r)
{
    ngx_uint_t                  n;
    vaani_reason_e              reason;
    ngx_http_vaani_ctx_t       *ctx;
    ngx_http_vaani_item_t      *item;
    ngx_http_vaani_slot_t      *slot;
    ngx_http_vaani_result_e     result;
    ngx_http_vaani_loc_conf_t  *vlcf;

    ctx = ngx_http_get_module_ctx(r, ngx_http_vaani_module);

    if (ctx == NULL) {
        vlcf = ngx_http_get_module_loc_conf(r, ngx_http_vaani_module);

        if (!ngx_http_vaani_is_webhook(vlcf)) {
            return NGX_OK;
        }
    }

    slot = ngx_http_vaani_slot();

    if (slot == NULL) {
        return NGX_OK;
    }

    if (ctx) {
        (void) ngx_atomic_fetch_add(&slot->bytes, ctx->body.len);
    }

    if (ctx == NULL || ctx->nitems == 0) {

        /* nginx may have answered itself, as for a body that is too long */

        result = ngx_http_vaani_outcome(r, &reason);

        ngx_http_vaani_count(slot, NULL, result, reason);

        return NGX_OK;
    }

    for (n = 0; n < ctx->nitems; n++) {
        item = &ctx->items[n];

        ngx_http_vaani_count(slot, item, item->result, item->reason);
    }

    return NGX_OK;
}


/*
 * Counts one event; item is NULL if the body was not parsed.
 */

static void
ngx_http_vaani_count(ngx_http_vaani_slot_t *slot, ngx_http_vaani_item_t *item,
    ngx_http_vaani_result_e result, vaani_reason_e reason)
{
    ngx_uint_t  event;

    event = item ? ngx_http_vaani_event_number(&item->event)
                 : NGX_HTTP_VAANI_EVENT_NONE;

    (void) ngx_atomic_fetch_add(&slot->deliveries[event][result], 1);

    if (reason != VAANI_REASON_NONE) {
        (void) ngx_atomic_fetch_add(&slot->reasons[reason], 1);
    }

    if (event != NGX_HTTP_VAANI_EVENT_NONE) {
        ngx_http_vaani_remember(slot, item, event, reason);
    }
}


static void
ngx_http_vaani_remember(ngx_http_vaani_slot_t *slot,
    ngx_http_vaani_item_t *item, ngx_uint_t event, vaani_reason_e reason)
{
    ngx_uint_t                n;
    ngx_http_vaani_recent_t  *recent;

    n = ngx_atomic_fetch_add(&slot->nrecent, 1);

    recent = &slot->recent[n & (NGX_HTTP_VAANI_RECENT - 1)];

    recent->time = ngx_http_vaani_now();
    recent->call = ngx_http_vaani_call_digest(&item->event.room);
    recent->event = (u_char) event;
    recent->result = (u_char) item->result;
    recent->reason = (u_char) reason;
    recent->from = (u_char) item->transition.from;
    recent->to = (u_char) item->transition.to;
}


/*
 * Distinguishes calls and reveals nothing else: FNV-1a from a secret start.
 */

static uint32_t
ngx_http_vaani_call_digest(vaani_str_t *room)
{
    size_t    n;
    uint64_t  hash;

    hash = ngx_http_vaani_stats()->seed;

    for (n = 0; n < room->len; n++) {
        hash = (hash ^ room->data[n]) * 0x100000001b3;
    }

    /* the last bytes hardly affect the upper bits */

    hash = (hash ^ hash >> 32) * 0x9e3779b97f4a7c15;

    return hash >> 40;
}


ngx_uint_t
ngx_http_vaani_event_number(const vaani_event_t *event)
{
    if (event->name.data == NULL) {
        return NGX_HTTP_VAANI_EVENT_NONE;
    }

    if (event->type == NULL) {
        return NGX_HTTP_VAANI_EVENT_UNKNOWN;
    }

    return NGX_HTTP_VAANI_EVENT_FIRST + vaani_event_number(event->type);
}


const vaani_str_t *
ngx_http_vaani_event_name(ngx_uint_t event)
{
    const vaani_event_type_t  *type;

    static const vaani_str_t   none = vaani_string("none");
    static const vaani_str_t   unknown = vaani_string("other");

    if (event == NGX_HTTP_VAANI_EVENT_NONE) {
        return &none;
    }

    if (event == NGX_HTTP_VAANI_EVENT_UNKNOWN) {
        return &unknown;
    }

    type = vaani_event_row(event - NGX_HTTP_VAANI_EVENT_FIRST);

    return type ? &type->name : NULL;
}
