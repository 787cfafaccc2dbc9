#include "store/pg_link.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <utlist.h>

#include "base/clock.h"
#include "base/memory.h"
#include "store/pg_connection.h"
#include "store/pg_request.h"

/* A link is down, connecting or up; the connection pointer and `up` tell which. One timer, the
 * alarm, stands at the earliest instant at which something is due: a reply, a deadline, a request
 * to send again, a ping, the next attempt to connect. Everything that cannot be done where it is
 * noticed is left to the alarm, at once.
 *
 *     down --(alarm: reconnect_us)--> connecting --on_open--> up --lose()--> down
 *
 * A request waits, is in flight, and ends by its callback; or goes back to waiting when it may be
 * repeated. */

#define BACKOFF_MIN_US (50 * INT64_C(1000))
#define BACKOFF_MAX_US (2 * US_PER_SECOND)
#define RETRY_MIN_US (20 * INT64_C(1000))
#define DEFAULT_REPLY_TIMEOUT_MS 10000
#define DEFAULT_PING_PERIOD_MS 5000
/* The server cancels a statement at this part of the reply timeout: so the statement fails by
 * itself, and the connection, with all that was sent on it, is only given up for a server that says
 * nothing at all. */
#define STATEMENT_PERCENT 70
/* What took less than this part of the server's time-out was not cancelled by it. */
#define SLOW_PERCENT 90

struct pg_link {
    struct pg_link_options options;
    int64_t reply_timeout_us;
    int64_t ping_period_us;
    struct pg_connection *connection; /* NULL while down */
    bool broken;                      /* lost, but noticed where nothing may be called back */
    bool closing;
    bool outage_told;
    struct pg_request *waiting;
    struct pg_request *in_flight;
    int64_t oldest_us; /* since when the first of them has been the first */
    struct pg_link_stats stats;
    struct pg_failure failure; /* why the connection is broken */
    uv_timer_t alarm;
    int64_t alarm_us;
    int64_t reconnect_us;
    int64_t ping_us;
    int64_t backoff_us;
    uint64_t connections;
    int dying; /* dropped connections that are not gone yet */
    void (*on_closed)(void *context);
    void *close_context;
};

static void on_alarm(uv_timer_t *timer);

/* --- time ------------------------------------------------------------------------------------ */

static void wake_by(struct pg_link *link, int64_t at_us)
{
    if (at_us >= link->alarm_us)
        return;
    link->alarm_us = at_us;
    int64_t left_us = at_us - clock_mono_us();
    uv_timer_start(&link->alarm, on_alarm, left_us > 0 ? (uint64_t)(left_us + 999) / 1000 : 0, 0);
}

static void wake_now(struct pg_link *link)
{
    wake_by(link, 0);
}

/* Half of it for sure, half by chance, so that links (and daemons) do not come in step. */
static int64_t jitter(int64_t delay_us)
{
    uint32_t chance = UINT32_MAX;
    if (getrandom(&chance, sizeof(chance), GRND_NONBLOCK) < 0)
        chance = UINT32_MAX;
    return delay_us / 2 + (int64_t)((double)delay_us / 2 * chance / UINT32_MAX);
}

static int64_t earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t statement_timeout_us(const struct pg_link *link)
{
    return link->reply_timeout_us * STATEMENT_PERCENT / 100;
}

/* --- requests -------------------------------------------------------------------------------- */

static void add_waiting(struct pg_link *link, struct pg_request *request)
{
    if (request->call.flags & PG_FIRST)
        DL_PREPEND(link->waiting, request);
    else
        DL_APPEND(link->waiting, request);
    link->stats.waiting++;
}

static void remove_waiting(struct pg_link *link, struct pg_request *request)
{
    DL_DELETE(link->waiting, request);
    link->stats.waiting--;
}

static void remove_in_flight(struct pg_link *link, struct pg_request *request)
{
    DL_DELETE(link->in_flight, request);
    link->stats.in_flight--;
}

