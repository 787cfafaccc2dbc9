/* A workflow's `tasks`, `queue` and `hooks`: from YAML to tasks in execution order. */
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#include "scheduler/action_compile.h"
#include "scheduler/definition_compile.h"
#include "scheduler/graph.h"
#include "scheduler/yaml_read.h"

#define FIRST_CAPACITY 16

/* What an item's name stands for. */
struct name {
    const char *text;
    int item;                      /* the first of that name */
    int count;                     /* how many there are */
    const struct yaml_node *queue; /* that `customs` gives it, or NULL */
    UT_hash_handle hh;
};

/* A task, group or chain; its place among the others is in the graph item of the same index. */
struct item {
    const struct yaml_node *at;         /* its name */
    const struct yaml_node *depends_on; /* or NULL */
    struct action_source source;        /* of a task */
};

struct items {
    struct draft *draft;
    struct report *report;
    struct item *items;
    struct graph_item *graph;
    int count;
    int capacity;
    struct name *names;
    const char **hints; /* the names of all items, once one is looked for; or NULL */
    const char *usual_queue;
    const struct yaml_node *customs; /* queues by task, or NULL */
    struct arena scratch;
};

/* --- the library ------------------------------------------------------------------------------ */

static void note_use(struct compile *compile, const struct library_task *task,
                     const struct yaml_node *at)
{
    if (compile->use_count == compile->use_capacity) {
        compile->use_capacity = compile->use_capacity ? 2 * compile->use_capacity : 16;
        compile->uses =
            mem_resize(compile->uses, (size_t)compile->use_capacity, sizeof *compile->uses);
    }
    compile->uses[compile->use_count++] = (struct task_use){task, at};
}

static void report_unknown(struct compile *compile, const char *name, const struct yaml_node *at)
{
    struct report *report = compile->report;
    size_t count;
    if (compile->library_awaited) {
        compile->waits = true;
        return;
    }
    const char *const *names = library_names(compile->library, &count);
    const char *hint = report_hint(report, name, names, count);
    if (compile->unread_file)
        report_error(report, at,
                     "unknown task '%s'%s: expected one of the task library (%s, which may have "
                     "it, could not be read)",
                     name, hint, compile->unread_file);
    else
        report_error(report, at, "unknown task '%s'%s: expected one of the task library", name,
                     hint);
}

/* The library's action of that name; NULL where it has none. */
static const struct yaml_node *use_library(struct compile *compile, const char *name,
                                           const struct yaml_node *at)
{
    const struct library_task *task = library_find(compile->library, name);
    if (!task)
        return NULL;
    note_use(compile, task, at);
    return task->action;
}

/* --- reading the items ------------------------------------------------------------------------ */

static struct name *find_name(const struct items *items, const char *text)
{
    struct name *name;
    HASH_FIND_STR(items->names, text, name);
    return name;
}

static void note_name(struct items *items, const char *text, int item)
{
    struct name *name = find_name(items, text);
    if (!name) {
        name = arena_new(&items->scratch, 1, sizeof *name);
        name->text = text;
        name->item = item;
        HASH_ADD_KEYPTR(hh, items->names, name->text, strlen(name->text), name);
    }
    name->count++;
}

static int add_item(struct items *items, enum graph_kind kind, const struct yaml_node *at,
                    int parent)
{
    if (items->count == items->capacity) {
        items->capacity *= 2;
        items->items = mem_resize(items->items, (size_t)items->capacity, sizeof *items->items);
        items->graph = mem_resize(items->graph, (size_t)items->capacity, sizeof *items->graph);
    }
    int index = items->count++;
    items->items[index] = (struct item){.at = at};
    items->graph[index] =
        (struct graph_item){.kind = kind, .name = at->text, .parent = parent, .end = index + 1};
    note_name(items, at->text, index);
    return index;
}

static void read_plain_task(struct items *items, const struct yaml_node *node, int parent)
{
    const char *name = read_name(items->report, node, "a task");
    if (!name)
        return;
    const struct yaml_node *action = use_library(items->draft->compile, name, node);
    if (!action)
        report_unknown(items->draft->compile, name, node);
    int index = add_item(items, GRAPH_TASK, node, parent);
    items->items[index].source.library = action;
}

/* The library's part of a task with keys: what `task` names, else what has the item's own name, if
 * anything. */
static const struct yaml_node *find_library_part(struct items *items, const struct yaml_node *at,
                                                 const struct yaml_node *keys)
{
    struct compile *compile = items->draft->compile;
    const struct yaml_node *task = yaml_member(keys, "task");
    const char *name = task ? read_name(items->report, task, "'task'") : at->text;
    if (!name)
        return NULL;
    if (!task)
        task = at;
    const struct yaml_node *action = use_library(compile, name, task);
    if (!action && (task != at || !action_is_complete((struct action_source){.own = keys})))
        report_unknown(compile, name, task);
    return action;
}

