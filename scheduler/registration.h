/* Definitions and schedules as the JSON that register_definitions and register_schedules take
 * (migrations/0006_definitions.sql). */
#pragma once

#include "base/buffer.h"
#include "scheduler/definition_load.h"

/* Appends an array of the set's definitions from index `first` on, until the text is large enough
 * for one call. Returns the index behind the last one. */
int registration_definitions(struct buffer *out, const struct definition_set *set, int first);
/* Appends an array of all schedules of all definitions, in order. */
void registration_schedules(struct buffer *out, const struct definition_set *set);
/* Writes the definition as written in its file, with `fullname`, `name` and `project` in their
 * places. */
void registration_document(struct buffer *out, const struct definition *definition);
