package Vaani::Test::StatusPage;

# The status page without the module: nginx serves src/http/status/status.html as a
# file, with the policy that tools/page2c computes, and beside it a JSON file
# that the test rewrites. So a test can show the page what no real nginx would
# tell in a test's time.

use v5.20;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';

use Exporter 'import';
use JSON::PP ();
use Time::HiRes ();
use Vaani::Test::Dir qw(ROOT slurp spew tmpdir);
use Vaani::Test::Events ();
use Vaani::Test::Nginx ();
use Vaani::Test::Process qw(run);

our @EXPORT_OK = qw(page_file page_source c_strings status_json);

my $json = JSON::PP->new->utf8->canonical;

my @EVENTS = (@Vaani::Test::Events::EVENTS, qw(unknown none));
my @RESULTS = qw(ok duplicate queued rejected unauthorized unavailable none);

use constant BOUNDS => [
    50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000,
    100_000, 200_000, 500_000, 1_000_000, 2_000_000, 5_000_000,
];

sub page_file () { return ROOT . '/src/http/status/status.html' }

# The output of tools/page2c for the page; $include is the path of the header.
sub page_source ($include = ROOT . '/src/http/status', $page = page_file()) {
    my ($exit, $source, $error) = run([ 'sh', ROOT . '/tools/page2c', $page, $include ]);
    die "page2c: $error\n" if $exit;
    return $source;
}

# The strings of such a source, by their names.
sub c_strings ($source) {
    my %found;
    while ($source =~ /^const ngx_str_t\s+(\w+) = ngx_string\(\n(.*?)^\);/msg) {
        my ($name, $text) = ($1, $2);
        my %escape = (n => "\n", t => "\t");
        $found{$name} = join '', map { s/\\(.)/$escape{$1} \/\/ $1/egr } $text =~ /^    "(.*)"$/mg;
    }
    return \%found;
}

# The answer of vaani_status before the first event.
sub status_json (%changes) {
    my $now = int Time::HiRes::time() * 1000;

    return {
        version => '1.0.0', nginx => '1.22.1', time => $now, since => $now - 60_000,
        deliveries => [ map { { event => $_, map { ($_ => 0) } @RESULTS } } @EVENTS ],
        reasons => {}, bytes => 0, in_flight => 0, transitions => [],
        calls => { map { ($_ => 0) } qw(started dialing ringing active rejected no_answer failed ended) },
        redis => [ redis_json() ],
        spools => [ spool_json() ],
        drift => [], drift_other => 0, recent => [], history => [ minute_json(time => $now) ],
        %changes,
    };
}

sub redis_json (%changes) {
    my $since = int(Time::HiRes::time() * 1000) - 60_000;
    my $workers = delete $changes{workers} // 2;

    return {
        server => 'redis://127.0.0.1:6379', form => 'single', replies => 0, connects => $workers, disconnects => 0,
        redirects => 0, table_refreshes => 0, failovers => 0, errors => {}, masters => 1, masters_down => 0,
        nodes => [ node_json(connections => $workers, ready => $workers) ],
        round_trip => { bounds => BOUNDS, counts => [ (0) x 17 ], sum => 0, p50 => undef, p90 => undef, p99 => undef },
        history => [],
        workers => [ map { {
            worker => $_, pid => 4000 + $_, connections => 1, ready => 1, since => $since,
            commands => 0, bytes => 0, error => undef, error_at => undef,
        } } 0 .. $workers - 1 ],
        %changes,
    };
}

# A minute of the history, in which nothing happened.
sub minute_json (%changes) {
    return { time => int(Time::HiRes::time() * 1000), seconds => 60, results => {}, events => {}, reasons => {}, %changes };
}

sub node_json (%changes) {
    return { node => 'redis://127.0.0.1:6379', role => 'master', slots => 0, connections => 0, ready => 0, %changes };
}

sub spool_json (%changes) {
    return {
        path => '/var/spool/vaani', records => 0, bytes => 0, max => 1 << 30, oldest => undef,
        appended => 0, replayed => 0, dead_letters => 0, refused => 0,
        dead_letters_bytes => 0, bad_bytes => 0, refused_bytes => 0, refusals_kept => 0, refusals_dropped => 0,
        retain => 0, kept_bytes => 0, kept_seconds => 0, kept => 0, not_kept => 0,
        losses => 0, losses_beyond => 0, looked_at => 0, brought_back => 0, %changes,
    };
}

# --- the site

sub start ($class) {
    my $self = bless { dir => tmpdir() . '/page' }, $class;
    my $policy = c_strings(page_source())->{ngx_http_vaani_page_csp};

    mkdir $self->{dir} or die "mkdir: $!\n";
    spew("$self->{dir}/status.html", slurp(page_file()));
    $self->show(status_json());

    $self->{nginx} = Vaani::Test::Nginx->start(
        module => '',
        http   => <<"CONF",
    server {
        listen 127.0.0.1:%%PORT%%;
        root $self->{dir};
        types { text/html html; application/json json; }
        charset utf-8;
        etag off;

        location = /status {
            if (\$arg_format = json) {
                rewrite ^ /status.json last;
            }
            add_header Content-Security-Policy "$policy";
            rewrite ^ /status.html break;
        }
    }
CONF
    );
    return $self;
}

sub url ($self) { return 'http://127.0.0.1:' . $self->{nginx}->port . '/status' }

# The page's next answer: a structure, or a string as it stands. Renamed, since
# the page may be reading the file.
sub show ($self, $data) {
    $self->{data} = $data;
    in_last_minute($data) if ref $data;
    spew("$self->{dir}/new", ref $data ? $json->encode($data) : $data);
    rename "$self->{dir}/new", "$self->{dir}/status.json" or die "rename: $!\n";
    return;
}

# The latest minute has all that was counted, unless there are several minutes.
sub in_last_minute ($data) {
    my @history = @{ $data->{history} // [] };
    return if @history != 1;

    my $minute = $history[0];
    $minute->{time} = $data->{time};
    $minute->{reasons} = { %{ $data->{reasons} } };
    $minute->{$_} = {} for qw(results events);
    for my $row (@{ $data->{deliveries} }) {
        for my $result (grep { ($row->{$_} // '') =~ /^[1-9]\d*$/ } @RESULTS) {
            $minute->{results}{$result} += $row->{$result};
            $minute->{events}{ $row->{event} } += $row->{$result};
        }
    }
    for my $redis (grep { grep { $_ } @{ $_->{round_trip}{counts} } } @{ $data->{redis} }) {
        my $replies = 0;
        $replies += $_ for @{ $redis->{round_trip}{counts} };
        $redis->{history} = [ { time => $data->{time}, replies => $replies, p50 => 123, p90 => 456, p99 => 7890 } ];
    }
    return;
}

# From now on the request for the numbers fails.
sub fail ($self) { unlink "$self->{dir}/status.json"; return }

1;
