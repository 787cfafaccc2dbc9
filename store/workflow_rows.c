/* Reading workflows and their tasks. */
#include <stdlib.h>

#include "base/memory.h"
#include "store/store_internal.h"

struct read_call {
    workflow_cb on_row;
    void (*each_workflow)(void *context, const struct workflow_row *row);
    void (*each_task)(void *context, const struct task_row *row);
    void (*each_attempt)(void *context, const struct attempt_row *row);
    store_done_cb on_done;
    void *context;
};

/* In the order of WORKFLOW_COLUMNS in statements.c. */
static void read_workflow(const struct pg_rows *rows, int row, struct workflow_row *workflow)
{
    int column = 0;
    workflow->id = pg_rows_id(rows, row, column++);
    workflow->project = pg_rows_text(rows, row, column++);
    workflow->name = pg_rows_text(rows, row, column++);
    workflow->status = pg_rows_text(rows, row, column++);
    workflow->periodic = pg_rows_bool(rows, row, column++);
    workflow->created_us = pg_rows_time(rows, row, column++);
    workflow->updated_us = pg_rows_time(rows, row, column++);
    workflow->started_us = pg_rows_time(rows, row, column++);
    workflow->finished_us = pg_rows_time(rows, row, column++);
    workflow->scheduled_us = pg_rows_time(rows, row, column++);
    workflow->relaunched_from = pg_rows_id(rows, row, column++);
    workflow->reason = pg_rows_text(rows, row, column++);
    workflow->comment = pg_rows_text(rows, row, column++);
    workflow->payload = pg_rows_json(rows, row, column++);
}

/* In the order of the columns of STATEMENT_FIND_TASKS. */
static void read_task(const struct pg_rows *rows, int row, struct task_row *task)
{
    int column = 0;
    task->position = (int)pg_rows_int(rows, row, column++);
    task->key = pg_rows_text(rows, row, column++);
    task->status = pg_rows_text(rows, row, column++);
    task->is_hook = pg_rows_bool(rows, row, column++);
    task->attempt = (int)pg_rows_int(rows, row, column++);
    task->queue = pg_rows_text(rows, row, column++);
    task->node = pg_rows_id(rows, row, column++);
    task->created_us = pg_rows_time(rows, row, column++);
    task->updated_us = pg_rows_time(rows, row, column++);
    task->started_us = pg_rows_time(rows, row, column++);
    task->finished_us = pg_rows_time(rows, row, column++);
    task->reason = pg_rows_text(rows, row, column++);
    task->result = pg_rows_json(rows, row, column++);
    task->previous = pg_rows_array(rows, row, column++);
}

/* In the order of the columns of STATEMENT_LIST_ATTEMPTS. */
static void read_attempt(const struct pg_rows *rows, int row, struct attempt_row *attempt)
{
    int column = 0;
    attempt->position = (int)pg_rows_int(rows, row, column++);
    attempt->attempt = (int)pg_rows_int(rows, row, column++);
    attempt->node = pg_rows_id(rows, row, column++);
    attempt->started_us = pg_rows_time(rows, row, column++);
    attempt->finished_us = pg_rows_time(rows, row, column++);
    attempt->exit_status =
        pg_rows_null(rows, row, column) ? -1 : (int)pg_rows_int(rows, row, column);
    column++;
    attempt->signal = (int)pg_rows_int(rows, row, column++);
    attempt->peak_memory_bytes = pg_rows_int(rows, row, column++);
    attempt->cpu_us = pg_rows_int(rows, row, column++);
    attempt->reason = pg_rows_text(rows, row, column++);
    attempt->result = pg_rows_json(rows, row, column++);
}

static void on_found(void *context, const struct pg_rows *rows, const struct pg_failure *failure)
{
    struct read_call *call = context;
    struct workflow_row workflow;
    bool found = rows != NULL && pg_rows_count(rows) > 0;
    if (found)
        read_workflow(rows, 0, &workflow);
    call->on_row(call->context, found ? &workflow : NULL, failure);
    free(call);
}

