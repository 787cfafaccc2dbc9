/* One connection of a link, from its beginning to its end: made in the thread pool, polled on the
 * loop, ended in the thread pool. Includes libpq, so only store/ uses it.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <uv.h>

#include "store/pg_link.h"
#include "store/pg_session.h"

struct pg_connection_events {
    /* Comes once, unless dropped before; with a failure, or with NULL when the connection can be
     * used. */
    void (*on_open)(void *owner, const struct pg_failure *failure);
    void (*on_readable)(void *owner);
    void (*on_unwritable)(void *owner); /* a flush failed */
    void (*on_gone)(void *owner);       /* the last call, after pg_connection_drop */
};

struct pg_connection {
    struct pg_session session;
    const struct pg_link_options *options;
    int statement_timeout_ms;
    const struct pg_connection_events *events;
    void *owner;
    uv_poll_t poll;
    int polled; /* the events asked for */
    uv_work_t work;
    atomic_bool give_up;
    bool opening;
    bool polling;
    bool dropped;
    int code; /* of the attempt, with its failure */
    struct pg_failure failure;
};

/* `options` must live until on_gone. */
struct pg_connection *pg_connection_open(const struct pg_link_options *options,
                                         int statement_timeout_ms,
                                         const struct pg_connection_events *events, void *owner);
/* Sends what is buffered, or waits for room. 0, or -1 when the connection is broken. */
int pg_connection_flush(struct pg_connection *connection);
/* Ends the connection from any state; on_gone comes later. `cancel` also asks the server to stop
 * what it is doing. */
void pg_connection_drop(struct pg_connection *connection, bool cancel);
