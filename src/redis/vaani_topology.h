
/*
 * Replies of Redis Cluster: which node is responsible for a slot.  No nginx
 * types, so that unit tests and fuzzers link it alone.
 */


#ifndef _VAANI_TOPOLOGY_H_INCLUDED_
#define _VAANI_TOPOLOGY_H_INCLUDED_


#include "../core/vaani_slot.h"
#include "vaani_endpoint.h"


#define VAANI_TOPOLOGY_MAX_NODES   1024

/* index of no node */

#define VAANI_TOPOLOGY_NONE        0xffff

/* of an id, with the terminating null byte */

#define VAANI_TOPOLOGY_ID_SIZE     41


typedef struct {
    char                   id[VAANI_TOPOLOGY_ID_SIZE];      /* "": unknown */
    char                   host[VAANI_TOPOLOGY_HOST_SIZE];  /* a name or an
                                           address, IPv6 without brackets */
    unsigned               port;        /* 1 to 65535 */
    unsigned               nslots;      /* 0 for a replica */
    uint16_t               master_index;    /* of a master: its own; of a
                                           replica whose master has no known
                                           address: VAANI_TOPOLOGY_NONE */
    unsigned               master:1;
} vaani_topology_node_t;


typedef struct {
    vaani_topology_node_t  *nodes;      /* each one once */
    unsigned                nnodes;
    unsigned                nalloc;
    uint16_t                slots[VAANI_SLOTS];     /* index of the master, or
                                           VAANI_TOPOLOGY_NONE */
} vaani_topology_t;


/*
 * Reads the reply to CLUSTER SLOTS, of Redis 3.0 and newer.  An empty array is
 * a cluster whose slots are not assigned.  asked_host is the host that the
 * command was sent to; it is copied to nodes whose host is empty or null.  If
 * ranges overlap, the first one stands.
 *
 * A node has no known address if its port is 0 (Redis forgets the address of a
 * node when another one answers there), if its host is "?" and its metadata has
 * neither "hostname" nor "ip", or if its host is empty and asked_host is, too.
 * Such a node is skipped, and its slots have VAANI_TOPOLOGY_NONE.
 *
 * What was in *t is overwritten and not freed.  The caller owns *t, and frees
 * its nodes by vaani_topology_free(); after an error, *t is empty and there is
 * nothing to free.  Nothing in *t points into the reply.
 *
 * Returns VAANI_OK; VAANI_ERROR or VAANI_NOMEM, with a static text in *why that
 * says what is wrong.
 *
 * https://redis.io/docs/latest/commands/cluster-slots/
 */
int vaani_topology_read(vaani_topology_t *t, const redisReply *reply,
    const char *asked_host, const char **why);

/*
 * Frees the nodes.  *t is empty then, as after a read of an empty array, and
 * may be freed again.  *t must have been read or zeroed before.
 */
void vaani_topology_free(vaani_topology_t *t);


typedef enum {
    VAANI_REDIRECT_MOVED = 0,
    VAANI_REDIRECT_ASK
} vaani_redirect_e;


typedef struct {
    vaani_redirect_e       kind;
    unsigned               slot;
    unsigned               port;
    unsigned               unknown:1;   /* the host was "?", host is "" */
    char                   host[VAANI_TOPOLOGY_HOST_SIZE];  /* without brackets;
                                           "": the one that was asked */
} vaani_redirect_t;


/*
 * Reads the text of an error reply, without the "-": "MOVED 3999
 * 127.0.0.1:6381" or "ASK ...".  The port is what follows the last colon, so
 * IPv6 addresses may have brackets or not.
 *
 * Returns VAANI_OK; VAANI_ERROR: it is another text, *r is undefined.
 *
 * https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/
 * ("Redirection and resharding")
 */
int vaani_redirect_read(const char *text, size_t len, vaani_redirect_t *r);


#endif /* _VAANI_TOPOLOGY_H_INCLUDED_ */
