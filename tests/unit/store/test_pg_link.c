/* The link against a real PostgreSQL that is stopped, killed and frozen under it. */
#include <libpq-fe.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "store/batcher.h"
#include "store/pg_link.h"
#include "tests/unit/pg_fixture.h"
#include "tests/unit/unit.h"

#define PATIENCE_US (20 * US_PER_SECOND)

enum {
    CALL_ECHO,
    CALL_ADD,
    CALL_SLEEP,
    CALL_KILL_ONCE,
    CALL_DEFERRED,
    CALL_NOTIFY,
    CALL_CONFLICT_ONCE,
    CALL_PID,
    CALL_READ_ONLY,
    CALL_NO_LIMIT,
    CALL_TYPES
};

static const struct pg_statement statements[] = {
    [CALL_ECHO] = {.name = "echo", .sql = "SELECT $1 AS number", .types = {PG_INT4}},
    [CALL_ADD] = {.name = "add",
                  .sql = "INSERT INTO things SELECT * FROM unnest($1, $2)",
                  .types = {PG_INT4_ARRAY, PG_TEXT_ARRAY}},
    [CALL_SLEEP] = {.name = "sleep", .sql = "SELECT pg_sleep($1 / 1000.0)", .types = {PG_INT4}},
    /* The first sending writes, commits nothing and loses its connection; the second is told so. */
    [CALL_KILL_ONCE] = {.name = "kill_once",
                        .sql = "SELECT kill_once($1, $2) AS number",
                        .types = {PG_INT4, PG_BOOL},
                        .repeat_parameter = 2},
    [CALL_DEFERRED] = {.name = "deferred",
                       .sql = "INSERT INTO deferred VALUES ($1)",
                       .types = {PG_INT4}},
    [CALL_NOTIFY] = {.name = "notify", .sql = "SELECT pg_notify('hint', $1)", .types = {PG_TEXT}},
    [CALL_CONFLICT_ONCE] = {.name = "conflict_once",
                            .sql = "SELECT conflict_once($1) AS number",
                            .types = {PG_BOOL},
                            .repeat_parameter = 1},
    [CALL_PID] = {.name = "pid", .sql = "SELECT pg_backend_pid() AS number"},
    [CALL_READ_ONLY] = {.name = "read_only",
                        .sql = "SELECT read_only($1)",
                        .types = {PG_BOOL},
                        .repeat_parameter = 1},
    [CALL_NO_LIMIT] = {.name = "no_limit",
                       .sql = "SELECT set_config('statement_timeout', '0', false)"},
    [CALL_TYPES] = {.name = "types",
                    .sql =
                        "SELECT row($1, $2, $3, $4, $5, $6)::text AS text, $7 AS json, $3 AS time,"
                        " $4 AS ids, $5 AS texts, 'b'::letter AS letter",
                    .types = {PG_ID, PG_BOOL, PG_TIME, PG_ID_ARRAY, PG_TEXT_ARRAY, PG_TIME_ARRAY,
                              PG_JSON}},
};

static const char schema[] =
    "CREATE TABLE things (number int PRIMARY KEY, text text);"
    "CREATE TABLE deferred (number int UNIQUE DEFERRABLE INITIALLY DEFERRED);"
    "CREATE TYPE letter AS ENUM ('a', 'b');"
    "CREATE FUNCTION kill_once(n int, again bool) RETURNS int LANGUAGE plpgsql AS $$ BEGIN"
    " IF NOT again THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF;"
    " RETURN n; END $$;"
    "CREATE FUNCTION conflict_once(again bool) RETURNS int LANGUAGE plpgsql AS $$ BEGIN"
    " IF NOT again THEN RAISE SQLSTATE '40001' USING MESSAGE = 'conflict'; END IF;"
    " RETURN 1; END $$;"
    "CREATE FUNCTION read_only(again bool) RETURNS int LANGUAGE plpgsql AS $$ BEGIN"
    " IF NOT again THEN RAISE SQLSTATE '25006' USING MESSAGE = 'read-only'; END IF;"
    " RETURN 1; END $$;";

/* --- one server for all tests; each has its own loop and link -------------------------------- */

