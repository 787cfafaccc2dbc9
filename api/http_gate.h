/* The byte gate before the parser: finds the end of a head (or of a trailer section) and refuses
 * what parsers differ about: control characters, CR or LF alone, lines that begin with a blank or a
 * colon; and what is too large.
 *
 * It looks at one byte at a time, so what it says depends on the bytes alone and never on how they
 * were split into reads. The rules are those of RFC 9112 §2.2 and §5.2; why they matter, §11.2.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "api/http_options.h"

enum http_gate_state {
    HTTP_GATE_BEFORE,    /* empty lines before a request are skipped (RFC 9112 §2.2) */
    HTTP_GATE_BEFORE_LF, /* in such an empty line */
    HTTP_GATE_METHOD,
    HTTP_GATE_TARGET,
    HTTP_GATE_VERSION,
    HTTP_GATE_LINE_LF, /* a CR was seen, only LF may follow */
    HTTP_GATE_LINE_START,
    HTTP_GATE_FIELD,
    HTTP_GATE_END_LF, /* in the empty line that ends the head */
    HTTP_GATE_END,
};

struct http_gate {
    enum http_gate_state state;
    size_t bytes;  /* seen so far, empty lines before included */
    size_t target; /* bytes of the target so far */
    int fields;
};

void http_gate_init(struct http_gate *gate);
/* For a trailer section, which begins where a field may begin. */
void http_gate_init_trailer(struct http_gate *gate);
/* Looks at up to `n` bytes, adds to `*used` how many, and stops behind the end of the head (state
 * HTTP_GATE_END). Returns 0, or the HTTP status to refuse with: 400, 414 or 431. */
int http_gate_feed(struct http_gate *gate, const struct http_options *options, const char *bytes,
                   size_t n, size_t *used);
