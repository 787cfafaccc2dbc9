/* Real processes on a real loop, started plainly, and in control groups of their own. */
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/memory.h"
#include "tests/unit/executor/attempt_fixture.h"
#include "tests/unit/executor/cgroup_fixture.h"

static void run_argv(struct run *run, const char *const *argv, const char *cwd)
{
    start(run, &(struct attempt_spec){.argv = argv, .envp = environment, .cwd = cwd});
    wait_for(run);
}

static void on_output(struct attempt *attempt, enum output_stream stream, const char *text,
                      size_t size, int64_t at_us, void *context)
{
    (void)attempt;
    (void)stream;
    (void)text;
    (void)at_us;
    ((struct run *)context)->heard += (int64_t)size;
}

/* --- ends ----------------------------------------------------------------------------------------
 */

START_TEST(ends)
{
    static const struct {
        const char *script;
        struct attempt_spec spec;
        enum attempt_outcome outcome;
        int exit_status, signal;
        const char *result; /* NULL is null */
    } rows[] = {
        {"exit 0", {0}, ATTEMPT_SUCCESS, 0, 0, NULL},
        {"echo '{\"n\": 1}' >&3", {0}, ATTEMPT_SUCCESS, 0, 0, "{\"n\": 1}"},
        {"echo 7 > /dev/fd/3", {0}, ATTEMPT_SUCCESS, 0, 0, "7"},
        {"echo 7 >&3; exit 3",
         {0},
         ATTEMPT_FAILED,
         3,
         0,
         "{\"exception\":\"exit status 3\",\"traceback\":\"\"}"},
        {"exit 255",
         {0},
         ATTEMPT_FAILED,
         255,
         0,
         "{\"exception\":\"exit status 255\",\"traceback\":\"\"}"},
        {"echo out; echo oops >&2; exit 2",
         {0},
         ATTEMPT_FAILED,
         2,
         0,
         "{\"exception\":\"exit status 2\",\"traceback\":\"oops\\n\"}"},
        {"kill -9 $$",
         {0},
         ATTEMPT_FAILED,
         -1,
         9,
         "{\"exception\":\"killed by signal 9 (SIGKILL)\",\"traceback\":\"\"}"},
        {"kill -SEGV $$",
         {0},
         ATTEMPT_FAILED,
         -1,
         11,
         "{\"exception\":\"killed by signal 11 (SIGSEGV)\",\"traceback\":\"\"}"},
        {"echo '{' >&3", {0}, ATTEMPT_BAD_RESULT, 0, 0, NULL},
        {"echo 12345 >&3",
         {.max_result_bytes = 5},
         ATTEMPT_BAD_RESULT,
         0,
         0,
         "{\"exception\":\"the result is larger than 5 bytes\",\"traceback\":\"\"}"},
        {"printf 12345 >&3", {.max_result_bytes = 5}, ATTEMPT_SUCCESS, 0, 0, "12345"},
        {"echo hello", {.result = RESULT_STDOUT}, ATTEMPT_SUCCESS, 0, 0, "\"hello\""},
        {"echo '[1]'", {.result = RESULT_STDOUT}, ATTEMPT_SUCCESS, 0, 0, "[1]"},
        {"echo 1; echo 2 >&3", {.result = RESULT_NONE}, ATTEMPT_SUCCESS, 0, 0, NULL},
        {"sleep 100",
         {.timeout_ms = 50},
         ATTEMPT_TIMED_OUT,
         -1,
         9,
         "{\"exception\":\"timed out after 50ms\",\"traceback\":\"\"}"},
        {"sleep 100",
         {.timeout_ms = 50, .grace_ms = 5000},
         ATTEMPT_TIMED_OUT,
         -1,
         15,
         "{\"exception\":\"timed out after 50ms\",\"traceback\":\"\"}"},
        {"kill -STOP $$",
         {.timeout_ms = 50, .grace_ms = 5000},
         ATTEMPT_TIMED_OUT,
         -1,
         15,
         "{\"exception\":\"timed out after 50ms\",\"traceback\":\"\"}"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct run run;
        int64_t before_us = clock_wall_us();
        run_script(&run, rows[i].script, rows[i].spec);
        ck_assert_msg(run.end.outcome == rows[i].outcome &&
                          run.end.exit_status == rows[i].exit_status &&
                          run.end.signal == rows[i].signal,
                      "%s: outcome %d, exit status %d, signal %d, %s", rows[i].script,
                      run.end.outcome, run.end.exit_status, run.end.signal, run.end.result);
        if (rows[i].result)
            ck_assert_msg(run.end.result && strcmp(run.end.result, rows[i].result) == 0,
                          "%s: got %s", rows[i].script, run.end.result);
        else if (rows[i].outcome == ATTEMPT_SUCCESS)
            ck_assert_msg(!run.end.result, "%s: got %s", rows[i].script, run.end.result);
        else
            ck_assert_ptr_nonnull(strstr(run.end.result, "the result is no JSON: "));
        ck_assert_int_ge(run.end.started_us, before_us);
        ck_assert_int_ge(run.end.ended_us, run.end.started_us);
        ck_assert(!run.end.left_behind);
        ck_assert_int_eq(run.marked, 0);
        run_done(&run);
    }
}
END_TEST

START_TEST(cannot_run)
{
    static char too_long[256 * 1024];
    char folder[] = "/tmp/test-process-XXXXXX";
    ck_assert_ptr_nonnull(mkdtemp(folder));
    char *plain = mem_format("%s/plain", folder);
    char *lost = mem_format("%s/lost", folder);
    FILE *file = fopen(plain, "w");
    fclose(file);
    file = fopen(lost, "w");
    fputs("#!/no/such/interpreter\n", file);
    fclose(file);
    chmod(lost, 0755);
    memset(too_long, 'x', sizeof too_long - 1);
    const struct {
        const char *argv[3];
        const char *cwd;
        const char *wanted;
    } rows[] = {
        {{"/no/such/program"}, NULL, "cannot run '/no/such/program': No such file or directory\""},
        {{"no-such-program"}, NULL, "no executable program 'no-such-program' in the PATH /usr/loc"},
        {{plain}, NULL, "Permission denied"},
        {{lost}, NULL, "(the file is there, but not the interpreter"},
        {{"/tmp"}, NULL, "cannot run '/tmp': Permission denied"},
        {{"true", too_long}, NULL, "Argument list too long"},
        {{"true"}, "/no/such/folder", "cannot enter directory '/no/such/folder': No such file"},
        {{"true"}, plain, "Not a directory"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct run run;
        run_argv(&run, rows[i].argv, rows[i].cwd);
        ck_assert_int_eq(run.end.outcome, ATTEMPT_SPAWN_FAILED);
        ck_assert_int_eq(run.end.exit_status, -1);
        ck_assert_msg(strstr(run.end.result, rows[i].wanted), "row %zu: %s", i, run.end.result);
        run_done(&run);
    }
    unlink(plain);
    unlink(lost);
    rmdir(folder);
    free(plain);
    free(lost);
}
END_TEST

/* Who runs a file that somebody has leased waits until that is given back, for 45 s at most: stands
 * for a file system that does not answer. The loop goes on, and the attempt can be ended. */
START_TEST(an_unreachable_program_hangs_its_task_only)
{
    char file[] = "/tmp/test-process-XXXXXX";
    struct run run;
    signal(SIGIO, SIG_IGN);
    int fd = mkstemp(file);
    ck_assert_int_ge(fd, 0);
    fchmod(fd, 0755);
    close(fd);
    fd = open(file, O_RDONLY | O_CLOEXEC);
    if (fcntl(fd, F_SETLEASE, F_WRLCK) == 0) {
        const char *const argv[] = {file, NULL};
        int64_t begun_us = clock_mono_us();
        start(&run, &(struct attempt_spec){.argv = argv, .envp = environment, .timeout_ms = 100});
        wait_for(&run);
        ck_assert_int_eq(run.end.outcome, ATTEMPT_TIMED_OUT);
        ck_assert(!run.end.left_behind);
        ck_assert_int_lt(clock_mono_us() - begun_us, 20 * US_PER_SECOND);
        run_done(&run);
    }
    close(fd);
    unlink(file);
}
END_TEST

START_TEST(no_room_is_not_an_attempt)
{
    struct rlimit before;
    struct run run;
    getrlimit(RLIMIT_NOFILE, &before);
    struct rlimit few = before;
    few.rlim_cur = 4;
    setrlimit(RLIMIT_NOFILE, &few);
    start_script(&run, "exit 0", (struct attempt_spec){0});
    while (run.ends == 0)
        uv_run(&loop, UV_RUN_ONCE);
    setrlimit(RLIMIT_NOFILE, &before);
    ck_assert_int_eq(run.end.outcome, ATTEMPT_NO_ROOM);
    ck_assert_int_eq(run.end.started_us, 0);
    ck_assert_ptr_nonnull(strstr(run.end.result, "Too many open files"));
    run_done(&run);
    run_script(&run, "exit 0", (struct attempt_spec){0});
    ck_assert_int_eq(run.end.outcome, ATTEMPT_SUCCESS);
    run_done(&run);
}
END_TEST

/* --- what the program finds ----------------------------------------------------------------------
 */

START_TEST(surroundings)
{
    static const struct {
        const char *script;
        const char *cwd;
        const char *wanted;
    } rows[] = {
        {"pwd", NULL, "/\n"},
        {"pwd", "/tmp", "/tmp\n"},
        {"echo /proc/self/fd/*", NULL,
         "/proc/self/fd/0 /proc/self/fd/1 /proc/self/fd/2 /proc/self/fd/3 /proc/self/fd/4\n"},
        {"for i in 0 1 2 3; do test -p /dev/fd/$i && echo $i; done", NULL, "0\n1\n2\n3\n"},
        {"read a b c d group session rest </proc/$$/stat; echo $((group - $$)) $((session - $$))",
         NULL, "0 0\n"},
        /* 32 and 33 are the C library's own, which it leaves ignored. */
        {"grep -E 'Sig(Blk|Ign)' /proc/self/status | sed s/000180000000/000000000000/", NULL,
         "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n"},
        {"sleep 0.1; cat /proc/self/oom_score_adj", NULL, "500\n"},
        {"env | grep -vE '^(PWD|SHLVL|_|DIRECTOR_TASK_ID)='|sort", NULL,
         "DIRECTOR_ATTEMPT=1\nPATH=/usr/local/bin:/usr/bin:/bin\n"},
    };
    sigset_t blocked;
    int stray = dup(STDIN_FILENO);
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR1);
    sigprocmask(SIG_BLOCK, &blocked, NULL);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct run run;
        run_script(&run, rows[i].script, (struct attempt_spec){.cwd = rows[i].cwd});
        ck_assert_msg(strcmp(buffer_text(&run.log), rows[i].wanted) == 0, "%s: got %s",
                      rows[i].script, buffer_text(&run.log));
        run_done(&run);
    }
    close(stray);
}
END_TEST

