
#include <string.h>

#include "vaani_transition.h"


/*
 * 1 + 4 keys, 5 + 7 scalars, postprocessed, the empty argument before sharded
 * channels; and twice the row's fields
 */

#define VAANI_MAX_ARGS         20

#define VAANI_NDIGITS          18

/* lengths in the hash of a call: each byte counts there */

#define VAANI_DIGEST_LEN       8
#define VAANI_PERIOD_LEN       3

#define VAANI_SINCE_LEN        13

/* the expiry is set once per period, of which its time has so many */

#define VAANI_TTL_PERIODS      100

#define vaani_write_literal(dst, literal)                                     \
    vaani_write(dst, literal, sizeof(literal) - 1)

#define vaani_digit(n)         ((u_char) ('0' + (n)))


typedef struct {
    vaani_str_t         *args;
    size_t               nargs;
    size_t               nfields;       /* of the event's row, that the event
                                           has */
    unsigned             has_status;    /* it is none of the ladder */
    unsigned             index;         /* its keys are given */
    u_char              *last;          /* free memory for composed arguments */
} vaani_args_t;


static size_t vaani_args_fields(const vaani_event_t *event);
static void vaani_args_keys(vaani_args_t *a, const vaani_event_t *event,
    const vaani_delivery_t *delivery);
static void vaani_args_set(vaani_args_t *a, const vaani_str_t *prefix,
    const char *name);
static void vaani_args_digits(vaani_args_t *a, const vaani_event_t *event,
    const vaani_delivery_t *delivery);
static u_char *vaani_args_period(u_char *p, const vaani_delivery_t *delivery);
static u_char *vaani_args_digest(u_char *p, const vaani_str_t *digest);
static u_char *vaani_args_since(u_char *p, uint64_t since);
static u_char *vaani_args_ttl(u_char *p, uint64_t ttl);
static void vaani_args_event(vaani_args_t *a, const vaani_event_t *event,
    const vaani_delivery_t *delivery);
static void vaani_args_channels(vaani_args_t *a,
    const vaani_delivery_t *delivery);
static void vaani_args_head(vaani_args_t *a, const vaani_event_t *event,
    const vaani_delivery_t *delivery);
static void vaani_args_tail(vaani_args_t *a, const vaani_event_t *event,
    const vaani_delivery_t *delivery);
static void vaani_args_payload(vaani_args_t *a, const vaani_event_t *event,
    const vaani_delivery_t *delivery);
static void vaani_args_add(vaani_args_t *a, const vaani_str_t *str);
static void vaani_args_composed(vaani_args_t *a, u_char *end);
static void vaani_args_literal(vaani_args_t *a, const char *str);
static void vaani_args_uint(vaani_args_t *a, uint64_t value);
static u_char *vaani_write(u_char *dst, const void *src, size_t len);


static const char  vaani_active[] = ":active";
static const char  vaani_calls[] = ":calls";
static const char  vaani_head_id[] = "\"id\":\"";
static const char  vaani_head_event[] = "\",\"event\":";
static const char  vaani_head_room[] = ",\"room_name\":";
static const char  vaani_tail_time[] = "\"received_at\":";
static const char  vaani_tail_key[] = ",\"key\":\"";
static const char  vaani_tail_replayed[] = ",\"replayed\":true";
static const char  vaani_tail_repaired[] = ",\"repaired\":true";
static const char  vaani_tail_payload[] = ",\"payload\":";
static const char  vaani_no_payload[] = "null,\"payload_bytes\":";


