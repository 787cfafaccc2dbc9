#include "store/pg_session.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"

/* A wait looks this often whether the owner gave up. */
#define GLANCE_MS 100

static bool given_up(const struct pg_session *session)
{
    return session->give_up != NULL && atomic_load(session->give_up);
}

/* A host that is not there takes longer than a server that does not answer: after it the next one
 * of several is tried. */
static int64_t wait_end_us(const struct pg_session *session)
{
    int64_t end_us = clock_mono_us() + session->patience_us;
    bool is_patient =
        session->patience_us == 0 || PQstatus(session->connection) == CONNECTION_STARTED;
    return is_patient || end_us > session->deadline_us ? session->deadline_us : end_us;
}

/* Waits until the socket has one of the poll `events`. 0; -1 past the deadline or when the owner
 * gave up. */
static int wait_for(struct pg_session *session, short events, struct pg_failure *failure)
{
    struct pollfd poller = {.fd = PQsocket(session->connection), .events = events};
    int64_t end_us = wait_end_us(session);
    while (!given_up(session)) {
        int64_t left_ms = (end_us - clock_mono_us()) / 1000;
        if (left_ms <= 0) {
            pg_failure_set(failure, PG_AWAY, "the database server did not answer in time");
            return -1;
        }
        /* EINTR counts as a glance; errors of the socket show as events. */
        if (poll(&poller, 1, left_ms < GLANCE_MS ? (int)left_ms : GLANCE_MS) > 0)
            return 0;
    }
    pg_failure_set(failure, PG_AWAY, "given up");
    return -1;
}

/* --- connecting ------------------------------------------------------------------------------ */

static PGconn *start_connecting(const char *conninfo)
{
    /* What stands before `dbname`, which holds the user's own string, is a default; what stands
     * behind is a rule. The user timeout also ends a connect to a dead host, so that the next one
     * of several is tried. */
    const char *const settings[][2] = {
        {"fallback_application_name", "directord"},
        {"keepalives_idle", "10"},
        {"keepalives_interval", "5"},
        {"keepalives_count", "3"},
        {"tcp_user_timeout", "10000"},
        {"dbname", conninfo},
        {"client_encoding", "UTF8"},
        {"target_session_attrs", "read-write"},
        {NULL, NULL},
    };
    const char *keywords[sizeof(settings) / sizeof(settings[0])];
    const char *values[sizeof(settings) / sizeof(settings[0])];
    for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++) {
        keywords[i] = settings[i][0];
        values[i] = settings[i][1];
    }
    PGconn *connection = PQconnectStartParams(keywords, values, 1);
    if (connection != NULL)
        /* For the SQLSTATE of a refusal, see pg_failure_of_connection. */
        PQsetErrorVerbosity(connection, PQERRORS_VERBOSE);
    return connection;
}

static int finish_connecting(struct pg_session *session, struct pg_failure *failure)
{
    PostgresPollingStatusType status = PGRES_POLLING_WRITING;
    while (PQstatus(session->connection) != CONNECTION_BAD && status != PGRES_POLLING_OK) {
        if (wait_for(session, status == PGRES_POLLING_READING ? POLLIN : POLLOUT, failure) != 0)
            return -1;
        status = PQconnectPoll(session->connection);
        if (status == PGRES_POLLING_FAILED)
            break;
    }
    if (status == PGRES_POLLING_OK)
        return 0;
    pg_failure_of_connection(failure, session->connection);
    if (PQconnectionNeedsPassword(session->connection) && failure->sqlstate[0] == '\0') {
        pg_failure_set(failure, PG_BUG, "the database server asks for a password and none is set");
        strcpy(failure->sqlstate, "28P01");
    }
    return -1;
}

static void ignore_notice(void *context, const PGresult *notice)
{
    (void)context;
    (void)notice;
}

static int set_up(struct pg_session *session, int statement_timeout_ms, struct pg_failure *failure)
{
    /* JIT compiles for longer than our statements run. The check lets a backend in a long statement
     * notice that its client left; older servers, and some systems, do not have it. */
    char *sql = mem_format(
        "SET TimeZone = 'UTC'; SET search_path = public; SET client_min_messages = error;"
        "SET default_transaction_isolation = 'read committed'; SET jit = off;"
        /* Our statements find their rows by key: one plan for each, made once, also while the
         * tables are empty and a walk through a whole table or index would look as cheap. */
        "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off;"
        "SET enable_indexonlyscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off;"
        "SET enable_bitmapscan = off; SET enable_memoize = off;"
        "SET statement_timeout = %d; SET lock_timeout = %d;"
        "SET idle_in_transaction_session_timeout = '30s';"
        "DO $$ BEGIN PERFORM set_config('client_connection_check_interval', '5s', false);"
        " EXCEPTION WHEN OTHERS THEN NULL; END $$",
        statement_timeout_ms, statement_timeout_ms / 2);
    PGresult *result = pg_session_query(session, sql, 0, NULL, failure);
    free(sql);
    PQclear(result);
    return result != NULL ? 0 : -1;
}

