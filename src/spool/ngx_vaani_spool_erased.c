
#include "ngx_vaani_spool_replay.h"


/*
 * Tombstones: an operator has erased a call, and its events must not be
 * applied again.
 */


#define NGX_VAANI_SPOOL_ERASED      "erased"


static ngx_int_t ngx_vaani_spool_load(ngx_vaani_spool_window_t *window,
    int fd, size_t size);
static ngx_int_t ngx_vaani_spool_take_tombstones(
    ngx_vaani_spool_window_t *window);


ngx_int_t
ngx_vaani_spool_read_erased(ngx_vaani_spool_window_t *window)
{
    int          fd;
    u_char       name[NGX_VAANI_SPOOL_NAME_LEN];
    ngx_int_t    rc;
    struct stat  st;

    (void) ngx_snprintf(name, NGX_VAANI_SPOOL_NAME_LEN, "%V/%s%Z",
                        &window->spool->path->name, NGX_VAANI_SPOOL_ERASED);

    fd = ngx_vaani_spool_open_to_read(name);

    if (fd == -1) {

        if (errno != ENOENT) {
            return NGX_ERROR;
        }

        window->nerased = 0;
        window->ntombstones = 0;

        return NGX_OK;
    }

    rc = NGX_ERROR;

    /* the file is append-only */

    if (fstat(fd, &st) == 0) {
        rc = ((size_t) st.st_size == window->nerased
              && st.st_mtime == window->erased_mtime)
             ? NGX_OK : ngx_vaani_spool_load(window, fd, st.st_size);

        window->erased_mtime = st.st_mtime;
    }

    ngx_vaani_spool_close_file(fd);

    return rc;
}


static ngx_int_t
ngx_vaani_spool_load(ngx_vaani_spool_window_t *window, int fd, size_t size)
{
    ssize_t  n;

    free(window->erased);

    window->nerased = 0;
    window->ntombstones = 0;

    window->erased = malloc(size ? size : 1);

    if (window->erased == NULL) {
        errno = ENOMEM;
        return NGX_ERROR;
    }

    n = ngx_vaani_spool_read_file(fd, window->erased, size);

    if (n == -1) {
        return NGX_ERROR;
    }

    window->nerased = n;

    return ngx_vaani_spool_take_tombstones(window);
}


static ngx_int_t
ngx_vaani_spool_take_tombstones(ngx_vaani_spool_window_t *window)
{
    int                           rc;
    uint64_t                      erased_at;
    ngx_uint_t                    size;
    vaani_journal_reader_t        reader;
    vaani_journal_record_t        record;
    ngx_vaani_spool_tombstone_t  *tombstone;

    ngx_memzero(&reader, sizeof(vaani_journal_reader_t));

    reader.data = window->erased;
    reader.len = window->nerased;
    size = 0;

    for ( ;; ) {
        rc = vaani_journal_next(&reader, &record);

        if (rc == VAANI_JOURNAL_END) {
            return NGX_OK;
        }

        /* the tool that checks the files reports other records */

        if (rc != VAANI_JOURNAL_RECORD
            || !vaani_journal_tombstone(&record, &erased_at))
        {
            continue;
        }

        if (window->ntombstones == size) {
            size = size ? 2 * size : 16;

            tombstone = realloc(window->tombstones,
                                size * sizeof(ngx_vaani_spool_tombstone_t));

            if (tombstone == NULL) {
                window->nerased = 0;
                errno = ENOMEM;
                return NGX_ERROR;
            }

            window->tombstones = tombstone;
        }

        tombstone = &window->tombstones[window->ntombstones++];

        tombstone->erased_at = erased_at;
        tombstone->crc = vaani_crc32c(0, record.content, record.len);
        tombstone->len = record.len;
        tombstone->offset = record.content - window->erased;
    }
}


ngx_uint_t
ngx_vaani_spool_erased(void *data, const void *name, size_t len,
    uint64_t received_at)
{
    ngx_vaani_spool_slot_t *slot = data;

    uint32_t                      crc;
    ngx_uint_t                    n;
    ngx_vaani_spool_window_t     *window;
    ngx_vaani_spool_tombstone_t  *tombstone;

    window = &slot->replay->window;

    if (window->ntombstones == 0 || len == 0) {
        return 0;
    }

    crc = vaani_crc32c(0, name, len);

    for (n = 0; n < window->ntombstones; n++) {
        tombstone = &window->tombstones[n];

        if (tombstone->crc == crc
            && tombstone->len == len
            && received_at < tombstone->erased_at
            && ngx_memcmp(window->erased + tombstone->offset, name, len) == 0)
        {
            return 1;
        }
    }

    return 0;
}
