# Deliveries that were authenticated and refused: they are kept for an operator,
# within their bounds, whatever the disk and the threads do.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

use Fcntl qw(LOCK_EX LOCK_SH LOCK_UN);
use Vaani::Test::Disk;
use Vaani::Test::Endpoint;
use Vaani::Test::Events;
use Vaani::Test::HTTP qw(format_request);
use Vaani::Test::Signing;
use Vaani::Test::Spool;

my $token = token_secret();
my $redis = Vaani::Test::Redis->start(acl => STREAM);

# An endpoint with a token; 'auth' => '' for one without.
sub nginx (%opt) {
    my $auth = delete $opt{auth} // "vaani_token \$http_x_token $token;";
    my $spool = delete $opt{spool} // '';
    my $more = delete $opt{more} // '';
    return Vaani::Test::Nginx->start(
        workers => 1, log_level => 'notice', %opt,
        http => "client_max_body_size 8m;" . spool_config($redis, spool => $spool, more => "$auth $more"),
    );
}

sub post ($nginx, $body, %headers) {
    return $nginx->http->post('/hook', $body, 'x-token' => $token, %headers);
}

# Without waiting for the answer.
sub send_one ($client, $body) {
    my @parts = format_request(
        method => 'POST', uri => '/hook', body => $body, headers => [ 'X-Token' => $token ],
    );
    return $client->send_raw(join '', @parts);
}

sub refused_segments ($nginx) { return segments($nginx->dir . '/spool/refused') }

# The kept deliveries: { reason, time, body }, the oldest one first.
sub kept ($nginx) {
    my $dir = $nginx->dir . '/spool/refused';
    return map {
        my ($kind, $time, $reason, $body) = unpack 'a Q> C/a a*', $_;
        { kind => $kind, time => $time, reason => $reason, body => $body };
    } map { journal_contents(slurp("$dir/$_")) } refused_segments($nginx);
}

sub size ($nginx) {
    my $size = 0;
    $size += -s $nginx->dir . "/spool/refused/$_" for refused_segments($nginx);
    return $size;
}

subtest 'kept' => sub {
    my $nginx = nginx();
    my $from = 1000 * time;
    my $no_event = '{"room_name":"r","transcript":"secret words"}';

    is post($nginx, 'no JSON')->status, 400, 'no JSON';
    is post($nginx, $no_event)->status, 422, 'no event';
    is post($nginx, '')->status, 400, 'nothing';
    is post($nginx, event('call_started'))->status, 200, 'an event';

    my @kept = kept($nginx);
    is_deeply [ map { $_->{body} } @kept ], [ 'no JSON', $no_event, '' ], 'those refused, before their answers';
    is_deeply [ grep { $_->{kind} ne 'R' } @kept ], [], 'as refused ones';
    is_deeply [ grep { $_->{reason} !~ /^\w+\z/ } @kept ], [], 'with the reason, a word';
    isnt $kept[0]{reason}, $kept[1]{reason}, '... that differs';
    is_deeply [ grep { $_->{time} < $from || $_->{time} > 1000 * time + 1000 } @kept ], [], 'and the time';

    my $dir = $nginx->dir . '/spool/refused';
    is sprintf('%04o', (stat $dir)[2] & 07777), '0700', 'only for the user of the workers';
    is sprintf('%04o', (stat "$dir/$_")[2] & 07777), '0600', '... the file, too' for refused_segments($nginx);
    $nginx->log_unlike(qr/secret words|no JSON/, 'no body is logged');
    $nginx->log_unlike(qr/are not kept/, 'nothing is said at start');

    ok $nginx->reload(wait_old => 1), 'a reload';
    is post($nginx, 'later')->status, 400, 'another one';
    $nginx->kill;
    $nginx->restart;
    is post($nginx, 'after')->status, 400, 'and after a kill';
    is_deeply [ map { $_->{body} } kept($nginx) ], [ 'no JSON', $no_event, '', 'later', 'after' ], 'all are there';
};

subtest 'several events in one body' => sub {
    my $nginx = nginx();
    my ($good, $bad) = (event('call_started', room => 'several'), '{"event":"call_ended"}');
    my $answer = post($nginx, qq({"events":[$good,$bad]}));

    is $answer->status, 200, 'one refused, and kept';
    like $answer->body, qr/"events":2,"refused":1\}/, '... which the answer says';
    my @kept = kept($nginx);
    is @kept, 1, 'one is kept';
    like $kept[0]{body}, qr/\Q$bad\E/, 'the refused one';
    unlike $kept[0]{body}, qr/call_started/, 'without the other one';
};

