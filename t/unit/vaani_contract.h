
/*
 * The documented events, written a second time from the documentation and not
 * from the table of the core: the contents of bodies and the results, in
 * strict and in lenient mode.
 */


#ifndef _VAANI_CONTRACT_H_INCLUDED_
#define _VAANI_CONTRACT_H_INCLUDED_


#include <ctype.h>
#include <string.h>
#include <time.h>

#include "vaani_event.h"
#include "vaani_reference.h"


/* the error's reason, as in $vaani_reason */

#define reason_of(error)                                                      \
    ((const char *) vaani_reason_word((error)->reason)->data)


#define VAANI_CONTRACT_FIELDS  15
#define VAANI_CONTRACT_NOTES   20
#define VAANI_CONTRACT_TURNS   16384


typedef enum {
    VAANI_CONTRACT_STRING = 0,
    VAANI_CONTRACT_TRANSCRIPT,      /* a string, or turns */
    VAANI_CONTRACT_STATUS,          /* a fixed string */
    VAANI_CONTRACT_ANY_STATUS,
    VAANI_CONTRACT_OBJECT,
    VAANI_CONTRACT_SECONDS,
    VAANI_CONTRACT_DURATION,        /* in seconds or in milliseconds */
    VAANI_CONTRACT_TIME,
    VAANI_CONTRACT_NUMBER,
    VAANI_CONTRACT_FROM,
    VAANI_CONTRACT_REASON,
    VAANI_CONTRACT_CALL_TYPE
} vaani_contract_kind_e;


typedef struct {
    const char              *name;
    vaani_contract_kind_e    kind;
    unsigned                 required;
    const char              *hash_field;    /* NULL: not kept under a name */
} vaani_contract_field_t;


typedef struct {
    const char              *name;
    const char              *status;
    const char              *outcome;
    const char              *transfer;
    unsigned                 outbound;
    unsigned                 postprocessed;
    unsigned                 place;         /* in the course of a call */

    vaani_contract_field_t   fields[VAANI_CONTRACT_FIELDS + 1];

    const char              *example;       /* the vendor's */
} vaani_contract_event_t;


