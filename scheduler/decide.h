/* What becomes of a schedule's due instants: the policy for fires that were missed. Pure
 * arithmetic.
 *
 * An instant is live while it is at most DECIDE_LIVE_US late: live instants always run. Older ones
 * were missed, while no daemon ran or none could reach the database: `catchup` says which of them
 * run. All others are covered by a row that says so: `late` for the newest of them where nothing
 * newer runs, `collapsed` for the rest together.
 */
#pragma once

#include <stdint.h>

#include "scheduler/definition.h"
#include "store/store.h"

#define DECIDE_LIVE_US INT64_C(10000000)
/* Instants looked at in one pass; of a longer past the oldest are collapsed, and the next pass goes
 * on. */
#define DECIDE_MAX_INSTANTS 10000
/* Missed fires that `catchup: all` runs. */
#define DECIDE_MAX_CATCHUP 500

struct decision {
    struct store_fire *fires; /* ids and created are left to the caller; malloc'ed */
    int count;
    int64_t cursor_us; /* up to which all is decided */
};

/* Decides the instants behind `cursor_us` that are due at `now_us` (nominal instant plus
 * `delay_us`, the schedule's jitter, at most now). Returns false when there is none; `*decision` is
 * then unchanged. */
bool decide_fires(const struct definition_schedule *schedule, int64_t anchor_us, int64_t delay_us,
                  int64_t cursor_us, int64_t now_us, struct decision *decision);
