
/*
 * The servers that a worker knows, in shared memory, for the status page.
 *
 * The worker writes the whole table at the end of each iteration of the event
 * loop in which it changed.  Meanwhile its version is odd.  A reader that
 * finds an odd or a changed version reads again.  A table belongs to the
 * process whose pid it has: the table of a killed process is not read any
 * more.
 */


#include "ngx_vaani_redis_node.h"


/* the maximum number of attempts of a reader */

#define NGX_VAANI_REDIS_READS           100


static ngx_uint_t ngx_vaani_redis_nshown(ngx_vaani_redis_t *redis);
static void ngx_vaani_redis_show_handler(ngx_event_t *ev);
static ngx_vaani_redis_shown_t *ngx_vaani_redis_shown_node(
    ngx_vaani_redis_table_t *table, ngx_uint_t nshown, ngx_str_t *name);
static void ngx_vaani_redis_shown_name(u_char *dst, ngx_str_t *name);
static ngx_vaani_redis_table_t *ngx_vaani_redis_table(ngx_vaani_redis_t *redis,
    ngx_uint_t worker);


static ngx_str_t  ngx_vaani_redis_roles[] = {
    ngx_string("unknown"),
    ngx_string("master"),
    ngx_string("replica"),
    ngx_string("unreachable")
};


static ngx_str_t  ngx_vaani_redis_forms[] = {
    ngx_string("single"),
    ngx_string("list"),
    ngx_string("sentinel"),
    ngx_string("cluster")
};


ngx_str_t *
ngx_vaani_redis_role_name(ngx_uint_t role)
{
    return &ngx_vaani_redis_roles[role];
}


ngx_str_t *
ngx_vaani_redis_form_name(ngx_vaani_redis_t *redis)
{
    return &ngx_vaani_redis_forms[redis->form];
}


/*
 * The maximum number of servers of this Redis that are shown.
 */

static ngx_uint_t
ngx_vaani_redis_nshown(ngx_vaani_redis_t *redis)
{
    switch (redis->form) {

    case NGX_VAANI_REDIS_LIST:
        return ngx_min(redis->nurls, NGX_VAANI_REDIS_SHOWN);

    case NGX_VAANI_REDIS_CLUSTER:
        return NGX_VAANI_REDIS_SHOWN;

    default:
        return 1;
    }
}


size_t
ngx_vaani_redis_table_size(ngx_vaani_redis_t *redis)
{
    return offsetof(ngx_vaani_redis_table_t, nodes)
           + ngx_vaani_redis_nshown(redis) * sizeof(ngx_vaani_redis_shown_t);
}


static ngx_vaani_redis_table_t *
ngx_vaani_redis_table(ngx_vaani_redis_t *redis, ngx_uint_t worker)
{
    return (ngx_vaani_redis_table_t *)
               (redis->tables + worker * ngx_vaani_redis_table_size(redis));
}


void
ngx_vaani_redis_show_init(ngx_vaani_redis_t *redis, ngx_log_t *log)
{
    redis->show.handler = ngx_vaani_redis_show_handler;
    redis->show.data = redis;
    redis->show.log = log;
}


void
ngx_vaani_redis_show_exit(ngx_vaani_redis_t *redis)
{
    if (redis->show.posted) {
        ngx_delete_posted_event(&redis->show);
    }
}


void
ngx_vaani_redis_show(ngx_vaani_redis_t *redis)
{
    if (redis->nstats && redis->show.handler) {
        ngx_post_event(&redis->show, &ngx_posted_events);
    }
}


static void
ngx_vaani_redis_show_handler(ngx_event_t *ev)
{
    ngx_uint_t                worker;
    ngx_vaani_redis_t        *redis;
    ngx_vaani_redis_node_t   *node;
    ngx_vaani_redis_table_t  *table;

    redis = ev->data;
    worker = ngx_worker % redis->nstats;

    if (redis->nodes == NULL
        || redis->stats[worker].pid != (ngx_atomic_uint_t) ngx_pid)
    {
        return;
    }

    table = ngx_vaani_redis_table(redis, worker);

    /* already odd if a worker was killed while it wrote the table */

    table->version |= 1;

    ngx_memory_barrier();

    table->pid = ngx_pid;
    table->nmasters = 0;
    table->ndown = 0;
    table->nnodes = 0;

    if (redis->actions && redis->actions->show) {
        if (redis->state) {
            redis->actions->show(redis, table);
        }

    } else {

        /* empty until a Sentinel has named the master */

        node = redis->nodes[0];

        if (node
            && (redis->form == NGX_VAANI_REDIS_ONE || node->listed))
        {
            ngx_vaani_redis_show_node(redis, table, &node->url.name,
                                      NGX_VAANI_REDIS_SHOWN_MASTER, node);
        }
    }

    ngx_memory_barrier();

    table->version++;
}


