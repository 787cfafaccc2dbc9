#include "api/problems_json.h"

static void write_problem(struct json_writer *json, const struct definition_problem *problem)
{
    json_begin_object(json);
    json_key_int(json, "column", problem->column);
    json_key_string(json, "error", problem->text);
    json_key_string(json, "file", problem->file);
    json_key_int(json, "line", problem->line);
    json_end_object(json);
}

void problems_json(struct json_writer *json, const struct catalog *catalog)
{
    const struct definition_set *set = catalog == NULL ? NULL : catalog_set(catalog);
    struct definition_problem failure;
    json_begin_array(json);
    if (catalog != NULL && catalog_failure(catalog, &failure))
        write_problem(json, &failure);
    for (int i = 0; set != NULL && i < set->error_count; i++)
        write_problem(json, &set->errors[i]);
    json_end_array(json);
}

void waiting_json(struct json_writer *json, const struct catalog *catalog)
{
    int count = 0, waiting = 0;
    const struct definition_file *files = catalog == NULL ? NULL : catalog_files(catalog, &count);
    for (int i = 0; i < count; i++) {
        if (!files[i].unsettled)
            continue;
        if (waiting++ == 0) {
            json_key(json, "waiting");
            json_begin_array(json);
        }
        json_string(json, files[i].name);
    }
    if (waiting > 0)
        json_end_array(json);
}
