# Strict mode: RFC 8259 and nothing else. JSON is accepted and unchanged,
# except for line breaks between tokens, which become spaces. Other texts are
# refused with the position of the error. JSON has the same meaning in lenient
# mode.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

use Vaani::Test::Events;

my $redis = Vaani::Test::Redis->start;
my $client = $redis->client;

my $nginx = Vaani::Test::Nginx->start(http => <<"CONF");
    keepalive_requests 1000000;
    server {
        listen unix:%%SOCK%%;
        vaani_redis @{[ $redis->url ]};
        location = /hook    { vaani_webhook; vaani_validation strict; }
        location = /lenient { vaani_webhook; }
    }
CONF

my $http = $nginx->http;
my $subscriber = $redis->client->subscribe('vaani:events');

# Readable, whatever is in it.
sub printable ($text) {
    my $short = length $text > 100 ? substr($text, 0, 60) . ' ... ' . substr($text, -30) : $text;
    return $short =~ s/([^\x20-\x7e])/sprintf '\\x%02x', ord $1/ger;
}

# The mark shows the first wrong byte of a text.
use constant MARK => '^^';

sub unmark ($marked) {
    my $place = index $marked, MARK;
    die "no mark: $marked\n" if $place < 0;
    substr $marked, $place, length MARK, '';
    return ($marked, $place);
}

# A valid event but for this value of an extra member.
sub around ($text) { return qq({"event":"new_one","room_name":"r","x":$text}) }

sub good_body ($body, $name = printable($body)) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $payload = $body =~ tr/\r\n/  /r;    # in strings there are none

    for my $uri (qw(/hook /lenient)) {
        my $response = $http->post($uri, $body);
        next if $response->body =~ /duplicate/ && $uri eq '/lenient';
        my $message = $response->status == 200 ? $subscriber->next_message(30)->{payload} : '';

        $response->status == 200 && $message =~ /"payload":(.*)\}\z/s && $1 eq $payload
            && index($message, '"repaired"') < 0
            or return fail("$uri: $name")
            || diag $response->status, ' ', $response->body, "\n", printable($message);
    }
    return pass($name);
}

sub bad_body ($marked, $message = '.+', $name = printable($marked)) {
    my ($body, $place) = unmark($marked);
    my $response = $http->post('/hook', $body);

    $subscriber->next_message if $response->status == 200;    # not the next test's

    return ok(
        $response->status == 400 && $response->json->{detail} =~ /^$message at byte $place$/
            && $response->keepalive,
        $name
    ) || diag "wanted: $message at byte $place\n", $response->status, ' ', $response->body;
}

sub good (@texts) { good_body(around($_), 'good: ' . printable($_)) for @texts; return }

sub bad ($message, @marked) {
    bad_body(around($_), $message, 'bad: ' . printable($_)) for @marked;
    return;
}

sub nothing_published () {
    $client->cmd('PUBLISH', 'vaani:events', 'mark');
    return is $subscriber->next_message(30)->{payload}, 'mark', 'nothing bad is published';
}

# Texts, one a line, as they stand.
sub lines ($text) { return split /\n/, $text }

