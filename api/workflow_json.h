/* Workflows and tasks as the API shows them. */
#pragma once

#include "base/json.h"
#include "store/store.h"

/* The members of a workflow, keys in order; with `tasks` (NULL: none), a JSON array, in its place.
 */
void workflow_json(struct json_writer *json, const struct workflow_row *row,
                   const struct json_span *tasks);
/* With `attempts` (NULL: none), a JSON array of the attempts before the last one. */
void task_json(struct json_writer *json, const struct id *workflow, const struct task_row *row,
               const struct json_span *attempts);
void attempt_json(struct json_writer *json, const struct attempt_row *row);
