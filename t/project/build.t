# The effects of the Makefile and the tools on their machine: with paths,
# packages, an upgrade of nginx, an installation, and nginx's headers. The
# packages, the compiler and nginx are stand-ins, except where they are tested.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

use Cwd qw(abs_path);
use File::Path qw(make_path);
use Vaani::Test::Links;

use constant MARK => '.ngx_http_vaani_module';

my $number = 0;

sub new_dir ($name = 'd' . ++$number) {
    my $dir = tmpdir() . "/$name";
    make_path($dir);
    return $dir;
}

# A checkout of what make needs; the sources are links.
sub checkout ($dir) {
    make_path($dir);
    symlink ROOT . "/$_", "$dir/$_" or die "symlink: $!\n"
        for qw(Makefile bin bench completions config config.make debian docs examples man src t tools README.md CHANGELOG.md
            CONTRIBUTING.md LICENSE VERSION), map { s{.*/}{}r } glob ROOT . '/*.c';
    return $dir;
}

sub executable ($path, $text) {
    spew($path, $text);
    chmod 0755, $path or die "chmod: $!\n";
    return;
}

# Without what make has told the one that runs this.
sub output ($dir, @command) {
    my ($exit, @out) = run([ 'env', map({ ('-u', $_) } qw(MAKEFLAGS MFLAGS MAKELEVEL)), @command ], dir => $dir, timeout => 600);
    return ($exit, join '', @out);
}

subtest 'paths with a blank, and worse' => sub {
    my $top = new_dir();
    my $neighbour = "$top/our";
    make_path("$neighbour/.git");
    spew("$neighbour/.git/HEAD", 'precious');

    for my $name ('our copy', 'our  copy', "our\tcopy", 'our#', 'our$x', "our'x",
        'our"x', 'our;x', 'our%x', 'our(x', 'our*')
    {
        my $dir = checkout("$top/$name");
        for my $goal ($name eq 'our copy' ? qw(clean deb all test install) : 'clean') {
            my ($exit, $text) = output($dir, 'make', $goal);
            is $exit, 2, "$name: make $goal is refused";
            like $text, qr/the path must not have blanks/, '... with the reason';
        }
        ok !-e "$dir/build", '... before anything else';
    }
    is slurp("$neighbour/.git/HEAD"), 'precious', 'the neighbour is as it was';

    my $dir = checkout($top . '/Ünïcode+1.0~rc-1@x,y=z');
    is((output($dir, qw(make clean)))[0], 0, 'other characters are no matter');

    for my $variable (qw(BUILD DESTDIR PREFIX MODULES_DIR NGINX_DEV)) {
        my ($exit, $text) = output($dir, 'make', 'clean', "$variable=$top/our copy");
        is "$exit $text" =~ /$variable is ".*our copy"/, 1, "$variable with a blank";
    }
};

