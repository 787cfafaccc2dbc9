#include "base/size.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "tests/unit/unit.h"

START_TEST(sizes)
{
    static const struct {
        const char *text;
        int64_t bytes;
        const char *again;
    } rows[] = {
        {"0", 0, "0B"},
        {"1", 1, "1B"},
        {"100B", 100, "100B"},
        {"1024", 1024, "1KiB"},
        {"64KiB", 65536, "64KiB"},
        {"64k", 65536, "64KiB"},
        {"1MiB", 1 << 20, "1MiB"},
        {"1536KIB", 1536 << 10, "1536KiB"},
        {"3G", INT64_C(3) << 30, "3GiB"},
        {"-1", -1, "-1B"},
        {"9223372036854775807", INT64_MAX, "9223372036854775807B"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int64_t bytes = -7;
        char again[SIZE_TEXT_SIZE];
        int code = size_parse(rows[i].text, &bytes, NULL);
        ck_assert_msg(code == 0 && bytes == rows[i].bytes, "%s: %d, %" PRId64, rows[i].text, code,
                      bytes);
        size_format(bytes, again);
        ck_assert_msg(strcmp(again, rows[i].again) == 0, "%s: %s", rows[i].text, again);
    }
}
END_TEST

START_TEST(no_sizes)
{
    static const char *const rows[] = {"",     "B",     "KiB",  " 1",  "1 KiB",
                                       "1MB",  "1.5G",  "+1",   "--1", "9223372036854775808",
                                       "0x10", "1KiBs", "10GiG"};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int64_t bytes = -7;
        struct error error;
        int code = size_parse(rows[i], &bytes, &error);
        ck_assert_msg(code == -EINVAL && bytes == -7, "'%s': %d, %" PRId64, rows[i], code, bytes);
        ck_assert_msg(strstr(error.text, "is no size: expected") != NULL, "'%s': %s", rows[i],
                      error.text);
    }
    ck_assert_int_eq(size_parse("9007199254740992G", &(int64_t){0}, NULL), -EINVAL);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("size");
    TCase *tcase = tcase_create("size");
    tcase_add_test(tcase, sizes);
    tcase_add_test(tcase, no_sizes);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
