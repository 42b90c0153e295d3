# The content of the package, which has nothing of the build machine: built by
# another user in another place, it is the same, byte by byte.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use File::Basename qw(dirname);
use FindBin;
use Vaani::Test;
use Vaani::Test::Links;

my $deb = $ENV{VAANI_DEB} // die "VAANI_DEB is the package to look into\n";
my $dir = tmpdir() . '/package';

sub output (@command) {
    my ($exit, $out, $err) = run(\@command, timeout => 900, dir => ROOT);
    die "@command: $err\n" if $exit != 0;
    return $out;
}

output('dpkg-deb', '-R', $deb, $dir);

# The files in examples/, without what their commands make there.
sub examples () {
    my @found = split /\n/, output(qw(find examples -name node_modules -prune -o -name __pycache__ -prune
        -o -type f -not -name .* -print));
    return @found;
}

subtest 'contents' => sub {
    my $doc = 'usr/share/doc/libnginx-mod-http-vaani';
    my @files = grep { length && !m{/$} } map { s{^.*? \./}{}r =~ s{ -> .*}{}r }
        split /\n/, output('dpkg-deb', '-c', $deb);

    is_deeply [ grep { !m{^$doc/(?:docs|examples)/} } sort @files ], [ sort(
        qw(
            usr/bin/vaani-call
            usr/bin/vaani-calls
            usr/lib/nginx/modules/ngx_http_vaani_module.so
            usr/sbin/vaani-spool
            usr/share/bash-completion/completions/vaani-calls
            usr/share/man/man1/vaani-call.1.gz
            usr/share/man/man1/vaani-calls.1.gz
            usr/share/man/man8/ngx_http_vaani_module.8.gz
            usr/share/man/man8/vaani-spool.8.gz
            usr/share/nginx/modules-available/mod-http-vaani.conf
        ),
        map { "$doc/$_" } qw(CHANGELOG.md CONTRIBUTING.md LICENSE README.md changelog.gz copyright),
    ) ], 'the files';

    is_deeply [ map { m{^$doc/docs/(.*)$} ? $1 : () } sort @files ],
        [ map { s{^\Q${\ROOT}/docs/\E}{}r } sort grep { -f } glob ROOT . '/docs/{*,*/*}' ], 'all documents, not compressed';
    is_deeply [ map { m{^$doc/examples/(.*)} ? $1 : () } sort @files ],
        [ sort map { s{.*?/}{}r } examples() ], 'the examples, not compressed';
    is_deeply [ broken_links("$dir/$doc") ], [], 'what the documents link to is there';
    ok !-e "$dir/DEBIAN/conffiles", 'no conffiles: no question at an upgrade';

    my $depends = output('dpkg-deb', '-f', $deb, 'Depends');
    like $depends, qr/\bnginx-abi-[\d.]+-\d/, 'it depends on the ABI of nginx';
    like $depends, qr/\blibhiredis[\d.]+\b/, '... on libhiredis';
    like output('dpkg-deb', '-f', $deb, 'Suggests'), qr/\blibio-socket-ssl-perl\b/, '... suggests what vaani-call needs for https';
    like output('dpkg-deb', '-f', $deb, 'Built-Using'), qr/^hiredis \(= \d\S+\)$/, '... and has that hiredis in it';
};

subtest 'binaries' => sub {
    for my $file (map { "$dir/$_" } qw(usr/lib/nginx/modules/ngx_http_vaani_module.so usr/sbin/vaani-spool)) {
        my ($name) = $file =~ m{([^/]+)$};
        my $bytes = slurp($file);
        my $dynamic = output('readelf', '-Wd', $file);

        ok index($bytes, $_) < 0, "$name: $_ is not in it" for ROOT, dirname($deb), '/usr/share/nginx/src';
        unlike $dynamic, qr/\((?:RPATH|RUNPATH)\)/, '... nor a path of libraries';
        like $dynamic, qr/\bBIND_NOW\b/, '... bound at once';
        like output('readelf', '-Wl', $file), qr/GNU_RELRO/, '... with its tables read-only';
        my $symbols = output('readelf', '-W', '--dyn-syms', $file);
        like $symbols, qr/__stack_chk_fail/, '... with a guarded stack';
        like $symbols, qr/__\w+_chk\b(?!_fail)/, '... with bounds that are checked';
        like output('readelf', '-Wh', $file), qr/Type: +DYN/, '... at any address';
    }
};

subtest 'hiredis' => sub {
    my $module = "$dir/usr/lib/nginx/modules/ngx_http_vaani_module.so";
    unlike output('readelf', '-Wd', $module), qr/\(NEEDED\).*hiredis/, 'is in the module';
    unlike output('readelf', '-W', '--dyn-syms', $module), qr/ (?:redis[A-Z]|sds|hi_|freeReplyObject)/, '... where no other module sees it';
};

subtest 'manual pages' => sub {
    for my $page (glob "$dir/usr/share/man/man*/*") {
        local $ENV{MANROFFSEQ} = '';
        my (undef, undef, $err) = run([ qw(env LC_ALL=C.UTF-8 man --warnings -E UTF-8 -l -Tutf8 -Z), $page ]);
        is $err, '', $page =~ s{.*/}{}r;
    }
};

subtest 'lintian' => sub {
    my ($changes) = glob dirname($deb) . '/*.changes';
    my ($exit, $out, $err) = run([ qw(lintian --allow-root --fail-on), 'error,warning', $changes ], timeout => 900);
    is $exit, 0, 'has nothing to say' or diag $out, $err;
};

# As user nobody, who cannot write next to nginx's sources and has no home.
subtest 'the same once more' => sub {
    my $again = tmpdir() . '/once more and elsewhere' =~ tr/ /-/r;
    mkdir $again or die "mkdir: $!\n";
    output('sh', '-c', 'tar -C "$1" -c --exclude=./build --exclude=./.git . | tar -C "$2" -x', 'sh', ROOT, $again);

    my @nobody;
    if ($> == 0) {
        my ($uid, $gid) = (getpwnam 'nobody')[ 2, 3 ];
        output('chown', '-R', "$uid:$gid", $again);
        @nobody = ('setpriv', "--reuid=$uid", "--regid=$gid", '--clear-groups');
    }
    output(@nobody, qw(env HOME=/nonexistent TZ=Asia/Kolkata LC_ALL=C.UTF-8), 'sh', '-c', 'umask 077; cd "$1" && tools/build-deb build/deb', 'sh', $again);

    for my $first (glob dirname($deb) . '/*.deb') {
        my ($name) = $first =~ m{([^/]+)$};
        my ($exit) = run([ 'cmp', $first, "$again/build/deb/$name" ]);
        is $exit, 0, $name;
    }
};

done_testing;
