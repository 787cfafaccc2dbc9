#include "scheduler/graph.h"

#include <errno.h>
#include <stdlib.h>

#include "base/buffer.h"
#include "scheduler/definition.h"

/* Every item is followed by way of its source: the items named by its `depends_on`, the one before
 * it in its chain, or else the source of what it stands in. All tasks of a group thus share one
 * source, and one list of predecessors. */
struct source {
    int owner; /* the item that it was written at; -1: none */
    const int *refs;
    int ref_count;
};

struct list {
    int *values;
    int count;
};

struct builder {
    const struct graph_item *items;
    int count;
    struct arena scratch; /* everything but the answer */
    struct arena *arena;
    struct source *sources; /* by item */
    struct list *last;      /* by item: its last tasks, as items */
    struct list *before;    /* by owner: predecessors, as items; then as positions */
    int *task_items;        /* by task number, which counts in file order */
    int *numbers;           /* by item: its task number */
    int *positions;         /* by task number */
    int task_count;
    int edge_count;
    int culprit;
    struct error *error;
};

static int *ints(struct builder *builder, int count)
{
    return arena_new(&builder->scratch, (size_t)count + 1, sizeof(int));
}

static int number_tasks(struct builder *builder)
{
    builder->numbers = ints(builder, builder->count);
    builder->task_items = ints(builder, builder->count);
    for (int i = 0; i < builder->count; i++) {
        if (builder->items[i].kind != GRAPH_TASK)
            continue;
        if (builder->task_count == DEFINITION_MAX_TASKS) {
            builder->culprit = i;
            return error_set(builder->error, -E2BIG, "more than %d tasks in the workflow",
                             DEFINITION_MAX_TASKS);
        }
        builder->numbers[i] = builder->task_count;
        builder->task_items[builder->task_count++] = i;
    }
    return 0;
}

/* --- what each item follows ------------------------------------------------------------------- */

static bool in_chain(const struct builder *builder, int item)
{
    int parent = builder->items[item].parent;
    return parent < 0 || builder->items[parent].kind == GRAPH_CHAIN;
}

static void find_sources(struct builder *builder)
{
    builder->sources =
        arena_new(&builder->scratch, (size_t)builder->count + 1, sizeof(struct source));
    int *latest = ints(builder, builder->count); /* by parent + 1: the latest child, plus 1 */
    int *siblings = ints(builder, builder->count);
    for (int i = 0; i < builder->count; i++) {
        const struct graph_item *item = &builder->items[i];
        int *before = &latest[item->parent + 1];
        if (item->depends) {
            builder->sources[i] = (struct source){i, item->depends_on, item->depends_on_count};
        } else if (in_chain(builder, i) && *before > 0) {
            siblings[i] = *before - 1;
            builder->sources[i] = (struct source){i, &siblings[i], 1};
        } else if (item->parent >= 0) {
            builder->sources[i] = builder->sources[item->parent];
        } else {
            builder->sources[i] = (struct source){.owner = -1};
        }
        *before = i + 1;
    }
}

/* Marks the tasks in the container that something in it follows. References out of it do not
 * concern it, and those into it are of items whose last tasks are known, since they stand deeper.
 */
static void mark_followed(struct builder *builder, int container, int *followed, int *owners,
                          int *refs)
{
    int end = builder->items[container].end;
    for (int i = container + 1; i < end; i++) {
        const struct source *source = &builder->sources[i];
        if (builder->items[i].kind != GRAPH_TASK || source->owner < 0 ||
            owners[source->owner] == container + 1)
            continue;
        owners[source->owner] = container + 1;
        for (int r = 0; r < source->ref_count; r++) {
            int ref = source->refs[r];
            if (ref <= container || ref >= end || refs[ref] == container + 1)
                continue;
            refs[ref] = container + 1;
            for (int k = 0; k < builder->last[ref].count; k++)
                followed[builder->last[ref].values[k]] = container + 1;
        }
    }
}

/* From the deepest up. The marks say for which container they were made, so that nothing has to be
 * cleared. */
