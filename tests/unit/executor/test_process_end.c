/* How attempts that are processes are ended: whatever they leave behind, and when they are stopped.
 */
#include <sched.h>
#include <stdatomic.h>
#include <sys/pidfd.h>
#include <sys/ptrace.h>
#include <sys/resource.h>

#include "executor/proc.h"
#include "tests/unit/executor/hanging_fixture.h"
#include "tests/unit/executor/process_fixture.h"

/* In the place of the C library's: there may be no descriptor. */
static bool lacks_descriptor;
int pidfd_open(pid_t pid, unsigned flags)
{
    errno = EMFILE;
    return lacks_descriptor ? -1 : (int)syscall(SYS_pidfd_open, pid, flags);
}

/* --- what is left behind --------------------------------------------------------------------- */

/* Each script ends at once with exit status 0 and leaves something that would live for long and
 * holds the pipes. */
START_TEST(nothing_is_left)
{
    static const char *const scripts[] = {
        "sleep 100 & exit 0",
        "trap '' TERM HUP INT; sleep 100 & exit 0",
        "env -i sleep 100 & exit 0",
        "setsid sleep 100 & exit 0",
        "(setsid sleep 100 &) ; exit 0",
        "setsid sh -c 'setsid sleep 100 & sleep 100' & sleep 0.05",
        "exec >&- 2>&- 3>&- <&-; (setsid sleep 100 &) ; exit 0",
        "for i in $(seq 50); do sleep 100 & done; exit 0",
        "for i in $(seq 20); do setsid sleep 100 & done; exit 0",
        "(setsid sh -c 'kill -STOP $$' &) ; sleep 0.05",
        "setsid setsid sh -c 'for i in $(seq 10); do (setsid sleep 100 &) ; done; sleep 100' &",
        "set -m; sleep 100 & sleep 100 & exit 0",
    };
    for (size_t i = 0; i < sizeof scripts / sizeof *scripts; i++) {
        struct run run;
        int64_t begun_us = clock_mono_us();
        run_script(&run, scripts[i], (struct attempt_spec){0});
        ck_assert_msg(run.end.outcome == ATTEMPT_SUCCESS && !run.end.left_behind, "%s: %s",
                      scripts[i], run.end.result);
        ck_assert_msg(run.marked == 0, "%s: %d left", scripts[i], run.marked);
        /* Not as long as the sleeps. */
        ck_assert_msg(clock_mono_us() - begun_us < SOON_US, "%s: took long", scripts[i]);
        run_done(&run);
    }
}
END_TEST

/* The other attempts' helpers, however detached, are not touched. The keeper's one has its result
 * when the others are through, and its shell waits for that. */
START_TEST(others_are_left_alone)
{
    char file[] = "/tmp/test-process-XXXXXX", script[256];
    struct run keeper, run;
    close(mkstemp(file));
    snprintf(
        script, sizeof script,
        "(setsid sh -c 'echo ready; while test -e %s; do sleep 0.05; done; echo 1 >&3' &) | cat",
        file);
    start_script(&keeper, script, (struct attempt_spec){0});
    wait_for_output(&keeper);
    environment[2] = "DIRECTOR_ATTEMPT=2";
    for (int i = 0; i < 5; i++) {
        run_script(&run, "(setsid sleep 100 &) ; exit 0", (struct attempt_spec){0});
        ck_assert_int_eq(run.end.outcome, ATTEMPT_SUCCESS);
        run_done(&run);
    }
    unlink(file);
    wait_for(&keeper);
    ck_assert_str_eq(keeper.end.result, "1");
    ck_assert_int_eq(keeper.marked, 0);
    run_done(&keeper);
}
END_TEST

/* Who wipes its environment and detaches escapes, but delays nothing, even when it holds the pipes.
 */
START_TEST(the_escaped_delays_nothing)
{
    struct run run;
    run_script(&run,
               "(env -i setsid sh -c 'echo $$; exec sleep 100' &) | { read pid; echo $pid; }; "
               "echo 1 >&3",
               (struct attempt_spec){0});
    ck_assert_str_eq(run.end.result, "1");
    pid_t escaped = (pid_t)atoi(buffer_text(&run.log));
    ck_assert_int_gt(escaped, 0);
    ck_assert_int_eq(waitpid(escaped, NULL, WNOHANG), 0); /* it lives */
    kill(escaped, SIGKILL);
    ck_assert_int_eq(waitpid(escaped, NULL, 0), escaped);
    run_done(&run);
}
END_TEST

