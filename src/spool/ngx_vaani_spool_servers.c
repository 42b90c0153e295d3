
#include "ngx_vaani_spool_window.h"


/*
 * The receiver may be several servers, each of which owns some slots.  Finds
 * which of them are alive, which slots each owns, and the slots of records.
 */


static ngx_uint_t ngx_vaani_spool_look_at_scope(
    ngx_vaani_spool_window_t *window, ngx_uint_t n, const u_char *scope);
static void ngx_vaani_spool_look_at_owners(ngx_vaani_spool_window_t *window);
static void ngx_vaani_spool_set_slots(ngx_vaani_spool_t *spool, u_char *data,
    size_t size, u_char *slots);


ngx_int_t
ngx_vaani_spool_servers_init(ngx_vaani_spool_window_t *window,
    ngx_cycle_t *cycle)
{
    ngx_vaani_spool_t  *spool;

    spool = window->spool;

    window->owned = 1;

    window->servers = ngx_pcalloc(cycle->pool,
                                  spool->max_servers
                                  * sizeof(ngx_vaani_spool_server_t));
    window->needed = ngx_pcalloc(cycle->pool, spool->max_servers);

    if (window->servers == NULL || window->needed == NULL) {
        return NGX_ERROR;
    }

    if (!ngx_vaani_spool_several(spool)) {
        return NGX_OK;
    }

    window->owners = ngx_palloc(cycle->pool,
                                NGX_VAANI_SPOOL_SLOTS * sizeof(uint16_t));

    if (window->owners == NULL) {
        return NGX_ERROR;
    }

    ngx_memset(window->owners, 0xff, NGX_VAANI_SPOOL_SLOTS * sizeof(uint16_t));

    return NGX_OK;
}


ngx_uint_t
ngx_vaani_spool_look_at_servers(ngx_vaani_spool_window_t *window)
{
    ngx_uint_t                   n, nservers, nup, life, changed;
    ngx_vaani_spool_t           *spool;
    ngx_vaani_spool_server_t    *server;
    ngx_vaani_spool_receiver_t  *receiver;

    spool = window->spool;
    receiver = spool->receiver;

    nservers = ngx_min(receiver->nservers(spool->data), spool->max_servers);
    changed = 0;
    nup = 0;

    for (n = nservers; n < window->nservers; n++) {
        window->servers[n].up = 0;
        changed |= ngx_vaani_spool_look_at_scope(window, n, NULL);
    }

    window->nservers = nservers;

    for (n = 0; n < nservers; n++) {
        server = &window->servers[n];

        if (ngx_vaani_spool_several(spool)) {
            changed |= ngx_vaani_spool_look_at_scope(window, n,
                                             receiver->scope(spool->data, n));
        }

        life = receiver->life(spool->data, n * spool->nconnections);

        server->up = (life != 0
                      && (server->scoped || !ngx_vaani_spool_several(spool)));

        if (!server->up) {
            continue;
        }

        nup++;

        if (life != server->life) {
            server->life = life;
            server->begun = 0;
        }
    }

    /* the owners are part of the scopes */

    if (changed) {
        ngx_vaani_spool_look_at_owners(window);
    }

    return nup;
}


/*
 * Returns 1 if the scope of a server has changed, appeared or disappeared.
 */

static ngx_uint_t
ngx_vaani_spool_look_at_scope(ngx_vaani_spool_window_t *window, ngx_uint_t n,
    const u_char *scope)
{
    ngx_uint_t                 changed;
    ngx_vaani_spool_server_t  *server;

    server = &window->servers[n];

    changed = (server->scoped != (scope != NULL));
    server->scoped = (scope != NULL);

    if (scope == NULL
        || ngx_memcmp(server->scope, scope, NGX_VAANI_SPOOL_SCOPE_LEN) == 0)
    {
        return changed;
    }

    /* earlier marks are void, even if the scope returns to its old value */

    if (server->scope[0]) {
        server->moved = 1;
        server->begun = 0;
    }

    ngx_memcpy(server->scope, scope, NGX_VAANI_SPOOL_SCOPE_LEN);

    return 1;
}


static void
ngx_vaani_spool_look_at_owners(ngx_vaani_spool_window_t *window)
{
    ngx_uint_t          slot, owner, changed;
    ngx_vaani_spool_t  *spool;

    spool = window->spool;
    changed = 0;

    for (slot = 0; slot < NGX_VAANI_SPOOL_SLOTS; slot++) {
        owner = spool->receiver->server(spool->data, slot);

        if (owner >= window->nservers) {
            owner = NGX_VAANI_SPOOL_NO_OWNER;
        }

        changed |= (window->owners[slot] != owner);
        window->owners[slot] = (uint16_t) owner;
    }

    if (changed) {
        window->owned++;
    }
}


