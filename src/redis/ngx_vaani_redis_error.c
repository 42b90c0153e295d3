
/*
 * Error replies: classifies, counts and logs them.
 */


#include "ngx_vaani_redis_node.h"


/* the period of the line for the same error reply, ms */

#define NGX_VAANI_REDIS_COMPLAIN_EVERY  10000

/* the maximum logged length of an unknown error, bytes */

#define NGX_VAANI_REDIS_MAX_ERROR       128


static ngx_uint_t ngx_vaani_redis_begins_any(u_char *text, u_char *last,
    ngx_str_t *with);
static ngx_uint_t ngx_vaani_redis_begins(u_char *text, u_char *last,
    ngx_str_t *with);
static u_char *ngx_vaani_redis_find_code(u_char *text, u_char *last);


/*
 * The error codes of https://redis.io/docs/latest/develop/reference/
 * protocol-spec/#simple-errors that a script can get.  A text that is not
 * listed may come from a proxy or a managed service: it is not treated as
 * permanent, and does not affect other commands.
 */

static const ngx_vaani_redis_error_t  ngx_vaani_redis_errors[] = {

    { ngx_string("NOSCRIPT"), NGX_VAANI_REDIS_RELOAD,
      "the script cache was flushed" },

    { ngx_string("LOADING"), NGX_VAANI_REDIS_WAIT,
      "it is loading its data set; wait until it has finished" },

    { ngx_string("BUSY"), NGX_VAANI_REDIS_WAIT,
      "a script has been running for too long; see SCRIPT KILL" },

    { ngx_string("OOM"), NGX_VAANI_REDIS_WAIT,
      "it is out of memory; raise maxmemory or allow eviction" },

    { ngx_string("MISCONF"), NGX_VAANI_REDIS_WAIT,
      "it cannot persist to disk; see its log" },

    { ngx_string("NOREPLICAS"), NGX_VAANI_REDIS_WAIT,
      "fewer replicas are connected than min-replicas-to-write" },

    { ngx_string("CLUSTERDOWN"), NGX_VAANI_REDIS_CLUSTER_DOWN,
      "the cluster is down; see CLUSTER INFO" },

    { ngx_string("TRYAGAIN"), NGX_VAANI_REDIS_TRY_AGAIN,
      "a cluster slot is being migrated" },

    { ngx_string("MOVED"), NGX_VAANI_REDIS_MOVED,
      "it is a cluster node; add \"cluster\" to \"vaani_redis\"" },

    { ngx_string("ASK"), NGX_VAANI_REDIS_ASK,
      "it is a cluster node; add \"cluster\" to \"vaani_redis\"" },

    { ngx_string("NOPERM"), NGX_VAANI_REDIS_DEFER,
      "the user's ACL does not allow the commands, keys or channels" },

    { ngx_string("MASTERDOWN"), NGX_VAANI_REDIS_RECONNECT,
      "it is a replica without a link to its master" },

    { ngx_string("READONLY"), NGX_VAANI_REDIS_RECONNECT,
      "it is a replica; set its master in \"vaani_redis\"" },

    { ngx_string("NOAUTH"), NGX_VAANI_REDIS_RECONNECT,
      "it requires a password; set one in \"vaani_redis\" or in "
      "\"vaani_redis_password_file\"" },

    { ngx_string("WRONGPASS"), NGX_VAANI_REDIS_RECONNECT,
      "the user or the password is wrong" },

    { ngx_string("WRONGTYPE"), NGX_VAANI_REDIS_GIVE_UP,
      "the key has an unexpected type" },

    { ngx_string("ERR value is not an integer"), NGX_VAANI_REDIS_GIVE_UP,
      "a hash field has an unexpected value" },

    { ngx_string("ERR hash value is not an integer"), NGX_VAANI_REDIS_GIVE_UP,
      "a hash field has an unexpected value" },

    /* see ngx_vaani_redis_script_errors */

    { ngx_string("SCRIPT"), NGX_VAANI_REDIS_GIVE_UP,
      "the script failed; the hash may have unexpected values" },

    { ngx_null_string, NGX_VAANI_REDIS_DEFER, NULL }
};


