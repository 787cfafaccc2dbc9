#include "scheduler/decide.h"

#include <stdlib.h>

#include "base/memory.h"
#include "scheduler/trigger.h"

/* The due instants of one pass. */
struct pass {
    const struct definition_schedule *schedule;
    const struct decide_point *at;
    int64_t *instants;
    int count;
    int capacity;
    bool more; /* further instants are due behind these */
};

static void add_instant(struct pass *pass, int64_t instant_us)
{
    if (pass->count == pass->capacity) {
        pass->capacity = pass->capacity * 4 + 4;
        pass->instants = mem_resize(pass->instants, (size_t)pass->capacity, sizeof *pass->instants);
    }
    pass->instants[pass->count++] = instant_us;
}

static void collect(struct pass *pass)
{
    const struct decide_point *at = pass->at;
    int64_t next_us = at->cursor_us;
    while (trigger_next(&pass->schedule->trigger, at->anchor_us, next_us, &next_us) &&
           next_us + at->delay_us <= at->now_us) {
        pass->more = pass->count == DECIDE_MAX_INSTANTS;
        if (pass->more)
            return;
        add_instant(pass, next_us);
    }
}

static bool is_in_window(const struct pass *pass, int64_t late_us)
{
    int64_t window_us = pass->schedule->catchup_window_us;
    return window_us == 0 || late_us <= window_us;
}

static bool is_live(const struct pass *pass, int64_t instant_us)
{
    int64_t due_us = instant_us + pass->at->delay_us;
    int64_t late_us = pass->at->now_us - due_us;
    return due_us >= pass->at->since_us && late_us <= DECIDE_LIVE_US && is_in_window(pass, late_us);
}

/* Index of the first live instant; `count` when there is none. */
static int first_live(const struct pass *pass)
{
    int first = pass->count;
    while (first > 0 && is_live(pass, pass->instants[first - 1]))
        first--;
    return first;
}

/* How many missed instants may run. */
static int caught_up(const struct pass *pass, int live)
{
    switch (pass->schedule->catchup) {
    case CATCHUP_NONE:
        break;
    case CATCHUP_LATEST:
        return live == pass->count ? 1 : 0;
    case CATCHUP_ALL:
        return DECIDE_MAX_CATCHUP;
    }
    return 0;
}

/* How many of the first instants of a longer past are collapsed: those which could run are left to
 * the next pass. Where ten seconds are more than one pass can hold, the newest of them count. */
static int first_left(const struct pass *pass)
{
    int live = first_live(pass);
    return (live > DECIDE_MAX_CATCHUP ? live : pass->count) - DECIDE_MAX_CATCHUP;
}

/* Index of the first instant that runs: all behind it do, too. */
static int first_run(const struct pass *pass)
{
    int live = first_live(pass);
    int wanted = caught_up(pass, live);
    int first = live;
    while (first > 0 && live - first < wanted &&
           is_in_window(pass, pass->at->now_us - pass->instants[first - 1] - pass->at->delay_us))
        first--;
    return first;
}

static void add(struct decision *decision, struct store_fire fire)
{
    decision->fires[decision->count++] = fire;
}

/* Covers the instants [0, end), none of which runs. */
static void add_skipped(const struct pass *pass, int end, struct decision *decision)
{
    bool newest = end == pass->count && !pass->more; /* of all that are due */
    int collapsed = newest ? end - 1 : end;
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

bool decide_fires(const struct definition_schedule *schedule, const struct decide_point *at,
                  struct decision *decision)
{
    struct pass pass = {.schedule = schedule, .at = at};
    collect(&pass);
    if (pass.count == 0)
        return false;
    int end = pass.more ? first_left(&pass) : pass.count;
    int run = pass.more ? end : first_run(&pass);
    *decision =
        (struct decision){.fires = mem_new((size_t)(end - run) + 2, sizeof *decision->fires),
                          .cursor_us = pass.instants[end - 1]};
    if (run > 0)
        add_skipped(&pass, run, decision);
    for (int i = run; i < end; i++)
        add(decision, (struct store_fire){.scheduled_us = pass.instants[i], .outcome = "ran"});
    free(pass.instants);
    return true;
}
