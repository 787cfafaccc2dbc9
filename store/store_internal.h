/* What the files that make up the store share. */
#pragma once

#include "store/statements.h"
#include "store/store.h"

struct store {
    uv_loop_t *loop;
    int read_deadline_ms;   /* as much as one query may take */
    int write_deadline_ms;  /* enough to send once more what was not answered in time */
    struct pg_link *launch; /* launches and fires */
    struct pg_link *engine; /* finishes, cancels, heartbeats */
    struct pg_link *claim;  /* goes on while ends are committed */
    struct pg_link *read;   /* of what has an id */
    struct pg_link *list;   /* pages and searches, which may take long */
    struct pg_link *logs;   /* output of tasks */
    struct pg_link *listen;
    struct batcher *launches;
    struct batcher *finishes;
    struct batcher *fires;
    struct store_events events;
    int (*ensure)(void *context, struct error *error);
    void *ensure_context;
    struct batch_item *stuck; /* ends of attempts to be sent again with the next heartbeat */
    struct spool *spool;      /* those and all others that are not committed */
    struct replay *replay;    /* before this daemon is a node; else NULL */
    struct id node;
    struct id claiming; /* the batch of the claim under way, or null */
    int64_t epoch_us; /* database time at which clock_boot_us() was 0: our wall clock may be set */
    bool is_set_back; /* the database's clock, and the rows are to be told */
    int64_t forward_us; /* boot-time clock: when the database's clock was last set forward */
    struct id_maker id_maker;
    int reserved_launches; /* slots reserved by the batch under way */
    int reserved_finishes;
    int reserved_fires;
    /* The codes with which calls that nobody looks at failed last; empty: they work. */
    char failing[STATEMENT_COUNT][6];
    void (*on_up)(void *context); /* who waits for store_is_up, or NULL */
    void *up_context;
};

/* Hands an answer to the engine. */
void store_answer(void *context, const struct answer *answer);
/* Reserves slots for a batch that is about to be sent; gives back those of its predecessor first.
 * While batches take too long they have none: what becomes ready is for claims. */
int store_reserve(struct store *store, const struct batcher *batcher, int *reserved, int own);
/* After so many statements that took too long, together about the write deadline, a caller is told.
 */
#define STORE_PATIENCE 3
void store_release(struct store *store, int *reserved);

struct batcher *store_launches_new(struct store *store, const struct store_options *options);
struct batcher *store_finishes_new(struct store *store, const struct store_options *options);
struct batcher *store_fires_new(struct store *store, const struct store_options *options);

/* Nothing more is sent; what waited fails as the connection's loss would make it fail. */
void store_launches_stop(struct store *store);
void store_finishes_stop(struct store *store);
void store_fires_stop(struct store *store);

/* Sends an end that the spool has already. */
void store_finish_again(struct store *store, struct store_finish *finish);

/* Sends a query of a list. What waits behind a search that is overdue survives the loss of its
 * connection. */
void store_send_list(struct store *store, enum statement statement, struct pg_params *params,
                     pg_reply_cb on_reply, void *context);

/* Tells how a call ended that is simply made again, so that nobody else looks at it: once until it
 * fails for another reason, or works. What the links tell, they tell. */
void store_note(struct store *store, enum statement statement, const struct pg_failure *failure);

/* A call whose rows are only answers, or nothing, and that ends in a store_done_cb. Its failure is
 * noted. */
void store_call(struct store *store, struct pg_link *link, enum statement statement, unsigned flags,
                struct pg_params *params, store_done_cb on_done, void *context);
