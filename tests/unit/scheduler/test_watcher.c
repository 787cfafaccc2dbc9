/* The watcher, on a real directory and a real loop. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"
#include "scheduler/watcher.h"
#include "tests/unit/unit.h"

/* What is reported at once comes within this, and what has to settle does not. */
#define AT_ONCE_MS 300
/* Whatever is reported comes within this, also on a busy machine. */
#define DEADLINE_MS 10000
/* What is not reported within this never is. */
#define NEVER_MS 700

static uv_loop_t loop;
static uv_timer_t deadline;
static char root[] = "/tmp/watcher-XXXXXX";
static char *directory;
static struct watcher *watcher;
static int changes;

/* --- the world ------------------------------------------------------------------------------- */

static char *path(const char *name)
{
    return mem_format("%s/%s", root, name);
}

static int open_file(const char *name, int flags)
{
    char *file = path(name);
    int fd = open(file, O_WRONLY | O_CREAT | O_CLOEXEC | flags, 0644);
    ck_assert_int_ge(fd, 0);
    free(file);
    return fd;
}

static void write_text(int fd, const char *text)
{
    ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
}

static void write_file(const char *name)
{
    int fd = open_file(name, O_TRUNC);
    write_text(fd, "text");
    close(fd);
}

static void move(const char *from, const char *to)
{
    char *old = path(from);
    char *new = path(to);
    ck_assert_int_eq(rename(old, new), 0);
    free(old);
    free(new);
}

static void make_directory(const char *name)
{
    char *made = path(name);
    ck_assert_int_eq(mkdir(made, 0755), 0);
    free(made);
}

static void link_to(const char *target, const char *name)
{
    char *link = path(name);
    ck_assert_int_eq(symlink(target, link), 0);
    free(link);
}

/* --- the loop -------------------------------------------------------------------------------- */

static void on_change(void *context)
{
    (void)context;
    changes++;
    uv_stop(&loop);
}

static void on_deadline(uv_timer_t *timer)
{
    uv_stop(timer->loop);
}

/* Runs until a change is reported. Returns after how many milliseconds, or -1. */
static int await_change(uint64_t limit_ms)
{
    int before = changes;
    int64_t begun_us = clock_mono_us();
    uv_update_time(&loop);
    uv_timer_start(&deadline, on_deadline, limit_ms, 0);
    uv_run(&loop, UV_RUN_DEFAULT);
    uv_timer_stop(&deadline);
    return changes > before ? (int)((clock_mono_us() - begun_us) / 1000) : -1;
}

static void run_for(uint64_t limit_ms)
{
    ck_assert_int_eq(await_change(limit_ms), -1);
}

static void watch(const char *name)
{
    struct error error;
    directory = path(name);
    int rc = watcher_new(
        &(struct watcher_options){.loop = &loop, .directory = directory, .on_change = on_change},
        &watcher, &error);
    ck_assert_msg(rc == 0, "%s", error.text);
    changes = 0;
}

