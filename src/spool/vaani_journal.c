
#include <string.h>

#include "vaani_journal.h"


/* the first byte of a content; other contents begin with 0 or a version */

#define VAANI_JOURNAL_REFUSAL  'R'
#define VAANI_JOURNAL_OPENING  'K'
#define VAANI_JOURNAL_ERASURE  'E'

/*
 * The table of 256 checksums is computed from those of the 8 single bits: the
 * checksum of two bits is the XOR of their checksums.  A constant needs no
 * lock.
 */

#define VAANI_CRC32C_1(x, a)                                                  \
    (x), (x) ^ (a)
#define VAANI_CRC32C_2(x, a, b)                                               \
    VAANI_CRC32C_1(x, a), VAANI_CRC32C_1((x) ^ (b), a)
#define VAANI_CRC32C_3(x, a, b, c)                                            \
    VAANI_CRC32C_2(x, a, b), VAANI_CRC32C_2((x) ^ (c), a, b)
#define VAANI_CRC32C_4(x, a, b, c, d)                                         \
    VAANI_CRC32C_3(x, a, b, c), VAANI_CRC32C_3((x) ^ (d), a, b, c)
#define VAANI_CRC32C_5(x, a, b, c, d, e)                                      \
    VAANI_CRC32C_4(x, a, b, c, d), VAANI_CRC32C_4((x) ^ (e), a, b, c, d)
#define VAANI_CRC32C_6(x, a, b, c, d, e, f)                                   \
    VAANI_CRC32C_5(x, a, b, c, d, e), VAANI_CRC32C_5((x) ^ (f), a, b, c, d, e)
#define VAANI_CRC32C_7(x, a, b, c, d, e, f, g)                                \
    VAANI_CRC32C_6(x, a, b, c, d, e, f),                                      \
    VAANI_CRC32C_6((x) ^ (g), a, b, c, d, e, f)
#define VAANI_CRC32C_8(a, b, c, d, e, f, g, h)                                \
    VAANI_CRC32C_7(0, a, b, c, d, e, f, g),                                   \
    VAANI_CRC32C_7((h), a, b, c, d, e, f, g)


static const u_char  vaani_journal_magic[4] = {
    0xff, 'V', 'J', VAANI_JOURNAL_VERSION
};

/* row n: checksums of a byte that is followed by n zero bytes */

static const uint32_t  vaani_crc32c_table[8][256] = {
    { VAANI_CRC32C_8(0xf26b8303, 0xe13b70f7, 0xc79a971f, 0x8ad958cf,
                     0x105ec76f, 0x20bd8ede, 0x417b1dbc, 0x82f63b78) },
    { VAANI_CRC32C_8(0x13a29877, 0x274530ee, 0x4e8a61dc, 0x9d14c3b8,
                     0x3fc5f181, 0x7f8be302, 0xff17c604, 0xfbc3faf9) },
    { VAANI_CRC32C_8(0xa541927e, 0x4f6f520d, 0x9edea41a, 0x38513ec5,
                     0x70a27d8a, 0xe144fb14, 0xc76580d9, 0x8b277743) },
    { VAANI_CRC32C_8(0xdd45aab8, 0xbf672381, 0x7b2231f3, 0xf64463e6,
                     0xe964b13d, 0xd725148b, 0xaba65fe7, 0x52a0c93f) },
    { VAANI_CRC32C_8(0x38116fac, 0x7022df58, 0xe045beb0, 0xc5670b91,
                     0x8f2261d3, 0x1ba8b557, 0x37516aae, 0x6ea2d55c) },
    { VAANI_CRC32C_8(0xef306b19, 0xdb8ca0c3, 0xb2f53777, 0x6006181f,
                     0xc00c303e, 0x85f4168d, 0x0e045beb, 0x1c08b7d6) },
    { VAANI_CRC32C_8(0x68032cc8, 0xd0065990, 0xa5e0c5d1, 0x4e2dfd53,
                     0x9c5bfaa6, 0x3d5b83bd, 0x7ab7077a, 0xf56e0ef4) },
    { VAANI_CRC32C_8(0x493c7d27, 0x9278fa4e, 0x211d826d, 0x423b04da,
                     0x847609b4, 0x0d006599, 0x1a00cb32, 0x34019664) }
};