static void note_error(struct pg_link *link, const struct pg_failure *failure)
{
    snprintf(link->stats.last_error, sizeof(link->stats.last_error), "%s", failure->text);
}

/* Back to the queue, after a pause that grows with the sendings. False when that would be past the
 * deadline. */
static bool postpone(struct pg_link *link, struct pg_request *request)
{
    int doublings = request->sendings < 8 ? request->sendings : 8;
    int64_t delay_us = earlier(RETRY_MIN_US << doublings, BACKOFF_MAX_US);
    request->due_us = clock_mono_us() + jitter(delay_us);
    if (request->due_us >= request->deadline_us)
        return false;
    note_error(link, &request->failure);
    pg_request_reset(request);
    add_waiting(link, request);
    wake_by(link, request->due_us);
    return true;
}

/* --- sending --------------------------------------------------------------------------------- */

static bool usable(const struct pg_link *link)
{
    return link->stats.up && !link->broken;
}

static const struct pg_statement *statement_of(const struct pg_link *link,
                                               const struct pg_call *call)
{
    return call->statement == PG_PING ? NULL : &link->options.statements[call->statement];
}

static void break_link(struct pg_link *link)
{
    pg_failure_of_connection(&link->failure, link->connection->session.connection);
    link->broken = true;
    wake_now(link);
}

/* When the connection is given up. The server works on one request at a time, so the clock runs for
 * the oldest only. */
static int64_t reply_due_us(const struct pg_link *link)
{
    return link->in_flight == NULL ? INT64_MAX : link->oldest_us + link->reply_timeout_us;
}

static void start_reply_clock(struct pg_link *link)
{
    link->oldest_us = clock_mono_us();
    wake_by(link, reply_due_us(link));
}

/* In order; requests that wait for their next attempt are passed by. */
static void transmit_waiting(struct pg_link *link)
{
    struct pg_request *request;
    struct pg_request *next;
    int64_t now_us = clock_mono_us();
    DL_FOREACH_SAFE(link->waiting, request, next)
    {
        if (request->due_us > now_us)
            continue;
        if (!pg_request_transmit(request, link->connection->session.connection,
                                 statement_of(link, &request->call)) ||
            pg_connection_flush(link->connection) != 0) {
            break_link(link);
            return;
        }
        remove_waiting(link, request);
        DL_APPEND(link->in_flight, request);
        link->stats.in_flight++;
        link->stats.sent++;
        wake_by(link, request->deadline_us);
        if (request == link->in_flight)
            start_reply_clock(link);
    }
}

void pg_send(struct pg_link *link, const struct pg_call *call, struct pg_params *params,
             pg_reply_cb on_reply, void *context)
{
    struct pg_request *request =
        pg_request_new(call, statement_of(link, call), params, on_reply, context);
    add_waiting(link, request);
    if (usable(link))
        transmit_waiting(link);
    else
        wake_by(link, request->patient ? request->deadline_us : 0);
}

/* --- losing and making the connection -------------------------------------------------------- */

static void tell_outage(struct pg_link *link)
{
    if (link->outage_told)
        return;
    link->outage_told = true;
    if (link->options.on_state != NULL)
        link->options.on_state(link->options.context, link, false, link->stats.last_error);
}

static void drop_connection(struct pg_link *link, bool cancel)
{
    pg_connection_drop(link->connection, cancel);
    link->connection = NULL;
    link->dying++;
    link->stats.up = false;
    link->broken = false;
}

static void go_down(struct pg_link *link, const struct pg_failure *failure, bool cancel)
{
    drop_connection(link, cancel);
    note_error(link, failure);
    link->reconnect_us = clock_mono_us() + jitter(link->backoff_us);
    link->backoff_us = earlier(link->backoff_us * 2, BACKOFF_MAX_US);
    wake_by(link, link->reconnect_us);
}

/* Takes the waiting requests out that have no reason to wait any longer. The first connection of
 * all is worth waiting for: a daemon that is ready may not have all of its links yet. */
