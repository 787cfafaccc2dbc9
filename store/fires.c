/* Fires: the decisions for a batch of schedules are one call of fire(). */
#include "store/store_internal.h"

static void build_schedules(const struct batch_item *items, struct pg_params *params)
{
#define EACH_FIRING(element, statement)                                                \
    do {                                                                               \
        pg_params_array_begin(params, element);                                        \
        for (const struct batch_item *item = items; item != NULL; item = item->next) { \
            const struct store_firing *firing = (const struct store_firing *)item;     \
            statement;                                                                 \
        }                                                                              \
        pg_params_array_end(params);                                                   \
    } while (0)
    EACH_FIRING(PG_INT8, pg_params_int8(params, firing->schedule));
    EACH_FIRING(PG_TIME,
                firing->by_hand ? pg_params_null(params) : pg_params_time(params, firing->seen_us));
    EACH_FIRING(PG_TIME, firing->by_hand ? pg_params_null(params)
                                         : pg_params_time(params, firing->cursor_us));
}

static bool runs(const struct store_fire *fire)
{
    return !id_is_null(&fire->id);
}

static void build_fires(const struct batch_item *items, struct pg_params *params)
{
#define EACH_FIRE(element, statement)                                        \
    EACH_FIRING(element, for (const struct store_fire *fire = firing->fires; \
                              fire < firing->fires + firing->fire_count; fire++) statement)
    EACH_FIRE(PG_INT8, pg_params_int8(params, firing->schedule));
    EACH_FIRE(PG_TIME, pg_params_time(params, fire->scheduled_us));
    EACH_FIRE(PG_TEXT, pg_params_text(params, fire->outcome));
    EACH_FIRE(PG_INT8, if (fire->count == 0) pg_params_null(params);
              else pg_params_int8(params, fire->count));
    EACH_FIRE(PG_TIME, if (fire->count == 0) pg_params_null(params);
              else pg_params_time(params, fire->until_us));
    EACH_FIRE(PG_ID, pg_params_id(params, runs(fire) ? &fire->id : NULL));
    EACH_FIRE(PG_INT8, if (!runs(fire)) pg_params_null(params);
              else pg_params_int8(params, firing->definition));
    EACH_FIRE(PG_TIME, if (!runs(fire)) pg_params_null(params);
              else pg_params_time(params, fire->created_us));
    EACH_FIRE(PG_JSON, if (!runs(fire)) pg_params_null(params);
              else pg_params_json(params, firing->payload));
#undef EACH_FIRE
#undef EACH_FIRING
}

static void build(void *context, const struct batch_item *items, int n, struct pg_params *params,
                  const struct id *batch)
{
    struct store *store = context;
    (void)n;
    pg_params_id(params, batch);
    pg_params_id(params, &store->node);
    pg_params_int4(params, store_reserve(store, &store->reserved_fires, 0));
    pg_params_bool(params, false);
    build_schedules(items, params);
    build_fires(items, params);
}

/* Finds whose answer it is: fires are numbered through the whole batch, cursors carry their
 * schedule's id. */
struct sorting {
    struct store *store;
    struct batch_item *items;
};

static void on_answer(void *context, const struct answer *answer)
{
    struct sorting *sorting = context;
    if (answer->kind != ANSWER_FIRED && answer->kind != ANSWER_CURSOR) {
        store_answer(sorting->store, answer);
        return;
    }
    int first = 0;
    for (struct batch_item *item = sorting->items; item != NULL; item = item->next) {
        struct store_firing *firing = (struct store_firing *)item;
        bool mine = firing->schedule == answer->count;
        if (answer->kind == ANSWER_CURSOR && mine)
            firing->answered_cursor_us = answer->at_us;
        if (answer->kind == ANSWER_FIRED && mine && answer->item >= first &&
            answer->item < first + firing->fire_count && firing->on_fired != NULL)
            firing->on_fired(firing, answer);
        first += firing->fire_count;
    }
}

static void done(void *context, struct batch_item *items, int n, const struct pg_rows *rows)
{
    struct store *store = context;
    (void)n;
    store_release(store, &store->reserved_fires);
    answer_each(rows, on_answer, &(struct sorting){store, items});
    for (struct batch_item *item = items, *next; item != NULL; item = next) {
        struct store_firing *firing = (struct store_firing *)item;
        next = item->next;
        firing->on_done(firing, firing->answered_cursor_us, NULL);
    }
}

static void failed(void *context, struct batch_item *item, const struct pg_failure *failure)
{
    struct store *store = context;
    struct store_firing *firing = (struct store_firing *)item;
    store_release(store, &store->reserved_fires);
    firing->on_done(firing, -1, failure);
}

struct batcher *store_fires_new(struct store *store, const struct store_options *options)
{
    return batcher_new(&(struct batcher_options){
        .links = &store->launch,
        .call = {.statement = STATEMENT_FIRE, .flags = PG_REPEATABLE | PG_WAIT},
        .max_items = options->max_batch,
        .build = build,
        .done = done,
        .failed = failed,
        .context = store,
    });
}

void store_fire(struct store *store, struct store_firing *firing)
{
    firing->item.bytes = 64 + (size_t)firing->fire_count * (96 + firing->payload.size);
    batcher_add(store->fires, &firing->item);
}

void store_fires_stop(struct store *store)
{
    const struct pg_failure closing = {.class = PG_AWAY, .text = "the daemon is stopping"};
    for (struct batch_item *item = batcher_stop(store->fires), *next; item != NULL; item = next) {
        next = item->next;
        failed(store, item, &closing);
    }
}