int
vaani_transition_args(const vaani_event_t *event,
    const vaani_delivery_t *delivery, vaani_alloc_t *alloc, vaani_str_t **args,
    size_t *nargs)
{
    size_t        n, size;
    vaani_args_t  a;

    a.nfields = vaani_args_fields(event);

    n = VAANI_MAX_ARGS + 2 * a.nfields + delivery->nchannels;

    size = n * sizeof(vaani_str_t)
           + sizeof(vaani_head_id) + delivery->message.len
           + sizeof(vaani_head_event) + event->name_json.len
           + sizeof(vaani_head_room) + event->room_json.len
           + sizeof(vaani_tail_time) + VAANI_UINT64_LEN
           + sizeof(vaani_tail_key) + vaani_json_escaped_len(&delivery->key)
           + sizeof(vaani_tail_replayed) + sizeof(vaani_tail_repaired)
           + sizeof(vaani_tail_payload)
           + sizeof(vaani_no_payload) + VAANI_UINT64_LEN
           + VAANI_NDIGITS + 1 + VAANI_DIGEST_LEN + VAANI_PERIOD_LEN
           + VAANI_SINCE_LEN + event->name.len + 7 * VAANI_UINT64_LEN
           + sizeof(vaani_active) + sizeof(vaani_calls)
           + 2 * delivery->key.len;

    a.args = alloc->alloc(alloc->ctx, size);

    if (a.args == NULL) {
        return VAANI_NOMEM;
    }

    a.nargs = 0;
    a.has_status = 0;
    a.last = (u_char *) (a.args + n);

    vaani_args_keys(&a, event, delivery);
    vaani_args_digits(&a, event, delivery);
    vaani_args_head(&a, event, delivery);
    vaani_args_tail(&a, event, delivery);
    vaani_args_payload(&a, event, delivery);

    if (delivery->stream.len) {
        vaani_args_uint(&a, delivery->maxlen);
    }

    if (event->type) {
        vaani_args_event(&a, event, delivery);
    }

    vaani_args_channels(&a, delivery);

    *args = a.args;
    *nargs = a.nargs;

    return VAANI_OK;
}


/*
 * The number of fields of its row that the event has.
 */

static size_t
vaani_args_fields(const vaani_event_t *event)
{
    size_t  n, nfields;

    if (event->type == NULL) {
        return 0;
    }

    nfields = 0;

    for (n = 0;
         n < VAANI_EVENT_MAX_FIELDS && event->type->fields[n].name.len;
         n++)
    {
        nfields += (event->values[n].data != NULL);
    }

    return nfields;
}


/*
 * The keys of the index begin like the key of the hash.  Records of the spool
 * may have keys of another form; for those no index is kept.
 */

static void
vaani_args_keys(vaani_args_t *a, const vaani_event_t *event,
    const vaani_delivery_t *delivery)
{
    size_t       len;
    vaani_str_t  prefix;

    static const char  *nkeys[] = { "1", "2", "3", "4" };

    len = sizeof(":call:") - 1 + event->room.len;

    a->index = (delivery->index && event->type && delivery->key.len >= len);

    vaani_args_literal(a, nkeys[(delivery->stream.len != 0) + 2 * a->index]);
    vaani_args_add(a, &delivery->key);

    if (delivery->stream.len) {
        vaani_args_add(a, &delivery->stream);
    }

    if (a->index) {
        prefix.data = delivery->key.data;
        prefix.len = delivery->key.len - len;

        vaani_args_set(a, &prefix, vaani_active);
        vaani_args_set(a, &prefix, vaani_calls);
    }
}


static void
vaani_args_set(vaani_args_t *a, const vaani_str_t *prefix, const char *name)
{
    u_char  *p;

    p = vaani_write(a->last, prefix->data, prefix->len);
    p = vaani_write(p, name, strlen(name));

    vaani_args_composed(a, p);
}


/*
 * All small numbers, in one argument; see transition.lua.
 */

static void
vaani_args_digits(vaani_args_t *a, const vaani_event_t *event,
    const vaani_delivery_t *delivery)
{
    u_char                    *p, *end, *lens;
    size_t                     npairs;
    unsigned                   rank;
    const vaani_str_t         *status;
    const vaani_event_type_t  *type;

    type = event->type;
    p = a->last;

    if (type == NULL) {
        *p++ = '0';

    } else {
        npairs = a->nfields + (type->postprocessed ? 1 : 0);
        rank = vaani_status_rank(&event->status);
        status = vaani_status_name(rank);

        a->has_status = (status == NULL
                         || !vaani_str_eq(status, &event->status));

        *p++ = vaani_digit(type->position);
        *p++ = vaani_digit(rank);
        *p++ = vaani_digit(vaani_outcome_rank(&type->outcome));
        *p++ = type->transfer.len ? type->transfer.data[0] : '0';
        *p++ = vaani_digit(delivery->id.len != 0);
        *p++ = vaani_digit(event->duration.kind);
        *p++ = vaani_digit(event->duration.span != 0);
        *p++ = vaani_digit(npairs);
        *p++ = vaani_digit((delivery->received_at < delivery->since)
                           + 2 * a->index);
        *p++ = vaani_digit(event->room.len / 64);
        *p++ = vaani_digit(event->room.len % 64);
        *p++ = vaani_digit(event->direction);
        *p++ = vaani_digit(event->direction_source);
        *p++ = vaani_digit(event->number_source);
        *p++ = vaani_digit(event->reason_source);
        *p++ = vaani_digit(a->has_status);

        lens = p;
        p += 2;

        p = vaani_args_period(p, delivery);
        *p++ = type->code;
        p = vaani_args_digest(p, &delivery->digest);
        p = vaani_args_since(p, delivery->since);

        end = vaani_write_uint(p, delivery->received_at);
        lens[0] = vaani_digit(end - p);
        lens[1] = vaani_digit(event->name.len);

        p = vaani_write(end, event->name.data, event->name.len);
        p = vaani_args_ttl(p, delivery->ttl);
    }

    vaani_args_composed(a, p);
}