static void read_task(struct items *items, const struct yaml_node *at, const struct yaml_node *keys,
                      int parent)
{
    static const char *const known[] = {
        "command",   "cpu_quota",  "cwd",       "depends_on", "env",    "grace", "group",
        "log_limit", "memory_max", "noop",      "queue",      "result", "retry", "script",
        "shell",     "task",       "tasks_max", "timeout",    "type",   "user",  NULL};
    const char *what = arena_format(&items->scratch, "'%s'", at->text);
    if (yaml_member(keys, "tasks")) {
        report_error(
            items->report, yaml_member_key(keys, "tasks"),
            "'tasks' in %s without a type: expected 'type: group' or 'type: chain' beside it",
            what);
        return;
    }
    read_mapping(items->report, keys, what, KEY_OF_ITEM, known);
    action_check(keys, items->report);
    const struct yaml_node *library = find_library_part(items, at, keys);
    int index = add_item(items, GRAPH_TASK, at, parent);
    items->items[index].source = (struct action_source){.own = keys, .library = library};
    items->items[index].depends_on = yaml_member(keys, "depends_on");
}

static void read_items(struct items *items, const struct yaml_node *list, int parent);

static void read_container(struct items *items, enum graph_kind kind, const struct yaml_node *at,
                           const struct yaml_node *keys, int parent)
{
    static const char *const known[] = {"depends_on", "tasks", "type", NULL};
    const char *what = arena_format(&items->scratch, "the %s '%s'",
                                    kind == GRAPH_GROUP ? "group" : "chain", at->text);
    read_mapping(items->report, keys, what, KEY_OF_OTHER, known);
    int index = add_item(items, kind, at, parent);
    items->items[index].depends_on = yaml_member(keys, "depends_on");
    const struct yaml_node *tasks = yaml_member(keys, "tasks");
    if (!tasks)
        report_error(items->report, at, "%s has no 'tasks': expected a list", what);
    else if (read_list(items->report, tasks, what))
        read_items(items, tasks, index);
    items->graph[index].end = items->count;
}

/* The kind of an item with a `type`; GRAPH_TASK after an error. */
static enum graph_kind read_type(struct report *report, const struct yaml_node *type)
{
    static const char *const types[] = {"group", "chain", NULL};
    static const enum graph_kind kinds[] = {GRAPH_GROUP, GRAPH_CHAIN};
    if (yaml_is_scalar(type) && read_refused(report, type, ITEM_TYPE))
        return GRAPH_TASK;
    int choice = read_choice(report, type, "'type'", types);
    return choice < 0 ? GRAPH_TASK : kinds[choice];
}

/* An item that is wrong stands in the list all the same, so that what depends on it is no further
 * error. */
static void read_named_item(struct items *items, const struct yaml_pair *pair, int parent)
{
    if (!read_name(items->report, pair->key, "an item's name"))
        return;
    const struct yaml_node *type = yaml_member(pair->value, "type");
    if (pair->value->kind != YAML_MAPPING) {
        report_error(items->report, pair->value,
                     "the item '%s' is %s: expected a mapping such as {type: group, tasks: […]}",
                     pair->key->text, yaml_kind_text(pair->value->kind));
        add_item(items, GRAPH_TASK, pair->key, parent);
    } else if (!type) {
        read_task(items, pair->key, pair->value, parent);
    } else {
        enum graph_kind kind = read_type(items->report, type);
        if (kind == GRAPH_TASK)
            add_item(items, kind, pair->key, parent);
        else
            read_container(items, kind, pair->key, pair->value, parent);
    }
}

static void read_items(struct items *items, const struct yaml_node *list, int parent)
{
    for (int i = 0; i < list->count; i++) {
        const struct yaml_node *node = list->items[i];
        if (yaml_is_scalar(node))
            read_plain_task(items, node, parent);
        else if (node->kind == YAML_MAPPING && node->count == 1)
            read_named_item(items, &node->pairs[0], parent);
        else if (node->kind == YAML_MAPPING && node->count > 1)
            report_error(
                items->report, node->pairs[1].key,
                "a second key '%s' in the item '%s': expected one name, its keys indented below it",
                node->pairs[1].key->text, node->pairs[0].key->text);
        else
            report_error(items->report, node,
                         "an item is %s: expected the name of a task or NAME: {…}",
                         yaml_kind_text(node->kind));
    }
}

/* --- depends_on ------------------------------------------------------------------------------- */

