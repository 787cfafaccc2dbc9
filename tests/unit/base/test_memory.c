/* base/memory.h: copies, alignment and accounting of the arena. */
#include "base/memory.h"

#include <stdint.h>
#include <string.h>

#include "tests/unit/unit.h"

static int all_zero(const unsigned char *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (bytes[i] != 0)
            return 0;
    return 1;
}

START_TEST(blocks_are_zeroed_and_never_null)
{
    unsigned char *block = mem_new(7, 9);
    ck_assert(all_zero(block, 63));
    void *empty = mem_new(0, 8);
    ck_assert_ptr_nonnull(empty);
    empty = mem_resize(empty, 0, 8);
    ck_assert_ptr_nonnull(empty);
    free(empty);
    free(block);
}
END_TEST

START_TEST(texts_are_copied)
{
    char *whole = mem_text("workflow"), *part = mem_text_n("workflow", 4);
    char *none = mem_text_n(NULL, 0), *made = mem_format("%s-%d", "task", 7);
    ck_assert_str_eq(whole, "workflow");
    ck_assert_str_eq(part, "work");
    ck_assert_str_eq(none, "");
    ck_assert_str_eq(made, "task-7");
    free(whole);
    free(part);
    free(none);
    free(made);
}
END_TEST

/* Sizes around those of the blocks; each piece is filled, so that the next must still be zero and
 * apart. */
START_TEST(arena_pieces_are_zeroed_aligned_and_apart)
{
    static const size_t sizes[] = {1,    3,    16, 999,   1000, 1001,   3999,
                                   4000, 4001, 1,  70000, 5,    300000, 8};
    enum { COUNT = sizeof(sizes) / sizeof(sizes[0]) };
    struct arena arena = {0};
    unsigned char *pieces[3 * COUNT];
    size_t asked = 0;
    for (int i = 0; i < 3 * COUNT; i++) {
        size_t size = sizes[i % COUNT];
        pieces[i] = arena_new(&arena, size, 1);
        ck_assert_msg((uintptr_t)pieces[i] % _Alignof(max_align_t) == 0, "piece %d", i);
        ck_assert_msg(all_zero(pieces[i], size), "piece %d", i);
        memset(pieces[i], i + 1, size);
        asked += size;
    }
    for (int i = 0; i < 3 * COUNT; i++)
        for (size_t j = 0; j < sizes[i % COUNT]; j++)
            ck_assert_msg(pieces[i][j] == i + 1, "piece %d, byte %zu", i, j);
    ck_assert_uint_eq(arena_bytes(&arena), asked);
    arena_done(&arena);
    ck_assert_uint_eq(arena_bytes(&arena), 0);
}
END_TEST

START_TEST(arena_texts)
{
    struct arena arena = {0};
    const char *whole = arena_text(&arena, "workflow"), *part = arena_text_n(&arena, "workflow", 4);
    const char *made = arena_format(&arena, "%05d", 42);
    ck_assert_str_eq(whole, "workflow");
    ck_assert_str_eq(part, "work");
    ck_assert_str_eq(made, "00042");
    ck_assert_uint_eq(arena_bytes(&arena), 9 + 5 + 6);
    arena_done(&arena);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("base/memory");
    TCase *tests = tcase_create("memory");
    tcase_add_test(tests, blocks_are_zeroed_and_never_null);
    tcase_add_test(tests, texts_are_copied);
    tcase_add_test(tests, arena_pieces_are_zeroed_aligned_and_apart);
    tcase_add_test(tests, arena_texts);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
