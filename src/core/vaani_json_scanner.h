
/*
 * Private to the files that scan a JSON text: vaani_json.c lists members,
 * vaani_json_nested.c checks the parts that are not listed, vaani_json_token.c
 * reads the tokens for both.
 */


#ifndef _VAANI_JSON_SCANNER_H_INCLUDED_
#define _VAANI_JSON_SCANNER_H_INCLUDED_


#include "vaani_json.h"


/* one text during the scan */

typedef struct {
    const u_char                *start;
    const u_char                *end;
    const u_char                *pos;

    vaani_json_t                *json;
    vaani_alloc_t               *alloc;
    vaani_json_error_t          *error;

    const vaani_json_options_t  *options;   /* NULL: nothing is listed */
    unsigned                     depth;     /* open levels */
} vaani_json_scanner_t;


/* most tokens have no space before them */

#define vaani_json_skip(s)                                                    \
    if (s->pos < s->end && *s->pos <= ' ') {                                  \
        vaani_json_space(s);                                                  \
    }


/*
 * vaani_json_nested.c: checks the array or the object at s->pos and moves to
 * its end.  Returns VAANI_OK, or VAANI_ERROR with *s->error filled.
 */
int vaani_json_nested(vaani_json_scanner_t *s);


/*
 * vaani_json_token.c: skips white space.  Records line breaks in
 * s->json->broken.
 */
void vaani_json_space(vaani_json_scanner_t *s);

/*
 * Checks a number, true, false or null, and moves to its end.  Returns
 * VAANI_OK, or VAANI_ERROR with *s->error filled.
 */
int vaani_json_scalar(vaani_json_scanner_t *s, vaani_json_type_e *type);

/*
 * Checks a string and moves from its opening quote past its closing one.
 * *decoded becomes its length in bytes without escapes; *lone is set to 1 if
 * the string has a lone surrogate.  Returns VAANI_OK, or VAANI_ERROR with
 * *s->error filled.
 */
int vaani_json_quoted(vaani_json_scanner_t *s, size_t *decoded,
    unsigned *lone);

/*
 * Fills *s->error; the message is static.  Returns VAANI_ERROR.
 */
int vaani_json_fail(vaani_json_scanner_t *s, const u_char *where,
    const char *message);


/*
 * vaani_json_members.c: lists one more member, whose other fields are 0, and
 * decodes its key, a string of the text with its quotes.  *member is valid
 * until the next one is added.
 *
 * Returns VAANI_OK; VAANI_ERROR if the list is full; VAANI_NOMEM.
 */
int vaani_json_add(vaani_json_members_t *list, const vaani_str_t *key,
    size_t decoded, vaani_alloc_t *alloc, vaani_json_member_t **member);

/*
 * Looks for a repeated key: *again becomes the first repetition in the text,
 * or NULL.  Returns VAANI_OK or VAANI_NOMEM.
 */
int vaani_json_unique(vaani_json_members_t *list, vaani_alloc_t *alloc,
    const vaani_json_member_t **again);


/*
 * vaani_json_string.c: decodes a string that vaani_json_quoted() has checked;
 * see vaani_json_string().
 */
int vaani_json_decode(const vaani_str_t *raw, size_t decoded,
    vaani_alloc_t *alloc, vaani_str_t *value);


#endif /* _VAANI_JSON_SCANNER_H_INCLUDED_ */
