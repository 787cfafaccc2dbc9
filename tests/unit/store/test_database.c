/* What the start makes of a database, and the migrations, on a real PostgreSQL. */
#include <errno.h>
#include <libpq-fe.h>
#include <stdlib.h>
#include <string.h>

#include "store/database.h"
#include "tests/unit/pg_fixture.h"
#include "tests/unit/unit.h"

static const struct migration first[] = {
    {1, "tables", "CREATE TABLE apples (n int);\nINSERT INTO apples VALUES (1); -- once\n"},
    {0, NULL, NULL},
};
static const struct migration both[] = {
    {1, "tables", "CREATE TABLE apples (n int);\nINSERT INTO apples VALUES (1); -- once\n"},
    {2, "pears", "CREATE TABLE pears (n int); INSERT INTO apples SELECT 2 FROM pg_sleep(0.2);"},
    {0, NULL, NULL},
};
static const struct migration edited[] = {
    {1, "tables", "CREATE TABLE apples (n bigint);"},
    {0, NULL, NULL},
};
static const struct migration broken[] = {
    {1, "tables", "CREATE TABLE apples (n int);\nINSERT INTO apples VALUES (1); -- once\n"},
    {2, "pears", "CREATE TABLE pears (n int); SELECT 1 / 0;"},
    {0, NULL, NULL},
};

/* --- one server for all tests; each has a database of its own -------------------------------- */

static struct pg_fixture fixture;
static char conninfo[192];
static uv_loop_t loop;

struct verdict {
    int refusal; /* what the ensure hook answers */
    int count;
    enum database_verdict verdict;
    struct database_facts facts;
    struct error error;
};

static void run_sql(const char *where, const char *sql)
{
    PGconn *connection = PQconnectdb(where);
    PGresult *result = PQexec(connection, sql);
    ck_assert_msg(PQresultStatus(result) == PGRES_COMMAND_OK, "%s", PQerrorMessage(connection));
    PQclear(result);
    PQfinish(connection);
}

static int ask_number(const char *sql)
{
    PGconn *connection = PQconnectdb(conninfo);
    PGresult *result = PQexec(connection, sql);
    ck_assert_msg(PQresultStatus(result) == PGRES_TUPLES_OK, "%s", PQerrorMessage(connection));
    int number = atoi(PQgetvalue(result, 0, 0));
    PQclear(result);
    PQfinish(connection);
    return number;
}

static void start_server(void)
{
    char path[128];
    pg_fixture_open(&fixture);
    snprintf(path, sizeof(path), "%s/data/pg_hba.conf", fixture.folder);
    FILE *file = fopen(path, "w");
    ck_assert(file != NULL);
    fputs("local all locked scram-sha-256\nlocal all stranger reject\nlocal all all trust\n", file);
    fclose(file);
    run_sql(fixture.conninfo, "CREATE ROLE locked LOGIN PASSWORD 'secret'");
    run_sql(fixture.conninfo, "CREATE ROLE plain LOGIN");
    pg_fixture_run(&fixture, "pg_ctl -s -D data reload");
}

static void stop_server(void)
{
    pg_fixture_close(&fixture);
}

static void set_up(void)
{
    run_sql(fixture.conninfo, "DROP DATABASE IF EXISTS fresh");
    run_sql(fixture.conninfo, "CREATE DATABASE fresh");
    snprintf(conninfo, sizeof(conninfo), "host=%s user=postgres dbname=fresh", fixture.folder);
    uv_loop_init(&loop);
}

static void tear_down(void)
{
    ck_assert_int_eq(uv_loop_close(&loop), 0);
}

static void on_verdict(void *context, enum database_verdict value,
                       const struct database_facts *facts, const struct error *error)
{
    struct verdict *verdict = context;
    verdict->count++;
    verdict->verdict = value;
    verdict->facts = *facts;
    verdict->error = *error;
}

