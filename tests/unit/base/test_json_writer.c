/* The writing half of base/json.h: commas, escapes, the order of keys, and that json_check accepts
 * the outcome. */
#include "base/json.h"

#include <signal.h>
#include <string.h>

#include "tests/unit/unit.h"

#define ROWS(table) (sizeof(table) / sizeof((table)[0]))

START_TEST(a_document)
{
    struct buffer out = {0};
    struct json_writer writer;
    struct id id;
    ck_assert(id_parse("0199f0c2-1234-7abc-9def-0123456789ab", 36, &id));
    json_writer_init(&writer, &out);
    json_begin_object(&writer);
    json_key(&writer, "array");
    json_begin_array(&writer);
    json_int(&writer, 1);
    json_begin_array(&writer);
    json_end_array(&writer);
    json_begin_object(&writer);
    json_end_object(&writer);
    json_null(&writer);
    json_end_array(&writer);
    json_key_time(&writer, "created", 1795468221663651);
    json_key_bool(&writer, "done", false);
    json_key_id(&writer, "id", &id);
    json_key_string(&writer, "name", "etl \"daily\"");
    json_key_string(&writer, "node", NULL);
    json_key(&writer, "object");
    json_begin_object(&writer);
    json_key_int(&writer, "a", 2);
    json_key_unordered(&writer, "Z\n", 2);
    json_bool(&writer, true);
    json_end_object(&writer);
    json_key_raw(&writer, "payload", "{ \"z\": 1.0 }", 12);
    json_key_int(&writer, "retries", -3);
    json_end_object(&writer);
    ck_assert_str_eq(buffer_text(&out),
                     "{\"array\":[1,[],{},null],\"created\":\"2026-11-23T21:10:21.663651+00:00\","
                     "\"done\":false,\"id\":\"0199f0c2-1234-7abc-9def-0123456789ab\","
                     "\"name\":\"etl \\\"daily\\\"\",\"node\":null,\"object\":{\"a\":2,"
                     "\"Z\\n\":true},\"payload\":{ \"z\": 1.0 },\"retries\":-3}");
    ck_assert_int_eq(json_check(out.data, out.size, NULL), 0);
    buffer_done(&out);
}
END_TEST

START_TEST(integers)
{
    static const struct {
        int64_t value;
        const char *text;
    } rows[] = {
        {0, "0"},
        {7, "7"},
        {-10, "-10"},
        {INT64_C(9007199254740993), "9007199254740993"},
        {INT64_MAX, "9223372036854775807"},
        {INT64_MIN, "-9223372036854775808"},
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        struct buffer out = {0};
        struct json_writer writer;
        json_writer_init(&writer, &out);
        json_int(&writer, rows[i].value);
        ck_assert_str_eq(buffer_text(&out), rows[i].text);
        buffer_done(&out);
    }
}
END_TEST

START_TEST(strings)
{
    static const struct {
        const char *text;
        size_t size;
        const char *strict, *lossy; /* NULL: not for this one */
    } rows[] = {
        {"", 0, "\"\"", "\"\""},
        {"plain", 5, "\"plain\"", "\"plain\""},
        {"\"\\/", 3, "\"\\\"\\\\/\"", "\"\\\"\\\\/\""},
        {"\b\f\n\r\t\x01\x1f\x7f", 8, "\"\\b\\f\\n\\r\\t\\u0001\\u001f\x7f\"",
         "\"\\b\\f\\n\\r\\t\\u0001\\u001f\x7f\""},
        {"caf\xc3\xa9 \xf0\x9f\x98\x80", 10, "\"caf\xc3\xa9 \xf0\x9f\x98\x80\"",
         "\"caf\xc3\xa9 \xf0\x9f\x98\x80\""},
        {"a\0b", 3, NULL,
         "\"a\xef\xbf\xbd"
         "b\""},
        {"\xff\"\xc3", 3, NULL, "\"\xef\xbf\xbd\\\"\xef\xbf\xbd\""},
        {"\xed\xa0\x80", 3, NULL, "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""},
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        struct buffer out = {0};
        struct json_writer writer;
        json_writer_init(&writer, &out);
        json_string_lossy(&writer, rows[i].text, rows[i].size);
        ck_assert_str_eq(buffer_text(&out), rows[i].lossy);
        ck_assert_msg(json_check(out.data, out.size, NULL) == 0, "row %zu", i);
        if (rows[i].strict != NULL) {
            buffer_clear(&out);
            json_writer_init(&writer, &out);
            json_string_n(&writer, rows[i].text, rows[i].size);
            ck_assert_str_eq(buffer_text(&out), rows[i].strict);
            size_t size;
            char *back = json_unescape((struct json_span){out.data, out.size}, &size);
            ck_assert_msg(size == rows[i].size && memcmp(back, rows[i].text, size) == 0, "row %zu",
                          i);
            free(back);
        }
        buffer_done(&out);
    }
}
END_TEST

START_TEST(wrong_order_of_keys_aborts)
{
    struct buffer out = {0};
    struct json_writer writer;
    json_writer_init(&writer, &out);
    json_begin_object(&writer);
    json_key_int(&writer, "status", 1);
    json_key_int(&writer, "name", 2);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("base/json writer");
    TCase *tests = tcase_create("json writer");
    tcase_add_test(tests, a_document);
    tcase_add_test(tests, integers);
    tcase_add_test(tests, strings);
#ifndef NDEBUG
    tcase_add_test_raise_signal(tests, wrong_order_of_keys_aborts, SIGABRT);
#endif
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
