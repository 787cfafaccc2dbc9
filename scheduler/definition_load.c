#include "scheduler/definition_load.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#include "scheduler/definition_compile.h"
#include "scheduler/yaml_read.h"

const struct definition_limits definition_limits_default = {
    .max_bytes = 1024 * 1024,
    .max_nodes = 50000,
    .max_depth = 32,
};

/* A workflow in one of the files. */
struct workflow {
    struct definition *definition;
    const struct yaml_node *key;
};

struct source {
    const struct definition_file *file;
    const char *name; /* in the set's arena */
    struct arena arena;
    struct yaml_node *root; /* NULL when it is no YAML */
    struct report report;
    struct compile compile;
    struct workflow *workflows;
    int workflow_count;
};

/* Who defines a workflow, among the files. */
struct owner {
    const char *fullname;
    struct source *source;
    const struct yaml_node *key;
    UT_hash_handle hh;
};

struct loader {
    struct definition_set *set;
    const struct definition_set *previous; /* or NULL */
    const struct definition_limits *limits;
    struct source *sources;
    int count;
    struct library *library;
    const char *unread_file; /* as in struct compile */
    bool library_awaited;
    struct zone_cache *zones;
    struct owner *owners;
    struct arena scratch;
};

/* The file, or one whose library it uses, is being written, and nothing is known of it yet. */
static bool is_awaited(const struct source *source)
{
    return (source->file->unsettled && !source->file->text) || source->compile.waits;
}

static bool is_broken(const struct source *source)
{
    return report_error_count(&source->report) > 0 || is_awaited(source);
}

/* --- reading ---------------------------------------------------------------------------------- */

static void parse_source(struct loader *loader, struct source *source,
                         const struct definition_file *file)
{
    source->file = file;
    source->name = arena_text(&loader->set->arena, file->name);
    source->report = (struct report){.arena = &loader->set->arena, .file = source->name};
    if (is_awaited(source))
        return;
    if (!file->text) {
        report_error_at(&source->report, 0, 0, "%s", file->error.text);
        return;
    }
    source->root =
        yaml_tree_parse(&source->arena, file->text, file->size, loader->limits, &source->report);
    if (source->root && source->root->kind != YAML_MAPPING) {
        report_error(&source->report, source->root,
                     "the file is %s: expected a mapping of workflows, and 'tasks'",
                     yaml_kind_text(source->root->kind));
        source->root = NULL;
    }
}

/* Whose part of the library is unknown. */
static void find_unread_files(struct loader *loader)
{
    for (int i = loader->count - 1; i >= 0; i--) {
        const struct source *source = &loader->sources[i];
        if (is_awaited(source))
            loader->library_awaited = true;
        else if (!source->root)
            loader->unread_file = source->name;
    }
}

static void compile_pair(struct source *source, const struct yaml_pair *pair)
{
    if (strcmp(pair->key->text, "tasks") == 0)
        return;
    if (!strchr(pair->key->text, '.')) {
        report_error(&source->report, pair->key,
                     "unknown key '%s': expected a workflow's name, project.name, or 'tasks'",
                     pair->key->text);
        return;
    }
    struct definition *definition = definition_compile(&source->compile, pair);
    if (definition)
        source->workflows[source->workflow_count++] = (struct workflow){definition, pair->key};
}

static void compile_source(struct loader *loader, struct source *source)
{
    if (!source->root)
        return;
    source->compile = (struct compile){
        .report = &source->report,
        .library = loader->library,
        .zones = loader->zones,
        .unread_file = loader->unread_file,
        .library_awaited = loader->library_awaited,
    };
    source->workflows =
        arena_new(&loader->scratch, (size_t)source->root->count, sizeof *source->workflows);
    for (int i = 0; i < source->root->count; i++)
        compile_pair(source, &source->root->pairs[i]);
}

static void read_sources(struct loader *loader, const struct definition_file *files)
{
    for (int i = 0; i < loader->count; i++)
        parse_source(loader, &loader->sources[i], &files[i]);
    for (int i = 0; i < loader->count; i++) {
        struct source *source = &loader->sources[i];
        const struct yaml_node *tasks = yaml_member(source->root, "tasks");
        if (tasks)
            library_add(loader->library, tasks, i, &source->report);
    }
    find_unread_files(loader);
    for (int i = 0; i < loader->count; i++)
        compile_source(loader, &loader->sources[i]);
}

/* --- between files ---------------------------------------------------------------------------- */

static bool was_defined_by(const struct loader *loader, const char *fullname,
                           const struct source *source)
{
    const struct definition *before =
        loader->previous ? definition_set_find(loader->previous, fullname) : NULL;
    return before && strcmp(before->file, source->name) == 0;
}

