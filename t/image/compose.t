# compose.yaml: podman-compose reads it, what it names is there, and nothing is
# reachable from outside. t/image/services.t runs the services.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

use JSON::PP qw(decode_json);

sub yaml ($file, %opt) {
    my ($exit, $out, $err) = run([ ROOT . '/t/image/yaml2json', $file ], %opt);
    is $exit, 0, "$file is YAML" or die $err;
    return @{ decode_json($out) };
}

my ($compose) = yaml(ROOT . '/compose.yaml');
my $services = $compose->{services};
my $dockerfile = slurp(ROOT . '/Dockerfile');
my %target = map { $_ => 1 } $dockerfile =~ /^FROM \S+ AS (\S+)$/mg;
my %argument = map { $_ => 1 } $dockerfile =~ /^ARG (\w+)/mg;

subtest 'as podman-compose reads it' => sub {
    # With --dry-run it prints what it would run. Only the version of podman is asked
    # for.
    my $bin = tmpdir() . '/bin';
    mkdir $bin or die "mkdir: $!\n";
    spew("$bin/podman", "#!/bin/sh\necho podman version 4.3.1\n");
    chmod 0755, "$bin/podman" or die "chmod: $!\n";

    my ($exit, $out, $err) = run([ 'env', "PATH=$bin:$ENV{PATH}", qw(podman-compose --dry-run -f), ROOT . '/compose.yaml', qw(up -d) ]);
    is $exit, 0, 'podman-compose up' or diag $out, $err;

    my %run = map { /--network-alias (\S+)/ ? ($1 => $_) : () } grep { /^podman run / } split /\n/, "$out\n$err";
    is_deeply [ sort keys %run ], [ sort keys %$services ], 'it would run all services';
    like $run{nginx}, qr/--read-only .*--cap-drop ALL .*--tmpfs \/tmp -v [\w-]+_spool:\/var\/spool\/vaani .*-p 127\.0\.0\.1:8080:8080/,
        '... the endpoint without privileges, with a spool';
    like $run{redis}, qr/ -p 127\.0\.0\.1:6379:6379 /, '... Redis at its port';
};

subtest 'services' => sub {
    is_deeply [ sort keys %$services ], [qw(board nginx prometheus redis simulator)], 'all of them';
    is_deeply [ grep { $services->{$_}{profiles} } sort keys %$services ], ['prometheus'], 'one is in a profile';

    for my $name (sort keys %$services) {
        my $service = $services->{$name};

        if (my $build = $service->{build}) {
            ok !defined $build->{target} || $target{ $build->{target} }, "$name: the target is in the Dockerfile";
            is join(' ', grep { !$argument{$_} } keys %{ $build->{args} // {} }), '', '... and so are the arguments';
            ok $service->{read_only}, '... its root is read-only';
            is_deeply $service->{cap_drop}, ['ALL'], '... and it has no capabilities';
            ok $service->{init} || $name eq 'nginx', '... and SIGTERM ends it, though it is the first process';
        } else {
            like $service->{image}, qr{^docker\.io/[a-z/]+:v?\d[\d.]*$}, "$name: an image of a version";
        }

        for my $port (@{ $service->{ports} // [] }) {
            like $port, qr/^127\.0\.0\.1:(\d+):\1$/, "$name: $port is of this machine only";
        }

        for my $volume (@{ $service->{volumes} // [] }) {
            my ($source) = split /:/, $volume;
            ok $source =~ m{^\./} ? -e ROOT . "/$source" : exists $compose->{volumes}{$source}, "$name: $source is there";
        }

        my $on = $service->{depends_on} // [];
        for my $other (ref $on eq 'HASH' ? sort keys %$on : @$on) {
            ok $services->{$other}, "$name: waits for $other";
            next if ref $on ne 'HASH' || $on->{$other}{condition} ne 'service_healthy';
            ok $services->{$other}{healthcheck}, '... which says when it is healthy';
        }
    }

    # Podman builds images without the HEALTHCHECK of the Dockerfile.
    my ($options, $command) = $dockerfile =~ /^HEALTHCHECK (.*) CMD (\[.*\])$/m;
    my %check = map { tr/-/_/r } $options =~ /--([\w-]+)=(\S+)/g;
    is_deeply $services->{nginx}{healthcheck}, { %check, test => [ 'CMD', @{ decode_json($command) } ] },
        "nginx: has the Dockerfile's health check";

    is_deeply $services->{redis}{ports}, ['127.0.0.1:6379:6379'], 'Redis is where every client looks for it';
    unlike $services->{nginx}{environment}{VAANI_SPOOL}, qr/retain/, 'a FLUSHALL on a machine of a developer brings nothing back';
};

subtest 'what the services are told' => sub {
    my ($url) = grep { m{^http://} } @{ $services->{simulator}{command} };
    my ($host, $port, $path) = $url =~ m{^http://([^:/]+):(\d+)(/.*)$};
    my $conf = slurp(ROOT . '/container/endpoint.conf');
    ok $services->{$host}, 'the simulator sends to a service';
    like $conf, qr/listen \Q$port\E;.*location = \Q$path\E \{\s+vaani_webhook;/s, '... and its endpoint';

    my ($command, @options) = grep { $_ ne $url } @{ $services->{simulator}{command} };
    is $command, 'vaani-call', 'with vaani-call';
    for my $option (grep { /^--/ } @options) {
        like slurp(ROOT . '/bin/vaani-call'), qr/^=item .*\Q$option\E\b/m, "... which has $option";
    }

    is $services->{$_->[0]}{environment}{ $_->[1] }, 'redis://redis:6379', "$_->[0] talks to Redis"
        for [qw(nginx VAANI_REDIS)], [qw(board REDIS_URL)];

    my ($prometheus) = yaml(ROOT . '/container/prometheus.yml');
    my ($scrape) = @{ $prometheus->{scrape_configs} };
    my ($target) = @{ $scrape->{static_configs}[0]{targets} };
    my ($scraped, $management) = split /:/, $target;
    ok $services->{$scraped}, 'Prometheus scrapes a service';
    like $conf, qr/listen \Q$management\E;.*location = \Q$scrape->{metrics_path}\E +\{ vaani_status; \}/s, '... its numbers';

    my $dir = tmpdir() . '/prometheus';
    mkdir $dir or die "mkdir: $!\n";
    spew("$dir/prometheus.yml", slurp(ROOT . '/container/prometheus.yml'));
    spew("$dir/alerts.yml", slurp(ROOT . '/examples/alerts.yml'));
    my ($exit, $out, $err) = run([ qw(promtool check config), "$dir/prometheus.yml" ]);
    is $exit, 0, 'promtool check config' or diag $out, $err;
    is $scrape->{job_name}, 'vaani', '... and the job that the alerts ask for';
};

done_testing;
