
/*
 * Strict JSON (RFC 8259) for the webhook bodies.
 *
 * The scan checks a whole text in one pass and lists the members of the
 * top-level object as slices of that text; nothing is copied unless a key is
 * escaped.  cJSON decodes the escaped strings of the members that are asked
 * for.  It isn't given the text itself: it lets through much that RFC 8259
 * forbids, ends strings at U+0000, reads 63 characters of a number at most,
 * and would copy every transcript.
 */


#ifndef _VAANI_JSON_H_INCLUDED_
#define _VAANI_JSON_H_INCLUDED_


#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>


/*
 * The nesting limit: arrays and objects open at the same time.  Messages nest
 * a body one deeper, and common parsers (cJSON, lua-cjson, Python's json)
 * stop at about 1000, so what passes here can be read by the subscribers.
 */
#define VAANI_JSON_MAX_DEPTH   512


#define VAANI_OK               0
#define VAANI_ERROR           -1    /* the input is bad, see the error */
#define VAANI_NOMEM           -2    /* the allocator returned NULL */


typedef struct {
    size_t               len;
    const u_char        *data;      /* not null-terminated */
} vaani_str_t;


#define vaani_string(str)      { sizeof(str) - 1, (const u_char *) str }

#define vaani_str_eq(s1, s2)                                                  \
    ((s1)->len == (s2)->len                                                   \
     && ((s1)->len == 0 || memcmp((s1)->data, (s2)->data, (s1)->len) == 0))


/*
 * Where the core gets its memory: alloc(ctx, size) returns size bytes aligned
 * for any type, or NULL.  The core never frees what it gets; the owner of the
 * allocator (an nginx pool, a test's arena) frees it all at once, after the
 * last use of what the core returned.
 */

typedef struct {
    void              *(*alloc)(void *ctx, size_t size);
    void                *ctx;
} vaani_alloc_t;


typedef enum {
    VAANI_JSON_NULL = 0,
    VAANI_JSON_BOOLEAN,
    VAANI_JSON_NUMBER,
    VAANI_JSON_STRING,
    VAANI_JSON_ARRAY,
    VAANI_JSON_OBJECT
} vaani_json_type_e;


typedef struct {
    vaani_str_t          key;       /* decoded */
    size_t               offset;    /* of the key's opening quote, bytes */

    vaani_str_t          raw;       /* the value as it stands in the text */
    vaani_json_type_e    type;
    size_t               decoded;   /* length of a decoded string, bytes */
} vaani_json_member_t;


#define VAANI_JSON_NPREALLOC   16


typedef struct {
    vaani_alloc_t       *alloc;
    vaani_json_type_e    type;      /* of the whole text */

    vaani_json_member_t *members;   /* of a top-level object, in their order */
    size_t               nmembers;
    size_t               nalloc;

    vaani_json_member_t  prealloc[VAANI_JSON_NPREALLOC];
} vaani_json_t;


typedef struct {
    const char          *message;   /* static: what is wrong */
    size_t               offset;    /* where: bytes from the text's start */
} vaani_json_error_t;


/*
 * Checks that text[0..len), which may be NULL if len is 0, is one JSON text of
 * RFC 8259 in valid UTF-8 (RFC 3629) without a byte order mark, with no more
 * than VAANI_JSON_MAX_DEPTH levels, no surrogate that stands alone and no key
 * twice in the top-level object, and lists the members of that object in
 * *json.
 *
 * json->members point into the text and must not outlive it.  alloc is used
 * for members beyond the first VAANI_JSON_NPREALLOC and for escaped keys.
 *
 * Takes time proportional to len (n log n in the number of top-level keys).
 *
 * Returns VAANI_OK; VAANI_ERROR with *error filled; VAANI_NOMEM.
 */
int vaani_json_scan(vaani_json_t *json, const u_char *text, size_t len,
    vaani_alloc_t *alloc, vaani_json_error_t *error);

/*
 * Finds a member by its decoded key.  Returns NULL if there is none.
 */
const vaani_json_member_t *vaani_json_find(const vaani_json_t *json,
    const vaani_str_t *key);

/*
 * Gives the decoded value of a member of the type VAANI_JSON_STRING in *value:
 * a slice of the text where nothing is escaped, else memory of json->alloc.
 * The value is valid UTF-8 and may contain U+0000.
 *
 * Returns VAANI_OK or VAANI_NOMEM.
 */
int vaani_json_string(const vaani_json_t *json,
    const vaani_json_member_t *member, vaani_str_t *value);

/*
 * Converts a number (a JSON number's text) times 10^shift to an integer,
 * rounded half away from zero and computed in decimal, so that 0.0005 s are
 * 1 ms on every machine and in every locale.  Values over VAANI_JSON_MAX_INT
 * (2^53 - 1, what every JSON reader holds exactly) are given as that.
 *
 * Returns VAANI_OK; VAANI_ERROR with *message set to a static text if the
 * number is negative, or has 310 digits or more before the decimal point and
 * so is infinite in IEEE 754.
 */
#define VAANI_JSON_MAX_INT     9007199254740991ULL

int vaani_json_integer(const vaani_str_t *number, int shift, uint64_t *value,
    const char **message);

/*
 * Writes src to dst as the inside of a JSON string, without the quotes.
 * Bytes that aren't UTF-8 become U+FFFD.
 *
 * Returns the end of what was written; dst has room for
 * vaani_json_escaped_len(src) bytes.
 */
size_t vaani_json_escaped_len(const vaani_str_t *src);
u_char *vaani_json_escape(u_char *dst, const vaani_str_t *src);

/*
 * The length in bytes, 2 to 4, of the well-formed multibyte character (RFC
 * 3629) that p begins with and end doesn't cut off; 0 if there is none.
 */
size_t vaani_utf8_len(const u_char *p, const u_char *end);


#endif /* _VAANI_JSON_H_INCLUDED_ */
