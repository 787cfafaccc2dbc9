#include "store/spool.h"

#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"
#include "store/spool_record.h"
#include "tests/unit/store/spool_fixture.h"

enum { COUNT = 5 };

static char directory[32];
static char path[64];
static uv_loop_t loop;
static struct spool *spool;
static struct sample samples[COUNT];
static bool flushed;
static bool closed;
static int read_count;
static bool read_ended;

static void set_true(void *context)
{
    *(bool *)context = true;
}

/* Runs the loop; check ends the test when it takes too long. */
#define UNTIL(condition)                \
    do {                                \
        while (!(condition))            \
            uv_run(&loop, UV_RUN_ONCE); \
    } while (0)

static void open_spool(size_t max_bytes)
{
    spool = spool_new(&(struct spool_options){.loop = &loop, .path = path, .max_bytes = max_bytes});
    flushed = closed = read_ended = false;
    read_count = 0;
    for (int i = 0; i < COUNT; i++)
        sample_init(&samples[i], i);
}

static void close_spool(void)
{
    spool_flush(spool, set_true, &flushed);
    ck_assert(!flushed);
    UNTIL(flushed);
    spool_close(spool, set_true, &closed);
    UNTIL(closed);
}

static void setup(void)
{
    sample_directory(directory);
    snprintf(path, sizeof path, "%s/state/spool", directory);
    ck_assert_int_eq(uv_loop_init(&loop), 0);
    char *state = mem_format("%s/state", directory);
    ck_assert_int_eq(mkdir(state, 0700), 0);
    free(state);
    open_spool(1 << 20);
}

static void teardown(void)
{
    ck_assert_int_eq(uv_run(&loop, UV_RUN_DEFAULT), 0);
    ck_assert_int_eq(uv_loop_close(&loop), 0);
    sample_remove(directory);
}

static int64_t size_on_disk(void)
{
    struct stat status;
    return stat(path, &status) == 0 ? status.st_size : -1;
}

/* Of the samples from `from` to `to` - 1. */
static int64_t size_of(int from, int to)
{
    size_t size = 0;
    for (int i = from; i < to; i++)
        size += spool_record_size(&samples[i].finish);
    return (int64_t)size;
}

static void hold(int from, int to)
{
    for (int i = from; i < to; i++)
        spool_hold(spool, &samples[i].finish);
}

static void release(int from, int to)
{
    for (int i = from; i < to; i++)
        spool_release(spool, &samples[i].finish);
}

static int count_in(int state)
{
    int count = 0;
    for (int i = 0; i < COUNT; i++)
        count += (int)samples[i].finish.spooling.state == state;
    return count;
}

START_TEST(nothing_is_written_while_all_is_committed)
{
    hold(0, COUNT);
    uv_run(&loop, UV_RUN_NOWAIT);
    release(0, COUNT);
    close_spool();
    ck_assert_int_eq(size_on_disk(), -1);
}
END_TEST

START_TEST(an_outage)
{
    hold(0, 2);
    spool_set_away(spool, true);
    UNTIL(count_in(SPOOLING_SAVED) == 2);
    ck_assert_int_eq(size_on_disk(), size_of(0, 2));
    hold(2, 5);
    UNTIL(count_in(SPOOLING_SAVED) == 5);
    ck_assert_int_eq(size_on_disk(), size_of(0, 5));
    spool_set_away(spool, false);
    release(0, 4);
    uv_run(&loop, UV_RUN_NOWAIT);
    ck_assert_int_eq(size_on_disk(), size_of(0, 5));
    release(4, 5);
    UNTIL(size_on_disk() == 0);
    close_spool();
}
END_TEST

/* In whatever state the commit finds them. */
START_TEST(released_at_once)
{
    spool_set_away(spool, true);
    hold(0, COUNT); /* the first one is being written, the others wait */
    release(0, COUNT);
    close_spool();
    ck_assert_int_eq(size_on_disk(), 0);
}
END_TEST

START_TEST(a_commit_that_takes_long)
{
    hold(0, 1);
    UNTIL(count_in(SPOOLING_SAVED) == 1);
    ck_assert_int_eq(size_on_disk(), size_of(0, 1));
    release(0, 1);
    UNTIL(size_on_disk() == 0);
    close_spool();
}
END_TEST

START_TEST(a_spool_that_is_full)
{
    close_spool();
    open_spool((size_t)size_of(0, 3));
    spool_set_away(spool, true);
    hold(0, COUNT);
    UNTIL(count_in(SPOOLING_SAVED) == 3);
    uv_run(&loop, UV_RUN_NOWAIT);
    ck_assert_int_eq(count_in(SPOOLING_HELD), 2);
    release(0, 3); /* which makes room */
    UNTIL(size_on_disk() == size_of(3, COUNT));
    close_spool();
}
END_TEST