START_TEST(path_of_the_task_is_searched)
{
    static const struct {
        const char *path;
        const char *cwd;
        enum attempt_outcome outcome;
    } rows[] = {
        {"PATH=/no/such:/usr/bin:/bin", NULL, ATTEMPT_SUCCESS},
        {"PATH=/no/such", NULL, ATTEMPT_SPAWN_FAILED},
        {"PATH=", NULL, ATTEMPT_SPAWN_FAILED},
        {"PATH=", "/usr/bin", ATTEMPT_SUCCESS},
        {"PATH=/no/such:bin", "/usr", ATTEMPT_SUCCESS},
        {"X=1", NULL, ATTEMPT_SUCCESS},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct run run;
        start(&run, &(struct attempt_spec){.argv = (const char *[]){"true", NULL},
                                           .envp = (const char *[]){rows[i].path, NULL},
                                           .cwd = rows[i].cwd});
        wait_for(&run);
        ck_assert_msg(run.end.outcome == rows[i].outcome, "row %zu: %d", i, run.end.outcome);
        run_done(&run);
    }
}
END_TEST

static char *new_document(size_t size)
{
    char *document = mem_new(size, 1);
    memset(document, 'x', size);
    document[0] = document[size - 1] = '"';
    return document;
}

/* Over what a pipe holds, there and back. */
START_TEST(input_is_given_and_result_taken)
{
    enum { SIZE = 900 * 1024 };
    struct run run;
    run_script(&run, "cat >&3",
               (struct attempt_spec){.input = new_document(SIZE), .input_size = SIZE});
    ck_assert_int_eq(run.end.outcome, ATTEMPT_SUCCESS);
    ck_assert_uint_eq(run.end.result_size, SIZE);
    char *wanted = new_document(SIZE);
    ck_assert_int_eq(memcmp(run.end.result, wanted, SIZE), 0);
    free(wanted);
    run_done(&run);
}
END_TEST

