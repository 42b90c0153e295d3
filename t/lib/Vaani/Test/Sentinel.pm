package Vaani::Test::Sentinel;

# A master with replicas, and the Sentinels that watch it; real ones, on free
# ports of 127.0.0.1. REDIS_BIN in the environment chooses the server.
#
#   my $set = Vaani::Test::Sentinel->start;        # 1 master, 2 replicas, 3 Sentinels
#   my $url = join ' ', $set->urls;                # for vaani_redis, with
#   my $name = $set->name;                         # sentinel=$name
#   my $old = $set->master;
#   $set->kill9($old);
#   my $new = $set->await_master($old);            # not this one
#   $set->start_again($old);
#
# Servers are Vaani::Test::Cluster::Node, Sentinels are Vaani::Test::Redis.

use v5.20;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';

use Exporter 'import';
use List::Util qw(first);
use Vaani::Test ();
use Vaani::Test::Cluster::Node ();
use Vaani::Test::Dir qw(slurp spew tmpdir);
use Vaani::Test::FakeRedis;
use Vaani::Test::Socket qw(free_port now pause);

our @EXPORT_OK = qw(lying_sentinel);

# What the module needs in addition to docs/permissions.md.
use constant RIGHTS => [qw(+role)];

use constant PATIENCE => 30;

