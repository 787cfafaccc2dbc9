#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "store/batcher.h"
#include "tests/unit/unit.h"

#define ITEMS 400

/* A link that remembers what was sent and answers when the test says so. */
struct sending {
    struct pg_link *link;
    int numbers[ITEMS];
    int n;
    struct id batch;
    pg_reply_cb on_reply;
    void *context;
};

struct numbered {
    struct batch_item item;
    int number;
    char end; /* 'd'one, 'f'ailed; 0 while open */
    char text[512];
};

static struct sending sendings[64];
static int built[ITEMS]; /* the numbers of the batch that is about to be sent */
static int built_count;
static int sent;
static int answered;
static struct numbered items[ITEMS];
static int done_order[ITEMS];
static int done_count;
static struct batcher *batcher;
static struct batch_item *add_when_done; /* added from within the done callback */

static void fake_send(struct pg_link *link, const struct pg_call *call, struct pg_params *params,
                      pg_reply_cb on_reply, void *context)
{
    struct sending *sending = &sendings[sent++];
    const unsigned char *at = (const unsigned char *)params->bytes.data;
    ck_assert_int_eq(call->statement, 3);
    memset(sending, 0, sizeof(*sending));
    sending->link = link;
    sending->on_reply = on_reply;
    sending->context = context;
    sending->n = built_count;
    memcpy(sending->numbers, built, sizeof(built));
    memcpy(sending->batch.bytes, at, sizeof(sending->batch.bytes));
    pg_params_done(params);
}

static void build(void *context, const struct batch_item *list, int n, struct pg_params *params,
                  const struct id *batch)
{
    (void)context;
    pg_params_id(params, batch);
    for (built_count = 0; list != NULL; list = list->next)
        built[built_count++] = ((const struct numbered *)list)->number;
    ck_assert_int_eq(built_count, n);
}

static void on_done(void *context, struct batch_item *list, int n, const struct pg_rows *rows)
{
    (void)context, (void)n, (void)rows;
    for (; list != NULL; list = list->next) {
        struct numbered *item = (struct numbered *)list;
        item->end = 'd';
        done_order[done_count++] = item->number;
    }
    if (add_when_done != NULL) {
        struct batch_item *item = add_when_done;
        add_when_done = NULL;
        batcher_add(batcher, item);
    }
}

static void on_failed(void *context, struct batch_item *item, const struct pg_failure *failure)
{
    struct numbered *numbered = (struct numbered *)item;
    (void)context;
    item->next = (struct batch_item *)-1; /* the batcher must not follow it any more */
    numbered->end = 'f';
    snprintf(numbered->text, sizeof(numbered->text), "%s", failure->text);
}

static void start_with(const struct batcher_options *limits)
{
    static struct pg_link *const links[] = {(struct pg_link *)1, (struct pg_link *)2};
    struct batcher_options options = *limits;
    options.links = links;
    options.call = (struct pg_call){.statement = 3, .flags = PG_REPEATABLE | PG_WAIT};
    options.send = fake_send;
    options.build = build;
    options.done = on_done;
    options.failed = on_failed;
    batcher = batcher_new(&options);
    for (int i = 0; i < ITEMS; i++)
        items[i].number = i;
}

static void start(int lanes, int max_items, size_t max_bytes)
{
    start_with(
        &(struct batcher_options){.lanes = lanes, .max_items = max_items, .max_bytes = max_bytes});
}

static void add(int from, int to)
{
    for (int i = from; i <= to; i++)
        batcher_add(batcher, &items[i].item);
}

static void reply(void)
{
    struct sending *sending = &sendings[answered++];
    ck_assert_int_le(answered, sent);
    sending->on_reply(sending->context, &(struct pg_rows){0}, NULL);
}

static void reply_failure(enum pg_failure_class class, const char *text)
{
    struct pg_failure failure;
    struct sending *sending = &sendings[answered++];
    ck_assert_int_le(answered, sent);
    pg_failure_set(&failure, class, "%s", text);
    sending->on_reply(sending->context, NULL, &failure);
}

static void expect_sent(int index, int first, int n)
{
    ck_assert_int_lt(index, sent);
    ck_assert_int_eq(sendings[index].n, n);
    for (int i = 0; i < n; i++)
        ck_assert_int_eq(sendings[index].numbers[i], first + i);
}

static void finish(void)
{
    ck_assert_int_eq(batcher_open_items(batcher), 0);
    batcher_free(batcher);
}

