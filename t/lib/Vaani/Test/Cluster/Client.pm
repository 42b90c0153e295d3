package Vaani::Test::Cluster::Client;

# A client of a Vaani::Test::Cluster that asks the node of each key, with the methods
# of Vaani::Test::RESP that the accounts of tests need: cmd, pipeline, hgetall.
# The key is the argument after the command's name.

use v5.20;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';

use Vaani::Test::Socket qw(now pause);

# How long a cluster may report that it cannot answer, s.
use constant PATIENCE => 20;

sub new ($class, $cluster) { return bless { cluster => $cluster, owners => undef }, $class }

sub cmd ($self, @command) {
    my ($reply) = $self->pipeline([@command]);
    die "$reply->{message}\n" if ref $reply eq 'Vaani::Test::RESP::Error';
    return $reply;
}

sub hgetall ($self, $key) { return { @{ $self->cmd(HGETALL => $key) } } }

sub pipeline ($self, @commands) {
    my @replies = (undef) x @commands;
    my @left = 0 .. $#commands;
    my $deadline = now() + PATIENCE;

    while (1) {
        my %of_node;
        push @{ $of_node{ $self->_owner($commands[$_][1]) } }, $_ for @left;
        my @again;

        for my $id (keys %of_node) {
            my @indexes = @{ $of_node{$id} };
            my $node = $self->{cluster}->node($id);
            my @answers = eval { $node->admin->pipeline(@commands[@indexes]) };
            if (@answers != @indexes) {
                push @again, @indexes;
                next;
            }
            for my $n (0 .. $#indexes) {
                my $answer = $answers[$n];
                if (ref $answer eq 'Vaani::Test::RESP::Error') {
                    if ($answer =~ /^ASK \d+ \S*:(\d+)/) {
                        $answer = $self->_asking($1, $commands[ $indexes[$n] ]);
                    } elsif ($answer =~ /^(?:MOVED|TRYAGAIN|CLUSTERDOWN|LOADING|MASTERDOWN) ?/) {
                        push @again, $indexes[$n];
                        next;
                    }
                }
                $replies[ $indexes[$n] ] = $answer;
            }
        }

        return @replies if !@again;
        die "the cluster does not answer @{ $commands[ $again[0] ] }\n" if now() > $deadline;
        @left = @again;
        delete $self->{owners};
        pause(0.005);
    }
}

sub _asking ($self, $port, $command) {
    my ($node) = grep { $_->port == $port } $self->{cluster}->nodes;
    return ($node->admin->pipeline(['ASKING'], $command))[1];
}

# The id of the node that has a key's slot.
sub _owner ($self, $key) {
    my $owners = $self->{owners} //= $self->_owners;
    my $slot = Vaani::Test::Cluster::keyslot($key);
    return $owners->[$slot] // die "nobody has slot $slot\n";
}

sub _owners ($self) {
    my @owners;
    for my $line (values %{ $self->{cluster}->view }) {
        @owners[ $_->[0] .. $_->[1] ] = ($line->{id}) x ($_->[1] - $_->[0] + 1) for @{ $line->{slots} };
    }
    return \@owners;
}

1;
