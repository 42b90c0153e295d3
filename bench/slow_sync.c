
/*
 * Preloaded, makes each sync of a file or directory take as many ms more as
 * BENCH_SYNC_MS says: what a disk does that does not lie, whichever disk the
 * machine has.
 */


#define _GNU_SOURCE

#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>


static void bench_sync_wait(void);


int
fdatasync(int fd)
{
    static int  (*real)(int fd);

    if (real == NULL) {
        *(void **) &real = dlsym(RTLD_NEXT, "fdatasync");
    }

    bench_sync_wait();

    return real(fd);
}


int
fsync(int fd)
{
    static int  (*real)(int fd);

    if (real == NULL) {
        *(void **) &real = dlsym(RTLD_NEXT, "fsync");
    }

    bench_sync_wait();

    return real(fd);
}


static void
bench_sync_wait(void)
{
    const char       *ms;
    struct timespec   ts;

    ms = getenv("BENCH_SYNC_MS");

    if (ms) {
        ts.tv_sec = atoi(ms) / 1000;
        ts.tv_nsec = atoi(ms) % 1000 * 1000000;

        (void) nanosleep(&ts, NULL);
    }
}
