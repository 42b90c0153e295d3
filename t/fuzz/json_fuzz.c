
/*
 * The whole input is the text.  It must be judged as the reference does, with
 * and without unique keys, and the scanner's results are checked.
 */


#include "vaani_fuzz_memory.h"
#include "vaani_json.h"
#include "vaani_reference.h"


static void fuzz_text(const u_char *data, size_t size,
    const vaani_json_options_t *options);
static void fuzz_error(const u_char *text, size_t size,
    const vaani_json_options_t *options, const vaani_json_error_t *error,
    const vaani_ref_t *ref);
static void fuzz_list(vaani_json_members_t *list, const vaani_ref_list_t *ref,
    const u_char *text, size_t size, vaani_alloc_t *alloc);
static void fuzz_member(vaani_json_members_t *list,
    const vaani_json_member_t *member, const vaani_ref_member_t *expected,
    const u_char *text, size_t size, vaani_alloc_t *alloc);
static void fuzz_array(const vaani_str_t *raw, vaani_alloc_t *alloc);
static void fuzz_value(const vaani_json_member_t *member,
    vaani_alloc_t *alloc);
static void fuzz_string(const vaani_str_t *value, vaani_alloc_t *alloc);
static void fuzz_number(const vaani_str_t *number);
static void fuzz_escape(const u_char *text, size_t size,
    vaani_alloc_t *alloc);
static void fuzz_no_memory(const u_char *text, size_t size,
    const vaani_json_options_t *options, size_t nallocs);


static const vaani_str_t  fuzz_inner = vaani_string("data");

static const vaani_json_options_t  fuzz_strict = { &fuzz_inner, 1 };
static const vaani_json_options_t  fuzz_lenient = { &fuzz_inner, 0 };


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > VAANI_FUZZ_MAX_SIZE) {
        return 0;
    }

    fuzz_text(data, size, &fuzz_strict);
    fuzz_text(data, size, &fuzz_lenient);

    return 0;
}


static void
fuzz_text(const u_char *data, size_t size, const vaani_json_options_t *options)
{
    int                  rc, ok;
    size_t               n, nallocs;
    unsigned             broken;
    vaani_ref_t          ref;
    vaani_json_t         json;
    const u_char        *text;
    vaani_json_error_t   error;
    vaani_test_arena_t   arena;

    vaani_test_arena_init(&arena);

    text = vaani_test_text(&arena, data, size);

    error.message = NULL;

    rc = vaani_json_scan(&json, text, size, options, &arena.alloc, &error);
    ok = vaani_ref_read(&ref, text, size, "data", options->unique);

    nallocs = arena.nallocs;

    vaani_fuzz_check(rc == (ok ? VAANI_OK : VAANI_ERROR));

    if (ok) {
        vaani_fuzz_check(json.value.type == ref.value.type);
        vaani_fuzz_check(json.value.raw.data == ref.value.raw.data);
        vaani_fuzz_check(json.value.raw.len == ref.value.raw.len);

        /* strings contain no line breaks */

        broken = 0;

        for (n = 0; n < size; n++) {
            broken |= (text[n] == '\n' || text[n] == '\r');
        }

        vaani_fuzz_check(json.broken == broken);

        fuzz_list(&json.top, &ref.top, text, size, &arena.alloc);
        fuzz_list(&json.inner, &ref.inner, text, size, &arena.alloc);

    } else {
        fuzz_error(text, size, options, &error, &ref);
    }

    fuzz_escape(text, size, &arena.alloc);

    vaani_ref_free(&ref);
    vaani_test_arena_free(&arena);

    fuzz_no_memory(data, size, options, nallocs);
}


/*
 * An error is where the reference has it, and the text before it could be the
 * beginning of a valid text: cut off there it is either a text already, or one
 * that only lacks its end, or one that only repeats a key.
 */

static void
fuzz_error(const u_char *text, size_t size,
    const vaani_json_options_t *options, const vaani_json_error_t *error,
    const vaani_ref_t *ref)
{
    int                  rc;
    vaani_json_t         json;
    const u_char        *prefix;
    vaani_json_error_t   cut;
    vaani_test_arena_t   arena;

    vaani_fuzz_check(error->message != NULL && error->message[0] != '\0');
    vaani_fuzz_check(error->offset <= size);
    vaani_fuzz_check(text + error->offset == ref->bad);

    vaani_test_arena_init(&arena);

    prefix = vaani_test_text(&arena, text, error->offset);

    rc = vaani_json_scan(&json, prefix, error->offset, options, &arena.alloc,
                         &cut);

    vaani_fuzz_check(rc == VAANI_OK || cut.offset == error->offset
                     || strcmp(cut.message, "duplicate key") == 0);

    vaani_test_arena_free(&arena);
}


