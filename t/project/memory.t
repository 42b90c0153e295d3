# The numbers of "Memory and disk" in docs/performance.md are those that
# bench/memory measures with Redis 7.0, within a tenth. With another Redis, or
# Valkey, a call or an entry of a stream takes no more, and no less than half.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;


# The tables of a text as arrays of rows, the head first.
sub tables ($text) {
    my (@tables, $table);

    for (split /\n/, $text) {
        my ($row) = /^\|(.*)\|$/ or undef $table, next;
        push @tables, $table = [] if !$table;
        push @$table, [ map { s/^\s+|\s+$//gr } split /\|/, $row ] if $row !~ /^[-| ]+$/;
    }
    return @tables;
}

my ($section) = slurp(ROOT . '/docs/performance.md') =~ /^### Memory and disk\n(.*?)(?=^##|\z)/ms;
my @documented = tables($section // '');

my (undef, $version) = run([ $ENV{REDIS_BIN} || 'redis-server', '--version' ]);
my ($measured_with) = ($section // '') =~ /\bRedis (\d+\.\d+)\.\d+/;
my $same = $version =~ /^Redis server v=\Q$measured_with\E\./;

my ($exit, $out, $err) = run([ $^X, ROOT . '/bench/memory' ], timeout => 600);
is $exit, 0, 'bench/memory' or diag $err;
my @measured = tables($out);

is scalar @documented, 3, 'three tables in the document';
is scalar @measured, 3, 'three tables are measured';

for my $n (0 .. $#measured) {
    my ($head, @rows) = @{ $measured[$n] };
    my ($documented_head, @documented_rows) = @{ $documented[$n] // [ [] ] };

    is_deeply $documented_head, $head, 'the head of a table';
    is_deeply [ map { $_->[0] } @documented_rows ], [ map { $_->[0] } @rows ], '... its rows';

    for my $i (0 .. $#rows) {
        my ($name, @numbers) = @{ $rows[$i] };

        for my $column (1 .. @numbers) {
            my ($got, $want) = ($numbers[ $column - 1 ], $documented_rows[$i][$column] // 0);
            my $most = $same || $head->[$column] =~ /^(?:body|in the spool)$/ ? 1.1 : 2;
            ok $want >= $got * 0.9 && $want <= $got * $most, "$name, $head->[$column]: $want" or diag "measured: $got";
        }
    }
}

done_testing;
