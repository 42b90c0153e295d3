package Vaani::Test::Nginx::Log;

# Lines in nginx's logs and on its stderr (sanitizers, glibc) that mean a bug.

use v5.20;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';

use Exporter 'import';

our @EXPORT_OK = qw(bad_lines);

my $bad = qr{
      \[(?:alert|emerg)\]
    | ERROR:\ AddressSanitizer | LeakSanitizer | SUMMARY:\ \w+Sanitizer
    | runtime\ error:
    | exited\ on\ signal
    | exited\ with\ code\ (?!0\b)       # so ends a worker in which a leak was found
    | open\ socket\ \#
    | zero\ size\ buf
    | double\ free
    | ^(?:free|malloc|realloc|munmap_chunk)\(\):\ | ^corrupted\  | stack\ smashing
}xi;

# nginx prints the first before it has read which log to use instead. The
# second is UBSan about nginx's own sources (an empty string's memcpy()); the
# module's are compiled by their absolute path.
my $harmless = qr{could not open error log file|^src/\S+ runtime error: };

sub bad_lines ($path, $allowed) {
    open my $fh, '<:raw', $path or return;
    my @found;

    while (defined(my $line = readline $fh)) {
        next if $line !~ $bad || $line =~ $harmless;
        next if defined $allowed && $line =~ $allowed;
        push @found, $line;
    }

    return @found;
}

1;