/* Of two files with the same workflow the newcomer is at fault: the one that the previous set did
 * not have it from, else the later one. */
static void report_clash(struct loader *loader, struct owner *owner, struct source *source,
                         const struct yaml_node *key)
{
    struct owner other = {.source = source, .key = key};
    if (was_defined_by(loader, key->text, source)) {
        other = *owner;
        owner->source = source;
        owner->key = key;
    }
    report_error(&other.source->report, other.key,
                 "the workflow '%s' is defined in %s:%d:%d too: expected one definition", key->text,
                 owner->source->name, owner->key->line, owner->key->column);
}

static struct owner *find_owner(const struct loader *loader, const char *fullname)
{
    struct owner *owner;
    HASH_FIND_STR(loader->owners, fullname, owner);
    return owner;
}

static void find_clashes(struct loader *loader)
{
    for (int i = 0; i < loader->count; i++) {
        struct source *source = &loader->sources[i];
        for (int k = 0; k < source->workflow_count; k++) {
            const struct workflow *workflow = &source->workflows[k];
            struct owner *owner = find_owner(loader, workflow->definition->fullname);
            if (owner) {
                report_clash(loader, owner, source, workflow->key);
                continue;
            }
            owner = arena_new(&loader->scratch, 1, sizeof *owner);
            *owner = (struct owner){
                .fullname = workflow->definition->fullname, .source = source, .key = workflow->key};
            HASH_ADD_KEYPTR(hh, loader->owners, owner->fullname, strlen(owner->fullname), owner);
        }
    }
}

/* A good file that leans on the library of one with errors is in error too. */
static bool report_broken_uses(struct loader *loader, struct source *source)
{
    bool found = false;
    for (int i = 0; i < source->compile.use_count; i++) {
        const struct task_use *use = &source->compile.uses[i];
        if (!is_broken(&loader->sources[use->task->file_index]))
            continue;
        report_error(&source->report, use->at,
                     "the task '%s' is defined in %s, which has errors: expected a file without",
                     use->task->name, use->task->file);
        found = true;
    }
    return found;
}

/* Calls `each` for what a file with errors had in the previous set, and has in this one too. */
static void each_kept(const struct loader *loader, const struct source *source,
                      void (*each)(void *context, struct definition *definition), void *context)
{
    for (int i = 0; loader->previous && i < loader->previous->definition_count; i++)
        if (strcmp(loader->previous->definitions[i]->file, source->name) == 0)
            each(context, loader->previous->definitions[i]);
}

/* A workflow that moved out of a file with errors would be there twice. */
static void report_kept_clash(void *context, struct definition *kept)
{
    const struct owner *owner = find_owner(context, kept->fullname);
    if (owner && !is_broken(owner->source))
        report_error(
            &owner->source->report, owner->key,
            "the workflow '%s' is defined in %s:%d too, which has errors and keeps its last "
            "good version: expected one definition",
            kept->fullname, kept->file, kept->line);
}

/* Errors spread from file to file until nothing changes; each round finds at least one more. */
static void spread_errors(struct loader *loader)
{
    for (bool changed = true; changed;) {
        int broken = 0;
        int now_broken = 0;
        for (int i = 0; i < loader->count; i++)
            broken += is_broken(&loader->sources[i]);
        for (int i = 0; i < loader->count; i++) {
            struct source *source = &loader->sources[i];
            if (is_broken(source))
                each_kept(loader, source, report_kept_clash, loader);
            else
                report_broken_uses(loader, source);
        }
        for (int i = 0; i < loader->count; i++)
            now_broken += is_broken(&loader->sources[i]);
        changed = now_broken > broken;
    }
}

/* --- the answer ------------------------------------------------------------------------------- */

static void keep(void *context, struct definition *definition)
{
    struct definition_set *set = context;
    set->definitions[set->definition_count++] = definition_hold(definition);
}

static bool was_known(const struct loader *loader, const char *file)
{
    for (int i = 0; loader->previous && i < loader->previous->file_count; i++)
        if (strcmp(loader->previous->files[i].name, file) == 0)
            return loader->previous->files[i].state != DEFINITION_FILE_LEFT_OUT;
    return false;
}

static enum definition_file_state collect_source(struct loader *loader, struct source *source)
{
    struct definition_set *set = loader->set;
    if (!is_broken(source)) {
        for (int i = 0; i < source->workflow_count; i++)
            keep(set, source->workflows[i].definition);
        return DEFINITION_FILE_LOADED;
    }
    each_kept(loader, source, keep, set);
    return was_known(loader, source->name) ? DEFINITION_FILE_KEPT : DEFINITION_FILE_LEFT_OUT;
}

static void add_problems(struct definition_problem *problems, int *count,
                         const struct report_list *list)
{
    if (list->count == 0)
        return;
    memcpy(problems + *count, list->items, (size_t)list->count * sizeof *problems);
    *count += list->count;
}