START_TEST(input_may_be_refused)
{
    static const char *const scripts[] = {"exit 0", "exec <&-; sleep 0.05", "sleep 0.05"};
    for (size_t i = 0; i < sizeof scripts / sizeof *scripts; i++) {
        struct run run;
        run_script(&run, scripts[i],
                   (struct attempt_spec){.input = new_document(900000), .input_size = 900000});
        ck_assert_msg(run.end.outcome == ATTEMPT_SUCCESS, "%s: %s", scripts[i], run.end.result);
        run_done(&run);
    }
}
END_TEST

/* --- output ---------------------------------------------------------------------------------- */

START_TEST(huge_output_is_bounded)
{
    const int64_t size = INT64_C(200) * 1024 * 1024;
    struct run run;
    run_script(&run, "head -c 200M /dev/zero", (struct attempt_spec){0});
    ck_assert_int_eq(run.end.outcome, ATTEMPT_SUCCESS);
    ck_assert_int_eq(run.log_total, size);
    ck_assert_uint_eq(run.log_memory, ATTEMPT_LOG_LIMIT);
    run_done(&run);

    start_script(&run, "head -c 300000 /dev/urandom; head -c 300000 /dev/urandom >&2",
                 (struct attempt_spec){.log_limit = 4000, .on_output = on_output});
    wait_for(&run);
    ck_assert_int_eq(run.heard, 600000);
    ck_assert_int_eq(run.log_total, 600000);
    ck_assert_uint_eq(run.log_memory, 4000);
    run_done(&run);
}
END_TEST

