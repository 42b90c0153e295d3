# The configurations that nginx -t accepts, and those that it refuses, with the
# file and the line; and the inheritance of settings, as the events that arrive
# show.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

use Vaani::Test::Directives;
use Vaani::Test::Events;

use constant OK => qq({"status":"ok"}\n);

# A name server that does not answer must not take long to say so.
$ENV{RES_OPTIONS} = 'timeout:1 attempts:1';

sub warned ($message, $name, %lines) {
    $lines{$_} .= ' # here' for grep { $_ ne 'webhook' } keys %lines;
    my ($ok, $output) = check(http => config(%lines));
    my @warnings = $output =~ m{\[warn\] (?:\d+#\d+: )?(.*) in (/\S+:\d+)$}mg;
    my ($file, $line) = ($warnings[1] // '') =~ /(.*):(.*)/;
    my $text = defined $line ? (split /^/, slurp($file))[ $line - 1 ] : '';

    return ok($ok && @warnings == 2 && $output !~ /\[(?:error|crit|alert|emerg)\]/ && $warnings[0] =~ $message && $text =~ /# here$/, $name)
        || diag "wanted: $message, in: $text\n", $output;
}

my @EVERYWHERE = qw(http server location);

# Every directive with a good value; those that take one value, and only once.
my %GOOD = (
    vaani_redis                 => 'redis://127.0.0.1:6380',
    vaani_redis_password_file   => '%%TMPDIR%%/password',
    vaani_redis_sentinel_password_file => 'off',
    vaani_redis_connect_timeout => '2s',
    vaani_redis_timeout         => '500ms',
    vaani_redis_connections     => '2',
    vaani_prefix                => 'calls',
    vaani_partitions            => '16',
    vaani_channel               => 'events',
    vaani_stream                => 'stream',
    vaani_payload               => 'max=16k',
    vaani_ttl                   => '1h',
    vaani_delivery_id           => '$http_x_id',
    vaani_validation            => 'lenient',
    vaani_unknown_event         => 'reject',
    vaani_spool                 => '%%DIR%%/spool',
);
my %REPEATABLE = map { $_ => 1 } qw(vaani_channel);
my %ANY_NUMBER = map { $_ => 1 } qw(vaani_redis);

sub password_file ($name, $bytes, $mode = 0600) {
    spew(tmpdir() . "/$name", $bytes);
    chmod $mode, tmpdir() . "/$name" or die "chmod: $!\n";
    return;
}

password_file('password', "secret\n");

subtest 'contexts' => sub {
    my @all = map { "$_ $GOOD{$_};" } sort keys %GOOD;

    accepted 'nothing but the endpoint', ();
    accepted "all in $_", $_ => "@all" for @EVERYWHERE;
    accepted 'all of them everywhere', map { $_ => "@all" } @EVERYWHERE;
    accepted 'also without an endpoint', webhook => '', map { $_ => "@all" } @EVERYWHERE;

    for my $directive (sort keys %GOOD) {
        my $text = "$directive $GOOD{$directive};";
        refused_config qr/^"$directive" directive is not allowed here$/, "$directive in main",
            main => "$text # here", http => config();
        refused qr/^"$directive" directive is not allowed here$/, "$directive in if",
            location => "if (\$uri) { $text }";
        refused qr/^"$directive" directive is not allowed here$/, "$directive in limit_except",
            location => "limit_except GET { $text }";
    }

    refused_config qr/^"vaani_webhook" directive is not allowed here$/, 'vaani_webhook in main',
        main => 'vaani_webhook; # here', http => config();
    for my $where (qw(http server)) {
        refused qr/^"vaani_webhook" directive is not allowed here$/, "vaani_webhook in $where",
            $where => 'vaani_webhook;';
    }
    refused qr/^"vaani_webhook" directive is not allowed here$/, 'vaani_webhook in if',
        location => 'if ($uri) { vaani_webhook; }';
};

# Settings that would not do what they seem to do.
subtest 'handlers' => sub {
    my @handlers = qw(vaani_webhook vaani_status vaani_health);
    my $token = 'vaani_token $arg_t 0123456789abcdef;';

    for my $one (@handlers) {
        refused_config(qr/"$one" directive is duplicate/, "$one twice",
            http => "server { listen unix:%%SOCK%%; location /x { $one; $one; # here\n} }");
        for my $two (grep { $_ ne $one } @handlers) {
            refused_config(qr/"$two" directive is in a location with another handler of this module/, "$one and $two",
                http => "server { listen unix:%%SOCK%%; location /x { $one; $two; # here\n} }");
        }
        next if $one eq 'vaani_webhook';

        for my $directive ($token, 'vaani_secret whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw;',
            'vaani_signature X-S secret=0123456789abcdef;')
        {
            my ($name) = $directive =~ /^(\w+)/;
            my ($ok, $output) = check(http => "server { listen unix:%%SOCK%%; location /x { $one; $directive } }");
            ok !$ok && $output =~ /"$name" protects only "vaani_webhook"/, "$one with $name" or diag $output;
        }
        accepted "$one below a token", http => $token, location => "vaani_token off; } location /y { $one;";
    }

    refused qr/"vaani_token" directive has "off" among its secrets/, 'off as a secret', server => 'vaani_token $arg_t off;';
    refused qr/"vaani_signature" directive needs the name of a header first/, 'no header',
        server => "vaani_signature $_ secret=0123456789abcdef;" for '""', 'secret=0123456789abcdef';
};

subtest 'numbers of parameters' => sub {
    refused qr/^invalid number of arguments in "vaani_webhook" directive$/, 'vaani_webhook on',
        webhook => '', location => 'vaani_webhook on;';

    for my $directive (sort keys %GOOD) {
        my $message = qr/^invalid number of arguments in "$directive" directive$/;
        my %parameters = (
            vaani_channel => 'sharded',
            vaani_stream => 'maxlen=1',
            vaani_spool  => 'max=1m sync=off retain=1h refused=1m',
            vaani_redis_sentinel_password_file => 'user=x',
        );
        my @too_many = ($GOOD{$directive}, $parameters{$directive} // (), 'more');

        refused $message, "$directive without any", http => "$directive;";
        refused $message, "$directive with too many", http => "$directive @too_many;" if !$ANY_NUMBER{$directive};
    }
};

subtest 'twice' => sub {
    refused qr/^"vaani_webhook" directive is duplicate$/, 'vaani_webhook', location => 'vaani_webhook;';

    my @where = @EVERYWHERE;
    for my $directive (sort keys %GOOD) {
        my $where = $where[0];
        push @where, shift @where;

        my $text = "$directive $GOOD{$directive};";
        $REPEATABLE{$directive}
            ? accepted("$directive in $where", $where => "$text $text")
            : refused(qr/^"$directive" directive is duplicate$/, "$directive in $where", $where => "$text\n$text");
    }
    for my $directive (qw(vaani_stream vaani_payload vaani_ttl vaani_spool vaani_redis_sentinel_password_file)) {
        for my $order ([ 'off', $GOOD{$directive} ], [ $GOOD{$directive}, 'off' ], [ 'off', 'off' ]) {
            refused qr/^"$directive" directive is duplicate$/, "$directive @$order",
                http => join "\n", map { "$directive $_;" } @$order;
        }
    }
};

subtest 'values' => sub {
    my @bad_timeouts = (qw(x -1 1x ms 0 99999999999999999999), '""', '"1 s"');
    my %values = (
        vaani_redis_connect_timeout => { good => [qw(1 1s 100ms 1m)], bad => \@bad_timeouts },
        vaani_redis_timeout         => { good => [qw(1 1s 100ms 1m)], bad => \@bad_timeouts },
        vaani_redis_connections     => {
            good => [qw(1 2 64)],
            bad  => [qw(0 65 -1 x 1x 1.5 99999999999999999999), '""'],
        },
        vaani_partitions => {
            good => [qw(1 2 256 16384)],
            bad  => [qw(0 16385 -1 x 1x 1.5 99999999999999999999 off $arg_n), '""'],
        },
        vaani_payload => {
            good => [qw(on off max=1 max=100 max=16k max=1M)],
            bad  => [
                qw(max max= max=0 max=-1 max=x max=1x max=1.5k max=on max=99999999999999999999 max=99999999999999999999m
                    MAX=1 ON Off 16k 1 maximum=1 $uri max=$arg_n), '""', '"max= 1"',
            ],
        },
        vaani_ttl => {
            good => [qw(off 1 1s 500ms 7d 1w 1M 1y 1h30m), '"1w 2d"'],
            bad  => [qw(0 0s 0ms -1 x 1x on OFF 1.5h 99999999999999999999d), '""'],
        },
        vaani_validation => {
            good => [qw(strict lenient)],
            bad  => [qw(on off stricter lax 0), '""', '$uri'],
        },
        vaani_unknown_event => {
            good => [qw(accept reject)],
            bad  => [qw(on off accepted drop 1), '""', '$uri'],
        },
        vaani_prefix  => { good => [qw($host a:b), '"a b"', 'x$arg_a'], bad => [] },
        vaani_delivery_id => { good => [qw($http_x_id $arg_id:$http_host x), '""', '"a b"'], bad => [] },
        vaani_channel => {
            good => [
                qw(off $host a:b:$vaani_room), 'x; vaani_channel y', '$uri; vaani_channel $host', 'x sharded',
                '$host sharded; vaani_channel y; vaani_channel z sharded', 'sharded', 'sharded sharded',
            ],
            bad => [ 'x Sharded', 'x shard', 'x off', 'x ""', 'x $host', 'off sharded', 'off off' ],
        },
        vaani_spool => {
            good => [
                'off', 'spool-relative', '%%DIR%%/spool1', '%%DIR%%/spool2/', '%%DIR%%/spool3 max=1',
                '%%DIR%%/spool4 max=10m', '%%DIR%%/spool5 max=100g sync=batch',
                '%%DIR%%/spool6 sync=always max=1k', '%%DIR%%/spool7 sync=off',
                '%%DIR%%/spool8 refused=1m', '%%DIR%%/spool9 refused=off sync=off max=1m',
            ],
            bad => [
                map({ "%%DIR%%/spool $_" } qw(max max= max=0 max=-1 max=x max=1x max=99999999999999999999g
                    sync sync= sync=on sync=Always MAX=1m more
                    refused refused= refused=0 refused=on refused=-1 refused=99999999999999999999g), '""', 'max=1m size=1'),
                'off max=1m', 'off x',
            ],
        },
        vaani_stream => {
            good => [ 'off', '$host', 'a:$vaani_event', 'x maxlen=1', 'x maxlen=1000000', '$host maxlen=5' ],
            bad  => [
                map({ "x $_" } qw(maxlen maxlen= maxlen=0 maxlen=-1 maxlen=x maxlen=1x maxlen=1.5 MAXLEN=1 max=1 1
                    maxlen=$host maxlen=99999999999999999999 off), '"maxlen= 1"'),
                'off maxlen=1', 'off x',
            ],
        },
    );

    for my $directive (sort keys %values) {
        my ($good, $bad) = @{ $values{$directive} }{qw(good bad)};
        all_accepted "$directive @$good", map { "$directive $_;" } @$good;
        refused qr/invalid|must (?:not )?be|takes no/, "$directive $_", http => "$directive $_;" for @$bad;
    }

    refused qr/^value must be between 1 and 64$/, 'the bounds are told', server => 'vaani_redis_connections 65;';
    refused qr/^invalid parameter "maxlen=0"$/, 'the parameter is told', server => 'vaani_stream x maxlen=0;';
    refused qr/^duplicate parameter "$_->[0]="$/, "$_->[1]", http => "vaani_spool %%DIR%%/spool $_->[1];"
        for [ max => 'max=1m max=2m' ], [ sync => 'sync=off sync=always' ], [ max => 'max=1m max=1m' ];
    refused qr/^the URL has "$_->[0]=" twice in "vaani_redis"$/, "$_->[1]", http => "vaani_redis unix:/run/redis.sock?$_->[1];"
        for [ db => 'db=1&db=2' ], [ user => 'user=a&db=1&user=b' ], [ db => 'db=0&user=a&db=0' ];
    refused qr/^"vaani_ttl" directive invalid value$/, 'the directive is told', server => 'vaani_ttl 0;';
    refused qr/^invalid parameter "16k"$/, 'a size without its name', location => 'vaani_payload 16k;';
    refused qr/^invalid value "lax"$/, 'the value is told', server => 'vaani_validation lax;';

    my $after_off = qr/^"vaani_channel" directive is set after "vaani_channel off"$/;
    refused $after_off, 'a channel after off', location => "vaani_channel off;\nvaani_channel x;";
    refused $after_off, 'off after off',       location => "vaani_channel off;\nvaani_channel off;";
    refused qr/^"vaani_channel" directive "off" is set after another channel$/, 'off after a channel',
        location => "vaani_channel x;\nvaani_channel off;";
    accepted 'off and a channel at another level', http => 'vaani_channel off;', location => 'vaani_channel x;';
    accepted 'a channel and off at another level', http => 'vaani_channel x;', location => 'vaani_channel off;';

    for my $directive (qw(vaani_prefix vaani_channel vaani_stream vaani_delivery_id)) {
        my ($ok, $output) = check(http => config(location => "$directive x\$no_such_variable;"));
        ok !$ok, "$directive with an unknown variable";
        like $output, qr/unknown "no_such_variable" variable/, '... says so';
        refused qr/^invalid variable name$/, "$directive with a bad variable", location => qq($directive "x\$";);
        refused qr/the closing bracket in "no_end" variable is missing/, "$directive with an open variable",
            location => qq($directive "\${no_end";);
    }
};

subtest 'vaani_spool' => sub {
    my $spool = 'vaani_spool %%DIR%%/spool';

    all_accepted 'one for several locations', "$spool;", "$spool max=1g;" =~ s/ max=1g//r, "$spool/;";
    all_accepted 'one for all, off for one',
        "$spool max=1m sync=always;", 'vaani_spool off;', "$spool sync=always max=1m;";
    accepted 'inherited', http => "$spool;", server => 'location /x { vaani_webhook; }';

    refused qr/must be a directory without variables/, "vaani_spool $_", location => "vaani_spool $_;"
        for '""', '$host', 'x$host max=1m';

    my $other = qr/^"vaani_spool" "\S+\/spool" has different parameters elsewhere$/;
    refused $other, 'another size',     http => "$spool max=1m;", location => "$spool max=2m;";
    refused $other, 'other durability', http => "$spool;", location => "$spool sync=off;";
    refused $other, 'other bounds of refused ones', http => "$spool refused=1m;", location => "$spool refused=2m;";
    refused $other, 'one with a bound, one without', http => "$spool refused=16m;", location => "$spool;";

    # Records do not say which Redis they are for.
    my $two = qr/^"vaani_spool" "\S+\/spool" is used with two Redis servers/;
    my $other_db = 'vaani_redis redis://127.0.0.1/1;';
    refused $two, 'two servers',
        server => "$spool;", location => "location /x { vaani_webhook; vaani_redis unix:/x; }";
    refused $two, 'two databases',
        server => "$spool;", location => "location /x { vaani_webhook; $other_db }";
    all_accepted 'two directories', "vaani_spool %%DIR%%/one;", "vaani_spool %%DIR%%/two; $other_db";
};

subtest 'vaani_redis' => sub {
    my $long = '/' . 'x' x 60 . '/' . 'y' x 60;

    all_accepted 'good URLs', map { "vaani_redis $_;" } qw(
        redis://127.0.0.1
        redis://127.0.0.1:6379
        redis://127.0.0.1:6379/
        redis://127.0.0.1/0
        redis://127.0.0.1:1/15
        REDIS://127.0.0.1
        redis://:secret@127.0.0.1
        redis://user:secret@127.0.0.1:6379/2
        redis://us%3Aer:s%40cr%2ft%25@127.0.0.1
        redis://:a:b@127.0.0.1
        redis://[::1]
        redis://[::1]:6379
        redis://user:secret@[::1]:6379/3
        redis://localhost
        redis://localhost:6379/1
        rediss://127.0.0.1
        valkey://127.0.0.1
        VALKEY://user:secret@localhost:6379/1
        valkeys://127.0.0.1
        unix:/tmp/redis.sock
        unix:/tmp/redis.sock?db=0
        unix:/tmp/redis.sock?db=15
        UNIX:/tmp/redis.sock
    );
    all_accepted 'a user and a file', map { "vaani_redis $_; vaani_redis_password_file %%TMPDIR%%/password;" }
        'redis://user@127.0.0.1', 'redis://user:@127.0.0.1', 'unix:/x?user=user', 'unix:/x?user=user&db=3',
        'unix:/x?db=3&user=us%20er';

    my $scheme = qr/^the URL must begin with "redis:\/\/", "rediss:\/\/", "valkey:\/\/", "valkeys:\/\/" or "unix:" in "vaani_redis"$/;
    refused $scheme, $_, http => "vaani_redis $_;"
        for '""', qw(127.0.0.1 127.0.0.1:6379 localhost :6379 http://127.0.0.1 tcp://127.0.0.1 redis redis:
        redis:/127.0.0.1 redis:127.0.0.1 redi://127.0.0.1 //127.0.0.1 /tmp/redis.sock unix unix/tmp/redis.sock
        redis+socket:///x valkey:127.0.0.1 valkeyss://127.0.0.1);

    for my $url (
        qw(redis:// redis:/// redis:///1 redis://@ redis://:secret@ redis://:6379 redis://@:6379
        redis://127.0.0.1: redis://127.0.0.1:0 redis://127.0.0.1:65536 redis://127.0.0.1:x redis://127.0.0.1:-1
        redis://127.0.0.1:6379x redis://[::1 redis://[::1]x redis://[::1]: redis://[::1]:0 redis://[] redis://[x]
        redis://[127.0.0.1] redis://127.0.0.1/x redis://127.0.0.1/-1 redis://127.0.0.1/1x redis://127.0.0.1/1/2
        redis://127.0.0.1//1 redis://127.0.0.1/0x1 redis://127.0.0.1/99999999999999999999 redis://127.0.0.1/4294967296
        redis://127.0.0.1?db=1 redis://127.0.0.1/1?timeout=1 redis://127.0.0.1/?x
        redis://:%@127.0.0.1 redis://:%1@127.0.0.1 redis://:%zz@127.0.0.1 redis://:a%2@127.0.0.1
        redis://:%-1@127.0.0.1 redis://%xx:secret@127.0.0.1 redis://a:b@c@127.0.0.1
        unix: unix:? unix:?db=1 unix:/x?db= unix:/x?db=x unix:/x?db=-1 unix:/x?db=1x unix:/x?db unix:/x?1 unix:/x?DB=1
        unix:/x?db=1&x=2 unix:/x?password=secret unix:/x?user= unix:/x?user=%zz unix:/x?db=99999999999999999999),
        'redis://127.0.0.1#f' =~ s/(.*)/"$1"/r, "unix:$long",
    ) {
        refused qr/in "vaani_redis"$/, $url, http => "vaani_redis $url;";
    }

    refused qr/^"vaani_redis" has a user but no password$/, $_, http => "vaani_redis $_;"
        for qw(redis://user@127.0.0.1 redis://user:@127.0.0.1 unix:/x?user=user);
    refused qr/^host not found in "vaani_redis" "redis:\/\/no-such-host\.invalid:6379"$/, 'a name that is unknown',
        server => 'vaani_redis redis://no-such-host.invalid:6379/1;';
    warned(qr/^host not found in "vaani_redis" "redis:\/\/no-such-host\.invalid", only "resolver" can resolve it$/,
        '... only a warning if there is a resolver',
        server => 'resolver 127.0.0.1:1; vaani_redis redis://no-such-host.invalid;');
    accepted '... none if the name is known now', server => 'resolver 127.0.0.1:1; vaani_redis redis://localhost;';
    accepted '... or nobody uses it', webhook => '', http => 'vaani_redis redis://no-such-host.invalid;';

    # Errors that are found late are reported with the place of the setting.
    spew(tmpdir() . '/included.conf', "\nvaani_redis redis://user\@127.0.0.1; # here\n");
    refused_config qr/has a user but no password$/, 'in an included file',
        http => config(http => 'include %%TMPDIR%%/included.conf;');
    spew(tmpdir() . '/included.conf', "vaani_redis redis://no-such-host.invalid; # here\n");
    refused_config qr/^host not found/, 'a name in an included file',
        http => config(server => 'include %%TMPDIR%%/included.conf;');

    for my $url (qw(redis://user:hush-hush@ redis://user:hush-hush@no-such-host.invalid http://user:hush-hush@127.0.0.1
        redis://:hush-hush%zz@127.0.0.1 redis://user:hush-hush@127.0.0.1/x redis://user:hush-hush@127.0.0.1:0
        redis://a:hush-hush@hush-hush@127.0.0.1))
    {
        my ($ok, $output) = check(http => config(http => "vaani_redis $url;"));
        ok !$ok, "$url is refused";
        unlike $output, qr/hush/, '... and the password is not told';
    }
};

subtest 'vaani_redis: several servers' => sub {
    my ($a, $b, $c) = map { "redis://127.0.0.$_" } 1 .. 3;
    my $many = join ' ', map { "redis://127.0.0.1:$_" } 1 .. 32;

    all_accepted 'lists, Sentinels, clusters', map { "vaani_redis $_;" } (
        "$a $b", "$a $b:6379 $c:1", "$a $a:6380", "$a unix:/x", 'unix:/x unix:/y', $many, "$a valkey://127.0.0.2",
        'redis://[::1] redis://[::1]:1', 'rediss://127.0.0.1 valkeys://127.0.0.2',
        "$a sentinel=mymaster", "sentinel=my-master $a $b:1 $c", "$a sentinel=m $b", "valkeys://127.0.0.1 sentinel=m",
        "$a cluster", "$a $b $c cluster", "cluster $a $b", "$many cluster", "$a/0 $b cluster",
        # said once, or the same
        "$a/1 $b", "$a $b/1", "$a/1 $b/1", "$a/3 $b sentinel=m",
        'redis://:x@127.0.0.1 redis://127.0.0.2', 'redis://127.0.0.1 redis://u:x@127.0.0.2/1',
        'redis://u:x@127.0.0.1 redis://u:%78@127.0.0.2 sentinel=m', 'redis://:x@127.0.0.1 redis://:x@127.0.0.2 cluster',
        'redis://u@127.0.0.1 redis://127.0.0.2 cluster; vaani_redis_password_file %%TMPDIR%%/password',
        # the master's name is the operator's
        "$a 'sentinel=my master \"1\"'",
    );

    my %bad = (
        'no URL'                                        => [ 'cluster', 'sentinel=m' ],
        'more than 32 URLs'                             => [ "$many $b", "$many $b cluster" ],
        'two URLs are of the same server'                 => [
            "$a $a", "$a $b $a:6379", "$a/1 $a/2", "$a valkey://127.0.0.1:6379", 'unix:/x unix:/x?db=1',
            "$a $a:26379 sentinel=m", 'redis://LOCALHOST redis://localhost', "$a $b $a cluster",
        ],
        'some URLs use TLS, others do not'               => [ "$a rediss://127.0.0.2", 'valkeys://127.0.0.1 unix:/x' ],
        'the URLs have different users or passwords'    => [
            map { "redis://$_->[0]\@127.0.0.1 $b redis://$_->[1]\@127.0.0.3" } [qw(u:hush :hush)], [qw(:hush :hush2)],
            [qw(u:hush v:hush)], [qw(u :hush)],
        ],
        'the URLs have different databases'             => [ "$a/1 $b/2", "$a/0 $b/1", "$a/1 $b $c/0 sentinel=m" ],
        'a cluster has only database 0'                 => [ "$a/1 cluster", "$a $b/2 cluster", "$a/1 $b/1 cluster" ],
        '"unix:" cannot be a Sentinel or a cluster node' => [ 'unix:/x cluster', "$a unix:/x sentinel=m" ],
    );
    for my $message (sort keys %bad) {
        refused qr/^\Q$message\E in "vaani_redis"$/, $_, http => "vaani_redis $_;" for @{ $bad{$message} };
    }

    my $once = qr/^"vaani_redis" takes one of "cluster" and "sentinel=", once$/;
    refused $once, $_, http => "vaani_redis $_;"
        for "$a cluster cluster", "$a sentinel=m sentinel=m", "$a sentinel=m cluster", "cluster $a sentinel=m";
    refused qr/^"sentinel=" in "vaani_redis" requires the master name configured in the Sentinels/, $_, http => "vaani_redis $_;"
        for "$a sentinel=", "sentinel= $a $b";
    refused qr/^the URL must begin with /, $_, http => "vaani_redis $_;"
        for "$a Cluster", "$a sentinel", "$a masters=m", "$a cluster=on", "$a ''", "$a x";
    refused qr/^"vaani_redis" has a user but no password$/, 'a user in one of them', http => "vaani_redis $a redis://u\@127.0.0.2;";
    refused qr/^host not found in "vaani_redis" "redis:\/\/no-such-host\.invalid"$/, 'a name that is unknown',
        http => "vaani_redis $a redis://no-such-host.invalid;";

    warned(qr/^host not found in "vaani_redis" "redis:\/\/no-such-host\.invalid", only "resolver"/, '... with a resolver',
        http => "resolver 127.0.0.1:1; vaani_redis $a redis://no-such-host.invalid redis://localhost;");

    for my $urls ('redis://u:hush@127.0.0.1 redis://u:hush2@127.0.0.2', 'redis://u:hush@127.0.0.1/1 redis://127.0.0.2/2',
        'redis://u:hush@127.0.0.1 redis://u:hush@127.0.0.1', 'redis://u:hush@127.0.0.1 unix:/x cluster')
    {
        my ($ok, $output) = check(http => config(http => "vaani_redis $urls;"));
        ok !$ok, "$urls is refused";
        unlike $output, qr/hush/, '... and the password is not told';
    }

    # Records do not say which Redis they are for.
    my $two = qr/^"vaani_spool" "\S+\/spool" is used with two Redis servers/;
    my $spool = sub ($one, $other) {
        return (http => 'vaani_spool %%DIR%%/spool;' . ' # here' . "\nvaani_redis $one;",
            server => "location /x { vaani_webhook; vaani_redis $other; }");
    };
    refused $two, "$_->[0] and $_->[1]", $spool->(@$_)
        for [ $a, "$a $b" ], [ "$a $b", "$a $c" ], [ "$a $b", "$b $a" ], [ "$a cluster", $a ],
        [ "$a sentinel=m", "$a cluster" ], [ "$a sentinel=m", "$a sentinel=n" ];
    accepted "the same ones: $_->[0]", $spool->(@$_)
        for [ "$a $b", "$a $b" ], [ "$a $b cluster", "cluster $a $b" ], [ "$a sentinel=m", "sentinel=m $a" ];
};

subtest 'vaani_redis_password_file' => sub {
    my %files = (
        'bare'      => [ 'secret' ],
        'lines'     => [ "secret\nanother line\n" ],
        'crlf'      => [ "secret\r\n" ],
        'spaces'    => [ "  se cret \n" ],
        'group'     => [ "secret\n", 0640 ],
        'read-only' => [ "secret\n", 0400 ],
        'long'      => [ 'x' x 4000 . "\n" ],
        'second-line' => [ "\r\n\nsecret\n" ],
    );
    for my $name (sort keys %files) {
        password_file("good-$name", @{ $files{$name} });
    }
    all_accepted "@{[ sort keys %files ]}",
        map { "vaani_redis_password_file %%TMPDIR%%/good-$_;" } sort keys %files;

    # Relative to nginx.conf, which lies in a directory below this one.
    accepted 'a relative path', http => 'vaani_redis_password_file ../password;';

    my $none = qr/ contains no secret$/;
    my $long = qr/ is too long for a secret file$/;
    my $all = qr/must not be readable or writable by all/;
    %files = (
        'empty'          => [ $none, '' ],
        'newline'        => [ $none, "\n" ],
        'crlf'           => [ $none, "\r\n" ],
        'too-long'       => [ $long, 'x' x 5000 . "\n" ],
        'all-may-read'   => [ $all, "secret\n", 0644 ],
        'all-may-write'  => [ $all, "secret\n", 0602 ],
        'all-may-both'   => [ $all, "secret\n", 0666 ],
    );
    for my $name (sort keys %files) {
        my ($message, @file) = @{ $files{$name} };
        password_file("bad-$name", @file);
        refused $message, $name, server => "vaani_redis_password_file %%TMPDIR%%/bad-$name;";
    }

    refused qr/^open\(\) "\S+\/none" failed \(2: No such file or directory\)$/, 'missing',
        location => 'vaani_redis_password_file %%TMPDIR%%/none;';
    refused qr/"\S+\/nowhere" failed \(2: /, 'missing, relative', location => 'vaani_redis_password_file nowhere;';
    mkdir tmpdir() . '/directory', 0700 or die "mkdir: $!\n";
    refused qr/"\S+\/directory" failed \(21: /, 'a directory',
        http => 'vaani_redis_password_file %%TMPDIR%%/directory;';
};

subtest 'vaani_redis_sentinel_password_file' => sub {
    my $file = 'vaani_redis_sentinel_password_file %%TMPDIR%%/password';
    my $sentinel = 'vaani_redis redis://127.0.0.1 sentinel=m';

    all_accepted 'good ones', map { "$sentinel; vaani_redis_sentinel_password_file $_;" }
        '%%TMPDIR%%/password', '%%TMPDIR%%/password user=x', '../password', 'off', '%%TMPDIR%%/password "user=a b"';
    accepted 'inherited', http => "$file;", server => "$sentinel;";
    accepted '... and off for one that is none', http => "$file user=x; $sentinel;", location =>
        'vaani_redis redis://127.0.0.1; vaani_redis_sentinel_password_file off; } location /x { vaani_webhook;';
    accepted 'a list below it', http => "$file;", location =>
        "$sentinel; } location /x { vaani_webhook; vaani_redis redis://127.0.0.1 redis://127.0.0.2;";

    refused qr/^invalid parameter "\Q$_\E"$/, $_, http => "$file $_;"
        for qw(user= name=x User=x x);
    refused qr/directive takes no parameters after "off"$/, 'off and a user',
        http => 'vaani_redis_sentinel_password_file off user=x;';
    refused qr/ contains no secret$/, 'an empty file', http => 'vaani_redis_sentinel_password_file %%TMPDIR%%/bad-empty;';
    refused qr/must not be readable or writable by all/, 'a file for all',
        http => 'vaani_redis_sentinel_password_file %%TMPDIR%%/bad-all-may-read;';

    for my $where (@EVERYWHERE) {
        for my $redis ('redis://127.0.0.1', 'redis://127.0.0.1 redis://127.0.0.2', 'redis://127.0.0.1 cluster') {
            warned(qr/^"vaani_redis_sentinel_password_file" has no effect, no endpoint here/, "$where: $redis",
                $where => "vaani_redis $redis;\n$file;");
        }
    }
    accepted 'without an endpoint', webhook => '', $_ => "vaani_redis redis://127.0.0.1; $file;" for @EVERYWHERE;
    accepted 'one that no endpoint has', http => "$file;", server => 'vaani_redis_sentinel_password_file off;';

    # Records do not say which Redis they are for.
    my $two = qr/^"vaani_spool" "\S+\/spool" is used with two Redis servers/;
    refused $two, "other credentials: $_", http => "$sentinel; $file; vaani_spool %%DIR%%/spool;",
        server => "location /x { vaani_webhook; $_; }" for "$file user=x", 'vaani_redis_sentinel_password_file off';
};

subtest 'vaani_partitions' => sub {
    my @uses = (
        'vaani_prefix "v:{$vaani_partition}"', 'vaani_stream $vaani_partition', 'vaani_channel x:${vaani_partition}y',
        'vaani_channel $VAANI_PARTITION-x', 'vaani_stream "$host$vaani_partition" maxlen=1',
    );
    all_accepted 'used', map { "vaani_partitions 4; $_;" } @uses;
    accepted 'inherited', http => 'vaani_partitions 4;', server => "$uses[0]; $uses[1];", location => "$uses[2];";
    accepted 'by another endpoint', http => "$uses[0];", location => 'vaani_prefix x; } location /x { vaani_partitions 9; vaani_webhook;';
    accepted 'by none', webhook => '', http => "$uses[0]; $uses[1]; $uses[2];";
    all_accepted 'another variable', 'vaani_prefix $arg_vaani_partition;', 'vaani_prefix "$host vaani_partition";';

    for my $use (@uses) {
        my ($directive) = $use =~ /(\w+)/;
        my $message = qr/^"\$vaani_partition" in "$directive" needs "vaani_partitions"$/;
        refused $message, "$_: $use", $_ => "$use;" for @EVERYWHERE;
    }
    refused qr/^"\$vaani_partition" in "vaani_channel"/, 'in the second channel', server => "vaani_channel x;\n$uses[2];";
};

# Keys of an event must share a slot: equal hash tags see to that.
subtest 'names in a cluster' => sub {
    my $cluster = 'vaani_redis redis://127.0.0.1 cluster; vaani_partitions 4;';
    my $tagged = 'vaani_prefix "v:{$vaani_partition}";';

    all_accepted 'good ones', map { "$cluster $_" } (
        '', 'vaani_channel x; vaani_channel off$host;', 'vaani_channel off;', 'vaani_prefix "{a"; vaani_stream off;',
        "$tagged vaani_stream \"x{\$vaani_partition}\" maxlen=9;", "$tagged vaani_channel \"{\$vaani_partition}x\" sharded;",
        "$tagged vaani_channel x; vaani_channel \"a:{\$vaani_partition}:{b}\" sharded;",
        'vaani_prefix "{v}"; vaani_stream "{v}:s"; vaani_channel "x}{v}" sharded;',
        'vaani_prefix "${host}{a${host}b$host}"; vaani_stream "$host${host}x{a${host}b$host}{c}";',
        'vaani_prefix "{{a}"; vaani_stream "x{{a}}";',
    );

    my $message = qr/^"(\w+)" must have the hash tag of "vaani_prefix" in a cluster, set "vaani_partitions 256", "vaani_prefix vaani:\{\$vaani_partition\}" and the same braces here$/;
    for my $prefix ('', $tagged, 'vaani_prefix "{}";', 'vaani_prefix "{a";', 'vaani_prefix "a}";', 'vaani_prefix "${host}";',
        'vaani_prefix x;', 'vaani_prefix "{A}";', 'vaani_prefix "{b}{a}";', 'vaani_prefix "}{ab}";', 'vaani_prefix "{$host}";')
    {
        refused $message, "$prefix $_", http => "$cluster $prefix", location => "$_;"
            for 'vaani_stream "{a}" maxlen=1', 'vaani_channel "{a}" sharded', "vaani_channel x;\nvaani_channel '{a}' sharded";
        refused $message, "$prefix vaani_stream $_", http => "$cluster $prefix", server => "vaani_stream $_;"
            for 'x', '"{}"', '"{c"', '"${host}"', '"{$vaani_event}"', '"{${vaani_partition}}"';
    }
    my $untagged = qr/^"vaani_index" needs a hash tag in "vaani_prefix" in a cluster, set "vaani_partitions 256" and "vaani_prefix vaani:\{\$vaani_partition\}"$/;
    for my $prefix ('', 'vaani_prefix x;', 'vaani_prefix "{}";', 'vaani_prefix "${host}";') {
        refused $untagged, "$prefix vaani_index", http => "$cluster $prefix", $_ => 'vaani_index on;' for qw(server location);
        accepted "$prefix vaani_index off", http => "$cluster $prefix vaani_index on;", location => 'vaani_index off;';
    }
    accepted 'an index with a hash tag', http => "$cluster $tagged", location => 'vaani_index on;';
    accepted 'an index of one server', http => 'vaani_redis redis://127.0.0.1; vaani_index on;';

    accepted 'not without a cluster', http => 'vaani_redis redis://127.0.0.1 redis://127.0.0.2; vaani_stream x; vaani_channel y sharded;';
    accepted 'not of another endpoint', http => 'vaani_stream x; vaani_redis redis://127.0.0.1;',
        location => "$cluster vaani_stream off; } location /x { vaani_webhook;";
    accepted 'nor without one', webhook => '', http => "$cluster vaani_stream x;";
    accepted 'a health check has no names', server => "location /x { vaani_health; $cluster vaani_stream x; }";
};

subtest 'vaani_index' => sub {
    my $taken = qr/^the key of "vaani_stream" is used by "vaani_index", choose another key$/;
    refused $taken, "vaani:$_", http => 'vaani_index on;', location => "vaani_stream vaani:$_;" for qw(active calls);
    refused $taken, 'by a prefix', server => 'vaani_prefix "$host-x"; vaani_index on;', location => 'vaani_stream "$host-x:calls" maxlen=9;';
    all_accepted 'other keys', map { "vaani_index on; $_" }
        'vaani_stream vaani:call;', 'vaani_stream active;', 'vaani_stream :calls;', 'vaani_prefix x; vaani_stream vaani:calls;';
    accepted 'no index', http => 'vaani_stream vaani:calls;';
    refused qr/^invalid value "maybe" in "vaani_index" directive, it must be "on" or "off"$/, 'another word', $_ => 'vaani_index maybe;'
        for @EVERYWHERE;
    refused qr/^"vaani_index" directive is duplicate$/, 'twice', $_ => 'vaani_index on; vaani_index on;' for @EVERYWHERE;
};

# --- what the settings do

my $redis = Vaani::Test::Redis->start(acl => [
    Vaani::Test::ACL::with_prefix(qw(http own outer server a b)),
    qw(&http-one &http-two:* &own &outer &server &a:* &b:* &ended &failed),
    qw(~http-stream ~own-stream ~server-stream ~s:* ~yes +xadd),
]);
my $client = $redis->client;
my %db = map { $_ => $redis->client(db => $_) } 0 .. 6;
my $subscriber = $redis->client->psubscribe('*');

my $unix = $redis->url;

sub nginx (%options) { return Vaani::Test::Nginx->start(%options) }

# The channels of one event, of however many messages.
sub channels () { return join ' ', map { $_->[0] } $subscriber->published($client, 30) }

subtest 'defaults' => sub {
    # The default Redis is that of the machine, not of this test: nothing is sent.
    accepted 'the default Redis', http => '';

    my $nginx = nginx(http => config(http => "vaani_redis $unix;"));
    my $room = new_room();
    is $nginx->http->post('/', event('call_started', room => $room))->body, OK, 'an event';
    is $db{0}->cmd('HGET', "vaani:call:$room", 'status'), 'dialing', 'database 0, prefix vaani';
    is channels(), "vaani:events vaani:room:$room", 'channels';
    is $db{0}->cmd('DBSIZE'), 1, 'no stream';

    my $week = 7 * 86_400_000;
    my $ttl = $db{0}->cmd('PTTL', "vaani:call:$room");
    cmp_ok $ttl, '<=', 1.01 * $week, 'ttl: a week, and up to a hundredth more';
    cmp_ok $ttl, '>', 1.01 * $week - 60_000, '... not less';

    my $late = event('call_ended', room => $room, call_duration => 'long');
    is $nginx->http->post('/', $late, 'Webhook-Id' => 1)->body, OK, 'lenient: what cannot be converted is left out';
    is $nginx->http->post('/', $late, 'Webhook-Id' => 2)->body, OK, 'the id is that of Webhook-Id';
    is $nginx->http->post('/', event('new_one', room => $room))->status, 200, 'unknown events are accepted';
    channels();
    $client->cmd('FLUSHALL');
};

subtest 'inheritance' => sub {
    my $nginx = nginx(http => <<"CONF");
        vaani_redis $unix?db=1;
        vaani_prefix http;
        vaani_channel http-one;
        vaani_channel http-two:\$vaani_room;
        vaani_stream http-stream maxlen=2;
        vaani_ttl 1h;
        vaani_validation lenient;
        vaani_unknown_event reject;

        server {
            listen unix:%%SOCK%%;

            location /http { vaani_webhook; }
            location /own {
                vaani_redis $unix?db=2;
                vaani_prefix own;
                vaani_channel own;
                vaani_stream own-stream;
                vaani_ttl 1m;
                vaani_validation strict;
                vaani_unknown_event accept;
                vaani_webhook;
            }
            location /off {
                vaani_channel off;
                vaani_stream off;
                vaani_ttl off;
                vaani_webhook;
            }
            location /outer {
                vaani_redis $unix?db=3;
                vaani_prefix outer;
                vaani_channel outer;
                location /outer/inner {
                    vaani_webhook;
                    vaani_ttl 2m;
                    if (\$arg_x) { set \$x 1; }
                    limit_except GET { allow all; }
                }
            }
        }

        server {
            listen unix:%%DIR%%/second.sock;
            vaani_redis $unix?db=4;
            vaani_prefix server;
            vaani_channel server;
            vaani_stream server-stream maxlen=1;
            vaani_ttl 2h;
            vaani_validation strict;
            vaani_unknown_event accept;

            location /server { vaani_webhook; }
            location /own { vaani_webhook; vaani_prefix own; vaani_stream own-stream; }
        }
CONF

    my %http = (sock => $nginx->http, second => Vaani::Test::HTTP->new(sock => $nginx->dir . '/second.sock'));
    my $hour = 3600_000;

    for my $case (
        # where, path, database, prefix, channels, stream, its length after 3, ttl, validation, unknown events
        [ 'sock', '/http', 1, 'http', 'http-one http-two:ROOM', 'http-stream', 2, $hour, 'lenient', 'reject' ],
        [ 'sock', '/own', 2, 'own', 'own', 'own-stream', 3, 60_000, 'strict', 'accept' ],
        [ 'sock', '/off', 1, 'http', '', undef, 0, -1, 'lenient', 'reject' ],
        [ 'sock', '/outer/inner', 3, 'outer', 'outer', 'http-stream', 2, 120_000, 'lenient', 'reject' ],
        [ 'sock', '/outer/inner?x=1', 3, 'outer', 'outer', 'http-stream', 2, 120_000, 'lenient', 'reject' ],
        [ 'second', '/server', 4, 'server', 'server', 'server-stream', 1, 2 * $hour, 'strict', 'accept' ],
        [ 'second', '/own', 4, 'own', 'server', 'own-stream', 3, 2 * $hour, 'strict', 'accept' ],
    ) {
        my ($where, $path, $db, $prefix, $channels, $stream, $length, $ttl, $validation, $unknown) = @$case;
        my $room = new_room();
        my $post = sub (@event) { $http{$where}->post($path, event(shift @event, room => $room, @event)) };

        for my $name (qw(call_started call_ringing user_picked_up_at)) {
            is $post->($name)->body, OK, "$where$path: $name";
            is channels(), $channels =~ s/ROOM/$room/r, '... channels';
        }
        is $db{$db}->cmd('HGET', "$prefix:call:$room", 'seq'), 3, '... prefix and database';
        is_deeply [ $db{$db}->cmd('KEYS', "*$room*") ], [ ["$prefix:call:$room"] ], '... nothing else there';

        if (defined $stream) {
            is $db{$db}->cmd('XLEN', $stream), $length, '... stream';
        } else {
            is_deeply $db{$db}->cmd('KEYS', '*stream*'), [ map { "$_-stream" } qw(http) ], '... no stream';
            is $db{$db}->cmd('XLEN', 'http-stream'), 2, '... nor more in that of others';
        }

        my $left = $db{$db}->cmd('PTTL', "$prefix:call:$room");
        $ttl < 0 ? is($left, $ttl, '... never expires') : ok($left <= 1.01 * $ttl && $left > $ttl - 30_000, '... ttl')
            || diag "$left instead of $ttl";

        is $post->('call_failed', error => 1)->status, $validation eq 'strict' ? 422 : 200, "... $validation";
        is $post->('new_one')->status, $unknown eq 'reject' ? 422 : 200, "... unknown: $unknown";
        channels();
    }
    $client->cmd('FLUSHALL');
};

# Each event comes twice, with equal bodies and other ids, and with an equal id and
# another body: which of them is a duplicate tells the id that counts.
subtest 'inheritance of an id' => sub {
    my $nginx = nginx(http => <<"CONF");
        vaani_redis $unix;
        vaani_delivery_id \$http_x_http;
        server {
            listen unix:%%SOCK%%;
            location /http { vaani_webhook; }
            location /own  { vaani_webhook; vaani_delivery_id \$http_x_own; }
            location /none { vaani_webhook; vaani_delivery_id ""; }
            location /outer {
                vaani_delivery_id \$http_x_outer;
                location /outer/inner { vaani_webhook; }
            }
        }
        server {
            listen unix:%%DIR%%/second.sock;
            vaani_delivery_id \$http_x_server;
            location /server { vaani_webhook; }
        }
CONF
    my %http = (sock => $nginx->http, second => Vaani::Test::HTTP->new(sock => $nginx->dir . '/second.sock'));

    for (
        [ sock => '/http', 'http' ], [ sock => '/own', 'own' ], [ sock => '/none', undef ],
        [ sock => '/outer/inner', 'outer' ], [ second => '/server', 'server' ],
    ) {
        my ($where, $path, $which) = @$_;

        for my $name (qw(http own outer server)) {
            my $room = new_room();
            my $post = sub ($id, @more) {
                my $response = $http{$where}->post($path, event('call_ended', room => $room, @more), "X-\u$name" => $id);
                return $response->json->{status};
            };

            my @answers = map { $post->(@$_) } [ 1 ], [2], [ 1, end_reason => 'x' ];
            my $counts = $name eq ($which // '');
            is "@answers", $counts ? 'ok ok duplicate' : 'ok duplicate ok', "$path: X-\u$name " . ($counts ? 'counts' : 'does not');
        }
    }
    channels();
    $client->cmd('FLUSHALL');
};

subtest 'inheritance of a spool' => sub {
    my $nginx = nginx(http => <<"CONF");
        vaani_redis unix:%%DIR%%/none.sock;
        vaani_spool %%DIR%%/spool;
        server {
            listen unix:%%SOCK%%;
            location /spooled { vaani_webhook; }
            location /off     { vaani_webhook; vaani_spool off; }
        }
        server {
            listen unix:%%DIR%%/second.sock;
            vaani_spool off;
            location /off     { vaani_webhook; }
            location /spooled { vaani_webhook; vaani_spool %%DIR%%/spool; }
        }
CONF
    for my $sock ($nginx->sock, $nginx->dir . '/second.sock') {
        my $http = Vaani::Test::HTTP->new(sock => $sock);
        is $http->post('/spooled', event('call_started', room => new_room()))->body, qq({"status":"queued"}\n), 'a spool';
        is $http->post('/off', event('call_started', room => new_room()))->status, 503, 'and none';
    }
};

subtest 'parameters with variables' => sub {
    my $nginx = nginx(http => <<"CONF");
        map \$vaani_event \$outcome {
            call_ended  ended;
            call_failed failed;
            default     "";
        }
        vaani_redis $unix;
        server {
            listen unix:%%SOCK%%;
            location / {
                vaani_webhook;
                vaani_prefix \$arg_tenant;
                vaani_channel \$arg_tenant:\$vaani_event;
                vaani_channel \$outcome;
                vaani_stream s:\$arg_stream maxlen=1;
            }
            location /maybe { vaani_webhook; vaani_channel off; vaani_stream \$arg_stream; }
        }
CONF
    my $http = $nginx->http;

    for my $tenant (qw(a b)) {
        my $room = new_room();
        is $http->post("/?tenant=$tenant&stream=$tenant$_", event($_, room => $room))->body, OK, "$tenant: $_"
            for qw(call_started call_ended);
        is $db{0}->cmd('HGET', "$tenant:call:$room", 'seq'), 2, '... prefix';
        is channels(), "$tenant:call_started $tenant:call_ended ended",
            '... channels; none where the variable has no value';
        is $db{0}->cmd('XLEN', "s:$tenant$_"), 1, "... stream of $_" for qw(call_started call_ended);
    }

    my $room = new_room();
    is $http->post('/maybe', event('call_started', room => $room))->body, OK, 'a stream without a name';
    is $db{0}->cmd('EXISTS', ''), 0, '... is none';
    is $http->post('/maybe?stream=yes', event('call_ringing', room => $room))->body, OK, 'and one with';
    is $db{0}->cmd('XLEN', 'yes'), 1, '... is one';
    is channels(), '', 'no channels';
    $client->cmd('FLUSHALL');
};

subtest 'ttl' => sub {
    # The longest that nginx can read must not be too long for Redis.
    for my $ttl ('1ms', '1s', '365d', '365000d', '36500000000d', '106751991167d') {
        my %lines = (http => "vaani_redis $unix; vaani_ttl $ttl;");
        my ($ok, $output) = check(http => config(%lines));

        if (!$ok) {
            like $output, qr/invalid value in \S+:\d+/, "$ttl is refused";
            next;
        }
        my $nginx = nginx(http => config(%lines));
        my $room = new_room();
        is $nginx->http->post('/', event('call_started', room => $room))->body, OK, "$ttl is taken";
        is channels(), "vaani:events vaani:room:$room", '... and the event published';
    }

    # It counts from the latest transition, and off makes it stay.
    my $nginx = nginx(http => <<"CONF");
        vaani_redis $unix;
        server {
            listen unix:%%SOCK%%;
            location /long  { vaani_webhook; vaani_ttl 1d; }
            location /short { vaani_webhook; vaani_ttl 100s; }
            location /off   { vaani_webhook; vaani_ttl off; }
        }
CONF
    my $http = $nginx->http;
    my $room = new_room();
    my $key = "vaani:call:$room";

    for my $case (
        [ long  => 'call_started',        86_400 ],
        [ short => 'call_ringing',        100 ],
        [ off   => 'user_picked_up_at',   -1 ],
        [ short => 'call_ended',          100 ],
        [ long  => 'call_postprocessing', 86_400 ],
    ) {
        my ($where, $event, $seconds) = @$case;
        is $http->post("/$where", event($event, room => $room))->body, OK, "/$where";
        my $left = $client->cmd('TTL', $key);
        ok $left <= 1.01 * abs $seconds && $left >= $seconds - 30, '... ttl' or diag $left;
    }
    channels();
    $client->cmd('FLUSHALL');
};

subtest 'connections' => sub {
    my $clients = sub { scalar(() = $client->cmd('CLIENT', 'LIST') =~ /^/mg) };
    my $others = $clients->();

    for my $case (
        [ 'one by default', 1, '', '' ],
        [ 'as many as one says', 5, 'vaani_redis_connections 5;', '' ],
        [ 'the same settings share them', 3, 'vaani_redis_connections 3;',
            'location /a { vaani_webhook; vaani_prefix a; }'
                . 'location /b { vaani_webhook; vaani_redis_connections 3; }' ],
        [ 'other settings do not', 1 + 1 + 2 + 1, '', <<"CONF" ],
            location /a { vaani_webhook; vaani_redis $unix?db=1; }
            location /b { vaani_webhook; vaani_redis_connections 2; }
            location /c { vaani_webhook; vaani_redis_timeout 5s; }
CONF
        [ 'if and limit_except have none of their own', 1, '', <<'CONF' ],
            location /a { vaani_webhook; if ($uri) { set $x 1; } limit_except GET { allow all; } }
CONF
        [ 'unused settings have none', 1, '', "location /a { vaani_redis $unix?db=1; vaani_redis_connections 9; }" ],
    ) {
        my ($name, $wanted, $http_lines, $server_lines) = @$case;
        my $nginx = nginx(
            http    => config(http => "vaani_redis $unix; $http_lines", server => $server_lines),
            workers => 2,
        );

        # Both workers are connected; the count does not grow any more.
        $nginx->wait_log(qr/vaani: connected to/);
        wait_for(sub { $nginx->log_lines(qr/vaani: connected to/) >= 2 * $wanted });
        is $nginx->http->post('/', event('call_started'))->status, 200, $name;
        is $clients->() - $others, 2 * $wanted, "... $wanted a worker";
        $nginx->stop;
        ok wait_for(sub { $clients->() == $others }), '... and they are closed in the end';
        channels();
        $client->cmd('FLUSHALL');
    }
};

subtest 'timeouts' => sub {
    my $nginx = nginx(http => <<"CONF");
        vaani_redis $unix;
        vaani_redis_timeout 1h;
        server {
            listen unix:%%SOCK%%;
            location /slow { vaani_webhook; }
            location /fast { vaani_webhook; vaani_redis_timeout 30ms; }
        }
CONF
    my ($slow, $fast) = ($nginx->http, $nginx->http);
    is $_->[0]->post($_->[1], event('call_started', room => new_room()))->status, 200, $_->[1]
        for [ $slow, '/slow' ], [ $fast, '/fast' ];

    $redis->suspend;
    my ($head, $body) = Vaani::Test::HTTP::format_request(uri => '/slow', body => event('call_ended'));
    $slow->send_raw($head . $body);
    is $fast->post('/fast', event('call_ended', room => new_room()))->status, 503, 'the short one is over';
    ok !$slow->wait_closed(0), 'the long one is not';
    $redis->resume;
    is $slow->read_response->body, OK, '... and gets its answer';
    channels();
    $client->cmd('FLUSHALL');
};

subtest 'ways to Redis' => sub {
    my $secret = 'p@ss:w/rd?#&%$"\' \\';
    my $escaped = join '', map { sprintf '%%%02x', ord } split //, $secret;
    my $v6 = try_v6();

    my $guarded = Vaani::Test::Redis->start(
        tcp      => 1,
        password => $secret =~ s/(["\\])/\\$1/gr =~ s/(.*)/"$1"/r,
        config   => [ $v6 ? 'bind 127.0.0.1 ::1' : () ],
    );
    my $admin = Vaani::Test::RESP->connect($guarded->socket, password => $secret);
    $admin->cmd('ACL', 'SETUSER', 'a:l@ice', 'on', '>wonder%land', '~*', '&*', '+@all');
    my ($port, $socket) = ($guarded->port, $guarded->socket);

    password_file('guarded', "$secret\n");
    password_file('guarded-crlf', "$secret\r\nother\n");
    password_file('guarded-bare', $secret);
    password_file('guarded-second', "\n\r\n$secret\nother\n");
    password_file('alice', "wonder%land\n");
    password_file('wrong', "wrong\n");

    my $by_file = sub ($name) { return "vaani_redis_password_file %%TMPDIR%%/$name;" };
    my %ways = (
        'password'            => "vaani_redis redis://:$escaped\@127.0.0.1:$port/1;",
        'a password of user default' => "vaani_redis redis://default:$escaped\@127.0.0.1:$port/1;",
        'user and password'   => "vaani_redis redis://a%3al%40ice:wonder%25land\@127.0.0.1:$port/1;",
        'password file'       => "vaani_redis redis://127.0.0.1:$port/1; " . $by_file->('guarded'),
        'its line ends with CRLF' => "vaani_redis redis://127.0.0.1:$port/1; " . $by_file->('guarded-crlf'),
        'it is not in the first line' => "vaani_redis redis://127.0.0.1:$port/1; " . $by_file->('guarded-second'),
        'it has no line end'  => "vaani_redis redis://127.0.0.1:$port/1; " . $by_file->('guarded-bare'),
        'user and file'       => "vaani_redis redis://a%3Al%40ice\@127.0.0.1:$port/1; " . $by_file->('alice'),
        'password, not the file' => "vaani_redis redis://:$escaped\@127.0.0.1:$port/1; " . $by_file->('wrong'),
        'host name'           => "vaani_redis redis://:$escaped\@localhost:$port/1;",
        'unix socket, user and file' => "vaani_redis unix:$socket?db=1&user=a:l\@ice; " . $by_file->('alice'),
        'unix socket and file' => "vaani_redis unix:$socket?db=1; " . $by_file->('guarded'),
        'file, relative'      => "vaani_redis unix:$socket?db=1; vaani_redis_password_file ../guarded;",
        $v6 ? ('IPv6' => "vaani_redis redis://:$escaped\@[::1]:$port/1;") : (),
    );
    my $stored = Vaani::Test::RESP->connect($socket, password => $secret, db => 1);

    for my $name (sort keys %ways) {
        my $nginx = nginx(http => config(http => $ways{$name} . ' vaani_redis_connect_timeout 10s;'));
        my $room = new_room();
        is $nginx->http->post('/', event('call_started', room => $room))->body, OK, $name;
        is $stored->cmd('EXISTS', "vaani:call:$room"), 1, '... in its database';
    }

    # A password is inherited by itself, and can be switched off.
    my $other = nginx(http => <<"CONF");
        vaani_redis redis://127.0.0.1:$port/1;
        @{[ $by_file->('guarded') ]}
        server {
            listen unix:%%SOCK%%;
            location = /same  { vaani_webhook; }
            location = /other { vaani_webhook; vaani_redis unix:$socket?db=1; }
            location = /off   { vaani_webhook; vaani_redis unix:$socket?db=1; vaani_redis_password_file off; }
        }
CONF
    is $other->http->post("/$_", event('call_started'))->status, $_ eq 'off' ? 503 : 200, "the password of http: $_"
        for qw(same other off);
    ok defined $other->wait_log(qr/vaani: unix:\S+ answered "NOAUTH"/), '... is not told there';

    for my $case (
        [ 'no password'    => "redis://127.0.0.1:$port" ],
        [ 'wrong password' => "redis://:wrong-one\@127.0.0.1:$port" ],
        [ 'wrong user'     => "redis://bob:wonder%25land\@127.0.0.1:$port" ],
        [ 'no database'    => "redis://:$escaped\@127.0.0.1:$port/16" ],
    ) {
        my ($name, $url) = @$case;
        my $nginx = nginx(http => config(http => "vaani_redis $url;"));
        is $nginx->http->post('/', event('call_started'))->status, 503, "$name: refused";
        ok defined $nginx->wait_log(qr/vaani: redis:\S+ answered /), '... the log says why';
        $nginx->log_unlike(qr/wrong-one|wonder|p\@ss|$escaped/, '... without the password');
    }
};

sub try_v6 () {
    require Socket;
    socket(my $fh, Socket::AF_INET6(), Socket::SOCK_STREAM(), 0) or return 0;
    return bind($fh, Socket::pack_sockaddr_in6(0, Socket::inet_pton(Socket::AF_INET6(), '::1')));
}

done_testing;
