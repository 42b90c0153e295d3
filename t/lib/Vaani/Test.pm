package Vaani::Test;

# What every test file uses:
#
#   use Vaani::Test;               # or: use Vaani::Test tests => 5, skip_all => ...
#
# turns on strict and warnings, gives Test::More's functions, ROOT (the project's
# directory), tmpdir() and the helpers below, and loads the classes: Vaani::Test::Redis (with ::RESP),
# ::Nginx, ::HTTP, ::FakeRedis. The payloads are in Vaani::Test::Events.

use v5.20;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';

use Test::More ();
use Vaani::Test::Dir ();
use Vaani::Test::FakeRedis ();
use Vaani::Test::HTTP ();
use Vaani::Test::Nginx ();
use Vaani::Test::Process ();
use Vaani::Test::RESP ();
use Vaani::Test::Redis ();
use Vaani::Test::Socket ();

my %EXPORT = (
    ROOT      => \&Vaani::Test::Dir::ROOT,
    tmpdir    => \&Vaani::Test::Dir::tmpdir,
    slurp     => \&Vaani::Test::Dir::slurp,
    spew      => \&Vaani::Test::Dir::spew,
    run       => \&Vaani::Test::Process::run,
    free_port => \&Vaani::Test::Socket::free_port,
    now       => \&Vaani::Test::Socket::now,
    post_many => \&Vaani::Test::HTTP::Load::post_many,
    wait_for  => \&wait_for,

    vaani_spool => \&vaani_spool,
);

sub import ($class, @plan) {
    my $caller = caller;

    strict->import;
    warnings->import;

    # Test::More exports to the package that calls it.
    eval "package $caller; Test::More->import(\@plan); 1" or die $@;

    no strict 'refs';
    *{"${caller}::$_"} = $EXPORT{$_} for keys %EXPORT;
    return;
}

# The path of the program vaani-spool.
sub vaani_spool () { return $ENV{VAANI_SPOOL} // Vaani::Test::Dir::ROOT . '/build/vaani-spool' }

# Calls the code until it returns something true, which is the result; false
# after the timeout. Only for states that cause no event.
sub wait_for ($code, $timeout = 30) {
    my $deadline = Vaani::Test::Socket::now() + $timeout;
    my $interval = 0.001;

    while (1) {
        my $result = $code->();
        return $result if $result || Vaani::Test::Socket::now() >= $deadline;
        Vaani::Test::Socket::pause($interval);
        $interval *= 1.5 if $interval < 0.02;
    }
}

1;
