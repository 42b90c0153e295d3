# bin/vaani-calls, which shows calls, on what a real nginx has put into a real
# Redis: each command, and all that can be wrong with Redis and with its data.
#
# It logs in as the user of docs/permissions.md, so it can do no more than that.
# Other servers than a single one: t/tools/vaani-calls-servers.t.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

use File::Path qw(make_path);
use JSON::PP ();
use POSIX ();
use Time::HiRes ();
use Vaani::Test::ACL qw(documented);
use Vaani::Test::Events;
use Vaani::Test::FakeRedis;
use Vaani::Test::Process ();
use Vaani::Test::Terminal;

use constant TOOL => ROOT . '/bin/vaani-calls';
use constant PASSWORD => 'secret';    # as in the document
use constant HOUR => 3_600_000;

$ENV{TZ} = 'UTC';
$ENV{LC_ALL} = 'C';
delete @ENV{qw(REDIS_URL VAANI_REDIS_USER VAANI_REDIS_PASSWORD)};

my $json = JSON::PP->new->utf8;
my ($words) = documented('calls');
my $redis = Vaani::Test::Redis->start(tcp => 1, acl => [qw(~* +@all)], config => [ 'user calls ' . join ' ', @$words ]);
my $client = $redis->client;
my $nginx = Vaani::Test::Nginx->start(http => <<"CONF");
    vaani_redis @{[ $redis->url ]};
    client_max_body_size 8m;
    server {
        listen unix:%%SOCK%%;
        listen 127.0.0.1:%%PORT%%;
        vaani_index  on;
        vaani_stream vaani:stream;
        location = /hook    { vaani_webhook; }
        location = /partly  {
            vaani_webhook; vaani_partitions 16; vaani_prefix 'vaani:{\$vaani_partition}';
            vaani_stream 'vaani:{\$vaani_partition}:stream';
        }
        location = /slim    { vaani_webhook; vaani_payload off; }
        location = /hello   { return 200 hello; }
    }
CONF
my $http = $nginx->http;

sub login ($user = 'calls', $password = PASSWORD) { return "redis://$user:$password\@127.0.0.1:" . $redis->port }

$ENV{REDIS_URL} = login();

# Runs it to its end. In any case it prints no line of its own source, and no
# password.
my @strange;

sub calls (@arguments) {
    my ($exit, $out, $err) = run([ $^X, '-w', TOOL, @arguments ]);
    push @strange, "@arguments: $err" if $err =~ / at \S+ line \d+|^Use of |\bsesame\b|(?<!the )(?<!no )\bsecret\b/m;
    push @strange, "@arguments: $out" if $out =~ /[\x00-\x08\x0b-\x1f\x7f]|\xc2[\x80-\x9f]/;
    return ($exit, $out, $err);
}

# The lines of a list without its head.
sub lines ($text) { return splice @{ [ split /\n/, $text ] }, 1 }
sub rooms ($text) { return map { /^(\S+)/ } lines($text) }

sub objects ($text) { return map { $json->decode($_) } split /\n/, $text }

sub post ($body, $uri = '/hook') {
    my $answer = $http->post($uri, $body);
    is $answer->status, 200, $body =~ s/^(.{60}).+/$1.../sr if $answer->status != 200;
    return;
}

sub now_ms () { return int(1000 * Time::HiRes::time()) }

# An active call that began so long ago, as far as the index goes.
sub active_call ($room, $ago = 0, %more) {
    post(event('call_started', room => $room, %more));
    $client->cmd('ZADD', 'vaani:active', now_ms() - $ago, $room) if $ago;
    return;
}

sub refuses ($status, $like, $name, @arguments) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my ($exit, $out, $err) = calls(@arguments);
    is $exit, $status, $name;
    like $err, $like, '... says why';
    is scalar(() = $err =~ /\n/g), 1, '... in one line' or diag $err;
    return $out;
}

# --- the program itself

