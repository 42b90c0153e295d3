# The package, as an administrator has it: installs it, follows the example site,
# upgrades, removes and purges it, with Debian's nginx and Redis running. All of
# that is in a copy of this machine's file system, see t/deb/root.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use Vaani::Test;

use Fcntl qw(S_IMODE);
use File::Find ();
use HTTP::Tiny;
use Vaani::Test::Events;
use Vaani::Test::Root;

enter_root($0, qw(VAANI_DEB));

my $deb = $ENV{VAANI_DEB} // die "VAANI_DEB is the package to install\n";
my $package = 'libnginx-mod-http-vaani';
my $spool = '/var/spool/vaani';
my $link = '/etc/nginx/modules-enabled/50-mod-http-vaani.conf';
my $site = '/etc/nginx/sites-available/vaani';
my $site_link = '/etc/nginx/sites-enabled/vaani';
my $example = "/usr/share/doc/$package/examples/site.conf";

# apt-get takes seconds to read its lists: once is enough.
sub install () {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return succeeds(qw(dpkg -i), $deb);
}

sub owner_and_mode ($path) {
    my @stat = stat $path or return 'absent';
    return sprintf '%s:%s %o', scalar getpwuid $stat[4], scalar getgrgid $stat[5], S_IMODE($stat[2]);
}

# The files that the workers have mapped.
sub maps () { return map { slurp("/proc/$_/maps") } workers() }

# Until the old workers are gone, they may be the ones that answer.
sub reload () {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my %old = map { $_ => 1 } workers();
    succeeds(qw(service nginx reload));
    ok wait_for(sub { my @now = workers(); @now && !grep { $old{$_} } @now }), '... other workers are there';
    return;
}

sub post ($room, $event = 'call_ringing') {
    my $response = HTTP::Tiny->new(timeout => 20)->post('http://hooks.example.com/vaani/webhook',
        { peer => '127.0.0.1', headers => { 'Content-Type' => 'application/json' }, content => event($event, room => $room) });
    return "$response->{status} " . $response->{content} =~ s/\n\z//r;
}

sub call_status ($room) {
    my ($exit, $text) = output(qw(redis-cli HGET), "vaani:call:$room", 'status');
    return $text =~ s/\s+\z//r;
}

# Posts events, one after the other, until there is that file.
sub send_until ($enough, $answers) {
    open my $fh, '>', $answers or die "$answers: $!\n";
    $fh->autoflush;
    for (my $n = 1; !-e $enough; $n++) {
        say {$fh} post("load-$n") =~ s/\s+/ /gr;
    }
    return 0;
}

# How many events wait in the spool.
sub waiting () {
    my $count = 0;
    for my $file (glob "$spool/*.log") {
        $count += () = slurp($file) =~ /"call_ringing"/g;
    }
    return $count;
}

my $redis;

sub start_redis () {
    $redis = Vaani::Test::Process->spawn(argv => [ '/usr/bin/redis-server', '--bind', '127.0.0.1', '--save', '', '--dir', tmpdir() ]);
    ok wait_for(sub { (output(qw(redis-cli PING)))[1] =~ /PONG/ }), 'Redis is there';
    return;
}

# Files that were written after the copy was made and belong to no other package.
sub written () {
    my %written;

    File::Find::find({ no_chdir => 1, wanted => sub {
        my $path = $File::Find::name =~ s{^/\.upper}{}r;

        if ($path =~ m{^/(?:var/(?:log|cache|lib/(?:dpkg|apt|nginx))|run|tmp|\.\w+)(?:/|$)}) {
            $File::Find::prune = 1;
            return;
        }
        my @stat = lstat $File::Find::name;
        my $is_dir = -d _;

        # A directory that was there before comes along with what is in it.
        return if $is_dir && -d "/.lower$path" && !-l "/.lower$path";
        $written{$path} = join ' ', @stat[ 2, 4, 5 ], $is_dir ? () : $stat[7], readlink($File::Find::name) // '';
    } }, '/.upper');

    return \%written;
}

# --- as on a Debian that has just got nginx

output('dpkg', '-P', $package);
output('rm', '-rf', $spool, $site, glob('/etc/nginx/sites-enabled/* /etc/nginx/conf.d/* /etc/nginx/modules-enabled/*vaani*'));
output('rm', '-f', '/usr/sbin/policy-rc.d');    # services are started here
symlink '/etc/nginx/sites-available/default', '/etc/nginx/sites-enabled/default';

succeeds('service', 'nginx', 'start');
start_redis();
ok wait_for(\&workers), 'nginx runs';
my $before = written();

subtest 'install' => sub {
    succeeds(qw(apt-get install -y), $deb);

    is owner_and_mode($spool), 'www-data:www-data 750', 'the spool is for the workers';
    is readlink $link, '/usr/share/nginx/modules-available/mod-http-vaani.conf', 'the snippet is enabled';
    ok !-e $site && !-e $site_link, 'no site is';
    succeeds('nginx', '-t');
    ok wait_for(sub { grep { m{/ngx_http_vaani_module\.so$}m } maps() }), 'the nginx that runs has loaded the module';
    ok -s "/usr/share/man/man8/$_.8.gz", "$_(8)" for 'vaani-spool', 'ngx_http_vaani_module';
    succeeds('vaani-spool', 'list', $spool);
};

