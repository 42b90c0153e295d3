
#include <string.h>

#include "vaani_journal.h"


#define VAANI_CRC32C_POLY      0x82f63b78

/* the first byte of a refused delivery; others begin with 0 or a version */

#define VAANI_JOURNAL_REFUSAL  'R'


static const u_char  vaani_journal_magic[4] = {
    0xff, 'V', 'J', VAANI_JOURNAL_VERSION
};


static int vaani_journal_check(const u_char *data, size_t len,
    vaani_journal_record_t *record);
static void vaani_journal_write_uint(u_char *dst, uint32_t value);
static uint32_t vaani_journal_read_uint(const u_char *src);


void
vaani_journal_seal(u_char *dst, size_t len, uint32_t order)
{
    uint32_t  crc;

    memcpy(dst, vaani_journal_magic, 4);
    vaani_journal_write_uint(dst + 4, len);
    vaani_journal_write_uint(dst + 8, order);

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
    record->order = vaani_journal_read_uint(data + 8);

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


static uint32_t
vaani_journal_read_uint(const u_char *src)
{
    return (uint32_t) src[0] << 24 | src[1] << 16 | src[2] << 8 | src[3];
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

    *since = (uint64_t) vaani_journal_read_uint(p + 1) << 32
             | vaani_journal_read_uint(p + 5);
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
    vaani_journal_write_uint(dst + 1, (uint32_t) (since >> 32));
    vaani_journal_write_uint(dst + 5, (uint32_t) since);
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
        vaani_journal_write_uint(dst + 1, (uint32_t) (received_at >> 32));
        vaani_journal_write_uint(dst + 5, (uint32_t) received_at);
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

    *received_at = (uint64_t) vaani_journal_read_uint(p + 1) << 32
                   | vaani_journal_read_uint(p + 5);
    *reason = p + 10;
    *rlen = p[9];

    record->content += 10 + *rlen;
    record->len -= 10 + *rlen;

    return 1;
}


uint32_t
vaani_crc32c(uint32_t crc, const u_char *data, size_t len)
{
    size_t           n;
    unsigned         i, bit;
    uint32_t         c;
    static unsigned  made;
    static uint32_t  table[256];

    if (!made) {
        for (i = 0; i < 256; i++) {
            c = i;

            for (bit = 0; bit < 8; bit++) {
                c = (c & 1) ? (c >> 1) ^ VAANI_CRC32C_POLY : c >> 1;
            }

            table[i] = c;
        }

        made = 1;
    }

    crc = ~crc;

    for (n = 0; n < len; n++) {
        crc = table[(crc ^ data[n]) & 0xff] ^ (crc >> 8);
    }

    return ~crc;
}
