#include "api/http_request.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "api/http_connection.h"

struct http_load *http_load_new(size_t max_bodies_bytes, size_t max_replies_bytes)
{
    struct http_load *load = mem_new(1, sizeof(*load));
    load->max_bodies_bytes = max_bodies_bytes;
    load->max_replies_bytes = max_replies_bytes;
    load->holders = 1;
    return load;
}

void http_load_release(struct http_load *load)
{
    if (--load->holders == 0)
        free(load);
}

struct http_request *http_request_new(struct http_load *load)
{
    struct http_request *request = mem_new(1, sizeof(*request));
    request->load = load;
    load->holders++;
    request->method_text = request->path = request->query_text = "";
    return request;
}

void http_request_free(struct http_request *request)
{
    if (request == NULL)
        return;
    request->load->bodies_bytes -= request->body.size;
    request->load->replies_bytes -= request->held_bytes;
    http_load_release(request->load);
    buffer_done(&request->body);
    buffer_done(&request->extra_fields);
    buffer_done(&request->reply_head);
    buffer_done(&request->reply_body);
    buffer_done(&request->waiting);
    arena_done(&request->arena);
    free(request->head);
    free(request);
}

const char *http_request_field(const struct http_request *request, const char *name)
{
    for (int i = 0; i < request->field_count; i++) {
        if (strcasecmp(request->fields[i].name, name) == 0)
            return request->fields[i].value;
    }
    return NULL;
}

bool http_request_set_body(struct http_request *request, const char *bytes, size_t n)
{
    struct http_load *load = request->load;
    size_t others = load->bodies_bytes - request->body.size;
    if (others > 0 && others + n > load->max_bodies_bytes)
        return false;
    load->bodies_bytes = others + n;
    buffer_clear(&request->body);
    buffer_add(&request->body, bytes, n);
    return true;
}

bool http_request_gone(const struct http_request *request)
{
    return request->connection == NULL;
}

/* --- the reply's head --- */

/* Status and reason phrase (RFC 9110 §15) of what this server sends; an unlisted status goes
 * without phrase. */
static void add_status(struct buffer *head, int status)
{
    static const struct {
        int status;
        const char *text;
    } known[] = {
        {200, "200 OK"},
        {201, "201 Created"},
        {202, "202 Accepted"},
        {204, "204 No Content"},
        {304, "304 Not Modified"},
        {400, "400 Bad Request"},
        {401, "401 Unauthorized"},
        {403, "403 Forbidden"},
        {404, "404 Not Found"},
        {405, "405 Method Not Allowed"},
        {408, "408 Request Timeout"},
        {409, "409 Conflict"},
        {413, "413 Content Too Large"},
        {414, "414 URI Too Long"},
        {415, "415 Unsupported Media Type"},
        {417, "417 Expectation Failed"},
        {422, "422 Unprocessable Content"},
        {429, "429 Too Many Requests"},
        {431, "431 Request Header Fields Too Large"},
        {500, "500 Internal Server Error"},
        {501, "501 Not Implemented"},
        {503, "503 Service Unavailable"},
        {505, "505 HTTP Version Not Supported"},
    };
    for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++) {
        if (known[i].status == status) {
            buffer_add_text(head, known[i].text);
            return;
        }
    }
    buffer_printf(head, "%d ", status);
}

static void add_field(struct buffer *head, const char *name, const char *value)
{
    buffer_add_text(head, name);
    buffer_add_text(head, ": ");
    buffer_add_text(head, value);
    buffer_add_text(head, "\r\n");
}

static bool may_have_body(int status)
{
    return status >= 200 && status != 204 && status != 304;
}

/* How the reply's end is found (RFC 9112 §6.3): by its length, by chunks, or in HTTP/1.0 by the
 * connection's end. */
static void add_framing(struct http_request *request, struct buffer *head)
{
    char length[24];
    if (request->events != NULL) {
        if (request->chunked)
            add_field(head, "Transfer-Encoding", "chunked");
    } else if (may_have_body(request->status)) {
        snprintf(length, sizeof(length), "%zu", request->reply_body.size);
        add_field(head, "Content-Length", length);
    }
}

