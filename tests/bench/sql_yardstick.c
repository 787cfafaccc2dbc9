/* The yardstick for the engine: its SQL functions called in a loop, as fast as the database takes
 * them. Sessions, statements and binary parameters are the daemon's own; what is missing is all
 * that a daemon does between the calls.
 *
 *     sql_yardstick CONNINFO WHAT DEFINITION BATCH CONNECTIONS COUNT PAUSE
 *
 * WHAT, until COUNT items are done, with PAUSE milliseconds after each round:
 *
 *     launch  launches instances, whose tasks stay
 *     engine  launches BATCH instances of a chain, and finishes them level by level
 *     drain   claims and finishes what is due
 *     commit  commits one row; BATCH does not matter
 *
 * Prints the items a second, and how long one call and one round took in the middle (µs). */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"
#include "store/answer.h"
#include "store/pg_request.h"
#include "store/pg_session.h"
#include "store/statements.h"

#define TIMEOUT_MS 60000
#define MAX_CONNECTIONS 64

struct worker;

struct bench {
    const char *conninfo;
    int (*round)(struct worker *worker); /* how many items it did; 0: there is nothing left */
    int64_t definition;
    int batch;
    int pause_ms;
    atomic_int left;
    struct id node;
};

struct task {
    struct id workflow;
    int position;
    int attempt;
};

struct worker {
    pthread_t thread;
    struct pg_session session;
    struct id_maker id_maker;
    struct task *claimed; /* by the last call, at most a batch */
    int claimed_count;
    int64_t *calls_us;
    int call_count;
    int64_t *rounds_us;
    int round_count;
};

static struct bench bench;
static struct worker workers[MAX_CONNECTIONS];

static const struct pg_statement commit_statement = {
    .name = "commit",
    .sql = "INSERT INTO definition_files VALUES ('yardstick', '', $1, '') "
           "ON CONFLICT (host, directory, name) DO UPDATE SET loaded = clock_timestamp()",
    .types = {PG_TEXT},
};

static void die(const char *what, const struct pg_failure *failure)
{
    fprintf(stderr, "sql_yardstick: %s: %s\n", what, failure->text);
    exit(EXIT_FAILURE);
}

/* --- calls ----------------------------------------------------------------------------------- */

static void on_answer(void *context, const struct answer *answer)
{
    struct worker *worker = context;
    if (answer->kind == ANSWER_CLAIMED)
        worker->claimed[worker->claimed_count++] =
            (struct task){answer->workflow, answer->position, answer->attempt};
}

/* Its rows, and then its Sync. */
static PGresult *next_result(PGconn *connection)
{
    PGresult *result = NULL;
    PGresult *last;
    while ((last = PQgetResult(connection)) != NULL)
        result = last;
    last = PQgetResult(connection);
    PQclear(last);
    return result;
}

/* One call, and what it claimed. */
static void call(struct worker *worker, const struct pg_statement *statement,
                 struct pg_params *params)
{
    PGconn *connection = worker->session.connection;
    int64_t begin_us = clock_mono_us();
    struct pg_request *request =
        pg_request_new(&(struct pg_call){0}, statement, params, NULL, NULL);
    pg_request_transmit(request, connection, statement);
    PQflush(connection);
    pg_request_take(request, next_result(connection));
    if (request->failure.class != 0)
        die(statement->name, &request->failure);
    worker->claimed_count = 0;
    if (pg_rows_count(&request->rows) > 0)
        answer_each(&request->rows, on_answer, worker);
    worker->calls_us[worker->call_count++] = clock_mono_us() - begin_us;
    PQclear((PGresult *)request->rows.result);
    pg_params_done(&request->params);
    free(request);
}

static void begin_params(struct pg_params *params, int slots)
{
    struct id batch = id_random();
    pg_params_id(params, &batch);
    pg_params_id(params, &bench.node);
    pg_params_int4(params, slots);
    pg_params_bool(params, false);
}