static struct pg_request *take_hopeless(struct pg_link *link)
{
    struct pg_request *hopeless = NULL;
    struct pg_request *request;
    struct pg_request *next;
    int64_t now_us = clock_mono_us();
    DL_FOREACH_SAFE(link->waiting, request, next)
    {
        if (request->deadline_us > now_us && (request->patient || !link->outage_told))
            continue;
        remove_waiting(link, request);
        DL_APPEND(hopeless, request);
    }
    return hopeless;
}

/* What was in flight goes back in front of the queue, in its order. */
static void requeue(struct pg_link *link, bool is_overdue)
{
    struct pg_request *request;
    struct pg_request *next;
    DL_FOREACH_SAFE(link->in_flight, request, next)
    {
        pg_request_reset(request);
        request->due_us = 0;
        if (request->call.flags & PG_READ)
            request->patient = is_overdue;
        else if (!(request->call.flags & PG_REPEATABLE))
            request->patient = false;
    }
    DL_CONCAT(link->in_flight, link->waiting);
    link->waiting = link->in_flight;
    link->in_flight = NULL;
    link->stats.waiting += link->stats.in_flight;
    link->stats.in_flight = 0;
}

/* `failure` is of the class PG_AWAY. */
static void lose(struct pg_link *link, const struct pg_failure *failure, bool cancel)
{
    struct pg_failure reason = *failure; /* it may belong to a request */
    go_down(link, &reason, cancel);
    requeue(link, reason.is_overdue);
    tell_outage(link);
    pg_request_end_all(take_hopeless(link), &reason);
}

static void on_open(void *owner, const struct pg_failure *failure);
static void on_readable(void *owner);
static void on_unwritable(void *owner);
static void on_gone(void *owner);

static const struct pg_connection_events connection_events = {
    .on_open = on_open,
    .on_readable = on_readable,
    .on_unwritable = on_unwritable,
    .on_gone = on_gone,
};

static void begin_connecting(struct pg_link *link)
{
    link->connection = pg_connection_open(&link->options, (int)(statement_timeout_us(link) / 1000),
                                          &connection_events, link);
}

static void on_open(void *owner, const struct pg_failure *failure)
{
    struct pg_link *link = owner;
    if (failure != NULL) {
        go_down(link, failure, false);
        tell_outage(link);
        return;
    }
    link->stats.up = true;
    link->stats.up_since_us = clock_boot_us();
    link->stats.reconnects += link->connections++ > 0;
    link->ping_us = clock_mono_us() + link->ping_period_us;
    link->outage_told = false;
    wake_by(link, link->ping_us);
    if (link->options.on_state != NULL)
        link->options.on_state(link->options.context, link, true, NULL);
    transmit_waiting(link);
    on_readable(link); /* for what came while the connection was made */
}

static void on_unwritable(void *owner)
{
    break_link(owner);
}

/* --- replies --------------------------------------------------------------------------------- */

static void tell_overdue(struct pg_link *link, const struct pg_request *request)
{
    const struct pg_statement *statement = statement_of(link, &request->call);
    if (link->options.on_overdue != NULL && statement != NULL)
        link->options.on_overdue(link->options.context, statement->name);
}

/* The Sync of the oldest request: it is committed, or rolled back. */
static void finish_request(struct pg_link *link)
{
    struct pg_request *request = link->in_flight;
    const struct pg_failure *failure = request->failure.class != 0 ? &request->failure : NULL;

    remove_in_flight(link, request);
    start_reply_clock(link);
    link->stats.replies++;
    link->backoff_us = BACKOFF_MIN_US; /* this connection works */
    link->ping_us = clock_mono_us() + link->ping_period_us;
    if (request->failure.is_overdue)
        tell_overdue(link, request);
    if (!pg_request_repeats(request) || !postpone(link, request))
        pg_request_end(request, failure);
}