static struct database_check *start_check(const char *where, const struct migration *migrations_,
                                          struct verdict *verdict)
{
    return database_check_start(&(struct database_options){
        .loop = &loop,
        .conninfo = where,
        .migrations = migrations_,
        .on_verdict = on_verdict,
        .context = verdict,
    });
}

static struct verdict check(const char *where, const struct migration *migrations_)
{
    struct verdict verdict = {0};
    start_check(where, migrations_, &verdict);
    uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(verdict.count, 1);
    return verdict;
}

static void expect(struct verdict verdict, enum database_verdict value, const char *text)
{
    ck_assert_msg(verdict.verdict == value && strstr(verdict.error.text, text) != NULL,
                  "verdict %d, \"%s\"; expected %d, \"…%s…\"", verdict.verdict, verdict.error.text,
                  value, text);
}

/* --- migrations ------------------------------------------------------------------------------ */

START_TEST(migrations_are_applied_once)
{
    expect(check(conninfo, first), DATABASE_READY, "");
    expect(check(conninfo, both), DATABASE_READY, "");
    expect(check(conninfo, both), DATABASE_READY, "");
    ck_assert_int_eq(ask_number("SELECT count(*) FROM apples"), 2);
    ck_assert_int_eq(
        ask_number("SELECT count(*) FROM schema_migrations"
                   " WHERE (number, name) IN ((1, 'tables'), (2, 'pears')) AND applied <= now()"),
        2);
}
END_TEST

START_TEST(daemons_that_start_at_once_migrate_once)
{
    struct verdict verdicts[3] = {0};
    for (int i = 0; i < 3; i++)
        start_check(conninfo, both, &verdicts[i]);
    uv_run(&loop, UV_RUN_DEFAULT);
    for (int i = 0; i < 3; i++)
        expect(verdicts[i], DATABASE_READY, "");
    ck_assert_int_eq(ask_number("SELECT count(*) FROM apples"), 2);
}
END_TEST

START_TEST(an_edited_migration_is_refused)
{
    check(conninfo, first);
    expect(check(conninfo, edited), DATABASE_REFUSED, "migration 0001_tables");
}
END_TEST

START_TEST(a_newer_database_is_refused)
{
    check(conninfo, both);
    expect(check(conninfo, first), DATABASE_REFUSED, "has migration 2");
}
END_TEST

START_TEST(a_broken_migration_leaves_nothing)
{
    expect(check(conninfo, broken), DATABASE_REFUSED, "migration 0002_pears: division by zero");
    ck_assert_int_eq(ask_number("SELECT max(number) FROM schema_migrations"), 1);
    expect(check(conninfo, both), DATABASE_READY, "");
}
END_TEST

START_TEST(the_program_s_own_migrations_apply)
{
    expect(check(conninfo, migrations), DATABASE_READY, "");
    expect(check(conninfo, migrations), DATABASE_READY, "");
}
END_TEST

/* --- verdicts -------------------------------------------------------------------------------- */

START_TEST(facts_are_told)
{
    struct verdict verdict = check(conninfo, first);
    ck_assert_int_ge(verdict.facts.server_version, 130000);
    ck_assert_int_lt(llabs(verdict.facts.clock_offset_us), 100000); /* the same machine */
}
END_TEST

static const struct {
    const char *conninfo; /* behind "host=… " */
    enum database_verdict verdict;
    const char *text;
} connections[] = {
    {"user=locked password=wrong dbname=fresh", DATABASE_REFUSED,
     "correct the password in DIRECTOR_DATABASE_URI"},
    {"user=locked dbname=fresh", DATABASE_REFUSED, "correct the password in DIRECTOR_DATABASE_URI"},
    {"user=stranger dbname=fresh", DATABASE_REFUSED, "pg_hba.conf"},
    {"user=nobody dbname=fresh", DATABASE_REFUSED, "role \"nobody\" does not exist"},
    {"user=postgres dbname=nowhere", DATABASE_REFUSED, "create the database"},
    {"user=plain dbname=fresh", DATABASE_REFUSED, "needs CREATE on the schema public"},
    {"user=postgres dbname=fresh nonsense", DATABASE_REFUSED, "connection string"},
    {"user=postgres dbname=fresh port=1", DATABASE_AWAY, "No such file or directory"},
};

