
/*
 * The owners of slots: compares a fetched table with the previous one.
 */


#include "ngx_vaani_redis_cluster.h"

#include <ngx_sha1.h>


static ngx_vaani_redis_node_t *ngx_vaani_redis_slots_node(
    ngx_vaani_redis_cluster_t *cluster, vaani_topology_node_t *listed);
static void ngx_vaani_redis_slots_identify(ngx_vaani_redis_cluster_t *cluster,
    ngx_vaani_redis_node_t *node, vaani_topology_node_t *listed);
static ngx_uint_t ngx_vaani_redis_slots_is(ngx_vaani_redis_node_t *node,
    const char *id);
static void ngx_vaani_redis_slots_compare(ngx_vaani_redis_cluster_t *cluster);
static ngx_uint_t ngx_vaani_redis_slots_took_over(
    ngx_vaani_redis_cluster_t *cluster, ngx_vaani_redis_node_t *node,
    ngx_vaani_redis_node_t **from);
static ngx_vaani_redis_node_t *ngx_vaani_redis_slots_left(
    ngx_vaani_redis_cluster_t *cluster, const char *id);
static void ngx_vaani_redis_slots_epoch(ngx_vaani_redis_cluster_t *cluster,
    u_char *line, u_char *last);
static void ngx_vaani_redis_slots_changed(ngx_vaani_redis_cluster_t *cluster);


/*
 * Returns whether the owner of a slot changed.
 */

ngx_uint_t
ngx_vaani_redis_cluster_apply(ngx_vaani_redis_cluster_t *cluster,
    vaani_topology_t *table)
{
    uint16_t                  owner;
    unsigned                  n;
    ngx_uint_t                slot, changed;
    ngx_vaani_redis_t        *redis;
    ngx_vaani_redis_node_t   *node;
    uint16_t                  numbers[VAANI_TOPOLOGY_MAX_NODES];

    redis = cluster->redis;

    /* NGX_VAANI_REDIS_NO_OWNER */

    ngx_memset(numbers, 0xff, sizeof(numbers));

    for (n = 0; n < redis->nnodes; n++) {
        if (redis->nodes[n]) {
            redis->nodes[n]->was_listed = redis->nodes[n]->listed;
            redis->nodes[n]->listed = 0;
            redis->nodes[n]->nslots = 0;
        }
    }

    for (n = 0; n < table->nnodes; n++) {
        if (!table->nodes[n].master || table->nodes[n].nslots == 0) {
            continue;
        }

        node = ngx_vaani_redis_slots_node(cluster, &table->nodes[n]);

        if (node) {
            node->listed = 1;
            node->nslots = table->nodes[n].nslots;
            numbers[n] = node->number;
        }
    }

    changed = 0;
    cluster->nowned = 0;

    for (slot = 0; slot < VAANI_SLOTS; slot++) {
        owner = (table->slots[slot] == VAANI_TOPOLOGY_NONE)
                ? NGX_VAANI_REDIS_NO_OWNER : numbers[table->slots[slot]];

        changed |= (cluster->owners[slot] != owner);
        cluster->owners[slot] = owner;
        cluster->nowned += (owner != NGX_VAANI_REDIS_NO_OWNER);
    }

    ngx_vaani_redis_slots_compare(cluster);

    if (changed || cluster->replaced) {
        ngx_vaani_redis_slots_changed(cluster);
    }

    ngx_vaani_redis_show(redis);

    return changed;
}


/*
 * Returns the node of an entry: the same server at the same or another
 * address, or a new one.
 */

static ngx_vaani_redis_node_t *
ngx_vaani_redis_slots_node(ngx_vaani_redis_cluster_t *cluster,
    vaani_topology_node_t *listed)
{
    ngx_uint_t               n, i;
    ngx_vaani_redis_t       *redis;
    ngx_vaani_redis_node_t  *node, *there;

    redis = cluster->redis;
    there = NULL;

    for (n = 0; n < redis->nnodes; n++) {
        node = redis->nodes[n];

        if (node == NULL || node->leaving || node->listed) {
            continue;
        }

        if (ngx_vaani_redis_slots_is(node, listed->id)) {
            if (!ngx_vaani_redis_is_at(node, listed->host, listed->port)) {

                (void) ngx_vaani_redis_place(node, listed->host,
                                             listed->port);

                for (i = 0; i < redis->nconnections; i++) {
                    ngx_vaani_redis_move(&node->conns[i]);
                }
            }

            return node;
        }

        if (ngx_vaani_redis_is_at(node, listed->host, listed->port)) {
            there = node;
        }
    }

    if (there == NULL) {
        there = ngx_vaani_redis_cluster_add(cluster, listed->host,
                                            listed->port);
    }

    if (there) {
        ngx_vaani_redis_slots_identify(cluster, there, listed);
    }

    return there;
}


