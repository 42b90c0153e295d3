
/*
 * The whole input is the body of a delivery.  It is repaired and split in both
 * modes of validation.  The results are checked, and must be the same when the
 * events are read again one by one, as the spool does.
 */


#include "vaani_body.h"
#include "vaani_contract.h"
#include "vaani_fuzz_memory.h"
#include "vaani_reference.h"


/*
 * the content of a body after it was read, for comparison with a second read
 */

typedef struct {
    size_t               nevents;
    size_t               nrefused;
    size_t               nallocs;
    uint64_t             sum;
} fuzz_result_t;


static void fuzz_repair(const u_char *data, size_t size);
static void fuzz_body(const u_char *data, size_t size, unsigned strict,
    fuzz_result_t *result);
static void fuzz_text(vaani_body_t *body, const vaani_event_error_t *error,
    int rc, const vaani_str_t *received, unsigned strict);
static void fuzz_part(vaani_body_t *body, const vaani_event_t *event,
    const vaani_part_t *part, const vaani_event_error_t *error, int rc,
    const vaani_str_t *received, vaani_alloc_t *alloc);
static void fuzz_slices(vaani_body_t *body, const vaani_part_t *part,
    const vaani_str_t *received, vaani_alloc_t *alloc);
static void fuzz_again(const vaani_event_t *event, const vaani_part_t *part,
    vaani_alloc_t *alloc);
static unsigned fuzz_contains(const vaani_str_t *str, const u_char *data,
    size_t len);
static void fuzz_no_memory(const u_char *data, size_t size, unsigned strict,
    size_t nallocs);
static void fuzz_sum(fuzz_result_t *result, const void *data, size_t len);


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    unsigned        strict;
    fuzz_result_t   result, again;

    if (size > VAANI_FUZZ_MAX_SIZE) {
        return 0;
    }

    fuzz_repair(data, size);

    for (strict = 0; strict < 2; strict++) {
        memset(&result, 0, sizeof(fuzz_result_t));
        memset(&again, 0, sizeof(fuzz_result_t));

        fuzz_body(data, size, strict, &result);
        fuzz_body(data, size, strict, &again);

        vaani_fuzz_check(memcmp(&result, &again, sizeof(fuzz_result_t)) == 0);

        fuzz_no_memory(data, size, strict, result.nallocs);
    }

    return 0;
}


/*
 * The repaired text is UTF-8 without a mark and needs no second repair.  Each
 * of its positions maps to one of the received text, in the same order.
 */

static void
fuzz_repair(const u_char *data, size_t size)
{
    int                  rc;
    size_t               n, step, pos, last;
    uint32_t             cp;
    vaani_str_t          src, dst, again;
    vaani_ref_t          ref;
    const u_char        *p;
    vaani_repair_t       repair;
    vaani_test_arena_t   arena;

    vaani_test_arena_init(&arena);

    src.data = vaani_test_text(&arena, data, size);
    src.len = size;

    rc = vaani_repair(&src, &arena.alloc, &dst);

    vaani_fuzz_check(rc == VAANI_OK || rc == VAANI_DONE);
    vaani_fuzz_check(arena.nallocs == (rc == VAANI_OK));
    vaani_fuzz_check(dst.len <= 3 * size);
    vaani_fuzz_check(rc == VAANI_OK || dst.data == src.data);

    ref.end = dst.data + dst.len;

    for (p = dst.data; p < ref.end; /* void */ ) {
        p = vaani_ref_char(&ref, p, &cp);
        vaani_fuzz_check(p != NULL);
    }

    vaani_fuzz_check(dst.len < 3 || memcmp(dst.data, "\xef\xbb\xbf", 3) != 0);

    vaani_fuzz_check(vaani_repair(&dst, &arena.alloc, &again) == VAANI_DONE);
    vaani_fuzz_check(again.data == dst.data && again.len == dst.len);

    if (rc == VAANI_OK) {
        vaani_repair_begin(&repair, &src);

        last = 0;
        step = dst.len / 64 + 1;

        for (n = 0; n < dst.len + step; n += step) {
            pos = vaani_repair_seek(&repair, n < dst.len ? n : dst.len);

            vaani_fuzz_check(pos >= last && pos <= size);
            vaani_fuzz_check(repair.len >= n || n >= dst.len);

            last = pos;
        }

        vaani_fuzz_check(last == size);
        vaani_fuzz_check(repair.nrepairs > 0);
    }

    vaani_test_arena_free(&arena);
}


