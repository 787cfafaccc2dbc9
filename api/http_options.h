/* What one client, or all of them together, may take from the HTTP server. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct http_options {
    size_t max_target_bytes;  /* of the request target: 414 */
    size_t max_head_bytes;    /* of request line and fields, and again of a trailer section: 431 */
    int max_fields;           /* header fields: 431 */
    size_t max_body_bytes;    /* of one body: 413; see http_parser.h for how chunks count */
    size_t max_bodies_bytes;  /* of all bodies held at a time: 503 */
    size_t max_replies_bytes; /* of all replies that are not sent yet: 503 */
    mode_t socket_mode;       /* permissions of a unix socket: to connect is to write to it */
    int max_connections;      /* lowered to half of RLIMIT_NOFILE where that is less */
    int max_pipelined;        /* requests of one connection in flight; more wait unread */
    int64_t head_timeout_ms;  /* from the first byte of a request to the end of its head: 408 */
    int64_t body_timeout_ms;  /* from there to the end of its body: 408 */
    int64_t idle_timeout_ms;  /* between requests: closed */
    int64_t stalled_timeout_ms; /* a reply of which the client takes not one byte: closed */
};

/* RFC 9112 §3 recommends room for a request line of 8000 bytes at least. Payloads are small: more
 * than a megabyte belongs into a store of its own. 64 such bodies may be held at a time, and as
 * much of replies.
 * Times are those of common servers: long enough for a bad mobile line, short enough that slow
 * clients cannot hold all connections. */
#define HTTP_OPTIONS_DEFAULT                              \
    ((struct http_options){.max_target_bytes = 8 << 10,   \
                           .max_head_bytes = 16 << 10,    \
                           .max_fields = 100,             \
                           .max_body_bytes = 1 << 20,     \
                           .max_bodies_bytes = 64 << 20,  \
                           .max_replies_bytes = 64 << 20, \
                           .socket_mode = 0660,           \
                           .max_connections = 1024,       \
                           .max_pipelined = 16,           \
                           .head_timeout_ms = 10 * 1000,  \
                           .body_timeout_ms = 30 * 1000,  \
                           .idle_timeout_ms = 75 * 1000,  \
                           .stalled_timeout_ms = 30 * 1000})
