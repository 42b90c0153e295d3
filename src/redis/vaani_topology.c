
#include <stdlib.h>
#include <string.h>

#include "vaani_topology.h"


/* the initial number of nodes; it doubles */

#define VAANI_TOPOLOGY_MIN_ALLOC    8

/*
 * The maximum cost of a table, which could repeat the same slots and nodes
 * without limit: 1000 nodes with every slot in a range of its own are within
 * it.
 */

#define VAANI_TOPOLOGY_MAX_RANGES   (8 * VAANI_SLOTS)
#define VAANI_TOPOLOGY_MAX_LOOKED   (32 * 1024 * 1024)


typedef struct {
    vaani_topology_t     *topology;
    const char           *asked_host;
    const char          **why;
    unsigned              nslots;       /* of all ranges */
    unsigned              nlooked;      /* nodes, for those listed in ranges */
} vaani_topology_reader_t;


static void vaani_topology_init(vaani_topology_t *t);
static int vaani_topology_range(vaani_topology_reader_t *r,
    const redisReply *reply);
static int vaani_topology_slot(const redisReply *reply, unsigned *slot);
static int vaani_topology_node(vaani_topology_reader_t *r,
    const redisReply *reply, unsigned *index);
static int vaani_topology_host(vaani_topology_reader_t *r,
    const redisReply *reply, char *dst);
static const redisReply *vaani_topology_metadata(const redisReply *metadata,
    const char *name);
static int vaani_topology_add(vaani_topology_reader_t *r,
    const vaani_topology_node_t *node, unsigned *index);
static int vaani_topology_same(const vaani_topology_node_t *a,
    const vaani_topology_node_t *b);
static int vaani_topology_error(vaani_topology_reader_t *r, const char *why);


int
vaani_topology_read(vaani_topology_t *t, const redisReply *reply,
    const char *asked_host, const char **why)
{
    int                      rc;
    size_t                   n;
    vaani_topology_reader_t  r;

    vaani_topology_init(t);

    r.topology = t;
    r.asked_host = asked_host;
    r.why = why;
    r.nslots = 0;
    r.nlooked = 0;

    if (reply->type != REDIS_REPLY_ARRAY) {
        return vaani_topology_error(&r, "the reply is not an array");
    }

    for (n = 0; n < reply->elements; n++) {
        rc = vaani_topology_range(&r, reply->element[n]);

        if (rc != VAANI_OK) {
            vaani_topology_free(t);
            return rc;
        }
    }

    return VAANI_OK;
}


void
vaani_topology_free(vaani_topology_t *t)
{
    free(t->nodes);
    vaani_topology_init(t);
}


static void
vaani_topology_init(vaani_topology_t *t)
{
    t->nodes = NULL;
    t->nnodes = 0;
    t->nalloc = 0;

    /* VAANI_TOPOLOGY_NONE */

    memset(t->slots, 0xff, sizeof(t->slots));
}


/*
 * First slot, last slot, the master, and its replicas.
 */

static int
vaani_topology_range(vaani_topology_reader_t *r, const redisReply *reply)
{
    int                     rc;
    size_t                  n;
    unsigned                slot, first, last, master, replica;
    vaani_topology_t       *t;
    vaani_topology_node_t  *node;

    if (reply->type != REDIS_REPLY_ARRAY || reply->elements < 3) {
        return vaani_topology_error(r, "a range is not an array of 2 slots and "
                                       "1 or more nodes");
    }

    if (vaani_topology_slot(reply->element[0], &first) != VAANI_OK
        || vaani_topology_slot(reply->element[1], &last) != VAANI_OK
        || first > last)
    {
        return vaani_topology_error(r, "a range has invalid slots");
    }

    r->nslots += last - first + 1;

    if (r->nslots > VAANI_TOPOLOGY_MAX_RANGES) {
        return vaani_topology_error(r, "there are too many ranges");
    }

    t = r->topology;

    rc = vaani_topology_node(r, reply->element[2], &master);
    if (rc != VAANI_OK) {
        return rc;
    }

    if (master != VAANI_TOPOLOGY_NONE) {
        node = &t->nodes[master];

        node->master = 1;
        node->master_index = master;

        for (slot = first; slot <= last; slot++) {

            if (t->slots[slot] == VAANI_TOPOLOGY_NONE) {
                t->slots[slot] = master;
                node->nslots++;
            }
        }
    }

    for (n = 3; n < reply->elements; n++) {
        rc = vaani_topology_node(r, reply->element[n], &replica);
        if (rc != VAANI_OK) {
            return rc;
        }

        if (replica == VAANI_TOPOLOGY_NONE) {
            continue;
        }

        node = &t->nodes[replica];

        if (node->master_index == VAANI_TOPOLOGY_NONE) {
            node->master_index = master;
        }
    }

    return VAANI_OK;
}


