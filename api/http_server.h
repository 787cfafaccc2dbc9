/* The HTTP server: HTTP/1.1 and 1.0 as an origin server (RFC 9110, RFC 9112) on one libuv loop.
 *
 * It accepts, parses, keeps the replies of a connection in the order of its requests and holds
 * every client to the limits of http_options.h; what a request means is the handler's business (see
 * http_request.h). Everything happens on the loop's thread. The server logs what happens to its
 * listeners; what a client does wrong goes to the client. The process must ignore SIGPIPE.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "api/http_options.h"
#include "api/http_request.h"
#include "base/error.h"

struct http_server;

/* Listens on every address (NULL-terminated list): `127.0.0.1:8000`, `[::1]:8000`,
 * `unix:/run/directord/api.sock`. Port 0 is any free port. A socket file that nobody answers at is
 * replaced. `handler` is called for every request with `context` in request->context. The options
 * are copied. The error names the address: `127.0.0.1:8000: address already in use`. */
int http_server_open(struct http_server **server, uv_loop_t *loop,
                     const struct http_options *options, const char *const *addresses,
                     http_handler handler, void *context, struct error *error);

/* The address of the listener at `index` (from 0) with its actual port; NULL past the last. */
const char *http_server_address(const struct http_server *server, size_t index);

typedef void (*http_server_cb)(void *context);

/* Stops listening and closes idle connections; requests under way are finished, their replies say
 * `Connection: close`. `on_stopped` (may be NULL) is called from the loop when no connection is
 * left, unless http_server_close comes first. */
void http_server_stop(struct http_server *server, http_server_cb on_stopped, void *context);

/* Closes everything at once and calls `on_closed` (may be NULL) from the loop; the server is gone
 * by then. Requests whose handlers have not replied yet stay valid until they do. */
void http_server_close(struct http_server *server, http_server_cb on_closed, void *context);

/* Counters since the start, for the metrics. */
struct http_stats {
    int connections;      /* open now */
    size_t bodies_bytes;  /* held now */
    size_t replies_bytes; /* held now */
    uint64_t accepted;    /* connections */
    uint64_t requests;    /* refused ones included */
    uint64_t replies[6];  /* by class: [2] counts 2xx */
    uint64_t evicted;     /* idle connections closed to make room */
    uint64_t timed_out;   /* connections closed by a limit of time */
};

const struct http_stats *http_server_stats(struct http_server *server);
