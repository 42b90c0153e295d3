# Each page as GitHub shows it: anchors and links lead somewhere, tables have all their
# cells, Mermaid draws the diagrams, callouts are callouts, and nothing is dropped.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';
use utf8;

use Encode ();
use File::Basename qw(dirname);
use File::Path qw(make_path);
use FindBin;
use JSON::PP ();
use Vaani::Test;
use Vaani::Test::Browser;

binmode $_, ':encoding(UTF-8)' for Test::More->builder->output, Test::More->builder->failure_output;

use constant MODULES => ROOT . '/build/markdown';    # see deps-markdown

my $json = JSON::PP->new->utf8->allow_nonref;

sub lint ($root, @pages) {
    my ($exit, $out, $err) = run([ $ENV{NODE_BIN} || 'node', "$FindBin::Bin/markdown/lint.mjs", MODULES, $root, @pages ], timeout => 300);
    die "\"make deps-markdown\" installs what this needs:\n$err\n" if $exit;
    return $json->decode($out);
}

# --- Mermaid itself, in a browser

my $mermaid = MODULES . '/node_modules/mermaid/dist/mermaid.min.js';
my $browser = Vaani::Test::Browser->start(timeout => 120);
$browser->open('file://' . spew(tmpdir() . '/mermaid.html', Encode::encode('UTF-8', <<"HTML")));
<!DOCTYPE html><meta charset="utf-8"><title>Mermaid</title><body>
<script src="file://$mermaid"></script>
HTML
is $browser->run('typeof mermaid'), 'object', 'Mermaid is there' or BAIL_OUT('"make deps-markdown" installs Mermaid');
$browser->run('mermaid.initialize({ startOnLoad: false, securityLevel: "strict", suppressErrorRendering: true })');

my $number = 0;

# The error of a diagram, '' if there is none.
sub diagram ($text) {
    my $quoted = $json->encode($text);
    my $id = 'd' . ++$number;
    return $browser->run("mermaid.render('$id', " . Encode::decode('UTF-8', $quoted)
        . ").then(({ svg }) => /<(?:path|line|rect)\\b/.test(svg) ? '' : 'nothing is drawn', (e) => String(e.message || e) || 'failed')");
}

# --- the pages

# All of them, but what is built or installed.
my @pages = sort map { s{^\./}{}r } split /\n/,
    (run([ qw(find . ( -name build -o -name node_modules -o -name .git ) -prune -o -name *.md -print) ], dir => ROOT))[1];
cmp_ok scalar @pages, '>', 20, 'there are pages';

my $all = lint(ROOT, @pages);

for my $page (@pages) {
    my @wrong = map { "$page:$_->{line}: $_->{rule}: $_->{text}" } grep { $_->{page} eq $page } @{ $all->{problems} };
    is scalar @wrong, 0, $page or diag join "\n", @wrong;
}

cmp_ok $all->{counts}{$_} // 0, '>', 4, "there are things to look at: $_"
    for qw(one-h1 heading-level contents table-cells link anchor fence callout html);

cmp_ok scalar @{ $all->{diagrams} }, '>=', 3, 'there are diagrams';
is diagram($_->{text}), '', "$_->{page}:$_->{line}: Mermaid draws it" for @{ $all->{diagrams} };

# --- each check is able to find what it looks for

# A page for each case; the lines that end with "#BAD" are those with a problem.
my $contents = join "\n", '# Page', '', 'Text.', '', '- [One](#one)', '', '## One', ('', 'Text.') x 100, '', '## Two #BAD', '', 'Text.';

