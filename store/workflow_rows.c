/* Reading workflows and their tasks, by id or slice by slice. */
#include <stdlib.h>

#include "base/memory.h"
#include "store/store_internal.h"

struct find_call {
    workflow_cb on_row;
    void *context;
};

/* Of a slice, whose rows are of one kind, or tasks and attempts. */
struct slice_call {
    workflow_row_cb each_workflow;
    task_row_cb each_task;
    void (*each_attempt)(void *context, const struct attempt_row *row);
    bool with_payload;
    int64_t limit; /* rows that were asked for … */
    int64_t most;  /* … and those that may come */
    store_slice_cb on_slice;
    void *context;
};

/* In the order of WORKFLOW_COLUMNS in statements.c; the payload is next. */
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

/* In the order of TASK_COLUMNS in statements.c, and the result. */
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
    task->previous = pg_rows_array(rows, row, column++);
    task->result = pg_rows_json(rows, row, column++);
}

/* The columns of STATEMENT_FIND_TASKS and STATEMENT_SLICE_TASKS behind those. */
enum { TASK_IS_WHOLE = 14, TASK_NUMBER, TASK_EXIT_STATUS, TASK_SIGNAL, TASK_PEAK_MEMORY, TASK_CPU };

/* A row of STATEMENT_SLICE_TASKS, as far as the columns mean the same for both. */
static void read_attempt(const struct pg_rows *rows, int row, struct attempt_row *attempt)
{
    struct task_row task;
    read_task(rows, row, &task);
    *attempt = (struct attempt_row){
        .position = task.position,
        .attempt = task.attempt,
        .node = task.node,
        .started_us = task.started_us,
        .finished_us = task.finished_us,
        .exit_status = pg_rows_null(rows, row, TASK_EXIT_STATUS)
                           ? -1
                           : (int)pg_rows_int(rows, row, TASK_EXIT_STATUS),
        .signal = (int)pg_rows_int(rows, row, TASK_SIGNAL),
        .peak_memory_bytes = pg_rows_int(rows, row, TASK_PEAK_MEMORY),
        .cpu_us = pg_rows_int(rows, row, TASK_CPU),
        .reason = task.reason,
        .result = task.result,
    };
}

/* The columns of STATEMENT_SLICE_WORKFLOWS behind the payload. */
enum { WORKFLOW_IS_WHOLE = 14, WORKFLOW_ENDS_PAGE };

static void on_found(void *context, const struct pg_rows *rows, const struct pg_failure *failure)
{
    struct find_call *call = context;
    struct workflow_row workflow;
    bool found = rows != NULL && pg_rows_count(rows) > 0;
    if (found)
        read_workflow(rows, 0, &workflow);
    call->on_row(call->context, found ? &workflow : NULL, failure);
    free(call);
}

void store_find_workflow(struct store *store, const struct id *id, bool with_payload,
                         workflow_cb on_row, void *context)
{
    struct pg_params params = {0};
    struct find_call *call = mem_new(1, sizeof *call);
    *call = (struct find_call){on_row, context};
    pg_params_bool(&params, with_payload);
    pg_params_id(&params, id);
    pg_send(store->read, &(struct pg_call){.statement = STATEMENT_FIND_WORKFLOW}, &params, on_found,
            call);
}

static struct slice_call *new_slice(const struct slice_call *template)
{
    struct slice_call *call = mem_new(1, sizeof *call);
    *call = *template;
    return call;
}

static void end_slice(struct slice_call *call, const struct store_slice *slice,
                      const struct pg_failure *failure)
{
    call->on_slice(call->context, failure == NULL ? slice : NULL, failure);
    free(call);
}

/* --- tasks ----------------------------------------------------------------------------------- */

static void give_task(const struct slice_call *call, const struct pg_rows *rows, int row)
{
    if (call->each_attempt != NULL && pg_rows_int(rows, row, TASK_NUMBER) > 0) {
        struct attempt_row attempt;
        read_attempt(rows, row, &attempt);
        call->each_attempt(call->context, &attempt);
    } else {
        struct task_row task;
        read_task(rows, row, &task);
        call->each_task(call->context, &task);
    }
}

static void on_tasks(void *context, const struct pg_rows *rows, const struct pg_failure *failure)
{
    struct slice_call *call = context;
    int count = rows == NULL ? 0 : pg_rows_count(rows);
    int row = 0;
    for (; row < count && pg_rows_bool(rows, row, TASK_IS_WHOLE); row++)
        give_task(call, rows, row);
    end_slice(call, &(struct store_slice){.is_cut = row < count || row == call->limit}, failure);
}

void store_find_tasks(struct store *store, const struct id *workflow, task_row_cb each,
                      store_slice_cb on_slice, void *context)
{
    struct pg_params params = {0};
    pg_params_id(&params, workflow);
    pg_params_int8(&params, STORE_QUICK_TASKS);
    pg_params_int4(&params, STORE_SLICE_BYTES / STORE_QUICK_TASKS);
    pg_send(store->read, &(struct pg_call){.statement = STATEMENT_FIND_TASKS}, &params, on_tasks,
            new_slice(&(struct slice_call){.each_task = each,
                                           .limit = STORE_QUICK_TASKS,
                                           .on_slice = on_slice,
                                           .context = context}));
}

