/* Launches: a batch of them is one call of launch(). */
#include "store/store_internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/crash_point.h"
#include "base/memory.h"

static void build(void *context, const struct batch_item *items, int n, struct pg_params *params,
                  const struct id *batch)
{
    struct store *store = context;
#define EACH_LAUNCH(element, statement)                                                \
    do {                                                                               \
        pg_params_array_begin(params, element);                                        \
        for (const struct batch_item *item = items; item != NULL; item = item->next) { \
            const struct store_launch *launch = (const struct store_launch *)item;     \
            statement;                                                                 \
        }                                                                              \
        pg_params_array_end(params);                                                   \
    } while (0)
    (void)n;
    pg_params_id(params, batch);
    pg_params_id(params, &store->node);
    pg_params_int4(params, store_reserve(store, store->launches, &store->reserved_launches, 0));
    pg_params_bool(params, false);
    EACH_LAUNCH(PG_ID, pg_params_id(params, &launch->id));
    EACH_LAUNCH(PG_INT8, pg_params_int8(params, launch->definition));
    EACH_LAUNCH(PG_TIME, pg_params_time(params, launch->created_us));
    EACH_LAUNCH(PG_JSON, pg_params_json(params, launch->payload));
    EACH_LAUNCH(PG_TEXT, pg_params_text(params, launch->comment));
    EACH_LAUNCH(PG_ID, pg_params_id(params, id_is_null(&launch->relaunched_from)
                                                ? NULL
                                                : &launch->relaunched_from));
    EACH_LAUNCH(PG_TEXT, pg_params_text(params, launch->principal));
    EACH_LAUNCH(PG_TEXT, pg_params_text(params, launch->key));
    EACH_LAUNCH(PG_TEXT, pg_params_text_n(params, launch->request.text, launch->request.size));
#undef EACH_LAUNCH
}

/* Collects what is not "accepted" of a batch, by place. */
struct sorting {
    struct store *store;
    int n;
    struct answer *verdicts; /* of n items; made with the first one, most batches have none */
    bool *judged;
};

static void on_answer(void *context, const struct answer *answer)
{
    struct sorting *sorting = context;
    if (answer->kind != ANSWER_REFUSED && answer->kind != ANSWER_DUPLICATE) {
        store_answer(sorting->store, answer);
        return;
    }
    if (sorting->judged == NULL) {
        sorting->verdicts = mem_new((size_t)sorting->n, sizeof *sorting->verdicts);
        sorting->judged = mem_new((size_t)sorting->n, sizeof *sorting->judged);
    }
    sorting->verdicts[answer->item] = *answer;
    sorting->judged[answer->item] = true;
}

static void done(void *context, struct batch_item *items, int n, const struct pg_rows *rows)
{
    struct store *store = context;
    struct sorting sorting = {.store = store, .n = n};
    CRASH_POINT("launched");
    store_release(store, &store->reserved_launches);
    answer_each(rows, on_answer, &sorting);
    int place = 0;
    for (struct batch_item *item = items, *next; item != NULL; item = next, place++) {
        struct store_launch *launch = (struct store_launch *)item;
        next = item->next;
        bool judged = sorting.judged != NULL && sorting.judged[place];
        launch->on_done(launch, judged ? &sorting.verdicts[place] : NULL, NULL);
    }
    free(sorting.verdicts);
    free(sorting.judged);
}

static void failed(void *context, struct batch_item *item, const struct pg_failure *failure)
{
    struct store *store = context;
    struct store_launch *launch = (struct store_launch *)item;
    store_release(store, &store->reserved_launches);
    launch->on_done(launch, NULL, failure);
}

struct batcher *store_launches_new(struct store *store, const struct store_options *options)
{
    return batcher_new(&(struct batcher_options){
        .links = &store->launch,
        .call = {.statement = STATEMENT_LAUNCH,
                 .flags = PG_REPEATABLE,
                 .deadline_ms = store->write_deadline_ms},
        .max_items = options->max_batch,
        .patience = STORE_PATIENCE,
        .build = build,
        .done = done,
        .failed = failed,
        .context = store,
    });
}

void store_launch(struct store *store, struct store_launch *launch)
{
    launch->item.bytes = 160 + launch->payload.size + launch->request.size;
    batcher_add(store->launches, &launch->item);
    CRASH_POINT("launch-sent");
}

bool store_is_unregistered(const struct pg_failure *failure)
{
    return strcmp(failure->sqlstate, "23503") == 0;
}

int store_launches_open(const struct store *store)
{
    return batcher_open_items(store->launches);
}

void store_launches_stop(struct store *store)
{
    const struct pg_failure closing = {.class = PG_AWAY, .text = "the daemon is stopping"};
    for (struct batch_item *item = batcher_stop(store->launches), *next; item != NULL;
         item = next) {
        next = item->next;
        failed(store, item, &closing);
    }
}
