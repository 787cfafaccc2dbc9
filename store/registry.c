/* Definitions, schedules and files of this daemon. */
#include <stdlib.h>

#include "base/memory.h"
#include "store/store_internal.h"

struct registry_call {
    void (*each_definition)(void *context, int place, int64_t id);
    void (*each_schedule)(void *context, int place, int64_t id, int64_t anchor_us,
                          int64_t cursor_us);
    void (*each_file)(void *context, const struct store_file *file);
    store_done_cb on_done;
    void *context;
};

static void read_registry_row(const struct registry_call *call, const struct pg_rows *rows, int row)
{
    if (call->each_definition != NULL)
        call->each_definition(call->context, row, pg_rows_int(rows, row, 0));
    if (call->each_schedule != NULL)
        call->each_schedule(call->context, row, pg_rows_int(rows, row, 0),
                            pg_rows_time(rows, row, 1), pg_rows_time(rows, row, 2));
    if (call->each_file != NULL)
        call->each_file(call->context, &(struct store_file){.name = pg_rows_text(rows, row, 0),
                                                            .text = pg_rows_text(rows, row, 1),
                                                            .size = pg_rows_size(rows, row, 1)});
}

static void on_registry(void *context, const struct pg_rows *rows, const struct pg_failure *failure)
{
    struct registry_call *call = context;
    for (int row = 0; rows != NULL && row < pg_rows_count(rows); row++)
        read_registry_row(call, rows, row);
    call->on_done(call->context, failure);
    free(call);
}

static void send_registry(struct store *store, enum statement statement, struct pg_params *params,
                          const struct registry_call *template)
{
    struct registry_call *call = mem_new(1, sizeof *call);
    *call = *template;
    pg_send(store->engine,
            &(struct pg_call){.statement = statement, .flags = PG_REPEATABLE | PG_WAIT}, params,
            on_registry, call);
}

void store_register_definitions(struct store *store, struct json_span json,
                                void (*each)(void *context, int place, int64_t id),
                                store_done_cb on_done, void *context)
{
    struct pg_params params = {0};
    pg_params_json(&params, json);
    send_registry(
        store, STATEMENT_REGISTER_DEFINITIONS, &params,
        &(struct registry_call){.each_definition = each, .on_done = on_done, .context = context});
}

void store_register_schedules(struct store *store, struct json_span json,
                              void (*each)(void *context, int place, int64_t id, int64_t anchor_us,
                                           int64_t cursor_us),
                              store_done_cb on_done, void *context)
{
    struct pg_params params = {0};
    pg_params_json(&params, json);
    send_registry(
        store, STATEMENT_REGISTER_SCHEDULES, &params,
        &(struct registry_call){.each_schedule = each, .on_done = on_done, .context = context});
}

void store_remember_files(struct store *store, const char *host, const char *directory,
                          const struct store_file *files, int count, store_done_cb on_done,
                          void *context)
{
    struct pg_params params = {0};
    pg_params_text(&params, host);
    pg_params_text(&params, directory);
    pg_params_array_begin(&params, PG_TEXT);
    for (int i = 0; i < count; i++)
        pg_params_text(&params, files[i].name);
    pg_params_array_end(&params);
    pg_params_array_begin(&params, PG_TEXT);
    for (int i = 0; i < count; i++) {
        if (files[i].text != NULL)
            pg_params_text(&params, files[i].name);
    }
    pg_params_array_end(&params);
    pg_params_array_begin(&params, PG_TEXT);
    for (int i = 0; i < count; i++) {
        if (files[i].text != NULL)
            pg_params_text_n(&params, files[i].text, files[i].size);
    }
    pg_params_array_end(&params);
    store_call(store, store->engine, STATEMENT_REMEMBER_FILES, PG_REPEATABLE | PG_WAIT, &params,
               on_done, context);
}

void store_recall_files(struct store *store, const char *host, const char *directory,
                        void (*each)(void *context, const struct store_file *file),
                        store_done_cb on_done, void *context)
{
    struct pg_params params = {0};
    pg_params_text(&params, host);
    pg_params_text(&params, directory);
    send_registry(
        store, STATEMENT_RECALL_FILES, &params,
        &(struct registry_call){.each_file = each, .on_done = on_done, .context = context});
}
