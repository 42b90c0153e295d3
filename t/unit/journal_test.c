
/*
 * The journal's format: records are read back, whatever bytes surround them.
 */

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "vaani_test.h"
#include "vaani_seal.h"


#define TEST_NRECORDS  3


/* three records as they stand in a file, with an exact size */

typedef struct {
    u_char               *data;
    size_t                len;
    size_t                offsets[TEST_NRECORDS + 1];
} test_journal_t;


static const char  *test_contents[TEST_NRECORDS] = {
    "first", "", "the third record is a bit longer than the others"
};


static void test_journal_make(test_journal_t *journal);
static uint32_t test_slow_crc32c(uint32_t crc, const u_char *data,
    size_t len);
static void test_crc32c(void **state);
static void test_crc32c_slices(void **state);
static void test_read_back(void **state);
static void test_truncated(void **state);
static void test_flipped(void **state);
static void test_garbage_around(void **state);
static void test_length_beyond_the_end(void **state);
static void test_dead_letter(void **state);
static void test_deferred(void **state);
static void test_refusal(void **state);
static void test_start(void **state);
static void test_tombstone(void **state);


static void
test_journal_make(test_journal_t *journal)
{
    size_t   n, len;
    u_char  *p;

    journal->len = 0;

    for (n = 0; n < TEST_NRECORDS; n++) {
        journal->offsets[n] = journal->len;
        journal->len += VAANI_JOURNAL_HEADER + strlen(test_contents[n]);
    }

    journal->offsets[n] = journal->len;
    journal->data = vaani_test_malloc(journal->len);

    for (n = 0; n < TEST_NRECORDS; n++) {
        p = journal->data + journal->offsets[n];
        len = strlen(test_contents[n]);

        memcpy(p + VAANI_JOURNAL_HEADER, test_contents[n], len);
        vaani_test_seal(p, len, n * 1000 + 7);
    }
}


/*
 * RFC 3720, appendix B.4.
 */

static void
test_crc32c(void **state)
{
    size_t    n;
    u_char    data[32];

    (void) state;

    memset(data, 0, sizeof(data));
    assert_int_equal(vaani_crc32c(0, data, 32), 0x8a9136aa);

    memset(data, 0xff, sizeof(data));
    assert_int_equal(vaani_crc32c(0, data, 32), 0x62a8ab43);

    for (n = 0; n < 32; n++) {
        data[n] = n;
    }

    assert_int_equal(vaani_crc32c(0, data, 32), 0x46dd794e);
    assert_int_equal(vaani_crc32c(vaani_crc32c(0, data, 5), data + 5, 27),
                     0x46dd794e);
}


/*
 * Bit by bit.
 */

static uint32_t
test_slow_crc32c(uint32_t crc, const u_char *data, size_t len)
{
    size_t    n;
    unsigned  bit;

    crc = ~crc;

    for (n = 0; n < len; n++) {
        crc ^= data[n];

        for (bit = 0; bit < 8; bit++) {
            crc = (crc & 1) ? crc >> 1 ^ 0x82f63b78 : crc >> 1;
        }
    }

    return ~crc;
}


/*
 * All lengths around the slices at all alignments, each byte at each place of a
 * slice, and continued at each place.
 */

static void
test_crc32c_slices(void **state)
{
    size_t    n, at, len;
    u_char    data[64], zero[16];
    uint32_t  crc, seed;

    (void) state;

    seed = 1;

    for (n = 0; n < sizeof(data); n++) {
        seed = seed * 1103515245 + 12345;
        data[n] = (u_char) (seed >> 16);
    }

    for (at = 0; at < 8; at++) {
        for (len = 0; len <= sizeof(data) - at; len++) {
            crc = test_slow_crc32c(0, data + at, len);

            assert_int_equal(vaani_crc32c(0, data + at, len), crc);

            for (n = 0; n <= len; n++) {
                assert_int_equal(vaani_crc32c(vaani_crc32c(0, data + at, n),
                                              data + at + n, len - n), crc);
            }
        }
    }

    for (at = 0; at < sizeof(zero); at++) {
        for (n = 0; n < 256; n++) {
            memset(zero, 0, sizeof(zero));
            zero[at] = n;

            assert_int_equal(vaani_crc32c(0xdeadbeef, zero, sizeof(zero)),
                             test_slow_crc32c(0xdeadbeef, zero,
                                              sizeof(zero)));
        }
    }
}


