package Vaani::Test::Wrapper;

# Commands that go in front of nginx, for NGINX_WRAPPER: one that makes it no child
# of the test, and one whose clock the test sets.

use v5.20;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';

use Exporter 'import';
use Vaani::Test::Dir qw(spew tmpdir);
use Vaani::Test::Nginx::Config ();
use Vaani::Test::Process qw(run);

our @EXPORT = qw(detached may_preload preloadable shifted_clock with_wrapper);

# nginx refuses a new binary while it is the child of the process that started
# it, so this puts one in between that ends. It stays until all are gone: they
# inherit the pipe.
my $DETACH = <<'END_OF_SCRIPT';
    use strict;
    $^F = 1000;
    pipe(my $r, my $w) or die "pipe: $!";
    my ($dir) = "@ARGV" =~ / -p (\S+)/ or die "no directory";
    defined(my $middle = fork) or die "fork: $!";
    if ($middle == 0) {
        close $r;
        defined(my $nginx = fork) or die "fork: $!";
        exec @ARGV or die "exec: $!" if $nginx == 0;
        until (-s "$dir/nginx.pid" || waitpid($nginx, 1) == $nginx) {
            select undef, undef, undef, 0.01;
        }
        exit 0;
    }
    close $w;
    waitpid $middle, 0;
    sysread $r, my $end, 1;
END_OF_SCRIPT

# The time of day and the monotonic clock, shifted by what a file says; boottime is not.
my $SHIFTED = <<'END_OF_SOURCE';
    #include <dlfcn.h>
    #include <stdio.h>
    #include <stdlib.h>
    #include <sys/time.h>
    #include <time.h>

    static long shift(int which)
    {
        long   seconds[2] = { 0, 0 };
        FILE  *file = fopen(getenv("CLOCK_SHIFT"), "re");

        if (file) {
            if (fscanf(file, "%ld %ld", &seconds[0], &seconds[1]) != 2) {
                seconds[0] = seconds[1] = 0;
            }
            fclose(file);
        }
        return seconds[which];
    }

    int gettimeofday(struct timeval *restrict tv, void *restrict tz)
    {
        static int (*next)(struct timeval *, void *);

        if (next == NULL) {
            next = (int (*)(struct timeval *, void *)) dlsym(RTLD_NEXT, "gettimeofday");
        }

        int rc = next(tv, tz);
        tv->tv_sec += shift(0);
        return rc;
    }

    int clock_gettime(clockid_t clock, struct timespec *ts)
    {
        static int (*next)(clockid_t, struct timespec *);

        if (next == NULL) {
            next = (int (*)(clockid_t, struct timespec *)) dlsym(RTLD_NEXT, "clock_gettime");
        }

        int rc = next(clock, ts);
        if (clock == CLOCK_MONOTONIC || clock == CLOCK_MONOTONIC_COARSE) {
            ts->tv_sec += shift(1);
        }
        return rc;
    }

    time_t time(time_t *t)
    {
        struct timeval  tv;

        gettimeofday(&tv, NULL);
        if (t) {
            *t = tv.tv_sec;
        }
        return tv.tv_sec;
    }
END_OF_SOURCE

# A value of NGINX_WRAPPER: this command, and what it was before.
sub with_wrapper ($command) { return join ' ', $command, $ENV{NGINX_WRAPPER} // () }

# The value of NGINX_WRAPPER for an nginx that can be upgraded.
sub detached () { return with_wrapper("$^X " . spew(tmpdir() . '/detach.pl', $DETACH)) }

# A sanitizer wants to be the first library.
sub may_preload () {
    my ($exit) = run([ 'grep', '-q', '__asan_init', Vaani::Test::Nginx::Config::nginx_bin() ]);
    return $exit != 0;
}

# The path of a library of this source in C, for LD_PRELOAD; undef where none can be
# preloaded, or without a compiler.
sub preloadable ($name, $source) {
    return undef if !may_preload();

    my $library = tmpdir() . "/$name.so";
    if (!-e $library) {
        spew("$library.c", "#define _GNU_SOURCE\n$source");
        my $exit = eval { (run([ $ENV{CC} || 'cc', qw(-shared -fPIC -O1 -o), $library, "$library.c", '-ldl' ]))[0] };
        return undef if $exit // 1;
    }
    return $library;
}

# The value of NGINX_WRAPPER for an nginx, which needs "env CLOCK_SHIFT;" since it
# clears the environment of its workers; and a sub that sets its time of day to so many
# seconds from now, and its monotonic clock to so many (0 by default).
sub shifted_clock () {
    my $library = preloadable(shifted => $SHIFTED) // die "no library can be preloaded\n";

    my $file = spew(tmpdir() . '/shift', '0 0');
    my $shift = sub ($seconds, $monotonic = 0) {
        spew("$file.new", "$seconds $monotonic");
        rename "$file.new", $file or die "rename: $!\n";
        return;
    };
    return (with_wrapper("env CLOCK_SHIFT=$file LD_PRELOAD=$library"), $shift);
}

1;
