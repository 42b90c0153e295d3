package Vaani::Test::Disk;

# An nginx on a disk that is small, slow, full or broken.

use v5.20;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';

use Exporter 'import';
use Vaani::Test::Dir qw(spew tmpdir);
use Vaani::Test::Process qw(run);
use Vaani::Test::Wrapper qw(preloadable with_wrapper);

our @EXPORT = qw(on_bad_disk on_small_disk);

# The faults of a disk, for files whose paths match a pattern, as long as there
# is a file of the fault's name in a directory:
#   full           nothing can be written
#   nearly_full    nothing can be written but a part: all but 20 bytes of more than these
#   short_writes   a write() writes half of it at times
#   failing_syncs  fdatasync() fails
#   frozen_syncs   fdatasync() does not return
#   slow           write() and fdatasync() take half a second
#   slow_opens     a file that is made takes its time, up to 0.1 s
#   no_locks       flock() fails as where the disk is another host's that is away
my $BAD_DISK = <<'END_OF_SOURCE';
    #include <dlfcn.h>
    #include <errno.h>
    #include <fcntl.h>
    #include <fnmatch.h>
    #include <stdarg.h>
    #include <stdio.h>
    #include <stdlib.h>
    #include <sys/types.h>
    #include <unistd.h>

    static int bad(const char *fault)
    {
        char         path[4096];
        const char  *dir = getenv("BAD_DISK");

        if (dir == NULL) {
            return 0;
        }
        snprintf(path, sizeof(path), "%s/%s", dir, fault);
        return access(path, F_OK) == 0;
    }

    static int is_on_disk(const char *path)
    {
        const char  *pattern = getenv("BAD_DISK_FILES");
        return pattern && fnmatch(pattern, path, 0) == 0;
    }

    static int is_open_on_disk(int fd)
    {
        char     link[64], path[4096];
        ssize_t  n;

        snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
        n = readlink(link, path, sizeof(path) - 1);
        path[n > 0 ? n : 0] = '\0';
        return is_on_disk(path);
    }

    ssize_t write(int fd, const void *data, size_t size)
    {
        static ssize_t  (*next)(int, const void *, size_t);

        if (!next) {
            next = (ssize_t (*)(int, const void *, size_t)) dlsym(RTLD_NEXT, "write");
        }
        if (is_open_on_disk(fd)) {
            if (bad("full") || (bad("nearly_full") && size <= 20)) {
                errno = ENOSPC;
                return -1;
            }
            if (bad("nearly_full")) {
                size = size - 20;
            }
            if (size > 100 && bad("short_writes") && rand() % 4 == 0) {
                size = size / 2;
            }
            if (bad("slow")) {
                usleep(500000);
            }
        }
        return next(fd, data, size);
    }

    int fdatasync(int fd)
    {
        static int  (*next)(int);

        if (!next) {
            next = (int (*)(int)) dlsym(RTLD_NEXT, "fdatasync");
        }
        if (is_open_on_disk(fd)) {
            if (bad("failing_syncs")) {
                errno = EIO;
                return -1;
            }
            while (bad("frozen_syncs")) {
                usleep(1000);
            }
            if (bad("slow")) {
                usleep(500000);
            }
        }
        return next(fd);
    }

    int flock(int fd, int how)
    {
        static int  (*next)(int, int);

        if (!next) {
            next = (int (*)(int, int)) dlsym(RTLD_NEXT, "flock");
        }
        if (is_open_on_disk(fd) && bad("no_locks")) {
            errno = EIO;
            return -1;
        }
        return next(fd, how);
    }

    static int slow_open(const char *function, const char *path, int flags, mode_t mode)
    {
        int  (*next)(const char *, int, ...);

        if ((flags & O_CREAT) && is_on_disk(path) && bad("slow_opens")) {
            usleep(rand() % 100000);
        }
        next = (int (*)(const char *, int, ...)) dlsym(RTLD_NEXT, function);
        return next(path, flags, mode);
    }

    int open(const char *path, int flags, ...)
    {
        va_list  args;

        va_start(args, flags);
        return slow_open("open", path, flags, (flags & O_CREAT) ? va_arg(args, mode_t) : 0);
    }

    int open64(const char *path, int flags, ...)
    {
        va_list  args;

        va_start(args, flags);
        return slow_open("open64", path, flags, (flags & O_CREAT) ? va_arg(args, mode_t) : 0);
    }
END_OF_SOURCE

# The nginx that the code starts, with "main => $main" of its argument, on such
# a disk for the files of the pattern (of fnmatch(): * matches slashes, too),
# and a sub that sets a fault: $set->('slow', 1). The given faults are set at
# its start. Returns nothing where no library can be preloaded.
sub on_bad_disk ($pattern, $start, @faults) {
    my $library = preloadable('bad-disk' => $BAD_DISK) // return;
    state $count = 0;
    my $dir = tmpdir() . '/disk' . ++$count;
    mkdir $dir or die "mkdir: $!\n";
    chmod 0755, $dir;
    spew("$dir/$_", '') for @faults;

    local $ENV{NGINX_WRAPPER} = with_wrapper("env BAD_DISK=$dir BAD_DISK_FILES=$pattern LD_PRELOAD=$library");
    # nginx clears the environment of its workers.
    my $nginx = $start->('env BAD_DISK; env BAD_DISK_FILES;');

    return ($nginx, sub ($fault, $on) {
        $on ? spew("$dir/$fault", '') : unlink "$dir/$fault";
        return;
    });
}

# A small separate disk, which ends with nginx: mounted where only nginx sees
# it.
my $SMALL_DISK = <<'END_OF_SCRIPT';
    dir=$1; shift
    mkdir -p "$dir" && mount -t tmpfs -o size=512k,mode=755 tmpfs "$dir" && exec "$@"
END_OF_SCRIPT

# The nginx that the code starts, with a disk of 512k at that directory, and
# the path at which others find it. Returns nothing without the right to mount
# one.
sub on_small_disk ($dir, $start) {
    my ($exit) = run([qw(unshare -m mount -t tmpfs tmpfs /mnt)]);
    return if $exit;

    my $script = spew(tmpdir() . '/small-disk', $SMALL_DISK);
    local $ENV{NGINX_WRAPPER} = with_wrapper("unshare -m sh $script $dir");
    my $nginx = $start->();
    return ($nginx, '/proc/' . $nginx->pid . "/root$dir");
}

1;