my @cases = (
    [ 'one-h1', 'no heading', "#BAD\nText.\n" ],
    [ 'one-h1', 'two of level 1', "# One\n\n# Two #BAD\n" ],
    [ 'one-h1', 'level 1 comes later', "## Zero #BAD\n\n# One\n" ],
    [ 'heading-level', 'a level is left out', "# One\n\n### Three #BAD\n\n## Two\n\n### Three, again\n" ],
    [ 'heading-twice', 'a heading twice', "# One\n\n## Two\n\n## Two #BAD\n" ],
    [ 'heading-empty', 'a heading without a text', "# One\n\n## #BAD\n" ],
    [ 'contents', 'a section that has no link at the top', $contents ],
    [ 'table-cells', 'too few cells', "# One\n\n| a | b |\n|---|---|\n| 1 | 2 |\n| 1 | #BAD\n" ],
    [ 'table-cells', 'too many cells', "# One\n\n| a | b |\n|---|---|\n| 1 | 2 | 3 | #BAD\n" ],
    [ 'table-cells', '"|" in code', "# One\n\n| a | b |\n|---|---|\n| `on | off` | 2 | #BAD\n| `on \\| off` | 2 |\n" ],
    [ 'table-cells', 'text right below', "# One\n\n| a |\n|---|\n| 1 |\nText. #BAD\n" ],
    [ 'table-broken', 'a second line of other cells', "# One\n\n| a | b | #BAD\n|---|\n| 1 | 2 |\n" ],
    [ 'callout', 'an unknown kind', "# One\n\n> [!DANGER] #BAD\n> Text.\n" ],
    [ 'callout', 'in small letters', "# One\n\n> [!note] #BAD\n> Text.\n" ],
    [ 'callout', 'with text behind it', "# One\n\n> [!NOTE] Text. #BAD\n" ],
    [ 'callout', 'in a list', "# One\n\n- Text.\n\n  > [!NOTE] #BAD\n  > Text.\n" ],
    [ 'callout', 'empty', "# One\n\n> [!NOTE] #BAD\n" ],
    [ 'html', 'a placeholder', "# One\n\nThe key vaani:call:<room> is it. #BAD\n" ],
    [ 'html', 'a script', "# One\n\n<script>alert(1)</script> #BAD\n" ],
    [ 'html', 'a style', "# One\n\n<p style=\"color: red\">Text.</p> #BAD\n" ],
    [ 'image', 'no such image', "# One\n\n![a text](none.png) #BAD\n" ],
    [ 'image', 'no such image, in HTML', "# One\n\n<img src=\"none.png\" alt=\"a text\"> #BAD\n" ],
    [ 'image-alt', 'no text', "# One\n\n![](dot.png) #BAD\n" ],
    [ 'image-alt', 'no text, in HTML', "# One\n\n<img src=\"dot.png\"> #BAD\n" ],
    [ 'fence', 'no end', "# One\n\n```sh #BAD\nls\n" ],
    [ 'link', 'no such page', "# One\n\n[a](none.md) #BAD\n" ],
    [ 'link', 'the wrong case', "# One\n\n[a](Other.md) #BAD\n" ],
    [ 'link', 'out of the repository', "# One\n\n[a](../x.md) #BAD\n" ],
    [ 'link', 'an absolute path', "# One\n\n[a](/other.md) #BAD\n" ],
    [ 'link', 'http', "# One\n\n[a](http://example.com/) #BAD\n" ],
    [ 'link', 'a name that is nowhere', "# One\n\n[a][nowhere] #BAD\n" ],
    [ 'link', 'a blank in it', "# One\n\n[a] (other.md) #BAD\n" ],
    [ 'anchor', 'no such heading', "# One\n\n[a](#none) #BAD\n" ],
    [ 'anchor', 'no such heading of another page', "# One\n\n[a](other.md#none) #BAD\n" ],
    [ 'anchor', 'capitals', "# One\n\n[a](other.md#A-section-of-code) #BAD\n" ],
    [ 'anchor', 'of no page', "# One\n\n[a](dot.png#x) #BAD\n" ],
    [ 'anchor', 'ambiguous', "# One\n\n## A\n\n### X\n\n## B\n\n### X\n\n[a](#x-1) #BAD\n" ],
    [ '', 'nothing wrong', <<'PAGE' ],
# One

[a](#two-and-a-half), [b](other.md#a-section-of-code), [c](other.md#vaani_x), [d](https://example.com/), [e][name],
[f](other.md), [g](sub/).

[name]: other.md "a definition"

<!-- a comment with <script> -->

## Two and a `half`!

> [!WARNING]
> Text with a `[x][y]` and \<words>.

![a dot](dot.png)
<img src="dot.png" alt="a dot" width="10"><br>

| a | b \| c | d |
|---|:-:|---|
| `x \| y` | | \\ |
| | 2 | <br> |

~~~ text
```
[not](a-link.md) <nor> HTML
~~~

- | this | is | no table

```mermaid
flowchart LR
    a --> b
```
PAGE
);

my $root = tmpdir() . '/pages';
make_path("$root/sub");
spew("$root/other.md", "# Other\n\n## A section, of `code`\n\n### `\$vaani_x`\n");
spew("$root/dot.png", 'PNG');

my (@names, %expected);
for my $case (@cases) {
    my ($rule, $name, $text) = @$case;
    my $page = sprintf 'case-%02d.md', scalar @names;
    push @names, $page;

    my @lines = split /\n/, $text;
    $expected{$page} = [ map { "$_:$rule" } grep { $lines[ $_ - 1 ] =~ /#BAD$/ } 1 .. @lines ];
    spew("$root/$page", Encode::encode('UTF-8', $text =~ s/ ?#BAD$//mgr));
}

my $found = lint($root, @names);
for my $i (0 .. $#cases) {
    my ($rule, $name) = @{ $cases[$i] };
    my @got = map { "$_->{line}:$_->{rule}" } grep { $_->{page} eq $names[$i] } @{ $found->{problems} };
    is join(' ', @got), join(' ', @{ $expected{ $names[$i] } }), ($rule || 'none') . ": $name";
}

is scalar @{ $found->{diagrams} }, 1, 'the diagram is found';
is diagram($found->{diagrams}[0]{text}), '', '... and is drawn';
like diagram("flowchart LR\n    a --> (\n"), qr/error/i, 'a wrong diagram is not';
like diagram("flowchrt LR\n    a --> b\n"), qr/\S/, '... nor one of no kind';
like diagram("sequenceDiagram\n    A->>B\n"), qr/error/i, '... nor a sequence with a wrong line';

done_testing;