static struct pg_fixture fixture;
static uv_loop_t loop;
static struct pg_link *link_;
static uv_timer_t patience;
static int ups;
static int downs;
static char down_reason[512];
static char notified[64];
static char overdue[64];
static bool closed;

struct reply {
    int count; /* calls of the callback */
    int order;
    int64_t number;
    int rows;
    struct pg_failure failure;
};

static struct reply replies[32];
static int reply_count;

static void start_server(void)
{
    pg_fixture_open(&fixture);
    PGconn *connection = PQconnectdb(fixture.conninfo);
    PGresult *result = PQexec(connection, schema);
    ck_assert_msg(PQresultStatus(result) == PGRES_COMMAND_OK, "%s", PQerrorMessage(connection));
    PQclear(result);
    PQfinish(connection);
}

static void stop_server(void)
{
    pg_fixture_close(&fixture);
}

static void on_patience(uv_timer_t *timer)
{
    (void)timer; /* only wakes the loop, so that `until` looks at the clock */
}

static void on_state(void *context, struct pg_link *link, bool up, const char *reason)
{
    (void)context, (void)link;
    if (up) {
        ups++;
        return;
    }
    downs++;
    snprintf(down_reason, sizeof(down_reason), "%s", reason);
}

static void on_notify(void *context, const char *channel, const char *payload)
{
    (void)context;
    snprintf(notified, sizeof(notified), "%s %s", channel, payload);
}

static void on_overdue(void *context, const char *statement)
{
    (void)context;
    snprintf(overdue, sizeof(overdue), "%s", statement);
}

static void on_reply(void *context, const struct pg_rows *rows, const struct pg_failure *failure)
{
    struct reply *reply = context;
    reply->count++;
    reply->order = reply_count++;
    if (failure != NULL) {
        reply->failure = *failure;
        return;
    }
    reply->rows = pg_rows_count(rows);
    if (reply->rows > 0 && strcmp(PQfname(rows->result, 0), "number") == 0)
        reply->number = pg_rows_int(rows, 0, 0);
}

static void on_closed(void *context)
{
    *(bool *)context = true;
}