START_TEST(a_disk_that_cannot_be_written_for_a_while)
{
    char *state = mem_format("%s/state", directory);
    ck_assert_int_eq(rmdir(state), 0);
    spool_set_away(spool, true);
    hold(0, 3);
    UNTIL(count_in(SPOOLING_WRITING) == 0);
    ck_assert_int_eq(count_in(SPOOLING_SAVED), 0);
    release(0, 1);
    ck_assert_int_eq(mkdir(state, 0700), 0);
    UNTIL(samples[1].finish.spooling.state == SPOOLING_SAVED &&
          samples[2].finish.spooling.state == SPOOLING_SAVED);
    ck_assert_int_eq(size_on_disk(), size_of(1, 3));
    close_spool();
    free(state);
}
END_TEST

START_TEST(the_end_with_a_disk_that_cannot_be_written)
{
    sample_remove(directory);
    hold(0, 3);
    close_spool();
    ck_assert_int_eq(count_in(SPOOLING_SAVED), 0);
}
END_TEST

/* --- reading --------------------------------------------------------------------------------- */

static struct spool_chunk chunk_read;

static void on_chunk(void *context, struct spool_chunk *chunk)
{
    (void)context;
    read_ended = chunk == NULL;
    if (chunk == NULL)
        return;
    chunk_read = *chunk;
    read_count += chunk->count;
}

/* Writes the samples 0 to 2, and opens the spool as the next daemon does. */
static void leave_three(void)
{
    hold(0, 3);
    close_spool();
    ck_assert_int_eq(size_on_disk(), size_of(0, 3));
    open_spool(1 << 20);
}

static void read_chunk(void)
{
    int before = read_count;
    spool_read(spool, on_chunk, NULL);
    UNTIL(read_count > before || read_ended);
}

static void release_chunk(void)
{
    for (int i = 0; i < chunk_read.count; i++)
        spool_release(spool, &chunk_read.finishes[i]);
    spool_chunk_free(&chunk_read);
}

START_TEST(what_an_earlier_daemon_left)
{
    leave_three();
    read_chunk();
    ck_assert_int_eq(read_count, 3);
    for (int i = 0; i < 3; i++)
        sample_check(&chunk_read.finishes[i], &samples[i].finish);
    release_chunk();
    uv_run(&loop, UV_RUN_NOWAIT);
    ck_assert_int_eq(size_on_disk(), size_of(0, 3)); /* there may be more */
    read_chunk();
    ck_assert(read_ended);
    UNTIL(size_on_disk() == 0);
    close_spool();
}
END_TEST

START_TEST(a_daemon_that_ends_while_it_reads)
{
    leave_three();
    if (_i == 0) {
        spool_read(spool, on_chunk, NULL);
        close_spool();
        ck_assert_int_eq(read_count, 0);
    } else {
        read_chunk();
        release_chunk();
        close_spool();
    }
    ck_assert_int_eq(size_on_disk(), size_of(0, 3));
}
END_TEST

START_TEST(an_end_that_the_database_refuses)
{
    leave_three();
    read_chunk();
    spool_refuse(spool, &chunk_read.finishes[0]);
    for (int i = 1; i < 3; i++)
        spool_release(spool, &chunk_read.finishes[i]);
    spool_chunk_free(&chunk_read);
    read_chunk();
    ck_assert(read_ended);
    UNTIL(size_on_disk() == -1); /* it has another name now */
    spool_set_away(spool, true);
    hold(3, 4);
    UNTIL(count_in(SPOOLING_SAVED) == 1);
    ck_assert_int_eq(size_on_disk(), size_of(3, 4));
    close_spool();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("spool");
    TCase *tests = tcase_create("spool");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, nothing_is_written_while_all_is_committed);
    tcase_add_test(tests, an_outage);
    tcase_add_test(tests, released_at_once);
    tcase_add_test(tests, a_commit_that_takes_long);
    tcase_add_test(tests, a_spool_that_is_full);
    tcase_add_test(tests, a_disk_that_cannot_be_written_for_a_while);
    tcase_add_test(tests, the_end_with_a_disk_that_cannot_be_written);
    tcase_add_test(tests, what_an_earlier_daemon_left);
    tcase_add_loop_test(tests, a_daemon_that_ends_while_it_reads, 0, 2);
    tcase_add_test(tests, an_end_that_the_database_refuses);
    tcase_set_timeout(tests, 20);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