static void
test_read_back(void **state)
{
    size_t                  n;
    test_journal_t          journal;
    vaani_journal_reader_t  reader;
    vaani_journal_record_t  record;

    (void) state;

    test_journal_make(&journal);

    reader.data = journal.data;
    reader.len = journal.len;
    reader.pos = 0;

    for (n = 0; n < TEST_NRECORDS; n++) {
        assert_int_equal(vaani_journal_next(&reader, &record),
                         VAANI_JOURNAL_RECORD);
        assert_int_equal(record.offset, journal.offsets[n]);
        assert_int_equal(record.size,
                         journal.offsets[n + 1] - journal.offsets[n]);
        assert_int_equal(record.len, strlen(test_contents[n]));
        assert_memory_equal(record.content, test_contents[n], record.len);
    }

    assert_int_equal(vaani_journal_next(&reader, &record), VAANI_JOURNAL_END);
    assert_int_equal(vaani_journal_next(&reader, &record), VAANI_JOURNAL_END);

    free(journal.data);
}


/*
 * Cut at every byte: the complete records are read, the rest is one bad place.
 */

static void
test_truncated(void **state)
{
    int                     rc;
    size_t                  len, whole, n;
    u_char                 *cut;
    test_journal_t          journal;
    vaani_journal_reader_t  reader;
    vaani_journal_record_t  record;

    (void) state;

    test_journal_make(&journal);

    for (len = 0; len < journal.len; len++) {
        cut = vaani_test_malloc(len);
        memcpy(cut, journal.data, len);

        reader.data = cut;
        reader.len = len;
        reader.pos = 0;

        for (whole = 0; journal.offsets[whole + 1] <= len; whole++) {
            /* void */
        }

        for (n = 0; n < whole; n++) {
            assert_int_equal(vaani_journal_next(&reader, &record),
                             VAANI_JOURNAL_RECORD);
        }

        rc = vaani_journal_next(&reader, &record);

        if (len == journal.offsets[whole]) {
            assert_int_equal(rc, VAANI_JOURNAL_END);

        } else {
            assert_int_equal(rc, VAANI_JOURNAL_BAD);
            assert_int_equal(record.offset, journal.offsets[whole]);
            assert_int_equal(record.size, len - journal.offsets[whole]);
            assert_int_equal(vaani_journal_next(&reader, &record),
                             VAANI_JOURNAL_END);
        }

        free(cut);
    }

    free(journal.data);
}


/*
 * Every bit of every byte turned: exactly that record is lost.
 */

static void
test_flipped(void **state)
{
    size_t                  i, n, hit;
    unsigned                bit;
    test_journal_t          journal;
    vaani_journal_reader_t  reader;
    vaani_journal_record_t  record;

    (void) state;

    test_journal_make(&journal);

    for (i = 0; i < journal.len; i++) {
        for (bit = 0; bit < 8; bit++) {
            journal.data[i] ^= 1 << bit;

            reader.data = journal.data;
            reader.len = journal.len;
            reader.pos = 0;

            for (hit = 0; journal.offsets[hit + 1] <= i; hit++) {
                /* void */
            }

            for (n = 0; n < TEST_NRECORDS; n++) {
                assert_int_equal(vaani_journal_next(&reader, &record),
                                 n == hit ? VAANI_JOURNAL_BAD
                                          : VAANI_JOURNAL_RECORD);
                assert_int_equal(record.offset, journal.offsets[n]);
                assert_int_equal(record.size,
                                 journal.offsets[n + 1] - journal.offsets[n]);
            }

            assert_int_equal(vaani_journal_next(&reader, &record),
                             VAANI_JOURNAL_END);

            journal.data[i] ^= 1 << bit;
        }
    }

    free(journal.data);
}


