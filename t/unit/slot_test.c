
/*
 * Slots of keys are those of Redis Cluster, and each slot has a tag.
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "vaani_slot.h"
#include "vaani_test.h"


static unsigned slow_crc16(const u_char *data, size_t len);
static unsigned slot_of(const char *key, size_t len);


/*
 * Bit by bit.
 */

static unsigned
slow_crc16(const u_char *data, size_t len)
{
    size_t    n;
    unsigned  bit, crc;

    crc = 0;

    for (n = 0; n < len; n++) {
        crc ^= (unsigned) data[n] << 8;

        for (bit = 0; bit < 8; bit++) {
            crc = (crc & 0x8000) ? crc << 1 ^ 0x1021 : crc << 1;
            crc &= 0xffff;
        }
    }

    return crc;
}


static unsigned
slot_of(const char *key, size_t len)
{
    unsigned            slot;
    vaani_test_arena_t  arena;

    vaani_test_arena_init(&arena);
    slot = vaani_slot(vaani_test_text(&arena, key, len), len);
    vaani_test_arena_free(&arena);

    return slot;
}


static void
test_crc16(void **state)
{
    size_t    n, i, len;
    u_char    data[64];
    unsigned  crc;
    uint64_t  seed;

    (void) state;

    assert_int_equal(vaani_crc16((const u_char *) "123456789", 9), 0x31c3);
    assert_int_equal(vaani_crc16((const u_char *) "", 0), 0);
    assert_int_equal(vaani_crc16(NULL, 0), 0);

    for (n = 0; n < 256; n++) {
        data[0] = n;
        assert_int_equal(vaani_crc16(data, 1), slow_crc16(data, 1));
    }

    seed = 88172645463325252ULL;

    for (n = 0; n < 20000; n++) {
        len = n % (sizeof(data) + 1);

        for (i = 0; i < len; i++) {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            data[i] = seed >> 24;
        }

        crc = vaani_crc16(data, len);

        vaani_test_that(crc == slow_crc16(data, len), "%s: %04x",
                        vaani_test_show(data, len), crc);
    }
}


/*
 * The slots are those that CLUSTER KEYSLOT of Redis 7.0 gives.
 */

static void
test_slots(void **state)
{
    size_t    n;
    unsigned  slot;

    static const struct {
        const char  *key;
        unsigned     slot;
    } rows[] = {
        { "", 0 },
        { "foo", 12182 },
        { "123456789", 12739 },
        { "somekey", 11058 },
        { "{user1000}.following", 3443 },
        { "{user1000}.followers", 3443 },
        { "user1000", 3443 }
    };

    (void) state;

    for (n = 0; n < vaani_test_nelems(rows); n++) {
        slot = slot_of(rows[n].key, strlen(rows[n].key));
        vaani_test_that(slot == rows[n].slot, "%s: %u", rows[n].key, slot);
    }

    assert_int_equal(vaani_slot(NULL, 0), 0);
}


static void
test_tagged(void **state)
{
    size_t    n, len, hashed_len;
    unsigned  slot;

    /* NULL: the whole key is hashed */

    static const struct {
        const char  *key;
        const char  *hashed;
    } rows[] = {
        { "foo{bar}", "bar" },
        { "{bar}foo", "bar" },
        { "foo{bar}zap", "bar" },
        { "foo{{bar}}zap", "{bar" },
        { "foo{bar}{zap}", "bar" },
        { "foo}{bar}", "bar" },
        { "}{bar}", "bar" },
        { "{ }", " " },
        { "{{}", "{" },
        { "{{}}", "{" },
        { "foo{}{bar}", NULL },
        { "{}", NULL },
        { "{}bar", NULL },
        { "{", NULL },
        { "}", NULL },
        { "foo{", NULL },
        { "foo{bar", NULL },
        { "foo}bar{", NULL },
        { "foo}bar", NULL }
    };

    (void) state;

    for (n = 0; n < vaani_test_nelems(rows); n++) {
        len = strlen(rows[n].key);
        slot = slot_of(rows[n].key, len);

        hashed_len = rows[n].hashed ? strlen(rows[n].hashed) : len;

        vaani_test_that(slot == slow_crc16((const u_char *)
                                           (rows[n].hashed ? rows[n].hashed
                                                           : rows[n].key),
                                           hashed_len) % VAANI_SLOTS,
                        "%s: %u", rows[n].key, slot);
    }

    /* a zero byte is an ordinary one */

    assert_int_equal(slot_of("a\0{b\0c}d", 8),
                     slow_crc16((const u_char *) "b\0c", 3) % VAANI_SLOTS);
}


static void
test_tags(void **state)
{
    u_char          *tag;
    size_t           i, len;
    unsigned         slot;
    char             key[VAANI_SLOT_TAG_LEN + 8];
    u_char           again[VAANI_SLOT_TAG_LEN];
    static unsigned  seen[VAANI_SLOTS];

    (void) state;

    for (slot = 0; slot < VAANI_SLOTS; slot++) {
        tag = vaani_test_malloc(VAANI_SLOT_TAG_LEN);
        len = vaani_slot_tag(slot, tag);

        assert_in_range(len, 1, VAANI_SLOT_TAG_LEN);

        for (i = 0; i < len; i++) {
            vaani_test_that((tag[i] >= '0' && tag[i] <= '9')
                            || (tag[i] >= 'A' && tag[i] <= 'Z')
                            || (tag[i] >= 'a' && tag[i] <= 'z'),
                            "slot %u: %s", slot, vaani_test_show(tag, len));
        }

        assert_int_equal(slow_crc16(tag, len) % VAANI_SLOTS, slot);
        assert_int_equal(vaani_slot(tag, len), slot);

        sprintf(key, "k{%.*s}{x}", (int) len, (char *) tag);
        assert_int_equal(slot_of(key, strlen(key)), slot);

        assert_int_equal(vaani_slot_tag(slot, again), len);
        assert_memory_equal(again, tag, len);

        seen[vaani_slot(tag, len)]++;

        free(tag);
    }

    for (slot = 0; slot < VAANI_SLOTS; slot++) {
        assert_int_equal(seen[slot], 1);
    }
}


int
main(void)
{
    const struct CMUnitTest  slots[] = {
        cmocka_unit_test(test_crc16),
        cmocka_unit_test(test_slots),
        cmocka_unit_test(test_tagged),
        cmocka_unit_test(test_tags)
    };

    return cmocka_run_group_tests_name("slots", slots, NULL, NULL) != 0;
}
