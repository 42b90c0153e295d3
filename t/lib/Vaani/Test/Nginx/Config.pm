package Vaani::Test::Nginx::Config;

# Writes the nginx.conf of a test: what the test gives, in a frame that keeps
# everything inside the test's directory.

use v5.20;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';

use Exporter 'import';
use Vaani::Test::Dir qw(ROOT spew);
use Vaani::Test::Process qw(run);

our @EXPORT_OK = qw(nginx_bin nginx_argv module_path write_config);

sub nginx_bin () { return $ENV{NGINX_BIN} || '/usr/sbin/nginx' }

# NGINX_WRAPPER goes in front: a valgrind command line, env LD_PRELOAD=...
sub nginx_argv ($dir, @arguments) {
    return (
        split(' ', $ENV{NGINX_WRAPPER} // ''),
        nginx_bin(), '-p', $dir, '-c', "$dir/nginx.conf", @arguments,
    );
}

# Without the variable, as with a plain "prove", the module is that of "make".
# It is set here, because all readers of the variable have loaded this file
# before.
$ENV{VAANI_MODULE} //= ROOT . '/build/ngx_http_vaani_module.so';

# The module to load: '' when it is built in.
sub module_path ($override = undef) {
    my $path = $override // $ENV{VAANI_MODULE};

    die "there is no module at $path: run \"make module\", or set VAANI_MODULE to its path, or to nothing if nginx has it built in\n"
        if $path ne '' && !-f $path;
    return $path;
}

# $config: the options http, main, events, workers, single, module, log_level
# of Vaani::Test::Nginx. $variables: what %%NAME%% stands for; a code ref is
# called when its name occurs.
sub write_config ($dir, $config, $variables) {
    my ($main, $events, $http) = map { $config->{$_} // '' } qw(main events http);
    my $module = module_path($config->{module});
    my $level = $config->{log_level} // 'info';

    my @main = (
        $module ne '' ? "load_module $module;" : (),
        'daemon off;',
        # Workers of another user could not reach the sockets of the test's
        # servers; as root that is the default.
        $> == 0 ? 'user root;' : (),
        _unless_given($main, 'master_process', $config->{single} ? 'off' : ()),
        _unless_given($main, 'worker_processes', $config->{workers} // 1),
        _unless_given($main, 'pid', "$dir/nginx.pid"),
        _unless_given($main, 'error_log', "$dir/error.log $level"),
    );

    my @events = _unless_given($events, 'worker_connections', 1024);

    my @http = (
        _unless_given($http, 'access_log', 'off'),
        # The module warns of nginx's default.
        _unless_given($http, 'client_max_body_size', '16m'),
        map { _unless_given($http, "${_}_temp_path", "$dir/temp_$_") } _temp_paths(),
    );

    my $text = join "\n",
        @main, $main,
        'events {', (map { "    $_" } @events), $events, '}',
        'http {', (map { "    $_" } @http), $http, '}', '';

    $text =~ s{%%(\w+)%%}{
        my $value = $variables->{$1} // die "no variable %%$1%% in nginx.conf\n";
        ref $value ? $value->() : $value;
    }ge;

    mkdir "$dir/logs";    # the compiled-in error log may be there
    spew("$dir/nginx.conf", $text);
    return $text;
}

# A default that is omitted if the test has the same directive at the same
# level, because nginx refuses duplicates.
sub _unless_given ($text, $name, @value) {
    return if !@value;
    my $level = $text =~ s/(\{(?:[^{}]++|(?1))*\})/;/gr;
    return $level =~ /(?:^|[;\s])\Q$name\E\s/ ? () : "$name @value;";
}

# A build without the proxy module does not know its directives.
sub _temp_paths () {
    state $paths = do {
        my (undef, @output) = run([ nginx_bin(), '-V' ]);
        my %without = map { $_ => 1 } "@output" =~ /--without-http_(\w+)_module/g;
        [ 'client_body', grep { !$without{$_} } qw(proxy fastcgi uwsgi scgi) ];
    };
    return @$paths;
}

1;
