/* The log writer with a database made of one buffer. */
#include "scheduler/log_writer.h"

#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/memory.h"
#include "tests/unit/unit.h"

enum { TICK_MS = 1 };

/* What stands for the database: it keeps the batch until the test lets it answer. */
static struct {
    bool is_up;
    int batches;
    int rows; /* of the last batch */
    int logs;
    size_t bytes;
    struct buffer text; /* of all that was appended, as `attempt@start:text ` */
    struct store_log last;
    store_done_cb on_done;
    void *context;
} database;

static uv_loop_t loop;
static struct log_writer *writer;
static int written;
static int idle;

static bool is_up(const struct store *store)
{
    (void)store;
    return database.is_up;
}

static void append(struct store *store, const struct log_batch *batch, store_done_cb on_done,
                   void *context)
{
    (void)store;
    ck_assert_ptr_null(database.on_done); /* one at a time */
    database.batches++;
    database.rows = batch->row_count;
    database.logs = batch->log_count;
    database.bytes = 0;
    for (int i = 0; i < batch->row_count; i++) {
        const struct log_row *row = &batch->rows[i];
        database.bytes += row->size;
        ck_assert_uint_le(row->size, LOG_ROW_BYTES);
        if (row->size < 20)
            buffer_printf(&database.text, "%d@%d:%.*s ", batch->logs[row->log].attempt.attempt,
                          (int)row->start, (int)row->size, row->text);
    }
    database.last = batch->logs[batch->log_count - 1];
    database.on_done = on_done;
    database.context = context;
}

static void answer(const struct pg_failure *failure)
{
    store_done_cb on_done = database.on_done;
    ck_assert_ptr_nonnull(on_done);
    database.on_done = NULL;
    on_done(database.context, failure);
}

/* Until whatever has been printed is due, so that the next tick takes all of it. */
static void await_due(void)
{
    uv_sleep(TICK_MS + 1);
}

/* Runs the loop until a batch has come. */
static void await_batch(void)
{
    while (database.on_done == NULL)
        uv_run(&loop, UV_RUN_ONCE);
}

static void on_idle(void *context)
{
    (void)context;
    idle++;
}

static void set_up(void)
{
    memset(&database, 0, sizeof database);
    database.is_up = true;
    written = idle = 0;
    uv_loop_init(&loop);
    writer = log_writer_new(&(struct log_writer_options){.loop = &loop,
                                                         .tick_ms = TICK_MS,
                                                         .tail_ms = 2,
                                                         .is_up = is_up,
                                                         .append = append,
                                                         .on_idle = on_idle});
}

static void tear_down(void)
{
    log_writer_stop(writer);
    log_writer_close(writer);
    uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(uv_loop_close(&loop), 0);
    buffer_done(&database.text);
}

static struct run_log *open_log(int attempt, struct log_ring *ring, size_t head, size_t tail)
{
    struct store_held held = {.attempt = attempt};
    log_ring_init(ring, head, tail);
    return run_log_open(writer, &held, ring);
}

static void print(struct run_log *log, struct log_ring *ring, const char *text)
{
    log_ring_add(ring, OUTPUT_STDOUT, 1, text, strlen(text));
    run_log_touch(log);
}

static void flood(struct run_log *log, struct log_ring *ring, size_t size)
{
    char *text = mem_new(size, 1);
    log_ring_add(ring, OUTPUT_STDOUT, 1, text, size);
    run_log_touch(log);
    free(text);
}

static void on_written(void *context)
{
    (void)context;
    written++;
}

static void check_text(const char *wanted)
{
    ck_assert_str_eq(buffer_text(&database.text), wanted);
}

