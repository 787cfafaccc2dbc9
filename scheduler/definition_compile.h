/* Compiles the workflows of one file; the loader's own header.
 *
 * definition_compile.c reads a workflow's plain keys, definition_tasks.c its tasks and hooks,
 * definition_periodic.c its schedules. All of them report what is wrong and go on; what they made
 * of a file with errors is thrown away.
 */
#pragma once

#include "base/memory.h"
#include "scheduler/definition.h"
#include "scheduler/library.h"
#include "scheduler/report.h"
#include "scheduler/yaml_tree.h"
#include "scheduler/zone.h"

/* Actions are stored with every task; this bounds them for a file that names a long script very
 * often. */
#define COMPILE_MAX_ACTION_BYTES ((size_t)32 * 1024 * 1024)

/* A workflow that names a task of the library: an error if the task's file turns out to have
 * errors. */
struct task_use {
    const struct library_task *task;
    const struct yaml_node *at;
};

struct compile {
    struct report *report;
    const struct library *library;
    struct zone_cache *zones;
    const char *unread_file; /* a file whose library is unknown, since it is no YAML; or NULL */
    bool library_awaited;    /* so is that of a file that is being written … */
    bool waits;              /* … and a workflow uses what may be in it */
    struct task_use *uses;   /* freed by compile_done */
    int use_count;
    int use_capacity;
    size_t action_bytes;
};

/* The workflow of that key and value, also after errors; NULL when the key is no workflow's. One
 * holder. */
struct definition *definition_compile(struct compile *compile, const struct yaml_pair *workflow);
void compile_done(struct compile *compile);

/* Parts of a definition in the making: its memory, and the workflow's key (for its place) and
 * mapping. */
struct draft {
    struct compile *compile;
    struct definition *definition;
    struct arena *arena;
    const struct yaml_node *key;
    const struct yaml_node *workflow;
};

void draft_tasks(struct draft *draft);
void draft_schedules(struct draft *draft);
