/* base/id.h: text and back, the layout of workflow ids, and their order. */
#include "base/id.h"

#include <string.h>

#include "tests/unit/unit.h"

#define ROWS(table) (sizeof(table) / sizeof((table)[0]))
#define SOME_INSTANT INT64_C(1795468221663651)

START_TEST(text_and_back)
{
    static const struct {
        const char *text, *formatted; /* NULL: refused */
    } rows[] = {
        {"0199f0c2-1234-7abc-9def-0123456789ab", "0199f0c2-1234-7abc-9def-0123456789ab"},
        {"0199F0C2-1234-7ABC-9DEF-0123456789AB", "0199f0c2-1234-7abc-9def-0123456789ab"},
        {"0199f0c212347abc9def0123456789ab", "0199f0c2-1234-7abc-9def-0123456789ab"},
        {"00000000-0000-0000-0000-000000000000", "00000000-0000-0000-0000-000000000000"},
        {"", NULL},
        {"0199f0c2-1234-7abc-9def-0123456789a", NULL},
        {"0199f0c2-1234-7abc-9def-0123456789abc", NULL},
        {"0199f0c2-1234-7abc-9def0123456789ab", NULL},
        {"0199f0c21-234-7abc-9def-0123456789ab", NULL},
        {"0199f0c2-1234-7abc-9def-0123456789ag", NULL},
        {"0199f0c212347abc9def0123456789a-", NULL},
        {"{199f0c2-1234-7abc-9def-0123456789a}", NULL},
        {"@199f0c212347abc9def0123456789ab", NULL},
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        struct id id = {{42}};
        char text[ID_TEXT_SIZE];
        bool parsed = id_parse(rows[i].text, strlen(rows[i].text), &id);
        ck_assert_msg(parsed == (rows[i].formatted != NULL), "'%s'", rows[i].text);
        if (!parsed) {
            ck_assert_msg(id.bytes[0] == 42, "'%s' changed the answer", rows[i].text);
            continue;
        }
        id_format(&id, text);
        ck_assert_str_eq(text, rows[i].formatted);
    }
}
END_TEST

START_TEST(random_ids)
{
    struct id a = id_random(), b = id_random(), null = {{0}};
    ck_assert_int_ne(id_compare(&a, &b), 0);
    ck_assert_int_eq(a.bytes[6] >> 4, 4);
    ck_assert_int_eq(a.bytes[8] >> 6, 2);
    ck_assert(!id_is_null(&a));
    ck_assert(id_is_null(&null));
}
END_TEST

START_TEST(layout_of_workflow_ids)
{
    struct id_maker maker = {0};
    int64_t at_us = SOME_INSTANT;
    struct id id = id_make_workflow(&maker, &at_us);
    char text[ID_TEXT_SIZE];
    id_format(&id, text);
    ck_assert_int_eq(at_us, SOME_INSTANT);
    /* 1795468221663 = 0x1a20a3edcdf ms; 651 µs are 2666 = 0xa6a 4096ths. */
    ck_assert_msg(strncmp(text, "01a20a3e-dcdf-7a6a-", 19) == 0, "%s", text);
    ck_assert_int_eq(id.bytes[8] >> 6, 2);
    ck_assert_str_eq(text + 32, "0000");
}
END_TEST

START_TEST(every_microsecond_comes_back)
{
    struct id_maker maker = {0};
    for (int64_t wanted = SOME_INSTANT; wanted < SOME_INSTANT + 2000; wanted++) {
        int64_t at_us = wanted;
        struct id id = id_make_workflow(&maker, &at_us);
        ck_assert_int_eq(id_created_us(&id), wanted);
        struct id task = id_task(&id, 7);
        ck_assert_int_eq(id_created_us(&task), wanted);
    }
}
END_TEST

/* The clock stands, goes back and jumps; order by id stays order of making. */
START_TEST(order_of_making)
{
    static const int64_t steps[] = {0, 0, 1, -1000000, 0, 5, 999, 1000, -3, 1000000, 0};
    struct id_maker maker = {0};
    struct id last = {{0}};
    int64_t last_us = 0, clock_us = SOME_INSTANT;
    for (size_t i = 0; i < 40 * ROWS(steps); i++) {
        clock_us += steps[i % ROWS(steps)];
        int64_t at_us = clock_us;
        struct id id = id_make_workflow(&maker, &at_us);
        ck_assert_msg(id_compare(&id, &last) > 0, "step %zu", i);
        ck_assert_msg(at_us > last_us && at_us >= clock_us, "step %zu", i);
        ck_assert_msg(id_created_us(&id) == at_us, "step %zu", i);
        last = id;
        last_us = at_us;
    }
}
END_TEST

START_TEST(tasks_and_back)
{
    static const int positions[] = {0, 1, 254, 255, 256, ID_MAX_TASKS - 1};
    struct id_maker maker = {0};
    int64_t at_us = SOME_INSTANT;
    struct id workflow = id_make_workflow(&maker, &at_us), last = workflow;
    int position;
    for (size_t i = 0; i < ROWS(positions); i++) {
        struct id task = id_task(&workflow, positions[i]);
        struct id back = id_workflow(&task, &position);
        ck_assert_msg(position == positions[i], "position %d", positions[i]);
        ck_assert_msg(id_compare(&back, &workflow) == 0, "position %d", positions[i]);
        ck_assert_msg(id_compare(&task, &last) > 0, "position %d", positions[i]);
        last = task;
    }
    id_workflow(&workflow, &position);
    ck_assert_int_eq(position, -1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("base/id");
    TCase *tests = tcase_create("id");
    tcase_add_test(tests, text_and_back);
    tcase_add_test(tests, random_ids);
    tcase_add_test(tests, layout_of_workflow_ids);
    tcase_add_test(tests, every_microsecond_comes_back);
    tcase_add_test(tests, order_of_making);
    tcase_add_test(tests, tasks_and_back);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