static const vaani_contract_event_t  vaani_contract[] = {

    { "call_started", "started", "", "", 0, 0, 1,
      { { "status", VAANI_CONTRACT_ANY_STATUS, 0, NULL },
        { "phone_number", VAANI_CONTRACT_NUMBER, 0, NULL } },
      "{\n"
      "\"event\": \"call_started\",\n"
      "\"room_name\": \"room_123abc\",\n"
      "\"status\": \"dialing\",\n"
      "\"phone_number\": \"+1234567890\"\n"
      "}" },

    { "call_ringing", "ringing", "", "", 1, 0, 2,
      { { "status", VAANI_CONTRACT_STATUS, 0, NULL } },
      "{\n"
      "\"event\": \"call_ringing\",\n"
      "\"room_name\": \"room_123abc\",\n"
      "\"status\": \"ringing\"\n"
      "}" },

    { "user_picked_up_at", "active", "", "", 0, 0, 3,
      { { "status", VAANI_CONTRACT_STATUS, 0, NULL } },
      "{\n"
      "\"event\": \"user_picked_up_at\",\n"
      "\"room_name\": \"room_123abc\",\n"
      "\"status\": \"active\"\n"
      "}" },

    { "call_rejected", "rejected", "rejected", "", 1, 0, 5,
      { { "status", VAANI_CONTRACT_STATUS, 0, NULL } },
      "{\n"
      "\"event\": \"call_rejected\",\n"
      "\"room_name\": \"room_123abc\",\n"
      "\"status\": \"rejected\"\n"
      "}" },

    { "call_no_answer", "no_answer", "no_answer", "", 1, 0, 5,
      { { "status", VAANI_CONTRACT_STATUS, 0, NULL } },
      "{\n"
      "\"event\": \"call_no_answer\",\n"
      "\"room_name\": \"room_123abc\",\n"
      "\"status\": \"no_answer\"\n"
      "}" },

    { "call_failed", "failed", "failed", "", 1, 0, 5,
      { { "status", VAANI_CONTRACT_STATUS, 0, NULL },
        { "error", VAANI_CONTRACT_STRING, 0, "error" } },
      "{\n"
      "\"event\": \"call_failed\",\n"
      "\"room_name\": \"room_123abc\",\n"
      "\"status\": \"failed\",\n"
      "\"error\": \"SIP_404_NOT_FOUND\"\n"
      "}" },

    { "human_transfer_initiated", "active", "", "initiated", 0, 0, 4,
      { { "transfer_type", VAANI_CONTRACT_STRING, 1, "transfer_type" },
        { "phone_number", VAANI_CONTRACT_STRING, 1, "transfer_phone_number" }
      },
      "{\n"
      "\"event\": \"human_transfer_initiated\",\n"
      "\"room_name\": \"room_123abc\",\n"
      "\"transfer_type\": \"warm\",\n"
      "\"phone_number\": \"+919876543210\"\n"
      "}" },

    { "human_transfer_successful", "active", "", "successful", 0, 0, 4,
      { { "transfer_type", VAANI_CONTRACT_STRING, 1, "transfer_type" },
        { "phone_number", VAANI_CONTRACT_STRING, 1, "transfer_phone_number" },
        { "agent_identity", VAANI_CONTRACT_STRING, 0,
          "transfer_agent_identity" } },
      "{\n"
      "\"event\": \"human_transfer_successful\",\n"
      "\"room_name\": \"room_123abc\",\n"
      "\"transfer_type\": \"warm\",\n"
      "\"phone_number\": \"+919876543210\",\n"
      "\"agent_identity\": \"human_agent_1712485300\"\n"
      "}" },

    { "human_transfer_failed", "active", "", "failed", 0, 0, 4,
      { { "transfer_type", VAANI_CONTRACT_STRING, 1, "transfer_type" },
        { "phone_number", VAANI_CONTRACT_STRING, 1, "transfer_phone_number" },
        { "reason", VAANI_CONTRACT_STRING, 0, "transfer_reason" },
        { "sip_status", VAANI_CONTRACT_STRING, 0, "transfer_sip_status" } },
      "{\n"
      "\"event\": \"human_transfer_failed\",\n"
      "\"room_name\": \"room_123abc\",\n"
      "\"transfer_type\": \"warm\",\n"
      "\"phone_number\": \"+919876543210\",\n"
      "\"reason\": \"busy\",\n"
      "\"sip_status\": \"busy\"\n"
      "}" },

    { "call_ended", "ended", "completed", "", 0, 0, 6,
      { { "call_duration", VAANI_CONTRACT_SECONDS, 1, NULL },
        { "end_reason", VAANI_CONTRACT_REASON, 0, NULL } },
      "{\n"
      "\"event\": \"call_ended\",\n"
      "\"room_name\": \"room_123abc\",\n"
      "\"call_duration\": 42.5,\n"
      "\"end_reason\": \"AGENT_REQUESTED_DISCONNECT\"\n"
      "}" },

    { "call_postprocessing", "ended", "completed", "", 0, 1, 7,
      { { "call_duration", VAANI_CONTRACT_DURATION, 0, NULL },
        { "transcript", VAANI_CONTRACT_TRANSCRIPT, 0, "transcript" },
        { "summary", VAANI_CONTRACT_STRING, 0, "summary" },
        { "recording_url", VAANI_CONTRACT_STRING, 0, "recording_url" },
        { "entities", VAANI_CONTRACT_OBJECT, 0, "entities" },
        { "dispositions", VAANI_CONTRACT_OBJECT, 0, "dispositions" },
        { "end_reason", VAANI_CONTRACT_REASON, 0, NULL },
        { "phone_number", VAANI_CONTRACT_NUMBER, 0, NULL },
        { "from", VAANI_CONTRACT_FROM, 0, NULL },
        { "call_type", VAANI_CONTRACT_CALL_TYPE, 0, NULL },
        { "call_dialing_at", VAANI_CONTRACT_TIME, 0, "call_dialing_at" },
        { "call_ringing_at", VAANI_CONTRACT_TIME, 0, "call_ringing_at" },
        { "picked_up_at", VAANI_CONTRACT_TIME, 0, "picked_up_at" },
        { "call_started_at", VAANI_CONTRACT_TIME, 0, "call_started_at" },
        { "call_ended_at", VAANI_CONTRACT_TIME, 0, "call_ended_at" } },
      "{\n"
      "\"event\": \"call_postprocessing\",\n"
      "\"room_name\": \"room_123abc\",\n"
      "\"call_duration\": 42500,\n"
      "\"transcript\": \"User: Hello. Agent: Hi, how can I help you? ...\",\n"
      "\"summary\": \"Customer called to inquire about service availability "
      "in Mumbai.\",\n"
      "\"entities\": {\n"
      "\"location\": \"Mumbai\",\n"
      "\"intent\": \"service_inquiry\"\n"
      "},\n"
      "\"recording_url\": "
      "\"https://storage.vaani.ai/recordings/call_123.mp3\"\n"
      "}" }
};


#define VAANI_CONTRACT_EVENTS  vaani_test_nelems(vaani_contract)


static inline int
vaani_contract_str_is(const vaani_str_t *str, const char *text)
{
    vaani_str_t  other;

    other.data = (const u_char *) text;
    other.len = strlen(text);

    return vaani_str_eq(str, &other);
}


static inline const vaani_contract_event_t *
vaani_contract_find(const vaani_str_t *name)
{
    size_t  n;

    for (n = 0; n < VAANI_CONTRACT_EVENTS; n++) {
        if (vaani_contract_str_is(name, vaani_contract[n].name)) {
            return &vaani_contract[n];
        }
    }

    return NULL;
}


/*
 * Differences between an event and the table.
 */

typedef struct {
    vaani_note_e             kind;
    unsigned                 nested;
    vaani_str_t              name;
} vaani_contract_note_t;


/*
 * The expected result of a text: an error, or an event.
 */

