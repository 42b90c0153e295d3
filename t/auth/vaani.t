# Vaani's own signatures, as its dashboard and its campaigns make them: which are
# let in, in which spelling, and which of two headers decides.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

use Time::Piece ();
use Vaani::Test::Events;
use Vaani::Test::Signing;

use constant OK        => qq({"status":"ok"}\n);
use constant DUPLICATE => qq({"status":"duplicate"}\n);

# The answer to an authorized delivery whose body is not an event.
use constant LET_IN => '[]';

my ($key, $next, $wrong) = map { token_secret() } 1 .. 3;
my $token = token_secret();
my $webhook = webhook_secret();

# As they are edited by hand.
secret_file('keys', "\xef\xbb\xbf# Vaani's dashboard, until May\r\n$next \r\n\n#\n\t# the new one\n  $key\t\n");

my $redis = Vaani::Test::Redis->start;
my $client = $redis->client;

my $nginx = Vaani::Test::Nginx->start(http => <<"CONF");
    vaani_redis @{[ $redis->url ]};
    server {
        listen unix:%%SOCK%%;
        listen unix:%%DIR%%/h2.sock http2;
        keepalive_requests 100000;
        add_header X-Result \$vaani_result always;
        add_header X-Reason \$vaani_reason always;

        location = /vaani    { vaani_webhook; vaani_signature vaani secret=$key; }
        location = /both     { vaani_webhook; vaani_signature vaani secret=$next secret=$key; }
        location = /file     { vaani_webhook; vaani_signature vaani file=%%TMPDIR%%/keys; }
        location = /required { vaani_webhook; vaani_signature vaani timestamp=required file=%%TMPDIR%%/keys; }
        location = /minute   { vaani_webhook; vaani_signature vaani secret=$key; vaani_timestamp_tolerance 1m; }
        location = /token    { vaani_webhook; vaani_signature vaani secret=$key; vaani_token \$arg_t $token; }
        location = /standard { vaani_webhook; vaani_signature vaani secret=$key; vaani_secret $webhook; }
        location /outer {
            vaani_signature vaani secret=$key;
            location = /outer/inner { vaani_webhook; }
            location = /outer/off   { vaani_webhook; vaani_signature off; }
            location = /outer/other { vaani_webhook; vaani_signature X-Other secret=$key; }
        }
    }
CONF
my $http = $nginx->http;

sub ask ($uri, $body, @headers) {
    return $http->request(uri => $uri, body => $body, headers => [ 'Content-Type' => 'application/json', @headers ]);
}

sub let_in ($response, $name) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return is join(' ', $response->status, $response->header('X-Result') // '', $response->header('X-Reason') // ''),
        '422 rejected not_an_object', $name;
}

sub turned ($text) {
    return map { my $copy = $text; vec($copy, $_, 1) ^= 1; $copy } 0 .. 8 * length($text) - 1;
}

sub epoch ($date) { return Time::Piece->strptime($date, '%a, %d %b %Y %H:%M:%S GMT')->epoch }

my $hex = hex_signature($key, LET_IN);

# One location takes them all: call_started bare, the others with the prefix.
subtest 'as the dashboard signs' => sub {
    for my $event (@EVENTS) {
        my $body = event($event, room => 'outbound-1784899978-36cec598');
        is ask('/vaani', $body, dashboard_headers($key, $event, $body))->body, OK, $event;
        is_unauthorized ask('/vaani', $body, dashboard_headers($wrong, $event, $body)), '... by another secret',
            'wrong_signature';
        is_unauthorized ask('/vaani', "$body ", dashboard_headers($key, $event, $body)), '... of another body',
            'wrong_signature';
    }
    is $client->cmd('HGET', 'vaani:call:outbound-1784899978-36cec598', 'seq'), scalar @EVENTS, 'all are applied';

    # The name in the header is not signed, and nothing follows from it.
    let_in ask('/vaani', LET_IN, 'X-Webhook-Event' => 'webhook_test', 'X-Webhook-Signature' => $hex), 'another name';

    is_unauthorized ask('/vaani', LET_IN), 'no signature', 'missing_signature';
    is_unauthorized ask('/vaani', LET_IN, 'X-Webhook-Event' => 'call_started'), '... but the name', 'missing_signature';
    is_unauthorized ask('/vaani', LET_IN, 'X-Webhook-Signature' => ''), 'an empty one', 'missing_signature';
    is_unauthorized ask('/vaani', LET_IN, 'X-Webhook-Signature' => $_->[0], 'x-webhook-signature' => $_->[1]),
        'two of them', 'malformed_signature' for [ $hex, $hex ], [ 'x', $hex ], [ $hex, 'x' ];
};

