#include "store/database.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "store/migrate.h"
#include "store/pg_session.h"

#define OLDEST_VERSION 130000
#define CONNECT_TIMEOUT_US (20 * US_PER_SECOND)
#define QUERY_TIMEOUT_US (10 * US_PER_SECOND)
#define CLOCK_SAMPLES 5

struct database_check {
    struct database_options options;
    uv_work_t work;
    atomic_bool give_up;
    struct pg_session session;
    enum database_verdict verdict;
    struct database_facts facts;
    struct error error;
};

/* What a person can do about the refusals of a connection. */
static const struct {
    const char *sqlstate;
    const char *advice;
} advices[] = {
    {"28P01", "correct the password in DIRECTOR_DATABASE_URI"},
    {"28000",
     "correct the user in DIRECTOR_DATABASE_URI, or let it in in the server's pg_hba.conf"},
    {"3D000", "create the database, or correct its name in DIRECTOR_DATABASE_URI"},
    {"42501", "grant the user of DIRECTOR_DATABASE_URI the right to connect to the database"},
};

static int refuse_connection(struct error *error, const struct pg_failure *failure)
{
    if (failure->class != PG_BUG)
        return error_set(error, -EAGAIN, "%s", failure->text);
    for (size_t i = 0; i < sizeof(advices) / sizeof(advices[0]); i++)
        if (strcmp(failure->sqlstate, advices[i].sqlstate) == 0)
            return error_set(error, -EINVAL, "%s: %s", failure->text, advices[i].advice);
    return error_set(error, -EINVAL, "%s", failure->text);
}

static int check_conninfo(const char *conninfo, struct error *error)
{
    char *reason = NULL;
    PQconninfoOption *parsed = PQconninfoParse(conninfo, &reason);
    if (parsed != NULL) {
        PQconninfoFree(parsed);
        return 0;
    }
    reason[strcspn(reason, "\n")] = '\0';
    error_set(error, -EINVAL,
              "DIRECTOR_DATABASE_URI is neither a PostgreSQL URI nor a connection string: %s",
              reason);
    PQfreemem(reason);
    return -EINVAL;
}

/* Runs one query and leaves its first value, as text, in `value`. */
static int ask(struct pg_session *session, const char *sql, char value[64], struct error *error)
{
    struct pg_failure failure;
    session->deadline_us = clock_mono_us() + QUERY_TIMEOUT_US;
    PGresult *result = pg_session_query(session, sql, 0, NULL, &failure);
    if (result == NULL)
        return error_set(error, failure.class == PG_BUG ? -EINVAL : -EAGAIN, "%s", failure.text);
    snprintf(value, 64, "%s", PQgetvalue(result, 0, 0));
    PQclear(result);
    return 0;
}

static int connect_to(struct pg_session *session, const char *conninfo, struct error *error)
{
    struct pg_failure failure;
    session->deadline_us = clock_mono_us() + CONNECT_TIMEOUT_US;
    if (pg_session_open(session, conninfo, 0, &failure) != 0)
        return refuse_connection(error, &failure);
    return 0;
}

/* --- is this a database for us? -------------------------------------------------------------- */

/* A pooler invents backend ids. One that gives each client its own server session is fine; with one
 * that lends sessions for a transaction, a second client meets the session of the first. */
static int refuse_shared_sessions(struct database_check *check)
{
    static const char sql[] = "SELECT pg_backend_pid()";
    struct pg_session second = {.give_up = &check->give_up};
    char pid[64];
    char second_pid[64];

    if (ask(&check->session, sql, pid, &check->error) != 0)
        return check->error.code;
    if (atoi(pid) == PQbackendPID(check->session.connection))
        return 0;
    int code = connect_to(&second, check->options.conninfo, &check->error);
    if (code == 0)
        code = ask(&second, sql, second_pid, &check->error);
    pg_session_close(&second);
    if (code == 0 && strcmp(pid, second_pid) == 0)
        code = error_set(&check->error, -EINVAL,
                         "the database is behind a connection pool in transaction mode, where "
                         "prepared statements and LISTEN are lost: use session mode, or connect "
                         "to PostgreSQL itself");
    return code;
}

