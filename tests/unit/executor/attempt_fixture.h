/* Runs attempts on a loop of their own. After each test the descriptors are those from before, no
 * child is left, dead or alive, and no process on the machine carries the test's mark. */
#pragma once

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buffer.h"
#include "executor/executor.h"
#include "tests/unit/unit.h"

static uv_loop_t loop;
static struct executor *executor;
static int fds_before;
static char mark[64]; /* DIRECTOR_TASK_ID=… of this test */
static const char *environment[4];

static inline int count_fds(void)
{
    int n = 0;
    DIR *folder = opendir("/proc/self/fd");
    while (readdir(folder))
        n++;
    closedir(folder);
    return n;
}

static inline bool carries_mark(const char *pid)
{
    static char text[65536];
    char path[300];
    snprintf(path, sizeof path, "/proc/%s/environ", pid);
    int fd = open(path, O_RDONLY);
    ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof text);
    if (fd >= 0)
        close(fd);
    return n > 0 && memmem(text, (size_t)n, mark, strlen(mark) + 1);
}

static inline int count_marked(void)
{
    int n = 0;
    struct dirent *entry;
    DIR *folder = opendir("/proc");
    while (folder && (entry = readdir(folder)))
        n += carries_mark(entry->d_name);
    if (folder)
        closedir(folder);
    return n;
}

/* The program BUILD/tests/unit/executor/test_X finds the launcher in BUILD. */
static inline const char *fixture_launcher(void)
{
    static char path[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 32);
    ck_assert_int_gt(n, 0);
    path[n] = '\0';
    for (int i = 0; i < 4; i++)
        *strrchr(path, '/') = '\0';
    strcat(path, "/directord-exec");
    ck_assert_msg(access(path, X_OK) == 0, "%s is not built", path);
    return path;
}

static inline void do_nothing(uv_work_t *work)
{
    (void)work;
}

static inline void fixture_set_up(const struct executor_options *options)
{
    signal(SIGPIPE, SIG_IGN);
    /* What the library opens once and keeps is not counted; its threads are there, as in the
     * daemon. */
    uv_work_t work;
    ck_assert_int_eq(uv_loop_init(&loop), 0);
    ck_assert_int_eq(uv_queue_work(&loop, &work, do_nothing, NULL), 0);
    uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(uv_loop_close(&loop), 0);
    fds_before = count_fds();
    ck_assert_int_eq(uv_loop_init(&loop), 0);
    executor = executor_new(&loop, options);
    snprintf(mark, sizeof mark, "DIRECTOR_TASK_ID=test-%d", getpid());
    environment[0] = "PATH=/usr/local/bin:/usr/bin:/bin";
    environment[1] = mark;
    environment[2] = "DIRECTOR_ATTEMPT=1";
}

static inline void note_closed(void *context)
{
    *(bool *)context = true;
}

static inline void fixture_tear_down(void)
{
    bool closed = false;
    executor_close(executor, note_closed, &closed);
    ck_assert(!closed);
    uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert(closed);
    ck_assert_int_eq(uv_loop_close(&loop), 0);
    ck_assert_int_eq(count_fds(), fds_before);
    ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1);
    ck_assert_int_eq(errno, ECHILD);
    ck_assert_int_eq(count_marked(), 0);
}

/* --- running ------------------------------------------------------------------------------------
 */

struct run {
    struct attempt *attempt; /* NULL once ended */
    int ends;
    struct attempt_end end; /* with its result */
    struct buffer log;
    int64_t log_total;
    size_t log_memory;
    int64_t heard; /* by on_output */
    int marked;    /* living processes with the test's mark when on_end came */
};

static inline void on_end(struct attempt *attempt, struct attempt_end *end, void *context)
{
    struct run *run = context;
    run->ends++;
    run->end = *end;
    end->result = NULL;
    run->log_total = attempt_log(attempt)->total;
    run->log_memory = attempt_log(attempt)->capacity;
    log_ring_text(attempt_log(attempt), &run->log);
    run->marked = count_marked();
    run->attempt = NULL;
}

static inline void run_done(struct run *run)
{
    free(run->end.result);
    buffer_done(&run->log);
    *run = (struct run){0};
}

static inline void start(struct run *run, const struct attempt_spec *spec)
{
    *run = (struct run){0};
    run->attempt = executor_start(executor, spec, on_end, run);
    ck_assert_int_eq(run->ends, 0);
}

static inline void start_script(struct run *run, const char *script, struct attempt_spec spec)
{
    const char *argv[] = {"/bin/sh", "-c", script, NULL};
    spec.argv = argv;
    spec.envp = environment;
    start(run, &spec);
}

static inline void wait_for(const struct run *run)
{
    while (run->ends == 0)
        ck_assert_int_ne(uv_run(&loop, UV_RUN_ONCE) + run->ends, 0);
    ck_assert_int_eq(run->ends, 1);
}

static inline void run_script(struct run *run, const char *script, struct attempt_spec spec)
{
    start_script(run, script, spec);
    wait_for(run);
}

/* Runs the loop until the attempt has printed something: then its traps are set and its children
 * started. */
static inline void wait_for_output(const struct run *run)
{
    while (run->attempt && attempt_log(run->attempt)->total == 0)
        uv_run(&loop, UV_RUN_ONCE);
}
