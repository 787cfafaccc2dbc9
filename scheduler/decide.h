/* What becomes of a schedule's due instants: the policy for fires that were missed. Pure
 * arithmetic.
 *
 * An instant is due `delay_us`, the schedule's jitter, after its nominal time. It is live when it
 * became due while this daemon was deciding, at most DECIDE_LIVE_US ago: live instants run. All
 * others were missed, while no daemon ran, the machine slept or the database was away: `catchup`
 * says which of them run. What is later than `catchup_window` never runs. The instants that do not
 * run are covered by rows that say so: `late` for the newest of them where nothing newer runs,
 * `collapsed` for the rest together.
 */
#pragma once

#include <stdint.h>

#include "scheduler/definition.h"
#include "store/store.h"

#define DECIDE_LIVE_US INT64_C(10000000)
/* Missed fires that `catchup: all` runs. */
#define DECIDE_MAX_CATCHUP 500
/* Instants looked at in one pass, some milliseconds of work; of a longer past the oldest are
 * collapsed, and the next pass goes on. */
#define DECIDE_MAX_INSTANTS 10000

/* A schedule's place in time; all in microseconds. */
struct decide_point {
    int64_t anchor_us;
    int64_t delay_us;
    int64_t cursor_us; /* up to which all is decided */
    int64_t since_us;  /* since when this daemon decides */
    int64_t now_us;
};

struct decision {
    struct store_fire *fires; /* ids and created are left to the caller; malloc'ed */
    int count;
    int64_t cursor_us; /* up to which all is decided now */
};

/* Decides the instants behind the cursor that are due now. Returns false when there is none;
 * `*decision` is then unchanged. */
bool decide_fires(const struct definition_schedule *schedule, const struct decide_point *at,
                  struct decision *decision);
