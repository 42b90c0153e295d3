package Vaani::Test::Redis;

# A redis-server of the test's own: empty, without persistence, on a unix
# socket. REDIS_BIN in the environment chooses another server (Valkey).
#
# Who connects without logging in, as nginx does in most tests, has the rights
# that docs/permissions.md gives to the module, and no others; client() logs in as
# a user who may do anything.

use v5.20;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';

use Vaani::Test::ACL ();
use Vaani::Test::Dir qw(slurp spew subdir tail);
use Vaani::Test::Process qw(in_test_process register_service run);
use Vaani::Test::RESP ();
use Vaani::Test::Socket qw(free_port now pause);

use constant ADMIN => (user => 'admin', password => 'sesame');

# The version of the server, as 7.0; Valkey is a Redis of 7.2 and more.
sub version () {
    return _version_line() =~ /\bv=(\d+\.\d+)/ ? $1 : die 'no version: ' . _version_line() . "\n";
}

sub is_valkey () { return _version_line() =~ /^Valkey/ ? 1 : 0 }

sub _version_line () {
    state $line = (run([ $ENV{REDIS_BIN} || 'redis-server', '--version' ]))[1];
    return $line;
}

# Options:
#   tcp       1: listen on a free port of 127.0.0.1 too; url() is then of it
#   port      that port, when it matters
#   tls       { cert => file, key => file, further => lines of redis.conf }: TLS
#             on a free port of 127.0.0.1, and url() is of that; the members
#             other than cert and key go to "tls-..." (ca_cert_file => file)
#   tls_port  that port, when it matters
#   socket    path of the unix socket, when it matters
#   acl       [ words of ACL SETUSER ]: what the module needs besides for the
#             prefixes, channels and streams of this test
#   password  requirepass; client() uses it. The user has all rights then
#   config    [ further lines of redis.conf ]; %%DIR%% stands for dir(). If they
#             say who "user default" is, nothing here does
#   bind      addresses to listen on, default 127.0.0.1
#   replicates  1: has a user who may replicate, and logs in as that user where
#             it is a replica
#   arguments [ further arguments of the program ]
#   dir       working directory, default a fresh one
#   timeout   s until it must answer, default 30
# Returns when it answers PING, be it with LOADING, NOAUTH or NOPERM.
sub start ($class, %opt) {
    my $dir = $opt{dir} // subdir('redis');

    my $self = bless {
        dir      => $dir,
        socket   => $opt{socket} // "$dir/redis.sock",
        port     => $opt{port} // ($opt{tcp} ? free_port() : undef),
        tls      => $opt{tls},
        tls_port => $opt{tls_port} // ($opt{tls} ? free_port() : undef),
        password => $opt{password},
        acl      => $opt{acl} // [],
        bind     => $opt{bind} // '127.0.0.1',
        replicates => $opt{replicates},
        arguments => $opt{arguments} // [],
        config   => [ @{ $opt{config} // [] } ],
        timeout  => $opt{timeout} // 30,
    }, $class;

    # Without a port of its own, the bus of every node would use the same one.
    push @{ $self->{config} }, 'cluster-port ' . free_port()
        if !defined $self->{port} && !defined $self->{tls_port}
        && grep({ $_ eq 'cluster-enabled yes' } @{ $self->{config} }) && !grep { /^cluster-port / } @{ $self->{config} };

    register_service($self);
    $self->_launch;
    return $self;
}

sub dir ($self)    { return $self->{dir} }
sub socket ($self) { return $self->{socket} }
sub port ($self)   { return $self->{port} }
sub tls_port ($self) { return $self->{tls_port} }
sub pid ($self)    { return $self->{process} && $self->{process}->pid }
sub log ($self)    { return slurp("$self->{dir}/redis.log") }

# For the module's vaani_redis; without credentials.
sub url ($self) {
    return "rediss://127.0.0.1:$self->{tls_port}" if $self->{tls};
    return defined $self->{port} ? "redis://127.0.0.1:$self->{port}" : "unix:$self->{socket}";
}

# A new connection, over the unix socket. Options as of RESP->connect.
sub client ($self, %opt) {
    if (!exists $opt{password}) {
        %opt = ($self->_has_admin ? ADMIN : (password => $self->{password}), %opt);
    }
    delete $opt{password} if !defined $opt{password};
    return Vaani::Test::RESP->connect($self->{socket}, %opt);
}

# An orderly stop: SIGTERM. True when it ended by itself within the timeout.
sub stop ($self, $timeout = 30) {
    my $process = delete $self->{process} // return 1;

    $process->signal('TERM');
    $process->signal('CONT');    # a suspended one would never see it
    my $ended = $process->wait($timeout);
    $process->kill_group;

    return $ended ? 1 : 0;
}

# A crash: SIGKILL.
sub kill ($self) {
    my $process = delete $self->{process} // return;
    $process->kill_group;
    return;
}

# Again, at the same sockets and ports. Options: config and tls (replace those of
# before), crash => 1 (SIGKILL instead of SIGTERM), rewritten => 1 (with the file
# as the server has rewritten it). Also starts a stopped one.
sub restart ($self, %opt) {
    $opt{crash} ? $self->kill : $self->stop;
    $self->{$_} = $opt{$_} for grep { $opt{$_} } qw(config tls);
    $self->_launch($opt{rewritten});
    return $self;
}

# Suspends it: alive but silent, like a machine that hangs. The kernel still
# accepts connections, but nothing is answered.
sub suspend ($self) { $self->{process}->suspend; return }
sub resume ($self)  { $self->{process}->signal('CONT'); return }

sub _has_admin ($self) {
    return !defined $self->{password} && !grep { /^user default / } @{ $self->{config} };
}

# Lines of redis.conf: the ACL. Redis takes no spaces in a pattern.
sub _users ($self) {
    return if !$self->_has_admin;

    my %admin = ADMIN;
    return (
        join(' ', 'user default on nopass', Vaani::Test::ACL::rights('vaani'), @{ $self->{acl} }),
        "user $admin{user} on >$admin{password} ~* &* +\@all",
    );
}

# The user for replicas can replicate and nothing else, so that a test can stop
# the replication of one replica by disabling it.
sub _replication_lines ($self) {
    return if !$self->{replicates};
    return (
        'user replica on >sesame +psync +replconf +ping', 'masteruser replica', 'masterauth sesame',
        'repl-diskless-sync-delay 0',
    );
}

sub _launch ($self, $rewritten = 0) {
    my $dir = $self->{dir};

    my @lines = (
        'daemonize no',
        $self->{port} ? ("port $self->{port}", "bind $self->{bind}") : 'port 0',
        $self->_tls_lines,
        "unixsocket $self->{socket}",
        'unixsocketperm 777',
        "dir $dir",
        "logfile $dir/redis.log",
        'save ""',
        'appendonly no',
        defined $self->{password} ? "requirepass $self->{password}" : (),
        $self->_users,
        $self->_replication_lines,
        map { s/%%DIR%%/$dir/gr } @{ $self->{config} },
    );
    spew("$dir/redis.conf", join('', map { "$_\n" } @lines)) if !$rewritten;

    my $process = Vaani::Test::Process->spawn(
        argv   => [ $ENV{REDIS_BIN} || 'redis-server', "$dir/redis.conf", @{ $self->{arguments} } ],
        stdout => "$dir/redis.out",
        stderr => "$dir/redis.out",
    );
    $self->{process} = $process;

    my $deadline = now() + $self->{timeout};
    my $interval = 0.001;

    until ($self->_answers) {
        if (!$process->alive) {
            $process->kill_group;
            delete $self->{process};
            die "redis-server ended at once:\n" . tail("$dir/redis.out") . tail("$dir/redis.log");
        }
        if (now() > $deadline) {
            $self->kill;
            die "redis-server does not answer within $self->{timeout} s\n"
                . tail("$dir/redis.log");
        }
        pause($interval);
        $interval *= 1.5 if $interval < 0.02;
    }

    return;
}

sub _tls_lines ($self) {
    return if !$self->{tls};
    my %tls = (auth_clients => 'no', %{ $self->{tls} });

    return (
        "tls-port $self->{tls_port}", "bind $self->{bind}",
        'tls-cert-file ' . delete $tls{cert}, 'tls-key-file ' . delete $tls{key},
        map { 'tls-' . tr/_/-/r . qq( "$tls{$_}") } sort keys %tls,
    );
}

sub _answers ($self) {
    my $answer = eval {
        my $client = Vaani::Test::RESP->connect($self->{socket}, timeout => 5);
        my ($reply, $error) = $client->try_cmd('PING');
        $reply // $error;
    } // return 0;

    return $answer =~ /^(?:PONG|NOAUTH|NOPERM|LOADING|MASTERDOWN)/ ? 1 : 0;
}

sub at_end ($self, $failed) {
    $self->kill;
    return;
}

sub DESTROY ($self) {
    return if ${^GLOBAL_PHASE} eq 'DESTRUCT' || !in_test_process();
    local ($@, $?, $!);
    $self->kill;
    return;
}

1;