/* kinds that are not replies, after the table of codes */

static ngx_str_t  ngx_vaani_redis_failures[] = {
    ngx_string("other"),
    ngx_string("connect"),
    ngx_string("lost"),
    ngx_string("timeout"),
    ngx_null_string
};


/* the equivalent of NOPERM outside scripts */

static ngx_str_t  ngx_vaani_redis_acl_errors[] = {

    /* Redis before 7.2; before 7.0 without "ERR " */

    ngx_string("ERR The user executing the script can't"),
    ngx_string("The user executing the script can't"),

    /* Redis 7.2 and newer, Valkey */

    ngx_string("ERR ACL failure in script"),

    ngx_null_string
};


/*
 * Lua's message about an error in the script, or a value of the wrong type:
 * "ERR user_script:12: attempt to ..."; before Redis 7.0 it follows "ERR Error
 * running script (call to f_...): @user_script:12: ".
 */

static ngx_str_t  ngx_vaani_redis_script_errors[] = {
    ngx_string("ERR user_script:"),
    ngx_string("user_script:"),
    ngx_null_string
};


/* otherwise the build fails */

typedef char  ngx_vaani_redis_check_other[
    sizeof(ngx_vaani_redis_errors) / sizeof(ngx_vaani_redis_errors[0])
    == NGX_VAANI_REDIS_OTHER + 1 ? 1 : -1];


const ngx_vaani_redis_error_t *
ngx_vaani_redis_error(u_char *text, size_t len)
{
    u_char                         *code, *last;
    ngx_str_t                       str;
    ngx_uint_t                      wrapped;
    const ngx_vaani_redis_error_t  *error;

    static u_char     noauth[] = "NOAUTH";
    static u_char     noperm[] = "NOPERM";
    static u_char     script[] = "SCRIPT";
    static ngx_str_t  wrapper = ngx_string("ERR Error running script");

    /* to a script of more than 16 KiB from an unauthenticated client */

    static ngx_str_t  unauthenticated =
        ngx_string("ERR Protocol error: unauthenticated");

    last = text + len;

    /*
     * Redis before 7.0 wraps the error of a command inside a script: "ERR
     * Error running script (call to f_...): @user_script:1: @user_script: 1:
     * -READONLY You can't write ..."
     *
     * Other texts are not searched, because they may quote arguments, which a
     * sender controls.
     */

    wrapped = ngx_vaani_redis_begins(text, last, &wrapper);

    for (code = text;
         code != NULL;
         code = wrapped ? ngx_vaani_redis_find_code(code, last) : NULL)
    {
        if (ngx_vaani_redis_begins(code, last, &unauthenticated)) {
            code = noauth;
            last = noauth + sizeof(noauth) - 1;

        } else if (ngx_vaani_redis_begins_any(code, last,
                                              ngx_vaani_redis_acl_errors))
        {
            code = noperm;
            last = noperm + sizeof(noperm) - 1;

        } else if (ngx_vaani_redis_begins_any(code, last,
                                              ngx_vaani_redis_script_errors))
        {
            code = script;
            last = script + sizeof(script) - 1;
        }

        for (error = ngx_vaani_redis_errors; error->code.len; error++) {

            str = error->code;

            if ((size_t) (last - code) >= str.len
                && ngx_strncmp(code, str.data, str.len) == 0
                && (code + str.len == last || code[str.len] == ' '))
            {
                return error;
            }
        }
    }

    return &ngx_vaani_redis_errors[NGX_VAANI_REDIS_OTHER];
}


