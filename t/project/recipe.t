# The recipe "Add an event" of CONTRIBUTING.md: it names every file that has all events by
# name, and each of these has all of them, those of the table.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

my @events = slurp(ROOT . '/src/core/vaani_event_table.c') =~ /^    \{ vaani_string\("(\w+)"\), '/mg;
cmp_ok scalar @events, '>=', 11, 'the table has events';

# Vaani's names of transfers have a common beginning, and programs put them together.
my @transfers = grep { /^human_transfer_/ } @events;
my @others = grep { !/^human_transfer_/ } @events;

sub has ($text, $event) { return $text =~ /(?<![a-z])\Q$event\E(?![a-z_])/ }

sub missing ($text) {
    my $composes = $text =~ /human_transfer_(?![a-z*])/;
    return grep { !has($text, $_) } @others, $composes ? () : @transfers;
}

my ($section) = slurp(ROOT . '/CONTRIBUTING.md') =~ /^## Add an event\n(.*?)^## /ms;
my @listed = $section =~ /^\| `([^`]+)` \|/mg;
my %listed = map { $_ => 1 } @listed;

# Files that are written for one event or another, and have all of them by chance.
my %by_chance = map { $_ => 1 } qw(CHANGELOG.md);

my @files = map { s{^\./}{}r } split /\n/, (run([ qw(find . -name .git -prune -o -path ./build -prune
    -o -name node_modules -prune -o -name corpus -prune -o -type f -size -1024k -print) ], dir => ROOT))[1];

subtest 'what has all events is in the list' => sub {
    my @all = grep { my $text = slurp(ROOT . "/$_"); has($text, 'call_postprocessing') && !missing($text) } @files;
    cmp_ok scalar @all, '>=', 10, 'there are such files';
    is_deeply [ grep { !$listed{$_} && !$by_chance{$_} } sort @all ], [], 'each is listed';
};

# It has the codes of the events, not their names.
my %by_code = map { $_ => 1 } qw(t/unit/transition_test.c);

subtest 'what is in the list has all events' => sub {
    for my $file (@listed) {
        my $text = slurp(ROOT . "/$file");
        ok $text ne '', "$file is there" or next;
        is_deeply [ missing($text) ], [], '... and has all events' if !$by_code{$file};
    }
};

# A number that must be changed, and that the recipe does not name.
subtest 'nobody counts them' => sub {
    my %word = (11 => 'eleven', 12 => 'twelve', 13 => 'thirteen', 14 => 'fourteen');
    my $number = @events;
    my @found;
    for my $file (grep { m{^(?:README|CONTRIBUTING|docs/|examples/.*\.md|man/|src/core/|t/.*\.[tch]$|t/lib/)} && $_ ne 't/project/recipe.t' } @files) {
        my $text = slurp(ROOT . "/$file");
        push @found, map { "$file: $_" } grep { /\b(?:\Q$word{$number}\E|$number) (?:documented |known )?events\b/i || /EVENTS, *$number\b/ } split /\n/, $text;
    }
    is_deeply \@found, [], 'no document, no test does';
};

done_testing;