subtest 'spellings' => sub {
    my $now = time;
    my $timed = hex_signature($key, "$now." . LET_IN);

    for my $case (
        [ 'X-Webhook-Signature' => $hex ],
        [ 'X-Vaani-Signature' => $timed, 'X-Vaani-Timestamp' => $now ],
    ) {
        my ($header, $signature, @more) = @$case;
        my $send = sub ($value) { ask('/vaani', LET_IN, $header => $value, @more) };

        let_in $send->($_), "$header: " . s/[0-9a-fA-F]{60}//r for
            $signature, uc $signature, ucfirst $signature, "sha256=$signature", "SHA256=$signature", "Sha256=" . uc $signature,
            "  $signature  ", "\t$signature\t", " \t sha256=$signature \t ", "x, sha256=$signature", "$signature,sha256=x";

        is_unauthorized $send->($_), "$header: " . s/[0-9a-f]{60}//r, 'wrong_signature' for
            "sha1=$signature", "sha256:$signature", "sha256 $signature", "sha256= $signature", "sha256=sha256=$signature",
            "=$signature", "v1=$signature", "0x$signature", "\"$signature\"", "$signature $signature", 'sha256=', 'sha256',
            substr($signature, 1), substr($signature, 0, -1), "${signature}0", "sha256=${signature}0", '0' x 64,
            base64_signature($key, LET_IN), $signature =~ tr/0-9/\x10-\x19/r;

        my @letters = grep { lc eq $signature } turned($signature);
        is scalar(grep { $send->($_)->status != 401 } turned($signature)), scalar @letters,
            "$header: each bit matters but those of the case";
    }
};