/* Whose the detached process is cannot be read while there is no descriptor; nor may it be guessed.
 * The first row leaves none but the one that sweeps have for themselves. */
START_TEST(without_descriptors_nobody_is_overlooked)
{
    for (int spare = 1; spare >= 0; spare--) {
        struct rlimit before;
        struct run run;
        getrlimit(RLIMIT_NOFILE, &before);
        start_script(&run, "(setsid sleep 100 &) ; echo ready; sleep 0.1",
                     (struct attempt_spec){0});
        wait_for_output(&run);
        int highest = dup(STDIN_FILENO);
        close(highest);
        setrlimit(RLIMIT_NOFILE, &(struct rlimit){spare ? (rlim_t)highest : 4, before.rlim_max});
        int64_t until_us = clock_mono_us() + (spare ? SOON_US : 400000);
        for (; run.ends == 0 && clock_mono_us() < until_us; usleep(1000))
            uv_run(&loop, UV_RUN_NOWAIT);
        setrlimit(RLIMIT_NOFILE, &before);
        ck_assert_int_eq(run.ends, spare);
        if (!spare)
            wait_for(&run);
        ck_assert_int_eq(run.end.outcome, ATTEMPT_SUCCESS);
        ck_assert(!run.end.left_behind);
        ck_assert_int_eq(count_marked(), 0);
        run_done(&run);
    }
}
END_TEST

/* The sweeps look for its exit instead. */
START_TEST(one_that_nothing_watches_ends_as_well)
{
    struct run run;
    lacks_descriptor = true;
    run_script(&run, "(setsid sleep 100 &) ; exit 3", (struct attempt_spec){0});
    ck_assert_int_eq(run.end.exit_status, 3);
    ck_assert_int_eq(run.marked, 0);
    run_done(&run);
    start_script(&run, "trap '' TERM; echo ready; sleep 100",
                 (struct attempt_spec){.grace_ms = 100});
    wait_for_output(&run);
    attempt_stop(run.attempt, STOP_CANCELED);
    wait_for(&run);
    ck_assert_int_eq(run.end.signal, SIGKILL);
    ck_assert(!run.end.left_behind);
    run_done(&run);
}
END_TEST

/* Of each it takes a while to know that it is nobody's, and there is always one of these. */
START_TEST(what_another_makes_holds_nobody_up)
{
    static const char *const argv[] = {"/usr/bin/python3", "-uc",
                                       "import os, time\n"
                                       "print('ready')\n"
                                       "while True:\n"
                                       "    child = os.fork()\n"
                                       "    if child == 0:\n"
                                       "        os.setsid()\n"
                                       "        os.fork() and os._exit(0)\n"
                                       "        os.execve('/bin/sleep', ['sleep', '0.3'], {})\n"
                                       "    os.waitpid(child, 0)\n"
                                       "    time.sleep(0.02)\n",
                                       NULL};
    struct run other, run;
    start(&other, &(struct attempt_spec){.argv = argv, .envp = environment});
    wait_for_output(&other);
    for (int i = 0; i < 3; i++) {
        usleep(100000);
        run_script(&run, "exit 0", (struct attempt_spec){0});
        ck_assert(!run.end.left_behind);
        run_done(&run);
    }
    attempt_kill(other.attempt, STOP_CANCELED);
    wait_for(&other);
    run_done(&other);
    while (waitpid(-1, NULL, 0) > 0)
        continue;
}
END_TEST

static int64_t own_cpu_us(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * US_PER_SECOND +
           usage.ru_utime.tv_usec + usage.ru_stime.tv_usec;
}

static void note_end(struct attempt *attempt, struct attempt_end *end, void *context)
{
    (void)attempt;
    (void)end;
    *(bool *)context = true;
}

