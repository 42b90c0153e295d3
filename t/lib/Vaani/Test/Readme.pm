package Vaani::Test::Readme;

# The fenced blocks of README.md, or of another page, for tests that follow it.

use v5.20;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';

use Exporter 'import';
use Vaani::Test::Dir qw(slurp);

our @EXPORT = qw(@QUICK_START $WITHOUT_PACKAGE);

# The sections whose shell commands t/deb/quick-start.t runs: those of the README,
# and one of docs/install.md.
our @QUICK_START = ('Install on Debian', 'Send an event', 'Try it without a phone', 'Watch it');
our $WITHOUT_PACKAGE = 'Without the package';

sub new ($class, $file) {
    my (@blocks, $block, @headings);
    my $line = 0;

    for (split /^/, slurp($file)) {
        $line++;
        if ($block) {
            if (/^```\s*$/) { push @blocks, $block; undef $block }
            else            { $block->{text} .= $_ }
        } elsif (/^```(\w*)\s*$/) {
            $block = { line => $line, lang => $1, text => '', sections => [@headings] };
        } elsif (/^(#+) (.+?)\s*$/) {
            splice @headings, length($1) - 1;
            $headings[ length($1) - 1 ] = $2;
        }
    }

    die "no blocks in $file\n" if !@blocks;
    return bless { file => $file, blocks => \@blocks }, $class;
}

# The blocks of a section and its subsections: { line, lang, text, sections }.
sub section ($self, $name) {
    my @found = grep { grep { ($_ // '') eq $name } @{ $_->{sections} } } @{ $self->{blocks} };
    die "$self->{file} has no \"$name\", or no blocks in it\n" if !@found;
    return @found;
}

# All of a language.
sub of ($self, $lang) { return grep { $_->{lang} eq $lang } @{ $self->{blocks} } }

1;