subtest 'as campaigns sign' => sub {
    my $now = time;
    my $body = event('call_ended', room => 'campaign');

    is ask('/vaani', $body, campaign_headers($key, $body))->body, OK, 'an event';
    is ask('/vaani', $body, campaign_headers($key, $body, $now - 200))->body, DUPLICATE, 'the same again';

    let_in ask('/vaani', LET_IN, campaign_headers($key, LET_IN, $_)), "at $_"
        for $now, $now - 200, $now + 200, "${now}000", "0$now";
    is_unauthorized ask('/vaani', LET_IN, campaign_headers($key, LET_IN, $_)), "at $_", 'stale_timestamp'
        for $now - 400, $now + 400, ($now - 400) . '000', 0, 1, '100000000000', '9' x 15;
    is_unauthorized ask('/vaani', LET_IN, campaign_headers($key, LET_IN, $_)), "at '$_'", 'malformed_signature'
        for 'x', "-$now", "$now.5", "$now,$now", '9' x 16, "${now}000000", 'now';

    my %good = campaign_headers($key, LET_IN, $now);
    my $with = sub (%changes) {
        my %headers = (%good, %changes);
        return ask('/vaani', LET_IN, map { ($_ => $headers{$_}) } grep { defined $headers{$_} } sort keys %headers);
    };
    let_in $with->(), 'the good one';
    let_in $with->('X-Vaani-Timestamp' => "  $now  "), 'spaces around the time';
    is_unauthorized $with->('X-Vaani-Timestamp' => $_), 'no time', 'missing_signature' for undef, '', '  ';
    is_unauthorized $with->('X-Vaani-Timestamp' => $now - 1), 'another time', 'wrong_signature';
    is_unauthorized $with->('X-Vaani-Signature' => 'sha256=' . hex_signature($_->[0], $_->[1])), 'of something else',
        'wrong_signature' for [ $key, LET_IN ], [ $wrong, "$now.[]" ], [ $key, "$now." ], [ $key, "$now.[ ]" ],
        [ $key, ".$now.[]" ], [ $key, "$now\[]" ];
    is_unauthorized ask('/vaani', LET_IN, %good, 'x-vaani-timestamp' => $now), 'two times', 'malformed_signature';
    is_unauthorized ask('/vaani', LET_IN, %good, 'x-vaani-signature' => $good{'X-Vaani-Signature'}), 'two signatures',
        'malformed_signature';
    is scalar(grep { $with->('X-Vaani-Timestamp' => $_)->status != 401 } turned($now)), 0, 'each bit of the time matters';

    # The edges are found, not waited for: the Date of the answer tells when a
    # delivery was judged.
    my %wanted = map { ($_ => abs > 60 ? 'stale_timestamp' : 'not_an_object') } map { ($_, -$_) } 59 .. 61;
    my %seen;
    wait_for(sub {
        for my $off (keys %wanted) {
            my $timestamp = time - $off;
            my $response = ask('/minute', LET_IN, campaign_headers($key, LET_IN, $timestamp));
            $seen{ epoch($response->header('Date')) - $timestamp } = $response->header('X-Reason');
        }
        return !grep { !$seen{$_} } keys %wanted;
    });
    delete @seen{ grep { !exists $wanted{$_} } keys %seen };
    is_deeply \%seen, \%wanted, 'vaani_timestamp_tolerance, in both directions';
};

subtest 'which of the two decides' => sub {
    my %of_body = ('X-Webhook-Signature' => "sha256=$hex");
    my %timed = campaign_headers($key, LET_IN);
    my %by_wrong = campaign_headers($wrong, LET_IN);
    my %stale = campaign_headers($key, LET_IN, time - 1000);

    let_in ask('/vaani', LET_IN, %of_body, %timed), 'both are right';
    let_in ask('/vaani', LET_IN, 'X-Webhook-Signature' => 'x', %timed), 'that of the body is wrong';
    let_in ask('/vaani', LET_IN, %of_body, 'x-webhook-signature' => 'x', %timed), '... and there twice';

    is_unauthorized ask('/vaani', LET_IN, %of_body, %by_wrong), 'the timed one is wrong', 'wrong_signature';
    is_unauthorized ask('/vaani', LET_IN, %of_body, %stale), '... stale', 'stale_timestamp';
    is_unauthorized ask('/vaani', LET_IN, %of_body, 'X-Vaani-Signature' => $timed{'X-Vaani-Signature'}),
        '... without its time', 'missing_signature';
    is_unauthorized ask('/vaani', LET_IN, %of_body, 'X-Vaani-Signature' => ''), '... empty', 'missing_signature';
    is_unauthorized ask('/vaani', LET_IN, %of_body, 'X-Vaani-Signature' => $hex), '... of the body alone',
        'missing_signature';

    # A time without its signature says nothing.
    let_in ask('/vaani', LET_IN, %of_body, 'X-Vaani-Timestamp' => $_), "only the time: '$_'" for time, 1, 'x', '';
    is_unauthorized ask('/vaani', LET_IN, 'X-Webhook-Signature' => hex_signature($key, time . '.[]'), 'X-Vaani-Timestamp' => time),
        '... and what it would sign', 'wrong_signature';
};