/* The code of a statement that took too long is also that of one which somebody cancelled by hand;
 * that says nothing about the statement, and it is sent again. */
static void judge_cancel(const struct pg_link *link, struct pg_failure *failure)
{
    int64_t took_us = clock_mono_us() - link->oldest_us;
    if (failure->class == PG_SLOW && took_us < statement_timeout_us(link) * SLOW_PERCENT / 100)
        failure->class = PG_RETRY;
    failure->is_overdue = failure->class == PG_SLOW;
}

/* False when the connection is of no use any more. */
static bool take_result(struct pg_link *link, PGresult *result)
{
    struct pg_request *request = link->in_flight;
    if (PQresultStatus(result) == PGRES_PIPELINE_SYNC) {
        PQclear(result);
        finish_request(link);
        return true;
    }
    pg_request_take(request, result);
    judge_cancel(link, &request->failure);
    if (request->failure.class != PG_AWAY)
        return true;
    lose(link, &request->failure, false);
    return false;
}

static bool read_replies(struct pg_link *link)
{
    PGconn *connection = link->connection->session.connection;
    bool between =
        false; /* NULL ends a statement's results; two in a row mean that nothing is expected */
    while (link->in_flight != NULL && !PQisBusy(connection)) {
        PGresult *result = PQgetResult(connection);
        if (result == NULL && between) {
            pg_failure_set(&link->failure, PG_AWAY, "the replies are out of step");
            lose(link, &link->failure, false);
            return false;
        }
        between = result == NULL;
        if (result != NULL && !take_result(link, result))
            return false;
    }
    return true;
}

static void read_notifies(struct pg_link *link)
{
    PGnotify *notify;
    while ((notify = PQnotifies(link->connection->session.connection)) != NULL) {
        if (link->options.on_notify != NULL)
            link->options.on_notify(link->options.context, notify->relname, notify->extra);
        PQfreemem(notify);
    }
}

/* After an error of reading there may still be replies in the buffer, and the reason in words. */
static void on_readable(void *owner)
{
    struct pg_link *link = owner;
    PGconn *connection = link->connection->session.connection;
    bool alive = PQconsumeInput(connection) == 1;
    if (!read_replies(link))
        return;
    read_notifies(link);
    if (!alive) {
        pg_failure_of_connection(&link->failure, connection);
        link->failure.class = PG_AWAY;
        lose(link, &link->failure, false);
    }
}

/* --- the alarm ------------------------------------------------------------------------------- */

static void ignore_reply(void *context, const struct pg_rows *rows,
                         const struct pg_failure *failure)
{
    (void)context, (void)rows, (void)failure;
}

/* Requests in flight whose own deadline is over fail, and only they: the connection works on, and
 * their replies, which come yet, are for nobody. */
static void fail_late(struct pg_link *link)
{
    struct pg_failure failure;
    struct pg_request *request;
    int64_t now_us = clock_mono_us();
    pg_failure_set(&failure, PG_AWAY, "the database did not reply in time");
    failure.is_overdue = true;
    DL_FOREACH(link->in_flight, request)
    {
        if (request->deadline_us > now_us)
            continue;
        pg_reply_cb on_reply = request->on_reply;
        request->on_reply = ignore_reply;
        request->call.flags = 0;
        request->deadline_us = INT64_MAX;
        on_reply(request->context, NULL, &failure);
    }
}

static void ping(struct pg_link *link)
{
    const struct pg_call call = {.statement = PG_PING};
    link->ping_us = clock_mono_us() + link->ping_period_us;
    if (link->in_flight == NULL && link->waiting == NULL)
        pg_send(link, &call, NULL, ignore_reply, NULL);
}