static void
fuzz_list(vaani_json_members_t *list, const vaani_ref_list_t *ref,
    const u_char *text, size_t size, vaani_alloc_t *alloc)
{
    size_t  n;

    vaani_fuzz_check(list->nmembers == ref->nmembers);
    vaani_fuzz_check(list->nmembers <= VAANI_JSON_MAX_MEMBERS);

    for (n = 0; n < list->nmembers; n++) {
        fuzz_member(list, &list->members[n], &ref->members[n], text, size,
                    alloc);
    }
}


static void
fuzz_member(vaani_json_members_t *list, const vaani_json_member_t *member,
    const vaani_ref_member_t *expected, const u_char *text, size_t size,
    vaani_alloc_t *alloc)
{
    unsigned                    escaped;
    vaani_str_t                 value;
    const vaani_json_member_t  *last;

    vaani_fuzz_check(member->offset < size && text[member->offset] == '"');
    vaani_fuzz_check(member->offset == expected->offset);
    vaani_fuzz_check(vaani_str_eq(&member->key, &expected->key));

    vaani_fuzz_check(vaani_fuzz_within(&member->raw, text, size));
    vaani_fuzz_check(member->raw.data == expected->raw.data);
    vaani_fuzz_check(member->raw.len == expected->raw.len);
    vaani_fuzz_check(member->type == expected->type);
    vaani_fuzz_check(member->lone == expected->lone);

    last = vaani_json_find(list, &member->key);

    vaani_fuzz_check(last >= member);
    vaani_fuzz_check(vaani_str_eq(&last->key, &member->key));

    fuzz_value(member, alloc);

    if (member->type == VAANI_JSON_NUMBER) {
        fuzz_number(&member->raw);
    }

    if (member->type == VAANI_JSON_ARRAY) {
        fuzz_array(&member->raw, alloc);
    }

    if (member->type == VAANI_JSON_STRING) {
        vaani_fuzz_check(vaani_json_string(member, alloc, &value) == VAANI_OK);
        vaani_fuzz_check(value.len == member->decoded);
        vaani_fuzz_check(vaani_str_eq(&value, &expected->string));
        vaani_fuzz_check(member->lone
                         || vaani_ref_cjson_same(&member->raw, &value));

        /* strings without escapes are not copied */

        escaped = (memchr(member->raw.data, '\\', member->raw.len) != NULL);

        vaani_fuzz_check(escaped != vaani_fuzz_within(&value, text, size));

        fuzz_string(&value, alloc);
    }

    fuzz_string(&member->key, alloc);
}


/*
 * The elements of an array come in order, and each of them is a text for the
 * reference.
 */

static void
fuzz_array(const vaani_str_t *raw, vaani_alloc_t *alloc)
{
    int                  rc, ok;
    vaani_str_t          element;
    vaani_ref_t          ref;
    vaani_json_t         json;
    const u_char        *last;
    vaani_json_error_t   error;
    vaani_json_array_t   array;

    vaani_json_array(&array, raw);

    last = raw->data + 1;

    for ( ;; ) {
        rc = vaani_json_element(&array, &json, &fuzz_strict, alloc, &element,
                                &error);

        if (rc == VAANI_DONE) {
            break;
        }

        vaani_fuzz_check(vaani_fuzz_within(&element, raw->data, raw->len));
        vaani_fuzz_check(element.data >= last);

        last = element.data + element.len;

        ok = vaani_ref_read(&ref, element.data, element.len, "data", 1);

        vaani_fuzz_check(rc == (ok ? VAANI_OK : VAANI_ERROR));

        if (ok) {
            vaani_fuzz_check(json.value.type == ref.value.type);
            vaani_fuzz_check(json.top.nmembers == ref.top.nmembers);
            vaani_fuzz_check(json.inner.nmembers == ref.inner.nmembers);

        } else {
            vaani_fuzz_check(raw->data + error.offset == ref.bad);
        }

        vaani_ref_free(&ref);
    }

    vaani_fuzz_check(*array.pos == ']');
}


