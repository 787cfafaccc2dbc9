#include "api/reply.h"

#include <stdarg.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"

/* Such a reply is never refused: it takes no more than its request does. */
#define SMALL_REPLY_BYTES 4096

static void send_json(struct http_request *request, int status, struct buffer *json)
{
    buffer_add_char(json, '\n');
    http_reply(request, status, "application/json", json);
}

bool reply_fits(const struct http_request *request, size_t bytes)
{
    bool is_read = request->method == METHOD_GET || request->method == METHOD_HEAD;
    return !is_read || http_reply_fits(request, bytes);
}

void reply_json(struct http_request *request, int status, struct buffer *json)
{
    if (json->size > SMALL_REPLY_BYTES && !reply_fits(request, json->size)) {
        buffer_done(json);
        reply_busy(request);
        return;
    }
    send_json(request, status, json);
}

void reply_errors(struct http_request *request, int status, const char *text,
                  const char *const *reasons, size_t count)
{
    struct buffer json = {0};
    struct json_writer writer;
    json_writer_init(&writer, &json);
    json_begin_object(&writer);
    json_key(&writer, "error");
    json_string_lossy(&writer, text, strlen(text));
    if (count > 0) {
        json_key(&writer, "errors");
        json_begin_array(&writer);
        for (size_t i = 0; i < count; i++)
            json_string_lossy(&writer, reasons[i], strlen(reasons[i]));
        json_end_array(&writer);
    }
    json_end_object(&writer);
    send_json(request, status, &json);
}

__attribute__((format(printf, 3, 0))) static void
reply_error_v(struct http_request *request, int status, const char *format, va_list args)
{
    struct error error;
    error_set_v(&error, 0, format, args);
    reply_errors(request, status, error.text, NULL, 0);
}

void reply_error(struct http_request *request, int status, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    reply_error_v(request, status, format, args);
    va_end(args);
}

void reply_unavailable(struct http_request *request, int retry_after_s, const char *format, ...)
{
    va_list args;
    http_reply_field(request, "Retry-After", "%d", retry_after_s);
    va_start(args, format);
    reply_error_v(request, 503, format, args);
    va_end(args);
}

void reply_crowded(struct http_request *request)
{
    reply_unavailable(request, 1, "Too many bodies are held at a time");
}

void reply_busy(struct http_request *request)
{
    buffer_clear(&request->extra_fields); /* they were for another reply */
    reply_unavailable(request, 1, "Too many replies wait for their clients");
}