subtest 'timestamp=required' => sub {
    let_in ask('/required', LET_IN, campaign_headers($_, LET_IN)), 'with a time' for $key, $next;
    let_in ask('/required', LET_IN, campaign_headers($key, LET_IN), 'X-Webhook-Signature' => 'x'), '... and another';

    is_unauthorized ask('/required', LET_IN, dashboard_headers($key, $_, LET_IN)), "of the body alone: $_",
        'missing_signature' for qw(call_started call_ended);
    is_unauthorized ask('/required', LET_IN, 'X-Vaani-Timestamp' => time, 'X-Webhook-Signature' => $hex),
        '... beside a time', 'missing_signature';
    is_unauthorized ask('/required', LET_IN, campaign_headers($key, LET_IN, time - 400)), 'too old', 'stale_timestamp';
    is_unauthorized ask('/required', LET_IN, campaign_headers($wrong, LET_IN)), 'by another secret', 'wrong_signature';
    is_unauthorized ask('/required', LET_IN), 'nothing', 'missing_signature';
};

subtest 'rotation, and other directives' => sub {
    for my $uri (qw(/both /file)) {
        for my $secret ($key, $next) {
            let_in ask($uri, LET_IN, dashboard_headers($secret, 'call_started', LET_IN)), $uri;
            let_in ask($uri, LET_IN, campaign_headers($secret, LET_IN)), "$uri, with a time";
        }
        is_unauthorized ask($uri, LET_IN, dashboard_headers($wrong, 'call_ended', LET_IN)), "$uri, another", 'wrong_signature';
    }

    let_in ask("/token?t=$token", LET_IN, dashboard_headers($key, 'call_ended', LET_IN)), 'a token as well';
    is_unauthorized ask('/token?t=x', LET_IN, dashboard_headers($key, 'call_ended', LET_IN)), '... wrong', 'wrong_token';
    is_unauthorized ask("/token?t=$token", LET_IN, dashboard_headers($wrong, 'call_ended', LET_IN)), '... but this is',
        'wrong_signature';

    let_in ask('/standard', LET_IN, dashboard_headers($key, 'call_ended', LET_IN), webhook_headers($webhook, LET_IN)),
        'Standard Webhooks as well';
    is_unauthorized ask('/standard', LET_IN, dashboard_headers($key, 'call_ended', LET_IN)), '... missing', 'missing_signature';
    is_unauthorized ask('/standard', LET_IN, webhook_headers($webhook, LET_IN)), '... alone', 'missing_signature';

    let_in ask('/outer/inner', LET_IN, dashboard_headers($key, 'call_ended', LET_IN)), 'inherited';
    is_unauthorized ask('/outer/inner', LET_IN), '... and wanted', 'missing_signature';
    let_in ask('/outer/off', LET_IN), '... but not after "off"';
    is_unauthorized ask('/outer/other', LET_IN, dashboard_headers($key, 'call_ended', LET_IN)), '... nor after another',
        'missing_signature';
    let_in ask('/outer/other', LET_IN, 'X-Other' => $hex), '... which is asked for';
};

subtest 'bodies of any size, and HTTP/2' => sub {
    for my $size (1, 8192, 1_048_576) {
        my $body = event('call_postprocessing', room => "size-$size", transcript => 'x' x $size);
        is ask('/vaani', $body, dashboard_headers($key, 'call_postprocessing', $body))->body, OK, "$size bytes";
        is_unauthorized ask('/vaani', $body =~ s/x/y/r, dashboard_headers($key, 'call_postprocessing', $body)),
            '... tampered with', 'wrong_signature';

        my $file = spew(tmpdir() . '/body', $body);
        my %headers = ('Content-Type' => 'application/json', campaign_headers($key, $body));
        my ($exit, $out, $err) = run([
            qw(curl -sS --max-time 60 --http2-prior-knowledge --unix-socket), $nginx->dir . '/h2.sock',
            '--data-binary', "\@$file", (map { ('-H', "$_: $headers{$_}") } sort keys %headers), 'http://localhost/required',
        ]);
        is $out, DUPLICATE, '... over HTTP/2' or diag $err;
    }
};

ok $nginx->stop, 'stop';
no_secret_was_told();

done_testing;
