
/*
 * The whole input is one event.  Both modes of validation must judge it as the
 * contract does, and give the contract's result.
 */


#include "vaani_contract.h"
#include "vaani_event.h"
#include "vaani_fuzz_memory.h"
#include "vaani_reference.h"


static int fuzz_parse(const u_char *data, size_t size, unsigned strict);
static void fuzz_error(const vaani_event_t *event,
    const vaani_event_error_t *error, const vaani_ref_t *ref,
    const vaani_contract_t *contract);
static void fuzz_event(const vaani_event_t *event, const u_char *text,
    size_t size);
static void fuzz_no_memory(const u_char *data, size_t size, unsigned strict,
    size_t nallocs);


/* the static words of errors; any other text could come from the body */

static const char  *reasons[] = {
    "empty_body", "invalid_json", "not_an_object", "missing_field",
    "mistyped_field", "invalid_event", "invalid_room_name",
    "contradictory_status"
};

static const vaani_str_t  fuzz_none = { 0, NULL };


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int  strict, lenient;

    if (size > VAANI_FUZZ_MAX_SIZE) {
        return 0;
    }

    strict = fuzz_parse(data, size, 1);
    lenient = fuzz_parse(data, size, 0);

    /* strict mode accepts only a part of what lenient mode accepts */

    vaani_fuzz_check(strict != VAANI_OK || lenient == VAANI_OK);

    return 0;
}


static int
fuzz_parse(const u_char *data, size_t size, unsigned strict)
{
    int                   rc;
    size_t                nallocs;
    vaani_ref_t           ref;
    vaani_str_t           text;
    vaani_event_t         event;
    vaani_contract_t      contract;
    vaani_test_arena_t    arena, other;
    vaani_event_error_t   error;

    vaani_test_arena_init(&arena);
    vaani_test_arena_init(&other);

    text.data = vaani_test_text(&arena, data, size);
    text.len = size;

    rc = vaani_event_parse(&event, &text, &fuzz_none, strict, 0, &arena.alloc,
                           &error);

    nallocs = arena.nallocs;

    if (!vaani_ref_read(&ref, text.data, size, "data", strict)) {
        vaani_fuzz_check(rc == VAANI_ERROR);
        fuzz_error(&event, &error, &ref, NULL);

    } else if (!vaani_contract_read(&contract, &ref, NULL, strict, &other)) {
        vaani_fuzz_check(rc == VAANI_ERROR);
        fuzz_error(&event, &error, &ref, &contract);

    } else {
        vaani_fuzz_check(rc == VAANI_OK);
        vaani_fuzz_check(vaani_contract_differs(&contract, &event) == NULL);
        fuzz_event(&event, text.data, size);
    }

    vaani_ref_free(&ref);
    vaani_test_arena_free(&arena);
    vaani_test_arena_free(&other);

    fuzz_no_memory(data, size, strict, nallocs);

    return rc;
}


static void
fuzz_error(const vaani_event_t *event, const vaani_event_error_t *error,
    const vaani_ref_t *ref, const vaani_contract_t *contract)
{
    size_t  n;

    for (n = 0; n < vaani_test_nelems(reasons); n++) {
        if (strcmp(reason_of(error), reasons[n]) == 0) {
            break;
        }
    }

    vaani_fuzz_check(n < vaani_test_nelems(reasons));

    vaani_fuzz_check(error->message[0] != '\0');
    vaani_fuzz_check((const u_char *) error->message < ref->text
                     || (const u_char *) error->message >= ref->end);
    vaani_fuzz_check(error->field.len == 0
                     || error->field.data < ref->text
                     || error->field.data >= ref->end);

    if (contract) {
        vaani_fuzz_check(vaani_contract_error_differs(contract, event, error)
                         == NULL);

    } else {
        vaani_fuzz_check(error->kind == VAANI_EVENT_MALFORMED);
        vaani_fuzz_check(ref->text + error->offset == ref->bad);
        vaani_fuzz_check(error->field.len == 0);
        vaani_fuzz_check(event->name.data == NULL);
        vaani_fuzz_check(event->room.data == NULL);
    }
}


/*
 * Properties of each event, independent of the reference.
 */

static void
fuzz_event(const vaani_event_t *event, const u_char *text, size_t size)
{
    size_t  n;

    vaani_fuzz_check(event->name.data != NULL);
    vaani_fuzz_check(event->name.len <= VAANI_NAME_MAX_LEN);
    vaani_fuzz_check(vaani_fuzz_within(&event->name_json, text, size));
    vaani_fuzz_check(event->name_json.len >= event->name.len + 2);

    vaani_fuzz_check(event->room.data != NULL || event->type == NULL);

    if (event->room.data) {
        vaani_fuzz_check(event->room.len >= 1);
        vaani_fuzz_check(event->room.len <= VAANI_ROOM_MAX_LEN);
        vaani_fuzz_check(event->room_json.len >= event->room.len + 2);
        vaani_fuzz_check(event->room_json.data[0] == '"');

        for (n = 0; n < event->room.len; n++) {
            vaani_fuzz_check(event->room.data[n] >= 0x20);
        }
    }

    vaani_fuzz_check(vaani_event_find(&event->name) == event->type);
    vaani_fuzz_check(event->nnotes <= VAANI_EVENT_MAX_NOTES);
    vaani_fuzz_check((event->direction == 0) == (event->direction_source == 0));

    if (event->duration.kind != VAANI_DURATION_NONE) {
        vaani_fuzz_check(event->duration.ms <= VAANI_JSON_MAX_INT);
        vaani_fuzz_check(event->duration.if_seconds <= VAANI_JSON_MAX_INT);
    }

    if (event->type == NULL) {
        return;
    }

    vaani_fuzz_check(vaani_status_rank(&event->status) > 0);

    for (n = 0; n < VAANI_EVENT_MAX_FIELDS; n++) {

        if (event->values[n].data == NULL) {
            continue;
        }

        vaani_fuzz_check(event->type->fields[n].hash_field.len > 0);

        if (event->type->fields[n].type == VAANI_FIELD_OBJECT) {
            vaani_fuzz_check(vaani_fuzz_within(&event->values[n], text, size));
            vaani_fuzz_check(event->values[n].data[0] == '{');
        }
    }
}


static void
fuzz_no_memory(const u_char *data, size_t size, unsigned strict,
    size_t nallocs)
{
    int                  rc;
    vaani_str_t          text;
    vaani_event_t        event;
    vaani_test_arena_t   arena;
    vaani_event_error_t  error;

    if (nallocs == 0) {
        return;
    }

    vaani_fuzz_starve(&arena, data, size, nallocs);

    text.data = data;
    text.len = size;

    rc = vaani_event_parse(&event, &text, &fuzz_none, strict, 0, &arena.alloc,
                           &error);

    vaani_fuzz_starved(&arena, rc);
}
