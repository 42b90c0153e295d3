
#include "ngx_vaani_spool_replay.h"


/*
 * Selects the next waiting segment, if the receiver is several servers.  While
 * a server is down, segments with records for that server only are skipped.
 * Delivering one would write all of it again to the end of the spool, possibly
 * for hours.
 */


struct ngx_vaani_spool_peek_s {
    ngx_vaani_spool_peek_t     *next;       /* with a higher number */
    ngx_atomic_uint_t           number;
    off_t                       size;
    ngx_uint_t                  used;       /* this time */
    u_char                      slots[NGX_VAANI_SPOOL_SLOTS / 8];
};


static ngx_uint_t ngx_vaani_spool_is_all_down(ngx_vaani_spool_replay_t *replay,
    ngx_str_t *dir, ngx_atomic_uint_t number);
static ngx_vaani_spool_peek_t *ngx_vaani_spool_peek_slots(
    ngx_vaani_spool_replay_t *replay, int fd, ngx_atomic_uint_t number);
static void ngx_vaani_spool_free_old_peeks(ngx_vaani_spool_replay_t *replay,
    ngx_atomic_uint_t number);


void
ngx_vaani_spool_find_down_slots(ngx_vaani_spool_replay_t *replay)
{
    ngx_uint_t                 slot, owner;
    ngx_vaani_spool_window_t  *window;

    window = &replay->window;

    replay->some_down = 0;

    /* if all are down, the first attempt shows when one is up */

    if (!ngx_vaani_spool_several(replay->spool)
        || ngx_vaani_spool_look_at_servers(window) == 0)
    {
        return;
    }

    ngx_memzero(replay->down, NGX_VAANI_SPOOL_SLOTS / 8);

    for (slot = 0; slot < NGX_VAANI_SPOOL_SLOTS; slot++) {
        owner = window->owners[slot];

        if (owner == NGX_VAANI_SPOOL_NO_OWNER || !window->servers[owner].up) {
            replay->down[slot / 8] |= 1 << (slot % 8);
            replay->some_down = 1;
        }
    }
}


ngx_int_t
ngx_vaani_spool_pick(ngx_vaani_spool_replay_t *replay, ngx_str_t *dir,
    ngx_atomic_uint_t *number)
{
    ngx_atomic_uint_t  above;

    replay->skipped = 0;

    for (above = 0; /* void */ ; above = *number) {

        if (ngx_vaani_spool_list(dir, above, number, NULL, NULL) != NGX_OK) {
            return NGX_ERROR;
        }

        if (*number == 0 || !replay->some_down
            || !ngx_vaani_spool_is_all_down(replay, dir, *number))
        {
            break;
        }

        replay->skipped++;
    }

    ngx_vaani_spool_free_old_peeks(replay, *number);

    return NGX_OK;
}


/*
 * Whether all records of a segment are for servers that are down.
 */

static ngx_uint_t
ngx_vaani_spool_is_all_down(ngx_vaani_spool_replay_t *replay, ngx_str_t *dir,
    ngx_atomic_uint_t number)
{
    int                      fd;
    u_char                   name[NGX_VAANI_SPOOL_NAME_LEN];
    ngx_uint_t               n, some;
    ngx_vaani_spool_peek_t  *peek;

    ngx_vaani_spool_segment_name(name, dir, number);

    fd = ngx_vaani_spool_open_to_read(name);

    if (fd == -1) {
        return 0;
    }

    peek = ngx_vaani_spool_peek_slots(replay, fd, number);

    (void) close(fd);

    if (peek == NULL) {
        return 0;
    }

    some = 0;

    for (n = 0; n < NGX_VAANI_SPOOL_SLOTS / 8; n++) {

        if (peek->slots[n] & ~replay->down[n]) {
            return 0;
        }

        some |= peek->slots[n];
    }

    return some != 0;
}


/*
 * Returns what is known of a segment, which may still grow, because it is not
 * locked.  The result is cached, because it is needed repeatedly.  Returns
 * NULL if it is unknown.
 */

static ngx_vaani_spool_peek_t *
ngx_vaani_spool_peek_slots(ngx_vaani_spool_replay_t *replay, int fd,
    ngx_atomic_uint_t number)
{
    struct stat               st;
    ngx_vaani_spool_peek_t   *peek, **p;

    if (fstat(fd, &st) == -1 || !S_ISREG(st.st_mode)) {
        return NULL;
    }

    for (p = &replay->peeks; *p && (*p)->number < number; p = &(*p)->next) {
        /* void */
    }

    peek = *p;

    if (peek == NULL || peek->number != number) {
        peek = calloc(1, sizeof(ngx_vaani_spool_peek_t));

        if (peek == NULL) {
            return NULL;
        }

        peek->next = *p;
        peek->number = number;
        peek->size = -1;

        *p = peek;
    }

    peek->used = 1;

    if (peek->size == st.st_size) {
        return peek;
    }

    peek->size = -1;

    if (ngx_vaani_spool_read_slots(replay->spool, fd, st.st_size, peek->slots)
        != NGX_OK)
    {
        return NULL;
    }

    peek->size = st.st_size;

    return peek;
}


/*
 * Forgets segments that no longer exist, up to a number, or all of them if it
 * is 0.
 */

static void
ngx_vaani_spool_free_old_peeks(ngx_vaani_spool_replay_t *replay,
    ngx_atomic_uint_t number)
{
    ngx_vaani_spool_peek_t  *peek, **p;

    p = &replay->peeks;

    while (*p) {
        peek = *p;

        if (!peek->used && (number == 0 || peek->number < number)) {
            *p = peek->next;
            free(peek);
            continue;
        }

        peek->used = 0;
        p = &peek->next;
    }
}


void
ngx_vaani_spool_free_peeks(ngx_vaani_spool_replay_t *replay)
{
    ngx_vaani_spool_peek_t  *peek;

    while (replay->peeks) {
        peek = replay->peeks;
        replay->peeks = peek->next;
        free(peek);
    }
}
