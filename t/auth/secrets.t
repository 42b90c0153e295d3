# Where secrets come from: what nginx -t refuses, with file and line, and what
# reloads do with them. And where they must not go: no message and no line of
# the error log has one.

use v5.20;
use feature 'signatures';
no warnings 'experimental::signatures';

use FindBin;
use lib "$FindBin::Bin/../lib";
use Vaani::Test;

use Vaani::Test::Directives;
use Vaani::Test::Events;
use Vaani::Test::HTTP qw(format_request);
use Vaani::Test::Process;
use Vaani::Test::Signing;

my $token = token_secret();
my $webhook = webhook_secret();
my $key = token_secret();
my $file = 'file=%%TMPDIR%%';

secret_file('token', "$token\n");
secret_file('webhook', "$webhook\n");

my %GOOD = (
    vaani_token               => "\$http_x_token $token",
    vaani_secret              => $webhook,
    vaani_signature           => "X-Signature secret=$key",
    vaani_timestamp_tolerance => '1m',
);
my @EVERYWHERE = qw(http server location);

subtest 'contexts, numbers of parameters, repetition' => sub {
    my @all = map { "$_ $GOOD{$_};" } sort keys %GOOD;

    accepted "all in $_", $_ => "@all" for @EVERYWHERE;
    accepted 'all of them everywhere', map { $_ => "@all" } @EVERYWHERE;
    accepted 'also without an endpoint, outside of a location', webhook => '', map { $_ => "@all" } qw(http server);
    accepted 'off everywhere', map { $_ => 'vaani_token off; vaani_secret off; vaani_signature off;' } @EVERYWHERE;

    for my $directive (sort keys %GOOD) {
        my $text = "$directive $GOOD{$directive};";
        my $not_here = qr/^"$directive" directive is not allowed here$/;
        refused $not_here, "$directive in if", location => "if (\$uri) { $text }";
        refused $not_here, "$directive in limit_except", location => "limit_except GET { $text }";

        refused qr/^invalid number of arguments in "$directive" directive$/, "$directive without any",
            http => "$directive;";
        refused qr/^"$directive" directive is duplicate$/, "$directive twice", server => "$text\n$text"
            if $directive ne 'vaani_secret';
    }
    refused qr/^invalid number of arguments in "vaani_timestamp_tolerance" directive$/, 'two tolerances',
        http => 'vaani_timestamp_tolerance 1m 2m;';

    for my $directive (qw(vaani_token vaani_signature)) {
        refused qr/^"$directive" directive is duplicate$/, "$directive: @$_", http => join "\n", map { "$directive $_;" } @$_
            for [ 'off', $GOOD{$directive} ], [ $GOOD{$directive}, 'off' ], [ 'off', 'off' ];
    }
    accepted 'vaani_secret is repeatable', http => "vaani_secret $webhook; vaani_secret $file/webhook;";
    refused qr/^"vaani_secret" directive is set after "vaani_secret off"$/, 'vaani_secret after off',
        http => "vaani_secret off;\nvaani_secret $webhook;";
    refused qr/^"vaani_secret" directive "off" is set after a secret$/, 'off after vaani_secret',
        http => "vaani_secret $webhook;\nvaani_secret off;";
};

subtest 'vaani_token' => sub {
    all_accepted 'good ones', map { "vaani_token $_;" } (
        "\$arg_token $token", "\$http_x_token $token $key", "\$cookie_t $file/token", "\$host $file/token $key",
        "\${arg_token} $token", "a\$arg_b:\${arg_c}d $token", "\$arg_token '$token'", 'off',
        "\$arg_token @{[ token_secret(512) ]}", "\$arg_token 'sixteen \$bytes \" ;'",
        "\$arg_token offoffoffoffoffoff", "\$arg_token " . join(' ', map { token_secret() } 1 .. 30),
    );
    refused qr/^"vaani_token" directive needs a value and a secret$/, "only '$_'", http => "vaani_token $_;"
        for qw($arg_token on OFF off1), $token;
    refused qr/^"vaani_token" directive must have a variable in its first parameter$/, "'$_'", http => "vaani_token $_;"
        for "token $token", "off $token", "'' $token", "$token $token", "$file/token $token";

    my $too_long = qr/^a secret of "vaani_token" must not be longer than 512 bytes$/;
    refused $too_long, 'longer than 512 bytes', http => 'vaani_token $arg_t ' . token_secret(513) . ';';
    secret_file('long', token_secret() . "\n" . token_secret(513) . "\n");
    refused $too_long, '... on the second line of a file', http => "vaani_token \$arg_t $file/long;";
    refused qr/^invalid variable name$/, 'a bad variable', http => "vaani_token \"\$\" $token;";
    refused qr/the closing bracket in "no_end" variable is missing/, 'an open one', http => "vaani_token \"\${no_end\" $token;";

    my ($ok, $output) = check(http => config(http => "vaani_token \$no_such_variable $token;"));
    ok !$ok, 'an unknown variable';
    like $output, qr/unknown "no_such_variable" variable/, '... says so';
};

