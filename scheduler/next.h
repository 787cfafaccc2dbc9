/* `directord --next`: shows when an expression fires, by the code that the scheduler fires with. */
#pragma once

#include <stdio.h>

/* `arguments` is the command line behind `--next`: the expression (a crontab, or an interval such
 * as `90s`), then
 * `--timezone Z`, `--from RFC3339` (else now), `--count N`, `--day-match any|all` in any order,
 * each also as
 * `--name=value`. Prints the first instants after `--from` to `out`, RFC 3339 in UTC, one a line;
 * an interval counts from `--from`. Returns the exit status: 1, with one line on `err`, for a bad
 * command line or expression and for one that never fires. */
int next_print(int count, char *const *arguments, FILE *out, FILE *err);