static void
fuzz_body(const u_char *data, size_t size, unsigned strict,
    fuzz_result_t *result)
{
    int                   rc;
    vaani_str_t           received;
    vaani_body_t          body;
    vaani_part_t          part;
    vaani_event_t         event;
    vaani_test_arena_t    arena, other;
    vaani_event_error_t   error;

    vaani_test_arena_init(&arena);
    vaani_test_arena_init(&other);

    received.data = vaani_test_text(&arena, data, size);
    received.len = size;

    rc = vaani_body_read(&body, &received, strict, &arena.alloc, &error);

    vaani_fuzz_check(rc == VAANI_OK || rc == VAANI_ERROR);

    fuzz_text(&body, &error, rc, &received, strict);

    if (rc == VAANI_ERROR) {
        fuzz_sum(result, reason_of(&error), strlen(reason_of(&error)));
        fuzz_sum(result, &error.offset, sizeof(size_t));
    }

    while (rc == VAANI_OK) {
        rc = vaani_body_next(&body, &event, &part, &error);

        if (rc == VAANI_DONE) {
            break;
        }

        vaani_fuzz_check(rc == VAANI_OK || rc == VAANI_ERROR);

        result->nevents++;

        fuzz_sum(result, part.payload.data, part.payload.len);
        fuzz_sum(result, part.received.data, part.received.len);

        if (rc == VAANI_ERROR) {
            result->nrefused++;
            fuzz_sum(result, reason_of(&error), strlen(reason_of(&error)));
        }

        /* allocations for the checks do not count */

        fuzz_part(&body, &event, &part, &error, rc, &received, &other.alloc);

        rc = VAANI_OK;
    }

    vaani_fuzz_check(result->nevents <= VAANI_BODY_MAX_EVENTS);

    result->nallocs = arena.nallocs;

    vaani_test_arena_free(&arena);
    vaani_test_arena_free(&other);
}


/*
 * The body as a whole: an error is where the reference has it, after the
 * repairs; and an envelope by the contract is an envelope.
 */

static void
fuzz_text(vaani_body_t *body, const vaani_event_error_t *error, int rc,
    const vaani_str_t *received, unsigned strict)
{
    size_t                     n;
    vaani_ref_t                ref;
    vaani_str_t                text;
    vaani_repair_t             repair;
    vaani_test_arena_t         arena;
    const vaani_ref_member_t  *m;

    vaani_test_arena_init(&arena);

    text = *received;

    if (!vaani_ref_read(&ref, text.data, text.len, "data", strict) && !strict) {
        vaani_ref_free(&ref);

        (void) vaani_repair(received, &arena.alloc, &text);
        (void) vaani_ref_read(&ref, text.data, text.len, "data", strict);
    }

    if (ref.bad) {
        vaani_repair_begin(&repair, received);

        vaani_fuzz_check(rc == VAANI_ERROR);
        vaani_fuzz_check(error->kind == VAANI_EVENT_MALFORMED);
        vaani_fuzz_check(error->offset <= received->len);
        vaani_fuzz_check(error->offset
                         == (text.data == received->data
                             ? (size_t) (ref.bad - text.data)
                             : vaani_repair_seek(&repair,
                                                 ref.bad - text.data)));

        goto done;
    }

    vaani_fuzz_check(vaani_str_eq(&body->text, &text));
    vaani_fuzz_check(body->options.repaired == (text.data != received->data));

    m = vaani_ref_find(&ref.top, "event");

    if (m && m->type == VAANI_JSON_STRING
        && vaani_contract_str_is(&m->string, "webhook_test"))
    {
        vaani_fuzz_check(rc == VAANI_OK);
        vaani_fuzz_check(body->options.test && !body->several);

        goto done;
    }

    m = vaani_ref_find(&ref.top, "events");
    n = 0;

    if (m && m->type == VAANI_JSON_ARRAY) {
        n = 1;

        while (strchr(" \t\r\n", m->raw.data[n])) {
            n++;
        }

        n = (m->raw.data[n] != ']');
    }

    if (rc == VAANI_ERROR) {
        vaani_fuzz_check(n == 1);
        vaani_fuzz_check(error->kind == VAANI_EVENT_INVALID);
        vaani_fuzz_check(strcmp(reason_of(error), "too_many_events") == 0);

    } else {
        vaani_fuzz_check(body->several == n);
        vaani_fuzz_check(!body->options.test);
    }

done:

    vaani_ref_free(&ref);
    vaani_test_arena_free(&arena);
}