subtest 'documentation' => sub {
    my $source = slurp(TOOL);
    my ($pod_exit, undef, $pod) = run([ 'podchecker', '-warnings', TOOL ]);
    is $pod_exit, 0, 'podchecker finds nothing';
    unlike $pod, qr/WARNING/, '... not even a warning' or diag $pod;

    my ($code) = $source =~ /^(.*?)^__END__$/ms;
    my ($common) = $code =~ /^my \@OPTIONS = qw\((.*?)\)/ms;
    my %verbs = $code =~ /^    (\w+)\s+=> \{ run => .*?options => \[qw\((.*?)\)\] \},$/mg;
    my %options = map { /^([a-z-]+)/ ? ($1 => 1) : () } split ' ', join ' ', $common, values %verbs;
    cmp_ok scalar keys %verbs, '>=', 5, 'there are commands';

    my @items = grep { /^=item / } split /\n/, $source;
    my %documented = map { $_ => 1 } map { /(?:B<|\s)--([a-z-]+)/g } @items;
    is_deeply [ sort keys %documented ], [ sort keys %options ], 'all options are documented, and no other';
    my %commands = map { /^=item B<(\w+)>/ ? ($1 => 1) : () } @items;
    ok $commands{$_}, "$_ is documented" for sort keys %verbs;

    my ($exit, $help, $err) = calls('--help');
    is "$exit $err", '0 ', '--help';
    like $help, qr/--$_\b/, "... has --$_" for sort keys %options;
    is_deeply [ $source =~ /^=head1 (.+)$/mg ],
        [ 'NAME', 'SYNOPSIS', 'DESCRIPTION', 'COMMANDS', 'OPTIONS', 'ENVIRONMENT', 'EXIT STATUS', 'EXAMPLES', 'SEE ALSO' ],
        'the sections of a man page';

    my %core = map { $_ => 1 } qw(
        Encode Errno Fcntl Getopt::Long IO::Handle IO::Socket JSON::PP POSIX Pod::Usage Socket Time::HiRes constant warnings feature
    );
    is join(' ', grep { !$core{$_} } $code =~ /^\s*(?:use|require|no) ([A-Z][\w:]+|[a-z]\w{4,})/mg), '', 'no other modules';
    like $code, qr/eval \{ require IO::Socket::SSL/, '... and that of TLS is optional';

    # The words that bash offers exist.
    my $offers = sub (@typed) {
        my $file = ROOT . '/completions/vaani-calls.bash';
        my ($exit, $out, $err) = run([ 'bash', '-c', 'set -u; . "$0"; shopt -s extglob; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1));
            _vaani_calls; printf "%s\n" "${COMPREPLY[@]}"', $file, 'vaani-calls', @typed ]);
        is "$exit $err", '0 ', "completion of @typed";
        return [ sort grep { length } split /\n/, $out ];
    };
    is_deeply $offers->(''), [ sort keys %verbs ], '... the commands';
    is_deeply $offers->('--prefix', 'last', 'a'), ['active'], '... after an option with a value';
    is_deeply $offers->('--prefix', '=', 'last', 'a'), ['active'], '... or with a "="';
    is_deeply $offers->('--cluster', 'w'), ['watch'], '... after one without';
    is_deeply $offers->('show', ''), [], '... no room';
    for my $verb (sort keys %verbs) {
        is_deeply $offers->($verb, '--'), [ sort map { "--$_" } map { /^([a-z-]+)/ } split ' ', "$common $verbs{$verb}" ], "... the options of $verb";
    }
    my $path = spew(tmpdir() . '/a-password', 'x');
    is_deeply $offers->('--password-file', tmpdir() . '/a-pass'), [$path], '... files';
    is_deeply $offers->('metrics', '--output', '=', tmpdir() . '/a-pass'), [$path], '... also after a "="';
    is_deeply $offers->('active', '--older', ''), [], '... nothing for a time';
};

# --- without an index

subtest 'no index' => sub {
    my $why = qr/^vaani-calls: no index at vaani:active and vaani:calls: "vaani_index on;" is not set/;
    refuses(1, $why, "@$_", @$_) for ['active'], [qw(active --count)], [qw(active --older 1h)], [qw(active --json)], ['last'], ['watch'];

    my ($exit, $out, $err) = calls('metrics');
    is "$exit $err", '0 ', 'metrics';
    like $out, qr/^vaani_calls_up 1$/m, '... Redis is up';
    like $out, qr/^vaani_calls_index 0$/m, '... without an index';
    unlike $out, qr/^vaani_calls_active /m, '... so nobody knows how many';
};

# --- lists

my %began;

subtest 'active and last' => sub {
    post($_) for call_path('outbound-answered/none', 'outbound-done');
    my ($exit, $out, $err) = calls('active');
    is "$exit $out", '0 ', 'all calls are over';
    is $err, "vaani-calls: no active calls\n", '... which is told';
    is +(calls('active', '--count'))[1], "0\n", '... --count';
    is_deeply [ calls('active', '--json') ], [ 0, '', '' ], '... --json prints nothing';

    # One call for each possible end, and three active ones.
    post($_) for call_path('rejected/none', 'outbound-rejected');
    active_call('outbound-young');
    active_call('outbound-old', 2 * HOUR, phone_number => '+12025550123');
    active_call('inbound-middle', HOUR / 2);
    post(event('call_ringing', room => 'outbound-old'));
    post(event('call_rejected', room => 'outbound-early'));
    $began{$_} = $client->cmd('ZSCORE', 'vaani:active', $_) for qw(outbound-young outbound-old inbound-middle);

    ($exit, $out, $err) = calls('active');
    is "$exit $err", '0 ', 'three go on';
    is_deeply [ rooms($out) ], [qw(outbound-old inbound-middle outbound-young)], '... the oldest first' or diag $out;
    my ($head, $first) = split /\n/, $out;
    like $head, qr/^ROOM +SINCE +AGE +STATUS +DIRECTION +PHONE NUMBER$/, '... the head';
    my $since = POSIX::strftime('%Y-%m-%d %H:%M:%S', gmtime int($began{'outbound-old'} / 1000));
    like $first, qr/^outbound-old +\Q$since\E +2h \d\dm +ringing +outbound +\+12025550123$/, '... what is told of a call';

    is_deeply [ rooms(+(calls('active', '--older', '1h'))[1]) ], ['outbound-old'], '--older 1h';
    is_deeply [ rooms(+(calls('active', '--older=20m'))[1]) ], [qw(outbound-old inbound-middle)], '--older=20m';
    is_deeply [ calls('active', '--older', '1d') ], [ 0, '', "vaani-calls: no active call began that long ago\n" ], '--older 1d';
    is +(calls('active', '--count', '--older', '20m'))[1], "2\n", '--count --older';
    is +(calls('active', '--count'))[1], "3\n", '--count';

    my ($one, @others) = objects(+(calls('active', '--json'))[1]);
    my $age = delete $one->{age_ms};
    ok $age >= 2 * HOUR && $age < 3 * HOUR, '--json: the age';
    my $hash = $client->hgetall('vaani:call:outbound-old');
    is_deeply $one, {
        room_name => 'outbound-old', key => 'vaani:call:outbound-old', indexed_at => 0 + $began{'outbound-old'},
        (map { $_ => $hash->{$_} } qw(status direction phone_number last_event)), map { $_ => 0 + $hash->{$_} } qw(created_at updated_at),
    }, '... the rest';
    is scalar @others, 2, '... a line for each call';

    ($exit, $out) = calls('last');
    my @latest = @{ $client->cmd(qw(ZRANGE vaani:calls 0 -1 REV)) };
    is scalar @latest, 6, 'six calls in all';
    is_deeply [ rooms($out) ], \@latest, 'last: the latest first';
    like $out, qr/^ROOM +UPDATED +STATUS +OUTCOME +DURATION +DIRECTION +END REASON$/m, '... the head';
    like $out, qr/^outbound-done +\S+ \S+ +ended +completed +42\.5s +outbound +AGENT_REQUESTED_DISCONNECT$/m, '... what is told of a call';
    is_deeply [ rooms(+(calls('last', 2))[1]) ], [ @latest[ 0, 1 ] ], 'last 2';
    my ($done) = grep { $_->{room_name} eq 'outbound-done' } objects(+(calls(qw(last --json)))[1]);
    is "$done->{call_duration_ms} $done->{outcome} $done->{end_reason}", '42500 completed AGENT_REQUESTED_DISCONNECT', 'last --json';

    is_deeply [ rooms(+(calls('active', '--redis', $redis->url =~ s{//}{//calls:secret\@}r . '/0'))[1]) ], [ rooms(+(calls('active'))[1]) ], '--redis';
    refuses(1, qr/no index at other:active and other:calls:/, 'another prefix', 'active', '--prefix', 'other')
        if $client->cmd(qw(ACL SETUSER calls ~other:*));
};

# --- a call

subtest 'show' => sub {
    my ($exit, $out, $err) = calls('show', 'outbound-done');
    is "$exit $err", '0 ', 'a call that is over';
    my $hash = $client->hgetall('vaani:call:outbound-done');
    like $out, qr/^\Q$_->[0]\E +\Q$_->[1]\E$/m, "... $_->[0]"
        for [ room => 'outbound-done' ], [ status => 'ended' ], [ outcome => 'completed' ], [ direction => 'outbound' ],
        [ duration => '42.5s' ], [ end_reason => 'AGENT_REQUESTED_DISCONNECT' ], [ summary => $hash->{summary} ],
        [ transcript => length($hash->{transcript}) . ' bytes' ];
    my @events = $out =~ /^  (\w+) +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}/mg;
    is "@events", 'call_started call_ringing user_picked_up_at call_ended call_postprocessing', '... its events';
    unlike $out, qr/Missing/, '... nothing is missing';
    is index($out, substr $hash->{transcript}, 0, 20), -1, '... not the transcript';
    like +(calls('show', 'outbound-done', '--transcript'))[1], qr/^Transcript:\n  \Q@{[ substr $hash->{transcript}, 0, 20 ]}\E/m, '--transcript';

    ($exit, $out) = calls('show', 'outbound-old');
    like $out, qr/^outcome +none yet$/m, 'a call that goes on';
    like $out, qr/^Missing:\n  call_ended +not received yet; no event for \d+s\n  call_postprocessing +not received yet\n/m, '... what is missing';

    $client->cmd('HSET', 'vaani:call:outbound-old', 'updated_at', now_ms() - 3 * HOUR);
    like +(calls('show', 'outbound-old'))[1], qr/call_ended +not received yet; no event for 3h \d\dm$/m, '... for how long';

    post(event('call_ended', room => 'outbound-half', call_duration => 3));
    $client->cmd('HSET', 'vaani:call:outbound-half', 'at:call_ended', now_ms() - 120_500);
    ($exit, $out) = calls('show', 'outbound-half');
    like $out, qr/^  call_postprocessing +not received yet; call_ended was received \dm \d\ds ago$/m, 'call_postprocessing has not come';
    like $out, qr/^  call_started +not received;/m, '... nor has call_started';
    post(event('call_postprocessing', room => 'outbound-post'));
    like +(calls('show', 'outbound-post'))[1], qr/^  call_ended +not received; call_postprocessing ended the call$/m, 'call_ended was lost';

    post(event($_, room => 'outbound-transfer')) for qw(call_started human_transfer_initiated);
    ($exit, $out) = calls('show', 'outbound-transfer');
    like $out, qr/^  human_transfer +the transfer has no result yet$/m, 'a transfer that goes on';
    like $out, qr/^transfer_phone_number +\+/m, '... to whom';
    post(event('human_transfer_failed', room => 'outbound-transfer'));
    ($exit, $out) = calls('show', 'outbound-transfer');
    unlike $out, qr/^  human_transfer  /m, 'one that failed';
    like $out, qr/^transfer_reason +busy$/m, '... why';

    my ($data) = objects(+(calls(qw(show outbound-half --json)))[1]);
    is_deeply $data->{missing}, [qw(call_started call_postprocessing)], '--json: what is missing';
    is "$data->{call_duration_ms} $data->{room_name} $data->{seq}", '3000 outbound-half 1', '... fields';
    ok !exists $data->{history}, '... no history';

    refuses(1, qr/^vaani-calls: no call at vaani:call:nobody: it has expired, or the room/, 'no such call', 'show', 'nobody');
    $client->cmd('ZADD', 'vaani:calls', now_ms() - 5000, 'outbound-gone');
    refuses(1, qr/^vaani-calls: the hash of the call at vaani:call:outbound-gone has expired.* was received \d{4}-\S+ \S+, (?:\d+m )?\d+s ago$/,
        'one that the index still has', 'show', 'outbound-gone');
    $client->cmd('ZREM', 'vaani:calls', 'outbound-gone');

    post(event('call_started', room => '--json: { odd }'));
    is +(calls('show', '--', '--json: { odd }'))[0], 0, 'a name that looks like an option';
};

subtest 'show --stream' => sub {
    my $room = 'outbound-stream';
    my $noise = sub () { post(event('call_ringing', room => "outbound-noise-$_")) for 1 .. 120 };
    $noise->();
    my @bodies = call_path('outbound-answered/transfer-failed', $room);
    for my $i (0 .. $#bodies) {
        post($bodies[$i]);
        $noise->() if $i == 1;
    }
    post(event('brand_new', room => $room));
    $noise->();

    my ($exit, $out, $err) = calls('show', $room, '--stream');
    is "$exit $err", '0 ', 'with --stream';
    my ($part) = $out =~ /^Events in the stream vaani:stream:\n(.*)/ms;
    my @names = $part =~ /^  \d{4}-\S+ \S+ +(\w+) /mg;
    my @want = map { $json->decode($_)->{event} } @bodies;
    is_deeply [ grep { $_ ne 'brand_new' } @names ], \@want, '... all events of the call, no others' or diag $out;
    like $part, qr/call_ringing +2 +dialing -> ringing +\d+ +\d+-\d+$/m, '... what is told of one';

    my ($data) = objects(+(calls('show', $room, '--stream', '--json'))[1]);
    is_deeply [ map { $_->{seq} } grep { !exists $_->{known} } @{ $data->{history} } ], [ 1 .. @bodies ], '--json: by seq';
    is $data->{history_complete}, JSON::PP::true, '... complete';
    my ($entry) = @{ $client->cmd('XRANGE', 'vaani:stream', ($data->{history}[0]{entry}) x 2) };
    my $message = $json->decode($entry->[1][1]);
    is_deeply +{ map { $_ => $data->{history}[0]{$_} } qw(id event seq status late received_at) },
        +{ map { $_ => $message->{$_} } qw(id event seq status late received_at) }, '... as the message has it';
    is $data->{history}[0]{payload_bytes}, length $bodies[0], '... and the length of the payload';

    # An unknown event before the end of the call, one without a payload, and a late one.
    my $slim = 'outbound-slim';
    post(event('brand_new', room => $slim));
    post(event($_, room => $slim), '/slim') for qw(call_ended call_ringing);
    ($data) = objects(+(calls('show', $slim, '--stream', '--json'))[1]);
    is_deeply [ map { [ @$_{qw(event known late)} ] } @{ $data->{history} } ],
        [ [ 'brand_new', JSON::PP::false, undef ], [ 'call_ended', undef, JSON::PP::false ], [ 'call_ringing', undef, JSON::PP::true ] ], 'unknown and late';
    is $data->{history}[1]{payload_bytes}, length event('call_ended', room => $slim), '... a payload that was left out';
    like +(calls('show', $slim, '--stream'))[1], qr/ call_ringing .* late$/m, '... in the table';

    # Bounded: it reads no more than the time of the call.
    my $read = sub () { my ($n) = $client->cmd('INFO', 'commandstats') =~ /^cmdstat_xrange:calls=(\d+)/m; return $n // 0 };
    my $before = $read->();
    calls('show', $room, '--stream');
    cmp_ok $read->() - $before, '<=', 5, 'it stops when all is found';

    $client->cmd('HSET', "vaani:call:$slim", 'seq', 7);
    ($exit, $out) = calls('show', $slim, '--stream', '--around', '5m');
    like $out, qr/^  2 of 7 transitions found from .*: the others were trimmed/m, 'what is not there is told';
    $client->cmd('HSET', "vaani:call:$slim", 'created_at', now_ms() + HOUR, 'updated_at', now_ms() + HOUR);
    like +(calls('show', $slim, '--stream'))[1], qr/^  0 of 7 transitions found/m, 'a time in which there is nothing';
    $client->cmd(qw(ACL SETUSER calls ~other:*));
    like +(calls('show', $room, '--stream=other:stream'))[1], qr/^  0 of \d transitions found/m, 'a stream that is not there';
    refuses(3, qr/^vaani-calls: the key vaani:calls is not a stream/, 'no stream', 'show', $room, '--stream=vaani:calls');

    # Entries that this module did not make.
    $client->cmd(qw(XADD vaani:stream *), @$_) for [qw(message nonsense)], [qw(other 1)], [ 'message', '[]' ],
        [ 'message', '{"room_name":{},"event":7}' ], [ 'message', '{"room_name":"' . $room . '"}' ], [ 'message', "\xff\xfe" ];
    $client->cmd('HSET', "vaani:call:$room", 'seq', 99, 'updated_at', now_ms());
    is +(calls('show', $room, '--stream'))[0], 0, 'entries of others';
    is +(calls('show', $room, '--stream', '--json'))[0], 0, '... as JSON';
};

# --- what an index and hashes can be like

subtest 'expired, old and wrong' => sub {
    active_call('outbound-lost', HOUR * 3);
    $client->cmd('DEL', 'vaani:call:outbound-lost');
    my ($exit, $out, $err) = calls('active', '--older', '2h30m');
    is "$exit $err", '0 ', 'a call whose hash is gone';
    like $out, qr/^outbound-lost +\d{4}-\S+ \S+ +3h \d\dm +expired +- +-$/m, '... with what the index has';
    my ($data) = objects(+(calls(qw(active --json --older 150m)))[1]);
    is "$data->{problem} $data->{room_name}", 'expired outbound-lost', '... as JSON';
    like +(calls('last', 1000))[1], qr/^outbound-lost .*expired/m, '... in last';

    # As 0.5 has left them, with fewer fields, and one that is nearly empty.
    $client->cmd('HSET', 'vaani:call:old-5', qw(room_name old-5 status ringing last_event call_ringing seq 2),
        'created_at', now_ms() - HOUR, 'updated_at', now_ms() - HOUR, '_state', '3 2 0 0', '_body:call_ringing', 'x' x 22);
    $client->cmd(qw(HSET vaani:call:old-0 seq 1));
    $client->cmd('HSET', 'vaani:call:odd', qw(seq -1 status), '', qw(created_at soon updated_at 1e400 call_duration_ms nan at:call_started 99999999999999999999 at:call_ended -5));
    $client->cmd('ZADD', 'vaani:active', now_ms() - 4 * HOUR, 'old-5', '-inf', 'odd', '1e300', 'old-0', -5, 'old-5-again');
    for my $room (qw(old-5 old-0 odd)) {
        is +(calls('show', $room))[0], 0, "show $room";
        is +(calls('show', $room, '--json'))[0], 0, '... as JSON';
        like join(' ', (calls('show', $room, '--stream'))[ 0, 2 ]), qr/^0 |^3 vaani-calls: cannot search the stream: created_at or updated_at of the call is missing/, '... --stream';
    }
    ($exit, $out, $err) = calls('active');
    is "$exit $err", '0 ', 'such calls in a list';
    like $out, qr/^old-5 +\S+ \S+ +4h \d\dm +ringing +- +-$/m, '... an old one';
    is +(calls('active', '--json'))[0], 0, '... as JSON';
    is +(calls('metrics'))[0], 0, '... in numbers';
    $client->cmd(qw(ZREM vaani:active odd old-0 old-5 old-5-again outbound-lost));

    # A call that ended while the index was off.
    $client->cmd('ZADD', 'vaani:active', now_ms(), 'outbound-done');
    ($exit, $out, $err) = calls('active');
    like $out, qr/^outbound-done .* ended /m, 'a call with an outcome';
    like $err, qr/^vaani-calls: 1 call in the list already has an outcome: vaani_index was off when it ended$/, '... is told';
    $client->cmd('ZREM', 'vaani:active', 'outbound-done');

    $client->cmd(qw(SET vaani:call:text hello));
    $client->cmd('ZADD', 'vaani:active', now_ms(), 'text');
    ($exit, $out, $err) = calls('active');
    is "$exit $err", '0 ', 'a key of another type';
    like $out, qr/^text .* wrong type /m, '... is told in its line';
    refuses(3, qr/^vaani-calls: the key vaani:call:text is not a hash \(WRONGTYPE\)/, '... by show', qw(show text));
    $client->cmd(qw(ZREM vaani:active text));

    $client->cmd(qw(SET wrong:active 1));
    $client->cmd(qw(ACL SETUSER calls ~wrong:* ~many:* ~dirty:*));
    refuses(3, qr/^vaani-calls: the key wrong:active is not a sorted set \(WRONGTYPE\); check --prefix and the database$/, "an index of another type: @$_",
        @$_, '--prefix', 'wrong') for ['active'], [qw(active --count)], ['watch'];
    is +(calls(qw(metrics --prefix wrong)))[0], 3, '... metrics';
};

subtest 'what could drive a terminal' => sub {
    my @dirty = ("\e[2J\e]0;title\a", "\xc2\x9b2J", "a\nb\rc\td", "\xe2\x80\xae evil", "\xff\xfe\x80", "\x7f\x00");
    for my $i (0 .. $#dirty) {
        my $room = "room-$i-$dirty[$i]";
        $client->cmd('HSET', "dirty:call:$room", 'room_name', $room, map { ($_ => $dirty[$i]) } qw(
            status outcome direction phone_number last_event end_reason error summary transcript transfer_reason entities));
        $client->cmd('HSET', "dirty:call:$room", 'created_at', now_ms(), 'updated_at', now_ms(), 'seq', 1);
        $client->cmd('ZADD', "dirty:$_", now_ms(), $room) for qw(active calls);
        $client->cmd('XADD', 'dirty:stream', '*', 'message', $json->encode({ room_name => JSON::PP->new->allow_nonref->utf8->decode(
            JSON::PP->new->allow_nonref->latin1->encode($room =~ s/[^\x20-\x7e]/?/gr)), event => "\e[1m\x{9b}", seq => 1, id => 'x' }));
    }
    my ($exit, $out, $err) = calls('active', '--prefix', 'dirty');
    is $exit, 0, 'in a list';
    like $out, qr/\\x\{1b\}\[2J/, '... shown as numbers';
    like $out, qr/\\x\{202e\} evil/, '... what turns text around, too';
    is scalar(() = $out =~ /\n/g), 1 + @dirty, '... a line for each call';
    for my $i (0 .. $#dirty) {
        last if $dirty[$i] =~ /\x00/;    # no argument of a program
        is +(calls('show', '--prefix', 'dirty', '--stream', '--transcript', '--', "room-$i-$dirty[$i]"))[0], 0, "show $i";
    }
    for my $verb (qw(active last)) {
        ($exit, $out) = calls($verb, '--json', '--prefix', 'dirty');
        is scalar(my @objects = objects($out)), scalar @dirty, "$verb --json";
        like $out, qr/\A[\x20-\x7e\n]*\z/, '... nothing but ASCII';
    }
    refuses(1, qr/no call at vaani:call:\\x\{1b\}\[2J/, 'in an error', 'show', "\e[2J");
};

subtest 'many calls' => sub {
    my $n = 3100;
    my $base = now_ms() - 10 * HOUR;
    my @rooms = map { sprintf 'room-%05d', $_ } 1 .. $n;
    # More of the same time than a page has.
    my $score = sub ($i) { return $base + ($i < 1300 ? 0 : $i) };
    $client->pipeline(map { ([ 'ZADD', 'many:active', $score->($_), $rooms[$_] ], [ 'ZADD', 'many:calls', $score->($_), $rooms[$_] ]) } 0 .. $n - 1);
    $client->pipeline(map { [ 'HSET', "many:call:$_", status => 'active', transcript => 'x' x 200 ] } @rooms);
    $client->cmd('CONFIG', 'RESETSTAT');

    my ($exit, $out) = calls('active', '--prefix', 'many');
    is_deeply [ rooms($out) ], \@rooms, 'active: all of them, in order, once';
    ($exit, $out) = calls('last', 2500, '--prefix', 'many');
    is_deeply [ rooms($out) ], [ (reverse @rooms)[ 0 .. 2499 ] ], 'last: the same the other way round';
    is +(calls('active', '--count', '--prefix', 'many'))[1], "$n\n", '--count';
    is_deeply [ rooms(+(calls('active', '--older', '9h59m', '--prefix', 'many'))[1]) ], [ @rooms[ 0 .. $n - 1 ] ], '--older takes all' ;

    my %used = $client->cmd('INFO', 'commandstats') =~ /^cmdstat_([a-z|]+):calls=(\d+)/mg;
    my @others = grep { !/^(?:auth|zrange|zcard|zcount|hmget|info|config\|resetstat|config)$/ } sort keys %used;
    is "@others", '', 'no other commands than these';
    cmp_ok $used{zrange}, '<=', 8 + 6 + 8 + 3, 'in pages';

    # "| head"
    my ($status, $text, $err) = run([ 'bash', '-c', 'set -o pipefail; "$@" | head -n 3; echo "${PIPESTATUS[0]}"', 'bash', $^X, TOOL, 'active', '--prefix', 'many' ]);
    is +(split /\n/, $text)[-1], 141, 'a reader that leaves';
    is $err, '', '... is no error';
    ($status, $text, $err) = run([ 'bash', '-c', '"$@" > /dev/full', 'bash', $^X, TOOL, 'active', '--prefix', 'many' ]);
    is $status, 2, 'a full disk';
    is $err, "vaani-calls: cannot write: No space left on device\n", '... is told';
    ($status, $text, $err) = run([ 'bash', '-c', '"$@" >&-', 'bash', $^X, TOOL, 'active', '--count' ]);
    is $status, 2, 'no standard output';
    like $err, qr/^vaani-calls: cannot write: .*\n\z/, '... is told';

    # Of 16 partitions, in one order.
    my @part = map { sprintf 'p-%03d', $_ } 1 .. 200;
    post(event('call_started', room => $_), '/partly') for @part;
    my @options = ('--partitions', 16, '--prefix', 'vaani:{$vaani_partition}');
    $client->cmd('ACL', 'SETUSER', 'calls', '~vaani:{*}:*');
    my %at = map { my ($key) = @{ $client->cmd('KEYS', "vaani:{*}:call:$_") }; ($_ => $client->cmd('HGET', $key, 'created_at')) } @part;
    my $by_time = sub { $at{$a} <=> $at{$b} || $a cmp $b };
    is_deeply [ rooms(+(calls('active', @options))[1]) ], [ sort $by_time @part ], 'partitions: active';
    is_deeply [ rooms(+(calls('last', 150, @options))[1]) ], [ (reverse sort $by_time @part)[ 0 .. 149 ] ], '... last';
    is +(calls('active', '--count', @options))[1], "200\n", '... --count';
    like +(calls('metrics', @options))[1], qr/^vaani_calls_active 200$/m, '... metrics';
    for my $i (0, 77, 199) {
        my ($exit, $out) = calls('show', $part[$i], '--stream', @options);
        is $exit, 0, "... show $part[$i]";
        like $out, qr/^  \S+ \S+ +call_started +1 /m, '... with its stream';
    }
    is +(calls('show', $part[0], '--stream=vaani:{$vaani_partition}:stream', '--prefix', 'vaani:{${vaani_partition}}', '--partitions', 16))[0], 0, '... written out';
    refuses(1, qr/no index at vaani:x\{\$vaani_partition\}:active \(of 8 partitions\)/, '... none of them', 'active', '--partitions', 8, '--prefix', 'vaani:x{$vaani_partition}')
        if $client->cmd('ACL', 'SETUSER', 'calls', '~vaani:x{*}:*');
};

# --- numbers for Prometheus

subtest 'metrics' => sub {
    my ($exit, $out, $err) = calls('metrics');
    is "$exit $err", '0 ', 'they are printed';
    my ($checked, @said) = run([ qw(promtool check metrics) ], stdin => $out);
    is $checked, 0, 'promtool takes them' or diag @said;
    my %value = $out =~ /^(\w+) (\S+)$/mg;
    my $active = $client->cmd(qw(ZCARD vaani:active));
    is $value{vaani_calls_active}, $active, 'the active calls';
    is $value{vaani_calls_hanging}, 1, 'one hangs';
    is $value{vaani_calls_hanging_threshold_seconds}, 3600, '... for an hour';
    is $value{vaani_calls_indexed}, $client->cmd(qw(ZCARD vaani:calls)), 'all calls';
    cmp_ok $value{vaani_calls_oldest_active_age_seconds}, '>=', 7200, 'the age of the oldest one';
    my (undef, $latest) = @{ $client->cmd(qw(ZRANGE vaani:calls -1 -1 WITHSCORES)) };
    is $value{vaani_calls_updated_timestamp_seconds}, $latest / 1000, 'the time of the latest event';
    cmp_ok abs($value{vaani_calls_collected_timestamp_seconds} - time), '<', 60, 'the time of now';
    like +(calls('metrics', '--older', '20m'))[1], qr/^vaani_calls_hanging 2$/m, '--older';

    my $section = slurp(TOOL) =~ /^=item B<metrics>\n(.*?)^=(?:item B<|head1 )/ms ? $1 : '';
    is_deeply [ $section =~ /^=item C<(\w+)>/mg ], [ $out =~ /^# TYPE (\w+) gauge$/mg ], 'all are documented';

    my $dir = tmpdir() . '/textfiles';
    mkdir $dir;
    my $file = spew("$dir/vaani.prom", "old 1\n");
    my $inode = (stat $file)[1];
    is_deeply [ (calls('metrics', '-o', $file))[ 0 .. 2 ] ], [ 0, '', '' ], '--output';
    like slurp($file), qr/^vaani_calls_active \d+$/m, '... is written';
    isnt +(stat $file)[1], $inode, '... as a new file';
    is((stat $file)[2] & 0777, 0666 & ~umask, '... that others can read');
    is_deeply [ map { s{.*/}{}r } glob "$dir/* $dir/.*[a-z]*" ], ['vaani.prom'], '... and no other';

    # Old numbers would look as if all were well.
    refuses(3, qr/cannot connect to Redis/, 'without Redis', 'metrics', '-o', $file, '--redis', 'redis://127.0.0.1:' . free_port());
    is_deeply [ grep { !/^#|_timestamp_seconds / } split /\n/, slurp($file) ], ['vaani_calls_up 0'], '... the file says so';
    is +(run([ qw(promtool check metrics) ], stdin => slurp($file)))[0], 0, '... promtool takes it';
    my ($status, $text) = calls('metrics', '--redis', 'redis://127.0.0.1:' . free_port());
    like "$status $text", qr/^3 .*^vaani_calls_up 0$/ms, '... on standard output, too';
    refuses(2, qr{^vaani-calls: cannot create /nowhere/x.*: No such file}, 'no such directory', 'metrics', '-o', '/nowhere/x');
    is_deeply [ map { s{.*/}{}r } glob "$dir/*" ], ['vaani.prom'], 'nothing is left behind';
};

# --- a Redis that does not answer as it should

subtest 'errors' => sub {
    my $port = free_port();
    refuses(3, qr/^vaani-calls: cannot connect to Redis at 127\.0\.0\.1:$port: Connection refused$/, 'nobody listens', 'active', '--redis', "redis://127.0.0.1:$port");
    refuses(3, qr{^vaani-calls: cannot connect to Redis at /no/where: No such file}, 'no socket', 'active', '--redis', 'unix:/no/where');
    refuses(3, qr/^vaani-calls: cannot connect to Redis at no\.such\.host\.invalid:6379: cannot resolve the host name/, 'no such host', 'active', '--redis', 'redis://no.such.host.invalid');
    refuses(3, qr/^vaani-calls: 127\.0\.0\.1:\d+ does not speak the protocol of Redis; check host and port$/, 'a web server', 'active', '--redis', 'redis://127.0.0.1:' . $nginx->port);

    refuses(4, qr/refused the user or the password \(WRONGPASS\)$/, 'a wrong password', 'active', '--redis', login('calls', 'sesame'));
    refuses(4, qr/^vaani-calls: Redis at \S+ refused the command \(NOPERM.*; see docs\/permissions\.md$/, 'a user who may not', 'active', '--redis', login('weak'))
        if $client->cmd(qw(ACL SETUSER weak on >secret ~* -@all +zcard));
    refuses(4, qr/refused the command \(NOPERM/, 'another key', 'active', '--prefix', 'not:allowed');
    my $closed = Vaani::Test::Redis->start(tcp => 1, password => 'sesame');
    refuses(4, qr/requires a password \(NOAUTH\); see REDIS_URL and --password-file$/, 'no password', 'active', '--redis', $closed->url);
    refuses(1, qr/no index/, 'the right one', 'active', '--redis', $closed->url =~ s{//}{//:sesame\@}r);
    refuses(3, qr/answered ERR .*DB index is out of range/, 'no such database', 'active', '--redis', $closed->url =~ s{//}{//:sesame\@}r . '/99');
    $closed->stop;

    my $fake = sub ($code) { return Vaani::Test::FakeRedis->start(tcp => 1, on_connect => sub ($sock, @) { $code->($sock) }) };
    my $says = sub ($reply) { return $fake->(sub ($sock) { while (read_command($sock)) { send_bytes($sock, $reply) } }) };
    my %replies = (
        "-LOADING Redis is loading the dataset in memory\r\n" => qr/answered LOADING/,
        "-MOVED 12 127.0.0.1:7000\r\n"          => qr/; the server is a node of a cluster, see --cluster$/,
        "-ERR unknown command \e[2J\r\n"        => qr/answered ERR unknown command \\x\{1b\}\[2J/,
        "\r\n"                                  => qr/does not speak the protocol of Redis; check host and port$/,
        "*-7\r\n"                               => qr/does not speak the protocol of Redis; check host and port$/,
        "\$99999999999\r\n"                     => qr/does not speak the protocol of Redis; check host and port$/,
        '*1' . "\r\n*1" x 50 . "\r\n"           => qr/does not speak the protocol of Redis; check host and port$/,
        'x' x 100_000                           => qr/does not speak the protocol of Redis; check host and port$/,
        ':' . '1' x 100_000                     => qr/does not speak the protocol of Redis; check host and port$/,
    );
    for my $reply (sort keys %replies) {
        my $server = $says->($reply);
        refuses(3, $replies{$reply}, 'a reply: ' . (substr($reply, 0, 20) =~ s/[^ -~]/?/gr), 'active', '--count', '--redis', $server->url);
        $server->stop;
    }
    for my $case ([ ":1\r\n", 'active' ], [ "*1\r\n\$1\r\nx\r\n", 'active' ], [ "+OK\r\n", qw(active --count) ], [ "*0\r\n", qw(show x) ],
        [ "\$-1\r\n", 'last' ], [ "*2\r\n\$-1\r\n\$-1\r\n", 'last' ], [ "*-1\r\n", 'watch' ], [ "*0\r\n", 'metrics' ]) {
        my ($reply, @verb) = @$case;
        my $server = $says->($reply);
        refuses(3, qr/^vaani-calls: invalid reply to [A-Z]+; is the server Redis\?$/, "a reply of another kind: @verb", @verb, '--redis', $server->url);
        $server->stop;
    }
    my $odd = $fake->(sub ($sock) {
        while (my $command = read_command($sock)) {
            my %reply = (HMGET => '*' . (@$command - 2) . "\r\n" . "\$13\r\n1790000000123\r\n" x (@$command - 2), HSTRLEN => ":0\r\n");
            send_bytes($sock, $reply{ $command->[0] } // "*1\r\n*2\r\n\$3\r\n1-1\r\n*1\r\n\$1\r\nx\r\n");
        }
    });
    refuses(3, qr/^vaani-calls: invalid reply to XRANGE; is the server Redis\?$/, 'entries of another kind', qw(show x --stream --redis), $odd->url);
    $odd->stop;
    my $gone = $fake->(sub ($sock) { read_command($sock) });
    refuses(3, qr/^vaani-calls: lost the connection to Redis at \S+: closed by Redis$/, 'it closes the connection', 'active', '--redis', $gone->url);
    $gone->stop;

    # It hangs, says one byte at a time, or accepts no connection.
    my %hangs = (
        'a Redis that says nothing' => sub ($sock) { while (read_command($sock)) { } },
        'a byte at a time'          => sub ($sock) { read_command($sock); while (send_bytes($sock, '1')) { select undef, undef, undef, 0.05 } },
    );
    $hangs{'a byte at a time'} = sub ($sock) { read_command($sock); send_bytes($sock, ':'); while (send_bytes($sock, '1')) { select undef, undef, undef, 0.05 } };
    for my $name (sort keys %hangs) {
        my $server = $fake->($hangs{$name});
        my $from = now();
        refuses(3, qr/^vaani-calls: Redis at \S+ did not answer in time; see --timeout$/, $name, 'active', '--timeout', '0.5', '--redis', $server->url);
        cmp_ok now() - $from, '<', 30, '... not for long';
        $server->stop;
    }
    $redis->suspend;
    refuses(3, qr/did not answer in time; see --timeout$/, "a Redis that hangs: @$_", @$_, '--timeout', '.3')
        for ['active'], ['last'], [qw(show x)], ['metrics'], ['watch'];
    $redis->resume;
    is +(calls('active'))[0], 0, '... and goes on';
};

subtest 'options' => sub {
    refuses(2, $_->[0], join(' ', @$_[ 1 .. $#$_ ]) || 'nothing', @$_[ 1 .. $#$_ ]) for (
        [ qr/^vaani-calls: no command given; expected one of active, (?:\w+, )*watch; see/ ],
        [ qr/^vaani-calls: unknown command 'list'; expected one of active/ => 'list' ],
        [ qr/^vaani-calls: unknown option --foo; see --help$/ => 'active', '--foo' ],
        [ qr/^vaani-calls: unknown option -5; see --help$/ => 'last', '-5' ],
        [ qr/^vaani-calls: --redis requires a value; see --help$/ => 'active', '--redis' ],
        [ qr/^vaani-calls: --json does not take a value; see --help$/ => 'active', '--json=1' ],
        [ qr/^vaani-calls: active expects no arguments, got 1 argument/ => 'active', 'x' ],
        [ qr/^vaani-calls: show expects 1 room, got 0 arguments/ => 'show' ],
        [ qr/^vaani-calls: show expects 1 room, got 2 arguments/ => 'show', 'a', 'b' ],
        [ qr/^vaani-calls: show expects the room of a call/          => 'show', '' ],
        [ qr/^vaani-calls: show expects the room of a call/          => 'show', 'x' x 257 ],
        [ qr/^vaani-calls: show has no option --older/              => 'show', 'a', '--older', '1h' ],
        [ qr/^vaani-calls: watch has no option --json/              => 'watch', '--json' ],
        [ qr/^vaani-calls: --count and --json cannot be combined/   => 'active', '--count', '--json' ],
        [ qr/^vaani-calls: --around requires --stream/              => 'show', 'a', '--around', '1m' ],
        (map { [ qr/^vaani-calls: --older must be a time such as/ => 'active', '--older', $_ ] } 'soon', '', '1h x', '-1h', '99999999w'),
        (map { [ qr/^vaani-calls: last expects a number of calls/ => 'last', $_ ] } 0, 'x', '1000001', '1.5'),
        (map { [ qr/^vaani-calls: --timeout must be a number/ => 'active', '--timeout', $_ ] } 0, 'x', '1e3', '0.01'),
        [ qr/^vaani-calls: --interval must be a number/             => 'watch', '-n', 0 ],
        [ qr/^vaani-calls: --prefix is empty/                       => 'active', '--prefix', '' ],
        [ qr/^vaani-calls: --prefix must not contain another/       => 'active', '--prefix', '$tenant' ],
        [ qr/^vaani-calls: a --prefix with \$vaani_partition requires/ => 'active', '--prefix', 'x{$vaani_partition}' ],
        [ qr/^vaani-calls: --partitions requires a --prefix/        => 'active', '--partitions', 4 ],
        [ qr/^vaani-calls: --partitions must be a number, 1 to 16384, not '16385'/ => 'active', '--partitions', 16385, '--prefix', 'x{$vaani_partition}' ],
        [ qr/^vaani-calls: --sentinel and --cluster cannot be/      => 'active', '--sentinel', 'x', '--cluster' ],
        [ qr/^vaani-calls: --sentinel-user requires --sentinel;/   => 'active', '--sentinel-user', 'x' ],
        [ qr/^vaani-calls: --cacert requires a rediss:/               => 'active', '--cacert', '/x' ],
        [ qr/^vaani-calls: --insecure requires a rediss:/             => 'active', '-k' ],
        [ qr/^vaani-calls: --cert requires --key/            => 'active', '--cert', '/x' ],
        [ qr/^vaani-calls: --cacert: cannot read \/x: No such file/ => 'active', '--cacert', '/x', '--redis', 'rediss://h' ],
        [ qr/^vaani-calls: --sentinel and --cluster do not support unix:/ => 'active', '--cluster', '--redis', 'unix:/x' ],
        [ qr/^vaani-calls: a cluster has only database 0/           => 'active', '--cluster', '--redis', 'redis://h/1' ],
        [ qr/^vaani-calls: all URLs of Redis must have the same password/ => 'active', '--redis', 'redis://:sesame1@h', '--redis', 'redis://:sesame2@i' ],
        [ qr/^vaani-calls: redis:\/\/ and rediss:\/\/ cannot be combined/ => 'active', '--redis', 'redis://h', '--redis', 'rediss://i' ],
        [ qr/^vaani-calls: no password for the user of Redis/       => 'active', '--redis', 'redis://user@h' ],
        [ qr/^vaani-calls: the port in the URL must be 1 to 65535, not 70000/ => 'active', '--redis', 'redis://h:70000' ],
        [ qr/^vaani-calls: --redis: at most 32 URLs, got 33/        => 'active', map { ('--redis', "redis://h$_") } 1 .. 33 ],
        [ qr/^vaani-calls: --password-file: cannot read/            => 'active', '--password-file', '/nowhere' ],
        (map { [ qr/^vaani-calls: the URL of Redis must be redis:\/\// => 'active', '--redis', $_ ] }
            'localhost', 'http://h', 'redis://:sesame@', 'redis://h/x', 'redis://a:sesame@b@c', 'redis://'),
        [ qr/^vaani-calls: unix:\/path supports only the arguments db=/ => 'active', '--redis', 'unix:/x?port=1' ],
    );

    # Passwords.
    my $url = "redis://calls\@127.0.0.1:" . $redis->port;
    my $file = spew(tmpdir() . '/password', "\xef\xbb\xbf# of Redis\n\n  " . PASSWORD . " \r\n");
    is +(calls('active', '--redis', $url, '--password-file', $file))[0], 0, '--password-file';
    { local $ENV{VAANI_REDIS_PASSWORD} = PASSWORD; is +(calls('active', '--redis', $url))[0], 0, 'VAANI_REDIS_PASSWORD' }
    {
        local @ENV{qw(VAANI_REDIS_USER VAANI_REDIS_PASSWORD)} = ('calls', PASSWORD);
        is +(calls('active', '--redis', 'unix:' . $redis->socket))[0], 0, 'with VAANI_REDIS_USER';
    }
    is +(calls('active', '--redis', 'unix:' . $redis->socket . '?user=calls&db=0', '--password-file', $file))[0], 0, 'a unix socket';
    is +(calls('active', '--redis', "VALKEY://%63alls:sec%72et\@localhost:" . $redis->port))[0], 0, 'percent-encoded, and valkey://';
    local $ENV{REDIS_URL} = 'redis://h';
    refuses(2, qr/remove the quotes around the secret/, 'quotes', 'active', '--password-file', spew(tmpdir() . '/quoted', '"sesame"'));
    refuses(2, qr/contains no secret; expected it in the first line/, 'an empty file', 'active', '--password-file', spew(tmpdir() . '/empty', "\n"));
    refuses(2, qr/is longer than 4096 bytes/, 'a long one', 'active', '--password-file', spew(tmpdir() . '/long', 'x' x 5000));
    make_path(tmpdir() . '/no-ssl/IO/Socket');
    spew(tmpdir() . '/no-ssl/IO/Socket/SSL.pm', "die;\n");
    {
        local $ENV{PERL5LIB} = tmpdir() . '/no-ssl';
        refuses(2, qr/^vaani-calls: rediss requires the Perl module IO::Socket::SSL \(Debian: apt-get install libio-socket-ssl-perl\)$/, 'without the module of TLS', 'active', '--redis', 'rediss://h');
    }
};

# --- watch

subtest 'watch' => sub {
    plan skip_all => 'no pseudo terminals here' if !-w '/dev/ptmx' || !-d '/dev/pts';

    my @argv = ($^X, '-w', TOOL, 'watch', '--interval', '0.2', '--timeout', 10);
    my $start = sub (%opt) { return Vaani::Test::Terminal->start(argv => [ @argv, @{ $opt{options} // [] } ], %opt) };

    my $terminal = $start->(columns => 100, rows => 20);
    my $n = $client->cmd(qw(ZCARD vaani:active));
    my $frame = $terminal->frame(qr/active call/);
    like $frame, qr/^\S+ \S+  $n active calls, 1 for longer than 1h 00m\n/, 'how many there are';
    like $frame, qr/^ *AGE  STATUS +DIRECTION +PHONE NUMBER +ROOM\n/m, '... the head';
    like $frame, qr/^ *2h \d\dm  ringing +outbound +\+12025550123 +outbound-old\n/m, '... the oldest one';
    like $frame, qr/\.\.\. and \d+ more, which began later\z/, '... and that there are more';
    is scalar(() = $frame =~ /\n/g) + 1, 20, '... as many lines as there are';
    ok $terminal->is_raw, 'keys are read';

    active_call('inbound-new', 5 * HOUR);
    ok $terminal->frame(qr/5h \d\dm .* inbound-new\n/), 'a call that begins';
    post(event('call_ended', room => 'inbound-new'));
    ok $terminal->frame(qr/\A(?!.*inbound-new)/s), '... and ends';

    $terminal->resize(8, 50);
    $frame = $terminal->frame(qr/\A(?:[^\n]*\n){7}[^\n]*\z/);
    ok $frame, 'another size';
    is join(' ', grep { length > 50 } split /\n/, $frame // ''), '', '... no line is longer';
    $terminal->resize(10, 20);
    ok $terminal->frame(qr/\AThe window is too s~\n/), 'too narrow';
    $terminal->resize(3, 100);
    ok $terminal->frame(qr/\AThe window is too small:\nit needs 40 columns and 5 rows\.\z/), 'too low';
    $terminal->resize(24, 100);
    ok $terminal->frame(qr/outbound-old/), 'large enough again';

    $terminal->type('x');
    $terminal->type('q');
    is $terminal->exit_status, 0, 'q ends it';
    ok $terminal->is_restored, '... the terminal is as it was';

    for my $case ([ 'Ctrl-C', sub { $_[0]->type("\x03") }, 130 ], [ 'SIGTERM', sub { kill TERM => $_[0]->pid }, 143 ], [ 'SIGHUP', sub { kill HUP => $_[0]->pid }, 129 ]) {
        my ($name, $end, $status) = @$case;
        $terminal = $start->();
        ok $terminal->frame(qr/active call/), 'watch';
        $end->($terminal);
        is $terminal->exit_status, $status, "... $name";
        ok $terminal->is_restored, '... the terminal is as it was';
    }

    # Stopped by Ctrl-Z, and continued.
    $terminal = Vaani::Test::Terminal->start(argv => [qw(bash --norc --noprofile --noediting -i)], env => { PS1 => 'READY ' });
    ok $terminal->saw(qr/READY /), 'a shell';
    $terminal->type("@argv\n");
    ok $terminal->frame(qr/active call/), '... watch';
    ok $terminal->is_raw, '... with keys';
    $terminal->type("\x1a");
    ok $terminal->saw(qr/\e\[\?1049l\s.*Stopped/s), '... Ctrl-Z stops it';
    ok $terminal->is_restored, '... and the shell has its terminal';
    $terminal->type("fg\n");
    ok $terminal->frame(qr/active call/), '... it goes on';
    ok $terminal->is_raw, '... with keys';
    $terminal->type('q');
    ok $terminal->saw(qr/\e\[\?1049l(?:.*\n)?.*READY /), '... and ends';
    ok $terminal->is_restored, '... the terminal is as it was';
    $terminal->type("exit\n");
    is $terminal->exit_status, 0, 'the shell ends';

    # Redis is unreachable for a while. The rights exist from its start: watch
    # ends where it may not read.
    my $own = Vaani::Test::Redis->start(tcp => 1, acl => [qw(~* +@all)]);
    $own->client->cmd('ZADD', 'vaani:active', now_ms(), 'room-1');
    local $ENV{REDIS_URL} = $own->url;
    $terminal = $start->(columns => 150);
    ok $terminal->frame(qr/1 active call\n.*expired.*room-1/s), 'watch';
    $own->kill;
    $frame = $terminal->frame(qr/; now: /);
    like $frame // '', qr/^Calls as of \S+ \S+; now: (?:lost the connection|cannot connect) .*room-1/ms, 'Redis ends: the calls stay, with the reason';
    $own->restart;
    $own->client->cmd('ZADD', 'vaani:active', now_ms(), "room-2\e[2J");
    ok $terminal->frame(qr/room-2\\x\{1b\}\[2J/), '... and is back';
    $own->client->cmd('DEL', 'vaani:active');
    ok $terminal->frame(qr/now: no index/), '... without an index';
    $terminal->type('q');
    is $terminal->exit_status, 0, 'q';

    # No terminal.
    my $files = tmpdir() . '/plain';
    $own->client->cmd('ZADD', 'vaani:active', now_ms(), 'room-3');
    my $plain = Vaani::Test::Process->spawn(argv => [ @argv ], stdout => "$files.out", stderr => "$files.err");
    ok wait_for(sub { my $text = slurp("$files.out"); 2 <= (() = $text =~ /^\d{4}-\S+ \S+  1 active call\n *AGE .*\n.*room-3\n\n/mg) }), 'no terminal: printed again and again';
    unlike slurp("$files.out"), qr/\e/, '... plainly';
    $plain->signal('INT');
    $plain->wait;
    is $plain->status >> 8, 130, '... until a signal';
    is slurp("$files.err"), '', '... with nothing to say';

    $terminal = Vaani::Test::Terminal->start(argv => \@argv, env => { TERM => 'dumb' });
    ok $terminal->saw(qr/room-3/), 'a dumb terminal';
    unlike $terminal->output, qr/\e/, '... plainly';
    kill INT => $terminal->pid;
    is $terminal->exit_status, 130, '... until a signal';
};

# --- what the documentation shows

subtest 'docs/monitoring.md' => sub {
    my $page = slurp(ROOT . '/docs/monitoring.md');
    my %shown = $page =~ /^<!-- output of: vaani-calls (.+?) -->\n```text\n(.*?)^```$/msg;
    is_deeply [ map { s/ .*//r } sort keys %shown ], [qw(active show)], 'two outputs';
    ok $page =~ /^vaani-calls \Q$_\E$/m, "... $_ is among the commands" for sort keys %shown;

    # Numbers and times differ, and with them the blanks.
    my $plain = sub ($text) { return $text =~ s/(?<=recordings\/)[0-9a-f]+/N/gr =~ s/(?<=[ +:.-])\d+(?:[hm] \d+[smh]|\.\d+s|s)/TIME/gr =~ s/\d+/N/gr =~ s/[ ]+/ /gr };
    my $room = 'outbound-1784899978-36cec598';
    my $empty = sub () { $client->cmd('DEL', 'vaani:active', 'vaani:stream', "vaani:call:$room") };

    $empty->();
    for my $row (lines($shown{active})) {
        my ($name, $status, $number) = $row =~ /^(\S+) .* (active|ringing) +\w+ +(\S+)$/;
        post(event('call_started', room => $name, phone_number => $number));
        post(event($status eq 'active' ? 'user_picked_up_at' : 'call_ringing', room => $name));
        my ($h, $m, $s) = map { $row =~ /\b(\d+)$_\b/ ? $1 : 0 } qw(h m s);
        $client->cmd('ZADD', 'vaani:active', now_ms() - 1000 * (3600 * $h + 60 * $m + $s), $name);
    }
    is $plain->((calls('active'))[1]), $plain->($shown{active}), 'active';

    # All but the last event.
    $empty->();
    my ($show) = grep { /^show/ } keys %shown;
    my ($number) = $shown{$show} =~ /^phone_number +(\S+)$/m;
    my @bodies = map { s/"phone_number":"[^"]*"/"phone_number":"$number"/r } call_path('outbound-answered/none', $room);
    for my $body (@bodies[ 0 .. 3 ]) {
        post($body);
        # Of two events in one millisecond, either may be the last one.
        my $at = $client->cmd('HGET', "vaani:call:$room", 'updated_at');
        wait_for(sub { now_ms() > $at });
    }
    my $now = now_ms();
    my @events = map { $json->decode($_)->{event} } @bodies[ 0 .. 3 ];
    $client->cmd('HSET', "vaani:call:$room", map { ("at:$events[$_]" => $now - 60_000 * (5 - $_)) } 0 .. 3);
    $client->cmd('HSET', "vaani:call:$room", 'at:call_ended', $now - 125_000);
    is $plain->((calls(split ' ', $show))[1]), $plain->($shown{$show}), $show;
};

is join("\n", @strange), '', 'no line of the source, no password, no control character was printed';

done_testing;
