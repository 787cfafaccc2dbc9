/* Attempts that the launcher starts: identity, limits, and what it reports. */
#include <ftw.h>
#include <grp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/memory.h"
#include "tests/unit/executor/attempt_fixture.h"

static char folder[64];         /* everyone may enter */
static char *launcher;          /* in there, since others cannot enter everybody's checkout */
static struct cgroup_tree tree; /* of plain files; empty in most tests */

static void copy_launcher(const char *to)
{
    char *command = mem_format("cp %s %s", fixture_launcher(), to);
    ck_assert_int_eq(system(command), 0);
    free(command);
}

static void set_up(void)
{
    snprintf(folder, sizeof folder, "/tmp/test-launch-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    ck_assert_int_eq(chmod(folder, 0755), 0);
    launcher = mem_format("%s/directord-exec", folder);
    copy_launcher(launcher);
    fixture_set_up(
        &(struct executor_options){.kill_wait_ms = 1000, .cgroups = &tree, .launcher = launcher});
}

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *walk)
{
    (void)info;
    (void)type;
    (void)walk;
    return remove(path);
}

static void tear_down(void)
{
    fixture_tear_down();
    free(launcher);
    ck_assert_int_eq(nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
}

static bool is_root(void)
{
    return geteuid() == 0;
}

static void become_nobody(void)
{
    ck_assert_int_eq(chown(folder, 65534, 65534), 0);
    ck_assert_int_eq(setgroups(0, NULL), 0);
    ck_assert_int_eq(setresgid(65534, 65534, 65534), 0);
    ck_assert_int_eq(setresuid(65534, 65534, 65534), 0);
    prctl(PR_SET_DUMPABLE, 1); /* our own files in /proc stay ours */
}

/* --- identity --------------------------------------------------------------------------------- */

START_TEST(identities)
{
    static const struct {
        const char *user, *group;
        const char *script;
        const char *log;
    } rows[] = {
        {"nobody", NULL, "id -u; id -g; id -G", "65534\n65534\n65534\n"},
        {"65534", NULL, "id -u; id -g", "65534\n65534\n"},
        {"4123456", NULL, "id -u; id -g; id -G; echo $HOME", "4123456\n4123456\n4123456\n/\n"},
        {"4123456789", "4000000000", "id -u; id -g", "4123456789\n4000000000\n"},
        {"nobody", "daemon", "id -u; id -g; id -G", "65534\n1\n1\n"},
        {"nobody", "1", "id -g", "1\n"},
        {NULL, "daemon", "id -u; id -g", "0\n1\n"},
        {"root", NULL, "id -u; id -g; echo $HOME", "0\n0\n/root\n"},
        {"daemon", NULL, "echo $HOME", "/usr/sbin\n"},
        {"nobody", NULL, "grep CapPrm /proc/self/status", "CapPrm:\t0000000000000000\n"},
        /* Opening the pipes anew asks for their owner. */
        {"nobody", NULL, "echo out > /dev/fd/1; echo err > /dev/fd/2; echo 1 > /dev/fd/3",
         "out\nerr\n"},
        {"nobody", NULL, "cat /proc/$$/oom_score_adj", "500\n"},
    };
    for (size_t i = 0; is_root() && i < sizeof rows / sizeof *rows; i++) {
        struct run run;
        run_script(&run, rows[i].script,
                   (struct attempt_spec){.user = rows[i].user, .group = rows[i].group});
        ck_assert_msg(run.end.outcome == ATTEMPT_SUCCESS, "row %zu: %s", i, run.end.result);
        ck_assert_msg(strcmp(buffer_text(&run.log), rows[i].log) == 0, "row %zu: %s", i,
                      buffer_text(&run.log));
        run_done(&run);
    }
}
END_TEST

/* The device is the machine's, also where a task holds it open in place of a pipe. */
START_TEST(only_pipes_are_given)
{
    static const enum result_source sources[] = {RESULT_FD, RESULT_STDOUT, RESULT_NONE};
    struct stat before, after;
    ck_assert_int_eq(stat("/dev/null", &before), 0);
    for (size_t i = 0; is_root() && i < sizeof sources / sizeof *sources; i++) {
        struct run run;
        run_script(&run, "! chmod 600 /dev/null",
                   (struct attempt_spec){.user = "nobody", .result = sources[i]});
        ck_assert_int_eq(stat("/dev/null", &after), 0);
        ck_assert_int_eq(chown("/dev/null", before.st_uid, before.st_gid), 0);
        ck_assert_int_eq(chmod("/dev/null", before.st_mode & 07777), 0);
        ck_assert_uint_eq(after.st_uid, before.st_uid);
        ck_assert_uint_eq(after.st_gid, before.st_gid);
        ck_assert_uint_eq(after.st_mode, before.st_mode);
        ck_assert_int_eq(run.end.outcome, ATTEMPT_SUCCESS);
        run_done(&run);
    }
}
END_TEST

START_TEST(refusals)
{
    static char too_long[256 * 1024];
    char *closed = mem_format("%s/closed", folder);
    char *program = mem_format("%s/closed/program", folder);
    char *only_mine = mem_format("%s/only-mine", folder);
    ck_assert_int_eq(mkdir(closed, 0700), 0);
    fclose(fopen(only_mine, "w"));
    chmod(only_mine, 0700);
    memset(too_long, 'x', sizeof too_long - 1);
    const struct {
        const char *user, *group;
        const char *argv[3];
        const char *cwd;
        const char *error;
    } rows[] = {
        {"nobody2", NULL, {"true"}, NULL, "\"user 'nobody2' does not exist\""},
        {"4294967295", NULL, {"true"}, NULL, "\"user '4294967295' does not exist\""},
        {"nobody", "99999999999", {"true"}, NULL, "\"group '99999999999' does not exist\""},
        {"nobody", "no", {"true"}, NULL, "\"group 'no' does not exist\""},
        {"nobody", NULL, {"/x"}, NULL, "\"cannot run '/x': No such file or directory\""},
        {"nobody", NULL, {"no-such"}, NULL, "no executable program 'no-such' in the PATH"},
        {"nobody", NULL, {only_mine}, NULL, "Permission denied"},
        {"nobody", NULL, {program}, NULL, "Permission denied"},
        {"nobody", NULL, {"true"}, closed, "cannot enter directory"},
        {"nobody", NULL, {"true"}, "/no/such", "cannot enter directory '/no/such': No such file"},
        {"nobody", NULL, {"true", too_long}, NULL, "Argument list too long"},
    };
    for (size_t i = 0; is_root() && i < sizeof rows / sizeof *rows; i++) {
        struct run run;
        start(&run, &(struct attempt_spec){.argv = rows[i].argv,
                                           .envp = environment,
                                           .cwd = rows[i].cwd,
                                           .user = rows[i].user,
                                           .group = rows[i].group});
        wait_for(&run);
        ck_assert_msg(run.end.outcome == ATTEMPT_SPAWN_FAILED, "row %zu: %d", i, run.end.outcome);
        ck_assert_msg(strstr(run.end.result, rows[i].error) != NULL, "row %zu: %s", i,
                      run.end.result);
        ck_assert_int_eq(run.end.exit_status, -1);
        ck_assert_int_eq(run.end.started_us, 0);
        run_done(&run);
    }
    free(closed);
    free(program);
    free(only_mine);
}
END_TEST

START_TEST(only_root_changes_identity)
{
    static const struct {
        const char *user, *group;
        const char *error; /* NULL: there is nothing to change */
    } rows[] = {
        {"root", NULL, "cannot become user 'root' with group 0: the daemon does not run as root"},
        {NULL, "daemon", "cannot become user 'nobody' with group 1: the daemon does not run as"},
        {"nobody", NULL, NULL},
        {"nobody", "nogroup", NULL},
    };
    if (!is_root())
        return;
    become_nobody();
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct run run;
        run_script(&run, "true",
                   (struct attempt_spec){.user = rows[i].user, .group = rows[i].group});
        ck_assert_msg(run.end.outcome == (rows[i].error ? ATTEMPT_SPAWN_FAILED : ATTEMPT_SUCCESS),
                      "row %zu: %s", i, run.end.result);
        if (rows[i].error)
            ck_assert_msg(strstr(run.end.result, rows[i].error) != NULL, "row %zu: %s", i,
                          run.end.result);
        run_done(&run);
    }
}
END_TEST

