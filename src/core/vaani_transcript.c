
#include <string.h>

#include "vaani_transcript.h"


static int vaani_transcript_turn(vaani_json_t *turn, vaani_alloc_t *alloc,
    u_char **dst);
static int vaani_transcript_part(vaani_json_t *turn, const vaani_str_t *names,
    vaani_alloc_t *alloc, vaani_str_t *part);
static u_char *vaani_transcript_line(u_char *dst, const vaani_str_t *str,
    unsigned upper);


#define vaani_none             { 0, NULL }

static const vaani_str_t  vaani_transcript_roles[] = {
    vaani_string("role"), vaani_string("speaker"), vaani_none
};

static const vaani_str_t  vaani_transcript_texts[] = {
    vaani_string("text"), vaani_string("content"), vaani_string("message"),
    vaani_none
};

static const vaani_str_t  vaani_transcript_times[] = {
    vaani_string("time"), vaani_string("timestamp"), vaani_none
};


int
vaani_transcript_text(const vaani_str_t *raw, vaani_alloc_t *alloc,
    vaani_str_t *text)
{
    int                   rc;
    u_char               *p;
    size_t                n;
    vaani_str_t           turn;
    vaani_json_t          json;
    vaani_json_array_t    array;
    vaani_json_error_t    error;
    vaani_json_options_t  options;

    /* a line is never longer than the JSON of its turn */

    text->data = p = alloc->alloc(alloc->ctx, raw->len);

    if (p == NULL) {
        return VAANI_NOMEM;
    }

    memset(&options, 0, sizeof(vaani_json_options_t));

    vaani_json_array(&array, raw);

    for (n = 0; n <= VAANI_TRANSCRIPT_MAX_TURNS; n++) {
        rc = vaani_json_element(&array, &json, &options, alloc, &turn, &error);

        if (rc == VAANI_DONE) {
            break;
        }

        if (rc == VAANI_OK) {
            rc = vaani_transcript_turn(&json, alloc, &p);
        }

        if (rc == VAANI_NOMEM) {
            return rc;
        }
    }

    if (p == text->data || n > VAANI_TRANSCRIPT_MAX_TURNS) {
        return VAANI_DONE;
    }

    /* without the last line break */

    text->len = p - text->data - 1;

    return VAANI_OK;
}


static int
vaani_transcript_turn(vaani_json_t *turn, vaani_alloc_t *alloc, u_char **dst)
{
    u_char       *p;
    vaani_str_t   role, text, time;

    role.len = 0;
    time.len = 0;

    if (turn->value.type == VAANI_JSON_STRING) {

        if (vaani_json_string(&turn->value, alloc, &text) != VAANI_OK) {
            return VAANI_NOMEM;
        }

    } else if (vaani_transcript_part(turn, vaani_transcript_roles, alloc,
                                     &role)
               != VAANI_OK
               || vaani_transcript_part(turn, vaani_transcript_texts, alloc,
                                        &text)
                  != VAANI_OK
               || vaani_transcript_part(turn, vaani_transcript_times, alloc,
                                        &time)
                  != VAANI_OK)
    {
        return VAANI_NOMEM;
    }

    if (text.len == 0) {
        return VAANI_OK;
    }

    p = *dst;

    if (time.len) {
        *p++ = '[';
        p = vaani_transcript_line(p, &time, 0);
        *p++ = ']';
        *p++ = ' ';
    }

    if (role.len) {
        p = vaani_transcript_line(p, &role, 1);
        *p++ = ':';
        *p++ = ' ';
    }

    p = vaani_transcript_line(p, &text, 0);
    *p++ = '\n';

    *dst = p;

    return VAANI_OK;
}


/*
 * Finds the first member with one of these names that is a text or a number.
 * *value is empty if there is none.  Returns VAANI_OK or VAANI_NOMEM.
 */

static int
vaani_transcript_part(vaani_json_t *turn, const vaani_str_t *names,
    vaani_alloc_t *alloc, vaani_str_t *part)
{
    size_t                n;
    vaani_json_member_t  *member;

    part->len = 0;

    for (n = 0; names[n].len; n++) {
        member = vaani_json_find(&turn->top, &names[n]);

        if (member == NULL) {
            continue;
        }

        if (member->type == VAANI_JSON_NUMBER) {
            *part = member->raw;
            return VAANI_OK;
        }

        if (member->type == VAANI_JSON_STRING && member->decoded) {
            return vaani_json_string(member, alloc, part);
        }
    }

    return VAANI_OK;
}


static u_char *
vaani_transcript_line(u_char *dst, const vaani_str_t *str, unsigned upper)
{
    size_t  n;
    u_char  ch;

    for (n = 0; n < str->len; n++) {
        ch = str->data[n];

        if (ch == '\n' || ch == '\r') {
            ch = ' ';

        } else if (upper && ch >= 'a' && ch <= 'z') {
            ch -= 'a' - 'A';
        }

        *dst++ = ch;
    }

    return dst;
}
