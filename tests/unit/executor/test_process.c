/* How attempts that are processes begin and run: how they may end by themselves, what a program
 * finds, input and output, and many of them. Ending them: test_process_end.c. */
#include <sys/resource.h>
#include <sys/stat.h>

#include "tests/unit/executor/process_fixture.h"

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
        ck_assert_int_lt(clock_mono_us() - begun_us, SOON_US);
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
    ck_assert_int_lt(clock_mono_us() - begun_us, SOON_US);
    attempt_stop(run.attempt, STOP_CANCELED);
    wait_for(&run);
    ck_assert_int_eq(run.end.outcome, ATTEMPT_STOPPED);
    ck_assert_int_gt(run.log_total, ATTEMPT_LOG_LIMIT);
    run_done(&run);
    uv_close((uv_handle_t *)&timer, NULL);
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

/* What holds for attempts however they are started. */
static void add_common_tests(TCase *tcase)
{
    tcase_add_test(tcase, ends);
    tcase_add_test(tcase, cannot_run);
    tcase_add_test(tcase, an_unreachable_program_hangs_its_task_only);
    tcase_add_test(tcase, no_room_is_not_an_attempt);
    tcase_add_test(tcase, surroundings);
    tcase_add_test(tcase, path_of_the_task_is_searched);
    tcase_add_test(tcase, input_is_given_and_result_taken);
    tcase_add_test(tcase, input_may_be_refused);
    tcase_add_test(tcase, output_of_an_instant_is_kept);
}

int main(void)
{
    Suite *suite = suite_create("process");
    TCase *plain = add_plain_case(suite);
    TCase *grouped = add_grouped_case(suite);
    add_common_tests(plain);
    tcase_add_test(plain, huge_output_is_bounded);
    tcase_add_test(plain, endless_output_starves_nobody);
    tcase_add_test(plain, many_processes);
    tcase_add_test(plain, many_noops);
    add_common_tests(grouped);
    return unit_run(suite);
}
