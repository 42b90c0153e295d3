
/*
 * Replies of Redis for tests, written in a short notation that becomes RESP and
 * is read by hiredis:
 *
 *     [[0 16383 ['127.0.0.1' 7000 'id' ['ip' '::1']]]]
 *
 * Arrays, numbers, strings without "'" in them, "nil", "nilarray", "+status"
 * and "-error", which end at a blank or "]".  Other characters are ignored, so
 * that any text is a notation.
 */


#ifndef _VAANI_REPLY_H_INCLUDED_
#define _VAANI_REPLY_H_INCLUDED_


#include <stdio.h>
#include <string.h>
#include <sys/time.h>

#include <hiredis/hiredis.h>

#include "vaani_test.h"


/* deeper arrays are not opened; hiredis has its own limit below that */

#define VAANI_REPLY_DEPTH  10


typedef struct {
    const char  *pos;
    const char  *last;
    char        *resp;
    size_t       len;
} vaani_reply_text_t;


/*
 * Returns NULL if this is not one whole reply.
 */

static inline redisReply *
vaani_reply_read(const char *resp, size_t len)
{
    void         *reply;
    redisReader  *reader;

    reader = redisReaderCreate();

    if (reader == NULL) {
        vaani_test_oom();
    }

    reply = NULL;

    if (redisReaderFeed(reader, resp, len) != REDIS_OK
        || redisReaderGetReply(reader, &reply) != REDIS_OK)
    {
        reply = NULL;
    }

    redisReaderFree(reader);

    return reply;
}


static inline size_t
vaani_reply_span(const vaani_reply_text_t *text, const char *chars, int in)
{
    size_t       n;
    const char  *p;

    n = 0;

    for (p = text->pos; p < text->last; p++, n++) {
        if ((*p && strchr(chars, *p)) != in) {
            break;
        }
    }

    return n;
}


static inline void
vaani_reply_items(vaani_reply_text_t *text, unsigned depth)
{
    int     head_len;
    char    c, *out;
    char    head[32];
    size_t  n, start, nitems;

    start = text->len;
    nitems = 0;

    while (text->pos < text->last) {
        c = *text->pos;
        out = text->resp + text->len;

        if (c == '[' && depth < VAANI_REPLY_DEPTH) {
            text->pos++;
            vaani_reply_items(text, depth + 1);
            nitems++;
            continue;
        }

        if (c == ']' && depth > 0) {
            text->pos++;
            break;
        }

        if (c == '\'') {
            text->pos++;
            n = vaani_reply_span(text, "'", 0);
            text->len += sprintf(out, "$%zu\r\n", n);
            memcpy(text->resp + text->len, text->pos, n);
            memcpy(text->resp + text->len + n, "\r\n", 2);
            text->len += n + 2;
            text->pos += n + (text->pos + n < text->last);
            nitems++;
            continue;
        }

        n = vaani_reply_span(text, " ]\r\n", 0);

        if (c == '+' || (c == '-' && n > 1 && text->pos[1] >= 'A')) {
            memcpy(out, text->pos, n);
            memcpy(out + n, "\r\n", 2);
            text->len += n + 2;
            nitems++;

        } else if (c == '-' || (c >= '0' && c <= '9')) {
            n = 1;
            text->pos++;
            n += vaani_reply_span(text, "0123456789", 1);
            text->pos--;
            text->len += sprintf(out, ":%.*s\r\n", (int) n, text->pos);
            nitems++;

        } else if (n == 3 && memcmp(text->pos, "nil", 3) == 0) {
            text->len += sprintf(out, "$-1\r\n");
            nitems++;

        } else if (n == 8 && memcmp(text->pos, "nilarray", 8) == 0) {
            text->len += sprintf(out, "*-1\r\n");
            nitems++;

        } else {
            n = 1;
        }

        text->pos += n;
    }

    if (depth == 0) {
        return;
    }

    /* the number of items is known now */

    head_len = sprintf(head, "*%zu\r\n", nitems);
    memmove(text->resp + start + head_len, text->resp + start,
            text->len - start);
    memcpy(text->resp + start, head, head_len);
    text->len += head_len;
}


/*
 * Returns NULL if the text is empty, or if hiredis does not read it.  The
 * caller frees the reply by freeReplyObject().
 */

static inline redisReply *
vaani_reply_make(const char *notation, size_t len)
{
    redisReply          *reply;
    vaani_reply_text_t   text;

    text.pos = notation;
    text.last = notation + len;
    text.len = 0;

    /* "[" becomes "*n\r\n", "'" becomes "$n\r\n\r\n" */

    text.resp = vaani_test_malloc(len * 10 + 64);

    vaani_reply_items(&text, 0);
    reply = vaani_reply_read(text.resp, text.len);

    free(text.resp);

    return reply;
}


#endif /* _VAANI_REPLY_H_INCLUDED_ */