void
ngx_vaani_redis_show_node(ngx_vaani_redis_t *redis,
    ngx_vaani_redis_table_t *table, ngx_str_t *name, ngx_uint_t role,
    ngx_vaani_redis_node_t *node)
{
    ngx_uint_t                nready;
    ngx_vaani_redis_shown_t  *shown;

    nready = node ? ngx_vaani_redis_nready(node) : 0;

    if (node && role == NGX_VAANI_REDIS_SHOWN_MASTER) {
        table->nmasters++;
        table->ndown += (nready == 0);
    }

    shown = ngx_vaani_redis_shown_node(table, ngx_vaani_redis_nshown(redis),
                                       name);
    if (shown == NULL) {
        return;
    }

    /* the earlier entry was more important */

    if (shown->role == NGX_VAANI_REDIS_SHOWN_UNKNOWN) {
        shown->role = role;
    }

    if (node) {
        shown->slots += node->nslots;
        shown->connections += redis->nconnections;
        shown->ready += nready;
    }
}


ngx_uint_t
ngx_vaani_redis_nready(ngx_vaani_redis_node_t *node)
{
    ngx_uint_t  n, nready;

    nready = 0;

    for (n = 0; n < node->redis->nconnections; n++) {
        nready += (node->conns[n].state == NGX_VAANI_REDIS_READY);
    }

    return nready;
}


/*
 * Returns the entry of a name, or a new one, or NULL if the table is full.
 */

static ngx_vaani_redis_shown_t *
ngx_vaani_redis_shown_node(ngx_vaani_redis_table_t *table, ngx_uint_t nshown,
    ngx_str_t *name)
{
    u_char                    text[NGX_VAANI_REDIS_SHOWN_LEN];
    ngx_uint_t                n;
    ngx_vaani_redis_shown_t  *shown;

    ngx_memzero(text, sizeof(text));

    ngx_vaani_redis_shown_name(text, name);

    for (n = 0; n < table->nnodes; n++) {
        shown = &table->nodes[n];

        if (ngx_strcmp(shown->name, text) == 0) {
            return shown;
        }
    }

    if (n == nshown) {
        return NULL;
    }

    shown = &table->nodes[n];

    ngx_memzero(shown, sizeof(ngx_vaani_redis_shown_t));
    ngx_memcpy(shown->name, text, sizeof(text));

    table->nnodes++;

    return shown;
}


/*
 * Of a long name only the beginning and the end are kept, which distinguish
 * it.
 */

static void
ngx_vaani_redis_shown_name(u_char *dst, ngx_str_t *name)
{
    size_t  half;

    if (name->len < NGX_VAANI_REDIS_SHOWN_LEN) {
        ngx_cpystrn(dst, name->data, name->len + 1);
        return;
    }

    half = (NGX_VAANI_REDIS_SHOWN_LEN - sizeof("...")) / 2;

    ngx_sprintf(dst, "%*s...%*s%Z", half, name->data, half,
                name->data + name->len - half);
}


ngx_uint_t
ngx_vaani_redis_shown(ngx_vaani_redis_t *redis, ngx_uint_t worker,
    ngx_vaani_redis_table_t *copy)
{
    size_t                    size;
    ngx_uint_t                n, nshown;
    ngx_atomic_uint_t         version;
    ngx_vaani_redis_stats_t  *stats;
    ngx_vaani_redis_table_t  *table;

    stats = &redis->stats[worker];
    table = ngx_vaani_redis_table(redis, worker);
    size = ngx_vaani_redis_table_size(redis);

    for (n = 0; n < NGX_VAANI_REDIS_READS; n++) {

        if (!ngx_vaani_redis_alive(stats->pid)) {
            return 0;
        }

        version = table->version;

        ngx_memory_barrier();
        ngx_memcpy(copy, table, size);
        ngx_memory_barrier();

        if ((version & 1) || table->version != version) {
            ngx_sched_yield();
            continue;
        }

        /* a new worker has not written its table yet */

        if (copy->pid != stats->pid) {
            return 0;
        }

        nshown = ngx_vaani_redis_nshown(redis);
        copy->nnodes = ngx_min(copy->nnodes, nshown);

        for (n = 0; n < copy->nnodes; n++) {
            copy->nodes[n].name[NGX_VAANI_REDIS_SHOWN_LEN - 1] = '\0';
        }

        return 1;
    }

    return 0;
}
