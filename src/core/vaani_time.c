
#include <string.h>

#include "vaani_time.h"


#define VAANI_DAY              86400

/* a call_postprocessing duration below it is in seconds, ms */

#define VAANI_SHORTEST_CALL    1000


static int vaani_time_digits(const u_char **p, const u_char *end, unsigned n,
    unsigned *value);
static int vaani_time_char(const u_char **p, const u_char *end,
    const char *chars);
static int vaani_time_offset(const u_char **p, const u_char *end,
    int64_t *seconds);
static int64_t vaani_time_days(unsigned year, unsigned month, unsigned day);
static unsigned vaani_time_month(unsigned year, unsigned month);


int
vaani_time_parse(const vaani_str_t *text, uint64_t *ms)
{
    int64_t        seconds, offset;
    unsigned       year, month, day, hour, minute, second, fraction, n;
    const u_char  *p, *end;

    p = text->data;
    end = p + text->len;

    if (vaani_time_digits(&p, end, 4, &year) != VAANI_OK
        || vaani_time_char(&p, end, "-") != VAANI_OK
        || vaani_time_digits(&p, end, 2, &month) != VAANI_OK
        || vaani_time_char(&p, end, "-") != VAANI_OK
        || vaani_time_digits(&p, end, 2, &day) != VAANI_OK
        || vaani_time_char(&p, end, "Tt ") != VAANI_OK
        || vaani_time_digits(&p, end, 2, &hour) != VAANI_OK
        || vaani_time_char(&p, end, ":") != VAANI_OK
        || vaani_time_digits(&p, end, 2, &minute) != VAANI_OK
        || vaani_time_char(&p, end, ":") != VAANI_OK
        || vaani_time_digits(&p, end, 2, &second) != VAANI_OK)
    {
        return VAANI_ERROR;
    }

    /* 60 is a leap second */

    if (year < 1970 || month < 1 || month > 12
        || day < 1 || day > vaani_time_month(year, month)
        || hour > 23 || minute > 59 || second > 60)
    {
        return VAANI_ERROR;
    }

    fraction = 0;

    if (vaani_time_char(&p, end, ".") == VAANI_OK) {

        for (n = 0; p < end && *p >= '0' && *p <= '9'; n++, p++) {
            if (n < 3) {
                fraction = fraction * 10 + (*p - '0');
            }
        }

        if (n == 0) {
            return VAANI_ERROR;
        }

        for ( /* void */ ; n < 3; n++) {
            fraction *= 10;
        }
    }

    if (vaani_time_offset(&p, end, &offset) != VAANI_OK || p != end) {
        return VAANI_ERROR;
    }

    seconds = vaani_time_days(year, month, day) * VAANI_DAY
              + hour * 3600 + minute * 60 + second - offset;

    if (seconds < 0) {
        return VAANI_ERROR;
    }

    *ms = (uint64_t) seconds * 1000 + fraction;

    return VAANI_OK;
}


static int
vaani_time_digits(const u_char **p, const u_char *end, unsigned n,
    unsigned *value)
{
    *value = 0;

    for ( /* void */ ; n > 0; n--, (*p)++) {

        if (*p == end || **p < '0' || **p > '9') {
            return VAANI_ERROR;
        }

        *value = *value * 10 + (**p - '0');
    }

    return VAANI_OK;
}


static int
vaani_time_char(const u_char **p, const u_char *end, const char *chars)
{
    if (*p == end || **p == 0 || strchr(chars, **p) == NULL) {
        return VAANI_ERROR;
    }

    (*p)++;

    return VAANI_OK;
}


static int
vaani_time_offset(const u_char **p, const u_char *end, int64_t *seconds)
{
    int       sign;
    unsigned  hours, minutes;

    *seconds = 0;

    if (*p == end || vaani_time_char(p, end, "Zz") == VAANI_OK) {
        return VAANI_OK;
    }

    sign = (**p == '-') ? -1 : 1;

    if (vaani_time_char(p, end, "+-") != VAANI_OK
        || vaani_time_digits(p, end, 2, &hours) != VAANI_OK
        || vaani_time_char(p, end, ":") != VAANI_OK
        || vaani_time_digits(p, end, 2, &minutes) != VAANI_OK
        || hours > 23 || minutes > 59)
    {
        return VAANI_ERROR;
    }

    *seconds = sign * (int64_t) (hours * 3600 + minutes * 60);

    return VAANI_OK;
}


/*
 * Days since 1970 in the Gregorian calendar.
 */

static int64_t
vaani_time_days(unsigned year, unsigned month, unsigned day)
{
    int64_t   days;
    unsigned  y, m;

    y = year - 1;
    days = 365 * (int64_t) y + y / 4 - y / 100 + y / 400;

    for (m = 1; m < month; m++) {
        days += vaani_time_month(year, m);
    }

    /* the days before 1970-01-01 */

    return days + day - 1 - 719162;
}


static unsigned
vaani_time_month(unsigned year, unsigned month)
{
    static const unsigned  days[] = {
        31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31
    };

    if (month == 2 && year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)) {
        return 29;
    }

    return days[month - 1];
}


void
vaani_duration_settle(vaani_duration_t *duration)
{
    double    nearer;
    unsigned  ms, seconds;
    uint64_t  limit;

    if (duration->span == 0) {
        duration->kind = VAANI_DURATION_OPEN;
        return;
    }

    limit = duration->span + duration->span / 10 + 5000;

    ms = (duration->ms <= limit);
    seconds = (duration->if_seconds <= limit);

    duration->kind = VAANI_DURATION_KNOWN;

    if (!ms && !seconds) {
        duration->kind = VAANI_DURATION_NONE;
        return;
    }

    if (ms && seconds) {

        /* the ratios are equal if the span is the geometric mean */

        nearer = (double) duration->span * (double) duration->span
                 - (double) duration->ms * (double) duration->if_seconds;

        seconds = (nearer > 0
                   || (nearer == 0 && duration->ms < VAANI_SHORTEST_CALL));
    }

    if (seconds) {
        duration->ms = duration->if_seconds;
    }
}
