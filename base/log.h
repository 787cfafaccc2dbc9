/* The log: one event a line on standard error, with its fields.
 *
 *     log_info("workflow finished", log_id("workflow", &id), log_text("status", "success"));
 *
 * A line says what happened (a constant phrase without a final stop) and carries what it concerns
 * as fields. Only edges log: a function that returns an error does not. Formats: `logfmt`
 * (2026-11-23T21:10:21.663Z info "workflow finished" workflow=… status=success), `journald` (the
 * same without time, behind a `<6>` priority), `json` (one object a line).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/id.h"

enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARNING, LOG_LEVEL_ERROR };
enum log_format { LOG_FORMAT_LOGFMT, LOG_FORMAT_JOURNALD, LOG_FORMAT_JSON };

enum log_field_type { LOG_FIELD_END, LOG_FIELD_TEXT, LOG_FIELD_INT, LOG_FIELD_ID };

struct log_field {
    const char *key; /* lower case, underscores */
    enum log_field_type type;
    const char *text; /* NULL is left out of the line */
    int64_t number;
    struct id id;
};

struct log_field log_text(const char *key, const char *text);
struct log_field log_int(const char *key, int64_t number);
struct log_field log_id(const char *key, const struct id *id);
/* The field `error` with the error's text. */
struct log_field log_error_text(const struct error *error);

/* The process has one log; until log_start it is logfmt at level info. Lines over 16 KiB lose
 * what is too much, and end in `cut=true`. log_start also sets SIGPIPE to be ignored: nothing that
 * happens to standard error ends or stops the process. A reader that blocks it for 100 ms loses
 * lines, and "log lines lost" with their count follows when it is back. */
void log_start(enum log_level level, enum log_format format);
bool log_wants(enum log_level level);
/* `debug`, `info`, `warning` or `error` in any case; else `*known` is false and the answer
 * LOG_LEVEL_INFO. */
enum log_level log_level_parse(const char *text, bool *known);
/* `fields` ends with a zero element. Values are escaped as in JSON, so that no value can pass for a
 * field or a line. One write(2) a line (up to PIPE_BUF); errno is left as it was; any thread may
 * call. */
void log_write(enum log_level level, const char *event, const struct log_field *fields);
/* Where many lines are about to come: this thread's share writes until log_release, up to PIPE_BUF
 * bytes each, since a thousand writes cost milliseconds. A warning or error goes out at once,
 * behind what came before it. Not to be nested. */
void log_hold(void);
void log_release(void);

#define LOG_AT(level, event, ...)                                                               \
    do {                                                                                        \
        if (log_wants(level))                                                                   \
            log_write(level, event, (const struct log_field[]){__VA_ARGS__ __VA_OPT__(, ){0}}); \
    } while (0)
#define log_debug(event, ...) LOG_AT(LOG_LEVEL_DEBUG, event __VA_OPT__(, ) __VA_ARGS__)
#define log_info(event, ...) LOG_AT(LOG_LEVEL_INFO, event __VA_OPT__(, ) __VA_ARGS__)
#define log_warning(event, ...) LOG_AT(LOG_LEVEL_WARNING, event __VA_OPT__(, ) __VA_ARGS__)
#define log_error(event, ...) LOG_AT(LOG_LEVEL_ERROR, event __VA_OPT__(, ) __VA_ARGS__)
