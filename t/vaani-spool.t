# The tool that looks into a spool and sends what is in it, without nginx.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use Vaani::Test;
use Vaani::Test::Events;
use Vaani::Test::Faults;

my $tool = $ENV{VAANI_SPOOL} // "$FindBin::Bin/../build/vaani-spool";
plan skip_all => 'make tool builds it' if !-x $tool;

sub tool (@args) {
    my ($exit, $out, $err) = run([ $tool, @args ]);
    return { exit => $exit, out => $out, err => $err };
}

sub record ($room, $event = 'call_ringing', %opt) {
    return Vaani::Test::Faults::delivery_content(
        room => $room, id => $room, body => event($event, room => $room), %opt,
    );
}

sub in_journal (@contents) {
    return join '', map { Vaani::Test::Faults::journal_record($_) } @contents;
}

my $dir = tmpdir() . '/spool';
mkdir $dir or die "mkdir: $!";

spew("$dir/00000000000000000001.log", in_journal(record('first'), record('second')));
spew("$dir/00000000000000000002.log", in_journal(record("third\xc2\xa0")) . 'garbage' . in_journal(record('fourth')));
spew("$dir/dead-letters", in_journal("\0\x09WRONGTYPE" . record('fifth')));
spew("$dir/lock", '');

subtest 'usage' => sub {
    is tool('--help')->{exit}, 0, 'help';
    like tool('--help')->{out}, qr/vaani-spool resend REDIS/, '... on standard output';
    for my $args ([], ['list'], ['resend', 'unix:/x'], [ 'nonsense', $dir ]) {
        my $ran = tool(@$args);
        is $ran->{exit}, 2, "@$args: wrong";
        like $ran->{err}, qr/^usage: vaani-spool/, '... says so';
    }
    my $ran = tool(list => "$dir/no-such");
    is $ran->{exit}, 1, 'a file that is not there';
    like $ran->{err}, qr/no-such: No such file/, '... says so';
};

subtest 'list' => sub {
    my $ran = tool(list => $dir);

    is $ran->{exit}, 1, 'something is damaged';
    my @lines = split /\n/, $ran->{out};
    is @lines, 7, 'a line a record, one for the damage, the sum';
    like $lines[0], qr{/0+1\.log:0: \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z call_ringing vaani:call:first \d+ bytes$},
        'a record';
    like $lines[1], qr{/0+1\.log:[1-9]\d*: .* vaani:call:second }, 'the next one, further on';
    like $lines[2], qr{vaani:call:third\\xc2\\xa0 }, 'a name cannot steer the terminal';
    like $lines[3], qr{/0+2\.log:\d+: damaged: 7 bytes are no record}, 'the damage';
    like $lines[4], qr{vaani:call:fourth}, 'what is behind it';
    like $lines[5], qr{/dead-letters:0: .* vaani:call:fifth .*, refused: WRONGTYPE$}, 'a dead letter, with its reason';
    is $lines[6], '5 records, 1 damaged places', 'the sum';
    unlike $ran->{out}, qr/room_name/, 'no bodies';
};

subtest 'verify' => sub {
    is tool(verify => "$dir/00000000000000000001.log")->{exit}, 0, 'a good segment';
    is tool(verify => "$dir/00000000000000000001.log")->{out}, "2 records, 0 damaged places\n", '... says so';
    is tool(verify => $dir)->{exit}, 1, 'a damaged one among others';
};

subtest 'resend' => sub {
    my $redis = Vaani::Test::Redis->start(tcp => 1, password => 'secret');
    my $client = $redis->client;
    my $subscriber = $redis->client->subscribe('vaani:events');

    my $ran = tool(resend => 'unix:' . $redis->socket, $dir);
    is $ran->{exit}, 1, 'without the password';
    is $client->cmd('DBSIZE'), 0, '... nothing is sent';

    local $ENV{VAANI_REDIS_PASSWORD} = 'wrong';
    $ran = tool(resend => 'unix:' . $redis->socket, $dir);
    is $ran->{exit}, 1, 'with a wrong one';
    unlike $ran->{err}, qr/wrong"/, '... which is not told';

    $ENV{VAANI_REDIS_PASSWORD} = 'secret';
    $ran = tool(resend => 'redis://127.0.0.1:' . $redis->port . '/3', $dir);
    like $ran->{out}, qr/^5 records: 5 sent, 0 of them duplicates, 0 refused, 1 damaged places$/m, 'all is sent';

    my $third = $redis->client(db => 3);
    is $third->cmd('HGET', "vaani:call:$_", 'seq'), 1, "$_ is there" for 'first', 'second', "third\xc2\xa0", 'fourth', 'fifth';
    my $message = $subscriber->next_message;
    like $message->{payload}, qr/"received_at":1790000000123,.*"replayed":true,/, 'published, as of its receipt';

    $ran = tool(resend => 'redis://127.0.0.1:' . $redis->port . '/3', $dir);
    like $ran->{out}, qr/5 sent, 5 of them duplicates/, 'a second time it does nothing';

    $third->cmd('SET', 'vaani:call:first', 'a string') if $third->cmd('DEL', 'vaani:call:first');
    $ran = tool(resend => 'redis://127.0.0.1:' . $redis->port . '/3', "$dir/00000000000000000001.log");
    is $ran->{exit}, 1, 'refused';
    like $ran->{out}, qr{/0+1\.log:0: refused: WRONGTYPE}, '... says which and why';
    like $ran->{out}, qr/2 records: 1 sent/, '... and goes on';

    open my $segment, '<', "$dir/00000000000000000001.log" or die;
    flock $segment, 2;
    $ran = tool(resend => 'redis://127.0.0.1:' . $redis->port, "$dir/00000000000000000001.log");
    is $ran->{exit}, 1, 'one that nginx is at';
    like $ran->{err}, qr/nginx is at work on it/, '... is left alone';
    close $segment;

    $redis->stop;
    $ran = tool(resend => 'redis://127.0.0.1:' . $redis->port, $dir);
    is $ran->{exit}, 1, 'no Redis';
    like $ran->{err}, qr/Redis: /, '... says so';
};

done_testing;
