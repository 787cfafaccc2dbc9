/* base/text.h: UTF-8 by the tables of Unicode, and suggestions for slips. */
#include "base/text.h"

#include <string.h>

#include "tests/unit/unit.h"

#define ROWS(table) (sizeof(table) / sizeof((table)[0]))

START_TEST(sequences)
{
    static const struct {
        const char *bytes;
        size_t length; /* 0: invalid */
    } rows[] = {
        {"a", 1},
        {"\x7f", 1},
        {"\xc3\xa9", 2},
        {"\xe2\x82\xac", 3},
        {"\xf0\x9f\x98\x80", 4},
        {"\xc2\x80", 2},
        {"\xe0\xa0\x80", 3},
        {"\xef\xbf\xbf", 3},
        {"\xf0\x90\x80\x80", 4},
        {"\xf4\x8f\xbf\xbf", 4},
        {"\xed\x9f\xbf", 3},
        {"\xee\x80\x80", 3},
        {"", 0},
        {"\x80", 0},             /* begins with a continuation */
        {"\xc3", 0},             /* cut */
        {"\xe2\x82", 0},         /* cut */
        {"\xf0\x9f\x98", 0},     /* cut */
        {"\xc3(", 0},            /* no continuation */
        {"\xe2(\xa1", 0},        /* no continuation */
        {"\xc0\x80", 0},         /* overlong NUL */
        {"\xc1\xbf", 0},         /* overlong */
        {"\xe0\x9f\xbf", 0},     /* overlong */
        {"\xf0\x8f\xbf\xbf", 0}, /* overlong */
        {"\xed\xa0\x80", 0},     /* surrogate D800 */
        {"\xed\xbf\xbf", 0},     /* surrogate DFFF */
        {"\xf4\x90\x80\x80", 0}, /* U+110000 */
        {"\xf5\x80\x80\x80", 0},
        {"\xff", 0},
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        size_t size = strlen(rows[i].bytes);
        ck_assert_msg(text_utf8_sequence(rows[i].bytes, size) == rows[i].length, "row %zu", i);
        ck_assert_msg(text_is_utf8(rows[i].bytes, size) == (rows[i].length > 0 || size == 0),
                      "row %zu", i);
    }
    ck_assert_uint_eq(text_utf8_sequence("\0", 1), 1);
}
END_TEST

START_TEST(counts)
{
    ck_assert_uint_eq(text_utf8_count("", 0), 0);
    ck_assert_uint_eq(text_utf8_count("a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", 10), 4);
    ck_assert(!text_is_utf8("good\xffrest", 9));
}
END_TEST

START_TEST(nearest_words)
{
    static const char *const tasks[] = {"EXTRACT",  NULL,    "LOAD", "periodic",
                                        "interval", "queue", "a"};
    static const struct {
        const char *word, *nearest;
    } rows[] = {
        {"LAOD", "LOAD"},
        {"LOAD", "LOAD"},
        {"load", "LOAD"},
        {"LOADS", "LOAD"},
        {"LOA", "LOAD"},
        {"Intervall", "interval"},
        {"queu", "queue"},
        {"preiodic", "periodic"},
        {"EXTRATC", "EXTRACT"},
        {"extrakt", "EXTRACT"},
        {"DLAO", NULL},
        {"b", NULL},
        {"", NULL},
        {"transform", NULL},
        {"LADO", NULL},
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        const char *nearest = text_nearest(rows[i].word, tasks, ROWS(tasks));
        ck_assert_msg((nearest == NULL) == (rows[i].nearest == NULL) &&
                          (nearest == NULL || strcmp(nearest, rows[i].nearest) == 0),
                      "%s: %s", rows[i].word, nearest == NULL ? "none" : nearest);
    }
}
END_TEST

START_TEST(long_words_have_no_neighbours)
{
    char word[1000];
    memset(word, 'x', sizeof(word) - 1);
    word[sizeof(word) - 1] = '\0';
    const char *const candidates[] = {word, "x"};
    ck_assert_ptr_null(text_nearest(word, candidates, 2));
    ck_assert_ptr_eq(text_nearest("x", candidates, 2), candidates[1]);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("base/text");
    TCase *tests = tcase_create("text");
    tcase_add_test(tests, sequences);
    tcase_add_test(tests, counts);
    tcase_add_test(tests, nearest_words);
    tcase_add_test(tests, long_words_have_no_neighbours);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
