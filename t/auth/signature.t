# Signatures, those of Standard Webhooks and others: which are good, which are
# not, and that a delivery with a bad one leaves nothing behind.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

use Time::Piece ();
use Vaani::Test::Events;
use Vaani::Test::HTTP qw(format_request);
use Vaani::Test::Signing;

use constant OK        => qq({"status":"ok"}\n);
use constant DUPLICATE => qq({"status":"duplicate"}\n);
use constant QUEUED    => qq({"status":"queued"}\n);

# The answer to an authorized delivery whose body is not an event: cheap to
# check.
use constant LET_IN => '[]';

my ($old, $new, $other) = map { webhook_secret() } 1 .. 3;
my ($key, $next, $wrong) = map { token_secret() } 1 .. 3;
my $token = token_secret();
my $odd = is_secret("a key, with; \"odd\" \\bytes\\ \$uri \x{e9}\xff");

secret_file('webhook', "$new\n\n$old\r\n");
secret_file('keys', "$next\n$key\n");
secret_file('odd', "$odd\n");

my $redis = Vaani::Test::Redis->start;
my $client = $redis->client;

my $nginx = Vaani::Test::Nginx->start(http => <<"CONF");
    keepalive_requests 100000;
    client_max_body_size 4m;
    vaani_redis @{[ $redis->url ]};

    server {
        listen unix:%%SOCK%%;
        listen unix:%%DIR%%/h2.sock http2;
        underscores_in_headers on;
        add_header X-Result \$vaani_result always;
        add_header X-Reason \$vaani_reason always;

        location = /webhook { vaani_webhook; vaani_secret $old $new; }
        location = /lines   { vaani_webhook; vaani_secret $old; vaani_secret $new; }
        location = /file    { vaani_webhook; vaani_secret file=%%TMPDIR%%/webhook; }
        location = /one     { vaani_webhook; vaani_secret $old; }
        location = /strict  { vaani_webhook; vaani_secret $old; vaani_validation strict; }
        location = /minute  { vaani_webhook; vaani_secret $old; vaani_timestamp_tolerance 1m; }
        location = /second  { vaani_webhook; vaani_secret $old; vaani_timestamp_tolerance 1s; }
        location = /ages    { vaani_webhook; vaani_secret $old; vaani_timestamp_tolerance 100y; }

        location = /hex     { vaani_webhook; vaani_signature X-Signature secret=$key secret=$next; }
        location = /keys    { vaani_webhook; vaani_signature X-Signature file=%%TMPDIR%%/keys; }
        location = /odd     { vaani_webhook; vaani_signature X-Signature file=%%TMPDIR%%/odd; }
        location = /id      { vaani_webhook; vaani_signature Webhook-Id secret=$key; }
        location = /prefix  { vaani_webhook; vaani_signature X-Hub-Signature-256 secret=$key prefix=sha256=; }
        location = /base64  { vaani_webhook; vaani_signature X-SIGNATURE secret=$key encoding=base64; }
        location = /base64url { vaani_webhook; vaani_signature X-Signature secret=$key encoding=base64url; }
        location = /header  { vaani_webhook; vaani_signature X-Signature secret=$key secret=$next timestamp=\$http_x_sent_at; }
        location = /braces  { vaani_webhook; vaani_signature X-Signature secret=$key timestamp=\${http_X_SENT_at} prefix=v0=; }
        location = /underscore { vaani_webhook; vaani_signature X_Signature secret=$key timestamp=\$http_x_sent_at; }
        location = /timed   { vaani_webhook; vaani_signature X-Signature secret=$key timestamp=t; }
        location = /timed64 {
            vaani_webhook;
            vaani_signature X-Signature timestamp=time prefix=sig: encoding=base64 secret=$key;
            vaani_timestamp_tolerance 1m;
        }

        location = /both { vaani_webhook; vaani_secret $old; vaani_signature X-Signature secret=$key; }
        location = /all  {
            vaani_webhook;
            vaani_token \$http_x_token $token;
            vaani_secret $old;
            vaani_signature X-Signature secret=$key timestamp=t;
        }
        location = /token-and-secret    { vaani_webhook; vaani_token \$arg_t $token; vaani_secret $old; }
        location = /strict-token-and-secret {
            vaani_webhook; vaani_token \$arg_t $token; vaani_secret $old; vaani_validation strict;
        }
        location = /token-and-signature { vaani_webhook; vaani_token \$arg_t $token; vaani_signature X-Signature secret=$key; }
        location ~ ^/capture/(.+)\$     { vaani_webhook; vaani_token \$1 $token; vaani_secret $old; }

        location = /tiny   { vaani_webhook; vaani_secret $old; client_body_buffer_size 1k; }
        location = /single { vaani_webhook; vaani_secret $old; client_body_buffer_size 1k; client_body_in_single_buffer on; }
        location = /temp   { vaani_webhook; vaani_secret $old; client_body_in_file_only clean; }
        location = /small  { vaani_webhook; vaani_secret $old; client_max_body_size 100; }
        location = /spooled {
            vaani_webhook;
            vaani_secret $old;
            vaani_redis unix:%%DIR%%/none.sock;
            vaani_spool %%DIR%%/spool;
        }

        location = /if {
            vaani_webhook;
            vaani_secret $old;
            if (\$http_x_if) { add_header X-If yes always; }
        }
        location = /limited { vaani_webhook; vaani_secret $old; limit_except POST { deny all; } }
        location = /except  { vaani_webhook; vaani_secret $old; limit_except GET { allow all; } }
        location = /rewrite { rewrite ^ /one last; }
        location = /page    { error_page 404 = \@named; return 404; }
        location \@named    { vaani_webhook; vaani_secret $old; }
        location = /mirrored { vaani_webhook; vaani_secret $old; mirror /copy; }
        location = /copy     { internal; vaani_webhook; vaani_prefix copy; vaani_secret $old; }

        location /outer {
            vaani_secret $old;
            vaani_signature X-Signature secret=$key;
            location = /outer/both    { vaani_webhook; }
            location = /outer/secret  { vaani_webhook; vaani_signature off; }
            location = /outer/signature { vaani_webhook; vaani_secret off; }
            location = /outer/neither { vaani_webhook; vaani_secret off; vaani_signature off; }
            location = /outer/other   { vaani_webhook; vaani_secret $other; vaani_signature off; }
        }
    }

    server {
        listen unix:%%DIR%%/plain.sock;
        location = /all  {
            vaani_webhook;
            vaani_token \$http_x_token $token;
            vaani_secret $old;
            vaani_signature X-Signature secret=$key timestamp=t;
        }
        location = /one { vaani_webhook; vaani_secret $old; }
        location = /hex { vaani_webhook; vaani_signature X-Signature secret=$key; }
    }
