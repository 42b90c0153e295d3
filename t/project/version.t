# One version, wherever it is told.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use File::Path qw(make_path);
use JSON::PP ();
use Time::Piece ();
use Vaani::Test;


sub file ($path) { return slurp(ROOT . "/$path") || die "no $path\n" }

my ($version) = file('VERSION') =~ /^(\d+\.\d+\.\d+)\n\z/;
ok $version, 'the file VERSION has it' or BAIL_OUT('no version');

# What is being worked on is above it, without a version of its own.
my ($top, $day) = file('CHANGELOG.md') =~ /^## (\S+), (\d{4}-\d\d-\d\d)$/m;
is $top, $version, 'the change log begins with it';

($top, my $date) = file('debian/changelog') =~ /^libnginx-mod-http-vaani \(([^)]+)\).*?^ -- .*?>  (.*?)$/ms;
is $top, $version, '... that of the package, too';
is(Time::Piece->strptime($date, '%a, %d %b %Y %T %z')->ymd, $day, '... on the same day');

for my $tool (qw(vaani-call vaani-calls)) {
    my ($exit, $out) = run([ $^X, ROOT . "/bin/$tool", '--version' ]);
    is "$exit $out", "0 $tool $version\n", "$tool --version";
}

is((run([ vaani_spool(), '--version' ]))[1], "vaani-spool $version\n", 'vaani-spool --version');

for my $page (map { s{.*/}{}r } glob ROOT . '/man/*.8') {
    is((file("man/$page") =~ /^\.TH \S+ 8 \S+ "([^"]*)"/m)[0], $version, "man/$page");
}

my @labels = file('Dockerfile') =~ /\bimage\.version="([^"]*)"/g;
is join(' ', @labels), join(' ', ($version) x 3), 'the labels of the images';
is((file('examples/kubernetes/vaani.yaml') =~ m{image: \S+/vaani:(\S+)})[0], $version, 'the image of the example for Kubernetes');

# --- what sets it

# A copy of what it changes.
sub tree ($name) {
    my $dir = tmpdir() . "/$name";
    make_path("$dir/$_") for qw(bin man tools debian examples/kubernetes);
    for my $file (map { s{^\Q${\ROOT}/\E}{}r } map { ROOT . "/$_" } qw(VERSION CHANGELOG.md Dockerfile bin/vaani-call
        bin/vaani-calls debian/changelog debian/control examples/kubernetes/vaani.yaml tools/set-version), glob 'man/*.8')
    {
        spew("$dir/$file", file($file));
    }
    return $dir;
}

sub set_version ($dir, @arguments) {
    my ($exit, $out, $err) = run([ $^X, "$dir/tools/set-version", @arguments ]);
    return ($exit, $out . $err);
}

sub tree_texts ($dir) {
    return map { $_ => slurp("$dir/$_") } split /\n/, (run([ qw(find . -type f -printf %P\n) ], dir => $dir))[1];
}

subtest 'make version' => sub {
    my $dir = tree('version');
    is((set_version($dir))[1], "$version\n", 'prints it');

    # As in a time in which something is being worked on.
    my $changes = slurp("$dir/CHANGELOG.md");
    $changes =~ s/^(?=- \[\Q$version\E\])/- [Unreleased](#unreleased)\n/m if $changes !~ /^- \[Unreleased\]/m;
    $changes =~ s/^(?=## \Q$version\E,)/## Unreleased\n\nSomething.\n\n/m if $changes !~ /^## Unreleased$/m;
    spew("$dir/CHANGELOG.md", $changes);

    my %before = tree_texts($dir);
    my ($exit, $text) = set_version($dir, '7.8.9', '2031-02-03');
    is $exit, 0, 'sets it' or diag $text;

    my %after = tree_texts($dir);
    is join(' ', grep { $before{$_} eq $after{$_} } sort keys %before), 'debian/control tools/set-version', 'in all files';
    is $after{VERSION}, "7.8.9\n", '... in VERSION';
    like $after{'CHANGELOG.md'}, qr/^- \[7\.8\.9\]\(#789-2031-02-03\)\n- \[\Q$version\E\]/m, '... among the contents';
    like $after{'CHANGELOG.md'}, qr/^## 7\.8\.9, 2031-02-03$(?:(?!^## ).)*^## \Q$version\E, /ms, '... above what was there';
    unlike $after{'CHANGELOG.md'}, qr/unreleased/i, '... instead of Unreleased';
    like $after{'debian/changelog'}, qr/\A\S+ \(7\.8\.9\) .*? -- \S.*?  Mon, 03 Feb 2031 00:00:00 \+0000\n\n\S+ \(\Q$version\E\) /s,
        '... as an entry of the package';

    is((set_version($dir, '7.8.9', '2031-02-03'))[0], 0, 'again');
    is_deeply { tree_texts($dir) }, \%after, '... changes nothing';

    for my $case (
        [ 'not a version',    qr/"1\.0" is not a version/,          '1.0' ],
        [ 'not a date',       qr/"2031-02-30" is not a date/,       '7.9.0', '2031-02-30' ],
        [ 'nothing to say',   qr/CHANGELOG\.md has no entry "Unreleased"/, '7.9.0', '2031-03-01' ],
        [ 'too many',         qr/expected VERSION/,                 '7.9.0', '2031-03-01', 'x' ],
    ) {
        my ($name, $error, @arguments) = @$case;
        my ($exit, $text) = set_version($dir, @arguments);
        ok $exit && $text =~ $error, "$name: an error" or diag $text;
        is_deeply { tree_texts($dir) }, \%after, '... changes nothing';
    }

    unlink "$dir/VERSION";
    like((set_version($dir))[1], qr/^set-version: cannot read VERSION: No such/, 'no file VERSION: an error');
};

# --- what nginx says

my %nginx = (
    log_level => 'notice',
    http      => 'server { listen unix:%%SOCK%%; location = /status { vaani_status; } }',
);
my $line = qr{\[notice\] .*: vaani: ngx_http_vaani_module/\Q$version\E, hiredis \d+\.\d+\.\d+$};

my ($ok, $said) = Vaani::Test::Nginx->check(%nginx);
ok $ok, 'nginx -t';
unlike $said, qr/ngx_http_vaani_module/, '... says nothing of it';

my $nginx = Vaani::Test::Nginx->start(%nginx);
is scalar $nginx->log_lines($line), 1, 'the error log names it at the start';

my $mark = $nginx->log_mark;
$nginx->reload;
is scalar $nginx->log_lines($line, $mark), 1, '... and at a reload';

my $answer = $nginx->http->get('/status?format=json');
is JSON::PP::decode_json($answer->{body})->{version}, $version, 'vaani_status';

$answer = $nginx->http->get('/status?format=prometheus');
like $answer->{body}, qr/^vaani_info\{version="\Q$version\E",/m, '... and its metrics';

$nginx->stop;
done_testing;
