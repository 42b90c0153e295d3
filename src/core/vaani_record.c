
#include <string.h>

#include "vaani_record.h"


/*
 * Integers are big-endian, strings are preceded by their lengths:
 *
 *     version, 1 byte; number of channels, 2 bytes;
 *     received_at, ttl, maxlen, 8 bytes each;
 *     key, stream, digest, id, nonce, the channels, payload: 4 bytes and the
 *     string; nonce is of version 1, else empty;
 *     since version 2: message, name, as the strings before; flags, 1 byte;
 *     with VAANI_RECORD_SHARDED, the number of sharded channels, 2 bytes
 */

#define VAANI_RECORD_FIXED     (1 + 2 + 3 * 8 + 1)

#define VAANI_RECORD_REPAIRED  1
#define VAANI_RECORD_SHARDED   2
#define VAANI_RECORD_OMIT      4       /* messages leave out the payload */
#define VAANI_RECORD_INDEX     8


typedef struct {
    const u_char        *pos;
    const u_char        *end;
} vaani_record_reader_t;


static u_char *vaani_record_write_uint(u_char *dst, uint64_t value,
    size_t size);
static u_char *vaani_record_write_str(u_char *dst, const vaani_str_t *str);
static int vaani_record_read_uint(vaani_record_reader_t *r, uint64_t *value,
    size_t size);
static int vaani_record_read_str(vaani_record_reader_t *r, vaani_str_t *str);


size_t
vaani_record_size(const vaani_delivery_t *delivery)
{
    size_t  n, size;

    size = VAANI_RECORD_FIXED
           + 4 + delivery->key.len
           + 4 + delivery->stream.len
           + 4 + delivery->digest.len
           + 4 + delivery->id.len
           + 4
           + 4 + delivery->payload.len
           + 4 + delivery->message.len
           + 4 + delivery->name.len;

    for (n = 0; n < delivery->nchannels; n++) {
        size += 4 + delivery->channels[n].len;
    }

    if (delivery->nsharded) {
        size += 2;
    }

    return size;
}


u_char *
vaani_record_write(u_char *dst, const vaani_delivery_t *delivery)
{
    size_t    n;
    unsigned  flags;

    dst = vaani_record_write_uint(dst, VAANI_RECORD_VERSION, 1);
    dst = vaani_record_write_uint(dst, delivery->nchannels, 2);
    dst = vaani_record_write_uint(dst, delivery->received_at, 8);
    dst = vaani_record_write_uint(dst, delivery->ttl, 8);
    dst = vaani_record_write_uint(dst, delivery->maxlen, 8);
    dst = vaani_record_write_str(dst, &delivery->key);
    dst = vaani_record_write_str(dst, &delivery->stream);
    dst = vaani_record_write_str(dst, &delivery->digest);
    dst = vaani_record_write_str(dst, &delivery->id);
    dst = vaani_record_write_uint(dst, 0, 4);

    for (n = 0; n < delivery->nchannels; n++) {
        dst = vaani_record_write_str(dst, &delivery->channels[n]);
    }

    dst = vaani_record_write_str(dst, &delivery->payload);
    dst = vaani_record_write_str(dst, &delivery->message);
    dst = vaani_record_write_str(dst, &delivery->name);

    flags = delivery->repaired ? VAANI_RECORD_REPAIRED : 0;

    if (delivery->index) {
        flags |= VAANI_RECORD_INDEX;
    }

    if (delivery->omit_payload) {
        flags |= VAANI_RECORD_OMIT;
    }

    if (delivery->nsharded == 0) {
        return vaani_record_write_uint(dst, flags, 1);
    }

    dst = vaani_record_write_uint(dst, flags | VAANI_RECORD_SHARDED, 1);

    return vaani_record_write_uint(dst, delivery->nsharded, 2);
}


