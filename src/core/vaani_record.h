
/*
 * A delivery as bytes: what the spool keeps until Redis takes it, with all
 * that its location said of it.
 */


#ifndef _VAANI_RECORD_H_INCLUDED_
#define _VAANI_RECORD_H_INCLUDED_


#include "vaani_transition.h"


#define VAANI_RECORD_VERSION   2


/*
 * The bytes that vaani_record_write() will write.
 */
size_t vaani_record_size(const vaani_delivery_t *delivery);

/*
 * Writes the delivery to dst and returns the end of what was written.
 * delivery->replayed isn't written: it's what a delivery read back is.
 */
u_char *vaani_record_write(u_char *dst, const vaani_delivery_t *delivery);

/*
 * Reads a delivery back.  Its strings point into data; the list of channels is
 * memory of alloc.
 *
 * Returns VAANI_OK; VAANI_ERROR if these bytes aren't a delivery of this
 * version or the one before, whose deliveries have no id for messages: they get
 * one of what tells them apart; VAANI_NOMEM.
 */
int vaani_record_read(vaani_delivery_t *delivery, const u_char *data,
    size_t len, vaani_alloc_t *alloc);

/*
 * Reads only the key of a delivery; *key points into data.  Returns VAANI_OK or
 * VAANI_ERROR; what is behind the key isn't looked at.
 */
int vaani_record_key(vaani_str_t *key, const u_char *data, size_t len);


#endif /* _VAANI_RECORD_H_INCLUDED_ */