START_TEST(output_of_an_instant_is_kept)
{
    struct run run;
    run_script(&run, "printf 'no newline \\377\\000 binary'; kill -9 $$", (struct attempt_spec){0});
    ck_assert_uint_eq(run.log.size, 20);
    ck_assert_int_eq(memcmp(run.log.data, "no newline \377\0 binary", 20), 0);
    run_done(&run);
}
END_TEST

static int ticks;

static void on_tick(uv_timer_t *timer)
{
    ticks++;
    if (ticks == 20)
        uv_timer_stop(timer);
}

START_TEST(endless_output_starves_nobody)
{
    struct run run;
    static uv_timer_t timer;
    int64_t begun_us = clock_mono_us();
    uv_timer_init(&loop, &timer);
    uv_timer_start(&timer, on_tick, 5, 5);
    start_script(&run, "yes", (struct attempt_spec){0});
    while (ticks < 20)
        uv_run(&loop, UV_RUN_ONCE);
    ck_assert_int_lt(clock_mono_us() - begun_us, 5 * US_PER_SECOND);
    attempt_stop(run.attempt, STOP_CANCELED);
    wait_for(&run);
    ck_assert_int_eq(run.end.outcome, ATTEMPT_STOPPED);
    ck_assert_int_gt(run.log_total, ATTEMPT_LOG_LIMIT);
    run_done(&run);
    uv_close((uv_handle_t *)&timer, NULL);
}
END_TEST

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
        /* Not as long as the sleeps, however busy the machine is. */
        ck_assert_msg(clock_mono_us() - begun_us < 20 * US_PER_SECOND, "%s: took long", scripts[i]);
        run_done(&run);
    }
}
END_TEST

