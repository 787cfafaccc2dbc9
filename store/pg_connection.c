#include "store/pg_connection.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/memory.h"

/* For all hosts, tried one after the other. */
#define CONNECT_TIMEOUT_US (20 * US_PER_SECOND)

/* --- the beginning, in a worker -------------------------------------------------------------- */

static int open_session(struct pg_connection *connection)
{
    const struct pg_link_options *options = connection->options;
    struct pg_session *session = &connection->session;
    struct error error = {0};

    if (options->ensure != NULL && options->ensure(options->context, &error) != 0) {
        pg_failure_set(&connection->failure, PG_AWAY, "%s", error.text);
        return -1;
    }
    session->give_up = &connection->give_up;
    session->deadline_us = clock_mono_us() + CONNECT_TIMEOUT_US;
    session->patience_us = options->reply_timeout_ms * INT64_C(1000);
    if (pg_session_open(session, options->conninfo, connection->statement_timeout_ms,
                        &connection->failure) != 0)
        return -1;
    if (pg_session_prepare(session, options->statements, options->statement_count,
                           options->channels, &connection->failure) == 0)
        return 0;
    pg_session_close(session);
    return -1;
}

static void open_in_worker(uv_work_t *work)
{
    struct pg_connection *connection = work->data;
    connection->code = -1;
    if (!atomic_load(&connection->give_up))
        connection->code = open_session(connection);
}

/* --- the middle, on the loop ----------------------------------------------------------------- */

static void on_poll(uv_poll_t *poll, int status, int events);
static void end(struct pg_connection *connection);

static void poll_for(struct pg_connection *connection, int events)
{
    if (connection->polled != events)
        uv_poll_start(&connection->poll, events, on_poll);
    connection->polled = events;
}

int pg_connection_flush(struct pg_connection *connection)
{
    int left = PQflush(connection->session.connection);
    if (left < 0)
        return -1;
    poll_for(connection, left > 0 ? UV_READABLE | UV_WRITABLE : UV_READABLE);
    return 0;
}

/* Reads before it writes: a server whose own output is stuck does not read (libpq, "Pipeline
 * Mode"). An error of the socket is left to libpq, which meets it when it reads and has the words
 * for it. */
static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct pg_connection *connection = poll->data;
    if (status != 0 || (events & UV_READABLE) != 0)
        connection->events->on_readable(connection->owner);
    if (!connection->dropped && (events & UV_WRITABLE) != 0 && pg_connection_flush(connection) != 0)
        connection->events->on_unwritable(connection->owner);
}

static void on_opened(uv_work_t *work, int status)
{
    (void)status; /* never cancelled: give_up does that */
    struct pg_connection *connection = work->data;
    connection->opening = false;
    if (connection->dropped) {
        end(connection);
        return;
    }
    if (connection->code != 0) {
        connection->events->on_open(connection->owner, &connection->failure);
        return;
    }
    uv_poll_init(work->loop, &connection->poll, PQsocket(connection->session.connection));
    connection->poll.data = connection;
    connection->polling = true;
    poll_for(connection, UV_READABLE);
    connection->events->on_open(connection->owner, NULL);
}

struct pg_connection *pg_connection_open(const struct pg_link_options *options,
                                         int statement_timeout_ms,
                                         const struct pg_connection_events *events, void *owner)
{
    struct pg_connection *connection = mem_new(1, sizeof(*connection));
    connection->options = options;
    connection->statement_timeout_ms = statement_timeout_ms;
    connection->events = events;
    connection->owner = owner;
    connection->opening = true;
    connection->work.data = connection;
    uv_queue_work(options->loop, &connection->work, open_in_worker, on_opened);
    return connection;
}

/* --- the end --------------------------------------------------------------------------------- */

/* PQcancel connects and waits without any deadline, so a server that is frozen would keep a thread
 * of the pool, and with it the daemon's end, for ever. It gets a detached thread, one at a time in
 * the whole process; a query that is not cancelled therefore ends by its statement_timeout. */
static atomic_flag cancelling = ATOMIC_FLAG_INIT;

static void *cancel_in_thread(void *cancel)
{
    char ignored[256];
    PQcancel(cancel, ignored, sizeof(ignored));
    PQfreeCancel(cancel);
    atomic_flag_clear(&cancelling);
    return NULL;
}

static void cancel_query(PGconn *connection)
{
    pthread_t thread;
    pthread_attr_t attributes;
    PGcancel *cancel = PQgetCancel(connection);
    if (cancel == NULL)
        return;
    if (atomic_flag_test_and_set(&cancelling)) {
        PQfreeCancel(cancel);
        return;
    }
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    if (pthread_create(&thread, &attributes, cancel_in_thread, cancel) != 0) {
        PQfreeCancel(cancel);
        atomic_flag_clear(&cancelling);
    }
    pthread_attr_destroy(&attributes);
}

static void end_in_worker(uv_work_t *work)
{
    struct pg_connection *connection = work->data;
    pg_session_close(&connection->session);
}

static void on_ended(uv_work_t *work, int status)
{
    (void)status;
    struct pg_connection *connection = work->data;
    connection->events->on_gone(connection->owner);
    free(connection);
}

/* PQfinish says goodbye, which may block with TLS. */
static void end(struct pg_connection *connection)
{
    uv_queue_work(connection->options->loop, &connection->work, end_in_worker, on_ended);
}

static void on_poll_closed(uv_handle_t *handle)
{
    end(handle->data);
}

void pg_connection_drop(struct pg_connection *connection, bool cancel)
{
    connection->dropped = true;
    if (connection->opening) {
        atomic_store(&connection->give_up, true);
        return;
    }
    if (!connection->polling) {
        end(connection);
        return;
    }
    if (cancel)
        cancel_query(connection->session.connection);
    uv_close((uv_handle_t *)&connection->poll, on_poll_closed);
}