/* However many are left behind, the loop goes on. */
START_TEST(many_leftovers_hold_nobody_up)
{
    static const char *const argv[] = {
        "/bin/sh", "-c", "for i in $(seq 500); do setsid sleep 100 & done; exit 0", NULL};
    bool has_ended = false;
    int64_t longest_us = 0;
    executor_start(executor, &(struct attempt_spec){.argv = argv, .envp = environment}, note_end,
                   &has_ended);
    while (!has_ended) {
        int64_t before_us = own_cpu_us();
        uv_run(&loop, UV_RUN_ONCE);
        int64_t took_us = own_cpu_us() - before_us;
        longest_us = took_us > longest_us ? took_us : longest_us;
    }
    ck_assert_msg(longest_us < 15000, "%d us", (int)longest_us);
}
END_TEST

/* A process whose death its tracer has not noticed cannot be reaped: stands for one that cannot be
 * killed. */
static pid_t start_tracer(pid_t traced)
{
    int ready[2];
    char byte;
    ck_assert_int_eq(pipe(ready), 0);
    pid_t tracer = fork();
    if (tracer == 0) {
        if (ptrace(PTRACE_SEIZE, traced, NULL, NULL) == 0 && write(ready[1], "x", 1) == 1)
            pause();
        _exit(1);
    }
    close(ready[1]);
    bool seized = read(ready[0], &byte, 1) == 1;
    close(ready[0]);
    if (seized)
        return tracer;
    waitpid(tracer, NULL, 0);
    return -1;
}

START_TEST(what_cannot_be_killed_ends_by_deadline)
{
    struct run run, other;
    start_script(&run, "(setsid sh -c 'echo $$; exec sleep 100' &) ; sleep 100",
                 (struct attempt_spec){0});
    wait_for_output(&run);
    struct buffer text = {0};
    log_ring_text(attempt_log(run.attempt), &text);
    pid_t tracer = start_tracer((pid_t)atoi(buffer_text(&text)));
    buffer_done(&text);
    int64_t begun_us = clock_mono_us();
    attempt_stop(run.attempt, STOP_CANCELED);
    wait_for(&run);
    ck_assert_int_eq(run.end.outcome, ATTEMPT_STOPPED);
    if (tracer > 0) { /* where the system lets siblings trace each other */
        ck_assert(run.end.left_behind);
        ck_assert_int_ge(clock_mono_us() - begun_us, 990000);
        kill(tracer, SIGKILL);
        waitpid(tracer, NULL, 0);
    }
    run_done(&run);
    /* Its end sweeps up the other one too, which tear_down proves. */
    run_script(&other, "exit 0", (struct attempt_spec){0});
    run_done(&other);
}
END_TEST

static void pause_for_ever(void)
{
    for (;;)
        pause();
}

/* The death of the leader itself is its tracer's first: the loop is at rest until we hear of it. */
START_TEST(a_tracer_that_does_not_look_keeps_nobody_busy)
{
    struct run run, other;
    int turns = 0;
    start_script(&run, "echo ready; sleep 100", (struct attempt_spec){0});
    wait_for_output(&run);
    pid_t tracer = start_tracer(attempt_pid(run.attempt));
    attempt_kill(run.attempt, STOP_CANCELED);
    for (; run.ends == 0; turns++)
        uv_run(&loop, UV_RUN_ONCE);
    ck_assert_int_lt(turns, 1000);
    ck_assert_int_eq(run.end.left_behind, tracer > 0);
    run_done(&run);
    if (tracer > 0) {
        kill(tracer, SIGKILL);
        waitpid(tracer, NULL, 0);
    }
    for (int i = 0; i < 2; i++) { /* the first sweep hears of it, the next one ends it */
        run_script(&other, "exit 0", (struct attempt_spec){0});
        run_done(&other);
    }
}
END_TEST

/* Makes a pid namespace with a child of our own as its first process, kills that and keeps it from
 * finishing its exit: it waits until the others in there are reaped. */
static void hold_in_exit(int ready)
{
    if (unshare(CLONE_NEWPID) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWPID) < 0)
        _exit(1);
    pid_t first = (pid_t)syscall(SYS_clone, CLONE_PARENT | SIGCHLD, NULL, NULL, NULL, NULL);
    if (first < 0)
        _exit(1);
    pid_t other = first > 0 ? fork() : 0;
    if (other == 0)
        pause_for_ever();
    kill(first, SIGKILL);
    if (other > 0 && write(ready, &first, sizeof first) == sizeof first)
        pause_for_ever();
    _exit(1);
}

