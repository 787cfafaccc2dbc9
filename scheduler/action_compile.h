/* Compiles the keys of a task's action into the JSON text that is stored and claimed
 * (scheduler/action.h reads it). */
#pragma once

#include "base/memory.h"
#include "scheduler/report.h"
#include "scheduler/yaml_tree.h"

/* The keys of an action, NULL-terminated, sorted; `queue` is among them, though it is no part of
 * the compiled text. */
extern const char *const action_keys[];

/* Where a task's keys stand: its own in the workflow, and those of the library's task that it runs.
 * A key of its own overrides the library's; `command`, `script` and `noop` are one choice,
 * overridden together. Either may be NULL. */
struct action_source {
    const struct yaml_node *own;
    const struct yaml_node *library;
};

/* Checks the values of one mapping's action keys, and that they do not contradict each other. */
void action_check(const struct yaml_node *keys, struct report *report);

/* The node that holds for a key, or NULL. */
const struct yaml_node *action_member(struct action_source source, const char *key);
/* True when the source says what to run. */
bool action_is_complete(struct action_source source);

/* Canonical JSON text in the arena: keys sorted, defaults left out; NULL for a noop. What the
 * source holds must have been checked, and be complete. */
const char *action_compile(struct action_source source, struct arena *arena);