static void
test_garbage_around(void **state)
{
    size_t                  n;
    u_char                 *data;
    test_journal_t          journal;
    vaani_journal_reader_t  reader;
    vaani_journal_record_t  record;

    static const u_char     garbage[] = {
        0, 0, 0xff, 'V', 'J', VAANI_JOURNAL_VERSION, 0, 0, 0, 1, 0xff, 0xff
    };

    (void) state;

    test_journal_make(&journal);

    data = vaani_test_malloc(2 * sizeof(garbage) + journal.len);

    memcpy(data, garbage, sizeof(garbage));
    memcpy(data + sizeof(garbage), journal.data, journal.len);
    memcpy(data + sizeof(garbage) + journal.len, garbage, sizeof(garbage));

    reader.data = data;
    reader.len = 2 * sizeof(garbage) + journal.len;
    reader.pos = 0;

    assert_int_equal(vaani_journal_next(&reader, &record), VAANI_JOURNAL_BAD);
    assert_int_equal(record.offset, 0);
    assert_int_equal(record.len, sizeof(garbage));
    assert_memory_equal(record.content, garbage, sizeof(garbage));

    for (n = 0; n < TEST_NRECORDS; n++) {
        assert_int_equal(vaani_journal_next(&reader, &record),
                         VAANI_JOURNAL_RECORD);
    }

    assert_int_equal(vaani_journal_next(&reader, &record), VAANI_JOURNAL_BAD);
    assert_int_equal(record.len, sizeof(garbage));
    assert_int_equal(vaani_journal_next(&reader, &record), VAANI_JOURNAL_END);

    free(data);
    free(journal.data);
}


static void
test_length_beyond_the_end(void **state)
{
    u_char                  data[VAANI_JOURNAL_HEADER + 4];
    vaani_journal_reader_t  reader;
    vaani_journal_record_t  record;

    (void) state;

    memset(data, 'x', sizeof(data));
    vaani_journal_seal(data, 4);

    /* 0xffffffff bytes: header and length together wrap around in 32 bits */

    memset(data + 4, 0xff, 4);

    reader.data = data;
    reader.len = sizeof(data);
    reader.pos = 0;

    assert_int_equal(vaani_journal_next(&reader, &record), VAANI_JOURNAL_BAD);
    assert_int_equal(record.size, sizeof(data));
}


static void
test_dead_letter(void **state)
{
    size_t                  len;
    const u_char           *reason;
    vaani_journal_record_t  record;

    static const u_char     letter[] = "\0\006reason\001content";

    (void) state;

    record.content = letter;
    record.len = sizeof(letter) - 1;

    assert_int_equal(vaani_journal_dead_letter(&record, &reason, &len), 1);
    assert_int_equal(len, 6);
    assert_memory_equal(reason, "reason", 6);
    assert_int_equal(record.len, 8);
    assert_memory_equal(record.content, "\001content", 8);

    /* the rest is not a dead letter, nor is one that is cut */

    assert_int_equal(vaani_journal_dead_letter(&record, &reason, &len), 0);
    assert_int_equal(record.len, 8);

    record.content = letter;

    for (record.len = 0; record.len < 8; record.len++) {
        assert_int_equal(vaani_journal_dead_letter(&record, &reason, &len), 0);
    }
}


