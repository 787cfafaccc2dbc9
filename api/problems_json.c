#include "api/problems_json.h"

void problems_json(struct json_writer *json, const struct definition_set *set)
{
    json_begin_array(json);
    for (int i = 0; i < set->error_count; i++) {
        const struct definition_problem *problem = &set->errors[i];
        json_begin_object(json);
        json_key_int(json, "column", problem->column);
        json_key_string(json, "error", problem->text);
        json_key_string(json, "file", problem->file);
        json_key_int(json, "line", problem->line);
        json_end_object(json);
    }
    json_end_array(json);
}
