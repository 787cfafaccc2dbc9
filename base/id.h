/* UUIDs: of nodes and batches (random), of workflows (time-ordered) and of tasks (derived). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct id {
    unsigned char bytes[16];
};

#define ID_TEXT_SIZE 37

/* Lower case with dashes. */
void id_format(const struct id *id, char text[ID_TEXT_SIZE]);
/* Accepts upper and lower case, with the four dashes or with none. Returns false for anything else.
 */
bool id_parse(const char *text, size_t n, struct id *id);
int id_compare(const struct id *a, const struct id *b); /* as memcmp, which is the order of time */
bool id_is_null(const struct id *id);
/* Version 4. */
struct id id_random(void);

/* Makes the ids of workflows: UUID version 7 layout (RFC 9562 §5.7) with the milliseconds in the
 * first 48 bits, the microseconds within them in rand_a (as 4096ths of a millisecond: §6.2, method
 * 3), 46 random bits in rand_b and the last 16 bits zero: they belong to the tasks. An instant at
 * or before the last one given is moved one microsecond behind it, so that order by id is order of
 * making. */
struct id_maker {
    int64_t last_us;
};
/* `*at_us` is the wanted instant (database time) and becomes the one that the id carries. */
struct id id_make_workflow(struct id_maker *maker, int64_t *at_us);
/* The instant in a workflow's (or task's) id, exact to the microsecond. */
int64_t id_created_us(const struct id *id);

#define ID_MAX_TASKS 65535
/* The id of the task at `position` (0-based, below ID_MAX_TASKS): the workflow's with the last 16
 * bits set to position + 1. And back: the workflow's id and the position; position is -1 for a
 * workflow's own id. */
struct id id_task(const struct id *workflow, int position);
struct id id_workflow(const struct id *task, int *position);
