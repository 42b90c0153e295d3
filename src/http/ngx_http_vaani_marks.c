
#include "ngx_http_vaani.h"


/*
 * The marks of the spool's segments in Redis, see ../spool/ngx_vaani_spool.h.
 * A small script sets a mark only if its current value is the one set last:
 * evidence that Redis has lost data is never overwritten.
 *
 * In a cluster, a hash tag puts the mark of a server into one of its slots.
 */


#define NGX_HTTP_VAANI_MARK_KEY     "vaani:mark:"

#define NGX_HTTP_VAANI_MARK_LEN     (sizeof(NGX_HTTP_VAANI_MARK_KEY) - 1      \
                                     + sizeof("{}:") - 1 + VAANI_SLOT_TAG_LEN \
                                     + NGX_VAANI_SPOOL_ID_LEN)


static ngx_str_t  ngx_http_vaani_mark_script = ngx_string(
    "local was = redis.call('GET', KEYS[1]) or '' "
    "if was ~= ARGV[1] then return was end "
    "redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) "
    "return ARGV[2]");


static ngx_uint_t ngx_http_vaani_life(void *data, ngx_uint_t connection);
static ngx_uint_t ngx_http_vaani_nservers(void *data);
static ngx_uint_t ngx_http_vaani_server(void *data, ngx_uint_t slot);
static const u_char *ngx_http_vaani_scope(void *data, ngx_uint_t server);
static ngx_msec_t ngx_http_vaani_settled(void *data);
static ngx_int_t ngx_http_vaani_slot(const u_char *record, size_t len);
static ngx_int_t ngx_http_vaani_read_mark(void *data,
    ngx_vaani_spool_mark_t *mark);
static ngx_int_t ngx_http_vaani_set_mark(void *data,
    ngx_vaani_spool_mark_t *mark, ngx_msec_t ttl);
static void ngx_http_vaani_mark_key(ngx_vaani_redis_t *redis, u_char *dst,
    ngx_vaani_spool_mark_t *mark, ngx_str_t *key);
static void ngx_http_vaani_mark_handler(void *data,
    ngx_vaani_redis_status_e status, redisReply *reply, ngx_uint_t lane);


ngx_vaani_spool_receiver_t  ngx_http_vaani_receiver = {
    ngx_http_vaani_replay,
    ngx_http_vaani_life,
    ngx_http_vaani_read_mark,
    ngx_http_vaani_set_mark,
    ngx_http_vaani_random,
    ngx_http_vaani_nservers,
    ngx_http_vaani_server,
    ngx_http_vaani_scope,
    ngx_http_vaani_settled,
    ngx_http_vaani_slot
};


static ngx_uint_t
ngx_http_vaani_life(void *data, ngx_uint_t connection)
{
    return ngx_vaani_redis_life(data, connection);
}


static ngx_uint_t
ngx_http_vaani_nservers(void *data)
{
    return ngx_vaani_redis_nservers(data);
}


static ngx_uint_t
ngx_http_vaani_server(void *data, ngx_uint_t slot)
{
    return ngx_vaani_redis_server(data, slot);
}


static const u_char *
ngx_http_vaani_scope(void *data, ngx_uint_t server)
{
    return ngx_vaani_redis_scope(data, server);
}


static ngx_msec_t
ngx_http_vaani_settled(void *data)
{
    return ngx_vaani_redis_settled(data);
}


static ngx_int_t
ngx_http_vaani_slot(const u_char *record, size_t len)
{
    vaani_str_t  key;

    if (vaani_record_key(&key, record, len) != VAANI_OK) {
        return NGX_ERROR;
    }

    return vaani_slot(key.data, key.len);
}


static ngx_int_t
ngx_http_vaani_read_mark(void *data, ngx_vaani_spool_mark_t *mark)
{
    u_char     key[NGX_HTTP_VAANI_MARK_LEN];
    ngx_str_t  args[2];

    ngx_str_set(&args[0], "GET");
    ngx_http_vaani_mark_key(data, key, mark, &args[1]);

    return ngx_vaani_redis_once(data, mark->connection, mark->life, args, 2,
                                ngx_http_vaani_mark_handler, mark);
}


static ngx_int_t
ngx_http_vaani_set_mark(void *data, ngx_vaani_spool_mark_t *mark,
    ngx_msec_t ttl)
{
    u_char     key[NGX_HTTP_VAANI_MARK_LEN], expiry[NGX_INT_T_LEN];
    ngx_str_t  args[7];

    ngx_str_set(&args[0], "EVAL");
    args[1] = ngx_http_vaani_mark_script;
    ngx_str_set(&args[2], "1");
    ngx_http_vaani_mark_key(data, key, mark, &args[3]);

    args[4].data = mark->value;
    args[4].len = mark->len;

    args[5].data = mark->wanted;
    args[5].len = mark->wanted_len;

    args[6].data = expiry;
    args[6].len = ngx_sprintf(expiry, "%M", ttl) - expiry;

    return ngx_vaani_redis_once(data, mark->connection, mark->life, args, 7,
                                ngx_http_vaani_mark_handler, mark);
}


static void
ngx_http_vaani_mark_key(ngx_vaani_redis_t *redis, u_char *dst,
    ngx_vaani_spool_mark_t *mark, ngx_str_t *key)
{
    u_char  *p;

    p = ngx_cpymem(dst, NGX_HTTP_VAANI_MARK_KEY,
                   sizeof(NGX_HTTP_VAANI_MARK_KEY) - 1);

    if (mark->scoped) {
        *p++ = '{';
        p += ngx_vaani_redis_tag(redis, mark->connection / redis->nconnections,
                                 p);
        *p++ = '}';
        *p++ = ':';
    }

    p = ngx_cpymem(p, mark->id, NGX_VAANI_SPOOL_ID_LEN);

    key->data = dst;
    key->len = p - dst;
}


static void
ngx_http_vaani_mark_handler(void *data, ngx_vaani_redis_status_e status,
    redisReply *reply, ngx_uint_t lane)
{
    ngx_vaani_spool_mark_t *mark = data;

    ngx_int_t  rc;

    rc = NGX_AGAIN;

    if (status == NGX_VAANI_REDIS_DONE) {

        switch (reply->type) {

        case REDIS_REPLY_NIL:
            ngx_vaani_spool_marked(mark, NGX_OK, NULL, 0);
            return;

        case REDIS_REPLY_STRING:
            ngx_vaani_spool_marked(mark, NGX_OK, (u_char *) reply->str,
                                   reply->len);
            return;

        case REDIS_REPLY_ERROR:

            if (ngx_vaani_redis_is_refused_by_acl(reply)) {
                rc = NGX_DECLINED;
            }

            break;
        }
    }

    ngx_vaani_spool_marked(mark, rc, NULL, 0);
}
