#include "store/migrate.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

/* Building an index over a long history takes a while, and so does waiting for a daemon that does.
 */
#define MIGRATION_TIMEOUT_US (3600 * US_PER_SECOND)
/* What is outside a transaction only looks. */
#define LOOK_TIMEOUT_US (10 * US_PER_SECOND)

/* The key of the advisory lock: "director" in ASCII. It is held by the transaction, which a
 * connection pool keeps whole. */
#define LOCK "SELECT pg_advisory_xact_lock(7235440056133250930)"

#define CREATE_TABLE                                                                  \
    "CREATE TABLE schema_migrations (number integer PRIMARY KEY, name text NOT NULL," \
    " checksum text NOT NULL, applied timestamptz NOT NULL DEFAULT now())"

#define CHECKSUM(parameter) "encode(sha256(convert_to(" parameter ", 'UTF8')), 'hex')"

enum outcome { APPLIED, MISSING };

static int fail(struct error *error, const struct pg_failure *failure)
{
    const char *hint = strcmp(failure->sqlstate, "42501") == 0
                           ? ": the user needs CREATE on the schema public of this database"
                           : "";
    return error_set(error, pg_failure_is_passing(failure) ? -EAGAIN : -EINVAL, "%s%s",
                     failure->text, hint);
}

static PGresult *query(struct pg_session *session, const char *sql, int count,
                       const char *const *parameters, struct error *error)
{
    struct pg_failure failure;
    bool migrating = PQtransactionStatus(session->connection) == PQTRANS_INTRANS;
    session->deadline_us = clock_mono_us() + (migrating ? MIGRATION_TIMEOUT_US : LOOK_TIMEOUT_US);
    PGresult *result = pg_session_query(session, sql, count, parameters, &failure);
    if (result == NULL)
        fail(error, &failure);
    return result;
}

static int execute(struct pg_session *session, const char *sql, int count,
                   const char *const *parameters, struct error *error)
{
    PGresult *result = query(session, sql, count, parameters, error);
    PQclear(result);
    return result != NULL ? 0 : error->code;
}

static int begin_locked(struct pg_session *session, struct error *error)
{
    int code = execute(session, "BEGIN", 0, NULL, error);
    return code == 0 ? execute(session, LOCK, 0, NULL, error) : code;
}

/* The only value of the only row, as a number. */
static int ask_number(struct pg_session *session, const char *sql, int *number, struct error *error)
{
    PGresult *result = query(session, sql, 0, NULL, error);
    if (result == NULL)
        return error->code;
    *number = atoi(PQgetvalue(result, 0, 0));
    PQclear(result);
    return 0;
}

/* Looks first: without the right to create, CREATE TABLE IF NOT EXISTS fails even where the table
 * exists. */
static int ensure_table(struct pg_session *session, struct error *error)
{
    const char *look = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
                       " AND tablename = 'schema_migrations'";
    int there = 0;
    if (ask_number(session, look, &there, error) != 0)
        return error->code;
    if (there)
        return 0;
    if (begin_locked(session, error) != 0 || ask_number(session, look, &there, error) != 0)
        return error->code;
    if (!there && execute(session, CREATE_TABLE, 0, NULL, error) != 0)
        return error->code;
    return execute(session, "COMMIT", 0, NULL, error);
}

static int refuse_newer(struct pg_session *session, const struct migration *list,
                        struct error *error)
{
    int known = 0;
    int found = 0;
    for (; list->sql != NULL; list++)
        known = list->number;
    if (ask_number(session, "SELECT coalesce(max(number), 0) FROM schema_migrations", &found,
                   error) != 0)
        return error->code;
    if (found > known)
        return error_set(error, -EINVAL,
                         "the database has migration %d, this directord knows only up to %d: "
                         "start the newer directord that made it",
                         found, known);
    return 0;
}

/* APPLIED, MISSING or a negative code. */
static int look_up(struct pg_session *session, const struct migration *migration,
                   struct error *error)
{
    char number[16];
    snprintf(number, sizeof(number), "%d", migration->number);
    const char *const parameters[] = {number, migration->sql};
    PGresult *result = query(session,
                             "SELECT checksum = " CHECKSUM("$2") " FROM schema_migrations"
                                                                 " WHERE number = $1::integer",
                             2, parameters, error);
    if (result == NULL)
        return error->code;
    int code = PQntuples(result) == 0 ? MISSING : APPLIED;
    if (code == APPLIED && PQgetvalue(result, 0, 0)[0] != 't')
        code = error_set(error, -EINVAL,
                         "migration %04d_%s was applied to this database in another version than "
                         "the one in this directord",
                         migration->number, migration->name);
    PQclear(result);
    return code;
}

static int apply(struct pg_session *session, const struct migration *migration, struct error *error)
{
    char number[16];
    snprintf(number, sizeof(number), "%d", migration->number);
    const char *const row[] = {number, migration->name, migration->sql};

    if (begin_locked(session, error) != 0)
        return error->code;
    int code = look_up(session, migration, error); /* again: another daemon may have been first */
    if (code < 0)
        return code;
    if (code == MISSING) {
        if (execute(session, migration->sql, 0, NULL, error) != 0)
            return error_wrap(error, "migration %04d_%s", migration->number, migration->name);
        if (execute(session,
                    "INSERT INTO public.schema_migrations (number, name, checksum)"
                    " VALUES ($1::integer, $2, " CHECKSUM("$3") ")",
                    3, row, error) != 0)
            return error->code;
    }
    return execute(session, "COMMIT", 0, NULL, error);
}

/* A failure leaves its transaction open; it ends with the session, which is of no more use. */
int migrate_run(struct pg_session *session, const struct migration *list, struct error *error)
{
    if (ensure_table(session, error) != 0 || refuse_newer(session, list, error) != 0)
        return error->code;
    for (; list->sql != NULL; list++) {
        int code = look_up(session, list, error);
        if (code == MISSING)
            code = apply(session, list, error);
        if (code < 0)
            return code;
    }
    return 0;
}