START_TEST(what_comes_meanwhile_goes_together)
{
    struct log_ring rings[2];
    struct run_log *one = open_log(1, &rings[0], 100, 300);
    struct run_log *two = open_log(2, &rings[1], 100, 300);
    print(one, &rings[0], "a");
    await_batch();
    print(one, &rings[0], "b");
    print(one, &rings[0], "c");
    print(two, &rings[1], "x");
    ck_assert(run_log_end(one, &rings[0], on_written, NULL));
    ck_assert(run_log_end(two, &rings[1], on_written, NULL));
    answer(NULL);
    check_text("1@0:a 2@0:x 1@1:bc "); /* who has had a share comes last */
    answer(NULL);
    ck_assert_int_eq(database.batches, 2);
    ck_assert_int_eq(written, 2);
}
END_TEST

START_TEST(end_waits_for_its_log)
{
    struct log_ring ring;
    struct run_log *log = open_log(1, &ring, 100, 300);
    print(log, &ring, "last");
    ck_assert(run_log_end(log, &ring, on_written, NULL));
    ck_assert_int_eq(database.batches, 1); /* at once */
    ck_assert_int_eq(written, 0);
    answer(NULL);
    ck_assert_int_eq(written, 1);
    check_text("1@0:last ");
}
END_TEST

START_TEST(nothing_left_nothing_to_wait_for)
{
    struct log_ring ring;
    struct run_log *log = open_log(1, &ring, 100, 300);
    print(log, &ring, "all");
    await_batch();
    answer(NULL);
    ck_assert(!run_log_end(log, &ring, on_written, NULL));
    ck_assert_int_eq(written, 0);
}
END_TEST

START_TEST(ended_while_under_way)
{
    struct log_ring ring;
    struct run_log *log = open_log(1, &ring, 100, 300);
    print(log, &ring, "all");
    await_batch();
    ck_assert(run_log_end(log, &ring, on_written, NULL));
    answer(NULL);
    ck_assert_int_eq(written, 1);
    ck_assert_int_eq(database.batches, 1);
}
END_TEST

/* Had the first sending been committed, other rows would overlap its rows, or be taken for them. */
START_TEST(failure_is_repeated_as_it_was)
{
    struct pg_failure failure = {.class = PG_AWAY};
    struct log_ring ring;
    struct run_log *log = open_log(1, &ring, 4, 4);
    print(log, &ring, "abc");
    await_batch();
    print(log, &ring, "d0123456789"); /* the first of it is forgotten meanwhile */
    answer(&failure);
    ck_assert(run_log_end(log, &ring, on_written, NULL));
    await_batch();
    ck_assert_int_eq(database.last.tail_start, 4);
    answer(NULL);
    check_text("1@0:abc 1@0:abc 1@3:d 1@10:67 1@12:89 ");
    ck_assert_int_eq(database.last.head_end, 4);
    ck_assert_int_eq(database.last.tail_start, 10);
    ck_assert_int_eq(written, 0);
    answer(NULL);
    ck_assert_int_eq(written, 1);
}
END_TEST

/* The tail moves on while nobody knows what of it is written. */
START_TEST(the_moved_tail_is_not_cut_anew)
{
    struct log_ring ring;
    struct run_log *log = open_log(1, &ring, 0, 6);
    print(log, &ring, "012345");
    await_batch();
    print(log, &ring, "67");
    answer(&(struct pg_failure){.class = PG_AWAY});
    await_batch();
    answer(NULL);
    await_batch();
    check_text("1@0:012345 1@0:012345 1@6:67 ");
    answer(NULL);
    ck_assert(!run_log_end(log, &ring, on_written, NULL));
}
END_TEST

START_TEST(what_takes_too_long_goes_in_parts)
{
    struct log_ring ring;
    struct run_log *log = open_log(1, &ring, 1 << 20, 1 << 20);
    flood(log, &ring, 8 * LOG_ROW_BYTES);
    ck_assert(run_log_end(log, &ring, on_written, NULL));
    for (int rows = 8; rows > 1; rows /= 2) {
        ck_assert_int_eq(database.rows, rows);
        answer(&(struct pg_failure){.class = PG_SLOW});
    }
    int rows = 0;
    while (written == 0) {
        rows += database.rows;
        answer(NULL);
    }
    ck_assert_int_eq(rows, 8);
}
END_TEST

