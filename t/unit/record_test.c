
/*
 * Deliveries are read back as they were written, also those of the previous
 * version; all other bytes are refused.
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "vaani_record.h"
#include "vaani_test.h"


static void check_same(const vaani_delivery_t *read,
    const vaani_delivery_t *expected);
static size_t write_version_1(u_char *dst, const vaani_delivery_t *delivery);


static vaani_str_t  test_channels[] = {
    vaani_string("vaani:events"), vaani_string("vaani:room:r"), { 0, NULL }
};

static const vaani_delivery_t  test_sample = {
    .key = vaani_string("vaani:call:r"),
    .stream = vaani_string("stream"),
    .maxlen = 1000,
    .channels = test_channels,
    .nchannels = 3,
    .ttl = 604800000,
    .received_at = 1790000000123ULL,
    .digest = vaani_string("digest"),
    .id = vaani_string("id"),
    .message = vaani_string("the message"),
    .name = vaani_string("\"call_ringing\""),
    .repaired = 1,
    .payload = vaani_string("{\"room_name\":\"r\"}")
};


static void
check_same(const vaani_delivery_t *read, const vaani_delivery_t *expected)
{
    size_t  n;

    assert_true(vaani_str_eq(&read->key, &expected->key));
    assert_true(vaani_str_eq(&read->stream, &expected->stream));
    assert_true(vaani_str_eq(&read->digest, &expected->digest));
    assert_true(vaani_str_eq(&read->id, &expected->id));
    assert_true(vaani_str_eq(&read->message, &expected->message));
    assert_true(vaani_str_eq(&read->name, &expected->name));
    assert_true(vaani_str_eq(&read->payload, &expected->payload));
    assert_true(read->maxlen == expected->maxlen);
    assert_true(read->ttl == expected->ttl);
    assert_true(read->received_at == expected->received_at);
    assert_int_equal(read->repaired, expected->repaired);
    assert_int_equal(read->omit_payload, expected->omit_payload);
    assert_int_equal(read->index, expected->index);
    assert_int_equal(read->since, 0);
    assert_int_equal(read->nchannels, expected->nchannels);
    assert_int_equal(read->nsharded, expected->nsharded);

    for (n = 0; n < expected->nchannels; n++) {
        assert_true(vaani_str_eq(&read->channels[n], &expected->channels[n]));
    }

    /* a delivery read back has been in the spool */

    assert_int_equal(read->replayed, 1);
}


static void
test_delivery(void **state)
{
    size_t              size, n;
    u_char             *data;
    vaani_delivery_t    read, sample;
    vaani_test_arena_t  arena;

    (void) state;

    for (n = 0; n < 8; n++) {
        vaani_test_arena_init(&arena);

        sample = test_sample;

        if (n & 1) {
            sample.repaired = 0;
            sample.name.len = 0;
            sample.message.len = 0;
        }

        /* of its messages; the record always has it */

        sample.omit_payload = n / 2 % 2;
        sample.index = n / 4;

        size = vaani_record_size(&sample);
        data = vaani_test_malloc(size);

        assert_ptr_equal(vaani_record_write(data, &sample), data + size);
        assert_int_equal(data[0], 2);
        assert_int_equal(data[size - 1],
                         sample.repaired | 4 * sample.omit_payload
                         | 8 * sample.index);
        assert_int_equal(vaani_record_read(&read, data, size, &arena.alloc),
                         VAANI_OK);

        check_same(&read, &sample);

        vaani_test_arena_free(&arena);

        arena.fail_at = 1;
        assert_int_equal(vaani_record_read(&read, data, size, &arena.alloc),
                         VAANI_NOMEM);

        vaani_test_arena_free(&arena);
        free(data);
    }
}


/*
 * Sharded channels are counted after the flags, so that an older version sees
 * that there is more than it knows.
 */

static void
test_sharded(void **state)
{
    size_t              size, plain, len, n;
    u_char             *data, *cut;
    vaani_delivery_t    read, sample;
    vaani_test_arena_t  arena;

    (void) state;

    vaani_test_arena_init(&arena);

    sample = test_sample;
    plain = vaani_record_size(&sample);

    for (n = 1; n <= sample.nchannels; n++) {
        sample.nsharded = n;
        sample.repaired = n & 1;
        sample.omit_payload = n > 1;

        size = vaani_record_size(&sample);
        data = vaani_test_malloc(size);

        assert_int_equal(size, plain + 2);
        assert_ptr_equal(vaani_record_write(data, &sample), data + size);
        assert_int_equal(data[0], 2);
        assert_int_equal(data[plain - 1],
                         sample.repaired | 2 | 4 * sample.omit_payload);

        for (len = 0; len <= size; len++) {
            cut = vaani_test_malloc(len);
            memcpy(cut, data, len);

            assert_int_equal(vaani_record_read(&read, cut, len, &arena.alloc),
                             len == size ? VAANI_OK : VAANI_ERROR);

            if (len == size) {
                check_same(&read, &sample);
            }

            free(cut);
        }

        /* more than there are channels, and none */

        data[size - 1] = 4;
        assert_int_equal(vaani_record_read(&read, data, size, &arena.alloc),
                         VAANI_ERROR);

        data[size - 1] = 0;
        assert_int_equal(vaani_record_read(&read, data, size, &arena.alloc),
                         VAANI_ERROR);

        vaani_test_arena_free(&arena);
        free(data);
    }
}