subtest 'numbers' => sub {
    good qw(0 -0 1 -1 9 10 1234567890 0.0 -0.0 0.5 -0.5 1.0 1.50 0e0 0E0 0e+0 0e-0 -0e-0 1e3 1E3 1e+3
        1e-3 1e03 1e00 1.5e10 1.5E+10 -1.5E-10 1e400 -1e400 1e-400 1e99999999999999999999
        123456789012345678901234567890 0.1234567890123456789012345678901234567890);
    good '9' x 1000, '0.' . '0' x 1000, '1e' . '0' x 1000, '-' . '1' x 63 . '.' . '2' x 63;

    bad 'a number must not have leading zeros', qw(0^^0 0^^1 -0^^1 -0^^0 0^^1.5 0^^0e1 0^^9 [0^^0]), '[1,-0^^7]';

    bad 'expected a digit', "1.^^\0", "-^^\x{b2}", lines(<<'END');
-^^
-^^ 1
-^^-
-^^-1
-^^+1
-^^.5
-^^e1
-^^Infinity
-^^NaN
-^^"1"
2.^^
-2.^^
1.^^ 5
1.^^e3
1.^^E3
1.^^.5
1.^^-1
1.^^x
0.^^
1e^^
1E^^
1e+^^
1e-^^
1.5e^^
1e^^ 5
1e^^.5
1e^^e1
1e^^"5"
1e+^^+1
1e-^^x
[1.^^]
[-^^]
[1e^^,2]
{"a":1.^^}
END

    bad 'expected a value', "^^\xef\xbc\x91", "^^\xd9\xa1", "^^\xe2\x88\x921", lines(<<'END');
^^+1
^^+0
^^.5
^^.e1
^^e1
^^E1
^^NaN
^^Infinity
^^INF
^^$1
^^_1
^^x1
^^%1
^^(1)
^^=1
END

    bad 'invalid literal', lines(<<'END');
n^^an
f^^1
t^^1
END

    bad 'expected a comma or a closing brace', "1^^\xc2\xa0", "1^^\0", "0^^\xff", lines(<<'END');
0^^x1
0^^X1F
0^^b1
0^^o7
1^^f
1^^L
1^^_000
1 ^^000
1 ^^.5
1^^'000
1.5^^.5
1e5^^.5
1e5^^e5
1e5^^E5
1^^-1
1^^+1
1^^a
1^^"
1^^%
1^^;
END
};

