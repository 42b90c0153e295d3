
/*
 * Parked commands of a cluster, which belong to no connection.  They are sent
 * to the owners of their slots a moment later.
 */


#include "ngx_vaani_redis_cluster.h"


static ngx_vaani_redis_status_e ngx_vaani_redis_cluster_owner(
    ngx_vaani_redis_cluster_t *cluster, ngx_vaani_redis_cmd_t *cmd,
    ngx_vaani_redis_conn_t **conn);
static void ngx_vaani_redis_cluster_end(ngx_queue_t *queue,
    ngx_vaani_redis_status_e status);


void
ngx_vaani_redis_cluster_park(ngx_vaani_redis_cluster_t *cluster,
    ngx_vaani_redis_cmd_t *cmd)
{
    ngx_queue_insert_tail(&cluster->parked, &cmd->queue);

    cluster->nparked++;
    cluster->nbytes += cmd->buf.end - cmd->buf.start;

    ngx_vaani_redis_cluster_wake(cluster, NGX_VAANI_REDIS_PARKED);

    /* they delay the exit of a worker, like the commands of a connection */

    cluster->timer.cancelable = 0;
}


void
ngx_vaani_redis_cluster_park_again(ngx_vaani_redis_cluster_t *cluster,
    ngx_vaani_redis_cmd_t *cmd)
{
    cmd->hops++;
    cmd->asking = 0;

    ngx_vaani_redis_cluster_park(cluster, cmd);
}


void
ngx_vaani_redis_cluster_park_waiting(ngx_vaani_redis_conn_t *conn)
{
    ngx_queue_t            *q, *next;
    ngx_vaani_redis_cmd_t  *cmd;

    for (q = ngx_queue_head(&conn->waiting);
         q != ngx_queue_sentinel(&conn->waiting);
         q = next)
    {
        next = ngx_queue_next(q);
        cmd = ngx_queue_data(q, ngx_vaani_redis_cmd_t, queue);

        if (cmd->hops == NGX_VAANI_REDIS_MAX_HOPS) {
            continue;
        }

        ngx_queue_remove(q);

        ngx_vaani_redis_remove_command(conn, cmd);
        ngx_vaani_redis_cluster_park_again(conn->redis->state, cmd);
    }
}


void
ngx_vaani_redis_cluster_wake(ngx_vaani_redis_cluster_t *cluster,
    ngx_msec_t after)
{
    if (after && cluster->timer.timer_set) {
        return;
    }

    ngx_add_timer(&cluster->timer, ngx_max(after, 1));
}


void
ngx_vaani_redis_cluster_unpark(ngx_vaani_redis_cluster_t *cluster)
{
    ngx_uint_t               status;
    ngx_queue_t              parked, ended[NGX_VAANI_REDIS_FULL + 1], *q;
    ngx_vaani_redis_cmd_t   *cmd;
    ngx_vaani_redis_conn_t  *conn;

    for (status = 0; status <= NGX_VAANI_REDIS_FULL; status++) {
        ngx_queue_init(&ended[status]);
    }

    ngx_queue_init(&parked);

    if (!ngx_queue_empty(&cluster->parked)) {
        ngx_queue_add(&parked, &cluster->parked);
        ngx_queue_init(&cluster->parked);
    }

    while (!ngx_queue_empty(&parked)) {
        q = ngx_queue_head(&parked);
        cmd = ngx_queue_data(q, ngx_vaani_redis_cmd_t, queue);

        ngx_queue_remove(q);

        status = ngx_vaani_redis_cluster_owner(cluster, cmd, &conn);

        if (status == NGX_VAANI_REDIS_DONE && conn == NULL) {
            ngx_queue_insert_tail(&cluster->parked, q);
            continue;
        }

        cluster->nparked--;
        cluster->nbytes -= cmd->buf.end - cmd->buf.start;

        if (conn) {
            ngx_vaani_redis_add_command(conn, cmd);

        } else {
            ngx_queue_insert_tail(&ended[status], q);
        }
    }

    if (cluster->nparked || cluster->nleaving) {
        ngx_vaani_redis_cluster_wake(cluster, NGX_VAANI_REDIS_PARKED);
    }

    cluster->timer.cancelable = (cluster->nparked == 0);

    for (status = 0; status <= NGX_VAANI_REDIS_FULL; status++) {
        ngx_vaani_redis_cluster_end(&ended[status], status);
    }
}


/*
 * Finds the connection for a parked command.  Returns NGX_VAANI_REDIS_DONE
 * with *conn set, or to NULL while the command has to wait; or the status with
 * which the command ends after it waited in vain.
 */

static ngx_vaani_redis_status_e
ngx_vaani_redis_cluster_owner(ngx_vaani_redis_cluster_t *cluster,
    ngx_vaani_redis_cmd_t *cmd, ngx_vaani_redis_conn_t **conn)
{
    ngx_uint_t               server;
    ngx_vaani_redis_conn_t  *owner;
    ngx_vaani_redis_node_t  *node;

    *conn = NULL;

    if ((ngx_msec_int_t) (cmd->deadline - ngx_current_msec) <= 0) {
        return NGX_VAANI_REDIS_TIMEOUT;
    }

    if (cluster->asking) {
        return NGX_VAANI_REDIS_DONE;
    }

    server = cluster->owners[cmd->slot];
    node = (server == NGX_VAANI_REDIS_NO_OWNER)
           ? NULL : cluster->redis->nodes[server];

    if (node == NULL) {

        if (cluster->known && cmd->hops++ >= NGX_VAANI_REDIS_DOWN_HOPS) {
            cluster->waited = ngx_current_msec;
            return NGX_VAANI_REDIS_DOWN;
        }

        return cluster->nrounds ? NGX_VAANI_REDIS_DOWN : NGX_VAANI_REDIS_DONE;
    }

    owner = &node->conns[cmd->connection];

    if (!ngx_vaani_redis_conn_up(owner)) {
        return NGX_VAANI_REDIS_DOWN;
    }

    if (!ngx_vaani_redis_has_room(owner, cmd)) {
        return NGX_VAANI_REDIS_FULL;
    }

    *conn = owner;

    return NGX_VAANI_REDIS_DONE;
}


/*
 * The handlers of these commands may call any function of the client.
 */

static void
ngx_vaani_redis_cluster_end(ngx_queue_t *queue,
    ngx_vaani_redis_status_e status)
{
    ngx_queue_t  *q;

    while (!ngx_queue_empty(queue)) {
        q = ngx_queue_head(queue);
        ngx_queue_remove(q);

        ngx_vaani_redis_end(ngx_queue_data(q, ngx_vaani_redis_cmd_t, queue),
                            status, NULL, NGX_VAANI_REDIS_NOBODY);
    }
}