/* Only when all items have been read: their names are listed once. */
static const char *hint_item(struct items *items, const char *word)
{
    if (!items->hints) {
        items->hints = arena_new(&items->scratch, (size_t)items->count + 1, sizeof *items->hints);
        for (int i = 0; i < items->count; i++)
            items->hints[i] = items->graph[i].name;
    }
    return report_hint(items->report, word, items->hints, (size_t)items->count);
}

static bool stands_in(const struct items *items, int item, int container)
{
    return item >= container && item < items->graph[container].end;
}

/* The item that a name in an item's `depends_on` means, or -1 after an error. */
static int find_dependency(struct items *items, int item, const struct yaml_node *node)
{
    const char *text = read_name(items->report, node, "a name in 'depends_on'");
    if (!text)
        return -1;
    const struct name *name = find_name(items, text);
    if (!name) {
        report_error(items->report, node,
                     "unknown item '%s' in 'depends_on'%s: expected one of this workflow", text,
                     hint_item(items, text));
        return -1;
    }
    if (name->count > 1) {
        report_error(items->report, node,
                     "'%s' stands %d times in the workflow: expected a name that stands once, "
                     "since it could mean either",
                     text, name->count);
        return -1;
    }
    if (stands_in(items, item, name->item)) {
        report_error(items->report, node,
                     name->item == item ? "'%s' depends on itself: expected other items"
                                        : "'%s' is what this item stands in: expected other items",
                     text);
        return -1;
    }
    return name->item;
}

static void resolve_item(struct items *items, int item, int *seen)
{
    const struct yaml_node *list = items->items[item].depends_on;
    if (!list)
        return;
    if (list->kind != YAML_LIST) {
        report_error(items->report, list,
                     "'depends_on' is %s: expected a list of names, [] for none",
                     yaml_kind_text(list->kind));
        return;
    }
    int *found = arena_new(&items->scratch, (size_t)list->count + 1, sizeof *found);
    int count = 0;
    for (int i = 0; i < list->count; i++) {
        int dependency = find_dependency(items, item, list->items[i]);
        if (dependency < 0 || seen[dependency] == item + 1)
            continue;
        seen[dependency] = item + 1;
        found[count++] = dependency;
    }
    items->graph[item].depends = true;
    items->graph[item].depends_on = found;
    items->graph[item].depends_on_count = count;
}

static void resolve_dependencies(struct items *items)
{
    int *seen = arena_new(&items->scratch, (size_t)items->count + 1, sizeof *seen);
    for (int i = 0; i < items->count; i++)
        resolve_item(items, i, seen);
}

/* --- queues ----------------------------------------------------------------------------------- */

/* The hook's task, or NULL. */
static const struct yaml_node *find_hook(const struct draft *draft, const char *event)
{
    return yaml_member(yaml_member(draft->workflow, "hooks"), event);
}

static bool is_hook(const struct draft *draft, const char *key)
{
    const struct yaml_node *success = find_hook(draft, "success");
    const struct yaml_node *failure = find_hook(draft, "failure");
    return (success && yaml_is_scalar(success) && strcmp(success->text, key) == 0) ||
           (failure && yaml_is_scalar(failure) && strcmp(failure->text, key) == 0);
}

static void read_custom(struct items *items, const struct yaml_pair *pair)
{
    read_name(items->report, pair->value, "a queue's name");
    struct name *name = find_name(items, pair->key->text);
    if (name && items->graph[name->item].kind == GRAPH_TASK)
        name->queue = pair->value;
    else if (!is_hook(items->draft, pair->key->text))
        report_error(items->report, pair->key,
                     "unknown task '%s' in 'customs'%s: expected a task of this workflow",
                     pair->key->text, hint_item(items, pair->key->text));
}

static void read_queues(struct items *items, const struct yaml_node *node)
{
    static const char *const known[] = {"customs", "default", NULL};
    const struct yaml_node *usual = node;
    if (node->kind == YAML_MAPPING) {
        read_mapping(items->report, node, "'queue'", KEY_OF_OTHER, known);
        usual = yaml_member(node, "default");
        items->customs = yaml_member(node, "customs");
    }
    if (usual && read_name(items->report, usual, "'queue'"))
        items->usual_queue = usual->text;
    if (!items->customs)
        return;
    if (items->customs->kind != YAML_MAPPING)
        report_error(items->report, items->customs,
                     "'customs' is %s: expected a mapping of tasks to queues",
                     yaml_kind_text(items->customs->kind));
    else
        for (int i = 0; i < items->customs->count; i++)
            read_custom(items, &items->customs->pairs[i]);
}

static const char *choose_queue(const struct items *items, const char *key,
                                struct action_source source)
{
    const struct yaml_node *node = action_member(source, "queue");
    const struct name *name = find_name(items, key);
    if (!node)
        node = name ? name->queue : yaml_member(items->customs, key);
    return node && yaml_is_scalar(node) ? node->text : items->usual_queue; /* a list is an error */
}