static int check_server(struct database_check *check)
{
    char value[64];
    struct error *error = &check->error;

    check->facts.server_version = PQserverVersion(check->session.connection);
    if (check->facts.server_version < OLDEST_VERSION)
        return error_set(error, -EINVAL,
                         "the database server is PostgreSQL %d: directord needs %d or newer",
                         check->facts.server_version / 10000, OLDEST_VERSION / 10000);
    if (ask(&check->session, "SHOW server_encoding", value, error) != 0)
        return error->code;
    if (strcmp(value, "UTF8") != 0)
        return error_set(error, -EINVAL,
                         "the database's encoding is %s: create one with ENCODING 'UTF8' TEMPLATE "
                         "template0",
                         value);
    return refuse_shared_sessions(check);
}

static int refuse_director(struct database_check *check)
{
    char value[64];
    if (ask(&check->session, "SELECT count(to_regclass('public.alembic_version'))", value,
            &check->error) != 0)
        return check->error.code;
    if (strcmp(value, "0") == 0)
        return 0;
    return error_set(&check->error, -EINVAL,
                     "the database \"%s\" holds the tables of Celery Director (alembic_version): "
                     "create an empty database and name it in DIRECTOR_DATABASE_URI",
                     PQdb(check->session.connection));
}

/* --- what does its clock say? ---------------------------------------------------------------- */

/* The quickest of a few round trips, halved, is the nearest that one gets. */
static int measure_clock(struct database_check *check)
{
    int64_t best_us = INT64_MAX;
    char value[64];
    for (int i = 0; i < CLOCK_SAMPLES; i++) {
        int64_t begin_us = clock_mono_us();
        int64_t wall_us = clock_wall_us();
        if (ask(&check->session, "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint",
                value, &check->error) != 0)
            return check->error.code;
        int64_t trip_us = clock_mono_us() - begin_us;
        if (trip_us >= best_us)
            continue;
        best_us = trip_us;
        check->facts.clock_offset_us = strtoll(value, NULL, 10) - (wall_us + trip_us / 2);
    }
    return 0;
}

/* --- the worker ------------------------------------------------------------------------------ */

static int run(struct database_check *check)
{
    const struct database_options *options = &check->options;
    struct error *error = &check->error;

    if (check_conninfo(options->conninfo, error) != 0)
        return error->code;
    if (options->ensure != NULL && options->ensure(options->context, error) != 0)
        return error->code;
    if (connect_to(&check->session, options->conninfo, error) != 0 || check_server(check) != 0 ||
        refuse_director(check) != 0 ||
        migrate_run(&check->session, options->migrations, error) != 0)
        return error->code;
    return measure_clock(check);
}

static void run_in_worker(uv_work_t *work)
{
    struct database_check *check = work->data;
    check->session.give_up = &check->give_up;
    int code = run(check);
    check->verdict = code == 0         ? DATABASE_READY
                     : code == -EINVAL ? DATABASE_REFUSED
                                       : DATABASE_AWAY;
    pg_session_close(&check->session);
}

static void on_run(uv_work_t *work, int status)
{
    (void)status; /* never cancelled: give_up does that */
    struct database_check *check = work->data;
    check->options.on_verdict(check->options.context, check->verdict, &check->facts, &check->error);
    free((char *)check->options.conninfo);
    free(check);
}

struct database_check *database_check_start(const struct database_options *options)
{
    struct database_check *check = mem_new(1, sizeof(*check));
    check->options = *options;
    check->options.conninfo = mem_text(options->conninfo);
    check->work.data = check;
    uv_queue_work(options->loop, &check->work, run_in_worker, on_run);
    return check;
}

void database_check_stop(struct database_check *check)
{
    atomic_store(&check->give_up, true);
}
