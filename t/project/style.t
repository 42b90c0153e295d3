# All C is in nginx's style, and the checker finds violations; each test file says in
# its first line what it proves.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use Vaani::Test;

my @c = map { glob ROOT . "/$_" } qw(*.c src/*/*.[ch] src/*/*/*.[ch] t/*.[ch] t/*/*.[ch] t/*/*/*.[ch] bench/*.[ch] bench/*/*.[ch] bench/*/*/*.[ch]);
cmp_ok scalar @c, '>', 60, 'there are sources';

my ($exit, $out, $err) = run([ ROOT . '/tools/style', @c ]);
is "$exit$out$err", '0', 'all of them keep to the style';

my @tests = glob ROOT . '/t/*/*.t';
cmp_ok scalar @tests, '>', 60, 'there are tests';
is_deeply [ grep { slurp($_) !~ /\A# ["\w].{20}/ } @tests ], [], 'each says in its first line what it proves';

my $good = <<'C';

/*
 * What this is about.
 */


#include <stdio.h>


#define LONG(a)                                                               \
    ((a)+1)


static int vaani_one(void);


/* said about it */

static const char *
vaani_two(int a, const char *b,
    size_t c)
{
    int          n;
    size_t       m, k;
    const char  *p;
    char         buf[16];

    for (n = 0; n < a; n++) {

        if (b[n] == '(' && n
            && c > (size_t) n)
        {
            return b;

        } else if (n == 3) {
            p = strchr(b, ',');
        }
    }

    switch (n) {

    case 1:
        return "a,b //";

    default:
        break;
    }

    return vaani_three(n) + sizeof(int);
}
C

sub said_of ($text, $name = 'sample.c') {
    my (undef, $out) = run([ ROOT . '/tools/style', spew(tmpdir() . "/$name", $text) ]);
    return $out;
}

is said_of($good), '', 'good style';

# A change, and the expected complaint.
my @bad = (
    [ sub { s/return b;/'return b;' . ' ' x 70 . 'x;'/e }, '81 columns'                       => 'columns' ],
    [ sub { s/    return b;/\treturn b;/ },                'a tab'                            => 'a tab' ],
    [ sub { s/return b;/return b; / },                     'a blank at the end'               => 'blank at the end' ],
    [ sub { s/return b;/return b;\r/ },                    'a carriage return'                => 'blank at the end' ],
    [ sub { s{return b;}{return b; // why} },              'a comment'                        => 'a // comment' ],
    [ sub { s/b, ','/b,','/ },                             'a comma'                          => 'after a comma' ],
    [ sub { s/return b;/return b ;/ },                     'a semicolon'                      => 'before , or ;' ],
    [ sub { s/strchr\(b/strchr( b/ },                      'a parenthesis'                    => 'after ( or' ],
    [ sub { s/n == 3\) \{/n == 3){/ },                     'a brace'                          => 'between ) and {' ],
    [ sub { s/for \(/for(/ },                              'a keyword'                        => 'after for' ],
    [ sub { s/\} else if/}\n        else if/ },            'else'                             => 'else begins' ],
    [ sub { s/\(size_t\) n/(size_t)n/ },                   'a cast'                           => 'after a cast' ],
    [ sub { s/vaani_three\(n/vaani_three (n/ },            'a call'                           => 'before the arguments' ],
    [ sub { s/ if \(n == 3\) \{/ if (n == 3)\n        {/ }, 'a brace on a line of its own'    => "isn't on the line" ],
    [ sub { s/ n\)\n        \{/ n) {/ },                   'a brace after two lines'          => 'begins no line' ],
    [ sub { s/ \{\n(.*p = .*\n).*/\n$1/ },                 'no brace'                         => 'no { after' ],
    [ sub { s/    for/   for/ },                           'an indentation'                   => 'an indentation of 3' ],
    [ sub { s/    case 1/        case 1/ },                'case'                             => "below its switch" ],
    [ sub { s/static const char \*\nvaani_two\(.*?\)\n/static int vaani_two(int a)\n/s }, 'a type beside the name' => 'lines of their own' ],
    [ sub { s/\n\n\n(?=.. said)/\n\n/ },                   'one empty line before a function' => '1 empty lines before' ],
    [ sub { s/\n\n\n(?=.. said)/\n\n\n\n/ },               'three empty lines'                => 'three empty lines' ],
    [ sub { s/    int          n/    int n/ },             'names that stand anywhere'        => 'below each other' ],
    [ sub { s/(    size_t .*\n)(    const.*\n)/$2$1/ },    'a short type below a long one'    => 'a shorter type' ],
    [ sub { s/\n\z// },                                    'no end of line'                   => 'no end of line' ],
    [ sub { s/\z/\n/ },                                    'an empty line at the end'         => 'an empty line at the end' ],
);

for (@bad) {
    my ($change, $name, $complaint) = @$_;
    my $bad = $good;
    $change->() for $bad;
    isnt $bad, $good, "$name: the sample differs";
    like said_of($bad), qr/^\S+:\d+: .*\Q$complaint\E/m, "... and that is seen";
}

is said_of("\n#ifndef _VAANI_A_H_INCLUDED_\n#define _VAANI_A_H_INCLUDED_\n\n#endif\n", 'a.h'), '', 'a guard';
like said_of("\n#ifndef _VAANI_B_H_INCLUDED_\n#define _VAANI_B_H_INCLUDED_\n\n#endif\n", 'a.h'), qr/no guard/,
    'another file\'s guard';

done_testing;
