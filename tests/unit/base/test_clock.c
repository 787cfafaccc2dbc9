/* base/clock.h: instants as text and back, against the C library's calendar. */
#include "base/clock.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "tests/unit/unit.h"

#define ROWS(table) (sizeof(table) / sizeof((table)[0]))

START_TEST(formats)
{
    static const struct {
        int64_t at_us;
        const char *text, *short_text;
    } rows[] = {
        {0, "1970-01-01T00:00:00.000000+00:00", "1970-01-01T00:00:00Z"},
        {INT64_C(1795468221663651), "2026-11-23T21:10:21.663651+00:00",
         "2026-11-23T21:10:21.663651Z"},
        {INT64_C(1795468221500000), "2026-11-23T21:10:21.500000+00:00", "2026-11-23T21:10:21.5Z"},
        {INT64_C(1795468221000000), "2026-11-23T21:10:21.000000+00:00", "2026-11-23T21:10:21Z"},
        {-1, "1969-12-31T23:59:59.999999+00:00", "1969-12-31T23:59:59.999999Z"},
        {INT64_C(951782400000000), "2000-02-29T00:00:00.000000+00:00", "2000-02-29T00:00:00Z"},
        {INT64_C(253402300799999999), "9999-12-31T23:59:59.999999+00:00",
         "9999-12-31T23:59:59.999999Z"},
        {INT64_MAX, "9999-12-31T23:59:59.999999+00:00", "9999-12-31T23:59:59.999999Z"},
        {INT64_MIN, "0000-01-01T00:00:00.000000+00:00", "0000-01-01T00:00:00Z"},
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        char text[TIME_TEXT_SIZE];
        time_format(rows[i].at_us, text);
        ck_assert_str_eq(text, rows[i].text);
        time_format_short(rows[i].at_us, text);
        ck_assert_str_eq(text, rows[i].short_text);
    }
}
END_TEST

/* Steps of a little over 13 days meet every day of the month and both sides of every leap day's
 * rule. */
START_TEST(agrees_with_the_c_library)
{
    const int64_t step = INT64_C(13) * 86400 + 5021, end = INT64_C(253402300800);
    for (int64_t at = INT64_C(-62167219200); at < end; at += step) {
        char expected[64], text[TIME_TEXT_SIZE];
        time_t seconds = (time_t)at;
        struct tm tm;
        gmtime_r(&seconds, &tm);
        snprintf(expected, sizeof(expected), "%04d-%02d-%02dT%02d:%02d:%02dZ", tm.tm_year + 1900,
                 tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec);
        time_format_short(at * US_PER_SECOND, text);
        ck_assert_msg(strcmp(text, expected) == 0, "%s instead of %s", text, expected);
        int64_t parsed;
        int r = time_parse(text, &parsed, NULL);
        if (at >= 0)
            ck_assert_msg(r == 0 && parsed == at * US_PER_SECOND, "%s", text);
        else
            ck_assert_msg(r == -EINVAL, "%s", text);
    }
}
END_TEST

START_TEST(parses)
{
    static const struct {
        const char *text;
        int64_t at_us;
    } rows[] = {
        {"1970-01-01T00:00:00Z", 0},
        {"2026-11-23T21:10:21.663651+00:00", INT64_C(1795468221663651)},
        {"2026-11-23 21:10:21.663651Z", INT64_C(1795468221663651)},
        {"2026-11-23t21:10:21z", INT64_C(1795468221000000)},
        {"2026-11-23T21:10:21.5Z", INT64_C(1795468221500000)},
        {"2026-11-23T21:10:21.123456789Z", INT64_C(1795468221123456)},
        {"2026-11-23T23:10:21+02:00", INT64_C(1795468221000000)},
        {"2026-11-23T15:40:21-05:30", INT64_C(1795468221000000)},
        {"2026-11-23T21:10:21-00:00", INT64_C(1795468221000000)},
        {"1970-01-01T05:00:00+05:00", 0},
        {"1969-12-31T23:00:00-01:00", 0},
        {"2016-12-31T23:59:60Z", INT64_C(1483228800000000)},
        {"2024-02-29T00:00:00Z", INT64_C(1709164800000000)},
        {"9999-12-31T23:59:59.999999999Z", INT64_C(253402300799999999)},
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        struct error error = {0};
        int64_t at_us = -1;
        ck_assert_msg(time_parse(rows[i].text, &at_us, &error) == 0, "%s: %s", rows[i].text,
                      error.text);
        ck_assert_msg(at_us == rows[i].at_us, "%s: %" PRId64, rows[i].text, at_us);
    }
}
END_TEST

START_TEST(refuses)
{
    static const char *const rows[] = {
        "",
        "now",
        "2026-11-23",
        "2026-11-23T21:10:21",
        "2026-11-23T21:10Z",
        "2026-11-23T21:10:21Z ",
        " 2026-11-23T21:10:21Z",
        "2026-11-23_21:10:21Z",
        "26-11-23T21:10:21Z",
        "2026-13-01T00:00:00Z",
        "2026-00-01T00:00:00Z",
        "2026-04-31T00:00:00Z",
        "2026-01-00T00:00:00Z",
        "2026-02-29T00:00:00Z",
        "2100-02-29T00:00:00Z",
        "2026-11-23T24:00:00Z",
        "2026-11-23T21:60:00Z",
        "2026-11-23T21:10:61Z",
        "2026-11-23T21:10:21.Z",
        "2026-11-23T21:10:21,5Z",
        "2026-11-23T21:10:21.1234567890Z",
        "2026-11-23T21:10:21+0200",
        "2026-11-23T21:10:21+02",
        "2026-11-23T21:10:21+24:00",
        "2026-11-23T21:10:21+02:60",
        "1969-12-31T23:59:59Z",
        "1970-01-01T00:00:00+00:01",
        "9999-12-31T23:59:59-00:01",
        "10000-01-01T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "-001-01-01T00:00:00Z",
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        struct error error = {0};
        int64_t at_us = 12345;
        ck_assert_msg(time_parse(rows[i], &at_us, &error) == -EINVAL, "'%s'", rows[i]);
        ck_assert_msg(error.text[0] != '\0' && at_us == 12345, "'%s'", rows[i]);
    }
}
END_TEST

START_TEST(clocks_go_forward)
{
    int64_t mono = clock_mono_us(), boot = clock_boot_us();
    ck_assert_int_ge(clock_mono_us(), mono);
    ck_assert_int_ge(clock_boot_us(), boot);
    ck_assert_int_le(llabs(clock_wall_us() / US_PER_SECOND - time(NULL)), 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("base/clock");
    TCase *tests = tcase_create("clock");
    tcase_add_test(tests, formats);
    tcase_add_test(tests, agrees_with_the_c_library);
    tcase_add_test(tests, parses);
    tcase_add_test(tests, refuses);
    tcase_add_test(tests, clocks_go_forward);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
