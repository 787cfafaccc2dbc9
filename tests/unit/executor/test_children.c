/* Whose the children of the daemon are, while leaders are started on other threads. */
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "executor/children.h"
#include "executor/spawn.h"
#include "tests/unit/unit.h"

static struct children children;
static struct family family;
static struct spawned spawned;
static pid_t orphan;

static void set_up(void)
{
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    children_init(&children);
    family = (struct family){.name = "task.1"};
}

static void tear_down(void)
{
    children_done(&children);
    ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1);
}

/* The leader prints the number of an orphan that it leaves behind, and lives on. */
static void *start_leader(void *script)
{
    const char *const argv[] = {"/bin/sh", "-c", script, NULL};
    const char *const envp[] = {"PATH=/usr/bin:/bin", NULL};
    struct spawn_request request = {.file = argv[0], .argv = (char **)argv, .envp = (char **)envp};
    ck_assert_int_eq(spawn_process(&request, &spawned, NULL), 0);
    return NULL;
}

static void start(const char *script)
{
    pthread_t thread;
    char text[32] = "";
    children_await_family(&children, &family);
    ck_assert_int_eq(pthread_create(&thread, NULL, start_leader, (void *)script), 0);
    pthread_join(thread, NULL);
    ck_assert_int_gt(read(spawned.fds[STDOUT_FILENO], text, sizeof text - 1), 0);
    orphan = (pid_t)atoi(text);
}

static void sweep(void)
{
    while (!children_sweep(&children, clock_mono_us() + US_PER_SECOND))
        continue;
}

static void kill_family(void)
{
    family.leader = spawned.pid;
    children_add_family(&children, &family);
    family.signal = SIGKILL;
    family_signal(&family, SIGKILL);
    waitid(P_PID, (id_t)family.leader, &(siginfo_t){0}, WEXITED | WNOWAIT);
    family.leader_ended = true;
}

static void forget_family(void)
{
    children_remove_family(&children, &family);
    family_reap_leader(&family);
    close(spawned.pidfd);
    for (int i = 0; i < SPAWN_FDS; i++)
        if (spawned.fds[i] >= 0)
            close(spawned.fds[i]);
}

/* In the leader's session, which is all that tells whose it is, and in another group. */
START_TEST(an_orphan_may_be_there_before_its_leader)
{
    start("set -m; (env -i sleep 100 & echo $!); sleep 100");
    int64_t until_us = clock_mono_us() + 300000; /* longer than an unknown one is waited for */
    while (clock_mono_us() < until_us)
        sweep();
    ck_assert_int_eq(kill(orphan, 0), 0);
    kill_family();
    while (!family.is_gone)
        sweep();
    ck_assert_int_eq(kill(orphan, 0), -1);
    forget_family();
}
END_TEST

/* A start that fails leaves nobody to wait for, and who is nobody's is let alone. */
START_TEST(a_start_may_fail)
{
    struct family other = {.name = "task.2"};
    children_await_family(&children, &other);
    start("(env -i setsid sleep 100 & echo $!); sleep 100");
    while (getsid(orphan) != orphan)
        usleep(1000);
    sweep();
    children_remove_family(&children, &other);
    kill_family();
    while (!family.is_gone)
        sweep();
    ck_assert_int_eq(kill(orphan, SIGKILL), 0);
    ck_assert_int_eq(waitpid(orphan, NULL, 0), orphan);
    forget_family();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("children");
    TCase *tcase = tcase_create("starts on other threads");
    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, an_orphan_may_be_there_before_its_leader);
    tcase_add_test(tcase, a_start_may_fail);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
