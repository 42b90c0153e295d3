
/*
 * Strict JSON (RFC 8259) for the webhook bodies.
 *
 * The scan checks a whole text in one pass.  It lists the members of the
 * top-level object, and of one object inside it, as slices of that text.  Keys
 * are copied only if they are escaped; strings are decoded only on request and
 * if they have escapes. cJSON was not used: it accepts much that RFC 8259
 * forbids, ends strings at U+0000, reads at most 63 characters of a number,
 * and would copy every transcript.
 */


#ifndef _VAANI_JSON_H_INCLUDED_
#define _VAANI_JSON_H_INCLUDED_


#include "vaani_core.h"


/*
 * The nesting limit: arrays and objects open at the same time.  Messages nest
 * a body one level deeper, and common parsers (cJSON, lua-cjson, Python's
 * json) stop at about 1000.  Therefore subscribers can parse every accepted
 * body.
 */
#define VAANI_JSON_MAX_DEPTH   512


/*
 * The maximum number of members of an object whose members are listed.
 * Members of other objects take no memory and are not limited.
 */
#define VAANI_JSON_MAX_MEMBERS 4096


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
    size_t               decoded;   /* length of a decoded string, bytes */
    vaani_json_type_e    type;
    unsigned             lone:1;    /* a string with a lone surrogate */
    unsigned             read:1;    /* for the user of the list */
} vaani_json_member_t;


#define VAANI_JSON_NPREALLOC   16


typedef struct {
    vaani_json_member_t *members;   /* in their order */
    size_t               nmembers;
    size_t               nalloc;

    vaani_json_member_t  prealloc[VAANI_JSON_NPREALLOC];
} vaani_json_members_t;


typedef struct {
    vaani_json_member_t  value;     /* the whole text, without a key */
    unsigned             broken:1;  /* it has line breaks between its tokens */

    vaani_json_members_t top;       /* of a top-level object */
    vaani_json_members_t inner;     /* of the object inside it, see
                                       vaani_json_options_t */
} vaani_json_t;


/*
 * Iterates over the elements of an array that a scan has checked.
 */

typedef struct {
    const u_char        *start;
    const u_char        *pos;
    const u_char        *end;
} vaani_json_array_t;


/*
 * Options of a scan.
 */

typedef struct {
    const vaani_str_t   *inner;     /* key of a member whose own members are
                                       listed if it is an object; NULL: none */
    unsigned             unique;    /* a repeated key in a listed object is an
                                       error */
} vaani_json_options_t;


typedef struct {
    const char          *message;   /* static: the error */
    size_t               offset;    /* offset from the start of the text,
                                       bytes */
} vaani_json_error_t;


/*
 * Checks that text[0..len), which may be NULL if len is 0, is one JSON text of
 * RFC 8259 in valid UTF-8 (RFC 3629) without a byte order mark, with at most
 * VAANI_JSON_MAX_DEPTH levels and VAANI_JSON_MAX_MEMBERS members per listed
 * object.  Lists members in *json as the options say.  A lone surrogate escape
 * is legal, as in the RFC's grammar.
 *
 * *json points into the text, must not outlive it, and must not be copied.
 * alloc is used for escaped keys, and for lists with more than
 * VAANI_JSON_NPREALLOC members.
 *
 * Takes time proportional to len (n log n in the number of listed members if
 * they must be unique).
 *
 * Returns VAANI_OK; VAANI_ERROR with *error filled; VAANI_NOMEM.
 */
int vaani_json_scan(vaani_json_t *json, const u_char *text, size_t len,
    const vaani_json_options_t *options, vaani_alloc_t *alloc,
    vaani_json_error_t *error);

/*
 * Starts at the first element of an array.  Its text must have passed a scan
 * and must outlive *array.
 */
void vaani_json_array(vaani_json_array_t *array, const vaani_str_t *raw);

/*
 * Scans the next element of an array like vaani_json_scan(); *raw becomes the
 * bytes of the element.
 *
 * Returns VAANI_OK; VAANI_DONE after the last element; VAANI_ERROR, with
 * *error filled (its offset counts from the start of the array).  *raw is set
 * with VAANI_ERROR too, because the element is valid JSON and violates only
 * the limits of a listed level.  VAANI_NOMEM.
 */
int vaani_json_element(vaani_json_array_t *array, vaani_json_t *json,
    const vaani_json_options_t *options, vaani_alloc_t *alloc,
    vaani_str_t *raw, vaani_json_error_t *error);

/*
 * Finds a member by its decoded key.  If the key is repeated, the last one
 * counts.  Returns NULL if there is none.
 */
vaani_json_member_t *vaani_json_find(vaani_json_members_t *list,
    const vaani_str_t *key);

/*
 * Stores the decoded value of a member of the type VAANI_JSON_STRING in
 * *value: a slice of the text if nothing is escaped, otherwise memory of
 * alloc.  The value is valid UTF-8 and may contain U+0000; a lone surrogate is
 * U+FFFD.
 *
 * Returns VAANI_OK or VAANI_NOMEM.
 */
int vaani_json_string(const vaani_json_member_t *member, vaani_alloc_t *alloc,
    vaani_str_t *value);

/*
 * Converts a number (a JSON number's text) times 10^shift to an integer,
 * rounded half away from zero.  The computation is decimal, so that 0.0005 s
 * are 1 ms on every machine and in every locale.  Values over
 * VAANI_JSON_MAX_INT (2^53 - 1, which every JSON reader represents exactly)
 * become VAANI_JSON_MAX_INT.
 *
 * Returns VAANI_OK; VAANI_ERROR with *message set to a static text if the
 * number is negative, or has 310 digits or more before the decimal point and
 * is therefore infinite in IEEE 754.
 */
#define VAANI_JSON_MAX_INT     9007199254740991ULL

int vaani_json_integer(const vaani_str_t *number, int shift, uint64_t *value,
    const char **message);

/*
 * Writes a number in decimal to dst, which has room for VAANI_UINT64_LEN
 * bytes.  Returns the end of the number; the bytes after it are overwritten.
 */
#define VAANI_UINT64_LEN       20

u_char *vaani_write_uint(u_char *dst, uint64_t value);

/*
 * Writes src to dst as the content of a JSON string, without the quotes.
 * Bytes that are not UTF-8 become U+FFFD.
 *
 * Returns the end of the written bytes; dst must have room for
 * vaani_json_escaped_len(src) bytes.
 */
size_t vaani_json_escaped_len(const vaani_str_t *src);
u_char *vaani_json_escape(u_char *dst, const vaani_str_t *src);


#endif /* _VAANI_JSON_H_INCLUDED_ */