typedef struct {
    vaani_test_arena_t             *arena;      /* of what is composed */
    unsigned                        strict;

    const char                     *reason;     /* of the error; NULL: none */
    const char                     *field;      /* "": the whole */
    unsigned                        nested;

    const vaani_contract_event_t   *event;      /* NULL: an unknown one */
    vaani_str_t                     name;       /* data NULL: not known */
    vaani_str_t                     name_json;
    vaani_str_t                     room;
    vaani_str_t                     room_json;
    unsigned                        inherited;

    vaani_str_t                     status;
    vaani_duration_t                duration;
    vaani_str_t                     number;
    vaani_str_t                     reason_text;
    vaani_str_t                     from;
    unsigned                        number_source;
    unsigned                        reason_source;
    vaani_direction_e               direction;
    unsigned                        direction_source;

    vaani_str_t                     values[VAANI_CONTRACT_FIELDS];
    uint64_t                        times[VAANI_CONTRACT_FIELDS];

    vaani_contract_note_t           notes[VAANI_CONTRACT_NOTES];
    size_t                          nnotes;
} vaani_contract_t;


/* the result for a field of another type */

#define VAANI_CONTRACT_FINE       0
#define VAANI_CONTRACT_CONVERTED  1
#define VAANI_CONTRACT_WRONG      2


static inline vaani_str_t
vaani_contract_str(const char *text)
{
    vaani_str_t  str;

    str.data = (const u_char *) text;
    str.len = strlen(text);

    return str;
}


/*
 * Whether valid UTF-8 has a character of Unicode's category Cc.
 */

static inline int
vaani_contract_has_control(const vaani_str_t *str)
{
    uint32_t       cp;
    vaani_ref_t    r;
    const u_char  *p;

    r.end = str->data + str->len;

    for (p = str->data; p < r.end; /* void */ ) {
        p = vaani_ref_char(&r, p, &cp);

        if (p == NULL || cp < 0x20 || (cp >= 0x7f && cp < 0xa0)) {
            return 1;
        }
    }

    return 0;
}


/*
 * Whether a word, in lower case, is a part of a text, in any case.
 */

static inline int
vaani_contract_has_word(const vaani_str_t *str, const char *word)
{
    int      found;
    char    *lower;
    size_t   n;

    lower = vaani_test_malloc(str->len + 1);

    for (n = 0; n < str->len; n++) {

        /* U+0000 must not end it */

        lower[n] = str->data[n] ? tolower(str->data[n]) : ' ';
    }

    lower[n] = '\0';

    found = (strstr(lower, word) != NULL);

    free(lower);

    return found;
}


/*
 * The n digits at *p, or -1 if there are fewer.
 */

static inline int
vaani_contract_digits(const char **p, int n)
{
    int  value;

    for (value = 0; n > 0; n--, (*p)++) {

        if (!isdigit((unsigned char) **p)) {
            return -1;
        }

        value = value * 10 + (**p - '0');
    }

    return value;
}


/*
 * A time of RFC 3339, or without an offset, from 1970 to 9999, as Unix time in
 * ms, by the calendar of the C library.  Returns 0 if it is not one.
 */

static inline int
vaani_contract_time(const vaani_str_t *str, uint64_t *ms)
{
    int          leap, thousandths, digits, sign, hours, minutes;
    char         text[128];
    time_t       seconds;
    struct tm    tm, again;
    const char  *p;

    memset(text, 0, sizeof(text));

    if (str->len >= sizeof(text) || memchr(str->data, '\0', str->len)) {

        /* the digits of a fraction may be as many as one likes */

        if (str->len < 20 || memchr(str->data, '\0', str->len)) {
            return 0;
        }

        for (digits = 20; (size_t) digits < str->len; digits++) {
            if (!isdigit(str->data[digits])) {
                break;
            }
        }

        if (digits < 24 || str->len - digits > 6) {
            return 0;
        }

        memcpy(text, str->data, 24);
        memcpy(text + 24, str->data + digits, str->len - digits);
        text[24 + str->len - digits] = '\0';

    } else {
        memcpy(text, str->data, str->len);
        text[str->len] = '\0';
    }

    memset(&tm, 0, sizeof(struct tm));

    p = text;

    tm.tm_year = vaani_contract_digits(&p, 4) - 1900;

    if (tm.tm_year < 70 || *p++ != '-') {
        return 0;
    }

    tm.tm_mon = vaani_contract_digits(&p, 2) - 1;

    if (tm.tm_mon < 0 || *p++ != '-') {
        return 0;
    }

    tm.tm_mday = vaani_contract_digits(&p, 2);

    if (*p != 'T' && *p != 't' && *p != ' ') {
        return 0;
    }

    p++;
    tm.tm_hour = vaani_contract_digits(&p, 2);

    if (tm.tm_hour < 0 || *p++ != ':') {
        return 0;
    }

    tm.tm_min = vaani_contract_digits(&p, 2);

    if (tm.tm_min < 0 || *p++ != ':') {
        return 0;
    }

    tm.tm_sec = vaani_contract_digits(&p, 2);

    if (tm.tm_sec < 0) {
        return 0;
    }

    /* the second after the last one of a minute */

    leap = (tm.tm_sec == 60);
    tm.tm_sec -= leap;

    thousandths = 0;

    if (*p == '.') {
        p++;

        if (!isdigit((unsigned char) *p)) {
            return 0;
        }

        for (digits = 0; isdigit((unsigned char) *p); digits++, p++) {
            thousandths += (*p - '0') * (digits == 0 ? 100 : digits == 1 ? 10
                                         : digits == 2 ? 1 : 0);
        }
    }

    sign = 0;
    hours = 0;
    minutes = 0;

    if (*p == 'Z' || *p == 'z') {
        p++;

    } else if (*p == '+' || *p == '-') {
        sign = (*p++ == '-') ? 1 : -1;

        hours = vaani_contract_digits(&p, 2);

        if (hours < 0 || *p++ != ':') {
            return 0;
        }

        minutes = vaani_contract_digits(&p, 2);

        if (minutes < 0 || hours > 23 || minutes > 59) {
            return 0;
        }
    }

    if (*p != '\0') {
        return 0;
    }

    /* what is not in the calendar comes back as another day or hour */

    again = tm;
    seconds = timegm(&again);

    if (again.tm_year != tm.tm_year || again.tm_mon != tm.tm_mon
        || again.tm_mday != tm.tm_mday || again.tm_hour != tm.tm_hour
        || again.tm_min != tm.tm_min || again.tm_sec != tm.tm_sec)
    {
        return 0;
    }

    seconds += leap + sign * (hours * 3600 + minutes * 60);

    if (seconds < 0) {
        return 0;
    }

    *ms = (uint64_t) seconds * 1000 + thousandths;

    return 1;
}