static void
fuzz_part(vaani_body_t *body, const vaani_event_t *event,
    const vaani_part_t *part, const vaani_event_error_t *error, int rc,
    const vaani_str_t *received, vaani_alloc_t *alloc)
{
    size_t  n;

    vaani_fuzz_check(vaani_fuzz_within(&part->received, received->data,
                                       received->len));
    vaani_fuzz_check(vaani_fuzz_within(&part->payload, body->line.data,
                                       body->line.len));

    fuzz_slices(body, part, received, alloc);

    if (rc == VAANI_ERROR) {
        vaani_fuzz_check(error->message[0] != '\0');
        vaani_fuzz_check(reason_of(error)[0] != '\0');
        vaani_fuzz_check(error->offset <= received->len);
        vaani_fuzz_check(error->field.len == 0
                         || !vaani_fuzz_within(&error->field, received->data,
                                               received->len));

        if (error->kind == VAANI_EVENT_MALFORMED) {
            n = part->received.data - received->data;

            vaani_fuzz_check(error->offset >= n);
            vaani_fuzz_check(error->offset < n + part->received.len);
        }

        return;
    }

    vaani_fuzz_check(event->name.data != NULL);
    vaani_fuzz_check(event->test == body->options.test);
    vaani_fuzz_check(event->repaired == body->options.repaired);
    vaani_fuzz_check(!event->inherited || body->several);

    /* the name of a call is unchanged */

    if (event->room.data && event->repaired) {
        vaani_fuzz_check(fuzz_contains(&part->received,
                                       event->room_json.data + 1,
                                       event->room_json.len - 2));
    }

    fuzz_again(event, part, alloc);
}


/*
 * A payload is one line of JSON.  It consists of the received bytes, changed
 * only by the repairs.
 */

static void
fuzz_slices(vaani_body_t *body, const vaani_part_t *part,
    const vaani_str_t *received, vaani_alloc_t *alloc)
{
    u_char              *line;
    size_t               n;
    vaani_str_t          text;
    vaani_json_t         json;
    vaani_json_error_t   error;

    for (n = 0; n < part->payload.len; n++) {
        vaani_fuzz_check(part->payload.data[n] != '\n');
        vaani_fuzz_check(part->payload.data[n] != '\r');
    }

    vaani_fuzz_check(vaani_json_scan(&json, part->payload.data,
                                     part->payload.len, NULL, alloc, &error)
                     == VAANI_OK);

    text = part->received;

    if (body->options.repaired) {

        /*
         * A mark at the begin of the body is dropped; one elsewhere is not,
         * and no event begins with one
         */

        vaani_fuzz_check(vaani_repair(&part->received, alloc, &text)
                         != VAANI_NOMEM);
    }

    vaani_fuzz_check(text.len == part->payload.len);

    line = alloc->alloc(alloc->ctx, text.len);

    for (n = 0; n < text.len; n++) {
        line[n] = (text.data[n] == '\n' || text.data[n] == '\r')
                  ? ' ' : text.data[n];
    }

    vaani_fuzz_check(memcmp(line, part->payload.data, text.len) == 0);

    if (!body->several) {
        vaani_fuzz_check(part->received.data == received->data);
        vaani_fuzz_check(part->received.len == received->len);
    }
}


