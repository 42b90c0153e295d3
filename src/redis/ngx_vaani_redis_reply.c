
/*
 * Reads replies with hiredis, within limits, and applies them to the command
 * and the connection.
 */


#include "ngx_vaani_redis_node.h"

#if (NGX_VAANI_SHARED_HIREDIS)
#include <dlfcn.h>
#endif


#if (HIREDIS_MAJOR >= 1)
typedef size_t  ngx_vaani_redis_elements_t;
#else
typedef int  ngx_vaani_redis_elements_t;
#endif


static void *ngx_vaani_redis_create_array(const redisReadTask *task,
    ngx_vaani_redis_elements_t n);
static ngx_uint_t ngx_vaani_redis_is_push(redisReply *reply);
static void ngx_vaani_redis_reply(ngx_vaani_redis_conn_t *conn,
    ngx_vaani_redis_cmd_t *cmd, redisReply *reply);
static void ngx_vaani_redis_error_reply(ngx_vaani_redis_conn_t *conn,
    ngx_vaani_redis_cmd_t *cmd, redisReply *reply);


static redisReplyObjectFunctions  *ngx_vaani_redis_default_functions;
static redisReplyObjectFunctions   ngx_vaani_redis_functions;


ngx_int_t
ngx_vaani_redis_check_hiredis(ngx_conf_t *cf)
{
#if (NGX_VAANI_SHARED_HIREDIS)

    Dl_info      info, own;
    const char  *name;

    if (dladdr((void *) redisReaderCreate, &info) == 0
        || dladdr((void *) ngx_vaani_redis_check_hiredis, &own) == 0
        || info.dli_fbase == own.dli_fbase)
    {
        return NGX_OK;
    }

    name = strrchr(info.dli_fname, '/');
    name = (name == NULL) ? info.dli_fname : name + 1;

    if (ngx_strncmp(name, "libhiredis", sizeof("libhiredis") - 1) != 0) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "vaani: \"%s\" has another hiredis; build "
                      "ngx_http_vaani_module with libhiredis.a",
                      info.dli_fname);
        return NGX_ERROR;
    }

#endif

    return NGX_OK;
}


redisReader *
ngx_vaani_redis_create_reader(ngx_vaani_redis_conn_t *conn)
{
    redisReader  *reader;

    reader = redisReaderCreate();

    if (reader == NULL) {
        return NULL;
    }

    if (ngx_vaani_redis_default_functions == NULL) {
        ngx_vaani_redis_default_functions = reader->fn;
        ngx_vaani_redis_functions = *reader->fn;
        ngx_vaani_redis_functions.createArray = ngx_vaani_redis_create_array;
    }

    reader->fn = &ngx_vaani_redis_functions;
    reader->privdata = conn;

    return reader;
}


/*
 * hiredis allocates as many elements as are announced, and visits each of them
 * when it frees the array: a line of a few bytes can cost seconds.  Tables of
 * a cluster are nested arrays with many elements.  Therefore all elements are
 * counted until the reply is complete.
 */

static void *
ngx_vaani_redis_create_array(const redisReadTask *task,
    ngx_vaani_redis_elements_t n)
{
    ngx_vaani_redis_conn_t *conn = task->privdata;

    size_t  max;

    max = conn->watch ? NGX_VAANI_REDIS_MAX_TABLE
                      : NGX_VAANI_REDIS_MAX_ELEMENTS;

    if (n < 0 || (size_t) n > max - conn->nelements) {
        return NULL;
    }

    conn->nelements += n;

    return ngx_vaani_redis_default_functions->createArray(task, n);
}


/*
 * Returns NGX_DONE if the connection was closed meanwhile.
 */

ngx_int_t
ngx_vaani_redis_read_replies(ngx_vaani_redis_conn_t *conn)
{
    void                   *reply;
    uint64_t                now;
    ngx_uint_t              ncloses;
    ngx_queue_t            *q;
    redisReader            *reader;
    ngx_vaani_redis_cmd_t  *cmd;

    reader = conn->reader;
    ncloses = conn->ncloses;
    now = ngx_vaani_redis_now();

    for ( ;; ) {

        if (redisReaderGetReply(reader, &reply) != REDIS_OK) {
            ngx_vaani_redis_lost(conn, 0, "does not speak the Redis protocol");
            return NGX_DONE;
        }

        if (reply == NULL) {
            break;
        }

        conn->nread = reader->len - reader->pos;
        conn->nelements = 0;

        if (conn->watch && ngx_vaani_redis_is_push(reply)) {
            if (conn->watch->pushed) {
                conn->watch->pushed(conn->watch, reply);
            }

            freeReplyObject(reply);

            if (conn->ncloses != ncloses) {
                return NGX_DONE;
            }

            continue;
        }

        q = ngx_queue_head(&conn->inflight);
        cmd = ngx_queue_data(q, ngx_vaani_redis_cmd_t, queue);

        if (ngx_queue_empty(&conn->inflight)
            || cmd->buf.pos != cmd->buf.last)
        {
            freeReplyObject(reply);
            ngx_vaani_redis_lost(conn, 0, "sent an unexpected reply");
            return NGX_DONE;
        }

        ngx_queue_remove(q);

        if (!cmd->setup) {
            ngx_vaani_redis_stats_round_trip(conn, now - cmd->sent);
        }

        ngx_vaani_redis_reply(conn, cmd, reply);

        freeReplyObject(reply);

        if (conn->ncloses != ncloses) {
            return NGX_DONE;
        }
    }

    if (conn->nread > (conn->watch ? NGX_VAANI_REDIS_MAX_TABLE_SIZE
                                   : NGX_VAANI_REDIS_MAX_REPLY))
    {
        ngx_vaani_redis_lost(conn, 0, "sent a reply that is too long");
        return NGX_DONE;
    }

    return NGX_OK;
}


