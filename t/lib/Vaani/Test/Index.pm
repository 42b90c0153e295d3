package Vaani::Test::Index;

# Checks the guarantee of vaani_index: the sets contain what follows from the
# hashes.

use v5.20;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';

use Exporter 'import';

our @EXPORT_OK = qw(index_problems);

use constant PAGE => 200;

# The errors of the index of calls with these keys, one line each.
sub index_problems ($client, @keys) {
    my @problems;

    while (my @page = splice @keys, 0, PAGE) {
        my @replies = $client->pipeline(map {
            my ($prefix, $room) = /^(.*?):call:(.*)\z/s;
            (
                [ HMGET => $_, qw(created_at updated_at outcome) ],
                [ ZSCORE => "$prefix:active", $room ], [ ZSCORE => "$prefix:calls", $room ],
            )
        } @page);

        for my $key (@page) {
            my ($call, $active, $calls) = splice @replies, 0, 3;
            my ($created_at, $updated_at, $outcome) = map { $_ // 'none' } @$call;
            my $expected = $outcome eq 'none' ? $created_at : 'none';

            push @problems, "$key is in active with " . ($active // 'none') . ", expected $expected"
                if ($active // 'none') ne $expected;
            push @problems, "$key is in calls with " . ($calls // 'none') . ", expected $updated_at"
                if ($calls // 'none') ne $updated_at;
        }
    }

    return @problems;
}

1;
