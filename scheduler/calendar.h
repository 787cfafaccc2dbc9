/* The proleptic Gregorian calendar, by number.
 *
 * A day is a count of days since 1970-01-01, negative before it; months and days of the month count
 * from 1, weekdays from 0, which is Sunday. Nothing here knows of time zones.
 */
#pragma once

#include <stdint.h>

#define SECONDS_PER_DAY INT64_C(86400)

struct calendar_date {
    int64_t year;
    int month; /* 1-12 */
    int day;   /* 1-31 */
};

int64_t calendar_day(struct calendar_date date);
struct calendar_date calendar_date(int64_t day);
int calendar_weekday(int64_t day);
int calendar_month_length(int64_t year, int month);
/* The day that holds `seconds` since 1970-01-01T00:00:00, rounded towards the past. */
int64_t calendar_day_of(int64_t seconds);
