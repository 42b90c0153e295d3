package Vaani::Test::Faults;

# A load of calls that continues while a test causes faults, and the account
# afterwards: every event answered with 200 must be in Redis, once.
#
#     my $load = Vaani::Test::Faults->start($nginx);
#     $load->await(ok => 50);              # that many more of these answers
#     $redis->kill;
#     $load->await(queued => 50);
#     $redis->restart;
#     $load->stop;
#     my $account = $load->verify($redis, spool => $dir);
#     is $account->{lost}, 0;
#
# The load is a separate process. Each of its calls sends one event after the
# other, as they happen in a call, every one over another connection, so that
# events of a call reach different workers. The locations that it posts to must
# append all messages to one stream (vaani_stream).

use v5.20;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';

use Scalar::Util qw(blessed);
use Vaani::Test::Dir qw(tmpdir);
use Vaani::Test::Faults::Client ();
use Vaani::Test::Index qw(index_problems);
use Vaani::Test::Process;
use Vaani::Test::Socket qw(now pause);
use Vaani::Test::Spool qw(await_empty);

# Answers that guarantee delivery.
my %PROMISE = map { $_ => 1 } qw(ok duplicate queued);

use constant INTERVAL => 0.003;    # for what announces itself nowhere
use constant PAGE => 5000;         # messages of the stream, or rooms, at a time

my $count = 0;

# $target: an Nginx object, a socket path or a port. Options:
#   uri          default /hook
#   connections  default 12
#   calls        that are under way at the same time, default 24
#   rate         events a second, 0: as many as possible; default 1500
#   ids          0: no webhook-id headers; default 1
#   resend       0: a delivery whose connection broke without an answer is not
#                sent again; default 1. Only done with ids.
#   timeout      s until an answer is held to never come, default 15
#   rooms        what the names of the rooms begin with
#   keep         0: deliveries are only counted, for loads without a verify();
#                default 1
sub start ($class, $target, %opt) {
    $target = $target->sock if blessed $target && $target->can('sock');
    my $n = ++$count;

    my $self = bless {
        target      => $target,
        uri         => $opt{uri} // '/hook',
        connections => $opt{connections} // 12,
        calls       => $opt{calls} // 24,
        rate        => $opt{rate} // 1500,
        ids         => $opt{ids} // 1,
        resend      => $opt{resend} // 1,
        timeout     => $opt{timeout} // 15,
        rooms       => $opt{rooms} // "load$n",
        keep        => $opt{keep} // 1,
        journal     => tmpdir() . "/load$n.tsv",
        offset      => 0,
        partial     => '',
        counts      => {},
        deliveries  => [],
    }, $class;
    $self->{resend} = 0 if !$self->{ids};

    open $self->{in}, '+>:raw', $self->{journal} or die "open $self->{journal}: $!\n";
    pipe(my $control, $self->{control}) or die "pipe: $!\n";

    $self->{process} = Vaani::Test::Process->spawn_code(sub {
        close $self->{control};
        open my $out, '>>:raw', $self->{journal} or die "open: $!\n";
        Vaani::Test::Faults::Client->new($self, $control, $out)->run;
        return 0;
    });

    return $self;
}

# --- while it runs

# Reads the answers since the last call.
sub _look ($self) {
    while (1) {
        my $n = sysread $self->{in}, $self->{partial}, 1 << 20, length $self->{partial};
        last if !$n;
    }

    while ($self->{partial} =~ /\G([^\n]*)\n/gc) {
        my %delivery;
        @delivery{qw(id room event n sent answered status ms tries)} = split /\t/, $1;
        $self->{counts}{ $delivery{status} }++;
        push @{ $self->{deliveries} }, \%delivery if $self->{keep};
    }
    substr $self->{partial}, 0, pos($self->{partial}) // 0, '';

    return;
}

# How many answers of a kind there were: ok, duplicate, queued, 503 ..., none.
sub count ($self, $status) {
    $self->_look;
    return $self->{counts}{$status} // 0;
}

# { answer => how often }
sub counts ($self) {
    $self->_look;
    return { %{ $self->{counts} } };
}

# Waits for so many more of them. False when they do not arrive.
sub await ($self, $status, $n, $timeout = 30) {
    my $goal = $self->count($status) + $n;
    my $deadline = now() + $timeout;

    while ($self->count($status) < $goal) {
        return 0 if now() >= $deadline || !$self->{process}->alive;
        pause(INTERVAL);
    }
    return 1;
}

# Ends the load: everything that was sent is answered, or given up.
sub stop ($self) {
    my $control = delete $self->{control} // return;
    syswrite $control, 'x';    # another load may have the pipe open, too
    close $control;

    my $ended = $self->{process}->wait($self->{timeout} + 15);
    my $status = $self->{process}->status;
    $self->{process}->kill_group;
    die "the load does not end\n" if !$ended;
    die "the load ended with status $status\n" if $status;

    $self->_look;
    return;
}

# --- the account