# Options:
#   name          of the monitored master, default vaani
#   replicas      default 2
#   sentinels     default 3, quorum: default more than half of them. With 0, the
#                 test itself does what they would do: promote(), follow()
#   down_after    ms, default 1000
#   failover_timeout  ms, default 2000
#   others        [ names ]: of further masters without replicas, all watched; see
#                 other()
#   password      requirepass of the servers
#   sentinel_password  that of the Sentinels; with sentinel_user, that user's
#   sentinel_acl  words of ACL SETUSER for that user, default all rights
#   tls           { cert, key, ca_cert_file }: for servers and Sentinels
#   hostnames     [ names ] of master and replicas, which this host must be able
#                 to resolve: announced, and resolved by the Sentinels
#   durable       0: servers forget all when they end; default 1
#   acl, config   as of Vaani::Test::Redis, for the servers
#   sentinel_config  [ further lines of the Sentinels ]
sub start ($class, %opt) {
    my $self = bless {
        name  => $opt{name} // 'vaani',
        opt   => { replicas => 2, sentinels => 3, down_after => 1000, failover_timeout => 2000, durable => 1, %opt },
        nodes => [],
        other => {},
        sentinels => [],
    }, $class;
    my $n = $self->{opt}{sentinels};
    $self->{opt}{quorum} //= 1 + int $n / 2;

    my $master = $self->_new_node;
    $self->_new_node($master) for 1 .. $self->{opt}{replicas};
    $self->_follows($_, $master) for @{ $self->{nodes} }[ 1 .. $self->{opt}{replicas} ];
    $self->{other}{$_} = Vaani::Test::Cluster::Node->start($self->_node_options) for @{ $self->{opt}{others} // [] };

    # They know each other from the start, because discovery takes seconds.
    $self->{known} = [ map { { port => free_port(), id => join '', map { sprintf '%x', int rand 16 } 1 .. 40 } } 1 .. $n ];
    push @{ $self->{sentinels} }, $self->_new_sentinel($_, $master) for @{ $self->{known} };
    $self->settle;
    return $self;
}

sub _node_options ($self) {
    my $opt = $self->{opt};
    my $n = @{ $self->{nodes} };

    return (
        port       => free_port(),
        hostname   => $opt->{hostnames} && $opt->{hostnames}[$n],
        tls        => $opt->{tls},
        password   => $opt->{password},
        replicates => 1,
        acl        => [ @{ +RIGHTS }, @{ $opt->{acl} // [] } ],
    );
}

sub _new_node ($self, $master = undef) {
    my $opt = $self->{opt};
    my %options = $self->_node_options;
    my $name = $options{hostname};

    my $node = Vaani::Test::Cluster::Node->start(
        %options,
        config => [
            $opt->{durable} ? ('appendonly yes', 'appendfsync always') : (),
            $opt->{tls} ? 'tls-replication yes' : (),
            # A Sentinel learns replicas from their own reports.
            $name ? "replica-announce-ip $name" : (),
            $master ? 'replicaof ' . ($master->hostname // '127.0.0.1') . ' ' . $master->own_port : (),
            @{ $opt->{config} // [] },
        ],
    );
    push @{ $self->{nodes} }, $node;
    return $node;
}

sub _follows ($self, $replica, $master) {
    $self->await('a replica to follow', sub {
        my $role = $replica->admin->cmd('ROLE');
        return $role->[0] eq 'slave' && $role->[2] == $master->own_port && $role->[3] eq 'connected';
    });
    return;
}

sub _new_sentinel ($self, $known, $master) {
    my $opt = $self->{opt};
    my $name = $self->{name};
    my %admin = Vaani::Test::Redis::ADMIN;
    my ($user, $password) = @$opt{qw(sentinel_user sentinel_password)};

    my @lines = ("sentinel myid $known->{id}");
    push @lines, 'sentinel resolve-hostnames yes', 'sentinel announce-hostnames yes' if $opt->{hostnames};

    for my $watched ([ $name, $master ], map { [ $_, $self->{other}{$_} ] } sort keys %{ $self->{other} }) {
        my ($this, $node) = @$watched;
        my $host = $node->hostname // '127.0.0.1';

        push @lines, "sentinel monitor $this $host " . $node->own_port . " $opt->{quorum}",
            "sentinel down-after-milliseconds $this $opt->{down_after}",
            "sentinel failover-timeout $this $opt->{failover_timeout}",
            defined $opt->{password}
            ? "sentinel auth-pass $this $opt->{password}"
            : ("sentinel auth-user $this $admin{user}", "sentinel auth-pass $this $admin{password}");
        if ($this eq $name) {
            push @lines, map { "sentinel known-replica $this " . ($_->hostname // '127.0.0.1') . ' ' . $_->own_port }
                @{ $self->{nodes} }[ 1 .. $#{ $self->{nodes} } ];
        }
        push @lines, map { "sentinel known-sentinel $this 127.0.0.1 $_->{port} $_->{id}" }
            grep { $_ != $known } @{ $self->{known} };
    }

    # The users of a server do not exist in a Sentinel. An administrator always
    # exists: the test's own client.
    my $acl = $opt->{sentinel_acl} // [qw(~* &* +@all)];
    push @lines, "user $admin{user} on >$admin{password} ~* &* +\@all";
    if (!defined $password) {
        push @lines, 'user default on nopass ~* &* +@all';
    } elsif (defined $user) {
        push @lines, 'user default off', "user $user on >$password @$acl";
        push @lines, "sentinel sentinel-user $admin{user}", "sentinel sentinel-pass $admin{password}";
    } else {
        push @lines, "user default on >$password ~* &* +\@all", "sentinel sentinel-pass $password";
    }

    my $sentinel = Vaani::Test::Redis->start(
        $opt->{tls} ? (tls => $opt->{tls}, tls_port => $known->{port}) : (port => $known->{port}),
        config    => [
            @lines,
            $opt->{tls} ? 'tls-replication yes' : (),
            @{ $opt->{sentinel_config} // [] },
        ],
        arguments => ['--sentinel'],
    );
    $self->_hurry($sentinel);
    return $sentinel;
}

# It looks more often than each second (Redis 7.0): otherwise it may hold a server
# that it has just connected to for one that does not answer, with a down_after of
# a second, and fail over once more. An old master that comes back as a master is
# made a replica after four times the last of these, 2 s instead of 8.
sub _hurry ($self, $sentinel) {
    eval { $self->ask($sentinel, SENTINEL => 'DEBUG', 'PING-PERIOD', 200, 'INFO-PERIOD', 1000, 'PUBLISH-PERIOD', 500) };
    return;
}

# --- servers

sub name ($self)  { return $self->{name} }
sub nodes ($self) { return @{ $self->{nodes} } }
sub live ($self)  { return grep { $_->answers } $self->nodes }

# The server that is the additional master of that name.
sub other ($self, $name) { return $self->{other}{$name} }

# What a Sentinel says, by default one that lives, and without any the first that
# says so itself; undef for a server that is none of these.
sub master ($self, $sentinel = undef) {
    $sentinel //= ($self->live_sentinels)[0] // return ($self->masters_by_role)[0];
    my $address = $self->ask($sentinel, SENTINEL => 'GET-MASTER-ADDR-BY-NAME', $self->{name}) // return undef;
    return first { $_->own_port == $address->[1] } $self->nodes;
}

sub replicas ($self) {
    my $master = $self->master;
    return grep { $_ != $master } $self->live;
}

# Servers that report by ROLE that they are the master.
sub masters_by_role ($self) { return grep { eval { $_->role eq 'master' } } $self->live }

# kill -9.
sub kill9 ($self, $node) { $node->kill; return $node }

# With the configuration that Sentinel has written into its file, as a service
# does; fresh => 1: with that of the beginning, as a container does. Then the
# first master is one again until Sentinel has seen it.
sub start_again ($self, $node, %opt) {
    $node->restart(rewritten => !$opt{fresh});
    return $node;
}

# Alive but silent.
sub stop ($self, $node) { $node->suspend; return $node }
sub cont ($self, $node) { $node->resume; return $node }

# No replica of it gets data any more, see Cluster.pm.
sub hold ($self, $master) {
    $master->admin->cmd(ACL => 'SETUSER', 'replica', 'off');
    $master->admin->cmd(CLIENT => 'KILL', 'TYPE', 'replica');
    return;
}

sub release ($self, $master) {
    $master->admin->cmd(ACL => 'SETUSER', 'replica', 'on');
    return;
}

# --- failovers

# SENTINEL FAILOVER by one of them; returns at once, see await_master().
sub failover ($self, $sentinel = undef) {
    $sentinel //= ($self->sentinels)[0];
    my $deadline = now() + PATIENCE;

    # A Sentinel that has just made another failover refuses for a while.
    while (1) {
        return if eval { $self->ask($sentinel, SENTINEL => 'FAILOVER', $self->{name}) };
        die "SENTINEL FAILOVER: $@" if now() > $deadline;
        pause(0.05);
    }
}

# Redis's own FAILOVER, which says nothing to clients and leaves their connections
# open. Returns the new master when that is one.
sub coordinated_failover ($self, $to = undef) {
    my $old = $self->master;
    $to //= ($self->replicas)[0];
    $self->catch_up($to);

    # A replica that reports its link as up may not be online for its master
    # yet.
    my $error;
    Vaani::Test::wait_for(sub {
        (undef, $error) = $old->admin->try_cmd(FAILOVER => 'TO', $to->hostname // '127.0.0.1', $to->own_port);
        return ($error // '') !~ /is not online/;
    }, PATIENCE);
    die "FAILOVER: $error\n" if defined $error;
    $self->await('the new master', sub { $to->role eq 'master' && $old->role eq 'slave' });
    return $to;
}

# Manual changes: a server becomes a master, or replicates another one and has
# its data.
sub promote ($self, $node) {
    $node->admin->cmd(qw(REPLICAOF NO ONE));
    return $node;
}

sub follow ($self, $node, $master) {
    $node->admin->cmd(REPLICAOF => $master->hostname // '127.0.0.1', $master->own_port);
    $self->_follows($node, $master);
    return $node;
}

# Waits until a server other than $old reports that it is the master. Sentinels
# announce it a moment later: settle() waits for that, too.
sub await_promotion ($self, $old, $timeout = PATIENCE) {
    return $self->await('a promotion', sub { return $self->_promoted($old) }, $timeout);
}

sub _promoted ($self, $old) {
    return first { $_ != $old && eval { $_->role eq 'master' } } $self->live;
}

# Until all live Sentinels say that another one is the master, which it says
# itself; returns it.
sub await_master ($self, $old, $timeout = PATIENCE) {
    return $self->await('another master', sub {
        my %said = map { ($self->master($_) // return undef) => 1 } $self->live_sentinels;
        my $new = $self->_promoted($old) // return undef;
        return keys %said == 1 && $said{$new} ? $new : undef;
    }, $timeout) if $self->live_sentinels;
    return $self->await_promotion($old, $timeout);
}

# One master, which all Sentinels know; all other servers replicate it; Sentinels
# and servers see each other.
sub settle ($self, $timeout = PATIENCE) {
    $self->await('Sentinels and servers to settle', sub { return $self->settled }, $timeout);
    return $self;
}

sub settled ($self) {
    my @masters = $self->masters_by_role;
    return 0 if @masters != 1;
    my $master = $masters[0];

    for my $node (grep { $_ != $master } $self->live) {
        my $role = $node->admin->cmd('ROLE');
        return 0 if $role->[0] ne 'slave' || $role->[2] != $master->own_port || $role->[3] ne 'connected';
    }
    for my $sentinel ($self->live_sentinels) {
        my %seen = @{ $self->ask($sentinel, SENTINEL => 'MASTER', $self->{name}) };
        return 0 if $seen{port} != $master->own_port || $seen{flags} ne 'master';
        return 0 if $seen{'num-other-sentinels'} < $self->live_sentinels - 1;
        return 0 if $seen{'num-slaves'} < $self->live - 1;
    }
    return 1;
}

sub await ($self, $what, $code, $timeout = PATIENCE) {
    my $result = Vaani::Test::wait_for($code, $timeout);
    return $result if $result;
    die "waited $timeout s for $what\n"
        . join '', map { $_->log } grep { $_->pid } $self->sentinels;
}

sub catch_up ($self, $replica) {
    my ($there) = $self->master->admin->cmd(INFO => 'replication') =~ /^master_repl_offset:(\d+)/m;
    $self->await('a replica to catch up', sub {
        my ($here) = $replica->admin->cmd(INFO => 'replication') =~ /^slave_repl_offset:(\d+)/m;
        return defined $here && $here >= $there;
    });
    return;
}

# --- Sentinels

sub sentinels ($self)      { return @{ $self->{sentinels} } }
sub live_sentinels ($self) { return grep { $_->pid && !$_->{suspended} } $self->sentinels }

# For vaani_redis.
sub urls ($self, @sentinels) { return map { $_->url } @sentinels ? @sentinels : $self->sentinels }

sub ask ($self, $sentinel, @command) {
    my $admin = $sentinel->{admin};
    if (!$admin || !$admin->{fh} || $sentinel->{admin_pid} != $sentinel->pid) {
        $sentinel->{admin} = $sentinel->client(Vaani::Test::Redis::ADMIN);
        $sentinel->{admin_pid} = $sentinel->pid;
    }
    return $sentinel->{admin}->cmd(@command);
}

sub kill_sentinel ($self, @sentinels) { $_->kill for @sentinels; return }

sub start_sentinel ($self, @sentinels) {
    for my $sentinel (@sentinels) {
        $sentinel->restart(rewritten => 1);
        $self->_hurry($sentinel);
    }
    return;
}

sub stop_sentinel ($self, @sentinels) {
    for my $sentinel (@sentinels) {
        $sentinel->suspend;
        $sentinel->{suspended} = 1;
    }
    return;
}

sub cont_sentinel ($self, @sentinels) {
    for my $sentinel (@sentinels) {
        $sentinel->resume;
        delete $sentinel->{suspended};
    }
    return;
}

# --- for accounts: those of the master

sub client ($self) { return ($self->masters_by_role)[0]->client }
sub log ($self)    { return join '', map { $_->log } $self->nodes }

# --- a Sentinel that lies

# A scripted one. Options: port, tcp as of Vaani::Test::FakeRedis; address => [ host,
# port ] of each master, or undef: it knows none. Returns an object with
#   url, port, stop     as of FakeRedis
#   says($host, $port)  another address, from now on; says() for none, and
#                       says(raw => $bytes) for any bytes as the reply
#   tells($text)        publishes it on +switch-master to all that have subscribed
#   asked               how often an address was asked for
#   next_report         its commands, as of FakeRedis
sub lying_sentinel (%opt) {
    return Vaani::Test::Sentinel::Liar->new(%opt);
}

package Vaani::Test::Sentinel::Liar;

use Vaani::Test::Dir qw(slurp spew tmpdir);
use Vaani::Test::FakeRedis;
use Vaani::Test::Socket qw(wait_readable);

my $count = 0;

sub new ($class, %opt) {
    my $base = tmpdir() . '/liar' . ++$count;
    my $address = delete $opt{address};
    my $self = bless { base => $base }, $class;

    spew("$base.$_", '') for qw(asked news);
    $self->says($address ? @$address : ());
    $self->{fake} = Vaani::Test::FakeRedis->start(tcp => 1, %opt, on_connect => sub ($sock, $fake, @) {
        _serve($base, $sock, $fake);
    });
    return $self;
}

sub url ($self)         { return $self->{fake}->url }
sub port ($self)        { return $self->{fake}->port }
sub stop ($self)        { return $self->{fake}->stop }
sub next_report ($self, @timeout) { return $self->{fake}->next_report(@timeout) }
sub asked ($self)       { return length slurp("$self->{base}.asked") }

sub says ($self, @address) {
    my $reply = !@address ? "*-1\r\n"
        : $address[0] eq 'raw' ? $address[1]
        : "*2\r\n" . join '', map { "\$" . length($_) . "\r\n$_\r\n" } @address;
    spew("$self->{base}.new", $reply);
    rename "$self->{base}.new", "$self->{base}.says" or die "rename: $!\n";
    return;
}

# Whole lines, so that a reader sees all of a line or nothing of it.
sub tells ($self, $text) {
    open my $fh, '>>', "$self->{base}.news" or die "open: $!\n";
    syswrite $fh, "$text\n";
    close $fh;
    return;
}

sub _serve ($base, $sock, $fake) {
    my $told = -s "$base.news";
    my @channels;

    while (1) {
        if (@channels && !wait_readable($sock, 0.02)) {
            my $news = slurp("$base.news", $told);
            $told += length $news;
            for my $text (split /\n/, $news) {
                send_bytes($sock, _array('message', '+switch-master', $text)) or return;
            }
            next;
        }
        my $command = read_command($sock) // return;
        my $name = uc $command->[0];
        $fake->report("@$command");

        if ($name eq 'SENTINEL' && uc $command->[1] eq 'GET-MASTER-ADDR-BY-NAME') {
            open my $fh, '>>', "$base.asked" or die "open: $!\n";
            syswrite $fh, '.';
            send_bytes($sock, slurp("$base.says")) or return;
        } elsif ($name eq 'SENTINEL') {
            send_bytes($sock, "*0\r\n") or return;
        } elsif ($name =~ /^P?SUBSCRIBE$/) {
            for my $channel (@$command[ 1 .. $#$command ]) {
                push @channels, $channel;
                send_bytes($sock, "*3\r\n" . _bulk(lc $name) . _bulk($channel) . ':' . @channels . "\r\n") or return;
            }
        } elsif ($name eq 'ROLE') {
            send_bytes($sock, "*2\r\n" . _bulk('sentinel') . "*1\r\n" . _bulk('vaani')) or return;
        } elsif ($name eq 'PING') {
            send_bytes($sock, @channels ? "*2\r\n" . _bulk('pong') . _bulk('') : "+PONG\r\n") or return;
        } elsif ($name eq 'HELLO') {
            send_bytes($sock, "-ERR unknown command 'HELLO'\r\n") or return;
        } else {
            send_bytes($sock, "+OK\r\n") or return;
        }
    }
}

sub _bulk ($bytes)  { return '$' . length($bytes) . "\r\n$bytes\r\n" }
sub _array (@items) { return '*' . @items . "\r\n" . join '', map { _bulk($_) } @items }

1;
