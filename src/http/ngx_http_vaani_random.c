
/*
 * Random bytes of the kernel.
 */


#include "ngx_http_vaani.h"

#if (NGX_VAANI_HAVE_GETRANDOM)
#include <sys/random.h>
#endif


/* bytes fetched at once, because a system call per delivery costs more */

#define NGX_HTTP_VAANI_RANDOM_BYTES     1024


static ngx_int_t ngx_http_vaani_fetch_random(u_char *dst, size_t len,
    ngx_log_t *log);


ngx_int_t
ngx_http_vaani_random(u_char *dst, size_t len, ngx_log_t *log)
{
    static u_char  bytes[NGX_HTTP_VAANI_RANDOM_BYTES];
    static size_t  left;

    /*
     * Only a worker buffers bytes: the children of another process would all
     * inherit the same ones.
     */

    if (ngx_process != NGX_PROCESS_WORKER) {
        return ngx_http_vaani_fetch_random(dst, len, log);
    }

    if (left < len) {

        if (ngx_http_vaani_fetch_random(bytes, sizeof(bytes), log) != NGX_OK) {
            return NGX_ERROR;
        }

        left = sizeof(bytes);
    }

    left -= len;

    ngx_memcpy(dst, bytes + left, len);

    return NGX_OK;
}


static ngx_int_t
ngx_http_vaani_fetch_random(u_char *dst, size_t len, ngx_log_t *log)
{
#if (NGX_VAANI_HAVE_GETRANDOM)

    size_t   done;
    ssize_t  n;

    for (done = 0; done < len; done += n) {
        n = getrandom(dst + done, len - done, 0);

        if (n == -1) {

            if (ngx_errno != NGX_EINTR) {
                goto failed;
            }

            n = 0;
        }
    }

    return NGX_OK;

#else

    ssize_t          n;
    static ngx_fd_t  fd = NGX_INVALID_FILE;

    if (fd == NGX_INVALID_FILE) {
        fd = ngx_open_file((u_char *) "/dev/urandom", NGX_FILE_RDONLY,
                           NGX_FILE_OPEN, 0);

        if (fd == NGX_INVALID_FILE) {
            goto failed;
        }
    }

    n = ngx_read_fd(fd, dst, len);

    if (n == (ssize_t) len) {
        return NGX_OK;
    }

#endif

failed:

    ngx_log_error(NGX_LOG_CRIT, log, ngx_errno,
                  "vaani: cannot get random numbers from the kernel");

    return NGX_ERROR;
}
