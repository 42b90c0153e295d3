
/*
 * A cluster as one worker knows it: private to the files of it.
 */


#ifndef _NGX_VAANI_REDIS_CLUSTER_H_INCLUDED_
#define _NGX_VAANI_REDIS_CLUSTER_H_INCLUDED_


#include "ngx_vaani_redis_node.h"
#include "vaani_topology.h"


#define NGX_VAANI_REDIS_NO_OWNER        0xffff

/* how often a command is redirected or parked */

#define NGX_VAANI_REDIS_MAX_HOPS        8

/* and how often it's parked for a cluster that is down */

#define NGX_VAANI_REDIS_DOWN_HOPS       3

/* when parked commands are tried again, ms */

#define NGX_VAANI_REDIS_PARKED          50


typedef struct {
    ngx_vaani_redis_t          *redis;
    ngx_log_t                  *log;

    uint16_t                    owners[VAANI_SLOTS];    /* numbers of nodes */
    ngx_msec_t                  changed;        /* when one of these did */
    ngx_uint_t                  nowned;         /* slots that have an owner */
    ngx_uint_t                  nleaving;       /* nodes */
    ngx_msec_t                  waited;         /* when a command had waited
                                                   for nothing, 0: never */

    /* commands that belong to no connection for now */

    ngx_queue_t                 parked;
    ngx_uint_t                  nparked;
    size_t                      nbytes;
    ngx_event_t                 timer;          /* for them */

    /* where the table comes from */

    ngx_vaani_redis_watch_t     watch;
    vaani_topology_t            table;
    ngx_event_t                 refresh;
    ngx_msec_t                  done;           /* when it was the last time */
    ngx_msec_t                  flipped;        /* when it was another one */
    ngx_msec_t                  backoff;
    ngx_uint_t                  candidate;      /* who is asked, see there */
    ngx_uint_t                  ntried;         /* in this round */
    ngx_uint_t                  nrounds;        /* latest ones without table */
    vaani_pace_t                complained;
    vaani_pace_t                crowded;
    unsigned                    known:1;        /* there is a table */
    unsigned                    asking:1;
    unsigned                    again:1;        /* when that is done */
    unsigned                    replaced:1;     /* a node, by another one */
    unsigned                    rotate:1;       /* ask another node */
    unsigned                    failing:1;      /* says who was asked */
    unsigned                    down:1;         /* said all, at the last time */
    unsigned                    last_resort:1;  /* who else is there */
} ngx_vaani_redis_cluster_t;


/*
 * ngx_vaani_redis_cluster.c
 */

/* what servers don't say alone, see ngx_vaani_redis_get_health() */
void ngx_vaani_redis_cluster_health(ngx_vaani_redis_cluster_t *cluster,
    ngx_vaani_redis_health_t *health);

/* who serves a slot, see ngx_vaani_redis_server() */
ngx_uint_t ngx_vaani_redis_cluster_server(ngx_vaani_redis_t *redis,
    ngx_uint_t slot);

/* a command waits for an owner of its slot; see ngx_vaani_redis_send() */
ngx_vaani_redis_status_e ngx_vaani_redis_cluster_wait(ngx_vaani_redis_t *redis,
    ngx_vaani_redis_cmd_t *cmd);


/*
 * ngx_vaani_redis_cluster_table.c: where the table comes from
 */

void ngx_vaani_redis_cluster_table_init(ngx_vaani_redis_cluster_t *cluster);
void ngx_vaani_redis_cluster_table_exit(ngx_vaani_redis_cluster_t *cluster);

/*
 * The table may be out of date.  It's fetched soon, once for all that say so;
 * trouble: from another node than the last time.
 */
void ngx_vaani_redis_cluster_refresh(ngx_vaani_redis_cluster_t *cluster,
    ngx_uint_t trouble);


/*
 * ngx_vaani_redis_cluster_slots.c: who owns which slot
 */

/*
 * Makes a table the valid one; cluster->table is still the one before.  Returns
 * whether a slot got another owner.
 */
ngx_uint_t ngx_vaani_redis_cluster_apply(ngx_vaani_redis_cluster_t *cluster,
    vaani_topology_t *table);

/* takes epochs of nodes from the reply to CLUSTER NODES */
void ngx_vaani_redis_cluster_epochs(ngx_vaani_redis_cluster_t *cluster,
    u_char *text, size_t len);


/*
 * ngx_vaani_redis_cluster_nodes.c: nodes come and leave
 */

/* a new node, that is connected to; NULL if there are too many, or no memory */
ngx_vaani_redis_node_t *ngx_vaani_redis_cluster_add(
    ngx_vaani_redis_cluster_t *cluster, const char *host, in_port_t port);

/*
 * The node at a place; one that isn't in the table is connected to, and it is
 * NULL if there are too many of these.
 */
ngx_vaani_redis_node_t *ngx_vaani_redis_cluster_guest(
    ngx_vaani_redis_cluster_t *cluster, const char *host, in_port_t port);

/*
 * A node is not needed any more: commands that wait for it are parked, those
 * under way may be finished.  The latter function is for all guests whose time
 * is over.
 */
void ngx_vaani_redis_cluster_leave(ngx_vaani_redis_cluster_t *cluster,
    ngx_vaani_redis_node_t *node);
void ngx_vaani_redis_cluster_check_guests(ngx_vaani_redis_cluster_t *cluster);

/* frees nodes that have left and have no commands any more */
void ngx_vaani_redis_cluster_free_idle(ngx_vaani_redis_cluster_t *cluster);


/*
 * ngx_vaani_redis_cluster_park.c: commands that belong to no connection for now
 */

/* parks a command, whose deadline stands */
void ngx_vaani_redis_cluster_park(ngx_vaani_redis_cluster_t *cluster,
    ngx_vaani_redis_cmd_t *cmd);

/* one that was sent, and that no connection has any more; it counts a hop */
void ngx_vaani_redis_cluster_park_again(ngx_vaani_redis_cluster_t *cluster,
    ngx_vaani_redis_cmd_t *cmd);

/* takes those that wait from a connection, unless they have too many hops */
void ngx_vaani_redis_cluster_park_waiting(ngx_vaani_redis_conn_t *conn);

/* looks at parked commands after so many ms, or if 0, at once */
void ngx_vaani_redis_cluster_wake(ngx_vaani_redis_cluster_t *cluster,
    ngx_msec_t after);

/* gives parked commands to those who own their slots, or ends them */
void ngx_vaani_redis_cluster_unpark(ngx_vaani_redis_cluster_t *cluster);


#endif /* _NGX_VAANI_REDIS_CLUSTER_H_INCLUDED_ */
