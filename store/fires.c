/* Fires: the decisions for a batch of schedules are one call of fire(). */
#include <stdlib.h>

#include "base/memory.h"
#include "store/store_internal.h"

#define EACH_FIRING(element, statement)                                                \
    do {                                                                               \
        pg_params_array_begin(params, element);                                        \
        for (const struct batch_item *item = items; item != NULL; item = item->next) { \
            const struct store_firing *firing = (const struct store_firing *)item;     \
            statement;                                                                 \
        }                                                                              \
        pg_params_array_end(params);                                                   \
    } while (0)
#define EACH_FIRE(element, statement)                                        \
    EACH_FIRING(element, for (const struct store_fire *fire = firing->fires; \
                              fire < firing->fires + firing->fire_count; fire++) statement)

static void build_schedules(const struct batch_item *items, struct pg_params *params)
{
    EACH_FIRING(PG_INT8, pg_params_int8(params, firing->schedule));
    EACH_FIRING(PG_TIME,
                firing->by_hand ? pg_params_null(params) : pg_params_time(params, firing->seen_us));
    EACH_FIRING(PG_TIME, firing->by_hand ? pg_params_null(params)
                                         : pg_params_time(params, firing->cursor_us));
    EACH_FIRING(PG_INT8, pg_params_int8(params, firing->definition));
    EACH_FIRING(PG_JSON, pg_params_json(params, firing->payload));
}

static void build_fires(const struct batch_item *items, struct pg_params *params)
{
    int place = 0; /* of the schedule in the batch, from 1 */
    EACH_FIRING(PG_INT4, place++;
                for (int i = 0; i < firing->fire_count; i++) pg_params_int4(params, place));
    EACH_FIRE(PG_TIME, pg_params_time(params, fire->scheduled_us));
    EACH_FIRE(PG_TIME, pg_params_time(params, fire->scheduled_us + firing->delay_us));
    EACH_FIRE(PG_TEXT, pg_params_text(params, fire->outcome));
    EACH_FIRE(PG_INT8, if (fire->count == 0) pg_params_null(params);
              else pg_params_int8(params, fire->count));
    EACH_FIRE(PG_TIME, if (fire->count == 0) pg_params_null(params);
              else pg_params_time(params, fire->until_us));
    EACH_FIRE(PG_ID, pg_params_id(params, id_is_null(&fire->id) ? NULL : &fire->id));
    EACH_FIRE(PG_TIME, if (id_is_null(&fire->id)) pg_params_null(params);
              else pg_params_time(params, fire->created_us));
}
#undef EACH_FIRE
#undef EACH_FIRING

static void build(void *context, const struct batch_item *items, int n, struct pg_params *params,
                  const struct id *batch)
{
    struct store *store = context;
    (void)n;
    pg_params_id(params, batch);
    pg_params_id(params, &store->node);
    pg_params_int4(params, store_reserve(store, store->fires, &store->reserved_fires, 0));
    pg_params_bool(params, false);
    build_schedules(items, params);
    build_fires(items, params);
}

/* Whose answer it is: cursors are numbered like the schedules of the batch, fires through all of
 * them. */
struct sorting {
    struct store *store;
    struct store_firing **firings; /* by schedule */
    struct store_firing **owners;  /* by fire */
};

static void sort_out(struct sorting *sorting, struct batch_item *items, int n)
{
    int schedules = 0;
    int fires = 0;
    sorting->firings = mem_new((size_t)n, sizeof *sorting->firings);
    for (struct batch_item *item = items; item != NULL; item = item->next) {
        struct store_firing *firing = (struct store_firing *)item;
        sorting->firings[schedules++] = firing;
        fires += firing->fire_count;
    }
    sorting->owners = mem_new((size_t)fires, sizeof *sorting->owners);
    fires = 0;
    for (int i = 0; i < n; i++)
        for (int k = 0; k < sorting->firings[i]->fire_count; k++)
            sorting->owners[fires++] = sorting->firings[i];
}

static void on_answer(void *context, const struct answer *answer)
{
    const struct sorting *sorting = context;
    if (answer->kind == ANSWER_CURSOR) {
        sorting->firings[answer->item]->answered_cursor_us = answer->at_us;
    } else if (answer->kind == ANSWER_FIRED) {
        struct store_firing *firing = sorting->owners[answer->item];
        if (firing->on_fired != NULL)
            firing->on_fired(firing, answer);
    } else {
        store_answer(sorting->store, answer);
    }
}

static void done(void *context, struct batch_item *items, int n, const struct pg_rows *rows)
{
    struct sorting sorting = {.store = context};
    store_release(sorting.store, &sorting.store->reserved_fires);
    sort_out(&sorting, items, n);
    answer_each(rows, on_answer, &sorting);
    for (int i = 0; i < n; i++)
        sorting.firings[i]->on_done(sorting.firings[i], sorting.firings[i]->answered_cursor_us,
                                    NULL);
    free(sorting.firings);
    free(sorting.owners);
}

static void failed(void *context, struct batch_item *item, const struct pg_failure *failure)
{
    struct store *store = context;
    struct store_firing *firing = (struct store_firing *)item;
    store_release(store, &store->reserved_fires);
    firing->on_done(firing, -1, failure);
}

/* A fire is late until its batch is committed: of many that are due at once, one in so many goes
 * with the next batch. */
#define PARTS 4

struct batcher *store_fires_new(struct store *store, const struct store_options *options)
{
    return batcher_new(&(struct batcher_options){
        .links = &store->launch,
        .call = {.statement = STATEMENT_FIRE,
                 .flags = PG_REPEATABLE | PG_WAIT,
                 .deadline_ms = store->write_deadline_ms},
        .max_items = options->max_batch,
        .parts = PARTS,
        .patience = STORE_PATIENCE,
        .build = build,
        .done = done,
        .failed = failed,
        .context = store,
    });
}

void store_fire(struct store *store, struct store_firing *firing)
{
    firing->item.bytes = 64 + firing->payload.size + (size_t)firing->fire_count * 96;
    batcher_add(store->fires, &firing->item);
}

void store_fires_hold(struct store *store)
{
    batcher_hold(store->fires);
}

void store_fires_send(struct store *store)
{
    batcher_send(store->fires);
}

void store_fires_stop(struct store *store)
{
    const struct pg_failure closing = {.class = PG_AWAY, .text = "the daemon is stopping"};
    for (struct batch_item *item = batcher_stop(store->fires), *next; item != NULL; item = next) {
        next = item->next;
        failed(store, item, &closing);
    }
}
