#include "scheduler/library.h"

#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#include "scheduler/action_compile.h"
#include "scheduler/yaml_read.h"

struct entry {
    struct library_task task;
    UT_hash_handle hh;
};

struct library {
    struct arena *arena;
    struct entry *entries;
    const char **names;
    size_t count;
    size_t capacity;
};

struct library *library_new(struct arena *arena)
{
    struct library *library = mem_new(1, sizeof *library);
    library->arena = arena;
    return library;
}

void library_free(struct library *library)
{
    if (!library)
        return;
    HASH_CLEAR(hh, library->entries);
    free(library->names);
    free(library);
}

static struct entry *find_entry(const struct library *library, const char *name)
{
    struct entry *entry;
    HASH_FIND_STR(library->entries, name, entry);
    return entry;
}

static void add_entry(struct library *library, struct library_task task)
{
    struct entry *entry = arena_new(library->arena, 1, sizeof *entry);
    entry->task = task;
    HASH_ADD_KEYPTR(hh, library->entries, entry->task.name, strlen(entry->task.name), entry);
    if (library->count == library->capacity) {
        library->capacity = library->capacity ? 2 * library->capacity : 16;
        library->names = mem_resize(library->names, library->capacity, sizeof *library->names);
    }
    library->names[library->count++] = entry->task.name;
}

static void check_task(const struct yaml_node *action, const char *name, struct report *report)
{
    const char *what = arena_format(report->arena, "the task '%s'", name);
    if (!read_mapping(report, action, what, KEY_OF_ITEM, action_keys))
        return;
    action_check(action, report);
    if (!action_is_complete((struct action_source){.library = action}))
        report_error(report, action,
                     "%s says nothing to run: expected 'command', 'script' or 'noop: true'", what);
}

static void add_task(struct library *library, const struct yaml_pair *pair, int file_index,
                     struct report *report)
{
    const char *name = read_name(report, pair->key, "a task's name");
    if (!name)
        return;
    check_task(pair->value, name, report);
    const struct entry *other = find_entry(library, name);
    if (other) {
        report_error(report, pair->key,
                     "the task '%s' is defined in %s:%d:%d too: expected one definition", name,
                     other->task.file, other->task.at->line, other->task.at->column);
        return;
    }
    add_entry(library, (struct library_task){.name = name,
                                             .at = pair->key,
                                             .action = pair->value,
                                             .file = report->file,
                                             .file_index = file_index});
}

void library_add(struct library *library, const struct yaml_node *tasks, int file_index,
                 struct report *report)
{
    if (tasks->kind != YAML_MAPPING) {
        report_error(report, tasks,
                     "the task library is %s: expected a mapping of names to actions",
                     yaml_kind_text(tasks->kind));
        return;
    }
    for (int i = 0; i < tasks->count; i++)
        add_task(library, &tasks->pairs[i], file_index, report);
}

const struct library_task *library_find(const struct library *library, const char *name)
{
    const struct entry *entry = find_entry(library, name);
    return entry ? &entry->task : NULL;
}

const char *const *library_names(const struct library *library, size_t *count)
{
    *count = library->count;
    return library->names;
}
