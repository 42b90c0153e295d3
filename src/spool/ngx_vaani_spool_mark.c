
#include "ngx_vaani_spool_private.h"


/*
 * The mark of a segment in the receiver: "<bytes> <tag>". It is set only if
 * its current value, as a whole, is the known one.  The random tag identifies
 * the writer, so that the same number set by another one is a different value.
 * A mark is claimed before it is used, and only records answered after the
 * claim count.  Otherwise a first mark would be set even if everything before
 * it was lost.
 *
 * One of several servers has "<bytes> <tag> <scope>", which counts the records
 * in the slots that the server owned when the mark was claimed.  The scope
 * identifies the server and these slots.  If the server has another scope now,
 * the mark is void, and its value is used only to claim it again.
 */


/* the pause after a refusal of marks, and the period of its log line, ms */

#define NGX_VAANI_SPOOL_UNMARKED        60000
#define NGX_VAANI_SPOOL_UNMARKED_TELL   600000


static void ngx_vaani_spool_know(ngx_vaani_spool_mark_t *mark,
    const u_char *value, size_t len);
static ngx_uint_t ngx_vaani_spool_counts(ngx_vaani_spool_mark_t *mark);


void
ngx_vaani_spool_mark_init(ngx_vaani_spool_mark_t *mark, u_char *id,
    void (*handler)(ngx_vaani_spool_mark_t *mark, ngx_int_t rc), void *data)
{
    ngx_memzero(mark, sizeof(ngx_vaani_spool_mark_t));

    ngx_memcpy(mark->id, id, NGX_VAANI_SPOOL_ID_LEN);

    mark->stands = NGX_VAANI_SPOOL_NO_MARK;
    mark->handler = handler;
    mark->data = data;
}


ngx_int_t
ngx_vaani_spool_new_id(ngx_vaani_spool_t *spool, u_char *id, size_t len)
{
    u_char  random[NGX_VAANI_SPOOL_ID_LEN / 2];

    if (spool->receiver->random_bytes(random, len / 2, spool->log) != NGX_OK) {
        return NGX_ERROR;
    }

    ngx_hex_dump(id, random, len / 2);

    return NGX_OK;
}


ngx_int_t
ngx_vaani_spool_claim(ngx_vaani_spool_t *spool, ngx_vaani_spool_mark_t *mark)
{
    if (ngx_vaani_spool_new_id(spool, mark->tag, NGX_VAANI_SPOOL_TAG_LEN)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_vaani_spool_set_mark(spool, mark, ngx_max(mark->stands, 0));
}


ngx_int_t
ngx_vaani_spool_set_mark(ngx_vaani_spool_t *spool,
    ngx_vaani_spool_mark_t *mark, off_t to)
{
    u_char  *p;

    if (spool->unmarked) {
        return NGX_ERROR;
    }

    p = ngx_sprintf(mark->wanted, "%O %*s", to,
                    (size_t) NGX_VAANI_SPOOL_TAG_LEN, mark->tag);

    if (mark->scoped) {
        *p++ = ' ';
        p = ngx_cpymem(p, mark->scope, NGX_VAANI_SPOOL_SCOPE_LEN);
    }

    mark->wanted_len = p - mark->wanted;

    if (spool->receiver->set_mark(spool->data, mark,
                                  NGX_VAANI_SPOOL_MARK_TTL + 2 * spool->retain)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    mark->busy = 1;

    return NGX_OK;
}


ngx_int_t
ngx_vaani_spool_read_mark(ngx_vaani_spool_t *spool,
    ngx_vaani_spool_mark_t *mark)
{
    if (spool->unmarked) {
        return NGX_ERROR;
    }

    mark->wanted_len = mark->len;
    ngx_memcpy(mark->wanted, mark->value, mark->len);

    if (spool->receiver->read_mark(spool->data, mark) != NGX_OK) {
        return NGX_ERROR;
    }

    mark->busy = 1;

    return NGX_OK;
}


void
ngx_vaani_spool_marked(ngx_vaani_spool_mark_t *mark, ngx_int_t rc,
    const u_char *value, size_t len)
{
    mark->busy = 0;

    if (rc == NGX_OK) {

        /* a value of another format is ignored, and not overwritten */

        if (len > (mark->scoped ? NGX_VAANI_SPOOL_MARK_LEN
                                : NGX_VAANI_SPOOL_PLAIN_LEN))
        {
            rc = NGX_AGAIN;

        } else {
            rc = (len == mark->wanted_len
                  && (len == 0 || ngx_memcmp(value, mark->wanted, len) == 0))
                 ? NGX_OK : NGX_BUSY;

            ngx_vaani_spool_know(mark, value, len);
        }
    }

    mark->handler(mark, rc);
}


static void
ngx_vaani_spool_know(ngx_vaani_spool_mark_t *mark, const u_char *value,
    size_t len)
{
    off_t   stands;
    size_t  n;

    mark->len = len;

    if (len) {
        ngx_memcpy(mark->value, value, len);
    }

    for (n = 0; n < len && value[n] != ' '; n++) { /* void */ }

    stands = ngx_atoof((u_char *) value, n);

    mark->stands = (stands == NGX_ERROR || !ngx_vaani_spool_counts(mark))
                   ? NGX_VAANI_SPOOL_NO_MARK : stands;
}


/*
 * Whether a value has the scope of the mark.
 */

static ngx_uint_t
ngx_vaani_spool_counts(ngx_vaani_spool_mark_t *mark)
{
    size_t   len;
    u_char  *scope;

    if (!mark->scoped) {
        return 1;
    }

    len = 1 + NGX_VAANI_SPOOL_SCOPE_LEN;

    if (mark->len < len) {
        return 0;
    }

    scope = mark->value + mark->len - len;

    return scope[0] == ' '
           && ngx_memcmp(scope + 1, mark->scope, NGX_VAANI_SPOOL_SCOPE_LEN)
              == 0;
}


void
ngx_vaani_spool_no_marks(ngx_vaani_spool_t *spool)
{
    uint64_t  skipped;

    if (spool->unmarked) {
        return;
    }

    spool->unmarked = 1;
    spool->unmarked_since = ngx_current_msec;

    if (!vaani_pace(&spool->unmarked_told, ngx_current_msec,
                    NGX_VAANI_SPOOL_UNMARKED_TELL, &skipped))
    {
        return;
    }

    ngx_log_error(NGX_LOG_ERR, spool->log, 0,
                  "vaani: the Redis ACL does not allow the marks of the spool "
                  "\"%V\"; events that Redis loses are not restored; add "
                  "\"~vaani:mark:*\" and \"+get +set +eval\"",
                  &spool->path->name);
}


void
ngx_vaani_spool_try_marks(ngx_vaani_spool_t *spool)
{
    if (spool->unmarked
        && ngx_current_msec - spool->unmarked_since
           >= NGX_VAANI_SPOOL_UNMARKED)
    {
        spool->unmarked = 0;
    }
}
