/* The engine: claims ready tasks, runs them, and tells the database how they ended.
 *
 * It keeps the slots: a task takes one from its claim until its end is committed. Every call that
 * makes tasks ready (launches, fires, ends) claims some of them at once into free slots; the rest,
 * and what other daemons left, it claims by itself: when slots are free and something is known to
 * be ready, on a hint, and once every poll interval. While claims come back full there is a
 * backlog, and only claims take tasks then, the oldest first over all workflows.
 *
 * It is also this daemon's node: a heartbeat says which attempts it holds and hears which are no
 * longer its own; a node that could not renew its lease claims nothing; one that was declared dead
 * stops everything and begins a new life.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "executor/executor.h"
#include "store/store.h"

struct engine_options {
    uv_loop_t *loop;
    struct store *store;
    struct executor *executor;
    struct store_node node; /* its id is made by the engine; texts outlive the engine */
    int64_t poll_ms;
    int64_t heartbeat_ms;
    int64_t lease_ms;
    size_t max_result;
    size_t log_limit;            /* of tasks that do not say */
    const char *const *task_env; /* NAME=value for every task, NULL at the end */
};

struct engine *engine_new(const struct engine_options *options);

/* Commits what an earlier daemon on this state directory has left in the spool, registers the node,
 * ends the earlier one's other attempts, and begins to claim; then calls `on_started`. */
void engine_start(struct engine *engine, void (*on_started)(void *context), void *context);

/* What health and `nodes` say of the definition files; copied. */
void engine_set_digest(struct engine *engine, const char *digest);

/* Finishes what runs and takes nothing new, until the daemon is started again; the API goes on. */
void engine_drain(struct engine *engine);

/* Claims nothing more. Running tasks have `grace_ms`, then they are stopped and count as a failed
 * attempt (`node_stopped`). Calls back when their ends are committed, or when the database did not
 * take them within ten seconds more: then they are for the spool. */
void engine_stop(struct engine *engine, int64_t grace_ms, void (*on_stopped)(void *context),
                 void *context);
/* In a hurry: kills what runs now. */
void engine_hurry(struct engine *engine);
/* Frees a stopped engine, after the store was closed. */
void engine_close(struct engine *engine, void (*on_closed)(void *context), void *context);

struct engine_stats {
    struct id node;
    int slots;
    int running;
    bool backlog;
    bool draining;
    bool lease;         /* it holds: tasks may be claimed */
    int differing;      /* other nodes whose definition files are not like this one's */
    uint64_t started;   /* attempts */
    uint64_t succeeded; /* attempts */
    uint64_t failed;    /* attempts */
    uint64_t workflows_ended;
};
struct engine_stats engine_stats(const struct engine *engine);