subtest 'only what has the mark is emptied' => sub {
    my $dir = checkout(new_dir());
    my $build = "$dir/build";

    make_path("$build/x");
    spew("$build/x/file", 'mine');
    my ($exit, $text) = output($dir, qw(make clean));
    is $exit, 2, 'make clean, no mark';
    like $text, qr/was not made by this project/, '... says so';
    is slurp("$build/x/file"), 'mine', '... and removes nothing';

    my $other = new_dir();
    spew("$other/file", 'mine');
    for my $command ([ 'make', 'clean', "BUILD=$other" ], [ 'tools/build-deb', $other ],
        [ 'tools/build-dir', 'empty', $other ], [ 'tools/build-dir', 'remove', $other ],
        $> == 0 ? ([ 'tools/matrix', $other, 'bookworm' ], [ 'tools/deb-all', $other, 'bookworm' ],
            [ 't/image/build', $other ]) : ())
    {
        ($exit, $text) = output($dir, @$command);
        isnt $exit, 0, "@$command[0, 1]";
        like $text, qr/was not made by this project/, '... says why';
        is_deeply [ glob "$other/*" ], ["$other/file"], '... and leaves it';
    }

    output($dir, 'tools/build-dir', 'make', $other);
    ok !-e "$other/" . MARK, 'what has something in it gets no mark';

    my $made = "$dir/some made";
    is((output($dir, 'tools/build-dir', 'make', $made))[0], 0, 'a directory is made');
    make_path("$made/a b/c");
    spew("$made/a b/c/-rf", '');
    symlink $other, "$made/link" or die "symlink: $!\n";
    is((output($dir, 'tools/build-dir', 'empty', $made))[0], 0, '... emptied');
    opendir my $dh, $made or die "opendir: $!\n";
    is_deeply [ sort grep { !/^\.\.?$/ } readdir $dh ], [MARK], '... but for the mark';
    is slurp("$other/file"), 'mine', '... and what a link in it leads to is left';

    symlink $made, "$dir/link" or die "symlink: $!\n";
    isnt((output($dir, 'tools/build-dir', 'remove', "$dir/link"))[0], 0, 'a link to one is refused');
    ok -e "$made/" . MARK, '... and the directory stays';
    is((output($dir, 'tools/build-dir', 'remove', $made))[0], 0, 'the directory itself is removed');
    ok !-e $made, '... whole';
    is((output($dir, 'tools/build-dir', 'remove', $made))[0], 0, '... which can be said twice');
};

# --- a machine that has nothing