/*
 * The distance of a reading from the span, as the ratio of the greater one to
 * the smaller one; infinite for 0.
 */

typedef struct {
    unsigned __int128        above;
    unsigned __int128        below;
} vaani_contract_ratio_t;


static inline vaani_contract_ratio_t
vaani_contract_ratio(uint64_t reading, uint64_t span)
{
    vaani_contract_ratio_t  ratio;

    ratio.above = (reading > span) ? reading : span;
    ratio.below = (reading > span) ? span : reading;

    return ratio;
}


/*
 * Chooses between the two readings of call_postprocessing's duration.
 */

static inline void
vaani_contract_settle(vaani_duration_t *d)
{
    double                  limit;
    unsigned __int128       one, other;
    vaani_contract_ratio_t  ms, seconds;

    if (d->span == 0) {
        d->kind = VAANI_DURATION_OPEN;
        return;
    }

    limit = d->span * 1.1 + 5000;

    d->kind = VAANI_DURATION_KNOWN;

    if (d->ms > limit && d->if_seconds > limit) {
        d->kind = VAANI_DURATION_NONE;
        return;
    }

    if (d->if_seconds > limit) {
        return;
    }

    if (d->ms > limit) {
        d->ms = d->if_seconds;
        return;
    }

    ms = vaani_contract_ratio(d->ms, d->span);
    seconds = vaani_contract_ratio(d->if_seconds, d->span);

    one = ms.above * seconds.below;
    other = seconds.above * ms.below;

    /* 1/0 is farther than anything else, and as far as 1/0 */

    if (ms.below == 0 || seconds.below == 0) {
        one = (ms.below == 0);
        other = (seconds.below == 0);
    }

    if (one > other || (one == other && d->ms < 1000)) {
        d->ms = d->if_seconds;
    }
}


/*
 * The lines of an array of turns.  Returns 0 if there are none.
 */

static inline const vaani_ref_member_t *
vaani_contract_turn(const vaani_ref_t *turn, const char **names)
{
    const vaani_ref_member_t  *m;

    for ( /* void */ ; *names; names++) {
        m = vaani_ref_find(&turn->top, *names);

        if (m && (m->type == VAANI_JSON_NUMBER
                  || (m->type == VAANI_JSON_STRING && m->string.len)))
        {
            return m;
        }
    }

    return NULL;
}


static inline void
vaani_contract_put(vaani_str_t *lines, const char *before,
    const vaani_ref_member_t *m, int upper, const char *after)
{
    char               *p;
    size_t              n;
    const vaani_str_t  *text;

    p = (char *) lines->data + lines->len;
    text = (m->type == VAANI_JSON_STRING) ? &m->string : &m->raw;

    p = stpcpy(p, before);

    for (n = 0; n < text->len; n++) {
        *p = text->data[n];

        if (*p == '\n' || *p == '\r') {
            *p = ' ';
        }

        if (upper && *p >= 'a' && *p <= 'z') {
            *p = toupper(*p);
        }

        p++;
    }

    p = stpcpy(p, after);

    lines->len = p - (char *) lines->data;
}


