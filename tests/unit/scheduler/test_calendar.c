/* Days, months and weekdays of the calendar, against each other and against known dates. */

#include "scheduler/calendar.h"
#include "tests/unit/unit.h"

static const struct row {
    int64_t day;
    struct calendar_date date;
    int weekday;
} rows[] = {
    {0, {1970, 1, 1}, 4},      {-1, {1969, 12, 31}, 3},    {59, {1970, 3, 1}, 0},
    {11016, {2000, 2, 29}, 2}, {20541, {2026, 3, 29}, 0},  {47540, {2100, 2, 28}, 0},
    {47541, {2100, 3, 1}, 1},  {157113, {2400, 2, 29}, 2}, {2932896, {9999, 12, 31}, 5},
    {-719468, {0, 3, 1}, 3},   {-719529, {-1, 12, 31}, 5},
};

START_TEST(known_dates)
{
    const struct row *row = &rows[_i];
    struct calendar_date date = calendar_date(row->day);
    ck_assert_msg(
        date.year == row->date.year && date.month == row->date.month && date.day == row->date.day,
        "day %lld is %lld-%d-%d", (long long)row->day, (long long)date.year, date.month, date.day);
    ck_assert_int_eq(calendar_day(row->date), row->day);
    ck_assert_int_eq(calendar_weekday(row->day), row->weekday);
}
END_TEST

/* 400 years hold every length of year and month; each day must follow the one before. */
START_TEST(days_follow_each_other)
{
    struct calendar_date wanted = {1890, 1, 1};
    int weekday = 3;
    for (int64_t day = calendar_day(wanted); wanted.year < 2290; day++) {
        struct calendar_date date = calendar_date(day);
        ck_assert_msg(date.year == wanted.year && date.month == wanted.month &&
                          date.day == wanted.day && calendar_day(wanted) == day &&
                          calendar_weekday(day) == weekday,
                      "day %lld", (long long)day);
        weekday = (weekday + 1) % 7;
        if (wanted.day++ == calendar_month_length(wanted.year, wanted.month)) {
            wanted.day = 1;
            wanted.year += wanted.month == 12;
            wanted.month = wanted.month % 12 + 1;
        }
    }
}
END_TEST

START_TEST(seconds_belong_to_days)
{
    ck_assert_int_eq(calendar_day_of(0), 0);
    ck_assert_int_eq(calendar_day_of(86399), 0);
    ck_assert_int_eq(calendar_day_of(86400), 1);
    ck_assert_int_eq(calendar_day_of(-1), -1);
    ck_assert_int_eq(calendar_day_of(-86400), -1);
    ck_assert_int_eq(calendar_day_of(-86401), -2);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("calendar");
    TCase *tests = tcase_create("calendar");
    tcase_add_loop_test(tests, known_dates, 0, sizeof rows / sizeof *rows);
    tcase_add_test(tests, days_follow_each_other);
    tcase_add_test(tests, seconds_belong_to_days);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