static void collect_problems(struct loader *loader)
{
    struct definition_set *set = loader->set;
    size_t errors = 0;
    size_t warnings = 0;
    for (int i = 0; i < loader->count; i++) {
        struct report *report = &loader->sources[i].report;
        report_finish(report);
        errors += (size_t)report->errors.count;
        warnings += (size_t)report->warnings.count;
    }
    set->errors = arena_new(&set->arena, errors, sizeof *set->errors);
    set->warnings = arena_new(&set->arena, warnings, sizeof *set->warnings);
    for (int i = 0; i < loader->count; i++) {
        const struct report *report = &loader->sources[i].report;
        add_problems(set->errors, &set->error_count, &report->errors);
        add_problems(set->warnings, &set->warning_count, &report->warnings);
    }
}

static int compare_definitions(const void *a, const void *b)
{
    const struct definition *const *left = a;
    const struct definition *const *right = b;
    return strcmp((*left)->fullname, (*right)->fullname);
}

static void collect(struct loader *loader)
{
    struct definition_set *set = loader->set;
    size_t most = loader->previous ? (size_t)loader->previous->definition_count : 0;
    for (int i = 0; i < loader->count; i++)
        most += (size_t)loader->sources[i].workflow_count;
    set->definitions = arena_new(&set->arena, most, sizeof *set->definitions);
    set->files = arena_new(&set->arena, (size_t)loader->count, sizeof *set->files);
    collect_problems(loader);
    for (int i = 0; i < loader->count; i++) {
        struct source *source = &loader->sources[i];
        set->files[set->file_count++] = (struct definition_file_status){
            .name = source->name,
            .state = collect_source(loader, source),
            .error_count = source->report.errors.count,
        };
    }
    if (set->definition_count)
        qsort(set->definitions, (size_t)set->definition_count, sizeof *set->definitions,
              compare_definitions);
}

static void loader_done(struct loader *loader)
{
    for (int i = 0; i < loader->count; i++) {
        struct source *source = &loader->sources[i];
        for (int k = 0; k < source->workflow_count; k++)
            definition_release(source->workflows[k].definition);
        compile_done(&source->compile);
        report_done(&source->report);
        arena_done(&source->arena);
    }
    free(loader->sources);
    HASH_CLEAR(hh, loader->owners);
    library_free(loader->library);
    zone_cache_free(loader->zones);
    arena_done(&loader->scratch);
}

struct definition_set *definitions_load_files(const struct definition_file *files, int count,
                                              const struct definition_limits *limits,
                                              const struct definition_set *previous)
{
    struct loader loader = {
        .set = mem_new(1, sizeof(struct definition_set)),
        .previous = previous,
        .limits = limits,
        .sources = mem_new((size_t)count, sizeof(struct source)),
        .count = count,
        .zones = zone_cache_new(),
    };
    loader.library = library_new(&loader.scratch);
    read_sources(&loader, files);
    find_clashes(&loader);
    spread_errors(&loader);
    collect(&loader);
    loader_done(&loader);
    return loader.set;
}

struct definition_set *definitions_load(const char *dir, const struct definition_limits *limits,
                                        const struct definition_set *previous, struct error *error)
{
    struct definition_file *files;
    int count;
    if (definition_files_read(dir, limits, &files, &count, error) < 0)
        return NULL;
    struct definition_set *set = definitions_load_files(files, count, limits, previous);
    definition_files_free(files, count);
    return set;
}

/* --- the set ---------------------------------------------------------------------------------- */

void definition_set_free(struct definition_set *set)
{
    if (!set)
        return;
    for (int i = 0; i < set->definition_count; i++)
        definition_release(set->definitions[i]);
    arena_done(&set->arena);
    free(set);
}

static int compare_name(const void *key, const void *element)
{
    const struct definition *const *definition = element;
    return strcmp(key, (*definition)->fullname);
}

struct definition *definition_set_find(const struct definition_set *set, const char *fullname)
{
    struct definition **found = NULL;
    if (set->definition_count)
        found = bsearch(fullname, set->definitions, (size_t)set->definition_count,
                        sizeof *set->definitions, compare_name);
    return found ? *found : NULL;
}

void definition_problem_format(const struct definition_problem *problem,
                               char text[DEFINITION_PROBLEM_TEXT_SIZE])
{
    if (problem->line > 0)
        snprintf(text, DEFINITION_PROBLEM_TEXT_SIZE, "%s:%d:%d: %s", problem->file, problem->line,
                 problem->column, problem->text);
    else
        snprintf(text, DEFINITION_PROBLEM_TEXT_SIZE, "%s: %s", problem->file, problem->text);
}