/*
 * The period of the expiry: differs from the neighbouring periods and from
 * those of another TTL.
 */

static u_char *
vaani_args_period(u_char *p, const vaani_delivery_t *delivery)
{
    size_t    n;
    uint64_t  len, period;

    static const char  digits[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

    if (delivery->ttl == 0) {
        memset(p, '.', VAANI_PERIOD_LEN);
        return p + VAANI_PERIOD_LEN;
    }

    len = delivery->ttl / VAANI_TTL_PERIODS;
    period = delivery->applied_at / (len ? len : 1);

    for (n = VAANI_PERIOD_LEN; n > 0; n--) {
        p[n - 1] = digits[period % 64];
        period /= 64;
    }

    return p + VAANI_PERIOD_LEN;
}


static u_char *
vaani_args_digest(u_char *p, const vaani_str_t *digest)
{
    if (digest->len >= VAANI_DIGEST_LEN) {
        return vaani_write(p, digest->data, VAANI_DIGEST_LEN);
    }

    memset(p, ' ', VAANI_DIGEST_LEN);

    return p + VAANI_DIGEST_LEN;
}


static u_char *
vaani_args_since(u_char *p, uint64_t since)
{
    size_t  n;

    for (n = VAANI_SINCE_LEN; n > 0; n--) {
        p[n - 1] = vaani_digit(since % 10);
        since /= 10;
    }

    return p + VAANI_SINCE_LEN;
}


/*
 * Longer by one period, see transition.lua, but within the range of a number.
 */

static u_char *
vaani_args_ttl(u_char *p, uint64_t ttl)
{
    uint64_t  period;

    period = ttl / VAANI_TTL_PERIODS;

    return vaani_write_uint(p, ttl <= UINT64_MAX - period ? ttl + period : ttl);
}


static void
vaani_args_event(vaani_args_t *a, const vaani_event_t *event,
    const vaani_delivery_t *delivery)
{
    size_t                     n;
    const vaani_event_type_t  *type;

    type = event->type;

    if (a->has_status) {
        vaani_args_add(a, &event->status);
    }

    if (delivery->id.len) {
        vaani_args_add(a, &delivery->id);
    }

    if (event->duration.kind != VAANI_DURATION_NONE) {
        vaani_args_uint(a, event->duration.ms);
    }

    if (event->duration.kind == VAANI_DURATION_OPEN) {
        vaani_args_uint(a, event->duration.if_seconds);
    }

    if (event->duration.span) {
        vaani_args_uint(a, event->duration.span);
    }

    if (event->number_source != VAANI_SOURCE_NONE) {
        vaani_args_add(a, &event->number);
    }

    if (event->reason_source != VAANI_SOURCE_NONE) {
        vaani_args_add(a, &event->reason);
    }

    for (n = 0; n < VAANI_EVENT_MAX_FIELDS && type->fields[n].name.len; n++) {
        if (event->values[n].data) {
            vaani_args_add(a, &type->fields[n].hash_field);
            vaani_args_add(a, &event->values[n]);
        }
    }

    if (type->postprocessed) {
        vaani_args_literal(a, "postprocessed");
        vaani_args_literal(a, "1");
    }
}


static void
vaani_args_channels(vaani_args_t *a, const vaani_delivery_t *delivery)
{
    size_t  n;

    for (n = 0; n < delivery->nchannels; n++) {

        if (delivery->nsharded
            && n == delivery->nchannels - delivery->nsharded)
        {
            vaani_args_literal(a, "");
        }

        vaani_args_add(a, &delivery->channels[n]);
    }
}


/*
 * The event's part of the message.  Names are copied as the body spells them,
 * because those are JSON strings already.
 */

static void
vaani_args_head(vaani_args_t *a, const vaani_event_t *event,
    const vaani_delivery_t *delivery)
{
    u_char  *p;

    p = a->last;

    p = vaani_write_literal(p, vaani_head_id);

    if (delivery->message.len) {
        p = vaani_write(p, delivery->message.data, delivery->message.len);
    }

    p = vaani_write_literal(p, vaani_head_event);
    p = vaani_write(p, event->name_json.data, event->name_json.len);

    if (event->room.data) {
        p = vaani_write_literal(p, vaani_head_room);
        p = vaani_write(p, event->room_json.data, event->room_json.len);
    }

    *p++ = ',';

    vaani_args_composed(a, p);
}


static void
vaani_args_tail(vaani_args_t *a, const vaani_event_t *event,
    const vaani_delivery_t *delivery)
{
    u_char  *p;

    p = a->last;

    p = vaani_write_literal(p, vaani_tail_time);
    p = vaani_write_uint(p, delivery->received_at);

    if (event->room.data) {
        p = vaani_write_literal(p, vaani_tail_key);
        p = vaani_json_escape(p, &delivery->key);
        *p++ = '"';
    }

    if (delivery->replayed) {
        p = vaani_write_literal(p, vaani_tail_replayed);
    }

    if (delivery->repaired) {
        p = vaani_write_literal(p, vaani_tail_repaired);
    }

    p = vaani_write_literal(p, vaani_tail_payload);

    vaani_args_composed(a, p);
}


/*
 * The value of the last member of the message.  An unknown event has nothing
 * else.  For other events the hash has the fields, and a long payload costs
 * Redis more than the rest of the event.
 */

static void
vaani_args_payload(vaani_args_t *a, const vaani_event_t *event,
    const vaani_delivery_t *delivery)
{
    u_char  *p;

    if (!delivery->omit_payload || event->type == NULL) {
        vaani_args_add(a, &delivery->payload);
        return;
    }

    p = vaani_write_literal(a->last, vaani_no_payload);
    p = vaani_write_uint(p, delivery->payload.len);

    vaani_args_composed(a, p);
}


static void
vaani_args_add(vaani_args_t *a, const vaani_str_t *str)
{
    a->args[a->nargs++] = *str;
}


/*
 * Makes an argument of the bytes from a->last to end.
 */

static void
vaani_args_composed(vaani_args_t *a, u_char *end)
{
    a->args[a->nargs].data = a->last;
    a->args[a->nargs++].len = end - a->last;
    a->last = end;
}


static void
vaani_args_literal(vaani_args_t *a, const char *str)
{
    a->args[a->nargs].data = (const u_char *) str;
    a->args[a->nargs++].len = strlen(str);
}


static void
vaani_args_uint(vaani_args_t *a, uint64_t value)
{
    u_char  *p;

    p = vaani_write_uint(a->last, value);

    vaani_args_composed(a, p);
}


static u_char *
vaani_write(u_char *dst, const void *src, size_t len)
{
    memcpy(dst, src, len);

    return dst + len;
}


int
vaani_transition_read(int64_t reply, vaani_transition_t *transition)
{
    memset(transition, 0, sizeof(vaani_transition_t));

    if (reply == 0) {
        transition->result = VAANI_TRANSITION_DUPLICATE;
        return VAANI_OK;
    }

    if (reply == -1) {
        transition->result = VAANI_TRANSITION_UNKNOWN;
        return VAANI_OK;
    }

    if (reply < 0) {
        return VAANI_ERROR;
    }

    transition->result = VAANI_TRANSITION_APPLIED;
    transition->seq = reply / 256;
    transition->from = reply / 16 % 16;
    transition->to = reply % 16;

    if (transition->seq == 0
        || (transition->to != VAANI_TRANSITION_UNCOUNTED
            && vaani_status_name(transition->to) == NULL)
        || (transition->from
            && transition->from != VAANI_TRANSITION_UNCOUNTED
            && vaani_status_name(transition->from) == NULL))
    {
        return VAANI_ERROR;
    }

    return VAANI_OK;
}
