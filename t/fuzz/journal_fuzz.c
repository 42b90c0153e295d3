
/*
 * The whole input is a segment file.  It is read unchanged, and then used as a
 * recipe: records are composed from its bytes and damaged at one place.  A
 * slow separate reader gives the expected result.
 */


#include "vaani_fuzz.h"
#include "vaani_seal.h"
#include "vaani_test.h"


#define FUZZ_MAX_RECORDS  8


/* a record of the recipe, and its position after the damage */

typedef struct {
    size_t               offset;
    size_t               size;
    unsigned             intact;
} fuzz_record_t;


typedef struct {
    u_char              *data;
    size_t               len;

    fuzz_record_t        records[FUZZ_MAX_RECORDS];
    size_t               nrecords;
    unsigned             damaged;
} fuzz_segment_t;


/* the rest of the input */

typedef struct {
    const u_char        *pos;
    const u_char        *end;
} fuzz_input_t;


size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max,
    unsigned seed);

static void fuzz_read(const u_char *data, size_t len,
    const fuzz_segment_t *segment);
static void fuzz_dead_letter(const vaani_journal_record_t *record);
static void fuzz_deferred(const vaani_journal_record_t *record);
static void fuzz_start(const vaani_journal_record_t *record);
static void fuzz_tombstone(const vaani_journal_record_t *record);
static size_t fuzz_lost(const fuzz_segment_t *segment, size_t from, size_t to);
static void fuzz_make(fuzz_segment_t *segment, fuzz_input_t *in,
    vaani_test_arena_t *arena);
static void fuzz_damage(fuzz_segment_t *segment, fuzz_input_t *in,
    vaani_test_arena_t *arena);
static size_t fuzz_take(fuzz_input_t *in, size_t max);
static size_t fuzz_record_size(const u_char *data, size_t len);
static size_t fuzz_header_size(const u_char *data, size_t len);
static uint32_t fuzz_crc(const u_char *data, size_t len);
static uint32_t fuzz_uint(const u_char *data);


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_input_t        in;
    fuzz_segment_t      segment;
    vaani_test_arena_t  arena;

    if (size > VAANI_FUZZ_MAX_SIZE) {
        return 0;
    }

    vaani_test_arena_init(&arena);

    fuzz_read(vaani_test_text(&arena, data, size), size, NULL);

    in.pos = data;
    in.end = data + size;

    fuzz_make(&segment, &in, &arena);
    fuzz_read(segment.data, segment.len, &segment);

    fuzz_damage(&segment, &in, &arena);
    fuzz_read(segment.data, segment.len, &segment);

    vaani_test_arena_free(&arena);

    return 0;
}


/*
 * Mutations hardly ever hit a correct checksum.  Therefore half of the inputs
 * get new checksums; lengths and orders stay as they were mutated.
 */

size_t
LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed)
{
    size_t  n, record;

    size = LLVMFuzzerMutate(data, size, max);

    if (seed & 1) {
        return size;
    }

    for (n = 0; n < size; n += record ? record : 1) {
        record = fuzz_header_size(data + n, size - n);

        if (record) {
            vaani_test_seal(data + n, record - VAANI_JOURNAL_HEADER,
                            fuzz_uint(data + n + 8));
        }
    }

    return size;
}


/*
 * With a segment given, its intact records must be among the records read.
 */

static void
fuzz_read(const u_char *data, size_t len, const fuzz_segment_t *segment)
{
    int                     rc;
    size_t                  n, pos, nlost, nbad;
    unsigned                bad;
    vaani_journal_reader_t  reader;
    vaani_journal_record_t  record;

    reader.data = data;
    reader.len = len;
    reader.pos = 0;

    pos = 0;
    bad = 0;
    nbad = 0;
    nlost = 0;

    for ( ;; ) {
        rc = vaani_journal_next(&reader, &record);

        if (rc == VAANI_JOURNAL_END) {
            break;
        }

        /* nothing is left out, repeated or empty: therefore the loop ends */

        vaani_fuzz_check(record.offset == pos);
        vaani_fuzz_check(record.size > 0);
        vaani_fuzz_check(record.size <= len - pos);
        vaani_fuzz_check(reader.pos == pos + record.size);

        if (rc == VAANI_JOURNAL_RECORD) {
            vaani_fuzz_check(fuzz_record_size(data + pos, len - pos)
                             == record.size);
            vaani_fuzz_check(record.content
                             == data + pos + VAANI_JOURNAL_HEADER);
            vaani_fuzz_check(record.len == record.size - VAANI_JOURNAL_HEADER);

            fuzz_dead_letter(&record);
            fuzz_deferred(&record);
            fuzz_start(&record);
            fuzz_tombstone(&record);

            /* the first byte is the record's own */

            if (segment) {
                nlost += fuzz_lost(segment, pos + 1, pos + record.size);
            }

            bad = 0;

        } else {
            vaani_fuzz_check(rc == VAANI_JOURNAL_BAD);
            vaani_fuzz_check(record.content == data + pos);
            vaani_fuzz_check(record.len == record.size);

            /* all bad bytes up to the next record are one place */

            vaani_fuzz_check(!bad);

            for (n = pos; n < pos + record.size; n++) {
                vaani_fuzz_check(fuzz_record_size(data + n, len - n) == 0);
            }

            if (segment) {
                vaani_fuzz_check(fuzz_lost(segment, pos, pos + record.size)
                                 == 0);
            }

            bad = 1;
            nbad++;
        }

        pos += record.size;
    }

    vaani_fuzz_check(pos == len);
    vaani_fuzz_check(reader.pos == len);
    vaani_fuzz_check(vaani_journal_next(&reader, &record)
                     == VAANI_JOURNAL_END);

    if (segment && !segment->damaged) {
        vaani_fuzz_check(nbad == 0);
        vaani_fuzz_check(nlost == 0);
    }
}