/* The other attempts' helpers, however detached, are not touched. */
START_TEST(others_are_left_alone)
{
    struct run keeper, run;
    start_script(&keeper, "(setsid sh -c 'echo ready; sleep 0.3; echo 1 >&3' &) ; sleep 0.5",
                 (struct attempt_spec){0});
    wait_for_output(&keeper);
    environment[2] = "DIRECTOR_ATTEMPT=2";
    for (int i = 0; i < 5; i++) {
        run_script(&run, "(setsid sleep 100 &) ; exit 0", (struct attempt_spec){0});
        ck_assert_int_eq(run.end.outcome, ATTEMPT_SUCCESS);
        run_done(&run);
    }
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
    int64_t begun_us = clock_mono_us();
    run_script(&run, "(env -i setsid sleep 0.7 &) ; sleep 0.05; echo 1 >&3",
               (struct attempt_spec){0});
    ck_assert_int_lt(clock_mono_us() - begun_us, US_PER_SECOND / 2);
    ck_assert_str_eq(run.end.result, "1");
    run_done(&run);
    pid_t escaped = waitpid(-1, NULL, 0);
    ck_assert_int_gt(escaped, 0);
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
        for (int64_t end_us = clock_mono_us() + 400000; clock_mono_us() < end_us; usleep(1000))
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

START_TEST(stops)
{
    static const struct {
        const char *script; /* prints when it is ready */
        int64_t grace_ms;
        int signal, exit_status;
        int64_t least_ms, most_ms;
        const char *log;
    } rows[] = {
        {"echo ready; sleep 100", 5000, 15, -1, 0, 1000, "ready\n"},
        {"trap '' TERM; echo ready; sleep 100", 200, 9, -1, 200, 1000, "ready\n"},
        {"sleep 100 & trap 'echo bye; exit 4' TERM; echo ready; wait", 5000, 0, 4, 0, 1000,
         "ready\nbye\n"},
        /* The shell goes at once, what it was waiting for keeps its grace. */
        {"sh -c 'trap \"sleep 0.2; echo bye; exit 0\" TERM; echo ready; while :; do :; "
         "done'; :",
         5000, 15, -1, 200, 2000, "ready\nbye\n"},
        /* A helper in another session is told, too, and once. */
        {"(setsid sh -c 'trap \"\" TERM; sleep 0.4 & trap \"echo bye\" TERM; echo ready; wait; "
         "wait' &) ; sleep 100",
         5000, 15, -1, 100, 2000, "ready\nbye\n"},
        {"(setsid sh -c 'trap \"\" TERM; echo ready; sleep 100' &) ; sleep 100", 200, 15, -1, 200,
         1500, "ready\n"},
        /* What the shell waits for is told in a group or session of its own, too. */
        {"exec 2>&-; trap 'echo bye; exit 3' TERM; (sleep 0.3; echo ready) & timeout 100 sleep 100",
         10000, 0, 3, 0, 5000, "ready\nbye\n"},
        {"exec 2>&-; trap 'echo bye; exit 3' TERM; (sleep 0.3; echo ready) & setsid -w sh -c "
         "'sleep 100; :'",
         10000, 0, 3, 0, 5000, "ready\nbye\n"},
        {"echo ready; kill -STOP $$", 5000, 15, -1, 0, 1000, "ready\n"},
        {"echo ready; kill -STOP $$", 0, 9, -1, 0, 1000, "ready\n"},
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
        ck_assert_msg(took_ms >= rows[i].least_ms - 5 && took_ms <= rows[i].most_ms,
                      "%s: took %d ms", rows[i].script, (int)took_ms);
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
    executor_stop_all(executor, STOP_NODE_STOPPING);
    uv_run(&loop, UV_RUN_NOWAIT);
    ck_assert_int_eq(run.ends, 0);
    ck_assert_uint_eq(executor_count(executor), 1);
    executor_kill_all(executor, STOP_NODE_STOPPING);
    wait_for(&run);
    ck_assert_uint_eq(executor_count(executor), 0);
    ck_assert_int_eq(run.end.signal, SIGKILL);
    ck_assert_int_lt(clock_mono_us() - begun_us, 2 * US_PER_SECOND);
    run_done(&run);
}
END_TEST

/* Queued and running ones; tear_down finds that nothing is left. */
START_TEST(closing_ends_all)
{
    enum { COUNT = 30 };
    static struct run runs[COUNT];
    bool closed = false;
    for (int i = 0; i < COUNT; i++)
        start_script(&runs[i], "(setsid sleep 100 &) ; sleep 100",
                     (struct attempt_spec){.grace_ms = 60000});
    for (int i = 0; i < 3; i++)
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

/* --- many ------------------------------------------------------------------------------------ */

static int ended, succeeded;

static void count_end(struct attempt *attempt, struct attempt_end *end, void *context)
{
    (void)attempt;
    (void)context;
    ended++;
    succeeded += end->outcome == ATTEMPT_SUCCESS && !end->result;
}

START_TEST(many_processes)
{
    enum { COUNT = 300 };
    const struct attempt_spec spec = {.argv = (const char *[]){"true", NULL}, .envp = environment};
    for (int i = 0; i < COUNT; i++)
        executor_start(executor, &spec, count_end, NULL);
    ck_assert_uint_eq(executor_count(executor), COUNT);
    while (ended < COUNT)
        uv_run(&loop, UV_RUN_ONCE);
    ck_assert_int_eq(succeeded, COUNT);
    ck_assert_uint_eq(executor_count(executor), 0);
}
END_TEST

START_TEST(many_noops)
{
    enum { COUNT = 100000 };
    const struct attempt_spec spec = {.kind = EXECUTOR_NOOP};
    struct attempt *last = NULL;
    for (int i = 0; i < COUNT; i++)
        last = executor_start(executor, &spec, count_end, NULL);
    attempt_stop(last, STOP_CANCELED);
    ck_assert_int_eq(ended, 0);
    uv_run(&loop, UV_RUN_ONCE);
    ck_assert_int_eq(ended, COUNT);
    ck_assert_int_eq(succeeded, COUNT - 1);
}
END_TEST

/* --- in control groups ------------------------------------------------------------------------ */

static const char *delegated;
static struct cgroup_tree tree;

static void set_up_cgroups(void)
{
    delegated = cgroup_fixture_make();
    if (delegated)
        ck_assert_int_eq(cgroup_tree_open(delegated, &tree, NULL), 0);
    fixture_set_up(&(struct executor_options){
        .kill_wait_ms = 1000, .cgroups = &tree, .launcher = fixture_launcher()});
}

static void tear_down_cgroups(void)
{
    fixture_tear_down();
    if (delegated)
        ck_assert(cgroup_fixture_remove(delegated)); /* each attempt has removed its own */
    cgroup_tree_done(&tree);
}

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

static void set_up(void)
{
    fixture_set_up(
        &(struct executor_options){.kill_wait_ms = 1000, .launcher = fixture_launcher()});
}

/* What holds for attempts however they are started. */
static void add_common_tests(TCase *tcase)
{
    tcase_set_timeout(tcase, 30);
    tcase_add_test(tcase, ends);
    tcase_add_test(tcase, cannot_run);
    tcase_add_test(tcase, an_unreachable_program_hangs_its_task_only);
    tcase_add_test(tcase, no_room_is_not_an_attempt);
    tcase_add_test(tcase, surroundings);
    tcase_add_test(tcase, path_of_the_task_is_searched);
    tcase_add_test(tcase, input_is_given_and_result_taken);
    tcase_add_test(tcase, input_may_be_refused);
    tcase_add_test(tcase, output_of_an_instant_is_kept);
    tcase_add_test(tcase, nothing_is_left);
    tcase_add_test(tcase, others_are_left_alone);
    tcase_add_test(tcase, stop_before_the_start_starts_nothing);
    tcase_add_test(tcase, stops);
    tcase_add_test(tcase, kill_does_not_wait_for_the_grace);
}

int main(void)
{
    Suite *suite = suite_create("process");
    TCase *plain = tcase_create("plain");
    TCase *grouped = tcase_create("in control groups");
    tcase_add_checked_fixture(plain, set_up, fixture_tear_down);
    add_common_tests(plain);
    tcase_add_test(plain, huge_output_is_bounded);
    tcase_add_test(plain, endless_output_starves_nobody);
    tcase_add_test(plain, the_escaped_delays_nothing);
    tcase_add_test(plain, without_descriptors_nobody_is_overlooked);
    tcase_add_test(plain, what_another_makes_holds_nobody_up);
    tcase_add_test(plain, many_leftovers_hold_nobody_up);
    tcase_add_test(plain, what_cannot_be_killed_ends_by_deadline);
    tcase_add_test(plain, closing_ends_all);
    tcase_add_test(plain, many_processes);
    tcase_add_test(plain, many_noops);
    suite_add_tcase(suite, plain);
    tcase_add_checked_fixture(grouped, set_up_cgroups, tear_down_cgroups);
    add_common_tests(grouped);
    tcase_add_test(grouped, nobody_escapes_a_group);
    suite_add_tcase(suite, grouped);
    return unit_run(suite);
}
