
/*
 * Counters of connections, in shared memory.
 */


#include "ngx_vaani_redis_conn.h"


static ngx_vaani_redis_stats_t *ngx_vaani_redis_stats(
    ngx_vaani_redis_t *redis);
static ngx_uint_t ngx_vaani_redis_owns(ngx_vaani_redis_stats_t *stats);


const ngx_uint_t  ngx_vaani_redis_bounds[NGX_VAANI_REDIS_BOUNDS] = {
    50, 100, 200, 500,
    1000, 2000, 5000,
    10000, 20000, 50000,
    100000, 200000, 500000,
    1000000, 2000000, 5000000
};


ngx_uint_t
ngx_vaani_redis_alive(ngx_atomic_uint_t pid)
{
    return pid && (kill((ngx_pid_t) pid, 0) == 0 || ngx_errno == NGX_EPERM);
}


/*
 * Those of this worker, or NULL if nothing is counted.
 */

static ngx_vaani_redis_stats_t *
ngx_vaani_redis_stats(ngx_vaani_redis_t *redis)
{
    return redis->nstats ? &redis->stats[ngx_worker % redis->nstats] : NULL;
}


/*
 * Gauges belong to the latest process: after a reload, the old worker has
 * given its place to a new one.
 */

static ngx_uint_t
ngx_vaani_redis_owns(ngx_vaani_redis_stats_t *stats)
{
    return stats->pid == (ngx_atomic_uint_t) ngx_pid;
}


void
ngx_vaani_redis_stats_init(ngx_vaani_redis_t *redis)
{
    ngx_vaani_redis_stats_t  *stats;

    stats = ngx_vaani_redis_stats(redis);

    if (stats == NULL) {
        return;
    }

    /* after a reload, the previous process may still have some */

    if (!ngx_vaani_redis_alive(stats->pid)) {
        stats->commands = 0;
        stats->bytes = 0;
    }

    stats->connections = 0;
    stats->ready = 0;
    stats->ready_time = ngx_time();
    stats->error_time = 0;
    stats->pid = ngx_pid;
}


void
ngx_vaani_redis_stats_connections(ngx_vaani_redis_t *redis, ngx_int_t n)
{
    ngx_vaani_redis_stats_t  *stats;

    stats = ngx_vaani_redis_stats(redis);

    if (stats && ngx_vaani_redis_owns(stats)) {
        stats->connections += n;
    }
}


void
ngx_vaani_redis_stats_count(ngx_vaani_redis_t *redis, size_t counter)
{
    u_char  *stats;

    stats = (u_char *) ngx_vaani_redis_stats(redis);

    if (stats) {
        (void) ngx_atomic_fetch_add((ngx_atomic_t *) (stats + counter), 1);
    }
}


void
ngx_vaani_redis_stats_ready(ngx_vaani_redis_conn_t *conn, ngx_uint_t ready)
{
    ngx_vaani_redis_stats_t  *stats;

    if (conn->watch) {
        return;
    }

    stats = ngx_vaani_redis_stats(conn->redis);

    if (stats == NULL) {
        return;
    }

    if (ready) {
        (void) ngx_atomic_fetch_add(&stats->connects, 1);

    } else if (!conn->exiting) {
        (void) ngx_atomic_fetch_add(&stats->disconnects, 1);
    }

    if (ngx_vaani_redis_owns(stats)) {
        stats->ready += ready ? 1 : -1;
        stats->ready_time = ngx_time();
    }
}


void
ngx_vaani_redis_stats_commands(ngx_vaani_redis_conn_t *conn, ngx_int_t n,
    ngx_int_t bytes)
{
    ngx_vaani_redis_stats_t  *stats;

    if (conn->watch) {
        return;
    }

    stats = ngx_vaani_redis_stats(conn->redis);

    if (stats) {
        (void) ngx_atomic_fetch_add(&stats->commands, n);
        (void) ngx_atomic_fetch_add(&stats->bytes, bytes);
    }
}


void
ngx_vaani_redis_stats_round_trip(ngx_vaani_redis_conn_t *conn, uint64_t us)
{
    ngx_uint_t                n;
    ngx_vaani_redis_stats_t  *stats;

    if (conn->watch) {
        return;
    }

    stats = ngx_vaani_redis_stats(conn->redis);

    if (stats == NULL) {
        return;
    }

    for (n = 0; n < NGX_VAANI_REDIS_BOUNDS; n++) {
        if (us <= ngx_vaani_redis_bounds[n]) {
            break;
        }
    }

    (void) ngx_atomic_fetch_add(&stats->round_trips[n], 1);
    (void) ngx_atomic_fetch_add(&stats->round_trip_sum,
                                (ngx_atomic_int_t) us);
}


void
ngx_vaani_redis_stats_error(ngx_vaani_redis_conn_t *conn, ngx_uint_t n,
    const ngx_str_t *code, ngx_err_t err, const char *text)
{
    u_char                   *p, *last;
    ngx_vaani_redis_stats_t  *stats;

    stats = ngx_vaani_redis_stats(conn->redis);

    if (stats == NULL) {
        return;
    }

    (void) ngx_atomic_fetch_add(&stats->errors[n], 1);

    if (!ngx_vaani_redis_owns(stats)) {
        return;
    }

    last = stats->error + NGX_VAANI_REDIS_ERROR_LEN - 1;

    if (code && code->len) {
        p = ngx_slprintf(stats->error, last, "%V: %s", code, text);

    } else {
        p = ngx_slprintf(stats->error, last, "%s", text);
    }

    if (err) {
        p = ngx_slprintf(p, last, " (%d: ", err);

        if (p < last) {
            p = ngx_strerror(err, p, last - p);
        }

        p = ngx_slprintf(p, last, ")");
    }

    *p = '\0';

    stats->error_time = ngx_time();
}


uint64_t
ngx_vaani_redis_now(void)
{
    struct timespec  ts;

    (void) clock_gettime(CLOCK_MONOTONIC, &ts);

    return (uint64_t) ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}
