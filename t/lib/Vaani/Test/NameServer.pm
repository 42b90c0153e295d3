package Vaani::Test::NameServer;

# A name server on a free port of 127.0.0.1, or on 'port', for nginx's "resolver". What it says
# may change at any time; answers are to be forgotten at once, which for nginx is
# within a second.
#
#   my $dns = Vaani::Test::NameServer->start(names => { 'a.test' => '127.0.0.1' });
#   ... $dns->resolver ...                        # directives
#   $dns->says('a.test' => '127.0.0.2 127.0.0.3');
#   $dns->says('a.test' => 'silent');             # no answer; undef: no such name

use v5.20;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';

use Socket qw(AF_INET SOCK_DGRAM inet_aton pack_sockaddr_in unpack_sockaddr_in);
use Vaani::Test::Dir qw(slurp spew tmpdir);
use Vaani::Test::Process;

sub start ($class, %opt) {
    socket(my $sock, AF_INET, SOCK_DGRAM, 0) or die "socket: $!\n";
    bind($sock, pack_sockaddr_in($opt{port} // 0, inet_aton('127.0.0.1'))) or die "bind: $!\n";
    my ($port) = unpack_sockaddr_in(getsockname $sock);
    my $self = bless { port => $port, file => tmpdir() . "/names-$port", names => { %{ $opt{names} // {} } } }, $class;
    $self->_write;

    $self->{process} = Vaani::Test::Process->spawn_code(sub { $self->_serve($sock) }, keep => [$sock]);
    close $sock;
    return $self;
}

sub port ($self)     { return $self->{port} }
sub resolver ($self) { return "resolver 127.0.0.1:$self->{port} ipv6=off; resolver_timeout 300ms;" }

sub says ($self, %names) {
    @{ $self->{names} }{ keys %names } = values %names;
    $self->_write;
    return;
}

# How often it was asked.
sub queries ($self) { return -s "$self->{file}.queries" // 0 }

sub stop ($self) {
    (delete $self->{process})->kill_group if $self->{process};
    return;
}

sub _write ($self) {
    my $names = $self->{names};
    my $text = join '', map { "$_ $names->{$_}\n" } grep { defined $names->{$_} } sort keys %$names;
    spew("$self->{file}.new", $text);
    rename "$self->{file}.new", $self->{file} or die "rename: $!\n";
    return;
}

sub _serve ($self, $sock) {
    open my $queries, '>>', "$self->{file}.queries" or die "open: $!\n";

    while (defined(my $peer = recv $sock, my $query, 512, 0)) {
        syswrite $queries, '.';
        my ($id) = unpack 'n', $query;
        my ($question) = substr($query, 12) =~ /^((?:[^\0].*?)??\0....)/s or next;
        my $type = unpack 'n', substr $question, -4, 2;
        my $name = join '.', unpack '(C/a)*', substr $question, 0, -5;

        my %names = map { split ' ', $_, 2 } split /\n/, slurp($self->{file});
        my $answer = $names{ lc $name };
        next if defined $answer && $answer eq 'silent';
        my @addresses = !defined $answer || $type != 1 ? () : split ' ', $answer;

        my $reply = pack('n6', $id, defined $answer ? 0x8180 : 0x8183, 1, scalar @addresses, 0, 0) . $question;
        $reply .= pack('n3 N n', 0xc00c, 1, 1, 0, 4) . inet_aton($_) for @addresses;
        send $sock, $reply, 0, $peer;
    }
    return 0;
}

1;
