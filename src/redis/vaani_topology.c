
#include <stdlib.h>
#include <string.h>

#include "vaani_topology.h"


#define VAANI_TOPOLOGY_MAX_PORT     65535

/* nodes that there is room for at first; it doubles */

#define VAANI_TOPOLOGY_MIN_ALLOC    8

/*
 * What a table may cost that names the same slots and nodes again and again:
 * one of 1000 nodes with every slot in a range of its own stays below.
 */

#define VAANI_TOPOLOGY_MAX_RANGES   (8 * VAANI_SLOTS)
#define VAANI_TOPOLOGY_MAX_LOOKED   (32 * 1024 * 1024)


#define vaani_text_is(str, size, literal)                                     \
    ((size) == sizeof(literal) - 1 && memcmp(str, literal, size) == 0)

#define vaani_reply_is(reply, literal)                                        \
    ((reply)->type == REDIS_REPLY_STRING                                      \
     && vaani_text_is((reply)->str, (reply)->len, literal))


typedef struct {
    vaani_topology_t     *topology;
    const char           *asked_host;
    const char          **why;
    unsigned              nslots;       /* of all ranges */
    unsigned              nlooked;      /* nodes, for those that are named */
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
static int vaani_role_array(const redisReply *reply, vaani_role_t *role);
static int vaani_role_info(const char *text, size_t len, vaani_role_t *role);
static void vaani_role_field(const char *line, size_t len, const char *name,
    vaani_str_t *value);
static int vaani_text_word(const char **p, const char *last,
    vaani_str_t *word);
static int vaani_text_number(const void *text, size_t len, unsigned max,
    unsigned *value);
static int vaani_text_port(const void *text, size_t len, unsigned *port);
static int vaani_text_host(const void *text, size_t len, char *dst);
static int vaani_text_copy(const void *text, size_t len, char *dst,
    size_t size);


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
 * Host, port, since Redis 4.0 the id, since 7.0 metadata.  What follows is left
 * to future versions.  *index is VAANI_TOPOLOGY_NONE if the node has no known
 * address.
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
 * The value of a name in the metadata, which alternate.  Returns NULL if there
 * is none, or if it is not a string, empty or "?".
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
        return vaani_topology_error(r, "nodes are named too often");
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
 * Nodes of unknown address may have the host that was asked and the same port.
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


int
vaani_role_read(const redisReply *reply, vaani_role_t *role)
{
    memset(role, 0, sizeof(vaani_role_t));

    if (reply->type == REDIS_REPLY_ARRAY) {
        return vaani_role_array(reply, role);
    }

    if (reply->type == REDIS_REPLY_STRING) {
        return vaani_role_info(reply->str, reply->len, role);
    }

    return VAANI_ERROR;
}


/*
 * "slave", host and port of its master, the state of the link, the offset.
 */

static int
vaani_role_array(const redisReply *reply, vaani_role_t *role)
{
    const redisReply  *host, *port, *state;

    if (reply->elements == 0) {
        return VAANI_ERROR;
    }

    if (vaani_reply_is(reply->element[0], "master")) {
        role->kind = VAANI_ROLE_MASTER;
        return VAANI_OK;
    }

    if (vaani_reply_is(reply->element[0], "sentinel")) {
        role->kind = VAANI_ROLE_SENTINEL;
        return VAANI_OK;
    }

    if (!vaani_reply_is(reply->element[0], "slave") || reply->elements < 4) {
        return VAANI_ERROR;
    }

    role->kind = VAANI_ROLE_REPLICA;

    host = reply->element[1];
    port = reply->element[2];
    state = reply->element[3];

    if (host->type != REDIS_REPLY_STRING || port->type != REDIS_REPLY_INTEGER
        || port->integer < 1 || port->integer > VAANI_TOPOLOGY_MAX_PORT
        || state->type != REDIS_REPLY_STRING)
    {
        return VAANI_ERROR;
    }

    role->port = port->integer;
    role->link_up = vaani_reply_is(state, "connected");

    return vaani_text_host(host->str, host->len, role->host);
}


static int
vaani_role_info(const char *text, size_t len, vaani_role_t *role)
{
    size_t       size;
    const char  *p, *last, *end, *next;
    vaani_str_t  kind, host, port, link;

    memset(&kind, 0, sizeof(vaani_str_t));
    memset(&host, 0, sizeof(vaani_str_t));
    memset(&port, 0, sizeof(vaani_str_t));
    memset(&link, 0, sizeof(vaani_str_t));

    last = text + len;

    for (p = text; p < last; p = next) {
        end = memchr(p, '\n', last - p);

        next = end ? end + 1 : last;
        size = (end ? end : last) - p;

        if (size > 0 && p[size - 1] == '\r') {
            size--;
        }

        vaani_role_field(p, size, "role:", &kind);
        vaani_role_field(p, size, "master_host:", &host);
        vaani_role_field(p, size, "master_port:", &port);
        vaani_role_field(p, size, "master_link_status:", &link);
    }

    if (kind.data == NULL) {
        return VAANI_ERROR;
    }

    if (vaani_text_is(kind.data, kind.len, "master")) {
        role->kind = VAANI_ROLE_MASTER;
        return VAANI_OK;
    }

    if (!vaani_text_is(kind.data, kind.len, "slave")
        || host.data == NULL || port.data == NULL)
    {
        return VAANI_ERROR;
    }

    role->kind = VAANI_ROLE_REPLICA;
    role->link_up = (link.data && vaani_text_is(link.data, link.len, "up"));

    if (vaani_text_port(port.data, port.len, &role->port) != VAANI_OK) {
        return VAANI_ERROR;
    }

    return vaani_text_host(host.data, host.len, role->host);
}


/*
 * Sets *value if the line begins with the name; the first such line stands.
 */

static void
vaani_role_field(const char *line, size_t len, const char *name,
    vaani_str_t *value)
{
    size_t  n;

    n = strlen(name);

    if (value->data == NULL && len >= n && memcmp(line, name, n) == 0) {
        value->data = (const u_char *) line + n;
        value->len = len - n;
    }
}


int
vaani_sentinel_read(const redisReply *reply, char *host, unsigned *port)
{
    const redisReply  *address, *number;

    if (reply->type == REDIS_REPLY_NIL) {
        return VAANI_DONE;
    }

    if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 2) {
        return VAANI_ERROR;
    }

    address = reply->element[0];
    number = reply->element[1];

    if (address->type != REDIS_REPLY_STRING
        || number->type != REDIS_REPLY_STRING
        || vaani_text_port(number->str, number->len, port) != VAANI_OK)
    {
        return VAANI_ERROR;
    }

    return vaani_text_host(address->str, address->len, host);
}


