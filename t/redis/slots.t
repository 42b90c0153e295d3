# The slot of a key is the one that Redis Cluster says, whatever bytes and braces
# are in it.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use Vaani::Test;

use constant KEYS => 10_000;

my $program = $ENV{VAANI_SLOT} // ROOT . '/build/slot';

# [ slot, CRC16 ] for each key.
sub slots_of (@keys) {
    my $file = spew(tmpdir() . '/keys', join '', map { pack 'N/a*', $_ } @keys);
    my @lines = `'$program' < '$file'`;
    is $?, 0, 'the program has read all keys';
    return map { [ split ] } @lines;
}

my $redis = Vaani::Test::Redis->start(
    config => [ 'cluster-enabled yes', 'cluster-config-file nodes.conf' ],
);
my $client = $redis->client;

like $client->cmd('INFO', 'cluster'), qr/^cluster_enabled:1\r$/m, 'Redis Cluster';

my $seed = $ENV{VAANI_SEED} // 20271;
srand $seed;
note "VAANI_SEED=$seed";

# Braces are frequent, and often next to each other.
my @PIECES = (
    ('{', '}') x 3, '{}', '}{', '{{', '}}', "\0", "\xff", "\r\n", ' ', 'a', 'vaani:call:', 'room', '{room}',
);

sub random_bytes ($n) { return join '', map { chr int rand 256 } 1 .. $n }

my @keys = ('', '{', '}', '{}', '{}a', '{{}}', 'a{b}c', 'a{}{b}', 'a}{b}', '{a', '123456789', random_bytes(65536));
while (@keys < KEYS) {
    push @keys, join '', map { rand() < 0.3 ? random_bytes(int rand 8) : $PIECES[ rand @PIECES ] } 1 .. 1 + rand 8;
}

my @slots = slots_of(@keys);
my @expected = $client->pipeline(map { [ 'CLUSTER', 'KEYSLOT', $_ ] } @keys);

is scalar @slots, KEYS, 'each key has a slot';
is scalar(grep { /^\d+$/ && $_ < 16384 } @expected), KEYS, 'Redis says one for each';

my @wrong = grep { $slots[$_][0] ne $expected[$_] } 0 .. $#keys;
is scalar @wrong, 0, 'they are the same'
    or diag map { unpack('H*', $keys[$_]) . ": $slots[$_][0], not $expected[$_]\n" } grep { defined } @wrong[ 0 .. 9 ];

# Without a hash tag, the slot is the CRC of the whole key.
my @untagged = grep { $keys[$_] !~ /\{[^}]+\}/s } 0 .. $#keys;
cmp_ok scalar @untagged, '>', 1000, 'there are keys without a hash tag';
is scalar(grep { $slots[$_][1] % 16384 != $expected[$_] } @untagged), 0, '... and their CRCs agree';

done_testing;
