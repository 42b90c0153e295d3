
/*
 * The whole input is the content of a record.  It is read and, if it is a
 * delivery of this version or the previous one, converted to the arguments of
 * the script, as after a crash.  Then it is used as a recipe: a delivery is
 * composed from it, written and read back.
 */


#include "vaani_fuzz.h"
#include "vaani_record.h"
#include "vaani_test.h"


#define FUZZ_MAX_CHANNELS  4


/* the rest of the input */

typedef struct {
    const u_char        *pos;
    const u_char        *end;
} fuzz_input_t;


static void fuzz_bytes(const u_char *data, size_t size);
static void fuzz_within(const vaani_delivery_t *delivery, const u_char *data,
    size_t size);
static void fuzz_form(const vaani_delivery_t *delivery, const u_char *data,
    size_t size, vaani_test_arena_t *arena);
static void fuzz_transition(const vaani_delivery_t *delivery,
    vaani_alloc_t *alloc);
static void fuzz_delivery(const u_char *data, size_t size);
static void fuzz_make(vaani_delivery_t *delivery, vaani_str_t *channels,
    fuzz_input_t *in);
static unsigned fuzz_equal(const vaani_delivery_t *d1,
    const vaani_delivery_t *d2);
static u_char *fuzz_write(const vaani_delivery_t *delivery, size_t size,
    vaani_test_arena_t *arena);
static uint64_t fuzz_take(fuzz_input_t *in, size_t size);
static vaani_str_t fuzz_take_str(fuzz_input_t *in, size_t size);


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > VAANI_FUZZ_MAX_SIZE) {
        return 0;
    }

    fuzz_bytes(data, size);
    fuzz_delivery(data, size);

    return 0;
}


static void
fuzz_bytes(const u_char *data, size_t size)
{
    int                 rc;
    size_t              nallocs;
    const u_char       *text;
    vaani_delivery_t    delivery, again;
    vaani_test_arena_t  arena;

    vaani_test_arena_init(&arena);

    text = vaani_test_text(&arena, data, size);

    rc = vaani_record_read(&delivery, text, size, &arena.alloc);
    nallocs = arena.nallocs;

    vaani_fuzz_check(rc == VAANI_OK || rc == VAANI_ERROR);
    vaani_fuzz_check(nallocs <= 1);

    if (rc == VAANI_OK) {
        fuzz_within(&delivery, text, size);

        fuzz_form(&delivery, text, size, &arena);
        fuzz_transition(&delivery, &arena.alloc);
    }

    if (nallocs) {
        arena.nallocs = 0;
        arena.fail_at = 1;

        vaani_fuzz_check(vaani_record_read(&again, text, size, &arena.alloc)
                         == VAANI_NOMEM);
    }

    vaani_test_arena_free(&arena);
}


/*
 * Each delivery has one form, except for unknown flags and for a nonce, which
 * is not written any more.  The form of version 1 lacks the part after the
 * payload.
 */

static void
fuzz_form(const vaani_delivery_t *delivery, const u_char *data, size_t size,
    vaani_test_arena_t *arena)
{
    size_t            len, flags;
    u_char           *p;
    const u_char     *nonce;
    vaani_delivery_t  written;

    /* what was read as a record has its version at least */

    vaani_fuzz_check(size != 0);

    written = *delivery;

    if (data[0] == 1) {
        written.message.len = 0;
    }

    len = vaani_record_size(&written);
    p = fuzz_write(&written, len, arena);

    vaani_fuzz_check(p[0] == VAANI_RECORD_VERSION);

    /* behind the id, which is behind its length */

    nonce = data + 1 + 2 + 3 * 8 + 4 * 4 + delivery->key.len
            + delivery->stream.len + delivery->digest.len + delivery->id.len;

    if (memcmp(nonce, "\0\0\0\0", 4) != 0) {
        return;
    }

    if (data[0] == 1) {
        vaani_fuzz_check(len == size + 4 + 4 + 1);
        vaani_fuzz_check(memcmp(p + 1, data + 1, size - 1) == 0);
        vaani_fuzz_check(memcmp(p + size, "\0\0\0\0\0\0\0\0\0", 9) == 0);
        return;
    }

    vaani_fuzz_check(data[0] == 2);
    vaani_fuzz_check(len == size);

    /* the number of sharded channels may follow them */

    flags = delivery->nsharded ? size - 3 : size - 1;

    vaani_fuzz_check(memcmp(p, data, flags) == 0);
    vaani_fuzz_check(p[flags] == (data[flags] & 15));
    vaani_fuzz_check(memcmp(p + flags + 1, data + flags + 1, size - flags - 1)
                     == 0);
}


