#include "api/log_text.h"

#include <string.h>

#include "tests/unit/unit.h"

#define FFFD "\xef\xbf\xbd"

struct piece {
    int64_t start;
    int stream;
    const char *text; /* NULL ends the list */
};

static struct log_row row_of(const struct piece *piece)
{
    return (struct log_row){.start = piece->start,
                            .stream = piece->stream,
                            .text = piece->text,
                            .size = strlen(piece->text)};
}

START_TEST(rows_become_text)
{
    static const struct {
        int stream;
        int64_t from;
        struct piece pieces[6];
        const char *wanted;
    } rows[] = {
        {0, 0, {{0}}, ""},
        {0, 0, {{0, 1, "one\n"}, {4, 2, "two\n"}}, "one\ntwo\n"},
        {1, 0, {{0, 1, "one\n"}, {4, 2, "two\n"}, {8, 1, "three"}}, "one\nthree"},
        {2, 0, {{0, 1, "one\n"}, {4, 2, "two\n"}, {8, 1, "three"}}, "two\n"},
        /* From within a row, from its end, from behind everything. */
        {0, 2, {{0, 1, "one\n"}, {4, 2, "two\n"}}, "e\ntwo\n"},
        {0, 4, {{0, 1, "one\n"}, {4, 2, "two\n"}}, "two\n"},
        {0, 99, {{0, 1, "one\n"}}, ""},
        /* Gaps: the bytes of the other stream are none. */
        {0, 0, {{0, 1, "ab"}, {10, 1, "cd"}}, "ab\n[… 8 bytes left out …]\ncd"},
        {2, 0, {{0, 1, "ab"}, {10, 1, "cd"}}, "\n[… 8 bytes left out …]\n"},
        {0, 5, {{10, 1, "cd"}}, "\n[… 5 bytes left out …]\ncd"},
        /* A sequence in two and in four rows; with the other stream between, seen and not seen. */
        {0, 0, {{0, 1, "a\xe2\x82"}, {3, 1, "\xac."}}, "a€."},
        {0,
         0,
         {{0, 1, "\xf0"}, {1, 1, "\x9f"}, {2, 1, "\x98"}, {3, 1, "\x80"}},
         "\xf0\x9f\x98\x80"},
        {0, 0, {{0, 1, "\xc3"}, {1, 2, "x"}, {2, 1, "\xa9"}}, FFFD "x" FFFD},
        {1, 0, {{0, 1, "\xc3"}, {1, 2, "x"}, {2, 1, "\xa9"}}, "é"},
        /* One that is broken off: by another byte, by a gap, by the end. */
        {0, 0, {{0, 1, "\xe2\x82"}, {2, 1, "a"}}, FFFD FFFD "a"},
        {0, 0, {{0, 1, "\xe2"}, {1, 1, "\xc3\xa9"}}, FFFD "é"},
        {0, 0, {{0, 1, "\xc3"}, {5, 1, "\xa9"}}, FFFD "\n[… 4 bytes left out …]\n" FFFD},
        {0, 0, {{0, 1, "a\xf0\x9f\x98"}}, "a" FFFD FFFD FFFD},
        /* What is no UTF-8: stray bytes, a surrogate, an overlong form. */
        {0, 0, {{0, 1, "\xff\x80z"}}, FFFD FFFD "z"},
        {0, 0, {{0, 1, "\xed\xa0\x80"}}, FFFD FFFD FFFD},
        {0, 0, {{0, 1, "\xc0"}, {1, 1, "\x80"}}, FFFD FFFD},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct buffer out = {0};
        struct log_text text = {.out = &out, .stream = rows[i].stream, .next = rows[i].from};
        for (const struct piece *piece = rows[i].pieces; piece->text; piece++) {
            struct log_row row = row_of(piece);
            log_text_add(&text, &row);
        }
        log_text_end(&text);
        ck_assert_msg(strcmp(buffer_text(&out), rows[i].wanted) == 0,
                      "row %zu: got [%s], wanted [%s]", i, buffer_text(&out), rows[i].wanted);
        buffer_done(&out);
    }
}
END_TEST

START_TEST(last_lines)
{
    static const struct piece pieces[] = {
        {0, 1, "one\ntwo\n"}, {8, 2, "error\n"}, {14, 1, "thr"}, {17, 1, "ee\nfour"}, {0},
    };
    static const struct {
        int stream;
        int64_t lines;
        int64_t wanted;
    } rows[] = {
        {0, 0, 24}, {0, 1, 20}, {0, 2, 14}, {0, 3, 8}, {0, 4, 4},  {0, 5, 0},
        {0, 9, 0},  {1, 2, 8},  {1, 3, 4},  {2, 1, 0}, {2, 0, 24},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct log_tail tail = {.lines = rows[i].lines, .stream = rows[i].stream};
        for (int at = 3; at >= 0; at--) {
            struct log_row row = row_of(&pieces[at]);
            if (log_tail_add(&tail, &row))
                break;
        }
        ck_assert_msg(tail.start == rows[i].wanted, "row %zu: got %lld, wanted %lld", i,
                      (long long)tail.start, (long long)rows[i].wanted);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("log_text");
    TCase *tcase = tcase_create("log_text");
    tcase_add_test(tcase, rows_become_text);
    tcase_add_test(tcase, last_lines);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