/* A column of a batch: the statement for each of its items. */
#define COLUMN(params, element, count, statement) \
    do {                                          \
        pg_params_array_begin(params, element);   \
        for (int i = 0; i < (count); i++)         \
            statement;                            \
        pg_params_array_end(params);              \
    } while (0)

static enum pg_type element_of(enum pg_type array)
{
    switch (array) {
    case PG_ID_ARRAY:
        return PG_ID;
    case PG_TEXT_ARRAY:
        return PG_TEXT;
    case PG_JSON_ARRAY:
        return PG_JSON;
    case PG_INT4_ARRAY:
        return PG_INT4;
    default:
        return PG_INT8;
    }
}

/* The columns that a statement has besides: nothing in them. */
static void add_nulls(struct pg_params *params, const struct pg_statement *statement, int n)
{
    while (statement->types[params->count] != 0)
        COLUMN(params, element_of(statement->types[params->count]), n, pg_params_null(params));
}

static void launch(struct worker *worker, int slots)
{
    const struct json_span payload = {"{}", 2};
    struct pg_params params = {0};
    int n = bench.batch;
    int64_t *created_us = mem_new((size_t)n, sizeof *created_us);
    struct id *ids = mem_new((size_t)n, sizeof *ids);
    for (int i = 0; i < n; i++) {
        created_us[i] = clock_wall_us();
        ids[i] = id_make_workflow(&worker->id_maker, &created_us[i]);
    }
    begin_params(&params, slots);
    COLUMN(&params, PG_ID, n, pg_params_id(&params, &ids[i]));
    COLUMN(&params, PG_INT8, n, pg_params_int8(&params, bench.definition));
    COLUMN(&params, PG_TIME, n, pg_params_time(&params, created_us[i]));
    COLUMN(&params, PG_JSON, n, pg_params_json(&params, payload));
    add_nulls(&params, &statements[STATEMENT_LAUNCH], n);
    call(worker, &statements[STATEMENT_LAUNCH], &params);
    free(created_us);
    free(ids);
}

/* Ends all that the last call claimed as success. */
static void finish(struct worker *worker, int slots)
{
    struct pg_params params = {0};
    const struct task *tasks = worker->claimed;
    int n = worker->claimed_count;
    begin_params(&params, slots);
    COLUMN(&params, PG_ID, n, pg_params_id(&params, &tasks[i].workflow));
    COLUMN(&params, PG_INT4, n, pg_params_int4(&params, tasks[i].position));
    COLUMN(&params, PG_INT4, n, pg_params_int4(&params, tasks[i].attempt));
    COLUMN(&params, PG_BOOL, n, pg_params_bool(&params, true));
    COLUMN(&params, PG_BOOL, n, pg_params_bool(&params, false));
    add_nulls(&params, &statements[STATEMENT_FINISH], n);
    call(worker, &statements[STATEMENT_FINISH], &params);
}

/* --- rounds ---------------------------------------------------------------------------------- */

static int round_launch(struct worker *worker)
{
    launch(worker, 0);
    return bench.batch;
}

static int round_engine(struct worker *worker)
{
    launch(worker, bench.batch);
    while (worker->claimed_count > 0)
        finish(worker, bench.batch);
    return bench.batch;
}

static int round_drain(struct worker *worker)
{
    struct pg_params params = {0};
    begin_params(&params, bench.batch);
    call(worker, &statements[STATEMENT_CLAIM], &params);
    int count = worker->claimed_count;
    if (count > 0)
        finish(worker, 0);
    return count;
}

static int round_commit(struct worker *worker)
{
    struct pg_params params = {0};
    pg_params_text(&params, worker == workers ? "first" : "other");
    call(worker, &commit_statement, &params);
    return 1;
}

static const struct {
    const char *name;
    int (*run)(struct worker *worker);
} rounds[] = {
    {"launch", round_launch},
    {"engine", round_engine},
    {"drain", round_drain},
    {"commit", round_commit},
};

/* --- the run --------------------------------------------------------------------------------- */

