
/*
 * Replies and messages of servers and of Redis Sentinel that tell which server
 * is the master.  No nginx types, so that unit tests and fuzzers link it alone.
 */


#ifndef _VAANI_MASTER_H_INCLUDED_
#define _VAANI_MASTER_H_INCLUDED_


#include "vaani_endpoint.h"


typedef enum {
    VAANI_ROLE_MASTER = 0,
    VAANI_ROLE_REPLICA,
    VAANI_ROLE_SENTINEL
} vaani_role_e;


typedef struct {
    vaani_role_e           kind;

    /* of a replica: its master */

    unsigned               port;
    unsigned               link_up:1;
    char                   host[VAANI_TOPOLOGY_HOST_SIZE];
} vaani_role_t;


/*
 * Reads the reply to ROLE, an array, or to INFO replication, a string.  The
 * link of a replica is up if its state is "connected" or if
 * master_link_status is "up".  If it is not a replica, port, link_up and host
 * are 0 and "".
 *
 * Returns VAANI_OK; VAANI_ERROR: the reply is neither of them, or a replica
 * does not say who its master is; *role is undefined.
 *
 * https://redis.io/docs/latest/commands/role/
 * https://redis.io/docs/latest/commands/info/
 */
int vaani_role_read(const redisReply *reply, vaani_role_t *role);


/*
 * Reads the reply to SENTINEL GET-MASTER-ADDR-BY-NAME.  host has room for
 * VAANI_TOPOLOGY_HOST_SIZE bytes.
 *
 * Returns VAANI_OK; VAANI_DONE: the Sentinel knows no master of that name;
 * VAANI_ERROR: the reply is another one.  *host and *port are undefined unless
 * VAANI_OK is returned.
 *
 * https://redis.io/docs/latest/develop/reference/sentinel-clients/
 */
int vaani_sentinel_read(const redisReply *reply, char *host, unsigned *port);


typedef struct {
    vaani_str_t            name;        /* of the master; it points into the
                                           text */
    unsigned               old_port;
    unsigned               port;
    char                   old_host[VAANI_TOPOLOGY_HOST_SIZE];
    char                   host[VAANI_TOPOLOGY_HOST_SIZE];
} vaani_switch_t;


/*
 * Reads a message of the Sentinel's channel +switch-master: "<name> <old ip>
 * <old port> <new ip> <new port>".
 *
 * Returns VAANI_OK; VAANI_ERROR: it is another text, *s is undefined.
 *
 * https://redis.io/docs/latest/operate/oss_and_stack/management/sentinel/
 * ("Pub/sub messages")
 */
int vaani_switch_read(const char *text, size_t len, vaani_switch_t *s);


#endif /* _VAANI_MASTER_H_INCLUDED_ */
