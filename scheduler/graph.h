/* From nested groups and chains to tasks in execution order, with what each waits for.
 *
 * Knows no YAML: items come in as a list in file order (parents before their children), a graph
 * goes out. An item without `depends_on` follows the one before it in a chain, and in a group what
 * the group follows; to follow a group or chain is to follow its last tasks, those that nothing in
 * it follows. The top level is a chain.
 */
#pragma once

#include <stdbool.h>

#include "base/error.h"
#include "base/memory.h"

enum graph_kind { GRAPH_TASK, GRAPH_GROUP, GRAPH_CHAIN };

struct graph_item {
    enum graph_kind kind;
    const char *name;      /* for messages */
    int parent;            /* index of the group or chain that it stands in; -1 at the top level */
    int end;               /* index behind its last descendant; its own plus 1 for a task */
    bool depends;          /* `depends_on` was written: then it follows exactly those */
    const int *depends_on; /* indices of items, neither itself nor what it stands in */
    int depends_on_count;
};

struct graph_task {
    int item;            /* its index among the items */
    const int *previous; /* positions, in the order in which they were named */
    const int *next;     /* positions, ascending */
    int previous_count;
    int next_count;
};

struct graph {
    struct graph_task *tasks; /* in execution order: topological; among free tasks, file order */
    int task_count;
    int edge_count;
};

/* Fails with -ELOOP for a cycle, which the error prints (`A → B → A`), and with -E2BIG for more
 * than DEFINITION_MAX_TASKS tasks or DEFINITION_MAX_EDGES arrows. `*culprit` is then the item to
 * point at. The graph lives in `arena`. */
int graph_build(const struct graph_item *items, int count, struct arena *arena, struct graph *graph,
                int *culprit, struct error *error);
