
/*
 * The first byte of the input selects the reader of the rest: "M" a redirect,
 * "W" a message of +switch-master, "R" a reply to ROLE, "S" one of a Sentinel,
 * "T" one to CLUSTER SLOTS.  Replies are RESP; with a lower-case letter, they
 * are in the notation of vaani_reply.h, whose lengths and counts are always
 * correct.
 */


#include "../redis/vaani_master.h"
#include "../redis/vaani_topology.h"
#include "vaani_fuzz.h"
#include "vaani_reply.h"
#include "vaani_test.h"


#define FUZZ_ASKED_HOST  "asked"

/* more digits in a count would make hiredis allocate memory in advance */

#define FUZZ_MAX_COUNT   4

/* the number of nodes with which each node is compared */

#define FUZZ_MAX_PAIRS   32


static redisReply *fuzz_reply(const char *text, size_t len, unsigned notation);
static void fuzz_topology(const redisReply *reply);
static void fuzz_nodes(const vaani_topology_t *t);
static void fuzz_owner(const vaani_topology_t *t, const redisReply *reply,
    long long slot);
static void fuzz_redirect(const char *text, size_t len);
static void fuzz_role(const redisReply *reply);
static void fuzz_sentinel(const redisReply *reply);
static void fuzz_switch(const char *text, size_t len);
static void fuzz_host(const char *host);
static void fuzz_port(unsigned port);
static int fuzz_is(const char *text, size_t len, const char *expected);


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t               len;
    const char          *text;
    redisReply          *reply;
    vaani_test_arena_t   arena;

    if (size == 0 || size > VAANI_FUZZ_MAX_SIZE) {
        return 0;
    }

    vaani_test_arena_init(&arena);

    len = size - 1;
    text = (const char *) vaani_test_text(&arena, data + 1, len);

    switch (data[0]) {

    case 'M':
        fuzz_redirect(text, len);
        break;

    case 'W':
        fuzz_switch(text, len);
        break;

    default:
        reply = fuzz_reply(text, len, data[0] & 0x20);

        if (reply == NULL) {
            break;
        }

        switch (data[0] & ~0x20) {

        case 'R':
            fuzz_role(reply);
            break;

        case 'S':
            fuzz_sentinel(reply);
            break;

        default:
            fuzz_topology(reply);
        }

        freeReplyObject(reply);
    }

    vaani_test_arena_free(&arena);

    return 0;
}


static redisReply *
fuzz_reply(const char *text, size_t len, unsigned notation)
{
    size_t  n, digits;

    if (notation) {
        return vaani_reply_make(text, len);
    }

    for (n = 0; n < len; n++) {

        if (text[n] == '\0' || strchr("*%~>|", text[n]) == NULL) {
            continue;
        }

        for (digits = 0;
             n + 1 + digits < len
             && text[n + 1 + digits] >= '0' && text[n + 1 + digits] <= '9';
             digits++)
        {
            /* void */
        }

        if (digits > FUZZ_MAX_COUNT) {
            return NULL;
        }
    }

    return vaani_reply_read(text, len);
}


static void
fuzz_topology(const redisReply *reply)
{
    int                rc;
    size_t             n;
    const char        *why;
    vaani_topology_t   t;
    const redisReply  *range;

    why = NULL;
    rc = vaani_topology_read(&t, reply, FUZZ_ASKED_HOST, &why);

    if (rc != VAANI_OK) {
        vaani_fuzz_check(rc == VAANI_ERROR);
        vaani_fuzz_check(why != NULL);
        vaani_fuzz_check(t.nodes == NULL);
        fuzz_nodes(&t);
        return;
    }

    vaani_fuzz_check(why == NULL);
    vaani_fuzz_check(reply->type == REDIS_REPLY_ARRAY);

    fuzz_nodes(&t);

    /* owners change where ranges begin and end */

    for (n = 0; n < reply->elements && n < 64; n++) {
        range = reply->element[n];

        fuzz_owner(&t, reply, range->element[0]->integer - 1);
        fuzz_owner(&t, reply, range->element[0]->integer);
        fuzz_owner(&t, reply, range->element[1]->integer);
        fuzz_owner(&t, reply, range->element[1]->integer + 1);
    }

    vaani_topology_free(&t);
    fuzz_nodes(&t);
}


