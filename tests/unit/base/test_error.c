/* base/error.h: codes, prefixes and cuts. */
#include "base/error.h"

#include <errno.h>
#include <string.h>

#include "base/text.h"
#include "tests/unit/unit.h"

START_TEST(set_and_wrap)
{
    struct error error = {0};
    ck_assert_int_eq(error_set(&error, -ENOENT, "no task '%s'", "LAOD"), -ENOENT);
    ck_assert_int_eq(error_wrap(&error, "%s:%d", "etl.yml", 12), -ENOENT);
    ck_assert_int_eq(error.code, -ENOENT);
    ck_assert_str_eq(error.text, "etl.yml:12: no task 'LAOD'");
}
END_TEST

START_TEST(nobody_wants_the_text)
{
    ck_assert_int_eq(error_set(NULL, -EIO, "lost"), -EIO);
    ck_assert_int_lt(error_wrap(NULL, "lost"), 0);
}
END_TEST

START_TEST(arguments_may_come_from_itself)
{
    struct error error = {0};
    error_set(&error, -EIO, "first");
    error_set(&error, -EINVAL, "second after %s", error.text);
    ck_assert_str_eq(error.text, "second after first");
}
END_TEST

/* "é" has two bytes, so that one of two neighbouring paddings puts the cut into the middle of one.
 */
START_TEST(long_texts_are_cut_between_characters)
{
    char text[2 * sizeof(((struct error *)0)->text)];
    for (size_t padding = 0; padding < 4; padding++) {
        memset(text, 'x', padding);
        for (size_t i = padding; i + 2 < sizeof(text); i += 2)
            memcpy(text + i, "é", sizeof("é"));
        struct error error;
        error_set(&error, -EINVAL, "%s", text);
        size_t size = strlen(error.text);
        ck_assert_msg(text_is_utf8(error.text, size), "padding %zu", padding);
        ck_assert_msg(strcmp(error.text + size - 3, "…") == 0, "padding %zu", padding);
        ck_assert_uint_ge(size, sizeof(error.text) - 3);
        ck_assert_int_eq(error_wrap(&error, "etl.yml"), -EINVAL);
        ck_assert_msg(text_is_utf8(error.text, strlen(error.text)), "padding %zu", padding);
        ck_assert_int_eq(strncmp(error.text, "etl.yml: ", 9), 0);
    }
}
END_TEST

START_TEST(a_text_that_just_fits_is_whole)
{
    struct error error;
    char text[sizeof(error.text)];
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    error_set(&error, -EINVAL, "%s", text);
    ck_assert_str_eq(error.text, text);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("base/error");
    TCase *tests = tcase_create("error");
    tcase_add_test(tests, set_and_wrap);
    tcase_add_test(tests, nobody_wants_the_text);
    tcase_add_test(tests, arguments_may_come_from_itself);
    tcase_add_test(tests, long_texts_are_cut_between_characters);
    tcase_add_test(tests, a_text_that_just_fits_is_whole);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
