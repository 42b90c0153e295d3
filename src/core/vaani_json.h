
/*
 * Strict JSON (RFC 8259) for the webhook bodies.
 *
 * The scan checks a whole text in one pass and lists the members of the
 * top-level object, and of one object inside it, as slices of that text;
 * nothing is copied unless a key is escaped.  Of the other strings, those are
 * decoded that are asked for and have escapes.  cJSON lets through much that
 * RFC 8259 forbids, ends strings at U+0000, reads 63 characters of a number at
 * most, and would copy every transcript.
 */


#ifndef _VAANI_JSON_H_INCLUDED_
#define _VAANI_JSON_H_INCLUDED_


#include "vaani_core.h"


/*
 * The nesting limit: arrays and objects open at the same time.  Messages nest
 * a body one deeper, and common parsers (cJSON, lua-cjson, Python's json)
 * stop at about 1000, so what passes here can be read by the subscribers.
 */
#define VAANI_JSON_MAX_DEPTH   512


/*
 * The members that an object may have where they are listed.  Elsewhere their
 * number costs no memory, and is not limited.
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
    unsigned             read:1;    /* for the reader of the list */
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
    vaani_json_members_t inner;     /* of the object inside it that the scan
                                       was told to list */
} vaani_json_t;


/*
 * Elements of an array that a scan has checked.
 */

typedef struct {
    const u_char        *start;
    const u_char        *pos;
    const u_char        *end;
} vaani_json_array_t;


/*
 * What a scan does in addition to its checks.
 */

typedef struct {
    const vaani_str_t   *inner;     /* key of a member whose own members are
                                       listed if it is an object; NULL: none */
    unsigned             unique;    /* a key twice in an object that is listed
                                       is an error */
} vaani_json_options_t;


typedef struct {
    const char          *message;   /* static: what is wrong */
    size_t               offset;    /* where: bytes from the text's start */
} vaani_json_error_t;


/*
 * Checks that text[0..len), which may be NULL if len is 0, is one JSON text of
 * RFC 8259 in valid UTF-8 (RFC 3629) without a byte order mark, with no more
 * than VAANI_JSON_MAX_DEPTH levels and VAANI_JSON_MAX_MEMBERS members in an
 * object that is listed, and lists members in *json as the options say.  A
 * surrogate escape that stands alone is legal, as in the RFC's grammar.
 *
 * What *json holds points into the text and must not outlive it, nor may *json
 * be copied.  alloc is used for members beyond the first
 * VAANI_JSON_NPREALLOC of a list and for escaped keys.
 *
 * Takes time proportional to len (n log n in the number of listed members if
 * they have to be unique).
 *
 * Returns VAANI_OK; VAANI_ERROR with *error filled; VAANI_NOMEM.
 */
int vaani_json_scan(vaani_json_t *json, const u_char *text, size_t len,
    const vaani_json_options_t *options, vaani_alloc_t *alloc,
    vaani_json_error_t *error);

/*
 * Goes to the begin of an array, whose text must have passed a scan and must
 * outlive *array.
 */
void vaani_json_array(vaani_json_array_t *array, const vaani_str_t *raw);

/*
 * Scans the next element of an array as vaani_json_scan() does a text; *raw
 * becomes the element as it stands there.
 *
 * Returns VAANI_OK; VAANI_DONE if there is none; VAANI_ERROR, with *error
 * filled (its offset counts from the begin of the array) and *raw still set,
 * for what only a level that is listed must not have; VAANI_NOMEM.
 */
int vaani_json_element(vaani_json_array_t *array, vaani_json_t *json,
    const vaani_json_options_t *options, vaani_alloc_t *alloc,
    vaani_str_t *raw, vaani_json_error_t *error);

/*
 * Finds a member by its decoded key: the last one, if it is there twice.
 * Returns NULL if there is none.
 */
vaani_json_member_t *vaani_json_find(vaani_json_members_t *list,
    const vaani_str_t *key);

/*
 * Gives the decoded value of a member of the type VAANI_JSON_STRING in *value:
 * a slice of the text where nothing is escaped, else memory of alloc.  The
 * value is valid UTF-8 and may contain U+0000; a lone surrogate is U+FFFD.
 *
 * Returns VAANI_OK or VAANI_NOMEM.
 */
int vaani_json_string(const vaani_json_member_t *member, vaani_alloc_t *alloc,
    vaani_str_t *value);

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
 * Writes a number in decimal to dst, which has room for VAANI_UINT64_LEN bytes,
 * and returns the end of it; what is behind that is overwritten.
 */
#define VAANI_UINT64_LEN       20

u_char *vaani_write_uint(u_char *dst, uint64_t value);

/*
 * Writes src to dst as the inside of a JSON string, without the quotes.
 * Bytes that aren't UTF-8 become U+FFFD.
 *
 * Returns the end of what was written; dst has room for
 * vaani_json_escaped_len(src) bytes.
 */
size_t vaani_json_escaped_len(const vaani_str_t *src);
u_char *vaani_json_escape(u_char *dst, const vaani_str_t *src);


#endif /* _VAANI_JSON_H_INCLUDED_ */
