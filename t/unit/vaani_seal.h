
/*
 * Records of journals that 0.6 wrote.
 */


#ifndef _VAANI_SEAL_H_INCLUDED_
#define _VAANI_SEAL_H_INCLUDED_


#include "../spool/vaani_journal.h"


/*
 * As vaani_journal_seal(), with the number that such a record has.
 */

static inline void
vaani_test_seal(u_char *dst, size_t len, uint32_t order)
{
    size_t    n;
    uint32_t  crc;

    vaani_journal_seal(dst, len);

    for (n = 0; n < 4; n++) {
        dst[8 + n] = (u_char) (order >> (24 - 8 * n));
    }

    crc = vaani_crc32c(0, dst + 4, 8);
    crc = vaani_crc32c(crc, dst + VAANI_JOURNAL_HEADER, len);

    for (n = 0; n < 4; n++) {
        dst[12 + n] = (u_char) (crc >> (24 - 8 * n));
    }
}


#endif /* _VAANI_SEAL_H_INCLUDED_ */
