# examples/grafana.json and examples/alerts.yml: they name only metrics and
# labels that exist, their expressions are PromQL, and the alerts fire when they should,
# and only then (t/status/alerts.yml).
#
# The list of metrics is the table in docs/monitoring.md, which is compared with
# what nginx really says elsewhere.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

use JSON::PP ();


my $monitoring = slurp(ROOT . '/docs/monitoring.md');
my $directives = slurp(ROOT . '/docs/directives.md');
my $http = slurp(ROOT . '/docs/http.md');
my $alerts = slurp(ROOT . '/examples/alerts.yml');
my $dashboard = JSON::PP->new->utf8->decode(slurp(ROOT . '/examples/grafana.json'));

# Labels that Prometheus adds to each series.
my @TARGET = qw(job instance);

# --- what there is

sub rows ($text, $heading) {
    my ($section) = $text =~ /^#+ \Q$heading\E\n(.*?)(?=^#|\z)/ms or die "no \"$heading\"\n";
    return map { [ map { s/^\s+|\s+$//gr } split /(?<!\\)\|/, $_ ] } $section =~ /^\|(.*)\|$/mg;
}

sub codes ($text) { return $text =~ /`([^`]+)`/g }
sub first_codes ($text, $heading) { return map { codes($_->[0]) } rows($text, $heading) }

# metric => { label => 1 }
my %metric;
for my $row (rows($monitoring, 'What each number means')) {
    my ($name) = codes($row->[0]) or next;
    my %labels = map { $_ => 1 } codes($row->[3]), @TARGET;
    my @names = $labels{le} ? map { "${name}_$_" } qw(bucket sum count) : $name;

    for my $series (@names) {
        $metric{$series} = {%labels};
        delete $metric{$series}{le} if $series !~ /_bucket$/;
    }
}
cmp_ok scalar keys %metric, '>', 20, 'the table of metrics';
my %of_nginx = map { $_ => 1 } keys %metric;

# Those of vaani-calls: node_exporter has them, so "instance" is not an nginx.
$metric{ (codes($_->[0]))[0] } = { map { $_ => 1 } @TARGET } for grep { codes($_->[0]) } rows($monitoring, 'A call that hangs');
cmp_ok scalar(grep { /^vaani_calls_/ && !$of_nginx{$_} } keys %metric), '>', 5, '... and that of vaani-calls';
$metric{up} = { map { $_ => 1 } @TARGET };

my @events = (grep({ $_ ne 'all' } map { (codes($_->[0]))[0] // () } rows($http, 'Events and their fields')), qw(other none));
my @statuses = slurp(ROOT . "/docs/data-model.md") =~ /^ +\d +(\w+) +(?:call_|user_)/mg;

# label => { value => 1 }: those whose values are from a list.
my %value = (
    event  => { map { $_ => 1 } @events },
    result => { map { $_ => 1 } first_codes($directives, '$vaani_result'), 'none' },
    reason => { map { $_ => 1 } first_codes($directives, '$vaani_reason') },
    status => { map { $_ => 1 } @statuses },
    from   => { map { $_ => 1 } @statuses, qw(none unknown) },
    to     => { map { $_ => 1 } @statuses },
);
cmp_ok scalar keys %{ $value{$_} }, '>', 5, "the values of the label $_" for sort keys %value;

# --- what is named

my %used;

# The errors of an expression without the dashboard's variables. This is enough for
# the expressions used here; promtool checks the syntax.
sub faults ($expr) {
    my @faults;
    my %labels;
    my $text = $expr =~ s/\[[^\]]*\]//gr;

    while ($text =~ /\b((?:vaani_\w+)|up)\b\s*(?:\{([^}]*)\})?/g) {
        my ($name, $matchers) = ($1, $2 // '');
        my $known = $metric{$name} or push @faults, "no such metric: $name" and next;
        $used{$name}++;
        $labels{$_} = 1 for keys %$known;

        for my $matcher ($matchers =~ /(\w+\s*(?:=~|!~|!=|=)\s*"[^"]*")/g) {
            my ($label, $words) = $matcher =~ /^(\w+)\W+"?([^"]*)"/;
            push @faults, "$name has no label $label" if !$known->{$label};
            for my $word ($value{$label} ? split /\|/, $words : ()) {
                push @faults, "$label is never \"$word\"" if !$value{$label}{$word};
            }
        }
    }
    push @faults, 'no metric at all' if !%labels;

    for my $list ($text =~ /\b(?:by|on|without|ignoring|group_left|group_right)\s*\(([^)]*)\)/g) {
        push @faults, map { "no metric here has a label $_" } grep { !$labels{$_} } $list =~ /\w+/g;
    }
    return @faults;
}

# Those that a legend or an annotation can name: what is left after the outer
# aggregation.
sub kept_labels ($expr) {
    my ($by) = $expr =~ /^(?:histogram_quantile\([^,]*,\s*)?sum by \(([^)]*)\)/;
    return map { $_ => 1 } grep { $_ ne 'le' } $by =~ /\w+/g if defined $by;
    return () if $expr =~ /^\s*(?:sum|absent)\b/;
    my ($name) = $expr =~ /\b(vaani_\w+|up)\b/;
    return map { $_ => 1 } keys %{ $metric{$name} // {} };
}

sub sane ($expr, $name) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my @faults = faults($expr);
    return ok(!@faults, $name) || diag(join "\n", $expr, @faults);
}

# --- it can fail

subtest 'what is wrong is found' => sub {
    for my $expr (
        'vaani_nonsense', 'sum(rate(vaani_deliveries[5m]))', 'vaani_in_flight{event="none"}',
        'sum by (path) (vaani_in_flight)', 'vaani_deliveries_total{event="call_nonsense"}',
        'vaani_deliveries_total{result=~"ok|nonsense"}', 'vaani_redis_round_trip_seconds', '1 > 2',
        'vaani_redis_round_trip_seconds_sum{le="1"}', 'vaani_calls{instance="a",status="none"}',
    ) {
        my %before = %used;
        ok scalar faults($expr), $expr;
        %used = %before;
    }
};

# --- the dashboard

my @panels = @{ $dashboard->{panels} };

subtest 'the dashboard' => sub {
    cmp_ok $dashboard->{schemaVersion}, '>=', 36, 'Grafana 9';
    is $dashboard->{id}, undef, 'no id: it is new where it is imported';
    like $dashboard->{uid}, qr/^[a-z0-9-]{1,40}$/, 'a uid';

    my ($input) = grep { $_->{name} eq 'DS_PROMETHEUS' } @{ $dashboard->{__inputs} };
    is_deeply [ @{ $input // {} }{qw(type pluginId)} ], [ qw(datasource prometheus) ], 'the import asks for the Prometheus';
    ok((grep { $_->{type} eq 'query' && $_->{name} eq 'instance' } @{ $dashboard->{templating}{list} }),
        'there is a variable for the instance');

    my @sources;
    my @nodes = [ '', $dashboard ];
    while (my $node = shift @nodes) {
        my ($key, $data) = @$node;
        if (ref $data eq 'HASH') {
            push @sources, $data if $key eq 'datasource';
            push @nodes, map { [ $_ => $data->{$_} ] } keys %$data;
        } elsif (ref $data eq 'ARRAY') {
            push @nodes, map { [ $key => $_ ] } @$data;
        }
    }
    cmp_ok scalar @sources, '>', @panels, 'sources of data';
    is_deeply [ grep { $_->{uid} !~ /^(?:\$\{DS_PROMETHEUS\}|-- Grafana --)$/ } @sources ], [], '... are the one that was asked for';

    my (%ids, %titles, %taken, @overlaps);
    for my $panel (@panels) {
        my ($id, $title, $grid) = @$panel{qw(id title gridPos)};
        $ids{$id}++;
        $titles{$title}++;

        ok $grid->{w} > 0 && $grid->{h} > 0 && $grid->{x} >= 0 && $grid->{x} + $grid->{w} <= 24, "$title: in the grid";
        for my $x ($grid->{x} .. $grid->{x} + $grid->{w} - 1) {
            push @overlaps, "$title: $x, $_" for grep { $taken{"$x,$_"}++ } $grid->{y} .. $grid->{y} + $grid->{h} - 1;
        }
    }
    is_deeply \@overlaps, [], 'no panel covers another one';
    is_deeply [ grep { $ids{$_} > 1 } keys %ids ], [], 'no id twice';
    is_deeply [ grep { $titles{$_} > 1 } keys %titles ], [], 'no title twice';

    my %required = map { $_->{id} => 1 } grep { $_->{type} eq 'panel' } @{ $dashboard->{__requires} };
    is_deeply [ sort keys %required ],
        [ sort keys %{ { map { $_->{type} => 1 } grep { $_->{type} ne 'row' } @panels } } ], 'the kinds of panels';
};

# The values that Grafana substitutes for its variables.
sub filled_in ($expr) {
    my %variable = (instance => '.*', __rate_interval => '1m', __interval => '15s', __range => '6h');
    return $expr =~ s/\$(\w+)/$variable{$1} \/\/ die "unknown variable: $1 in $expr\n"/ger;
}

my @expressions;    # [ name, text ]

subtest 'panels' => sub {
    for my $panel (grep { $_->{type} ne 'row' } @panels) {
        my $title = $panel->{title};
        like $panel->{description} // '', qr/^.{20,250}\.$/, "$title: a short description";
        ok scalar @{ $panel->{targets} }, '... targets';

        my %refs;
        for my $target (@{ $panel->{targets} }) {
            ok !$refs{ $target->{refId} }++, "... $target->{refId} is there once";
            my $expr = filled_in($target->{expr});
            sane $expr, "... $target->{refId}";
            my @names = $target->{expr} =~ /\b(vaani_\w+)/g;
            (grep { $of_nginx{$_} } @names) ? like $target->{expr}, qr/\$instance/, '... of the chosen instance'
                : unlike $target->{expr}, qr/\$instance/, '... of any instance';
            push @expressions, [ "$title $target->{refId}", $expr ];

            my %kept = kept_labels($expr);
            is_deeply [ grep { !$kept{$_} } $target->{legendFormat} =~ /\{\{(\w+)\}\}/g ], [], '... its legend';
        }
    }

    for my $annotation (grep { $_->{expr} } @{ $dashboard->{annotations}{list} }) {
        my $expr = filled_in($annotation->{expr});
        sane $expr, $annotation->{name};
        push @expressions, [ $annotation->{name}, $expr ];
    }
    for my $variable (grep { $_->{type} eq 'query' } @{ $dashboard->{templating}{list} }) {
        my ($name, $label) = $variable->{query}{query} =~ /^label_values\((\w+), (\w+)\)$/;
        ok $metric{ $name // '' }{ $label // '' }, "$variable->{name}: $variable->{query}{query}";
    }

    is_deeply [ grep { !$used{$_} } sort keys %of_nginx ], [], 'no metric is left out';
};

# --- promtool

# A file of rules, or the reason why promtool refuses it.
sub check_rules ($text) {
    my $path = spew(tmpdir() . '/rules.yml', $text);
    my ($exit, @output) = run([ 'promtool', 'check', 'rules', $path ]);
    return ($exit == 0, "@output");
}

# JSON strings are YAML.
sub as_rules (@named) {
    my $json = JSON::PP->new->allow_nonref;
    my $n = 0;
    return "groups:\n- name: dashboard\n  rules:\n"
        . join '', map { $n++; "  - record: panel:$n\n    expr: " . $json->encode($_->[1]) . "\n" } @named;
}

subtest 'expressions of the dashboard' => sub {
    cmp_ok scalar @expressions, '>', 30, 'there are expressions';
    my ($ok, $why) = check_rules(as_rules(@expressions));
    ok $ok, 'promtool takes them' or diag $why;

    for my $case (@expressions) {
        last if $ok;
        my ($one, $reason) = check_rules(as_rules($case));
        ok $one, $case->[0] or diag "$case->[1]\n$reason";
    }
    ($ok) = check_rules(as_rules(@expressions, [ wrong => 'sum by (rate(up[5m])' ]));
    ok !$ok, '... and no nonsense';
};

# The values that a panel shows of these series: { labels => value } after an
# hour.
sub shows ($title, %series) {
    my ($panel) = grep { $_->{title} eq $title } @panels;
    my $json = JSON::PP->new->allow_nonref;
    my $expr = filled_in($panel->{targets}[0]{expr});
    my $dir = tmpdir();
    spew("$dir/panel.yml", as_rules([ $title => $expr ]));

    return sub (%want) {
        my $test = spew("$dir/panel-test.yml", "rule_files: [ panel.yml ]\ntests:\n- interval: 1m\n  input_series:\n"
            . join('', map { "  - { series: " . $json->encode($_) . ", values: $series{$_} }\n" } sort keys %series)
            . "  promql_expr_test:\n  - expr: panel:1\n    eval_time: 60m\n    exp_samples:\n"
            . join('', map { "    - { labels: " . $json->encode("panel:1$_") . ", value: $want{$_} }\n" } sort keys %want));
        my ($exit, @output) = run([ 'promtool', 'test', 'rules', $test ]);
        return ($exit == 0, "@output");
    };
}

subtest 'what panels show' => sub {
    my $transition = sub ($from, $to) { qq(vaani_transitions_total{instance="a",from="$from",to="$to"}) };

    # Sixty calls that were talked, thirty that were not, and all that comes after.
    my $panel = shows('Ended calls',
        $transition->(qw(none dialing)) => '0+2x60', $transition->(qw(ringing active)) => '0+1x60',
        $transition->(qw(active ended)) => '0+1x60', $transition->(qw(ended ended)) => '0+3x60',
        $transition->(qw(ringing rejected)) => '0+0.5x60', $transition->(qw(rejected ended)) => '0+0.5x60',
        $transition->(qw(unknown ended)) => '0+1x60', $transition->(qw(no_answer failed)) => '0+1x60',
    );
    my @over = ('{to="ended"}' => 60, '{to="rejected"}' => 30);
    my ($ok, $why) = $panel->(@over, '{to="failed"}' => 0);
    ok !$ok, 'it can fail';
    ($ok, $why) = $panel->(@over);
    ok $ok, 'each call that is over, once' or diag $why;

    # After a start of nginx, waiting events exist that were not counted.
    $panel = shows('Waiting in the spool',
        'vaani_spool_records{instance="a",path="/s"}' => '0x60', 'vaani_spool_bytes{instance="a",path="/s"}' => '900x60',
        'vaani_spool_oldest_age_seconds{instance="a",path="/s"}' => '60+60x60');
    ($ok, $why) = $panel->('{}' => 3660);
    ok $ok, 'events wait, from before the start' or diag $why;
};

# --- alerts

# With the rules that are opt-in.
my $all_alerts = $alerts =~ s/^( *)#~ /$1/mgr;

# { alert, expr, severity, summary, description }, as far as this file goes.
sub parse_alerts ($text) {
    my @alerts;
    for my $rule ($text =~ /^      - (alert: .*?)(?=^      - alert|^  - name|\z)/msg) {
        my %alert;
        my $key;
        for (split /\n/, $rule =~ s/^ *#.*\n//mgr) {
            if    (/^\s*(\w+):(?:\s+(?:[>|]-?)?(.*))?$/) { $key = $1; $alert{$key} = $2 // '' }
            elsif (/\S/ && $key)                         { $alert{$key} .= ' ' . s/^\s+//r }
        }
        push @alerts, \%alert;
    }
    return @alerts;
}

my @alerts = parse_alerts($all_alerts);

subtest 'alerts' => sub {
    my ($ok, $why) = check_rules($alerts);
    ok $ok, 'promtool takes the file' or diag $why;
    ($ok, $why) = check_rules($all_alerts);
    ok $ok, '... and with what is opt-in' or diag $why;
    my ($number) = $why =~ /(\d+) rules found/;
    is $number, scalar @alerts, 'all are found here';

    my %headings = map {
        my $doc = $_;
        map { ("\"$_\" in $doc" => 1) } slurp(ROOT . "/$doc") =~ s/`//gr =~ /^#+ (.+)$/mg;
    } map { s{^\Q${\ROOT}/\E}{}r } glob ROOT . '/docs/*.md';
    my %documented = map { (codes($_->[0]))[0] // '' => $_->[1] } rows($monitoring, 'Alerts');
    delete $documented{''};
    is_deeply [ sort keys %documented ], [ sort map { $_->{alert} } @alerts ], 'all are in docs/monitoring.md';

    for my $alert (@alerts) {
        my $name = $alert->{alert};
        my $expr = $alert->{expr} =~ s/^ //r;
        sane $expr, "$name: its metrics and labels";
        is $alert->{severity}, $documented{$name}, '... its severity';

        my ($summary, $description) = @$alert{qw(summary description)};
        like $summary // '', qr/^".{20,120}"$/, '... a summary';
        my ($see) = ($description // '') =~ /\bSee (".*\.md)\.$/;
        my @sections;
        $see //= '';
        while ($see =~ m{\G((?:"[^"]+"(?:,? and |, )?)+) in (docs/[a-z-]+\.md)(?:, )?}g) {
            my ($names, $doc) = ($1, $2);
            push @sections, map { "$_ in $doc" } $names =~ /("[^"]+")/g;
        }
        ok scalar @sections, '... a description that says where to read on' or diag $description;
        ok $headings{$_}, "... $_" for @sections;

        my %kept = kept_labels($expr);
        is_deeply [ grep { !$kept{$_} } "$summary $description" =~ /\$labels\.(\w+)/g ], [], '... the labels in its texts';
    }
};

subtest 'tests of the alerts' => sub {
    my @files = map { ROOT . "/t/status/$_.yml" } qw(alerts alerts-hours);
    my ($exit, @output) = run([ 'promtool', 'test', 'rules', @files ], timeout => 300);
    is $exit, 0, "@files" or diag @output;

    my $tests = join '', map { slurp($_) } @files;
    for my $alert (grep { $alerts =~ /^      - alert: $_->{alert}$/m } @alerts) {
        ok index($tests, qq(alertname="$alert->{alert}")) >= 0 || $tests =~ /alertname: $alert->{alert}$/m,
            "$alert->{alert} is tested";
    }

    # The optional rules; and a wrong rule is found.
    my $dir = tmpdir();
    spew("$dir/alerts-all.yml", $all_alerts);
    my $opt_in = <<'YAML';
rule_files: [ alerts-all.yml ]
evaluation_interval: 5m
tests:
  - interval: 5m
    input_series:
      - series: vaani_deliveries_total{instance="a",event="call_ended",result="ok"}
        values: 0 1 2 3x200
      - series: vaani_deliveries_total{instance="a",event="none",result="rejected"}
        values: 0+1x200
    promql_expr_test:
      - expr: ALERTS{alertname="VaaniNoEvents",alertstate="firing"}
        eval_time: 360m
      - expr: ALERTS{alertname="VaaniNoEvents",alertstate="firing"}
        eval_time: 400m
        exp_samples:
          - labels: ALERTS{alertname="VaaniNoEvents",alertstate="firing",severity="warning"}
            value: 1
YAML
    ($exit, @output) = run([ 'promtool', 'test', 'rules', spew("$dir/no-events.yml", $opt_in) ]);
    is $exit, 0, 'VaaniNoEvents' or diag @output;

    ($exit) = run([ 'promtool', 'test', 'rules', spew("$dir/no-events.yml", $opt_in =~ s/400m/300m/r) ]);
    isnt $exit, 0, 'a test can fail';
};

# --- the configuration of Prometheus in docs/monitoring.md

subtest 'the scrape configuration' => sub {
    my ($yaml) = $monitoring =~ /^## Alerts\n.*?^```yaml\n(.*?)^```/ms;
    my $dir = tmpdir();
    spew("$dir/alerts.yml", $alerts);
    my ($exit, @output) = run([ 'promtool', 'check', 'config', spew("$dir/prometheus.yml", $yaml // '') ]);
    is $exit, 0, 'promtool takes it' or diag @output;
    like "@output", qr/\d+ rules found/, '... and the rules that it names';

    my ($job) = $alerts =~ /up\{job="(\w+)"\}/;
    like $yaml, qr/job_name: \Q$job\E$/m, 'the job is that of the alerts';
};

done_testing;
