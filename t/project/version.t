# One version, wherever it is told.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use JSON::PP ();
use Time::Piece ();
use Vaani::Test;


sub file ($path) { return slurp(ROOT . "/$path") || die "no $path\n" }

my ($version) = file('src/http/ngx_http_vaani.h') =~ /^#define NGX_HTTP_VAANI_VERSION\s+"(\d+\.\d+\.\d+)"$/m;
ok $version, 'the header has it';

my ($top, $day) = file('CHANGELOG.md') =~ /^## (\S+), (\d{4}-\d\d-\d\d)$/m;
is $top, $version, 'the change log begins with it';

($top, my $date) = file('debian/changelog') =~ /^libnginx-mod-http-vaani \(([^)]+)\).*?^ -- .*?>  (.*?)$/ms;
is $top, $version, '... that of the package, too';
is(Time::Piece->strptime($date, '%a, %d %b %Y %T %z')->ymd, $day, '... on the same day');

for my $tool (qw(vaani-call vaani-calls)) {
    my ($exit, $out) = run([ $^X, ROOT . "/bin/$tool", '--version' ]);
    is "$exit $out", "0 $tool $version\n", "$tool --version";
}

my %nginx = (
    log_level => 'notice',
    http      => 'server { listen unix:%%SOCK%%; location = /status { vaani_status; } }',
);
my $line = qr{\[notice\] .*: vaani: ngx_http_vaani_module/\Q$version\E, hiredis \d+\.\d+\.\d+$};

my ($ok, $said) = Vaani::Test::Nginx->check(%nginx);
ok $ok, 'nginx -t';
unlike $said, qr/ngx_http_vaani_module/, '... says nothing of it';

my $nginx = Vaani::Test::Nginx->start(%nginx);
is scalar $nginx->log_lines($line), 1, 'the error log names it at the start';

my $mark = $nginx->log_mark;
$nginx->reload;
is scalar $nginx->log_lines($line, $mark), 1, '... and at a reload';

my $answer = $nginx->http->get('/status?format=json');
is JSON::PP::decode_json($answer->{body})->{version}, $version, 'vaani_status';

$nginx->stop;
done_testing;