static void
ngx_vaani_redis_slots_identify(ngx_vaani_redis_cluster_t *cluster,
    ngx_vaani_redis_node_t *node, vaani_topology_node_t *listed)
{
    ngx_uint_t  n;

    if (ngx_strlen(listed->id) != sizeof(node->id)
        || ngx_vaani_redis_slots_is(node, listed->id))
    {
        return;
    }

    /* another server has the address now */

    cluster->replaced = 1;

    if (node->identified) {
        for (n = 0; n < cluster->redis->nconnections; n++) {
            ngx_vaani_redis_move(&node->conns[n]);
        }
    }

    ngx_memcpy(node->id, listed->id, sizeof(node->id));
    node->identified = 1;
    node->epoch = 0;
}


/* whether the id of a node is known, from a table */

static ngx_uint_t
ngx_vaani_redis_slots_is(ngx_vaani_redis_node_t *node, const char *id)
{
    return node->identified
           && ngx_strlen(id) == sizeof(node->id)
           && ngx_memcmp(node->id, id, sizeof(node->id)) == 0;
}


/*
 * Logs the changes, one line for each master that took over, and removes nodes
 * that own no slot.
 */

static void
ngx_vaani_redis_slots_compare(ngx_vaani_redis_cluster_t *cluster)
{
    ngx_uint_t               n, level;
    ngx_vaani_redis_t       *redis;
    ngx_vaani_redis_node_t  *node, *from;

    redis = cluster->redis;

    for (n = 0; n < redis->nnodes; n++) {
        node = redis->nodes[n];

        if (node == NULL || node->leaving
            || !node->listed || node->was_listed)
        {
            continue;
        }

        from = NULL;

        if (cluster->known
            && ngx_vaani_redis_slots_took_over(cluster, node, &from))
        {
            ngx_vaani_redis_count(redis, failovers);
        }

        if (from) {
            from->replaced = 1;

            ngx_log_error(NGX_LOG_NOTICE, cluster->log, 0,
                          "vaani: %V is now a cluster master with %ui slots, "
                          "previously %V",
                          &node->url.name, node->nslots, &from->url.name);
            continue;
        }

        level = cluster->known ? NGX_LOG_NOTICE : NGX_LOG_INFO;

        ngx_log_error(level, cluster->log, 0,
                      "vaani: %V is now a cluster master with %ui slots",
                      &node->url.name, node->nslots);
    }

    for (n = 0; n < redis->nnodes; n++) {
        node = redis->nodes[n];

        if (node == NULL || node->leaving
            || node->listed || !node->was_listed)
        {
            continue;
        }

        level = node->replaced ? NGX_LOG_INFO : NGX_LOG_NOTICE;

        ngx_log_error(level, cluster->log, 0,
                      "vaani: %V is no longer a cluster master with slots",
                      &node->url.name);

        ngx_vaani_redis_cluster_leave(cluster, node);
    }
}


/*
 * Whether a master was a replica in the previous table.  *from: its former
 * master, if the new table does not have it.
 */

static ngx_uint_t
ngx_vaani_redis_slots_took_over(ngx_vaani_redis_cluster_t *cluster,
    ngx_vaani_redis_node_t *node, ngx_vaani_redis_node_t **from)
{
    unsigned                n;
    vaani_topology_node_t  *was;

    for (n = 0; n < cluster->table.nnodes; n++) {
        was = &cluster->table.nodes[n];

        if (!was->master && ngx_vaani_redis_slots_is(node, was->id)) {
            if (was->master_index != VAANI_TOPOLOGY_NONE) {
                *from = ngx_vaani_redis_slots_left(cluster,
                                   cluster->table.nodes[was->master_index].id);
            }

            return 1;
        }
    }

    return 0;
}


