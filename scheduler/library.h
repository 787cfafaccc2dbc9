/* The task library: what the names of tasks run, from the `tasks` of every file.
 *
 * It is shared by the workflows of all files, so it also answers whose fault a missing task is: the
 * user's, or that of a file with errors.
 */
#pragma once

#include <stdbool.h>

#include "base/memory.h"
#include "scheduler/report.h"
#include "scheduler/yaml_tree.h"

struct library_task {
    const char *name;
    const struct yaml_node *at;     /* its key */
    const struct yaml_node *action; /* a mapping of action keys */
    const char *file;
    int file_index;
};

struct library;

struct library *library_new(struct arena *arena);
void library_free(struct library *library);

/* Takes in and checks the `tasks` of one file. A name that another file has already is an error of
 * this one. */
void library_add(struct library *library, const struct yaml_node *tasks, int file_index,
                 struct report *report);
/* NULL when no file has it. */
const struct library_task *library_find(const struct library *library, const char *name);
/* Every name, for hints. */
const char *const *library_names(const struct library *library, size_t *count);
