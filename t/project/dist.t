# The tarball of a release: it has all that git has, and the same commit gives the same
# bytes on each machine. "make distcheck" checks that it builds without git.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use File::Path qw(make_path);
use Vaani::Test;

# An unpacked tarball has no git repository, and needs none.
plan(skip_all => 'this is not a git checkout') if !-e ROOT . '/.git';

sub git ($dir, @arguments) {
    my ($exit, $out, $err) = run([ qw(git -c core.excludesFile=/dev/null -c user.name=t -c user.email=t@example.com), @arguments ],
        dir => $dir);
    die "git @arguments: $err\n" if $exit;
    return $out;
}

# The tarballs are those of a clone: this checkout may be worked on meanwhile.
my $tree = tmpdir() . '/tree';
git(tmpdir(), qw(clone -q --no-hardlinks), ROOT, $tree);
for my $name (qw(tools/dist VERSION)) {
    my $text = slurp(ROOT . "/$name");
    spew("$tree/$name", $text) if !-e "$tree/$name" || slurp("$tree/$name") ne $text;
    chmod 0755, "$tree/$name" or die "chmod: $!\n" if $name =~ m{^tools/};
}
git($tree, qw(add -A));
git($tree, qw(commit -q --allow-empty -m test));

my ($version) = slurp("$tree/VERSION") =~ /(\S+)/;

sub dist ($name, $umask = '0022', @environment) {
    my $dir = tmpdir() . "/$name";
    my ($exit, $out, $err) = run([ 'env', @environment, 'sh', '-c', "umask $umask; exec $tree/tools/dist $dir" ]);
    return ($exit, $out =~ s/\n\z//r, $err);
}

sub release ($text) {
    spew("$tree/CHANGELOG.md", $text);
    git($tree, qw(commit -q -a --allow-empty -m changes));
    return;
}

my $changes = slurp("$tree/CHANGELOG.md") =~ s/^## Unreleased$/## $version, 2031-02-03/mr;
release($changes);

my ($exit, $tarball, $err) = dist('first');
is $exit, 0, 'make dist' or diag $err;
is $err, '', '... has nothing to say';
is $tarball =~ s{.*/}{}r, "ngx_http_vaani_module-$version.tar.gz", '... the version is in its name';

my $top = "ngx_http_vaani_module-$version";
my @files = grep { !m{/\z} } split /\n/, (run([ 'tar', '-tf', $tarball ]))[1];
is_deeply [ sort @files ], [ map { "$top/$_" } sort split /\n/, git($tree, qw(ls-tree -r --name-only HEAD)) ], 'it has what git has';

my @owners = map { [ split ' ' ] } split /\n/, (run([ qw(tar --numeric-owner -tvf), $tarball ]))[1];
is join(' ', grep { !/^(?:drwxr-xr-x|-rw-r--r--|-rwxr-xr-x|lrwxrwxrwx)\z/ } map { $_->[0] } @owners), '', '... with usual modes';
is join(' ', grep { $_ ne '0/0' } map { $_->[1] } @owners), '', '... and no owner';

my ($sum, $of) = split ' ', slurp("$tarball.sha256");
is $of, "$top.tar.gz", 'there is a checksum';
is((run([ 'sha256sum', $tarball ]))[1], "$sum  $tarball\n", '... that is right');

# Another machine.
utime 1, 1, "$tree/VERSION";
git($tree, qw(config core.autocrlf true));
git($tree, qw(config tar.umask 0077));
my $again = (dist('again', '0077', 'TZ=Asia/Kolkata', 'LC_ALL=C', 'GZIP=-1', 'HOME=' . tmpdir()))[1];
is((run([ 'cmp', $tarball, $again ]))[1], '', 'again: the same, byte by byte');
is -s $again, -s $tarball, '... as long';
git($tree, qw(config --unset core.autocrlf));

# Uncommitted changes.
spew("$tree/README.md", "changed\n");
($exit, my $dirty, $err) = dist('dirty');
is $exit, 0, 'with a changed file';
like $err, qr/uncommitted changes are not in the tarball/, '... it says so';
is((run([ 'cmp', $tarball, $dirty ]))[0], 0, '... and has none of it');
git($tree, qw(checkout -q README.md));

# Between two releases.
release("## Unreleased\n\n$changes");
like((dist('between'))[1], qr{/ngx_http_vaani_module-\Q$version\E\+dev\.[0-9a-f]{7,}\.tar\.gz\z}, 'no release: another name');

# Where there is no git.
my $unpacked = tmpdir() . '/unpacked';
make_path($unpacked);
run([ 'tar', '-xf', $tarball, '-C', $unpacked ]);
($exit, my $out, $err) = run([ "$unpacked/$top/tools/dist", tmpdir() . '/none' ]);
is $exit, 1, 'in an unpacked tarball: no tarball';
like $err, qr/is made from a git checkout/, '... it says why';

done_testing;
