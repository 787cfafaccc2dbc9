/* The command line `directord --next`. */
#include <stdio.h>
#include <string.h>

#include "scheduler/next.h"
#include "tests/unit/unit.h"

#define FROM "--from", "2026-03-28T00:00:00Z"

static const struct {
    const char *arguments[12];
    const char *out; /* NULL: refused */
    const char *err; /* a part of it */
} rows[] = {
    {{"0 3 * * *", FROM, "--count", "2"}, "2026-03-28T03:00:00Z\n2026-03-29T03:00:00Z\n", NULL},
    {{"0 3 * * *", FROM, "--count=1", "--timezone=Europe/Paris"}, "2026-03-28T02:00:00Z\n", NULL},
    {{"0 0 13 * 5", FROM, "--day-match", "all", "--count", "1"}, "2026-11-13T00:00:00Z\n", NULL},
    {{"90s", FROM, "--count", "2"}, "2026-03-28T00:01:30Z\n2026-03-28T00:03:00Z\n", NULL},
    {{"0.25", FROM, "--count", "1"}, "2026-03-28T00:00:00.25Z\n", NULL},
    {{"@daily", FROM, "--count", "1"}, "2026-03-29T00:00:00Z\n", NULL},
    {{"@daily", "--from", "9999-12-30T12:00:00Z"}, "9999-12-31T00:00:00Z\n", NULL},
    {{NULL}, NULL, "needs an expression"},
    {{"0 0 30 2 *"}, NULL, "never fires"},
    {{"@daily", "--from", "9999-12-31T00:00:00Z"}, NULL, "never fires"},
    {{"0 3 * *"}, NULL, "expected five fields"},
    {{"soon"}, NULL, "soon"},
    {{"0 3 * * *\n"}, NULL, "0x0a"},
    {{"@daily", "--timezone", "Mars"}, NULL, "unknown time zone 'Mars'"},
    {{"@daily", "--day-match", "both"}, NULL, "day_match is"},
    {{"@daily", "--from", "today"}, NULL, "--from"},
    {{"@daily", "--count", "0"}, NULL, "--count is a number"},
    {{"@daily", "--count", "2x"}, NULL, "--count is a number"},
    {{"@daily", "--count"}, NULL, "'--count': behind --next EXPR"},
    {{"@daily", "--counter", "1"}, NULL, "'--counter': behind --next EXPR"},
};

START_TEST(command_line)
{
    char out[1024] = "";
    char err[2048] = "";
    FILE *out_file = fmemopen(out, sizeof out, "w");
    FILE *err_file = fmemopen(err, sizeof err, "w");
    int count = 0;
    while (rows[_i].arguments[count])
        count++;
    int status = next_print(count, (char *const *)rows[_i].arguments, out_file, err_file);
    fclose(out_file);
    fclose(err_file);
    ck_assert_str_eq(out, rows[_i].out ? rows[_i].out : "");
    ck_assert_int_eq(status, rows[_i].out ? 0 : 1);
    if (rows[_i].err) {
        ck_assert_msg(strstr(err, rows[_i].err) != NULL, "%s", err);
        ck_assert_msg(strchr(err, '\n') == err + strlen(err) - 1, "not one line: %s", err);
    } else {
        ck_assert_str_eq(err, "");
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("next");
    TCase *tests = tcase_create("next");
    tcase_add_loop_test(tests, command_line, 0, sizeof rows / sizeof *rows);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
