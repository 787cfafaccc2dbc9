#include "scheduler/decide.h"

#include <stdlib.h>

#include "base/memory.h"
#include "scheduler/trigger.h"

/* The due instants of one pass, and which of them run. */
struct pass {
    const struct definition_schedule *schedule;
    int64_t now_us;
    int64_t *instants;
    int count;
    bool more; /* further instants are due behind these */
};

static void collect(struct pass *pass, int64_t anchor_us, int64_t delay_us, int64_t cursor_us)
{
    int64_t next_us = cursor_us;
    while (trigger_next(&pass->schedule->trigger, anchor_us, next_us, &next_us) &&
           next_us + delay_us <= pass->now_us) {
        if (pass->count == DECIDE_MAX_INSTANTS) {
            pass->more = true;
            return;
        }
        pass->instants[pass->count++] = next_us;
    }
}

/* Index of the first live instant; `count` when there is none. */
static int first_live(const struct pass *pass, int64_t delay_us)
{
    int first = pass->count;
    while (first > 0 && pass->now_us - pass->instants[first - 1] - delay_us <= DECIDE_LIVE_US)
        first--;
    return first;
}

/* Index of the first missed instant that runs: all from there up to the live ones do. */
static int first_caught_up(const struct pass *pass, int live)
{
    int wanted = 0;
    switch (pass->schedule->catchup) {
    case CATCHUP_NONE:
        break;
    case CATCHUP_LATEST:
        wanted = live == pass->count ? 1 : 0;
        break;
    case CATCHUP_ALL:
        wanted = DECIDE_MAX_CATCHUP;
        break;
    }
    int64_t window_us = pass->schedule->catchup_window_us;
    int first = live;
    while (first > 0 && live - first < wanted &&
           (window_us == 0 || pass->now_us - pass->instants[first - 1] <= window_us))
        first--;
    return first;
}

static void add(struct decision *decision, struct store_fire fire)
{
    decision->fires[decision->count++] = fire;
}

/* Covers the instants [0, end) that do not run. */
static void add_skipped(const struct pass *pass, int end, struct decision *decision)
{
    bool own_row =
        end == pass->count && !pass->more; /* nothing newer runs: it says `late` itself */
    int collapsed = own_row || end == 1 ? end - 1 : end;
    if (collapsed == 1)
        add(decision, (struct store_fire){.scheduled_us = pass->instants[0], .outcome = "late"});
    else if (collapsed > 1)
        add(decision, (struct store_fire){.scheduled_us = pass->instants[0],
                                          .outcome = "collapsed",
                                          .count = collapsed,
                                          .until_us = pass->instants[collapsed - 1]});
    if (collapsed < end)
        add(decision,
            (struct store_fire){.scheduled_us = pass->instants[end - 1], .outcome = "late"});
}

bool decide_fires(const struct definition_schedule *schedule, int64_t anchor_us, int64_t delay_us,
                  int64_t cursor_us, int64_t now_us, struct decision *decision)
{
    struct pass pass = {.schedule = schedule, .now_us = now_us};
    int64_t next_us;
    if (!trigger_next(&schedule->trigger, anchor_us, cursor_us, &next_us) ||
        next_us + delay_us > now_us)
        return false;
    pass.instants = mem_new(DECIDE_MAX_INSTANTS, sizeof *pass.instants);
    collect(&pass, anchor_us, delay_us, cursor_us);
    int end =
        pass.count - DECIDE_MAX_CATCHUP; /* a longer past: the newest are left to the next pass */
    int run = end;
    if (!pass.more) {
        run = first_caught_up(&pass, first_live(&pass, delay_us));
        end = pass.count;
    }
    decision->fires = mem_new((size_t)(end - run) + 2, sizeof *decision->fires);
    decision->count = 0;
    decision->cursor_us = pass.instants[end - 1];
    if (run > 0)
        add_skipped(&pass, run, decision);
    for (int i = run; i < end; i++)
        add(decision, (struct store_fire){.scheduled_us = pass.instants[i], .outcome = "ran"});
    free(pass.instants);
    return true;
}
