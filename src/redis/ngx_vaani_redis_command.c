
/*
 * The bytes of a command, and its memory.
 */


#include "ngx_vaani_redis_conn.h"


/*
 * Tens of thousands of commands per second are allocated and freed, and they
 * are larger than the blocks that malloc() caches.  Therefore blocks that fit
 * most commands are cached here, at most 960K per worker.
 */

#define NGX_VAANI_REDIS_BLOCK_SIZE  1536
#define NGX_VAANI_REDIS_MAX_BLOCKS  640


static ngx_vaani_redis_cmd_t *ngx_vaani_redis_alloc_command(size_t size,
    ngx_log_t *log);

static ngx_inline size_t ngx_vaani_redis_length_len(size_t len);
static u_char *ngx_vaani_redis_write_args(u_char *p, const ngx_str_t *args,
    ngx_uint_t nargs);
static ngx_inline u_char *ngx_vaani_redis_write_length(u_char *p, u_char type,
    size_t len);


static ngx_uint_t              ngx_vaani_redis_nblocks;
static ngx_vaani_redis_cmd_t
    *ngx_vaani_redis_blocks[NGX_VAANI_REDIS_MAX_BLOCKS];


/*
 * hiredis formats commands too, but makes two passes of sprintf() over the
 * arguments and a copy of its own.  Here one allocation holds the command and
 * its bytes.
 */

ngx_vaani_redis_cmd_t *
ngx_vaani_redis_command(const ngx_str_t *first, ngx_uint_t nfirst,
    const ngx_str_t *rest, ngx_uint_t nrest, ngx_log_t *log)
{
    size_t                  size;
    u_char                 *p;
    ngx_uint_t              n;
    ngx_vaani_redis_cmd_t  *cmd;

    size = ngx_vaani_redis_length_len(nfirst + nrest);

    for (n = 0; n < nfirst; n++) {
        size += ngx_vaani_redis_length_len(first[n].len) + first[n].len + 2;
    }

    for (n = 0; n < nrest; n++) {
        size += ngx_vaani_redis_length_len(rest[n].len) + rest[n].len + 2;
    }

    cmd = ngx_vaani_redis_alloc_command(sizeof(ngx_vaani_redis_cmd_t) + size,
                                        log);

    if (cmd == NULL) {
        return NULL;
    }

    p = (u_char *) (cmd + 1);

    cmd->buf.start = p;
    cmd->buf.pos = p;
    cmd->buf.memory = 1;

    /* TLS buffers data, and must know when a record is complete */

    cmd->buf.flush = 1;

    p = ngx_vaani_redis_write_length(p, '*', nfirst + nrest);
    p = ngx_vaani_redis_write_args(p, first, nfirst);
    p = ngx_vaani_redis_write_args(p, rest, nrest);

    cmd->buf.last = p;
    cmd->buf.end = p;

    cmd->out.buf = &cmd->buf;

    return cmd;
}


static ngx_vaani_redis_cmd_t *
ngx_vaani_redis_alloc_command(size_t size, ngx_log_t *log)
{
    unsigned                block;
    ngx_vaani_redis_cmd_t  *cmd;

    block = (size <= NGX_VAANI_REDIS_BLOCK_SIZE);

    if (block && ngx_vaani_redis_nblocks) {
        cmd = ngx_vaani_redis_blocks[--ngx_vaani_redis_nblocks];

    } else {
        cmd = ngx_alloc(block ? NGX_VAANI_REDIS_BLOCK_SIZE : size, log);

        if (cmd == NULL) {
            return NULL;
        }
    }

    ngx_memzero(cmd, sizeof(ngx_vaani_redis_cmd_t));

    cmd->block = block;

    return cmd;
}


void
ngx_vaani_redis_end(ngx_vaani_redis_cmd_t *cmd,
    ngx_vaani_redis_status_e status, redisReply *reply, ngx_uint_t lane)
{
    void                        *data;
    ngx_vaani_redis_handler_pt   handler;

    handler = cmd->handler;
    data = cmd->data;

    ngx_vaani_redis_free_command(cmd);

    if (handler) {
        handler(data, status, reply, lane);
    }
}


void
ngx_vaani_redis_free_command(ngx_vaani_redis_cmd_t *cmd)
{
    if (cmd->setup) {

        /* the command may contain the password */

        ngx_explicit_memzero(cmd->buf.start, cmd->buf.end - cmd->buf.start);
    }

#if !(NGX_DEBUG_PALLOC)

    /* otherwise tools would not find a use after free */

    if (cmd->block && ngx_vaani_redis_nblocks < NGX_VAANI_REDIS_MAX_BLOCKS) {
        ngx_vaani_redis_blocks[ngx_vaani_redis_nblocks++] = cmd;
        return;
    }

#endif

    ngx_free(cmd);
}


void
ngx_vaani_redis_free_blocks(void)
{
    while (ngx_vaani_redis_nblocks) {
        ngx_free(ngx_vaani_redis_blocks[--ngx_vaani_redis_nblocks]);
    }
}


/*
 * Nearly all arguments are short, and a command has about twenty.  Therefore
 * their lengths are written without a division.
 */

static ngx_inline size_t
ngx_vaani_redis_length_len(size_t len)
{
    size_t  digits;

    if (len < 100) {
        return 1 + (len < 10 ? 1 : 2) + 2;
    }

    for (digits = 2; len >= 100; len /= 10) {
        digits++;
    }

    return 1 + digits + 2;
}


static u_char *
ngx_vaani_redis_write_args(u_char *p, const ngx_str_t *args, ngx_uint_t nargs)
{
    ngx_uint_t  n;

    for (n = 0; n < nargs; n++) {
        p = ngx_vaani_redis_write_length(p, '$', args[n].len);

        if (args[n].len) {
            p = ngx_cpymem(p, args[n].data, args[n].len);
        }

        *p++ = CR;
        *p++ = LF;
    }

    return p;
}


static ngx_inline u_char *
ngx_vaani_redis_write_length(u_char *p, u_char type, size_t len)
{
    *p++ = type;

    if (len < 10) {
        *p++ = (u_char) (len + '0');

    } else if (len < 100) {
        *p++ = (u_char) (len / 10 + '0');
        *p++ = (u_char) (len % 10 + '0');

    } else {
        p = ngx_sprintf(p, "%uz", len);
    }

    *p++ = CR;
    *p++ = LF;

    return p;
}
