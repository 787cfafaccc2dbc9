#include "scheduler/definition_compile.h"

#include <stdlib.h>
#include <string.h>

#include "scheduler/yaml_json.h"
#include "scheduler/yaml_read.h"

#define MAX_CONCURRENCY 1000000
#define MAX_RETENTION 1000000000

static const char *const workflow_keys[] = {"concurrency", "description", "hooks",     "labels",
                                            "periodic",    "queue",       "retention", "schema",
                                            "tasks",       "timeout",     NULL};

static const struct yaml_node *member(const struct draft *draft, const char *key)
{
    return yaml_member(draft->workflow, key);
}

static void draft_concurrency(struct draft *draft)
{
    static const char *const known[] = {"limit", "overlap", NULL};
    static const char *const words[] = {"queue", "skip", "replace", NULL};
    static const enum overlap values[] = {OVERLAP_QUEUE, OVERLAP_SKIP, OVERLAP_REPLACE};
    struct report *report = draft->compile->report;
    const struct yaml_node *node = member(draft, "concurrency");
    if (!node || !read_mapping(report, node, "'concurrency'", KEY_OF_OTHER, known))
        return;
    int64_t limit = 1;
    const struct yaml_node *value = yaml_member(node, "limit");
    if (value)
        read_integer(report, value, "'limit'", 1, MAX_CONCURRENCY, &limit);
    value = yaml_member(node, "overlap");
    int choice = value ? read_choice(report, value, "'overlap'", words) : 0;
    draft->definition->concurrency_limit = (int)limit;
    draft->definition->overlap = choice < 0 ? OVERLAP_QUEUE : values[choice];
}

static void draft_retention(struct draft *draft)
{
    static const char *const known[] = {"offset", NULL};
    struct report *report = draft->compile->report;
    const struct yaml_node *node = member(draft, "retention");
    int64_t offset = RETENTION_DEFAULT;
    if (node && read_mapping(report, node, "'retention'", KEY_OF_OTHER, known) &&
        yaml_member(node, "offset"))
        read_integer(report, yaml_member(node, "offset"), "'offset'", -1, MAX_RETENTION, &offset);
    draft->definition->retention_offset = (int)offset;
}

static void draft_timeout(struct draft *draft)
{
    struct report *report = draft->compile->report;
    const struct yaml_node *node = member(draft, "timeout");
    int64_t *timeout_us = &draft->definition->timeout_us;
    if (node && read_duration(report, node, "'timeout'", timeout_us) && *timeout_us == 0)
        report_error(report, node, "'timeout' is 0: expected more, or leave it out for none");
}

static void write_labels(struct json_writer *writer, const struct yaml_node *labels,
                         struct report *report)
{
    struct yaml_pair *pairs = yaml_pairs_sorted(labels);
    json_begin_object(writer);
    for (int i = 0; i < labels->count; i++) {
        const char *text = read_text(report, pairs[i].value, "a label");
        json_key_string(writer, pairs[i].key->text, text ? text : "");
    }
    json_end_object(writer);
    free(pairs);
}

static void draft_words(struct draft *draft)
{
    struct report *report = draft->compile->report;
    const struct yaml_node *description = member(draft, "description");
    const char *text = description ? read_text(report, description, "'description'") : NULL;
    if (text)
        draft->definition->description = arena_text(draft->arena, text);
    const struct yaml_node *labels = member(draft, "labels");
    if (labels && labels->kind != YAML_MAPPING)
        report_error(report, labels, "'labels' is %s: expected a mapping of names to texts",
                     yaml_kind_text(labels->kind));
    if (!labels || labels->kind != YAML_MAPPING)
        return;
    struct buffer out = {0};
    struct json_writer writer;
    json_writer_init(&writer, &out);
    write_labels(&writer, labels, report);
    draft->definition->labels = arena_text_n(draft->arena, out.data, out.size);
    buffer_done(&out);
}

static void draft_document(struct draft *draft)
{
    const struct yaml_node *workflow = draft->workflow;
    struct definition_member *members =
        arena_new(draft->arena, (size_t)workflow->count, sizeof *members);
    struct yaml_pair *pairs = yaml_pairs_sorted(workflow);
    for (int i = 0; i < workflow->count; i++) {
        members[i].key = arena_text(draft->arena, pairs[i].key->text);
        members[i].value =
            yaml_json_text(draft->arena, pairs[i].value, YAML_JSON_SORTED, draft->compile->report);
    }
    free(pairs);
    draft->definition->document = members;
    draft->definition->document_count = workflow->count;
}

static void draft_name(struct draft *draft)
{
    struct definition *definition = draft->definition;
    const char *fullname = draft->key->text;
    const char *dot = strchr(fullname, '.');
    definition->fullname = arena_text(draft->arena, fullname);
    definition->project = arena_text_n(draft->arena, fullname, (size_t)(dot - fullname));
    definition->name = arena_text(draft->arena, dot + 1);
    definition->file = arena_text(draft->arena, draft->compile->report->file);
    definition->line = draft->key->line;
}

static bool is_fullname(struct report *report, const struct yaml_node *key)
{
    if (!read_name(report, key, "a workflow's name"))
        return false;
    const char *dot = strchr(key->text, '.');
    if (dot != key->text && dot[1] != '\0')
        return true;
    report_error(report, key, "the workflow '%s' has half a name: expected project.name",
                 key->text);
    return false;
}

struct definition *definition_compile(struct compile *compile, const struct yaml_pair *workflow)
{
    struct draft draft = {.compile = compile, .key = workflow->key, .workflow = workflow->value};
    const char *what = arena_format(compile->report->arena, "'%s'", workflow->key->text);
    if (!is_fullname(compile->report, workflow->key) ||
        !read_mapping(compile->report, workflow->value, what, KEY_OF_WORKFLOW, workflow_keys))
        return NULL;
    draft.definition = definition_new(&draft.arena);
    draft_name(&draft);
    draft_document(&draft);
    draft_tasks(&draft);
    draft_schedules(&draft);
    draft_concurrency(&draft);
    draft_retention(&draft);
    draft_timeout(&draft);
    draft_words(&draft);
    return draft.definition;
}

void compile_done(struct compile *compile)
{
    free(compile->uses);
}
