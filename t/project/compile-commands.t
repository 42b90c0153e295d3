# The compilation database that editors read has all files, and what it says of
# each compiles.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use JSON::PP ();
use Vaani::Test;

my $root = ROOT;
my @files = map { glob "$root/$_" } qw(*.c src/*/*.c src/*/*/*.c t/*/*.c t/*/*/*.c bench/*.c bench/*/*.c bench/*/*/*.c);

# With the Makefile's list of files, into a file that is not the user's.
my $copy = tmpdir() . '/compile_commands.json';
my ($exit, $out, $err) = run([ 'make', '-s', '-C', $root, 'compile_commands.json', "COMPILE_COMMANDS=$copy" ], timeout => 120);
is $exit, 0, 'make compile_commands.json' or diag $out, $err;

my $database = JSON::PP::decode_json(slurp($copy));
is_deeply [ sort map { $_->{file} } @$database ], [ sort grep { -f } @files ], 'it has all files';

# One of each kind, as clangd would read it.
for my $name (qw(ngx_http_vaani_module.c src/core/vaani_event.c src/redis/ngx_vaani_redis.c src/tool/vaani_spool.c
    t/unit/event_test.c t/fuzz/json_fuzz.c))
{
    my ($entry) = grep { $_->{file} eq "$root/$name" } @$database;
    my @command = split ' ', $entry->{command} =~ s/^cc -c/clang -fsyntax-only/r;
    ($exit, $out, $err) = run([ 'env', '-C', $entry->{directory}, @command ], timeout => 60);
    is "$exit$out$err", '0', "$name compiles as it says";
}

done_testing;