/*
 * Messages of a subscription can arrive at any time, and are not replies.
 */

static ngx_uint_t
ngx_vaani_redis_is_push(redisReply *reply)
{
    redisReply  *kind;

    if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 3) {
        return 0;
    }

    kind = reply->element[0];

    return kind->type == REDIS_REPLY_STRING
           && kind->len == sizeof("message") - 1
           && ngx_memcmp(kind->str, "message", kind->len) == 0;
}


static void
ngx_vaani_redis_reply(ngx_vaani_redis_conn_t *conn, ngx_vaani_redis_cmd_t *cmd,
    redisReply *reply)
{
    if (cmd->setup) {
        ngx_vaani_redis_setup_reply(conn, cmd, reply);
        return;
    }

    if (reply->type == REDIS_REPLY_ERROR) {
        ngx_vaani_redis_error_reply(conn, cmd, reply);
        return;
    }

    if (cmd->once) {

        /*
         * an answer to these commands does not prove that events are accepted
         */

        ngx_vaani_redis_finish(conn, cmd, NGX_VAANI_REDIS_DONE, reply);
        return;
    }

    if (!conn->proved) {
        conn->proved = 1;
        conn->backoff = 0;
    }

    if (conn->refusing) {
        conn->refusing = 0;

        ngx_log_error(NGX_LOG_NOTICE, &conn->log, 0,
                      "vaani: %V recovered", &conn->node->url.name);
    }

    ngx_vaani_redis_finish(conn, cmd, NGX_VAANI_REDIS_DONE, reply);
}


static void
ngx_vaani_redis_error_reply(ngx_vaani_redis_conn_t *conn,
    ngx_vaani_redis_cmd_t *cmd, redisReply *reply)
{
    const ngx_vaani_redis_error_t  *error;

    error = ngx_vaani_redis_error((u_char *) reply->str, reply->len);

    /*
     * a replica replaces its data by its master's, over existing connections
     */

    if (error->action == NGX_VAANI_REDIS_WAIT
        && ngx_strncmp(reply->str, "LOADING", sizeof("LOADING") - 1) == 0)
    {
        conn->life = ngx_vaani_redis_new_life();
    }

    if (cmd->once) {

        if (error->action == NGX_VAANI_REDIS_RECONNECT) {
            ngx_vaani_redis_log_error(conn, error, reply);
            conn->condemned = 1;
            conn->refusing = 1;
        }

        ngx_vaani_redis_finish(conn, cmd, NGX_VAANI_REDIS_DONE, reply);
        return;
    }

    if (error->action == NGX_VAANI_REDIS_RELOAD
        && ++cmd->strikes < NGX_VAANI_REDIS_MAX_STRIKES)
    {
        if (conn->loading || ngx_vaani_redis_load_script(conn) == NGX_OK) {
            ngx_vaani_redis_queue(conn, cmd);
            return;
        }
    }

    if (error->action != NGX_VAANI_REDIS_GIVE_UP
        && conn->redis->actions
        && conn->redis->actions->refused(conn, cmd, error->action, reply)
           == NGX_OK)
    {
        return;
    }

    ngx_vaani_redis_log_error(conn, error, reply);

    if (error->action == NGX_VAANI_REDIS_GIVE_UP) {
        ngx_vaani_redis_finish(conn, cmd, NGX_VAANI_REDIS_REFUSED, reply);
        return;
    }

    if (error->action == NGX_VAANI_REDIS_DEFER
        || error->action == NGX_VAANI_REDIS_MOVED
        || error->action == NGX_VAANI_REDIS_ASK
        || error->action == NGX_VAANI_REDIS_TRY_AGAIN
        || (error->action == NGX_VAANI_REDIS_CLUSTER_DOWN
            && conn->redis->form == NGX_VAANI_REDIS_CLUSTER))
    {
        ngx_vaani_redis_finish(conn, cmd,
                               error->advice ? NGX_VAANI_REDIS_DEFERRED
                                             : NGX_VAANI_REDIS_UNKNOWN,
                               reply);
        return;
    }

    if (error->action == NGX_VAANI_REDIS_RECONNECT) {
        conn->condemned = 1;
        conn->refusing = 1;
    }

    ngx_vaani_redis_finish(conn, cmd, NGX_VAANI_REDIS_UNAVAILABLE, NULL);
}
