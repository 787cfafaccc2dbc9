/* The attempt that does nothing: a marker, or a join. */
#include <stdlib.h>

#include "base/clock.h"
#include "executor/attempt.h"

static void noop_prepare(struct attempt *attempt, const struct attempt_spec *spec)
{
    (void)attempt;
    free(spec->input);
}

static void noop_start(struct attempt *attempt)
{
    int64_t now_us = clock_wall_us();
    struct attempt_end end = {.outcome = ATTEMPT_SUCCESS, .started_us = now_us, .ended_us = now_us};
    attempt_report(attempt, &end);
    attempt_release(attempt);
}

const struct attempt_kind noop_kind = {
    .size = sizeof(struct attempt),
    .prepare = noop_prepare,
    .start = noop_start,
};
