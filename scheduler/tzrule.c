#include "scheduler/tzrule.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "scheduler/calendar.h"

#define LETTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
#define MAX_OFFSET_HOURS 24
#define MAX_CHANGE_HOURS 167 /* RFC 9636 §3.3.2 */

/* The readers move `*at` behind what they read, and return false where the text is something else.
 */

static bool read_char(const char **at, char wanted)
{
    if (**at != wanted)
        return false;
    (*at)++;
    return true;
}

/* At least three letters, or in angle brackets letters, digits and signs. */
static bool read_name(const char **at)
{
    bool quoted = read_char(at, '<');
    size_t length = strspn(*at, quoted ? LETTERS "0123456789+-" : LETTERS);
    *at += length;
    return length >= 3 && (!quoted || read_char(at, '>'));
}

static bool read_number(const char **at, int low, int high, int *number)
{
    size_t digits = strspn(*at, "0123456789");
    if (digits == 0 || digits > 3)
        return false;
    *number = (int)strtol(*at, NULL, 10);
    *at += digits;
    return *number >= low && *number <= high;
}

/* [+-]hh[:mm[:ss]] */
static bool read_time(const char **at, int max_hours, int32_t *seconds)
{
    bool negative = read_char(at, '-');
    if (!negative)
        read_char(at, '+');
    int hours;
    int minutes = 0;
    int rest = 0;
    if (!read_number(at, 0, max_hours, &hours))
        return false;
    if (read_char(at, ':') && !read_number(at, 0, 59, &minutes))
        return false;
    if (read_char(at, ':') && !read_number(at, 0, 59, &rest))
        return false;
    *seconds = (hours * 60 + minutes) * 60 + rest;
    if (negative)
        *seconds = -*seconds;
    return true;
}

/* The string says what to add to local time to get UTC; we keep the opposite. */
static bool read_offset(const char **at, int32_t *offset_s)
{
    if (!read_time(at, MAX_OFFSET_HOURS, offset_s))
        return false;
    *offset_s = -*offset_s;
    return true;
}

static bool read_date(const char **at, struct tzrule_date *date)
{
    *date = (struct tzrule_date){.time_s = 2 * 3600};
    if (read_char(at, 'M')) {
        date->kind = TZRULE_MONTH_WEEKDAY;
        if (!read_number(at, 1, 12, &date->month) || !read_char(at, '.') ||
            !read_number(at, 1, 5, &date->week) || !read_char(at, '.') ||
            !read_number(at, 0, 6, &date->weekday))
            return false;
    } else if (read_char(at, 'J')) {
        date->kind = TZRULE_YEAR_DAY_JULIAN;
        if (!read_number(at, 1, 365, &date->day))
            return false;
    } else {
        date->kind = TZRULE_YEAR_DAY;
        if (!read_number(at, 0, 365, &date->day))
            return false;
    }
    return !read_char(at, '/') || read_time(at, MAX_CHANGE_HOURS, &date->time_s);
}

static bool read_rule(const char *at, struct tzrule *rule)
{
    if (!read_name(&at) || !read_offset(&at, &rule->standard_s))
        return false;
    rule->summer_s = rule->standard_s;
    rule->has_summer = *at != '\0';
    if (!rule->has_summer)
        return true;
    if (!read_name(&at))
        return false;
    rule->summer_s += 3600;
    if (*at != ',' && !read_offset(&at, &rule->summer_s))
        return false;
    return read_char(&at, ',') && read_date(&at, &rule->summer_start) && read_char(&at, ',') &&
           read_date(&at, &rule->summer_end) && *at == '\0';
}

int tzrule_parse(const char *text, struct tzrule *rule, struct error *error)
{
    struct tzrule found = {0};
    if (!read_rule(text, &found))
        return error_set(error, -EINVAL, "the rule '%s' is no POSIX TZ string", text);
    *rule = found;
    return 0;
}

static int64_t month_weekday(const struct tzrule_date *date, int64_t year)
{
    int64_t first = calendar_day((struct calendar_date){year, date->month, 1});
    int to_weekday = (date->weekday - calendar_weekday(first) + 7) % 7;
    int offset = to_weekday + 7 * (date->week - 1);
    if (offset >= calendar_month_length(year, date->month))
        offset -= 7;
    return first + offset;
}

static int64_t rule_day(const struct tzrule_date *date, int64_t year)
{
    if (date->kind == TZRULE_MONTH_WEEKDAY)
        return month_weekday(date, year);
    int64_t first = calendar_day((struct calendar_date){year, 1, 1});
    if (date->kind == TZRULE_YEAR_DAY)
        return first + date->day;
    bool after_leap_day = date->day >= 60 && calendar_month_length(year, 2) == 29;
    return first + date->day - 1 + after_leap_day;
}

/* Narrows the span around `at_s` by the change to `offset_s` that the date makes in the year. Of
 * two changes at the same instant the one seen last counts: all-year summer time ends and starts at
 * once (RFC 9636 §3.3.2). */
static void narrow(struct zone_span *span, int64_t at_s, const struct tzrule_date *date,
                   int64_t year, int32_t before_s, int32_t offset_s)
{
    int64_t change_s = rule_day(date, year) * SECONDS_PER_DAY + date->time_s - before_s;
    if (change_s <= at_s && change_s >= span->from_s) {
        span->from_s = change_s;
        span->offset_s = offset_s;
    } else if (change_s > at_s && change_s < span->until_s) {
        span->until_s = change_s;
    }
}

struct zone_span tzrule_span_at(const struct tzrule *rule, int64_t at_s)
{
    struct zone_span span = {ZONE_FIRST_S, ZONE_LAST_S, rule->standard_s};
    if (!rule->has_summer)
        return span;
    /* A change may stand a week outside its year, so the neighbours of the neighbours count too. */
    int64_t year = calendar_date(calendar_day_of(at_s)).year;
    for (int64_t y = year - 2; y <= year + 2; y++) {
        narrow(&span, at_s, &rule->summer_start, y, rule->standard_s, rule->summer_s);
        narrow(&span, at_s, &rule->summer_end, y, rule->summer_s, rule->standard_s);
    }
    return span;
}
