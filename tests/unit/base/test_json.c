/* base/json.h: the strict check, the search in checked text, and the way from escapes to bytes. */
#include "base/json.h"

#include <errno.h>
#include <string.h>

#include "tests/unit/unit.h"

#define ROWS(table) (sizeof(table) / sizeof((table)[0]))

static int check(const char *text, struct error *error)
{
    return json_check(text, strlen(text), error);
}

START_TEST(accepted)
{
    static const char *const rows[] = {
        "0",
        "-0",
        "-0.0e-0",
        "1e400",
        "1E+2",
        "9007199254740993",
        "123456789012345678901234567890.5",
        "true",
        " \t\r\n null \n",
        "false",
        "\"\"",
        "[]",
        "{}",
        "[ ]",
        "{ }",
        "[[],{},\"a\",1]",
        "{\"\":0}",
        "{\"a\":{\"a\":[{\"a\":1},{\"a\":2}]},\"A\":3}",
        "{ \"a\" : 1 , \"b\" : 2 }",
        "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0001\\uFFFF\"",
        "\"\\ud83d\\ude00\\uD83D\\uDE00\"",
        "\"\x7f\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"",
        "\"\\u00e9\"",
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        struct error error = {0};
        ck_assert_msg(check(rows[i], &error) == 0, "%s: %s", rows[i], error.text);
    }
}
END_TEST

START_TEST(refused)
{
    static const struct {
        const char *text, *message;
    } rows[] = {
        {"", "line 1, column 1: unexpected end"},
        {"  \n ", "line 2, column 2: unexpected end"},
        {"nul", "line 1, column 1: expected a value"},
        {"nulll", "line 1, column 5: expected the end behind the value"},
        {"True", "line 1, column 1: expected a value"},
        {"NaN", "line 1, column 1: expected a value"},
        {"[Infinity]", "line 1, column 2: expected a value"},
        {"-Infinity", "line 1, column 2: expected a digit"},
        {"-", "line 1, column 2: unexpected end"},
        {"+1", "line 1, column 1: expected a value"},
        {".5", "line 1, column 1: expected a value"},
        {"01", "line 1, column 1: a number must not begin with 0"},
        {"-012", "line 1, column 2: a number must not begin with 0"},
        {"1.", "line 1, column 3: unexpected end"},
        {"[1.]", "line 1, column 4: expected a digit behind the point"},
        {"[1e]", "line 1, column 4: expected a digit in the exponent"},
        {"[1e+-1]", "line 1, column 5: expected a digit in the exponent"},
        {"0x10", "line 1, column 2: expected the end behind the value"},
        {"1 2", "line 1, column 3: expected the end behind the value"},
        {"[1 2]", "line 1, column 4: expected ',' or ']'"},
        {"[1,]", "line 1, column 4: expected a value"},
        {"[,1]", "line 1, column 2: expected a value"},
        {"[1}", "line 1, column 3: expected ',' or ']'"},
        {"[1", "line 1, column 3: unexpected end"},
        {"{", "line 1, column 2: unexpected end"},
        {"{a:1}", "line 1, column 2: expected a key in double quotes"},
        {"{'a':1}", "line 1, column 2: expected a key in double quotes"},
        {"{1:1}", "line 1, column 2: expected a key in double quotes"},
        {"{\"a\" 1}", "line 1, column 6: expected ':' behind the key"},
        {"{\"a\":}", "line 1, column 6: expected a value"},
        {"{\"a\":1,}", "line 1, column 8: expected a key in double quotes"},
        {"{\"a\":1]", "line 1, column 7: expected ',' or '}'"},
        {"\"abc", "line 1, column 5: unexpected end"},
        {"\"abc\\", "line 1, column 6: unexpected end"},
        {"\"a\tb\"", "line 1, column 3: control character in a string, which must be escaped"},
        {"\"a\nb\"", "line 1, column 3: control character in a string, which must be escaped"},
        {"\"\\x\"", "line 1, column 3: unknown escape in a string"},
        {"\"\\u12\"", "line 1, column 6: expected four hexadecimal digits after \\u"},
        {"\"\\u12g4\"", "line 1, column 6: expected four hexadecimal digits after \\u"},
        {"\"a\\u0000\"", "line 1, column 3: \\u0000 is not allowed"},
        {"{\"\\u0000\":1}", "line 1, column 3: \\u0000 is not allowed"},
        {"\"\\ud83d\"", "line 1, column 2: high surrogate without a low one behind it"},
        {"\"\\ud83dx\"", "line 1, column 2: high surrogate without a low one behind it"},
        {"\"\\ud83d\\n\"", "line 1, column 2: high surrogate without a low one behind it"},
        {"\"\\ud83d\\ud83d\"", "line 1, column 2: high surrogate without a low one behind it"},
        {"\"\\ude00\"", "line 1, column 2: low surrogate without a high one before it"},
        {"\"\xc3\xa9\xff\"", "line 1, column 3: invalid UTF-8"},
        {"\"\xed\xa0\x80\"", "line 1, column 2: invalid UTF-8"},
        {"\"\xc0\x80\"", "line 1, column 2: invalid UTF-8"},
        {"\"\xc3", "line 1, column 2: invalid UTF-8"},
        {"\xef\xbb\xbf{}", "line 1, column 1: expected a value"},
        {"{\"a\":1,\n \"b\":2,\n \"a\":3}", "line 3, column 2: duplicate key \"a\""},
        {"{\"a\":1,\"\\u0061\":2}", "line 1, column 8: duplicate key \"a\""},
        {"{\"\\ud83d\\ude00\":1,\"\xf0\x9f\x98\x80\":2}",
         "line 1, column 19: duplicate key \"\xf0\x9f\x98\x80\""},
        {"[{\"x\":{\"\":1,\"\":2}}]", "line 1, column 13: duplicate key \"\""},
        {"// c\n1", "line 1, column 1: expected a value"},
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        struct error error = {0};
        ck_assert_msg(check(rows[i].text, &error) == -EINVAL, "%s", rows[i].text);
        ck_assert_msg(strcmp(error.text, rows[i].message) == 0, "%s: %s", rows[i].text, error.text);
    }
}
END_TEST

