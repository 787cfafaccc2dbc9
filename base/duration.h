/* Durations as people write them: `90`, `1.5`, `90s`, `15m`, `1h30m`, `250ms`, `2d`. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define DURATION_TEXT_SIZE 48

/* A number with an optional fraction and `ms`, `s`, `m`, `h` or `d`, or several such, each unit
 * once and larger before smaller; a bare number is seconds. Never negative; at most 100 years. The
 * unit of the answer is microseconds; finer digits are an error. `-EINVAL`. */
int duration_parse(const char *text, int64_t *us, struct error *error);
/* Days, hours, minutes and seconds as far as they are not zero, and what is below a minute as one
 * decimal number (in milliseconds when below a second): `1m30s`, `1.5s`, `250ms`, `0s`.
 * duration_parse reads it back to the same value. A negative difference gets a `-` in front, for
 * people only. */
void duration_format(int64_t us, char text[DURATION_TEXT_SIZE]);
