/* The text that travels with a failure, from where it is known to where somebody reads it.
 *
 * A function that can fail returns 0 or a negative errno value and fills a `struct error *`, its
 * last parameter. Lower floors add what they know in front ("etl.yml:12:5: …"); only the edge logs
 * it or sends it.
 */
#pragma once

#include <stdarg.h>

struct error {
    int code;        /* the negative errno value that was returned, 0 when there is no error */
    char text[1024]; /* whole sentence without a final stop; cut with "…" where it is too long */
};

/* Notes the failure and returns `code`, so that callers write `return error_set(error, -EINVAL,
 * "…")`. `error` may be NULL where nobody wants the text. */
int error_set(struct error *error, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
int error_set_v(struct error *error, int code, const char *format, va_list args)
    __attribute__((format(printf, 3, 0)));
/* Puts "PREFIX: " in front of the text; returns error->code (-EINVAL where `error` is NULL). */
int error_wrap(struct error *error, const char *format, ...) __attribute__((format(printf, 2, 3)));