subtest 'literals' => sub {
    good qw(true false null), '[true,false,null]', ' null ';

    for my $literal (qw(true false null)) {
        for my $n (1 .. length($literal) - 1) {
            my ($start, $end) = (substr($literal, 0, $n), substr $literal, $n);
            bad 'invalid literal', "$start^^", "$start^^" . uc $end, "$start^^ $end", "[$start^^]";
        }
    }

    bad 'expected a value', qw(^^True ^^TRUE ^^False ^^Null ^^NULL ^^None ^^undefined ^^yes);
    bad 'expected a comma or a closing brace', lines(<<'END');
true^^e
true^^1
true^^"
true ^^false
null^^l
null^^null
false^^[
END
};

subtest 'strings: escapes' => sub {
    good lines(<<'END');
""
"\""
"\\"
"\/"
"/"
"\b\f\n\r\t"
"\"\\\/\b\f\n\r\t"
"\\u12"
"\\\u0041"
"\\ud800"
"\u0000"
"\u0001\u001f"
"\u0020\u0022\u005c\u002F"
"\u007f\u0080\u00e9\u00E9\u07ff\u0800"
"\u20AC\uabcd\uABCD\uaBcD"
"\ud7ff\ue000\ufeff\ufffe\uffff"
"\ud800\udc00"
"\ud83d\ude00"
"\uD83D\uDE00"
"\udbff\udfff"
"\ud83d\ude00\ud83d\ude00"
END

    my %legal = map { $_ => 1 } split //, '"\\/bfnrtu';
    bad 'invalid escape', map { (qq("a^^\\$_"), qq("^^\\$_)) } grep { !$legal{$_} } map { chr } 0 .. 255;
    bad 'invalid escape', '"^^\U0041"', '"^^\x41"', '"^^\0"', '"\\\\^^\\a"', "\"^^\\\n\"", "\"^^\\\xe2\x82\xac\"";

    for my $start ('\u', '\u0', '\u00', '\u00a') {
        for my $next (lines(<<'END'), ' ', "\0", "\x1f", "\x7f", "\xc3\xa9", "\xef\xbc\xa1") {
g
G
x
-
+
.
_
{
~
/
:
@
`
\n
\u0041
"
END
            bad 'expected a hexadecimal digit', qq("a$start^^$next");
        }
    }
};

# The grammar allows an escaped one that stands alone; as bytes it is no UTF-8.
subtest 'strings: surrogates' => sub {
    good '"' . 'x' x 50 . '\ud83d"', lines(<<'END');
"\ud800"
"\udbff"
"\udc00"
"\udfff"
"\uD800"
"\uDFFF"
"\udead"
"a\ud800b"
"\ud800 "
"\ud800\n"
"\ud800\\"
"\ud800\u0041"
"\ud800\ud800"
"\ud800\ud800\udc00"
"\ud800\ue000"
"\ud800\udbff"
"\udc00\ud800"
"\udc00\udc00"
"\ud800\udc00\udc00"
"\ud800\udc00\ud800"
"\ud800udc00"
"\ud800\/udc00"
"\ud800 \udc00"
{"\ud800":1}
{"\ud800":1,"\ud801":1,"\udc00":1}
["\ud83d\ude00","\ude00"]
END
    good_body('{"\ud800":1,"event":"new_one","room_name":"r"}');
    bad 'invalid UTF-8', "\"\\ud800^^\xed\xb0\x80\"", "\"^^\xed\xa0\xbd\\ude00\"";
    bad 'invalid escape', '"\ud800^^\x"';
    bad 'expected a hexadecimal digit', '"\ud80^^"', '"\ud800\udc0^^"';

    # U+FFFD each in the hash; the payload is untouched.
    my $transcript = '\ud800|\udc00|\ud800\ud800|\udc00\ud800|\ud83d\ude00\ud83d|\ud800\ud83d\ude00|\ud800x';
    my $fffd = "\xef\xbf\xbd";
    good_body(event('call_postprocessing', room => 'half', transcript => \"\"$transcript\""));
    is $client->cmd('HGET', 'vaani:call:half', 'transcript'),
        "$fffd|$fffd|$fffd$fffd|$fffd$fffd|\xf0\x9f\x98\x80$fffd|$fffd\xf0\x9f\x98\x80|${fffd}x", 'in the hash';

    # Not in a name.
    for my $uri (qw(/hook /lenient)) {
        is $http->post($uri, qq({"event":"new_one\\udc00","room_name":"r"}))->json->{field}, '/event', "$uri: event";
        is $http->post($uri, qq({"event":"call_ended","room_name":"\\ud800","call_duration":1}))->json->{field}, '/room_name',
            "$uri: room_name";
    }
};

subtest 'strings: control characters' => sub {
    my @controls = map { chr } 0 .. 0x1f;
    my $message = 'a control character in a string must be escaped';

    # The scan takes eight bytes at a time: every place in them.
    for my $n (0 .. 9, 16, 63) {
        my $before = 'x' x $n;
        bad $message, map { (qq("$before^^$_"), qq("$before^^${_}xxxxxxxxxxxx")) } @controls;
    }
    bad $message, map { qq({"a^^$_":1}) } @controls;
    bad_body(qq({"event":"new_one","room_name":"r","a^^$_":1}), $message) for @controls;
    bad_body(qq({"event":"new_one","room_name":"a^^$_"}), $message) for @controls;

    good map { qq("$_") } "\xc2\x80\xc2\x9f", "\xe2\x80\xa8\xe2\x80\xa9", grep { !/["\\]/ } map { chr } 0x20 .. 0x7f;
};

subtest 'UTF-8' => sub {
    my @good = (
        "\xc2\x80", "\xc3\xa9", "\xdf\xbf", "\xe0\xa0\x80", "\xe2\x82\xac", "\xed\x9f\xbf", "\xee\x80\x80",
        "\xef\xbb\xbf", "\xef\xbf\xbd", "\xef\xbf\xbe", "\xef\xbf\xbf", "\xf0\x90\x80\x80", "\xf0\x9f\x98\x80",
        "\xf3\xb0\x80\x80", "\xf4\x8f\xbf\xbf",
    );
    my @bad = (
        map({ chr } 0x80 .. 0xc1, 0xf5 .. 0xff),         # never a first byte
        map({ chr } 0xc2, 0xdf, 0xe0, 0xe1, 0xed, 0xef, 0xf0, 0xf1, 0xf4),    # cut
        "\xc3a", "\xc3\xc3\xa9", "\xe2\x82", "\xe2\x82a", "\xe2a\x82", "\xf0\x9f\x98", "\xf0\x9f\x98a",
        "\xf0\x9f", "\xf0\x9fa\x98", "\xc3\x5c\xa9", "\xc3\x7f", "\xe2\x82\xc0", "\xf0\x9f\x98\xc0",
        "\xc0\x80", "\xc0\xaf", "\xc1\xbf",                              # overlong
        "\xe0\x80\x80", "\xe0\x80\xaf", "\xe0\x9f\xbf", "\xf0\x80\x80\x80", "\xf0\x80\x80\xaf",
        "\xf0\x8f\xbf\xbf", "\xf8\x88\x80\x80\x80", "\xfc\x84\x80\x80\x80\x80",
        "\xed\xa0\x80", "\xed\xad\xbf", "\xed\xaf\xbf", "\xed\xb0\x80", "\xed\xbf\xbf",    # surrogates
        "\xed\xa0\xbd\xed\xb8\x80",
        "\xf4\x90\x80\x80", "\xf4\xbf\xbf\xbf", "\xf7\xbf\xbf\xbf",      # above U+10FFFF
    );

    for my $n (0 .. 9) {
        my $before = 'x' x $n;
        good map { (qq("$before$_"), qq("$before${_}xxxxxxxxxxxx")) } @good;
        bad 'invalid UTF-8', map { (qq("$before^^$_"), qq("$before^^${_}xxxxxxxxxxxx")) } @bad;
    }
    bad 'invalid UTF-8', map { ("{\"^^$_\":1}", "\"\xf0\x9f\x98\x80^^$_\"") } @bad;
    bad_body(qq({"event":"new_one","room_name":"r","^^$_":1}), 'invalid UTF-8') for @bad;
    bad_body(qq({"event":"new_one","room_name":"^^$_"}), 'invalid UTF-8') for @bad;
    bad_body(qq({"event":"new_one","room_name":"r","x":"^^$_), 'invalid UTF-8') for @bad;    # its end, too

    bad '.+', map { ("^^$_", "[1,^^$_]", "[1^^$_]", "{^^$_}", "{\"a\"^^$_:1}") } @good, @bad;
};

subtest 'between the tokens' => sub {
    my @parts = ('', '{', '"event"', ':', '"new_one"', ',', '"room_name"', ':', '"r"', ',', '"x"', ':', '[',
        '1', ',', '{', '"a"', ':', 'null', '}', ',', '"b"', ']', '}', '');

    for my $space (' ', "\t", "\n", "\r", "\r\n", " \t\r\n" x 5) {
        my $name = printable($space);
        good_body(join($space, @parts), "everywhere: $name");
    }

    for my $bad (
        "\0", "\x01", "\b", "\x0b", "\f", "\x1b", "\x1c", "\x1f", "\x7f", "\x85", "\xa0", "\xc2\x85", "\xc2\xa0",
        "\xe1\x9a\x80", "\xe2\x80\x83", "\xe2\x80\xa8", "\xe3\x80\x80", "\xef\xbb\xbf", "\xff",
        '/**/', '//', '#', "\\n", ';', '()',
    ) {
        for my $i (0 .. $#parts - 1) {
            my ($before, $after) = (join('', @parts[ 0 .. $i ]), join '', @parts[ $i + 1 .. $#parts ]);
            bad_body($before . MARK . $bad . $after);
            bad_body("$before \n" . MARK . "$bad\t$after");
        }
    }
};

subtest 'structure' => sub {
    good '{}', '[]', '[[]]', '[{}]', '{"a":{}}', '{"":0}', '{"a":1,"b":[1,2,{"c":[]}]}', '[[],[],{},""]',
        '{"a":1,"a":2}', '[{"a":1,"a":1}]', '{"\u0061":1,"a":2}', '{"event":1,"room_name":2}';

    bad '.+', lines(<<'END');
^^
 ^^
^^)
^^}
^^]
^^,
^^:
^^'
^^'a'
^^`
^^<a>
^^@
^^\
^^\u0022
{^^,}
{^^,"a":1}
{"a"^^}
{"a"^^,1}
{"a" ^^1}
{"a"^^=1}
{"a"^^=>1}
{"a"^^"b"}
{"a":^^}
{"a":^^:1}
{"a":^^,}
{"a":1,^^}
{"a":1,^^,"b":2}
{"a":1^^:2}
{"a":1^^]
{"a":1^^"b":2}
{"a":1 ^^"b":2}
{"a":1^^;"b":2}
{"a":1^^{}}
{"a":1}^^{"b":2}
{^^a:1}
{^^'a':1}
{^^1:1}
{^^null:1}
{^^[]:1}
{^^{}:1}
{"a":1,"b":2^^]
[^^,]
[^^,1]
[1,^^]
[1,^^,2]
[1^^:2]
[1^^}
[1 ^^2]
[1^^"2"]
[[1^^}
["a"^^:1]
[]^^[]
[1.^^..3]
[1,2^^
""^^""
"a" ^^+ "b"
END
};

subtest 'every prefix' => sub {
    # Of all kinds of tokens, without a pair of surrogates.
    my $body = "\t" . '{"event":"new_one","room_name":"r","x":[-10.50e+7,true,false,null,{},[],'
        . "\"a\\u00e9\\n\\\\ \xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80\",{\"k\\u0000\":{\"l\":0}}] }";
    good_body($body);

    for my $length (1 .. length($body) - 1) {
        my $prefix = substr $body, 0, $length;

        # A character that is cut off is what is wrong then.
        my $cut = $prefix =~ s/([\xc0-\xff][\x80-\xbf]*)\z//
            && length $1 < ($1 lt "\xe0" ? 2 : $1 lt "\xf0" ? 3 : 4) ? $1 : undef;

        defined $cut
            ? bad_body($prefix . MARK . $cut, 'invalid UTF-8')
            : bad_body(substr($body, 0, $length) . MARK, 'unexpected end of data');
    }
    bad_body(around('"\ud83d\ude0') =~ s/\}\z/^^/r, 'unexpected end of data');
    bad_body('{"x":"\ud83d^^', 'unexpected end of data');
};

subtest 'before and after' => sub {
    my $body = around(1);
    my $bom = "\xef\xbb\xbf";

    good_body(" \t\r\n$body \t\r\n");

    bad_body(MARK . $_ . $body) for $bom, "\xfe\xff", "\xff\xfe", "\0", ',', ')]}\'', '/', "\x1e", "\x0b";
    bad_body("\n" . MARK . $bom . $body);
    bad_body($_) for MARK . $bom, '{' . MARK . "\0";
    bad_body($body . MARK . $_, 'unexpected data after the value')
        for 'x', '}', ']', ',', '{}', $body, '1', '"', "\0", $bom, "\xff", "\f", "\x0b", ';', '//', "\xc2\xa0";
    bad_body("$body \n" . MARK . $body, 'unexpected data after the value');

    my $utf16 = join '', map { ($_, "\0") } split //, $body;
    bad_body('{' . MARK . substr $utf16, 1);    # little endian
    bad_body(MARK . "\0$utf16");
};

subtest 'nesting' => sub {
    my %kinds = (
        arrays  => [ '[',         ']' ],
        objects => [ '{"a":',     '}' ],
        both    => [ '[{"a":',    '}]' ],
        wide    => [ '[[],{},',   ']' ],    # one more, beside the others
    );

    # The event itself is one level.
    for my $kind (sort keys %kinds) {
        my ($open, $close) = @{ $kinds{$kind} };
        my $levels = $kind eq 'both' ? 2 : 1;

        for my $depth (2, 63, 64, 65, 127, 128, 129, 255, 256, 257, 511, 512) {
            my $times = int(($depth - 1) / $levels);
            my $rest = ($depth - 1) % $levels;
            my $inside = $rest ? '[]' : $kind eq 'arrays' ? '' : '0';
            $times-- if $kind eq 'wide';
            good_body(around($open x $times . $inside . $close x $times), "$kind, $depth deep");
        }
    }

    my $message = 'nested too deeply';
    bad_body(around('[' x 511 . '^^[' . ']' x 512), $message, 'arrays, 513 deep');
    bad_body(around('{"a":' x 511 . '^^{' . '}' x 512), $message, 'objects, 513 deep');
    bad_body(around('[{"a":' x 255 . '[^^{}]' . '}]' x 255), $message, 'both, 513 deep');
    bad_body(around('[' x 511 . '^^['), $message, 'not even closed');
    bad_body(around('[' x 511 . '^^[' . '[' x 100_000), $message, 'much too deep');
    bad_body('[' x 512 . '^^[' . ']' x 513, $message, 'from the top');
    bad_body('{"a":' x 512 . '^^{', $message, 'from the top, objects');

    # Levels next to each other do not add up.
    good_body(around('[' . join(',', ('[' x 510 . ']' x 510) x 100) . ']'), 'many, each 512 deep');
    good_body(around('[' . join(',', ('[]') x 10_000) . ']'), 'ten thousand, flat');
};

subtest 'keys' => sub {
    my $message = 'duplicate key';
    my $event = '"event":"new_one","room_name":"r"';

    good_body("{$event,$_}") for '"a":1,"A":1,"a ":1," a":1', '"":1," ":1', '"a\u0000":1,"a":1,"a\u0000b":1',
        '"\u0000":1,"\u0000\u0000":1', "\"\xc3\xa9\":1,\"e\xcc\x81\":2", '"a":{"a":{"a":1}}', '"x":{"y":1},"y":1',
        '"x":{"event":1,"room_name":1}', '"Event":1,"EVENT":1,"room-name":1',
        '"a/b":1,"a\\\\/b":1', '"\\\\u0061":1,"a":2';

    bad_body("{$event,$_}", $message) for '"a":1,^^"a":1', '"a":1,"b":1,^^"a":2,"a":3', '"":1,^^"":1',
        '^^"event":"new_one"', '^^"room_name":"r"', '"a":{},^^"a":[]', '"a":[1,{"b":2}],"b":1,^^"a":1',
        '"a":1,^^"\u0061":1', '"\u0061":1,^^"a":1', '"\u0061":1,^^"\u0061":2', '^^"\u0065vent":1',
        '^^"room\u005fname":1', '^^"\u0072\u006f\u006f\u006d\u005F\u006E\u0061\u006d\u0065":1',
        '"a\u0000":1,^^"a\u0000":1', '"\/":1,^^"/":1', '"\"":1,^^"\u0022":1', '"\n":1,^^"\u000a":1',
        "\"\\u00e9\":1,^^\"\xc3\xa9\":1", "\"\xf0\x9f\x98\x80\":1,^^\"\\ud83d\\uDE00\":1", '"a":1 , ^^"a" : 1';
    bad_body('{"event":"new_one",^^"event":"new_one"}', $message);
    bad_body('{"\u0065vent":"new_one","room_name":"r",^^"event":"call_ended"}', $message);

    # Around the number of members that are kept without more memory, and many.
    for my $n (1 .. 35, 63 .. 65, 127 .. 129, 4093) {
        my @members = map { qq("k$_":$_) } 1 .. $n;
        my $all = join ',', @members;
        my $name = "$n more keys";

        good_body("{$event,$all}", $name);
        bad_body("{$event,$all,^^\"k1\":0}", $message, "$name, the first again");
        bad_body("{$event,$all,^^\"k$n\":0}", $message, "$name, the last again");
        bad_body("{$event,$all,^^\"\\u006b$n\":0}", $message, "$name, spelled in another way");
        bad_body("{$all,$event,^^\"event\":\"x\"}", $message, "$name, event again");
        bad_body("{$event,$all,^^\"event\":\"x\",$all}", $message, "$name, all again") if $n < 2048;
    }
    good_body('{' . join(',', map { qq("\\u006b\\u0065y$_":"\\u0076") } 1 .. 4094) . ",$event}", '4094 escaped keys');
    good_body('{' . join(',', map { '"' . 'k' x $_ . '":1' } 1 .. 1000) . ",$event}", 'keys of all lengths');
};

subtest 'what is said with escapes is the same' => sub {
    my $body = '{"\u0065vent":"call\u005fpostprocessing","room\u005fname":"r\u00e9um","call_d\u0075ration":1500,'
        . '"transcr\u0069pt":"a\u0000b\u0000","summar\u0079":"\u0000","recording_url":"https:\/\/x\u002fy",'
        . '"entiti\u0065s":{"\u0000":"\u0000"}}';
    good_body($body);

    my $call = $client->hgetall("vaani:call:r\xc3\xa9um");
    is $call->{transcript}, "a\0b\0", 'transcript with U+0000, whole';
    is $call->{summary}, "\0", 'nothing but U+0000';
    is $call->{recording_url}, 'https://x/y', 'recording_url';
    is $call->{entities}, '{"\u0000":"\u0000"}', 'entities as JSON text';
    is $call->{call_duration_ms}, 1500, 'call_duration';
    is $call->{room_name}, "r\xc3\xa9um", 'room_name';
    is $call->{last_event}, 'call_postprocessing', 'event';

    my $long = ('x' x 5000 . "\0") x 200;
    good_body(event('call_postprocessing', room => 'long', transcript => $long), 'a long one with U+0000');
    ok $client->cmd('HGET', 'vaani:call:long', 'transcript') eq $long, '... is kept whole';
};

nothing_published();
ok $nginx->stop, 'stop';

done_testing;
