/* Schedules and their fires. */
#include <stdlib.h>

#include "base/memory.h"
#include "store/store_internal.h"

struct schedule_call {
    schedule_row_cb each_schedule;
    void (*each_fire)(void *context, const struct fire_row *row);
    store_done_cb on_done;
    void *context;
};

/* In the order of SCHEDULE_COLUMNS in statements.c. */
static void read_schedule(const struct pg_rows *rows, int row, struct schedule_row *schedule)
{
    int column = 0;
    schedule->id = pg_rows_int(rows, row, column++);
    schedule->project = pg_rows_text(rows, row, column++);
    schedule->name = pg_rows_text(rows, row, column++);
    schedule->identity = pg_rows_text(rows, row, column++);
    schedule->trigger = pg_rows_text(rows, row, column++);
    schedule->timezone = pg_rows_text(rows, row, column++);
    schedule->catchup = pg_rows_text(rows, row, column++);
    schedule->comment = pg_rows_text(rows, row, column++);
    schedule->state = pg_rows_text(rows, row, column++);
    schedule->last_us = pg_rows_time(rows, row, column++);
}

/* In the order of the columns of STATEMENT_LIST_FIRES. */
static void read_fire(const struct pg_rows *rows, int row, struct fire_row *fire)
{
    int column = 0;
    fire->schedule = pg_rows_int(rows, row, column++);
    fire->scheduled_us = pg_rows_time(rows, row, column++);
    fire->outcome = pg_rows_text(rows, row, column++);
    fire->workflow = pg_rows_id(rows, row, column++);
    fire->count = pg_rows_int(rows, row, column++);
    fire->until_us = pg_rows_time(rows, row, column++);
    fire->decided_us = pg_rows_time(rows, row, column++);
}

static void on_rows(void *context, const struct pg_rows *rows, const struct pg_failure *failure)
{
    struct schedule_call *call = context;
    int count = rows == NULL ? 0 : pg_rows_count(rows);
    for (int row = 0; row < count; row++) {
        if (call->each_schedule != NULL) {
            struct schedule_row schedule;
            read_schedule(rows, row, &schedule);
            call->each_schedule(call->context, &schedule);
        } else {
            struct fire_row fire;
            read_fire(rows, row, &fire);
            call->each_fire(call->context, &fire);
        }
    }
    call->on_done(call->context, failure);
    free(call);
}

static void send_list(struct store *store, enum statement statement, struct pg_params *params,
                      const struct schedule_call *template)
{
    struct schedule_call *call = mem_new(1, sizeof *call);
    *call = *template;
    store_send_list(store, statement, params, on_rows, call);
}

static void choose(struct pg_params *params, const struct schedule_choice *choice)
{
    if (choice->id == 0)
        pg_params_null(params);
    else
        pg_params_int8(params, choice->id);
    pg_params_text(params, choice->fullname);
}

void store_list_schedules(struct store *store, const struct schedule_choice *choice, int64_t limit,
                          int64_t offset, schedule_row_cb each, store_done_cb on_done,
                          void *context)
{
    struct pg_params params = {0};
    choose(&params, choice);
    pg_params_int8(&params, limit);
    pg_params_int8(&params, offset);
    send_list(
        store, STATEMENT_LIST_SCHEDULES, &params,
        &(struct schedule_call){.each_schedule = each, .on_done = on_done, .context = context});
}

void store_pause_schedules(struct store *store, const struct schedule_choice *choice, bool paused,
                           const char *comment, schedule_row_cb each, store_done_cb on_done,
                           void *context)
{
    struct pg_params params = {0};
    struct schedule_call *call = mem_new(1, sizeof *call);
    *call = (struct schedule_call){.each_schedule = each, .on_done = on_done, .context = context};
    choose(&params, choice);
    pg_params_bool(&params, paused);
    pg_params_text(&params, comment);
    pg_send(store->launch,
            &(struct pg_call){.statement = STATEMENT_PAUSE_SCHEDULES,
                              .flags = PG_REPEATABLE,
                              .deadline_ms = store->write_deadline_ms},
            &params, on_rows, call);
}

void store_list_fires(struct store *store, const struct schedule_choice *choice, int64_t limit,
                      int64_t offset, void (*each)(void *context, const struct fire_row *row),
                      store_done_cb on_done, void *context)
{
    struct pg_params params = {0};
    choose(&params, choice);
    pg_params_int8(&params, limit);
    pg_params_int8(&params, offset);
    send_list(store, STATEMENT_LIST_FIRES, &params,
              &(struct schedule_call){.each_fire = each, .on_done = on_done, .context = context});
}
