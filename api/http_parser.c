#include "api/http_parser.h"

#include <llhttp.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "api/http_gate.h"
#include "base/memory.h"

/* What the next byte belongs to. */
enum part {
    PART_HEAD,
    PART_BODY,
    PART_TRAILER,
    PART_DONE, /* the request is whole, which the caller has not been told yet */
    PART_REFUSED,
};

struct http_parser {
    llhttp_t llhttp;
    const struct http_options *options;
    struct http_load *load;
    enum part part;
    struct http_gate gate;
    struct buffer collected;      /* head or trailer section so far */
    struct http_request *request; /* borrowed once its head was given out */
    struct http_field *fields;    /* of the request */
    size_t wire_left;             /* bytes that the body may still take, chunk sizes and all */
    bool last_chunk;              /* the chunk of size 0 was read */
    bool complete;                /* llhttp has seen the end of the message */
    int status;                   /* of a refusal, 0 before */
};

/* --- what llhttp calls --- */

static int refuse(struct http_parser *parser, int status)
{
    parser->status = status;
    return HPE_USER;
}

/* The names that frame a message or say where it goes mean nothing in a trailer section, and
 * whoever put them there hopes that somebody reads them after all (RFC 9110 §6.5.1). */
static bool is_forbidden_in_trailer(const char *name, size_t n)
{
    static const char *const names[] = {"Content-Length", "Transfer-Encoding", "Host"};
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        if (strlen(names[i]) == n && strncasecmp(names[i], name, n) == 0)
            return true;
    }
    return false;
}

static int on_header_field(llhttp_t *llhttp, const char *at, size_t n)
{
    struct http_parser *parser = llhttp->data;
    if (parser->part == PART_TRAILER)
        return is_forbidden_in_trailer(at, n) ? refuse(parser, 400) : 0;
    struct http_request *request = parser->request;
    if (request->field_count == parser->gate.fields) /* the room made for them */
        return refuse(parser, 400);
    parser->fields[request->field_count++] = (struct http_field){.name = at};
    return 0;
}

static int on_header_value(llhttp_t *llhttp, const char *at, size_t n)
{
    struct http_parser *parser = llhttp->data;
    if (parser->part == PART_HEAD && n > 0)
        parser->fields[parser->request->field_count - 1].value = at;
    return 0;
}

static int on_headers_complete(llhttp_t *llhttp)
{
    struct http_parser *parser = llhttp->data;
    parser->request->keep_alive = llhttp_should_keep_alive(llhttp);
    return 0;
}

static int on_chunk_header(llhttp_t *llhttp)
{
    struct http_parser *parser = llhttp->data;
    if (llhttp->content_length > parser->options->max_body_bytes - parser->request->body.size)
        return refuse(parser, 413);
    if (llhttp->content_length != 0)
        return 0;
    parser->last_chunk = true;
    return HPE_PAUSED;
}

static int on_body(llhttp_t *llhttp, const char *at, size_t n)
{
    struct http_parser *parser = llhttp->data;
    if (parser->load->bodies_bytes + n > parser->load->max_bodies_bytes)
        return refuse(parser, 503);
    parser->load->bodies_bytes += n;
    buffer_add(&parser->request->body, at, n);
    return 0;
}

static int on_message_complete(llhttp_t *llhttp)
{
    struct http_parser *parser = llhttp->data;
    parser->complete = true;
    return HPE_PAUSED;
}

static const llhttp_settings_t settings = {
    .on_header_field = on_header_field,
    .on_header_value = on_header_value,
    .on_headers_complete = on_headers_complete,
    .on_chunk_header = on_chunk_header,
    .on_body = on_body,
    .on_message_complete = on_message_complete,
};

/* --- the head --- */