subtest 'vaani_secret' => sub {
    my $unpadded = webhook_secret('x' x 20) =~ s/=+\z//r;
    all_accepted 'good ones', map { "vaani_secret $_;" } (
        $webhook, "$webhook @{[ webhook_secret() ]}", "$file/webhook", "$webhook $file/webhook", 'off',
        $unpadded, (map { webhook_secret('k' x $_) } 16 .. 66),
        (map { s/^whsec_//r } $webhook, $unpadded, map { webhook_secret('k' x $_) } 16 .. 66), "v1,$webhook", "v1,$unpadded",
        "$webhook v1,$webhook @{[ $webhook =~ s/^whsec_//r ]}",
    );

    my $prefix = qr/^a secret of Standard Webhooks must begin with "whsec_" or "v1,whsec_", or be base64 of 16 bytes or more$/;
    my $bare = $webhook =~ s/whsec_//r;
    refused $prefix, "without the prefix: $_", http => "vaani_secret $_;"
        for "WHSEC_$bare", "v1,$bare", "v1,WHSEC_$bare", "v2,$webhook", "v1 $webhook", "v1,", 'v1,whsec_', "v1,v1,$webhook", 'x',
        substr($bare, 0, 20), "$key/$bare\@", "$bare=$bare", "whsec-$bare", "whsec$bare", "whpk_$bare", "' $webhook'", "'$bare '", 'whsec_', 'whsec', 'on', 'OFF',
        "$webhook off", "off $webhook";

    my $base64 = qr/^a secret of Standard Webhooks must be base64 after "whsec_"$/;
    refused $base64, "no base64: " . s/\Q$bare\E/.../r, http => "vaani_secret '$_';"
        for "whsec_*$bare", "whsec_$bare\@", 'whsec_' . substr($bare, 0, 20) . ' ' . substr($bare, 20), 'whsec_a', 'whsec_abcde',
        "whsec_-_$bare", "whsec_whsec_$bare", "whsec_ $bare",
        "v1,whsec_*$bare", "v1,whsec_whsec_$bare";
    secret_file('bad-webhook', "# a comment\n$webhook\n$key!\n");
    refused $prefix, 'on the third line of a file', http => "vaani_secret $file/bad-webhook;";
    my ($ok, $output) = check(http => config(http => "vaani_secret $file/bad-webhook;"));
    like $output, qr/^(?:\S+ \S+|nginx:) \[emerg\].* invalid secret on line 3 of "\S+\/bad-webhook" in \S+:\d+$/m, '... which is told';
    secret_file('inside-webhook', substr($webhook, 0, 20) . ' ' . substr($webhook, 20) . "\n");
    refused $base64, 'with a space inside of a line', http => "vaani_secret $file/inside-webhook;";
};

subtest 'vaani_signature' => sub {
    all_accepted 'good ones', map { "vaani_signature $_;" } (
        "X-Signature secret=$key", "x-signature $file/token", "X-S secret=$key secret=$token $file/token", 'off',
        "X-S secret=$key encoding=hex", "X-S encoding=base64 secret=$key", "X-S secret=$key prefix=sha256=",
        "X-S secret=$key prefix=", "X-S secret=$key timestamp=t", "X-S secret=$key timestamp=ts prefix=v0= encoding=hex",
        "X-S 'secret=a long secret, with = and \$ and \"'",
        "X-S secret=$key encoding=base64url", "X-S secret=$key timestamp=\$http_x_time", "X-S secret=$key timestamp=\${http_x}",
        "X-S secret=$key timestamp=\$HTTP_X_Time prefix=sha256=", "X-S secret=$key 'prefix=sig '",
        "vaani secret=$key", "vaani $file/token", "vaani timestamp=required secret=$key secret=$token $file/token $file/token",
        "Vaani secret=$key", "X-1234567890-abcdefghijklmnopqrstuvwxyz secret=$key",
    );
    refused qr/^"vaani_signature" directive needs "secret=" or "file="$/, "'$_'", http => "vaani_signature $_;"
        for 'X-Signature', 'on', "$key", 'X-S encoding=hex', 'X-S prefix=x timestamp=t', 'X-S timestamp=t', 'vaani',
        'vaani timestamp=required', 'X-S timestamp=$http_x';
    refused qr/^"vaani_signature" directive has an invalid parameter$/, "'$_'", http => "vaani_signature $_;"
        for "X-S $key", "off $key", "X-S secret=$key x", "X-S secret=$key encoding=base32", "X-S secret=$key encoding=",
        "X-S secret=$key encoding", "X-S secret=$key ENCODING=hex", "X-S secret=$key timestamp=", "X-S secret=$key timestamp",
        "X-S Secret=$key", "X-S secret:$key", "X-S secret=$key off", "X-S secret=$key prefix", "X-S whsec_$key", "X-S $webhook",
        "X-S secret", "vaani $key", "vaani secret=$key required", "vaani X-Signature secret=$key", "vaani secret=$key off";

    my %wrong = (
        qr/takes only "timestamp=required" after "vaani"$/
            => [ map { "vaani secret=$key timestamp=$_" } '', 't', '$http_x_vaani_timestamp', 'Required', 'off' ],
        qr/takes no "encoding=" or "prefix=" after "vaani"$/
            => [ map { "vaani $_ secret=$key" } 'encoding=hex', 'encoding=base64', 'prefix=sha256=', 'prefix=' ],
        qr/takes "timestamp=required" only after "vaani"$/ => ["X-S secret=$key timestamp=required"],
        qr/takes only "\$http_NAME" as a variable in "timestamp="$/ => [
            map { "X-S secret=$key 'timestamp=$_'" } '$arg_t', '$', '$http_', '$http', '${http_}', '${http_x', '$http_x}', '$http_x-y',
            '$http_x$http_y', '$http_x y', '$sent_http_x', '$msec', '${}',
        ],
        qr/has a timestamp name with a comma or a leading blank$/ => [ map { "X-S secret=$key 'timestamp=$_'" } ' t', 't,', ',', "\tt" ],
        qr/has a prefix with a comma or a leading blank$/ => [ map { "X-S secret=$key 'prefix=$_'" } ' x', 'v1,', ',', "\tx" ],
    );
    for my $message (sort keys %wrong) {
        refused qr/^"vaani_signature" directive $message/, "'$_'", http => "vaani_signature $_;" for @{ $wrong{$message} };
    }

    # The last of two would win; secrets add up.
    refused qr/^duplicate parameter "$_->[0]="$/, "$_->[1] twice", http => "vaani_signature $_->[1];" for
        [ encoding  => "X-S secret=$key encoding=hex encoding=base64" ], [ encoding => "X-S encoding=hex secret=$key encoding=hex" ],
        [ prefix    => "X-S secret=$key prefix=a prefix=b" ], [ prefix => "X-S prefix= secret=$key prefix=" ],
        [ timestamp => "X-S secret=$key timestamp=t timestamp=\$http_x" ],
        [ timestamp => "vaani secret=$key timestamp=required timestamp=required" ];
};

# The names of headers that no request has, or that nginx drops.
subtest 'headers that cannot match' => sub {
    refused qr/^"vaani_signature" directive has an invalid header name$/, "'$_'", http => "vaani_signature '$_' secret=$key;"
        for 'X Signature', ' X-Signature', 'X-Signature ', "X-\tS", 'X-Signature:', ':', ' ', "X\x7f", "X-S\r";

    my ($underscores, $invalid) = map { qr/^"vaani_signature" names a header that nginx drops without "$_"$/ }
        'underscores_in_headers on', 'ignore_invalid_headers off';
    for my $where (@EVERYWHERE) {
        refused $underscores, "an underscore, in $where", $where => "vaani_signature X_Signature secret=$key;";
        refused $invalid, "a dot, in $where", $where => "vaani_signature X.Signature secret=$key;";
    }
    refused $invalid, "'$_'", server => "underscores_in_headers on; vaani_signature '$_' secret=$key;"
        for 'X_S!', 'X/S', '"X-S"', "X-caf\xc3\xa9", '$http_x_signature';

    accepted 'underscores_in_headers on', server => "underscores_in_headers on; vaani_signature X_Signature secret=$key;";
    accepted '... of http', http => 'underscores_in_headers on;', location => "vaani_signature X_Signature secret=$key;";
    accepted 'ignore_invalid_headers off', server => "ignore_invalid_headers off; vaani_signature X.Signature_2 secret=$key;";
    accepted '... and where it does not matter', server => "vaani_signature X_Signature secret=$key;",
        location => 'vaani_signature off;';
};

# Directives in a location that protect nothing there.
subtest 'locations without an endpoint' => sub {
    my @auth = grep { /token|secret|signature/ } sort keys %GOOD;
    for my $directive (@auth) {
        my $text = "$directive $GOOD{$directive};";
        my $nothing = qr/^"$directive" has no effect, neither this location nor a nested one has "vaani_webhook"$/;

        refused $nothing, "$directive", webhook => '', location => $text;
        refused $nothing, "$directive in a nested one", location => "location /inner { $text # here\n}";
        refused $nothing, "$directive beside an endpoint", server => "location /beside { $text # here\n}";
        refused $nothing, "$directive with a proxy", server => "location /beside { proxy_pass http://127.0.0.1:1; $text # here\n}";
        refused qr/^"$directive" protects only "vaani_webhook", use "allow" and "deny"$/, "$directive, vaani_status",
            webhook => 'vaani_status;', location => $text;

        accepted "$directive around an endpoint", webhook => '', location => "$text location /inner { vaani_webhook; }";
        accepted "... two levels up", webhook => '',
            location => "$text location /in { location /in/inner { vaani_webhook; } }";
        accepted "... a regular expression", webhook => '', location => "$text location ~ \\.x\$ { vaani_webhook; }";
        accepted "$directive off", webhook => '', location => "$directive off;";
    }
    refused qr/^"vaani_token" has no effect, /, 'the first of several is told', webhook => '',
        location => "vaani_token $GOOD{vaani_token}; # here\nvaani_secret $webhook;";
    accepted 'a tolerance alone', webhook => '', location => 'vaani_timestamp_tolerance 1m;';
};

# nginx's default of client_max_body_size is less than a long call.
subtest 'the size of bodies' => sub {
    my $warning = qr/^"client_max_body_size" of this "vaani_webhook" is 1m, the default; long transcripts are answered 413, set it to 8m or more$/;
    my $warnings = sub ($http) {
        my ($ok, $output) = check(http => "client_max_body_size 1m; $http");
        return join ' ', $ok, map { /:(\d+)$/ } grep { /\[warn\]/ } split /\n/, $output;
    };
    my $server = sub (@locations) { join "\n", 'server { listen unix:%%SOCK%%;', @locations, '}' };

    told 'warn', $warning, 'the line of the endpoint', http => 'client_max_body_size 1m;', webhook => "\nvaani_webhook; # here";
    my ($first) = $warnings->($server->('location = /a { vaani_webhook; }')) =~ /^1 (\d+)$/ or fail('one warning');

    is $warnings->($server->('location = /a { vaani_webhook; }', 'location = /b { vaani_webhook; }')),
        "1 $first @{[ $first + 1 ]}", 'each endpoint';
    is $warnings->($server->('location = /a { vaani_webhook; if ($uri) { set $x 1; } limit_except POST { deny all; } }')),
        "1 $first", 'once with what is inside';
    is $warnings->($server->("location /a { vaani_webhook; client_max_body_size $_; }")), '1', "not with $_"
        for '16m', '8m', '2m', '1025k', '1048577', '0', '100k';
    is $warnings->($server->('location /a { vaani_status; }', 'location /b { vaani_health; }', 'location /c { }')), '1',
        'not without an endpoint';

    # The same place, in two servers.
    spew(tmpdir() . '/endpoint.conf', "location = /a { vaani_webhook; }\n");
    is $warnings->(join "\n", map { "server { listen unix:%%SOCK%%; server_name $_; include %%TMPDIR%%/endpoint.conf; }" } 1 .. 3),
        '1 1', 'once for a file that is included three times';
};

subtest 'vaani_timestamp_tolerance' => sub {
    all_accepted 'good ones', map { "vaani_timestamp_tolerance $_;" } qw(1 1s 30s 5m 1h 1d 1y 100y 1h30m);
    refused qr/^"vaani_timestamp_tolerance" directive (?:invalid value|must not be 0)$/, "'$_'",
        http => "vaani_timestamp_tolerance $_;"
        for qw(0 0s 0m -1 -5m x 5x 1ms 500ms 1.5m off on 99999999999999999999), '""', '"5 m"', '$arg_t';
};

subtest 'empty and short secrets' => sub {
    refused qr/has an empty secret$/, "an empty one: $_", http => "$_;"
        for 'vaani_token $arg_t ""', "vaani_token \$arg_t $token ''", 'vaani_secret ""', "vaani_secret $webhook ''",
        'vaani_signature X-S secret=', "vaani_signature X-S secret=$key secret=";
    refused qr/^a secret of Standard Webhooks must be base64 after "whsec_"$/, "nothing after the prefix: $_",
        http => "vaani_secret $_;" for 'whsec_=', 'whsec_==', 'whsec_====';

    for my $length (1, 8, 15) {
        my ($short, $short_webhook) = (token_secret($length), webhook_secret('s' x $length));
        secret_file("short$length", "$short\n") if $length > 1;
        my $warning = qr/^a secret of $length bytes is too short, generate one with "openssl rand -hex 32"$/;

        # Too short to be looked for in everything.
        told 'warn', $warning, "a warning: $_->[0]", http => "$_->[0] $_->[1];"
            for [ 'vaani_token $arg_t', $short ], [ vaani_secret => $short_webhook ],
            [ 'vaani_signature X-S', "secret=$short" ], $length > 1 ? [ 'vaani_token $arg_t', "$file/short$length" ] : ();
    }
    all_accepted '16 bytes are enough', "vaani_token \$arg_t @{[ token_secret(16) ]};",
        "vaani_secret @{[ webhook_secret('k' x 16) ]};", "vaani_signature X-S secret=@{[ token_secret(16) ]};";
};

subtest 'files' => sub {
    my %directives = (
        vaani_token               => [ "vaani_token \$arg_t $file/NAME;", \&token_secret ],
        vaani_secret              => [ "vaani_secret $file/NAME;", \&webhook_secret ],
        vaani_signature           => [ "vaani_signature X-S $file/NAME;", \&token_secret ],
        vaani_redis_password_file => [ 'vaani_redis_password_file %%TMPDIR%%/NAME;', \&token_secret ],
    );
    mkdir tmpdir() . '/directory', 0700 or die "mkdir: $!\n";

    for my $directive (sort keys %directives) {
        my ($format, $make) = @{ $directives{$directive} };
        my $text = sub ($name) { $format =~ s/NAME/$name/r };
        my ($one, $two) = ($make->(), $make->());

        my %good = (
            'bare'       => [$one],
            'line'       => ["$one\n"],
            'lines'      => ["$one\n$two\n"],
            'crlf'       => ["$one\r\n$two\r\n"],
            'empty-lines' => ["\n\r\n\n$one\n\n\r\n$two\n\n"],
            'no-last-end' => ["$one\n$two"],
            'blanks'     => [" $one\t \r\n\t $two \n"],
            'bom'        => ["\xef\xbb\xbf$one\r\n$two\n"],
            'bom-at-the-end' => ["$one\n\xef\xbb\xbf$two\xef\xbb\xbf \n\xef\xbb\xbf\n"],
            'boms'       => ["\xef\xbb\xbf \xef\xbb\xbf$one \xef\xbb\xbf\n"],
            'comments'   => ["# of May\n$one\n#\n \t#\tof June # \n$two\n# \"quoted\"\n#"],
            'bom-and-comment' => ["\xef\xbb\xbf# \n$one\n"],
            'group'      => [ "$one\n", 0640 ],
            'group-writes' => [ "$one\n", 0660 ],
            'read-only'  => [ "$one\n", 0400 ],
            'executable' => [ "$one\n", 0711 ],
            # Many lines, or one long one where the length is free.
            '4095-bytes' => [ substr(("$one\n") x 1 . "\n" x 4095, 0, 4095) ],
        );
        secret_file("$directive-$_", @{ $good{$_} }) for sort keys %good;
        all_accepted "$directive: @{[ sort keys %good ]}", map { $text->("$directive-$_") } sort keys %good;

        my $none = qr/^"\S+\/$directive-[\w-]+" contains no secret$/;
        my $all = qr/^"\S+\/$directive-[\w-]+" must not be readable or writable by all, use chmod o-rw$/;
        my $quotes = sub ($line) { qr/^"\S+\/$directive-[\w-]+" has quotes around the secret on line $line, remove them$/ };
        my $zero = sub ($line) { qr/^"\S+\/$directive-[\w-]+" has a null byte on line $line, save it as UTF-8$/ };
        my $long = qr/^"\S+\/$directive-[\w-]+" is too long for a secret file$/;
        my %bad = (
            'empty'         => [ $none, '' ],
            'newline'       => [ $none, "\n" ],
            'newlines'      => [ $none, "\n\r\n\n" ],
            'blanks-alone'  => [ $none, " \t\r\n \n" ],
            'bom-alone'     => [ $none, "\xef\xbb\xbf" ],
            'comments-alone' => [ $none, "# $one\n#\n #\t$two\n" ],
            'quotes'        => [ $quotes->(1), "\"$one\"\n" ],
            'single-quotes' => [ $quotes->(1), "'$one'" ],
            'quotes-in-all' => [ $quotes->(4), "# x\n\n$one\n\xef\xbb\xbf \"$two\" \r\n" ],
            'quotes-around-nothing' => [ $quotes->(2), "$one\n''\n" ],
            'utf-16'        => [ $zero->(1), "\xff\xfe" . join '', map { "$_\0" } split //, "$one\n" ],
            'zero'          => [ $zero->(2), "$one\n$two\0\n" ],
            'too-long'      => [ $long, substr("$one\n" . "\n" x 5000, 0, 4096) ],
            'far-too-long'  => [ $long, "$one\n" x 1000 ],
            'all-may-read'  => [ $all, "$one\n", 0604 ],
            'all-may-write' => [ $all, "$one\n", 0602 ],
            'all-may-both'  => [ $all, "$one\n", 0666 ],
            'the-usual'     => [ $all, "$one\n", 0644 ],
            'empty-and-open' => [ $all, '', 0644 ],
        );
        # They share the reader: what is wrong with a file is tried with one.
        delete @bad{ grep { !/^(?:empty|the-usual|quotes)$/ } keys %bad } if $directive ne 'vaani_token';
        for my $name (sort keys %bad) {
            my ($message, @content) = @{ $bad{$name} };
            secret_file("$directive-$name", @content);
            refused $message, "$directive: $name", server => $text->("$directive-$name");
        }
        refused qr/^open\(\) "\S+\/none" failed \(2: No such file or directory\)$/, "$directive: missing",
            location => $text->('none');
        refused qr/^p?read\(\) "\S+\/directory" failed \(21: Is a directory\)$/, "$directive: a directory",
            location => $text->('directory');

        symlink tmpdir() . "/$directive-the-usual", tmpdir() . "/$directive-link" or die "symlink: $!\n";
        refused $all, "$directive: a link to one that all may read", location => $text->("$directive-link");
    }

    # Relative to nginx.conf, which lies in a directory below this one.
    accepted 'a relative path', http => "vaani_token \$arg_t file=../token;";
    refused qr/^open\(\) "\S+\/nowhere" failed \(2: /, '... that is missing', http => 'vaani_token $arg_t file=nowhere;';
    refused qr/failed \(21: |must not be readable/, 'no name at all', http => 'vaani_token $arg_t file=;';
    # Text that only looks like a comment or quotes is part of the secret.
    secret_file('signs', "#no-comment-$token\n##\t$token\n\"$token\n$token'\n\"$token'\n'\n\xc2\xa0$token\n");
    my (undef, $output) = check(http => config(http => "vaani_token \$arg_t $file/signs;"));
    is scalar(() = $output =~ /secret of 1 bytes is too short/g), 1, 'a lone quote' or diag $output;
    unlike $output, qr/\[emerg\]/, '... and others are no mistake';

    accepted 'two files', http => "vaani_token \$arg_t $file/token $file/vaani_token-lines;";
};

# --- the error log

my ($path_token, $wrong) = (token_secret(), token_secret());

subtest 'the error log has no request line' => sub {
    my $redis = Vaani::Test::Redis->start;
    my $query = "vaani_token \$arg_token $token;";

    my $nginx = Vaani::Test::Nginx->start(http => <<"CONF");
        limit_req_zone \$uri zone=requests:1m rate=1r/m;
        limit_conn_zone \$uri zone=connections:1m;
        vaani_redis @{[ $redis->url ]};
        root %%DIR%%/html;

        server {
            listen unix:%%SOCK%%;
            listen unix:%%DIR%%/h2.sock http2;
            keepalive_requests 100000;

            location = /hook      { vaani_webhook; $query }
            location = /small     { vaani_webhook; $query client_max_body_size 10; }
            location = /limited   { vaani_webhook; $query limit_req zone=requests; }
            location = /connected { vaani_webhook; $query limit_conn connections 1; }
            location = /forbidden { vaani_webhook; $query deny all; }
            location = /except    { vaani_webhook; $query limit_except GET { deny all; } }
            location = /basic     { vaani_webhook; $query auth_basic x; auth_basic_user_file %%DIR%%/users; }
            location = /mirrored  { vaani_webhook; $query mirror /copy; }
            location = /copy      { internal; }
            location = /403       { vaani_webhook; $query deny all; error_page 403 /missing.html; }
            location = /413       { vaani_webhook; $query client_max_body_size 10; error_page 413 /missing.html; }
            location = /named     { vaani_webhook; $query deny all; error_page 403 \@page; }
            location \@page       { deny all; }
            location = /returns   { vaani_webhook; $query return 403; error_page 403 /missing.html; }
            location = /rewrites  { vaani_webhook; $query rewrite ^ /missing.html last; }
            location = /if        { vaani_webhook; $query if (\$arg_token) { set \$x 1; } deny all; }
            location = /off       { vaani_webhook; vaani_token off; deny all; }
            location = /secret    { vaani_webhook; vaani_secret $webhook; }
            location = /headers   { vaani_webhook; vaani_token "\$http_a\$cookie_b\${arg_c}" $token; }
            location = /whole     { vaani_webhook; vaani_token \$request_uri file=%%TMPDIR%%/token; }
            location = /args      { vaani_webhook; vaani_token \$args file=%%TMPDIR%%/token; }
            location /outer       { vaani_token \$uri $token; location /outer/inner { vaani_webhook; deny all; } }

            location ~ ^/path/([^/]+)/hook\$      { vaani_webhook; vaani_token \$1 $path_token; }
            location ~ ^/path/([^/]+)/small\$     { vaani_webhook; vaani_token \$1 $path_token; client_max_body_size 10; }
            location ~ ^/path/([^/]+)/forbidden\$ { vaani_webhook; vaani_token \$1 $path_token; deny all; }
            location ~ ^/path/(?<t>[^/]+)/named\$ { vaani_webhook; vaani_token x\$t "x$path_token"; deny all; }
            location ~ ^/path/([^/]+)/page\$      {
                vaani_webhook; vaani_token \$1 $path_token; deny all; error_page 403 /missing.html;
            }
            location /other { deny all; }
        }
CONF
    spew($nginx->dir . '/users', "user:{PLAIN}password\n");

    my $http = $nginx->http;
    my @json = ('Content-Type' => 'application/json');
    my $mark = 0;

    # The lines since the last time, of which the request has something; every
    # one of them shows this request line.
    my $lines = sub ($message, $line, $name) {
        my $found = $nginx->wait_log($message, 10, $mark);
        my @all = grep { /, request: / } split /^/, slurp($nginx->dir . '/error.log', $mark);
        $mark = $nginx->log_mark;
        my @other = grep { !/, request: "\Q$line\E", / } @all;
        ok defined $found && @all && !@other, "$name: $line" or diag $found // "no $message\n", @all[ 0 .. ($#all > 4 ? 4 : $#all) ];
        return;
    };
    my $ask = sub ($uri, $body = '[]', %more) {
        return $http->request(uri => $uri, body => $body, headers => [ @json, @{ delete $more{headers} // [] } ], %more);
    };

    my $t = "?a=b&token=$token";
    my $w = "?token=$wrong&a=b";
    my $masked = sub ($uri) { "POST $uri?*** HTTP/1.1" };

    $ask->("/hook$w");
    $lines->(qr/vaani: unauthorized: wrong_token/, $masked->('/hook'), 'a wrong token');
    $ask->('/hook');
    $lines->(qr/vaani: unauthorized: missing_token/, 'POST /hook HTTP/1.1', 'none');
    $ask->("/hook$t");
    $lines->(qr/event rejected/, $masked->('/hook'), 'no event');
    $ask->("/hook$t?x?y", '[', version => '1.0');
    $lines->(qr/unauthorized/, 'POST /hook?*** HTTP/1.0', 'HTTP/1.0');
    $ask->("http://localhost/hook$t");
    $lines->(qr/event rejected/, $masked->('http://localhost/hook'), 'an absolute form');
    $ask->("/%68ook$t");
    $lines->(qr/event rejected/, $masked->('/%68ook'), 'an encoded path');

    $http->send_raw("POST /hook$t   HTTP/1.1  \r\nHost: x\r\nContent-Length: 2\r\n\r\n[]");
    $http->read_response;
    $lines->(qr/event rejected/, 'POST /hook?*** ', 'spaces in the line');
    $http->send_raw("POST  /hook$t HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n[]");
    $http->read_response;
    $lines->(qr/event rejected/, 'POST  /hook?*** HTTP/1.1', 'two spaces before the path');

    $nginx->http->request(uri => "/small$t", body => 'x' x 11);
    $lines->(qr/too large body/, $masked->('/small'), '413');
    $nginx->http->request(uri => "/small$t", body => 'x' x 11, chunked => 5);
    $lines->(qr/too large chunked body/, $masked->('/small'), '413, chunked');

    $ask->("/limited$t") for 1, 2;
    $lines->(qr/limiting requests/, $masked->('/limited'), 'limit_req');

    my $first = $nginx->http;
    $first->send_raw("POST /connected$t HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n[");
    ok wait_for(sub { $ask->("/connected$t")->status == 503 }, 10), 'one connection at a time';
    $lines->(qr/limiting connections/, $masked->('/connected'), 'limit_conn');
    $first->send_raw(']');
    $first->read_response;
    $lines->(qr/event rejected/, $masked->('/connected'), '... the first of them');

    $ask->("/forbidden$t");
    $lines->(qr/access forbidden by rule/, $masked->('/forbidden'), 'deny');
    $ask->("/except$t");
    $lines->(qr/access forbidden by rule/, $masked->('/except'), 'limit_except');
    $ask->("/if$t");
    $lines->(qr/access forbidden by rule/, $masked->('/if'), 'if');
    $ask->("/basic$t");
    $lines->(qr/no user\/password was provided/, $masked->('/basic'), 'auth_basic');
    $ask->("/basic$t", '[]', headers => [ Authorization => 'Basic eDp5' ]);
    $lines->(qr/user "x" was not found/, $masked->('/basic'), 'auth_basic, an unknown user');
    $ask->("/mirrored$t");
    $lines->(qr/open\(\) .* failed.*, subrequest: "\/copy"/, $masked->('/mirrored'), 'a subrequest');
    $ask->("/off$t");
    $lines->(qr/access forbidden by rule/, $masked->('/off'), 'off');
    $ask->("/secret$t");
    $lines->(qr/missing_signature/, $masked->('/secret'), 'with a signature only');
    $ask->("/headers?c=$wrong");
    $lines->(qr/wrong_token/, $masked->('/headers'), 'of several variables');

    my $leaver = $nginx->http;
    $leaver->send_raw("POST /hook$t HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n[");
    $leaver->close;
    $lines->(qr/client prematurely closed connection/, $masked->('/hook'), 'a client that leaves');

    # Some get to another location before anything was logged in theirs.
    for my $uri (qw(/403 /413 /named /returns /rewrites)) {
        $nginx->http->request(uri => "$uri$t", body => 'x' x 11, headers => [@json]);
        $lines->(
            $uri eq '/named' ? qr/access forbidden/ : qr/open\(\) "\S+\/missing.html" failed/,
            $masked->($uri), "an error page of $uri"
        );
    }

    my $p = "/path/$path_token";
    my $whole = 'POST *** HTTP/1.1';
    $ask->("/path/$wrong/hook");
    $lines->(qr/wrong_token/, $whole, 'a wrong one in the path');
    $ask->("$p/hook$w");
    $lines->(qr/event rejected/, $whole, 'the right one in the path');
    $nginx->http->request(uri => "$p/small", body => 'x' x 11, @$_) && $lines->(qr/too large/, $whole, '413')
        for [], [ chunked => 5 ];
    $ask->("$p/$_") && $lines->(qr/access forbidden/, $whole, "$_") for qw(forbidden named);
    $ask->("$p/page") && $lines->(qr/open\(\) "\S+\/missing.html" failed/, $whole, 'an error page');
    $leaver = $nginx->http;
    $leaver->send_raw("POST $p/hook HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n[");
    $leaver->close;
    $lines->(qr/client prematurely closed connection/, $whole, 'a client that leaves');
    $ask->("/whole$t") && $lines->(qr/wrong_token/, $whole, '$request_uri');
    $ask->("/args$w") && $lines->(qr/wrong_token/, $whole, '$args');
    $ask->("/outer/inner$w") && $lines->(qr/access forbidden/, $whole, 'inherited by a nested location');

    # HTTP/2, over a connection whose request lines nginx makes itself.
    run([ qw(curl -sS --max-time 60 --http2-prior-knowledge --unix-socket), $nginx->dir . '/h2.sock',
        '-H', 'Content-Type: application/json', '-d', '[]', "http://localhost$_" ]) for "/hook$t", "$p/hook";
    ok $nginx->wait_log(qr/request: "POST \/hook\?\*\*\* HTTP\/2\.0"/), 'HTTP/2';
    ok $nginx->wait_log(qr/request: "POST \*\*\* HTTP\/2\.0"/), 'HTTP/2, in the path';

    # Elsewhere nginx's lines are as ever.
    $mark = $nginx->log_mark;
    $ask->('/other?a=b');
    $lines->(qr/access forbidden/, 'POST /other?a=b HTTP/1.1', 'another location');

    ok $nginx->stop, 'stop';
};

subtest 'reloads under load' => sub {
    my $redis = Vaani::Test::Redis->start;
    my ($first, $first_webhook, $first_key) = (token_secret(), webhook_secret(), token_secret());
    my @files = (
        [ 'live-token', $first ], [ 'live-webhook', $first_webhook ], [ 'live-key', $first_key ],
    );
    secret_file($_->[0], "$_->[1]\n") for @files;

    my $nginx = Vaani::Test::Nginx->start(http => <<"CONF");
        vaani_redis @{[ $redis->url ]};
        server {
            listen unix:%%SOCK%%;
            location = / {
                vaani_webhook;
                vaani_token \$http_x_token $file/live-token;
                vaani_secret $file/live-webhook;
                vaani_signature X-Signature $file/live-key;
            }
        }
CONF
    # Every third delivery lacks something.
    my $answers = tmpdir() . '/answers';
    my $load = Vaani::Test::Process->spawn_code(sub {
        open my $out, '>', $answers or die "open: $!\n";
        my $n = 0;
        until (-e "$answers.stop") {
            my @bodies = map { event('call_ended', room => 'r' . $_ % 5, n => $_) } $n .. $n + 99;
            my $sign = sub ($i) {
                my %headers = (
                    'X-Token' => $first, webhook_headers($first_webhook, $bodies[$i]),
                    'X-Signature' => hex_signature($first_key, $bodies[$i]),
                );
                $headers{ qw(X-Token webhook-signature X-Signature) [ $i / 3 % 3 ] } = 'wrong' if $i % 3 == 0;
                return \%headers;
            };
            post_many($nginx->sock, '/', \@bodies, connections => 4, headers => $sign, on_response => sub ($i, $response) {
                syswrite $out, join(' ', $i % 3 ? 'good' : 'bad', $response->status) . "\n";
            });
            $n += 100;
        }
        return 0;
    });

    my $descriptors = sub { opendir my $dh, '/proc/' . $nginx->pid . '/fd' or die; scalar(() = readdir $dh) };
    my $memory = sub { (slurp('/proc/' . $nginx->pid . '/status') =~ /^VmRSS:\s+(\d+)/m)[0] };
    my ($descriptors_before, $memory_before) = $descriptors->();
    my $times = ($ENV{VAANI_FAULTS} // '') eq 'full' ? 200 : 20;
    my $reloads = 0;

    # Other secrets are added and removed next to those in use.
    for my $n (1 .. $times) {
        my @more = ("\n" x ($n % 3)) . token_secret();
        secret_file('live-token', $n % 2 ? "$first\n@more\n" : "@more\r\n$first\r\n");
        secret_file('live-webhook', $n % 2 ? "$first_webhook\n" . webhook_secret() : "$first_webhook\n");
        my $before = -s $answers // 0;
        $reloads += $nginx->reload;
        wait_for(sub { (-s $answers // 0) > $before }) or fail('the load goes on'), last;
        $memory_before = $memory->() if $n == 10;
    }
    is $reloads, $times, "$times reloads";

    spew("$answers.stop", '');
    $load->wait(60) or die "the load does not end\n";
    my %count;
    $count{$_}++ for split /\n/, slurp($answers);
    is_deeply [ sort keys %count ], [ 'bad 401', 'good 200' ], 'each is answered right' or diag explain \%count;

    my $growth = $memory->() - $memory_before;
    cmp_ok $growth, '<', 1000, "$growth kB more memory in the master" if $ENV{VAANI_MODULE};
    # The master has a channel to each worker that it has not reaped.
    ok wait_for(sub { $nginx->worker_pids == 1 }), 'the old workers are gone';
    wait_for(sub { $descriptors->() == $descriptors_before });
    is $descriptors->(), $descriptors_before, 'no descriptor is left open';
    ok $nginx->stop, 'stop';
};

no_secret_was_told();

done_testing;