/* Runs the loop until the condition holds; fails when that takes too long. */
#define UNTIL(condition)                                                                        \
    do {                                                                                        \
        int64_t patience_us = clock_mono_us() + PATIENCE_US;                                    \
        while (!(condition)) {                                                                  \
            ck_assert_msg(clock_mono_us() < patience_us, "waited too long for %s", #condition); \
            uv_run(&loop, UV_RUN_ONCE);                                                         \
        }                                                                                       \
    } while (0)

static void open_link_with(const struct pg_link_options *more)
{
    struct pg_link_options options = *more;
    options.loop = &loop;
    options.conninfo = options.conninfo != NULL ? options.conninfo : fixture.conninfo;
    options.statements = statements;
    options.statement_count = sizeof(statements) / sizeof(statements[0]);
    options.on_state = on_state;
    options.on_notify = on_notify;
    options.on_overdue = on_overdue;
    uv_loop_init(&loop);
    uv_timer_init(&loop, &patience);
    uv_timer_start(&patience, on_patience, 50, 50);
    link_ = pg_link_open(&options);
    ck_assert(!pg_link_stats(link_)->up);
}

static void open_link(void)
{
    open_link_with(&(struct pg_link_options){0});
    UNTIL(ups == 1);
}

static void end_link(void)
{
    pg_link_close(link_, on_closed, &closed);
    ck_assert(!closed);
    UNTIL(closed);
}

static void free_link(void)
{
    pg_link_free(link_);
    uv_close((uv_handle_t *)&patience, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(uv_loop_close(&loop), 0);
}

static void close_link(void)
{
    end_link();
    free_link();
}

/* Sends a call with an int4 (where the statement has one) and a false (where it has a bool). */
static void send_call(const struct pg_call *call, int number, struct reply *reply)
{
    struct pg_params params = {0};
    for (const enum pg_type *type = statements[call->statement].types; *type != 0; type++)
        if (*type == PG_INT4)
            pg_params_int4(&params, number);
        else
            pg_params_bool(&params, false);
    pg_send(link_, call, &params, on_reply, reply);
    ck_assert_int_eq(reply->count, 0);
    ck_assert_uint_eq(params.bytes.size, 0);
}

static void send_number(int statement, unsigned flags, int number, struct reply *reply)
{
    send_call(&(struct pg_call){.statement = statement, .flags = flags}, number, reply);
}

static int64_t ask_server(const char *sql)
{
    PGconn *connection = PQconnectdb(fixture.conninfo);
    PGresult *result = PQexec(connection, sql);
    ck_assert_msg(PQresultStatus(result) == PGRES_TUPLES_OK, "%s", PQerrorMessage(connection));
    int64_t number = PQntuples(result) > 0 ? strtoll(PQgetvalue(result, 0, 0), NULL, 10) : 0;
    PQclear(result);
    PQfinish(connection);
    return number;
}

/* --- replies --------------------------------------------------------------------------------- */

START_TEST(replies_come_in_the_order_of_sending)
{
    open_link();
    for (int i = 0; i < 32; i++)
        send_number(CALL_ECHO, 0, i, &replies[i]);
    ck_assert_int_eq(pg_link_stats(link_)->in_flight, 32);
    UNTIL(reply_count == 32);
    for (int i = 0; i < 32; i++) {
        ck_assert_int_eq(replies[i].number, i);
        ck_assert_int_eq(replies[i].order, i);
        ck_assert_int_eq(replies[i].count, 1);
    }
    ck_assert_uint_eq(pg_link_stats(link_)->replies, 32);
    close_link();
}
END_TEST

START_TEST(a_failed_request_leaves_its_neighbours_alone)
{
    open_link();
    send_number(CALL_DEFERRED, 0, 1, &replies[0]);
    send_number(CALL_DEFERRED, 0, 1, &replies[1]); /* fails at the commit only */
    send_number(CALL_ECHO, 0, 7, &replies[2]);
    UNTIL(reply_count == 3);
    ck_assert_int_eq(replies[0].failure.class, 0);
    ck_assert_int_eq(replies[1].failure.class, PG_DATA);
    ck_assert_str_eq(replies[1].failure.sqlstate, "23505");
    ck_assert_ptr_nonnull(strstr(replies[1].failure.text, "duplicate key"));
    ck_assert_int_eq(replies[2].number, 7);
    ck_assert_int_eq(downs, 0);
    close_link();
}
END_TEST

static void on_types(void *context, const struct pg_rows *rows, const struct pg_failure *failure)
{
    ck_assert_msg(failure == NULL, "%s", failure == NULL ? "" : failure->text);
    struct pg_array ids = pg_rows_array(rows, 0, pg_rows_column(rows, "ids"));
    struct json_span json = pg_rows_json(rows, 0, pg_rows_column(rows, "json"));
    ck_assert_str_eq(pg_rows_text(rows, 0, 0),
                     "(01010101-0101-0101-0101-010101010101,t,\"2026-11-23 21:10:21.663651+00\","
                     "{01010101-0101-0101-0101-010101010101},\"{\"\"a b\"\",NULL,\"\"\"\"}\",{})");
    ck_assert_int_eq(pg_rows_time(rows, 0, 2), INT64_C(1795468221663651));
    ck_assert_int_eq(ids.left, 1);
    ck_assert_int_eq(pg_array_id(&ids).bytes[15], 1);
    ck_assert_uint_eq(json.size, 15);
    ck_assert_mem_eq(json.text, "{ \"b\":1, \"a\":2}", 15);
    ck_assert_str_eq(pg_rows_text(rows, 0, pg_rows_column(rows, "letter")), "b");
    ((struct reply *)context)->count++;
}

START_TEST(values_mean_the_same_to_postgresql)
{
    struct pg_params params = {0};
    struct id id;
    memset(id.bytes, 1, sizeof(id.bytes));
    pg_params_id(&params, &id);
    pg_params_bool(&params, true);
    pg_params_time(&params, INT64_C(1795468221663651));
    pg_params_array_begin(&params, PG_ID);
    pg_params_id(&params, &id);
    pg_params_array_end(&params);
    pg_params_array_begin(&params, PG_TEXT);
    pg_params_text(&params, "a b");
    pg_params_null(&params);
    pg_params_text(&params, "");
    pg_params_array_end(&params);
    pg_params_array_begin(&params, PG_TIME);
    pg_params_array_end(&params);
    pg_params_json(&params, (struct json_span){.text = "{ \"b\":1, \"a\":2}", .size = 15});
    open_link();
    pg_send(link_, &(struct pg_call){.statement = CALL_TYPES}, &params, on_types, &replies[0]);
    UNTIL(replies[0].count == 1);
    close_link();
}
END_TEST

START_TEST(a_large_batch_does_not_block)
{
    struct pg_params params = {0};
    static char text[1000];
    memset(text, 'x', sizeof(text));
    pg_params_array_begin(&params, PG_INT4);
    for (int i = 0; i < 20000; i++)
        pg_params_int4(&params, 1000 + i);
    pg_params_array_end(&params);
    pg_params_array_begin(&params, PG_TEXT);
    for (int i = 0; i < 20000; i++)
        pg_params_text_n(&params, text, sizeof(text));
    pg_params_array_end(&params);
    open_link();
    pg_send(link_, &(struct pg_call){.statement = CALL_ADD}, &params, on_reply, &replies[0]);
    send_number(CALL_ECHO, 0, 1, &replies[1]);
    UNTIL(reply_count == 2);
    ck_assert_msg(replies[0].failure.class == 0, "%s", replies[0].failure.text);
    ck_assert_int_eq(ask_server("SELECT count(*) FROM things WHERE number >= 1000"), 20000);
    close_link();
}
END_TEST

/* --- trouble --------------------------------------------------------------------------------- */

START_TEST(a_lost_request_is_sent_again_and_says_so)
{
    open_link();
    send_number(CALL_ECHO, PG_REPEATABLE, 1, &replies[0]);
    send_number(CALL_KILL_ONCE, PG_REPEATABLE, 2, &replies[1]);
    send_number(CALL_ECHO, PG_REPEATABLE, 3, &replies[2]);
    send_number(CALL_ECHO, PG_WAIT, 4, &replies[3]); /* may have been done: not again */
    UNTIL(reply_count == 4);
    ck_assert_int_eq(replies[0].number, 1);
    ck_assert_int_eq(replies[1].number, 2);
    ck_assert_int_eq(replies[2].number, 3);
    ck_assert_int_lt(replies[1].order, replies[2].order);
    ck_assert_int_eq(replies[3].failure.class, PG_AWAY);
    ck_assert_int_eq(downs, 1);
    ck_assert_int_eq(ups, 2);
    ck_assert_ptr_nonnull(strstr(down_reason, "terminating connection"));
    ck_assert_uint_eq(pg_link_stats(link_)->reconnects, 1);
    close_link();
}
END_TEST

/* A read fails at once where the connection breaks; another one's overdue reply does it no harm. */
START_TEST(a_read_is_sent_again_after_an_overdue_reply_only)
{
    open_link_with(&(struct pg_link_options){.reply_timeout_ms = 1000});
    UNTIL(ups == 1);
    send_number(CALL_NO_LIMIT, 0, 0, &replies[0]);
    send_number(CALL_SLEEP, 0, 60000, &replies[1]);
    send_number(CALL_ECHO, PG_REPEATABLE | PG_READ, 2, &replies[2]);
    UNTIL(replies[2].count == 1);
    ck_assert_int_eq(replies[2].number, 2);
    ck_assert_int_eq(ups, 2);
    send_number(CALL_KILL_ONCE, 0, 3, &replies[3]);
    send_number(CALL_ECHO, PG_REPEATABLE | PG_READ, 4, &replies[4]);
    UNTIL(replies[4].count == 1);
    ck_assert_int_eq(replies[4].failure.class, PG_AWAY);
    close_link();
}
END_TEST

START_TEST(a_conflict_is_tried_again)
{
    open_link();
    send_number(CALL_CONFLICT_ONCE, PG_REPEATABLE, 0, &replies[0]);
    send_number(CALL_CONFLICT_ONCE, 0, 0, &replies[1]);
    UNTIL(reply_count == 2);
    ck_assert_int_eq(replies[0].number, 1);
    ck_assert_int_eq(replies[1].failure.class, PG_RETRY);
    ck_assert_str_eq(replies[1].failure.text, "conflict");
    ck_assert_int_eq(downs, 0);
    close_link();
}
END_TEST

START_TEST(a_read_only_server_is_left)
{
    open_link();
    send_number(CALL_READ_ONLY, PG_REPEATABLE, 0, &replies[0]);
    UNTIL(reply_count == 1);
    ck_assert_int_eq(replies[0].failure.class, 0);
    ck_assert_int_eq(ups, 2);
    close_link();
}
END_TEST

START_TEST(a_stopped_server_is_awaited)
{
    open_link();
    pg_fixture_stop(&fixture, _i == 0 ? "fast" : "immediate");
    UNTIL(downs == 1);
    send_number(CALL_ECHO, PG_REPEATABLE, 1, &replies[0]);
    send_number(CALL_ECHO, PG_REPEATABLE | PG_WAIT, 2, &replies[1]);
    send_call(&(struct pg_call){.statement = CALL_ECHO, .flags = PG_WAIT, .deadline_ms = 100}, 3,
              &replies[2]);
    send_number(CALL_ECHO, PG_REPEATABLE | PG_WAIT | PG_FIRST, 4, &replies[3]);
    UNTIL(replies[0].count == 1 && replies[2].count == 1);
    ck_assert_int_eq(replies[0].failure.class, PG_AWAY);
    ck_assert_int_eq(replies[2].failure.class, PG_AWAY);
    ck_assert_int_eq(replies[1].count, 0);
    pg_fixture_start(&fixture);
    int64_t back_us = clock_mono_us();
    UNTIL(replies[1].count == 1);
    ck_assert_int_eq(replies[1].number, 2);
    ck_assert_int_lt(replies[3].order, replies[1].order);
    ck_assert_int_lt(clock_mono_us() - back_us, 5 * US_PER_SECOND);
    ck_assert_int_eq(downs, 1);
    close_link();
}
END_TEST

START_TEST(a_frozen_backend_hits_the_deadline)
{
    open_link_with(&(struct pg_link_options){.reply_timeout_ms = 300});
    UNTIL(ups == 1);
    send_number(CALL_PID, 0, 0, &replies[0]);
    UNTIL(replies[0].count == 1);
    pid_t frozen = (pid_t)replies[0].number;
    ck_assert_int_eq(kill(frozen, SIGSTOP), 0);
    send_number(CALL_ECHO, 0, 1, &replies[1]);
    send_number(CALL_ECHO, PG_REPEATABLE, 2, &replies[2]);
    int64_t begin_us = clock_mono_us();
    UNTIL(replies[1].count == 1);
    ck_assert_int_eq(replies[1].failure.class, PG_AWAY);
    ck_assert_int_ge(clock_mono_us() - begin_us, 290000);
    UNTIL(replies[2].count == 1);
    kill(frozen, SIGCONT);
    ck_assert_int_eq(replies[2].number, 2);
    ck_assert_str_eq(down_reason, "the database did not reply in time");
    close_link();
}
END_TEST

START_TEST(an_idle_link_notices)
{
    open_link_with(&(struct pg_link_options){.reply_timeout_ms = 200, .ping_period_ms = 100});
    UNTIL(ups == 1);
    send_number(CALL_PID, 0, 0, &replies[0]);
    UNTIL(replies[0].count == 1);
    UNTIL(pg_link_stats(link_)->replies >= 3); /* pings */
    ck_assert_int_eq(kill((pid_t)replies[0].number, SIGSTOP), 0);
    UNTIL(ups == 2);
    kill((pid_t)replies[0].number, SIGCONT);
    ck_assert_int_eq(downs, 1);
    close_link();
}
END_TEST

/* A server that is frozen as a whole takes connections and says nothing: the loop and the end of
 * the link do not care. */
START_TEST(a_frozen_server_does_not_keep_the_link_from_closing)
{
    char path[128];
    int pid = 0;
    open_link_with(&(struct pg_link_options){.reply_timeout_ms = 200});
    UNTIL(ups == 1);
    snprintf(path, sizeof(path), "%s/data/postmaster.pid", fixture.folder);
    FILE *file = fopen(path, "r");
    ck_assert(file != NULL && fscanf(file, "%d", &pid) == 1);
    fclose(file);
    send_number(CALL_PID, 0, 0, &replies[0]);
    UNTIL(replies[0].count == 1);
    ck_assert_int_eq(kill(pid, SIGSTOP) + kill((pid_t)replies[0].number, SIGSTOP), 0);
    send_number(CALL_ECHO, PG_REPEATABLE, 1, &replies[1]);
    UNTIL(downs == 1);
    int64_t limit_us = clock_mono_us() + US_PER_SECOND / 5; /* an attempt to connect hangs */
    UNTIL(clock_mono_us() > limit_us);
    int64_t begin_us = clock_mono_us();
    pg_link_close(link_, on_closed, &closed);
    UNTIL(closed);
    int64_t took_us = clock_mono_us() - begin_us;
    kill((pid_t)replies[0].number, SIGCONT);
    kill(pid, SIGCONT);
    pg_link_free(link_);
    ck_assert_int_lt(took_us, US_PER_SECOND);
    ck_assert_int_eq(replies[1].failure.class, PG_AWAY);
}
END_TEST

/* Also what does not wait for a link that is known to be down. */
START_TEST(the_first_connection_is_waited_for)
{
    open_link_with(&(struct pg_link_options){0});
    send_number(CALL_ECHO, PG_REPEATABLE | PG_READ, 7, &replies[0]);
    send_number(CALL_ECHO, 0, 8, &replies[1]);
    UNTIL(replies[1].count == 1);
    ck_assert_int_eq(replies[0].number, 7);
    ck_assert_int_eq(replies[1].number, 8);
    close_link();
}
END_TEST

/* As when another link's end asks for something. */
START_TEST(what_comes_after_the_end_fails)
{
    open_link();
    end_link();
    send_number(CALL_ECHO, PG_REPEATABLE | PG_WAIT, 1, &replies[0]);
    ck_assert_int_eq(replies[0].count, 0);
    free_link();
    ck_assert_int_eq(replies[0].failure.class, PG_AWAY);
}
END_TEST

START_TEST(an_overdue_query_is_cancelled)
{
    open_link_with(&(struct pg_link_options){.reply_timeout_ms = 1000});
    UNTIL(ups == 1);
    send_number(CALL_NO_LIMIT, 0, 0, &replies[0]);
    send_number(CALL_SLEEP, 0, 60000, &replies[1]);
    UNTIL(replies[1].count == 1);
    ck_assert_int_eq(replies[1].failure.class, PG_AWAY);
    ck_assert(replies[1].failure.is_overdue);
    ck_assert_str_eq(overdue, "sleep");
    UNTIL(ask_server("SELECT count(*) FROM pg_stat_activity"
                     " WHERE query LIKE '%pg_sleep%' AND pid <> pg_backend_pid()") == 0);
    close_link();
}
END_TEST

START_TEST(requests_behind_others_have_time)
{
    open_link_with(&(struct pg_link_options){.reply_timeout_ms = 1000});
    UNTIL(ups == 1);
    for (int i = 0; i < 4; i++)
        send_number(CALL_SLEEP, 0, 400, &replies[i]);
    UNTIL(reply_count == 4);
    for (int i = 0; i < 4; i++)
        ck_assert_msg(replies[i].failure.class == 0, "%d: %s", i, replies[i].failure.text);
    ck_assert_int_eq(downs, 0);
    close_link();
}
END_TEST

/* Which it may well be because it waits behind others. */
START_TEST(a_late_request_fails_alone)
{
    open_link_with(&(struct pg_link_options){.reply_timeout_ms = 20000});
    UNTIL(ups == 1);
    send_number(CALL_SLEEP, 0, 3000, &replies[0]);
    send_call(&(struct pg_call){.statement = CALL_ECHO,
                                .flags = PG_REPEATABLE | PG_WAIT,
                                .deadline_ms = 100},
              1, &replies[1]);
    UNTIL(replies[1].count == 1);
    send_number(CALL_ECHO, 0, 2, &replies[2]);
    ck_assert_int_eq(replies[1].failure.class, PG_AWAY);
    ck_assert(replies[1].failure.is_overdue);
    UNTIL(replies[2].count == 1);
    ck_assert_int_eq(replies[0].failure.class, 0);
    ck_assert_int_eq(replies[2].number, 2);
    ck_assert_int_eq(replies[1].count, 1);
    ck_assert_int_eq(downs, 0);
    ck_assert_str_eq(overdue, "");
    close_link();
}
END_TEST

START_TEST(a_slow_statement_fails_alone)
{
    open_link_with(&(struct pg_link_options){.reply_timeout_ms = 1000});
    UNTIL(ups == 1);
    send_number(CALL_SLEEP, PG_REPEATABLE | PG_WAIT, 60000, &replies[0]);
    send_number(CALL_ECHO, 0, 1, &replies[1]);
    UNTIL(reply_count == 2);
    ck_assert_int_eq(replies[0].failure.class, PG_SLOW);
    ck_assert_int_eq(replies[1].number, 1);
    ck_assert_int_eq(downs, 0);
    close_link();
}
END_TEST

START_TEST(what_somebody_cancelled_is_sent_again)
{
    open_link_with(&(struct pg_link_options){.reply_timeout_ms = 10000});
    UNTIL(ups == 1);
    send_number(CALL_SLEEP, PG_REPEATABLE, 500, &replies[0]);
    UNTIL(ask_server("SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity"
                     " WHERE query LIKE '%pg_sleep%' AND pid <> pg_backend_pid()"
                     " AND state = 'active'") == 1);
    UNTIL(reply_count == 1);
    ck_assert_msg(replies[0].failure.class == 0, "%s", replies[0].failure.text);
    close_link();
}
END_TEST

START_TEST(a_link_hears_its_channels)
{
    static const char *const channels[] = {"hint", NULL};
    struct pg_params params = {0};
    open_link_with(&(struct pg_link_options){.channels = channels});
    UNTIL(ups == 1);
    pg_params_text(&params, "hello");
    pg_send(link_, &(struct pg_call){.statement = CALL_NOTIFY}, &params, on_reply, &replies[0]);
    UNTIL(notified[0] != '\0');
    ck_assert_str_eq(notified, "hint hello");
    notified[0] = '\0';
    send_number(CALL_KILL_ONCE, PG_REPEATABLE, 0,
                &replies[1]); /* and still does after a reconnect */
    UNTIL(replies[1].count == 1);
    ask_server("SELECT pg_notify('hint', 'again')");
    UNTIL(notified[0] != '\0');
    ck_assert_str_eq(notified, "hint again");
    close_link();
}
END_TEST

START_TEST(a_server_that_refuses_is_told_once)
{
    char conninfo[160];
    snprintf(conninfo, sizeof(conninfo), "host=%s user=postgres dbname=nowhere", fixture.folder);
    open_link_with(&(struct pg_link_options){.conninfo = conninfo});
    send_number(CALL_ECHO, 0, 1, &replies[0]);
    UNTIL(replies[0].count == 1);
    ck_assert_int_eq(replies[0].failure.class, PG_AWAY);
    UNTIL(downs == 1);
    ck_assert_ptr_nonnull(strstr(down_reason, "database \"nowhere\" does not exist"));
    ck_assert_ptr_null(strstr(down_reason, "3D000"));
    ck_assert_ptr_null(strstr(down_reason, "LOCATION"));
    int64_t limit_us = clock_mono_us() + US_PER_SECOND / 2; /* several attempts */
    UNTIL(clock_mono_us() > limit_us);
    ck_assert_int_eq(downs, 1);
    close_link();
}
END_TEST

START_TEST(close_fails_what_is_left)
{
    open_link();
    send_number(CALL_SLEEP, PG_REPEATABLE, 60000, &replies[0]);
    send_number(CALL_ECHO, PG_REPEATABLE, 1, &replies[1]);
    close_link();
    ck_assert_int_eq(replies[0].failure.class, PG_AWAY);
    ck_assert_int_eq(replies[1].failure.class, PG_AWAY);
    ck_assert_int_eq(replies[0].count + replies[1].count, 2);
}
END_TEST

/* --- with the batcher ------------------------------------------------------------------------ */

struct thing {
    struct batch_item item;
    int number;
    const char *text;
    struct pg_failure failure;
};

static struct thing things[10];
static int things_done;
static int things_failed;

static void build(void *context, const struct batch_item *items, int n, struct pg_params *params,
                  const struct id *batch)
{
    const struct batch_item *item;
    (void)context, (void)n, (void)batch;
    pg_params_array_begin(params, PG_INT4);
    for (item = items; item != NULL; item = item->next)
        pg_params_int4(params, ((const struct thing *)item)->number);
    pg_params_array_end(params);
    pg_params_array_begin(params, PG_TEXT);
    for (item = items; item != NULL; item = item->next)
        pg_params_text(params, ((const struct thing *)item)->text);
    pg_params_array_end(params);
}

static void on_done(void *context, struct batch_item *items, int n, const struct pg_rows *rows)
{
    (void)context, (void)items, (void)rows;
    things_done += n;
}

static void on_failed(void *context, struct batch_item *item, const struct pg_failure *failure)
{
    (void)context;
    ((struct thing *)item)->failure = *failure;
    things_failed++;
}

START_TEST(a_bad_item_stands_alone)
{
    open_link();
    struct batcher *batcher = batcher_new(&(struct batcher_options){
        .links = &link_,
        .call = {.statement = CALL_ADD, .flags = PG_REPEATABLE | PG_WAIT},
        .build = build,
        .done = on_done,
        .failed = on_failed,
    });
    for (int i = 0; i < 10; i++) {
        things[i].number = i;
        things[i].text = i == 6 ? "\xff" : "good";
        batcher_add(batcher, &things[i].item);
    }
    UNTIL(batcher_open_items(batcher) == 0);
    ck_assert_int_eq(things_done, 9);
    ck_assert_int_eq(things_failed, 1);
    ck_assert_str_eq(things[6].failure.sqlstate, "22021");
    ck_assert_int_eq(ask_server("SELECT count(*) FROM things WHERE number < 10"), 9);
    batcher_free(batcher);
    close_link();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("pg_link");
    TCase *tcase = tcase_create("pg_link");
    tcase_set_timeout(tcase, 60);
    tcase_add_unchecked_fixture(tcase, start_server, stop_server);
    tcase_add_test(tcase, replies_come_in_the_order_of_sending);
    tcase_add_test(tcase, a_failed_request_leaves_its_neighbours_alone);
    tcase_add_test(tcase, values_mean_the_same_to_postgresql);
    tcase_add_test(tcase, a_large_batch_does_not_block);
    tcase_add_test(tcase, a_lost_request_is_sent_again_and_says_so);
    tcase_add_test(tcase, a_read_is_sent_again_after_an_overdue_reply_only);
    tcase_add_test(tcase, a_conflict_is_tried_again);
    tcase_add_test(tcase, a_read_only_server_is_left);
    tcase_add_loop_test(tcase, a_stopped_server_is_awaited, 0, 2);
    tcase_add_test(tcase, a_frozen_backend_hits_the_deadline);
    tcase_add_test(tcase, an_idle_link_notices);
    tcase_add_test(tcase, a_frozen_server_does_not_keep_the_link_from_closing);
    tcase_add_test(tcase, the_first_connection_is_waited_for);
    tcase_add_test(tcase, what_comes_after_the_end_fails);
    tcase_add_test(tcase, an_overdue_query_is_cancelled);
    tcase_add_test(tcase, requests_behind_others_have_time);
    tcase_add_test(tcase, a_late_request_fails_alone);
    tcase_add_test(tcase, a_slow_statement_fails_alone);
    tcase_add_test(tcase, what_somebody_cancelled_is_sent_again);
    tcase_add_test(tcase, a_link_hears_its_channels);
    tcase_add_test(tcase, a_server_that_refuses_is_told_once);
    tcase_add_test(tcase, close_fails_what_is_left);
    tcase_add_test(tcase, a_bad_item_stands_alone);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
