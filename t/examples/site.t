# The site that users begin with, examples/site.conf and the configuration of the README:
# it does not change an existing site, it can be tried at once, and
# the status page stays where it is when the endpoint gets a certificate.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

use Vaani::Test::ACL;
use Vaani::Test::Certificates;
use Vaani::Test::Endpoint;
use Vaani::Test::Events;
use Vaani::Test::Nginx::Config qw(nginx_bin);
use Vaani::Test::Readme;

my $has_tls = join('', run([ nginx_bin(), '-V' ])) =~ /TLS SNI support enabled/;

my $redis = Vaani::Test::Redis->start(acl => [ @{ +RETAIN }, Vaani::Test::ACL::index_rights() ]);
my $pair = Vaani::Test::Certificates->new('ca')->issue('hooks', san => 'DNS:hooks.example.com');

my ($readme) = map { $_->{text} =~ /^http \{\n(.*)^\}$/ms } grep { $_->{lang} eq 'nginx' }
    Vaani::Test::Readme->new(ROOT . '/README.md')->section('Configuration');

# An existing installation: a default site, and one for the host itself, as
# used for monitoring.
sub others ($port) {
    return <<"CONF";
        server {
            listen 127.0.0.1:$port default_server;
            server_name _;
            return 200 "default site";
        }
        server {
            listen 127.0.0.1:$port;
            server_name localhost;
            location = /nginx_status { return 200 "monitoring"; }
        }
CONF
}

# As users do it: the lines for a certificate instead of those for port 80.
sub with_tls ($text) {
    $text =~ s{^(\s*)listen (?:\[::\]:)?80;\n}{}mg or die "no \"listen 80\"\n";
    $text =~ s{^(\s*)\# (listen\s+\S*443 ssl|ssl_certificate\w*\s)}{$1$2}mg or die "no lines for TLS\n";
    return $text;
}

sub start ($text, %port) {
    for ($text) {
        s{^\s*#.*\n}{}mg;
        s{^\s*listen\s+\[::\]:\d+.*;\n}{}mg;
        s{\blisten(\s+)80;}{listen${1}127.0.0.1:$port{http};}g;
        s{\blisten(\s+)443 }{listen${1}127.0.0.1:$port{https} }g;
        s{\blisten(\s+)127\.0\.0\.1:8088;}{listen${1}127.0.0.1:$port{status};};
        s{redis://127\.0\.0\.1:6379}{unix:@{[ $redis->socket ]}};
        s{/var/spool/vaani}{%%DIR%%/spool};
        s{/var/log/nginx/}{%%DIR%%/}g;
        s{/etc/ssl/certs/hooks\.example\.com\.pem}{$pair->{cert}};
        s{/etc/ssl/private/hooks\.example\.com\.key}{$pair->{key}};
    }
    return Vaani::Test::Nginx->start(http => others($port{http}) . $text);
}

# The body, or the status if there is none to speak of.
sub ask ($url, @options) {
    my ($exit, $out, $err) = run([ 'curl', '-sS', '-k', '-w', '\n%{http_code}', @options, $url ]);
    return $exit ? $err : $out;
}

my $n = 0;

sub ring ($url, @options) {
    return ask($url, '-H', 'Content-Type: application/json', '-d', event('call_ringing', room => 'room_' . ++$n), @options);
}

for my $case ([ 'examples/site.conf' => slurp(ROOT . '/examples/site.conf') ], [ 'the configuration of the README' => $readme ]) {
    my ($name, $text) = @$case;
    my %port = map { $_ => free_port() } qw(http https status);
    my $status = "http://127.0.0.1:$port{status}/vaani/status";

    subtest $name => sub {
        my $nginx = start($text, %port);
        my $http = "http://127.0.0.1:$port{http}";

        is ask("http://localhost:$port{http}/nginx_status"), "monitoring\n200", 'the site for localhost is as it was';
        is ask("$http/"), "default site\n200", '... and so is the default one';
        like ask("http://localhost:$port{http}/vaani/webhook"), qr/\n404$/, '... which are not ours';
        is ring("http://vaani.localhost:$port{http}/vaani/webhook"), qq({"status":"ok"}\n\n200), 'a name to try it, without a name server';
        is ring("$http/vaani/webhook", '-H', 'Host: hooks.example.com'), qq({"status":"ok"}\n\n200), 'the name of the site';
        like ask("$status?format=json"), qr/^\{.*"call_ringing".*\n200$/s, 'the status page';
        like ask("$http/vaani/status", '-H', 'Host: hooks.example.com'), qr/\n404$/, '... is not for others';
        $nginx->stop;
    };

    subtest "$name, with a certificate" => sub {
        plan skip_all => 'this nginx has no TLS' if !$has_tls;

        my $nginx = start(with_tls($text), %port);
        my @here = ('--resolve', "hooks.example.com:$port{https}:127.0.0.1");
        is ring("https://hooks.example.com:$port{https}/vaani/webhook", @here), qq({"status":"ok"}\n\n200), 'an event by https';
        like ask("$status?format=json"), qr/^\{.*"call_ringing".*\n200$/s, 'the status page has the same address';
        is ask("http://localhost:$port{http}/nginx_status"), "monitoring\n200", 'the other site is as it was';
        $nginx->stop;
    };
}

done_testing;