START_TEST(bytes_behind_the_size_do_not_count)
{
    struct error error;
    ck_assert_int_eq(json_check("123456", 3, NULL), 0);
    ck_assert_int_eq(json_check("true", 3, NULL), -EINVAL);
    ck_assert_int_eq(json_check("\"\\u00e9\"", 5, NULL), -EINVAL);
    ck_assert_int_eq(json_check("\"a\0b\"", 5, &error), -EINVAL);
    ck_assert_int_eq(json_check("1\0", 2, &error), -EINVAL);
}
END_TEST

START_TEST(depth_has_a_limit)
{
    static const char *const opening[] = {"[", "{\"a\":"}, *const closing[] = {"]", "}"};
    for (int kind = 0; kind < 2; kind++) {
        for (int depth = JSON_MAX_DEPTH; depth <= JSON_MAX_DEPTH + 1; depth++) {
            struct buffer text = {0};
            struct error error = {0};
            for (int i = 0; i < depth; i++)
                buffer_add_text(&text, opening[kind]);
            buffer_add_text(&text, "0");
            for (int i = 0; i < depth; i++)
                buffer_add_text(&text, closing[kind]);
            int r = json_check(text.data, text.size, &error);
            ck_assert_msg(r == (depth > JSON_MAX_DEPTH ? -EINVAL : 0), "depth %d", depth);
            if (r < 0)
                ck_assert_msg(strstr(error.text, "deeper than 64") != NULL, "%s", error.text);
            buffer_done(&text);
        }
    }
}
END_TEST

/* `count` keys at the first level, each with an object of its own; the last one repeats key
 * `repeated`. */
static struct buffer object_of(int count, int repeated)
{
    struct buffer text = {0};
    buffer_add_char(&text, '{');
    for (int i = 0; i < count; i++)
        buffer_printf(&text, "\"key%d\":{\"a\":%d},", i, i);
    buffer_printf(&text, "\"key%d\":0}", repeated);
    return text;
}

START_TEST(duplicates_in_objects_of_every_size)
{
    static const int counts[] = {1, 2, 7, 8, 9, 10, 100, 50000};
    for (size_t i = 0; i < ROWS(counts); i++) {
        for (int repeated = 0; repeated <= counts[i]; repeated += counts[i] > 10 ? counts[i] : 1) {
            struct buffer text = object_of(counts[i], repeated);
            int expected = repeated == counts[i] ? 0 : -EINVAL;
            ck_assert_msg(json_check(text.data, text.size, NULL) == expected, "%d of %d", repeated,
                          counts[i]);
            buffer_done(&text);
        }
    }
}
END_TEST

START_TEST(kinds)
{
    static const struct {
        const char *text;
        enum json_kind kind;
    } rows[] = {
        {"null", JSON_NULL},     {"false", JSON_FALSE}, {"true", JSON_TRUE}, {"-1", JSON_NUMBER},
        {" \"1\"", JSON_STRING}, {"\n[]", JSON_ARRAY},  {"{}", JSON_OBJECT}, {"0", JSON_NUMBER},
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        struct json_span value = {rows[i].text, strlen(rows[i].text)};
        ck_assert_msg(json_kind(value) == rows[i].kind, "%s", rows[i].text);
    }
}
END_TEST

static struct json_span span(const char *text)
{
    return (struct json_span){text, strlen(text)};
}

static bool is(struct json_span value, const char *expected)
{
    if (expected == NULL || value.text == NULL)
        return expected == NULL && value.text == NULL;
    return value.size == strlen(expected) && memcmp(value.text, expected, value.size) == 0;
}

#define DOCUMENT                                                                              \
    " { \"a\" : {\"b\":[10, {\"c\" : \"x,}]\\\"\" } ,[ ] ]} ,\"\":1.0,\"k\\u00e9\\\"\":true," \
    "\"a.b\":5,\"0\":{\"1\":\"one\"},\"last\":-1e400}\n"

