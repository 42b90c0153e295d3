# The media types of the status page have parameters: nginx's filters find the
# type in front of them, and add no parameter again.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

my %type = (
    html       => 'text/html; charset=utf-8',
    prometheus => 'text/plain; version=0.0.4; charset=utf-8',
    json       => 'application/json',
);

my $nginx = Vaani::Test::Nginx->start(http => <<'CONF');
    gzip on;
    gzip_min_length 1;
    gzip_comp_level 1;

    server {
        listen unix:%%SOCK%%;

        location = /named {
            vaani_status;
            gzip_types text/plain application/json;
            charset utf-8;
        }

        location = /any {
            vaani_status;
            gzip_types *;
            charset utf-8;
            charset_types *;
        }

        location = /other {
            vaani_status;
            charset iso-8859-15;
        }

    }
CONF

my $http = $nginx->http;

for my $uri (qw(/named /any)) {
    for my $format (sort keys %type) {
        my $response = $http->get("$uri?format=$format", 'Accept-Encoding' => 'gzip');
        my $expected = $type{$format};
        $expected .= '; charset=utf-8' if $uri eq '/any' && $format eq 'json';

        is $response->status, 200, "$uri, $format";
        is $response->header('Content-Type'), $expected, '... the type';
        is $response->header('Content-Encoding'), 'gzip', '... compressed';
        is $http->get("$uri?format=$format")->header('Content-Encoding'), undef, '... unless nobody asked for it';
    }
}

is $http->get("/other?format=$_")->header('Content-Type'), $type{$_}, "another charset leaves that of $_"
    for qw(html prometheus);

$nginx->stop;
done_testing;