static void
test_deferred(void **state)
{
    size_t                  n;
    u_char                  bytes[VAANI_JOURNAL_DEFERRED + 7];
    uint64_t                since;
    unsigned                tries;
    vaani_journal_record_t  record;

    static const u_char     expected[] = "D\0\0\0\1\x23\x45\x67\x89\x02\x01";

    static const unsigned   times[][2] = {
        { 0, 0 }, { 1, 1 }, { 65535, 65535 }, { 65536, 65535 },
        { (unsigned) -1, 65535 }
    };

    (void) state;

    memset(bytes, 'x', sizeof(bytes));
    memcpy(bytes + VAANI_JOURNAL_DEFERRED, "content", 7);

    vaani_journal_defer(bytes, 0x123456789, 0x201);

    assert_int_equal(sizeof(expected) - 1, VAANI_JOURNAL_DEFERRED);
    assert_memory_equal(bytes, expected, VAANI_JOURNAL_DEFERRED);
    assert_memory_equal(bytes + VAANI_JOURNAL_DEFERRED, "content", 7);

    record.content = bytes;
    record.len = sizeof(bytes);

    assert_int_equal(vaani_journal_deferred(&record, &since, &tries), 1);
    assert_true(since == 0x123456789);
    assert_int_equal(tries, 0x201);
    assert_ptr_equal(record.content, bytes + VAANI_JOURNAL_DEFERRED);
    assert_int_equal(record.len, 7);

    /*
     * the rest is not one, and nothing is removed from it; nor is one that is
     * cut
     */

    since = 1;
    tries = 2;

    assert_int_equal(vaani_journal_deferred(&record, &since, &tries), 0);
    assert_int_equal(record.len, 7);

    record.content = bytes;

    for (record.len = 0; record.len < VAANI_JOURNAL_DEFERRED; record.len++) {
        assert_int_equal(vaani_journal_deferred(&record, &since, &tries), 0);
        assert_ptr_equal(record.content, bytes);
    }

    assert_true(since == 1);
    assert_int_equal(tries, 2);

    /* without content it is one, with any time and number */

    assert_int_equal(vaani_journal_deferred(&record, &since, &tries), 1);
    assert_int_equal(record.len, 0);

    for (n = 0; n < sizeof(times) / sizeof(times[0]); n++) {
        vaani_journal_defer(bytes, UINT64_MAX - n, times[n][0]);

        record.content = bytes;
        record.len = sizeof(bytes);

        assert_int_equal(vaani_journal_deferred(&record, &since, &tries), 1);
        assert_true(since == UINT64_MAX - n);
        assert_int_equal(tries, times[n][1]);
    }

    /* a record of another kind is unchanged, however long it is */

    bytes[0] = 2;

    record.content = bytes;
    record.len = sizeof(bytes);

    assert_int_equal(vaani_journal_deferred(&record, &since, &tries), 0);
    assert_ptr_equal(record.content, bytes);
    assert_int_equal(record.len, sizeof(bytes));
}


static void
test_refusal(void **state)
{
    size_t                  len, rlen;
    u_char                  bytes[10 + 255 + 4], longer[300];
    uint64_t                received_at;
    const u_char           *reason;
    vaani_journal_record_t  record;

    (void) state;

    len = vaani_journal_refusal_head(bytes, 0x123456789abcdef, (u_char *) "no",
                                     2);

    assert_int_equal(len, 12);
    assert_memory_equal(bytes, "R\x01\x23\x45\x67\x89\xab\xcd\xef\2no", 12);

    memcpy(bytes + len, "body", 4);

    record.content = bytes;
    record.len = len + 4;

    assert_int_equal(vaani_journal_refusal(&record, &received_at, &reason,
                                           &rlen),
                     1);
    assert_true(received_at == 0x123456789abcdef);
    assert_int_equal(rlen, 2);
    assert_ptr_equal(reason, bytes + 10);
    assert_int_equal(record.len, 4);
    assert_memory_equal(record.content, "body", 4);

    /* another one, or one that is cut */

    assert_int_equal(vaani_journal_refusal(&record, &received_at, &reason,
                                           &rlen),
                     0);

    record.content = (u_char *) "D123456789abcd";
    record.len = 14;

    assert_int_equal(vaani_journal_refusal(&record, &received_at, &reason,
                                           &rlen),
                     0);

    record.content = bytes;

    for (record.len = 0; record.len < len; record.len++) {
        assert_int_equal(vaani_journal_refusal(&record, &received_at, &reason,
                                               &rlen),
                         0);
    }

    /*
     * a reason that is too long is cut, also when only the length is requested
     */

    memset(longer, 'x', sizeof(longer));

    assert_int_equal(vaani_journal_refusal_head(NULL, 0, longer,
                                                sizeof(longer)),
                     265);
    assert_int_equal(vaani_journal_refusal_head(bytes, 0, longer,
                                                sizeof(longer)),
                     265);
    assert_int_equal(bytes[9], 255);
}


