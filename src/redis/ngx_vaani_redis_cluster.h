
/*
 * The state of a cluster in one worker: private to the files of the cluster.
 */


#ifndef _NGX_VAANI_REDIS_CLUSTER_H_INCLUDED_
#define _NGX_VAANI_REDIS_CLUSTER_H_INCLUDED_


#include "ngx_vaani_redis_node.h"
#include "vaani_topology.h"


#define NGX_VAANI_REDIS_NO_OWNER        0xffff

/* the maximum number of redirects and parkings of a command */

#define NGX_VAANI_REDIS_MAX_HOPS        8

/* and the maximum number of parkings while the cluster is down */

#define NGX_VAANI_REDIS_DOWN_HOPS       3

/* the period of retries of parked commands, ms */

#define NGX_VAANI_REDIS_PARKED          50


typedef struct {
    ngx_vaani_redis_t          *redis;
    ngx_log_t                  *log;

    uint16_t                    owners[VAANI_SLOTS];    /* numbers of nodes */
    ngx_msec_t                  changed;        /* when an owner last did */
    ngx_uint_t                  nowned;         /* slots that have an owner */
    ngx_uint_t                  nleaving;       /* nodes */
    ngx_msec_t                  waited;         /* when a command last waited in
                                                   vain, 0: never */

    /* parked commands, which belong to no connection */

    ngx_queue_t                 parked;
    ngx_uint_t                  nparked;
    size_t                      nbytes;
    ngx_event_t                 timer;          /* for them */

    /* the fetching of the table */

    ngx_vaani_redis_watch_t     watch;
    vaani_topology_t            table;
    ngx_event_t                 refresh;
    ngx_msec_t                  done;           /* when it was last fetched */
    ngx_msec_t                  flipped;        /* when another one came */
    ngx_msec_t                  backoff;
    ngx_uint_t                  candidate;      /* the node that is asked */
    ngx_uint_t                  ntried;         /* in this round */
    ngx_uint_t                  nrounds;        /* without table, in a row */
    vaani_pace_t                complained;
    vaani_pace_t                crowded;
    unsigned                    known:1;        /* there is a table */
    unsigned                    asking:1;
    unsigned                    again:1;        /* when that is finished */
    unsigned                    replaced:1;     /* a node, by another node */
    unsigned                    rotate:1;       /* ask another node */
    unsigned                    failing:1;      /* the asked server says so */
    unsigned                    down:1;         /* the table's source said so */
    unsigned                    last_resort:1;  /* ask servers in doubt too */
} ngx_vaani_redis_cluster_t;


/*
 * ngx_vaani_redis_cluster.c
 */

/* health that needs all servers, see ngx_vaani_redis_get_health() */
void ngx_vaani_redis_cluster_health(ngx_vaani_redis_cluster_t *cluster,
    ngx_vaani_redis_health_t *health);

/* the owner of a slot, see ngx_vaani_redis_server() */
ngx_uint_t ngx_vaani_redis_cluster_server(ngx_vaani_redis_t *redis,
    ngx_uint_t slot);

/* a command waits for an owner of its slot; see ngx_vaani_redis_send() */
ngx_vaani_redis_status_e ngx_vaani_redis_cluster_wait(ngx_vaani_redis_t *redis,
    ngx_vaani_redis_cmd_t *cmd);


/*
 * ngx_vaani_redis_cluster_table.c: fetches the table
 */

void ngx_vaani_redis_cluster_table_init(ngx_vaani_redis_cluster_t *cluster);
void ngx_vaani_redis_cluster_table_exit(ngx_vaani_redis_cluster_t *cluster);

/*
 * Requests a new table, because the current one may be out of date.  Several
 * requests cause one fetch. trouble: ask another node than the last time.
 */
void ngx_vaani_redis_cluster_refresh(ngx_vaani_redis_cluster_t *cluster,
    ngx_uint_t trouble);


/*
 * ngx_vaani_redis_cluster_slots.c: the owners of slots
 */

/*
 * Makes a table the current one; cluster->table is still the previous one.
 * Returns whether the owner of a slot changed.
 */
ngx_uint_t ngx_vaani_redis_cluster_apply(ngx_vaani_redis_cluster_t *cluster,
    vaani_topology_t *table);

/* takes epochs of nodes from the reply to CLUSTER NODES */
void ngx_vaani_redis_cluster_epochs(ngx_vaani_redis_cluster_t *cluster,
    u_char *text, size_t len);


/*
 * ngx_vaani_redis_cluster_nodes.c: adds and removes nodes
 */

/* adds a node and connects to it; NULL if there are too many, or no memory */
ngx_vaani_redis_node_t *ngx_vaani_redis_cluster_add(
    ngx_vaani_redis_cluster_t *cluster, const char *host, in_port_t port);

/*
 * Returns the node at an address.  If it is not in the table, connects to it;
 * NULL if there are too many such nodes.
 */
ngx_vaani_redis_node_t *ngx_vaani_redis_cluster_guest(
    ngx_vaani_redis_cluster_t *cluster, const char *host, in_port_t port);

/*
 * Removes a node that is no longer needed: its waiting commands are parked,
 * those in progress may finish.  The latter function removes all guests whose
 * time is over.
 */
void ngx_vaani_redis_cluster_leave(ngx_vaani_redis_cluster_t *cluster,
    ngx_vaani_redis_node_t *node);
void ngx_vaani_redis_cluster_check_guests(ngx_vaani_redis_cluster_t *cluster);

/* frees removed nodes that have no commands left */
void ngx_vaani_redis_cluster_free_idle(ngx_vaani_redis_cluster_t *cluster);


/*
 * ngx_vaani_redis_cluster_park.c: commands that belong to no connection
 */

/* parks a command and keeps its deadline */
void ngx_vaani_redis_cluster_park(ngx_vaani_redis_cluster_t *cluster,
    ngx_vaani_redis_cmd_t *cmd);

/* the same for a sent command that belongs to no connection; counts a hop */
void ngx_vaani_redis_cluster_park_again(ngx_vaani_redis_cluster_t *cluster,
    ngx_vaani_redis_cmd_t *cmd);

/*
 * parks the waiting commands of a connection, except those with too many hops
 */
void ngx_vaani_redis_cluster_park_waiting(ngx_vaani_redis_conn_t *conn);

/* processes parked commands after so many ms, or immediately if 0 */
void ngx_vaani_redis_cluster_wake(ngx_vaani_redis_cluster_t *cluster,
    ngx_msec_t after);

/* sends parked commands to the owners of their slots, or ends them */
void ngx_vaani_redis_cluster_unpark(ngx_vaani_redis_cluster_t *cluster);


#endif /* _NGX_VAANI_REDIS_CLUSTER_H_INCLUDED_ */