static void
fuzz_dead_letter(const vaani_journal_record_t *record)
{
    size_t                  len;
    const u_char           *reason;
    vaani_journal_record_t  letter;

    letter = *record;

    if (!vaani_journal_dead_letter(&letter, &reason, &len)) {
        vaani_fuzz_check(letter.content == record->content);
        vaani_fuzz_check(letter.len == record->len);
        vaani_fuzz_check(record->len < 2 || record->content[0] != 0
                         || record->content[1] > record->len - 2);
        return;
    }

    vaani_fuzz_check(record->content[0] == 0);
    vaani_fuzz_check(record->content[1] == len);
    vaani_fuzz_check(len <= record->len - 2);
    vaani_fuzz_check(reason == record->content + 2);
    vaani_fuzz_check(letter.content == reason + len);
    vaani_fuzz_check(letter.len + len + 2 == record->len);
}


/*
 * A deferred record is one again when it is written as it was read; other
 * records are unchanged.
 */

static void
fuzz_deferred(const vaani_journal_record_t *record)
{
    u_char                  head[VAANI_JOURNAL_DEFERRED];
    uint64_t                since;
    unsigned                tries;
    vaani_journal_record_t  late;

    late = *record;

    if (!vaani_journal_deferred(&late, &since, &tries)) {
        vaani_fuzz_check(late.content == record->content);
        vaani_fuzz_check(late.len == record->len);
        vaani_fuzz_check(record->len < VAANI_JOURNAL_DEFERRED
                         || record->content[0] != 'D');
        return;
    }

    vaani_fuzz_check(late.content == record->content + VAANI_JOURNAL_DEFERRED);
    vaani_fuzz_check(late.len + VAANI_JOURNAL_DEFERRED == record->len);

    vaani_journal_defer(head, since, tries);

    vaani_fuzz_check(memcmp(head, record->content, VAANI_JOURNAL_DEFERRED)
                     == 0);
}


/*
 * The same for the first record of a kept segment.
 */

static void
fuzz_start(const vaani_journal_record_t *record)
{
    u_char         content[VAANI_JOURNAL_START];
    uint64_t       boottime;
    const u_char  *boot_id;

    if (!vaani_journal_is_start(record, &boot_id, &boottime)) {
        vaani_fuzz_check(record->len != VAANI_JOURNAL_START
                         || record->content[0] != 'K');
        return;
    }

    vaani_fuzz_check(record->len == VAANI_JOURNAL_START);

    vaani_journal_start(content, boot_id, boottime);

    vaani_fuzz_check(memcmp(content, record->content, VAANI_JOURNAL_START)
                     == 0);
}


static void
fuzz_tombstone(const vaani_journal_record_t *record)
{
    u_char                  head[VAANI_JOURNAL_TOMBSTONE];
    uint64_t                erased_at;
    vaani_journal_record_t  erased;

    erased = *record;

    if (!vaani_journal_tombstone(&erased, &erased_at)) {
        vaani_fuzz_check(erased.content == record->content);
        vaani_fuzz_check(erased.len == record->len);
        vaani_fuzz_check(record->len <= VAANI_JOURNAL_TOMBSTONE
                         || record->content[0] != 'E');
        return;
    }

    vaani_fuzz_check(erased.content
                     == record->content + VAANI_JOURNAL_TOMBSTONE);
    vaani_fuzz_check(erased.len + VAANI_JOURNAL_TOMBSTONE == record->len);
    vaani_fuzz_check(erased.len > 0);

    vaani_fuzz_check(vaani_journal_tombstone_head(head, erased_at)
                     == VAANI_JOURNAL_TOMBSTONE);
    vaani_fuzz_check(memcmp(head, record->content, VAANI_JOURNAL_TOMBSTONE)
                     == 0);
}


/*
 * The intact records that begin in a range of the file.  One may be lost only
 * if the damage itself was a record that extends over it.
 */

