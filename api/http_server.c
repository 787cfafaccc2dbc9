#include "api/http_server.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "api/http_connection.h"
#include "api/http_listener.h"
#include "api/http_pool.h"
#include "base/log.h"
#include "base/memory.h"

/* Deadlines are seconds; being late by one is no matter. */
#define SWEEP_MS 1000
/* Connections accepted before the loop turns to others. */
#define ACCEPTS_A_TURN 16

struct http_server {
    struct http_pool pool; /* first: pool callbacks find the server by it */
    uv_timer_t sweep;
    struct http_listener **listeners;
    size_t listener_count;
    size_t open_handles; /* the timer and the listeners, until closed */
    bool paused;         /* not listening for want of room or file descriptors */
    bool failing;        /* the last accept failed, and the log says so */
    bool closing;
    http_server_cb on_end; /* of stop, then of close */
    void *end_context;
};

/* --- accepting --- */

static void set_paused(struct http_server *server, bool paused)
{
    if (server->pool.stopping || server->paused == paused)
        return;
    server->paused = paused;
    for (size_t i = 0; i < server->listener_count; i++) {
        if (paused)
            http_listener_stop(server->listeners[i]);
        else
            http_listener_start(server->listeners[i]);
    }
}

static bool is_full(const struct http_server *server)
{
    return server->pool.stats.connections >= server->pool.options.max_connections;
}

static void on_accept_failed(struct http_server *server, struct http_listener *listener, int status)
{
    set_paused(server, true); /* until a connection ends, or the next sweep */
    if (server->failing)
        return;
    server->failing = true;
    log_warning("cannot accept connections, trying again every second",
                log_text("listener", http_listener_address(listener)),
                log_text("error", uv_strerror(status)));
}

/* Accepts one. Returns false when there is no more to do now. */
static bool accept_one(struct http_server *server, struct http_listener *listener)
{
    if (is_full(server) && server->pool.idle == NULL) {
        set_paused(server, true);
        return false;
    }
    int fd = http_listener_accept(listener);
    if (fd == -EAGAIN)
        return false;
    if (fd == -ECONNABORTED || fd == -EINTR)
        return true;
    if (fd < 0) {
        on_accept_failed(server, listener, fd);
        return false;
    }
    server->failing = false;
    if (is_full(server))
        http_pool_evict(&server->pool);
    http_connection_open(&server->pool, fd);
    return true;
}

static void on_ready(struct http_listener *listener, void *context)
{
    for (int i = 0; i < ACCEPTS_A_TURN && accept_one(context, listener); i++)
        ;
}

static void on_room(struct http_pool *pool)
{
    set_paused((struct http_server *)pool, false);
}

static void on_sweep(uv_timer_t *timer)
{
    struct http_server *server = timer->data;
    http_pool_sweep(&server->pool, (int64_t)uv_now(timer->loop));
    if (!is_full(server))
        set_paused(server, false);
}

/* --- the end --- */

/* Something was closed: is it the last thing that stop, or close, waits for? */
static void check_end(struct http_server *server)
{
    size_t left = server->closing ? 0 : 1; /* the timer goes on until close */
    if (!server->pool.stopping || server->open_handles > left || server->pool.handles > 0)
        return;
    http_server_cb on_end = server->on_end;
    void *context = server->end_context;
    server->on_end = NULL;
    if (server->closing) {
        http_load_release(server->pool.load);
        free(server->listeners);
        free(server);
    }
    if (on_end != NULL)
        on_end(context);
}

static void on_empty(struct http_pool *pool)
{
    check_end((struct http_server *)pool);
}

static void on_listener_closed(void *context)
{
    struct http_server *server = context;
    server->open_handles--;
    check_end(server);
}

static void on_timer_closed(uv_handle_t *handle)
{
    on_listener_closed(handle->data);
}

static void close_listeners(struct http_server *server)
{
    for (size_t i = 0; i < server->listener_count; i++)
        http_listener_close(server->listeners[i], on_listener_closed);
    server->listener_count = 0;
}

void http_server_stop(struct http_server *server, http_server_cb on_stopped, void *context)
{
    server->on_end = on_stopped;
    server->end_context = context;
    http_pool_stop(&server->pool);
    close_listeners(server);
}

void http_server_close(struct http_server *server, http_server_cb on_closed, void *context)
{
    server->on_end = on_closed;
    server->end_context = context;
    server->closing = true;
    http_pool_close(&server->pool);
    close_listeners(server);
    uv_close((uv_handle_t *)&server->sweep, on_timer_closed);
}

/* --- the beginning --- */

/* The other half of the file descriptors is for the database, tasks and their output. */
static int cap_connections(int wanted)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur / 2 >= (rlim_t)wanted)
        return wanted;
    int allowed = limit.rlim_cur / 2;
    log_warning("fewer connections than configured, the limit of open files is too low",
                log_int("configured", wanted), log_int("connections", allowed));
    return allowed;
}

static int open_listeners(struct http_server *server, const char *const *addresses,
                          struct error *error)
{
    size_t count = 0;
    while (addresses[count] != NULL)
        count++;
    if (count == 0)
        return error_set(error, -EINVAL, "there is no address to listen at");
    server->listeners = mem_new(count, sizeof(*server->listeners));
    for (size_t i = 0; i < count; i++) {
        int status = http_listener_open(&server->listeners[i], server->pool.loop, addresses[i],
                                        server->pool.options.socket_mode, on_ready, server, error);
        if (status < 0)
            return status;
        server->listener_count++;
        server->open_handles++;
    }
    return 0;
}

int http_server_open(struct http_server **server, uv_loop_t *loop,
                     const struct http_options *options, const char *const *addresses,
                     http_handler handler, void *context, struct error *error)
{
    struct http_server *opened = mem_new(1, sizeof(*opened));
    struct http_pool *pool = &opened->pool;
    pool->loop = loop;
    pool->options = *options;
    pool->options.max_connections = cap_connections(options->max_connections);
    pool->handler = handler;
    pool->context = context;
    pool->load = http_load_new(options->max_bodies_bytes, options->max_replies_bytes);
    pool->on_room = on_room;
    pool->on_empty = on_empty;
    uv_timer_init(loop, &opened->sweep);
    opened->sweep.data = opened;
    opened->open_handles = 1;
    int status = open_listeners(opened, addresses, error);
    if (status < 0) {
        http_server_close(opened, NULL, NULL);
        return status;
    }
    uv_timer_start(&opened->sweep, on_sweep, SWEEP_MS, SWEEP_MS);
    for (size_t i = 0; i < opened->listener_count; i++)
        http_listener_start(opened->listeners[i]);
    *server = opened;
    return 0;
}

const char *http_server_address(const struct http_server *server, size_t index)
{
    return index < server->listener_count ? http_listener_address(server->listeners[index]) : NULL;
}

const struct http_stats *http_server_stats(struct http_server *server)
{
    server->pool.stats.bodies_bytes = server->pool.load->bodies_bytes;
    server->pool.stats.replies_bytes = server->pool.load->replies_bytes;
    return &server->pool.stats;
}