/* --- surroundings ----------------------------------------------------------------------------- */

/* A group, since that takes a launcher for everybody, and changes nothing. */
static void run_launched(struct run *run, const char *script, const char *const *envp)
{
    char group[16];
    snprintf(group, sizeof group, "%u", getegid());
    start(run, &(struct attempt_spec){.argv = (const char *[]){"/bin/sh", "-c", script, NULL},
                                      .envp = envp,
                                      .group = group});
    wait_for(run);
    ck_assert_msg(run->end.outcome == ATTEMPT_SUCCESS, "%s: %s", script, run->end.result);
}

START_TEST(environment_is_the_tasks)
{
    struct run run;
    run_launched(&run, "tr '\\0' ' ' < /proc/$$/environ",
                 (const char *[]){"PATH=/usr/bin:/bin", "+A=1", "DIRECTOR_NODE=n", "B=+", NULL});
    ck_assert_str_eq(buffer_text(&run.log), "PATH=/usr/bin:/bin +A=1 DIRECTOR_NODE=n B=+ ");
    run_done(&run);

    /* What the dynamic loader says comes from the task's shell, and not from the launcher too. */
    run_launched(&run, ":", (const char *[]){"LD_PRELOAD=/no/such.so", NULL});
    const char *first = strstr(buffer_text(&run.log), "/no/such.so");
    ck_assert_ptr_nonnull(first);
    ck_assert_ptr_null(strstr(first + 1, "/no/such.so"));
    run_done(&run);
}
END_TEST