static int
vaani_topology_slot(const redisReply *reply, unsigned *slot)
{
    if (reply->type != REDIS_REPLY_INTEGER
        || reply->integer < 0 || reply->integer >= VAANI_SLOTS)
    {
        return VAANI_ERROR;
    }

    *slot = reply->integer;

    return VAANI_OK;
}


/*
 * Host, port, since Redis 4.0 the id, since 7.0 metadata.  Later elements are
 * ignored.  *index is VAANI_TOPOLOGY_NONE if the node has no known address.
 */

static int
vaani_topology_node(vaani_topology_reader_t *r, const redisReply *reply,
    unsigned *index)
{
    const redisReply       *port, *id;
    vaani_topology_node_t   node;

    if (reply->type != REDIS_REPLY_ARRAY || reply->elements < 2) {
        return vaani_topology_error(r, "a node is not an array of a host and "
                                       "a port");
    }

    memset(&node, 0, sizeof(vaani_topology_node_t));

    node.master_index = VAANI_TOPOLOGY_NONE;

    if (vaani_topology_host(r, reply, node.host) != VAANI_OK) {
        return VAANI_ERROR;
    }

    port = reply->element[1];

    if (port->type != REDIS_REPLY_INTEGER
        || port->integer < 0 || port->integer > VAANI_TOPOLOGY_MAX_PORT)
    {
        return vaani_topology_error(r, "a node has an invalid port");
    }

    node.port = port->integer;

    if (reply->elements > 2) {
        id = reply->element[2];

        if (id->type != REDIS_REPLY_STRING
            || vaani_text_copy(id->str, id->len, node.id, sizeof(node.id))
               != VAANI_OK)
        {
            return vaani_topology_error(r, "a node has an invalid id");
        }
    }

    if (node.host[0] == '\0' || node.port == 0) {
        *index = VAANI_TOPOLOGY_NONE;
        return VAANI_OK;
    }

    return vaani_topology_add(r, &node, index);
}


/*
 * dst is "" if the host is not known.
 */

static int
vaani_topology_host(vaani_topology_reader_t *r, const redisReply *reply,
    char *dst)
{
    size_t             len;
    const char        *text;
    const redisReply  *host, *metadata;

    host = reply->element[0];
    metadata = (reply->elements > 3) ? reply->element[3] : NULL;

    if (metadata && metadata->type != REDIS_REPLY_ARRAY) {
        return vaani_topology_error(r, "the metadata of a node is not an "
                                       "array");
    }

    if (vaani_reply_is(host, "?")) {

        if (metadata == NULL) {
            return VAANI_OK;
        }

        host = vaani_topology_metadata(metadata, "hostname");

        if (host == NULL) {
            host = vaani_topology_metadata(metadata, "ip");
        }

        if (host == NULL) {
            return VAANI_OK;
        }
    }

    if (host->type == REDIS_REPLY_NIL || vaani_reply_is(host, "")) {
        text = r->asked_host;
        len = strlen(text);

        if (len == 0) {
            return VAANI_OK;
        }

    } else if (host->type == REDIS_REPLY_STRING) {
        text = host->str;
        len = host->len;

    } else {
        return vaani_topology_error(r, "the host of a node is not a string");
    }

    if (vaani_text_host(text, len, dst) != VAANI_OK) {
        return vaani_topology_error(r, "a node has an invalid host");
    }

    return VAANI_OK;
}


/*
 * Returns the value of a name in the metadata, in which names and values
 * alternate.  Returns NULL if the name is missing, or if the value is not a
 * string, empty or "?".
 */

