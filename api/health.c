/* GET /api/health: 200 while the daemon can do its work, else 503; the body says what is wrong. */
#include <string.h>

#include "api/api.h"
#include "api/problems_json.h"

static void write_definitions(struct json_writer *json, const struct api *api)
{
    const struct definition_set *set = api->catalog == NULL ? NULL : catalog_set(api->catalog);
    json_begin_object(json);
    json_key_int(json, "differing_nodes",
                 api->engine == NULL ? 0 : engine_stats(api->engine).differing);
    json_key(json, "errors");
    problems_json(json, api->catalog);
    json_key_int(json, "loaded", set == NULL ? 0 : set->definition_count);
    waiting_json(json, api->catalog);
    json_end_object(json);
}

static void write_scheduler(struct json_writer *json, const struct engine_stats *stats)
{
    json_begin_object(json);
    json_key_bool(json, "backlog", stats->backlog);
    json_key_bool(json, "draining", stats->draining);
    json_key_bool(json, "lease", stats->lease);
    json_key_id(json, "node", &stats->node);
    json_key_int(json, "running", stats->running);
    json_key_int(json, "slots", stats->slots);
    json_end_object(json);
}

static void write_database(struct json_writer *json, const struct api *api, bool up)
{
    json_begin_object(json);
    if (!up)
        json_key_string(json, "error",
                        api->store == NULL ? api->database_error : store_last_error(api->store));
    json_key_string(json, "status", up ? "up" : "away");
    json_end_object(json);
}

static const char *status_of(const struct api *api, bool available)
{
    if (api->stopping)
        return "stopping";
    return available ? "ok" : "unavailable";
}

void health_get(struct http_request *request)
{
    const struct api *api = request->context;
    bool up = api->store != NULL && store_is_up(api->store);
    bool loaded = api->catalog != NULL && catalog_set(api->catalog) != NULL;
    struct buffer out = {0};
    struct json_writer json;
    json_writer_init(&json, &out);
    json_begin_object(&json);
    json_key_int(&json, "clock_offset_ms",
                 api->store == NULL ? 0 : store_clock_offset_us(api->store) / 1000);
    json_key(&json, "database");
    write_database(&json, api, up);
    json_key(&json, "definitions");
    write_definitions(&json, api);
    struct engine_stats stats = {0};
    if (api->engine != NULL) {
        stats = engine_stats(api->engine);
        json_key(&json, "scheduler");
        write_scheduler(&json, &stats);
    }
    const char *status = status_of(api, up && loaded && stats.lease);
    json_key_string(&json, "status", status);
    json_end_object(&json);
    reply_json(request, strcmp(status, "ok") == 0 ? 200 : 503, &out);
}
