
#include "ngx_vaani_redis_conn.h"


static size_t ngx_vaani_redis_length_len(size_t len);
static u_char *ngx_vaani_redis_write_args(u_char *p, const ngx_str_t *args,
    ngx_uint_t nargs);
static u_char *ngx_vaani_redis_write_length(u_char *p, u_char type,
    size_t len);


/*
 * hiredis formats commands too, but makes two passes of sprintf() over the
 * arguments and a copy of its own; here the one allocation holds the command
 * and its bytes.
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

    cmd = ngx_alloc(sizeof(ngx_vaani_redis_cmd_t) + size, log);

    if (cmd == NULL) {
        return NULL;
    }

    ngx_memzero(cmd, sizeof(ngx_vaani_redis_cmd_t));

    p = (u_char *) (cmd + 1);

    cmd->buf.start = p;
    cmd->buf.pos = p;
    cmd->buf.memory = 1;

    /* TLS gathers, and must know that nothing comes to fill its record */

    cmd->buf.flush = 1;

    p = ngx_vaani_redis_write_length(p, '*', nfirst + nrest);
    p = ngx_vaani_redis_write_args(p, first, nfirst);
    p = ngx_vaani_redis_write_args(p, rest, nrest);

    cmd->buf.last = p;
    cmd->buf.end = p;

    cmd->out.buf = &cmd->buf;

    return cmd;
}


static size_t
ngx_vaani_redis_length_len(size_t len)
{
    size_t  digits;

    for (digits = 1; len >= 10; len /= 10) {
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


static u_char *
ngx_vaani_redis_write_length(u_char *p, u_char type, size_t len)
{
    u_char  buf[NGX_SIZE_T_LEN], *digit;

    digit = buf + sizeof(buf);

    do {
        *--digit = (u_char) (len % 10 + '0');
        len /= 10;
    } while (len);

    *p++ = type;
    p = ngx_cpymem(p, digit, buf + sizeof(buf) - digit);
    *p++ = CR;
    *p++ = LF;

    return p;
}