START_TEST(descriptors)
{
    static const struct {
        rlim_t daemon, task;
    } rows[] = {{2048, 1024}, {1024, 1024}, {512, 512}};
    struct rlimit before;
    getrlimit(RLIMIT_NOFILE, &before);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char wanted[128];
        struct run run;
        setrlimit(RLIMIT_NOFILE, &(struct rlimit){rows[i].daemon, before.rlim_max});
        run_launched(&run, "ulimit -Sn; echo /proc/self/fd/*", environment);
        snprintf(wanted, sizeof wanted,
                 "%d\n/proc/self/fd/0 /proc/self/fd/1 /proc/self/fd/2 /proc/self/fd/3 "
                 "/proc/self/fd/4\n",
                 (int)rows[i].task);
        ck_assert_str_eq(buffer_text(&run.log), wanted);
        run_done(&run);
    }
    setrlimit(RLIMIT_NOFILE, &before);
}
END_TEST

/* --- no room ---------------------------------------------------------------------------------- */

START_TEST(no_pids_is_no_attempt)
{
    struct rlimit before;
    struct run run;
    if (is_root())
        become_nobody(); /* whom the limit concerns */
    getrlimit(RLIMIT_NPROC, &before);
    setrlimit(RLIMIT_NPROC, &(struct rlimit){0, before.rlim_max});
    run_script(&run, "exit 0", (struct attempt_spec){0});
    ck_assert_int_eq(run.end.outcome, ATTEMPT_NO_ROOM);
    ck_assert_int_eq(run.end.started_us, 0);
    run_done(&run);
    setrlimit(RLIMIT_NPROC, &before);
    run_script(&run, "exit 0", (struct attempt_spec){0});
    ck_assert_int_eq(run.end.outcome, ATTEMPT_SUCCESS);
    run_done(&run);
}
END_TEST

