# The numbers of the status location: they add up to what was sent, over all
# workers, reloads and crashes; they are the documented ones, in every format;
# and they say nothing of what is in a body. And the health location.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

use IO::Socket::INET;
use JSON::PP ();
use List::Util qw(sum0 uniq);
use Time::HiRes ();
use Vaani::Test::Disk;
use Vaani::Test::Endpoint qw(RETAIN);
use Vaani::Test::Events;
use Vaani::Test::HTTP qw(format_request);
use Vaani::Test::Nginx::Config qw(nginx_bin);
use Vaani::Test::Socket qw(free_port);

use constant RESULTS => qw(ok duplicate queued rejected unauthorized unavailable none);
use constant STATUSES => qw(started dialing ringing active rejected no_answer failed ended);

# Texts of tokens, passwords, rooms and bodies, which must not be in any
# output.
use constant CANARY => 'canary-in-the-mine';

my $json = JSON::PP->new->utf8;

# --- what is documented

my $monitoring = slurp(ROOT . '/docs/monitoring.md');
my ($section) = $monitoring =~ /^## What each number means\n(.*?)(?=^## )/ms;
my (%type, %labels, %member);

for my $row (map { [ map { s/^\s+|\s+$//gr } split /\|/ ] } $section =~ /^\|(.*)\|$/mg) {
    my ($metric) = $row->[0] =~ /`(vaani_\w+)`/;
    $member{$_} = 1 for $row->[1] =~ /`([^`]+)`/g;
    next if !defined $metric;
    ($type{$metric}) = $row->[2] =~ /^(\w+)/;
    $labels{$metric} = [ sort grep { $_ ne 'le' } $row->[3] =~ /`(\w+)`/g ];
}
cmp_ok scalar keys %type, '>', 20, 'the table of docs/monitoring.md';

# --- reading

sub get ($nginx, $uri, %headers) {
    return ($nginx->{status_client} //= $nginx->http)->get($uri, %headers);
}

sub status ($nginx) {
    my $response = get($nginx, '/status?format=json');
    die 'no status: ' . $response->status . ' ' . $response->body . "\n" if $response->status != 200;
    return $response->json // die "the status is not JSON\n";
}

sub text ($nginx) { return get($nginx, '/status?format=prometheus')->body }

# Of the text for Prometheus: { 'name{label="value",…}' => number }, labels in
# the order of their names; and { name => type }.
sub parse_text ($text) {
    my (%sample, %type);

    for (split /\n/, $text) {
        if (/^# TYPE (\w+) (\w+)$/) { $type{$1} = $2; next }
        next if /^# HELP \w+ \S/ || $_ eq '';

        my ($name, undef, $labels, $value) = /^(\w+)(\{(.*)\})? (\S+)$/ or die "not a sample: $_\n";
        my @labels;
        while (($labels //= '') =~ s/^(\w+)="((?:[^"\\\n]|\\["\\n])*)",?//) { push @labels, qq($1="$2") }
        die "labels: $labels in $_\n" if $labels ne '';
        my $key = $name . (@labels ? '{' . join(',', sort @labels) . '}' : '');
        die "twice: $key\n" if exists $sample{$key};
        $sample{$key} = $value;
    }
    return (\%sample, \%type);
}

sub escape ($value) { return $value =~ s/(["\\])/\\$1/gr =~ s/\n/\\n/gr }

# The expected text, if the JSON is correct.
sub samples_of ($status) {
    my %sample;
    my $put = sub ($name, $value, %labels) {
        my $labels = join ',', map { $_ . '="' . escape($labels{$_}) . '"' } sort keys %labels;
        $sample{ $name . ($labels ne '' ? "{$labels}" : '') } = $value;
    };

    $put->('vaani_info', 1, map { $_ => $status->{$_} } qw(version nginx));
    $put->('vaani_start_time_seconds', $status->{since} / 1000);
    $put->('vaani_received_bytes_total', $status->{bytes});
    $put->('vaani_in_flight', $status->{in_flight});
    $put->('vaani_calls', $status->{calls}{$_}, status => $_) for keys %{ $status->{calls} };
    $put->('vaani_reasons_total', $status->{reasons}{$_}, reason => $_) for keys %{ $status->{reasons} };
    $put->('vaani_transitions_total', $_->{count}, from => $_->{from}, to => $_->{to}) for @{ $status->{transitions} };
    for my $row (@{ $status->{deliveries} }) {
        $put->('vaani_deliveries_total', $row->{$_}, event => $row->{event}, result => $_) for RESULTS;
    }

    for my $redis (@{ $status->{redis} }) {
        my @server = (server => $redis->{server});
        my $times = $redis->{round_trip};
        my $below = 0;

        for my $worker (@{ $redis->{workers} }) {
            $put->('vaani_redis_connections', $worker->{connections}, @server, worker => $worker->{worker});
            $put->('vaani_redis_connections_ready', $worker->{ready}, @server, worker => $worker->{worker});
        }
        $put->('vaani_redis_commands', sum0(map { $_->{commands} } @{ $redis->{workers} }), @server);
        $put->('vaani_redis_waiting_bytes', sum0(map { $_->{bytes} } @{ $redis->{workers} }), @server);
        $put->("vaani_redis_${_}_total", $redis->{$_}, @server) for qw(connects disconnects redirects table_refreshes failovers);
        $put->("vaani_redis_$_", $redis->{$_}, @server) for qw(masters masters_down);
        for my $node (@{ $redis->{nodes} }) {
            $put->("vaani_redis_node_$_", $node->{$_}, @server, map { $_ => $node->{$_} } qw(node role)) for qw(connections ready slots);
        }
        $put->('vaani_redis_errors_total', $redis->{errors}{$_}, @server, code => $_) for keys %{ $redis->{errors} };

        for my $i (0 .. $#{ $times->{bounds} }) {
            $put->('vaani_redis_round_trip_seconds_bucket', $below += $times->{counts}[$i], @server,
                le => $times->{bounds}[$i] / 1e6);
        }
        $put->('vaani_redis_round_trip_seconds_bucket', $below + $times->{counts}[-1], @server, le => '+Inf');
        $put->('vaani_redis_round_trip_seconds_count', $redis->{replies}, @server);
        $put->('vaani_redis_round_trip_seconds_sum', $times->{sum} / 1e6, @server);
    }

    for my $spool (@{ $status->{spools} }) {
        $put->("vaani_spool_$_", $spool->{$_}, path => $spool->{path}) for qw(records bytes);
        $put->('vaani_spool_max_bytes', $spool->{max}, path => $spool->{path});
        $put->("vaani_spool_${_}_total", $spool->{$_}, path => $spool->{path}) for qw(appended replayed dead_letters refused);
        $put->("vaani_spool_$_", $spool->{$_}, path => $spool->{path}) for qw(dead_letters_bytes bad_bytes refused_bytes);
        $put->("vaani_spool_${_}_total", $spool->{$_}, path => $spool->{path}) for qw(refusals_kept refusals_dropped);
        $put->("vaani_spool_$_", $spool->{$_}, path => $spool->{path}) for qw(kept_bytes kept_seconds);
        $put->("vaani_spool_${_}_total", $spool->{$_}, path => $spool->{path})
            for qw(kept not_kept losses losses_beyond looked_at brought_back);
        $put->('vaani_spool_oldest_age_seconds', defined $spool->{oldest}
            ? ($status->{time} - $spool->{oldest}) / 1000 : 0, path => $spool->{path});
    }
    for my $drift (@{ $status->{drift} }) {
        $put->('vaani_drift_total', $drift->{count}, map { $_ => $drift->{$_} } qw(event kind name));
    }
    $put->('vaani_drift_total', $status->{drift_other}, map { $_ => 'other' } qw(event kind name));
    return \%sample;
}

# Numbers may be written in several ways (5e-05), and a series that is 0 may be
# left out where the JSON leaves it out, and the other way round.
sub agree ($nginx, $name) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;

    subtest $name => sub {
        my ($got, $want);

        # A worker that connects again in between counts, too.
        wait_for(sub {
            my $before = samples_of(status($nginx));
            ($got) = parse_text(text($nginx));
            $want = samples_of(status($nginx));
            return !grep { ($before->{$_} // '') ne ($want->{$_} // '') } grep { !/(?:age|kept)_seconds/ }
                uniq keys %$before, keys %$want;
        });
        my $canonical = sub ($samples) {
            return { map { (s/\ble="([^"+]+)"/'le="' . $1 * 1 . '"'/er => $samples->{$_}) } keys %$samples };
        };
        ($got, $want) = map { $canonical->($_) } $got, $want;

        my $sparse = qr/^vaani_(?:reasons|transitions|redis_errors)_total|^vaani_spool_oldest_age_seconds/;
        for my $key (uniq sort keys %$got, keys %$want) {
            my ($in_text, $in_json) = map { $_->{$key} } $got, $want;
            $_ //= $key =~ $sparse ? 0 : undef for $in_text, $in_json;

            if    (!defined $in_text) { fail "only in the JSON: $key" }
            elsif (!defined $in_json) { fail "only in the text: $key" }
            elsif ($key =~ /(?:age|kept)_seconds/) { cmp_ok abs($in_text - $in_json), '<', 5, $key }
            else  { ok abs($in_text - $in_json) <= 1e-6 + 1e-9 * abs($in_json), $key or diag "$in_text, $in_json" }
        }
    };
    return;
}

# { event => { result => n } }, without zeros.
sub deliveries ($status) {
    my %found;
    for my $row (@{ $status->{deliveries} }) {
        for my $result (RESULTS) {
            $found{ $row->{event} }{$result} = $row->{$result} if $row->{$result};
        }
    }
    return \%found;
}

sub total ($status, @results) {
    my %wanted = map { $_ => 1 } @results ? @results : RESULTS;
    return sum0(map { my $row = $_; map { $row->{$_} } grep { $wanted{$_} } RESULTS } @{ $status->{deliveries} });
}

sub transitions ($status) { return { map { ("$_->{from} $_->{to}" => $_->{count}) } @{ $status->{transitions} } } }
sub calls ($status) { return { map { ($_ => $status->{calls}{$_}) } grep { $status->{calls}{$_} } keys %{ $status->{calls} } } }
sub server ($status, $url) { return (grep { $_->{server} eq $url } @{ $status->{redis} })[0] }
sub ready ($status, $url) { return sum0(map { $_->{ready} } @{ (server($status, $url) // {})->{workers} // [] }) }
sub pids ($status, $url) { return map { $_->{pid} } @{ (server($status, $url) // {})->{workers} // [] } }

# A delivery is counted when it ends, which may be after its answer was read.
sub settles ($nginx, $what, $want, $name) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $got;
    wait_for(sub { $json->canonical->encode([ $got = $what->(status($nginx)) ]) eq $json->canonical->encode([$want]) }, 10);
    return is_deeply $got, $want, $name;
}

sub started (@more) { return event('call_started', room => new_room(), @more) }
sub ms () { return int(Time::HiRes::time() * 1000) }

sub answers ($response, $status) { return $response->body =~ /^\{"status":"$status"(?:,"known":false)?\}\n\z/ }

# Sent, and not waited for; the client.
sub send_event ($nginx, $uri, $body) {
    my $client = $nginx->http;
    $client->send_raw(join '', format_request(uri => $uri, body => $body, headers => { 'Content-Type' => 'application/json' }));
    return $client;
}

sub config ($redis, $more = '') {
    return <<"CONF";
        vaani_redis @{[ $redis->url ]};
        vaani_redis_connect_timeout 10s;
        vaani_redis_timeout 20s;

        server {
            listen unix:%%SOCK%%;
            keepalive_requests 1000000;
            client_max_body_size 100k;

            location = /hook   { vaani_webhook; }
            location = /status { vaani_status; }
            location = /health { vaani_health; }
            $more
        }
CONF
}

# --- what is there from the beginning

subtest 'a fresh nginx' => sub {
    my $redis = Vaani::Test::Redis->start;
    my $before = ms();
    my $nginx = Vaani::Test::Nginx->start(http => config($redis), workers => 2);
    my $after = ms();
    my $status = status($nginx);

    is_deeply [ map { $_->{event} } @{ $status->{deliveries} } ], [ @EVENTS, 'other', 'none' ], 'a row for each event';
    is total($status), 0, 'nothing was delivered';
    is_deeply [ sort keys %{ $status->{calls} } ], [ sort +STATUSES ], 'a number for each status';
    is_deeply calls($status), {}, '... which is 0';
    is_deeply $status->{transitions}, [], 'no transitions';
    is_deeply $status->{reasons}, {}, 'no reasons';
    is_deeply $status->{recent}, [], 'nothing recent';
    is_deeply $status->{spools}, [], 'no spool';
    is_deeply [ map { $_->{server} } @{ $status->{redis} } ], [ $redis->url ], 'one Redis';
    is $status->{$_}, 0, $_ for qw(bytes in_flight);

    # The clock of a worker is that of its last event.
    ok $status->{since} >= $before - 1000 && $status->{since} <= $after, 'since';
    ok $status->{time} >= $status->{since} && $status->{time} <= ms(), 'time';
    like $status->{version}, qr/^\d+\.\d+\.\d+$/, 'the version';
    my (undef, @output) = run([ nginx_bin(), '-V' ]);    # -v of a fork says its own
    like "@output", qr{nginx/\Q$status->{nginx}\E\b}, 'the version of nginx';

    my $times = $status->{redis}[0]{round_trip};
    is_deeply [ map { $times->{$_} } qw(p50 p90 p99 sum) ], [ undef, undef, undef, 0 ], 'no percentiles of nothing';
    is scalar @{ $times->{counts} }, @{ $times->{bounds} } + 1, 'one count more than bounds';
    is_deeply $times->{bounds}, [ sort { $a <=> $b } uniq @{ $times->{bounds} } ], 'bounds rise';
    settles $nginx, sub ($status) { scalar @{ $status->{redis}[0]{workers} } }, 2, 'two workers';
    agree($nginx, 'text and JSON agree');
};

# --- the results of deliveries

subtest 'deliveries' => sub {
    my $redis = Vaani::Test::Redis->start;
    my $nginx = Vaani::Test::Nginx->start(http => config($redis, <<'CONF'));
        vaani_validation strict;
        location = /known { vaani_webhook; vaani_unknown_event reject; }
        location = /down  { vaani_webhook; vaani_redis unix:%%DIR%%/none.sock; }
        location = /spool { vaani_webhook; vaani_redis unix:%%DIR%%/none.sock; vaani_spool %%DIR%%/spool; }
        location = /token { vaani_webhook; vaani_token $arg_token 0123456789abcdef; }
        location = /small { vaani_webhook; client_max_body_size 10; }
CONF
    my $http = $nginx->http(retry => 0);
    my (%want, %reasons);
    my $bytes = 0;
    my $post = sub ($uri, $body) { $bytes += length $body; return $http->post($uri, $body) };

    for my $n (0 .. $#EVENTS) {
        for (0 .. $n) {
            my $body = event($EVENTS[$n], room => new_room());
            ok answers($post->('/hook', $body), 'ok'), $EVENTS[$n];
            $want{ $EVENTS[$n] }{ok}++;
        }
        my $body = event($EVENTS[$n], room => new_room());
        $post->('/hook', $body) for 1 .. 3;
        $want{ $EVENTS[$n] }{ok}++;
        $want{ $EVENTS[$n] }{duplicate} += 2;
    }
    $post->('/hook', event('new_one', room => new_room())) for 1 .. 4;
    $want{other}{ok} = 4;
    settles $nginx, \&deliveries, \%want, 'ok and duplicate, by event';

    for my $n (0 .. $#EVENTS) {
        $post->('/down', event($EVENTS[$n], room => new_room())) for 0 .. $n % 3;
        $want{ $EVENTS[$n] }{unavailable} = 1 + $n % 3;
        $reasons{redis_down} += 1 + $n % 3;
        $post->('/spool', event($EVENTS[$n], room => new_room())) for 0 .. $n % 2;
        $want{ $EVENTS[$n] }{queued} = 1 + $n % 2;
        $reasons{redis_down} += 1 + $n % 2;
    }
    settles $nginx, \&deliveries, \%want, 'unavailable and queued, by event';
    is_deeply status($nginx)->{reasons}, \%reasons, 'their reasons';

    # They have the name of their event, if they have one.
    my $rejected = sub ($status) { return total($status, 'rejected') };
    $post->('/hook', '{'), $reasons{invalid_json}++ for 1 .. 2;
    $post->('/hook', '[]'), $reasons{not_an_object}++ for 1 .. 3;
    $post->('/hook', '{"event":"call_ended"}'), $reasons{missing_field}++;
    $post->('/hook', event('call_ended', call_duration => 'x')), $reasons{mistyped_field}++ for 1 .. 2;
    $post->('/hook', event('call_failed', status => 'active')), $reasons{contradictory_status}++;
    $post->('/known', event('new_one')), $reasons{unknown_event}++;
    settles $nginx, $rejected, 10, 'rejected';
    my %rejected = map { ($_->{event} => $_->{rejected}) } grep { $_->{rejected} } @{ status($nginx)->{deliveries} };
    is_deeply \%rejected, { none => 5, call_ended => 3, call_failed => 1, other => 1 }, '... by event';
    settles $nginx, sub ($status) { $status->{bytes} }, $bytes, 'bytes of bodies';

    my $none = sub ($status) { my ($row) = grep { $_->{event} eq 'none' } @{ $status->{deliveries} }; $row };
    my $before = $none->(status($nginx));
    $http->get('/hook'), $reasons{method}++;
    $http->post('/hook', 'x', 'Content-Type' => 'text/plain'), $reasons{content_type}++;
    $http->post('/token', started()), $reasons{missing_token}++;
    $http->post('/token?token=' . CANARY, started()), $reasons{wrong_token}++ for 1 .. 2;
    $nginx->http->post('/small', started()), $reasons{body_too_large}++ for 1 .. 3;
    $nginx->http->request(uri => '/small', body => started(), chunked => 1), $reasons{body_too_large}++;
    settles $nginx, $none, { %$before, rejected => $before->{rejected} + 6, unauthorized => 3 }, 'those without an event';
    settles $nginx, sub ($status) { $status->{reasons} }, \%reasons, 'all reasons';

    ok answers($http->post('/token?token=0123456789abcdef', started()), 'ok'), 'with the token';
    $want{call_started}{ok}++;
    settles $nginx, sub ($status) { deliveries($status)->{call_started} }, $want{call_started}, '... it counts as any other';

    # A body that does not come to its end, or is broken.
    my ($head, $body) = format_request(uri => '/hook', body => started());
    for my $case ([ 'a client that leaves' => substr($head . $body, 0, -5) ],
        [ 'a malformed chunk' => ($head =~ s/^Content-Length:.*\r\n/Transfer-Encoding: chunked\r\n/mr) . "xyz\r\n" ])
    {
        my ($name, $request) = @$case;
        $before = status($nginx)->{reasons}{body_unreadable} // 0;
        my $client = $nginx->http;
        $client->send_raw($request);
        $client->close if $name =~ /leaves/;
        settles $nginx, sub ($status) { $status->{reasons}{body_unreadable} // 0 }, $before + 1, $name;
    }
    is $none->(status($nginx))->{none}, 0, 'each of them has a result';

    agree($nginx, 'text and JSON agree');
};

subtest 'several events, and what is none' => sub {
    my $redis = Vaani::Test::Redis->start;
    my $nginx = Vaani::Test::Nginx->start(allow_log => qr/connect\(\)|upstream/, http => config($redis, <<"CONF"));
        location = /gone {
            proxy_pass http://unix:%%DIR%%/none.sock;
            proxy_request_buffering off;
            proxy_http_version 1.1;
            error_page 502 = \@hook;
        }
        location \@hook { vaani_webhook; }
CONF
    my $http = $nginx->http(retry => 0);
    my @events = (event('call_ended', room => new_room()), event('new_one', room => new_room()), '{"event":"call_failed"}', '[]');
    $http->post('/hook', '{"event":"batch","events":[' . join(',', @events) . ']}');
    my %want = (call_ended => { ok => 1 }, other => { ok => 1 }, call_failed => { rejected => 1 }, none => { rejected => 1 });
    settles $nginx, \&deliveries, \%want, 'each event counts, with its name';

    my %reasons = %{ status($nginx)->{reasons} };
    is $reasons{missing_field}, 1, 'reasons, too';
    my $reason = sub ($name, $status, $response) {
        is $response->status, $status, $name;
        settles $nginx, sub ($status) { $status->{reasons}{$name} }, ($reasons{$name} // 0) + 1, '... is counted';
    };
    $reason->(invalid_event => 422, $http->post('/hook', event('x' x 257)));
    $reason->(too_many_events => 422, $http->post('/hook', '{"event":"x","events":[' . join(',', ('{}') x 101) . ']}'));
    $reason->(nested_events => 422, $http->post('/hook', '{"event":"x","events":[{"event":"call_ended","events":[{}]}]}'));

    my $client = $nginx->http;
    my ($head, $body) = format_request(uri => '/gone', body => started(filling => 'x' x 9000));
    $client->send_raw($head . substr $body, 0, 100);
    $reason->(body_consumed => 500, $client->read_response);
    agree($nginx, 'text and JSON agree');
};

# --- calls

subtest 'calls and transitions' => sub {
    my $redis = Vaani::Test::Redis->start;
    my $nginx = Vaani::Test::Nginx->start(http => config($redis));
    my $http = $nginx->http(retry => 0);
    my $client = $redis->client;
    my $subscriber = $redis->client->subscribe('vaani:events');
    my (%want, $end);

    # The messages and the hashes tell it.
    my $count_messages = sub ($number) {
        for my $message ($subscriber->next_messages($number, 30)) {
            my $transition = $json->decode($message->{payload});
            $want{ join ' ', $transition->{previous_status} // 'none', $transition->{status} }++;
        }
    };
    my $statuses = sub () {
        my %count;
        $count{ $client->cmd('HGET', $_, 'status') }++ for @{ $client->cmd('KEYS', 'vaani:call:*') };
        return \%count;
    };

    # Forwards and backwards, one event of all calls after the other.
    my @calls = map { my $path = $_; [ call_path($path, new_room()) ], [ reverse call_path($path, new_room()) ] } sort keys %CALL_PATHS;

    for (my $i = 0;; $i++) {
        my @bodies = map { $_->[$i] // () } @calls or last;
        my $sent = grep { answers($http->post('/hook', $_), 'ok') } @bodies;
        is $sent, @bodies, 'events number ' . ($i + 1);
        $count_messages->($sent);
        settles $nginx, \&calls, $statuses->(), '... calls by status, as in Redis';
        settles $nginx, \&transitions, {%want}, '... transitions, as published';
    }

    # Duplicates and unknown events are no transitions.
    $http->post('/hook', $_->[-1]) for @calls[ 0 .. 4 ];
    $http->post('/hook', event('new_one', room => new_room()));
    settles $nginx, \&transitions, \%want, 'no transition';
    is_deeply calls(status($nginx)), $statuses->(), '... and no call';

    # Calls whose beginning was counted by another nginx.
    my $second = Vaani::Test::Nginx->start(http => config($redis));
    my @rooms = map { new_room() } 1 .. 3;
    $http->post('/hook', event('call_started', room => $_)) for @rooms;
    $second->http->post('/hook', event('call_ringing', room => $_)) for @rooms;
    settles $second, \&transitions, { 'dialing ringing' => 3 }, 'calls of another nginx';
    settles $second, \&calls, { dialing => -3, ringing => 3 }, '... leave one status here that they entered there';
    my ($one, $two) = map { calls(status($_)) } $nginx, $second;
    $one->{$_} += $two->{$_} for keys %$two;
    is_deeply { map { $_ => $one->{$_} } grep { $one->{$_} } keys %$one }, $statuses->(), '... so that the sum is right';

    # And one that was there before: what its next transition brings.
    my $third = Vaani::Test::Nginx->start(http => config($redis));
    $third->http->post('/hook', event('user_picked_up_at', room => $_)) for @rooms;
    settles $third, \&transitions, { 'unknown active' => 3 }, 'calls from before';
    settles $third, \&calls, { active => 3 }, '... are counted from here on';
    agree($nginx, 'text and JSON agree');
};

# --- Redis

subtest 'the time of Redis' => sub {
    my $redis = Vaani::Test::Redis->start;
    my $nginx = Vaani::Test::Nginx->start(http => config($redis));
    my $http = $nginx->http(retry => 0);

    $http->post('/hook', started()) for 1 .. 50;
    settles $nginx, sub ($status) { $status->{redis}[0]{replies} }, 50, 'a reply for each event';

    my $check = sub ($name) {
        my $server = status($nginx)->{redis}[0];
        my $times = $server->{round_trip};
        my @bounds = (0, @{ $times->{bounds} });

        is sum0(@{ $times->{counts} }), $server->{replies}, "$name: the counts add up";

        # Between what it would be if all were at the lower, or the upper bound.
        my $least = sum0(map { $times->{counts}[$_] * $bounds[$_] } 0 .. $#bounds);
        my $most = sum0(map { $times->{counts}[$_] * ($bounds[ $_ + 1 ] // 60e6) } 0 .. $#bounds);
        ok $least <= $times->{sum} && $times->{sum} <= $most, '... the sum is between them' or diag "$least $times->{sum} $most";

        for my $case ([ p50 => 0.5 ], [ p90 => 0.9 ], [ p99 => 0.99 ]) {
            my ($percentile, $share) = @$case;
            my ($below, $bucket) = (0, 0);
            $bucket++ while ($below += $times->{counts}[$bucket]) < $share * $server->{replies};
            my $value = $times->{$percentile};
            ok $value >= $bounds[$bucket] && $value <= ($bounds[ $bucket + 1 ] // $value), "... $percentile is in its bucket"
                or diag "$value, bucket $bucket";
        }
        return $times;
    };
    my $before = $check->('fast');
    cmp_ok $before->{p50}, '<', 1e6, '... and no second';

    # As slow as we want it.
    $redis->suspend;
    my $waiting = send_event($nginx, '/hook', started());
    settles $nginx, sub ($status) { $status->{in_flight} }, 1, 'one is under way';
    my $start = now();
    wait_for(sub { now() - $start > 0.12 });
    $redis->resume;
    is $waiting->read_response->status, 200, 'a slow one';
    settles $nginx, sub ($status) { $status->{redis}[0]{replies} }, 51, '... is counted';
    my $after = $check->('slow');
    cmp_ok $after->{sum} - $before->{sum}, '>=', 0.11e6, '... with its time';

    is text($nginx) =~ /^vaani_redis_round_trip_seconds_bucket\{[^}]*le="\+Inf"[^}]*\} (\d+)$/m && $1, 51, 'the last bucket';
    agree($nginx, 'text and JSON agree');
};

subtest 'Redis goes and comes' => sub {
    my $redis = Vaani::Test::Redis->start(tcp => 1);
    my $nginx = Vaani::Test::Nginx->start(http => config($redis), workers => 2);
    my $http = $nginx->http;
    my $url = $redis->url;
    my $ready = sub ($status) { return ready($status, $url) };

    # Each of them connects with its first event, if not before.
    ok wait_for(sub { $nginx->http->post('/hook', started()); $ready->(status($nginx)) == 2 }), 'both workers are connected';
    my $up = server(status($nginx), $url);
    is_deeply [ map { $_->{worker} } @{ $up->{workers} } ], [ 0, 1 ], 'the workers';
    is_deeply [ sort { $a <=> $b } map { $_->{pid} } @{ $up->{workers} } ], [ $nginx->worker_pids ], '... their pids';
    is_deeply [ map { @$_{qw(connections ready error error_at)} } @{ $up->{workers} } ], [ (1, 1, undef, undef) x 2 ], '... are ready';
    is $up->{connects}, 2, 'two connections were made';
    is $up->{disconnects}, 0, 'none has ended';

    $redis->kill;
    settles $nginx, $ready, 0, 'Redis is gone';
    wait_for(sub { (server(status($nginx), $url)->{errors}{connect} // 0) > 0 });
    my $down = server(status($nginx), $url);
    is $down->{disconnects}, 2, '... two connections have ended';
    cmp_ok $down->{errors}{connect} // 0, '>', 0, '... and attempts have failed';
    for my $worker (@{ $down->{workers} }) {
        ok wait_for(sub { (server(status($nginx), $url)->{workers}[ $worker->{worker} ]{error} // '') =~ /is unreachable/ }),
            '... why';
        ok $worker->{since} >= $up->{workers}[ $worker->{worker} ]{since}, '... since when';
    }

    is $http->post('/hook', started())->status, 503, 'an event';
    settles $nginx, sub ($status) { total($status, 'unavailable') }, 1, '... is counted';

    $redis->restart;
    ok wait_for(sub { $ready->(status($nginx)) == 2 }), 'Redis is back';
    cmp_ok server(status($nginx), $url)->{connects}, '>=', 4, '... with new connections';

    # Error replies, by their code.
    $redis->client->cmd('CONFIG', 'SET', 'maxmemory', 1);
    is $http->post('/hook', started())->status, 503, 'Redis is full';
    settles $nginx, sub ($status) { server($status, $url)->{errors}{OOM} }, 1, '... its code';
    $redis->client->cmd('CONFIG', 'SET', 'maxmemory', 0);
    $redis->client->cmd('SET', 'vaani:call:no-hash', 1);
    is $http->post('/hook', event('call_started', room => 'no-hash'))->status, 503, 'a key of another type';
    settles $nginx, sub ($status) { server($status, $url)->{errors}{WRONGTYPE} }, 1, '... its code';

    agree($nginx, 'text and JSON agree');
};

subtest 'commands without a reply' => sub {
    my $redis = Vaani::Test::Redis->start;
    my $config = config($redis) =~ s/vaani_redis_timeout 20s/vaani_redis_timeout 60ms/r;
    my $nginx = Vaani::Test::Nginx->start(http => $config);
    my $http = $nginx->http;

    is $http->post('/hook', started())->status, 200, 'connected';
    $redis->suspend;
    is $http->post('/hook', started())->status, 503, 'no reply';
    settles $nginx, sub ($status) { $status->{redis}[0]{errors}{timeout} }, 1, '... is counted';
    settles $nginx, sub ($status) { $status->{reasons}{redis_timeout} }, 1, '... with its reason';
    $redis->resume;
};

subtest 'what is under way' => sub {
    my $redis = Vaani::Test::Redis->start;
    my $nginx = Vaani::Test::Nginx->start(http => config($redis), workers => 2);
    my $http = $nginx->http;
    my $commands = sub ($status) { [ $status->{in_flight}, sum0(map { $_->{commands} } @{ $status->{redis}[0]{workers} }) ] };

    $http->post('/hook', started()) for 1 .. 3;
    $redis->suspend;
    my @clients = map { send_event($nginx, '/hook', started()) } 1 .. 20;
    settles $nginx, $commands, [ 20, 20 ], 'twenty wait';
    cmp_ok sum0(map { $_->{bytes} } @{ status($nginx)->{redis}[0]{workers} }), '>', 2000, '... and have a size';
    is total(status($nginx)), 3, '... and are no deliveries yet';
    agree($nginx, 'text and JSON agree');

    $_->close for splice @clients, 0, 5;
    $redis->resume;
    is scalar(grep { $_->read_response->status == 200 } @clients), 15, 'those that stay are answered';
    settles $nginx, $commands, [ 0, 0 ], 'nothing waits';
    settles $nginx, \&total, 23, 'all are deliveries';
};

# --- the spool

subtest 'an event that is stuck' => sub {
    my $redis = Vaani::Test::Redis->start;
    my $password = spew(tmpdir() . '/stuck', "secret\n");
    chmod 0600, $password or die "chmod: $!\n";
    $redis->client->cmd(qw(ACL SETUSER stuck on >secret ~* &* +@all));
    my $config = config($redis, <<"CONF");
        location = /spool {
            vaani_webhook;
            vaani_redis @{[ $redis->url ]}?user=stuck;
            vaani_redis_password_file $password;
            vaani_spool %%DIR%%/spool;
        }
CONF
    my $start = sub ($main) { return Vaani::Test::Nginx->start(main => $main, http => $config) };
    my ($nginx, $set) = on_bad_disk('*/spool/*.log', $start);
    $nginx //= $start->('');
    my $numbers = sub ($status) { return [ @{ $status->{spools}[0] }{qw(records appended replayed)} ] };

    $redis->client->cmd('REPLICAOF', '127.0.0.1', '1');
    ok answers($nginx->http->post('/spool', event('call_started', room => $_)), 'queued'), "$_ is queued" for qw(ok-1 other ok-2);
    settles $nginx, $numbers, [ 3, 3, 0 ], 'three wait';
    $redis->client->cmd(qw(ACL SETUSER stuck resetkeys ~vaani:call:ok*));
    $set->(frozen_syncs => 1) if $set;
    $redis->client->cmd('REPLICAOF', 'NO', 'ONE');
    settles $nginx, $numbers, [ 1, 3, 2 ], 'one is left, also while it is written again';
    $set->(frozen_syncs => 0) if $set;
    settles $nginx, $numbers, [ 1, 3, 2 ], '... and after that';

    # It is tried again and again, which does not make it more events.
    for (1 .. 2) {
        ok $nginx->reload(wait_old => 1), 'a reload';
        settles $nginx, $numbers, [ 1, 3, 2 ], 'one is left';
    }
    $redis->client->cmd(qw(ACL SETUSER stuck allkeys));
    settles $nginx, sub ($status) { $status->{spools}[0]{records} }, 0, 'none is left';
    cmp_ok $redis->client->cmd('HGET', 'vaani:call:other', 'seq'), '==', 1, '... and it has arrived';
};

subtest 'the spool' => sub {
    my $redis = Vaani::Test::Redis->start;
    # Nothing of a name breaks an output.
    my $name = 'a "b" <c>&\'d';
    my $nginx = Vaani::Test::Nginx->start(http => config($redis, <<"CONF"));
        location = /spool { vaani_webhook; vaani_spool "%%DIR%%/a \\"b\\" <c>&'d" max=20k; }
CONF
    my $path = $nginx->dir . "/$name";
    my $http = $nginx->http;
    my $spool = sub ($status) { return $status->{spools}[0] };
    my $numbers = sub ($status) { return [ @{ $status->{spools}[0] }{qw(records appended replayed dead_letters refused)} ] };

    is_deeply $spool->(status($nginx)), {
        path => $path, records => 0, bytes => 0, max => 20480, oldest => undef,
        appended => 0, replayed => 0, dead_letters => 0, refused => 0,
        dead_letters_bytes => 0, bad_bytes => 0, refused_bytes => 0, refusals_kept => 0, refusals_dropped => 0,
        retain => 0, kept_bytes => 0, kept_seconds => 0, kept => 0, not_kept => 0,
        losses => 0, losses_beyond => 0, looked_at => 0, brought_back => 0,
    }, 'empty';

    my $before = ms();
    $redis->client->cmd('REPLICAOF', '127.0.0.1', '1');
    ok answers($http->post('/spool', started()), 'queued'), 'queued' for 1 .. 3;
    settles $nginx, $numbers, [ 3, 3, 0, 0, 0 ], 'three wait';
    my $now = $spool->(status($nginx));
    is $now->{bytes}, sum0(map { -s $_ } glob_in($path)), 'the bytes are those of the files';
    # An age in whole seconds of one clock, subtracted from whole seconds of another.
    ok $now->{oldest} >= $before - 2000 && $now->{oldest} <= ms(), 'the oldest';
    agree($nginx, 'text and JSON agree');

    # Until it is full.
    my $answer;
    1 while ($answer = $http->post('/spool', event('call_started', room => new_room(), filling => 'x' x 4000)))->status == 200;
    is $answer->status, 503, 'full';
    my ($full) = $spool->(status($nginx));
    cmp_ok $full->{refused}, '>', 0, '... events are refused';
    is $full->{records}, $full->{appended}, '... and those before wait';

    # Kept over a reload, and replayed by the new worker.
    ok $nginx->reload(wait_old => 1), 'reload';
    is_deeply $numbers->(status($nginx)), [ @$full{qw(records appended replayed dead_letters refused)} ], '... keeps it';

    $redis->client->cmd('REPLICAOF', 'NO', 'ONE');
    settles $nginx, $numbers, [ 0, $full->{appended}, $full->{appended}, 0, $full->{refused} ], 'all are replayed';
    settles $nginx, sub ($status) { $spool->($status)->{oldest} }, undef, '... nothing is old';

    # Refused for good.
    $redis->client->cmd('SET', 'vaani:call:no-hash', 1);
    ok answers($http->post('/spool', event('call_started', room => 'no-hash')), 'queued'), 'what Redis refuses';
    settles $nginx, sub ($status) { $status->{spools}[0]{dead_letters} }, 1, '... is a dead letter';
    settles $nginx, sub ($status) { $status->{spools}[0]{records} }, 0, '... and waits no more';
    agree($nginx, 'text and JSON agree');

    # Records on disk at the start are known by their size.
    $redis->client->cmd('REPLICAOF', '127.0.0.1', '1');
    ok answers($http->post('/spool', started()), 'queued'), 'queued' for 1 .. 2;
    $nginx->restart;
    is_deeply [ map { $_->{records}, $_->{bytes} > 0, $_->{oldest} > 0 } $spool->(status($nginx)) ], [ 0, 1, 1 ],
        'what was there before nginx';
    $redis->client->cmd('REPLICAOF', 'NO', 'ONE');
    settles $nginx, sub ($status) { [ @{ $status->{spools}[0] }{qw(bytes oldest replayed)} ] }, [ 0, undef, 2 ], '... is replayed';

    my ($samples, undef) = parse_text(text($nginx));
    ok exists $samples->{ 'vaani_spool_records{path="' . escape($path) . '"}' }, 'the path, escaped';
    my $page = get($nginx, '/status?format=html')->body;
    ok index($page, '<c>') < 0, '... in the page, too';
};

subtest 'a spool that keeps what Redis has' => sub {
    my $redis = Vaani::Test::Redis->start(acl => RETAIN);
    my $nginx = Vaani::Test::Nginx->start(workers => 2, http => config($redis, <<'CONF'));
        location = /spool { vaani_webhook; vaani_spool %%DIR%%/spool retain=1h; }
CONF
    my $dir = $nginx->dir . '/spool';
    my $http = $nginx->http;
    my $spool = sub ($status) { return $status->{spools}[0] };
    my $numbers = sub ($status) { return [ @{ $spool->($status) }{qw(kept losses_beyond brought_back)} ] };

    is $spool->(status($nginx))->{retain}, 3600, 'retain';
    for (1 .. 20) {
        ok answers($http->post('/spool', started()), 'ok'), 'an event';
    }
    settles $nginx, $numbers, [ 20, 0, 0 ], 'events are kept';
    my $now = $spool->(status($nginx));
    is $now->{bytes}, 0, '... none waits';
    is $now->{kept_bytes}, sum0(map { -s $_ } glob_in($dir, 'kept')), '... the bytes are those of the files';
    is $now->{losses}, 0, '... no loss';
    settles $nginx, sub ($status) { $spool->($status)->{kept_seconds} > 0 ? 1 : 0 }, 1, '... they grow old';
    agree($nginx, 'text and JSON agree');

    # Redis forgets them.
    $redis->client->cmd('FLUSHALL');
    ok answers($http->post('/spool', started()), 'ok'), 'an event after FLUSHALL';
    settles $nginx, $numbers, [ 21, 0, 20 ], '20 events are brought back';
    is scalar @{ $redis->client->cmd('KEYS', 'vaani:call:*') }, 21, '... and are in Redis';
    # It is counted when all that was looked at is in Redis.
    settles $nginx, sub ($status) { $spool->($status)->{losses} > 0 ? 1 : 0 }, 1, '... a loss';
    $now = $spool->(status($nginx));
    cmp_ok $now->{looked_at}, '>=', 20, '... of those that were sent';
    agree($nginx, 'text and JSON agree');

    # The disk takes nothing more, nor does the error log. One that is slow may
    # have missed events before.
    my $missed = $now->{not_kept};
    run([ 'prlimit', "--pid=$_", '--fsize=1:1' ]) for $nginx->worker_pids;
    ok answers($http->post('/spool', started()), 'ok'), 'an event that the disk does not take';
    settles $nginx, sub ($status) { $spool->($status)->{not_kept} > $missed ? 1 : 0 }, 1, '... is not kept';
    is_deeply $numbers->(status($nginx)), [ 21, 0, 20 ], '... and nothing else';
    agree($nginx, 'text and JSON agree');
};

sub glob_in ($dir, $ext = 'log') {
    opendir my $dh, $dir or die "opendir: $!\n";
    return map { "$dir/$_" } grep { /\.$ext$/ } readdir $dh;
}

# --- workers, reloads, crashes

subtest 'several workers, and a reload' => sub {
    my $redis = Vaani::Test::Redis->start;
    my $nginx = Vaani::Test::Nginx->start(http => config($redis), workers => 3);
    my $url = $redis->url;

    post_many($nginx->sock, '/hook', [ map { started() } 1 .. 300 ], connections => 30);
    settles $nginx, \&total, 300, 'all workers count';
    settles $nginx, sub ($status) { $status->{redis}[0]{replies} }, 300, '... replies, too';
    settles $nginx, \&calls, { dialing => 300 }, '... and calls';
    my $since = status($nginx)->{since};
    my @old = pids(status($nginx), $url);
    is scalar(uniq @old), 3, 'three of them';

    # An old worker has one under way, and new ones take others.
    $redis->suspend;
    my $waiting = send_event($nginx, '/hook', my $body = started());
    settles $nginx, sub ($status) { $status->{in_flight} }, 1, 'one under way';
    ok $nginx->reload, 'reload';
    my $new = send_event($nginx, '/hook', started());
    settles $nginx, sub ($status) { $status->{in_flight} }, 2, 'one in an old worker, one in a new one';
    $redis->resume;
    is $_->read_response->status, 200, 'answered' for $waiting, $new;
    settles $nginx, \&total, 302, 'old and new workers count in the same numbers';
    settles $nginx, sub ($status) { $status->{in_flight} }, 0, '... nothing is under way';
    is status($nginx)->{since}, $since, '... since the same time';

    ok $nginx->wait_pids_gone(\@old), 'the old workers leave';
    post_many($nginx->sock, '/hook', [ map { started() } 1 .. 30 ], connections => 30);
    settles $nginx, sub ($status) { [ sort { $a <=> $b } pids($status, $url) ] }, [ $nginx->worker_pids ], 'the new pids';
    settles $nginx, sub ($status) { sum0(map { $_->{connections} } @{ $status->{redis}[0]{workers} }) }, 3,
        '... and no connections of those who left';

    # Duplicates are still known by their calls, and so are those.
    ok answers($nginx->http->post('/hook', $body), 'duplicate'), 'a duplicate after it';
    settles $nginx, \&calls, { dialing => 332 }, '... is no call';

    # Fewer workers, and more.
    for my $workers (1, 4) {
        ok $nginx->reload(workers => $workers, wait_old => 1), "reload with $workers";
        post_many($nginx->sock, '/hook', [ map { started() } 1 .. 20 ], connections => 20);
        settles $nginx, sub ($status) { scalar grep { $_->{connections} > 0 || $_->{ready} > 0 } @{ $status->{redis}[0]{workers} } },
            $workers, '... so many are shown with connections';
    }
    settles $nginx, \&total, 373, 'and all was kept';
    agree($nginx, 'text and JSON agree');
};

subtest 'another layout, and a restart' => sub {
    my $redis = Vaani::Test::Redis->start;
    my $other = Vaani::Test::Redis->start;
    my $nginx = Vaani::Test::Nginx->start(http => config($redis));
    $nginx->http->post('/hook', started()) for 1 .. 20;
    settles $nginx, \&total, 20, 'twenty';
    my $before = status($nginx);

    my $sane = sub ($name, @servers) {
        my $status = status($nginx);
        cmp_ok $status->{since}, '>', $before->{since}, "$name: since";
        is total($status), 0, '... counters begin anew';
        is_deeply calls($status), {}, '... calls, too';
        is_deeply [ $status->{transitions}, $status->{reasons}, $status->{recent} ], [ [], {}, [] ], '... and lists';
        is_deeply [ sort map { $_->{server} } @{ $status->{redis} } ], [ sort @servers ], '... of these servers';
        for my $server (@{ $status->{redis} }) {
            is $server->{$_}, 0, "... $_" for qw(replies disconnects);
            is sum0(@{ $server->{round_trip}{counts} }), 0, '... no round trips';
            is_deeply $server->{errors}, {}, '... no errors';
            is_deeply [ grep { $_->{connections} > 1 || $_->{commands} || $_->{bytes} || defined $_->{error} }
                @{ $server->{workers} } ], [], '... no garbage of workers';
        }
        agree($nginx, '... text and JSON agree');
        $before = $status;
    };

    # since has milliseconds: not within the same one.
    my $more = "location = /other { vaani_webhook; vaani_redis @{[ $other->url ]}; }";
    ok $nginx->reload(http => config($redis, $more), wait_old => 1), 'another vaani_redis';
    $sane->('another Redis', $redis->url, $other->url);
    is $nginx->http->post('/other', started())->status, 200, 'it takes events';
    settles $nginx, sub ($status) { server($status, $other->url)->{replies} }, 1, '... and counts them';
    is server(status($nginx), $redis->url)->{replies}, 0, '... there alone';

    my $spool = 'location = /spool { vaani_webhook; vaani_spool %%DIR%%/spool; }';
    ok $nginx->reload(http => config($redis, $spool), wait_old => 1), 'a spool, and one Redis less';
    $sane->('a spool', $redis->url);
    is scalar @{ $before->{spools} }, 1, '... which is there';

    $nginx->http->post('/hook', started()) for 1 .. 5;
    settles $nginx, \&total, 5, 'five';
    $nginx->restart;
    $sane->('a restart', $redis->url);
};

# The numbers of workers that still use an older configuration stay separate.
subtest 'another layout, and work under way' => sub {
    my ($one, $two) = map { Vaani::Test::Redis->start } 1 .. 2;
    my $nginx = Vaani::Test::Nginx->start(http => config($one), allow_log => qr/bind\(\) to|still could not bind/);
    $nginx->http->post('/hook', started()) for 1 .. 3;
    settles $nginx, \&total, 3, 'three';
    my $before = status($nginx);

    # A reload that fails, after the memory was set up.
    my $port = free_port();
    my $listener = IO::Socket::INET->new(LocalAddr => "127.0.0.1:$port", Listen => 1) or die "listen: $!\n";
    ok !$nginx->reload(http => config($two) . " server { listen 127.0.0.1:$port; }"), 'a reload that fails';
    ok $nginx->wait_log(qr/still could not bind/), '... for good';
    is_deeply [ map { status($nginx)->{$_} } qw(since bytes transitions) ], [ map { $before->{$_} } qw(since bytes transitions) ],
        '... changes nothing';
    is_deeply [ pids(status($nginx), $one->url) ], [ pids($before, $one->url) ], '... workers are known';

    $one->suspend;
    my $waiting = send_event($nginx, '/hook', started());
    settles $nginx, sub ($status) { $status->{in_flight} }, 1, 'one under way';
    my @old = $nginx->worker_pids;
    ok $nginx->reload(http => config($two)), 'a reload that does not fail';
    $one->resume;
    is $waiting->read_response->status, 200, 'answered by the old worker';
    ok $nginx->wait_pids_gone(\@old), 'which goes';
    my $status = status($nginx);
    is_deeply [ @$status{qw(in_flight bytes)}, total($status) ], [ 0, 0, 0 ], 'nothing of it is in the new numbers';
    is_deeply [ map { @$_{qw(commands bytes)} } @{ server($status, $two->url)->{workers} } ], [ 0, 0 ], '... nor in its Redis';
};

subtest 'a restart while events wait' => sub {
    my $redis = Vaani::Test::Redis->start;
    my $config = config($redis, 'vaani_spool %%DIR%%/spool;');
    my $nginx = Vaani::Test::Nginx->start(http => $config);
    my $room = new_room();

    $redis->stop;
    ok wait_for(sub { $nginx->http->get('/health')->body =~ /queueing/ }), 'Redis is away';
    $nginx->http->post('/hook', event($_, room => $room)) for qw(call_started call_ringing user_picked_up_at);
    $nginx->stop;
    $redis->restart;
    $nginx->restart;
    settles $nginx, sub ($status) { $status->{spools}[0]{replayed} }, 3, 'they are replayed';
    is_deeply status($nginx)->{transitions}, [], '... and were no transitions of this nginx';
    $nginx->http->post('/hook', event('call_ended', room => $room));
    settles $nginx, \&calls, { ended => 1 }, 'the call is where it is, and nowhere else';
};

# Prometheus refuses two series with the same labels.
subtest 'one server, several times' => sub {
    my $redis = Vaani::Test::Redis->start(config => ['databases 4']);
    my ($url, $n) = ($redis->url, 0);
    my @settings = ("$url?db=1;", "$url?db=1; vaani_redis_timeout 19s;", "$url?db=2;");
    my $nginx = Vaani::Test::Nginx->start(http => config($redis, join '',
        map { $n++; "location = /hook$n { vaani_webhook; vaani_redis $_ }" } @settings));

    $nginx->http->post("/hook$_", started()) for 1, 2, 2, 3, 3, 3;
    settles $nginx, sub ($status) { +{ map { $_->{server} => $_->{replies} } @{ $status->{redis} } } },
        { $url => 0, "$url/1" => 1, "$url/1#2" => 2, "$url/2" => 3 }, 'each has a name';
    my %seen;
    my @twice = grep { $seen{$_}++ } map { /^(vaani_\S+\{.*\}) / } split /\n/, text($nginx);
    is_deeply \@twice, [], 'no series comes twice';
};

subtest 'a worker is killed' => sub {
    my $redis = Vaani::Test::Redis->start;
    my $nginx = Vaani::Test::Nginx->start(http => config($redis));
    $nginx->allow_log(qr/exited on signal 9/);
    my $url = $redis->url;

    $nginx->http->post('/hook', started()) for 1 .. 10;
    settles $nginx, \&total, 10, 'ten';
    my $since = status($nginx)->{since};

    for my $round (1 .. 3) {
        $redis->suspend;
        my @clients = map { send_event($nginx, '/hook', started()) } 1 .. 5;
        settles $nginx, sub ($status) { $status->{in_flight} }, 5, 'five under way';
        my ($pid) = $nginx->worker_pids;
        kill KILL => $pid;
        ok $nginx->wait_pids_gone([$pid]), '... and their worker is gone';
        ok wait_for(sub { my @pids = $nginx->worker_pids; @pids == 1 && $pids[0] != $pid }), '... another one comes';
        $redis->resume;

        settles $nginx, sub ($status) { $status->{in_flight} }, 0, '... nothing is under way';
        ok wait_for(sub { $nginx->http->post('/hook', started())->status == 200 }), '... events come through';
        settles $nginx, sub ($status) { [ pids($status, $url) ] }, [ $nginx->worker_pids ], '... from the new pid';
        settles $nginx, sub ($status) { my ($worker) = @{ $status->{redis}[0]{workers} }; [ @$worker{qw(connections ready commands bytes)} ] },
            [ 1, 1, 0, 0 ], '... with its connection, and nothing of the old one';
        is status($nginx)->{since}, $since, '... counters are kept';
        settles $nginx, \&total, 10 + $round, '... and right';
    }
    agree($nginx, 'text and JSON agree');
};

# --- the outputs

my $secretive = Vaani::Test::Redis->start(tcp => 1, password => CANARY . '-password');
my $rich_config = config($secretive, <<"CONF") =~ s{vaani_redis redis://}{vaani_redis redis://:@{[ CANARY ]}-password\@}r;
    location = /token { vaani_webhook; vaani_token \$arg_token @{[ CANARY ]}-token; }
    location = /spool { vaani_webhook; vaani_redis unix:%%DIR%%/none.sock; vaani_spool %%DIR%%/spool; }
CONF
my $nginx = Vaani::Test::Nginx->start(http => $rich_config);
my $http = $nginx->http(retry => 0);
my @hostile = (
    CANARY, CANARY . '<script>alert(1)</script>', CANARY . "\"}\\", CANARY . "\x{e9}\x{1f600}", CANARY . '{{x}}',
    CANARY . '" 1\\n', '%' . CANARY,
);

for my $value (@hostile) {
    $http->post('/hook', event($_, room => $value, transcript => $value, phone_number => $value, error => $value)) for @EVENTS;
    $http->post('/hook', event('news', room => $value, news => $value));
    $http->post('/hook', event('call_started', room => "$value\n"));
    $http->post('/hook', "{\"event\":\"call_ended\",\"room_name\":\"" . CANARY . '",' . CANARY);
    $http->post('/token?token=' . CANARY . '-wrong', event('call_started', room => $value), 'X-Token' => CANARY);
    $http->post('/token?token=' . CANARY . '-token', event('call_ringing', room => $value));
    $http->post('/spool', event('call_started', room => $value));
    $http->request(method => 'POST', uri => '/hook?' . CANARY, body => CANARY, headers => { 'Content-Type' => CANARY });
}

subtest 'nothing of a body, a token or a password is shown' => sub {
    ok wait_for(sub { total(status($nginx), 'queued') == @hostile }), 'all was sent';
    for my $format (qw(json prometheus html)) {
        my $response = get($nginx, "/status?format=$format&x=" . CANARY, 'X-Canary' => CANARY);
        is $response->status, 200, $format;
        ok index($response->body, CANARY) < 0, '... has no canary' or diag $response->body;
        ok index(lc $response->body, 'alert(1)') < 0, '... and no script of others';
        ok !(grep { index($_, CANARY) >= 0 } values %{ $response->headers }), '... nor its headers';
    }
    ok index(get($nginx, '/health')->body, CANARY) < 0, 'health';
    ok server(status($nginx), $secretive->url), 'the address of Redis, without credentials';

    # A digest tells calls apart, and is the same for the same call.
    my @recent = @{ status($nginx)->{recent} };
    my %digests = map { $_->{call} => 1 } @recent;
    like $_, qr/^[0-9a-f]{4,16}$/, "a digest: $_" for sort keys %digests;
    cmp_ok scalar keys %digests, '>', 1, 'several calls';
    cmp_ok scalar keys %digests, '<=', @hostile, '... not one for each event';
};

subtest 'recent' => sub {
    my @recent = @{ status($nginx)->{recent} };
    is scalar @recent, 64, 'the latest 64';
    is_deeply [ map { $_->{time} } @recent ], [ sort { $b <=> $a } map { $_->{time} } @recent ], 'the newest first';

    my $room = new_room();
    $http->post('/hook', event('call_started', room => $room));
    $http->post('/hook', event('call_ringing', room => $room));
    $http->post('/hook', event('call_ringing', room => $room));
    my $last = sub ($status) { [ map { [ @$_{qw(event from to result reason)} ] } @{ $status->{recent} }[ 0 .. 2 ] ] };
    settles $nginx, $last, [
        [ 'call_ringing', undef, undef, 'duplicate', '' ],
        [ 'call_ringing', 'dialing', 'ringing', 'ok', '' ],
        [ 'call_started', undef, 'dialing', 'ok', '' ],
    ], 'what became of them';

    my @of_call = @{ status($nginx)->{recent} }[ 0 .. 2 ];
    is scalar(uniq map { $_->{call} } @of_call), 1, '... of one call';
    $http->post('/hook', '{'), $http->get('/hook');
    is_deeply $last->(status($nginx))->[0], [ 'call_ringing', undef, undef, 'duplicate', '' ], 'none without an event';
};

subtest 'the documented members, and no others' => sub {
    # All that there can be.
    $secretive->client->cmd('SET', 'vaani:call:no-hash', 1);
    $http->post('/hook', event('call_started', room => 'no-hash'));
    settles $nginx, sub ($status) { server($status, $secretive->url)->{errors}{WRONGTYPE} }, 1, 'an error';

    my %variable = (reasons => 'reason', calls => 'status', 'redis[].errors' => 'code',
        map { ("history[].${_}s" => $_) } qw(result event reason));
    my %found;
    my $walk;
    $walk = sub ($path, $data) {
        if (ref $data eq 'HASH') {
            $walk->($variable{$path} ? "$path.<$variable{$path}>" : $path eq '' ? $_ : "$path.$_", $data->{$_}) for keys %$data;
        } elsif (ref $data eq 'ARRAY') {
            $walk->("${path}[]", $_) for @$data;
        } else {
            $found{$path} = 1;
        }
    };
    $walk->('', status($nginx));
    is_deeply [ sort keys %found ], [ sort keys %member ], 'of the JSON';

    my ($samples, $types) = parse_text(text($nginx));
    is_deeply $types, \%type, 'the metrics and their types';
    my %seen;
    for my $key (keys %$samples) {
        my ($name, $labels) = $key =~ /^(\w+?)(?:\{(.*)\})?$/;
        $name =~ s/_(?:bucket|sum|count)$// if !$type{$name};
        $seen{$name}{$_} = 1 for grep { $_ ne 'le' } ($labels // '') =~ /(\w+)="(?:[^"\\]|\\.)*"/g;
        $seen{$name} //= {};
    }
    is_deeply { map { $_ => [ sort keys %{ $seen{$_} } ] } keys %seen }, \%labels, '... and their labels';

    my $raw = get($nginx, '/status?format=json')->body;
    unlike $raw, qr/(?<!"call"):"-?\d+"[,}]/, 'numbers are numbers';
};

subtest 'promtool' => sub {
    my $text = text($nginx);
    my ($exit, @output) = run([ 'promtool', 'check', 'metrics' ], stdin => $text);
    is $exit, 0, 'takes the text' or diag @output;
    is "@output" =~ s/\s+//gr, '', '... without a remark';
    like $text, qr/\n\z/, 'the last line ends';

    ($exit) = run([ 'promtool', 'check', 'metrics' ], stdin => $text =~ s/^vaani_in_flight.*$/vaani_in_flight x/mr);
    isnt $exit, 0, 'and not any text';

    # Help and type come once, before the samples, which stay together.
    my ($last, %done) = ('');
    for my $line (split /\n/, $text) {
        my ($name) = $line =~ /^(?:# (?:HELP|TYPE) )?(\w+)/;
        $name =~ s/_(?:bucket|sum|count)$// if !$type{$name};
        ok !$done{$name}, "$name is in one place" if $name ne $last;
        $done{$last} = 1 if $name ne $last;
        $last = $name;
    }
};

# --- HTTP

my %content_type = (
    json       => qr{^application/json(?:; charset=utf-8)?$},
    prometheus => qr{^text/plain; version=0\.0\.4(?:; charset=utf-8)?$},
    html       => qr{^text/html(?:; charset=utf-8)?$},
);

subtest 'formats' => sub {
    for my $case (
        [ 'nothing', undef, 'json' ],
        [ 'curl', '*/*', 'json' ],
        [ 'JSON', 'application/json', 'json' ],
        [ 'Firefox', 'text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8', 'html' ],
        [ 'Chrome', 'text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8,'
            . 'application/signed-exchange;v=b3;q=0.7', 'html' ],
        [ 'Safari', 'text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8', 'html' ],
        [ 'Prometheus 2.42', 'application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,'
            . 'text/plain;version=0.0.4;q=0.5,*/*;q=0.1', 'prometheus' ],
        [ 'Prometheus 2.53', 'application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,'
            . 'text/plain;version=0.0.4;q=0.3,*/*;q=0.2', 'prometheus' ],
        [ 'Prometheus 3', 'application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,'
            . 'application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,'
            . 'text/plain;version=0.0.4;q=0.3,*/*;q=0.2', 'prometheus' ],
        [ 'with protobuf', 'application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,'
            . 'application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.3,*/*;q=0.2', 'prometheus' ],
        [ 'a library', 'application/json, text/plain, */*', 'json' ],
        [ 'another order', 'text/plain, application/json', 'prometheus' ],
        [ 'qualities', 'text/html;q=0.5, text/plain;q=0.4, application/json;q=0.6', 'json' ],
        [ 'three digits', 'text/html;q=0.501,application/json ; q=0.5', 'html' ],
        [ 'not this one', 'application/json;q=0, */*;q=0.1', 'prometheus' ],
        [ 'nothing of it', 'application/json;q=0, text/*;q=0, application/openmetrics-text;q=0.0', 'json' ],
        [ 'a kind', 'text/*', 'prometheus' ],
        [ 'a name before a star', '*/*, text/html', 'html' ],
        [ 'a parameter before q', 'application/json;x=1;q=0.1, text/html;x=q;q=0.2', 'html' ],
        [ 'no quality', 'text/html;q=, text/plain;q=x, application/json;q=0.001', 'json' ],
        [ 'it only looks like it', 'application/text/htmlx, xtext/html', 'json' ],
        [ 'upper case', 'TEXT/HTML', 'html' ],
        [ 'text', 'text/plain', 'prometheus' ],
        [ 'something else', 'image/png', 'json' ],
        [ 'nonsense', ',;q=,"', 'json' ],
    ) {
        my ($name, $accept, $format) = @$case;
        my $response = get($nginx, '/status', Accept => $accept);
        is $response->status, 200, "$name: status";
        like $response->header('Content-Type'), $content_type{$format}, "... $format";

        # The argument has the last word.
        for my $asked (sort keys %content_type) {
            $response = get($nginx, "/status?format=$asked", Accept => $accept);
            like $response->header('Content-Type'), $content_type{$asked}, "... ?format=$asked";
        }
    }

    is eval { ref $json->decode(get($nginx, '/status')->body) }, 'HASH', 'JSON is JSON';
    like get($nginx, '/status?format=html')->body, qr/^<!doctype html>/i, 'HTML is HTML';
    like get($nginx, '/status?format=prometheus')->body, qr/^# HELP vaani_/, 'and the text is text';
    unlike get($nginx, '/status?format=html')->body, qr{\b(?:src|href)=["']?(?:https?:)?//}, 'the page loads nothing from elsewhere';
};

subtest 'what is no format' => sub {
    for my $format ('xml', '', 'JSON%00', CANARY, '%22%3Cb%3E', 'json%20') {
        my $response = get($nginx, "/status?format=$format");
        is $response->status, 400, "format=$format";
        is $response->header('Content-Type'), 'application/problem+json', '... a problem';
        is $response->json->{status}, 400, '... of JSON';
        ok index($response->body, CANARY) < 0 && $response->body !~ /<b>/, '... that repeats nothing';
        is $response->header('Cache-Control'), 'no-store', '... and is not kept';
    }
};

subtest 'methods' => sub {
    for my $uri (map({ "/status?format=$_" } sort keys %content_type), '/status', '/health') {
        for my $method (qw(POST PUT DELETE OPTIONS PATCH)) {
            my $response = $http->request(method => $method, uri => $uri, body => 'x' x 5000);
            is $response->status, 405, "$method $uri";
            is join(', ', sort split /, */, $response->header('Allow') // ''), 'GET, HEAD', '... Allow';
        }
        is $http->get($uri)->status, 200, '... the connection is right afterwards';

        my $full = $http->get($uri);
        my $head = $http->request(method => 'HEAD', uri => $uri);
        is $head->status, 200, "HEAD $uri";
        is $head->body, '', '... no body';
        is $head->header('Content-Type'), $full->header('Content-Type'), '... of its type';
        is $_->header('Cache-Control'), 'no-store', '... is not kept' for $head, $full;

        # With a body, which is ignored.
        my $response = $http->request(method => 'GET', uri => $uri, body => 'x' x 50_000);
        is $response->status, 200, "GET $uri with a body";
        is $http->get($uri)->status, 200, '... and the connection is right';
    }

    my $before = total(status($nginx));
    get($nginx, '/status') for 1 .. 5;
    is total(status($nginx)), $before, 'asking for it is no delivery';

    my @answers = $http->pipelined(map { { uri => "/status?format=$_" } } (sort keys %content_type) x 5);
    is scalar(grep { $_->status == 200 } @answers), 15, 'many at once';
};

# --- health

subtest 'inside of locations' => sub {
    my $redis = Vaani::Test::Redis->start;
    my $nginx = Vaani::Test::Nginx->start(http => config($redis, <<'CONF'));
        location = /h { vaani_health; if ($arg_x) { add_header X y; } limit_except GET { deny all; } }
        location = /s { vaani_status; if ($arg_x) { add_header X y; } limit_except GET { deny all; } }
CONF
    my $http = $nginx->http;
    for my $uri (qw(/h /h?x=1 /s /s?x=1)) {
        is $http->get($uri)->status, 200, "GET $uri";
        is $http->post($uri, '')->status, 403, "POST $uri";
    }
};

subtest 'health' => sub {
    my $redis = Vaani::Test::Redis->start;
    my $nginx = Vaani::Test::Nginx->start(http => config($redis, <<"CONF"));
        location = /spool          { vaani_webhook; vaani_spool %%DIR%%/spool max=1k; }
        location = /health-spooled { vaani_health; vaani_spool %%DIR%%/spool max=1k; }
        location = /health-down    { vaani_health; vaani_redis unix:%%DIR%%/none.sock; }
        location = /down           { vaani_webhook; vaani_redis unix:%%DIR%%/none.sock; }
CONF
    my $http = $nginx->http;

    # [ /health, /health-spooled, /health-down ]
    my $health = sub {
        return [ map { my $response = $http->get($_); $response->status . ' ' . $response->body }
            qw(/health /health-spooled /health-down) ];
    };
    my $is = sub ($name, @want) {
        local $Test::Builder::Level = $Test::Builder::Level + 1;
        my %body = (ok => '200 {"status":"ok"}', queueing => '200 {"status":"queueing"}', unavailable => '503 {"status":"unavailable"}');
        my $wanted = [ map { $body{$_} } @want, 'unavailable' ];
        wait_for(sub { "@{ $health->() }" eq "@$wanted" }, 10);
        return is_deeply $health->(), $wanted, $name;
    };

    # Also if no event has come yet that would have made it connect.
    $is->('from the beginning', 'ok', 'ok');
    is $http->get('/health')->header('Content-Type'), 'application/json', 'JSON';
    is $http->get('/health')->header('Cache-Control'), 'no-store', '... is not kept';

    $redis->kill;
    $is->('Redis is away', 'unavailable', 'queueing');
    my $answer;
    for (1 .. 50) {
        last if ($answer = $http->post('/spool', event('call_started', room => new_room(), filling => 'x' x 100)))->status != 200;
    }
    is $answer->status, 503, 'the spool is full';
    $is->('... and takes nothing', 'unavailable', 'unavailable');

    # The same worker knows when there is room again.
    $redis->restart;
    $is->('Redis is back', 'ok', 'ok');
    settles $nginx, sub ($status) { $status->{spools}[0]{bytes} }, 0, 'the spool drains';
    $redis->kill;
    $is->('a spool that has drained takes events', 'unavailable', 'queueing');

    $redis->restart;
    $is->('Redis is back', 'ok', 'ok');
    $redis->client->cmd('REPLICAOF', '127.0.0.1', '1');
    $http->post('/hook', started());
    $redis->client->cmd('REPLICAOF', 'NO', 'ONE');
    ok wait_for(sub { $http->post('/hook', started())->status == 200 }), 'a master again';
    $is->('ok', 'ok', 'ok');

    ok $nginx->reload(wait_old => 1), 'reload';
    $is->('a new worker', 'ok', 'ok');
    is $http->get('/health?format=html')->status, 200, 'arguments do not matter';
};

$nginx->stop;
done_testing;
