# t/project/interface lists the promises of docs/stability.md: a line for each word that
# users configure or programs read, and since when. Only a major version removes a line.
# Each word of the list must be in the sources and the documents, and each of theirs must
# be in the list.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use Vaani::Test;

use constant LIST => 't/project/interface';

# The placeholder of a value in the syntax of a directive.
my %placeholder = map { $_ => 1 } qw(url ... name file time number string channel key size directory value secret path
    header ciphers $http_name);

sub file ($path) { return slurp(ROOT . "/$path") || die "no $path\n" }

sub uncomment ($text) { return $text =~ s{/\*.*?\*/}{}sgr }

# The rows of the tables below a heading, without heads; "\|" is part of a cell.
sub rows ($path, $heading) {
    my (@rows, $level, $in_body);

    for (split /\n/, file($path)) {
        if (/^(#+) (.+)$/) {
            last if defined $level && length $1 <= $level;
            ($level, $in_body) = (length $1, 0) if $2 eq $heading;
        }
        next if !defined $level;

        if    (!/^\|(.*)\|\s*$/)  { $in_body = 0 }
        elsif (/^\|[-| ]+\|\s*$/) { $in_body = 1 }
        elsif ($in_body)          { push @rows, [ map { s/^\s+|\s+$//gr } split /(?<!\\)\|/, $1, -1 ] }
    }
    die "$path: no table below \"$heading\"\n" if !@rows;
    return @rows;
}

sub codes ($text) { return map { s/\\\|/|/gr } $text =~ /`([^`]+)`/g }

# The names of a C array of strings.
sub words ($path, $array, $macro) {
    my ($body) = uncomment(file($path)) =~ /\b\Q$array\E\[\]\s*=\s*\{(.*?)^\};/ms or die "$path: no $array\n";
    return grep { length } $body =~ /\b$macro\("([^"]*)"\)/g;
}

my %found;
sub found ($kind, @names) {
    $found{"$kind $_"} = 1 for @names;
    return scalar @names;
}

# --- what is there

subtest 'what is found' => sub {
    my $module = uncomment(file('ngx_http_vaani_module.c'));
    my @context = ([ MAIN => 'http' ], [ SRV => 'server' ], [ LOC => 'location' ]);
    my $directives = 0;

    while ($module =~ /\{\s*ngx_string\("(vaani_\w+)"\),\s*([A-Z0-9_|\s]+?),\s*\w+,/g) {
        my ($name, $flags) = ($1, $2);
        $directives += found(directive => map { "$name in $_->[1]" } grep { $flags =~ /\bNGX_HTTP_$_->[0]_CONF\b/ } @context);
    }
    cmp_ok $directives, '>', 50, 'directives';

    # t/project/docs.t compares the syntax with the sources.
    my $parameters = 0;
    my $directives_page = file('docs/directives.md');
    for my $syntax (map { codes($_) } $directives_page =~ /^\| Syntax: \|(.*)$/mg,
        $directives_page =~ /^\| (`vaani_redis_ssl_(?:[^|\\]|\\.)*)\|/mg)
    {
        my ($name, $rest) = $syntax =~ /^(vaani_\w+) ([^;]+);$/ or next;
        for my $word (map { s/\A\s+|\s+\z//gr } split /[\s\[\]]+|(?<=\S)\|/, $rest =~ s/\s*\|\s*/ /gr) {
            my ($key, $value) = $word =~ /^(\w+=)?(.*)$/;
            my $text = ($key // '') . ($placeholder{$value} ? '' : $value);
            $parameters += found(parameter => "$name $text") if length $text;
        }
    }
    cmp_ok $parameters, '>', 40, 'their parameters';

    cmp_ok found(variable => map { "\$$_" } words('src/http/ngx_http_vaani_variables.c', 'ngx_http_vaani_variables', 'ngx_string')),
        '>=', 10, 'variables';
    cmp_ok found(result => words('src/http/ngx_http_vaani_outcome.c', 'ngx_http_vaani_results', 'ngx_string')),
        '>=', 6, 'results';
    cmp_ok found(reason => words('src/core/vaani_reason.c', 'vaani_reasons', 'vaani_string')), '>=', 30, 'reasons';

    # t/project/docs.t compares them with Redis, t/status/metrics.t with nginx.
    cmp_ok found(field => map { (codes($_->[0]))[0] } rows('docs/data-model.md', 'Fields')), '>=', 30, 'fields of the hash';
    cmp_ok found(member => map { (codes($_->[0]))[0] } rows('docs/data-model.md', 'Messages')), '>=', 12, 'members of messages';

    my ($metrics, $members) = (0, 0);
    for my $row (grep { @$_ >= 4 } rows('docs/monitoring.md', 'What each number means')) {
        my ($metric, $json, $type, $labels) = @$row;
        $members += found(json => codes($json));
        for my $name (codes($metric)) {
            my ($kind) = $type =~ /^(counter|gauge|histogram)/ or die "$name has the type \"$type\"\n";
            $metrics += found(metric => "$name $kind", map { "$name label $_" } codes($labels));
        }
    }
    cmp_ok $metrics, '>', 80, 'metrics';
    cmp_ok $members, '>', 80, 'members of the status';
    cmp_ok found(metric => map { (codes($_->[0]))[0] . " $_->[1]" } rows('docs/monitoring.md', 'A call that hangs')),
        '>=', 9, 'metrics of vaani-calls';

    for my $tool (qw(vaani-call vaani-calls)) {
        my $pod = file("bin/$tool");
        my ($commands) = $pod =~ /^=head1 COMMANDS\n(.*?)^=head1 /ms;
        my ($options) = $pod =~ /^=head1 OPTIONS\n(.*?)^=head1 /ms;
        my ($status) = $pod =~ /^=head1 EXIT STATUS\n(.*?)^=head1 /ms;

        cmp_ok found($tool => map { /B<(--?[\w-]+)>/g } grep { /^=item / } split /\n/, $options // ''), '>', 20, "options of $tool";
        cmp_ok found($tool => map { "exit status $_" } map { /B<(\d+)>/g } grep { /^=item / } split /\n/, $status // ''),
            '>', 5, '... what it exits with';
        found($tool => ($commands // '') =~ /^=item B<([a-z]+)>/mg);
    }

    my $tool = 'vaani-spool';
    cmp_ok found($tool => uncomment(file('src/tool/vaani_spool.c')) =~ /strcmp\(command, "(\w+)"\)/g), '>=', 4, "commands of $tool";
    cmp_ok found($tool => uncomment(file('src/tool/spool_options.c')) =~ /strcmp\([^,]+, "(--[\w-]+)"\)/g), '>=', 8, '... its options';
    found($tool => uncomment(file('src/tool/vaani_spool.c')) =~ /strcmp\(argv\[1\], "(--\w+)"\)/g);
    my ($status) = file('man/vaani-spool.8') =~ /^\.SH EXIT STATUS\n(.*?)^\.SH/ms;
    cmp_ok found($tool => map { "exit status $_" } ($status // '') =~ /(?<![\w.])(\d+)(?![\w.])/g), '>=', 3, '... what it exits with';
};

# --- what was promised

my ($version) = file('VERSION') =~ /^(\S+)\n\z/;
my %since;

subtest 'the list' => sub {
    my @lines = grep { !/^(?:#|$)/ } split /\n/, file(LIST);
    my (@wrong, @twice);

    for (@lines) {
        my ($name, $since) = /^(\S.*?\S) +(\d+\.\d+\.\d+)$/ or push(@wrong, $_), next;
        push @twice, $name if $since{$name};
        $since{$name} = $since;
    }
    is join("\n", @wrong), '', 'each line has a name and a version';
    is join("\n", @twice), '', 'no name is there twice';

    my @names = map { s/ +\S+$//r } @lines;
    is_deeply \@names, [ sort @names ], 'it is sorted';
    is join(' ', grep { newer($_, $version) } sort values %since), '', 'no line is of a version to come';
};

sub newer ($one, $other) {
    my ($x, $y) = map { sprintf '%05d%05d%05d', split /\./ } $one, $other;
    return $x gt $y;
}

my @gone = grep { !$found{$_} } sort keys %since;
is scalar @gone, 0, 'all that was promised is there'
    or diag join "\n", 'Only a major version may remove these, see docs/stability.md:', map { "    $_, since $since{$_}" } @gone;

my @new = grep { !$since{$_} } sort keys %found;
is scalar @new, 0, 'all that is there is in the list'
    or diag join "\n", 'New: name them in CHANGELOG.md, and add to ' . LIST . ', in its order:', map { sprintf '%-70s %s', $_, $version } @new;

done_testing;