ngx_uint_t
ngx_vaani_spool_same_scope(ngx_vaani_spool_t *spool,
    ngx_vaani_spool_mark_t *mark)
{
    const u_char  *scope;

    if (!mark->scoped) {
        return 1;
    }

    scope = spool->receiver->scope(spool->data,
                                   mark->connection / spool->nconnections);

    return scope
           && ngx_memcmp(scope, mark->scope, NGX_VAANI_SPOOL_SCOPE_LEN) == 0;
}


ngx_int_t
ngx_vaani_spool_set_scope(ngx_vaani_spool_t *spool,
    ngx_vaani_spool_mark_t *mark)
{
    const u_char  *scope;

    if (!ngx_vaani_spool_several(spool)) {
        return NGX_OK;
    }

    scope = spool->receiver->scope(spool->data,
                                   mark->connection / spool->nconnections);

    if (scope == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(mark->scope, scope, NGX_VAANI_SPOOL_SCOPE_LEN);
    mark->scoped = 1;

    return NGX_OK;
}


ngx_uint_t
ngx_vaani_spool_is_down(ngx_vaani_spool_t *spool, const u_char *content,
    size_t len)
{
    ngx_int_t   n;
    ngx_uint_t  server;

    n = ngx_vaani_spool_slot(spool, content, len);

    if (n == NGX_ERROR) {
        return 0;
    }

    server = spool->receiver->server(spool->data, n);

    return server == NGX_VAANI_SPOOL_NOBODY
           || spool->receiver->life(spool->data, server * spool->nconnections)
              == 0;
}


ngx_uint_t
ngx_vaani_spool_is_up(ngx_vaani_spool_t *spool)
{
    ngx_uint_t  n;

    if (!ngx_vaani_spool_several(spool)) {
        return 0;
    }

    for (n = 0; n < spool->receiver->nservers(spool->data); n++) {
        if (spool->receiver->life(spool->data, n * spool->nconnections)) {
            return 1;
        }
    }

    return 0;
}


ngx_int_t
ngx_vaani_spool_slot(ngx_vaani_spool_t *spool, const u_char *content,
    size_t len)
{
    ngx_int_t  slot;

    slot = spool->receiver->slot(content, len);

    return (slot >= 0 && slot < NGX_VAANI_SPOOL_SLOTS) ? slot : NGX_ERROR;
}


ngx_int_t
ngx_vaani_spool_read_slots(ngx_vaani_spool_t *spool, int fd, size_t size,
    u_char *slots)
{
    u_char     *data;
    ssize_t     n;
    ngx_err_t   err;

    ngx_memzero(slots, NGX_VAANI_SPOOL_SLOTS / 8);

    data = malloc(size ? size : 1);

    if (data == NULL) {
        errno = ENOMEM;
        return NGX_ERROR;
    }

    n = ngx_vaani_spool_read_file(fd, data, size);

    if (n == -1 || (size_t) n < size) {
        err = (n == -1) ? errno : EIO;
        free(data);
        errno = err;

        return NGX_ERROR;
    }

    ngx_vaani_spool_set_slots(spool, data, size, slots);

    free(data);

    return NGX_OK;
}


static void
ngx_vaani_spool_set_slots(ngx_vaani_spool_t *spool, u_char *data, size_t size,
    u_char *slots)
{
    int                      rc;
    size_t                   len;
    uint64_t                 time;
    unsigned                 tries;
    ngx_int_t                slot;
    const u_char            *p;
    vaani_journal_reader_t   reader;
    vaani_journal_record_t   record;

    ngx_memzero(&reader, sizeof(vaani_journal_reader_t));

    reader.data = data;
    reader.len = size;

    for ( ;; ) {
        rc = vaani_journal_next(&reader, &record);

        if (rc == VAANI_JOURNAL_END) {
            return;
        }

        if (rc != VAANI_JOURNAL_RECORD
            || vaani_journal_is_start(&record, &p, &time))
        {
            continue;
        }

        (void) vaani_journal_dead_letter(&record, &p, &len);
        (void) vaani_journal_deferred(&record, &time, &tries);

        slot = ngx_vaani_spool_slot(spool, record.content, record.len);

        if (slot != NGX_ERROR) {
            slots[slot / 8] |= 1 << (slot % 8);
        }
    }
}
