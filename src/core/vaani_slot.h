
/*
 * Hash slots of Redis Cluster.
 *
 * https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/
 */


#ifndef _VAANI_SLOT_H_INCLUDED_
#define _VAANI_SLOT_H_INCLUDED_


#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>


#define VAANI_SLOTS            16384

#define VAANI_SLOT_TAG_LEN     3


/*
 * CRC16/XMODEM: polynomial 0x1021, initial value 0, no reflection; the CRC of
 * "123456789" is 0x31c3.  The same as in appendix A of the specification.
 */
unsigned vaani_crc16(const u_char *data, size_t len);


/*
 * Slot of a key, below VAANI_SLOTS.  If there is a "}" after the first "{", and
 * the text between the "{" and the first such "}" is not empty, only that text
 * is hashed ("Hash tags" in the specification).
 */
unsigned vaani_slot(const u_char *key, size_t len);


/*
 * Writes a hash tag, without braces, to dst, which has room for
 * VAANI_SLOT_TAG_LEN bytes. vaani_slot() of the tag, with or without braces,
 * is slot.  The tag consists of letters and depends on the slot only; each
 * slot has a different one. slot must be below VAANI_SLOTS.
 *
 * Returns the length of the tag.
 */
size_t vaani_slot_tag(unsigned slot, u_char *dst);


#endif /* _VAANI_SLOT_H_INCLUDED_ */
