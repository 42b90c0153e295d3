
/*
 * What replies about servers consist of: words, numbers, ports and hosts.
 *
 * Nothing here is trusted: host names consist of printable ASCII characters
 * without spaces, and everything copied has a bound.
 */


#ifndef _VAANI_ENDPOINT_H_INCLUDED_
#define _VAANI_ENDPOINT_H_INCLUDED_


#include <sys/time.h>

#include <hiredis/hiredis.h>

#include "../core/vaani_core.h"


#define VAANI_TOPOLOGY_MAX_PORT     65535

/* of a host, with the terminating null byte */

#define VAANI_TOPOLOGY_HOST_SIZE    256


#define vaani_text_is(str, size, literal)                                     \
    ((size) == sizeof(literal) - 1 && memcmp(str, literal, size) == 0)

#define vaani_reply_is(reply, literal)                                        \
    ((reply)->type == REDIS_REPLY_STRING                                      \
     && vaani_text_is((reply)->str, (reply)->len, literal))


/* they return VAANI_OK; or VAANI_ERROR, and what they set is undefined then */

/*
 * Takes the next word of a text; words are separated by one space, and none is
 * empty.  *p then is the beginning of the word after it, or the end of the
 * text.
 */
int vaani_text_word(const char **p, const char *last, vaani_str_t *word);

/* digits only, and no leading zeros, as Redis prints numbers; max < 100000 */
int vaani_text_number(const void *text, size_t len, unsigned max,
    unsigned *value);

/* 1 to 65535 */
int vaani_text_port(const void *text, size_t len, unsigned *port);

/*
 * Copies a host, which is not empty and loses its brackets, to
 * VAANI_TOPOLOGY_HOST_SIZE bytes.
 */
int vaani_text_host(const void *text, size_t len, char *dst);

/*
 * Copies printable ASCII characters without spaces: hosts and ids are parts of
 * log lines, and none has a null byte.
 */
int vaani_text_copy(const void *text, size_t len, char *dst, size_t size);


#endif /* _VAANI_ENDPOINT_H_INCLUDED_ */
