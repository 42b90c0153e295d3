# Data lost by Redis comes back, with several nginx, or several versions of
# one: separate hosts, a cloned directory, a new binary, reloads that turn
# "retain" on and off, and a journal of the previous version.
#
# VAANI_FAULTS=full in the environment repeats them more often.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

use Time::HiRes ();
use Vaani::Test::Events;
use Vaani::Test::Process qw(wait_pid_gone);
use Vaani::Test::Retain;
use Vaani::Test::Scenario;
use Vaani::Test::Spool;
use Vaani::Test::Wrapper;
use Vaani::Test::Socket qw(pause);

# An account of each load; all of them are there.
sub accounts_ok ($fault, $redis, @loads) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    $_->[1]->stop for @loads;
    comes_back($redis, [ map { $_->[1] } @loads ]);
    verify_ok("$fault, $_->[0]", $_->[1], $redis, $_->[2]) for @loads;
    return;
}

# --- several hosts

scenario 'two hosts' => sub {
    my $redis = redis();
    my @nginx = map { nginx($redis, workers => 2) } 1, 2;
    my @load = map { load($_, rate => 800) } @nginx;

    for (1 .. scaled(1, 4)) {
        arrives($_, ok => 300) for @load;
        $redis->client->cmd('FLUSHALL');
        arrives($_, ok => 200) for @load;
    }

    accounts_ok('two hosts, FLUSHALL', $redis, map { [ "host $_", $load[ $_ - 1 ], $nginx[ $_ - 1 ] ] } 1, 2);

    # No nginx applies another one's records.
    for my $n (0, 1) {
        my $status = spool_status($nginx[$n]);
        cmp_ok $status->{brought_back}, '>', 0, 'host ' . ($n + 1) . ' has healed its share';
        cmp_ok $status->{looked_at}, '<=', $load[$n]->count('ok') * scaled(1, 4), '... and no more';
    }
};

long_scenario 'two hosts, one of which is killed' => sub {
    my $redis = redis();
    my @nginx = map { nginx($redis, workers => 2) } 1, 2;
    my @load = map { load($_, rate => 800) } @nginx;

    arrives($_, ok => 300) for @load;
    $nginx[0]->kill;
    $redis->client->cmd('FLUSHALL');
    arrives($load[1], ok => 200);
    $nginx[0]->restart;
    arrives($_, ok => 100) for @load;

    accounts_ok('two hosts, one killed', $redis, map { [ "host $_", $load[ $_ - 1 ], $nginx[ $_ - 1 ] ] } 1, 2);
};

scenario 'a cloned directory' => sub {
    my $redis = redis();
    my @nginx = nginx($redis, workers => 2);
    my $before = load($nginx[0], rooms => 'before');
    arrives($before, ok => 500);
    $before->stop;
    $nginx[0]->stop;

    # As a machine is copied: both hold the same events, with the same marks.
    my $clone = tmpdir() . '/clone';
    my ($exit, @output) = run([ 'cp', '-a', $nginx[0]->dir . '/spool', $clone ]);
    is $exit, 0, 'the directory is copied' or diag @output;
    $nginx[0]->restart;
    push @nginx, nginx($redis, workers => 2, dir => $clone);
    my @load = map { load($_, rate => 700) } @nginx;

    for (1 .. scaled(1, 3)) {
        arrives($_, ok => 200) for @load;
        $redis->client->cmd('FLUSHALL');
        arrives($_, ok => 200) for @load;
    }

    accounts_ok('cloned directory', $redis, [ before => $before, $nginx[0] ],
        map { [ "nginx $_", $load[ $_ - 1 ], $nginx[ $_ - 1 ] ] } 1, 2);

    # They do not fight for the marks for ever.
    ok wait_for(sub {
        my @looked_at = map { spool_status($_)->{looked_at} } @nginx;
        pause(1);
        "@looked_at" eq join ' ', map { spool_status($_)->{looked_at} } @nginx;
    }), 'it ends';
};

# --- versions of one nginx