static void
fuzz_within(const vaani_delivery_t *delivery, const u_char *data, size_t size)
{
    size_t  n;

    vaani_fuzz_check(vaani_fuzz_within(&delivery->key, data, size));
    vaani_fuzz_check(vaani_fuzz_within(&delivery->stream, data, size));
    vaani_fuzz_check(vaani_fuzz_within(&delivery->digest, data, size));
    vaani_fuzz_check(vaani_fuzz_within(&delivery->id, data, size));
    vaani_fuzz_check(vaani_fuzz_within(&delivery->payload, data, size));

    if (size > 0 && data[0] == 1) {
        vaani_fuzz_check(vaani_fuzz_within(&delivery->message, data, size));
        vaani_fuzz_check(delivery->name.data == NULL);
        vaani_fuzz_check(delivery->repaired == 0);
        vaani_fuzz_check(delivery->omit_payload == 0);
        vaani_fuzz_check(delivery->index == 0);
        vaani_fuzz_check(delivery->nsharded == 0);

    } else {
        vaani_fuzz_check(vaani_fuzz_within(&delivery->message, data, size));
        vaani_fuzz_check(vaani_fuzz_within(&delivery->name, data, size));
    }

    for (n = 0; n < delivery->nchannels; n++) {
        vaani_fuzz_check(vaani_fuzz_within(&delivery->channels[n], data,
                                           size));
    }

    vaani_fuzz_check(delivery->nsharded <= delivery->nchannels);
    vaani_fuzz_check(delivery->replayed == 1);
}


/*
 * The replay's conversion of a delivery: only its checksum was verified, and
 * the arguments must have room for all of its bytes.
 */

static void
fuzz_transition(const vaani_delivery_t *delivery, vaani_alloc_t *alloc)
{
    size_t                n, nargs, nkeys, sum;
    vaani_str_t          *args;
    vaani_event_t         event;
    vaani_event_error_t   error;

    if (vaani_event_parse(&event, &delivery->payload, &delivery->name, 0,
                          delivery->repaired, alloc, &error)
        != VAANI_OK)
    {
        return;
    }

    vaani_fuzz_check(vaani_transition_args(&event, delivery, alloc, &args,
                                           &nargs)
                     == VAANI_OK);

    vaani_fuzz_check(args[0].len == 1);

    nkeys = 1 + (delivery->stream.len != 0);

    if (delivery->index && event.type
        && delivery->key.len >= sizeof(":call:") - 1 + event.room.len)
    {
        nkeys += 2;
        vaani_fuzz_check(args[nkeys - 1].len
                         == delivery->key.len - event.room.len + 1);
        vaani_fuzz_check(args[nkeys].len
                         == delivery->key.len - event.room.len);
        vaani_fuzz_check(memcmp(args[nkeys].data, delivery->key.data,
                                args[nkeys].len - (sizeof(":calls") - 1))
                         == 0);
    }

    vaani_fuzz_check(args[0].data[0] == '0' + nkeys);
    vaani_fuzz_check(vaani_str_eq(&args[1], &delivery->key));

    /* the sanitizers check that each byte can be read */

    sum = 0;

    while (nargs--) {
        for (n = 0; n < args[nargs].len; n++) {
            sum += args[nargs].data[n];
        }
    }

    vaani_fuzz_check(sum > 0);
}


