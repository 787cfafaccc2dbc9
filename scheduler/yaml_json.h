/* YAML nodes as JSON text. */
#pragma once

#include "base/json.h"
#include "scheduler/report.h"
#include "scheduler/yaml_tree.h"

enum yaml_json_order {
    YAML_JSON_AS_WRITTEN, /* for data, such as a payload */
    YAML_JSON_SORTED,     /* objects by key, as the API writes them */
};

/* Writes the node as one value. Numbers keep their digits; a number that JSON does not have is an
 * error in the report, and null in the text. Keys that are no text count as their text (`1: x` is
 * `{"1":"x"}`). */
void yaml_json(struct json_writer *writer, const struct yaml_node *node, enum yaml_json_order order,
               struct report *report);
/* The same as a text of its own in the arena. */
const char *yaml_json_text(struct arena *arena, const struct yaml_node *node,
                           enum yaml_json_order order, struct report *report);
