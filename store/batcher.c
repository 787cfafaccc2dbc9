#include "store/batcher.h"

#include <stdbool.h>
#include <stdlib.h>

#include "base/memory.h"
#include "base/pace.h"

/* Fewer items to a batch cost more than their wait. */
#define SMALLEST_PART 64
#define DEFAULT_MAX_ITEMS 1000
#define DEFAULT_MAX_BYTES (8u << 20)

/* Halving leaves at most one part for each level, so this is enough for batches of 2^31 items. */
#define MAX_PARTS 32

/* Items that go in one statement. */
struct part {
    struct batch_item *items;
    int n;
};

/* One batch under way: the part on top was sent, those below wait behind it. Idle when there is
 * none. */
struct lane {
    struct batcher *batcher;
    struct pg_link *link;
    struct part parts[MAX_PARTS];
    int count;
    struct id batch; /* of the part on top */
    int slow;        /* sendings of this batch that took too long */
};

struct batcher {
    struct batcher_options options;
    struct batch_item *first;
    struct batch_item **last; /* where the next item is linked in */
    int waiting;
    int under_way;
    struct pace pace; /* items that a batch may hold */
    bool stopped;
    bool holding; /* more items are about to be added */
    struct pg_params params;
    struct lane lanes[];
};

static void on_reply(void *context, const struct pg_rows *rows, const struct pg_failure *failure);

static void send_top(struct lane *lane)
{
    struct batcher *batcher = lane->batcher;
    const struct part *top = &lane->parts[lane->count - 1];

    lane->batch = id_random();
    pg_params_clear(&batcher->params);
    batcher->options.build(batcher->options.context, top->items, top->n, &batcher->params,
                           &lane->batch);
    batcher->options.send(lane->link, &batcher->options.call, &batcher->params, on_reply, lane);
}

/* How many items the next batch may hold. */
static int room(const struct batcher *batcher)
{
    const struct batcher_options *options = &batcher->options;
    int most = batcher->pace.now;
    int part = options->parts > 0 ? batcher->waiting / options->parts : most;
    if (part < SMALLEST_PART)
        part = SMALLEST_PART;
    return part < most ? part : most;
}

/* Cuts the waiting list after as many items as one batch may hold, at least one. */
static struct part take_part(struct batcher *batcher)
{
    struct part part = {.items = batcher->first, .n = 1};
    struct batch_item *end = batcher->first;
    size_t bytes = end->bytes;
    int most = room(batcher);

    while (end->next != NULL && part.n < most &&
           bytes + end->next->bytes <= batcher->options.max_bytes) {
        end = end->next;
        bytes += end->bytes;
        part.n++;
    }
    batcher->first = end->next;
    if (batcher->first == NULL)
        batcher->last = &batcher->first;
    end->next = NULL;
    batcher->waiting -= part.n;
    batcher->under_way += part.n;
    return part;
}

static void send_waiting(struct batcher *batcher)
{
    for (int i = 0; i < batcher->options.lanes && batcher->first != NULL; i++) {
        struct lane *lane = &batcher->lanes[i];
        if (lane->count > 0)
            continue;
        lane->slow = 0;
        lane->parts[lane->count++] = take_part(batcher);
        send_top(lane);
    }
}

/* The first half goes first. */
static void halve_top(struct lane *lane)
{
    struct part *top = &lane->parts[lane->count - 1];
    struct part half = {.items = top->items, .n = top->n / 2};
    struct batch_item *end = top->items;

    for (int i = 1; i < half.n; i++)
        end = end->next;
    top->items = end->next;
    top->n -= half.n;
    end->next = NULL;
    lane->parts[lane->count++] = half;
}

static void fail_part(struct batcher *batcher, struct part part, const struct pg_failure *failure)
{
    batcher->under_way -= part.n;
    while (part.items != NULL) {
        struct batch_item *item = part.items;
        part.items = item->next; /* the item may be gone after the call */
        batcher->options.failed(batcher->options.context, item, failure);
    }
}

static void end_part(struct batcher *batcher, struct part part, const struct pg_rows *rows,
                     const struct pg_failure *failure)
{
    if (failure != NULL) {
        fail_part(batcher, part, failure);
        return;
    }
    batcher->under_way -= part.n;
    batcher->options.done(batcher->options.context, part.items, part.n, rows);
}

