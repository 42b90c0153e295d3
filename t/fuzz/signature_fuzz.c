
/*
 * The input is lines: the format of the header, the prefix, the prefix of the
 * timestamp, the expected signature, and then the header.  The format is two
 * digits.  In the first, bit 0 means hexadecimal, bit 1 with a timestamp, bit
 * 2 separated by spaces; in the second, bit 0 means that the prefix is
 * optional, bit 1 that its case does not matter, bit 2 that base64 may be
 * base64url without padding.  The result must equal that of a simple separate
 * reader.
 */


#include "vaani_fuzz.h"
#include "vaani_signature.h"
#include "vaani_test.h"


typedef struct {
    const u_char        *data;
    size_t               len;
} fuzz_rest_t;


static void fuzz_line(fuzz_rest_t *rest, vaani_str_t *line,
    vaani_test_arena_t *arena);
static unsigned fuzz_reference(const vaani_signature_format_t *format,
    const vaani_str_t *header, const vaani_str_t *expected,
    const u_char **timestamp, size_t *timestamp_len, unsigned *ntimestamps);
static unsigned fuzz_begins(const vaani_signature_format_t *format,
    const char *text, size_t len);
static unsigned fuzz_same(const char *text, size_t len,
    const vaani_str_t *expected, vaani_signature_encoding_e encoding);
static unsigned fuzz_same_char(u_char got, u_char expected,
    vaani_signature_encoding_e encoding);
static void fuzz_number(const vaani_str_t *text);
static void fuzz_token(const vaani_str_t *secret, const vaani_str_t *value);


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int                        rc;
    size_t                     len;
    unsigned                   mode, more, match, ntimestamps;
    vaani_str_t                line, header, expected, timestamp;
    fuzz_rest_t                rest;
    const u_char              *wanted;
    vaani_test_arena_t         arena;
    vaani_signature_format_t   format;

    if (size > VAANI_FUZZ_MAX_SIZE) {
        return 0;
    }

    vaani_test_arena_init(&arena);

    rest.data = data;
    rest.len = size;

    fuzz_line(&rest, &line, &arena);
    mode = line.len ? line.data[0] : 0;
    more = line.len > 1 ? line.data[1] : 0;

    fuzz_line(&rest, &format.prefix, &arena);
    fuzz_line(&rest, &format.timestamp, &arena);
    fuzz_line(&rest, &expected, &arena);

    header.data = vaani_test_text(&arena, rest.data, rest.len);
    header.len = rest.len;

    format.encoding = (mode & 1) ? VAANI_SIGNATURE_HEX
                      : (more & 4) ? VAANI_SIGNATURE_BASE64_ANY
                      : VAANI_SIGNATURE_BASE64;
    format.bare = more & 1;
    format.any_case = (more & 2) != 0;
    format.separator = (mode & 4) ? ' ' : ',';

    if ((mode & 2) == 0) {
        format.timestamp.len = 0;
    }

    match = fuzz_reference(&format, &header, &expected, &wanted, &len,
                           &ntimestamps);

    vaani_fuzz_check(vaani_signature_match(&format, &header, &expected)
                     == match);

    if (mode & 2) {
        rc = vaani_signature_timestamp(&format, &header, &timestamp);

        vaani_fuzz_check(rc == (ntimestamps == 1 ? VAANI_OK : VAANI_ERROR));

        if (rc == VAANI_OK) {
            vaani_fuzz_check(vaani_fuzz_within(&timestamp, header.data,
                                               header.len));
            vaani_fuzz_check(timestamp.data == wanted && timestamp.len == len);
            fuzz_number(&timestamp);
        }
    }

    fuzz_number(&header);
    fuzz_number(&expected);
    fuzz_token(&expected, &header);
    fuzz_token(&header, &expected);
    fuzz_token(&header, &header);

    vaani_test_arena_free(&arena);

    return 0;
}


static void
fuzz_line(fuzz_rest_t *rest, vaani_str_t *line, vaani_test_arena_t *arena)
{
    size_t         len;
    const u_char  *end;

    end = rest->len ? memchr(rest->data, '\n', rest->len) : NULL;
    len = end ? (size_t) (end - rest->data) : rest->len;

    line->data = vaani_test_text(arena, rest->data, len);
    line->len = len;

    len += (end != NULL);

    rest->data += len;
    rest->len -= len;
}


/*
 * Copies each element, byte by byte, and compares the copy.
 */

