# The files that the documented commands create in a checkout are ignored by
# git: a build, the packages of the examples, Python's caches.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

use File::Path qw(make_path);

# A repository with nothing but the lists, so that this runs in a release, too.
my $dir = tmpdir() . '/checkout';
my @lists = split /\n/, (run([ qw(find . -name build -prune -o -name .git -prune -o -name node_modules -prune
    -o -name .gitignore -print) ], dir => ROOT))[1];
ok scalar(grep { $_ eq './.gitignore' } @lists), 'the checkout has a list';

sub make_file ($path, $text = "x\n") {
    make_path("$dir/$path" =~ s{/[^/]+$}{}r);
    return spew("$dir/$path", $text);
}

sub git (@arguments) {
    my ($exit, $out, $err) = run([ qw(git -c core.excludesFile=/dev/null), @arguments ], dir => $dir);
    die "git @arguments: $err\n" if $exit;
    return $out;
}

make_file($_, slurp(ROOT . "/$_")) for @lists;
git(qw(init -q));

# The directories that the commands of the documents write to: "npm ci --prefix DIR", and
# the programs in Python that they run.
my %prefix = map { $_ => 1 } map { slurp(ROOT . "/$_") =~ /\bnpm ci --prefix (\S+)/g } qw(README.md examples/README.md examples/demo);
delete @prefix{ grep { /[\$"']/ } keys %prefix };
ok scalar %prefix, 'there are packages of npm';
my %cache = map { s{/[^/]+$}{}r => 1 } split /\n/, (run([ qw(find examples -name *.py -not -path */node_modules/*) ], dir => ROOT))[1];
ok scalar %cache, 'there are programs in Python';

my @made = ('build/ngx_http_vaani_module.so', 'compile_commands.json', (map { "$_/node_modules/ioredis/package.json" } sort keys %prefix),
    map { "$_/__pycache__/subscriber.cpython-311.pyc" } sort keys %cache);
make_file($_) for @made;
make_file('examples/of-mine.conf');

my @seen = sort map { /^\?\? (.*)/ ? $1 : () } split /\n/, git(qw(status --porcelain --untracked-files=all));
is_deeply \@seen, [ sort +(map { s{^\./}{}r } @lists), 'examples/of-mine.conf' ], 'git sees nothing but what is new';

done_testing;
