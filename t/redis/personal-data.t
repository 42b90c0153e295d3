# Where docs/data-protection.md says that personal data is, it is, and its commands
# find it; what it says keeps less does.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

use Vaani::Test::Events;
use Vaani::Test::Readme;

use constant NUMBER => '+12025550142';    # as in the document

my $page = Vaani::Test::Readme->new(ROOT . '/docs/data-protection.md');
my $redis = Vaani::Test::Redis->start(
    acl => [ qw(~vaani:stream +xadd ~vaani:mark:* +get +set +eval) ], config => ['appendonly yes']);
my $admin = $redis->client;

my $nginx = Vaani::Test::Nginx->start(http => <<"CONF");
    vaani_redis @{[ $redis->url ]};
    server {
        listen unix:%%SOCK%%;
        location = /hook  { vaani_webhook; vaani_stream vaani:stream; vaani_spool %%DIR%%/spool retain=1h; }
        location = /short { vaani_webhook; vaani_stream vaani:stream; vaani_payload off; }
    }
CONF
my $http = $nginx->http;

# The command of the page that has this in it, at the places of this test.
sub command ($like) {
    my @found = grep { /$like/ } map { split /\n/, $_->{text} =~ s/\\\n\s*/ /gr } grep { $_->{lang} eq 'sh' } $page->section('Find a caller');
    is scalar @found, 1, "the page has $like" or return 'false';

    for (my $command = $found[0]) {
        s/^sudo //;
        s{/var/spool/vaani}{$nginx->dir . '/spool'}ge;
        s{/var/lib/redis}{$redis->dir}ge;
        s{^redis-cli}{'redis-cli -s ' . $redis->socket . ' --user admin --pass sesame --no-auth-warning'}e;
        return $_;
    }
}

sub found ($like) { return (run([ 'sh', '-c', command($like) ]))[1] }

is $http->post('/hook', event('call_started', room => 'room_123abc', phone_number => NUMBER))->body,
    qq({"status":"ok"}\n), 'an event with a number';

subtest 'in files of the spool' => sub {
    like found(qr/grep .*spool/), qr/\.kept$/m, 'a kept one';
};

subtest 'in a stream' => sub {
    like found(qr/XRANGE/), qr/\Q@{[ NUMBER ]}/, 'a message';
};

subtest 'in the append-only file' => sub {
    ok wait_for(sub { found(qr/grep .*redis$/) =~ /\.aof$/m }), 'until it is written again';
    $admin->cmd('UNLINK', 'vaani:call:room_123abc', 'vaani:stream');
    like found(qr/grep .*redis$/), qr/\.aof$/m, '... also of a deleted call';

    $admin->cmd('BGREWRITEAOF');
    ok wait_for(sub { found(qr/grep .*redis$/) !~ /\.aof$/m }), '... not any longer';
};

subtest 'in the slow log' => sub {
    $admin->cmd(qw(CONFIG SET slowlog-log-slower-than 0));
    $http->post('/hook', event('call_started', room => 'slow', phone_number => NUMBER));
    like found(qr/SLOWLOG/), qr/\Q@{[ NUMBER ]}/, 'as an argument';

    $admin->cmd(qw(CONFIG SET slowlog-log-slower-than -1));
    $admin->cmd(qw(SLOWLOG RESET));
    $http->post('/hook', event('call_started', room => 'fast', phone_number => NUMBER));
    unlike found(qr/SLOWLOG/), qr/\Q@{[ NUMBER ]}/, '... not if it is off';
};

subtest 'with "vaani_payload off"' => sub {
    $admin->cmd('DEL', 'vaani:stream');
    $http->post('/short', event('call_started', room => 'short', phone_number => NUMBER));
    is $admin->cmd('XLEN', 'vaani:stream'), 1, 'a message';
    unlike found(qr/XRANGE/), qr/\Q@{[ NUMBER ]}/, '... without the number';
};

done_testing;
