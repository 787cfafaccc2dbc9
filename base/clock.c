#include "base/clock.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define SECONDS_PER_DAY INT64_C(86400)
/* What four digits of a year can say: 0000-01-01 to the last microsecond of 9999. */
#define FIRST_US (INT64_C(-62167219200) * US_PER_SECOND)
#define LAST_US (INT64_C(253402300800) * US_PER_SECOND - 1)

static int64_t read_clock(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec * US_PER_SECOND + now.tv_nsec / 1000;
}

int64_t clock_wall_us(void)
{
    return read_clock(CLOCK_REALTIME);
}

int64_t clock_mono_us(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

int64_t clock_boot_us(void)
{
    return read_clock(CLOCK_BOOTTIME);
}

/* A day of the proleptic Gregorian calendar. */
struct date {
    int year, month, day; /* month and day from 1 */
};

/* Years that begin in March have the leap day last, so that the lengths of months follow one line
 * (153 days in five months) and 400 years are always 146097 days. Days count from 1970-01-01,
 * 719468 days after 0000-03-01. */
static struct date date_of_day(int64_t day)
{
    uint32_t days = (uint32_t)(day + 719468 +
                               146097); /* one era more, for January and February of the year 0 */
    uint32_t era = days / 146097, of_era = days % 146097;
    uint32_t year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    uint32_t of_year = of_era - (365 * year + year / 4 - year / 100);
    uint32_t month = (5 * of_year + 2) / 153;
    return (struct date){
        .year = (int)(year + era * 400) - 400 + (month >= 10),
        .month = (int)(month < 10 ? month + 3 : month - 9),
        .day = (int)(of_year - (153 * month + 2) / 5 + 1),
    };
}

/* For years from 1. */
static int64_t day_of_date(const struct date *date)
{
    int year = date->year - (date->month <= 2), month = (date->month + 9) % 12;
    return year * INT64_C(365) + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 +
           date->day - 1 - 719468;
}

static char *put_digits(char *out, int value, int width)
{
    for (int i = width - 1; i >= 0; i--, value /= 10)
        out[i] = (char)('0' + value % 10);
    return out + width;
}

static char *put_char(char *out, char c)
{
    *out = c;
    return out + 1;
}

/* Date and time up to the second; the microseconds are left to the caller. Instants beyond the year
 * 9999 are cut to it. Returns the end. */
static char *put_seconds(char *out, int64_t at_us, int *microseconds)
{
    at_us = at_us < FIRST_US ? FIRST_US : at_us > LAST_US ? LAST_US : at_us;
    int64_t seconds =
        (at_us - FIRST_US) / US_PER_SECOND; /* never negative, so that division rounds down */
    *microseconds = (int)((at_us - FIRST_US) % US_PER_SECOND);
    struct date date =
        date_of_day(seconds / SECONDS_PER_DAY + FIRST_US / US_PER_SECOND / SECONDS_PER_DAY);
    int of_day = (int)(seconds % SECONDS_PER_DAY);
    out = put_char(put_digits(out, date.year, 4), '-');
    out = put_char(put_digits(out, date.month, 2), '-');
    out = put_char(put_digits(out, date.day, 2), 'T');
    out = put_char(put_digits(out, of_day / 3600, 2), ':');
    out = put_char(put_digits(out, of_day / 60 % 60, 2), ':');
    return put_digits(out, of_day % 60, 2);
}

void time_format(int64_t at_us, char text[TIME_TEXT_SIZE])
{
    int microseconds;
    char *out = put_char(put_seconds(text, at_us, &microseconds), '.');
    memcpy(put_digits(out, microseconds, 6), "+00:00", sizeof("+00:00"));
}

void time_format_short(int64_t at_us, char text[TIME_TEXT_SIZE])
{
    int microseconds;
    char *out = put_seconds(text, at_us, &microseconds);
    if (microseconds > 0) {
        out = put_digits(put_char(out, '.'), microseconds, 6);
        while (out[-1] == '0')
            out--;
    }
    memcpy(out, "Z", sizeof("Z"));
}

/* Reads exactly `width` digits and moves behind them. */
static bool read_digits(const char **at, int width, int *value)
{
    *value = 0;
    for (int i = 0; i < width; i++, (*at)++) {
        if (**at < '0' || **at > '9')
            return false;
        *value = *value * 10 + (**at - '0');
    }
    return true;
}

static bool read_one_of(const char **at, const char *accepted)
{
    if (**at == '\0' || strchr(accepted, **at) == NULL)
        return false;
    (*at)++;
    return true;
}

static bool read_date(const char **at, int64_t *day)
{
    static const int month_days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    struct date date;
    if (!read_digits(at, 4, &date.year) || !read_one_of(at, "-") ||
        !read_digits(at, 2, &date.month) || !read_one_of(at, "-") || !read_digits(at, 2, &date.day))
        return false;
    if (date.year < 1 || date.month < 1 || date.month > 12)
        return false;
    bool leap = date.year % 4 == 0 && (date.year % 100 != 0 || date.year % 400 == 0);
    int days = month_days[date.month - 1] + (date.month == 2 && leap);
    *day = day_of_date(&date);
    return date.day >= 1 && date.day <= days;
}

/* A leap second (`:60`) is the first second of the next minute, as in POSIX. */
static bool read_time_of_day(const char **at, int64_t *seconds)
{
    int hour, minute, second;
    if (!read_digits(at, 2, &hour) || !read_one_of(at, ":") || !read_digits(at, 2, &minute) ||
        !read_one_of(at, ":") || !read_digits(at, 2, &second))
        return false;
    *seconds = hour * 3600 + minute * 60 + second;
    return hour <= 23 && minute <= 59 && second <= 60;
}

static bool read_fraction(const char **at, int *microseconds)
{
    *microseconds = 0;
    if (!read_one_of(at, "."))
        return true;
    int digits = 0;
    for (int digit; digits < 9 && read_digits(at, 1, &digit); digits++)
        *microseconds = digits < 6 ? *microseconds * 10 + digit : *microseconds;
    for (int i = digits; i < 6; i++)
        *microseconds *= 10;
    return digits > 0;
}

static bool read_offset(const char **at, int64_t *seconds)
{
    *seconds = 0;
    if (read_one_of(at, "Zz"))
        return true;
    int sign = **at == '-' ? -1 : 1, hours, minutes;
    if (!read_one_of(at, "+-") || !read_digits(at, 2, &hours) || !read_one_of(at, ":") ||
        !read_digits(at, 2, &minutes))
        return false;
    *seconds = sign * (hours * 3600 + minutes * 60);
    return hours <= 23 && minutes <= 59;
}

int time_parse(const char *text, int64_t *at_us, struct error *error)
{
    const char *at = text;
    int64_t day, of_day, offset;
    int microseconds;
    if (!read_date(&at, &day) || !read_one_of(&at, "Tt ") || !read_time_of_day(&at, &of_day) ||
        !read_fraction(&at, &microseconds) || !read_offset(&at, &offset) || *at != '\0')
        return error_set(error, -EINVAL,
                         "'%.40s' is no time: expected RFC 3339, such as 2026-11-23T21:10:21Z",
                         text);
    int64_t parsed = (day * SECONDS_PER_DAY + of_day - offset) * US_PER_SECOND + microseconds;
    if (parsed < 0 || parsed > LAST_US)
        return error_set(error, -EINVAL, "the time '%.40s' is not in the years 1970 to 9999", text);
    *at_us = parsed;
    return 0;
}
