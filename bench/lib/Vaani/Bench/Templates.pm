package Vaani::Bench::Templates;

# The events that are sent: bodies for bench/client/load, and for
# bench/client/pipeline what the module and its script send to Redis for them,
# listened to with MONITOR. So these are what they really are, whatever changes.

use v5.20;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';

use Exporter 'import';
use Vaani::Bench::Peers ();
use Vaani::Test::Dir qw(spew tmpdir);
use Vaani::Test::Events qw(event);
use Vaani::Test::HTTP ();
use Vaani::Test::RESP qw(encode_command);
use Vaani::Test::Socket qw(connect_socket read_some wait_readable write_all);

our @EXPORT_OK = qw(bodies commands $MAX_BYTES);

# bench/client/bench.h knows this name.
use constant ROOM => 'room_000000000000';

# Redis keeps every transcript until the end of the run.
our $MAX_BYTES = 1024 * 1024 * 1024;

sub _transcript ($bytes) {
    return substr 'User: Is the line available in Mumbai? Agent: It is. ' x ($bytes / 40 + 1), 0, $bytes;
}

# The bodies of the events of a call, as paths of files.
my %EVENTS = (
    'small'  => sub { map { event($_, room => ROOM) } qw(call_started call_ringing user_picked_up_at call_ended) },
    '64 KiB' => sub { event('call_postprocessing', room => ROOM, transcript => _transcript(64 * 1024)) },
    '1 MiB'  => sub { event('call_postprocessing', room => ROOM, transcript => _transcript(1024 * 1024)) },
);

sub bodies ($size) {
    my $n = 0;
    return map { spew(tmpdir() . "/body-$size-" . $n++, $_) } $EVENTS{$size}->();
}

# A script that does what it is told to, and thinks of nothing else.
my $CALLER = <<'LUA';
local i = 1
while i < #ARGV do
    local last = i + ARGV[i]
    redis.call(unpack(ARGV, i + 1, last))
    i = last + 1
end
return 1
LUA

# For each small event, as paths, by name:
#   script   the EVALSHA
#   empty    the same arguments for a script that does nothing
#   calls    the commands of the script, called by one that does only that
#   writes   those of them that write, without a script
sub commands ($peer, $redis) {
    my $client = $redis->client;
    $client->cmd('FLUSHALL');

    my ($empty, $caller) = map { $client->cmd('SCRIPT', 'LOAD', $_) } 'return 1', $CALLER;

    my $monitor = connect_socket($redis->socket);
    write_all($monitor, "MONITOR\r\n");
    _read_until($monitor, qr/^\+OK\r\n/);

    my $http = Vaani::Test::HTTP->new(port => $peer->port);
    my %paths;

    for my $body ($EVENTS{small}->()) {
        my $n = @{ $paths{script} // [] };
        my $response = $http->post(Vaani::Bench::Peers::PATH, $body);
        $response->status == 200 or die "not accepted: $body\n";
        $client->cmd('ECHO', "event $n");

        my (@script, @calls);
        for (split /\r\n/, _read_until($monitor, qr/"ECHO" "event $n"\r\n/)) {
            my ($from, $command) = /^\+[\d.]+ \[\d+ ([^\]]+)\] (.*)/s or die "not of MONITOR: $_\n";
            my @words = map { _unquote($_) } $command =~ /"((?:[^"\\]|\\.)*)"/g;
            push @script, \@words if uc $words[0] eq 'EVALSHA';
            push @calls, \@words if $from eq 'lua';
        }
        die "the module does not send one EVALSHA\n" if @script != 1;

        my ($name, $sha, $keys, $key, @arguments) = @{ $script[0] };
        my %sent = (
            script => encode_command($name, $sha, $keys, $key, @arguments),
            empty  => encode_command($name, $empty, $keys, $key, @arguments),
            calls  => encode_command($name, $caller, 1, $key, map { (scalar @$_, @$_) } @calls),
            writes => join('', map { encode_command(@$_) } grep { $_->[0] !~ /^HM?GET/i } @calls),
        );
        push @{ $paths{$_} }, spew(tmpdir() . "/$_-$n", $sent{$_}) for keys %sent;
    }
    return \%paths;
}

sub _read_until ($fh, $end) {
    my $text = '';
    until ($text =~ $end) {
        wait_readable($fh, 10) or die "MONITOR says nothing\n";
        read_some($fh, \$text);
    }
    return $text;
}

my %ESCAPE = (n => "\n", r => "\r", t => "\t", a => "\a", b => "\b");

sub _unquote ($text) {
    return $text =~ s{\\(?:x([0-9a-f]{2})|(.))}{defined $1 ? chr hex $1 : $ESCAPE{$2} // $2}gers;
}

1;