# When everything is replayed. Options:
#   spool    directory, which must get empty; or a list of them
#   timeout  s for that, default 30
#   stream   default vaani:stream; or a list of them, with all events of a room in
#            the same
#   key      sub ($room): of its hash, default vaani:call:<room>
#   lost     sub (\%delivery): true when Redis itself may have lost it
#   refused  1: what was refused may be in Redis all the same: its connection
#            broke before the reply, say, and the spool was full
#   healed   1: what Redis has lost comes through the spool again
#   times    0: what Redis has of a call's times cannot be told, since it lost
#            some of them; default 1, without "lost"
# Returns { acknowledged, unanswered, refused, lost, by_redis (lost there),
# brought_back (of these), twice, longest (ms),
# problems => [ texts, the first few ] }; all is well when there are none.
sub verify ($self, $redis, %opt) {
    $self->stop;

    my $account = {
        acknowledged => 0, unanswered => 0, refused => 0,
        lost => 0, by_redis => 0, brought_back => 0, twice => 0, longest => 0, problems => [],
    };
    my $problem = sub ($text) {
        push @{ $account->{problems} }, $text if @{ $account->{problems} } < 12;
    };

    for my $dir (ref $opt{spool} ? @{ $opt{spool} } : $opt{spool} // ()) {
        my @left = await_empty($dir, $opt{timeout} // 30);
        $problem->("the spool still has @left") if @left;
    }

    my (%rooms, %known);
    for my $delivery (@{ $self->{deliveries} }) {
        $known{ $delivery->{id} } = $delivery;
        push @{ $rooms{ $delivery->{room} } }, $delivery;

        my $status = $delivery->{status};
        if ($PROMISE{$status}) {
            $account->{acknowledged}++;
        } elsif ($status eq 'none') {
            $account->{unanswered}++;
        } elsif ($status eq '503') {
            $account->{refused}++;
        } else {
            $problem->("$delivery->{id} was answered $status");
        }

        if ($status ne 'none' && $delivery->{ms} > $account->{longest}) {
            $account->{longest} = $delivery->{ms};
        }
        if ($status eq 'none' && $delivery->{ms} >= 1000 * $self->{timeout}) {
            $problem->("$delivery->{id} got no answer in $self->{timeout} s");
        }
    }

    my $client = $redis->client;
    my $messages = $self->_read_stream($client, $opt{stream} // 'vaani:stream', $problem);
    my %arrived;    # id => message

    # Redis 7 that was killed while it wrote a transaction to its AOF truncates
    # the file within the transaction at the next start. At another start it
    # executes the rest of the transaction: the XADD of a script, without its
    # HSET. Only then may a message occur twice, with the same seq.
    my $may_repeat = $redis->log =~ /short read while loading the AOF/;

    for my $room (sort keys %{$messages}) {
        my $expected = 1;
        my %seen;

        @{ $messages->{$room} } = grep { !$seen{"$_->{seq} $_->{id}"}++ } @{ $messages->{$room} }
            if $may_repeat;

        for my $message (@{ $messages->{$room} }) {
            my ($seq, $id) = @$message{qw(seq id)};

            $problem->("$id has seq $seq, expected $expected") if $seq != $expected;
            $expected = $seq + 1;

            if (defined $arrived{$id}) {
                $account->{twice}++;
                $problem->("$id was applied twice (seq $arrived{$id}{seq} and $seq)");
            } elsif (!$known{$id}) {
                $problem->("$id is in Redis and was never sent");
            } elsif (!$opt{healed} && $message->{replayed} && $known{$id}{status} eq 'ok'
                && $known{$id}{tries} < 2)
            {
                $problem->("$id was answered ok and came through the spool");
            }

            # Answered at once, and yet replayed, because it was kept.
            if (!defined $arrived{$id} && $message->{replayed} && $known{$id}
                && $known{$id}{status} eq 'ok' && $known{$id}{tries} < 2)
            {
                $account->{brought_back}++;
                $account->{by_redis}++;
            }
            $arrived{$id} //= $message;
        }
    }

    my @rooms = sort keys %rooms;
    while (my @page = splice @rooms, 0, PAGE) {
        my $key = $opt{key} // sub ($room) { "vaani:call:$room" };
        my @calls = $client->pipeline(map { [ HGETALL => $key->($_) ] } @page);
        $self->_verify_room($_, $rooms{$_}, { @{ shift @calls } }, $messages->{$_} // [],
            \%arrived, \%opt, $account, $problem)
            for @page;
    }
    if ($opt{index}) {
        my $key = $opt{key} // sub ($room) { "vaani:call:$room" };
        $problem->($_) for index_problems($client, map { $key->($_) } sort keys %rooms);
    }

    return $account;
}

sub _verify_room ($self, $room, $deliveries, $call, $messages, $arrived, $opt, $account, $problem) {
    my ($acknowledged, $unanswered, $excused, $last) = (0, 0, 0, 0);

    for my $delivery (sort { $a->{n} <=> $b->{n} } @$deliveries) {
        my $id = $delivery->{id};

        if ($delivery->{status} eq 'none') {
            $unanswered++;
            next;
        }
        if (!$PROMISE{ $delivery->{status} }) {
            # A refused event must not be in Redis: the sender may send it
            # elsewhere.
            if ($opt->{refused}) {
                $unanswered++;
            } elsif (defined $arrived->{$id}) {
                $problem->("$id was answered $delivery->{status} and is in Redis");
            }
            next;
        }
        if ($opt->{lost} && !defined $arrived->{$id} && $opt->{lost}->($delivery)) {
            $excused++;
            $account->{by_redis}++;
            next;
        }

        $acknowledged++;

        if (!defined $arrived->{$id}) {
            $account->{lost}++;
            $problem->("$id, answered $delivery->{status}, is lost");
            next;
        }
        $problem->("$id left no at:$delivery->{event}")
            if !defined $call->{"at:$delivery->{event}"};

        # Events that had to wait come later, and are marked so; no others
        # wait.
        next if $arrived->{$id}{replayed};

        my $seq = $arrived->{$id}{seq};
        $problem->("$id was overtaken by a later event of its room and did not wait")
            if $seq < $last;
        $last = $seq;
    }

    # In any order of arrival, the hash follows the order of receipt. A
    # delivery that was sent again has two times, and the message has one of
    # them.
    if (@$messages && ($opt->{times} // !$opt->{lost}) && !grep { $_->{tries} > 1 } @$deliveries) {
        my @times = sort { $a <=> $b } map { $_->{received_at} } @$messages;
        my @newest = map { $_->{event} } grep { $_->{received_at} == $times[-1] } @$messages;

        $problem->("$room has created_at $call->{created_at}, expected $times[0]")
            if $call->{created_at} != $times[0];
        $problem->("$room has updated_at $call->{updated_at}, expected $times[-1]")
            if $call->{updated_at} != $times[-1];
        $problem->("$room has last_event $call->{last_event}, expected @newest")
            if !grep { $_ eq $call->{last_event} } @newest;
    }

    # The hash, the stream and the answers must agree.
    my $seq = $call->{seq} // 0;
    my $most = $acknowledged + $unanswered;
    $problem->("$room has seq $seq and " . @$messages . ' messages') if $seq != @$messages;
    $problem->("$room has seq $seq, acknowledged were $acknowledged, unanswered $unanswered")
        if $seq < $acknowledged || $seq > $most;

    return;
}

# { room => [ messages ] } of this load.
sub _read_stream ($self, $client, $stream, $problem) {
    my %rooms;

    for my $message (messages($client, $stream)) {
        my ($room, $id) = @$message{qw(room id)};

        if (!defined $room || !defined $id) {
            $problem->("not a message of an event of ours: $message->{text}");
            next;
        }
        next if $room !~ /^\Q$self->{rooms}\E-/;

        $problem->("$id is in the stream with room $room") if $id !~ m{^\Q$room\E/};
        push @{ $rooms{$room} }, $message;
    }

    return \%rooms;
}

# What is in the stream, or in all streams of a list, in its order: { text, event, seq, room, id, received_at,
# replayed }. The id is the member "delivery", at the end of the payload.
sub messages ($client, $stream = 'vaani:stream') {
    return map { messages($client, $_) } @$stream if ref $stream;
    my @messages;
    my $from = '-';

    while (1) {
        my $page = $client->cmd('XRANGE', $stream, $from, '+', 'COUNT', PAGE);

        for my $entry (@$page) {
            my %message = (text => $entry->[1][1]);
            my $payload;

            # Far faster than a JSON parser in Perl.
            (@message{qw(event room seq received_at replayed)}, $payload) = $message{text} =~ m{
                ^\{"id":"[^"]+","event":"(\w+)","room_name":"([^"]+)","seq":(\d+),.*?
                "received_at":(\d+),"key":"[^"]+"(,"replayed":true)?,"payload":(.*)\}\z
            }xs;
            ($message{id}) = $payload =~ /"delivery":"([^"]+)"\}\z/ if defined $payload;
            push @messages, \%message;
        }

        last if @$page < PAGE;
        $from = "($page->[-1][0]";
    }

    return @messages;
}

# --- the table

my @rows;

sub add_row ($fault, $account) {
    push @rows, [ $fault, @$account{qw(acknowledged lost by_redis brought_back twice refused longest)} ];
    return;
}

sub table () {
    my @table = (
        [ 'fault', 'acknowledged', 'lost', 'lost by Redis', 'brought back', 'applied twice', '503', 'longest answer' ],
        map { [ @$_[ 0 .. 6 ], sprintf '%d ms', $_->[7] ] } @rows,
    );

    my @width = (0) x 8;
    for my $row (@table) {
        for my $i (0 .. 7) {
            my $length = length $row->[$i];
            $width[$i] = $length if $length > $width[$i];
        }
    }

    return map { sprintf("%-$width[0]s" . join('', map { "  %$width[$_]s" } 1 .. 7), @$_) } @table;
}

1;
