# The README's way to a first event: every shell command of it, with and without
# the package, on a Debian that has nginx and Redis. The commands are those of
# README.md and, without the package, of docs/install.md, block by block, and so is
# the configuration. A new block is run, and the test fails until it expects a
# result for it.
#
# "make run", "make demo" and "make test" are t/examples/quick-start.t's.
#
# Everything runs in a copy of this machine's file system, see t/deb/root. Two
# programs are replaced: systemctl by t/deb/systemctl, and sudo, which only runs the
# command.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use Vaani::Test;

use JSON::PP ();
use Vaani::Test::Readme;
use Vaani::Test::Root;

enter_root($0, qw(PYTHON_BIN));

my $readme = Vaani::Test::Readme->new(ROOT . '/README.md');
my $install = Vaani::Test::Readme->new(ROOT . '/docs/install.md');
my $package = 'libnginx-mod-http-vaani';
my $checkout = '/root/checkout';
my $bin = tmpdir() . '/bin';

mkdir $bin;
succeeds('install', '-m', '755', ROOT . '/t/deb/systemctl', "$bin/systemctl");
chmod 0755, spew("$bin/sudo", qq(#!/bin/sh\nexec "\$@"\n));
$ENV{PATH} = "$bin:$ENV{PATH}";

succeeds('mkdir', $checkout);
succeeds('sh', '-c', "tar -c -C @{[ ROOT ]} --exclude=./build --exclude=./.git . | tar -x -C $checkout");
succeeds('rm', '-f', '/usr/sbin/policy-rc.d');    # services are started here

# A shell that stops at the first failed command, with "yes" as the answer to apt.
sub shell ($text) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my ($exit, $output) = output(
        'sh', '-c', 'echo y | bash -e -o pipefail -c "$1"', 'sh', "cd $checkout\n$text");
    is $exit, 0, $text =~ s/\s*\\\n\s*/ /gr =~ s/\n(?=.)/; /gr =~ s/\n//r or diag $output;
    return $output;
}

sub redis (@command) { return (output('redis-cli', @command))[1] =~ s/\s+\z//r }

# HGETALL of redis-cli, which is not at a terminal: names and values in turn.
sub fields ($text) {
    my @lines = split /\n/, $text;
    push @lines, '' if @lines % 2;
    return { @lines };
}

# --- the result of each block: [ its content, the expected effects ]

my $reloaded;    # a call that is true when the old workers are gone

my @outcomes = (
    [ qr/^make deb$/m, sub ($output) {
        is +(output('dpkg-query', '-W', '-f', '${db:Status-Status}', $package))[1], 'installed', '... the package is installed';
        like +(output('nginx', '-T'))[1], qr/^load_module .*ngx_http_vaani_module\.so;$/m, '... nginx loads the module';
        like +(output('vaani-spool', 'list', '/var/spool/vaani'))[1], qr/^0 records/, '... vaani-spool is there';
        is +(output('man', '-w', 'vaani-spool'))[0], 0, '... and its manual';
    } ],
    [ qr/sites-available/, sub ($output) {
        like $output, qr/test is successful/, '... nginx finds it right';
        $reloaded->();
    } ],
    [ qr/\btee \/etc\/nginx\/modules-enabled/, sub ($output) {
        ok -s '/usr/lib/nginx/modules/ngx_http_vaani_module.so', '... the module is where nginx looks for it';
        is +(output('nginx', '-t'))[0], 0, '... and is loaded';
    } ],
    [ qr/\bbuild\/vaani-spool\b/, sub ($output) {
        like +(output('/usr/local/sbin/vaani-spool'))[1], qr/\bresend\b/, '... it runs';
    } ],
    [ qr/^sudo install .*\bbin\/vaani-call\b/m, sub ($output) {
        is +(output('/usr/local/bin/vaani-call', '--help'))[0], 0, '... it runs';
    } ],
    [ qr/\bsystemctl start\b/, sub ($output) {
        is redis('PING'), 'PONG', '... Redis is there';
        $reloaded->();
    } ],
    [ qr/^curl -i .*\n.*\n.*\nredis-cli HGETALL/, sub ($output) {
        my ($answer, $body, $hash) = $output =~ /^(HTTP\/1\.1 \d+).*?\r\n\r\n(\{"status":"ok"\})\n(.*)/s;
        is $answer, 'HTTP/1.1 200', '... is answered 200';
        is $body, '{"status":"ok"}', '... ok';
        my $call = fields($hash // '');
        is "@$call{qw(room_name status seq direction)}", 'room_123abc ringing 1 outbound', '... the call is in Redis'
            or diag $output;
    } ],
    [ qr/\bvaani-call\b.*--watch/s, sub ($output) {
        my ($first) = $output =~ /\A(.*)$/m;
        my ($want) = grep { /^\Q@{[ $first =~ s{(?:\bin \d|\d+(?:\.\d+)? ms).*}{}r ]}\E/m } map { $_->{text} } $readme->of('text');
        my ($shown, $real) = map { s/\bin \d.*events\/s|\d+(?:\.\d+)? ms/N/gr } $want // 'nothing', $output;
        is $real, $shown, '... prints what is shown';
    } ],
    [ qr/^vaani-calls active$/m, sub ($output) {
        like $output, qr/^ROOM .*\n(?:.*\n)*room_123abc .* ringing /m, '... the call is going on';
        like $output, qr/^ROOM .* UPDATED .*\n(?:\S+ .*\n){10}/m, '... the last ones are others';
        like $output, qr/^room +room_123abc\nstatus +ringing$/m, '... with what is known of it';
    } ],
    [ qr/\bcurl\b.*\/vaani\/status\b/, sub ($output) {
        my ($numbers, $metrics) = $output =~ /\A(\{.*\})\s*(# HELP.*)\z/s;
        my ($ringing) = grep { $_->{event} eq 'call_ringing' } @{ JSON::PP::decode_json($numbers // '{}')->{deliveries} // [] };
        cmp_ok $ringing->{ok} // 0, '>', 1, '... as JSON' or diag $output;
        like $metrics // '', qr/^vaani_deliveries_total\{event="call_ringing",result="ok"\} $ringing->{ok}$/m, '... for Prometheus';
    } ],
);

my %done;    # the blocks that were run

# The shell commands of a section. The one on doing without the package is in
# docs/install.md.
sub commands_of ($section) {
    my ($name, $page) = $section eq $WITHOUT_PACKAGE ? ('docs/install.md', $install) : ('README.md', $readme);
    return map { { %$_, place => "$name:$_->{line}" } } grep { $_->{lang} eq 'sh' } $page->section($section);
}

sub follow ($section, @which) {
    my @blocks = commands_of($section);
    @blocks = @blocks[@which] if @which;
    ok scalar @blocks, "$section: has commands";

    for my $block (@blocks) {
        my @outcome = grep { $block->{text} =~ $_->[0] } @outcomes;
        is scalar @outcome, 1, "$block->{place}: it is known what comes of it" or next;

        my %old = map { $_ => 1 } workers();
        $reloaded = sub {
            ok wait_for(sub { my @now = workers(); @now && !grep { $old{$_} } @now }), '... other workers are there';
        };
        $outcome[0][1]->(shell($block->{text}));
        $done{ $block->{place} } = 1;
    }
    return;
}

# Nothing of an earlier attempt is left. Debian's own site stays enabled.
sub fresh () {
    output('dpkg', '-P', $package);
    output(qw(nginx -s stop));
    ok wait_for(sub { !workers() }), 'no nginx runs';
    redis('FLUSHALL');
    output('rm', '-rf', '/var/spool/vaani', glob('/etc/nginx/conf.d/* /etc/nginx/sites-*/vaani /etc/nginx/modules-enabled/*vaani*'),
        '/usr/lib/nginx/modules/ngx_http_vaani_module.so', glob('/usr/local/*bin/vaani-*'));
    symlink '/etc/nginx/sites-available/default', '/etc/nginx/sites-enabled/default';
    return;
}

# The snippets, as they stand there, hear of an event.
sub subscribers_hear () {
    my $dir = tmpdir() . '/snippets';
    mkdir $dir;
    symlink ROOT . '/build/examples/node_modules', "$dir/node_modules";

    my %code = map { $_->{lang} => $_->{text} } $readme->section('Receive the transitions');
    my @programs = map {
        my ($program, $file, $code) = @$_;
        my $out = "$dir/$file.out";
        local $ENV{PYTHONUNBUFFERED} = 1;
        [ $file, $out, Vaani::Test::Process->spawn(
            argv => [ $program, spew("$dir/$file", $code) ], stdout => $out, stderr => $out) ];
    } [ $ENV{PYTHON_BIN} || '/usr/bin/python3', 'snippet.py', $code{python} ], [ 'node', 'snippet.mjs', $code{javascript} ];

    ok wait_for(sub { redis(qw(PUBSUB NUMSUB vaani:events)) eq "vaani:events\n2" }), 'both subscribe';
    like shell(q(curl -s http://vaani.localhost/vaani/webhook -H 'Content-Type: application/json' -d '{"event":"call_ringing","room_name":"heard"}')),
        qr/\{"status":"ok"\}/, '... an event';
    for (@programs) {
        my ($name, $out, $process) = @$_;
        ok wait_for(sub { slurp($out) =~ /^heard call_ringing ringing$/m }), "$name prints the transition" or diag slurp($out);
        $process->kill_group;
    }
    return;
}

subtest 'without the package' => sub {
    fresh();
    follow($WITHOUT_PACKAGE, 0 .. 2);

    # "put what is inside of http { } into /etc/nginx/conf.d/vaani.conf"
    my ($file) = grep { $_->{lang} eq 'nginx' } $readme->section('Configuration');
    my ($http) = $file->{text} =~ /^http \{\n(.*)^\}$/ms;
    spew('/etc/nginx/conf.d/vaani.conf', $http);

    follow($WITHOUT_PACKAGE, 3);
    follow($_) for 'Send an event', 'Try it without a phone', 'Watch it';
    subscribers_hear();
};

subtest 'with the package' => sub {
    fresh();
    succeeds('systemctl', 'start', 'nginx', 'redis-server');    # as apt does when it installs them
    follow('Install on Debian', 0 .. 1);
    follow($_) for 'Send an event', 'Try it without a phone', 'Watch it';
    subscribers_hear();
};

subtest 'nothing was left out' => sub {
    for my $block (map { commands_of($_) } @QUICK_START, $WITHOUT_PACKAGE) {
        ok $done{ $block->{place} }, $block->{place};
    }
};

subtest 'a wrong command is noticed' => sub {
    for my $command (
        'systemctl relaod nginx', 'systemctl reload ngnix', 'systemctl enable nginx', 'systemctl start',
        'nginx -t -c /nowhere && true', 'false | cat', 'sudo false',
    ) {
        isnt +(output('bash', '-e', '-o', 'pipefail', '-c', $command))[0], 0, $command;
    }
};

done_testing;