int
vaani_record_read(vaani_delivery_t *delivery, const u_char *data, size_t len,
    vaani_alloc_t *alloc)
{
    size_t                 n;
    uint64_t               version, nchannels, nsharded, flags;
    vaani_str_t            nonce;
    vaani_record_reader_t  r;

    memset(delivery, 0, sizeof(vaani_delivery_t));

    r.pos = data;
    r.end = data + len;

    if (vaani_record_read_uint(&r, &version, 1) != VAANI_OK
        || version < 1 || version > VAANI_RECORD_VERSION
        || vaani_record_read_uint(&r, &nchannels, 2) != VAANI_OK
        || vaani_record_read_uint(&r, &delivery->received_at, 8) != VAANI_OK
        || vaani_record_read_uint(&r, &delivery->ttl, 8) != VAANI_OK
        || vaani_record_read_uint(&r, &delivery->maxlen, 8) != VAANI_OK
        || vaani_record_read_str(&r, &delivery->key) != VAANI_OK
        || vaani_record_read_str(&r, &delivery->stream) != VAANI_OK
        || vaani_record_read_str(&r, &delivery->digest) != VAANI_OK
        || vaani_record_read_str(&r, &delivery->id) != VAANI_OK
        || vaani_record_read_str(&r, &nonce) != VAANI_OK)
    {
        return VAANI_ERROR;
    }

    delivery->replayed = 1;
    delivery->nchannels = nchannels;

    if (nchannels) {
        delivery->channels = alloc->alloc(alloc->ctx,
                                          nchannels * sizeof(vaani_str_t));

        if (delivery->channels == NULL) {
            return VAANI_NOMEM;
        }
    }

    for (n = 0; n < nchannels; n++) {
        if (vaani_record_read_str(&r, &delivery->channels[n]) != VAANI_OK) {
            return VAANI_ERROR;
        }
    }

    if (vaani_record_read_str(&r, &delivery->payload) != VAANI_OK) {
        return VAANI_ERROR;
    }

    if (version > 1) {

        if (vaani_record_read_str(&r, &delivery->message) != VAANI_OK
            || vaani_record_read_str(&r, &delivery->name) != VAANI_OK
            || vaani_record_read_uint(&r, &flags, 1) != VAANI_OK)
        {
            return VAANI_ERROR;
        }

        delivery->repaired = flags & VAANI_RECORD_REPAIRED;
        delivery->omit_payload = (flags & VAANI_RECORD_OMIT) != 0;
        delivery->index = (flags & VAANI_RECORD_INDEX) != 0;

        if (flags & VAANI_RECORD_SHARDED) {

            if (vaani_record_read_uint(&r, &nsharded, 2) != VAANI_OK
                || nsharded == 0 || nsharded > nchannels)
            {
                return VAANI_ERROR;
            }

            delivery->nsharded = nsharded;
        }

    } else {

        /* the nonce distinguished transfers without an id */

        delivery->message = delivery->id.len ? delivery->id
                            : nonce.len ? nonce
                              : delivery->digest;
    }

    return (r.pos == r.end) ? VAANI_OK : VAANI_ERROR;
}


int
vaani_record_key(vaani_str_t *key, const u_char *data, size_t len)
{
    uint64_t               version, skipped;
    vaani_record_reader_t  r;

    r.pos = data;
    r.end = data + len;

    return (vaani_record_read_uint(&r, &version, 1) == VAANI_OK
            && version >= 1 && version <= VAANI_RECORD_VERSION
            && vaani_record_read_uint(&r, &skipped, 2) == VAANI_OK
            && vaani_record_read_uint(&r, &skipped, 8) == VAANI_OK
            && vaani_record_read_uint(&r, &skipped, 8) == VAANI_OK
            && vaani_record_read_uint(&r, &skipped, 8) == VAANI_OK)
           ? vaani_record_read_str(&r, key) : VAANI_ERROR;
}


static u_char *
vaani_record_write_uint(u_char *dst, uint64_t value, size_t size)
{
    size_t  n;

    for (n = size; n > 0; n--) {
        dst[n - 1] = (u_char) (value & 0xff);
        value >>= 8;
    }

    return dst + size;
}


static u_char *
vaani_record_write_str(u_char *dst, const vaani_str_t *str)
{
    dst = vaani_record_write_uint(dst, str->len, 4);

    if (str->len) {
        memcpy(dst, str->data, str->len);
    }

    return dst + str->len;
}


static int
vaani_record_read_uint(vaani_record_reader_t *r, uint64_t *value, size_t size)
{
    if ((size_t) (r->end - r->pos) < size) {
        return VAANI_ERROR;
    }

    for (*value = 0; size > 0; size--) {
        *value = (*value << 8) | *r->pos++;
    }

    return VAANI_OK;
}


static int
vaani_record_read_str(vaani_record_reader_t *r, vaani_str_t *str)
{
    uint64_t  len;

    if (vaani_record_read_uint(r, &len, 4) != VAANI_OK
        || (size_t) (r->end - r->pos) < len)
    {
        return VAANI_ERROR;
    }

    str->data = r->pos;
    str->len = len;
    r->pos += len;

    return VAANI_OK;
}
