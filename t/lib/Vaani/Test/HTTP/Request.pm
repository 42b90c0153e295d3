package Vaani::Test::HTTP::Request;

# The bytes of a request.

use v5.20;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';

use Exporter 'import';

our @EXPORT_OK = qw(format_request);

# Options:
#   method             default POST with a body, GET without
#   uri                default /
#   version            '1.1' (default) or '1.0'
#   headers            hash ref, or array ref of names and values when order or
#                      repetition matters; an undefined value leaves it out
#   body               bytes
#   chunked            [ sizes of the chunks ] (what remains is one more), or
#                      one size for all
#   no_content_length  1: none although there is a body
#   expect_continue    1: adds Expect: 100-continue
# Host, Content-Length and Transfer-Encoding are added unless they are given.
# Returns (head, body) as they go over the wire.
sub format_request (%req) {
    my $body = $req{body};
    my $method = $req{method} // (defined $body ? 'POST' : 'GET');
    my $version = $req{version} // '1.1';

    my @headers = ref $req{headers} eq 'HASH'
        ? map { $_ => $req{headers}{$_} } sort keys %{ $req{headers} }
        : @{ $req{headers} // [] };

    my $head = "$method " . ($req{uri} // '/') . " HTTP/$version\r\n";
    my %given;
    while (my ($name, $value) = splice @headers, 0, 2) {
        $given{ lc $name } = 1;
        $head .= "$name: $value\r\n" if defined $value;
    }

    $head .= "Host: localhost\r\n" if !$given{host};
    $head .= "Expect: 100-continue\r\n" if $req{expect_continue} && !$given{expect};

    if (defined $body && $req{chunked}) {
        $head .= "Transfer-Encoding: chunked\r\n" if !$given{'transfer-encoding'};
        $body = _chunk($body, $req{chunked});
    } elsif (defined $body && !$given{'content-length'} && !$req{no_content_length}) {
        $head .= 'Content-Length: ' . length($body) . "\r\n";
    }

    $body //= '';
    for ($head, $body) {
        utf8::downgrade($_, 1) or die "wide character in a request: give bytes\n";
    }

    return ("$head\r\n", $body);
}

sub _chunk ($body, $sizes) {
    my @sizes = ref $sizes ? @$sizes : ($sizes) x (length($body) / $sizes);
    my ($offset, $out) = (0, '');

    for my $size (@sizes, length $body) {
        my $chunk = substr $body, $offset, $size;
        last if $chunk eq '';    # an empty chunk would be the last one
        $out .= sprintf "%x\r\n%s\r\n", length $chunk, $chunk;
        $offset += length $chunk;
        last if $offset == length $body;
    }

    return "${out}0\r\n\r\n";
}

1;