CONF

my $http = $nginx->http;

sub valid (@more) { return event('call_started', room => new_room(), @more) }

sub ask ($uri, $body, @headers) {
    return $http->request(uri => $uri, body => $body, headers => [ 'Content-Type' => 'application/json', @headers ]);
}

# Signed as Standard Webhooks do. Options: body, secret, and those of
# webhook_headers(); "headers" are further ones.
sub webhook ($uri, %opt) {
    my $body = delete $opt{body} // LET_IN;
    my $secret = delete $opt{secret} // $old;
    my $headers = delete $opt{headers} // [];
    return ask($uri, $body, webhook_headers($secret, $body, %opt), @$headers);
}

sub let_in ($response, $name) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return is join(' ', $response->status, $response->header('X-Result') // '', $response->header('X-Reason') // ''),
        '422 rejected not_an_object', $name;
}

sub let_in_or_not ($response) { return $response->status == 422 ? 1 : 0 }

# All that Redis has done for events so far.
sub redis_work () {
    my ($calls) = $client->cmd('INFO', 'commandstats') =~ /cmdstat_evalsha:calls=(\d+)/;
    return join ' ', $client->cmd('DBSIZE'), $calls // 0;
}

sub epoch ($date) { return Time::Piece->strptime($date, '%a, %d %b %Y %H:%M:%S GMT')->epoch }

# Each single bit of it turned, as one list.
sub turned ($text) {
    return map { my $copy = $text; vec($copy, $_, 1) ^= 1; $copy } 0 .. 8 * length($text) - 1;
}

subtest 'Standard Webhooks: the right one' => sub {
    for my $secret ($old, $new) {
        let_in webhook($_, secret => $secret), $_ for qw(/webhook /lines /file);
    }
    let_in webhook('/one'), 'one secret';

    my ($id, $now) = ('msg_1', time);
    my ($good, $by_new, $by_other) = map { webhook_signature($_, $id, $now, LET_IN) } $old, $new, $other;
    my $base64 = $good =~ s/^v1,//r;

    my %lists = (
        'by old and new'        => "$good $by_new",
        'by new and old'        => "$by_new $good",
        'after another'         => "$by_other $good",
        'before another'        => "$good $by_other",
        'twice'                 => "$good $good",
        'among many'            => join(' ', ($by_other) x 20, $good, ($by_other) x 20),
        'spaces'                => "  $by_other   $good  ",
        'after v1a'             => "v1a,$base64 $good",
        'after v2'              => "v2,abc $good",
        'after nonsense'        => "v1 v1, , ,, v1a v1,= x $good y",
        'after a cut one'       => substr($good, 0, -1) . " $good",
    );
    let_in webhook('/one', id => $id, timestamp => $now, signature => $lists{$_}), $_ for sort keys %lists;

    for my $id ('x', '1.2.3', '.', 'msg.', '.1', 'x' x 1000, 'a b', '"', "\xff\xfe", "caf\xc3\xa9", "\x01\x7f", 'v1,x') {
        let_in webhook('/one', id => $id), 'the id ' . ($id =~ s/([^ -~])/sprintf '\\x%02x', ord $1/ger =~ s/x{99}.*/.../r);
    }

    is webhook('/one', body => valid())->body, OK, 'an event';
    my %headers = webhook_headers($old, LET_IN);
    my $response = ask('/one', LET_IN, map { (uc $_ => $headers{$_}) } sort keys %headers);
    let_in $response, 'headers in another case';
};

