# Independent code as the reference: the packages of Standard Webhooks and Svix
# with which senders sign and receivers verify. Their signatures are accepted;
# and neither they nor the module accept what the other refuses.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

use JSON::PP ();
use Vaani::Test::Events;
use Vaani::Test::Signing;

use constant OK => qq({"status":"ok"}\n);

# make installs the packages there; without them there is nothing to say.
my $packages = $ENV{VAANI_SIGNER} // ROOT . '/build/signer';
die "the packages are not in $packages: make test-nginx installs them\n" if !-d "$packages/node_modules";

my $json = JSON::PP->new->ascii->canonical;
my @PACKAGES = qw(standardwebhooks svix);

# Several cases in one run of node; bodies and ids are characters here.
sub ask_packages (@cases) {
    my ($exit, $out, $err) = run([ 'node', ROOT . '/t/auth/signer/signer.cjs', $packages ], stdin => $json->encode(\@cases));
    die "node failed ($exit): $err" if $exit;
    my $answers = JSON::PP->new->allow_nonref->decode($out);
    die "node gave too few answers\n" if @$answers != @cases;
    return @$answers;
}

sub bytes ($text) { utf8::encode($text); return $text }

my ($old, $new, $other) = map { webhook_secret() } 1 .. 3;

secret_file('secrets', "# of the relay\n  v1,$new\t\n" . $old =~ s/^whsec_//r . "\n");

my $redis = Vaani::Test::Redis->start;
my $client = $redis->client;
my $nginx = Vaani::Test::Nginx->start(http => <<"CONF");
    vaani_redis @{[ $redis->url ]};
    server {
        listen unix:%%SOCK%%;
        keepalive_requests 100000;
        add_header X-Result \$vaani_result always;
        add_header X-Reason \$vaani_reason always;
        location = /one  { vaani_webhook; vaani_secret $old; }
        location = /both { vaani_webhook; vaani_secret $new $old; }
        location = /new  { vaani_webhook; vaani_secret $new; }
        location = /bare { vaani_webhook; vaani_secret @{[ $old =~ s/^whsec_//r ]}; }
        location = /v1   { vaani_webhook; vaani_secret v1,$old; }
        location = /file { vaani_webhook; vaani_secret file=%%TMPDIR%%/secrets; }
    }
CONF
my $http = $nginx->http;

sub post ($uri, $body, $headers) {
    return $http->request(uri => $uri, body => bytes($body), headers => [
        'Content-Type' => 'application/json', map { $_ => bytes($headers->{$_}) } sort keys %$headers ]);
}

sub lets_in ($uri, $body, $headers) { return post($uri, $body, $headers)->status == 401 ? 0 : 1 }

my $now = time;
my @bodies = (
    map({ event($_, room => new_room()) } @EVENTS),
    event('call_started', room => "caf\x{e9}"), event('call_ended', room => "\x{1f600}\x{20ac}", end_reason => "\x{2028}\x{feff}"),
    event('call_postprocessing', room => 'long', transcript => "\x{fc}\x{4e2d}\x{1f4de}" x 2_000),
    event('call_ended', room => 'escaped', end_reason => \'"\u00e9\ud83d\ude00\/\n"'),
    " \n" . event('call_ringing', room => 'spaces') . "\t\r\n ",
);
# event() gives bytes.
utf8::decode($_) for @bodies;

subtest 'what they sign' => sub {
    my (@cases, @where);
    for my $package (@PACKAGES) {
        for my $n (0 .. $#bodies) {
            for my $id ($n ? "msg.$n.x" : ('msg_1', '1.2.3', "\x{e9}\x{1f600}")) {
                push @cases, { sign => $package, secret => $old, id => "$package-$id-$n", timestamp => $now, body => $bodies[$n] };
            }
        }
    }
    my @signatures = ask_packages(@cases);

    for my $n (0 .. $#cases) {
        my %case = %{ $cases[$n] };
        my $name = bytes("$case{sign}: $case{id}");
        my $headers = {
            'webhook-id' => $case{id}, 'webhook-timestamp' => $now, 'webhook-signature' => $signatures[$n],
        };
        is $signatures[$n], webhook_signature($old, bytes($case{id}), $now, bytes($case{body})), "$name, as the tests sign";
        is post('/one', $case{body}, $headers)->body, OK, '... is let in';
        is post('/new', $case{body}, $headers)->status, 401, '... but not with another secret';
    }
};

subtest 'rotation' => sub {
    my $body = '[]';
    for my $package (@PACKAGES) {
        my ($by_old, $by_new, $by_other) = ask_packages(map {
            { sign => $package, secret => $_, id => 'msg_r', timestamp => $now, body => $body }
        } $old, $new, $other);

        for my $case (
            [ 'the old one'      => $by_old,             1, 1, 0 ],
            [ 'the new one'      => $by_new,             0, 1, 1 ],
            [ 'both'             => "$by_old $by_new",   1, 1, 1 ],
            [ 'both, new first'  => "$by_new $by_old",   1, 1, 1 ],
            [ 'another'          => $by_other,           0, 0, 0 ],
            [ 'another and old'  => "$by_other $by_old", 1, 1, 0 ],
        ) {
            my ($name, $signature, @wanted) = @$case;
            my $headers = { 'webhook-id' => 'msg_r', 'webhook-timestamp' => "$now", 'webhook-signature' => $signature };
            my @got = map { lets_in($_, $body, $headers) } qw(/one /both /new);
            is "@got", "@wanted", "$package: signed by $name";

            my @verified = ask_packages(map {
                { verify => $package, secret => $_, headers => $headers, body => $body }
            } $old, $new);
            is join(' ', map { $_ ? 1 : 0 } @verified), "@wanted[ 0, 2 ]", '... which the package sees so, too';
        }
    }
};

# Both judge the same deliveries: a good one, and what can become of it.
subtest 'what they refuse' => sub {
    my $body = '{"event":"x","room_name":1}';
    my $signed = sub (%opt) {
        my %headers = webhook_headers($old, $opt{body} // $body, id => 'msg_v.1', %opt{ grep { $_ ne 'body' } keys %opt });
        return \%headers;
    };
    my $good = $signed->(timestamp => $now);
    my $signature = $good->{'webhook-signature'};
    my $with = sub (%changes) {
        my %headers = (%$good, %changes);
        delete @headers{ grep { !defined $headers{$_} } keys %headers };
        return \%headers;
    };

    my @deliveries = (
        [ 1, 'a good one', $good ],
        [ 1, 'two signatures', $with->('webhook-signature' => "v1,x $signature") ],
        [ 1, 'versions that nobody knows', $with->('webhook-signature' => "v1a,x v2,y $signature") ],
        [ 1, 'nearly too old', $signed->(timestamp => $now - 240) ],
        [ 1, 'a little ahead', $signed->(timestamp => $now + 240) ],
        [ 0, 'too old', $signed->(timestamp => $now - 400) ],
        [ 0, 'too far ahead', $signed->(timestamp => $now + 400) ],
        [ 0, 'no time', $signed->(timestamp => 'x') ],
        [ 0, 'another id', $with->('webhook-id' => 'msg_v.2') ],
        [ 0, 'another time', $with->('webhook-timestamp' => $now - 1) ],
        [ 0, 'no id', $with->('webhook-id' => undef) ],
        [ 0, 'no timestamp', $with->('webhook-timestamp' => undef) ],
        [ 0, 'no signature', $with->('webhook-signature' => undef) ],
        [ 0, 'an empty id', $with->('webhook-id' => '') ],
        [ 0, 'no version', $with->('webhook-signature' => $signature =~ s/^v1,//r) ],
        [ 0, 'another version', $with->('webhook-signature' => $signature =~ s/^v1/v2/r) ],
        [ 0, 'v1a', $with->('webhook-signature' => $signature =~ s/^v1/v1a/r) ],
        [ 0, 'no padding', $with->('webhook-signature' => $signature =~ s/=+$//r) ],
        [ 0, 'cut', $with->('webhook-signature' => substr $signature, 0, -2) ],
        [ 0, 'extended', $with->('webhook-signature' => "${signature}A") ],
        [ 0, 'in lower case', $with->('webhook-signature' => lc $signature) ],
        [ 0, 'of another secret', { webhook_headers($other, $body, id => 'msg_v.1', timestamp => $now) } ],
        [ 0, 'of another body', $signed->(body => "$body ", timestamp => $now) ],
        [ 0, 'another body', $good, "$body " ],
        [ 0, 'a shorter body', $good, substr $body, 0, -1 ],
        [ 0, 'no body', $good, '' ],
        [ 0, 'a bit of the body', $good, $body =~ s/x/y/r ],
    );
    # And any one character of what is signed or of the signature changed.
    my @places = ((map { [ $_ => length $good->{$_} ] } sort keys %$good), [ body => length $body ]);
    for my $place (@places) {
        my ($where, $length) = @$place;
        for my $at (0 .. $length - 1) {
            my %copy = (%$good, body => $body);
            substr($copy{$where}, $at, 1) =~ tr/0-9A-Za-z/1-9a-zB-ZAb/ or substr($copy{$where}, $at, 1) = '~';
            my $tampered = delete $copy{body};
            push @deliveries, [ 0, "$where, character $at", \%copy, $tampered ];
        }
    }

    for my $package (@PACKAGES) {
        my @verified = ask_packages(map {
            { verify => $package, secret => $old, headers => $_->[2], body => $_->[3] // $body }
        } @deliveries);

        for my $n (0 .. $#deliveries) {
            my ($wanted, $name, $headers, $changed) = @{ $deliveries[$n] };
            is $verified[$n] ? 1 : 0, $wanted, "$package: $name";
        }
    }
    for (@deliveries) {
        my ($wanted, $name, $headers, $changed) = @$_;
        is lets_in('/one', $changed // $body, $headers), $wanted, "the module: $name";
    }
};

# The names that Svix gives to the three headers. Its package knows both, the
# other one only those of the standard.
sub svix_names ($headers) { return { map { ($_ =~ s/^webhook-/svix-/r => $headers->{$_}) } keys %$headers } }

subtest 'under the names of Svix' => sub {
    my ($body, $by_other) = (event('call_ringing', room => 'svix'), event('call_ended', room => 'svix'));
    my ($signature, $ended) = ask_packages(
        { sign => 'svix', secret => $old, id => 'msg_s.1', timestamp => $now, body => $body },
        { sign => 'svix', secret => $old, id => 'msg_s.1', timestamp => $now, body => $by_other },
    );
    my %good = ('svix-id' => 'msg_s.1', 'svix-timestamp' => "$now", 'svix-signature' => $signature);

    is post('/one', $body, \%good)->body, OK, 'an event';
    is post($_, $body, \%good)->body, qq({"status":"duplicate"}\n), "$_ takes it, too" for qw(/one /both /bare /v1 /file);
    is post('/new', $body, \%good)->status, 401, '... but not with another secret';
    is post('/one', $by_other, { %good, 'svix-signature' => $ended })->body, qq({"status":"duplicate"}\n),
        'the id tells repetitions';
    is post('/one', $body, { %good, 'webhook-id' => "other-$_" })->body, qq({"status":"duplicate"}\n),
        '... and not another id, which nobody signed' for 1, 2;
    is $client->cmd('HGET', 'vaani:call:svix', 'seq'), 1, '... which change nothing';

    my $with = sub (%changes) {
        my %headers = (%good, %changes);
        delete @headers{ grep { !defined $headers{$_} } keys %headers };
        return \%headers;
    };
    my $signed = sub (%opt) { svix_names({ webhook_headers($old, $body, id => 'msg_s.2', %opt) }) };

    my @deliveries = (
        [ 1, 'a good one', \%good ],
        [ 1, 'two signatures', $with->('svix-signature' => "v1,x $signature") ],
        [ 1, 'nearly too old', $signed->(timestamp => $now - 240) ],
        [ 0, 'too old', $signed->(timestamp => $now - 400) ],
        [ 0, 'too far ahead', $signed->(timestamp => $now + 400) ],
        [ 0, 'no time', $signed->(timestamp => 'x') ],
        [ 0, 'another id', $with->('svix-id' => 'msg_s.2') ],
        [ 0, 'another time', $with->('svix-timestamp' => $now - 1) ],
        (map { [ 0, "no $_", $with->($_ => undef) ], [ 0, "an empty $_", $with->($_ => '') ] } sort keys %good),
        [ 0, 'no version', $with->('svix-signature' => $signature =~ s/^v1,//r) ],
        [ 0, 'of another secret', svix_names({ webhook_headers($other, $body, timestamp => $now) }) ],
        [ 0, 'another body', \%good, "$body " ],
    );
    my @verified = ask_packages(map { { verify => 'svix', secret => $old, headers => $_->[2], body => $_->[3] // $body } } @deliveries);
    for my $n (0 .. $#deliveries) {
        my ($wanted, $name, $headers, $changed) = @{ $deliveries[$n] };
        is $verified[$n] ? 1 : 0, $wanted, "svix: $name";
        is lets_in('/one', $changed // $body, $headers), $wanted, "the module: $name";
    }

    # Headers of one kind are not completed by those of the other. Svix's
    # package does that, but no sender uses it.
    is lets_in('/one', $body, $with->($_ => undef, $_ =~ s/svix/webhook/r => $good{$_})), 0, "$_ of the standard"
        for sort keys %good;

    # Where both are sent, the standard's are looked at: as the package of that
    # name does.
    my %standard = webhook_headers($old, $body, timestamp => $now);
    my %bad = webhook_headers($other, $body, timestamp => $now);
    my @both = ([ 1, { %standard, %good } ], [ 1, { %standard, %{ svix_names(\%bad) } } ], [ 0, { %bad, %good } ]);
    my @answers = ask_packages(map { { verify => 'standardwebhooks', secret => $old, headers => $_->[1], body => $body } } @both);
    for my $n (0 .. $#both) {
        is $answers[$n] ? 1 : 0, $both[$n][0], "standardwebhooks: both, $n";
        is lets_in('/one', $body, $both[$n][1]), $both[$n][0], "the module: both, $n";
    }

    my @twice = map { $_ => $good{$_} } sort keys %good;
    for my $header (sort keys %good) {
        is_unauthorized $http->request(uri => '/one', body => $body, headers => [ 'Content-Type' => 'application/json',
            @twice, $header => $good{$header} ]), "$header twice", 'malformed_signature';
    }
};

subtest 'the published example' => sub {
    my @cases = map { {
        sign => $_, secret => 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw', id => 'msg_p5jXN8AQM9LWM0D4loKWxJek',
        timestamp => 1614265330, body => '{"test": 2432232314}',
    } } @PACKAGES;
    is $_, 'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=', 'is what they sign' for ask_packages(@cases);
};

subtest 'the packages are those of the lock file' => sub {
    my $lock = $json->decode(slurp(ROOT . '/t/auth/signer/package-lock.json'))->{packages};
    for my $path (grep { $_ ne '' } sort keys %$lock) {
        like $lock->{$path}{resolved}, qr{^https://registry\.npmjs\.org/}, "$path is public";
        like $lock->{$path}{integrity}, qr/^sha512-/, '... with its hash';
        is $json->decode(slurp("$packages/$path/package.json"))->{version}, $lock->{$path}{version}, '... and installed';
    }
};

ok $nginx->stop, 'stop';
no_secret_was_told();

done_testing;
