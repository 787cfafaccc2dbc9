/* What is wrong with the definitions, as health and reload show it. */
#pragma once

#include "base/json.h"
#include "scheduler/catalog.h"

/* An array of {"column", "error", "file", "line"}: what was wrong with the last load as a whole,
 * and the errors of the files. The catalog may be NULL. */
void problems_json(struct json_writer *json, const struct catalog *catalog);
/* The member `waiting`: the names of files that are being written, and of which the last load has
 * not taken what stands in them; none where there are none. The catalog may be NULL. */
void waiting_json(struct json_writer *json, const struct catalog *catalog);
