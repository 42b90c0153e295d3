
/*
 * The counters at the end of each of the last 60 minutes, in shared memory, so
 * that the status page shows the last hour as soon as it is opened.
 */


#ifndef _NGX_HTTP_VAANI_HISTORY_H_INCLUDED_
#define _NGX_HTTP_VAANI_HISTORY_H_INCLUDED_


#include "../ngx_http_vaani.h"


/* minutes that are shown */

#define NGX_HTTP_VAANI_HISTORY          60

/*
 * Samples in shared memory: a power of two, and so many more than are shown
 * that no reader uses the one that is being written.
 */

#define NGX_HTTP_VAANI_SAMPLES          64

#define NGX_HTTP_VAANI_HISTORY_STEP     60000   /* ms */


/*
 * The counters at one moment, summed up over all workers.
 */

typedef struct {
    ngx_atomic_t                number;     /* from 1; 0: being written */
    uint64_t                    time;       /* Unix time, ms */
    ngx_msec_t                  clock;      /* ngx_current_msec */

    ngx_atomic_uint_t           results[NGX_HTTP_VAANI_RESULTS];
    ngx_atomic_uint_t           events[NGX_HTTP_VAANI_EVENTS];
    ngx_atomic_uint_t           reasons[VAANI_NREASONS];

    /* of each Redis */

    ngx_atomic_uint_t           round_trips[1][NGX_VAANI_REDIS_BOUNDS + 1];
} ngx_http_vaani_sample_t;


/*
 * In shared memory, followed by the samples.
 */

struct ngx_http_vaani_history_s {
    ngx_atomic_t                last;       /* number of the latest sample */
    ngx_atomic_t                due;        /* the next one, by
                                               ngx_current_msec */
};


/*
 * Bytes of shared memory for the history of so many Redis.
 */
size_t ngx_http_vaani_history_size(ngx_uint_t nredis);

/*
 * Takes the first sample, in zeroed shared memory.
 */
void ngx_http_vaani_history_start(ngx_http_vaani_history_t *history,
    ngx_uint_t nredis);

/*
 * Starts the timer of this worker.
 */
void ngx_http_vaani_history_init_worker(ngx_cycle_t *cycle);

/*
 * Copies the samples of the last hour, and one of this moment, to memory of the
 * pool: at most NGX_HTTP_VAANI_HISTORY + 2 pointers, oldest first.  Returns
 * their number; 0 if there are no counters, NGX_ERROR if there is no memory.
 */
ngx_int_t ngx_http_vaani_history(ngx_pool_t *pool,
    ngx_http_vaani_main_conf_t *vmcf, ngx_http_vaani_sample_t **samples);


#endif /* _NGX_HTTP_VAANI_HISTORY_H_INCLUDED_ */
