package Vaani::Test::FakeEndpoint;

# An HTTP server that answers as the test wants, for tests of those who post to
# one: wrongly, little by little, or not at all.
#
#   my $fake = Vaani::Test::FakeEndpoint->start(sub ($request, $fake) {
#       return ok_answer('{"status":"ok"}');    # bytes; nothing closes the connection
#   }, record => 1);
#   run([ 'sender', 'unix:' . $fake->socket . ':/hook' ]);
#   my ($first, @others) = $fake->requests(5);
#   is $first->{body}, '{...}';
#
# A request has connection and number (from 1), line, headers (in lower case) and
# body. Several answers are written one by one; an undef after them closes the
# connection, and code among them is called. Options of start(): those of Vaani::Test::FakeRedis, and record => 1 for
# requests(), which must then be called before 64 KB are waiting for it.

use v5.20;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';

use Exporter 'import';
use Vaani::Test::FakeRedis ();
use Vaani::Test::Socket qw(read_some wait_readable write_all);

our @EXPORT = qw(ok_answer answer_with);

# A whole answer.
sub answer_with ($status, $body, @headers) {
    my $head = "HTTP/1.1 $status X\r\nContent-Type: application/json\r\n" . join '', map { "$_\r\n" } @headers;
    return "${head}Content-Length: " . length($body) . "\r\n\r\n$body";
}

sub ok_answer ($body = qq({"status":"ok"}\n)) { return answer_with(200, $body) }

sub start ($class, $answer, %opt) {
    my $record = delete $opt{record};
    my $server = Vaani::Test::FakeRedis->start(
        %opt,
        on_connect => sub ($fh, $fake, $n) {
            my $in = '';
            for (my $number = 1; my $request = _request($fh, \$in); $number++) {
                @$request{qw(connection number)} = ($n, $number);
                $fake->report(unpack 'H*', "$n $number $request->{head}\r\n\r\n$request->{body}") if $record;
                my @parts = $answer->($request, $fake) or return;
                for my $part (@parts) {
                    return if !defined $part;
                    if (ref $part) { $part->(); next }
                    eval { write_all($fh, $part); 1 } or return;
                }
            }
        },
    );
    return bless { server => $server }, $class;
}

sub socket ($self) { return $self->{server}->socket }
sub port ($self)   { return $self->{server}->port }
sub stop ($self)   { return $self->{server}->stop }

# The next so many requests, in the order in which they came.
sub requests ($self, $n) {
    my @requests;
    while (@requests < $n) {
        my $text = pack 'H*', $self->{server}->next_report // last;
        my ($connection, $number, $head, $body) = $text =~ /^(\d+) (\d+) (.*?)\r\n\r\n(.*)\z/s;
        push @requests, { connection => $connection, number => $number, body => $body, _head($head) };
    }
    return @requests;
}

sub _head ($head) {
    my ($line, @lines) = split /\r\n/, $head;
    my %headers = map { /^([^:]+): ?(.*)$/ ? (lc $1 => $2) : () } @lines;
    return (head => $head, line => $line, headers => \%headers);
}

# Undefined when the client closes.
sub _request ($fh, $in) {
    while (1) {
        if ($$in =~ /\r\n\r\n/) {
            my ($head, $rest) = (substr($$in, 0, $-[0]), substr $$in, $+[0]);
            my %request = _head($head);
            my $length = $request{headers}{'content-length'} // 0;
            if (length $rest >= $length) {
                $request{body} = substr $rest, 0, $length;
                $$in = substr $rest, $length;
                return \%request;
            }
        }
        wait_readable($fh, 30) or return undef;
        my $n = read_some($fh, $in);
        return undef if defined $n && $n == 0;
    }
}

1;