static size_t
fuzz_lost(const fuzz_segment_t *segment, size_t from, size_t to)
{
    size_t  n, nlost;

    nlost = 0;

    for (n = 0; n < segment->nrecords; n++) {
        nlost += segment->records[n].intact
                 && segment->records[n].offset >= from
                 && segment->records[n].offset < to;
    }

    return nlost;
}


static void
fuzz_make(fuzz_segment_t *segment, fuzz_input_t *in, vaani_test_arena_t *arena)
{
    u_char         *p;
    size_t          n, len;
    uint32_t        order;
    fuzz_record_t  *record;

    memset(segment, 0, sizeof(fuzz_segment_t));

    segment->nrecords = fuzz_take(in, FUZZ_MAX_RECORDS);
    segment->data = vaani_test_own(arena, vaani_test_malloc(
                                       segment->nrecords * VAANI_JOURNAL_HEADER
                                       + (in->end - in->pos)));

    for (n = 0; n < segment->nrecords; n++) {
        order = fuzz_take(in, UINT32_MAX);
        len = fuzz_take(in, in->end - in->pos);

        if (len > (size_t) (in->end - in->pos)) {
            len = in->end - in->pos;
        }

        p = segment->data + segment->len;

        memcpy(p + VAANI_JOURNAL_HEADER, in->pos, len);
        vaani_test_seal(p, len, order);
        in->pos += len;

        vaani_fuzz_check(fuzz_uint(p + 8) == order);

        record = &segment->records[n];

        record->offset = segment->len;
        record->size = VAANI_JOURNAL_HEADER + len;
        record->intact = 1;

        segment->len += record->size;
    }
}


/*
 * Some bytes are replaced by others: this includes a truncated file, a changed
 * bit, and garbage between records.
 */

static void
fuzz_damage(fuzz_segment_t *segment, fuzz_input_t *in,
    vaani_test_arena_t *arena)
{
    u_char         *p;
    size_t          n, at, ncut, nput;
    fuzz_record_t  *record;

    at = fuzz_take(in, segment->len);
    ncut = fuzz_take(in, segment->len - at);
    nput = in->end - in->pos;

    p = vaani_test_own(arena, vaani_test_malloc(segment->len - ncut + nput));

    memcpy(p, segment->data, at);
    memcpy(p + at, in->pos, nput);
    memcpy(p + at + nput, segment->data + at + ncut,
           segment->len - at - ncut);

    for (n = 0; n < segment->nrecords; n++) {
        record = &segment->records[n];

        if (record->offset >= at + ncut) {
            record->offset += nput - ncut;

        } else if (record->offset + record->size > at) {
            record->intact = 0;
        }
    }

    segment->damaged = (ncut > 0 || nput > 0);
    segment->data = p;
    segment->len += nput - ncut;
}


/*
 * A number of up to max, from as many bytes as that needs.
 */

static size_t
fuzz_take(fuzz_input_t *in, size_t max)
{
    size_t  value, n;

    value = 0;

    for (n = max; n && in->pos < in->end; n >>= 8) {
        value = value << 8 | *in->pos++;
    }

    return value % (max + 1);
}


/*
 * The size of the record that data begins with, 0 if there is none.
 */

static size_t
fuzz_record_size(const u_char *data, size_t len)
{
    u_char    *sealed;
    size_t     size;
    uint32_t   crc;

    size = fuzz_header_size(data, len);

    if (size == 0) {
        return 0;
    }

    sealed = vaani_test_malloc(size);

    memcpy(sealed, data + 4, 8);
    memcpy(sealed + 8, data + VAANI_JOURNAL_HEADER,
           size - VAANI_JOURNAL_HEADER);
    crc = fuzz_crc(sealed, size - 8);

    free(sealed);

    return crc == fuzz_uint(data + 12) ? size : 0;
}


static size_t
fuzz_header_size(const u_char *data, size_t len)
{
    size_t  size;

    if (len < VAANI_JOURNAL_HEADER
        || data[0] != 0xff || data[1] != 'V' || data[2] != 'J'
        || data[3] != VAANI_JOURNAL_VERSION)
    {
        return 0;
    }

    size = VAANI_JOURNAL_HEADER + (size_t) fuzz_uint(data + 4);

    return (size <= len) ? size : 0;
}


/*
 * Bit by bit, without the journal's table.
 */

static uint32_t
fuzz_crc(const u_char *data, size_t len)
{
    size_t    n;
    unsigned  bit;
    uint32_t  crc;

    crc = 0xffffffff;

    for (n = 0; n < len; n++) {
        crc ^= data[n];

        for (bit = 0; bit < 8; bit++) {
            crc = (crc & 1) ? crc >> 1 ^ 0x82f63b78 : crc >> 1;
        }
    }

    return ~crc;
}


static uint32_t
fuzz_uint(const u_char *data)
{
    return (uint32_t) data[0] << 24 | (uint32_t) data[1] << 16
           | (uint32_t) data[2] << 8 | (uint32_t) data[3];
}