static const redisReply *
vaani_topology_metadata(const redisReply *metadata, const char *name)
{
    size_t             n, len;
    const redisReply  *key, *value;

    len = strlen(name);

    for (n = 0; n + 1 < metadata->elements; n += 2) {
        key = metadata->element[n];
        value = metadata->element[n + 1];

        if (key->type == REDIS_REPLY_STRING
            && (size_t) key->len == len && memcmp(key->str, name, len) == 0)
        {
            return (value->type == REDIS_REPLY_STRING && value->len > 0
                    && !vaani_reply_is(value, "?"))
                   ? value : NULL;
        }
    }

    return NULL;
}


static int
vaani_topology_add(vaani_topology_reader_t *r,
    const vaani_topology_node_t *node, unsigned *index)
{
    unsigned                n;
    vaani_topology_t       *t;
    vaani_topology_node_t  *nodes;

    t = r->topology;

    for (n = 0; n < t->nnodes; n++) {
        if (vaani_topology_same(&t->nodes[n], node)) {
            *index = n;
            break;
        }
    }

    r->nlooked += n + 1;

    if (r->nlooked > VAANI_TOPOLOGY_MAX_LOOKED) {
        return vaani_topology_error(r, "nodes are listed too often");
    }

    if (n < t->nnodes) {
        return VAANI_OK;
    }

    if (t->nnodes == VAANI_TOPOLOGY_MAX_NODES) {
        return vaani_topology_error(r, "there are too many nodes");
    }

    if (t->nnodes == t->nalloc) {
        n = t->nalloc ? t->nalloc * 2 : VAANI_TOPOLOGY_MIN_ALLOC;

        nodes = realloc(t->nodes, n * sizeof(vaani_topology_node_t));
        if (nodes == NULL) {
            *r->why = "out of memory";
            return VAANI_NOMEM;
        }

        t->nodes = nodes;
        t->nalloc = n;
    }

    *index = t->nnodes;
    t->nodes[t->nnodes++] = *node;

    return VAANI_OK;
}


/*
 * Nodes of unknown address may have the same port as the asked host.
 */

static int
vaani_topology_same(const vaani_topology_node_t *a,
    const vaani_topology_node_t *b)
{
    if (a->id[0] && b->id[0]) {
        return strcmp(a->id, b->id) == 0;
    }

    return a->port == b->port && strcmp(a->host, b->host) == 0;
}


static int
vaani_topology_error(vaani_topology_reader_t *r, const char *why)
{
    *r->why = why;

    return VAANI_ERROR;
}


int
vaani_redirect_read(const char *text, size_t len, vaani_redirect_t *r)
{
    const char    *p, *last;
    vaani_str_t    kind, slot, address;
    const u_char  *colon;

    p = text;
    last = text + len;

    if (vaani_text_word(&p, last, &kind) != VAANI_OK
        || vaani_text_word(&p, last, &slot) != VAANI_OK
        || vaani_text_word(&p, last, &address) != VAANI_OK
        || p != last)
    {
        return VAANI_ERROR;
    }

    memset(r, 0, sizeof(vaani_redirect_t));

    if (vaani_text_is(kind.data, kind.len, "MOVED")) {
        r->kind = VAANI_REDIRECT_MOVED;

    } else if (vaani_text_is(kind.data, kind.len, "ASK")) {
        r->kind = VAANI_REDIRECT_ASK;

    } else {
        return VAANI_ERROR;
    }

    for (colon = address.data + address.len - 1;
         colon > address.data && *colon != ':';
         colon--)
    {
        /* void */
    }

    if (*colon != ':'
        || vaani_text_number(slot.data, slot.len, VAANI_SLOTS - 1, &r->slot)
           != VAANI_OK
        || vaani_text_port(colon + 1,
                           address.data + address.len - (colon + 1), &r->port)
           != VAANI_OK)
    {
        return VAANI_ERROR;
    }

    address.len = colon - address.data;

    if (address.len == 0) {
        return VAANI_OK;
    }

    if (vaani_text_is(address.data, address.len, "?")) {
        r->unknown = 1;
        return VAANI_OK;
    }

    return vaani_text_host(address.data, address.len, r->host);
}