subtest 'Standard Webhooks: the wrong one' => sub {
    my $before = redis_work();
    my ($id, $now) = ('msg_2.x', time);
    my %headers = webhook_headers($old, LET_IN, id => $id, timestamp => $now);
    my $good = $headers{'webhook-signature'};
    my $base64 = $good =~ s/^v1,//r;

    my $with = sub ($name, $value) { ask('/webhook', LET_IN, %{ { %headers, $name => $value } }) };
    my $signed = sub ($signature) { $with->('webhook-signature', $signature) };

    let_in $signed->($good), 'the right one';

    is_unauthorized ask('/webhook', LET_IN), 'no headers', 'missing_signature';
    for my $header (sort keys %headers) {
        is_unauthorized $with->($header, undef), "no $header", 'missing_signature';
        is_unauthorized $with->($header, ''),    "an empty $header", 'missing_signature';
        is_unauthorized $with->($header, '   '), "spaces for $header", 'missing_signature';

        my $both = [ map { $_ => $headers{$_} } sort keys %headers ];
        is_unauthorized ask('/webhook', LET_IN, @$both, $header => $headers{$header}), "$header twice",
            'malformed_signature';
        is_unauthorized ask('/webhook', LET_IN, @$both, $header => 'x'), "$header and another one",
            'malformed_signature';
        is_unauthorized ask('/webhook', LET_IN, $header => 'x', @$both), "another one and $header",
            'malformed_signature';
        is_unauthorized ask('/webhook', LET_IN, @$both, uc $header => ''), "$header and an empty one",
            'missing_signature';
    }

    is scalar(grep { let_in_or_not($signed->($_)) } turned($good)), 0, 'each bit of a signature matters';
    is scalar(grep { let_in_or_not($with->('webhook-id', $_)) } turned($id)), 0, '... of an id';
    is scalar(grep { let_in_or_not($with->('webhook-timestamp', $_)) } turned($now)), 0, '... of a timestamp';

    my $body = valid();
    my %for_event = webhook_headers($old, $body);
    is scalar(grep { ask('/webhook', $_, %for_event)->status != 401 } turned($body)), 0, '... of a body';
    is_unauthorized ask('/webhook', $_, %for_event), 'a body with more or less', 'wrong_signature'
        for "$body ", " $body", "$body\n", "$body\0", substr($body, 0, -1), substr($body, 1), '', $body . $body;

    is scalar(grep { let_in_or_not($signed->(substr $good, 0, $_)) } 0 .. length($good) - 1), 0, 'cut off anywhere';
    is scalar(grep { let_in_or_not($signed->(substr $good, $_)) } 1 .. length($good) - 1), 0, '... at its beginning';

    my %near = (
        'extended'        => "$good=",
        'extended by A'   => "${good}A",
        'without padding' => $good =~ s/=+$//r,
        'no version'      => $base64,
        'a comma only'    => ",$base64",
        'v1 alone'        => 'v1',
        'v1, alone'       => 'v1,',
        'v1='             => "v1=$base64",
        'V1'              => "V1,$base64",
        'v01'             => "v01,$base64",
        'v1a'             => "v1a,$base64",
        'v2'              => "v2,$base64",
        'v11'             => "v11,$base64",
        'space within'    => "v1, $base64",
        'commas between'  => "v1,x,$good",
        'in lower case'   => lc $good,
        'base64url'       => 'v1,' . ($base64 =~ tr{+/}{-_}r =~ s/=//r),
        'hexadecimal'     => 'v1,' . unpack('H*', MIME::Base64::decode_base64($base64)),
        'twice, glued'    => "v1,$base64$base64",
        'in quotes'       => "\"$good\"",
        'of nothing'      => 'v1,' . '=' x 44,
        'zeros'           => 'v1,' . 'A' x 43 . '=',
        'by another'      => webhook_signature($other, $id, $now, LET_IN),
        'of another id'   => webhook_signature($old, 'msg_3', $now, LET_IN),
        'of another time' => webhook_signature($old, $id, $now - 1, LET_IN),
        'of another body' => webhook_signature($old, $id, $now, '[ ]'),
        'of no body'      => webhook_signature($old, $id, $now, ''),
        'by the text of the secret' => 'v1,' . base64_signature($old, "$id.$now." . LET_IN),
        'of the body alone' => 'v1,' . base64_signature(MIME::Base64::decode_base64($old =~ s/^whsec_//r), LET_IN),
        'many wrong ones' => join(' ', map { webhook_signature($other, $_, $now, LET_IN) } 1 .. 100),
    );
    is_unauthorized $signed->($near{$_}), $_, $near{$_} eq '' ? 'missing_signature' : 'wrong_signature'
        for sort keys %near;

    # The signed text contains dots: a different split gives the same text, and
    # its timestamp is then invalid.
    my $moved = webhook_signature($old, 'a', "$now.b", LET_IN);
    is_unauthorized ask('/webhook', LET_IN, 'webhook-id' => 'a', 'webhook-timestamp' => "$now.b", 'webhook-signature' => $moved),
        'a dot in the timestamp', 'malformed_signature';

    # "a.b" . time . body is also "a" . "b.time": only the first has a time.
    is_unauthorized ask('/webhook', LET_IN, 'webhook-id' => 'a', 'webhook-timestamp' => "b.$now",
        'webhook-signature' => webhook_signature($old, 'a.b', $now, LET_IN)), 'a dot moved', 'malformed_signature';

    is redis_work(), $before, 'Redis was not asked';
};

subtest 'the time' => sub {
    # The answer to a delivery that goes no further is made in the second in
    # which it was judged, and the Date of nginx tells which that was. So the
    # edges are found, not waited for: off by -t - 1, -t, t and t + 1.
    for my $case ([ '/minute', 60 ], [ '/second', 1 ], [ '/one', 300 ]) {
        my ($uri, $tolerance) = @$case;
        my %wanted = map { ($_ => abs > $tolerance ? 'stale_timestamp' : 'not_an_object') }
            map { ($_, -$_) } $tolerance - 1 .. $tolerance + 1;
        my %seen;

        wait_for(sub {
            for my $off (keys %wanted) {
                my $timestamp = time - $off;
                my $response = webhook($uri, timestamp => $timestamp);
                my $judged = epoch($response->header('Date'));
                $seen{ $judged - $timestamp } = $response->header('X-Reason');
            }
            return !grep { !$seen{$_} } keys %wanted;
        });
        delete @seen{ grep { !exists $wanted{$_} } keys %seen };
        is_deeply \%seen, \%wanted, "$uri: $tolerance s in both directions";
    }

    my $now = time;
    is_unauthorized webhook('/one', timestamp => $now + $_), "$_ s off", 'stale_timestamp'
        for -100_000, -1000, -400, 400, 1000, 100_000;
    is_unauthorized webhook('/one', timestamp => $_), "at $_", 'stale_timestamp' for 0, 1, 1_000_000_000, 999_999_999_999;
    let_in webhook('/ages', timestamp => $_), "$_, with a tolerance for it" for 0, 1, 1_000_000_000, $now;

    let_in webhook('/one', timestamp => $_), "leading zeros: $_" for "0$now", "00$now", "00000$now";
    let_in webhook('/one', timestamp => $_), "milliseconds: $_" for "${now}000", "${now}999", "0${now}123";
    is_unauthorized webhook('/one', timestamp => $_), "milliseconds: $_", 'stale_timestamp'
        for ($now - 400) . '000', ($now + 400) . '000', '100000000000', '100000000001', '9' x 13, '9' x 15;
    is_unauthorized webhook('/one', timestamp => $_), "'$_' is no time", 'malformed_signature'
        for "000000$now", "-$now", "+$now", "$now.0", "$now.", ".$now", "${now}s", "${now}000000", "0x" . sprintf('%x', $now),
        '1e9', 'now', 'x', '-1', '-', "\xb2", substr($now, 0, 5) . ' ' . substr($now, 5), "$now,$now", "$now $now",
        "$now;", '9' x 16, '9' x 19, '18446744073709551616' . $now, '9' x 400, "\x01$now";

    # Spaces around are no part of the value; nginx keeps other white space.
    my %headers = webhook_headers($old, LET_IN, timestamp => $now);
    let_in ask('/one', LET_IN, %{ { %headers, 'webhook-timestamp' => "  $now  " } }), 'spaces around it';
    is_unauthorized ask('/one', LET_IN, %{ { %headers, 'webhook-timestamp' => "\t$now" } }), 'a tab before it',
        'wrong_signature';

    # The first error is reported first; a bad signature is not excused by its
    # time.
    is_unauthorized webhook('/one', secret => $other, timestamp => $now - 1000), 'wrong and stale', 'wrong_signature';
    is_unauthorized webhook('/one', secret => $other, timestamp => 'x'), 'wrong and no time', 'wrong_signature';
};

subtest 'deliveries have ids' => sub {
    my $room = new_room();
    my $started = event('call_started', room => $room);
    my $ringing = event('call_ringing', room => $room);

    is webhook('/one', body => $started, id => 'a.1')->body, OK, 'a delivery';
    is webhook('/one', body => $started, id => 'a.1')->body, DUPLICATE, 'the same again';
    is webhook('/one', body => $ringing, id => 'a.1')->body, DUPLICATE, 'another body with its id';
    is $client->cmd('HGET', "vaani:call:$room", 'seq'), 1, '... which changed nothing';
    is webhook('/one', body => $started, id => 'a.2')->body, OK, 'its body with another id';
    is webhook('/one', body => $ringing, id => 'a.3')->body, OK, 'another body, another id';
    is $client->cmd('HGET', "vaani:call:$room", 'seq'), 3, 'three transitions';

    my %captured = webhook_headers($old, $ringing, id => 'a.4', timestamp => time - 200);
    is ask('/one', $ringing, %captured)->body, OK, 'signed a while ago';
    is ask('/one', $ringing, %captured)->body, DUPLICATE, 'replayed within the tolerance';
    is_unauthorized ask('/minute', $ringing, %captured), 'beyond it', 'stale_timestamp';

    my @odd = ("\xff", "\xfe", "a b", 'a  b', 'x' x 500, 'x' x 501, '.', '..');
    for my $id (@odd, @odd) {
        state %known;
        is webhook('/one', body => $started, id => $id)->body, $known{$id}++ ? DUPLICATE : OK,
            'the id ' . substr unpack('H*', $id), 0, 20;
    }
};

subtest 'bodies' => sub {
    for my $uri (qw(/one /tiny /single /temp)) {
        for my $size (0, 200, 1023, 1024, 1025, 8192, 20_000, 1_048_576) {
            my $body = $size ? valid(junk => '') : '';
            substr $body, -2, 0, 'x' x ($size - length $body) if $size;

            my %id = (id => "$uri-$size");
            my @framings = (
                [ 'with a length' => () ], [ 'chunked' => (chunked => $size > 10_000 ? 10_000 : 1000) ],
                $size == 200 ? [ 'chunks of a byte' => (chunked => 1) ] : (),
                $size < 10_000 ? [ 'one chunk' => (chunked => [ $size || 1 ]) ] : (),
                $size < 10_000 ? [ 'HTTP/1.0' => (version => '1.0') ] : (),
            );
            my $first = 1;
            for my $framing (@framings) {
                my ($name, @framing) = @$framing;
                my $send = sub ($body, %headers) {
                    $http->request(uri => $uri, body => $body, @framing, headers => [
                        'Content-Type' => 'application/json', %headers ]);
                };
                my %headers = webhook_headers($old, $body, %id);
                my $response = $send->($body, %headers);
                $size ? is $response->body, $first ? OK : DUPLICATE, "$uri, $size bytes, $name"
                    : is $response->header('X-Reason'), 'empty_body', "$uri, no body, $name";
                $first = 0;

                my $tampered = $size ? $body =~ s/(.)(?=..\z)/chr(ord($1) ^ 1)/er : ' ';
                is_unauthorized $send->($tampered, %headers), '... tampered with', 'wrong_signature';
            }
        }
    }

    is_unauthorized $http->request(method => 'POST', uri => '/one'), 'neither body nor length', 'missing_signature';
    is $http->request(method => 'POST', uri => '/one', headers => { webhook_headers($old, '') })->header('X-Reason'),
        'empty_body', '... signed';

    my $body = valid();
    my @answers = $http->pipelined(map { {
        uri => '/tiny', body => $_->[0], headers => { 'Content-Type' => 'application/json', webhook_headers(@$_[ 1, 2 ]) },
    } } [ $body, $old, $body ], [ $body, $other, $body ], [ LET_IN, $old, LET_IN ], [ $body, $old, LET_IN ]);
    is join(' ', map { $_->status } @answers), '200 401 422 401', 'pipelined';
};

subtest 'HTTP/2' => sub {
    my $file = tmpdir() . '/body';
    my $curl = sub ($uri, $body, %headers) {
        spew($file, $body);
        my ($exit, $out, $err) = run([
            qw(curl -sS --max-time 60 --http2-prior-knowledge -w), '\n%{http_version} %{http_code}', '--unix-socket',
            $nginx->dir . '/h2.sock', '-H', 'Content-Type: application/json', '--data-binary', "\@$file",
            (map { ('-H', "$_: $headers{$_}") } sort keys %headers), "http://localhost$uri",
        ]);
        is $exit, 0, 'curl' or diag $err;
        return $out;
    };
    for my $size (100, 70_000, 1_048_576) {
        my $body = valid(junk => 'x' x $size);
        my %headers = webhook_headers($old, $body);
        is $curl->('/tiny', $body, %headers), OK . "\n2 200", "$size bytes";
        is $curl->('/tiny', "$body ", %headers), UNAUTHORIZED . "\n2 401", '... tampered with';
    }
};

subtest 'other signatures' => sub {
    my $before = redis_work();
    my $body = LET_IN;
    my $hex = hex_signature($key, $body);
    my $by_next = hex_signature($next, $body);
    my $base64 = base64_signature($key, $body);
    my @good = (
        [ '/hex', 'X-Signature' => $hex ], [ '/hex', 'X-Signature' => $by_next ], [ '/keys', 'X-Signature' => $hex ],
        [ '/keys', 'X-Signature' => $by_next ], [ '/hex', 'x-signature' => uc $hex ],
        [ '/hex', 'X-Signature' => ucfirst lc $hex ], [ '/hex', 'X-Signature' => hex_signature($wrong, $body) . ", $hex" ],
        [ '/hex', 'X-Signature' => "$hex,$hex" ], [ '/hex', 'X-Signature' => "x , ,,\t$hex\t ,v2=y" ],
        [ '/odd', 'X-Signature' => hex_signature($odd, $body) ],
        [ '/prefix', 'X-Hub-Signature-256' => "sha256=$hex" ], [ '/prefix', 'X-Hub-Signature-256' => 'sha256=' . uc $hex ],
        [ '/prefix', 'X-Hub-Signature-256' => "sha1=x, sha256=x, sha256=$hex" ], [ '/prefix', 'X-Hub-Signature-256' => $hex ],
        [ '/prefix', 'X-Hub-Signature-256' => "sha256=x, $hex" ],
        [ '/id', 'Webhook-Id' => $hex ],    # a header that is looked at for something else, too
        [ '/base64', 'X-Signature' => $base64 ], [ '/base64', 'X-Signature' => "$hex, $base64" ],
        [ '/base64', 'X-Signature' => $base64 =~ s/=//r ], [ '/base64', 'X-Signature' => $base64 =~ tr{+/}{-_}r ],
        [ '/base64', 'X-Signature' => $base64 =~ tr{+/=}{-_}dr ],
        [ '/base64url', 'X-Signature' => $base64 ], [ '/base64url', 'X-Signature' => $base64 =~ tr{+/=}{-_}dr ],
    );
    let_in ask($_->[0], $body, @$_[ 1, 2 ]), "$_->[0] " . substr $_->[2], 0, 20 for @good;

    my @bad = (
        [ '/hex' => "0x$hex" ], [ '/hex' => "sha256=$hex" ], [ '/hex' => "$hex $by_next" ], [ '/hex' => $base64 ],
        [ '/hex' => "$hex;" ], [ '/hex' => "${hex}00" ], [ '/hex' => substr $hex, 0, 62 ], [ '/hex' => "\"$hex\"" ],
        [ '/hex' => hex_signature($wrong, $body) ], [ '/hex' => hex_signature($key, '') ], [ '/hex' => ',,' ],
        [ '/hex' => substr($hex, 0, 32) . ',' . substr($hex, 32) ], [ '/hex' => '0' x 64 ],
        [ '/prefix' => "SHA256=$hex" ], [ '/prefix' => "sha256=sha256=$hex" ],
        [ '/prefix' => "sha256= $hex" ], [ '/prefix' => "sha256:$hex" ], [ '/prefix' => 'sha256=' ],
        [ '/prefix' => 'sha256' ], [ '/prefix' => "sha256=$by_next" ], [ '/prefix' => "sha1=$hex" ],
        [ '/base64' => $hex ], [ '/base64' => $base64 =~ s/=/==/r ], [ '/base64' => $base64 =~ s/=/A/r ], [ '/base64' => lc $base64 ], [ '/base64' => uc $base64 ],
        [ '/base64' => "$base64=" ], [ '/base64' => "v1,$base64 v1" ],
    );
    my %header = ('/prefix' => 'X-Hub-Signature-256');
    is_unauthorized ask($_->[0], $body, $header{ $_->[0] } // 'X-Signature', $_->[1]), "$_->[0] $_->[1]", 'wrong_signature'
        for @bad;

    for my $uri (qw(/hex /base64 /timed)) {
        is_unauthorized ask($uri, $body), "$uri: none", 'missing_signature';
        is_unauthorized ask($uri, $body, 'X-Signature' => ''), "$uri: empty", 'missing_signature';
        is_unauthorized ask($uri, $body, $_ => $hex), "$uri: another header, $_", 'missing_signature'
            for 'X-Signatures', 'X-S-gnature', 'X--ignature', 'XX-Signature', 'X_Signature', 'Signature';
    }
    is_unauthorized ask('/hex', $body, 'X-Signature' => $_->[0], 'x-signature' => $_->[1]), 'repeated', 'malformed_signature'
        for [ $hex, $hex ], [ 'x', $hex ], [ $hex, 'x' ], [ '', $hex ];

    # In hexadecimal, bit 5 of a letter is its case.
    my @letters = grep { lc eq $hex } turned($hex);
    is scalar(grep { let_in_or_not(ask('/hex', $body, 'X-Signature' => $_)) } turned($hex)), scalar @letters,
        'each bit matters but those of the case';
    is scalar(grep { let_in_or_not(ask('/base64', $body, 'X-Signature' => $_)) } turned($base64)), 0,
        'each bit of base64 matters';

    # Digits are no letters of another case: "1" | 0x20 is no "Q".
    my $digits = $hex =~ tr/0-9/\x10-\x19/r;
    is_unauthorized ask('/hex', $body, 'X-Signature' => $digits), 'digits have no case', 'wrong_signature';

    is redis_work(), $before, 'Redis was not asked';
};

subtest 'other signatures, with a time' => sub {
    my $now = time;
    my $sign = sub ($timestamp, $body = LET_IN) { hex_signature($key, "$timestamp.$body") };
    my $v1 = $sign->($now);
    my $at = sub ($uri, $value) { ask($uri, LET_IN, 'X-Signature' => $value) };

    let_in $at->('/timed', $_), $_ =~ s/[0-9a-f]{60}//gr for "t=$now,v1=$v1", "v1=$v1,t=$now", "t=$now, v1=$v1",
        "t=$now,v1=x,v1=$v1", "t=$now,$v1", "t=${now}000,v1=" . $sign->("${now}000"), "t=$now,v0=$v1,v1=$v1,v2=", "\tt=$now , v1=" . uc($v1) . ' ', "tt=1,T=2,t=$now,v1=$v1";

    my %bad = (
        wrong_signature => [
            "t=$now", "t=$now,v0=$v1", "t=$now,V1=$v1", "t=$now,v1=" . hex_signature($key, LET_IN),
            'v1=' . $sign->($now) . ',t=' . ($now - 1), "t=$now,v1=" . $sign->($now, ''), "t=$now,v1=" . $sign->("t=$now"),
            "t= $now,v1=$v1", "t=$now v1=$v1",
        ],
        malformed_signature => [
            $v1, "v1=$v1", "T=$now,v1=$v1", "time=$now,v1=$v1", "t=$now,t=$now,v1=$v1", "t=,t=$now,v1=$v1",
            "t $now,v1=$v1", ',', 'v1=' . hex_signature($key, '.' . LET_IN),
            map({ "t=$_,v1=" . $sign->($_) } '', 'x', -1, "-$now", "${now}000000", "$now.5", '9' x 16),
        ],
        stale_timestamp => [ map { "t=$_,v1=" . $sign->($_) } $now - 1000, $now + 1000, 0, 1, '9' x 12, '9' x 13 ],
    );
    for my $reason (sort keys %bad) {
        for my $value (@{ $bad{$reason} }) {
            is_unauthorized $at->('/timed', $value), "$reason: " . ($value =~ s/[0-9a-f]{60}//gr), $reason;
        }
    }

    my $sig = base64_signature($key, "$now." . LET_IN);
    let_in $at->('/timed64', "time=$now,sig:$sig"), 'other names';
    is_unauthorized $at->('/timed64', "t=$now,sig:$sig"), 'the usual ones then', 'malformed_signature';
    is_unauthorized $at->('/timed64', "time=$now,v1=$sig"), '... of the signature', 'wrong_signature';
    is_unauthorized $at->('/timed64', 'time=' . ($now - 90) . ',sig:' . base64_signature($key, $now - 90 . '.[]')),
        'with a tolerance of its own', 'stale_timestamp';
};

subtest 'other signatures, with the time in another header' => sub {
    my $now = time;
    my $sign = sub ($timestamp, $secret = $key) { hex_signature($secret, "$timestamp." . LET_IN) };
    my $at = sub ($uri, $timestamp, $signature, @more) {
        return ask($uri, LET_IN, 'X-Sent-At' => $timestamp, 'X-Signature' => $signature, @more);
    };

    let_in $at->('/header', $now, $sign->($now)), 'the right one';
    let_in $at->('/header', $now, $sign->($now, $next)), '... by another secret';
    let_in $at->('/header', "  $now ", uc $sign->($now)), '... spaces, and another case';
    let_in $at->("/header", "${now}321", $sign->("${now}321")), '... in milliseconds';
    let_in $at->('/braces', $now, $sign->($now)), '${http_name}';
    let_in $at->('/braces', $now, 'v0=' . $sign->($now)), '... with the prefix';
    let_in ask('/header', LET_IN, X_Sent_At => $now, 'X-Signature' => $sign->($now)), 'underscores, where they are allowed';
    let_in ask('/underscore', LET_IN, 'X-Sent-At' => $now, X_Signature => $sign->($now)), '... in the signature';

    is_unauthorized $at->('/header', undef, $sign->('')), 'no time', 'missing_signature';
    is_unauthorized $at->('/header', '', $sign->('')), 'an empty one', 'missing_signature';
    is_unauthorized $at->('/header', $now, undef), 'no signature', 'missing_signature';
    is_unauthorized $at->('/header', $now, $sign->($now), 'x-sent-at' => $now), 'two times', 'malformed_signature';
    is_unauthorized $at->('/header', $now, $sign->($now), X_Sent_At => $now), 'two spellings', 'malformed_signature';
    is_unauthorized $at->('/header', $_, $sign->($_)), "at $_", 'malformed_signature' for 'x', -1, "$now.5", '9' x 16;
    is_unauthorized $at->('/header', $_, $sign->($_)), "at $_", 'stale_timestamp'
        for $now - 1000, $now + 1000, 0, ($now - 1000) . '000', '9' x 12;
    is_unauthorized $at->('/header', $now, $_), 'wrong', 'wrong_signature'
        for $sign->($now - 1), $sign->($now, $wrong), hex_signature($key, LET_IN), "t=$now," . $sign->($now - 1);
    is scalar(grep { let_in_or_not($at->('/header', $_, $sign->($now))) } turned($now)), 0, 'each bit of the time matters';
};

subtest 'published examples' => sub {
    # Standard Webhooks and GitHub document these; neither body is an event.
    my $published = Vaani::Test::Nginx->start(http => <<'CONF');
        server {
            listen unix:%%SOCK%%;
            location = /standard {
                vaani_webhook;
                vaani_secret whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw;
                vaani_timestamp_tolerance 100y;
            }
            location = /github {
                vaani_webhook;
                vaani_signature X-Hub-Signature-256 "secret=It's a Secret to Everybody" prefix=sha256=;
            }
        }
CONF
    my $send = sub ($uri, $body, @headers) {
        my $response = $published->http->request(uri => $uri, body => $body,
            headers => [ 'Content-Type' => 'application/json', @headers ]);
        return $response->status;
    };

    my @standard = (
        'webhook-id'        => 'msg_p5jXN8AQM9LWM0D4loKWxJek',
        'webhook-timestamp' => '1614265330',
        'webhook-signature' => 'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=',
    );
    is $send->('/standard', '{"test": 2432232314}', @standard), 422, 'Standard Webhooks';
    is $send->('/standard', '{"test": 2432232315}', @standard), 401, '... another body';

    my @github = ('X-Hub-Signature-256' => 'sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17');
    is $send->('/github', 'Hello, World!', @github), 400, 'GitHub';
    is $send->('/github', 'Hello, World?', @github), 401, '... another body';
    ok $published->stop, 'stop';
};

# The values of each of the three; undef leaves it out.
my %CORRECT = (
    token     => [ 'X-Token' => $token ],
    secret    => sub ($body) { [ webhook_headers($old, $body) ] },
    signature => sub ($body) { my $t = time; [ 'X-Signature' => "t=$t,v1=" . hex_signature($key, "$t.$body") ] },
);

subtest 'all of them' => sub {
    my $before = redis_work();
    my $plain = Vaani::Test::HTTP->new(sock => $nginx->dir . '/plain.sock');
    my %bytes;

    my %wrong = (
        token     => [ 'X-Token' => $wrong ],
        secret    => sub ($body) { [ webhook_headers($other, $body) ] },
        signature => sub ($body) { my $t = time; [ 'X-Signature' => "t=$t,v1=" . hex_signature($wrong, "$t.$body") ] },
    );
    my %reasons = (
        token     => { none => 'missing_token',     wrong => 'wrong_token' },
        secret    => { none => 'missing_signature', wrong => 'wrong_signature' },
        signature => { none => 'missing_signature', wrong => 'wrong_signature' },
    );
    my $headers = sub ($body, %how) {
        map {
            my $from = $how{$_} eq 'right' ? $CORRECT{$_} : $how{$_} eq 'wrong' ? $wrong{$_} : [];
            ref $from eq 'CODE' ? @{ $from->($body) } : @$from
        } sort keys %how;
    };

    for my $t (qw(right wrong none)) {
        for my $w (qw(right wrong none)) {
            for my $s (qw(right wrong none)) {
                my %how = (token => $t, secret => $w, signature => $s);
                my $name = join ', ', map { "$_ $how{$_}" } qw(token secret signature);
                my $response = ask('/all', LET_IN, $headers->(LET_IN, %how));

                if ("$t $w $s" eq 'right right right') {
                    let_in $response, $name;
                    next;
                }
                my ($first) = grep { $how{$_} ne 'right' } qw(token secret signature);
                is_unauthorized $response, $name, $reasons{$first}{ $how{$first} };

                $plain->send_raw(join '', format_request(uri => '/all', body => LET_IN,
                    headers => [ 'Content-Type' => 'application/json', Connection => 'close', $headers->(LET_IN, %how) ]));
                $bytes{ $plain->read_raw =~ s/^Date: [^\r]+\r\n//mr }++;
            }
        }
    }
    is keys %bytes, 1, 'the same bytes for all that is wrong' or diag explain \%bytes;
    is +(values %bytes)[0], 26, '... each time';

    my %more;
    for my $request (
        [ '/one' ], [ '/one', webhook_headers($other, '[]') ], [ '/one', webhook_headers($old, '[]', timestamp => 1) ],
        [ '/one', webhook_headers($old, '[]', timestamp => 'x') ], [ '/one', webhook_headers($old, '[]', id => '') ],
        [ '/hex' ], [ '/hex', 'X-Signature' => 'x' ],
    ) {
        my ($uri, @headers) = @$request;
        for my $body ('[]', '', '{', valid()) {
            $plain->send_raw(join '', format_request(uri => $uri, body => $body,
                headers => [ 'Content-Type' => 'application/json', Connection => 'close', @headers ]));
            $more{ $plain->read_raw =~ s/^Date: [^\r]+\r\n//mr }++;
        }
    }
    is_deeply [ keys %more ], [ keys %bytes ], '... and wherever it comes from';

    for my $case (
        [ '/token-and-secret', [ webhook_headers($old, '[]') ] ],
        [ '/token-and-signature', [ 'X-Signature' => hex_signature($key, '[]') ] ],
    ) {
        my ($uri, $headers) = @$case;
        let_in ask("$uri?t=$token", '[]', @$headers), "$uri: both";
        is_unauthorized ask($uri, '[]', @$headers), "$uri: no token", 'missing_token';
        is_unauthorized ask("$uri?t=$wrong", '[]', @$headers), "$uri: a wrong token", 'wrong_token';
        is_unauthorized ask("$uri?t=$token", '[]'), "$uri: no signature", 'missing_signature';
        is_unauthorized ask($uri, '[]'), "$uri: neither", 'missing_token';
    }
    let_in webhook("/capture/$token"), 'a capture is still there after the body';
    is_unauthorized webhook("/capture/$wrong"), '... a wrong one', 'wrong_token';

    my $body = valid();
    let_in ask('/both', LET_IN, webhook_headers($old, LET_IN), 'X-Signature' => hex_signature($key, LET_IN)), '/both';
    is_unauthorized ask('/both', LET_IN, webhook_headers($old, LET_IN)), '/both: one', 'missing_signature';
    is_unauthorized ask('/both', LET_IN, 'X-Signature' => hex_signature($key, LET_IN)), '/both: the other',
        'missing_signature';
    is redis_work(), $before, 'Redis was not asked';
};

subtest 'the body is read before anything is told' => sub {
    # Half of a body, and a token that is wrong: no answer yet.
    my $body = valid(junk => 'x' x 1000);
    $http->send_raw("POST /token-and-secret?t=$wrong HTTP/1.1\r\nHost: x\r\nContent-Length: "
        . length($body) . "\r\n\r\n" . substr $body, 0, 500);
    my $meanwhile = $nginx->http;
    is $meanwhile->post('/one', '[]')->status, 401, 'another request is answered meanwhile';
    ok !$http->wait_closed(0), 'the connection is open';
    is length ${ $http->{parser}->buffer }, 0, '... and there is no answer';
    $http->send_raw(substr $body, 500);
    is_unauthorized $http->read_response, 'the answer comes after the body', 'wrong_token';
};

subtest 'other ways to an endpoint, and inheritance' => sub {
    for my $uri (qw(/if /limited /except /rewrite /page /mirrored)) {
        let_in webhook($uri), $uri;
        is_unauthorized webhook($uri, secret => $other), "$uri, wrong", 'wrong_signature';
        is_unauthorized ask($uri, LET_IN), "$uri, none", 'missing_signature';
    }
    is webhook('/if', headers => [ 'X-If' => 1 ])->status, 422, '/if, true';
    is webhook('/if', secret => $other, headers => [ 'X-If' => 1 ])->status, 401, '/if, true, wrong';

    my @secret = webhook_headers($old, LET_IN);
    my @signature = ('X-Signature' => hex_signature($key, LET_IN));
    for my $case (
        [ both      => 401, 401, 422, 401 ], [ secret => 422, 401, 422, 401 ],
        [ signature => 401, 422, 422, 401 ], [ neither => 422, 422, 422, 422 ], [ other => 401, 401, 401, 401 ],
    ) {
        my ($name, @wanted) = @$case;
        my @got = map { ask("/outer/$name", LET_IN, @$_)->status } \@secret, \@signature, [ @secret, @signature ], [];
        is "@got", "@wanted", "/outer/$name";
    }
    let_in webhook('/outer/other', secret => $other), '/outer/other: what is inherited is replaced';
};

subtest 'what comes first' => sub {
    for my $good (1, 0) {
        my %headers = $good ? webhook_headers($old, '[]') : webhook_headers($other, '[]');
        is $http->request(method => 'PUT', uri => '/one', body => '[]', headers => \%headers)->status, 405, 'another method';
        my %text = (%headers, 'Content-Type' => 'text/plain');
        is $http->request(uri => '/strict', body => '[]', headers => \%text)->status, 415, 'another type';
        is $http->request(uri => '/strict-token-and-secret', body => '[]', headers => \%text)->status, 415,
            '... also with a token that is judged together with it';
        is $http->request(uri => $_, body => '[]', headers => { %headers, 'Content-Encoding' => 'gzip' })->status, 415,
            "a coding, $_" for qw(/one /token-and-secret);
        my $response = $http->request(uri => '/one', body => LET_IN, headers => \%text);
        $good ? let_in $response, 'lenient: any type, if it is signed' : is_unauthorized $response, '... and only then', 'wrong_signature';
        for my $framing ([], [ chunked => 50 ]) {
            is $nginx->http->request(uri => '/small', body => ' ' x 101, headers => \%headers, @$framing)->status, 413,
                "too big @$framing";
        }
    }
    is_unauthorized ask('/one', $_), '401 before what a body is', 'missing_signature' for '', '{', '[]', valid();
};

subtest 'nothing is left behind' => sub {
    my $subscriber = $redis->client->psubscribe('*');
    my $before = redis_work();

    is_unauthorized webhook('/one', secret => $other, body => valid()), 'an event', 'wrong_signature' for 1 .. 20;
    $client->cmd('PUBLISH', 'mark', '');
    is $subscriber->next_message(30)->{channel}, 'mark', 'nothing was published';
    is redis_work(), $before, 'nor stored';

    # A forged delivery does not use up its id either.
    my ($body, $id) = (valid(), 'forged.1');
    is_unauthorized webhook('/one', secret => $other, body => $body, id => $id), 'forged', 'wrong_signature';
    is webhook('/one', body => $body, id => $id)->body, OK, 'the true one is taken';

    my $bytes = sub { my $sum = 0; $sum += -s for grep { -f } glob $nginx->dir . '/spool/*.log'; $sum };
    my $empty = $bytes->();
    is_unauthorized webhook('/spooled', secret => $other, body => valid()), 'with a spool', 'wrong_signature' for 1 .. 20;
    is $bytes->(), $empty, 'the spool has nothing of it';
    is webhook('/spooled', body => valid())->body, QUEUED, 'the right one';
    cmp_ok $bytes->(), '>', $empty, '... is spooled';
};

ok $nginx->stop, 'stop';
like slurp($nginx->dir . '/error.log'), qr/vaani: unauthorized: $_/, "the error log tells of $_"
    for qw(missing_token wrong_token missing_signature malformed_signature wrong_signature stale_timestamp);
no_secret_was_told();

done_testing;