# $machine/bin comes first in PATH. Missing programs appear when "apt-get
# install" has ended, which takes a while.
sub machine () {
    my $machine = new_dir();
    make_path("$machine/bin", "$machine/sbin");

    executable("$machine/bin/sudo", qq{#!/bin/sh\nexec "\$@"\n});
    executable("$machine/bin/dpkg", "#!/bin/sh\necho amd64\n");
    executable("$machine/bin/dpkg-query", <<"SH");
#!/bin/sh
for package; do :; done
[ -e $machine/installed ] || grep "^\$package " $machine/packages 2> /dev/null | cut -d ' ' -f 2- | grep . || exit 1
[ ! -e $machine/installed ] || echo installed amd64 no
SH
    executable("$machine/bin/apt-get", <<"SH");
#!/bin/sh
[ "\$1" != update ] || exit 0
echo "\$*" >> $machine/apt.log
$machine/sbin/policy-rc.d
echo \$? > $machine/policy-meanwhile
[ ! -e $machine/kill ] || { kill -KILL \$PPID; exit 1; }
perl -e 'select undef, undef, undef, 0.5'
mkdir -p $machine/dev/auto $machine/dev/src
echo 1.0 > $machine/dev/src/version
echo 'NGX_CONF_FLAGS=(--flag)' > $machine/dev/conf_flags
cat > $machine/dev/configure << 'END'
#!/bin/sh
mkdir -p objs
printf 'modules:\\n\\tcat src/version >> $machine/builds\\n\\tcp src/version objs/ngx_http_vaani_module.so\\n' > objs/Makefile
END
cat > $machine/bin/fakecc << 'END'
#!/bin/sh
while [ \$# -gt 0 ]; do
    [ "\$1" != -o ] || echo program > "\$2"
    shift
done
END
chmod 755 $machine/dev/configure $machine/bin/fakecc
touch $machine/installed
SH
    return $machine;
}

# With the machine's stand-ins, a dead file system of packages and none of ours.
sub on ($machine, $dir, @command) {
    return output($dir, "PATH=$machine/bin:$ENV{PATH}", "INSTALL_DEPS_SBIN=$machine/sbin", @command);
}

my @make;

subtest 'make -j on a fresh machine' => sub {
    my $machine = machine();
    my $dir = checkout(new_dir());
    @make = ('make', 'CC=fakecc', "NGINX_DEV=$machine/dev");

    my ($exit, $text) = on($machine, $dir, @make, '-j8');
    is $exit, 0, 'make -j8' or diag $text;
    ok -e "$dir/build/$_", "... has built $_" for qw(ngx_http_vaani_module.so vaani-spool);
    is slurp("$machine/builds"), "1.0\n", '... once';
    ok -e "$dir/build/" . MARK, 'build/ has the mark';

    is((on($machine, $dir, @make, '-j8'))[0], 0, 'again');
    is slurp("$machine/builds"), "1.0\n", '... nothing is built';

    # dpkg gives files the time that they have in the package
    spew("$machine/dev/src/version", "1.1\n");
    utime 1e9, 1e9, "$machine/dev/src/version" or die "utime: $!\n";
    is((on($machine, $dir, @make, '-j8'))[0], 0, 'after an upgrade of nginx');
    is slurp("$machine/builds"), "1.0\n1.1\n", '... the module is built again';
    is slurp("$dir/build/ngx_http_vaani_module.so"), "1.1\n", '... for the new one';

    is((on($machine, $dir, @make, 'CFLAGS=-O1', 'module'))[0], 0, 'with other options');
    is slurp("$machine/builds"), "1.0\n1.1\n1.1\n", '... too';

    subtest 'make install' => sub {
        my $root = new_dir() . '/root';
        ($exit, $text) = on($machine, $dir, @make, 'CFLAGS=-O1', 'install', "DESTDIR=$root", 'PREFIX=/opt/vaani');
        is $exit, 0, 'with DESTDIR and PREFIX' or diag $text;
        like $text, qr{load_module /opt/vaani/lib/nginx/modules/ngx_http_vaani_module\.so;}, '... says how to load it';

        my %mode = map { chomp; reverse split / /, $_, 2 } `cd $root && find . -type f -printf '%m %p\\n'`;
        my $at = './opt/vaani';
        is $mode{"$at/$_->[0]"}, $_->[1], "... $_->[0]"
            for [ 'lib/nginx/modules/ngx_http_vaani_module.so', 644 ], [ 'sbin/vaani-spool', 755 ],
            [ 'bin/vaani-call', 755 ], [ 'share/man/man1/vaani-call.1', 644 ],
            [ 'bin/vaani-calls', 755 ], [ 'share/man/man1/vaani-calls.1', 644 ],
            [ 'share/bash-completion/completions/vaani-calls', 644 ], [ 'share/man/man8/vaani-spool.8', 644 ],
            [ 'share/man/man8/ngx_http_vaani_module.8', 644 ], [ 'share/doc/ngx_http_vaani_module/LICENSE', 644 ];
        is_deeply [ grep { !m{^\Q$at/} } keys %mode ], [], '... and nothing elsewhere';
        is_deeply [ broken_links("$root/opt/vaani/share/doc/ngx_http_vaani_module") ], [], '... the documents find each other';
        is slurp("$machine/builds"), "1.0\n1.1\n1.1\n", '... nor is anything built';

        is((on($machine, $dir, @make, 'uninstall', "DESTDIR=$root", 'PREFIX=/opt/vaani'))[0], 0, 'make uninstall');
        is `find $root -type f`, '', '... removes all of it';
    };

    is((on($machine, $dir, @make, 'clean'))[0], 0, 'make clean');
    ok !-e "$dir/build", '... removes build/';
};

# --- a system that has other packages, or none

subtest 'a system without apt' => sub {
    my $dir = checkout(new_dir());
    my $system = new_dir();
    make_path("$system/bin", "$system/nginx/src/core", "$system/nginx/auto");

    # All programs but those of Debian's packages.
    for my $program (grep { -x && !-d } glob '/usr/bin/* /bin/*') {
        my $name = $program =~ s{.*/}{}r;
        symlink $program, "$system/bin/$name" if $name !~ /^(?:apt|dpkg|sudo)/;
    }

    my $flags = q(--with-compat --with-cc-opt='-O1 -g' --with-mail=dynamic --add-dynamic-module=/gone --with-threads);
    my $nginx = sub ($version, $exit = 0) {
        executable("$system/nginx.bin", "#!/bin/sh\ncat << 'END' >&2\nnginx version: nginx/$version (Unix)\n"
            . "configure arguments: $flags\nEND\nexit $exit\n");
    };
    $nginx->('1.99.1');
    spew("$system/nginx/src/core/nginx.h", qq(#define NGINX_VERSION      "1.99.1"\n));
    executable("$system/nginx/configure", <<"SH");
#!/bin/sh
printf '%s\\n' "\$@" > $system/flags
mkdir -p objs
printf 'modules:\\n\\ttouch objs/ngx_http_vaani_module.so\\n' > objs/Makefile
SH

    my @command = ("PATH=$system/bin", 'make', "NGINX=$system/nginx.bin", 'module');
    my ($exit, $text) = output($dir, @command, "NGINX_DEV=$system/none");
    is $exit, 2, 'without the source of nginx';
    like $text, qr/no apt-get.*not found:\n +the source of the same nginx version, as NGINX_DEV\nInstall it/s,
        '... only that is missing, and how it is set';

    ($exit, $text) = output($dir, @command, "NGINX_DEV=$system/none", 'CC=/none/cc');
    like $text, qr/a C compiler.*the source of.*headers of hiredis/s, 'without a compiler, all is told at once';

    ($exit, $text) = output($dir, @command, "NGINX_DEV=$system/nginx", "REDIS_SERVER=$system/none");
    is $exit, 0, 'with it, the module is built, without a Redis' or diag $text;
    ok -e "$dir/build/ngx_http_vaani_module.so", '... and is there';

    my @flags = split /\n/, slurp("$system/flags");
    is_deeply [ @flags[0 .. 3] ], [ '--with-compat', '--with-cc-opt=-O1 -g', '--with-threads', '--with-cc=gcc' ],
        '... configured as nginx says it was, without its other modules';

    # the checkout and the source of nginx have the same parent
    my $relative = '../' . $system =~ s{.*/}{}r . '/nginx';
    ($exit, $text) = output($dir, @command, "NGINX_DEV=$relative", 'CFLAGS=-O3');
    is $exit, 0, 'a relative NGINX_DEV' or diag $text;

    ($exit, $text) = output($dir, "PATH=$system/bin", 'make', "NGINX=$system/nginx.bin", "NGINX_DEV=$system/nginx",
        "REDIS_SERVER=$system/none", 'deps-run');
    is $exit, 2, 'what runs a Redis wants one';
    like $text, qr/not found:\n +Redis or Valkey/, '... and says so';

    $nginx->('1.99.2');
    ($exit, $text) = output($dir, @command, "NGINX_DEV=$system/nginx", 'CFLAGS=-O1');
    is $exit, 2, 'the source of another version';
    like $text, qr/is version 1\.99\.2, the source in \S+ is 1\.99\.1/, '... with both versions';

    $nginx->('1.99.1', 1);
    ($exit, $text) = output($dir, @command, "NGINX_DEV=$system/nginx", 'CFLAGS=-O1');
    is $exit, 2, 'an nginx that does not run';
    like $text, qr/nginx\.bin -V failed/, '... is named';
};

subtest 'the module alone' => sub {
    my $machine = machine();
    my $dir = checkout(new_dir());
    my ($exit, $text) = on($machine, $dir, @make[0, 1], "NGINX_DEV=$machine/dev", 'module');
    is $exit, 0, 'make module' or diag $text;
    unlike slurp("$machine/apt.log"), qr/\bredis-server\b/, '... installs no Redis';

    unlink "$machine/installed", "$machine/apt.log";
    spew("$machine/packages", join '', map { "$_ installed amd64 no\n" }
        qw(gcc make libc6-dev nginx nginx-dev libhiredis-dev libssl-dev));
    is((on($machine, $dir, 'make', 'deps-run'))[0], 0, 'make deps-run');
    like slurp("$machine/apt.log"), qr/--no-install-recommends redis-server$/m, '... does';
};

# nginx's build_module.sh, of its repository pkg-oss, reads "config" as text: it
# wants auto/module, and the name of the file from one of two assignments, each
# on a line of its own.
subtest 'config, as pkg-oss reads it' => sub {
    my $config = slurp(ROOT . '/config');
    like $config, qr/^\.\s+auto\/module$/m, 'it is the one of a dynamic module';

    my @names = $config =~ /ngx_module_name=(.*)/g;
    is scalar @names, 1, 'one name';
    my ($variable) = $names[0] =~ /^\$(\w+)$/;
    @names = $config =~ /\Q$variable\E=(.*)/g if defined $variable;
    is_deeply \@names, ['ngx_http_vaani_module'], '... which is that of the file';
};

# Targets that need a package run after all packages are installed, in any
# order that make may choose.
subtest 'prerequisites' => sub {
    my $build = new_dir();
    my ($exit, $text) = output(ROOT, qw(make -npq all bench test-nginx), "BUILD=$build", 'DEPS=the-packages');
    for my $target (qw(stamp ngx_http_vaani_module.so vaani-spool foreign/objs/ngx_foreign_module.so
        shared/objs/ngx_http_vaani_module.so bench/ngx_http_bench_null_module.so bench/%))
    {
        ok $text =~ m{^\Q$build/$target\E:.*\| (?:.* )?the-packages\b}m, $target;
    }
};

subtest 'install-deps' => sub {
    my $machine = machine();
    my $tool = ROOT . '/tools/install-deps';
    my $policy = "$machine/sbin/policy-rc.d";
    my $asked = sub (@packages) {
        unlink "$machine/apt.log", "$machine/installed";
        my ($exit, $text) = on($machine, $machine, $tool, @packages);
        is $exit, 0, "@packages" or diag $text;
        return slurp("$machine/apt.log") =~ s/.*--no-install-recommends //r =~ s/\n//r;
    };

    spew("$machine/packages", <<'END');
both installed amd64 same
both installed i386 same
all installed all no
program installed i386 foreign
library installed i386 same
removed config-files amd64 no
END
    is $asked->(qw(both all program)), '', 'installed: for two architectures, for all, a program of another one';
    is $asked->(qw(library both removed absent)), 'library removed absent',
        'not installed: a library of another architecture, what was removed, what never was';

    is slurp("$machine/policy-meanwhile"), "101\n", 'no service is started meanwhile';
    ok !-e $policy, '... and may be afterwards';

    spew("$machine/kill", '');
    unlink "$machine/installed";
    isnt((on($machine, $machine, $tool, 'absent'))[0], 0, 'killed');
    is slurp("$machine/policy-meanwhile"), "101\n", '... while no service is to be started';
    ok wait_for(sub { !-e $policy || (run([$policy]))[0] == 0 }), '... which ends with it';
    ok !-e $policy, '... and leaves no file once somebody asked';

    on($machine, $machine, $tool, 'absent');
    ok -e $policy, 'killed again';
    unlink "$machine/kill";
    is $asked->('absent'), 'absent', 'after one that was killed';
    ok !-e $policy, '... nothing is left either';

    executable($policy, "#!/bin/sh\nexit 42\n");
    is $asked->('absent'), 'absent', 'with a policy of the administrator';
    is slurp("$machine/policy-meanwhile"), "42\n", '... it is in force';
    ok -e $policy, '... and stays';
};

subtest 'postrm: directives that are left' => sub {
    my $etc = new_dir();
    make_path("$etc/conf.d", "$etc/sites-enabled");
    my $script = slurp(ROOT . '/debian/libnginx-mod-http-vaani.postrm') =~ s{/etc/nginx}{$etc}gr;
    executable("$etc/postrm", $script);

    for (
        [ 1, 'vaani_webhook;' ],
        [ 1, "location /x {\n\tvaani_webhook ;\n}" ],
        [ 1, 'location = /status { vaani_status; }' ],
        [ 1, 'location = /x {vaani_webhook;}' ],
        [ 1, 'root /x; vaani_redis unix:/x;' ],
        [ 1, 'location /a#b { vaani_status; } # a comment' ],
        [ 1, "location /x { allow all; # all\n vaani_status; }" ],
        [ 0, '# location = /status { vaani_status; }' ],
        [ 0, 'root /x; # vaani_status;' ],
        [ 0, 'log_format x "$vaani_event";' ],
        [ 0, 'log_format x $vaani_event;' ],
        [ 0, 'root /vaani_status;' ],
    ) {
        my ($found, $text) = @$_;
        spew("$etc/sites-enabled/site", "$text\n");
        my ($exit, $out) = output($etc, 'sh', "$etc/postrm", 'remove');
        is $exit, 0, $text;
        is $out =~ /still has directives of the module/ ? 1 : 0, $found, $found ? '... is told' : '... is none';
    }
};

# --- nginx's headers, where forks have others

# The names of headers and what makes others of them; what configure finds then,
# and the objects that compile with it.
sub compiles ($name, $edit, $want, @objects) {
    my $dev = '/usr/share/nginx/src';
    my $dir = new_dir();
    my ($exit, $text) = output($dir, 'sh', '-c', "cp -rL $dev/. . && rm -rf objs");
    $exit == 0 or die $text;
    for my $file (sort keys %$edit) {
        my $was = slurp("$dir/$file");
        my $now = $edit->{$file}->($was);
        isnt $now, $was, "$name: $file is another one";
        chmod 0644, "$dir/$file";
        spew("$dir/$file", $now);
    }

    # without what is of no interest here, to be fast
    ($exit, $text) = output($dir, './configure', '--with-cc-opt=-Wall -Wextra -Wno-unused-parameter', '--with-threads',
        '--without-http_rewrite_module', '--without-http_gzip_module', '--add-dynamic-module=' . ROOT);
    is $exit, 0, "$name: configure" or diag $text;

    my %have = map { $_ => 1 } slurp("$dir/objs/ngx_auto_config.h") =~ /^#define (NGX_VAANI_\w+) +1/mg;
    delete @have{qw(NGX_VAANI_SHARED_HIREDIS NGX_VAANI_HAVE_GETRANDOM)};    # not of nginx
    is_deeply [ sort keys %have ], $want, '... has found what is another';

    ($exit, $text) = output($dir, 'make', '-j2', '-f', 'objs/Makefile', map { "objs/addon/$_.o" } @objects);
    is $exit, 0, '... it compiles' or diag $text;
    return;
}

SKIP: {
    skip 'no headers of nginx', 1 if !-e '/usr/share/nginx/src/configure';

    subtest 'headers of forks' => sub {
        compiles('all of them', {
            'src/core/ngx_resolver.h' => sub ($text) {
                $text =~ s/^( *)ngx_array_t( +)connections;/$1void $2*connections;\n$1ngx_str_t $2resolv_conf;/mr;
            },
            'src/core/ngx_log.h' => sub ($text) {
                $text =~ s/^(typedef u_char \*\(\*ngx_log_handler_pt\).*?;\n)/$1typedef u_char *(*ngx_log_ext_handler_pt) (ngx_log_t *log, u_char *buf,\n    u_char *last, void *data);\n/msr;
            },
            'src/http/ngx_http_request.h' => sub ($text) {
                $text =~ s/\bngx_http_log_handler_pt( +log_handler;)/ngx_log_ext_handler_pt$1/r;
            },
            # a newer nginx has it
            slurp('/usr/share/nginx/src/src/http/ngx_http_core_module.h') =~ /\bclient_body_early_read\b/ ? () : (
                'src/http/ngx_http_core_module.h' => sub ($text) {
                    $text =~ s/^( *)ngx_flag_t( +)(merge_slashes;\n)/$1ngx_flag_t$2$3$1ngx_array_t *client_body_early_read;\n/mr;
                },
            ),
        }, [qw(NGX_VAANI_BODY_EARLY_READ NGX_VAANI_LOG_PROPERTIES NGX_VAANI_RESOLVER_LIST)],
            'redis/ngx_vaani_redis_resolve', 'http/ngx_http_vaani_log');
    };
}

done_testing;
