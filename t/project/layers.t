# The sources point one way: a file uses only files of the rows below its own in
# docs/architecture.md, "Dependencies", and only of folders that its own may use.
#
# A file uses the functions and data of other files that the linker sees. A handler
# that a higher file has set is called without its name, so it does not count.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

# Besides itself.
my %MAY_USE = (
    core  => [],
    redis => [qw(core)],
    spool => [qw(core)],
    http  => [qw(core redis spool)],
    front => [qw(core redis spool http)],
    tool  => [qw(core)],
);

# nginx's structure of the module is the name of the module, and no part of its
# file.
my $NAME = 'ngx_http_vaani_module';

my ($picture) = slurp(ROOT . '/docs/architecture.md') =~ /^## Dependencies\n.*?^```text\n(src.*?)^```/ms
    or die "no picture\n";

# The row of each file: the first one is the highest.
my %row = ("front/$NAME" => 0);
my ($folder, $row) = ('', 0);

for (split /\n/, $picture) {
    $folder = $1 if m{^src/(\w+)$};
    $row++ if /^  \S/;
    $row{"$folder/" . s{.*/}{}r} = $row for /^ / ? split : ();
}

sub name_of ($object) {
    my ($dir, $file) = $object =~ m{([^/]+)/(\w+)\.o$};
    my $top = $MAY_USE{$dir} ? $dir : $file eq $NAME ? 'front' : 'http';
    return "$top/$file" =~ s{/ngx_(?:http_vaani|vaani_redis|vaani_spool)_(?!module)}{/}r;
}

my $objs = $ENV{VAANI_MODULE} ? $ENV{VAANI_MODULE} =~ s{[^/]*$}{nginx-dev/objs}r
    : ($ENV{NGINX_BIN} // '') =~ s{/[^/]*$}{}r;
plan skip_all => "no objects in $objs" if !-f "$objs/Makefile";

my @objects = grep { !/_modules\.o$/ } map { "$objs/$_" } slurp("$objs/Makefile") =~ m{^objs/(addon/\S+\.o):}mg;

# vaani-spool is compiled as a whole, so its objects are made here.
mkdir tmpdir() . '/tool' or die "mkdir: $!\n";
my ($exit, $out, $err) = run([ 'sh', '-c', 'cd "$1" && gcc -std=gnu99 -O0 -I"$2"/src/core -c "$2"/src/tool/*.c', 'sh',
    tmpdir() . '/tool', ROOT ], timeout => 120);
is $exit, 0, 'vaani-spool compiles' or diag $err;
push @objects, glob tmpdir() . '/tool/*.o';

my (undef, $symbols) = run([ 'nm', '-A', @objects ]);
my (%defined_in, %used_by);

for (split /\n/, $symbols) {
    my ($object, $type, $symbol) = /^(.*?\.o):[0-9a-f ]* ([A-Z]) (\w+)$/ or next;
    next if $symbol eq $NAME || $symbol eq 'main';
    my $file = name_of($object);
    if ($type eq 'U') { push @{ $used_by{$file} }, $symbol }
    else              { $defined_in{$symbol} = $file; $used_by{$file} //= [] }
}

# Scripts and pages that the build has made are in no folder.
my @files = grep { !m{^http/vaani_transition_script$|^http/page$} } sort keys %used_by;
is_deeply [ grep { !/^front/ } sort keys %row ], [ grep { !/^front/ } @files ], 'the picture has all files';

my @wrong;

for my $user (@files) {
    my ($top) = $user =~ m{^(\w+)};

    for my $symbol (@{ $used_by{$user} }) {
        my $used = $defined_in{$symbol} // next;
        next if $used eq $user || !defined $row{$used};
        my ($below) = $used =~ m{^(\w+)};

        # The format of the files is that of the spool.
        next if $top eq 'tool' && $used eq 'spool/vaani_journal';

        push @wrong, "$user uses $symbol() of $used"
            if $top eq $below ? $row{$used} <= $row{$user} : !grep { $_ eq $below } @{ $MAY_USE{$top} };
    }
}

cmp_ok keys %defined_in, '>', 400, 'symbols were found' or diag $objs;
is_deeply \@wrong, [], 'each file uses lower ones only' or diag join "\n", @wrong;

done_testing;
