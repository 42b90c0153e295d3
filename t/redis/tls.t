# TLS to Redis: what is verified, what is refused and how the log explains it,
# and that events are as safe over it as without.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

use Fcntl qw(O_RDWR);
use POSIX ();
use Socket qw(IPPROTO_TCP TCP_NODELAY);
use Vaani::Test::Certificates;
use Vaani::Test::Endpoint;
use Vaani::Test::Events;
use Vaani::Test::FakeRedis;
use Vaani::Test::HTTP qw(format_request);
use Vaani::Test::Nginx::Config qw(nginx_bin);
use Vaani::Test::Process qw(register_service);

use constant BUILD => join '', run([ nginx_bin(), '-V' ]);
use constant DEBUG => BUILD =~ /--with-debug/;

plan skip_all => 'this nginx has no TLS' if BUILD !~ /TLS SNI support enabled/;

my $ca = Vaani::Test::Certificates->new('ca');
my $other_ca = Vaani::Test::Certificates->new('other-ca');
my $good = $ca->issue('good', san => 'DNS:redis.test, DNS:localhost, IP:127.0.0.1, IP:::1');
my $expired = $ca->issue('expired', san => 'DNS:redis.test, IP:127.0.0.1', expired => 1);
my $named = $ca->issue('named', san => 'DNS:redis.test');
my $elsewhere = $ca->issue('elsewhere', san => 'DNS:elsewhere.test, IP:127.0.0.2');
my $untrusted = $other_ca->issue('untrusted', san => 'DNS:redis.test, IP:127.0.0.1');

use constant TRUST => 'vaani_redis_ssl_trusted_certificate %%TMPDIR%%/ca/ca.crt;';
chmod 0600, spew(tmpdir() . '/password', "sesame\n");

use constant PASSWORD => 'vaani_redis_password_file %%TMPDIR%%/password;';
use constant SHORT => 'vaani_redis_connect_timeout 300ms; vaani_redis_timeout 300ms;';
use constant LONG => 'vaani_redis_connect_timeout 30s; vaani_redis_timeout 30s;';

# A Redis with this certificate.
sub tls ($pair, %opt) { return { cert => $pair->{cert}, key => $pair->{key}, %opt } }
sub redis ($pair = $good, %opt) {
    my %tls = map { $_ => delete $opt{$_} } grep { /^(?:auth_clients|ca_cert_file|protocols|ciphers)$/ } keys %opt;
    return Vaani::Test::Redis->start(tls => tls($pair, %tls), %opt);
}

