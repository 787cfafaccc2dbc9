/* api/query.h: decoding, typed values and their refusals, and references that read back. */
#include "api/query.h"

#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "tests/unit/unit.h"

#define ROWS(table) (sizeof(table) / sizeof((table)[0]))

static struct arena arena;

static void done(void)
{
    arena_done(&arena);
}

static struct query parse(const char *text)
{
    struct query query = {0};
    struct error error = {0};
    ck_assert_msg(query_parse(&arena, text, &query, &error) == 0, "%s: %s", text, error.text);
    return query;
}

START_TEST(parsed)
{
    static const struct {
        const char *text;
        const char *expected; /* name=value; … */
    } rows[] = {
        {"", ""},
        {"a", "a=;"},
        {"a=", "a=;"},
        {"=b", "=b;"},
        {"a=1&b=2", "a=1;b=2;"},
        {"&&a=1&&", "a=1;"},
        {"a=b=c", "a=b=c;"},
        {"a+b=c+d", "a b=c d;"},
        {"a%2bb=%41%e2%82%AC", "a+b=A\xe2\x82\xac;"},
        {"a%26b=c%3Dd", "a&b=c=d;"},
        {"a=1&a=2", "a=1;a=2;"},
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        struct query query = parse(rows[i].text);
        struct buffer out = {0};
        for (int p = 0; p < query.count; p++)
            buffer_printf(&out, "%s=%s;", query.params[p].name, query.params[p].value);
        ck_assert_msg(strcmp(buffer_text(&out), rows[i].expected) == 0, "%s: %s", rows[i].text,
                      out.data);
        buffer_done(&out);
    }
}
END_TEST

START_TEST(refused)
{
    static const struct {
        const char *text;
        const char *error;
    } rows[] = {
        {"page=%", "'page': '%' is not followed by two hexadecimal digits"},
        {"page=%2", "'page': '%' is not followed by two hexadecimal digits"},
        {"page=%2g", "'page': '%' is not followed by two hexadecimal digits"},
        {"page=%2&x=1", "'page': '%' is not followed by two hexadecimal digits"},
        {"page=%00", "'page': the byte NUL cannot be part of a text"},
        {"a=1&page=%ff", "'page': the text is not UTF-8"},
        {"page=%ed%a0%80", "'page': the text is not UTF-8"},
        {"%zz=1",
         "in the name of a query parameter: '%' is not followed by two hexadecimal digits"},
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        struct query query;
        struct error error = {0};
        ck_assert_msg(query_parse(&arena, rows[i].text, &query, &error) < 0, "%s", rows[i].text);
        ck_assert_msg(strcmp(error.text, rows[i].error) == 0, "%s: %s", rows[i].text, error.text);
    }
}
END_TEST

START_TEST(plus_stays_in_paths)
{
    ck_assert_str_eq(query_decode(&arena, "a+b%2Fc", 7, false, NULL), "a+b/c");
}
END_TEST

START_TEST(numbers)
{
    static const struct {
        const char *text;
        int64_t value; /* -77 is the default */
        const char *error;
    } rows[] = {
        {"", -77, NULL},
        {"n=1", 1, NULL},
        {"n=100", 100, NULL},
        {"n=-5", -5, NULL},
        {"n=007", 7, NULL},
        {"n=101", -77, "'n' must be from -5 to 100, not 101"},
        {"n=-6", -77, "'n' must be from -5 to 100, not -6"},
        {"n=99999999999999999999", -77, "'n' must be from -5 to 100, not 99999999999999999999"},
        {"n=", -77, "'n' must be a number, not ''"},
        {"n=-", -77, "'n' must be a number, not '-'"},
        {"n=x", -77, "'n' must be a number, not 'x'"},
        {"n=1x", -77, "'n' must be a number, not '1x'"},
        {"n=1.0", -77, "'n' must be a number, not '1.0'"},
        {"n=+1", -77, "'n' must be a number, not ' 1'"},
        {"n=%2B1", -77, "'n' must be a number, not '+1'"},
        {"n=1&n=2", -77, "'n' is given more than once"},
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        struct query query = parse(rows[i].text);
        struct error error = {0};
        int64_t value = -77;
        query_int(&query, "n", -5, 100, &value, &error);
        ck_assert_msg(value == rows[i].value, "%s: %" PRId64, rows[i].text, value);
        ck_assert_msg(strcmp(error.text, rows[i].error ? rows[i].error : "") == 0, "%s: %s",
                      rows[i].text, error.text);
    }
}
END_TEST

