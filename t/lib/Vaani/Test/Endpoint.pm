package Vaani::Test::Endpoint;

# Shared by the tests of an endpoint's paths to Redis and to the disk.

use v5.20;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';

use Exporter 'import';
use JSON::PP qw(decode_json);
use Vaani::Test::Dir qw(slurp);
use Vaani::Test::HTTP qw(format_request);
use Vaani::Test::Nginx ();

our @EXPORT = qw(at_once big_endpoint spool_config stream_counts INDEX RETAIN STREAM);

# The additional rights that spool_config() needs, and those of vaani_index.
use constant STREAM => [qw(~vaani:stream +xadd)];
use constant INDEX => [qw(~vaani:active ~vaani:calls +zadd +zrem +zrangebyscore)];
use constant RETAIN => [ @{ +STREAM }, qw(~vaani:mark:* +get +set +eval) ];

# An endpoint with a stream and a spool.
# Options: dir (of the spool), spool (its parameters), stream, timeout (of Redis), more
# directives.
sub spool_config ($redis, %opt) {
    my $url = ref $redis ? $redis->url : $redis;
    my $dir = $opt{dir} // '%%DIR%%/spool';
    my $spool = $opt{spool} // '';
    my $stream = $opt{stream} // 'vaani:stream';
    my $timeout = $opt{timeout} // '300ms';
    my $more = $opt{more} // '';

    return "
        server {
            listen unix:%%SOCK%%;
            location /hook {
                vaani_webhook;
                vaani_redis $url;
                vaani_redis_connect_timeout 300ms;
                vaani_redis_timeout $timeout;
                vaani_stream $stream;
                vaani_spool $dir $spool;
                $more
            }
        }";
}

# At /vaani, for bodies of every size, with these directives in its server. Options as
# of Vaani::Test::Nginx->start(), but "http" is put before the server, and locations.
sub big_endpoint ($directives, %opt) {
    my ($locations, $http) = map { delete $opt{$_} // '' } qw(locations http);

    return Vaani::Test::Nginx->start(%opt, http => <<"CONF");
        client_max_body_size 100m;
        client_body_buffer_size 100m;
        $http

        server {
            listen unix:%%SOCK%%;
            $directives
            location = /vaani   { vaani_webhook; }
            location = /writing { return 200 \$connections_writing; }
            $locations
        }
CONF
}

# Requests that a worker finds all at once, in this order.
sub at_once ($nginx, @bodies) {
    my @workers = $nginx->worker_pids;
    my @clients = map { $nginx->http->connect } @bodies;
    $_->get('/writing') for @clients;    # so they are accepted

    kill STOP => @workers;
    for my $pid (@workers) {
        Vaani::Test::wait_for(sub { slurp("/proc/$pid/stat") =~ /\) T [^)]*\z/ }) or die "worker $pid does not stop\n";
    }
    for my $n (0 .. $#bodies) {
        $clients[$n]->send_raw(join '', format_request(method => 'POST', uri => '/vaani', body => $bodies[$n]));
    }
    kill CONT => @workers;

    return @clients;
}

# How often each event was applied, in the whole history of a Redis. That is
# not the number of its messages in the stream: a Redis that was killed while
# it wrote its append-only file may contain a message twice, with the same seq.
sub stream_counts ($redis) {
    my %seen;
    for my $entry (@{ $redis->client->cmd('XRANGE', 'events', '-', '+') }) {
        my $message = decode_json($entry->[1][1]);
        $seen{ $message->{payload}{n} // '' }{"$message->{key} $message->{seq}"} = 1;
    }
    return { map { ($_ => scalar keys %{ $seen{$_} }) } keys %seen };
}

1;