scenario 'a new binary' => sub {
    local $ENV{NGINX_WRAPPER} = detached();

    my $redis = redis();
    my $nginx = nginx($redis);
    my $load = load($nginx);

    # A loss before, in the middle of and after it.
    arrives($load, ok => 200);
    my $old = $nginx->pid;
    $nginx->signal('USR2');
    ok wait_for(sub { ($nginx->pid // $old) != $old && $nginx->worker_pids >= 3 }), 'there is a new master';
    arrives($load, ok => 200);
    $redis->client->cmd('FLUSHALL');
    arrives($load, ok => 200);
    kill QUIT => $old;
    ok wait_pid_gone($old), 'the old master goes';
    arrives($load, ok => 100);

    if (full()) {
        $redis->client->cmd('FLUSHALL');
        arrives($load, ok => 200);
    }
    account_ok('USR2, FLUSHALL', $load, $redis, $nginx);
};

long_scenario 'retain is turned off and on again' => sub {
    my $redis = redis();
    my $nginx = nginx($redis);
    my $load = load($nginx, rate => 500);
    my %conf = (
        on  => http($redis),
        off => http($redis, spool => 'retain=off'),
    );

    arrives($load, ok => 200);
    ok $nginx->reload(http => $conf{off}, wait_old => 1), 'off';
    arrives($load, ok => 200);
    ok wait_for(sub { !kept_files($nginx) }), 'what Redis has goes';
    $redis->kill;
    arrives($load, queued => 100);

    # Waiting records are neither dropped nor left behind.
    ok $nginx->reload(http => $conf{on}, wait_old => 1), 'on, while Redis is away';
    $redis->restart;
    my $restarted = now();
    arrives($load, ok => 200);
    ok wait_for(sub { kept_files($nginx) }), 'events are kept again';
    $redis->client->cmd('FLUSHALL');
    arrives($load, ok => 100);

    # Redis lost what it had taken without "retain", and before.
    $load->stop;
    my $lost = sub ($delivery) { $delivery->{status} eq 'ok' && $delivery->{answered} < $restarted };
    comes_back($redis, $load, sub ($delivery) { !$lost->($delivery) });
    verify_ok('retain off and on', $load, $redis, $nginx, lost => $lost);
};

long_scenario 'retain is turned off after a loss' => sub {
    my $redis = redis();
    my $nginx = nginx($redis);
    my $load = load($nginx);

    arrives($load, ok => 300);
    $load->stop;
    $nginx->stop;
    $redis->client->cmd('FLUSHALL');
    $nginx->restart(http => http($redis, spool => 'retain=off'));

    account_ok('FLUSHALL, retain turned off', $load, $redis, $nginx);
    ok wait_for(sub { !kept_files($nginx) }), 'then nothing is kept';
};

scenario 'a journal of the version before' => sub {
    my $redis = redis();
    my $nginx = nginx($redis);
    my $dir = $nginx->dir . '/spool';
    $nginx->stop;

    # Of 0.6 and of today.
    my $now = int 1000 * Time::HiRes::time();
    for my $version (1, 2) {
        my $n = 0;
        spew(sprintf('%s/%020d.log', $dir, 1000 + $version), join '', map {
            journal_record(delivery_content(
                version => $version, room => "v$version", id => "v$version/" . ++$n, received_at => $now - 1000 + $n,
                body => event($_, room => "v$version", delivery => "v$version/$n")))
        } qw(call_started call_ringing call_ended));
    }
    $nginx->restart;
    my $client = $redis->client;
    ok wait_for(sub { $client->cmd(XLEN => 'vaani:stream') == 6 }), 'it is read';
    ok wait_for(sub { 2 == grep { /00100\d-/ } kept_files($nginx) }), '... and kept';
    ok !segments($dir), '... and does not wait any more';

    $client->cmd('FLUSHALL');
    ok wait_for(sub { $client->cmd(XLEN => 'vaani:stream') == 6 }, 90), 'it comes back';
    is $client->cmd(HGET => "vaani:call:v$_", 'status'), 'ended', "the call of version $_" for 1, 2;
};

table_at_end();
done_testing;
