# examples/kubernetes: each name that one object uses another one has, the pod is
# the image that the Dockerfile builds, the image's nginx accepts the
# configuration, and the spool can be on a volume as Kubernetes mounts it.
# docs/kubernetes.md shows parts of it. No cluster runs here.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

use JSON::PP qw(decode_json encode_json);
use Vaani::Test::Container;
use Vaani::Test::Events;
use Vaani::Test::Readme;

enter_network($0);

my $file = ROOT . '/examples/kubernetes/vaani.yaml';
my ($exit, $out, $err) = run([ ROOT . '/t/image/yaml2json', $file ]);
is $exit, 0, 'it is YAML' or BAIL_OUT($err);

my @objects = @{ decode_json($out) };
my %object;
for my $object (@objects) {
    my ($kind, $name) = ($object->{kind}, $object->{metadata}{name});
    ok !$object{$kind}{$name}, "$kind $name, once";
    $object{$kind}{$name} = $object;
}

my %version = (
    ConfigMap => 'v1', Service => 'v1', StatefulSet => 'apps/v1', PodDisruptionBudget => 'policy/v1',
);
is_deeply [ sort keys %object ], [ sort keys %version ], 'all kinds';
is $_->{apiVersion}, $version{ $_->{kind} }, "$_->{kind}: the version of its API" for @objects;

my ($set) = values %{ $object{StatefulSet} };
my $pod = $set->{spec}{template};
my ($nginx) = @{ $pod->{spec}{containers} };
my $conf = slurp(ROOT . '/container/nginx.conf');
my $endpoint = slurp(ROOT . '/container/endpoint.conf');
my $dockerfile = slurp(ROOT . '/Dockerfile');