int
vaani_switch_read(const char *text, size_t len, vaani_switch_t *s)
{
    const char  *p, *last;
    vaani_str_t  old_host, old_port, host, port;

    p = text;
    last = text + len;

    if (vaani_text_word(&p, last, &s->name) != VAANI_OK
        || vaani_text_word(&p, last, &old_host) != VAANI_OK
        || vaani_text_word(&p, last, &old_port) != VAANI_OK
        || vaani_text_word(&p, last, &host) != VAANI_OK
        || vaani_text_word(&p, last, &port) != VAANI_OK
        || p != last)
    {
        return VAANI_ERROR;
    }

    if (vaani_text_port(old_port.data, old_port.len, &s->old_port) != VAANI_OK
        || vaani_text_port(port.data, port.len, &s->port) != VAANI_OK
        || vaani_text_host(old_host.data, old_host.len, s->old_host)
           != VAANI_OK)
    {
        return VAANI_ERROR;
    }

    return vaani_text_host(host.data, host.len, s->host);
}


/*
 * The next word; words are separated by one space, and none is empty.  *p
 * then is the beginning of the word after it, or the end of the text.
 */

static int
vaani_text_word(const char **p, const char *last, vaani_str_t *word)
{
    const char  *space;

    if (*p == last) {
        return VAANI_ERROR;
    }

    space = memchr(*p, ' ', last - *p);

    word->data = (const u_char *) *p;
    word->len = (space ? space : last) - *p;

    *p = space ? space + 1 : last;

    /* the text must not end with a space */

    return (word->len == 0 || (space && *p == last)) ? VAANI_ERROR : VAANI_OK;
}


/*
 * Digits only, and no leading zeros, as Redis prints numbers.
 */

static int
vaani_text_number(const void *text, size_t len, unsigned max, unsigned *value)
{
    size_t         n;
    const u_char  *p = text;

    if (len == 0 || len > 5 || (len > 1 && p[0] == '0')) {
        return VAANI_ERROR;
    }

    *value = 0;

    for (n = 0; n < len; n++) {

        if (p[n] < '0' || p[n] > '9') {
            return VAANI_ERROR;
        }

        *value = *value * 10 + (p[n] - '0');
    }

    return (*value <= max) ? VAANI_OK : VAANI_ERROR;
}


static int
vaani_text_port(const void *text, size_t len, unsigned *port)
{
    if (vaani_text_number(text, len, VAANI_TOPOLOGY_MAX_PORT, port)
        != VAANI_OK)
    {
        return VAANI_ERROR;
    }

    return (*port > 0) ? VAANI_OK : VAANI_ERROR;
}


/*
 * A host is not empty, and loses its brackets.
 */

static int
vaani_text_host(const void *text, size_t len, char *dst)
{
    const u_char  *p = text;

    if (len >= 2 && p[0] == '[' && p[len - 1] == ']') {
        p++;
        len -= 2;
    }

    if (len == 0) {
        return VAANI_ERROR;
    }

    return vaani_text_copy(p, len, dst, VAANI_TOPOLOGY_HOST_SIZE);
}


/*
 * Printable ASCII characters without spaces: hosts and ids are parts of log
 * lines, and none has a null byte.
 */

static int
vaani_text_copy(const void *text, size_t len, char *dst, size_t size)
{
    size_t         n;
    const u_char  *p = text;

    if (len >= size) {
        return VAANI_ERROR;
    }

    for (n = 0; n < len; n++) {
        if (p[n] <= ' ' || p[n] >= 0x7f) {
            return VAANI_ERROR;
        }
    }

    memcpy(dst, text, len);
    dst[len] = '\0';

    return VAANI_OK;
}
