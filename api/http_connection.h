/* One connection: reads requests, hands them to the handler, and sends the replies in the order of
 * the requests.
 *
 * A connection is a queue of requests in the order in which they came. The first is the one whose
 * reply is due on the wire; the last may still be reading its body. A reply that is ready early
 * waits in its place. A connection goes on reading while fewer than max_pipelined requests are in
 * the queue and the client takes what it is sent; else the rest stays in the kernel's buffers (and
 * what was read already, in `held`).
 *
 * It ends in one of two ways. The usual one: the last reply has gone, our side is shut down, and
 * what the client still sends is read and thrown away until it closes too, so that the reply is not
 * lost to a reset (RFC 9112 §9.6). The hard one: an error, a client that left or a deadline; the
 * handle is closed at once. Requests that still have a handler at work survive either, without a
 * connection.
 */
#pragma once

#include <stdbool.h>
#include <uv.h>

#include "api/http_parser.h"
#include "api/http_pool.h"
#include "api/http_request.h"

/* What a connection is waiting to read; each but the first has a deadline. */
enum http_wait { HTTP_WAIT_NONE, HTTP_WAIT_IDLE, HTTP_WAIT_HEAD, HTTP_WAIT_BODY, HTTP_WAIT_LINGER };

struct http_connection {
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    };
    struct http_pool *pool;
    struct http_connection *prev, *next; /* in pool->idle or pool->busy */
    struct http_parser *parser;
    struct http_request *first, *last;
    int in_flight;      /* requests in the queue */
    struct buffer held; /* read but not parsed yet */
    uv_write_t write;
    int sending; /* requests whose replies end in what is being written */
    size_t unsent_bytes;
    enum http_wait wait;
    int64_t read_deadline_ms; /* by the loop's clock, as is the next */
    int64_t write_deadline_ms;
    bool idle;      /* in pool->idle */
    bool reading;   /* libuv is */
    bool writing;   /* libuv is */
    bool pumping;   /* on the stack already */
    bool ended;     /* the client sends nothing more */
    bool no_more;   /* no further request is taken; what comes is thrown away */
    bool finished;  /* the last reply was sent */
    bool lingering; /* our side is shut down */
    bool closing;
};

/* Takes over the connected socket `fd`. */
void http_connection_open(struct http_pool *pool, int fd);
/* Closes at once. */
void http_connection_close(struct http_connection *connection);
/* Closes at once, with a reset where there is one: so that even what ends with the connection
 * (HTTP/1.0) does not look complete. */
void http_connection_abort(struct http_connection *connection);
/* A request of it has a reply, or more of one. */
void http_connection_on_reply(struct http_connection *connection);

/* Acts on its deadlines, as far as they have passed at `now_ms` (uv_now's clock). */
void http_connection_check_deadlines(struct http_connection *connection, int64_t now_ms);