START_TEST(refusals_say_what_to_do)
{
    char where[256];
    snprintf(where, sizeof(where), "host=%s %s", fixture.folder, connections[_i].conninfo);
    expect(check(where, first), connections[_i].verdict, connections[_i].text);
}
END_TEST

START_TEST(director_s_database_is_refused)
{
    run_sql(conninfo, "CREATE TABLE alembic_version (version_num text)");
    expect(check(conninfo, first), DATABASE_REFUSED,
           "\"fresh\" holds the tables of Celery Director");
    ck_assert_int_eq(ask_number("SELECT count(to_regclass('schema_migrations'))"), 0);
}
END_TEST

START_TEST(another_encoding_is_refused)
{
    run_sql(fixture.conninfo, "DROP DATABASE fresh");
    run_sql(fixture.conninfo, "CREATE DATABASE fresh ENCODING 'LATIN1' TEMPLATE template0");
    expect(check(conninfo, first), DATABASE_REFUSED, "encoding is LATIN1");
}
END_TEST

START_TEST(a_stopped_server_is_away)
{
    pg_fixture_stop(&fixture, "fast");
    struct verdict verdict = check(conninfo, first);
    pg_fixture_start(&fixture);
    expect(verdict, DATABASE_AWAY, "No such file or directory");
}
END_TEST

static int refuse(void *context, struct error *error)
{
    const struct verdict *verdict = context;
    return error_set(error, verdict->refusal, "the private server does not start");
}

START_TEST(the_ensure_hook_comes_first)
{
    static const int codes[] = {-EINVAL, -EAGAIN};
    struct verdict verdict = {.refusal = codes[_i]};
    database_check_start(&(struct database_options){
        .loop = &loop,
        .conninfo = conninfo,
        .migrations = first,
        .ensure = refuse,
        .on_verdict = on_verdict,
        .context = &verdict,
    });
    uv_run(&loop, UV_RUN_DEFAULT);
    expect(verdict, codes[_i] == -EINVAL ? DATABASE_REFUSED : DATABASE_AWAY, "the private server");
}
END_TEST

/* While another daemon migrates; the lock would last for ever. */
START_TEST(stop_ends_the_waiting)
{
    PGconn *other = PQconnectdb(conninfo);
    PQclear(PQexec(other, "SELECT pg_advisory_lock(7235440056133250930)"));
    struct verdict verdict = {0};
    struct database_check *check_ = start_check(conninfo, first, &verdict);
    database_check_stop(check_);
    uv_run(&loop, UV_RUN_DEFAULT);
    PQfinish(other);
    ck_assert_int_eq(verdict.verdict, DATABASE_AWAY);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("database");
    TCase *tcase = tcase_create("database");
    tcase_set_timeout(tcase, 60);
    tcase_add_unchecked_fixture(tcase, start_server, stop_server);
    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_test(tcase, migrations_are_applied_once);
    tcase_add_test(tcase, daemons_that_start_at_once_migrate_once);
    tcase_add_test(tcase, an_edited_migration_is_refused);
    tcase_add_test(tcase, a_newer_database_is_refused);
    tcase_add_test(tcase, a_broken_migration_leaves_nothing);
    tcase_add_test(tcase, the_program_s_own_migrations_apply);
    tcase_add_test(tcase, facts_are_told);
    tcase_add_loop_test(tcase, refusals_say_what_to_do, 0,
                        sizeof(connections) / sizeof(connections[0]));
    tcase_add_test(tcase, director_s_database_is_refused);
    tcase_add_test(tcase, another_encoding_is_refused);
    tcase_add_test(tcase, a_stopped_server_is_away);
    tcase_add_loop_test(tcase, the_ensure_hook_comes_first, 0, 2);
    tcase_add_test(tcase, stop_ends_the_waiting);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
