# The documentation: its configurations pass nginx -t, its tables agree with the
# sources in both directions, and its messages and answers are those that nginx
# and Redis really give. t/project/markdown.t has links, anchors and tables.
#
# An HTML comment before a fenced block says what the block is:
#
#   <!-- nginx: file -->        a whole nginx.conf
#   <!-- nginx: location -->    directives of that context: main, http, server
#                               or location
#   <!-- message -->            JSON: a message of a call with the usual events
#   <!-- replayed message -->   the same, of an event that was in the spool
#   <!-- message without payload -->   the same, with "vaani_payload"
#   <!-- answer to: BODY -->    JSON: the answer to a POST of BODY
#   <!-- strict answer to: BODY -->
#                               the same, with "vaani_validation strict"
#   <!-- access log -->         lines in the log format of the README
#   <!-- error log -->          lines that "Log lines" in docs/log.md has
#   <!-- output of: vaani-call OPTIONS -->
#                               what that prints, but for names and times;
#                               for vaani-calls see t/tools/vaani-calls.t

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

use Encode ();
use JSON::PP ();
use Vaani::Test::Certificates;
use Vaani::Test::Events;

use constant DOCS => qw(README.md CHANGELOG.md CONTRIBUTING.md examples/README.md),
    map { s{^\Q${\ROOT}/\E}{}r } glob ROOT . '/docs/*.md';

my %doc = map { $_ => slurp(ROOT . "/$_") } DOCS;
my @blocks = map { blocks($_) } DOCS;
my %source = map { $_ => uncomment(slurp(ROOT . "/$_")) } sources();
my $json = JSON::PP->new->utf8;

# --- Markdown