static void
fuzz_delivery(const u_char *data, size_t size)
{
    u_char              *p;
    size_t               len, cut;
    vaani_str_t          channels[FUZZ_MAX_CHANNELS];
    fuzz_input_t         in;
    vaani_delivery_t     delivery, read;
    vaani_test_arena_t   arena;

    vaani_test_arena_init(&arena);

    in.pos = data;
    in.end = data + size;

    fuzz_make(&delivery, channels, &in);

    len = vaani_record_size(&delivery);
    p = fuzz_write(&delivery, len, &arena);

    vaani_fuzz_check(vaani_record_read(&read, p, len, &arena.alloc)
                     == VAANI_OK);
    vaani_fuzz_check(fuzz_equal(&read, &delivery));

    /* not with one byte less, nor cut anywhere, nor with one byte more */

    cut = (size * 31 + (size ? data[size - 1] : 0)) % len;

    vaani_fuzz_check(vaani_record_read(&read,
                                       vaani_test_text(&arena, p, len - 1),
                                       len - 1, &arena.alloc)
                     == VAANI_ERROR);

    vaani_fuzz_check(vaani_record_read(&read, vaani_test_text(&arena, p, cut),
                                       cut, &arena.alloc)
                     == VAANI_ERROR);

    p = vaani_test_own(&arena, vaani_test_malloc(len + 1));
    (void) vaani_record_write(p, &delivery);
    p[len] = 0;

    vaani_fuzz_check(vaani_record_read(&read, p, len + 1, &arena.alloc)
                     == VAANI_ERROR);

    vaani_test_arena_free(&arena);
}


static void
fuzz_make(vaani_delivery_t *delivery, vaani_str_t *channels, fuzz_input_t *in)
{
    size_t    n;
    unsigned  flags;

    memset(delivery, 0, sizeof(vaani_delivery_t));

    delivery->nchannels = fuzz_take(in, 1) % (FUZZ_MAX_CHANNELS + 1);
    delivery->channels = channels;

    delivery->received_at = fuzz_take(in, 8);
    delivery->ttl = fuzz_take(in, 8);
    delivery->maxlen = fuzz_take(in, 8);

    delivery->key = fuzz_take_str(in, 1);
    delivery->stream = fuzz_take_str(in, 1);
    delivery->digest = fuzz_take_str(in, 1);
    delivery->id = fuzz_take_str(in, 1);

    for (n = 0; n < delivery->nchannels; n++) {
        channels[n] = fuzz_take_str(in, 1);
    }

    delivery->payload = fuzz_take_str(in, 2);
    delivery->message = fuzz_take_str(in, 1);
    delivery->name = fuzz_take_str(in, 1);
    flags = fuzz_take(in, 1);
    delivery->repaired = flags & 1;
    delivery->omit_payload = (flags >> 1) & 1;
    delivery->index = (flags >> 2) & 1;
    delivery->nsharded = fuzz_take(in, 1) % (delivery->nchannels + 1);
}


static unsigned
fuzz_equal(const vaani_delivery_t *d1, const vaani_delivery_t *d2)
{
    size_t  n;

    if (!vaani_str_eq(&d1->key, &d2->key)
        || !vaani_str_eq(&d1->stream, &d2->stream)
        || !vaani_str_eq(&d1->digest, &d2->digest)
        || !vaani_str_eq(&d1->id, &d2->id)
        || !vaani_str_eq(&d1->payload, &d2->payload)
        || !vaani_str_eq(&d1->message, &d2->message)
        || !vaani_str_eq(&d1->name, &d2->name)
        || d1->repaired != d2->repaired
        || d1->omit_payload != d2->omit_payload
        || d1->index != d2->index
        || d1->received_at != d2->received_at
        || d1->ttl != d2->ttl
        || d1->maxlen != d2->maxlen
        || d1->nchannels != d2->nchannels
        || d1->nsharded != d2->nsharded)
    {
        return 0;
    }

    for (n = 0; n < d1->nchannels; n++) {
        if (!vaani_str_eq(&d1->channels[n], &d2->channels[n])) {
            return 0;
        }
    }

    return 1;
}


static u_char *
fuzz_write(const vaani_delivery_t *delivery, size_t size,
    vaani_test_arena_t *arena)
{
    u_char  *p;

    p = vaani_test_own(arena, vaani_test_malloc(size));

    vaani_fuzz_check(vaani_record_write(p, delivery) == p + size);

    return p;
}


/*
 * An integer of size bytes, or of as many as there are.
 */

static uint64_t
fuzz_take(fuzz_input_t *in, size_t size)
{
    uint64_t  value;

    for (value = 0; size && in->pos < in->end; size--) {
        value = value << 8 | *in->pos++;
    }

    return value;
}


/*
 * A string whose length, in size bytes, comes before it.
 */

static vaani_str_t
fuzz_take_str(fuzz_input_t *in, size_t size)
{
    vaani_str_t  str;

    str.len = fuzz_take(in, size);

    if (str.len > (size_t) (in->end - in->pos)) {
        str.len = in->end - in->pos;
    }

    str.data = in->pos;
    in->pos += str.len;

    return str;
}
