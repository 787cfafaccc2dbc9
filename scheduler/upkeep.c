#include "scheduler/upkeep.h"

#include <stdlib.h>

#include "base/crash_point.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/pace.h"

/* Time limits of runs are kept to within this. */
#define EXPIRE_MS 1000
/* Runs that one call ends. */
#define EXPIRE_MOST 1000
/* Between looks for something to clear; and between batches while there is something, so that
 * others have their turn. */
#define CLEAR_MS 30000
#define CLEAR_AGAIN_MS 20
/* Rows of one batch: a tenth of a second of work for the database. A batch that was too much for
 * it is followed by a smaller one. */
#define CLEAR_MOST 5000

struct upkeep {
    struct upkeep_options options;
    uv_timer_t expire;
    uv_timer_t clear;
    bool expiring;
    struct pace expire_pace;
    int clearing;     /* calls under way */
    int limit;        /* rows of the batch under way … */
    struct pace pace; /* … and of the next one */
    bool more;
    bool stopped;
    int handles_left;
    void (*on_closed)(void *context);
    void *closed_context;
};

static void on_expired(void *context, const struct pg_failure *failure)
{
    struct upkeep *upkeep = context; /* what failed is tried again in a second */
    CRASH_POINT("expired");
    upkeep->expiring = false;
    if (failure == NULL)
        pace_faster(&upkeep->expire_pace);
    else if (failure->class == PG_SLOW)
        pace_slower(&upkeep->expire_pace, upkeep->expire_pace.now);
}

static void on_expire(uv_timer_t *timer)
{
    struct upkeep *upkeep = timer->data;
    if (upkeep->expiring || !store_is_up(upkeep->options.store))
        return;
    upkeep->expiring = true;
    store_expire(upkeep->options.store, upkeep->expire_pace.now, on_expired, upkeep);
    CRASH_POINT("expire-sent");
}

static void on_clear(uv_timer_t *timer);

static void on_cleared(void *context, int64_t count, const struct pg_failure *failure)
{
    struct upkeep *upkeep = context;
    upkeep->clearing--;
    upkeep->more = upkeep->more || count >= upkeep->limit;
    if (failure == NULL)
        pace_faster(&upkeep->pace);
    else if (failure->class == PG_SLOW)
        pace_slower(&upkeep->pace, upkeep->limit);
    if (count > 0)
        log_debug("cleared away what has had its time", log_int("rows", count));
    if (upkeep->clearing > 0 || upkeep->stopped)
        return;
    uv_timer_start(&upkeep->clear, on_clear, upkeep->more ? CLEAR_AGAIN_MS : CLEAR_MS, 0);
}

static void on_clear(uv_timer_t *timer)
{
    struct upkeep *upkeep = timer->data;
    const struct upkeep_options *options = &upkeep->options;
    int count;
    const struct catalog_entry *entries = catalog_entries(options->catalog, &count);
    int64_t *loaded = mem_new((size_t)count + 1, sizeof *loaded);
    for (int i = 0; i < count; i++)
        loaded[i] = entries[i].id;
    upkeep->more = false;
    upkeep->limit = upkeep->pace.now;
    upkeep->clearing = 2;
    store_clear_workflows(options->store, options->default_retention_offset, upkeep->limit,
                          on_cleared, upkeep);
    store_clear_history(options->store, loaded, count, options->fires_retention_ms, upkeep->limit,
                        on_cleared, upkeep);
    free(loaded);
}

struct upkeep *upkeep_new(const struct upkeep_options *options)
{
    struct upkeep *upkeep = mem_new(1, sizeof *upkeep);
    upkeep->options = *options;
    pace_init(&upkeep->pace, CLEAR_MOST);
    pace_init(&upkeep->expire_pace, EXPIRE_MOST);
    uv_timer_init(options->loop, &upkeep->expire);
    uv_timer_init(options->loop, &upkeep->clear);
    upkeep->expire.data = upkeep->clear.data = upkeep;
    uv_timer_start(&upkeep->expire, on_expire, EXPIRE_MS, EXPIRE_MS);
    uv_timer_start(&upkeep->clear, on_clear, CLEAR_AGAIN_MS, 0);
    return upkeep;
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct upkeep *upkeep = handle->data;
    if (--upkeep->handles_left > 0)
        return;
    void (*on_closed)(void *) = upkeep->on_closed;
    void *context = upkeep->closed_context;
    free(upkeep);
    on_closed(context);
}

void upkeep_stop(struct upkeep *upkeep)
{
    upkeep->stopped = true;
    uv_timer_stop(&upkeep->expire);
    uv_timer_stop(&upkeep->clear);
}

void upkeep_close(struct upkeep *upkeep, void (*on_closed)(void *context), void *context)
{
    upkeep->on_closed = on_closed;
    upkeep->closed_context = context;
    upkeep->handles_left = 2;
    uv_close((uv_handle_t *)&upkeep->expire, on_handle_closed);
    uv_close((uv_handle_t *)&upkeep->clear, on_handle_closed);
}
