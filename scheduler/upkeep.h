/* Upkeep: ends runs that are past their time limit, and clears away what has had its time.
 *
 * Every daemon does it; the database's functions see to it that they do not get in each other's
 * way. Rows go in small batches, the next one soon after while there is more, so that no call takes
 * long.
 */
#pragma once

#include <stdint.h>
#include <uv.h>

#include "scheduler/catalog.h"
#include "store/store.h"

struct upkeep_options {
    uv_loop_t *loop;
    struct store *store;
    const struct catalog *catalog;
    int default_retention_offset; /* finished instances kept of a definition that does not say; -1:
                                     all */
    int64_t fires_retention_ms;
};

struct upkeep *upkeep_new(const struct upkeep_options *options);
/* No further calls. */
void upkeep_stop(struct upkeep *upkeep);
/* After the store was closed. */
void upkeep_close(struct upkeep *upkeep, void (*on_closed)(void *context), void *context);
