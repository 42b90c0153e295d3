# Nothing that can wait for the disk of a spool runs in the event loop: while
# that disk hangs, nginx answers requests that do not need it.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

use Vaani::Test::Endpoint;
use Vaani::Test::Events;
use Vaani::Test::HTTP qw(format_request);
use Vaani::Test::Spool;
use Vaani::Test::Wrapper;

# While there is a file $FROZEN, calls for what is in a spool wait.
my $FROZEN_DISK = <<'END_OF_SOURCE';
    #include <dirent.h>
    #include <dlfcn.h>
    #include <fcntl.h>
    #include <stdarg.h>
    #include <stdio.h>
    #include <stdlib.h>
    #include <string.h>
    #include <unistd.h>
    #include <sys/file.h>
    #include <sys/stat.h>

    static void wait_for(const char *path)
    {
        const char  *flag = getenv("FROZEN");

        while (flag && strstr(path, "/spool") && access(flag, F_OK) == 0) {
            usleep(1000);
        }
    }

    static void wait_for_fd(int fd)
    {
        char     path[4096], link[64];
        ssize_t  n;

        snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
        n = readlink(link, path, sizeof(path) - 1);
        if (n > 0) {
            path[n] = '\0';
            wait_for(path);
        }
    }

    #define next(type, name, ...)  ((type (*)(__VA_ARGS__)) dlsym(RTLD_NEXT, name))

    static int wait_open(const char *name, const char *path, int flags, mode_t mode)
    {
        wait_for(path);
        return next(int, name, const char *, int, ...)(path, flags, mode);
    }

    int open(const char *path, int flags, ...)
    {
        va_list  args;

        va_start(args, flags);
        return wait_open("open", path, flags, (flags & O_CREAT) ? va_arg(args, mode_t) : 0);
    }

    int open64(const char *path, int flags, ...)
    {
        va_list  args;

        va_start(args, flags);
        return wait_open("open64", path, flags, (flags & O_CREAT) ? va_arg(args, mode_t) : 0);
    }

    int close(int fd)
    {
        wait_for_fd(fd);
        return next(int, "close", int)(fd);
    }

    int flock(int fd, int how)
    {
        wait_for_fd(fd);
        return next(int, "flock", int, int)(fd, how);
    }

    int fdatasync(int fd)
    {
        wait_for_fd(fd);
        return next(int, "fdatasync", int)(fd);
    }

    int unlink(const char *path)
    {
        wait_for(path);
        return next(int, "unlink", const char *)(path);
    }

    int mkdir(const char *path, mode_t mode)
    {
        wait_for(path);
        return next(int, "mkdir", const char *, mode_t)(path, mode);
    }

    DIR *opendir(const char *path)
    {
        wait_for(path);
        return next(DIR *, "opendir", const char *)(path);
    }
END_OF_SOURCE

my $library = preloadable('frozen-disk' => $FROZEN_DISK) // plan skip_all => 'no library can be preloaded';
my $frozen = tmpdir() . '/frozen';

my $redis = Vaani::Test::Redis->start(acl => STREAM);
my $config = spool_config($redis, spool => 'refused=1m')
    =~ s/(listen [^;]+;)/$1 location = \/static { return 204; }/r;

my $nginx = do {
    local $ENV{NGINX_WRAPPER} = with_wrapper("env FROZEN=$frozen LD_PRELOAD=$library");
    Vaani::Test::Nginx->start(
        workers => 3, log_level => 'notice', http => $config, main => 'env FROZEN;',
        allow_log => qr/exited on signal 9/,
    );
};
my $dir = $nginx->dir . '/spool';

# Each request comes on a connection of its own: sooner or later it's each worker's.
sub goes_on ($name, $seconds = 1) {
    my $until = now() + $seconds;
    my $n = 0;

    while (now() < $until) {
        my $answer = eval { $nginx->http(timeout => 2)->get('/static') };
        if (!$answer || $answer->status != 204) {
            return fail("$name: no answer to request $n");
        }
        $n++;
    }
    return pass("$name: $n answers");
}

# Every worker has a connection before the disk hangs, so that none is spared.
my %served;
my @clients;
ok wait_for(sub {
    my $client = $nginx->http(timeout => 3)->connect;
    $client->get('/static');
    push @clients, $client;
    return @clients >= 60;
}), 'connections to all workers';

sub all_answer ($name) {
    my $failed = grep { !eval { $_->get('/static')->status == 204 } } @clients;
    return is $failed, 0, "$name: all workers answer";
}

goes_on('a disk that works', 0.2);

spew($frozen, '');
my $refused = $nginx->http->connect;
$refused->send_raw(join '', format_request(method => 'POST', uri => '/hook', body => 'no JSON'));
is $nginx->http->post('/hook', event('call_started', room => 'good'))->status, 200, 'an event that Redis takes is answered';
goes_on('the disk hangs');
all_answer('the disk hangs');

$redis->kill;
my $queued = $nginx->http(timeout => 60)->connect;
$queued->send_raw(join '', format_request(method => 'POST', uri => '/hook', body => event('call_started', room => 'later')));
goes_on('an event is to be queued');
all_answer('an event is to be queued');

unlink $frozen;
is $refused->read_response->status, 400, 'the disk is back: the refused one is answered';
is $queued->read_response->status, 200, 'the event is queued';

# A leader with a segment, that goes; another worker follows.
spew($frozen, '');
$redis->restart;
goes_on('a segment is to be replayed');
all_answer('a segment is to be replayed');
unlink $frozen;
ok !await_empty($dir, 10), 'it is replayed';
is $redis->client->cmd('HGET', 'vaani:call:later', 'seq'), 1, 'once';

done_testing;
