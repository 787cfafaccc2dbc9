#include "store/answer.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"

/* The columns of the SQL type `answer`, in its order. */
enum column {
    COLUMN_KIND,
    COLUMN_WORKFLOW,
    COLUMN_POSITION,
    COLUMN_ATTEMPT,
    COLUMN_STATUS,
    COLUMN_REASON,
    COLUMN_ITEM,
    COLUMN_COUNT,
    COLUMN_AT,
    COLUMN_NODE,
    COLUMN_PROJECT,
    COLUMN_NAME,
    COLUMN_KEY,
    COLUMN_IS_HOOK,
    COLUMN_PERIODIC,
    COLUMN_CREATED,
    COLUMN_SCHEDULED,
    COLUMN_ACTION,
    COLUMN_PAYLOAD,
    COLUMN_ARGS,
    COLUMN_RESULTS,
    COLUMN_OUTCOME,
    COLUMN_OVERSIZE,
    COLUMN_WORKFLOWS,
    COLUMN_POSITIONS,
    COLUMN_ATTEMPTS,
};

/* ANSWER_NONE has no word. */
static const char *const kind_words[] = {
    [ANSWER_CLAIMED] = "claimed",   [ANSWER_ENDED] = "ended",     [ANSWER_STOP] = "stop",
    [ANSWER_ROOM] = "room",         [ANSWER_LEFT] = "left",       [ANSWER_LATER] = "later",
    [ANSWER_SKIPPED] = "skipped",   [ANSWER_REFUSED] = "refused", [ANSWER_DUPLICATE] = "duplicate",
    [ANSWER_LOST] = "lost",         [ANSWER_DEAD] = "dead",       [ANSWER_DRAINING] = "draining",
    [ANSWER_CANCELED] = "canceled", [ANSWER_FINAL] = "final",     [ANSWER_MISSING] = "missing",
    [ANSWER_FIRED] = "fired",       [ANSWER_CURSOR] = "cursor",   [ANSWER_DIFFERS] = "differs",
    [ANSWER_MORE] = "more",
};

static enum answer_kind parse_kind(const char *word)
{
    for (size_t i = ANSWER_NONE + 1; i < sizeof kind_words / sizeof *kind_words; i++) {
        if (strcmp(word, kind_words[i]) == 0)
            return (enum answer_kind)i;
    }
    log_error("the database gave an answer of unknown kind; the program and its schema do not fit",
              log_text("kind", word));
    abort();
}

static void read_input(const struct pg_rows *rows, int row, struct answer *answer)
{
    answer->key = pg_rows_text(rows, row, COLUMN_KEY);
    answer->is_hook = pg_rows_bool(rows, row, COLUMN_IS_HOOK);
    answer->periodic = pg_rows_bool(rows, row, COLUMN_PERIODIC);
    answer->created_us = pg_rows_time(rows, row, COLUMN_CREATED);
    answer->scheduled_us = pg_rows_time(rows, row, COLUMN_SCHEDULED);
    answer->action = pg_rows_json(rows, row, COLUMN_ACTION);
    answer->payload = pg_rows_json(rows, row, COLUMN_PAYLOAD);
    answer->args = pg_rows_json(rows, row, COLUMN_ARGS);
    answer->results = pg_rows_json(rows, row, COLUMN_RESULTS);
    answer->outcome = pg_rows_json(rows, row, COLUMN_OUTCOME);
    answer->oversize = pg_rows_int(rows, row, COLUMN_OVERSIZE);
}

static void read_row(const struct pg_rows *rows, int row, struct answer *answer)
{
    *answer = (struct answer){
        .kind = parse_kind(pg_rows_text(rows, row, COLUMN_KIND)),
        .workflow = pg_rows_id(rows, row, COLUMN_WORKFLOW),
        .position = (int)pg_rows_int(rows, row, COLUMN_POSITION),
        .attempt = (int)pg_rows_int(rows, row, COLUMN_ATTEMPT),
        .status = pg_rows_text(rows, row, COLUMN_STATUS),
        .reason = pg_rows_text(rows, row, COLUMN_REASON),
        .item = (int)pg_rows_int(rows, row, COLUMN_ITEM) - 1,
        .count = pg_rows_int(rows, row, COLUMN_COUNT),
        .at_us = pg_rows_time(rows, row, COLUMN_AT),
        .node = pg_rows_id(rows, row, COLUMN_NODE),
        .project = pg_rows_text(rows, row, COLUMN_PROJECT),
        .name = pg_rows_text(rows, row, COLUMN_NAME),
    };
    if (answer->kind == ANSWER_CLAIMED)
        read_input(rows, row, answer);
}

/* Those that differ in their workflow, and what of it they concern, only. */
static void each_of_row(const struct pg_rows *rows, int row, struct answer *answer, answer_cb each,
                        void *context)
{
    struct pg_array workflows = pg_rows_array(rows, row, COLUMN_WORKFLOWS);
    struct pg_array positions = pg_rows_array(rows, row, COLUMN_POSITIONS);
    struct pg_array attempts = pg_rows_array(rows, row, COLUMN_ATTEMPTS);
    while (workflows.left > 0) {
        answer->workflow = pg_array_id(&workflows);
        if (positions.left > 0) {
            answer->position = (int)pg_array_int(&positions);
            answer->attempt = (int)pg_array_int(&attempts);
        }
        each(context, answer);
    }
}

void answer_each(const struct pg_rows *rows, answer_cb each, void *context)
{
    int count = pg_rows_count(rows);
    log_hold(); /* a line for each workflow that has ended */
    for (int row = 0; row < count; row++) {
        struct answer answer;
        read_row(rows, row, &answer);
        if (pg_rows_null(rows, row, COLUMN_WORKFLOWS))
            each(context, &answer);
        else
            each_of_row(rows, row, &answer, each, context);
    }
    log_release();
}
