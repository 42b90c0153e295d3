# The page for people that vaani_status serves, in a real browser: what it says
# when events arrive, when Redis is unreachable and when nginx restarts, that its policy
# holds, that text stays text, and that it fits a phone.
#
# Most of it is shown to the page by Vaani::Test::StatusPage, which needs no
# module: the numbers are then the test's.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

use Digest::SHA qw(sha256_base64);
use JSON::PP ();
use Vaani::Test::Browser;
use Vaani::Test::Endpoint qw(RETAIN);
use Vaani::Test::Events;
use Vaani::Test::StatusPage qw(c_strings page_file page_source);


my $page = slurp(page_file());

# The browser's output is not all ASCII.
binmode $_, ':utf8' for map { Test::More->builder->$_ } qw(output failure_output);

# --- what the build makes of it

subtest 'page2c' => sub {
    my $strings = c_strings(page_source());
    my $csp = $strings->{ngx_http_vaani_page_csp};

    for my $tag (qw(style script)) {
        my ($content) = $page =~ m{<$tag>(.*?)</$tag>}s;
        my $hash = sha256_base64($content) . '=';
        like $csp, qr/(?:^|; )$tag-src 'sha256-\Q$hash\E'(?:;|$)/, "the hash of the $tag";
    }
    like $csp, qr/^default-src 'none'; /, 'nothing else is allowed';
    unlike $csp, qr/unsafe|https?:|\*/, '... from anywhere';

    # The compilers read the strings as we do, and have nothing to say.
    my $dir = tmpdir() . '/include';
    mkdir $dir;
    spew("$dir/ngx_config.h", "#include <stddef.h>\ntypedef unsigned char u_char;\n");
    spew("$dir/ngx_core.h", "typedef struct { size_t len; u_char *data; } ngx_str_t;\n"
        . "#define ngx_string(str)  { sizeof(str) - 1, (u_char *) str }\n");
    spew("$dir/page.c", page_source(ROOT . '/src/http/status'));
    spew("$dir/main.c", <<'C');
#include <stdio.h>
#include "ngx_http_vaani_page.h"

int main(void) {
    fwrite(ngx_http_vaani_page.data, 1, ngx_http_vaani_page.len, stdout);
    fwrite(ngx_http_vaani_page_csp.data, 1, ngx_http_vaani_page_csp.len, stderr);
    return 0;
}
C

    for my $cc (qw(gcc clang)) {
        my ($exit, @output) = run([
            $cc, qw(-Wall -Wextra -Werror -o), "$dir/$cc", "-I$dir", '-I' . ROOT . '/src/http/status', "$dir/page.c", "$dir/main.c",
        ]);
        is $exit, 0, "$cc compiles it" or diag @output;
        ($exit, @output) = run(["$dir/$cc"]);
        ok $output[0] eq $page, '... to the very page';
        is $output[1], $csp, '... and its policy';
    }
};

subtest 'page2c refuses what the policy would break' => sub {
    my %broken = (
        'a second script'   => $page =~ s{(</body>)}{<script>\n</script>\n$1}r,
        'a script from elsewhere' => $page =~ s{(</head>)}{<script src="x.js"></script>\n$1}r,
        'no style'          => $page =~ s{<style>.*</style>\n}{}sr,
        'a style attribute' => $page =~ s{<footer}{<footer style="color: red"}r,
        'an inline handler' => $page =~ s{<footer}{<footer onclick="x()"}r,
    );

    for my $name (sort keys %broken) {
        my $file = spew(tmpdir() . '/broken.html', $broken{$name});
        ok !eval { page_source('.', $file); 1 }, $name;
    }
};

