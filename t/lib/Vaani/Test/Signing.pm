package Vaani::Test::Signing;

# Secrets for the tests of authentication, signatures made with them, and the
# check that none of them is disclosed: every secret that is made here is
# searched for in everything that nginx wrote.

use v5.20;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';

use Digest::SHA qw(hmac_sha256 hmac_sha256_hex sha256 sha256_hex);
use Exporter 'import';
use MIME::Base64 qw(decode_base64 encode_base64);
use Test::More ();
use Vaani::Test::Dir qw(slurp spew tmpdir);

our @EXPORT = qw(
    token_secret webhook_secret secret_file is_secret
    webhook_signature webhook_headers hex_signature base64_signature
    dashboard_headers campaign_headers
    no_secret_was_told is_unauthorized UNAUTHORIZED
);

use constant UNAUTHORIZED => qq({"type":"about:blank","title":"Unauthorized","status":401}\n);

my @secrets;
my $count = 0;

sub _random () { return sha256(join ' ', 'secret', $$, time, ++$count) }

# Registers a text as a secret. A short one would be found anywhere.
sub is_secret ($secret) {
    push @secrets, $secret if length $secret >= 8;
    return $secret;
}

# 64 hexadecimal digits, or so many bytes.
sub token_secret ($length = 64) {
    my $hex = '';
    $hex .= unpack 'H*', _random() while length $hex < $length;
    return is_secret(substr $hex, 0, $length);
}

# One of Standard Webhooks; what follows "whsec_" tells as much.
sub webhook_secret ($bytes = _random()) {
    my $base64 = encode_base64($bytes, '');
    is_secret($base64);
    return "whsec_$base64";
}

# A file in the test's directory, which configurations name by its path.
sub secret_file ($name, $content, $mode = 0600) {
    my $path = spew(tmpdir() . "/$name", $content);
    chmod $mode, $path or die "chmod: $!\n";
    return $path;
}

# --- signatures

sub webhook_signature ($secret, $id, $timestamp, $body) {
    my $key = decode_base64($secret =~ s/^whsec_//r);
    return 'v1,' . encode_base64(hmac_sha256("$id.$timestamp.$body", $key), '');
}

# The three headers; options: id, timestamp, signature.
sub webhook_headers ($secret, $body, %opt) {
    my $id = $opt{id} // 'msg_' . substr unpack('H*', _random()), 0, 20;
    my $timestamp = $opt{timestamp} // time;

    return (
        'webhook-id'        => $id,
        'webhook-timestamp' => $timestamp,
        'webhook-signature' => $opt{signature} // webhook_signature($secret, $id, $timestamp, $body),
    );
}

sub hex_signature ($secret, $content)    { return hmac_sha256_hex($content, $secret) }
sub base64_signature ($secret, $content) { return encode_base64(hmac_sha256($content, $secret), '') }

# As Vaani's dashboard signs: call_started in bare hexadecimal, the others with
# a prefix.
sub dashboard_headers ($secret, $event, $body) {
    my $prefix = $event eq 'call_started' ? '' : 'sha256=';
    return (
        'X-Webhook-Event'     => $event,
        'X-Webhook-Signature' => $prefix . hex_signature($secret, $body),
    );
}

# As its campaigns sign, with a time.
sub campaign_headers ($secret, $body, $timestamp = time) {
    return (
        'X-Vaani-Timestamp' => $timestamp,
        'X-Vaani-Signature' => 'sha256=' . hex_signature($secret, "$timestamp.$body"),
    );
}

# --- answers

# The only answer; the reason is in a header that the test's nginx adds.
sub is_unauthorized ($response, $name, $reason = undef) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;

    my %headers = %{ $response->headers };
    my $result = delete $headers{'x-result'};
    my $why = delete $headers{'x-reason'};
    delete @headers{qw(date server connection)};

    my $got = join "\n", $response->status, $response->reason, (map { "$_: $headers{$_}" } sort keys %headers),
        $response->body, $result // '', $why // '';
    my $wanted = join "\n", 401, 'Unauthorized', 'content-length: ' . length UNAUTHORIZED,
        'content-type: application/problem+json', 'www-authenticate: Webhook',
        UNAUTHORIZED, 'unauthorized', $reason // $why // 'no reason';

    return Test::More::is($got, $wanted, $name);
}

# --- what was told

# Of all outputs and error logs of this test file.
sub no_secret_was_told () {
    local $Test::Builder::Level = $Test::Builder::Level + 1;

    my %texts = map { ($_ => slurp($_)) } glob tmpdir() . '/nginx*/{error,stderr}.log';

    my $bytes = 0;
    my @told;

    for my $where (sort keys %texts) {
        $bytes += length $texts{$where};
        for my $secret (@secrets) {
            next if index($texts{$where}, $secret) < 0;
            push @told, "$where: " . (grep { index($_, $secret) >= 0 } split /\n/, $texts{$where})[0];
        }
    }

    Test::More::cmp_ok($bytes, '>', 0, @secrets . " secrets are looked for in $bytes bytes");
    Test::More::is(join("\n", @told), '', '... and none is told');
    return;
}

1;
