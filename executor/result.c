#include "executor/result.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/memory.h"

/* Insignificant white space of RFC 8259 §2. */
static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static struct json_span trimmed(const char *bytes, size_t size)
{
    while (size > 0 && is_blank(bytes[size - 1]))
        size--;
    while (size > 0 && is_blank(*bytes)) {
        bytes++;
        size--;
    }
    return (struct json_span){bytes, size};
}

static struct result taken_from(struct buffer *buffer)
{
    size_t size = buffer->size;
    return (struct result){buffer_take(buffer), size};
}

static struct result text_as_string(const char *bytes, size_t size)
{
    struct buffer buffer = {0};
    struct json_writer writer;
    if (size > 0 && bytes[size - 1] == '\n')
        size--;
    json_writer_init(&writer, &buffer);
    json_string_lossy(&writer, bytes, size);
    return taken_from(&buffer);
}

int result_read(enum result_source source, const char *bytes, size_t size, size_t max_bytes,
                struct result *result, struct error *error)
{
    struct json_span json = trimmed(bytes, size);
    struct error syntax;

    if (source != RESULT_NONE && size > max_bytes)
        return error_set(error, -EFBIG, "the result is larger than %zu bytes", max_bytes);
    if (source == RESULT_NONE || json.size == 0) {
        *result = (struct result){0};
    } else if (json_check(json.text, json.size, &syntax) == 0) {
        *result = (struct result){mem_text_n(json.text, json.size), json.size};
    } else if (source == RESULT_STDOUT) {
        *result = text_as_string(bytes, size);
    } else {
        return error_set(error, -EINVAL, "the result is no JSON: %s", syntax.text);
    }
    return 0;
}

/* The last lines; a newline at the very end ends the last line and begins none. */
static struct json_span last_lines(const char *text, size_t size, int lines)
{
    size_t start = size;
    if (start > 0 && text[start - 1] == '\n')
        start--;
    for (; start > 0; start--)
        if (text[start - 1] == '\n' && --lines == 0)
            break;
    return (struct json_span){text + start, size - start};
}

struct result result_of_failure(const char *exception, const char *stderr_text, size_t size)
{
    struct json_span traceback = last_lines(stderr_text, size, RESULT_TRACEBACK_LINES);
    struct buffer buffer = {0};
    struct json_writer writer;
    json_writer_init(&writer, &buffer);
    json_begin_object(&writer);
    json_key(&writer, "exception");
    json_string_lossy(&writer, exception, strlen(exception));
    json_key(&writer, "traceback");
    json_string_lossy(&writer, traceback.text, traceback.size);
    json_end_object(&writer);
    return taken_from(&buffer);
}

void result_exit_text(int exit_status, int signal, char text[RESULT_REASON_SIZE])
{
    const char *name = sigabbrev_np(signal);
    if (signal == 0)
        snprintf(text, RESULT_REASON_SIZE, "exit status %d", exit_status);
    else if (name)
        snprintf(text, RESULT_REASON_SIZE, "killed by signal %d (SIG%s)", signal, name);
    else
        snprintf(text, RESULT_REASON_SIZE, "killed by signal %d", signal);
}