subtest 'not kept' => sub {
    my $nginx = nginx();
    is $nginx->http->post('/hook', 'no JSON', 'x-token' => 'wrong')->status, 401, 'a stranger';
    ok !-e $nginx->dir . '/spool/refused', 'what strangers send';

    my $open = nginx(auth => '');
    is post($open, 'no JSON')->status, 400, 'no authentication';
    ok !-e $open->dir . '/spool/refused', '... by default';
    $open->log_unlike(qr/are not kept/, '... of which nothing is said');

    my $asked = nginx(auth => '', spool => 'refused=1m');
    is post($asked, 'no JSON')->status, 400, 'no authentication';
    is scalar(kept($asked)), 1, '... but asked for';

    # A location without authentication next to one with it: strangers would
    # displace the others.
    my $two = nginx(auth => '', more => "location /hook/in { vaani_webhook; vaani_token \$http_x_token $token; }");
    is post($two, 'a stranger')->status, 400, 'the location without';
    is $two->http->post('/hook/in', 'a friend', 'x-token' => $token)->status, 400, 'the one with it';
    is_deeply [ map { $_->{body} } kept($two) ], ['a friend'], 'only the one is kept';
};

subtest 'off' => sub {
    my $nginx = nginx(spool => 'refused=off', workers => 2);
    is post($nginx, 'no JSON')->status, 400, 'refused';
    ok !-e $nginx->dir . '/spool/refused', 'nothing is kept';
    my $bad = '{"event":"call_ended"}';
    is post($nginx, qq({"events":[@{[ event('call_started') ]},$bad]}))->status, 422, 'and no 200 for such a body';
    is scalar($nginx->log_lines(qr/\[notice\].*"refused=off"; refused deliveries are not kept/)), 1,
        'it is said, once';

    my $none = "server { listen unix:%%SOCK%%;
        location /one { vaani_webhook; vaani_token \$http_x_token $token; }
        location /two { vaani_webhook; vaani_token \$http_x_token $token; } }";
    my $without = Vaani::Test::Nginx->start(log_level => 'notice', workers => 2, http => $none);
    is scalar($without->log_lines(qr/\[notice\].*no "vaani_spool".*are not kept/)), 1, 'no spool: the same';

    my ($ok, $output) = Vaani::Test::Nginx->check(log_level => 'notice', http => $none);
    ok $ok, 'nginx -t';
    unlike $output, qr/are not kept/, '... does not say it';
};