/* --- the definition's tasks ------------------------------------------------------------------- */

/* NULL, after an error, past the bound. */
static const char *compile_action(struct draft *draft, struct action_source source,
                                  const struct yaml_node *at)
{
    struct compile *compile = draft->compile;
    if (compile->action_bytes > COMPILE_MAX_ACTION_BYTES)
        return NULL;
    const char *text = action_compile(source, draft->arena);
    compile->action_bytes += text ? strlen(text) : 0;
    if (compile->action_bytes > COMPILE_MAX_ACTION_BYTES)
        report_error(compile->report, at,
                     "the actions of all tasks in the file are larger than %zu MiB: expected fewer "
                     "or shorter ones",
                     COMPILE_MAX_ACTION_BYTES >> 20);
    return text;
}

static struct definition_task make_task(struct items *items, const struct yaml_node *at,
                                        struct action_source source)
{
    struct draft *draft = items->draft;
    return (struct definition_task){
        .key = arena_text(draft->arena, at->text),
        .queue = arena_text(draft->arena, choose_queue(items, at->text, source)),
        .action = compile_action(draft, source, at),
    };
}

/* Returns how many tasks there are more. */
static int add_hook(struct items *items, struct definition_task *task, const char *event,
                    enum task_role role)
{
    struct draft *draft = items->draft;
    const struct yaml_node *node = find_hook(draft, event);
    if (!node || !read_name(draft->compile->report, node, "a hook's task"))
        return 0;
    const struct yaml_node *action = use_library(draft->compile, node->text, node);
    if (!action) {
        report_unknown(draft->compile, node->text, node);
        return 0;
    }
    *task = make_task(items, node, (struct action_source){.library = action});
    task->role = role;
    return 1;
}

static void fill_tasks(struct items *items, const struct graph *graph)
{
    struct draft *draft = items->draft;
    struct definition *definition = draft->definition;
    struct definition_task *tasks =
        arena_new(draft->arena, (size_t)graph->task_count + 2, sizeof *tasks);
    for (int i = 0; i < graph->task_count; i++) {
        const struct graph_task *from = &graph->tasks[i];
        const struct item *item = &items->items[from->item];
        tasks[i] = make_task(items, item->at, item->source);
        tasks[i].previous = from->previous;
        tasks[i].previous_count = from->previous_count;
        tasks[i].next = from->next;
        tasks[i].next_count = from->next_count;
    }
    definition->ordinary_count = definition->task_count = graph->task_count;
    definition->edge_count = graph->edge_count;
    definition->task_count +=
        add_hook(items, &tasks[definition->task_count], "success", TASK_HOOK_SUCCESS);
    definition->task_count +=
        add_hook(items, &tasks[definition->task_count], "failure", TASK_HOOK_FAILURE);
    definition->tasks = tasks;
}

static void check_hooks(struct draft *draft)
{
    static const char *const known[] = {"failure", "success", NULL};
    const struct yaml_node *hooks = yaml_member(draft->workflow, "hooks");
    if (hooks)
        read_mapping(draft->compile->report, hooks, "'hooks'", KEY_OF_OTHER, known);
}

/* Hooks are looked at even where there is no order, so that their errors are seen in the same go.
 */
static void draft_graph(struct items *items)
{
    const struct yaml_node *queue = yaml_member(items->draft->workflow, "queue");
    struct graph graph = {0};
    struct error error = {0};
    int culprit;
    if (queue)
        read_queues(items, queue);
    check_hooks(items->draft);
    if (graph_build(items->graph, items->count, items->draft->arena, &graph, &culprit, &error) < 0)
        report_error(items->report, items->items[culprit].at, "%s", error.text);
    fill_tasks(items, &graph);
}

void draft_tasks(struct draft *draft)
{
    struct items items = {
        .draft = draft,
        .report = draft->compile->report,
        .items = mem_new(FIRST_CAPACITY, sizeof *items.items),
        .graph = mem_new(FIRST_CAPACITY, sizeof *items.graph),
        .capacity = FIRST_CAPACITY,
        .usual_queue = "default",
    };
    const struct yaml_node *list = yaml_member(draft->workflow, "tasks");
    if (!list) {
        report_error(items.report, draft->key,
                     "the workflow has no 'tasks': expected a list, [] for none");
    } else if (list->kind != YAML_LIST) {
        report_error(items.report, list,
                     "'tasks' is %s: expected a list of tasks, groups and chains",
                     yaml_kind_text(list->kind));
    } else {
        read_items(&items, list, -1);
        resolve_dependencies(&items);
    }
    draft_graph(&items);
    HASH_CLEAR(hh, items.names);
    arena_done(&items.scratch);
    free(items.items);
    free(items.graph);
}
