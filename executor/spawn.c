#include "executor/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "executor/program.h"

bool spawn_is_transient(int code)
{
    return code == -EAGAIN || code == -ENOMEM || code == -EMFILE || code == -ENFILE ||
           code == -ENOSPC; /* as mkdir says when there are enough control groups */
}

/* --- pipes ---------------------------------------------------------------------------------- */

struct pipes {
    int ours[SPAWN_FDS];
    int theirs[SPAWN_FDS];
};

static void close_all(int fds[SPAWN_FDS])
{
    for (int i = 0; i < SPAWN_FDS; i++) {
        if (fds[i] >= 0)
            close(fds[i]);
        fds[i] = -1;
    }
}

/* The ends must be above what they become in the child, which they are while 0 to 2 are open here,
 * and 3 and 4 for good, where other threads close theirs. */
static int open_pipe(struct pipes *pipes, int i)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    bool we_write = i == STDIN_FILENO;
    pipes->ours[i] = ends[we_write ? 1 : 0];
    pipes->theirs[i] = ends[we_write ? 0 : 1];
    return 0;
}

static int open_pipes(struct pipes *pipes, const struct spawn_request *request, struct error *error)
{
    *pipes = (struct pipes){.ours = {-1, -1, -1, -1, -1}, .theirs = {-1, -1, -1, -1, -1}};
    for (int i = 0; i < SPAWN_FDS; i++) {
        if ((i == SPAWN_RESULT && !request->result_pipe) ||
            (i == SPAWN_REPORT && !request->report_pipe))
            continue;
        int r = open_pipe(pipes, i);
        if (r < 0) {
            close_all(pipes->ours);
            close_all(pipes->theirs);
            return error_set(error, r, "cannot make a pipe: %s", strerror(-r));
        }
    }
    return 0;
}

/* --- the spawn ------------------------------------------------------------------------------ */

/* These fail for lack of memory only, and allocation failures abort (see base/memory.h). */
static void must(int r)
{
    if (r != 0)
        abort();
}

static void set_actions(posix_spawn_file_actions_t *actions, const struct spawn_request *request,
                        const struct pipes *pipes)
{
    must(posix_spawn_file_actions_init(actions));
    for (int i = 0; i < SPAWN_FDS; i++)
        if (pipes->theirs[i] >= 0)
            must(posix_spawn_file_actions_adddup2(actions, pipes->theirs[i], i));
    if (!request->result_pipe)
        must(posix_spawn_file_actions_addopen(actions, SPAWN_RESULT, "/dev/null", O_WRONLY, 0));
    must(posix_spawn_file_actions_addclosefrom_np(actions,
                                                  request->report_pipe ? SPAWN_FDS : SPAWN_REPORT));
    must(posix_spawn_file_actions_addchdir_np(actions, "/"));
}

static void set_attributes(posix_spawnattr_t *attributes)
{
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    must(posix_spawnattr_init(attributes));
    must(posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK |
                                                  POSIX_SPAWN_SETSIGDEF));
    must(posix_spawnattr_setsigmask(attributes, &none));
    must(posix_spawnattr_setsigdefault(attributes, &all));
}

static int run(const struct spawn_request *request, const struct pipes *pipes, pid_t *pid)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    set_actions(&actions, request, pipes);
    set_attributes(&attributes);
    int r = posix_spawn(pid, request->file, &actions, &attributes, request->argv, request->envp);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    return -r;
}

int spawn_process(const struct spawn_request *request, struct spawned *spawned, struct error *error)
{
    struct pipes pipes;
    int r = open_pipes(&pipes, request, error);
    if (r < 0)
        return r;
    r = run(request, &pipes, &spawned->pid);
    close_all(pipes.theirs);
    if (r < 0) {
        close_all(pipes.ours);
        return program_explain(request->file, "/", r, error);
    }
    /* The closed ends have left descriptors free for it, which another thread may have taken. */
    spawned->pidfd = pidfd_open(spawned->pid, 0);
    memcpy(spawned->fds, pipes.ours, sizeof spawned->fds);
    return 0;
}
