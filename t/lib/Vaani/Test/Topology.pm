package Vaani::Test::Topology;

# Shared by the tests of clusters, Sentinels and lists of servers: endpoints,
# partitions, and loads that continue while servers start and stop.

use v5.20;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';

use Exporter 'import';
use Test::More ();
use Vaani::Test ();
use Vaani::Test::ACL ();
use Vaani::Test::Cluster ();
use Vaani::Test::Dir qw(slurp tail);
use Vaani::Test::Endpoint qw(INDEX RETAIN);
use Vaani::Test::Events qw(event);
use Vaani::Test::Nginx ();
use Vaani::Test::Retain qw(account_ok arrives);
use Vaani::Test::Socket qw(now pause);

our @EXPORT_OK = qw(busy);
our @EXPORT = qw(
    answer endpoint first_answer flows_again longest_since nginx_with ok_within partition partition_options
    partitioned_acl post room_in_partition room_in_slot short topology_account PARTITIONS
);

use constant PARTITIONS => 16;
use constant PREFIX => 'vaani:{$vaani_partition}';

# How much longer everything takes: processes that wait for a core, sanitizers. The
# limits below are those of a machine that has nothing else to do.
sub busy () {
    my ($load) = slurp('/proc/loadavg') =~ /^(\S+)/;
    my $cores = () = slurp('/proc/cpuinfo') =~ /^processor\b/mg;
    my $factor = $load / ($cores || 1);
    $factor *= 3 if ($ENV{VAANI_MODULE} // 'none') eq '';    # built into an nginx of the tests
    return $factor < 1 ? 1 : $factor > 10 ? 10 : $factor;
}

# Short timeouts, so that a hanging server does not delay tests: the same ones for
# all locations, which would otherwise have their own connections.
sub short () {
    state $ms = int(300 * (busy() > 4 ? 4 : busy()));
    return "vaani_redis_connect_timeout ${ms}ms; vaani_redis_timeout ${ms}ms;";
}

# --- an endpoint without a spool

# At /hook, with these parameters of vaani_redis and these directives in its
# location. Options as of Vaani::Test::Nginx->start(), and locations, server (more
# of these).
sub endpoint ($redis, $directives = '', %opt) {
    my ($locations, $server) = map { delete $opt{$_} // '' } qw(locations server);

    return Vaani::Test::Nginx->start(%opt, http => "
        server {
            listen unix:%%SOCK%%;
            $server
            location = /writing { return 200 \$connections_writing; }
            location = /hook {
                vaani_webhook;
                vaani_redis $redis;
                @{[ short() ]}
                $directives
            }
            $locations
        }");
}

# "ok", "queued", "duplicate", "503", or what is not as it should be.
sub answer ($response) {
    my ($status, $body) = ($response->status, $response->body);
    return $1 if "$status $body" =~ /^200 \{"status":"(\w+)"(?:,"known":false)?\}\n\z/;
    return $status == 503 ? '503' : "$status $body";
}

sub post ($nginx, $body, $uri = '/hook') {
    return answer(($nginx->{client} //= $nginx->http)->post($uri, $body));
}

# Events are answered ok, within so many seconds; new ones each time.
sub ok_within ($nginx, $seconds, $name, $room = undef) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    state $count = 0;
    my $answer;
    my $from = now();
    $seconds *= busy();
    my $ok = Vaani::Test::wait_for(sub {
        $answer = post($nginx, event('call_started', room => $room // 'within-' . ++$count));
        return $answer =~ /^(?:ok|duplicate)\z/;
    }, $seconds);
    Test::More::note(sprintf '%s: %.2f s', $name, now() - $from);
    return Test::More::ok($ok, $name) || Test::More::diag("$answer\n", tail($nginx->dir . '/error.log'));
}

# --- rooms

sub room_in_slot ($slot, $name = '') { return '{' . Vaani::Test::Cluster::tag_for($slot) . "}$name" }

sub partition ($room, $partitions = PARTITIONS) { return Vaani::Test::Cluster::crc16($room) % $partitions }

sub room_in_partition ($partition, $name = 'p') {
    my $n = 0;
    $n++ until partition("$name$n") == $partition;
    return "$name$n";
}

# --- partitions, a spool, and kept events

# For nginx_with(), and for its own vaani_prefix and vaani_stream.
sub partition_options (%opt) {
    my $more = delete $opt{more} // '';
    return (
        stream => '"' . PREFIX . ':stream"',
        more   => 'vaani_partitions ' . PARTITIONS . '; vaani_prefix "' . PREFIX . qq("; $more),
        index  => 1,
        %opt,
    );
}

# The permissions that the user of Redis needs for these.
sub partitioned_acl () {
    my @index = map { s/^~vaani:/~vaani:{*}:/r } @{ +INDEX };
    return [ @{ +RETAIN }, @index, Vaani::Test::ACL::with_prefix('vaani:{*}'), '~vaani:{*}:stream' ];
}

# An nginx with a spool, of these parameters of vaani_redis; options as of
# Vaani::Test::Retain::nginx(). Only with partitions it has an index.
sub nginx_with ($redis, %opt) { return Vaani::Test::Retain::nginx($redis, index => 0, %opt) }

# The end of a scenario with partitions, or without: nothing lost, nothing twice,
# no 503, no answer later than "longest" (ms, default 2000).
sub topology_account ($fault, $load, $servers, $nginx, %opt) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $longest = int((delete $opt{longest} // 2000) * busy());

    my %where = delete $opt{partitions} ? (
        index  => 1,
        stream => [ map { "vaani:{$_}:stream" } 0 .. PARTITIONS - 1 ],
        key    => sub ($room) { 'vaani:{' . partition($room) . "}:call:$room" },
    ) : (index => 0);
    my $account = account_ok($fault, $load, $servers, $nginx, %where, %opt);

    Test::More::is($account->{refused}, 0, 'no event is refused');
    Test::More::cmp_ok($account->{longest}, '<=', $longest, "the longest answer took at most $longest ms");
    return $account;
}

# Of loads: the time (as of now()) of the first answer of a kind after a time.
sub first_answer ($load, $status, $after, $timeout = 30) {
    my $found;
    Vaani::Test::wait_for(sub {
        $load->count($status);
        for my $delivery (@{ $load->{deliveries} }) {
            next if $delivery->{status} ne $status || $delivery->{sent} < $after;
            $found = $delivery->{answered} if !defined $found || $delivery->{answered} < $found;
        }
        return defined $found;
    }, $timeout);
    return $found;
}

# The last answer of a kind that was sent later than that, or undef.
sub last_answer ($load, $status, $after) {
    $load->count($status);
    my ($last) = sort { $b <=> $a } map { $_->{answered} }
        grep { $_->{status} eq $status && $_->{sent} > $after } @{ $load->{deliveries} };
    return $last;
}

# No event is queued that was sent later than so long after a time, while at least
# so many are answered ok.
sub flows_again ($load, $since, $within, $name) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $busy = busy();
    $within *= $busy;
    pause($since + $within - now()) if now() < $since + $within;
    arrives($load, ok => 200);

    my $last = last_answer($load, 'queued', $since);
    Test::More::note(sprintf '%s: ok after %.3f s, the last that was queued after %s s', $name,
        (first_answer($load, 'ok', $since) // 0) - $since,
        defined $last ? sprintf('%.3f', $last - $since) : '-');
    my @after = grep { $_->{status} ne 'none' && $_->{sent} > $since + $within } @{ $load->{deliveries} };
    my @late = grep { $_->{status} !~ /^(?:ok|duplicate)\z/ } @after;

    # Where processes wait for a core, a reply may be too late at any time.
    return Test::More::cmp_ok(scalar @late, '<=', busy() > 1.5 ? @after / 5 : 0, $name)
        || Test::More::diag(sprintf("%d events of %d, sent later than %.1f s, %.1f times the limit:\n", scalar @late, scalar @after, $within, $busy),
            map { sprintf "%s: %s %.3f s after\n", @$_{qw(id status)}, $_->{sent} - $since } @late[ 0 .. (@late > 9 ? 9 : $#late) ]);
}

# The longest answer to what was sent since then, ms.
sub longest_since ($load, $since) {
    $load->count('ok');
    my ($longest) = sort { $b <=> $a } map { $_->{ms} } grep { $_->{sent} >= $since } @{ $load->{deliveries} };
    return $longest // 0;
}

1;
