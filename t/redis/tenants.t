# Several tenants in one Redis, as docs/multi-tenant.md sets them up: its
# configuration, its users, its commands. The rights of a tenant's user end at
# the keys and channels of that tenant.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

use Vaani::Test::ACL qw(documented);
use Vaani::Test::Events;
use Vaani::Test::Readme;
use Vaani::Test::Signing;

use constant PASSWORD => 'secret';    # as in the document
use constant TOOL => ROOT . '/bin/vaani-calls';

delete @ENV{qw(REDIS_URL VAANI_REDIS_USER VAANI_REDIS_PASSWORD)};

my $page = Vaani::Test::Readme->new(ROOT . '/docs/multi-tenant.md');
my $redis = Vaani::Test::Redis->start(tcp => 1);
my $admin = $redis->client;

my @USERS = qw(vaani acme acme-crm acme-calls acme-eraser);
$admin->cmd('ACL', 'SETUSER', $_, @{ (documented($_, 'multi-tenant.md'))[0] }) for @USERS;

my %secret = map { $_ => token_secret() } qw(acme globex);
secret_file("$_.secret", "$secret{$_}\n") for keys %secret;
secret_file('redis.password', PASSWORD . "\n");

# The configuration of the page, with what can be had here.
sub configuration ($section) {
    my ($block) = grep { $_->{lang} eq 'nginx' } $page->section($section);

    for (my $text = $block->{text}) {
        s{redis://vaani\@127\.0\.0\.1:6379}{unix:@{[ $redis->socket ]}?user=vaani};
        s{/etc/nginx/}{%%TMPDIR%%/}g;
        s{/var/spool/vaani}{%%DIR%%/spool}g;
        s{\blisten\s+80;}{listen unix:%%SOCK%%;}g;
        return $_;
    }
}

my $nginx = Vaani::Test::Nginx->start(http => configuration('Configuration'));
my $http = $nginx->http;

sub post ($tenant, $body, $secret = $secret{$tenant}) {
    return $http->post('/vaani/webhook', $body, Host => "$tenant.example.com",
        'X-Webhook-Signature' => hex_signature($secret, $body));
}

sub login ($user) { return $redis->client(user => $user, password => PASSWORD) }

sub refused ($client, @command) {
    my ($reply, $error) = $client->try_cmd(@command);
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return like $error // "done: $reply", qr/^NOPERM /, "refused: @command";
}

sub calls ($user, @arguments) {
    local $ENV{REDIS_URL} = "redis://$user:@{[ PASSWORD ]}\@127.0.0.1:" . $redis->port;
    return run([ $^X, TOOL, @arguments ]);
}

subtest 'each tenant has its own calls' => sub {
    my $subscriber = login('acme')->subscribe('tenant-acme:events');

    for my $tenant (sort keys %secret) {
        is post($tenant, event('call_started', room => 'r', phone_number => "+1$tenant"))->body, qq({"status":"ok"}\n), "$tenant: an event";
        is $admin->cmd('HGET', "tenant-$tenant:call:r", 'phone_number'), "+1$tenant", '... its hash';
        is_deeply $admin->cmd('ZRANGE', "tenant-$tenant:active", 0, -1), ['r'], '... its index';
        is $admin->cmd('XLEN', "tenant-$tenant:stream"), 1, '... its stream';
    }
    is post('acme', event('call_ended', room => 'r'))->status, 200, 'acme: the end of its call';
    is $admin->cmd('HGET', 'tenant-globex:call:r', 'status'), 'dialing', '... is not that of the other';

    my @heard = map { ($subscriber->next_message(30) // {})->{payload} // '' } 1, 2;
    is join(' ', map { /"event":"(\w+)"/ } @heard), 'call_started call_ended', '... its subscriber hears of its events only';
    unlike "@heard", qr/globex/, '... and of no others';

    ok wait_for(sub { @{ $admin->cmd('KEYS', 'vaani:mark:*') } }), 'the marks of "retain" are set';
    is $nginx->log_lines(qr/NOPERM/), 0, 'the user of the module lacks nothing';
};

subtest 'the secret of one tenant is of no use at another' => sub {
    my $before = $admin->cmd('XLEN', 'tenant-globex:stream');

    is post('globex', event('call_ended', room => 'r'), $secret{acme})->status, 401, 'the other host';
    is $admin->cmd('XLEN', 'tenant-globex:stream'), $before, '... nothing came of it';
};

subtest 'the user of the module' => sub {
    my $client = login('vaani');

    refused($client, 'HSET', $_, 'a', 1) for qw(vaani:call:x other:call:x tenant:call:x tenant-acme:other);
    refused($client, 'PUBLISH', $_, '') for qw(vaani:events tenant-acme:other);
    refused($client, @$_) for [qw(FLUSHALL)], [qw(DEL tenant-acme:call:r)], [qw(KEYS *)];
};

subtest 'the users of a tenant' => sub {
    my $app = login('acme');
    is $app->hgetall('tenant-acme:call:r')->{status}, 'ended', 'a program reads its calls';
    is_deeply $app->cmd('ZRANGE', 'tenant-acme:calls', 0, -1), ['r'], '... and its index';

    my $crm = login('acme-crm');
    $crm->cmd('XGROUP', 'CREATE', 'tenant-acme:stream', 'crm', 0);
    my $entries = $crm->cmd(qw(XREADGROUP GROUP crm one COUNT 10 STREAMS tenant-acme:stream >));
    is scalar @{ $entries->[0][1] }, 2, 'a consumer reads its stream';
    is $crm->cmd('XACK', 'tenant-acme:stream', 'crm', map { $_->[0] } @{ $entries->[0][1] }), 2, '... and acknowledges';

    for my $user (grep { $_ ne 'vaani' } @USERS) {
        my $client = login($user);
        refused($client, @$_) for
            [qw(HGETALL tenant-globex:call:r)], [qw(HMGET tenant-globex:call:r status)],
            [qw(ZRANGE tenant-globex:active 0 -1)], [qw(XRANGE tenant-globex:stream - +)],
            [qw(XREADGROUP GROUP crm one STREAMS tenant-globex:stream >)],
            [qw(UNLINK tenant-globex:call:r)], [qw(HSET tenant-acme:call:r a 1)],
            [qw(SUBSCRIBE tenant-globex:events)], [qw(PSUBSCRIBE *)], [qw(PSUBSCRIBE tenant-*:events)], [qw(KEYS *)];
    }
};

subtest 'vaani-calls' => sub {
    post('acme', event('call_started', room => 'going-on'));

    my ($exit, $out, $err) = calls('acme-calls', qw(--prefix tenant-acme active));
    is $exit, 0, 'active' or diag $err;
    like $out, qr/^going-on /m, '... the call of the tenant';

    is +(calls('acme-calls', qw(--prefix tenant-globex active)))[0], 4, 'not those of another tenant';

    ($exit, $out, $err) = calls('acme-eraser', qw(--prefix tenant-acme erase r --yes));
    is $exit, 0, 'erase' or diag $out, $err;
    is $admin->cmd('EXISTS', 'tenant-acme:call:r'), 0, '... the hash is gone';
    unlike join(' ', map { @{ $_->[1] } } @{ $admin->cmd(qw(XRANGE tenant-acme:stream - +)) }), qr/"room_name":"r"/, '... so are its messages';
    is $admin->cmd('EXISTS', 'tenant-globex:call:r'), 1, '... the call with the same name of another tenant stays';
    is $admin->cmd('XLEN', 'tenant-globex:stream'), 1, '... with its messages';
};

subtest 'a Redis for each tenant' => sub {
    my $other = Vaani::Test::Redis->start;
    my @sockets = map { 'unix:' . $_->socket } Vaani::Test::Redis->start, $other;
    my $text = configuration('A Redis for each tenant') =~ s{redis://192\.0\.2\.\d+}{shift @sockets}ger;
    mkdir tmpdir() . '/spools';
    my $own = Vaani::Test::Nginx->start(http => $text =~ s{%%DIR%%/spool/}{%%TMPDIR%%/spools/}gr);

    my $body = event('call_started', room => 'r');
    is $own->http->post('/vaani/webhook', $body, Host => 'globex.example.com',
        'X-Webhook-Signature' => hex_signature($secret{globex}, $body))->body, qq({"status":"ok"}\n), 'an event';
    is $other->client->cmd('EXISTS', 'vaani:call:r'), 1, '... is in the Redis of its tenant';
    ok -d tmpdir() . "/spools/$_", "... $_ has a spool" for qw(acme globex);
};

no_secret_was_told();
done_testing;
