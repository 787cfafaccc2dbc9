#include "store/replay.h"

#include <stdlib.h>

#include "base/crash_point.h"
#include "base/log.h"
#include "base/memory.h"
#include "store/spool.h"
#include "store/store_internal.h"

struct replay {
    struct spool_chunk chunk; /* whose ends are under way … */
    int open;                 /* … and how many of them */
    int64_t count;
    void (*on_replayed)(void *context);
    void *context;
};

static void end_replay(struct store *store)
{
    struct replay *replay = store->replay;
    store->replay = NULL;
    if (replay->count > 0)
        log_info("results of an earlier daemon were taken from the spool",
                 log_int("results", replay->count));
    replay->on_replayed(replay->context);
    replay_free(replay);
}

/* Whether an end still counts is the database's to say: by its node, attempt and status. Nothing is
 * claimed with it, since the engine has no slots to offer yet. */
static void on_chunk(void *context, struct spool_chunk *chunk)
{
    struct store *store = context;
    if (chunk == NULL) {
        end_replay(store);
        return;
    }
    store->replay->chunk = *chunk;
    store->replay->open = chunk->count;
    store->replay->count += chunk->count;
    store->node = chunk->finishes[0].node;
    for (int i = 0; i < chunk->count; i++)
        store_finish_again(store, &chunk->finishes[i]);
}

void store_replay(struct store *store, void (*on_replayed)(void *context), void *context)
{
    store->replay = mem_new(1, sizeof *store->replay);
    store->replay->on_replayed = on_replayed;
    store->replay->context = context;
    spool_read(store->spool, on_chunk, store);
}

void replay_settle(struct store *store, int count)
{
    store->replay->open -= count;
    if (store->replay->open > 0)
        return;
    CRASH_POINT("replayed");
    spool_chunk_free(&store->replay->chunk);
    spool_read(store->spool, on_chunk, store);
}

void replay_refuse(struct store *store, struct store_finish *finish)
{
    spool_refuse(store->spool, finish);
    store->replay->count--;
    replay_settle(store, 1);
}

void replay_free(struct replay *replay)
{
    if (replay == NULL)
        return;
    spool_chunk_free(&replay->chunk);
    free(replay);
}