ngx_uint_t
ngx_vaani_redis_is_refused_by_acl(redisReply *reply)
{
    const ngx_vaani_redis_error_t  *error;

    static ngx_str_t  noperm = ngx_string("NOPERM");

    if (reply->type != REDIS_REPLY_ERROR) {
        return 0;
    }

    error = ngx_vaani_redis_error((u_char *) reply->str, reply->len);

    return error->code.len == noperm.len
           && ngx_strncmp(error->code.data, noperm.data, noperm.len) == 0;
}


const ngx_str_t *
ngx_vaani_redis_error_name(ngx_uint_t n)
{
    if (n < NGX_VAANI_REDIS_OTHER) {
        return &ngx_vaani_redis_errors[n].code;
    }

    n -= NGX_VAANI_REDIS_OTHER;

    return ngx_vaani_redis_failures[n].len ? &ngx_vaani_redis_failures[n]
                                           : NULL;
}


static ngx_uint_t
ngx_vaani_redis_begins_any(u_char *text, u_char *last, ngx_str_t *with)
{
    for ( /* void */ ; with->len; with++) {
        if (ngx_vaani_redis_begins(text, last, with)) {
            return 1;
        }
    }

    return 0;
}


static ngx_uint_t
ngx_vaani_redis_begins(u_char *text, u_char *last, ngx_str_t *with)
{
    return (size_t) (last - text) >= with->len
           && ngx_strncmp(text, with->data, with->len) == 0;
}


static u_char *
ngx_vaani_redis_find_code(u_char *text, u_char *last)
{
    u_char  *p;

    for (p = text; last - p > 3; p++) {

        if (p[0] == ':' && p[1] == ' ') {
            return (p[2] == '-') ? p + 3 : p + 2;
        }
    }

    return NULL;
}


/*
 * Logs one line per problem, and again once per period while it lasts.
 */

void
ngx_vaani_redis_log_error(ngx_vaani_redis_conn_t *conn,
    const ngx_vaani_redis_error_t *error, redisReply *reply)
{
    char       *advice;
    uint64_t    skipped;
    ngx_str_t   text;

    static ngx_str_t  unknown = ngx_string("ERR unknown command");

    ngx_vaani_redis_stats_error(conn, error - ngx_vaani_redis_errors,
                                &error->code, 0,
                                error->advice ? error->advice
                                              : "unknown error; see the error "
                                                "log");

    if (error != conn->error) {
        ngx_memzero(&conn->pace, sizeof(vaani_pace_t));
        conn->error = error;
    }

    if (!vaani_pace(&conn->pace, ngx_current_msec,
                    NGX_VAANI_REDIS_COMPLAIN_EVERY, &skipped))
    {
        return;
    }

    text = error->code;
    advice = error->advice;

    if (conn->watch
        && conn->watch->password == &conn->redis->sentinel_password
        && ngx_strncmp(text.data, "NOAUTH", sizeof("NOAUTH") - 1) == 0)
    {
        advice = "the Sentinel requires a password; see "
                 "\"vaani_redis_sentinel_password_file\"";
    }

    if (advice == NULL) {
        text.data = (u_char *) reply->str;
        text.len = ngx_min(reply->len, NGX_VAANI_REDIS_MAX_ERROR);

        advice = (conn->state == NGX_VAANI_REDIS_READY)
                 ? "the event is not applied for now"
                 : "connection setup failed";

        /* the error continues with the arguments, for example of AUTH */

        if (text.len > unknown.len
            && ngx_strncmp(text.data, unknown.data, unknown.len) == 0)
        {
            text = unknown;
        }
    }

    if (skipped) {
        ngx_log_error(NGX_LOG_ERR, &conn->log, 0,
                      "vaani: %V answered \"%V\" %uL more times: %s",
                      &conn->node->url.name, &text, skipped + 1, advice);

    } else {
        ngx_log_error(NGX_LOG_ERR, &conn->log, 0,
                      "vaani: %V answered \"%V\": %s",
                      &conn->node->url.name, &text, advice);
    }
}