static void note_pace(struct lane *lane, const struct pg_failure *failure)
{
    struct pace *pace = &lane->batcher->pace;
    if (failure == NULL) {
        pace_faster(pace);
    } else if (failure->class == PG_SLOW) {
        pace_slower(pace, lane->parts[lane->count - 1].n);
        lane->slow++;
    }
}

static bool is_out_of_patience(const struct lane *lane)
{
    int patience = lane->batcher->options.patience;
    return patience > 0 && lane->slow >= patience;
}

/* Is it one item's fault, or that of their number? */
static bool is_divisible(const struct lane *lane, const struct pg_failure *failure)
{
    return failure != NULL && lane->parts[lane->count - 1].n > 1 && !lane->batcher->stopped &&
           (failure->class == PG_DATA || (failure->class == PG_SLOW && !is_out_of_patience(lane)));
}

/* The parts below the one that has just ended. */
static void fail_rest(struct lane *lane, const struct pg_failure *failure)
{
    while (--lane->count > 0)
        fail_part(lane->batcher, lane->parts[lane->count - 1], failure);
}

static void go_on(struct lane *lane, const struct pg_failure *failure)
{
    struct pg_failure stopped;
    if (lane->batcher->stopped) {
        pg_failure_set(&stopped, PG_AWAY, "the daemon is stopping");
        fail_rest(lane, &stopped);
    } else if (is_out_of_patience(lane)) {
        fail_rest(lane, failure);
    } else if (--lane->count > 0) {
        send_top(lane);
    }
}

/* The lane is busy until the callbacks have run, so that what they add goes with the next batch. */
static void on_reply(void *context, const struct pg_rows *rows, const struct pg_failure *failure)
{
    struct lane *lane = context;
    struct batcher *batcher = lane->batcher;

    note_pace(lane, failure);
    if (is_divisible(lane, failure)) {
        halve_top(lane);
        send_top(lane);
        return;
    }
    end_part(batcher, lane->parts[lane->count - 1], rows, failure);
    go_on(lane, failure);
    if (!batcher->stopped)
        send_waiting(batcher);
}

struct batcher *batcher_new(const struct batcher_options *options)
{
    int lanes = options->lanes > 0 ? options->lanes : 1;
    struct batcher *batcher =
        mem_new(1, sizeof(*batcher) + (size_t)lanes * sizeof(batcher->lanes[0]));

    batcher->options = *options;
    batcher->options.lanes = lanes;
    if (options->max_items <= 0)
        batcher->options.max_items = DEFAULT_MAX_ITEMS;
    pace_init(&batcher->pace, batcher->options.max_items);
    if (options->max_bytes == 0)
        batcher->options.max_bytes = DEFAULT_MAX_BYTES;
    if (options->send == NULL)
        batcher->options.send = pg_send;
    batcher->last = &batcher->first;
    for (int i = 0; i < lanes; i++) {
        batcher->lanes[i].batcher = batcher;
        batcher->lanes[i].link = options->links[i];
    }
    return batcher;
}

void batcher_add(struct batcher *batcher, struct batch_item *item)
{
    item->next = NULL;
    *batcher->last = item;
    batcher->last = &item->next;
    batcher->waiting++;
    if (!batcher->stopped && !batcher->holding)
        send_waiting(batcher);
}

void batcher_hold(struct batcher *batcher)
{
    batcher->holding = true;
}

void batcher_send(struct batcher *batcher)
{
    batcher->holding = false;
    if (!batcher->stopped)
        send_waiting(batcher);
}

bool batcher_is_slow(const struct batcher *batcher)
{
    return pace_is_slow(&batcher->pace);
}

int batcher_waiting(const struct batcher *batcher)
{
    return batcher->waiting;
}

int batcher_open_items(const struct batcher *batcher)
{
    return batcher->waiting + batcher->under_way;
}

void batcher_add_under_way(const struct batcher *batcher, struct pg_params *params)
{
    for (int i = 0; i < batcher->options.lanes; i++)
        if (batcher->lanes[i].count > 0)
            pg_params_id(params, &batcher->lanes[i].batch);
}

struct batch_item *batcher_stop(struct batcher *batcher)
{
    struct batch_item *items = batcher->first;
    batcher->stopped = true;
    batcher->first = NULL;
    batcher->last = &batcher->first;
    batcher->waiting = 0;
    return items;
}

void batcher_free(struct batcher *batcher)
{
    if (batcher == NULL)
        return;
    pg_params_done(&batcher->params);
    free(batcher);
}
