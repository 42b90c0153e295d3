
#include "ngx_vaani_spool_private.h"


/*
 * Clocks that cannot be set: ages must not change with the time of day.
 */


/* keeps times before the boot of the host above 0, s */

#define NGX_VAANI_SPOOL_EPOCH       0x40000000


ngx_atomic_uint_t
ngx_vaani_spool_since(time_t time)
{
    time_t           age, now;
    struct timespec  ts;

    (void) clock_gettime(CLOCK_MONOTONIC, &ts);

    now = NGX_VAANI_SPOOL_EPOCH + ts.tv_sec;
    age = ngx_max(ngx_time() - time, 0);

    return (age < now) ? now - age : 1;
}


/*
 * Without /proc it is zero, as on other systems; then ages are those of files.
 */

u_char *
ngx_vaani_spool_boot_id(void)
{
    int             fd;
    char            text[64];
    ssize_t         n, i;
    ngx_uint_t      digits;

    static u_char   id[VAANI_JOURNAL_BOOT_ID];
    static ngx_atomic_t  known;

    if (known) {
        return id;
    }

    n = 0;
    fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY|O_CLOEXEC);

    if (fd != -1) {
        n = read(fd, text, sizeof(text));
        (void) close(fd);
    }

    digits = 0;

    for (i = 0; i < n && digits < 2 * VAANI_JOURNAL_BOOT_ID; i++) {

        if (text[i] == '-') {
            continue;
        }

        if (text[i] < '0') {
            break;
        }

        /* any digits work if they are constant */

        id[digits / 2] = (u_char) (id[digits / 2] << 4
                                   | ((text[i] & 0x0f)
                                      + (text[i] > '9' ? 9 : 0)));
        digits++;
    }

    known = 1;

    return id;
}


uint64_t
ngx_vaani_spool_boottime(void)
{
    struct timespec  ts;

#ifdef CLOCK_BOOTTIME
    (void) clock_gettime(CLOCK_BOOTTIME, &ts);
#else
    (void) clock_gettime(CLOCK_MONOTONIC, &ts);
#endif

    return (uint64_t) ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}


uint64_t
ngx_vaani_spool_now(void)
{
    struct timespec  ts;

    (void) clock_gettime(CLOCK_MONOTONIC, &ts);

    return (uint64_t) ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}
