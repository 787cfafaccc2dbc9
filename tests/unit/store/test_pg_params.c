#include <libpq-fe.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "store/pg_params.h"
#include "store/pg_rows.h"
#include "tests/unit/unit.h"

static const struct id some_id = {
    {0, 17, 34, 51, 68, 85, 102, 119, 136, 153, 170, 187, 204, 221, 238, 255}};

static void add_bools(struct pg_params *params)
{
    pg_params_bool(params, true);
}
static void add_int4(struct pg_params *params)
{
    pg_params_int4(params, -2);
}
static void add_int8(struct pg_params *params)
{
    pg_params_int8(params, INT64_C(0x0102030405060708));
}
static void add_text(struct pg_params *params)
{
    pg_params_text(params, "dé");
}
static void add_empty_text(struct pg_params *params)
{
    pg_params_text_n(params, "", 0);
}
static void add_json(struct pg_params *params)
{
    pg_params_json(params, (struct json_span){.text = "[1.0]garbage", .size = 5});
}
static void add_time(struct pg_params *params)
{
    pg_params_time(params, INT64_C(946684800000000) + 1);
}
static void add_time_before_2000(struct pg_params *params)
{
    pg_params_time(params, INT64_C(946684800000000) - 1);
}
static void add_id(struct pg_params *params)
{
    pg_params_id(params, &some_id);
}
static void add_empty_array(struct pg_params *params)
{
    pg_params_array_begin(params, PG_ID);
    pg_params_array_end(params);
}
static void add_int4_array(struct pg_params *params)
{
    pg_params_array_begin(params, PG_INT4);
    pg_params_int4(params, 1);
    pg_params_int4(params, 256);
    pg_params_array_end(params);
}
static void add_text_array(struct pg_params *params)
{
    pg_params_array_begin(params, PG_TEXT);
    pg_params_text(params, "a");
    pg_params_text(params, NULL);
    pg_params_text(params, "");
    pg_params_array_end(params);
}

#define BYTES(text) (text), sizeof(text) - 1

static const struct {
    const char *name;
    void (*add)(struct pg_params *params);
    enum pg_type type;
    const char *bytes;
    size_t size;
} encodings[] = {
    {"bool", add_bools, PG_BOOL, BYTES("\1")},
    {"int4", add_int4, PG_INT4, BYTES("\377\377\377\376")},
    {"int8", add_int8, PG_INT8, BYTES("\1\2\3\4\5\6\7\10")},
    {"text", add_text, PG_TEXT, BYTES("d\303\251")},
    {"empty text", add_empty_text, PG_TEXT, BYTES("")},
    {"json", add_json, PG_JSON, BYTES("[1.0]")},
    {"time", add_time, PG_TIME, BYTES("\0\0\0\0\0\0\0\1")},
    {"time before 2000", add_time_before_2000, PG_TIME, BYTES("\377\377\377\377\377\377\377\377")},
    {"id", add_id, PG_ID,
     BYTES("\000\021\042\063\104\125\146\167\210\231\252\273\314\335\356\377")},
    {"empty array", add_empty_array, PG_ID_ARRAY, BYTES("\0\0\0\0\0\0\0\0\0\0\x0b\x86")},
    {"int4 array", add_int4_array, PG_INT4_ARRAY,
     BYTES("\0\0\0\1\0\0\0\0\0\0\0\27\0\0\0\2\0\0\0\1"
           "\0\0\0\4\0\0\0\1\0\0\0\4\0\0\1\0")},
    {"text array", add_text_array, PG_TEXT_ARRAY,
     BYTES("\0\0\0\1\0\0\0\1\0\0\0\31\0\0\0\3\0\0\0\1"
           "\0\0\0\1a\377\377\377\377\0\0\0\0")},
};

