
/*
 * A delivery as bytes, with all settings of its location: the spool keeps it
 * until Redis takes it.
 */


#ifndef _VAANI_RECORD_H_INCLUDED_
#define _VAANI_RECORD_H_INCLUDED_


#include "vaani_transition.h"


#define VAANI_RECORD_VERSION   2


/*
 * The number of bytes that vaani_record_write() will write.
 */
size_t vaani_record_size(const vaani_delivery_t *delivery);

/*
 * Writes the delivery to dst and returns the end of the written bytes.
 * delivery->replayed is not written: vaani_record_read() sets it.
 */
u_char *vaani_record_write(u_char *dst, const vaani_delivery_t *delivery);

/*
 * Reads a delivery.  Its strings point into data; the list of channels is
 * memory of alloc.
 *
 * Returns VAANI_OK; VAANI_ERROR if the bytes are not a delivery of this
 * version or the previous one; VAANI_NOMEM.  Deliveries of the previous
 * version have no message id: they get one made from the values that
 * distinguish them.
 */
int vaani_record_read(vaani_delivery_t *delivery, const u_char *data,
    size_t len, vaani_alloc_t *alloc);

/*
 * Reads only the key of a delivery; *key points into data.  Returns VAANI_OK
 * or VAANI_ERROR.  The bytes after the key are not checked.
 */
int vaani_record_key(vaani_str_t *key, const u_char *data, size_t len);


#endif /* _VAANI_RECORD_H_INCLUDED_ */