static void find_last_tasks(struct builder *builder)
{
    builder->last = arena_new(&builder->scratch, (size_t)builder->count + 1, sizeof(struct list));
    int *followed = ints(builder, builder->count);
    int *owners = ints(builder, builder->count);
    int *refs = ints(builder, builder->count);
    for (int i = builder->count - 1; i >= 0; i--) {
        const struct graph_item *item = &builder->items[i];
        struct list *last = &builder->last[i];
        last->values = ints(builder, item->end - i);
        if (item->kind == GRAPH_TASK) {
            last->values[last->count++] = i;
            continue;
        }
        mark_followed(builder, i, followed, owners, refs);
        for (int k = i + 1; k < item->end; k++)
            if (builder->items[k].kind == GRAPH_TASK && followed[k] != i + 1)
                last->values[last->count++] = k;
    }
}

/* The predecessors that a source stands for, each once. */
static void list_source(struct builder *builder, const struct source *source, int *seen)
{
    int most = 0;
    for (int r = 0; r < source->ref_count; r++)
        most += builder->last[source->refs[r]].count;
    struct list *before = &builder->before[source->owner];
    before->values = arena_new(builder->arena, (size_t)most + 1, sizeof(int));
    for (int r = 0; r < source->ref_count; r++) {
        const struct list *last = &builder->last[source->refs[r]];
        for (int k = 0; k < last->count; k++) {
            if (seen[last->values[k]] == source->owner + 1)
                continue;
            seen[last->values[k]] = source->owner + 1;
            before->values[before->count++] = builder->numbers[last->values[k]];
        }
    }
}

static int find_predecessors(struct builder *builder)
{
    builder->before = arena_new(&builder->scratch, (size_t)builder->count + 1, sizeof(struct list));
    int *seen = ints(builder, builder->count);
    for (int t = 0; t < builder->task_count; t++) {
        int item = builder->task_items[t];
        const struct source *source = &builder->sources[item];
        if (source->owner < 0)
            continue;
        struct list *before = &builder->before[source->owner];
        if (!before->values)
            list_source(builder, source, seen);
        builder->edge_count += before->count;
        if (builder->edge_count > DEFINITION_MAX_EDGES) {
            builder->culprit = item;
            return error_set(
                builder->error, -E2BIG,
                "more than %d dependencies between the tasks of the workflow (a group after "
                "a group makes one for each pair; a noop task between them saves most)",
                DEFINITION_MAX_EDGES);
        }
    }
    return 0;
}

/* --- execution order -------------------------------------------------------------------------- */

static const struct list *predecessors(const struct builder *builder, int number)
{
    static const struct list none;
    int owner = builder->sources[builder->task_items[number]].owner;
    return owner < 0 ? &none : &builder->before[owner];
}

/* Fills in everybody's `next` from everybody's `previous`. */
static void link_next(struct graph_task *tasks, int count, int edge_count, struct arena *arena)
{
    int *storage = arena_new(arena, (size_t)edge_count + 1, sizeof(int));
    int **next = mem_new((size_t)count + 1, sizeof *next);
    for (int t = 0; t < count; t++)
        for (int k = 0; k < tasks[t].previous_count; k++)
            tasks[tasks[t].previous[k]].next_count++;
    for (int t = 0; t < count; t++) {
        tasks[t].next = next[t] = storage;
        storage += tasks[t].next_count;
    }
    for (int t = 0; t < count; t++)
        for (int k = 0; k < tasks[t].previous_count; k++)
            *next[tasks[t].previous[k]]++ = t;
    free(next);
}

/* A heap of task numbers: the least is at index 0. */
struct heap {
    int *values;
    int count;
};

static void heap_push(struct heap *heap, int value)
{
    int i = heap->count++;
    for (; i > 0 && heap->values[(i - 1) / 2] > value; i = (i - 1) / 2)
        heap->values[i] = heap->values[(i - 1) / 2];
    heap->values[i] = value;
}

static int heap_pop(struct heap *heap)
{
    int least = heap->values[0];
    int value = heap->values[--heap->count];
    int i = 0;
    for (int child; (child = 2 * i + 1) < heap->count; i = child) {
        if (child + 1 < heap->count && heap->values[child + 1] < heap->values[child])
            child++;
        if (heap->values[child] >= value)
            break;
        heap->values[i] = heap->values[child];
    }
    heap->values[i] = value;
    return least;
}

/* Gives positions (from 0) to the tasks that no cycle holds back, the others get -1; returns how
 * many it gave. */
