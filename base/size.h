/* Sizes in bytes as people write them: `4096`, `64KiB`, `1MiB`, `2G`. */
#pragma once

#include <stdint.h>

#include "base/error.h"

#define SIZE_TEXT_SIZE 32

/* A whole number with an optional `B`, `KiB`, `MiB`, `GiB` or just `K`, `M`, `G`, in any case; all
 * are powers of two, and `MB`, which some read as a million, is not understood. Negative numbers
 * are read too; their user says whether they mean something. `-EINVAL`. */
int size_parse(const char *text, int64_t *bytes, struct error *error);
/* In the largest unit that leaves a whole number: `64KiB`, `100B`. size_parse reads it back. */
void size_format(int64_t bytes, char text[SIZE_TEXT_SIZE]);
