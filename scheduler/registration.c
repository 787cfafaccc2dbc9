#include "scheduler/registration.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "scheduler/action.h"
#include "scheduler/trigger.h"

/* One call takes about this much; it stays far below PostgreSQL's 1 GiB and is quick enough for its
 * deadline. */
#define CHUNK_BYTES (4 * 1024 * 1024)

static void write_document(struct json_writer *json, const struct definition *definition,
                           bool with_names)
{
    const struct definition_member names[] = {
        {"fullname", definition->fullname},
        {"name", definition->name},
        {"project", definition->project},
    };
    int name = with_names ? 0 : 3;
    json_begin_object(json);
    for (int i = 0; i <= definition->document_count; i++) {
        const struct definition_member *member =
            i < definition->document_count ? &definition->document[i] : NULL;
        for (; name < 3 && (member == NULL || strcmp(names[name].key, member->key) < 0); name++)
            json_key_string(json, names[name].key, names[name].value);
        if (member != NULL)
            json_key_raw(json, member->key, member->value, strlen(member->value));
    }
    json_end_object(json);
}

void registration_document(struct buffer *out, const struct definition *definition)
{
    struct json_writer json;
    json_writer_init(&json, out);
    write_document(&json, definition, true);
}

static void write_positions(struct json_writer *json, const char *key, const int *positions,
                            int count)
{
    json_key(json, key);
    json_begin_array(json);
    for (int i = 0; i < count; i++)
        json_int(json, positions[i]);
    json_end_array(json);
}

/* A success hook follows the last tasks: it gets their results as any successor would. */
static void write_last_tasks(struct json_writer *json, const struct definition *definition)
{
    json_key(json, "previous");
    json_begin_array(json);
    for (int i = 0; i < definition->ordinary_count; i++) {
        if (definition->tasks[i].next_count == 0)
            json_int(json, i);
    }
    json_end_array(json);
}

static void write_seconds_value(struct json_writer *json, double seconds)
{
    char text[32];
    int size = snprintf(text, sizeof text, "%.6f", seconds);
    json_raw(json, text, (size_t)size);
}

static void write_seconds(struct json_writer *json, const char *key, double seconds)
{
    json_key(json, key);
    write_seconds_value(json, seconds);
}

static void write_retry(struct json_writer *json, const char *action_text)
{
    struct arena arena = {0};
    struct action action;
    struct error error;
    if (action_parse(action_text, &arena, &action, &error) < 0) {
        log_error("a compiled action cannot be read back", log_error_text(&error));
        abort();
    }
    write_seconds(json, "retry_backoff", action.retry.backoff > 0 ? action.retry.backoff : 1.0);
    write_seconds(json, "retry_interval", (double)action.retry.interval_ms / 1000);
    json_key_int(json, "retry_limit", action.retry.limit);
    write_seconds(json, "retry_max_interval", (double)action.retry.max_interval_ms / 1000);
    arena_done(&arena);
}

static const char *role_word(enum task_role role)
{
    static const char *const words[] = {
        [TASK_ORDINARY] = "task", [TASK_HOOK_SUCCESS] = "success", [TASK_HOOK_FAILURE] = "error"};
    return words[role];
}

static void write_task(struct json_writer *json, const struct definition *definition,
                       const struct definition_task *task)
{
    json_begin_object(json);
    json_key(json, "action");
    if (task->action == NULL)
        json_null(json);
    else
        json_raw(json, task->action, strlen(task->action));
    json_key_string(json, "key", task->key);
    write_positions(json, "next", task->next, task->next_count);
    if (task->role == TASK_HOOK_SUCCESS)
        write_last_tasks(json, definition);
    else
        write_positions(json, "previous", task->previous, task->previous_count);
    json_key_string(json, "queue", task->queue);
    write_retry(json, task->action);
    json_key_string(json, "role", role_word(task->role));
    json_end_object(json);
}

static void write_definition(struct json_writer *json, const struct definition *definition)
{
    json_begin_object(json);
    json_key(json, "concurrency");
    if (definition->concurrency_limit == 0)
        json_null(json);
    else
        json_int(json, definition->concurrency_limit);
    json_key(json, "document");
    write_document(json, definition, false);
    json_key_string(json, "file", definition->file);
    json_key_string(json, "name", definition->name);
    json_key_string(json, "overlap", overlap_text(definition->overlap));
    json_key_string(json, "project", definition->project);
    json_key(json, "retention");
    if (definition->retention_offset == RETENTION_DEFAULT)
        json_null(json);
    else
        json_int(json, definition->retention_offset);
    json_key(json, "tasks");
    json_begin_array(json);
    for (int i = 0; i < definition->task_count; i++)
        write_task(json, definition, &definition->tasks[i]);
    json_end_array(json);
    json_key(json, "timeout");
    if (definition->timeout_us == 0)
        json_null(json);
    else
        write_seconds_value(json, (double)definition->timeout_us / US_PER_SECOND);
    json_end_object(json);
}

int registration_definitions(struct buffer *out, const struct definition_set *set, int first)
{
    struct json_writer json;
    int i = first;
    json_writer_init(&json, out);
    json_begin_array(&json);
    while (i < set->definition_count && (i == first || out->size < CHUNK_BYTES))
        write_definition(&json, set->definitions[i++]);
    json_end_array(&json);
    return i;
}

static const char *zone_of(const struct trigger *trigger)
{
    return trigger->kind == TRIGGER_CRONTAB ? zone_name(trigger->zone) : "UTC";
}

static void write_schedule(struct json_writer *json, const struct definition *definition,
                           const struct definition_schedule *schedule)
{
    char *trigger = trigger_format(&schedule->trigger);
    json_begin_object(json);
    json_key_string(json, "catchup", catchup_text(schedule->catchup));
    json_key_string(json, "identity", schedule->identity);
    json_key_string(json, "name", definition->name);
    json_key_string(json, "project", definition->project);
    json_key_string(json, "timezone", zone_of(&schedule->trigger));
    json_key_string(json, "trigger", trigger);
    json_end_object(json);
    free(trigger);
}

void registration_schedules(struct buffer *out, const struct definition_set *set)
{
    struct json_writer json;
    json_writer_init(&json, out);
    json_begin_array(&json);
    for (int i = 0; i < set->definition_count; i++) {
        const struct definition *definition = set->definitions[i];
        for (int k = 0; k < definition->schedule_count; k++)
            write_schedule(&json, definition, &definition->schedules[k]);
    }
    json_end_array(&json);
}
