/* JSON: checked and passed through, never re-serialised.
 *
 * What a user sent is kept as the bytes that came (64-bit integers, key order, `1.0`). So there are
 * three tools and no tree: a strict check, a search for a member inside checked text, and a writer
 * for what the daemon says itself.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "base/id.h"

#define JSON_MAX_DEPTH 64

/* A piece of JSON text: not NUL-terminated, not owned. `text` is NULL where nothing was found. */
struct json_span {
    const char *text;
    size_t size;
};

/* Is this one JSON value (RFC 8259) that PostgreSQL and every client can hold? Refused beside bad
 * syntax: duplicate keys in an object (compared after unescaping), invalid UTF-8, lone surrogates,
 * `\u0000`, nesting over JSON_MAX_DEPTH, NaN and Infinity. The error says line, column and reason.
 * Linear time (duplicate keys by hash), bounded stack. `-EINVAL`. */
int json_check(const char *text, size_t size, struct error *error);

enum json_kind {
    JSON_NULL,
    JSON_FALSE,
    JSON_TRUE,
    JSON_NUMBER,
    JSON_STRING,
    JSON_ARRAY,
    JSON_OBJECT
};

/* These expect text that json_check has accepted. */
enum json_kind json_kind(struct json_span value);
/* The member's value, or {NULL, 0}. `key` is compared after unescaping. */
struct json_span json_member(struct json_span object, const char *key, size_t key_size);
/* `a.b.0.c`: members by name, elements by index; the empty path is the value itself. */
struct json_span json_path(struct json_span value, const char *path, size_t path_size);
/* Calls `each` for every member of an object in order (key still quoted and escaped); stops when it
 * returns false. */
void json_each_member(struct json_span object,
                      bool (*each)(void *context, struct json_span key, struct json_span value),
                      void *context);
/* The text of a string value, unescaped, as new NUL-terminated memory (free() it); `*size` (may be
 * NULL) gets its length. */
char *json_unescape(struct json_span string, size_t *size);
/* A copy without insignificant blanks is never needed; a copy in canonical key order neither. Do
 * not add one. */

/* The writer. Objects are written with keys in the order of the calls, `,` and `:` without blanks;
 * the caller calls in alphabetical order, and a build with NDEBUG unset aborts when it does not. */
struct json_writer {
    struct buffer *out;
    int depth;
    bool comma[JSON_MAX_DEPTH + 1];
    const char *last_key[JSON_MAX_DEPTH + 1]; /* keys given to json_key must outlive their object */
};

void json_writer_init(struct json_writer *writer, struct buffer *out);
void json_begin_object(struct json_writer *writer);
void json_end_object(struct json_writer *writer);
void json_begin_array(struct json_writer *writer);
void json_end_array(struct json_writer *writer);
void json_key(struct json_writer *writer, const char *key);
/* Like json_key, for keys in an order of the user's own. */
void json_key_unordered(struct json_writer *writer, const char *key, size_t size);
/* Escapes `"`, `\` and control characters only; the bytes must be UTF-8 (see json_string_lossy). A
 * NULL `text` is written as null, by json_key_string too. */
void json_string(struct json_writer *writer, const char *text);
void json_string_n(struct json_writer *writer, const char *text, size_t size);
/* The same for bytes of unknown origin: each byte that is no UTF-8, and NUL, becomes U+FFFD. */
void json_string_lossy(struct json_writer *writer, const char *text, size_t size);
void json_int(struct json_writer *writer, int64_t value);
void json_bool(struct json_writer *writer, bool value);
void json_null(struct json_writer *writer);
void json_raw(struct json_writer *writer, const char *text, size_t size); /* already checked JSON */
void json_id(struct json_writer *writer, const struct id *id);
void json_time(struct json_writer *writer, int64_t at_us);
/* Key and value in one call. */
void json_key_string(struct json_writer *writer, const char *key, const char *text);
void json_key_int(struct json_writer *writer, const char *key, int64_t value);
void json_key_bool(struct json_writer *writer, const char *key, bool value);
void json_key_raw(struct json_writer *writer, const char *key, const char *text, size_t size);
void json_key_id(struct json_writer *writer, const char *key, const struct id *id);
void json_key_time(struct json_writer *writer, const char *key, int64_t at_us);