static ngx_vaani_redis_node_t *
ngx_vaani_redis_slots_left(ngx_vaani_redis_cluster_t *cluster, const char *id)
{
    ngx_uint_t               n;
    ngx_vaani_redis_t       *redis;
    ngx_vaani_redis_node_t  *node;

    redis = cluster->redis;

    for (n = 0; n < redis->nnodes; n++) {
        node = redis->nodes[n];

        if (node && !node->leaving && !node->listed && node->was_listed
            && ngx_vaani_redis_slots_is(node, id))
        {
            return node;
        }
    }

    return NULL;
}


/*
 * A node that gets a slot must have a higher epoch than before.  Otherwise a
 * slot that moved away and back would look unchanged, see
 * ngx_vaani_redis_scope().
 */

void
ngx_vaani_redis_cluster_epochs(ngx_vaani_redis_cluster_t *cluster,
    u_char *text, size_t len)
{
    u_char  *p, *last, *end;

    last = text + len;

    for (p = text; p < last; p = end + 1) {
        end = ngx_strlchr(p, last, '\n');
        end = end ? end : last;

        ngx_vaani_redis_slots_epoch(cluster, p, end);
    }

    if (cluster->replaced) {
        ngx_vaani_redis_slots_changed(cluster);
    }
}


/*
 * "<id> <address> <flags> <master> <ping> <pong> <epoch> ...". The asked node
 * may not know the latest epoch yet.
 */

static void
ngx_vaani_redis_slots_epoch(ngx_vaani_redis_cluster_t *cluster, u_char *line,
    u_char *last)
{
    u_char                  *p;
    uint64_t                 epoch;
    ngx_uint_t               n;
    ngx_vaani_redis_t       *redis;
    ngx_vaani_redis_node_t  *node;

    if ((size_t) (last - line) <= sizeof(node->id)) {
        return;
    }

    p = line;

    for (n = 0; n < 6; n++) {
        p = ngx_strlchr(p, last, ' ');

        if (p++ == NULL) {
            return;
        }
    }

    for (epoch = 0; p < last && *p >= '0' && *p <= '9'; p++) {
        epoch = epoch * 10 + (*p - '0');
    }

    redis = cluster->redis;

    for (n = 0; n < redis->nnodes; n++) {
        node = redis->nodes[n];

        if (node && node->listed && node->identified
            && line[sizeof(node->id)] == ' '
            && ngx_memcmp(line, node->id, sizeof(node->id)) == 0
            && epoch > node->epoch)
        {
            node->epoch = epoch;
            cluster->replaced = 1;
        }
    }
}


/*
 * Computes scopes and tags, see ngx_vaani_redis_scope() and
 * ngx_vaani_redis_tag().
 */

static void
ngx_vaani_redis_slots_changed(ngx_vaani_redis_cluster_t *cluster)
{
    u_char                   digest[20];
    uint16_t                 slot;
    ngx_uint_t               n, first, i;
    ngx_sha1_t               sha1;
    ngx_vaani_redis_t       *redis;
    ngx_vaani_redis_node_t  *node;

    cluster->changed = ngx_current_msec;
    cluster->replaced = 0;

    redis = cluster->redis;

    for (n = 0; n < redis->nnodes; n++) {
        node = redis->nodes[n];

        if (node == NULL || !node->listed) {
            continue;
        }

        ngx_sha1_init(&sha1);
        ngx_sha1_update(&sha1, node->id, sizeof(node->id));
        ngx_sha1_update(&sha1, &node->epoch, sizeof(node->epoch));

        for (slot = 0; slot < VAANI_SLOTS; slot++) {
            if (cluster->owners[slot] == n) {
                ngx_sha1_update(&sha1, &slot, sizeof(slot));
            }
        }

        ngx_sha1_final(digest, &sha1);
        ngx_hex_dump(node->scope, digest, NGX_VAANI_REDIS_SCOPE_LEN / 2);

        /* the same in all workers, whenever they started */

        first = ngx_crc32_short(node->id, sizeof(node->id)) % VAANI_SLOTS;

        for (i = 0; i < VAANI_SLOTS; i++) {
            slot = (first + i) % VAANI_SLOTS;

            if (cluster->owners[slot] == n) {
                node->tag_len = vaani_slot_tag(slot, node->tag);
                break;
            }
        }
    }
}