static void tend_connection(struct pg_link *link)
{
    int64_t now_us = clock_mono_us();
    if (link->broken) {
        link->failure.class = PG_AWAY;
        lose(link, &link->failure, false);
    } else if (reply_due_us(link) <= now_us) {
        tell_overdue(link, link->in_flight);
        pg_failure_set(&link->failure, PG_AWAY, "the database did not reply in time");
        link->failure.is_overdue = true;
        lose(link, &link->failure, true);
    } else if (link->stats.up) {
        transmit_waiting(link);
        if (link->ping_us <= now_us)
            ping(link);
    } else if (link->connection == NULL && link->reconnect_us <= now_us) {
        begin_connecting(link);
    }
}

static void arm(struct pg_link *link)
{
    int64_t next_us = reply_due_us(link);
    const struct pg_request *request;
    DL_FOREACH(link->in_flight, request)
    next_us = earlier(next_us, request->deadline_us);
    DL_FOREACH(link->waiting, request)
    {
        next_us = earlier(next_us, request->deadline_us);
        if (link->stats.up)
            next_us = earlier(next_us, request->due_us);
    }
    if (link->stats.up)
        next_us = earlier(next_us, link->ping_us);
    else if (link->connection == NULL)
        next_us = earlier(next_us, link->reconnect_us);
    if (next_us < INT64_MAX)
        wake_by(link, next_us);
}

static void end_requests(struct pg_link *link)
{
    struct pg_failure failure;
    pg_failure_set(&failure, PG_AWAY, "the connection to the database is being closed");
    requeue(link, false);
    struct pg_request *requests = link->waiting;
    link->waiting = NULL;
    link->stats.waiting = 0;
    pg_request_end_all(requests, &failure);
}

static void on_alarm_closed(uv_handle_t *handle)
{
    struct pg_link *link = handle->data;
    end_requests(link);
    link->on_closed(link->close_context);
}

static void tend_close(struct pg_link *link)
{
    if (link->connection != NULL)
        drop_connection(link, false);
    end_requests(link);
    if (link->dying == 0)
        uv_close((uv_handle_t *)&link->alarm, on_alarm_closed);
}

static void on_alarm(uv_timer_t *timer)
{
    struct pg_link *link = timer->data;
    struct pg_failure failure;
    link->alarm_us = INT64_MAX;
    if (link->closing) {
        tend_close(link);
        return;
    }
    fail_late(link);
    tend_connection(link);
    if (link->stats.last_error[0] != '\0' && !link->stats.up)
        pg_failure_set(&failure, PG_AWAY, "%s", link->stats.last_error);
    else
        pg_failure_set(&failure, PG_AWAY, "the database was not reached in time");
    pg_request_end_all(take_hopeless(link), &failure);
    arm(link);
}

static void on_gone(void *owner)
{
    struct pg_link *link = owner;
    link->dying--;
    if (link->closing)
        wake_now(link);
}

/* --- the link -------------------------------------------------------------------------------- */

struct pg_link *pg_link_open(const struct pg_link_options *options)
{
    struct pg_link *link = mem_new(1, sizeof(*link));
    link->options = *options;
    link->options.conninfo = mem_text(options->conninfo);
    link->reply_timeout_us =
        (options->reply_timeout_ms > 0 ? options->reply_timeout_ms : DEFAULT_REPLY_TIMEOUT_MS) *
        INT64_C(1000);
    link->ping_period_us =
        (options->ping_period_ms > 0 ? options->ping_period_ms : DEFAULT_PING_PERIOD_MS) *
        INT64_C(1000);
    link->backoff_us = BACKOFF_MIN_US;
    link->alarm_us = INT64_MAX;
    uv_timer_init(options->loop, &link->alarm);
    link->alarm.data = link;
    begin_connecting(link);
    return link;
}

const struct pg_link_stats *pg_link_stats(const struct pg_link *link)
{
    return &link->stats;
}

void pg_link_close(struct pg_link *link, void (*on_closed)(void *context), void *context)
{
    link->closing = true;
    link->on_closed = on_closed;
    link->close_context = context;
    wake_now(link);
}

void pg_link_free(struct pg_link *link)
{
    end_requests(link);
    free((char *)link->options.conninfo);
    free(link);
}
