/* GET /api/definitions and GET /api/definitions/<fullname>. */
#include <stdlib.h>
#include <string.h>

#include "api/api.h"
#include "base/json.h"
#include "base/memory.h"
#include "scheduler/registration.h"
#include "scheduler/trigger.h"

/* Next fires shown of each schedule. */
#define NEXT_FIRES 5

void definitions_list(struct http_request *request)
{
    const struct api *api = request->context;
    struct buffer out = {0};
    int count;
    if (!api_ready(request))
        return;
    const struct catalog_entry *entries = catalog_entries(api->catalog, &count);
    buffer_add_char(&out, '[');
    for (int i = 0; i < count; i++) {
        if (i > 0)
            buffer_add_char(&out, ',');
        registration_document(&out, entries[i].definition);
    }
    buffer_add_char(&out, ']');
    reply_json(request, 200, &out);
}

/* --- one ------------------------------------------------------------------------------------- */

static void write_graph(struct json_writer *json, const struct definition *definition)
{
    json_begin_array(json);
    for (int i = 0; i < definition->ordinary_count; i++) {
        const struct definition_task *task = &definition->tasks[i];
        json_begin_object(json);
        json_key_string(json, "key", task->key);
        json_key_int(json, "position", i);
        json_key(json, "previous");
        json_begin_array(json);
        for (int k = 0; k < task->previous_count; k++)
            json_int(json, task->previous[k]);
        json_end_array(json);
        json_key_string(json, "queue", task->queue);
        json_end_object(json);
    }
    json_end_array(json);
}

static int compare_instants(const void *a, const void *b)
{
    int64_t left = *(const int64_t *)a, right = *(const int64_t *)b;
    return left < right ? -1 : left > right;
}

/* The next fires of all schedules together, in order. */
static void write_next(struct json_writer *json, const struct catalog_entry *entry, int64_t now_us)
{
    int count = 0;
    int64_t *instants =
        mem_new((size_t)entry->definition->schedule_count * NEXT_FIRES + 1, sizeof *instants);
    for (int i = 0; i < entry->definition->schedule_count; i++) {
        int64_t at_us = now_us;
        for (int k = 0; k < NEXT_FIRES; k++) {
            if (!trigger_next(&entry->schedules[i].schedule->trigger, entry->schedules[i].anchor_us,
                              at_us, &at_us))
                break;
            instants[count++] = at_us;
        }
    }
    qsort(instants, (size_t)count, sizeof *instants, compare_instants);
    json_begin_array(json);
    for (int i = 0; i < count && i < NEXT_FIRES; i++)
        json_time(json, instants[i]);
    json_end_array(json);
    free(instants);
}

static void write_schedules(struct json_writer *json, const struct definition *definition)
{
    json_begin_array(json);
    for (int i = 0; i < definition->schedule_count; i++) {
        char *trigger = trigger_format(&definition->schedules[i].trigger);
        json_string(json, trigger);
        free(trigger);
    }
    json_end_array(json);
}

/* The members that the API adds to the document, in alphabetical order. */
enum extra {
    EXTRA_FILE,
    EXTRA_GRAPH,
    EXTRA_LOADED,
    EXTRA_NEXT,
    EXTRA_SCHEDULE,
    EXTRA_VERSION,
    EXTRA_COUNT
};

static const char *const extra_keys[EXTRA_COUNT] = {
    [EXTRA_FILE] = "file", [EXTRA_GRAPH] = "graph",       [EXTRA_LOADED] = "loaded",
    [EXTRA_NEXT] = "next", [EXTRA_SCHEDULE] = "schedule", [EXTRA_VERSION] = "version",
};

static void write_extra(struct json_writer *json, const struct api *api,
                        const struct catalog_entry *entry, enum extra extra)
{
    json_key_unordered(json, extra_keys[extra], strlen(extra_keys[extra]));
    switch (extra) {
    case EXTRA_FILE:
        json_string(json, entry->definition->file);
        break;
    case EXTRA_GRAPH:
        write_graph(json, entry->definition);
        break;
    case EXTRA_LOADED:
        json_time(json, catalog_loaded_us(api->catalog));
        break;
    case EXTRA_NEXT:
        write_next(json, entry, store_now_us(api->store));
        break;
    case EXTRA_SCHEDULE:
        write_schedules(json, entry->definition);
        break;
    default:
        json_int(json, entry->id);
        break;
    }
}

struct merging {
    struct json_writer json;
    const struct api *api;
    const struct catalog_entry *entry;
    int extra; /* the next one to write */
};

static void write_extras_before(struct merging *merging, const char *key, size_t size)
{
    while (merging->extra < EXTRA_COUNT &&
           (key == NULL || strncmp(extra_keys[merging->extra], key, size) < 0))
        write_extra(&merging->json, merging->api, merging->entry, (enum extra)merging->extra++);
}

static bool copy_member(void *context, struct json_span key, struct json_span value)
{
    struct merging *merging = context;
    write_extras_before(merging, key.text + 1, key.size - 2);
    json_key_unordered(&merging->json, key.text + 1, key.size - 2);
    json_raw(&merging->json, value.text, value.size);
    return true;
}

void definitions_get(struct http_request *request)
{
    const struct api *api = request->context;
    if (!api_ready(request))
        return;
    const struct catalog_entry *entry = catalog_find(api->catalog, request->params[0]);
    if (entry == NULL) {
        reply_error(request, 404, "Workflow %s not found", request->params[0]);
        return;
    }
    struct buffer document = {0};
    struct buffer out = {0};
    struct merging merging = {.api = api, .entry = entry};
    registration_document(&document, entry->definition);
    json_writer_init(&merging.json, &out);
    json_begin_object(&merging.json);
    json_each_member((struct json_span){document.data, document.size}, copy_member, &merging);
    write_extras_before(&merging, NULL, 0);
    json_end_object(&merging.json);
    buffer_done(&document);
    reply_json(request, 200, &out);
}