static void
test_start(void **state)
{
    u_char                  bytes[VAANI_JOURNAL_START + 1];
    uint64_t                boottime;
    const u_char           *boot_id;
    vaani_journal_record_t  record;

    static const u_char     id[] = "0123456789abcdef";
    static const u_char     expected[] = "K0123456789abcdef"
                                         "\x01\x23\x45\x67\x89\xab\xcd\xef";

    (void) state;

    memset(bytes, 'x', sizeof(bytes));
    vaani_journal_start(bytes, id, 0x0123456789abcdef);

    assert_int_equal(sizeof(id) - 1, VAANI_JOURNAL_BOOT_ID);
    assert_int_equal(sizeof(expected) - 1, VAANI_JOURNAL_START);
    assert_memory_equal(bytes, expected, VAANI_JOURNAL_START);
    assert_int_equal(bytes[VAANI_JOURNAL_START], 'x');

    record.content = bytes;
    record.len = VAANI_JOURNAL_START;

    assert_int_equal(vaani_journal_is_start(&record, &boot_id, &boottime), 1);
    assert_ptr_equal(boot_id, bytes + 1);
    assert_true(boottime == 0x0123456789abcdef);
    assert_int_equal(record.len, VAANI_JOURNAL_START);

    vaani_journal_start(bytes, id, UINT64_MAX);
    assert_int_equal(vaani_journal_is_start(&record, &boot_id, &boottime), 1);
    assert_true(boottime == UINT64_MAX);

    /* a record of another length or kind is not one, and sets nothing */

    boot_id = NULL;
    boottime = 1;

    for (record.len = 0; record.len <= sizeof(bytes); record.len++) {
        if (record.len != VAANI_JOURNAL_START) {
            assert_int_equal(vaani_journal_is_start(&record, &boot_id,
                                                    &boottime), 0);
        }
    }

    bytes[0] = 'E';
    record.len = VAANI_JOURNAL_START;

    assert_int_equal(vaani_journal_is_start(&record, &boot_id, &boottime), 0);
    assert_null(boot_id);
    assert_true(boottime == 1);
}


static void
test_tombstone(void **state)
{
    size_t                  len;
    u_char                  bytes[VAANI_JOURNAL_TOMBSTONE + 4];
    uint64_t                erased_at;
    vaani_journal_record_t  record;

    static const u_char     expected[] = "E\x01\x23\x45\x67\x89\xab\xcd\xef";

    (void) state;

    memset(bytes, 'x', sizeof(bytes));

    len = vaani_journal_tombstone_head(NULL, 0);

    assert_int_equal(len, VAANI_JOURNAL_TOMBSTONE);
    assert_int_equal(sizeof(expected) - 1, VAANI_JOURNAL_TOMBSTONE);
    assert_int_equal(vaani_journal_tombstone_head(bytes, 0x0123456789abcdef),
                     len);
    assert_memory_equal(bytes, expected, len);

    memcpy(bytes + len, "room", 4);

    record.content = bytes;
    record.len = sizeof(bytes);

    assert_int_equal(vaani_journal_tombstone(&record, &erased_at), 1);
    assert_true(erased_at == 0x0123456789abcdef);
    assert_ptr_equal(record.content, bytes + len);
    assert_int_equal(record.len, 4);

    /* the rest is not one, nor is one that is cut or without a room */

    erased_at = 1;

    assert_int_equal(vaani_journal_tombstone(&record, &erased_at), 0);
    assert_int_equal(record.len, 4);

    record.content = bytes;

    for (record.len = 0; record.len <= len; record.len++) {
        assert_int_equal(vaani_journal_tombstone(&record, &erased_at), 0);
        assert_ptr_equal(record.content, bytes);
    }

    assert_true(erased_at == 1);

    /* nor is a record of another kind */

    bytes[0] = 'R';
    record.len = sizeof(bytes);

    assert_int_equal(vaani_journal_tombstone(&record, &erased_at), 0);
    assert_int_equal(record.len, sizeof(bytes));

    (void) vaani_journal_tombstone_head(bytes, UINT64_MAX);

    assert_int_equal(vaani_journal_tombstone(&record, &erased_at), 1);
    assert_true(erased_at == UINT64_MAX);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_crc32c),
        cmocka_unit_test(test_crc32c_slices),
        cmocka_unit_test(test_read_back),
        cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_flipped),
        cmocka_unit_test(test_garbage_around),
        cmocka_unit_test(test_length_beyond_the_end),
        cmocka_unit_test(test_dead_letter),
        cmocka_unit_test(test_deferred),
        cmocka_unit_test(test_refusal),
        cmocka_unit_test(test_start),
        cmocka_unit_test(test_tombstone),
    };

    return cmocka_run_group_tests_name("journal", tests, NULL, NULL);
}