/* The task's user has no pids left: the kernel says so when the launcher runs the program. */
START_TEST(no_pids_for_the_user)
{
    struct rlimit before;
    struct run first, run;
    if (!is_root())
        return;
    getrlimit(RLIMIT_NPROC, &before);
    start_script(&first, "echo ready; sleep 100", (struct attempt_spec){.user = "nobody"});
    wait_for_output(&first);
    setrlimit(RLIMIT_NPROC, &(struct rlimit){0, before.rlim_max});
    run_script(&run, "exit 0", (struct attempt_spec){.user = "nobody"});
    setrlimit(RLIMIT_NPROC, &before);
    ck_assert_msg(run.end.outcome == ATTEMPT_NO_ROOM, "%d: %s", run.end.outcome, run.end.result);
    ck_assert_int_eq(run.end.started_us, 0);
    run_done(&run);
    attempt_kill(first.attempt, STOP_CANCELED);
    wait_for(&first);
    run_done(&first);
}
END_TEST

/* --- what stands in for the launcher ---------------------------------------------------------- */

static char stand_in[64];

static void set_up_stand_in(const char *script)
{
    snprintf(stand_in, sizeof stand_in, "/tmp/test-launch-%d", getpid());
    FILE *file = fopen(stand_in, "w");
    ck_assert_ptr_nonnull(file);
    fprintf(file, "#!/bin/sh\nPATH=/usr/bin:/bin\n%s\n", script);
    fchmod(fileno(file), 0755);
    fclose(file);
    fixture_set_up(&(struct executor_options){.kill_wait_ms = 1000, .launcher = stand_in});
}

static void tear_down_stand_in(void)
{
    fixture_tear_down();
    unlink(stand_in);
}