static bool is_token(const char *text, size_t n)
{
    static const char others[] = "!#$%&'*+-.^_`|~";
    for (size_t i = 0; i < n; i++) {
        char c = text[i];
        bool alphanumeric = (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z');
        if (!alphanumeric && memchr(others, c, sizeof(others) - 1) == NULL)
            return false;
    }
    return n > 0;
}

/* Visible ASCII; a fragment is never sent (RFC 9112 §3.2). */
static bool is_target(const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (text[i] <= ' ' || text[i] >= 0x7f || text[i] == '#')
            return false;
    }
    return n > 0;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* `METHOD target HTTP/1.1` with one blank each: what llhttp would also take (more blanks, no
 * version, RTSP) is an old way to make two servers see two requests. Returns 0 or the status to
 * refuse with. */
static int check_request_line(const char *line, struct http_request *request)
{
    size_t size = strcspn(line, "\r");
    const char *blank = memchr(line, ' ', size);
    if (blank == NULL || !is_token(line, blank - line))
        return 400;
    const char *target = blank + 1;
    const char *version = memchr(target, ' ', line + size - target);
    if (version == NULL || !is_target(target, version - target))
        return 400;
    version++;
    if (line + size - version != 8 || memcmp(version, "HTTP/", 5) != 0 || !is_digit(version[5]) ||
        version[6] != '.' || !is_digit(version[7]))
        return 400;
    request->minor_zero = version[7] == '0';
    return version[5] == '1' && version[7] <= '1' ? 0 : 505;
}

static enum http_method method_of(uint8_t method)
{
    switch (method) {
    case HTTP_DELETE:
        return METHOD_DELETE;
    case HTTP_GET:
        return METHOD_GET;
    case HTTP_HEAD:
        return METHOD_HEAD;
    case HTTP_OPTIONS:
        return METHOD_OPTIONS;
    case HTTP_PATCH:
        return METHOD_PATCH;
    case HTTP_POST:
        return METHOD_POST;
    case HTTP_PUT:
        return METHOD_PUT;
    default:
        return METHOD_OTHER;
    }
}

/* Path and query of the target, whose end is marked with NUL. Of the absolute form, which a server
 * has to take (RFC 9112 §3.2.2), the path is all that counts here. */
static int split_target(struct http_request *request, char *target)
{
    if (strncasecmp(target, "http://", 7) == 0 || strncasecmp(target, "https://", 8) == 0) {
        target = strchr(target, ':') + 3;
        target += strcspn(target, "/?");
    }
    char *query = strchr(target, '?');
    if (query != NULL)
        *query++ = '\0';
    request->query_text = query != NULL ? query : "";
    request->path = *target == '\0' ? "/" : target;
    bool whole_server = strcmp(target, "*") == 0 && request->method == METHOD_OPTIONS;
    return *request->path == '/' || whole_server ? 0 : 400;
}

/* Marks the ends of all texts in the head with NUL, in place of the byte behind each, now that
 * nobody parses it. */
static int end_texts(struct http_parser *parser, char *line)
{
    struct http_request *request = parser->request;
    for (int i = 0; i < request->field_count; i++) {
        struct http_field *field = &parser->fields[i];
        *strchr(field->name, ':') = '\0';
        if (field->value == NULL) {
            field->value = "";
            continue;
        }
        char *end = strchr(field->value, '\r');
        while (end > field->value && (end[-1] == ' ' || end[-1] == '\t'))
            end--;
        *end = '\0';
    }
    char *target = strchr(line, ' ');
    *target++ = '\0';
    *strchr(target, ' ') = '\0';
    request->method_text = line;
    return split_target(request, target);
}

/* uri-host [ ":" port ] (RFC 9110 §7.2) as far as characters go; it may be empty. */
static bool is_host(const char *text)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                  "-._~!$&'()*+,;=%:[]";
    return text[strspn(text, allowed)] == '\0';
}

/* `name` in lower case. */
static bool field_is(const struct http_field *field, const char *name)
{
    return (field->name[0] | 0x20) == name[0] && strcasecmp(field->name, name) == 0;
}

/* The fields that say where a message goes and where it ends, each as strict as RFC 9112 lets a
 * server be. */
static int check_fields(struct http_parser *parser)
{
    struct http_request *request = parser->request;
    int hosts = 0, lengths = 0, encodings = 0;
    bool sound = true, unknown_expectation = false;
    for (int i = 0; i < request->field_count; i++) {
        const struct http_field *field = &request->fields[i];
        if (field_is(field, "host")) {
            hosts++;
            sound = sound && is_host(field->value);
        } else if (field_is(field, "content-length")) {
            lengths++;
        } else if (field_is(field, "transfer-encoding")) {
            encodings++;
            sound = sound && strcasecmp(field->value, "chunked") == 0;
        } else if (field_is(field, "upgrade")) {
            sound = false;
        } else if (field_is(field, "expect") && !request->minor_zero) {
            request->wants_continue = strcasecmp(field->value, "100-continue") == 0;
            unknown_expectation = unknown_expectation || !request->wants_continue;
        }
    }
    bool one_host = hosts == 1 || (hosts == 0 && request->minor_zero);
    bool one_frame = lengths + encodings <= 1 && !(encodings > 0 && request->minor_zero);
    if (!sound || !one_host || !one_frame || strcmp(request->method_text, "CONNECT") == 0)
        return 400;
    if (unknown_expectation)
        return 417;
    bool has_body = encodings > 0 || parser->llhttp.content_length > 0;
    request->wants_continue = request->wants_continue && has_body;
    return parser->llhttp.content_length > parser->options->max_body_bytes ? 413 : 0;
}

/* The collected head becomes a request. Returns 0 or the status to refuse with. */
static int parse_head(struct http_parser *parser)
{
    struct http_request *request = http_request_new(parser->load);
    size_t size = parser->collected.size;
    parser->request = request;
    parser->fields = arena_new(&request->arena, parser->gate.fields, sizeof(*parser->fields));
    request->fields = parser->fields;
    request->head = buffer_take(&parser->collected);
    size_t blank = strspn(request->head, "\r\n");
    char *line = request->head + blank;
    int status = check_request_line(line, request);
    if (status != 0)
        return status;

    llhttp_init(&parser->llhttp, HTTP_REQUEST, &settings);
    parser->llhttp.data = parser;
    parser->complete = false;
    llhttp_errno_t result = llhttp_execute(&parser->llhttp, line, size - blank);
    if (result == HPE_INVALID_METHOD)
        return 501;
    if (result != (parser->complete ? HPE_PAUSED : HPE_OK))
        return 400;
    request->method = method_of(parser->llhttp.method);
    status = end_texts(parser, line);
    return status != 0 ? status : check_fields(parser);
}