subtest 'its words are those of the documentation' => sub {
    my %documented;
    my $docs = slurp(ROOT . '/docs/directives.md');
    for my $variable (qw(reason result)) {
        my ($section) = $docs =~ /^### \$vaani_$variable\n(.*?)^### /ms;
        $documented{$variable} = [ sort $section =~ /^\| `(\w+)` \|/mg ];
    }

    my ($reasons) = $page =~ /^const REASONS = \{(.*?)^\};/ms;
    my ($results) = $page =~ /^const RESULTS = \{.*?\n(.*?)^\};/ms;
    is_deeply [ sort $reasons =~ /^  (\w+): '/mg ], $documented{reason}, 'reasons';
    is_deeply [ grep { $_ ne 'none' } sort $results =~ /^  (\w+): \[/mg ], $documented{result}, 'results';
};

# --- in the browser

my $browser = Vaani::Test::Browser->start;
my $mock = Vaani::Test::StatusPage->start;

# Shows it in a fresh page.
sub look ($data, %opt) {
    $mock->show($data);
    $browser->open($mock->url, %opt);
    return ok wait_for(sub { $browser->text('#headline') }, 10), 'shown';
}

# Shows it in the page that is open, without the wait for its next request.
sub show ($data) {
    $data->{time} += 2000;
    $mock->show($data);
    return refresh();
}

# One more request, shown when it returns; poll and busy are the page's own.
sub refresh () {
    $browser->run('(async () => { while (busy) await new Promise((go) => setTimeout(go, 5)); await poll(); })()');
    return;
}

sub headline_like ($regex, $name = "headline $regex") {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return ok(wait_for(sub { $browser->text('#headline') =~ $regex }, 10), $name)
        || diag $browser->text('#headline');
}

sub text_like ($selector, $regex, $name) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return ok(wait_for(sub { $browser->text($selector) =~ $regex }, 10), $name)
        || diag $browser->text($selector);
}

# Errors, warnings, violations of the policy, requests to elsewhere.
sub no_problems ($name = 'no errors, nothing that the policy forbids') {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $origin = $browser->run('location.origin');
    my @elsewhere = grep { !m{^(?:\Q$origin\E/status(?:\?format=json)?$|data:)} } $browser->requests;
    return is_deeply [ $browser->problems, @elsewhere ], [], $name;
}

sub plot ($id) { return $browser->run("document.getElementById('$id')?.innerHTML || ''") }

# An endpoint that is not there: it counts as the module would.
{
    package Vaani::Test::StatusPage::Endpoint;

    sub start ($class) {
        my $self = bless { data => Vaani::Test::StatusPage::status_json(), up => 1 }, $class;
        $self->_show;
        return $self;
    }

    sub url ($self) { return $mock->url }

    sub post ($self, $event) {
        my $data = $self->{data};
        my ($row) = grep { $_->{event} eq $event } @{ $data->{deliveries} };
        my $redis = $data->{redis}[0];

        $row->{ $self->{up} ? 'ok' : 'queued' }++;
        if ($self->{up}) {
            $redis->{replies}++;
            $redis->{round_trip}{counts}[ rand 5 ]++;
            $data->{calls}{dialing}++;
        } else {
            my $spool = $data->{spools}[0];
            $data->{reasons}{redis_down}++;
            $spool->{$_}++ for qw(records appended);
            $spool->{bytes} += 500;
            $spool->{oldest} //= $data->{time};
        }
        unshift @{ $data->{recent} }, {
            time => $data->{time}, event => $event, from => undef, to => 'dialing',
            result => $self->{up} ? 'ok' : 'queued', reason => $self->{up} ? '' : 'redis_down', call => '3fa2c1',
        };
        return $self->_show;
    }

    sub stop_redis ($self) {
        for my $worker (@{ $self->{data}{redis}[0]{workers} }) {
            @$worker{qw(ready since error error_at)} =
                (0, $self->{data}{time}, 'is unreachable (111: Connection refused)', $self->{data}{time});
        }
        $self->{up} = 0;
        return $self->_show;
    }

    sub start_redis ($self) {
        $_->{ready} = 1 for @{ $self->{data}{redis}[0]{workers} };
        my $spool = $self->{data}{spools}[0];
        $spool->{replayed} += $spool->{records};
        @$spool{qw(records bytes oldest)} = (0, 0, undef);
        $self->{up} = 1;
        return $self->_show;
    }

    sub _show ($self) {
        $self->{data}{time} += 500;
        $mock->show($self->{data});
        return;
    }
}

# The same with the module.
{
    package Vaani::Test::StatusPage::RealEndpoint;

    sub start ($class, %opt) {
        my $redis = Vaani::Test::Redis->start(acl => $opt{acl} // []);
        my $nginx = Vaani::Test::Nginx->start(workers => 2, http => <<"CONF");
            vaani_redis @{[ $redis->url ]};
            vaani_spool %%DIR%%/spool @{[ $opt{spool} // '' ]};
            server { listen unix:%%SOCK%%; location = /vaani { vaani_webhook; } }
            server { listen 127.0.0.1:%%PORT%%; location = /status { vaani_status; } }
CONF
        return bless { redis => $redis, nginx => $nginx, room => 0 }, $class;
    }

    sub url ($self)         { return 'http://127.0.0.1:' . $self->{nginx}->port . '/status' }
    sub stop_redis ($self)  { return $self->{redis}->stop }
    sub start_redis ($self) { return $self->{redis}->restart }

    sub post ($self, $event) {
        my $body = Vaani::Test::Events::event($event, room => 'page-' . ++$self->{room});
        return $self->{nginx}->http->post('/vaani', $body);
    }
}

my $endpoint = Vaani::Test::StatusPage::RealEndpoint->start;

subtest 'events come, Redis goes and comes back' => sub {
    $browser->open($endpoint->url);
    headline_like qr/^Everything is fine/;
    text_like '#redis-0 ~ p', qr/^2 of 2 workers connected/, 'workers';
    is $browser->run('document.title'), "Everything is fine \x{2013} Vaani status", 'title';
    my $before = plot('rate-plot');

    $endpoint->post('call_started') for 1 .. 7;
    text_like '[aria-labelledby=by-result] tbody tr:first-child', qr/ 7$/, 'the page asks by itself: 7 are ok';
    text_like '[aria-labelledby=by-event] tbody tr:first-child', qr/^call_started \S+ 7$/, '... call_started';
    text_like '[aria-labelledby=recent] tbody tr:first-child', qr/call_started.*dialing.*ok/, '... and in the list';
    text_like '[aria-labelledby=calls] dl', qr/dialing 7/, '... dialing';
    isnt plot('rate-plot'), $before, '... in the plot';
    like plot('redis-0-plot'), qr/<path class="p50" d="M/, '... round trips over time';
    like plot('redis-0-bars'), qr/<rect [^>]*f-plot/, '... as a histogram';

    $endpoint->stop_redis;
    $endpoint->post('call_ringing') for 1 .. 3;
    headline_like qr/^Events are queued/;
    text_like '#redis-0 ~ p', qr/^0 of 2 workers connected/, 'workers';
    text_like '#notes', qr/is not connected in 2 of 2 workers.*is unreachable/, 'the error';
    text_like '#spool-0 ~ dl', qr/^wait now 3 .*appended 3/, 'the spool';
    text_like '[aria-labelledby=reasons] tbody', qr/redis_down 3 3 There is no connection/, 'the reason';

    $endpoint->start_redis;
    headline_like qr/^Everything is fine/;
    text_like '#spool-0 ~ dl', qr/^wait now 0 .*replayed 3/, 'the spool';
    no_problems;
};

# The figures of the panel's part for what is kept.
use constant KEPT => '#spool-0 ~ dl:nth-of-type(2)';

subtest 'Redis forgets' => sub {
    my $endpoint = Vaani::Test::StatusPage::RealEndpoint->start(spool => 'retain=1h', acl => RETAIN);
    $browser->open($endpoint->url);
    headline_like qr/^Everything is fine/;
    $endpoint->post('call_started') for 1 .. 5;
    text_like KEPT, qr/^kept 5 .*losses by Redis 0 brought back 0/, 'events are kept';
    text_like '#spool-0 ~ p', qr/nothing waits.*reaches back \d+\ss of 1\sh \S+ [\d.]+ K?i?B$/, 'how far back';
    unlike $browser->text('#notes'), qr/Redis lost/, 'no note of a loss';

    $endpoint->{redis}->client->cmd('FLUSHALL');
    $endpoint->post('call_started');
    text_like KEPT, qr/^kept 6 .*losses by Redis [1-9]\d* brought back 5/, 'events are brought back';
    text_like '#notes', qr/Redis lost data, (?:once|\d+ times): 5 events were brought back from \S+\. Check Redis for a restart/, 'a note';
    headline_like qr/^Everything is fine/;
    no_problems;
};

subtest 'what is kept in case Redis loses data' => sub {
    my $data = Vaani::Test::StatusPage::status_json();
    my $spool = $data->{spools}[0];
    look($data);
    unlike $browser->text('#report'), qr/Kept in case/, 'off: nothing of it';
    text_like '#spool-0 ~ p', qr/^empty/, 'empty';

    @$spool{qw(retain kept_seconds kept_bytes kept)} = (7200, 4335, 35 << 20, 12_345);
    show($data);
    text_like '#spool-0 ~ p', qr/^nothing waits \S+ 0 B of 1 GiB, 0 % \| reaches back 1\sh 12\smin of 2\sh \S+ 35 MiB$/, 'a window';
    $spool->{kept_seconds} = 8000;
    show($data);
    text_like '#spool-0 ~ p', qr/reaches back 2\sh of 2\sh/, '... that is whole';
    is $browser->text('#notes'), '', 'nothing to note';

    # There is no room for more.
    @$spool{qw(kept_seconds kept_bytes bytes records)} = (600, 900 << 20, 100 << 20, 3);
    show($data);
    text_like '#spool-0 ~ p', qr/^events wait .*reaches back 10\smin of 2\sh, limited by .max. \S+ 900 MiB$/, 'a window that is cut';
    unlike $browser->text('#spool-0 ~ p'), qr/full/, '... in a spool that is not full';
    headline_like qr/^Events are queued/;

    @$spool{qw(kept_seconds kept_bytes bytes records)} = (7200, 35 << 20, 0, 0);
    @$spool{qw(not_kept losses losses_beyond looked_at brought_back)} = (1, 2, 1, 900, 340);
    show($data);
    text_like KEPT, qr/^kept 12,345 \S+ per s not kept 1 losses by Redis 2 brought back 340 of 900 tried losses beyond 1 what is kept$/, 'all figures';
    text_like '#notes', qr{^Redis lost more than the spool keeps, once: restore a backup of Redis, then raise retain or max of /\S+ }, 'a loss beyond';
    text_like '#notes', qr{ 1 event was not kept in /\S+: if Redis loses it, the spool may not have it}, 'an event that was not kept';
    text_like '#notes', qr{ Redis lost data, 2 times: 340 events were brought back from /\S+\. Check Redis for }, 'losses';
    is $browser->run('document.querySelectorAll("#notes .bad").length'), 2, 'two of them are bad';

    $spool->{not_kept} = 5;
    show($data);
    text_like '#notes', qr{ 5 events were not kept in /\S+: if Redis loses them, the spool may not have them}, 'several events';
    no_problems;
};

subtest 'headlines' => sub {
    my ($data, $redis, $spool);
    my $new = sub (%changes) {
        $data = Vaani::Test::StatusPage::status_json(%changes);
        ($redis, $spool) = ($data->{redis}[0], $data->{spools}[0]);
        $browser->problems;
    };
    my $away = sub { @$_{qw(ready error)} = (0, 'closed the connection') for @{ $redis->{workers} }[@_] };

    $new->(spools => []);
    $away->(0, 1);
    look($data);
    headline_like qr/^Events are refused.*no spool is configured/;
    text_like '#report', qr/No spool is configured/, 'no spool';

    $new->();
    $away->(0, 1);
    $spool->{bytes} = $spool->{max};
    look($data);
    headline_like qr/^Events are refused.*the spool is full/;
    is $browser->run('document.querySelector("[role=meter]").getAttribute("aria-valuenow")'), '100', 'meter';

    $new->();
    $away->(1);
    look($data);
    headline_like qr/^Some workers are not connected to Redis.*queued/;

    $new->();
    look($data);
    headline_like qr/^Everything is fine.*No event/;
    $data->{deliveries}[0]{unavailable} = 2;
    $data->{reasons} = { spool_failed => 2 };
    show($data);
    headline_like qr/^Events are refused.*could not write it/;
    no_problems;
};

subtest 'several servers' => sub {
    my $data = Vaani::Test::StatusPage::status_json();
    my $redis = $data->{redis}[0];
    look($data);
    is $browser->run('document.getElementById("redis-0-nodes")'), undef, 'one server: no table';

    my $node = sub ($n, @more) { Vaani::Test::StatusPage::node_json(node => "redis://192.0.2.$n:6379", @more) };
    @$redis{qw(server form masters failovers redirects table_refreshes)} = ('redis://192.0.2.1:6379 (cluster)', 'cluster', 3, 4, 17, 230);
    $redis->{nodes} = [
        $node->(1, slots => 5461, connections => 2, ready => 2), $node->(2, slots => 5462, connections => 2, ready => 1),
        $node->(3, slots => 5461, connections => 2, ready => 2), $node->(4, role => 'replica'),
        $node->(5, role => 'unknown', connections => 2, ready => 2),
    ];
    show($data);
    headline_like qr/^Everything is fine/;
    text_like '#redis-0-nodes', qr/^Servers \S+ a cluster$/, 'a cluster';
    my $row = sub ($n) { "[aria-labelledby=redis-0-nodes] tbody tr:nth-child($n)" };
    text_like $row->(1), qr{^redis://192\.0\.2\.1:6379 master 5,461 2 of 2$}, 'a master';
    text_like $row->(2), qr{ master 5,462 1 of 2$}, '... with one of two connections';
    text_like $row->(4), qr{ replica 0 \x{2013}$}, 'a replica';
    text_like $row->(5), qr{ unknown 0 2 of 2$}, 'one that is unknown';
    text_like '#redis-0 ~ dl', qr/failovers 4 of each worker redirects 17 table refreshes 230$/, 'numbers';
    is $browser->text('#notes'), '', 'nothing to note';

    $redis->{masters_down} = 1;
    $redis->{nodes}[0]{ready} = 0;
    show($data);
    headline_like qr/^A part of the cluster is down.*wait on disk/;
    text_like $row->(1), qr/ master, not connected 5,461 0 of 2$/, 'a master that is down';
    text_like '#notes', qr{1 of 3 masters of redis://192\.0\.2\.1:6379 \(cluster\) is down: redis://192\.0\.2\.1:6379 with 5,461 slots$}, 'a note';
    is $browser->run('document.getElementById("state").dataset.state'), 'warn', 'a warning';
    $data->{spools} = [];
    show($data);
    headline_like qr/^A part of the cluster is down.*answered 503/;
    is $browser->run('document.getElementById("state").dataset.state'), 'bad', '... or worse';

    $redis->{masters} = 40;
    show($data);
    text_like '#redis-0-nodes', qr/a cluster \S+ 37 masters are not shown$/, 'more than are shown';

    @$redis{qw(server form masters masters_down)} = ('redis://192.0.2.1:6379 (+2)', 'list', 1, 0);
    $redis->{nodes} = [ $node->(2, connections => 2, ready => 2), $node->(1), $node->(3, role => 'unreachable') ];
    show($data);
    headline_like qr/^Everything is fine/;
    text_like '#redis-0-nodes', qr/the master of a list$/, 'a list';
    text_like $row->(1), qr{192\.0\.2\.2:6379 master 2 of 2$}, '... its master';
    text_like $row->(2), qr{ another master \x{2013}$}, '... a rival';
    text_like $row->(3), qr{ unreachable \x{2013}$}, '... one that does not answer';

    @$redis{qw(form masters nodes)} = ('sentinel', 0, []);
    show($data);
    text_like '#redis-0-nodes ~ p', qr/^No server is known yet/, 'Sentinels that name none';
    no_problems;
};

subtest 'the request fails' => sub {
    look(Vaani::Test::StatusPage::status_json());
    $mock->fail;
    refresh();
    headline_like qr/^No answer from nginx/;
    text_like '#fresh', qr/^Numbers are \d+ s old: HTTP 404/, 'how old the numbers are';
    $mock->show('{"time":');
    refresh();
    text_like '#fresh', qr/^Numbers are \d+ s old: .*JSON/, 'an answer that is no JSON';
    $mock->show(Vaani::Test::StatusPage::status_json());
    refresh();
    headline_like qr/^Everything is fine/;
    is_deeply [ grep { !/404 \(Not Found\)/ } $browser->problems ], [], 'no other errors';
};

subtest 'what is new in the deliveries' => sub {
    my $data = Vaani::Test::StatusPage::status_json();
    look($data);
    is $browser->run('document.getElementById("drift")'), undef, 'nothing: no panel';

    my @row = (first => $data->{time} - 3_600_000, last => $data->{time} - 60_000);
    $data->{drift} = [
        { event => 'call_postprocessing', kind => 'member', name => 'data.sentiment', count => 12, @row },
        { event => 'other', kind => 'event', name => 'call.completed', count => 1, @row },
        { event => 'call_ended', kind => 'ignored', name => 'call_duration', count => 2, @row },
    ];
    show($data);
    text_like '#notes', qr/3 names are new in Vaani\x{2019}s deliveries/, 'a note at the top';
    text_like '#drift', qr/^New in Vaani\x{2019}s deliveries/, 'a panel';
    text_like '[aria-labelledby=drift] tbody tr:first-child',
        qr/^data\.sentiment call_postprocessing an unknown member 12 1\sh 0\smin ago 1\smin ago$/, 'a row';
    headline_like qr/^Everything is fine/;

    $data->{drift} = [];
    $data->{drift_other} = 5;
    show($data);
    text_like '[aria-labelledby=drift] tbody', qr/^all others \S+ names beyond the limit 5/, 'those without room';

    # The clock of the server is set back: no restart.
    $data->{time} -= 600_000;
    show($data);
    text_like '#fresh', qr/^Updated/, 'a clock that was set back';
    unlike $browser->text('#notes'), qr/restarted/, '... is no restart';

    @{ $data->{spools}[0] }{qw(dead_letters_bytes refused_bytes refusals_kept refusals_dropped)} = (2048, 4096, 7, 3);
    show($data);
    text_like '#spool-0 ~ dl:last-of-type', qr/^dead letters 2 KiB damaged records 0 B refused deliveries 4 KiB 7 kept not kept 3/,
        'what is kept for an operator';
    no_problems;
};

subtest 'a hidden tab does not ask' => sub {
    look(Vaani::Test::StatusPage::status_json());
    my $change = sub ($hidden) {
        $browser->run("Object.defineProperty(document, 'hidden', { configurable: true, value: $hidden });"
            . 'document.dispatchEvent(new Event("visibilitychange"))');
    };

    $change->('true');
    refresh();    # as one that was under way: it must not start the next one
    my $before = () = $browser->requests;
    Vaani::Test::Socket::pause(2.5);
    is scalar(() = $browser->requests), $before, 'no request';
    $change->('false');
    ok wait_for(sub { (() = $browser->requests) > $before }, 1), 'at once when it is seen again';
};

subtest 'nginx restarts' => sub {
    my $data = Vaani::Test::StatusPage::status_json();
    $data->{deliveries}[0]{ok} = 100;
    look($data);
    $data->{deliveries}[0]{ok} = 150;
    show($data);
    text_like '[aria-labelledby=by-result] tbody tr:first-child', qr/2\.5 150$/, 'a rate';
    like plot('rate-plot'), qr/<rect/, 'a bar';

    $data = Vaani::Test::StatusPage::status_json(since => $data->{since} + 50_000, time => $data->{time});
    $data->{deliveries}[0]{ok} = 3;
    show($data);
    text_like '[aria-labelledby=by-result] tbody tr:first-child', qr/0\.05 3$/, 'the history is new';
    is scalar(() = plot('rate-plot') =~ /<rect/g), 1, '... with its one bar';
    text_like '#notes', qr/nginx was restarted/, '... and says why';
    no_problems;
};

# --- whatever comes

use constant HOSTILE => q{<img src=x onerror="alert(1)"><script>alert(2)</script>};

subtest 'text is text' => sub {
    my $data = Vaani::Test::StatusPage::status_json(
        version => HOSTILE, nginx => HOSTILE, reasons => { HOSTILE, 3, '__proto__', 2, 'constructor', 1 },
    );
    $data->{deliveries}[0]{event} = HOSTILE;
    $data->{transitions} = [ { from => HOSTILE, to => HOSTILE, count => 1 } ];
    $data->{calls}{active} = HOSTILE;
    @{ $data->{redis}[0] }{qw(server errors form)} = (HOSTILE, { HOSTILE, 1 }, 'cluster');
    $data->{redis}[0]{nodes} = [ { map { ($_ => HOSTILE) } qw(node role slots connections ready) } ];
    @{ $data->{redis}[0]{workers}[0] }{qw(ready error worker pid)} = (0, HOSTILE, HOSTILE, HOSTILE);
    @{ $data->{spools}[0] }{qw(path records)} = (HOSTILE, 1);
    $data->{drift} = [ { map { ($_ => HOSTILE) } qw(event kind name count first last) }, { kind => '__proto__', name => 'constructor' } ];
    $data->{recent} = [ { map { ($_ => HOSTILE) } qw(time event from to result reason call) },
        { time => $data->{time}, event => { tag => 'img', attrs => { src => 'x' }, kids => [] } } ];

    look($data);
    show($data);
    $browser->run('document.querySelector("details").open = true');
    is $browser->run('document.querySelectorAll("img, script:not(body > script), iframe").length'), 0, 'no elements';
    my $seen = $browser->text('body');
    cmp_ok scalar(() = $seen =~ /<img src=x onerror="alert\(1\)"><script>/g), '>=', 14, 'shown as it is';
    is $browser->run('[...document.querySelectorAll("*")].filter((e) => [...e.attributes].some((a) => a.value.includes("onerror"))).length'),
        0, 'in no attribute';
    no_problems;
};

subtest 'fields are missing or of another type' => sub {
    my @odd = (undef, 0, '', 'x', [], {}, [ undef, 1, 'x', [] ], { x => undef }, -1, 1e300);

    look({});
    headline_like qr/^No Redis server/;

    my @answers;
    for my $odd (@odd) {
        my $data = Vaani::Test::StatusPage::status_json();
        push @answers, map { { %$data, $_ => $odd } } sort keys %$data;
        for my $list (qw(redis spools deliveries recent drift history)) {
            my %row = %{ $data->{$list}[0] // { map { ($_ => 1) } qw(time event from to result reason call kind name count first last) } };
            push @answers, { %$data, $list => [ map { { %row, $_ => $odd } } sort keys %row ] };
        }
        my %redis = %{ $data->{redis}[0] };
        my %worker = %{ $redis{workers}[0] };
        push @answers,
            { %$data, redis => [ map({ my $form = $_; map { { %redis, form => $form, masters_down => 1, %$_ } }
                { nodes => $odd }, { masters => $odd }, map { { nodes => [ { node => 'x', role => 'master', connections => 1, $_ => $odd } ] } }
                    qw(node role slots connections ready) } qw(cluster list)) ] },
            { %$data, redis => [ { %redis, workers => [ map { { %worker, $_ => $odd } } sort keys %worker ] } ] },
            { %$data, redis => [ map { { %redis, history => [ { time => $data->{time}, replies => 1, p50 => 1, %$_ } ] } }
                map { { $_ => $odd } } qw(time replies p50 p90 p99) ] },
            { %$data, history => [ map { Vaani::Test::StatusPage::minute_json(results => { ok => $odd }, seconds => $_) } 1 .. 3 ] },
            { %$data, redis => [ { %redis, round_trip => { bounds => $odd, counts => [ 1, 2, $odd ], p50 => $odd } } ] };
    }

    # Without the network, and not all at once: there are many.
    my ($total, $shown) = (scalar @answers, 0);
    while (my @some = splice @answers, 0, 50) {
        my $answers = JSON::PP->new->ascii->encode(\@some);
        $shown += $browser->run(<<"JS");
            (async () => {
                const { fetch } = window;
                let shown = 0;
                while (busy) await new Promise((go) => setTimeout(go, 5));
                for (const answer of $answers) {
                    window.fetch = async () => new Response(JSON.stringify(answer));
                    await poll();
                    if (failure === '') shown++;
                }
                window.fetch = fetch;
                return shown;
            })()
JS
    }
    is $shown, $total, "$total odd answers are shown";
    show(Vaani::Test::StatusPage::status_json());
    headline_like qr/^Everything is fine/, 'the page has survived it';
    no_problems;
};

# --- for whom it is

# Much of everything, and long names.
sub much () {
    my $data = Vaani::Test::StatusPage::status_json();
    $data->{redis} = [
        Vaani::Test::StatusPage::redis_json(workers => 64),
        Vaani::Test::StatusPage::redis_json(server => 'redis://' . 'a-long-name-' x 12 . ':6379/12', form => 'cluster',
            masters => 32, map({ ($_ => 123_456_789) } qw(redirects table_refreshes failovers)),
            nodes => [ map { Vaani::Test::StatusPage::node_json(node => 'redis://' . 'a-long-name-' x 9 . ":$_", slots => 512,
                connections => 64, ready => 64) } 7001 .. 7032 ]),
    ];
    $_->{round_trip}{counts} = [ 1 .. 17 ] for @{ $data->{redis} };
    my $worker = $data->{redis}[0]{workers}[63];
    @$worker{qw(ready error error_at)} = (0, 'is unreachable (111: Connection refused)', $data->{time});
    push @{ $data->{spools} }, Vaani::Test::StatusPage::spool_json(path => '/var' . '/a-long-directory' x 12, bytes => 1e12, max => 2e12,
        retain => 7200, kept_bytes => 9e11, kept_seconds => 4320,
        map { ($_ => 123_456_789) } qw(kept not_kept losses losses_beyond looked_at brought_back));
    $data->{reasons} = { missing_field => 12_345_678, redis_queue_full => 3 };
    $_->{ok} = $_->{duplicate} = $_->{unauthorized} = 123_456_789 for @{ $data->{deliveries} };
    $data->{drift} = [ map { {
        event => 'human_transfer_successful', kind => 'member', name => 'x' x 64, count => 123_456_789,
        first => $data->{since}, last => $data->{time},
    } } 1 .. 64 ];
    $data->{calls}{$_} = 123_456_789 for keys %{ $data->{calls} };
    $data->{recent} = [ map { {
        time => $data->{time}, event => 'human_transfer_successful', from => 'no_answer', to => 'rejected',
        result => 'unavailable', reason => 'redis_queue_full', call => '3fa2c1',
    } } 1 .. 64 ];
    return $data;
}

subtest 'phones and wide screens' => sub {
    for my $size ([ 360, 740 ], [ 400, 800 ], [ 800, 600 ], [ 1200, 900 ], [ 1920, 1080 ]) {
        my ($width, $height) = @$size;
        look(much(), width => $width, height => $height);
        show(much());
        is $browser->run('document.documentElement.scrollWidth'), $width, "$width: the page does not scroll sideways";
        is $browser->run('[...document.querySelectorAll(".panel")].filter((e) => e.getBoundingClientRect().right > innerWidth).length'),
            0, '... no panel is cut';
        is $browser->run('[...document.querySelectorAll(".scroll, td, th, dd, dt, p, li, h2")].filter((e) => e.scrollWidth > e.clientWidth + 1'
            . ' && getComputedStyle(e).display !== "inline").map((e) => e.tagName + " " + e.textContent.slice(0, 40)).join("; ")'),
            '', '... nothing is cut off' if $width < 640;
        # Texts of the plots that touch one another.
        is $browser->run(<<'JS'), '', '... no labels overlap';
            [...document.querySelectorAll('svg.plot')].flatMap((svg) => {
                const texts = [...svg.querySelectorAll('text')].map((t) => [t.textContent, t.getBoundingClientRect()]);
                return texts.flatMap(([a, p], i) => texts.slice(i + 1).filter(([, q]) => p.left < q.right && q.left < p.right
                    && p.top + 3 < q.bottom && q.top + 3 < p.bottom).map(([b]) => `${a}/${b}`));
            }).join(' ')
JS
    }
    like $browser->text('#redis-0 ~ .scroll tbody tr:first-child'), qr/^63 pid \d+ not connected/, 'the worker in trouble comes first';
    no_problems;
};

# The contrast of each text with what is behind it, by the formula of WCAG.
my $contrast = <<'JS';
    (() => {
        const light = (rgb) => rgb.map((c) => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
            .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
        const parse = (s) => s.match(/[\d.]+/g).map(Number);
        const behind = (e) => { for (; e; e = e.parentElement) {
            const c = parse(getComputedStyle(e).backgroundColor);
            if (c.length < 4 || c[3]) return c.slice(0, 3);
        } };
        return [...document.querySelectorAll('body *:not(script)')].flatMap((e) => {
            if (![...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim())) return [];
            const style = getComputedStyle(e);
            const [a, b] = [light(parse(e.namespaceURI.endsWith('svg') ? style.fill : style.color).slice(0, 3)), light(behind(e))];
            const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
            return ratio < 4.5 ? [`${e.tagName} "${e.textContent}" ${ratio.toFixed(2)}`] : [];
        }).join('; ');
    })()
JS

subtest 'light and dark' => sub {
    my %ground;
    for my $scheme (qw(light dark)) {
        my $data = much();
        look($data, scheme => $scheme);
        $_->{unavailable} = $_->{rejected} = $_->{queued} = $_->{none} = 5 for @{ $data->{deliveries} };
        show($data);
        headline_like qr/^Events are refused/, $scheme;
        is $browser->run($contrast), '', '... each text can be read';
        $ground{$scheme} = $browser->run('getComputedStyle(document.body).backgroundColor');
        no_problems;
    }
    isnt $ground{light}, $ground{dark}, 'they differ';
};

subtest 'what comes first, and the colours of results' => sub {
    my $data = Vaani::Test::StatusPage::status_json();
    $data->{deliveries}[0]{$_} = 1 for qw(ok duplicate queued rejected unauthorized unavailable none);
    $data->{spools}[0]{records} = 1;
    my %colour;
    for my $scheme (qw(light dark)) {
        look($data, scheme => $scheme);
        is $browser->run('document.querySelector("#report h2").id'), 'calls', "$scheme: calls come first";
        $colour{$scheme} = [ split / /, $browser->run(
            '[...document.querySelectorAll("[aria-labelledby=by-result] tbody rect")].map((e) => getComputedStyle(e).fill.replaceAll(" ", "")).join(" ")') ];
        my %different = map { $_ => 1 } @{ $colour{$scheme} };
        is scalar keys %different, 7, '... each result has a colour of its own' or diag "@{ $colour{$scheme} }";
    }
    text_like '#notes', qr/1 event waits in .*1 delivery was answered 503.*1 delivery was not a valid event.*1 delivery was from an unknown sender/,
        'one is one';
    unlike $browser->text('#report'), qr/\d\.\d\d\d/, 'no number is more exact than it can be';
};

subtest 'the last hour' => sub {
    my $data = Vaani::Test::StatusPage::status_json();
    $data->{redis}[0]{round_trip}{counts}[3] = 66;
    $data->{history} = [ map { Vaani::Test::StatusPage::minute_json(time => $data->{time} - (60 - $_) * 60_000,
        $_ == 60 ? (seconds => 20) : (), results => { ok => 1 + $_ % 2, rejected => $_ == 30 ? 1 : 0 }, events => { call_started => 1 },
        reasons => { invalid_json => 1 }) } 0 .. 60 ];
    $data->{redis}[0]{history} = [ map { { time => $_->{time}, replies => 1, p50 => 100, p90 => 200, p99 => 400 } } @{ $data->{history} } ];
    $data->{reasons} = { invalid_json => 99 };
    look($data);
    is scalar(() = plot('rate-plot') =~ /<rect/g), 61 + 1, 'a bar for each minute and result, at once' or diag plot('rate-plot');
    text_like '[aria-labelledby=reasons] tbody', qr/^invalid_json 61 99 /, 'the reasons of the last hour';
    text_like '[aria-labelledby=reasons] thead', qr/last hour/, '... it says so';
    text_like '#notes', qr/1 delivery was not a valid event in the last hour/, 'a note';
    text_like '[aria-labelledby=redis-0-time] tbody', qr/^p50 100 \S+s .* p99 400 /, 'the round trips of the last minute';
    my ($line) = plot('redis-0-plot') =~ /class="p50" d="([^"]*)"/;
    is scalar(() = $line =~ /M/g), 1, '... and all of them, in one line';

    # The clock was set forth and back: the minutes stay in their places.
    show($data);
    my $before = plot('rate-plot');
    $_->{time} += 7_200_000 for @{ $data->{history} }[ 20 .. 30 ];
    show($data);
    ok plot('rate-plot') eq $before, 'a clock that was set';
    splice @{ $data->{redis}[0]{history} }, 20, 10;
    show($data);
    ($line) = plot('redis-0-plot') =~ /class="p50" d="([^"]*)"/;
    is scalar(() = $line =~ /M/g), 2, 'minutes without replies are a gap';
    no_problems;
};

subtest 'keyboard and screen reader' => sub {
    look(much());
    is $browser->run('document.querySelectorAll("[aria-live], [role=status], [role=alert]").length'), 1,
        'only the headline speaks by itself';
    is $browser->run('[...document.querySelectorAll("th")].filter((e) => !e.scope).length'), 0, 'th have a scope';
    is $browser->run('document.querySelectorAll("h1").length'), 1, 'one h1';
    is $browser->run('[...document.querySelectorAll("[aria-labelledby]")].filter((e) => !document.getElementById(e.getAttribute("aria-labelledby"))).length'),
        0, 'labels are there';
    is $browser->run('[...document.querySelectorAll("[id]")].filter((e, i, all) => all.findIndex((f) => f.id === e.id) !== i).length'),
        0, 'no id twice';
    is $browser->run('[...document.querySelectorAll("svg")].filter((e) => !e.hasAttribute("aria-hidden") && !e.getAttribute("aria-label")).length'),
        0, 'pictures have words or are hidden';
    is $browser->run('document.getAnimations().length'), 0, 'nothing moves';

    # A table in focus stays in focus, and where it was scrolled to.
    $browser->run('document.querySelector("[aria-labelledby=recent].scroll").focus()');
    $browser->press('End');
    ok wait_for(sub { $browser->run('document.activeElement.scrollTop') > 100 }, 5), 'a table scrolls by key';
    my $was = $browser->run('document.activeElement.scrollTop');
    show(much());
    text_like '#fresh', qr/^Updated/, 'new numbers';
    cmp_ok $browser->run('document.activeElement.scrollTop'), '>=', $was, '... change nothing of that';

    like $page, qr{<noscript>.*\?format=json.*</noscript>}, 'words for those without scripts';
    no_problems;
};

done_testing;
