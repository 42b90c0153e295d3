# The page of the call board in a real browser: its columns and times, the filter,
# the keyboard, colours in light and dark, and how it fits a phone and a screen.
# t/examples/examples.t has how it follows Redis and nginx.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

use JSON::PP ();
use Time::HiRes ();
use Vaani::Test::ACL qw(documented index_rights);
use Vaani::Test::Browser;
use Vaani::Test::Events;
use Vaani::Test::Example qw(command require_packages);


my $json = JSON::PP->new->ascii->canonical->allow_nonref;

binmode $_, ':utf8' for map { Test::More->builder->$_ } qw(output failure_output);

require_packages('ioredis');

my $redis = Vaani::Test::Redis->start(
    tcp    => 1,
    acl    => [ index_rights() ],
    config => [ join ' ', 'user app', @{ (documented('app'))[0] } ],
);
my $admin = $redis->client;

my $nginx = Vaani::Test::Nginx->start(http => <<"CONF");
    vaani_redis @{[ $redis->url ]};
    vaani_index on;
    server { listen unix:%%SOCK%%; location / { vaani_webhook; } }
CONF

my $port = free_port();
my $server = Vaani::Test::Example->start([ command('call-board/server.js') ],
    REDIS_URL => 'redis://app:secret@127.0.0.1:' . $redis->port, PORT => $port);
$server->says(qr/^following/m, 'the board follows');

my $browser = Vaani::Test::Browser->start;
my $url = "http://127.0.0.1:$port/";

sub deliver (@bodies) {
    for (@bodies) {
        my $response = $nginx->http->post('/', $_);
        die "not accepted: $_: " . $response->body . "\n" if $response->status != 200;
    }
    return;
}

# A call with times of the test's own: its hash, and a message of the event in it.
sub call ($room, %hash) {
    state $seq = 0;
    my $key = "vaani:call:$room";
    my %values = (room_name => $room, seq => ++$seq, last_event => 'x', created_at => int 1000 * Time::HiRes::time(), %hash);
    utf8::encode($_) for my @values = map { "$_" } %values;
    utf8::encode(my $bytes = $key);
    $admin->cmd(HSET => $bytes, @values);
    $admin->cmd(PUBLISH => 'vaani:events', $json->encode({
        id => "$seq", seq => $seq, event => 'x', room_name => $room, status => $values{status}, key => $key }));
    return;
}

sub text_like ($selector, $regex, $name) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return ok(wait_for(sub { $browser->text($selector) =~ $regex }), $name) || diag $browser->text($selector);
}

sub row ($room) { return '[data-key="vaani:call:' . $room . '"]' }
sub rows () { return $browser->run(q{[...document.querySelectorAll('tbody .room')].map((e) => e.textContent).join(' ')}) }
sub address () { return $browser->run('location.hash') }

sub rooms_are ($expected, $name) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    wait_for(sub { rows() eq $expected });
    return is rows(), $expected, $name;
}

sub press (@keys) { $browser->press($_) for @keys; return }
sub choose ($state) { $browser->run("document.querySelector('[value=$state]').click()"); return }

