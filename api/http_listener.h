/* A listening socket: TCP on a numeric address, or a unix socket.
 *
 * Its owner accepts when it is told that somebody waits, one connection a call, and stops listening
 * when it has no room or no file descriptors: so neither a full server nor a flood of connections
 * keeps the loop turning.
 */
#pragma once

#include <sys/types.h>
#include <uv.h>

#include "base/error.h"

struct http_listener;

typedef void (*http_listener_cb)(struct http_listener *listener, void *context);

/* Binds to `127.0.0.1:8000`, `[::1]:8000` or `unix:/path`; port 0 is any free port. A socket file
 * that nobody answers at is replaced; one that somebody does, or a file of another kind, is an
 * error; `socket_mode` is its permissions. Errors begin with the address. `on_ready` is called,
 * between start and stop, while connections wait. */
int http_listener_open(struct http_listener **listener, uv_loop_t *loop, const char *address,
                       mode_t socket_mode, http_listener_cb on_ready, void *context,
                       struct error *error);

/* The address with its actual port. */
const char *http_listener_address(const struct http_listener *listener);

void http_listener_start(struct http_listener *listener);
void http_listener_stop(struct http_listener *listener);

/* The next waiting connection, non-blocking and close-on-exec; -EAGAIN when none waits; or why it
 * failed. */
int http_listener_accept(struct http_listener *listener);

/* Closes the socket, removes its file if it has one, and calls `on_closed` from the loop, when the
 * listener is gone already. */
void http_listener_close(struct http_listener *listener, void (*on_closed)(void *context));