static void on_read(void *context, const struct pg_rows *rows, const struct pg_failure *failure)
{
    struct read_call *call = context;
    int count = rows == NULL ? 0 : pg_rows_count(rows);
    for (int row = 0; row < count; row++) {
        if (call->each_workflow != NULL) {
            struct workflow_row workflow;
            read_workflow(rows, row, &workflow);
            call->each_workflow(call->context, &workflow);
        } else if (call->each_attempt != NULL) {
            struct attempt_row attempt;
            read_attempt(rows, row, &attempt);
            call->each_attempt(call->context, &attempt);
        } else {
            struct task_row task;
            read_task(rows, row, &task);
            call->each_task(call->context, &task);
        }
    }
    call->on_done(call->context, failure);
    free(call);
}

static void send_read(struct store *store, enum statement statement, struct pg_params *params,
                      pg_reply_cb on_reply, const struct read_call *template)
{
    struct read_call *call = mem_new(1, sizeof *call);
    *call = *template;
    pg_send(store->read, &(struct pg_call){.statement = statement}, params, on_reply, call);
}

void store_find_workflow(struct store *store, const struct id *id, bool with_payload,
                         workflow_cb on_row, void *context)
{
    struct pg_params params = {0};
    pg_params_bool(&params, with_payload);
    pg_params_id(&params, id);
    send_read(store, STATEMENT_FIND_WORKFLOW, &params, on_found,
              &(struct read_call){.on_row = on_row, .context = context});
}

void store_find_tasks(struct store *store, const struct id *workflow,
                      void (*each)(void *context, const struct task_row *row),
                      store_done_cb on_done, void *context)
{
    struct pg_params params = {0};
    pg_params_id(&params, workflow);
    send_read(store, STATEMENT_FIND_TASKS, &params, on_read,
              &(struct read_call){.each_task = each, .on_done = on_done, .context = context});
}

void store_list_attempts(struct store *store, const struct id *workflow,
                         void (*each)(void *context, const struct attempt_row *row),
                         store_done_cb on_done, void *context)
{
    struct pg_params params = {0};
    pg_params_id(&params, workflow);
    send_read(store, STATEMENT_LIST_ATTEMPTS, &params, on_read,
              &(struct read_call){.each_attempt = each, .on_done = on_done, .context = context});
}

static void time_or_null(struct pg_params *params, int64_t at_us)
{
    if (at_us == 0)
        pg_params_null(params);
    else
        pg_params_time(params, at_us);
}

void store_list_workflows(struct store *store, const struct workflow_filter *filter,
                          void (*each)(void *context, const struct workflow_row *row),
                          store_done_cb on_done, void *context)
{
    struct pg_params params = {0};
    pg_params_bool(&params, filter->with_payload);
    pg_params_text(&params, filter->project);
    pg_params_text(&params, filter->name);
    if (filter->statuses == NULL) {
        pg_params_null(&params);
    } else {
        pg_params_array_begin(&params, PG_TEXT);
        for (const char *const *status = filter->statuses; *status != NULL; status++)
            pg_params_text(&params, *status);
        pg_params_array_end(&params);
    }
    if (filter->periodic == NULL)
        pg_params_null(&params);
    else
        pg_params_bool(&params, *filter->periodic);
    time_or_null(&params, filter->created_after_us);
    time_or_null(&params, filter->created_before_us);
    pg_params_text(&params, filter->comment);
    pg_params_id(&params, id_is_null(&filter->before) ? NULL : &filter->before);
    pg_params_int8(&params, filter->limit);
    pg_params_int8(&params, filter->offset);
    send_read(store, STATEMENT_LIST_WORKFLOWS, &params, on_read,
              &(struct read_call){.each_workflow = each, .on_done = on_done, .context = context});
}
