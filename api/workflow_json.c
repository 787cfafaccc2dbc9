#include "api/workflow_json.h"

#include <stdlib.h>

#include "base/memory.h"

static void time_if_set(struct json_writer *json, const char *key, int64_t at_us)
{
    if (at_us != 0)
        json_key_time(json, key, at_us);
}

static void text_if_set(struct json_writer *json, const char *key, const char *text)
{
    if (text != NULL)
        json_key_string(json, key, text);
}

/* A member whose value is put there later; returns where. */
static size_t place_for(struct json_writer *json, const char *key)
{
    json_key_raw(json, key, "", 0);
    return json->out->size;
}

void workflow_json(struct json_writer *json, const struct workflow_row *row, size_t *tasks_at)
{
    json_begin_object(json);
    text_if_set(json, "comment", row->comment);
    json_key_time(json, "created", row->created_us);
    time_if_set(json, "finished", row->finished_us);
    char *fullname = mem_format("%s.%s", row->project, row->name);
    json_key_string(json, "fullname", fullname);
    free(fullname);
    json_key_id(json, "id", &row->id);
    json_key_string(json, "name", row->name);
    if (row->payload.text != NULL)
        json_key_raw(json, "payload", row->payload.text, row->payload.size);
    json_key_bool(json, "periodic", row->periodic);
    json_key_string(json, "project", row->project);
    text_if_set(json, "reason", row->reason);
    if (!id_is_null(&row->relaunched_from))
        json_key_id(json, "relaunched_from", &row->relaunched_from);
    time_if_set(json, "scheduled", row->scheduled_us);
    time_if_set(json, "started", row->started_us);
    json_key_string(json, "status", row->status);
    if (tasks_at != NULL)
        *tasks_at = place_for(json, "tasks");
    json_key_time(json, "updated", row->updated_us);
    json_end_object(json);
}

static void write_previous(struct json_writer *json, const struct id *workflow,
                           struct pg_array previous)
{
    json_key(json, "previous");
    json_begin_array(json);
    while (previous.left > 0) {
        struct id id = id_task(workflow, (int)pg_array_int(&previous));
        json_id(json, &id);
    }
    json_end_array(json);
}

static void result_json(struct json_writer *json, struct json_span result)
{
    json_key(json, "result");
    if (result.text == NULL)
        json_null(json);
    else
        json_raw(json, result.text, result.size);
}

void attempt_json(struct json_writer *json, const struct attempt_row *row)
{
    json_begin_object(json);
    json_key_int(json, "attempt", row->attempt);
    if (row->cpu_us > 0)
        json_key_int(json, "cpu_us", row->cpu_us);
    if (row->exit_status >= 0)
        json_key_int(json, "exit_status", row->exit_status);
    time_if_set(json, "finished", row->finished_us);
    if (!id_is_null(&row->node))
        json_key_id(json, "node", &row->node);
    if (row->peak_memory_bytes > 0)
        json_key_int(json, "peak_memory_bytes", row->peak_memory_bytes);
    text_if_set(json, "reason", row->reason);
    result_json(json, row->result);
    if (row->signal != 0)
        json_key_int(json, "signal", row->signal);
    time_if_set(json, "started", row->started_us);
    json_end_object(json);
}

void task_json(struct json_writer *json, const struct id *workflow, const struct task_row *row,
               size_t *attempts_at)
{
    struct id id = id_task(workflow, row->position);
    json_begin_object(json);
    if (row->attempt > 0)
        json_key_int(json, "attempt", row->attempt);
    if (attempts_at != NULL)
        *attempts_at = place_for(json, "attempts");
    json_key_time(json, "created", row->created_us);
    time_if_set(json, "finished", row->finished_us);
    json_key_id(json, "id", &id);
    json_key_bool(json, "is_hook", row->is_hook);
    json_key_string(json, "key", row->key);
    if (!id_is_null(&row->node))
        json_key_id(json, "node", &row->node);
    write_previous(json, workflow, row->previous);
    json_key_string(json, "queue", row->queue);
    text_if_set(json, "reason", row->reason);
    result_json(json, row->result);
    time_if_set(json, "started", row->started_us);
    json_key_string(json, "status", row->status);
    json_key_id(json, "task", &id);
    json_key_time(json, "updated", row->updated_us);
    json_end_object(json);
}
