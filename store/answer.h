/* What the engine's SQL functions answer: rows of several kinds, described in
 * migrations/0002_engine.sql. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/id.h"
#include "base/json.h"
#include "store/pg_rows.h"

enum answer_kind {
    ANSWER_NONE,      /* never answered: where a caller notes what came, nothing did */
    ANSWER_CLAIMED,   /* a task that this node now owns and must start */
    ANSWER_ENDED,     /* a workflow became `status` */
    ANSWER_STOP,      /* an attempt, held by `node`, that must be stopped */
    ANSWER_ROOM,      /* project.name may have an instance to admit */
    ANSWER_LEFT,      /* `count` tasks are ready and were not claimed */
    ANSWER_LATER,     /* a further attempt is due at `at_us` */
    ANSWER_SKIPPED,   /* a claim found `count` tasks of workflows that are locked just now */
    ANSWER_REFUSED,   /* launch item `item` was not taken: `reason` overlap or key_reused */
    ANSWER_DUPLICATE, /* launch item `item` repeats an idempotency key, which made `workflow` */
    ANSWER_LOST,      /* an attempt that this node says it holds is not its own */
    ANSWER_DEAD,      /* `node` was declared dead */
    ANSWER_DRAINING,  /* this node is to take nothing new */
    ANSWER_DIFFERS,   /* `count` other nodes have other definition files */
    ANSWER_CANCELED,
    ANSWER_FINAL, /* the workflow to cancel had already ended as `status` */
    ANSWER_MISSING,
    ANSWER_FIRED,  /* fire item `item` of schedule `count` at `at_us`: `reason` is its outcome */
    ANSWER_CURSOR, /* schedule `count` stands at `at_us` */
    ANSWER_MORE,   /* attempts of dead nodes are left for another call of reap */
};

/* Text and spans are valid until the reply's callback returns. Which fields mean something depends
 * on the kind. */
struct answer {
    enum answer_kind kind;
    struct id workflow;
    int position;
    int attempt;
    const char *status;
    const char *reason;
    int item; /* from 0 */
    int64_t count;
    int64_t at_us;
    struct id node;
    const char *project;
    const char *name;
    const char *key;
    bool is_hook;
    bool periodic;
    int64_t created_us;
    int64_t scheduled_us;    /* 0 when it was not fired by a schedule */
    struct json_span action; /* of a claimed task; none: a noop, which has no input either */
    struct json_span payload;
    struct json_span
        args; /* none: `oversize` bytes of args and results are more than the node takes */
    struct json_span results;
    struct json_span outcome; /* a hook's */
    int64_t oversize;
};

typedef void (*answer_cb)(void *context, const struct answer *answer);

/* Calls `each` for every answer, in order. A row may stand for many: its `workflow_ids`,
 * `positions` and `attempts` are told one by one. */
void answer_each(const struct pg_rows *rows, answer_cb each, void *context);
