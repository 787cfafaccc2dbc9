/* The log writer: brings the output of this node's attempts into the database while they run, and
 * the rest of it when they have ended.
 *
 * There is no queue. An attempt's output is kept by its log ring, bounded, and the writer takes
 * from the rings when its connection has time: one batch is under way at a time, and the next one
 * has what is there by then. A batch whose reply was lost goes once more as it was, so that each
 * byte stands in one row, whether or not the first sending was committed. After one that took the
 * database too long, which is not written then, the next ones are smaller. So a database that is
 * slow or away costs no memory and holds up no child, and what it misses is what the rings would
 * have forgotten anyway. The beginning of a log is written as it comes; once its ring goes round,
 * what is new in it once a second.
 *
 * The log of an attempt that has ended goes before all others, and its end can wait for that, so
 * that who sees a final status sees the whole log: for LOG_LAST_MS, and not while there is no
 * connection. Later it is written all the same, unless more than LOG_LATE_BYTES wait so.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "executor/log_ring.h"
#include "store/logs.h"

/* How long an attempt's end waits for its log at most. */
#define LOG_LAST_MS 5000
/* What logs whose end has not waited may hold together; the last one may always stay. */
#define LOG_LATE_BYTES (64 * 1024 * 1024)

struct log_writer;
struct run_log;

struct log_writer_options {
    uv_loop_t *loop;
    struct store *store;
    int tick_ms;                    /* how soon the first bytes are written; 0: 100 */
    int tail_ms;                    /* from one writing of a tail to the next; 0: 1,000 */
    void (*on_idle)(void *context); /* all there was is written; NULL: nobody asks */
    void *context;
    /* store_takes_logs and store_append_logs, or what a test puts in their place. NULL: these. */
    bool (*is_up)(const struct store *store);
    void (*append)(struct store *store, const struct log_batch *batch, store_done_cb on_done,
                   void *context);
};

struct log_writer *log_writer_new(const struct log_writer_options *options);
/* There is nothing left to be written. */
bool log_writer_is_idle(const struct log_writer *writer);
/* Nothing more is written; ends that wait no longer do. What is left is lost, and the log says so.
 */
void log_writer_stop(struct log_writer *writer);
/* Frees a stopped writer, after the store was closed. */
void log_writer_close(struct log_writer *writer);

/* The log of an attempt that has begun to write into `ring`, which stays until run_log_end. */
struct run_log *run_log_open(struct log_writer *writer, const struct store_held *attempt,
                             const struct log_ring *ring);
/* There is more in the ring. */
void run_log_touch(struct run_log *log);

typedef void (*run_log_cb)(void *context);
/* The attempt has ended; takes over its ring and frees everything in time. True: `on_written` will
 * be called once, when the end need not wait any longer. False: it need not wait. */
bool run_log_end(struct run_log *log, const struct log_ring *ring, run_log_cb on_written,
                 void *context);