START_TEST(one_goes_at_once_and_the_rest_gathers)
{
    start(1, 0, 0);
    add(0, 9);
    ck_assert_int_eq(sent, 1);
    expect_sent(0, 0, 1);
    ck_assert_int_eq(batcher_waiting(batcher), 9);
    ck_assert_int_eq(batcher_open_items(batcher), 10);
    reply();
    ck_assert_int_eq(sent, 2);
    expect_sent(1, 1, 9);
    ck_assert_int_eq(batcher_waiting(batcher), 0);
    reply();
    ck_assert_int_eq(sent, 2);
    ck_assert_int_eq(done_count, 10);
    for (int i = 0; i < 10; i++)
        ck_assert_int_eq(done_order[i], i);
    ck_assert_int_ne(id_compare(&sendings[0].batch, &sendings[1].batch), 0);
    finish();
}
END_TEST

START_TEST(batches_keep_the_caps)
{
    start(1, 4, 100);
    items[8].item.bytes = 60;
    items[9].item.bytes = 60;
    items[10].item.bytes = 500;
    add(0, 11);
    reply();
    expect_sent(1, 1, 4);
    reply();
    expect_sent(2, 5, 4); /* four items, 60 bytes */
    reply();
    expect_sent(3, 9, 1); /* 560 bytes would be too many */
    reply();
    expect_sent(4, 10, 1); /* over the cap, alone */
    reply();
    expect_sent(5, 11, 1);
    reply();
    finish();
}
END_TEST

START_TEST(what_a_callback_adds_goes_with_the_next_batch)
{
    start(1, 0, 0);
    add(0, 1);
    add_when_done = &items[2].item;
    reply();
    ck_assert_int_eq(sent, 2);
    expect_sent(1, 1, 2);
    reply();
    finish();
}
END_TEST

START_TEST(what_is_held_goes_together)
{
    start(1, 3, 0);
    batcher_hold(batcher);
    add(0, 4);
    ck_assert_int_eq(sent, 0);
    batcher_send(batcher);
    ck_assert_int_eq(sent, 1);
    expect_sent(0, 0, 3);
    reply();
    expect_sent(1, 3, 2);
    reply();
    finish();
}
END_TEST

START_TEST(many_go_in_parts)
{
    static const int expected[] = {100, 75, 64, 64, 64, 33};
    start_with(&(struct batcher_options){.parts = 4});
    batcher_hold(batcher);
    add(0, 399);
    batcher_send(batcher);
    for (int i = 0, first = 0; i < 6; first += expected[i++]) {
        expect_sent(i, first, expected[i]);
        reply();
    }
    finish();
}
END_TEST

START_TEST(lanes_have_their_own_links)
{
    start(2, 0, 0);
    add(0, 4);
    ck_assert_int_eq(sent, 2);
    expect_sent(0, 0, 1);
    expect_sent(1, 1, 1);
    ck_assert_ptr_eq(sendings[0].link, (struct pg_link *)1);
    ck_assert_ptr_eq(sendings[1].link, (struct pg_link *)2);
    reply();
    expect_sent(2, 2, 3);
    ck_assert_ptr_eq(sendings[2].link, (struct pg_link *)1);
    reply();
    reply();
    finish();
}
END_TEST

/* Every position of the bad item in a batch of eight: it alone fails, and new items wait until it
 * is found. */
START_TEST(halving_finds_the_bad_item)
{
    start(1, 0, 0);
    add(0, 8);
    reply();
    add(9, 9);
    while (answered < sent) {
        const struct sending *sending = &sendings[answered];
        bool bad = false;
        for (int i = 0; i < sending->n; i++) {
            bad |= sending->numbers[i] == _i;
            ck_assert(sending->numbers[i] != 9 || items[8].end != 0);
        }
        for (int i = 0; i < answered; i++)
            ck_assert_int_ne(id_compare(&sendings[i].batch, &sending->batch), 0);
        if (bad)
            reply_failure(PG_DATA, "invalid byte");
        else
            reply();
    }
    for (int i = 0; i <= 9; i++)
        ck_assert_msg(items[i].end == (i == _i ? 'f' : 'd'), "bad item %d: item %d ended '%c'", _i,
                      i, items[i].end);
    ck_assert_str_eq(items[_i].text, "invalid byte");
    finish();
}
END_TEST

