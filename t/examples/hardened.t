# examples/hardened.conf, as docs/security.md promises it: TLS on both sides, a
# secret in the URL that gets into no log, a Redis user with no more rights than
# it needs, and nothing served but the endpoint.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

use JSON::PP qw(decode_json);
use Vaani::Test::ACL;
use Vaani::Test::Certificates;
use Vaani::Test::Endpoint;
use Vaani::Test::Events;
use Vaani::Test::Nginx::Config qw(nginx_bin);

plan skip_all => 'this nginx has no TLS' if join('', run([ nginx_bin(), '-V' ])) !~ /TLS SNI support enabled/;

use constant SECRET => '4f1d0c9a7b5e3f2688d1c0b9a7f6e5d4c3b2a1908f7e6d5c4b3a29180716f5e4';
use constant PASSWORD => 'a-password-of-redis';

my $ca = Vaani::Test::Certificates->new('ca');
my $redis_pair = $ca->issue('redis', san => 'IP:127.0.0.1');
my $http_pair = $ca->issue('hooks', san => 'DNS:hooks.example.com');

my $rights = join ' ', map { /\s/ ? "\"$_\"" : $_ } Vaani::Test::ACL::rights('vaani'),
    Vaani::Test::ACL::index_rights(), RETAIN->@*;
my $redis = Vaani::Test::Redis->start(
    tls    => { cert => $redis_pair->{cert}, key => $redis_pair->{key} },
    config => [ 'user default on nopass ~* &* +@all', 'user vaani on >' . PASSWORD . " $rights" ],
);

my %file = (
    '/etc/nginx/vaani.token'    => secret_file('token', SECRET),
    '/etc/nginx/redis.password' => secret_file('password', PASSWORD),
    '/etc/nginx/redis-ca.pem'   => $ca->file,
    '/etc/ssl/certs/hooks.example.com.pem'   => $http_pair->{cert},
    '/etc/ssl/private/hooks.example.com.key' => $http_pair->{key},
    '/var/spool/vaani'                       => tmpdir() . '/spool',
    'redis.example.com:6379'                 => '127.0.0.1:' . $redis->tls_port,
);

sub secret_file ($name, $content) {
    my $file = spew(tmpdir() . "/$name", "$content\n");
    chmod 0600, $file;
    return $file;
}

