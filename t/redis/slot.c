
/*
 * Prints the slots of keys, for t/redis/slots.t.
 *
 *     slot < keys
 *
 * A key is its length in 4 bytes, big-endian, and its bytes.  For each key,
 * "<slot> <CRC16 of the whole key>" is printed on a line.
 */


#include <stdio.h>
#include <stdlib.h>

#include "vaani_slot.h"


int
main(void)
{
    size_t   len;
    u_char  *key;
    u_char   head[4];

    while (fread(head, 1, sizeof(head), stdin) == sizeof(head)) {
        len = (size_t) head[0] << 24 | (size_t) head[1] << 16
              | (size_t) head[2] << 8 | (size_t) head[3];

        key = malloc(len ? len : 1);

        if (key == NULL || fread(key, 1, len, stdin) != len) {
            fprintf(stderr, "slot: cannot read a key of %zu bytes\n", len);
            free(key);
            return 1;
        }

        printf("%u %u\n", vaani_slot(key, len), vaani_crc16(key, len));
        free(key);
    }

    return ferror(stdin) || fclose(stdout) ? 1 : 0;
}