/* A child that has begun to exit and hangs there, as one does whose file system does not answer the
 * close, until `*holder` dies; -1 where that cannot be had. */
static pid_t start_exiting(pid_t *holder)
{
    int ready[2];
    pid_t pid;
    struct buffer text = {0};
    ck_assert_int_eq(pipe(ready), 0);
    *holder = fork();
    if (*holder == 0)
        hold_in_exit(ready[1]);
    close(ready[1]);
    bool is_held = read(ready[0], &pid, sizeof pid) == sizeof pid;
    close(ready[0]);
    if (!is_held) {
        waitpid(*holder, NULL, 0);
        return -1;
    }
    while (proc_read(pid, "environ", PROC_MAX_ENVIRONMENT, &text) == 0 && text.size > 0)
        usleep(1000);
    buffer_done(&text);
    return pid;
}

/* What began before it may have left it, whatever began later has not. */
START_TEST(who_hangs_in_exit_holds_up_none_that_is_younger)
{
    enum { TICK_US = 10000 };
    struct run older, younger;
    pid_t holder;
    start_script(&older, "echo ready; sleep 100", (struct attempt_spec){0});
    wait_for_output(&older);
    pid_t exiting = start_exiting(&holder);
    usleep(2 * TICK_US);
    for (int i = 0; i < 3; i++) {
        run_script(&younger, "(setsid sleep 100 &) ; exit 0", (struct attempt_spec){0});
        ck_assert(!younger.end.left_behind);
        run_done(&younger);
    }
    attempt_kill(older.attempt, STOP_CANCELED);
    wait_for(&older);
    ck_assert_int_eq(older.end.left_behind, exiting > 0);
    run_done(&older);
    if (exiting < 0)
        return;
    kill(holder, SIGKILL);
    waitpid(holder, NULL, 0);
    do { /* each end sweeps, and at last it is gone, and with it what is left of the older one */
        run_script(&younger, "exit 0", (struct attempt_spec){0});
        run_done(&younger);
    } while (kill(exiting, 0) == 0);
}
END_TEST

/* --- stopping -------------------------------------------------------------------------------- */

START_TEST(stop_before_the_start_starts_nothing)
{
    struct run run;
    start_script(&run, "exit 0", (struct attempt_spec){.input = mem_text("null"), .input_size = 4});
    attempt_stop(run.attempt, STOP_FENCED);
    attempt_stop(run.attempt, STOP_CANCELED);
    ck_assert_int_eq(run.ends, 0);
    wait_for(&run);
    ck_assert_int_eq(run.end.outcome, ATTEMPT_STOPPED);
    ck_assert_int_eq(run.end.why, STOP_FENCED);
    ck_assert_int_eq(run.end.started_us, 0);
    run_done(&run);
}
END_TEST

/* After the turn that hands the start to its thread, which takes longer than the turn. */
START_TEST(stop_while_it_starts)
{
    static void (*const ways[])(struct attempt *, enum stop_reason) = {attempt_stop, attempt_kill};
    static const char *const programs[] = {"sleep 100", "(setsid sleep 100 &) ; sleep 100", NULL};
    for (int i = 0; i < 6; i++) {
        const char *argv[] = {programs[i / 2] ? "/bin/sh" : "no-such-program", "-c",
                              programs[i / 2], NULL};
        struct run run;
        int64_t begun_us = clock_mono_us();
        start(&run, &(struct attempt_spec){
                        .argv = argv, .envp = environment, .grace_ms = i % 2 ? 60000 : 1000});
        uv_run(&loop, UV_RUN_NOWAIT);
        ways[i % 2](run.attempt, STOP_FENCED);
        attempt_stop(run.attempt, STOP_CANCELED);
        wait_for(&run);
        ck_assert_int_eq(run.end.outcome, ATTEMPT_STOPPED);
        ck_assert_int_eq(run.end.why, STOP_FENCED);
        ck_assert(!run.end.left_behind);
        ck_assert_int_eq(run.marked, 0);
        ck_assert_int_lt(clock_mono_us() - begun_us, SOON_US);
        run_done(&run);
    }
}
END_TEST

static void wait_until_set(uv_work_t *work)
{
    while (!atomic_load((atomic_bool *)work->data))
        usleep(1000);
}