START_TEST(paths)
{
    static const struct {
        const char *path, *value;
    } rows[] = {
        {"", DOCUMENT},
        {"a", "{\"b\":[10, {\"c\" : \"x,}]\\\"\" } ,[ ] ]}"},
        {"a.b", "[10, {\"c\" : \"x,}]\\\"\" } ,[ ] ]"},
        {"a.b.0", "10"},
        {"a.b.1", "{\"c\" : \"x,}]\\\"\" }"},
        {"a.b.1.c", "\"x,}]\\\"\""},
        {"a.b.2", "[ ]"},
        {"a.b.2.0", NULL},
        {"a.b.3", NULL},
        {"a.b.00", NULL},
        {"a.b.-1", NULL},
        {"a.b.c", NULL},
        {"a.b.", NULL},
        {"a.b.99999999999999999999", NULL},
        {"a.b.0.x", NULL},
        {"a.c", NULL},
        {"0.1", "\"one\""},
        {"last", "-1e400"},
        {"last.0", NULL},
        {"k\xc3\xa9\"", "true"},
        {"k\\u00e9", NULL},
        {"A", NULL},
        {"x.", NULL},
    };
    ck_assert_int_eq(check(DOCUMENT, NULL), 0);
    for (size_t i = 0; i < ROWS(rows); i++) {
        struct json_span found = json_path(span(DOCUMENT), rows[i].path, strlen(rows[i].path));
        ck_assert_msg(is(found, rows[i].value), "'%s': %.*s", rows[i].path, (int)found.size,
                      found.text == NULL ? "" : found.text);
    }
}
END_TEST

START_TEST(members)
{
    ck_assert(is(json_member(span(DOCUMENT), "a.b", 3), "5"));
    ck_assert(is(json_member(span(DOCUMENT), "", 0), "1.0"));
    ck_assert(is(json_member(span(DOCUMENT), "no", 2), NULL));
    ck_assert(is(json_member(span("[\"a\",1]"), "a", 1), NULL));
    ck_assert(is(json_member(span("\"a\""), "a", 1), NULL));
    ck_assert(is(json_member(span("{}"), "a", 1), NULL));
    ck_assert(is(json_member((struct json_span){NULL, 0}, "a", 1), NULL));
}
END_TEST

struct seen {
    struct buffer keys;
    int left;
};

static bool note_key(void *context, struct json_span key, struct json_span value)
{
    struct seen *seen = context;
    buffer_printf(&seen->keys, "%.*s=%.*s;", (int)key.size, key.text, (int)value.size, value.text);
    return --seen->left > 0;
}

START_TEST(each_member_in_order)
{
    struct seen all = {.left = 100}, two = {.left = 2}, none = {.left = 1};
    const char *text = "{\"b\" : [1, 2] , \"a\\n\":{} ,\n\"c\":\"}\"}";
    json_each_member(span(text), note_key, &all);
    ck_assert_str_eq(buffer_text(&all.keys), "\"b\"=[1, 2];\"a\\n\"={};\"c\"=\"}\";");
    json_each_member(span(text), note_key, &two);
    ck_assert_str_eq(buffer_text(&two.keys), "\"b\"=[1, 2];\"a\\n\"={};");
    json_each_member(span("{ }"), note_key, &none);
    ck_assert_uint_eq(none.keys.size, 0);
    buffer_done(&all.keys);
    buffer_done(&two.keys);
}
END_TEST

START_TEST(unescapes)
{
    static const struct {
        const char *json, *text;
    } rows[] = {
        {"\"\"", ""},
        {" \"a\"\n", "a"},
        {"\"plain\"", "plain"},
        {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\b\f\n\r\t"},
        {"\"a\\u0041\\u00e9\\u20AC\\uffff\"", "aA\xc3\xa9\xe2\x82\xac\xef\xbf\xbf"},
        {"\"x\\ud83d\\uDE00y\\udbff\\udfff\"", "x\xf0\x9f\x98\x80y\xf4\x8f\xbf\xbf"},
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        size_t size;
        char *text = json_unescape(span(rows[i].json), &size);
        ck_assert_msg(strcmp(text, rows[i].text) == 0, "%s: %s", rows[i].json, text);
        ck_assert_msg(size == strlen(rows[i].text), "%s: %zu", rows[i].json, size);
        free(text);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("base/json");
    TCase *tests = tcase_create("json");
    tcase_add_test(tests, accepted);
    tcase_add_test(tests, refused);
    tcase_add_test(tests, bytes_behind_the_size_do_not_count);
    tcase_add_test(tests, depth_has_a_limit);
    tcase_add_test(tests, duplicates_in_objects_of_every_size);
    tcase_add_test(tests, kinds);
    tcase_add_test(tests, paths);
    tcase_add_test(tests, members);
    tcase_add_test(tests, each_member_in_order);
    tcase_add_test(tests, unescapes);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