subtest 'the example site' => sub {
    my ($commands) = slurp($example) =~ /^((?:# +(?:cp|ln) .*\n)+)/m;
    is $commands =~ s/^# +//mgr =~ s/ site\.conf / \$EXAMPLE /r, "cp \$EXAMPLE $site\nln -s ../sites-available/vaani /etc/nginx/sites-enabled/\n",
        'its head says how to enable it';
    succeeds('cp', $example, $site);
    succeeds('ln', '-s', '../sites-available/vaani', '/etc/nginx/sites-enabled/');
    succeeds('nginx', '-t');
    reload();

    is post('first'), '200 {"status":"ok"}', 'an event is taken';
    is call_status('first'), 'ringing', '... and is in Redis';
    like slurp('/var/log/nginx/vaani.log'), qr/"room":"first",.*"result":"ok"/, '... and in the log';

    my $http = HTTP::Tiny->new(timeout => 20);
    is $http->get('http://127.0.0.1:8088/vaani/status?format=json')->{status}, 200, 'the status page';
    is $http->get('http://hooks.example.com/', { peer => '127.0.0.1' })->{status}, 404, 'nothing else';
    is $http->get("http://$_/")->{status}, 200, "the other site is as it was: $_" for 'localhost', '127.0.0.1';

    is owner_and_mode($spool), 'www-data:www-data 750', 'nginx leaves the spool alone';
    ok wait_for(sub { -e "$spool/lock" }), '... and uses it';
};

my $waiting = 1;

subtest 'an upgrade' => sub {
    output(qw(redis-cli SHUTDOWN NOSAVE));
    $redis->wait;
    is post('waits'), '200 {"status":"queued"}', 'an event waits';
    like succeeds('vaani-spool', 'list', $spool), qr/call_ringing vaani:call:waits/, 'vaani-spool shows it';

    chmod 0700, $spool;
    my $master = slurp('/run/nginx.pid');
    my ($answers, $enough) = map { tmpdir() . "/$_" } qw(answers enough);
    my $sender = Vaani::Test::Process->spawn_code(sub { send_until($enough, $answers) });
    ok wait_for(sub { -s $answers }), 'somebody sends events';
    install();
    is owner_and_mode($spool), 'www-data:www-data 700', 'what the administrator has changed stays';
    ok -l $link, 'the module is still enabled';
    isnt slurp('/run/nginx.pid'), $master, 'another master has taken over';
    ok wait_for(sub { my @maps = maps(); @maps && !grep { /vaani_module\.so \(deleted\)/ } @maps }), '... with the new file';
    my $answered = () = slurp($answers) =~ /\n/g;
    ok wait_for(sub { (() = slurp($answers) =~ /\n/g) > $answered + 10 }), 'events go on to be sent';
    spew($enough, '');
    ok $sender->wait, '... until now';
    $waiting += () = slurp($answers) =~ /\n/g;
    unlike slurp($answers), qr/^(?!200 \{"status":"queued"\}$)./m, 'each was answered 200';
    is waiting(), $waiting, 'none was lost';
};

subtest 'removal' => sub {
    my $text = succeeds(qw(dpkg -r), $package);
    like $text, qr/still has directives of the module/, 'it says that the site is still there';
    isnt +(output(qw(nginx -t)))[0], 0, '... with which nginx could not start';
    is post('third'), '200 {"status":"queued"}', '... but the one that runs goes on';
    is waiting(), ++$waiting, 'what waits stays';
    ok -e $site, 'so does the configuration';
    ok !-e $link && !-l $link, 'the module is not enabled';

    unlink $site_link or die "unlink: $!\n";
    succeeds(qw(nginx -t));
    install();
    ok -l $link, 'installed again, it is enabled again';
    unlike succeeds(qw(dpkg -r), $package), qr/still has directives/, 'without the site, there is nothing to say';
    like succeeds(qw(dpkg -P), $package), qr{\Q$spool\E is not deleted}, 'purged, it says what stays';
    is waiting(), $waiting, '... the events that wait';
};

subtest 'what waited' => sub {
    install();
    symlink '../sites-available/vaani', $site_link;
    start_redis();
    succeeds(qw(nginx -t));
    reload();
    ok wait_for(sub { call_status('third') eq 'ringing' }), 'is delivered by the next installation';
    is call_status($_), 'ringing', "... $_" for 'waits', 'load-1';
    ok wait_for(sub { !glob "$spool/*.log" }), 'nothing waits any more';
};

subtest 'purge' => sub {
    like succeeds(qw(dpkg -P), $package), qr{\Q$spool\E is not deleted}, 'while nginx has the spool in use, it stays';
    is post('last'), '200 {"status":"ok"}', '... and nginx goes on';

    unlink $site_link, $site;
    succeeds(qw(nginx -t));
    install();
    succeeds(qw(service nginx restart));
    ok wait_for(\&workers), 'nginx runs without the site';
    like succeeds(qw(dpkg -P), $package), qr{\Q$spool\E is not deleted}, 'events that Redis has stay, too';
    install();
    unlink glob "$spool/*.kept";
    unlike succeeds(qw(dpkg -P), $package), qr/is not deleted/, 'nobody has a use for it';
    is owner_and_mode($spool), 'absent', 'the spool is gone';

    succeeds(qw(nginx -t));
    ok wait_for(sub { my @maps = maps(); @maps && !grep { /vaani_module/ } @maps }), 'nginx runs without the module';
    is_deeply written(), $before, 'nothing is left behind';
};

succeeds(qw(service nginx stop));

done_testing;