/* Nothing of the second sending is written; of the first one all may be. */
START_TEST(doubtful_batch_stays_as_it_is_also_when_it_takes_too_long)
{
    struct log_ring ring;
    struct run_log *log = open_log(1, &ring, 100, 300);
    print(log, &ring, "abc");
    await_batch();
    answer(&(struct pg_failure){.class = PG_AWAY});
    print(log, &ring, "def");
    await_batch();
    answer(&(struct pg_failure){.class = PG_SLOW});
    await_batch();
    check_text("1@0:abc 1@0:abc 1@0:abc ");
    log_writer_stop(writer);
    answer(NULL);
    run_log_end(log, &ring, on_written, NULL);
}
END_TEST

/* While the log of one attempt is locked, say. */
START_TEST(who_takes_too_long_holds_nobody_up)
{
    struct log_ring rings[2];
    struct run_log *one = open_log(1, &rings[0], 100, 300);
    struct run_log *two = open_log(2, &rings[1], 100, 300);
    print(one, &rings[0], "one");
    ck_assert(run_log_end(one, &rings[0], on_written, NULL));
    print(two, &rings[1], "two");
    ck_assert(run_log_end(two, &rings[1], on_written, NULL));
    answer(&(struct pg_failure){.class = PG_SLOW});
    check_text("1@0:one 2@0:two ");
    answer(NULL);
    answer(NULL);
    ck_assert_int_eq(written, 2);
}
END_TEST

START_TEST(refused_is_lost_and_holds_nobody_up)
{
    struct pg_failure failure = {.class = PG_BUG, .text = "as the test wants it"};
    struct log_ring ring;
    struct run_log *log = open_log(1, &ring, 100, 300);
    print(log, &ring, "bad");
    ck_assert(run_log_end(log, &ring, on_written, NULL));
    answer(&failure);
    ck_assert_int_eq(written, 1);
    ck_assert_ptr_null(database.on_done);
}
END_TEST

START_TEST(without_a_connection_nobody_waits)
{
    struct log_ring rings[2];
    struct run_log *one = open_log(1, &rings[0], 100, 300);
    struct run_log *two = open_log(2, &rings[1], 100, 300);
    print(one, &rings[0], "one");
    ck_assert(run_log_end(one, &rings[0], on_written, NULL));
    database.is_up = false;
    while (written == 0)
        uv_run(&loop, UV_RUN_ONCE);
    print(two, &rings[1], "two");
    ck_assert(!run_log_end(two, &rings[1], on_written, NULL));
    answer(&(struct pg_failure){.class = PG_AWAY});
    database.is_up = true;
    buffer_clear(&database.text);
    await_batch(); /* they are written all the same */
    answer(NULL);
    check_text("1@0:one 2@0:two ");
    ck_assert_int_eq(written, 1);
}
END_TEST

START_TEST(late_logs_are_bounded)
{
    enum { COUNT = 5, SIZE = LOG_LATE_BYTES / 2 };
    database.is_up = false;
    for (int i = 0; i < COUNT; i++) {
        struct log_ring ring;
        struct run_log *log = open_log(i, &ring, 0, SIZE);
        flood(log, &ring, SIZE);
        ck_assert(!run_log_end(log, &ring, on_written, NULL));
    }
    uv_run(&loop, UV_RUN_ONCE); /* a tick */
    database.is_up = true;
    await_batch();
    ck_assert_int_eq(database.logs, 2);
    ck_assert_int_eq(database.last.attempt.attempt, COUNT - 1);
    log_writer_stop(writer);
    answer(NULL);
}
END_TEST

