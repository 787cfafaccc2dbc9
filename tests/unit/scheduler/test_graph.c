/* Items in, execution order out, in a small language of its own.
 *
 * `A` is a task, `G[A B]` a group, `H(A B)` a chain; `B<A,C` depends on A and C, `B<` on nothing.
 * The answer lists the tasks in execution order, each with its predecessors: `A B:A`.
 */
#include <errno.h>
#include <string.h>

#include "base/buffer.h"
#include "scheduler/definition.h"
#include "scheduler/graph.h"
#include "tests/unit/unit.h"

#define MAX_ITEMS 64

struct text_items {
    struct arena arena;
    struct graph_item items[MAX_ITEMS];
    const char *dependencies[MAX_ITEMS]; /* `A,C`, or NULL */
    int count;
};

static const char *read_word(struct text_items *items, const char **rest)
{
    size_t size = strspn(*rest, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789");
    *rest += size;
    return arena_text_n(&items->arena, *rest - size, size);
}

static const char *read_items(struct text_items *items, const char *text, int parent)
{
    while (*text != '\0' && *text != ']' && *text != ')') {
        if (*text == ' ') {
            text++;
            continue;
        }
        int index = items->count++;
        struct graph_item *item = &items->items[index];
        item->name = read_word(items, &text);
        item->parent = parent;
        if (*text == '<') {
            size_t size = strcspn(++text, " []()");
            items->dependencies[index] = arena_text_n(&items->arena, text, size);
            text += size;
        }
        if (*text == '[' || *text == '(') {
            item->kind = *text == '[' ? GRAPH_GROUP : GRAPH_CHAIN;
            text = read_items(items, text + 1, index) + 1;
        }
        item->end = items->count;
    }
    return text;
}

static int find_item(const struct text_items *items, const char *name)
{
    for (int i = 0; i < items->count; i++)
        if (strcmp(items->items[i].name, name) == 0)
            return i;
    ck_abort_msg("no item %s", name);
}

static void resolve(struct text_items *items)
{
    for (int i = 0; i < items->count; i++) {
        const char *rest = items->dependencies[i];
        if (!rest)
            continue;
        int *found = arena_new(&items->arena, MAX_ITEMS, sizeof *found);
        int count = 0;
        for (; *rest != '\0'; rest += *rest == ',')
            found[count++] = find_item(items, read_word(items, &rest));
        items->items[i].depends = true;
        items->items[i].depends_on = found;
        items->items[i].depends_on_count = count;
    }
}

static void print(const struct text_items *items, const struct graph *graph, struct buffer *out)
{
    for (int i = 0; i < graph->task_count; i++) {
        const struct graph_task *task = &graph->tasks[i];
        buffer_printf(out, "%s%s", i ? " " : "", items->items[task->item].name);
        for (int k = 0; k < task->previous_count; k++)
            buffer_printf(out, "%c%s", k ? ',' : ':',
                          items->items[graph->tasks[task->previous[k]].item].name);
    }
}

/* `next` is `previous` read the other way, ascending, and every arrow points down. */
static void check_next(const struct graph *graph)
{
    int edges = 0;
    for (int i = 0; i < graph->task_count; i++) {
        const struct graph_task *task = &graph->tasks[i];
        edges += task->previous_count;
        for (int k = 0; k < task->next_count; k++) {
            const struct graph_task *next = &graph->tasks[task->next[k]];
            bool found = false;
            for (int p = 0; p < next->previous_count; p++)
                found |= next->previous[p] == i;
            ck_assert(found && task->next[k] > i);
            ck_assert(k == 0 || task->next[k] > task->next[k - 1]);
            edges--;
        }
    }
    ck_assert_int_eq(edges, 0);
}

static void run(const char *text, struct buffer *out)
{
    struct text_items *items = mem_new(1, sizeof *items);
    struct graph graph = {0};
    struct error error = {0};
    int culprit = -1;
    read_items(items, text, -1);
    resolve(items);
    if (graph_build(items->items, items->count, &items->arena, &graph, &culprit, &error) < 0) {
        buffer_printf(out, "%s! %s", items->items[culprit].name, error.text);
    } else {
        check_next(&graph);
        print(items, &graph, out);
    }
    arena_done(&items->arena);
    free(items);
}

static const struct row {
    const char *items;
    const char *expected;
} rows[] = {
    {"", ""},
    {"A", "A"},
    {"A B C", "A B:A C:B"},
    {"A G[B C] D", "A B:A C:A D:B,C"},
    {"G[A B]", "A B"},
    {"G[A B] H[C D]", "A B C:A,B D:A,B"},
    {"A G[B H(C D) E] F", "A B:A C:A D:C E:A F:B,D,E"},
    {"G[H(A B) I(C D)] E", "A B:A C D:C E:B,D"},
    {"A H(B G[C D] E) F", "A B:A C:B D:B E:C,D F:E"},
    {"G[A I[B C] D] E", "A B C D E:A,B,C,D"},
    /* depends_on replaces what an item would follow, and only that. */
    {"A B< C", "A B C:B"},
    {"A B C<A", "A B:A C:A"},
    {"A B C<B,A D", "A B:A C:B,A D:C"},
    {"A G<[B C] D", "A B C D:B,C"},
    {"A B G<A[C D<B]", "A B:A C:A D:B"},
    {"A H<(B C)", "A B C:B"},
    {"A<B B<", "B A:B"},
    {"C<A,B A< B<", "A B C:A,B"},
    /* A group's last tasks: those that nothing in the group follows. */
    {"G[A B<A C] D", "A B:A C D:B,C"},
    {"G[A B<A] H[C D]", "A B:A C:B D:B"},
    {"A G[B C] D<G", "A B:A C:A D:B,C"},
    {"A B<G G<A[C D]", "A C:A D:A B:C,D"},
    {"H(A B< C) D", "A B C:B D:A,C"},
    {"G[A H(B C) D<H] E<G", "A B C:B D:C E:A,D"},
    /* Something outside follows A: A stays a last task of its group. */
    {"G[A B<X] X<A Y<G", "A X:A B:X Y:A,B"},
    /* The same task named twice is one predecessor. */
    {"G[A B] C<G,A", "A B C:A,B"},
    {"G[A B] C<B,G", "A B C:B,A"},
    /* Items in different groups that follow each other's neighbours. */
    {"G<[A B<D] H<[C D<A]", "A C D:A B:D"},
    {"A<B B<A", "A! the tasks wait for each other: A → B → A"},
    {"A B<C C<B D", "B! the tasks wait for each other: B → C → B"},
    {"A C<D D<E E<C", "C! the tasks wait for each other: C → E → D → C"},
    {"G<A[A B]", "A! the tasks wait for each other: A → A"},
    {"G[A<B C] B", "A! the tasks wait for each other: A → B → A"},
    {"G<H[A] H<G[B]", "A! the tasks wait for each other: A → B → A"},
    {"G<[A<H] H<[B<G]", "A! the tasks wait for each other: A → B → A"},
};

START_TEST(graphs)
{
    const struct row *row = &rows[_i];
    struct buffer out = {0};
    run(row->items, &out);
    ck_assert_msg(strcmp(buffer_text(&out), row->expected) == 0, "%s\n     got: %s\nexpected: %s",
                  row->items, buffer_text(&out), row->expected);
    buffer_done(&out);
}
END_TEST

/* Groups of `sizes` tasks one after the other. */
static int build_groups(const int *sizes, int groups, struct graph *graph, struct arena *arena,
                        struct error *error)
{
    int count = 0;
    int culprit;
    for (int g = 0; g < groups; g++)
        count += sizes[g] + 1;
    struct graph_item *items = arena_new(arena, (size_t)count, sizeof *items);
    struct graph_item *item = items;
    for (int g = 0; g < groups; g++) {
        int group = (int)(item - items);
        *item++ = (struct graph_item){GRAPH_GROUP, "G", -1, group + sizes[g] + 1, false, NULL, 0};
        for (int t = 0; t < sizes[g]; t++, item++)
            *item = (struct graph_item){GRAPH_TASK, "T",  group, (int)(item - items) + 1,
                                        false,      NULL, 0};
    }
    return graph_build(items, count, arena, graph, &culprit, error);
}

START_TEST(bounds)
{
    static const struct {
        int sizes[2];
        int status;
    } cases[] = {
        {{500, 500}, 0},
        {{500, 501}, -E2BIG}, /* 250,500 edges */
        {{30000, 30000}, -E2BIG},
        {{DEFINITION_MAX_TASKS, 0}, 0},
        {{DEFINITION_MAX_TASKS, 1}, -E2BIG},
    };
    struct arena arena = {0};
    struct graph graph;
    struct error error = {0};
    int status = build_groups(cases[_i].sizes, 2, &graph, &arena, &error);
    ck_assert_msg(status == cases[_i].status, "%d and %d tasks: %d (%s)", cases[_i].sizes[0],
                  cases[_i].sizes[1], status, error.text);
    if (status == 0)
        ck_assert_int_eq(graph.task_count, cases[_i].sizes[0] + cases[_i].sizes[1]);
    arena_done(&arena);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("graph");
    TCase *tests = tcase_create("graph");
    tcase_add_loop_test(tests, graphs, 0, sizeof rows / sizeof *rows);
    tcase_add_loop_test(tests, bounds, 0, 5);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
