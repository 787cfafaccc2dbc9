/* The connections of one server and what they share: options, counters, the buffer all of them read
 * into.
 *
 * No connection has a timer: it notes its deadlines, and http_pool_sweep looks at all of them once
 * a second.
 */
#pragma once

#include <stdbool.h>
#include <time.h>
#include <uv.h>

#include "api/http_options.h"
#include "api/http_request.h"
#include "api/http_server.h"

struct http_connection;

struct http_pool {
    uv_loop_t *loop;
    struct http_options options;
    http_handler handler;
    void *context;
    struct http_load *load;
    struct http_stats stats;
    struct http_connection *idle; /* between requests, the longest idle first */
    struct http_connection *busy;
    int handles;   /* connections whose handles are not closed yet */
    bool stopping; /* no new requests */
    /* There may be room for one more connection: one was closed or became idle. */
    void (*on_room)(struct http_pool *pool);
    /* The last handle is closed. */
    void (*on_empty)(struct http_pool *pool);
    time_t date_s;
    char date[32];
    char read_buffer[64 * 1024];
};

/* The text of a Date field (RFC 9110 §5.6.7), made once a second. */
const char *http_pool_date(struct http_pool *pool);
/* Acts on the deadlines that have passed at `now_ms` (uv_now's clock). */
void http_pool_sweep(struct http_pool *pool, int64_t now_ms);
/* Closes the connection that has been idle longest; false when none is. */
bool http_pool_evict(struct http_pool *pool);
/* No new requests: closes what is idle. */
void http_pool_stop(struct http_pool *pool);
/* Closes all connections at once; on_empty is called when that is done, if there were any. */
void http_pool_close(struct http_pool *pool);