static int vaani_journal_check(const u_char *data, size_t len,
    vaani_journal_record_t *record);
static void vaani_journal_write_uint(u_char *dst, uint32_t value);
static void vaani_journal_write_long(u_char *dst, uint64_t value);
static uint32_t vaani_journal_read_uint(const u_char *src);
static uint64_t vaani_journal_read_long(const u_char *src);


void
vaani_journal_seal(u_char *dst, size_t len)
{
    uint32_t  crc;

    memcpy(dst, vaani_journal_magic, 4);
    vaani_journal_write_uint(dst + 4, len);
    vaani_journal_write_uint(dst + 8, 0);

    crc = vaani_crc32c(0, dst + 4, 8);
    crc = vaani_crc32c(crc, dst + VAANI_JOURNAL_HEADER, len);

    vaani_journal_write_uint(dst + 12, crc);
}


int
vaani_journal_next(vaani_journal_reader_t *reader,
    vaani_journal_record_t *record)
{
    size_t         start;
    const u_char  *p, *end;

    if (reader->pos == reader->len) {
        return VAANI_JOURNAL_END;
    }

    start = reader->pos;
    end = reader->data + reader->len;
    p = reader->data + start;

    if (vaani_journal_check(p, end - p, record)) {
        record->offset = start;
        reader->pos += record->size;

        return VAANI_JOURNAL_RECORD;
    }

    do {
        p = memchr(p + 1, vaani_journal_magic[0], end - p - 1);

        if (p == NULL) {
            p = end;
            break;
        }

    } while (!vaani_journal_check(p, end - p, record));

    record->offset = start;
    record->size = p - reader->data - start;
    record->content = reader->data + start;
    record->len = record->size;

    reader->pos = p - reader->data;

    return VAANI_JOURNAL_BAD;
}


static int
vaani_journal_check(const u_char *data, size_t len,
    vaani_journal_record_t *record)
{
    uint32_t  crc;

    if (len < VAANI_JOURNAL_HEADER
        || memcmp(data, vaani_journal_magic, 4) != 0)
    {
        return 0;
    }

    record->len = vaani_journal_read_uint(data + 4);

    if (record->len > len - VAANI_JOURNAL_HEADER) {
        return 0;
    }

    record->content = data + VAANI_JOURNAL_HEADER;
    record->size = VAANI_JOURNAL_HEADER + record->len;

    crc = vaani_crc32c(0, data + 4, 8);
    crc = vaani_crc32c(crc, record->content, record->len);

    return crc == vaani_journal_read_uint(data + 12);
}


static void
vaani_journal_write_uint(u_char *dst, uint32_t value)
{
    dst[0] = (u_char) (value >> 24);
    dst[1] = (u_char) (value >> 16);
    dst[2] = (u_char) (value >> 8);
    dst[3] = (u_char) value;
}


static void
vaani_journal_write_long(u_char *dst, uint64_t value)
{
    vaani_journal_write_uint(dst, (uint32_t) (value >> 32));
    vaani_journal_write_uint(dst + 4, (uint32_t) value);
}


static uint32_t
vaani_journal_read_uint(const u_char *src)
{
    return (uint32_t) src[0] << 24 | src[1] << 16 | src[2] << 8 | src[3];
}


static uint64_t
vaani_journal_read_long(const u_char *src)
{
    return (uint64_t) vaani_journal_read_uint(src) << 32
           | vaani_journal_read_uint(src + 4);
}


int
vaani_journal_deferred(vaani_journal_record_t *record, uint64_t *since,
    unsigned *tries)
{
    const u_char  *p;

    p = record->content;

    if (record->len < VAANI_JOURNAL_DEFERRED || p[0] != 'D') {
        return 0;
    }

    *since = vaani_journal_read_long(p + 1);
    *tries = p[9] << 8 | p[10];

    record->content += VAANI_JOURNAL_DEFERRED;
    record->len -= VAANI_JOURNAL_DEFERRED;

    return 1;
}


void
vaani_journal_defer(u_char *dst, uint64_t since, unsigned tries)
{
    if (tries > 0xffff) {
        tries = 0xffff;
    }

    dst[0] = 'D';
    vaani_journal_write_long(dst + 1, since);
    dst[9] = (u_char) (tries >> 8);
    dst[10] = (u_char) tries;
}


