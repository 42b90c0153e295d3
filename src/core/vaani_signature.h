
/*
 * Secrets and signatures of a delivery: parses headers and compares in
 * constant time, so that a nearly correct guess takes as long as any other.
 * The MAC itself is computed elsewhere.
 */


#ifndef _VAANI_SIGNATURE_H_INCLUDED_
#define _VAANI_SIGNATURE_H_INCLUDED_


#include "vaani_core.h"


/* the maximum length of a secret, bytes */

#define VAANI_TOKEN_MAX_LEN    512


/*
 * A secret to compare with; bytes beyond its length are zero.
 */

typedef struct {
    size_t               len;
    u_char               data[VAANI_TOKEN_MAX_LEN];
} vaani_token_t;


typedef enum {
    VAANI_SIGNATURE_HEX = 0,        /* in either case */
    VAANI_SIGNATURE_BASE64,
    VAANI_SIGNATURE_BASE64_ANY      /* or base64url, with or without padding */
} vaani_signature_encoding_e;


/*
 * A header is a list of elements.  Elements with the prefix are signatures;
 * others may belong to unknown schemes:
 *
 *     v1,<base64> v1a,<base64>     prefix "v1,", separator ' '
 *     sha256=<hex>                 prefix "sha256=", separator ','
 *     t=1700000000,v1=<hex>        prefix "v1=", separator ',', timestamp "t="
 */

typedef struct {
    vaani_str_t                  prefix;
    vaani_str_t                  timestamp; /* its prefix, empty: none */
    u_char                       separator; /* blanks around it are skipped */
    vaani_signature_encoding_e   encoding;
    unsigned                     bare:1;    /* the prefix may be missing */
    unsigned                     any_case:1;    /* of the prefix, which is in
                                                   lower case here */
} vaani_signature_format_t;


/*
 * Whether a value is the token.  The time depends only on the length of the
 * value, which the sender knows.
 */
unsigned vaani_token_equal(const vaani_token_t *token,
    const vaani_str_t *value);

/*
 * Whether one of the signatures in a header is the expected one. expected is
 * encoded as the format says (hexadecimal: in lower case; base64: of the usual
 * alphabet, with padding).  The time depends on the header and on the length
 * of expected.
 */
unsigned vaani_signature_match(const vaani_signature_format_t *format,
    const vaani_str_t *header, const vaani_str_t *expected);

/*
 * Finds the timestamp in a header; *timestamp is a slice of it.  Returns
 * VAANI_OK, or VAANI_ERROR if there is none or more than one.
 */
int vaani_signature_timestamp(const vaani_signature_format_t *format,
    const vaani_str_t *header, vaani_str_t *timestamp);

/*
 * Reads a Unix time, 1 to 15 decimal digits.  It is in milliseconds if it is
 * above 10^11, otherwise in seconds; *seconds is in seconds.  Returns VAANI_OK
 * or VAANI_ERROR.
 */
int vaani_timestamp_parse(const vaani_str_t *text, int64_t *seconds);


#endif /* _VAANI_SIGNATURE_H_INCLUDED_ */