static inline int
vaani_contract_transcript(const vaani_str_t *raw, vaani_test_arena_t *arena,
    vaani_str_t *lines)
{
    size_t                     nturns;
    vaani_ref_t                whole, turn;
    const u_char              *p;
    vaani_ref_member_t         element;
    const vaani_ref_member_t  *role, *text, *time;

    static const char  *roles[] = { "role", "speaker", NULL };
    static const char  *texts[] = { "text", "content", "message", NULL };
    static const char  *times[] = { "time", "timestamp", NULL };

    lines->data = vaani_test_own(arena, vaani_test_malloc(raw->len * 2 + 16));
    lines->len = 0;

    (void) vaani_ref_read(&whole, raw->data, raw->len, NULL, 0);

    nturns = 0;

    for (p = vaani_ref_space(&whole, raw->data + 1);
         *p != ']';
         p = vaani_ref_space(&whole, p + (*p == ',')))
    {
        if (nturns++ == VAANI_CONTRACT_TURNS) {
            vaani_ref_free(&whole);
            lines->len = 0;
            return 0;
        }

        /* the members decoded from the whole are not needed any more */

        whole.last = whole.decoded;

        p = vaani_ref_value(&whole, p, 1, &element);
        p = vaani_ref_space(&whole, p);

        if (!vaani_ref_read(&turn, element.raw.data, element.raw.len, NULL, 0))
        {
            vaani_ref_free(&turn);
            continue;
        }

        role = vaani_contract_turn(&turn, roles);
        text = vaani_contract_turn(&turn, texts);
        time = vaani_contract_turn(&turn, times);

        if (turn.value.type == VAANI_JSON_STRING && turn.value.string.len) {
            text = &turn.value;
        }

        if (text) {

            if (lines->len) {
                ((char *) lines->data)[lines->len++] = '\n';
            }

            if (time) {
                vaani_contract_put(lines, "[", time, 0, "] ");
            }

            if (role) {
                vaani_contract_put(lines, "", role, 1, ": ");
            }

            vaani_contract_put(lines, "", text, 0, "");
        }

        vaani_ref_free(&turn);
    }

    vaani_ref_free(&whole);

    return lines->len > 0;
}


static inline void
vaani_contract_note(vaani_contract_t *c, vaani_note_e kind,
    const vaani_str_t *name, unsigned nested)
{
    vaani_contract_note_t  *note;

    if (c->nnotes == VAANI_CONTRACT_NOTES) {
        return;
    }

    note = &c->notes[c->nnotes++];

    note->kind = kind;
    note->name = *name;
    note->nested = nested;
}


static inline int
vaani_contract_refuse(vaani_contract_t *c, const char *field, unsigned nested,
    const char *reason)
{
    c->field = field;
    c->nested = nested;
    c->reason = reason;

    return 0;
}


/*
 * "event" is at the top, or in the envelope.
 */

static inline int
vaani_contract_name(vaani_contract_t *c, const vaani_ref_t *r,
    const vaani_ref_member_t *outer)
{
    const vaani_ref_member_t  *m;

    m = vaani_ref_find(&r->top, "event");

    if (m == NULL || m->type == VAANI_JSON_NULL) {
        m = outer;
        c->inherited = 1;
    }

    if (m == NULL || m->type == VAANI_JSON_NULL) {
        return vaani_contract_refuse(c, "event", 0, "missing_field");
    }

    if (m->type != VAANI_JSON_STRING) {
        return vaani_contract_refuse(c, "event", 0, "mistyped_field");
    }

    if (m->string.len > 256 || m->lone) {
        return vaani_contract_refuse(c, "event", 0, "invalid_event");
    }

    c->name = m->string;
    c->name_json = m->raw;
    c->event = vaani_contract_find(&m->string);

    return 1;
}


/*
 * The error in a name of a call; NULL if it is usable.
 */

static inline const char *
vaani_contract_room_wrong(vaani_contract_t *c, const vaani_ref_member_t *m)
{
    if (m->type == VAANI_JSON_NUMBER && !c->strict && m->raw.len <= 256) {
        return NULL;
    }

    if (m->type != VAANI_JSON_STRING) {
        return "mistyped_field";
    }

    if (m->string.len < 1 || m->string.len > 256 || m->lone
        || vaani_contract_has_control(&m->string))
    {
        return "invalid_room_name";
    }

    return NULL;
}


static inline int
vaani_contract_room(vaani_contract_t *c, const vaani_ref_t *r)
{
    int                        n, failed, nested;
    char                      *quoted;
    const char                *wrong;
    vaani_str_t                name, key;
    const vaani_ref_member_t  *m;

    static const char  *keys[] = { "room_name", "call_id" };

    failed = 0;

    for (n = 0; n < 4; n++) {
        nested = n % 2;

        m = vaani_ref_find(nested ? &r->inner : &r->top, keys[n / 2]);

        if (m == NULL || m->type == VAANI_JSON_NULL) {
            continue;
        }

        key = vaani_contract_str(keys[n / 2]);

        if (m->type == VAANI_JSON_STRING && m->string.len == 0) {

            /* reported only if there is no better error */

            if (failed == 0) {
                failed = 1;
                c->field = keys[n / 2];
                c->nested = nested;
                c->reason = "invalid_room_name";
            }

            continue;
        }

        wrong = vaani_contract_room_wrong(c, m);

        if (wrong) {
            vaani_contract_note(c, VAANI_NOTE_IGNORED, &key, nested);

            if (failed < 2) {
                failed = 2;
                c->field = keys[n / 2];
                c->nested = nested;
                c->reason = wrong;
            }

            /* strict mode takes the first name or none */

            if (c->strict && c->room.data == NULL) {
                return 0;
            }

            continue;
        }

        name = (m->type == VAANI_JSON_NUMBER) ? m->raw : m->string;

        if (m->type == VAANI_JSON_NUMBER) {
            vaani_contract_note(c, VAANI_NOTE_CONVERTED, &key, nested);
        }

        if (c->room.data == NULL) {
            c->room = name;
            c->room_json = m->raw;

            if (m->type == VAANI_JSON_NUMBER) {
                quoted = vaani_test_own(c->arena,
                                        vaani_test_malloc(name.len + 3));
                c->room_json.len = sprintf(quoted, "\"%.*s\"", (int) name.len,
                                           name.data);
                c->room_json.data = (u_char *) quoted;
            }

        } else if (!vaani_str_eq(&c->room, &name)) {
            vaani_contract_note(c, VAANI_NOTE_CALL, &key, nested);
        }
    }

    if (c->room.data || (c->event == NULL && (!c->strict || !failed))) {
        c->reason = NULL;
        return 1;
    }

    return failed ? 0 : vaani_contract_refuse(c, "room_name", 0,
                                              "missing_field");
}


