/* base/buffer.h: growth, consumption and giving away. */
#include "base/buffer.h"

#include <string.h>

#include "tests/unit/unit.h"

START_TEST(empty_is_valid)
{
    struct buffer buffer = {0};
    buffer_add(&buffer, NULL, 0);
    buffer_consume(&buffer, 0);
    ck_assert_ptr_null(buffer.data);
    ck_assert_str_eq(buffer_text(&buffer), "");
    buffer_done(&buffer);
    char *taken = buffer_take(&buffer);
    ck_assert_str_eq(taken, "");
    free(taken);
}
END_TEST

START_TEST(pieces_come_in_order)
{
    struct buffer buffer = {0};
    buffer_add_text(&buffer, "task ");
    buffer_printf(&buffer, "%s=%d", "attempt", 3);
    buffer_add_char(&buffer, ';');
    memcpy(buffer_reserve(&buffer, 4), "done", 4);
    buffer.size += 4;
    ck_assert_str_eq(buffer_text(&buffer), "task attempt=3;done");
    ck_assert_uint_eq(buffer.size, 19);
    buffer_consume(&buffer, 5);
    ck_assert_str_eq(buffer_text(&buffer), "attempt=3;done");
    buffer_clear(&buffer);
    ck_assert_str_eq(buffer_text(&buffer), "");
    buffer_done(&buffer);
}
END_TEST

START_TEST(grows_and_keeps)
{
    struct buffer buffer = {0};
    for (int i = 0; i < 20000; i++)
        buffer_printf(&buffer, "%05d", i);
    ck_assert_uint_eq(buffer.size, 100000);
    ck_assert_int_eq(memcmp(buffer.data + 5 * 12345, "12345", 5), 0);
    buffer_consume(&buffer, 5 * 19999);
    ck_assert_str_eq(buffer_text(&buffer), "19999");
    buffer_done(&buffer);
}
END_TEST

START_TEST(taking_leaves_it_empty)
{
    struct buffer buffer = {0};
    buffer_add_text(&buffer, "result");
    char *taken = buffer_take(&buffer);
    ck_assert_str_eq(taken, "result");
    ck_assert_ptr_null(buffer.data);
    ck_assert_uint_eq(buffer.size, 0);
    buffer_add_text(&buffer, "next");
    ck_assert_str_eq(buffer_text(&buffer), "next");
    buffer_done(&buffer);
    free(taken);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("base/buffer");
    TCase *tests = tcase_create("buffer");
    tcase_add_test(tests, empty_is_valid);
    tcase_add_test(tests, pieces_come_in_order);
    tcase_add_test(tests, grows_and_keeps);
    tcase_add_test(tests, taking_leaves_it_empty);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