# The fenced blocks: { doc, line, lang, marker, text }.
sub blocks ($doc) {
    my (@found, $block, $marker);
    my $line = 0;

    for (split /^/, $doc{$doc}) {
        $line++;
        if ($block) {
            if (/^```\s*$/) { push @found, $block; undef $block }
            else            { $block->{text} .= $_ }
        } elsif (/^```(\w*)\s*$/) {
            $block = { doc => $doc, line => $line, lang => $1, marker => $marker, text => '' };
            undef $marker;
        } elsif (/^<!-- (.+) -->$/) {
            $marker = $1;
        } elsif (/\S/) {
            undef $marker;
        }
    }

    die "$doc: line $block->{line}: the block has no end\n" if $block;
    return @found;
}

sub where ($block) { return "$block->{doc}:$block->{line}" }

# The text without its fenced blocks.
sub prose ($doc) { return $doc{$doc} =~ s/^```\w*\n.*?^```\n//msgr }

# The text below a heading, up to the next one of the same or a higher level.
sub section ($doc, $heading) {
    my ($level, $text);

    for (split /^/, prose($doc)) {
        if (/^(#+) (.+?)\s*$/) {
            last if defined $text && length $1 <= $level;
            ($level, $text) = (length $1, ''), next if $2 eq $heading;
        }
        $text .= $_ if defined $text;
    }

    return $text // die "$doc has no \"$heading\"\n";
}

# The rows of the tables in a text: array references of cells, without heads.
sub rows ($text) {
    my (@rows, $in_body);

    for (split /^/, $text) {
        if    (!/^\|(.*)\|\s*$/)   { $in_body = 0 }
        elsif (/^\|[-| ]+\|\s*$/)  { $in_body = 1 }
        elsif ($in_body) {
            push @rows, [ map { s/^\s+|\s+$//gr } split /(?<!\\)\|/, $1 =~ s/\s+$//r, -1 ];
        }
    }

    return @rows;
}

# The `code` in a text; "\|" is how a table spells "|".
sub codes ($text) { return map { s/\\\|/|/gr } $text =~ /`([^`]+)`/g }

sub first_codes (@rows) { return map { codes($_->[0]) } @rows }

# --- sources

sub sources () {
    return map { s{^\Q${\ROOT}/\E}{}r } glob join ' ', map { ROOT . "/$_" } qw(*.c src/*/*.[ch] src/*/*/*.[ch] src/*/*.lua src/*/*/*.html);
}

sub uncomment ($text) { return $text =~ s{/\*.*?\*/}{}sgr }

sub c_sources (@folders) {
    my $folders = join '|', map { quotemeta } @folders;
    return join "\n", map { $source{$_} } grep { /\.c$/ && /^(?:$folders)/ } sort keys %source;
}

# "a" "b" of C as one string of Perl.
sub literal ($text) {
    return join '', map { s/\\(["\\])/$1/gr } $text =~ /"((?:[^"\\]|\\.)*)"/g;
}

# The entries of a C array.
sub array ($file, $name) {
    my ($body) = $source{$file} =~ /\b\Q$name\E\[\]\s*=\s*\{(.*?)^\s*\};/ms
        or die "$file has no $name\n";
    return $body;
}

# Both lists have the same members; those of only one are told.
sub same_set ($got, $want, $name, $got_name = 'documented', $want_name = 'in the source') {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my %got  = map { $_ => 1 } @$got;
    my %want = map { $_ => 1 } @$want;
    my @more = map { "only $got_name: $_" } grep { !$want{$_} } sort keys %got;
    my @less = map { "only $want_name: $_" } grep { !$got{$_} } sort keys %want;

    ok(!@more && !@less && %got, $name) or diag(join "\n", @more, @less, %got ? () : 'nothing found');
    return;
}

# --- the documents themselves

# t/project/markdown.t checks the other links, and the tables.
subtest 'contents' => sub {
    my ($head) = split /^## /m, prose('docs/directives.md');
    my @entries = prose('docs/directives.md') =~ /^### (\$?vaani_\w+)$/mg;
    my %linked = map { $_ => 1 } $head =~ /\[([^\]]+)\]\(#/g;
    is join(', ', grep { !$linked{$_} } @entries), '', 'docs/directives.md: all directives and variables are at the top';
};

# Statements about the code refer to existing code.
subtest 'names' => sub {
    my $code = join "\n", values %source;
    my @names = map { /^((?:ngx_\w*|NGX_\w*)?vaani_\w+[a-z])(?:\(\))?$/i ? $1 : () } codes(prose('docs/architecture.md'));
    cmp_ok scalar @names, '>', 10, 'there are names';
    is join(' ', grep { $code !~ /\b\Q$_\E\b/ } @names), '', '... of what is in the source';
};

subtest 'shell' => sub {
    my @shell = grep { $_->{lang} eq 'sh' } @blocks;
    cmp_ok scalar @shell, '>', 5, 'there are shell commands';

    for my $block (@shell) {
        my ($exit, undef, $stderr) = run([ 'bash', '-n' ], stdin => $block->{text});
        is $exit, 0, where($block) or diag $stderr;
    }

    my %target = map { $_ => 1 }
        map { slurp(ROOT . "/$_") =~ /^([a-z][a-z-]*):/mg } qw(Makefile t/Makefile.inc);
    my @named = map { codes(prose($_)) } DOCS;
    for my $name (map { /^make ([a-z-]+)$/ } @named, map { split /\n/, $_->{text} } @shell) {
        next if $name eq 'modules';    # of nginx's own Makefile
        ok $target{$name}, "make $name";
    }

    my $help = slurp(ROOT . '/Makefile');
    my %described = map { $_ => 1 } codes(prose('CONTRIBUTING.md'));
    ok $described{"make $_"}, "make $_ is described" for $help =~ /"make ([a-z-]+) +/g;
};

# --- configurations

my $secret_file = spew(tmpdir() . '/secret', "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n");
chmod 0600, $secret_file;

my $ca = Vaani::Test::Certificates->new('ca');
my $pair = $ca->issue('client', usage => 'clientAuth');
my %ssl_file = (
    trusted_certificate => $ca->file, crl => $ca->crl,
    certificate => $pair->{cert}, certificate_key => $pair->{key}, password_file => $secret_file,
);

# nginx -t of a block in the frame of its context, with paths, addresses and
# names that can be had here.
sub check_config ($kind, $text) {
    for ($text) {
        s{^\s*#.*}{}mg;
        s{^\s*load_module\s+modules/ngx_http_vaani_module\.so;}{}m;
        s{^\s*(?:user\s+\S+|daemon\s+off);}{}mg;
        s{/(?:var/log/nginx|run)/(?!redis)}{%%DIR%%/}g;
        s{(\bvaani_redis_(?:sentinel_)?password_file\s+|\bfile=)[^;\s]+}{$1%%TMPDIR%%/secret}g;
        s{(\bvaani_redis_ssl_(\w+)\s+)/[^;]+;}{$1$ssl_file{$2};}g;
        s{(\bvaani_spool\s+)(?:/[^\s;]*)?/}{$1%%DIR%%/}g;
        s{\blisten\s+\[::\]:\d+;}{}g;
        s{(\blisten\s+)[^\s;]+}{$1unix:%%SOCK%%}g;
    }

    # With a resolver, names need not be found.
    my $resolver = $text =~ /^\s*resolver\s/m ? '' : "resolver 127.0.0.1;\n";

    my %config =
          $kind eq 'file'     ? split_file($text)
        : $kind eq 'main'     ? (main => $text)
        : $kind eq 'http'     ? (http => $text)
        : $kind eq 'server'   ? (http => "server { listen unix:%%SOCK%%; $text }")
        : $kind eq 'location' ? (http => "server { listen unix:%%SOCK%%; location = /x { $text } }")
        :                       die "unknown kind of configuration: $kind\n";

    # Directives that the block does not set have nginx's default, not that of
    # the tests.
    my $size = $config{http} && $config{http} =~ s/(\{(?:[^{}]++|(?1))*\})/;/gr =~ /\bclient_max_body_size\s/
        ? '' : "client_max_body_size 1m;\n";

    $config{http} = $size . $resolver . ($config{http} // '');

    # An nginx -t that ends with an error frees nothing, and needs not.
    local $ENV{ASAN_OPTIONS} = join ':', $ENV{ASAN_OPTIONS} // (), 'detect_leaks=0';
    return Vaani::Test::Nginx->check(%config);
}

sub split_file ($text) {
    my $braces = qr/(\{(?:[^{}"']++|"[^"]*"|'[^']*'|(?-1))*\})/;
    my %config;

    for my $name (qw(events http)) {
        $text =~ s/^$name\s*$braces//m or die "the file has no $name { }\n";
        $config{$name} = substr $1, 1, -1;
    }
    return (%config, main => $text);
}

# Files that are shipped, and need more than a frame to pass nginx -t.
subtest 'sizes of bodies in the examples' => sub {
    my $braces = qr/(\{(?:[^{}]++|(?-1))*\})/;

    for my $file (glob ROOT . '/examples/*.conf') {
        my $text = slurp($file) =~ s/^\s*#.*//mgr;
        my @endpoints = grep { /\bvaani_webhook;/ } map { /$braces/ } $text =~ /\blocation\s[^{;]*$braces/g;

        ok scalar @endpoints, "$file: an endpoint";
        is scalar(grep { !/^\s*client_max_body_size\s+(?!1m;)\d+[km]?;/m } @endpoints), 0, '... with a size of its own';
    }
};

subtest 'configurations' => sub {
    my @nginx = grep { $_->{lang} eq 'nginx' } @blocks;
    my %kinds;

    for my $block (@nginx) {
        my ($kind) = ($block->{marker} // '') =~ /^nginx: (\w+)$/;
        ok defined $kind, where($block) . ': says what it is' or next;
        $kinds{$kind}++;

        my ($ok, $output) = check_config($kind, $block->{text});
        ok $ok, where($block) . ": $kind" or diag $output;
        unlike $output, qr/\[warn\](?!.*, only "resolver" can resolve it)/, '... without a warning';
    }
    ok $kinds{$_}, "there is one for $_" for qw(file main http server location);

    # An error is found in every frame.
    for my $kind (qw(main http server location)) {
        my ($ok, $output) = check_config($kind, 'vaani_nonsense on;');
        ok !$ok && $output =~ /unknown directive "vaani_nonsense"/, "a wrong directive in $kind";
    }
    my ($file) = grep { $_->{marker} eq 'nginx: file' } @nginx;
    my ($ok) = check_config('file', $file->{text} =~ s/vaani_webhook;/vaani_webhook on;/r);
    ok !$ok, 'a wrong parameter in the file';
};

# --- directives and variables

my %flags = $source{'ngx_http_vaani_module.c'}
    =~ /\{\s*ngx_string\("(vaani_\w+)"\),\s*([A-Z0-9_|\s]+?),\s*\w+,/g;

my %directive = map {
    my %row = map { $_->[0] => $_->[1] } entry($_);
    $_ => \%row;
} prose('docs/directives.md') =~ /^### (vaani_\w+)$/mg;

# Those of TLS share an entry, with a row for each.
use constant TLS => 'TLS to Redis';
{
    my ($context) = grep { $_->[0] eq 'Context:' } entry(TLS);
    for my $row (grep { @$_ == 3 } entry(TLS)) {
        my ($name) = $row->[0] =~ /(vaani_\w+)/;
        $directive{$name} = { 'Syntax:' => $row->[0], 'Default:' => $row->[1], 'Context:' => $context->[1] };
    }
}

# The rows of the table at the top of an entry, whose head is empty.
sub entry ($name) {
    return rows(section('docs/directives.md', $name));
}

# The values of a directive that takes several of them.
sub bitmask ($name) {
    my $text = $source{'ngx_http_vaani_module.c'};
    my ($mask) = $text =~ /ngx_string\("\Q$name\E"\),(?:(?!ngx_string).)*&(\w+)\s*\}/s;
    return if !defined $mask;
    return array('ngx_http_vaani_module.c', $mask) =~ /ngx_string\("([\w.]+)"\)/g;
}

subtest 'directives' => sub {
    same_set [ keys %directive ], [ keys %flags ], 'the entries';

    my @contexts = ([ MAIN => 'http' ], [ SRV => 'server' ], [ LOC => 'location' ]);

    for my $name (sort keys %flags) {
        my $entry = $directive{$name} // next;
        my $flags = $flags{$name} =~ s/\s+//gr;

        is $entry->{'Context:'},
            join(', ', map { $_->[1] } grep { $flags =~ /\bNGX_HTTP_$_->[0]_CONF\b/ } @contexts),
            "$name: context";

        my @syntax = codes($entry->{'Syntax:'} // '');
        my %takes;
        for my $syntax (@syntax) {
            my ($arguments) = $syntax =~ /^\Q$name\E(?:\s+(.+))?;$/
                or fail("$name: syntax \"$syntax\"") or next;
            my $text = ($arguments // '') =~ s/\s*\|\s*/|/gr;
            my $optional = () = $text =~ /\[[^\]]+\]/g;
            my $required = () = $text =~ s/\[[^\]]+\]//gr =~ /\S+/g;
            $takes{$_} = 1 for $required .. $required + $optional;
        }
        my ($number, @more) = $flags =~ /\bNGX_CONF_(NOARGS|FLAG|1MORE|TAKE\d+)\b/g;
        $number = join '', $number, map { s/^TAKE//r } @more;
        if ($number eq '1MORE') {
            my @values = bitmask($name);
            if (@values) {
                is join(' ', $syntax[0] =~ /\[([^\]]+)\]/g), "@values", "$name: its values";
            } else {
                # Named ones are compared below.
                ok grep({ / \.\.\./ || / \[\w+=/ } @syntax), "$name: any number of parameters";
            }
        } else {
            is join('', sort keys %takes), { NOARGS => 0, FLAG => 1 }->{$number} // $number =~ s/TAKE//r,
                "$name: number of parameters";
        }
        is $syntax[0], "$name on | off;", "$name: on or off" if $number eq 'FLAG';

        # A default is a directive that can be given.
        for my $default (grep { /;$/ } codes($entry->{'Default:'} // '')) {
            my ($ok, $output) = check_config('http', $default);
            ok $ok && $default =~ /^\Q$name\E /, "$name: default \"$default\"" or diag $output;
        }
    }

    my $text = $source{'ngx_http_vaani_module.c'};
    while ($text =~ /ngx_conf_enum_t\s+(\w+)\[\]\s*=\s*\{(.*?)^\};/msg) {
        my ($enum, $body) = ($1, $2);
        my @values = $body =~ /ngx_string\("(\w+)"\)/g;
        my ($name) = $text =~ /ngx_string\("(vaani_\w+)"\),(?:(?!ngx_string).)*&\Q$enum\E\s*\}/s;
        my ($syntax) = codes($directive{ $name // '' }{'Syntax:'} // '');
        is $syntax, "$name " . join(' | ', @values) . ';', "$enum: the values of $name";
    }

    # Of vaani_spool, which takes its parameters apart itself.
    my $directives = $source{'src/http/conf/ngx_http_vaani_spool_conf.c'};
    my ($spool) = codes($directive{vaani_spool}{'Syntax:'} // '');
    my ($syncs) = ($spool // '') =~ /\bsync=([^\]]+)\]/;
    same_set [ split /\s*\|\s*/, $syncs // '' ], [ $directives =~ /"sync=(\w+)"/g ],
        'the values of "sync"';
    same_set [ ($spool // '') =~ /\[(\w+)=/g ],
        [ map { /^(\w+)/ } $directives =~ /\(value(?:->data)?, "(\w+=\w*)"/g ], 'the parameters of vaani_spool';
    my $entry = section('docs/directives.md', 'vaani_spool');
    ok $entry =~ /^- `sync=$_`/m, "sync=$_ is described" for $directives =~ /"sync=(\w+)"/g;

    # Nothing is named that is not there. Metrics are t/status/grafana.t's.
    my %metric = map { $_ => 1 } map { first_codes(rows(section('docs/monitoring.md', $_))) } 'What each number means', 'A call that hangs';
    for my $doc (grep { $_ eq 'README.md' || m{^docs/(?!architecture|performance)} } DOCS) {
        same_set [ grep({ !$metric{$_} } $doc{$doc} =~ /(?<![\$\w#])(vaani_[a-z_]+)/g), keys %flags ], [ keys %flags ],
            "$doc names directives that exist";
    }
};

# As in the manual of nginx, each directive's section has everything about its
# use.
subtest 'examples of directives' => sub {
    my %section = $doc{'docs/directives.md'} =~ /^### (vaani_\w+|@{[ TLS ]})\n(.*?)(?=^##|\z)/msg;
    $section{$_} //= $section{ TLS() } for grep { /^vaani_redis_ssl_/ } keys %flags;

    for my $name (sort keys %flags) {
        my @examples = ($section{$name} // '') =~ /^```nginx\n(.*?)^```$/msg;
        ok scalar(grep { /(?:^|[;{])\s*\Q$name\E[\s;]/m } @examples), "$name: an example in its own section";
    }
};

my $variables = array('src/http/ngx_http_vaani_variables.c', 'ngx_http_vaani_variables');

subtest 'variables' => sub {
    my @variables = map { "\$$_" } $variables =~ /ngx_string\("(\w+)"\)/g;

    same_set [ prose('docs/directives.md') =~ /^### (\$\w+)$/mg ], \@variables, 'the entries';
    same_set [ @variables, $doc{$_} =~ /(\$vaani_\w+)/g ], \@variables, "$_ names variables that exist"
        for DOCS;

    my $results = array('src/http/ngx_http_vaani_outcome.c', 'ngx_http_vaani_results');
    same_set [ first_codes(rows(section('docs/directives.md', '$vaani_result'))) ],
        [ $results =~ /ngx_string\("(\w+)"\)/g ], 'the values of $vaani_result';

    # One table has them all.
    my @reasons = array('src/core/vaani_reason.c', 'vaani_reasons') =~ /vaani_string\("(\w+)"\)/g;
    same_set [ first_codes(rows(section('docs/directives.md', '$vaani_reason'))) ], \@reasons, 'the values of $vaani_reason';

    is_deeply [ map { lc } $source{'src/core/vaani_reason.h'} =~ /^ {4}VAANI_REASON_(\w+),$/mg ], \@reasons,
        '... in the order of their numbers';

    my %given = map { lc $_ => 1 } c_sources('src/http/', 'src/core/') =~ /\bVAANI_REASON_(?!NONE\b)(\w+)/g;
    same_set [ keys %given ], \@reasons, '... and each is given';
};

# The reasons of refusals are among the symptoms, with the solution.
subtest 'troubleshooting' => sub {
    my @rows = rows(section('docs/directives.md', '$vaani_reason'));
    my $answers = section('docs/troubleshooting.md', 'Answers');

    same_set [ first_codes(grep { $_->[0] =~ /^`\w+`/ } rows($answers)) ],
        [ map { (codes($_->[0]))[0] } grep { $_->[2] !~ /^200/ } @rows ],
        'the reasons of answers other than 200';

    for my $status (qw(401 503)) {
        same_set [ first_codes(rows(section('docs/troubleshooting.md', $status))) ],
            [ map { (codes($_->[0]))[0] } grep { $_->[2] =~ /^$status/ } @rows ], "those of $status";
    }
    for my $row (rows(section('docs/troubleshooting.md', '400, 405, 415 and 422'))) {
        for my $reason (codes($row->[0])) {
            my ($documented) = grep { (codes($_->[0]))[0] eq $reason } @rows;
            is $row->[1], $documented->[2], "$reason: its status";
        }
    }

    my ($contents, $text) = split /^## Where to look$/m, prose('docs/troubleshooting.md');
    same_set [ $contents =~ /\[([^\]]+)\]\(#/g ], [ 'Where to look', $text =~ /^##+ (.+?)\s*$/mg ],
        'the table of contents', 'in it', 'a heading';
};

# --- the table of events, and its ladders

# Rates are measured on one day on one machine: one page has them, and what another page
# says of them is a quotation.
subtest 'events per second' => sub {
    my $measured = prose('docs/performance.md') =~ s/(?<=\d),(?=\d{3})//gr;
    my $claims = 0;
    for my $doc (grep { $_ ne 'docs/performance.md' && $_ ne 'CHANGELOG.md' } DOCS) {
        for (prose($doc) =~ s/\s+/ /gr =~ /\b(\d[\d,]{3,}) (?:small )?events (?:a|per) second/g) {
            my $number = tr/,//dr;
            # "20,500" is what the table has as 20535.
            my $rounded = $number =~ /^(\d{2,}?)0+$/ ? $1 : $number;
            my $digits = length($number) - length $rounded;
            like $measured, qr/(?<!\d)$rounded\d{$digits}(?!\d)/, "$doc: $_";
            $claims++;
        }
    }
    ok $claims, 'there are some';
};

# The address of a name server must belong to the reader's network. An address
# of this host works only if a name server was set up there: nginx would wait
# for it.
subtest 'resolver' => sub {
    my %text = (%doc, map { s{^\Q${\ROOT}/\E}{}r => slurp($_) } glob ROOT . '/examples/*.conf');
    my %found = map { my $name = $_; map { ("$name: $_" => 1) } $text{$name} =~ /^\s*(?:#\s*)?(resolver\s+127\.[^;]*;)/mg } keys %text;
    is_deeply [ sort keys %found ], [], 'none has a name server of the host itself';
    like section('docs/redis.md', 'Names and resolvers'), qr/127\.0\.0\.53/, 'it is said why';
};

subtest 'events' => sub {
    my $table = array('src/core/vaani_event_table.c', 'vaani_events');
    my %event;

    for my $row (split /(?=\{ vaani_string\("\w+"\), '.', VAANI_POSITION_)/, $table) {
        my ($name) = $row =~ /^\{ vaani_string\("(\w+)"\)/ or next;
        $event{$name} = {
            required => [ $row =~ /(?:vaani_required\(|\{ vaani_string\()"(\w+)"[^{}]*?(?:(?<=VAANI_FIELD_SECONDS), 1 \}|(?<=VAANI_FIELD_STRING)\))/g ],
            optional => [
                $row =~ /vaani_(?:optional|special|time)\("(\w+)"/g,
                $row =~ /vaani_const_status|\{ vaani_string\("status"\)/ ? 'status' : (),
            ],
            outbound => $row =~ /, 1, [01],\s*\{/ ? 1 : 0,
        };
    }
    is_deeply [ sort keys %event ], [ sort @EVENTS ], 'the rows of the source';

    my %documented = map { (codes($_->[0]))[0] // $_->[0] => $_ }
        rows(section('docs/http.md', 'Events and their fields'));
    same_set [ keys %documented ], [ keys %event ], 'the rows of "Events and their fields"';

    # The one with many fields has a table of its own.
    $documented{call_postprocessing}[2] = join ' ', map { $_->[0] }
        rows(section('docs/http.md', 'Fields of call_postprocessing'));

    for my $name (sort keys %event) {
        my ($required, $optional) = map { [ grep { !/^(?:ringing|active|rejected|no_answer|failed)$/ } codes($_) ] }
            @{ $documented{$name} // [ '', '', '' ] }[ 1, 2 ];
        is_deeply [ sort @$required ], [ sort @{ $event{$name}{required} } ], "$name: required";
        is_deeply [ sort @$optional ], [ sort @{ $event{$name}{optional} } ], "$name: typed";
    }

    same_set [ grep { $event{$_} && $_ ne 'call_started' } codes(section('docs/data-model.md', 'Direction')) ],
        [ grep { $event{$_}{outbound} } keys %event ], 'what only outbound calls have';

    my ($ladder) = map { $_->{text} } grep { $_->{text} =~ /^ +8 +ended/m } @blocks;
    my %ranks = ($ladder // '') =~ /^ +(\d) +(\w+)/mg;
    my @statuses = array('src/core/vaani_event_table.c', 'vaani_statuses') =~ /vaani_string\("(\w+)"\)/g;
    is_deeply \%ranks, { map { $_ + 1 => $statuses[$_] } 0 .. $#statuses }, 'the ladder of statuses';

    is_deeply [ map { (codes($_->[0]))[0] } rows(section('docs/data-model.md', 'Outcome')) ],
        [ reverse array('src/core/vaani_event_table.c', 'vaani_outcomes') =~ /vaani_string\("(\w+)"\)/g ],
        'the order of outcomes';
};

# --- what operators see

subtest 'log lines' => sub {
    my $code = c_sources('');
    my (@formats, @messages);

    while ($code =~ /\b(ngx_(?:(?:conf_)?log|ssl)_error)\(((?:[^;"]|"(?:[^"\\]|\\.)*")*)\);/g) {
        my ($function, $arguments) = ($1, $2);
        next if $arguments =~ /\bngx_\w+_n\b/;    # a system call that failed
        my $format = literal($arguments =~ s/ \? ".*//sr);

        if ($format =~ /^vaani: /) { push @formats, $format }
        else                       { push @messages, $format }
    }
    cmp_ok scalar @formats, '>=', 10, 'the log lines of the source';

    my @lines = first_codes(rows(section('docs/log.md', 'Log lines')));
    my @documented = grep { /^vaani: / } @lines;
    my %matched;

    for my $format (@formats) {
        my $regex = join '', map { /^%s$/ ? '.*' : /^%\*?\w+$/ ? '[A-Z]+' : quotemeta } split /(%\*?u?[a-zA-Z])/, $format;
        my @match = grep { /^$regex$/ } @documented;
        ok scalar @match, "\"$format\"";
        $matched{$_} = 1 for @match;
    }
    ok $matched{$_}, "still there: $_" for @documented;

    my @what = map { literal($_) }
        $code =~ /(?:ngx_vaani_redis_(?:fail|lost|broken|unresolved)|conn->\w+_handler)\([^;()"]*("[^;]*")\);/g,
        $source{'src/redis/ngx_vaani_redis_ssl_error.c'} =~ /return [^;"]*("[^;]*");/g;
    push @what, map { literal($_) . ' (REASON)' }
        map { array('src/redis/ngx_vaani_redis_ssl_error.c', "ngx_vaani_redis_ssl_$_") =~ /\{\s*\w+,\s*("[^}]*")\s*\}/g }
        qw(certificates alerts reasons);
    my ($what_table) = section('docs/log.md', 'Log lines') =~ /^(Values of WHAT:.*?)^Values of/ms;
    same_set [ first_codes(rows($what_table)) ], \@what, 'what goes wrong with connections';

    my @why = map { literal($_) } $code =~ /ngx_vaani_spool_refuse\(\w+, [^,;]*, ("(?:[^"\\]|\\.)*")\)/g;
    my ($why_table) = section('docs/log.md', 'Log lines') =~ /^(Values of WHY:.*?)^Values of/ms;
    same_set [ first_codes(rows($why_table)) ], \@why, 'why the spool refuses events';

    my @problem = map { map { literal($_) } split /[?:]/ }
        $code =~ /ngx_vaani_spool_not_kept\(writer, [^,;]*,\s*((?:[^;"]|"(?:[^"\\]|\\.)*")*)\);/g;
    my ($problem_table) = section('docs/log.md', 'Log lines') =~ /^(Values of PROBLEM:.*?)^Values of/ms;
    same_set [ first_codes(rows($problem_table)) ], [ grep { $_ ne '' } @problem ], 'why the spool does not keep events';

    # Of nginx -t.
    my $section = section('docs/log.md', 'Configuration errors');
    push @messages, map { literal($_) }
        $source{'src/redis/ngx_vaani_redis_url.c'} =~ /(?:return|:) ("(?:[^"\\]|\\.)+");/g,
        map { /return\s+("(?:[^"\\]|\\.)+");/g }
            @source{ 'ngx_http_vaani_module.c', map { "src/http/$_.c" }
                qw(auth/ngx_http_vaani_auth_conf auth/ngx_http_vaani_signers
                    conf/ngx_http_vaani_parameters conf/ngx_http_vaani_secrets
                    conf/ngx_http_vaani_redis_password conf/ngx_http_vaani_redis_servers) };
    cmp_ok scalar @messages, '>', 15, 'the messages of nginx -t in the source';

    for my $message (@messages) {
        next if $message =~ /^(?:no memory|is duplicate|invalid value)$/;    # nginx's words
        my ($longest) = sort { length $b <=> length $a }
            map { s/^[" ,]+|(?: in)?[" ]*$//gr } split /"?%\w+"?/, $message;
        ok index($section =~ s/"//gr, $longest =~ s/"//gr) >= 0, "nginx -t: $message";
    }
};

# The cells of a table's line, with words in capitals for the parts that
# differ.
sub as_regex ($line) {
    my $regex = join '.+', map { quotemeta } split /\b[A-Z]{3,}\b/, $line, -1;
    return qr/^$regex(?: \(\d+: [\w ]+\))?$/;
}

subtest 'log examples' => sub {
    my @formats = map { $_->{text} =~ /log_format vaani escape=json(.*?);/s }
        grep { $_->{doc} eq 'README.md' } @blocks;
    is scalar @formats, 1, 'the README has a log format';
    my ($format) = $formats[0] =~ s/'\s*'//gr =~ /'(.*)'/s;
    my @members = $format =~ /"(\w+)":/g;
    my %quoted = map { $_ => 1 } $format =~ /"(\w+)":"/g;

    # That of partitions is for names of keys.
    same_set [ $format =~ /(\$vaani_\w+)/g ],
        [ map { "\$$_" } grep { $_ ne 'vaani_partition' } $variables =~ /ngx_string\("(\w+)"\)/g ],
        'the format has all variables';

    my %known = (
        result => { map { $_ => 1 } '', first_codes(rows(section('docs/directives.md', '$vaani_result'))) },
        reason => { map { $_ => 1 } '', first_codes(rows(section('docs/directives.md', '$vaani_reason'))) },
    );
    my @access = grep { ($_->{marker} // '') eq 'access log' } @blocks;
    cmp_ok scalar @access, '>', 3, 'there are examples of the access log';

    for my $block (@access) {
        for my $line (split /\n/, $block->{text}) {
            my $parsed = eval { $json->decode($line) } // {};
            is_deeply [ $line =~ /"(\w+)":/g ], \@members, where($block) . ': the members and their order';
            is_deeply [ sort $line =~ /"(\w+)":"/g ], [ sort keys %quoted ], '... those in quotes';
            ok $known{$_}{ $parsed->{$_} // 'absent' }, "... $_ is known" for sort keys %known;
        }
    }

    my $section = section('docs/log.md', 'Log lines');
    my ($what_table) = $section =~ /^(Values of WHAT:.*?)^Values of/ms;
    my @what = first_codes(rows($what_table));
    my @lines = map { as_regex($_) }
        map { my $line = $_; $line =~ /\bWHAT\b/ ? map { $line =~ s/\bWHAT\b/$_/r } @what : $line }
        grep { /^vaani: / } first_codes(rows($section));
    my @error = grep { ($_->{marker} // '') eq 'error log' } @blocks;
    cmp_ok scalar @error, '>', 3, 'there are examples of the error log';

    for my $block (@error) {
        for my $line (split /\n/, $block->{text}) {
            my ($text) = $line =~ m{^[\d/]{10} [\d:]{8} \[\w+\] \d+#\d+: (?:\*\d+ )?(.+?)(?:, client: .*)?$};
            ok grep({ ($text // '') =~ $_ } @lines), where($block) . ': ' . ($text // $line);
        }
    }
};

subtest 'error replies' => sub {
    my $table = array('src/redis/ngx_vaani_redis_error.c', 'ngx_vaani_redis_errors');
    my (%advice, %codes);

    while ($table =~ /\{ ngx_string\("(\w+)"\), NGX_VAANI_REDIS_(\w+),\s*((?:"(?:[^"\\]|\\.)*"\s*)+)\}/g) {
        my ($code, $action, $text) = ($1, $2, literal($3));
        $advice{$code} = $text;
        push @{ $codes{$action} }, $code;
    }
    cmp_ok scalar keys %advice, '>', 10, 'the errors of the source';

    # Of the others.
    my ($choice) = $source{'src/redis/ngx_vaani_redis_error.c'} =~ /advice = ([^;]*\?[^;]*);/;
    $advice{''} = join ' ', ($choice // '') =~ /"([^"]+)"/g;

    my ($code_table) = section('docs/log.md', 'Log lines') =~ /^(Values of CODE.*?)^The texts/ms;
    my %documented;
    for my $row (rows($code_table)) {
        my @codes = codes($row->[0]);
        $documented{$_} = join ' ', codes($row->[1]) for @codes ? @codes : '';
    }
    is_deeply \%documented, \%advice, 'the codes and the advice in the log';

    my @rows = rows(section('docs/architecture.md', 'Error replies'));
    my %by_action;
    @by_action{qw(RELOAD WAIT CLUSTER_DOWN RECONNECT TRY_AGAIN MOVED ASK DEFER GIVE_UP)} = map { [ sort { $a cmp $b } codes($_->[0]) ] } @rows;
    is_deeply \%by_action, { map { $_ => [ sort { $a cmp $b } @{ $codes{$_} } ] } keys %codes },
        'what each code asks for';
};

subtest 'numbers' => sub {
    my $code = join "\n", values %source;
    my %constant = map { s/^\s+|\s+$//gr } $code =~ /^#define (NGX_\w+|VAANI_\w+) +([\d(][\d* ()]*)$/mg;
    my %local = $code =~ /^ *local ([A-Z]+) = (\d+)$/mg;
    my ($bodies, $entry) = $code =~ /last - first >= (\d+) \* (\d+) - 1/;

    my $bounds = section('docs/architecture.md', 'Bounds');
    my $answers = join '', map { prose("docs/$_.md") } qw(directives http);
    my $limits = section('docs/http.md', 'Limits');
    my $back_off = section('docs/architecture.md', 'The connection to Redis');
    my $spool = section('docs/architecture.md', 'The spool');
    my $lines = section('docs/log.md', 'Log lines');
    my $security = prose('docs/security.md');
    my $promise = prose('docs/guarantee.md');
    my $servers = prose('docs/redis.md');
    my $layout = join "\n", map { $_->{text} } grep { $_->{doc} eq 'docs/architecture.md' } @blocks;

    for my $case (
        [ NGX_VAANI_REDIS_MAX_COMMANDS    => $bounds,   sub ($n) { "| $n |" } ],
        [ NGX_VAANI_REDIS_MAX_BYTES       => $bounds,   sub ($n) { $n / 2**20 . ' MiB; a single' } ],
        [ NGX_VAANI_REDIS_MAX_REPLY       => $bounds,   sub ($n) { $n / 2**20 . ' MiB | the connection' } ],
        [ NGX_VAANI_REDIS_MAX_STRIKES     => $bounds,   sub ($n) { "scripts it may miss | $n |" } ],
        [ NGX_VAANI_REDIS_MAX_HOPS        => $bounds,   sub ($n) { "parkings of a command | $n |" } ],
        [ NGX_VAANI_REDIS_MAX_GUESTS      => $bounds,   sub ($n) { "guests, in a worker | $n |" } ],
        [ NGX_VAANI_REDIS_MAX_SERVERS     => $bounds,   sub ($n) { "masters of a cluster | $n |" } ],
        [ VAANI_TOPOLOGY_MAX_NODES        => $bounds,   sub ($n) { "nodes in a table | $n |" } ],
        [ NGX_VAANI_REDIS_MAX_HOPS        => $servers,  sub ($n) { "sent on at most $n times" } ],
        [ NGX_VAANI_REDIS_MAX_SERVERS     => $servers,  sub ($n) { "at most $n masters" } ],
        [ NGX_VAANI_REDIS_TABLE_EVERY     => $servers,  sub ($n) { 'lost, and every ' . $n / 1000 . ' s.' } ],
        [ NGX_VAANI_REDIS_ASK_EVERY       => $servers,  sub ($n) { 'a worker asks every ' . $n / 1000 . ' s.' } ],
        [ NGX_HTTP_VAANI_MAX_URLS         => $servers,  sub ($n) { "Up to $n URLs" } ],
        [ NGX_VAANI_SPOOL_SETTLED         => $promise,  sub ($n) { 'has not changed for ' . $n / 1000 . ' s,' } ],
        [ NGX_VAANI_SPOOL_SEGMENT         => $bounds,   sub ($n) { 'size of a segment | ' . $n / 2**20 . ' MiB,' } ],
        [ NGX_VAANI_SPOOL_SEGMENT         => $spool,    sub ($n) { 'When it has ' . $n / 2**20 . ' MiB,' } ],
        [ NGX_VAANI_SPOOL_MAX_BYTES       => $bounds,   sub ($n) { 'in a worker | ' . $n / 2**20 . ' MiB |' } ],
        [ NGX_VAANI_SPOOL_WINDOW          => $bounds,   sub ($n) { "replayed at the same time | $n to " } ],
        [ NGX_VAANI_SPOOL_MAX_WINDOW      => $bounds,   sub ($n) { "replayed at the same time | 16 to $n |" } ],
        [ NGX_VAANI_SPOOL_WINDOW          => $spool,    sub ($n) { "begins with $n records in parallel" } ],
        [ NGX_VAANI_SPOOL_MAX_WINDOW      => $spool,    sub ($n) { "up to $n. A slower" } ],
        [ NGX_VAANI_SPOOL_PATIENCE        => $spool,    sub ($n) { 'after ' . $n / 60 . ' minutes in which' } ],
        [ NGX_VAANI_SPOOL_INTERVAL        => $spool,    sub ($n) { "without waiting: every $n ms," } ],
        [ NGX_VAANI_SPOOL_COMPLAIN_EVERY  => $lines,    sub ($n) { $n == 10 && 'crit, once in ten seconds' } ],
        [ NGX_VAANI_SPOOL_REST            => $lines,    sub ($n) { $n == 1000 && 'crit, once a second' } ],
        [ NGX_HTTP_VAANI_SPOOL_MAX        => $answers,  sub ($n) { 'segment files, `' . $n / 2**30 . 'g` by' } ],
        [ NGX_HTTP_VAANI_MIN_RETAIN       => $answers,  sub ($n) { 'at least `' . $n / 1000 . 's`.' } ],
        [ NGX_VAANI_SPOOL_LATE            => $answers,  sub ($n) { "at most $n ms after the reply" } ],
        [ NGX_VAANI_SPOOL_LATE            => $promise,  sub ($n) { "not on disk $n ms after" } ],
        [ NGX_VAANI_SPOOL_KEPT_WINDOW     => $promise,  sub ($n) { "again, at most $n at the same" } ],
        [ NGX_VAANI_SPOOL_MARK_RATE       => $promise,  sub ($n) { "at most $n marks per second" } ],
        [ NGX_VAANI_SPOOL_KEPT_WINDOW     => $bounds,   sub ($n) { "again at the same time | 16 to $n |" } ],
        [ NGX_VAANI_SPOOL_MARK_EVERY      => $spool,    sub ($n) { "sets the mark every $n ms;" } ],
        [ NGX_VAANI_SPOOL_MARK_EVERY      => $bounds,   sub ($n) { 'of a worker | ' . 1000 / $n . ' per second' } ],
        [ NGX_VAANI_SPOOL_RECHECK         => $spool,    sub ($n) { 'reads the mark every ' . $n / 1000 . ' s.' } ],
        [ NGX_VAANI_SPOOL_IDLE            => $spool,    sub ($n) { 'or every ' . $n / 1000 . ' s if no events wait' } ],
        [ VAANI_JOURNAL_HEADER            => $layout,   sub ($n) { "$n content" } ],
        [ VAANI_JOURNAL_VERSION           => $layout,   sub ($n) { "and the version, $n" } ],
        [ VAANI_RECORD_VERSION            => $layout,   sub ($n) { "version, $n" } ],
        [ NGX_VAANI_REDIS_MIN_BACKOFF     => $back_off, sub ($n) { "from $n ms" } ],
        [ NGX_VAANI_REDIS_MAX_BACKOFF     => $back_off, sub ($n) { 'ms to ' . $n / 1000 . ' s.' } ],
        [ VAANI_JSON_MAX_DEPTH            => $bounds,   sub ($n) { "nesting of a body | $n |" } ],
        [ VAANI_JSON_MAX_DEPTH            => $limits,   sub ($n) { "arrays and objects | $n |" } ],
        [ VAANI_JSON_MAX_MEMBERS          => $limits,   sub ($n) { "object that is read | $n |" } ],
        [ VAANI_BODY_MAX_EVENTS           => $limits,   sub ($n) { "events in one body | $n |" } ],
        [ VAANI_BODY_MAX_EVENTS           => $answers,  sub ($n) { "at most $n of them" } ],
        [ VAANI_ROOM_MAX_LEN              => $limits,   sub ($n) { "the name of the call | $n bytes" } ],
        [ VAANI_NAME_MAX_LEN              => $limits,   sub ($n) { "`event`, the name of the call | $n bytes" } ],
        [ VAANI_ROOM_MAX_LEN              => $answers,  sub ($n) { "The name has 1 to $n bytes" } ],
        [ NGX_HTTP_VAANI_REDIS_SSL_DEPTH  => $answers,  sub ($n) { "vaani_redis_ssl_verify_depth $n;" } ],
        [ NGX_VAANI_REDIS_MAX_SERVER_NAME => $answers,  sub ($n) { "has at most $n bytes" } ],
        [ NGX_HTTP_VAANI_MAX_CONNECTIONS  => $answers,  sub ($n) { "1 to $n." } ],
        [ NGX_HTTP_VAANI_MAX_FILE         => $answers,  sub ($n) { "one of $n bytes or more" } ],
        [ NGX_HTTP_VAANI_MAX_FILE         => $security, sub ($n) { "one of $n bytes or more" } ],
        [ NGX_HTTP_VAANI_SHORT_SECRET     => $security, sub ($n) { "secrets with less than $n bytes" } ],
        [ NGX_HTTP_VAANI_SHORT_SECRET     => $answers,  sub ($n) { "one with less than $n." } ],
        [ VAANI_TOKEN_MAX_LEN             => $answers,  sub ($n) { "longer than $n bytes" } ],
        [ NGX_HTTP_VAANI_MAX_BODY         => $answers,  sub ($n) { 'over ' . $n / 2**20 . ' MB' } ],
    ) {
        my ($name, $text, $spelling) = @$case;
        my $number = eval($constant{$name} // '') // fail("$name is in the source") || next;
        ok index($text =~ s/\s+/ /gr, $spelling->($number)) >= 0, "$name is $number"
            or diag 'not found: ' . $spelling->($number);
    }

    my $model = section('docs/data-model.md', 'Transfers') =~ s/\s+/ /gr;
    like $bounds, qr/transfer attempts remembered \| $local{OUTCOMES} of each kind/, 'OUTCOMES of the script';
    like $model, qr/At most $local{OUTCOMES} attempts without an outcome and $local{OUTCOMES} early/, '... in the data model';
    like $model, qr/the latest $local{TRANSFERS} transfer events/, 'TRANSFERS of the script';
    like $limits, qr/transfer events that are kept in order, per call \| $local{TRANSFERS} \|/, '... among the limits';

    is $entry, 1 + $constant{VAANI_DIGEST_LEN}, 'the digests that are kept';
    like $limits, qr/per kind of event and call \| $bodies \|/, '... among the limits';
    like section('docs/data-model.md', 'Memory'), qr/adds $entry bytes to `_state`, at most @{[ $bodies * $entry ]} for each/, '... in the data model';
};

# The rooms: every file of src has its line, and every line its file.
subtest 'rooms' => sub {
    my ($rooms) = map { $_->{text} } grep { $_->{text} =~ /^src\/$/m } @blocks;
    my (%named, $folder, $inner);

    for (split /\n/, ($rooms // '') =~ s/^.*?^src\/$//msr) {
        last if /^\S/;
        if    (m{^  (\w+)/ })                     { ($folder, $inner) = ($1) }
        elsif (m{^    (\w+)/ })                   { $inner = $1 }
        elsif (/^    (  )?(\S+(?:, \S+)*)\s{2,}/) {
            my $in = $1 ? "$folder/$inner" : $folder;
            $named{"$in/$_"} = 1 for split /, /, $2;
        }
    }

    my %there = map { $_ => 1 } map {
        my ($in, $name) = m{^src/([\w/]+)/([^/]+?)(?:\.c)?$};
        $name =~ s/^ngx_(?:http_vaani|vaani_redis|vaani_spool)_// if !$named{"$in/$name"};
        "$in/$name";
    } grep { !/\.h$/ && m{^src/} } keys %source;

    same_set [ keys %named ], [ keys %there ], 'docs/architecture.md names the files';
};

subtest 'vaani-spool' => sub {
    my $tool = $source{'src/tool/vaani_spool.c'};
    my $all = c_sources('src/tool/');
    my @commands = $tool =~ /strcmp\(command, "(\w+)"\)/g;
    my $text = join "\n", map { $_->{text} } grep { $_->{doc} =~ m{^docs/(?:spool|data-protection)\.md$} } @blocks;

    same_set [ $text =~ /\bvaani-spool (\w+)/g ], \@commands, 'its commands';
    same_set [ $text =~ /\b(VAANI_REDIS_\w+)=/g ], [ $all =~ /getenv\("(VAANI_REDIS_\w+)"\)/g ], 'its environment';
};

# --- what nginx and Redis really do

my $redis = Vaani::Test::Redis->start;
my $client = $redis->client;
my $nginx = Vaani::Test::Nginx->start(http => <<"CONF");
    vaani_redis @{[ $redis->url ]};
    server {
        listen unix:%%SOCK%%;
        location = /hook { vaani_webhook; }
        location = /strict { vaani_webhook; vaani_validation strict; }
        location = /spool { vaani_webhook; vaani_spool %%DIR%%/spool; }
        location = /short { vaani_webhook; vaani_payload max=16k; }
    }
CONF
my $http = $nginx->http;

sub deliver ($body, %headers) {
    my $response = $http->post('/hook', $body, %headers);
    my ($name) = $body =~ /"event":\s*"([\w.]+)"/;
    is $response->status, 200, "$name is accepted" or diag $response->body;
    return;
}

subtest 'fields of the hash' => sub {
    my $rooms = 0;

    for my $path (sort keys %CALL_PATHS) {
        my $room = 'fields-' . ++$rooms;
        my ($call, $transfer) = split m{/}, $path;
        deliver($_) for call_path($path, $room);
    }
    deliver(event('call_started', room => 'fields-id'), 'Webhook-Id' => 'msg_1');

    # A body in Vaani's current form, and another body of a kind.
    my %data = (
        call_id => 'fields-today', call_duration => 42.5, dispositions => { tag => 'Name Collected' },
        map { ($_ => '2026-10-09T07:31:00Z') }
            qw(call_dialing_at call_ringing_at picked_up_at call_started_at call_ended_at),
    );
    deliver($json->encode({ event => 'call_postprocessing', data => \%data }));
    deliver($json->encode({ event => 'call_postprocessing', data => { %data, summary => 'Again.' } }));

    my %real;
    for my $key (@{ $client->cmd('KEYS', 'vaani:call:fields-*') }) {
        $real{$_} = 1 for keys %{ $client->hgetall($key) };
    }
    my @real = map { s/^(at|_body|_times):.+/$1:<event>/r =~ s/^_id:.+/_id:<digest>/r } keys %real;

    my @rows = map { rows(section('docs/data-model.md', $_)) } 'Fields', 'Fields of the module';
    same_set [ map { (codes($_->[0]))[0] } @rows ], \@real,
        'docs/data-model.md', 'documented', 'in Redis';
    same_set [ first_codes(rows(section('README.md', 'What the hash holds'))) ],
        [ grep { !/^_/ } @real ], 'README.md', 'documented', 'in Redis';

    # The examples of the table are of the type that it gives.
    for my $row (grep { @$_ == 4 } @rows) {
        my ($name, $type, undef, $example) = @$row;
        my $value = (codes($example))[-1];
        my $regex = $type =~ /^integer/ ? qr/^\d+$/ : $type eq 'time' ? qr/^\d{13}$/
            : $type =~ /^JSON/ ? qr/^\{.*\}$/ : qr/^.+$/;
        like $value // '', $regex, "the example of $name";
    }
};

# The members of the outer object, in their order.
sub members ($text) {
    my ($head) = $text =~ /^(.*?"payload":)/s;
    return [ $head =~ /"(\w+)":/g ];
}

# The message that a subscriber gets for the payload of an example, after the
# events of a call that its seq implies.
sub published ($example) {
    my $message = $json->decode($example);
    my ($payload) = $example =~ /"payload":\s*(\{.*\})\s*\}\s*\z/s;
    my $before = ($message->{seq} // 0) - (exists $message->{known} ? 0 : 1);

    $client->cmd('FLUSHALL');
    deliver($_) for (call_path('outbound-answered/none', $message->{room_name}))[ 0 .. $before - 1 ];

    return delivered($payload);
}

sub delivered ($payload) {

    my $subscriber = $redis->client->subscribe('vaani:events');
    deliver($payload);
    return ($subscriber->next_message(10) // {})->{payload} // '{}';
}

subtest 'messages' => sub {
    my @examples = grep { ($_->{marker} // '') eq 'message' } @blocks;
    cmp_ok scalar @examples, '>=', 3, 'there are examples';

    my %seen;
    for my $block (@examples) {
        my $real = published($block->{text});
        my ($want, $got) = map { $json->decode($_) } $block->{text}, $real;

        is_deeply members($block->{text}), members($real), where($block) . ': the members and their order';
        like $_->{received_at}, qr/^[0-9]{13}$/, where($block) . ': a time' for $want, $got;
        like $_->{id}, qr/^[0-9a-f]{32}$/, where($block) . ': a random id' for $want, $got;
        delete @$_{qw(received_at id)} for $want, $got;
        is_deeply $want, $got, where($block) . ': their values';
        $seen{$_} = 1 for @{ members($real) };
    }

    my @members = map { (codes($_->[0]))[0] } rows(section('docs/data-model.md', 'Messages'));
    is_deeply [ grep { !/^(?:replayed|repaired)$/ } @members ],
        members(published((grep { $_->{text} =~ /"previous_status"/ } @examples)[0]->{text})),
        'the table of members, and their order';

    deliver(event('call_started', room => 'repaired'));
    is_deeply [ grep { $_ ne 'replayed' } @members ],
        members(delivered(event('call_ended', room => 'repaired', x => \'NaN'))),
        '... also of a repaired body';
    ok delete $seen{known}, 'an unknown event is among them';
};

subtest 'replayed messages' => sub {
    my @examples = grep { ($_->{marker} // '') eq 'replayed message' } @blocks;
    cmp_ok scalar @examples, '>=', 1, 'there are examples';

    for my $block (@examples) {
        my $want = $json->decode($block->{text});
        my ($payload) = $block->{text} =~ /"payload":\s*(\{.*\})\s*\}\s*\z/s;

        $client->cmd('FLUSHALL');
        deliver($_)
            for (call_path('outbound-answered/none', $want->{room_name}))[ 0 .. $want->{seq} - 2 ];

        $client->cmd('REPLICAOF', '127.0.0.1', '1');
        my $response = $http->post('/spool', $payload);
        is $response->body, qq({"status":"queued"}\n), where($block) . ': is queued';

        my $subscriber = $redis->client->subscribe('vaani:events');
        $client->cmd('REPLICAOF', 'NO', 'ONE');
        my $real = ($subscriber->next_message(10) // {})->{payload} // '{}';
        my $got = $json->decode($real);

        is_deeply members($block->{text}), members($real), where($block) . ': the members and their order';
        like $_->{id}, qr/^[0-9a-f]{32}$/, where($block) . ': a random id' for $want, $got;
        delete @$_{qw(received_at id)} for $want, $got;
        is_deeply $want, $got, where($block) . ': their values';
    }

    is_deeply [ grep { $_ ne 'repaired' } map { (codes($_->[0]))[0] } rows(section('docs/data-model.md', 'Messages')) ],
        members($examples[0]->{text}), 'the table has the members of a replayed message, too';
};

subtest 'messages without payloads' => sub {
    my @examples = grep { ($_->{marker} // '') eq 'message without payload' } @blocks;
    cmp_ok scalar @examples, '>=', 1, 'there are examples';

    for my $block (@examples) {
        my $want = $json->decode($block->{text});
        my @call = call_path('outbound-answered/none', $want->{room_name});
        my $body = $call[ $want->{seq} - 1 ];
        $body =~ s/(?="transcript")/'"x":"' . 'y' x ($want->{payload_bytes} - length($body) - 7) . '",'/e;

        $client->cmd('FLUSHALL');
        deliver($_) for @call[ 0 .. $want->{seq} - 2 ];
        my $subscriber = $redis->client->subscribe('vaani:events');
        is $http->post('/short', $body)->status, 200, where($block) . ': is accepted';
        my $got = $json->decode(my $real = ($subscriber->next_message(10) // {})->{payload} // '{}');

        is_deeply [ $block->{text} =~ /"(\w+)":/g ], [ $real =~ /"(\w+)":/g ], where($block) . ': the members and their order';
        delete @$_{qw(received_at id)} for $want, $got;
        is_deeply $got, $want, where($block) . ': their values';
    }
};

subtest 'answers' => sub {
    my @examples = grep { ($_->{marker} // '') =~ /^(?:strict )?answer to: / } @blocks;
    cmp_ok scalar @examples, '>=', 2, 'there are examples';

    for my $block (@examples) {
        my ($strict, $body) = $block->{marker} =~ /^(strict )?answer to: (.+)$/;
        my $response = $http->post($strict ? '/strict' : '/hook', Encode::encode('UTF-8', $body));
        is $response->body, compact($block->{text}) . "\n", where($block);
    }

    ok !(grep { $_->{lang} eq 'json' && !defined $_->{marker} } @blocks), 'every JSON block is checked';
};

subtest 'vaani-call' => sub {
    my $tool = slurp(ROOT . '/bin/vaani-call');
    my %option = map { $_ => 1 } map { /B<(--?[a-z-]+)>/g } grep { /^=item / } split /\n/, $tool;
    my @commands = map { s/\\\n\s*/ /gr =~ /\bvaani-call( .*)/g } map { $_->{text} } grep { $_->{lang} eq 'sh' } @blocks;
    cmp_ok scalar @commands, '>', 4, 'there are commands';
    is join(' ', grep { !$option{$_} } map { / (--?[a-z-]+)/g } @commands), '', 'their options are in the manual';

    my @examples = grep { ($_->{marker} // '') =~ /^output of: vaani-call / } @blocks;
    cmp_ok scalar @examples, '>=', 2, 'there are examples';

    local @ENV{qw(VAANI_REDIS_USER VAANI_REDIS_PASSWORD)} = qw(admin sesame);
    for my $block (@examples) {
        my ($options) = $block->{marker} =~ /^output of: vaani-call(.*)/;
        my @options = split ' ', $options =~ s/--watch\b/$& unix:@{[ $redis->socket ]}/r;
        ok scalar(grep { my $command = $_; !grep { index($command, $_) < 0 } split / (?=--)/, $options } @commands),
            where($block) . ': is of a command that is shown';

        my ($exit, $real) = run([ $^X, ROOT . '/bin/vaani-call', @options, 'unix:' . $nginx->sock . ':/hook' ]);
        is $exit, 0, where($block) . ': succeeds';
        my ($want, $got) = map { s/\bin \d.*events\/s|\d+(?:\.\d+)? ms/N/gr } $block->{text}, $real;
        is $got, $want, where($block) . ': what it prints';
    }
};

# t/tools/vaani-calls.t has what it prints.
subtest 'vaani-calls' => sub {
    my %option = map { $_ => 1 } map { /B<(--?[a-z-]+)>/g } grep { /^=item / } split /\n/, slurp(ROOT . '/bin/vaani-calls');
    my @commands = map { s/\\\n\s*/ /gr =~ /\bvaani-calls( [^|\n]*)/g } map { $_->{text} } grep { $_->{lang} =~ /^(?:sh|ini|text)\z/ && !$_->{marker} } @blocks;
    cmp_ok scalar @commands, '>', 8, 'there are commands';
    is join(' ', grep { !$option{$_} } map { / (--?[a-z-]+)/g } @commands), '', 'their options are in the manual';
};

# --- other releases of Debian

subtest 'versions' => sub {
    my $matrix = slurp(ROOT . '/tools/matrix');
    my ($cells) = $matrix =~ /^cells=\(\n(.*?)^\)/ms;
    my %row = ($cells // '') =~ /^ +'(\S+) +(.+)'$/mg;
    my ($versions) = $matrix =~ /^versions=\((.*)\)$/m;
    my ($suites) = slurp(ROOT . '/t/Makefile.inc') =~ /^MATRIX = (.+)$/m;

    my $tested = section('docs/compatibility.md', 'What was tested');
    my ($head) = $tested =~ /^\| \|(.+)\|$/m;
    is join(' ', map { /^ (\S+) \(/ } split /\|/, $head // ''), $suites, 'a column for each release';
    same_set [ map { $_->[0] } rows($tested) ], [ split(' ', $versions // ''), values %row ], 'the rows', 'documented',
        'in tools/matrix';

    my @results = map { my ($name, @columns) = @$_; (grep { $_ eq $name } values %row) ? @columns : () } rows($tested);
    is join(' ', grep { !/^passed\b/ } @results), '', 'all of them passed';
    like $tested, qr/\b20\d\d-\d\d-\d\d\b/, 'it says when';

    my ($flavour) = slurp(ROOT . '/t/Makefile.inc') =~ /^FLAVOUR_TESTS = ((?:.*\\\n)*.*)$/m;
    my %flavour = map { $_ => 1 } split /[\s\\]+/, $flavour // '';
    my @forks = map { codes($_->[0]) } rows(section('docs/compatibility.md', 'Other nginx'));
    cmp_ok scalar @forks, '>', 0, 'tests with other nginx';
    ok $flavour{$_}, "... $_ is one of make test-flavour" for @forks;

    same_set [ first_codes(rows(section('CONTRIBUTING.md', 'Several releases of Debian'))) ], [ keys %row ],
        'the cells', 'documented', 'in tools/matrix';
};

# As the module writes it: without white space outside of strings.
sub compact ($text) {
    return $text =~ s{("(?:[^"\\]|\\.)*")|\s+}{ $1 // '' }gers;
}

done_testing;
