package Vaani::Test::Certificates;

# A certificate authority of the test's own, made by the openssl command.
#
#   my $ca = Vaani::Test::Certificates->new('ca');
#   my $pair = $ca->issue('redis', san => 'DNS:redis.test, IP:127.0.0.1');
#   ... $ca->file, $pair->{cert}, $pair->{key}

use v5.20;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';

use Vaani::Test::Dir qw(slurp spew tmpdir);
use Vaani::Test::Process qw(run);

my @KEY = qw(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes);

# parent: the CA above this one; without it the CA signs itself.
sub new ($class, $name, %opt) {
    my $dir = tmpdir() . "/$name";
    mkdir $dir or die "mkdir $dir: $!\n";

    my $self = bless { dir => $dir, name => $name, parent => $opt{parent} }, $class;

    spew("$dir/index.txt", '');
    spew("$dir/serial", "01\n");
    spew("$dir/crlnumber", "01\n");
    spew("$dir/openssl.cnf", <<"CNF");
[ca]
default_ca = this
[this]
database = $dir/index.txt
new_certs_dir = $dir
serial = $dir/serial
crlnumber = $dir/crlnumber
certificate = $dir/ca.crt
private_key = $dir/ca.key
default_md = sha256
default_days = 2
default_crl_days = 2
unique_subject = no
policy = policy
[policy]
commonName = supplied
[req]
distinguished_name = name
[name]
[authority]
basicConstraints = critical, CA:true
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
CNF

    my @request = ('req', '-new', @KEY, '-subj', "/CN=$name", '-keyout', "$dir/ca.key");

    if ($self->{parent}) {
        $self->_openssl(@request, '-out', "$dir/ca.csr");
        $self->{parent}->_openssl('ca', '-batch', '-notext', '-extensions', 'authority',
            '-in', "$dir/ca.csr", '-out', "$dir/ca.crt");
    } else {
        $self->_openssl(@request, '-x509', '-days', 2, '-extensions', 'authority', '-out', "$dir/ca.crt");
    }

    return $self;
}

sub file ($self) { return "$self->{dir}/ca.crt" }

# The certificates from this CA up to, but without, the root.
sub _chain ($self) {
    return $self->{parent} ? slurp($self->file) . $self->{parent}->_chain : '';
}

# A certificate and its key: { cert, key, chain }, all file names; chain has the
# CAs in between, too. Options: san => text of OpenSSL, cn, expired => 1,
# usage => 'clientAuth'.
sub issue ($self, $name, %opt) {
    my $base = "$self->{dir}/$name";

    spew("$base.ext", join '', map { "$_\n" }
        'basicConstraints = CA:false',
        'extendedKeyUsage = ' . ($opt{usage} // 'serverAuth'),
        'authorityKeyIdentifier = keyid',
        $opt{san} ? "subjectAltName = $opt{san}" : ());

    $self->_openssl('req', '-new', @KEY, '-subj', '/CN=' . ($opt{cn} // $name),
        '-keyout', "$base.key", '-out', "$base.csr");
    $self->_openssl('ca', '-batch', '-notext', '-extfile', "$base.ext",
        $opt{expired} ? qw(-startdate 20200101000000Z -enddate 20200102000000Z) : (),
        '-in', "$base.csr", '-out', "$base.crt");
    spew("$base.chain", slurp("$base.crt") . $self->_chain);

    return { cert => "$base.crt", key => "$base.key", chain => "$base.chain" };
}

# An encrypted copy of a pair's key: the file's name.
sub encrypt ($self, $pair, $password) {
    my $file = "$pair->{key}.encrypted";
    $self->_run('pkey', '-in', $pair->{key}, '-aes256', '-passout', "pass:$password", '-out', $file);
    return $file;
}

# A list of the certificates revoked so far: the file's name.
sub crl ($self) {
    my $file = "$self->{dir}/" . ++$self->{crls} . '.crl';
    $self->_openssl('ca', '-gencrl', '-out', $file);
    return $file;
}

sub revoke ($self, $pair) {
    $self->_openssl('ca', '-revoke', $pair->{cert});
    return;
}

sub _openssl ($self, $command, @arguments) {
    return $self->_run($command, '-config', "$self->{dir}/openssl.cnf", @arguments);
}

sub _run ($self, @arguments) {
    my ($exit, undef, $stderr) = run([ 'openssl', @arguments ]);
    die "openssl @arguments: $stderr\n" if $exit != 0;
    return;
}

1;
