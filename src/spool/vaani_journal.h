
/*
 * The format of the spool's files: a sequence of records, each of which can be
 * recognized among damaged bytes.  No nginx types, because the tool reads them
 * too.
 *
 *     magic      4 bytes: 0xff "VJ" and the version; in a file of refused
 *                deliveries the version plus 0x80 after it was sent again
 *     length     4 bytes, big-endian, of the content
 *     unused     4 bytes: 0 since 0.7
 *     CRC32C     4 bytes, big-endian, of the 8 bytes before it and the content
 *     content
 *
 * A dead letter is a record whose content is a zero byte, the length of the
 * reason in one byte, the reason, and the original content.
 *
 * A refused delivery is a record whose content is 'R', the time of its receipt
 * in 8 bytes (big-endian, Unix time in ms), the length of the reason in one
 * byte, the reason, and the body.
 *
 * A deferred record, which could not be delivered while others could, is one
 * whose content is 'D', the time of its first try in 8 bytes (big-endian, Unix
 * time in s), the number of its tries in 2 bytes, and the original content.
 *
 * A segment of events that Redis has, kept in case Redis loses data, begins
 * with a record whose content is 'K', the boot id in 16 bytes, and the
 * CLOCK_BOOTTIME of its start in 8 bytes (big-endian, ms).  Its age does not
 * depend on a clock that can be set.
 *
 * A tombstone is a record whose content is 'E', the time of the erasure in 8
 * bytes (big-endian, Unix time in ms), and the name of the room: events of
 * that room that were received before that time are not applied again.
 *
 * 0xff never occurs in UTF-8, so the body of a webhook cannot look like a
 * record.
 */


#ifndef _VAANI_JOURNAL_H_INCLUDED_
#define _VAANI_JOURNAL_H_INCLUDED_


#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>


#define VAANI_JOURNAL_VERSION  1
#define VAANI_JOURNAL_SENT     0x80     /* added to the version */
#define VAANI_JOURNAL_HEADER   16


typedef struct {
    const u_char        *data;
    size_t               len;
    size_t               pos;
} vaani_journal_reader_t;


typedef struct {
    size_t               offset;        /* of the record or the bad bytes */
    size_t               size;          /* of them, with the header */

    const u_char        *content;
    size_t               len;
} vaani_journal_record_t;


#define VAANI_JOURNAL_RECORD   0
#define VAANI_JOURNAL_BAD      1
#define VAANI_JOURNAL_END      2


/*
 * Writes the header of a record to dst.  Its content, of len bytes, must
 * already be at dst + VAANI_JOURNAL_HEADER.
 */
void vaani_journal_seal(u_char *dst, size_t len);

/*
 * Stores the next record of reader->data in *record, which points into it.
 *
 * Returns VAANI_JOURNAL_RECORD; VAANI_JOURNAL_BAD for bytes that are no
 * record, up to the next one or the end (in record->offset and ->size);
 * VAANI_JOURNAL_END.
 */
int vaani_journal_next(vaani_journal_reader_t *reader,
    vaani_journal_record_t *record);

/*
 * If the record is a deferred one, removes the header from its content and
 * stores *since (Unix time, s) and *tries.  Returns 1 if it was one, otherwise
 * 0.
 */
int vaani_journal_deferred(vaani_journal_record_t *record, uint64_t *since,
    unsigned *tries);

/*
 * Writes the header of a deferred record's content to dst: VAANI_JOURNAL_
 * DEFERRED bytes.
 */
#define VAANI_JOURNAL_DEFERRED 11

void vaani_journal_defer(u_char *dst, uint64_t since, unsigned tries);

/*
 * If the record is a dead letter, removes the header from its content: *reason
 * points there, *len is its length.  Returns 1 if it was one, otherwise 0.
 */
int vaani_journal_dead_letter(vaani_journal_record_t *record,
    const u_char **reason, size_t *len);

/*
 * Writes the header of a refused delivery to dst; the body belongs after it.
 * At most 255 of the rlen bytes of reason are used.  With dst NULL writes
 * nothing.  Returns the length of the header.
 */
size_t vaani_journal_refusal_head(u_char *dst, uint64_t received_at,
    const u_char *reason, size_t rlen);

/*
 * If the record is a refused delivery, removes the time of its receipt and the
 * reason from its content, which is then the body: *reason points to the
 * reason.  Returns 1 if it was one, otherwise 0.
 */
int vaani_journal_refusal(vaani_journal_record_t *record,
    uint64_t *received_at, const u_char **reason, size_t *rlen);

/*
 * Writes the content of the first record of a kept segment to dst:
 * VAANI_JOURNAL_START bytes. boot_id has VAANI_JOURNAL_BOOT_ID bytes; boottime
 * is that of CLOCK_BOOTTIME, in ms.
 */
#define VAANI_JOURNAL_BOOT_ID  16
#define VAANI_JOURNAL_START    25

void vaani_journal_start(u_char *dst, const u_char *boot_id,
    uint64_t boottime);

/*
 * If the record is the first one of a kept segment, stores its values:
 * *boot_id points into its content.  Returns 1 if it was one, otherwise 0.
 */
int vaani_journal_is_start(const vaani_journal_record_t *record,
    const u_char **boot_id, uint64_t *boottime);

/*
 * Writes the header of a tombstone to dst; the name of the room belongs after
 * it. erased_at is Unix time in ms.  With dst NULL writes nothing.  Returns
 * the length of the header.
 */
#define VAANI_JOURNAL_TOMBSTONE  9

size_t vaani_journal_tombstone_head(u_char *dst, uint64_t erased_at);

/*
 * If the record is a tombstone, removes the time of the erasure from its
 * content, which is then the name of the room.  Returns 1 if it was one,
 * otherwise 0.
 */
int vaani_journal_tombstone(vaani_journal_record_t *record,
    uint64_t *erased_at);

/*
 * CRC32C (Castagnoli, RFC 3720, appendix B.4) of len bytes, continued from
 * crc, which is 0 at first.
 */
uint32_t vaani_crc32c(uint32_t crc, const u_char *data, size_t len);


#endif /* _VAANI_JOURNAL_H_INCLUDED_ */
