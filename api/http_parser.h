/* The parser: bytes of a connection in, requests out.
 *
 * llhttp reads the syntax; before it stands a byte gate (http_gate.h) and behind it the checks that
 * RFC 9112 asks of an origin server and llhttp leaves out or takes loosely. A head is collected
 * whole before llhttp sees it, so that the same bytes give the same requests, or the same refusal,
 * however they were split into reads.
 *
 * A body may have max_body_bytes. A chunked one is also counted as it comes over the wire, with the
 * sizes, extensions and line ends around its data: max_body_bytes + max_head_bytes at most. Past
 * either it is refused with 413.
 */
#pragma once

#include <stddef.h>

#include "api/http_options.h"
#include "api/http_request.h"

struct http_parser;

/* `options` must outlive the parser; `load` counts the bodies of all parsers together. */
struct http_parser *http_parser_new(const struct http_options *options, struct http_load *load);
/* A request whose head was given out is not the parser's any more and stays. */
void http_parser_free(struct http_parser *parser);

enum http_event {
    HTTP_EVENT_NONE, /* all bytes taken, more are needed */
    HTTP_EVENT_HEAD, /* *request is new and now the caller's; the parser goes on filling its body */
    HTTP_EVENT_DONE, /* the body of that request is complete */
    HTTP_EVENT_REFUSE, /* http_parser_status says why; the parser takes nothing more */
};

/* Takes bytes from `*at` up to `end`, moves `*at` behind those taken, and stops at the first event.
 * Call it again after HTTP_EVENT_HEAD even when no bytes are left: a request without a body is done
 * at once. */
enum http_event http_parser_feed(struct http_parser *parser, const char **at, const char *end,
                                 struct http_request **request);

/* The status of the reply to a refused request. */
int http_parser_status(const struct http_parser *parser);

enum http_phase {
    HTTP_PHASE_IDLE, /* between requests */
    HTTP_PHASE_HEAD,
    HTTP_PHASE_BODY,
    HTTP_PHASE_REFUSED,
};

enum http_phase http_parser_phase(const struct http_parser *parser);
