/* The errors of definition files, as health and reload show them. */
#pragma once

#include "base/json.h"
#include "scheduler/definition_load.h"

/* An array of {"column", "error", "file", "line"}. */
void problems_json(struct json_writer *json, const struct definition_set *set);