/*
 * A value that must be text.  Returns the result.
 */

static inline int
vaani_contract_text(vaani_contract_t *c, const vaani_contract_field_t *field,
    const vaani_ref_member_t *m, vaani_str_t *text)
{
    if (m->type == VAANI_JSON_STRING) {
        *text = m->string;
        return VAANI_CONTRACT_FINE;
    }

    if (c->strict) {
        return VAANI_CONTRACT_WRONG;
    }

    if (m->type == VAANI_JSON_NUMBER) {
        *text = m->raw;
        return VAANI_CONTRACT_CONVERTED;
    }

    if (m->type == VAANI_JSON_ARRAY && field->kind == VAANI_CONTRACT_TRANSCRIPT
        && vaani_contract_transcript(&m->raw, c->arena, text))
    {
        return VAANI_CONTRACT_CONVERTED;
    }

    return VAANI_CONTRACT_WRONG;
}


static inline int
vaani_contract_number(vaani_contract_t *c, const vaani_contract_field_t *field,
    const vaani_ref_member_t *m)
{
    int          made, good;
    uint64_t     ms, seconds;
    vaani_ref_t  inside;
    vaani_str_t  raw;

    raw = m->raw;
    good = (m->type == VAANI_JSON_NUMBER);
    made = VAANI_CONTRACT_FINE;

    if (m->type == VAANI_JSON_STRING && !c->strict) {
        good = vaani_ref_read(&inside, m->string.data, m->string.len, NULL, 0)
               && inside.value.type == VAANI_JSON_NUMBER;
        raw = inside.value.raw;
        made = VAANI_CONTRACT_CONVERTED;
        vaani_ref_free(&inside);
    }

    if (!good
        || vaani_ref_integer(&raw, 3, &seconds) != NULL
        || vaani_ref_integer(&raw, 0, &ms) != NULL)
    {
        return VAANI_CONTRACT_WRONG;
    }

    c->duration.if_seconds = seconds;

    if (field->kind == VAANI_CONTRACT_SECONDS) {
        c->duration.kind = VAANI_DURATION_ENDED;
        c->duration.ms = seconds;

    } else {
        c->duration.kind = VAANI_DURATION_OPEN;
        c->duration.ms = ms;
    }

    return made;
}


static inline int
vaani_contract_object(vaani_contract_t *c, const vaani_ref_member_t *m,
    vaani_str_t *value)
{
    size_t  n;

    if (m->type == VAANI_JSON_OBJECT) {
        *value = m->raw;
        return VAANI_CONTRACT_FINE;
    }

    if (c->strict) {
        return VAANI_CONTRACT_WRONG;
    }

    /* [] and "" are ways to say that there is none */

    if (m->type == VAANI_JSON_ARRAY) {
        for (n = 1; strchr(" \t\r\n", m->raw.data[n]); n++) { /* void */ }

        return (m->raw.data[n] == ']') ? VAANI_CONTRACT_CONVERTED
                                       : VAANI_CONTRACT_WRONG;
    }

    return (m->type == VAANI_JSON_STRING && m->string.len == 0)
           ? VAANI_CONTRACT_CONVERTED : VAANI_CONTRACT_WRONG;
}


/*
 * The source of a number or a reason: none, call_postprocessing, or the event
 * of the call itself.
 */

static inline unsigned
vaani_contract_source(vaani_contract_t *c, const vaani_str_t *text)
{
    return (text->len == 0) ? 1 : c->event->postprocessed ? 2 : 3;
}


/*
 * The result of field n.
 */

