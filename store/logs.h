/* The output of attempts in the database: rows that are added in batches, and read page by page.
 *
 * Writing has a connection of its own, so that the volume of logs delays nothing else. A batch that
 * failed with the connection may have been committed, and may be committed yet: what its caller
 * sends next for the same logs are the same rows again, not a new cut of the same bytes. See
 * migrations/0007_logs.sql for what a row is.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/store.h"

/* A row has at most so many bytes of content. */
#define LOG_ROW_BYTES (16 * 1024)

/* A log as far as its gap is concerned: what lies between these two offsets is to go. */
struct store_log {
    struct store_held attempt;
    int64_t head_end;
    int64_t tail_start;
};

/* A run of bytes of one stream. */
struct log_row {
    int log;       /* writing: the place of its log in the batch, from 0 */
    int stream;    /* 1: standard output, 2: standard error */
    int64_t at_us; /* writing: when its first byte was read, by our clock */
    int64_t start; /* the offset of its first byte in all that the attempt wrote */
    const char *text;
    size_t size;
};

struct log_batch {
    const struct store_log *logs;
    int log_count;
    const struct log_row *rows;
    int row_count;
};

/* Is there a connection to write on? */
bool store_takes_logs(const struct store *store);
/* The batch may go when this returns. No row may overlap another one of its log, unless it is the
 * same. Rows of attempts that are not this node's are ignored. */
void store_append_logs(struct store *store, const struct log_batch *batch, store_done_cb on_done,
                       void *context);

/* Where a task stands, for a reader of its log. */
struct log_state {
    bool is_workflow; /* there is such a workflow … */
    bool is_task;     /* … with such a task */
    int attempt;      /* the last one, or 0 */
    bool is_held;     /* which may still write */
    bool is_final;    /* no other attempt follows */
};
/* `state` is NULL when the call failed. */
typedef void (*log_state_cb)(void *context, const struct log_state *state,
                             const struct pg_failure *failure);
void store_find_log(struct store *store, const struct id *workflow, int position,
                    log_state_cb on_state, void *context);

typedef void (*log_row_cb)(void *context, const struct log_row *row);
/* Rows with bytes from the offset `from` on, in order, at most `limit`. */
void store_read_log(struct store *store, const struct store_held *attempt, int64_t from, int limit,
                    log_row_cb each, store_done_cb on_done, void *context);
/* Rows that begin before the offset `before`, the last one first, at most `limit`. */
void store_read_log_back(struct store *store, const struct store_held *attempt, int64_t before,
                         int limit, log_row_cb each, store_done_cb on_done, void *context);
