package Vaani::Test::Directives;

# The results of nginx -t: it accepts a configuration, or refuses it with the
# file and the line.

use v5.20;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';

use Exporter 'import';
use Test::More ();
use Vaani::Test::Dir qw(slurp);
use Vaani::Test::Nginx ();

our @EXPORT = qw(config check accepted all_accepted told refused refused_config);

# A configuration with these lines in their contexts: http, server, location,
# and webhook, which replaces "vaani_webhook;".
sub config (%lines) {
    return join "\n", $lines{http} // '',
        'server { listen unix:%%SOCK%%;', $lines{server} // '',
        'location / {', $lines{webhook} // 'vaani_webhook;', $lines{location} // '', '}', '}', '';
}

# ($ok, $output) of nginx -t; options as of Vaani::Test::Nginx->start(). After
# a configuration error nginx exits without freeing memory; leaks are ignored.
sub check (%options) {
    local $ENV{ASAN_OPTIONS} = join ':', $ENV{ASAN_OPTIONS} // (), 'detect_leaks=0';
    return Vaani::Test::Nginx->check(%options);
}

sub accepted ($name, %lines) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my ($ok, $output) = check(http => config(%lines));
    return Test::More::ok($ok && $output !~ /\[(?:warn|error|crit|alert|emerg)\]/, $name) || Test::More::diag($output);
}

# Each of these in a separate location.
sub all_accepted ($name, @texts) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $n = 0;
    return accepted($name, server => join '', map { $n++; "location /$n { vaani_webhook; $_ }\n" } @texts);
}

# The message must name the line, which is identified by the comment at its
# end. The level is "emerg", with which the configuration is refused, or
# "warn".
sub told ($level, $message, $name, %lines) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    $lines{$_} .= ' # here' for grep { $_ ne 'webhook' } keys %lines;
    return told_of($level, $message, $name, http => config(%lines));
}

sub refused ($message, $name, %lines) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return told('emerg', $message, $name, %lines);
}

# The same for a whole configuration, in which a line has the comment.
sub refused_config ($message, $name, %options) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return told_of('emerg', $message, $name, %options);
}

sub told_of ($level, $message, $name, %options) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my ($ok, $output) = check(%options);
    my ($error, $file, $line) = $output =~ m{\[$level\] (?:\d+#\d+: )?(.*) in (/\S+):(\d+)$}m;
    my $text = defined $line ? (split /^/, slurp($file))[ $line - 1 ] : '';

    return Test::More::ok($ok == ($level eq 'warn' ? 1 : 0) && defined $error && $error =~ $message && $text =~ /# here$/, $name)
        || Test::More::diag("wanted: $message, in: $text\n", $output);
}

1;