/*
 * A member's value is itself a text of the same type, with nothing around it.
 */

static void
fuzz_value(const vaani_json_member_t *member, vaani_alloc_t *alloc)
{
    int                  rc;
    vaani_json_t         json;
    vaani_json_error_t   error;

    rc = vaani_json_scan(&json, member->raw.data, member->raw.len, NULL, alloc,
                         &error);

    vaani_fuzz_check(rc == VAANI_OK);
    vaani_fuzz_check(json.value.type == member->type);

    vaani_fuzz_check(strchr(" \t\r\n", member->raw.data[0]) == NULL);
    vaani_fuzz_check(strchr(" \t\r\n",
                            member->raw.data[member->raw.len - 1]) == NULL);
}


/*
 * A string escaped and read again is the same.
 */

static void
fuzz_string(const vaani_str_t *value, vaani_alloc_t *alloc)
{
    u_char              *dst, *last;
    size_t               len;
    vaani_str_t          again;
    vaani_json_t         json;
    vaani_json_error_t   error;

    len = vaani_json_escaped_len(value);
    dst = alloc->alloc(alloc->ctx, len + 7);

    memcpy(dst, "{\"k\":\"", 6);
    last = vaani_json_escape(dst + 6, value);
    vaani_fuzz_check(last <= dst + 6 + len);

    len = last - dst;
    dst = alloc->alloc(alloc->ctx, len + 2);
    memcpy(dst, "{\"k\":\"", 6);
    (void) vaani_json_escape(dst + 6, value);
    memcpy(dst + len, "\"}", 2);

    vaani_fuzz_check(vaani_json_scan(&json, dst, len + 2, &fuzz_strict, alloc,
                                     &error)
                     == VAANI_OK);
    vaani_fuzz_check(json.top.nmembers == 1);
    vaani_fuzz_check(vaani_json_string(&json.top.members[0], alloc, &again)
                     == VAANI_OK);
    vaani_fuzz_check(vaani_str_eq(&again, value));
}


static void
fuzz_number(const vaani_str_t *number)
{
    int          shift, rc;
    uint64_t     value, expected;
    const char  *message, *complaint;

    for (shift = 0; shift <= 3; shift += 3) {
        message = NULL;
        complaint = vaani_ref_integer(number, shift, &expected);

        rc = vaani_json_integer(number, shift, &value, &message);

        if (complaint) {
            vaani_fuzz_check(rc == VAANI_ERROR);
            vaani_fuzz_check(strcmp(message, complaint) == 0);

        } else {
            vaani_fuzz_check(rc == VAANI_OK);
            vaani_fuzz_check(value == expected);
            vaani_fuzz_check(value <= VAANI_JSON_MAX_INT);
        }
    }
}


/*
 * Any bytes, escaped, are the content of a string.
 */

static void
fuzz_escape(const u_char *text, size_t size, vaani_alloc_t *alloc)
{
    u_char              *dst, *last;
    size_t               len;
    vaani_str_t          src;
    vaani_json_t         json;
    vaani_json_error_t   error;

    src.data = text;
    src.len = size;

    len = vaani_json_escaped_len(&src);
    dst = alloc->alloc(alloc->ctx, len + 2);

    dst[0] = '"';
    last = vaani_json_escape(dst + 1, &src);
    vaani_fuzz_check(last <= dst + 1 + len);
    *last++ = '"';

    vaani_fuzz_check(vaani_json_scan(&json, dst, last - dst, NULL, alloc,
                                     &error)
                     == VAANI_OK);
    vaani_fuzz_check(json.value.type == VAANI_JSON_STRING);
}


/*
 * Memory runs out at one of the scan's allocations: no other error of the text
 * comes before that, because the scan would have allocated less.
 */

static void
fuzz_no_memory(const u_char *text, size_t size,
    const vaani_json_options_t *options, size_t nallocs)
{
    int                  rc;
    vaani_json_t         json;
    vaani_json_error_t   error;
    vaani_test_arena_t   arena;

    if (nallocs == 0) {
        return;
    }

    vaani_fuzz_starve(&arena, text, size, nallocs);

    rc = vaani_json_scan(&json, text, size, options, &arena.alloc, &error);

    vaani_fuzz_starved(&arena, rc);
}