void store_slice_tasks(struct store *store, const struct id *workflow, struct task_place after,
                       int64_t limit, task_row_cb each,
                       void (*each_attempt)(void *context, const struct attempt_row *row),
                       store_slice_cb on_slice, void *context)
{
    struct pg_params params = {0};
    pg_params_id(&params, workflow);
    pg_params_int4(&params, after.position);
    pg_params_int4(&params, after.attempt);
    pg_params_bool(&params, each_attempt != NULL);
    pg_params_int8(&params, limit);
    pg_send(store->read, &(struct pg_call){.statement = STATEMENT_SLICE_TASKS}, &params, on_tasks,
            new_slice(&(struct slice_call){.each_task = each,
                                           .each_attempt = each_attempt,
                                           .limit = limit,
                                           .on_slice = on_slice,
                                           .context = context}));
}

/* --- workflows ------------------------------------------------------------------------------- */

static void on_listed(void *context, const struct pg_rows *rows, const struct pg_failure *failure)
{
    struct slice_call *call = context;
    int count = rows == NULL ? 0 : pg_rows_count(rows);
    int row = 0;
    for (; row < count; row++) {
        struct workflow_row workflow;
        read_workflow(rows, row, &workflow);
        if (call->with_payload && workflow.payload.text == NULL) /* it was too large */
            break;
        call->each_workflow(call->context, &workflow);
    }
    bool is_cut = row < count || (row == call->most && call->most < call->limit);
    end_slice(call, &(struct store_slice){.is_cut = is_cut}, failure);
}

static void on_sliced(void *context, const struct pg_rows *rows, const struct pg_failure *failure)
{
    struct slice_call *call = context;
    struct store_slice slice = {0};
    int count = rows == NULL ? 0 : pg_rows_count(rows);
    for (int row = 0; row < count; row++) {
        struct workflow_row workflow;
        read_workflow(rows, row, &workflow);
        if (pg_rows_bool(rows, row, WORKFLOW_ENDS_PAGE))
            slice.page_end = workflow.id;
        if (pg_rows_bool(rows, row, WORKFLOW_IS_WHOLE))
            call->each_workflow(call->context, &workflow);
        else
            slice.is_cut = true;
    }
    end_slice(call, &slice, failure);
}

static void time_or_null(struct pg_params *params, int64_t at_us)
{
    if (at_us == 0)
        pg_params_null(params);
    else
        pg_params_time(params, at_us);
}

static void add_choice(struct pg_params *params, const struct workflow_filter *filter)
{
    pg_params_bool(params, filter->with_payload);
    pg_params_text(params, filter->project);
    pg_params_text(params, filter->name);
    if (filter->statuses == NULL) {
        pg_params_null(params);
    } else {
        pg_params_array_begin(params, PG_TEXT);
        for (const char *const *status = filter->statuses; *status != NULL; status++)
            pg_params_text(params, *status);
        pg_params_array_end(params);
    }
    if (filter->periodic == NULL)
        pg_params_null(params);
    else
        pg_params_bool(params, *filter->periodic);
    time_or_null(params, filter->created_after_us);
    time_or_null(params, filter->created_before_us);
    pg_params_text(params, filter->comment);
    pg_params_id(params, id_is_null(&filter->before) ? NULL : &filter->before);
}

void store_list_workflows(struct store *store, const struct workflow_filter *filter,
                          workflow_row_cb each, store_slice_cb on_slice, void *context)
{
    struct pg_params params = {0};
    int64_t most = filter->limit < STORE_QUICK_ROWS ? filter->limit : STORE_QUICK_ROWS;
    add_choice(&params, filter);
    pg_params_int8(&params, most);
    pg_params_int8(&params, filter->offset);
    pg_params_int4(&params, (int)(STORE_SLICE_BYTES / (most > 0 ? most : 1)));
    store_send_list(store, STATEMENT_LIST_WORKFLOWS, &params, on_listed,
                    new_slice(&(struct slice_call){.each_workflow = each,
                                                   .with_payload = filter->with_payload,
                                                   .limit = filter->limit,
                                                   .most = most,
                                                   .on_slice = on_slice,
                                                   .context = context}));
}

void store_slice_workflows(struct store *store, const struct workflow_filter *filter,
                           workflow_row_cb each, store_slice_cb on_slice, void *context)
{
    struct pg_params params = {0};
    add_choice(&params, filter);
    pg_params_int8(&params, filter->limit);
    pg_params_int8(&params, filter->offset);
    pg_params_id(&params, id_is_null(&filter->until) ? NULL : &filter->until);
    store_send_list(store, STATEMENT_SLICE_WORKFLOWS, &params, on_sliced,
                    new_slice(&(struct slice_call){
                        .each_workflow = each, .on_slice = on_slice, .context = context}));
}
