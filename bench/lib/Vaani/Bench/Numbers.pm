package Vaani::Bench::Numbers;

# Medians of rounds, and how tables show them.

use v5.20;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';

use Exporter 'import';

our @EXPORT_OK = qw(median range spread);

sub median (@n) { @n = sort { $a <=> $b } @n; return ($n[ $#n / 2 ] + $n[ @n / 2 ]) / 2 }
sub range (@n)  { @n = sort { $a <=> $b } @n; return @n[ 0, -1 ] }

# "median (min–max)", each in this format of sprintf.
sub spread ($format, @n) {
    return sprintf "$format ($format\xe2\x80\x93$format)", median(@n), range(@n);
}

1;