START_TEST(reports)
{
    static const struct {
        const char *script;
        enum attempt_outcome outcome;
        const char *error;
    } rows[] = {
        {"printf '11 go away' >&4; exit 126", ATTEMPT_NO_ROOM, "\"go away\""},
        {"printf '22 not so' >&4; exit 126", ATTEMPT_SPAWN_FAILED, "\"not so\""},
        {"printf '22 stop me' >&4; kill -9 $$", ATTEMPT_SPAWN_FAILED, "\"stop me\""},
        {"echo what >&4", ATTEMPT_SPAWN_FAILED, "the launcher reports 'what"},
        {"head -c 100000 /dev/zero | tr '\\0' x >&4", ATTEMPT_SPAWN_FAILED, "reports 'xxx"},
        {"exit 3", ATTEMPT_FAILED, "exit status 3"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct run run;
        set_up_stand_in(rows[i].script);
        run_script(&run, "true", (struct attempt_spec){.group = "0"});
        ck_assert_msg(run.end.outcome == rows[i].outcome, "row %zu: %d", i, run.end.outcome);
        ck_assert_msg(strstr(run.end.result, rows[i].error) != NULL, "row %zu: %s", i,
                      run.end.result);
        run_done(&run);
        tear_down_stand_in();
    }
}
END_TEST

/* Name services may take their time; a report that comes after the stop changes nothing. */
START_TEST(stopped_while_it_launches)
{
    struct run run;
    set_up_stand_in("echo ready; sleep 100; printf '22 not so' >&4");
    start_script(&run, "true", (struct attempt_spec){.group = "0", .grace_ms = 5000});
    wait_for_output(&run);
    attempt_stop(run.attempt, STOP_CANCELED);
    wait_for(&run);
    ck_assert_int_eq(run.end.outcome, ATTEMPT_STOPPED);
    run_done(&run);
    tear_down_stand_in();
}
END_TEST

START_TEST(no_launcher)
{
    struct run run;
    fixture_set_up(NULL);
    run_script(&run, "true", (struct attempt_spec){.user = "nobody"});
    ck_assert_int_eq(run.end.outcome, ATTEMPT_SPAWN_FAILED);
    ck_assert_ptr_nonnull(strstr(run.end.result, "the launcher directord-exec is not installed"));
    run_done(&run);
    run_script(&run, "true", (struct attempt_spec){.limits = {.memory_max = 1 << 20}});
    ck_assert_int_eq(run.end.outcome, ATTEMPT_SPAWN_FAILED);
    ck_assert_ptr_nonnull(strstr(run.end.result, "'memory_max' cannot be kept: the daemon has no"));
    run_done(&run);
    fixture_tear_down();
}
END_TEST

/* --- usage and limits ------------------------------------------------------------------------- */

START_TEST(usage_without_groups)
{
    struct run run;
    run_script(&run,
               "head -c 200M /dev/zero | tail -c 200M > /dev/null & "
               "(setsid sh -c 'i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done' &) ; wait; "
               "sleep 0.5",
               (struct attempt_spec){0});
    ck_assert_int_eq(run.end.outcome, ATTEMPT_SUCCESS);
    ck_assert_int_ge(run.end.peak_memory_bytes, 200 * 1024 * 1024);
    ck_assert_int_lt(run.end.peak_memory_bytes, 300 * 1024 * 1024);
    ck_assert_int_ge(run.end.cpu_us, 50000);
    run_done(&run);
    run_script(&run, "true", (struct attempt_spec){0});
    ck_assert_int_eq(run.end.peak_memory_bytes, 0); /* less than what we have used ourselves */
    ck_assert_int_lt(run.end.cpu_us, 50000);
    run_done(&run);
}
END_TEST

/* The task plays the kernel, and writes what its group would say. */
START_TEST(group_of_an_attempt)
{
    static const struct {
        int64_t memory_max;
        const char *oom_kills;
        const char *error;
    } rows[] = {
        {1 << 26, "1", "killed by signal 9 (SIGKILL): out of memory, memory_max is 64MiB\""},
        {0, "1", "killed by signal 9 (SIGKILL): out of memory\""},
        {1 << 26, "0", "killed by signal 9 (SIGKILL)\""},
    };
    tree = (struct cgroup_tree){.tasks = folder, .has_memory = true, .has_pids = true};
    char *group = mem_format("%s/%s.1", folder, strchr(mark, '=') + 1);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct run run;
        char *script = mem_format("cd %s; cat cgroup.procs pids.max; echo 5000000 > memory.peak; "
                                  "echo oom_kill %s > memory.events; echo usage_usec 77 > cpu.stat;"
                                  "kill -9 $$",
                                  group, rows[i].oom_kills);
        run_script(
            &run, script,
            (struct attempt_spec){.limits = {.memory_max = rows[i].memory_max, .tasks_max = 9}});
        ck_assert_int_eq(run.end.outcome, ATTEMPT_FAILED);
        ck_assert_str_eq(buffer_text(&run.log), "09");
        ck_assert_msg(strstr(run.end.result, rows[i].error) != NULL, "row %zu: %s", i,
                      run.end.result);
        ck_assert_int_eq(run.end.peak_memory_bytes, 5000000);
        ck_assert_int_eq(run.end.cpu_us, 77);
        ck_assert_int_eq(access(group, F_OK), -1);
        run_done(&run);
        free(script);
    }
    struct run run;
    run_script(&run, "true", (struct attempt_spec){.limits = {.cpu_quota = 50}});
    ck_assert_ptr_nonnull(strstr(run.end.result, "'cpu_quota' cannot be kept"));
    ck_assert_int_eq(access(group, F_OK), -1);
    run_done(&run);
    free(group);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("launch");
    TCase *launched = tcase_create("launched");
    TCase *alone = tcase_create("stand-ins");
    tcase_add_checked_fixture(launched, set_up, tear_down);
    tcase_set_timeout(launched, 30);
    tcase_add_test(launched, identities);
    tcase_add_test(launched, only_pipes_are_given);
    tcase_add_test(launched, refusals);
    tcase_add_test(launched, only_root_changes_identity);
    tcase_add_test(launched, environment_is_the_tasks);
    tcase_add_test(launched, descriptors);
    tcase_add_test(launched, no_pids_is_no_attempt);
    tcase_add_test(launched, no_pids_for_the_user);
    tcase_add_test(launched, usage_without_groups);
    tcase_add_test(launched, group_of_an_attempt);
    suite_add_tcase(suite, launched);
    tcase_set_timeout(alone, 30);
    tcase_add_test(alone, reports);
    tcase_add_test(alone, no_launcher);
    tcase_add_test(alone, stopped_while_it_launches);
    suite_add_tcase(suite, alone);
    return unit_run(suite);
}