static inline int
vaani_contract_field(vaani_contract_t *c, size_t n,
    const vaani_ref_member_t *m)
{
    int                            made;
    char                          *digits;
    vaani_str_t                    text;
    const vaani_contract_field_t  *field;

    field = &c->event->fields[n];

    switch (field->kind) {

    case VAANI_CONTRACT_SECONDS:
    case VAANI_CONTRACT_DURATION:
        return vaani_contract_number(c, field, m);

    case VAANI_CONTRACT_OBJECT:
        return vaani_contract_object(c, m, &c->values[n]);

    default:
        break;
    }

    made = vaani_contract_text(c, field, m, &text);

    if (made == VAANI_CONTRACT_WRONG) {
        return made;
    }

    switch (field->kind) {

    case VAANI_CONTRACT_STATUS:
        return vaani_contract_str_is(&text, c->event->status)
               ? made : VAANI_CONTRACT_WRONG;

    case VAANI_CONTRACT_ANY_STATUS:

        if (text.len) {
            c->status = text;
        }

        return made;

    case VAANI_CONTRACT_TIME:

        if (!vaani_contract_time(&text, &c->times[n])) {
            return VAANI_CONTRACT_WRONG;
        }

        digits = vaani_test_own(c->arena, vaani_test_malloc(32));
        c->values[n].len = sprintf(digits, "%llu",
                                   (unsigned long long) c->times[n]);
        c->values[n].data = (u_char *) digits;

        return made;

    case VAANI_CONTRACT_NUMBER:
        c->number = text;
        c->number_source = vaani_contract_source(c, &text);
        return made;

    case VAANI_CONTRACT_REASON:
        c->reason_text = text;
        c->reason_source = vaani_contract_source(c, &text);
        return made;

    case VAANI_CONTRACT_FROM:
        c->from = text;
        return made;

    case VAANI_CONTRACT_CALL_TYPE:

        if (c->direction_source < 2) {
            c->direction = vaani_contract_has_word(&text, "inbound")
                           ? VAANI_DIRECTION_INBOUND
                           : vaani_contract_has_word(&text, "outbound")
                           ? VAANI_DIRECTION_OUTBOUND
                           : vaani_contract_has_word(&text, "web")
                           ? VAANI_DIRECTION_WEB : c->direction;
            c->direction_source = c->direction ? 2 : 0;
        }

        return made;

    default:
        c->values[n] = text;
        return made;
    }
}


static inline uint64_t
vaani_contract_sent(const vaani_contract_t *c, const char *name)
{
    size_t  n;

    for (n = 0; c->event->fields[n].name != NULL; n++) {
        if (strcmp(c->event->fields[n].name, name) == 0) {
            return c->times[n];
        }
    }

    return 0;
}


/*
 * The results that need several fields of call_postprocessing.
 */

static inline void
vaani_contract_finish(vaani_contract_t *c)
{
    uint64_t  begin, end;

    if (c->number_source < 2 && c->from.len
        && (c->direction == VAANI_DIRECTION_INBOUND
            || c->direction == VAANI_DIRECTION_WEB))
    {
        c->number = c->from;
        c->number_source = 2;
    }

    begin = vaani_contract_sent(c, "picked_up_at");

    if (begin == 0) {
        begin = vaani_contract_sent(c, "call_started_at");
    }

    end = vaani_contract_sent(c, "call_ended_at");

    if (begin && end > begin) {
        c->duration.span = end - begin;
    }

    if (c->duration.kind == VAANI_DURATION_OPEN) {
        vaani_contract_settle(&c->duration);
    }
}


/*
 * Members that were not noted before.
 */

static inline void
vaani_contract_news(vaani_contract_t *c, const vaani_ref_list_t *list,
    unsigned nested)
{
    size_t                     n, k;
    const vaani_ref_member_t  *m;

    static const char  *common[] = {
        "event", "room_name", "call_id", "timestamp"
    };

    for (n = 0; n < list->nmembers; n++) {
        m = &list->members[n];

        if (m->type == VAANI_JSON_NULL
            || (!nested && m->type == VAANI_JSON_OBJECT
                && vaani_contract_str_is(&m->key, "data")))
        {
            continue;
        }

        for (k = 0; k < vaani_test_nelems(common); k++) {
            if (vaani_contract_str_is(&m->key, common[k])) {
                break;
            }
        }

        if (k < vaani_test_nelems(common)) {
            continue;
        }

        for (k = 0; c->event->fields[k].name; k++) {
            if (vaani_contract_str_is(&m->key, c->event->fields[k].name)) {
                break;
            }
        }

        if (c->event->fields[k].name == NULL) {
            vaani_contract_note(c, VAANI_NOTE_NEW, &m->key, nested);
        }
    }
}


/*
 * Reads what is JSON: r is a text with the members of its "data", outer is the
 * name that its envelope has, or NULL.  Returns 1 if it is an event, 0 if it
 * is to be refused.  *c points into both.
 */