static void setup(void)
{
    strcpy(root + strlen(root) - 6, "XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(root));
    uv_loop_init(&loop);
    uv_timer_init(&loop, &deadline);
    make_directory("d");
    watch("d");
}

static void on_closed(void *context)
{
    (void)context;
}

static void teardown(void)
{
    watcher_close(watcher, on_closed, NULL);
    uv_close((uv_handle_t *)&deadline, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(uv_loop_close(&loop), 0);
    free(directory);
    char *command = mem_format("rm -r %s", root);
    ck_assert_int_eq(system(command), 0);
    free(command);
}

/* Is what would be read now a part? `bytes`: so much was read. */
static bool reads_a_part(const char *name, int bytes)
{
    watcher_begin_read(watcher);
    watcher_end_read(watcher);
    return watcher_is_unsettled(watcher, name, bytes == 0);
}

/* --- files ----------------------------------------------------------------------------------- */

START_TEST(renamed_into_place)
{
    write_file("new");
    move("new", "d/a.yml");
    int after_ms = await_change(DEADLINE_MS);
    ck_assert_msg(after_ms >= 0 && after_ms < AT_ONCE_MS, "after %d ms", after_ms);
    run_for(NEVER_MS);
}
END_TEST

START_TEST(written_in_place)
{
    write_file("d/a.yml");
    ck_assert_int_ge(await_change(DEADLINE_MS), 0);
    int fd = open_file("d/a.yml", O_TRUNC);
    run_for(50);
    write_text(fd, "half");
    run_for(NEVER_MS); /* it is not closed */
    ck_assert(reads_a_part("a.yml", 4));
    watcher_settle(watcher, "a.yml");
    ck_assert(!reads_a_part("a.yml", 4));
    write_text(fd, "the rest");
    ck_assert(reads_a_part("a.yml", 12));
    close(fd);
    int after_ms = await_change(DEADLINE_MS);
    ck_assert_msg(after_ms >= AT_ONCE_MS, "after %d ms", after_ms);
    ck_assert(!reads_a_part("a.yml", 12));
}
END_TEST

/* An editor that writes twice is reported once. */
START_TEST(written_twice)
{
    write_file("d/a.yml");
    run_for(AT_ONCE_MS);
    write_file("d/a.yml");
    ck_assert_int_ge(await_change(DEADLINE_MS), AT_ONCE_MS);
    run_for(NEVER_MS);
}
END_TEST

/* A rename does not make a write settle earlier. */
START_TEST(renamed_beside_a_write)
{
    write_file("d/a.yml");
    run_for(50);
    write_file("new");
    move("new", "d/b.yml");
    ck_assert_int_ge(await_change(DEADLINE_MS), AT_ONCE_MS);
    run_for(NEVER_MS);
}
END_TEST

START_TEST(removed_file)
{
    write_file("d/a.yml");
    ck_assert_int_ge(await_change(DEADLINE_MS), 0);
    char *file = path("d/a.yml");
    unlink(file);
    free(file);
    ck_assert_int_ge(await_change(DEADLINE_MS), 0);
}
END_TEST

/* One that was created and not written yet is not read; whatever else has content at once is. */
START_TEST(created_empty)
{
    int fd = open_file("d/a.yml", 0);
    ck_assert_int_ge(await_change(DEADLINE_MS), AT_ONCE_MS);
    ck_assert(reads_a_part("a.yml", 0));
    ck_assert(!reads_a_part("a.yml", 4));
    close(fd);
    ck_assert_int_ge(await_change(DEADLINE_MS), 0);
    ck_assert(!reads_a_part("a.yml", 0));
}
END_TEST

START_TEST(links_made)
{
    write_file("target");
    link_to("../target", "d/a.yml");
    ck_assert_int_ge(await_change(DEADLINE_MS), 0);
    char *target = path("target");
    char *hard = path("d/b.yml");
    ck_assert_int_eq(link(target, hard), 0);
    ck_assert_int_ge(await_change(DEADLINE_MS), 0);
    free(hard);
    free(target);
    ck_assert(!reads_a_part("a.yml", 4));
    ck_assert(!reads_a_part("b.yml", 4));
}
END_TEST

START_TEST(made_readable)
{
    write_file("d/a.yml");
    ck_assert_int_ge(await_change(DEADLINE_MS), 0);
    char *file = path("d/a.yml");
    ck_assert_int_eq(chmod(file, 0600), 0);
    ck_assert_int_ge(await_change(DEADLINE_MS), 0);
    free(file);
}
END_TEST

START_TEST(of_no_concern)
{
    write_file("d/readme.txt");
    write_file("d/.a.yml.swp");
    write_file("d/.a.yml");
    write_file("d/yml");
    run_for(NEVER_MS);
}
END_TEST

/* What is written while files are read, and closed before anybody asks, may have been read in
 * part. */
START_TEST(written_while_reading)
{
    write_file("d/a.yml");
    ck_assert_int_ge(await_change(DEADLINE_MS), 0);
    watcher_begin_read(watcher);
    write_file("d/a.yml");
    watcher_end_read(watcher);
    ck_assert(watcher_is_unsettled(watcher, "a.yml", false));
    ck_assert_int_ge(await_change(DEADLINE_MS), 0); /* and is read again */
    ck_assert(!reads_a_part("a.yml", 4));
}
END_TEST

/* A link's target is written to elsewhere: what has to be awaited is reported when it is closed. */
START_TEST(awaited)
{
    int fd = open_file("target", 0);
    link_to("../target", "d/a.yml");
    ck_assert_int_ge(await_change(DEADLINE_MS), 0);
    watcher_await(watcher, "a.yml");
    ck_assert_int_ge(await_change(DEADLINE_MS), AT_ONCE_MS); /* lest it was closed just before */
    watcher_await(watcher, "a.yml");
    write_text(fd, "text");
    run_for(NEVER_MS);
    close(fd);
    ck_assert_int_ge(await_change(DEADLINE_MS), AT_ONCE_MS);
    run_for(NEVER_MS);
}
END_TEST

/* --- the directory --------------------------------------------------------------------------- */

START_TEST(directory_gone_and_back)
{
    move("d", "elsewhere");
    run_for(NEVER_MS);
    make_directory("d");
    ck_assert_int_ge(await_change(DEADLINE_MS), 0);
    write_file("d/a.yml");
    ck_assert_int_ge(await_change(DEADLINE_MS), 0);
    write_file("elsewhere/b.yml");
    run_for(NEVER_MS);
}
END_TEST

START_TEST(directory_removed_and_made_anew)
{
    char *removed = path("d");
    rmdir(removed);
    make_directory("d"); /* most likely with the same inode number */
    ck_assert_int_ge(await_change(DEADLINE_MS), 0);
    write_file("d/a.yml");
    ck_assert_int_ge(await_change(DEADLINE_MS), 0);
    free(removed);
}
END_TEST

/* The whole directory is a link that is swapped for another. */
START_TEST(link_swapped)
{
    watcher_close(watcher, on_closed, NULL);
    make_directory("e");
    link_to("d", "current");
    free(directory);
    watch("current");
    run_for(50);
    link_to("e", "next");
    move("next", "current");
    int after_ms = await_change(DEADLINE_MS);
    ck_assert_msg(after_ms >= 0 && after_ms < 1000, "after %d ms", after_ms);
    write_file("e/a.yml");
    ck_assert_int_ge(await_change(DEADLINE_MS), 0);
}
END_TEST

/* As where a volume is mounted: the files are links through `..data`, which is swapped. */
START_TEST(data_link_swapped)
{
    link_to("version1", "d/..data");
    ck_assert_int_ge(await_change(DEADLINE_MS), 0);
    link_to("version2", "d/..data_tmp");
    move("d/..data_tmp", "d/..data");
    int after_ms = await_change(DEADLINE_MS);
    ck_assert_msg(after_ms >= 0 && after_ms < AT_ONCE_MS, "after %d ms", after_ms);
}
END_TEST

START_TEST(closed_while_looking)
{
    run_for(510); /* a look at the directory is likely under way */
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("watcher");
    TCase *tests = tcase_create("watcher");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, renamed_into_place);
    tcase_add_test(tests, written_in_place);
    tcase_add_test(tests, written_twice);
    tcase_add_test(tests, renamed_beside_a_write);
    tcase_add_test(tests, removed_file);
    tcase_add_test(tests, created_empty);
    tcase_add_test(tests, links_made);
    tcase_add_test(tests, made_readable);
    tcase_add_test(tests, of_no_concern);
    tcase_add_test(tests, written_while_reading);
    tcase_add_test(tests, awaited);
    tcase_add_test(tests, directory_gone_and_back);
    tcase_add_test(tests, directory_removed_and_made_anew);
    tcase_add_test(tests, link_swapped);
    tcase_add_test(tests, data_link_swapped);
    tcase_add_test(tests, closed_while_looking);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