START_TEST(what_takes_too_long_goes_in_smaller_batches)
{
    start(1, 0, 0);
    batcher_hold(batcher);
    add(0, 99);
    batcher_send(batcher);
    ck_assert(!batcher_is_slow(batcher));
    reply_failure(PG_SLOW, "too long");
    expect_sent(1, 0, 50);
    reply_failure(PG_SLOW, "too long");
    expect_sent(2, 0, 25);
    add(100, 199);
    ck_assert(batcher_is_slow(batcher));
    reply();
    expect_sent(3, 25, 25);
    reply();
    expect_sent(4, 50, 50);
    reply_failure(PG_SLOW, "too long");
    reply();
    reply();
    expect_sent(7, 100, 33); /* 25, and an eighth more and one for each that went well */
    while (answered < sent)
        reply();
    for (int i = 0; i < 200; i++)
        ck_assert_int_eq(items[i].end, 'd');
    finish();
}
END_TEST

START_TEST(one_that_takes_too_long_alone_fails)
{
    start(1, 0, 0);
    add(0, 0);
    reply_failure(PG_SLOW, "too long");
    ck_assert_int_eq(items[0].end, 'f');
    ck_assert_str_eq(items[0].text, "too long");
    finish();
}
END_TEST

START_TEST(patience_ends)
{
    start_with(&(struct batcher_options){.patience = 2});
    batcher_hold(batcher);
    add(0, 99);
    batcher_send(batcher);
    reply_failure(PG_SLOW, "too long");
    add(100, 109);
    reply_failure(PG_SLOW, "too long");
    for (int i = 0; i < 100; i++)
        ck_assert_int_eq(items[i].end, 'f');
    expect_sent(2, 100, 10); /* its own patience begins anew */
    reply_failure(PG_SLOW, "too long");
    reply();
    reply();
    for (int i = 100; i < 110; i++)
        ck_assert_int_eq(items[i].end, 'd');
    finish();
}
END_TEST

START_TEST(other_failures_are_everybodys)
{
    start(1, 0, 0);
    add(0, 3);
    reply_failure(PG_AWAY, "gone");
    reply_failure(PG_BUG, "no such function");
    ck_assert_int_eq(sent, 2);
    for (int i = 0; i <= 3; i++)
        ck_assert_int_eq(items[i].end, 'f');
    ck_assert_str_eq(items[0].text, "gone");
    ck_assert_str_eq(items[3].text, "no such function");
    finish();
}
END_TEST

START_TEST(stop_gives_back_what_waits)
{
    start(1, 0, 0);
    add(0, 4);
    reply();
    add(5, 6);
    reply_failure(PG_DATA, "one of them");
    expect_sent(2, 1, 2); /* a half is under way, the other behind it */
    struct batch_item *rest = batcher_stop(batcher);
    ck_assert_ptr_eq(rest, &items[5].item);
    ck_assert_ptr_eq(rest->next, &items[6].item);
    ck_assert_ptr_null(rest->next->next);
    reply();
    ck_assert_int_eq(sent, 3);
    ck_assert_int_eq(items[2].end, 'd');
    ck_assert_int_eq(items[3].end, 'f');
    ck_assert_int_eq(items[4].end, 'f');
    ck_assert_int_eq(items[5].end, 0);
    finish();
}
END_TEST

START_TEST(all_lanes_tell_what_is_under_way)
{
    struct pg_params params = {0};
    start(2, 10, 0);
    batcher_add_under_way(batcher, &params);
    ck_assert_int_eq(params.count, 0);
    add(0, 1);
    batcher_add_under_way(batcher, &params);
    ck_assert_int_eq(params.count, 2);
    for (int i = 0; i < 2; i++)
        ck_assert_mem_eq(params.bytes.data + params.params[i].offset, sendings[i].batch.bytes,
                         sizeof(struct id));
    pg_params_clear(&params);
    reply();
    batcher_add_under_way(batcher, &params);
    ck_assert_int_eq(params.count, 1);
    pg_params_done(&params);
    reply();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("batcher");
    TCase *tcase = tcase_create("batcher");
    tcase_add_test(tcase, one_goes_at_once_and_the_rest_gathers);
    tcase_add_test(tcase, batches_keep_the_caps);
    tcase_add_test(tcase, what_a_callback_adds_goes_with_the_next_batch);
    tcase_add_test(tcase, what_is_held_goes_together);
    tcase_add_test(tcase, many_go_in_parts);
    tcase_add_test(tcase, lanes_have_their_own_links);
    tcase_add_loop_test(tcase, halving_finds_the_bad_item, 1, 9);
    tcase_add_test(tcase, what_takes_too_long_goes_in_smaller_batches);
    tcase_add_test(tcase, one_that_takes_too_long_alone_fails);
    tcase_add_test(tcase, patience_ends);
    tcase_add_test(tcase, other_failures_are_everybodys);
    tcase_add_test(tcase, stop_gives_back_what_waits);
    tcase_add_test(tcase, all_lanes_tell_what_is_under_way);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
