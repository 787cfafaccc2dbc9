/* base/duration.h: what people write, what is refused, and the way back. */
#include "base/duration.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "tests/unit/unit.h"

#define ROWS(table) (sizeof(table) / sizeof((table)[0]))
#define S INT64_C(1000000)

/* What duration_format makes of it is the third column. */
START_TEST(accepted)
{
    static const struct {
        const char *text;
        int64_t us;
        const char *formatted;
    } rows[] = {
        {"0", 0, "0s"},
        {"0ms", 0, "0s"},
        {"90", 90 * S, "1m30s"},
        {"90s", 90 * S, "1m30s"},
        {"1.5", 1500000, "1.5s"},
        {"1.50000000000000000000", 1500000, "1.5s"},
        {"250ms", 250000, "250ms"},
        {"0.25s", 250000, "250ms"},
        {"0.001ms", 1, "0.001ms"},
        {"0.000001", 1, "0.001ms"},
        {"1.000001s", 1000001, "1.000001s"},
        {"15m", 900 * S, "15m"},
        {"1h", 3600 * S, "1h"},
        {"1h30m", 5400 * S, "1h30m"},
        {"1.5h30m", 7200 * S, "2h"},
        {"2d", 172800 * S, "2d"},
        {"1d1h1m1s1ms", 90061001000, "1d1h1m1.001s"},
        {"1m5ms", 60005000, "1m5ms"},
        {"007s", 7 * S, "7s"},
        {"0.00000025m", 15, "0.015ms"},
        {"0.0009765625d", 84375000, "1m24.375s"},
        {"36525d", INT64_C(36525) * 86400 * S, "36525d"},
        {"3155760000", INT64_C(36525) * 86400 * S, "36525d"},
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        struct error error = {0};
        int64_t us = -1, again = -1;
        char text[DURATION_TEXT_SIZE];
        ck_assert_msg(duration_parse(rows[i].text, &us, &error) == 0, "%s: %s", rows[i].text,
                      error.text);
        ck_assert_msg(us == rows[i].us, "%s: %" PRId64, rows[i].text, us);
        duration_format(us, text);
        ck_assert_msg(strcmp(text, rows[i].formatted) == 0, "%s: %s", rows[i].text, text);
        ck_assert_msg(duration_parse(text, &again, &error) == 0 && again == us, "%s: %s",
                      rows[i].text, text);
    }
}
END_TEST

START_TEST(refused)
{
    static const struct {
        const char *text, *reason;
    } rows[] = {
        {"", "expected a number"},
        {"s", "expected a number"},
        {" 1s", "expected a number"},
        {"+1s", "expected a number"},
        {".5s", "expected a number"},
        {"5.", "expected a number"},
        {"5.s", "expected a number"},
        {"1h30x", "units"},
        {"1s ", "expected a number"},
        {"1h 30m", "expected a number"},
        {"1h30", "units"},
        {"1e3", "units"},
        {"1S", "units"},
        {"1us", "units"},
        {"1.5.5s", "units"},
        {"30m1h", "larger before smaller"},
        {"1m1m", "larger before smaller"},
        {"-1s", "negative"},
        {"-0", "negative"},
        {"0.0000001", "finer"},
        {"0.0001ms", "finer"},
        {"0.00000000001d", "finer"},
        {"0.000000000000000000000001d", "finer"},
        {"36526d", "100 years"},
        {"36525d1ms", "100 years"},
        {"36525.5d", "100 years"},
        {"99999999999999999999999999999999", "100 years"},
        {"9223372036854775807ms", "100 years"},
        {"9223372036854775808d", "100 years"},
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        struct error error = {0};
        int64_t us = 12345;
        ck_assert_msg(duration_parse(rows[i].text, &us, &error) == -EINVAL, "'%s' gave %" PRId64,
                      rows[i].text, us);
        ck_assert_msg(strstr(error.text, rows[i].reason) != NULL, "'%s': %s", rows[i].text,
                      error.text);
        ck_assert_msg(us == 12345, "'%s' changed the answer", rows[i].text);
    }
}
END_TEST

START_TEST(every_int64_has_room)
{
    char text[DURATION_TEXT_SIZE];
    duration_format(INT64_MAX, text);
    ck_assert_str_eq(text, "106751991d4h54.775807s");
    duration_format(INT64_MIN, text);
    ck_assert_str_eq(text, "-106751991d4h54.775808s");
    duration_format(-90 * S, text);
    ck_assert_str_eq(text, "-1m30s");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("base/duration");
    TCase *tests = tcase_create("duration");
    tcase_add_test(tests, accepted);
    tcase_add_test(tests, refused);
    tcase_add_test(tests, every_int64_has_room);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
