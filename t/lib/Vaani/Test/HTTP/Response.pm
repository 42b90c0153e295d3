package Vaani::Test::HTTP::Response;

# One answer: a hash { status, reason, version, headers, body, interim,
# keepalive, retried, error } with methods of the same names. Header names are
# in lower case; the values of repeated headers are joined by ', '.

use v5.20;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';

use JSON::PP ();

sub status ($self)       { return $self->{status} }
sub reason ($self)       { return $self->{reason} }
sub version ($self)      { return $self->{version} }
sub headers ($self)      { return $self->{headers} }
sub header ($self, $name) { return $self->{headers}{ lc $name } }
sub body ($self)         { return $self->{body} }
sub interim ($self)      { return $self->{interim} }      # 1xx answers before it
sub keepalive ($self)    { return $self->{keepalive} }    # may the connection go on?
sub retried ($self)      { return $self->{retried} }      # sent twice, see HTTP.pm
sub error ($self)        { return $self->{error} }        # post_many: why no answer

# The decoded body, undef when the content type is not JSON. Dies when it says
# JSON and is not.
sub json ($self) {
    return $self->{json} if exists $self->{json};

    my $type = $self->header('content-type') // '';
    return undef if $type !~ m{^application/(?:[\w.-]+\+)?json\s*(?:;|$)}i;

    my $json = eval { JSON::PP->new->utf8->allow_nonref->decode($self->{body}) };
    die "the body is not JSON: $@" . substr($self->{body}, 0, 200) . "\n" if $@;

    return $self->{json} = $json;
}

# Takes answers from the bytes of one connection, as they come.
package Vaani::Test::HTTP::Parser;

sub new ($class) {
    return bless { buf => '', head => undef, interim => [], chunks => '' }, $class;
}

sub buffer ($self)  { return \$self->{buf} }                    # append here
sub started ($self) { return $self->{head} || @{ $self->{interim} } || $self->{buf} ne '' }
sub interim ($self) { return $self->{interim} }                 # of the answer under way

# The next answer to a request of this method, undef when it is not complete.
# Dies on what is not HTTP, and when the connection ends ($eof) inside it.
sub next_response ($self, $method, $eof = 0) {
    while (1) {
        my $res = $self->{head} //= $self->_head;

        if (!$res) {
            die "connection closed inside a response head\n" if $eof && $self->started;
            return undef;
        }

        if ($res->{status} < 200 && $res->{status} != 101) {
            push @{ $self->{interim} }, $res;
            undef $self->{head};
            next;
        }

        my $body = $self->_body($res, $method, $eof);

        if (!defined $body) {
            die "connection closed inside a response body\n" if $eof;
            return undef;
        }

        $res->{body} = $body;
        $res->{interim} = $self->{interim};
        $self->{interim} = [];
        undef $self->{head};

        return $res;
    }
}

sub _head ($self) {
    # An invalid start is reported at once, not after a timeout.
    my $start = substr $self->{buf}, 0, 5;
    if ($start ne substr 'HTTP/', 0, length $start) {
        die sprintf "not an HTTP response: \"%.60s\"\n", $self->{buf};
    }

    my $end = index $self->{buf}, "\r\n\r\n";
    return undef if $end < 0;

    my ($line, @fields) = split /\r\n/, substr $self->{buf}, 0, $end;
    substr $self->{buf}, 0, $end + 4, '';

    my ($version, $status, $reason) = $line =~ m{^HTTP/(1\.[01]) (\d{3})(?: (.*))?$}
        or die "malformed status line: $line\n";

    my %headers;
    for my $field (@fields) {
        my ($name, $value) = $field =~ /^([!#\$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*$/
            or die "malformed header: $field\n";
        $name = lc $name;
        $headers{$name} = defined $headers{$name} ? "$headers{$name}, $value" : $value;
    }

    my $connection = lc($headers{connection} // '');

    return bless {
        version   => $version,
        status    => $status,
        reason    => $reason // '',
        headers   => \%headers,
        body      => '',
        keepalive => $version eq '1.1'
            ? ($connection =~ /\bclose\b/ ? 0 : 1)
            : ($connection =~ /\bkeep-alive\b/ ? 1 : 0),
    }, 'Vaani::Test::HTTP::Response';
}

sub _body ($self, $res, $method, $eof) {
    return '' if $method eq 'HEAD' || $res->{status} =~ /^(?:204|304)$/;

    my $headers = $res->{headers};

    if (defined(my $coding = $headers->{'transfer-encoding'})) {
        die "unknown transfer coding: $coding\n" if lc $coding ne 'chunked';
        die "both Transfer-Encoding and Content-Length\n"
            if defined $headers->{'content-length'};
        return $self->_chunked;
    }

    if (defined(my $length = $headers->{'content-length'})) {
        die "malformed Content-Length: $length\n" if $length !~ /^\d+$/;
        return undef if length $self->{buf} < $length;
        return substr $self->{buf}, 0, $length, '';
    }

    # Neither: the body ends with the connection.
    $res->{keepalive} = 0;
    return undef if !$eof;
    my $body = $self->{buf};
    $self->{buf} = '';
    return $body;
}

sub _chunked ($self) {
    while ((my $eol = index $self->{buf}, "\r\n") >= 0) {
        my ($size) = substr($self->{buf}, 0, $eol) =~ /^([0-9A-Fa-f]{1,8})\s*(?:;|$)/
            or die sprintf "malformed chunk: \"%.60s\"\n", $self->{buf};
        $size = hex $size;

        if ($size == 0) {
            # Trailers, if any, end with an empty line.
            my $end = index $self->{buf}, "\r\n\r\n", $eol;
            return undef if $end < 0;
            substr $self->{buf}, 0, $end + 4, '';

            my $body = $self->{chunks};
            $self->{chunks} = '';
            return $body;
        }

        return undef if length $self->{buf} < $eol + 2 + $size + 2;
        die "chunk without its end\n" if substr($self->{buf}, $eol + 2 + $size, 2) ne "\r\n";
        $self->{chunks} .= substr $self->{buf}, $eol + 2, $size;
        substr $self->{buf}, 0, $eol + 2 + $size + 2, '';
    }

    return undef;
}

1;