sub endpoint ($directives, %opt) {
    return big_endpoint($directives, %opt, http => 'add_header X-Reason $vaani_reason always; ' . ($opt{http} // ''));
}

# "ok", "duplicate", or the reason of a 503.
sub answer ($response) {
    my ($status, $body) = ($response->status, $response->body);

    return $1 if "$status $body" =~ /^200 \{"status":"(\w+)"\}$/;
    return $status == 503 ? $response->header('X-Reason') // '503' : "$status $body";
}

sub post ($nginx, $body = an_event(), $uri = '/vaani') {
    return answer(($nginx->{client} //= $nginx->http)->post($uri, $body));
}

sub accepts ($name, $redis, $directives) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $nginx = endpoint("vaani_redis @{[ $redis->url ]}; $directives");
    is post($nginx), 'ok', $name or diag $nginx->error_log;
    return $nginx;
}

# The event is refused, and one line at "error" says why.
sub refuses ($why, $name, $redis, $directives) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $url = ref $redis ? $redis->url : $redis;
    my $nginx = endpoint("vaani_redis $url; $directives");

    is post($nginx), 'redis_down', $name;
    $nginx->wait_log(qr/\[error\]/, 10);
    my @errors = $nginx->log_lines(qr/\[(?:warn|error|crit)\]/);
    is scalar(@errors), 1, '... the log has one line' or diag @errors;
    like $errors[0] // '', qr{vaani: \Q$url\E $why; events are refused}, '... that explains it';
    return $nginx;
}

sub recovers ($nginx, $name = 'recovers by itself', $uri = '/vaani') {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $body = an_event();
    my $answer;
    return ok(wait_for(sub { ($answer = post($nginx, $body, $uri)) =~ /^(?:ok|duplicate)$/ }, 10), $name)
        || diag("$answer\n", $nginx->error_log);
}

# The connections that a Redis has, but ours.
sub connections ($redis) {
    return grep { !/cmd=client/ } split /\n/, $redis->client->cmd('CLIENT', 'LIST', 'TYPE', 'normal');
}

sub answers (@clients) {
    my %answers;
    $answers{ answer($_->read_response) }++ for @clients;
    return \%answers;
}

# A proxy between nginx and a Redis: a sub also gets the bytes from nginx.
sub between ($redis, %opt) {
    return Vaani::Test::FakeRedis->start(tcp => 1, on_connect => sub ($sock, $fake, $n) {
        setsockopt $sock, IPPROTO_TCP, TCP_NODELAY, 1;
        relay($sock, $redis->tls_port,
            up => $opt{up} && sub ($bytes) { $opt{up}->($fake, $n, $bytes); return $bytes },
            down => $opt{down} && sub ($bytes) { return $opt{down}->($sock, $bytes) });
    });
}

sub rediss ($fake, $host = '127.0.0.1') { return "rediss://$host:" . $fake->port }

# --- it works

subtest 'an event over TLS' => sub {
    my $redis = redis();
    my $port = $redis->tls_port;
    my $nginx = endpoint("vaani_redis @{[ $redis->url ]};" . TRUST, locations => join "\n",
        map { "location = /$_->[0] { vaani_webhook; vaani_redis $_->[1]; }" }
        [ address => "rediss://127.0.0.1:$port" ],
        [ name    => "rediss://localhost:$port" ],
        [ dot     => "rediss://127.0.0.1:$port; vaani_redis_ssl_name redis.test." ],
        [ case    => "REDISS://127.0.0.1:$port/2" ],
    );

    for my $uri (qw(address name dot case)) {
        my $room = new_room();
        is post($nginx, an_event($room), "/$uri"), 'ok', $uri or diag $nginx->error_log;
        my $client = $redis->client(db => $uri eq 'case' ? 2 : 0);
        is $client->cmd('HGET', "vaani:call:$room", 'seq'), 1, '... is there';
    }
    $nginx->log_like(qr{vaani: connected to rediss://127\.0\.0\.1:$port$}, 'the log names it');
    $nginx->log_unlike(qr/\[(?:warn|error|crit)\]/, 'nothing to complain about');
};

subtest 'password and database' => sub {
    my $redis = redis($good, password => 'sesame');
    my $nginx = accepts('from a file', $redis, TRUST . PASSWORD
        . "location = /db { vaani_webhook; vaani_redis rediss://:sesame\@127.0.0.1:@{[ $redis->tls_port ]}/3; }");
    is post($nginx, an_event('third'), '/db'), 'ok', 'in the URL';
    is $redis->client(db => 3)->cmd('EXISTS', 'vaani:call:third'), 1, '... and in its database';
    unlike $nginx->error_log, qr/sesame/, 'the log does not tell it';
};

SKIP: {
    skip 'no IPv6', 1 if slurp('/proc/net/if_inet6') !~ /^0{31}1 /m;

    subtest 'IPv6' => sub {
        my $redis = redis($good, config => ['bind ::1']);
        my $nginx = endpoint(TRUST . "vaani_redis rediss://[::1]:@{[ $redis->tls_port ]};");
        is post($nginx), 'ok', 'an address' or diag $nginx->error_log;

        $redis = redis($named, config => ['bind ::1']);
        refuses(qr/has a certificate without its address.*/, 'another one',
            "rediss://[::1]:@{[ $redis->tls_port ]}", TRUST);
    };
}

# --- verification

subtest 'the certificate of Redis' => sub {
    my $mismatch = qr/has a certificate without its address, see "vaani_redis_ssl_name" \(IP address mismatch\)/;
    my $unknown = qr/has a certificate from an untrusted CA, see "vaani_redis_ssl_trusted_certificate" \(.+\)/;

    for my $case (
        [ 'of an unknown CA'     => $untrusted, $unknown ],
        [ 'that has expired'     => $expired, qr/has an expired certificate, renew it \(certificate has expired\)/ ],
        [ 'for another address'  => $elsewhere, $mismatch ],
        [ 'for no address'       => $named, $mismatch ],
    ) {
        my ($name, $pair, $why) = @$case;
        my $redis = redis($pair);
        my $nginx = refuses($why, $name, $redis, TRUST);
        is post($nginx), 'redis_down', '... still' for 1 .. 3;

        # As with a certificate that is renewed, and Redis restarted for it.
        $redis->restart(tls => tls($good));
        recovers($nginx);
        $nginx->log_like(qr/\[notice\].*connected to rediss:/, '... and says so');

        accepts("$name, with verify off", redis($pair), 'vaani_redis_ssl_verify off;');
    }

    my $redis = redis($elsewhere);
    refuses(qr/has a certificate for another name, see "vaani_redis_ssl_name" \(hostname mismatch\)/,
        'for another name', 'rediss://localhost:' . $redis->tls_port, TRUST);
    refuses($unknown, 'with the CAs of the system', redis(), 'vaani_redis_ssl_trusted_certificate "";');
};

subtest 'no password is sent to whom is not known' => sub {
    my $redis = redis($untrusted, password => 'sesame');
    refuses(qr/has a certificate from an untrusted CA.*/, 'refused', 'rediss://127.0.0.1:' . $redis->tls_port,
        TRUST . PASSWORD);
    like $redis->client->cmd('INFO', 'commandstats') =~ s/cmdstat_auth:calls=1,//r, qr/^(?!.*cmdstat_auth)/s,
        'Redis saw no AUTH but ours';
};

subtest 'the CAs of the system' => sub {
    local @ENV{qw(SSL_CERT_FILE SSL_CERT_DIR)} = ($ca->file, tmpdir());
    accepts('are the default', redis(), '');
};

subtest 'vaani_redis_ssl_name' => sub {
    my $redis = redis($named);
    accepts('replaces the host', $redis, TRUST . 'vaani_redis_ssl_name redis.test;');
    accepts('can be an address', redis(), TRUST . 'vaani_redis_ssl_name 127.0.0.1;');
    accepts('wildcards', redis($ca->issue('wild', san => 'DNS:*.redis.test')), TRUST . 'vaani_redis_ssl_name a.redis.test;');
    accepts('the common name, without others', redis($ca->issue('common', cn => 'common.test')),
        TRUST . 'vaani_redis_ssl_name common.test;');
    refuses(qr/has a certificate for another name, .*/, 'another one', $redis, TRUST . 'vaani_redis_ssl_name localhost;');
    refuses(qr/has a certificate without its address, .*/, 'another address', redis(),
        TRUST . 'vaani_redis_ssl_name 127.0.0.3;');
};

# The name is in the first bytes of nginx's, in clear.
subtest 'SNI' => sub {
    my $redis = redis();
    my $fake = between($redis, up => sub ($fake, $n, $bytes) {
        state %seen;
        return if $seen{$n}++;
        my $names = join ' ', $bytes =~ /\x00\x00..\x00.\x00..((?:redis\.test|localhost|127\.0\.0\.1))/s;
        $fake->report("[$names]");
    });

    for my $case (
        [ 'the host'             => '[localhost]',  'localhost', '' ],
        [ 'no address'           => '[]',           '127.0.0.1', '' ],
        [ 'the given name'       => '[redis.test]', '127.0.0.1', 'vaani_redis_ssl_name redis.test;' ],
        [ 'without verification' => '[redis.test]', '127.0.0.1',
            'vaani_redis_ssl_name redis.test; vaani_redis_ssl_verify off;' ],
        [ 'no given address'     => '[]',           'localhost', 'vaani_redis_ssl_name 127.0.0.1;' ],
    ) {
        my ($name, $sni, $host, $directives) = @$case;
        my $nginx = endpoint("vaani_redis @{[ rediss($fake, $host) ]};" . TRUST . $directives);
        is post($nginx), 'ok', $name or diag $nginx->error_log;
        is $fake->next_report, $sni, '... is sent';
    }
};

subtest 'CAs in between' => sub {
    my $ca1 = Vaani::Test::Certificates->new('ca1', parent => $ca);
    my $ca2 = Vaani::Test::Certificates->new('ca2', parent => $ca1);
    my $ca3 = Vaani::Test::Certificates->new('ca3', parent => $ca2);
    my $ca4 = Vaani::Test::Certificates->new('ca4', parent => $ca3);
    my ($one, $three, $four) = map {
        my $pair = $_->issue('redis', san => 'IP:127.0.0.1');
        Vaani::Test::Redis->start(tls => { cert => $pair->{chain}, key => $pair->{key} });
    } $ca1, $ca3, $ca4;
    my $too_many = qr/has a certificate chain that is too long, see "vaani_redis_ssl_verify_depth" \(.+\)/;

    accepts('one', $one, TRUST);
    accepts('... of which one is allowed', $one, TRUST . 'vaani_redis_ssl_verify_depth 1;');
    refuses($too_many, '... and none', $one, TRUST . 'vaani_redis_ssl_verify_depth 0;');
    accepts('three', $three, TRUST);
    refuses($too_many, 'four', $four, TRUST);
    accepts('... that are allowed', $four, TRUST . 'vaani_redis_ssl_verify_depth 4;');
};

subtest 'vaani_redis_ssl_crl' => sub {
    my $revoked = $ca->issue('revoked', san => 'IP:127.0.0.1');
    my ($before) = $ca->crl;
    $ca->revoke($revoked);
    my $after = $ca->crl;
    my $redis = redis($revoked);

    accepts('not in the list', $redis, TRUST . "vaani_redis_ssl_crl $before;");
    refuses(qr/has a revoked certificate, replace it \(certificate revoked\)/, 'in the list', $redis,
        TRUST . "vaani_redis_ssl_crl $after;");
    accepts('another one', redis(), TRUST . "vaani_redis_ssl_crl $after;");
    refuses(qr/has a certificate from a CA without a revocation list, see "vaani_redis_ssl_crl" \(.+\)/,
        'the list of another CA', redis(), TRUST . "vaani_redis_ssl_crl @{[ $other_ca->crl ]};");
};

# --- the certificate of nginx

my $client_pair = $ca->issue('client', usage => 'clientAuth');

subtest 'a certificate for Redis' => sub {
    my $other = $other_ca->issue('client', usage => 'clientAuth');
    my $encrypted = $ca->encrypt($client_pair, 'open sesame');
    spew(tmpdir() . '/key.password', "wrong\nopen sesame\n");
    my $using = sub ($cert, $key) {
        return TRUST . "vaani_redis_ssl_certificate $cert; vaani_redis_ssl_certificate_key $key;";
    };
    my $refused = qr/rejected the client certificate, see "vaani_redis_ssl_certificate" \(alert \d+\)/;

    for my $version (qw(TLSv1.2 TLSv1.3)) {
        my $redis = redis($good, auth_clients => 'yes', ca_cert_file => $ca->file, protocols => $version);

        my $nginx = accepts("$version: the right one", $redis, $using->(@$client_pair{qw(cert key)}));
        accepts("$version: with an encrypted key", $redis, $using->($client_pair->{cert}, $encrypted)
            . 'vaani_redis_ssl_password_file %%TMPDIR%%/key.password;');
        refuses($version eq 'TLSv1.3'
            ? qr/requires a client certificate, see "vaani_redis_ssl_certificate" \(alert 116\)/
            : qr/rejected the TLS handshake, check .* \(alert 40\)/,
            "$version: none", $redis, TRUST);
        my $rejected = refuses($refused, "$version: of an unknown CA", $redis, $using->(@$other{qw(cert key)}));

        $redis->restart(tls => tls($good, auth_clients => 'yes', ca_cert_file => $other_ca->file));
        recovers($rejected, "$version: recovers when Redis knows the CA");
    }

    my $redis = redis($good, auth_clients => 'optional', ca_cert_file => $ca->file);
    accepts('optional, and there', $redis, $using->(@$client_pair{qw(cert key)}));
    accepts('optional, and not there', $redis, TRUST);
};

# --- protocols and ciphers

subtest 'protocols' => sub {
    my $none = qr/supports no TLS version of "vaani_redis_ssl_protocols" \(.+\)/;
    my %redis = map { $_ => redis($good, protocols => $_) } qw(TLSv1.2 TLSv1.3);

    for my $version (sort keys %redis) {
        my ($other) = grep { $_ ne $version } keys %redis;
        accepts("$version by default", $redis{$version}, TRUST);
        accepts("$version alone", $redis{$version}, TRUST . "vaani_redis_ssl_protocols $version;");
        accepts("$version among others", $redis{$version}, TRUST . "vaani_redis_ssl_protocols $other $version;");
        refuses($none, "$version against $other", $redis{$version}, TRUST . "vaani_redis_ssl_protocols $other;");
    }
};

subtest 'ciphers' => sub {
    my ($one, $other) = qw(ECDHE-ECDSA-AES128-GCM-SHA256 ECDHE-ECDSA-AES256-GCM-SHA384);
    my $redis = redis($good, protocols => 'TLSv1.2', ciphers => $one);
    accepts('the same', $redis, TRUST . "vaani_redis_ssl_ciphers $one;");
    accepts('among others', $redis, TRUST . "vaani_redis_ssl_ciphers $other:$one;");
    refuses(qr/rejected the TLS handshake, .* and the ciphers \(alert 40\)/, 'another one', $redis,
        TRUST . "vaani_redis_ssl_ciphers $other;");
};

# --- something else than TLS

subtest 'no TLS on that port' => sub {
    my $talker = Vaani::Test::FakeRedis->start(tcp => 1, on_connect => sub ($sock, @) {
        sysread $sock, my $hello, 1000;
        send_bytes($sock, "-ERR unknown command\r\n");
        1 while sysread $sock, $hello, 1000;
    });
    my $closer = Vaani::Test::FakeRedis->start(tcp => 1, on_connect => sub ($sock, @) { sysread $sock, my $hello, 1000 });
    my $silent = Vaani::Test::FakeRedis->start(tcp => 1, on_connect => sub ($sock, @) { 1 while sysread $sock, my $x, 1000 });

    refuses(qr{does not speak TLS, check that the port uses TLS \(wrong version number\)}, 'one that answers',
        rediss($talker), TRUST);
    refuses(qr/closed the connection during the TLS handshake, check that the port uses TLS/, 'one that hangs up',
        rediss($closer), TRUST);

    # Its timeout must not keep the worker from others.
    my $nginx = endpoint("vaani_redis @{[ rediss($silent) ]};" . TRUST . SHORT);
    my $client = $nginx->http;
    my $start = now;
    $client->send_raw(join '', format_request(method => 'POST', uri => '/vaani', body => an_event()));
    is $nginx->http->get('/writing')->status, 200, 'one that is silent: the worker goes on';
    like $nginx->wait_log(qr/\[error\]/, 10) // '',
        qr/did not complete the TLS handshake in time, check that the port uses TLS; events.*\(110: /,
        '... the log explains it';
    like answer($client->read_response), qr/^redis_(?:down|timeout)$/, '... the event does not wait longer';
    cmp_ok now() - $start, '<', 5, '... soon';
    is post($nginx), 'redis_down', '... and events are refused';

    # A Redis takes the first bytes for a command, or waits for more of it.
    my $redis = Vaani::Test::Redis->start(tcp => 1);
    refuses(qr/(?:does not speak TLS|closed the connection during the TLS h|did not complete the TLS h).*/,
        'a Redis without TLS', 'rediss://127.0.0.1:' . $redis->port, TRUST . SHORT);
};

subtest 'TLS where none is expected' => sub {
    my $redis = redis();
    refuses(qr/(?:does not speak the Redis protocol|closed the connection)/, 'refused',
        'redis://127.0.0.1:' . $redis->tls_port, SHORT);
};

# --- connections

subtest 'a Redis that goes away' => sub {
    my $redis = redis();
    my $nginx = endpoint("vaani_redis @{[ $redis->url ]};" . TRUST);
    is post($nginx), 'ok', 'before';

    $redis->client->cmd('CLIENT', 'KILL', 'TYPE', 'normal');
    is post($nginx), 'ok', "CLIENT KILL $_" for 1 .. 3;

    $redis->stop;
    ok wait_for(sub { post($nginx) eq 'redis_down' }), 'stopped';
    $redis->restart;
    recovers($nginx);

    $redis->kill;
    ok wait_for(sub { post($nginx) eq 'redis_down' }), 'killed';
    $redis->restart;
    recovers($nginx);
};

subtest 'kill -9 under load, and restart' => sub {
    my $redis = redis($good, acl => [qw(~events +xadd)], config => [ 'appendonly yes', 'appendfsync always' ]);
    my $nginx = endpoint("vaani_redis @{[ $redis->url ]}; vaani_stream events;" . TRUST);

    my @bodies = map { event('human_transfer_failed', room => new_room(), n => $_) } 0 .. 1499;
    my $responses = 0;
    my @answers;
    post_many($nginx, '/vaani', \@bodies, connections => 16, on_response => sub ($i, $response) {
        $answers[$i] = answer($response);
        if (++$responses % 500 == 250) {
            $redis->kill;
            is post($nginx), 'redis_down', 'refused while it is away';
            $redis->restart;
            recovers($nginx);
        }
    });

    my %answers;
    $answers{$_}++ for @answers;
    is_deeply [ grep { !/^(?:ok|duplicate|redis_\w+)$/ } keys %answers ], [], 'each event is taken or refused'
        or diag explain \%answers;
    cmp_ok $answers{ok}, '>', 1000, "$answers{ok} are taken";

    my $count = stream_counts($redis);
    is_deeply [ grep { $answers[$_] !~ /^redis/ && ($count->{$_} // 0) != 1 } 0 .. $#bodies ], [],
        'what was taken was applied, once';
    is_deeply [ grep { ($count->{$_} // 0) > 1 } 0 .. $#bodies ], [], 'what was refused, not more than once';
};

# TLS records from nginx, of application data: { number, bytes }.
sub count_records ($bytes, $state) {
    $state->{buf} .= $bytes;
    while (length $state->{buf} >= 5) {
        my ($type, $length) = unpack 'Cx2n', $state->{buf};
        last if length $state->{buf} < 5 + $length;
        substr $state->{buf}, 0, 5 + $length, '';
        $state->{records}++ if $type == 23;
    }
    return;
}

subtest 'one write for all that came together' => sub {
    my $redis = redis();
    my $fake = between($redis, up => sub ($fake, $n, $bytes) {
        state %state;
        my $before = ($state{$n} //= { records => 0 })->{records};
        count_records($bytes, $state{$n});
        $fake->report('record') for $before + 1 .. $state{$n}{records};
    });
    my $nginx = endpoint("vaani_redis @{[ rediss($fake) ]};" . TRUST);
    is post($nginx), 'ok', 'one event';
    1 while defined $fake->next_report(0.2);

    my ($worker) = $nginx->worker_pids;
    my $calls = sub () { return slurp("/proc/$worker/io") =~ /^syscw: (\d+)/m ? $1 : undef };
    my $calls_before = $calls->();
    my @clients = at_once($nginx, map { event('call_ringing', room => new_room()) } 1 .. 64);
    is_deeply answers(@clients), { ok => 64 }, '64 at once';

    my $written = defined $calls_before ? $calls->() - $calls_before - 64 - 64 : 0;
    my $records = 0;
    $records++ while defined $fake->next_report(0.2);
    cmp_ok $records, '>=', 1, 'they are seen';
    cmp_ok $records, '<=', 8, "... in $records records";
    cmp_ok $written, '<=', 16, "nginx writes $written times besides its answers";

    post($nginx);
    $records = 0;
    $records++ while defined $fake->next_report(0.2);
    is $records, 1, 'one event is one record';
};

# Bigger than a record, and all together bigger than the sockets' buffers, with a
# Redis that does not read for a while.
subtest 'large bodies' => sub {
    my $redis = redis();
    my $nginx = endpoint("vaani_redis @{[ $redis->url ]};" . TRUST . LONG);
    is post($nginx), 'ok', 'connected';

    my %transcripts = map { (new_room() => join '', map { chr(97 + rand 26) } 1 .. 512 * 1024) } 1 .. 4;
    my $small = 0;
    my @rooms = map { ($_, 'small-' . ++$small) } sort keys %transcripts;
    my @bodies = map { event('call_postprocessing', room => $_, transcript => $transcripts{$_} // 'short') } @rooms;

    $redis->suspend;
    my @clients = map { $nginx->http } @bodies;
    $clients[$_]->send_raw(join '', format_request(method => 'POST', uri => '/vaani', body => $bodies[$_]))
        for 0 .. $#bodies;
    is $nginx->http->get('/writing')->status, 200, 'the worker goes on while Redis reads nothing';
    ok wait_for(sub { unacknowledged($redis->tls_port) > 100_000 }), 'what can be sent was sent';
    $redis->resume;

    is_deeply answers(@clients), { ok => scalar @bodies }, 'all are taken';
    my $client = $redis->client;
    for my $room (@rooms) {
        ok $client->cmd('HGET', "vaani:call:$room", 'transcript') eq ($transcripts{$room} // 'short'), "$room is whole";
    }

    # And one that never goes on: nothing is left of a connection that is full.
    $nginx = endpoint("vaani_redis @{[ $redis->url ]};" . TRUST . SHORT);
    is post($nginx), 'ok', 'connected once more';
    for (1 .. 3) {
        $redis->suspend;
        is_deeply answers(map { my $c = $nginx->http;
            $c->send_raw(join '', format_request(method => 'POST', uri => '/vaani', body => $_)); $c } @bodies),
            { redis_timeout => scalar @bodies }, 'a Redis that hangs';
        $redis->resume;
        recovers($nginx);
    }
};

# The last command fits into the record that cannot be written, so nothing but
# that record is left to be sent.
SKIP: {
    skip 'nginx was built without --with-debug', 1 if !DEBUG;

    subtest 'the rest of a record' => sub {
        my $redis = redis();
        my $nginx = endpoint("vaani_redis @{[ $redis->url ]};" . TRUST . LONG, log_level => 'debug');
        is post($nginx), 'ok', 'connected';

        my $written = 1;
        my @clients;

        $redis->suspend;
        while ($written > 0 && @clients < 900) {
            my $mark = $nginx->log_mark;
            push @clients, $nginx->http;
            $clients[-1]->send_raw(join '', format_request(method => 'POST', uri => '/vaani',
                body => event('call_started', room => new_room(), padding => 'x' x (12 * 1024))));
            ($written) = ($nginx->wait_log(qr/SSL_write: /, 10, $mark) // '') =~ /SSL_write: (-?\d+)/ or last;
        }
        is $written, -1, "the socket is full after @{[ scalar @clients ]} commands";
        $redis->resume;
        is_deeply answers(@clients), { ok => scalar @clients }, 'all are taken';
    };
}

# Bytes that wait to be read from connections to a port of 127.0.0.1, or to be
# sent on them.
sub unacknowledged ($port) {
    my $bytes = 0;
    my $hex = sprintf '%04X', $port;
    for (split /^/, slurp('/proc/net/tcp')) {
        my (undef, undef, $remote, undef, $queues) = split;
        $bytes += hex $1 if ($remote // '') =~ /:$hex$/ && $queues =~ /^([0-9A-F]+):/;
        my (undef, $local, undef, undef, $in) = split;
        $bytes += hex $1 if ($local // '') =~ /:$hex$/ && $in =~ /:([0-9A-F]+)$/;
    }
    return $bytes;
}

subtest 'replies byte by byte' => sub {
    my $redis = redis();
    my $fake = between($redis, down => sub ($sock, $bytes) {
        send_bytes($sock, $_) or return undef for split //, $bytes;
        return '';
    });
    my $nginx = endpoint("vaani_redis @{[ rediss($fake) ]};" . TRUST . LONG);
    is post($nginx), 'ok', 'one';
    is_deeply answers(at_once($nginx, map { an_event() } 1 .. 32)), { ok => 32 }, 'many';
};

subtest 'replies in one large record' => sub {
    my $redis = redis();
    my $nginx = endpoint("vaani_redis @{[ $redis->url ]};" . TRUST . LONG);
    is post($nginx), 'ok', 'connected';

    # More of them than the worker reads at a time.
    $redis->suspend;
    my @clients = map { $nginx->http } 1 .. 100;
    my $n = 0;
    $_->send_raw(join '', map { join '', format_request(method => 'POST', uri => '/vaani', body => $_) } an_event())
        for @clients;
    ok wait_for(sub { unacknowledged($redis->tls_port) > 10_000 }), 'commands wait';
    $redis->resume;
    is_deeply answers(@clients), { ok => 100 }, 'all are taken';
};

# --- sessions

SKIP: {
    skip 'nginx was built without --with-debug', 1 if !DEBUG;

    subtest 'vaani_redis_ssl_session_reuse' => sub {
        for my $version (qw(TLSv1.2 TLSv1.3)) {
            for my $reuse (qw(on off)) {
                my $redis = redis($good, protocols => $version);
                my $nginx = endpoint("vaani_redis @{[ $redis->url ]}; vaani_redis_ssl_session_reuse $reuse;" . TRUST,
                    log_level => 'debug');
                is post($nginx), 'ok', "$version, $reuse: the first connection";
                my $reused = sub () { scalar($nginx->log_lines(qr/SSL reused session/)) };
                is $reused->(), 0, '... has no session to resume';

                $redis->client->cmd('CLIENT', 'KILL', 'TYPE', 'normal') && is post($nginx), 'ok', '... the next one'
                    for 1 .. 2;
                is $reused->(), $reuse eq 'on' ? 2 : 0, '... ' . ($reuse eq 'on' ? 'resumes it' : 'is a new one');

                # A Redis that was restarted does not know it any more.
                $redis->restart;
                recovers($nginx);
                is $reused->(), $reuse eq 'on' ? 2 : 0, '... nor does a new Redis';

                # Nor does one without the right to be trusted come in by it.
                $redis->restart(tls => tls($untrusted, protocols => $version));
                ok wait_for(sub { post($nginx) eq 'redis_down' }), '... and another certificate is refused';
            }
        }
    };
}

# --- other messages of TLS: s_server executes commands from its stdin

subtest 'key update, renegotiation' => sub {
    for my $case (
        [ 'TLSv1.3', 'K', '-tls1_3', qr/^>>> .*KeyUpdate/m ],
        [ 'TLSv1.3', 'k', '-tls1_3', qr/^>>> .*KeyUpdate/m ],
        [ 'TLSv1.2', 'r', '-tls1_2', qr/^<<< .*Finished/m ],
    ) {
        my ($version, $command, $option, $done) = @$case;
        my $dir = tmpdir() . "/s_server-$command";
        mkdir $dir;
        POSIX::mkfifo("$dir/in", 0600) or die "mkfifo: $!\n";
        sysopen my $in, "$dir/in", O_RDWR or die "open: $!\n";
        my $port = free_port();
        my $process = Vaani::Test::Process->spawn(
            argv => [ qw(openssl s_server -crlf -msg), $option, '-accept', "127.0.0.1:$port",
                '-cert', $good->{cert}, '-key', $good->{key} ],
            stdin => "$dir/in", stdout => "$dir/out", stderr => "$dir/out",
        );
        my $count = sub ($regex) { my $n = () = slurp("$dir/out") =~ /$regex/g; return $n };
        ok wait_for(sub { $count->(qr/^ACCEPT/m) }), "$version: s_server is there";

        my $nginx = endpoint("vaani_redis rediss://127.0.0.1:$port;" . TRUST . LONG);
        ok wait_for(sub { $count->(qr/SCRIPT/) }), 'is set up';
        syswrite $in, "+OK\n";

        for my $n (1 .. 3) {
            my $client = $nginx->http;
            $client->send_raw(join '', format_request(method => 'POST', uri => '/vaani', body => an_event()));
            ok wait_for(sub { $count->(qr/EVALSHA/) == $n }), "event $n";

            my $before = $count->($done);
            syswrite $in, "$command\n";
            ok wait_for(sub { $count->($done) > $before }), "... \"$command\"" or diag slurp("$dir/out");
            syswrite $in, ':' . ($n * 256 + 2) . "\n";    # as the script does
            is answer($client->read_response), 'ok', '... and its reply' or diag $nginx->error_log;
        }
        $nginx->log_unlike(qr/\[(?:warn|error|crit)\]/, 'on one connection');
        ok $nginx->stop(5), 'stops';
        $process->kill_group;
    }
};

# --- reload and exit

subtest 'reload and exit' => sub {
    my $redis = redis();
    my $conf = sub ($directives) {
        return "server { listen unix:%%SOCK%%; location / { vaani_webhook; vaani_redis @{[ $redis->url ]}; $directives } }";
    };
    my $nginx = Vaani::Test::Nginx->start(workers => 2, http => $conf->(TRUST));
    is post($nginx), 'ok', 'before';

    for (1 .. 3) {
        ok $nginx->reload(wait_old => 1, timeout => 10), 'reload';
        is post($nginx), 'ok', '... goes on';
        ok wait_for(sub { connections($redis) == 2 }), '... and leaves no connection';
    }

    # While the handshake goes on, and with one that fails.
    my $silent = Vaani::Test::FakeRedis->start(tcp => 1, on_connect => sub ($sock, @) { 1 while sysread $sock, my $x, 1000 });
    ok $nginx->reload(http => $conf->(TRUST) =~ s/rediss:\S+;/rediss:\/\/127.0.0.1:@{[ $silent->port ]};/r), 'a silent one';
    ok $nginx->reload(wait_old => 1, timeout => 10, http => $conf->('')), 'its workers leave in the handshake';
    ok $nginx->reload(wait_old => 1, timeout => 10, http => $conf->(TRUST)), 'those that do not trust it leave, too';
    is post($nginx), 'ok', 'after';

    $redis->suspend;
    my $start = now;
    ok $nginx->stop(10), 'stops, with a Redis that hangs';
    cmp_ok now() - $start, '<', 5, '... at once';
    $redis->resume;

    my $single = Vaani::Test::Nginx->start(single => 1, http => $conf->(TRUST));
    is post($single), 'ok', 'a single process';
    $single->signal('HUP');
    ok wait_for(sub { connections($redis) == 1 && post($single) eq 'ok' }), '... that is reloaded';
    ok $single->stop(10), '... stops';
};

# --- sharing and inheritance

subtest 'who shares a connection' => sub {
    my $redis = redis($good, auth_clients => 'optional', ca_cert_file => $ca->file);
    my $trust = 'vaani_redis_ssl_trusted_certificate';
    my $at = sub ($n, $directives) { return "location = /$n { vaani_webhook; $directives }\n" };

    my $n = 0;
    my $nginx = endpoint("vaani_redis @{[ $redis->url ]}; vaani_redis_ssl_protocols TLSv1.2;",
        http => "$trust ../ca/ca.crt;",
        locations => join('', map { $at->(++$n, $_) }
            '', "$trust ../ca/ca.crt;", "$trust %%DIR%%/../ca/ca.crt;",
            'vaani_redis_ssl_name 127.0.0.1;', 'vaani_redis_ssl_verify on;', 'vaani_redis_ssl_verify_depth 3;',
            'vaani_redis_ssl_ciphers DEFAULT;', 'vaani_redis_ssl_session_reuse on;', 'vaani_redis_ssl_crl "";'));
    is post($nginx, an_event(), "/$_"), 'ok', "location $_" or diag $nginx->error_log for 1 .. $n;
    is scalar(connections($redis)), 1, 'the same settings: one connection';
    $nginx->stop;

    my @different = (
        'vaani_redis_ssl_verify off;', 'vaani_redis_ssl_verify_depth 2;', 'vaani_redis_ssl_name localhost;',
        'vaani_redis_ssl_protocols TLSv1.3;', 'vaani_redis_ssl_ciphers HIGH;', 'vaani_redis_ssl_session_reuse off;',
        "vaani_redis_ssl_crl @{[ $ca->crl ]};",
        "vaani_redis_ssl_certificate $client_pair->{cert}; vaani_redis_ssl_certificate_key $client_pair->{key};",
    );
    $n = 0;
    $nginx = endpoint("vaani_redis @{[ $redis->url ]};", http => TRUST,
        locations => join '', map { $at->(++$n, $_) } @different);
    is post($nginx, an_event(), "/$_"), 'ok', $different[ $_ - 1 ] or diag $nginx->error_log for 1 .. $n;
    is post($nginx), 'ok', 'none of them';
    is scalar(connections($redis)), $n + 1, 'other settings: connections of their own';
    $nginx->stop;

    $n = 0;
    my $plain = Vaani::Test::Redis->start(tcp => 1);
    $nginx = endpoint("vaani_redis @{[ $plain->url ]};", locations => join '', map { $at->(++$n, $_) } @different);
    is post($nginx, an_event(), "/$_"), 'ok', 'without TLS' for 1 .. $n;
    is scalar(connections($plain)), 1, '... they make no difference';
};

subtest 'inheritance' => sub {
    my $redis = redis($named, auth_clients => 'yes', ca_cert_file => $ca->file);
    my $identity = "vaani_redis_ssl_certificate $client_pair->{cert}; vaani_redis_ssl_certificate_key $client_pair->{key};";
    my $nginx = endpoint('vaani_redis_ssl_name redis.test;',
        http => TRUST . $identity . 'vaani_redis_ssl_verify_depth 0;',
        locations => join '',
            map { "location = /$_->[0] { vaani_webhook; vaani_redis @{[ $redis->url ]}; $_->[1] }" }
            [ all => '' ], [ name => 'vaani_redis_ssl_name redis.test2;' ],
            [ none => 'vaani_redis_ssl_certificate ""; vaani_redis_ssl_certificate_key "";' ],
            [ ca => "vaani_redis_ssl_trusted_certificate @{[ $other_ca->file ]};" ],
            [ off => 'vaani_redis_ssl_verify off; vaani_redis_ssl_name "";' ]);

    is post($nginx, an_event(), '/all'), 'ok', 'all of it' or diag $nginx->error_log;
    is post($nginx, an_event(), '/off'), 'ok', 'but the verification';
    is post($nginx, an_event(), "/$_"), 'redis_down', "but another $_" for qw(name none ca);
};

# --- the spool

subtest 'with a spool' => sub {
    my $redis = redis($expired);
    my $nginx = endpoint("vaani_redis @{[ $redis->url ]}; vaani_spool %%DIR%%/spool;" . TRUST);
    my @rooms = map { new_room() } 1 .. 20;
    is post($nginx, an_event($_)), 'queued', "$_ waits" for @rooms;

    $redis->restart(tls => tls($good));
    my $client = $redis->client;
    ok wait_for(sub { $client->cmd('EXISTS', map { "vaani:call:$_" } @rooms) == @rooms }),
        'and all arrive when the certificate is renewed';
};

# --- nginx -t

sub check_config ($directives, $redis = 'vaani_redis rediss://127.0.0.1:1;') {
    local $ENV{ASAN_OPTIONS} = join ':', $ENV{ASAN_OPTIONS} // (), 'detect_leaks=0';
    return Vaani::Test::Nginx->check(
        http => "server { listen unix:%%SOCK%%; $redis\nlocation / { vaani_webhook;\n $directives # here\n } }");
}

sub is_refused ($message, $directives, @redis) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my ($ok, $output) = check_config($directives, @redis);
    my ($error, $file, $line) = $output =~ m{\[emerg\] (?:\d+#\d+: )?(.*) in (/\S+):(\d+)$}m;
    my $text = defined $line ? (split /^/, slurp($file))[ $line - 1 ] : '';
    return ok(!$ok && defined $error && $error =~ $message && $text =~ /# here$/, $directives)
        || diag "wanted: $message\n", $output;
}

subtest 'nginx -t' => sub {
    my $garbage = spew(tmpdir() . '/garbage', "no certificate\n");
    my $encrypted = $ca->encrypt($client_pair, 'open sesame');
    my ($cert, $key) = @$client_pair{qw(cert key)};
    my $other_key = $good->{key};
    my $wrong = spew(tmpdir() . '/wrong.password', "wrong\n");
    my $pair = "vaani_redis_ssl_certificate $cert; vaani_redis_ssl_certificate_key";

    is_refused qr/$_->[1]/, "vaani_redis_ssl_$_->[0];" for (
        [ 'verify yes'              => 'invalid value "yes" in "vaani_redis_ssl_verify" directive, it must be "on" or "off"' ],
        [ 'verify_depth x'          => '"vaani_redis_ssl_verify_depth" directive invalid number' ],
        [ 'verify_depth -1'         => '"vaani_redis_ssl_verify_depth" directive invalid number' ],
        [ 'protocols SSLv3'         => 'invalid value "SSLv3"' ],
        [ 'session_reuse 1'         => 'invalid value "1"' ],
        [ 'ciphers nonsense'        => 'SSL_CTX_set_cipher_list\("nonsense"\) failed' ],
        [ 'trusted_certificate /no' => '"/no".*No such file' ],
        [ 'trusted_certificate no'  => '/no".*No such file' ],
        [ "trusted_certificate $garbage" => quotemeta $garbage ],
        [ 'crl /no'                 => '"/no".*No such file' ],
        [ "crl $garbage"            => quotemeta $garbage ],
        [ 'password_file /no'       => '"/no" failed \(2: No such file' ],
        [ 'name ' . 'a' x 256       => '^"vaani_redis_ssl_name" is too long$' ],
        [ "certificate $cert"       => '^"vaani_redis_ssl_certificate" needs a "vaani_redis_ssl_certificate_key"$' ],
        [ "certificate_key $key"    => '^"vaani_redis_ssl_certificate_key" needs a "vaani_redis_ssl_certificate"$' ],
    );
    is_refused qr/$_->[1]/, $_->[0] for (
        [ "$pair $other_key;"   => 'key values mismatch' ],
        [ "$pair /no;"          => '"/no".*No such file' ],
        [ "$pair $garbage;"     => 'cannot load certificate key' ],
        [ "$pair $encrypted; vaani_redis_ssl_password_file $wrong;" => 'cannot load certificate key' ],
        [ "vaani_redis_ssl_certificate $garbage; vaani_redis_ssl_certificate_key $key;" => 'cannot load certificate' ],
    );
    is_refused qr/"vaani_redis_ssl_\w+" directive is duplicate/, "$_; $_;" for map { "vaani_redis_ssl_$_" }
        'verify on', 'verify_depth 1', "trusted_certificate @{[ $ca->file ]}", "crl @{[ $ca->crl ]}", 'name a', 'ciphers HIGH',
        "certificate $cert", "certificate_key $key", "password_file $wrong", 'session_reuse on', 'trusted_certificate ""';

    for my $url (qw(rediss:// rediss://:6379 rediss://127.0.0.1:x rediss://127.0.0.1/x rediss://[::1 rediss://[] rediss://127.0.0.1?db=1
        rediss://:%zz@127.0.0.1 rediss:127.0.0.1 rediss+unix:/x))
    {
        is_refused qr/in "vaani_redis"$/, "vaani_redis $url;", '';
    }
    is_refused qr/^"vaani_redis" has a user but no password$/, 'vaani_redis rediss://user@127.0.0.1;', '';

    for my $directives (
        '', TRUST, 'vaani_redis_ssl_protocols TLSv1 TLSv1.1 TLSv1.2 TLSv1.3;', "$pair $key;", 'vaani_redis_ssl_verify off;',
        'vaani_redis_ssl_certificate "";', 'vaani_redis_ssl_name "";', "$pair data:" . slurp($key) =~ s/\n/\\n/gr . ';',
    ) {
        my ($ok, $output) = check_config($directives =~ s/data:(.*?);/"data:@{[ $1 =~ s{\\n}{\n}gr ]}";/sr);
        ok $ok && $output !~ /\[(?:warn|error|crit|alert|emerg)\]/, "accepted: " . substr $directives, 0, 60 or diag $output;
    }

    # Without TLS nothing is looked at.
    my ($ok, $output) = check_config("vaani_redis_ssl_certificate $cert;", 'vaani_redis redis://127.0.0.1:1;');
    ok $ok, 'without TLS, what is set for it is not used' or diag $output;
};

done_testing;