START_TEST(who_prints_much_leaves_room)
{
    struct log_ring rings[3];
    struct run_log *much = open_log(1, &rings[0], 1 << 20, 1 << 20);
    struct run_log *little = open_log(2, &rings[1], 100, 300);
    struct run_log *ended = open_log(3, &rings[2], 100, 300);
    flood(much, &rings[0], 1 << 20);
    print(little, &rings[1], "little");
    await_due();
    await_batch();
    check_text("2@0:little ");
    ck_assert_int_eq(database.logs, 2);
    ck_assert_uint_lt(database.bytes, 256 * 1024);
    print(ended, &rings[2], "ended");
    ck_assert(run_log_end(ended, &rings[2], on_written, NULL));
    answer(NULL);
    check_text("2@0:little 3@0:ended ");
    ck_assert_int_eq(database.logs, 2); /* the next share of the first one goes with it */
    log_writer_stop(writer);
    answer(NULL);
    ck_assert_int_eq(written, 1);
    run_log_end(much, &rings[0], on_written, NULL);
    run_log_end(little, &rings[1], on_written, NULL);
}
END_TEST

START_TEST(alternation_in_bytes_fills_no_batch_beyond_its_bound)
{
    struct log_ring ring;
    struct run_log *log = open_log(1, &ring, 1 << 16, 1 << 16);
    for (int i = 0; i < 10000; i++)
        log_ring_add(&ring, i % 2 ? OUTPUT_STDERR : OUTPUT_STDOUT, 1, "x", 1);
    run_log_touch(log);
    ck_assert(run_log_end(log, &ring, on_written, NULL));
    int rows = 0;
    while (written == 0) {
        rows += database.rows;
        ck_assert_int_le(database.rows, 1024);
        answer(NULL);
    }
    ck_assert_int_eq(rows, (1 << 16) / LOG_BYTES_PER_CHUNK * 2 + 3); /* as many as are kept */
}
END_TEST

START_TEST(idle_when_all_is_written)
{
    struct log_ring ring;
    struct run_log *log = open_log(1, &ring, 100, 300);
    ck_assert(log_writer_is_idle(writer));
    print(log, &ring, "first");
    ck_assert(!log_writer_is_idle(writer));
    await_batch();
    print(log, &ring, "second");
    answer(NULL);
    ck_assert_int_eq(idle, 0);
    await_batch();
    answer(NULL);
    ck_assert_int_eq(idle, 1);
    ck_assert(log_writer_is_idle(writer));
    run_log_end(log, &ring, on_written, NULL);
}
END_TEST

START_TEST(stopped_writes_nothing)
{
    struct log_ring rings[2];
    struct run_log *waiting = open_log(1, &rings[0], 100, 300);
    struct run_log *later = open_log(2, &rings[1], 100, 300);
    print(waiting, &rings[0], "first");
    ck_assert(run_log_end(waiting, &rings[0], on_written, NULL));
    log_writer_stop(writer);
    ck_assert_int_eq(written, 1);
    print(later, &rings[1], "second");
    ck_assert(!run_log_end(later, &rings[1], on_written, NULL));
    answer(&(struct pg_failure){.class = PG_AWAY});
    ck_assert_int_eq(written, 1);
    ck_assert_int_eq(database.batches, 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("log_writer");
    TCase *tcase = tcase_create("log_writer");
    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_test(tcase, what_comes_meanwhile_goes_together);
    tcase_add_test(tcase, end_waits_for_its_log);
    tcase_add_test(tcase, nothing_left_nothing_to_wait_for);
    tcase_add_test(tcase, ended_while_under_way);
    tcase_add_test(tcase, failure_is_repeated_as_it_was);
    tcase_add_test(tcase, the_moved_tail_is_not_cut_anew);
    tcase_add_test(tcase, what_takes_too_long_goes_in_parts);
    tcase_add_test(tcase, doubtful_batch_stays_as_it_is_also_when_it_takes_too_long);
    tcase_add_test(tcase, who_takes_too_long_holds_nobody_up);
    tcase_add_test(tcase, refused_is_lost_and_holds_nobody_up);
    tcase_add_test(tcase, without_a_connection_nobody_waits);
    tcase_add_test(tcase, late_logs_are_bounded);
    tcase_add_test(tcase, who_prints_much_leaves_room);
    tcase_add_test(tcase, alternation_in_bytes_fills_no_batch_beyond_its_bound);
    tcase_add_test(tcase, idle_when_all_is_written);
    tcase_add_test(tcase, stopped_writes_nothing);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
