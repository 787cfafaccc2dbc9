#include <errno.h>
#include <string.h>

#include "base/buffer.h"
#include "daemon/envfile.h"
#include "tests/unit/unit.h"

/* What was read, as `NAME[value]` one behind the other. */
static int note(void *context, const char *name, const char *value, struct error *error)
{
    (void)error;
    buffer_printf(context, "%s[%s]", name, value);
    return 0;
}

START_TEST(reads_what_systemd_reads)
{
    static const struct {
        const char *text, *expected;
    } rows[] = {
        {"", ""},
        {"\n \n\t\n", ""},
        {"A=1", "A[1]"},
        {"A=1\nB=2\n", "A[1]B[2]"},
        {"A=1\r\nB=2\r\n", "A[1]B[2]"},
        {"# x\n; y\n  # z\nA=1\n", "A[1]"},
        {"# joined? no \\\nA=1\n", "A[1]"},
        {"A=", "A[]"},
        {"  A  =  b c  \n", "A[b c]"},
        {"export A=1\nexport=2\n", "A[1]export[2]"},
        {"A=b\\\nc\n", "A[bc]"},
        {"A=b\\\r\nc\n", "A[bc]"},
        {"A=b\\ \n", "A[b ]"},
        {"A=\\#b\\\\\n", "A[#b\\]"},
        {"A=#b#c\n", "A[#b#c]"},
        {"A=it's\n", "A[it's]"},
        {"A='a b' \n", "A[a b]"},
        {"A='a\\n\"b'\n", "A[a\\n\"b]"},
        {"A='a\nb'\nB=1\n", "A[a\nb]B[1]"},
        {"A=\"a # b\"\n", "A[a # b]"},
        {"A=\"a\\\"\\$\\`\\\\\\n\"\n", "A[a\"$`\\\\n]"},
        {"A=\"a\\\nb\"\n", "A[ab]"},
        {"A='a' \"b\" c\n", "A[abc]"},
        {"DIRECTOR_DATABASE_URI=postgresql://u:p%40@h/d?sslmode=require\n",
         "DIRECTOR_DATABASE_URI[postgresql://u:p%40@h/d?sslmode=require]"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct buffer found = {0};
        struct error error = {0};
        int code = envfile_parse("f", rows[i].text, strlen(rows[i].text), note, &found, &error);
        ck_assert_msg(code == 0, "row %zu: %s", i, error.text);
        ck_assert_msg(strcmp(buffer_text(&found), rows[i].expected) == 0,
                      "row %zu: expected %s, found %s", i, rows[i].expected, buffer_text(&found));
        buffer_done(&found);
    }
}
END_TEST

START_TEST(refuses_with_the_line)
{
    static const struct {
        const char *text, *expected;
    } rows[] = {
        {"A=1\nB\n", "f:2: expected NAME=value or a comment"},
        {"=1", "f:1: expected NAME=value or a comment"},
        {"1A=1", "f:1: expected NAME=value or a comment"},
        {"A B=1", "f:1: expected NAME=value or a comment"},
        {"\n\nA='b\nc\n", "f:3: a single quote is opened and never closed"},
        {"A=\"b\\\"", "f:1: a double quote is opened and never closed"},
        {"A=b\\\nc # d\n",
         "f:1: a comment needs a line of its own; quote the value if # belongs to it"},
        {"A='b' # d\n",
         "f:1: a comment needs a line of its own; quote the value if # belongs to it"},
        {"A=\xff\n", "f: not a text file in UTF-8"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct buffer found = {0};
        struct error error = {0};
        int code = envfile_parse("f", rows[i].text, strlen(rows[i].text), note, &found, &error);
        ck_assert_msg(code == -EINVAL, "row %zu was taken: %s", i, rows[i].text);
        ck_assert_msg(strcmp(error.text, rows[i].expected) == 0, "row %zu: expected %s, found %s",
                      i, rows[i].expected, error.text);
        buffer_done(&found);
    }
}
END_TEST

START_TEST(names_a_file_that_cannot_be_read)
{
    struct error error = {0};
    ck_assert_int_eq(envfile_read("/nonexistent/f", note, NULL, &error), -ENOENT);
    ck_assert_str_eq(error.text, "/nonexistent/f: No such file or directory");
    ck_assert_int_eq(envfile_read("/", note, NULL, &error), -EISDIR);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("envfile");
    TCase *tests = tcase_create("envfile");
    tcase_add_test(tests, reads_what_systemd_reads);
    tcase_add_test(tests, refuses_with_the_line);
    tcase_add_test(tests, names_a_file_that_cannot_be_read);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