static void
fuzz_nodes(const vaani_topology_t *t)
{
    unsigned                n, m, slot;
    vaani_topology_node_t  *node, *other;
    static unsigned         nslots[VAANI_TOPOLOGY_MAX_NODES];

    vaani_fuzz_check(t->nnodes <= VAANI_TOPOLOGY_MAX_NODES);
    vaani_fuzz_check(t->nnodes <= t->nalloc);
    vaani_fuzz_check(t->nnodes == 0 || t->nodes != NULL);

    memset(nslots, 0, sizeof(nslots));

    for (slot = 0; slot < VAANI_SLOTS; slot++) {
        n = t->slots[slot];

        if (n == VAANI_TOPOLOGY_NONE) {
            continue;
        }

        vaani_fuzz_check(n < t->nnodes);
        vaani_fuzz_check(t->nodes[n].master);
        nslots[n]++;
    }

    for (n = 0; n < t->nnodes; n++) {
        node = &t->nodes[n];

        fuzz_host(node->host);
        fuzz_port(node->port);

        vaani_fuzz_check(memchr(node->id, '\0', VAANI_TOPOLOGY_ID_SIZE)
                         != NULL);
        vaani_fuzz_check(node->nslots == nslots[n]);

        if (node->master) {
            vaani_fuzz_check(node->master_index == n);

        } else if (node->master_index != VAANI_TOPOLOGY_NONE) {
            vaani_fuzz_check(node->master_index < t->nnodes);
            vaani_fuzz_check(t->nodes[node->master_index].master);
        }

        for (m = 0; m < n && m < FUZZ_MAX_PAIRS; m++) {
            other = &t->nodes[m];

            if (node->id[0] && other->id[0]) {
                vaani_fuzz_check(strcmp(node->id, other->id) != 0);

            } else {
                vaani_fuzz_check(strcmp(node->host, other->host) != 0
                                 || node->port != other->port);
            }
        }
    }
}


/*
 * The owner of a slot is the master of the first range that has the slot, and
 * whose master has a known address.
 */

static void
fuzz_owner(const vaani_topology_t *t, const redisReply *reply, long long slot)
{
    size_t                  n, k;
    unsigned                owner;
    const redisReply       *range, *node, *metadata;
    vaani_topology_node_t  *found;

    if (slot < 0 || slot >= VAANI_SLOTS) {
        return;
    }

    owner = t->slots[slot];

    for (n = 0; n < reply->elements; n++) {
        range = reply->element[n];

        if (slot < range->element[0]->integer
            || slot > range->element[1]->integer)
        {
            continue;
        }

        node = range->element[2];

        if (node->element[1]->integer == 0) {
            continue;
        }

        if (node->element[0]->type == REDIS_REPLY_STRING
            && strcmp(node->element[0]->str, "?") == 0)
        {
            if (node->elements < 4) {
                continue;
            }

            metadata = node->element[3];

            for (k = 0; k + 1 < metadata->elements; k += 2) {
                if (metadata->element[k]->type == REDIS_REPLY_STRING
                    && (strcmp(metadata->element[k]->str, "ip") == 0
                        || strcmp(metadata->element[k]->str, "hostname") == 0)
                    && metadata->element[k + 1]->type == REDIS_REPLY_STRING)
                {
                    break;
                }
            }

            if (k + 1 >= metadata->elements) {
                continue;
            }

            /*
             * whether that address is one; the address itself is tested
             * elsewhere
             */

            return;
        }

        vaani_fuzz_check(owner != VAANI_TOPOLOGY_NONE);
        found = &t->nodes[owner];

        if (node->elements > 2 && node->element[2]->len > 0
            && found->id[0] != '\0')
        {
            vaani_fuzz_check(strcmp(found->id, node->element[2]->str) == 0);

        } else {
            vaani_fuzz_check(found->port == node->element[1]->integer);
        }

        return;
    }

    vaani_fuzz_check(owner == VAANI_TOPOLOGY_NONE);
}


