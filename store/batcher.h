/* Natural batching: items of one kind share statements and commits, without a timer.
 *
 * If no batch is under way an item is sent at once; otherwise items gather until the reply comes,
 * and all that gathered go as the next batch. A batch that fails with PG_DATA is halved until the
 * bad item stands alone: that one gets the message, the others go through. Each sending of other
 * items has a batch id of its own, so a batch that the link repeats is known by it. One that takes
 * too long (PG_SLOW) is halved, too, and the next batches are smaller for a while.
 *
 * Callbacks never run before batcher_add has returned.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/id.h"
#include "store/pg_link.h"

/* The first member, or any, of the caller's struct. */
struct batch_item {
    struct batch_item *next;
    size_t
        bytes; /* about what it adds to a statement; set by the caller, counts against max_bytes */
};

struct batcher;

struct batcher_options {
    struct pg_link *const
        *links;          /* one for each lane (may be the same one); outlives the batcher */
    int lanes;           /* batches under way at once; 0: 1 */
    struct pg_call call; /* statement and flags of every batch */
    int max_items;       /* 0: 1000 */
    size_t max_bytes;    /* 0: 8 MiB; one larger item goes alone */
    /* 0: a batch takes all that waits. Else, where many wait, only one part of so many: their
     * batches end one after the other, and half of the items long before the last. */
    int parts;
    /* After so many sendings of a batch that took too long all that is left of it fails; 0: never.
     */
    int patience;
    /* pg_send, or what a test puts in its place; NULL: pg_send. */
    void (*send)(struct pg_link *link, const struct pg_call *call, struct pg_params *params,
                 pg_reply_cb on_reply, void *context);

    /* `items` is a list of `n` through `next`, in the order of batcher_add. `build` fills `params`,
     * which is empty. */
    void (*build)(void *context, const struct batch_item *items, int n, struct pg_params *params,
                  const struct id *batch);
    /* The items are the caller's again (with their `next` still linked). */
    void (*done)(void *context, struct batch_item *items, int n, const struct pg_rows *rows);
    void (*failed)(void *context, struct batch_item *item, const struct pg_failure *failure);
    void *context;
};

struct batcher *batcher_new(const struct batcher_options *options);
/* The item must stay where it is until `done` or `failed` names it. */
void batcher_add(struct batcher *batcher, struct batch_item *item);
/* Items that are added between these two go together, also when nothing is under way. Both within
 * one turn of the loop. */
void batcher_hold(struct batcher *batcher);
void batcher_send(struct batcher *batcher);
/* A batch took too long a while ago. */
bool batcher_is_slow(const struct batcher *batcher);
/* Items that are not under way yet; and all that have not ended. */
int batcher_waiting(const struct batcher *batcher);
int batcher_open_items(const struct batcher *batcher);
/* Appends the ids of the batches that are waited for. */
void batcher_add_under_way(const struct batcher *batcher, struct pg_params *params);
/* No further batch is sent. Gives back the items that were not under way (a list, NULL when there
 * are none), without a callback; what is under way ends by its reply or with its link. */
struct batch_item *batcher_stop(struct batcher *batcher);
/* Nothing may be under way. */
void batcher_free(struct batcher *batcher);
