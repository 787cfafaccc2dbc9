#include "scheduler/definition.h"

#include <stdatomic.h>
#include <stdlib.h>

/* A definition with what its readers need not see. */
struct holder {
    struct definition definition; /* first, so that the one's address is the other's */
    struct arena arena;
    atomic_int count;
};

struct definition *definition_new(struct arena **arena)
{
    struct holder *holder = mem_new(1, sizeof *holder);
    atomic_init(&holder->count, 1);
    *arena = &holder->arena;
    return &holder->definition;
}

struct definition *definition_hold(struct definition *definition)
{
    struct holder *holder = (struct holder *)definition;
    atomic_fetch_add_explicit(&holder->count, 1, memory_order_relaxed);
    return definition;
}

void definition_release(struct definition *definition)
{
    struct holder *holder = (struct holder *)definition;
    if (!holder || atomic_fetch_sub_explicit(&holder->count, 1, memory_order_acq_rel) > 1)
        return;
    for (int i = 0; i < definition->schedule_count; i++)
        trigger_done(&definition->schedules[i].trigger);
    arena_done(&holder->arena);
    free(holder);
}

int definition_hook(const struct definition *definition, enum task_role role)
{
    for (int i = definition->ordinary_count; i < definition->task_count; i++)
        if (definition->tasks[i].role == role)
            return i;
    return -1;
}

const char *catchup_text(enum catchup catchup)
{
    static const char *const texts[] = {
        [CATCHUP_LATEST] = "latest", [CATCHUP_ALL] = "all", [CATCHUP_NONE] = "none"};
    return texts[catchup];
}

const char *overlap_text(enum overlap overlap)
{
    static const char *const texts[] = {
        [OVERLAP_QUEUE] = "queue", [OVERLAP_SKIP] = "skip", [OVERLAP_REPLACE] = "replace"};
    return texts[overlap];
}