sub selects ($selector) {
    return %$selector && !grep { ($pod->{metadata}{labels}{$_} // '') ne $selector->{$_} } keys %$selector;
}

subtest 'names' => sub {
    ok selects($set->{spec}{selector}{matchLabels}), 'the StatefulSet has its pods';
    ok selects($_->{spec}{selector}), "Service $_->{metadata}{name} has them" for values %{ $object{Service} };
    ok selects($_->{spec}{selector}{matchLabels}), 'the PodDisruptionBudget has them' for values %{ $object{PodDisruptionBudget} };
    ok selects($_->{labelSelector}{matchLabels}), '... and so has the spread' for @{ $pod->{spec}{topologySpreadConstraints} };
    my ($headless) = $object{Service}{ $set->{spec}{serviceName} };
    is $headless && $headless->{spec}{clusterIP}, 'None', 'the StatefulSet has a headless Service';

    my ($budget) = values %{ $object{PodDisruptionBudget} };
    cmp_ok $budget->{spec}{minAvailable}, '<', $set->{spec}{replicas}, 'a node can be drained';

    my %port = map { $_->{name} => $_->{containerPort} } @{ $nginx->{ports} };
    ok $port{ $_->{targetPort} }, "a port named $_->{targetPort}" for map { @{ $_->{spec}{ports} } } values %{ $object{Service} };
    like $dockerfile, qr/^EXPOSE .*\b$_\b/m, "... $_ is one of the image" for values %port;

    my %volume = map { ($_->{name} // $_->{metadata}{name}) => $_ } @{ $pod->{spec}{volumes} }, @{ $set->{spec}{volumeClaimTemplates} };
    my %mounted = map { $_->{name} => $_->{mountPath} } @{ $nginx->{volumeMounts} };
    is_deeply [ sort keys %mounted ], [ sort keys %volume ], 'each volume is mounted, and nothing else';
    ok $object{ConfigMap}{ $_->{configMap}{name} }, '... the ConfigMap is here' for grep { $_->{configMap} } values %volume;
    is $volume{spool}{kind} // 'claim', 'claim', '... the spool is a claim';
    like $dockerfile, qr/^VOLUME \Q$mounted{spool}\E$/m, '... at the place of the image';
    is $mounted{tmp}, '/tmp', '... /tmp is writable';
};

subtest 'probes' => sub {
    for my $name (qw(startupProbe readinessProbe livenessProbe)) {
        my $probe = $nginx->{$name};
        my ($kind) = grep { $probe->{$_} } qw(httpGet tcpSocket);
        ok scalar(grep { $_->{name} eq $probe->{$kind}{port} } @{ $nginx->{ports} }), "$name: the port has a name";
        like $endpoint, qr/location = \Q$probe->{httpGet}{path}\E +\{ vaani_health; \}/, '... the path is that of the health check'
            if $kind eq 'httpGet';
    }
    ok !$nginx->{livenessProbe}{httpGet}, 'a Redis that is unreachable restarts no pod';
};

subtest 'the end of a pod' => sub {
    my (undef, $sleep) = @{ $nginx->{lifecycle}{preStop}{exec}{command} };
    my ($shutdown) = $conf =~ /^worker_shutdown_timeout (\d+)s;/m;
    cmp_ok $pod->{spec}{terminationGracePeriodSeconds}, '>', $sleep + $shutdown, 'the grace period covers preStop and nginx';
    is $set->{spec}{persistentVolumeClaimRetentionPolicy}{$_}, 'Retain', "$_: events that wait are kept" for qw(whenDeleted whenScaled);
};

subtest 'privileges' => sub {
    my ($user) = $dockerfile =~ /^USER (\d+:\d+)$/m;
    my $security = $pod->{spec}{securityContext};
    is "$security->{runAsUser}:$security->{runAsGroup}", $user, 'the user of the image';
    is $security->{fsGroup}, $security->{runAsGroup}, '... owns the claim';
    ok $security->{runAsNonRoot} && $nginx->{securityContext}{readOnlyRootFilesystem}, 'no root, and a root that is read-only';
    is_deeply $nginx->{securityContext}{capabilities}{drop}, ['ALL'], 'no capabilities';
};

subtest 'the configuration' => sub {
    my %env = map { $_->{name} => $_->{value} } @{ $nginx->{env} };
    my $entrypoint = slurp(ROOT . '/container/entrypoint');
    like $entrypoint, qr/^#\s+\Q$_\E\b/m, "$_ is a setting of the image" for sort keys %env;
    like $env{VAANI_SPOOL}, qr/\bretain=2h\b/, 'what Redis loses comes back';

    my ($size) = $set->{spec}{volumeClaimTemplates}[0]{spec}{resources}{requests}{storage} =~ /^(\d+)Gi$/;
    my ($max) = $env{VAANI_SPOOL} =~ /\bmax=(\d+)g\b/;
    cmp_ok $size, '>', $max, 'the claim has room for the spool';

    # The files of the volumes; the user of the pod can read them.
    my $dir = tmpdir() . '/volumes';
    my $spool = tmpdir() . '/spool';
    mkdir $_ or die "mkdir $_: $!\n" for $dir, $spool, "$dir/endpoint", "$dir/vaani", "$dir/redis";
    my ($map) = values %{ $object{ConfigMap} };
    spew("$dir/endpoint/$_", $map->{data}{$_}) for keys %{ $map->{data} };
    spew("$dir/vaani/secret", "a-secret-that-nobody-guesses-0123456789\n");
    spew("$dir/redis/password", "a-password\n");
    chown 10001, 10001, $spool, "$dir/vaani/secret", "$dir/redis/password";
    chmod 0440, "$dir/vaani/secret", "$dir/redis/password";

    # A name that can be resolved here.
    $env{VAANI_REDIS} =~ s/[\w.]+(?=:\d+$)/127.0.0.1/ or die "no host in $env{VAANI_REDIS}\n";

    my $image = Vaani::Test::Container->image('vaani-endpoint');
    my $root = $image->root;
    for my $path (qw(/run/secrets /run/secrets/vaani /run/secrets/redis)) {
        -d "$root$path" or mkdir "$root$path" or die "mkdir: $!\n";
    }

    my %binds = ('/run/secrets/redis' => "$dir/redis");
    my $check = sub () {
        my $nginx = $image->start(%env, spool => $spool, command => [qw(vaani-entrypoint nginx -t -e stderr)],
            binds => { %binds, '/etc/nginx/vaani/endpoint.d' => "$dir/endpoint", '/run/secrets/vaani' => "$dir/vaani" });
        $nginx->process->wait(60) or die "nginx -t does not end\n";
        return ($nginx->process->status, $nginx->log);
    };

    my ($status, $log) = $check->();
    is $status, 0, "the image's nginx accepts it" or diag $log;

    unlink "$dir/vaani/secret";
    ($status, $log) = $check->();
    isnt $status, 0, '... and wants the secret';
    like $log, qr{/run/secrets/vaani/secret}, '... by its name';

    # The root of an ext4 file system that belongs to fsGroup. No Redis runs here.
    my $claim = tmpdir() . '/claim';
    mkdir $_ or die "mkdir $_: $!\n" for $claim, "$claim/lost+found";
    chmod 0700, "$claim/lost+found" or die "chmod: $!\n";
    chown 0, $pod->{spec}{securityContext}{fsGroup}, $claim or die "chown: $!\n";
    chmod 02775, $claim or die "chmod: $!\n";

    my $running = $image->start(%env, spool => $claim, binds => \%binds);
    $running->ready or return;
    is +Vaani::Test::HTTP->new(port => 8080)->post('/vaani/webhook', event('call_ringing', room => 'room_1'))->body,
        qq({"status":"queued"}\n), 'a claim, as it is mounted, takes an event';
    ok $running->stop, '... and the pod ends';
    unlike $running->log, qr/lost\+found/, '... and had nothing to complain of' or diag $running->log;
};

# Whether all of it is in the other one, too. Elements of lists are found by name.
sub contains ($whole, $part) {
    if (ref $part eq 'HASH') {
        return ref $whole eq 'HASH' && !grep { !exists $whole->{$_} || !contains($whole->{$_}, $part->{$_}) } keys %$part;
    }
    if (ref $part eq 'ARRAY' && ref $part->[0] eq 'HASH') {
        for my $item (@$part) {
            my ($same) = grep { $_->{name} eq $item->{name} } @$whole;
            return 0 if !$same || !contains($same, $item);
        }
        return 1;
    }
    return encode_json([$whole]) eq encode_json([$part]);
}

subtest 'what docs/kubernetes.md shows' => sub {
    for my $block (Vaani::Test::Readme->new(ROOT . '/docs/kubernetes.md')->of('yaml')) {
        my ($exit, $out, $err) = run([ ROOT . '/t/image/yaml2json', '-' ], stdin => $block->{text});
        is $exit, 0, "line $block->{line}: it is YAML" or diag($err), next;
        ok contains($pod, $_), '... and part of the pod' or diag $block->{text} for @{ decode_json($out) };
    }
    ok !contains($pod, { spec => { terminationGracePeriodSeconds => 1 } }), 'another number is not';
};

done_testing;