# As typed: the field is empty before.
sub find ($words) {
    $browser->run(q{document.querySelector('#words').focus(); document.querySelector('#words').select()});
    press($words eq '' ? 'Backspace' : split //, $words);
    return;
}

sub no_problems () {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return is_deeply [ $browser->problems ], [], 'no errors, nothing that the policy forbids';
}

subtest 'no calls' => sub {
    $browser->open($url);
    text_like '#connection', qr/^Connected$/, 'connected';
    text_like '#none', qr/^No calls yet\.$/, 'no calls';
    text_like 'fieldset', qr/^Show All 0 Live 0 Ended 0 Completed 0 Unsuccessful 0$/, 'counts';
};

# --- one call of each kind

my $now = int 1000 * Time::HiRes::time();
my @ended = (status => 'ended', picked_up_at => $now, call_ended_at => $now + 42_500);
my @transfer = (transfer_status => 'failed', transfer_phone_number => '+12025550175', transfer_reason => 'busy', transfers_initiated => 1);

call('r-over', status => 'ended', created_at => $now - 3 * 86_400_000);
call('r-failed', status => 'failed', outcome => 'failed', direction => 'outbound', error => 'SIP_404_NOT_FOUND', created_at => $now - 7_300_000);
call('r-missed', status => 'no_answer', outcome => 'no_answer', phone_number => '+12025550175', created_at => $now - 600_000);
call('r-completed', @ended, outcome => 'completed', phone_number => '+12025550142', direction => 'inbound',
    dispositions => '{"tag":"Name Collected"}', created_at => $now - 120_000);
call('r-waiting', status => 'ringing', direction => 'outbound', created_at => $now - 30_000);
call('r-active', status => 'active', direction => 'web', phone_number => 'web-user', @transfer,
    'at:user_picked_up_at' => $now - 3_725_000, created_at => $now - 3_730_000);

use constant EACH => 'r-waiting r-active r-completed r-missed r-failed r-over';

subtest 'columns and times' => sub {
    rooms_are EACH, 'live calls first, the latest at the top of each part';
    is $browser->text('thead th'), 'Status | Number | Direction | Room | Started | Talk time | Transfer | Result', 'headings';
    is $browser->run(q{[...document.querySelectorAll('thead th')].every((th) => th.scope === 'col')}), JSON::PP::true, '... of columns';
    is $browser->run(q{[...document.querySelectorAll('tbody th')].every((th) => th.scope === 'row')}), JSON::PP::true, 'each row has one';
    is $browser->run(q{[...document.querySelectorAll('tr')].every((tr) => tr.cells.length === 8)}), JSON::PP::true, 'no cell is missing';
    is $browser->text('fieldset'), 'Show All 6 Live 2 Ended 4 Completed 1 Unsuccessful 2', 'counts';

    # In the zone of the browser, as a person there would write it.
    my $clock = sub ($ms) { $browser->run("new Date($ms).toTimeString().slice(0, 8)") };
    my $started = $clock->($now - 120_000);
    text_like row('r-completed'), qr/^completed \+12025550142 inbound r-completed (?:\d+ \w+ \d+, )?$started 2 min ago 0:43 Name Collected$/,
        'a call that was completed';
    is $browser->run(qq{document.querySelector('@{[ row('r-completed') ]} time').dateTime}), $browser->run("new Date($now - 120000).toISOString()"),
        '... its time for programs';
    text_like row('r-active'), qr/^active web-user web r-active (?:\d+ \w+ \d+, )?\d\d:\d\d:\d\d 1 h ago 1:02:\d\d failed to \+12025550175 \(busy\)$/,
        'a call that is active';
    text_like row('r-waiting'), qr/^ringing outbound r-waiting (?:\d+ \w+ \d+, )?\d\d:\d\d:\d\d \d+ (?:s|min) ago$/, 'a call that rings';
    text_like row('r-failed'), qr/ 2 h ago SIP_404_NOT_FOUND$/, 'a call that failed';
    text_like row('r-missed'), qr/^no answer \+12025550175 r-missed .*10 min ago$/, 'a call without an answer';
    text_like row('r-over') . ' .started', qr/^\d+ \w+ \d{4}, \d\d:\d\d:\d\d 3 days ago$/, 'another day has its date';

    my $before = $browser->text(row('r-active') . ' .talked');
    ok wait_for(sub { $browser->text(row('r-active') . ' .talked') ne $before }), 'the talk time runs';

    # Each value can be missing, or be none.
    call('r-odd', created_at => 'yesterday', status => 'ended', call_duration_ms => 'long', dispositions => '"x"', transfer_status => 'lost');
    text_like row('r-odd'), qr/^ended r-odd lost$/, 'values that nobody expects';
    call('r-odd', created_at => '1e300', status => 'active', 'at:user_picked_up_at' => 'x');
    text_like row('r-odd'), qr/^active r-odd lost$/, 'a date that does not exist';
    $admin->cmd(qw(HDEL vaani:call:r-odd status created_at));
    call('r-odd', created_at => $now - 1000, room_name => 'r-odd');
    text_like row('r-odd'), qr/^unknown r-odd .*\d\d:\d\d:\d\d \S+/, 'a call without a status';
    $admin->cmd(qw(DEL vaani:call:r-odd));
    $admin->cmd(PUBLISH => 'vaani:events', '{"id":"x","seq":9999,"event":"x","room_name":"r-odd","key":"vaani:call:r-odd"}');
    rooms_are EACH, 'a call whose hash is gone';
    no_problems;
};

# --- the filter

subtest 'the filter' => sub {
    my %state = (
        all => EACH, live => 'r-waiting r-active', ended => 'r-completed r-missed r-failed r-over',
        completed => 'r-completed', unsuccessful => 'r-missed r-failed',
    );
    for my $state (sort keys %state) {
        choose($state);
        rooms_are $state{$state}, "state: $state";
        is address(), $state eq 'all' ? '' : "#state=$state", '... in the address';
        my $n = split ' ', $state{$state};
        is $browser->text('#matches'), $state eq 'all' ? '' : "$n of 6 calls", '... and counted';
    }
    choose('all');

    my @find = (
        [ 'R-MISSED' => 'r-missed' ], [ '0142' => 'r-completed' ], [ '+1(202)555-0142' => 'r-completed' ],
        [ '202-555-0175' => 'r-active r-missed' ], [ 'no answer' => 'r-missed' ], [ 'outbound ringing' => 'r-waiting' ],
        [ 'name collected' => 'r-completed' ], [ 'sip_404' => 'r-failed' ], [ 'busy' => 'r-active' ], [ 'inbound web' => '' ],
    );
    for my $case (@find) {
        my ($words, $rooms) = @$case;
        find($words);
        rooms_are $rooms, "words: $words";
    }
    text_like '#none', qr/^No call matches the filter\.$/, 'none matches';
    is $browser->text('#matches'), '0 of 6 calls', '... and is counted';
    is $browser->run('document.querySelector("#matches").getAttribute("role")'), 'status', '... which a screen reader says';
    find('');
    rooms_are EACH, 'no words';

    # Both at once; the words stay as they were typed.
    find('r-m%&=#');
    choose('ended');
    rooms_are '', 'characters that mean something in an address';
    my $address = address();
    $browser->open("$url$address");
    ok wait_for(sub { $browser->text('#matches') eq '0 of 6 calls' }), 'a bookmark';
    is $browser->run('document.querySelector("#words").value'), 'r-m%&=#', '... has the words';
    is $browser->run('document.querySelector("[name=state]:checked").value'), 'ended', '... and the state';

    $browser->run("location.hash = '#find=r-f&state=unsuccessful'");
    rooms_are 'r-failed', 'an address that is typed';
    is $browser->text('fieldset'), 'Show All 1 Live 0 Ended 1 Completed 0 Unsuccessful 1', '... counts what the words find';
    for my $odd (qw(state=none state=__proto__ state=constructor state %%% find=%ff%%)) {
        $browser->open("$url#$odd");
        text_like '#connection', qr/^Connected$/, "an address that means nothing: #$odd";
        is $browser->run('document.querySelector("[name=state]:checked").value'), 'all', '... all states';
    }
    no_problems;
};

subtest 'the filter and new messages' => sub {
    $browser->open("$url#state=live");
    rooms_are 'r-waiting r-active', 'live calls';
    find('new-');
    rooms_are '', 'none is new';
    my $selection = q{[document.activeElement.id, document.activeElement.value, document.activeElement.selectionStart].join(' ')};
    press('Home');
    is $browser->run($selection), 'words new- 0', 'the cursor';

    deliver(map { event($_, room => 'new-1') } qw(call_started call_ringing));
    deliver(event('call_started', room => 'old-1'));
    rooms_are 'new-1', 'a call that matches appears, another one does not';
    text_like row('new-1'), qr/^ringing \+1234567890 outbound new-1 /, '... with its status';
    is $browser->run($selection), 'words new- 0', 'the focus, the words and the cursor stay';

    # The element stays, and so does a selection in it.
    $browser->run(qq{window.kept = document.querySelector('@{[ row('new-1') ]}')});
    deliver(event('user_picked_up_at', room => 'new-1'), event('call_started', room => 'new-2'));
    text_like row('new-1'), qr/^active /, 'it changes';
    rooms_are 'new-2 new-1', 'a later call is above it';
    is $browser->run(qq{window.kept === document.querySelector('@{[ row('new-1') ]}')}), JSON::PP::true, '... the same element';
    deliver(event('call_ended', room => 'new-1'));
    rooms_are 'new-2', 'it leaves as it ends';
    is address(), '#state=live&find=new-', 'the filter stays';
    is $browser->run('document.title'), '(4) Calls', 'the title counts all live calls';

    no_problems;
};

subtest 'the keyboard' => sub {
    $browser->open($url);
    text_like '#connection', qr/^Connected$/, 'connected';
    press('Tab');
    is $browser->run('document.activeElement.value'), 'all', 'Tab goes to the states';
    is $browser->run('getComputedStyle(document.activeElement.nextElementSibling).outlineStyle'), 'solid', '... which shows';
    press(qw(ArrowRight ArrowRight));
    is address(), '#state=ended', 'arrows choose one';
    press('Tab');
    is $browser->run('document.activeElement.id'), 'words', 'Tab goes to the words';
    press(split //, 'r-f');
    rooms_are 'r-failed', 'words are typed';
    press('Enter');
    is $browser->run('location.pathname + location.search + location.hash'), '/#state=ended&find=r-f', 'Enter changes nothing';
    is $browser->run(q{[...document.querySelectorAll('input')].every((e) => e.labels.length && e.labels[0].textContent.trim())}),
        JSON::PP::true, 'each input has a label';
    no_problems;
};

# --- for whom it is

# The contrast of each text with what is behind it, by the formula of WCAG; 4.5 is
# its level AA. Text that only screen readers see is left out.
my $contrast = <<'JS';
    (() => {
        const light = (rgb) => rgb.map((c) => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
            .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
        const parse = (s) => s.match(/[\d.]+/g).map(Number);
        const behind = (e) => { for (; e; e = e.parentElement) {
            const c = parse(getComputedStyle(e).backgroundColor);
            if (c.length < 4 || c[3]) return c.slice(0, 3);
        } };
        const ratio = (color, e) => {
            const [a, b] = [light(parse(color).slice(0, 3)), light(behind(e))];
            return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        };
        const texts = [...document.querySelectorAll('body *')].filter((e) => e.matches('input[type=search]')
            || [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()));
        const low = texts.filter((e) => ratio(getComputedStyle(e).color, e) < 4.5).map((e) => `${e.tagName} ${e.textContent}`);
        const words = document.querySelector('#words');
        if (ratio(getComputedStyle(words, '::placeholder').color, words) < 4.5) low.push('placeholder');
        return `${texts.length > 40 ? '' : 'few texts '}${low.join('; ')}`;
    })()
JS

subtest 'colours' => sub {
    my %ground;
    for my $scheme (qw(light dark)) {
        $browser->open($url, scheme => $scheme);
        text_like '#ended', qr/r-over/, $scheme;
        my %colour = map {
            ($_ => $browser->run(qq{getComputedStyle(document.querySelector('@{[ row("r-$_") ]} .badge')).color}));
        } qw(active waiting completed missed failed over);
        my %of;
        push @{ $of{ $colour{$_} } }, $_ for sort keys %colour;
        is_deeply [ grep { @$_ > 1 } values %of ], [], '... each kind has a colour of its own';
        is $browser->run($contrast), '', '... each text can be read';
        choose('ended');
        is $browser->run($contrast), '', '... also when a state is chosen';
        $ground{$scheme} = $browser->run('getComputedStyle(document.body).backgroundColor');
        no_problems;
    }
    isnt $ground{light}, $ground{dark}, 'light and dark differ';
};

# Elements that are cut off: wider than the window, or with more in them than they show.
my $cut = <<'JS';
    [...document.querySelectorAll('header *, fieldset label, fieldset span, #words, #matches, tbody, tr, td, tbody th, td *')].filter((e) => {
        const box = e.getBoundingClientRect();
        if (!box.width || e.closest('thead') && innerWidth < 900) return false;
        return box.left < 0 || box.right > innerWidth + 0.5 || getComputedStyle(e).display !== 'inline' && e.scrollWidth > e.clientWidth;
    }).map((e) => `${e.tagName}.${e.className} ${e.textContent.slice(0, 40)}`).join('; ')
JS

# Cells of a row that overlap.
my $overlap = <<'JS';
    [...document.querySelectorAll('tbody tr')].flatMap((tr) => {
        const cells = [...tr.cells].map((e) => [e.className, e.getBoundingClientRect()]).filter(([, box]) => box.width);
        return cells.flatMap(([a, p], i) => cells.slice(i + 1).filter(([, q]) => p.left + 1 < q.right && q.left + 1 < p.right
            && p.top + 1 < q.bottom && q.top + 1 < p.bottom).map(([b]) => `${a}/${b}`));
    }).join(' ')
JS

subtest 'phones and screens' => sub {
    my $long = 'a-room-with-a-very-long-name-' x 8;
    my $text = '<img src=x onerror=alert(1)><script>alert(2)</script>';
    call($long, status => 'active', direction => 'outbound', phone_number => '1' x 200, 'at:user_picked_up_at' => $now - 360_000_000,
        @transfer, transfer_phone_number => '9' x 100, transfers_initiated => 3, transfer_reason => 'x' x 200);
    call($text, @ended, outcome => 'no_answer', phone_number => $text, direction => $text, error => $text x 3, transfer_status => $text,
        dispositions => $json->encode({ a => $text, b => "\x{928}\x{92e}\x{938}\x{94d}\x{924}\x{947} " x 20 }), created_at => $now - 500_000_000);

    for my $size ([ 320, 640 ], [ 400, 800 ], [ 700, 900 ], [ 899, 900 ], [ 900, 900 ], [ 1200, 900 ], [ 1920, 1080 ]) {
        my ($width, $height) = @$size;
        $browser->open($url, width => $width, height => $height, scheme => $width % 3 ? 'light' : 'dark');
        text_like '#ended', qr/onerror/, $width;
        is $browser->run('document.documentElement.scrollWidth'), $width, '... does not scroll sideways';
        is $browser->run($cut), '', '... nothing is cut off';
        is $browser->run($overlap), '', '... nothing overlaps';

        # What every call has stands in one line.
        is $browser->run(qq{['.badge', '.number', 'time'].map((part) => {
            const range = document.createRange();
            range.selectNodeContents(document.querySelector('@{[ row('r-completed') ]} ' + part));
            return range.getClientRects().length;
        }).join(' ')}), '1 1 1', '... status, number and time are not broken';

        # Headings where there are columns, else words.
        my $is_table = $width >= 900;
        is $browser->run(q{getComputedStyle(document.querySelector('tbody tr')).display}), $is_table ? 'table-row' : 'grid',
            '... ' . ($is_table ? 'columns' : 'cards');
        is $browser->run(q{document.querySelector('thead th').getBoundingClientRect().width > 40}),
            $is_table ? JSON::PP::true : JSON::PP::false, '... headings' if $is_table;
        like $browser->run(qq{getComputedStyle(document.querySelector('@{[ row('r-active') ]} .$_->[0]'), '::before').content}),
            qr/^"?$_->[1]\b|attr\(data-label\)/, "... $_->[1]" for $is_table ? () : ([ started => 'Started' ], [ talked => 'Talk time' ], [ transfer => 'Transfer' ]);
        cmp_ok $browser->run(q{document.querySelector('table').getBoundingClientRect().width}), '>=', 0.7 * $width, '... its width is used';
        is $browser->run('document.querySelectorAll("img, iframe, body script").length'), 0, '... text is text';
        no_problems;
    }

    # Each row is one of a table for a screen reader, also as a card.
    is $browser->run(q{[...document.querySelectorAll('table, thead, tbody, tr, th, td')].filter((e) => !e.getAttribute('role')).length}), 0, 'roles';
    is $browser->run('document.getAnimations().length'), 0, 'nothing moves';
};

subtest 'more calls than are shown' => sub {
    call("many-$_", status => 'ringing', created_at => $now + $_) for 1 .. 110;
    $browser->open("$url#find=many-");
    ok wait_for(sub { $browser->run('document.querySelectorAll("#live tr").length') == 100 }), 'the latest 100';
    text_like '#matches', qr/^110 of \d+ calls; the latest 100 of 110 live calls are shown$/, '... and it says so';
    call("done-$_", @ended, outcome => 'completed') for 1 .. 110;
    $browser->open("$url#find=done-");
    ok wait_for(sub { $browser->run('document.querySelectorAll("#ended tr").length') == 100 }), 'the last 100 that ended';
    like rows(), qr/^done-110 done-109 .* done-11$/, '... the latest first';
    no_problems;
};

done_testing;