START_TEST(encodes_as_postgresql_does)
{
    struct pg_params params = {0};
    pg_params_null(&params); /* so that the offset is checked too */
    pg_params_int4(&params, 7);
    encodings[_i].add(&params);
    ck_assert_int_eq(params.count, 3);
    const struct pg_param *param = &params.params[2];
    ck_assert_msg(
        param->type == encodings[_i].type && param->size == (int)encodings[_i].size &&
            memcmp(params.bytes.data + param->offset, encodings[_i].bytes, encodings[_i].size) == 0,
        "%s: type %d, size %d", encodings[_i].name, (int)param->type, param->size);
    pg_params_done(&params);
}
END_TEST

START_TEST(nulls_have_no_type_and_no_bytes)
{
    struct pg_params params = {0};
    pg_params_null(&params);
    pg_params_id(&params, NULL);
    pg_params_text(&params, NULL);
    pg_params_json(&params, (struct json_span){0});
    pg_params_array_begin(&params, PG_INT4);
    pg_params_null(&params);
    pg_params_null(&params);
    pg_params_array_end(&params);
    ck_assert_int_eq(params.count, 5);
    for (int i = 0; i < params.count; i++) {
        ck_assert_int_eq(params.params[i].type, 0);
        ck_assert_int_eq(params.params[i].size, -1);
    }
    ck_assert_uint_eq(params.bytes.size, 0);
    pg_params_done(&params);
}
END_TEST

START_TEST(clear_starts_anew_and_set_bool_changes_in_place)
{
    struct pg_params params = {0};
    pg_params_text(&params, "gone");
    pg_params_clear(&params);
    pg_params_int4(&params, 1);
    pg_params_bool(&params, false);
    pg_params_set_bool(&params, 1, true);
    ck_assert_int_eq(params.count, 2);
    ck_assert_mem_eq(params.bytes.data, "\0\0\0\1\1", 5);
    pg_params_done(&params);
}
END_TEST

/* The program's mistakes end it. */
START_TEST(element_of_another_type_aborts)
{
    struct pg_params params = {0};
    pg_params_array_begin(&params, PG_INT4);
    pg_params_int8(&params, 1);
}
END_TEST

START_TEST(too_many_parameters_abort)
{
    struct pg_params params = {0};
    for (int i = 0; i <= PG_MAX_PARAMS; i++)
        pg_params_int4(&params, i);
}
END_TEST

/* --- the way back ---------------------------------------------------------------------------- */

/* One row that holds the parameters as columns c0, c1, …, as a server would send them. */
static struct pg_rows rows_of(struct pg_params *params)
{
    PGresult *result = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);
    PGresAttDesc columns[PG_MAX_PARAMS];
    char names[PG_MAX_PARAMS][16];
    memset(columns, 0, sizeof(columns));
    for (int i = 0; i < params->count; i++) {
        snprintf(names[i], sizeof(names[i]), "c%d", i);
        columns[i].name = names[i];
        columns[i].format = 1;
        columns[i].typid = params->params[i].type;
    }
    ck_assert(PQsetResultAttrs(result, params->count, columns));
    for (int i = 0; i < params->count; i++) {
        const struct pg_param *param = &params->params[i];
        char *value = param->size < 0 ? NULL : params->bytes.data + param->offset;
        ck_assert(PQsetvalue(result, 0, i, value, param->size));
    }
    return (struct pg_rows){result};
}

START_TEST(rows_read_what_params_wrote)
{
    struct pg_params params = {0};
    pg_params_bool(&params, true);
    pg_params_int4(&params, INT32_MIN);
    pg_params_int8(&params, INT64_MAX);
    pg_params_id(&params, &some_id);
    pg_params_text(&params, "progress");
    pg_params_json(&params, (struct json_span){.text = "{\"a\":1.0}", .size = 9});
    pg_params_time(&params, INT64_C(1795468221663651));
    struct pg_rows rows = rows_of(&params);
    struct id id = pg_rows_id(&rows, 0, pg_rows_column(&rows, "c3"));
    struct json_span json = pg_rows_json(&rows, 0, 5);

    ck_assert_int_eq(pg_rows_count(&rows), 1);
    ck_assert(pg_rows_bool(&rows, 0, 0));
    ck_assert_int_eq(pg_rows_int(&rows, 0, 1), INT32_MIN);
    ck_assert_int_eq(pg_rows_int(&rows, 0, 2), INT64_MAX);
    ck_assert_int_eq(id_compare(&id, &some_id), 0);
    ck_assert_str_eq(pg_rows_text(&rows, 0, 4), "progress");
    ck_assert_uint_eq(pg_rows_size(&rows, 0, 4), 8);
    ck_assert_uint_eq(json.size, 9);
    ck_assert_mem_eq(json.text, "{\"a\":1.0}", 9);
    ck_assert_int_eq(pg_rows_time(&rows, 0, 6), INT64_C(1795468221663651));
    ck_assert(!pg_rows_null(&rows, 0, 6));
    PQclear(rows.result);
    pg_params_done(&params);
}
END_TEST

