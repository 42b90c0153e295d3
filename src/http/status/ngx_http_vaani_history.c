
/*
 * Once a minute, one of the workers adds up the counters and stores the sums:
 * requests have no cost.
 */


#include "ngx_http_vaani_history.h"


static void ngx_http_vaani_history_timer(ngx_event_t *ev);
static ngx_uint_t ngx_http_vaani_history_turn(
    ngx_http_vaani_history_t *history);
static void ngx_http_vaani_take_sample(ngx_http_vaani_main_conf_t *vmcf,
    ngx_http_vaani_sample_t *sample);
static size_t ngx_http_vaani_sample_size(ngx_uint_t nredis);
static ngx_http_vaani_sample_t *ngx_http_vaani_sample(
    ngx_http_vaani_history_t *history, ngx_uint_t nredis, ngx_uint_t number);


size_t
ngx_http_vaani_history_size(ngx_uint_t nredis)
{
    return sizeof(ngx_http_vaani_history_t)
           + NGX_HTTP_VAANI_SAMPLES * ngx_http_vaani_sample_size(nredis);
}


void
ngx_http_vaani_history_start(ngx_http_vaani_history_t *history,
    ngx_uint_t nredis)
{
    ngx_http_vaani_sample_t  *sample;

    sample = ngx_http_vaani_sample(history, nredis, 1);

    sample->number = 1;
    sample->time = ngx_http_vaani_now();
    sample->clock = ngx_current_msec;

    history->last = 1;
    history->due = ngx_current_msec + NGX_HTTP_VAANI_HISTORY_STEP;
}


void
ngx_http_vaani_history_init_worker(ngx_cycle_t *cycle)
{
    static ngx_event_t       event;
    static ngx_connection_t  dumb;

    dumb.fd = (ngx_socket_t) -1;

    event.handler = ngx_http_vaani_history_timer;
    event.data = &dumb;
    event.log = cycle->log;
    event.cancelable = 1;

    ngx_add_timer(&event, 1);
}


static void
ngx_http_vaani_history_timer(ngx_event_t *ev)
{
    ngx_uint_t                   number;
    ngx_http_vaani_sample_t     *sample;
    ngx_http_vaani_history_t    *history;
    ngx_http_vaani_main_conf_t  *vmcf;

    vmcf = ngx_http_cycle_get_module_main_conf(ngx_cycle,
                                               ngx_http_vaani_module);
    history = vmcf ? vmcf->history : NULL;

    if (history == NULL) {

        /* with "master_process off", a reload has removed the endpoints */

        ngx_add_timer(ev, NGX_HTTP_VAANI_HISTORY_STEP);
        return;
    }

    if (ngx_http_vaani_history_turn(history)) {
        number = ngx_atomic_fetch_add(&history->last, 1) + 1;

        sample = ngx_http_vaani_sample(history, vmcf->redis.nelts, number);

        sample->number = 0;
        ngx_memory_barrier();

        ngx_http_vaani_take_sample(vmcf, sample);

        ngx_memory_barrier();
        sample->number = number;
    }

    ngx_add_timer(ev, ngx_max((ngx_msec_int_t) (history->due
                                                - ngx_current_msec), 1));
}


/*
 * Whether a sample is due and this worker is the one to take it.
 */

static ngx_uint_t
ngx_http_vaani_history_turn(ngx_http_vaani_history_t *history)
{
    ngx_msec_t      due;
    ngx_msec_int_t  late;

    due = history->due;
    late = (ngx_msec_int_t) (ngx_current_msec - due);

    if (late < -NGX_HTTP_VAANI_HISTORY_STEP) {

        /* a system without a monotonic clock, and its clock was set back */

        (void) ngx_atomic_cmp_set(&history->due, due, ngx_current_msec
                                  + NGX_HTTP_VAANI_HISTORY_STEP);
        return 0;
    }

    if (late < 0) {
        return 0;
    }

    return ngx_atomic_cmp_set(&history->due, due, ngx_current_msec
                              + NGX_HTTP_VAANI_HISTORY_STEP
                              - late % NGX_HTTP_VAANI_HISTORY_STEP);
}


