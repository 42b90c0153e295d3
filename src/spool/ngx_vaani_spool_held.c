
#include "ngx_vaani_spool_window.h"


/*
 * Each record of a kept segment must have been executed by the server of its
 * slot.  Therefore each server that owns slots of the segment holds a mark.
 * Owners change, and a mark does not apply to slots that its server did not
 * own when the mark was claimed.  In that case all records in the slots of the
 * server are delivered again.
 */


static ngx_vaani_spool_held_t *ngx_vaani_spool_new_held(
    ngx_vaani_spool_window_t *window, u_char *id, ngx_uint_t server);
static void ngx_vaani_spool_find_owners(ngx_vaani_spool_window_t *window,
    ngx_vaani_spool_segment_t *segment);


ngx_int_t
ngx_vaani_spool_update_helds(ngx_vaani_spool_window_t *window,
    ngx_vaani_spool_segment_t *segment)
{
    ngx_uint_t               n;
    ngx_vaani_spool_held_t  *held, **p;

    if (segment->owned == window->owned) {
        return NGX_OK;
    }

    ngx_vaani_spool_find_owners(window, segment);

    p = &segment->helds;

    for (n = 0; n < window->spool->max_servers; n++) {
        held = *p;

        if (held && held->server == n) {

            if (window->needed[n]) {
                p = &held->next;

            } else {
                *p = held->next;
                free(held);
            }

            continue;
        }

        if (!window->needed[n]) {
            continue;
        }

        held = ngx_vaani_spool_new_held(window, segment->id, n);

        if (held == NULL) {
            return NGX_ERROR;
        }

        held->next = *p;
        *p = held;
        p = &held->next;
    }

    segment->owned = window->owned;

    return NGX_OK;
}


static ngx_vaani_spool_held_t *
ngx_vaani_spool_new_held(ngx_vaani_spool_window_t *window, u_char *id,
    ngx_uint_t server)
{
    ngx_vaani_spool_held_t  *held;

    held = malloc(sizeof(ngx_vaani_spool_held_t));

    if (held == NULL) {
        return NULL;
    }

    ngx_memzero(held, sizeof(ngx_vaani_spool_held_t));

    held->server = server;
    held->known = NGX_VAANI_SPOOL_NO_MARK;

    ngx_vaani_spool_mark_init(&held->mark, id,
                              window->mark_handler, window);

    return held;
}


/*
 * Returns the servers that own slots of the segment.
 */

static void
ngx_vaani_spool_find_owners(ngx_vaani_spool_window_t *window,
    ngx_vaani_spool_segment_t *segment)
{
    ngx_uint_t  n, bit, owner;

    if (segment->slots == NULL) {
        window->needed[0] = 1;
        return;
    }

    ngx_memzero(window->needed, window->spool->max_servers);
    segment->orphan = 0;

    for (n = 0; n < NGX_VAANI_SPOOL_SLOTS / 8; n++) {

        if (segment->slots[n] == 0) {
            continue;
        }

        for (bit = 0; bit < 8; bit++) {

            if (!(segment->slots[n] >> bit & 1)) {
                continue;
            }

            owner = window->owners[n * 8 + bit];

            if (owner == NGX_VAANI_SPOOL_NO_OWNER) {
                segment->orphan = 1;

            } else {
                window->needed[owner] = 1;
            }
        }
    }
}


ngx_uint_t
ngx_vaani_spool_is_covered(ngx_vaani_spool_window_t *window,
    ngx_vaani_spool_segment_t *segment)
{
    ngx_vaani_spool_held_t  *held;

    if (segment->owned != window->owned || segment->orphan) {
        return 0;
    }

    for (held = segment->helds; held; held = held->next) {
        if (!held->read || window->servers[held->server].moved
            || held->mark.stands < segment->size)
        {
            return 0;
        }
    }

    return 1;
}


ngx_uint_t
ngx_vaani_spool_is_missing(ngx_vaani_spool_window_t *window,
    ngx_vaani_spool_segment_t *segment)
{
    ngx_vaani_spool_held_t  *held;

    /*
     * one of several may be unreachable for long, while the others are checked
     */

    if (ngx_vaani_spool_several(window->spool)) {
        return segment->owned && !ngx_vaani_spool_is_covered(window, segment);
    }

    held = segment->helds;

    return held && held->read && held->mark.stands < segment->size;
}


void
ngx_vaani_spool_free_segment(ngx_vaani_spool_segment_t *segment)
{
    ngx_vaani_spool_held_t  *held;

    while (segment->helds) {
        held = segment->helds;
        segment->helds = held->next;
        free(held);
    }

    free(segment->slots);
    segment->slots = NULL;
}
