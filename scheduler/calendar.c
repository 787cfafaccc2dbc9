#include "scheduler/calendar.h"

#include <stdbool.h>

#define DAYS_PER_ERA 146097  /* of 400 years, after which the calendar repeats */
#define DAYS_TO_EPOCH 719468 /* from 0000-03-01 to 1970-01-01 */

static int64_t floor_div(int64_t a, int64_t b)
{
    return a / b - (a % b < 0);
}

/* Both conversions count years from March, so that the leap day is the last of its year and the
 * lengths of the months before it follow (153 × month + 2) / 5: the method of Howard Hinnant's
 * "chrono-Compatible Low-Level Date Algorithms". */
int64_t calendar_day(struct calendar_date date)
{
    int64_t year = date.year - (date.month <= 2);
    int64_t era = floor_div(year, 400);
    int64_t year_of_era = year - era * 400;
    int64_t day_of_year = (153 * ((date.month + 9) % 12) + 2) / 5 + date.day - 1;
    int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    return era * DAYS_PER_ERA + day_of_era - DAYS_TO_EPOCH;
}

struct calendar_date calendar_date(int64_t day)
{
    day += DAYS_TO_EPOCH;
    int64_t era = floor_div(day, DAYS_PER_ERA);
    int64_t day_of_era = day - era * DAYS_PER_ERA;
    int64_t year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int64_t day_of_year = day_of_era - (year_of_era * 365 + year_of_era / 4 - year_of_era / 100);
    int month_from_march = (int)(5 * day_of_year + 2) / 153;
    int month = month_from_march < 10 ? month_from_march + 3 : month_from_march - 9;
    return (struct calendar_date){
        .year = era * 400 + year_of_era + (month <= 2),
        .month = month,
        .day = (int)day_of_year - (153 * month_from_march + 2) / 5 + 1,
    };
}

int calendar_weekday(int64_t day)
{
    int64_t since_sunday = day + 4; /* 1970-01-01 was a Thursday */
    return (int)(since_sunday - floor_div(since_sunday, 7) * 7);
}

static bool is_leap(int64_t year)
{
    return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
}

int calendar_month_length(int64_t year, int month)
{
    static const int lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    return lengths[month - 1] + (month == 2 && is_leap(year));
}

int64_t calendar_day_of(int64_t seconds)
{
    return floor_div(seconds, SECONDS_PER_DAY);
}
