
/*
 * Parses the elements of replies about servers: words, numbers, ports and
 * hosts.
 *
 * Replies are not trusted: host names must consist of printable ASCII
 * characters without spaces, and every copy has a limit.
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


/* all return VAANI_OK; or VAANI_ERROR, and their results are then undefined */

/*
 * Takes the next word of a text; words are separated by one space, and none is
 * empty.  *p becomes the beginning of the word after it, or the end of the
 * text.
 */
int vaani_text_word(const char **p, const char *last, vaani_str_t *word);

/* digits only, and no leading zeros, as Redis prints numbers; max < 100000 */
int vaani_text_number(const void *text, size_t len, unsigned max,
    unsigned *value);

/* 1 to 65535 */
int vaani_text_port(const void *text, size_t len, unsigned *port);

/*
 * Copies a host, which must not be empty, without its brackets, to
 * VAANI_TOPOLOGY_HOST_SIZE bytes.
 */
int vaani_text_host(const void *text, size_t len, char *dst);

/*
 * Copies printable ASCII characters without spaces, because hosts and ids
 * become parts of log lines.  A null byte is an error.
 */
int vaani_text_copy(const void *text, size_t len, char *dst, size_t size);


#endif /* _VAANI_ENDPOINT_H_INCLUDED_ */
