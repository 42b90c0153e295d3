
/*
 * Searches the text of JSON strings, many bytes at a time if the compiler has
 * vectors; with VAANI_NO_VECTORS set, eight.  The results are the same.
 */


#ifndef _VAANI_UTF8_H_INCLUDED_
#define _VAANI_UTF8_H_INCLUDED_


#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>


#if (defined __BYTE_ORDER__ && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__)
#define VAANI_LITTLE_ENDIAN    1
#endif


/*
 * The first byte from p that is not plain, or end.  Not plain are quotes,
 * backslashes, control characters and parts of multibyte characters.
 */
const u_char *vaani_json_plain(const u_char *p, const u_char *end);

/*
 * The first byte from p that is not valid unescaped in a string, or end: a
 * quote, a backslash, a control character, or the first byte of a malformed
 * multibyte character (RFC 3629) before end.
 */
const u_char *vaani_utf8_text(const u_char *p, const u_char *end);

/*
 * Copies src to dst up to the first backslash, at most len bytes.  Returns the
 * number of copied bytes; the bytes after them in dst, up to len, are
 * overwritten.
 */
size_t vaani_utf8_copy(u_char *dst, const u_char *src, size_t len);

/*
 * The length in bytes, 2 to 4, of the well-formed multibyte character (RFC
 * 3629) at p that ends before or at end; 0 if there is none.
 */
size_t vaani_utf8_len(const u_char *p, const u_char *end);

/*
 * Whether valid UTF-8 has one of the control characters of Unicode: C0, DEL
 * and C1.
 */
unsigned vaani_utf8_has_control(const u_char *p, const u_char *end);


#endif /* _VAANI_UTF8_H_INCLUDED_ */
