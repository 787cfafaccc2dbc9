/* The rows of a reply, read from PostgreSQL's binary format by row and column (both 0-based).
 *
 * What a reader returns points into the reply and is valid until the reply callback returns. Asking
 * for a column that the statement does not have, or as a type that it is not, is a mistake in the
 * program and aborts.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/id.h"
#include "base/json.h"

struct pg_rows {
    struct pg_result *result; /* libpq's PGresult */
};

int pg_rows_count(const struct pg_rows *rows);
/* The column's index; look it up once, before the loop over the rows. */
int pg_rows_column(const struct pg_rows *rows, const char *name);

bool pg_rows_null(const struct pg_rows *rows, int row, int column);
/* The value readers take NULL as false, 0, the null id, {NULL, 0}, or NULL. */
bool pg_rows_bool(const struct pg_rows *rows, int row, int column);
int64_t pg_rows_int(const struct pg_rows *rows, int row, int column); /* int2, int4, int8 */
struct id pg_rows_id(const struct pg_rows *rows, int row, int column);
/* text, varchar, name, the label of an enum, or bytea; NUL-terminated. */
const char *pg_rows_text(const struct pg_rows *rows, int row, int column);
size_t pg_rows_size(const struct pg_rows *rows, int row, int column); /* bytes of the value */
struct json_span pg_rows_json(const struct pg_rows *rows, int row,
                              int column);                             /* json, not jsonb */
int64_t pg_rows_time(const struct pg_rows *rows, int row, int column); /* µs since 1970 */

/* A one-dimensional array without NULL elements, read from front to back:
 *
 *     for (struct pg_array array = pg_rows_array(rows, row, column); array.left > 0;)
 *         use(pg_array_int(&array));
 */
struct pg_array {
    int left; /* elements still to read; an SQL NULL has none */
    const unsigned char *at;
};

struct pg_array pg_rows_array(const struct pg_rows *rows, int row, int column);
int64_t pg_array_int(struct pg_array *array);
struct id pg_array_id(struct pg_array *array);
/* Not NUL-terminated. */
struct json_span pg_array_text(struct pg_array *array);