START_TEST(rows_read_null_as_nothing)
{
    struct pg_params params = {0};
    pg_params_null(&params);
    struct pg_rows rows = rows_of(&params);
    struct id id = pg_rows_id(&rows, 0, 0);
    ck_assert(pg_rows_null(&rows, 0, 0));
    ck_assert(!pg_rows_bool(&rows, 0, 0));
    ck_assert_int_eq(pg_rows_int(&rows, 0, 0), 0);
    ck_assert_int_eq(pg_rows_time(&rows, 0, 0), 0);
    ck_assert(id_is_null(&id));
    ck_assert_ptr_null(pg_rows_text(&rows, 0, 0));
    ck_assert_ptr_null(pg_rows_json(&rows, 0, 0).text);
    ck_assert_int_eq(pg_rows_array(&rows, 0, 0).left, 0);
    PQclear(rows.result);
    pg_params_done(&params);
}
END_TEST

/* Arrays of every small size, of numbers and ids. */
START_TEST(arrays_come_back_in_order)
{
    struct pg_params params = {0};
    pg_params_array_begin(&params, PG_INT4);
    for (int i = 0; i < _i; i++)
        pg_params_int4(&params, i * i - 5);
    pg_params_array_end(&params);
    pg_params_array_begin(&params, PG_ID);
    for (int i = 0; i < _i; i++) {
        struct id id = id_task(&some_id, i);
        pg_params_id(&params, &id);
    }
    pg_params_array_end(&params);
    struct pg_rows rows = rows_of(&params);
    struct pg_array numbers = pg_rows_array(&rows, 0, 0);
    struct pg_array ids = pg_rows_array(&rows, 0, 1);

    ck_assert_int_eq(numbers.left, _i);
    ck_assert_int_eq(ids.left, _i);
    for (int i = 0; i < _i; i++) {
        struct id expected = id_task(&some_id, i);
        struct id id = pg_array_id(&ids);
        ck_assert_int_eq(pg_array_int(&numbers), i * i - 5);
        ck_assert_int_eq(id_compare(&id, &expected), 0);
    }
    ck_assert_int_eq(numbers.left + ids.left, 0);
    PQclear(rows.result);
    pg_params_done(&params);
}
END_TEST

START_TEST(unknown_column_aborts)
{
    struct pg_params params = {0};
    pg_params_bool(&params, true);
    struct pg_rows rows = rows_of(&params);
    pg_rows_column(&rows, "c1");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("pg_params");
    TCase *tcase = tcase_create("pg_params");
    tcase_add_loop_test(tcase, encodes_as_postgresql_does, 0,
                        sizeof(encodings) / sizeof(encodings[0]));
    tcase_add_test(tcase, nulls_have_no_type_and_no_bytes);
    tcase_add_test(tcase, clear_starts_anew_and_set_bool_changes_in_place);
    tcase_add_test_raise_signal(tcase, element_of_another_type_aborts, SIGABRT);
    tcase_add_test_raise_signal(tcase, too_many_parameters_abort, SIGABRT);
    tcase_add_test(tcase, rows_read_what_params_wrote);
    tcase_add_test(tcase, rows_read_null_as_nothing);
    tcase_add_loop_test(tcase, arrays_come_back_in_order, 0, 9);
    tcase_add_test_raise_signal(tcase, unknown_column_aborts, SIGABRT);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
