package Vaani::Bench::Peers;

# The compared endpoints: each a separate server, with one worker unless more
# are requested, on a free port of 127.0.0.1, in front of the same Redis. All
# their configurations are here.

use v5.20;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';

use File::Basename qw(dirname);
use Vaani::Test ();
use Vaani::Test::Dir qw(slurp subdir tail tmpdir);
use Vaani::Test::Socket qw(free_port now pause try_connect);

use constant ROOT  => dirname(__FILE__) . '/../../../..';
use constant BUILD => $ENV{BENCH_BUILD} // ROOT . '/build/bench';
use constant PATH  => '/vaani/webhook';

# Threads of the one worker of gunicorn: with fewer or more, of 1 to 64, it did
# hardly more events and used hardly less CPU for them.
use constant FLASK_THREADS => 16;

our @NAMES = ('module', 'module, spool', 'OpenResty', 'Node.js', 'Bun', 'Rust', 'Flask', 'nothing');

my %START = (
    'module' => sub ($self) {
        $self->_nginx(
            location => "vaani_webhook; vaani_redis unix:$self->{redis};",
            server   => $self->{server},
        );
    },
    'module, spool' => sub ($self) {
        $self->_nginx(location =>
            "vaani_webhook; vaani_redis unix:$self->{redis}; vaani_spool %%DIR%%/spool max=1g retain=off;");
    },
    'module, retain' => sub ($self) {
        $self->_nginx(location =>
            "vaani_webhook; vaani_redis unix:$self->{redis}; vaani_spool %%DIR%%/spool max=1g retain=2h;");
    },
    'module, index' => sub ($self) {
        $self->_nginx(location => "vaani_webhook; vaani_redis unix:$self->{redis}; vaani_index on;");
    },
    'module, max=16k' => sub ($self) {
        $self->_nginx(location => "vaani_webhook; vaani_redis unix:$self->{redis}; vaani_payload max=16k;");
    },
    'OpenResty' => sub ($self) {
        my %file = (table => peers('events.json'), script => script(), redis => "unix:$self->{redis}");
        my $settings = join ', ', map { qq($_ = "$file{$_}") } sort keys %file;
        $self->_nginx(
            module   => '',
            main     => join('', map { "load_module /usr/lib/nginx/modules/$_.so;\n" } qw(ndk_http_module ngx_http_lua_module)),
            http     => join("\n",
                qq(lua_package_path "@{[ peers('openresty') ]}/?.lua;@{[ BUILD ]}/lua/?.lua;;";),
                "init_by_lua_block { require('handler').init({ $settings }) }",
                "init_worker_by_lua_block { require('handler').init_worker() }"),
            location => "content_by_lua_block { require('handler').handle() }",
        );
    },
    'Node.js' => sub ($self) {
        $self->_program(
            { NODE_PATH => BUILD . '/node/node_modules', NODE_ENV => 'production' },
            $ENV{NODE_BIN} // 'node', peers('node/server.js'),
        );
    },
    'Bun' => sub ($self) {
        $self->_program({ NODE_ENV => 'production' }, BUILD . '/bun/node_modules/.bin/bun', peers('bun/server.mjs'));
    },
    'Rust' => sub ($self) { $self->_program({}, BUILD . '/rust/target/release/vaani-bench-rust') },
    'Flask' => sub ($self) {
        $self->_program(
            { PYTHONDONTWRITEBYTECODE => 1 },
            'gunicorn', '--chdir', peers('flask'), '-b', "127.0.0.1:$self->{port}", '-w', $self->{workers},
            '-k', 'gthread', '--threads', FLASK_THREADS, '--keep-alive', 600, '--log-level', 'warning', 'app:app',
        );
    },
    'nothing' => sub ($self) {
        $self->_nginx(module => BUILD . '/ngx_http_bench_null_module.so', location => 'bench_null;');
    },
);

sub peers ($path) { return ROOT . "/bench/peers/$path" }
sub script ()     { return ROOT . '/src/core/transition.lua' }

# start($name, redis => path of the socket): returns when it accepts connections.
# Also workers => 1, and for the module server => directives of that context.
sub start ($class, $name, %opt) {
    my $self = bless { name => $name, workers => 1, %opt, port => free_port() }, $class;
    ($START{$name} // die "no such peer: $name\n")->($self);
    return $self;
}

sub stop ($self) {
    $self->{nginx} ? $self->{nginx}->stop : $self->{process}->kill_group;
    return;
}

sub name ($self) { return $self->{name} }
sub port ($self) { return $self->{nginx} ? $self->{nginx}->port : $self->{port} }

# The processes that do the work: the workers, not the master that waits.
sub pids ($self) {
    return $self->{nginx}->worker_pids if $self->{nginx};

    my $pid = $self->{process}->pid;
    my @children = split ' ', slurp("/proc/$pid/task/$pid/children");
    return @children ? @children : $pid;
}

sub _nginx ($self, %part) {
    my $http = slurp(peers('nginx.conf'));
    $part{listen} = $self->{workers} > 1 ? 'reuseport' : '';
    $http =~ s{<(http|server|listen|location)>}{$part{$1} // ''}ge;

    $self->{nginx} = Vaani::Test::Nginx->start(
        http      => $http,
        main      => $part{main} // '',
        events    => 'worker_connections 8192;',
        workers   => $self->{workers},
        log_level => 'crit',
        exists $part{module} ? (module => $part{module}) : (),
    );
    return;
}

sub _program ($self, $env, @argv) {
    my $log = subdir('program') . '/log';

    local %ENV = (
        %ENV, %$env,
        BENCH_PORT => $self->{port}, BENCH_REDIS => $self->{redis},
        BENCH_TABLE => peers('events.json'), BENCH_SCRIPT => script(),
    );
    my $process = $self->{process} =
        Vaani::Test::Process->spawn(argv => \@argv, dir => tmpdir(), stdout => $log, stderr => $log);

    my $deadline = now() + 30;
    until (try_connect($self->{port})) {
        die "$argv[0] does not listen:\n" . tail($log) if !$process->alive || now() > $deadline;
        pause(0.01);
    }
    return;
}

1;
