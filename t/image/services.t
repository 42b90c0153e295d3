# The services of compose.yaml together, with its commands and variables, each in
# the file system of its image, by the names that it uses. No engine runs here:
# Redis is the one of this machine, and a name server says where the services are.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

use JSON::PP qw(decode_json);
use Vaani::Test::Container;
use Vaani::Test::NameServer;
use Vaani::Test::Process qw(run);
use Vaani::Test::RESP;

enter_network($0);

my ($exit, $json, $err) = run([ ROOT . '/t/image/yaml2json', ROOT . '/compose.yaml' ]);
die $err if $exit;
my $services = decode_json($json)->[0]{services};

my $names = Vaani::Test::NameServer->start(port => 53, names => { map { $_ => '127.0.0.1' } keys %$services });
my %binds = ('/etc/resolv.conf' => spew(tmpdir() . '/resolv.conf', "nameserver 127.0.0.1\n"));

# A service with an image of the Dockerfile.
sub service ($name, $image) {
    my $service = $services->{$name};
    return Vaani::Test::Container->image($image)->start(
        %{ $service->{environment} // {} },
        $service->{command} ? (command => $service->{command}) : (),
        $service->{tmpfs} ? () : (tmp => 'none'),
        binds => \%binds,
    );
}

my ($program, @options) = @{ $services->{redis}{command} };
my $dir = tmpdir() . '/redis';
mkdir $dir or die "mkdir: $!\n";
my $redis = Vaani::Test::Process->spawn(argv => [ $ENV{REDIS_BIN} || $program, @options ], dir => $dir, stdout => "$dir/log");
my (undef, @healthy) = @{ $services->{redis}{healthcheck}{test} };
ok wait_for(sub { (run(\@healthy))[1] eq "PONG\n" }, 60), 'Redis is healthy' or diag slurp("$dir/log");

my $subscriber = Vaani::Test::RESP->connect('127.0.0.1:6379');
$subscriber->subscribe('vaani:events');

my $nginx = service(nginx => 'vaani-endpoint');
$nginx->ready or BAIL_OUT('no endpoint');
my $board = service(board => 'vaani-board');
my $simulator = service(simulator => 'vaani-tools');

my $message = eval { decode_json($subscriber->next_message(60)->{payload}) };
ok $message->{room_name}, 'a subscriber hears of a simulated call' or diag $@, $simulator->log, $nginx->log;

my $get = sub ($port, $path) {
    return eval { Vaani::Test::HTTP->new(port => $port, timeout => 10)->get($path)->body } // '';
};

subtest 'the call board' => sub {
    ok wait_for(sub { $get->(8090, '/') =~ /<html/ }, 60), 'it has a page' or diag $board->log;

    # A stream that does not end: what comes within the time that is waited for.
    my $client = Vaani::Test::HTTP->new(port => 8090)->connect;
    $client->send_raw("GET /events HTTP/1.1\r\nHost: board\r\n\r\n");
    my $stream = '';
    ok wait_for(sub { sysread $client->handle, $stream, 65536, length $stream; $stream =~ /"room":"/ }, 60), '... with a call' or diag $stream;
    like $stream, qr/"connected":true/, '... from the Redis of the services';
};

subtest 'the status page' => sub {
    ok wait_for(sub { $get->(8081, '/vaani/status?format=prometheus') =~ /^vaani_deliveries_total\{[^}]*result="ok"[^}]*\} [1-9]/m }, 60), 'it counts the events'
        or diag $get->(8081, '/vaani/status?format=prometheus');
};

for ([ simulator => $simulator ], [ board => $board ], [ nginx => $nginx ]) {
    my ($name, $running) = @$_;
    ok $running->process->alive, "$name still runs" or diag $running->log;
    ok $running->stop, '... and ends when it is stopped';
}
unlike $nginx->log, qr/\[(?:warn|alert|crit|emerg)\]/, 'nginx had nothing to complain of' or diag $nginx->log;

done_testing;
