/* A workflow's definition, compiled and immutable.
 *
 * The loader (scheduler/definition_load.h) makes definitions out of YAML; everybody else only reads
 * them. A definition is replaced whole on a reload, and lives on while somebody holds it: a fire or
 * a launch that began with one finishes with it. Everything that a definition points to lives
 * exactly as long as the definition.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/memory.h"
#include "scheduler/trigger.h"

/* The ids of tasks have room for 65,535 positions (base/id.h); the last two are the hooks'. */
#define DEFINITION_MAX_TASKS 65533
/* Arrows between tasks, stored once each with every version of a definition: ten megabytes of rows
 * at the most. */
#define DEFINITION_MAX_EDGES 250000
/* Bytes in the name of a workflow (with its project), of a task, a queue or a schedule. */
#define DEFINITION_MAX_NAME 255

enum task_role { TASK_ORDINARY, TASK_HOOK_SUCCESS, TASK_HOOK_FAILURE };

/* A task at its position, which is its index in `definition.tasks`. */
struct definition_task {
    const char *key;     /* the name in the workflow; a key may stand several times */
    const char *queue;   /* never NULL: `default` where nothing was said */
    const char *action;  /* the compiled action (scheduler/action.h) as JSON, NULL for a noop */
    const int *previous; /* positions, in the order of `args`; each below the task's own */
    const int *next;     /* positions, ascending; each above the task's own */
    int previous_count;
    int next_count;
    enum task_role role; /* a hook has neither previous nor next */
};

enum catchup { CATCHUP_LATEST, CATCHUP_ALL, CATCHUP_NONE };

/* One entry of `periodic`. */
struct definition_schedule {
    const char *identity;   /* its `name`, else the trigger in normal form with its zone; unique in
                               the workflow */
    struct trigger trigger; /* with zone, day rule, start and end */
    const char *payload;    /* a JSON object, `{}` where nothing was said */
    int64_t jitter_us;      /* 0: none */
    int64_t catchup_window_us; /* 0: no bound */
    enum catchup catchup;
    int line; /* where it stands in the definition's file */
};

enum overlap { OVERLAP_QUEUE, OVERLAP_SKIP, OVERLAP_REPLACE };

/* A member of the definition as written: key and JSON text. */
struct definition_member {
    const char *key;
    const char *value;
};

/* `retention_offset` where the definition says nothing: the daemon's setting holds. */
#define RETENTION_DEFAULT (-2)

struct definition {
    const char *fullname; /* `project.name` */
    const char *project;
    const char *name;
    const char *file; /* as errors name it: `workflows.d/etl.yml` */
    int line;         /* of its key, from 1 */

    /* As written, aliases and merge keys resolved, sorted by key; every object in the values is
     * sorted too. The API adds `fullname`, `name` and `project` in their places (none of which is a
     * key that a definition may have). */
    const struct definition_member *document;
    int document_count;

    /* In execution order (topological; among free tasks, file order), hooks behind them: success,
     * then failure. */
    const struct definition_task *tasks;
    int task_count;     /* hooks included */
    int ordinary_count; /* hooks left out; 0 is a workflow that is a success at once */
    int edge_count;     /* the sum of previous_count */

    struct definition_schedule *schedules;
    int schedule_count;

    int concurrency_limit; /* unfinished instances at once; 0: any number */
    enum overlap overlap;  /* of one more than the limit */
    int retention_offset;  /* newest finished instances kept; -1: all; RETENTION_DEFAULT */
    int64_t timeout_us;    /* of a whole run; 0: none */

    const char *description; /* NULL where nothing was said */
    const char *labels;      /* a JSON object of strings, sorted; NULL likewise */
};

/* An empty one with one holder, for the loader to fill in; its memory comes from `*arena`, which it
 * owns. */
struct definition *definition_new(struct arena **arena);
/* One holder more, and one holder less: the last release frees. Both may be called from any thread.
 */
struct definition *definition_hold(struct definition *definition);
void definition_release(struct definition *definition);

/* The position of a hook's task, or -1. */
int definition_hook(const struct definition *definition, enum task_role role);

/* The words of definitions.md: `latest`, `all`, `none`; `queue`, `skip`, `replace`. */
const char *catchup_text(enum catchup catchup);
const char *overlap_text(enum overlap overlap);