START_TEST(truths)
{
    static const struct {
        const char *text;
        bool value;
    } rows[] = {
        {"b=false", false}, {"b=FALSE", false}, {"b=0", false}, {"b=no", false},
        {"b=Off", false},   {"b=n", false},     {"b=F", false}, {"b=true", true},
        {"b=1", true},      {"b=", true},       {"b=00", true}, {"b", true},
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        struct query query = parse(rows[i].text);
        bool value = !rows[i].value;
        ck_assert_int_eq(query_bool(&query, "b", &value, NULL), 0);
        ck_assert_msg(value == rows[i].value, "%s", rows[i].text);
    }
}
END_TEST

START_TEST(ids)
{
    struct query query = parse("a=0190163D8694739B8AB5A4BDA8B70000&b=x");
    struct id id = {0};
    struct error error = {0};
    char text[ID_TEXT_SIZE];
    ck_assert_int_eq(query_id(&query, "a", &id, &error), 0);
    id_format(&id, text);
    ck_assert_str_eq(text, "0190163d-8694-739b-8ab5-a4bda8b70000");
    ck_assert_int_lt(query_id(&query, "b", &id, &error), 0);
    ck_assert_str_eq(error.text, "'b' must be an id, not 'x'");
}
END_TEST

START_TEST(times)
{
    static const struct {
        const char *text;
        int64_t seconds; /* -1 is refused */
    } rows[] = {
        {"t=1970-01-02T00:00:00Z", 86400},
        {"t=1970-01-02T02:00:00%2B02:00", 86400},
        {"t=1970-01-02T02:00:00+02:00", 86400},
        {"t=1970-01-02+02:00:00+02:00", 86400},
        {"t=1970-01-01T22:00:00-02:00", 86400},
        {"t=yesterday", -1},
        {"t=", -1},
        {"t=1970-01-02T00:00:00.00000000000000000000000000000000000000000000000000Z", -1},
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        struct query query = parse(rows[i].text);
        struct error error = {0};
        int64_t at_us = -US_PER_SECOND;
        int status = query_time(&query, "t", &at_us, &error);
        ck_assert_msg(at_us == rows[i].seconds * US_PER_SECOND, "%s: %" PRId64 " %s", rows[i].text,
                      at_us, error.text);
        ck_assert_msg((status < 0) == (rows[i].seconds < 0), "%s", rows[i].text);
        ck_assert_msg(status == 0 || strncmp(error.text, "'t'", 3) == 0, "%s", error.text);
    }
}
END_TEST

START_TEST(words)
{
    static const char *const known[] = {"pending", "progress", "success", NULL};
    static const struct {
        const char *text;
        unsigned set; /* 8 is the default */
        const char *error;
    } rows[] = {
        {"", 8, ""},
        {"s=pending", 1, ""},
        {"s=success,pending", 5, ""},
        {"s=success,success", 4, ""},
        {"s=", 8, "'s' must be one of pending, progress, success, not ''"},
        {"s=pending,", 8, "'s' must be one of pending, progress, success, not ''"},
        {"s=pending,eror,success", 8, "'s' must be one of pending, progress, success, not 'eror'"},
        {"s=Pending", 8, "'s' must be one of pending, progress, success, not 'Pending'"},
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        struct query query = parse(rows[i].text);
        struct error error = {0};
        unsigned set = 8;
        query_words(&query, "s", known, &set, &error);
        ck_assert_msg(set == rows[i].set, "%s: %u", rows[i].text, set);
        ck_assert_msg(strcmp(error.text, rows[i].error) == 0, "%s: %s", rows[i].text, error.text);
    }
}
END_TEST

START_TEST(references)
{
    struct buffer reference = {0};
    buffer_add_text(&reference, "/api/workflows");
    query_add(&reference, "name", "a&b=c d/\xc3\xa4~");
    query_add(&reference, "x y", "+");
    ck_assert_str_eq(buffer_text(&reference),
                     "/api/workflows?name=a%26b%3Dc%20d%2F%C3%A4~&x%20y=%2B");
    struct query query = parse(strchr(reference.data, '?') + 1);
    ck_assert_int_eq(query.count, 2);
    ck_assert_str_eq(query.params[0].value, "a&b=c d/\xc3\xa4~");
    ck_assert_str_eq(query.params[1].name, "x y");
    ck_assert_str_eq(query.params[1].value, "+");
    buffer_done(&reference);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("api/query");
    TCase *tcase = tcase_create("query");
    tcase_add_checked_fixture(tcase, NULL, done);
    tcase_add_test(tcase, parsed);
    tcase_add_test(tcase, refused);
    tcase_add_test(tcase, plus_stays_in_paths);
    tcase_add_test(tcase, numbers);
    tcase_add_test(tcase, truths);
    tcase_add_test(tcase, ids);
    tcase_add_test(tcase, times);
    tcase_add_test(tcase, words);
    tcase_add_test(tcase, references);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