static unsigned
fuzz_reference(const vaani_signature_format_t *format,
    const vaani_str_t *header, const vaani_str_t *expected,
    const u_char **timestamp, size_t *timestamp_len, unsigned *ntimestamps)
{
    char      *copy;
    size_t     n, len, first, skip;
    unsigned   found;

    copy = vaani_test_malloc(header->len);

    *timestamp = NULL;
    *timestamp_len = 0;
    *ntimestamps = 0;

    found = 0;
    n = 0;

    while (n < header->len) {

        /* from here to the separator, without white space before it */

        for (len = 0, first = n;
             n < header->len && header->data[n] != format->separator;
             n++)
        {
            if (len == 0
                && (header->data[n] == ' ' || header->data[n] == '\t'))
            {
                first = n + 1;
                continue;
            }

            copy[len++] = header->data[n];
        }

        while (len && (copy[len - 1] == ' ' || copy[len - 1] == '\t')) {
            len--;
        }

        n++;

        skip = format->prefix.len;

        if ((format->bare && fuzz_same(copy, len, expected, format->encoding))
            || (fuzz_begins(format, copy, len)
                && fuzz_same(copy + skip, len - skip, expected,
                             format->encoding)))
        {
            found = 1;
        }

        skip = format->timestamp.len;

        if (len >= skip
            && (skip == 0 || memcmp(copy, format->timestamp.data, skip) == 0))
        {
            *timestamp = header->data + first + skip;
            *timestamp_len = len - skip;
            (*ntimestamps)++;
        }
    }

    free(copy);

    return found;
}


static unsigned
fuzz_begins(const vaani_signature_format_t *format, const char *text,
    size_t len)
{
    char    ch;
    size_t  n;

    for (n = 0; n < format->prefix.len && n < len; n++) {
        ch = text[n];

        if (format->any_case && strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZ", ch) && ch)
        {
            ch += 'a' - 'A';
        }

        if ((u_char) ch != format->prefix.data[n]) {
            return 0;
        }
    }

    return n == format->prefix.len;
}


/*
 * Base64 is as long as expected, or has none of the padding.
 */

static unsigned
fuzz_same(const char *text, size_t len, const vaani_str_t *expected,
    vaani_signature_encoding_e encoding)
{
    size_t  n, end;

    for (end = expected->len; end; end--) {
        if (expected->data[end - 1] != '=') {
            break;
        }
    }

    if (len != expected->len
        && (encoding != VAANI_SIGNATURE_BASE64_ANY || len != end))
    {
        return 0;
    }

    for (n = 0; n < len; n++) {
        if (!fuzz_same_char((u_char) text[n], expected->data[n], encoding)) {
            return 0;
        }
    }

    return 1;
}


static unsigned
fuzz_same_char(u_char got, u_char expected, vaani_signature_encoding_e encoding)
{
    switch (encoding) {

    case VAANI_SIGNATURE_HEX:

        /* the expected one is in lower case, or cannot match */

        if (expected >= 'A' && expected <= 'F') {
            return 0;
        }

        return got == expected
               || (expected >= 'a' && expected <= 'f'
                   && got + 0x20 == expected);

    case VAANI_SIGNATURE_BASE64_ANY:

        if (expected == '+' || expected == '/') {
            return got == expected || got == (expected == '+' ? '-' : '_');
        }

        return got == expected && expected != '-' && expected != '_';

    default:
        return got == expected;
    }
}


static void
fuzz_number(const vaani_str_t *text)
{
    int        rc;
    char      *end, copy[32];
    size_t     n;
    int64_t    seconds;
    unsigned   digits;
    long long  number;

    digits = (text->len > 0 && text->len <= 15);

    for (n = 0; digits && n < text->len; n++) {
        digits = (strchr("0123456789", text->data[n]) != NULL
                  && text->data[n] != '\0');
    }

    seconds = -1;

    rc = vaani_timestamp_parse(text, &seconds);

    vaani_fuzz_check(rc == (digits ? VAANI_OK : VAANI_ERROR));

    if (rc == VAANI_OK) {
        memcpy(copy, text->data, text->len);
        copy[text->len] = '\0';

        number = strtoll(copy, &end, 10);

        if (number > 100000000000LL) {
            number /= 1000;
        }

        vaani_fuzz_check(seconds == number && *end == '\0');
    }
}


static void
fuzz_token(const vaani_str_t *secret, const vaani_str_t *value)
{
    vaani_token_t  token;

    if (secret->len > VAANI_TOKEN_MAX_LEN) {
        return;
    }

    memset(&token, 0, sizeof(vaani_token_t));

    token.len = secret->len;

    if (secret->len) {
        memcpy(token.data, secret->data, secret->len);
    }

    vaani_fuzz_check(vaani_token_equal(&token, value)
                     == vaani_str_eq(secret, value));
}
