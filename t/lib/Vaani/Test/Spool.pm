package Vaani::Test::Spool;

# Spool directories, and the content of their files.

use v5.20;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';

use Exporter 'import';
use File::Path qw(make_path);
use Vaani::Test::Dir qw(slurp spew tmpdir);
use Vaani::Test::Process qw(run);
use Vaani::Test::Socket qw(now pause);

our @EXPORT = qw(
    spool segment names segments await_empty kept_files kept_contents kept_ids
    crc32c journal_record journal_records journal_contents deferred_content deferred delivery_content
);
our @EXPORT_OK = qw(tool);

# --- spool directories

# A new one with these files and, as nginx makes it, a lock.
sub spool (%files) {
    state $count = 0;
    my $dir = tmpdir() . '/spool' . ++$count;
    make_path($dir, (map { m{^(.+)/} ? "$dir/$1" : () } keys %files), { mode => 0700 });
    spew("$dir/$_", $files{$_}) for keys %files;
    spew("$dir/lock", '');
    return $dir;
}

# The name of the segment with that number.
sub segment ($n) { return sprintf '%020d.log', $n }

# The names of files in a spool, except its lock.
sub names ($dir) {
    opendir my $dh, $dir or die "opendir $dir: $!\n";
    return [ sort grep { !/^(?:\.|\.\.|lock)\z/ } readdir $dh ];
}

# Segments that are in a spool, in their order.
sub segments ($dir) {
    opendir my $dh, $dir or return;
    my @names = sort grep { /^\d{20}\.log\z/ } readdir $dh;
    return @names;
}

# Waits until there are none. Returns those that are left after the timeout.
sub await_empty ($dir, $timeout = 30) {
    my $deadline = now() + $timeout;

    while (my @left = segments($dir)) {
        return @left if now() >= $deadline;
        pause(0.003);
    }
    return;
}

# The result of vaani-spool with these arguments, { exit, out, err }, and the
# last line of out.
sub tool (@args) {
    my ($exit, $out, $err) = run([ Vaani::Test::vaani_spool(), @args ]);
    return { exit => $exit, out => $out, err => $err, last => (split /\n/, $out)[-1] // '' };
}

# The paths of kept segments, oldest first, in a directory or in the spool of an nginx.
sub kept_files ($of) {
    my $dir = ref $of ? $of->dir . '/spool' : $of;
    opendir my $dh, $dir or return;
    my @names = sort grep { /^\d{20}-[0-9a-f]{32}\.kept\z/ } readdir $dh;
    return map { "$dir/$_" } @names;
}

# --- the format of the spool's files, see src/spool/vaani_journal.h and
# src/core/vaani_record.c

sub crc32c ($bytes) {
    state $table = do {
        my @table;
        for my $n (0 .. 255) {
            my $c = $n;
            $c = $c & 1 ? ($c >> 1) ^ 0x82f63b78 : $c >> 1 for 1 .. 8;
            push @table, $c;
        }
        \@table;
    };

    my $crc = 0xffffffff;
    $crc = $table->[ ($crc ^ $_) & 0xff ] ^ ($crc >> 8) for unpack 'C*', $bytes;
    return $crc ^ 0xffffffff;
}

# A record of the journal with that content.
sub journal_record ($content, $order = 0) {
    my $head = pack 'NN', length $content, $order;
    return "\xffVJ\x01" . $head . pack('N', crc32c($head . $content)) . $content;
}

# Records with those contents, in sequence.
sub journal_records (@contents) { return join '', map { journal_record($_) } @contents }

# The contents of records that follow each other without other bytes.
sub journal_contents ($bytes) {
    my @contents;
    my $pos = 0;

    while ($pos < length $bytes) {
        my ($magic, $length, $order, $crc) = unpack 'a4NNN', substr $bytes, $pos, 16;
        my $content = substr $bytes, $pos + 16, $length;
        die "no record at offset $pos\n"
            if $magic ne "\xffVJ\x01" || length $content != $length
            || $crc != crc32c(pack('NN', $length, $order) . $content);
        push @contents, $content;
        $pos += 16 + $length;
    }

    return @contents;
}

# The content for a record that could not be delivered while others could:
# since when (Unix time, s), how often it was tried, and its content.
sub deferred_content ($since, $tries, $content) { return pack('aQ>n', 'D', $since, $tries) . $content }

# Since when, how often, and the content, if it is one; else nothing.
sub deferred ($content) { return $content =~ /^D/ ? unpack 'x Q> n a*', $content : () }

# The content for an event as a location with the default data model would
# write it. Options: room; id, default the room; body, default a call_ringing;
# and received_at, ttl, maxlen, stream,
# digest, nonce, message, name, repaired, channels => []; version => 1 for that
# of an nginx before 0.7.
sub delivery_content (%opt) {
    my @channels = @{ $opt{channels} // [ 'vaani:events', "vaani:room:$opt{room}" ] };
    my $version = $opt{version} // 2;
    my $id = $opt{id} // $opt{room};
    my $body = $opt{body} // qq({"event":"call_ringing","room_name":"$opt{room}"});
    my @strings = (
        "vaani:call:$opt{room}", $opt{stream} // 'vaani:stream',
        $opt{digest} // "digest of $id", $id, $opt{nonce} // '', @channels, $body,
        $version > 1 ? ($opt{message} // $id, $opt{name} // '') : (),
    );

    return pack('CnQ>3 (N/a*)*', $version, scalar @channels,
        $opt{received_at} // 1790000000123, $opt{ttl} // 604800000, $opt{maxlen} // 0, @strings)
        . ($version > 1 ? pack('C', $opt{repaired} // 0) : '');
}

# The contents of the records of a file, whatever is between them.
sub kept_contents ($path) {
    my $bytes = slurp($path);
    my @contents;

    while ($bytes =~ /\xffVJ\x01/g) {
        my $pos = pos($bytes) - 4;
        my ($length, $order, $crc) = unpack 'NNN', substr $bytes, $pos + 4, 12;
        my $content = substr $bytes, $pos + 16, $length // 0;
        next if length $content != ($length // -1)
            || $crc != crc32c(pack('NN', $length, $order) . $content);
        push @contents, $content;
        pos($bytes) = $pos + 16 + $length;
    }
    return @contents;
}

# { id => 1 } of the load's events in kept segments.
sub kept_ids ($of) {
    return { map { /"delivery":"([^"]+)"\}/ ? ($1 => 1) : () } map { kept_contents($_) } kept_files($of) };
}

1;