/*
 * A redirect that is printed again is the same text, with brackets or without.
 */

static void
fuzz_redirect(const char *text, size_t len)
{
    char               again[VAANI_TOPOLOGY_HOST_SIZE + 64];
    char               brackets[VAANI_TOPOLOGY_HOST_SIZE + 64];
    const char        *kind;
    vaani_redirect_t   r;

    if (vaani_redirect_read(text, len, &r) != VAANI_OK) {
        return;
    }

    kind = (r.kind == VAANI_REDIRECT_ASK) ? "ASK" : "MOVED";

    vaani_fuzz_check(r.slot < VAANI_SLOTS);
    vaani_fuzz_check(!r.unknown || r.host[0] == '\0');
    fuzz_port(r.port);

    if (r.host[0] != '\0') {
        fuzz_host(r.host);
    }

    sprintf(again, "%s %u %s:%u", kind, r.slot, r.unknown ? "?" : r.host,
            r.port);
    sprintf(brackets, "%s %u [%s]:%u", kind, r.slot, r.host, r.port);

    vaani_fuzz_check(fuzz_is(text, len, again)
                     || (r.host[0] != '\0' && fuzz_is(text, len, brackets)));
}


static void
fuzz_role(const redisReply *reply)
{
    vaani_role_t  role;

    if (vaani_role_read(reply, &role) != VAANI_OK) {
        return;
    }

    if (role.kind == VAANI_ROLE_REPLICA) {
        fuzz_host(role.host);
        fuzz_port(role.port);
        return;
    }

    vaani_fuzz_check(role.kind == VAANI_ROLE_MASTER
                     || (role.kind == VAANI_ROLE_SENTINEL
                         && reply->type == REDIS_REPLY_ARRAY));
    vaani_fuzz_check(role.host[0] == '\0');
    vaani_fuzz_check(role.port == 0);
    vaani_fuzz_check(!role.link_up);
}


static void
fuzz_sentinel(const redisReply *reply)
{
    int       rc;
    char      host[VAANI_TOPOLOGY_HOST_SIZE];
    unsigned  port;

    rc = vaani_sentinel_read(reply, host, &port);

    vaani_fuzz_check((rc == VAANI_DONE) == (reply->type == REDIS_REPLY_NIL));

    if (rc == VAANI_OK) {
        fuzz_host(host);
        fuzz_port(port);
    }
}


static void
fuzz_switch(const char *text, size_t len)
{
    char            *again;
    unsigned         n, same;
    vaani_switch_t   s;

    if (vaani_switch_read(text, len, &s) != VAANI_OK) {
        return;
    }

    vaani_fuzz_check((const char *) s.name.data == text);
    vaani_fuzz_check(s.name.len > 0 && s.name.len < len);

    fuzz_host(s.old_host);
    fuzz_host(s.host);
    fuzz_port(s.old_port);
    fuzz_port(s.port);

    /* each of the hosts may have brackets */

    again = vaani_test_malloc(len + 64);
    same = 0;

    for (n = 0; n < 4; n++) {
        snprintf(again, len + 64, " %s%s%s %u %s%s%s %u",
                 (n & 1) ? "[" : "", s.old_host, (n & 1) ? "]" : "",
                 s.old_port, (n & 2) ? "[" : "", s.host, (n & 2) ? "]" : "",
                 s.port);

        same |= fuzz_is(text + s.name.len, len - s.name.len, again);
    }

    vaani_fuzz_check(same);
    free(again);
}


static void
fuzz_host(const char *host)
{
    size_t  n;

    vaani_fuzz_check(memchr(host, '\0', VAANI_TOPOLOGY_HOST_SIZE) != NULL);
    vaani_fuzz_check(host[0] != '\0');

    for (n = 0; host[n] != '\0'; n++) {
        vaani_fuzz_check(host[n] > ' ' && host[n] < 0x7f);
    }
}


static void
fuzz_port(unsigned port)
{
    vaani_fuzz_check(port >= 1 && port <= 65535);
}


static int
fuzz_is(const char *text, size_t len, const char *expected)
{
    return strlen(expected) == len && memcmp(text, expected, len) == 0;
}