/*
 * Everything but the number.
 */

static void
ngx_http_vaani_take_sample(ngx_http_vaani_main_conf_t *vmcf,
    ngx_http_vaani_sample_t *sample)
{
    ngx_uint_t              n, i, j;
    ngx_atomic_uint_t       count;
    ngx_vaani_redis_t     **redis;
    ngx_http_vaani_slot_t  *slot;

    ngx_memzero(sample->results,
                ngx_http_vaani_sample_size(vmcf->redis.nelts)
                - offsetof(ngx_http_vaani_sample_t, results));

    sample->time = ngx_http_vaani_now();
    sample->clock = ngx_current_msec;

    for (n = 0; n < NGX_HTTP_VAANI_SLOTS; n++) {
        slot = &vmcf->stats->slots[n];

        for (i = 0; i < NGX_HTTP_VAANI_EVENTS; i++) {
            for (j = 0; j < NGX_HTTP_VAANI_RESULTS; j++) {
                count = slot->deliveries[i][j];
                sample->events[i] += count;
                sample->results[j] += count;
            }
        }

        for (i = 0; i < VAANI_NREASONS; i++) {
            sample->reasons[i] += slot->reasons[i];
        }
    }

    redis = vmcf->redis.elts;

    for (n = 0; n < vmcf->redis.nelts; n++) {
        for (i = 0; i < redis[n]->nstats; i++) {
            for (j = 0; j <= NGX_VAANI_REDIS_BOUNDS; j++) {
                sample->round_trips[n][j] += redis[n]->stats[i].round_trips[j];
            }
        }
    }
}


ngx_int_t
ngx_http_vaani_history(ngx_pool_t *pool, ngx_http_vaani_main_conf_t *vmcf,
    ngx_http_vaani_sample_t **samples)
{
    size_t                    size;
    ngx_int_t                 nsamples;
    ngx_uint_t                n, last;
    ngx_http_vaani_sample_t  *sample, *copy;

    if (vmcf->history == NULL) {
        return 0;
    }

    size = ngx_http_vaani_sample_size(vmcf->redis.nelts);

    copy = ngx_palloc(pool, (NGX_HTTP_VAANI_HISTORY + 2) * size);

    if (copy == NULL) {
        return NGX_ERROR;
    }

    nsamples = 0;
    last = vmcf->history->last;

    for (n = last > NGX_HTTP_VAANI_HISTORY ? last - NGX_HTTP_VAANI_HISTORY : 1;
         n <= last;
         n++)
    {
        sample = ngx_http_vaani_sample(vmcf->history, vmcf->redis.nelts, n);

        if (sample->number != n) {

            /* it is being written, or its worker was killed while writing */

            continue;
        }

        ngx_memory_barrier();

        ngx_memcpy(copy, sample, size);

        samples[nsamples++] = copy;
        copy = (ngx_http_vaani_sample_t *) ((u_char *) copy + size);
    }

    ngx_http_vaani_take_sample(vmcf, copy);
    samples[nsamples++] = copy;

    return nsamples;
}


static size_t
ngx_http_vaani_sample_size(ngx_uint_t nredis)
{
    return ngx_align(offsetof(ngx_http_vaani_sample_t, round_trips)
                     + nredis * (NGX_VAANI_REDIS_BOUNDS + 1)
                       * sizeof(ngx_atomic_t), sizeof(uint64_t));
}


static ngx_http_vaani_sample_t *
ngx_http_vaani_sample(ngx_http_vaani_history_t *history, ngx_uint_t nredis,
    ngx_uint_t number)
{
    u_char  *samples;

    samples = (u_char *) (history + 1);

    return (ngx_http_vaani_sample_t *)
               (samples + (number & (NGX_HTTP_VAANI_SAMPLES - 1))
                          * ngx_http_vaani_sample_size(nredis));
}
