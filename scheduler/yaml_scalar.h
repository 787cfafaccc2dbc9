/* What an unquoted scalar means: the core schema of YAML 1.2.2 (§10.3.2).
 *
 * So `yes`, `no`, `on` and `off` are text, as are time stamps and `1_000`; `0o17` is octal.
 */
#pragma once

#include <stddef.h>

#include "base/buffer.h"
#include "base/error.h"

enum yaml_kind {
    YAML_NULL,
    YAML_BOOL,
    YAML_INT,
    YAML_FLOAT,
    YAML_TEXT,
    YAML_LIST,
    YAML_MAPPING,
};

/* `a number`, `a list`, … for messages. */
const char *yaml_kind_text(enum yaml_kind kind);

/* The kind of a plain scalar: any but YAML_LIST and YAML_MAPPING. */
enum yaml_kind yaml_scalar_kind(const char *text, size_t size);

/* Appends the JSON number that a scalar of kind YAML_INT or YAML_FLOAT means, digit for digit
 * (9007199254740993 survives); hexadecimal and octal become decimal. -EINVAL for what JSON cannot
 * say (`.inf`, `.nan`), for what does not fit in 64 bits in another base, and for leading zeros,
 * which YAML 1.1 read as octal and 1.2 does not. */
int yaml_scalar_number(const char *text, struct buffer *out, struct error *error);
