
#include "ngx_vaani_spool_replay.h"


/*
 * Handles a record that the receiver does not accept: it is retried, moved to
 * the end of the spool, or becomes a dead letter.
 */


static ngx_int_t ngx_vaani_spool_append_deferred(
    ngx_vaani_spool_replay_t *replay, ngx_vaani_spool_slot_t *slot,
    unsigned tries);
static void ngx_vaani_spool_log_refused(ngx_vaani_spool_replay_t *replay,
    ngx_str_t *reason, char *what);


ngx_int_t
ngx_vaani_spool_busy(ngx_vaani_spool_replay_t *replay,
    ngx_vaani_spool_slot_t *slot)
{
    if (!ngx_vaani_spool_is_up(replay->spool)) {
        return NGX_BUSY;
    }

    if (replay->healing) {
        replay->abandoned = 1;
        return NGX_BUSY;
    }

    /* not a refusal: the time of retries starts again */

    return ngx_vaani_spool_append_deferred(replay, slot, 0);
}


ngx_int_t
ngx_vaani_spool_defer(ngx_vaani_spool_replay_t *replay,
    ngx_vaani_spool_slot_t *slot, ngx_str_t *reason)
{
    uint64_t                   now;
    ngx_vaani_spool_shared_t  *shared;

    shared = ngx_vaani_spool_shared(replay->spool);
    now = ngx_time();

    if (slot->since == 0 || slot->since > now || slot->tries == 0) {
        slot->since = now;
    }

    if (reason->len
        && now - slot->since >= NGX_VAANI_SPOOL_PATIENCE
        && now >= shared->unbroken + NGX_VAANI_SPOOL_PATIENCE
        && now <= shared->succeeded + NGX_VAANI_SPOOL_GAP
        && shared->succeeded > slot->since)
    {
        return NGX_DECLINED;
    }

    return ngx_vaani_spool_append_deferred(replay, slot, slot->tries + 1);
}


static ngx_int_t
ngx_vaani_spool_append_deferred(ngx_vaani_spool_replay_t *replay,
    ngx_vaani_spool_slot_t *slot, unsigned tries)
{
    size_t   len;
    u_char  *dst;

    if (slot->since == 0 || slot->since > (uint64_t) ngx_time()) {
        slot->since = ngx_time();
    }

    len = VAANI_JOURNAL_DEFERRED + slot->len;

    dst = ngx_vaani_spool_reserve_aside(replay, &replay->late, &replay->nlate,
                                        VAANI_JOURNAL_HEADER + len);

    if (dst == NULL) {
        return NGX_ERROR;
    }

    vaani_journal_defer(dst + VAANI_JOURNAL_HEADER, slot->since, tries);
    ngx_memcpy(dst + VAANI_JOURNAL_HEADER + VAANI_JOURNAL_DEFERRED,
               slot->record, slot->len);

    vaani_journal_seal(dst, len);

    replay->nrecords++;

    if (replay->late_since == 0 || slot->since < replay->late_since) {
        replay->late_since = slot->since;
    }

    return NGX_OK;
}


u_char *
ngx_vaani_spool_reserve_aside(ngx_vaani_spool_replay_t *replay, u_char **kept,
    size_t *nkept, size_t len)
{
    u_char  *p;

    p = realloc(*kept, *nkept + len);

    if (p == NULL) {
        ngx_log_error(NGX_LOG_EMERG, replay->spool->log, ngx_errno,
                      "vaani: realloc(%uz) failed", *nkept + len);
        return NULL;
    }

    *kept = p;
    p += *nkept;
    *nkept += len;

    return p;
}


ngx_int_t
ngx_vaani_spool_dead_letter(ngx_vaani_spool_replay_t *replay,
    ngx_vaani_spool_slot_t *slot, ngx_str_t *reason)
{
    u_char  *p, *dst;
    size_t   len, rlen;

    rlen = ngx_min(reason->len, 255);
    len = 2 + rlen + slot->len;

    dst = ngx_vaani_spool_reserve_aside(replay, &replay->dead, &replay->ndead,
                                        VAANI_JOURNAL_HEADER + len);

    if (dst == NULL) {
        return NGX_ERROR;
    }

    p = dst + VAANI_JOURNAL_HEADER;
    *p++ = 0;
    *p++ = (u_char) rlen;
    p = ngx_cpymem(p, reason->data, rlen);
    ngx_memcpy(p, slot->record, slot->len);

    vaani_journal_seal(dst, len);

    ngx_vaani_spool_log_refused(replay, reason, "is kept in \"dead-letters\"");

    return NGX_OK;
}


/*
 * It was accepted once and is refused now: its key may hold other data by now.
 */

ngx_int_t
ngx_vaani_spool_skip(ngx_vaani_spool_replay_t *replay, ngx_str_t *reason)
{
    ngx_vaani_spool_log_refused(replay, reason,
                                "is skipped because Redis had accepted it "
                                "before");

    return NGX_OK;
}


static void
ngx_vaani_spool_log_refused(ngx_vaani_spool_replay_t *replay,
    ngx_str_t *reason, char *what)
{
    u_char               *space;
    uint64_t              skipped;
    ngx_uint_t            level;

    static vaani_pace_t   pace;

    /* the first word is a code; the rest might quote data */

    space = ngx_strlchr(reason->data, reason->data + reason->len, ' ');

    level = vaani_pace(&pace, ngx_current_msec, NGX_VAANI_SPOOL_COMPLAIN_EVERY,
                       &skipped)
            ? NGX_LOG_ERR : NGX_LOG_INFO;

    ngx_log_error(level, replay->spool->log, 0,
                  "vaani: cannot deliver an event of the spool \"%V\" (%*s); "
                  "it %s",
                  &replay->spool->path->name,
                  space ? (size_t) (space - reason->data) : reason->len,
                  reason->data, what);
}