static int find_order(struct builder *builder, const struct graph_task *tasks)
{
    int *waiting = ints(builder, builder->task_count);
    struct heap ready = {.values = ints(builder, builder->task_count)};
    builder->positions = ints(builder, builder->task_count);
    for (int t = 0; t < builder->task_count; t++) {
        builder->positions[t] = -1;
        waiting[t] = tasks[t].previous_count;
        if (waiting[t] == 0)
            heap_push(&ready, t);
    }
    int placed = 0;
    while (ready.count > 0) {
        int t = heap_pop(&ready);
        builder->positions[t] = placed++;
        for (int k = 0; k < tasks[t].next_count; k++)
            if (--waiting[tasks[t].next[k]] == 0)
                heap_push(&ready, tasks[t].next[k]);
    }
    return placed;
}

/* A predecessor without a position; a task without one always has such. */
static int unplaced_predecessor(const struct builder *builder, int number)
{
    const struct list *before = predecessors(builder, number);
    int k = 0;
    while (builder->positions[before->values[k]] >= 0)
        k++;
    return before->values[k];
}

static void print_cycle(struct builder *builder, const int *cycle, int length)
{
    struct buffer text = {0};
    for (int i = 0; i < length; i++)
        buffer_printf(&text, "%s → ", builder->items[builder->task_items[cycle[i]]].name);
    buffer_add_text(&text, builder->items[builder->culprit].name);
    error_set(builder->error, -ELOOP, "the tasks wait for each other: %s", buffer_text(&text));
    buffer_done(&text);
}

/* Walks back from any task without a position until one comes again; the cycle is printed forwards,
 * from the task that stands first in the file. */
static int report_cycle(struct builder *builder)
{
    int *steps = ints(builder, builder->task_count); /* by number: when it was met, from 1 */
    int *walk = ints(builder, builder->task_count);
    int length = 0;
    int t = 0;
    while (builder->positions[t] >= 0)
        t++;
    for (; steps[t] == 0; t = unplaced_predecessor(builder, t)) {
        walk[length++] = t;
        steps[t] = length;
    }
    const int *loop = walk + steps[t] - 1;
    length -= steps[t] - 1;
    int first = 0;
    for (int i = 1; i < length; i++)
        if (loop[i] < loop[first])
            first = i;
    int *cycle = ints(builder, length);
    for (int i = 0; i < length; i++)
        cycle[i] = loop[(first - i + length) % length];
    builder->culprit = builder->task_items[cycle[0]];
    print_cycle(builder, cycle, length);
    return -ELOOP;
}

/* The lists of predecessors, from numbers to positions. */
static void place_predecessors(struct builder *builder)
{
    for (int i = 0; i < builder->count; i++)
        for (int k = 0; k < builder->before[i].count; k++)
            builder->before[i].values[k] = builder->positions[builder->before[i].values[k]];
}

static void fill_graph(struct builder *builder, struct graph *graph)
{
    graph->task_count = builder->task_count;
    graph->edge_count = builder->edge_count;
    graph->tasks = arena_new(builder->arena, (size_t)builder->task_count + 1, sizeof *graph->tasks);
    for (int t = 0; t < builder->task_count; t++) {
        const struct list *before = predecessors(builder, t);
        graph->tasks[builder->positions[t]] = (struct graph_task){
            .item = builder->task_items[t],
            .previous = before->values,
            .previous_count = before->count,
        };
    }
    link_next(graph->tasks, graph->task_count, graph->edge_count, builder->arena);
}

static int order_tasks(struct builder *builder)
{
    struct graph_task *tasks =
        arena_new(&builder->scratch, (size_t)builder->task_count + 1, sizeof *tasks);
    for (int t = 0; t < builder->task_count; t++) {
        const struct list *before = predecessors(builder, t);
        tasks[t].previous = before->values;
        tasks[t].previous_count = before->count;
    }
    link_next(tasks, builder->task_count, builder->edge_count, &builder->scratch);
    return find_order(builder, tasks) == builder->task_count ? 0 : report_cycle(builder);
}

static int build(struct builder *builder, struct graph *graph)
{
    int status = number_tasks(builder);
    if (status < 0)
        return status;
    find_sources(builder);
    find_last_tasks(builder);
    status = find_predecessors(builder);
    if (status < 0)
        return status;
    status = order_tasks(builder);
    if (status < 0)
        return status;
    place_predecessors(builder);
    fill_graph(builder, graph);
    return 0;
}

int graph_build(const struct graph_item *items, int count, struct arena *arena, struct graph *graph,
                int *culprit, struct error *error)
{
    struct builder builder = {.items = items, .count = count, .arena = arena, .error = error};
    int status = build(&builder, graph);
    *culprit = builder.culprit;
    arena_done(&builder.scratch);
    return status;
}