# The file as it is, but for places: paths, ports, and the name of Redis.
sub hardened (%change) {
    my $text = slurp(ROOT . '/examples/hardened.conf');

    for ($text) {
        s{^\s*#.*\n}{}mg;
        s{^load_module .*;\n|^user .*;\n|^worker_processes .*;\n|^pid .*;\n|^error_log .*;\n}{}mg;
        s{^\s*resolver .*;\n}{}m;
        for my $path (sort keys %file) { s{\Q$path\E}{$file{$path}}g }
        s{/var/log/nginx/}{%%DIR%%/}g;
        s{listen 443}{listen 127.0.0.1:%%PORT%%}g;
        for my $from (sort keys %change) { s{\Q$from\E}{$change{$from}} or die "no \"$from\"\n" }
    }

    my ($http) = $text =~ /^http \{\n(.*)^\}\n/ms or die "no http { }\n";
    return (http => $http, log_level => 'notice');
}

my $nginx = Vaani::Test::Nginx->start(hardened());
my $client = $redis->client;

# ($status, $body)
sub curl ($uri, @options) {
    my $host = 'hooks.example.com:' . $nginx->port;
    my ($exit, $out, $err) = run([
        'curl', '-sS', '-w', '\n%{http_code}', '--cacert', $ca->file,
        '--resolve', "$host:127.0.0.1", @options, "https://$host$uri",
    ]);
    return ($exit, $err) if $exit;
    my ($body, $status) = $out =~ /^(.*)\n(\d+)$/s;
    return ($status, $body);
}

sub send_event ($token, $room = 'room_1', $event = 'call_started') {
    return curl('/vaani/webhook' . (defined $token ? "?token=$token" : ''),
        '-H', 'Content-Type: application/json', '-d', event($event, room => $room));
}

subtest 'events' => sub {
    is_deeply [ send_event(SECRET) ], [ 200, qq({"status":"ok"}\n) ], 'with the secret';
    is $client->cmd('HGET', 'vaani:call:room_1', 'seq'), 1, 'and it is in Redis';
    is_deeply $client->cmd('ZRANGE', 'vaani:active', 0, -1), ['room_1'], '... and in the index';

    for my $token (undef, '', 'wrong-SECRET-that-was-guessed', substr(SECRET, 0, -1), SECRET . '0', uc SECRET) {
        my ($status, $body) = send_event($token, 'room_2');
        is $status, 401, 'without it: ' . ($token // 'none');
        is_deeply decode_json($body), { type => 'about:blank', title => 'Unauthorized', status => 401 },
            'and no detail';
    }
    is $client->cmd('EXISTS', 'vaani:call:room_2'), 0, 'nothing of it is in Redis';
};

subtest 'nothing else' => sub {
    is +(curl('/'))[0], 404, '/';
    is +(curl('/vaani/webhook/x?token=' . SECRET))[0], 404, 'a path below';
    is +(curl('/vaani/webhook?token=' . SECRET))[0], 405, 'GET';

    my ($exit, undef, $err) = run([
        'curl', '-sS', '--cacert', $ca->file, '--resolve', 'other.example.com:' . $nginx->port . ':127.0.0.1',
        'https://other.example.com:' . $nginx->port . '/',
    ]);
    isnt $exit, 0, 'another name is refused';
    like $err, qr/unrecognized name|alert/, 'within the handshake';

    my ($status) = curl('/vaani/webhook?token=' . SECRET, '-H', 'Content-Type: application/json',
        '-d', '@' . spew(tmpdir() . '/large', '"' . 'x' x (9 * 1024 * 1024) . '"'));
    is $status, 413, 'a body that is too long';
};

subtest 'Redis' => sub {
    my %info = map { /^(\w+)=(.*)$/ ? ($1 => $2) : () }
        map { split / / } grep { /user=vaani/ } split /\n/, $client->cmd('CLIENT', 'LIST');
    is $info{user}, 'vaani', 'the user of the example';
    is +($info{laddr} // '') =~ s/.*://r, $redis->tls_port, 'over TLS';

    # A Redis with a certificate of an unknown CA.
    my $other = Vaani::Test::Certificates->new('other')->issue('redis', san => 'IP:127.0.0.1');
    $redis->restart(tls => { cert => $other->{cert}, key => $other->{key} });
    ok $nginx->wait_log(qr/has a certificate from an untrusted CA/, 10), 'another certificate is refused'
        or diag $nginx->error_log;

    is_deeply [ send_event(SECRET, 'room_3') ], [ 200, qq({"status":"queued"}\n) ], 'its events wait in the spool';

    $redis->restart(tls => { cert => $redis_pair->{cert}, key => $redis_pair->{key} });
    $client = $redis->client;
    ok wait_for(sub { $client->cmd('EXISTS', 'vaani:call:room_3') }), 'until the right one is back';
};

subtest 'logs' => sub {
    ok $nginx->stop, 'nginx ends';

    my @lines = map { decode_json($_) } split /\n/, slurp($nginx->dir . '/access.log');
    cmp_ok scalar @lines, '>', 8, 'the access log has each request';
    my %results = map { $_->{result} => 1 } @lines;
    ok $results{$_}, "and result $_" for qw(ok unauthorized queued rejected);

    for my $log (qw(access.log error.log stderr.log)) {
        my $text = slurp($nginx->dir . "/$log");
        unlike $text, qr/\Q${\SECRET}\E|guessed/i, "$log has no secret, right or wrong";
        unlike $text, qr/\Q${\PASSWORD}\E/, "$log has no password";
        unlike $text, qr/\+1234567890/, "$log has no number";
    }
    like $nginx->error_log, qr/too large body.*request: "POST \/vaani\/webhook\?\*\*\* HTTP/, 'nginx masks';

    is sprintf('%04o', (stat)[2] & 07777), '0600', 'files of the spool are private: ' . s{.*/}{}r
        for glob tmpdir() . '/spool/*';
};

done_testing;
