# The image on a base whose nginx is not Debian's, as that of the official image
# is not: the module is built in the source of the same version, and a call goes
# through it.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

use Vaani::Test::Container;
use Vaani::Test::Endpoint qw(INDEX RETAIN);
use Vaani::Test::Events;

enter_network($0);

my $image = Vaani::Test::Container->image('vaani-endpoint-nginx');
ok !-e $image->root . '/usr/share/nginx/src', "no source of Debian's nginx is in it";

my ($exit, $out) = $image->beside(qw(nginx -V));
like $out, qr/--with-mail=dynamic/, 'nginx is the one of the base';

my $redis = Vaani::Test::Redis->start(tcp => 1, acl => [ @{ +RETAIN }, @{ +INDEX } ]);
my $nginx = $image->start(VAANI_REDIS => $redis->url);
if ($nginx->ready) {
    is +Vaani::Test::HTTP->new(port => 8080)->post('/vaani/webhook', event('call_ringing', room => 'room_1'))->body,
        qq({"status":"ok"}\n), 'an event is taken';
    is $redis->client->hgetall('vaani:call:room_1')->{status}, 'ringing', '... and is in Redis';
    ok $nginx->stop, 'it stops';
    unlike $nginx->log, qr/\[(?:warn|alert|crit|emerg)\]/, '... and had nothing to complain of' or diag $nginx->log;
}

done_testing;