static void *work(void *context)
{
    struct worker *worker = context;
    int done = 1;
    while (done > 0 && atomic_load(&bench.left) > 0) {
        int64_t begin_us = clock_mono_us();
        done = bench.round(worker);
        worker->rounds_us[worker->round_count++] = clock_mono_us() - begin_us;
        atomic_fetch_sub(&bench.left, done);
        usleep((useconds_t)bench.pause_ms * 1000);
    }
    return NULL;
}

static void open_worker(struct worker *worker, int count)
{
    struct pg_failure failure;
    worker->session.deadline_us = clock_mono_us() + TIMEOUT_MS * INT64_C(1000);
    worker->claimed = mem_new((size_t)bench.batch, sizeof *worker->claimed);
    /* At worst a call for each item and task of a short chain. */
    worker->calls_us = mem_new((size_t)count * 8 + 16, sizeof *worker->calls_us);
    worker->rounds_us = mem_new((size_t)count + 16, sizeof *worker->rounds_us);
    if (pg_session_open(&worker->session, bench.conninfo, TIMEOUT_MS, &failure) != 0 ||
        pg_session_prepare(&worker->session, statements, STATEMENT_COUNT, NULL, &failure) != 0 ||
        pg_session_prepare(&worker->session, &commit_statement, 1, NULL, &failure) != 0)
        die("connecting", &failure);
    PQsetnonblocking(worker->session.connection, 0);
}

/* Claims need a node of their own: one that is never heard of again. */
static void register_node(void)
{
    struct pg_session session = {.deadline_us = clock_mono_us() + TIMEOUT_MS * INT64_C(1000)};
    struct pg_failure failure;
    char id[ID_TEXT_SIZE];
    const char *parameters[] = {id};
    bench.node = id_random();
    id_format(&bench.node, id);
    if (pg_session_open(&session, bench.conninfo, TIMEOUT_MS, &failure) != 0)
        die("connecting", &failure);
    PGresult *result = pg_session_query(
        &session, "SELECT register_node($1::uuid, 'yardstick', '', '', '', '{*}', 1, 1 << 20)", 1,
        parameters, &failure);
    if (result == NULL)
        die("register_node", &failure);
    PQclear(result);
    pg_session_close(&session);
}

static int compare_int64(const void *a, const void *b)
{
    int64_t left = *(const int64_t *)a;
    int64_t right = *(const int64_t *)b;
    return (left > right) - (left < right);
}

static long long median(int64_t *values, int count)
{
    qsort(values, (size_t)count, sizeof *values, compare_int64);
    return count == 0 ? 0 : values[count / 2];
}

int main(int argc, char **argv)
{
    int connections = argc == 8 ? atoi(argv[5]) : 0;
    for (size_t i = 0; i < sizeof rounds / sizeof *rounds && argc == 8; i++) {
        if (strcmp(argv[2], rounds[i].name) == 0)
            bench.round = rounds[i].run;
    }
    if (bench.round == NULL || connections < 1 || connections > MAX_CONNECTIONS) {
        fprintf(stderr, "usage: sql_yardstick CONNINFO launch|engine|drain|commit DEFINITION BATCH "
                        "CONNECTIONS COUNT PAUSE\n");
        return EXIT_FAILURE;
    }
    int count = atoi(argv[6]);
    bench.conninfo = argv[1];
    bench.definition = atoll(argv[3]);
    bench.batch = atoi(argv[4]);
    bench.pause_ms = atoi(argv[7]);
    atomic_init(&bench.left, count);
    register_node();
    for (int i = 0; i < connections; i++)
        open_worker(&workers[i], count);

    int64_t begin_us = clock_mono_us();
    for (int i = 0; i < connections; i++)
        pthread_create(&workers[i].thread, NULL, work, &workers[i]);
    for (int i = 0; i < connections; i++)
        pthread_join(workers[i].thread, NULL);
    double seconds = (double)(clock_mono_us() - begin_us) / 1e6;
    printf("%.1f %lld %lld\n", (count - atomic_load(&bench.left)) / seconds,
           median(workers[0].calls_us, workers[0].call_count),
           median(workers[0].rounds_us, workers[0].round_count));
    return EXIT_SUCCESS;
}
