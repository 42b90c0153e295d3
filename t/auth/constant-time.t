# The cost of a refusal does not depend on how nearly correct a guess was. Time
# cannot be measured on a shared machine: the test counts the instructions of
# the comparisons, and the bytes that go into the MACs.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

use Vaani::Test::Signing;
use Vaani::Test::Wrapper;

my $src = ROOT . '/src/core';

# Calls that differ in one place each, of one length; valgrind writes down after
# each of them how many instructions it took.
my $COMPARISONS = <<'END_OF_SOURCE';
    #include <string.h>
    #include "vaani_signature.h"

    enum { LEN = 64, CALLS = LEN + 8 };

    volatile unsigned  equal;

    static void
    make(unsigned char *text, int n)
    {
        static const char  others[] = "0\377A-_+";

        memset(text, n >= LEN && n < LEN + 6 ? others[n - LEN] : 'a', LEN);

        if (n < LEN) {
            text[n] = 'b';
        }
    }

    int
    main(void)
    {
        int                       n, kind;
        unsigned char             text[LEN], good[LEN], header[LEN + 3];
        vaani_str_t               value, expected;
        vaani_signature_format_t  format;
        static vaani_token_t      token;

        memset(good, 'a', LEN);
        memset(token.data, 'a', LEN);
        token.len = LEN;

        for (n = 0; n < CALLS; n++) {
            make(text, n);
            value.data = text;
            value.len = LEN;
            equal += vaani_token_equal(&token, &value);
        }

        memset(&format, 0, sizeof(format));
        format.prefix.data = (const u_char *) "v1=";
        format.prefix.len = 3;
        format.separator = ',';
        memcpy(header, "v1=", 3);

        value.data = header;
        value.len = sizeof(header);
        expected.data = good;
        expected.len = LEN;

        static const vaani_signature_encoding_e  encodings[] = {
            VAANI_SIGNATURE_BASE64, VAANI_SIGNATURE_HEX,
            VAANI_SIGNATURE_BASE64_ANY, VAANI_SIGNATURE_HEX
        };

        /* the last one as Vaani's own: the prefix may be missing */

        for (kind = 0; kind < 4; kind++) {
            format.encoding = encodings[kind];
            format.bare = (kind == 3);
            format.any_case = (kind == 3);

            for (n = 0; n < CALLS; n++) {
                make(header + 3, n);
                equal += vaani_signature_match(&format, &value, &expected);
            }
        }

        /* two of each kind, and in hexadecimal "A" is "a" */

        return equal == 12 ? 0 : 1;
    }
END_OF_SOURCE

use constant CALLS => 72;

