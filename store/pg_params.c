#include "store/pg_params.h"

#include <endian.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* PostgreSQL counts time from 2000-01-01T00:00:00Z. */
#define PG_EPOCH_US INT64_C(946684800000000)

/* Array header (array_send in arrayfuncs.c): dimensions, has-null flag, element type; then length
 * and lower bound of the one dimension. An empty array has no dimension. */
#define ARRAY_HEADER 12
#define ARRAY_DIMENSION 8

static void fail(const char *reason)
{
    fprintf(stderr, "pg_params: %s\n", reason);
    abort();
}

static void add_int32(struct pg_params *params, int32_t value)
{
    uint32_t wire = htobe32((uint32_t)value);
    buffer_add(&params->bytes, &wire, sizeof(wire));
}

static void put_int32(struct pg_params *params, size_t offset, int32_t value)
{
    uint32_t wire = htobe32((uint32_t)value);
    memcpy(params->bytes.data + offset, &wire, sizeof(wire));
}

static struct pg_param *add_param(struct pg_params *params, enum pg_type type, int size)
{
    if (params->count == PG_MAX_PARAMS)
        fail("too many parameters");
    struct pg_param *param = &params->params[params->count++];
    *param = (struct pg_param){.type = type, .offset = params->bytes.size, .size = size};
    return param;
}

/* A parameter of its own, or the next element of the open array. */
static void add_value(struct pg_params *params, enum pg_type type, const void *bytes, size_t size)
{
    if (size > INT_MAX)
        fail("value over 2 GiB");
    if (params->element == 0) {
        add_param(params, type, (int)size);
    } else {
        if (type != params->element)
            fail("element of another type than its array");
        params->element_count++;
        add_int32(params, (int32_t)size);
    }
    buffer_add(&params->bytes, bytes, size);
}

void pg_params_null(struct pg_params *params)
{
    if (params->element == 0) {
        add_param(params, 0, -1);
        return;
    }
    params->element_count++;
    params->null_count++;
    add_int32(params, -1);
}

void pg_params_bool(struct pg_params *params, bool value)
{
    add_value(params, PG_BOOL, value ? "\1" : "\0", 1);
}

void pg_params_int4(struct pg_params *params, int32_t value)
{
    uint32_t wire = htobe32((uint32_t)value);
    add_value(params, PG_INT4, &wire, sizeof(wire));
}

void pg_params_int8(struct pg_params *params, int64_t value)
{
    uint64_t wire = htobe64((uint64_t)value);
    add_value(params, PG_INT8, &wire, sizeof(wire));
}

void pg_params_id(struct pg_params *params, const struct id *id)
{
    if (id == NULL)
        pg_params_null(params);
    else
        add_value(params, PG_ID, id->bytes, sizeof(id->bytes));
}

void pg_params_text(struct pg_params *params, const char *text)
{
    if (text == NULL)
        pg_params_null(params);
    else
        add_value(params, PG_TEXT, text, strlen(text));
}

void pg_params_text_n(struct pg_params *params, const char *text, size_t n)
{
    add_value(params, PG_TEXT, text, n);
}

void pg_params_bytes(struct pg_params *params, const void *bytes, size_t n)
{
    add_value(params, PG_BYTES, bytes, n);
}

void pg_params_json(struct pg_params *params, struct json_span json)
{
    if (json.text == NULL)
        pg_params_null(params);
    else
        add_value(params, PG_JSON, json.text, json.size);
}

void pg_params_time(struct pg_params *params, int64_t at_us)
{
    uint64_t wire = htobe64((uint64_t)(at_us - PG_EPOCH_US));
    add_value(params, PG_TIME, &wire, sizeof(wire));
}

static enum pg_type array_of(enum pg_type element)
{
    switch (element) {
    case PG_BOOL:
        return PG_BOOL_ARRAY;
    case PG_BYTES:
        return PG_BYTES_ARRAY;
    case PG_INT4:
        return PG_INT4_ARRAY;
    case PG_INT8:
        return PG_INT8_ARRAY;
    case PG_TEXT:
        return PG_TEXT_ARRAY;
    case PG_JSON:
        return PG_JSON_ARRAY;
    case PG_TIME:
        return PG_TIME_ARRAY;
    case PG_ID:
        return PG_ID_ARRAY;
    default:
        fail("array of a type that has none");
        return 0;
    }
}

void pg_params_array_begin(struct pg_params *params, enum pg_type element)
{
    if (params->element != 0)
        fail("array within an array");
    add_param(params, array_of(element), 0);
    params->element = element;
    params->element_count = 0;
    params->null_count = 0;
    memset(buffer_reserve(&params->bytes, ARRAY_HEADER + ARRAY_DIMENSION), 0,
           ARRAY_HEADER + ARRAY_DIMENSION);
    params->bytes.size += ARRAY_HEADER + ARRAY_DIMENSION;
}

void pg_params_array_end(struct pg_params *params)
{
    if (params->element == 0)
        fail("end of an array that was not begun");
    struct pg_param *param = &params->params[params->count - 1];
    enum pg_type element = params->element;
    bool empty = params->element_count == 0;

    params->element = 0;
    if (!empty && params->null_count == params->element_count) {
        params->bytes.size = param->offset;
        *param = (struct pg_param){.offset = param->offset, .size = -1};
        return;
    }
    if (empty)
        params->bytes.size -= ARRAY_DIMENSION;
    put_int32(params, param->offset, empty ? 0 : 1);
    put_int32(params, param->offset + 4, params->null_count > 0);
    put_int32(params, param->offset + 8, (int32_t)element);
    if (!empty) {
        put_int32(params, param->offset + 12, params->element_count);
        put_int32(params, param->offset + 16, 1); /* SQL arrays begin at 1 */
    }
    if (params->bytes.size - param->offset > INT_MAX)
        fail("array over 2 GiB");
    param->size = (int)(params->bytes.size - param->offset);
}

void pg_params_set_bool(struct pg_params *params, int index, bool value)
{
    if (index < 0 || index >= params->count || params->params[index].type != PG_BOOL)
        fail("no bool at that place");
    params->bytes.data[params->params[index].offset] = value;
}

void pg_params_clear(struct pg_params *params)
{
    buffer_clear(&params->bytes);
    params->count = 0;
    params->element = 0;
}

void pg_params_done(struct pg_params *params)
{
    buffer_done(&params->bytes);
    params->count = 0;
    params->element = 0;
}