int
vaani_journal_dead_letter(vaani_journal_record_t *record,
    const u_char **reason, size_t *len)
{
    const u_char  *p;

    p = record->content;

    if (record->len < 2 || p[0] != 0 || record->len - 2 < p[1]) {
        return 0;
    }

    *reason = p + 2;
    *len = p[1];

    record->content += 2 + *len;
    record->len -= 2 + *len;

    return 1;
}


size_t
vaani_journal_refusal_head(u_char *dst, uint64_t received_at,
    const u_char *reason, size_t rlen)
{
    if (rlen > 255) {
        rlen = 255;
    }

    if (dst) {
        dst[0] = VAANI_JOURNAL_REFUSAL;
        vaani_journal_write_long(dst + 1, received_at);
        dst[9] = (u_char) rlen;
        memcpy(dst + 10, reason, rlen);
    }

    return 10 + rlen;
}


int
vaani_journal_refusal(vaani_journal_record_t *record, uint64_t *received_at,
    const u_char **reason, size_t *rlen)
{
    const u_char  *p;

    p = record->content;

    if (record->len < 10
        || p[0] != VAANI_JOURNAL_REFUSAL
        || record->len - 10 < p[9])
    {
        return 0;
    }

    *received_at = vaani_journal_read_long(p + 1);
    *reason = p + 10;
    *rlen = p[9];

    record->content += 10 + *rlen;
    record->len -= 10 + *rlen;

    return 1;
}


void
vaani_journal_start(u_char *dst, const u_char *boot_id, uint64_t boottime)
{
    dst[0] = VAANI_JOURNAL_OPENING;
    memcpy(dst + 1, boot_id, VAANI_JOURNAL_BOOT_ID);
    vaani_journal_write_long(dst + 1 + VAANI_JOURNAL_BOOT_ID, boottime);
}


int
vaani_journal_is_start(const vaani_journal_record_t *record,
    const u_char **boot_id, uint64_t *boottime)
{
    const u_char  *p;

    p = record->content;

    if (record->len != VAANI_JOURNAL_START || p[0] != VAANI_JOURNAL_OPENING) {
        return 0;
    }

    *boot_id = p + 1;
    *boottime = vaani_journal_read_long(p + 1 + VAANI_JOURNAL_BOOT_ID);

    return 1;
}


size_t
vaani_journal_tombstone_head(u_char *dst, uint64_t erased_at)
{
    if (dst) {
        dst[0] = VAANI_JOURNAL_ERASURE;
        vaani_journal_write_long(dst + 1, erased_at);
    }

    return VAANI_JOURNAL_TOMBSTONE;
}


int
vaani_journal_tombstone(vaani_journal_record_t *record, uint64_t *erased_at)
{
    const u_char  *p;

    p = record->content;

    if (record->len <= VAANI_JOURNAL_TOMBSTONE
        || p[0] != VAANI_JOURNAL_ERASURE)
    {
        return 0;
    }

    *erased_at = vaani_journal_read_long(p + 1);

    record->content += VAANI_JOURNAL_TOMBSTONE;
    record->len -= VAANI_JOURNAL_TOMBSTONE;

    return 1;
}


uint32_t
vaani_crc32c(uint32_t crc, const u_char *data, size_t len)
{
    const uint32_t  (*table)[256];

    table = vaani_crc32c_table;
    crc = ~crc;

    /* eight look-ups that do not wait for each other, in any byte order */

    for ( /* void */ ; len >= 8; len -= 8, data += 8) {
        crc ^= data[0] | data[1] << 8 | data[2] << 16
               | (uint32_t) data[3] << 24;

        crc = table[7][crc & 0xff]
              ^ table[6][crc >> 8 & 0xff]
              ^ table[5][crc >> 16 & 0xff]
              ^ table[4][crc >> 24]
              ^ table[3][data[4]]
              ^ table[2][data[5]]
              ^ table[1][data[6]]
              ^ table[0][data[7]];
    }

    for ( /* void */ ; len; len--, data++) {
        crc = table[0][(crc ^ *data) & 0xff] ^ crc >> 8;
    }

    return ~crc;
}