/*
 * Empty strings and zero numbers: the shortest record; and one with maximum
 * values.
 */

static void
test_borders(void **state)
{
    size_t              size;
    u_char             *data;
    vaani_delivery_t    read, sample;
    vaani_test_arena_t  arena;

    (void) state;

    vaani_test_arena_init(&arena);

    memset(&sample, 0, sizeof(vaani_delivery_t));

    size = vaani_record_size(&sample);
    data = vaani_test_malloc(size);

    assert_ptr_equal(vaani_record_write(data, &sample), data + size);

    arena.fail_at = 1;
    assert_int_equal(vaani_record_read(&read, data, size, &arena.alloc),
                     VAANI_OK);
    check_same(&read, &sample);

    free(data);

    sample.ttl = UINT64_MAX;
    sample.maxlen = UINT64_MAX - 1;
    sample.received_at = (uint64_t) 1 << 63;

    size = vaani_record_size(&sample);
    data = vaani_test_malloc(size);

    assert_ptr_equal(vaani_record_write(data, &sample), data + size);
    assert_int_equal(vaani_record_read(&read, data, size, &arena.alloc),
                     VAANI_OK);
    check_same(&read, &sample);

    vaani_test_arena_free(&arena);
    free(data);
}


/*
 * A record of version 1, whole and cut at each byte.
 */

static size_t
write_version_1(u_char *dst, const vaani_delivery_t *delivery)
{
    size_t  size, tail;

    /* the same, but for what comes after the payload */

    size = vaani_record_size(delivery);
    (void) vaani_record_write(dst, delivery);

    tail = 4 + delivery->message.len + 4 + delivery->name.len + 1;

    dst[0] = 1;

    return size - tail;
}


static void
test_version_1(void **state)
{
    size_t              size, len;
    u_char             *data, *cut;
    vaani_delivery_t    read, sample;
    vaani_test_arena_t  arena;

    static const u_char  written[] =
        "\1\0\1" "\0\0\0\0\0\0\0\1" "\0\0\0\0\0\0\0\2" "\0\0\0\0\0\0\0\3"
        "\0\0\0\1k" "\0\0\0\1s" "\0\0\0\1d" "\0\0\0\1i" "\0\0\0\1n"
        "\0\0\0\1c" "\0\0\0\2{}";

    /* a transfer without an id, and another event without one */

    static const u_char  transfer[] =
        "\1\0\0" "\0\0\0\0\0\0\0\1" "\0\0\0\0\0\0\0\2" "\0\0\0\0\0\0\0\3"
        "\0\0\0\1k" "\0\0\0\1s" "\0\0\0\1d" "\0\0\0\0" "\0\0\0\1n"
        "\0\0\0\2{}";

    static const u_char  neither[] =
        "\1\0\0" "\0\0\0\0\0\0\0\1" "\0\0\0\0\0\0\0\2" "\0\0\0\0\0\0\0\3"
        "\0\0\0\1k" "\0\0\0\1s" "\0\0\0\1d" "\0\0\0\0" "\0\0\0\0"
        "\0\0\0\2{}";

    (void) state;

    vaani_test_arena_init(&arena);

    data = vaani_test_malloc(vaani_record_size(&test_sample));
    size = write_version_1(data, &test_sample);

    sample = test_sample;
    sample.message = sample.id;
    sample.name.len = 0;
    sample.repaired = 0;
    sample.omit_payload = 0;

    for (len = 0; len <= size; len++) {
        cut = vaani_test_malloc(len);
        memcpy(cut, data, len);

        assert_int_equal(vaani_record_read(&read, cut, len, &arena.alloc),
                         len == size ? VAANI_OK : VAANI_ERROR);

        if (len == size) {
            check_same(&read, &sample);
        }

        free(cut);
    }

    assert_int_equal(vaani_record_read(&read, data, size + 1, &arena.alloc),
                     VAANI_ERROR);

    /* in the form of that version's spools */

    assert_int_equal(vaani_record_read(&read, written, sizeof(written) - 1,
                                       &arena.alloc),
                     VAANI_OK);

    assert_int_equal(read.received_at, 1);
    assert_int_equal(read.ttl, 2);
    assert_int_equal(read.maxlen, 3);
    assert_int_equal(read.key.data[0], 'k');
    assert_int_equal(read.stream.data[0], 's');
    assert_int_equal(read.digest.data[0], 'd');
    assert_int_equal(read.id.data[0], 'i');
    assert_int_equal(read.nchannels, 1);
    assert_int_equal(read.channels[0].data[0], 'c');
    assert_int_equal(read.payload.len, 2);
    assert_int_equal(read.name.len + read.repaired, 0);
    assert_true(vaani_str_eq(&read.message, &read.id));

    assert_int_equal(vaani_record_read(&read, transfer, sizeof(transfer) - 1,
                                       &arena.alloc),
                     VAANI_OK);

    assert_int_equal(read.id.len, 0);
    assert_int_equal(read.nchannels, 0);
    assert_int_equal(read.message.len, 1);
    assert_int_equal(read.message.data[0], 'n');

    assert_int_equal(vaani_record_read(&read, neither, sizeof(neither) - 1,
                                       &arena.alloc),
                     VAANI_OK);

    assert_true(vaani_str_eq(&read.message, &read.digest));

    vaani_test_arena_free(&arena);
    free(data);
}


