/* Workflows and tasks as the API shows them. */
#pragma once

#include "base/json.h"
#include "store/store.h"

/* The members of a workflow, keys in order. With `tasks_at` (NULL: no tasks) a member `tasks` has
 * its place but no value yet: it belongs at that offset of the writer's buffer. */
void workflow_json(struct json_writer *json, const struct workflow_row *row, size_t *tasks_at);
/* With `attempts_at` (NULL: no attempts) it has a place for a member `attempts`, like that. */
void task_json(struct json_writer *json, const struct id *workflow, const struct task_row *row,
               size_t *attempts_at);
void attempt_json(struct json_writer *json, const struct attempt_row *row);
