/* Ends of attempts: a batch of them is one call of finish(). */
#include "base/log.h"
#include "store/replay.h"
#include "store/spool.h"
#include "store/store_internal.h"

/* Appends one column of the batch. */
static void build_columns(const struct batch_item *items, struct pg_params *params)
{
#define EACH_FINISH(element, statement)                                                \
    do {                                                                               \
        pg_params_array_begin(params, element);                                        \
        for (const struct batch_item *item = items; item != NULL; item = item->next) { \
            const struct store_finish *finish = (const struct store_finish *)item;     \
            statement;                                                                 \
        }                                                                              \
        pg_params_array_end(params);                                                   \
    } while (0)
    EACH_FINISH(PG_ID, pg_params_id(params, &finish->workflow));
    EACH_FINISH(PG_INT4, pg_params_int4(params, finish->position));
    EACH_FINISH(PG_INT4, pg_params_int4(params, finish->attempt));
    EACH_FINISH(PG_BOOL, pg_params_bool(params, finish->success));
    EACH_FINISH(PG_BOOL, pg_params_bool(params, finish->retryable));
    EACH_FINISH(PG_JSON, pg_params_json(params, finish->result));
    EACH_FINISH(PG_TEXT, pg_params_text(params, finish->reason));
    EACH_FINISH(PG_INT4, finish->exit_status < 0 ? pg_params_null(params)
                                                 : pg_params_int4(params, finish->exit_status));
    EACH_FINISH(PG_INT4, finish->signal == 0 ? pg_params_null(params)
                                             : pg_params_int4(params, finish->signal));
    EACH_FINISH(PG_INT8, finish->peak_memory_bytes == 0
                             ? pg_params_null(params)
                             : pg_params_int8(params, finish->peak_memory_bytes));
    EACH_FINISH(PG_INT8, finish->cpu_us == 0 ? pg_params_null(params)
                                             : pg_params_int8(params, finish->cpu_us));
#undef EACH_FINISH
}

static void build(void *context, const struct batch_item *items, int n, struct pg_params *params,
                  const struct id *batch)
{
    struct store *store = context;
    pg_params_id(params, batch);
    pg_params_id(params, &store->node);
    pg_params_int4(params, store_reserve(store, store->finishes, &store->reserved_finishes, n));
    pg_params_bool(params, false);
    build_columns(items, params);
}

/* Nobody waits for what an earlier daemon left. */
static void end(struct store_finish *finish)
{
    if (finish->on_done != NULL)
        finish->on_done(finish);
}

static void done(void *context, struct batch_item *items, int n, const struct pg_rows *rows)
{
    struct store *store = context;
    store_release(store, &store->reserved_finishes);
    for (struct batch_item *item = items, *next; item != NULL; item = next) {
        struct store_finish *finish = (struct store_finish *)item;
        next = item->next;
        spool_release(store->spool, finish);
        end(finish);
    }
    answer_each(rows, store_answer, store);
    if (store->replay != NULL)
        replay_settle(store, n);
}

static const char refused_text[] =
    "{\"exception\":\"the database refused the result\",\"traceback\":\"\"}";

static void log_failed(const struct store_finish *finish, const struct pg_failure *failure)
{
    char id[ID_TEXT_SIZE];
    struct id task = id_task(&finish->workflow, finish->position);
    id_format(&task, id);
    if (failure->class == PG_SLOW)
        log_warning("the end of an attempt took longer than DIRECTOR_QUERY_TIMEOUT allows; it is "
                    "sent again",
                    log_text("task", id));
    else
        log_error("the end of an attempt was refused", log_text("task", id),
                  log_text("error", failure->text), log_text("sqlstate", failure->sqlstate));
}

/* The attempt must not stay `progress` for ever. A result that the database refuses (only a bound
 * that it and the daemon see differently can bring that about) is replaced by the reason; anything
 * else is tried again later. Of an earlier daemon only what took too long is: its other attempts
 * end as lost. */
static void failed(void *context, struct batch_item *item, const struct pg_failure *failure)
{
    struct store *store = context;
    struct store_finish *finish = (struct store_finish *)item;
    store_release(store, &store->reserved_finishes);
    if (failure->class == PG_AWAY) { /* the store closes */
        end(finish);
        return;
    }
    log_failed(finish, failure);
    if (failure->class == PG_DATA && finish->result.text != refused_text) {
        finish->success = false;
        finish->retryable = false;
        finish->reason = "bad_result";
        finish->result = (struct json_span){refused_text, sizeof refused_text - 1};
        store_finish_again(store, finish);
    } else if (store->replay != NULL && failure->class == PG_SLOW) {
        store_finish_again(store, finish); /* there is no heartbeat yet */
    } else if (store->replay != NULL) {
        replay_refuse(store, finish);
    } else {
        item->next = store->stuck;
        store->stuck = item;
    }
}

void store_retry_finishes(struct store *store)
{
    struct batch_item *item = store->stuck;
    store->stuck = NULL;
    while (item != NULL) {
        struct batch_item *next = item->next;
        store_finish_again(store, (struct store_finish *)item);
        item = next;
    }
}

struct batcher *store_finishes_new(struct store *store, const struct store_options *options)
{
    return batcher_new(&(struct batcher_options){
        .links = &store->engine,
        .call = {.statement = STATEMENT_FINISH, .flags = PG_REPEATABLE | PG_WAIT},
        .max_items = options->max_batch,
        .build = build,
        .done = done,
        .failed = failed,
        .context = store,
    });
}

void store_finish_again(struct store *store, struct store_finish *finish)
{
    finish->item.bytes = 96 + finish->result.size;
    batcher_add(store->finishes, &finish->item);
}

void store_finish(struct store *store, struct store_finish *finish)
{
    finish->node = store->node;
    spool_hold(store->spool, finish);
    store_finish_again(store, finish);
}

void store_finishes_stop(struct store *store)
{
    const struct pg_failure closing = {.class = PG_AWAY};
    struct batch_item *waiting[] = {batcher_stop(store->finishes), store->stuck};
    store->stuck = NULL;
    for (int i = 0; i < 2; i++) {
        for (struct batch_item *item = waiting[i], *next; item != NULL; item = next) {
            next = item->next;
            failed(store, item, &closing);
        }
    }
}
