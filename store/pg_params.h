/* The parameters of one call to a prepared statement, in PostgreSQL's binary format.
 *
 * The functions append in order: $1, $2, … Between pg_params_array_begin and pg_params_array_end
 * the same functions append elements of that array instead, so a column of a batch is a loop:
 *
 *     pg_params_array_begin(params, PG_ID);
 *     for (…)
 *         pg_params_id(params, &item->id);
 *     pg_params_array_end(params);
 *
 * All bytes lie in one buffer. Zero-initialised is empty and valid. An element of another type than
 * its array's, or more than PG_MAX_PARAMS parameters, is a mistake in the program and aborts.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/id.h"
#include "base/json.h"

/* The values are the OIDs of pg_type.dat, which never change. */
enum pg_type {
    PG_BOOL = 16,
    PG_BYTES = 17, /* bytea */
    PG_INT8 = 20,
    PG_INT4 = 23,
    PG_TEXT = 25,
    PG_JSON = 114,
    PG_TIME = 1184, /* timestamptz */
    PG_ID = 2950,   /* uuid */
    PG_JSON_ARRAY = 199,
    PG_BOOL_ARRAY = 1000,
    PG_BYTES_ARRAY = 1001,
    PG_INT4_ARRAY = 1007,
    PG_TEXT_ARRAY = 1009,
    PG_INT8_ARRAY = 1016,
    PG_TIME_ARRAY = 1185,
    PG_ID_ARRAY = 2951,
};

#define PG_MAX_PARAMS 32

struct pg_param {
    enum pg_type type; /* 0: NULL, which fits every type */
    size_t offset;     /* of the first byte in the buffer */
    int size;          /* -1: NULL */
};

struct pg_params {
    struct buffer bytes;
    int count;
    struct pg_param params[PG_MAX_PARAMS];
    enum pg_type element; /* of the open array, else 0 */
    int element_count;
    int null_count; /* elements that are NULL */
};

void pg_params_null(struct pg_params *params);
void pg_params_bool(struct pg_params *params, bool value);
void pg_params_int4(struct pg_params *params, int32_t value);
void pg_params_int8(struct pg_params *params, int64_t value);
void pg_params_id(struct pg_params *params, const struct id *id); /* NULL: NULL */
void pg_params_text(struct pg_params *params, const char *text);  /* NULL: NULL */
void pg_params_text_n(struct pg_params *params, const char *text, size_t n);
void pg_params_bytes(struct pg_params *params, const void *bytes, size_t n);
void pg_params_json(struct pg_params *params, struct json_span json); /* text NULL: NULL */
void pg_params_time(struct pg_params *params, int64_t at_us);         /* since 1970 */
/* `element` is the type of one element, PG_ID for uuid[]. Arrays have one dimension. One of nothing
 * but NULLs goes as NULL: beside others it unnests to the same, and a batch has many such columns.
 */
void pg_params_array_begin(struct pg_params *params, enum pg_type element);
void pg_params_array_end(struct pg_params *params);

/* Changes a bool that is there already; `index` is 0-based. */
void pg_params_set_bool(struct pg_params *params, int index, bool value);
void pg_params_clear(struct pg_params *params); /* empty, memory kept */
void pg_params_done(struct pg_params *params);  /* empty, memory freed */
