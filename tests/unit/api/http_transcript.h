/* What the parser made of some bytes, as text: for tests that compare one way of splitting them
 * with another. */
#pragma once

#include <stdint.h>

#include "api/http_parser.h"

/* Gives the next piece's size, at least 1. */
typedef size_t (*transcript_cut)(void *context);

static inline void transcript_request(struct buffer *out, const struct http_request *request)
{
    buffer_printf(out, "%s %s", request->method_text, request->path);
    if (*request->query_text != '\0')
        buffer_printf(out, "?%s", request->query_text);
    if (request->body.size > 0) {
        buffer_add_text(out, " \"");
        buffer_add(out, request->body.data, request->body.size);
        buffer_add_char(out, '"');
    }
    if (!request->keep_alive)
        buffer_add_text(out, " close");
    buffer_add_char(out, '\n');
}

static inline void transcript_fields(struct buffer *out, const struct http_request *request)
{
    for (int i = 0; i < request->field_count; i++)
        buffer_printf(out, "  %s: %s\n", request->fields[i].name, request->fields[i].value);
}

/* A line for every complete request, its fields below it if `fields`, and at the end the status of
 * a refusal, or `head` or `body` when the bytes end there. */
static inline void transcript(const struct http_options *options, const char *bytes, size_t size,
                              transcript_cut cut, void *context, bool fields, struct buffer *out)
{
    struct http_load *load = http_load_new(options->max_bodies_bytes, SIZE_MAX);
    struct http_parser *parser = http_parser_new(options, load);
    struct http_request *request = NULL;
    enum http_event event = HTTP_EVENT_NONE;
    for (size_t start = 0; start < size && event != HTTP_EVENT_REFUSE;) {
        size_t piece = cut != NULL ? cut(context) : size;
        /* Each piece in memory of its own, so that a sanitizer sees a read beyond it. */
        size_t n = piece < size - start ? piece : size - start;
        char *copy = mem_text_n(bytes + start, n);
        const char *at = copy;
        start += n;
        do {
            event = http_parser_feed(parser, &at, copy + n, &request);
            if (event == HTTP_EVENT_DONE) {
                transcript_request(out, request);
                if (fields)
                    transcript_fields(out, request);
                http_request_free(request);
                request = NULL;
            }
        } while (event == HTTP_EVENT_HEAD || event == HTTP_EVENT_DONE);
        free(copy);
    }
    if (event == HTTP_EVENT_REFUSE)
        buffer_printf(out, "%d\n", http_parser_status(parser));
    else if (http_parser_phase(parser) == HTTP_PHASE_HEAD)
        buffer_add_text(out, "head\n");
    else if (http_parser_phase(parser) == HTTP_PHASE_BODY)
        buffer_add_text(out, "body\n");
    http_request_free(request);
    http_parser_free(parser);
    http_load_release(load);
}

/* Pieces of 1 to 64 bytes, mostly short ones, from a seed (xorshift). */
static inline size_t transcript_random_cut(void *context)
{
    uint64_t *seed = context;
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed % 3 == 0 ? 1 + (*seed >> 8) % 64 : 1 + (*seed >> 8) % 3;
}