/* As when the pool is busy with servers that do not answer, until it is set. */
static atomic_bool pool_is_free;

static void block_pool(void)
{
    enum { THREADS = 4 }; /* libuv's default */
    static uv_work_t works[THREADS];
    for (int i = 0; i < THREADS; i++) {
        works[i].data = &pool_is_free;
        uv_queue_work(&loop, &works[i], wait_until_set, NULL);
    }
}

/* Told once, with the attempt, by a loop that has nothing else to do. */
START_TEST(a_start_that_does_not_come_back_is_told)
{
    struct run run;
    char text[1024] = "", expected[256];
    int ends[2], saved = dup(STDERR_FILENO);
    struct executor *waiting = executor;
    executor = executor_new(&loop, &(struct executor_options){.start_wait_ms = 1});
    ck_assert_int_eq(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
    dup2(ends[1], STDERR_FILENO);
    block_pool();
    start_script(&run, "exit 0", (struct attempt_spec){0});
    int64_t until_us = clock_mono_us() + SOON_US;
    for (ssize_t n = 0; n <= 0 && clock_mono_us() < until_us; usleep(10000)) {
        uv_run(&loop, UV_RUN_NOWAIT);
        n = read(ends[0], text, sizeof text / 2);
    }
    until_us = clock_mono_us() + 2500000; /* with another idle sweep */
    while (clock_mono_us() < until_us && usleep(10000) == 0)
        uv_run(&loop, UV_RUN_NOWAIT);
    dup2(saved, STDERR_FILENO);
    if (read(ends[0], text + strlen(text), sizeof text / 2 - 1) > 0)
        ck_abort_msg("told again: %s", text);
    snprintf(expected, sizeof expected, " attempt=%s.1 ", strchr(mark, '=') + 1);
    const char *line = strstr(text, "does not come back");
    ck_assert_msg(line && strstr(line, expected), "%s", text);
    atomic_store(&pool_is_free, true);
    wait_for(&run);
    ck_assert_int_eq(run.end.outcome, ATTEMPT_SUCCESS);
    run_done(&run);
    executor_close(executor, NULL, NULL);
    executor = waiting;
    close(ends[0]);
    close(ends[1]);
    close(saved);
}
END_TEST

START_TEST(stop_before_a_thread_comes_to_the_start)
{
    struct run run;
    block_pool();
    start_script(&run, "exit 0", (struct attempt_spec){.grace_ms = 60000});
    uv_run(&loop, UV_RUN_NOWAIT);
    attempt_stop(run.attempt, STOP_FENCED);
    wait_for(&run);
    ck_assert_int_eq(run.end.outcome, ATTEMPT_STOPPED);
    ck_assert_int_eq(run.end.why, STOP_FENCED);
    ck_assert_int_eq(run.end.started_us, 0);
    atomic_store(&pool_is_free, true);
    run_done(&run);
}
END_TEST

/* A grace of a minute is not waited for. */
START_TEST(stops)
{
    enum { GRACE_MS = 60000 };
    static const struct {
        const char *script; /* prints when it is ready */
        int64_t grace_ms;
        int signal, exit_status;
        int64_t least_ms;
        const char *log;
    } rows[] = {
        {"echo ready; sleep 100", GRACE_MS, 15, -1, 0, "ready\n"},
        {"trap '' TERM; echo ready; sleep 100", 200, 9, -1, 200, "ready\n"},
        {"sleep 100 & trap 'echo bye; exit 4' TERM; echo ready; wait", GRACE_MS, 0, 4, 0,
         "ready\nbye\n"},
        /* The shell goes at once, what it was waiting for keeps its grace. */
        {"sh -c 'trap \"sleep 0.2; echo bye; exit 0\" TERM; echo ready; while :; do :; "
         "done'; :",
         GRACE_MS, 15, -1, 200, "ready\nbye\n"},
        /* A helper in another session is told, too, and once. */
        {"(setsid sh -c 'trap \"\" TERM; sleep 1 & trap \"echo bye\" TERM; echo ready; wait; "
         "wait' &) ; sleep 100",
         GRACE_MS, 15, -1, 100, "ready\nbye\n"},
        {"(setsid sh -c 'trap \"\" TERM; echo ready; sleep 100' &) ; sleep 100", 200, 15, -1, 200,
         "ready\n"},
        /* What the shell waits for is told in a group or session of its own, too. */
        {"exec 2>&-; trap 'echo bye; exit 3' TERM; (sleep 0.3; echo ready) & timeout 100 sleep 100",
         GRACE_MS, 0, 3, 0, "ready\nbye\n"},
        {"exec 2>&-; trap 'echo bye; exit 3' TERM; (sleep 0.3; echo ready) & setsid -w sh -c "
         "'sleep 100; :'",
         GRACE_MS, 0, 3, 0, "ready\nbye\n"},
        {"echo ready; kill -STOP $$", GRACE_MS, 15, -1, 0, "ready\n"},
        {"echo ready; kill -STOP $$", 0, 9, -1, 0, "ready\n"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct run run;
        start_script(&run, rows[i].script, (struct attempt_spec){.grace_ms = rows[i].grace_ms});
        wait_for_output(&run);
        int64_t begun_us = clock_mono_us();
        attempt_stop(run.attempt, STOP_CANCELED);
        attempt_stop(run.attempt, STOP_NODE_STOPPING);
        wait_for(&run);
        int64_t took_ms = (clock_mono_us() - begun_us) / 1000;
        ck_assert_msg(run.end.outcome == ATTEMPT_STOPPED && run.end.why == STOP_CANCELED &&
                          run.end.signal == rows[i].signal &&
                          run.end.exit_status == rows[i].exit_status && run.marked == 0,
                      "%s: outcome %d, signal %d, exit status %d, %d left", rows[i].script,
                      run.end.outcome, run.end.signal, run.end.exit_status, run.marked);
        ck_assert_msg(took_ms >= rows[i].least_ms - 5 && took_ms < SOON_US / 1000, "%s: took %d ms",
                      rows[i].script, (int)took_ms);
        ck_assert_msg(strcmp(buffer_text(&run.log), rows[i].log) == 0, "%s: printed %s",
                      rows[i].script, buffer_text(&run.log));
        ck_assert_str_eq(run.end.result, "{\"exception\":\"canceled\",\"traceback\":\"\"}");
        run_done(&run);
    }
}
END_TEST

START_TEST(kill_does_not_wait_for_the_grace)
{
    struct run run;
    int64_t begun_us = clock_mono_us();
    start_script(&run, "trap '' TERM; echo ready; sleep 100",
                 (struct attempt_spec){.grace_ms = 60000});
    wait_for_output(&run);
    attempt_stop(run.attempt, STOP_NODE_STOPPING);
    uv_run(&loop, UV_RUN_NOWAIT);
    ck_assert_int_eq(run.ends, 0);
    ck_assert_uint_eq(executor_count(executor), 1);
    executor_kill_all(executor, STOP_NODE_STOPPING);
    wait_for(&run);
    ck_assert_uint_eq(executor_count(executor), 0);
    ck_assert_int_eq(run.end.signal, SIGKILL);
    ck_assert_int_lt(clock_mono_us() - begun_us, SOON_US);
    run_done(&run);
}
END_TEST

/* Queued, starting and running ones, after so many turns; tear_down finds that nothing is left. */
START_TEST(closing_ends_all)
{
    enum { COUNT = 30 };
    static struct run runs[COUNT];
    bool closed = false;
    for (int i = 0; i < COUNT; i++)
        start_script(&runs[i], "(setsid sleep 100 &) ; sleep 100",
                     (struct attempt_spec){.grace_ms = 60000});
    for (int i = 0; i < _i; i++)
        uv_run(&loop, UV_RUN_ONCE);
    executor_close(executor, note_closed, &closed);
    uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert(closed);
    for (int i = 0; i < COUNT; i++) {
        ck_assert_int_eq(runs[i].ends, 1);
        ck_assert_int_eq(runs[i].end.outcome, ATTEMPT_STOPPED);
        run_done(&runs[i]);
    }
    executor = executor_new(&loop, NULL); /* for tear_down */
}
END_TEST

/* A sweep may begin while the executor closes, and not come to its end in its turn. */
START_TEST(closing_amid_a_sweep)
{
    enum { STRANGERS = 50, IDLE_US = 2100000 };
    pid_t strangers[STRANGERS];
    bool closed = false;
    struct executor *swept = executor_new(&loop, &(struct executor_options){.turn_budget_us = 1});
    for (int i = 0; i < STRANGERS; i++) {
        strangers[i] = fork();
        if (strangers[i] == 0)
            pause_for_ever();
    }
    usleep(IDLE_US);
    executor_close(swept, note_closed, &closed);
    uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert(closed);
    for (int i = 0; i < STRANGERS; i++) {
        kill(strangers[i], SIGKILL);
        waitpid(strangers[i], NULL, 0);
    }
}
END_TEST

/* --- in control groups ------------------------------------------------------------------------ */

/* Nothing tells whose they are, but where they are. */
START_TEST(nobody_escapes_a_group)
{
    static const char *const scripts[] = {
        "(env -i setsid sleep 100 &) ; echo ready; exit 0",
        "(env -i setsid sh -c 'trap \"\" TERM; sleep 100' &) ; echo ready; sleep 100",
    };
    for (size_t i = 0; delegated && i < sizeof scripts / sizeof *scripts; i++) {
        struct run run;
        start_script(&run, scripts[i], (struct attempt_spec){.grace_ms = 100});
        char *group = mem_format("%s/%s.1", tree.tasks, strchr(mark, '=') + 1);
        wait_for_output(&run);
        if (run.attempt)
            attempt_stop(run.attempt, STOP_CANCELED);
        wait_for(&run);
        ck_assert_int_gt(run.end.cpu_us, 0);
        ck_assert(!run.end.left_behind);
        ck_assert(!cgroup_is_populated(group));
        run_done(&run);
        free(group);
    }
}
END_TEST

/* Whose he is need not be read from the memory of the one that hangs. */
START_TEST(who_hangs_in_a_group_holds_nobody_up)
{
    struct run run;
    struct buffer text = {0};
    if (!delegated)
        return;
    start_script(&run, "(setsid sh -c 'echo $$; exec sleep 100' &) ; sleep 100",
                 (struct attempt_spec){0});
    wait_for_output(&run);
    log_ring_text(attempt_log(run.attempt), &text);
    hanging = (pid_t)atoi(buffer_text(&text));
    buffer_done(&text);
    attempt_stop(run.attempt, STOP_CANCELED);
    wait_for(&run);
    ck_assert_int_eq(run.end.outcome, ATTEMPT_STOPPED);
    ck_assert(!run.end.left_behind);
    run_done(&run);
}
END_TEST

/* What holds for attempts however they are started. */
static void add_common_tests(TCase *tcase)
{
    tcase_add_test(tcase, nothing_is_left);
    tcase_add_test(tcase, others_are_left_alone);
    tcase_add_test(tcase, stop_before_the_start_starts_nothing);
    tcase_add_test(tcase, stop_while_it_starts);
    tcase_add_test(tcase, stops);
    tcase_add_test(tcase, kill_does_not_wait_for_the_grace);
}

int main(void)
{
    Suite *suite = suite_create("process_end");
    TCase *plain = add_plain_case(suite);
    TCase *grouped = add_grouped_case(suite);
    add_common_tests(plain);
    tcase_add_test(plain, a_start_that_does_not_come_back_is_told);
    tcase_add_test(plain, stop_before_a_thread_comes_to_the_start);
    tcase_add_test(plain, the_escaped_delays_nothing);
    tcase_add_test(plain, without_descriptors_nobody_is_overlooked);
    tcase_add_test(plain, one_that_nothing_watches_ends_as_well);
    tcase_add_test(plain, what_another_makes_holds_nobody_up);
    tcase_add_test(plain, many_leftovers_hold_nobody_up);
    tcase_add_test(plain, what_cannot_be_killed_ends_by_deadline);
    tcase_add_test(plain, a_tracer_that_does_not_look_keeps_nobody_busy);
    tcase_add_test(plain, who_hangs_in_exit_holds_up_none_that_is_younger);
    tcase_add_loop_test(plain, closing_ends_all, 0, 6);
    tcase_add_test(plain, closing_amid_a_sweep);
    add_common_tests(grouped);
    tcase_add_test(grouped, nobody_escapes_a_group);
    tcase_add_test(grouped, who_hangs_in_a_group_holds_nobody_up);
    return unit_run(suite);
}
