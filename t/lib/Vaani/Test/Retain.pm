package Vaani::Test::Retain;

# Shared by the tests of "retain": scenarios in which Redis loses answered
# events while calls come in, and the account at their end.

use v5.20;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';

use Exporter 'import';
use Test::More ();
use Vaani::Test ();
use Vaani::Test::Endpoint qw(spool_config INDEX RETAIN);
use Vaani::Test::Faults ();
use Vaani::Test::Nginx ();
use Vaani::Test::Redis ();

our @EXPORT = qw(
    account_ok arrives comes_back http load nginx promised redis spool_status
    table_at_end verify_ok
);

# It is not persistent unless "config" says so.
sub redis (%opt) { return Vaani::Test::Redis->start(acl => [ @{ +RETAIN }, @{ +INDEX } ], %opt) }

# With retain=1h, or what "spool" says, and an index, unless "index" is 0; further options as of spool_config() and
# Vaani::Test::Nginx->start(). /status is its status page.
sub nginx ($redis, %opt) {
    my %start = map { exists $opt{$_} ? ($_ => delete $opt{$_}) : () } qw(workers main log_level allow_log);

    return Vaani::Test::Nginx->start(workers => 3, log_level => 'notice', %start, http => http($redis, %opt));
}

# The text of the configuration, for a reload.
sub http ($redis, %opt) {
    my $index = $opt{index} // 1 ? 'vaani_index on;' : '';
    return spool_config($redis, spool => 'retain=1h', %opt, more => $index . ($opt{more} // ''))
        =~ s/(?=location \/hook)/location = \/status { vaani_status; }\n            /r;
}

sub load ($nginx, %opt) { return Vaani::Test::Faults->start($nginx, %opt) }

# The numbers of the spool on the status page.
sub spool_status ($nginx) {
    my $status = $nginx->http->get('/status?format=json')->json;
    return $status->{spools}[0];
}

sub arrives ($load, $status, $n, $timeout = 30) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return Test::More::ok($load->await($status, $n, $timeout), "$n events are answered $status")
        || Test::More::diag(Test::More::explain($load->counts));
}

sub promised (@loads) {
    my $promised = 0;
    for my $load (@loads) {
        $promised += $load->count($_) for qw(ok duplicate queued);
    }
    return $promised;
}

# Waits until all events guaranteed to loads are in Redis: all, or those that a
# sub selects. More than a minute: a segment is not delivered again sooner
# after its mark was missing once. "stream" as of verify().
sub comes_back ($redis, $loads, $which = undef, $stream = 'vaani:stream') {
    local $Test::Builder::Level = $Test::Builder::Level + 1;

    my %promised;
    for my $load (ref $loads eq 'ARRAY' ? @$loads : $loads) {
        $load->count('ok');
        $promised{ $_->{id} } = 1 for grep {
            $_->{status} =~ /^(?:ok|duplicate|queued)\z/ && (!$which || $which->($_))
        } @{ $load->{deliveries} };
    }
    my $promised = keys %promised;
    my $client = $redis->client;

    # Reading all of it takes a while.
    Vaani::Test::wait_for(sub {
        my $there = 0;
        $there += $client->cmd(XLEN => $_) for ref $stream ? @$stream : $stream;
        return 0 if $there < keys %promised;
        delete $promised{ $_->{id} // '' } for Vaani::Test::Faults::messages($client, $stream);
        return !%promised;
    }, 90);
    return Test::More::is(scalar keys %promised, 0, "$promised events are there");
}

# Ends a scenario: stops the load, waits until everything is in Redis, and
# makes the account. Options as of verify().
sub account_ok ($fault, $load, $redis, $nginx, %opt) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;

    $load->stop;
    comes_back($redis, $load, undef, $opt{stream} // 'vaani:stream');
    return verify_ok($fault, $load, $redis, $nginx, %opt);
}

# Only the account, of one of several loads.
sub verify_ok ($fault, $load, $redis, $nginx, %opt) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;

    my $account = $load->verify($redis, spool => $nginx->dir . '/spool', healed => 1, index => 1, %opt);
    Vaani::Test::Faults::add_row($fault, $account);

    Test::More::is($account->{lost}, 0, 'nothing acknowledged is lost');
    Test::More::is($account->{twice}, 0, 'nothing is applied twice');
    Test::More::ok(!@{ $account->{problems} }, 'the account is right')
        || Test::More::diag(map { "  $_\n" } @{ $account->{problems} });
    return $account;
}

sub table_at_end () {
    for my $line (Vaani::Test::Faults::table()) {
        Test::More::note($line);
        # prove hides the notes
        Test::More::diag($line) if $ENV{HARNESS_ACTIVE} && !$ENV{HARNESS_IS_VERBOSE};
    }
    return;
}

1;
