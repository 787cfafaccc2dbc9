#include "executor/leftovers.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/memory.h"
#include "tests/unit/executor/hanging_fixture.h"
#include "tests/unit/unit.h"

static char folder[] = "/tmp/test-leftovers-XXXXXX";

static void set_up(void)
{
    ck_assert_ptr_nonnull(mkdtemp(folder));
}

static void tear_down(void)
{
    ck_assert_int_eq(rmdir(folder), 0); /* the ids are forgotten */
}

/* A shell that carries the node's id, and is there when it has answered. */
static pid_t start(const struct id *node, const char *script)
{
    char text[ID_TEXT_SIZE], byte;
    int ready[2];
    id_format(node, text);
    char *entry = mem_format(LEFTOVERS_MARK "%s", text);
    ck_assert_int_eq(pipe(ready), 0);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(ready[1], STDOUT_FILENO);
        execle("/bin/sh", "sh", "-c", script, NULL,
               (const char *[]){"PATH=/usr/bin:/bin", entry, NULL});
        _exit(1);
    }
    ck_assert_int_eq(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    close(ready[1]);
    free(entry);
    return pid;
}

static int signal_of(pid_t pid)
{
    int status;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void note(const struct id *node)
{
    struct error error;
    ck_assert_msg(leftovers_note(folder, node, &error) == 0, "%s", error.text);
}

START_TEST(what_is_left_is_killed)
{
    struct id first = id_random(), second = id_random(), other = id_random();
    struct error error;
    note(&first);
    note(&second);
    pid_t plain = start(&first, "sleep 100 & echo ready; wait");
    pid_t deaf = start(&second, "trap '' TERM HUP INT; sleep 100 & echo ready; wait");
    pid_t detached = start(&second, "setsid sh -c '(setsid sleep 100 &) ; echo ready'; :");
    pid_t stopped = start(&first, "echo ready; kill -STOP $$");
    pid_t stranger = start(&other, "echo ready; sleep 100; :");
    ck_assert_int_eq(signal_of(detached), 0);

    int found = leftovers_kill(folder, &error);
    ck_assert_msg(found == 6, "%d %s", found, error.text); /* with three times `sleep` */
    ck_assert_int_eq(signal_of(plain), SIGKILL);
    ck_assert_int_eq(signal_of(deaf), SIGKILL);
    ck_assert_int_eq(signal_of(stopped), SIGKILL);
    ck_assert_int_eq(kill(stranger, 0), 0);
    ck_assert_int_eq(waitpid(stranger, NULL, WNOHANG), 0);

    note(&other);
    ck_assert_int_eq(leftovers_kill(folder, NULL), 2);
    ck_assert_int_eq(signal_of(stranger), SIGKILL);
}
END_TEST

/* The others are ended, and the ids stay for the next time. */
START_TEST(who_hangs_holds_nobody_up)
{
    struct id node = id_random();
    struct error error;
    note(&node);
    pid_t before = start(&node, "echo ready; exec sleep 100");
    pid_t between = start(&node, "echo ready; exec sleep 100");
    pid_t behind = start(&node, "echo ready; exec sleep 100");
    char *wanted = mem_format("1 processes do not show whose they are, such as %d", between);
    hanging = between;
    ck_assert_int_eq(leftovers_kill(folder, &error), -ETIMEDOUT);
    ck_assert_str_eq(error.text, wanted);
    ck_assert_int_eq(signal_of(before), SIGKILL);
    ck_assert_int_eq(signal_of(behind), SIGKILL);
    ck_assert_int_eq(waitpid(between, NULL, WNOHANG), 0);
    free(wanted);

    hanging = -1;
    ck_assert_int_eq(leftovers_kill(folder, &error), -ETIMEDOUT);
    hanging = 0;
    ck_assert_int_eq(leftovers_kill(folder, NULL), 1);
    ck_assert_int_eq(signal_of(between), SIGKILL);
}
END_TEST

/* Who lives on in ever new processes is caught up with. */
START_TEST(they_may_hand_over)
{
    struct id node = id_random();
    note(&node);
    pid_t pid = start(&node, "echo ready; f() { sleep 0.01; (f &); }; f");
    signal_of(pid);
    ck_assert_int_ge(leftovers_kill(folder, NULL), 1);
}
END_TEST

START_TEST(nothing_noted_nobody_killed)
{
    struct id node = id_random();
    pid_t pid = start(&node, "echo ready; exec sleep 100");
    ck_assert_int_eq(leftovers_kill(folder, NULL), 0);
    ck_assert_int_eq(waitpid(pid, NULL, WNOHANG), 0);
    kill(pid, SIGTERM);
    ck_assert_int_eq(signal_of(pid), SIGTERM);
}
END_TEST

/* A daemon that was itself started by a task of the former one. */
START_TEST(never_oneself)
{
    struct id node = id_random();
    char text[ID_TEXT_SIZE];
    id_format(&node, text);
    note(&node);
    char *entry = mem_format(LEFTOVERS_MARK "%s", text);
    pid_t pid = fork();
    if (pid == 0) {
        char own[4096];
        ssize_t n = readlink("/proc/self/exe", own, sizeof own - 1);
        own[n < 0 ? 0 : n] = '\0';
        execle(own, own, folder, NULL, (const char *[]){entry, NULL});
        _exit(1);
    }
    int status;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    free(entry);
}
END_TEST

START_TEST(where_nothing_can_be_written)
{
    struct id node = id_random();
    struct error error;
    ck_assert_int_eq(leftovers_note("/no/such/folder", &node, &error), -ENOENT);
    ck_assert_str_eq(error.text, "cannot write /no/such/folder/nodes: No such file or directory");
    ck_assert_int_eq(leftovers_kill("/no/such/folder", &error), 0);
}
END_TEST

int main(int argc, char **argv)
{
    if (argc == 2)
        return leftovers_kill(argv[1], NULL) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
    Suite *suite = suite_create("leftovers");
    TCase *tcase = tcase_create("leftovers");
    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_set_timeout(tcase, 20);
    tcase_add_test(tcase, what_is_left_is_killed);
    tcase_add_test(tcase, who_hangs_holds_nobody_up);
    tcase_add_test(tcase, they_may_hand_over);
    tcase_add_test(tcase, nothing_noted_nobody_killed);
    tcase_add_test(tcase, never_oneself);
    tcase_add_test(tcase, where_nothing_can_be_written);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
