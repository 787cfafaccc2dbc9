/* Connections of the HTTP server over socket pairs, without listeners: what a test writes is there
 * at once, so a few turns of the loop bring everything to rest and nothing has to wait. */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/http_connection.h"
#include "api/http_pool.h"
#include "base/buffer.h"
#include "tests/unit/unit.h"

struct fixture {
    uv_loop_t loop;
    struct http_pool pool;
    struct buffer received; /* by the last fixture_receive */
};

static inline void fixture_ignore(struct http_pool *pool)
{
    (void)pool;
}

static inline void fixture_init(struct fixture *fixture, http_handler handler, void *context)
{
    signal(SIGPIPE, SIG_IGN);
    memset(fixture, 0, sizeof(*fixture));
    uv_loop_init(&fixture->loop);
    fixture->pool.loop = &fixture->loop;
    fixture->pool.options = HTTP_OPTIONS_DEFAULT;
    fixture->pool.handler = handler;
    fixture->pool.context = context;
    fixture->pool.load = http_load_new(fixture->pool.options.max_bodies_bytes,
                                       fixture->pool.options.max_replies_bytes);
    fixture->pool.on_room = fixture_ignore;
    fixture->pool.on_empty = fixture_ignore;
}

static inline void fixture_turn(struct fixture *fixture)
{
    for (int i = 0; i < 8; i++)
        uv_run(&fixture->loop, UV_RUN_NOWAIT);
}

static inline void fixture_done(struct fixture *fixture)
{
    http_pool_close(&fixture->pool);
    fixture_turn(fixture);
    ck_assert_int_eq(fixture->pool.handles, 0);
    ck_assert_int_eq(uv_loop_close(&fixture->loop), 0);
    ck_assert_uint_eq(fixture->pool.load->bodies_bytes, 0);
    ck_assert_uint_eq(fixture->pool.load->replies_bytes, 0);
    ck_assert_uint_eq(fixture->pool.load->holders, 1);
    http_load_release(fixture->pool.load);
    buffer_done(&fixture->received);
}

/* The client's end of a new connection; close it. */
static inline int fixture_connect(struct fixture *fixture)
{
    int fds[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    http_connection_open(&fixture->pool, fds[0]);
    return fds[1];
}

static inline void fixture_send(struct fixture *fixture, int client, const char *text)
{
    ck_assert_int_eq(write(client, text, strlen(text)), (ssize_t)strlen(text));
    fixture_turn(fixture);
}

/* Removes the lines that differ from run to run. */
static inline void fixture_drop_dates(struct buffer *text)
{
    char *date;
    while ((date = strstr((char *)buffer_text(text), "Date: ")) != NULL) {
        char *next = strchr(date, '\n') + 1;
        memmove(date, next, strlen(next) + 1);
        text->size -= next - date;
    }
}

/* What has come, without Date fields; behind it `<end>` when the server has shut down its side. */
static inline const char *fixture_receive(struct fixture *fixture, int client)
{
    char bytes[4096];
    ssize_t n;
    fixture_turn(fixture);
    buffer_clear(&fixture->received);
    while ((n = read(client, bytes, sizeof(bytes))) > 0) {
        buffer_add(&fixture->received, bytes, n);
        fixture_turn(fixture);
    }
    fixture_drop_dates(&fixture->received);
    if (n == 0 || errno == ECONNRESET)
        buffer_add_text(&fixture->received, "<end>");
    return buffer_text(&fixture->received);
}
