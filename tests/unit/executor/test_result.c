#include "executor/result.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

#include "tests/unit/unit.h"

START_TEST(reads_results)
{
    static const struct {
        enum result_source source;
        const char *bytes;
        int code;
        const char *wanted; /* NULL is null; for a failure the error's beginning */
    } rows[] = {
        {RESULT_FD, "", 0, NULL},
        {RESULT_FD, " \n\t\r", 0, NULL},
        {RESULT_FD, "null", 0, "null"},
        {RESULT_FD, " {\"b\": 1.0, \"a\": 12345678901234567890}\n", 0,
         "{\"b\": 1.0, \"a\": 12345678901234567890}"},
        {RESULT_FD, "{\"a\": ", -EINVAL, "the result is no JSON: "},
        {RESULT_FD, "hello", -EINVAL, "the result is no JSON: "},
        {RESULT_FD, "\"01234567890123456789012345678901234567890\"", -EFBIG,
         "the result is larger than 40 bytes"},
        {RESULT_STDOUT, "", 0, NULL},
        {RESULT_STDOUT, "42\n", 0, "42"},
        {RESULT_STDOUT, "hello\n", 0, "\"hello\""},
        {RESULT_STDOUT, "hello\n\n", 0, "\"hello\\n\""},
        {RESULT_STDOUT, "a\"b\n", 0, "\"a\\\"b\""},
        {RESULT_STDOUT, "\xff!", 0, "\"\xef\xbf\xbd!\""},
        {RESULT_STDOUT, "01234567890123456789012345678901234567890", -EFBIG,
         "the result is larger"},
        {RESULT_NONE, "anything", 0, NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct result result = {0};
        struct error error = {0};
        int r =
            result_read(rows[i].source, rows[i].bytes, strlen(rows[i].bytes), 40, &result, &error);
        ck_assert_msg(r == rows[i].code, "row %zu: %d, %s", i, r, error.text);
        if (r < 0)
            ck_assert_msg(strncmp(error.text, rows[i].wanted, strlen(rows[i].wanted)) == 0,
                          "row %zu: %s", i, error.text);
        else if (rows[i].wanted)
            ck_assert_msg(result.text && strcmp(result.text, rows[i].wanted) == 0 &&
                              result.size == strlen(rows[i].wanted),
                          "row %zu: %s", i, result.text);
        else
            ck_assert_msg(!result.text, "row %zu: %s", i, result.text);
        free(result.text);
    }
}
END_TEST

START_TEST(nul_in_standard_output_is_replaced)
{
    struct result result;
    ck_assert_int_eq(result_read(RESULT_STDOUT, "a\0b", 3, 10, &result, NULL), 0);
    ck_assert_str_eq(result.text, "\"a\xef\xbf\xbd"
                                  "b\"");
    free(result.text);
}
END_TEST

START_TEST(failure_shows_the_last_lines)
{
    static const struct {
        const char *text;
        const char *wanted;
    } rows[] = {
        {"", "{\"exception\":\"exit status 2\",\"traceback\":\"\"}"},
        {"\n", "{\"exception\":\"exit status 2\",\"traceback\":\"\\n\"}"},
        {"one\ntwo", "{\"exception\":\"exit status 2\",\"traceback\":\"one\\ntwo\"}"},
        {"0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\n12\n13\n14\n15\n16\n17\n18\n19\n20\n",
         "{\"exception\":\"exit status "
         "2\",\"traceback\":\"1\\n2\\n3\\n4\\n5\\n6\\n7\\n8\\n9\\n10\\n11"
         "\\n12\\n13\\n14\\n15\\n16\\n17\\n18\\n19\\n20\\n\"}"},
        {"\x80", "{\"exception\":\"exit status 2\",\"traceback\":\"\xef\xbf\xbd\"}"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct result result =
            result_of_failure("exit status 2", rows[i].text, strlen(rows[i].text));
        ck_assert_msg(strcmp(result.text, rows[i].wanted) == 0, "row %zu: %s", i, result.text);
        ck_assert_uint_eq(result.size, strlen(result.text));
        free(result.text);
    }
}
END_TEST

START_TEST(exit_texts)
{
    static const struct {
        int exit_status, signal;
        const char *wanted;
    } rows[] = {
        {2, 0, "exit status 2"},
        {255, 0, "exit status 255"},
        {-1, SIGKILL, "killed by signal 9 (SIGKILL)"},
        {-1, SIGSEGV, "killed by signal 11 (SIGSEGV)"},
        {-1, 40, "killed by signal 40"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char text[RESULT_REASON_SIZE];
        result_exit_text(rows[i].exit_status, rows[i].signal, text);
        ck_assert_msg(strcmp(text, rows[i].wanted) == 0, "row %zu: %s", i, text);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("result");
    TCase *tcase = tcase_create("result");
    tcase_add_test(tcase, reads_results);
    tcase_add_test(tcase, nul_in_standard_output_is_replaced);
    tcase_add_test(tcase, failure_shows_the_last_lines);
    tcase_add_test(tcase, exit_texts);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
