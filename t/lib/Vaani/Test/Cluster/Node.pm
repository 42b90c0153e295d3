package Vaani::Test::Cluster::Node;

# A node of a cluster, or a server that Sentinels watch: a Vaani::Test::Redis on
# a TCP port with an id, a kept connection, and perhaps a NAT before it.
#
# NAT: clients get the port of a proxy, which CLUSTER SLOTS and redirects name.
# block() closes it for them, unblock() opens it again: a node that lives and is
# out of reach.

use v5.20;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';

use parent 'Vaani::Test::Redis';

use Vaani::Test::FakeRedis ();
use Vaani::Test::RESP ();
use Vaani::Test::Socket qw(free_port);

# Options as of Vaani::Test::Redis, with "port" in any case; and hostname, nat.
sub start ($class, %opt) {
    my ($port, $hostname, $nat) = map { delete $opt{$_} } qw(port hostname nat);
    my $public = $nat ? free_port() : $port;
    my @config = @{ delete $opt{config} // [] };
    my $proxy;

    if ($nat) {
        $proxy = _proxy($public, $port);
        # In Valkey, the kind of the client's connection decides which one it
        # is told.
        push @config, map { "cluster-announce-$_ $public" } $opt{tls} ? qw(tls-port port) : 'port';
    }
    my $self = $class->SUPER::start(
        %opt,
        bind   => $opt{bind} // '127.0.0.1',
        config => \@config,
        $opt{tls} ? (tls_port => $port) : (port => $port),
    );
    @$self{qw(hostname own_port public proxy)} = ($hostname, $port, $public, $proxy);
    return $self;
}

sub _proxy ($public, $port) {
    return Vaani::Test::FakeRedis->start(port => $public, on_connect => sub ($sock, @) {
        eval { Vaani::Test::FakeRedis::relay($sock, $port) };    # nothing listens there at times
    });
}

# The port on which it listens, and the one that clients are told.
sub own_port ($self) { return $self->{own_port} }
sub port ($self)     { return $self->{public} }

sub hostname ($self) { return $self->{hostname} }

sub url ($self, $host = $self->{hostname} // '127.0.0.1') {
    return ($self->{tls} ? 'rediss' : 'redis') . "://$host:$self->{public}";
}

sub block ($self) { (delete $self->{proxy})->stop; return }

sub unblock ($self) {
    $self->{proxy} = _proxy($self->{public}, $self->{own_port});
    return;
}

sub id ($self) { return $self->{id} //= $self->admin->cmd(CLUSTER => 'MYID') }

sub forget_id ($self) { delete $self->{id}; return }

# A connection of a user with all rights. After a restart a new connection is
# made.
sub admin ($self) {
    my $admin = $self->{admin};
    return $admin if $admin && $self->{admin_pid} == ($self->pid // 0) && $admin->{fh};

    $self->{admin_pid} = $self->pid // die "the node on port $self->{own_port} is not alive\n";
    return $self->{admin} = $self->client(patient => 1);
}

sub role ($self) { return $self->admin->cmd('ROLE')->[0] }

sub answers ($self) { return $self->pid && !$self->{suspended} ? 1 : 0 }

sub suspend ($self) {
    $self->SUPER::suspend;
    $self->{suspended} = 1;
    return;
}

sub resume ($self) {
    $self->SUPER::resume;
    delete $self->{suspended};
    return;
}

sub kill ($self) {
    delete @$self{qw(admin many suspended)};
    return $self->SUPER::kill;
}

sub stop ($self, @timeout) {
    delete @$self{qw(admin many suspended)};
    return $self->SUPER::stop(@timeout);
}

# The credentials that MIGRATE uses there.
sub migrate_auth ($self) {
    return ('AUTH', $self->{password}) if defined $self->{password};
    my %admin = Vaani::Test::Redis::ADMIN;
    return ('AUTH2', @admin{qw(user password)});
}

1;