static inline int
vaani_contract_read(vaani_contract_t *c, const vaani_ref_t *r,
    const vaani_ref_member_t *outer, unsigned strict,
    vaani_test_arena_t *arena)
{
    int                            made;
    size_t                         n;
    unsigned                       nested;
    vaani_str_t                    name;
    const vaani_ref_member_t      *m;
    const vaani_contract_field_t  *field;

    memset(c, 0, sizeof(vaani_contract_t));

    c->arena = arena;
    c->strict = strict;

    if (r->value.type != VAANI_JSON_OBJECT) {
        return vaani_contract_refuse(c, "", 0, "not_an_object");
    }

    if (!vaani_contract_name(c, r, outer) || !vaani_contract_room(c, r)) {
        return 0;
    }

    if (c->room.data) {
        name = c->room;
        c->direction_source = 3;

        if (name.len >= 8 && memcmp(name.data, "inbound-", 8) == 0) {
            c->direction = VAANI_DIRECTION_INBOUND;

        } else if (name.len >= 9 && memcmp(name.data, "outbound-", 9) == 0) {
            c->direction = VAANI_DIRECTION_OUTBOUND;

        } else if (name.len >= 7 && memcmp(name.data, "webrtc-", 7) == 0) {
            c->direction = VAANI_DIRECTION_WEB;

        } else {
            c->direction_source = 0;
        }
    }

    if (c->event == NULL) {
        return 1;
    }

    c->status = vaani_contract_str(c->event->status);

    for (n = 0; n < VAANI_CONTRACT_FIELDS; n++) {
        field = &c->event->fields[n];

        if (field->name == NULL) {
            break;
        }

        nested = 1;
        m = vaani_ref_find(&r->inner, field->name);

        if (m == NULL || m->type == VAANI_JSON_NULL) {
            nested = 0;
            m = vaani_ref_find(&r->top, field->name);
        }

        if (m == NULL || m->type == VAANI_JSON_NULL) {

            if (field->required && strict) {
                return vaani_contract_refuse(c, field->name, 0,
                                             "missing_field");
            }

            continue;
        }

        made = vaani_contract_field(c, n, m);

        if (made == VAANI_CONTRACT_WRONG && strict) {
            return vaani_contract_refuse(c, field->name, nested,
                                         field->kind == VAANI_CONTRACT_STATUS
                                         && m->type == VAANI_JSON_STRING
                                         ? "contradictory_status"
                                         : "mistyped_field");
        }

        if (made != VAANI_CONTRACT_FINE) {
            name = vaani_contract_str(field->name);

            vaani_contract_note(c, made == VAANI_CONTRACT_WRONG
                                   ? VAANI_NOTE_IGNORED : VAANI_NOTE_CONVERTED,
                                &name, nested);
        }
    }

    /* an event that only outbound calls have, or one that dials */

    if (c->direction_source == 0
        && (c->event->outbound
            || (strcmp(c->event->name, "call_started") == 0
                && vaani_contract_str_is(&c->status, "dialing"))))
    {
        c->direction = VAANI_DIRECTION_OUTBOUND;
        c->direction_source = 1;
    }

    if (c->event->postprocessed) {
        vaani_contract_finish(c);
    }

    vaani_contract_news(c, &r->top, 0);
    vaani_contract_news(c, &r->inner, 1);

    return 1;
}


static inline int
vaani_contract_same(const vaani_str_t *one, const vaani_str_t *other)
{
    if (one->data == NULL || other->data == NULL) {
        return one->data == other->data;
    }

    return vaani_str_eq(one, other);
}


/*
 * Whether an error is the expected one.  Returns NULL, or the difference.
 */

static inline const char *
vaani_contract_error_differs(const vaani_contract_t *c,
    const vaani_event_t *event, const vaani_event_error_t *error)
{
    if (error->kind != VAANI_EVENT_INVALID || error->offset != 0) {
        return "the kind";
    }

    if (strcmp(reason_of(error), c->reason) != 0) {
        return "the reason";
    }

    if (!vaani_contract_str_is(&error->field, c->field)
        || error->nested != c->nested)
    {
        return "the field";
    }

    /* the parts of the event that are known by now are valid */

    if (!vaani_contract_same(&event->name, &c->name)) {
        return "the name";
    }

    return vaani_contract_same(&event->room, &c->room) ? NULL : "the room";
}


/*
 * Whether an event is the expected one.  Returns NULL, or the difference.
 */

static inline const char *
vaani_contract_differs(const vaani_contract_t *c, const vaani_event_t *event)
{
    size_t  n;

    if (!vaani_contract_same(&event->name, &c->name)
        || !vaani_contract_same(&event->name_json, &c->name_json))
    {
        return "the name";
    }

    if (!vaani_contract_same(&event->room, &c->room)
        || !vaani_contract_same(&event->room_json, &c->room_json))
    {
        return "the room";
    }

    if (event->inherited != c->inherited || event->test || event->repaired) {
        return "a flag";
    }

    if (event->direction != c->direction
        || event->direction_source != c->direction_source)
    {
        return "the direction";
    }

    if ((event->type != NULL) != (c->event != NULL)
        || (c->event
            && !vaani_contract_str_is(&event->type->name, c->event->name)))
    {
        return "the type";
    }

    if (!vaani_contract_same(&event->status, &c->status)) {
        return "the status";
    }

    if (event->duration.kind != c->duration.kind
        || event->duration.span != c->duration.span
        || (c->duration.kind != VAANI_DURATION_NONE
            && event->duration.ms != c->duration.ms)
        || (c->duration.kind == VAANI_DURATION_OPEN
            && event->duration.if_seconds != c->duration.if_seconds))
    {
        return "the duration";
    }

    if (event->number_source != c->number_source
        || !vaani_contract_same(&event->number, &c->number))
    {
        return "the phone number";
    }

    if (event->reason_source != c->reason_source
        || !vaani_contract_same(&event->reason, &c->reason_text))
    {
        return "the reason";
    }

    for (n = 0; n < VAANI_EVENT_MAX_FIELDS; n++) {
        if (!vaani_contract_same(&event->values[n], &c->values[n])) {
            return c->event ? c->event->fields[n].name : "a value";
        }
    }

    if (event->nnotes != c->nnotes) {
        return "the number of notes";
    }

    for (n = 0; n < c->nnotes; n++) {
        if (event->notes[n].kind != c->notes[n].kind
            || event->notes[n].nested != c->notes[n].nested
            || !vaani_str_eq(&event->notes[n].name, &c->notes[n].name))
        {
            return "a note";
        }
    }

    return NULL;
}


#endif /* _VAANI_CONTRACT_H_INCLUDED_ */