static int
fuzz_same(const vaani_str_t *one, const vaani_str_t *other)
{
    if (one->data == NULL || other->data == NULL) {
        return one->len == 0 && other->len == 0;
    }

    return vaani_str_eq(one, other);
}


/*
 * The payload read again, with the values that the spool keeps of its body, is
 * the same event: after its validation, it is not read strictly any more.
 */

static void
fuzz_again(const vaani_event_t *event, const vaani_part_t *part,
    vaani_alloc_t *alloc)
{
    size_t                n;
    vaani_str_t           name;
    vaani_event_t         again;
    vaani_event_error_t   error;

    name.len = 0;
    name.data = NULL;

    if (event->inherited) {
        name = event->name_json;
    }

    vaani_fuzz_check(vaani_event_parse(&again, &part->payload, &name, 0,
                                       event->repaired, alloc, &error)
                     == VAANI_OK);

    vaani_fuzz_check(again.type == event->type);
    vaani_fuzz_check(fuzz_same(&again.name, &event->name));
    vaani_fuzz_check(fuzz_same(&again.status, &event->status));

    vaani_fuzz_check(fuzz_same(&again.room, &event->room));
    vaani_fuzz_check(again.direction == event->direction);
    vaani_fuzz_check(again.direction_source == event->direction_source);
    vaani_fuzz_check(fuzz_same(&again.number, &event->number));
    vaani_fuzz_check(again.number_source == event->number_source);
    vaani_fuzz_check(fuzz_same(&again.reason, &event->reason));
    vaani_fuzz_check(again.reason_source == event->reason_source);
    vaani_fuzz_check(again.duration.kind == event->duration.kind);
    vaani_fuzz_check(again.duration.ms == event->duration.ms);
    vaani_fuzz_check(again.duration.span == event->duration.span);

    for (n = 0; n < VAANI_EVENT_MAX_FIELDS; n++) {
        vaani_fuzz_check(fuzz_same(&again.values[n], &event->values[n]));
    }
}


static unsigned
fuzz_contains(const vaani_str_t *str, const u_char *data, size_t len)
{
    size_t  n;

    for (n = 0; n + len <= str->len; n++) {
        if (memcmp(str->data + n, data, len) == 0) {
            return 1;
        }
    }

    return 0;
}


static void
fuzz_no_memory(const u_char *data, size_t size, unsigned strict,
    size_t nallocs)
{
    int                   rc;
    vaani_str_t           received;
    vaani_body_t          body;
    vaani_part_t          part;
    vaani_event_t         event;
    vaani_test_arena_t    arena;
    vaani_event_error_t   error;

    if (nallocs == 0) {
        return;
    }

    vaani_fuzz_starve(&arena, data, size, nallocs);

    received.data = data;
    received.len = size;

    rc = vaani_body_read(&body, &received, strict, &arena.alloc, &error);

    if (rc == VAANI_OK) {
        do {
            rc = vaani_body_next(&body, &event, &part, &error);
        } while (rc == VAANI_OK || rc == VAANI_ERROR);
    }

    vaani_fuzz_starved(&arena, rc);
}


static void
fuzz_sum(fuzz_result_t *result, const void *data, size_t len)
{
    size_t         n;
    const u_char  *p = data;

    for (n = 0; n < len; n++) {
        result->sum = result->sum * 31 + p[n] + 1;
    }
}
