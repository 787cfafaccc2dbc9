/* Nodes as rows, and what is cleared away. */
#include <stdlib.h>

#include "base/memory.h"
#include "store/store_internal.h"

struct node_call {
    node_row_cb each;
    store_done_cb on_done;
    void *context;
};

/* In the order of NODE_COLUMNS in statements.c. */
static void read_node(const struct pg_rows *rows, int row, struct node_row *node)
{
    int column = 0;
    node->id = pg_rows_id(rows, row, column++);
    node->host = pg_rows_text(rows, row, column++);
    node->version = pg_rows_text(rows, row, column++);
    node->queues = pg_rows_array(rows, row, column++);
    node->slots = pg_rows_int(rows, row, column++);
    node->state = pg_rows_text(rows, row, column++);
    node->digest = pg_rows_text(rows, row, column++);
    node->started_us = pg_rows_time(rows, row, column++);
    node->heartbeat_us = pg_rows_time(rows, row, column++);
    node->running = pg_rows_int(rows, row, column++);
}

static void on_nodes(void *context, const struct pg_rows *rows, const struct pg_failure *failure)
{
    struct node_call *call = context;
    int count = rows == NULL ? 0 : pg_rows_count(rows);
    for (int row = 0; row < count; row++) {
        struct node_row node;
        read_node(rows, row, &node);
        call->each(call->context, &node);
    }
    call->on_done(call->context, failure);
    free(call);
}

void store_list_nodes(struct store *store, int64_t limit, int64_t offset, node_row_cb each,
                      store_done_cb on_done, void *context)
{
    struct pg_params params = {0};
    struct node_call *call = mem_new(1, sizeof *call);
    *call = (struct node_call){each, on_done, context};
    pg_params_int8(&params, limit);
    pg_params_int8(&params, offset);
    store_send_list(store, STATEMENT_LIST_NODES, &params, on_nodes, call);
}

void store_drain_node(struct store *store, const struct id *node, node_row_cb each,
                      store_done_cb on_done, void *context)
{
    struct pg_params params = {0};
    struct node_call *call = mem_new(1, sizeof *call);
    *call = (struct node_call){each, on_done, context};
    pg_params_id(&params, node);
    pg_send(store->engine,
            &(struct pg_call){.statement = STATEMENT_DRAIN_NODE,
                              .flags = PG_REPEATABLE,
                              .deadline_ms = store->write_deadline_ms},
            &params, on_nodes, call);
}

/* --- clearing away --------------------------------------------------------------------------- */

struct clear_call {
    struct store *store;
    enum statement statement;
    cleared_cb on_cleared;
    void *context;
};

static void on_count(void *context, const struct pg_rows *rows, const struct pg_failure *failure)
{
    struct clear_call *call = context;
    store_note(call->store, call->statement, failure);
    call->on_cleared(call->context, failure == NULL ? pg_rows_int(rows, 0, 0) : 0, failure);
    free(call);
}

/* On the connection of the hints, so that neither the engine nor a reader waits for it. */
static void send_clear(struct store *store, enum statement statement, struct pg_params *params,
                       cleared_cb on_cleared, void *context)
{
    struct clear_call *call = mem_new(1, sizeof *call);
    *call = (struct clear_call){store, statement, on_cleared, context};
    pg_send(store->listen, &(struct pg_call){.statement = statement}, params, on_count, call);
}

void store_clear_workflows(struct store *store, int default_offset, int limit,
                           cleared_cb on_cleared, void *context)
{
    struct pg_params params = {0};
    pg_params_int4(&params, default_offset);
    pg_params_int4(&params, limit);
    send_clear(store, STATEMENT_CLEAR_WORKFLOWS, &params, on_cleared, context);
}

void store_clear_history(struct store *store, const int64_t *loaded, int loaded_count,
                         int64_t fires_age_ms, int limit, cleared_cb on_cleared, void *context)
{
    struct pg_params params = {0};
    pg_params_array_begin(&params, PG_INT8);
    for (int i = 0; i < loaded_count; i++)
        pg_params_int8(&params, loaded[i]);
    pg_params_array_end(&params);
    pg_params_int8(&params, fires_age_ms);
    pg_params_int4(&params, limit);
    send_clear(store, STATEMENT_CLEAR_HISTORY, &params, on_cleared, context);
}
