/* The yardstick for tasks that are processes: /bin/true by posix_spawn, with a pipe for its output
 * and one for its result, both read to their end, and then waited for. Nothing else.
 *
 *     spawn_yardstick COUNT AT_ONCE
 *
 * AT_ONCE run side by side. Prints processes a second. */
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { OUTPUT, RESULT, PIPES };

struct child {
    pid_t pid; /* 0: none */
    int ends[PIPES];
};

static void fail(const char *what)
{
    perror(what);
    exit(EXIT_FAILURE);
}

static void start(struct child *child)
{
    char *const argv[] = {(char[]){"/bin/true"}, NULL};
    char *const envp[] = {(char[]){"PATH=/usr/bin:/bin"}, NULL};
    posix_spawn_file_actions_t actions;
    int theirs[PIPES];
    posix_spawn_file_actions_init(&actions);
    for (int i = 0; i < PIPES; i++) {
        int ends[2];
        if (pipe2(ends, O_CLOEXEC) < 0)
            fail("pipe2");
        child->ends[i] = ends[0];
        theirs[i] = ends[1];
    }
    posix_spawn_file_actions_adddup2(&actions, theirs[OUTPUT], STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, theirs[OUTPUT], STDERR_FILENO);
    posix_spawn_file_actions_adddup2(&actions, theirs[RESULT], 3);
    if (posix_spawn(&child->pid, argv[0], &actions, NULL, argv, envp) != 0)
        fail("posix_spawn");
    posix_spawn_file_actions_destroy(&actions);
    for (int i = 0; i < PIPES; i++)
        close(theirs[i]);
}

/* Waits for whichever child ends first. */
static void reap(struct child *children, int count)
{
    pid_t pid = wait(NULL);
    for (int i = 0; i < count; i++) {
        if (children[i].pid != pid)
            continue;
        for (int pipe = 0; pipe < PIPES; pipe++) {
            char bytes[64];
            while (read(children[i].ends[pipe], bytes, sizeof bytes) > 0)
                ;
            close(children[i].ends[pipe]);
        }
        children[i].pid = 0;
    }
}

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: spawn_yardstick COUNT AT_ONCE\n");
        return EXIT_FAILURE;
    }
    int count = atoi(argv[1]);
    int at_once = atoi(argv[2]);
    struct child *children = calloc((size_t)at_once, sizeof *children);
    if (children == NULL)
        fail("calloc");

    double begin_s = now_s();
    int started = 0;
    for (int running = 0; started < count || running > 0; running--) {
        for (int i = 0; i < at_once && started < count; i++) {
            if (children[i].pid != 0)
                continue;
            start(&children[i]);
            started++;
            running++;
        }
        reap(children, at_once);
    }
    printf("%.1f\n", count / (now_s() - begin_s));
    free(children);
    return EXIT_SUCCESS;
}