subtest 'comparisons' => sub {
    spew(tmpdir() . '/compare.c', $COMPARISONS);

    for my $cc (qw(gcc clang)) {
        # -z now: the first call of memcmp() must not look for it.
        my $program = tmpdir() . "/compare-$cc";
        my ($exit, @output) = run([
            $cc, qw(-std=gnu99 -O2 -gdwarf-4), '-Wl,-z,now', "-I$src", '-o', $program, tmpdir() . '/compare.c',
            "$src/vaani_signature.c",
        ]);
        is $exit, 0, "$cc compiles" or diag(@output), next;

        for my $case ([ vaani_token_equal => 'tokens' ], [ vaani_signature_match => 'base64', 'hexadecimal', 'any base64', q(Vaani's own) ]) {
            my ($function, @kinds) = @$case;

            ($exit, @output) = run([
                qw(valgrind -q --tool=callgrind), "--toggle-collect=$function", "--dump-after=$function",
                "--callgrind-out-file=$program-$function", $program,
            ]);
            is $exit, 0, '... and what is equal is' or diag(@output), next;

            my @counts = map { slurp("$program-$function.$_") =~ /^totals: (\d+)/m } 1 .. CALLS * @kinds;
            is @counts, CALLS * @kinds, "$function: each call is counted" or next;

            for my $kind (@kinds) {
                my %seen = map { ($_ => 1) } splice @counts, 0, CALLS;
                is keys %seen, 1, "$kind: wherever the difference is, as many instructions"
                    or diag join ' ', sort { $a <=> $b } keys %seen;
                cmp_ok +(sort keys %seen)[0], '>', 64, '... which is a look at each byte';
            }
        }
    }
};

# --- the MACs of nginx

my $COUNTER = <<'END_OF_SOURCE';
    #include <dlfcn.h>
    #include <fcntl.h>
    #include <stddef.h>
    #include <stdlib.h>
    #include <sys/mman.h>

    /* shared by all processes of nginx, and the test reads the file */

    static long  *counts;

    __attribute__((constructor)) static void
    start(void)
    {
        char  *path = getenv("HMAC_COUNTS");
        int    fd = path ? open(path, O_RDWR) : -1;

        if (fd != -1) {
            counts = mmap(NULL, 2 * sizeof(long), PROT_READ|PROT_WRITE,
                          MAP_SHARED, fd, 0);
        }
    }

    int
    HMAC_Update(void *ctx, const unsigned char *data, size_t len)
    {
        static int  (*next)(void *, const unsigned char *, size_t);

        if (next == NULL) {
            next = dlsym(RTLD_NEXT, "HMAC_Update");
        }
        counts[0] += len;
        return next(ctx, data, len);
    }

    int
    HMAC_Final(void *ctx, unsigned char *md, unsigned int *len)
    {
        static int  (*next)(void *, unsigned char *, unsigned int *);

        if (next == NULL) {
            next = dlsym(RTLD_NEXT, "HMAC_Final");
        }
        counts[1]++;
        return next(ctx, md, len);
    }
END_OF_SOURCE

subtest 'MACs' => sub {
    plan skip_all => 'not with a sanitizer' if !may_preload();
    my $library = preloadable(counter => $COUNTER);
    ok defined $library, 'the counter compiles' or return;
    my $counts = spew(tmpdir() . '/counts', "\0" x 16);

    my ($one, $two, $other) = map { webhook_secret() } 1 .. 3;
    my ($key, $next, $token) = map { token_secret() } 1 .. 3;

    local $ENV{NGINX_WRAPPER} = with_wrapper("env HMAC_COUNTS=$counts LD_PRELOAD=$library");
    my $nginx = Vaani::Test::Nginx->start(http => <<"CONF");
        server {
            listen unix:%%SOCK%%;
            location = /webhook { vaani_webhook; vaani_secret $one $two; }
            location = /timed   { vaani_webhook; vaani_signature X-Signature secret=$key timestamp=t; }
            location = /plain   { vaani_webhook; vaani_signature X-Signature secret=$key; }
            location = /other   { vaani_webhook; vaani_signature X-Signature secret=$key secret=$next timestamp=\$http_x_time; }
            location = /base64  { vaani_webhook; vaani_signature X-Signature secret=$key encoding=base64 prefix=sig:; }
            location = /own     { vaani_webhook; vaani_signature vaani secret=$key secret=$next; }
            location = /timely  { vaani_webhook; vaani_signature vaani secret=$key timestamp=required; }
            location = /token   { vaani_webhook; vaani_secret $one; vaani_token \$http_x_token $token; }
        }
CONF
    my $http = $nginx->http;
    my ($now, $body) = (time, '[]');

    my $work = sub ($uri, %headers) {
        delete @headers{ grep { !defined $headers{$_} } keys %headers };
        my @before = unpack 'qq', slurp($counts);
        my $status = $http->post($uri, $body, %headers)->status;
        my @after = unpack 'qq', slurp($counts);
        return join ' ', $status, $after[0] - $before[0], $after[1] - $before[1];
    };

    my $id = 'msg_1';
    my %good = webhook_headers($two, $body, id => $id, timestamp => $now);
    my $bytes = 2 * length "$id.$now.$body";
    is $work->('/webhook', %good), "422 $bytes 2", 'a right one: both secrets are tried';
    is $work->('/webhook', webhook_headers($one, $body, id => $id, timestamp => $now)), "422 $bytes 2",
        '... also if the first is right';

    my %signature = ('no signature' => undef, 'nonsense' => 'x', 'a near miss' => $good{'webhook-signature'} =~ s/.$/+/r,
        'that of another' => webhook_signature($other, $id, $now, $body), 'a hundred' => 'v1,x ' x 100);
    is $work->('/webhook', %good, 'webhook-signature' => $signature{$_}), "401 $bytes 2", "$_ takes the same"
        for sort keys %signature;
    is $work->('/webhook', %good, 'webhook-timestamp' => $now - 1000), "401 $bytes 2", 'too old, of another time';
    is $work->('/webhook', webhook_headers($two, $body, id => $id, timestamp => $now - 1000)), "401 $bytes 2", 'too old';
    is $work->('/webhook', webhook_headers($two, $body, id => $id, timestamp => substr("x$now", 0, 10))), "401 $bytes 2",
        'no time';

    # Less is read only where less was sent.
    is $work->('/webhook', %good, 'webhook-id' => undef), '401 ' . 2 * length(".$now.$body") . ' 2', 'no id';
    is $work->('/webhook', %good, 'webhook-timestamp' => undef), '401 ' . 2 * length("$id..$body") . ' 2', 'no timestamp';
    is $work->('/webhook'), '401 ' . 2 * length("..$body") . ' 2', 'nothing at all';

    my $sign = sub ($t) { 'X-Signature', "t=$t,v1=" . hex_signature($key, "$t.$body") };
    $bytes = length "$now.$body";
    is $work->('/timed', $sign->($now)), "422 $bytes 1", 'with a time: right';
    is $work->('/timed', $sign->($now - 1000)), "401 $bytes 1", '... stale';
    is $work->('/timed', 'X-Signature' => "t=$now,v1=x"), "401 $bytes 1", '... wrong';
    is $work->('/timed', 'X-Signature' => "t=$now"), "401 $bytes 1", '... without a signature';
    is $work->('/timed', 'X-Signature' => 'x'), '401 ' . length(".$body") . ' 1', '... without a time';
    is $work->('/timed'), '401 ' . length(".$body") . ' 1', '... without anything';

    is $work->('/plain', 'X-Signature' => hex_signature($key, $body)), '422 2 1', 'of the body alone: right';
    is $work->('/plain', 'X-Signature' => $_), '401 2 1', '... ' . ($_ // 'none') for undef, 'x', '0' x 64;

    # Under Svix's names.
    my %svix = map { ($_ =~ s/^webhook/svix/r => $good{$_}) } keys %good;
    $bytes = 2 * length "$id.$now.$body";
    is $work->('/webhook', %svix), "422 $bytes 2", 'of Svix: right';
    is $work->('/webhook', %svix, 'svix-signature' => $_), "401 $bytes 2", '... wrong' for 'x', $signature{'a near miss'};
    is $work->('/webhook', %svix, 'svix-timestamp' => $now - 1000), "401 $bytes 2", '... too old';
    is $work->('/webhook', %svix, %good, 'webhook-signature' => 'v1,x'), "401 $bytes 2", '... not beside the others';

    # A time of its own header.
    my $hex = sub ($t, $k = $next) { hex_signature($k, "$t.$body") };
    $bytes = 2 * length "$now.$body";
    is $work->('/other', 'X-Time' => $now, 'X-Signature' => $hex->($now, $_)), "422 $bytes 2", 'the time in a header: right'
        for $key, $next;
    is $work->('/other', 'X-Time' => $now, 'X-Signature' => $_), "401 $bytes 2", '... ' . ($_ // 'no signature')
        for undef, 'x', '0' x 64, $hex->($now, $token);
    is $work->('/other', 'X-Time' => $_, 'X-Signature' => $hex->($_)), "401 $bytes 2", "... $_"
        for $now - 1000, substr("x$now", 0, 10);
    is $work->('/other', 'X-Signature' => $hex->('')), '401 ' . 2 * length(".$body") . ' 2', '... no time';

    my $mac = base64_signature($key, $body);
    is $work->('/base64', 'X-Signature' => $_), '422 2 1', "base64: $_" =~ s/[\w+\/-]{40}//r
        for $mac, "sig:$mac", "sig:" . ($mac =~ tr{+/=}{-_}dr);
    is $work->('/base64', 'X-Signature' => $_), '401 2 1', "... wrong: $_" for 'x', 'sig:x', 'A' x 43, 'sig:' . 'A' x 43 . '=';

    # Vaani's own, which is of the one or the other header.
    is $work->('/own', 'X-Webhook-Signature' => $_), '422 4 2', q(Vaani's own: right)
        for map { ($_, "sha256=$_") } map { hex_signature($_, $body) } $key, $next;
    is $work->('/own', 'X-Webhook-Signature' => $_), '401 4 2', "... $_" for 'x', 'sha256=x', '0' x 64, 'sha256=' . '0' x 64;
    is $work->('/own', 'X-Vaani-Timestamp' => $now, 'X-Vaani-Signature' => $hex->($now, $_)), "422 $bytes 2",
        '... with a time: right' for $key, $next;
    is $work->('/own', 'X-Vaani-Timestamp' => $now, 'X-Vaani-Signature' => $_), "401 $bytes 2", "... with a time: $_"
        for 'x', '', '0' x 64, $hex->($now, $token), $hex->($now - 1);
    is $work->('/own', 'X-Vaani-Timestamp' => $_, 'X-Vaani-Signature' => $hex->($_)), "401 $bytes 2", "... at $_"
        for $now - 1000, substr("x$now", 0, 10);
    is $work->('/own', 'X-Vaani-Timestamp' => $now, 'X-Vaani-Signature' => 'x',
        'X-Webhook-Signature' => hex_signature($key, $body)), "401 $bytes 2", '... beside a right one of the body';
    $bytes = length "$now.$body";
    is $work->('/timely', 'X-Vaani-Timestamp' => $now, 'X-Vaani-Signature' => $hex->($now, $key)), "422 $bytes 1",
        'required: right';
    is $work->('/timely', 'X-Vaani-Timestamp' => $now, 'X-Webhook-Signature' => $_), "401 $bytes 1", '... of the body alone'
        for 'x', hex_signature($key, $body);
    is $work->('/timely', 'X-Webhook-Signature' => $_), '401 ' . length(".$body") . ' 1', '... without a time'
        for 'x', hex_signature($key, $body);

    # A sender with one of the two must not learn that it is correct.
    $bytes = length "$id.$now.$body";
    my %signed = webhook_headers($one, $body, id => $id, timestamp => $now);
    is $work->('/token', %signed, 'X-Token' => $token), "422 $bytes 1", 'with a token: right';
    is $work->('/token', %signed, 'X-Token' => $_), "401 $bytes 1", '... a wrong token' for 'x', $token . 'x';
    is $work->('/token', %good, 'X-Token' => $token), "401 $bytes 1", '... a wrong signature';
    is $work->('/token', %good), "401 $bytes 1", '... neither';

    ok $nginx->stop, 'stop';
    no_secret_was_told();
};

done_testing;
