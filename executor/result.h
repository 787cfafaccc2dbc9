/* The result of an attempt as JSON text, of success and of failure. */
#pragma once

#include <stddef.h>

#include "base/error.h"
#include "executor/executor.h"

struct result {
    char *text; /* NUL-terminated, to be freed; NULL stands for null */
    size_t size;
};

/* What a task that ended well has written to its result's source, blanks around it cut off. Nothing
 * but blanks is null. -EFBIG when there are over `max_bytes`, -EINVAL when it is no JSON (never for
 * RESULT_STDOUT: that becomes a string without its last newline, U+FFFD for what is no text). */
int result_read(enum result_source source, const char *bytes, size_t size, size_t max_bytes,
                struct result *result, struct error *error);

#define RESULT_TRACEBACK_LINES 20
/* `{"exception": …, "traceback": the last lines of `stderr_text`}`. */
struct result result_of_failure(const char *exception, const char *stderr_text, size_t size);

#define RESULT_REASON_SIZE 64
/* `exit status 2` or `killed by signal 9 (SIGKILL)`. */
void result_exit_text(int exit_status, int signal, char text[RESULT_REASON_SIZE]);