int pg_session_open(struct pg_session *session, const char *conninfo, int statement_timeout_ms,
                    struct pg_failure *failure)
{
    session->connection = start_connecting(conninfo);
    if (session->connection == NULL) {
        pg_failure_set(failure, PG_RESOURCE, "out of memory");
        return -1;
    }
    PQsetNoticeReceiver(session->connection, ignore_notice, NULL);
    if (finish_connecting(session, failure) != 0 || PQsetnonblocking(session->connection, 1) != 0 ||
        set_up(session, statement_timeout_ms, failure) != 0) {
        pg_session_close(session);
        return -1;
    }
    return 0;
}

void pg_session_close(struct pg_session *session)
{
    PQfinish(session->connection);
    session->connection = NULL;
}

/* --- statements ------------------------------------------------------------------------------ */

/* Sends what is buffered, reading meanwhile: a server that cannot write stops reading. */
static int flush(struct pg_session *session, struct pg_failure *failure)
{
    int left;
    while ((left = PQflush(session->connection)) > 0)
        if (wait_for(session, POLLIN | POLLOUT, failure) != 0)
            return -1;
        else if (PQconsumeInput(session->connection) == 0)
            break;
    if (left == 0)
        return 0;
    pg_failure_of_connection(failure, session->connection);
    return -1;
}

/* The next result may be NULL, which libpq returns after the last one of a statement. */
static int next_result(struct pg_session *session, PGresult **result, struct pg_failure *failure)
{
    while (PQisBusy(session->connection)) {
        if (wait_for(session, POLLIN, failure) != 0)
            return -1;
        if (PQconsumeInput(session->connection) == 0) {
            pg_failure_of_connection(failure, session->connection);
            return -1;
        }
    }
    *result = PQgetResult(session->connection);
    return 0;
}

static bool is_error(const PGresult *result)
{
    ExecStatusType status = PQresultStatus(result);
    return status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK && status != PGRES_PIPELINE_SYNC;
}

/* Reads all results of one query and keeps the last, or the first that is an error. */
static PGresult *collect(struct pg_session *session, struct pg_failure *failure)
{
    PGresult *kept = NULL;
    PGresult *result;
    for (;;) {
        if (next_result(session, &result, failure) != 0) {
            PQclear(kept);
            return NULL;
        }
        if (result == NULL)
            break;
        if (kept != NULL && is_error(kept)) {
            PQclear(result);
            continue;
        }
        PQclear(kept);
        kept = result;
    }
    if (kept != NULL && !is_error(kept))
        return kept;
    pg_failure_of_result(failure, kept);
    PQclear(kept);
    return NULL;
}

PGresult *pg_session_query(struct pg_session *session, const char *sql, int parameter_count,
                           const char *const *parameters, struct pg_failure *failure)
{
    int sent = parameter_count == 0 ? PQsendQuery(session->connection, sql)
                                    : PQsendQueryParams(session->connection, sql, parameter_count,
                                                        NULL, parameters, NULL, NULL, 0);
    if (!sent) {
        pg_failure_of_connection(failure, session->connection);
        return NULL;
    }
    if (flush(session, failure) != 0)
        return NULL;
    return collect(session, failure);
}

/* --- preparing ------------------------------------------------------------------------------- */

static int send_prepare(PGconn *connection, const struct pg_statement *statement)
{
    Oid types[PG_MAX_PARAMS];
    int count = 0;
    for (; statement->types[count] != 0; count++)
        types[count] = statement->types[count];
    return PQsendPrepare(connection, statement->name, statement->sql, count, types);
}

static int send_listen(PGconn *connection, const char *channel)
{
    char *sql = mem_format("LISTEN \"%s\"", channel);
    int sent = PQsendQueryParams(connection, sql, 0, NULL, NULL, NULL, NULL, 0);
    free(sql);
    return sent;
}

static int send_all(PGconn *connection, const struct pg_statement *statements, int statement_count,
                    const char *const *channels)
{
    int sent = PQenterPipelineMode(connection);
    for (int i = 0; i < statement_count && sent; i++)
        sent = send_prepare(connection, &statements[i]);
    for (int i = 0; channels != NULL && channels[i] != NULL && sent; i++)
        sent = send_listen(connection, channels[i]);
    return sent && PQpipelineSync(connection);
}

int pg_session_prepare(struct pg_session *session, const struct pg_statement *statements,
                       int statement_count, const char *const *channels, struct pg_failure *failure)
{
    int done = 0;
    int code = 0;
    if (!send_all(session->connection, statements, statement_count, channels)) {
        pg_failure_of_connection(failure, session->connection);
        return -1;
    }
    if (flush(session, failure) != 0)
        return -1;
    for (bool synced = false; !synced;) {
        PGresult *result;
        if (next_result(session, &result, failure) != 0)
            return -1;
        if (result == NULL) {
            done++;
            continue;
        }
        synced = PQresultStatus(result) == PGRES_PIPELINE_SYNC;
        if (is_error(result) && code == 0) {
            pg_failure_of_result(failure, result);
            pg_failure_wrap(failure, done < statement_count ? statements[done].name : "LISTEN");
            code = -1;
        }
        PQclear(result);
        if (PQstatus(session->connection) == CONNECTION_BAD)
            return -1;
    }
    return code;
}