static void
test_delivery_cut(void **state)
{
    size_t              size, len;
    u_char             *data, *cut;
    vaani_delivery_t    read;
    vaani_test_arena_t  arena;

    (void) state;

    vaani_test_arena_init(&arena);

    size = vaani_record_size(&test_sample);
    data = vaani_test_malloc(size + 1);
    (void) vaani_record_write(data, &test_sample);

    for (len = 0; len < size; len++) {
        cut = vaani_test_malloc(len);
        memcpy(cut, data, len);

        assert_int_equal(vaani_record_read(&read, cut, len, &arena.alloc),
                         VAANI_ERROR);
        free(cut);
    }

    data[size] = 0;
    assert_int_equal(vaani_record_read(&read, data, size + 1, &arena.alloc),
                     VAANI_ERROR);

    vaani_test_arena_free(&arena);
    free(data);
}


static void
test_key(void **state)
{
    size_t       size, len, before;
    u_char      *data, *cut;
    vaani_str_t  key;

    (void) state;

    size = vaani_record_size(&test_sample);
    data = vaani_test_malloc(size);
    (void) vaani_record_write(data, &test_sample);

    /* the bytes after it are not checked */

    before = 1 + 2 + 3 * 8 + 4 + test_sample.key.len;

    for (len = 0; len <= size; len++) {
        cut = vaani_test_malloc(len);
        memcpy(cut, data, len);

        assert_int_equal(vaani_record_key(&key, cut, len),
                         len < before ? VAANI_ERROR : VAANI_OK);

        if (len >= before) {
            assert_int_equal(key.len, test_sample.key.len);
            assert_memory_equal(key.data, test_sample.key.data, key.len);
        }

        free(cut);
    }

    data[0] = 0;
    assert_int_equal(vaani_record_key(&key, data, size), VAANI_ERROR);

    data[0] = VAANI_RECORD_VERSION + 1;
    assert_int_equal(vaani_record_key(&key, data, size), VAANI_ERROR);

    free(data);
}


static void
test_delivery_of_another_version(void **state)
{
    size_t              size;
    u_char             *data;
    unsigned            version;
    vaani_delivery_t    read;
    vaani_test_arena_t  arena;

    (void) state;

    vaani_test_arena_init(&arena);

    size = vaani_record_size(&test_sample);
    data = vaani_test_malloc(size);
    (void) vaani_record_write(data, &test_sample);

    for (version = 0; version < 256; version++) {
        data[0] = version;

        /* a complete one of version 2 is not one of version 1 */

        assert_int_equal(vaani_record_read(&read, data, size, &arena.alloc),
                         version == 2 ? VAANI_OK : VAANI_ERROR);
    }

    vaani_test_arena_free(&arena);
    free(data);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_delivery),
        cmocka_unit_test(test_sharded),
        cmocka_unit_test(test_borders),
        cmocka_unit_test(test_version_1),
        cmocka_unit_test(test_delivery_cut),
        cmocka_unit_test(test_key),
        cmocka_unit_test(test_delivery_of_another_version)
    };

    return cmocka_run_group_tests_name("record", tests, NULL, NULL);
}
