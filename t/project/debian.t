# debian/ and man/ say what the sources say.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use Vaani::Test;

sub file ($path) { return slurp(ROOT . "/$path") || die "no $path\n" }

# Without what is for the formatter only.
sub page ($name) { return file("man/$name") =~ s/\\-/-/gr =~ s/^\.B(?:R)? //mgr =~ s/\\f[BIR]//gr }

my %directive = file('ngx_http_vaani_module.c') =~ /\{\s*ngx_string\("(vaani_\w+)"\),(\s*[A-Z])/g;
my ($section) = page('ngx_http_vaani_module.8') =~ /^\.SH DIRECTIVES\n(.*?)^\.SH/ms;
my %form = map { $_ => 1 } $section =~ /^\.TP\n(vaani_\w+)/mg;
is_deeply [ sort keys %form ], [ sort keys %directive ], 'the directives';

my @variables = file('src/http/ngx_http_vaani_variables.c') =~ /\bngx_string\("(vaani_\w+)"\),/g;
($section) = page('ngx_http_vaani_module.8') =~ /^\.SH VARIABLES\n(.*?)^\.SH/ms;
is_deeply [ sort $section =~ /^\.TP\n\$(vaani_\w+)/mg ], [ sort @variables ], 'the variables';

my $tool = file('src/tool/vaani_spool.c');
($section) = page('vaani-spool.8') =~ /^\.SH COMMANDS\n(.*?)^\.SH/ms;
my %command = map { $_ => 1 } $tool =~ /strcmp\(command, "(\w+)"\)/g;
my %described = map { $_ => 1 } $section =~ /^\.TP\n(\w+)(?: --to)?$/mg;
is_deeply [ sort keys %described ], [ sort keys %command ], 'the commands of vaani-spool';
($section) = page('vaani-spool.8') =~ /^\.SH OPTIONS\n(.*?)^\.SH/ms;
my %option = map { $_ => 1 } file('src/tool/spool_options.c') =~ /strcmp\([^,]+, "(--[\w-]+)"\)/g;
delete $option{'--to'};    # a command of its own there
is_deeply [ sort $section =~ /^(?:\.BI )?(--[\w-]+)/mg ], [ sort keys %option ], '... its options';
my %environment = map { $_ => 1 } page('vaani-spool.8') =~ /\b(VAANI_REDIS_\w+)\b/g;
my $redis = file('src/tool/spool_redis.c');
is_deeply [ sort keys %environment ], [ sort $redis =~ /getenv\("(\w+)"\)/g ], '... its environment';

my ($licence) = file('debian/copyright') =~ /^License: BSD-2-clause\n( .*)\z/ms;
is $licence =~ s/^ \.?//mgr, file('LICENSE') =~ s/\A.*?\n\n//sr, 'the licence';

done_testing;