void http_reply_make_head(struct http_request *request, const char *date)
{
    struct buffer *head = &request->reply_head;
    buffer_add_text(head, "HTTP/1.1 ");
    add_status(head, request->status);
    buffer_add_text(head, "\r\n");
    add_field(head, "Date", date);
    if (request->content_type != NULL)
        add_field(head, "Content-Type", request->content_type);
    add_framing(request, head);
    if (!request->keep_alive)
        add_field(head, "Connection", "close");
    else if (request->minor_zero)
        add_field(head, "Connection", "keep-alive");
    buffer_add(head, request->extra_fields.data, request->extra_fields.size);
    buffer_add_text(head, "\r\n");
    if (request->method == METHOD_HEAD || !may_have_body(request->status))
        buffer_clear(&request->reply_body);
    request->head_made = true;
}

/* --- what handlers call --- */

void http_reply_field(struct http_request *request, const char *name, const char *format, ...)
{
    struct buffer *fields = &request->extra_fields;
    buffer_add_text(fields, name);
    buffer_add_text(fields, ": ");
    size_t value = fields->size;
    va_list args;
    va_start(args, format);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    va_start(args, format);
    vsnprintf(buffer_reserve(fields, n + 1), n + 1, format, args);
    va_end(args);
    fields->size += n;
    for (size_t i = value; i < fields->size; i++) {
        if ((unsigned char)fields->data[i] < ' ' || fields->data[i] == 0x7f)
            fields->data[i] = ' ';
    }
    buffer_add_text(fields, "\r\n");
}

bool http_reply_fits(const struct http_request *request, size_t bytes)
{
    const struct http_load *load = request->load;
    size_t others = load->replies_bytes - request->held_bytes;
    return others == 0 || others + bytes <= load->max_replies_bytes;
}

void http_reply_hold(struct http_request *request, size_t bytes)
{
    request->load->replies_bytes += bytes - request->held_bytes;
    request->held_bytes = bytes;
}

/* The last act of a reply: the connection sends and frees the request, or nobody waits for it. */
static void finish(struct http_request *request)
{
    request->state = HTTP_REQUEST_REPLIED;
    if (request->connection == NULL)
        http_request_free(request);
    else
        http_connection_on_reply(request->connection);
}

void http_reply(struct http_request *request, int status, const char *content_type,
                struct buffer *body)
{
    assert(request->state == HTTP_REQUEST_HANDLING);
    request->status = status;
    request->content_type = content_type;
    if (body != NULL) {
        http_reply_hold(request, body->size);
        request->reply_body = *body;
        *body = (struct buffer){0};
    }
    finish(request);
}

bool http_stream_begin(struct http_request *request, int status, const char *content_type,
                       const struct http_stream_events *events, void *context)
{
    assert(request->state == HTTP_REQUEST_HANDLING);
    request->state = HTTP_REQUEST_STREAMING;
    request->status = status;
    request->content_type = content_type;
    request->events = events;
    request->events_context = context;
    request->chunked = !request->minor_zero;
    request->keep_alive = request->keep_alive && request->chunked;
    if (request->connection == NULL)
        return false;
    http_connection_on_reply(request->connection);
    return true;
}

size_t http_stream_write(struct http_request *request, const char *bytes, size_t n)
{
    assert(request->state == HTTP_REQUEST_STREAMING);
    if (request->connection == NULL || request->method == METHOD_HEAD)
        return 0;
    if (request->chunked && n > 0) /* a chunk of size 0 would end the body */
        buffer_printf(&request->waiting, "%zx\r\n", n);
    buffer_add(&request->waiting, bytes, n);
    if (request->chunked && n > 0)
        buffer_add_text(&request->waiting, "\r\n");
    http_connection_on_reply(request->connection);
    size_t waits = request->waiting.size + request->reply_body.size;
    request->drain_due = waits > 0;
    return waits;
}

void http_stream_end(struct http_request *request)
{
    assert(request->state == HTTP_REQUEST_STREAMING);
    if (request->chunked && request->method != METHOD_HEAD)
        buffer_add_text(&request->waiting, "0\r\n\r\n");
    finish(request);
}

void http_stream_abort(struct http_request *request)
{
    assert(request->state == HTTP_REQUEST_STREAMING);
    request->state = HTTP_REQUEST_REPLIED;
    if (request->connection == NULL)
        http_request_free(request);
    else
        http_connection_abort(request->connection);
}

void http_stream_take_waiting(struct http_request *request)
{
    if (request->reply_body.size > 0 || request->waiting.size == 0)
        return;
    struct buffer empty = request->reply_body;
    request->reply_body = request->waiting;
    request->waiting = empty;
}
