#include "store/pg_rows.h"

#include <endian.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PG_EPOCH_US INT64_C(946684800000000) /* 2000-01-01T00:00:00Z */

static void fail(const char *column, const char *reason)
{
    fprintf(stderr, "pg_rows: column \"%s\": %s\n", column, reason);
    abort();
}

static int64_t read_int(const void *bytes, size_t size, const char *column)
{
    uint16_t two;
    uint32_t four;
    uint64_t eight;
    switch (size) {
    case sizeof(two):
        memcpy(&two, bytes, size);
        return (int16_t)be16toh(two);
    case sizeof(four):
        memcpy(&four, bytes, size);
        return (int32_t)be32toh(four);
    case sizeof(eight):
        memcpy(&eight, bytes, size);
        return (int64_t)be64toh(eight);
    default:
        fail(column, "not an integer");
        return 0;
    }
}

/* The value's bytes, or NULL for NULL. `size` -1 takes any. */
static const char *value_of(const struct pg_rows *rows, int row, int column, int size)
{
    if (PQgetisnull(rows->result, row, column))
        return NULL;
    if (size >= 0 && PQgetlength(rows->result, row, column) != size)
        fail(PQfname(rows->result, column), "not of the type that is asked for");
    return PQgetvalue(rows->result, row, column);
}

int pg_rows_count(const struct pg_rows *rows)
{
    return PQntuples(rows->result);
}

int pg_rows_column(const struct pg_rows *rows, const char *name)
{
    for (int column = 0; column < PQnfields(rows->result); column++)
        if (strcmp(PQfname(rows->result, column), name) == 0)
            return column;
    fail(name, "not in the reply");
    return -1;
}

bool pg_rows_null(const struct pg_rows *rows, int row, int column)
{
    return PQgetisnull(rows->result, row, column);
}

bool pg_rows_bool(const struct pg_rows *rows, int row, int column)
{
    const char *value = value_of(rows, row, column, 1);
    return value != NULL && *value != 0;
}

int64_t pg_rows_int(const struct pg_rows *rows, int row, int column)
{
    const char *value = value_of(rows, row, column, -1);
    return value == NULL
               ? 0
               : read_int(value, pg_rows_size(rows, row, column), PQfname(rows->result, column));
}

struct id pg_rows_id(const struct pg_rows *rows, int row, int column)
{
    struct id id = {0};
    const char *value = value_of(rows, row, column, sizeof(id.bytes));
    if (value != NULL)
        memcpy(id.bytes, value, sizeof(id.bytes));
    return id;
}

const char *pg_rows_text(const struct pg_rows *rows, int row, int column)
{
    return value_of(rows, row, column, -1);
}

size_t pg_rows_size(const struct pg_rows *rows, int row, int column)
{
    return (size_t)PQgetlength(rows->result, row, column);
}

struct json_span pg_rows_json(const struct pg_rows *rows, int row, int column)
{
    const char *value = value_of(rows, row, column, -1);
    if (value == NULL)
        return (struct json_span){0};
    return (struct json_span){.text = value, .size = pg_rows_size(rows, row, column)};
}

int64_t pg_rows_time(const struct pg_rows *rows, int row, int column)
{
    const char *value = value_of(rows, row, column, sizeof(int64_t));
    return value == NULL
               ? 0
               : read_int(value, sizeof(int64_t), PQfname(rows->result, column)) + PG_EPOCH_US;
}

/* The layout is described in pg_params.c. */
struct pg_array pg_rows_array(const struct pg_rows *rows, int row, int column)
{
    const char *name = PQfname(rows->result, column);
    const char *value = value_of(rows, row, column, -1);
    if (value == NULL)
        return (struct pg_array){0};
    size_t size = pg_rows_size(rows, row, column);
    if (size < 12 || (read_int(value, 4, name) != 0 && size < 20))
        fail(name, "not an array");
    int64_t dimensions = read_int(value, 4, name);
    if (dimensions == 0)
        return (struct pg_array){0};
    if (dimensions != 1 || read_int(value + 4, 4, name) != 0)
        fail(name, "an array of several dimensions or with NULL elements");
    return (struct pg_array){.left = (int)read_int(value + 12, 4, name),
                             .at = (const unsigned char *)value + 20};
}

static const unsigned char *next_element(struct pg_array *array, size_t *size)
{
    if (array->left == 0)
        fail("", "no element left in the array");
    *size = (size_t)read_int(array->at, 4, "");
    const unsigned char *element = array->at + 4;
    array->at = element + *size;
    array->left--;
    return element;
}

int64_t pg_array_int(struct pg_array *array)
{
    size_t size;
    const unsigned char *element = next_element(array, &size);
    return read_int(element, size, "");
}

struct id pg_array_id(struct pg_array *array)
{
    struct id id;
    size_t size;
    const unsigned char *element = next_element(array, &size);
    if (size != sizeof(id.bytes))
        fail("", "the array's elements are no uuids");
    memcpy(id.bytes, element, sizeof(id.bytes));
    return id;
}

struct json_span pg_array_text(struct pg_array *array)
{
    struct json_span text;
    text.text = (const char *)next_element(array, &text.size);
    return text;
}