subtest 'the bounds' => sub {
    my $nginx = nginx(spool => 'refused=100k');

    post($nginx, "no JSON $_ " . 'x' x 1000) for 1 .. 40;
    my $size = size($nginx);
    cmp_ok $size, '<=', 10240, 'a tenth for one reason in a minute';
    cmp_ok $size, '>', 8000, '... is used';
    is_deeply [ map { $_->{body} =~ /^no JSON (\d+)/ } kept($nginx) ], [ 1 .. scalar kept($nginx) ], 'the first ones';
    is scalar($nginx->log_lines(qr/\[warn\].*is one of too many in a minute/)), 1, 'that is said once';

    is post($nginx, '[]' . ' ' x 40_000)->status, 422, 'the first one of another reason';
    is scalar(grep { $_->{body} =~ /^\[\]/ } kept($nginx)), 1, '... is kept, however large';
    is post($nginx, '{"x":"' . 'x' x 45_000 . '"}')->status, 422, 'a third reason';
    ok scalar(grep { $_->{body} =~ /^\{"x"/ } kept($nginx)), '... is kept';
    cmp_ok size($nginx), '<=', 102400, 'within the bound';
    is post($nginx, '{"event":"' . 'e' x 300 . '","x":"' . 'x' x 60_000 . '"}')->status, 422, 'a fourth one';
    is_deeply [ map { substr $_->{body}, 0, 8 } kept($nginx) ], ['{"event"'], 'and the oldest are dropped';

    is post($nginx, '{"x":"' . 'x' x 200_000 . '"}')->status, 422, 'larger than the bound';
    is_deeply [ map { substr $_->{body}, 0, 8 } kept($nginx) ], ['{"event"'], '... does not push out the others';
    $nginx->log_like(qr/\[warn\].*is larger than "refused"/, '... and that is said');
};

subtest 'segments' => sub {
    my $nginx = nginx(spool => 'refused=64m', workers => 4);
    my @bodies = map { "no JSON $_ " . 'x' x 30_000 } 1 .. 200;
    my $http = $nginx->http;
    my @clients = map { $nginx->http->connect } 1 .. 20;

    for my $n (0 .. $#bodies) {
        my $client = $clients[ $n % @clients ];
        $client->read_response if $n >= @clients;
        send_one($client, $bodies[$n]);
    }
    $_->read_response for @clients;

    is_deeply [ sort map { $_->{body} } kept($nginx) ], [ sort @bodies ], 'of four workers at a time, each whole';
    cmp_ok scalar(refused_segments($nginx)), '>=', 2, 'in several segments';
    cmp_ok scalar(refused_segments($nginx)), '<=', 12, '... not many';
};

subtest 'foreign files, and segments that others hold' => sub {
    my $nginx = nginx();
    my $dir = $nginx->dir . '/spool/refused';
    mkdir $dir or die "mkdir: $!";
    spew("$dir/README", 'read me');
    mkdir sprintf '%s/%020d.log', $dir, 3;
    symlink '/dev/null', sprintf '%s/%020d.log', $dir, 2;
    my $held = spew(sprintf('%s/%020d.log', $dir, 4), '');
    open my $fh, '<', $held or die "open: $!";
    flock $fh, LOCK_SH;

    is post($nginx, 'no JSON')->status, 400, 'refused';
    is -s $held, 0, 'not into a file that is in use';
    is slurp("$dir/README"), 'read me', 'others are as they were';
    my ($new) = grep { /5\.log\z/ } refused_segments($nginx);
    is_deeply [ journal_contents(slurp("$dir/$new")) ] =~ /./ ? 1 : 0, 1, 'but into another one';
};

# --- a bad disk

sub on_bad_refused (%opt) {
    return on_bad_disk('*/spool/refused/*', sub ($main) { nginx(%opt, main => $main . ($opt{main} // '')) });
}

for my $fault (qw(nearly_full failing_syncs)) {
    subtest $fault => sub {
        my ($nginx, $set) = on_bad_refused() or plan skip_all => 'no library can be preloaded';
        my $several = '{"events":[' . event('call_started') . ',{"event":"call_ended"}]}';

        is post($nginx, 'no JSON 1')->status, 400, 'one that is kept';
        $set->($fault => 1);
        is post($nginx, 'no JSON 2')->status, 400, 'others are refused as ever';
        is post($nginx, $several)->status, 422, 'several events: what is not kept is not answered 200';
        is scalar($nginx->log_lines(qr/\[crit\].*refused deliveries cannot be written/)), 1, 'it is said, once';
        $set->($fault => 0);
        is post($nginx, $several)->status, 200, 'a disk that works again';

        my @bodies = map { $_->{body} } kept($nginx);    # dies of what is no record
        is $bodies[0], 'no JSON 1', 'what was kept is';
        is scalar(grep { /call_ended/ } @bodies), $fault eq 'nearly_full' ? 1 : 2, 'and no part of a record is left';
    };
}

subtest 'threads that take no task' => sub {
    my ($nginx, $set) = on_bad_refused(
        main => 'thread_pool default threads=1 max_queue=1; ',
        more => "location /hook/two { vaani_webhook; vaani_spool %%DIR%%/two; }",
    ) or plan skip_all => 'no library can be preloaded';
    my ($client, $mark);

    # the first ones may themselves find no room among the tasks
    $set->(frozen_syncs => 1);
    ok wait_for(sub {
        $mark = $nginx->log_mark;
        $client = $nginx->http->connect;
        send_one($client, 'no JSON');
        return wait_for(sub { kept($nginx) }, 0.3);
    }), 'the thread waits for the disk';

    # the search for the segments of one spool is queued, that of the other is not
    ok $nginx->wait_log(qr/queue overflow/, 30, $mark), 'no task is taken';
    $redis->kill;
    is post($nginx, event('call_started', room => 'full'))->status, 503, 'an event that would be queued';
    is post($nginx, event('call_started', room => 'full'))->status, 503, '... again';
    is $nginx->http->post('/hook/two', 'no JSON', 'x-token' => $token)->status, 400, 'a refused delivery';
    ok !-e $nginx->dir . '/two/refused', '... is not kept';
    ok !grep({ /full/ } kept($nginx)), 'nothing else is kept';

    $set->(frozen_syncs => 0);
    is $client->read_response->status, 400, 'the delivery that waited is answered';
    ok wait_for(sub { post($nginx, event('call_started', room => 'full'))->status == 200 }), 'events are taken again';
    $redis->restart;
};

done_testing;