/* --- the states --- */

static enum http_event refuse_with(struct http_parser *parser, int status)
{
    parser->status = status;
    parser->part = PART_REFUSED;
    buffer_done(&parser->collected);
    return HTTP_EVENT_REFUSE;
}

static void begin_head(struct http_parser *parser)
{
    parser->part = PART_HEAD;
    parser->request = NULL;
    http_gate_init(&parser->gate);
}

/* Takes bytes until the gate says that the section (head or trailer) is whole. */
static int collect(struct http_parser *parser, const char **at, const char *end)
{
    size_t used = 0;
    int status = http_gate_feed(&parser->gate, parser->options, *at, end - *at, &used);
    buffer_add(&parser->collected, *at, used);
    *at += used;
    return status;
}

static enum http_event feed_head(struct http_parser *parser, const char **at, const char *end,
                                 struct http_request **request)
{
    int status = collect(parser, at, end);
    if (status != 0)
        return refuse_with(parser, status);
    if (parser->gate.state != HTTP_GATE_END)
        return HTTP_EVENT_NONE;
    status = parse_head(parser);
    if (status != 0) {
        http_request_free(parser->request);
        parser->request = NULL;
        return refuse_with(parser, status);
    }
    parser->part = parser->complete ? PART_DONE : PART_BODY;
    parser->last_chunk = false;
    parser->wire_left = parser->options->max_body_bytes + parser->options->max_head_bytes;
    *request = parser->request;
    return HTTP_EVENT_HEAD;
}

static enum http_event feed_trailer(struct http_parser *parser, const char **at, const char *end)
{
    int status = collect(parser, at, end);
    if (status != 0)
        return refuse_with(parser, status);
    if (parser->gate.state != HTTP_GATE_END)
        return HTTP_EVENT_NONE;
    llhttp_resume(&parser->llhttp);
    llhttp_execute(&parser->llhttp, parser->collected.data, parser->collected.size);
    buffer_done(&parser->collected); /* an idle connection holds nothing */
    if (!parser->complete)
        return refuse_with(parser, parser->status != 0 ? parser->status : 400);
    begin_head(parser);
    return HTTP_EVENT_DONE;
}

static enum http_event feed_body(struct http_parser *parser, const char **at, const char *end)
{
    size_t n = end - *at;
    if (n == 0)
        return HTTP_EVENT_NONE;
    if (n > parser->wire_left)
        n = parser->wire_left;
    parser->request->wants_continue = false; /* it did not wait */
    llhttp_errno_t result = llhttp_execute(&parser->llhttp, *at, n);
    if (parser->status != 0)
        return refuse_with(parser, parser->status);
    if (result != HPE_OK && result != HPE_PAUSED)
        return refuse_with(parser, 400);
    size_t used = result == HPE_OK ? n : (size_t)(llhttp_get_error_pos(&parser->llhttp) - *at);
    *at += used;
    parser->wire_left -= used;
    if (parser->complete) {
        begin_head(parser);
        return HTTP_EVENT_DONE;
    }
    if (parser->last_chunk) {
        parser->part = PART_TRAILER;
        http_gate_init_trailer(&parser->gate);
        return HTTP_EVENT_NONE;
    }
    return *at < end ? refuse_with(parser, 413) : HTTP_EVENT_NONE;
}

enum http_event http_parser_feed(struct http_parser *parser, const char **at, const char *end,
                                 struct http_request **request)
{
    enum http_event event = HTTP_EVENT_NONE;
    do {
        switch (parser->part) {
        case PART_HEAD:
            event = feed_head(parser, at, end, request);
            break;
        case PART_BODY:
            event = feed_body(parser, at, end);
            break;
        case PART_TRAILER:
            event = feed_trailer(parser, at, end);
            break;
        case PART_DONE:
            begin_head(parser);
            return HTTP_EVENT_DONE;
        case PART_REFUSED:
            return HTTP_EVENT_REFUSE;
        }
    } while (event == HTTP_EVENT_NONE && *at < end);
    return event;
}

struct http_parser *http_parser_new(const struct http_options *options, struct http_load *load)
{
    struct http_parser *parser = mem_new(1, sizeof(*parser));
    parser->options = options;
    parser->load = load;
    begin_head(parser);
    return parser;
}

void http_parser_free(struct http_parser *parser)
{
    if (parser == NULL)
        return;
    buffer_done(&parser->collected);
    free(parser);
}

int http_parser_status(const struct http_parser *parser)
{
    return parser->status;
}

enum http_phase http_parser_phase(const struct http_parser *parser)
{
    switch (parser->part) {
    case PART_HEAD:
        return parser->gate.bytes == 0 ? HTTP_PHASE_IDLE : HTTP_PHASE_HEAD;
    case PART_REFUSED:
        return HTTP_PHASE_REFUSED;
    default:
        return HTTP_PHASE_BODY;
    }
}
