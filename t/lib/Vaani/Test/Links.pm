package Vaani::Test::Links;

# The links between the documents in a directory, as a reader has them there.
#
#   my @broken = broken_links($dir);    # "docs/redis.md: ../LICENSE" ...

use v5.20;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';

use Exporter 'import';
use File::Basename qw(dirname);
use File::Find ();
use Vaani::Test::Dir qw(slurp);

our @EXPORT = qw(broken_links);

sub broken_links ($dir) {
    my (@broken, @documents);
    File::Find::find({ no_chdir => 1, wanted => sub { push @documents, $_ if /\.md\z/ && -f } }, $dir);
    die "there are no documents in $dir\n" if !@documents;

    for my $document (sort @documents) {
        my $text = slurp($document) =~ s/^```\w*\n.*?^```\n//msgr =~ s/`[^`]*`//gr;
        for my $target ($text =~ /\]\(([^)\s#]+)(?:#[^)\s]*)?\)/g) {
            next if $target =~ /^[a-z]+:/;
            push @broken, substr($document, 1 + length $dir) . ": $target" if !-e dirname($document) . "/$target";
        }
    }
    return @broken;
}

1;
