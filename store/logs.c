#include "store/logs.h"

#include <stdlib.h>

#include "base/memory.h"
#include "store/store_internal.h"

/* --- writing --------------------------------------------------------------------------------- */

bool store_takes_logs(const struct store *store)
{
    return pg_link_stats(store->logs)->up;
}

/* Appends one column of the batch. */
#define EACH(element, type, items, count, statement) \
    do {                                             \
        pg_params_array_begin(params, element);      \
        for (int i = 0; i < (count); i++) {          \
            const type *item = &(items)[i];          \
            statement;                               \
        }                                            \
        pg_params_array_end(params);                 \
    } while (0)
#define EACH_LOG(element, statement) \
    EACH(element, struct store_log, batch->logs, batch->log_count, statement)
#define EACH_ROW(element, statement) \
    EACH(element, struct log_row, batch->rows, batch->row_count, statement)

static void build(const struct store *store, const struct log_batch *batch,
                  struct pg_params *params)
{
    pg_params_id(params, &store->node);
    EACH_LOG(PG_ID, pg_params_id(params, &item->attempt.workflow));
    EACH_LOG(PG_INT4, pg_params_int4(params, item->attempt.position));
    EACH_LOG(PG_INT4, pg_params_int4(params, item->attempt.attempt));
    EACH_LOG(PG_INT8, pg_params_int8(params, item->head_end));
    EACH_LOG(PG_INT8, pg_params_int8(params, item->tail_start));
    EACH_ROW(PG_INT4, pg_params_int4(params, item->log + 1)); /* SQL counts from 1 */
    EACH_ROW(PG_INT8, pg_params_int8(params, item->start));
    EACH_ROW(PG_INT4, pg_params_int4(params, item->stream));
    EACH_ROW(PG_TIME, pg_params_time(params, item->at_us + store_clock_offset_us(store)));
    EACH_ROW(PG_BYTES, pg_params_bytes(params, item->text, item->size));
}

void store_append_logs(struct store *store, const struct log_batch *batch, store_done_cb on_done,
                       void *context)
{
    struct pg_params params = {0};
    build(store, batch, &params);
    store_call(store, store->logs, STATEMENT_APPEND_LOGS, 0, &params, on_done, context);
}

/* --- reading --------------------------------------------------------------------------------- */

struct log_call {
    log_state_cb on_state;
    log_row_cb each;
    store_done_cb on_done;
    void *context;
};

static void send_read(struct store *store, enum statement statement, struct pg_params *params,
                      pg_reply_cb on_reply, const struct log_call *template)
{
    struct log_call *call = mem_new(1, sizeof *call);
    *call = *template;
    pg_send(store->read, &(struct pg_call){.statement = statement}, params, on_reply, call);
}

static void on_found(void *context, const struct pg_rows *rows, const struct pg_failure *failure)
{
    struct log_call *call = context;
    struct log_state state = {0};
    if (rows != NULL && pg_rows_count(rows) > 0) {
        state.is_workflow = true;
        state.is_task = !pg_rows_null(rows, 0, 0);
        state.attempt = (int)pg_rows_int(rows, 0, 0);
        state.is_held = pg_rows_bool(rows, 0, 1);
        state.is_final = pg_rows_bool(rows, 0, 2);
    }
    call->on_state(call->context, rows == NULL ? NULL : &state, failure);
    free(call);
}

void store_find_log(struct store *store, const struct id *workflow, int position,
                    log_state_cb on_state, void *context)
{
    struct pg_params params = {0};
    pg_params_id(&params, workflow);
    pg_params_int4(&params, position);
    send_read(store, STATEMENT_FIND_LOG, &params, on_found,
              &(struct log_call){.on_state = on_state, .context = context});
}

static void on_read(void *context, const struct pg_rows *rows, const struct pg_failure *failure)
{
    struct log_call *call = context;
    int count = rows == NULL ? 0 : pg_rows_count(rows);
    for (int row = 0; row < count; row++) {
        struct log_row read = {.start = pg_rows_int(rows, row, 0),
                               .stream = (int)pg_rows_int(rows, row, 1),
                               .text = pg_rows_text(rows, row, 2),
                               .size = pg_rows_size(rows, row, 2)};
        call->each(call->context, &read);
    }
    call->on_done(call->context, failure);
    free(call);
}

static void read_rows(struct store *store, enum statement statement,
                      const struct store_held *attempt, int64_t offset, int limit,
                      const struct log_call *call)
{
    struct pg_params params = {0};
    pg_params_id(&params, &attempt->workflow);
    pg_params_int4(&params, attempt->position);
    pg_params_int4(&params, attempt->attempt);
    pg_params_int8(&params, offset);
    pg_params_int8(&params, limit);
    send_read(store, statement, &params, on_read, call);
}

void store_read_log(struct store *store, const struct store_held *attempt, int64_t from, int limit,
                    log_row_cb each, store_done_cb on_done, void *context)
{
    read_rows(store, STATEMENT_READ_LOG, attempt, from, limit,
              &(struct log_call){.each = each, .on_done = on_done, .context = context});
}

void store_read_log_back(struct store *store, const struct store_held *attempt, int64_t before,
                         int limit, log_row_cb each, store_done_cb on_done, void *context)
{
    read_rows(store, STATEMENT_READ_LOG_BACK, attempt, before, limit,
              &(struct log_call){.each = each, .on_done = on_done, .context = context});
}
